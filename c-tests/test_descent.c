/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Each behaviour of the Rust ring that this library descends from, by the name it has here: one test each.
 */
#include "scene.h"

/* ---- memory of I/Os ---- */

static paluring_ring *ring;
static struct ends ends;
static char memory[4096];

static void *issue_and_exit(void *released) {
  paluring_buf *buf = adopt_counted(memory, 1, released);
  start_only(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_DETACHED));
  paluring_buf_release(buf);
  return NULL;
}

TEST(io_memory_is_kept_alive_after_the_issuer_is_gone) {
  atomic_int released = 0;
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  pthread_join(start_thread(issue_and_exit, &released), NULL);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(released, 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(released, 1);
  CHECK_EQ(memory[0], 'x');
  ring_done(ring);
}

TEST(io_memory_downcast_gives_the_owned_value_back) {
  atomic_int released = 0;
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_buf *buf = adopt_counted(memory, 100, &released);
  paluring_completion completion;
  paluring_io io = start_op(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_MOVE));
  put_byte(ends);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  CHECK(completion.buf == buf && paluring_buf_data(completion.buf) == (uint8_t *)memory && paluring_buf_len(completion.buf) == 100);
  CHECK_EQ(paluring_buf_refs(completion.buf), 1);
  CHECK_EQ(released, 0);
  paluring_buf_release(completion.buf);
  CHECK_EQ(released, 1);
  ring_done(ring);
}

/* ---- the ring ---- */

TEST(new_ring_has_room_for_completions_and_its_size_limits_batches_not_ios) {
  ring = ring_open(PALURING_MODE_OWNER, 8, 1000);
  paluring_capabilities got = {.size = sizeof got};
  atomic_int calls = 0;
  CHECK_EQ(paluring_ring_capabilities(ring, &got), 0);
  CHECK_EQ(got.entries, 8);
  CHECK(got.cq_entries >= 16);
  CHECK_EQ(got.max_in_flight, 1000);
  for (int i = 0; i < 1000; i++) start_only(ring, poll_op(ends.read, count_call, &calls));
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(stats_of(ring).waiting + stats_of(ring).queued, 1000);
  put_byte(ends);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(drain_pipe(ends), 1);
  CHECK_EQ(calls, 1000);
  ring_done(ring);
}

static void *drive_too(void *argument) {
  paluring_completion completion;
  (void)argument;
  EXPECT_EQ(paluring_ring_run(ring, 0, 0), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_submit(ring), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_wait(ring, 0, 0), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_process(ring, 0), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_reap(ring, 0, 0, &completion, 1), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_drain(ring, 0), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_prepare(ring), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_set_worker_limits(ring, 1, 1), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_close(ring, 0), PALURING_ERR_WRONG_THREAD);
  return NULL;
}

TEST(one_completion_side_only_the_first_thread_that_drives_owns_it) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  CHECK_EQ(paluring_ring_submit(ring), 0);
  pthread_join(start_thread(drive_too, NULL), NULL);
  ring_done(ring);
}

/* ---- starting ---- */

TEST(new_io_tracks_any_entry) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_buf *buf = new_buf(8);
  struct io_uring_sqe sqe = {.opcode = IORING_OP_READ, .fd = ends.read, .off = UINT64_MAX, .addr = (uintptr_t)paluring_buf_data(buf), .len = 8};
  paluring_op op;
  paluring_completion completion;
  paluring_op_raw(&op, &sqe, buf);
  op.flags = PALURING_OP_SUBMIT;
  memset(&sqe, 0xff, sizeof sqe); /* it was copied */
  paluring_io io = start_op(ring, op);
  CHECK_EQ(paluring_buf_refs(buf), 2);
  put_byte(ends);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  CHECK(completion.result == 1 && completion.opcode == IORING_OP_READ && paluring_buf_data(buf)[0] == 'x');
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  ring_done(ring);
}

TEST(detached_is_untracked_push) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_buf *buf = new_buf(3);
  paluring_op op;
  paluring_op_write(&op, ends.write, buf, 0, 3, UINT64_MAX);
  start_only(ring, with_flags(op, PALURING_OP_DETACHED));
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(drain_pipe(ends), 3);
  CHECK_EQ(paluring_ring_ready(ring), 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  ring_done(ring);
}

static int next;

static void expect_next(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  EXPECT_EQ(user_data, next++);
}

TEST(sq_full_overflow_queue_keeps_order) {
  ring = ring_open(PALURING_MODE_OWNER, 4, 1000);
  next = 0;
  for (int i = 0; i < 1000; i++) {
    start_only(ring, nop_op(expect_next, (void *)(intptr_t)i));
    if (i % 100 == 50) CHECK(paluring_ring_submit(ring) > 0); /* flushed before what comes now */
  }
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(next, 1000);
  ring_done(ring);
}

