/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Rings, pipes, buffers and operations in the states that tests of I/Os need. A failure in here is
 * noted for the running test (EXPECT): go on, the CHECKs that follow tell.
 */
#ifndef PALURING_TEST_SCENE_H
#define PALURING_TEST_SCENE_H

#include "harness.h"

#include <linux/io_uring.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#define FOREVER INT64_C(-1)

/* ---- operations ---- */

static inline paluring_op nop_op(paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_nop(&op);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

/* Reads buf's length from the position of fd: of an empty pipe it stays in flight. */
static inline paluring_op read_op(int fd, paluring_buf *buf, paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_read(&op, fd, buf, 0, paluring_buf_len(buf), UINT64_MAX);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

static inline paluring_op timeout_op(int64_t time_ns, paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_timeout(&op, time_ns, 0);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

/* Waits for POLLIN. */
static inline paluring_op poll_op(int fd, paluring_complete_fn callback, const void *user_data) {
  paluring_op op;
  paluring_op_poll(&op, fd, POLLIN);
  op.callback = callback;
  op.user_data = (uintptr_t)user_data;
  return op;
}

static inline paluring_op with_flags(paluring_op op, uint32_t flags) {
  op.flags = flags;
  return op;
}

static inline paluring_op with_timeout(paluring_op op, int64_t timeout_ns) {
  op.timeout_ns = timeout_ns;
  return op;
}

static inline paluring_io start_op(paluring_ring *ring, paluring_op op) {
  paluring_io io = 0;
  EXPECT_EQ(paluring_io_start(ring, &op, &io), 0);
  EXPECT(io != 0);
  return io;
}

/* Starts without asking for a handle. */
static inline void start_only(paluring_ring *ring, paluring_op op) {
  EXPECT_EQ(paluring_io_start(ring, &op, NULL), 0);
}

static inline void count_call(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  atomic_fetch_add((atomic_int *)user_data, 1);
}

/* ---- buffers and pipes ---- */

static inline paluring_buf *new_buf(size_t len) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_alloc(len, 0, &buf), 0);
  return buf;
}

static inline void count_release(uintptr_t user_data, void *data, size_t len) {
  (void)data, (void)len;
  atomic_fetch_add((atomic_int *)user_data, 1);
}

/* A buffer of static memory that counts its release. */
static inline paluring_buf *adopt_counted(void *data, size_t len, atomic_int *released) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_adopt(data, len, count_release, (uintptr_t)released, &buf), 0);
  return buf;
}

struct ends {
  int read, write;
};

static inline struct ends open_pipe(void) {
  int fds[2] = {-1, -1};
  EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
  return (struct ends){fds[0], fds[1]};
}

static inline void close_pipe(struct ends ends) {
  close(ends.read);
  close(ends.write);
}

static inline void put_byte(struct ends ends) {
  EXPECT_EQ(write(ends.write, "x", 1), 1);
}

/* As a pipe. What goes through a pipe takes a worker thread before Linux 6.5; sockets are read and written at once. */
static inline struct ends open_socket(void) {
  int fds[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return (struct ends){fds[0], fds[1]};
}

/* Takes out what is in the pipe or socket, without waiting, though other reads may be in flight; how many bytes. */
static inline int drain_pipe(struct ends ends) {
  char bytes[4096];
  int count = 0, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  for (ssize_t got; (got = recv(ends.read, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;) count += (int)got;
  for (ssize_t got; (got = splice(ends.read, NULL, null, NULL, 4096, SPLICE_F_NONBLOCK)) > 0;) count += (int)got;
  close(null);
  return count;
}

static inline bool is_readable(int fd) {
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  return poll(&ready, 1, 0) == 1 && (ready.revents & POLLIN);
}

/* ---- rings ---- */

static const uint32_t HOST_MODES[] = {PALURING_MODE_OWNER, PALURING_MODE_SHARED};
static const char *const HOST_MODE_NAMES[] = {"OWNER", "SHARED"};
static const uint32_t ALL_MODES[] = {PALURING_MODE_OWNER, PALURING_MODE_SHARED, PALURING_MODE_BACKGROUND};
static const char *const ALL_MODE_NAMES[] = {"OWNER", "SHARED", "BACKGROUND"};

static inline paluring_stats stats_of(paluring_ring *ring) {
  paluring_stats stats = {.size = sizeof stats};
  EXPECT_EQ(paluring_ring_stats(ring, &stats), 0);
  return stats;
}

/* Opens a ring with a completion queue of the asked size. */
static inline paluring_ring *ring_with_cq(uint32_t mode, uint32_t entries, uint32_t cq_entries, uint32_t max_in_flight) {
  paluring_ring_options options;
  paluring_ring *ring = NULL;
  paluring_ring_options_init(&options, sizeof options);
  options.mode = mode;
  options.entries = entries;
  options.cq_entries = cq_entries;
  options.max_in_flight = max_in_flight;
  EXPECT_EQ(paluring_ring_open(&options, &ring), 0);
  return ring;
}

/* Whether closed rings' memory is free again before long; asks for it with the statistics of a ring. */
static inline bool quarantine_ends(paluring_ring *ring) {
  int64_t end = now_ns() + LONG_ENOUGH;
  while (stats_of(ring).quarantined_bytes != 0) {
    if (now_ns() > end) return false;
    poll(NULL, 0, 1);
  }
  return true;
}

/* ---- threads ---- */

static inline pthread_t start_thread(void *(*body)(void *), void *argument) {
  pthread_t thread;
  int error = pthread_create(&thread, NULL, body, argument);
  if (error) fprintf(stderr, "pthread_create: %s\n", strerror(error)), exit(1);
  return thread;
}

/* Whether the running test has failed: threads stop then, so that the next test finds none of them. */
static inline bool has_failed(void) {
  return atomic_load(&harness.failed);
}

/* In a loop: notes a failure and leaves the loop. */
#define KEEP(condition) { if (!(condition)) { harness_fail(__FILE__, __LINE__, "%s", "not true: " #condition); break; } }

/* Waits until a counter of another thread has come to want; false if it doesn't, which is noted, or the test has failed. */
static inline bool await_count(atomic_int *counter, int want) {
  int64_t end = now_ns() + LONG_ENOUGH;
  for (unsigned tries = 1; atomic_load(counter) < want; tries++) {
    if (has_failed()) return false;
    if (tries % 64 == 0) sched_yield();
    if (tries % 4096 == 0 && now_ns() > end) return EXPECT_EQ(atomic_load(counter), want);
  }
  return true;
}

/* Signals a thread again and again until told to stop: some of the signals meet it in its wait. */
struct signaller {
  pthread_t thread, target;
  atomic_bool stop;
};

static inline void ignore_signal(int number) {
  (void)number;
}

static inline void *signal_again(void *argument) {
  struct signaller *self = argument;
  while (!atomic_load(&self->stop)) {
    pthread_kill(self->target, SIGUSR1);
    poll(NULL, 0, 1);
  }
  return NULL;
}

/* To the calling thread, without SA_RESTART. */
static inline void signals_begin(struct signaller *self) {
  struct sigaction action = {.sa_handler = ignore_signal};
  sigaction(SIGUSR1, &action, NULL);
  self->target = pthread_self();
  atomic_init(&self->stop, false);
  self->thread = start_thread(signal_again, self);
}

static inline void signals_end(struct signaller *self) {
  atomic_store(&self->stop, true);
  pthread_join(self->thread, NULL);
}

#endif
