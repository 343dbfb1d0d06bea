// SPDX-License-Identifier: MIT OR Apache-2.0
//! `wake`, which takes no lock, and a driver that falls asleep in enter or in its event loop: the wake ends that sleep.

use loom::thread;

use super::{Bound, check, mistakes, open};
use crate::core::open::Mode;
use crate::core::wait::Limit;

const BOUND: Bound = None;

/// Nothing is in flight: only a wake ends the wait.
fn wake_in_enter() {
    let (ring, _) = open(Mode::Owner);
    ring.submit().unwrap();
    let other = {
        let ring = ring.clone();
        thread::spawn(move || ring.wake().unwrap())
    };
    assert_eq!(ring.wait(1, Limit::Never), Ok(0));
    other.join().unwrap();
}

fn wake_in_loop() {
    let (ring, kernel) = open(Mode::Owner);
    ring.submit().unwrap();
    let other = {
        let ring = ring.clone();
        thread::spawn(move || ring.wake().unwrap())
    };
    if ring.prepare() == Ok(0) {
        kernel.poll_event_fd();
    }
    other.join().unwrap();
}

/// The kernel refuses the first message. A wake that was accepted is none the less one.
fn refused_wake() {
    let (ring, kernel) = open(Mode::Owner);
    ring.submit().unwrap();
    kernel.refuse_wakes(1);
    let others = [(); 2].map(|()| {
        let ring = ring.clone();
        thread::spawn(move || ring.wake().is_ok())
    });
    assert_eq!(ring.wait(1, Limit::Never), Ok(0));
    for other in others {
        other.join().unwrap();
    }
}

/// It refuses until the call says so: the next call is sent.
fn wake_again() {
    let (ring, kernel) = open(Mode::Owner);
    ring.submit().unwrap();
    kernel.refuse_wakes(2);
    let other = {
        let ring = ring.clone();
        thread::spawn(move || ring.wake().or_else(|_| ring.wake()).unwrap())
    };
    assert_eq!(ring.wait(1, Limit::Never), Ok(0));
    other.join().unwrap();
}

#[test]
fn a_wake_ends_a_wait() {
    check(BOUND, wake_in_enter);
}

#[test]
fn a_wake_ends_the_event_loops_sleep() {
    check(BOUND, wake_in_loop);
}

#[test]
fn a_wake_ends_a_wait_though_the_kernel_refuses_another() {
    check(Some(3), refused_wake);
}

#[test]
fn a_wake_after_a_refused_one_is_sent() {
    check(BOUND, wake_again);
}

mistakes! {
    a_driver_that_does_not_look_again_is_found: NoSecondLook, BOUND, wake_in_enter, "deadlock";
    an_event_loop_that_does_not_look_again_is_found: NoSecondLook, BOUND, wake_in_loop, "deadlock";
    a_driver_without_a_fence_is_found: SleeperHasNoFence, BOUND, wake_in_enter, "deadlock";
    a_wake_without_a_barrier_is_found: WakeHasNoBarrier, BOUND, wake_in_enter, "deadlock";
    a_refused_wake_that_hides_the_next_is_found: ForgetsRefusal, BOUND, wake_again, "deadlock";
}
