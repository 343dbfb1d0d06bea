// SPDX-License-Identifier: MIT OR Apache-2.0
//! The biased lock: one thread at a time, whoever has the bias, and what one leaves the next sees.

use loom::thread;
use std::sync::Arc;

use super::{check, mistakes};
use crate::core::lock::OwnerLock;
use crate::sys::os::{Barrier, thread_id};

type Counter = Arc<OwnerLock<u32>>;

fn counter() -> Counter {
    let counter = Arc::new(OwnerLock::new(0, Barrier::new()));
    OwnerLock::grant(&mut counter.lock(thread_id()), thread_id());
    counter
}

fn add(counter: &Counter) {
    *counter.lock(thread_id()) += 1;
}

/// As the owner does when it drives: it may get its bias back.
fn drive(counter: &Counter) {
    let mut guard = counter.lock(thread_id());
    OwnerLock::settle(&mut guard, thread_id());
    *guard += 1;
}

/// Two calls of each: the owner loses its bias, gets it back, and loses it again.
fn owner_and_another() {
    let counter = counter();
    let other = {
        let counter = counter.clone();
        thread::spawn(move || {
            add(&counter);
            add(&counter);
        })
    };
    drive(&counter);
    drive(&counter);
    other.join().unwrap();
    assert_eq!(*counter.lock(thread_id()), 4);
}

fn owner_and_two_others() {
    let counter = counter();
    let others = [(); 2].map(|()| {
        let counter = counter.clone();
        thread::spawn(move || add(&counter))
    });
    drive(&counter);
    drive(&counter);
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(*counter.lock(thread_id()), 4);
}

#[test]
fn one_at_a_time_is_inside_while_the_bias_comes_and_goes() {
    check(None, owner_and_another);
}

#[test]
fn one_of_three_is_inside() {
    check(Some(3), owner_and_two_others);
}

mistakes! {
    an_owner_without_a_fence_is_found: OwnerHasNoFence, None, owner_and_another, "Concurrent write accesses";
    others_without_a_barrier_are_found: OthersHaveNoBarrier, None, owner_and_another, "Concurrent write accesses";
    others_that_do_not_wait_for_the_owner_are_found: OthersDontWait, None, owner_and_another, "Concurrent write accesses";
}
