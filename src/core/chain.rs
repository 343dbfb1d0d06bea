// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains: I/Os that the kernel runs one after the other.
//!
//! The kernel ends a chain where a submit ends, so its entries go into the submission queue side by side, all of them or none;
//! what finds too little room waits as a whole. Members are handed out in their order: one whose completion comes before
//! that of a member in front is held. So is a cancelled one that nobody asked to cancel, until the rest tells why.

use super::alloc::try_vec;
use super::complete::outcome;
use super::entries::{is_multishot, is_receive};
use super::form::Form;
use super::prepared::Prepared;
use super::ring::Ring;
use super::start::{Extras, Start};
use super::state::{Phase, State};
use super::table::{Kind, NO_SLOT, State as At, marks, slot_of};
use super::{Result, Status};
use crate::sys::entry::sqe_flags::{IO_HARDLINK, IO_LINK};
use crate::sys::{Backend, Sqe, os};

/// An entry with one of these is followed by the next of its chain.
pub(super) const LINKS: u8 = IO_LINK | IO_HARDLINK;

/// A member's place in its chain, until it is handed out.
pub(super) struct Link {
    /// The last member: it leaves last, and its `first` and `pending` are the chain's.
    tail: u32,
    after: u32,
    /// The result below which a transfer is short, and breaks the chain.
    full: u32,
    /// The result that broke the chain before this member could run.
    cause: Option<i32>,
    /// The first member that has not been handed out.
    first: u32,
    /// Members that are not held.
    pending: u32,
}

impl<B: Backend> Ring<B> {
    /// Accept `count` I/Os as a chain, or none; `told` gets each one's handle before any other thread can complete it.
    /// # Safety
    /// As `start`, for each that `member` returns.
    pub(crate) unsafe fn start_chain<'a>(
        &self,
        count: usize,
        hard: bool,
        mut member: impl FnMut(usize) -> Result<(Start<'a>, Extras<'a>)>,
        told: impl FnMut(usize, u64),
    ) -> Result<i32> {
        if count > self.info().entries.min(self.options.max_in_flight) as usize {
            return Err(Status::E2BIG);
        }
        let mut members = try_vec(count)?;
        let mut submits = false;
        for index in 0..count {
            let (start, extras) = member(index)?;
            submits |= extras.submits;
            // SAFETY: the caller's duty.
            let prepared = unsafe { Prepared::new(&start, extras, true, self.info()) }?;
            if is_multishot(&prepared.sqe) {
                return Err(Status::EINVAL);
            }
            members.push(prepared);
        }
        let me = os::thread_id();
        let mut state = self.lock(me);
        self.make_way(&mut state, count);
        // SAFETY: the caller's duty.
        unsafe { state.start_chain(members, if hard { IO_HARDLINK } else { IO_LINK }, me, told) }?;
        self.after_start(state, me, submits);
        Ok(count as i32)
    }
}

impl<B: Backend> State<B> {
    /// # Safety
    /// As `Ring::start_chain`.
    unsafe fn start_chain(
        &mut self,
        members: Vec<Prepared<'_>>,
        link: u8,
        me: usize,
        mut told: impl FnMut(usize, u64),
    ) -> Result<()> {
        self.check_open()?;
        let count = members.len();
        self.check_room(me, count as u32)?;
        self.reserve_chain(&members)?;
        for fd in members.iter().filter_map(Prepared::closes) {
            self.cancel_fd(fd)?;
        }
        // From here on nothing fails.
        let is_direct = self.has_room_for(count);
        let (mut first, mut before) = (NO_SLOT, NO_SLOT);
        for (index, member) in members.into_iter().enumerate() {
            let full = member.full_len();
            // SAFETY: the caller's duty.
            let (slot, mut sqe) = unsafe { self.commit(member) };
            sqe.flags |= if index + 1 < count { link } else { 0 };
            told(index, sqe.user_data);
            self.count_accepted(slot, &sqe, me);
            self.enqueue_member(slot, &sqe, is_direct);
            if count > 1 {
                self.link(slot, before, full);
            }
            first = if first == NO_SLOT { slot } else { first };
            before = slot;
        }
        self.close_chain(first, before, count as u32);
        Ok(())
    }

