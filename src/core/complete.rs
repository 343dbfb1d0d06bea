// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a completion entry to what the host gets.
//!
//! One rule carries multishots and zero-copy sends: an I/O retires with the completion that has no
//! F_MORE, and not before. A completion acts only if its kind, generation and the I/O's state fit; others are counted.

use super::Result;
use super::buf::BufRef;
use super::completion::{Completion, HOLDS_DESCRIPTOR, completion_flags};
use super::lent::Out;
use super::session::Delivery;
use super::state::{Phase, Ready, State};
use super::table::{Gone, Io, Kind, Plain, State as At, To, generation_of, marks};
use crate::sys::entry::{self, cqe_flags, op};
use crate::sys::{Backend, Cqe, Enter};

/// What a completion of an I/O means.
pub(super) enum Meaning {
    /// One of several.
    Event(Cqe),
    /// The last.
    Last { result: i32, flags: u32, extra: u64 },
    /// A zero-copy send's result, to be told with its notification.
    Noted,
}

impl<B: Backend> State<B> {
    /// Take one completion out of the queue and hand out what it brings at once, if it is for a callback or nobody.
    /// Else it is put where its taker will find it.
    #[inline(always)]
    pub(super) fn retire(&mut self, cqe: Cqe, out: &Out) -> Result<Option<Delivery>> {
        // A plain I/O's only completion: one look, one removal.
        if cqe.flags & (cqe_flags::MORE | cqe_flags::NOTIF) == 0 && cqe.result != -libc::ECANCELED {
            if let Some(plain) = self.table.remove_plain(cqe.user_data) {
                self.held_back = 1;
                self.counts.finished += 1;
                let Plain { user_data, notify, buf, opcode } = plain;
                out.put(cqe.user_data, user_data, opcode, cqe.result, translate(cqe.flags), 0, buf);
                return Ok(Some(Delivery::Complete(notify)));
            }
        }
        self.retire_special(cqe, out)
    }

    #[cold]
    #[inline(never)]
    fn retire_special(&mut self, cqe: Cqe, out: &Out) -> Result<Option<Delivery>> {
        let Some((slot, meaning)) = self.understand(cqe) else { return Ok(None) };
        let Some(io) = self.table.get(slot) else { return Ok(None) };
        match meaning {
            Meaning::Noted => Ok(None),
            Meaning::Last { result, flags, extra } => {
                let at_once = io.to == To::Callback && io.marks & (marks::DROPPED | marks::LISTED) == 0;
                if at_once && self.first_of_chain(slot).is_none() {
                    return Ok(self.finish_now(slot, result, flags, extra, out));
                }
                self.settle(slot, result, flags, extra);
                Ok(None)
            }
            Meaning::Event(event) if io.is_unwanted() => {
                self.close_unwanted_event(slot, event);
                Ok(None)
            }
            Meaning::Event(event) if io.to == To::Callback && !io.is(marks::LISTED) => {
                Ok(Some(event_delivery(io, event, out)))
            }
            Meaning::Event(event) => self.keep_event(slot, event).map(|()| None),
        }
    }

    /// As `retire`, for calls that must not run callbacks: everything is put where its taker will find it.
    pub(super) fn store(&mut self, cqe: Cqe) -> Result<()> {
        let Some((slot, meaning)) = self.understand(cqe) else { return Ok(()) };
        let Some(io) = self.table.get(slot) else { return Ok(()) };
        match meaning {
            Meaning::Noted => Ok(()),
            Meaning::Last { result, flags, extra } => {
                self.settle(slot, result, flags, extra);
                Ok(())
            }
            Meaning::Event(event) if io.is_unwanted() => {
                self.close_unwanted_event(slot, event);
                Ok(())
            }
            Meaning::Event(event) => self.keep_event(slot, event),
        }
    }

    /// Bring all completions from the queue into the table; callbacks stay for process.
    pub(super) fn collect(&mut self) -> Result<()> {
        while self.collect_plain() {}
        while let Some(cqe) = self.next_cqe() {
            if let Err(short) = self.store(cqe) {
                self.stalled = Some(cqe);
                return Err(short);
            }
        }
        Ok(())
    }

    /// Which I/O a completion is of, and what it means for it.
    #[inline]
    fn understand(&mut self, cqe: Cqe) -> Option<(u32, Meaning)> {
        if generation_of(cqe.user_data) == 0 {
            self.own_completion(cqe);
            return None;
        }
        let Ok((slot, io)) = self.table.find(cqe.user_data) else {
            self.counts.foreign += 1;
            return None;
        };
        if io.state != At::Kernel {
            self.counts.foreign += 1;
            return None;
        }
        let is_common = io.marks & (marks::SIDE | marks::INSTALLED) == 0;
        let meaning = if cqe.flags & (cqe_flags::MORE | cqe_flags::NOTIF) == 0 {
            Meaning::Last { result: cqe.result, flags: cqe.flags, extra: 0 }
        } else {
            special(io, cqe)
        };
        match meaning {
            Meaning::Last { result, .. }
                if result == -libc::ECANCELED && self.first_of_chain(slot).is_none() && self.submit_again(slot) =>
            {
                None
            }
            meaning if is_common => Some((slot, meaning)),
            meaning => self.refine(slot, meaning).map(|meaning| (slot, meaning)),
        }
    }

