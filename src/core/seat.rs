// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which thread an OWNER ring is bound to, and whether it still lives.
//!
//! A thread's id may come again after its exit, so each thread tells the seats that it holds when it exits.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::Result;
use super::alloc::try_box;

/// In place of a thread: it has exited.
pub(super) const GONE: usize = 1;

struct Shared {
    /// 0 = free, GONE, or the thread.
    thread: AtomicUsize,
    holders: AtomicU32,
}

/// One of the two holders of a seat: the ring, and its owner thread.
pub(super) struct Seat(NonNull<Shared>);

// SAFETY: Shared is made of atomics, freed by the last holder.
unsafe impl Send for Seat {}
// SAFETY: as above.
unsafe impl Sync for Seat {}

impl Seat {
    pub(super) fn new() -> Result<Self> {
        let shared = try_box(Shared { thread: AtomicUsize::new(0), holders: AtomicU32::new(1) })?;
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

    /// The calling thread, `me`, takes the seat and will tell when it exits. A thread that is exiting already, or has no
    /// memory for that, takes it without a promise: then its exit goes unnoticed.
    pub(super) fn take(&self, me: usize) {
        let _ = SEATS.try_with(|seats| {
            let mut seats = seats.0.borrow_mut();
            seats.retain(|seat| seat.shared().holders.load(Ordering::Relaxed) > 1);
            if seats.try_reserve(1).is_ok() {
                self.shared().holders.fetch_add(1, Ordering::Relaxed);
                seats.push(Self(self.0));
            }
        });
        self.shared().thread.store(me, Ordering::Release);
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

thread_local! {
    static SEATS: Seats = const { Seats(RefCell::new(Vec::new())) };
}

/// The seats that a thread has taken.
struct Seats(RefCell<Vec<Seat>>);

impl Drop for Seats {
    fn drop(&mut self) {
        for seat in self.0.get_mut().iter() {
            seat.shared().thread.store(GONE, Ordering::Release);
        }
    }
}