    /// Make sure that the chain's deadlines and entries, and the cancels of its closes, find memory.
    fn reserve_chain(&mut self, members: &[Prepared<'_>]) -> Result<()> {
        let cancels: usize = members.iter().filter_map(Prepared::closes).map(|fd| self.count_on(fd) + 1).sum();
        self.deadlines.reserve(members.iter().filter(|member| member.extras.timeout_ns > 0).count())?;
        self.reserve_overflow(members.len() + cancels)
    }

    fn has_room_for(&mut self, count: usize) -> bool {
        self.overflow.is_empty() && self.backend.as_mut().is_some_and(|backend| backend.room() as usize >= count)
    }

    /// One entry of a chain; what is not `direct` waits with all of it for room.
    fn enqueue_member(&mut self, slot: u32, sqe: &Sqe, is_direct: bool) {
        match &mut self.backend {
            // SAFETY: as in `enqueue`.
            Some(backend) if is_direct => unsafe { backend.push(sqe) },
            _ => {
                self.overflow.push_back(*sqe);
                self.count_queued(slot);
            }
        }
    }

    fn link(&mut self, slot: u32, before: u32, full: u32) {
        if let Some(side) = self.table.side(slot) {
            side.link = Some(Link { tail: NO_SLOT, after: NO_SLOT, full, cause: None, first: NO_SLOT, pending: 0 });
        }
        if let Some(before) = self.link_of(before) {
            before.after = slot;
        }
    }

    fn close_chain(&mut self, first: u32, tail: u32, count: u32) {
        let mut slot = first;
        while let Some(link) = self.link_of(slot) {
            link.tail = tail;
            slot = link.after;
        }
        if let Some(link) = self.link_of(tail) {
            (link.first, link.pending) = (first, count);
        }
    }

    fn link_of(&mut self, slot: u32) -> Option<&mut Link> {
        self.table.old_side(slot)?.link.as_mut()
    }

    /// The first of a member's chain that has not been handed out.
    pub(super) fn first_of_chain(&mut self, slot: u32) -> Option<u32> {
        let tail = self.link_of(slot)?.tail;
        self.link_of(tail).map(|link| link.first)
    }

    /// The kernel is done with an I/O, or never gets it: finish it, in its chain's order if it has one.
    pub(super) fn settle(&mut self, slot: u32, result: i32, flags: u32, extra: u64) {
        let Some(tail) = self.link_of(slot).map(|link| link.tail) else {
            self.finish(slot, result, flags, extra);
            return;
        };
        if let Some(side) = self.table.side(slot) {
            side.extra = extra;
        }
        let Some(io) = self.table.get(slot) else { return };
        self.counts.queued -= u32::from(io.state == At::Queued);
        (io.state, io.result, io.flags) = (At::Held, result, flags);
        if let Some(chain) = self.link_of(tail) {
            chain.pending -= 1;
        }
        while self.release_first(tail) {}
    }

    /// Hand out the first member of a chain if it is its turn; → whether there may be more.
    fn release_first(&mut self, tail: u32) -> bool {
        let Some(&mut Link { first, pending, .. }) = self.link_of(tail) else { return false };
        let Some(io) = self.table.get(first).filter(|io| io.state == At::Held) else { return false };
        let is_unasked = io.result == -libc::ECANCELED && !io.is(marks::CANCELLED | marks::TIMED_OUT);
        let mut cause = self.link_of(first).and_then(|link| link.cause);
        if is_unasked && cause.is_none() {
            if pending > 0 {
                return false;
            }
            cause = self.explain(first);
            if cause.is_none() && self.restart(first, tail) {
                return false;
            }
            cause = cause.or(Some(-libc::ECANCELED));
        }
        self.release(first, tail, cause);
        first != tail
    }

    /// Finish a member whose turn it is, and make the next one the first.
    fn release(&mut self, slot: u32, tail: u32, cause: Option<i32>) {
        let Some(side) = self.table.old_side(slot) else { return };
        let (Some(link), mut extra) = (side.link.take(), side.extra) else { return };
        let Some(io) = self.table.get(slot) else { return };
        let (result, flags) = (io.result, io.flags);
        let (seen, _) = outcome(io, result);
        let is_short = seen >= 0 && (seen as u32) < link.full;
        let mut broke = if seen < 0 || is_short { Some(seen) } else { None };
        if let Some(cause) = cause.filter(|_| seen == -libc::ECANCELED) {
            extra = i64::from(cause) as u64;
            broke = Some(cause);
        }
        self.finish(slot, result, flags, extra);
        self.released += 1;
        if let Some(chain) = self.link_of(tail) {
            chain.first = link.after;
        }
        if let Some(next) = self.link_of(link.after) {
            next.cause = next.cause.or(broke);
        }
        // It may have begun to run only now, out of reach of what asked for its cancel before.
        let asked = |at: At, marks: u16| at == At::Kernel && marks & (marks::CANCELLED | marks::TIMED_OUT) != 0;
        if self.table.get(link.after).is_some_and(|io| asked(io.state, io.marks)) {
            self.insist_on_cancel(link.after);
        }
    }

    /// All that is left of a chain is held: the error of a member further on, which the kernel refused with all of its chain.
    fn explain(&mut self, first: u32) -> Option<i32> {
        let mut slot = first;
        while let Some(after) = self.link_of(slot).map(|link| link.after) {
            let result = self.table.get(slot).map_or(0, |io| io.result);
            if result < 0 && result != -libc::ECANCELED {
                return Some(result);
            }
            slot = after;
        }
        None
    }

    /// The exit of the thread that submitted a SHARED ring's chain has cancelled what is left of it: submit that again.
    fn restart(&mut self, first: u32, tail: u32) -> bool {
        let (mut slot, mut count) = (first, 0);
        while let Some(after) = self.link_of(slot).map(|link| link.after) {
            let asked = marks::CANCELLED | marks::TIMED_OUT;
            if !self.table.get(slot).is_some_and(|io| io.result == -libc::ECANCELED && !io.is(asked)) {
                return false;
            }
            count += 1;
            slot = after;
        }
        if self.again.is_empty() || self.phase != Phase::Open || self.reserve_overflow(count).is_err() {
            return false;
        }
        let is_direct = self.has_room_for(count);
        slot = first;
        while let Some(after) = self.link_of(slot).map(|link| link.after) {
            let Some(&sqe) = self.again.get(slot as usize) else { break };
            if let Some(io) = self.table.get(slot) {
                io.state = At::Kernel;
            }
            self.enqueue_member(slot, &sqe, is_direct);
            slot = after;
        }
        if let Some(chain) = self.link_of(tail) {
            chain.pending = count as u32;
        }
        self.counts.resubmits += count as u64;
        true
    }

    /// A member's time is over: what runs before it keeps it from being done, so that is cancelled first.
    pub(super) fn expire_chain(&mut self, slot: u32) -> Result<()> {
        let Some(first) = self.first_of_chain(slot).filter(|first| *first != slot) else { return Ok(()) };
        // What still waits for room is told of at once, so the cause comes first.
        if let Some(io) = self.table.get(first) {
            io.marks |= marks::CANCELLED;
        }
        if let Some(link) = self.link_of(first) {
            link.cause = link.cause.or(Some(-libc::ETIME));
        }
        self.ask_cancel(first)
    }

    /// Cancel an I/O whose entry still waits for room; a chain ends there unless it is held together by hard links.
    pub(super) fn cancel_queued(&mut self, handle: u64) {
        let Some(place) = self.overflow.iter().position(|sqe| sqe.user_data == handle) else { return };
        let flags_at = |state: &Self, place: usize| state.overflow.get(place).map_or(0, |sqe| sqe.flags & LINKS);
        let before = if place > 0 { flags_at(self, place - 1) } else { 0 };
        let mut end = place + 1;
        if (before | flags_at(self, place)) & IO_HARDLINK == 0 {
            while flags_at(self, end - 1) != 0 {
                end += 1;
            }
        }
        if before != 0 && flags_at(self, end - 1) == 0 {
            if let Some(last) = self.overflow.get_mut(place - 1) {
                last.flags &= !LINKS;
            }
        }
        for _ in place..end {
            let Some(sqe) = self.overflow.remove(place) else { break };
            self.settle(slot_of(sqe.user_data) as u32, -libc::ECANCELED, 0, 0);
        }
    }

    /// After an enter that took less than all: where it ended inside a chain, the kernel runs the first part without the rest,
    /// and would run the rest as a chain of its own. The rest is taken out of its reach, and cancelled.
    #[cold]
    pub(super) fn sever(&mut self) {
        let mut place = 0;
        while let Some((user_data, goes_on)) =
            self.backend.as_mut().and_then(|backend| backend.sever(place, Kind::Severed as u64))
        {
            if let Ok((slot, _)) = self.table.find(user_data) {
                if let (0, Some(link)) = (place, self.link_of(slot)) {
                    link.cause = link.cause.or(Some(-libc::EAGAIN));
                }
                self.settle(slot, -libc::ECANCELED, 0, 0);
            }
            place += 1;
            if !goes_on {
                break;
            }
        }
    }
}

impl Prepared<'_> {
    /// The least result that doesn't break a chain. What a host's own entry asks for is not known here.
    fn full_len(&self) -> u32 {
        let may_be_short = is_receive(&self.sqe) && self.sqe.op_flags & libc::MSG_WAITALL as u32 == 0;
        match self.form {
            Form::Transfer | Form::Send if !may_be_short => self.asked_len(),
            Form::Raw => u32::MAX,
            _ => 0,
        }
    }
}
