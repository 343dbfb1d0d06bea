// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that wait, and the rest.

use std::ffi::{c_int, c_void};

use super::buf::paluring_buf;
use super::handle::peek;
use super::op::{is_own, paluring_op, set};
use crate::core::op::{Form, Template, opcode};

/// Describe waiting until a descriptor is ready. The result is the events that are, as in revents.
/// @param op      out
/// @param fd      pipe, socket, eventfd, ..., or fixed fd
/// @param events  POLLIN, POLLOUT, ...
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
/// See: poll(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_poll(op: *mut paluring_op, fd: c_int, events: u32) {
    set(op, || Template::on(opcode::POLL_ADD, fd, Form::Plain).op_flags(opcode::poll_events(events)));
}

/// Describe being told each time that a descriptor becomes ready, until it is cancelled or an error ends it.
/// Each completion but the last has PALURING_COMPLETION_MORE; results as poll's. Not in a chain.
/// @param op      out
/// @param fd      pipe, socket, eventfd, ..., or fixed fd
/// @param events  POLLIN, POLLOUT, ...
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.13
/// See: poll(2), io_uring_prep_poll_multishot(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_poll_multishot(op: *mut paluring_op, fd: c_int, events: u32) {
    set(op, || {
        Template::on(opcode::POLL_ADD, fd, Form::Marked).op_flags(opcode::poll_events(events)).len(opcode::POLL_MULTI)
    });
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

/// Describe a timer that runs out again and again. Each result is -ETIME, and each but the last has PALURING_COMPLETION_MORE.
/// Before Linux 6.4 the result is -EINVAL. Not in a chain.
/// @param op       out
/// @param time_ns  nanoseconds from one time to the next, the first from its submission; not negative
/// @param count    how often; 0 = until it is cancelled
/// @param flags    0 or of IORING_TIMEOUT_BOOTTIME, _REALTIME
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.4
/// See: io_uring_prep_timeout(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_timeout_multishot(op: *mut paluring_op, time_ns: i64, count: u32, flags: u32) {
    set(op, || Template::timeout_multishot(time_ns, count, flags));
}

/// Describe adding, changing or removing what an epoll descriptor watches. A fixed fd is refused for both.
/// @param op      out
/// @param epfd    epoll descriptor
/// @param ctl     EPOLL_CTL_ADD, _MOD or _DEL
/// @param fd      what to watch
/// @param events  EPOLLIN, EPOLLOUT, ...
/// @param data    given back with the events
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
/// See: epoll_ctl(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_epoll_ctl(
    op: *mut paluring_op,
    epfd: c_int,
    ctl: c_int,
    fd: c_int,
    events: u32,
    data: u64,
) {
    let template = Template::new(opcode::EPOLL_CTL, epfd, Form::EpollEvent).len(ctl as u32).offset(fd as u32 as u64);
    set(op, || template.pad(events.into()).addr3(data).needs(is_own(fd)));
}

/// Describe waiting for an epoll descriptor's events, into an array of struct epoll_event. The result is how many. Before Linux 6.15 the start returns -EOPNOTSUPP.
/// @param op          out
/// @param epfd        epoll descriptor or fixed fd
/// @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf, to a place that is a multiple of 8
/// @param max_events  events at most; so many struct epoll_event from buf_offset within buf
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 6.15
/// See: epoll_wait(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_epoll_wait(
    op: *mut paluring_op,
    epfd: c_int,
    buf: *mut paluring_buf,
    buf_offset: usize,
    max_events: u32,
) {
    let size = max_events.checked_mul(opcode::EPOLL_EVENT_SIZE);
    let template = Template::on(opcode::EPOLL_WAIT, epfd, Form::Events).len(max_events);
    set(op, || template.output(peek(buf), buf_offset, size.unwrap_or(0)).needs(size.is_some()));
}

