/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The ring in an event loop: event_fd and prepare, with level- and edge-triggered epoll.
 */
#include "scene.h"

#include <sys/epoll.h>

static int event_fd_of(paluring_ring *ring) {
  int fd = -1;
  EXPECT_EQ(paluring_ring_event_fd(ring, &fd), 0);
  EXPECT(fd >= 0);
  return fd;
}

static int epoll_on(int fd, uint32_t trigger) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | trigger};
  EXPECT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
  return epoll;
}

/* Whether the loop is woken within the time. */
static bool sleeps_until_woken(int epoll, int ms) {
  struct epoll_event event;
  int count;
  do count = epoll_wait(epoll, &event, 1, ms);
  while (count < 0 && errno == EINTR);
  return count == 1;
}

/* ---- when it is readable ---- */

TEST(event_fd_is_one_descriptor_that_is_the_same_each_time_and_goes_with_close) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = event_fd_of(ring), again = event_fd_of(ring);
  CHECK_EQ(again, fd);
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
  CHECK_EQ(fcntl(fd, F_GETFD), -1);
  CHECK_EQ(paluring_ring_event_fd(ring, &again), PALURING_ERR_CLOSED);
  CHECK_EQ(again, -1);
  paluring_ring_release(ring);
}

TEST(the_fd_is_readable_while_there_is_something_to_process_or_reap) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_socket();
    paluring_buf *buf = new_buf(1);
    int fd = event_fd_of(ring);
    for (int queue = 0; queue < 2; queue++) {
      for (int i = 0; i < 100; i++) {
        atomic_int calls = 0;
        paluring_completion completion;
        start_op(ring, queue ? with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_QUEUE) : read_op(ends.read, buf, count_call, &calls));
        CHECK_EQ(paluring_ring_prepare(ring), 0);
        CHECK(!is_readable(fd));
        put_byte(ends); /* completes in the kernel, and the fd tells at once */
        CHECK(is_readable(fd));
        if (i % 3 == 0) CHECK_EQ(paluring_ring_prepare(ring), 1);
        CHECK(is_readable(fd));
        if (queue) CHECK_EQ(paluring_ring_reap(ring, 0, 0, &completion, 1), 1);
        else CHECK_EQ(paluring_ring_process(ring, 0), 1);
      }
    }
    CHECK_EQ(paluring_ring_prepare(ring), 0);
    CHECK(!is_readable(fd));
    paluring_buf_release(buf);
    close_pipe(ends);
    ring_done(ring);
  }
}

TEST(prepare_says_don_t_sleep_when_something_is_ready_already) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = event_fd_of(ring);
  atomic_int calls = 0;
  start_op(ring, nop_op(count_call, &calls));
  CHECK_EQ(paluring_ring_prepare(ring), 1);
  CHECK(is_readable(fd));
  CHECK_EQ(calls, 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 1);
  start_op(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1); /* collected by a call that delivers none */
  CHECK_EQ(paluring_ring_prepare(ring), 1);
  CHECK(is_readable(fd));
  paluring_completion completion;
  CHECK_EQ(paluring_ring_reap(ring, 1, 0, &completion, 1), 1);
  CHECK_EQ(paluring_ring_prepare(ring), 0);
  CHECK(!is_readable(fd));
  ring_done(ring);
}

/* The kernel brings twenty or so of what it holds back at once: a sleep after the first of these would be for ever. */
TEST(prepare_finds_what_is_ready_behind_many_results_that_are_kept) {
  for (int last = 0; last < 2; last++) {
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
    struct ends ends = open_pipe();
    atomic_int calls = 0;
    event_fd_of(ring);
    for (int i = 0; i <= 200; i++) /* the wanted one is the first or the last */
      start_op(ring, poll_op(ends.read, i == 200 * last ? count_call : NULL, &calls));
    CHECK_EQ(paluring_ring_prepare(ring), 0);
    put_byte(ends);
    CHECK_EQ(paluring_ring_prepare(ring), 1);
    DO(run_until(ring, &calls, 1));
    close_pipe(ends);
    ring_done(ring);
  }
}

