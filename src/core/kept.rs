// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions without callbacks: polled, waited for, reaped.

use super::completion::Completion;
use super::ring::Ring;
use super::state::{Phase, State};
use super::table::{HostFn, To};
use super::turn::TurnEnd;
use super::wait::{Limit, Woken};
use super::{Result, Status};
use crate::sys::{Backend, os};

impl<B: Backend> Ring<B> {
    /// Take a kept completion, or leave `ready` to be told of it. One step under the lock: no notification is lost.
    pub(crate) fn poll(&self, io: u64, ready: Option<(HostFn, usize)>) -> Result<Option<Completion>> {
        let me = os::thread_id();
        let (taken, told, trash) = {
            let mut state = self.lock(me);
            if let Some(taken) = state.take_plain_kept(io) {
                return Ok(Some(taken));
            }
            state.check_kept(io)?;
            let taken = match state.take_kept(io)? {
                Some(taken) => Ok(Some(taken)),
                None => state.await_ready(io, ready).map(|()| None),
            };
            (taken, state.takes_driver(), state.has_trash())
        };
        if told {
            self.kick_if_due();
        }
        if trash {
            self.empty_trash(me);
        }
        taken
    }

    /// Wait for a kept completion, driving meanwhile.
    pub(crate) fn wait_io(&self, io: u64, mut limit: Limit) -> Result<Completion> {
        let mut woken = false;
        loop {
            let waited = self.wait_io_once(io, &mut limit, &mut woken);
            // Outside the role: what runs here may drive or close the ring itself.
            self.empty_trash(os::thread_id());
            if let Some(result) = waited.transpose() {
                if woken {
                    self.keep_wake();
                }
                return result;
            }
        }
    }

    /// One round as the driver; `None`: to be gone on with.
    fn wait_io_once(&self, io: u64, limit: &mut Limit, woken: &mut bool) -> Result<Option<Completion>> {
        let look = |state: &mut State<B>| -> Option<Result<Completion>> {
            if let Err(status) = state.check_kept(io) {
                return Some(Err(status));
            }
            state.take_kept(io).transpose()
        };
        let driver = match self.begin_in_turn(limit, look)? {
            TurnEnd::Found(taken) => return Ok(Some(taken)),
            TurnEnd::Time => return Err(Status::ETIME),
            TurnEnd::Signal => return Err(Status::EINTR),
            TurnEnd::Driver(driver) => driver,
        };
        let mut found = None;
        let waited = self.wait_for(driver.me, limit, |state| {
            if found.is_none() {
                state.collect()?;
                found = look(state);
            }
            Ok(found.is_some() || state.has_trash())
        });
        match (found, waited) {
            (Some(found), _) => found.map(Some),
            (None, Err(status) | Ok((Woken::Refused(status), _))) => Err(status),
            (None, Ok((Woken::Time, _))) => Err(Status::ETIME),
            (None, Ok((Woken::Signal, _))) => Err(Status::EINTR),
            (None, Ok((Woken::Closing, _))) => Err(Status::CLOSED),
            // Wakes are for the loops that drive: kept for the next of those.
            (None, Ok((Woken::Wake, _))) => {
                *woken = true;
                Ok(None)
            }
            (None, Ok((Woken::Enough, _))) => Ok(None),
        }
    }

    /// Take up to `count` of those to be reaped, waiting for the first `min`; → how many were put.
    pub(crate) fn reap(
        &self,
        min: u32,
        mut limit: Limit,
        count: usize,
        mut put: impl FnMut(Completion),
    ) -> Result<i32> {
        let mut taken = 0;
        // By the driver: also what is in the kernel's queue, which is left there if there is more than fits.
        let mut take = |state: &mut State<B>, drives: bool| {
            while taken < count as u32 {
                let straight = if drives { state.take_plain_for_reap() } else { None };
                let Some(next) = straight.or_else(|| state.next_reapable()) else {
                    if !drives || state.nothing_came() {
                        break;
                    }
                    state.collect()?;
                    if state.counts.reapable == 0 {
                        break;
                    }
                    continue;
                };
                put(next);
                taken += 1;
            }
            Ok(taken)
        };
        let me = os::thread_id();
        let result = self.reap_with(min, &mut limit, me, &mut take);
        self.clear_event_fd(me);
        self.empty_trash(me);
        match result {
            Err(_) if taken > 0 => Ok(taken as i32),
            result => result.map(|()| taken as i32),
        }
    }

