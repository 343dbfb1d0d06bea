// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tuning and insight: worker threads, capabilities, statistics, what is stuck.

use std::ffi::{c_char, c_void};

use super::guard::{EINVAL, any, driver, report_sized};
use super::ring::paluring_ring;

/// Gets text in pieces of len bytes, without a terminating zero. It must not call the library.
pub type paluring_write_fn = Option<unsafe extern "C" fn(user_data: usize, text: *const c_char, len: usize)>;

/// What the kernel gave this ring.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct paluring_capabilities {
    /// sizeof(paluring_capabilities), set by the host.
    pub size: u32,
    /// PALURING_BACKEND_*
    pub backend: u32,
    /// IORING_SETUP_* that the ring was set up with.
    pub setup_flags: u32,
    /// IORING_FEAT_* of the kernel.
    pub features: u32,
    /// PALURING_FALLBACK_*: what the library wanted and did without.
    pub fallbacks: u32,
    /// Submission queue entries.
    pub entries: u32,
    /// Completion queue entries.
    pub cq_entries: u32,
    /// I/Os in flight at most.
    pub max_in_flight: u32,
    /// Registered files of each kind: by paluring_file_register, and by PALURING_OP_FIXED.
    pub max_files: u32,
    /// 0
    pub reserved0: u32,
    /// Bit n of word n / 64: IORING_OP n is there.
    pub ops: [u64; 4],
    /// 0
    pub reserved: [u64; 8],
}

/// A set-up flag that the kernel lacks: see setup_flags.
pub const PALURING_FALLBACK_SETUP: u32 = 1;
/// Fewer completion queue entries than asked for, for want of memory.
pub const PALURING_FALLBACK_CQ_ENTRIES: u32 = 2;
/// Fewer registered files than asked for, for want of memory or descriptors.
pub const PALURING_FALLBACK_FILES: u32 = 4;
/// Wakes go through an eventfd (before Linux 6.13).
pub const PALURING_FALLBACK_WAKE: u32 = 8;
/// The ring's descriptor could not be registered: each enter looks it up.
pub const PALURING_FALLBACK_RING_FD: u32 = 16;
/// membarrier(2) is missing: the owner's calls use a lock.
pub const PALURING_FALLBACK_LOCK: u32 = 32;

/// Counts of a ring since its open, and of the I/Os in flight now.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct paluring_stats {
    /// sizeof(paluring_stats), set by the host.
    pub size: u32,
    /// 0
    pub reserved0: u32,
    /// I/Os now that wait for room in the submission queue.
    pub queued: u64,
    /// I/Os now that the kernel has, or will have at the next enter; dropped ones not included.
    pub waiting: u64,
    /// I/Os now that are complete and not yet delivered.
    pub completed: u64,
    /// I/Os now that were dropped or started DETACHED and are not yet complete.
    pub dropped: u64,
    /// I/Os accepted.
    pub total_started: u64,
    /// I/Os that ended: delivered, discarded or orphaned.
    pub total_finished: u64,
    /// I/Os that completed with -ECANCELED, or -ETIME for their timeout_ns; not delivered ones too.
    pub total_cancelled: u64,
    /// I/Os dropped.
    pub total_dropped: u64,
    /// Detached I/Os that failed.
    pub total_detached_failed: u64,
    /// I/Os orphaned by a close.
    pub total_orphaned: u64,
    /// Calls of io_uring_enter(2).
    pub total_enters: u64,
    /// Times that the completion queue was found to have overflowed.
    pub total_overflows: u64,
    /// Starts refused with -EAGAIN.
    pub total_again: u64,
    /// Wakes sent to a driver that slept.
    pub total_wakes: u64,
    /// I/Os submitted again since the thread that had submitted them was gone.
    pub total_resubmits: u64,
    /// Completions that named no I/O of this ring, ignored.
    pub total_foreign: u64,
    /// The most I/Os in flight at once.
    pub high_in_flight: u64,
    /// The most entries that waited for room in the submission queue at once.
    pub high_queued: u64,
    /// Bytes of the whole process that closed rings' I/Os may still use, now.
    pub quarantined_bytes: u64,
    /// 0
    pub reserved: [u64; 8],
}

