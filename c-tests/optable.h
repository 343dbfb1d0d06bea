/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A table of operations: how each is described so that it succeeds at once, and, if it can wait, so that it does. Each
 * description gets a stage of its own: fresh names, files, sockets and pipes.
 */
#ifndef PALURING_TEST_OPTABLE_H
#define PALURING_TEST_OPTABLE_H

#include "raw.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <sys/xattr.h>

/* Newer than some systems' headers. */
enum { OP_READ_MULTISHOT = 49, OP_WAITID, OP_FUTEX_WAIT, OP_FUTEX_WAKE, OP_FUTEX_WAITV, OP_FIXED_FD_INSTALL, OP_FTRUNCATE, OP_BIND, OP_LISTEN, OP_EPOLL_WAIT = 59, OP_PIPE = 62 };
enum { FUTEX_U32_PRIVATE = 2 | 128 };

#define PAGE 4096

struct futex_wait_on {
  uint64_t value, address;
  uint32_t flags, reserved;
};

/* What descriptions lend is in here: they are started later. */
struct stage {
  paluring_ring *ring;
  int dir, file, spare, listener, quiet, client, udp, unbound, event, epoll, idle;
  struct ends full, empty, stuffed; /* pipes: with 8 bytes, with none, with no room */
  struct ends pair, crammed;        /* sockets: with 8 bytes to receive, with no room to send */
  struct sockaddr_in address, quiet_address, any_address;
  pid_t exited, living;
  char fresh[32], old[32], path[PATH_SIZE];
  uint32_t word, other_word;
  struct futex_wait_on futexes[2];
  int on;
  int fixed;
  paluring_buf *buf;
};

typedef void describe_fn(paluring_op *op, struct stage *at);

/* Results that aren't numbers known before. */
enum { A_DESCRIPTOR = 100000, SOME = 100001 };

enum { IS_MULTISHOT = 1, NEEDS_XATTR = 2, NEEDS_FIXED = 4, AT_RUN_TIME = 8 /* the kernel may lack it without saying so before */,
       CHAIN_GOES_ON = 16 /* of the kernel: its cancel doesn't break a chain */ };

struct kind {
  const char *name;
  uint32_t opcode;
  int32_t result;
  describe_fn *describe, *wait; /* wait NULL: it never waits for long */
  int flags;
};

