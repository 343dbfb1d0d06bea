// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a start makes ready without the ring: the entry, and what it points to besides the buffer.

use super::buf::Buf;
use super::entries::{can_install, install};
use super::form::Form;
use super::message::{to_receive, to_send, vectored};
use super::op::{FIXED_BASE, MOST, Template, opcode};
use super::redo::Redo;
use super::start::{Extras, Start};
use super::storage::{Builder, Field, Storage, Tells};
use super::{Result, Status};
use crate::sys::entry::{op, sqe_flags};
use crate::sys::{Info, Sqe, os};

/// An operation as far as it can be made ready without the ring.
pub(super) struct Prepared<'a> {
    pub(super) start: Start<'a>,
    pub(super) sqe: Sqe,
    pub(super) extras: Extras<'a>,
    pub(super) form: Form,
    pub(super) storage: Option<Storage>,
    pub(super) redo: Option<Box<Redo>>,
}

impl<'a> Prepared<'a> {
    /// # Safety
    /// The template's buffer, if any, is live.
    pub(super) unsafe fn new(start: &Start<'a>, extras: Extras<'a>, in_chain: bool, info: &Info) -> Result<Self> {
        let form = start.template.form().ok_or(Status::EINVAL)?;
        let mut sqe = start.template.sqe;
        if !info.has_op(u32::from(sqe.opcode)) {
            return Err(Status::EOPNOTSUPP);
        }
        set_extras(&mut sqe, form, &extras)?;
        if extras.installs {
            if !can_install(&sqe, form) {
                return Err(Status::EINVAL);
            }
            if !info.installs {
                return Err(Status::EOPNOTSUPP);
            }
            install(&mut sqe);
        }
        if in_chain && form != Form::Raw && matches!(sqe.opcode, op::SEND | op::SENDMSG) {
            // Else a short one would not break the chain, and what follows would be sent in its stead.
            sqe.op_flags |= libc::MSG_WAITALL as u32;
        }
        // SAFETY: the caller's duty.
        let buf = start.template.buf.map(|buf| unsafe { buf.as_ref() });
        let storage = complete_entry(form, &mut sqe, start.template, buf, extras.lent)?;
        let redo = Redo::new(&mut sqe, form, &extras, in_chain, start.template.sqe.len, info)?;
        Ok(Self { start: *start, sqe, extras, form, storage, redo })
    }

    /// The descriptor whose other I/Os are to be cancelled first.
    pub(super) fn closes(&self) -> Option<i32> {
        (self.form == Form::Close).then_some(self.start.template.sqe.fd)
    }

    /// What the host asked to transfer; a list's entry counts vectors.
    pub(super) fn asked_len(&self) -> u32 {
        self.start.template.sqe.len
    }
}

