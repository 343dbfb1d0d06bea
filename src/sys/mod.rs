// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel and nothing else: what a backend supplies, and the backends.
//!
//! The boundary is the kernel's own ABI: 64-byte submission entries go in, completion
//! entries come out. A backend knows no I/Os, no buffers and no callbacks.

#[cfg(test)]
#[cfg(loom)]
pub(crate) mod checked;
pub(crate) mod entry;
#[cfg(test)]
#[cfg(not(loom))]
pub(crate) mod fake;
mod files;
pub(crate) mod futex;
pub(crate) mod linux;
pub(crate) mod os;
mod queues;
mod setup;
pub(crate) mod sync;
#[cfg_attr(loom, path = "tiny_thread.rs")]
pub(crate) mod thread;
#[cfg(test)]
#[cfg(loom)]
pub(crate) mod tiny;
#[cfg(feature = "unmap-freed")]
pub(crate) mod unmapped;

pub(crate) use entry::{Cqe, Sqe};

/// A positive errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub i32);

pub(crate) type SysResult<T> = Result<T, Errno>;

/// What a ring is set up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub entries: u32,
    pub cq_entries: u32,
    /// Fewer completion entries than this are not worth having.
    pub cq_least: u32,
    /// Registered files of each kind: installed by I/Os, and registered by a call.
    pub files: u32,
    /// One thread enters, fixed at `bind`.
    pub single_issuer: bool,
    /// Count waiting as I/O wait.
    pub iowait: bool,
}

/// What was got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Info {
    pub entries: u32,
    pub cq_entries: u32,
    /// Slot 0 is the sentinel's; behind it so many that the kernel chooses from, and behind those as many again.
    pub files: u32,
    /// The kernel can be told which slots to choose from.
    pub installs: bool,
    pub setup_flags: u32,
    pub features: u32,
    pub fallbacks: u32,
    /// Task work is deferred until the owner enters (DEFER_TASKRUN). A wait brings a completion then, unless its timeout, a
    /// signal or a timeout operation ends it; else one that another thread submitted may end it, too.
    pub defers: bool,
    pub ops: [u64; 4],
}

impl Info {
    pub(crate) fn has_op(&self, opcode: u32) -> bool {
        self.ops.get(opcode as usize / 64).is_some_and(|word| word >> (opcode % 64) & 1 == 1)
    }
}

/// What was wanted and done without.
pub(crate) mod fallback {
    pub(crate) const SETUP: u32 = 1;
    pub(crate) const CQ_ENTRIES: u32 = 2;
    pub(crate) const FILES: u32 = 4;
    pub(crate) const WAKE: u32 = 8;
    pub(crate) const RING_FD: u32 = 16;
}

/// A call of `enter`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enter {
    pub submit: u32,
    /// Wait for one completion; else only look.
    pub wait: bool,
    /// Bring completions that the kernel holds back into the queue.
    pub flush: bool,
    /// Nanoseconds from now; `None` = no limit.
    pub timeout: Option<u64>,
}

/// What a ring needs of a kernel. One thread at a time calls it, under the ring's lock; only `enter` and
/// `send_wake`, which take no `self`, are called outside of it.
pub(crate) trait Backend: Sized + Send {
    /// The way into the kernel, as a value: valid until the backend is dropped.
    type Gate: Copy + Send + Sync;

    fn open(setup: &Setup) -> SysResult<Self>;
    fn info(&self) -> &Info;
    fn gate(&self) -> Self::Gate;
    /// The ring's descriptor, which a forked child gets a copy of.
    fn descriptor(&self) -> Option<i32>;

    /// Make the calling thread the one that enters.
    fn bind(&mut self) -> SysResult<()>;

    /// Whether the submission queue has a free entry.
    fn has_room(&mut self) -> bool;
    /// Free entries in the submission queue.
    fn room(&mut self) -> u32;
    /// Put an entry into the submission queue, which has room: `fill` writes all of it, in its place there.
    /// # Safety
    /// What the entry points to stays valid until its last completion has been seen.
    unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe));
    /// # Safety
    /// As `push_with`.
    #[inline(always)]
    unsafe fn push(&mut self, sqe: &Sqe) {
        // SAFETY: the caller's duty.
        unsafe { self.push_with(|place| *place = *sqe) };
    }
    /// Let the kernel see what was pushed; → entries that it has not taken yet.
    fn publish(&mut self) -> u32;

    /// After an enter that took less than was published: where it ended inside a chain, take the entry at `place` of what is
    /// left (0 = the next that the kernel takes) out of the chain and put a NOP with `user_data` in its stead; → the
    /// user_data that it had, and whether the one behind it is of the chain too.
    fn sever(&mut self, place: u32, user_data: u64) -> Option<(u64, bool)>;

    /// The oldest completion, taken out of the queue.
    fn next(&mut self) -> Option<Cqe>;
    /// The oldest completion of those that `available` has counted, left where it is.
    fn peek(&mut self) -> Option<Cqe>;
    /// Take out what `peek` has shown.
    fn skip(&mut self);
    /// Completions in the queue.
    fn available(&mut self) -> u32;
    /// The kernel holds completions back that an enter with `flush` brings.
    fn holds_back(&mut self) -> bool;
    /// The completion queue has overflowed.
    fn overflowed(&mut self) -> bool;

    /// Submit, flush and wait; → entries taken.
    fn enter(gate: Self::Gate, enter: Enter) -> SysResult<u32>;
    /// End an enter that waits, or the next one, from any thread and signal handlers, by a completion with `user_data`.
    fn send_wake(gate: Self::Gate, user_data: u64) -> SysResult<()>;
    /// An entry to keep in the ring so that `send_wake` reaches it, where that takes one: its completion is the wake.
    fn wake_entry(&self) -> Option<Sqe>;

    /// Have `fd`, an eventfd, written to at each completion.
    fn register_eventfd(&mut self, fd: i32) -> SysResult<()>;
    fn unregister_eventfd(&mut self) -> SysResult<()>;
    /// Make the calling thread known to the kernel as one that uses rings: only then can its workers be set.
    fn introduce_thread(&mut self) -> SysResult<()>;
    /// Put a descriptor's file into a slot of the registered files; −1 empties it.
    fn set_file(&mut self, index: u32, fd: i32) -> SysResult<()>;
    fn set_worker_limits(&mut self, limits: [u32; 2]) -> SysResult<()>;
    fn set_worker_affinity(&mut self, mask: &[u8]) -> SysResult<()>;

    /// End the ring; → what tells when the kernel is done with everything that it was given.
    /// `bound_here`: on the thread that `bind` was called on.
    fn close(self, bound_here: bool) -> os::Sentinel;
}
