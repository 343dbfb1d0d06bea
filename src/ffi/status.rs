// SPDX-License-Identifier: MIT OR Apache-2.0
//! Status codes: what every function that can fail returns.
//!
//! A function's int32_t is 0 or a count on success, below 0 on failure: a negative
//! errno, or one of the library's own codes.

use std::ffi::{CStr, c_char};

use super::errno;
use super::guard::caught;

/// The I/O handle names no I/O of this ring: finished, taken, or it never existed.
pub const PALURING_ERR_STALE: i32 = -5001;
/// An OWNER ring driven by a thread that isn't its owner.
pub const PALURING_ERR_WRONG_THREAD: i32 = -5002;
/// An internal bug was caught; only close and release work on this ring.
pub const PALURING_ERR_POISONED: i32 = -5003;
/// The ring is closed or closing.
pub const PALURING_ERR_CLOSED: i32 = -5004;
/// The ring belongs to the parent process.
pub const PALURING_ERR_FORKED: i32 = -5005;
/// The kernel dropped completions: the result is unknown, the memory quarantined.
pub const PALURING_ERR_LOST: i32 = -5006;
/// Close ran out of time: the I/O may still happen; adopted memory stays in use until its release function runs.
pub const PALURING_ERR_ORPHANED: i32 = -5007;
/// To a ready function: replaced, or its I/O was dropped; only give up user_data.
pub const PALURING_ERR_DROPPED: i32 = -5008;

#[rustfmt::skip]
static OWN: [(i32, &CStr, &CStr); 8] = [
    (PALURING_ERR_STALE,        c"PALURING_ERR_STALE",        c"The I/O handle names no I/O of this ring"),
    (PALURING_ERR_WRONG_THREAD, c"PALURING_ERR_WRONG_THREAD", c"The ring is driven by another thread"),
    (PALURING_ERR_POISONED,     c"PALURING_ERR_POISONED",     c"An internal bug was caught; only close and release work on this ring"),
    (PALURING_ERR_CLOSED,       c"PALURING_ERR_CLOSED",       c"The ring is closed or closing"),
    (PALURING_ERR_FORKED,       c"PALURING_ERR_FORKED",       c"The ring belongs to the parent process"),
    (PALURING_ERR_LOST,         c"PALURING_ERR_LOST",         c"The kernel dropped completions; the result is unknown"),
    (PALURING_ERR_ORPHANED,     c"PALURING_ERR_ORPHANED",     c"Close ran out of time; the I/O may still happen"),
    (PALURING_ERR_DROPPED,      c"PALURING_ERR_DROPPED",      c"The ready function was replaced or its I/O dropped"),
];

/// Describe a status in English.
/// For messages to people; programs compare the number.
/// @param status  what a function returned; 0 and counts give "Success"
/// @return static text, never NULL
/// Ownership: static, never released   Threads: any and signal handlers   Blocks: never   Since: 0.1
/// See: strerror(3)
#[unsafe(no_mangle)]
pub extern "C" fn paluring_strerror(status: i32) -> *const c_char {
    caught(c"Unknown status".as_ptr(), || describe(status).1.as_ptr())
}

/// Name a status as the source spells it: "EAGAIN", "PALURING_ERR_STALE".
/// For logs and for bindings that turn statuses into exceptions.
/// @param status  what a function returned; 0 and counts give "0"
/// @return static text, never NULL
/// Ownership: static, never released   Threads: any and signal handlers   Blocks: never   Since: 0.1
/// See: errno(3)
#[unsafe(no_mangle)]
pub extern "C" fn paluring_status_name(status: i32) -> *const c_char {
    caught(c"UNKNOWN".as_ptr(), || describe(status).0.as_ptr())
}

fn describe(status: i32) -> (&'static CStr, &'static CStr) {
    if status >= 0 {
        return (c"0", c"Success");
    }
    let own = OWN.iter().find(|row| row.0 == status).map(|row| (row.1, row.2));
    own.or_else(|| errno::lookup(status.checked_neg()?)).unwrap_or((c"UNKNOWN", c"Unknown status"))
}
