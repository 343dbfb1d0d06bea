// SPDX-License-Identifier: MIT OR Apache-2.0
//! Letting go of results that nobody takes.

use std::collections::VecDeque;

use super::buf::BufRef;
use super::storage::Storage;
use super::table::{Gone, Io, State, marks};
use crate::sys::Cqe;
use crate::sys::os::close_unwanted;

/// What is left of an I/O whose result nobody takes. Dropped outside the lock: it may run release functions.
pub(crate) struct Discarded {
    _buf: Option<BufRef>,
    _storage: Option<Storage>,
    fd: Option<i32>,
    /// Events that nobody took, of an I/O whose results are descriptors.
    accepted: VecDeque<Cqe>,
}

impl Discarded {
    pub(super) fn new(gone: Gone) -> Self {
        let Gone { io, side } = gone;
        let fd = if io.state == State::Done { io.descriptor(io.result) } else { None };
        let holds_descriptors = io.is(marks::DESCRIPTOR);
        let (storage, events) = side.map_or((None, VecDeque::new()), |side| (side.storage, side.events));
        let accepted = if holds_descriptors { events } else { VecDeque::new() };
        Self { _buf: io.buf, _storage: storage, fd, accepted }
    }

    /// As `new`, of an I/O whose slot is not free yet; if it isn't done either, the kernel keeps its buffer.
    pub(super) fn take_from(io: &mut Io, events: VecDeque<Cqe>) -> Self {
        let is_done = io.state == State::Done;
        let fd = if is_done { io.descriptor(io.result) } else { None };
        io.result = if is_done { -1 } else { io.result };
        let accepted = if io.is(marks::DESCRIPTOR) { events } else { VecDeque::new() };
        Self { _buf: if is_done { io.buf.take() } else { None }, _storage: None, fd, accepted }
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        if let Some(fd) = self.fd {
            close_unwanted(fd);
        }
        while let Some(event) = self.accepted.pop_front() {
            if event.result >= 0 {
                close_unwanted(event.result);
            }
        }
    }
}
