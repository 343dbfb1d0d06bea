// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread of a BACKGROUND ring: it drives, runs the host's callbacks, and ends with the ring's close.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::callback::run_session;
use super::guard::poison;
use super::handle::free_deferred;
use crate::core::{KernelRing, Status};

/// Have the ring's thread made, if it is to have one. A ring that fails here is the caller's to free.
pub(super) fn start(ring: &KernelRing) -> Result<(), Status> {
    let body: extern "C" fn(*mut c_void) -> *mut c_void = drive;
    // SAFETY: `drive` is such a function, and is given the ring.
    unsafe { ring.spawn_background(body as usize, (&raw const *ring).expose_provenance()) }
}

extern "C" fn drive(ring: *mut c_void) -> *mut c_void {
    // SAFETY: from `start`; the ring lives until this thread is joined, or frees it below.
    let held = unsafe { &*ring.cast::<KernelRing>() };
    let driven = catch_unwind(AssertUnwindSafe(|| {
        held.begin_background();
        while let Some(session) = held.background_session() {
            if run_session(held, session).is_err() {
                // The kernel refuses, or the ring is about to be closed.
                held.pause();
            }
        }
    }));
    if driven.is_err() {
        poison(held);
    }
    if held.end_background() {
        // SAFETY: the last reference was given up in a callback on this thread.
        unsafe { free_deferred(ring.cast()) };
    }
    std::ptr::null_mut()
}
