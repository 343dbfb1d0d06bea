/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SHARED rings: any thread drives, one at a time, and the others wait for theirs. */
#include "scene.h"

enum { THREADS = 4 };

/* A ring and what its threads have done. */
static struct shared {
  paluring_ring *ring;
  paluring_buf *buf;
  paluring_io io;
  struct ends ends;
  atomic_int done, busy, wrong, stopped;
} shared;

static void shared_open(uint32_t entries, uint32_t max_in_flight) {
  shared = (struct shared){.ring = ring_open(PALURING_MODE_SHARED, entries, max_in_flight)};
}

static void threads_begin(pthread_t *threads, int count, void *(*body)(void *)) {
  for (int i = 0; i < count; i++) threads[i] = start_thread(body, (void *)(intptr_t)i);
}

static void threads_end(const pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

static void count_done(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data;
  if (completion->result != 0) atomic_fetch_add(&shared.wrong, 1);
  atomic_fetch_add(&shared.done, 1);
}

/* ---- one at a time ---- */

static void *start_and_drive(void *argument) {
  (void)argument;
  for (int i = 0; i < 5000; i++) {
    start_only(shared.ring, nop_op(count_done, NULL));
    int32_t status = paluring_ring_run(shared.ring, i % 2 ? 1 : 0, 0);
    if (status != -EBUSY) EXPECT(status >= 0);
    else atomic_fetch_add(&shared.busy, 1);
  }
  while (shared.done < THREADS * 5000 && !has_failed()) {
    int32_t status = paluring_ring_run(shared.ring, 0, 0);
    EXPECT(status >= 0 || status == -EBUSY);
    sched_yield();
  }
  return NULL;
}

TEST(several_threads_drive_in_turn_and_nothing_is_lost) {
  shared_open(8, THREADS * 5000);
  pthread_t threads[THREADS];
  threads_begin(threads, THREADS, start_and_drive), threads_end(threads, THREADS);
  CHECK_EQ(shared.done, THREADS * 5000);
  CHECK_EQ(shared.wrong, 0);
  ring_done(shared.ring);
}

static void *run_while_asleep(void *argument) {
  (void)argument;
  int32_t status;
  while ((status = paluring_ring_run(shared.ring, 1, LONG_ENOUGH)) == -EBUSY) sched_yield(); /* the other one looks just now */
  EXPECT_EQ(status, 1);
  atomic_fetch_add(&shared.stopped, 1);
  return NULL;
}

TEST(a_second_driver_is_busy_while_the_first_sleeps) {
  paluring_completion completion;
  shared_open(0, 0);
  pthread_t thread = start_thread(run_while_asleep, NULL);
  int64_t end = now_ns() + LONG_ENOUGH;
  int32_t status;
  while ((status = paluring_ring_submit(shared.ring)) != -EBUSY && now_ns() < end) sched_yield(); /* until it sleeps */
  CHECK_EQ(status, -EBUSY);
  CHECK_EQ(paluring_ring_wait(shared.ring, 0, 0), -EBUSY);
  CHECK_EQ(paluring_ring_process(shared.ring, 0), -EBUSY);
  CHECK_EQ(paluring_ring_run(shared.ring, 0, 0), -EBUSY);
  CHECK_EQ(paluring_ring_prepare(shared.ring), -EBUSY);
  CHECK_EQ(paluring_ring_reap(shared.ring, 0, 0, &completion, 1), 0); /* these sleep instead */
  CHECK_EQ(paluring_ring_reap(shared.ring, 1, MS, &completion, 1), 0);
  CHECK_EQ(shared.stopped, 0);
  start_only(shared.ring, with_flags(nop_op(count_done, NULL), PALURING_OP_SUBMIT));
  pthread_join(thread, NULL);
  CHECK_EQ(shared.done, 1);
  CHECK_EQ(paluring_ring_run(shared.ring, 0, 0), 0);
  ring_done(shared.ring);
}

/* ---- each gets its own ---- */

#define EACH tries(500)

static void *do_many(void *argument) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  (void)argument;
  for (int i = 0; i < EACH; i++) {
    paluring_completion completion;
    paluring_op op = nop_op(NULL, NULL);
    EXPECT_EQ(do_op(shared.ring, &op, &completion), 0);
    op = timeout_op(i % 10 * 10000, NULL, NULL);
    EXPECT_EQ(do_op(shared.ring, &op, &completion), -ETIME);
    put_byte(ends);
    op = read_op(ends.read, buf, NULL, NULL);
    EXPECT_EQ(do_op(shared.ring, &op, &completion), 1);
    if (has_failed()) break;
    atomic_fetch_add(&shared.done, 1);
  }
  /* Another thread may be about to let go of it. */
  for (int64_t end = now_ns() + LONG_ENOUGH; paluring_buf_refs(buf) > 1 && now_ns() < end;) sched_yield();
  EXPECT_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
  return NULL;
}

