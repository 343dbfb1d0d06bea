// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entering the kernel: submit, and wait for what is to come.

use super::ring::Ring;
use super::state::{Phase, State};
use super::{Result, Status};
use crate::sys::sync::seeded;
use crate::sys::{Backend, Enter, Errno, SysResult, os};

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Never,
    /// Nanoseconds, from the first time that it matters.
    Within(u64),
    /// A point of the monotonic clock.
    Until(u64),
}

impl Limit {
    /// Negative = no limit, 0 = don't wait.
    #[inline]
    pub(crate) fn from_ns(ns: i64) -> Self {
        u64::try_from(ns).map_or(Self::Never, Self::Within)
    }

    /// Nanoseconds left; `None` = no limit. Reads the clock only if there is one.
    #[inline]
    pub(super) fn left(&mut self) -> Option<u64> {
        match *self {
            Self::Never => None,
            Self::Within(0) => Some(0),
            Self::Within(ns) => {
                *self = Self::Until(os::now().saturating_add(ns));
                Some(ns)
            }
            Self::Until(at) => Some(at.saturating_sub(os::now())),
        }
    }
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Enough,
    Time,
    /// `wake` was called.
    Wake,
    Signal,
    /// Another thread closes the ring.
    Closing,
    /// The kernel refuses; every entry is kept for the next try.
    Refused(Status),
}

/// How the last enter of a wait went.
#[derive(Clone, Copy, Default)]
pub(super) struct Last {
    entered: bool,
    taken: u32,
    submitted: u32,
    waited: bool,
    timed: bool,
    refused: Option<Errno>,
    /// It is to be made once more, without a wait.
    again: bool,
}

/// Enters that fail in a row before the kernel is believed.
const TRIES: u32 = 16;

impl<B: Backend> Ring<B> {
    /// Submit all, and wait until `enough` is there. The caller drives. → why it ended, and entries that the kernel took.
    #[inline]
    pub(super) fn wait_for(
        &self,
        me: usize,
        limit: &mut Limit,
        enough: impl FnMut(&mut State<B>) -> Result<bool>,
    ) -> Result<(Woken, u32)> {
        self.wait_on(me, limit, Last::default(), enough)
    }

    /// As `wait_for`, after an enter.
    pub(super) fn wait_on(
        &self,
        me: usize,
        limit: &mut Limit,
        mut last: Last,
        mut enough: impl FnMut(&mut State<B>) -> Result<bool>,
    ) -> Result<(Woken, u32)> {
        let (mut taken, mut end, mut tries, mut looked_out) = (0, None, 0, false);
        loop {
            let mut state = self.lock(me);
            if last.refused.is_some() {
                end = state.refused(&mut last, &mut tries, end);
            }
            taken += last.taken;
            let quiet = state.note_enter(last)?;
            if enough(&mut state)? && matches!(end, None | Some(Woken::Refused(_))) {
                end = Some(Woken::Enough);
            }
            self.tell_waiters();
            end = end.or_else(|| self.interruption(&state));
            let timeout = if end.is_none() { state.time_left(limit) } else { None };
            if timeout == Some(0) {
                end = Some(Woken::Time);
            }
            end = end.or_else(|| quiet.then_some(Woken::Signal));
            let backend = state.backend()?;
            let (submit, flush) = (backend.publish(), last.again || backend.holds_back());
            let gate = backend.gate();
            // What still waits for room in the submission queue goes first. An enter that submits doesn't tell of a signal
            // that ended its wait: then no completion has come (`quiet`), which is proof only where task work
            // is deferred, and no timeout operation ends a wait a moment before its completion is there.
            let exact = submit == 0 || self.info().defers && !state.timeouts;
            let wait = end.is_none() && !last.again && state.overflow.is_empty() && exact;
            if let Some(end) = end.filter(|_| last.took_all(submit, flush)) {
                return Ok((end, taken));
            }
            if wait && self.stays_awake(&mut state, submit == 0 && !looked_out) {
                drop(state);
                looked_out = self.look_out(me);
                last = Last::default();
                continue;
            }
            drop(state);
            let _ = wait && seeded!(SleepsBehindTheLock) && self.fall_asleep();
            let entered = B::enter(gate, Enter { submit, wait, flush, timeout });
            self.awake();
            last = Last::of(submit, wait, timeout.is_some(), entered);
            tries = if entered.is_ok() { 0 } else { tries };
        }
    }

    /// Under the lock, before a wait: whether there is something to look at first. If not, the driver is asleep from here on.
    #[inline]
    fn stays_awake(&self, state: &mut State<B>, may_look_out: bool) -> bool {
        may_look_out && self.expects_letter(state) || !seeded!(SleepsBehindTheLock) && !self.fall_asleep()
    }

    /// Submit all, without waiting; → whether the kernel refused, and entries that it took.
    pub(super) fn submit_all(&self, me: usize) -> Result<(Woken, u32)> {
        // There is nothing to wait for at first. Asked again, it leaves what a refusal says.
        let mut first = true;
        self.wait_for(me, &mut Limit::Within(0), |_| Ok(std::mem::take(&mut first)))
    }

