/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * How chains end: deadlines, cancels, takers of every kind, closes, and threads that come and go. */
#include "chain.h"

/* ---- deadlines and cancels ---- */

TEST(a_deadline_on_any_member_ends_the_chain_in_time) {
  for (int len = 1; len <= 5; len++) {
    for (int timed = 0; timed < len; timed++) {
      paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
      struct ends ends = open_pipe();
      paluring_buf *buf = new_buf(1);
      paluring_op ops[5];
      for (int i = 0; i < len; i++) ops[i] = member(read_op(ends.read, buf, NULL, NULL), (uintptr_t)i);
      ops[timed].timeout_ns = 2 * MS;
      CHECK_EQ(paluring_io_start_chain(ring, ops, (size_t)len, 0, NULL), len);
      DO(run_all(ring));
      DO(check_in_order(len));
      for (int i = 0; i < len; i++) {
        CHECK_EQ(told.at[i].result, i == timed ? -ETIME : -ECANCELED);
        CHECK_EQ(told.at[i].extra, i == timed ? 0 : -ETIME);
        CHECK_EQ(!!(told.at[i].flags & PALURING_COMPLETION_TIMED_OUT), i == timed);
      }
      paluring_ring_release(ring);
      paluring_buf_release(buf);
      close_pipe(ends);
    }
  }
}

TEST(a_member_that_waits_is_cancelled_when_its_turn_comes) {
  for (int cancelled = 0; cancelled < 4; cancelled++) {
    paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    paluring_op ops[4];
    paluring_io ios[4];
    for (uintptr_t i = 0; i < 4; i++) ops[i] = member(read_op(ends.read, buf, NULL, NULL), i);
    CHECK_EQ(paluring_io_start_chain(ring, ops, 4, 0, ios), 4);
    CHECK_EQ(paluring_ring_submit(ring), 4);
    static const char *const names[] = {"0", "1", "2", "3"};
    ROW(names[cancelled]);
    CHECK_EQ(paluring_io_cancel(ring, ios[cancelled]), 0);
    for (int i = 0; i < cancelled; i++) put_byte(ends);
    DO(run_all(ring));
    DO(check_in_order(4));
    for (int i = 0; i < 4; i++) CHECK_EQ(told.at[i].result, i < cancelled ? 1 : -ECANCELED);
    CHECK(told.at[cancelled].flags & PALURING_COMPLETION_CANCELLED);
    paluring_ring_release(ring);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

TEST(a_member_that_waits_for_room_is_cancelled_at_once_with_what_follows) {
  for (uint32_t flags = 0; flags <= PALURING_CHAIN_HARDLINK; flags++) {
    for (int cancelled = 0; cancelled < 4; cancelled++) {
      paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 4);
      atomic_int nops = 0;
      CHECK_EQ(paluring_ring_submit(ring), 0); /* until it is bound, an entry of the ring's own may be in the queue */
      for (int i = 0; i < 4; i++) start_only(ring, nop_op(count_call, &nops));
      paluring_op ops[4];
      paluring_io ios[4];
      for (uintptr_t i = 0; i < 4; i++) ops[i] = member(nop_op(NULL, NULL), i);
      CHECK_EQ(paluring_io_start_chain(ring, ops, 4, flags, ios), 4);
      start_only(ring, nop_op(count_call, &nops));
      CHECK_EQ(stats_of(ring).queued, 5);
      CHECK_EQ(paluring_io_cancel(ring, ios[cancelled]), 0);
      CHECK_EQ(stats_of(ring).queued, flags ? 4 : 1 + cancelled);
      DO(run_all(ring));
      DO(check_in_order(4));
      for (int i = 0; i < 4; i++) {
        bool runs = flags ? i != cancelled : i < cancelled;
        CHECK_EQ(told.at[i].result, runs ? 0 : -ECANCELED);
        CHECK_EQ(told.at[i].extra, runs || i == cancelled ? 0 : -ECANCELED);
      }
      CHECK_EQ(atomic_load(&nops), 5);
      paluring_ring_release(ring);
    }
  }
}

/* ---- takers ---- */

TEST(one_callback_on_the_last_tells_all) {
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  for (int fails = 0; fails < 2; fails++) {
    told.count = 0;
    paluring_op ops[3] = {fails ? failing_op() : nop_op(NULL, NULL), nop_op(NULL, NULL), member(nop_op(NULL, NULL), 0)};
    ops[0].flags = ops[1].flags = PALURING_OP_DETACHED;
    CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, NULL), 3);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(told.at[0].result, fails ? -ECANCELED : 0);
    CHECK_EQ(told.at[0].extra, fails ? -EBADF : 0);
  }
  CHECK_EQ(stats_of(ring).total_detached_failed, 2);
  paluring_ring_release(ring);
}

