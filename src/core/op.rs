// SPDX-License-Identifier: MIT OR Apache-2.0
//! The descriptions of operations: a submission entry as far as it can be known before a
//! start, and how the start completes it. A new operation is a constructor that fills
//! fields; only a new way of completing an entry is a new `Form`.

use std::ptr::NonNull;

use super::Buf;
use super::entries::trackable;
pub(crate) use super::form::{Borrowed, Form};
use crate::sys::{Sqe, entry};

/// Operation codes and flags that constructors need, in the kernel's values.
pub(crate) mod opcode {
    pub(crate) use crate::sys::entry::op::*;
    pub(crate) use crate::sys::entry::{
        ACCEPT_MULTISHOT, FSYNC_DATASYNC, POLL_MULTI, poll32 as poll_events, socket_op,
    };

    /// Of a struct statx.
    pub(crate) const STATX_SIZE: u32 = 256;
    /// Of a siginfo_t.
    pub(crate) const SIGINFO_SIZE: u32 = 128;
    /// Of a struct futex_waitv.
    pub(crate) const FUTEX_WAITV_SIZE: u32 = 24;
    /// Of a struct epoll_event.
    pub(crate) const EPOLL_EVENT_SIZE: u32 = size_of::<libc::epoll_event>() as u32;
    /// The most that FUTEX_WAITV takes.
    pub(crate) const FUTEXES: u32 = 128;
}

/// What a paluring_op holds in private: 88 bytes. Any bytes at all may stand there, so only `form` makes sense of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Template {
    pub(super) sqe: Sqe,
    pub(super) buf: Option<NonNull<Buf>>,
    pub(super) buf_offset: usize,
    /// Bytes that the kernel may write into the buffer, for forms that don't say it in the entry.
    pub(super) out_len: u32,
    /// MAGIC and the form.
    tag: u32,
}

const _: () = assert!(size_of::<Template>() == 88);
const MAGIC: u32 = 0x706c_7200;
const PLAIN: u32 = MAGIC | Form::Plain as u32;
const TRANSFER: u32 = MAGIC | Form::Transfer as u32;
const _: () = assert!(TRANSFER == PLAIN + 1);

/// From here on a descriptor is a registered file of the ring: its index, plus this.
pub(crate) const FIXED_BASE: i32 = 1 << 30;

/// The last operation of Linux 5.11. The features that a ring needs came with it.
const LAST_SURE: u8 = 36;

/// The most that the kernel transfers at once (MAX_RW_COUNT with 4 KiB pages).
pub(super) const MOST: usize = 0x7fff_f000;

impl Template {
    /// Of a descriptor of the process, or none.
    #[inline]
    pub(crate) fn new(opcode: u8, fd: i32, form: Form) -> Self {
        let sqe = Sqe { opcode, fd, ..Sqe::default() };
        let form = match form {
            _ if fd >= FIXED_BASE => Form::Refused,
            // The kernel is asked whether it has it.
            Form::Plain if opcode > LAST_SURE => Form::Marked,
            form => form,
        };
        Self { sqe, buf: None, buf_offset: 0, out_len: 0, tag: MAGIC | form as u32 }
    }

    /// Of a descriptor of the process, or a registered file of the ring.
    #[inline]
    pub(crate) fn on(opcode: u8, fd: i32, form: Form) -> Self {
        if fd < FIXED_BASE { Self::new(opcode, fd, form) } else { Self::on_fixed(opcode, fd - FIXED_BASE, form) }
    }

    #[cold]
    fn on_fixed(opcode: u8, index: i32, form: Form) -> Self {
        // Slot 0 is the sentinel's.
        let form = if index == 0 { Form::Refused } else { form };
        let mut template = Self::new(opcode, index, form);
        template.sqe.flags = entry::sqe_flags::FIXED_FILE;
        template
    }

    pub(crate) fn refused() -> Self {
        Self::new(entry::op::NOP, -1, Form::Refused)
    }

    #[inline]
    pub(crate) fn transfer(
        opcode: u8,
        fd: i32,
        buf: Option<NonNull<Buf>>,
        buf_offset: usize,
        len: usize,
        file_offset: u64,
    ) -> Self {
        let Ok(length) = u32::try_from(len) else { return Self::refused() };
        let mut template = Self::on(opcode, fd, Form::Transfer).offset(file_offset).len(length);
        template.buf = buf;
        template.buf_offset = buf_offset;
        if len > MOST || buf.is_none() { Self::refused() } else { template }
    }

    pub(crate) fn timeout(time_ns: i64, flags: u32) -> Self {
        let known =
            entry::TIMEOUT_ABS | entry::TIMEOUT_BOOTTIME | entry::TIMEOUT_REALTIME | entry::TIMEOUT_ETIME_SUCCESS;
        match u64::try_from(time_ns) {
            Ok(time) if flags & !known == 0 => {
                Self::new(entry::op::TIMEOUT, -1, Form::Timeout).addr(time).len(1).op_flags(flags)
            }
            _ => Self::refused(),
        }
    }

    pub(crate) fn timeout_multishot(time_ns: i64, count: u32, flags: u32) -> Self {
        let mut template = Self::timeout(time_ns, flags).offset(count.into());
        template.sqe.op_flags |= entry::TIMEOUT_MULTISHOT;
        template
    }

    pub(crate) fn close(fd: i32) -> Self {
        let mut template = Self::new(entry::op::CLOSE, -1, Form::Close);
        // Of either kind; the start tells.
        template.sqe.fd = fd;
        template
    }