TEST(process_with_a_budget_brings_level_and_edge_triggered_loops_back) {
  static const uint32_t triggers[] = {0, EPOLLET};
  for (size_t i = 0; i < COUNT_OF(triggers); i++) {
    ROW(triggers[i] ? "edge" : "level");
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
    int epoll = epoll_on(event_fd_of(ring), triggers[i]);
    struct ends ends = open_pipe();
    atomic_int calls = 0;
    for (int round = 0; round < 20; round++) {
      for (int k = 0; k < 10; k++) start_op(ring, poll_op(ends.read, count_call, &calls));
      CHECK_EQ(paluring_ring_prepare(ring), 0);
      put_byte(ends);
      int before = calls;
      while (calls < before + 10) { /* sleeps again without a look at what is left */
        CHECK(sleeps_until_woken(epoll, 5000));
        CHECK(paluring_ring_process(ring, 3) <= 3);
      }
      CHECK_EQ(drain_pipe(ends), 1);
    }
    close(epoll);
    close_pipe(ends);
    ring_done(ring);
  }
}

TEST(a_limit_that_is_due_makes_the_fd_readable) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    int epoll = epoll_on(event_fd_of(ring), 0);
    struct seen seen[3];
    static const int64_t limits[] = {40 * MS, 10 * MS, 25 * MS}; /* the nearest isn't the first */
    memset(seen, 0, sizeof seen);
    int64_t began = now_ns();
    for (int i = 0; i < 3; i++) start_only(ring, with_timeout(read_op(ends.read, buf, note_completion, &seen[i]), limits[i]));
    while (seen[0].calls + seen[1].calls + seen[2].calls < 3) {
      if (paluring_ring_prepare(ring) == 0) CHECK(sleeps_until_woken(epoll, 5000));
      CHECK(paluring_ring_process(ring, 0) >= 0);
      for (int i = 0; i < 3; i++) CHECK(seen[i].calls == 0 || now_ns() - began >= limits[i]);
    }
    CHECK(now_ns() - began < 5 * SECOND);
    for (int i = 0; i < 3; i++) CHECK_EQ(seen[i].last.result, -ETIME);
    CHECK_EQ(paluring_ring_prepare(ring), 0);
    paluring_buf_release(buf);
    close(epoll);
    close_pipe(ends);
    ring_done(ring);
  }
}

struct waker {
  paluring_ring *ring;
  atomic_int round;
};

static void *wake_each_round(void *argument) {
  struct waker *self = argument;
  for (int i = 1; i <= tries(5000); i++) {
    if (!await_count(&self->round, i)) break;
    EXPECT_EQ(paluring_ring_wake(self->ring), 0);
  }
  return NULL;
}

TEST(wake_ends_the_sleep_of_an_event_loop) {
  static const uint32_t triggers[] = {0, EPOLLET};
  for (size_t i = 0; i < COUNT_OF(triggers); i++) {
    ROW(triggers[i] ? "edge" : "level");
    static struct waker self;
    self = (struct waker){.ring = ring_open(PALURING_MODE_OWNER, 0, 0)};
    int epoll = epoll_on(event_fd_of(self.ring), triggers[i]);
    CHECK_EQ(paluring_ring_prepare(self.ring), 0);
    pthread_t thread = start_thread(wake_each_round, &self);
    for (int round = 1; round <= tries(5000); round++) {
      atomic_store(&self.round, round);
      if (paluring_ring_prepare(self.ring) == 0) KEEP(sleeps_until_woken(epoll, 5000));
      KEEP(EXPECT_EQ(paluring_ring_process(self.ring, 0), 0));
    }
    DO(pthread_join(thread, NULL));
    close(epoll);
    ring_done(self.ring);
  }
}

static void ignore_post(uintptr_t user_data) {
  atomic_fetch_add((atomic_int *)user_data, 1);
}

static struct {
  paluring_ring *ring;
  paluring_io pending;
  atomic_int calls;
} asleep;

static void *ask_many_things(void *argument) {
  (void)argument;
  for (int i = 0; i < 200; i++) {
    start_only(asleep.ring, with_flags(nop_op(count_call, &asleep.calls), i % 2 ? PALURING_OP_SUBMIT : 0));
    EXPECT_EQ(paluring_ring_post(asleep.ring, ignore_post, (uintptr_t)&asleep.calls), 0);
    EXPECT_EQ(paluring_io_set_timeout(asleep.ring, asleep.pending, i % 2 ? 50 * SECOND : 60 * SECOND), 0);
    EXPECT_EQ(paluring_ring_cancel_fd(asleep.ring, 12345), 0);
  }
  return NULL;
}

