// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting I/Os: from a description to an entry in the submission queue.

use super::buf::{Buf, BufRef};
use super::deadlines;
use super::entries::{is_multishot, makes_descriptor, names_file};
use super::form::Form;
use super::lock::Guard;
use super::op::{FIXED_BASE, Template};
use super::prepared::{Prepared, place};
use super::ring::Ring;
use super::state::State;
use super::table::{HostFn, Io, NO_SLOT, State as At, To, marks};
use super::{Result, Status};
use crate::sys::entry::{SEND_ZC_REPORT_USAGE, op, sqe_flags};
use crate::sys::{Backend, Info, Sqe, os};

/// What a host asks for.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) template: &'a Template,
    pub(crate) to: To,
    pub(crate) callback: Option<HostFn>,
    pub(crate) user_data: usize,
}

/// What few starts ask for besides.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extras<'a> {
    /// What `Template::borrowed` tells of.
    pub(crate) lent: [Option<&'a [u8]>; 3],
    pub(crate) timeout_ns: i64,
    pub(crate) is_async: bool,
    pub(crate) moves: bool,
    pub(crate) submits: bool,
    /// Go on after a short transfer.
    pub(crate) full: bool,
    pub(crate) zero_copy: bool,
    /// Install what is made into the ring's registered files.
    pub(crate) installs: bool,
    pub(crate) rw_flags: u32,
    pub(crate) ioprio: u16,
    pub(crate) personality: u16,
}

impl<B: Backend> Ring<B> {
    /// Accept an I/O without extras; its handle is in `out` before any other thread can complete it. On failure nothing
    /// was taken.
    /// # Safety
    /// The template is simple, and its buffer, if any, is live.
    #[inline(always)]
    pub(crate) unsafe fn start_simple(&self, start: &Start<'_>, out: &mut u64) -> Result<()> {
        // SAFETY: the caller's duty.
        if unsafe { self.start_as_owner(start, out) } {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { self.start_simple_slowly(start, out) }
    }

    /// # Safety
    /// As `start_simple`.
    #[cold]
    #[inline(never)]
    unsafe fn start_simple_slowly(&self, start: &Start<'_>, out: &mut u64) -> Result<()> {
        let me = os::thread_id();
        let Some(mut state) = self.lock_as_owner(me) else {
            // SAFETY: the caller's duty.
            return unsafe { self.start_unbiased(start, me, out) };
        };
        // SAFETY: as above.
        match unsafe { state.start_simple(start, me, self.info()) } {
            Ok(handle) => *out = handle,
            // SAFETY: as above.
            Err(status) => *out = unsafe { self.start_refused(&mut state, start, me, status) }?,
        }
        Ok(())
    }

    /// As `start_simple`, for all forms, with extras.
    /// # Safety
    /// The template's buffer, if any, is live, and with `moves` one reference to it is the caller's to give.
    pub(crate) unsafe fn start(&self, start: &Start<'_>, extras: Extras<'_>, out: &mut u64) -> Result<()> {
        let submits = extras.submits;
        let me = os::thread_id();
        let simple = extras.is_submit_at_most() && start.template.is_simple_and_whole();
        if simple && self.has_owner() && self.owner() != me {
            // The driver submits what it finds; it is woken for it anyway.
            // SAFETY: the caller's duty.
            return unsafe { self.start_unbiased(start, me, out) };
        }
        let mut state = self.lock(me);
        self.make_way(&mut state, 1);
        // SAFETY: the caller's duty.
        *out = unsafe { state.start(start, extras, me, self.info()) }?;
        self.after_start(state, me, submits);
        Ok(())
    }

    /// Have what was started submitted, at once or by the driver if that sleeps.
    pub(super) fn after_start(&self, state: Guard<'_, State<B>>, me: usize, submits: bool) {
        let kick = self.kick_due(me);
        drop(state);
        if kick {
            self.kick();
        } else if submits {
            self.submit_if_driver(me);
        }
    }
}

/// A registered file's number is its index and a bit.
#[inline(always)]
pub(super) fn told_fd(sqe: &Sqe) -> i32 {
    const _: () = assert!(FIXED_BASE == 1 << 30 && sqe_flags::FIXED_FILE == 1);
    sqe.fd | i32::from(sqe.flags & sqe_flags::FIXED_FILE) << FIXED_BASE.trailing_zeros()
}

impl Extras<'_> {
    fn is_submit_at_most(&self) -> bool {
        let Self {
            lent,
            timeout_ns,
            is_async,
            moves,
            submits: _,
            full,
            zero_copy,
            installs,
            rw_flags,
            ioprio,
            personality,
        } = self;
        let special = *is_async || *moves || *full || *zero_copy || *installs || lent.iter().any(Option::is_some);
        !special && *timeout_ns <= 0 && *rw_flags == 0 && (*ioprio | *personality) == 0
    }
}

