// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on pipes and sockets.
//!
//! Addresses, control data and option values are borrowed until the start returns. A fixed fd is
//! taken wherever a descriptor is. No send raises SIGPIPE: the result is -EPIPE.

use std::ffi::{c_int, c_void};

use super::buf::paluring_buf;
use super::handle::peek;
use super::op::{paluring_op, set};
use crate::core::op::{Form, Template, opcode};

/// Describe moving bytes between two files, one of which is a pipe, without copying them. The result is the number of bytes.
/// @param op       out
/// @param fd_in    to take from
/// @param off_in   bytes from the start of fd_in; UINT64_MAX = a pipe, or the position
/// @param fd_out   to put into
/// @param off_out  bytes from the start of fd_out; UINT64_MAX = a pipe, or the position
/// @param len      bytes at most
/// @param flags    SPLICE_F_*
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.7
/// See: splice(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_splice(
    op: *mut paluring_op,
    fd_in: c_int,
    off_in: u64,
    fd_out: c_int,
    off_out: u64,
    len: u32,
    flags: u32,
) {
    let template = Template::on(opcode::SPLICE, fd_out, Form::Plain).offset(off_out).addr(off_in);
    set(op, || template.len(len).op_flags(flags).source(fd_in));
}

/// Describe copying bytes from one pipe to another, which stay in the first. The result is the number of bytes.
/// @param op      out
/// @param fd_in   pipe to copy from
/// @param fd_out  pipe to put into
/// @param len     bytes at most
/// @param flags   SPLICE_F_*
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.8
/// See: tee(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_tee(op: *mut paluring_op, fd_in: c_int, fd_out: c_int, len: u32, flags: u32) {
    set(op, || Template::on(opcode::TEE, fd_out, Form::Plain).len(len).op_flags(flags).source(fd_in));
}

/// Describe making a pipe. The result is 0, and extra holds the end to read from in its low half, the one to write to in its high half.
/// With PALURING_OP_FIXED both are fixed fds. Before Linux 6.16 the start returns -EOPNOTSUPP.
/// @param op     out
/// @param flags  O_CLOEXEC, O_NONBLOCK, O_DIRECT
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.16
/// See: pipe2(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_pipe(op: *mut paluring_op, flags: u32) {
    set(op, || Template::new(opcode::PIPE, 0, Form::Pipe).op_flags(flags));
}

/// Describe making a socket. The result is the descriptor, the host's to close; with PALURING_OP_FIXED a fixed fd.
/// @param op        out
/// @param domain    AF_*
/// @param type_     SOCK_*
/// @param protocol  0, or IPPROTO_*
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
/// See: socket(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_socket(op: *mut paluring_op, domain: c_int, type_: c_int, protocol: c_int) {
    set(op, || Template::new(opcode::SOCKET, domain, Form::Marked).offset(type_ as u32 as u64).len(protocol as u32));
}

/// Describe giving a socket its address. Before Linux 6.11 the start returns -EOPNOTSUPP.
/// @param op        out
/// @param fd        socket
/// @param addr      struct sockaddr_*, borrowed until the start returns
/// @param addr_len  its bytes
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.11
/// See: bind(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_bind(op: *mut paluring_op, fd: c_int, addr: *const c_void, addr_len: u32) {
    set(op, || {
        Template::on(opcode::BIND, fd, Form::Address)
            .addr(addr.addr() as u64)
            .offset(addr_len.into())
            .needs(!addr.is_null())
    });
}

/// Describe having a socket accept connections. Before Linux 6.11 the start returns -EOPNOTSUPP.
/// @param op       out
/// @param fd       socket
/// @param backlog  connections that may wait
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.11
/// See: listen(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_listen(op: *mut paluring_op, fd: c_int, backlog: c_int) {
    set(op, || Template::on(opcode::LISTEN, fd, Form::Plain).len(backlog as u32));
}

/// Describe accepting a connection. The result is the descriptor, the host's to close; with PALURING_OP_FIXED a fixed fd.
/// With addr, extra is the length of the peer's address, which is cut off if the buffer is shorter.
/// @param op     out
/// @param fd     listening socket
/// @param addr   gets the address, at its start; NULL = not wanted; borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param flags  SOCK_CLOEXEC, SOCK_NONBLOCK
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.5
/// See: accept4(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_accept(op: *mut paluring_op, fd: c_int, addr: *mut paluring_buf, flags: u32) {
    set(op, || match peek(addr) {
        None => Template::on(opcode::ACCEPT, fd, Form::Marked).op_flags(flags),
        addr => Template::on(opcode::ACCEPT, fd, Form::AddressOut).op_flags(flags).output(addr, 0, 0),
    });
}

