// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations: plain descriptions of what to do, one constructor per verb.
//!
//! A paluring_op owns nothing: make it anywhere, start it as often as you like. A
//! constructor sets all fields, so set the public ones (callback, user_data, flags, ...)
//! afterwards. It can't fail: a bad argument makes the start return -EINVAL. Paths are
//! borrowed until the start returns.

use std::ffi::{c_char, c_int, c_void};

use super::buf::paluring_buf;
use super::guard::caught;
use super::handle::peek;
use super::io::paluring_complete_fn;
use crate::core::op::{Form, Template, opcode};

/// One operation, 128 bytes for good. Set by a paluring_op_ function; owns nothing, needs no destructor.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct paluring_op {
    /// Gets the completion; NULL: the I/O is kept for poll and wait, or see PALURING_OP_QUEUE and PALURING_OP_DETACHED.
    pub callback: paluring_complete_fn,
    /// Handed to the callback, and in the completion, as it is.
    pub user_data: usize,
    /// Above 0: cancelled if not done by then, in nanoseconds from the start; the result is -ETIME, or what was done with PALURING_COMPLETION_TIMED_OUT.
    pub timeout_ns: i64,
    /// PALURING_OP_*
    pub flags: u32,
    /// RWF_* of preadv2(2), on reads and writes.
    pub rw_flags: u32,
    /// ioprio_set(2), on reads and writes.
    pub ioprio: u16,
    /// 0 = the credentials of the thread that submits.
    pub personality: u16,
    /// 0
    pub reserved: u32,
    /// The library's.
    pub private_: [u64; 11],
}

/// Enter the kernel at once instead of at the next submit, wait or run; on another thread than the driver's: wake it.
/// Descriptors are looked up when the entry enters the kernel: until then, don't close them.
pub const PALURING_OP_SUBMIT: u32 = 1;
/// Start it on a worker thread of the kernel without trying it inline first (IOSQE_ASYNC).
pub const PALURING_OP_ASYNC: u32 = 2;
/// Deliver to paluring_ring_reap.
pub const PALURING_OP_QUEUE: u32 = 4;
/// Deliver to nobody: the result is discarded, a descriptor in it is closed, a failure is counted in the stats.
pub const PALURING_OP_DETACHED: u32 = 8;
/// A successful start takes the caller's reference to the buffer, and the completion gives it back.
pub const PALURING_OP_MOVE: u32 = 16;

/// Describe doing nothing: completes with 0.
/// @param op  out
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_nop(op: *mut paluring_op) {
    set(op, || Template::new(opcode::NOP, -1, Form::Plain));
}

/// Describe a read into a buffer, or into the members of a list in order.
/// The result is the number of bytes, which may be less than len; 0 at the end of the file.
/// @param op           out
/// @param fd           file, pipe or socket
/// @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset   bytes from the start of buf
/// @param len          bytes, at most 2^31 - 4096; buf_offset + len within buf
/// @param file_offset  bytes from the start of the file; UINT64_MAX = the file's position
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: pread(2), preadv2(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_read(
    op: *mut paluring_op,
    fd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    file_offset: u64,
) {
    set(op, || Template::transfer(opcode::READ, fd, peek(buf), buf_offset, len, file_offset));
}

/// Describe a write from a buffer, or from the members of a list in order.
/// The result is the number of bytes, which may be less than len.
/// @param op           out
/// @param fd           file, pipe or socket
/// @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset   bytes from the start of buf
/// @param len          bytes, at most 2^31 - 4096; buf_offset + len within buf
/// @param file_offset  bytes from the start of the file; UINT64_MAX = the file's position
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: pwrite(2), pwritev2(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_write(
    op: *mut paluring_op,
    fd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    file_offset: u64,
) {
    set(op, || Template::transfer(opcode::WRITE, fd, peek(buf), buf_offset, len, file_offset));
}

/// Describe flushing a file's data and metadata to its device. Not ordered after writes that are in flight.
/// @param op  out
/// @param fd  file
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
/// See: fsync(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fsync(op: *mut paluring_op, fd: c_int) {
    set(op, || Template::new(opcode::FSYNC, fd, Form::Plain));
}

/// Describe flushing a file's data, and only the metadata needed to read it, to its device.
/// @param op  out
/// @param fd  file
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
/// See: fdatasync(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fdatasync(op: *mut paluring_op, fd: c_int) {
    set(op, || Template::new(opcode::FSYNC, fd, Form::Plain).op_flags(opcode::FSYNC_DATASYNC));
}

