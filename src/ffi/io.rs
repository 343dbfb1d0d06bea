// SPDX-License-Identifier: MIT OR Apache-2.0
//! I/Os: operations that have been started.
//!
//! Each accepted I/O (a start that returned >= 0) gets exactly one terminal completion,
//! whatever happens to it; only a dropped or detached one has none, its result is
//! discarded inside. Who gets it is the operation's choice: its callback; or the handle's
//! holder by poll or wait; or reap (PALURING_OP_QUEUE); or nobody (PALURING_OP_DETACHED).

use super::buf::paluring_buf;
use super::callback::{host_ready, start_at_once};
use super::guard::{any, driver, fill, given, letting_go, usable, zeroed};
use super::op::paluring_op;
use super::ring::paluring_ring;
use crate::core::Limit;

/// Names an I/O of a ring; 0 = none. The handle of a finished I/O, or of another ring, is refused with PALURING_ERR_STALE.
pub type paluring_io = u64;

/// What became of an I/O, 64 bytes for good.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct paluring_completion {
    /// The handle; used up, unless PALURING_COMPLETION_MORE is set.
    pub io: paluring_io,
    /// The operation's.
    pub user_data: usize,
    /// In a callback: the operation's buffer, lent until it returns. From poll, wait and reap: NULL, or with PALURING_OP_MOVE the reference that the start took, yours.
    pub buf: *mut paluring_buf,
    /// More about the result, for some operations; with -ECANCELED in a chain the result that broke it; else 0.
    pub extra: u64,
    /// What the system call would have returned, or a negative errno or status.
    pub result: i32,
    /// PALURING_COMPLETION_*
    pub flags: u32,
    /// IORING_OP_* that the kernel ran.
    pub opcode: u32,
    /// The library's.
    pub reserved0: u32,
    /// The library's.
    pub reserved: [u64; 2],
}

/// More completions of this I/O will follow; its handle stays good.
pub const PALURING_COMPLETION_MORE: u32 = 1;
/// The socket had more to read.
pub const PALURING_COMPLETION_SOCK_NONEMPTY: u32 = 2;
/// The operation's timeout_ns ran out; the result is -ETIME, or what had been done.
pub const PALURING_COMPLETION_TIMED_OUT: u32 = 4;
/// A cancel had been asked for; the result is -ECANCELED, or the true result.
pub const PALURING_COMPLETION_CANCELLED: u32 = 8;

/// Of paluring_io_start_chain: a member runs whatever became of the one before it.
pub const PALURING_CHAIN_HARDLINK: u32 = 1;

/// Gets a completion. It may start, cancel, poll, drop and close; driver's calls in it are -EBUSY.
pub type paluring_complete_fn = Option<unsafe extern "C" fn(user_data: usize, completion: *mut paluring_completion)>;

/// Told once per poll that returned 0. 0: poll again; PALURING_ERR_DROPPED: only give up user_data.
pub type paluring_ready_fn = Option<unsafe extern "C" fn(user_data: usize, status: i32)>;

/// Start an I/O.
/// It is queued here and enters the kernel with the ring's next submit, wait or run, or at once with PALURING_OP_SUBMIT.
/// @param ring    borrowed
/// @param op      borrowed; its buffer gets a reference of the I/O's own (with PALURING_OP_MOVE a successful start takes yours)
/// @param out_io  set to 0 on failure; may be NULL with a callback, PALURING_OP_QUEUE or PALURING_OP_DETACHED
/// @return 0, or -EAGAIN (max_in_flight reached: process completions first), -EINVAL, -ENOMEM, -EOPNOTSUPP (this kernel lacks it), PALURING_ERR_CLOSED, _FORKED, _POISONED; on any failure nothing was taken
/// Ownership: op stays the caller's   Threads: any   Blocks: may enter the kernel; with PALURING_OP_SUBMIT only   Since: 0.1
/// See: io_uring_enter(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_start(
    ring: *mut paluring_ring,
    op: *const paluring_op,
    out_io: *mut paluring_io,
) -> i32 {
    /// Apart, so that the short way needs no frame.
    #[cold]
    #[inline(never)]
    unsafe extern "C" fn slowly(ring: *mut paluring_ring, op: *const paluring_op, out_io: *mut paluring_io) -> i32 {
        // SAFETY: host: pointers are NULL or valid.
        unsafe { zeroed(out_io) };
        // SAFETY: as above.
        any(ring, |ring| unsafe { super::callback::start(ring, given(op)?, out_io) })
    }
    // SAFETY: as above.
    match unsafe { (usable(ring), op.as_ref()) } {
        // SAFETY: as above.
        (Some(held), Some(given)) if unsafe { start_at_once(held, given, out_io) } => 0,
        // SAFETY: as above.
        _ => unsafe { slowly(ring, op, out_io) },
    }
}

