// SPDX-License-Identifier: MIT OR Apache-2.0
//! A forked child must not touch its parent's rings: it would submit into them.
//!
//! One word of the process is set to 0 in every child by the kernel. A ring remembers the
//! word's value at its open; a child that opens rings of its own gives the word a new one.
//! Where the fork runs handlers (fork(3) does, vfork and a raw clone don't), the child also closes its copies of the
//! rings' descriptors, which would keep the kernel from ever ending the parent's rings.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::lock::locked;
use super::quarantine::{self, Quarantine};
use super::{Result, graveyard};
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
        let mut mark = locked(&MARK);
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
static DESCRIPTORS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// A ring is open.
pub(super) fn remember(fd: i32) -> Result<()> {
    let mut fds = locked(&DESCRIPTORS);
    fds.try_reserve(1)?;
    fds.push(fd);
    Ok(())
}

/// A ring is about to close its descriptor.
pub(super) fn forget(fd: i32) {
    let mut fds = locked(&DESCRIPTORS);
    if let Some(place) = fds.iter().position(|open| *open == fd) {
        fds.swap_remove(place);
    }
}

/// What a fork holds: no ring opens or closes its descriptor meanwhile, and no other thread is using what the child needs
/// for rings and buffers of its own.
struct Held {
    fds: MutexGuard<'static, Vec<i32>>,
    _mark: MutexGuard<'static, Option<(ForkMark, u32)>>,
    _quarantine: MutexGuard<'static, Quarantine>,
    _graves: graveyard::Held,
}

struct Forking(UnsafeCell<Option<Held>>);

// SAFETY: used by the thread that forks alone, and its copy in the child, while it holds DESCRIPTORS.
unsafe impl Sync for Forking {}

static FORKING: Forking = Forking(UnsafeCell::new(None));

/// In the thread that forks.
pub(crate) fn before() {
    let held = Held {
        fds: locked(&DESCRIPTORS),
        _mark: locked(&MARK),
        _quarantine: quarantine::hold(),
        _graves: graveyard::hold(),
    };
    // SAFETY: DESCRIPTORS is held.
    unsafe { *FORKING.0.get() = Some(held) };
}

pub(crate) fn after_in_parent() {
    // SAFETY: `before` took DESCRIPTORS. The place is empty again before it is given back.
    drop(unsafe { (*FORKING.0.get()).take() });
}

/// In the child, which has one thread.
pub(crate) fn after_in_child() {
    // SAFETY: as above.
    if let Some(held) = unsafe { (*FORKING.0.get()).as_mut() } {
        while let Some(fd) = held.fds.pop() {
            close_unwanted(fd);
        }
    }
    after_in_parent();
}
