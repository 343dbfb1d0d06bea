/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * PALURING_OP_FULL: short transfers go on inside until all is done, or something ends them. */
#include "raw.h"

enum { LEN = 1 << 20, PIECE = 5000 };

static paluring_ring *ring;

/* Writes LEN bytes of pattern 1 in pieces, then closes. */
static void *write_pieces(void *argument) {
  int fd = *(int *)argument;
  uint8_t piece[PIECE];
  for (size_t at = 0; at < LEN; at += PIECE) {
    size_t len = LEN - at < PIECE ? LEN - at : PIECE;
    for (size_t i = 0; i < len; i++) piece[i] = pattern(at + i, 1);
    for (size_t sent = 0; sent < len;) {
      ssize_t n = write(fd, piece + sent, len - sent);
      KEEP(n > 0);
      sent += (size_t)n;
    }
    if (at % (PIECE * 16) == 0) poll(NULL, 0, 1);
  }
  return NULL;
}

/* Reads LEN bytes, slowly at first, and compares them. */
static void *read_pieces(void *argument) {
  int fd = *(int *)argument;
  uint8_t piece[PIECE];
  for (size_t at = 0; at < LEN;) {
    ssize_t n = read(fd, piece, sizeof piece);
    KEEP(n > 0 && has_pattern(piece, (size_t)n, at, 1));
    at += (size_t)n;
    if (at < 20 * PIECE) poll(NULL, 0, 1);
  }
  return NULL;
}

/* LEN bytes as one buffer, or as a list of three. */
static paluring_buf *new_data(bool as_list, bool filled) {
  static const size_t lens[3] = {1000, 3, LEN - 1003};
  paluring_buf *members[3], *list = NULL, *whole = new_buf(LEN);
  if (filled) fill_pattern(paluring_buf_data(whole), LEN, 1);
  if (!as_list) return whole;
  for (size_t i = 0, at = 0; i < 3; at += lens[i++]) EXPECT_EQ(paluring_buf_slice(whole, at, lens[i], &members[i]), 0);
  EXPECT_EQ(paluring_buf_list(members, 3, &list), 0);
  for (int i = 0; i < 3; i++) paluring_buf_release(members[i]);
  paluring_buf_release(whole);
  return list;
}

static bool is_whole(paluring_buf *buf) {
  size_t count = paluring_buf_list_count(buf), at = 0;
  if (!count) return has_pattern(paluring_buf_data(buf), LEN, 0, 1);
  for (size_t i = 0; i < count; i++) {
    paluring_buf *member = paluring_buf_list_at(buf, i);
    if (!has_pattern(paluring_buf_data(member), paluring_buf_len(member), at, 1)) return false;
    at += paluring_buf_len(member);
  }
  return at == LEN;
}

enum how { BY_READ, BY_RECV };

static void describe_in(paluring_op *op, enum how how, int fd, paluring_buf *buf) {
  if (how == BY_READ) paluring_op_read(op, fd, buf, 0, LEN, UINT64_MAX);
  else paluring_op_recv(op, fd, buf, 0, LEN, 0);
  op->flags = PALURING_OP_FULL;
}

static void describe_out(paluring_op *op, enum how how, int fd, paluring_buf *buf) {
  if (how == BY_READ) paluring_op_write(op, fd, buf, 0, LEN, UINT64_MAX);
  else paluring_op_send(op, fd, buf, 0, LEN, 0);
  op->flags = PALURING_OP_FULL;
}

static void transfer_whole(enum how how, bool as_list, bool in) {
  paluring_op op;
  paluring_completion got;
  struct ends ends = open_socket();
  int far = in ? ends.write : ends.read;
  paluring_buf *buf = new_data(as_list, !in);
  pthread_t peer = start_thread(in ? write_pieces : read_pieces, &far);
  if (in) describe_in(&op, how, ends.read, buf);
  else describe_out(&op, how, ends.write, buf);
  paluring_io io = start_op(ring, op);
  EXPECT_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  EXPECT_EQ(got.result, LEN);
  pthread_join(peer, NULL);
  EXPECT(is_whole(buf));
  EXPECT_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
}

TEST(whole_transfers_through_sockets) {
  for (int variant = 0; variant < 8; variant++) {
    static const char *const names[] = {"read", "read into a list", "write", "write of a list", "recv", "recv into a list", "send", "send of a list"};
    ROW(names[variant]);
    DO(transfer_whole(variant < 4 ? BY_READ : BY_RECV, variant & 1, !(variant & 2)));
  }
}

