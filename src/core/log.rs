// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where messages for the host's programmer go: set by the host, read by the surface.

use std::sync::Mutex;

use super::lock::locked;

/// The host's function, as a number that only the surface turns back, and its user_data.
static LOG: Mutex<Option<(usize, usize)>> = Mutex::new(None);

pub(crate) fn set(log: Option<usize>, user_data: usize) {
    *locked(&LOG) = log.map(|log| (log, user_data));
}

/// The function that is set now. It is called after the lock is gone.
pub(crate) fn get() -> Option<(usize, usize)> {
    *locked(&LOG)
}
