// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's queue entries, as `linux/io_uring.h` lays them out.

/// A submission entry: 64 bytes. Each operation gives the fields its own meaning.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sqe {
    pub opcode: u8,
    pub flags: u8,
    pub ioprio: u16,
    pub fd: i32,
    /// Also `addr2`.
    pub off: u64,
    pub addr: u64,
    pub len: u32,
    /// `rw_flags`, `poll32_events`, `open_flags`, ...
    pub op_flags: u32,
    pub user_data: u64,
    pub buf_index: u16,
    pub personality: u16,
    pub file_index: u32,
    pub addr3: u64,
    pub pad: u64,
}

const _: () = assert!(size_of::<Sqe>() == 64);

/// A completion entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cqe {
    pub user_data: u64,
    pub result: i32,
    pub flags: u32,
}

/// `io_uring_sqe.flags`.
pub(crate) mod sqe_flags {
    pub(crate) const FIXED_FILE: u8 = 1 << 0;
    pub(crate) const IO_DRAIN: u8 = 1 << 1;
    pub(crate) const IO_LINK: u8 = 1 << 2;
    pub(crate) const IO_HARDLINK: u8 = 1 << 3;
    pub(crate) const ASYNC: u8 = 1 << 4;
    pub(crate) const BUFFER_SELECT: u8 = 1 << 5;
    pub(crate) const CQE_SKIP_SUCCESS: u8 = 1 << 6;
}

/// `io_uring_cqe.flags`.
pub(crate) mod cqe_flags {
    pub(crate) const MORE: u32 = 1 << 1;
    pub(crate) const SOCK_NONEMPTY: u32 = 1 << 2;
    pub(crate) const NOTIF: u32 = 1 << 3;
}

/// `IORING_OP_*`: the crate's where it has the operation.
pub(crate) mod op {
    use io_uring::opcode as o;
    pub(crate) const NOP: u8 = o::Nop::CODE;
    pub(crate) const READV: u8 = o::Readv::CODE;
    pub(crate) const WRITEV: u8 = o::Writev::CODE;
    pub(crate) const FSYNC: u8 = o::Fsync::CODE;
    pub(crate) const POLL_ADD: u8 = o::PollAdd::CODE;
    pub(crate) const POLL_REMOVE: u8 = o::PollRemove::CODE;
    pub(crate) const TIMEOUT: u8 = o::Timeout::CODE;
    pub(crate) const TIMEOUT_REMOVE: u8 = o::TimeoutRemove::CODE;
    pub(crate) const ACCEPT: u8 = o::Accept::CODE;
    pub(crate) const ASYNC_CANCEL: u8 = o::AsyncCancel::CODE;
    pub(crate) const EPOLL_CTL: u8 = o::EpollCtl::CODE;
    pub(crate) const LINK_TIMEOUT: u8 = o::LinkTimeout::CODE;
    pub(crate) const FALLOCATE: u8 = o::Fallocate::CODE;
    pub(crate) const OPENAT: u8 = o::OpenAt::CODE;
    pub(crate) const CLOSE: u8 = o::Close::CODE;
    pub(crate) const FILES_UPDATE: u8 = o::FilesUpdate::CODE;
    pub(crate) const STATX: u8 = o::Statx::CODE;
    pub(crate) const READ: u8 = o::Read::CODE;
    pub(crate) const WRITE: u8 = o::Write::CODE;
    pub(crate) const RECVMSG: u8 = o::RecvMsg::CODE;
    pub(crate) const RECV: u8 = o::Recv::CODE;
    /// The crate has it only with a buffer group.
    pub(crate) const READ_MULTISHOT: u8 = 49;
    pub(crate) const OPENAT2: u8 = o::OpenAt2::CODE;
    pub(crate) const MSG_RING: u8 = o::MsgRingData::CODE;
    pub(crate) const SOCKET: u8 = o::Socket::CODE;
    pub(crate) const URING_CMD: u8 = o::UringCmd16::CODE;
    pub(crate) const SEND_ZC: u8 = o::SendZc::CODE;
    pub(crate) const SENDMSG_ZC: u8 = o::SendMsgZc::CODE;
    pub(crate) const FIXED_FD_INSTALL: u8 = o::FixedFdInstall::CODE;
    pub(crate) const FTRUNCATE: u8 = o::Ftruncate::CODE;
    /// From Linux 6.16 on.
    pub(crate) const PIPE: u8 = 62;
    /// 128-byte entries, from Linux 6.19 on: not in the crate.
    pub(crate) const NOP128: u8 = 63;
    pub(crate) const URING_CMD128: u8 = 64;
}

pub(crate) const FSYNC_DATASYNC: u32 = 1;
pub(crate) const TIMEOUT_ABS: u32 = 1;
pub(crate) const TIMEOUT_UPDATE: u32 = 1 << 1;
pub(crate) const TIMEOUT_BOOTTIME: u32 = 1 << 2;
pub(crate) const TIMEOUT_REALTIME: u32 = 1 << 3;
pub(crate) const TIMEOUT_ETIME_SUCCESS: u32 = 1 << 5;
pub(crate) const CANCEL_ALL: u32 = 1;
pub(crate) const CANCEL_ANY: u32 = 1 << 2;
pub(crate) const TIMEOUT_MULTISHOT: u32 = 1 << 6;
pub(crate) const POLL_MULTI: u32 = 1;
pub(crate) const POLL_UPDATE_USER_DATA: u32 = 1 << 2;
pub(crate) const ACCEPT_MULTISHOT: u16 = 1;
pub(crate) const RECV_MULTISHOT: u16 = 1 << 1;
/// In the result of a zero-copy send's notification: the kernel copied after all.
pub(crate) const NOTIF_ZC_COPIED: u32 = 1 << 31;

/// `poll32_events` holds its halves swapped on big-endian machines.
pub(crate) const fn poll32(events: u32) -> u32 {
    if cfg!(target_endian = "big") { events.rotate_left(16) } else { events }
}

/// An entry that polls a descriptor until it can be read.
pub(super) fn poll_in(fd: i32) -> Sqe {
    Sqe { opcode: op::POLL_ADD, fd, op_flags: poll32(libc::POLLIN as u32), ..Sqe::default() }
}
