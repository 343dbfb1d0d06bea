// SPDX-License-Identifier: MIT OR Apache-2.0
//! Set-up by ladder: try the best, step down, remember what was got. What the kernel
//! can is learnt from its answers, never from its version.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use io_uring::{IoUring, opcode, types};

use super::linux::{REGISTER_EVENTFD, register};
use super::os::{self, Sentinel};
use super::{Errno, Info, Setup, SysResult, fallback};

const SUBMIT_ALL: u32 = 1 << 7;
const TASKRUN_FLAG: u32 = 1 << 9;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
const R_DISABLED: u32 = 1 << 6;
const NO_SQARRAY: u32 = 1 << 16;

/// Newest first: what a kernel may lack, one step a row.
const STEPS: [u32; 4] = [NO_SQARRAY, DEFER_TASKRUN | TASKRUN_FLAG, SINGLE_ISSUER, SUBMIT_ALL];

const REGISTER_PROBE: u32 = 8;

/// Waits for the memory of rings that the kernel has not quite freed yet, before doing with less.
const PATIENCE_MS: [u64; 6] = [1, 2, 4, 8, 16, 32];

pub(super) fn ring(setup: &Setup) -> SysResult<(IoUring, Info)> {
    let mut info = Info::default();
    let mut flags = best_flags(setup, &mut info);
    let mut cq_entries = setup.cq_entries;
    let mut steps = STEPS.iter();
    let mut waits = PATIENCE_MS.iter();
    let ring = loop {
        match build(setup.entries, cq_entries, flags) {
            Ok(ring) => break ring,
            Err(Errno(libc::EINVAL)) => {
                let step = steps.find(|step| flags & *step != 0).ok_or(Errno(libc::EINVAL))?;
                flags &= !step;
                info.fallbacks |= fallback::SETUP;
            }
            Err(Errno(libc::ENOMEM)) => match waits.next() {
                Some(&ms) => std::thread::sleep(Duration::from_millis(ms)),
                None if cq_entries > setup.cq_least => {
                    cq_entries = (cq_entries / 2).max(setup.cq_least);
                    info.fallbacks |= fallback::CQ_ENTRIES;
                }
                None => return Err(Errno(libc::ENOMEM)),
            },
            Err(other) => return Err(other),
        }
    };
    info.setup_flags = flags;
    info.defers = flags & DEFER_TASKRUN != 0;
    info.entries = ring.params().sq_entries();
    info.cq_entries = ring.params().cq_entries();
    info.features = features(&ring);
    if !needs(&ring) {
        return Err(Errno(libc::ENOSYS));
    }
    Ok((ring, info))
}

fn best_flags(setup: &Setup, info: &mut Info) -> u32 {
    const DEFERRED: u32 = DEFER_TASKRUN | TASKRUN_FLAG;
    let owned = SUBMIT_ALL | NO_SQARRAY | SINGLE_ISSUER | R_DISABLED;
    if !setup.single_issuer {
        return SUBMIT_ALL | NO_SQARRAY;
    }
    if tells_at_once() {
        return owned | DEFERRED;
    }
    info.fallbacks |= fallback::SETUP;
    owned
}

fn build(entries: u32, cq_entries: u32, flags: u32) -> SysResult<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(cq_entries);
    let mut set = |flag: u32, apply: fn(&mut io_uring::Builder) -> &mut io_uring::Builder| {
        if flags & flag != 0 {
            apply(&mut builder);
        }
    };
    set(SUBMIT_ALL, io_uring::Builder::setup_submit_all);
    set(TASKRUN_FLAG, io_uring::Builder::setup_taskrun_flag);
    set(SINGLE_ISSUER, io_uring::Builder::setup_single_issuer);
    set(DEFER_TASKRUN, io_uring::Builder::setup_defer_taskrun);
    set(R_DISABLED, io_uring::Builder::setup_r_disabled);
    set(NO_SQARRAY, io_uring::Builder::setup_no_sqarray);
    builder.build(entries).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Whether a ring that defers task work writes its eventfd at once when there is some. Kernels of the 6.12 line do so 10 to
