// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system beside io_uring: descriptors, clock, thread identity, barriers.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::sync::{compiler_fence, fence, give_way};
use super::{Errno, SysResult};

pub(crate) fn errno() -> Errno {
    // SAFETY: errno's address is valid on every thread.
    Errno(unsafe { *libc::__errno_location() })
}

pub(crate) fn set_errno(errno: Errno) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno.0 };
}

pub(super) fn check(result: i64) -> SysResult<i64> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// Identifies the calling thread among the living; never 0. A dead thread's may come again.
/// The thread's control block, which every call has at hand: pthread_self(3) would be a call of its own.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn thread_id() -> usize {
    let id: usize;
    // SAFETY: on Linux the register points to the thread's control block, whose first word is its own address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) id, options(pure, readonly, nostack, preserves_flags));
    }
    // SAFETY: on Linux the register is the thread's own, and not 0.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) id, options(pure, nomem, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        // SAFETY: always succeeds.
        id = unsafe { libc::pthread_self() as usize };
    }
    id
}

#[cfg(loom)]
pub(crate) use super::checked::thread_id;

/// A word that each thread has of its own, 0 at first; what it holds at the thread's exit is handed to the key's destructor.
pub(crate) struct ThreadWord(libc::pthread_key_t);

impl ThreadWord {
    /// `key` comes from pthread_key_create and stays.
    pub(crate) fn new(key: u32) -> Self {
        Self(key)
    }

    pub(crate) fn get(&self) -> usize {
        // SAFETY: the key is valid.
        unsafe { libc::pthread_getspecific(self.0) }.expose_provenance()
    }

