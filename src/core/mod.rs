// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring itself. It returns what happened as values and never calls the host: no
//! callback, release function or log function runs under its lock.
//!
//! From an I/O's start to its end: `start` → `state` (table, queues) → `wait` (enter) →
//! `complete` (retire) → `session` (hand out).

pub(crate) mod buf;
pub(crate) mod fork;
pub(crate) mod insight;
pub(crate) mod log;
pub(crate) mod mistakes;
pub(crate) mod op;
pub(crate) mod seat;
pub(crate) mod unavailable;

mod alloc;
mod background;
mod cancel;
mod chain;
mod close;
mod complete;
mod completion;
mod deadlines;
mod deliver;
mod discarded;
mod entries;
mod files;
mod form;
mod graveyard;
mod inbox;
mod kept;
mod lent;
mod list;
mod lock;
#[cfg(test)]
#[cfg(not(loom))]
mod model;
mod message;
mod open;
mod plain;
mod post;
mod prepare;
mod prepared;
mod quarantine;
mod redo;
mod ring;
mod room;
mod session;
mod start;
mod starter;
mod state;
mod status;
mod storage;
mod table;
#[cfg(test)]
#[cfg(loom)]
mod threads;
mod turn;
mod usual;
mod wait;
mod wake;
#[cfg(debug_assertions)]
mod watch;

pub(crate) use buf::{Buf, BufRef};
pub(crate) use completion::Completion;
pub(crate) use graveyard::bury_box;
pub(crate) use lent::{Lent, Out};
pub(crate) use open::{Mode, Options};
pub(crate) use session::{Delivery, Step};
pub(crate) use start::{Extras, Start};
pub(crate) use status::Status;
pub(crate) use table::To;
pub(crate) use wait::Limit;

/// A ring on the kernel's io_uring.
pub(crate) type KernelRing = ring::Ring<crate::sys::linux::Linux>;

/// A session on such a ring.
pub(crate) type KernelSession<'a> = session::Session<'a, crate::sys::linux::Linux>;

pub(crate) type Result<T> = std::result::Result<T, Status>;
