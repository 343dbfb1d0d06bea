/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Cancel and drop, in every state of an I/O, before, after and against each other.
 */
#include "scene.h"

/* An I/O of each kind that stays in flight until it is cancelled. */
struct pending {
  const char *kind;
  struct ends ends;
  paluring_buf *buf;
};

static paluring_op pending_op(struct pending *pending, int kind, paluring_complete_fn callback, const void *user_data) {
  static const char *const kinds[] = {"read of a pipe", "poll", "timeout", "read on a worker"};
  ROW(pending->kind = kinds[kind]);
  if (kind == 1) return poll_op(pending->ends.read, callback, user_data);
  if (kind == 2) return timeout_op(60 * SECOND, callback, user_data);
  return with_flags(read_op(pending->ends.read, pending->buf, callback, user_data), kind == 3 ? PALURING_OP_ASYNC : 0);
}

static void end_pending(struct pending *pending) {
  paluring_buf_release(pending->buf);
  close_pipe(pending->ends);
}

enum { KINDS = 4 };

TEST(a_cancel_in_flight_ends_with_ecanceled_and_the_data_stays) {
  struct pending pending = {.ends = open_pipe(), .buf = new_buf(1)};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int kind = 0; kind < KINDS; kind++) {
    struct seen seen = {0};
    paluring_io io = start_op(ring, pending_op(&pending, kind, note_completion, &seen));
    CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
    CHECK_EQ(paluring_io_cancel(ring, io), 0);
    CHECK_EQ(seen.calls, 0); /* it asks, and delivers nothing */
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(seen.calls, 1);
    CHECK_EQ(seen.last.result, -ECANCELED);
    CHECK_EQ(seen.last.flags, PALURING_COMPLETION_CANCELLED);
    CHECK(seen.last.io == io);
    CHECK_EQ(paluring_io_cancel(ring, io), PALURING_ERR_STALE);
    put_byte(pending.ends);
    CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
    CHECK_EQ(drain_pipe(pending.ends), 1);
  }
  CHECK_EQ(stats_of(ring).total_cancelled, KINDS);
  CHECK_EQ(paluring_buf_refs(pending.buf), 1);
  end_pending(&pending);
  ring_done(ring);
}

TEST(a_cancel_before_the_submit_ends_with_ecanceled) {
  struct pending pending = {.ends = open_pipe(), .buf = new_buf(1)};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int kind = 0; kind < KINDS; kind++) {
    struct seen seen = {0};
    paluring_io io = start_op(ring, pending_op(&pending, kind, note_completion, &seen));
    CHECK_EQ(paluring_io_cancel(ring, io), 0);
    CHECK_EQ(paluring_io_cancel(ring, io), 0); /* asking twice is asking */
    CHECK_EQ(seen.calls, 0);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(seen.last.result, -ECANCELED);
    CHECK_EQ(seen.last.flags, PALURING_COMPLETION_CANCELLED);
  }
  CHECK_EQ(paluring_buf_refs(pending.buf), 1);
  end_pending(&pending);
  ring_done(ring);
}

TEST(a_cancel_in_the_overflow_queue_ends_with_ecanceled_and_the_others_go_on) {
  enum { COUNT = 100 };
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, COUNT);
  struct seen seen[COUNT];
  paluring_io ios[COUNT];
  paluring_buf *buf = new_buf(1);
  memset(seen, 0, sizeof seen);
  for (int i = 0; i < COUNT; i++) ios[i] = start_op(ring, read_op(ends.read, buf, note_completion, &seen[i]));
  CHECK(stats_of(ring).queued > 0);
  for (int i = 0; i < COUNT; i += 2) CHECK_EQ(paluring_io_cancel(ring, ios[i]), 0);
  CHECK_EQ(paluring_ring_run(ring, COUNT / 2, LONG_ENOUGH), COUNT / 2);
  for (int i = 0; i < COUNT; i++) CHECK_EQ(seen[i].calls, i % 2 == 0);
  for (int i = 0; i < COUNT; i += 2) CHECK_EQ(seen[i].last.result, -ECANCELED);
  for (int i = 0; i < COUNT / 2; i++) put_byte(ends);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  for (int i = 1; i < COUNT; i += 2) CHECK(seen[i].calls == 1 && seen[i].last.result == 1);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

