// SPDX-License-Identifier: MIT OR Apache-2.0
//! BACKGROUND rings: a thread of the library's own is the owner, and drives until the ring is closed. Other threads wait for
//! what it brings as the waiters of a SHARED ring do, and never take the driver's role.

use std::sync::atomic::Ordering;

use super::open::Mode;
use super::ring::Ring;
use super::session::Session;
use super::state::{Phase, State};
use super::wait::Limit;
use super::{Result, Status};
use crate::sys::sync::seeded;
use crate::sys::thread::{Thread, set_affinity};
use crate::sys::{Backend, os};

/// What other threads and the driver's tell each other.
#[derive(Default)]
pub(super) struct Background {
    /// To be joined by whoever ends the ring.
    pub(super) thread: Option<Thread>,
    /// Why the thread could not become the driver.
    failure: Option<Status>,
    /// What became of the worker settings that were forwarded.
    pub(super) workers_done: Option<Result<()>>,
}

impl<B: Backend> Ring<B> {
    #[inline]
    pub(super) fn is_background(&self) -> bool {
        self.options.mode == Mode::Background
    }

    /// Make the thread, and wait until it drives. `body` gets `ring`, and calls `begin_background` first.
    /// # Safety
    /// `body` is the address of a thread's function, and drives the ring that it is given.
    pub(crate) unsafe fn spawn_background(&self, body: usize, ring: usize) -> Result<()> {
        if !self.is_background() {
            return Ok(());
        }
        let me = os::thread_id();
        // SAFETY: the caller's duty; the ring is freed after the thread has been joined, or by the thread at its end.
        let thread = unsafe { Thread::spawn(body, ring) }?;
        self.lock(me).background.thread = Some(thread);
        self.await_state(me, |state| state.phase != Phase::Unbound || state.background.failure.is_some());
        let failure = self.lock(me).background.failure;
        if failure.is_some() {
            self.end_thread(me);
        }
        failure.map_or(Ok(()), Err)
    }

    /// The thread's first call: bind the ring.
    pub(crate) fn begin_background(&self) {
        let me = os::thread_id();
        let placed = self.options.background_cpu.map_or(Ok(()), set_affinity);
        let mut state = self.lock(me);
        let bound = placed.map_err(Status::from).and_then(|()| self.bind(&mut state, me));
        state.background.failure = bound.err();
        drop(state);
        self.tell_waiters_slowly();
    }

    /// The thread's next session; `None`: the ring is closed, or can't be driven.
    pub(crate) fn background_session(&self) -> Option<Session<'_, B>> {
        let me = os::thread_id();
        loop {
            if self.is_poisoned() || self.is_forked() {
                return None;
            }
            let mut state = self.lock(me);
            if state.phase == Phase::Closing {
                let limit = state.close_request.take()?;
                return self.take_over(state, me, limit, true).ok();
            }
            if state.phase != Phase::Open {
                return None;
            }
            if let Some(change) = state.files.asked.take() {
                let done = state.change_files(change);
                state.files.done = Some(done);
                drop(state);
                self.tell_waiters_slowly();
                continue;
            }
            if state.workers.are_set() {
                let applied = state.apply_workers();
                state.background.workers_done = Some(applied);
                drop(state);
                self.tell_waiters_slowly();
                continue;
            }
            drop(state);
            if let Ok(session) = self.run(1, Limit::Never) {
                return Some(session);
            }
        }
    }

    /// The thread's last call; → whether it is the one to free the ring.
    pub(crate) fn end_background(&self) -> bool {
        self.tell_waiters_slowly();
        self.thread_frees.load(Ordering::Relaxed)
    }

    /// Have the thread close the ring, and wait until it has; → how many I/Os were orphaned.
    pub(super) fn close_in_background(&self, me: usize, limit: Limit) -> i32 {
        let mut state = self.lock(me);
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            self.clear_inbox(&mut state);
            state.close_request = Some(limit);
            state.attention = true;
        }
        drop(state);
        if !seeded!(ClosesWithoutWake) {
            let _ = self.wake();
        }
        self.await_state(me, |state| state.phase == Phase::Closed);
        self.end_thread(me);
        self.lock(me).counts.orphaned as i32
    }

    /// Of a ring that is poisoned, or was never driven: the thread ends by itself.
    pub(super) fn stop_thread(&self, me: usize) {
        if self.is_background() {
            let _ = self.wake();
            self.end_thread(me);
        }
    }

    /// After a session that the kernel refused: let it come to itself.
    pub(crate) fn pause(&self) {
        if self.lock(os::thread_id()).phase == Phase::Open {
            os::nap();
        }
    }

    /// Join the thread, if nobody has; it has nothing more to do.
    fn end_thread(&self, me: usize) {
        let thread = self.lock(me).background.thread.take();
        match thread {
            Some(thread) if self.owner() == me || seeded!(DoesntJoin) => thread.detach(),
            Some(thread) => thread.join(),
            None => {}
        }
    }

    /// Sleep until the state is as wanted, or the thread can't bring that any more.
    pub(super) fn await_state(&self, me: usize, wanted: impl Fn(&State<B>) -> bool) {
        let mut limit = Limit::Never;
        loop {
            let round = self.turn_round();
            let state = self.lock(me);
            if wanted(&state) || self.is_poisoned() {
                return;
            }
            self.await_told(state, round, &mut limit);
        }
    }

    /// Have the thread do what is the driver's alone: it has been left in the state, and `done` takes the result.
    pub(super) fn forward<T>(&self, me: usize, done: impl Fn(&mut State<B>) -> Option<T>) -> Result<T> {
        let _ = self.wake();
        let mut limit = Limit::Never;
        loop {
            let round = self.turn_round();
            let mut state = self.lock(me);
            if let Some(result) = done(&mut state) {
                return Ok(result);
            }
            state.check_open()?;
            self.check_usable()?;
            self.await_told(state, round, &mut limit);
        }
    }
}
