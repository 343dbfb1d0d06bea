/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * One thread drives, others wake it, start, poll, drop and cancel.
 */
#include "scene.h"

enum { THREADS = 4, MOST = 2001 };
#define EACH tries(2000)

/* A ring and what its threads have done. */
static struct shared {
  paluring_ring *ring;
  pthread_t owner;
  atomic_int round, done, elsewhere, busy, wrong, stopped;
  atomic_bool stop;
} shared;

static void shared_open(uint32_t mode, uint32_t entries, uint32_t max_in_flight) {
  shared = (struct shared){.ring = ring_open(mode, entries, max_in_flight), .owner = pthread_self()};
}

static void threads_begin(pthread_t *threads, int count, void *(*body)(void *)) {
  for (int i = 0; i < count; i++) threads[i] = start_thread(body, (void *)(intptr_t)i);
}

static void threads_end(const pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

static void count_done(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data;
  if (!pthread_equal(pthread_self(), shared.owner)) atomic_fetch_add(&shared.elsewhere, 1);
  if (completion->result != 0) atomic_fetch_add(&shared.wrong, 1);
  atomic_fetch_add(&shared.done, 1);
}

/* Starts, however often it takes; a full ring is no failure. */
static bool start_until_accepted(paluring_op op, paluring_io *out_io) {
  int32_t status;
  while ((status = paluring_io_start(shared.ring, &op, out_io)) == -EAGAIN && !has_failed()) sched_yield();
  return EXPECT_EQ(status, 0);
}

/* Runs the ring until a counter has come to want. Nobody else drives: it is never busy, though starts may enter the kernel. */
static void drive_until(atomic_int *counter, int want) {
  while (*counter < want && !has_failed()) {
    int64_t began = now_ns();
    KEEP(paluring_ring_run(shared.ring, 1, LONG_ENOUGH) >= 0);
    KEEP(now_ns() - began < 5 * SECOND); /* else it slept through a start */
  }
}

/* ---- wake ---- */

static void *wake_each_round(void *argument) {
  (void)argument;
  for (int i = 1; i <= tries(10000); i++) {
    if (!await_count(&shared.round, i)) break;
    for (int k = 0; k < i % 100; k++) atomic_thread_fence(memory_order_seq_cst);
    EXPECT_EQ(paluring_ring_wake(shared.ring), 0);
  }
  return NULL;
}

TEST(wake_ends_the_wait_or_the_next_one_10000_times) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    shared_open(HOST_MODES[mode], 0, 0);
    pthread_t thread = start_thread(wake_each_round, NULL);
    for (int i = 1; i <= tries(10000); i++) {
      int64_t began = now_ns();
      atomic_store(&shared.round, i);
      KEEP(EXPECT_EQ(i % 2 ? paluring_ring_run(shared.ring, 1, LONG_ENOUGH) : paluring_ring_wait(shared.ring, 1, LONG_ENOUGH), 0));
      KEEP(now_ns() - began < 5 * SECOND); /* else a wake was lost */
    }
    DO(pthread_join(thread, NULL));
    ring_done(shared.ring);
  }
}

TEST(wakes_before_a_wait_coalesce_to_one) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    shared_open(HOST_MODES[mode], 0, 0);
    for (int bound = 0; bound < 2; bound++) {
      for (int i = 0; i < 10000; i++) CHECK_EQ(paluring_ring_wake(shared.ring), 0);
      int64_t began = now_ns();
      CHECK_EQ(paluring_ring_run(shared.ring, 1, LONG_ENOUGH), 0);
      CHECK(now_ns() - began < 5 * SECOND);
      began = now_ns();
      CHECK_EQ(paluring_ring_run(shared.ring, 1, 20 * MS), 0);
      CHECK(now_ns() - began >= 20 * MS); /* the others are gone */
    }
    paluring_stats stats = stats_of(shared.ring);
    CHECK(stats.total_wakes <= 2 && stats.total_enters < 100);
    ring_done(shared.ring);
  }
}

static void wake_in_handler(int number) {
  (void)number;
  errno = 4321;
  if (paluring_ring_wake(shared.ring) != 0 || errno != 4321) atomic_fetch_add(&shared.wrong, 1);
}

static void *wake_by_signals(void *argument) {
  sigset_t set;
  (void)argument;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  for (int i = 1; i <= 1000; i++) {
    if (!await_count(&shared.round, i)) break;
    raise(SIGUSR2);
  }
  return NULL;
}

