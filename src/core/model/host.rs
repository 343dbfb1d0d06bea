// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host: its I/Os, buffers and functions, and the calls it makes.

use std::ptr::NonNull;

use super::bufs::{Bufs, LEN};
use super::function::{Posts, Room};
use super::io::{Moment, One};
use super::step::{Asked, Case, Then, What};
use crate::core::completion::Completion;
use crate::core::op::{Form, Template};
use crate::core::ring::Ring;
use crate::core::start::{Extras, Start};
use crate::core::table::To;
use crate::core::{Buf, BufRef, Result, Status};
use crate::sys::Sqe;
use crate::sys::entry::{ACCEPT_MULTISHOT, POLL_MULTI, RECV_MULTISHOT, op};
use crate::sys::fake::{BAD, Fake, Kernel, Log, Shared};

/// A ready function that a poll has left.
pub(super) struct Asking {
    pub(super) io: usize,
    pub(super) then: Then,
    /// Events that the host had when it was left.
    pub(super) events: usize,
    pub(super) replaced: bool,
    pub(super) calls: u32,
}

pub(super) struct Host<'r> {
    pub(super) ring: &'r Ring<Fake>,
    pub(super) world: Shared,
    pub(super) case: Case,
    pub(super) ios: Vec<One>,
    pub(super) asking: Vec<Asking>,
    pub(super) bufs: Bufs,
    /// In a callback or ready function.
    pub(super) inside: bool,
    pub(super) closing: bool,
    pub(super) closed: bool,
    pub(super) lost: bool,
    pub(super) drops: u64,
    pub(super) callbacks: i32,
    pub(super) room: Room,
    pub(super) calls: Posts,
}

impl<'r> Host<'r> {
    pub(super) fn new(ring: &'r Ring<Fake>, world: Shared, case: Case) -> Self {
        Self {
            ring,
            bufs: Bufs::new(world.clone()),
            world,
            case,
            ios: Vec::new(),
            asking: Vec::new(),
            inside: false,
            closing: false,
            closed: false,
            lost: false,
            drops: 0,
            callbacks: 0,
            room: Room::default(),
            calls: Posts::default(),
        }
    }

    pub(super) fn wrong(&self, text: impl Into<String>) {
        self.world.lock().around.wrongs.push(text.into());
    }

    pub(super) fn kernel<T>(&self, act: impl FnOnce(&mut Kernel) -> T) -> T {
        act(self.world.lock().last().0)
    }

    pub(super) fn now(&self) -> u64 {
        self.world.lock().around.now
    }

    pub(super) fn log(&self, handle: u64) -> Log {
        self.kernel(|kernel| kernel.log.get(&handle).cloned().unwrap_or_default())
    }

    pub(super) fn moment(&self) -> Moment {
        let bound = self.kernel(|kernel| kernel.bound);
        Moment { now: self.now(), mode: self.case.mode, closing: self.closing, lost: self.lost, bound }
    }

