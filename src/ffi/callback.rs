// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calling the host, and turning what the core knows into what the host sees. No lock of the library is held here.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::num::NonZeroUsize;

use super::buf::{paluring_buf, paluring_release_fn};
use super::guard::{EINVAL, LOOKS_FOR_MISTAKES, put, report_misuse, zeroed};
use super::handle::{NOT_YOURS, check_alive};
use super::insight::{paluring_capabilities, paluring_stats};
use super::io::{PALURING_CHAIN_HARDLINK, paluring_completion, paluring_io, paluring_ready_fn};
use super::op::{
    PALURING_OP_ASYNC, PALURING_OP_DETACHED, PALURING_OP_FIXED, PALURING_OP_FULL, PALURING_OP_MOVE, PALURING_OP_QUEUE,
    PALURING_OP_SUBMIT, PALURING_OP_ZEROCOPY, paluring_op,
};
use crate::core::buf::Owner;
use crate::core::op::{Borrowed, Template};
use crate::core::{Completion, Delivery, Extras, KernelRing, KernelSession, Lent, Limit, Out, Start, Status, Step, To};

/// Wait, then do what is there.
#[inline(always)]
pub(super) fn run(ring: &KernelRing, min: u32, limit: Limit) -> Result<i32, Status> {
    let out = Out::new();
    let Some(mut usual) = ring.usual_run(min, limit, &out) else { return run_session(ring, ring.run(min, limit)?) };
    while let Some(callback) = usual.next() {
        complete(Some(callback), &out);
    }
    match usual.end() {
        Some(count) => Ok(count),
        None => run_session(ring, usual.go_on()),
    }
}

/// Do what a session gives out, until it ends.
pub(super) fn run_session(_ring: &KernelRing, session: KernelSession<'_>) -> Result<i32, Status> {
    // From here on the session stays where it is: the core remembers where what it lends is.
    let mut session = session;
    loop {
        while let Some(callback) = session.next_plain() {
            complete(Some(callback), &session.out);
        }
        match session.next() {
            Step::Deliver(Delivery::Complete(callback)) => complete(callback, &session.out),
            Step::Deliver(Delivery::Ready(ready)) => {
                // SAFETY: from `host_ready`.
                let function: unsafe extern "C" fn(usize, i32) = unsafe { std::mem::transmute(ready.function.get()) };
                // SAFETY: host: it doesn't unwind.
                unsafe { function(ready.user_data, ready.status) };
            }
            Step::Deliver(Delivery::Call(function, user_data)) => {
                // SAFETY: from `host_function`.
                let function: unsafe extern "C" fn(usize) = unsafe { std::mem::transmute(function.get()) };
                // SAFETY: host: it doesn't unwind.
                unsafe { function(user_data) };
            }
            Step::End(result) => return result,
        }
    }
}

#[inline(always)]
fn complete(callback: Option<NonZeroUsize>, out: &Out) {
    let completion = out.place().cast::<paluring_completion>();
    if let Some(callback) = callback {
        // SAFETY: from the callback of a paluring_op.
        let callback: unsafe extern "C" fn(usize, *mut paluring_completion) =
            unsafe { std::mem::transmute(callback.get()) };
        // SAFETY: the session has put a completion there, laid out as the host knows it (checked below). Host: it
        // doesn't unwind.
        unsafe { callback((*completion).user_data, completion) };
    }
    out.end();
}

/// # Safety
/// NULL, or the completion that the running callback was given, or one from poll, wait or reap.
pub(super) unsafe fn take_lent(completion: *mut paluring_completion) -> *mut paluring_buf {
    // SAFETY: the caller's duty.
    let Some(completion) = (unsafe { completion.as_mut() }) else { return std::ptr::null_mut() };
    // A copy, or a completion that was not lent anything, doesn't name itself.
    if completion.buf.is_null() || completion.reserved[0] != (&raw const *completion).addr() as u64 {
        return std::ptr::null_mut();
    }
    completion.buf = std::ptr::null_mut();
    // SAFETY: `complete` set it, and is still running.
    let lent = unsafe { &*(completion.reserved[1] as usize as *const Lent) };
    lent.take().map_or(std::ptr::null_mut(), |buf| buf.give().as_ptr().cast())
}

