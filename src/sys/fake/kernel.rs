// SPDX-License-Identifier: MIT OR Apache-2.0
//! One ring as the kernel has it: its queues, what is under way, and what enter does.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use super::request::{Request, links};
use super::{Around, Cqe, Enter, Errno, Faults, Info, Outcome, Plan, Setup, Sqe, SysResult};

/// What happens to an enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails after taking so many entries.
    Fails { after: u32, errno: i32 },
    /// It takes so many at most.
    Takes(u32),
    /// A signal ends its wait.
    Signal,
    /// Its wait ends for nothing.
    Early,
}

/// What the kernel has done for an I/O, and how much of that the library has read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) pushed: u32,
    pub(crate) events: Vec<Cqe>,
    /// A zero-copy send's result.
    pub(crate) noted: Option<Cqe>,
    pub(crate) last: Option<Cqe>,
    pub(crate) read_events: usize,
    pub(crate) read_last: bool,
    pub(crate) resubmitted: u32,
    /// Taken out of the submission queue again.
    pub(crate) severed: bool,
    /// When the kernel began with it, and was done; 0 = not yet.
    pub(crate) began: u64,
    pub(crate) done: u64,
    /// Cancels that named it.
    pub(crate) cancels: u32,
}

/// A completion, and the request that it ends.
pub(super) struct Posted {
    pub(super) cqe: Cqe,
    pub(super) ends: Option<Request>,
    pub(super) foreign: bool,
}

pub(crate) struct Kernel {
    pub(super) setup: Setup,
    pub(crate) plan: Plan,
    pub(super) requests: Vec<Request>,
    /// Their completions are lost.
    lost: Vec<Request>,
    pub(super) sq: VecDeque<Sqe>,
    pub(super) published: usize,
    /// The last enter ended inside a chain.
    pub(super) cut: bool,
    pub(super) cq: VecDeque<Posted>,
    /// Done, but told only by an enter that asks for events.
    pub(super) deferred: VecDeque<Posted>,
    pub(super) overflow: VecDeque<Posted>,
    pub(crate) faults: Faults,
    pub(crate) log: HashMap<u64, Log>,
    /// Goes up with each beginning and end of a request.
    pub(super) steps: u64,
    pub(crate) bound: bool,
    pub(super) closed: bool,
    /// Completions were lost since the last enter.
    bad_record: bool,
    /// Errnos that enters have said.
    pub(crate) refused: Vec<i32>,
    pub(super) event_fd: Option<i32>,
    /// The sentinel's: there until the last request is gone.
    write_end: Option<OwnedFd>,
}

pub(super) const WAKE_FD: i32 = 1 << 27;
const R_DISABLED: u32 = 1 << 6;

impl Kernel {
    pub(super) fn new(setup: &Setup, plan: Plan, write_end: OwnedFd) -> Self {
        Self {
            setup: *setup,
            plan,
            requests: Vec::new(),
            lost: Vec::new(),
            sq: VecDeque::new(),
            published: 0,
            cut: false,
            cq: VecDeque::new(),
            deferred: VecDeque::new(),
            overflow: VecDeque::new(),
            faults: Faults::new(),
            log: HashMap::new(),
            steps: 0,
            bound: !setup.single_issuer,
            closed: false,
            bad_record: false,
            refused: Vec::new(),
            event_fd: None,
            write_end: Some(write_end),
        }
    }

    pub(super) fn info(&self) -> Info {
        Info {
            entries: self.setup.entries,
            cq_entries: self.setup.cq_entries,
            files: self.setup.files,
            setup_flags: if self.setup.single_issuer { R_DISABLED } else { 0 },
            defers: self.setup.single_issuer,
            ops: [u64::MAX; 4],
            ..Info::default()
        }
    }

    pub(super) fn bind(&mut self) -> SysResult<()> {
        self.register()?;
        self.bound = true;
        Ok(())
    }

    fn register(&mut self) -> SysResult<()> {
        if self.plan.refused_registers > 0 {
            self.plan.refused_registers -= 1;
            self.refused.push(libc::ENOMEM);
            return Err(Errno(libc::ENOMEM));
        }
        Ok(())
    }

    pub(super) fn register_eventfd(&mut self, fd: i32) -> SysResult<()> {
        self.register()?;
        self.event_fd = Some(fd);
        Ok(())
    }

    pub(super) fn unregister_eventfd(&mut self) -> SysResult<()> {
        self.event_fd.take().map(|_| ()).ok_or(Errno(libc::ENXIO))
    }

    fn take(&mut self, count: u32, around: &mut Around) -> u32 {
        let count = (count as usize).min(self.published);
        let mut chain = VecDeque::new();
        for sqe in self.sq.drain(..count).collect::<Vec<_>>() {
            let stubborn = sqe.user_data >> 20 != 0 && around.random.percent(self.plan.stubborn);
            chain.push_back(Request::new(sqe, around, stubborn));
            self.cut = links(&sqe);
            if !self.cut {
                self.queue(std::mem::take(&mut chain), around);
            }
        }
        // A chain ends with the enter that takes it.
        self.queue(chain, around);
        self.published -= count;
        count as u32
    }