/// 25 ms later: there the rings do without, so that event loops are quick. Found by trying, once.
fn tells_at_once() -> bool {
    const NOT_TRIED: u32 = 0;
    const NO: u32 = 1;
    const YES: u32 = 2;
    static TOLD: AtomicU32 = AtomicU32::new(NOT_TRIED);
    let mut told = TOLD.load(Ordering::Relaxed);
    if told == NOT_TRIED {
        // Short of something, or no such rings: the set-up itself shows it.
        let Ok(at_once) = try_eventfd() else { return true };
        told = if at_once { YES } else { NO };
        TOLD.store(told, Ordering::Relaxed);
    }
    told == YES
}

/// A poll in a ring of its own, for a pipe that is written to: whether that shows in the ring's eventfd right then.
fn try_eventfd() -> SysResult<bool> {
    let mut ring = build(1, 2, SINGLE_ISSUER | DEFER_TASKRUN)?;
    let told = os::eventfd()?;
    let mut told_fd = told.as_raw_fd();
    // SAFETY: the kernel reads one int.
    unsafe { register(ring.as_raw_fd(), REGISTER_EVENTFD, (&raw mut told_fd).cast(), 1) }?;
    let (read_end, write_end) = Sentinel::new()?;
    let poll = opcode::PollAdd::new(types::Fd(read_end.0.as_raw_fd()), libc::POLLIN as u32).build();
    // SAFETY: the entry points to no memory.
    let pushed = unsafe { ring.submission().push(&poll) };
    pushed.map_err(|_| Errno(libc::EBUSY))?;
    ring.submit().map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))?;
    os::write_byte(write_end.as_raw_fd())?;
    os::is_readable(told_fd)
}

/// What the library can't do without: lossless overflow, arguments read at submission, waits with a timeout.
fn needs(ring: &IoUring) -> bool {
    let params = ring.params();
    params.is_feature_nodrop() && params.is_feature_submit_stable() && params.is_feature_ext_arg()
}

/// The kernel's feature bits, put together again from what the crate tells.
fn features(ring: &IoUring) -> u32 {
    let p = ring.params();
    let bits = [
        p.is_feature_single_mmap(),
        p.is_feature_nodrop(),
        p.is_feature_submit_stable(),
        p.is_feature_rw_cur_pos(),
        p.is_feature_cur_personality(),
        p.is_feature_fast_poll(),
        p.is_feature_poll_32bits(),
        p.is_feature_sqpoll_nonfixed(),
        p.is_feature_ext_arg(),
        p.is_feature_native_workers(),
        p.is_feature_resource_tagging(),
        p.is_feature_skip_cqe_on_success(),
        p.is_feature_linked_file(),
        false, // REG_REG_RING: not told
        p.is_feature_recvsend_bundle(),
        p.is_feature_min_timeout(),
        false, // RW_ATTR: not told
        p.is_feature_no_iowait(),
    ];
    bits.iter().enumerate().fold(0, |all, (bit, &set)| all | u32::from(set) << bit)
}

/// Which operations the kernel has.
pub(super) fn probe(fd: i32) -> SysResult<[u64; 4]> {
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Op {
        op: u8,
        reserved: u8,
        flags: u16,
        reserved2: u32,
    }
    #[repr(C)]
    struct Probe {
        last_op: u8,
        ops_len: u8,
        reserved: [u16; 7],
        ops: [Op; 256],
    }
    let mut probe = Probe { last_op: 0, ops_len: 0, reserved: [0; 7], ops: [Op::default(); 256] };
    // SAFETY: the kernel writes at most 256 ops into the probe.
    unsafe { register(fd, REGISTER_PROBE, (&raw mut probe).cast(), 256) }?;
    let mut ops = [0u64; 4];
    for op in probe.ops.iter().take(usize::from(probe.ops_len)).filter(|op| op.flags & 1 != 0) {
        if let Some(word) = ops.get_mut(usize::from(op.op) / 64) {
            *word |= 1 << (op.op % 64);
        }
    }
    Ok(ops)
}