TEST(members_are_reaped_and_polled_in_order) {
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  paluring_op ops[4];
  paluring_io ios[4];
  paluring_completion out[4];
  for (uintptr_t i = 0; i < 4; i++) {
    ops[i] = i == 1 ? failing_op() : nop_op(NULL, NULL);
    ops[i].user_data = i;
    ops[i].flags = PALURING_OP_QUEUE;
  }
  CHECK_EQ(paluring_io_start_chain(ring, ops, 4, 0, ios), 4);
  CHECK_EQ(paluring_ring_reap(ring, 4, LONG_ENOUGH, out, 4), 4);
  for (uintptr_t i = 0; i < 4; i++) CHECK_EQ(out[i].user_data, i);
  CHECK_EQ((int64_t)out[3].extra, -EBADF);
  for (int i = 0; i < 4; i++) ops[i].flags = 0;
  CHECK_EQ(paluring_io_start_chain(ring, ops, 4, 0, NULL), -EINVAL);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 4, 0, ios), 4);
  CHECK_EQ(paluring_io_wait(ring, ios[3], LONG_ENOUGH, &out[3]), 0);
  CHECK_EQ((int64_t)out[3].extra, -EBADF);
  for (int i = 0; i < 3; i++) CHECK_EQ(paluring_io_poll(ring, ios[i], NULL, 0, &out[i]), 1);
  CHECK_EQ(out[1].result, -EBADF);
  paluring_ring_release(ring);
}

TEST(dropped_members_run_and_hold_their_buffers) {
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  struct ends ends = open_pipe();
  atomic_int released = 0;
  static char bytes[3][1];
  paluring_op ops[3];
  paluring_io ios[3];
  for (uintptr_t i = 0; i < 3; i++) {
    ops[i] = member(read_op(ends.read, adopt_counted(bytes[i], 1, &released), NULL, NULL), i);
    ops[i].flags = PALURING_OP_MOVE;
  }
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, ios), 3);
  CHECK_EQ(paluring_ring_submit(ring), 3);
  for (int i = 0; i < 3; i++) CHECK_EQ(paluring_io_drop(ring, ios[i], NULL), 0);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(atomic_load(&released), 0);
  for (int i = 0; i < 3; i++) CHECK_EQ(write(ends.write, "abc" + i, 1), 1);
  DO(run_all(ring));
  CHECK_EQ(atomic_load(&released), 3);
  CHECK(bytes[0][0] == 'a' && bytes[1][0] == 'b' && bytes[2][0] == 'c');
  CHECK_EQ(told.count, 0);
  paluring_ring_release(ring);
  close_pipe(ends);
}

TEST(a_close_at_a_chains_end_spares_its_own_members) {
  paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 8);
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(4);
  paluring_op other = member(read_op(ends.read, buf, NULL, NULL), 9), ops[2];
  start_only(ring, other);
  ops[0] = member(nop_op(NULL, NULL), 0);
  paluring_op_close(&ops[1], ends.read);
  ops[1] = member(ops[1], 1);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 2, 0, NULL), 2);
  DO(run_all(ring));
  CHECK_EQ(told.count, 3);
  for (int i = 0; i < 3; i++) CHECK_EQ(told.at[i].result, told.at[i].member == 9 ? -ECANCELED : 0);
  CHECK_EQ(fcntl(ends.read, F_GETFD), -1);
  paluring_ring_release(ring);
  paluring_buf_release(buf);
  close(ends.write);
}

