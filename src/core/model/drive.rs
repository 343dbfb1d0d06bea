// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's calls, and the functions of the host that run in them.

use super::host::Host;
use super::io::One;
use super::step::{Asked, Step, Then, Wait, What};
use crate::core::completion::{Completion, completion_flags};
use crate::core::lent::Out;
use crate::core::session::{Delivery, Session, Step as Next};
use crate::core::state::{Phase, Ready};
use crate::core::table::{HostFn, To};
use crate::core::wait::Limit;
use crate::core::{Result, Status};
use crate::sys::fake::Fake;
use crate::sys::os;

impl<'r> Host<'r> {
    pub(super) fn drive(&mut self, step: Step) {
        let ring = self.ring;
        let at = self.now();
        self.kernel(|kernel| kernel.refused.clear());
        self.callbacks = 0;
        let result = match step {
            Step::Submit => ring.submit(),
            Step::Process(budget) => ring.process(budget).and_then(|session| self.session(session)),
            Step::Run(min, wait) => self.run(min, wait.limit()),
            Step::Wait(min, wait) => ring.wait(min, wait.limit()),
            Step::Reap(min, wait) => self.reap(min, wait),
            Step::Drain(wait) => self.drain(wait),
            Step::Prepare => self.prepare(),
            Step::WaitIo(pick, wait) => match self.pick_of(pick, One::is_kept) {
                Some(io) => self.wait_io(io, wait),
                None => return,
            },
            Step::Close(wait) => return self.close(wait),
            _ => return,
        };
        self.check_driven(step, result, at);
    }

    /// What a driver's call may say.
    fn check_driven(&mut self, step: Step, result: Result<i32>, began: u64) {
        let mut refused = self.kernel(|kernel| std::mem::take(&mut kernel.refused));
        refused.extend(match step {
            Step::WaitIo(..) | Step::Drain(_) => vec![libc::ETIME, libc::EINTR],
            _ => vec![],
        });
        if refused.iter().any(|errno| matches!(*errno, libc::EINTR | libc::EBUSY)) {
            // Said again and again.
            refused.push(libc::EAGAIN);
        }
        let closed = self.ring.lock(os::thread_id()).phase == Phase::Closed;
        match result {
            Ok(count) => {
                let counts = matches!(step, Step::Process(_) | Step::Run(..));
                if count < 0 || counts && count != self.callbacks {
                    self.wrong(format!("{step:?} says {count} after {} callbacks", self.callbacks));
                }
                self.check_deadlines(step, began, !refused.is_empty());
            }
            Err(Status::CLOSED) if self.closing => {}
            Err(Status::LOST) if self.lost => {}
            Err(Status::WRONG_THREAD) if refused.contains(&libc::EEXIST) => {}
            Err(status) if refused.contains(&-status.code()) => {}
            Err(status) => self.wrong(format!("{step:?} says {status:?}; the kernel said {refused:?}")),
        }
        self.closed |= closed;
    }

    /// Whose time was over when the call began is asked to end.
    fn check_deadlines(&mut self, step: Step, began: u64, refused: bool) {
        let open = self.ring.lock(os::thread_id()).phase == Phase::Open;
        if refused || !open || !matches!(step, Step::Submit | Step::Run(..) | Step::Wait(..)) {
            return;
        }
        // What was asked to end before is asked again in the library's own time.
        for one in self.ios.iter().filter(|one| one.is_live() && one.chain.is_none() && !one.asked) {
            let log = self.log(one.handle);
            let late = one.limit.is_some_and(|limit| limit < began) && !log.read_last && log.pushed > 0;
            if late && log.cancels == 0 {
                self.wrong(format!("{step:?} has left a deadline that was over: {one:?}"));
            }
        }
    }

    /// As src/ffi does it.
    fn run(&mut self, min: u32, limit: Limit) -> Result<i32> {
        let (ring, out) = (self.ring, Out::new());
        let Some(mut usual) = ring.usual_run(min, limit, &out) else {
            return ring.run(min, limit).and_then(|session| self.session(session));
        };
        while let Some(callback) = usual.next() {
            self.complete(Some(callback), &out);
        }
        match usual.end() {
            Some(count) => Ok(count),
            None => self.session(usual.go_on()),
        }
    }

    fn complete(&mut self, callback: Option<HostFn>, out: &Out) {
        if callback.map(usize::from) != Some(1) {
            self.wrong("another I/O's callback");
        }
        self.callback(out);
        out.end();
        if self.ring.is_locked() {
            self.wrong("the lock is held while the host's functions run");
        }
    }

    pub(super) fn session(&mut self, mut session: Session<'r, Fake>) -> Result<i32> {
        for deliveries in 0.. {
            assert!(deliveries < 10_000, "a session has no end");
            if let Some(callback) = session.next_plain() {
                self.complete(Some(callback), &session.out);
                continue;
            }
            match session.next() {
                Next::Deliver(Delivery::Complete(callback)) => self.complete(callback, &session.out),
                Next::Deliver(Delivery::Ready(ready)) => self.on_ready(ready),
                Next::Deliver(Delivery::Call(function, user_data)) => self.on_call(function.get(), user_data),
                Next::End(result) => return result,
            }
            if self.ring.is_locked() {
                self.wrong("the lock is held while the host's functions run");
            }
        }
        Ok(0)
    }

