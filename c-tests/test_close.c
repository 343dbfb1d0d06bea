/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Close by the driver: every completion is delivered, what is kept is served, and everything else is refused.
 */
#include "scene.h"

/* What became of the I/Os of a ring that was closed. */
struct results {
  atomic_int calls, cancelled, done, orphaned, other, with_buf;
};

static void note_result(uintptr_t user_data, paluring_completion *completion) {
  struct results *results = (struct results *)user_data;
  atomic_fetch_add(&results->calls, 1);
  if (completion->result == -ECANCELED) atomic_fetch_add(&results->cancelled, 1);
  else if (completion->result == PALURING_ERR_ORPHANED) atomic_fetch_add(&results->orphaned, 1);
  else if (completion->result >= 0) atomic_fetch_add(&results->done, 1);
  else atomic_fetch_add(&results->other, 1);
  if (completion->buf) atomic_fetch_add(&results->with_buf, 1);
}

static void check_refused(paluring_ring *ring) {
  paluring_op op = nop_op(count_call, NULL);
  paluring_completion completion;
  paluring_io io = 1;
  int fd;
  CHECK_EQ(paluring_io_start(ring, &op, &io), PALURING_ERR_CLOSED);
  CHECK_EQ(io, 0);
  CHECK_EQ(paluring_io_start_batch(ring, &op, 1, &io), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_submit(ring), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_wait(ring, 0, 0), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_process(ring, 0), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_drain(ring, FOREVER), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_wake(ring), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_prepare(ring), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_event_fd(ring, &fd), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_cancel_all(ring), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_cancel_fd(ring, 0), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_set_worker_limits(ring, 1, 1), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_close(ring, 0), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_ready(ring), PALURING_ERR_CLOSED); /* nothing is left */
  CHECK_EQ(paluring_ring_reap(ring, 0, 0, &completion, 1), PALURING_ERR_CLOSED);
  CHECK_EQ(stats_of(ring).queued + stats_of(ring).waiting + stats_of(ring).completed + stats_of(ring).dropped, 0);
}

TEST(close_with_64_reads_64_timeouts_and_an_overflow_queue_delivers_all) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int submitted = 0; submitted < 2; submitted++) {
      ROW(HOST_MODE_NAMES[mode]);
      int fds = count_fds();
      struct ends ends = open_pipe();
      struct results results = {0};
      paluring_buf *buf = new_buf(1);
      paluring_ring *ring = ring_open(HOST_MODES[mode], 8, 256);
      CHECK_EQ(paluring_ring_submit(ring), 0); /* bound */
      for (int i = 0; i < 64; i++) {
        start_only(ring, read_op(ends.read, buf, note_result, &results));
        start_only(ring, timeout_op(60 * SECOND, note_result, &results));
      }
      start_only(ring, with_timeout(poll_op(ends.read, note_result, &results), 60 * SECOND));
      for (int i = 0; i < 2; i++) start_only(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_DETACHED));
      if (submitted) CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
      for (int i = 0; i < 20 && submitted; i++) start_only(ring, read_op(ends.read, buf, note_result, &results));
      CHECK(stats_of(ring).queued > 0);
      int64_t began = now_ns();
      CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
      CHECK(now_ns() - began < LONG_ENOUGH);
      CHECK_EQ(results.calls, submitted ? 149 : 129);
      CHECK_EQ(results.cancelled, results.calls);
      CHECK_EQ(results.with_buf, submitted ? 84 : 64);
      CHECK_EQ(paluring_buf_refs(buf), 1);
      DO(check_refused(ring));
      CHECK_EQ(stats_of(ring).total_finished, results.calls + 2);
      paluring_ring_release(ring);
      CHECK_EQ(results.calls, submitted ? 149 : 129);
      paluring_buf_release(buf);
      close_pipe(ends);
      CHECK_EQ(count_fds(), fds);
    }
  }
}

