/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Starting I/Os: the four ways in which their results are delivered, batches, limits, handles.
 */
#include "scene.h"

/* ---- who gets the result ---- */

TEST(the_callback_gets_the_completion_and_a_lent_buffer) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = temp_file("data", 1000, 1);
  paluring_buf *buf = new_buf(600);
  struct seen seen = {0};
  paluring_io io = start_op(ring, read_op(fd, buf, note_completion, &seen));
  CHECK_EQ(paluring_buf_refs(buf), 2);
  CHECK_EQ(seen.calls, 0);
  CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 1);
  CHECK_EQ(seen.calls, 1);
  CHECK(seen.last.io == io && seen.last.user_data == (uintptr_t)&seen && seen.last.buf == buf);
  CHECK_EQ(seen.last.result, 600);
  CHECK_EQ(seen.last.flags, 0);
  CHECK_EQ(seen.last.extra, 0);
  CHECK_EQ(seen.last.opcode, IORING_OP_READ);
  CHECK(has_pattern(paluring_buf_data(buf), 600, 0, 1));
  CHECK_EQ(paluring_buf_refs(buf), 1);
  CHECK_EQ(paluring_io_cancel(ring, io), PALURING_ERR_STALE);
  paluring_buf_release(buf);
  close(fd);
  ring_done(ring);
}

TEST(a_kept_io_is_taken_by_poll_or_by_wait) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = temp_file("data", 1000, 2);
  paluring_buf *buf = new_buf(1000);
  for (int by_poll = 0; by_poll < 2; by_poll++) {
    ROW(by_poll ? "poll" : "wait");
    paluring_completion completion;
    paluring_op op;
    paluring_op_read(&op, fd, buf, 0, 1000, 0);
    op.user_data = 77;
    paluring_io io = start_op(ring, op);
    if (by_poll) CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    CHECK_EQ(paluring_ring_process(ring, 0), 0);
    memset(&completion, 0xff, sizeof completion);
    if (by_poll) CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), 1);
    else CHECK_EQ(paluring_io_wait(ring, io, FOREVER, &completion), 0);
    CHECK(completion.io == io && completion.user_data == 77 && completion.buf == NULL);
    CHECK_EQ(completion.result, 1000);
    CHECK_EQ(completion.flags, 0);
    CHECK_EQ(completion.opcode, IORING_OP_READ);
    CHECK(has_pattern(paluring_buf_data(buf), 1000, 0, 2));
    CHECK_EQ(paluring_buf_refs(buf), 1);
    CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), PALURING_ERR_STALE);
    CHECK_EQ(paluring_io_wait(ring, io, 0, &completion), PALURING_ERR_STALE);
    CHECK_EQ(completion.io, 0);
  }
  paluring_buf_release(buf);
  close(fd);
  ring_done(ring);
}

TEST(reap_takes_queue_completions_with_and_without_a_handle) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_op op = with_flags(nop_op(NULL, (void *)1), PALURING_OP_QUEUE);
  paluring_completion taken[4];
  start_only(ring, op);
  op.user_data = 2;
  paluring_io io = start_op(ring, op);
  CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, taken), -EINVAL);
  CHECK_EQ(paluring_io_wait(ring, io, 0, taken), -EINVAL);
  CHECK_EQ(paluring_ring_reap(ring, 2, FOREVER, taken, 4), 2);
  CHECK(taken[0].user_data == 1 && taken[1].user_data == 2 && taken[1].io == io);
  CHECK(taken[0].io != 0 && taken[0].io != io);
  CHECK(taken[0].result == 0 && taken[0].flags == 0 && taken[0].opcode == IORING_OP_NOP && taken[0].buf == NULL);
  CHECK_EQ(paluring_io_cancel(ring, io), PALURING_ERR_STALE);
  CHECK_EQ(paluring_ring_reap(ring, 0, 0, taken, 4), 0);
  ring_done(ring);
}

