// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sequences that once failed, as the search printed them or shorter.

use super::run;
use super::step::{Asked, Case, Links, Step, Step::*, Then, Then::*, Wait::*, What, What::*};
use crate::core::open::{Mode, Mode::*};
use crate::core::table::{To, To::*};
use crate::sys::fake::{Outcome::*, Plan};

fn passes(mode: Mode, steps: &[Step]) {
    let case = Case {
        mode,
        entries: 4,
        cq_entries: 8,
        max_in_flight: 8,
        plan: Plan::default(),
        seed: 1,
        steps: steps.to_vec(),
        released: false,
    };
    run(&case).unwrap();
}

fn asked(what: What, to: To, then: Then) -> Asked {
    Asked { to, then, ..Asked::plain(what) }
}

/// The close went on with the budget of the process that it came out of, and looked for ever at what was left.
#[test]
fn a_close_in_a_process_with_a_budget_delivers_all() {
    let closes = asked(Nop, Callback, End(No));
    passes(Owner, &[Start(closes), Start(Asked::plain(Nop)), Submit, Work(0, Done), Work(0, Done), Process(1)]);
}

/// A thread's exit cancels a zero-copy send like any other request; the cancel is told in the first of two completions.
#[test]
fn a_zero_copy_send_that_a_thread_takes_with_it_is_submitted_again() {
    // Whether a cancelled send has a notification is left to chance: several, and each ends twice.
    let mut steps = vec![Burst(4, Asked::plain(SendZc)), Submit];
    steps.extend((0..8).map(|_| CancelUnasked(0)));
    steps.push(Run(0, No));
    passes(Shared, &steps);
}

/// A dropped I/O is not cancelled: it was when the thread that had submitted it exited.
#[test]
fn a_dropped_write_that_a_thread_takes_with_it_is_submitted_again() {
    let write = asked(Write, Kept, Nothing);
    passes(Shared, &[Start(write), Submit, Drop(0), CancelUnasked(0), Run(0, No)]);
}

/// The first member's `extra` said -ECANCELED: it was told of before the cause was noted.
#[test]
fn a_deadline_of_a_chain_that_waits_for_room_is_its_cause() {
    let chain = Links { hard: false, submits: false, what: 0, to: 0, bad: u8::MAX, timeout_ns: 50, then: Nothing };
    passes(Owner, &[Start(Asked::plain(Nop)), Chain(4, chain), Advance(200), Submit, Process(0)]);
}

/// It handed out what was queued, in a callback of the close.
#[test]
fn reap_in_a_callback_is_refused_while_the_ring_closes() {
    let reaps = asked(Nop, Callback, Drive(6));
    passes(Owner, &[Start(asked(Nop, Queue, Nothing)), Start(reaps), Submit, Work(0, Done), Work(0, Done), Close(No)]);
}
