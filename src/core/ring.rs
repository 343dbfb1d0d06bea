// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring as a whole: who holds it, who drives it.

use std::sync::atomic::Ordering;

use super::fork::Process;
use super::inbox::Inbox;
use super::lock::{Guard, OwnerLock};
use super::open::{Mode, Options};
use super::seat::{GONE, Seat};
use super::state::{Phase, State};
use super::turn::Turn;
use super::wait::Limit;
use super::wake::Sleep;
use super::{Result, Status};
use crate::sys::os::{self, Barrier};
use crate::sys::sync::{AtomicBool, AtomicUsize, Mutex, seeded};
use crate::sys::{Backend, Info};

pub(crate) struct Ring<B: Backend> {
    state: OwnerLock<State<B>>,
    pub(super) sleep: Sleep<B::Gate>,
    pub(super) inbox: Inbox,
    /// The thread that an OWNER ring is bound to.
    seat: Seat,
    process: Process,
    poisoned: AtomicBool,
    deferred: AtomicBool,
    /// The thread of a BACKGROUND ring frees it when it ends.
    pub(super) thread_frees: AtomicBool,
    /// Held while something is forwarded to that thread.
    pub(super) forwarding: Mutex<()>,
    info: Info,
    pub(super) options: Options,
    barrier: Barrier,
    pub(super) turn: Turn,
    /// Handles that the host holds.
    holders: AtomicUsize,
}

/// The right to drive; given back when dropped.
pub(crate) struct Driver<'a, B: Backend> {
    ring: &'a Ring<B>,
    pub(super) me: usize,
}

impl<B: Backend> Ring<B> {
    pub(super) fn new(state: State<B>, options: Options, seat: Seat, process: Process) -> Result<Self> {
        let backend = state.backend.as_ref().ok_or(Status::EINVAL)?;
        let (info, gate, barrier) = (*backend.info(), backend.gate(), Barrier::new());
        Ok(Self {
            state: OwnerLock::new(state, barrier),
            sleep: Sleep::new(gate),
            inbox: Inbox::default(),
            seat,
            process,
            poisoned: AtomicBool::new(false),
            deferred: AtomicBool::new(false),
            thread_frees: AtomicBool::new(false),
            forwarding: Mutex::new(()),
            info,
            options,
            barrier,
            turn: Turn::default(),
            holders: AtomicUsize::new(1),
        })
    }

    #[inline(always)]
    pub(super) fn lock(&self, me: usize) -> Guard<'_, State<B>> {
        let mut state = self.state.lock(me);
        if self.has_letters() {
            self.empty_inbox(&mut state);
        }
        state
    }

    /// As `lock`, with the letters left in the inbox: to look for no I/O by its handle, and for nothing that a start changes.
    #[inline(always)]
    pub(super) fn lock_only(&self, me: usize) -> Guard<'_, State<B>> {
        self.state.lock(me)
    }

    /// As `lock_only`, if the calling thread has the lock's bias.
    #[inline(always)]
    pub(super) fn lock_as_owner(&self, me: usize) -> Option<Guard<'_, State<B>>> {
        self.state.lock_as_owner(me)
    }

    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) fn is_locked(&self) -> bool {
        self.state.is_locked()
    }

    #[inline]
    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    #[inline]
    pub(super) fn barrier(&self) -> Barrier {
        self.barrier
    }

    /// The thread that an OWNER ring is bound to, or 0.
    #[inline]
    pub(super) fn owner(&self) -> usize {
        self.seat.thread()
    }

    /// What every call looks at first.
    #[inline(always)]
    pub(crate) fn check_usable(&self) -> Result<()> {
        if !self.process.is_current() {
            return Err(Status::FORKED);
        }
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(Status::POISONED);
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn is_forked(&self) -> bool {
        !self.process.is_current()
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    pub(crate) fn retain(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// Give up a handle; → whether it was the last.
    pub(crate) fn release(&self) -> bool {
        self.holders.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Become the driver, or say why not.
    #[inline]
    pub(super) fn begin(&self) -> Result<Driver<'_, B>> {
        let me = os::thread_id();
        // Letters are taken in before the kernel is entered, or callbacks run.
        let mut state = self.lock_only(me);
        if state.starter.enters {
            state = self.after_starter(state, me);
        }
        match state.phase {
            Phase::Open => {}
            Phase::Unbound if self.is_background() => return Err(Status::WRONG_THREAD),
            Phase::Unbound => self.bind(&mut state, me)?,
            Phase::Closing | Phase::Closed => {
                return Err(if state.driver == me { Status::EBUSY } else { Status::CLOSED });
            }
        }
        self.may_drive(&state, me)?;
        self.take_role(&mut state, me);
        drop(state);
        Ok(Driver { ring: self, me })
    }

    #[inline]
    pub(super) fn may_drive(&self, state: &State<B>, me: usize) -> Result<()> {
        if self.has_owner() && self.seat.thread() != me {
            return Err(Status::WRONG_THREAD);
        }
        if state.driver == 0 { Ok(()) } else { Err(Status::EBUSY) }
    }

    #[inline]
    pub(super) fn take_role(&self, state: &mut Guard<'_, State<B>>, me: usize) {
        state.driver = me;
        if self.options.mode == Mode::Shared && self.sleeps_in_loop() {
            // Another thread's event loop still sleeps: it shall come back and prepare again.
            let _ = state.event_fd().map(os::eventfd_write);
        }
        self.awake();
        if self.has_owner() {
            OwnerLock::settle(state, me);
        }
    }

    /// Go on driving in another shape: the role stays taken.
    pub(super) fn driver(&self, me: usize) -> Driver<'_, B> {
        Driver::of(self, me)
    }

    /// An OWNER ring's first drive.
    #[cold]
    pub(super) fn bind(&self, state: &mut Guard<'_, State<B>>, me: usize) -> Result<()> {
        Seat::prepare()?;
        state.backend()?.bind()?;
        state.phase = Phase::Open;
        // Nobody waits for what these settings give; a mask that the kernel refuses leaves the workers as they were.
        let _ = state.apply_workers();
        // Should the kernel be short of memory now, the entry goes with the next submit.
        let _ = state.submit_wake();
        self.seat.take(me);
        OwnerLock::grant(state, me);
        Ok(())
    }

    /// One thread drives from the bind on: the host's, or the ring's own.
    #[inline]
    pub(super) fn has_owner(&self) -> bool {
        self.options.mode != Mode::Shared
    }

    pub(super) fn owner_exited(&self) -> bool {
        self.seat.thread() == GONE
    }
}

impl<'a, B: Backend> Driver<'a, B> {
    /// Of a role that has been taken.
    #[inline(always)]
    pub(super) fn of(ring: &'a Ring<B>, me: usize) -> Self {
        Self { ring, me }
    }
}

impl<B: Backend> Drop for Driver<'_, B> {
    #[inline]
    fn drop(&mut self) {
        if seeded!(TellsBeforeTheChange) {
            self.ring.tell_waiters();
        }
        let mut state = self.ring.lock_only(self.me);
        if state.starter.asked {
            state = self.ring.submit_and_leave(state, self.me);
        }
        state.driver = 0;
        state.held_back = 0;
        state.lent = std::ptr::null();
        drop(state);
        if !seeded!(TellsBeforeTheChange) {
            self.ring.tell_waiters();
        }
    }
}

