// SPDX-License-Identifier: MIT OR Apache-2.0
//! The descriptions of operations: a submission entry as far as it can be known before a
//! start, and how the start completes it. A new operation is a constructor that fills
//! fields; only a new way of completing an entry is a new `Form`.

use std::ptr::NonNull;

use super::Buf;
use crate::sys::{Sqe, entry};

/// Operation codes and flags that constructors need, in the kernel's values.
pub(crate) mod opcode {
    pub(crate) use crate::sys::entry::op::*;
    pub(crate) use crate::sys::entry::{FSYNC_DATASYNC, poll32 as poll_events};

    /// Of a struct statx.
    pub(crate) const STATX_SIZE: u32 = 256;
}

/// How a start completes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Form {
    /// A constructor was given what it can't take.
    Refused = 1,
    /// The entry is complete, and every kernel that is good enough for a ring has the operation.
    Plain,
    /// A read or write of a buffer or a list; `addr` and the vectored form are the start's.
    Transfer,
    /// As `Plain`, of an operation that the kernel may lack.
    Newer,
    /// `addr` is the host's path, to be copied.
    Path,
    /// As `Path`; and the kernel writes into the buffer, at `addr2`.
    PathAndBuf,
    /// Other I/Os on the descriptor are cancelled first.
    Close,
    /// `addr` is a time in nanoseconds, to become a pointer to a timespec.
    Timeout,
    /// The host's entry; the buffer is only held.
    Raw,
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

/// The last operation of Linux 5.11. The features that a ring needs came with it.
const LAST_SURE: u8 = 36;

/// The most that the kernel transfers at once (MAX_RW_COUNT with 4 KiB pages).
pub(super) const MOST: usize = 0x7fff_f000;

impl Template {
    #[inline]
    pub(crate) fn new(opcode: u8, fd: i32, form: Form) -> Self {
        let form = if form == Form::Plain && opcode > LAST_SURE { Form::Newer } else { form };
        let sqe = Sqe { opcode, fd, ..Sqe::default() };
        Self { sqe, buf: None, buf_offset: 0, out_len: 0, tag: MAGIC | form as u32 }
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
        let mut template = Self::new(opcode, fd, Form::Transfer).offset(file_offset).len(length);
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

    /// The address of a path of the host's.
    pub(crate) fn path(self, path: usize) -> Self {
        if path == 0 { Self::refused() } else { self.addr(path as u64) }
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
        const PLAIN: u32 = MAGIC | Form::Plain as u32;
        const TRANSFER: u32 = MAGIC | Form::Transfer as u32;
        match self.tag {
            PLAIN => Some(Form::Plain),
            TRANSFER => Some(Form::Transfer),
            other => Self::rare_form(other),
        }
    }

    /// A start need not copy anything for it.
    #[inline(always)]
    pub(crate) fn is_simple(&self) -> bool {
        matches!(self.form(), Some(Form::Plain | Form::Newer | Form::Transfer))
    }

    /// As `is_simple`, and the kernel has the operation.
    #[inline(always)]
    pub(super) fn is_sure(&self) -> bool {
        matches!(self.form(), Some(Form::Plain | Form::Transfer))
    }

    /// The same, of a template that no constructor has looked at.
    pub(super) fn is_simple_and_whole(&self) -> bool {
        self.form() == Some(Form::Plain) || self.form() == Some(Form::Transfer) && self.buf.is_some()
    }

    #[cold]
    fn rare_form(tag: u32) -> Option<Form> {
        [Form::Newer, Form::Path, Form::PathAndBuf, Form::Close, Form::Timeout, Form::Raw]
            .into_iter()
            .find(|form| tag == MAGIC | *form as u32)
    }

    /// The buffer that a constructor was given, if one has set this at all.
    #[inline]
    pub(crate) fn buf(&self) -> Option<NonNull<Buf>> {
        if self.tag & !0xff == MAGIC { self.buf } else { None }
    }

    /// The path that a start must copy.
    #[inline(always)]
    pub(crate) fn host_path(&self) -> Option<usize> {
        matches!(self.form(), Some(Form::Path | Form::PathAndBuf)).then_some(self.sqe.addr as usize)
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

/// Whether the library can follow an entry of the host's to its one terminal completion.
fn trackable(sqe: &Sqe) -> bool {
    use entry::{op, sqe_flags};
    const FLAGS: u8 = sqe_flags::FIXED_FILE | sqe_flags::ASYNC;
    const _: () = assert!(
        FLAGS
            & (sqe_flags::IO_DRAIN
                | sqe_flags::IO_LINK
                | sqe_flags::IO_HARDLINK
                | sqe_flags::CQE_SKIP_SUCCESS
                | sqe_flags::BUFFER_SELECT)
            == 0
    );
    // An update of a poll could rename an I/O of the library's.
    let renames = sqe.opcode == op::POLL_REMOVE && sqe.len & entry::POLL_UPDATE_USER_DATA != 0;
    let opcode = !renames
        && !matches!(
            sqe.opcode,
            op::MSG_RING | op::LINK_TIMEOUT | op::FILES_UPDATE | op::URING_CMD | op::NOP128 | op::URING_CMD128
        );
    // Slot 0 of the registered files is the sentinel's: not to be used, replaced (indices here count from 1) or closed.
    let installs = matches!(sqe.opcode, op::OPENAT | op::OPENAT2 | op::CLOSE | op::ACCEPT | op::SOCKET | op::PIPE);
    let file = (sqe.flags & sqe_flags::FIXED_FILE == 0 || sqe.fd > 0) && !(installs && sqe.file_index == 1);
    // It would act on the process's descriptor of that number: the kernel doesn't look at the flag.
    let ignores = sqe.opcode == op::EPOLL_CTL && sqe.flags & sqe_flags::FIXED_FILE != 0;
    opcode && sqe.flags & !FLAGS == 0 && file && !ignores
}

/// Whether an entry's result is a descriptor of the process, which only its taker knows. (A direct install's is a slot.)
#[cold]
pub(super) fn makes_descriptor(sqe: &Sqe) -> bool {
    use entry::op;
    let opens = matches!(sqe.opcode, op::OPENAT | op::OPENAT2 | op::ACCEPT | op::SOCKET);
    opens && sqe.file_index == 0 || sqe.opcode == op::FIXED_FD_INSTALL
}

/// Whether an entry may complete several times.
#[cold]
pub(super) fn is_multishot(sqe: &Sqe) -> bool {
    use entry::op;
    match sqe.opcode {
        op::POLL_ADD => sqe.len & entry::POLL_MULTI != 0,
        op::ACCEPT => sqe.ioprio & entry::ACCEPT_MULTISHOT != 0,
        op::RECV | op::RECVMSG => sqe.ioprio & entry::RECV_MULTISHOT != 0,
        op::TIMEOUT => sqe.op_flags & entry::TIMEOUT_MULTISHOT != 0,
        op::READ_MULTISHOT => true,
        _ => false,
    }
}