TEST(ebusy_is_handled) {
  ring = ring_with_cq(PALURING_MODE_OWNER, 8, 16, 5000);
  atomic_int calls = 0;
  for (int i = 0; i < 2000; i++) start_only(ring, poll_op(ends.read, count_call, &calls));
  CHECK_EQ(paluring_ring_wait(ring, 0, 0), 0);
  put_byte(ends); /* 2000 completions for 16 places */
  for (int i = 0; i < 2000; i++) {
    start_only(ring, nop_op(count_call, &calls));
    if (i % 8 == 7) CHECK(paluring_ring_submit(ring) >= 0); /* never -EBUSY */
  }
  CHECK_EQ(paluring_ring_wait(ring, 4000, LONG_ENOUGH), 4000);
  CHECK_EQ(calls, 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 4000);
  CHECK_EQ(drain_pipe(ends), 1);
  ring_done(ring);
}

/* ---- processing ---- */

static int inside;
static paluring_io parked;

static void call_everything(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_DETACHED | PALURING_OP_SUBMIT);
  EXPECT_EQ(paluring_io_start(ring, &op, NULL), 0);
  EXPECT_EQ(paluring_io_poll(ring, parked, NULL, 0, NULL), 0);
  EXPECT_EQ(paluring_io_set_timeout(ring, parked, 50 * SECOND), 0);
  EXPECT_EQ(paluring_io_cancel(ring, start_op(ring, with_flags(timeout_op(SECOND, NULL, NULL), PALURING_OP_DETACHED))), 0);
  EXPECT_EQ(paluring_io_drop(ring, start_op(ring, nop_op(NULL, NULL)), NULL), 0);
  EXPECT_EQ(paluring_ring_wake(ring), 0);
  EXPECT(paluring_ring_ready(ring) >= 0 && stats_of(ring).total_started > 0);
  EXPECT_EQ(paluring_ring_supports(ring, IORING_OP_NOP), 1);
  EXPECT_EQ(paluring_ring_run(ring, 0, 0), -EBUSY);
  paluring_ring_release(paluring_ring_retain(ring));
  inside++;
}

static void call_everything_ready(uintptr_t user_data, int32_t status) {
  EXPECT_EQ(status, 0);
  call_everything(user_data, NULL);
}

TEST(process_runs_host_code_under_no_lock) {
  ring = ring_open(PALURING_MODE_SHARED, 0, 0);
  inside = 0;
  parked = start_op(ring, timeout_op(60 * SECOND, NULL, NULL));
  paluring_io kept = start_op(ring, nop_op(NULL, NULL));
  CHECK_EQ(paluring_io_poll(ring, kept, call_everything_ready, 0, NULL), 0);
  start_only(ring, nop_op(call_everything, NULL));
  CHECK_EQ(paluring_ring_wait(ring, 2, FOREVER), 2);
  CHECK_EQ(paluring_ring_process(ring, 0), 1);
  CHECK_EQ(inside, 2);
  CHECK_EQ(paluring_io_drop(ring, parked, NULL), 0);
  ring_done(ring);
}

TEST(is_empty_is_ready_0) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  CHECK_EQ(paluring_ring_ready(ring), 0);
  start_only(ring, nop_op(count_call, &calls));
  CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
  CHECK_EQ(paluring_ring_ready(ring), 1);
  CHECK_EQ(paluring_ring_process(ring, 0), 1);
  CHECK_EQ(paluring_ring_ready(ring), 0);
  ring_done(ring);
}

static void note_status(uintptr_t user_data, int32_t status) {
  int32_t *note = (int32_t *)user_data;
  *note = *note == 1 ? status : 2; /* 2: told twice */
}

TEST(poll_replaces_the_ready_function) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int32_t first = 1, second = 1;
  paluring_completion completion;
  paluring_buf *buf = new_buf(1);
  paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
  CHECK_EQ(paluring_io_poll(ring, io, note_status, (uintptr_t)&first, &completion), 0);
  CHECK_EQ(paluring_io_poll(ring, io, note_status, (uintptr_t)&second, &completion), 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 0);
  CHECK_EQ(first, PALURING_ERR_DROPPED);
  CHECK_EQ(second, 0);
  CHECK_EQ(paluring_io_poll(ring, io, note_status, (uintptr_t)&second, &completion), 1);
  CHECK_EQ(completion.result, 1);
  paluring_buf_release(buf);
  ring_done(ring);
}

