// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's io_uring: enter and register are called here.

use std::os::fd::{AsRawFd, OwnedFd};

use super::os::{self, Sentinel, check};
use super::queues::Queues;
use super::{Backend, Cqe, Enter, Errno, Info, Setup, Sqe, SysResult, entry, fallback, setup};

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;
const FEAT_NO_IOWAIT: u32 = 1 << 17;

pub(super) const REGISTER_EVENTFD: u32 = 4;
const UNREGISTER_EVENTFD: u32 = 5;
const REGISTER_ENABLE_RINGS: u32 = 12;
const REGISTER_IOWQ_AFF: u32 = 17;
const REGISTER_IOWQ_MAX_WORKERS: u32 = 19;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_SEND_MSG_RING: u32 = 31;

const SETUP_R_DISABLED: u32 = 1 << 6;

pub(crate) struct Linux {
    queues: Queues,
    /// The ring's descriptor: closed when the queues are unmapped.
    _fd: OwnedFd,
    pub(super) info: Info,
    sentinel: Sentinel,
    /// Wakes a driver in enter where messages can't; polled for by the ring.
    wake_fd: Option<OwnedFd>,
    pub(super) gate: Gate,
    bound: bool,
}

// SAFETY: the pointers in the queues are to mappings that belong to the ring; it may move between threads.
unsafe impl Send for Linux {}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// What enter gets: the descriptor, or its registered index.
    fd: i32,
    flags: u32,
    pub(super) ring_fd: i32,
    /// −1: messages do it.
    wake_fd: i32,
}

impl Gate {
    pub(super) fn plain(ring_fd: i32) -> Self {
        Self { fd: ring_fd, flags: 0, ring_fd, wake_fd: -1 }
    }
}

impl Backend for Linux {
    type Gate = Gate;

    fn open(setup: &Setup) -> SysResult<Self> {
        let (owned, params, mut info) = setup::ring(setup)?;
        let fd = owned.as_raw_fd();
        let queues = Queues::map(&owned, &params)?;
        info.ops = setup::probe(fd)?;
        let iowait_off = !setup.iowait && info.features & FEAT_NO_IOWAIT != 0;
        let gate = Gate { flags: if iowait_off { ENTER_NO_IOWAIT } else { 0 }, ..Gate::plain(fd) };
        Self::may_enter(gate)?;
        let (sentinel, write_end) = Sentinel::new()?;
        let mut linux = Self { queues, _fd: owned, info, sentinel, wake_fd: None, gate, bound: false };
        linux.register_files(setup.files, &write_end)?;
        linux.choose_wake()?;
        Ok(linux)
    }

    fn info(&self) -> &Info {
        &self.info
    }

    #[inline]
    fn gate(&self) -> Gate {
        self.gate
    }

    fn descriptor(&self) -> Option<i32> {
        Some(self.gate.ring_fd)
    }

    fn bind(&mut self) -> SysResult<()> {
        if self.info.setup_flags & SETUP_R_DISABLED != 0 {
            self.enable()?;
        }
        match self.register_ring_fd() {
            Ok(index) => {
                self.bound = true;
                self.gate.fd = index;
                self.gate.flags |= ENTER_REGISTERED_RING;
            }
            Err(_) => self.info.fallbacks |= fallback::RING_FD,
        }
        Ok(())
    }

    #[inline(always)]
    fn has_room(&mut self) -> bool {
        self.queues.has_room()
    }

    fn room(&mut self) -> u32 {
        self.queues.room()
    }

