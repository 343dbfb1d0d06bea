// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping on a word until another thread of the process tells of a change. Not std's, which sleeps on after a signal.

use std::sync::atomic::AtomicU32;

use super::Errno;
use super::os::check;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// Told, or the word had changed before; or neither, for once: look again.
    Told,
    Time,
    /// A handler has run.
    Signal,
}

/// A sleep always has a limit: without one the kernel would go on with it after a handler with SA_RESTART, which it does with
/// no wait in io_uring_enter(2).
const LONGEST_S: i64 = 3600;

/// Sleep while `word` is as it was `seen`, for so many nanoseconds (`None` = no limit).
pub(crate) fn wait(word: &AtomicU32, seen: u32, ns: Option<u64>) -> Slept {
    let longest = libc::timespec { tv_sec: LONGEST_S, tv_nsec: 0 };
    let asked =
        ns.map(|ns| libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 });
    let (time, over) = match asked {
        Some(asked) if asked.tv_sec < LONGEST_S => (asked, Slept::Time),
        _ => (longest, Slept::Told),
    };
    let how = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the time live until the call returns.
    match check(unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), how, seen, &raw const time) }) {
        Err(Errno(libc::ETIMEDOUT)) => over,
        Err(Errno(libc::EINTR)) => Slept::Signal,
        _ => Slept::Told,
    }
}

/// End the sleep of all that sleep on `word`, which has been changed.
pub(crate) fn wake_all(word: &AtomicU32) {
    let how = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word lives. A wake can't fail.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), how, i32::MAX) };
}
