// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one adaptor between the C ABI and Rust: every exported function's body runs within
//! it. It turns results into statuses, refuses rings that can't be used, and keeps panics from the host: one that
//! happens in a ring's call is a bug of the library, and poisons the ring.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::handle::{borrow_ring, free_deferred, is_live};
use super::io::paluring_completion;
use super::op::paluring_op;
use super::ring::paluring_ring;
use crate::core::mistakes::{self, Mistake};
use crate::core::{Completion, KernelRing, Status, log};

pub(super) const EINVAL: Status = Status::EINVAL;

type Outcome = Result<i32, Status>;

/// A build that looks at each call for mistakes, or has one panic on demand: it goes the long way.
pub(super) const LOOKS_FOR_MISTAKES: bool = cfg!(any(feature = "fault-hooks", debug_assertions));

/// Run the body of a function that has no status.
#[inline]
pub(super) fn caught<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    let result = catch_unwind(AssertUnwindSafe(body));
    report_found();
    result.unwrap_or_else(|_| {
        report(c"an internal bug was caught");
        otherwise
    })
}

/// Run the body of a function that has a status and no ring.
pub(super) fn caught_or_status(body: impl FnOnce() -> Outcome) -> i32 {
    caught(Err(Status::POISONED), body).unwrap_or_else(Status::code)
}

/// Which rings a call takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Not poisoned, not another process's.
    Usable,
    /// Not another process's.
    Own,
}

/// A ring that may be used, for what can't panic and so needs none of what `with_ring` does. In builds that look for mistakes
/// there is no such thing.
/// # Safety
/// NULL or a live handle, for as long as the caller's reference lives.
#[inline(always)]
pub(super) unsafe fn usable<'a>(ring: *mut paluring_ring) -> Option<&'a KernelRing> {
    if LOOKS_FOR_MISTAKES {
        return None;
    }
    // SAFETY: the caller's duty.
    let held = unsafe { ring.cast::<KernelRing>().as_ref() }?;
    if held.check_usable().is_ok() { Some(held) } else { None }
}

#[inline(always)]
fn with_ring<F: FnOnce(&KernelRing) -> Outcome>(ring: *mut paluring_ring, takes: Takes, body: F) -> i32 {
    // SAFETY: host: NULL or a live handle. The body's type is named after the exported function.
    let Some(held) = (unsafe { borrow_ring(ring, std::any::type_name::<F>()) }) else { return EINVAL.code() };
    if let Err(status) = held.check_usable() {
        if takes == Takes::Usable || status == Status::FORKED {
            return status.code();
        }
    }
    let result = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "fault-hooks")]
        super::fault::panic_if_asked();
        body(held)
    }));
    report_found();
    match result {
        Ok(Ok(count)) => count,
        Ok(Err(status)) => status.code(),
        Err(_) => poison(held),
    }
}

/// Nothing is printed for a panic: the log is told of it, and the host gets a status. The hook is the library's own, a Rust
/// program that loads the shared library keeps its hook.
pub(super) fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

#[cold]
pub(super) fn poison(ring: &KernelRing) -> i32 {
    ring.poison();
    report(c"an internal bug was caught: the ring is poisoned, close it");
    Status::POISONED.code()
}

/// A call that any thread may make.
#[inline(always)]
pub(super) fn any(ring: *mut paluring_ring, body: impl FnOnce(&KernelRing) -> Outcome) -> i32 {
    with_ring(ring, Takes::Usable, body)
}

/// A call that may let go of buffers: their release functions may give up the last reference to the ring.
pub(super) fn letting_go(ring: *mut paluring_ring, body: impl FnOnce(&KernelRing) -> Outcome) -> i32 {
    driver(ring, body)
}

/// A driver's call: functions of the host may run in it, and give up the last reference.
#[inline(always)]
pub(super) fn driver(ring: *mut paluring_ring, body: impl FnOnce(&KernelRing) -> Outcome) -> i32 {
    let status = with_ring(ring, Takes::Usable, body);
    free_if_deferred(ring);
    status
}

/// A close: also of a poisoned ring; of NULL it does nothing.
pub(super) fn closing(ring: *mut paluring_ring, body: impl FnOnce(&KernelRing) -> Outcome) -> i32 {
    if ring.is_null() {
        return 0;
    }
    let status = with_ring(ring, Takes::Own, body);
    free_if_deferred(ring);
    status
}

#[inline(always)]
fn free_if_deferred(ring: *mut paluring_ring) {
    if !is_live(ring) {
        return;
    }
    // SAFETY: host: NULL or a live handle; a deferred ring lives until here.
    if unsafe { ring.cast::<KernelRing>().as_ref() }.is_some_and(|held| held.is_deferred() && !held.is_driven_here()) {
        // SAFETY: said so, and the outermost driver's call is over.
        unsafe { free_deferred(ring) };
    }
}

/// A call that signal handlers may make: nothing in it allocates, locks or panics.
pub(super) fn signal_safe(ring: *mut paluring_ring, body: impl FnOnce(&KernelRing) -> Outcome) -> i32 {
    if !is_live(ring) {
        return EINVAL.code();
    }
    // SAFETY: host: NULL or a live handle.
    let Some(held) = (unsafe { ring.cast::<KernelRing>().as_ref() }) else { return EINVAL.code() };
    held.check_usable().and_then(|()| body(held)).unwrap_or_else(Status::code)
}

