// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives the shared object its soname, which rustc leaves out: a program then asks for
//! `libpaluring.so.<major>` at run time, not for the file that it was linked with.
//! And pins it where it is loaded: threads that have driven a ring call it when they exit.
//! The symbols' versions come from `tools/versioned-cc`.

fn main() {
    for file in ["build.rs", "tools/paluring.map", "tools/versioned-cc"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let soname = concat!("libpaluring.so.", env!("CARGO_PKG_VERSION_MAJOR"));
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
