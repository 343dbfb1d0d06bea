// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waking the driver.
//!
//! | the driver | `sleep` | a start from another thread | `wake` |
//! |---|---|---|---|
//! | runs, or no thread drives | AWAKE | nothing: the driver looks before it sleeps | sets `woken` |
//! | is in enter | ENTER | sends a wake, once until it is awake | sets `woken`, sends a wake |
//! | is in the host's event loop | LOOP | writes the event fd, once | sets `woken`, writes the event fd |
//!
//! `sleep` changes under the ring's lock, where starts look at it too. `wake` may come from a signal handler and takes no
//! lock: it stores `woken`, then loads `sleep`; the driver stores `sleep`, then loads `woken`; the barrier makes one see the other.
//! A start through the inbox takes no lock either, and goes by `waiting` there as `wake` by `woken`. `kicked` is cleared before
//! `sleep` is set: who sees it set knows that another has woken, or is about to wake, the driver from this sleep.

use std::sync::atomic::Ordering;

use super::ring::Ring;
use super::table::Kind;
use super::{Result, Status};
use crate::sys::sync::{AtomicBool, AtomicI32, AtomicU32, seeded};
use crate::sys::{Backend, SysResult, os};

const AWAKE: u32 = 0;
const ENTER: u32 = 1;
const LOOP: u32 = 2;

/// How often a wake is sent that the kernel refuses.
const SENDS: u32 = if cfg!(loom) { 2 } else { 64 };

pub(super) struct Sleep<G> {
    sleep: AtomicU32,
    woken: AtomicBool,
    /// Of `woken`: the kernel refused to tell the driver.
    unsent: AtomicBool,
    /// The driver has been woken in the sleep that `sleep` tells of, or its last.
    kicked: AtomicBool,
    wakes: AtomicU32,
    /// The ring's way in, for threads and signal handlers that must not take the lock. Good while `open`.
    gate: G,
    open: AtomicBool,
    /// Callers of `wake` within their look at the gate.
    visitors: AtomicU32,
    event_fd: AtomicI32,
}

impl<G: Copy> Sleep<G> {
    pub(super) fn new(gate: G) -> Self {
        Self {
            sleep: AtomicU32::new(AWAKE),
            woken: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            kicked: AtomicBool::new(false),
            wakes: AtomicU32::new(0),
            gate,
            open: AtomicBool::new(true),
            visitors: AtomicU32::new(0),
            event_fd: AtomicI32::new(-1),
        }
    }
}

impl<B: Backend> Ring<B> {
    #[inline]
    pub(super) fn is_asleep(&self) -> bool {
        !seeded!(StartDoesntLook) && self.sleep.sleep.load(Ordering::Acquire) != AWAKE
    }

    pub(super) fn sleeps_in_loop(&self) -> bool {
        self.sleep.sleep.load(Ordering::Relaxed) == LOOP
    }

    /// A wake that came in a call that ignores wakes: it ends the next wait.
    pub(super) fn keep_wake(&self) {
        // As any wake: another thread may be asleep by now. CLOSED: nobody waits any more.
        let _ = self.wake();
    }

    /// Under the lock, before a wait; false if a wake came first.
    #[inline]
    pub(super) fn fall_asleep(&self) -> bool {
        self.sleep_as(ENTER)
    }

    /// Under the lock, before the host's event loop sleeps.
    pub(super) fn sleep_in_loop(&self) -> bool {
        self.sleep_as(LOOP)
    }

    #[inline]
    fn sleep_as(&self, how: u32) -> bool {
        if !seeded!(KickedForEver) {
            self.sleep.kicked.store(false, Ordering::Relaxed);
        }
        self.sleep.sleep.store(how, Ordering::Release);
        if !seeded!(SleeperHasNoFence) {
            self.barrier().light();
        }
        let woken = self.sleep.woken.load(Ordering::Relaxed) && !seeded!(NoSecondLook);
        if woken || self.inbox.has_letters() {
            self.awake();
            return false;
        }
        true
    }

    #[inline]
    pub(super) fn awake(&self) {
        self.sleep.sleep.store(AWAKE, Ordering::Relaxed);
    }

    pub(super) fn is_woken(&self) -> bool {
        self.sleep.woken.load(Ordering::Relaxed)
    }

