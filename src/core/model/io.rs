// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host knows of each I/O, and whether what it is told of it is right.

use super::step::{Asked, Then, What};
use crate::core::Status;
use crate::core::completion::{Completion, completion_flags};
use crate::core::open::Mode;
use crate::core::table::To;
use crate::sys::entry::{NOTIF_ZC_COPIED, cqe_flags};
use crate::sys::fake::Log;

/// An accepted I/O.
#[derive(Clone, Debug)]
pub(super) struct One {
    pub(super) handle: u64,
    pub(super) to: To,
    pub(super) what: What,
    pub(super) then: Then,
    pub(super) opcode: u8,
    pub(super) fd: i32,
    /// The address of its buffer's header.
    pub(super) buf: usize,
    /// The host's buffer whose reference it was given.
    pub(super) moved: Option<usize>,
    /// A cancel was asked for; and that before its end.
    pub(super) asked: bool,
    pub(super) asked_early: bool,
    /// Its time limit, and the nearest that it ever had.
    pub(super) limit: Option<u64>,
    pub(super) earliest: Option<u64>,
    pub(super) events: usize,
    pub(super) ended: bool,
    pub(super) dropped: bool,
    /// It was complete when it was dropped.
    pub(super) dropped_late: bool,
    /// The members of its chain, in order.
    pub(super) chain: Option<std::ops::Range<usize>>,
    pub(super) hard: bool,
    /// What it was told at last.
    pub(super) result: i32,
    /// The ready function that waits.
    pub(super) ready: Option<usize>,
}

/// What a ring is at when it tells of something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: u64,
    pub(super) mode: Mode,
    pub(super) closing: bool,
    /// Completions may have been lost.
    pub(super) lost: bool,
    /// The kernel can have been given something.
    pub(super) bound: bool,
}

/// What an I/O's chain has been through.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    /// Someone asked for a member's cancel, or a member's time was over.
    pub(super) asked: bool,
    /// What may be told as having broken it.
    pub(super) causes: Vec<i32>,
}

impl One {
    pub(super) fn new(handle: u64, asked: &Asked, opcode: u8, fd: i32) -> Self {
        Self {
            handle,
            to: asked.to,
            what: asked.what,
            then: asked.then,
            opcode,
            fd,
            buf: 0,
            moved: None,
            asked: false,
            asked_early: false,
            limit: None,
            earliest: None,
            events: 0,
            ended: false,
            dropped: false,
            dropped_late: false,
            chain: None,
            hard: false,
            result: 0,
            ready: None,
        }
    }

    /// A completion of it is still to be delivered.
    pub(super) fn is_owed(&self) -> bool {
        !self.ended && !self.dropped && self.to != To::Nobody
    }

    pub(super) fn is_kept(&self) -> bool {
        self.to == To::Kept && self.is_owed()
    }

    pub(super) fn is_multishot(&self) -> bool {
        matches!(self.what, What::RecvMulti | What::PollMulti | What::AcceptMulti)
    }

    /// It may be in flight, though nobody wants it.
    pub(super) fn is_live(&self) -> bool {
        !self.ended
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended || self.dropped
    }

    pub(super) fn set_limit(&mut self, at: u64) {
        self.limit = Some(at);
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
    }

    /// Note what the host is told; → what is wrong with it.
    pub(super) fn told(&mut self, to: To, told: &Completion, log: &Log, fate: &Fate, at: Moment) -> Result<(), String> {
        if !self.is_owed() || self.to != to || self.handle != told.io {
            return Err(format!("told by {to:?} of {:#x}", told.io));
        }
        if told.flags & completion_flags::MORE != 0 {
            self.told_event(told, log)
        } else {
            self.told_last(told, log, fate, at)
        }
    }

    fn told_event(&mut self, told: &Completion, log: &Log) -> Result<(), String> {
        let event = log.events.get(self.events).filter(|_| self.events < log.read_events).ok_or("no such event")?;
        self.events += 1;
        if told.result != event.result || told.buf.is_some() || u32::from(self.opcode) != told.opcode {
            return Err(format!("event {event:?}"));
        }
        sock_nonempty(told, event.flags)
    }

    fn told_last(&mut self, told: &Completion, log: &Log, fate: &Fate, at: Moment) -> Result<(), String> {
        (self.ended, self.result) = (true, told.result);
        if self.events != log.read_events {
            return Err(format!("{} of {} events told before the end", self.events, log.read_events));
        }
        let abandoned = told.result == Status::ORPHANED.code() || told.result == Status::LOST.code();
        if abandoned && (!at.closing || !at.bound)
            || told.result == Status::LOST.code() && !at.lost
            || u32::from(self.opcode) != told.opcode
        {
            return Err("that can't be".into());
        }
        let given_back = self.to == To::Callback || self.moved.is_some();
        let buf = if given_back && !abandoned { self.buf } else { 0 };
        if told.buf.as_ref().map_or(0, |buf| buf.as_ptr() as usize) != buf {
            return Err("the wrong buffer".into());
        }
        if abandoned {
            return if log.read_last { Err("orphaned though it was complete".into()) } else { Ok(()) };
        }
        let timed_out = told.flags & completion_flags::TIMED_OUT != 0;
        let cancelled = told.flags & completion_flags::CANCELLED != 0;
        if timed_out && self.earliest.is_none_or(|limit| limit > at.now)
            || cancelled && !self.asked && !fate.asked && !at.closing
        {
            return Err("a mark for nothing".into());
        }
        if self.asked_early && !cancelled {
            return Err("CANCELLED is missing".into());
        }
        let (result, extra, flags) = match (log.last.filter(|_| log.read_last), log.noted) {
            (Some(notif), Some(noted)) if notif.flags & cqe_flags::NOTIF != 0 => {
                (noted.result, u64::from(notif.result as u32 & NOTIF_ZC_COPIED != 0), noted.flags)
            }
            (Some(last), _) => (last.result, 0, last.flags),
            // Only the library has ended it: it waited for room when it was cancelled, or nothing was submitted.
            (None, _) if log.pushed == 0 || log.severed || at.closing => (-libc::ECANCELED, 0, 0),
            (None, _) => return Err("complete before the kernel's last completion".into()),
        };
        let unasked =
            self.chain.is_none() && !self.asked && self.earliest.is_none() && !at.closing && at.mode == Mode::Shared;
        if result == -libc::ECANCELED && unasked {
            return Err("nobody asked for its cancel".into());
        }
        let result = match result {
            code if timed_out && !cancelled && matches!(-code, libc::ECANCELED | libc::EINTR) => -libc::ETIME,
            code if cancelled && -code == libc::EINTR => -libc::ECANCELED,
            code => code,
        };
        if told.result != result {
            return Err(format!("result {result} expected"));
        }
        let broken = told.result == -libc::ECANCELED && self.chain.is_some();
        let right = |cause: &i32| i64::from(*cause) as u64 == told.extra;
        if !(told.extra == extra || broken && fate.causes.iter().any(right)) {
            return Err(format!("extra is not {extra} nor of {:?}", fate.causes));
        }
        sock_nonempty(told, flags)
    }
}

fn sock_nonempty(told: &Completion, flags: u32) -> Result<(), String> {
    let right = (told.flags & completion_flags::SOCK_NONEMPTY != 0) == (flags & cqe_flags::SOCK_NONEMPTY != 0);
    if right { Ok(()) } else { Err("SOCK_NONEMPTY".into()) }
}
