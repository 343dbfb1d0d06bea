// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the protocols between a ring's threads are made of: the standard library's, or, in the model checks
//! (`--cfg loom`, src/core/threads), loom's, which tries all that threads and memory may do.
//!
//! What belongs to the process and not to a ring (statics) stays the standard library's there, too.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, compiler_fence, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread::yield_now as give_way;

#[cfg(loom)]
pub(crate) use super::checked::{
    AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Mutex, MutexGuard, compiler_fence, fence, give_way,
};

use std::sync::PoisonError;

/// Take a mutex. That a panic happened under it is the ring's to remember (`Ring::poison`).
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place that one thread at a time is in: the model checks see whether that holds. Nothing elsewhere.
#[derive(Default)]
pub(crate) struct OneAtATime {
    #[cfg(loom)]
    place: loom::cell::UnsafeCell<()>,
}

impl OneAtATime {
    /// At the begin and at the end.
    #[inline(always)]
    pub(crate) fn mark(&self) {
        #[cfg(loom)]
        self.place.with_mut(|_| ());
    }
}

/// Whether a model check has asked for that mistake, to see that it is found. Elsewhere there are none.
#[cfg(not(loom))]
macro_rules! seeded {
    ($mistake:ident) => {
        false
    };
}
#[cfg(loom)]
macro_rules! seeded {
    ($mistake:ident) => {
        $crate::sys::checked::is_seeded($crate::sys::checked::Mistake::$mistake)
    };
}
pub(crate) use seeded;