TEST(a_sleeping_loop_is_woken_once_however_much_other_threads_ask_of_it) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    struct ends ends = open_pipe();
    asleep.ring = ring_open(HOST_MODES[mode], 64, 4096);
    atomic_store(&asleep.calls, 0);
    asleep.pending = start_op(asleep.ring, poll_op(ends.read, NULL, NULL));
    int fd = event_fd_of(asleep.ring);
    for (int round = 1; round <= 5; round++) {
      pthread_t threads[4];
      CHECK_EQ(paluring_ring_prepare(asleep.ring), 0);
      CHECK(!is_readable(fd));
      uint64_t wakes = stats_of(asleep.ring).total_wakes;
      for (size_t i = 0; i < COUNT_OF(threads); i++) threads[i] = start_thread(ask_many_things, NULL);
      for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
      CHECK_EQ(stats_of(asleep.ring).total_wakes, wakes + 1);
      CHECK(is_readable(fd));
      while (asleep.calls < round * 1600) CHECK(paluring_ring_run(asleep.ring, 1, LONG_ENOUGH) >= 0);
    }
    CHECK_EQ(paluring_ring_close(asleep.ring, LONG_ENOUGH), 0);
    paluring_ring_release(asleep.ring);
    close_pipe(ends);
  }
}

/* ---- what the loop's own thread does between prepare and its sleep ---- */

struct elsewhere {
  paluring_ring *ring;
  atomic_int calls;
};

static void *start_elsewhere(void *argument) {
  struct elsewhere *self = argument;
  start_only(self->ring, nop_op(count_call, &self->calls));
  return NULL;
}

TEST(an_io_started_after_prepare_goes_at_once_with_submit_and_the_sleep_stays_safe) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_socket();
    paluring_buf *buf = new_buf(1);
    int epoll = epoll_on(event_fd_of(ring), EPOLLET);
    atomic_int calls = 0;
    struct elsewhere elsewhere = {.ring = ring};
    for (int round = 0; round < 200; round++) {
      CHECK_EQ(paluring_ring_prepare(ring), 0);
      start_only(ring, with_flags(read_op(ends.read, buf, count_call, &calls), PALURING_OP_SUBMIT));
      if (round % 2) put_byte(ends);
      else DO(pthread_join(start_thread(start_elsewhere, &elsewhere), NULL)); /* who wakes the loop all the same */
      CHECK(sleeps_until_woken(epoll, 5000));
      if (!(round % 2)) put_byte(ends);
      while (calls < round + 1) {
        CHECK(paluring_ring_process(ring, 0) >= 0);
        if (paluring_ring_prepare(ring) == 0 && calls < round + 1) CHECK(sleeps_until_woken(epoll, 5000));
      }
      while (paluring_ring_prepare(ring) == 1) CHECK(paluring_ring_process(ring, 0) >= 0);
    }
    CHECK_EQ(elsewhere.calls, 100);
    close(epoll);
    paluring_buf_release(buf);
    close_pipe(ends);
    ring_done(ring);
  }
}

/* ---- 20,000 completions, no wake lost ---- */

enum { PIPES = 4 };
#define TOTAL tries(20000)

struct loop {
  paluring_ring *ring;
  struct source {
    struct loop *loop;
    struct ends ends;
    paluring_buf *buf;
  } sources[PIPES];
  atomic_int done, failed;
  bool foreign;
};

/* From the loop: reads again at once. From the other thread: nothing, that one starts the next. */
static void take_byte(uintptr_t user_data, paluring_completion *completion) {
  struct source *source = (struct source *)user_data;
  struct loop *loop = source->loop;
  if (completion->result != 1) atomic_fetch_add(&loop->failed, 1);
  if (!loop->foreign) {
    paluring_op op = read_op(source->ends.read, source->buf, take_byte, source);
    if (paluring_io_start(loop->ring, &op, NULL) != 0) atomic_fetch_add(&loop->failed, 1);
  }
  atomic_fetch_add(&loop->done, 1);
}

