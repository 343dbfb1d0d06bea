// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel in memory, under a test's control: entries in, completions out, when and how the test says.
//!
//! A test makes a `World`, opens rings in it and says what the kernel does next. The world keeps the clock, knows which
//! memory the kernel may still touch and which descriptors it gave out, and writes down what must not happen (`wrongs`).
//! What a test leaves open, a wait in the kernel decides by the world's random numbers.

mod kernel;
mod memory;
mod queues;
mod request;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::os::Sentinel;
use super::{Backend, Cqe, Enter, Errno, Info, Setup, Sqe, SysResult};
pub(crate) use kernel::{Fault, Kernel, Log};
pub(crate) use memory::{FIRST_FILE, Files, Memory};
pub(crate) use request::{BAD, Outcome};

#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static WORLD: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Calls of the backend that no sequence of sensible ones comes to.
const SPIN: u32 = 100_000;

/// All that is outside of the library.
pub(crate) struct World {
    pub(crate) around: Around,
    pub(crate) rings: Vec<Kernel>,
    /// How the next ring is opened.
    pub(crate) next: Plan,
}

/// What the rings of a world share.
pub(crate) struct Around {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) memory: Memory,
    pub(crate) files: Files,
    /// What must not happen, and did.
    pub(crate) wrongs: Vec<String>,
    /// Calls of the backend; a test that does something sets it back.
    pub(crate) looks: u32,
    /// Called before a wait, and where a wait would have no end; → what is wrong then.
    pub(crate) at_wait: Option<fn(without_end: bool) -> Option<&'static str>>,
    /// Say what goes on.
    pub(crate) traces: bool,
}

impl Around {
    fn look_at_wait(&mut self, without_end: bool) {
        let wrong = self.at_wait.and_then(|look| look(without_end));
        self.wrongs.extend(wrong.map(String::from));
    }

    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{}", what());
        }
    }
}

/// What a ring's kernel is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// Wakes go through a poll that the ring keeps.
    pub(crate) wakes_by_poll: bool,
    /// Of 100 requests, how many are complete before the enter that takes them returns.
    pub(crate) inline: u64,
    /// Of 100 requests, how many no cancel reaches.
    pub(crate) stubborn: u64,
    /// How many calls of register fail first.
    pub(crate) refused_registers: u32,
}

impl World {
    /// A world that is the calling thread's until `leave`.
    pub(crate) fn enter(seed: u64) -> Shared {
        let around = Around {
            now: 1_000_000_000,
            random: Random(seed),
            memory: Memory::default(),
            files: Files::default(),
            wrongs: Vec::new(),
            looks: 0,
            at_wait: None,
            traces: false,
        };
        let world = Shared(Arc::new(Mutex::new(Self { around, rings: Vec::new(), next: Plan::default() })));
        WORLD.set(Some(world.clone()));
        world
    }

    pub(crate) fn leave() {
        WORLD.set(None);
    }

    /// The host has memory that rings may be given.
    pub(crate) fn own(&mut self, address: usize, len: usize) {
        self.around.memory.own(address, len);
    }

    /// The library says that nobody uses the host's memory any more.
    pub(crate) fn give_back(&mut self, address: usize) {
        let Some(len) = self.around.memory.give_back(address) else {
            self.around.wrongs.push(format!("memory {address:#x} released twice"));
            return;
        };
        if self.rings.iter().any(|ring| ring.touches(address, len)) {
            self.around.wrongs.push(format!("memory {address:#x} released while the kernel may touch it"));
        }
    }

    pub(crate) fn ring(&mut self, ring: usize) -> (&mut Kernel, &mut Around) {
        (&mut self.rings[ring], &mut self.around)
    }

    /// The newest ring.
    pub(crate) fn last(&mut self) -> (&mut Kernel, &mut Around) {
        let last = self.rings.len() - 1;
        self.ring(last)
    }

    /// All that closed rings have left ends.
    pub(crate) fn end_orphans(&mut self) {
        for ring in &mut self.rings {
            ring.end_orphans(usize::MAX, &mut self.around);
        }
    }

    /// Time goes on.
    pub(crate) fn advance(&mut self, ns: u64) {
        self.around.now += ns;
        for ring in &mut self.rings {
            ring.tick(&mut self.around);
        }
    }
}

/// With the calling thread's world; `None`: it has none.
fn with<T>(act: impl FnOnce(&mut World) -> T) -> Option<T> {
    let world = WORLD.with_borrow(Clone::clone)?;
    let mut world = world.lock();
    Some(act(&mut world))
}

/// The clock, where a test has set one.
pub(crate) fn now() -> Option<u64> {
    with(|world| world.around.now)
}