/// Describe accepting connections one after the other, until it is cancelled or an error ends it.
/// Each completion but the last has PALURING_COMPLETION_MORE; results as accept's. Not in a chain.
/// @param op     out
/// @param fd     listening socket
/// @param flags  SOCK_CLOEXEC, SOCK_NONBLOCK
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
/// See: accept4(2), io_uring_prep_multishot_accept(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_accept_multishot(op: *mut paluring_op, fd: c_int, flags: u32) {
    set(op, || Template::on(opcode::ACCEPT, fd, Form::Marked).op_flags(flags).ioprio(opcode::ACCEPT_MULTISHOT));
}

/// Describe connecting a socket.
/// @param op        out
/// @param fd        socket
/// @param addr      struct sockaddr_*, borrowed until the start returns
/// @param addr_len  its bytes
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.5
/// See: connect(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_connect(op: *mut paluring_op, fd: c_int, addr: *const c_void, addr_len: u32) {
    set(op, || {
        Template::on(opcode::CONNECT, fd, Form::Address)
            .addr(addr.addr() as u64)
            .offset(addr_len.into())
            .needs(!addr.is_null())
    });
}

/// Describe ending one direction of a connection, or both.
/// @param op   out
/// @param fd   socket
/// @param how  SHUT_RD, SHUT_WR or SHUT_RDWR
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.11
/// See: shutdown(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_shutdown(op: *mut paluring_op, fd: c_int, how: c_int) {
    set(op, || Template::on(opcode::SHUTDOWN, fd, Form::Plain).len(how as u32));
}

/// Describe sending from a buffer, or from the members of a list in order.
/// The result is the number of bytes, which on a stream may be less than len (but see PALURING_OP_FULL, and MSG_WAITALL, which chains set).
/// @param op          out
/// @param fd          connected socket
/// @param buf         borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf
/// @param len         bytes, at most 2^31 - 4096; buf_offset + len within buf
/// @param flags       MSG_*, but MSG_ZEROCOPY (see PALURING_OP_ZEROCOPY)
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: send(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_send(
    op: *mut paluring_op,
    fd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    flags: u32,
) {
    set(op, || Template::transfer(opcode::SEND, fd, peek(buf), buf_offset, len, 0).sends(flags));
}

/// Describe receiving into a buffer, or into the members of a list in order.
/// The result is the number of bytes; 0 at the end of a stream. A short one breaks a chain only with MSG_WAITALL.
/// @param op          out
/// @param fd          socket
/// @param buf         borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf
/// @param len         bytes, at most 2^31 - 4096; buf_offset + len within buf
/// @param flags       MSG_*
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: recv(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_recv(
    op: *mut paluring_op,
    fd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    flags: u32,
) {
    set(op, || Template::transfer(opcode::RECV, fd, peek(buf), buf_offset, len, 0).op_flags(flags));
}

/// Describe sending to an address, from a buffer or from the members of a list in order. The result is the number of bytes.
/// @param op          out
/// @param fd          socket
/// @param buf         borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf
/// @param len         bytes, at most 2^31 - 4096; buf_offset + len within buf
/// @param addr        where to: struct sockaddr_*, or NULL on a connected socket; borrowed until the start returns
/// @param addr_len    its bytes
/// @param flags       MSG_*, but MSG_ZEROCOPY (see PALURING_OP_ZEROCOPY)
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.3
/// See: sendto(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_sendto(
    op: *mut paluring_op,
    fd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    addr: *const c_void,
    addr_len: u32,
    flags: u32,
) {
    set(op, || message_out(fd, peek(buf), buf_offset, len).to(addr.addr(), addr_len).sends(flags));
}

/// Describe sending with an address and control data, from a buffer or from the members of a list in order. The result is the number of bytes.
/// @param op           out
/// @param fd           socket
/// @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset   bytes from the start of buf
/// @param len          bytes, at most 2^31 - 4096; buf_offset + len within buf
/// @param addr         where to: struct sockaddr_*, or NULL on a connected socket; borrowed until the start returns
/// @param addr_len     its bytes
/// @param control      struct cmsghdr and what follows, or NULL; borrowed until the start returns; descriptors in it stay open until the completion
/// @param control_len  its bytes
/// @param flags        MSG_*, but MSG_ZEROCOPY (see PALURING_OP_ZEROCOPY)
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.3
/// See: sendmsg(2), cmsg(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_sendmsg(
    op: *mut paluring_op,
    fd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    addr: *const c_void,
    addr_len: u32,
    control: *const c_void,
    control_len: u32,
    flags: u32,
) {
    set(op, || {
        let message = message_out(fd, peek(buf), buf_offset, len).to(addr.addr(), addr_len);
        message.control(control.addr(), control_len).sends(flags)
    });
}

