// SPDX-License-Identifier: MIT OR Apache-2.0
//! Set-up by ladder: try the best, step down, remember what was got. What the kernel
//! can is learnt from its answers, never from its version.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::linux::{Gate, Linux, REGISTER_EVENTFD, register};
use super::os::{self, Sentinel};
use super::queues::{self, Params, Queues};
use super::{Backend, Enter, Errno, Info, Setup, SysResult, entry, fallback};

const SUBMIT_ALL: u32 = 1 << 7;
const TASKRUN_FLAG: u32 = 1 << 9;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
const R_DISABLED: u32 = 1 << 6;
const NO_SQARRAY: u32 = 1 << 16;

/// Newest first: what a kernel may lack, one step a row.
const STEPS: [u32; 4] = [NO_SQARRAY, DEFER_TASKRUN | TASKRUN_FLAG, SINGLE_ISSUER, SUBMIT_ALL];

/// What the library can't do without: lossless overflow, arguments read at submission, waits with a timeout.
const NEEDED: u32 = FEAT_NODROP | FEAT_SUBMIT_STABLE | FEAT_EXT_ARG;
const FEAT_NODROP: u32 = 1 << 1;
const FEAT_SUBMIT_STABLE: u32 = 1 << 2;
const FEAT_EXT_ARG: u32 = 1 << 8;

const REGISTER_PROBE: u32 = 8;

/// Waits for the memory of rings that the kernel has not quite freed yet, before doing with less.
const PATIENCE_MS: [u64; 6] = [1, 2, 4, 8, 16, 32];

pub(super) fn ring(setup: &Setup) -> SysResult<(OwnedFd, Params, Info)> {
    let mut info = Info::default();
    let mut flags = best_flags(setup, &mut info);
    let mut cq_entries = setup.cq_entries;
    let mut steps = STEPS.iter();
    let mut waits = PATIENCE_MS.iter();
    let (fd, params) = loop {
        match queues::setup(setup.entries, cq_entries, flags) {
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
    info.entries = params.sq_entries;
    info.cq_entries = params.cq_entries;
    info.features = params.features;
    if info.features & NEEDED != NEEDED {
        return Err(Errno(libc::ENOSYS));
    }
    Ok((fd, params, info))
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
    let (fd, params) = queues::setup(1, 2, SINGLE_ISSUER | DEFER_TASKRUN)?;
    let mut queues = Queues::map(&fd, &params)?;
    let told = os::eventfd()?;
    let mut told_fd = told.as_raw_fd();
    // SAFETY: the kernel reads one int.
    unsafe { register(fd.as_raw_fd(), REGISTER_EVENTFD, (&raw mut told_fd).cast(), 1) }?;
    let (read_end, write_end) = Sentinel::new()?;
    let poll = entry::poll_in(read_end.0.as_raw_fd());
    // SAFETY: the entry points to no memory.
    unsafe { queues.push_with(|place| *place = poll) };
    let submit = queues.publish();
    Linux::enter(Gate::plain(fd.as_raw_fd()), Enter { submit, wait: false, flush: false, timeout: None })?;
    os::write_byte(write_end.as_raw_fd())?;
    os::is_readable(told_fd)
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