pub(super) fn to_host(mut completion: Completion) -> paluring_completion {
    completion.reserved0 = 0;
    if let Some(buf) = &completion.buf {
        buf.count_given();
    }
    // SAFETY: the same layout, checked below; the reference to a buffer goes with its pointer.
    unsafe { std::mem::transmute(completion) }
}

const _: () = {
    assert!(size_of::<Completion>() == 64 && size_of::<paluring_completion>() == 64);
    assert!(offset_of!(Completion, user_data) == offset_of!(paluring_completion, user_data));
    assert!(offset_of!(Completion, buf) == offset_of!(paluring_completion, buf));
    assert!(offset_of!(Completion, extra) == offset_of!(paluring_completion, extra));
    assert!(offset_of!(Completion, result) == offset_of!(paluring_completion, result));
    assert!(offset_of!(Completion, flags) == offset_of!(paluring_completion, flags));
    assert!(offset_of!(Completion, opcode) == offset_of!(paluring_completion, opcode));
    assert!(offset_of!(Completion, reserved) == offset_of!(paluring_completion, reserved));
};

/// A ready function as the core keeps it.
pub(super) fn host_ready(ready: paluring_ready_fn, user_data: usize) -> Option<(NonZeroUsize, usize)> {
    Some((NonZeroUsize::new(ready? as usize)?, user_data))
}

/// A function that gets only user_data, as the core keeps it.
pub(super) fn host_function(
    function: Option<unsafe extern "C" fn(usize)>,
    user_data: usize,
) -> Option<(NonZeroUsize, usize)> {
    Some((NonZeroUsize::new(function? as usize)?, user_data))
}

/// What a start looks at more closely.
const RARE_FLAGS: u32 = PALURING_OP_ASYNC
    | PALURING_OP_MOVE
    | PALURING_OP_SUBMIT
    | PALURING_OP_FULL
    | PALURING_OP_ZEROCOPY
    | PALURING_OP_FIXED;

const KNOWN_FLAGS: u32 = RARE_FLAGS | PALURING_OP_QUEUE | PALURING_OP_DETACHED;

/// What most operations ask for: a callback, the queue, or to be kept, and nothing else.
#[inline(always)]
fn usual(op: &paluring_op, has_out: bool) -> Option<Start<'_>> {
    const _: () = assert!(offset_of!(paluring_op, timeout_ns) == 16 && offset_of!(paluring_op, private_) == 40);
    // SAFETY: what is between user_data and the library's own: 24 bytes of plain numbers.
    let [timeout, flags, rest] = unsafe { (&raw const op.timeout_ns).cast::<[u64; 3]>().read() };
    let callback = op.callback.and_then(|callback| NonZeroUsize::new(callback as usize));
    let to = match callback {
        Some(_) if timeout | flags | rest == 0 => To::Callback,
        None if timeout | rest == 0 && flags == PALURING_OP_QUEUE.into() => To::Queue,
        None if timeout | flags | rest == 0 && has_out => To::Kept,
        _ => return None,
    };
    Some(Start { template: Template::from_words(&op.private_), to, callback, user_data: op.user_data })
}

/// The start of an operation that asks for no more than most do. False: nothing has happened.
/// # Safety
/// As `start`.
#[inline(always)]
pub(super) unsafe fn start_at_once(ring: &KernelRing, op: &paluring_op, out_io: *mut paluring_io) -> bool {
    let (Some(start), mut handle) = (usual(op, !out_io.is_null()), 0) else { return false };
    // SAFETY: host: the op's buffer is live.
    let started = unsafe { ring.start_as_owner(&start, &mut handle) };
    if started {
        // SAFETY: host: out_io is NULL or writable.
        unsafe { put(out_io, handle) };
    }
    started
}

