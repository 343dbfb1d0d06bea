// SPDX-License-Identifier: MIT OR Apache-2.0
//! The submission queue's entries, mapped once more: the io-uring crate lets nobody look at what was pushed.

use std::ptr::NonNull;

use super::entry::{Sqe, op, sqe_flags};
use super::{Errno, SysResult, os};

const OFF_SQES: libc::off_t = 0x1000_0000;
const LINKS: u8 = sqe_flags::IO_LINK | sqe_flags::IO_HARDLINK;

pub(super) struct Entries {
    first: NonNull<Sqe>,
    mask: u32,
}

impl Entries {
    /// `count` is a power of two.
    pub(super) fn map(ring_fd: i32, count: u32) -> SysResult<Self> {
        let len = count as usize * size_of::<Sqe>();
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping of the kernel's choice.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, ring_fd, OFF_SQES) };
        if place == libc::MAP_FAILED {
            return Err(os::errno());
        }
        // SAFETY: the mapping was just made. Should it fail, a forked child sees entries that it never looks at.
        unsafe { libc::madvise(place, len, libc::MADV_DONTFORK) };
        NonNull::new(place.cast()).map(|first| Self { first, mask: count - 1 }).ok_or(Errno(libc::ENOMEM))
    }

    fn at(&self, position: u32) -> *mut Sqe {
        // SAFETY: the mask keeps it within the mapping.
        unsafe { self.first.as_ptr().add((position & self.mask) as usize) }
    }

    /// See `Backend::sever`; `head` is the position of the entry that the kernel takes next, `left` how many there are.
    pub(super) fn sever(&mut self, head: u32, left: u32, place: u32, user_data: u64) -> Option<(u64, bool)> {
        // SAFETY: entries that were pushed are initialised, others are zero; the kernel only reads them, within enter.
        let before = unsafe { self.at(head.wrapping_sub(1)).read() };
        if place >= left || before.flags & LINKS == 0 {
            return None;
        }
        let here = self.at(head.wrapping_add(place));
        let stand_in = Sqe { opcode: op::NOP, fd: -1, user_data, ..Sqe::default() };
        // SAFETY: as above; nobody else writes entries.
        let severed = unsafe { here.replace(stand_in) };
        Some((severed.user_data, severed.flags & LINKS != 0))
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        let len = (self.mask as usize + 1) * size_of::<Sqe>();
        // SAFETY: the mapping is this value's alone.
        unsafe { libc::munmap(self.first.as_ptr().cast(), len) };
    }
}
