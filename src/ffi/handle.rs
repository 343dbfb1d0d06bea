// SPDX-License-Identifier: MIT OR Apache-2.0
//! From handles to what they name, and back. Each handle has one kind of ownership, so that none is freed as another.

use std::ptr::NonNull;

use super::buf::paluring_buf;
use super::callback::run_session;
use super::guard::{EINVAL, caught_or_status, report_misuse};
use super::ring::paluring_ring;
use crate::core::{Buf, BufRef, KernelRing, Status, bury_box};

/// A buffer handle as a pointer, unused so far: for descriptions that are checked at start.
pub(super) fn peek(buf: *mut paluring_buf) -> Option<NonNull<Buf>> {
    NonNull::new(buf.cast())
}

/// # Safety
/// NULL or a live handle, for as long as the caller's reference lives.
pub(super) unsafe fn borrow<'a>(buf: *const paluring_buf, function: &str) -> Result<&'a Buf, Status> {
    let buf = NonNull::new(buf.cast_mut().cast::<Buf>()).ok_or(EINVAL)?;
    // SAFETY: the caller's duty.
    unsafe { check_alive(buf, function, "the buffer") }
}

/// # Safety
/// A live handle, for as long as the caller's reference lives. (Debug builds notice one that isn't.)
#[inline(always)]
pub(super) unsafe fn check_alive<'a>(buf: NonNull<Buf>, function: &str, what: &str) -> Result<&'a Buf, Status> {
    if !Buf::is_alive(buf) {
        report_misuse(function, &[what, " was released already"]);
        return Err(EINVAL);
    }
    // SAFETY: the caller's duty.
    Ok(unsafe { buf.as_ref() })
}

/// Of a buffer: debug builds count the references that were given out.
pub(super) const NOT_YOURS: &[&str] =
    &["none of the buffer's references is yours: I/Os, slices, lists or a callback's completion have them"];

/// # Safety
/// NULL or a reference that the caller gives up.
pub(super) unsafe fn take_back(buf: *mut paluring_buf, function: &str) -> Option<BufRef> {
    let buf = NonNull::new(buf.cast::<Buf>())?;
    // SAFETY: the caller's duty.
    if !unsafe { check_alive(buf, function, "the buffer") }.ok()?.take_given() {
        report_misuse(function, NOT_YOURS);
        return None;
    }
    // SAFETY: the caller's duty.
    Some(unsafe { BufRef::from_raw(buf) })
}

/// Make a buffer and give it to the host.
/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn give(out: *mut *mut paluring_buf, make: impl FnOnce() -> Result<BufRef, Status>) -> i32 {
    // SAFETY: the caller's duty.
    unsafe { give_pointer(out, || Ok(make()?.give().as_ptr().cast())) }
}

/// Open a ring and give it to the host.
/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn give_ring(
    out: *mut *mut paluring_ring,
    open: impl FnOnce() -> Result<Box<KernelRing>, Status>,
) -> i32 {
    // SAFETY: the caller's duty.
    unsafe {
        give_pointer(out, || {
            let ring = open()?;
            super::background::start(&ring)?;
            live::add((&raw const *ring).addr());
            Ok(Box::into_raw(ring).cast())
        })
    }
}

unsafe fn give_pointer<T>(out: *mut *mut T, make: impl FnOnce() -> Result<*mut T, Status>) -> i32 {
    if out.is_null() {
        return EINVAL.code();
    }
    // SAFETY: the caller's duty.
    unsafe { out.write(std::ptr::null_mut()) };
    caught_or_status(|| {
        let made = make()?;
        // SAFETY: as above.
        unsafe { out.write(made) };
        Ok(0)
    })
}

/// # Safety
/// NULL or a live handle, for as long as the caller's reference lives.
pub(super) unsafe fn borrow_ring<'a>(ring: *mut paluring_ring, function: &str) -> Option<&'a KernelRing> {
    if !live::has(ring as usize) {
        report_misuse(function, &["the ring was released already"]);
        return None;
    }
    // SAFETY: the caller's duty.
    unsafe { ring.cast::<KernelRing>().as_ref() }
}

/// Give up a reference; → the ring itself with the last one, unless a driver's call on this thread still uses it.
/// # Safety
/// NULL or a reference that the caller gives up.
pub(super) unsafe fn take_ring(ring: *mut paluring_ring) -> Option<Box<KernelRing>> {
    // SAFETY: the caller's duty.
    let held = unsafe { borrow_ring(ring, "paluring_ring_release") }?;
    if !held.release() || held.defer_free() {
        return None;
    }
    live::remove(ring as usize);
    // SAFETY: from `give_ring`; the last reference.
    Some(unsafe { Box::from_raw(ring.cast()) })
}

/// After a call in which the last reference was given up: close the ring, if that has not happened, and free it.
/// # Safety
/// `is_deferred` has said so, and the call is over.
#[cold]
pub(super) unsafe fn free_deferred(ring: *mut paluring_ring) {
    live::remove(ring as usize);
    // SAFETY: from `give_ring`; nobody holds a reference.
    close_and_drop(unsafe { Box::from_raw(ring.cast()) });
}

/// The end of a ring whose last reference is gone.
pub(super) fn close_and_drop(ring: Box<KernelRing>) {
    if let Ok(session) = ring.close_last() {
        let _ = run_session(&ring, session);
    }
    bury_box(ring);
}

/// Debug builds know which rings there are, and tell of a call on one that isn't there any more. Without a lock: signal
/// handlers look, too.
#[cfg(debug_assertions)]
mod live {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    static RINGS: [AtomicUsize; 1024] = [const { AtomicUsize::new(0) }; 1024];
    /// There were more than fit, so nobody knows.
    static UNKNOWN: AtomicBool = AtomicBool::new(false);

    fn replace(old: usize, new: usize) -> bool {
        RINGS.iter().any(|place| place.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    pub(super) fn add(ring: usize) {
        if !replace(0, ring) {
            UNKNOWN.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(ring: usize) {
        replace(ring, 0);
    }

    pub(super) fn has(ring: usize) -> bool {
        ring == 0 || RINGS.iter().any(|place| place.load(Ordering::Acquire) == ring) || UNKNOWN.load(Ordering::Relaxed)
    }
}

#[cfg(not(debug_assertions))]
mod live {
    pub(super) fn add(_ring: usize) {}
    pub(super) fn remove(_ring: usize) {}
    #[inline(always)]
    pub(super) fn has(_ring: usize) -> bool {
        true
    }
}

/// Whether a ring may be used; for signal handlers, which are told by a status alone.
#[inline(always)]
pub(super) fn is_live(ring: *mut paluring_ring) -> bool {
    live::has(ring as usize)
}
