// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registered files: descriptors that the ring looks up once.
//!
//! A fixed fd is an int from 2^30 on. It is taken as fd by each operation that the kernel supports it
//! on (docs/kernels.md lists them), is -EINVAL at the start elsewhere, and means nothing to system
//! calls. paluring_op_close ends it, too. A ring has max_files of them for paluring_file_register, and
//! as many again for PALURING_OP_FIXED.

use std::ffi::c_int;

use super::guard::{EINVAL, driver, put};
use super::ring::paluring_ring;

/// Register a file with a ring. The descriptor stays yours, to be used and closed as before.
/// @param ring          borrowed
/// @param fd            descriptor; its file is kept open until it is unregistered or the ring ends
/// @param out_fixed_fd  set to -1 on failure
/// @return 0, or -EBADF, -ENFILE (max_files are registered), -ENOMEM, PALURING_ERR_WRONG_THREAD, _CLOSED
/// Ownership: fd stays yours; the fixed fd is yours to unregister   Threads: owner; a BACKGROUND ring's thread does it   Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it   Since: 0.1, Linux 5.19
/// See: io_uring_register(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_file_register(ring: *mut paluring_ring, fd: c_int, out_fixed_fd: *mut c_int) -> i32 {
    // SAFETY: host: out_fixed_fd is NULL or writable.
    unsafe { put(out_fixed_fd, -1) };
    driver(ring, |ring| {
        if out_fixed_fd.is_null() {
            return Err(EINVAL);
        }
        let fixed_fd = ring.register_file(fd)?;
        // SAFETY: as above.
        unsafe { put(out_fixed_fd, fixed_fd) };
        Ok(0)
    })
}

/// End a registration, or close what PALURING_OP_FIXED has installed.
/// I/Os that the kernel has keep the file until they are done; those that were not submitted, or wait in a chain for their turn, may find none: -EBADF.
/// @param ring      borrowed
/// @param fixed_fd  a fixed fd of this ring
/// @return 0, or -EBADF (not registered), -EINVAL (no fixed fd), PALURING_ERR_WRONG_THREAD, _CLOSED
/// Ownership: takes the fixed fd   Threads: owner; a BACKGROUND ring's thread does it   Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it   Since: 0.1, Linux 5.19
/// See: io_uring_register(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_file_unregister(ring: *mut paluring_ring, fixed_fd: c_int) -> i32 {
    driver(ring, |ring| ring.unregister_file(fixed_fd).map(|()| 0))
}
