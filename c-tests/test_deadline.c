/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * timeout_ns and set_timeout: an I/O that isn't done by then is cancelled, and says so.
 */
#include "scene.h"

static struct ends ends;
static paluring_buf *byte;

static paluring_op pipe_read(paluring_complete_fn callback, const void *user_data) {
  return read_op(ends.read, byte, callback, user_data);
}

static bool timed_out(const paluring_completion *completion) {
  return completion->result == -ETIME && (completion->flags & PALURING_COMPLETION_TIMED_OUT);
}

/* ---- expiry ---- */

TEST(expiry_gives_etime_with_the_mark_and_never_early) {
  static const char *const kinds[] = {"read of a pipe", "poll", "timeout", "read on a worker"};
  static const int64_t limits[] = {1, 100000, 3 * MS, 30 * MS};
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    for (int kind = 0; kind < 4; kind++) {
      ROW(kinds[kind]);
      for (size_t i = 0; i < COUNT_OF(limits); i++) {
        struct seen seen = {0};
        paluring_op op = kind == 1 ? poll_op(ends.read, note_completion, &seen) : kind == 2 ? timeout_op(60 * SECOND, note_completion, &seen) : pipe_read(note_completion, &seen);
        if (kind == 3) op.flags = PALURING_OP_ASYNC;
        int64_t began = now_ns();
        paluring_io io = start_op(ring, with_timeout(op, limits[i]));
        CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 1);
        CHECK(now_ns() - began >= limits[i]);
        CHECK(now_ns() - began < 5 * SECOND);
        CHECK_EQ(seen.calls, 1);
        CHECK(timed_out(&seen.last) && seen.last.io == io);
      }
    }
    CHECK_EQ(stats_of(ring).total_cancelled, 16);
    CHECK_EQ(paluring_buf_refs(byte), 1);
    ring_done(ring);
  }
}

TEST(expiry_bounds_every_kind_of_wait_without_limit) {
  static const char *const waits[] = {"wait", "io_wait", "reap", "drain", "run"};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int i = 0; i < 5; i++) {
    ROW(waits[i]);
    paluring_completion completion = {0};
    int64_t began = now_ns();
    paluring_io io = start_op(ring, with_timeout(with_flags(pipe_read(NULL, NULL), i == 2 ? PALURING_OP_QUEUE : 0), 5 * MS));
    if (i == 0) CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    if (i == 1) CHECK_EQ(paluring_io_wait(ring, io, FOREVER, &completion), 0);
    if (i == 2) CHECK_EQ(paluring_ring_reap(ring, 1, FOREVER, &completion, 1), 1);
    if (i == 3) CHECK_EQ(paluring_ring_drain(ring, FOREVER), 0);
    if (i == 4) CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 0);
    CHECK(now_ns() - began >= 5 * MS);
    if (i != 1 && i != 2) CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), 1);
    CHECK(timed_out(&completion));
  }
  ring_done(ring);
}

TEST(an_io_done_in_time_has_no_mark_and_its_limit_never_hits_the_next_of_its_slot) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 1);
  struct seen seen = {0}, next = {0};
  put_byte(ends);
  start_only(ring, with_timeout(pipe_read(note_completion, &seen), 10 * MS));
  CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 1);
  CHECK(seen.last.result == 1 && seen.last.flags == 0);
  start_only(ring, pipe_read(note_completion, &next));
  CHECK_EQ(paluring_ring_run(ring, 1, 30 * MS), 0);
  CHECK_EQ(next.calls, 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 1);
  CHECK(next.last.result == 1 && next.last.flags == 0);
  ring_done(ring);
}

TEST(limits_of_0_or_less_are_none_and_huge_ones_never_come) {
  static const int64_t limits[] = {0, -1, INT64_MIN, INT64_MAX, INT64_MAX - 1, INT64_MAX / 2};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  paluring_io ios[COUNT_OF(limits)];
  for (size_t i = 0; i < COUNT_OF(limits); i++) ios[i] = start_op(ring, with_timeout(pipe_read(count_call, &calls), limits[i]));
  CHECK_EQ(paluring_ring_run(ring, 1, 10 * MS), 0);
  for (size_t i = 0; i < COUNT_OF(limits); i++) CHECK_EQ(paluring_io_set_timeout(ring, ios[i], limits[i]), 0);
  CHECK_EQ(paluring_ring_run(ring, 1, 10 * MS), 0);
  for (size_t i = 0; i < COUNT_OF(limits); i++) put_byte(ends);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(calls, COUNT_OF(limits));
  ring_done(ring);
}

