// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's calls that any thread may make, and what the kernel does.

use super::host::{Asking, Host};
use super::io::One;
use super::step::{Asked, Step, Then, What};
use crate::core::op::{Form, Template};
use crate::core::start::Start;
use crate::core::table::{Kind, To};
use crate::core::{Result, Status};
use crate::sys::entry::op;
use crate::sys::fake::{Log, Outcome};
use crate::sys::{Cqe, Sqe, os};

impl Host<'_> {
    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Start(asked) => {
                let _ = self.start(&asked, None);
            }
            Step::Burst(count, asked) => {
                let _ = (0..count).try_for_each(|_| self.start(&asked, None));
            }
            Step::Chain(count, links) => self.start_chain(count, links),
            Step::OnRoom(then) => self.set_room(then),
            Step::Post(then) => self.post(then),
            Step::Ready => self.ready(),
            Step::Poll(pick, then) => self.on(pick, One::is_kept, |host, io| host.poll(io, then)),
            Step::Cancel(pick) => self.on(pick, One::is_live, Self::cancel),
            Step::CancelFd(fd) => self.cancel_fd(3 + i32::from(fd % 4)),
            Step::CancelAll => self.cancel_all(),
            Step::Drop(pick) => self.on(pick, One::is_owed, Self::drop_io),
            Step::SetTimeout(pick, ns) => self.on(pick, One::is_live, |host, io| host.set_timeout(io, ns)),
            Step::Stale(pick) => self.on(pick, One::is_over, Self::use_stale),
            Step::Refused(kind, pick) => self.refused(kind, pick),
            Step::Release(pick) => self.bufs.release(pick),
            Step::Wake => self.wake(),
            Step::Advance(ns) => self.world.lock().advance(ns),
            Step::Work(..)
            | Step::Fault(_)
            | Step::Foreign(..)
            | Step::CancelUnasked(_)
            | Step::Lose(_)
            | Step::EndOrphans(_) => {
                self.world_step(step);
            }
            _ => self.drive(step),
        }
    }

    fn on(&mut self, pick: u8, fits: impl Fn(&One) -> bool, act: impl FnOnce(&mut Self, usize)) {
        if let Some(io) = self.pick_of(pick, fits) {
            act(self, io);
        }
    }

    fn wake(&self) {
        match self.ring.wake() {
            Ok(_) => {}
            Err(Status::CLOSED) if self.closed => {}
            Err(status) => self.wrong(format!("wake says {status:?}")),
        }
    }

    /// What the kernel does by itself.
    fn world_step(&mut self, step: Step) {
        let handles: Vec<u64> = self.ios.iter().map(|one| one.handle).collect();
        let mut world = self.world.lock();
        let (kernel, around) = world.last();
        let workable = kernel.workable();
        let at = |pick: u8| workable.get(usize::from(pick) % workable.len().max(1)).copied();
        match step {
            Step::Fault(fault) => kernel.faults.push_back(fault),
            Step::Work(pick, outcome) => {
                let times = if outcome == Outcome::Event { pick / 64 } else { 0 };
                for _ in 0..=times {
                    let workable = kernel.workable();
                    let at = workable.get(usize::from(pick) % workable.len().max(1));
                    at.into_iter().for_each(|place| kernel.end(*place, outcome, false, around));
                }
            }
            Step::EndOrphans(count) if self.closed => kernel.end_orphans(count.into(), around),
            _ if self.closed => {}
            // On a SHARED ring the I/O goes on; else the host is told.
            Step::CancelUnasked(pick) => {
                at(pick).into_iter().for_each(|place| {
                    kernel.end(place, Outcome::Failed(libc::ECANCELED), false, around);
                });
            }
            Step::Lose(pick) if pick % 4 == 0 => {
                if let Some(place) = at(pick / 4) {
                    kernel.lose(place);
                    self.lost = true;
                }
            }
            Step::Foreign(kind, pick, flags) => {
                let user_data = foreign(kind, pick, &handles, around.random.next());
                // The handle of an I/O that the kernel has, or will have, would be as good as the kernel's own.
                let over = |log: &Log| log.read_last && log.last.is_some_and(|last| last.result != -libc::ECANCELED);
                let known = handles.contains(&user_data) && !kernel.log.get(&user_data).is_some_and(over);
                if !known {
                    kernel.post_foreign(Cqe { user_data, result: i32::from(pick) - 128, flags });
                }
            }
            _ => {}
        }
    }

    fn ready(&mut self) {
        match self.ring.ready() {
            Ok(there) => {
                if there as u32 != self.ring.lock(os::thread_id()).deliverable() {
                    self.wrong("ready counts wrongly");
                }
            }
            Err(Status::CLOSED) if self.closed => {}
            Err(status) => self.wrong(format!("ready says {status:?}")),
        }
    }

    pub(super) fn poll(&mut self, io: usize, then: Option<Then>) {
        let handle = self.ios[io].handle;
        let number = self.asking.len();
        let ready = then.and_then(|_| Some((std::num::NonZeroUsize::new(2)?, number)));
        match self.ring.poll(handle, ready) {
            Ok(Some(told)) => self.took(To::Kept, told),
            Ok(None) => {
                let one = &mut self.ios[io];
                if one.to != To::Kept || !one.is_owed() {
                    self.wrong("a poll of an I/O that is not kept finds nothing");
                    return;
                }
                // Whether or not the poll leaves another, the one before is over.
                if let Some(before) = one.ready.take() {
                    self.asking[before].replaced = true;
                }
                if let Some(then) = then {
                    self.ios[io].ready = Some(number);
                    self.asking.push(Asking { io, then, events: self.ios[io].events, replaced: false, calls: 0 });
                }
            }
            Err(status) => self.check_kept(io, status),
        }
    }

    /// A poll or wait was refused.
    pub(super) fn check_kept(&self, io: usize, status: Status) {
        let one = &self.ios[io];
        let right = match status {
            Status::STALE => one.ended || one.dropped,
            Status::EINVAL => one.to != To::Kept && !one.ended,
            Status::CLOSED => self.closed && (one.ended || one.dropped),
            _ => false,
        };
        if !right {
            self.wrong(format!("poll or wait says {status:?} of {one:?}"));
        }
    }

    pub(super) fn cancel(&mut self, io: usize) {
        let result = self.ring.cancel(self.ios[io].handle);
        self.check_change(io, result, "cancel");
        if result.is_ok() {
            let log = self.log(self.ios[io].handle);
            let one = &mut self.ios[io];
            one.asked = true;
            one.asked_early |= log.pushed > 0 && !log.read_last && one.chain.is_none();
            self.check_asked(io);
        }
    }

    /// The kernel is, or will be, asked to cancel an I/O that it has. (What a chain has not begun with is asked later.)
    fn check_asked(&self, io: usize) {
        let (one, log) = (&self.ios[io], self.log(self.ios[io].handle));
        if log.pushed == 0 || log.read_last || one.chain.is_some() || self.closing {
            return;
        }
        if !self.cancels(one.handle) {
            self.wrong(format!("nothing asks the kernel to cancel {one:?}"));
        }
    }

    /// Whether an entry that cancels an I/O, or with 0 all, is on its way.
    fn cancels(&self, handle: u64) -> bool {
        let cancels = |sqe: &Sqe| sqe.opcode == op::ASYNC_CANCEL && sqe.addr == handle;
        let waits = self.ring.lock(os::thread_id()).overflow.iter().any(cancels);
        waits || self.kernel(|kernel| kernel.has_cancel_of(handle))
    }

    pub(super) fn set_timeout(&mut self, io: usize, ns: i64) {
        let result = self.ring.set_timeout(self.ios[io].handle, ns);
        let undelivered = result == Err(Status::STALE) && self.log(self.ios[io].handle).read_last;
        if !undelivered {
            self.check_change(io, result, "set_timeout");
        }
        if result.is_ok() && ns > 0 {
            let at = self.now() + ns as u64;
            self.ios[io].set_limit(at);
        } else if result.is_ok() {
            self.ios[io].limit = None;
        }
    }

    /// What a change of an I/O may say.
    fn check_change(&self, io: usize, result: Result<()>, call: &str) {
        let one = &self.ios[io];
        let right = match result {
            Ok(()) => !self.closing && !one.ended,
            Err(Status::CLOSED) => self.closing,
            // One that was cancelled in the queue, or cut off with its chain, is finished, though not yet delivered.
            Err(Status::STALE) if call == "set_timeout" => {
                !one.is_owed() || one.asked || one.earliest.is_some() || one.chain.is_some()
            }
            Err(Status::STALE) => !one.is_owed(),
            Err(_) => false,
        };
        if !right {
            self.wrong(format!("{call} says {result:?} of {one:?}"));
        }
    }

    fn cancel_fd(&mut self, fd: i32) {
        match self.ring.cancel_fd(fd) {
            Ok(_) => self.note_cancel(|one| one.fd == fd),
            Err(Status::CLOSED) if self.closing => {}
            Err(status) => self.wrong(format!("cancel_fd says {status:?}")),
        }
    }

    pub(super) fn cancel_all(&mut self) {
        match self.ring.cancel_all() {
            Ok(_) => {
                self.note_cancel(|_| true);
                if !self.cancels(0) {
                    self.wrong("nothing asks the kernel to cancel all");
                }
            }
            Err(Status::CLOSED) if self.closing => {}
            Err(status) => self.wrong(format!("cancel_all says {status:?}")),
        }
    }

    pub(super) fn drop_io(&mut self, io: usize) {
        let owed = self.ios[io].is_owed();
        match self.ring.drop_io(self.ios[io].handle) {
            Ok(user_data) => {
                if !owed || user_data != io {
                    self.wrong(format!("a drop gives {user_data} back for {:?}", self.ios[io]));
                }
                let late = self.log(self.ios[io].handle).read_last;
                let one = &mut self.ios[io];
                (one.dropped, one.dropped_late) = (true, late);
                if one.is_multishot() {
                    self.check_asked(io);
                }
                let one = &mut self.ios[io];
                self.drops += 1;
                if let Some(ready) = one.ready.take() {
                    self.asking[ready].replaced = true;
                }
            }
            Err(Status::STALE) if !owed => {}
            Err(Status::CLOSED) if !owed && self.closed => {}
            Err(status) => self.wrong(format!("a drop says {status:?} of {:?}", self.ios[io])),
        }
    }

    /// A handle that names nothing any more changes nothing.
    fn use_stale(&mut self, io: usize) {
        let before = self.ring.stats().counts;
        if self.ios[io].ended {
            self.cancel(io);
            self.set_timeout(io, 1_000);
        }
        self.drop_io(io);
        self.poll(io, None);
        let after = self.ring.stats().counts;
        // A poll collects what has come for others.
        let same = (before.started, before.dropped, before.unwanted.min(after.unwanted))
            == (after.started, after.dropped, after.unwanted);
        if !same {
            self.wrong("a stale handle has changed something");
        }
    }

    /// Starts that fail, whatever the ring is at.
    fn refused(&mut self, kind: u8, pick: u8) {
        let before = self.ring.stats().counts.started;
        let (template, status) = match kind % 3 {
            0 => (Template::refused(), Status::EINVAL),
            1 => (Template::transfer(op::READ, 3, None, 0, 8, 0), Status::EINVAL),
            _ => (Template::new(op::FTRUNCATE, 3, Form::Transfer), Status::EINVAL),
        };
        let start = Start { template: &template, to: To::Queue, callback: None, user_data: 0 };
        let mut handle = 0;
        // SAFETY: there is no buffer.
        let result = unsafe { self.ring.start(&start, super::host::plain(), &mut handle) };
        let expected = if self.closing { Status::CLOSED } else { status };
        if result != Err(expected) || handle != 0 || self.ring.stats().counts.started != before {
            self.wrong(format!("a bad start says {result:?}"));
        }
        let _ = pick;
    }

    /// A function of the host calls the library.
    pub(super) fn react(&mut self, then: Then, own: Option<usize>) {
        match then {
            Then::Nothing | Then::Keep | Then::BeginAgain => {}
            Then::Begin(count) => {
                for _ in 0..count {
                    let what = if count == 2 { What::Read } else { What::Nop };
                    let _ = self.start(&Asked::plain(what), None);
                }
            }
            Then::Stop(pick) => self.on(pick, One::is_live, Self::cancel),
            Then::StopSelf => own.into_iter().for_each(|io| self.cancel(io)),
            Then::StopAll => self.cancel_all(),
            Then::Forget(pick) => self.on(pick, One::is_owed, Self::drop_io),
            Then::ForgetSelf => own.into_iter().for_each(|io| self.drop_io(io)),
            Then::Look(pick) => self.on(pick, One::is_kept, |host, io| host.poll(io, Some(Then::Nothing))),
            Then::Limit(pick) => self.on(pick, One::is_live, |host, io| host.set_timeout(io, 3_000)),
            Then::Drive(kind) => self.drive_inside(kind),
            Then::End(wait) => self.close_inside(wait),
            Then::Rouse => self.wake(),
        }
    }
}

/// The user_data of a completion that is nobody's.
fn foreign(kind: u8, pick: u8, handles: &[u64], random: u64) -> u64 {
    let handle = handles.get(usize::from(pick) % handles.len().max(1)).copied().unwrap_or(random);
    match kind % 8 {
        // Another generation, another slot.
        0..3 => handle ^ 1 << 60,
        3 => handle ^ 1,
        // The slot alone, which is a kind, maybe.
        4 => handle & 0xf_ffff,
        5 => Kind::Cancel as u64 + u64::from(pick % 2) * 2,
        // An I/O that is over.
        6 => handle,
        _ => random,
    }
}
