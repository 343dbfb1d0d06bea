// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a ring can tell of itself, and settings of the kernel's worker threads.

use std::fmt::Write;

use super::alloc::try_vec;
use super::open::Mode;
use super::ring::Ring;
use super::state::{Counts, Phase, State, Workers};
use super::table::{Io, State as At, To, marks};
use super::{Result, Status, quarantine};
use crate::sys::sync::locked;
use crate::sys::{Backend, Info, fallback, os};

/// Not told by the backend: the owner's calls use a lock.
const FALLBACK_LOCK: u32 = 32;

/// What the kernel gave.
pub(crate) struct Capabilities {
    pub(crate) info: Info,
    pub(crate) max_in_flight: u32,
}

/// Counts, and where the I/Os in flight are now.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) counts: Counts,
    pub(crate) queued: u64,
    pub(crate) waiting: u64,
    pub(crate) completed: u64,
    pub(crate) dropped: u64,
    /// Delivered, discarded or orphaned.
    pub(crate) ended: u64,
    pub(crate) wakes: u64,
    pub(crate) high_in_flight: u32,
    pub(crate) quarantined_bytes: u64,
}

impl<B: Backend> Ring<B> {
    pub(crate) fn supports(&self, opcode: u32) -> Result<bool> {
        self.lock(os::thread_id()).check_open()?;
        Ok(self.info().has_op(opcode))
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        let mut info = *self.info();
        let mut state = self.lock(os::thread_id());
        if let Some(backend) = state.backend.as_mut() {
            info.fallbacks |= backend.info().fallbacks & fallback::RING_FD;
        }
        if self.has_owner() && !self.barrier().is_expedited() {
            info.fallbacks |= FALLBACK_LOCK;
        }
        Capabilities { info, max_in_flight: state.table.capacity() }
    }

    pub(crate) fn stats(&self) -> Stats {
        let quarantined_bytes = quarantine::bytes();
        let state = self.lock(os::thread_id());
        let high_in_flight = state.table.high_water();
        let mut stats =
            Stats { counts: state.counts, wakes: self.wakes(), high_in_flight, quarantined_bytes, ..Stats::default() };
        for (_, io) in state.table.iter() {
            let place = match io.state {
                _ if io.is_unwanted() => &mut stats.dropped,
                At::Queued => &mut stats.queued,
                At::Kernel | At::Held => &mut stats.waiting,
                At::Done | At::Vacant => &mut stats.completed,
            };
            *place += 1;
        }
        stats.ended = stats.counts.started - u64::from(state.table.len());
        stats
    }

    /// The ring's state as JSON.
    pub(crate) fn dump(&self) -> Result<String> {
        let stats = self.stats();
        let state = self.lock(os::thread_id());
        // Reserved under the lock for what is there, so that writing can't fail for want of memory.
        let mut text = String::new();
        text.try_reserve(2048 + 192 * state.table.len() as usize)?;
        let info = self.info();
        let mode = match self.options.mode {
            Mode::Owner => "owner",
            Mode::Shared => "shared",
            Mode::Background => "background",
        };
        let _ = write!(
            text,
            "{{\"mode\":\"{mode}\",\"phase\":\"{:?}\",\"entries\":{},\"cq_entries\":{},\"max_in_flight\":{},\"setup_flags\":{},\"features\":{}",
            state.phase,
            info.entries,
            info.cq_entries,
            state.table.capacity(),
            info.setup_flags,
            info.features
        );
        write_stats(&mut text, &stats);
        let now = state.clock_now();
        let _ = text.write_str(",\"ios\":[");
        for (index, (_, io)) in state.table.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = text.write_str(comma);
            write_io(&mut text, io, now);
        }
        let _ = text.write_str("]}\n");
        Ok(text)
    }

    /// Limits for the driver's thread; 0 = unchanged.
    pub(crate) fn set_worker_limits(&self, bounded: u32, unbounded: u32) -> Result<()> {
        self.with_workers(|workers| {
            workers.limits = Some([bounded, unbounded]);
            Ok(())
        })
    }

    /// Processors for the driver's workers.
    pub(crate) fn set_worker_affinity(&self, mask: &[u8]) -> Result<()> {
        let mut kept = try_vec(mask.len())?;
        kept.extend_from_slice(mask);
        self.with_workers(|workers| {
            workers.affinity = Some(kept);
            Ok(())
        })
    }

    /// Anyone before the ring is bound, then its owner; on a SHARED ring anyone, for the calling thread. What is set before
    /// the bind takes effect with it, before any worker is made.
    fn with_workers(&self, set: impl FnOnce(&mut Workers) -> Result<()>) -> Result<()> {
        let me = os::thread_id();
        let _one_at_a_time = (self.is_background() && self.owner() != me).then(|| locked(&self.forwarding));
        let mut state = self.lock(me);
        state.check_open()?;
        let bound = state.phase == Phase::Open;
        let elsewhere = bound && self.has_owner() && self.owner() != me;
        if elsewhere && !self.is_background() {
            return Err(Status::WRONG_THREAD);
        }
        set(&mut state.workers)?;
        match (bound, elsewhere) {
            (true, true) => {
                drop(state);
                self.forward(me, |state| state.background.workers_done.take())?
            }
            (true, false) => state.apply_workers(),
            (false, _) => Ok(()),
        }
    }
}

impl<B: Backend> State<B> {
    /// Tell the kernel what was set, on the thread that drives.
    pub(super) fn apply_workers(&mut self) -> Result<()> {
        let Workers { limits, affinity } = std::mem::take(&mut self.workers);
        let backend = self.backend()?;
        if limits.is_some() || affinity.is_some() {
            backend.introduce_thread()?;
        }
        if let Some(limits) = limits {
            backend.set_worker_limits(limits)?;
        }
        if let Some(affinity) = affinity {
            backend.set_worker_affinity(&affinity)?;
        }
        Ok(())
    }
}

fn write_stats(text: &mut String, stats: &Stats) {
    let counts = &stats.counts;
    let rows = [
        ("queued", stats.queued),
        ("waiting", stats.waiting),
        ("completed", stats.completed),
        ("dropped", stats.dropped),
        ("total_started", counts.started),
        ("total_finished", stats.ended),
        ("total_cancelled", counts.cancelled),
        ("total_enters", counts.enters),
        ("total_overflows", counts.overflows),
        ("total_wakes", stats.wakes),
        ("quarantined_bytes", stats.quarantined_bytes),
    ];
    let _ = text.write_str(",\"stats\":{");
    for (index, (name, value)) in rows.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\"{name}\":{value}");
    }
    let _ = text.write_str("}");
}

fn write_io(text: &mut String, io: &Io, now: u32) {
    let state = match io.state {
        At::Queued => "queued",
        At::Kernel => "waiting",
        At::Held => "held",
        At::Done | At::Vacant => "completed",
    };
    let to = match io.to {
        To::Callback => "callback",
        To::Kept => "kept",
        To::Queue => "queue",
        To::Nobody => "detached",
    };
    let _ = write!(
        text,
        "{{\"io\":{},\"opcode\":{},\"fd\":{},\"state\":\"{state}\",\"to\":\"{to}\",\"dropped\":{},\"cancelled\":{},\"age_ms\":{}}}",
        io.handle,
        io.opcode,
        io.fd,
        io.is(marks::DROPPED),
        io.is(marks::CANCELLED),
        now.saturating_sub(io.started_ms)
    );
}
