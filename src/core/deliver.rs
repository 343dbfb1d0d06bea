// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking out what waits in the table for its taker: a callback that was not run at once, a poll, a reap, or nobody.

use super::Result;
use super::complete::{complete, completion, event_completion, event_delivery};
use super::completion::{Completion, completion_flags};
use super::discarded::Discarded;
use super::lent::Out;
use super::session::Delivery;
use super::state::State;
use super::table::{Gone, State as At, marks};
use crate::sys::{Backend, Cqe};

impl<B: Backend> State<B> {
    /// The oldest that is due to a callback: an event, or the end.
    pub(super) fn next_callback(&mut self, out: &Out) -> Option<Delivery> {
        loop {
            let slot = self.table.pop(&mut self.callbacks)?;
            self.counts.callbacks -= 1;
            if self.table.get(slot)?.is(marks::DROPPED) {
                self.remove_husk(slot);
                continue;
            }
            self.counts.done -= 1;
            if let Some(event) = self.next_event(slot) {
                let delivery = event_delivery(self.table.get(slot)?, event, out);
                if self.has_more(slot) {
                    self.counts.callbacks += 1;
                    self.table.push(&mut self.callbacks, slot);
                }
                return Some(delivery);
            }
            let Gone { io, side } = self.table.remove(slot)?;
            self.held_back = 1;
            let (result, flags, extra) = (io.result, io.flags, side.map_or(0, |side| side.extra));
            return Some(complete(io, result, flags, extra, out));
        }
    }

    /// The oldest for reap.
    pub(super) fn next_reapable(&mut self) -> Option<Completion> {
        loop {
            let slot = self.table.pop(&mut self.reapable)?;
            self.counts.reapable -= 1;
            if self.table.get(slot)?.is(marks::DROPPED) {
                self.remove_husk(slot);
                continue;
            }
            let taken = self.take(slot);
            if taken.as_ref().is_some_and(|taken| taken.flags & completion_flags::MORE != 0) && self.has_more(slot) {
                self.counts.reapable += 1;
                self.table.push(&mut self.reapable, slot);
            }
            if taken.is_some() {
                return taken;
            }
        }
    }

    /// Take what a kept or queued I/O has to deliver: its oldest event, or its end.
    pub(super) fn take(&mut self, slot: u32) -> Option<Completion> {
        if let Some(event) = self.next_event(slot) {
            self.counts.done -= 1;
            return Some(event_completion(self.table.get(slot)?, event));
        }
        if self.table.get(slot)?.state != At::Done {
            return None;
        }
        self.counts.done -= 1;
        let has_side = self.table.get(slot)?.is(marks::SIDE);
        let extra = if has_side { self.table.side(slot)?.extra } else { 0 };
        let io = self.table.get(slot)?;
        let moved = if io.is(marks::MOVED) { io.buf.take() } else { None };
        let taken = Completion { extra, ..completion(io, moved, io.result, io.flags) };
        if io.buf.is_some() {
            // A buffer that doesn't go back is let go of outside the lock.
            io.handle = 0;
            io.result = -1;
            io.marks |= marks::DROPPED;
            self.attention = true;
            self.table.push(&mut self.trash, slot);
        } else {
            self.table.free_empty(slot);
        }
        Some(taken)
    }

    fn next_event(&mut self, slot: u32) -> Option<Cqe> {
        self.table.old_side(slot)?.events.pop_front()
    }

    fn has_more(&mut self, slot: u32) -> bool {
        self.table.get(slot).is_some_and(|io| io.state == At::Done)
            || self.table.old_side(slot).is_some_and(|side| !side.events.is_empty())
    }

    /// The oldest whose result nobody takes.
    pub(super) fn next_trash(&mut self) -> Option<Discarded> {
        let slot = self.table.pop(&mut self.trash)?;
        let gone = self.table.remove(slot)?;
        Some(self.discard(Discarded::new(gone)))
    }

    /// A dropped I/O has left its list. Once it is done its slot is free, but what it still holds is let go of outside the lock.
    pub(super) fn remove_husk(&mut self, slot: u32) {
        match self.table.get(slot) {
            Some(io) if io.state == At::Done && io.holds_nothing() => drop(self.table.remove(slot)),
            Some(io) if io.state == At::Done => {
                self.attention = true;
                self.table.push(&mut self.trash, slot);
            }
            _ => {}
        }
    }

    /// Completions that have come since a run's begin, or before it and are there still, with no run that has ended for them:
    /// what poll and reap are to take ends one run each, and may then be left.
    #[inline]
    pub(super) fn news(&self, announced: u64) -> u64 {
        let untold = (self.counts.announced - self.told).min(self.deliverable().into());
        untold.max(self.counts.announced - announced)
    }

    /// Whether run has what it waits for, leftover callbacks included. With a min of one, anything in the queue is looked at in
    /// one pass.
    #[inline]
    pub(super) fn has_for_run(&mut self, min: u32, announced: u64) -> Result<bool> {
        if min > 1 {
            self.collect()?;
            let there = self.news(announced).max(self.counts.callbacks.into());
            return Ok(there >= min.into() || !self.ready.is_empty() || self.has_call());
        }
        Ok(min == 0 || self.news(announced) > 0 || self.has_due() || self.backend()?.available() > 0)
    }
}
