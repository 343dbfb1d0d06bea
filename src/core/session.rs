// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handing things out: a driver's call that runs functions of the host is a session, which
//! gives out one delivery at a time and holds no lock between them.
//!
//! | session | gives out | until |
//! |---|---|---|
//! | process | what was complete on entry | that, or the budget, is used up; then submits |
//! | run | as process, once something is there | as process |
//! | drain | whatever comes | nothing is unfinished |
//! | close | whatever comes | nothing is unfinished, or time is over and the rest is orphaned |

mod advance;

use super::lent::Out;
use super::lock::Guard;
use super::ring::{Driver, Ring};
use super::state::{Phase, Ready, State};
use super::table::HostFn;
use super::turn::TurnEnd;
use super::wait::{Last, Limit};
use super::{Result, Status};
use crate::sys::Backend;

/// One thing for the host, to be done outside the lock.
pub(crate) enum Delivery {
    /// A completion, in the session's `out`.
    Complete(Option<HostFn>),
    Ready(Ready),
    /// A function that is given only user_data.
    Call(HostFn, usize),
}

/// What a session does next.
pub(crate) enum Step {
    Deliver(Delivery),
    End(Result<i32>),
}

pub(super) enum Kind {
    Process,
    Run {
        min: u32,
        limit: Limit,
    },
    /// `woken`: a wake came, which is for others.
    Drain {
        limit: Limit,
        woken: bool,
    },
    Close(super::close::Closing),
}

pub(crate) struct Session<'a, B: Backend> {
    driver: Driver<'a, B>,
    ring: &'a Ring<B>,
    kind: Kind,
    pub(crate) out: Out,
    /// The enter that came before this, if it has not been looked at.
    pub(super) last: Last,
    /// Completions, and leftover callbacks, that were there on entry and have not been looked at.
    fresh: u32,
    /// Of `fresh`, those within the budget that `next_plain` may take; and how many there were when `next` last looked.
    plain: u32,
    plain_before: u32,
    leftover: u32,
    budget: u32,
    /// Callbacks given out.
    delivered: u32,
    /// `Counts::announced` when the session's rounds began.
    announced: u64,
    pub(super) started: bool,
    brought: bool,
    /// Posted functions that were there on entry, and functions without an I/O given out.
    posts: usize,
    called: bool,
}

impl<B: Backend> Ring<B> {
    /// Give out what is complete, at most `budget` callbacks (0 = all).
    pub(crate) fn process(&self, budget: u32) -> Result<Session<'_, B>> {
        Ok(Session::new(self, self.begin()?, Kind::Process, budget))
    }

    /// Wait, then process.
    pub(crate) fn run(&self, min: u32, limit: Limit) -> Result<Session<'_, B>> {
        Ok(Session::new(self, self.begin()?, Kind::Run { min, limit }, 0))
    }

    /// Give out whatever comes until nothing is unfinished.
    pub(crate) fn drain(&self, mut limit: Limit) -> Result<Option<Session<'_, B>>> {
        let background = self.is_background();
        // Another thread that drives may bring the last completion, and its callback return, meanwhile.
        let drained = |state: &mut State<B>| {
            let other = (state.driver != 0 || background) && state.phase == Phase::Open;
            (other && state.unfinished() == 0 && !state.has_due() && state.lent.is_null()).then_some(Ok(()))
        };
        match self.begin_in_turn(&mut limit, drained)? {
            TurnEnd::Driver(driver) => Ok(Some(Session::new(self, driver, Kind::Drain { limit, woken: false }, 0))),
            TurnEnd::Time => Err(Status::ETIME),
            TurnEnd::Signal => Err(Status::EINTR),
            TurnEnd::Found(()) => Ok(None),
        }
    }
}

impl<'a, B: Backend> Session<'a, B> {
    pub(super) fn new(ring: &'a Ring<B>, driver: Driver<'a, B>, kind: Kind, budget: u32) -> Self {
        Self {
            driver,
            ring,
            kind,
            out: Out::new(),
            last: Last::default(),
            fresh: 0,
            plain: 0,
            plain_before: 0,
            leftover: 0,
            budget: if budget == 0 { u32::MAX } else { budget },
            delivered: 0,
            announced: 0,
            started: false,
            brought: false,
            posts: 0,
            called: false,
        }
    }

    /// The next completion, if the one before was as usual and this is: a plain I/O's, of a ring that has an owner. Its
    /// callback is to be called. What this doesn't take is left to `next`.
    #[inline(always)]
    pub(crate) fn next_plain(&mut self) -> Option<HostFn> {
        if self.plain == 0 || self.ring.is_forked() {
            return None;
        }
        let mut state = self.ring.lock_as_owner(self.driver.me)?;
        let callback = state.retire_plain(&self.out)?;
        self.plain -= 1;
        Some(callback)
    }