TEST(a_timeout_operation_that_runs_out_is_not_marked) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_completion completion;
  paluring_op op = timeout_op(2 * MS, NULL, NULL);
  CHECK_EQ(do_op(ring, &op, &completion), -ETIME);
  CHECK_EQ(completion.flags, 0);
  op.timeout_ns = 60 * SECOND;
  CHECK_EQ(do_op(ring, &op, &completion), -ETIME);
  CHECK_EQ(completion.flags, 0);
  op = with_timeout(timeout_op(60 * SECOND, NULL, NULL), 2 * MS);
  do_op(ring, &op, &completion);
  CHECK(timed_out(&completion));
  ring_done(ring);
}

TEST(a_cancel_before_the_limit_gives_ecanceled) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct seen seen = {0};
  paluring_io io = start_op(ring, with_timeout(pipe_read(note_completion, &seen), 60 * SECOND));
  CHECK_EQ(paluring_ring_submit(ring), 1);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
  CHECK_EQ(seen.last.result, -ECANCELED);
  CHECK_EQ(seen.last.flags, PALURING_COMPLETION_CANCELLED);
  ring_done(ring);
}

/* ---- set_timeout ---- */

TEST(set_timeout_counts_from_now_later_earlier_and_for_the_first_time) {
  static const char *const rows[] = {"later", "earlier", "first"};
  static const int64_t first[] = {20 * MS, 60 * SECOND, 0}, then[] = {60 * MS, 10 * MS, 10 * MS};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int i = 0; i < 6; i++) {
    ROW(rows[i % 3]);
    struct seen seen = {0};
    paluring_io io = start_op(ring, with_timeout(pipe_read(note_completion, &seen), first[i % 3]));
    if (i >= 3) CHECK_EQ(paluring_ring_submit(ring), 1); /* queued and in flight */
    int64_t set = now_ns();
    CHECK_EQ(paluring_io_set_timeout(ring, io, then[i % 3]), 0);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK(now_ns() - set >= then[i % 3]);
    CHECK(timed_out(&seen.last));
    CHECK_EQ(paluring_io_set_timeout(ring, io, 1), PALURING_ERR_STALE);
  }
  ring_done(ring);
}

TEST(set_timeout_of_0_or_less_removes_the_limit) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int64_t none = -1; none <= 0; none++) {
    struct seen seen = {0};
    paluring_io io = start_op(ring, with_timeout(pipe_read(note_completion, &seen), 10 * MS));
    CHECK_EQ(paluring_io_set_timeout(ring, io, none), 0);
    CHECK_EQ(paluring_ring_run(ring, 1, 30 * MS), 0);
    put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK(seen.last.result == 1 && seen.last.flags == 0);
  }
  ring_done(ring);
}

TEST(an_idle_timer_that_is_set_again_and_again_runs_out_only_when_left_alone) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct seen seen = {0};
  int64_t began = now_ns(), last = began;
  paluring_io io = start_op(ring, with_timeout(pipe_read(note_completion, &seen), SECOND));
  while (now_ns() - began < 100 * MS) {
    last = now_ns();
    CHECK_EQ(paluring_io_set_timeout(ring, io, SECOND), 0);
    CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  }
  last = now_ns();
  CHECK_EQ(paluring_io_set_timeout(ring, io, 20 * MS), 0);
  CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
  CHECK(now_ns() - last >= 20 * MS);
  CHECK(timed_out(&seen.last));
  ring_done(ring);
}

/* ---- many, queued, dropped ---- */

enum { MANY = 4000 };

static struct limited {
  int64_t due;
  int calls;
  bool early, marked;
} limited[MANY];

