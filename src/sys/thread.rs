// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread of the library's own. Not std's, whose making may end the process when memory is out.

use super::os::check;
use super::{Errno, SysResult};

#[derive(Debug)]
pub(crate) struct Thread(libc::pthread_t);

impl Thread {
    /// Signals are blocked in it: the host's handlers run on the host's threads.
    /// # Safety
    /// `body` is the address of a function as pthread_create(3) takes it, and `argument` what that takes, for as long as the
    /// thread runs.
    pub(crate) unsafe fn spawn(body: usize, argument: usize) -> SysResult<Self> {
        let argument = std::ptr::with_exposed_provenance_mut(argument);
        // SAFETY: plain data for the calls below, which initialise what they read; body is the caller's duty.
        unsafe {
            let (mut all, mut old) = (std::mem::zeroed(), std::mem::zeroed());
            let mut thread = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            // The new thread inherits the mask.
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
            // Its type is pthread_create's to say: functions of C's kind are named in src/ffi alone.
            #[allow(clippy::missing_transmute_annotations)]
            let body = std::mem::transmute(body);
            let failed = libc::pthread_create(&raw mut thread, std::ptr::null(), body, argument);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut());
            if failed != 0 {
                return Err(Errno(failed));
            }
            libc::pthread_setname_np(thread, c"paluring".as_ptr());
            Ok(Self(thread))
        }
    }

    pub(crate) fn join(self) {
        // SAFETY: not joined nor detached yet, since both take the value.
        unsafe { libc::pthread_join(self.0, std::ptr::null_mut()) };
    }

    pub(crate) fn detach(self) {
        // SAFETY: as above.
        unsafe { libc::pthread_detach(self.0) };
    }
}

/// Have the calling thread run on one processor.
pub(crate) fn set_affinity(cpu: u32) -> SysResult<()> {
    let mut mask = [0u64; 64];
    let Some(word) = mask.get_mut(cpu as usize / 64) else { return Err(Errno(libc::EINVAL)) };
    *word = 1 << (cpu % 64);
    // SAFETY: a mask of 4096 bits.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) }.into()).map(|_| ())
}
