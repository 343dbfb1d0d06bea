// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts from other threads than the owner: they are left in an inbox, so that the owner keeps its lock's bias, and its
//! table and queues stay in its processor's cache. Whoever takes the ring's lock (`Ring::lock`) empties the inbox first, so
//! that no accepted I/O is hidden from him; steps of a driver's call that need not see all leave it (`lock_only`).
//!
//! | inbox | the owner | who left the first letter |
//! |---|---|---|
//! | empty | may sleep | – |
//! | has letters | is awake, and looks before it sleeps | saw it awake |
//! | has letters | sleeps | saw it asleep, and wakes it; those who follow needn't look |
//!
//! Letters carry handles that were taken from the table before, under the ring's lock. Without a handle left, and for what
//! is not simple, a start takes that lock. A start that finds no room takes the handles back: the limit is exact.
//! Order of locks: the ring's, then the inbox's.

use std::sync::atomic::Ordering;

use super::alloc::try_vec;
use super::buf::Buf;
use super::deadlines;
use super::prepared::place;
use super::ring::Ring;
use super::start::{Start, told_fd};
use super::state::{Phase, State};
use super::table::{Io, NO_SLOT, State as At, To, slot_of};
use super::{Result, Status};
use crate::sys::sync::{AtomicBool, Mutex, fence, locked, seeded};
use crate::sys::{Backend, Sqe, os};

/// Letters at most.
const MOST: u32 = 1024;

/// Sleeps of the owner without a letter before them, after which letters are seldom.
const CALM: u32 = 1024;

/// How long the owner looks out for a letter before it sleeps, how often in vain before it gives up, and after how many sleeps
/// it tries again.
const LOOK_OUT_NS: u64 = 10_000;
const MOST_LOOKS: u32 = 4096; // whatever the clock says
const LUCK: u32 = 4;
const TRY_AGAIN: u32 = 64;

struct Letter {
    io: Io,
    sqe: Sqe,
}

#[derive(Default)]
struct Desk {
    letters: Vec<Letter>,
    handles: Vec<u64>,
    /// Letters, and handles, that there is memory for; 0 = none yet.
    room: usize,
}

/// Apart from what its neighbours write.
#[repr(align(128))]
#[derive(Default)]
struct Apart<T>(T);

#[derive(Default)]
pub(super) struct Inbox {
    /// There are letters. Written under the desk's lock.
    waiting: Apart<AtomicBool>,
    /// Letters come often: the owner makes a full fence before it sleeps, so that who leaves one needs no process-wide barrier.
    busy: AtomicBool,
    desk: Apart<Mutex<Desk>>,
}

impl Inbox {
    /// Under the ring's lock, once the owner's `sleep` is stored: whether it must not sleep.
    #[inline]
    pub(super) fn has_letters(&self) -> bool {
        if self.busy.load(Ordering::Relaxed) {
            fence(Ordering::SeqCst);
        }
        self.waiting.0.load(Ordering::Relaxed) && !seeded!(SleepsOverLetters)
    }

    /// Letters come often.
    #[inline(always)]
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// In a forked child: what the letters hold is the parent's to let go of.
    pub(super) fn forget(&mut self) {
        std::mem::forget(std::mem::take(self.desk.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)));
    }
}

impl<B: Backend> Ring<B> {
    #[inline(always)]
    pub(super) fn has_letters(&self) -> bool {
        self.inbox.waiting.0.load(Ordering::Relaxed)
    }

    /// A simple start on a thread that has not the lock's bias.
    /// # Safety
    /// As `start_simple`.
    #[inline(never)]
    pub(super) unsafe fn start_unbiased(&self, start: &Start<'_>, me: usize, out: &mut u64) -> Result<()> {
        let foreign = self.has_owner() && self.owner() != me;
        // SAFETY: the caller's duty.
        if foreign && unsafe { self.leave_letter(start, me, out) }? {
            return Ok(());
        }
        let mut state = self.lock(me);
        self.make_way(&mut state, 1);
        // SAFETY: the caller's duty.
        *out = unsafe { state.start_simple(start, me, self.info()) }?;
        if foreign {
            self.offer_handles(&mut state);
        }
        self.after_start(state, me, false);
        Ok(())
    }

