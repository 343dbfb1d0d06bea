// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way of the I/Os that most are: plain ones, to which nothing is special. They are started by the thread that owns the
//! ring, complete once, and go to a callback, to reap, or are kept. Each step here either does all of it or nothing, and then
//! the long way does it (`start`, `complete`, `deliver`).

use super::buf::Buf;
use super::complete::translate;
use super::completion::Completion;
use super::lent::Out;
use super::ring::Ring;
use super::start::{Start, told_fd};
use super::state::{Phase, State};
use super::table::{HostFn, Plain, To, slot_of};
use crate::sys::entry::cqe_flags;
use crate::sys::{Backend, Cqe, os};

impl<B: Backend> Ring<B> {
    /// What most starts are: by the thread that owns the ring, of which nobody else wants anything, with room in the table and
    /// the queue. False: nothing has happened.
    /// # Safety
    /// As `start_simple`.
    #[inline(always)]
    pub(crate) unsafe fn start_as_owner(&self, start: &Start<'_>, out: &mut u64) -> bool {
        let Some(mut state) = self.lock_as_owner(os::thread_id()) else { return false };
        // SAFETY: the caller's duty.
        unsafe { state.start_at_once(start, out) }
    }

    /// As `start_as_owner`, of several: `start` describes each, `put` gets its handle. → how many were started.
    /// # Safety
    /// As `start_simple`.
    #[inline(always)]
    pub(crate) unsafe fn start_many_as_owner<'a>(
        &self,
        count: usize,
        start: impl Fn(usize) -> Option<Start<'a>>,
        mut put: impl FnMut(usize, u64),
    ) -> usize {
        let Some(mut state) = self.lock_as_owner(os::thread_id()) else { return 0 };
        for index in 0..count {
            let (Some(start), mut handle) = (start(index), 0) else { return index };
            // SAFETY: the caller's duty.
            if !unsafe { state.start_at_once(&start, &mut handle) } {
                return index;
            }
            put(index, handle);
        }
        count
    }
}

impl<B: Backend> State<B> {
    /// # Safety
    /// As `Ring::start_as_owner`.
    #[inline(always)]
    unsafe fn start_at_once(&mut self, start: &Start<'_>, out: &mut u64) -> bool {
        let template = start.template;
        if self.phase != Phase::Open || !self.overflow.is_empty() || !template.is_simple() || start.to == To::Nobody {
            return false;
        }
        let (Some(backend), Some(slot)) = (self.backend.as_mut(), self.table.used_before()) else { return false };
        if !backend.has_room() {
            return false;
        }
        let mut addr = template.sqe.addr;
        // SAFETY: the caller's duty: the buffer is live.
        let buf = template.buf.map(|buf| unsafe { buf.as_ref() });
        if let Some(buf) = buf {
            let (end, overflows) = template.buf_offset.overflowing_add(template.sqe.len as usize);
            // Lists have no data.
            if buf.data().is_null() || overflows || end > buf.len() {
                return false;
            }
            addr = buf.data().wrapping_add(template.buf_offset).addr() as u64;
        }
        // From here on nothing fails. The owner takes the slot that a running callback of its has freed, too.
        self.held_back = 0;
        let (opcode, fd) = (template.sqe.opcode, told_fd(&template.sqe));
        let plain = Plain { user_data: start.user_data, notify: start.callback, buf: buf.map(Buf::retain), opcode };
        let handle = self.table.insert_plain(slot, plain, start.to, fd, self.clock_ms);
        // SAFETY: the table keeps the buffer until the I/O's last completion, or hands it to the quarantine.
        unsafe {
            backend.push_with(|place| {
                *place = template.sqe;
                (place.addr, place.user_data) = (addr, handle);
                #[cfg(debug_assertions)]
                self.watch.begin(slot, place, &mut self.table);
            });
        }
        self.counts.started += 1;
        *out = handle;
        true
    }

    /// As `retire`, of a completion that is there and a plain I/O's only one, with nothing else due. `None`: nothing has happened.
    #[inline(always)]
    pub(super) fn retire_plain(&mut self, out: &Out) -> Option<HostFn> {
        if self.attention {
            return None;
        }
        let backend = self.backend.as_mut()?;
        let cqe = backend.peek()?;
        if !is_only(&cqe) {
            return None;
        }
        let Plain { user_data, notify, buf, opcode } = self.table.remove_plain(cqe.user_data)?;
        backend.skip();
        #[cfg(debug_assertions)]
        self.watch.end(cqe);
        self.held_back = 1;
        self.counts.finished += 1;
        out.put(cqe.user_data, user_data, opcode, cqe.result, translate(cqe.flags), 0, buf);
        self.lent = &raw const out.lent;
        notify
    }

    /// Bring the oldest completion into the table, if it is the only one of an I/O that is kept or for reap, and to which nothing
    /// is special. False: nothing has happened.
    #[inline(always)]
    pub(super) fn collect_plain(&mut self) -> bool {
        if self.stalled.is_some() {
            return false;
        }
        let Some(cqe) = self.backend.as_mut().and_then(B::peek).filter(is_only) else { return false };
        let Some(to) = self.table.finish_plain(cqe, translate(cqe.flags)) else { return false };
        if let Some(backend) = self.backend.as_mut() {
            backend.skip();
        }
        #[cfg(debug_assertions)]
        self.watch.end(cqe);
        self.counts.finished += 1;
        self.counts.done += 1;
        self.counts.announced += 1;
        if to == To::Queue {
            self.counts.reapable += 1;
            self.table.push(&mut self.reapable, slot_of(cqe.user_data) as u32);
        }
        true
    }

    /// Take the completion of an I/O for reap straight from the kernel's queue, if it is its only one, nothing about the I/O is
    /// special, and no older one waits. `None`: nothing has happened.
    #[inline(always)]
    pub(super) fn take_plain_for_reap(&mut self) -> Option<Completion> {
        if !self.reapable.is_empty() || self.stalled.is_some() {
            return None;
        }
        let cqe = self.backend.as_mut().and_then(B::peek).filter(is_only)?;
        let (user_data, opcode) = self.table.remove_plain_for_reap(cqe.user_data)?;
        if let Some(backend) = self.backend.as_mut() {
            backend.skip();
        }
        self.counts.finished += 1;
        let (io, result, flags, opcode) = (cqe.user_data, cqe.result, translate(cqe.flags), opcode.into());
        Some(Completion { io, user_data, buf: None, extra: 0, result, flags, opcode, reserved0: 0, reserved: [0; 2] })
    }

    /// A kept I/O that is done, has no buffer and nothing special about it. `None`: nothing has happened.
    #[inline(always)]
    pub(super) fn take_plain_kept(&mut self, io: u64) -> Option<Completion> {
        if self.attention || !self.room.is_wanted_by_nobody() {
            return None;
        }
        let (user_data, opcode, result, flags) = self.table.remove_plain_kept(io)?;
        self.counts.done -= 1;
        let opcode = opcode.into();
        Some(Completion { io, user_data, buf: None, extra: 0, result, flags, opcode, reserved0: 0, reserved: [0; 2] })
    }
}

/// Whether it is the only completion of its I/O, if that can't have several, and asks for no second look.
#[inline(always)]
fn is_only(cqe: &Cqe) -> bool {
    cqe.flags & (cqe_flags::MORE | cqe_flags::NOTIF) == 0 && cqe.result != -libc::ECANCELED
}