    #[inline(always)]
    unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) {
        // SAFETY: the caller's duty.
        unsafe { self.queues.push_with(fill) };
    }

    #[inline]
    fn publish(&mut self) -> u32 {
        self.queues.publish()
    }

    fn sever(&mut self, place: u32, user_data: u64) -> Option<(u64, bool)> {
        self.queues.sever(place, user_data)
    }

    #[inline(always)]
    fn next(&mut self) -> Option<Cqe> {
        let cqe = self.queues.next()?;
        #[cfg(feature = "unmap-freed")]
        super::unmapped::note(cqe.result);
        Some(cqe)
    }

    #[inline(always)]
    fn peek(&mut self) -> Option<Cqe> {
        let cqe = self.queues.peek()?;
        #[cfg(feature = "unmap-freed")]
        super::unmapped::note(cqe.result);
        Some(cqe)
    }

    #[inline(always)]
    fn skip(&mut self) {
        self.queues.skip();
    }

    #[inline]
    fn available(&mut self) -> u32 {
        self.queues.available()
    }

    #[inline]
    fn holds_back(&mut self) -> bool {
        self.queues.holds_back()
    }

    #[inline]
    fn overflowed(&mut self) -> bool {
        self.queues.overflowed()
    }

    #[inline]
    fn enter(gate: Gate, enter: Enter) -> SysResult<u32> {
        let mut flags = gate.flags;
        let timeout = enter.timeout.map(|ns| [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64]);
        let arg = timeout.as_ref().map(|timeout| GetEventsArg {
            sigmask: 0,
            sigmask_len: 0,
            min_wait_usec: 0,
            timeout: timeout.as_ptr().addr() as u64,
        });
        let (pointer, size) = match &arg {
            Some(arg) => (&raw const *arg, size_of::<GetEventsArg>()),
            None => (std::ptr::null(), 0),
        };
        if arg.is_some() {
            flags |= ENTER_EXT_ARG;
        }
        if enter.wait || enter.flush {
            flags |= ENTER_GETEVENTS;
        }
        // SAFETY: arg and the timespec that it points to outlive the call; entries' memory is push's contract.
        let taken = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, gate.fd, enter.submit, u32::from(enter.wait), flags, pointer, size)
        };
        check(taken).map(|taken| taken as u32)
    }

    fn send_wake(gate: Gate, user_data: u64) -> SysResult<()> {
        if gate.wake_fd >= 0 {
            return os::eventfd_write(gate.wake_fd);
        }
        let mut sqe = Sqe { opcode: entry::op::MSG_RING, fd: gate.ring_fd, off: user_data, ..Sqe::default() };
        // SAFETY: the kernel reads one entry.
        unsafe { register(-1, REGISTER_SEND_MSG_RING, (&raw mut sqe).cast(), 1) }.map(|_| ())
    }

    fn wake_entry(&self) -> Option<Sqe> {
        self.wake_fd.as_ref().map(|fd| Sqe { len: entry::POLL_MULTI, ..entry::poll_in(fd.as_raw_fd()) })
    }

    fn register_eventfd(&mut self, mut fd: i32) -> SysResult<()> {
        // SAFETY: the kernel reads one int.
        unsafe { register(self.gate.ring_fd, REGISTER_EVENTFD, (&raw mut fd).cast(), 1) }.map(|_| ())
    }

    fn unregister_eventfd(&mut self) -> SysResult<()> {
        // SAFETY: no memory is passed.
        unsafe { register(self.gate.ring_fd, UNREGISTER_EVENTFD, std::ptr::null_mut(), 0) }.map(|_| ())
    }

    fn introduce_thread(&mut self) -> SysResult<()> {
        if !self.bound {
            // Registering does it, and the registration itself is not needed.
            let index = self.register_ring_fd()?;
            self.unregister_ring_fd(index);
        }
        Ok(())
    }

    fn set_file(&mut self, index: u32, fd: i32) -> SysResult<()> {
        self.put_file(index, fd)
    }

    fn set_worker_limits(&mut self, mut limits: [u32; 2]) -> SysResult<()> {
        // SAFETY: the kernel reads and writes two ints.
        unsafe { register(self.gate.ring_fd, REGISTER_IOWQ_MAX_WORKERS, limits.as_mut_ptr().cast(), 2) }.map(|_| ())
    }

    fn set_worker_affinity(&mut self, mask: &[u8]) -> SysResult<()> {
        // SAFETY: the kernel only reads the mask's bytes.
        unsafe { register(self.gate.ring_fd, REGISTER_IOWQ_AFF, mask.as_ptr().cast_mut().cast(), mask.len() as u32) }
            .map(|_| ())
    }

    fn close(mut self, bound_here: bool) -> Sentinel {
        // On another thread the index would be one of its own rings'.
        if bound_here {
            self.unbind();
        }
        self.sentinel
    }
}