static void note_expiry(uintptr_t user_data, paluring_completion *completion) {
  struct limited *self = (struct limited *)user_data;
  self->calls++;
  self->early = now_ns() < self->due;
  self->marked = timed_out(completion);
}

TEST(thousands_with_random_limits_all_run_out_and_none_early) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 64, MANY);
  srand(12345);
  memset(limited, 0, sizeof limited);
  for (int i = 0; i < MANY; i++) {
    int64_t limit = (rand() % 100000 + 1) * INT64_C(1000);
    limited[i].due = now_ns() + limit;
    start_only(ring, with_timeout(pipe_read(note_expiry, &limited[i]), limit));
  }
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  for (int i = 0; i < MANY; i++) CHECK(limited[i].calls == 1 && limited[i].marked && !limited[i].early);
  CHECK_EQ(stats_of(ring).total_cancelled, MANY);
  CHECK_EQ(paluring_buf_refs(byte), 1);
  ring_done(ring);
}

TEST(thousands_that_finish_before_their_limits_leave_nothing_behind) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 64, 1000);
  atomic_int calls = 0;
  for (int i = 0; i < 200; i++) {
    for (int k = 0; k < 1000; k++) start_only(ring, with_timeout(nop_op(count_call, &calls), 60 * SECOND - k * MS));
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  }
  CHECK_EQ(calls, 200000);
  paluring_stats stats = stats_of(ring);
  CHECK_EQ(stats.total_finished, 200000);
  CHECK_EQ(stats.total_cancelled, 0);
  ring_done(ring);
}

TEST(limits_hold_in_the_overflow_queue_and_when_past_before_the_first_submit) {
  enum { COUNT = 100 };
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, COUNT);
  memset(limited, 0, sizeof limited);
  for (int round = 0; round < 2; round++) {
    ROW(round ? "past before the submit" : "queued");
    int64_t limit = 5 * MS;
    for (int i = 0; i < COUNT; i++) {
      limited[i] = (struct limited){.due = now_ns() + limit};
      start_only(ring, with_timeout(pipe_read(note_expiry, &limited[i]), limit));
    }
    while (round && now_ns() < limited[COUNT - 1].due) continue;
    CHECK_EQ(paluring_ring_run(ring, COUNT, LONG_ENOUGH), COUNT);
    for (int i = 0; i < COUNT; i++) CHECK(limited[i].calls == 1 && limited[i].marked && !limited[i].early);
  }
  ring_done(ring);
}

TEST(the_limit_of_a_dropped_io_delivers_nothing) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  paluring_io io = start_op(ring, with_timeout(pipe_read(count_call, &calls), 5 * MS));
  CHECK_EQ(paluring_ring_submit(ring), 1);
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  CHECK_EQ(paluring_ring_run(ring, 1, 20 * MS), 0);
  int32_t status = paluring_io_cancel(ring, io); /* whether the limit has ended it is all the same */
  CHECK(status == 0 || status == PALURING_ERR_STALE);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(calls, 0);
  CHECK_EQ(paluring_buf_refs(byte), 1);
  ring_done(ring);
}

TEST(the_limit_of_a_detached_io_ends_it) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  start_only(ring, with_timeout(with_flags(pipe_read(NULL, NULL), PALURING_OP_DETACHED), 5 * MS));
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(stats_of(ring).total_cancelled, 1);
  CHECK_EQ(stats_of(ring).total_detached_failed, 1);
  CHECK_EQ(paluring_buf_refs(byte), 1);
  ring_done(ring);
}

/* ---- races ---- */

#define ROUNDS tries(5000)
static atomic_int round_now;

static void *put_each_round(void *argument) {
  (void)argument;
  for (int i = 1; i <= ROUNDS; i++) {
    if (!await_count(&round_now, i)) break;
    for (int64_t until = now_ns() + i % 100 * 1000; now_ns() < until;) continue;
    put_byte(ends);
  }
  return NULL;
}