TEST(a_detached_io_tells_nobody_and_a_failing_one_is_counted) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = temp_file("data", 0, 0);
  paluring_buf *buf = new_buf(500);
  paluring_completion completion;
  fill_pattern(paluring_buf_data(buf), 500, 3);
  paluring_op op;
  paluring_op_write(&op, fd, buf, 0, 500, 0);
  op.flags = PALURING_OP_DETACHED;
  start_only(ring, op);
  paluring_op_write(&op, -1, buf, 0, 500, 0);
  op.flags = PALURING_OP_DETACHED;
  paluring_io io = start_op(ring, op);
  CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), -EINVAL);
  CHECK_EQ(stats_of(ring).dropped, 2);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_ring_ready(ring), 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  uint8_t bytes[501];
  CHECK_EQ(pread(fd, bytes, sizeof bytes, 0), 500);
  CHECK(has_pattern(bytes, 500, 0, 3));
  paluring_stats stats = stats_of(ring);
  CHECK_EQ(stats.total_detached_failed, 1);
  CHECK_EQ(stats.total_finished, 2);
  CHECK_EQ(stats.dropped, 0);
  paluring_buf_release(buf);
  close(fd);
  ring_done(ring);
}

TEST(user_data_comes_back_as_it_was_by_every_way) {
  static const uintptr_t values[] = {0, 1, UINTPTR_MAX, (uintptr_t)1 << (8 * sizeof(uintptr_t) - 1)};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (size_t i = 0; i < COUNT_OF(values); i++) {
    paluring_op op = nop_op(NULL, (void *)values[i]);
    paluring_completion completion;
    paluring_io io = start_op(ring, op);
    CHECK_EQ(paluring_io_wait(ring, io, FOREVER, &completion), 0);
    CHECK(completion.user_data == values[i]);
    start_only(ring, with_flags(op, PALURING_OP_QUEUE));
    CHECK_EQ(paluring_ring_reap(ring, 1, FOREVER, &completion, 1), 1);
    CHECK(completion.user_data == values[i]);
    uintptr_t back = ~values[i];
    CHECK_EQ(paluring_io_drop(ring, start_op(ring, op), &back), 0);
    CHECK(back == values[i]);
  }
  ring_done(ring);
}

/* ---- the struct is a template ---- */

TEST(op_struct_and_path_may_go_as_soon_as_start_returns) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  char path[PATH_SIZE];
  paluring_io ios[64];
  close(temp_file("data", 10, 1));
  for (size_t i = 0; i < COUNT_OF(ios); i++) {
    paluring_op *op = malloc(sizeof *op);
    CHECK(op != NULL);
    paluring_op_openat(op, AT_FDCWD, temp_path(path, "data"), O_RDONLY | O_CLOEXEC, 0);
    CHECK_EQ(paluring_io_start(ring, op, &ios[i]), 0);
    memset(op, 0xff, sizeof *op);
    memset(path, 'x', sizeof path - 1);
    free(op);
  }
  for (size_t i = 0; i < COUNT_OF(ios); i++) {
    paluring_completion completion;
    CHECK_EQ(paluring_io_wait(ring, ios[i], FOREVER, &completion), 0);
    CHECK(completion.result >= 0);
    close(completion.result);
  }
  ring_done(ring);
}

TEST(submit_flag_enters_at_once_and_async_gives_the_same_result) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_socket();
  paluring_buf *buf = new_buf(1);
  paluring_op op;
  CHECK_EQ(paluring_ring_submit(ring), 0); /* binds it: a start can't */
  paluring_op_write(&op, ends.write, buf, 0, 1, UINT64_MAX);
  paluring_io io = start_op(ring, op);
  CHECK_EQ(drain_pipe(ends), 0);
  paluring_io at_once = start_op(ring, with_flags(op, PALURING_OP_SUBMIT));
  CHECK_EQ(drain_pipe(ends), 2);
  CHECK_EQ(do_op(ring, &op, NULL), 1);
  op.flags = PALURING_OP_ASYNC;
  CHECK_EQ(do_op(ring, &op, NULL), 1);
  CHECK_EQ(drain_pipe(ends), 2);
  CHECK_EQ(paluring_io_wait(ring, at_once, 0, NULL), 0);
  CHECK_EQ(paluring_io_wait(ring, io, 0, NULL), 0);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(ring);
}

/* ---- batches ---- */

static int order[200];
static int ordered;

static void note_order(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  order[ordered++] = (int)user_data;
}

TEST(start_batch_starts_all_in_order) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_op ops[100];
  paluring_io ios[100];
  for (size_t i = 0; i < 100; i++) ops[i] = nop_op(note_order, (void *)i);
  CHECK_EQ(paluring_io_start_batch(ring, ops, 100, ios), 100);
  CHECK_EQ(paluring_io_start_batch(ring, ops, 100, NULL), 100);
  ordered = 0;
  CHECK_EQ(paluring_ring_run(ring, 200, FOREVER), 200);
  for (int i = 0; i < 200; i++) CHECK_EQ(order[i], i % 100);
  for (int i = 0; i < 100; i++) CHECK(ios[i] != 0 && (i == 0 || ios[i] != ios[i - 1]));
  ring_done(ring);
}