/// Describe opening a file. The result is the descriptor, the host's to close.
/// @param op     out
/// @param dirfd  directory for a relative path, or AT_FDCWD
/// @param path   borrowed until the start returns
/// @param flags  O_*
/// @param mode   permissions of a file that O_CREAT or O_TMPFILE makes
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: openat(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_openat(
    op: *mut paluring_op,
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: u32,
) {
    set(op, || Template::new(opcode::OPENAT, dirfd, Form::Path).path(path.addr()).len(mode).op_flags(flags as u32));
}

/// Describe closing a descriptor. This ring's other I/Os on it are cancelled first, so that a peer sees the end.
/// @param op  out
/// @param fd  descriptor
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: close(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_close(op: *mut paluring_op, fd: c_int) {
    set(op, || Template::new(opcode::CLOSE, fd, Form::Close));
}

/// Describe reading a file's metadata into a buffer, as a struct statx.
/// @param op          out
/// @param dirfd       directory for a relative path, a file with AT_EMPTY_PATH, or AT_FDCWD
/// @param path        borrowed until the start returns
/// @param flags       AT_*
/// @param mask        STATX_*
/// @param buf         borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours); not a list
/// @param buf_offset  bytes from the start of buf, a multiple of 8; 256 bytes from there within buf
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: statx(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_statx(
    op: *mut paluring_op,
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mask: u32,
    buf: *mut paluring_buf,
    buf_offset: usize,
) {
    let template = Template::new(opcode::STATX, dirfd, Form::PathAndBuf);
    set(op, || {
        template.path(path.addr()).len(mask).op_flags(flags as u32).output(peek(buf), buf_offset, opcode::STATX_SIZE)
    });
}

/// Describe allocating, punching or zeroing a range of a file.
/// @param op           out
/// @param fd           file
/// @param mode         FALLOC_FL_*, or 0
/// @param file_offset  bytes from the start of the file
/// @param len          bytes
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: fallocate(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fallocate(
    op: *mut paluring_op,
    fd: c_int,
    mode: c_int,
    file_offset: u64,
    len: u64,
) {
    set(op, || Template::new(opcode::FALLOCATE, fd, Form::Plain).offset(file_offset).addr(len).len(mode as u32));
}

/// Describe setting a file's length. Before Linux 6.9 the start returns -EOPNOTSUPP.
/// @param op      out
/// @param fd      file
/// @param length  bytes
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.9
/// See: ftruncate(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_ftruncate(op: *mut paluring_op, fd: c_int, length: u64) {
    set(op, || Template::new(opcode::FTRUNCATE, fd, Form::Plain).offset(length));
}

/// Describe a timer. The result is -ETIME when it has run out, -ECANCELED when cancelled.
/// @param op       out
/// @param time_ns  nanoseconds from its submission, or with IORING_TIMEOUT_ABS a point of CLOCK_MONOTONIC; not negative
/// @param flags    0 or of IORING_TIMEOUT_ABS, _BOOTTIME, _REALTIME, _ETIME_SUCCESS
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.4
/// See: io_uring_prep_timeout(3), clock_gettime(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_timeout(op: *mut paluring_op, time_ns: i64, flags: u32) {
    set(op, || Template::timeout(time_ns, flags));
}

/// Describe waiting until a descriptor is ready. The result is the events that are, as in revents.
/// @param op      out
/// @param fd      pipe, socket, eventfd, ...
/// @param events  POLLIN, POLLOUT, ...
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
/// See: poll(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_poll(op: *mut paluring_op, fd: c_int, events: u32) {
    set(op, || Template::new(opcode::POLL_ADD, fd, Form::Plain).op_flags(opcode::poll_events(events)));
}

/// Describe any operation, by a submission entry as the kernel defines it.
/// The one operation that can be unsafe: the entry may point anywhere, and what it points to must stay valid until
/// the completion. buf, if given, is held until then. The library sets user_data, and checks opcode and flags:
/// of the flags only IOSQE_FIXED_FILE and IOSQE_ASYNC; no MSG_RING, LINK_TIMEOUT, FILES_UPDATE, URING_CMD or 128-byte opcode; not
/// registered file 0, which is the library's.
/// @param op   out
/// @param sqe  64 bytes of struct io_uring_sqe, copied
/// @param buf  borrowed, or NULL: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1
/// See: io_uring_enter(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_raw(op: *mut paluring_op, sqe: *const c_void, buf: *mut paluring_buf) {
    // SAFETY: host: sqe is NULL or 64 readable bytes.
    let bytes = (!sqe.is_null()).then(|| unsafe { sqe.cast::<[u8; 64]>().read_unaligned() });
    set(op, || Template::raw(bytes, peek(buf)));
}

/// Write a description over all of `op`; NULL does nothing.
fn set(op: *mut paluring_op, template: impl FnOnce() -> Template) {
    if op.is_null() {
        return;
    }
    let template = caught(Template::refused(), template);
    let whole = paluring_op {
        callback: None,
        user_data: 0,
        timeout_ns: 0,
        flags: 0,
        rw_flags: 0,
        ioprio: 0,
        personality: 0,
        reserved: 0,
        private_: template.into_words(),
    };
    // SAFETY: host: op is writable.
    unsafe { op.write(whole) };
}