pub(super) fn fits(condition: bool) -> Result<(), Status> {
    if condition { Ok(()) } else { Err(EINVAL) }
}

/// # Safety
/// `op` is NULL or readable.
#[inline(always)]
pub(super) unsafe fn given<'a>(op: *const paluring_op) -> Result<&'a paluring_op, Status> {
    // SAFETY: the caller's duty.
    unsafe { op.as_ref() }.ok_or(EINVAL)
}

/// Write an out parameter that may be NULL.
/// # Safety
/// `out` is NULL or writable.
#[inline(always)]
pub(super) unsafe fn put<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: the caller's duty.
        unsafe { out.write(value) };
    }
}

/// Out parameters are zero until the call succeeds.
/// # Safety
/// `out` is NULL or writable, and zeros are a value of T.
#[inline(always)]
pub(super) unsafe fn zeroed<T: Copy>(out: *mut T) {
    if !out.is_null() {
        // SAFETY: the caller's duty.
        unsafe { out.write_bytes(0, 1) };
    }
}

/// Give a completion to the host: 1. With nowhere to put it, it is discarded.
/// # Safety
/// `out` is NULL or writable.
#[inline(always)]
pub(super) unsafe fn fill(ring: &KernelRing, out: *mut paluring_completion, completion: Completion) -> i32 {
    if out.is_null() {
        ring.discard(completion);
    } else {
        // SAFETY: the caller's duty.
        unsafe { out.write(super::callback::to_host(completion)) };
    }
    1
}

/// Read a struct that begins with the size that the host gave it: what the host doesn't know has its default, what this
/// library doesn't know must be zero.
/// # Safety
/// `host` is readable for that size.
pub(super) unsafe fn read_sized<T: Copy>(host: *const T, defaults: T) -> Result<T, Status> {
    // SAFETY: the caller's duty; the size comes first.
    let size = unsafe { host.cast::<u32>().read() } as usize;
    fits((8..=64 * 1024).contains(&size))?;
    let known = size_of::<T>();
    let mut value = defaults;
    // SAFETY: both are that long.
    unsafe { std::ptr::copy_nonoverlapping(host.cast::<u8>(), (&raw mut value).cast(), size.min(known)) };
    if size > known {
        // SAFETY: the caller's duty.
        let tail = unsafe { std::slice::from_raw_parts(host.cast::<u8>().add(known), size - known) };
        if tail.iter().any(|byte| *byte != 0) {
            return Err(Status::E2BIG);
        }
    }
    Ok(value)
}

/// Write a struct as far as the host's size goes; what this library doesn't know is zero.
/// # Safety
/// `host` is NULL or writable for `size`.
pub(super) unsafe fn write_sized<T: Copy>(host: *mut T, size: usize, value: T) {
    if host.is_null() {
        return;
    }
    let known = size_of::<T>();
    // SAFETY: the caller's duty.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), host.cast(), size.min(known));
        if size > known {
            host.cast::<u8>().add(known).write_bytes(0, size - known);
        }
    }
}

/// Fill a struct that begins with the size that the host gave it; the size stays the host's.
/// # Safety
/// `out` is NULL or writable for that size.
pub(super) unsafe fn report_sized<T: Copy>(
    ring: &KernelRing,
    out: *mut T,
    make: impl FnOnce(&KernelRing) -> T,
) -> Outcome {
    fits(!out.is_null())?;
    // SAFETY: the caller's duty; the size comes first.
    let size = unsafe { out.cast::<u32>().read() };
    fits((8..=64 * 1024).contains(&size))?;
    // SAFETY: the caller's duty.
    unsafe {
        write_sized(out, size as usize, make(ring));
        out.cast::<u32>().write(size);
    }
    Ok(0)
}

/// Tell the host's programmer.
#[cold]
pub(super) fn report(text: &CStr) {
    if let Some((log, user_data)) = log::get() {
        // SAFETY: set by paluring_log_set from a function of this type.
        let log: unsafe extern "C" fn(usize, *const std::ffi::c_char) = unsafe { std::mem::transmute(log) };
        // SAFETY: host: it takes a text and doesn't unwind.
        unsafe { log(user_data, text.as_ptr()) };
    }
}

/// Tell of mistakes that the core has noted, in debug builds.
#[inline(always)]
fn report_found() {
    if cfg!(debug_assertions) {
        if mistakes::take(Mistake::WrittenAfterRelease) {
            report_misuse("paluring_buf_release", &["the memory of a released buffer or ring was written to"]);
        }
        if mistakes::take(Mistake::ChangedInFlight) {
            report_misuse("paluring_io_start", &["bytes that a write in flight reads were changed"]);
        }
    }
}

/// Tell of a mistake of the host's, which only debug builds look for.
#[cold]
pub(super) fn report_misuse(function: &str, what: &[&str]) {
    let name = function.split("::").find(|part| part.starts_with("paluring_")).unwrap_or(function);
    let mut text = String::new();
    if text.try_reserve_exact(name.len() + what.iter().map(|part| part.len()).sum::<usize>() + 8).is_ok() {
        for part in [name, ": "].iter().chain(what).chain(&["\0"]) {
            text.push_str(part);
        }
        if let Ok(text) = CStr::from_bytes_with_nul(text.as_bytes()) {
            report(text);
        }
    }
}
