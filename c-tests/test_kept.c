/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Kept I/Os: poll with its ready function, and wait.
 */
#include "scene.h"

struct told {
  atomic_int calls;
  _Atomic int32_t status;
  pthread_t thread;
};

static void tell(uintptr_t user_data, int32_t status) {
  struct told *told = (struct told *)user_data;
  told->status = status;
  told->thread = pthread_self();
  atomic_fetch_add(&told->calls, 1);
}

static int32_t poll_io(paluring_ring *ring, paluring_io io, struct told *told, paluring_completion *out) {
  return paluring_io_poll(ring, io, told ? tell : NULL, (uintptr_t)told, out);
}

/* ---- poll ---- */

TEST(poll_of_a_pending_io_tells_the_ready_function_once) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_pipe();
  struct told told = {.status = 1};
  paluring_buf *buf = new_buf(1);
  paluring_completion completion, zero = {0};
  paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
  memset(&completion, 0xff, sizeof completion);
  CHECK_EQ(poll_io(ring, io, &told, &completion), 0);
  CHECK(memcmp(&completion, &zero, sizeof zero) == 0);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(told.calls, 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
  CHECK_EQ(told.calls, 0); /* wait delivers nothing */
  CHECK_EQ(paluring_ring_process(ring, 0), 0); /* counts completion callbacks */
  CHECK_EQ(told.calls, 1);
  CHECK_EQ(told.status, 0);
  CHECK_EQ(poll_io(ring, io, &told, &completion), 1);
  CHECK_EQ(completion.result, 1);
  CHECK_EQ(poll_io(ring, io, &told, &completion), PALURING_ERR_STALE);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(told.calls, 1);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

TEST(each_poll_that_returned_0_makes_exactly_one_ready_call) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_pipe();
  struct told told[5] = {0}, after = {0};
  paluring_buf *buf = new_buf(1);
  paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
  for (int i = 0; i < 5; i++) {
    CHECK_EQ(poll_io(ring, io, &told[i], NULL), 0);
    for (int k = 0; k <= i; k++) CHECK_EQ(told[k].calls, 0); /* never inside poll */
  }
  CHECK_EQ(paluring_ring_process(ring, 0), 0);
  for (int i = 0; i < 4; i++) {
    CHECK_EQ(told[i].calls, 1);
    CHECK_EQ(told[i].status, PALURING_ERR_DROPPED);
  }
  CHECK_EQ(told[4].calls, 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 0);
  CHECK_EQ(told[4].calls, 1);
  CHECK_EQ(told[4].status, 0);
  CHECK_EQ(poll_io(ring, io, &after, NULL), 1); /* makes no call of its own */
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(after.calls, 0);
  for (int i = 0; i < 5; i++) CHECK_EQ(told[i].calls, 1);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

TEST(a_poll_without_function_replaces_the_function) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct told told = {0};
  paluring_io io = start_op(ring, timeout_op(60 * SECOND, NULL, NULL));
  CHECK_EQ(poll_io(ring, io, &told, NULL), 0);
  CHECK_EQ(poll_io(ring, io, NULL, NULL), 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 0);
  CHECK_EQ(told.calls, 1);
  CHECK_EQ(told.status, PALURING_ERR_DROPPED);
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  ring_done(ring);
  CHECK_EQ(told.calls, 1);
}

TEST(a_drop_tells_the_ready_function_in_process_and_not_inside) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct told told = {0};
  uintptr_t user_data = 0;
  paluring_io io = start_op(ring, timeout_op(60 * SECOND, NULL, &told));
  CHECK_EQ(poll_io(ring, io, &told, NULL), 0);
  CHECK_EQ(paluring_io_drop(ring, io, &user_data), 0);
  CHECK(user_data == (uintptr_t)&told);
  CHECK_EQ(told.calls, 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 0);
  CHECK_EQ(told.calls, 1);
  CHECK_EQ(told.status, PALURING_ERR_DROPPED);
  ring_done(ring);
  CHECK_EQ(told.calls, 1);
}

TEST(a_result_taken_before_its_ready_call_still_makes_that_call) {
  for (int by_poll = 0; by_poll < 2; by_poll++) {
    ROW(by_poll ? "by poll" : "by wait");
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
    struct told told = {.status = 1};
    paluring_io io = start_op(ring, nop_op(NULL, NULL));
    CHECK_EQ(poll_io(ring, io, &told, NULL), 0);
    CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    if (by_poll) CHECK_EQ(poll_io(ring, io, NULL, NULL), 1);
    else CHECK_EQ(paluring_io_wait(ring, io, FOREVER, NULL), 0);
    CHECK_EQ(told.calls, 0);
    CHECK_EQ(paluring_ring_process(ring, 0), 0);
    CHECK_EQ(told.calls, 1);
    CHECK(told.status == 0 || told.status == PALURING_ERR_DROPPED);
    ring_done(ring);
    CHECK_EQ(told.calls, 1);
  }
}

static void *poll_elsewhere(void *argument) {
  void **arguments = argument;
  EXPECT_EQ(poll_io(arguments[0], *(paluring_io *)arguments[1], arguments[2], NULL), 0);
  return NULL;
}