TEST(a_cancel_of_what_is_complete_changes_nothing) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct seen seen = {0};
  paluring_completion completion;
  paluring_io io = start_op(ring, nop_op(note_completion, &seen)), kept = start_op(ring, nop_op(NULL, NULL));
  paluring_io queued = start_op(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_wait(ring, 3, FOREVER), 3);
  paluring_io all[] = {io, kept, queued};
  for (int i = 0; i < 3; i++) {
    int32_t status = paluring_io_cancel(ring, all[i]);
    CHECK(status == 0 || status == PALURING_ERR_STALE);
  }
  CHECK_EQ(paluring_ring_process(ring, 0), 1);
  CHECK(seen.calls == 1 && seen.last.result == 0);
  CHECK_EQ(paluring_io_poll(ring, kept, NULL, 0, &completion), 1);
  CHECK_EQ(completion.result, 0);
  CHECK_EQ(paluring_ring_reap(ring, 1, 0, &completion, 1), 1);
  CHECK_EQ(completion.result, 0);
  ring_done(ring);
}

struct inside {
  paluring_ring *ring;
  paluring_io other;
  int32_t cancelled, dropped, other_status;
  uintptr_t other_user_data;
  atomic_int calls;
};

static void act_inside(uintptr_t user_data, paluring_completion *completion) {
  struct inside *self = (struct inside *)user_data;
  uintptr_t own = 1;
  atomic_fetch_add(&self->calls, 1);
  self->cancelled = paluring_io_cancel(self->ring, completion->io);
  self->dropped = paluring_io_drop(self->ring, completion->io, &own);
  self->other_status = paluring_io_drop(self->ring, self->other, &self->other_user_data);
}

TEST(inside_a_callback_cancel_is_safe_drop_of_itself_stale_and_drop_of_another_works) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct inside self = {.ring = ring};
  atomic_int others = 0;
  start_op(ring, nop_op(act_inside, &self));
  self.other = start_op(ring, nop_op(count_call, &others));
  CHECK_EQ(paluring_ring_wait(ring, 2, FOREVER), 2); /* both are complete before either is delivered */
  CHECK_EQ(paluring_ring_process(ring, 0), 1);
  CHECK_EQ(self.calls, 1);
  CHECK(self.cancelled == 0 || self.cancelled == PALURING_ERR_STALE);
  CHECK_EQ(self.dropped, PALURING_ERR_STALE);
  CHECK_EQ(self.other_status, 0);
  CHECK(self.other_user_data == (uintptr_t)&others);
  CHECK_EQ(paluring_ring_ready(ring), 0);
  ring_done(ring);
  CHECK_EQ(others, 0);
}

/* ---- drop ---- */

