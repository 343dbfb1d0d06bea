// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring's lock: free for the thread that owns the ring, a mutex for all others.
//!
//! | bias | inside | meaning |
//! |---|---|---|
//! | 0 | – | a plain mutex for everybody |
//! | t | 0 | thread t may enter with two stores and two loads; others must take the bias away first |
//! | t | 1 | thread t is inside, or looks whether it may be |
//!
//! Only thread t sets `inside`, and only a thread that holds the mutex changes `bias`. The owner stores
//! `inside`, then loads `bias`; who takes the bias away stores `bias`, then loads `inside`. One of them sees
//! the other, given a full fence between store and load on both sides: the seldom side's
//! process-wide barrier stands for both. The owner gets its bias back when no other thread has come for a while.
//! A thread that got a dead owner's id inherits its bias: harmless here, since the dead one can't be inside.

//!
//! All mutexes are the standard library's, which allocate nothing: where memory is out, locks still work.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

use crate::sys::os::{Barrier, back_off};
use crate::sys::sync::{self, AtomicBool, AtomicUsize, Mutex, MutexGuard, OneAtATime, compiler_fence, seeded};

/// Take a mutex of the process. That a panic happened under it is the ring's to remember (`Ring::poison`).
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) struct OwnerLock<T> {
    bias: AtomicUsize,
    inside: AtomicBool,
    mutex: Mutex<Quiet>,
    /// The mutex's own guard, while it is held: `Guard` goes in two registers without it.
    held: UnsafeCell<Option<MutexGuard<'static, Quiet>>>,
    barrier: Barrier,
    holder: OneAtATime,
    value: UnsafeCell<T>,
}

/// The owner's drives since another thread came, and how many it takes to get the bias back.
struct Quiet {
    rounds: u32,
    needed: u32,
    /// Who had the mutex last.
    last: usize,
}

const QUIET_LEAST: u32 = if cfg!(loom) { 1 } else { 16 };
const QUIET_MOST: u32 = 4096;

// SAFETY: the value is reached only through a guard, and there is one guard at a time (the table above).
unsafe impl<T: Send> Sync for OwnerLock<T> {}
// SAFETY: nothing is bound to a thread while no guard exists.
unsafe impl<T: Send> Send for OwnerLock<T> {}

impl<T> OwnerLock<T> {
    pub(super) fn new(value: T, barrier: Barrier) -> Self {
        Self {
            bias: AtomicUsize::new(0),
            inside: AtomicBool::new(false),
            mutex: Mutex::new(Quiet { rounds: 0, needed: QUIET_LEAST, last: 0 }),
            held: UnsafeCell::new(None),
            barrier,
            holder: OneAtATime::default(),
            value: UnsafeCell::new(value),
        }
    }

    /// `me` is the calling thread's id.
    #[inline(always)]
    pub(super) fn lock(&self, me: usize) -> Guard<'_, T> {
        match self.lock_as_owner(me) {
            Some(guard) => guard,
            None => self.lock_slowly(me),
        }
    }

    /// As `lock`, if the calling thread has the bias and nobody is about to take it away.
    #[inline(always)]
    pub(super) fn lock_as_owner(&self, me: usize) -> Option<Guard<'_, T>> {
        if self.bias.load(Ordering::Relaxed) != me {
            return None;
        }
        debug_assert!(!self.inside.load(Ordering::Relaxed), "the owner takes its lock twice");
        self.inside.store(true, Ordering::Relaxed);
        // There is a bias only where the barrier is expedited: see `grant`.
        if !seeded!(OwnerHasNoFence) {
            compiler_fence(Ordering::SeqCst);
        }
        if self.bias.load(Ordering::Relaxed) == me {
            self.holder.mark();
            return Some(Guard { lock: self, biased: true });
        }
        self.inside.store(false, Ordering::Release);
        None
    }

    #[cold]
    #[inline(never)]
    fn lock_slowly(&self, me: usize) -> Guard<'_, T> {
        let mut quiet = sync::locked(&self.mutex);
        if quiet.last != me {
            quiet.last = me;
            quiet.rounds = 0;
        }
        if self.bias.load(Ordering::Relaxed) != 0 {
            self.bias.store(0, Ordering::Relaxed);
            if !seeded!(OthersHaveNoBarrier) {
                self.barrier.heavy();
            }
            let mut round = 0;
            while self.inside.load(Ordering::Acquire) && !seeded!(OthersDontWait) {
                back_off(round);
                round += 1;
            }
            quiet.needed = (quiet.needed * 2).min(QUIET_MOST);
        }
        // SAFETY: the mutex is held; the guard goes before `self`, which the returned one borrows.
        unsafe {
            *self.held.get() = Some(std::mem::transmute::<MutexGuard<'_, Quiet>, MutexGuard<'static, Quiet>>(quiet))
        };
        self.holder.mark();
        Guard { lock: self, biased: false }
    }

    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) fn is_locked(&self) -> bool {
        self.inside.load(Ordering::Relaxed) || self.mutex.try_lock().is_err()
    }

    /// The value, when nobody else can have the lock.
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The owner drives: after enough quiet rounds, hand it the bias.
    #[inline(always)]
    pub(super) fn settle(guard: &mut Guard<'_, T>, me: usize) {
        if !guard.biased {
            Self::settle_slowly(guard, me);
        }
    }

    #[cold]
    fn settle_slowly(guard: &mut Guard<'_, T>, me: usize) {
        // SAFETY: the mutex is held.
        let Some(quiet) = (unsafe { (*guard.lock.held.get()).as_mut() }) else { return };
        quiet.rounds += 1;
        if quiet.rounds >= quiet.needed && guard.lock.barrier.is_expedited() {
            quiet.rounds = 0;
            guard.lock.bias.store(me, Ordering::Relaxed);
        }
    }

    /// The owner binds the ring: it has the bias from here on.
    pub(super) fn grant(guard: &mut Guard<'_, T>, me: usize) {
        if !guard.biased && guard.lock.barrier.is_expedited() {
            guard.lock.bias.store(me, Ordering::Relaxed);
        }
    }
}

pub(super) struct Guard<'a, T> {
    lock: &'a OwnerLock<T>,
    biased: bool,
}

impl<T> Drop for Guard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.holder.mark();
        if self.biased {
            self.lock.inside.store(false, Ordering::Release);
        } else {
            // SAFETY: this guard holds the mutex. The place is empty again before it is given back.
            drop(unsafe { (*self.lock.held.get()).take() });
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the one guard.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the one guard.
        unsafe { &mut *self.lock.value.get() }
    }
}
