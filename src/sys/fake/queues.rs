// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both queues, and what completions wait in before the library can read them.

use super::super::entry::{cqe_flags, op, poll32};
use super::super::{entry, os};
use super::kernel::{Posted, WAKE_FD};
use super::request::{Request, links};
use super::{Around, Cqe, Kernel, Outcome, Sqe, SysResult};

impl Kernel {
    pub(super) fn has_room(&self) -> bool {
        self.sq.len() < self.setup.entries as usize
    }

    pub(super) fn room(&self) -> u32 {
        self.setup.entries - self.sq.len() as u32
    }

    /// See `Backend::sever`.
    pub(super) fn sever(&mut self, place: u32, user_data: u64) -> Option<(u64, bool)> {
        let here = self.sq.get_mut(place as usize).filter(|_| self.cut)?;
        let severed = std::mem::replace(here, Sqe { opcode: op::NOP, fd: -1, user_data, ..Sqe::default() });
        self.log.entry(severed.user_data).or_default().severed = true;
        Some((severed.user_data, links(&severed)))
    }

    pub(super) fn push(&mut self, sqe: &Sqe, around: &mut Around) {
        around.trace(|| format!("  push {:x}, opcode {}, flags {:x}", sqe.user_data, sqe.opcode, sqe.flags));
        if !self.has_room() || self.closed {
            around.wrongs.push(format!("entry {:#x} pushed where no room is", sqe.user_data));
        }
        if sqe.user_data >> 20 != 0 {
            let log = self.log.entry(sqe.user_data).or_default();
            log.pushed += 1;
            if log.pushed > 1 {
                let cancelled = log.noted.or(log.last).is_some_and(|cqe| cqe.result == -libc::ECANCELED);
                if !(log.severed || log.read_last && cancelled) || log.cancels > 0 {
                    around.wrongs.push(format!("entry {:#x} pushed again", sqe.user_data));
                }
                (log.noted, log.last, log.read_last, log.severed, log.began) = (None, None, false, false, 0);
                log.resubmitted += 1;
            }
        }
        self.sq.push_back(*sqe);
    }

    pub(super) fn publish(&mut self) -> u32 {
        self.published = self.sq.len();
        self.published as u32
    }

    pub(super) fn next(&mut self, around: &mut Around) -> Option<Cqe> {
        let Posted { cqe, foreign, .. } = self.cq.pop_front()?;
        around.trace(|| format!("  read {cqe:x?}{}", if foreign { ", foreign" } else { "" }));
        if foreign {
            return Some(cqe);
        }
        around.files.tell(cqe.result);
        if let Some(log) = self.log.get_mut(&cqe.user_data) {
            if cqe.flags & cqe_flags::MORE == 0 {
                log.read_last = true;
            } else if log.noted.is_none() {
                log.read_events += 1;
            }
        }
        Some(cqe)
    }

    pub(super) fn peek(&self) -> Option<Cqe> {
        self.cq.front().map(|posted| posted.cqe)
    }

    pub(super) fn available(&self) -> u32 {
        self.cq.len() as u32
    }

    pub(super) fn holds_back(&self) -> bool {
        !self.deferred.is_empty() || !self.overflow.is_empty()
    }

    pub(super) fn overflowed(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// An entry that cancels an I/O, or with 0 all, waits to be taken.
    pub(crate) fn has_cancel_of(&self, handle: u64) -> bool {
        self.sq.iter().any(|sqe| sqe.opcode == op::ASYNC_CANCEL && sqe.addr == handle)
    }

    /// Nothing is there, and nothing is to be submitted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.cq.is_empty() && !self.holds_back() && self.sq.is_empty()
    }

    /// When the nearest timeout goes off.
    pub(crate) fn nearest(&self) -> Option<u64> {
        self.requests.iter().filter_map(|request| request.fires_at).min()
    }

    /// Tell of something: at once, or with the next enter that asks for events.
    pub(super) fn post(&mut self, cqe: Cqe, ends: Option<Request>, inline: bool) {
        self.steps += 1;
        if let Some(log) = self.log.get_mut(&cqe.user_data) {
            match &ends {
                Some(_) => (log.last, log.done) = (Some(cqe), self.steps),
                None if self.requests.iter().any(|one| one.sqe.user_data == cqe.user_data && one.sent) => {
                    log.noted = Some(cqe);
                }
                None => log.events.push(cqe),
            }
        }
        self.deliver(Posted { cqe, ends, foreign: false }, inline);
    }

    fn deliver(&mut self, posted: Posted, inline: bool) {
        if self.closed {
            return;
        }
        if let Some(fd) = self.event_fd {
            // A full counter is readable, too.
            let _ = os::eventfd_write(fd);
        }
        // One request's completions come in order.
        let behind = || self.deferred.iter().any(|before| before.cqe.user_data == posted.cqe.user_data);
        if self.setup.single_issuer && (!inline || behind()) {
            self.deferred.push_back(posted)
        } else {
            self.line_up(posted)
        }
    }

    fn line_up(&mut self, posted: Posted) {
        let full = self.cq.len() >= self.setup.cq_entries as usize;
        if full || !self.overflow.is_empty() { self.overflow.push_back(posted) } else { self.cq.push_back(posted) }
    }

    /// A message from elsewhere.
    pub(crate) fn post_foreign(&mut self, cqe: Cqe) {
        self.deliver(Posted { cqe, ends: None, foreign: true }, false);
    }

    pub(super) fn wake(&mut self, user_data: u64, around: &mut Around) -> SysResult<()> {
        if self.closed {
            around.wrongs.push("a wake after the close".into());
        }
        if !self.plan.wakes_by_poll {
            self.deliver(Posted { cqe: Cqe { user_data, result: 0, flags: 0 }, ends: None, foreign: false }, false);
        } else if let Some(place) = self.requests.iter().position(|request| request.sqe.fd == WAKE_FD) {
            self.end(place, Outcome::Event, false, around);
        }
        Ok(())
    }

    pub(super) fn wake_entry(&self) -> Option<Sqe> {
        let op_flags = poll32(libc::POLLIN as u32);
        let sqe = Sqe { opcode: op::POLL_ADD, fd: WAKE_FD, len: entry::POLL_MULTI, op_flags, ..Sqe::default() };
        self.plan.wakes_by_poll.then_some(sqe)
    }

    /// Bring what is held back into the completion queue, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(posted) = self.deferred.pop_front() {
            self.line_up(posted);
        }
        while self.cq.len() < self.setup.cq_entries as usize {
            let Some(posted) = self.overflow.pop_front() else { break };
            self.cq.push_back(posted);
        }
    }
}
