// SPDX-License-Identifier: MIT OR Apache-2.0
//! SHARED rings: one thread drives, the others wait for it. Each gets its own, and none sleeps for ever.

use loom::thread;

use super::{Bound, check, mistakes, open, start};
use crate::core::open::Mode;
use crate::core::ring::Ring;
use crate::core::table::To;
use crate::core::wait::Limit;
use crate::sys::entry::op;
use crate::sys::tiny::Tiny;

const BOUND: Bound = Some(3);

fn start_and_wait(ring: &Ring<Tiny>) {
    let io = start(ring, op::NOP, To::Kept).unwrap();
    let done = ring.wait_io(io, Limit::Never).unwrap();
    assert_eq!((done.io, done.result), (io, 0));
}

/// Each waits for its own I/O, which either may bring.
fn waits(threads: usize) {
    let (ring, _) = open(Mode::Shared);
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let ring = ring.clone();
            thread::spawn(move || start_and_wait(&ring))
        })
        .collect();
    start_and_wait(&ring);
    for other in others {
        other.join().unwrap();
    }
}

fn two_wait() {
    waits(2);
}

fn three_wait() {
    waits(3);
}

/// One only submits, the other comes to drive meanwhile.
fn a_starter_submits() {
    let (ring, _) = open(Mode::Shared);
    let other = {
        let ring = ring.clone();
        thread::spawn(move || {
            super::start_nop(&ring);
            ring.submit_if_driver(crate::sys::os::thread_id());
        })
    };
    start_and_wait(&ring);
    other.join().unwrap();
    assert_eq!(ring.reap(1, Limit::Never, 1, |_| ()), Ok(1));
}

#[test]
fn two_threads_that_wait_each_get_theirs() {
    check(BOUND, two_wait);
}

#[test]
fn three_threads_that_wait_each_get_theirs() {
    check(Some(2), three_wait);
}

#[test]
fn a_thread_that_submits_hands_the_role_on() {
    check(BOUND, a_starter_submits);
}

mistakes! {
    a_waiter_that_enlists_behind_the_lock_is_found: EnlistsBehindTheLock, BOUND, two_wait, "deadlock";
    a_waiter_that_takes_its_round_after_the_look_is_found: RoundAfterTheLook, BOUND, two_wait, "deadlock";
    a_driver_that_tells_before_it_leaves_is_found: TellsBeforeTheChange, BOUND, two_wait, "deadlock";
}
