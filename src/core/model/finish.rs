// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a sequence: everything completes, is told of once, and is let go of once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::host::Host;
use super::io::One;
use super::step::{Step, Wait};
use crate::core::open::Mode;
use crate::core::table::To;
use crate::core::{Status, quarantine};
use crate::sys::os;

/// How long a thread may take to release a buffer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A buffer was not released in all that time: the search for a shorter sequence need not wait again.
static GAVE_UP: AtomicBool = AtomicBool::new(false);

impl Host<'_> {
    pub(super) fn finish(&mut self) {
        self.kernel(|kernel| {
            kernel.faults.clear();
            kernel.plan.refused_registers = 0;
        });
        if !self.closed && !self.lost && !self.case.released {
            self.come_to_rest();
        }
        if !self.closed {
            if self.case.released { self.release_last() } else { self.close(Wait::Ns(1_000)) }
        }
        self.check();
        self.take_the_rest();
        self.check();
        self.check_end();
        self.let_go();
    }

    /// Cancel all and drain: nothing is in flight then, and nobody but the host has its buffers.
    fn come_to_rest(&mut self) {
        self.check_unwanted();
        self.cancel_all();
        self.drive(Step::Drain(Wait::Never));
        if self.closed {
            return;
        }
        self.check();
        self.take_the_rest();
        self.check_room();
        if self.closed {
            return;
        }
        self.bufs.more.clear();
        let (owed, stats) = (self.ios.iter().filter(|one| one.is_owed()).count(), self.ring.stats());
        if owed > 0 || stats.queued + stats.waiting + stats.completed + stats.dropped > 0 {
            self.wrong(format!("{owed} I/Os are owed after a drain; the stats say {:?}", stats.counts));
        }
        if self.bufs.shared() > 0 {
            self.wrong("buffers are held after a drain");
        }
        let at_work = self.kernel(|kernel| kernel.workable().len());
        if at_work > 0 {
            self.wrong(format!("the kernel has {at_work} requests after a drain"));
        }
    }

    /// Nobody asked for the end of these, wanted or not: what a thread's exit had cancelled has been submitted again.
    fn check_unwanted(&self) {
        let unasked = |one: &&One| !one.asked && one.earliest.is_none() && one.chain.is_none() && !one.is_owed();
        let dropped = |one: &&One| one.dropped && one.is_multishot();
        for one in self.ios.iter().filter(|one| self.case.mode == Mode::Shared && unasked(one) && !dropped(one)) {
            let log = self.log(one.handle);
            let waits = self.ring.lock(os::thread_id()).overflow.iter().any(|sqe| sqe.user_data == one.handle);
            if !waits && log.read_last && log.noted.or(log.last).is_some_and(|cqe| cqe.result == -libc::ECANCELED) {
                self.wrong(format!("{one:?} was cancelled by nobody"));
            }
        }
    }

    /// A driver tells of the room that there is now; what is started there ends, too.
    fn check_room(&mut self) {
        self.drive(Step::Process(0));
        self.drive(Step::Drain(Wait::Never));
        if !self.closed {
            if self.room.then.is_some() && self.room.wanted {
                self.wrong("room has returned, and nobody was told");
            }
            self.check_posts();
            self.take_the_rest();
        }
    }

    /// The last handle is given up: that closes, whatever is in flight.
    fn release_last(&mut self) {
        self.closing = true;
        match self.ring.close_last() {
            Ok(session) => {
                if let Err(status) = self.session(session) {
                    self.wrong(format!("the last release says {status:?}"));
                }
            }
            Err(status) => self.wrong(format!("the last release says {status:?}")),
        }
        self.closed = true;
    }

    /// Take what is kept and queued.
    fn take_the_rest(&mut self) {
        for io in 0..self.ios.len() {
            while self.ios[io].to == To::Kept && self.ios[io].is_owed() {
                let before = self.ios[io].events;
                self.poll(io, None);
                if self.ios[io].is_owed() && self.ios[io].events == before {
                    self.wrong(format!("{:?} is kept, and nothing comes", self.ios[io]));
                    break;
                }
            }
        }
        loop {
            let mut all = Vec::new();
            let result = self.ring.reap(0, Wait::No.limit(), 8, |told| all.push(told));
            let came = !all.is_empty();
            for told in all {
                self.took(To::Queue, told);
            }
            if !came {
                if result != Ok(0) && !(self.closed && result == Err(Status::CLOSED)) {
                    self.wrong(format!("reap says {result:?}"));
                }
                return;
            }
        }
    }

    fn check_end(&mut self) {
        self.check_posts();
        self.check_chains();
        let owed: Vec<String> = self.ios.iter().filter(|one| one.is_owed()).map(|one| format!("{one:?}")).collect();
        if !owed.is_empty() {
            self.wrong(format!("never told of {owed:?}"));
        }
        let calls: Vec<u32> = self.asking.iter().map(|asking| asking.calls).filter(|calls| *calls != 1).collect();
        if !calls.is_empty() {
            self.wrong(format!("ready functions were called {calls:?} times"));
        }
        let stats = self.ring.stats();
        if stats.queued + stats.waiting + stats.completed + stats.dropped > 0 {
            self.wrong(format!("something is left in a closed ring: {:?}", stats.counts));
        }
        self.ring
            .poll(1 << 20, None)
            .err()
            .filter(|status| *status == Status::CLOSED)
            .map_or_else(|| self.wrong("a closed ring with nothing left is not CLOSED"), drop);
    }

    /// The host gives up its buffers, and what a close left to the kernel ends: then every buffer has been released.
    fn let_go(&mut self) {
        self.bufs.release_all();
        self.world.lock().end_orphans();
        quarantine::collect();
        // Another test's thread may have found them first, and be releasing them now.
        let began = Instant::now();
        while !GAVE_UP.load(Relaxed) && self.world.lock().around.memory.live() > 0 {
            GAVE_UP.store(began.elapsed() > PATIENCE, Relaxed);
            std::thread::yield_now();
        }
        let mut world = self.world.lock();
        let around = &mut world.around;
        let (memory, files) = (around.memory.live(), around.files.leaked());
        if memory + files > 0 {
            around.wrongs.push(format!("{memory} buffers were never released, {files} descriptors never closed"));
        }
    }
}
