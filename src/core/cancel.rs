// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking for I/Os to be cancelled. Cancelling never delivers: the completion comes as any other.

use std::collections::VecDeque;

use super::discarded::Discarded;
use super::ring::Ring;
use super::state::{ASK_AGAIN_NS, State};
use super::table::{Io, Kind, State as At, marks};
use super::{Result, Status};
use crate::sys::{Backend, Sqe, entry, os};

impl<B: Backend> Ring<B> {
    /// Ask for one I/O to be cancelled.
    pub(crate) fn cancel(&self, io: u64) -> Result<()> {
        self.change(|state| {
            let (slot, io) = state.table.find(io)?;
            if io.state == At::Done {
                // Finished, but not delivered: there is nothing left to ask.
                return Ok(());
            }
            io.marks |= marks::CANCELLED;
            state.ask_cancel(slot)
        })
    }

    /// Ask for all I/Os on a descriptor to be cancelled; → how many.
    pub(crate) fn cancel_fd(&self, fd: i32) -> Result<i32> {
        self.change(|state| state.cancel_fd(fd))
    }

    /// Ask for all I/Os to be cancelled; → how many.
    pub(crate) fn cancel_all(&self) -> Result<i32> {
        self.change(State::cancel_all)
    }

    /// A new time limit from now.
    pub(crate) fn set_timeout(&self, io: u64, timeout_ns: i64) -> Result<()> {
        self.change(|state| {
            let (slot, io) = state.table.find(io)?;
            if io.state == At::Done {
                return Err(Status::STALE);
            }
            state.deadlines.reserve(1)?;
            let at = (timeout_ns > 0).then(|| os::now().saturating_add(timeout_ns as u64));
            state.set_deadline(slot, at);
            Ok(())
        })
    }

    /// Give up a result; → user_data. What the I/O held is dropped here, outside the lock.
    pub(crate) fn drop_io(&self, io: u64) -> Result<usize> {
        let (user_data, discarded) = {
            let mut state = self.lock(os::thread_id());
            state.drop_io(io)?
        };
        self.kick_if_due();
        drop(discarded);
        Ok(user_data)
    }

    /// A change by any thread of a ring that is open: the driver is woken to act on it.
    fn change<T>(&self, change: impl FnOnce(&mut State<B>) -> Result<T>) -> Result<T> {
        let changed = {
            let mut state = self.lock(os::thread_id());
            state.check_open()?;
            change(&mut state)
        };
        self.kick_if_due();
        changed
    }
}

impl<B: Backend> State<B> {
    /// Have one unfinished I/O cancelled: here, if its entry still waits for room; else by the kernel. One entry for
    /// each I/O and enter at most; asking again later is worth it, since a request that is just being retried escapes.
    pub(super) fn ask_cancel(&mut self, slot: u32) -> Result<()> {
        let Some(io) = self.table.get(slot) else { return Ok(()) };
        let (state, handle) = (io.state, io.handle);
        match state {
            At::Done | At::Held | At::Vacant => Ok(()),
            At::Queued => {
                self.cancel_queued(handle);
                Ok(())
            }
            At::Kernel => {
                let now = (self.counts.enters as u32).wrapping_add(1);
                let Some(side) = self.table.side(slot) else { return Ok(()) };
                if std::mem::replace(&mut side.cancel_enter, now) == now {
                    return Ok(());
                }
                let cancel = Sqe { opcode: entry::op::ASYNC_CANCEL, fd: -1, addr: handle, ..Sqe::default() };
                self.enqueue_own(Kind::Cancel, cancel)
            }
        }
    }

    /// A cancel has missed: the kernel can't find a request between two of its tries, nor stop one that a worker is about to
    /// begin. What was asked to end and is in flight is asked again a little later, until it ends.
    #[cold]
    pub(super) fn watch_cancelled(&mut self) {
        self.missed = false;
        let at = os::now() + ASK_AGAIN_NS;
        let asked = |io: &Io| io.state == At::Kernel && io.marks & (marks::CANCELLED | marks::TIMED_OUT) != 0;
        let mut from = 0;
        while let Some(slot) = self.table.next_slot(from, asked) {
            from = slot + 1;
            // A member of a chain is asked again when its turn comes.
            let waits = self.first_of_chain(slot).is_some_and(|first| first != slot);
            if !waits && self.deadlines.reserve(1).is_ok() {
                self.set_deadline(slot, Some(at));
            }
        }
    }

