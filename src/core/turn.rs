// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking turns on a SHARED ring: one thread drives, the others sleep until it has brought something or leaves.

use std::sync::atomic::Ordering;

use super::lock::Guard;
use super::open::Mode;
use super::ring::{Driver, Ring};
use super::state::{Phase, State};
use super::wait::Limit;
use super::{Result, Status};
use crate::sys::futex::{Slept, Word};
use crate::sys::sync::{AtomicU32, seeded};
use crate::sys::{Backend, os};

/// Threads that wait for a SHARED ring's driver to bring them something, or to leave.
#[derive(Default)]
pub(super) struct Turn {
    waiters: AtomicU32,
    /// Goes up with each thing that may interest them; they sleep on it.
    round: Word,
}

/// How waiting for one's turn ended.
pub(super) enum TurnEnd<'a, B: Backend, T> {
    Driver(Driver<'a, B>),
    Found(T),
    Time,
    Signal,
}

impl<B: Backend> Ring<B> {
    /// Another thread's start is entering the kernel with what it has started: it leaves at once.
    #[cold]
    pub(super) fn after_starter<'a>(&'a self, mut state: Guard<'a, State<B>>, me: usize) -> Guard<'a, State<B>> {
        let mut limit = Limit::Never;
        while state.starter.enters {
            let round = self.turn_round();
            self.await_told(state, round, &mut limit);
            state = self.lock(me);
        }
        state
    }

    /// Whether the calling thread may make a call that drives or waits for the driver. A closed ring is anybody's.
    fn may_wait(&self, state: &State<B>, me: usize) -> Result<()> {
        if state.driver == me {
            return Err(Status::EBUSY);
        }
        if matches!(state.phase, Phase::Closing | Phase::Closed) {
            return Ok(());
        }
        if self.options.mode == Mode::Owner && !matches!(self.owner(), 0) && self.owner() != me {
            return Err(Status::WRONG_THREAD);
        }
        Ok(())
    }

    /// Become the driver of a SHARED ring, waiting for one's turn; `None`: `done` came true first.
    pub(super) fn begin_in_turn<T>(
        &self,
        limit: &mut Limit,
        mut done: impl FnMut(&mut State<B>) -> Option<Result<T>>,
    ) -> Result<TurnEnd<'_, B, T>> {
        loop {
            let round = self.turn_round();
            let me = os::thread_id();
            let mut state = self.lock(me);
            self.may_wait(&state, me)?;
            if let Some(found) = done(&mut state) {
                return Ok(TurnEnd::Found(found?));
            }
            // Nobody brings anything any more.
            self.check_usable()?;
            if state.lost && self.is_background() {
                return Err(Status::LOST);
            }
            let other_drives = match self.options.mode {
                Mode::Owner => false,
                Mode::Shared => state.driver != 0 && state.driver != me,
                Mode::Background => true,
            };
            if !other_drives || state.phase != Phase::Open {
                drop(state);
                match self.begin() {
                    // Another thread was faster: wait for it.
                    Err(Status::EBUSY)
                        if other_drives || self.options.mode == Mode::Shared && self.lock(me).driver != me =>
                    {
                        continue;
                    }
                    driver => return driver.map(TurnEnd::Driver),
                }
            }
            match self.await_told(state, round, limit) {
                Slept::Told => {}
                Slept::Time => return Ok(TurnEnd::Time),
                Slept::Signal => return Ok(TurnEnd::Signal),
            }
        }
    }

    /// What is told of from here on ends an `await_told` with the result.
    pub(super) fn turn_round(&self) -> u32 {
        self.turn.round.now()
    }

    /// What is waited for is not in the state: sleep until the driver has told of something since `round`, the time is over, or
    /// a signal came. Who changes the state after this look has the lock after it, and so sees that somebody waits.
    pub(super) fn await_told(&self, state: Guard<'_, State<B>>, round: u32, limit: &mut Limit) -> Slept {
        if seeded!(EnlistsBehindTheLock) {
            drop(state);
            self.turn.waiters.fetch_add(1, Ordering::Relaxed);
        } else {
            self.turn.waiters.fetch_add(1, Ordering::Relaxed);
            drop(state);
        }
        let round = if seeded!(RoundAfterTheLook) { self.turn_round() } else { round };
        let told = self.await_round(round, limit);
        self.turn.waiters.fetch_sub(1, Ordering::Relaxed);
        told
    }

    fn await_round(&self, round: u32, limit: &mut Limit) -> Slept {
        while self.turn_round() == round {
            let left = limit.left();
            let slept = if left == Some(0) { Slept::Time } else { self.turn.round.sleep(round, left) };
            if slept != Slept::Told {
                return slept;
            }
        }
        Slept::Told
    }

    /// Something has changed that other threads may wait for.
    #[inline]
    pub(super) fn tell_waiters(&self) {
        if self.turn.waiters.load(Ordering::Relaxed) > 0 {
            self.tell_waiters_slowly();
        }
    }

    #[cold]
    pub(super) fn tell_waiters_slowly(&self) {
        self.turn.round.change();
    }

    /// Wait until no thread drives. For a close that has woken the driver.
    pub(super) fn await_no_driver(&self, me: usize) {
        self.await_state(me, |state| state.driver == 0 || state.driver == me);
    }
}
