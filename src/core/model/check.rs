// SPDX-License-Identifier: MIT OR Apache-2.0
//! What always holds between two calls: the ring's counts add up, and agree with what the host knows.

use super::host::Host;
use crate::core::deadlines;
use crate::core::list::List;
use crate::core::state::{Phase, State};
use crate::core::table::{State as At, To, generation_of, marks};
use crate::sys::fake::Fake;
use crate::sys::os;

impl Host<'_> {
    pub(super) fn check(&mut self) {
        let faults = check_state(&mut self.ring.lock(os::thread_id()));
        for fault in faults {
            self.wrong(fault);
        }
        let stats = self.ring.stats();
        let owed = self.ios.iter().filter(|one| one.is_owed()).count() as u64;
        if stats.queued + stats.waiting + stats.completed != owed {
            self.wrong(format!(
                "{owed} I/Os are owed, the stats have {} + {} + {}",
                stats.queued, stats.waiting, stats.completed
            ));
        }
        let in_table = stats.queued + stats.waiting + stats.completed + stats.dropped;
        let started = self.ios.len() as u64;
        if stats.counts.started != started || stats.ended + in_table != started || stats.counts.dropped != self.drops {
            self.wrong(format!("{started} started and {} dropped, the stats say {:?}", self.drops, stats.counts));
        }
    }
}

/// The counts are those of a recount.
fn check_state(state: &mut State<Fake>) -> Vec<String> {
    let slots: Vec<u32> = state.table.iter().map(|(slot, _)| slot).collect();
    let (mut queued, mut done, mut unwanted, mut unfinished, mut timed) = (0, 0, 0, 0, 0);
    let mut faults = Vec::new();
    for slot in slots {
        let events = state.table.old_side(slot).map_or(0, |side| side.events.len() as u32);
        let Some(io) = state.table.get(slot) else { continue };
        queued += u32::from(io.state == At::Queued);
        unfinished += u64::from(io.state != At::Done);
        timed += u64::from(io.deadline != deadlines::NONE);
        if io.is_unwanted() {
            unwanted += u32::from(io.state != At::Done);
        } else {
            let due = events + u32::from(io.state == At::Done);
            done += due;
            let listed = io.is(marks::LISTED) || io.to == To::Kept || due == 0;
            if !listed {
                faults.push(format!("{:#x} is due and in no list", io.handle));
            }
        }
        if io.state == At::Done && io.deadline != deadlines::NONE {
            faults.push(format!("{:#x} is done and has a deadline", io.handle));
        }
    }
    let waiting = state.overflow.iter().filter(|sqe| generation_of(sqe.user_data) != 0).count() as u32;
    let (callbacks, reapable) = (length(state, |state| state.callbacks), length(state, |state| state.reapable));
    let counts = state.counts;
    let pairs = [
        ("queued", u64::from(counts.queued), u64::from(queued)),
        ("waiting for room", u64::from(counts.queued), u64::from(waiting)),
        ("done", u64::from(counts.done), u64::from(done)),
        ("unwanted", u64::from(counts.unwanted), u64::from(unwanted)),
        ("callbacks", u64::from(counts.callbacks), u64::from(callbacks)),
        ("reapable", u64::from(counts.reapable), u64::from(reapable)),
        ("unfinished", state.unfinished(), unfinished),
        ("deadlines", state.deadlines.len() as u64, timed),
    ];
    faults.extend(
        pairs
            .iter()
            .filter(|(_, count, there)| count != there)
            .map(|(name, count, there)| format!("{name}: counted {count}, there are {there}")),
    );
    // (For room, each round looks.)
    let due = !state.callbacks.is_empty() || !state.ready.is_empty() || !state.trash.is_empty();
    if due && !state.attention && state.phase != Phase::Closed {
        faults.push("something is due, and the next delivery won't look".into());
    }
    faults
}

fn length(state: &mut State<Fake>, list: fn(&State<Fake>) -> List) -> u32 {
    let (mut next, mut count) = (list(state).first(), 0);
    while let Some(io) = next.and_then(|slot| state.table.get(slot)) {
        count += 1;
        next = Some(io.next);
    }
    count
}

impl Host<'_> {
    /// What was wrong until now.
    pub(super) fn verdict(&mut self, at: &str) -> Result<(), String> {
        let wrongs = std::mem::take(&mut self.world.lock().around.wrongs);
        if wrongs.is_empty() { Ok(()) } else { Err(format!("{at}: {}", wrongs.join("; "))) }
    }

    /// After a failure: end the ring, so that the search for a shorter sequence doesn't run out of descriptors.
    pub(super) fn give_up(&mut self) {
        self.kernel(|kernel| kernel.faults.clear());
        self.closing = true;
        if let Ok(session) = self.ring.close_last() {
            let _ = self.session(session);
        }
        self.bufs.release_all();
        self.world.lock().end_orphans();
        super::super::quarantine::collect();
    }
}