/* Timeouts of other threads end the kernel's wait early: that is no signal. */
TEST(sixteen_threads_wait_at_once_and_each_gets_its_own) {
  shared_open(8, 0);
  pthread_t threads[16];
  threads_begin(threads, 16, do_many), threads_end(threads, 16);
  CHECK_EQ(shared.done, 16 * EACH);
  ring_done(shared.ring);
}

/* Waits for a byte that another thread of the circle writes when it has got its own. */
static struct ends circle[8];
static void *pass_on(void *argument) {
  int self = (int)(intptr_t)argument;
  paluring_buf *buf = new_buf(1);
  paluring_op op = read_op(circle[self].read, buf, NULL, NULL);
  for (int i = 0; i < tries(2000) && !has_failed(); i++) {
    EXPECT_EQ(do_op(shared.ring, &op, NULL), 1);
    put_byte(circle[(self + 1) % 8]);
  }
  EXPECT_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  return NULL;
}

TEST(a_waiter_that_has_its_own_hands_driving_to_one_that_still_sleeps) {
  shared_open(8, 0);
  for (int i = 0; i < 8; i++) circle[i] = open_pipe();
  pthread_t threads[8];
  threads_begin(threads, 8, pass_on);
  put_byte(circle[0]); /* one is awake at a time: a lost hand-over stops the circle */
  threads_end(threads, 8);
  CHECK_EQ(drain_pipe(circle[0]), 1);
  for (int i = 0; i < 8; i++) close_pipe(circle[i]);
  ring_done(shared.ring);
}

#define REAPED tries(40000)
static atomic_int reaped[40001];

static void *reap_many(void *argument) {
  paluring_completion taken;
  (void)argument;
  for (;;) {
    int32_t count = paluring_ring_reap(shared.ring, 1, LONG_ENOUGH, &taken, 1);
    if (!EXPECT_EQ(count, 1)) break;
    if (taken.user_data >= (uintptr_t)REAPED) break; /* one for each thread, at the end */
    atomic_fetch_add(&reaped[taken.user_data], 1);
  }
  return NULL;
}

static void start_queue(uintptr_t user_data) {
  paluring_op op = with_flags(nop_op(NULL, (void *)user_data), PALURING_OP_QUEUE | PALURING_OP_SUBMIT);
  int32_t status;
  int64_t end = now_ns() + LONG_ENOUGH;
  while ((status = paluring_io_start(shared.ring, &op, NULL)) == -EAGAIN && now_ns() < end && !has_failed()) sched_yield();
  EXPECT_EQ(status, 0);
}

TEST(four_threads_reap_at_once_and_each_completion_is_taken_once) {
  shared_open(8, 256);
  pthread_t threads[THREADS];
  memset(reaped, 0, sizeof reaped);
  threads_begin(threads, THREADS, reap_many);
  for (uintptr_t i = 0; i < (uintptr_t)REAPED + THREADS && !has_failed(); i++) start_queue(i);
  threads_end(threads, THREADS);
  for (int i = 0; i < REAPED; i++) CHECK_EQ(reaped[i], 1);
  ring_done(shared.ring);
}

#define DRAINS tries(500)
static atomic_int drained[THREADS][501];

static void *start_and_drain(void *argument) {
  for (int i = 0; i < DRAINS && !has_failed(); i++) {
    atomic_int *calls = &drained[(intptr_t)argument][i];
    for (int k = 0; k < 5; k++) start_only(shared.ring, nop_op(count_call, calls));
    start_only(shared.ring, timeout_op(10000, count_call, calls));
    EXPECT_EQ(paluring_ring_drain(shared.ring, LONG_ENOUGH), 0);
    EXPECT_EQ(*calls, 6); /* mine are among those that are finished */
  }
  return NULL;
}

TEST(four_threads_drain_at_once_and_find_theirs_done) {
  shared_open(8, 0);
  pthread_t threads[THREADS];
  threads_begin(threads, THREADS, start_and_drain), threads_end(threads, THREADS);
  CHECK_EQ(stats_of(shared.ring).total_finished, THREADS * DRAINS * 6);
  ring_done(shared.ring);
}

