/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * PALURING_OP_ZEROCOPY: without a copy where kernel and socket can, else plainly; and who asks sees the same. */
#include "raw.h"

#include <sys/un.h>

enum { LEN = 60000, WHOLE = 1 << 20 };

static paluring_ring *ring;
static bool supported;

enum verb { SEND, SEND_LIST, SENDTO, SENDMSG };
static const char *const verbs[] = {"send", "send of a list", "sendto", "sendmsg"};

static void describe(paluring_op *op, enum verb verb, int fd, paluring_buf *buf, size_t len) {
  switch (verb) {
    case SEND: case SEND_LIST: paluring_op_send(op, fd, buf, 0, len, 0); break;
    case SENDTO: paluring_op_sendto(op, fd, buf, 0, len, NULL, 0, 0); break;
    case SENDMSG: paluring_op_sendmsg(op, fd, buf, 0, len, NULL, 0, NULL, 0, 0); break;
  }
  op->flags = PALURING_OP_ZEROCOPY;
}

static paluring_buf *new_data(bool as_list, size_t len) {
  paluring_buf *whole = new_buf(len), *members[2], *list = NULL;
  fill_pattern(paluring_buf_data(whole), len, 4);
  if (!as_list) return whole;
  EXPECT_EQ(paluring_buf_slice(whole, 0, 100, &members[0]), 0);
  EXPECT_EQ(paluring_buf_slice(whole, 100, len - 100, &members[1]), 0);
  EXPECT_EQ(paluring_buf_list(members, 2, &list), 0);
  paluring_buf_release(members[0]), paluring_buf_release(members[1]), paluring_buf_release(whole);
  return list;
}