TEST(ready_functions_run_on_the_driver_in_process_run_drain_and_close) {
  static const char *const drivers[] = {"process", "run", "drain", "close"};
  for (int i = 0; i < 4; i++) {
    ROW(drivers[i]);
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
    struct told told = {.status = 1};
    paluring_io io = start_op(ring, nop_op(NULL, NULL));
    pthread_join(start_thread(poll_elsewhere, (void *[]){ring, &io, &told}), NULL);
    CHECK_EQ(told.calls, 0);
    if (i == 0) CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    if (i == 0) CHECK_EQ(paluring_ring_process(ring, 0), 0);
    if (i == 1) CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 0);
    if (i == 2) CHECK_EQ(paluring_ring_drain(ring, FOREVER), 0);
    if (i == 3) CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
    CHECK_EQ(told.calls, 1);
    CHECK_EQ(told.status, 0);
    CHECK(pthread_equal(told.thread, pthread_self()));
    CHECK_EQ(poll_io(ring, io, NULL, NULL), 1);
    if (i < 3) CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
    CHECK_EQ(told.calls, 1);
    paluring_ring_release(ring);
  }
}

struct taker {
  paluring_ring *ring;
  paluring_io io;
  int32_t polled, started, driven;
  int calls;
};

static void poll_in_ready(uintptr_t user_data, int32_t status) {
  struct taker *self = (struct taker *)user_data;
  paluring_completion completion;
  self->calls++;
  self->polled = status ? status : paluring_io_poll(self->ring, self->io, NULL, 0, &completion);
  self->driven = paluring_ring_run(self->ring, 0, 0);
  paluring_op op = nop_op(NULL, NULL);
  op.flags = PALURING_OP_DETACHED;
  self->started = paluring_io_start(self->ring, &op, NULL);
}

TEST(a_ready_function_may_poll_and_start_but_not_drive) {
  struct taker self = {.ring = ring_open(PALURING_MODE_OWNER, 0, 0)};
  self.io = start_op(self.ring, nop_op(NULL, NULL));
  CHECK_EQ(paluring_io_poll(self.ring, self.io, poll_in_ready, (uintptr_t)&self, NULL), 0);
  CHECK_EQ(paluring_ring_run(self.ring, 1, FOREVER), 0);
  CHECK_EQ(self.calls, 1);
  CHECK_EQ(self.polled, 1);
  CHECK_EQ(self.started, 0);
  CHECK_EQ(self.driven, -EBUSY);
  ring_done(self.ring);
}

TEST(poll_and_wait_of_what_is_not_kept_are_refused) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  struct told told = {0};
  paluring_io ios[3] = {start_op(ring, nop_op(count_call, &calls)), start_op(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE)),
                        start_op(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_DETACHED))};
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(poll_io(ring, ios[i], &told, NULL), -EINVAL);
    CHECK_EQ(paluring_io_wait(ring, ios[i], 0, NULL), -EINVAL);
  }
  CHECK_EQ(paluring_ring_drain(ring, FOREVER), 0);
  CHECK_EQ(told.calls, 0);
  CHECK_EQ(calls, 1);
  ring_done(ring);
}

/* ---- no lost notification ---- */

struct notified {
  paluring_ring *ring;
  atomic_int rounds;
  int pending;
};

#define RACES tries(8000)

static void *start_and_poll(void *argument) {
  struct notified *self = argument;
  for (int i = 0; i < RACES; i++) {
    struct told told = {.status = 1};
    paluring_completion completion = {0};
    paluring_io io = start_op(self->ring, with_flags(nop_op(NULL, NULL), PALURING_OP_SUBMIT));
    int32_t status = poll_io(self->ring, io, &told, &completion);
    if (status == 0) {
      self->pending++;
      if (!await_count(&told.calls, 1)) break;
      EXPECT_EQ(told.status, 0);
      status = poll_io(self->ring, io, NULL, &completion);
    }
    if (!EXPECT_EQ(status, 1)) break;
    EXPECT(completion.io == io);
    atomic_fetch_add(&self->rounds, 1);
  }
  atomic_store(&self->rounds, RACES);
  paluring_ring_wake(self->ring);
  return NULL;
}

TEST(poll_racing_with_completion_loses_no_notification) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    static struct notified self;
    self = (struct notified){.ring = ring_open(HOST_MODES[mode], 8, 0)};
    pthread_t thread = start_thread(start_and_poll, &self);
    while (atomic_load(&self.rounds) < RACES) KEEP(paluring_ring_run(self.ring, 1, LONG_ENOUGH) >= 0);
    DO(pthread_join(thread, NULL));
    CHECK(self.pending > 0 || RACES < 8000);
    ring_done(self.ring);
  }
}

/* ---- wait ---- */

