// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel for the model checks: a ring, its event fd, and no more steps than those that other threads can tell.
//!
//! A NOP is complete when the kernel takes it; anything else when `complete_one` is called. The completion queue's tail is an
//! atomic, as in the kernel's memory: what is known of it may be old. What must not be is a panic, which ends the check.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Plain, MutexGuard, PoisonError};

use std::sync::atomic::Ordering;

use super::entry::op;
use super::os::Sentinel;
use super::sync::{AtomicU32, Mutex, locked};
use super::{Backend, Cqe, Enter, Errno, Info, Setup, Sqe, SysResult};
use loom::sync::Condvar;

/// What the kernel knows; in a mutex, as in the kernel.
#[derive(Default)]
struct Inside {
    /// Taken, to be completed.
    under_way: VecDeque<Sqe>,
    posted: u32,
    /// Completions that the ring's thread has been told of.
    registered: bool,
    readable: bool,
    closed: bool,
    /// Messages, and writes of the event fd by the library.
    wakes: u32,
    /// Enters that wait.
    sleeps: u32,
    /// Sends that fail first.
    refusals: u32,
    /// Nobody who sleeps in the kernel gets a processor.
    busy: bool,
    asleep: bool,
}

type Held<'a> = super::sync::MutexGuard<'a, Inside>;

pub(crate) struct Kernel {
    inside: Mutex<Inside>,
    /// Something a thread may sleep for.
    changed: Condvar,
    tail: AtomicU32,
    /// What only the holder of the ring's lock, or the one that enters, looks at.
    sq: Plain<VecDeque<Sqe>>,
    cq: Plain<VecDeque<Cqe>>,
}

std::thread_local! {
    static KERNEL: RefCell<Option<Arc<Kernel>>> = const { RefCell::new(None) };
}

