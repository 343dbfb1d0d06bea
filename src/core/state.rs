// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the ring's lock guards: the table, the queues on both sides, the counts; and the
//! small steps on them that everything else is made of. No step here enters the kernel to wait.

use std::collections::VecDeque;

use super::background::Background;
use super::chain::LINKS;
use super::deadlines::{self, Deadlines};
use super::files::Files;
use super::inbox::Mail;
use super::lent::Lent;
use super::list::List;
use super::quarantine::Place;
use super::redo::Redos;
use super::room::Room;
use super::starter::Starter;
use super::table::{HostFn, Kind, State as At, Table, marks};
use super::wait::Limit;
use super::{Result, Status};
use crate::sys::{Backend, Cqe, Sqe, os};

/// The ring's life. Starts are taken until Closing; drivers and queues are gone at Closed, what is kept or queued is still served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No thread has driven an OWNER ring yet: nothing has entered the kernel.
    Unbound,
    Open,
    Closing,
    Closed,
}

/// A call that is due to a ready function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) function: HostFn,
    pub(crate) user_data: usize,
    pub(crate) status: i32,
}

/// Counts of what is where, and of what has been.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// I/Os in the overflow queue.
    pub(crate) queued: u32,
    /// Done, wanted, and not delivered.
    pub(crate) done: u32,
    /// What `done` has ever counted.
    pub(crate) announced: u64,
    /// Unwanted and not done.
    pub(crate) unwanted: u32,
    /// Callbacks in the list of those due.
    pub(crate) callbacks: u32,
    /// Completions in the list for reap.
    pub(crate) reapable: u32,
    pub(crate) started: u64,
    pub(crate) finished: u64,
    pub(crate) cancelled: u64,
    pub(crate) dropped: u64,
    pub(crate) detached_failed: u64,
    pub(crate) orphaned: u64,
    pub(crate) enters: u64,
    pub(crate) overflows: u64,
    pub(crate) again: u64,
    pub(crate) resubmits: u64,
    pub(crate) foreign: u64,
    pub(crate) high_queued: u32,
}

/// How long after a cancel that found nothing to ask again.
pub(super) const ASK_AGAIN_NS: u64 = 2_000_000;

/// Worker settings that wait for the ring to be bound.
#[derive(Default)]
pub(super) struct Workers {
    pub(super) limits: Option<[u32; 2]>,
    pub(super) affinity: Option<Vec<u8>>,
}

impl Workers {
    pub(super) fn are_set(&self) -> bool {
        self.limits.is_some() || self.affinity.is_some()
    }
}

/// For hosts that wait in an event loop of theirs.
#[derive(Default)]
pub(super) struct InLoop {
    pub(super) event_fd_registered: bool,
    /// When the event loop's timer is set for; 0 = not set.
    pub(super) timer_at: u64,
    pub(super) timer_spec: [i64; 2],
}

pub(super) struct State<B: Backend> {
    #[cfg(debug_assertions)]
    pub(super) watch: super::watch::Watch,
    /// Gone when closed.
    pub(super) backend: Option<B>,
    /// For what a close can't wait for.
    pub(super) place: Option<Place>,
    pub(super) table: Table,
    /// A SHARED ring's entries, by slot: what the exit of the thread that submitted it cancels is submitted again.
    pub(super) again: Vec<Sqe>,
    /// Entries that found the submission queue full, in order; chains of events never overtake them.
    pub(super) overflow: VecDeque<Sqe>,
    /// Done, or with events, and due: to callbacks, to reap, to nobody.
    pub(super) callbacks: List,
    pub(super) reapable: List,
    pub(super) trash: List,
    pub(super) ready: VecDeque<Ready>,
    pub(super) posts: VecDeque<(HostFn, usize)>,
    pub(super) mail: Mail,
    /// A completion for which memory was short: taken up first next time.
    pub(super) stalled: Option<Cqe>,
    pub(super) deadlines: Deadlines,
    pub(super) phase: Phase,
    /// The thread in a driver's call, or 0.
    pub(super) driver: usize,
    pub(super) starter: Starter,
    /// `Counts::announced` when the last run ended.
    pub(super) told: u64,
    /// Something may be in `callbacks`, `ready` or `trash`, or a close may be asked for: the next delivery looks.
    pub(super) attention: bool,
    /// The slot that a running terminal callback has freed and may take again.
    pub(super) held_back: u32,
    /// The buffer lent to the running callback.
    pub(super) lent: *const Lent,
    /// The kernel has said that it lost completions.
    pub(super) lost: bool,
    /// A cancel has not found what it was for, which may be in flight all the same.
    pub(super) missed: bool,
    /// There have been timeouts of the kernel's: one ends a wait before its completion is there.
    pub(super) timeouts: bool,
    /// The driver is the one that closes.
    pub(super) closer_drives: bool,
    /// A close asked for within a callback.
    pub(super) close_request: Option<Limit>,
    /// Members of chains that were finished in the running session, in place of the entry that it looked at.
    pub(super) released: u32,
    pub(super) room: Room,
    pub(super) workers: Workers,
    pub(super) files: Files,
    pub(super) redos: Redos,
    pub(super) background: Background,
    pub(super) event_fd: Option<std::os::fd::OwnedFd>,
    pub(super) in_loop: InLoop,
    /// Coarse milliseconds since the ring's open, as of the last wait.
    pub(super) clock_ms: u32,
    pub(super) opened: u64,
    pub(super) counts: Counts,
}

