/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Zero-copy sends, by raw entries: two completions of the kernel's, one of the library's, and the buffer is held until the
 * second, since the kernel reads it until then.
 */
#include "raw.h"

enum { LEN = 1 << 20 };

static uint8_t memory[LEN];

/* What the host may do with the memory as soon as it is its own again: if the kernel still read it, the peer would see. */
static void spoil(uintptr_t user_data, void *data, size_t len) {
  memset(data, 0, len);
  atomic_fetch_add((atomic_int *)user_data, 1);
}

static paluring_buf *new_spoiled_buf(atomic_int *released) {
  paluring_buf *buf = NULL;
  fill_pattern(memory, LEN, 3);
  EXPECT_EQ(paluring_buf_adopt(memory, LEN, spoil, (uintptr_t)released, &buf), 0);
  return buf;
}

/* Their socket buffers are smaller than LEN, so that a send waits for the peer to read. */
static struct peers narrow_peers(void) {
  struct peers peers = tcp_peers();
  int size = 65536;
  EXPECT_EQ(setsockopt(peers.here, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  return peers;
}

/* Starts a send of the whole buffer that waits until all is sent, and gives the buffer away. */
static paluring_io start_send(paluring_ring *ring, int fd, atomic_int *released, struct seen *seen) {
  paluring_buf *buf = new_spoiled_buf(released);
  struct io_uring_sqe entry = transfer_entry(IORING_OP_SEND_ZC, fd, buf);
  entry.msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
  paluring_io io = start_op(ring, raw_op(entry, buf, note_completion, seen));
  paluring_buf_release(buf);
  return io;
}

struct reader {
  int fd;
  atomic_int wrong;
  size_t got;
};

/* Reads until the end, and compares. */
static void *read_all(void *argument) {
  struct reader *self = argument;
  uint8_t bytes[4096];
  for (ssize_t got; (got = read(self->fd, bytes, sizeof bytes)) > 0; self->got += (size_t)got)
    if (!has_pattern(bytes, (size_t)got, self->got, 3)) atomic_fetch_add(&self->wrong, 1);
  return NULL;
}

#define NEEDS_SEND_ZC(ring) do { if (paluring_ring_supports(ring, IORING_OP_SEND_ZC) != 1) { ring_done(ring); SKIP("this kernel has no zero-copy send"); } } while (0)

TEST(a_zero_copy_send_completes_once_and_its_buffer_is_held_until_the_notification) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    NEEDS_SEND_ZC(ring);
    for (int i = 0; i < 20; i++) {
      atomic_int released = 0;
      struct seen seen = {0};
      struct peers peers = narrow_peers();
      struct reader reader = {.fd = peers.there};
      start_send(ring, peers.here, &released, &seen);
      CHECK_EQ(paluring_ring_submit(ring), 1);
      CHECK_EQ(seen.calls + released, 0);
      pthread_t thread = start_thread(read_all, &reader);
      run_until(ring, &seen.calls, 1);
      CHECK_EQ(released, 1); /* with the callback's return */
      CHECK_EQ(seen.last.result, LEN);
      CHECK_EQ(seen.last.flags & PALURING_COMPLETION_MORE, 0);
      close(peers.here);
      pthread_join(thread, NULL);
      CHECK_EQ(reader.got, LEN);
      CHECK_EQ(reader.wrong, 0);
      close(peers.there);
      CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
      CHECK_EQ(seen.calls, 1);
      CHECK_EQ(stats_of(ring).total_finished, i + 1);
    }
    ring_done(ring);
  }
}