    /// What ends a wait besides what it waits for.
    #[inline]
    pub(super) fn interruption(&self, state: &State<B>) -> Option<Woken> {
        if state.phase == Phase::Closing && !state.closer_drives {
            return Some(Woken::Closing);
        }
        if state.lost && !state.closer_drives {
            // What was lost never comes: nobody sleeps for it.
            return Some(Woken::Refused(Status::LOST));
        }
        self.take_wake().then_some(Woken::Wake)
    }

    /// Enter the kernel with what has been started; → entries taken.
    pub(crate) fn submit(&self) -> Result<i32> {
        let driver = self.begin()?;
        let (woken, taken) = self.submit_all(driver.me)?;
        settle(taken as i32, woken)
    }

    /// Submit, and wait for `min` completions; → how many there are.
    pub(crate) fn wait(&self, min: u32, mut limit: Limit) -> Result<i32> {
        let (driver, last) = match self.usual_wait(min, limit) {
            Some(Ok(there)) => return Ok(there),
            Some(Err(last)) => (self.driver(os::thread_id()), last),
            None => (self.begin()?, Last::default()),
        };
        let (woken, _) = self.wait_on(driver.me, &mut limit, last, |state| {
            state.collect()?;
            Ok(state.deliverable() >= min || state.has_call())
        })?;
        let mut state = self.lock_only(driver.me);
        state.collect()?;
        let there = state.deliverable();
        drop(state);
        let me = driver.me;
        // Outside the role: what runs in there may drive or close the ring itself.
        drop(driver);
        self.empty_trash(me);
        settle(there as i32, woken)
    }
}

/// A driver's call with nothing to return tells why the kernel refused; another thread's close shows always.
pub(super) fn settle(count: i32, woken: Woken) -> Result<i32> {
    match woken {
        Woken::Closing => Err(Status::CLOSED),
        Woken::Refused(status) if count == 0 => Err(status),
        _ => Ok(count),
    }
}

impl Last {
    #[inline]
    pub(super) fn of(submitted: u32, waited: bool, timed: bool, entered: SysResult<u32>) -> Self {
        let (taken, refused) = match entered {
            Ok(taken) => (taken, None),
            Err(errno) => (0, Some(errno)),
        };
        Self { entered: true, taken, submitted, waited, timed, refused, again: false }
    }

    /// All is submitted and was looked for, or the kernel takes no more.
    #[inline]
    fn took_all(&self, submit: u32, flush: bool) -> bool {
        !self.again && (submit == 0 && (!flush || self.entered) || self.entered && self.taken == 0)
    }
}

impl<B: Backend> State<B> {
    /// An enter has failed: what that means for the wait. What the kernel has taken all the same shows in the queue.
    ///
    /// | errno | means |
    /// |---|---|
    /// | ETIME | the wait's time is over: the loop looks |
    /// | EINTR | a signal, if an enter without a wait, which signals don't end, then goes well |
    /// | EBUSY | the completion queue is full: it is looked at, and the enter made again |
    /// | EBADR | completions were lost: no wait sleeps any more, a close orphans what doesn't come |
    /// | others | all is kept for the next try, and the call ends with the status if it has nothing else to return |
    #[cold]
    fn refused(&mut self, last: &mut Last, tries: &mut u32, end: Option<Woken>) -> Option<Woken> {
        let untaken = self.backend.as_mut().map_or(0, B::publish);
        last.taken = last.submitted.saturating_sub(untaken);
        let Some(errno) = last.refused else { return end };
        *tries += 1;
        last.again = matches!(errno.0, libc::EINTR | libc::EBUSY) && *tries < TRIES;
        let status = match errno.0 {
            libc::ETIME if last.timed => return end,
            libc::EINTR if last.again => return end.or(Some(Woken::Signal)),
            libc::EBUSY if last.again => return end,
            libc::EINTR | libc::EBUSY => Status::EAGAIN,
            libc::EBADR => {
                self.lost = true;
                Status::LOST
            }
            _ => errno.into(),
        };
        // A wake must not be forgotten.
        end.filter(|end| matches!(end, Woken::Closing | Woken::Wake)).or(Some(Woken::Refused(status)))
    }

    /// Begin a round of a wait, after the last enter; → whether that one ended without any of the known reasons: a
    /// signal does not show in the result when something was submitted.
    #[inline]
    pub(super) fn note_enter(&mut self, last: Last) -> Result<bool> {
        let mut quiet = false;
        if last.entered {
            self.counts.enters += 1;
            if last.waited {
                self.clock_ms = self.clock_now();
            }
            if last.taken < last.submitted {
                self.sever();
            }
            if last.taken > 0 && last.refused.is_none() {
                let whole = last.taken == last.submitted;
                quiet = last.waited && whole && self.backend()?.available() == 0;
            }
        }
        self.refill();
        if self.deadlines.nearest().is_some() && self.expire() {
            quiet = false;
        }
        if self.backend()?.overflowed() {
            self.counts.overflows += 1;
        }
        Ok(quiet)
    }

    /// How long to sleep: until the limit or the nearest deadline; 0 only at the limit.
    #[inline]
    fn time_left(&mut self, limit: &mut Limit) -> Option<u64> {
        if self.missed {
            self.watch_cancelled();
        }
        let left = limit.left();
        match self.deadlines.nearest() {
            Some(at) if left != Some(0) => {
                let nearest = at.saturating_sub(os::now()).max(1);
                Some(left.map_or(nearest, |left| left.min(nearest)))
            }
            _ => left,
        }
    }
}
