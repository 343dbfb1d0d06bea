// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a call failed.

use crate::sys::Errno;

/// A negative errno, or one of the library's own codes from −5001 down. Never ≥ 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(i32);

impl Status {
    pub(crate) const STALE: Self = Self(-5001);
    pub(crate) const WRONG_THREAD: Self = Self(-5002);
    pub(crate) const POISONED: Self = Self(-5003);
    pub(crate) const CLOSED: Self = Self(-5004);
    pub(crate) const FORKED: Self = Self(-5005);
    pub(crate) const LOST: Self = Self(-5006);
    pub(crate) const ORPHANED: Self = Self(-5007);
    pub(crate) const DROPPED: Self = Self(-5008);

    pub(crate) const EINVAL: Self = Self::errno(libc::EINVAL);
    pub(crate) const ENOMEM: Self = Self::errno(libc::ENOMEM);
    pub(crate) const EAGAIN: Self = Self::errno(libc::EAGAIN);
    pub(crate) const EBUSY: Self = Self::errno(libc::EBUSY);
    pub(crate) const EINTR: Self = Self::errno(libc::EINTR);
    pub(crate) const ETIME: Self = Self::errno(libc::ETIME);
    pub(crate) const E2BIG: Self = Self::errno(libc::E2BIG);
    pub(crate) const ECANCELED: Self = Self::errno(libc::ECANCELED);
    pub(crate) const EBADF: Self = Self::errno(libc::EBADF);
    pub(crate) const ENFILE: Self = Self::errno(libc::ENFILE);
    pub(crate) const EOPNOTSUPP: Self = Self::errno(libc::EOPNOTSUPP);

    const fn errno(errno: i32) -> Self {
        Self(-errno)
    }

    pub(crate) const fn code(self) -> i32 {
        self.0
    }
}

impl From<Errno> for Status {
    /// An OWNER ring that another thread enters or registers with answers EEXIST.
    fn from(errno: Errno) -> Self {
        match errno.0 {
            libc::EEXIST => Self::WRONG_THREAD,
            errno => Self(-errno.max(1)),
        }
    }
}

impl From<std::collections::TryReserveError> for Status {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self::ENOMEM
    }
}
