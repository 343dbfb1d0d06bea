// SPDX-License-Identifier: MIT OR Apache-2.0
//! For tests alone, with the `unmap-freed` feature: memory in whole pages that is no memory any more once it is freed,
//! and never is again. The kernel's late write into a freed buffer is a completion with -EFAULT, which is counted here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const PAGE: usize = 4096;
/// Addresses, not memory: more than all tests together ask for.
const ARENA: usize = 1 << 44;

static BEGIN: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);
static EFAULTS: AtomicU64 = AtomicU64::new(0);

/// Zeroed memory, with a page that nobody may touch behind it; null if there is none.
pub(crate) fn alloc(len: usize, alignment: usize) -> *mut u8 {
    let Some(begin) = arena() else { return std::ptr::null_mut() };
    if len > ARENA / 4 || alignment > ARENA / 4 {
        return std::ptr::null_mut();
    }
    let slack = alignment.max(PAGE);
    let whole = pages(len) + PAGE + slack;
    let used = USED.fetch_add(whole, Ordering::Relaxed);
    if used > ARENA - 2 * whole {
        return std::ptr::null_mut();
    }
    let place = (begin + used).next_multiple_of(slack) as *mut libc::c_void;
    // SAFETY: these pages of the arena are this call's alone.
    let got = unsafe { libc::mprotect(place, pages(len), libc::PROT_READ | libc::PROT_WRITE) };
    if got == 0 { place.cast() } else { std::ptr::null_mut() }
}

/// # Safety
/// From `alloc` with this length, used no more.
pub(crate) unsafe fn free(place: *mut u8, len: usize) {
    // SAFETY: the caller's duty; the pages are never given out again.
    unsafe {
        libc::madvise(place.cast(), pages(len), libc::MADV_DONTNEED);
        libc::mprotect(place.cast(), pages(len), libc::PROT_NONE);
    }
}

/// Look at a completion's result.
pub(super) fn note(result: i32) {
    EFAULTS.fetch_add(u64::from(result == -libc::EFAULT), Ordering::Relaxed);
}

pub(crate) fn efaults() -> u64 {
    EFAULTS.load(Ordering::Relaxed)
}

fn pages(len: usize) -> usize {
    len.max(1).next_multiple_of(PAGE)
}

/// The arena's first address.
fn arena() -> Option<usize> {
    let begin = BEGIN.load(Ordering::Acquire);
    if begin != 0 {
        return Some(begin);
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping of the kernel's choice.
    let made = unsafe { libc::mmap(std::ptr::null_mut(), ARENA, libc::PROT_NONE, flags, -1, 0) };
    if made == libc::MAP_FAILED {
        return None;
    }
    match BEGIN.compare_exchange(0, made as usize, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(made as usize),
        Err(other) => {
            // SAFETY: another thread was first; nobody knows this one.
            unsafe { libc::munmap(made, ARENA) };
            Some(other)
        }
    }
}