static void *run_for_others(void *argument) {
  (void)argument;
  while (!shared.stopped) {
    int32_t status = paluring_ring_run(shared.ring, 1, LONG_ENOUGH);
    EXPECT(status >= 0 || status == -EBUSY);
    if (status == -EBUSY) sched_yield();
  }
  return NULL;
}

TEST(waiters_and_a_running_driver_share_a_ring) {
  shared_open(8, 0);
  pthread_t threads[THREADS], driver = start_thread(run_for_others, NULL);
  threads_begin(threads, THREADS, do_many);
  threads_end(threads, THREADS);
  atomic_store(&shared.stopped, 1);
  EXPECT_EQ(paluring_ring_wake(shared.ring), 0);
  pthread_join(driver, NULL);
  CHECK_EQ(shared.done, THREADS * EACH);
  ring_done(shared.ring);
}

/* ---- a callback that takes its time ---- */

static struct {
  paluring_ring *ring;
  struct ends kept, called;
  paluring_io io;
  bool queued;
  atomic_int taken, late, over;
} slow;

static void block_until_taken(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
  for (int64_t end = now_ns() + 5 * SECOND; slow.taken == 0 && now_ns() < end;) poll(NULL, 0, 0);
  slow.late = slow.taken == 0;
  atomic_store(&slow.over, 1);
}

static void *take_own(void *argument) {
  paluring_completion out = {.user_data = (uintptr_t)argument};
  if (slow.queued) EXPECT_EQ(paluring_ring_reap(slow.ring, 1, LONG_ENOUGH, &out, 1), 1);
  else EXPECT_EQ(paluring_io_wait(slow.ring, slow.io, LONG_ENOUGH, &out), 0);
  atomic_store(&slow.taken, 1);
  return NULL;
}

static void *run_until_over(void *argument) {
  (void)argument;
  while (!slow.over && !has_failed()) {
    int32_t status = paluring_ring_run(slow.ring, 1, LONG_ENOUGH);
    if (status != -EBUSY) EXPECT(status >= 0);
    else sched_yield(); /* the other one drives for a moment */
  }
  return NULL;
}

/* Both come in one look at the queue, first what is waited for: a chain, whose end finds its byte there. */
static void complete_both(uintptr_t user_data) {
  (void)user_data;
  put_byte(slow.called), put_byte(slow.kept);
}

TEST(who_waits_gets_what_is_there_though_a_callback_behind_it_takes_its_time) {
  for (int i = 0; i < tries(80); i++) {
    bool background = i % 2;
    paluring_buf *buf = new_buf(1);
    memset(&slow, 0, sizeof slow);
    slow.ring = ring_open(background ? PALURING_MODE_BACKGROUND : PALURING_MODE_SHARED, 8, 0);
    slow.kept = open_socket(), slow.called = open_socket();
    slow.queued = i / 2 % 2;
    paluring_op ops[] = {read_op(slow.kept.read, buf, NULL, NULL), read_op(slow.called.read, buf, block_until_taken, NULL)};
    paluring_io ios[2];
    ops[0].flags = slow.queued ? PALURING_OP_QUEUE : 0;
    CHECK_EQ(paluring_io_start_chain(slow.ring, ops, 2, 0, ios), 2);
    slow.io = ios[0];
    pthread_t driver = background ? pthread_self() : start_thread(run_until_over, NULL);
    while (!background && paluring_ring_submit(slow.ring) != -EBUSY) sched_yield(); /* until it drives */
    pthread_t waiter = start_thread(take_own, NULL);
    poll(NULL, 0, i % 5); /* mostly it sleeps by then */
    CHECK_EQ(paluring_ring_post(slow.ring, complete_both, 0), 0);
    pthread_join(waiter, NULL);
    if (!background) pthread_join(driver, NULL);
    CHECK_EQ(paluring_ring_drain(slow.ring, LONG_ENOUGH), 0);
    CHECK_EQ(slow.late, 0);
    ring_done(slow.ring);
    paluring_buf_release(buf);
    close_pipe(slow.kept), close_pipe(slow.called);
  }
}

/* ---- starts that enter the kernel though nobody drives ---- */

enum { STARTERS = 3 };

static void *start_submitted(void *argument) {
  (void)argument;
  atomic_fetch_add(&shared.busy, 1);
  while (shared.busy < STARTERS + 1) sched_yield(); /* all at once, as nearly as can be */
  start_only(shared.ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE | PALURING_OP_SUBMIT));
  return NULL;
}

