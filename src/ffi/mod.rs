// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C surface: one file per noun, in the order of the header's sections, then the
//! machinery that they share and that exports nothing.
//!
//! # Contract with the host
//! Pointers to handles are NULL or came from this library and are not yet released;
//! pointers to memory are NULL or valid for what the function's comment says; functions of
//! the host neither unwind nor longjmp. What can be checked is checked and answered with a
//! status. A `// SAFETY: host` comment below refers to this contract.

// Names here are C's; the contract above stands for a Safety section at each function.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

pub mod version;
pub mod status;
pub mod log;
mod background;
pub mod buf;
pub mod op;
pub mod op_file;
pub mod op_path;
pub mod op_socket;
pub mod op_wait;
pub mod io;
pub mod ring;
pub mod file;
pub mod drive;
pub mod insight;

mod callback;
mod errno;
mod fork;
mod guard;
mod handle;
mod thread;
#[cfg(feature = "fault-hooks")]
mod fault;
#[cfg(feature = "unmap-freed")]
mod unmapped;
