// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffers: reference-counted owners of memory, of any kind.
//!
//! A `Buf` is a header that counts references and knows where the bytes are; what gives the bytes back when
//! the last reference goes is its owner, type-erased and inline. The bytes themselves are shared with the
//! kernel and the host: no Rust reference to them is ever made.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use smallbox::SmallBox;
use smallbox::space::S4;

use super::alloc::try_vec;
use super::{Result, Status, graveyard, quarantine};

/// What a buffer's memory belongs to. Dropping it gives the memory back.
pub(crate) trait Owner: Send + Sync {
    /// The members of a list.
    fn members(&self) -> &[BufRef] {
        &[]
    }

    /// The reference of a slice to what it is a part of, given up.
    fn take_whole(&mut self) -> Option<BufRef> {
        None
    }
}

type Erased = SmallBox<dyn Owner, S4>;

/// Completions with -EFAULT so far.
#[cfg(feature = "unmap-freed")]
pub(crate) use crate::sys::unmapped::efaults;

pub(crate) struct Buf {
    refs: AtomicU32,
    mark: u32,
    /// How many of the references are the host's. Each one of the library's own keeps the memory from a host that releases
    /// too often.
    #[cfg(debug_assertions)]
    given: AtomicU32,
    data: *mut u8,
    len: usize,
    /// Of this header, with the bytes behind it where they are one allocation.
    layout: Layout,
    owner: Erased,
}

/// In `mark`: what a header is, so that a debug build notices one that was freed.
const ALIVE: u32 = 0x6275_6600;
const FREED: u32 = 0xdead_6275;

/// From here on a count stays: a host that leaks this many references leaks the buffer.
const IMMORTAL: u32 = 1 << 31;

const DEFAULT_ALIGNMENT: usize = 64;
const LARGEST_ALIGNMENT: usize = 1 << 30;

/// Bytes are never behind their header, where their end is watched.
const APART: bool = cfg!(any(debug_assertions, feature = "unmap-freed"));

// SAFETY: the header is changed only through its atomic; the owner is Send and Sync; the bytes are the host's to synchronise.
unsafe impl Send for Buf {}
// SAFETY: as above.
unsafe impl Sync for Buf {}

impl Buf {
    /// Zeroed memory of the library's own, behind its header or, for large alignments, apart.
    pub(crate) fn alloc(len: usize, alignment: usize) -> Result<BufRef> {
        let alignment = if alignment == 0 { DEFAULT_ALIGNMENT } else { alignment };
        if !alignment.is_power_of_two() || alignment > LARGEST_ALIGNMENT {
            return Err(Status::EINVAL);
        }
        quarantine::collect();
        if alignment > DEFAULT_ALIGNMENT || APART {
            let bytes = Bytes::new(len, alignment)?;
            return Self::behind(bytes.data, len, smallbox::smallbox!(bytes));
        }
        let bytes = Layout::from_size_align(len, DEFAULT_ALIGNMENT).map_err(|_| Status::ENOMEM)?;
        let (layout, offset) = Layout::new::<Self>().extend(bytes).map_err(|_| Status::ENOMEM)?;
        // SAFETY: the layout isn't empty; offset is inside of it.
        unsafe {
            let place = std::alloc::alloc_zeroed(layout);
            let data = if place.is_null() { place } else { place.add(offset) };
            Self::place(place.cast(), layout, data, len, smallbox::smallbox!(Nothing))
        }
    }

    /// Memory that `owner` answers for.
    pub(crate) fn adopt(data: *mut u8, len: usize, owner: Option<impl Owner + 'static>) -> Result<BufRef> {
        if data.is_null() && len > 0 {
            // The memory stays the caller's, so its release function must not run.
            std::mem::forget(owner);
            return Err(Status::EINVAL);
        }
        quarantine::collect();
        let layout = Layout::new::<Self>();
        // SAFETY: the layout isn't empty.
        let place = unsafe { std::alloc::alloc(layout) };
        if place.is_null() {
            std::mem::forget(owner);
            return Err(Status::ENOMEM);
        }
        let owner: Erased = match owner {
            Some(owner) => inline(owner),
            None => smallbox::smallbox!(Nothing),
        };
        // SAFETY: place has the layout.
        unsafe { Self::place(place.cast(), layout, data, len, owner) }
    }

