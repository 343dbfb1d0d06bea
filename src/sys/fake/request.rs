// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests: what the kernel makes of entries, and how they end.

use std::collections::VecDeque;

use super::super::entry::{self, cqe_flags, op, sqe_flags};
use super::memory::Range;
use super::{Around, Cqe, Kernel, Sqe};

/// In `op_flags` of a NOP: the kernel refuses the entry.
pub(crate) const BAD: u32 = 1 << 31;

const LINKS: u8 = sqe_flags::IO_LINK | sqe_flags::IO_HARDLINK;

/// How a test ends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it.
    Done,
    /// Half of it.
    Short,
    /// A positive errno.
    Failed(i32),
    /// Of a multishot: one event; of others, as Done.
    Event,
}

pub(crate) struct Request {
    pub(super) sqe: Sqe,
    /// What the kernel may read or write until the last completion.
    pub(super) memory: Vec<Range>,
    /// The result of a zero-copy send has been told; its notification is to come.
    pub(super) sent: bool,
    /// Of a timeout: nanoseconds, and then the time.
    spec: u64,
    pub(super) fires_at: Option<u64>,
    events: i32,
    stubborn: bool,
    /// What follows in its chain.
    tail: VecDeque<Request>,
}

impl Request {
    /// What the kernel reads when it takes an entry.
    pub(super) fn new(sqe: Sqe, around: &mut Around, stubborn: bool) -> Self {
        let memory = ranges(&sqe);
        if let Some(dead) = memory.iter().find(|range| !around.memory.is_live(**range)) {
            around.wrongs.push(format!(
                "entry {:#x} (opcode {}) points to released memory {dead:x?}",
                sqe.user_data, sqe.opcode
            ));
        }
        let spec = if sqe.opcode == op::TIMEOUT { read_spec(sqe.addr) } else { 0 };
        Self { sqe, memory, sent: false, spec, fires_at: None, events: 0, stubborn, tail: VecDeque::new() }
    }

    fn is_bad(&self) -> bool {
        self.sqe.opcode == op::NOP && self.sqe.op_flags & BAD != 0
    }

    pub(super) fn is_multishot(&self) -> bool {
        match self.sqe.opcode {
            op::POLL_ADD => self.sqe.len & entry::POLL_MULTI != 0,
            op::ACCEPT => self.sqe.ioprio & entry::ACCEPT_MULTISHOT != 0,
            op::RECV => self.sqe.ioprio & entry::RECV_MULTISHOT != 0,
            _ => false,
        }
    }

    fn is_zero_copy(&self) -> bool {
        self.sqe.opcode == op::SEND_ZC
    }

    fn makes_descriptor(&self) -> bool {
        matches!(self.sqe.opcode, op::ACCEPT | op::OPENAT | op::SOCKET)
    }

    fn len(&self) -> i32 {
        self.memory.iter().map(|range| range.len).sum::<usize>() as i32
    }

    fn is_transfer(&self) -> bool {
        matches!(self.sqe.opcode, op::READ | op::WRITE | op::READV | op::WRITEV | op::RECV | op::SEND_ZC)
    }

    fn writes_memory(&self) -> bool {
        matches!(self.sqe.opcode, op::READ | op::READV | op::RECV | op::STATX)
    }

    pub(super) fn touches(&self, address: usize, len: usize) -> bool {
        self.memory.iter().any(|range| range.overlaps(address, len))
            || self.tail.iter().any(|request| request.touches(address, len))
    }

    /// The kernel does the work, or a part of it.
    fn transfer(&self, result: i32, around: &mut Around) {
        if !self.writes_memory() || result < 0 {
            return;
        }
        for range in &self.memory {
            if around.memory.is_live(*range) {
                // SAFETY: the host's memory, not released.
                unsafe { std::ptr::write_bytes(range.address as *mut u8, 0x5a, range.len) };
            } else {
                around.wrongs.push(format!("the kernel writes to released memory {range:x?}"));
            }
        }
    }

