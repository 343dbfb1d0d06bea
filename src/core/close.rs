// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closing: refuse, cancel, deliver; orphan what is left, and quarantine its memory.
//!
//! The closer takes the driver's role. It can enter the kernel if it is the owner, or the ring is SHARED; it needn't if
//! nothing has entered yet (an unbound ring); it can't if the owner is another thread or gone: then all is orphaned.

use super::quarantine::Orphans;
use super::ring::Ring;
use super::session::{Kind, Session};
use super::state::{Phase, State};
use super::table::{State as At, marks};
use super::wait::{Limit, Woken};
use super::{Result, Status, fork, quarantine};
use crate::sys::{Backend, os};

/// A close under way.
pub(super) struct Closing {
    limit: Limit,
    /// The kernel can be entered.
    drives: bool,
    /// Enters made since the last one that brought something; two at least, whatever the limit.
    tried: u8,
    unfinished: u64,
    /// When to ask again for everything to be cancelled.
    ask_at: u64,
    /// How long the kernel may go on refusing.
    patience: Option<Limit>,
    held: Vec<(Option<super::BufRef>, Option<super::storage::Storage>)>,
    bytes: u64,
    orphaned: i32,
    /// What the call returns instead of the count.
    instead: Option<Status>,
}

/// How long a close waits before it asks again for what did not let itself be cancelled.
const ASK_AGAIN_NS: u64 = 20_000_000;

/// How long a close without a limit waits for the rest when the kernel has said that it lost completions.
const LOST_WAIT_NS: u64 = 1_000_000_000;

/// How long a close goes on trying when the kernel takes nothing for want of memory.
const REFUSED_WAIT_NS: u64 = 1_000_000_000;

impl Closing {
    fn new(limit: Limit, instead: Option<Status>) -> Self {
        let ask_at = os::now().saturating_add(ASK_AGAIN_NS);
        Self {
            limit,
            drives: true,
            tried: 0,
            unfinished: u64::MAX,
            ask_at,
            patience: None,
            held: Vec::new(),
            bytes: 0,
            orphaned: 0,
            instead,
        }
    }

    /// Nanoseconds left; `None` = no limit. What the kernel has lost never comes.
    fn time_left(&mut self, lost: bool) -> Option<u64> {
        if lost && matches!(self.limit, Limit::Never) {
            self.limit = Limit::Within(LOST_WAIT_NS);
        }
        self.limit.left()
    }

    /// An enter that brought something is no try in vain.
    fn note(&mut self, unfinished: u64) {
        if unfinished < self.unfinished {
            (self.unfinished, self.tried) = (unfinished, 0);
        }
    }

    /// The kernel refuses: for want of something that may come back, or for good. Then nobody can drive the ring any more.
    fn refused(&mut self, status: Status) {
        let patience = self.patience.get_or_insert(Limit::Within(REFUSED_WAIT_NS));
        let may_pass = matches!(status, Status::EAGAIN | Status::ENOMEM | Status::LOST);
        if may_pass && patience.left() != Some(0) {
            os::back_off(u32::MAX);
        } else {
            self.drives = false;
        }
    }
}

impl<B: Backend> Ring<B> {
    /// Close the ring, by the session that is returned; without one it is over, or will be when the running callback returns,
    /// and the number is that of I/Os orphaned.
    pub(crate) fn close(&self, limit: Limit) -> Result<(Option<Session<'_, B>>, i32)> {
        quarantine::collect();
        let me = os::thread_id();
        let mut state = self.lock(me);
        if matches!(state.phase, Phase::Closing | Phase::Closed) {
            return Err(Status::CLOSED);
        }
        let mut drives = state.phase == Phase::Open && !self.is_poisoned();
        if state.phase == Phase::Open && self.has_owner() && self.owner() != me {
            if !self.is_background() && !self.owner_exited() && !self.is_poisoned() {
                return Err(Status::WRONG_THREAD);
            }
            drives = false;
        }
        if state.driver == me {
            state.close_request = Some(limit);
            state.attention = true;
            state.phase = Phase::Closing;
            self.clear_inbox(&mut state);
            return Ok((None, 0));
        }
        if self.is_background() && !self.is_poisoned() {
            drop(state);
            return Ok((None, self.close_in_background(me, limit)));
        }
        drop(state);
        self.stop_thread(me);
        Ok((Some(self.take_over(self.lock(me), me, limit, drives)?), 0))
    }

