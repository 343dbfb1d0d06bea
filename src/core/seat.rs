// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which thread an OWNER ring is bound to, and whether it still lives.
//!
//! A thread's id may come again after its exit, so each thread tells the seats that it holds when it exits. They are chained
//! in a word of its own, which the C library hands back then. Nothing here needs memory but the seat itself, made at open,
//! and the word's first value in a thread (a `thread_local` with a destructor ends the process where that has none).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use super::alloc::try_box;
use super::lock::locked;
use super::{Result, Status};
use crate::sys::os::ThreadWord;

/// In place of a thread: it has exited.
pub(super) const GONE: usize = 1;

/// The end of a thread's chain: not 0, so that setting a first seat needs no memory.
const END: usize = 1;

struct Shared {
    /// 0 = free, GONE, or the thread.
    thread: AtomicUsize,
    holders: AtomicU32,
    /// The next in the thread's chain, which that thread alone uses.
    next: AtomicUsize,
}

/// One of the two holders of a seat: the ring, and its owner thread's chain.
pub(super) struct Seat(NonNull<Shared>);

// SAFETY: Shared is made of atomics, freed by the last holder.
unsafe impl Send for Seat {}
// SAFETY: as above.
unsafe impl Sync for Seat {}

static CHAINS: OnceLock<ThreadWord> = OnceLock::new();

/// Have `create` make the word, from the first ring on: a key whose destructor calls `thread_exits`.
pub(crate) fn watch(create: impl FnOnce() -> Result<u32>) -> Result<()> {
    static CREATING: Mutex<()> = Mutex::new(());
    let _one = locked(&CREATING);
    if CHAINS.get().is_none() {
        let _ = CHAINS.set(ThreadWord::new(create()?));
    }
    Ok(())
}

/// The calling thread exits: its seats are told.
/// # Safety
/// `chain` is the thread's word, which is 0 from now on.
pub(crate) unsafe fn thread_exits(chain: usize) {
    let mut rest = chain;
    // SAFETY: the caller's duty.
    while let Some(seat) = unsafe { Seat::unchain(&mut rest) } {
        seat.shared().thread.store(GONE, Ordering::Release);
    }
}

impl Seat {
    pub(super) fn new() -> Result<Self> {
        let [thread, next] = [const { AtomicUsize::new(0) }; 2];
        let shared = try_box(Shared { thread, holders: AtomicU32::new(1), next })?;
        Ok(Self(NonNull::from(Box::leak(shared))))
    }

    #[inline]
    fn shared(&self) -> &Shared {
        // SAFETY: this holder keeps it.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn thread(&self) -> usize {
        self.shared().thread.load(Ordering::Acquire)
    }

    /// Make sure that the calling thread can `take` one.
    pub(super) fn prepare() -> Result<()> {
        let word = CHAINS.get().ok_or(Status::ENOMEM)?;
        if word.get() == 0 {
            word.set(END)?;
        }
        Ok(())
    }

    /// The calling thread, `me`, takes the seat and will tell when it exits. `prepare` came before.
    pub(super) fn take(&self, me: usize) {
        if let Some(word) = CHAINS.get() {
            let (mut old, mut chain) = (word.get(), END);
            // SAFETY: the word is the calling thread's chain.
            while let Some(seat) = unsafe { Self::unchain(&mut old) } {
                // Seats of rings that are gone are let go of.
                if seat.shared().holders.load(Ordering::Relaxed) > 1 {
                    chain = seat.chain(chain);
                }
            }
            self.shared().holders.fetch_add(1, Ordering::Relaxed);
            let _ = word.set(Self(self.0).chain(chain));
        }
        self.shared().thread.store(me, Ordering::Release);
    }

    /// → a chain that begins with this seat.
    fn chain(self, rest: usize) -> usize {
        self.shared().next.store(rest, Ordering::Relaxed);
        std::mem::ManuallyDrop::new(self).0.as_ptr().expose_provenance()
    }

    /// The first seat of a chain, taken out.
    /// # Safety
    /// `chain` is the rest of the calling thread's.
    unsafe fn unchain(chain: &mut usize) -> Option<Self> {
        let first = std::ptr::with_exposed_provenance_mut(*chain);
        // SAFETY: from `chain`, whose holder the seat is.
        let seat = if *chain > END { Self(unsafe { NonNull::new_unchecked(first) }) } else { return None };
        *chain = seat.shared().next.load(Ordering::Relaxed);
        Some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.shared().holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: from a box; the last holder is gone.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}
