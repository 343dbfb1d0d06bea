// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening a ring: what may be asked for, and what it becomes.

use super::alloc::try_box;
use super::fork::Process;
use super::ring::Ring;
use super::seat::Seat;
use super::state::{Phase, State};
use super::table::{SLOTS, Table};
use super::{Result, Status, fork, quarantine};
use crate::sys::{Backend, Setup, Sqe, os};

/// Who drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Owner,
    Shared,
    Background,
}

/// What a host asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) entries: u32,
    pub(crate) cq_entries: u32,
    pub(crate) max_in_flight: u32,
    pub(crate) max_files: u32,
    pub(crate) iowait: bool,
    pub(crate) background_cpu: Option<u32>,
    pub(crate) sqpoll: bool,
    pub(crate) iopoll: bool,
    pub(crate) attach: bool,
}

const MOST_ENTRIES: u32 = 32_768;
const MOST_FILES: u32 = 1 << 20;

impl Options {
    /// With the defaults filled in, or why not.
    pub(crate) fn checked(mut self) -> Result<Self> {
        let or = |asked: u32, default: u32| if asked == 0 { default } else { asked };
        self.entries = or(self.entries, 256);
        if self.entries > MOST_ENTRIES
            || self.max_in_flight > SLOTS
            || self.cq_entries > 2 * MOST_ENTRIES
            || self.max_files > MOST_FILES
        {
            return Err(Status::EINVAL);
        }
        self.entries = self.entries.next_power_of_two();
        self.max_in_flight = or(self.max_in_flight, 4 * self.entries);
        let fits = (2 * self.max_in_flight).clamp(2 * self.entries, 2 * MOST_ENTRIES);
        self.cq_entries = or(self.cq_entries, fits).max(self.entries).next_power_of_two();
        self.max_files = or(self.max_files, 256);
        if self.sqpoll || self.iopoll || self.attach {
            return Err(Status::EOPNOTSUPP);
        }
        Ok(self)
    }
}

impl<B: Backend> Ring<B> {
    pub(crate) fn open(options: &Options) -> Result<Box<Self>> {
        quarantine::collect();
        let process = Process::current()?;
        let place = quarantine::Place::reserve()?;
        let setup = Setup {
            entries: options.entries,
            cq_entries: options.cq_entries,
            cq_least: options.entries,
            files: options.max_files,
            single_issuer: options.mode != Mode::Shared,
            iowait: options.iowait,
        };
        let table = Table::new(options.max_in_flight, os::seed())?;
        let seat = Seat::new()?;
        let backend = B::open(&setup)?;
        let phase = if options.mode == Mode::Shared { Phase::Open } else { Phase::Unbound };
        let mut state = State::new(backend, table, phase, place);
        state.arm_wake();
        if options.mode == Mode::Shared {
            state.again = super::alloc::try_vec(options.max_in_flight as usize)?;
            state.again.resize(options.max_in_flight as usize, Sqe::default());
            state.submit_wake()?;
        }
        let descriptor = state.backend()?.descriptor();
        let ring = try_box(Self::new(state, *options, seat, process)?)?;
        descriptor.map_or(Ok(()), fork::remember)?;
        Ok(ring)
    }
}