TEST(a_file_is_read_from_an_offset_to_its_end) {
  paluring_op op;
  int fd = temp_file("short", 5000, 2);
  paluring_buf *buf = new_buf(8000);
  paluring_op_read(&op, fd, buf, 0, 8000, 1000);
  op.flags = PALURING_OP_FULL;
  CHECK_EQ(do_op(ring, &op, NULL), 4000);
  CHECK(has_pattern(paluring_buf_data(buf), 4000, 1000, 2));
  close(fd);
  paluring_buf_release(buf);
}

/* A receive that has got 8 of LEN bytes, and waits for more. */
static paluring_io part_received(struct ends ends, paluring_buf *buf, int64_t timeout_ns) {
  paluring_op op;
  paluring_completion got;
  describe_in(&op, BY_RECV, ends.read, buf);
  op.timeout_ns = timeout_ns;
  paluring_io io = start_op(ring, op);
  EXPECT_EQ(write(ends.write, "12345678", 8), 8);
  EXPECT_EQ(paluring_io_wait(ring, io, MS, &got), -ETIME);
  EXPECT_EQ(paluring_io_wait(ring, io, MS, &got), -ETIME);
  return io;
}

static void ends_with(paluring_io io, int32_t result, uint32_t flags) {
  paluring_completion got;
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, result);
  CHECK_EQ(got.flags, flags);
}

TEST(what_ends_a_transfer_early) {
  struct ends ends = open_socket();
  paluring_buf *buf = new_buf(LEN);
  ROW("cancel");
  paluring_io io = part_received(ends, buf, 0);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  DO(ends_with(io, 8, PALURING_COMPLETION_CANCELLED));
  ROW("time limit");
  io = part_received(ends, buf, 50 * MS);
  DO(ends_with(io, 8, PALURING_COMPLETION_TIMED_OUT));
  ROW("the end of the stream");
  io = part_received(ends, buf, 0);
  CHECK_EQ(shutdown(ends.write, SHUT_WR), 0);
  DO(ends_with(io, 8, 0));
  CHECK_EQ(paluring_buf_refs(buf), 1);
  close_pipe(ends);
  paluring_buf_release(buf);
}

TEST(an_error_after_some_bytes_shows_at_the_next_call) {
  paluring_op op;
  struct ends ends = open_socket();
  paluring_buf *buf = new_buf(LEN);
  describe_out(&op, BY_RECV, ends.write, buf);
  paluring_io io = start_op(ring, op);
  paluring_completion got;
  CHECK_EQ(paluring_io_wait(ring, io, 2 * MS, &got), -ETIME);
  close(ends.read);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK(got.result > 0 && got.result < LEN);
  int32_t next = do_op(ring, &op, NULL);
  CHECK(next == -ECONNRESET || next == -EPIPE);
  close(ends.write);
  paluring_buf_release(buf);
}

TEST(a_close_ends_a_transfer_with_what_is_done) {
  struct ends ends = open_socket();
  struct seen seen = {0};
  paluring_op op;
  paluring_buf *buf = new_buf(LEN);
  paluring_ring *other = ring_open(PALURING_MODE_OWNER, 8, 0);
  CHECK(other);
  describe_in(&op, BY_RECV, ends.read, buf);
  op.callback = note_completion, op.user_data = (uintptr_t)&seen;
  start_only(other, op);
  CHECK_EQ(write(ends.write, "1234", 4), 4);
  CHECK_EQ(paluring_ring_run(other, 1, 2 * MS), 0);
  CHECK_EQ(paluring_ring_close(other, LONG_ENOUGH), 0);
  CHECK_EQ(seen.calls, 1);
  CHECK_EQ(seen.last.result, 4);
  paluring_ring_release(other);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  close_pipe(ends);
  paluring_buf_release(buf);
}

