// SPDX-License-Identifier: MIT OR Apache-2.0
//! The I/Os in flight: what the ring knows of each from its start until its terminal completion is handed out.
//!
//! A handle is 20 bits of slot and 44 bits of generation, and the same value is the entry's user_data. The
//! generation counts the ring's starts from a random seed, so a handle of an older I/O, or of another ring, fits no slot.
//! Entries of the library's own have generation 0, which no I/O has, and say in the slot bits what they are (`Kind`).

mod plain;
mod reserved;

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

use super::alloc::try_vec;
use super::buf::BufRef;
use super::chain::Link;
use super::completion::{NONE, descriptors};
use super::deadlines;
use super::redo::Redo;
use super::storage::Storage;
use super::{Result, Status};
use crate::sys::Cqe;
pub(super) use plain::Plain;

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
    /// Of a registered file that nobody takes.
    CloseFile = 6,
}

pub(super) const fn generation_of(handle: u64) -> u64 {
    handle >> SLOT_BITS
}

pub(super) const fn slot_of(handle: u64) -> usize {
    (handle & SLOT_MASK) as usize
}

/// A function of the host's: the core keeps it and hands it back, and never calls it.
pub(crate) type HostFn = NonZeroUsize;

impl std::fmt::Debug for BufRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BufRef")
    }
}

/// Who gets the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
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
#[repr(u8)]
pub(super) enum State {
    Queued,
    Kernel,
    Held,
    Done,
    /// Not an I/O: a slot that is free.
    Vacant,
}

pub(super) mod marks {
    /// The result is unwanted.
    pub(crate) const DROPPED: u16 = 1;
    /// A cancel has been asked for.
    pub(crate) const CANCELLED: u16 = 2;
    pub(crate) const TIMED_OUT: u16 = 4;
    /// The buffer goes back with the completion.
    pub(crate) const MOVED: u16 = 8;
    /// The result, if it is one, is a descriptor of the process.
    pub(crate) const DESCRIPTOR: u16 = 16;
    /// In a list of things to hand out.
    pub(crate) const LISTED: u16 = 32;
    /// May complete several times.
    pub(crate) const MULTISHOT: u16 = 64;
    /// Has a `Side`.
    pub(crate) const SIDE: u16 = 128;
    /// Stands in the heap of deadlines.
    pub(crate) const DEADLINE: u16 = 256;
    /// What it makes is installed into the ring's registered files; or it closes one of those.
    pub(crate) const INSTALLED: u16 = 512;
}

/// What starting and completing a plain I/O touches: one cache line.
#[repr(C, align(64))]
pub(super) struct Io {
    pub(super) handle: u64,
    pub(super) user_data: usize,
    /// The callback; of a kept I/O, the ready function.
    pub(super) notify: Option<HostFn>,
    pub(super) buf: Option<BufRef>,
    pub(super) to: To,
    pub(super) state: State,
    pub(super) marks: u16,
    pub(super) fd: i32,
    pub(super) deadline: u32,
    /// Milliseconds of the ring's clock at the start.
    pub(super) started_ms: u32,
    pub(super) result: i32,
    pub(super) flags: u32,
    /// The next in its list, or the next vacant slot.
    pub(super) next: u32,
    pub(super) opcode: u8,
}

const _: () = assert!(size_of::<Io>() == 64);

/// What few I/Os need besides.
#[derive(Default)]
pub(super) struct Side {
    pub(super) storage: Option<Storage>,
    pub(super) redo: Option<Box<Redo>>,
    /// The ready function's.
    pub(super) notify_data: usize,
    pub(super) extra: u64,
    /// The enter before which the last cancel was asked for.
    pub(super) cancel_enter: u32,
    pub(super) link: Option<Link>,
    /// Results of a multishot that wait to be taken, oldest first.
    pub(super) events: VecDeque<Cqe>,
}

impl Side {
    /// Whether the storage is what an entry points to.
    #[cfg(debug_assertions)]
    pub(super) fn points_to(&self, addr: u64) -> bool {
        self.storage.as_ref().is_some_and(|storage| storage.is_at(addr))
    }
}

/// An I/O that has left the table.
pub(super) struct Gone {
    pub(super) io: Io,
    pub(super) side: Option<Side>,
}

impl Io {
    #[inline]
    pub(super) fn is(&self, mark: u16) -> bool {
        self.marks & mark != 0
    }

    /// Whether nobody wants what comes.
    #[inline]
    pub(super) fn is_unwanted(&self) -> bool {
        self.is(marks::DROPPED) || self.to == To::Nobody
    }

    /// Whether letting go of it may run functions of the host, or close a descriptor.
    pub(super) fn holds_nothing(&self) -> bool {
        self.buf.is_none() && (self.result < 0 || !self.is(marks::DESCRIPTOR))
    }

    /// The descriptors that a result is, −1 = none.
    pub(super) fn descriptors(&self, result: i32, extra: u64) -> [i32; 2] {
        if self.is(marks::DESCRIPTOR) { descriptors(self.opcode.into(), result, extra) } else { NONE }
    }
}

pub(super) const NO_SLOT: u32 = u32::MAX;