    /// The result of an ending, true to its operation.
    fn result(&self, outcome: Outcome, around: &mut Around) -> i32 {
        match outcome {
            Outcome::Failed(errno) => -errno,
            _ if self.makes_descriptor() => around.files.make(),
            // Each another, so that their order shows.
            Outcome::Event if self.is_multishot() => self.events,
            Outcome::Short if self.is_transfer() => self.len() / 2,
            _ if self.is_transfer() => self.len(),
            _ => i32::from(self.sqe.opcode == op::POLL_ADD),
        }
    }
}

impl Kernel {
    /// A chain, or one request: complete on arrival, or under way.
    pub(super) fn queue(&mut self, mut chain: VecDeque<Request>, around: &mut Around) {
        if chain.iter().any(Request::is_bad) {
            for request in chain {
                let result = if request.is_bad() { -libc::EINVAL } else { -libc::ECANCELED };
                self.post(Cqe { user_data: request.sqe.user_data, result, flags: 0 }, Some(request), true);
            }
            return;
        }
        if let Some(mut head) = chain.pop_front() {
            head.tail = chain;
            self.begin(head, true, around);
        }
    }

    /// `inline`: what is complete at once is told at once.
    fn begin(&mut self, mut request: Request, inline: bool, around: &mut Around) {
        self.steps += 1;
        if let Some(log) = self.log.get_mut(&request.sqe.user_data) {
            log.began = self.steps;
        }
        match request.sqe.opcode {
            op::ASYNC_CANCEL => {
                let all = request.sqe.op_flags & entry::CANCEL_ALL != 0;
                self.ending_beside(request, around, |kernel, sqe, around| {
                    if all { kernel.cancel_all(around) } else { kernel.cancel(sqe.addr, around) }
                });
            }
            op::TIMEOUT_REMOVE => self.ending_beside(request, around, |kernel, sqe, around| {
                if sqe.op_flags & entry::TIMEOUT_UPDATE != 0 {
                    kernel.update_timeout(sqe)
                } else {
                    kernel.cancel(sqe.addr, around)
                }
            }),
            op::TIMEOUT => {
                let absolute = request.sqe.op_flags & entry::TIMEOUT_ABS != 0;
                request.fires_at = Some(if absolute { request.spec } else { around.now.saturating_add(request.spec) });
                self.requests.push(request);
                self.tick(around);
            }
            _ => {
                let at_once = !request.is_multishot() && around.random.percent(self.plan.inline);
                self.requests.push(request);
                if at_once {
                    self.end(self.requests.len() - 1, Outcome::Done, inline, around);
                }
            }
        }
    }

    /// What a request brings about may complete before it or after it.
    fn ending_beside(
        &mut self,
        request: Request,
        around: &mut Around,
        act: impl FnOnce(&mut Self, &Sqe, &mut Around) -> i32,
    ) {
        let result = act(self, &request.sqe, around);
        self.finish(request, result, 0, true, around);
    }

    /// End a request, or have it go on by an event.
    pub(crate) fn end(&mut self, place: usize, outcome: Outcome, inline: bool, around: &mut Around) {
        let request = &mut self.requests[place];
        let user_data = request.sqe.user_data;
        if request.sent {
            let request = self.requests.swap_remove(place);
            let result = if outcome == Outcome::Short { entry::NOTIF_ZC_COPIED as i32 } else { 0 };
            self.post(Cqe { user_data, result, flags: cqe_flags::NOTIF }, Some(request), inline);
            return;
        }
        request.events += 1;
        let result = request.result(outcome, around);
        let request = &mut self.requests[place];
        request.transfer(result, around);
        // A failed zero-copy send may have a notification, too.
        if request.is_zero_copy() && (result >= 0 || around.random.percent(50)) {
            request.sent = true;
            self.post(Cqe { user_data, result, flags: cqe_flags::MORE }, None, inline);
        } else if request.is_multishot() && outcome == Outcome::Event {
            self.post(Cqe { user_data, result, flags: cqe_flags::MORE }, None, inline);
        } else {
            let request = self.requests.swap_remove(place);
            let flags = if result > 0 && result % 2 == 1 { cqe_flags::SOCK_NONEMPTY } else { 0 };
            self.finish(request, result, flags, inline, around);
        }
    }