/* Exactly len bytes of the pattern are there. */
static void arrives(int fd, size_t len) {
  static uint8_t bytes[WHOLE + 1];
  size_t got = 0;
  while (got < len) {
    ssize_t n = recv(fd, bytes + got, sizeof bytes - got, 0);
    CHECK(n > 0);
    got += (size_t)n;
  }
  CHECK(has_pattern(bytes, len, 0, 4));
  CHECK(recv(fd, bytes, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

static void sends(enum verb verb, int from, int to, bool may_avoid_copy) {
  paluring_op op;
  paluring_completion got;
  paluring_buf *buf = new_data(verb == SEND_LIST, LEN);
  describe(&op, verb, from, buf, LEN);
  CHECK_EQ(do_op(ring, &op, &got), LEN);
  DO(arrives(to, LEN));
  bool by_message = verb != SEND;
  if (may_avoid_copy && supported) CHECK_EQ(got.opcode, by_message ? IORING_OP_SENDMSG_ZC : IORING_OP_SEND_ZC);
  else CHECK(got.opcode == (by_message ? IORING_OP_SENDMSG : IORING_OP_SEND) && got.extra == 1);
  CHECK(got.extra <= 1 && got.flags == 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
}

TEST(sends_over_tcp) {
  struct peers peers = tcp_peers();
  for (int i = 0; i < 3; i++)
    for (enum verb verb = SEND; verb <= SENDMSG; verb++) {
      ROW(verbs[verb]);
      DO(sends(verb, peers.here, peers.there, true));
    }
  close_peers(peers);
}

/* The kernel has the operation, and this socket hasn't: it says so with a result and a notification. */
TEST(sends_through_a_socket_that_must_copy) {
  struct ends ends = open_socket();
  for (int i = 0; i < 3; i++)
    for (enum verb verb = SEND; verb <= SENDMSG; verb++) {
      ROW(verbs[verb]);
      DO(sends(verb, ends.write, ends.read, false));
    }
  close_pipe(ends);
}

TEST(a_chain_sends_plainly) {
  paluring_op ops[3];
  paluring_io ios[3];
  paluring_completion got;
  struct peers peers = tcp_peers();
  paluring_buf *buf = new_data(false, 2 * LEN);
  for (int i = 0; i < 2; i++) paluring_op_send(&ops[i], peers.here, buf, (size_t)i * LEN, LEN, 0), ops[i].flags = PALURING_OP_ZEROCOPY;
  paluring_op_nop(&ops[2]);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, ios), 3);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(paluring_io_wait(ring, ios[i], LONG_ENOUGH, &got), 0);
    CHECK_EQ(got.result, i < 2 ? LEN : 0);
    if (i < 2) CHECK(got.opcode == IORING_OP_SEND && got.extra == 1);
  }
  DO(arrives(peers.there, 2 * LEN));
  CHECK_EQ(paluring_buf_refs(buf), 1);
  close_peers(peers);
  paluring_buf_release(buf);
}

static void cram(int fd) {
  static const char bytes[4096];
  while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
  while (send(fd, bytes, 1, MSG_DONTWAIT) > 0) continue;
}

/* Through a socket that stays full; TCP goes on to move what it has, and a send that has begun ends with its data only. */
TEST(one_that_waits_is_cancelled_dropped_or_runs_out) {
  paluring_op op;
  paluring_completion got;
  struct ends ends = open_socket();
  cram(ends.write);
  for (enum verb verb = SEND; verb <= SENDMSG; verb++) {
    ROW(verbs[verb]);
    paluring_buf *buf = new_data(verb == SEND_LIST, LEN);
    describe(&op, verb, ends.write, buf, LEN);
    paluring_io io = start_op(ring, op);
    CHECK_EQ(paluring_io_wait(ring, io, MS, &got), -ETIME);
    CHECK_EQ(paluring_io_cancel(ring, io), 0);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
    CHECK_EQ(got.result, -ECANCELED);
    io = start_op(ring, op); /* before anybody has seen that the socket refuses it */
    CHECK(paluring_ring_submit(ring) >= 1);
    CHECK_EQ(paluring_io_cancel(ring, io), 0);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
    CHECK_EQ(got.result, -ECANCELED);
    op.timeout_ns = 2 * MS;
    CHECK_EQ(do_op(ring, &op, &got), -ETIME);
    CHECK_EQ(got.flags, PALURING_COMPLETION_TIMED_OUT);
    io = start_op(ring, op);
    CHECK(paluring_ring_submit(ring) >= 1);
    CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
  }
  close_pipe(ends);
}

TEST(to_a_peer_that_is_gone_it_fails_as_a_plain_one) {
  paluring_op op;
  struct ends ends = open_socket();
  paluring_buf *buf = new_data(false, LEN);
  close(ends.read);
  describe(&op, SEND, ends.write, buf, LEN);
  CHECK_EQ(do_op(ring, &op, NULL), -EPIPE);
  describe(&op, SEND, -1, buf, LEN);
  CHECK_EQ(do_op(ring, &op, NULL), -EBADF);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  close(ends.write);
  paluring_buf_release(buf);
}

static void *receive_whole(void *argument) {
  arrives(*(int *)argument, WHOLE);
  return NULL;
}

TEST(whole_ones_go_on) {
  paluring_op op;
  paluring_completion got;
  for (int i = 0; i < 4; i++) {
    struct peers peers = i < 2 ? tcp_peers() : (struct peers){0};
    struct ends ends = i < 2 ? (struct ends){peers.there, peers.here} : open_socket();
    paluring_buf *buf = new_data(i & 1, WHOLE);
    pthread_t receiver = start_thread(receive_whole, &ends.read);
    paluring_op_send(&op, ends.write, buf, 0, WHOLE, 0);
    op.flags = PALURING_OP_ZEROCOPY | PALURING_OP_FULL;
    EXPECT_EQ(do_op(ring, &op, &got), WHOLE);
    pthread_join(receiver, NULL);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

TEST(other_operations_refuse_it) {
  paluring_op op;
  paluring_io io;
  paluring_buf *buf = new_buf(16);
  paluring_op_recv(&op, 0, buf, 0, 16, 0);
  op.flags = PALURING_OP_ZEROCOPY;
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EINVAL);
  paluring_op_write(&op, 0, buf, 0, 16, 0);
  op.flags = PALURING_OP_ZEROCOPY;
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EINVAL);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
}

int main(void) {
  for (int mode = 0; mode < 2; mode++) {
    ring = ring_open(HOST_MODES[mode], 16, 0);
    if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
    supported = paluring_ring_supports(ring, IORING_OP_SEND_ZC) == 1 && paluring_ring_supports(ring, IORING_OP_SENDMSG_ZC) == 1;
    RUN(sends_over_tcp);
    RUN(sends_through_a_socket_that_must_copy);
    RUN(a_chain_sends_plainly);
    RUN(one_that_waits_is_cancelled_dropped_or_runs_out);
    RUN(to_a_peer_that_is_gone_it_fails_as_a_plain_one);
    RUN(whole_ones_go_on);
    RUN(other_operations_refuse_it);
    ring_done(ring);
  }
  ring = ring_open(PALURING_MODE_BACKGROUND, 16, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(sends_over_tcp);
  RUN(sends_through_a_socket_that_must_copy);
  RUN(whole_ones_go_on);
  ring_done(ring);
  return harness_end();
}
