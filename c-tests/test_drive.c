/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Driving by one thread: submit, wait, process, run, reap, drain, ready; what each counts and when it returns.
 */
#include "scene.h"

static void note_nothing(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
}

static void start_nops(paluring_ring *ring, int count, uint32_t flags, atomic_int *calls) {
  for (int i = 0; i < count; i++) start_op(ring, with_flags(nop_op(calls ? count_call : NULL, calls), flags));
}

/* ---- what is counted ---- */

TEST(submit_returns_the_entries_that_the_kernel_took) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  CHECK_EQ(paluring_ring_submit(ring), 0);
  for (int i = 0; i < 5; i++) start_op(ring, read_op(ends.read, buf, note_nothing, NULL));
  CHECK_EQ(paluring_ring_submit(ring), 5);
  CHECK_EQ(paluring_ring_submit(ring), 0);
  for (int i = 0; i < 20; i++) start_op(ring, read_op(ends.read, buf, note_nothing, NULL));
  CHECK_EQ(paluring_ring_submit(ring), 20); /* more than the submission queue holds */
  CHECK_EQ(paluring_ring_submit(ring), 0);
  CHECK_EQ(stats_of(ring).waiting, 25);
  CHECK_EQ(stats_of(ring).queued, 0);
  ring_done(ring);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
}

TEST(wait_and_ready_count_all_that_is_deliverable_and_deliver_none) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  paluring_completion taken[4];
  paluring_io kept[4];
  start_nops(ring, 3, 0, &calls);
  start_nops(ring, 2, PALURING_OP_QUEUE, NULL);
  start_nops(ring, 7, PALURING_OP_DETACHED, NULL);
  for (int i = 0; i < 4; i++) kept[i] = start_op(ring, nop_op(NULL, NULL));
  for (int i = 0; i < 5; i++) CHECK_EQ(paluring_io_drop(ring, start_op(ring, nop_op(count_call, &calls)), NULL), 0);
  CHECK_EQ(paluring_ring_wait(ring, 9, FOREVER), 9);
  CHECK_EQ(paluring_ring_wait(ring, 9, FOREVER), 9);
  CHECK_EQ(paluring_ring_wait(ring, 10, MS), 9);
  CHECK_EQ(paluring_ring_ready(ring), 9);
  CHECK_EQ(calls, 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 3);
  CHECK_EQ(calls, 3);
  CHECK_EQ(paluring_ring_ready(ring), 6);
  CHECK_EQ(paluring_ring_reap(ring, 0, 0, taken, 4), 2);
  CHECK_EQ(paluring_ring_ready(ring), 4);
  CHECK_EQ(paluring_ring_run(ring, 4, FOREVER), 0); /* older leftovers are in the measure */
  for (int i = 0; i < 4; i++) CHECK_EQ(paluring_io_poll(ring, kept[i], NULL, 0, taken), 1);
  CHECK_EQ(paluring_ring_ready(ring), 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 0);
  ring_done(ring);
}

TEST(dropped_and_detached_ios_never_end_a_wait) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  start_nops(ring, 5, PALURING_OP_DETACHED, NULL);
  CHECK_EQ(paluring_io_drop(ring, start_op(ring, nop_op(NULL, NULL)), NULL), 0);
  int64_t began = now_ns();
  CHECK_EQ(paluring_ring_wait(ring, 1, 20 * MS), 0);
  CHECK(now_ns() - began >= 20 * MS);
  CHECK_EQ(stats_of(ring).total_finished, 6);
  ring_done(ring);
}

TEST(time_over_is_no_error_and_never_early) {
  static const int64_t limits[] = {0, 1, 1000, MS, 20 * MS};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_completion completion;
  for (size_t i = 0; i < COUNT_OF(limits); i++) {
    for (int call = 0; call < 3; call++) {
      int64_t began = now_ns();
      if (call == 0) CHECK_EQ(paluring_ring_wait(ring, 1, limits[i]), 0);
      if (call == 1) CHECK_EQ(paluring_ring_run(ring, 1, limits[i]), 0);
      if (call == 2) CHECK_EQ(paluring_ring_reap(ring, 1, limits[i], &completion, 1), 0);
      CHECK(now_ns() - began >= limits[i]);
      CHECK(now_ns() - began < 5 * SECOND);
    }
  }
  ring_done(ring);
}

