// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations: plain descriptions of what to do, one constructor per verb.
//!
//! A paluring_op owns nothing: make it anywhere, start it as often as you like. A
//! constructor sets all fields, so set the public ones (callback, user_data, flags, ...)
//! afterwards. It can't fail: a bad argument makes the start return -EINVAL. What pointers point
//! to is borrowed until the start returns; what the kernel writes goes into a paluring_buf, or comes
//! in the completion's extra. An operation that the kernel lacks is -EOPNOTSUPP at the start.

use std::ffi::c_int;

use super::guard::caught;
use super::io::paluring_complete_fn;
use crate::core::op::{FIXED_BASE, Form, Template, opcode};

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
/// On read, write, send and recv: short transfers are continued inside until all is done, or the file ends, an error comes, the I/O is cancelled or its ring closes. The result is the bytes done; an error after some bytes shows at the next call. Not in a chain.
pub const PALURING_OP_FULL: u32 = 32;
/// On send, sendto and sendmsg: without a copy where the kernel and the socket can, the buffer being held until the peer has it; else as a plain send, as in chains. extra is 1 if the kernel copied.
pub const PALURING_OP_ZEROCOPY: u32 = 64;
/// On openat, openat2, socket, accept and pipe: install what is made into the ring's registered files; its number (2^30 and more) is the result. Before Linux 6.0 the start returns -EOPNOTSUPP.
pub const PALURING_OP_FIXED: u32 = 256;

/// Describe doing nothing: completes with 0.
/// @param op  out
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_op_nop(op: *mut paluring_op) {
    set(op, || Template::new(opcode::NOP, -1, Form::Plain));
}

/// Whether a descriptor is the process's, and no registered file.
pub(super) fn is_own(fd: c_int) -> bool {
    fd < FIXED_BASE
}

/// Write a description over all of `op`; NULL does nothing.
pub(super) fn set(op: *mut paluring_op, template: impl FnOnce() -> Template) {
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
