// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on names: opening, closing, looking at and changing what a path names.
//!
//! Texts and values are borrowed until the start returns. A fixed fd is no directory: it is -EINVAL
//! at the start, but for close, fgetxattr and fsetxattr.

use std::ffi::{c_char, c_int, c_void};

use super::buf::paluring_buf;
use super::handle::peek;
use super::op::{is_own, paluring_op, set};
use crate::core::op::{Form, Template, opcode};

/// Describe opening a file. The result is the descriptor, the host's to close; with PALURING_OP_FIXED a fixed fd.
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

/// Describe opening a file with more to say about how the path is resolved. The result is as openat's.
/// With PALURING_OP_FIXED the flags must be without O_CLOEXEC.
/// @param op        out
/// @param dirfd     directory for a relative path, or AT_FDCWD
/// @param path      borrowed until the start returns
/// @param how       struct open_how, borrowed until the start returns
/// @param how_size  its bytes
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: openat2(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_openat2(
    op: *mut paluring_op,
    dirfd: c_int,
    path: *const c_char,
    how: *const c_void,
    how_size: u32,
) {
    set(op, || {
        Template::new(opcode::OPENAT2, dirfd, Form::PathAndHow)
            .path(path.addr())
            .offset(how.addr() as u64)
            .len(how_size)
            .needs(!how.is_null())
    });
}

/// Describe closing a descriptor, or a fixed fd. This ring's other I/Os on it are cancelled first, so that a peer sees the end.
/// @param op  out
/// @param fd  descriptor or fixed fd
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: close(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_close(op: *mut paluring_op, fd: c_int) {
    set(op, || Template::close(fd));
}

/// Describe reading a file's metadata into a buffer, as a struct statx.
/// It always goes to a worker thread of the kernel.
/// @param op          out
/// @param dirfd       directory for a relative path, a file with AT_EMPTY_PATH, or AT_FDCWD
/// @param path        borrowed until the start returns
/// @param flags       AT_*
/// @param mask        STATX_*
/// @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf, to a place that is a multiple of 8; 256 bytes from there within buf
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

/// Describe renaming a file.
/// @param op        out
/// @param olddirfd  directory for a relative oldpath, or AT_FDCWD
/// @param oldpath   borrowed until the start returns
/// @param newdirfd  directory for a relative newpath, or AT_FDCWD
/// @param newpath   borrowed until the start returns
/// @param flags     RENAME_*
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.11
/// See: renameat2(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_renameat(
    op: *mut paluring_op,
    olddirfd: c_int,
    oldpath: *const c_char,
    newdirfd: c_int,
    newpath: *const c_char,
    flags: u32,
) {
    let template = Template::new(opcode::RENAMEAT, olddirfd, Form::TwoPaths).len(newdirfd as u32).op_flags(flags);
    set(op, || template.path(oldpath.addr()).second_path(newpath.addr()).needs(is_own(newdirfd)));
}

/// Describe removing a name, or with AT_REMOVEDIR an empty directory.
/// @param op     out
/// @param dirfd  directory for a relative path, or AT_FDCWD
/// @param path   borrowed until the start returns
/// @param flags  0 or AT_REMOVEDIR
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.11
/// See: unlinkat(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_unlinkat(op: *mut paluring_op, dirfd: c_int, path: *const c_char, flags: c_int) {
    set(op, || Template::new(opcode::UNLINKAT, dirfd, Form::Path).path(path.addr()).op_flags(flags as u32));
}

/// Describe making a directory.
/// @param op     out
/// @param dirfd  directory for a relative path, or AT_FDCWD
/// @param path   borrowed until the start returns
/// @param mode   permissions
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.15
/// See: mkdirat(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_mkdirat(op: *mut paluring_op, dirfd: c_int, path: *const c_char, mode: u32) {
    set(op, || Template::new(opcode::MKDIRAT, dirfd, Form::Path).path(path.addr()).len(mode));
}