TEST(min_0_never_waits) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_completion completion;
  int64_t began = now_ns();
  for (int i = 0; i < 1000; i++) {
    CHECK_EQ(paluring_ring_wait(ring, 0, FOREVER), 0);
    CHECK_EQ(paluring_ring_run(ring, 0, FOREVER), 0);
    CHECK_EQ(paluring_ring_reap(ring, 0, FOREVER, &completion, 1), 0);
  }
  CHECK(now_ns() - began < 5 * SECOND);
  ring_done(ring);
}

TEST(a_wait_for_several_ends_when_the_last_of_them_is_there) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  int64_t began = now_ns();
  for (int i = 1; i <= 5; i++) start_only(ring, timeout_op(i * 4 * MS, count_call, &calls));
  int32_t first = paluring_ring_run(ring, 3, FOREVER); /* more only if this thread comes late */
  CHECK(first >= 3 && now_ns() - began >= 12 * MS);
  CHECK_EQ(paluring_ring_run(ring, (uint32_t)(5 - first), FOREVER), 5 - first);
  CHECK(now_ns() - began >= 20 * MS);
  ring_done(ring);
}

/* ---- process ---- */

TEST(process_with_a_budget_leaves_the_rest_ready) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  start_nops(ring, 10, 0, &calls);
  CHECK_EQ(paluring_ring_wait(ring, 10, FOREVER), 10);
  CHECK_EQ(paluring_ring_process(ring, 3), 3);
  CHECK_EQ(calls, 3);
  CHECK_EQ(paluring_ring_ready(ring), 7);
  CHECK_EQ(paluring_ring_run(ring, 7, FOREVER), 7);
  CHECK_EQ(paluring_ring_process(ring, 5), 0);
  ring_done(ring);
}

struct chain {
  paluring_ring *ring;
  paluring_op op;
  int left, failed;
  atomic_int calls;
};

static void go_on(uintptr_t user_data, paluring_completion *completion) {
  struct chain *self = (struct chain *)user_data;
  (void)completion;
  atomic_fetch_add(&self->calls, 1);
  if (self->left-- > 0 && paluring_io_start(self->ring, &self->op, NULL) != 0) self->failed++;
}

TEST(process_ends_though_completions_keep_coming) {
  static struct chain chain;
  chain = (struct chain){.ring = ring_open(PALURING_MODE_OWNER, 0, 0), .left = INT32_MAX};
  chain.op = nop_op(go_on, &chain);
  for (int i = 0; i < 10; i++) start_only(chain.ring, chain.op);
  for (int i = 0; i < 1000; i++) {
    CHECK_EQ(paluring_ring_wait(chain.ring, 10, FOREVER), 10);
    CHECK_EQ(paluring_ring_process(chain.ring, 0), 10); /* what was ready at entry, no more */
  }
  CHECK_EQ(paluring_ring_run(chain.ring, 10, FOREVER), 10);
  chain.left = 0;
  CHECK_EQ(paluring_ring_drain(chain.ring, LONG_ENOUGH), 0);
  CHECK_EQ(chain.failed, 0);
  ring_done(chain.ring);
}

TEST(process_submits_what_its_callbacks_started) {
  static struct chain chain;
  struct ends ends = open_socket();
  chain = (struct chain){.ring = ring_open(PALURING_MODE_OWNER, 0, 0), .left = 1};
  paluring_buf *buf = new_buf(1);
  paluring_op_write(&chain.op, ends.write, buf, 0, 1, UINT64_MAX);
  chain.op.callback = note_nothing;
  start_only(chain.ring, nop_op(go_on, &chain));
  CHECK_EQ(paluring_ring_wait(chain.ring, 1, FOREVER), 1);
  CHECK_EQ(paluring_ring_process(chain.ring, 0), 1);
  CHECK_EQ(drain_pipe(ends), 1);
  ring_done(chain.ring);
  paluring_buf_release(buf);
  close_pipe(ends);
}

static void drive_inside(uintptr_t user_data, paluring_completion *completion) {
  struct chain *self = (struct chain *)user_data;
  paluring_ring *ring = self->ring;
  paluring_completion taken;
  const int32_t statuses[] = {paluring_ring_submit(ring), paluring_ring_wait(ring, 0, 0), paluring_ring_process(ring, 0), paluring_ring_run(ring, 0, 0),
                              paluring_ring_reap(ring, 0, 0, &taken, 1), paluring_ring_drain(ring, 0), paluring_ring_prepare(ring)};
  (void)completion;
  for (size_t i = 0; i < COUNT_OF(statuses); i++)
    if (!EXPECT_EQ(statuses[i], -EBUSY)) self->failed++;
  atomic_fetch_add(&self->calls, 1);
}

