// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting I/Os: from a description to an entry in the submission queue.

use super::alloc::try_vec;
use super::buf::{Buf, BufRef};
use super::op::{Form, MOST, Template, is_multishot};
use super::ring::Ring;
use super::state::State;
use super::table::{Boxed, HostFn, State as At, Storage, TimeSpec, To, marks};
use super::{Result, Status};
use crate::sys::entry::{op, sqe_flags};
use crate::sys::{Backend, Sqe, os};

/// What a host asks for.
pub(crate) struct Start<'a> {
    pub(crate) template: &'a Template,
    /// What the entry points to: the copy of the template's path, or what the start makes.
    pub(crate) storage: Option<Storage>,
    pub(crate) to: To,
    pub(crate) callback: Option<HostFn>,
    pub(crate) user_data: usize,
    pub(crate) timeout_ns: i64,
    pub(crate) is_async: bool,
    pub(crate) moves: bool,
    pub(crate) submits: bool,
    pub(crate) rw_flags: u32,
    pub(crate) ioprio: u16,
    pub(crate) personality: u16,
}

impl<B: Backend> Ring<B> {
    /// Accept an I/O; its handle is in `out` before any other thread can complete it. On failure nothing was taken.
    /// # Safety
    /// The template's buffer, if any, is live, and with `moves` one reference to it is the caller's to give.
    #[inline]
    pub(crate) unsafe fn start(&self, start: Start<'_>, out: &mut u64) -> Result<()> {
        let submits = start.submits;
        let me = os::thread_id();
        let mut state = self.lock(me);
        // SAFETY: the caller's duty.
        *out = unsafe { state.start(start, me, self.info()) }?;
        let kick = state.kick_due(self.is_asleep(), me == self.owner());
        drop(state);
        if kick || submits {
            self.after_start(me, kick, submits);
        }
        Ok(())
    }

    #[cold]
    fn after_start(&self, me: usize, kick: bool, submits: bool) {
        if kick {
            self.kick();
        } else if submits {
            self.submit_if_driver(me);
        }
    }
}

impl<B: Backend> State<B> {
    /// # Safety
    /// As `Ring::start`.
    #[inline]
    unsafe fn start(&mut self, mut start: Start<'_>, me: usize, info: &crate::sys::Info) -> Result<u64> {
        self.check_open()?;
        let form = start.template.form().ok_or(Status::EINVAL)?;
        let mut sqe = start.template.sqe;
        if !info.has_op(u32::from(sqe.opcode)) {
            return Err(Status::EOPNOTSUPP);
        }
        set_extras(&mut sqe, form, &start)?;
        // SAFETY: the caller's duty: the buffer is live.
        let buf = start.template.buf.map(|buf| unsafe { buf.as_ref() });
        if form != Form::Plain {
            complete_entry(form, &mut sqe, start.template, buf, &mut start.storage)?;
        }
        self.check_room(me)?;
        if start.timeout_ns > 0 {
            self.deadlines.reserve()?;
        }
        if form == Form::Close {
            self.cancel_fd(sqe.fd)?;
        }
        self.reserve_entry()?;
        // From here on nothing fails.
        // SAFETY: with `moves`, the reference is the caller's to give.
        let reference = buf.map(|buf| unsafe { self.reference(buf, start.moves, me) });
        Ok(self.accept(start, me, form, sqe, reference))
    }

    /// Put the I/O into the table and its entry into the queue; → the handle.
    #[inline]
    fn accept(&mut self, start: Start<'_>, me: usize, form: Form, mut sqe: Sqe, buf: Option<BufRef>) -> u64 {
        let io = self.new_io(start.to, start.user_data, start.callback, buf, &sqe);
        let (slot, io) = self.table.insert(io);
        let handle = io.handle;
        sqe.user_data = handle;
        if start.moves {
            io.marks |= marks::MOVED;
        }
        if form == Form::Raw && is_multishot(&sqe) {
            io.marks |= marks::MULTISHOT;
        }
        if let Some(storage) = start.storage {
            sqe.addr = io.storage.insert(storage).address();
        }
        if start.to == To::Nobody {
            self.counts.unwanted += 1;
        }
        if let Some(again) = self.again.get_mut(slot as usize) {
            *again = sqe;
        }
        if self.enqueue(&sqe) {
            self.count_queued(slot);
        }
        if start.timeout_ns > 0 {
            self.set_deadline(slot, Some(os::now().saturating_add(start.timeout_ns as u64)));
        }
        if self.driver == me {
            self.held_back = 0;
        }
        self.counts.started += 1;
        self.counts.high_in_flight = self.counts.high_in_flight.max(self.table.len());
        handle
    }

