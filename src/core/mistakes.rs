// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes of the host's that debug builds find inside, where nobody may be told: noted here, told by the surface.

use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Mistake {
    WrittenAfterRelease = 1,
    ChangedInFlight = 2,
}

static NOTED: AtomicU32 = AtomicU32::new(0);

#[cfg(debug_assertions)]
pub(super) fn note(mistake: Mistake) {
    NOTED.fetch_or(mistake as u32, Ordering::Relaxed);
}

/// Whether a mistake was noted since this was last asked.
pub(crate) fn take(mistake: Mistake) -> bool {
    let bit = mistake as u32;
    NOTED.load(Ordering::Relaxed) & bit != 0 && NOTED.fetch_and(!bit, Ordering::Relaxed) & bit != 0
}
