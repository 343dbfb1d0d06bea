/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Chains: atomic, in order, broken where they should be and nowhere else. */
#include "chain.h"

TEST(a_chain_runs_in_order) {
  for (size_t m = 0; m < COUNT_OF(HOST_MODES); m++) {
    ROW(HOST_MODE_NAMES[m]);
    paluring_ring *ring = open_ring(HOST_MODES[m], 8);
    struct ends ends = open_pipe();
    paluring_op ops[5];
    paluring_io ios[5];
    for (uintptr_t i = 0; i < 5; i++) {
      paluring_buf *buf = new_buf(1);
      paluring_buf_data(buf)[0] = (uint8_t)('a' + i);
      ops[i] = member(write_op(ends.write, buf), i);
      if (i % 2) ops[i].flags = PALURING_OP_ASYNC;
      if (i == 0) CHECK_EQ(paluring_io_start_chain(ring, ops, 0, 0, ios), 0);
      ops[i].flags |= PALURING_OP_MOVE;
    }
    CHECK_EQ(paluring_io_start_chain(ring, ops, 5, 0, ios), 5);
    for (int i = 0; i < 5; i++) CHECK(ios[i] != 0);
    DO(run_all(ring));
    DO(check_in_order(5));
    char text[6] = "";
    CHECK_EQ(read(ends.read, text, 5), 5);
    CHECK_EQ(strcmp(text, "abcde"), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(told.at[i].result, 1);
    CHECK_EQ(paluring_ring_close(ring, -1), 0);
    paluring_ring_release(ring);
    close_pipe(ends);
  }
}

TEST(an_error_breaks_a_chain_and_shows_in_what_follows) {
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  paluring_op ops[5];
  for (uintptr_t i = 0; i < 5; i++) ops[i] = member(i == 2 ? failing_op() : nop_op(NULL, NULL), i);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 5, 0, NULL), 5);
  DO(run_all(ring));
  DO(check_in_order(5));
  CHECK(told.at[0].result == 0 && told.at[1].result == 0 && told.at[1].extra == 0);
  CHECK_EQ(told.at[2].result, -EBADF);
  for (int i = 3; i < 5; i++) {
    CHECK_EQ(told.at[i].result, -ECANCELED);
    CHECK_EQ(told.at[i].extra, -EBADF);
  }
  paluring_ring_release(ring);
}

TEST(a_short_transfer_breaks_a_chain) {
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  struct ends ends = open_pipe();
  put_byte(ends);
  paluring_buf *buf = new_buf(10);
  paluring_op ops[2] = {member(read_op(ends.read, buf, NULL, NULL), 0), member(nop_op(NULL, NULL), 1)};
  CHECK_EQ(paluring_io_start_chain(ring, ops, 2, 0, NULL), 2);
  DO(run_all(ring));
  DO(check_in_order(2));
  CHECK_EQ(told.at[0].result, 1);
  CHECK_EQ(told.at[1].result, -ECANCELED);
  CHECK_EQ(told.at[1].extra, 1);
  paluring_buf_release(buf);
  paluring_ring_release(ring);
  close_pipe(ends);
}

TEST(a_hard_link_holds_after_an_error) {
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  paluring_op ops[3];
  for (uintptr_t i = 0; i < 3; i++) ops[i] = member(i == 0 ? failing_op() : nop_op(NULL, NULL), i);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, PALURING_CHAIN_HARDLINK, NULL), 3);
  DO(run_all(ring));
  DO(check_in_order(3));
  CHECK_EQ(told.at[0].result, -EBADF);
  CHECK(told.at[1].result == 0 && told.at[2].result == 0);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 2, NULL), -EINVAL);
  paluring_ring_release(ring);
}

TEST(a_bad_entry_at_each_position_leaves_each_member_one_completion) {
  for (size_t m = 0; m < COUNT_OF(HOST_MODES); m++) {
    ROW(HOST_MODE_NAMES[m]);
    for (uint32_t flags = 0; flags <= PALURING_CHAIN_HARDLINK; flags++) {
      for (int len = 1; len <= 5; len++) {
        for (int bad = 0; bad < len; bad++) {
          paluring_ring *ring = open_ring(HOST_MODES[m], 8);
          paluring_op ops[5];
          for (int i = 0; i < len; i++) ops[i] = i == bad ? bad_op((uintptr_t)i) : member(nop_op(NULL, NULL), (uintptr_t)i);
          CHECK_EQ(paluring_io_start_chain(ring, ops, (size_t)len, flags, NULL), len);
          DO(run_all(ring));
          DO(check_in_order(len));
          for (int i = 0; i < len; i++) {
            CHECK_EQ(told.at[i].result, i == bad ? -EINVAL : -ECANCELED);
            CHECK_EQ(told.at[i].extra, i == bad ? 0 : -EINVAL);
          }
          CHECK_EQ(stats_of(ring).total_resubmits, 0);
          paluring_ring_release(ring);
        }
      }
    }
  }
}