TEST(expiry_racing_with_data_makes_one_callback_and_loses_no_byte) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_store(&round_now, 0);
  pthread_t thread = start_thread(put_each_round, NULL);
  int missed = 0;
  for (int i = 1; i <= ROUNDS; i++) {
    struct seen seen = {0};
    atomic_store(&round_now, i);
    start_only(ring, with_timeout(pipe_read(note_completion, &seen), 50000));
    while (seen.calls == 0) KEEP(paluring_ring_run(ring, 1, LONG_ENOUGH) >= 0);
    KEEP(seen.calls == 1);
    if (seen.last.result == 1) continue;
    KEEP(timed_out(&seen.last));
    char left = 0;
    KEEP(read(ends.read, &left, 1) == 1);
    missed++;
  }
  DO(pthread_join(thread, NULL));
  CHECK(missed > 0);
  CHECK_EQ(drain_pipe(ends), 0);
  CHECK_EQ(paluring_buf_refs(byte), 1);
  ring_done(ring);
}

static struct foreign {
  paluring_ring *ring;
  atomic_ullong io;
  atomic_int round;
  bool start;
  struct seen seen;
} foreign;

static void *limit_from_elsewhere(void *argument) {
  (void)argument;
  for (int i = 1; i <= 500; i++) {
    if (!await_count(&foreign.round, i)) break;
    if (foreign.start) start_only(foreign.ring, with_timeout(with_flags(pipe_read(note_completion, &foreign.seen), PALURING_OP_SUBMIT), 100000));
    else EXPECT_EQ(paluring_io_set_timeout(foreign.ring, atomic_load(&foreign.io), 100000), 0);
  }
  return NULL;
}

TEST(a_limit_set_by_another_thread_wakes_a_driver_that_sleeps_without_one) {
  for (int start = 0; start < 2; start++) {
    for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
      ROW(start ? "start with a limit" : "set_timeout");
      foreign = (struct foreign){.ring = ring_open(HOST_MODES[mode], 0, 0), .start = start};
      CHECK_EQ(paluring_ring_submit(foreign.ring), 0);
      pthread_t thread = start_thread(limit_from_elsewhere, NULL);
      for (int i = 1; i <= 500; i++) {
        int64_t began = now_ns();
        if (!start) atomic_store(&foreign.io, start_op(foreign.ring, pipe_read(note_completion, &foreign.seen)));
        atomic_store(&foreign.round, i);
        while (foreign.seen.calls < i && now_ns() - began < 5 * SECOND) KEEP(paluring_ring_run(foreign.ring, 1, LONG_ENOUGH) >= 0);
        KEEP(EXPECT_EQ(foreign.seen.calls, i));
        KEEP(now_ns() - began < 5 * SECOND && timed_out(&foreign.seen.last));
      }
      DO(pthread_join(thread, NULL));
      ring_done(foreign.ring);
    }
  }
}

int main(void) {
  ends = open_pipe();
  if (paluring_buf_alloc(1, 0, &byte) != 0) return 1;
  RUN(expiry_gives_etime_with_the_mark_and_never_early);
  RUN(expiry_bounds_every_kind_of_wait_without_limit);
  RUN(an_io_done_in_time_has_no_mark_and_its_limit_never_hits_the_next_of_its_slot);
  RUN(limits_of_0_or_less_are_none_and_huge_ones_never_come);
  RUN(a_timeout_operation_that_runs_out_is_not_marked);
  RUN(a_cancel_before_the_limit_gives_ecanceled);
  RUN(set_timeout_counts_from_now_later_earlier_and_for_the_first_time);
  RUN(set_timeout_of_0_or_less_removes_the_limit);
  RUN(an_idle_timer_that_is_set_again_and_again_runs_out_only_when_left_alone);
  RUN(thousands_with_random_limits_all_run_out_and_none_early);
  RUN(thousands_that_finish_before_their_limits_leave_nothing_behind);
  RUN(limits_hold_in_the_overflow_queue_and_when_past_before_the_first_submit);
  RUN(the_limit_of_a_dropped_io_delivers_nothing);
  RUN(the_limit_of_a_detached_io_ends_it);
  RUN(expiry_racing_with_data_makes_one_callback_and_loses_no_byte);
  RUN(a_limit_set_by_another_thread_wakes_a_driver_that_sleeps_without_one);
  close_pipe(ends);
  return harness_end();
}
