// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry points to besides its buffer, copied so that the host's own may go.

use smallbox::SmallBox;
use smallbox::space::S2;

use super::Result;
use super::alloc::try_vec;

/// Memory that an entry points to, besides the buffer. It stays where it is as long as its I/O is in the table.
pub(crate) trait Stored: Send {
    fn address(&self) -> u64;
}

/// Small things stand in the table itself, which never moves (it is reserved at open).
pub(crate) type Storage = SmallBox<dyn Stored, S2>;

/// A copy of a host's bytes, such as a path with its terminating zero.
pub(crate) fn copied(bytes: &[u8]) -> Result<Storage> {
    let mut copy = try_vec(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(smallbox::smallbox!(Boxed::new(copy)))
}

/// An array on the heap, in two words: a vector without its length.
pub(super) struct Boxed<T: Copy> {
    data: *mut T,
    capacity: usize,
}

impl<T: Copy> Boxed<T> {
    pub(super) fn new(array: Vec<T>) -> Self {
        let mut array = std::mem::ManuallyDrop::new(array);
        Self { data: array.as_mut_ptr(), capacity: array.capacity() }
    }
}

impl<T: Copy> Drop for Boxed<T> {
    fn drop(&mut self) {
        // SAFETY: from a vector with this capacity; its elements need no drop.
        drop(unsafe { Vec::from_raw_parts(self.data, 0, self.capacity) });
    }
}

// SAFETY: the array is this value's alone, and pointers in it are data for the kernel.
unsafe impl<T: Copy> Send for Boxed<T> {}

impl<T: Copy> Stored for Boxed<T> {
    fn address(&self) -> u64 {
        self.data.addr() as u64
    }
}

/// The kernel's timespec.
pub(super) struct TimeSpec(pub(super) [i64; 2]);
impl TimeSpec {
    pub(super) fn from_ns(ns: u64) -> Self {
        Self([(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64])
    }
}
impl Stored for TimeSpec {
    fn address(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }
}