    pub(crate) fn slice(whole: &Self, offset: usize, len: usize) -> Result<BufRef> {
        let end = offset.checked_add(len).ok_or(Status::EINVAL)?;
        if !whole.members().is_empty() || end > whole.len {
            return Err(Status::EINVAL);
        }
        Self::behind(whole.data.wrapping_add(offset), len, smallbox::smallbox!(Part { whole: Some(whole.retain()) }))
    }

    pub(crate) fn list(members: &[Option<&Self>]) -> Result<BufRef> {
        let mut held = try_vec(members.len())?;
        let mut len = 0usize;
        for member in members {
            let member = member.filter(|member| member.members().is_empty()).ok_or(Status::EINVAL)?;
            len = len.checked_add(member.len).ok_or(Status::EINVAL)?;
            held.push(member.retain());
        }
        Self::behind(std::ptr::null_mut(), len, smallbox::smallbox!(List { members: held }))
    }

    /// A header of its own for bytes that are elsewhere.
    fn behind(data: *mut u8, len: usize, owner: Erased) -> Result<BufRef> {
        let layout = Layout::new::<Self>();
        // SAFETY: the layout isn't empty; place has it.
        unsafe { Self::place(std::alloc::alloc(layout).cast(), layout, data, len, owner) }
    }

    /// # Safety
    /// `place` is null or was allocated with `layout`, which begins with a `Buf`.
    unsafe fn place(place: *mut Self, layout: Layout, data: *mut u8, len: usize, owner: Erased) -> Result<BufRef> {
        let header = NonNull::new(place).ok_or(Status::ENOMEM)?;
        // SAFETY: the caller's duty.
        unsafe {
            header.write(Self {
                refs: AtomicU32::new(1),
                mark: ALIVE,
                #[cfg(debug_assertions)]
                given: AtomicU32::new(0),
                data,
                len,
                layout,
                owner,
            });
        }
        Ok(BufRef(header))
    }

    pub(crate) fn retain(&self) -> BufRef {
        if self.refs.fetch_add(1, Ordering::Relaxed) >= IMMORTAL {
            self.refs.store(IMMORTAL | IMMORTAL >> 1, Ordering::Relaxed);
        }
        BufRef(NonNull::from(self))
    }

    pub(crate) fn refs(&self) -> u32 {
        self.refs.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn data(&self) -> *mut u8 {
        self.data
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn members(&self) -> &[BufRef] {
        self.owner.members()
    }

    #[inline]
    pub(crate) fn is_list(&self) -> bool {
        self.data.is_null() && !self.members().is_empty()
    }

    /// One of the host's references comes back, in a release or a start with MOVE. False: it has none, which only debug
    /// builds know.
    pub(crate) fn take_given(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given| given.checked_sub(1)).is_ok();
        #[cfg(not(debug_assertions))]
        true
    }

    /// Whether the host has a reference to give.
    pub(crate) fn is_given(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.given.load(Ordering::Relaxed) > 0;
        #[cfg(not(debug_assertions))]
        true
    }

    /// Whether a header that the host names is a live one. Only debug builds keep freed headers, so only they can tell.
    pub(crate) fn is_alive(buf: NonNull<Self>) -> bool {
        // SAFETY: the host's handles are live, or in debug builds freed and kept by the graveyard.
        !cfg!(debug_assertions) || unsafe { (&raw const (*buf.as_ptr()).mark).read_volatile() } == ALIVE
    }
}

/// One reference.
pub(crate) struct BufRef(NonNull<Buf>);

// SAFETY: Buf is Send and Sync.
unsafe impl Send for BufRef {}
// SAFETY: as above.
unsafe impl Sync for BufRef {}

impl BufRef {
    /// The reference becomes the host's.
    #[inline]
    pub(crate) fn give(self) -> NonNull<Buf> {
        self.count_given();
        self.into_raw()
    }