/// # Safety
/// What `op` names is live; `out_io` is NULL or writable.
#[inline(always)]
pub(super) unsafe fn start(ring: &KernelRing, op: &paluring_op, out_io: *mut paluring_io) -> Result<i32, Status> {
    let start = described("paluring_io_start", op, !out_io.is_null())?;
    let mut unasked = 0;
    // SAFETY: host: out_io is NULL or writable.
    let out = unsafe { out_io.as_mut() }.unwrap_or(&mut unasked);
    let extras = op.flags & RARE_FLAGS | op.rw_flags;
    if extras == 0 && op.timeout_ns <= 0 && (op.ioprio | op.personality) == 0 && start.template.is_simple() {
        // SAFETY: host: the op's buffer is live.
        unsafe { ring.start_simple(&start, out) }?;
    } else {
        // SAFETY: host: what the op names is live, and with MOVE the buffer's reference is given.
        unsafe { ring.start(&start, extras_of(op, &start), out) }?;
    }
    Ok(0)
}

/// What an operation asks for, as far as it says so itself.
#[inline(always)]
fn described<'a>(function: &str, op: &'a paluring_op, has_out: bool) -> Result<Start<'a>, Status> {
    let callback = op.callback.and_then(|callback| NonZeroUsize::new(callback as usize));
    let template = Template::from_words(&op.private_);
    let to = match (op.flags & (PALURING_OP_QUEUE | PALURING_OP_DETACHED), callback) {
        (0, Some(_)) => To::Callback,
        (PALURING_OP_QUEUE, None) => To::Queue,
        (PALURING_OP_DETACHED, None) => To::Nobody,
        (0, None) if has_out => To::Kept,
        _ => return Err(EINVAL),
    };
    if op.flags & !KNOWN_FLAGS != 0 || op.reserved != 0 {
        return Err(EINVAL);
    }
    if let Some(buf) = template.buf() {
        // SAFETY: host: the op's buffer is live.
        let held = unsafe { check_alive(buf, function, "the operation's buffer") }?;
        if op.flags & PALURING_OP_MOVE != 0 && !held.is_given() {
            report_misuse(function, NOT_YOURS);
            return Err(EINVAL);
        }
    }
    Ok(Start { template, to, callback, user_data: op.user_data })
}

/// What an operation asks for besides.
#[inline(never)]
fn extras_of<'a>(op: &'a paluring_op, start: &Start<'a>) -> Extras<'a> {
    let asks = |flag: u32| op.flags & flag != 0;
    Extras {
        lent: start.template.borrowed().map(lent),
        timeout_ns: op.timeout_ns,
        is_async: asks(PALURING_OP_ASYNC),
        moves: asks(PALURING_OP_MOVE),
        submits: asks(PALURING_OP_SUBMIT),
        full: asks(PALURING_OP_FULL),
        zero_copy: asks(PALURING_OP_ZEROCOPY),
        installs: asks(PALURING_OP_FIXED),
        rw_flags: op.rw_flags,
        ioprio: op.ioprio,
        personality: op.personality,
    }
}

/// What the host has lent, as it says.
fn lent<'a>(borrowed: Borrowed) -> Option<&'a [u8]> {
    match borrowed {
        Borrowed::Nothing => None,
        // SAFETY: host: a text ends with a zero.
        Borrowed::Text(at) => Some(unsafe { CStr::from_ptr(at as *const c_char) }.to_bytes_with_nul()),
        // SAFETY: host: so many bytes are readable there until the start returns.
        Borrowed::Bytes(at, len) => Some(unsafe { std::slice::from_raw_parts(at as *const u8, len) }),
    }
}

/// # Safety
/// `ops`, and `out_ios` if not NULL, are valid for `count` elements.
pub(super) unsafe fn start_batch(
    ring: &KernelRing,
    ops: *const paluring_op,
    count: usize,
    out_ios: *mut paluring_io,
) -> Result<i32, Status> {
    if count == 0 {
        return Ok(0);
    }
    if ops.is_null() || i32::try_from(count).is_err() {
        return Err(EINVAL);
    }
    let out_at = |index| if out_ios.is_null() { out_ios } else { out_ios.wrapping_add(index) };
    let op = |index| {
        // SAFETY: the caller's duty.
        usual(unsafe { &*ops.add(index) }, !out_ios.is_null())
    };
    let begin = if LOOKS_FOR_MISTAKES {
        0
    } else {
        // SAFETY: host: the ops' buffers are live, and out_ios writable.
        unsafe { ring.start_many_as_owner(count, op, |index, handle| put(out_at(index), handle)) }
    };
    for index in begin..count {
        // SAFETY: the caller's duty.
        unsafe { zeroed(out_at(index)) };
    }
    for index in begin..count {
        let out_io = out_at(index);
        // SAFETY: the caller's duty.
        let started = unsafe { start(ring, &*ops.add(index), out_io) };
        match started {
            Ok(_) => {}
            Err(status) if index == 0 => return Err(status),
            Err(_) => return Ok(index as i32),
        }
    }
    Ok(count as i32)
}