TEST(wake_works_in_a_signal_handler_and_keeps_errno) {
  struct sigaction action = {.sa_handler = wake_in_handler};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2); /* blocked here: only the wake can end the wait */
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  sigaction(SIGUSR2, &action, NULL);
  shared_open(PALURING_MODE_OWNER, 0, 0);
  pthread_t thread = start_thread(wake_by_signals, NULL);
  for (int i = 1; i <= 1000; i++) {
    int64_t began = now_ns();
    atomic_store(&shared.round, i);
    KEEP(EXPECT_EQ(paluring_ring_run(shared.ring, 1, LONG_ENOUGH), 0));
    KEEP(now_ns() - began < 5 * SECOND);
  }
  DO(pthread_join(thread, NULL));
  CHECK_EQ(shared.wrong, 0);
  ring_done(shared.ring);
}

/* The one signal may come anywhere in the driver's calls: a wake that it missed is never made up for. */
static void one_signal_after(timer_t timer, int64_t ns) {
  struct itimerspec once = {.it_value.tv_nsec = ns};
  EXPECT_EQ(timer_settime(timer, 0, &once, NULL), 0);
}

/* As an event loop that looks after its signals elsewhere: they end no sleep of its own. */
static void sleep_in_loop(paluring_ring *ring, int fd) {
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  int32_t status = paluring_ring_prepare(ring);
  EXPECT(status >= 0);
  while (status == 0 && poll(&ready, 1, 10000) < 0 && errno == EINTR) continue;
  EXPECT(status == 1 || (ready.revents & POLLIN));
  EXPECT_EQ(paluring_ring_process(ring, 0), 0);
}

static void wake_only(int number) {
  (void)number;
  if (paluring_ring_wake(shared.ring) != 0) atomic_fetch_add(&shared.wrong, 1);
}

TEST(a_wake_by_a_handler_that_interrupts_the_driver_itself_ends_its_wait_or_the_next) {
  struct sigaction action = {.sa_handler = wake_only};
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  timer_t timer;
  sigaction(SIGUSR1, &action, NULL);
  CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  for (size_t mode = 0; mode < 2 * COUNT_OF(HOST_MODES); mode++) {
    int fd = -1;
    ROW(HOST_MODE_NAMES[mode / 2]);
    shared_open(HOST_MODES[mode / 2], 0, 0);
    CHECK_EQ(paluring_ring_event_fd(shared.ring, &fd), 0);
    for (int i = 0; i < tries(3000) && !has_failed(); i++) {
      int64_t began = now_ns();
      one_signal_after(timer, 1 + i % 300 * 100); /* up to 30 us: before, in and after the call's way to its sleep */
      if (mode % 2) sleep_in_loop(shared.ring, fd);
      else EXPECT_EQ(paluring_ring_run(shared.ring, 1, LONG_ENOUGH), 0);
      KEEP(now_ns() - began < 5 * SECOND);
    }
    CHECK_EQ(shared.wrong, 0);
    ring_done(shared.ring);
  }
  timer_delete(timer);
}

/* ---- starts from elsewhere ---- */

static void *start_25000(void *argument) {
  (void)argument;
  for (int i = 0; i < tries(25000); i++)
    if (!start_until_accepted(with_flags(nop_op(count_done, NULL), PALURING_OP_SUBMIT), NULL)) break;
  return NULL;
}

TEST(four_threads_start_100000_on_a_ring_whose_owner_sleeps_none_is_lost) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    shared_open(HOST_MODES[mode], 8, 64);
    pthread_t threads[THREADS];
    threads_begin(threads, THREADS, start_25000);
    drive_until(&shared.done, 4 * tries(25000));
    DO(threads_end(threads, THREADS));
    CHECK_EQ(shared.done, 4 * tries(25000));
    CHECK_EQ(shared.elsewhere, 0); /* callbacks run on the driver */
    CHECK_EQ(shared.wrong, 0);
    paluring_stats stats = stats_of(shared.ring);
    CHECK_EQ(stats.total_started, 4 * tries(25000));
    CHECK(stats.total_wakes <= stats.total_enters); /* one for each sleep at most */
    ring_done(shared.ring);
  }
}

static void *start_one_by_one(void *argument) {
  (void)argument;
  for (int i = 1; i <= tries(20000); i++) {
    if (!start_until_accepted(with_flags(nop_op(count_done, NULL), PALURING_OP_SUBMIT), NULL)) break;
    if (!await_count(&shared.done, i)) break;
  }
  return NULL;
}

TEST(each_start_with_submit_wakes_the_sleeping_driver) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    shared_open(HOST_MODES[mode], 8, 64);
    CHECK_EQ(paluring_ring_submit(shared.ring), 0);
    pthread_t thread = start_thread(start_one_by_one, NULL);
    drive_until(&shared.done, tries(20000));
    DO(pthread_join(thread, NULL));
    CHECK_EQ(shared.elsewhere, 0);
    ring_done(shared.ring);
  }
}