impl<B: Backend> State<B> {
    /// # Safety
    /// As `Ring::start_simple`.
    #[inline(never)]
    pub(super) unsafe fn start_simple(&mut self, start: &Start<'_>, me: usize, info: &Info) -> Result<u64> {
        self.check_open()?;
        let mut sqe = start.template.sqe;
        if !info.has_op(u32::from(sqe.opcode)) {
            return Err(Status::EOPNOTSUPP);
        }
        // SAFETY: the caller's duty: the buffer is live.
        let buf = start.template.buf.map(|buf| unsafe { buf.as_ref() });
        if let Some(buf) = buf {
            if buf.is_list() {
                // SAFETY: as above; nothing moves.
                return unsafe { self.start(start, Extras::default(), me, info) };
            }
            sqe.addr = place(buf, start.template.buf_offset, sqe.len as usize)?;
        }
        self.check_room(me, 1)?;
        self.reserve_entry()?;
        // From here on nothing fails.
        let (slot, handle) = self.insert(start, 0, &sqe, buf.map(Buf::retain));
        sqe.user_data = handle;
        self.accept(slot, &sqe, me);
        Ok(handle)
    }

    /// # Safety
    /// As `Ring::start`.
    #[inline(never)]
    unsafe fn start(&mut self, start: &Start<'_>, extras: Extras<'_>, me: usize, info: &Info) -> Result<u64> {
        self.check_open()?;
        // SAFETY: the caller's duty.
        let prepared = unsafe { Prepared::new(start, extras, false, info) }?;
        self.check_room(me, 1)?;
        if prepared.extras.timeout_ns > 0 {
            self.deadlines.reserve(1)?;
        }
        if let Some(fd) = prepared.closes() {
            self.cancel_fd(fd)?;
        }
        self.reserve_entry()?;
        // From here on nothing fails.
        // SAFETY: the caller's duty.
        let (slot, sqe) = unsafe { self.commit(prepared) };
        self.accept(slot, &sqe, me);
        Ok(sqe.user_data)
    }

