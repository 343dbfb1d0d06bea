// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffers: reference-counted owners of memory.
//!
//! One rule: a call that is given a buffer adds a reference of its own, yours stays yours;
//! a buffer from an out parameter is yours to release. The memory lives until the last
//! reference is gone, and an I/O in flight holds one.

use std::ffi::c_void;

use super::guard::{EINVAL, caught};
use super::handle::{borrow, give, take_back};
use super::io::paluring_completion;
use crate::core::Buf;

/// A reference-counted owner of memory. Any thread may use it; its bytes are the host's to synchronise.
#[allow(missing_debug_implementations)]
pub struct paluring_buf {
    _private: [u8; 0],
}

/// A function that takes adopted memory back. It runs once, under no lock, when nothing uses the memory any more.
pub type paluring_release_fn = Option<unsafe extern "C" fn(user_data: usize, data: *mut c_void, len: usize)>;

/// Allocate a buffer of zeroed memory.
/// @param len        bytes; 0 is allowed
/// @param alignment  a power of two up to 2^30, or 0 for the default of 64; pass 4096 for O_DIRECT
/// @param out_buf    set to NULL on failure; one reference, yours to release
/// @return 0, -ENOMEM, or -EINVAL (alignment no power of two, out_buf NULL)
/// Ownership: gives one reference   Threads: any   Blocks: never; may run release functions   Since: 0.1
/// See: aligned_alloc(3), open(2) on O_DIRECT
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_alloc(len: usize, alignment: usize, out_buf: *mut *mut paluring_buf) -> i32 {
    // SAFETY: host: out_buf is NULL or writable.
    unsafe { give(out_buf, || Buf::alloc(len, alignment)) }
}

/// Adopt memory of the host, which is used in place.
/// The memory must stay valid, and not move, until release has been called.
/// @param data       start of the memory; not NULL unless len is 0
/// @param len        bytes
/// @param release    called once when nothing uses the memory any more; NULL only for memory that outlives the process's rings
/// @param user_data  handed to release as it is
/// @param out_buf    set to NULL on failure, and then release is not called; one reference, yours to release
/// @return 0, -ENOMEM, or -EINVAL (data NULL with len, out_buf NULL)
/// Ownership: takes the memory over, gives one reference   Threads: any; release runs on the thread that lets go last   Blocks: never; may run release functions   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_adopt(
    data: *mut c_void,
    len: usize,
    release: paluring_release_fn,
    user_data: usize,
    out_buf: *mut *mut paluring_buf,
) -> i32 {
    let adopt = || Buf::adopt(data.cast(), len, super::callback::Adopted::new(data, len, release, user_data));
    // SAFETY: host: out_buf is NULL or writable; data is valid for len bytes until the release.
    unsafe { give(out_buf, adopt) }
}

/// Make a buffer of a part of another; both share the memory.
/// @param buf      borrowed: the slice adds its own reference; not a list
/// @param offset   bytes from the start of buf
/// @param len      bytes
/// @param out_buf  set to NULL on failure; one reference, yours to release
/// @return 0, -ENOMEM, or -EINVAL (beyond the end of buf, buf is a list or NULL, out_buf NULL)
/// Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_slice(
    buf: *mut paluring_buf,
    offset: usize,
    len: usize,
    out_buf: *mut *mut paluring_buf,
) -> i32 {
    // SAFETY: host: handles and out_buf are NULL or valid.
    unsafe { give(out_buf, || Buf::slice(borrow(buf, "paluring_buf_slice")?, offset, len)) }
}

/// Make a list of buffers, which reads and writes fill and drain in order: scatter/gather.
/// Its length is the sum of its members' lengths; its data is NULL.
/// @param bufs     array of count buffers, borrowed: the list adds a reference to each; none of them a list
/// @param count    1 to 1024
/// @param out_buf  set to NULL on failure; one reference, yours to release
/// @return 0, -ENOMEM, or -EINVAL (count, a NULL or a list among bufs, out_buf NULL)
/// Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
/// See: readv(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_list(
    bufs: *const *mut paluring_buf,
    count: usize,
    out_buf: *mut *mut paluring_buf,
) -> i32 {
    let members = || {
        if bufs.is_null() || count == 0 || count > 1024 {
            return Err(EINVAL);
        }
        for index in 0..count {
            // SAFETY: host: bufs holds count handles, live ones.
            unsafe { borrow(*bufs.add(index), "paluring_buf_list") }?;
        }
        // SAFETY: as above.
        Buf::list(unsafe { std::slice::from_raw_parts(bufs.cast::<Option<&Buf>>(), count) })
    };
    // SAFETY: host: out_buf is NULL or writable.
    unsafe { give(out_buf, members) }
}

