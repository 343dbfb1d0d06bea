// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room again: after a start that failed for want of room in the table, the host is told once when there is some.

use super::Result;
use super::ring::Ring;
use super::session::Delivery;
use super::state::State;
use super::table::HostFn;
use crate::sys::{Backend, os};

/// Who is told of room, and of how much.
#[derive(Default)]
pub(super) struct Room {
    function: Option<(HostFn, usize)>,
    /// Slots; 0 = no start has failed for want of room.
    wanted: u32,
}

impl Room {
    /// No start has failed for want of room since it was last told.
    #[inline(always)]
    pub(super) fn is_wanted_by_nobody(&self) -> bool {
        self.wanted == 0
    }
}

impl<B: Backend> Ring<B> {
    /// Have `room` told each time room returns after an EAGAIN; `None`: nobody.
    pub(crate) fn on_room(&self, room: Option<(HostFn, usize)>) -> Result<()> {
        let me = os::thread_id();
        let mut state = self.lock(me);
        state.check_open()?;
        state.room.function = room;
        // What is free shall be seen.
        self.clear_inbox(&mut state);
        drop(state);
        self.tell_room(me);
        Ok(())
    }

    /// After a call, of any thread, that took something out of the table: the driver shall tell of the room.
    pub(super) fn tell_room(&self, me: usize) {
        let due = self.lock(me).room_due();
        if due {
            self.kick_if_due();
        }
    }
}

impl<B: Backend> State<B> {
    /// A start of `count` has failed.
    pub(super) fn want_room(&mut self, count: u32) {
        self.room.wanted = if self.room.wanted == 0 { count } else { self.room.wanted.min(count) };
    }

    /// Somebody waits to be told.
    pub(super) fn is_room_wanted(&self) -> bool {
        self.room.wanted != 0 && self.room.function.is_some()
    }

    #[inline]
    pub(super) fn room_due(&self) -> bool {
        self.room.wanted != 0 && self.room.function.is_some() && self.table.free() >= self.room.wanted + self.held_back
    }

    /// The function to be told now.
    pub(super) fn take_room(&mut self) -> Option<Delivery> {
        if !self.room_due() {
            return None;
        }
        self.room.wanted = 0;
        self.room.function.map(|(function, user_data)| Delivery::Call(function, user_data))
    }
}