TEST(a_close_with_chains_pending_tells_each_member_in_order) {
  for (int phase = 0; phase < 3; phase++) {
    paluring_ring *ring = open_ring(PALURING_MODE_OWNER, 4);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    paluring_op ops[4];
    if (phase == 2) paluring_ring_submit(ring);
    for (uintptr_t i = 0; i < 8; i++) {
      ops[i % 4] = member(read_op(ends.read, buf, NULL, NULL), i);
      if (i % 4 == 3) CHECK_EQ(paluring_io_start_chain(ring, ops, 4, 0, NULL), 4);
    }
    if (phase == 1) CHECK_EQ(paluring_ring_submit(ring), 8);
    CHECK_EQ(paluring_ring_close(ring, -1), 0);
    CHECK_EQ(told.count, 8);
    uintptr_t next[2] = {0, 4};
    for (int i = 0; i < 8; i++) {
      CHECK_EQ(told.at[i].result, -ECANCELED);
      CHECK_EQ(told.at[i].member, next[told.at[i].member / 4]++);
    }
    paluring_ring_release(ring);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

/* ---- threads ---- */

enum { THREADS = 8 };
#define CHAINS tries(300)

struct starter {
  paluring_ring *ring;
  struct ends ends;
  atomic_int done;
  _Atomic(int) in_flight;
};

static void chain_done(uintptr_t user_data, paluring_completion *completion) {
  struct starter *self = (struct starter *)user_data;
  if (completion->result != -ECANCELED || (int64_t)completion->extra != -EBADF) harness_fail(__FILE__, __LINE__, "a chain was mixed with another");
  atomic_fetch_add(&self->done, 1);
}

/* Chains of which only the first member may have an effect. */
static void *start_chains(void *argument) {
  struct starter *self = argument;
  paluring_buf *byte = new_buf(1);
  for (int i = 0; i < CHAINS && !has_failed(); i++) {
    paluring_op ops[4] = {write_op(self->ends.write, byte), failing_op(), write_op(self->ends.write, byte), nop_op(chain_done, self)};
    for (int m = 0; m < 3; m++) ops[m].flags = PALURING_OP_DETACHED;
    int32_t status;
    while ((status = paluring_io_start_chain(self->ring, ops, 4, 0, NULL)) == -EAGAIN && !has_failed()) sched_yield();
    EXPECT_EQ(status, 4);
  }
  paluring_buf_release(byte);
  return NULL;
}

TEST(chains_of_eight_threads_are_never_mixed) {
  for (size_t m = 0; m < COUNT_OF(HOST_MODES); m++) {
    ROW(HOST_MODE_NAMES[m]);
    paluring_ring *ring = open_ring(HOST_MODES[m], 16);
    struct starter starters[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
      starters[i] = (struct starter){.ring = ring, .ends = open_pipe()};
      threads[i] = start_thread(start_chains, &starters[i]);
    }
    int64_t end = now_ns() + LONG_ENOUGH;
    for (int done = 0; done < THREADS * CHAINS && !has_failed() && now_ns() < end; done += paluring_ring_run(ring, 1, 10 * MS)) {}
    if (now_ns() > end) harness_fail(__FILE__, __LINE__, "not done after 10 s"); /* else the starters would go on */
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    DO(run_all(ring));
    for (int i = 0; i < THREADS; i++) {
      CHECK_EQ(atomic_load(&starters[i].done), CHAINS);
      CHECK_EQ(drain_pipe(starters[i].ends), CHAINS);
      close_pipe(starters[i].ends);
    }
    CHECK_EQ(paluring_ring_close(ring, -1), 0);
    paluring_ring_release(ring);
  }
}

struct short_lived {
  paluring_ring *ring;
  paluring_op ops[3];
};

static void *start_submit_exit(void *argument) {
  struct short_lived *self = argument;
  self->ops[2].flags = PALURING_OP_SUBMIT;
  EXPECT_EQ(paluring_io_start_chain(self->ring, self->ops, 3, 0, NULL), 3);
  return NULL;
}

TEST(a_chain_whose_submitter_exits_is_submitted_again_as_a_chain) {
  for (int try = 0; try < 50; try++) {
    paluring_ring *ring = open_ring(PALURING_MODE_SHARED, 8);
    struct ends in = open_pipe(), out = open_pipe();
    paluring_buf *buf = new_buf(1);
    struct short_lived self = {.ring = ring};
    self.ops[0] = member(read_op(in.read, buf, NULL, NULL), 0);
    self.ops[1] = member(write_op(out.write, buf), 1);
    self.ops[2] = member(nop_op(NULL, NULL), 2);
    pthread_join(start_thread(start_submit_exit, &self), NULL);
    CHECK_EQ(paluring_ring_run(ring, 1, 1 * MS), 0);
    CHECK(!is_readable(out.read));
    CHECK_EQ(write(in.write, "z", 1), 1);
    DO(run_all(ring));
    DO(check_in_order(3));
    char got = 0;
    CHECK_EQ(read(out.read, &got, 1), 1);
    CHECK_EQ(got, 'z');
    CHECK_EQ(stats_of(ring).total_resubmits, 3);
    paluring_ring_release(ring);
    paluring_buf_release(buf);
    close_pipe(in), close_pipe(out);
  }
}

int main(void) {
  RUN(a_deadline_on_any_member_ends_the_chain_in_time);
  RUN(a_member_that_waits_is_cancelled_when_its_turn_comes);
  RUN(a_member_that_waits_for_room_is_cancelled_at_once_with_what_follows);
  RUN(one_callback_on_the_last_tells_all);
  RUN(members_are_reaped_and_polled_in_order);
  RUN(dropped_members_run_and_hold_their_buffers);
  RUN(a_close_at_a_chains_end_spares_its_own_members);
  RUN(a_close_with_chains_pending_tells_each_member_in_order);
  RUN(chains_of_eight_threads_are_never_mixed);
  RUN(a_chain_whose_submitter_exits_is_submitted_again_as_a_chain);
  return harness_end();
}