/* The head fails; behind it stands a write that must not happen, wherever in the queue the chain lands. */
static void check_broken_chain(paluring_ring *ring, struct ends ends, uint32_t before, uint32_t len, atomic_int *nops) {
  paluring_buf *mark = new_buf(1);
  paluring_op ops[8];
  told.count = 0;
  atomic_store(nops, 0);
  for (uint32_t i = 0; i < before; i++) start_only(ring, nop_op(count_call, nops));
  ops[0] = member(failing_op(), 0);
  for (uint32_t i = 1; i < len; i++) ops[i] = member(write_op(ends.write, mark), i);
  CHECK_EQ(paluring_io_start_chain(ring, ops, len, 0, NULL), (int)len);
  start_only(ring, nop_op(count_call, nops));
  DO(run_all(ring));
  DO(check_in_order((int)len));
  CHECK_EQ(atomic_load(nops), (int)before + 1);
  for (uint32_t i = 1; i < len; i++) CHECK_EQ(told.at[i].extra, -EBADF);
  CHECK(!is_readable(ends.read));
  CHECK_EQ(paluring_buf_refs(mark), 1);
  paluring_buf_release(mark);
}

TEST(a_chain_is_whole_at_every_fill_level_of_the_queue) {
  for (size_t m = 0; m < COUNT_OF(HOST_MODES); m++) {
    ROW(HOST_MODE_NAMES[m]);
    paluring_ring *ring = open_ring(HOST_MODES[m], 8);
    struct ends ends = open_pipe();
    atomic_int nops = 0;
    for (uint32_t before = 0; before <= 16; before++) {
      for (uint32_t len = 2; len <= 8; len++) DO(check_broken_chain(ring, ends, before, len, &nops));
    }
    CHECK_EQ(paluring_ring_close(ring, -1), 0);
    paluring_ring_release(ring);
    close_pipe(ends);
  }
}

TEST(a_chain_longer_than_the_queue_or_the_table_is_e2big) {
  paluring_op ops[9];
  paluring_io ios[9];
  for (uintptr_t i = 0; i < 9; i++) ops[i] = nop_op(see, NULL);
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  memset(ios, 0xff, sizeof ios);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 9, 0, ios), -E2BIG);
  for (int i = 0; i < 9; i++) CHECK_EQ(ios[i], 0);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 8, 0, ios), 8);
  paluring_ring_release(ring);
  ring = ring_with_cq(PALURING_MODE_OWNER, 8, 0, 4);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 5, 0, ios), -E2BIG);
  CHECK_EQ(paluring_io_start_chain(ring, NULL, 2, 0, ios), -EINVAL);
  paluring_ring_release(ring);
}

TEST(a_chain_that_fails_takes_nothing) {
  paluring_ring *ring = ring_with_cq(PALURING_MODE_OWNER, 8, 0, 6);
  paluring_buf *buf = new_buf(8);
  paluring_op ops[4], multishot;
  paluring_io ios[4];
  struct ends ends = open_pipe();
  struct io_uring_sqe sqe = {.opcode = IORING_OP_POLL_ADD, .fd = ends.read, .len = IORING_POLL_ADD_MULTI, .poll32_events = POLLIN};
  paluring_op_raw(&multishot, &sqe, NULL);
  multishot.callback = see;
  for (int wrong = 0; wrong < 4; wrong++) {
    for (int kind = 0; kind < 3; kind++) {
      for (int i = 0; i < 4; i++) ops[i] = with_flags(read_op(ends.read, buf, see, NULL), PALURING_OP_MOVE);
      if (kind == 0) ops[wrong].flags = 1u << 31;
      if (kind == 1) paluring_op_read(&ops[wrong], ends.read, buf, 1, 8, 0), ops[wrong].callback = see;
      if (kind == 2) ops[wrong] = multishot;
      memset(ios, 0xff, sizeof ios);
      CHECK_EQ(paluring_io_start_chain(ring, ops, 4, 0, ios), -EINVAL);
      for (int i = 0; i < 4; i++) CHECK_EQ(ios[i], 0);
    }
  }
  for (int i = 0; i < 4; i++) ops[i] = read_op(ends.read, buf, see, NULL);
  start_only(ring, ops[0]), start_only(ring, ops[0]), start_only(ring, ops[0]);
  CHECK_EQ(paluring_buf_refs(buf), 4);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 4, 0, ios), -EAGAIN);
  CHECK_EQ(paluring_buf_refs(buf), 4);
  CHECK_EQ(stats_of(ring).total_started, 3);
  CHECK_EQ(stats_of(ring).total_again, 1);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, ios), 3);
  paluring_ring_release(ring);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
}

int main(void) {
  RUN(a_chain_runs_in_order);
  RUN(an_error_breaks_a_chain_and_shows_in_what_follows);
  RUN(a_short_transfer_breaks_a_chain);
  RUN(a_hard_link_holds_after_an_error);
  RUN(a_bad_entry_at_each_position_leaves_each_member_one_completion);
  RUN(a_chain_is_whole_at_every_fill_level_of_the_queue);
  RUN(a_chain_longer_than_the_queue_or_the_table_is_e2big);
  RUN(a_chain_that_fails_takes_nothing);
  return harness_end();
}
