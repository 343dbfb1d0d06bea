/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * How operations fail: as their system calls do; and what the start refuses, since the library must know it. */
#include "optable.h"

#include <sys/uio.h>

enum where { AT_END, AT_START };

#define FIXED_FD ((1 << 30) + 1)
#define NO_PROCESS 0x3ffffff0
static const struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_addr.s_addr = 0x010200c0}; /* 192.0.2.1: of documents */
static const struct sockaddr_in refusing = {.sin_family = AF_INET, .sin_port = 0x0100, .sin_addr.s_addr = 0x0100007f};
static const struct sockaddr_un other_family = {.sun_family = AF_UNIX, .sun_path = "x"};
static const uint64_t how_beneath[3] = {O_RDONLY, 0, 8 /* RESOLVE_BENEATH */}, how_unknown[3] = {O_RDONLY, 0, 1 << 20};
static const char zeros[64];

/* name, opcode, who says it, what, description */
#define FAILURES(X) \
  X(sync_file_range_of_pipe, IORING_OP_SYNC_FILE_RANGE, AT_END, -ESPIPE, sync_file_range(op, at->full.read, 0, 1, 2)) \
  X(sync_file_range_unknown_flags, IORING_OP_SYNC_FILE_RANGE, AT_END, -EINVAL, sync_file_range(op, at->file, 0, 1, 64)) \
  X(sync_file_range_closed, IORING_OP_SYNC_FILE_RANGE, AT_END, -EBADF, sync_file_range(op, -1, 0, 1, 2)) \
  X(fadvise_of_pipe, IORING_OP_FADVISE, AT_END, -ESPIPE, fadvise(op, at->full.read, 0, 1, 3)) \
  X(fadvise_unknown_advice, IORING_OP_FADVISE, AT_END, -EINVAL, fadvise(op, at->file, 0, 1, 77)) \
  X(fadvise_closed, IORING_OP_FADVISE, AT_END, -EBADF, fadvise(op, -1, 0, 1, 3)) \
  X(madvise_unknown_advice, IORING_OP_MADVISE, AT_END, -EINVAL, madvise(op, at->buf, 0, PAGE, 7777)) \
  X(madvise_within_page, IORING_OP_MADVISE, AT_START, -EINVAL, madvise(op, at->buf, 64, PAGE, 4)) \
  X(madvise_part_of_page, IORING_OP_MADVISE, AT_START, -EINVAL, madvise(op, at->buf, 0, PAGE - 1, 4)) \
  X(madvise_beyond, IORING_OP_MADVISE, AT_START, -EINVAL, madvise(op, at->buf, PAGE, 2 * PAGE, 4)) \
  X(openat2_short, IORING_OP_OPENAT2, AT_END, -EINVAL, openat2(op, at->dir, at->old, zeros, 8)) \
  X(openat2_unknown_resolve, IORING_OP_OPENAT2, AT_END, -EINVAL, openat2(op, at->dir, at->old, how_unknown, 24)) \
  X(openat2_not_beneath, IORING_OP_OPENAT2, AT_END, -EXDEV, openat2(op, at->dir, "..", how_beneath, 24)) \
  X(openat2_missing, IORING_OP_OPENAT2, AT_END, -ENOENT, openat2(op, at->dir, "missing", zeros, 24)) \
  X(renameat_missing, IORING_OP_RENAMEAT, AT_END, -ENOENT, renameat(op, at->dir, "missing", at->dir, at->fresh, 0)) \
  X(renameat_over, IORING_OP_RENAMEAT, AT_END, -EEXIST, renameat(op, at->dir, at->old, at->dir, at->old, 1)) \
  X(renameat_unknown_flags, IORING_OP_RENAMEAT, AT_END, -EINVAL, renameat(op, at->dir, at->old, at->dir, at->fresh, 1 << 20)) \
  X(renameat_closed, IORING_OP_RENAMEAT, AT_END, -EBADF, renameat(op, -1, at->old, at->dir, at->fresh, 0)) \
  X(renameat_closed_second, IORING_OP_RENAMEAT, AT_END, -EBADF, renameat(op, at->dir, at->old, -1, at->fresh, 0)) \
  X(renameat_fixed_second, IORING_OP_RENAMEAT, AT_START, -EINVAL, renameat(op, at->dir, at->old, FIXED_FD, at->fresh, 0)) \
  X(unlinkat_missing, IORING_OP_UNLINKAT, AT_END, -ENOENT, unlinkat(op, at->dir, "missing", 0)) \
  X(unlinkat_no_directory, IORING_OP_UNLINKAT, AT_END, -ENOTDIR, unlinkat(op, at->dir, at->old, AT_REMOVEDIR)) \
  X(unlinkat_directory, IORING_OP_UNLINKAT, AT_END, -EISDIR, unlinkat(op, AT_FDCWD, "/dev", 0)) \
  X(unlinkat_unknown_flags, IORING_OP_UNLINKAT, AT_END, -EINVAL, unlinkat(op, at->dir, at->old, 1 << 20)) \
  X(mkdirat_there, IORING_OP_MKDIRAT, AT_END, -EEXIST, mkdirat(op, at->dir, at->old, 0700)) \
  X(mkdirat_in_file, IORING_OP_MKDIRAT, AT_END, -ENOTDIR, mkdirat(op, at->file, at->fresh, 0700)) \
  X(mkdirat_in_fixed, IORING_OP_MKDIRAT, AT_START, -EINVAL, mkdirat(op, FIXED_FD, at->fresh, 0700)) \
  X(symlinkat_there, IORING_OP_SYMLINKAT, AT_END, -EEXIST, symlinkat(op, "x", at->dir, at->old)) \
  X(symlinkat_empty, IORING_OP_SYMLINKAT, AT_END, -ENOENT, symlinkat(op, "", at->dir, at->fresh)) \
  X(linkat_there, IORING_OP_LINKAT, AT_END, -EEXIST, linkat(op, at->dir, at->old, at->dir, at->old, 0)) \
  X(linkat_missing, IORING_OP_LINKAT, AT_END, -ENOENT, linkat(op, at->dir, "missing", at->dir, at->fresh, 0)) \
  X(linkat_unknown_flags, IORING_OP_LINKAT, AT_END, -EINVAL, linkat(op, at->dir, at->old, at->dir, at->fresh, 1 << 20)) \
  X(getxattr_missing_file, IORING_OP_GETXATTR, AT_END, -ENOENT, getxattr(op, "/missing", "user.test", at->buf, 0, 9)) \
  X(getxattr_missing, IORING_OP_GETXATTR, AT_END, -ENODATA, getxattr(op, at->path, "user.missing", at->buf, 0, 9)) \
  X(getxattr_too_short, IORING_OP_GETXATTR, AT_END, -ERANGE, getxattr(op, at->path, "user.test", at->buf, 0, 2)) \
  X(getxattr_beyond, IORING_OP_GETXATTR, AT_START, -EINVAL, getxattr(op, at->path, "user.test", at->buf, 2 * PAGE - 1, 2)) \
  X(setxattr_there, IORING_OP_SETXATTR, AT_END, -EEXIST, setxattr(op, at->path, "user.test", "x", 1, XATTR_CREATE)) \
  X(setxattr_not_there, IORING_OP_SETXATTR, AT_END, -ENODATA, setxattr(op, at->path, "user.no", "x", 1, XATTR_REPLACE)) \
  X(setxattr_unknown_flags, IORING_OP_SETXATTR, AT_END, -EINVAL, setxattr(op, at->path, "user.test", "x", 1, 64)) \
  X(fgetxattr_closed, IORING_OP_FGETXATTR, AT_END, -EBADF, fgetxattr(op, -1, "user.test", at->buf, 0, 9)) \
  X(fsetxattr_closed, IORING_OP_FSETXATTR, AT_END, -EBADF, fsetxattr(op, -1, "user.test", "x", 1, 0)) \
  X(splice_without_pipe, IORING_OP_SPLICE, AT_END, -EINVAL, splice(op, at->file, 0, at->spare, 0, 8, 0)) \
  X(splice_offset_of_pipe, IORING_OP_SPLICE, AT_END, -ESPIPE, splice(op, at->full.read, 5, at->file, 0, 8, 0)) \
  X(splice_closed, IORING_OP_SPLICE, AT_END, -EBADF, splice(op, -1, 0, at->full.write, UINT64_MAX, 8, 0)) \
  X(splice_hidden_fixed, IORING_OP_SPLICE, AT_START, -EINVAL, splice(op, 0, 0, at->full.write, UINT64_MAX, 8, 1u << 31)) \
  X(tee_without_pipe, IORING_OP_TEE, AT_END, -EINVAL, tee(op, at->file, at->full.write, 8, 0)) \
  X(pipe_unknown_flags, OP_PIPE, AT_END, -EINVAL, pipe(op, 1)) \
  X(socket_unknown_domain, IORING_OP_SOCKET, AT_END, -EAFNOSUPPORT, socket(op, 77, SOCK_STREAM, 0)) \
  X(socket_unknown_type, IORING_OP_SOCKET, AT_END, -EINVAL, socket(op, AF_INET, 77, 0)) \
  X(socket_unknown_protocol, IORING_OP_SOCKET, AT_END, -EPROTONOSUPPORT, socket(op, AF_INET, SOCK_STREAM, 200)) \
  X(bind_in_use, OP_BIND, AT_END, -EADDRINUSE, bind(op, at->unbound, &at->address, sizeof at->address)) \
  X(bind_elsewhere, OP_BIND, AT_END, -EADDRNOTAVAIL, bind(op, at->unbound, &nowhere, sizeof nowhere)) \
  X(bind_short, OP_BIND, AT_END, -EINVAL, bind(op, at->unbound, &at->address, 3)) \
  X(bind_too_long, OP_BIND, AT_END, -EINVAL, bind(op, at->unbound, at->path, sizeof at->path)) \
  X(bind_no_socket, OP_BIND, AT_END, -ENOTSOCK, bind(op, at->file, &at->address, sizeof at->address)) \
  X(listen_on_datagrams, OP_LISTEN, AT_END, -EOPNOTSUPP, listen(op, at->udp, 5)) \
  X(listen_no_socket, OP_LISTEN, AT_END, -ENOTSOCK, listen(op, at->file, 5)) \
  X(accept_not_listening, IORING_OP_ACCEPT, AT_END, -EINVAL, accept(op, at->unbound, NULL, 0)) \
  X(accept_datagrams, IORING_OP_ACCEPT, AT_END, -EOPNOTSUPP, accept(op, at->udp, NULL, 0)) \
  X(accept_no_socket, IORING_OP_ACCEPT, AT_END, -ENOTSOCK, accept(op, at->file, NULL, 0)) \
  X(accept_unknown_flags, IORING_OP_ACCEPT, AT_END, -EINVAL, accept(op, at->listener, NULL, 3)) \
  X(accept_multishot_not_listening, IORING_OP_ACCEPT, AT_END, -EINVAL, accept_multishot(op, at->unbound, 0)) \
  X(connect_refused, IORING_OP_CONNECT, AT_END, -ECONNREFUSED, connect(op, at->unbound, &refusing, sizeof refusing)) \
  X(connect_again, IORING_OP_CONNECT, AT_END, -EISCONN, connect(op, at->client, &at->address, sizeof at->address)) \
  X(connect_other_family, IORING_OP_CONNECT, AT_END, -EAFNOSUPPORT, connect(op, at->unbound, &other_family, sizeof other_family)) \
  X(connect_no_socket, IORING_OP_CONNECT, AT_END, -ENOTSOCK, connect(op, at->file, &at->address, sizeof at->address)) \
  X(shutdown_not_connected, IORING_OP_SHUTDOWN, AT_END, -ENOTCONN, shutdown(op, at->unbound, SHUT_WR)) \
  X(shutdown_unknown_how, IORING_OP_SHUTDOWN, AT_END, -EINVAL, shutdown(op, at->client, 7)) \
  X(shutdown_no_socket, IORING_OP_SHUTDOWN, AT_END, -ENOTSOCK, shutdown(op, at->file, SHUT_WR)) \
  X(send_not_connected, IORING_OP_SEND, AT_END, -EPIPE, send(op, at->unbound, at->buf, 0, 8, 0)) \
  X(send_nowhere, IORING_OP_SEND, AT_END, -EDESTADDRREQ, send(op, at->udp, at->buf, 0, 8, 0)) \
  X(send_no_socket, IORING_OP_SEND, AT_END, -ENOTSOCK, send(op, at->file, at->buf, 0, 8, 0)) \
  X(send_no_room, IORING_OP_SEND, AT_END, -EAGAIN, send(op, at->crammed.write, at->buf, 0, 8, MSG_DONTWAIT)) \
  X(send_copied_late, IORING_OP_SEND, AT_START, -EINVAL, send(op, at->pair.write, at->buf, 0, 8, 0x4000000)) \
  X(send_beyond, IORING_OP_SEND, AT_START, -EINVAL, send(op, at->pair.write, at->buf, 2 * PAGE - 7, 8, 0)) \
  X(recv_not_connected, IORING_OP_RECV, AT_END, -ENOTCONN, recv(op, at->unbound, at->buf, 0, 8, 0)) \
  X(recv_nothing_there, IORING_OP_RECV, AT_END, -EAGAIN, recv(op, at->pair.write, at->buf, 0, 8, MSG_DONTWAIT)) \
  X(recv_no_socket, IORING_OP_RECV, AT_END, -ENOTSOCK, recv(op, at->file, at->buf, 0, 8, 0)) \
  X(sendto_other_family, IORING_OP_SENDMSG, AT_END, -EAFNOSUPPORT, sendto(op, at->udp, at->buf, 0, 8, &other_family, sizeof other_family, 0)) \
  X(sendto_elsewhere, IORING_OP_SENDMSG, AT_END, -EISCONN, sendto(op, at->pair.write, at->buf, 0, 8, &other_family, sizeof other_family, 0)) \
  X(sendto_nowhere, IORING_OP_SENDMSG, AT_END, -EDESTADDRREQ, sendto(op, at->udp, at->buf, 0, 8, NULL, 0, 0)) \
  X(sendmsg_nowhere, IORING_OP_SENDMSG, AT_END, -EDESTADDRREQ, sendmsg(op, at->udp, at->buf, 0, 8, NULL, 0, NULL, 0, 0)) \
  X(sendmsg_crooked_control, IORING_OP_SENDMSG, AT_END, -EINVAL, sendmsg(op, at->pair.write, at->buf, 0, 8, NULL, 0, zeros, 20, 0)) \
  X(recvmsg_not_connected, IORING_OP_RECVMSG, AT_END, -ENOTCONN, recvmsg(op, at->unbound, at->buf, 0, 8, 0, 0, 0)) \
  X(recvmsg_crooked_lengths, IORING_OP_RECVMSG, AT_START, -EINVAL, recvmsg(op, at->pair.read, at->buf, 0, 8, 4, 0, 0)) \
  X(recvmsg_crooked_place, IORING_OP_RECVMSG, AT_START, -EINVAL, recvmsg(op, at->pair.read, at->buf, 4, 8, 8, 0, 0)) \
  X(recvmsg_beyond, IORING_OP_RECVMSG, AT_START, -EINVAL, recvmsg(op, at->pair.read, at->buf, 0, 2 * PAGE - 16 - 15, 8, 8, 0)) \
  X(recvmsg_head_beyond, IORING_OP_RECVMSG, AT_START, -EINVAL, recvmsg(op, at->pair.read, at->buf, 0, 0, UINT32_MAX - 7, 8, 0)) \
  X(setsockopt_unknown, IORING_OP_URING_CMD, AT_END, -ENOPROTOOPT, setsockopt(op, at->unbound, SOL_SOCKET, 7777, zeros, 4)) \
  X(setsockopt_short, IORING_OP_URING_CMD, AT_END, -EINVAL, setsockopt(op, at->unbound, SOL_SOCKET, SO_REUSEADDR, zeros, 1)) \
  X(getsockopt_unknown, IORING_OP_URING_CMD, AT_END, -ENOPROTOOPT, getsockopt(op, at->unbound, SOL_SOCKET, 7777, at->buf, 0, 4)) \
  X(getsockopt_beyond, IORING_OP_URING_CMD, AT_START, -EINVAL, getsockopt(op, at->unbound, SOL_SOCKET, SO_TYPE, at->buf, 2 * PAGE, 4)) \
  X(siocinq_listening, IORING_OP_URING_CMD, AT_END, -EINVAL, siocinq(op, at->listener)) \
  X(siocoutq_no_socket, IORING_OP_URING_CMD, AT_END, -EOPNOTSUPP, siocoutq(op, at->full.read)) \
  X(poll_multishot_closed, IORING_OP_POLL_ADD, AT_END, -EBADF, poll_multishot(op, -1, 1)) \
  X(timeout_multishot_negative, IORING_OP_TIMEOUT, AT_START, -EINVAL, timeout_multishot(op, -1, 0, 0)) \
  X(epoll_ctl_there, IORING_OP_EPOLL_CTL, AT_END, -EEXIST, epoll_ctl(op, at->epoll, EPOLL_CTL_ADD, at->event, EPOLLIN, 0)) \
  X(epoll_ctl_not_there, IORING_OP_EPOLL_CTL, AT_END, -ENOENT, epoll_ctl(op, at->idle, EPOLL_CTL_MOD, at->event, EPOLLIN, 0)) \
  X(epoll_ctl_of_file, IORING_OP_EPOLL_CTL, AT_END, -EPERM, epoll_ctl(op, at->idle, EPOLL_CTL_ADD, at->file, EPOLLIN, 0)) \
  X(epoll_ctl_itself, IORING_OP_EPOLL_CTL, AT_END, -EINVAL, epoll_ctl(op, at->idle, EPOLL_CTL_ADD, at->idle, EPOLLIN, 0)) \
  X(epoll_ctl_on_fixed, IORING_OP_EPOLL_CTL, AT_START, -EINVAL, epoll_ctl(op, FIXED_FD, EPOLL_CTL_ADD, at->event, EPOLLIN, 0)) \
  X(epoll_ctl_of_fixed, IORING_OP_EPOLL_CTL, AT_START, -EINVAL, epoll_ctl(op, at->idle, EPOLL_CTL_ADD, FIXED_FD, EPOLLIN, 0)) \
  X(epoll_wait_none, OP_EPOLL_WAIT, AT_END, -EINVAL, epoll_wait(op, at->epoll, at->buf, 0, 0)) \
  X(epoll_wait_no_epoll, OP_EPOLL_WAIT, AT_END, -EINVAL, epoll_wait(op, at->event, at->buf, 0, 4)) \
  X(epoll_wait_beyond, OP_EPOLL_WAIT, AT_START, -EINVAL, epoll_wait(op, at->epoll, at->buf, 0, 2 * PAGE / 12 + 1)) \
  X(epoll_wait_too_many, OP_EPOLL_WAIT, AT_START, -EINVAL, epoll_wait(op, at->epoll, at->buf, 0, UINT32_MAX)) \
  X(futex_wait_unknown_flags, OP_FUTEX_WAIT, AT_END, -EINVAL, futex_wait(op, &at->word, 0, 1, 1 << 20)) \
  X(futex_wait_no_mask, OP_FUTEX_WAIT, AT_END, -EINVAL, futex_wait(op, &at->word, 0, 0, FUTEX_U32_PRIVATE)) \
  X(futex_wake_unknown_flags, OP_FUTEX_WAKE, AT_END, -EINVAL, futex_wake(op, &at->word, 0, 1, 1 << 20)) \
  X(futex_waitv_none, OP_FUTEX_WAITV, AT_START, -EINVAL, futex_waitv(op, at->futexes, 0)) \
  X(futex_waitv_too_many, OP_FUTEX_WAITV, AT_START, -EINVAL, futex_waitv(op, at->futexes, 129)) \
  X(waitid_no_child, OP_WAITID, AT_END, -ECHILD, waitid(op, P_PID, NO_PROCESS, at->buf, 0, WEXITED)) \
  X(waitid_no_options, OP_WAITID, AT_END, -EINVAL, waitid(op, P_ALL, 0, at->buf, 0, 0)) \
  X(waitid_unknown_type, OP_WAITID, AT_END, -EINVAL, waitid(op, 77, 0, NULL, 0, WEXITED)) \
  X(waitid_crooked_place, OP_WAITID, AT_START, -EINVAL, waitid(op, P_ALL, 0, at->buf, 4, WEXITED)) \
  X(fixed_fd_install_of_no_fixed, OP_FIXED_FD_INSTALL, AT_START, -EINVAL, fixed_fd_install(op, at->file, 0)) \
  X(fixed_fd_install_of_none, OP_FIXED_FD_INSTALL, AT_END, -EBADF, fixed_fd_install(op, FIXED_FD, 0)) \
  X(fixed_fd_install_of_the_sentinel, OP_FIXED_FD_INSTALL, AT_START, -EINVAL, fixed_fd_install(op, 1 << 30, 0)) \
  X(close_the_sentinel, IORING_OP_CLOSE, AT_START, -EINVAL, close(op, 1 << 30)) \
  X(write_into_the_sentinel, IORING_OP_WRITE, AT_START, -EINVAL, write(op, 1 << 30, at->buf, 0, 1, 0)) \
  X(read_of_no_fixed, IORING_OP_READ, AT_END, -EBADF, read(op, FIXED_FD, at->buf, 0, 1, 0))

