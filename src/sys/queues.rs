// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two queues that the library shares with the kernel, and setting them up.
//!
//! | index | who moves it | seen by the other side |
//! |---|---|---|
//! | `sq_tail` | `push_with` | at `publish`: the kernel reads entries within enter |
//! | `sq_head` | the kernel | when the queue looks full, and at `publish` |
//! | `cq_head` | `next` | when the queue looks empty, and at `available` |
//! | `cq_tail` | the kernel | as above |
//!
//! Indices run on and wrap; a mask makes places of them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::entry::{Sqe, op, sqe_flags};
use super::{Cqe, Errno, SysResult, os};

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Params {
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    pub(super) features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    /// head, tail, ring_mask, ring_entries, flags, dropped, array, 0, user_addr.
    sq_off: [u32; 10],
    /// head, tail, ring_mask, ring_entries, overflow, cqes, flags, 0, user_addr.
    cq_off: [u32; 10],
}

const _: () = assert!(size_of::<Params>() == 120);

const SETUP_CQSIZE: u32 = 1 << 3;
const SETUP_NO_SQARRAY: u32 = 1 << 16;
const FEAT_SINGLE_MMAP: u32 = 1;

const OFF_RINGS: libc::off_t = 0;
const OFF_SQES: libc::off_t = 0x1000_0000;

const SQ_CQ_OVERFLOW: u32 = 1 << 1;
const SQ_TASKRUN: u32 = 1 << 2;

const LINKS: u8 = sqe_flags::IO_LINK | sqe_flags::IO_HARDLINK;

/// io_uring_setup(2).
pub(super) fn setup(entries: u32, cq_entries: u32, flags: u32) -> SysResult<(OwnedFd, Params)> {
    let mut params = Params { cq_entries, flags: flags | SETUP_CQSIZE, ..Params::default() };
    // SAFETY: the kernel reads and writes the params.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params) };
    let fd = os::check(fd)?;
    // SAFETY: a descriptor that was just made, and is nobody else's.
    Ok((unsafe { OwnedFd::from_raw_fd(fd as i32) }, params))
}

/// Memory of a ring, mapped; a forked child doesn't get it.
struct Mapping {
    place: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(fd: i32, offset: libc::off_t, len: usize) -> SysResult<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping of the kernel's choice.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, offset) };
        if place == libc::MAP_FAILED {
            return Err(os::errno());
        }
        // SAFETY: the mapping was just made. Should it fail, a forked child sees queues that it never looks at.
        unsafe { libc::madvise(place, len, libc::MADV_DONTFORK) };
        NonNull::new(place.cast()).map(|place| Self { place, len }).ok_or(Errno(libc::ENOMEM))
    }

    /// # Safety
    /// A T stands at `offset`.
    unsafe fn at<T>(&self, offset: u32) -> NonNull<T> {
        // SAFETY: the caller's duty.
        unsafe { self.place.add(offset as usize).cast() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone.
        unsafe { libc::munmap(self.place.as_ptr().cast(), self.len) };
    }
}

pub(super) struct Queues {
    sqes: NonNull<Sqe>,
    cqes: NonNull<Cqe>,
    sq_tail: u32,
    sq_head: u32,
    sq_mask: u32,
    cq_head: u32,
    cq_tail: u32,
    cq_mask: u32,
    /// The kernel's, in `_rings`.
    shared_sq_head: NonNull<AtomicU32>,
    shared_sq_tail: NonNull<AtomicU32>,
    shared_sq_flags: NonNull<AtomicU32>,
    shared_cq_head: NonNull<AtomicU32>,
    shared_cq_tail: NonNull<AtomicU32>,
    _rings: Mapping,
    _entries: Mapping,
}

impl Queues {
    pub(super) fn map(fd: &OwnedFd, params: &Params) -> SysResult<Self> {
        let [sq_head, sq_tail, _, _, sq_flags, _, array, ..] = params.sq_off;
        let [cq_head, cq_tail, _, _, _, cqes, ..] = params.cq_off;
        if params.features & FEAT_SINGLE_MMAP == 0 {
            return Err(Errno(libc::ENOSYS));
        }
        let (entries, completions) = (params.sq_entries as usize, params.cq_entries as usize);
        let has_array = params.flags & SETUP_NO_SQARRAY == 0;
        let array_end = if has_array { array as usize + entries * size_of::<u32>() } else { 0 };
        let len = array_end.max(cqes as usize + completions * size_of::<Cqe>());
        let rings = Mapping::new(fd.as_raw_fd(), OFF_RINGS, len)?;
        let sqes = Mapping::new(fd.as_raw_fd(), OFF_SQES, entries * size_of::<Sqe>())?;
        // SAFETY: the kernel's offsets are of such words, in a mapping that is long enough for them.
        let queues = unsafe {
            for index in 0..if has_array { params.sq_entries } else { 0 } {
                rings.at::<u32>(array).add(index as usize).write(index);
            }
            Self {
                sqes: sqes.at(0),
                cqes: rings.at(cqes),
                sq_tail: 0,
                sq_head: 0,
                sq_mask: params.sq_entries - 1,
                cq_head: 0,
                cq_tail: 0,
                cq_mask: params.cq_entries - 1,
                shared_sq_head: rings.at(sq_head),
                shared_sq_tail: rings.at(sq_tail),
                shared_sq_flags: rings.at(sq_flags),
                shared_cq_head: rings.at(cq_head),
                shared_cq_tail: rings.at(cq_tail),
                _rings: rings,
                _entries: sqes,
            }
        };
        Ok(queues)
    }

