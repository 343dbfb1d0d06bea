// SPDX-License-Identifier: MIT OR Apache-2.0
//! I/Os that enter the kernel more than once before they end: transfers that are to be whole, and zero-copy sends that turn out
//! not to be possible. And what the library makes of a kernel's result before anybody sees it.

use super::Result;
use super::Status;
use super::alloc::try_box;
use super::complete::Meaning;
use super::form::Form;
use super::message::advance;
use super::start::Extras;
use super::state::{Phase, State};
use super::storage::Storage;
use super::table::marks;
use crate::sys::entry::{SEND_ZC_REPORT_USAGE, op};
use crate::sys::{Backend, Info, Sqe};

/// What a ring knows of its I/Os that enter again.
#[derive(Default)]
pub(super) struct Redos {
    /// The kernel doesn't know the flag that has a zero-copy send tell whether it copied, as has been seen.
    pub(super) silent: bool,
    /// One has entered the queue: who isn't the driver wakes that.
    pub(super) entered: bool,
}

pub(super) struct Redo {
    /// The entry, as it is to enter next.
    pub(super) sqe: Sqe,
    /// Go on until so many bytes are done.
    full: Option<u32>,
    done: u32,
    /// The host has asked for a send without a copy; `copied` is what became of it.
    tells_copy: bool,
    copied: bool,
    /// A zero-copy send without a report has been tried in place of one with.
    bare: bool,
}

/// What a completion of an entry leads to.
enum Next {
    Enter,
    End(i32),
}

impl Redo {
    /// → `None`: nothing is asked for that takes it. `asked` is the host's length.
    pub(super) fn new(
        sqe: &mut Sqe,
        form: Form,
        extras: &Extras<'_>,
        in_chain: bool,
        asked: u32,
        info: &Info,
    ) -> Result<Option<Box<Self>>> {
        if !extras.full && !extras.zero_copy {
            return Ok(None);
        }
        let sends = matches!(sqe.opcode, op::SEND | op::SENDMSG) && form != Form::Raw;
        if extras.full && (form != Form::Transfer || in_chain) || extras.zero_copy && !sends {
            return Err(Status::EINVAL);
        }
        let zero_copy = if sqe.opcode == op::SEND { op::SEND_ZC } else { op::SENDMSG_ZC };
        let possible = extras.zero_copy && !in_chain && info.has_op(zero_copy.into());
        if possible {
            sqe.opcode = zero_copy;
            sqe.ioprio |= SEND_ZC_REPORT_USAGE;
        }
        let full = extras.full.then_some(asked);
        let copied = extras.zero_copy && !possible;
        try_box(Self { sqe: *sqe, full, done: 0, tells_copy: extras.zero_copy, copied, bare: false }).map(Some)
    }

    fn is_zero_copy(&self) -> bool {
        matches!(self.sqe.opcode, op::SEND_ZC | op::SENDMSG_ZC)
    }

    /// Make the entry ready to enter again, if it is to.
    /// `barred`: why it can't.
    fn next(&mut self, result: i32, barred: Option<i32>, storage: Option<&mut Storage>) -> Next {
        if self.is_zero_copy() && matches!(-result, libc::EOPNOTSUPP | libc::EINVAL) {
            // Kept from going on plainly, it doesn't tell of a way that the host has not asked for.
            if let Some(barred) = barred {
                return Next::End(if self.done > 0 { self.done as i32 } else { barred });
            }
            self.step_down(result);
            return Next::Enter;
        }
        let Some(full) = self.full else { return Next::End(result) };
        let Ok(now) = u32::try_from(result) else {
            return Next::End(if self.done > 0 { self.done as i32 } else { result });
        };
        self.done = self.done.saturating_add(now);
        if barred.is_some() || now == 0 || self.done >= full {
            return Next::End(self.done as i32);
        }
        match storage {
            Some(storage) => advance(storage, &mut self.sqe, now.into()),
            None => {
                self.sqe.addr += u64::from(now);
                self.sqe.len -= now;
            }
        }
        let has_offset = matches!(self.sqe.opcode, op::READ | op::WRITE | op::READV | op::WRITEV);
        if has_offset && self.sqe.off != u64::MAX {
            self.sqe.off += u64::from(now);
        }
        Next::Enter
    }

    /// The kernel or the socket can't send so: without the report, which is younger, then plainly.
    fn step_down(&mut self, result: i32) {
        if result == -libc::EINVAL && self.sqe.ioprio & SEND_ZC_REPORT_USAGE != 0 {
            self.sqe.ioprio &= !SEND_ZC_REPORT_USAGE;
            self.bare = true;
            return;
        }
        self.sqe.opcode = if self.sqe.opcode == op::SEND_ZC { op::SEND } else { op::SENDMSG };
        self.sqe.ioprio = 0;
        self.copied = true;
    }
}

impl<B: Backend> State<B> {
    /// What a completion means once the library has added what it knows; `None`: the I/O has entered the kernel again.
    #[cold]
    pub(super) fn refine(&mut self, slot: u32, meaning: Meaning) -> Option<Meaning> {
        let Some(io) = self.table.get(slot) else { return Some(meaning) };
        let (has_side, installs) = (io.is(marks::SIDE), io.is(marks::INSTALLED));
        match meaning {
            Meaning::Event(mut cqe) if installs => {
                cqe.result = self.installed(slot, cqe.result);
                Some(Meaning::Event(cqe))
            }
            Meaning::Last { mut result, flags, mut extra } if has_side || installs => {
                if has_side {
                    let side = self.table.old_side(slot)?;
                    if let Some(storage) = &side.storage {
                        // SAFETY: this is its last completion, and the I/O is in the table with its buffer.
                        extra |= unsafe { storage.told(result) };
                    }
                    if side.redo.is_some() {
                        (result, extra) = self.redo(slot, result, extra)?;
                    }
                }
                if installs {
                    (result, extra) = self.installed_last(slot, result, extra);
                }
                Some(Meaning::Last { result, flags, extra })
            }
            meaning => Some(meaning),
        }
    }

    /// → the I/O's result and `extra`; `None`: it is not done yet.
    fn redo(&mut self, slot: u32, result: i32, extra: u64) -> Option<(i32, u64)> {
        let asked = self.table.get(slot)?.is(marks::CANCELLED | marks::TIMED_OUT);
        let in_chain = self.first_of_chain(slot).is_some();
        let barred = match () {
            () if asked || in_chain || self.phase != Phase::Open => Some(-libc::ECANCELED),
            () => self.reserve_entry().err().map(Status::code),
        };
        let side = self.table.old_side(slot)?;
        let redo = side.redo.as_deref_mut()?;
        redo.copied |= extra != 0;
        if redo.bare && redo.is_zero_copy() && result >= 0 {
            self.redos.silent = true;
        }
        let told = |redo: &Redo| u64::from(redo.tells_copy && redo.copied);
        match redo.next(result, barred, side.storage.as_mut()) {
            Next::End(result) => Some((result, told(redo))),
            Next::Enter => {
                let sqe = redo.sqe;
                self.enter_again(slot, &sqe);
                None
            }
        }
    }

    /// Put an I/O's entry into the queue once more; `reserve_entry` came before.
    pub(super) fn enter_again(&mut self, slot: u32, sqe: &Sqe) {
        if let Some(again) = self.again.get_mut(slot as usize) {
            *again = *sqe;
        }
        if let Some(io) = self.table.get(slot) {
            io.opcode = sqe.opcode;
        }
        if self.enqueue(sqe) {
            self.count_queued(slot);
        }
        self.redos.entered = true;
    }
}