    /// False: there is no handle for it.
    /// # Safety
    /// As `start_simple`.
    unsafe fn leave_letter(&self, start: &Start<'_>, me: usize, out: &mut u64) -> Result<bool> {
        let mut sqe = start.template.sqe;
        if !self.info().has_op(u32::from(sqe.opcode)) {
            return Err(Status::EOPNOTSUPP);
        }
        // SAFETY: the caller's duty: the buffer is live.
        let buf = start.template.buf.map(|buf| unsafe { buf.as_ref() });
        if let Some(buf) = buf {
            if buf.is_list() {
                return Ok(false);
            }
            sqe.addr = place(buf, start.template.buf_offset, sqe.len as usize)?;
        }
        let mut desk = locked(&self.inbox.desk.0);
        let Some(handle) = desk.handles.pop() else { return Ok(false) };
        sqe.user_data = handle;
        *out = handle;
        let io = Io {
            handle,
            user_data: start.user_data,
            notify: start.callback,
            buf: buf.map(Buf::retain),
            to: start.to,
            state: At::Kernel,
            marks: 0,
            opcode: sqe.opcode,
            fd: told_fd(&sqe),
            deadline: deadlines::NONE,
            started_ms: 0,
            result: 0,
            flags: 0,
            next: NO_SLOT,
        };
        desk.letters.push(Letter { io, sqe });
        let wakes = desk.letters.len() == 1 && self.first_letter_wakes(me);
        drop(desk);
        if wakes {
            self.kick();
        }
        Ok(true)
    }

    /// Whether the owner sleeps: it stores `sleep`, then loads `waiting`; here it is the other way round.
    fn first_letter_wakes(&self, me: usize) -> bool {
        self.inbox.waiting.0.store(true, Ordering::Relaxed);
        if seeded!(LetterHasNoBarrier) {
            return self.kick_due(me);
        }
        if self.inbox.busy.load(Ordering::Relaxed) {
            fence(Ordering::SeqCst);
        } else {
            self.inbox.busy.store(true, Ordering::Relaxed);
            self.barrier().heavy();
        }
        self.kick_due(me)
    }

    /// Take all letters in, and put out new handles.
    #[cold]
    #[inline(never)]
    pub(super) fn empty_inbox(&self, state: &mut State<B>) {
        if seeded!(ForgetsLetters) {
            self.inbox.waiting.0.store(false, Ordering::Relaxed);
            return;
        }
        let mut desk = locked(&self.inbox.desk.0);
        self.take_letters(state, &mut desk);
        state.reserve_handles(&mut desk);
        drop(desk);
        state.accept_letters();
    }

    /// The letters wait in the state now, to be accepted before its lock is given back.
    fn take_letters(&self, state: &mut State<B>, desk: &mut Desk) {
        std::mem::swap(&mut desk.letters, &mut state.mail.letters);
        self.inbox.waiting.0.store(false, Ordering::Relaxed);
        state.mail.calm = 0;
    }

    /// After a start that found no handle.
    #[cold]
    pub(super) fn offer_handles(&self, state: &mut State<B>) {
        let mut desk = locked(&self.inbox.desk.0);
        if desk.room == 0 && state.phase == Phase::Open {
            let room = MOST.min(state.table.capacity() / 2) as usize;
            let made = || Ok::<_, Status>((try_vec(room)?, try_vec(room)?, try_vec(room)?));
            // Without the memory every start takes the ring's lock.
            if let Ok((letters, spare, handles)) = made() {
                state.mail.letters = spare;
                *desk = Desk { letters, handles, room };
            }
        }
        state.reserve_handles(&mut desk);
    }