impl<B: Backend> Ring<B> {
    pub(super) fn process_mark(&self) -> Process {
        self.process
    }

    /// The last handle was given up while the calling thread drives: the ring closes when the running function of the
    /// host returns, and whoever made the driver's call frees it. False: free it now.
    pub(crate) fn defer_free(&self) -> bool {
        if self.is_forked() || self.is_poisoned() {
            return false;
        }
        let me = os::thread_id();
        let mut state = self.lock(me);
        if state.driver != me {
            return false;
        }
        if matches!(state.phase, Phase::Open | Phase::Unbound) {
            state.phase = Phase::Closing;
            self.clear_inbox(&mut state);
            state.close_request = Some(Limit::Within(0));
            state.attention = true;
        }
        self.thread_frees.store(self.is_background(), Ordering::Relaxed);
        self.deferred.store(true, Ordering::Relaxed);
        true
    }

    /// Hold the ring while functions of the host run in a call that doesn't drive: they may give up the last handle.
    pub(super) fn pinned(&self, run: impl FnOnce()) {
        self.retain();
        run();
        if self.release() {
            self.deferred.store(true, Ordering::Relaxed);
        }
    }

    /// The calling thread is within a driver's call.
    #[cold]
    pub(crate) fn is_driven_here(&self) -> bool {
        let me = os::thread_id();
        self.lock(me).driver == me
    }

    /// Whether `defer_free` said so, at the end of the driver's call.
    #[inline(always)]
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred.load(Ordering::Relaxed)
    }
}

impl<B: Backend> Drop for Ring<B> {
    fn drop(&mut self) {
        let is_forked = self.is_forked();
        let state = self.state.get_mut();
        let mut table = std::mem::replace(&mut state.table, super::table::Table::empty());
        if is_forked {
            self.inbox.forget();
        }
        if is_forked || state.backend.is_some() && state.counts.started != state.counts.finished {
            // In a forked child, or after a bug: the kernel may be using any of it.
            std::mem::forget((table, state.backend.take()));
            return;
        }
        if let Some(backend) = state.backend.take() {
            if let Some(fd) = backend.descriptor() {
                super::fork::forget(fd);
            }
        }
        // What is left was complete and never taken.
        let mut from = 0;
        while let Some(slot) = table.next_slot(from, |_| true) {
            drop(table.remove(slot).map(super::discarded::Discarded::new));
            from = slot + 1;
        }
    }
}