TEST(a_drop_in_any_state_gives_user_data_back_and_nothing_follows) {
  static const char *const states[] = {"not submitted", "in flight", "complete"};
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_buf *buf = new_buf(1);
  for (int state = 0; state < 3; state++) {
    ROW(states[state]);
    atomic_int calls = 0;
    paluring_io ios[3];
    ios[0] = start_op(ring, read_op(ends.read, buf, count_call, &calls));
    ios[1] = start_op(ring, read_op(ends.read, buf, NULL, &calls));
    ios[2] = start_op(ring, with_flags(read_op(ends.read, buf, NULL, &calls), PALURING_OP_QUEUE));
    for (int i = 0; i < 3 && state == 2; i++) put_byte(ends);
    if (state == 1) CHECK_EQ(paluring_ring_submit(ring), 3);
    if (state == 2) CHECK_EQ(paluring_ring_wait(ring, 3, FOREVER), 3);
    for (int i = 0; i < 3; i++) {
      uintptr_t user_data = 0;
      CHECK_EQ(paluring_io_drop(ring, ios[i], &user_data), 0);
      CHECK(user_data == (uintptr_t)&calls);
      CHECK_EQ(paluring_io_drop(ring, ios[i], &user_data), PALURING_ERR_STALE);
      CHECK_EQ(user_data, 0);
      CHECK_EQ(paluring_io_poll(ring, ios[i], NULL, 0, NULL), PALURING_ERR_STALE);
    }
    CHECK_EQ(paluring_ring_ready(ring), 0);
    for (int i = 0; i < 3 && state < 2; i++) put_byte(ends);
    paluring_completion completion;
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(paluring_ring_reap(ring, 0, 0, &completion, 1), 0);
    CHECK_EQ(calls, 0);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    CHECK_EQ(drain_pipe(ends), 0); /* it wasn't cancelled */
  }
  CHECK_EQ(stats_of(ring).total_dropped, 9);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

TEST(a_drop_in_the_overflow_queue_gives_user_data_back_and_the_others_go_on) {
  enum { COUNT = 100 };
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, COUNT);
  paluring_buf *buf = new_buf(1);
  atomic_int calls[COUNT];
  paluring_io ios[COUNT];
  memset(calls, 0, sizeof calls);
  for (int i = 0; i < COUNT; i++) ios[i] = start_op(ring, read_op(ends.read, buf, count_call, &calls[i]));
  for (int i = 0; i < COUNT; i += 2) {
    uintptr_t user_data = 0;
    CHECK_EQ(paluring_io_drop(ring, ios[i], &user_data), 0);
    CHECK(user_data == (uintptr_t)&calls[i]);
  }
  for (int i = 0; i < COUNT; i++) put_byte(ends);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  for (int i = 0; i < COUNT; i++) CHECK_EQ(calls[i], i % 2);
  CHECK_EQ(drain_pipe(ends), 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

TEST(a_dropped_io_holds_its_memory_until_the_kernel_is_done) {
  static char memory[1];
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int released = 0;
  paluring_buf *buf = adopt_counted(memory, 1, &released);
  paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
  paluring_buf_release(buf);
  CHECK_EQ(paluring_ring_submit(ring), 1);
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  for (int i = 0; i < 100; i++) CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(released, 0);
  CHECK_EQ(stats_of(ring).dropped, 1);
  put_byte(ends);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(released, 1);
  CHECK_EQ(memory[0], 'x');
  close_pipe(ends);
  ring_done(ring);
}

TEST(cancel_then_drop_and_drop_then_cancel_end_the_io_silently) {
  struct pending pending = {.ends = open_pipe(), .buf = new_buf(1)};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int kind = 0; kind < KINDS; kind++) {
    for (int drop_first = 0; drop_first < 2; drop_first++) {
      atomic_int calls = 0;
      paluring_io io = start_op(ring, pending_op(&pending, kind, count_call, &calls));
      CHECK_EQ(paluring_ring_submit(ring), 1);
      if (!drop_first) CHECK_EQ(paluring_io_cancel(ring, io), 0);
      CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
      if (drop_first) {
        CHECK_EQ(paluring_ring_drain(ring, MS), -ETIME); /* a drop doesn't cancel */
        CHECK_EQ(paluring_io_cancel(ring, io), 0);
      }
      CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
      CHECK_EQ(paluring_io_cancel(ring, io), PALURING_ERR_STALE);
      CHECK_EQ(calls, 0);
      CHECK_EQ(paluring_buf_refs(pending.buf), 1);
    }
  }
  paluring_buf_release(pending.buf);
  close_pipe(pending.ends);
  ring_done(ring);
}

TEST(cancel_ends_a_detached_io) {
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_buf *buf = new_buf(1);
  paluring_io io = start_op(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_DETACHED));
  CHECK_EQ(paluring_ring_submit(ring), 1);
  CHECK(paluring_io_drop(ring, io, NULL) < 0); /* its handle serves cancel only */
  CHECK_EQ(paluring_ring_drain(ring, MS), -ETIME);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

/* ---- many at once ---- */

TEST(cancel_fd_asks_those_on_that_fd_and_not_another_rings) {
  struct ends ends = open_pipe(), elsewhere = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0), *other = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct seen seen = {0}, away = {0}, others = {0};
  paluring_buf *buf = new_buf(1);
  for (int i = 0; i < 5; i++) start_op(ring, read_op(ends.read, buf, note_completion, &seen));
  start_op(ring, poll_op(ends.read, note_completion, &seen));
  for (int i = 0; i < 3; i++) start_op(ring, read_op(elsewhere.read, buf, note_completion, &away));
  start_op(other, read_op(ends.read, buf, note_completion, &others));
  CHECK_EQ(paluring_ring_submit(ring), 9);
  CHECK_EQ(paluring_ring_submit(other), 1);
  CHECK_EQ(paluring_ring_cancel_fd(ring, 9999), 0);
  CHECK_EQ(paluring_ring_cancel_fd(ring, ends.read), 6);
  CHECK_EQ(paluring_ring_run(ring, 6, LONG_ENOUGH), 6);
  CHECK_EQ(seen.last.result, -ECANCELED);
  CHECK_EQ(paluring_ring_cancel_fd(ring, ends.read), 0);
  for (int i = 0; i < 100; i++) CHECK_EQ(paluring_ring_run(ring, 0, 0) + paluring_ring_run(other, 0, 0), 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_run(other, 1, LONG_ENOUGH), 1);
  CHECK_EQ(others.last.result, 1);
  start_op(ring, timeout_op(60 * SECOND, note_completion, &away));
  CHECK_EQ(paluring_ring_cancel_all(ring), 4);
  CHECK_EQ(paluring_ring_run(ring, 4, LONG_ENOUGH), 4);
  CHECK_EQ(away.calls, 4);
  CHECK_EQ(away.last.result, -ECANCELED);
  CHECK_EQ(paluring_ring_cancel_all(ring), 0);
  paluring_buf_release(buf);
  close_pipe(ends);
  close_pipe(elsewhere);
  ring_done(ring);
  ring_done(other);
}