    /// Take in all letters, and take back the handles that have none. While the lock is held no letter comes.
    #[cold]
    pub(super) fn clear_inbox(&self, state: &mut State<B>) {
        if state.table.reserved() > 0 {
            let mut desk = locked(&self.inbox.desk.0);
            while let Some(handle) = desk.handles.pop() {
                state.table.unreserve(handle);
            }
            self.take_letters(state, &mut desk);
            drop(desk);
            state.accept_letters();
        }
    }

    /// Before a start of `count`: handles for letters don't take its room.
    pub(super) fn make_way(&self, state: &mut State<B>, count: usize) {
        if (state.table.free() as usize) < count + state.held_back as usize {
            self.clear_inbox(state);
        }
    }

    /// The same afterwards: the owner's simple start has been refused.
    /// # Safety
    /// As `start_simple`.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn start_refused(
        &self,
        state: &mut State<B>,
        start: &Start<'_>,
        me: usize,
        status: Status,
    ) -> Result<u64> {
        if status != Status::EAGAIN || state.table.reserved() == 0 {
            return Err(status);
        }
        self.clear_inbox(state);
        // SAFETY: the caller's duty.
        unsafe { state.start_simple(start, me, self.info()) }
    }

    /// Under the lock, before the owner sleeps: whether to look out for a letter first. Nothing is in flight, so only a letter
    /// or a wake can end the sleep; and looking out has been worth it lately.
    #[inline]
    pub(super) fn expects_letter(&self, state: &mut State<B>) -> bool {
        self.inbox.busy.load(Ordering::Relaxed) && self.expects_letter_when_busy(state)
    }

    #[cold]
    fn expects_letter_when_busy(&self, state: &mut State<B>) -> bool {
        state.mail.calm += 1;
        if state.mail.calm >= CALM {
            let _desk = locked(&self.inbox.desk.0);
            self.inbox.busy.store(false, Ordering::Relaxed);
            state.mail.calm = 0;
            return false;
        }
        let tries = state.mail.luck > 0 || state.mail.calm % TRY_AGAIN == 0;
        tries && state.unfinished() == 0
    }

    /// Look out for a letter, for no longer than a sleep and a wake take. Without the lock. → true, once for each wait.
    #[cold]
    pub(super) fn look_out(&self, me: usize) -> bool {
        let until = os::now() + LOOK_OUT_NS;
        for _ in 0..MOST_LOOKS {
            if self.has_letters() || self.is_woken() || os::now() >= until {
                break;
            }
            (0..8).for_each(|_| std::hint::spin_loop());
        }
        let (letters, woken) = (self.has_letters(), self.is_woken());
        let mail = &mut self.lock_only(me).mail;
        mail.luck = if letters { LUCK } else { mail.luck.saturating_sub((!woken).into()) };
        true
    }
}

/// The owner's side, under the ring's lock.
#[derive(Default)]
pub(super) struct Mail {
    /// Swapped for the desk's.
    letters: Vec<Letter>,
    /// The owner's sleeps since a letter came.
    calm: u32,
    /// How often it may still look out for one in vain.
    luck: u32,
}

impl<B: Backend> State<B> {
    /// Half of the room at most, so that both sides find some.
    fn reserve_handles(&mut self, desk: &mut Desk) {
        if self.phase != Phase::Open || self.is_room_wanted() {
            return;
        }
        let used = desk.handles.len() + desk.letters.len();
        let count = ((self.table.free() / 2) as usize).min(desk.room.saturating_sub(used));
        // The entries of letters find room, whatever fails then.
        if self.overflow.try_reserve(self.table.reserved() as usize + count).is_ok() {
            desk.handles.extend((0..count).map_while(|_| self.table.reserve()));
        }
    }

    fn accept_letters(&mut self) {
        let mut letters = std::mem::take(&mut self.mail.letters);
        for Letter { mut io, sqe } in letters.drain(..) {
            let slot = slot_of(io.handle) as u32;
            io.started_ms = self.clock_ms;
            self.counts.unwanted += u32::from(io.to == To::Nobody);
            self.table.fill(io);
            self.accept(slot, &sqe, 0);
        }
        self.mail.letters = letters;
    }
}
