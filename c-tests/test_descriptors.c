/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Descriptors that are closed, used again or shut down under an I/O, and descriptors that are results.
 */
#include "raw.h"

#include <linux/openat2.h>

static int32_t wait_result(paluring_ring *ring, paluring_io io) {
  paluring_completion completion = {0};
  EXPECT_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  return completion.result;
}

/* ---- closed and used again ---- */

TEST(an_io_submitted_at_its_start_keeps_its_file_though_the_descriptor_is_closed_and_used_again) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    CHECK_EQ(paluring_ring_submit(ring), 0);
    for (int i = 0; i < 100; i++) {
      struct ends right = open_pipe(), wrong = open_pipe();
      paluring_buf *buf = new_buf(1);
      paluring_io io = start_op(ring, with_flags(read_op(right.read, buf, NULL, NULL), PALURING_OP_SUBMIT));
      CHECK_EQ(dup3(wrong.read, right.read, O_CLOEXEC), right.read);
      CHECK_EQ(write(wrong.write, "w", 1), 1);
      CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
      CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, NULL), 0);
      CHECK_EQ(write(right.write, "r", 1), 1);
      CHECK_EQ(wait_result(ring, io), 1);
      CHECK_EQ(*paluring_buf_data(buf), 'r');
      paluring_buf_release(buf);
      close_pipe(right);
      close_pipe(wrong);
    }
    ring_done(ring);
  }
}

TEST(an_io_goes_on_when_the_host_closes_its_descriptor) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int cancel = 0; cancel < 2; cancel++) {
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
    CHECK_EQ(paluring_ring_submit(ring), 1);
    close(ends.read);
    CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
    CHECK_EQ(paluring_buf_refs(buf), 2);
    if (cancel) CHECK_EQ(paluring_io_cancel(ring, io), 0);
    else put_byte(ends); /* the read end is still open: no SIGPIPE */
    CHECK_EQ(wait_result(ring, io), cancel ? -ECANCELED : 1);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close(ends.write);
  }
  ring_done(ring);
}

/* close(2) alone sends no FIN while a receive is pending: the receive keeps the socket. */
TEST(the_close_operation_lets_the_peer_see_the_end_though_a_receive_is_pending) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct peers peers = tcp_peers();
    paluring_buf *buf = new_buf(1);
    paluring_op op;
    char byte;
    paluring_io receive = start_op(ring, recv_op(peers.here, buf, NULL, NULL));
    paluring_io poll_it = start_op(ring, poll_op(peers.here, NULL, NULL));
    CHECK_EQ(paluring_ring_submit(ring), 2);
    CHECK_EQ(recv(peers.there, &byte, 1, MSG_DONTWAIT), -1);
    CHECK_EQ(errno, EAGAIN);
    paluring_op_close(&op, peers.here);
    CHECK_EQ(do_op(ring, &op, NULL), 0);
    CHECK_EQ(recv(peers.there, &byte, 1, 0), 0); /* the end; a hang if the socket is kept */
    CHECK_EQ(wait_result(ring, receive), -ECANCELED);
    CHECK_EQ(wait_result(ring, poll_it), -ECANCELED);
    paluring_buf_release(buf);
    close(peers.there);
    ring_done(ring);
  }
}

TEST(of_a_send_and_a_shutdown_after_it_the_peer_sees_both) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    paluring_buf *buf = new_buf(1000);
    fill_pattern(paluring_buf_data(buf), 1000, 1);
    for (int i = 0; i < 200; i++) {
      struct peers peers = tcp_peers();
      uint8_t got[1001];
      struct io_uring_sqe down = raw_entry(IORING_OP_SHUTDOWN, peers.here);
      down.len = SHUT_WR;
      paluring_io receive = start_op(ring, raw_op(transfer_entry(IORING_OP_RECV, peers.there, buf), buf, NULL, NULL));
      CHECK_EQ(paluring_io_cancel(ring, receive), 0); /* one that is cancelled before takes nothing away */
      CHECK_EQ(wait_result(ring, receive), -ECANCELED);
      paluring_io sent = start_op(ring, send_op(IORING_OP_SEND, peers.here, buf, NULL, NULL));
      CHECK_EQ(wait_result(ring, sent), 1000);
      paluring_io ended = start_op(ring, raw_op(down, NULL, NULL, NULL));
      CHECK_EQ(paluring_ring_submit(ring), 1);
      CHECK_EQ(recv(peers.there, got, sizeof got, MSG_WAITALL), 1000); /* and then the end */
      CHECK(has_pattern(got, 1000, 0, 1));
      CHECK_EQ(recv(peers.there, got, 1, 0), 0);
      CHECK_EQ(wait_result(ring, ended), 0);
      close_peers(peers);
    }
    paluring_buf_release(buf);
    ring_done(ring);
  }
}

