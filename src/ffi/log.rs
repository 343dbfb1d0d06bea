// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages for the host's programmer: silent unless a function is set.

use std::ffi::c_char;

use super::guard::caught;
use crate::core::log;

/// A function that takes a line of text for the host's programmer. It must not call the library.
pub type paluring_log_fn = Option<unsafe extern "C" fn(user_data: usize, text: *const c_char)>;

/// Set the function that gets the library's messages, for the whole process.
/// Debug builds report the host's mistakes to it; release builds only internal bugs that were caught.
/// @param log        gets one line without a newline, on the thread that made the call; NULL = silent (default)
/// @param user_data  handed to log as it is
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn paluring_log_set(log: paluring_log_fn, user_data: usize) {
    caught((), || log::set(log.map(|log| log as usize), user_data));
}