TEST(start_batch_stops_at_the_first_failure_and_tells_how_many) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 8);
  atomic_int calls = 0;
  paluring_op ops[10];
  paluring_io ios[10];
  for (int i = 0; i < 10; i++) ops[i] = nop_op(count_call, &calls);
  memset(&ops[3], 0, sizeof ops[3]);
  memset(ios, 0xff, sizeof ios);
  CHECK_EQ(paluring_io_start_batch(ring, ops, 10, ios), 3);
  for (int i = 0; i < 10; i++) CHECK((ios[i] != 0) == (i < 3));
  memset(ios, 0xff, sizeof ios);
  CHECK_EQ(paluring_io_start_batch(ring, ops + 3, 7, ios), -EINVAL);
  for (int i = 0; i < 7; i++) CHECK(ios[i] == 0);
  CHECK_EQ(paluring_io_start_batch(ring, ops + 4, 6, ios), 5); /* 3 + 5 = max_in_flight */
  CHECK(ios[4] != 0 && ios[5] == 0);
  CHECK_EQ(paluring_io_start_batch(ring, ops + 4, 6, ios), -EAGAIN);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(calls, 8);
  ring_done(ring);
}

/* ---- max_in_flight ---- */

TEST(max_in_flight_is_exact_and_a_refused_start_consumes_nothing) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 8, 16);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    struct seen seen = {0};
    paluring_op op = read_op(ends.read, buf, note_completion, &seen);
    for (int i = 0; i < 16; i++) start_op(ring, op);
    for (int i = 0; i < 4; i++) {
      paluring_io io = 5;
      op.flags = i % 2 ? PALURING_OP_MOVE : 0;
      CHECK_EQ(paluring_io_start(ring, &op, &io), -EAGAIN);
      CHECK_EQ(io, 0);
      CHECK_EQ(paluring_buf_refs(buf), 17);
    }
    CHECK_EQ(stats_of(ring).total_again, 4);
    put_byte(ends);
    CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    op.flags = 0;
    CHECK_EQ(paluring_io_start(ring, &op, NULL), -EAGAIN); /* counts until it is delivered */
    CHECK_EQ(paluring_ring_process(ring, 0), 1);
    CHECK_EQ(paluring_io_start(ring, &op, NULL), 0);
    CHECK_EQ(paluring_io_start(ring, &op, NULL), -EAGAIN);
    CHECK_EQ(paluring_ring_cancel_all(ring), 16);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(seen.calls, 17);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    CHECK_EQ(stats_of(ring).high_in_flight, 16);
    paluring_buf_release(buf);
    close_pipe(ends);
    ring_done(ring);
  }
}

struct restart {
  paluring_ring *ring;
  paluring_op op;
  int left;
  atomic_int refused;
  atomic_bool stop;
  int second_accepted;
};

static void start_again(uintptr_t user_data, paluring_completion *completion) {
  struct restart *self = (struct restart *)user_data;
  (void)completion;
  if (self->left-- <= 0) return;
  if (paluring_io_start(self->ring, &self->op, NULL) != 0) atomic_fetch_add(&self->refused, 1);
}

static void *start_greedily(void *argument) {
  struct restart *self = argument;
  paluring_op op;
  paluring_op_nop(&op);
  op.flags = PALURING_OP_DETACHED;
  while (!atomic_load(&self->stop))
    if (paluring_io_start(self->ring, &op, NULL) < 0) sched_yield();
  return NULL;
}

TEST(one_start_from_a_terminal_callback_is_never_refused) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    static struct restart self;
    self = (struct restart){.ring = ring_open(HOST_MODES[mode], 8, 4), .left = 20000};
    self.op = nop_op(start_again, &self);
    for (int i = 0; i < 3; i++) start_only(self.ring, self.op);
    pthread_t greedy = start_thread(start_greedily, &self); /* takes every slot that it can get */
    while (self.left > 0 && !self.refused) KEEP(paluring_ring_run(self.ring, 1, SECOND) >= 0);
    atomic_store(&self.stop, true);
    DO(pthread_join(greedy, NULL));
    CHECK_EQ(self.refused, 0);
    ring_done(self.ring);
  }
}