#define DESCRIBE_FAILURE(name, opcode, where, result, call) \
  static void fail_##name(paluring_op *op, struct stage *at) { (void)at; paluring_op_##call; }
FAILURES(DESCRIBE_FAILURE)

static const struct failure {
  const char *name;
  uint32_t opcode;
  enum where where;
  int32_t result;
  describe_fn *describe;
} failures[] = {
#define FAILURE(name, opcode, where, result, call) {#name, opcode, where, result, fail_##name},
    FAILURES(FAILURE)};

static const struct failure *failure;
static paluring_ring *ring;
static bool xattrs, commands;

static void fails_with(uint32_t flags) {
  struct stage stage;
  paluring_completion got;
  paluring_io io = 1;
  paluring_op op;
  stage_make(&stage, ring);
  failure->describe(&op, &stage);
  op.flags = flags;
  int32_t status = paluring_io_start(ring, &op, &io);
  CHECK_EQ(status, failure->where == AT_START ? failure->result : 0);
  if (status == 0) {
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
    CHECK_EQ(got.result, failure->result);
    CHECK_EQ(got.extra, 0);
  } else {
    CHECK_EQ(io, 0);
  }
  CHECK_EQ(paluring_buf_refs(stage.buf), 1);
  stage_end(&stage);
}

static void run_failure(void) {
  int fds = count_fds();
  if (!paluring_ring_supports(ring, failure->opcode)) SKIP("this kernel lacks the operation");
  if (strstr(failure->name, "xattr") && !xattrs) SKIP("this file system has no attributes of users");
  if (failure->opcode == IORING_OP_URING_CMD && !commands) SKIP("this kernel has no commands for sockets");
  DO(fails_with(0));
  ROW("on a worker");
  DO(fails_with(PALURING_OP_ASYNC));
  CHECK_EQ(count_fds(), fds);
}

static bool has_commands(void) {
  struct stage stage;
  paluring_op op;
  stage_make(&stage, ring);
  do_setsockopt(&op, &stage);
  paluring_io io = start_op(ring, op);
  paluring_completion got = {0};
  EXPECT_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  stage_end(&stage);
  return got.result == 0;
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  xattrs = has_xattrs();
  ring = ring_open(PALURING_MODE_OWNER, 16, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  commands = paluring_ring_supports(ring, IORING_OP_URING_CMD) && has_commands();
  for (size_t i = 0; i < COUNT_OF(failures); i++) {
    failure = &failures[i];
    harness_run(failure->name, run_failure);
  }
  ring_done(ring);
  return harness_end();
}