/// Start several I/Os, in order, until one fails.
/// @param ring     borrowed
/// @param ops      array of count operations, borrowed
/// @param count    operations in ops
/// @param out_ios  array of count handles, each set to 0 first; may be NULL as in paluring_io_start
/// @return how many were started; if none was, that failure's status (see paluring_io_start)
/// Ownership: ops stay the caller's   Threads: any   Blocks: may enter the kernel; with PALURING_OP_SUBMIT only   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_start_batch(
    ring: *mut paluring_ring,
    ops: *const paluring_op,
    count: usize,
    out_ios: *mut paluring_io,
) -> i32 {
    // SAFETY: host: pointers are NULL or valid for count elements.
    any(ring, |ring| unsafe { super::callback::start_batch(ring, ops, count, out_ios) })
}

/// Start several I/Os as a chain: each runs when the one before it has succeeded.
/// All of them are accepted or none; their entries are never split, nor mixed with others', and their completions come in order.
/// An error or a short transfer breaks the chain: what follows ends with -ECANCELED, and the result that broke it in extra.
/// @param ring     borrowed
/// @param ops      array of count operations, borrowed; members may be PALURING_OP_DETACHED, so that one callback on the last tells all; no multishots
/// @param count    operations in ops
/// @param flags    PALURING_CHAIN_*
/// @param out_ios  array of count handles, each set to 0 first; may be NULL as in paluring_io_start
/// @return count, or -E2BIG (more than entries or max_in_flight), -EAGAIN (max_in_flight: no room for all), others as paluring_io_start; on any failure nothing was taken
/// A cancelled member ends the chain; one that waits for its turn is cancelled when that comes. A member's timeout_ns counts from here, and cancels what still runs before it, too.
/// Ownership: ops stay the caller's   Threads: any   Blocks: may enter the kernel; with PALURING_OP_SUBMIT only   Since: 0.1
/// See: io_uring_enter(2), IOSQE_IO_LINK
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_start_chain(
    ring: *mut paluring_ring,
    ops: *const paluring_op,
    count: usize,
    flags: u32,
    out_ios: *mut paluring_io,
) -> i32 {
    // SAFETY: host: pointers are NULL or valid for count elements.
    any(ring, |ring| unsafe { super::callback::start_chain(ring, ops, count, flags, out_ios) })
}

/// Take the completion of a kept I/O if it is there; else have a function told when to ask again.
/// Check and set are one step: no notification is lost. Never drives the ring.
/// @param ring            borrowed
/// @param io              an I/O started without callback, QUEUE and DETACHED
/// @param ready           told once if this call returns 0 and again for each later poll that does; NULL = nobody; replaces an earlier one, which is told PALURING_ERR_DROPPED
/// @param user_data       handed to ready as it is
/// @param out_completion  set to zeros unless 1 is returned; NULL: the result is discarded, as drop does
/// @return 1 (filled; the handle is used up unless MORE is set), 0 (pending), PALURING_ERR_STALE, -EINVAL (io isn't kept), -ENOMEM
/// Ownership: a buffer in the completion is yours to release   Threads: any; ready runs on the driver   Blocks: never; may run release functions   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_poll(
    ring: *mut paluring_ring,
    io: paluring_io,
    ready: paluring_ready_fn,
    user_data: usize,
    out_completion: *mut paluring_completion,
) -> i32 {
    // SAFETY: host: out_completion is NULL or writable.
    unsafe { zeroed(out_completion) };
    letting_go(ring, |ring| {
        let taken = ring.poll(io, host_ready(ready, user_data))?;
        // SAFETY: as above.
        Ok(taken.map_or(0, |taken| unsafe { fill(ring, out_completion, taken) }))
    })
}

