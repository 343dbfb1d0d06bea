// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the C library runs when a thread exits.

use std::ffi::c_void;

use crate::core::{Status, seat};

/// Have the exits of rings' owners looked after, from the first ring on.
pub(super) fn look_after() -> Result<(), Status> {
    seat::watch(|| {
        let mut key = 0;
        // SAFETY: key is writable; the destructor neither unwinds nor is unloaded (build.rs).
        match unsafe { libc::pthread_key_create(&raw mut key, Some(exits)) } {
            0 => Ok(key),
            libc::ENOMEM => Err(Status::ENOMEM),
            _ => Err(Status::EAGAIN),
        }
    })
}

unsafe extern "C" fn exits(chain: *mut c_void) {
    // SAFETY: the C library's: the exiting thread's value of the key, which it has set to NULL.
    unsafe { seat::thread_exits(chain.expose_provenance()) };
}
