// SPDX-License-Identifier: MIT OR Apache-2.0
//! For tests alone, with the `unmap-freed` feature. Not in the header.

/// Count the completions with -EFAULT so far: late writes of the kernel, or what a test has asked for.
/// @return how many, of all rings of the process
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
#[allow(unreachable_pub)]
pub extern "C" fn paluring_test_efaults() -> u64 {
    crate::core::buf::efaults()
}
