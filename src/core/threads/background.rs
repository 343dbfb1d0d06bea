// SPDX-License-Identifier: MIT OR Apache-2.0
//! BACKGROUND rings: the library's thread drives, others wait for what it brings, wake it, and close the ring. No wait sleeps for
//! ever, and after a close nothing of the ring is in use.

use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Bound, check, mistakes, open, start};
use crate::core::open::Mode;
use crate::core::ring::Ring;
use crate::core::session::{Session, Step};
use crate::core::table::To;
use crate::core::wait::Limit;
use crate::core::{Result, Status};
use crate::sys::entry::op;
use crate::sys::tiny::{Kernel, Tiny};

const BOUND: Bound = Some(2);

/// A ring, and whether its thread has come to its end.
struct Driven {
    ring: Arc<Ring<Tiny>>,
    ended: AtomicBool,
}

/// As ffi's, without a host that is called.
fn drive(driven: usize) {
    // SAFETY: from `driven`, which keeps it for the thread.
    let driven = unsafe { Arc::from_raw(std::ptr::with_exposed_provenance::<Driven>(driven)) };
    driven.ring.begin_background();
    while let Some(mut session) = driven.ring.background_session() {
        while let Step::Deliver(_) = session.next() {}
    }
    driven.ring.end_background();
    driven.ended.store(true, Ordering::Relaxed);
}

fn driven() -> (Arc<Driven>, Arc<Kernel>) {
    let (ring, kernel) = open(Mode::Background);
    let driven = Arc::new(Driven { ring, ended: AtomicBool::new(false) });
    let threads = Arc::into_raw(driven.clone()).expose_provenance();
    // SAFETY: `drive` takes what it is given.
    unsafe { driven.ring.spawn_background(drive as fn(usize) as usize, threads) }.unwrap();
    (driven, kernel)
}

impl Driven {
    fn close(&self) {
        assert_eq!(
            self.ring.close(Limit::Never).map(|(session, orphaned)| (session.is_some(), orphaned)),
            Ok((false, 0))
        );
        assert!(self.ended.load(Ordering::Relaxed), "closed while its thread runs");
    }

    fn start_and_wait(&self) -> Result<()> {
        let io = start(&self.ring, op::NOP, To::Kept)?;
        self.ring.wait_io(io, Limit::Never).map(|done| assert_eq!(done.io, io))
    }
}

/// What is started is brought, and the close ends the thread.
fn wait_then_close() {
    let (driven, _) = driven();
    driven.start_and_wait().unwrap();
    driven.close();
}

/// A thread that waits for what never comes is told when another closes.
fn close_with_a_waiter() {
    let (driven, _) = driven();
    let waiter = {
        let driven = driven.clone();
        thread::spawn(move || driven.ring.reap(1, Limit::Never, 1, |_| ()))
    };
    driven.close();
    assert_eq!(waiter.join().unwrap(), Err(Status::CLOSED));
}

/// A start is accepted, and done when the close is, or refused.
fn close_with_a_start() {
    let (driven, _) = driven();
    let starter = {
        let driven = driven.clone();
        thread::spawn(move || start(&driven.ring, op::NOP, To::Queue))
    };
    driven.close();
    let accepted = starter.join().unwrap();
    let mut done = 0;
    let reaped = driven.ring.reap(0, Limit::Within(0), 1, |_| done += 1);
    assert_eq!(done, u32::from(accepted.is_ok()), "{accepted:?}, {reaped:?}");
}

/// A start and its wait are through, or refused.
fn close_with_a_starter() {
    let (driven, _) = driven();
    let starter = {
        let driven = driven.clone();
        thread::spawn(move || driven.start_and_wait())
    };
    driven.close();
    assert!(matches!(starter.join().unwrap(), Ok(()) | Err(Status::CLOSED)));
}

/// A wake is sent while the ring's descriptors are there, or says that it is closed.
fn close_with_a_wake() {
    let (driven, _) = driven();
    let other = {
        let driven = driven.clone();
        thread::spawn(move || driven.ring.wake())
    };
    driven.close();
    assert!(matches!(other.join().unwrap(), Ok(0) | Err(Status::CLOSED)));
}

/// What is the thread's alone is done by it, or refused.
fn close_with_settings() {
    let (driven, _) = driven();
    let other = {
        let driven = driven.clone();
        thread::spawn(move || driven.ring.set_worker_limits(1, 1))
    };
    driven.close();
    assert!(matches!(other.join().unwrap(), Ok(()) | Err(Status::CLOSED)));
}

/// Another thread drives a SHARED ring, and sleeps: the close has it leave.
fn close_under_a_driver() {
    let (ring, _) = open(Mode::Shared);
    let driver = {
        let ring = ring.clone();
        thread::spawn(move || ring.wait(1, Limit::Never))
    };
    close_here(&ring);
    assert_eq!(driver.join().unwrap(), Err(Status::CLOSED));
}

fn close_here(ring: &Ring<Tiny>) {
    let (mut session, _) = ring.close(Limit::Never).unwrap();
    while let Some(Step::Deliver(_)) = session.as_mut().map(Session::next) {}
}

/// As above, of an event loop's ring: the event fd.
fn close_a_prepared_ring_with_a_wake() {
    let (ring, _) = open(Mode::Shared);
    ring.prepare().unwrap();
    let other = {
        let ring = ring.clone();
        thread::spawn(move || ring.wake())
    };
    close_here(&ring);
    assert!(matches!(other.join().unwrap(), Ok(0) | Err(Status::CLOSED)));
}

#[test]
fn what_the_thread_brings_ends_a_wait_and_a_close_ends_the_thread() {
    check(BOUND, wait_then_close);
}

#[test]
fn a_close_ends_another_threads_wait() {
    check(BOUND, close_with_a_waiter);
}

#[test]
fn a_start_while_the_ring_is_closed_is_done_or_refused() {
    check(BOUND, close_with_a_start);
    // With more, half a minute.
    check(Some(1), close_with_a_starter);
}

#[test]
fn a_wake_while_the_ring_is_closed_uses_no_descriptor_that_is_gone() {
    check(BOUND, close_with_a_wake);
    check(BOUND, close_a_prepared_ring_with_a_wake);
}

#[test]
fn settings_for_the_thread_are_done_or_refused() {
    check(BOUND, close_with_settings);
}

#[test]
fn a_close_has_another_driver_leave() {
    check(BOUND, close_under_a_driver);
}

mistakes! {
    a_driver_that_tells_a_close_before_it_leaves_is_found: TellsBeforeTheChange, BOUND, close_under_a_driver, "deadlock";
    a_background_waiter_that_enlists_behind_the_lock_is_found: EnlistsBehindTheLock, BOUND, wait_then_close, "deadlock";
    a_background_waiter_that_takes_its_round_after_the_look_is_found: RoundAfterTheLook, BOUND, wait_then_close, "deadlock";
    a_close_that_does_not_wake_the_thread_is_found: ClosesWithoutWake, BOUND, wait_then_close, "deadlock";
    a_close_that_does_not_join_the_thread_is_found: DoesntJoin, BOUND, wait_then_close, "closed while its thread runs";
    descriptors_closed_under_a_start_are_found: NoEndOfVisits, BOUND, close_with_a_start, "descriptor that is closed";
    an_event_fd_closed_under_a_wake_is_found: NoEndOfVisits, BOUND, close_a_prepared_ring_with_a_wake, "descriptor that is closed";
}