/* Not all file systems have attributes of users. */
static inline bool has_xattrs(void) {
  char path[PATH_SIZE];
  int fd = open(temp_path(path, "xattr"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  bool has = fsetxattr(fd, "user.test", "x", 1, 0) == 0;
  close(fd);
  return has;
}

static inline int stuff(int fd) {
  char bytes[PAGE] = {0};
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  while (write(fd, bytes, sizeof bytes) > 0) continue;
  while (write(fd, bytes, 1) > 0) continue;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  return fd;
}

static inline pid_t make_child(bool lives) {
  pid_t child = fork();
  if (child == 0) {
    while (lives) pause();
    _exit(7);
  }
  siginfo_t info;
  if (!lives) waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
  return child;
}

static inline void end_child(pid_t child) {
  if (child <= 0) return;
  kill(child, SIGKILL);
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
}

static inline void stage_files(struct stage *at) {
  static unsigned number;
  char path[PATH_SIZE];
  snprintf(at->fresh, sizeof at->fresh, "fresh%u", ++number);
  snprintf(at->old, sizeof at->old, "old%u", number);
  at->file = temp_file(at->old, PAGE, 3);
  at->dir = open(temp_path(path, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  temp_path(at->path, at->old);
  at->spare = fcntl(at->file, F_DUPFD_CLOEXEC, 0);
  fsetxattr(at->file, "user.test", "value", 5, 0);
}

static inline void stage_sockets(struct stage *at) {
  at->listener = listen_on_loopback(&at->address);
  at->client = connect_to_loopback(&at->address);
  at->quiet = listen_on_loopback(&at->quiet_address);
  at->unbound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  at->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  at->pair = open_socket(), at->crammed = open_socket();
  EXPECT_EQ(write(at->pair.write, "12345678", 8), 8);
  stuff(at->crammed.write);
}

static inline void stage_make(struct stage *at, paluring_ring *ring) {
  memset(at, 0, sizeof *at);
  at->ring = ring;
  stage_files(at);
  stage_sockets(at);
  at->full = open_pipe(), at->empty = open_pipe(), at->stuffed = open_pipe();
  EXPECT_EQ(write(at->full.write, "12345678", 8), 8);
  stuff(at->stuffed.write);
  at->event = eventfd(1, EFD_CLOEXEC);
  at->epoll = epoll_create1(EPOLL_CLOEXEC), at->idle = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
  EXPECT_EQ(epoll_ctl(at->epoll, EPOLL_CTL_ADD, at->event, &event), 0);
  EXPECT_EQ(paluring_buf_alloc(2 * PAGE, PAGE, &at->buf), 0);
  at->fixed = -1;
  at->on = 1;
  at->any_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  for (int i = 0; i < 2; i++) at->futexes[i] = (struct futex_wait_on){0, (uintptr_t)(i ? &at->other_word : &at->word), FUTEX_U32_PRIVATE, 0};
}

static inline void stage_end(struct stage *at) {
  int fds[] = {at->dir, at->file, at->spare, at->listener, at->quiet, at->client, at->udp, at->unbound, at->event, at->epoll, at->idle};
  for (size_t i = 0; i < COUNT_OF(fds); i++)
    if (fds[i] >= 0) close(fds[i]);
  struct ends ends[] = {at->full, at->empty, at->stuffed, at->pair, at->crammed};
  for (size_t i = 0; i < COUNT_OF(ends); i++) close_pipe(ends[i]);
  if (at->fixed >= 0) EXPECT_EQ(paluring_file_unregister(at->ring, at->fixed), 0);
  end_child(at->exited), end_child(at->living);
  paluring_buf_release(at->buf);
}

#define DESCRIBE(name) static void name(paluring_op *op, struct stage *at)

DESCRIBE(do_nop) { (void)at; paluring_op_nop(op); }
DESCRIBE(do_read) { paluring_op_read(op, at->file, at->buf, 0, 8, 0); }
DESCRIBE(wait_read) { paluring_op_read(op, at->empty.read, at->buf, 0, 8, UINT64_MAX); }
DESCRIBE(do_write) { paluring_op_write(op, at->file, at->buf, 0, 8, 0); }
DESCRIBE(wait_write) { paluring_op_write(op, at->stuffed.write, at->buf, 0, 8, UINT64_MAX); }
DESCRIBE(do_fsync) { paluring_op_fsync(op, at->file); }
DESCRIBE(do_fdatasync) { paluring_op_fdatasync(op, at->file); }
DESCRIBE(do_sync_file_range) { paluring_op_sync_file_range(op, at->file, 0, 0, 2); }
DESCRIBE(do_fallocate) { paluring_op_fallocate(op, at->file, 0, 0, 2 * PAGE); }
DESCRIBE(do_ftruncate) { paluring_op_ftruncate(op, at->file, 10); }
DESCRIBE(do_fadvise) { paluring_op_fadvise(op, at->file, 0, PAGE, POSIX_FADV_WILLNEED); }
DESCRIBE(do_madvise) { paluring_op_madvise(op, at->buf, PAGE, PAGE, 4 /* MADV_DONTNEED */); }
DESCRIBE(do_openat) { paluring_op_openat(op, at->dir, at->old, O_RDONLY | O_CLOEXEC, 0); }
DESCRIBE(do_openat2) {
  static const uint64_t how[3] = {O_RDONLY | O_CLOEXEC, 0, 0};
  paluring_op_openat2(op, at->dir, at->old, how, sizeof how);
}
DESCRIBE(do_close) { paluring_op_close(op, at->spare); }
DESCRIBE(do_statx) { paluring_op_statx(op, at->dir, at->old, 0, STATX_BASIC_STATS, at->buf, 8); }
DESCRIBE(do_renameat) { paluring_op_renameat(op, at->dir, at->old, at->dir, at->fresh, 0); }
DESCRIBE(do_unlinkat) { paluring_op_unlinkat(op, at->dir, at->old, 0); }
DESCRIBE(do_mkdirat) { paluring_op_mkdirat(op, at->dir, at->fresh, 0700); }
DESCRIBE(do_symlinkat) { paluring_op_symlinkat(op, at->old, at->dir, at->fresh); }
DESCRIBE(do_linkat) { paluring_op_linkat(op, at->dir, at->old, at->dir, at->fresh, 0); }
DESCRIBE(do_getxattr) { paluring_op_getxattr(op, at->path, "user.test", at->buf, 3, 100); }
DESCRIBE(do_setxattr) { paluring_op_setxattr(op, at->path, "user.more", "xyz", 3, 0); }
DESCRIBE(do_fgetxattr) { paluring_op_fgetxattr(op, at->file, "user.test", at->buf, 0, 100); }
DESCRIBE(do_fsetxattr) { paluring_op_fsetxattr(op, at->file, "user.more", "xyz", 3, 0); }
DESCRIBE(do_splice) { paluring_op_splice(op, at->full.read, UINT64_MAX, at->empty.write, UINT64_MAX, 8, 0); }
DESCRIBE(do_tee) { paluring_op_tee(op, at->full.read, at->empty.write, 8, 0); }
DESCRIBE(do_pipe) { (void)at; paluring_op_pipe(op, O_CLOEXEC); }
DESCRIBE(do_socket) { (void)at; paluring_op_socket(op, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }
DESCRIBE(do_bind) { paluring_op_bind(op, at->unbound, &at->any_address, sizeof at->any_address); }
DESCRIBE(do_listen) { paluring_op_listen(op, at->unbound, 5); }
DESCRIBE(do_accept) { paluring_op_accept(op, at->listener, at->buf, SOCK_CLOEXEC); }
DESCRIBE(wait_accept) { paluring_op_accept(op, at->quiet, at->buf, SOCK_CLOEXEC); }
DESCRIBE(do_accept_multishot) { paluring_op_accept_multishot(op, at->listener, SOCK_CLOEXEC); }
DESCRIBE(wait_accept_multishot) { paluring_op_accept_multishot(op, at->quiet, SOCK_CLOEXEC); }
DESCRIBE(do_connect) { paluring_op_connect(op, at->unbound, &at->address, sizeof at->address); }
DESCRIBE(do_shutdown) { paluring_op_shutdown(op, at->pair.read, SHUT_RDWR); }
DESCRIBE(do_send) { paluring_op_send(op, at->pair.write, at->buf, 0, 8, 0); }
DESCRIBE(wait_send) { paluring_op_send(op, at->crammed.write, at->buf, 0, 8, 0); }
DESCRIBE(do_recv) { paluring_op_recv(op, at->pair.read, at->buf, 0, 8, 0); }
DESCRIBE(wait_recv) { paluring_op_recv(op, at->pair.write, at->buf, 0, 8, 0); }
DESCRIBE(do_sendto) { paluring_op_sendto(op, at->udp, at->buf, 0, 8, &at->address, sizeof at->address, 0); }
DESCRIBE(do_sendmsg) { paluring_op_sendmsg(op, at->pair.write, at->buf, 0, 8, NULL, 0, NULL, 0, 0); }
DESCRIBE(wait_sendmsg) { paluring_op_sendmsg(op, at->crammed.write, at->buf, 0, 8, NULL, 0, NULL, 0, 0); }
DESCRIBE(do_recvmsg) { paluring_op_recvmsg(op, at->pair.read, at->buf, 0, 8, 32, 64, 0); }
DESCRIBE(wait_recvmsg) { paluring_op_recvmsg(op, at->pair.write, at->buf, 0, 8, 32, 64, 0); }
DESCRIBE(do_setsockopt) { paluring_op_setsockopt(op, at->unbound, SOL_SOCKET, SO_REUSEADDR, &at->on, sizeof at->on); }
DESCRIBE(do_getsockopt) { paluring_op_getsockopt(op, at->unbound, SOL_SOCKET, SO_TYPE, at->buf, 0, 4); }
DESCRIBE(do_siocinq) { paluring_op_siocinq(op, at->udp); }
DESCRIBE(do_siocoutq) { paluring_op_siocoutq(op, at->udp); }
DESCRIBE(do_poll) { paluring_op_poll(op, at->pair.read, POLLIN); }
DESCRIBE(wait_poll) { paluring_op_poll(op, at->pair.write, POLLIN); }
DESCRIBE(do_poll_multishot) { paluring_op_poll_multishot(op, at->pair.read, POLLIN); }
DESCRIBE(wait_poll_multishot) { paluring_op_poll_multishot(op, at->pair.write, POLLIN); }
DESCRIBE(do_timeout) { (void)at; paluring_op_timeout(op, 1000, IORING_TIMEOUT_ETIME_SUCCESS); }
DESCRIBE(wait_timeout) { (void)at; paluring_op_timeout(op, 100 * SECOND, 0); }
DESCRIBE(do_timeout_multishot) { (void)at; paluring_op_timeout_multishot(op, 20 * MS, 0, 0); }
DESCRIBE(wait_timeout_multishot) { (void)at; paluring_op_timeout_multishot(op, 100 * SECOND, 0, 0); }
DESCRIBE(do_epoll_ctl) { paluring_op_epoll_ctl(op, at->idle, EPOLL_CTL_ADD, at->event, EPOLLIN, 5); }
DESCRIBE(do_epoll_wait) { paluring_op_epoll_wait(op, at->epoll, at->buf, 0, 4); }
DESCRIBE(wait_epoll_wait) { paluring_op_epoll_wait(op, at->idle, at->buf, 0, 4); }
DESCRIBE(do_futex_wait) { paluring_op_futex_wait(op, &at->word, 1, UINT32_MAX, FUTEX_U32_PRIVATE); }
DESCRIBE(wait_futex_wait) { paluring_op_futex_wait(op, &at->word, 0, UINT32_MAX, FUTEX_U32_PRIVATE); }
DESCRIBE(do_futex_wake) { paluring_op_futex_wake(op, &at->word, 1, UINT32_MAX, FUTEX_U32_PRIVATE); }
DESCRIBE(do_futex_waitv) {
  at->futexes[0].value = 1;
  paluring_op_futex_waitv(op, at->futexes, 1);
}
DESCRIBE(wait_futex_waitv) { paluring_op_futex_waitv(op, at->futexes, 2); }
DESCRIBE(do_waitid) {
  at->exited = make_child(false);
  paluring_op_waitid(op, P_PID, (uint32_t)at->exited, at->buf, 8, WEXITED | WNOWAIT);
}
DESCRIBE(wait_waitid) {
  at->living = make_child(true);
  paluring_op_waitid(op, P_PID, (uint32_t)at->living, at->buf, 8, WEXITED | WNOWAIT);
}
DESCRIBE(do_fixed_fd_install) {
  EXPECT_EQ(paluring_file_register(at->ring, at->file, &at->fixed), 0);
  paluring_op_fixed_fd_install(op, at->fixed, 0);
}

static const struct kind kinds[] = {
    {"nop", IORING_OP_NOP, 0, do_nop, NULL, 0},
    {"read", IORING_OP_READ, 8, do_read, wait_read, 0},
    {"write", IORING_OP_WRITE, 8, do_write, wait_write, 0},
    {"fsync", IORING_OP_FSYNC, 0, do_fsync, NULL, 0},
    {"fdatasync", IORING_OP_FSYNC, 0, do_fdatasync, NULL, 0},
    {"sync_file_range", IORING_OP_SYNC_FILE_RANGE, 0, do_sync_file_range, NULL, 0},
    {"fallocate", IORING_OP_FALLOCATE, 0, do_fallocate, NULL, 0},
    {"ftruncate", OP_FTRUNCATE, 0, do_ftruncate, NULL, 0},
    {"fadvise", IORING_OP_FADVISE, 0, do_fadvise, NULL, 0},
    {"madvise", IORING_OP_MADVISE, 0, do_madvise, NULL, 0},
    {"openat", IORING_OP_OPENAT, A_DESCRIPTOR, do_openat, NULL, 0},
    {"openat2", IORING_OP_OPENAT2, A_DESCRIPTOR, do_openat2, NULL, 0},
    {"close", IORING_OP_CLOSE, 0, do_close, NULL, 0},
    {"statx", IORING_OP_STATX, 0, do_statx, NULL, 0},
    {"renameat", IORING_OP_RENAMEAT, 0, do_renameat, NULL, 0},
    {"unlinkat", IORING_OP_UNLINKAT, 0, do_unlinkat, NULL, 0},
    {"mkdirat", IORING_OP_MKDIRAT, 0, do_mkdirat, NULL, 0},
    {"symlinkat", IORING_OP_SYMLINKAT, 0, do_symlinkat, NULL, 0},
    {"linkat", IORING_OP_LINKAT, 0, do_linkat, NULL, 0},
    {"getxattr", IORING_OP_GETXATTR, 5, do_getxattr, NULL, NEEDS_XATTR},
    {"setxattr", IORING_OP_SETXATTR, 0, do_setxattr, NULL, NEEDS_XATTR},
    {"fgetxattr", IORING_OP_FGETXATTR, 5, do_fgetxattr, NULL, NEEDS_XATTR},
    {"fsetxattr", IORING_OP_FSETXATTR, 0, do_fsetxattr, NULL, NEEDS_XATTR},
    {"splice", IORING_OP_SPLICE, 8, do_splice, NULL, 0},
    {"tee", IORING_OP_TEE, 8, do_tee, NULL, 0},
    {"pipe", OP_PIPE, 0, do_pipe, NULL, 0},
    {"socket", IORING_OP_SOCKET, A_DESCRIPTOR, do_socket, NULL, 0},
    {"bind", OP_BIND, 0, do_bind, NULL, 0},
    {"listen", OP_LISTEN, 0, do_listen, NULL, 0},
    {"accept", IORING_OP_ACCEPT, A_DESCRIPTOR, do_accept, wait_accept, 0},
    {"accept_multishot", IORING_OP_ACCEPT, A_DESCRIPTOR, do_accept_multishot, wait_accept_multishot, IS_MULTISHOT},
    {"connect", IORING_OP_CONNECT, 0, do_connect, NULL, 0},
    {"shutdown", IORING_OP_SHUTDOWN, 0, do_shutdown, NULL, 0},
    {"send", IORING_OP_SEND, 8, do_send, wait_send, 0},
    {"recv", IORING_OP_RECV, 8, do_recv, wait_recv, 0},
    {"sendto", IORING_OP_SENDMSG, 8, do_sendto, NULL, 0},
    {"sendmsg", IORING_OP_SENDMSG, 8, do_sendmsg, wait_sendmsg, 0},
    {"recvmsg", IORING_OP_RECVMSG, 8, do_recvmsg, wait_recvmsg, 0},
    {"setsockopt", IORING_OP_URING_CMD, 0, do_setsockopt, NULL, AT_RUN_TIME},
    {"getsockopt", IORING_OP_URING_CMD, 4, do_getsockopt, NULL, AT_RUN_TIME},
    {"siocinq", IORING_OP_URING_CMD, 0, do_siocinq, NULL, AT_RUN_TIME},
    {"siocoutq", IORING_OP_URING_CMD, 0, do_siocoutq, NULL, AT_RUN_TIME},
    {"poll", IORING_OP_POLL_ADD, POLLIN, do_poll, wait_poll, 0},
    {"poll_multishot", IORING_OP_POLL_ADD, POLLIN, do_poll_multishot, wait_poll_multishot, IS_MULTISHOT},
    {"timeout", IORING_OP_TIMEOUT, -ETIME, do_timeout, wait_timeout, 0},
    {"timeout_multishot", IORING_OP_TIMEOUT, -ETIME, do_timeout_multishot, wait_timeout_multishot, IS_MULTISHOT | AT_RUN_TIME},
    {"epoll_ctl", IORING_OP_EPOLL_CTL, 0, do_epoll_ctl, NULL, 0},
    {"epoll_wait", OP_EPOLL_WAIT, 1, do_epoll_wait, wait_epoll_wait, 0},
    {"futex_wait", OP_FUTEX_WAIT, -EAGAIN, do_futex_wait, wait_futex_wait, CHAIN_GOES_ON},
    {"futex_wake", OP_FUTEX_WAKE, 0, do_futex_wake, NULL, 0},
    {"futex_waitv", OP_FUTEX_WAITV, -EAGAIN, do_futex_waitv, wait_futex_waitv, CHAIN_GOES_ON},
    {"waitid", OP_WAITID, 0, do_waitid, wait_waitid, 0},
    {"fixed_fd_install", OP_FIXED_FD_INSTALL, A_DESCRIPTOR, do_fixed_fd_install, NULL, NEEDS_FIXED},
};

#endif