    pub(crate) fn raw(sqe: Option<[u8; 64]>, buf: Option<NonNull<Buf>>) -> Self {
        let Some(bytes) = sqe else { return Self::refused() };
        // SAFETY: any 64 bytes are an entry.
        let sqe: Sqe = unsafe { std::mem::transmute(bytes) };
        if !trackable(&sqe) {
            return Self::refused();
        }
        Self { sqe, buf, ..Self::new(sqe.opcode, sqe.fd, Form::Raw) }
    }

    #[inline]
    pub(crate) fn offset(mut self, offset: u64) -> Self {
        self.sqe.off = offset;
        self
    }

    #[inline]
    pub(crate) fn addr(mut self, addr: u64) -> Self {
        self.sqe.addr = addr;
        self
    }

    #[inline]
    pub(crate) fn len(mut self, len: u32) -> Self {
        self.sqe.len = len;
        self
    }

    #[inline]
    pub(crate) fn op_flags(mut self, flags: u32) -> Self {
        self.sqe.op_flags = flags;
        self
    }

    #[inline]
    pub(crate) fn addr3(mut self, addr3: u64) -> Self {
        self.sqe.addr3 = addr3;
        self
    }

    #[inline]
    pub(crate) fn file_index(mut self, index: u32) -> Self {
        self.sqe.file_index = index;
        self
    }

    #[inline]
    pub(crate) fn pad(mut self, pad: u64) -> Self {
        self.sqe.pad = pad;
        self
    }

    #[inline]
    pub(crate) fn ioprio(mut self, flags: u16) -> Self {
        self.sqe.ioprio = flags;
        self
    }

    /// The address of a path of the host's.
    pub(crate) fn path(self, path: usize) -> Self {
        self.addr(path as u64).needs(path != 0)
    }

    /// As `path`, of the second one.
    pub(crate) fn second_path(self, path: usize) -> Self {
        self.offset(path as u64).needs(path != 0)
    }

    /// An array of the host's, of so many bytes.
    pub(crate) fn array(mut self, address: usize, bytes: u32) -> Self {
        self.out_len = bytes;
        self.addr(address as u64).needs(address != 0)
    }

    /// Refused, unless the condition holds.
    #[inline]
    pub(crate) fn needs(self, condition: bool) -> Self {
        if condition { self } else { Self::refused() }
    }

    /// A buffer for the start to look into.
    pub(crate) fn data(mut self, buf: Option<NonNull<Buf>>, offset: usize, len: usize) -> Self {
        self.buf = buf;
        self.buf_offset = offset;
        self.sqe.len = len as u32;
        self.needs(buf.is_some() && len <= MOST)
    }

    /// Where a message goes to.
    pub(crate) fn to(self, address: usize, len: u32) -> Self {
        self.offset(address as u64).file_index(len).needs(len == 0 || address != 0)
    }

    pub(crate) fn control(self, address: usize, len: u32) -> Self {
        self.addr3(address as u64).pad(len.into()).needs(len == 0 || address != 0)
    }

    /// A send's flags. No signal for a peer that is gone; and a copy that the kernel puts off beyond the completion is no flag.
    pub(crate) fn sends(self, flags: u32) -> Self {
        self.op_flags(flags | libc::MSG_NOSIGNAL as u32).needs(flags & libc::MSG_ZEROCOPY as u32 == 0)
    }

    /// Another descriptor to read from, which may be a registered file.
    pub(crate) fn source(mut self, fd: i32) -> Self {
        let is_fixed = fd >= FIXED_BASE;
        self.sqe.op_flags |= if is_fixed { entry::SPLICE_FD_IN_FIXED } else { 0 };
        self.sqe.file_index = if is_fixed { fd - FIXED_BASE } else { fd } as u32;
        // The host's flags must not say so by themselves.
        self.needs(fd != FIXED_BASE && (is_fixed || self.sqe.op_flags & entry::SPLICE_FD_IN_FIXED == 0))
    }

    /// Where the kernel writes `len` bytes.
    pub(crate) fn output(mut self, buf: Option<NonNull<Buf>>, offset: usize, len: u32) -> Self {
        self.buf = buf;
        self.buf_offset = offset;
        self.out_len = len;
        if buf.is_none() { Self::refused() } else { self }
    }

    /// `None`: no constructor has set it, or one has refused.
    #[inline(always)]
    pub(crate) fn form(&self) -> Option<Form> {
        match self.tag {
            PLAIN => Some(Form::Plain),
            TRANSFER => Some(Form::Transfer),
            other => Self::rare_form(other),
        }
    }

    /// A start need not copy anything for it.
    #[inline(always)]
    pub(crate) fn is_simple(&self) -> bool {
        // Next to each other: one comparison.
        matches!(self.tag, PLAIN..=TRANSFER)
    }

    /// The same, of a template that no constructor has looked at.
    pub(super) fn is_simple_and_whole(&self) -> bool {
        self.form() == Some(Form::Plain) || self.form() == Some(Form::Transfer) && self.buf.is_some()
    }

    #[cold]
    fn rare_form(tag: u32) -> Option<Form> {
        Form::RARE.into_iter().find(|form| tag == MAGIC | *form as u32)
    }

    /// The buffer that a constructor was given, if one has set this at all.
    #[inline]
    pub(crate) fn buf(&self) -> Option<NonNull<Buf>> {
        if self.tag & !0xff == MAGIC { self.buf } else { None }
    }

    #[inline]
    pub(crate) fn into_words(self) -> [u64; 11] {
        // SAFETY: 88 bytes without padding, as the fields show.
        unsafe { std::mem::transmute(self) }
    }

    #[inline]
    pub(crate) fn from_words(words: &[u64; 11]) -> &Self {
        // SAFETY: same size and alignment, and every bit pattern is a value of each field.
        unsafe { &*(&raw const *words).cast() }
    }
}