TEST(drivers_calls_inside_a_callback_are_busy) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    struct chain chain = {.ring = ring_open(HOST_MODES[mode], 0, 0)};
    start_only(chain.ring, nop_op(drive_inside, &chain));
    CHECK_EQ(paluring_ring_run(chain.ring, 1, FOREVER), 1);
    CHECK_EQ(chain.calls, 1);
    CHECK_EQ(chain.failed, 0);
    ring_done(chain.ring);
  }
}

/* ---- reap ---- */

TEST(reap_gives_the_oldest_first_and_what_fits) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 200);
  paluring_completion taken[64];
  atomic_int calls = 0;
  for (size_t i = 0; i < 100; i++) start_only(ring, with_flags(nop_op(NULL, (void *)i), PALURING_OP_QUEUE));
  start_nops(ring, 10, 0, &calls);
  size_t next = 0;
  static const size_t counts[] = {1, 2, 64, 30, 64};
  static const int32_t wants[] = {1, 2, 64, 30, 3};
  for (size_t k = 0; k < COUNT_OF(counts); k++) {
    memset(taken, 0xff, sizeof taken);
    CHECK_EQ(paluring_ring_reap(ring, 1, FOREVER, taken, counts[k]), wants[k]);
    for (int32_t i = 0; i < wants[k]; i++) CHECK_EQ(taken[i].user_data, next++);
    for (size_t i = (size_t)wants[k]; i < COUNT_OF(taken); i++) CHECK_EQ(taken[i].io, UINT64_MAX); /* only those returned are written */
  }
  CHECK_EQ(calls, 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 10);
  ring_done(ring);
}

TEST(reap_waits_for_min_of_its_own_kind) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_completion taken[8];
  atomic_int calls = 0;
  start_nops(ring, 3, PALURING_OP_QUEUE, NULL);
  start_nops(ring, 5, 0, &calls);
  int64_t began = now_ns();
  CHECK_EQ(paluring_ring_reap(ring, 4, 10 * MS, taken, 8), 3);
  CHECK(now_ns() - began >= 10 * MS);
  start_nops(ring, 2, PALURING_OP_QUEUE, NULL);
  start_only(ring, with_flags(timeout_op(5 * MS, NULL, NULL), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_reap(ring, 3, FOREVER, taken, 8), 3);
  CHECK_EQ(taken[2].result, -ETIME);
  CHECK_EQ(calls, 0);
  CHECK_EQ(paluring_ring_ready(ring), 5);
  ring_done(ring);
  CHECK_EQ(calls, 5);
}

/* ---- drain ---- */

TEST(drain_runs_callbacks_and_what_they_start_until_nothing_is_left) {
  static struct chain chain;
  paluring_completion completion;
  chain = (struct chain){.ring = ring_open(PALURING_MODE_OWNER, 8, 0), .left = 5000};
  chain.op = nop_op(go_on, &chain);
  CHECK_EQ(paluring_ring_drain(chain.ring, FOREVER), 0);
  start_only(chain.ring, chain.op);
  paluring_io kept = start_op(chain.ring, nop_op(NULL, NULL));
  start_nops(chain.ring, 3, PALURING_OP_QUEUE, NULL);
  CHECK_EQ(paluring_ring_drain(chain.ring, FOREVER), 0);
  CHECK_EQ(chain.calls, 5001);
  CHECK_EQ(paluring_ring_ready(chain.ring), 4); /* kept and queued ones are finished, and still there */
  CHECK_EQ(paluring_io_poll(chain.ring, kept, NULL, 0, &completion), 1);
  ring_done(chain.ring);
}

TEST(drain_gives_etime_and_ignores_wakes) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  paluring_io io = start_op(ring, timeout_op(60 * SECOND, count_call, &calls));
  CHECK_EQ(paluring_ring_drain(ring, 0), -ETIME);
  CHECK_EQ(paluring_ring_wake(ring), 0);
  int64_t began = now_ns();
  CHECK_EQ(paluring_ring_drain(ring, 30 * MS), -ETIME);
  CHECK(now_ns() - began >= 30 * MS);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  CHECK_EQ(paluring_ring_drain(ring, FOREVER), 0);
  CHECK_EQ(calls, 1);
  ring_done(ring);
}

