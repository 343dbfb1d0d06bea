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

/// `IORING_OP_*`.
pub(crate) mod op {
    pub(crate) const NOP: u8 = 0;
    pub(crate) const READV: u8 = 1;
    pub(crate) const WRITEV: u8 = 2;
    pub(crate) const FSYNC: u8 = 3;
    pub(crate) const POLL_ADD: u8 = 6;
    pub(crate) const POLL_REMOVE: u8 = 7;
    pub(crate) const SYNC_FILE_RANGE: u8 = 8;
    pub(crate) const SENDMSG: u8 = 9;
    pub(crate) const RECVMSG: u8 = 10;
    pub(crate) const TIMEOUT: u8 = 11;
    pub(crate) const TIMEOUT_REMOVE: u8 = 12;
    pub(crate) const ACCEPT: u8 = 13;
    pub(crate) const ASYNC_CANCEL: u8 = 14;
    pub(crate) const LINK_TIMEOUT: u8 = 15;
    pub(crate) const CONNECT: u8 = 16;
    pub(crate) const FALLOCATE: u8 = 17;
    pub(crate) const OPENAT: u8 = 18;
    pub(crate) const CLOSE: u8 = 19;
    pub(crate) const FILES_UPDATE: u8 = 20;
    pub(crate) const STATX: u8 = 21;
    pub(crate) const READ: u8 = 22;
    pub(crate) const WRITE: u8 = 23;
    pub(crate) const FADVISE: u8 = 24;
    pub(crate) const MADVISE: u8 = 25;
    pub(crate) const SEND: u8 = 26;
    pub(crate) const RECV: u8 = 27;
    pub(crate) const OPENAT2: u8 = 28;
    pub(crate) const EPOLL_CTL: u8 = 29;
    pub(crate) const SPLICE: u8 = 30;
    pub(crate) const TEE: u8 = 33;
    pub(crate) const SHUTDOWN: u8 = 34;
    pub(crate) const RENAMEAT: u8 = 35;
    pub(crate) const UNLINKAT: u8 = 36;
    pub(crate) const MKDIRAT: u8 = 37;
    pub(crate) const SYMLINKAT: u8 = 38;
    pub(crate) const LINKAT: u8 = 39;
    pub(crate) const MSG_RING: u8 = 40;
    pub(crate) const FSETXATTR: u8 = 41;
    pub(crate) const SETXATTR: u8 = 42;
    pub(crate) const FGETXATTR: u8 = 43;
    pub(crate) const GETXATTR: u8 = 44;
    pub(crate) const SOCKET: u8 = 45;
    pub(crate) const URING_CMD: u8 = 46;
    pub(crate) const SEND_ZC: u8 = 47;
    pub(crate) const SENDMSG_ZC: u8 = 48;
    pub(crate) const READ_MULTISHOT: u8 = 49;
    pub(crate) const WAITID: u8 = 50;
    pub(crate) const FUTEX_WAIT: u8 = 51;
    pub(crate) const FUTEX_WAKE: u8 = 52;
    pub(crate) const FUTEX_WAITV: u8 = 53;
    pub(crate) const FIXED_FD_INSTALL: u8 = 54;
    pub(crate) const FTRUNCATE: u8 = 55;
    pub(crate) const BIND: u8 = 56;
    pub(crate) const LISTEN: u8 = 57;
    pub(crate) const EPOLL_WAIT: u8 = 59;
    pub(crate) const PIPE: u8 = 62;
    /// 128-byte entries, from Linux 6.19 on.
    pub(crate) const NOP128: u8 = 63;
    pub(crate) const URING_CMD128: u8 = 64;
}

/// `SOCKET_URING_OP_*`: what a URING_CMD does on a socket.
pub(crate) mod socket_op {
    pub(crate) const SIOCINQ: u32 = 0;
    pub(crate) const SIOCOUTQ: u32 = 1;
    pub(crate) const GETSOCKOPT: u32 = 2;
    pub(crate) const SETSOCKOPT: u32 = 3;
}

/// In place of a slot: the kernel chooses one.
pub(crate) const FILE_INDEX_ALLOC: u32 = u32::MAX;
pub(crate) const SPLICE_FD_IN_FIXED: u32 = 1 << 31;
/// Have a zero-copy send's notification say whether the kernel copied.
pub(crate) const SEND_ZC_REPORT_USAGE: u16 = 1 << 3;

/// The kernel's struct msghdr.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MsgHdr {
    pub name: u64,
    pub name_len: u32,
    pub pad: u32,
    pub vectors: u64,
    pub vector_count: u64,
    pub control: u64,
    pub control_len: u64,
    pub flags: u32,
    pub pad2: u32,
}

const _: () = assert!(size_of::<MsgHdr>() == 56);

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