    #[inline(always)]
    fn load(word: NonNull<AtomicU32>) -> u32 {
        // SAFETY: it points into a mapping that lives as long as the queues.
        unsafe { word.as_ref() }.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn store(word: NonNull<AtomicU32>, value: u32) {
        // SAFETY: as above.
        unsafe { word.as_ref() }.store(value, Ordering::Release);
    }

    #[inline(always)]
    fn entry(&self, position: u32) -> NonNull<Sqe> {
        // SAFETY: the mask keeps it within the mapping.
        unsafe { self.sqes.add((position & self.sq_mask) as usize) }
    }

    #[inline(always)]
    pub(super) fn has_room(&mut self) -> bool {
        self.sq_tail.wrapping_sub(self.sq_head) <= self.sq_mask || self.room() > 0
    }

    /// Free entries.
    #[inline(always)]
    pub(super) fn room(&mut self) -> u32 {
        self.sq_head = Self::load(self.shared_sq_head);
        self.sq_mask + 1 - self.sq_tail.wrapping_sub(self.sq_head)
    }

    /// The place of the next entry, to be filled in; there is room.
    /// # Safety
    /// What the entry points to stays valid until its last completion has been seen.
    #[inline(always)]
    pub(super) unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) {
        debug_assert!(self.sq_tail.wrapping_sub(self.sq_head) <= self.sq_mask);
        // SAFETY: any bytes are an entry; nobody else writes entries, and the kernel reads none that it isn't told of.
        fill(unsafe { self.entry(self.sq_tail).as_mut() });
        self.sq_tail = self.sq_tail.wrapping_add(1);
    }

    /// Let the kernel see what was pushed; → entries that it has not taken yet.
    #[inline(always)]
    pub(super) fn publish(&mut self) -> u32 {
        Self::store(self.shared_sq_tail, self.sq_tail);
        self.sq_head = Self::load(self.shared_sq_head);
        self.sq_tail.wrapping_sub(self.sq_head)
    }

    /// See `Backend::sever`.
    pub(super) fn sever(&mut self, place: u32, user_data: u64) -> Option<(u64, bool)> {
        let left = self.publish();
        // SAFETY: entries that were pushed are initialised, others are zero; the kernel only reads them, within enter.
        let before = unsafe { self.entry(self.sq_head.wrapping_sub(1)).read() };
        if place >= left || before.flags & LINKS == 0 {
            return None;
        }
        let here = self.entry(self.sq_head.wrapping_add(place));
        let stand_in = Sqe { opcode: op::NOP, fd: -1, user_data, ..Sqe::default() };
        // SAFETY: as above; nobody else writes entries.
        let severed = unsafe { here.replace(stand_in) };
        Some((severed.user_data, severed.flags & LINKS != 0))
    }

    /// The kernel holds completions back until an enter brings them into the queue.
    #[inline(always)]
    pub(super) fn holds_back(&self) -> bool {
        Self::load(self.shared_sq_flags) & (SQ_TASKRUN | SQ_CQ_OVERFLOW) != 0
    }

    #[inline(always)]
    pub(super) fn overflowed(&self) -> bool {
        Self::load(self.shared_sq_flags) & SQ_CQ_OVERFLOW != 0
    }

    /// Completions in the queue.
    #[inline(always)]
    pub(super) fn available(&mut self) -> u32 {
        Self::store(self.shared_cq_head, self.cq_head);
        self.cq_tail = Self::load(self.shared_cq_tail);
        self.cq_tail.wrapping_sub(self.cq_head)
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Cqe> {
        if self.cq_head == self.cq_tail && self.available() == 0 {
            return None;
        }
        let next = self.peek();
        self.skip();
        next
    }

    /// The oldest of those that `available` has counted.
    #[inline(always)]
    pub(super) fn peek(&self) -> Option<Cqe> {
        if self.cq_head == self.cq_tail {
            return None;
        }
        // SAFETY: the mask keeps it within the mapping; the kernel has written it, and leaves it alone until the head moves.
        Some(unsafe { self.cqes.add((self.cq_head & self.cq_mask) as usize).read() })
    }

    /// What `peek` has shown is taken.
    #[inline(always)]
    pub(super) fn skip(&mut self) {
        self.cq_head = self.cq_head.wrapping_add(1);
    }
}
