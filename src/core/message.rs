// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries that name their memory by vectors: lists, and messages with an address and control data.

use super::buf::Buf;
use super::op::MOST;
use super::storage::{Builder, Field, Storage, Tells};
use super::{Result, Status};
use crate::sys::Sqe;
use crate::sys::entry::{MsgHdr, op};

/// What stands before a received message's address: its address' length, its control data's, its data's, and MSG_*.
const HEAD: usize = 16;

const HDR_WORDS: usize = size_of::<MsgHdr>() / 8;

/// Bytes of a buffer, or of a list's members in order.
struct Span<'a> {
    buf: &'a Buf,
    offset: usize,
    len: usize,
}

impl<'a> Span<'a> {
    fn new(buf: &'a Buf, offset: usize, len: usize) -> Result<Self> {
        match offset.checked_add(len) {
            Some(end) if end <= buf.len() && len <= MOST => Ok(Self { buf, offset, len }),
            _ => Err(Status::EINVAL),
        }
    }

    fn vectors(&self) -> impl Iterator<Item = [u64; 2]> {
        let whole = [self.buf.data().wrapping_add(self.offset).addr() as u64, self.len as u64];
        let (mut offset, mut left) = (self.offset, self.len);
        let of_members = self.buf.members().iter().filter_map(move |member| {
            let skipped = offset.min(member.len());
            offset -= skipped;
            let len = left.min(member.len() - skipped);
            left -= len;
            (len > 0).then(|| [member.data().wrapping_add(skipped).addr() as u64, len as u64])
        });
        (!self.buf.is_list()).then_some(whole).into_iter().chain(of_members)
    }

    fn count(&self) -> usize {
        self.vectors().count()
    }
}

impl Builder {
    fn vectors(&mut self, span: &Span<'_>) {
        span.vectors().flatten().for_each(|word| self.word(word));
    }

    /// A struct msghdr with the span's vectors behind it.
    fn message(&mut self, span: &Span<'_>, header: MsgHdr) {
        let vectors = self.here() + size_of::<MsgHdr>() as u64;
        let header = MsgHdr { vectors, vector_count: span.count() as u64, ..header };
        // SAFETY: 56 bytes without padding, as the fields show.
        let words: [u64; HDR_WORDS] = unsafe { std::mem::transmute(header) };
        words.into_iter().for_each(|word| self.word(word));
        self.vectors(span);
    }
}

/// The vectored form of a transfer of `sqe.len` bytes from `offset` of a list.
pub(super) fn vectored(sqe: &mut Sqe, list: &Buf, offset: usize) -> Result<Storage> {
    let span = Span::new(list, offset, sqe.len as usize)?;
    let count = span.count();
    let mut block = Builder::new(HDR_WORDS + 2 * count)?;
    block.point(Field::Addr);
    sqe.len = match sqe.opcode {
        op::READ | op::WRITE => {
            block.vectors(&span);
            count as u32
        }
        _ => {
            block.message(&span, MsgHdr::default());
            1
        }
    };
    sqe.opcode = match sqe.opcode {
        op::READ => op::READV,
        op::WRITE => op::WRITEV,
        op::SEND => op::SENDMSG,
        _ => op::RECVMSG,
    };
    Ok(block.finish(Tells::Nothing))
}

/// A message to be sent, with copies of its address and its control data; the entry's own fields say how long those are.
pub(super) fn to_send(sqe: &mut Sqe, buf: &Buf, offset: usize, name: &[u8], control: &[u8]) -> Result<Storage> {
    let span = Span::new(buf, offset, sqe.len as usize)?;
    let around = name.len().div_ceil(8) + control.len().div_ceil(8);
    let mut block = Builder::new(around + HDR_WORDS + 2 * span.count())?;
    let name_at = block.here();
    block.bytes(name);
    let control_at = block.here();
    block.bytes(control);
    block.point(Field::Addr);
    let at = |address: u64, part: &[u8]| if part.is_empty() { 0 } else { address };
    let header = MsgHdr {
        name: at(name_at, name),
        name_len: name.len() as u32,
        control: at(control_at, control),
        control_len: control.len() as u64,
        ..MsgHdr::default()
    };
    block.message(&span, header);
    one_message(sqe);
    Ok(block.finish(Tells::Nothing))
}