fn plain<T>(mutex: &Plain<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    /// The kernel of the calling thread's next ring.
    pub(crate) fn boot() -> Arc<Self> {
        let kernel = Arc::new(Self {
            inside: Mutex::default(),
            changed: Condvar::new(),
            tail: AtomicU32::new(0),
            sq: Plain::default(),
            cq: Plain::default(),
        });
        KERNEL.set(Some(kernel.clone()));
        kernel
    }

    /// At the end of an execution: its things must not be seen by the next.
    pub(crate) fn halt() {
        KERNEL.set(None);
    }

    fn current() -> Arc<Self> {
        KERNEL.with_borrow(Clone::clone).unwrap()
    }

    fn post(&self, inside: &mut Inside, user_data: u64) {
        plain(&self.cq).push_back(Cqe { user_data, result: 0, flags: 0 });
        inside.posted += 1;
        self.tail.store(inside.posted, Ordering::Release);
        inside.readable |= inside.registered;
        self.changed.notify_all();
    }

    /// An interrupt: what is longest under way is complete. False: nothing is.
    pub(crate) fn complete_one(&self) -> bool {
        let mut inside = locked(&self.inside);
        let Some(sqe) = inside.under_way.pop_front() else { return false };
        self.post(&mut inside, sqe.user_data);
        true
    }

    /// From now on those who sleep in the kernel stay there, until `let_run`.
    pub(crate) fn keep_asleep(&self) {
        locked(&self.inside).busy = true;
    }

    pub(crate) fn let_run(&self) {
        locked(&self.inside).busy = false;
        self.changed.notify_all();
    }

    pub(crate) fn await_sleep(&self) {
        let mut inside = locked(&self.inside);
        while !inside.asleep {
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fail so many sends.
    pub(crate) fn refuse_wakes(&self, count: u32) {
        locked(&self.inside).refusals = count;
    }

    /// Wakes sent, and enters that wait.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let inside = locked(&self.inside);
        (inside.wakes, inside.sleeps)
    }

    /// The host's event loop: sleep until the event fd is readable.
    pub(crate) fn poll_event_fd(&self) {
        let mut inside = locked(&self.inside);
        while !inside.readable {
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn send(&self) -> SysResult<Held<'_>> {
        let mut inside = locked(&self.inside);
        assert!(!inside.closed, "a wake by a descriptor that is closed");
        if inside.refusals > 0 {
            inside.refusals -= 1;
            return Err(Errno(libc::ENOMEM));
        }
        inside.wakes += 1;
        Ok(inside)
    }
}

/// For `os::eventfd_write`; `None`: the thread has no such kernel.
pub(crate) fn event_fd_write() -> Option<SysResult<()>> {
    let kernel = KERNEL.with_borrow(Clone::clone)?;
    Some(kernel.send().map(|mut inside| {
        inside.readable = true;
        kernel.changed.notify_all();
    }))
}

/// For `os::eventfd_clear`.
pub(crate) fn event_fd_clear() -> bool {
    let kernel = KERNEL.with_borrow(Clone::clone);
    kernel.inspect(|kernel| locked(&kernel.inside).readable = false).is_some()
}

/// The library's side of it.
pub(crate) struct Tiny {
    kernel: Arc<Kernel>,
    info: Info,
    head: u32,
    sentinel: Option<Sentinel>,
}

impl Backend for Tiny {
    type Gate = ();

    fn open(setup: &Setup) -> SysResult<Self> {
        let (sentinel, _) = Sentinel::new()?;
        let info = Info {
            entries: setup.entries,
            cq_entries: setup.cq_entries,
            defers: setup.single_issuer,
            ops: [u64::MAX; 4],
            ..Info::default()
        };
        Ok(Self { kernel: Kernel::current(), info, head: 0, sentinel: Some(sentinel) })
    }

    fn info(&self) -> &Info {
        &self.info
    }

    fn gate(&self) {}

    fn descriptor(&self) -> Option<i32> {
        None
    }

    fn bind(&mut self) -> SysResult<()> {
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        self.room() > 0
    }

    fn room(&mut self) -> u32 {
        self.info.entries - plain(&self.kernel.sq).len() as u32
    }

    unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) {
        let mut sqe = Sqe::default();
        fill(&mut sqe);
        plain(&self.kernel.sq).push_back(sqe);
    }

    fn publish(&mut self) -> u32 {
        plain(&self.kernel.sq).len() as u32
    }

    fn sever(&mut self, _place: u32, _user_data: u64) -> Option<(u64, bool)> {
        None
    }

    fn next(&mut self) -> Option<Cqe> {
        if self.available() == 0 {
            return None;
        }
        self.head += 1;
        plain(&self.kernel.cq).pop_front()
    }

    fn peek(&mut self) -> Option<Cqe> {
        if self.available() == 0 { None } else { plain(&self.kernel.cq).front().copied() }
    }

    fn skip(&mut self) {
        let _ = self.next();
    }

    fn available(&mut self) -> u32 {
        self.kernel.tail.load(Ordering::Acquire) - self.head
    }

    fn holds_back(&mut self) -> bool {
        false
    }

    fn overflowed(&mut self) -> bool {
        false
    }

    fn enter((): (), enter: Enter) -> SysResult<u32> {
        let kernel = Kernel::current();
        let mut inside = locked(&kernel.inside);
        assert!(!inside.closed, "an enter of a closed ring");
        for _ in 0..enter.submit {
            let sqe = plain(&kernel.sq).pop_front().unwrap();
            if sqe.opcode == op::NOP {
                kernel.post(&mut inside, sqe.user_data);
            } else {
                inside.under_way.push_back(sqe);
            }
        }
        inside.sleeps += u32::from(enter.wait);
        // Only the one that enters takes completions out, and it has nothing of them in hand here.
        while enter.wait && (plain(&kernel.cq).is_empty() || inside.busy) {
            inside.asleep = true;
            kernel.changed.notify_all();
            inside = kernel.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(enter.submit)
    }

    fn send_wake((): (), user_data: u64) -> SysResult<()> {
        let kernel = Kernel::current();
        let mut inside = kernel.send()?;
        kernel.post(&mut inside, user_data);
        Ok(())
    }

    fn wake_entry(&self) -> Option<Sqe> {
        None
    }

    fn set_file(&mut self, _slot: u32, _fd: i32) -> SysResult<()> {
        Ok(())
    }

    fn register_eventfd(&mut self, _fd: i32) -> SysResult<()> {
        locked(&self.kernel.inside).registered = true;
        Ok(())
    }

    fn unregister_eventfd(&mut self) -> SysResult<()> {
        locked(&self.kernel.inside).registered = false;
        Ok(())
    }

    fn introduce_thread(&mut self) -> SysResult<()> {
        Ok(())
    }

    fn set_worker_limits(&mut self, _limits: [u32; 2]) -> SysResult<()> {
        Ok(())
    }

    fn set_worker_affinity(&mut self, _mask: &[u8]) -> SysResult<()> {
        Ok(())
    }

    fn close(mut self, _bound_here: bool) -> Sentinel {
        locked(&self.kernel.inside).closed = true;
        // Ours from `open` on, and `close` comes once.
        self.sentinel.take().unwrap()
    }
}