// SAFETY: `lent` is used by the driver's thread alone, while its callback runs.
unsafe impl<B: Backend> Send for State<B> {}

impl<B: Backend> State<B> {
    pub(super) fn new(backend: B, table: Table, phase: Phase, place: Place) -> Self {
        Self {
            #[cfg(debug_assertions)]
            watch: super::watch::Watch::default(),
            backend: Some(backend),
            place: Some(place),
            table,
            again: Vec::new(),
            overflow: VecDeque::new(),
            callbacks: List::EMPTY,
            reapable: List::EMPTY,
            trash: List::EMPTY,
            ready: VecDeque::new(),
            posts: VecDeque::new(),
            mail: Mail::default(),
            stalled: None,
            deadlines: Deadlines::default(),
            phase,
            driver: 0,
            starter: Starter::default(),
            told: 0,
            attention: false,
            held_back: 0,
            lent: std::ptr::null(),
            lost: false,
            missed: false,
            timeouts: false,
            closer_drives: false,
            close_request: None,
            released: 0,
            room: Room::default(),
            workers: Workers::default(),
            files: Files::default(),
            redos: Redos::default(),
            background: Background::default(),
            event_fd: None,
            in_loop: InLoop::default(),
            clock_ms: 0,
            opened: os::now_coarse(),
            counts: Counts::default(),
        }
    }

    /// The backend of a ring that is not closed.
    #[inline]
    pub(super) fn backend(&mut self) -> Result<&mut B> {
        self.backend.as_mut().ok_or(Status::CLOSED)
    }

