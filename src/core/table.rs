// SPDX-License-Identifier: MIT OR Apache-2.0
//! The I/Os in flight: what the ring knows of each from its start until its terminal completion is handed out.
//!
//! A handle is 20 bits of slot and 44 bits of generation, and the same value is the entry's user_data. The
//! generation counts the ring's starts from a random seed, so a handle of an older I/O, or of another ring, fits no slot.
//! Entries of the library's own have generation 0, which no I/O has, and say in the slot bits what they are (`Kind`).

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

use slab::Slab;

use super::alloc::{probe, try_vec};
use super::buf::BufRef;
use super::chain::Link;
use super::deadlines;
use super::storage::Storage;
use super::{Result, Status};
use crate::sys::Cqe;
use crate::sys::os::close_unwanted;

pub(super) const SLOT_BITS: u32 = 20;
pub(super) const SLOTS: u32 = 1 << SLOT_BITS;
const SLOT_MASK: u64 = SLOTS as u64 - 1;

/// The ring's own entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    /// A message, or the poll of the wake eventfd.
    Wake = 1,
    Cancel = 2,
    /// The event loop's timer, and changes of it.
    Timer = 3,
    TimerUpdate = 4,
    /// In place of an entry that must not run.
    Severed = 5,
}

pub(super) const fn generation_of(handle: u64) -> u64 {
    handle >> SLOT_BITS
}

pub(super) const fn slot_of(handle: u64) -> usize {
    (handle & SLOT_MASK) as usize
}

/// A function of the host's: the core keeps it and hands it back, and never calls it.
pub(crate) type HostFn = NonZeroUsize;

/// What became of an I/O, laid out as the host gets it.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) io: u64,
    pub(crate) user_data: usize,
    pub(crate) buf: Option<BufRef>,
    pub(crate) extra: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
    pub(crate) opcode: u32,
    pub(crate) reserved0: u32,
    pub(crate) reserved: [u64; 2],
}

/// In `reserved0`, inside the library: the result is a descriptor.
pub(super) const HOLDS_DESCRIPTOR: u32 = 1;

impl Completion {
    /// Nobody takes it: a descriptor in it is closed.
    pub(crate) fn discard(self) {
        if self.result >= 0 && self.reserved0 & HOLDS_DESCRIPTOR != 0 {
            close_unwanted(self.result);
        }
    }
}

/// Flags of a completion, in the surface's values.
pub(crate) mod completion_flags {
    pub(crate) const MORE: u32 = 1;
    pub(crate) const SOCK_NONEMPTY: u32 = 2;
    pub(crate) const TIMED_OUT: u32 = 4;
    pub(crate) const CANCELLED: u32 = 8;
}

impl std::fmt::Debug for BufRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BufRef")
    }
}

/// Who gets the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Callback,
    Kept,
    Queue,
    Nobody,
}

/// Where an I/O stands.
///
/// | state | entry is in | leaves by |
/// |---|---|---|
/// | Queued | the overflow queue | room in the submission queue, or a cancel |
/// | Kernel | the submission queue or the kernel | its last completion, or an orphaning close |
/// | Held | neither: its chain's earlier members come first | their end |
/// | Done | neither: the result is known | delivery |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    Kernel,
    Held,
    Done,
}

pub(super) mod marks {
    /// The result is unwanted.
    pub(crate) const DROPPED: u8 = 1;
    /// A cancel has been asked for.
    pub(crate) const CANCELLED: u8 = 2;
    pub(crate) const TIMED_OUT: u8 = 4;
    /// The buffer goes back with the completion.
    pub(crate) const MOVED: u8 = 8;
    /// The result, if it is one, is a descriptor of the process.
    pub(crate) const DESCRIPTOR: u8 = 16;
    /// In a list of things to hand out.
    pub(crate) const LISTED: u8 = 32;
    /// May complete several times.
    pub(crate) const MULTISHOT: u8 = 64;
    /// Has a `Side`.
    pub(crate) const SIDE: u8 = 128;
}

/// What starting and completing a plain I/O touches: one cache line.
#[repr(C)]
pub(super) struct Io {
    pub(super) handle: u64,
    pub(super) user_data: usize,
    /// The callback; of a kept I/O, the ready function.
    pub(super) notify: Option<HostFn>,
    pub(super) buf: Option<BufRef>,
    pub(super) to: To,
    pub(super) state: State,
    pub(super) marks: u8,
    pub(super) opcode: u8,
    pub(super) fd: i32,
    pub(super) deadline: u32,
    /// Milliseconds of the ring's clock at the start.
    pub(super) started_ms: u32,
    pub(super) result: i32,
    pub(super) flags: u32,
    /// The next in its list.
    pub(super) next: u32,
}

const _: () = assert!(size_of::<Io>() <= 64);

/// What few I/Os need besides.
#[derive(Default)]
pub(super) struct Side {
    pub(super) storage: Option<Storage>,
    /// The ready function's.
    pub(super) notify_data: usize,
    pub(super) extra: u64,
    /// The enter before which the last cancel was asked for.
    pub(super) cancel_enter: u32,
    pub(super) link: Option<Link>,
    /// Results of a multishot that wait to be taken, oldest first.
    pub(super) events: VecDeque<Cqe>,
}

/// An I/O that has left the table.
pub(super) struct Gone {
    pub(super) io: Io,
    pub(super) side: Option<Side>,
}

impl Io {
    #[inline]
    pub(super) fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// Whether nobody wants what comes.
    #[inline]
    pub(super) fn is_unwanted(&self) -> bool {
        self.is(marks::DROPPED) || self.to == To::Nobody
    }

    /// Whether letting go of it may run functions of the host, or close a descriptor.
    pub(super) fn holds_nothing(&self) -> bool {
        self.buf.is_none() && self.descriptor(self.result).is_none()
    }

