// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry does, as far as the library must know.

use super::form::Form;
use crate::sys::{Sqe, entry};

/// Whether the library can follow an entry of the host's to its one terminal completion.
pub(super) fn trackable(sqe: &Sqe) -> bool {
    use entry::{op, sqe_flags};
    const FLAGS: u8 = sqe_flags::FIXED_FILE | sqe_flags::ASYNC;
    const _: () = assert!(
        FLAGS
            & (sqe_flags::IO_DRAIN
                | sqe_flags::IO_LINK
                | sqe_flags::IO_HARDLINK
                | sqe_flags::CQE_SKIP_SUCCESS
                | sqe_flags::BUFFER_SELECT)
            == 0
    );
    // An update of a poll could rename an I/O of the library's.
    let renames = sqe.opcode == op::POLL_REMOVE && sqe.len & entry::POLL_UPDATE_USER_DATA != 0;
    let opcode = !renames
        && !matches!(
            sqe.opcode,
            op::MSG_RING | op::LINK_TIMEOUT | op::FILES_UPDATE | op::URING_CMD | op::NOP128 | op::URING_CMD128
        );
    // Slot 0 of the registered files is the sentinel's: not to be used, replaced (indices here count from 1) or closed.
    let installs = matches!(sqe.opcode, op::OPENAT | op::OPENAT2 | op::CLOSE | op::ACCEPT | op::SOCKET | op::PIPE);
    let file = (sqe.flags & sqe_flags::FIXED_FILE == 0 || sqe.fd > 0) && !(installs && sqe.file_index == 1);
    // It would act on the process's descriptor of that number: the kernel doesn't look at the flag.
    let ignores = sqe.opcode == op::EPOLL_CTL && sqe.flags & sqe_flags::FIXED_FILE != 0;
    opcode && sqe.flags & !FLAGS == 0 && file && !ignores
}

/// Whether an entry's result is a descriptor, which only its taker knows. (A raw direct install's is a slot, and a raw
/// pipe's are where the host knows.)
#[cold]
pub(super) fn makes_descriptor(sqe: &Sqe, form: Form) -> bool {
    use entry::op;
    let opens = matches!(sqe.opcode, op::OPENAT | op::OPENAT2 | op::ACCEPT | op::SOCKET);
    opens && (sqe.file_index == 0 || form != Form::Raw) || sqe.opcode == op::FIXED_FD_INSTALL || form == Form::Pipe
}

/// Whether an entry can install what it makes into the ring's registered files.
pub(super) fn can_install(sqe: &Sqe, form: Form) -> bool {
    use entry::op;
    form != Form::Raw && matches!(sqe.opcode, op::OPENAT | op::OPENAT2 | op::ACCEPT | op::SOCKET | op::PIPE)
}

/// Have the kernel install it in a slot that it chooses. A registered file never outlives an exec, so that the flag which says
/// so is refused there.
pub(super) fn install(sqe: &mut Sqe) {
    sqe.file_index = entry::FILE_INDEX_ALLOC;
    // O_CLOEXEC and SOCK_CLOEXEC are the same. openat2 has its flags in memory.
    sqe.op_flags &= !(libc::O_CLOEXEC as u32);
    if sqe.opcode == entry::op::SOCKET {
        sqe.off &= !(libc::SOCK_CLOEXEC as u64);
    }
}

/// Whether `fd` of an entry is a descriptor at all.
#[cold]
pub(super) fn names_file(sqe: &Sqe) -> bool {
    use entry::op;
    // A slot is closed, and so is no file named.
    let closes_slot = sqe.opcode == op::CLOSE && sqe.file_index != 0;
    !closes_slot
        && !matches!(
            sqe.opcode,
            op::SOCKET | op::PIPE | op::WAITID | op::FUTEX_WAIT | op::FUTEX_WAKE | op::FUTEX_WAITV | op::MADVISE
        )
}

/// Whether an entry takes what comes into a socket.
pub(super) fn is_receive(sqe: &Sqe) -> bool {
    matches!(sqe.opcode, entry::op::RECV | entry::op::RECVMSG)
}

/// Whether an entry may complete several times.
#[cold]
pub(super) fn is_multishot(sqe: &Sqe) -> bool {
    use entry::op;
    match sqe.opcode {
        op::POLL_ADD => sqe.len & entry::POLL_MULTI != 0,
        op::ACCEPT => sqe.ioprio & entry::ACCEPT_MULTISHOT != 0,
        op::RECV | op::RECVMSG => sqe.ioprio & entry::RECV_MULTISHOT != 0,
        op::TIMEOUT => sqe.op_flags & entry::TIMEOUT_MULTISHOT != 0,
        op::READ_MULTISHOT => true,
        _ => false,
    }
}
