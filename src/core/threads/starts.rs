// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts and posts of other threads, and a driver that falls asleep: it learns of each, and is sent one wake a sleep.

use loom::thread;
use std::sync::Arc;

use super::{Bound, check, mistakes, open, start_nop};
use crate::core::open::Mode;
use crate::core::ring::Ring;
use crate::core::wait::Limit;
use crate::sys::tiny::Tiny;

const BOUND: Bound = None;

/// The owner sleeps until there are `count`, of which `other` brings some.
fn owner_waits(count: u32, other: fn(&Ring<Tiny>)) {
    let (ring, kernel) = open(Mode::Owner);
    // Bound, with the bias.
    ring.submit().unwrap();
    let other = {
        let ring: Arc<_> = ring.clone();
        thread::spawn(move || other(&ring))
    };
    assert!(ring.wait(count, Limit::Never).unwrap() >= count as i32);
    other.join().unwrap();
    let (wakes, sleeps) = kernel.counts();
    assert!(wakes <= sleeps, "{wakes} wakes for {sleeps} sleeps");
}

fn one_start() {
    owner_waits(1, start_nop);
}

fn two_starts() {
    owner_waits(2, |ring| {
        start_nop(ring);
        start_nop(ring);
    });
}

/// However long the driver takes to get awake.
fn starts_while_asleep() {
    let (ring, kernel) = open(Mode::Owner);
    ring.submit().unwrap();
    kernel.keep_asleep();
    let other = {
        let ring = ring.clone();
        thread::spawn(move || {
            kernel.await_sleep();
            start_nop(&ring);
            start_nop(&ring);
            assert_eq!(kernel.counts(), (1, 1));
            kernel.let_run();
        })
    };
    assert_eq!(ring.wait(2, Limit::Never), Ok(2));
    other.join().unwrap();
}

fn one_post() {
    let (ring, _) = open(Mode::Owner);
    ring.submit().unwrap();
    let other = {
        let ring = ring.clone();
        thread::spawn(move || ring.post(1.try_into().unwrap(), 0).unwrap())
    };
    assert_eq!(ring.wait(1, Limit::Never), Ok(0));
    other.join().unwrap();
}

#[test]
fn a_start_of_another_thread_ends_the_owners_sleep() {
    check(BOUND, one_start);
}

#[test]
fn two_starts_of_another_thread_send_one_wake_a_sleep() {
    check(Some(3), two_starts);
}

#[test]
fn a_driver_that_sleeps_is_sent_one_wake() {
    check(BOUND, starts_while_asleep);
}

#[test]
fn a_post_ends_the_owners_sleep() {
    check(BOUND, one_post);
}

mistakes! {
    a_start_that_does_not_look_for_a_sleeper_is_found: StartDoesntLook, BOUND, one_start, "deadlock";
    a_driver_that_falls_asleep_behind_the_lock_is_found: SleepsBehindTheLock, BOUND, one_start, "deadlock";
    a_mark_of_a_sent_wake_that_stays_is_found: KickedForEver, Some(3), two_starts, "deadlock";
    a_wake_for_each_start_is_found: KicksEachTime, BOUND, starts_while_asleep, "left: (2, 1)";
}