    /// Nothing about it is special: it goes to its callback with its next completion, which is its last.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.marks == 0 && self.to == To::Callback && self.state == State::Kernel && self.deadline == deadlines::NONE
    }

    /// The descriptor that a result is.
    pub(super) fn descriptor(&self, result: i32) -> Option<i32> {
        (result >= 0 && self.is(marks::DESCRIPTOR)).then_some(result)
    }
}

pub(super) const NO_SLOT: u32 = u32::MAX;

/// I/Os in order, chained through the table.
#[derive(Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NO_SLOT, last: NO_SLOT };

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NO_SLOT).then_some(self.first)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first == NO_SLOT
    }
}

pub(super) struct Table {
    slab: Slab<Io>,
    /// By slot; there only for I/Os with the SIDE mark.
    sides: Vec<MaybeUninit<Side>>,
    capacity: u32,
    generation: u64,
}

impl Table {
    pub(super) fn new(capacity: u32, seed: u64) -> Result<Self> {
        let mut sides = try_vec(capacity as usize)?;
        sides.resize_with(capacity as usize, MaybeUninit::uninit);
        probe(capacity as usize * size_of::<Io>())?;
        Ok(Self { slab: Slab::with_capacity(capacity as usize), sides, capacity, generation: seed >> SLOT_BITS })
    }

    /// In place of one that is taken away.
    pub(super) fn empty() -> Self {
        Self { slab: Slab::new(), sides: Vec::new(), capacity: 0, generation: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.slab.len() as u32
    }

    #[inline]
    pub(super) fn free(&self) -> u32 {
        self.capacity - self.len()
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Give `io` a slot and its handle; the caller has seen that there is room.
    #[inline(always)]
    pub(super) fn insert(&mut self, mut io: Io) -> (u32, u64) {
        self.generation = (self.generation + 1) & (u64::MAX >> SLOT_BITS);
        if self.generation == 0 {
            self.generation = 1;
        }
        let vacant = self.slab.vacant_entry();
        let slot = vacant.key() as u32;
        let handle = self.generation << SLOT_BITS | u64::from(slot);
        io.handle = handle;
        vacant.insert(io);
        (slot, handle)
    }

    /// The I/O that a handle or a completion names.
    #[inline]
    pub(super) fn find(&mut self, handle: u64) -> Result<(u32, &mut Io)> {
        match self.slab.get_mut(slot_of(handle)) {
            Some(io) if io.handle == handle && generation_of(handle) != 0 => Ok((slot_of(handle) as u32, io)),
            _ => Err(Status::STALE),
        }
    }

    #[inline]
    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Io> {
        self.slab.get_mut(slot as usize)
    }

    /// The side of an I/O, made if it has none.
    pub(super) fn side(&mut self, slot: u32) -> Option<&mut Side> {
        let io = self.slab.get_mut(slot as usize)?;
        let side = self.sides.get_mut(slot as usize)?;
        if !io.is(marks::SIDE) {
            io.marks |= marks::SIDE;
            side.write(Side::default());
        }
        // SAFETY: the mark says that it is there.
        Some(unsafe { side.assume_init_mut() })
    }

    /// The side of an I/O that has one.
    pub(super) fn old_side(&mut self, slot: u32) -> Option<&mut Side> {
        if self.slab.get(slot as usize)?.is(marks::SIDE) { self.side(slot) } else { None }
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: u32) -> Option<Gone> {
        let io = self.slab.try_remove(slot as usize)?;
        let side = if io.is(marks::SIDE) { self.take_side(slot) } else { None };
        Some(Gone { io, side })
    }

    #[cold]
    fn take_side(&mut self, slot: u32) -> Option<Side> {
        // SAFETY: its I/O had the mark and is gone, so nobody reads it again.
        self.sides.get(slot as usize).map(|side| unsafe { side.assume_init_read() })
    }

    /// Take a plain I/O out by the completion that names it; `None`: it is not plain, or none at all.
    #[inline(always)]
    pub(super) fn remove_plain(&mut self, handle: u64) -> Option<Io> {
        match self.slab.get(slot_of(handle)) {
            Some(io) if io.handle == handle && io.is_plain() => self.slab.try_remove(slot_of(handle)),
            _ => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Io)> {
        self.slab.iter().map(|(slot, io)| (slot as u32, io))
    }

    /// Slots from `from` on whose I/O fits: for walks that change the table.
    pub(super) fn next_slot(&self, from: u32, fits: impl Fn(&Io) -> bool) -> Option<u32> {
        (from..self.slab.capacity() as u32).find(|slot| self.slab.get(*slot as usize).is_some_and(&fits))
    }

    pub(super) fn push(&mut self, list: &mut List, slot: u32) {
        if let Some(io) = self.get(slot) {
            io.next = NO_SLOT;
            io.marks |= marks::LISTED;
        }
        match self.get(list.last) {
            Some(last) if list.last != NO_SLOT => last.next = slot,
            _ => list.first = slot,
        }
        list.last = slot;
    }

    pub(super) fn pop(&mut self, list: &mut List) -> Option<u32> {
        let slot = list.first()?;
        if let Some(io) = self.get(slot) {
            io.marks &= !marks::LISTED;
            list.first = io.next;
        }
        if list.first == NO_SLOT {
            list.last = NO_SLOT;
        }
        Some(slot)
    }
}

const _: () = assert!(deadlines::NONE == NO_SLOT);

impl Drop for Table {
    fn drop(&mut self) {
        // Sides are taken out with their I/Os.
        let mut from = 0;
        while let Some(slot) = self.next_slot(from, |_| true) {
            drop(self.remove(slot));
            from = slot + 1;
        }
    }
}
