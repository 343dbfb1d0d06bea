// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are registered with the ring, named by numbers from FIXED_BASE on.
//!
//! | slots | hold | chosen by |
//! |---|---|---|
//! | 0 | the sentinel's write end | |
//! | 1 to `files` | what I/Os have installed | the kernel |
//! | the `files` behind them | what was registered by a call | the library |
//!
//! Apart, since a call can't have the kernel choose, and the library doesn't know of what the kernel has chosen before it sees
//! the completion. The kernel looks for a free slot from a hint on, which calls move: when its slots are all taken it may choose one of the
//! library's. That is refused, and no file is ever taken for another.

use super::alloc::try_vec;
use super::completion::{Completion, descriptors_in};
use super::op::FIXED_BASE;
use super::ring::Ring;
use super::state::{Phase, State};
use super::table::{Kind, State as At};
use super::{Result, Status};
use crate::sys::entry::op;
use crate::sys::sync::locked;
use crate::sys::{Backend, Sqe, os};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Register(i32),
    Unregister(i32),
}

/// The library's slots.
#[derive(Default)]
pub(super) struct Files {
    /// A bit for each, set while it is taken; made with the first.
    taken: Vec<u64>,
    /// A change that another thread leaves to the driver of a BACKGROUND ring, and what became of it.
    pub(super) asked: Option<Change>,
    pub(super) done: Option<Result<i32>>,
}