    /// The reference is going to be the host's.
    #[inline(always)]
    pub(crate) fn count_given(&self) {
        #[cfg(debug_assertions)]
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    /// The reference as a pointer, no longer counted here.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<Buf> {
        let header = self.0;
        std::mem::forget(self);
        header
    }

    /// # Safety
    /// `header` is a live buffer's, and the caller gives up one reference to it.
    #[inline]
    pub(crate) unsafe fn from_raw(header: NonNull<Buf>) -> Self {
        Self(header)
    }

    /// As `from_raw`, of a reference that is the host's.
    /// # Safety
    /// As `from_raw`.
    pub(crate) unsafe fn from_host(header: NonNull<Buf>) -> Self {
        // SAFETY: the caller's duty.
        let taken = unsafe { Self::from_raw(header) };
        taken.take_given();
        taken
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut Buf {
        self.0.as_ptr()
    }

    #[cold]
    #[inline(never)]
    fn free(&mut self) {
        let mut next = Some(self.0);
        // A loop, not a recursion: slices of slices may be many deep.
        while let Some(header) = next.take() {
            fence(Ordering::Acquire);
            let header = header.as_ptr();
            // SAFETY: the last reference is gone, so the header is this call's alone.
            let whole = unsafe {
                let layout = (*header).layout;
                let whole = (*header).owner.take_whole();
                std::ptr::drop_in_place(&raw mut (*header).owner);
                (*header).mark = FREED;
                graveyard::bury(header.cast(), layout, false);
                whole
            };
            let Some(whole) = whole else { break };
            if whole.refs.load(Ordering::Relaxed) == 1 {
                // Nobody else can add one: this is the only reference.
                next = Some(whole.into_raw());
            }
        }
    }
}

impl std::ops::Deref for BufRef {
    type Target = Buf;
    #[inline]
    fn deref(&self) -> &Buf {
        // SAFETY: the reference keeps the header alive.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for BufRef {
    #[inline]
    fn drop(&mut self) {
        let before = self.refs.fetch_sub(1, Ordering::Release);
        if before == 1 {
            self.free();
        } else if before >= IMMORTAL {
            self.refs.store(IMMORTAL | IMMORTAL >> 1, Ordering::Relaxed);
        }
    }
}

/// The owner, inline: the second allocation that SmallBox would make for a large one is ruled out.
fn inline<T: Owner + 'static>(owner: T) -> Erased {
    const { assert!(size_of::<T>() <= size_of::<S4>() && align_of::<T>() <= align_of::<S4>()) };
    smallbox::smallbox!(owner)
}

/// Memory that nobody needs to give back, or that goes with its header.
struct Nothing;
impl Owner for Nothing {}

/// Memory of another buffer.
struct Part {
    whole: Option<BufRef>,
}
impl Owner for Part {
    fn take_whole(&mut self) -> Option<BufRef> {
        self.whole.take()
    }
}

struct List {
    members: Vec<BufRef>,
}
impl Owner for List {
    fn members(&self) -> &[BufRef] {
        &self.members
    }
}

/// Memory of its own allocation.
struct Bytes {
    data: *mut u8,
    layout: Layout,
}
impl Owner for Bytes {}
// SAFETY: an allocation may be freed on any thread.
unsafe impl Send for Bytes {}
// SAFETY: nothing is read or written through it.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn new(len: usize, alignment: usize) -> Result<Self> {
        let layout = Layout::from_size_align(len.max(1), alignment).map_err(|_| Status::ENOMEM)?;
        #[cfg(feature = "unmap-freed")]
        let data = crate::sys::unmapped::alloc(layout.size(), alignment);
        // SAFETY: the layout isn't empty.
        #[cfg(not(feature = "unmap-freed"))]
        let data = unsafe { std::alloc::alloc_zeroed(layout) };
        if data.is_null() { Err(Status::ENOMEM) } else { Ok(Self { data, layout }) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this size, freed once.
        #[cfg(feature = "unmap-freed")]
        unsafe {
            crate::sys::unmapped::free(self.data, self.layout.size());
        }
        // SAFETY: allocated with this layout, freed once.
        #[cfg(not(feature = "unmap-freed"))]
        unsafe {
            graveyard::bury(self.data, self.layout, true);
        }
    }
}