    /// See that there is room in the table: max_in_flight, of which a running terminal callback has one slot held back.
    #[inline]
    fn check_room(&mut self, me: usize) -> Result<()> {
        let held_back = if self.driver == me { 0 } else { self.held_back };
        if self.table.len() + held_back < self.table.capacity() {
            return Ok(());
        }
        self.sweep();
        if self.table.len() + held_back < self.table.capacity() {
            return Ok(());
        }
        self.counts.again += 1;
        Err(Status::EAGAIN)
    }

    /// A reference of the I/O's own: the caller's, the one lent to the running callback, or a new one.
    /// # Safety
    /// With `moves`, the caller gives one reference up.
    #[inline]
    unsafe fn reference(&self, buf: &Buf, moves: bool, me: usize) -> BufRef {
        if moves {
            // SAFETY: the caller's duty.
            return unsafe { BufRef::from_raw(buf.into()) };
        }
        if self.calling && self.driver == me && !self.lent.is_null() {
            // SAFETY: this is the driver's thread, within the callback that the session lends to.
            if let Some(lent) = unsafe { &*self.lent }.pass_on(buf) {
                return lent;
            }
        }
        buf.retain()
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

/// What the host has set beside the operation. RWF_* and priorities are for reads and writes.
#[inline]
fn set_extras(sqe: &mut Sqe, form: Form, start: &Start<'_>) -> Result<()> {
    if start.rw_flags != 0 || start.ioprio != 0 {
        if form != Form::Transfer {
            return Err(Status::EINVAL);
        }
        sqe.op_flags = start.rw_flags;
        sqe.ioprio = start.ioprio;
    }
    if start.is_async {
        sqe.flags |= sqe_flags::ASYNC;
    }
    if start.personality != 0 {
        sqe.personality = start.personality;
    }
    Ok(())
}

/// Fill in what the constructor could not know.
fn complete_entry(
    form: Form,
    sqe: &mut Sqe,
    template: &Template,
    buf: Option<&Buf>,
    storage: &mut Option<Storage>,
) -> Result<()> {
    match form {
        Form::Refused => return Err(Status::EINVAL),
        Form::Plain | Form::Close | Form::Raw | Form::Path => {}
        Form::Transfer => {
            let buf = buf.ok_or(Status::EINVAL)?;
            if buf.is_list() {
                *storage = Some(vectored(sqe, buf, template.buf_offset)?);
            } else {
                sqe.addr = place(buf, template.buf_offset, sqe.len as usize)?;
            }
        }
        Form::PathAndBuf => {
            let buf = buf.ok_or(Status::EINVAL)?;
            if buf.is_list() || template.buf_offset % 8 != 0 {
                return Err(Status::EINVAL);
            }
            sqe.off = place(buf, template.buf_offset, template.out_len as usize)?;
        }
        Form::Timeout => *storage = Some(smallbox::smallbox!(TimeSpec::from_ns(sqe.addr))),
    }
    Ok(())
}

/// The address of `len` bytes at `offset`.
#[inline]
fn place(buf: &Buf, offset: usize, len: usize) -> Result<u64> {
    match offset.checked_add(len) {
        Some(end) if end <= buf.len() => Ok(buf.data().wrapping_add(offset).addr() as u64),
        _ => Err(Status::EINVAL),
    }
}

/// The vectored form of a transfer: `len` bytes from `offset` of a list.
fn vectored(sqe: &mut Sqe, list: &Buf, mut offset: usize) -> Result<Storage> {
    let mut left = sqe.len as usize;
    if offset.checked_add(left).is_none_or(|end| end > list.len()) || left > MOST {
        return Err(Status::EINVAL);
    }
    let mut vectors = try_vec::<[usize; 2]>(list.members().len())?;
    for member in list.members() {
        let skipped = offset.min(member.len());
        offset -= skipped;
        let len = left.min(member.len() - skipped);
        left -= len;
        if len > 0 {
            vectors.push([member.data().wrapping_add(skipped).addr(), len]);
        }
    }
    sqe.opcode = if sqe.opcode == op::READ { op::READV } else { op::WRITEV };
    sqe.len = vectors.len() as u32;
    Ok(smallbox::smallbox!(Boxed::new(vectors)))
}