TEST(close_gives_true_results_to_what_is_done) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 256);
  struct results results = {0};
  int fd = temp_file("data", 6400, 1);
  paluring_buf *buf = new_buf(6400);
  for (size_t i = 0; i < 64; i++) {
    paluring_op op;
    paluring_op_read(&op, fd, buf, i * 100, 100, i * 100);
    op.callback = note_result;
    op.user_data = (uintptr_t)&results;
    start_only(ring, op);
  }
  CHECK_EQ(paluring_ring_wait(ring, 64, FOREVER), 64);
  CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  CHECK_EQ(results.calls, 64);
  CHECK_EQ(results.done, 64);
  CHECK(has_pattern(paluring_buf_data(buf), 6400, 0, 1));
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close(fd);
  paluring_ring_release(ring);
}

TEST(close_of_an_unbound_ring_cancels_what_is_queued_and_enters_nothing) {
  for (int released = 0; released < 2; released++) {
    ROW(released ? "by the last release" : "by close");
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 256);
    struct ends ends = open_pipe();
    struct results results = {0};
    paluring_buf *buf = new_buf(1);
    paluring_op op;
    paluring_op_write(&op, ends.write, buf, 0, 1, UINT64_MAX);
    op.callback = note_result;
    op.user_data = (uintptr_t)&results;
    for (int i = 0; i < 100; i++) start_only(ring, op);
    if (released) {
      paluring_ring_release(ring);
    } else {
      CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
      CHECK_EQ(stats_of(ring).total_orphaned, 0);
      paluring_ring_release(ring);
    }
    CHECK_EQ(results.calls, 100);
    CHECK_EQ(results.cancelled, 100);
    CHECK_EQ(drain_pipe(ends), 0);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

TEST(kept_and_queued_completions_are_served_after_close_then_nothing) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  paluring_completion completion, taken[4];
  paluring_io done = start_op(ring, nop_op(NULL, NULL)), lost = start_op(ring, nop_op(NULL, NULL));
  paluring_io waited = start_op(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_MOVE));
  start_only(ring, with_flags(nop_op(NULL, (void *)1), PALURING_OP_QUEUE));
  paluring_io queued = start_op(ring, with_flags(poll_op(ends.read, NULL, (void *)2), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_wait(ring, 3, FOREVER), 3);
  CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_ring_ready(ring), 5);
  CHECK_EQ(paluring_io_poll(ring, done, NULL, 0, &completion), 1);
  CHECK_EQ(completion.result, 0);
  CHECK_EQ(paluring_io_poll(ring, done, NULL, 0, &completion), PALURING_ERR_STALE);
  CHECK_EQ(paluring_io_poll(ring, queued, NULL, 0, &completion), -EINVAL);
  CHECK_EQ(paluring_io_wait(ring, waited, FOREVER, &completion), 0);
  CHECK_EQ(completion.result, -ECANCELED);
  CHECK(completion.buf == buf);
  CHECK_EQ(paluring_io_drop(ring, lost, NULL), 0);
  CHECK_EQ(paluring_ring_ready(ring), 2);
  CHECK_EQ(paluring_ring_reap(ring, 1, FOREVER, taken, 1), 1);
  CHECK_EQ(taken[0].user_data, 1);
  CHECK_EQ(paluring_ring_reap(ring, 1, FOREVER, taken, 4), 1);
  CHECK(taken[0].user_data == 2 && taken[0].result == -ECANCELED);
  DO(check_refused(ring));
  int32_t status = paluring_io_poll(ring, waited, NULL, 0, &completion);
  CHECK(status == PALURING_ERR_CLOSED || status == PALURING_ERR_STALE);
  status = paluring_io_wait(ring, waited, FOREVER, &completion);
  CHECK(status == PALURING_ERR_CLOSED || status == PALURING_ERR_STALE);
  status = paluring_io_drop(ring, waited, NULL);
  CHECK(status == PALURING_ERR_CLOSED || status == PALURING_ERR_STALE);
  paluring_ring_release(ring);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
}

TEST(a_reap_after_close_for_more_than_is_left_returns_what_is_left) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_completion taken[4];
  for (int i = 0; i < 3; i++) start_only(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_ring_reap(ring, 4, FOREVER, taken, 4), 3);
  CHECK_EQ(paluring_ring_reap(ring, 1, FOREVER, taken, 4), PALURING_ERR_CLOSED);
  paluring_ring_release(ring);
}

struct closer {
  paluring_ring *ring;
  struct results results;
  int32_t closed, again, started;
  bool release;
};

