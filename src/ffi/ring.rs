// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings: open, hold, close.
//!
//! A ring is driven by one thread at a time (its driver); I/Os may be started, polled,
//! dropped and cancelled from any thread. `close` ends the ring, `release` only the
//! handle: after a close every call is safe until the last release.

use std::ffi::c_char;

use super::callback::run_session;
use super::guard::{EINVAL, caught, closing, fits, read_sized};
use super::handle::{borrow_ring, close_and_drop, give_ring, take_ring};
use crate::core::unavailable::{self, Reason};
use crate::core::{KernelRing, Limit, Mode, Options};

/// A ring: the queues shared with the kernel, the I/Os in flight, and their memory.
#[allow(missing_debug_implementations)]
pub struct paluring_ring {
    _private: [u8; 0],
}

/// The first thread that drives the ring owns it from then on: fastest, for event loops.
pub const PALURING_MODE_OWNER: u32 = 0;
/// Any thread drives, one at a time: for runtimes that move tasks between threads.
pub const PALURING_MODE_SHARED: u32 = 1;
/// A thread of the library's own drives, and runs the callbacks; any thread waits.
/// It is named paluring, has all signals blocked, and ends with the ring's close.
pub const PALURING_MODE_BACKGROUND: u32 = 2;

/// Count a thread that waits for completions as waiting for I/O (off by default where the kernel can, from Linux 6.15).
pub const PALURING_RING_IOWAIT: u32 = 4;
/// A kernel thread submits. Not in this release: -EOPNOTSUPP.
pub const PALURING_RING_SQPOLL: u32 = 1;
/// Completions are polled from the device. Not in this release: -EOPNOTSUPP.
pub const PALURING_RING_IOPOLL: u32 = 2;

/// Let the library choose: the kernel's io_uring.
pub const PALURING_BACKEND_AUTO: u32 = 0;
/// The kernel's io_uring.
pub const PALURING_BACKEND_KERNEL: u32 = 1;

/// How to open a ring. Set it with paluring_ring_options_init, then change what matters.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct paluring_ring_options {
    /// sizeof(paluring_ring_options)
    pub size: u32,
    /// PALURING_MODE_*
    pub mode: u32,
    /// Submission queue entries, up to 32768; 0 = 256. It limits batches, not I/Os in flight. Rounded up to a power of two.
    pub entries: u32,
    /// Completion queue entries; 0 = 2 × max_in_flight where it fits, less where memory limits forbid (overflow stays lossless).
    pub cq_entries: u32,
    /// I/Os in flight, at most 2^20; 0 = 4 × entries. A start beyond it is -EAGAIN.
    pub max_in_flight: u32,
    /// Registered files of each kind: by paluring_file_register, and by PALURING_OP_FIXED; 0 = 256.
    pub max_files: u32,
    /// PALURING_RING_*
    pub flags: u32,
    /// With PALURING_RING_SQPOLL: idle time before the kernel thread sleeps.
    pub sqpoll_idle_ms: u32,
    /// With PALURING_RING_SQPOLL: its processor; -1 = any.
    pub sqpoll_cpu: i32,
    /// With PALURING_MODE_BACKGROUND: the thread's processor; -1 = any.
    pub background_cpu: i32,
    /// PALURING_BACKEND_*
    pub backend: u32,
    /// 0
    pub reserved0: u32,
    /// A ring to share the kernel's worker threads with, borrowed during open. Not in this release: NULL, else -EOPNOTSUPP.
    pub attach: *mut paluring_ring,
    /// 0
    pub reserved: [u64; 4],
}

/// Set ring options to their defaults.
/// @param options  out
/// @param size     sizeof *options; nothing is written beyond it
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_options_init(options: *mut paluring_ring_options, size: usize) {
    let defaults = paluring_ring_options { size: u32::try_from(size).unwrap_or(u32::MAX), ..DEFAULTS };
    // SAFETY: host: options is NULL or writable for size bytes.
    unsafe { super::guard::write_sized(options, size, defaults) };
}

/// Open a ring.
/// @param options   borrowed; NULL = defaults
/// @param out_ring  set to NULL on failure; one reference, yours to release
/// @return 0, or -EINVAL, -E2BIG (options of a newer version with something set), -EOPNOTSUPP (an option that this release lacks), -ENOMEM, -EMFILE, -EAGAIN (no thread for PALURING_MODE_BACKGROUND, or no key left for threads), -ENOSYS or -EPERM (see paluring_ring_unavailable_reason)
/// Ownership: gives one reference   Threads: any   Blocks: may enter the kernel; up to 100 ms while it frees an earlier ring's memory   Since: 0.1
/// See: io_uring_setup(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_open(
    options: *const paluring_ring_options,
    out_ring: *mut *mut paluring_ring,
) -> i32 {
    super::fork::look_after();
    super::guard::quiet_panics();
    let open = || {
        super::thread::look_after()?;
        // SAFETY: host: options is NULL or valid for its size.
        KernelRing::open(&unsafe { checked(options) }?)
    };
    // SAFETY: host: out_ring is NULL or writable.
    unsafe { give_ring(out_ring, open) }
}