/* Each byte is written as soon as the one before it has been delivered: a lost wake stops everything. */
static void *feed(void *argument) {
  struct loop *loop = argument;
  for (int i = 0; i < TOTAL; i++) {
    struct source *source = &loop->sources[i % PIPES];
    if (loop->foreign && i % 2) { /* half of them complete as they are started */
      start_only(loop->ring, with_flags(read_op(source->ends.read, source->buf, take_byte, source), PALURING_OP_SUBMIT));
      put_byte(source->ends);
    } else {
      put_byte(source->ends);
      if (loop->foreign) start_only(loop->ring, with_flags(read_op(source->ends.read, source->buf, take_byte, source), PALURING_OP_SUBMIT));
    }
    if (!await_count(&loop->done, i + 1)) break;
  }
  return NULL;
}

static void no_wake_is_lost(uint32_t mode, uint32_t trigger, bool foreign) {
  static struct loop loop;
  loop = (struct loop){.ring = ring_open(mode, 0, 0), .foreign = foreign};
  int epoll = epoll_on(event_fd_of(loop.ring), trigger);
  for (int i = 0; i < PIPES; i++) {
    struct source *source = &loop.sources[i];
    *source = (struct source){.loop = &loop, .ends = open_pipe(), .buf = new_buf(1)};
    if (!foreign) start_only(loop.ring, read_op(source->ends.read, source->buf, take_byte, source));
  }
  CHECK(paluring_ring_prepare(loop.ring) == 0); /* bound, and asleep for those who start now */
  pthread_t thread = start_thread(feed, &loop);
  while (loop.done < TOTAL && !has_failed()) {
    int32_t status = paluring_ring_prepare(loop.ring);
    KEEP(status == 0 || status == 1);
    if (status == 0) KEEP(sleeps_until_woken(epoll, 5000)); /* else a wake was lost */
    KEEP(paluring_ring_process(loop.ring, loop.done % 3 == 0 ? 1 : 0) >= 0);
  }
  DO(pthread_join(thread, NULL));
  CHECK_EQ(loop.done, TOTAL);
  CHECK_EQ(loop.failed, 0);
  ring_done(loop.ring);
  for (int i = 0; i < PIPES; i++) {
    CHECK_EQ(paluring_buf_refs(loop.sources[i].buf), 1);
    paluring_buf_release(loop.sources[i].buf);
    close_pipe(loop.sources[i].ends);
  }
  close(epoll);
}

TEST(level_triggered_loop_loses_no_wake_of_20000_with_ios_started_in_it) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++)
    ROW(HOST_MODE_NAMES[mode]), no_wake_is_lost(HOST_MODES[mode], 0, false);
}

TEST(edge_triggered_loop_loses_no_wake_of_20000_with_ios_started_in_it) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++)
    ROW(HOST_MODE_NAMES[mode]), no_wake_is_lost(HOST_MODES[mode], EPOLLET, false);
}

TEST(level_triggered_loop_loses_no_wake_of_20000_with_ios_started_by_another_thread) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++)
    ROW(HOST_MODE_NAMES[mode]), no_wake_is_lost(HOST_MODES[mode], 0, true);
}

TEST(edge_triggered_loop_loses_no_wake_of_20000_with_ios_started_by_another_thread) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++)
    ROW(HOST_MODE_NAMES[mode]), no_wake_is_lost(HOST_MODES[mode], EPOLLET, true);
}

int main(void) {
  RUN(event_fd_is_one_descriptor_that_is_the_same_each_time_and_goes_with_close);
  RUN(the_fd_is_readable_while_there_is_something_to_process_or_reap);
  RUN(prepare_says_don_t_sleep_when_something_is_ready_already);
  RUN(prepare_finds_what_is_ready_behind_many_results_that_are_kept);
  RUN(process_with_a_budget_brings_level_and_edge_triggered_loops_back);
  RUN(a_limit_that_is_due_makes_the_fd_readable);
  RUN(wake_ends_the_sleep_of_an_event_loop);
  RUN(a_sleeping_loop_is_woken_once_however_much_other_threads_ask_of_it);
  RUN(an_io_started_after_prepare_goes_at_once_with_submit_and_the_sleep_stays_safe);
  RUN(level_triggered_loop_loses_no_wake_of_20000_with_ios_started_in_it);
  RUN(edge_triggered_loop_loses_no_wake_of_20000_with_ios_started_in_it);
  RUN(level_triggered_loop_loses_no_wake_of_20000_with_ios_started_by_another_thread);
  RUN(edge_triggered_loop_loses_no_wake_of_20000_with_ios_started_by_another_thread);
  return harness_end();
}