/// A message to be received: the head, the address and the control data into `offset` of the buffer, and the data behind them.
/// A list's member has all but the data.
pub(super) fn to_receive(sqe: &mut Sqe, buf: &Buf, offset: usize) -> Result<Storage> {
    let (name_len, control_len) = (sqe.off as usize, sqe.addr3 as usize);
    let before = HEAD + name_len + control_len;
    let head = Span::new(buf, offset, before)?;
    let data = Span::new(buf, offset.saturating_add(before), sqe.len as usize)?;
    let place = head.vectors().next().filter(|[at, len]| *len == before as u64 && at % 8 == 0);
    let [place, _] = place.ok_or(Status::EINVAL)?;
    // `tell` makes a pointer of it again.
    buf.data().expose_provenance();
    for member in buf.members() {
        member.data().expose_provenance();
    }
    let mut block = Builder::new(1 + HDR_WORDS + 2 * data.count())?;
    block.word(place);
    block.point(Field::Addr);
    let name = place + HEAD as u64;
    let header = MsgHdr {
        name: if name_len == 0 { 0 } else { name },
        name_len: name_len as u32,
        control: if control_len == 0 { 0 } else { name + name_len as u64 },
        control_len: control_len as u64,
        ..MsgHdr::default()
    };
    block.message(&data, header);
    one_message(sqe);
    Ok(block.finish(Tells::Message))
}

fn one_message(sqe: &mut Sqe) {
    (sqe.len, sqe.off, sqe.addr3, sqe.pad, sqe.file_index) = (1, 0, 0, 0, 0);
}

/// Fill in the head of a received message from what the kernel has left in the block.
/// # Safety
/// `words` are the block of `to_receive`, whose entry the kernel has completed, and the buffer is still the I/O's.
pub(super) unsafe fn tell(words: *const u64, result: i32) {
    // SAFETY: laid out so above.
    let (place, header) = unsafe { (words.read(), words.add(1).cast::<MsgHdr>().read()) };
    let head = match u32::try_from(result) {
        Ok(len) => [header.name_len, header.control_len as u32, len, header.flags],
        Err(_) => [0; 4],
    };
    // SAFETY: 16 bytes of the buffer, aligned to 8, as checked above. The host knows that they are the library's meanwhile.
    unsafe { std::ptr::with_exposed_provenance_mut::<[u32; 4]>(place as usize).write(head) };
}

/// `done` bytes of a vectored entry have been transferred: it goes on behind them.
pub(super) fn advance(storage: &mut Storage, sqe: &mut Sqe, mut done: u64) {
    let Storage::Block(block) = storage else { return };
    let is_message = matches!(sqe.opcode, op::SENDMSG | op::RECVMSG | op::SENDMSG_ZC);
    let base = block.base();
    // SAFETY: the entry is complete, so the kernel uses none of it; `vectored` laid it out so.
    let (mut first, mut count) = unsafe {
        if is_message {
            let header = block.header();
            (header.vectors, header.vector_count)
        } else {
            (sqe.addr, u64::from(sqe.len))
        }
    };
    while count > 0 {
        // SAFETY: as above; `count` vectors are left from `first` on.
        let vector = unsafe { block.vector((first - base) as usize / 8) };
        if done < vector[1] {
            *vector = [vector[0] + done, vector[1] - done];
            break;
        }
        done -= vector[1];
        (first, count) = (first + 16, count - 1);
    }
    if is_message {
        // SAFETY: as above.
        let header = unsafe { block.header() };
        (header.vectors, header.vector_count) = (first, count);
    } else {
        (sqe.addr, sqe.len) = (first, count as u32);
    }
}
