// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping on a word until another thread of the process tells of a change. Not std's, which sleeps on after a signal.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(loom)]
pub(crate) use super::checked::Word;
#[cfg(not(loom))]
use super::{Errno, os::check};

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// Told, or the word had changed before; or neither, for once: look again.
    Told,
    Time,
    /// A handler has run. There are none in the model checks.
    #[cfg_attr(loom, allow(dead_code))]
    Signal,
}

/// Goes up with each change.
#[cfg(not(loom))]
#[derive(Default)]
pub(crate) struct Word(AtomicU32);

/// A sleep always has a limit: without one the kernel would go on with it after a handler with SA_RESTART, which it does with
/// no wait in io_uring_enter(2).
#[cfg(not(loom))]
const LONGEST_S: i64 = 3600;

#[cfg(not(loom))]
impl Word {
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sleep while it is as it was `seen`, for so many nanoseconds (`None` = no limit).
    pub(crate) fn sleep(&self, seen: u32, ns: Option<u64>) -> Slept {
        let longest = libc::timespec { tv_sec: LONGEST_S, tv_nsec: 0 };
        let asked =
            ns.map(|ns| libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 });
        let (time, over) = match asked {
            Some(asked) if asked.tv_sec < LONGEST_S => (asked, Slept::Time),
            _ => (longest, Slept::Told),
        };
        let how = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word and the time live until the call returns.
        match check(unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), how, seen, &raw const time) }) {
            Err(Errno(libc::ETIMEDOUT)) => over,
            Err(Errno(libc::EINTR)) => Slept::Signal,
            _ => Slept::Told,
        }
    }

    /// Change it, and end the sleep of all that sleep on it.
    pub(crate) fn change(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let how = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word lives. A wake can't fail.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), how, i32::MAX) };
    }
}