    /// Count what `next_plain` has given out.
    #[inline(always)]
    fn count_plain(&mut self) {
        let given = self.plain_before - self.plain;
        self.fresh -= given;
        self.delivered += given;
        self.plain_before = self.plain;
    }

    /// Look at no more than this in `next_plain`.
    #[inline(always)]
    fn limit_plain(&mut self, most: u32) {
        self.plain = most.min(self.budget - self.delivered);
        self.plain_before = self.plain;
    }

    /// The next delivery, or the end. The one before has been done.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Step {
        self.count_plain();
        if self.started {
            if self.ring.is_forked() {
                // The function of the host that ran has forked, and this is the child.
                return Step::End(Err(Status::FORKED));
            }
            if let Some(delivery) = self.next_delivery() {
                return Step::Deliver(delivery);
            }
        }
        self.next_round()
    }

    #[inline(never)]
    fn next_round(&mut self) -> Step {
        loop {
            match self.advance() {
                Ok(Some(count)) => return Step::End(Ok(count)),
                Ok(None) => {}
                Err(status) => return Step::End(Err(status)),
            }
            if let Some(callback) = self.next_plain() {
                return Step::Deliver(Delivery::Complete(Some(callback)));
            }
            if let Some(delivery) = self.next_delivery() {
                return Step::Deliver(delivery);
            }
        }
    }

    #[inline(always)]
    fn next_delivery(&mut self) -> Option<Delivery> {
        let delivery = self.look_for_delivery();
        self.limit_plain(self.plain.min(self.fresh));
        delivery
    }

    #[inline(always)]
    fn look_for_delivery(&mut self) -> Option<Delivery> {
        let mut state = self.ring.lock_only(self.driver.me);
        state.held_back = 0;
        loop {
            if state.attention {
                state = self.let_go_of_trash(state);
                if let Some(due) = self.next_due(&mut state) {
                    self.tell_of_brought();
                    return Some(due);
                }
                if state.close_request.is_some() {
                    return None;
                }
            }
            if self.fresh == 0 || self.delivered >= self.budget {
                break;
            }
            self.fresh -= 1;
            let Some(cqe) = state.next_cqe() else { break };
            match state.retire(cqe, &self.out) {
                Ok(Some(delivery)) => {
                    self.delivered += 1;
                    state.lent = &raw const self.out.lent;
                    if self.brought {
                        self.tell_of_brought();
                    }
                    return Some(delivery);
                }
                Ok(None) => self.brought = true,
                Err(_) => {
                    state.stalled = Some(cqe);
                    break;
                }
            }
        }
        self.fresh = if self.delivered < self.budget { 0 } else { self.fresh };
        state.lent = std::ptr::null();
        None
    }

    /// A function of the host is about to run and may take its time: who waits for what is there already is told.
    #[cold]
    fn tell_of_brought(&mut self) {
        self.brought = false;
        self.ring.tell_waiters();
    }

    /// Outside the lock, release functions may run.
    #[cold]
    #[inline(never)]
    fn let_go_of_trash(&self, state: Guard<'a, State<B>>) -> Guard<'a, State<B>> {
        drop(state);
        self.ring.empty_trash(self.driver.me);
        self.ring.lock(self.driver.me)
    }

    /// What earlier calls left, and what is due besides callbacks.
    #[cold]
    #[inline(never)]
    fn next_due(&mut self, state: &mut State<B>) -> Option<Delivery> {
        state.lent = std::ptr::null();
        if state.close_request.is_some() {
            return None;
        }
        if let Some(ready) = state.ready.pop_front() {
            return Some(Delivery::Ready(ready));
        }
        if let Some(call) = state.next_post(&mut self.posts).or_else(|| state.take_room()) {
            self.called = true;
            return Some(call);
        }
        state.attention = state.has_due();
        self.leftover = self.leftover.saturating_add(std::mem::take(&mut state.released));
        if self.leftover == 0 || self.delivered >= self.budget {
            return None;
        }
        self.leftover -= 1;
        let delivery = state.next_callback(&self.out)?;
        self.delivered += 1;
        state.lent = &raw const self.out.lent;
        Some(delivery)
    }

    /// As `begin_round`, of a round with `left` completions from the queue, after `delivered`.
    pub(super) fn begin_round_with(&mut self, left: u32, delivered: u32) {
        self.announced = self.ring.lock(self.driver.me).told;
        self.delivered = delivered;
        self.begin_round();
        self.fresh = left;
        self.limit_plain(left);
    }

    fn begin_round(&mut self) {
        let mut state = self.ring.lock_only(self.driver.me);
        self.started = true;
        self.leftover = state.counts.callbacks;
        state.released = 0;
        self.posts = state.posts.len();
        state.attention |= state.has_call();
        let stalled = u32::from(state.stalled.is_some());
        let available = state.backend.as_mut().map_or(0, B::available);
        self.fresh = stalled + available;
        drop(state);
        self.limit_plain(if stalled == 0 { available } else { 0 });
    }
}
