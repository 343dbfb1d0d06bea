// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a sequence is made of. Each step names what it acts on by a number that is taken modulo what there is, so
//! a sequence stays one when steps are left out of it.

use proptest::prelude::*;

use crate::core::open::Mode;
use crate::core::table::To;
use crate::core::wait::Limit;
use crate::sys::fake::{Fault, Outcome, Plan};

/// A ring, and what happens to it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) mode: Mode,
    pub(super) entries: u32,
    pub(super) cq_entries: u32,
    pub(super) max_in_flight: u32,
    pub(super) plan: Plan,
    /// Of what the steps leave to the kernel.
    pub(super) seed: u64,
    pub(super) steps: Vec<Step>,
    /// The last handle is given up without a close.
    pub(super) released: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Nop,
    /// The kernel refuses it.
    Bad,
    Read,
    Write,
    /// Of two buffers, vectored.
    ReadList,
    ReadSlice,
    SendZc,
    RecvMulti,
    PollMulti,
    AcceptMulti,
    Accept,
    Open,
    Statx,
    Timeout,
    CloseFd,
}

/// What a host's function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Keep,
    /// So many plain I/Os with callbacks.
    Begin(u8),
    /// The lent buffer again.
    BeginAgain,
    Stop(u8),
    StopSelf,
    StopAll,
    Forget(u8),
    ForgetSelf,
    Look(u8),
    Limit(u8),
    /// A driver's call.
    Drive(u8),
    End(Wait),
    Rouse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    Ns(u64),
    Never,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) what: What,
    pub(super) to: To,
    pub(super) buf: u8,
    pub(super) moves: bool,
    pub(super) submits: bool,
    pub(super) timeout_ns: i64,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) hard: bool,
    pub(super) submits: bool,
    pub(super) what: u8,
    pub(super) to: u8,
    /// The member that the kernel refuses; from 8 on, that the library refuses.
    pub(super) bad: u8,
    /// Of the last one.
    pub(super) timeout_ns: i64,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Start(Asked),
    Burst(u8, Asked),
    /// How many, and what of each is derived from.
    Chain(u8, Links),
    /// Have this done when room returns.
    OnRoom(Option<Then>),
    Post(Then),
    /// The kernel does something.
    Work(u8, Outcome),
    Submit,
    Process(u32),
    Run(u32, Wait),
    Wait(u32, Wait),
    Reap(u32, Wait),
    Drain(Wait),
    Prepare,
    Ready,
    Poll(u8, Option<Then>),
    WaitIo(u8, Wait),
    Cancel(u8),
    CancelFd(u8),
    CancelAll,
    Drop(u8),
    SetTimeout(u8, i64),
    Stale(u8),
    /// A start that fails.
    Refused(u8, u8),
    Advance(u64),
    Wake,
    Fault(Fault),
    /// A completion that is nobody's.
    Foreign(u8, u8, u32),
    /// A thread that submitted has exited.
    CancelUnasked(u8),
    Lose(u8),
    Release(u8),
    Close(Wait),
    /// After a close: requests that it left end.
    EndOrphans(u8),
}

impl What {
    pub(super) fn has_path(self) -> bool {
        matches!(self, Self::Open | Self::Statx)
    }
}

impl Wait {
    pub(super) fn limit(self) -> Limit {
        match self {
            Self::No => Limit::Within(0),
            Self::Ns(ns) => Limit::Within(ns),
            Self::Never => Limit::Never,
        }
    }

    fn from(byte: u8) -> Self {
        match byte % 8 {
            0..3 => Self::No,
            3..6 => Self::Ns(u64::from(byte) * 1_000),
            _ => Self::Never,
        }
    }
}

impl Then {
    fn from(kind: u8, arg: u8) -> Self {
        match kind % 64 {
            0..24 => Self::Nothing,
            24..29 => Self::Keep,
            29..36 => Self::Begin(arg % 3 + 1),
            36..40 => Self::BeginAgain,
            40..43 => Self::Stop(arg),
            43 => Self::StopSelf,
            44 => Self::StopAll,
            45..49 => Self::Forget(arg),
            49 => Self::ForgetSelf,
            50..53 => Self::Look(arg),
            53 => Self::Limit(arg),
            54..58 => Self::Drive(arg),
            58..60 => Self::Rouse,
            60 => Self::End(Wait::from(arg)),
            _ => Self::Nothing,
        }
    }
}

impl Asked {
    /// With a callback that does nothing.
    pub(super) fn plain(what: What) -> Self {
        let then = Then::Nothing;
        Self { what, to: To::Callback, buf: 0, moves: false, submits: false, timeout_ns: 0, then }
    }

    fn from(bytes: [u8; 5]) -> Self {
        use What::*;
        const WHATS: [What; 20] = [
            Nop,
            Read,
            Nop,
            Read,
            Write,
            Bad,
            ReadList,
            ReadSlice,
            SendZc,
            SendZc,
            RecvMulti,
            RecvMulti,
            PollMulti,
            AcceptMulti,
            AcceptMulti,
            Accept,
            Open,
            Statx,
            Timeout,
            CloseFd,
        ];
        const TOS: [To; 8] =
            [To::Callback, To::Callback, To::Callback, To::Kept, To::Kept, To::Queue, To::Queue, To::Nobody];
        let [what, to, buf, then, arg] = bytes;
        Self {
            what: WHATS[usize::from(what) % WHATS.len()],
            to: TOS[usize::from(to % 8)],
            buf,
            moves: to & 0x18 == 0x18,
            submits: to & 0x60 == 0x60,
            timeout_ns: if arg & 0xc0 == 0xc0 { i64::from(arg) * 100 } else { 0 },
            then: Then::from(then, arg),
        }
    }
}