TEST(signals_end_waits_without_error_and_drain_with_eintr) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    paluring_completion completion;
    struct signaller signaller;
    paluring_io io = start_op(ring, timeout_op(60 * SECOND, NULL, NULL));
    signals_begin(&signaller);
    for (int i = 0; i < 5; i++) {
      EXPECT_EQ(paluring_ring_wait(ring, 1, LONG_ENOUGH), 0);
      EXPECT_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 0);
      EXPECT_EQ(paluring_ring_reap(ring, 1, LONG_ENOUGH, &completion, 1), 0);
      EXPECT_EQ(paluring_ring_drain(ring, LONG_ENOUGH), -EINTR);
    }
    signals_end(&signaller);
    CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    ring_done(ring);
  }
}

/* ---- small queues ---- */

static int order_next, order_wrong;

static void note_order(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  if ((int)user_data != order_next++) order_wrong++;
}

TEST(sq_full_10000_starts_are_all_done_in_order) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 10000);
  order_next = order_wrong = 0;
  for (size_t i = 0; i < 10000; i++) start_only(ring, nop_op(note_order, (void *)i));
  CHECK(stats_of(ring).queued >= 10000 - 8);
  CHECK(stats_of(ring).high_queued >= 10000 - 8);
  CHECK_EQ(paluring_ring_run(ring, 10000, LONG_ENOUGH), 10000);
  CHECK_EQ(order_next, 10000);
  CHECK_EQ(order_wrong, 0);
  CHECK_EQ(stats_of(ring).queued, 0);
  ring_done(ring);
}

TEST(tiny_cq_100000_completions_none_lost) {
  enum { COUNT = 4000 };
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_with_cq(HOST_MODES[mode], 8, 16, COUNT);
    struct ends ends = open_pipe();
    atomic_int calls = 0;
    for (int round = 0; round < 25; round++) { /* all of them at once, by one event */
      for (int i = 0; i < COUNT; i++) start_only(ring, poll_op(ends.read, count_call, &calls));
      CHECK(paluring_ring_wait(ring, 1, 0) == 0);
      put_byte(ends);
      CHECK_EQ(paluring_ring_wait(ring, COUNT, LONG_ENOUGH), COUNT);
      CHECK_EQ(paluring_ring_run(ring, COUNT, LONG_ENOUGH), COUNT);
      CHECK_EQ(drain_pipe(ends), 1);
    }
    CHECK_EQ(calls, 25 * COUNT);
    close_pipe(ends);
    ring_done(ring);
  }
}

TEST(completions_left_unprocessed_do_not_stop_new_starts) {
  paluring_ring *ring = ring_with_cq(PALURING_MODE_OWNER, 8, 16, 20000);
  atomic_int calls = 0;
  for (int i = 1; i <= 20000; i++) {
    start_only(ring, nop_op(count_call, &calls));
    if (i % 8 == 0) CHECK_EQ(paluring_ring_wait(ring, (uint32_t)i, LONG_ENOUGH), i);
  }
  CHECK_EQ(calls, 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 20000);
  ring_done(ring);
}

int main(void) {
  RUN(submit_returns_the_entries_that_the_kernel_took);
  RUN(wait_and_ready_count_all_that_is_deliverable_and_deliver_none);
  RUN(dropped_and_detached_ios_never_end_a_wait);
  RUN(time_over_is_no_error_and_never_early);
  RUN(min_0_never_waits);
  RUN(a_wait_for_several_ends_when_the_last_of_them_is_there);
  RUN(process_with_a_budget_leaves_the_rest_ready);
  RUN(process_ends_though_completions_keep_coming);
  RUN(process_submits_what_its_callbacks_started);
  RUN(drivers_calls_inside_a_callback_are_busy);
  RUN(reap_gives_the_oldest_first_and_what_fits);
  RUN(reap_waits_for_min_of_its_own_kind);
  RUN(drain_runs_callbacks_and_what_they_start_until_nothing_is_left);
  RUN(drain_gives_etime_and_ignores_wakes);
  RUN(signals_end_waits_without_error_and_drain_with_eintr);
  RUN(sq_full_10000_starts_are_all_done_in_order);
  RUN(tiny_cq_100000_completions_none_lost);
  RUN(completions_left_unprocessed_do_not_stop_new_starts);
  return harness_end();
}