    /// Starts and changes are taken.
    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        if matches!(self.phase, Phase::Open | Phase::Unbound) { Ok(()) } else { Err(Status::CLOSED) }
    }

    /// The next completion entry: the one that memory was short for, or the queue's oldest.
    #[inline]
    pub(super) fn next_cqe(&mut self) -> Option<Cqe> {
        if self.stalled.is_some() {
            return self.stalled.take();
        }
        let next = self.backend.as_mut().and_then(B::next);
        #[cfg(debug_assertions)]
        if let Some(cqe) = next {
            self.watch.end(cqe);
        }
        next
    }

    /// Make sure that `enqueue` can't fail.
    #[inline(always)]
    pub(super) fn reserve_entry(&mut self) -> Result<()> {
        if self.overflow.is_empty() && self.backend()?.has_room() { Ok(()) } else { self.reserve_overflow(1) }
    }

    #[cold]
    pub(super) fn reserve_overflow(&mut self, count: usize) -> Result<()> {
        // Letters in the inbox, and those to come, have found their room before.
        Ok(self.overflow.try_reserve(count + self.table.reserved() as usize)?)
    }

    /// Queue an entry for the kernel, in order; → whether it has to wait for room. `reserve_entry` came before.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, sqe: &Sqe) -> bool {
        if let (Some(backend), true) = (&mut self.backend, self.overflow.is_empty()) {
            if backend.has_room() {
                // SAFETY: the table keeps what an I/O's entry points to until its last completion, or hands it to the
                // quarantine; the ring's own entries point to fields of the ring.
                unsafe { backend.push(sqe) };
                return false;
            }
        }
        self.overflow.push_back(*sqe);
        true
    }

    /// Move waiting entries into the submission queue as far as there is room.
    #[inline]
    pub(super) fn refill(&mut self) {
        if !self.overflow.is_empty() {
            self.refill_slowly();
        }
    }

    #[cold]
    fn refill_slowly(&mut self) {
        let Some(backend) = &mut self.backend else { return };
        // A chain goes as a whole.
        let linked = |sqe: &&Sqe| sqe.flags & LINKS != 0;
        while backend.room() as usize > self.overflow.iter().take_while(linked).count() {
            for _ in 0..=self.overflow.iter().take_while(linked).count() {
                let Some(sqe) = self.overflow.pop_front() else { break };
                if let Ok((_, io)) = self.table.find(sqe.user_data) {
                    io.state = At::Kernel;
                    self.counts.queued -= 1;
                }
                // SAFETY: as in `enqueue`.
                unsafe { backend.push(&sqe) };
            }
            if self.overflow.is_empty() {
                break;
            }
        }
        if self.overflow.is_empty() && self.overflow.capacity() > 1024 && self.table.reserved() == 0 {
            self.overflow = VecDeque::new();
        }
    }

    /// An entry of the ring's own.
    pub(super) fn enqueue_own(&mut self, kind: Kind, sqe: Sqe) -> Result<()> {
        self.reserve_entry()?;
        self.enqueue(&Sqe { user_data: kind as u64, ..sqe });
        Ok(())
    }

    pub(super) fn clock_now(&self) -> u32 {
        (os::now_coarse().saturating_sub(self.opened) / 1_000_000) as u32
    }

    /// Completions that process or reap would deliver, and kept ones.
    #[inline]
    pub(super) fn deliverable(&self) -> u32 {
        self.counts.done
    }

    /// Accepted, wanted or not, and not done.
    pub(super) fn unfinished(&self) -> u64 {
        self.counts.started - self.counts.finished
    }

    /// Something is due that a process would hand out.
    #[inline]
    pub(super) fn has_due(&self) -> bool {
        !self.callbacks.is_empty() || !self.ready.is_empty() || !self.trash.is_empty() || self.has_call()
    }

    /// Something to process or reap; kept completions are taken by handle, whenever the host likes.
    pub(super) fn has_work(&self) -> bool {
        self.has_due() || self.counts.reapable > 0
    }

    pub(super) fn set_deadline(&mut self, slot: u32, at: Option<u64>) {
        let Self { deadlines, table, .. } = self;
        let place = table.get(slot).map_or(deadlines::NONE, |io| io.deadline);
        let mut moved = |slot, place| {
            if let Some(io) = table.get(slot) {
                io.deadline = place;
                let marked = if place == deadlines::NONE { 0 } else { marks::DEADLINE };
                io.marks = io.marks & !marks::DEADLINE | marked;
            }
        };
        if place != deadlines::NONE {
            deadlines.remove(place, &mut moved);
        }
        if let Some(at) = at {
            deadlines.insert(at, slot, &mut moved);
        }
    }

    /// Cancel the I/Os whose time is over; → whether there were any. What escapes (a request that is just being retried or
    /// begun can't be found) is asked again a little later.
    pub(super) fn expire(&mut self) -> bool {
        let now = os::now();
        let mut any = false;
        while let Some(slot) = self.deadlines.expired(now) {
            any = true;
            self.set_deadline(slot, Some(now + ASK_AGAIN_NS));
            if let Some(io) = self.table.get(slot) {
                // One that was cancelled already is here to be asked again.
                io.marks |= if io.is(marks::CANCELLED) { 0 } else { marks::TIMED_OUT };
            }
            if self.expire_chain(slot).and_then(|()| self.ask_cancel(slot)).is_err() {
                break;
            }
        }
        any
    }

    /// Cancel an I/O now, and again until it ends.
    pub(super) fn insist_on_cancel(&mut self, slot: u32) {
        // Without memory for either it runs to its own end.
        let _ = self.ask_cancel(slot);
        if self.deadlines.reserve(1).is_ok() {
            self.set_deadline(slot, Some(os::now() + ASK_AGAIN_NS));
        }
    }

    /// Free the slots of dropped I/Os that still stand in a list.
    #[cold]
    pub(super) fn sweep(&mut self) {
        self.counts.callbacks = self.sweep_list(|state| &mut state.callbacks);
        self.counts.reapable = self.sweep_list(|state| &mut state.reapable);
    }

    fn sweep_list(&mut self, list: fn(&mut Self) -> &mut List) -> u32 {
        let mut rest = std::mem::replace(list(self), List::EMPTY);
        let mut kept = List::EMPTY;
        let mut count = 0;
        while let Some(slot) = self.table.pop(&mut rest) {
            if self.table.get(slot).is_some_and(|io| io.is(marks::DROPPED)) {
                self.remove_husk(slot);
            } else {
                self.table.push(&mut kept, slot);
                count += 1;
            }
        }
        *list(self) = kept;
        count
    }
}
