// SPDX-License-Identifier: MIT OR Apache-2.0
//! A forked child must not touch its parent's rings: it would submit into them.
//!
//! One word of the process is set to 0 in every child by the kernel. A ring remembers the
//! word's value at its open; a child that opens rings of its own gives the word a new one.
//! Where the fork runs handlers (fork(3) does, vfork and a raw clone don't), the child also closes its copies of the
//! rings' descriptors, which would keep the kernel from ever ending the parent's rings.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::lock_api::RawMutex as _;
use parking_lot::{Mutex, RawMutex};

use super::Result;
use crate::sys::os::{ForkMark, close_unwanted};

static MARK: Mutex<Option<(ForkMark, u32)>> = Mutex::new(None);

/// The process that a ring was opened in.
#[derive(Clone, Copy)]
pub(super) struct Process {
    word: &'static AtomicU32,
    generation: u32,
}

impl Process {
    pub(super) fn current() -> Result<Self> {
        let mut mark = MARK.lock();
        let (word, generations) = match *mark {
            Some((page, generations)) => (page.word(), generations),
            None => (ForkMark::new()?.word_kept(&mut mark), 0),
        };
        if word.load(Ordering::Relaxed) == 0 {
            let next = generations.wrapping_add(1).max(1);
            word.store(next, Ordering::Relaxed);
            if let Some(mark) = mark.as_mut() {
                mark.1 = next;
            }
        }
        Ok(Self { word, generation: word.load(Ordering::Relaxed) })
    }

    /// Whether this is still that process.
    #[inline(always)]
    pub(super) fn is_current(self) -> bool {
        self.word.load(Ordering::Relaxed) == self.generation
    }
}

impl ForkMark {
    fn word_kept(self, mark: &mut Option<(ForkMark, u32)>) -> &'static AtomicU32 {
        *mark = Some((self, 0));
        self.word()
    }
}

/// The descriptors of the rings that are open.
struct Descriptors {
    lock: RawMutex,
    fds: std::cell::UnsafeCell<Vec<i32>>,
}

// SAFETY: `fds` is used under `lock` alone.
unsafe impl Sync for Descriptors {}

static DESCRIPTORS: Descriptors = Descriptors { lock: RawMutex::INIT, fds: std::cell::UnsafeCell::new(Vec::new()) };

fn with_descriptors<T>(with: impl FnOnce(&mut Vec<i32>) -> T) -> T {
    DESCRIPTORS.lock.lock();
    // SAFETY: the lock is held.
    let result = with(unsafe { &mut *DESCRIPTORS.fds.get() });
    // SAFETY: as above.
    unsafe { DESCRIPTORS.lock.unlock() };
    result
}

/// A ring is open.
pub(super) fn remember(fd: i32) -> Result<()> {
    with_descriptors(|fds| {
        fds.try_reserve(1)?;
        fds.push(fd);
        Ok(())
    })
}

/// A ring is about to close its descriptor.
pub(super) fn forget(fd: i32) {
    with_descriptors(|fds| {
        if let Some(place) = fds.iter().position(|open| *open == fd) {
            fds.swap_remove(place);
        }
    });
}

/// In the thread that forks: no ring opens or closes its descriptor meanwhile.
pub(crate) fn before() {
    DESCRIPTORS.lock.lock();
    // The child needs these two for rings and buffers of its own: no other thread may be holding them.
    std::mem::forget(MARK.lock());
    super::quarantine::hold();
}

pub(crate) fn after_in_parent() {
    super::quarantine::let_go();
    // SAFETY: `before` took both.
    unsafe {
        MARK.force_unlock();
        DESCRIPTORS.lock.unlock();
    }
}

/// In the child, which has one thread.
pub(crate) fn after_in_child() {
    // SAFETY: `before` took the lock.
    let fds = unsafe { &mut *DESCRIPTORS.fds.get() };
    while let Some(fd) = fds.pop() {
        close_unwanted(fd);
    }
    after_in_parent();
}
