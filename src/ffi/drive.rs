// SPDX-License-Identifier: MIT OR Apache-2.0
//! Driving: enter the kernel, wait, deliver.
//!
//! On an OWNER ring the first of these calls binds the ring to its thread; from others
//! they return PALURING_ERR_WRONG_THREAD. On a SHARED ring any thread may drive, one at a
//! time. Time over, a wake and a signal are no errors: the call returns what there is.
//! Callbacks run in process, run, drain and close, never under a lock.

use std::ffi::c_int;

use super::callback::{host_function, run, run_session};
use super::guard::{EINVAL, any, driver, fill, letting_go, put, signal_safe};
use super::io::paluring_completion;
use super::ring::paluring_ring;
use crate::core::Limit;

/// Runs on the driver of the ring that it was posted to; user_data is paluring_ring_post's.
pub type paluring_post_fn = Option<unsafe extern "C" fn(user_data: usize)>;

/// Told that there is room for a start again; user_data is paluring_ring_on_room's.
pub type paluring_room_fn = Option<unsafe extern "C" fn(user_data: usize)>;

/// Enter the kernel with what has been started.
/// @param ring  borrowed
/// @return entries that the kernel took, PALURING_ERR_WRONG_THREAD, _CLOSED, -EBUSY (in a callback, or another thread drives), -EAGAIN or -ENOMEM (the kernel is short of memory; all is kept for the next try), PALURING_ERR_LOST (it dropped completions: close the ring), or what else io_uring_enter(2) says
/// Ownership: nothing   Threads: driver   Blocks: may enter the kernel   Since: 0.1
/// See: io_uring_enter(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_submit(ring: *mut paluring_ring) -> i32 {
    driver(ring, |ring| ring.submit())
}

/// Submit, and wait until there is something to process or reap. Delivers nothing.
/// @param ring        borrowed
/// @param min         completions to wait for, those left over and kept ones included; 0 = don't wait
/// @param timeout_ns  negative = no limit, 0 = don't wait
/// @return completions that process or reap would deliver, plus kept ones; statuses as paluring_ring_submit
/// Ownership: nothing   Threads: driver   Blocks: until min, the timeout, a wake or a signal   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_wait(ring: *mut paluring_ring, min: u32, timeout_ns: i64) -> i32 {
    driver(ring, |ring| ring.wait(min, Limit::from_ns(timeout_ns)))
}

/// Run the callbacks of what is complete, then submit what they started.
/// @param ring    borrowed
/// @param budget  completion callbacks to run at most; 0 = all that was complete on entry
/// @return how many completion callbacks ran; statuses as paluring_ring_submit
/// Ownership: buffers are lent to callbacks   Threads: driver   Blocks: may enter the kernel   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_process(ring: *mut paluring_ring, budget: u32) -> i32 {
    driver(ring, |ring| run_session(ring, ring.process(budget)?))
}

/// Wait, then process: the usual loop.
/// @param ring        borrowed
/// @param min         completions to wait for, as in paluring_ring_wait
/// @param timeout_ns  negative = no limit, 0 = don't wait
/// @return how many completion callbacks ran; statuses as paluring_ring_submit
/// Ownership: buffers are lent to callbacks   Threads: driver   Blocks: until min, the timeout, a wake or a signal   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_run(ring: *mut paluring_ring, min: u32, timeout_ns: i64) -> i32 {
    driver(ring, |ring| run(ring, min, Limit::from_ns(timeout_ns)))
}

/// Take completions of PALURING_OP_QUEUE I/Os, oldest first; waits for the first min.
/// @param ring             borrowed
/// @param min              completions to wait for, at most count; 0 = don't wait
/// @param timeout_ns       negative = no limit, 0 = don't wait
/// @param out_completions  array of count completions; only those returned are written
/// @param count            completions in out_completions
/// @return how many were taken; statuses as paluring_ring_submit; -EINVAL (out_completions NULL, count 0, min above count)
/// Ownership: buffers in the completions are yours to release   Threads: driver or waiter   Blocks: until min, the timeout, a wake or a signal; a wake ends the driver's wait only   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_reap(
    ring: *mut paluring_ring,
    min: u32,
    timeout_ns: i64,
    out_completions: *mut paluring_completion,
    count: usize,
) -> i32 {
    driver(ring, |ring| {
        super::guard::fits(!out_completions.is_null() && count > 0 && min as usize <= count)?;
        let mut next = out_completions;
        ring.reap(min, Limit::from_ns(timeout_ns), count, |completion| {
            // SAFETY: host: out_completions is writable for count elements; no more are put.
            unsafe { fill(ring, next, completion) };
            next = next.wrapping_add(1);
        })
    })
}

