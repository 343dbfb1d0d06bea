/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Raw entries, and sockets to use operations on; and what a hostile host can
 * do to a ring from outside the library, once it has found the ring's descriptor.
 */
#ifndef PALURING_TEST_RAW_H
#define PALURING_TEST_RAW_H

#include "scene.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* Newer than some systems' headers. */
enum { RAW_MSG_RING = 40, RAW_FIXED_FD_INSTALL = 54, RAW_REGISTER_SEND_MSG_RING = 31, RAW_TIMEOUT_MULTISHOT = 1 << 6 };

/* ---- operations ---- */

static inline struct io_uring_sqe raw_entry(uint8_t opcode, int fd) {
  return (struct io_uring_sqe){.opcode = opcode, .fd = fd};
}

static inline paluring_op raw_op(struct io_uring_sqe entry, paluring_buf *buf, paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_raw(&op, &entry, buf);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

/* A receive or send (by opcode) of all of buf. */
static inline struct io_uring_sqe transfer_entry(uint8_t opcode, int fd, paluring_buf *buf) {
  struct io_uring_sqe entry = raw_entry(opcode, fd);
  entry.addr = (uintptr_t)paluring_buf_data(buf);
  entry.len = (uint32_t)paluring_buf_len(buf);
  return entry;
}

static inline paluring_op recv_op(int fd, paluring_buf *buf, paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_recv(&op, fd, buf, 0, paluring_buf_len(buf), 0);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

static inline paluring_op send_op(uint8_t opcode, int fd, paluring_buf *buf, paluring_complete_fn callback, const void *user_data) {
  struct io_uring_sqe entry = transfer_entry(opcode, fd, buf);
  entry.msg_flags = MSG_NOSIGNAL;
  return raw_op(entry, buf, callback, user_data);
}

static inline paluring_op accept_multishot_op(int fd, paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_accept_multishot(&op, fd, SOCK_CLOEXEC);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

static inline paluring_op poll_multishot_op(int fd, paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_poll_multishot(&op, fd, POLLIN);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

/* ---- sockets: TCP on loopback ---- */

/* A listening socket; its address is written to *address. */
static inline int listen_on_loopback(struct sockaddr_in *address) {
  socklen_t size = sizeof *address;
  *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(bind(fd, (struct sockaddr *)address, size), 0);
  EXPECT_EQ(getsockname(fd, (struct sockaddr *)address, &size), 0);
  EXPECT_EQ(listen(fd, 1024), 0);
  return fd;
}

static inline int connect_to_loopback(const struct sockaddr_in *address) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
  return fd;
}

struct peers {
  int here, there;
};

static inline struct peers tcp_peers(void) {
  struct sockaddr_in address;
  int listener = listen_on_loopback(&address), here = connect_to_loopback(&address);
  int there = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  EXPECT(here >= 0 && there >= 0);
  close(listener);
  return (struct peers){here, there};
}

static inline void close_peers(struct peers peers) {
  close(peers.here);
  close(peers.there);
}

/* ---- a host that goes behind the library's back ---- */

enum { SECOND_FDS = 512 };

/* The descriptor of the ring that was opened last, or -1: the highest [io_uring] but those of second_ring_fd. */
static inline int newest_ring_fd(void) {
  for (int fd = SECOND_FDS - 1; fd > 2; fd--) {
    char path[40], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "[io_uring]")) return fd;
  }
  return -1;
}

/* Another descriptor of that ring: the kernel keeps the ring until it is closed. */
static inline int second_ring_fd(void) {
  int fd = fcntl(newest_ring_fd(), F_DUPFD_CLOEXEC, SECOND_FDS);
  EXPECT(fd >= 0);
  return fd;
}

/* Posts a completion of one's own making into a ring, as another ring's MSG_RING would; false where the kernel can't do it
   (before Linux 6.13) or the ring isn't enabled yet. */
static inline bool forge_completion(int ring_fd, uint64_t user_data, int32_t result, uint32_t flags) {
  struct io_uring_sqe entry = raw_entry(RAW_MSG_RING, ring_fd);
  entry.off = user_data;
  entry.len = (uint32_t)result;
  entry.rw_flags = flags ? 1 << 1 : 0; /* IORING_MSG_RING_FLAGS_PASS */
  entry.file_index = flags;
  return syscall(SYS_io_uring_register, -1, RAW_REGISTER_SEND_MSG_RING, &entry, 1) >= 0;
}

#endif
