// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of an I/O, as its taker gets it.

use super::buf::BufRef;
use crate::sys::entry::op;

/// What became of an I/O, laid out as the host gets it.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) io: u64,
    pub(crate) user_data: usize,
    pub(crate) buf: Option<BufRef>,
    pub(crate) extra: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
    pub(crate) opcode: u32,
    pub(crate) reserved0: u32,
    pub(crate) reserved: [u64; 2],
}

/// In `reserved0`, inside the library: the result is a descriptor.
pub(super) const HOLDS_DESCRIPTOR: u32 = 1;

impl Completion {
    /// The descriptors in it, −1 = none.
    pub(super) fn descriptors(&self) -> [i32; 2] {
        if self.reserved0 & HOLDS_DESCRIPTOR == 0 { NONE } else { descriptors(self.opcode, self.result, self.extra) }
    }
}

pub(super) const NONE: [i32; 2] = [-1; 2];

/// What a result that is a descriptor, or two, names.
pub(super) fn descriptors(opcode: u32, result: i32, extra: u64) -> [i32; 2] {
    match (result, opcode == u32::from(op::PIPE)) {
        (..0, _) => NONE,
        (_, true) => descriptors_in(extra),
        (_, false) => [result, -1],
    }
}

/// A pipe's.
pub(super) fn descriptors_in(extra: u64) -> [i32; 2] {
    [extra as i32, (extra >> 32) as i32]
}

/// Flags of a completion, in the surface's values.
pub(crate) mod completion_flags {
    pub(crate) const MORE: u32 = 1;
    pub(crate) const SOCK_NONEMPTY: u32 = 2;
    pub(crate) const TIMED_OUT: u32 = 4;
    pub(crate) const CANCELLED: u32 = 8;
}
