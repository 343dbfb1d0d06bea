// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slots set apart for starts of other threads: each has its handle before its I/O is there.

use super::{Io, NO_SLOT, State, Table, To, slot_of};
use crate::core::deadlines;

impl Io {
    const VACANT: Self = Self {
        handle: 0,
        user_data: 0,
        notify: None,
        buf: None,
        to: To::Nobody,
        state: State::Vacant,
        marks: 0,
        opcode: 0,
        fd: -1,
        deadline: deadlines::NONE,
        started_ms: 0,
        result: 0,
        flags: 0,
        next: NO_SLOT,
    };
}

impl Table {
    pub(in crate::core) fn reserved(&self) -> u32 {
        self.reserved
    }

    /// Set a slot apart; → the handle of the I/O that will be there. `None`: no room.
    pub(in crate::core) fn reserve(&mut self) -> Option<u64> {
        if self.free() == 0 {
            return None;
        }
        let generation = self.next_generation();
        let slot = if self.vacant == NO_SLOT { self.ios.len() as u32 } else { self.vacant };
        match self.ios.get_mut(slot as usize) {
            Some(place) => self.vacant = place.next,
            None => self.ios.push(Io::VACANT),
        }
        self.capacity -= 1;
        self.reserved += 1;
        Some(generation | u64::from(slot))
    }

    /// The I/O of a handle from `reserve` begins.
    pub(in crate::core) fn fill(&mut self, io: Io) {
        if let Some(place) = self.ios.get_mut(slot_of(io.handle)) {
            // As in `insert`.
            std::mem::forget(std::mem::replace(place, io));
            self.capacity += 1;
            self.reserved -= 1;
            self.len += 1;
        }
    }

    /// A handle from `reserve` will not be used.
    pub(in crate::core) fn unreserve(&mut self, handle: u64) {
        if let Some(place) = self.ios.get_mut(slot_of(handle)) {
            place.next = self.vacant;
            self.vacant = slot_of(handle) as u32;
            self.capacity += 1;
            self.reserved -= 1;
        }
    }
}