/// Run callbacks until no accepted I/O is unfinished. Cancel the multishots first.
/// @param ring        borrowed
/// @param timeout_ns  negative = no limit, 0 = don't wait
/// @return 0, -ETIME, -EINTR; statuses as paluring_ring_submit
/// Ownership: buffers are lent to callbacks   Threads: driver or waiter   Blocks: until done, the timeout or a signal   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_drain(ring: *mut paluring_ring, timeout_ns: i64) -> i32 {
    driver(ring, |ring| match ring.drain(Limit::from_ns(timeout_ns))? {
        Some(session) => run_session(ring, session),
        None => Ok(0),
    })
}

/// Count the completions that process or reap would deliver now, and the kept ones, without entering the kernel.
/// While another thread is in a driver's call, completions that nobody gets (dropped, detached) may be counted too.
/// @param ring  borrowed
/// @return the count, PALURING_ERR_CLOSED (and nothing is left), _FORKED, _POISONED
/// Ownership: nothing   Threads: any   Blocks: never; may run release functions   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_ready(ring: *mut paluring_ring) -> i32 {
    letting_go(ring, |ring| ring.ready())
}

/// Have a function run on the ring's driver: once, after those posted before, from any thread.
/// Also the way to hand a buffer or a descriptor to another ring. It ends a wait; what was accepted runs before the ring's close ends.
/// @param ring       borrowed
/// @param function   runs on the driver, under the rules of a callback
/// @param user_data  handed to function as it is
/// @return 0, -EINVAL (function NULL), -ENOMEM, PALURING_ERR_CLOSED (a close has begun), _FORKED, _POISONED
/// Ownership: user_data is the function's once 0 is returned   Threads: any; function runs on the driver   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_post(
    ring: *mut paluring_ring,
    function: paluring_post_fn,
    user_data: usize,
) -> i32 {
    any(ring, |ring| {
        let (function, user_data) = host_function(function, user_data).ok_or(EINVAL)?;
        ring.post(function, user_data).map(|()| 0)
    })
}

/// Be told when there is room again after a start that failed with -EAGAIN for want of it, once for each such time.
/// @param ring       borrowed
/// @param room       runs on the driver, under the rules of a callback; NULL removes; replaces an earlier one
/// @param user_data  handed to room as it is; a call that is under way may still use the one before
/// @return 0, PALURING_ERR_CLOSED, _FORKED, _POISONED
/// Ownership: nothing   Threads: any; room runs on the driver   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_on_room(
    ring: *mut paluring_ring,
    room: paluring_room_fn,
    user_data: usize,
) -> i32 {
    any(ring, |ring| ring.on_room(host_function(room, user_data)).map(|()| 0))
}

/// End the driver's wait, or its next one. Wakes coalesce.
/// @param ring  borrowed
/// @return 0, PALURING_ERR_CLOSED, _FORKED, _POISONED, or the errno of the failed wake
/// Ownership: nothing   Threads: any and signal handlers; errno is kept   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_wake(ring: *mut paluring_ring) -> i32 {
    signal_safe(ring, |ring| ring.wake())
}

/// Get the descriptor that an event loop watches: readable while there is something to process or reap, or a timeout is due.
/// Call paluring_ring_prepare each time before the loop sleeps.
/// @param ring    borrowed
/// @param out_fd  set to -1 on failure; an eventfd, the library's: don't read, write or close it
/// @return 0, -EMFILE, -EINVAL (out_fd NULL), PALURING_ERR_CLOSED
/// Ownership: the descriptor stays the ring's, until its close   Threads: any   Blocks: never   Since: 0.1
/// See: eventfd(2), epoll(7)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_event_fd(ring: *mut paluring_ring, out_fd: *mut c_int) -> i32 {
    // SAFETY: host: out_fd is NULL or writable.
    unsafe { put(out_fd, -1) };
    any(ring, |ring| {
        super::guard::fits(!out_fd.is_null())?;
        let fd = ring.event_fd()?;
        // SAFETY: as above.
        unsafe { put(out_fd, fd) };
        Ok(0)
    })
}

/// Make ready for the event loop's sleep: submit, and arm the event fd for completions and the nearest timeout.
/// @param ring  borrowed
/// @return 1 (don't sleep: there is something to process or reap; the fd is readable too), 0 (sleep); statuses as paluring_ring_submit
/// Ownership: nothing   Threads: driver   Blocks: may enter the kernel   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_prepare(ring: *mut paluring_ring) -> i32 {
    driver(ring, |ring| ring.prepare())
}