    /// A thread's exit cancels what it has submitted. On a SHARED ring nobody asked for that: another thread submits it again.
    #[cold]
    fn submit_again(&mut self, slot: u32) -> bool {
        let Some(&sqe) = self.again.get(slot as usize) else { return false };
        let unasked = self.table.get(slot).is_some_and(|io| !io.is(marks::CANCELLED | marks::TIMED_OUT));
        if !unasked || self.phase != Phase::Open || self.reserve_entry().is_err() {
            return false;
        }
        self.enter_again(slot, &sqe);
        self.counts.resubmits += 1;
        true
    }

    #[cold]
    fn own_completion(&mut self, cqe: Cqe) {
        match cqe.user_data {
            kind if kind == Kind::Wake as u64 => {
                if cqe.flags & cqe_flags::MORE == 0 {
                    self.arm_wake();
                }
            }
            kind if kind == Kind::Timer as u64 => self.in_loop.timer_at = 0,
            kind if kind == Kind::Cancel as u64 => self.missed |= cqe.result != 0,
            kind if [Kind::TimerUpdate, Kind::Severed, Kind::CloseFile].into_iter().any(|own| own as u64 == kind) => {}
            _ => self.counts.foreign += 1,
        }
    }

    /// Where wakes go through a poll in the ring, its entry is the first of all: submit it by itself, so that no count of
    /// the host's holds it.
    pub(super) fn submit_wake(&mut self) -> Result<()> {
        let backend = self.backend()?;
        if backend.wake_entry().is_some() {
            backend.publish();
            let gate = backend.gate();
            B::enter(gate, Enter { submit: 1, wait: false, flush: false, timeout: None })?;
        }
        Ok(())
    }

    /// Where wakes go through a poll in the ring, keep it armed.
    pub(super) fn arm_wake(&mut self) {
        if let Some(sqe) = self.backend.as_ref().and_then(B::wake_entry) {
            // Without memory for it the driver isn't woken until it comes back by itself.
            let _ = self.enqueue_own(Kind::Wake, sqe);
        }
    }

    /// The last completion of an I/O with a callback: its slot is free again before the callback runs.
    fn finish_now(&mut self, slot: u32, result: i32, flags: u32, extra: u64, out: &Out) -> Option<Delivery> {
        if self.table.get(slot)?.deadline != super::deadlines::NONE {
            self.set_deadline(slot, None);
        }
        let Gone { io, side } = self.table.remove(slot)?;
        self.held_back = 1;
        let (result, marked) = outcome(&io, result);
        self.count_finished(result, marked);
        // Storage is the library's own memory: no function of the host runs with it.
        drop(side);
        Some(complete(io, result, marked | translate(flags), extra, out))
    }

    /// The last completion of an I/O whose taker comes later, or never.
    pub(super) fn finish(&mut self, slot: u32, result: i32, flags: u32, extra: u64) {
        if self.table.get(slot).is_some_and(|io| io.deadline != super::deadlines::NONE) {
            self.set_deadline(slot, None);
        }
        let Some(io) = self.table.get(slot) else { return };
        let was_queued = io.state == At::Queued;
        let (result, marked) = outcome(io, result);
        io.state = At::Done;
        io.result = result;
        io.flags = marked | translate(flags);
        let (to, listed, unwanted) = (io.to, io.is(marks::LISTED), io.is_unwanted());
        if extra != 0 {
            if let Some(side) = self.table.side(slot) {
                side.extra = extra;
            }
        }
        self.counts.queued -= u32::from(was_queued);
        self.count_finished(result, marked);
        if unwanted {
            self.counts.unwanted -= 1;
            self.counts.detached_failed += u64::from(to == To::Nobody && result < 0);
            if !listed {
                self.attention = true;
                self.table.push(&mut self.trash, slot);
            }
            return;
        }
        self.counts.done += 1;
        self.counts.announced += 1;
        self.announce(slot, to, listed);
    }

    /// Put an I/O that has something to deliver where its taker looks.
    fn announce(&mut self, slot: u32, to: To, listed: bool) {
        match to {
            To::Callback if !listed => {
                self.attention = true;
                self.counts.callbacks += 1;
                self.table.push(&mut self.callbacks, slot);
            }
            To::Queue if !listed => {
                self.counts.reapable += 1;
                self.table.push(&mut self.reapable, slot);
            }
            To::Kept => self.call_ready(slot, 0),
            _ => {}
        }
    }