/// Limit the kernel's worker threads that serve this ring's thread.
/// The limits belong to the driver's thread and are shared by its rings.
/// @param ring       borrowed
/// @param bounded    workers for files and block devices; 0 = unchanged
/// @param unbounded  workers for sockets, pipes and the rest; 0 = unchanged
/// @return 0, PALURING_ERR_WRONG_THREAD, _CLOSED, or an errno
/// Ownership: nothing   Threads: owner; a BACKGROUND ring's thread does it   Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it   Since: 0.1, Linux 5.15
/// See: io_uring_register(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_set_worker_limits(
    ring: *mut paluring_ring,
    bounded: u32,
    unbounded: u32,
) -> i32 {
    driver(ring, |ring| ring.set_worker_limits(bounded, unbounded).map(|()| 0))
}

/// Set the processors that the kernel's worker threads of this ring's thread may use.
/// @param ring      borrowed
/// @param mask      a cpu_set_t, borrowed
/// @param mask_len  bytes in mask, 1 to 1024
/// @return 0, -EINVAL, PALURING_ERR_WRONG_THREAD, _CLOSED, or an errno
/// Ownership: nothing   Threads: owner; a BACKGROUND ring's thread does it   Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it   Since: 0.1, Linux 5.14
/// See: io_uring_register(2), cpu_set(3)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_set_worker_affinity(
    ring: *mut paluring_ring,
    mask: *const c_void,
    mask_len: usize,
) -> i32 {
    driver(ring, |ring| {
        super::guard::fits(!mask.is_null() && (1..=1024).contains(&mask_len))?;
        // SAFETY: host: mask is readable for mask_len bytes.
        let mask = unsafe { std::slice::from_raw_parts(mask.cast::<u8>(), mask_len) };
        ring.set_worker_affinity(mask).map(|()| 0)
    })
}

/// Ask whether the kernel has an operation.
/// @param ring    borrowed
/// @param opcode  IORING_OP_*, as in a completion's opcode
/// @return 1 or 0, PALURING_ERR_CLOSED, _FORKED, _POISONED
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_supports(ring: *mut paluring_ring, opcode: u32) -> i32 {
    any(ring, |ring| Ok(i32::from(ring.supports(opcode)?)))
}

/// Get what the kernel gave this ring.
/// @param ring              borrowed; closed ones too
/// @param out_capabilities  its size set by the host; nothing is written beyond it
/// @return 0, -EINVAL
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_capabilities(
    ring: *mut paluring_ring,
    out_capabilities: *mut paluring_capabilities,
) -> i32 {
    // SAFETY: host: out_capabilities is NULL or writable for its size.
    any(ring, |ring| unsafe { report_sized(ring, out_capabilities, super::callback::capabilities) })
}

/// Get the ring's counts. Also frees memory of closed rings that the kernel is done with.
/// @param ring       borrowed; closed ones too
/// @param out_stats  its size set by the host; nothing is written beyond it
/// @return 0, -EINVAL
/// Ownership: nothing   Threads: any   Blocks: never; may run release functions   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_stats(ring: *mut paluring_ring, out_stats: *mut paluring_stats) -> i32 {
    // SAFETY: host: out_stats is NULL or writable for its size.
    any(ring, |ring| unsafe { report_sized(ring, out_stats, super::callback::stats) })
}

/// Write the ring's state as JSON: options, counts, and each I/O in flight with opcode, fd and age. "What is stuck?"
/// @param ring       borrowed; closed ones too
/// @param write      called several times
/// @param user_data  handed to write as it is
/// @return 0, -EINVAL, -ENOMEM
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_dump(
    ring: *mut paluring_ring,
    write: paluring_write_fn,
    user_data: usize,
) -> i32 {
    any(ring, |ring| {
        let write = write.ok_or(EINVAL)?;
        let text = ring.dump()?;
        // SAFETY: host: write takes len bytes and does not unwind.
        unsafe { write(user_data, text.as_ptr().cast(), text.len()) };
        Ok(0)
    })
}
