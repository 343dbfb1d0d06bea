// SPDX-License-Identifier: MIT OR Apache-2.0
//! Between a session's rounds of deliveries: wait, begin the next, or end.

use super::{Kind, Session};
use crate::core::wait::{Limit, Woken, settle};
use crate::core::{Result, Status};
use crate::sys::Backend;

impl<B: Backend> Session<'_, B> {
    /// Between rounds of deliveries: begin, wait, or end with a count.
    pub(super) fn advance(&mut self) -> Result<Option<i32>> {
        let state = self.ring.lock_only(self.driver.me);
        let (closes, room) = (state.close_request.is_some(), self.started && state.room_due());
        drop(state);
        if closes && !matches!(self.kind, Kind::Close(_)) {
            return self.close_now();
        }
        if room {
            // The round that is over has made room.
            self.begin_round();
            return Ok(None);
        }
        match &mut self.kind {
            Kind::Process if !self.started => {
                self.flush()?;
                self.begin_round();
            }
            Kind::Process => return self.end_process(Woken::Enough),
            Kind::Run { min, limit } => {
                let (min, limit) = (*min, *limit);
                return self.advance_run(min, limit);
            }
            Kind::Drain { limit, woken } => {
                let (limit, woken) = (*limit, *woken);
                return self.advance_drain(limit, woken);
            }
            Kind::Close(_) => return self.advance_close(),
        }
        Ok(None)
    }

    fn advance_run(&mut self, min: u32, mut limit: Limit) -> Result<Option<i32>> {
        let me = self.driver.me;
        if self.started {
            // Something for the host came in the round before, be it for a ready function that has taken it already; or
            // nothing did, but the wait is over for another reason.
            let state = self.ring.lock_only(me);
            let came = min == 0 || self.delivered > 0 || self.called || state.news(self.announced) > 0;
            let cut_short = if came { Some(Woken::Enough) } else { self.ring.interruption(&state) };
            drop(state);
            let over = if limit.left() == Some(0) { Some(Woken::Time) } else { None };
            if let Some(woken) = cut_short.or(over) {
                return self.end_process(woken);
            }
        } else {
            self.announced = self.ring.lock_only(me).counts.announced;
        }
        let announced = self.announced;
        let last = std::mem::take(&mut self.last);
        let (woken, _) = self.ring.wait_on(me, &mut limit, last, |state| state.has_for_run(min, announced))?;
        if woken == Woken::Enough {
            self.kind = Kind::Run { min, limit };
        } else if self.started || woken == Woken::Closing || matches!(woken, Woken::Refused(_)) && self.nothing_there()
        {
            return self.end_process(woken);
        } else {
            self.kind = Kind::Process;
        }
        self.begin_round();
        Ok(None)
    }

    /// Nothing is due or in the queue.
    #[cold]
    fn nothing_there(&self) -> bool {
        let mut state = self.ring.lock_only(self.driver.me);
        !state.has_due() && state.backend.as_mut().is_none_or(|backend| backend.available() == 0)
    }

    /// Completions that the kernel holds back were there on entry too.
    fn flush(&mut self) -> Result<()> {
        let holds_back = self.ring.lock(self.driver.me).backend()?.holds_back();
        if holds_back {
            self.ring.submit_all(self.driver.me)?;
        }
        Ok(())
    }

    /// Submit what the callbacks started, and tell the event loop if something is left.
    fn end_process(&mut self, woken: Woken) -> Result<Option<i32>> {
        let me = self.driver.me;
        let mut state = self.ring.lock_only(me);
        let backend = state.backend()?;
        let pending = backend.publish() > 0 || backend.holds_back() || !state.overflow.is_empty();
        drop(state);
        let mut woken = woken;
        if pending && woken == Woken::Enough {
            woken = self.ring.submit_all(me)?.0;
        }
        if matches!(self.kind, Kind::Run { .. }) {
            let mut state = self.ring.lock_only(me);
            state.told = state.counts.announced;
        }
        self.ring.signal_leftovers(me);
        settle(self.delivered as i32, woken).map(Some)
    }

    fn advance_drain(&mut self, mut limit: Limit, mut woken: bool) -> Result<Option<i32>> {
        let me = self.driver.me;
        let mut state = self.ring.lock(me);
        state.collect()?;
        if state.unfinished() == 0 && !state.has_due() {
            if woken {
                self.ring.keep_wake();
            }
            return Ok(Some(0));
        }
        drop(state);
        // Callbacks that go on starting must not hide that the time is over.
        let over = self.started && limit.left() == Some(0);
        let mut rest = if over { Limit::Within(0) } else { limit };
        let (end, _) = self.ring.wait_for(me, &mut rest, |state| {
            state.collect()?;
            Ok(!over && (state.has_due() || state.unfinished() == 0))
        })?;
        woken |= end == Woken::Wake;
        self.kind = Kind::Drain { limit: if over { limit } else { rest }, woken };
        let ended = match end {
            Woken::Time => Status::ETIME,
            Woken::Signal => Status::EINTR,
            Woken::Closing => Status::CLOSED,
            Woken::Refused(status) => status,
            Woken::Enough | Woken::Wake => {
                self.begin_round();
                return Ok(None);
            }
        };
        if woken {
            self.ring.keep_wake();
        }
        Err(ended)
    }

    /// A callback has closed the ring: the session goes on as its close.
    fn close_now(&mut self) -> Result<Option<i32>> {
        let limit = {
            let mut state = self.ring.lock(self.driver.me);
            state.close_request.take().unwrap_or(Limit::Within(0))
        };
        self.kind = Kind::Close(self.ring.begin_closing(self.driver.me, limit, Err(Status::CLOSED))?);
        self.started = true;
        // Process' budget was for its own callbacks; a close delivers all.
        self.budget = u32::MAX;
        Ok(None)
    }

    fn advance_close(&mut self) -> Result<Option<i32>> {
        let Kind::Close(closing) = &mut self.kind else { return Ok(Some(0)) };
        match self.ring.advance_close(self.driver.me, closing)? {
            Some(result) => result.map(Some),
            None => {
                self.begin_round();
                self.leftover = u32::MAX;
                Ok(None)
            }
        }
    }
}
