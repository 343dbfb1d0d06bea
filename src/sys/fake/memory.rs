// SPDX-License-Identifier: MIT OR Apache-2.0
//! What belongs to whom: the host's memory, and the descriptors that the kernel gives out.

use std::collections::BTreeMap;

/// Bytes that an entry points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) address: usize,
    pub(crate) len: usize,
}

impl Range {
    pub(crate) fn overlaps(self, address: usize, len: usize) -> bool {
        self.address < address + len && address < self.address + self.len
    }
}

/// The host's memory that has not been released.
#[derive(Default)]
pub(crate) struct Memory {
    live: BTreeMap<usize, usize>,
}

impl Memory {
    pub(super) fn own(&mut self, address: usize, len: usize) {
        self.live.insert(address, len);
    }

    /// → its length, unless it was released before.
    pub(super) fn give_back(&mut self, address: usize) -> Option<usize> {
        self.live.remove(&address)
    }

    pub(crate) fn is_live(&self, range: Range) -> bool {
        range.len == 0
            || self
                .live
                .range(..=range.address)
                .next_back()
                .is_some_and(|(address, len)| range.address + range.len <= address + len)
    }

    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }
}

/// From here on a descriptor is a world's, and no file of the process.
pub(crate) const FIRST_FILE: i32 = 1 << 28;

/// Descriptors that results have named.
#[derive(Default)]
pub(crate) struct Files {
    made: Vec<File>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct File {
    /// The library has read the completion that names it.
    told: bool,
    ended: bool,
}

impl Files {
    pub(super) fn make(&mut self) -> i32 {
        self.made.push(File::default());
        FIRST_FILE + self.made.len() as i32 - 1
    }

    fn get(&mut self, fd: i32) -> Option<&mut File> {
        self.made.get_mut(usize::try_from(fd.checked_sub(FIRST_FILE)?).ok()?)
    }

    pub(super) fn tell(&mut self, fd: i32) {
        if let Some(file) = self.get(fd) {
            file.told = true;
        }
    }

    /// Closed by the library, or given to the host: either, and once.
    pub(crate) fn close(&mut self, fd: i32, wrongs: &mut Vec<String>) {
        match self.get(fd) {
            Some(file) if file.told && !file.ended => file.ended = true,
            Some(file) => {
                wrongs.push(format!("descriptor {fd} closed or delivered: told {}, ended {}", file.told, file.ended))
            }
            None => wrongs.push(format!("descriptor {fd} is nobody's")),
        }
    }

    /// Descriptors that the library knows of, that it neither closed nor delivered.
    pub(crate) fn leaked(&self) -> usize {
        self.made.iter().filter(|file| file.told && !file.ended).count()
    }
}
