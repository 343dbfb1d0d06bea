// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on open files and memory.
//!
//! A fixed fd (paluring_file_register, PALURING_OP_FIXED) is taken for fd by all of these.

use std::ffi::c_int;

use super::buf::paluring_buf;
use super::handle::peek;
use super::op::{paluring_op, set};
use crate::core::op::{Form, Template, opcode};

/// Describe a read into a buffer, or into the members of a list in order.
/// The result is the number of bytes, which may be less than len (but see PALURING_OP_FULL); 0 at the end of the file.
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
/// The result is the number of bytes, which may be less than len (but see PALURING_OP_FULL).
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
    set(op, || Template::on(opcode::FSYNC, fd, Form::Plain));
}

/// Describe flushing a file's data, and only the metadata needed to read it, to its device.
/// @param op  out
/// @param fd  file
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
/// See: fdatasync(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fdatasync(op: *mut paluring_op, fd: c_int) {
    set(op, || Template::on(opcode::FSYNC, fd, Form::Plain).op_flags(opcode::FSYNC_DATASYNC));
}

/// Describe writing a range of a file's pages out. It flushes no metadata and no device's cache.
/// @param op           out
/// @param fd           file
/// @param file_offset  bytes from the start of the file
/// @param len          bytes; 0 = to the end
/// @param flags        SYNC_FILE_RANGE_*
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.2
/// See: sync_file_range(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_sync_file_range(
    op: *mut paluring_op,
    fd: c_int,
    file_offset: u64,
    len: u32,
    flags: u32,
) {
    set(op, || Template::on(opcode::SYNC_FILE_RANGE, fd, Form::Plain).offset(file_offset).len(len).op_flags(flags));
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
    set(op, || Template::on(opcode::FALLOCATE, fd, Form::Plain).offset(file_offset).addr(len).len(mode as u32));
}

/// Describe setting a file's length. Before Linux 6.9 the start returns -EOPNOTSUPP.
/// @param op      out
/// @param fd      file
/// @param length  bytes
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.9
/// See: ftruncate(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_ftruncate(op: *mut paluring_op, fd: c_int, length: u64) {
    set(op, || Template::on(opcode::FTRUNCATE, fd, Form::Plain).offset(length));
}

/// Describe telling how a range of a file will be used.
/// Kernels that take only 32 bits for the length answer a larger one with -EINVAL.
/// @param op           out
/// @param fd           file
/// @param file_offset  bytes from the start of the file
/// @param len          bytes; 0 = to the end
/// @param advice       POSIX_FADV_*
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: posix_fadvise(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fadvise(
    op: *mut paluring_op,
    fd: c_int,
    file_offset: u64,
    len: u64,
    advice: c_int,
) {
    set(op, || {
        // The field that all kernels know has 32 bits.
        let (long, short) = u32::try_from(len).map_or((len, 0), |short| (0, short));
        Template::on(opcode::FADVISE, fd, Form::Plain).offset(file_offset).addr(long).len(short).op_flags(advice as u32)
    });
}

/// Describe telling how memory will be used, or having it read or dropped.
/// It acts on whole pages, and only on the buffer's: what lasts longer than the buffer, such as MADV_DONTFORK, is for memory of yours (paluring_buf_adopt).
/// @param op          out
/// @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf; the place is where a page begins
/// @param len         bytes of whole pages, at most 2^31 - 4096; buf_offset + len within buf
/// @param advice      MADV_*
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: madvise(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_madvise(
    op: *mut paluring_op,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    advice: c_int,
) {
    set(op, || {
        Template::new(opcode::MADVISE, -1, Form::Pages).data(peek(buf), buf_offset, len).op_flags(advice as u32)
    });
}