/// Describe receiving with the sender's address and control data. The result is the number of bytes of data; 0 at the end of a stream.
/// At buf_offset the buffer gets a struct io_uring_recvmsg_out (the lengths of the address, of the control data and of the data, and MSG_* flags, 32 bits each); behind it name_len bytes for the address; behind those control_len bytes for the control data; and behind those the data. Of a list, one member must have all but the data.
/// Descriptors in control data that nobody takes (a detached or dropped I/O's) stay open: cancel it and take its result instead.
/// @param op           out
/// @param fd           socket
/// @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset   bytes from the start of buf, to a place that is a multiple of 8
/// @param len          bytes of data, at most 2^31 - 4096; buf_offset + 16 + name_len + control_len + len within buf
/// @param name_len     bytes for the address, a multiple of 8; 0 = not wanted
/// @param control_len  bytes for the control data, a multiple of 8; 0 = not wanted
/// @param flags        MSG_*
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.3
/// See: recvmsg(2), cmsg(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_recvmsg(
    op: *mut paluring_op,
    fd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: usize,
    name_len: u32,
    control_len: u32,
    flags: u32,
) {
    let template = Template::on(opcode::RECVMSG, fd, Form::Receive).offset(name_len.into()).addr3(control_len.into());
    set(op, || template.data(peek(buf), buf_offset, len).op_flags(flags).needs((name_len | control_len) % 8 == 0));
}

/// Describe setting an option of a socket. Before Linux 6.7 the result, or the start's, is -EOPNOTSUPP.
/// @param op       out
/// @param fd       socket
/// @param level    SOL_SOCKET, IPPROTO_TCP, ...
/// @param optname  SO_REUSEADDR, TCP_NODELAY, ...
/// @param value    borrowed until the start returns
/// @param len      bytes of value
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: setsockopt(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_setsockopt(
    op: *mut paluring_op,
    fd: c_int,
    level: c_int,
    optname: c_int,
    value: *const c_void,
    len: u32,
) {
    let template = command(fd, Form::OptionIn, opcode::socket_op::SETSOCKOPT).addr(pair(level as u32, optname as u32));
    set(op, || template.addr3(value.addr() as u64).file_index(len).needs(len == 0 || !value.is_null()));
}

/// Describe reading an option of a socket into a buffer. The result is its length.
/// Before Linux 6.7 the result, or the start's, is -EOPNOTSUPP; so is it for levels of which the kernel has none here (6.18 has SOL_SOCKET).
/// @param op          out
/// @param fd          socket
/// @param level       SOL_SOCKET, IPPROTO_TCP, ...
/// @param optname     SO_REUSEADDR, TCP_NODELAY, ...
/// @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf
/// @param len         bytes; buf_offset + len within buf
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: getsockopt(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_getsockopt(
    op: *mut paluring_op,
    fd: c_int,
    level: c_int,
    optname: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    len: u32,
) {
    let template = command(fd, Form::OptionOut, opcode::socket_op::GETSOCKOPT).addr(pair(level as u32, optname as u32));
    set(op, || template.file_index(len).output(peek(buf), buf_offset, len));
}

/// Describe asking how many bytes a socket has to read. Before Linux 6.7 the result, or the start's, is -EOPNOTSUPP.
/// @param op  out
/// @param fd  socket
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: tcp(7), udp(7), unix(7)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_siocinq(op: *mut paluring_op, fd: c_int) {
    set(op, || command(fd, Form::Plain, opcode::socket_op::SIOCINQ));
}

/// Describe asking how many bytes a socket has not sent yet. Before Linux 6.7 the result, or the start's, is -EOPNOTSUPP.
/// @param op  out
/// @param fd  socket
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: tcp(7), udp(7), unix(7)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_siocoutq(op: *mut paluring_op, fd: c_int) {
    set(op, || command(fd, Form::Plain, opcode::socket_op::SIOCOUTQ));
}

fn message_out(fd: c_int, buf: Option<std::ptr::NonNull<crate::core::Buf>>, offset: usize, len: usize) -> Template {
    Template::on(opcode::SENDMSG, fd, Form::Send).data(buf, offset, len)
}

/// A command to a socket.
fn command(fd: c_int, form: Form, command: u32) -> Template {
    Template::on(opcode::URING_CMD, fd, form).offset(pair(command, 0))
}

/// Two fields of the entry that are next to each other.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}