    pub(super) fn cancel_fd(&mut self, fd: i32) -> Result<i32> {
        let fits = |io: &Io| is_on(io, fd);
        let count = self.count_on(fd);
        if count == 0 {
            return Ok(0);
        }
        // Room for all of them and one more: from here on nothing fails, and neither does the start that comes with it.
        self.reserve_overflow(count + 1)?;
        let mut from = 0;
        while let Some(slot) = self.table.next_slot(from, fits) {
            if let Some(io) = self.table.get(slot) {
                io.marks |= marks::CANCELLED;
            }
            self.ask_cancel(slot)?;
            from = slot + 1;
        }
        Ok(count as i32)
    }

    /// Unfinished I/Os on a descriptor.
    pub(super) fn count_on(&self, fd: i32) -> usize {
        self.table.iter().filter(|(_, io)| is_on(io, fd)).count()
    }

    /// What waits for room is finished here; for the rest one entry cancels everything that the kernel has.
    pub(super) fn cancel_all(&mut self) -> Result<i32> {
        let mut asked = self.finish_queued();
        let mut from = 0;
        while let Some(slot) = self.table.next_slot(from, |io| io.state == At::Kernel) {
            if let Some(io) = self.table.get(slot) {
                io.marks |= marks::CANCELLED;
                asked += 1;
            }
            from = slot + 1;
        }
        self.ask_cancel_all()?;
        Ok(asked)
    }

    /// Cancel every request of the ring, its own ones too, which are armed again when they end.
    pub(super) fn ask_cancel_all(&mut self) -> Result<()> {
        let flags = entry::CANCEL_ALL | entry::CANCEL_ANY;
        self.enqueue_own(
            Kind::Cancel,
            Sqe { opcode: entry::op::ASYNC_CANCEL, fd: -1, op_flags: flags, ..Sqe::default() },
        )
    }

    /// Finish what still waits for room with -ECANCELED; → how many I/Os.
    pub(super) fn finish_queued(&mut self) -> i32 {
        let mut finished = 0;
        for _ in 0..self.overflow.len() {
            let Some(sqe) = self.overflow.pop_front() else { break };
            match self.table.find(sqe.user_data) {
                Ok((slot, io)) => {
                    io.marks |= marks::CANCELLED;
                    self.settle(slot, Status::ECANCELED.code(), 0, 0);
                    finished += 1;
                }
                // The ring's own stay.
                Err(_) => self.overflow.push_back(sqe),
            }
        }
        finished
    }

    fn drop_io(&mut self, io: u64) -> Result<(usize, Option<Discarded>)> {
        let nothing_left = self.nothing_left();
        let (slot, io) = self.table.find(io).map_err(|stale| if nothing_left { Status::CLOSED } else { stale })?;
        if io.is_unwanted() {
            return Err(Status::STALE);
        }
        let user_data = io.user_data;
        let (is_done, is_multishot) = (io.state == At::Done, io.is(marks::MULTISHOT));
        io.marks |= marks::DROPPED;
        let events = self.table.old_side(slot).map_or_else(VecDeque::new, |side| std::mem::take(&mut side.events));
        self.counts.done -= events.len() as u32 + u32::from(is_done);
        self.counts.dropped += 1;
        self.call_ready(slot, Status::DROPPED.code());
        if !is_done {
            self.counts.unwanted += 1;
            if is_multishot {
                if let Some(io) = self.table.get(slot) {
                    io.marks |= marks::CANCELLED;
                }
                // Without memory for it now, the multishot runs until it ends by itself or the ring closes.
                let _ = self.ask_cancel(slot);
            }
        }
        let extra = self.table.old_side(slot).map_or(0, |side| side.extra);
        let Some(io) = self.table.get(slot) else { return Ok((user_data, None)) };
        if !is_done || io.is(marks::LISTED) {
            let discarded = Discarded::take_from(io, extra, events);
            return Ok((user_data, Some(self.discard(discarded))));
        }
        if let Some(side) = self.table.old_side(slot) {
            side.events = events;
        }
        let discarded = self.table.remove(slot).map(Discarded::new);
        Ok((user_data, discarded.map(|discarded| self.discard(discarded))))
    }
}

fn is_on(io: &Io, fd: i32) -> bool {
    io.fd == fd && fd >= 0 && io.state != At::Done
}