/// # Safety
/// As `start_batch`.
pub(super) unsafe fn start_chain(
    ring: &KernelRing,
    ops: *const paluring_op,
    count: usize,
    flags: u32,
    out_ios: *mut paluring_io,
) -> Result<i32, Status> {
    if ops.is_null() && count > 0 || i32::try_from(count).is_err() || flags & !PALURING_CHAIN_HARDLINK != 0 {
        return Err(EINVAL);
    }
    let out_at = |index| if out_ios.is_null() { out_ios } else { out_ios.wrapping_add(index) };
    for index in 0..count {
        // SAFETY: the caller's duty.
        unsafe { zeroed(out_at(index)) };
    }
    let member = |index| {
        // SAFETY: the caller's duty.
        let op = unsafe { &*ops.add(index) };
        let start = described("paluring_io_start_chain", op, !out_ios.is_null())?;
        Ok((start, extras_of(op, &start)))
    };
    // SAFETY: as above, and what the ops name is live.
    unsafe { ring.start_chain(count, flags != 0, member, |index, io| put(out_at(index), io)) }
}

/// Memory of the host's, given back when dropped.
pub(super) struct Adopted {
    release: unsafe extern "C" fn(usize, *mut c_void, usize),
    user_data: usize,
    data: *mut c_void,
    len: usize,
}

impl Adopted {
    /// `None`: memory that nobody wants back.
    pub(super) fn new(data: *mut c_void, len: usize, release: paluring_release_fn, user_data: usize) -> Option<Self> {
        Some(Self { release: release?, user_data, data, len })
    }
}

impl Owner for Adopted {}
// SAFETY: host: release functions run on the thread that lets go last.
unsafe impl Send for Adopted {}
// SAFETY: nothing is read or written through it.
unsafe impl Sync for Adopted {}

impl Drop for Adopted {
    fn drop(&mut self) {
        // SAFETY: host: it doesn't unwind; this is the one call.
        unsafe { (self.release)(self.user_data, self.data, self.len) };
    }
}

pub(super) fn capabilities(ring: &KernelRing) -> paluring_capabilities {
    let capabilities = ring.capabilities();
    let info = capabilities.info;
    paluring_capabilities {
        size: 0,
        backend: super::ring::PALURING_BACKEND_KERNEL,
        setup_flags: info.setup_flags,
        features: info.features,
        fallbacks: info.fallbacks,
        entries: info.entries,
        cq_entries: info.cq_entries,
        max_in_flight: capabilities.max_in_flight,
        max_files: info.files,
        reserved0: 0,
        ops: info.ops,
        reserved: [0; 8],
    }
}

pub(super) fn stats(ring: &KernelRing) -> paluring_stats {
    let stats = ring.stats();
    let counts = stats.counts;
    paluring_stats {
        queued: stats.queued,
        waiting: stats.waiting,
        completed: stats.completed,
        dropped: stats.dropped,
        total_started: counts.started,
        total_finished: stats.ended,
        total_cancelled: counts.cancelled,
        total_dropped: counts.dropped,
        total_detached_failed: counts.detached_failed,
        total_orphaned: counts.orphaned,
        total_enters: counts.enters,
        total_overflows: counts.overflows,
        total_again: counts.again,
        total_wakes: stats.wakes,
        total_resubmits: counts.resubmits,
        total_foreign: counts.foreign,
        high_in_flight: stats.high_in_flight.into(),
        high_queued: counts.high_queued.into(),
        quarantined_bytes: stats.quarantined_bytes,
        ..paluring_stats::default()
    }
}
