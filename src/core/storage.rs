// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry points to besides its buffer: copies of the host's, so that its own may go, and what the kernel writes
//! beside the result.
//!
//! An I/O's storage is a block on the heap, at an address that stays: the kernel may still write to it when the I/O has left the
//! table for the quarantine. Only what the kernel reads once stands in the table itself.

use super::Result;
use super::alloc::try_vec;
use crate::sys::Sqe;
use crate::sys::entry::MsgHdr;

pub(crate) enum Storage {
    /// A timespec, in the table, which never moves (it is reserved at open). The kernel reads it when it takes the entry.
    Time([i64; 2]),
    Block(Block),
}

/// Memory that an entry's fields point into.
pub(crate) struct Block {
    words: *mut u64,
    capacity: u32,
    /// Where in the block `addr`, `off` and `addr3` point to, in words; NOWHERE = they don't.
    fields: [u32; 3],
    tells: Tells,
}

/// What the kernel leaves in a block, for the completion to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    Nothing,
    /// A length of 32 bits, in the first word.
    Length,
    /// Two descriptors, in the first word.
    Descriptors,
    /// A struct msghdr from the second word on; the first is the address of what is to be filled from it.
    Message,
}

/// The entry's fields that may point into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Field {
    Addr,
    Off,
    Addr3,
}

const NOWHERE: u32 = u32::MAX;

/// A block in the making.
pub(super) struct Builder {
    words: Vec<u64>,
    fields: [u32; 3],
}

/// The kernel's timespec.
pub(super) fn timespec(ns: u64) -> [i64; 2] {
    [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64]
}

impl Storage {
    /// Copies of a host's bytes, for `addr`, `off` and `addr3` to point to.
    pub(crate) fn copied(parts: [Option<&[u8]>; 3]) -> Result<Self> {
        let mut block = Builder::new(parts.iter().flatten().map(|part| part.len().div_ceil(8)).sum())?;
        for (field, part) in [Field::Addr, Field::Off, Field::Addr3].into_iter().zip(parts) {
            if let Some(part) = part {
                block.point(field);
                block.bytes(part);
            }
        }
        Ok(block.finish(Tells::Nothing))
    }

    pub(super) fn time(ns: u64) -> Self {
        Self::Time(timespec(ns))
    }

    /// Fill in the pointers of an entry. The storage is where it stays.
    pub(super) fn point(&self, sqe: &mut Sqe) {
        match self {
            Self::Time(time) => sqe.addr = time.as_ptr().addr() as u64,
            Self::Block(block) => {
                let [addr, off, addr3] = block.fields.map(|word| block.address(word));
                sqe.addr = addr.unwrap_or(sqe.addr);
                sqe.off = off.unwrap_or(sqe.off);
                sqe.addr3 = addr3.unwrap_or(sqe.addr3);
            }
        }
    }

    /// What the kernel has written, for `extra`; of a message, into its I/O's buffer.
    /// # Safety
    /// The kernel has completed the entry, and the I/O still has its buffer.
    pub(super) unsafe fn told(&self, result: i32) -> u64 {
        let Self::Block(block) = self else { return 0 };
        match block.tells {
            Tells::Length | Tells::Descriptors if result < 0 => 0,
            Tells::Nothing => 0,
            // SAFETY: the block has a first word; native order puts the length, and the first descriptor, into its first half.
            Tells::Length => unsafe { block.words.cast::<u32>().read() }.into(),
            // SAFETY: as above.
            Tells::Descriptors => unsafe {
                let [first, second] = block.words.cast::<[u32; 2]>().read();
                u64::from(first) | u64::from(second) << 32
            },
            Tells::Message => {
                // SAFETY: laid out so by `message`; the caller's duty as to the buffer.
                unsafe { super::message::tell(block.words, result) };
                0
            }
        }
    }

    /// Whether it is what an entry points to.
    #[cfg(debug_assertions)]
    pub(super) fn is_at(&self, addr: u64) -> bool {
        matches!(self, Self::Block(block) if block.words.addr() as u64 == addr)
    }
}

impl Block {
    fn address(&self, word: u32) -> Option<u64> {
        (word != NOWHERE).then(|| self.words.wrapping_add(word as usize).addr() as u64)
    }

    pub(super) fn base(&self) -> u64 {
        self.words.addr() as u64
    }

    /// # Safety
    /// Words up to `word` and two more are the block's, and the kernel uses none of them.
    pub(super) unsafe fn vector(&mut self, word: usize) -> &mut [u64; 2] {
        // SAFETY: the caller's duty.
        unsafe { &mut *self.words.add(word).cast() }
    }

    /// # Safety
    /// As `vector`, of a struct msghdr.
    pub(super) unsafe fn header(&mut self) -> &mut MsgHdr {
        // SAFETY: the caller's duty.
        unsafe { &mut *self.words.cast() }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: from a vector with this capacity; words need no drop.
        drop(unsafe { Vec::from_raw_parts(self.words, 0, self.capacity as usize) });
    }
}

// SAFETY: the memory is this value's alone, and addresses in it are data for the kernel.
unsafe impl Send for Block {}

impl Builder {
    pub(super) fn new(words: usize) -> Result<Self> {
        u32::try_from(words).map_err(|_| super::Status::EINVAL)?;
        Ok(Self { words: try_vec(words)?, fields: [NOWHERE; 3] })
    }

    /// The field points to what comes next.
    pub(super) fn point(&mut self, field: Field) {
        let here = self.words.len() as u32;
        if let Some(place) = self.fields.get_mut(field as usize) {
            *place = here;
        }
    }

    /// The address that the next word will have: nothing is allocated again.
    pub(super) fn here(&self) -> u64 {
        self.words.as_ptr().wrapping_add(self.words.len()).addr() as u64
    }

    pub(super) fn word(&mut self, word: u64) {
        debug_assert!(self.words.len() < self.words.capacity());
        self.words.push(word);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(place, byte)| *place = *byte);
            self.word(u64::from_ne_bytes(word));
        }
    }

    pub(super) fn finish(self, tells: Tells) -> Storage {
        let mut words = std::mem::ManuallyDrop::new(self.words);
        let capacity = words.capacity() as u32;
        Storage::Block(Block { words: words.as_mut_ptr(), capacity, fields: self.fields, tells })
    }
}