    /// Whether `wake` was called, once for all its calls.
    #[inline]
    pub(super) fn take_wake(&self) -> bool {
        self.sleep.woken.load(Ordering::Relaxed) && self.sleep.woken.swap(false, Ordering::AcqRel)
    }

    /// End the driver's wait, or its next one. Takes no lock, keeps errno.
    pub(crate) fn wake(&self) -> Result<i32> {
        let errno = os::errno();
        let sleep = &self.sleep;
        let first = !sleep.woken.swap(true, Ordering::AcqRel);
        let mut result = Ok(());
        if first || sleep.unsent.load(Ordering::Relaxed) && sleep.unsent.swap(false, Ordering::AcqRel) {
            result = self.send_wake();
        }
        if result.is_err() {
            // The mark stays: it may be that of another call by now, which has come after the driver took this one's.
            sleep.unsent.store(!seeded!(ForgetsRefusal), Ordering::Release);
        }
        os::set_errno(errno);
        result.map(|()| 0)
    }

    fn send_wake(&self) -> Result<()> {
        if !seeded!(WakeHasNoBarrier) {
            self.barrier().heavy();
        }
        self.insist_on_signal()
    }

    /// Wake a driver that sleeps, after a change under the lock that it should see.
    #[cold]
    pub(super) fn kick(&self) {
        // CLOSED: the ring's close looks at everything.
        if !matches!(self.insist_on_signal(), Ok(()) | Err(Status::CLOSED)) {
            // The kernel has no memory for a message: the next change tries again.
            self.sleep.kicked.store(false, Ordering::Relaxed);
        }
    }

    /// Others rely on the one that signals: it tries for a while.
    fn insist_on_signal(&self) -> Result<()> {
        let mut result = Ok(());
        for round in 0..SENDS {
            result = self.visit(|| self.signal_sleeper());
            if matches!(result, Ok(()) | Err(Status::CLOSED)) {
                break;
            }
            os::back_off(64 + round);
        }
        result
    }

    fn signal_sleeper(&self) -> SysResult<()> {
        match self.sleep.sleep.load(Ordering::Relaxed) {
            ENTER => {
                self.sleep.wakes.fetch_add(1, Ordering::Relaxed);
                B::send_wake(self.sleep.gate, Kind::Wake as u64)
            }
            LOOP => {
                self.sleep.wakes.fetch_add(1, Ordering::Relaxed);
                os::eventfd_write(self.sleep.event_fd.load(Ordering::Acquire))
            }
            _ => Ok(()),
        }
    }

    /// Use the ring's descriptors without its lock: they are not closed meanwhile.
    fn visit(&self, with: impl FnOnce() -> SysResult<()>) -> Result<()> {
        self.sleep.visitors.fetch_add(1, Ordering::SeqCst);
        let result =
            if self.sleep.open.load(Ordering::SeqCst) { with().map_err(Status::from) } else { Err(Status::CLOSED) };
        self.sleep.visitors.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// Before the descriptors are closed: no new visitors, and the last one has left.
    pub(super) fn end_visits(&self) {
        self.sleep.open.store(false, Ordering::SeqCst);
        let mut round = 0;
        while self.sleep.visitors.load(Ordering::SeqCst) > 0 && !seeded!(NoEndOfVisits) {
            os::back_off(round);
            round += 1;
        }
    }

    pub(super) fn set_event_fd(&self, fd: i32) {
        self.sleep.event_fd.store(fd, Ordering::Release);
    }

    pub(super) fn wakes(&self) -> u64 {
        u64::from(self.sleep.wakes.load(Ordering::Relaxed))
    }

    /// After a change by any thread: wake the driver if it sleeps.
    pub(super) fn kick_if_due(&self) {
        if self.is_asleep() {
            let me = os::thread_id();
            let state = self.lock(me);
            let due = self.kick_due(me);
            drop(state);
            if due {
                self.kick();
            }
        }
    }

    /// After a change that the driver should see, as the table says: whether it sleeps and is to be woken now. Once in each of its
    /// sleeps, however much follows. An owner in its event loop needs no wake from itself: it prepares before it sleeps.
    pub(super) fn kick_due(&self, me: usize) -> bool {
        self.is_asleep()
            && me != self.owner()
            && (!self.sleep.kicked.swap(true, Ordering::AcqRel) || seeded!(KicksEachTime))
    }
}
