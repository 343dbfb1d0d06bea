// SPDX-License-Identifier: MIT OR Apache-2.0
//! A forked child must not touch its parent's rings: it would submit into them.
//!
//! One word of the process is set to 0 in every child by the kernel. A ring remembers the
//! word's value at its open; a child that opens rings of its own gives the word a new one.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::Result;
use crate::sys::os::ForkMark;

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