TEST(a_dropped_one_goes_on) {
  paluring_op op;
  char bytes[8192];
  struct ends ends = open_socket();
  paluring_buf *buf = new_data(false, true);
  describe_out(&op, BY_RECV, ends.write, buf);
  paluring_io io = start_op(ring, op);
  CHECK(paluring_ring_submit(ring) >= 1);
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  int64_t end = now_ns() + LONG_ENOUGH;
  for (size_t at = 0; at < LEN;) {
    ssize_t n = recv(ends.read, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0) CHECK(paluring_ring_run(ring, 1, MS) >= 0);
    CHECK(now_ns() < end);
    if (n <= 0) continue;
    CHECK(has_pattern(bytes, (size_t)n, at, 1));
    at += (size_t)n;
  }
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  close_pipe(ends);
  paluring_buf_release(buf);
}

/* The part that has come is found by a thread that doesn't drive, while the driver is elsewhere. */
TEST(a_look_from_another_thread_doesn_t_stop_it) {
  paluring_op op;
  paluring_completion got;
  struct ends ends = open_socket();
  paluring_buf *buf = new_buf(16);
  paluring_ring *shared = ring_open(PALURING_MODE_SHARED, 8, 0);
  CHECK(shared);
  for (int i = tries(200); i > 0; i--) {
    paluring_op_recv(&op, ends.read, buf, 0, 16, 0);
    op.flags = PALURING_OP_FULL;
    paluring_io io = start_op(shared, op);
    CHECK_EQ(paluring_ring_submit(shared), 1);
    CHECK_EQ(write(ends.write, "12345678", 8), 8);
    CHECK(paluring_ring_ready(shared) >= 0);
    CHECK_EQ(paluring_io_poll(shared, io, NULL, 0, &got), 0);
    CHECK_EQ(write(ends.write, "12345678", 8), 8);
    CHECK_EQ(paluring_io_wait(shared, io, LONG_ENOUGH, &got), 0);
    CHECK_EQ(got.result, 16);
  }
  ring_done(shared);
  close_pipe(ends);
  paluring_buf_release(buf);
}

/* Of two sends in a chain the second follows the last byte of the first. */
TEST(a_send_in_a_chain_is_whole) {
  paluring_op ops[2];
  paluring_io ios[2];
  paluring_completion got;
  struct ends ends = open_socket();
  paluring_buf *buf = new_data(false, true);
  pthread_t peer = start_thread(read_pieces, &ends.read);
  paluring_op_send(&ops[0], ends.write, buf, 0, LEN - 1000, 0);
  paluring_op_send(&ops[1], ends.write, buf, LEN - 1000, 1000, 0);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 2, 0, ios), 2);
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(paluring_io_wait(ring, ios[i], LONG_ENOUGH, &got), 0);
    EXPECT_EQ(got.result, i ? 1000 : LEN - 1000);
  }
  pthread_join(peer, NULL);
  close_pipe(ends);
  paluring_buf_release(buf);
}

TEST(where_it_makes_no_sense_it_is_refused) {
  paluring_op ops[2];
  paluring_io ios[2];
  paluring_buf *buf = new_buf(16);
  paluring_op_read(&ops[0], 0, buf, 0, 16, 0), paluring_op_nop(&ops[1]);
  ops[0].flags = PALURING_OP_FULL;
  CHECK_EQ(paluring_io_start_chain(ring, ops, 2, 0, ios), -EINVAL);
  ops[1].flags = PALURING_OP_FULL;
  CHECK_EQ(paluring_io_start(ring, &ops[1], ios), -EINVAL);
  paluring_op_recvmsg(&ops[0], 0, buf, 0, 0, 0, 0, 0);
  ops[0].flags = PALURING_OP_FULL;
  CHECK_EQ(paluring_io_start(ring, &ops[0], ios), -EINVAL);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  ring = ring_open(PALURING_MODE_OWNER, 16, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(whole_transfers_through_sockets);
  RUN(a_file_is_read_from_an_offset_to_its_end);
  RUN(what_ends_a_transfer_early);
  RUN(an_error_after_some_bytes_shows_at_the_next_call);
  RUN(a_close_ends_a_transfer_with_what_is_done);
  RUN(a_dropped_one_goes_on);
  RUN(a_look_from_another_thread_doesn_t_stop_it);
  RUN(a_send_in_a_chain_is_whole);
  RUN(where_it_makes_no_sense_it_is_refused);
  ring_done(ring);
  ring = ring_open(PALURING_MODE_BACKGROUND, 16, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(whole_transfers_through_sockets);
  RUN(what_ends_a_transfer_early);
  RUN(a_send_in_a_chain_is_whole);
  ring_done(ring);
  return harness_end();
}
