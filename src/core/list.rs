// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of I/Os in the table, chained through its entries: nothing is allocated for them.

use super::table::{NO_SLOT, Table, marks};

/// I/Os in order.
#[derive(Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NO_SLOT, last: NO_SLOT };

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NO_SLOT).then_some(self.first)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first == NO_SLOT
    }
}

impl Table {
    pub(super) fn push(&mut self, list: &mut List, slot: u32) {
        if let Some(io) = self.get(slot) {
            io.next = NO_SLOT;
            io.marks |= marks::LISTED;
        }
        match self.get(list.last) {
            Some(last) if list.last != NO_SLOT => last.next = slot,
            _ => list.first = slot,
        }
        list.last = slot;
    }

    pub(super) fn pop(&mut self, list: &mut List) -> Option<u32> {
        let slot = list.first()?;
        if let Some(io) = self.get(slot) {
            io.marks &= !marks::LISTED;
            list.first = io.next;
        }
        if list.first == NO_SLOT {
            list.last = NO_SLOT;
        }
        Some(slot)
    }
}
