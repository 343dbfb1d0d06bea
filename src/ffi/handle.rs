// SPDX-License-Identifier: MIT OR Apache-2.0
//! From handles to what they name, and back. Each handle has one kind of ownership, so that none is freed as another.

use std::ptr::NonNull;

use super::buf::paluring_buf;
use super::callback::run_session;
use super::guard::{EINVAL, caught_or_status, report_misuse};
use super::ring::paluring_ring;
use crate::core::{Buf, BufRef, KernelRing, Status};

/// A buffer handle as a pointer, unused so far: for descriptions that are checked at start.
pub(super) fn peek(buf: *mut paluring_buf) -> Option<NonNull<Buf>> {
    NonNull::new(buf.cast())
}

/// # Safety
/// NULL or a live handle, for as long as the caller's reference lives.
pub(super) unsafe fn borrow<'a>(buf: *const paluring_buf, function: &str) -> Result<&'a Buf, Status> {
    let buf = NonNull::new(buf.cast_mut().cast::<Buf>()).ok_or(EINVAL)?;
    if !Buf::is_alive(buf) {
        report_misuse(function, "the buffer");
        return Err(EINVAL);
    }
    // SAFETY: the caller's duty.
    Ok(unsafe { buf.as_ref() })
}

/// # Safety
/// NULL or a reference that the caller gives up.
pub(super) unsafe fn take_back(buf: *mut paluring_buf, function: &str) -> Option<BufRef> {
    let buf = NonNull::new(buf.cast::<Buf>())?;
    if !Buf::is_alive(buf) {
        report_misuse(function, "the buffer");
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
    unsafe { give_pointer(out, || Ok(make()?.into_raw().as_ptr().cast())) }
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
            live::add((&raw const *ring).addr())?;
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
        report_misuse(function, "the ring");
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
}

/// Debug builds know which rings there are, and tell of a call on one that isn't there any more.
#[cfg(debug_assertions)]
mod live {
    use std::sync::Mutex;

    use crate::core::{Status, locked};

    static RINGS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    pub(super) fn add(ring: usize) -> Result<(), Status> {
        let mut rings = locked(&RINGS);
        rings.try_reserve(1)?;
        rings.push(ring);
        Ok(())
    }

    pub(super) fn remove(ring: usize) {
        locked(&RINGS).retain(|live| *live != ring);
    }

    pub(super) fn has(ring: usize) -> bool {
        ring == 0 || locked(&RINGS).contains(&ring)
    }
}

#[cfg(not(debug_assertions))]
mod live {
    pub(super) fn add(_ring: usize) -> Result<(), crate::core::Status> {
        Ok(())
    }
    pub(super) fn remove(_ring: usize) {}
    #[inline(always)]
    pub(super) fn has(_ring: usize) -> bool {
        true
    }
}
