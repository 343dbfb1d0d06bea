// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of the host that any thread has the driver run.

use super::Result;
use super::ring::Ring;
use super::session::Delivery;
use super::state::State;
use super::table::HostFn;
use crate::sys::{Backend, os};

impl<B: Backend> Ring<B> {
    /// Have the driver run `function`: once, after those posted before. What is accepted runs before the ring is closed.
    pub(crate) fn post(&self, function: HostFn, user_data: usize) -> Result<()> {
        let me = os::thread_id();
        let mut state = self.lock(me);
        state.check_open()?;
        state.posts.try_reserve(1)?;
        state.posts.push_back((function, user_data));
        state.attention = true;
        let kick = self.kick_due(me);
        drop(state);
        if kick {
            self.kick();
        }
        Ok(())
    }
}

impl<B: Backend> State<B> {
    /// A function of the host's is due that belongs to no I/O.
    #[inline]
    pub(super) fn has_call(&self) -> bool {
        !self.posts.is_empty() || self.room_due()
    }

    /// The oldest of `allowed` posts.
    pub(super) fn next_post(&mut self, allowed: &mut usize) -> Option<Delivery> {
        if *allowed == 0 {
            return None;
        }
        *allowed -= 1;
        let (function, user_data) = self.posts.pop_front()?;
        if self.posts.is_empty() && self.posts.capacity() > 1024 {
            self.posts = std::collections::VecDeque::new();
        }
        Some(Delivery::Call(function, user_data))
    }
}
