// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which library this is.

use std::ffi::c_char;

/// Return the version of the library that the program runs with, such as "0.1.0".
/// It may be newer than the header the program was compiled with (PALURING_VERSION).
/// @return static text, never NULL
/// Ownership: static, never released   Threads: any and signal handlers   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn paluring_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Return the version of the library as a number: major × 1000000 + minor × 1000 + patch.
/// Compare it with PALURING_VERSION_NUMBER to see whether header and library differ.
/// @return the number, such as 1000 for 0.1.0
/// Ownership: nothing   Threads: any and signal handlers   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn paluring_version_number() -> u32 {
    VERSION_NUMBER
}

const VERSION_NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
    + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
    + number(env!("CARGO_PKG_VERSION_PATCH"));

const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(n) => n,
        Err(_) => 0,
    }
}