impl Files {
    fn is_taken(&self, place: u32) -> bool {
        self.taken.get(place as usize / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    fn set_taken(&mut self, place: u32, taken: bool) {
        if let Some(word) = self.taken.get_mut(place as usize / 64) {
            let bit = 1 << (place % 64);
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }
}

impl<B: Backend> Ring<B> {
    /// Register a file; → its number. As for worker settings: anyone before the ring is bound, then its owner.
    pub(crate) fn register_file(&self, fd: i32) -> Result<i32> {
        self.change_files(Change::Register(fd))
    }

    /// End a registration. I/Os that the kernel has keep their file.
    pub(crate) fn unregister_file(&self, fixed_fd: i32) -> Result<()> {
        // What was started before shall still find the file.
        self.submit_if_driver(os::thread_id());
        self.change_files(Change::Unregister(fixed_fd)).map(|_| ())
    }

    fn change_files(&self, change: Change) -> Result<i32> {
        let me = os::thread_id();
        let _one_at_a_time = (self.is_background() && self.owner() != me).then(|| locked(&self.forwarding));
        let mut state = self.lock(me);
        state.check_open()?;
        let elsewhere = state.phase == Phase::Open && self.has_owner() && self.owner() != me;
        if !elsewhere {
            return state.change_files(change);
        }
        if !self.is_background() {
            return Err(Status::WRONG_THREAD);
        }
        state.files.asked = Some(change);
        drop(state);
        self.forward(me, |state| state.files.done.take())?
    }

    /// Nobody takes a completion: descriptors in it are closed.
    pub(crate) fn discard(&self, completion: Completion) {
        let fds = completion.descriptors();
        for fd in fds.into_iter().filter(|fd| *fd >= FIXED_BASE) {
            self.lock(os::thread_id()).close_fixed(fd);
        }
        self.kick_if_due();
        fds.into_iter().filter(|fd| (0..FIXED_BASE).contains(fd)).for_each(os::close_unwanted);
    }
}

impl<B: Backend> State<B> {
    pub(super) fn change_files(&mut self, change: Change) -> Result<i32> {
        match change {
            Change::Register(fd) => self.register_file(fd),
            Change::Unregister(fd) => self.unregister_file(fd),
        }
    }

    /// Slots of each kind.
    fn file_slots(&self) -> u32 {
        self.backend.as_ref().map_or(0, |backend| backend.info().files)
    }

    fn register_file(&mut self, fd: i32) -> Result<i32> {
        if !(0..FIXED_BASE).contains(&fd) {
            return Err(Status::EBADF);
        }
        let slots = self.file_slots();
        if self.files.taken.is_empty() {
            let words = slots.div_ceil(64) as usize;
            self.files.taken = try_vec(words)?;
            self.files.taken.resize(words, 0);
        }
        let free = (0..slots).find(|place| !self.files.is_taken(*place) && !self.is_named(1 + slots + place));
        let place = free.ok_or(Status::ENFILE)?;
        let index = 1 + slots + place;
        self.backend()?.set_file(index, fd)?;
        self.files.set_taken(place, true);
        Ok(FIXED_BASE + index as i32)
    }

    /// An I/O that isn't done names the slot: a chain's member looks a file up only when its turn comes.
    fn is_named(&self, index: u32) -> bool {
        let fd = FIXED_BASE + index as i32;
        self.table.iter().any(|(_, io)| io.fd == fd && io.state != At::Done)
    }

    fn unregister_file(&mut self, fd: i32) -> Result<i32> {
        let slots = self.file_slots();
        let index = u32::try_from(fd.saturating_sub(FIXED_BASE)).map_err(|_| Status::EINVAL)?;
        if index == 0 || index > 2 * slots {
            return Err(Status::EINVAL);
        }
        if index > slots && !self.files.is_taken(index - slots - 1) {
            return Err(Status::EBADF);
        }
        self.backend()?.set_file(index, -1)?;
        self.free_slot(index);
        Ok(0)
    }

    /// A slot holds nothing any more.
    fn free_slot(&mut self, index: u32) {
        if let Some(place) = index.checked_sub(1 + self.file_slots()) {
            self.files.set_taken(place, false);
        }
    }

    /// The number of what the kernel has installed; an error stays one.
    pub(super) fn installed(&mut self, slot: u32, result: i32) -> i32 {
        let Ok(index) = u32::try_from(result) else { return result };
        if self.table.get(slot).is_some_and(|io| io.opcode == op::CLOSE) {
            if let Some(index) = self.table.get(slot).and_then(|io| u32::try_from(io.fd - FIXED_BASE).ok()) {
                self.free_slot(index);
            }
            return result;
        }
        let slots = self.file_slots();
        if (1..=slots).contains(&index) {
            return FIXED_BASE + result;
        }
        // One of the library's: all of the others are taken. Unless a registration has replaced it since, it goes.
        if index > slots && !self.files.is_taken(index - slots - 1) {
            self.close_fixed(FIXED_BASE + result);
        }
        -libc::ENFILE
    }

    /// As `installed`, of the last completion; a pipe's two are in `extra`.
    pub(super) fn installed_last(&mut self, slot: u32, result: i32, extra: u64) -> (i32, u64) {
        let is_pipe = self.table.get(slot).is_some_and(|io| io.opcode == op::PIPE);
        if !is_pipe || result < 0 {
            return (self.installed(slot, result), extra);
        }
        let ends = descriptors_in(extra).map(|index| self.installed(slot, index));
        let [read, write] = ends;
        if read >= 0 && write >= 0 {
            return (result, u64::from(read as u32) | u64::from(write as u32) << 32);
        }
        ends.into_iter().filter(|end| *end >= 0).for_each(|end| self.close_fixed(end));
        (-libc::ENFILE, 0)
    }

    /// Close a registered file that nobody takes. Without memory for the entry it stays until the ring's end.
    pub(super) fn close_fixed(&mut self, fd: i32) {
        let close = Sqe { opcode: op::CLOSE, file_index: (fd - FIXED_BASE + 1) as u32, ..Sqe::default() };
        let _ = self.enqueue_own(Kind::CloseFile, close);
    }

    /// Close what is a registered file among descriptors that nobody takes; the others are left to be closed outside the lock.
    pub(super) fn close_fixed_of(&mut self, fds: &mut [i32]) {
        for fd in fds.iter_mut().filter(|fd| **fd >= FIXED_BASE) {
            self.close_fixed(*fd);
            *fd = -1;
        }
    }
}
