// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model checks' side of `sync`: loom's types, and the mistakes that a check may ask for.
//!
//! | here | is | for |
//! |---|---|---|
//! | process-wide barrier, and the compiler fence on the other side | a full fence each | what membarrier(2) makes of them |
//! | SeqCst load, store, add | AcqRel, and a step in one order of all such, in front, behind, on both sides | loom takes SeqCst for AcqRel |
//!
//! The fences order two light sides, too, which the real ones don't: no protocol here has two that meet. The steps keep
//! clear of the fences: a SeqCst access never stands in for a barrier that is missing.

use std::cell::Cell;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use loom::sync::Condvar;
pub(crate) use loom::sync::atomic::fence;
pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use loom::thread::yield_now as give_way;

use super::futex::Slept;
use super::sync::locked;

/// The light side of a process-wide barrier.
pub(crate) fn compiler_fence(ordering: Ordering) {
    fence(ordering);
}

loom::lazy_static! {
    static ref TOTAL: loom::sync::atomic::AtomicUsize = loom::sync::atomic::AtomicUsize::new(0);
}

fn step_if_total(ordering: Ordering) {
    if ordering == Ordering::SeqCst {
        TOTAL.fetch_add(0, Ordering::AcqRel);
    }
}

macro_rules! atomics {
    ($($name:ident: $value:ty),*) => { $(
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$value>::default())
            }
        }

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                step_if_total(ordering);
                self.0.load(ordering)
            }

            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                self.0.store(value, ordering);
                step_if_total(ordering);
            }
        }
    )* };
}

atomics!(AtomicBool: bool, AtomicI32: i32, AtomicU32: u32, AtomicUsize: usize);

impl AtomicBool {
    pub(crate) fn swap(&self, value: bool, ordering: Ordering) -> bool {
        self.0.swap(value, ordering)
    }
}

macro_rules! counters {
    ($($name:ident: $value:ty),*) => { $(
        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
                step_if_total(ordering);
                let old = self.0.fetch_add(value, ordering);
                step_if_total(ordering);
                old
            }

            pub(crate) fn fetch_sub(&self, value: $value, ordering: Ordering) -> $value {
                self.fetch_add(value.wrapping_neg(), ordering)
            }
        }
    )* };
}

counters!(AtomicU32: u32, AtomicUsize: usize);

/// Each is made in one place of the library, and found by a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    // The lock.
    OwnerHasNoFence,
    OthersHaveNoBarrier,
    OthersDontWait,
    // Starts, and falling asleep.
    StartDoesntLook,
    SleepsBehindTheLock,
    KickedForEver,
    KicksEachTime,
    // The inbox.
    LetterHasNoBarrier,
    SleepsOverLetters,
    ForgetsLetters,
    // Wakes, and falling asleep.
    NoSecondLook,
    SleeperHasNoFence,
    WakeHasNoBarrier,
    ForgetsRefusal,
    // The event loop.
    ClearsAfterTheLook,
    NoLookAtStarts,
    // Those who wait for a driver.
    EnlistsBehindTheLock,
    RoundAfterTheLook,
    TellsBeforeTheChange,
    // The end.
    NoEndOfVisits,
    ClosesWithoutWake,
    DoesntJoin,
}

std::thread_local! {
    static SEEDED: Cell<Option<Mistake>> = const { Cell::new(None) };
    static LAST: Cell<usize> = const { Cell::new(0) };
}

pub(crate) fn is_seeded(mistake: Mistake) -> bool {
    SEEDED.get() == Some(mistake)
}

/// For all that the calling thread checks from here on.
pub(crate) fn seed(mistake: Mistake) {
    SEEDED.set(Some(mistake));
}

loom::thread_local! {
    static ID: usize = LAST.with(|last| {
        last.set(last.get() + 1);
        // Neither nobody nor gone.
        last.get() + 1
    });
}

/// loom's threads take turns on one of the system's.
pub(crate) fn thread_id() -> usize {
    ID.with(|id| *id)
}

/// See `futex::Word`: the kernel's look at the word and its falling asleep are one step, as under a lock.
#[derive(Default)]
pub(crate) struct Word {
    value: AtomicU32,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Word {
    pub(crate) fn now(&self) -> u32 {
        self.value.load(Ordering::SeqCst)
    }

    /// The clock stands still here: a sleep has no end but a change.
    pub(crate) fn sleep(&self, seen: u32, _ns: Option<u64>) -> Slept {
        let mut held = locked(&self.lock);
        while self.now() == seen {
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        Slept::Told
    }

    pub(crate) fn change(&self) {
        self.value.fetch_add(1, Ordering::SeqCst);
        drop(locked(&self.lock));
        self.changed.notify_all();
    }
}