TEST(short_reads_and_writes_are_told_as_they_are) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = temp_file("short", 1000, 1);
  struct ends ends = open_pipe();
  struct peers peers = tcp_peers();
  paluring_buf *buf = new_buf(1 << 20);
  paluring_op op;
  paluring_op_read(&op, fd, buf, 0, 4096, 600);
  CHECK_EQ(do_op(ring, &op, NULL), 400);
  CHECK(has_pattern(paluring_buf_data(buf), 400, 600, 1));
  CHECK_EQ(paluring_buf_data(buf)[400], 0);
  paluring_op_read(&op, fd, buf, 0, 4096, 1000);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  put_byte(ends), put_byte(ends);
  paluring_op_read(&op, ends.read, buf, 0, 4096, UINT64_MAX);
  CHECK_EQ(do_op(ring, &op, NULL), 2);
  int room = fcntl(ends.write, F_GETPIPE_SZ);
  CHECK_EQ(fcntl(ends.write, F_SETFL, O_NONBLOCK), 0);
  paluring_op_write(&op, ends.write, buf, 0, 1 << 20, UINT64_MAX);
  CHECK_EQ(do_op(ring, &op, NULL), room);
  op.rw_flags = RWF_NOWAIT;
  int32_t full = do_op(ring, &op, NULL);
  CHECK(full == -EAGAIN || full == -EOPNOTSUPP); /* pipes know the flag from Linux 6.5 on */
  CHECK_EQ(send(peers.there, "abc", 3, 0), 3);
  op = recv_op(peers.here, buf, NULL, NULL);
  CHECK_EQ(do_op(ring, &op, NULL), 3);
  paluring_buf_release(buf);
  close_peers(peers);
  close_pipe(ends);
  close(fd);
  ring_done(ring);
}

/* ---- descriptors as results ---- */

enum way { DROPPED_BEFORE_SUBMIT, DROPPED_AFTER_SUBMIT, DROPPED_WHEN_DONE, DETACHED, DISCARDED_BY_POLL, LEFT_AT_CLOSE, RELEASED, WAYS };
static const char *const WAY_NAMES[] = {"dropped before submit", "dropped after submit", "dropped when done", "detached", "discarded by poll", "left at close", "last release"};

static struct makers {
  struct open_how how;
  int listener;
  struct sockaddr_in address;
} makers;

/* An entry whose result is a new descriptor; false: this kernel hasn't got it. */
static bool maker_entry(paluring_ring *ring, int maker, struct io_uring_sqe *entry) {
  static const uint8_t opcodes[] = {IORING_OP_OPENAT, IORING_OP_OPENAT2, IORING_OP_ACCEPT, IORING_OP_SOCKET, RAW_FIXED_FD_INSTALL};
  *entry = raw_entry(opcodes[maker], AT_FDCWD);
  if (paluring_ring_supports(ring, opcodes[maker]) != 1) return false;
  if (maker < 2) entry->addr = (uintptr_t)"/dev/null";
  if (maker == 1) entry->off = (uintptr_t)&makers.how, entry->len = sizeof makers.how;
  if (maker == 2) entry->fd = makers.listener;
  if (maker == 3) entry->fd = AF_UNIX, entry->off = SOCK_STREAM;
  if (maker == 4) { /* a registered file, to be made a descriptor again */
    struct io_uring_sqe open_it = raw_entry(IORING_OP_OPENAT, AT_FDCWD);
    open_it.addr = (uintptr_t)"/dev/null";
    open_it.file_index = 3 + 1;
    paluring_op op = raw_op(open_it, NULL, NULL, NULL);
    EXPECT_EQ(do_op(ring, &op, NULL), 0);
    entry->fd = 3;
    entry->flags = IOSQE_FIXED_FILE;
  }
  return true;
}

static void leave_untaken(int maker, enum way way) {
  int client = maker == 2 ? connect_to_loopback(&makers.address) : -1, fds = count_fds();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  struct io_uring_sqe entry;
  if (!maker_entry(ring, maker, &entry)) {
    ring_done(ring);
    return;
  }
  CHECK_EQ(paluring_ring_submit(ring), 0);
  int before = count_fds();
  paluring_io io = start_op(ring, with_flags(raw_op(entry, NULL, NULL, NULL), way == DETACHED ? PALURING_OP_DETACHED : 0));
  if (way == DROPPED_BEFORE_SUBMIT) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  CHECK_EQ(paluring_ring_submit(ring), 1);
  if (way == DROPPED_AFTER_SUBMIT) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(count_fds(), before + (way >= DISCARDED_BY_POLL || way == DROPPED_WHEN_DONE));
  if (way == DROPPED_WHEN_DONE) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  if (way == DISCARDED_BY_POLL) CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, NULL), 1);
  if (way < LEFT_AT_CLOSE) CHECK_EQ(count_fds(), before);
  CHECK_EQ(stats_of(ring).total_detached_failed, 0); /* it did make one */
  if (way != RELEASED) CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  paluring_ring_release(ring);
  CHECK_EQ(count_fds(), fds);
  close(client);
}

TEST(a_descriptor_that_is_a_result_is_closed_once_when_nobody_takes_it) {
  static const char *const names[] = {"openat", "openat2", "accept", "socket", "fixed_fd_install"};
  makers.listener = listen_on_loopback(&makers.address);
  for (int maker = 0; maker < 5; maker++) {
    for (int way = 0; way < WAYS; way++) {
      char row[64];
      snprintf(row, sizeof row, "%s, %s", names[maker], WAY_NAMES[way]);
      ROW(row);
      DO(leave_untaken(maker, (enum way)way));
    }
  }
  close(makers.listener);
}

int main(void) {
  RUN(an_io_submitted_at_its_start_keeps_its_file_though_the_descriptor_is_closed_and_used_again);
  RUN(an_io_goes_on_when_the_host_closes_its_descriptor);
  RUN(the_close_operation_lets_the_peer_see_the_end_though_a_receive_is_pending);
  RUN(of_a_send_and_a_shutdown_after_it_the_peer_sees_both);
  RUN(short_reads_and_writes_are_told_as_they_are);
  RUN(a_descriptor_that_is_a_result_is_closed_once_when_nobody_takes_it);
  return harness_end();
}
