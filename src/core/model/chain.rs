// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains: started, and what their members may be told.

use std::num::NonZeroUsize;

use super::bufs::LEN;
use super::host::{Host, plain, template};
use super::io::{Fate, One};
use super::step::{Asked, Links, Then, What};
use crate::core::op::Template;
use crate::core::start::{Extras, Start};
use crate::core::table::To;
use crate::core::{BufRef, Status};

impl Host<'_> {
    pub(super) fn start_chain(&mut self, count: u8, links: Links) {
        let members: Vec<Asked> = (0..count).map(|at| links.member(at, count)).collect();
        let bufs: Vec<Option<BufRef>> =
            members.iter().map(|asked| self.bufs.reference(asked.what, asked.buf)).collect();
        let refs = |bufs: &[Option<BufRef>]| bufs.iter().flatten().map(|buf| buf.refs()).collect::<Vec<_>>();
        let templates: Vec<Template> = members
            .iter()
            .zip(&bufs)
            .map(|(asked, buf)| template(asked.what, 3 + i32::from(asked.buf % 4), buf.as_deref().map(Into::into)))
            .collect();
        let (before, next) = (refs(&bufs), self.ios.len());
        let mut handles = vec![0; members.len()];
        let member = |at: usize| {
            let asked = &members[at];
            let callback = if asked.to == To::Callback { NonZeroUsize::new(1) } else { None };
            let start = Start { template: &templates[at], to: asked.to, callback, user_data: next + at };
            let path = if asked.what.has_path() { Some(&b"path\0"[..]) } else { None };
            Ok((
                start,
                Extras { lent: [path, None, None], timeout_ns: asked.timeout_ns, submits: asked.submits, ..plain() },
            ))
        };
        // SAFETY: the buffers are live; none is moved.
        let result = unsafe { self.ring.start_chain(members.len(), links.hard, member, |at, io| handles[at] = io) };
        if let Err(status) = result {
            let untouched = refs(&bufs) == before && handles.iter().all(|handle| *handle == 0);
            return self.check_chain_refusal(status, &members, untouched);
        }
        if self.closing || result != Ok(i32::from(count)) || handles.contains(&0) {
            self.wrong(format!("a chain of {count}: {result:?} with {handles:x?}, closing: {}", self.closing));
        }
        let now = self.now();
        for (at, asked) in members.iter().enumerate() {
            let opcode =
                if asked.what == What::ReadList { crate::sys::entry::op::READV } else { templates[at].sqe.opcode };
            let mut one = One::new(handles[at], asked, opcode, templates[at].sqe.fd);
            one.buf = bufs[at].as_ref().map_or(0, |buf| buf.as_ptr() as usize);
            one.hard = links.hard;
            one.chain = (count > 1).then_some(next..next + members.len());
            if asked.timeout_ns > 0 {
                one.set_limit(now + asked.timeout_ns as u64);
            }
            if asked.what == What::CloseFd {
                let fd = one.fd;
                self.note_cancel(|other| other.fd == fd);
            }
            self.ios.push(one);
        }
    }

    fn check_chain_refusal(&mut self, status: Status, members: &[Asked], untouched: bool) {
        let most = self.case.entries.min(self.case.max_in_flight) as usize;
        let refused = members.iter().any(|asked| asked.what == What::PollMulti);
        match status {
            Status::E2BIG if members.len() > most && untouched => {}
            Status::EINVAL if refused && untouched => {}
            _ => self.check_refusal(status, untouched, members.len() as u32),
        }
    }

    /// What an I/O's chain has been through until now.
    pub(super) fn fate(&self, io: usize) -> Fate {
        let Some(chain) = self.ios[io].chain.clone() else { return Fate::default() };
        let mut fate = Fate::default();
        let now = self.now();
        for at in chain {
            let (one, log) = (&self.ios[at], self.log(self.ios[at].handle));
            let over = one.earliest.is_some_and(|limit| limit <= now);
            fate.asked |= one.asked || over;
            fate.causes.extend(log.last.map(|last| last.result));
            fate.causes.extend((log.severed || log.resubmitted > 0).then_some(-libc::EAGAIN));
            fate.causes.extend(over.then_some(-libc::ETIME));
            fate.causes.extend((one.asked || self.closing).then_some(-libc::ECANCELED));
            fate.causes.extend(self.closing.then_some(Status::ORPHANED.code()));
            fate.causes.extend(self.closing.then_some(Status::LOST.code()));
        }
        fate
    }

    /// The kernel has run chains in their order, and nothing behind what failed.
    pub(super) fn check_chains(&self) {
        for (at, one) in self.ios.iter().enumerate() {
            let Some(chain) = one.chain.clone() else { continue };
            let log = self.log(one.handle);
            for before in chain.start..at {
                let earlier = self.log(self.ios[before].handle);
                let ran = earlier.last.filter(|_| earlier.began > 0);
                let good = ran.is_some_and(|last| last.result >= 0 && !self.is_short(before, last.result));
                let late = earlier.began > 0 && earlier.done > log.began;
                if log.began > 0 && (late || !good && !one.hard) {
                    self.wrong(format!(
                        "{:?} with {earlier:?} was to run before {one:?} with {log:?}",
                        self.ios[before]
                    ));
                }
            }
        }
    }

    fn is_short(&self, io: usize, result: i32) -> bool {
        let whole = match self.ios[io].what {
            What::Read => LEN,
            What::Write | What::ReadSlice => LEN / 2,
            What::ReadList => 2 * LEN,
            _ => 0,
        };
        (result as usize) < whole
    }

    /// A chain's completions come in its order.
    pub(super) fn check_order(&self, io: usize) {
        let one = &self.ios[io];
        let Some(chain) = one.chain.clone() else { return };
        // Kept ones are taken by handle.
        let ahead = |before: &One| before.to == one.to && before.is_owed() && !before.is_kept();
        if self.ios[chain.start..io].iter().any(ahead) {
            self.wrong(format!("{one:?} is told of before one in front of it"));
        }
    }
}

impl Links {
    fn member(&self, at: u8, count: u8) -> Asked {
        use What::*;
        const WHATS: [What; 12] =
            [Nop, Read, Write, Nop, ReadList, Timeout, Open, CloseFd, Read, Statx, ReadSlice, Accept];
        let what = match self.bad {
            bad if bad == at => Bad,
            bad if bad.wrapping_sub(8) == at => PollMulti,
            _ => WHATS[usize::from(self.what.wrapping_add(at.wrapping_mul(self.what | 1))) % WHATS.len()],
        };
        let last = at + 1 == count;
        let to = match self.to {
            0..3 => To::Callback,
            3..5 if last => To::Callback,
            3..5 => To::Nobody,
            5 => To::Kept,
            6 => To::Queue,
            _ => [To::Callback, To::Kept, To::Queue, To::Nobody][usize::from(at % 4)],
        };
        Asked {
            to,
            buf: self.what.wrapping_add(at),
            submits: self.submits,
            timeout_ns: if last { self.timeout_ns } else { 0 },
            then: if last || at == self.what % 4 { self.then } else { Then::Nothing },
            ..Asked::plain(what)
        }
    }
}
