// SPDX-License-Identifier: MIT OR Apache-2.0
//! libpaluring: io_uring for C, without its memory hazards.
//!
//! Three layers, one direction: [`ffi`] → [`core`] → [`sys`].
//!
//! | module | holds | never sees |
//! |---|---|---|
//! | `ffi`  | the C surface, one file per noun: convert, call core, convert | `sys` |
//! | `core` | the ring itself: table, buffers, deadlines, driving, closing | C names, the host's raw pointers |
//! | `sys`  | the kernel: entries in, completions out | anything above it |
//!
//! `tests/architecture.rs` holds the rule.

mod core;
pub mod ffi;
mod sys;