static void compare_handle(uintptr_t user_data, paluring_completion *completion) {
  if (*(_Atomic paluring_io *)user_data != completion->io) atomic_fetch_add(&shared.wrong, 1);
  atomic_fetch_add(&shared.done, 1);
}

static void *start_with_handles(void *argument) {
  static _Atomic paluring_io ios[20000];
  (void)argument;
  memset(ios, 0, sizeof ios);
  for (int i = 0; i < tries(20000); i++)
    if (!start_until_accepted(with_flags(nop_op(compare_handle, &ios[i]), PALURING_OP_SUBMIT), (paluring_io *)&ios[i])) break;
  return NULL;
}

TEST(the_handle_is_written_before_the_callback_runs_elsewhere) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    shared_open(HOST_MODES[mode], 8, 64);
    pthread_t thread = start_thread(start_with_handles, NULL);
    drive_until(&shared.done, tries(20000));
    DO(pthread_join(thread, NULL));
    CHECK_EQ(shared.wrong, 0);
    ring_done(shared.ring);
  }
}

/* ---- poll, drop and cancel from elsewhere ---- */

static void mark(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  atomic_fetch_add((atomic_int *)user_data, 1);
}

static void *start_and_give_up(void *argument) {
  static atomic_int calls[THREADS][MOST];
  int self = (int)(intptr_t)argument;
  memset(calls[self], 0, sizeof calls[self]);
  for (int i = 0; i < EACH; i++) {
    atomic_int *own = &calls[self][i];
    paluring_completion completion;
    paluring_io io = 0;
    uintptr_t back = 0;
    int kind = i % 3;
    if (!start_until_accepted(with_flags(nop_op(kind == 2 ? NULL : mark, own), PALURING_OP_SUBMIT), &io)) break;
    for (int k = 0; k < i % 200; k++) atomic_thread_fence(memory_order_seq_cst);
    if (kind == 0) { /* drop: no callback after it, or the callback has it */
      int32_t status = paluring_io_drop(shared.ring, io, &back);
      if (status == 0) EXPECT(back == (uintptr_t)own && *own == 0);
      else if (EXPECT_EQ(status, PALURING_ERR_STALE)) await_count(own, 1), EXPECT_EQ(back, 0);
      if (status == 0) atomic_fetch_add(own, 1);
    } else if (kind == 1) { /* cancel: the callback comes all the same */
      int32_t status = paluring_io_cancel(shared.ring, io);
      EXPECT(status == 0 || status == PALURING_ERR_STALE);
      await_count(own, 1);
    } else { /* poll until it is there */
      int32_t status;
      while ((status = paluring_io_poll(shared.ring, io, NULL, 0, &completion)) == 0 && !has_failed()) sched_yield();
      EXPECT_EQ(status, 1);
      EXPECT(completion.io == io && completion.user_data == (uintptr_t)own);
      atomic_fetch_add(own, 1);
    }
    if (has_failed()) break;
  }
  atomic_fetch_add(&shared.stopped, 1);
  if (!await_count(&shared.round, 1)) return NULL; /* all is quiet now */
  for (int i = 0; i < EACH; i++) EXPECT_EQ(calls[self][i], 1);
  return NULL;
}

TEST(drop_cancel_and_poll_from_four_threads_end_each_io_once) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    shared_open(HOST_MODES[mode], 8, 64);
    pthread_t threads[THREADS];
    threads_begin(threads, THREADS, start_and_give_up);
    while (shared.stopped < THREADS) KEEP(paluring_ring_run(shared.ring, 1, 10 * MS) >= 0);
    EXPECT_EQ(paluring_ring_drain(shared.ring, LONG_ENOUGH), 0);
    atomic_store(&shared.round, 1);
    DO(threads_end(threads, THREADS));
    paluring_stats stats = stats_of(shared.ring);
    CHECK_EQ(stats.total_started, THREADS * EACH);
    CHECK_EQ(stats.total_finished, THREADS * EACH);
    ring_done(shared.ring);
  }
}

int main(void) {
  RUN(wake_ends_the_wait_or_the_next_one_10000_times);
  RUN(wakes_before_a_wait_coalesce_to_one);
  RUN(wake_works_in_a_signal_handler_and_keeps_errno);
  RUN(a_wake_by_a_handler_that_interrupts_the_driver_itself_ends_its_wait_or_the_next);
  RUN(four_threads_start_100000_on_a_ring_whose_owner_sleeps_none_is_lost);
  RUN(each_start_with_submit_wakes_the_sleeping_driver);
  RUN(the_handle_is_written_before_the_callback_runs_elsewhere);
  RUN(drop_cancel_and_poll_from_four_threads_end_each_io_once);
  return harness_end();
}