    /// The last completion; then the chain goes on, or is over.
    fn finish(&mut self, mut request: Request, result: i32, flags: u32, inline: bool, around: &mut Around) {
        let mut tail = std::mem::take(&mut request.tail);
        let failed = result < 0 || request.is_transfer() && result < request.len();
        let hard = request.sqe.flags & sqe_flags::IO_HARDLINK != 0;
        self.post(Cqe { user_data: request.sqe.user_data, result, flags }, Some(request), inline);
        if failed && !hard {
            for request in tail {
                let cqe = Cqe { user_data: request.sqe.user_data, result: -libc::ECANCELED, flags: 0 };
                self.post(cqe, Some(request), inline);
            }
        } else if let Some(mut head) = tail.pop_front() {
            head.tail = tail;
            self.begin(head, inline, around);
        }
    }

    /// As the kernel answers a cancel by user_data. What follows in a chain is not found.
    pub(crate) fn cancel(&mut self, user_data: u64, around: &mut Around) -> i32 {
        if let Some(log) = self.log.get_mut(&user_data) {
            log.cancels += 1;
        }
        let found = self.requests.iter().position(|request| request.sqe.user_data == user_data && !request.sent);
        match found {
            None => -libc::ENOENT,
            Some(place) if self.requests[place].stubborn => -libc::EALREADY,
            Some(place) => {
                self.cancel_at(place, around);
                0
            }
        }
    }

    pub(crate) fn cancel_all(&mut self, around: &mut Around) -> i32 {
        let mut count = 0;
        let mut place = 0;
        while place < self.requests.len() {
            let request = &self.requests[place];
            // What a chain begins while this walks is found or not, as it happens.
            if request.sent || request.stubborn {
                place += 1;
            } else {
                self.cancel_at(place, around);
                count += 1;
            }
        }
        count
    }

    fn cancel_at(&mut self, place: usize, around: &mut Around) {
        let request = self.requests.swap_remove(place);
        let inline = around.random.percent(50);
        self.finish(request, -libc::ECANCELED, 0, inline, around);
    }

    fn update_timeout(&mut self, sqe: &Sqe) -> i32 {
        let found =
            self.requests.iter_mut().find(|request| request.sqe.user_data == sqe.addr && request.fires_at.is_some());
        found.map_or(-libc::ENOENT, |request| {
            request.fires_at = Some(read_spec(sqe.off));
            0
        })
    }

    /// Timeouts go off.
    pub(super) fn tick(&mut self, around: &mut Around) {
        while let Some(place) =
            self.requests.iter().position(|request| request.fires_at.is_some_and(|at| at <= around.now))
        {
            let request = self.requests.swap_remove(place);
            self.finish(request, -libc::ETIME, 0, false, around);
        }
    }

    /// The requests that a test, or the world's random numbers, may end: not the ring's own, nor timeouts.
    pub(crate) fn workable(&self) -> Vec<usize> {
        let own = |request: &Request| request.sqe.user_data >> 20 == 0 || request.fires_at.is_some();
        (0..self.requests.len()).filter(|place| !own(&self.requests[*place])).collect()
    }
}

pub(super) const fn links(sqe: &Sqe) -> bool {
    sqe.flags & LINKS != 0
}

fn read_spec(address: u64) -> u64 {
    // SAFETY: the library's: an entry's time is there until the entry has been taken.
    let [seconds, ns] = unsafe { (address as *const [i64; 2]).read_unaligned() };
    (seconds as u64).saturating_mul(1_000_000_000).saturating_add(ns as u64)
}

fn ranges(sqe: &Sqe) -> Vec<Range> {
    let range = |address: u64, len: usize| Range { address: address as usize, len };
    match sqe.opcode {
        op::READ | op::WRITE | op::RECV | op::SEND_ZC => vec![range(sqe.addr, sqe.len as usize)],
        op::STATX => vec![range(sqe.off, 256)],
        op::READV | op::WRITEV => {
            // SAFETY: the library's: an entry's vectors are there until the entry has been taken.
            let vectors = unsafe { std::slice::from_raw_parts(sqe.addr as *const [usize; 2], sqe.len as usize) };
            vectors.iter().map(|[address, len]| range(*address as u64, *len)).collect()
        }
        _ => Vec::new(),
    }
}