    /// Can't fail where the word is not 0.
    pub(crate) fn set(&self, value: usize) -> SysResult<()> {
        // SAFETY: the key is valid.
        match unsafe { libc::pthread_setspecific(self.0, std::ptr::with_exposed_provenance(value)) } {
            0 => Ok(()),
            error => Err(Errno(error)),
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC as of the last tick: cheaper, some milliseconds coarse.
pub(crate) fn now_coarse() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

fn clock(id: libc::clockid_t) -> u64 {
    if cfg!(loom) {
        // What a model check does must not depend on the time.
        return 1;
    }
    #[cfg(test)]
    #[cfg(not(loom))]
    if let Some(now) = super::fake::now() {
        return now;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: time is writable; the clocks above exist on every Linux.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Random bits that differ between rings and processes.
pub(crate) fn seed() -> u64 {
    let mut seed = 0u64;
    // SAFETY: seed is 8 writable bytes.
    let got = unsafe { libc::getrandom((&raw mut seed).cast(), 8, libc::GRND_NONBLOCK) };
    if got == 8 { seed } else { now().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (&raw const seed as u64) }
}

pub(crate) fn eventfd() -> SysResult<OwnedFd> {
    // SAFETY: no memory is passed; a fresh descriptor is ours alone.
    unsafe {
        let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Make an eventfd readable. Safe in signal handlers.
pub(crate) fn eventfd_write(fd: i32) -> SysResult<()> {
    #[cfg(loom)]
    if let Some(written) = super::tiny::event_fd_write() {
        return written;
    }
    let one = 1u64;
    // SAFETY: one is 8 readable bytes.
    match check(unsafe { libc::write(fd, (&raw const one).cast(), 8) } as i64) {
        // EAGAIN: the counter is full, so the eventfd is readable already.
        Ok(_) | Err(Errno(libc::EAGAIN)) => Ok(()),
        Err(other) => Err(other),
    }
}

pub(super) fn write_byte(fd: i32) -> SysResult<()> {
    // SAFETY: one readable byte.
    check(unsafe { libc::write(fd, (&raw const *b"x").cast(), 1) } as i64).map(|_| ())
}

pub(super) fn is_readable(fd: i32) -> SysResult<bool> {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    check(unsafe { libc::poll(&raw mut poll, 1, 0) }.into()).map(|ready| ready == 1)
}

/// Make an eventfd unreadable.
pub(crate) fn eventfd_clear(fd: i32) {
    #[cfg(loom)]
    if super::tiny::event_fd_clear() {
        return;
    }
    let mut count = 0u64;
    // SAFETY: count is 8 writable bytes. EAGAIN: it was unreadable.
    let _ = unsafe { libc::read(fd, (&raw mut count).cast(), 8) };
}

/// Tells when a closed ring's last request is gone: the read end of a pipe whose only write end is in the ring's
/// registered files, which the kernel lets go of after the last request.
#[derive(Debug)]
pub(crate) struct Sentinel(pub(super) OwnedFd);

impl Sentinel {
    /// The sentinel and the write end.
    pub(super) fn new() -> SysResult<(Self, OwnedFd)> {
        let mut fds = [0; 2];
        // SAFETY: fds is two writable ints; fresh descriptors are ours alone.
        unsafe {
            check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK).into())?;
            Ok((Self(OwnedFd::from_raw_fd(fds[0])), OwnedFd::from_raw_fd(fds[1])))
        }
    }

    /// The kernel is done with everything that the ring was given.
    pub(crate) fn hung_up(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 && poll.revents & libc::POLLHUP != 0 }
    }
}

/// A process-wide barrier (membarrier(2)): after it, every running thread has passed a full fence.
/// With it, one side of a store-then-load protocol needs only a compiler fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Barrier {
    expedited: bool,
}

impl Barrier {
    /// The cheap side is cheap only where the kernel has membarrier.
    pub(crate) fn new() -> Self {
        const REGISTER_PRIVATE_EXPEDITED: i64 = 16;
        // SAFETY: no memory is passed.
        let registered = unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0) } == 0;
        Self { expedited: registered || cfg!(loom) }
    }

    pub(crate) fn is_expedited(self) -> bool {
        self.expedited
    }

    /// Between the store and the load of the side that runs often.
    #[inline(always)]
    pub(crate) fn light(self) {
        if self.expedited { compiler_fence(Ordering::SeqCst) } else { fence(Ordering::SeqCst) }
    }

    /// Between the store and the load of the side that runs seldom. Safe in signal handlers; errno is the caller's to keep.
    pub(crate) fn heavy(self) {
        const PRIVATE_EXPEDITED: i64 = 8;
        fence(Ordering::SeqCst);
        if self.expedited && cfg!(not(loom)) {
            // SAFETY: no memory is passed. It can't fail once registered.
            unsafe { libc::syscall(libc::SYS_membarrier, PRIVATE_EXPEDITED, 0, 0) };
        }
    }
}

/// A word that a fork sets to 0 in the child, by whatever way the fork came about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkMark(&'static AtomicU32);

impl ForkMark {
    pub(crate) fn new() -> SysResult<Self> {
        // SAFETY: a fresh private page, never unmapped, so a reference to it is good for ever.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if page == libc::MAP_FAILED {
                return Err(errno());
            }
            if let Err(failed) = check(libc::madvise(page, 4096, libc::MADV_WIPEONFORK).into()) {
                libc::munmap(page, 4096);
                return Err(failed);
            }
            Ok(Self(&*page.cast::<AtomicU32>()))
        }
    }

    #[inline(always)]
    pub(crate) fn word(self) -> &'static AtomicU32 {
        self.0
    }
}

/// Close a descriptor that nobody else will: an unwanted result's, or a forked child's copy of a ring's.
pub(crate) fn close_unwanted(fd: i32) {
    #[cfg(test)]
    #[cfg(not(loom))]
    if super::fake::close(fd) {
        return;
    }
    // SAFETY: nobody else knows it: the kernel made it for a result that nobody takes, or the fork did.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> u64 {
    // SAFETY: no memory is passed.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Sleep for a millisecond.
pub(crate) fn nap() {
    if cfg!(loom) {
        return give_way();
    }
    std::thread::sleep(std::time::Duration::from_millis(1));
}

/// Read the process's own memory as the kernel does: false where there is none.
#[cfg(debug_assertions)]
pub(crate) fn read_own(addr: u64, into: &mut [u8]) -> bool {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: addr as usize as *mut libc::c_void, iov_len: into.len() };
    let errno = errno();
    // SAFETY: `into` is writable; the kernel checks the other address.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    set_errno(errno);
    got == into.len() as isize
}

/// Give the processor to others while a lock is held elsewhere: longer each time.
pub(crate) fn back_off(round: u32) {
    match round {
        _ if cfg!(loom) => give_way(),
        0..64 => std::hint::spin_loop(),
        64..128 => give_way(),
        _ => std::thread::sleep(std::time::Duration::from_micros(50)),
    }
}