/* Drives for a moment, and leaves. */
static void *look_in(void *argument) {
  paluring_completion none;
  atomic_fetch_add(&shared.busy, 1);
  while (shared.busy < STARTERS + 1) sched_yield();
  if (argument) EXPECT(paluring_ring_wait(shared.ring, 0, 0) >= 0 || has_failed());
  else EXPECT_EQ(paluring_io_wait(shared.ring, 0, 0, &none), PALURING_ERR_STALE);
  return NULL;
}

TEST(each_start_with_submit_is_in_the_kernel_when_all_have_returned_though_others_started_or_drove_meanwhile) {
  shared_open(8, 0);
  for (int i = 0; i < tries(3000); i++) {
    paluring_completion taken[STARTERS];
    pthread_t threads[STARTERS], other = start_thread(look_in, i % 2 ? shared.ring : NULL);
    threads_begin(threads, STARTERS, start_submitted);
    threads_end(threads, STARTERS);
    pthread_join(other, NULL);
    atomic_store(&shared.busy, 0);
    CHECK_EQ(paluring_ring_ready(shared.ring), STARTERS); /* it doesn't enter */
    CHECK_EQ(paluring_ring_reap(shared.ring, STARTERS, LONG_ENOUGH, taken, STARTERS), STARTERS);
  }
  ring_done(shared.ring);
}

/* The submission queue takes eight at a time. */
TEST(a_start_with_submit_enters_the_kernel_with_all_that_was_started_before_it) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 8, 64);
    paluring_completion taken[64];
    CHECK_EQ(paluring_ring_submit(ring), 0); /* bound */
    for (int count = 1; count <= 64; count++) {
      for (int i = 0; i < count - 1; i++) start_only(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
      start_only(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE | PALURING_OP_SUBMIT));
      CHECK_EQ(paluring_ring_ready(ring), count);
      CHECK_EQ(paluring_ring_reap(ring, (uint32_t)count, LONG_ENOUGH, taken, 64), count);
    }
    ring_done(ring);
  }
}

/* ---- a submitter that goes ---- */

static void *submit_and_exit(void *argument) {
  (void)argument;
  shared.io = start_op(shared.ring, read_op(shared.ends.read, shared.buf, NULL, NULL));
  EXPECT_EQ(paluring_ring_submit(shared.ring), 1);
  return NULL;
}

TEST(an_io_outlives_the_thread_that_submitted_it) {
  shared_open(8, 0);
  shared.ends = open_pipe();
  shared.buf = new_buf(1);
  for (int i = 0; i < 50; i++) {
    paluring_completion completion;
    pthread_join(start_thread(submit_and_exit, NULL), NULL);
    CHECK_EQ(paluring_io_wait(shared.ring, shared.io, MS, NULL), -ETIME); /* nobody asked for a cancel */
    put_byte(shared.ends);
    CHECK_EQ(paluring_io_wait(shared.ring, shared.io, LONG_ENOUGH, &completion), 0);
    CHECK_EQ(completion.result, 1);
    CHECK_EQ(completion.flags, 0);
  }
  CHECK(stats_of(shared.ring).total_resubmits > 0);
  CHECK_EQ(stats_of(shared.ring).total_cancelled, 0);
  CHECK_EQ(paluring_buf_refs(shared.buf), 1);
  paluring_buf_release(shared.buf);
  close_pipe(shared.ends);
  ring_done(shared.ring);
}

int main(void) {
  RUN(several_threads_drive_in_turn_and_nothing_is_lost);
  RUN(a_second_driver_is_busy_while_the_first_sleeps);
  RUN(sixteen_threads_wait_at_once_and_each_gets_its_own);
  RUN(a_waiter_that_has_its_own_hands_driving_to_one_that_still_sleeps);
  RUN(four_threads_reap_at_once_and_each_completion_is_taken_once);
  RUN(four_threads_drain_at_once_and_find_theirs_done);
  RUN(waiters_and_a_running_driver_share_a_ring);
  RUN(who_waits_gets_what_is_there_though_a_callback_behind_it_takes_its_time);
  RUN(each_start_with_submit_is_in_the_kernel_when_all_have_returned_though_others_started_or_drove_meanwhile);
  RUN(a_start_with_submit_enters_the_kernel_with_all_that_was_started_before_it);
  RUN(an_io_outlives_the_thread_that_submitted_it);
  return harness_end();
}