    /// One of those that fit, the newest first.
    pub(super) fn pick_of(&self, pick: u8, fits: impl Fn(&One) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.ios.len()).rev().filter(|io| fits(&self.ios[*io])).collect();
        (!all.is_empty()).then(|| all[usize::from(pick) % all.len()])
    }

    /// Start what is asked for; `lent`: with this buffer. → whether it was accepted.
    pub(super) fn start(&mut self, asked: &Asked, lent: Option<&Buf>) -> Result<()> {
        let (held, own) = match lent {
            Some(_) => (None, None),
            None => self.bufs.choose(asked.what, asked.buf),
        };
        let buf = lent.or(own.as_deref()).map(NonNull::from);
        let buf = buf.or_else(|| held.and_then(|held| self.bufs.get(held)));
        let fd = 3 + i32::from(asked.buf % 4);
        let template = template(asked.what, fd, buf);
        let moved = held.filter(|_| asked.moves);
        let callback = if asked.to == To::Callback { std::num::NonZeroUsize::new(1) } else { None };
        let start = Start { template: &template, to: asked.to, callback, user_data: self.ios.len() };
        let simple = moved.is_none() && !asked.submits && asked.timeout_ns == 0 && template.is_simple();
        let path = if asked.what.has_path() { Some(&b"path\0"[..]) } else { None };
        let (timeout_ns, submits) = (asked.timeout_ns, asked.submits);
        let extras = Extras { lent: [path, None, None], timeout_ns, moves: moved.is_some(), submits, ..plain() };
        let mut handle = 0;
        let before = buf.map(refs);
        // SAFETY: the buffer is live, and with `moved` the host's reference is given.
        let result = unsafe {
            if simple {
                self.ring.start_simple(&start, &mut handle)
            } else {
                self.ring.start(&start, extras, &mut handle)
            }
        };
        if let Err(status) = result {
            self.check_refusal(status, buf.map(refs) == before && handle == 0, 1);
            return Err(status);
        }
        if self.closing {
            self.wrong("a start on a ring that closes was accepted");
        }
        let opcode = if asked.what == What::ReadList { op::READV } else { template.sqe.opcode };
        let mut one = One::new(handle, asked, opcode, template.sqe.fd);
        one.buf = buf.map_or(0, |buf| buf.as_ptr() as usize);
        one.moved = moved;
        if asked.timeout_ns > 0 {
            one.set_limit(self.now() + asked.timeout_ns as u64);
        }
        if let Some(moved) = moved {
            self.bufs.give(moved);
        }
        if asked.what == What::CloseFd {
            self.note_cancel(|one| one.fd == fd);
        }
        self.ios.push(one);
        Ok(())
    }

    /// A cancel was asked for; what is finished in the ring already may have escaped it.
    pub(super) fn note_cancel(&mut self, fits: impl Fn(&One) -> bool) {
        for one in self.ios.iter_mut().filter(|one| !one.ended && fits(one)) {
            one.asked = true;
        }
    }

    pub(super) fn check_refusal(&mut self, status: Status, untouched: bool, count: u32) {
        if !untouched {
            self.wrong("a start that failed took something");
        }
        match status {
            Status::CLOSED if self.closing => {}
            Status::EAGAIN if !self.closing && self.slots_taken() + count + 1 > self.case.max_in_flight => {
                self.room.wanted = true
            }
            _ => self.wrong(format!("a start was refused: {status:?}")),
        }
    }

    /// Slots that I/Os may stand in: each until its completion is delivered, or is the library's to throw away.
    fn slots_taken(&self) -> u32 {
        // What lets go of a buffer or descriptor, and what nobody wanted when it came, waits for a call that lets go.
        let light = |one: &One| one.buf == 0 && !matches!(one.what, What::Accept | What::AcceptMulti | What::Open);
        let gone = |one: &One| one.ended || one.dropped_late && light(one);
        self.ios.iter().filter(|one| !gone(one)).count() as u32
    }

    /// The host gets a completion; → its I/O.
    pub(super) fn told(&mut self, to: To, told: &Completion) -> Option<usize> {
        let io = told.user_data;
        self.world.lock().around.trace(|| format!("  told {to:?} {told:x?}"));
        if io >= self.ios.len() {
            self.wrong(format!("told of nobody's {told:?}"));
            return None;
        }
        let (log, fate, at) = (self.log(self.ios[io].handle), self.fate(io), self.moment());
        if let Err(text) = self.ios[io].told(to, told, &log, &fate, at) {
            self.wrong(format!("{text}: {told:?} of {:?} with {log:?}, {fate:?} at {at:?}", self.ios[io]));
        }
        self.check_order(io);
        if told.result >= crate::sys::fake::FIRST_FILE {
            let mut world = self.world.lock();
            let around = &mut world.around;
            around.files.close(told.result, &mut around.wrongs);
        }
        Some(io)
    }

    /// The host keeps what a poll, a wait or a reap has brought.
    pub(super) fn took(&mut self, to: To, mut told: Completion) {
        let io = self.told(to, &told);
        if let (Some(io), Some(buf)) = (io, told.buf.take()) {
            match self.ios[io].moved {
                Some(held) => self.bufs.take_back(held, buf),
                None => self.wrong("a buffer that was not given came back"),
            }
        }
    }

    pub(super) fn keep(&mut self, buf: Option<BufRef>) {
        self.bufs.more.extend(buf);
    }
}

pub(super) fn plain() -> Extras<'static> {
    Extras::default()
}

fn refs(buf: NonNull<Buf>) -> u32 {
    // SAFETY: one of the host's, live.
    unsafe { buf.as_ref() }.refs()
}

fn raw(sqe: Sqe, buf: Option<NonNull<Buf>>) -> Template {
    // SAFETY: 64 bytes without padding.
    Template::raw(Some(unsafe { std::mem::transmute::<Sqe, [u8; 64]>(sqe) }), buf)
}

pub(super) fn template(what: What, fd: i32, buf: Option<NonNull<Buf>>) -> Template {
    // SAFETY: one of the host's, live.
    let (addr, len) = buf.map_or((0, 0), |buf| unsafe { (buf.as_ref().data() as u64, buf.as_ref().len()) });
    let sqe = Sqe { fd, addr, len: len as u32, ..Sqe::default() };
    match what {
        What::Nop => Template::new(op::NOP, -1, Form::Plain),
        What::Bad => Template::new(op::NOP, -1, Form::Plain).op_flags(BAD),
        What::Read | What::ReadSlice | What::ReadList => Template::transfer(op::READ, fd, buf, 0, len, 0),
        What::Write => Template::transfer(op::WRITE, fd, buf, 2, len / 2, 0),
        What::SendZc => raw(Sqe { opcode: op::SEND_ZC, ..sqe }, buf),
        What::RecvMulti => raw(Sqe { opcode: op::RECV, ioprio: RECV_MULTISHOT, ..sqe }, buf),
        What::PollMulti => raw(Sqe { opcode: op::POLL_ADD, addr: 0, len: POLL_MULTI, ..sqe }, None),
        What::AcceptMulti => raw(Sqe { opcode: op::ACCEPT, addr: 0, len: 0, ioprio: ACCEPT_MULTISHOT, ..sqe }, None),
        What::Accept => raw(Sqe { opcode: op::ACCEPT, addr: 0, len: 0, ..sqe }, None),
        What::Open => Template::new(op::OPENAT, -100, Form::Path).path(1),
        What::Statx => Template::new(op::STATX, -100, Form::PathAndBuf).path(1).output(buf, 0, LEN as u32),
        What::Timeout => Template::timeout(5_000, 0),
        What::CloseFd => Template::close(fd),
    }
}