    fn callback(&mut self, out: &Out) {
        self.callbacks += 1;
        // SAFETY: the session has put one there.
        let told: &Completion = unsafe { &*out.place() };
        let Some(io) = self.told(To::Callback, told) else { return };
        let last = told.flags & completion_flags::MORE == 0;
        let then = self.ios[io].then;
        self.inside = true;
        match then {
            Then::Keep => {
                let taken = out.lent.take();
                self.keep(taken);
            }
            Then::BeginAgain => {
                let asked = Asked { what: What::Write, to: To::Callback, ..Asked::plain(What::Write) };
                if let (true, Some(lent)) = (last, told.buf.as_deref().filter(|buf| !buf.is_list() && buf.len() > 8)) {
                    let started = self.start(&asked, Some(lent));
                    self.check_first(started);
                }
            }
            Then::Begin(_) if last => {
                let started = self.start(&Asked::plain(What::Nop), None);
                self.check_first(started);
                self.react(then, Some(io));
            }
            _ => self.react(then, Some(io)),
        }
        self.inside = false;
    }

    /// A terminal callback's first start finds its own slot free.
    fn check_first(&self, started: Result<()>) {
        if started == Err(Status::EAGAIN) {
            self.wrong("the first start of a terminal callback finds no room");
        }
    }

    fn on_ready(&mut self, ready: Ready) {
        if self.asking.get(ready.user_data).is_none() || usize::from(ready.function) != 2 {
            return self.wrong(format!("a ready function that nobody left: {ready:?}"));
        }
        let asking = &mut self.asking[ready.user_data];
        asking.calls += 1;
        let (io, then, replaced) = (asking.io, asking.then, asking.replaced);
        let status = if replaced { Status::DROPPED.code() } else { 0 };
        // One that was told 0 and not called yet may be dropped meanwhile.
        if asking.calls > 1 || ready.status != status && ready.status != 0 {
            self.wrong(format!(
                "ready says {ready:?} for the {}. time, replaced: {replaced}",
                self.asking[ready.user_data].calls
            ));
        }
        if self.ios[io].ready == Some(ready.user_data) {
            self.ios[io].ready = None;
        }
        self.inside = true;
        if ready.status == 0 && self.ios[io].is_owed() {
            self.poll(io, None);
            if self.ios[io].is_owed() && self.ios[io].events == self.asking[ready.user_data].events && !replaced {
                self.wrong("ready was told, and nothing is there");
            }
        }
        self.react(then, None);
        self.inside = false;
    }

    fn reap(&mut self, min: u32, wait: Wait) -> Result<i32> {
        let mut all = Vec::new();
        let result = self.ring.reap(min, wait.limit(), 3, |told| all.push(told));
        if result.is_ok_and(|count| count as usize != all.len()) || result.is_err() && !all.is_empty() {
            self.wrong(format!("reap says {result:?} with {}", all.len()));
        }
        for told in all {
            self.took(To::Queue, told);
        }
        result
    }

    fn drain(&mut self, wait: Wait) -> Result<i32> {
        let Some(session) = self.ring.drain(wait.limit())? else { return Ok(0) };
        let result = self.session(session);
        if result.is_ok() && self.ring.lock(os::thread_id()).unfinished() > 0 {
            self.wrong("drain leaves something unfinished");
        }
        result
    }

    fn wait_io(&mut self, io: usize, wait: Wait) -> Result<i32> {
        let handle = self.ios[io].handle;
        let told = self.ring.wait_io(handle, wait.limit())?;
        if told.io != handle {
            self.wrong("wait took another's completion");
        }
        self.took(To::Kept, told);
        Ok(0)
    }

    /// The host sleeps on its event loop only if nothing is there, all is submitted and a timer is set.
    fn prepare(&mut self) -> Result<i32> {
        let awake = self.ring.prepare()?;
        let state = self.ring.lock(os::thread_id());
        let (nearest, work) = (state.deadlines.nearest(), state.has_work());
        drop(state);
        let (quiet, timer) = self.kernel(|kernel| (kernel.is_quiet(), kernel.nearest()));
        let timed = nearest.is_none_or(|at| timer.is_some_and(|timer| timer <= at));
        if awake == 0 && (work || !quiet || !timed) {
            self.wrong(format!("sleep over work: {work}, quiet: {quiet}, timer {timer:?} for {nearest:?}"));
        }
        Ok(0)
    }

    pub(super) fn close(&mut self, wait: Wait) {
        let was = self.closing;
        self.closing = true;
        let result = match self.ring.close(wait.limit()) {
            Ok((Some(session), _)) => self.session(session),
            Ok((None, _)) => Err(Status::EINVAL),
            Err(status) => Err(status),
        };
        let right = match result {
            Ok(_) => !was,
            Err(status) => was && status == Status::CLOSED,
        };
        if !right {
            self.wrong(format!("close says {result:?}, closing before: {was}"));
        }
        self.closed = true;
        self.kernel(|kernel| kernel.refused.clear());
    }

    /// A close in a callback is done when the callback returns.
    pub(super) fn close_inside(&mut self, wait: Wait) {
        let result = self.ring.close(wait.limit());
        let right = match &result {
            Ok((None, 0)) => !self.closing,
            Err(Status::CLOSED) => self.closing,
            _ => false,
        };
        if !right {
            self.wrong("a close in a callback is not put off");
        }
        self.closing = true;
    }

    /// Driver's calls within a callback are refused.
    pub(super) fn drive_inside(&mut self, kind: u8) {
        let ring = self.ring;
        let now = Wait::No.limit();
        let result = match kind % 7 {
            0 => ring.submit(),
            1 => ring.wait(0, now),
            2 => ring.process(0).map(|_| 0),
            3 => ring.run(0, now).map(|_| 0),
            4 => ring.drain(now).map(|_| 0),
            5 => ring.prepare(),
            _ => ring.reap(0, now, 1, |_| {}),
        };
        let right = result == Err(Status::EBUSY) || self.closing && result == Err(Status::CLOSED);
        if !right {
            self.wrong(format!("driver's call {} in a callback says {result:?}", kind % 7));
        }
    }
}
