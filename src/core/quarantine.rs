// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that closed rings' requests may still touch: kept for the whole process until the
//! rings' sentinels hang up, then freed by whoever looks next (open, close, alloc, stats).

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::buf::BufRef;
use super::fork::Process;
use super::storage::Storage;
use crate::sys::os::Sentinel;

/// What the kernel may still use of a closed ring's I/Os, until its sentinel has hung up.
pub(super) struct Orphans {
    pub(super) sentinel: Sentinel,
    pub(super) _held: Vec<(Option<BufRef>, Option<Storage>)>,
    pub(super) bytes: u64,
}

static PENDING: AtomicUsize = AtomicUsize::new(0);
static ORPHANS: Mutex<Vec<(Process, Orphans)>> = Mutex::new(Vec::new());

/// Take orphans in. Without memory to remember them they are leaked: never freed early.
pub(super) fn add(process: Process, orphans: Orphans) {
    let mut all = ORPHANS.lock();
    if all.try_reserve(1).is_err() {
        drop(all);
        std::mem::forget(orphans);
        return;
    }
    all.push((process, orphans));
    PENDING.store(all.len(), Ordering::Relaxed);
}

/// Free what the kernel is done with. Release functions of the host run here, under no lock.
#[inline]
pub(super) fn collect() {
    if PENDING.load(Ordering::Relaxed) > 0 {
        collect_slowly();
    }
}

#[cold]
fn collect_slowly() {
    loop {
        let done = {
            let mut all = ORPHANS.lock();
            // In a forked child the memory is a copy, and its release functions are the parent's to call.
            let found = all.iter().position(|(process, orphans)| process.is_current() && orphans.sentinel.hung_up());
            let done = found.map(|place| all.swap_remove(place));
            PENDING.store(all.len(), Ordering::Relaxed);
            done
        };
        if done.is_none() {
            return;
        }
    }
}

/// Bytes that are held now.
pub(super) fn bytes() -> u64 {
    collect();
    ORPHANS.lock().iter().map(|(_, orphans)| orphans.bytes).sum()
}

/// Around a fork.
pub(super) fn hold() {
    std::mem::forget(ORPHANS.lock());
}

pub(super) fn let_go() {
    // SAFETY: `hold` took it.
    unsafe { ORPHANS.force_unlock() };
}
