// SPDX-License-Identifier: MIT OR Apache-2.0
//! Model checks: the library's own protocols between threads, in all orders that threads and memory may take.
//!
//! loom runs each scenario again and again, each time with another choice at one of the steps that other threads can tell:
//! who runs next, and which of several stores a load sees. A data race, a sleep that nobody ends and a failed assertion
//! are found; so must be each of the mistakes that `sys::checked` knows, in the scenario that is about it. What runs is
//! the code of `core`, on a kernel of a few steps (`sys::tiny`).
//!
//! Where those are too many to try all, orders with as many preemptions as the test says are tried (switches away from a thread
//! that could go on; those at a sleep, a lock or a yield come on top).

mod background;
mod event_loop;
mod letters;
mod lock;
mod starts;
mod turns;
mod wakes;

use std::process::Command;
use std::sync::Arc;

use super::op::{Form, Template};
use super::open::{Mode, Options};
use super::ring::Ring;
use super::start::{Extras, Start};
use super::table::To;
use super::{Result, Status};
use crate::sys::checked::{Mistake, seed};
use crate::sys::entry::op;
use crate::sys::tiny::{Kernel, Tiny};

type Scenario = fn();

/// How many preemptions are tried; `None`: as many as there are.
type Bound = Option<usize>;

std::thread_local! {
    static TRIED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn check(bound: Bound, scenario: Scenario) {
    let mut all = loom::model::Builder::new();
    all.max_branches = 100_000;
    all.preemption_bound = bound;
    TRIED.set(0);
    let began = std::time::Instant::now();
    all.check(move || {
        TRIED.set(TRIED.get() + 1);
        scenario();
        Kernel::halt();
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("{name}: {} orders, {:.1} s", TRIED.get(), began.elapsed().as_secs_f64());
}

/// Tests that a scenario fails with a mistake, in which words. (That it doesn't without is another test.)
macro_rules! mistakes {
    ($($test:ident: $mistake:ident, $bound:expr, $scenario:ident, $words:literal;)*) => { $(
        #[test]
        fn $test() {
            let test = concat!(module_path!(), "::", stringify!($test));
            super::finds(test, $crate::sys::checked::Mistake::$mistake, $bound, $scenario, $words);
        }
    )* };
}
use mistakes;

/// Set in the process that makes the mistake: what loom's panic unwinds can end a process.
const CHILD: &str = "PALURING_MAKES_A_MISTAKE";

fn finds(test: &str, mistake: Mistake, bound: Bound, scenario: Scenario, words: &str) {
    if std::env::var_os(CHILD).is_some() {
        seed(mistake);
        return check(bound, scenario);
    }
    // Without the crate's name.
    let test = test.split_once("::").unwrap().1;
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success(), "{mistake:?} is not found:\n{told}");
    assert!(told.contains(words), "{mistake:?} fails in another way:\n{told}");
}

/// A word for each thread; nobody is told of a thread's exit here.
fn plain_key() -> Result<u32> {
    let mut key = 0;
    // SAFETY: key is writable; there is no destructor.
    let failed = unsafe { libc::pthread_key_create(&raw mut key, None) };
    if failed == 0 { Ok(key) } else { Err(Status::ENOMEM) }
}

/// A ring, and its kernel.
fn open(mode: Mode) -> (Arc<Ring<Tiny>>, Arc<Kernel>) {
    let kernel = Kernel::boot();
    let options = Options {
        mode,
        entries: 4,
        cq_entries: 8,
        max_in_flight: 4,
        max_files: 1,
        iowait: false,
        background_cpu: None,
        sqpoll: false,
        iopoll: false,
        attach: false,
    };
    super::seat::watch(plain_key).unwrap();
    (Arc::from(Ring::<Tiny>::open(&options).unwrap()), kernel)
}

fn template(opcode: u8) -> Template {
    Template::new(opcode, -1, Form::Plain)
}

/// Start an I/O that is complete as soon as the kernel takes it (NOP), or when the test says so (READ).
fn start(ring: &Ring<Tiny>, opcode: u8, to: To) -> Result<u64> {
    let template = template(opcode);
    let mut io = 0;
    let start = Start { template: &template, to, callback: None, user_data: 0 };
    // SAFETY: there is no buffer.
    unsafe { ring.start(&start, Extras::default(), &mut io) }.map(|()| io)
}

fn start_nop(ring: &Ring<Tiny>) {
    start(ring, op::NOP, To::Queue).unwrap();
}
