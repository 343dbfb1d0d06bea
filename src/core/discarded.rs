// SPDX-License-Identifier: MIT OR Apache-2.0
//! Letting go of results that nobody takes.

use std::collections::VecDeque;

use super::buf::BufRef;
use super::op::FIXED_BASE;
use super::state;
use super::storage::Storage;
use super::table::{Gone, Io, Side, State, marks};
use crate::sys::os::close_unwanted;
use crate::sys::{Backend, Cqe};

/// What is left of an I/O whose result nobody takes. Dropped outside the lock: it may run release functions.
pub(crate) struct Discarded {
    _buf: Option<BufRef>,
    _storage: Option<Storage>,
    /// −1 = none.
    fds: [i32; 2],
    /// Events that nobody took, of an I/O whose results are descriptors.
    accepted: VecDeque<Cqe>,
}

impl Discarded {
    pub(super) fn new(gone: Gone) -> Self {
        let Gone { io, side } = gone;
        let Side { storage, extra, events, .. } = side.unwrap_or_default();
        let fds = if io.state == State::Done { io.descriptors(io.result, extra) } else { [-1; 2] };
        let accepted = if io.is(marks::DESCRIPTOR) { events } else { VecDeque::new() };
        Self { _buf: io.buf, _storage: storage, fds, accepted }
    }

    /// As `new`, of an I/O whose slot is not free yet; if it isn't done either, the kernel keeps its buffer.
    pub(super) fn take_from(io: &mut Io, extra: u64, events: VecDeque<Cqe>) -> Self {
        let is_done = io.state == State::Done;
        let fds = if is_done { io.descriptors(io.result, extra) } else { [-1; 2] };
        io.result = if is_done { -1 } else { io.result };
        let accepted = if io.is(marks::DESCRIPTOR) { events } else { VecDeque::new() };
        Self { _buf: if is_done { io.buf.take() } else { None }, _storage: None, fds, accepted }
    }
}

impl<B: Backend> state::State<B> {
    /// Have registered files among what is discarded closed: only the driver can.
    pub(super) fn discard(&mut self, mut discarded: Discarded) -> Discarded {
        self.close_fixed_of(&mut discarded.fds);
        for event in &mut discarded.accepted {
            self.close_fixed_of(std::slice::from_mut(&mut event.result));
        }
        discarded
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        // Registered files that are left here are of a ring that is closed, and went with it.
        let own = |fd: &i32| (0..FIXED_BASE).contains(fd);
        self.fds.into_iter().filter(own).for_each(close_unwanted);
        while let Some(event) = self.accepted.pop_front() {
            if own(&event.result) {
                close_unwanted(event.result);
            }
        }
    }
}