/// Wait for the completion of a kept I/O and take it. Drives the ring meanwhile, without running callbacks.
/// @param ring            borrowed
/// @param io              an I/O started without callback, QUEUE and DETACHED
/// @param timeout_ns      negative = no limit, 0 = don't wait
/// @param out_completion  set to zeros unless 0 is returned; NULL: the result is discarded, as drop does
/// @return 0 (filled), -ETIME or -EINTR (still in flight), PALURING_ERR_STALE, _WRONG_THREAD, _CLOSED, -EINVAL (io isn't kept), -EBUSY (in a callback)
/// Ownership: a buffer in the completion is yours to release   Threads: driver or waiter   Blocks: until done, the timeout or a signal   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_wait(
    ring: *mut paluring_ring,
    io: paluring_io,
    timeout_ns: i64,
    out_completion: *mut paluring_completion,
) -> i32 {
    // SAFETY: host: out_completion is NULL or writable.
    unsafe { zeroed(out_completion) };
    driver(ring, |ring| {
        let taken = ring.wait_io(io, Limit::from_ns(timeout_ns))?;
        // SAFETY: as above.
        Ok(unsafe { fill(ring, out_completion, taken) } - 1)
    })
}

/// Give up the result of an I/O. It runs on, uncancelled (a multishot is cancelled); its memory is released when the
/// kernel is done, and a descriptor in its result is closed.
/// @param ring           borrowed
/// @param io             any I/O but a detached one; 0 does nothing
/// @param out_user_data  the operation's, yours again; set to 0 on failure; may be NULL
/// @return 0 (no further completion will be delivered), PALURING_ERR_STALE (delivered, or its callback is running: that owns user_data)
/// Ownership: gives user_data back   Threads: any   Blocks: never; may run release functions   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_drop(ring: *mut paluring_ring, io: paluring_io, out_user_data: *mut usize) -> i32 {
    // SAFETY: host: out_user_data is NULL or writable.
    unsafe { zeroed(out_user_data) };
    letting_go(ring, |ring| {
        if io != 0 {
            let user_data = ring.drop_io(io)?;
            // SAFETY: as above.
            unsafe { super::guard::put(out_user_data, user_data) };
        }
        Ok(0)
    })
}

/// Ask for an I/O to be cancelled. Its completion still comes, with -ECANCELED or the true result.
/// @param ring  borrowed
/// @param io    any I/O, dropped ones included
/// @return 0 (asked), PALURING_ERR_STALE (finished), -ENOMEM
/// Ownership: nothing   Threads: any; also inside a callback of the same I/O   Blocks: never   Since: 0.1
/// See: io_uring_prep_cancel64(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_cancel(ring: *mut paluring_ring, io: paluring_io) -> i32 {
    any(ring, |ring| ring.cancel(io).map(|()| 0))
}

/// Give an I/O a new time limit, counted from now: an idle timer.
/// @param ring        borrowed
/// @param io          an I/O in flight
/// @param timeout_ns  0 or less removes the limit
/// @return 0, PALURING_ERR_STALE (finished), -ENOMEM
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_io_set_timeout(ring: *mut paluring_ring, io: paluring_io, timeout_ns: i64) -> i32 {
    any(ring, |ring| ring.set_timeout(io, timeout_ns).map(|()| 0))
}

/// Ask for all I/Os of this ring on a descriptor to be cancelled.
/// @param ring  borrowed
/// @param fd    the descriptor as the I/Os were started with
/// @return how many were asked, -ENOMEM
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_cancel_fd(ring: *mut paluring_ring, fd: std::ffi::c_int) -> i32 {
    any(ring, |ring| ring.cancel_fd(fd))
}

/// Ask for all I/Os of this ring to be cancelled.
/// @param ring  borrowed
/// @return how many were asked, -ENOMEM
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_cancel_all(ring: *mut paluring_ring) -> i32 {
    any(ring, |ring| ring.cancel_all())
}
