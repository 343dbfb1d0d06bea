// SPDX-License-Identifier: MIT OR Apache-2.0
//! Living in a host's event loop: the event fd, and what makes it safe to sleep on it.
//!
//! The kernel writes the event fd at each completion, held-back ones included. `prepare` clears it first and
//! looks for completions afterwards, so one that comes in between is either seen or makes the fd readable again.
//! Where task work is deferred, kernels remember a write that they have put off (they do, for what comes out of another
//! eventfd's wake), and never make another of the kind: the fd is registered anew before each sleep.

use std::os::fd::AsRawFd;

use super::ring::Ring;
use super::state::State;
use super::storage::timespec;
use super::table::Kind;
use super::wait::{Limit, Woken};
use super::{Result, Status};
use crate::sys::sync::seeded;
use crate::sys::{Backend, Errno, Sqe, SysResult, entry, os};

impl<B: Backend> Ring<B> {
    /// The event fd, made at the first call.
    pub(crate) fn event_fd(&self) -> Result<i32> {
        let mut state = self.lock(os::thread_id());
        state.check_open()?;
        let fd = state.event_fd()?;
        self.set_event_fd(fd);
        Ok(fd)
    }

    /// Submit and arm; → 1 if there is something to process or reap, 0 if the host may sleep.
    pub(crate) fn prepare(&self) -> Result<i32> {
        let driver = self.begin()?;
        let me = driver.me;
        loop {
            {
                let mut state = self.lock(me);
                let fd = state.register_event_fd()?;
                self.set_event_fd(fd);
                if !seeded!(ClearsAfterTheLook) {
                    os::eventfd_clear(fd);
                }
                state.set_timer()?;
            }
            let (woken, _) = self.wait_for(me, &mut Limit::Within(0), |state| {
                state.collect()?;
                Ok(state.has_work())
            })?;
            match woken {
                Woken::Enough | Woken::Wake => return self.stay_awake(me),
                Woken::Refused(status) => return Err(status),
                Woken::Closing => return Err(Status::CLOSED),
                Woken::Time | Woken::Signal => {}
            }
            if let Some(ready) = self.second_look(me)? {
                return if ready { self.stay_awake(me) } else { Ok(0) };
            }
        }
    }

    /// Go to sleep, then look again: what came since is seen now, or writes the fd. `None`: there is more to submit.
    fn second_look(&self, me: usize) -> Result<Option<bool>> {
        let mut state = self.lock(me);
        if !self.sleep_in_loop() {
            let _ = self.take_wake();
            return Ok(Some(true));
        }
        state.collect()?;
        if state.has_work() {
            return Ok(Some(true));
        }
        let timer_is_set =
            state.deadlines.nearest().is_none_or(|at| state.in_loop.timer_at != 0 && state.in_loop.timer_at <= at);
        let backend = state.backend()?;
        let all_submitted = seeded!(NoLookAtStarts) || backend.publish() == 0 && !backend.holds_back();
        if all_submitted && timer_is_set && state.overflow.is_empty() {
            if seeded!(ClearsAfterTheLook) {
                os::eventfd_clear(state.event_fd()?);
            }
            return Ok(Some(false));
        }
        self.awake();
        Ok(None)
    }

    /// Don't sleep: the fd is readable too.
    fn stay_awake(&self, me: usize) -> Result<i32> {
        self.awake();
        os::eventfd_write(self.lock(me).event_fd()?)?;
        Ok(1)
    }

    /// After a reap of a BACKGROUND ring, whose event fd says whether there is something to reap.
    pub(super) fn clear_event_fd(&self, me: usize) {
        if self.is_background() {
            let state = self.lock(me);
            if let Some(fd) = state.event_fd.as_ref().filter(|_| state.counts.reapable == 0) {
                os::eventfd_clear(fd.as_raw_fd());
            }
        }
    }

    /// After a process: where something is left, the event loop shall come back.
    #[inline]
    pub(super) fn signal_leftovers(&self, me: usize) {
        let mut state = self.lock_only(me);
        if state.event_fd.is_some() {
            if self.is_background() {
                // It is for those who reap; the rest is this thread's own.
                let _ = if state.counts.reapable > 0 { state.event_fd().map(os::eventfd_write) } else { return };
                return;
            }
            let left = state.has_work() || state.backend.as_mut().is_some_and(|backend| backend.available() > 0);
            if left {
                let _ = state.event_fd().map(os::eventfd_write);
            }
        }
    }
}

/// The one errno that means: it is so already.
fn unless(done: i32) -> impl FnOnce(Errno) -> SysResult<()> {
    move |errno| if errno.0 == done { Ok(()) } else { Err(errno) }
}

impl<B: Backend> State<B> {
    pub(super) fn event_fd(&mut self) -> Result<i32> {
        let fd = match &self.event_fd {
            Some(fd) => fd.as_raw_fd(),
            None => self.event_fd.insert(os::eventfd()?).as_raw_fd(),
        };
        Ok(fd)
    }

    /// The event fd, written by the kernel from here on.
    fn register_event_fd(&mut self) -> Result<i32> {
        let fd = self.event_fd()?;
        if self.in_loop.event_fd_registered && !self.backend()?.info().defers {
            return Ok(fd);
        }
        // A call that failed earlier may have acted all the same: what the kernel says now is what counts.
        if self.in_loop.event_fd_registered {
            self.backend()?.unregister_eventfd().or_else(unless(libc::ENXIO))?;
            self.in_loop.event_fd_registered = false;
        }
        self.backend()?.register_eventfd(fd).or_else(unless(libc::EBUSY))?;
        self.in_loop.event_fd_registered = true;
        Ok(fd)
    }

    /// Have the kernel complete a timer at the nearest deadline. One timer: a nearer deadline changes it, a later one
    /// finds it gone off and sets the next.
    fn set_timer(&mut self) -> Result<()> {
        let Some(at) = self.deadlines.nearest() else { return Ok(()) };
        if self.in_loop.timer_at != 0 && self.in_loop.timer_at <= at {
            return Ok(());
        }
        // The field that the entry points to stays as it is until the kernel has read it, at the submit that follows.
        self.in_loop.timer_spec = timespec(at);
        let spec = self.in_loop.timer_spec.as_ptr().addr() as u64;
        if self.in_loop.timer_at == 0 {
            let sqe = Sqe {
                opcode: entry::op::TIMEOUT,
                fd: -1,
                addr: spec,
                len: 1,
                op_flags: entry::TIMEOUT_ABS,
                ..Sqe::default()
            };
            self.enqueue_own(Kind::Timer, sqe)?;
        } else {
            let op_flags = entry::TIMEOUT_UPDATE | entry::TIMEOUT_ABS;
            let sqe = Sqe {
                opcode: entry::op::TIMEOUT_REMOVE,
                fd: -1,
                addr: Kind::Timer as u64,
                off: spec,
                op_flags,
                ..Sqe::default()
            };
            self.enqueue_own(Kind::TimerUpdate, sqe)?;
        }
        self.in_loop.timer_at = at;
        self.timeouts = true;
        Ok(())
    }
}