TEST(drop_does_not_cancel_and_closes_descriptors) {
  int fds = count_fds();
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int with_ring = count_fds();
  char path[PATH_SIZE];
  paluring_op op;
  unlink(temp_path(path, "made"));
  paluring_op_openat(&op, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  for (int i = 0; i < 30; i++) {
    uintptr_t back = 0;
    op.user_data = 7;
    paluring_io io = start_op(ring, op); /* dropped before, after the submit, and when complete */
    if (i % 3 == 1) CHECK_EQ(paluring_ring_submit(ring), 1);
    if (i % 3 == 2) CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    CHECK_EQ(paluring_io_drop(ring, io, &back), 0);
    CHECK_EQ(back, 7);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(access(path, F_OK), 0); /* done all the same */
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(count_fds(), with_ring);
  }
  ring_done(ring);
  CHECK_EQ(count_fds(), fds);
}

TEST(cancel_picks_the_right_one) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_buf *buf = new_buf(1);
  const paluring_op ops[] = {timeout_op(60 * SECOND, NULL, NULL), poll_op(ends.read, NULL, NULL), read_op(ends.read, buf, NULL, NULL)};
  for (size_t i = 0; i < COUNT_OF(ops); i++) {
    paluring_completion completion;
    paluring_io io = start_op(ring, ops[i]);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    CHECK_EQ(paluring_io_cancel(ring, io), 0);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
    CHECK_EQ(completion.result, -ECANCELED);
  }
  paluring_buf_release(buf);
  ring_done(ring);
}

TEST(event_fd_waits) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  atomic_int calls = 0;
  int fd = -1;
  CHECK_EQ(paluring_ring_event_fd(ring, &fd), 0);
  start_only(ring, poll_op(ends.read, count_call, &calls));
  CHECK_EQ(paluring_ring_prepare(ring), 0);
  CHECK(!is_readable(fd));
  put_byte(ends);
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  CHECK_EQ(poll(&wait, 1, 10000), 1);
  CHECK_EQ(paluring_ring_process(ring, 0), 1);
  CHECK_EQ(drain_pipe(ends), 1);
  CHECK_EQ(calls, 1);
  ring_done(ring);
}

static void *wake_soon(void *argument) {
  (void)argument;
  EXPECT_EQ(paluring_ring_wake(ring), 0);
  return NULL;
}

TEST(wake_from_another_thread) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  for (int i = 0; i < 500; i++) {
    int64_t began = now_ns();
    pthread_t thread = start_thread(wake_soon, NULL);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 0);
    pthread_join(thread, NULL);
    CHECK(now_ns() - began < 5 * SECOND);
  }
  ring_done(ring);
}

TEST(inspection_counts_allocated_queued_waiting_completed_and_dropped) {
  ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_buf *buf = new_buf(1);
  paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL)), dropped = start_op(ring, read_op(ends.read, buf, NULL, NULL));
  start_op(ring, nop_op(NULL, NULL));
  CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
  CHECK_EQ(paluring_io_drop(ring, dropped, NULL), 0);
  for (int i = 0; i < 20; i++) start_op(ring, read_op(ends.read, buf, NULL, NULL));
  paluring_stats stats = stats_of(ring);
  CHECK_EQ(stats.total_started - stats.total_finished, 23);
  CHECK_EQ(stats.completed, 1);
  CHECK_EQ(stats.dropped, 1);
  CHECK(stats.queued >= 12);
  CHECK_EQ(stats.queued + stats.waiting, 21);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  ring_done(ring);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
}

int main(void) {
  ends = open_pipe();
  RUN(io_memory_is_kept_alive_after_the_issuer_is_gone);
  RUN(io_memory_downcast_gives_the_owned_value_back);
  RUN(new_ring_has_room_for_completions_and_its_size_limits_batches_not_ios);
  RUN(one_completion_side_only_the_first_thread_that_drives_owns_it);
  RUN(new_io_tracks_any_entry);
  RUN(detached_is_untracked_push);
  RUN(sq_full_overflow_queue_keeps_order);
  RUN(ebusy_is_handled);
  RUN(process_runs_host_code_under_no_lock);
  RUN(is_empty_is_ready_0);
  RUN(poll_replaces_the_ready_function);
  RUN(drop_does_not_cancel_and_closes_descriptors);
  RUN(cancel_picks_the_right_one);
  RUN(event_fd_waits);
  RUN(wake_from_another_thread);
  RUN(inspection_counts_allocated_queued_waiting_completed_and_dropped);
  close_pipe(ends);
  return harness_end();
}
