// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a start completes the entry of an operation: one form for each way.

use super::op::Template;
use crate::sys::Sqe;

/// How a start completes an entry: what its fields point to, as far as the constructor can't know that. Until then they hold
/// pointers of the host's, and numbers that have no place of their own.
///
/// | form | addr | off | addr3 | besides |
/// |---|---|---|---|---|
/// | Path | text | | | |
/// | TwoPaths | text | text | | |
/// | PathAndHow | text | `len` bytes | | |
/// | PathAndBuf | text | out, 8 | | |
/// | ValueIn | text | `len` bytes | text or nothing | |
/// | ValueOut | text | out, 1 | text or nothing | |
/// | Address | `off` bytes | | | |
/// | OptionIn | | | `file_index` bytes | |
/// | OptionOut | | | out, 1 | |
/// | Array | `out_len` bytes | | | |
/// | Events | out, 8 | | | |
/// | Info | | out, 8 | | |
/// | AddressOut | out, 1 | a length | | the length is told |
/// | Pipe | two descriptors | | | they are told |
/// | EpollEvent | `pad` and `addr3` | | | |
/// | Timeout | nanoseconds | | | |
/// | Pages | the buffer | | | whole pages |
/// | Send | a message | `file_index` bytes: its address | `pad` bytes: its control data | |
/// | Receive | a message | length of its address | length of its control data | they are told |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Form {
    /// A constructor was given what it can't take.
    Refused = 1,
    /// The entry is complete.
    Plain,
    /// A read, write, receive or send of a buffer or a list; `addr` and the vectored form are the start's.
    Transfer,
    /// The entry is complete; its result is a descriptor, or it completes several times, or its `fd` is none.
    Marked,
    Path,
    TwoPaths,
    PathAndHow,
    PathAndBuf,
    ValueIn,
    ValueOut,
    Address,
    OptionIn,
    OptionOut,
    Array,
    Events,
    Info,
    AddressOut,
    Pipe,
    EpollEvent,
    Timeout,
    Pages,
    Send,
    Receive,
    /// Other I/Os on the descriptor are cancelled first.
    Close,
    /// The host's entry; the buffer is only held.
    Raw,
}

impl Form {
    /// All that a start has to look at more closely.
    pub(super) const RARE: [Self; 22] = [
        Self::Marked,
        Self::Path,
        Self::TwoPaths,
        Self::PathAndHow,
        Self::PathAndBuf,
        Self::ValueIn,
        Self::ValueOut,
        Self::Address,
        Self::OptionIn,
        Self::OptionOut,
        Self::Array,
        Self::Events,
        Self::Info,
        Self::AddressOut,
        Self::Pipe,
        Self::EpollEvent,
        Self::Timeout,
        Self::Pages,
        Self::Send,
        Self::Receive,
        Self::Close,
        Self::Raw,
    ];
}

/// What a host lends until the start returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Borrowed {
    Nothing,
    /// A text that ends with a zero.
    Text(usize),
    /// So many bytes.
    Bytes(usize, usize),
}

impl Borrowed {
    fn text_or_nothing(address: u64) -> Self {
        if address == 0 { Self::Nothing } else { Self::Text(address as usize) }
    }

    fn bytes(address: u64, len: u64) -> Self {
        if len == 0 { Self::Nothing } else { Self::Bytes(address as usize, len as usize) }
    }
}

impl Template {
    /// What the host has lent for `addr`, `off` and `addr3`, for the start to copy; see `Form`.
    pub(crate) fn borrowed(&self) -> [Borrowed; 3] {
        use Borrowed::{Nothing, Text};
        let Sqe { addr, off, addr3, len, file_index, pad, .. } = self.sqe;
        let len = u64::from(len);
        match self.form() {
            Some(Form::Path | Form::PathAndBuf) => [Text(addr as usize), Nothing, Nothing],
            Some(Form::TwoPaths) => [Text(addr as usize), Text(off as usize), Nothing],
            Some(Form::PathAndHow) => [Text(addr as usize), Borrowed::bytes(off, len), Nothing],
            Some(Form::ValueIn) => [Text(addr as usize), Borrowed::bytes(off, len), Borrowed::text_or_nothing(addr3)],
            Some(Form::ValueOut) => [Text(addr as usize), Nothing, Borrowed::text_or_nothing(addr3)],
            Some(Form::Address) => [Borrowed::bytes(addr, off), Nothing, Nothing],
            Some(Form::OptionIn) => [Nothing, Nothing, Borrowed::bytes(addr3, file_index.into())],
            Some(Form::Array) => [Borrowed::bytes(addr, self.out_len.into()), Nothing, Nothing],
            Some(Form::Send) => [Nothing, Borrowed::bytes(off, file_index.into()), Borrowed::bytes(addr3, pad)],
            _ => [Nothing; 3],
        }
    }
}