impl Linux {
    /// Where a filter lets rings be set up and not be entered, the open fails, and not the first wait.
    fn may_enter(gate: Gate) -> SysResult<()> {
        match Self::enter(gate, Enter { submit: 0, wait: false, flush: false, timeout: None }) {
            Err(denied @ Errno(libc::EPERM | libc::EACCES | libc::ENOSYS)) => Err(denied),
            // A ring that isn't bound yet says EBADFD.
            _ => Ok(()),
        }
    }

    /// EBADFD says that an earlier call has enabled the ring, though it failed. Whether that is so shows an enter, which says
    /// EBADFD of a disabled one.
    fn enable(&mut self) -> SysResult<()> {
        // SAFETY: no memory is passed.
        let enabled = unsafe { register(self.gate.ring_fd, REGISTER_ENABLE_RINGS, std::ptr::null_mut(), 0) };
        match enabled {
            Err(disabled @ Errno(libc::EBADFD)) => {
                let looked = Self::enter(self.gate, Enter { submit: 0, wait: false, flush: false, timeout: None });
                if looked == Err(disabled) { looked.map(|_| ()) } else { Ok(()) }
            }
            result => result.map(|_| ()),
        }
    }

    /// Undo what `bind` left in the calling thread.
    fn unbind(&mut self) {
        if self.bound {
            self.unregister_ring_fd(self.gate.fd);
            self.bound = false;
            self.gate.fd = self.gate.ring_fd;
            self.gate.flags &= !ENTER_REGISTERED_RING;
        }
    }

    /// → the index that stands for the ring's descriptor in calls of this thread.
    fn register_ring_fd(&mut self) -> SysResult<i32> {
        let mut update = RsrcUpdate { offset: u32::MAX, reserved: 0, data: self.gate.ring_fd as u64 };
        // SAFETY: the kernel reads and writes one update.
        unsafe { register(self.gate.ring_fd, REGISTER_RING_FDS, (&raw mut update).cast(), 1) }?;
        Ok(update.offset as i32)
    }

    fn unregister_ring_fd(&mut self, index: i32) {
        let mut update = RsrcUpdate { offset: index as u32, reserved: 0, data: 0 };
        // SAFETY: the kernel reads one update. A failure leaves the registration to the thread's exit.
        let _ = unsafe { register(self.gate.ring_fd, UNREGISTER_RING_FDS, (&raw mut update).cast(), 1) };
    }

    /// Messages without a ring of one's own (Linux 6.13), else an eventfd. Found by trying: a message to no ring is
    /// EBADF where the call exists, EINVAL where it doesn't.
    fn choose_wake(&mut self) -> SysResult<()> {
        let mut sqe = Sqe { opcode: entry::op::MSG_RING, fd: -1, ..Sqe::default() };
        // SAFETY: the kernel reads one entry.
        let tried = unsafe { register(-1, REGISTER_SEND_MSG_RING, (&raw mut sqe).cast(), 1) };
        if tried != Err(Errno(libc::EBADF)) {
            let fd = os::eventfd()?;
            self.gate.wake_fd = fd.as_raw_fd();
            self.wake_fd = Some(fd);
            self.info.fallbacks |= fallback::WAKE;
        }
        Ok(())
    }
}

#[repr(C)]
pub(super) struct RsrcUpdate {
    pub(super) offset: u32,
    pub(super) reserved: u32,
    pub(super) data: u64,
}

#[repr(C)]
struct GetEventsArg {
    sigmask: u64,
    sigmask_len: u32,
    min_wait_usec: u32,
    timeout: u64,
}

/// A signal doesn't show: the call is made again, and if that doesn't help the kernel is short of something.
/// # Safety
/// `arg` points to what `opcode` reads and writes.
pub(super) unsafe fn register(fd: i32, opcode: u32, arg: *mut libc::c_void, count: u32) -> SysResult<i64> {
    for _ in 0..16 {
        // SAFETY: the caller's duty.
        match check(unsafe { libc::syscall(libc::SYS_io_uring_register, fd, opcode, arg, count) }) {
            Err(Errno(libc::EINTR)) => {}
            result => return result,
        }
    }
    Err(Errno(libc::EAGAIN))
}
