// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a callback sees: the completion, and the buffer that it is lent.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::buf::{Buf, BufRef};
use super::completion::Completion;

/// The completion that is given out, in the place that the callback sees, and the buffer that it is lent.
pub(crate) struct Out {
    completion: UnsafeCell<MaybeUninit<Completion>>,
    pub(super) lent: Lent,
}

impl Out {
    pub(crate) fn new() -> Self {
        Self { completion: UnsafeCell::new(MaybeUninit::uninit()), lent: Lent::default() }
    }

    /// The host may change the bytes there: they are written anew each time, and never read back.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn put(
        &self,
        io: u64,
        user_data: usize,
        opcode: u8,
        result: i32,
        flags: u32,
        extra: u64,
        buf: Option<BufRef>,
    ) {
        self.lent.lend(buf.as_ref().map(|buf| NonNull::from(&**buf)));
        let place = self.place();
        let reserved = [place.addr() as u64, (&raw const self.lent).addr() as u64];
        let opcode = opcode.into();
        let completion = Completion { io, user_data, buf, extra, result, flags, opcode, reserved0: 0, reserved };
        // SAFETY: the place is this value's; no callback that knows it is running.
        unsafe { place.write(completion) };
    }

    /// What the callback gets, with its user_data.
    #[inline(always)]
    pub(crate) fn place(&self) -> *mut Completion {
        self.completion.get().cast()
    }

    /// After the callback: what nobody took is released.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.lent.end();
    }
}

/// The reference to a buffer that the running callback is lent. The callback may take it; else it is released afterwards.
#[derive(Default)]
pub(crate) struct Lent {
    buf: Cell<Option<NonNull<Buf>>>,
    /// The reference is still here.
    owned: Cell<bool>,
}

impl Lent {
    /// Lend a buffer to the callback that runs next: the reference that its completion holds is this value's.
    #[inline(always)]
    fn lend(&self, buf: Option<NonNull<Buf>>) {
        self.buf.set(buf);
        self.owned.set(buf.is_some());
    }

    /// The reference, for the host to keep.
    pub(crate) fn take(&self) -> Option<BufRef> {
        if !self.owned.replace(false) {
            return None;
        }
        // SAFETY: `lend` put this one reference here.
        self.buf.take().map(|buf| unsafe { BufRef::from_raw(buf) })
    }

    /// After the callback: what nobody took is released.
    #[inline(always)]
    fn end(&self) {
        if self.owned.get() {
            self.owned.set(false);
            // SAFETY: `lend` put this one reference here.
            drop(self.buf.take().map(|buf| unsafe { BufRef::from_raw(buf) }));
        }
    }
}