    /// Drive, or wait for the driver, until `take` has taken `min`.
    fn reap_with(
        &self,
        min: u32,
        limit: &mut Limit,
        me: usize,
        take: &mut impl FnMut(&mut State<B>, bool) -> Result<u32>,
    ) -> Result<()> {
        {
            let mut state = self.lock_only(me);
            if state.phase == Phase::Closed {
                take(&mut state, false)?;
                return Err(Status::CLOSED);
            }
        }
        // The thread of a BACKGROUND ring has brought what there is.
        let at_once = self.is_background();
        let enough = |taken: u32| ((min > 0 || at_once) && taken >= min).then_some(Ok(()));
        let driver = match self.begin_in_turn(limit, |state| {
            // Nobody is about to wait for what is in the queue.
            let free = state.driver == 0 && state.phase == Phase::Open;
            take(state, free).map_or_else(|short| Some(Err(short)), enough)
        })? {
            TurnEnd::Driver(driver) => driver,
            TurnEnd::Found(()) => return Ok(()),
            TurnEnd::Time | TurnEnd::Signal => {
                take(&mut self.lock(me), false)?;
                return Ok(());
            }
        };
        let (woken, _) = self.wait_for(driver.me, limit, |state| Ok(take(state, true)? >= min))?;
        take(&mut self.lock_only(me), true)?;
        match woken {
            Woken::Refused(status) => Err(status),
            Woken::Closing => Err(Status::CLOSED),
            _ => Ok(()),
        }
    }

    /// Completions that process or reap would deliver, and kept ones. While another thread drives, the queue is its: what
    /// is there is counted, not looked at. (Taking it would hide it from a driver that is about to wait for it.)
    pub(crate) fn ready(&self) -> Result<i32> {
        let me = os::thread_id();
        let (there, told) = {
            let mut state = self.lock(me);
            let mut there = 0;
            if state.driver != 0 && state.driver != me {
                there = state.backend()?.available();
            } else if state.phase != Phase::Closed {
                state.collect()?;
            }
            if state.nothing_left() {
                return Err(Status::CLOSED);
            }
            (there + state.deliverable(), std::mem::take(&mut state.redos.entered))
        };
        if told {
            self.kick_if_due();
        }
        self.empty_trash(me);
        Ok(there as i32)
    }

    /// Drop what nobody takes, outside the lock and the driver's role.
    pub(super) fn empty_trash(&self, me: usize) {
        let state = self.lock_only(me);
        let (trash, room) = (state.has_trash(), state.room_due());
        drop(state);
        if room {
            self.tell_room(me);
        }
        if trash {
            self.pinned(|| {
                loop {
                    // Two statements: the lock is gone before what was taken is dropped.
                    let discarded = self.lock(me).next_trash();
                    if discarded.is_none() {
                        return;
                    }
                }
            });
            self.tell_room(me);
        }
    }
}

impl<B: Backend> State<B> {
    /// Nothing has come that is still in the kernel's queue.
    #[inline(always)]
    fn nothing_came(&mut self) -> bool {
        self.stalled.is_none() && self.backend.as_mut().is_none_or(|backend| backend.available() == 0)
    }

    /// There is something that only the driver can do.
    fn takes_driver(&mut self) -> bool {
        std::mem::take(&mut self.redos.entered) || !self.ready.is_empty() || self.room_due()
    }

    pub(super) fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    /// Closed, and everything has been taken.
    pub(super) fn nothing_left(&self) -> bool {
        self.phase == Phase::Closed && self.deliverable() == 0
    }

    /// Poll and wait are for kept I/Os.
    fn check_kept(&mut self, io: u64) -> Result<()> {
        let closed = self.nothing_left();
        match self.table.find(io) {
            Ok((_, io)) if io.is(super::table::marks::DROPPED) => Err(Status::STALE),
            Ok((_, io)) if io.to != To::Kept => Err(Status::EINVAL),
            Ok(_) => Ok(()),
            Err(_) if closed => Err(Status::CLOSED),
            Err(stale) => Err(stale),
        }
    }

    fn take_kept(&mut self, io: u64) -> Result<Option<Completion>> {
        let (slot, _) = self.table.find(io)?;
        if let Some(taken) = self.take(slot) {
            return Ok(Some(taken));
        }
        // It may be in the queue: a driver that polls after a submit sees it without another call.
        if self.driver == 0 && self.phase == Phase::Open {
            self.collect()?;
            return Ok(self.take(slot));
        }
        Ok(None)
    }

    /// Have `ready` told, in place of an earlier one, which is told that it was replaced.
    fn await_ready(&mut self, io: u64, ready: Option<(HostFn, usize)>) -> Result<()> {
        // Room for both calls, so that a completion can't fail to make them: one for each I/O that has a function.
        let room = self.table.len() as usize + 1;
        if self.ready.capacity() < room + self.ready.len() && ready.is_some() {
            self.ready.try_reserve(room)?;
        }
        let (slot, _) = self.table.find(io)?;
        self.call_ready(slot, Status::DROPPED.code());
        if let (Some((function, user_data)), Some(side)) = (ready, self.table.side(slot)) {
            side.notify_data = user_data;
            if let Some(io) = self.table.get(slot) {
                io.notify = Some(function);
            }
        }
        Ok(())
    }
}