TEST(wait_ends_with_etime_and_leaves_the_io_in_flight) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  paluring_completion completion, zero = {0};
  paluring_io io = start_op(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_MOVE));
  static const int64_t limits[] = {0, 1, 1000, MS, 20 * MS};
  for (size_t i = 0; i < COUNT_OF(limits); i++) {
    memset(&completion, 0xff, sizeof completion);
    int64_t began = now_ns();
    CHECK_EQ(paluring_io_wait(ring, io, limits[i], &completion), -ETIME);
    CHECK(now_ns() - began >= limits[i]);
    CHECK(now_ns() - began < LONG_ENOUGH);
    CHECK(memcmp(&completion, &zero, sizeof zero) == 0);
  }
  CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), 0);
  put_byte(ends);
  CHECK_EQ(paluring_io_wait(ring, io, FOREVER, &completion), 0);
  CHECK_EQ(completion.result, 1);
  CHECK(completion.buf == buf);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

TEST(wait_with_0_takes_what_is_complete) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_io io = start_op(ring, nop_op(NULL, NULL));
  CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
  CHECK_EQ(paluring_io_wait(ring, io, 0, NULL), 0);
  CHECK_EQ(paluring_io_wait(ring, io, 0, NULL), PALURING_ERR_STALE);
  ring_done(ring);
}

TEST(wait_takes_in_any_order_and_keeps_the_others) {
  enum { COUNT = 100 };
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, COUNT);
  paluring_io ios[COUNT];
  for (size_t i = 0; i < COUNT; i++) ios[i] = start_op(ring, nop_op(NULL, (void *)i));
  for (size_t i = 0; i < COUNT; i++) {
    size_t pick = i % 2 ? i / 2 : COUNT - 1 - i / 2;
    paluring_completion completion;
    CHECK_EQ(paluring_io_wait(ring, ios[pick], FOREVER, &completion), 0);
    CHECK_EQ(completion.user_data, pick);
  }
  ring_done(ring);
}

TEST(wait_drives_but_runs_no_callback) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  struct told told = {0};
  for (int i = 0; i < 10; i++) start_op(ring, nop_op(count_call, &calls));
  paluring_io other = start_op(ring, nop_op(NULL, NULL)), io = start_op(ring, nop_op(NULL, NULL));
  CHECK_EQ(poll_io(ring, other, &told, NULL), 0);
  CHECK_EQ(paluring_io_wait(ring, io, FOREVER, NULL), 0);
  CHECK_EQ(calls, 0);
  CHECK_EQ(told.calls, 0);
  CHECK_EQ(paluring_ring_ready(ring), 11);
  CHECK_EQ(paluring_ring_process(ring, 0), 10);
  CHECK_EQ(told.calls, 1);
  CHECK_EQ(paluring_io_wait(ring, other, 0, NULL), 0);
  ring_done(ring);
}

TEST(a_signal_ends_wait_with_eintr_and_the_io_is_still_in_flight) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    struct signaller signaller;
    paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
    signals_begin(&signaller);
    for (int i = 0; i < 5; i++) EXPECT_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, NULL), -EINTR);
    signals_end(&signaller);
    put_byte(ends);
    CHECK_EQ(paluring_io_wait(ring, io, FOREVER, NULL), 0);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
    ring_done(ring);
  }
}

static void wait_in_callback(uintptr_t user_data, paluring_completion *completion) {
  struct taker *self = (struct taker *)user_data;
  (void)completion;
  self->calls++;
  self->polled = paluring_io_poll(self->ring, self->io, NULL, 0, NULL);
  self->driven = paluring_io_wait(self->ring, self->io, FOREVER, NULL);
}

TEST(wait_inside_a_callback_is_busy) {
  struct taker self = {.ring = ring_open(PALURING_MODE_OWNER, 0, 0)};
  self.io = start_op(self.ring, timeout_op(60 * SECOND, NULL, NULL));
  start_only(self.ring, nop_op(wait_in_callback, &self));
  CHECK_EQ(paluring_ring_run(self.ring, 1, FOREVER), 1);
  CHECK_EQ(self.calls, 1);
  CHECK_EQ(self.polled, 0);
  CHECK_EQ(self.driven, -EBUSY);
  CHECK_EQ(paluring_io_drop(self.ring, self.io, NULL), 0);
  ring_done(self.ring);
}

int main(void) {
  RUN(poll_of_a_pending_io_tells_the_ready_function_once);
  RUN(each_poll_that_returned_0_makes_exactly_one_ready_call);
  RUN(a_poll_without_function_replaces_the_function);
  RUN(a_drop_tells_the_ready_function_in_process_and_not_inside);
  RUN(a_result_taken_before_its_ready_call_still_makes_that_call);
  RUN(ready_functions_run_on_the_driver_in_process_run_drain_and_close);
  RUN(a_ready_function_may_poll_and_start_but_not_drive);
  RUN(poll_and_wait_of_what_is_not_kept_are_refused);
  RUN(poll_racing_with_completion_loses_no_notification);
  RUN(wait_ends_with_etime_and_leaves_the_io_in_flight);
  RUN(wait_with_0_takes_what_is_complete);
  RUN(wait_takes_in_any_order_and_keeps_the_others);
  RUN(wait_drives_but_runs_no_callback);
  RUN(a_signal_ends_wait_with_eintr_and_the_io_is_still_in_flight);
  RUN(wait_inside_a_callback_is_busy);
  return harness_end();
}