static void start_two(uintptr_t user_data, paluring_completion *completion) {
  struct restart *self = (struct restart *)user_data;
  (void)completion;
  if (self->left-- <= 0) return;
  if (paluring_io_start(self->ring, &self->op, NULL) != 0) atomic_fetch_add(&self->refused, 1);
  if (paluring_io_start(self->ring, &self->op, NULL) != -EAGAIN) self->second_accepted++;
}

TEST(a_second_start_from_a_terminal_callback_of_a_full_ring_is_refused) {
  struct restart self = {.ring = ring_open(PALURING_MODE_OWNER, 8, 1), .left = 100};
  self.op = nop_op(start_two, &self);
  start_only(self.ring, self.op);
  CHECK_EQ(paluring_ring_drain(self.ring, LONG_ENOUGH), 0);
  CHECK_EQ(self.left, -1);
  CHECK_EQ(self.refused, 0);
  CHECK_EQ(self.second_accepted, 0);
  ring_done(self.ring);
}

/* ---- generations ---- */

TEST(a_reused_slot_never_gives_an_old_handle_again) {
  enum { OLD = 16 };
  const int rounds = tries(1000000) / OLD * OLD;
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 1);
  paluring_io old[OLD] = {0}, last = 0;
  paluring_op op = nop_op(NULL, (void *)9);
  paluring_completion completion;
  for (int i = 0; i < rounds; i++) {
    paluring_io io = 0;
    CHECK(paluring_io_start(ring, &op, &io) == 0 && io != 0 && io != last);
    if (i % (rounds / OLD) == 0) {
      old[i / (rounds / OLD)] = io;
      for (int k = 0; k < i / (rounds / OLD); k++) {
        uintptr_t user_data = 5;
        CHECK(old[k] != io);
        CHECK_EQ(paluring_io_poll(ring, old[k], NULL, 0, &completion), PALURING_ERR_STALE);
        CHECK_EQ(paluring_io_wait(ring, old[k], 0, &completion), PALURING_ERR_STALE);
        CHECK_EQ(paluring_io_cancel(ring, old[k]), PALURING_ERR_STALE);
        CHECK_EQ(paluring_io_set_timeout(ring, old[k], 1), PALURING_ERR_STALE);
        CHECK_EQ(paluring_io_drop(ring, old[k], &user_data), PALURING_ERR_STALE);
        CHECK_EQ(user_data, 0);
      }
    }
    CHECK(paluring_io_wait(ring, io, FOREVER, &completion) == 0 && completion.io == io && completion.result == 0 && completion.flags == 0);
    last = io;
  }
  ring_done(ring);
}

TEST(handles_of_another_ring_are_stale) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0), *other = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int i = 0; i < 100; i++) {
    paluring_io io = start_op(ring, nop_op(NULL, NULL)), strange = start_op(other, nop_op(NULL, NULL));
    CHECK(io != strange);
    CHECK_EQ(paluring_io_poll(ring, strange, NULL, 0, NULL), PALURING_ERR_STALE);
    CHECK_EQ(paluring_io_cancel(ring, strange), PALURING_ERR_STALE);
    CHECK_EQ(paluring_io_drop(ring, strange, NULL), PALURING_ERR_STALE);
    CHECK_EQ(paluring_io_wait(other, io, 0, NULL), PALURING_ERR_STALE);
    CHECK_EQ(paluring_io_wait(ring, io, FOREVER, NULL), 0);
    CHECK_EQ(paluring_io_wait(other, strange, FOREVER, NULL), 0);
  }
  ring_done(ring);
  ring_done(other);
}

int main(void) {
  RUN(the_callback_gets_the_completion_and_a_lent_buffer);
  RUN(a_kept_io_is_taken_by_poll_or_by_wait);
  RUN(reap_takes_queue_completions_with_and_without_a_handle);
  RUN(a_detached_io_tells_nobody_and_a_failing_one_is_counted);
  RUN(user_data_comes_back_as_it_was_by_every_way);
  RUN(op_struct_and_path_may_go_as_soon_as_start_returns);
  RUN(submit_flag_enters_at_once_and_async_gives_the_same_result);
  RUN(start_batch_starts_all_in_order);
  RUN(start_batch_stops_at_the_first_failure_and_tells_how_many);
  RUN(max_in_flight_is_exact_and_a_refused_start_consumes_nothing);
  RUN(one_start_from_a_terminal_callback_is_never_refused);
  RUN(a_second_start_from_a_terminal_callback_of_a_full_ring_is_refused);
  RUN(a_reused_slot_never_gives_an_old_handle_again);
  RUN(handles_of_another_ring_are_stale);
  return harness_end();
}
