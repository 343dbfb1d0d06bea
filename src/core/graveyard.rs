// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where freed memory goes. Debug builds keep the latest of it for a while, so that a handle that was released finds a mark
//! and not a stranger, and look whether anyone has written to what they had filled with a pattern.

use std::alloc::Layout;
#[cfg(debug_assertions)]
use std::sync::{Mutex, MutexGuard};

#[cfg(debug_assertions)]
use super::lock::locked;

/// What freed memory is filled with in debug builds.
#[cfg(debug_assertions)]
const POISON: u8 = 0xdb;

/// # Safety
/// Allocated with this layout, used no more.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) unsafe fn bury(place: *mut u8, layout: Layout, _poisoned: bool) {
    // SAFETY: the caller's duty.
    unsafe { std::alloc::dealloc(place, layout) };
}

/// Drop a value, and bury its memory.
pub(crate) fn bury_box<T>(value: Box<T>) {
    const { assert!(size_of::<T>() > 0) };
    let place = Box::into_raw(value);
    // SAFETY: from a box, whose memory is the global allocator's with this layout.
    unsafe {
        std::ptr::drop_in_place(place);
        bury(place.cast(), Layout::new::<T>(), true);
    }
}

/// `poisoned`: fill it, and look later; without it, what stands there stays.
/// # Safety
/// Allocated with this layout, used no more.
#[cfg(debug_assertions)]
pub(super) unsafe fn bury(place: *mut u8, layout: Layout, poisoned: bool) {
    if poisoned {
        // SAFETY: the caller's duty.
        unsafe { place.write_bytes(POISON, layout.size()) };
    }
    let mut graves = locked(&GRAVES);
    graves.put(Grave { place: place as usize, layout: Some(layout), poisoned });
    while graves.bytes > MOST_BYTES && graves.oldest != graves.next {
        let oldest = graves.oldest;
        graves.clear(oldest);
        graves.oldest = (oldest + 1) % MOST;
    }
}

#[cfg(debug_assertions)]
const MOST: usize = 2048;
/// Larger than this together, the oldest are freed.
#[cfg(debug_assertions)]
const MOST_BYTES: usize = 512 * 1024;

#[cfg(debug_assertions)]
#[derive(Clone, Copy)]
struct Grave {
    place: usize,
    layout: Option<Layout>,
    poisoned: bool,
}

/// A ring of graves, from the oldest to the one before the next.
#[cfg(debug_assertions)]
pub(super) struct Graves {
    all: [Grave; MOST],
    oldest: usize,
    next: usize,
    bytes: usize,
}

#[cfg(debug_assertions)]
static GRAVES: Mutex<Graves> =
    Mutex::new(Graves { all: [Grave { place: 0, layout: None, poisoned: false }; MOST], oldest: 0, next: 0, bytes: 0 });

#[cfg(debug_assertions)]
impl Graves {
    fn put(&mut self, grave: Grave) {
        let next = self.next;
        self.next = (next + 1) % MOST;
        if self.next == self.oldest {
            self.clear(self.oldest);
            self.oldest = (self.oldest + 1) % MOST;
        }
        self.bytes += grave.layout.map_or(0, |layout| layout.size());
        if let Some(place) = self.all.get_mut(next) {
            *place = grave;
        }
    }

    fn clear(&mut self, which: usize) {
        let Some(grave) = self.all.get_mut(which) else { return };
        let Some(layout) = grave.layout.take() else { return };
        self.bytes -= layout.size();
        let place = grave.place as *mut u8;
        // SAFETY: buried with this layout; nobody has a right to it.
        let touched = grave.poisoned && (0..layout.size()).any(|at| unsafe { place.add(at).read_volatile() } != POISON);
        if touched {
            super::mistakes::note(super::mistakes::Mistake::WrittenAfterRelease);
        }
        // SAFETY: as above; the time in which a mistake could still show is over.
        unsafe { std::alloc::dealloc(place, layout) };
    }
}

/// While a fork happens, no other thread is here.
#[cfg(debug_assertions)]
pub(super) type Held = MutexGuard<'static, Graves>;
#[cfg(not(debug_assertions))]
pub(super) type Held = ();

pub(super) fn hold() -> Held {
    #[cfg(debug_assertions)]
    locked(&GRAVES)
}
