// SPDX-License-Identifier: MIT OR Apache-2.0
//! `thread` in the model checks: a thread of loom's.

use super::SysResult;

#[derive(Debug)]
pub(crate) struct Thread(loom::thread::JoinHandle<()>);

impl Thread {
    /// # Safety
    /// `body` is the address of a function that takes what `argument` is the address of, for as long as the thread runs.
    pub(crate) unsafe fn spawn(body: usize, argument: usize) -> SysResult<Self> {
        // SAFETY: the caller's duty.
        let body = unsafe { std::mem::transmute::<usize, fn(usize)>(body) };
        Ok(Self(loom::thread::spawn(move || body(argument))))
    }

    pub(crate) fn join(self) {
        // A panic in there has ended the check.
        let _ = self.0.join();
    }

    pub(crate) fn detach(self) {}
}

pub(crate) fn set_affinity(_cpu: u32) -> SysResult<()> {
    Ok(())
}