    /// Have a waiting ready function of a kept I/O called; `poll` reserved the room.
    pub(super) fn call_ready(&mut self, slot: u32, status: i32) {
        let Some(io) = self.table.get(slot).filter(|io| io.to == To::Kept) else { return };
        if let Some(function) = io.notify.take() {
            let user_data = self.table.old_side(slot).map_or(0, |side| side.notify_data);
            self.attention = true;
            self.ready.push_back(Ready { function, user_data, status });
        }
    }

    /// A descriptor in an event that nobody takes; it is ours alone.
    pub(super) fn close_unwanted_event(&mut self, slot: u32, event: Cqe) {
        let Some(io) = self.table.get(slot) else { return };
        let mut fds = io.descriptors(event.result, 0);
        self.close_fixed_of(&mut fds);
        fds.into_iter().filter(|fd| *fd >= 0).for_each(crate::sys::os::close_unwanted);
    }

    fn keep_event(&mut self, slot: u32, cqe: Cqe) -> Result<()> {
        if let Some(side) = self.table.side(slot) {
            side.events.try_reserve(1)?;
            side.events.push_back(cqe);
        }
        let Some(io) = self.table.get(slot) else { return Ok(()) };
        let (to, listed) = (io.to, io.is(marks::LISTED));
        self.counts.done += 1;
        self.counts.announced += 1;
        self.announce(slot, to, listed);
        Ok(())
    }

    #[inline]
    fn count_finished(&mut self, result: i32, marked: u32) {
        self.counts.finished += 1;
        if result < 0 {
            let cancelled = result == -libc::ECANCELED || marked & completion_flags::TIMED_OUT != 0;
            self.counts.cancelled += u64::from(cancelled);
        }
    }
}

/// Completions with MORE or NOTIF.
#[cold]
fn special(io: &mut Io, cqe: Cqe) -> Meaning {
    if cqe.flags & cqe_flags::NOTIF != 0 {
        let copied = u64::from(cqe.result as u32 & entry::NOTIF_ZC_COPIED != 0);
        return Meaning::Last { result: io.result, flags: io.flags, extra: copied };
    }
    if matches!(io.opcode, op::SEND_ZC | op::SENDMSG_ZC) {
        io.result = cqe.result;
        io.flags = cqe.flags & !cqe_flags::MORE;
        return Meaning::Noted;
    }
    Meaning::Event(cqe)
}

/// The result as the host sees it, and the flags that say why.
#[inline]
pub(super) fn outcome(io: &Io, result: i32) -> (i32, u32) {
    if io.marks & (marks::TIMED_OUT | marks::CANCELLED) == 0 {
        return (result, 0);
    }
    if io.is(marks::TIMED_OUT) && !io.is(marks::CANCELLED) {
        let result = if matches!(-result, libc::ECANCELED | libc::EINTR) { -libc::ETIME } else { result };
        return (result, completion_flags::TIMED_OUT);
    }
    let timed_out = if io.is(marks::TIMED_OUT) { completion_flags::TIMED_OUT } else { 0 };
    // A worker's system call that a cancel interrupts says EINTR: the cancel did it.
    let result = if result == -libc::EINTR { -libc::ECANCELED } else { result };
    (result, completion_flags::CANCELLED | timed_out)
}

#[inline]
pub(super) fn translate(flags: u32) -> u32 {
    if flags & cqe_flags::SOCK_NONEMPTY != 0 { completion_flags::SOCK_NONEMPTY } else { 0 }
}

pub(super) fn completion(io: &Io, buf: Option<BufRef>, result: i32, flags: u32) -> Completion {
    Completion {
        io: io.handle,
        user_data: io.user_data,
        buf,
        extra: 0,
        result,
        flags,
        opcode: io.opcode.into(),
        reserved0: if io.is(marks::DESCRIPTOR) { HOLDS_DESCRIPTOR } else { 0 },
        reserved: [0; 2],
    }
}

#[inline(always)]
pub(super) fn complete(io: Io, result: i32, flags: u32, extra: u64, out: &Out) -> Delivery {
    let Io { handle, user_data, notify, buf, opcode, .. } = io;
    out.put(handle, user_data, opcode, result, flags, extra, buf);
    Delivery::Complete(notify)
}

/// An event is lent no buffer: the I/O goes on and keeps its own.
pub(super) fn event_completion(io: &Io, event: Cqe) -> Completion {
    completion(io, None, event.result, completion_flags::MORE | translate(event.flags))
}

pub(super) fn event_delivery(io: &Io, event: Cqe, out: &Out) -> Delivery {
    let flags = completion_flags::MORE | translate(event.flags);
    out.put(io.handle, io.user_data, io.opcode, event.result, flags, 0, None);
    Delivery::Complete(io.notify)
}
