// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts of other threads that go through the inbox, and an owner that falls asleep, or takes the ring's lock for another
//! reason: each letter is taken in, and the first alone wakes a sleeper.

use loom::thread;
use std::sync::Arc;

use super::{Bound, check, mistakes, open, template};
use crate::core::op::Template;
use crate::core::open::Mode;
use crate::core::ring::Ring;
use crate::core::start::Start;
use crate::core::table::To;
use crate::core::wait::Limit;
use crate::sys::entry::op;
use crate::sys::os;
use crate::sys::tiny::{Kernel, Tiny};

const BOUND: Bound = Some(3);

/// As a host's simple start does it: by the inbox, as long as there are handles.
fn start_by_letter(ring: &Ring<Tiny>) {
    let template: Template = template(op::NOP);
    let mut io = 0;
    let start = Start { template: &template, to: To::Queue, callback: None, user_data: 0 };
    // SAFETY: there is no buffer.
    unsafe { ring.start_simple(&start, &mut io) }.unwrap();
}

/// The owner sleeps until there are `count`, of which `other` brings some; `owner` is what it does before.
fn owner_waits(count: u32, owner: fn(&Ring<Tiny>), other: fn(&Ring<Tiny>)) {
    let ring = open_with_inbox().0;
    let other = {
        let ring = ring.clone();
        thread::spawn(move || other(&ring))
    };
    owner(&ring);
    while ring.wait(count, Limit::Never).unwrap() < count as i32 {}
    other.join().unwrap();
}

fn open_with_inbox() -> (Arc<Ring<Tiny>>, Arc<Kernel>) {
    let (ring, kernel) = open(Mode::Owner);
    ring.submit().unwrap();
    ring.offer_handles(&mut ring.lock(os::thread_id()));
    (ring, kernel)
}

/// However long the owner takes to get awake.
fn letters_while_asleep() {
    let (ring, kernel) = open_with_inbox();
    kernel.keep_asleep();
    let other = {
        let ring = ring.clone();
        thread::spawn(move || {
            kernel.await_sleep();
            start_by_letter(&ring);
            start_by_letter(&ring);
            assert_eq!(kernel.counts(), (1, 1));
            kernel.let_run();
        })
    };
    while ring.wait(2, Limit::Never).unwrap() < 2 {}
    other.join().unwrap();
}

fn one_letter() {
    owner_waits(1, |_| (), start_by_letter);
}

fn two_letters() {
    owner_waits(
        2,
        |_| (),
        |ring| {
            start_by_letter(ring);
            start_by_letter(ring);
        },
    );
}

/// The owner takes letters in at any step of theirs, and starts one itself.
fn letters_while_the_owner_looks() {
    owner_waits(2, start_by_letter, start_by_letter);
}

/// More letters than handles: the rest takes the ring's lock.
fn three_letters() {
    owner_waits(
        3,
        |_| (),
        |ring| {
            for _ in 0..3 {
                start_by_letter(ring);
            }
        },
    );
}

#[test]
fn a_letter_ends_the_owners_sleep() {
    check(BOUND, one_letter);
}

#[test]
fn two_letters_are_both_taken_in() {
    check(BOUND, two_letters);
}

#[test]
fn an_owner_that_sleeps_is_sent_one_wake_for_two_letters() {
    check(BOUND, letters_while_asleep);
}

#[test]
fn a_letter_and_a_start_of_the_owner_are_both_accepted() {
    check(BOUND, letters_while_the_owner_looks);
}

#[test]
fn starts_without_a_handle_for_them_come_through_too() {
    check(Some(2), three_letters);
}

mistakes! {
    a_letter_that_makes_no_barrier_is_found: LetterHasNoBarrier, BOUND, one_letter, "deadlock";
    an_owner_that_sleeps_over_a_letter_is_found: SleepsOverLetters, BOUND, one_letter, "deadlock";
    a_mark_that_is_cleared_before_the_letters_are_taken_is_found: ForgetsLetters, BOUND, two_letters, "deadlock";
}