/// Count the members of a list.
/// @param buf  borrowed
/// @return the count; 0 for NULL and for a buffer that is no list
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_list_count(buf: *const paluring_buf) -> usize {
    // SAFETY: host: NULL or a live handle.
    caught(0, || unsafe { borrow(buf, "paluring_buf_list_count") }.map_or(0, |buf| buf.members().len()))
}

/// Look at one member of a list.
/// @param buf    borrowed
/// @param index  below paluring_buf_list_count
/// @return the member, or NULL (no list, index too large)
/// Ownership: borrowed from the list, retain it to keep it   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_list_at(buf: *mut paluring_buf, index: usize) -> *mut paluring_buf {
    caught(std::ptr::null_mut(), || {
        // SAFETY: host: NULL or a live handle.
        let member = unsafe { borrow(buf, "paluring_buf_list_at") }.ok().and_then(|buf| buf.members().get(index));
        member.map_or(std::ptr::null_mut(), |member| member.as_ptr().cast())
    })
}

/// Add a reference.
/// @param buf  borrowed; NULL gives NULL
/// @return buf
/// Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_retain(buf: *mut paluring_buf) -> *mut paluring_buf {
    caught(std::ptr::null_mut(), || {
        // SAFETY: host: NULL or a live handle.
        unsafe { borrow(buf, "paluring_buf_retain") }
            .map_or(std::ptr::null_mut(), |buf: &Buf| buf.retain().give().as_ptr().cast())
    })
}

/// Give up a reference. The last one frees the memory, or hands it back through its release function.
/// @param buf  one reference, taken; NULL does nothing
/// Ownership: takes one reference   Threads: any   Blocks: never; the last one runs the release function   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_release(buf: *mut paluring_buf) {
    // SAFETY: host: NULL or a reference that is given up here.
    caught((), || drop(unsafe { take_back(buf, "paluring_buf_release") }));
}

/// Count the references. 1 means that only the caller has one: no I/O in flight, no slice, no list uses the buffer.
/// @param buf  borrowed
/// @return the count; 0 for NULL
/// Ownership: nothing   Threads: any; the count may be old when it arrives unless it is 1   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_refs(buf: *const paluring_buf) -> u32 {
    // SAFETY: host: NULL or a live handle.
    caught(0, || unsafe { borrow(buf, "paluring_buf_refs") }.map_or(0, Buf::refs))
}

/// Get the address of the bytes. While an I/O that reads into them is in flight, their content is undefined.
/// @param buf  borrowed
/// @return the first byte, valid while a reference is held; NULL for NULL and for a list
/// Ownership: borrowed from buf   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_data(buf: *mut paluring_buf) -> *mut u8 {
    caught(std::ptr::null_mut(), || {
        // SAFETY: host: NULL or a live handle.
        unsafe { borrow(buf, "paluring_buf_data") }.map_or(std::ptr::null_mut(), |buf: &Buf| buf.data())
    })
}

/// Get the length in bytes; of a list, the sum of its members'.
/// @param buf  borrowed
/// @return bytes; 0 for NULL
/// Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_buf_len(buf: *const paluring_buf) -> usize {
    // SAFETY: host: NULL or a live handle.
    caught(0, || unsafe { borrow(buf, "paluring_buf_len") }.map_or(0, Buf::len))
}

/// Keep the buffer that a completion lends to its callback.
/// Only inside the callback, on the completion that it was given, once.
/// @param completion  the callback's argument; its buf becomes NULL
/// @return the buffer, one reference, yours to release; NULL if there is none to take (not a callback's completion, taken already, no buffer)
/// Ownership: gives one reference   Threads: callback   Blocks: never   Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paluring_completion_take(completion: *mut paluring_completion) -> *mut paluring_buf {
    // SAFETY: host: NULL or the completion that its callback was given.
    caught(std::ptr::null_mut(), || unsafe { super::callback::take_lent(completion) })
}
