// SPDX-License-Identifier: MIT OR Apache-2.0
//! For tests alone, with the `fault-hooks` feature: a panic on demand. Not in the header.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Have the next call on a ring panic inside.
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
#[allow(unreachable_pub)]
pub extern "C" fn paluring_test_panic_next() {
    ASKED.store(true, Ordering::Relaxed);
}

#[allow(clippy::panic)]
pub(super) fn panic_if_asked() {
    if ASKED.swap(false, Ordering::Relaxed) {
        panic!("asked for by a test");
    }
}
