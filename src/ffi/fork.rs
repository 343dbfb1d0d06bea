// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the C library runs around a fork.

use std::sync::Once;

use crate::core::fork;

/// Have forks looked after, from the first ring on. Without memory for it, a child keeps copies of descriptors that it can't use.
pub(super) fn look_after() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handlers neither unwind nor touch anything but the list of descriptors.
        unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    });
}

unsafe extern "C" fn before() {
    fork::before();
}

unsafe extern "C" fn after_in_parent() {
    fork::after_in_parent();
}

unsafe extern "C" fn after_in_child() {
    fork::after_in_child();
}
