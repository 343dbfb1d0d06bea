// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain I/Os in the table: each step is one look at one entry.

use super::{HostFn, Io, State, Table, To, slot_of};
use crate::core::buf::BufRef;
use crate::sys::Cqe;

/// What the completion of a plain I/O needs of it.
pub(in crate::core) struct Plain {
    pub(in crate::core) user_data: usize,
    pub(in crate::core) notify: Option<HostFn>,
    pub(in crate::core) buf: Option<BufRef>,
    pub(in crate::core) opcode: u8,
}

impl Io {
    /// Nothing about it is special: it goes to its callback with its next completion, which is its last.
    #[inline(always)]
    pub(in crate::core) fn is_plain(&self) -> bool {
        const PLAIN: u32 = u32::from_ne_bytes([To::Callback as u8, State::Kernel as u8, 0, 0]);
        const _: () = assert!(std::mem::offset_of!(Io, to) == 32 && std::mem::offset_of!(Io, marks) == 34);
        // SAFETY: `to`, `state` and `marks` stand side by side, and are initialised.
        PLAIN == unsafe { (&raw const self.to).cast::<u32>().read() }
    }
}

impl Table {
    /// A slot that has been in use before and is vacant. What stands there holds no buffer, has no deadline, and is in no list.
    #[inline(always)]
    pub(in crate::core) fn used_before(&self) -> Option<u32> {
        if (self.vacant as usize) < self.ios.len() { Some(self.vacant) } else { None }
    }

    /// As `insert`, of an I/O to which nothing is special, into the slot that `used_before` has named; → its handle.
    #[inline(always)]
    pub(in crate::core) fn insert_plain(&mut self, slot: u32, plain: Plain, to: To, fd: i32, started_ms: u32) -> u64 {
        let handle = self.next_generation() | u64::from(slot);
        // SAFETY: `used_before` has looked.
        let io = unsafe { self.ios.get_unchecked_mut(slot as usize) };
        self.vacant = io.next;
        self.len += 1;
        let Plain { user_data, notify, buf, opcode } = plain;
        (io.handle, io.user_data, io.notify) = (handle, user_data, notify);
        std::mem::forget(std::mem::replace(&mut io.buf, buf));
        (io.to, io.state, io.marks) = (to, State::Kernel, 0);
        (io.opcode, io.fd, io.started_ms) = (opcode, fd, started_ms);
        handle
    }

    /// Take a plain I/O out by the completion that names it; `None`: it is not plain, or none at all.
    #[inline(always)]
    pub(in crate::core) fn remove_plain(&mut self, handle: u64) -> Option<Plain> {
        let slot = slot_of(handle);
        let io = self.ios.get_mut(slot).filter(|io| io.handle == handle && io.is_plain() && io.notify.is_some())?;
        let plain = Plain { user_data: io.user_data, notify: io.notify, buf: io.buf.take(), opcode: io.opcode };
        Self::vacate(io, slot as u32, &mut self.vacant, &mut self.len, &mut self.high);
        Some(plain)
    }

    /// The I/O in the kernel that a completion names, if it is kept or for reap, and nothing about it is special, is done with
    /// that result; → who gets it.
    #[inline(always)]
    pub(in crate::core) fn finish_plain(&mut self, cqe: Cqe, flags: u32) -> Option<To> {
        let io = self.ios.get_mut(slot_of(cqe.user_data)).filter(|io| io.handle == cqe.user_data)?;
        let waits = io.state == State::Kernel && io.marks == 0 && matches!(io.to, To::Kept | To::Queue);
        if !waits || io.notify.is_some() {
            return None;
        }
        (io.state, io.result, io.flags) = (State::Done, cqe.result, flags);
        Some(io.to)
    }

    /// Take an I/O out that is done or in the kernel as `at` says, has no buffer and nothing special about it.
    #[inline(always)]
    fn remove_bare(&mut self, handle: u64, to: To, at: State) -> Option<&Io> {
        let slot = slot_of(handle);
        let io = self.ios.get_mut(slot).filter(|io| io.handle == handle && io.state == at)?;
        if io.to != to || io.marks != 0 || io.buf.is_some() {
            return None;
        }
        Self::vacate(io, slot as u32, &mut self.vacant, &mut self.len, &mut self.high);
        Some(io)
    }

    /// Take an I/O for reap out by its only completion; → user_data and opcode.
    #[inline(always)]
    pub(in crate::core) fn remove_plain_for_reap(&mut self, handle: u64) -> Option<(usize, u8)> {
        self.remove_bare(handle, To::Queue, State::Kernel).map(|io| (io.user_data, io.opcode))
    }

    /// Take a kept I/O out that is done; → user_data, opcode, result and flags.
    #[inline(always)]
    pub(in crate::core) fn remove_plain_kept(&mut self, handle: u64) -> Option<(usize, u8, i32, u32)> {
        self.remove_bare(handle, To::Kept, State::Done).map(|io| (io.user_data, io.opcode, io.result, io.flags))
    }
}
