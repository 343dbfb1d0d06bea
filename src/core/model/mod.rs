// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random orders of everything, against a model of what the host may expect.
//!
//! A `Case` is a ring and a list of steps: calls of the host, and what the kernel does meanwhile. `Host` makes the calls,
//! is called back, and notes what it is told; the kernel is `sys::fake`, which knows what it may still touch. What must
//! not be is collected in the world's `wrongs` and looked at after each step:
//!
//! - each accepted I/O is told of to its end once, its events in order; a dropped or detached one never again;
//! - a buffer is released once, and not before the kernel's last completion of each I/O that uses it;
//! - a handle that is over names nothing; a call that fails has taken nothing;
//! - the counts add up; after a drain or close nothing is in flight; nothing is lost in an overflow.
//!
//! A failure prints the seed and the shortest sequence that fails. `PALURING_MODEL_SEED=n` repeats it,
//! `PALURING_MODEL_CASES=n` sets how many sequences each test tries; `PALURING_MODEL_TRACE=1` tells what goes on in each,
//! for a sequence that has been put into `regressions`.

mod bufs;
mod calls;
mod chain;
mod check;
mod drive;
mod finish;
mod function;
mod host;
mod io;
mod regressions;
mod step;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::Status;
use super::open::{Mode, Options};
use super::ring::Ring;
use crate::sys::fake::{Fake, World};
use host::Host;
use step::Case;

/// Sequences of each test, unless asked otherwise.
const CASES: u64 = 6_000;

/// Sequences that share a seed.
const BATCH: u64 = 100;

#[test]
fn random_orders_on_an_owner_ring() {
    explore("random_orders_on_an_owner_ring", Mode::Owner);
}

#[test]
fn random_orders_on_a_shared_ring() {
    explore("random_orders_on_a_shared_ring", Mode::Shared);
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn explore(test: &str, mode: Mode) {
    let first = asked("PALURING_MODEL_SEED").unwrap_or(1);
    let cases = asked("PALURING_MODEL_CASES").unwrap_or(CASES);
    for seed in first..first + cases.div_ceil(BATCH) {
        let config =
            Config { cases: BATCH as u32, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        match runner.run(&step::case(mode), |case| run(&case).map_err(TestCaseError::fail)) {
            Ok(()) => {}
            Err(TestError::Fail(why, case)) => panic!(
                "{why}\n{case:?}\nRepeat: PALURING_MODEL_SEED={seed} PALURING_MODEL_CASES={BATCH} cargo test --lib {test}"
            ),
            Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
        }
    }
}

/// A word for each thread; nobody is told of a thread's exit here.
fn plain_key() -> super::Result<u32> {
    let mut key = 0;
    // SAFETY: key is writable; there is no destructor.
    let failed = unsafe { libc::pthread_key_create(&raw mut key, None) };
    if failed == 0 { Ok(key) } else { Err(Status::ENOMEM) }
}

/// Run a sequence; → what was wrong.
fn run(case: &Case) -> Result<(), String> {
    let world = World::enter(case.seed);
    world.lock().next = case.plan;
    world.lock().around.at_wait = Some(bufs::at_wait);
    world.lock().around.traces = asked("PALURING_MODEL_TRACE").is_some();
    let options = Options {
        mode: case.mode,
        entries: case.entries,
        cq_entries: case.cq_entries,
        max_in_flight: case.max_in_flight,
        max_files: 1,
        iowait: false,
        background_cpu: None,
        sqpoll: false,
        iopoll: false,
        attach: false,
    };
    super::seat::watch(plain_key).map_err(|status| format!("no key: {status:?}"))?;
    let ring = Ring::<Fake>::open(&options).map_err(|status| format!("open says {status:?}"))?;
    bufs::watch(&raw const *ring);
    let mut result = Ok(());
    {
        let mut host = Host::new(&ring, world.clone(), case.clone());
        for (number, step) in case.steps.iter().enumerate() {
            {
                let mut world = world.lock();
                world.around.trace(|| format!("{step:?}"));
                world.around.looks = 0;
            }
            host.step(*step);
            host.check();
            result = host.verdict(&format!("step {number}, {step:?}"));
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            host.finish();
            result = host.verdict("the end");
        } else {
            host.give_up();
        }
    }
    bufs::watch(std::ptr::null());
    drop(ring);
    World::leave();
    result
}