fn chain([count, what, to, bad, then]: [u8; 5]) -> Step {
    let links = Links {
        hard: to & 0x40 != 0,
        submits: to & 0x80 != 0,
        what,
        to: to % 8,
        bad: if bad & 0x80 != 0 { bad % 16 } else { u8::MAX },
        timeout_ns: if bad & 0x30 == 0x30 { i64::from(what) * 50 } else { 0 },
        then: Then::from(then, what),
    };
    Step::Chain(count % 6, links)
}

const ERRNOS: [i32; 8] =
    [libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::EBUSY, libc::ETIME, libc::EBADFD, libc::EEXIST, libc::EOPNOTSUPP];

fn fault([kind, a, b, ..]: [u8; 5]) -> Fault {
    match kind % 8 {
        0..4 => Fault::Fails { after: u32::from(a % 4), errno: ERRNOS[usize::from(b % 8)] },
        4..6 => Fault::Takes(u32::from(a % 4)),
        6 => Fault::Signal,
        _ => Fault::Early,
    }
}

fn outcome(byte: u8) -> Outcome {
    match byte % 16 {
        0..5 => Outcome::Done,
        5..7 => Outcome::Short,
        7..13 => Outcome::Event,
        13 => Outcome::Failed(libc::ENOBUFS),
        14 => Outcome::Failed(libc::EINTR),
        _ => Outcome::Failed(libc::EIO),
    }
}

type Make = fn([u8; 5]) -> Step;

/// How often, and from which bytes.
const STEPS: [(u32, Make); 32] = [
    (26, |b| Step::Start(Asked::from(b))),
    (4, |b| Step::Burst(b[4] % 7 + 2, Asked::from([b[0], b[1], b[2], b[3], 0]))),
    (8, chain),
    (1, |b| Step::OnRoom(if b[0] % 4 == 0 { None } else { Some(Then::from(b[1], b[2])) })),
    (2, |b| Step::Post(Then::from(b[0], b[1]))),
    (18, |b| Step::Work(b[0], outcome(b[1]))),
    (4, |_| Step::Submit),
    (6, |b| Step::Process(u32::from(b[0] % 4))),
    (8, |b| Step::Run(u32::from(b[0] % 4), Wait::from(b[1]))),
    (3, |b| Step::Wait(u32::from(b[0] % 4), Wait::from(b[1]))),
    (4, |b| Step::Reap(u32::from(b[0] % 3), Wait::from(b[1]))),
    (1, |b| Step::Drain(Wait::from(b[0]))),
    (2, |_| Step::Prepare),
    (2, |_| Step::Ready),
    (6, |b| Step::Poll(b[0], if b[1] % 2 == 0 { None } else { Some(Then::from(b[2], b[3])) })),
    (3, |b| Step::WaitIo(b[0], Wait::from(b[1]))),
    (5, |b| Step::Cancel(b[0])),
    (1, |b| Step::CancelFd(b[0])),
    (1, |_| Step::CancelAll),
    (5, |b| Step::Drop(b[0])),
    (3, |b| Step::SetTimeout(b[0], i64::from(b[1]) * 100 - 2_000)),
    (2, |b| Step::Stale(b[0])),
    (2, |b| Step::Refused(b[0], b[1])),
    (3, |b| Step::Advance(u64::from(b[0]) * 200)),
    (2, |_| Step::Wake),
    (5, |b| Step::Fault(fault(b))),
    (3, |b| Step::Foreign(b[0], b[1], u32::from(b[2] % 16))),
    (2, |b| Step::CancelUnasked(b[0])),
    (1, |b| Step::Lose(b[0])),
    (2, |b| Step::Release(b[0])),
    (1, |b| Step::Close(Wait::from(b[0]))),
    (1, |b| Step::EndOrphans(b[0] % 4)),
];

fn step() -> impl Strategy<Value = Step> {
    let all: u32 = STEPS.iter().map(|(weight, _)| weight).sum();
    (0..all, any::<[u8; 5]>()).prop_map(|(mut at, bytes)| {
        for (weight, make) in STEPS {
            if at < weight {
                return make(bytes);
            }
            at -= weight;
        }
        Step::Submit
    })
}

pub(super) fn case(mode: Mode) -> impl Strategy<Value = Case> {
    let shape = (0..4u32, 0..3u32, 2..16u32, any::<[u8; 4]>());
    (shape, any::<u64>(), proptest::collection::vec(step(), 1..48)).prop_map(move |(shape, seed, steps)| {
        let (entries, cq, max_in_flight, [inline, stubborn, bits, registers]) = shape;
        Case {
            mode,
            entries: 1 << entries,
            cq_entries: (1 << entries) << cq,
            max_in_flight,
            plan: Plan {
                wakes_by_poll: bits & 1 == 1,
                inline: u64::from(inline % 3) * 30,
                stubborn: u64::from(stubborn % 3) * 20,
                refused_registers: u32::from(registers % 8).saturating_sub(5),
            },
            seed,
            steps,
            released: bits & 14 == 14,
        }
    })
}