/// Close a descriptor, where the thread has a world: no other descriptor than the world's may be closed then.
pub(crate) fn close(fd: i32) -> bool {
    with(|world| world.around.files.close(fd, &mut world.around.wrongs)).is_some()
}

/// Small and the same everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

/// A ring of the calling thread's world.
pub(crate) struct Fake {
    ring: usize,
    info: Info,
    sentinel: Option<Sentinel>,
    world: Shared,
}

impl Fake {
    fn with<T>(&self, act: impl FnOnce(&mut Kernel, &mut Around) -> T) -> T {
        let mut world = self.world.lock();
        world.around.looks += 1;
        assert!(world.around.looks != SPIN, "the library looks at its queues again and again");
        let (kernel, around) = world.ring(self.ring);
        act(kernel, around)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.with(|kernel, _| kernel.close());
    }
}

impl Backend for Fake {
    type Gate = usize;

    fn open(setup: &Setup) -> SysResult<Self> {
        let world = WORLD.with_borrow(Clone::clone).ok_or(Errno(libc::ENOSYS))?;
        let (sentinel, write_end) = Sentinel::new()?;
        let mut open = world.lock();
        let ring = open.rings.len();
        let kernel = Kernel::new(setup, open.next, write_end);
        let info = kernel.info();
        open.rings.push(kernel);
        drop(open);
        Ok(Self { ring, info, sentinel: Some(sentinel), world })
    }

    fn info(&self) -> &Info {
        &self.info
    }

    fn gate(&self) -> usize {
        self.ring
    }

    fn descriptor(&self) -> Option<i32> {
        None
    }

    fn bind(&mut self) -> SysResult<()> {
        self.with(|kernel, _| kernel.bind())
    }

    fn has_room(&mut self) -> bool {
        self.with(|kernel, _| kernel.has_room())
    }

    fn room(&mut self) -> u32 {
        self.with(|kernel, _| kernel.room())
    }

    unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) {
        let mut sqe = Sqe::default();
        fill(&mut sqe);
        self.with(|kernel, around| kernel.push(&sqe, around));
    }

    fn publish(&mut self) -> u32 {
        self.with(|kernel, _| kernel.publish())
    }

    fn sever(&mut self, place: u32, user_data: u64) -> Option<(u64, bool)> {
        self.with(|kernel, _| kernel.sever(place, user_data))
    }

    fn next(&mut self) -> Option<Cqe> {
        self.with(|kernel, around| kernel.next(around))
    }

    fn peek(&mut self) -> Option<Cqe> {
        self.with(|kernel, _| kernel.peek())
    }

    fn skip(&mut self) {
        let _ = self.next();
    }

    fn available(&mut self) -> u32 {
        self.with(|kernel, _| kernel.available())
    }

    fn holds_back(&mut self) -> bool {
        self.with(|kernel, _| kernel.holds_back())
    }

    fn overflowed(&mut self) -> bool {
        self.with(|kernel, _| kernel.overflowed())
    }

    fn enter(ring: usize, enter: Enter) -> SysResult<u32> {
        with(|world| {
            let (kernel, around) = world.ring(ring);
            kernel.enter(enter, around)
        })
        .unwrap_or(Err(Errno(libc::EBADF)))
    }

    fn send_wake(ring: usize, user_data: u64) -> SysResult<()> {
        with(|world| {
            let (kernel, around) = world.ring(ring);
            kernel.wake(user_data, around)
        })
        .unwrap_or(Err(Errno(libc::EBADF)))
    }

    fn wake_entry(&self) -> Option<Sqe> {
        self.with(|kernel, _| kernel.wake_entry())
    }

    fn register_eventfd(&mut self, fd: i32) -> SysResult<()> {
        self.with(|kernel, _| kernel.register_eventfd(fd))
    }

    fn unregister_eventfd(&mut self) -> SysResult<()> {
        self.with(|kernel, _| kernel.unregister_eventfd())
    }

    fn introduce_thread(&mut self) -> SysResult<()> {
        Ok(())
    }

    fn set_file(&mut self, _index: u32, _fd: i32) -> SysResult<()> {
        Ok(())
    }

    fn set_worker_limits(&mut self, _limits: [u32; 2]) -> SysResult<()> {
        Ok(())
    }

    fn set_worker_affinity(&mut self, _mask: &[u8]) -> SysResult<()> {
        Ok(())
    }

    fn close(mut self, _bound_here: bool) -> Sentinel {
        // Ours from `open` on, and `close` comes once.
        self.sentinel.take().unwrap()
    }
}

/// Faults that enters meet, one each.
pub(crate) type Faults = VecDeque<Fault>;