/// What the host has set beside the operation. RWF_* and priorities are for reads and writes.
#[inline]
fn set_extras(sqe: &mut Sqe, form: Form, start: &Extras<'_>) -> Result<()> {
    if start.rw_flags != 0 || start.ioprio != 0 {
        if form != Form::Transfer || !matches!(sqe.opcode, op::READ | op::WRITE) {
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

/// Fill in what the constructor could not know; → what the entry points to.
fn complete_entry(
    form: Form,
    sqe: &mut Sqe,
    template: &Template,
    buf: Option<&Buf>,
    lent: [Option<&[u8]>; 3],
) -> Result<Option<Storage>> {
    let out = Out { buf, offset: template.buf_offset, len: template.out_len as usize };
    let lent_only = |_: &mut Sqe| lent.iter().any(Option::is_some).then(|| Storage::copied(lent)).transpose();
    match form {
        Form::Refused => return Err(Status::EINVAL),
        Form::Plain | Form::Marked | Form::Raw => return Ok(None),
        Form::Close => return close(sqe),
        Form::Transfer => return transfer(sqe, template, buf),
        Form::Path
        | Form::TwoPaths
        | Form::PathAndHow
        | Form::ValueIn
        | Form::Address
        | Form::OptionIn
        | Form::Array => {
            return lent_only(sqe);
        }
        Form::PathAndBuf => sqe.off = out.place(8)?,
        Form::ValueOut => sqe.off = out.place(1)?,
        Form::OptionOut => sqe.addr3 = out.place(1)?,
        Form::Info => sqe.off = out.place(8)?,
        Form::Events => sqe.addr = out.place(8)?,
        Form::AddressOut => return address_out(sqe, buf),
        Form::Pipe => return cell(Field::Addr, &[0; 8], Tells::Descriptors),
        Form::EpollEvent => return epoll_event(sqe),
        Form::Timeout => return Ok(Some(Storage::time(sqe.addr))),
        Form::Pages => sqe.addr = Out { len: whole_pages(sqe.len)?, ..out }.place(os::page_size())?,
        Form::Send => {
            let [_, name, control] = lent.map(Option::unwrap_or_default);
            return to_send(sqe, buf.ok_or(Status::EINVAL)?, template.buf_offset, name, control).map(Some);
        }
        Form::Receive => return to_receive(sqe, buf.ok_or(Status::EINVAL)?, template.buf_offset).map(Some),
    }
    lent_only(sqe)
}

/// A place in the buffer that the kernel writes to.
struct Out<'a> {
    buf: Option<&'a Buf>,
    offset: usize,
    len: usize,
}

impl Out<'_> {
    fn place(&self, alignment: u64) -> Result<u64> {
        let buf = self.buf.ok_or(Status::EINVAL)?;
        let address = place(buf, self.offset, self.len)?;
        if buf.is_list() || address % alignment != 0 { Err(Status::EINVAL) } else { Ok(address) }
    }
}

fn transfer(sqe: &mut Sqe, template: &Template, buf: Option<&Buf>) -> Result<Option<Storage>> {
    let buf = buf.ok_or(Status::EINVAL)?;
    if buf.is_list() {
        return vectored(sqe, buf, template.buf_offset).map(Some);
    }
    sqe.addr = place(buf, template.buf_offset, sqe.len as usize)?;
    Ok(None)
}

fn whole_pages(len: u32) -> Result<usize> {
    if u64::from(len) % os::page_size() == 0 { Ok(len as usize) } else { Err(Status::EINVAL) }
}

fn address_out(sqe: &mut Sqe, buf: Option<&Buf>) -> Result<Option<Storage>> {
    let buf = buf.filter(|buf| !buf.is_list()).ok_or(Status::EINVAL)?;
    sqe.addr = place(buf, 0, 0)?;
    cell(Field::Off, &(buf.len().min(MOST) as u32).to_ne_bytes(), Tells::Length)
}

/// Memory of its own that a field points to.
fn cell(field: Field, bytes: &[u8], tells: Tells) -> Result<Option<Storage>> {
    let mut block = Builder::new(bytes.len().div_ceil(8))?;
    block.point(field);
    block.bytes(bytes);
    Ok(Some(block.finish(tells)))
}

fn epoll_event(sqe: &mut Sqe) -> Result<Option<Storage>> {
    let event = libc::epoll_event { events: sqe.pad as u32, u64: sqe.addr3 };
    (sqe.pad, sqe.addr3) = (0, 0);
    // SAFETY: any event is so many bytes; what padding there may be comes from a value that was made with all of it set.
    let bytes: [u8; opcode::EPOLL_EVENT_SIZE as usize] = unsafe { std::mem::transmute(event) };
    cell(Field::Addr, &bytes, Tells::Nothing)
}

/// A registered file is closed by its slot; 0 is the sentinel's.
fn close(sqe: &mut Sqe) -> Result<Option<Storage>> {
    if sqe.fd == FIXED_BASE {
        return Err(Status::EINVAL);
    }
    if sqe.fd > FIXED_BASE {
        (sqe.fd, sqe.file_index) = (0, (sqe.fd - FIXED_BASE) as u32 + 1);
    }
    Ok(None)
}

/// The address of `len` bytes at `offset`.
#[inline]
pub(super) fn place(buf: &Buf, offset: usize, len: usize) -> Result<u64> {
    match offset.checked_add(len) {
        Some(end) if end <= buf.len() => Ok(buf.data().wrapping_add(offset).addr() as u64),
        _ => Err(Status::EINVAL),
    }
}
