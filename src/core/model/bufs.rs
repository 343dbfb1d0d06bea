// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's buffers: adopted memory of which the world is told when it is released. No address is used twice.

use std::cell::Cell;
use std::ptr::NonNull;

use super::step::What;
use crate::core::buf::Owner;
use crate::core::ring::Ring;
use crate::core::{Buf, BufRef};
use crate::sys::fake::{Fake, Shared};
use crate::sys::os;

pub(super) const LEN: usize = 256;
const MOST: usize = 64;

thread_local! {
    /// The ring that release functions look at.
    static RING: Cell<*const Ring<Fake>> = const { Cell::new(std::ptr::null()) };
}

/// The ring under test, from now on; it stays where it is until null comes.
pub(super) fn watch(ring: *const Ring<Fake>) {
    RING.set(ring);
}

/// What must not be when the kernel waits.
pub(super) fn at_wait(without_end: bool) -> Option<&'static str> {
    let ring = RING.get();
    if ring.is_null() {
        return None;
    }
    // SAFETY: `watch` is told before the ring goes.
    let ring = unsafe { &*ring };
    if ring.is_locked() {
        return Some("the lock is held in a wait");
    }
    let state = ring.lock(os::thread_id());
    let lost = without_end && !state.lost && state.unfinished() > 0;
    lost.then_some("an I/O is unfinished, and the kernel has nothing to do")
}

/// The owner of an adopted buffer.
struct Adopted {
    world: Shared,
    address: usize,
}

impl Owner for Adopted {}

impl Drop for Adopted {
    fn drop(&mut self) {
        let ring = RING.get();
        // SAFETY: `watch` is told before the ring goes.
        let locked = !ring.is_null() && unsafe { (*ring).is_locked() };
        {
            let mut world = self.world.lock();
            world.give_back(self.address);
            if locked {
                world.around.wrongs.push("a release function runs under the ring's lock".into());
            }
        }
        if !ring.is_null() && !locked && self.address / LEN % 4 == 0 {
            // It may call the ring, too.
            // SAFETY: as above.
            let _ = unsafe { (*ring).ready() };
        }
    }
}

pub(super) struct Bufs {
    world: Shared,
    memory: Vec<u8>,
    /// The host's references; `None`: released, or given to an I/O.
    held: Vec<Option<BufRef>>,
    /// What callbacks have kept.
    pub(super) more: Vec<BufRef>,
}

impl Bufs {
    pub(super) fn new(world: Shared) -> Self {
        Self { world, memory: vec![0; LEN * (MOST + 1)], held: Vec::new(), more: Vec::new() }
    }

    pub(super) fn get(&self, held: usize) -> Option<NonNull<Buf>> {
        self.held[held].as_deref().map(NonNull::from)
    }

    /// A buffer for an operation: one of the host's, or one made for it.
    pub(super) fn choose(&mut self, what: What, pick: u8) -> (Option<usize>, Option<BufRef>) {
        let needs = !matches!(
            what,
            What::Nop
                | What::Bad
                | What::PollMulti
                | What::AcceptMulti
                | What::Accept
                | What::Open
                | What::Timeout
                | What::CloseFd
        );
        let Some(held) = needs.then(|| self.one(pick)).flatten() else { return (None, None) };
        let made = match what {
            What::ReadSlice => self.held[held].as_deref().map(|whole| Buf::slice(whole, 64, 128)),
            What::ReadList => {
                let other = self.one(pick.wrapping_add(1)).unwrap_or(held);
                Some(Buf::list(&[self.held[held].as_deref(), self.held[other].as_deref()]))
            }
            _ => return (Some(held), None),
        };
        (None, made.and_then(Result::ok))
    }

    /// As `choose`, as a reference that goes again.
    pub(super) fn reference(&mut self, what: What, pick: u8) -> Option<BufRef> {
        let (held, made) = self.choose(what, pick);
        made.or_else(|| Some(self.held[held?].as_ref()?.retain()))
    }

    fn one(&mut self, pick: u8) -> Option<usize> {
        let held: Vec<usize> = (0..self.held.len()).filter(|at| self.held[*at].is_some()).collect();
        let at = usize::from(pick) % (held.len() + 1);
        if at < held.len() { Some(held[at]) } else { self.adopt().or(held.first().copied()) }
    }

    fn adopt(&mut self) -> Option<usize> {
        let next = self.held.len();
        if next == MOST {
            return None;
        }
        let start = self.memory.as_mut_ptr();
        let data = start.wrapping_add(start.align_offset(LEN) + next * LEN);
        self.world.lock().own(data as usize, LEN);
        let owner = Adopted { world: self.world.clone(), address: data as usize };
        self.held.push(Buf::adopt(data, LEN, Some(owner)).ok());
        Some(next)
    }

    /// An I/O has taken the host's reference.
    pub(super) fn give(&mut self, held: usize) {
        self.held[held].take().map(BufRef::into_raw);
    }

    pub(super) fn take_back(&mut self, held: usize, buf: BufRef) {
        self.held[held] = Some(buf);
    }

    pub(super) fn release(&mut self, pick: u8) {
        self.more.pop();
        let held: Vec<usize> = (0..self.held.len()).filter(|at| self.held[*at].is_some()).collect();
        if !held.is_empty() {
            self.held[held[usize::from(pick) % held.len()]] = None;
        }
    }

    /// The host gives up all that it has; → references it was the only one to hold are none.
    pub(super) fn release_all(&mut self) {
        self.more.clear();
        for held in &mut self.held {
            *held = None;
        }
    }

    /// Buffers that more than the host's own references hold.
    pub(super) fn shared(&self) -> usize {
        let more = |buf: &BufRef| self.more.iter().filter(|other| other.as_ptr() == buf.as_ptr()).count() as u32;
        self.held.iter().flatten().filter(|buf| buf.refs() != 1 + more(buf)).count()
    }
}