/* A connection whose send queue takes more than its receiver does, with enough in it that what follows waits for the peer to read. */
static struct peers stuffed_peers(size_t *before) {
  struct sockaddr_in address;
  int size = 32768, listener = listen_on_loopback(&address);
  EXPECT_EQ(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
  struct peers peers = {.here = connect_to_loopback(&address)};
  peers.there = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  close(listener);
  size = 2 * LEN;
  EXPECT_EQ(setsockopt(peers.here, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  static uint8_t stuffing[LEN / 8];
  fill_pattern(stuffing, sizeof stuffing, 3);
  ssize_t sent = send(peers.here, stuffing, sizeof stuffing, MSG_DONTWAIT);
  EXPECT(sent > 65536);
  *before = (size_t)sent;
  return peers;
}

/* What a read gives of what was sent: the stuffing and then the buffer's first bytes. */
static bool arrives(int fd, size_t before, size_t len) {
  uint8_t bytes[4096];
  for (size_t at = 0; at < before + len;) {
    size_t left = at < before ? before - at : before + len - at;
    ssize_t got = read(fd, bytes, left < sizeof bytes ? left : sizeof bytes);
    if (got <= 0 || !has_pattern(bytes, (size_t)got, at < before ? at : at - before, 3)) return false;
    at += (size_t)got;
  }
  return true;
}

TEST(a_zero_copy_send_that_is_queued_but_not_sent_is_not_complete_and_holds_its_buffer) {
  static const char *const ways[] = {"wanted", "dropped", "cancelled", "detached"};
  paluring_ring *ring = ring_open(PALURING_MODE_SHARED, 0, 0);
  NEEDS_SEND_ZC(ring);
  for (int way = 0; way < 4; way++) {
    ROW(ways[way]);
    atomic_int released = 0;
    size_t before = 0;
    struct seen seen = {0};
    struct peers peers = stuffed_peers(&before);
    paluring_buf *buf = new_spoiled_buf(&released);
    struct io_uring_sqe entry = transfer_entry(IORING_OP_SEND_ZC, peers.here, buf);
    entry.len = 8192;
    paluring_op op = raw_op(entry, buf, note_completion, &seen);
    paluring_io io = start_op(ring, way == 3 ? with_flags(raw_op(entry, buf, NULL, NULL), PALURING_OP_DETACHED) : op);
    paluring_buf_release(buf);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    if (way == 1) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    if (way == 2) CHECK_EQ(paluring_io_cancel(ring, io), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(paluring_ring_run(ring, 0, 0), 0); /* with the kernel's first completion */
    CHECK_EQ(stats_of(ring).waiting + stats_of(ring).dropped, 1);
    CHECK_EQ(released + seen.calls, 0);
    CHECK(arrives(peers.there, before, 8192));
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(seen.calls, way % 2 == 0);
    if (seen.calls) CHECK_EQ(seen.last.result, 8192);
    CHECK_EQ(released, 1);
    close_peers(peers);
  }
  ring_done(ring);
}

TEST(a_zero_copy_send_cancelled_midway_completes_once_and_its_buffer_is_held_until_then) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    NEEDS_SEND_ZC(ring);
    for (int i = 0; i < 20; i++) {
      atomic_int released = 0;
      struct seen seen = {0};
      struct peers peers = narrow_peers();
      struct reader reader = {.fd = peers.there};
      paluring_io io = start_send(ring, peers.here, &released, &seen);
      CHECK_EQ(paluring_ring_submit(ring), 1);
      CHECK_EQ(paluring_io_cancel(ring, io), 0);
      for (int k = 0; k < i; k++) CHECK(paluring_ring_run(ring, 0, 0) >= 0);
      CHECK_EQ(seen.calls, released); /* what the socket has taken is read by the peer: until then neither */
      pthread_t thread = start_thread(read_all, &reader);
      run_until(ring, &seen.calls, 1);
      CHECK(seen.last.result == -ECANCELED || (seen.last.result > 0 && seen.last.result <= LEN));
      CHECK_EQ(released, 1);
      close(peers.here);
      pthread_join(thread, NULL);
      CHECK_EQ(reader.wrong, 0);
      CHECK(seen.last.result < 0 || reader.got == (size_t)seen.last.result);
      close(peers.there);
      CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
      CHECK_EQ(seen.calls, 1);
    }
    ring_done(ring);
  }
}

TEST(a_zero_copy_send_that_fails_completes_once_with_its_error) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  NEEDS_SEND_ZC(ring);
  struct peers gone = tcp_peers();
  CHECK_EQ(shutdown(gone.here, SHUT_WR), 0);
  int pair[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  struct ends ends = open_pipe();
  const struct { const char *name; int fd, result; } rows[] = {
    {"a socket that is shut down", gone.here, -EPIPE},
    {"a socket of a family that can't", pair[0], -EOPNOTSUPP}, /* though the operation is supported */
    {"no socket", ends.write, -ENOTSOCK},
    {"no descriptor", -1, -EBADF},
  };
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    ROW(rows[i].name);
    for (int k = 0; k < tries(100); k++) {
      atomic_int released = 0;
      struct seen seen = {0};
      start_send(ring, rows[i].fd, &released, &seen);
      CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
      CHECK_EQ(seen.last.result, rows[i].result);
      CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
      CHECK_EQ(seen.calls, 1);
      CHECK_EQ(released, 1);
    }
  }
  close_peers(gone);
  close_pipe(ends);
  close(pair[0]), close(pair[1]);
  ring_done(ring);
}

TEST(close_delivers_a_zero_copy_send_once_and_frees_nothing_that_the_kernel_still_sends) {
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (int i = 0; i < tries(40); i++) {
    static const int64_t limits[] = {0, 5 * MS};
    atomic_int released = 0;
    struct seen seen = {0};
    struct peers peers = narrow_peers();
    struct reader reader = {.fd = peers.there};
    paluring_ring *ring = ring_open(HOST_MODES[i % 2], 0, 0);
    NEEDS_SEND_ZC(ring);
    start_send(ring, peers.here, &released, &seen);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    CHECK(paluring_ring_close(ring, limits[i / 2 % 2]) >= 0);
    CHECK_EQ(seen.calls, 1); /* whatever became of it */
    paluring_ring_release(ring);
    pthread_t thread = start_thread(read_all, &reader);
    shutdown(peers.here, SHUT_WR);
    pthread_join(thread, NULL);
    CHECK_EQ(reader.wrong, 0); /* nobody has written over what was sent */
    close_peers(peers);
    CHECK(quarantine_ends(watcher));
    CHECK_EQ(released, 1);
  }
  ring_done(watcher);
}

int main(void) {
  RUN(a_zero_copy_send_completes_once_and_its_buffer_is_held_until_the_notification);
  RUN(a_zero_copy_send_that_is_queued_but_not_sent_is_not_complete_and_holds_its_buffer);
  RUN(a_zero_copy_send_cancelled_midway_completes_once_and_its_buffer_is_held_until_then);
  RUN(a_zero_copy_send_that_fails_completes_once_with_its_error);
  RUN(close_delivers_a_zero_copy_send_once_and_frees_nothing_that_the_kernel_still_sends);
  return harness_end();
}
