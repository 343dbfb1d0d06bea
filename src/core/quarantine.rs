// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that closed rings' requests may still touch: kept for the whole process until the
//! rings' sentinels hang up, then freed by whoever looks next (open, close, alloc, stats).
//! Each open ring has a place reserved, so that its close needs no memory for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::Result;
use super::buf::BufRef;
use super::fork::Process;
use super::lock::locked;
use super::storage::Storage;
use crate::sys::os::Sentinel;

/// What the kernel may still use of a closed ring's I/Os, until its sentinel has hung up.
pub(super) struct Orphans {
    pub(super) sentinel: Sentinel,
    pub(super) _held: Vec<(Option<BufRef>, Option<Storage>)>,
    pub(super) bytes: u64,
}

pub(super) struct Quarantine {
    orphans: Vec<(Process, Orphans)>,
    /// Places reserved in `orphans`.
    reserved: usize,
}

static PENDING: AtomicUsize = AtomicUsize::new(0);
static QUARANTINE: Mutex<Quarantine> = Mutex::new(Quarantine { orphans: Vec::new(), reserved: 0 });

/// A place for what a ring may leave behind.
pub(super) struct Place(());

impl Place {
    pub(super) fn reserve() -> Result<Self> {
        let mut all = locked(&QUARANTINE);
        let reserved = all.reserved + 1;
        all.orphans.try_reserve(reserved)?;
        all.reserved = reserved;
        Ok(Self(()))
    }

    /// Take orphans in.
    pub(super) fn fill(self, process: Process, orphans: Orphans) {
        let mut all = locked(&QUARANTINE);
        all.orphans.push((process, orphans));
        PENDING.store(all.orphans.len(), Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&QUARANTINE).reserved -= 1;
    }
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
            let mut all = locked(&QUARANTINE);
            let orphans = &mut all.orphans;
            // In a forked child the memory is a copy, and its release functions are the parent's to call.
            let found =
                orphans.iter().position(|(process, orphans)| process.is_current() && orphans.sentinel.hung_up());
            let done = found.map(|place| orphans.swap_remove(place));
            PENDING.store(orphans.len(), Ordering::Relaxed);
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
    locked(&QUARANTINE).orphans.iter().map(|(_, orphans)| orphans.bytes).sum()
}

/// Around a fork.
pub(super) fn hold() -> MutexGuard<'static, Quarantine> {
    locked(&QUARANTINE)
}
