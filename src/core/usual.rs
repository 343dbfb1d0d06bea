// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way of a run or wait that is as most are: by the thread that owns the ring, for one completion and without a
//! limit, with nothing due but what the kernel brings. It takes the lock as often as it must, and leaves all else to the
//! long way, which can take over at each of its steps.

use super::lent::Out;
use super::ring::{Driver, Ring};
use super::session::{Kind, Session};
use super::state::{Phase, State};
use super::table::HostFn;
use super::wait::{Last, Limit};
use crate::sys::sync::seeded;
use crate::sys::{Backend, Enter, os};

/// A run as most are.
pub(crate) struct UsualRun<'a, 'o, B: Backend> {
    ring: &'a Ring<B>,
    me: usize,
    out: &'o Out,
    /// Completions that were there when the round of deliveries began, and those not given out yet.
    there: u32,
    left: u32,
    /// The long way has to look at this enter first; no round has begun.
    unlooked: Option<Last>,
}

/// How an enter went.
enum Entered {
    /// So many completions are there.
    Came(u32),
    /// The long way has to look at it.
    Otherwise(Last),
}

impl<B: Backend> Ring<B> {
    /// Take the driver's role, submit, and wait for a completion if none is there. `None`: nothing has happened.
    #[inline(always)]
    fn enter_as_owner(&self, me: usize, fits: impl FnOnce(&State<B>) -> bool) -> Option<Entered> {
        let mut state = self.lock_as_owner(me)?;
        if self.has_letters() || !state.is_usual() || state.driver != 0 || !fits(&state) {
            return None;
        }
        let timeouts = state.timeouts;
        let backend = state.backend.as_mut()?;
        let (submit, there, flush) = (backend.publish(), backend.available(), backend.holds_back());
        let gate = backend.gate();
        if there > 0 {
            self.awake();
            state.driver = me;
            if submit == 0 && !flush {
                return Some(Entered::Came(there));
            }
        } else {
            // As in `wait_on`: an enter that submits doesn't tell of a signal that ended its wait; a letter may be looked out for.
            let exact = if submit > 0 { self.info().defers && !timeouts } else { !self.inbox.is_busy() };
            if !exact || !seeded!(SleepsBehindTheLock) && !self.fall_asleep() {
                return None;
            }
            state.driver = me;
        }
        drop(state);
        let wait = there == 0;
        let _ = wait && seeded!(SleepsBehindTheLock) && self.fall_asleep();
        let entered = B::enter(gate, Enter { submit, wait, flush, timeout: None });
        self.awake();
        let mut state = self.lock(me);
        if entered == Ok(submit) {
            if let Some(there) = state.note_usual_enter(wait) {
                return Some(Entered::Came(there));
            }
        }
        Some(Entered::Otherwise(Last::of(submit, wait, false, entered)))
    }

    /// Begin a run, wait, and begin its round of deliveries, which go by `out`. `None`: nothing has happened.
    #[inline(always)]
    pub(crate) fn usual_run<'o>(&self, min: u32, limit: Limit, out: &'o Out) -> Option<UsualRun<'_, 'o, B>> {
        let me = os::thread_id();
        if min != 1 || !matches!(limit, Limit::Never) {
            return None;
        }
        let entered = self.enter_as_owner(me, |state| state.counts.announced == state.told)?;
        let (there, unlooked) = match entered {
            Entered::Otherwise(last) => (0, Some(last)),
            Entered::Came(there) => (there, None),
        };
        Some(UsualRun { ring: self, me, out, there, left: there, unlooked })
    }

    /// Wait, with nothing deliverable before; → how many completions are deliverable. `None`: nothing has happened.
    #[inline(always)]
    pub(super) fn usual_wait(&self, min: u32, limit: Limit) -> Option<Result<i32, Last>> {
        let me = os::thread_id();
        if min != 1 || !matches!(limit, Limit::Never) {
            return None;
        }
        match self.enter_as_owner(me, |state| state.deliverable() == 0)? {
            Entered::Otherwise(last) => Some(Err(last)),
            Entered::Came(_) => {
                let mut state = self.lock(me);
                if state.collect().is_err() || state.deliverable() == 0 || state.attention {
                    return Some(Err(Last::default()));
                }
                let there = state.deliverable() as i32;
                state.driver = 0;
                drop(state);
                self.tell_waiters();
                Some(Ok(there))
            }
        }
    }
}

impl<'a, B: Backend> UsualRun<'a, '_, B> {
    /// The next completion is in `out`; its callback is to be called. `None`: see `end`.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<HostFn> {
        if self.left == 0 || self.ring.is_forked() {
            return None;
        }
        let callback = self.ring.lock_as_owner(self.me)?.retire_plain(self.out)?;
        self.left -= 1;
        Some(callback)
    }

    /// Submit what the callbacks have started, and end; → callbacks given out. `None`: the long way has more to do.
    #[inline(always)]
    pub(crate) fn end(&mut self) -> Option<i32> {
        if self.left > 0 || self.there == 0 || self.ring.is_forked() {
            return None;
        }
        let mut state = self.ring.lock_as_owner(self.me)?;
        let usual = !state.attention && state.overflow.is_empty() && state.room.is_wanted_by_nobody();
        if !usual || state.event_fd.is_some() || state.counts.announced != state.told {
            return None;
        }
        let backend = state.backend.as_mut()?;
        let (submit, gate) = (backend.publish(), backend.gate());
        if backend.holds_back() {
            return None;
        }
        state.lent = std::ptr::null();
        if submit > 0 {
            drop(state);
            let entered = B::enter(gate, Enter { submit, wait: false, flush: false, timeout: None });
            state = self.ring.lock(self.me);
            state.counts.enters += 1;
            if entered != Ok(submit) {
                // What the kernel has not taken goes with the long way's enter.
                state.sever();
                return None;
            }
        }
        state.held_back = 0;
        state.driver = 0;
        drop(state);
        self.ring.tell_waiters();
        Some(self.there as i32)
    }

    /// The long way, from here on.
    #[cold]
    #[inline(never)]
    pub(crate) fn go_on(self) -> Session<'a, B> {
        let kind = Kind::Run { min: 1, limit: Limit::Never };
        let mut session = Session::new(self.ring, Driver::of(self.ring, self.me), kind, 0);
        match self.unlooked {
            Some(last) => session.last = last,
            None if self.ring.is_forked() => session.started = true,
            None => session.begin_round_with(self.left, self.there - self.left),
        }
        session
    }
}

impl<B: Backend> State<B> {
    /// Nothing is due, waits or is expected besides what the kernel brings.
    #[inline(always)]
    fn is_usual(&self) -> bool {
        self.phase == Phase::Open
            && !(self.attention | self.starter.enters | self.lost | self.missed)
            && self.stalled.is_none()
            && self.overflow.is_empty()
            && self.deadlines.nearest().is_none()
            && self.room.is_wanted_by_nobody()
    }

    /// After an enter that took all: how many completions are there. `None`: none, or something else has come; nothing is noted.
    #[inline(always)]
    fn note_usual_enter(&mut self, waited: bool) -> Option<u32> {
        let quiet = self.phase == Phase::Open && self.overflow.is_empty() && self.deadlines.nearest().is_none();
        let backend = self.backend.as_mut()?;
        let there = backend.available();
        if !quiet || there == 0 || backend.overflowed() {
            return None;
        }
        self.counts.enters += 1;
        if waited {
            self.clock_ms = self.clock_now();
        }
        Some(there)
    }
}
