// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why rings can't be opened here.

use std::ffi::CStr;

use super::open::{Mode, Options};
use super::{KernelRing, Status};

/// Try a minimal ring; "" if it opens.
pub(crate) fn reason() -> &'static CStr {
    let smallest = Options {
        mode: Mode::Shared,
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
        Ok(()) => c"",
        Err(libc::ENOSYS) => c"io_uring: this kernel is too old or built without it (CONFIG_IO_URING); Linux 5.19 or later is needed",
        Err(libc::EPERM) => {
            c"io_uring: not permitted; the sysctl kernel.io_uring_disabled is set (see kernel.io_uring_group), or seccomp forbids it: in a container, allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
        }
        Err(libc::EACCES) => c"io_uring: a security policy (SELinux, AppArmor) forbids it for this program",
        Err(libc::ENOMEM) => c"io_uring: not enough memory that may be locked; raise RLIMIT_MEMLOCK (ulimit -l)",
        Err(libc::EMFILE | libc::ENFILE) => c"io_uring: no file descriptors left; raise RLIMIT_NOFILE (ulimit -n)",
        Err(errno) if errno == -Status::EINVAL.code() => c"io_uring: this kernel lacks a feature that the library needs; Linux 5.19 or later is needed",
        Err(_) => c"io_uring: a ring could not be set up, for an unusual reason; paluring_ring_open tells which",
    }
}