    pub(super) fn enter(&mut self, enter: Enter, around: &mut Around) -> SysResult<u32> {
        let fault = self.faults.front().copied();
        let entered = self.enter_once(enter, around);
        around.trace(|| format!("  {enter:?} meets {fault:?} says {entered:?}"));
        if let Err(Errno(errno)) = entered {
            self.refused.push(errno);
        }
        entered
    }

    fn enter_once(&mut self, enter: Enter, around: &mut Around) -> SysResult<u32> {
        if self.closed || !self.bound {
            around.wrongs.push(format!("enter of a ring that is closed: {}, bound: {}", self.closed, self.bound));
            return Err(Errno(libc::EBADFD));
        }
        let mut fault = self.faults.pop_front();
        if matches!(fault, Some(Fault::Fails { errno: libc::EBUSY, .. })) && self.overflow.is_empty() {
            // Said only where completions find no room.
            fault = None;
        }
        let taken = match fault {
            Some(Fault::Fails { after, .. }) => self.take(enter.submit.min(after), around),
            Some(Fault::Takes(most)) => self.take(enter.submit.min(most), around),
            _ => self.take(enter.submit, around),
        };
        if let Some(Fault::Fails { errno, .. }) = fault {
            return Err(Errno(errno));
        }
        if taken < enter.submit {
            return if taken == 0 { Err(Errno(libc::EAGAIN)) } else { Ok(taken) };
        }
        if enter.wait || enter.flush {
            self.flush();
        }
        let mut waited = Ok(());
        if (enter.wait || enter.flush) && self.bad_record {
            // Told by an enter that takes nothing.
            self.bad_record = taken > 0;
            waited = Err(Errno(libc::EBADR));
        } else if enter.wait && fault != Some(Fault::Early) {
            let signal = fault == Some(Fault::Signal);
            waited = self.wait(enter.timeout, signal, around);
        }
        if taken > 0 { Ok(taken) } else { waited.map(|()| 0) }
    }

    fn wait(&mut self, timeout: Option<u64>, signal: bool, around: &mut Around) -> SysResult<()> {
        around.look_at_wait(false);
        let limit = timeout.map(|ns| around.now.saturating_add(ns));
        loop {
            self.flush();
            if !self.cq.is_empty() {
                return Ok(());
            }
            let workable = self.workable();
            let next = limit.into_iter().chain(self.nearest()).min();
            if signal {
                return Err(Errno(libc::EINTR));
            } else if !workable.is_empty() && (next.is_none() || around.random.percent(60)) {
                around.now += 1_000;
                let place = workable[around.random.below(workable.len())];
                self.end_somehow(place, around);
            } else if let Some(next) = next {
                around.now = around.now.max(next);
                self.tick(around);
                self.flush();
                if limit.is_some_and(|limit| limit <= around.now) && self.cq.is_empty() {
                    return Err(Errno(libc::ETIME));
                }
            } else {
                // The kernel would wait for ever.
                around.look_at_wait(self.lost.is_empty());
                return Err(Errno(libc::EINTR));
            }
        }
    }

    /// As it happens.
    pub(crate) fn end_somehow(&mut self, place: usize, around: &mut Around) {
        const ERRNOS: [i32; 4] = [libc::EIO, libc::ENOBUFS, libc::EINTR, libc::EPIPE];
        let outcome = match around.random.below(10) {
            0..4 => Outcome::Done,
            4 => Outcome::Short,
            5..9 => Outcome::Event,
            _ => Outcome::Failed(ERRNOS[around.random.below(4)]),
        };
        self.end(place, outcome, false, around);
    }

    /// A completion is lost; the next enter tells.
    pub(crate) fn lose(&mut self, place: usize) {
        let request = self.requests.swap_remove(place);
        self.lost.push(request);
        self.bad_record = true;
    }

    /// Whether the kernel may yet read or write there, for all that the library can know.
    pub(super) fn touches(&self, address: usize, len: usize) -> bool {
        if self.write_end.is_none() {
            return false;
        }
        let unread =
            self.cq.iter().chain(&self.deferred).chain(&self.overflow).filter_map(|posted| posted.ends.as_ref());
        self.requests.iter().chain(&self.lost).chain(unread).any(|request| request.touches(address, len))
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.sq.clear();
        for queue in [&mut self.cq, &mut self.deferred, &mut self.overflow] {
            queue.clear();
        }
        self.lost.clear();
        self.hang_up();
    }

    /// Requests of a closed ring end, one by one; the sentinel hangs up after the last.
    pub(crate) fn end_orphans(&mut self, count: usize, around: &mut Around) {
        let mut left = count;
        while left > 0 && !self.requests.is_empty() {
            let place = around.random.below(self.requests.len());
            self.end(place, Outcome::Done, true, around);
            left -= 1;
        }
        if self.closed {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        if self.requests.is_empty() {
            self.write_end = None;
        }
    }
}
