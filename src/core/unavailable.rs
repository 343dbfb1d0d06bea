// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why rings can't be opened here.

use super::KernelRing;
use super::open::{Mode, Options};

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Nothing,
    NoKernel,
    NotPermitted,
    Policy,
    LockedMemory,
    Descriptors,
    Other,
}

/// Try a minimal ring.
pub(crate) fn reason() -> Reason {
    let smallest = Options {
        mode: Mode::Shared,
        background_cpu: None,
        entries: 1,
        cq_entries: 2,
        max_in_flight: 1,
        max_files: 1,
        iowait: false,
        sqpoll: false,
        iopoll: false,
        attach: false,
    };
    match KernelRing::open(&smallest).map(drop).map_err(|status| -status.code()) {
        Ok(()) => Reason::Nothing,
        // EINVAL: the kernel knows io_uring, and not what the library needs of it.
        Err(libc::ENOSYS | libc::EINVAL) => Reason::NoKernel,
        Err(libc::EPERM) => Reason::NotPermitted,
        Err(libc::EACCES) => Reason::Policy,
        Err(libc::ENOMEM) => Reason::LockedMemory,
        Err(libc::EMFILE | libc::ENFILE) => Reason::Descriptors,
        Err(_) => Reason::Other,
    }
}