/// Describe making a symbolic link.
/// @param op        out
/// @param target    what it points to, borrowed until the start returns
/// @param newdirfd  directory for a relative linkpath, or AT_FDCWD
/// @param linkpath  borrowed until the start returns
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.15
/// See: symlinkat(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_symlinkat(
    op: *mut paluring_op,
    target: *const c_char,
    newdirfd: c_int,
    linkpath: *const c_char,
) {
    set(op, || {
        Template::new(opcode::SYMLINKAT, newdirfd, Form::TwoPaths).path(target.addr()).second_path(linkpath.addr())
    });
}

/// Describe making another name for a file.
/// @param op        out
/// @param olddirfd  directory for a relative oldpath, or AT_FDCWD
/// @param oldpath   borrowed until the start returns
/// @param newdirfd  directory for a relative newpath, or AT_FDCWD
/// @param newpath   borrowed until the start returns
/// @param flags     AT_*
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.15
/// See: linkat(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_linkat(
    op: *mut paluring_op,
    olddirfd: c_int,
    oldpath: *const c_char,
    newdirfd: c_int,
    newpath: *const c_char,
    flags: c_int,
) {
    let template = Template::new(opcode::LINKAT, olddirfd, Form::TwoPaths).len(newdirfd as u32).op_flags(flags as u32);
    set(op, || template.path(oldpath.addr()).second_path(newpath.addr()).needs(is_own(newdirfd)));
}

/// Describe reading an extended attribute into a buffer. The result is its length.
/// @param op          out
/// @param path        borrowed until the start returns
/// @param name        with its namespace, such as user.mime_type; borrowed until the start returns
/// @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf
/// @param len         bytes; buf_offset + len within buf; 0 asks for the length
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
/// See: getxattr(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_getxattr(
    op: *mut paluring_op,
    path: *const c_char,
    name: *const c_char,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: u32,
) {
    set(op, || {
        Template::new(opcode::GETXATTR, 0, Form::ValueOut)
            .path(name.addr())
            .len(len)
            .output(peek(buf), buf_offset, len)
            .addr3(path.addr() as u64)
            .needs(!path.is_null())
    });
}

/// Describe setting an extended attribute.
/// @param op     out
/// @param path   borrowed until the start returns
/// @param name   with its namespace, such as user.mime_type; borrowed until the start returns
/// @param value  borrowed until the start returns
/// @param len    bytes of value
/// @param flags  0, XATTR_CREATE or XATTR_REPLACE
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
/// See: setxattr(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_setxattr(
    op: *mut paluring_op,
    path: *const c_char,
    name: *const c_char,
    value: *const c_void,
    len: u32,
    flags: c_int,
) {
    let template = Template::new(opcode::SETXATTR, 0, Form::ValueIn).path(name.addr()).len(len).op_flags(flags as u32);
    set(op, || value_in(template, value, len).addr3(path.addr() as u64).needs(!path.is_null()));
}

/// Describe reading an extended attribute of an open file into a buffer. The result is its length.
/// @param op          out
/// @param fd          file or fixed fd
/// @param name        with its namespace, such as user.mime_type; borrowed until the start returns
/// @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf
/// @param len         bytes; buf_offset + len within buf; 0 asks for the length
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
/// See: fgetxattr(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fgetxattr(
    op: *mut paluring_op,
    fd: c_int,
    name: *const c_char,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: u32,
) {
    set(op, || {
        Template::on(opcode::FGETXATTR, fd, Form::ValueOut).path(name.addr()).len(len).output(
            peek(buf),
            buf_offset,
            len,
        )
    });
}

/// Describe setting an extended attribute of an open file.
/// @param op     out
/// @param fd     file or fixed fd
/// @param name   with its namespace, such as user.mime_type; borrowed until the start returns
/// @param value  borrowed until the start returns
/// @param len    bytes of value
/// @param flags  0, XATTR_CREATE or XATTR_REPLACE
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
/// See: fsetxattr(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fsetxattr(
    op: *mut paluring_op,
    fd: c_int,
    name: *const c_char,
    value: *const c_void,
    len: u32,
    flags: c_int,
) {
    let template = Template::on(opcode::FSETXATTR, fd, Form::ValueIn).path(name.addr()).len(len).op_flags(flags as u32);
    set(op, || value_in(template, value, len));
}

fn value_in(template: Template, value: *const c_void, len: u32) -> Template {
    template.offset(value.addr() as u64).needs(len == 0 || !value.is_null())
}