    /// Put a prepared operation into the table; → its slot and its entry, to be queued.
    /// # Safety
    /// As `Ring::start`.
    pub(super) unsafe fn commit(&mut self, prepared: Prepared<'_>) -> (u32, Sqe) {
        let Prepared { start, mut sqe, extras, form, storage, mut redo } = prepared;
        // SAFETY: the caller's duty: the buffer is live.
        let reference = match start.template.buf.map(|buf| unsafe { buf.as_ref() }) {
            // SAFETY: the reference is the caller's to give.
            Some(buf) if extras.moves => Some(unsafe { BufRef::from_host(buf.into()) }),
            other => other.map(Buf::retain),
        };
        self.timeouts |= sqe.opcode == op::TIMEOUT;
        if self.redos.silent && redo.is_some() && matches!(sqe.opcode, op::SEND_ZC | op::SENDMSG_ZC) {
            sqe.ioprio &= !SEND_ZC_REPORT_USAGE;
        }
        let mark = |condition: bool, mark: u16| if condition { mark } else { 0 };
        let closes_file = sqe.opcode == op::CLOSE && sqe.file_index != 0 && form == Form::Close;
        let marks = mark(extras.moves, marks::MOVED)
            | mark(is_multishot(&sqe), marks::MULTISHOT)
            | mark(makes_descriptor(&sqe, form), marks::DESCRIPTOR)
            | mark(extras.installs || closes_file, marks::INSTALLED);
        let (slot, handle) = self.insert(&start, marks, &sqe, reference);
        sqe.user_data = handle;
        if let (false, Some(io)) = (names_file(&sqe), self.table.get(slot)) {
            io.fd = if closes_file { start.template.sqe.fd } else { -1 };
        }
        if let (Some(storage), Some(side)) = (storage, self.table.side(slot)) {
            side.storage.insert(storage).point(&mut sqe);
        }
        if redo.is_some() {
            if let Some(side) = self.table.side(slot) {
                redo.iter_mut().for_each(|redo| redo.sqe = sqe);
                side.redo = redo;
            }
        }
        if extras.timeout_ns > 0 {
            self.set_deadline(slot, Some(os::now().saturating_add(extras.timeout_ns as u64)));
        }
        (slot, sqe)
    }

    /// Put the I/O into the table; → its slot and handle.
    #[inline(always)]
    fn insert(&mut self, start: &Start<'_>, marks: u16, sqe: &Sqe, buf: Option<BufRef>) -> (u32, u64) {
        self.counts.unwanted += u32::from(start.to == To::Nobody);
        self.table.insert(Io {
            handle: 0,
            user_data: start.user_data,
            notify: start.callback,
            buf,
            to: start.to,
            state: At::Kernel,
            marks,
            opcode: sqe.opcode,
            fd: told_fd(sqe),
            deadline: deadlines::NONE,
            started_ms: self.clock_ms,
            result: 0,
            flags: 0,
            next: NO_SLOT,
        })
    }

    /// Put its entry into the queue, and count it.
    #[inline(always)]
    pub(super) fn accept(&mut self, slot: u32, sqe: &Sqe, me: usize) {
        #[cfg(debug_assertions)]
        self.watch.begin(slot, sqe, &mut self.table);
        if self.enqueue(sqe) {
            self.count_queued(slot);
        }
        self.count_accepted(slot, sqe, me);
    }

    #[inline(always)]
    pub(super) fn count_accepted(&mut self, slot: u32, sqe: &Sqe, me: usize) {
        if let Some(again) = self.again.get_mut(slot as usize) {
            *again = *sqe;
        }
        if self.held_back != 0 && self.driver == me {
            self.held_back = 0;
        }
        self.counts.started += 1;
    }

    /// See that there is room in the table for `count`: max_in_flight, of which a running terminal callback has one slot
    /// held back.
    #[inline(always)]
    pub(super) fn check_room(&mut self, me: usize, count: u32) -> Result<()> {
        if self.table.free() >= count + self.held_back { Ok(()) } else { self.make_room(me, count) }
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, me: usize, count: u32) -> Result<()> {
        let held_back = if self.driver == me { 0 } else { self.held_back };
        if self.table.free() < count + held_back {
            self.sweep();
        }
        if self.table.free() >= count + held_back {
            return Ok(());
        }
        if self.table.reserved() > 0 {
            // Not known yet: the handles for letters are taken back first.
            return Err(Status::EAGAIN);
        }
        self.counts.again += 1;
        self.want_room(count);
        Err(Status::EAGAIN)
    }

    #[cold]
    pub(super) fn count_queued(&mut self, slot: u32) {
        if let Some(io) = self.table.get(slot) {
            io.state = At::Queued;
        }
        self.counts.queued += 1;
        self.counts.high_queued = self.counts.high_queued.max(self.counts.queued);
    }
}
