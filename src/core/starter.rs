// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts that enter the kernel by themselves.
//!
//! | the thread that starts | finds | and |
//! |---|---|---|
//! | an OWNER ring's owner | | enters |
//! | another one than the owner | the owner asleep | wakes it (core/start.rs); else the owner looks before it sleeps |
//! | any, on a SHARED ring | nobody drives | takes the role for as long as it enters |
//! | | a driver asleep | wakes it |
//! | | a driver awake, or another thread's start that enters | asks: who has the role enters once more before it leaves |
//! | | a start that has entered for others often | waits until that has left, and takes the role itself |

use super::lock::Guard;
use super::ring::Ring;
use super::state::{Phase, State};
use crate::sys::{Backend, Enter};

/// Guarded by the ring's lock.
#[derive(Default)]
pub(super) struct Starter {
    /// The driver only submits what was started, and is about to leave.
    pub(super) enters: bool,
    /// It has done so for others so often that they are to wait and do it themselves.
    leaves: bool,
    /// A start is to be submitted before the driver leaves.
    pub(super) asked: bool,
}

/// How often a thread enters for others.
const FOR_OTHERS: u32 = 64;

impl<B: Backend> Ring<B> {
    /// Submit at once if the calling thread may: the owner, or on a SHARED ring anyone while nobody drives.
    #[cold]
    pub(super) fn submit_if_driver(&self, me: usize) {
        let mut state = self.lock(me);
        loop {
            if state.phase != Phase::Open || self.has_owner() && self.owner() != me {
                return;
            }
            if state.driver == me {
                drop(self.submit_started(state, me));
                return;
            }
            if state.driver == 0 {
                break;
            }
            if !state.starter.leaves {
                state.starter.asked = true;
                return;
            }
            state = self.after_starter(state, me);
        }
        // The role keeps the ring open meanwhile.
        state.driver = me;
        state = self.submit_and_leave(state, me);
        state.driver = 0;
        drop(state);
        self.tell_waiters();
    }

    /// The driver leaves: see to what others have asked for.
    #[cold]
    pub(super) fn submit_and_leave<'a>(&'a self, mut state: Guard<'a, State<B>>, me: usize) -> Guard<'a, State<B>> {
        state.starter.enters = true;
        state = self.submit_started(state, me);
        state.starter = Starter::default();
        state
    }

    /// The calling thread has the role: submit all that there is, and if it is about to leave what others ask for meanwhile.
    fn submit_started<'a>(&'a self, mut state: Guard<'a, State<B>>, me: usize) -> Guard<'a, State<B>> {
        let (mut left, mut round) = (0, 0);
        loop {
            state.refill();
            let asked = state.starter.enters && std::mem::take(&mut state.starter.asked);
            let Ok(backend) = state.backend() else { return state };
            let (submit, gate) = (backend.publish(), backend.gate());
            if round == 0 || asked {
                left = submit as usize + state.overflow.len();
            }
            round += 1;
            state.starter.leaves = state.starter.enters && round >= FOR_OTHERS;
            if left == 0 || submit == 0 {
                return state;
            }
            drop(state);
            // The start was accepted whatever this says: entries that were not taken are tried again by the next drive.
            let taken = B::enter(gate, Enter { submit, wait: false, flush: false, timeout: None });
            state = self.lock(me);
            state.counts.enters += 1;
            if taken != Ok(submit) {
                state.sever();
            }
            match taken {
                Ok(taken) if taken > 0 => left = left.saturating_sub(taken as usize),
                _ => return state,
            }
        }
    }
}
