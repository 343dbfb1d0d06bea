// SPDX-License-Identifier: MIT OR Apache-2.0
//! The deadlines of I/Os in flight: a binary heap that knows each one's place, so that
//! one can be taken out again when its I/O completes first.

use super::Result;

/// No place in the heap.
pub(super) const NONE: u32 = u32::MAX;

/// `slot` names an I/O; the table keeps its place in the heap, told by `moved`.
#[derive(Clone, Copy)]
struct Deadline {
    at: u64,
    slot: u32,
}

#[derive(Default)]
pub(super) struct Deadlines {
    heap: Vec<Deadline>,
}

impl Deadlines {
    /// The nearest, as a point of the monotonic clock.
    #[inline]
    pub(super) fn nearest(&self) -> Option<u64> {
        self.heap.first().map(|deadline| deadline.at)
    }

    /// The slot of a deadline that is over.
    pub(super) fn expired(&self, now: u64) -> Option<u32> {
        self.heap.first().filter(|deadline| deadline.at <= now).map(|deadline| deadline.slot)
    }

    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Room for `count` more, so that the next inserts can't fail.
    pub(super) fn reserve(&mut self, count: usize) -> Result<()> {
        Ok(self.heap.try_reserve(count)?)
    }

    pub(super) fn insert(&mut self, at: u64, slot: u32, mut moved: impl FnMut(u32, u32)) {
        self.heap.push(Deadline { at, slot });
        self.rise(self.heap.len() - 1, &mut moved);
    }

    pub(super) fn remove(&mut self, place: u32, mut moved: impl FnMut(u32, u32)) {
        let place = place as usize;
        if place >= self.heap.len() {
            return;
        }
        let gone = self.heap.swap_remove(place);
        moved(gone.slot, NONE);
        if place < self.heap.len() {
            let place = self.rise(place, &mut moved);
            self.sink(place, &mut moved);
        }
    }

    fn at(&self, place: usize) -> u64 {
        self.heap.get(place).map_or(u64::MAX, |deadline| deadline.at)
    }

    fn tell(&self, place: usize, moved: &mut impl FnMut(u32, u32)) {
        if let Some(deadline) = self.heap.get(place) {
            moved(deadline.slot, place as u32);
        }
    }

    fn rise(&mut self, mut place: usize, moved: &mut impl FnMut(u32, u32)) -> usize {
        while place > 0 && self.at((place - 1) / 2) > self.at(place) {
            self.heap.swap(place, (place - 1) / 2);
            self.tell(place, moved);
            place = (place - 1) / 2;
        }
        self.tell(place, moved);
        place
    }

    fn sink(&mut self, mut place: usize, moved: &mut impl FnMut(u32, u32)) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let child = if self.at(right) < self.at(left) { right } else { left };
            if self.at(child) >= self.at(place) {
                break;
            }
            self.heap.swap(place, child);
            self.tell(place, moved);
            place = child;
        }
        self.tell(place, moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random inserts and removes against a plain list.
    #[test]
    fn heap_agrees_with_a_list() {
        let mut heap = Deadlines::default();
        let mut places = vec![NONE; 64];
        let mut list: Vec<(u64, u32)> = Vec::new();
        let mut random = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let slot = (random >> 33) as u32 % 64;
            let mut moved = |slot: u32, place: u32| places[slot as usize] = place;
            if let Some(found) = list.iter().position(|entry| entry.1 == slot) {
                list.remove(found);
                let place = places[slot as usize];
                let mut moved = |slot: u32, place: u32| places[slot as usize] = place;
                heap.remove(place, &mut moved);
            } else {
                let at = random >> 50;
                list.push((at, slot));
                heap.reserve(1).unwrap();
                heap.insert(at, slot, &mut moved);
            }
            assert_eq!(heap.nearest(), list.iter().map(|entry| entry.0).min());
            for (at, slot) in &list {
                assert_eq!(heap.heap[places[*slot as usize] as usize].at, *at);
            }
        }
    }
}