/* ---- races: exactly one callback ---- */

struct race {
  paluring_ring *ring;
  struct ends ends;
  atomic_ullong io; /* of the round; 0 = not yet */
  atomic_int round, acted;
  bool cancel_elsewhere;
  int32_t status;
};

#define ROUNDS tries(10000)

static void *act_elsewhere(void *argument) {
  struct race *self = argument;
  for (int i = 1; i <= ROUNDS; i++) {
    if (!await_count(&self->round, i)) break;
    if (self->cancel_elsewhere) self->status = paluring_io_cancel(self->ring, atomic_load(&self->io));
    else put_byte(self->ends);
    atomic_store(&self->acted, i);
  }
  return NULL;
}

static void cancel_against_completion(uint32_t mode, bool cancel_elsewhere) {
  struct race self = {.ring = ring_open(mode, 8, 0), .ends = open_pipe(), .cancel_elsewhere = cancel_elsewhere};
  paluring_buf *buf = new_buf(1);
  int cancelled = 0;
  pthread_t thread = start_thread(act_elsewhere, &self);
  for (int i = 1; i <= ROUNDS; i++) {
    struct seen seen = {0};
    paluring_io io = start_op(self.ring, read_op(self.ends.read, buf, note_completion, &seen));
    KEEP(paluring_ring_submit(self.ring) >= 0);
    atomic_store(&self.io, io);
    atomic_store(&self.round, i);
    for (int k = 0; k < i % 50; k++) atomic_thread_fence(memory_order_seq_cst);
    int32_t status = 0;
    if (cancel_elsewhere) put_byte(self.ends);
    else status = paluring_io_cancel(self.ring, io);
    while (seen.calls == 0) KEEP(paluring_ring_run(self.ring, 1, LONG_ENOUGH) >= 0);
    KEEP(seen.calls == 1 && await_count(&self.acted, i));
    if (cancel_elsewhere) status = self.status;
    KEEP(paluring_ring_run(self.ring, 0, 0) == 0 && seen.calls == 1);
    KEEP(status == 0 || (status == PALURING_ERR_STALE && cancel_elsewhere));
    KEEP(seen.last.result == 1 || (seen.last.result == -ECANCELED && status == 0));
    KEEP(EXPECT_EQ(drain_pipe(self.ends), seen.last.result != 1)); /* no byte is lost */
    cancelled += seen.last.result == -ECANCELED;
  }
  DO(pthread_join(thread, NULL));
  CHECK_EQ(paluring_buf_refs(buf), 1);
  CHECK_EQ(stats_of(self.ring).total_cancelled, cancelled);
  paluring_buf_release(buf);
  close_pipe(self.ends);
  ring_done(self.ring);
}

TEST(cancel_racing_with_completion_makes_exactly_one_callback) {
  ROW("cancelled by the owner"), cancel_against_completion(PALURING_MODE_OWNER, false);
  ROW("cancelled by another thread"), cancel_against_completion(PALURING_MODE_OWNER, true);
  ROW("SHARED"), cancel_against_completion(PALURING_MODE_SHARED, true);
}

int main(void) {
  RUN(a_cancel_in_flight_ends_with_ecanceled_and_the_data_stays);
  RUN(a_cancel_before_the_submit_ends_with_ecanceled);
  RUN(a_cancel_in_the_overflow_queue_ends_with_ecanceled_and_the_others_go_on);
  RUN(a_cancel_of_what_is_complete_changes_nothing);
  RUN(inside_a_callback_cancel_is_safe_drop_of_itself_stale_and_drop_of_another_works);
  RUN(a_drop_in_any_state_gives_user_data_back_and_nothing_follows);
  RUN(a_drop_in_the_overflow_queue_gives_user_data_back_and_the_others_go_on);
  RUN(a_dropped_io_holds_its_memory_until_the_kernel_is_done);
  RUN(cancel_then_drop_and_drop_then_cancel_end_the_io_silently);
  RUN(cancel_ends_a_detached_io);
  RUN(cancel_fd_asks_those_on_that_fd_and_not_another_rings);
  RUN(cancel_racing_with_completion_makes_exactly_one_callback);
  return harness_end();
}
