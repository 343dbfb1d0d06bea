// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions that belong to no I/O: told of room, and posted.

use std::num::NonZeroUsize;

use super::host::Host;
use super::step::{Asked, Then, What};
use crate::core::Status;

/// What the host wants done when room returns.
#[derive(Default)]
pub(super) struct Room {
    pub(super) then: Option<Then>,
    /// A start has failed for want of room, and nothing was told since.
    pub(super) wanted: bool,
}

/// What was posted, and how much of it has run.
#[derive(Default)]
pub(super) struct Posts {
    pub(super) posted: Vec<Then>,
    pub(super) ran: usize,
}

const ROOM: usize = 3;
const POST: usize = 4;

/// I/Os of a sequence after which being told of room starts no more.
const ENOUGH: usize = 200;

impl Host<'_> {
    pub(super) fn post(&mut self, then: Then) {
        let Some(function) = NonZeroUsize::new(POST) else { return };
        match self.ring.post(function, self.calls.posted.len()) {
            Ok(()) if !self.closing => self.calls.posted.push(then),
            Err(Status::CLOSED) if self.closing => {}
            result => self.wrong(format!("post says {result:?}")),
        }
    }

    /// What was accepted has run.
    pub(super) fn check_posts(&self) {
        let Posts { posted, ran } = &self.calls;
        if posted.len() != *ran {
            self.wrong(format!("{ran} of {} posted functions have run", posted.len()));
        }
    }

    pub(super) fn set_room(&mut self, then: Option<Then>) {
        let room = then.and_then(|_| Some((NonZeroUsize::new(ROOM)?, ROOM)));
        match self.ring.on_room(room) {
            Ok(()) => self.room.then = then,
            Err(Status::CLOSED) if self.closing => {}
            Err(status) => self.wrong(format!("on_room says {status:?}")),
        }
    }

    /// The driver calls what was left for room, or posted.
    pub(super) fn on_call(&mut self, function: usize, user_data: usize) {
        match self.room.then {
            Some(then) if function == ROOM && user_data == ROOM => self.on_room(then),
            _ if function == POST && user_data == self.calls.ran && user_data < self.calls.posted.len() => {
                self.calls.ran += 1;
                self.react(self.calls.posted[user_data], None);
            }
            _ => self.wrong(format!("function {function} is called with {user_data}")),
        }
    }

    fn on_room(&mut self, then: Then) {
        if !std::mem::take(&mut self.room.wanted) {
            self.wrong("room is told of, and nobody wanted any");
        }
        if self.closing || self.ios.len() > ENOUGH {
            return;
        }
        let started = self.start(&Asked::plain(What::Nop), None);
        if started == Err(Status::EAGAIN) {
            self.wrong("room is told of, and there is none");
        }
        self.react(then, None);
    }
}