/// Add a reference to the handle.
/// @param ring  borrowed; NULL gives NULL
/// @return ring
/// Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_retain(ring: *mut paluring_ring) -> *mut paluring_ring {
    caught(std::ptr::null_mut(), || {
        // SAFETY: host: NULL or a live handle.
        unsafe { borrow_ring(ring, "paluring_ring_retain") }.map_or(std::ptr::null_mut(), |held| {
            held.retain();
            ring
        })
    })
}

/// Give up a reference to the handle. The last one closes a ring that is still open, with no time to wait.
/// @param ring  one reference, taken; NULL does nothing
/// Ownership: takes one reference   Threads: any   Blocks: may enter the kernel; the last one runs callbacks and release functions, or awaits a BACKGROUND ring's thread   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_release(ring: *mut paluring_ring) {
    caught((), || {
        // SAFETY: host: NULL or a reference that is given up here.
        if let Some(last) = unsafe { take_ring(ring) } {
            close_and_drop(last);
        }
    });
}

/// Close a ring: refuse new I/Os, cancel those in flight, deliver every completion, and wait for that as long as allowed.
/// What is left then is orphaned: completed with PALURING_ERR_ORPHANED, its memory kept until the kernel is done.
/// Inside a callback it returns 0 at once and is done when the callback returns.
/// @param ring        borrowed; the handle stays yours to release
/// @param timeout_ns  negative = no limit, 0 = don't wait
/// @return how many I/Os were orphaned, PALURING_ERR_WRONG_THREAD (nothing happens), _CLOSED
/// Ownership: nothing   Threads: owner; any once an OWNER ring's thread has exited   Blocks: until done or the timeout; a second while the kernel refuses every call   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_ring_close(ring: *mut paluring_ring, timeout_ns: i64) -> i32 {
    closing(ring, |ring| match ring.close(Limit::from_ns(timeout_ns))? {
        (Some(session), _) => run_session(ring, session),
        (None, orphaned) => Ok(orphaned),
    })
}

/// Say why rings can't be opened here: tries a minimal set-up now.
/// @return static text that names the cause and the remedy; "" if all is well; never NULL
/// Ownership: static, never released   Threads: any   Blocks: may enter the kernel   Since: 0.1
/// See: io_uring_setup(2)
#[unsafe(no_mangle)]
pub extern "C" fn paluring_ring_unavailable_reason() -> *const c_char {
    let text = match caught(Reason::Other, unavailable::reason) {
        Reason::Nothing => c"",
        Reason::NoKernel => c"io_uring: this kernel is too old or built without it (CONFIG_IO_URING); Linux 5.19 or later is needed",
        Reason::NotPermitted => {
            c"io_uring: not permitted; the sysctl kernel.io_uring_disabled is set (see also kernel.io_uring_group), or seccomp forbids it: in a container, allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
        }
        Reason::Policy => c"io_uring: a security policy (SELinux, AppArmor) forbids it for this program",
        Reason::LockedMemory => c"io_uring: not enough memory that may be locked; raise RLIMIT_MEMLOCK (ulimit -l)",
        Reason::Descriptors => c"io_uring: no file descriptors left; raise RLIMIT_NOFILE (ulimit -n)",
        Reason::Other => c"io_uring: a ring could not be set up, for an unusual reason; paluring_ring_open tells which",
    };
    text.as_ptr()
}

const DEFAULTS: paluring_ring_options = paluring_ring_options {
    size: 0,
    mode: PALURING_MODE_OWNER,
    entries: 0,
    cq_entries: 0,
    max_in_flight: 0,
    max_files: 0,
    flags: 0,
    sqpoll_idle_ms: 0,
    sqpoll_cpu: -1,
    background_cpu: -1,
    backend: PALURING_BACKEND_AUTO,
    reserved0: 0,
    attach: std::ptr::null_mut(),
    reserved: [0; 4],
};

/// What the host asks for, checked; fields beyond the host's size have their defaults.
unsafe fn checked(options: *const paluring_ring_options) -> Result<Options, crate::core::Status> {
    let asked = if options.is_null() {
        DEFAULTS
    } else {
        // SAFETY: host: options is valid for the size that it begins with.
        unsafe { read_sized(options, DEFAULTS) }?
    };
    let known = PALURING_RING_IOWAIT | PALURING_RING_SQPOLL | PALURING_RING_IOPOLL;
    fits(asked.flags & !known == 0 && asked.reserved0 == 0 && asked.reserved == [0; 4])?;
    fits(asked.backend <= PALURING_BACKEND_KERNEL)?;
    let mode = match asked.mode {
        PALURING_MODE_OWNER => Mode::Owner,
        PALURING_MODE_SHARED => Mode::Shared,
        PALURING_MODE_BACKGROUND => Mode::Background,
        _ => return Err(EINVAL),
    };
    Options {
        mode,
        entries: asked.entries,
        cq_entries: asked.cq_entries,
        max_in_flight: asked.max_in_flight,
        max_files: asked.max_files,
        background_cpu: u32::try_from(asked.background_cpu).ok(),
        iowait: asked.flags & PALURING_RING_IOWAIT != 0,
        sqpoll: asked.flags & PALURING_RING_SQPOLL != 0,
        iopoll: asked.flags & PALURING_RING_IOPOLL != 0,
        attach: !asked.attach.is_null(),
    }
    .checked()
}