/// Describe waiting on a futex if it holds a value. The result is 0 when woken, -EAGAIN if it holds another. Before Linux 6.7 the start returns -EOPNOTSUPP.
/// @param op     out
/// @param futex  the word; the kernel reads it in place, so it stays valid until the completion
/// @param value  what it must hold
/// @param mask   FUTEX_BITSET_MATCH_ANY, or which wakes to heed
/// @param flags  FUTEX2_SIZE_U32, with or without FUTEX2_PRIVATE
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: futex(2), io_uring_prep_futex_wait(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_futex_wait(
    op: *mut paluring_op,
    futex: *const u32,
    value: u64,
    mask: u64,
    flags: u32,
) {
    set(op, || {
        Template::new(opcode::FUTEX_WAIT, flags as i32, Form::Marked)
            .addr(futex.addr() as u64)
            .offset(value)
            .addr3(mask)
            .needs(!futex.is_null())
    });
}

/// Describe waking who waits on a futex. The result is how many were. Before Linux 6.7 the start returns -EOPNOTSUPP.
/// @param op     out
/// @param futex  the word; the kernel reads it in place, so it stays valid until the completion
/// @param count  waiters at most
/// @param mask   FUTEX_BITSET_MATCH_ANY, or which waiters
/// @param flags  FUTEX2_SIZE_U32, with or without FUTEX2_PRIVATE
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: futex(2), io_uring_prep_futex_wake(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_futex_wake(
    op: *mut paluring_op,
    futex: *const u32,
    count: u64,
    mask: u64,
    flags: u32,
) {
    set(op, || {
        Template::new(opcode::FUTEX_WAKE, flags as i32, Form::Marked)
            .addr(futex.addr() as u64)
            .offset(count)
            .addr3(mask)
            .needs(!futex.is_null())
    });
}

/// Describe waiting on several futexes. The result is the place in the array of one that was woken. Before Linux 6.7 the start returns -EOPNOTSUPP.
/// @param op       out
/// @param waiters  array of struct futex_waitv, borrowed until the start returns; its words stay valid until the completion
/// @param count    elements of waiters, 1 to 128
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: futex_waitv(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_futex_waitv(op: *mut paluring_op, waiters: *const c_void, count: u32) {
    let fits = (1..=opcode::FUTEXES).contains(&count);
    let bytes = if fits { count * opcode::FUTEX_WAITV_SIZE } else { 0 };
    set(op, || Template::new(opcode::FUTEX_WAITV, 0, Form::Array).len(count).array(waiters.addr(), bytes).needs(fits));
}

/// Describe waiting for a child to change its state, into a siginfo_t. The result is 0. Before Linux 6.7 the start returns -EOPNOTSUPP.
/// @param op          out
/// @param idtype      P_PID, P_PIDFD, P_PGID or P_ALL
/// @param id          the process, or a descriptor of it
/// @param buf         NULL = not wanted; borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
/// @param buf_offset  bytes from the start of buf, to a place that is a multiple of 8; 128 bytes from there within buf
/// @param options     WEXITED, WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT
/// Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
/// See: waitid(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_waitid(
    op: *mut paluring_op,
    idtype: c_int,
    id: u32,
    buf: *mut paluring_buf,
    buf_offset: usize,
    options: c_int,
) {
    let form = if buf.is_null() { Form::Marked } else { Form::Info };
    let template = Template::new(opcode::WAITID, id as i32, form).len(idtype as u32).file_index(options as u32);
    set(op, || if buf.is_null() { template } else { template.output(peek(buf), buf_offset, opcode::SIGINFO_SIZE) });
}

/// Describe making a descriptor of the process for a fixed fd, which stays registered. The result is the descriptor, the host's to close. Before Linux 6.8 the start returns -EOPNOTSUPP.
/// @param op        out
/// @param fixed_fd  fixed fd
/// @param flags     0 = the descriptor is closed on exec; IORING_FIXED_FD_NO_CLOEXEC
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.8
/// See: io_uring_prep_fixed_fd_install(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_fixed_fd_install(op: *mut paluring_op, fixed_fd: c_int, flags: u32) {
    set(op, || Template::on(opcode::FIXED_FD_INSTALL, fixed_fd, Form::Marked).op_flags(flags).needs(!is_own(fixed_fd)));
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
