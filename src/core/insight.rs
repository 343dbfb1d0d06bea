// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a ring can tell of itself, and settings of the kernel's worker threads.

use std::fmt::Write;

use super::alloc::try_vec;
use super::open::Mode;
use super::ring::Ring;
use super::state::{Counts, Phase, State, Workers};
use super::table::{Io, State as At, To, marks};
use super::{Result, Status, quarantine};
use crate::sys::{Backend, Errno, Info, fallback, os};

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
        if self.options.mode == Mode::Owner && !self.barrier().is_expedited() {
            info.fallbacks |= FALLBACK_LOCK;
        }
        Capabilities { info, max_in_flight: state.table.capacity() }
    }

    pub(crate) fn stats(&self) -> Stats {
        let quarantined_bytes = quarantine::bytes();
        let state = self.lock(os::thread_id());
        let mut stats = Stats { counts: state.counts, wakes: self.wakes(), quarantined_bytes, ..Stats::default() };
        for (_, io) in state.table.iter() {
            let place = match io.state {
                _ if io.is_unwanted() => &mut stats.dropped,
                At::Queued => &mut stats.queued,
                At::Kernel => &mut stats.waiting,
                At::Done => &mut stats.completed,
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
        let mode = if self.options.mode == Mode::Owner { "owner" } else { "shared" };
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
        let limits = [bounded, unbounded];
        self.with_workers(|state, bound| {
            if bound {
                return Ok(state.backend()?.set_worker_limits(limits)?);
            }
            state.workers.get_or_insert_default().limits = Some(limits);
            Ok(())
        })
    }

    /// Processors for the driver's workers.
    pub(crate) fn set_worker_affinity(&self, mask: &[u8]) -> Result<()> {
        let mut kept = try_vec(mask.len())?;
        kept.extend_from_slice(mask);
        self.with_workers(|state, bound| {
            if bound {
                match state.backend()?.set_worker_affinity(&kept) {
                    // EINVAL also before the thread's first submission: tried again then.
                    Err(Errno(libc::EINVAL)) if state.counts.enters == 0 => {}
                    result => return Ok(result?),
                }
            }
            state.workers.get_or_insert_default().affinity = Some(kept);
            Ok(())
        })
    }

    /// Anyone before the ring is bound, then its owner; on a SHARED ring anyone.
    fn with_workers(&self, set: impl FnOnce(&mut State<B>, bool) -> Result<()>) -> Result<()> {
        let me = os::thread_id();
        let mut state = self.lock(me);
        state.check_open()?;
        let bound = state.phase == Phase::Open;
        if bound && self.options.mode == Mode::Owner && self.owner() != me {
            return Err(Status::WRONG_THREAD);
        }
        set(&mut state, bound)
    }
}

impl<B: Backend> State<B> {
    /// After the driver's first submission: what was set before it. Nobody waits for the result.
    pub(super) fn apply_workers(&mut self) {
        let Some(Workers { limits, affinity }) = self.workers.take() else { return };
        let Ok(backend) = self.backend() else { return };
        if let Some(limits) = limits {
            let _ = backend.set_worker_limits(limits);
        }
        if let Some(affinity) = affinity {
            let _ = backend.set_worker_affinity(&affinity);
        }
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
        At::Done => "completed",
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