pub(super) struct Table {
    /// As many as were ever in use at once; reserved for `capacity`, so that none ever moves.
    ios: Vec<Io>,
    /// By slot; there only for I/Os with the SIDE mark.
    sides: Vec<MaybeUninit<Side>>,
    capacity: u32,
    /// Slots in use.
    len: u32,
    /// The most that were ever in use when one was taken out.
    high: u32,
    /// Slots that starts of other threads will use; not in `capacity` meanwhile, so that the owner's starts see no difference.
    reserved: u32,
    /// The slot that was vacated last; the others are chained behind it.
    vacant: u32,
    /// The last generation that was given, in the place that it has in a handle.
    generation: u64,
}

impl Table {
    pub(super) fn new(capacity: u32, seed: u64) -> Result<Self> {
        let mut sides = try_vec(capacity as usize)?;
        sides.resize_with(capacity as usize, MaybeUninit::uninit);
        let ios = try_vec(capacity as usize)?;
        Ok(Self { ios, sides, capacity, len: 0, high: 0, reserved: 0, vacant: NO_SLOT, generation: seed & !SLOT_MASK })
    }

    /// In place of one that is taken away.
    pub(super) fn empty() -> Self {
        Self {
            ios: Vec::new(),
            sides: Vec::new(),
            capacity: 0,
            len: 0,
            high: 0,
            reserved: 0,
            vacant: NO_SLOT,
            generation: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn free(&self) -> u32 {
        self.capacity - self.len
    }

    /// The most that were ever in use at once.
    pub(super) fn high_water(&self) -> u32 {
        self.high.max(self.len)
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity + self.reserved
    }

    /// Give `io` a slot and its handle; the caller has seen that there is room.
    #[inline(always)]
    pub(super) fn insert(&mut self, mut io: Io) -> (u32, u64) {
        self.len += 1;
        let slot = if self.vacant == NO_SLOT { self.ios.len() as u32 } else { self.vacant };
        let handle = self.next_generation() | u64::from(slot);
        io.handle = handle;
        match self.ios.get_mut(slot as usize) {
            Some(place) => {
                self.vacant = place.next;
                // What stood there was vacant: it holds nothing that a drop would let go of.
                std::mem::forget(std::mem::replace(place, io));
            }
            None => self.ios.push(io),
        }
        (slot, handle)
    }

    #[inline(always)]
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation = self.generation.wrapping_add(SLOTS.into());
        if self.generation == 0 {
            self.generation = SLOTS.into();
        }
        self.generation
    }

    /// The I/O that a handle or a completion names.
    #[inline]
    pub(super) fn find(&mut self, handle: u64) -> Result<(u32, &mut Io)> {
        match self.ios.get_mut(slot_of(handle)) {
            // A vacant slot's handle is 0, and so is that of one whose result was taken.
            Some(io) if io.handle == handle && generation_of(handle) != 0 => Ok((slot_of(handle) as u32, io)),
            _ => Err(Status::STALE),
        }
    }

    #[inline]
    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Io> {
        self.ios.get_mut(slot as usize).filter(|io| io.state != State::Vacant)
    }

    /// Chain a slot to the vacant ones; what it held has been taken.
    #[inline(always)]
    fn vacate(io: &mut Io, slot: u32, vacant: &mut u32, len: &mut u32, high: &mut u32) {
        (io.handle, io.state, io.next) = (0, State::Vacant, *vacant);
        *vacant = slot;
        *high = (*high).max(*len);
        *len -= 1;
    }

    /// The side of an I/O, made if it has none.
    pub(super) fn side(&mut self, slot: u32) -> Option<&mut Side> {
        let io = self.ios.get_mut(slot as usize).filter(|io| io.state != State::Vacant)?;
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
        if self.get(slot)?.is(marks::SIDE) { self.side(slot) } else { None }
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: u32) -> Option<Gone> {
        let place = self.ios.get_mut(slot as usize).filter(|io| io.state != State::Vacant)?;
        let io = Io { buf: place.buf.take(), ..*place };
        place.deadline = deadlines::NONE;
        Self::vacate(place, slot, &mut self.vacant, &mut self.len, &mut self.high);
        let side = if io.is(marks::SIDE) { self.take_side(slot) } else { None };
        Some(Gone { io, side })
    }

    /// Free the slot of an I/O that has no buffer any more.
    #[inline]
    pub(super) fn free_empty(&mut self, slot: u32) {
        match self.get(slot) {
            Some(io) if io.marks & marks::SIDE == 0 && io.buf.is_none() => {
                let Self { ios, vacant, len, high, .. } = self;
                ios.get_mut(slot as usize).into_iter().for_each(|io| Self::vacate(io, slot, vacant, len, high));
            }
            _ => drop(self.remove(slot)),
        }
    }

    #[cold]
    fn take_side(&mut self, slot: u32) -> Option<Side> {
        // SAFETY: its I/O had the mark and is gone, so nobody reads it again.
        self.sides.get(slot as usize).map(|side| unsafe { side.assume_init_read() })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Io)> {
        self.ios.iter().enumerate().filter(|(_, io)| io.state != State::Vacant).map(|(slot, io)| (slot as u32, io))
    }

    /// Slots from `from` on whose I/O fits: for walks that change the table.
    pub(super) fn next_slot(&self, from: u32, fits: impl Fn(&Io) -> bool) -> Option<u32> {
        let rest = self.ios.get(from as usize..)?;
        rest.iter().position(|io| io.state != State::Vacant && fits(io)).map(|found| from + found as u32)
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