static void close_inside(uintptr_t user_data, paluring_completion *completion) {
  struct closer *self = (struct closer *)user_data;
  paluring_op op = nop_op(count_call, NULL);
  note_result((uintptr_t)&self->results, completion);
  self->closed = paluring_ring_close(self->ring, LONG_ENOUGH);
  self->again = paluring_ring_close(self->ring, LONG_ENOUGH);
  self->started = paluring_io_start(self->ring, &op, NULL);
  if (self->release) paluring_ring_release(self->ring);
}

TEST(close_inside_a_callback_returns_0_and_is_done_when_it_returns) {
  static const char *const drivers[] = {"run", "process", "drain", "run, released inside too"};
  for (int i = 0; i < 4; i++) {
    ROW(drivers[i]);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    struct closer self = {.ring = ring_open(PALURING_MODE_OWNER, 0, 0), .closed = 1, .release = i == 3};
    for (int k = 0; k < 10; k++) start_only(self.ring, read_op(ends.read, buf, note_result, &self.results));
    start_only(self.ring, nop_op(close_inside, &self));
    start_only(self.ring, nop_op(note_result, &self.results));
    CHECK_EQ(paluring_ring_wait(self.ring, 2, FOREVER), 2);
    CHECK_EQ(i == 1 ? paluring_ring_process(self.ring, 0) : i == 2 ? paluring_ring_drain(self.ring, FOREVER) : paluring_ring_run(self.ring, 1, FOREVER), PALURING_ERR_CLOSED);
    CHECK_EQ(self.closed, 0);
    CHECK_EQ(self.again, PALURING_ERR_CLOSED);
    CHECK_EQ(self.started, PALURING_ERR_CLOSED);
    CHECK_EQ(self.results.calls, 12);
    CHECK_EQ(self.results.cancelled, 10);
    CHECK_EQ(self.results.done, 2);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    if (i < 3) DO(check_refused(self.ring));
    if (i < 3) paluring_ring_release(self.ring);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

static void start_inside(uintptr_t user_data, paluring_completion *completion) {
  struct closer *self = (struct closer *)user_data;
  paluring_op op = nop_op(count_call, NULL);
  note_result((uintptr_t)&self->results, completion);
  self->started = paluring_io_start(self->ring, &op, NULL);
}

TEST(callbacks_that_close_runs_can_start_nothing) {
  struct closer self = {.ring = ring_open(PALURING_MODE_OWNER, 0, 0)};
  for (int k = 0; k < 10; k++) start_only(self.ring, timeout_op(60 * SECOND, start_inside, &self));
  CHECK_EQ(paluring_ring_submit(self.ring), 10);
  CHECK_EQ(paluring_ring_close(self.ring, FOREVER), 0);
  CHECK_EQ(self.results.cancelled, 10);
  CHECK_EQ(self.started, PALURING_ERR_CLOSED);
  paluring_ring_release(self.ring);
}

TEST(a_retained_ring_is_closed_by_its_last_release_only) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct results results = {0};
  CHECK(paluring_ring_retain(ring) == ring);
  start_only(ring, timeout_op(60 * SECOND, note_result, &results));
  CHECK_EQ(paluring_ring_submit(ring), 1);
  paluring_ring_release(ring);
  CHECK_EQ(results.calls, 0);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  paluring_ring_release(ring);
  CHECK_EQ(results.calls, 1);
  CHECK_EQ(results.cancelled + results.orphaned, 1);
}

TEST(close_ends_descriptors_that_nobody_got) {
  int fds = count_fds();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_op op;
  paluring_op_openat(&op, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
  CHECK_EQ(paluring_io_drop(ring, start_op(ring, op), NULL), 0);
  start_only(ring, with_flags(op, PALURING_OP_DETACHED));
  paluring_io kept = start_op(ring, op);
  start_only(ring, with_flags(op, PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_wait(ring, 2, FOREVER), 2);
  CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
  CHECK_EQ(paluring_io_poll(ring, kept, NULL, 0, NULL), 1); /* discards it */
  paluring_ring_release(ring); /* with the queued one */
  CHECK_EQ(count_fds(), fds);
}

TEST(open_and_close_500_times_with_ios_in_flight_leaks_no_descriptor) {
  struct results results = {0};
  int fds = count_fds();
  for (int i = 0; i < 500; i++) {
    paluring_ring *ring = ring_open(HOST_MODES[i % 2], 8, 0);
    for (int k = 0; k < 4; k++) start_only(ring, timeout_op(60 * SECOND, note_result, &results));
    if (i % 3) CHECK(paluring_ring_submit(ring) > 0);
    CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
    paluring_ring_release(ring);
  }
  CHECK_EQ(results.cancelled, 2000);
  CHECK_EQ(count_fds(), fds);
}

/* ---- close while another thread waits ---- */

static struct {
  paluring_ring *ring;
  atomic_int waiting;
} closing;

static int32_t sleep_in_run(void) { return paluring_ring_run(closing.ring, 1, FOREVER); }
static int32_t sleep_in_wait(void) { return paluring_ring_wait(closing.ring, 1, FOREVER); }
static int32_t sleep_in_reap(void) {
  paluring_completion none;
  return paluring_ring_reap(closing.ring, 1, FOREVER, &none, 1);
}

static const struct sleeper {
  const char *name;
  int32_t (*sleep)(void);
  uint32_t mode;
} sleepers[] = {
    {"run, SHARED", sleep_in_run, PALURING_MODE_SHARED}, {"wait, SHARED", sleep_in_wait, PALURING_MODE_SHARED},
    {"reap, SHARED", sleep_in_reap, PALURING_MODE_SHARED}, {"reap, BACKGROUND", sleep_in_reap, PALURING_MODE_BACKGROUND},
};

static void *sleep_until_closed(void *argument) {
  int32_t status;
  atomic_fetch_add(&closing.waiting, 1);
  while ((status = ((const struct sleeper *)argument)->sleep()) == -EBUSY) poll(NULL, 0, 1); /* another one drives */
  EXPECT_EQ(status, PALURING_ERR_CLOSED);
  return NULL;
}

TEST(each_thread_that_waits_when_another_closes_returns_closed) {
  for (size_t i = 0; i < COUNT_OF(sleepers); i++) {
    ROW(sleepers[i].name);
    for (int try = 0; try < tries(200) && !has_failed(); try++) {
      pthread_t threads[3];
      struct ends ends = open_pipe();
      paluring_buf *buf = new_buf(1);
      atomic_int calls = 0;
      atomic_store(&closing.waiting, 0);
      closing.ring = ring_open(sleepers[i].mode, 8, 0);
      start_only(closing.ring, read_op(ends.read, buf, count_call, &calls)); /* the close delivers it, and no waiter does */
      for (size_t k = 0; k < COUNT_OF(threads); k++) threads[k] = start_thread(sleep_until_closed, (void *)(uintptr_t)&sleepers[i]);
      await_count(&closing.waiting, try % 4); /* early, and when they have begun */
      for (int k = 0; k < try % 20; k++) sched_yield();
      CHECK_EQ(paluring_ring_close(closing.ring, LONG_ENOUGH), 0);
      for (size_t k = 0; k < COUNT_OF(threads); k++) pthread_join(threads[k], NULL);
      CHECK_EQ(calls, 1);
      paluring_ring_release(closing.ring);
      CHECK_EQ(paluring_buf_refs(buf), 1);
      paluring_buf_release(buf);
      close_pipe(ends);
    }
  }
}

int main(void) {
  RUN(close_with_64_reads_64_timeouts_and_an_overflow_queue_delivers_all);
  RUN(close_gives_true_results_to_what_is_done);
  RUN(close_of_an_unbound_ring_cancels_what_is_queued_and_enters_nothing);
  RUN(kept_and_queued_completions_are_served_after_close_then_nothing);
  RUN(a_reap_after_close_for_more_than_is_left_returns_what_is_left);
  RUN(close_inside_a_callback_returns_0_and_is_done_when_it_returns);
  RUN(callbacks_that_close_runs_can_start_nothing);
  RUN(close_ends_descriptors_that_nobody_got);
  RUN(open_and_close_500_times_with_ios_in_flight_leaks_no_descriptor);
  RUN(each_thread_that_waits_when_another_closes_returns_closed);
  RUN(a_retained_ring_is_closed_by_its_last_release_only); /* last: an orphan's descriptor goes a little later */
  return harness_end();
}
