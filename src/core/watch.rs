// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debug builds remember what stood in the memory that a write reads, and look at its end whether it still does: a host
//! that changes it in between gets either content. Members of chains are left alone: an earlier one may fill the buffer.

use super::mistakes::{Mistake, note};
use super::table::{Io, Table, slot_of};
use crate::sys::entry::op;
use crate::sys::{Cqe, Sqe, entry::cqe_flags, os};

/// Larger buffers aren't looked at, which would take too long.
const MOST: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Watched {
    io: u64,
    vectored: bool,
    addr: u64,
    len: u32,
    sum: u64,
}

#[derive(Default)]
pub(super) struct Watch(Vec<Option<Watched>>);

impl Watch {
    /// A write starts; its memory is its I/O's until it ends.
    pub(super) fn begin(&mut self, slot: u32, sqe: &Sqe, table: &mut Table) {
        let slot_index = slot as usize;
        if self.0.len() <= slot_index {
            if self.0.try_reserve(slot_index + 1 - self.0.len()).is_err() {
                return;
            }
            self.0.resize(slot_index + 1, None);
        }
        if table.get(slot).and_then(|io| io.buf.as_ref()).is_none_or(|buf| buf.len() > MOST) {
            return;
        }
        let own_vectors = table.old_side(slot).is_some_and(|side| side.points_to(sqe.addr));
        let vectored = match sqe.opcode {
            op::WRITE if table.get(slot).is_some_and(|io| is_within(io, sqe)) => false,
            op::WRITEV if own_vectors => true,
            _ => return,
        };
        let watched = Watched { io: sqe.user_data, vectored, addr: sqe.addr, len: sqe.len, sum: 0 };
        let seen = watched.sum_now().map(|sum| Watched { sum, ..watched });
        if let Some(place) = self.0.get_mut(slot_index) {
            *place = seen;
        }
    }

    /// A completion has come, and its I/O still has its memory.
    pub(super) fn end(&mut self, cqe: Cqe) {
        if cqe.flags & cqe_flags::MORE != 0 || cqe.result < 0 {
            return;
        }
        let Some(place) = self.0.get_mut(slot_of(cqe.user_data)) else { return };
        if let Some(watched) = place.take_if(|watched| watched.io == cqe.user_data) {
            if watched.sum_now().is_some_and(|sum| sum != watched.sum) {
                note(Mistake::ChangedInFlight);
            }
        }
    }
}

/// Whether an entry reads from its I/O's buffer: a raw one may point anywhere.
fn is_within(io: &Io, sqe: &Sqe) -> bool {
    io.buf.as_ref().is_some_and(|buf| {
        let offset = sqe.addr.checked_sub(buf.data().addr() as u64);
        offset.is_some_and(|offset| offset.saturating_add(sqe.len.into()) <= buf.len() as u64)
    })
}

impl Watched {
    /// `None`: it can't be read.
    fn sum_now(&self) -> Option<u64> {
        if !self.vectored {
            return sum(self.addr, self.len as usize, 0);
        }
        (0..u64::from(self.len)).try_fold(0, |so_far, at| {
            let mut vector = [0u8; 16];
            os::read_own(self.addr + at * 16, &mut vector).then_some(())?;
            let [addr, len] = [0, 8].map(|from| {
                vector.iter().skip(from).take(8).rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte))
            });
            sum(addr, len as usize, so_far)
        })
    }
}

/// Over memory that the host may have taken away: read as the kernel does.
fn sum(addr: u64, len: usize, mut so_far: u64) -> Option<u64> {
    let mut piece = [0u8; 4096];
    let mut at = 0;
    while at < len {
        let part = piece.get_mut(..(len - at).min(4096))?;
        os::read_own(addr + at as u64, part).then_some(())?;
        for byte in part.iter() {
            so_far = (so_far ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        at += part.len();
    }
    Some(so_far)
}
