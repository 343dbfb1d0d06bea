// SPDX-License-Identifier: MIT OR Apache-2.0
//! `prepare`, and what comes at each of its steps: it is seen, or the event fd is readable afterwards.

use loom::thread;

use super::{Bound, check, mistakes, open, start, start_nop};
use crate::core::open::Mode;
use crate::core::ring::Ring;
use crate::core::table::To;
use crate::core::wait::Limit;
use crate::sys::entry::op;
use crate::sys::tiny::{Kernel, Tiny};

const BOUND: Bound = None;

/// A host's loop: until a completion is taken.
fn run_loop(ring: &Ring<Tiny>, kernel: &Kernel) {
    loop {
        if ring.prepare().unwrap() == 0 {
            kernel.poll_event_fd();
        }
        if ring.reap(0, Limit::Within(0), 1, |_| ()).unwrap() > 0 {
            return;
        }
    }
}

/// What is in flight is complete at any moment.
fn completion() {
    let (ring, kernel) = open(Mode::Owner);
    start(&ring, op::READ, To::Queue).unwrap();
    ring.submit().unwrap();
    let interrupt = {
        let kernel = kernel.clone();
        thread::spawn(move || assert!(kernel.complete_one()))
    };
    run_loop(&ring, &kernel);
    interrupt.join().unwrap();
}

/// Another thread starts an I/O at any moment; `SHARED`: on a ring that anyone may submit.
fn foreign_start(mode: Mode) {
    let (ring, kernel) = open(mode);
    ring.submit().unwrap();
    let other = {
        let ring = ring.clone();
        thread::spawn(move || start_nop(&ring))
    };
    run_loop(&ring, &kernel);
    other.join().unwrap();
}

fn start_on_an_owner_ring() {
    foreign_start(Mode::Owner);
}

fn start_on_a_shared_ring() {
    foreign_start(Mode::Shared);
}

#[test]
fn a_completion_is_seen_or_makes_the_event_fd_readable() {
    check(BOUND, completion);
}

#[test]
fn a_start_of_another_thread_is_seen_or_makes_the_event_fd_readable() {
    check(BOUND, start_on_an_owner_ring);
    check(BOUND, start_on_a_shared_ring);
}

mistakes! {
    an_event_fd_cleared_after_the_look_is_found: ClearsAfterTheLook, BOUND, completion, "deadlock";
    a_second_look_that_misses_starts_is_found: NoLookAtStarts, BOUND, start_on_an_owner_ring, "deadlock";
    a_start_that_does_not_look_for_a_sleeping_loop_is_found: StartDoesntLook, BOUND, start_on_an_owner_ring, "deadlock";
}