    /// The close that the last release makes: it may come from any thread, and then doesn't drive.
    pub(crate) fn close_last(&self) -> Result<Session<'_, B>> {
        if self.is_forked() {
            return Err(Status::FORKED);
        }
        let me = os::thread_id();
        if self.is_background() {
            if !self.is_poisoned() && self.lock(me).phase != Phase::Unbound {
                self.close_in_background(me, Limit::Within(0));
                return Err(Status::CLOSED);
            }
            self.stop_thread(me);
        }
        let state = self.lock(me);
        if state.phase == Phase::Closed {
            return Err(Status::CLOSED);
        }
        let drives = state.phase == Phase::Open && !self.is_poisoned() && (!self.has_owner() || self.owner() == me);
        self.take_over(state, me, Limit::Within(0), drives)
    }

    pub(super) fn take_over<'a>(
        &'a self,
        mut state: super::lock::Guard<'a, State<B>>,
        me: usize,
        limit: Limit,
        drives: bool,
    ) -> Result<Session<'a, B>> {
        let unbound = state.phase == Phase::Unbound;
        state.phase = Phase::Closing;
        self.clear_inbox(&mut state);
        if state.driver != 0 && !self.is_poisoned() {
            drop(state);
            let _ = self.wake();
            self.await_no_driver(me);
            state = self.lock(me);
        }
        state.driver = me;
        drop(state);
        let driver = self.driver(me);
        let mut closing = self.begin_closing(me, limit, Ok(()))?;
        closing.drives = drives;
        if unbound {
            self.lock(me).finish_unsubmitted();
        }
        Ok(Session::new(self, driver, Kind::Close(closing), 0))
    }

    /// The caller drives: ask for everything to be cancelled.
    pub(super) fn begin_closing(&self, me: usize, limit: Limit, instead: Result<()>) -> Result<Closing> {
        let mut state = self.lock(me);
        state.phase = Phase::Closing;
        self.clear_inbox(&mut state);
        state.closer_drives = true;
        // Without memory for the entry, what is left at the limit is orphaned.
        let _ = state.cancel_all();
        drop(state);
        self.tell_waiters_slowly();
        Ok(Closing::new(limit, instead.err()))
    }

    /// One step: `None` = there is something to deliver, or to look at again.
    pub(super) fn advance_close(&self, me: usize, closing: &mut Closing) -> Result<Option<Result<i32>>> {
        {
            let mut state = self.lock(me);
            // A completion that memory is short for stays where it is, and is orphaned at the limit.
            let _ = state.collect();
            if state.has_due() {
                return Ok(None);
            }
            closing.note(state.unfinished());
            if state.unfinished() == 0 {
                drop(state);
                self.finish_close(me, closing);
                return Ok(Some(closing.instead.map_or(Ok(closing.orphaned), Err)));
            }
        }
        let lost = self.lock(me).lost;
        let left = closing.time_left(lost);
        // The second enter brings what the cancels of the first have completed, the kernel's share of it at a time.
        if !closing.drives || left == Some(0) && closing.tried >= 2 {
            self.lock(me).orphan_all(closing);
            return Ok(None);
        }
        closing.tried = closing.tried.saturating_add(1);
        let mut slice = Limit::Within(left.unwrap_or(ASK_AGAIN_NS).min(ASK_AGAIN_NS));
        let mut short = false;
        let waited = self.wait_for(me, &mut slice, |state| {
            short = state.collect().is_err();
            Ok(state.has_due() || state.unfinished() == 0)
        });
        match waited {
            Ok((Woken::Refused(status), _)) => closing.refused(status),
            Ok(_) if short => closing.refused(Status::ENOMEM),
            Ok(_) => closing.patience = None,
            Err(_) => closing.drives = false,
        }
        let now = os::now();
        if now >= closing.ask_at {
            closing.ask_at = now.saturating_add(ASK_AGAIN_NS);
            let _ = self.lock(me).ask_cancel_all();
        }
        Ok(None)
    }

    /// Everything is delivered or kept: end the ring.
    fn finish_close(&self, me: usize, closing: &mut Closing) {
        self.end_visits();
        let (backend, event_fd, place) = {
            let mut state = self.lock(me);
            state.phase = Phase::Closed;
            state.closer_drives = false;
            (state.backend.take(), state.event_fd.take(), state.place.take())
        };
        self.tell_waiters_slowly();
        drop(event_fd);
        let bound_here = self.has_owner() && self.owner() == me;
        let Some(backend) = backend else { return };
        if let Some(fd) = backend.descriptor() {
            fork::forget(fd);
        }
        let sentinel = backend.close(bound_here);
        let held = std::mem::take(&mut closing.held);
        if let (Some(place), false) = (place, held.is_empty()) {
            place.fill(self.process_mark(), Orphans { sentinel, _held: held, bytes: closing.bytes });
        }
        quarantine::collect();
    }
}

impl<B: Backend> State<B> {
    /// Nothing has entered the kernel: all is cancelled here, and the submission queue forgotten.
    fn finish_unsubmitted(&mut self) {
        let mut from = 0;
        while let Some(slot) = self.table.next_slot(from, |io| io.state == At::Kernel) {
            self.settle(slot, Status::ECANCELED.code(), 0, 0);
            from = slot + 1;
        }
    }

    /// Events that there is no memory for are lost, but for their descriptors, which are closed.
    fn collect_or_discard(&mut self) {
        while self.collect().is_err() {
            let Some(event) = self.stalled.take() else { return };
            if let Ok((slot, _)) = self.table.find(event.user_data) {
                if let Some(super::complete::Meaning::Event(event)) =
                    self.refine(slot, super::complete::Meaning::Event(event))
                {
                    self.close_unwanted_event(slot, event);
                }
            }
        }
    }

    /// Finish what is left without its buffers, which go where the kernel may go on using them.
    fn orphan_all(&mut self, closing: &mut Closing) {
        self.collect_or_discard();
        let left = self.unfinished() as usize;
        let has_room = closing.held.try_reserve(left).is_ok();
        let status = if self.lost { Status::LOST } else { Status::ORPHANED };
        let mut from = 0;
        while let Some(slot) = self.table.next_slot(from, |io| matches!(io.state, At::Queued | At::Kernel)) {
            from = slot + 1;
            let storage = self.table.old_side(slot).and_then(|side| side.storage.take());
            let Some(io) = self.table.get(slot) else { continue };
            let pair = (io.buf.take(), storage);
            io.marks &= !(marks::TIMED_OUT | marks::MOVED);
            closing.bytes += pair.0.as_ref().map_or(0, |buf| buf.len() as u64);
            if has_room {
                closing.held.push(pair);
            } else {
                // No memory to remember it: leaked, never freed early.
                std::mem::forget(pair);
            }
            closing.orphaned += 1;
            self.counts.orphaned += 1;
            self.settle(slot, status.code(), 0, 0);
        }
    }
}
