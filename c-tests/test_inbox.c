/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Starts of other threads are left in an inbox for the owner. Nobody can tell: they can be cancelled, dropped and polled at
 * once, count, are bounded by max_in_flight, keep their order, and wake a sleeping owner.
 */
#include "scene.h"

static const uint32_t OWNED[] = {PALURING_MODE_OWNER, PALURING_MODE_BACKGROUND};
static const char *const OWNED_NAMES[] = {"OWNER", "BACKGROUND"};

/* ---- what another thread does ---- */

static struct {
  paluring_ring *ring;
  paluring_op op;
  int count;
  int32_t status; /* of the last start */
  int accepted;
  paluring_io ios[256];
} other;

static void *start_others(void *argument) {
  (void)argument;
  for (other.accepted = 0; other.accepted < other.count; other.accepted++) {
    other.status = paluring_io_start(other.ring, &other.op, &other.ios[other.accepted]);
    if (other.status < 0) break;
  }
  return NULL;
}

/* Have another thread start up to `count` times; how many were accepted. */
static int start_elsewhere(paluring_ring *ring, paluring_op op, int count) {
  other.ring = ring, other.op = op, other.count = count;
  pthread_t thread = start_thread(start_others, NULL);
  EXPECT_EQ(pthread_join(thread, NULL), 0);
  return other.accepted;
}

/* A ring that this thread owns, whose inbox is in use. */
static paluring_ring *open_used(uint32_t max_in_flight) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, max_in_flight);
  atomic_int calls = 0;
  EXPECT_EQ(paluring_ring_run(ring, 0, 0), 0);
  for (int i = 1; i <= 3; i++) {
    EXPECT_EQ(start_elsewhere(ring, nop_op(count_call, &calls), 1), 1);
    run_until(ring, &calls, i);
  }
  return ring;
}

/* ---- nobody can tell ---- */

TEST(an_io_in_the_inbox_is_polled_cancelled_and_dropped_as_any_other) {
  paluring_ring *ring = open_used(64);
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  paluring_completion completion;
  CHECK_EQ(start_elsewhere(ring, read_op(ends.read, buf, NULL, NULL), 4), 4);
  CHECK_EQ(paluring_io_poll(ring, other.ios[0], NULL, 0, &completion), 0);
  CHECK_EQ(start_elsewhere(ring, read_op(ends.read, buf, NULL, NULL), 1), 1);
  CHECK_EQ(paluring_io_cancel(ring, other.ios[0]), 0);
  CHECK_EQ(paluring_io_wait(ring, other.ios[0], LONG_ENOUGH, &completion), 0);
  CHECK_EQ(completion.result, -ECANCELED);
  paluring_buf_release(completion.buf);
  CHECK_EQ(start_elsewhere(ring, read_op(ends.read, buf, NULL, NULL), 1), 1);
  CHECK_EQ(paluring_io_drop(ring, other.ios[0], NULL), 0);
  CHECK_EQ(paluring_io_poll(ring, other.ios[0], NULL, 0, NULL), PALURING_ERR_STALE);
  CHECK_EQ(stats_of(ring).dropped, 1);
  CHECK_EQ(start_elsewhere(ring, read_op(ends.read, buf, NULL, NULL), 7), 7);
  CHECK_EQ(stats_of(ring).waiting, 4 + 7);
  CHECK_EQ(stats_of(ring).total_started, 3 + 4 + 1 + 1 + 7);
  CHECK_EQ(paluring_buf_refs(buf), 1 + 4 + 1 + 7);
  paluring_buf_release(buf);
  ring_done(ring);
  close_pipe(ends);
}

struct order {
  int next, wrong;
};

static struct order order;

static void note_order(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  order.wrong += order.next++ != (int)user_data;
}

static void *start_in_order(void *argument) {
  for (int i = 0; i < 40; i++) {
    paluring_op op = nop_op(note_order, NULL);
    op.user_data = (uintptr_t)i;
    op.timeout_ns = i % 5 == 4 ? 60 * SECOND : 0; /* not for the inbox */
    EXPECT_EQ(paluring_io_start(argument, &op, NULL), 0);
  }
  return NULL;
}

TEST(a_threads_starts_keep_their_order_whichever_way_they_take) {
  paluring_ring *ring = open_used(256);
  for (int i = 0; i < tries(300); i++) {
    order = (struct order){0};
    pthread_t thread = start_thread(start_in_order, ring);
    while (order.next < 40 && !has_failed()) EXPECT(paluring_ring_run(ring, 1, LONG_ENOUGH) >= 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(order.wrong, 0);
  }
  ring_done(ring);
}

/* ---- bounds ---- */

TEST(both_sides_together_get_exactly_max_in_flight) {
  for (uint32_t most = 1; most <= 200; most = most * 3 + most % 2) {
    paluring_ring *ring = open_used(most);
    atomic_int calls = 0, room = 0;
    CHECK_EQ(paluring_ring_on_room(ring, NULL, 0), 0);
    for (int round = 0; round < 6; round++) {
      const int own = round * (int)most / 5;
      uint64_t refused = stats_of(ring).total_again;
      CHECK_EQ(start_elsewhere(ring, nop_op(count_call, &calls), 1), 1);
      DO(run_until(ring, &calls, round * ((int)most + 1) + 1));
      for (int i = 0; i < 5000; i++) CHECK_EQ(paluring_ring_run(ring, 0, 0), 0); /* the ring's lock is its owner's again */
      if (round % 2) {
        for (int i = 0; i < own; i++) start_only(ring, nop_op(count_call, &calls));
        CHECK_EQ(start_elsewhere(ring, nop_op(count_call, &calls), 256), (int)most - own);
        CHECK_EQ(other.status, -EAGAIN);
      } else {
        CHECK_EQ(start_elsewhere(ring, nop_op(count_call, &calls), (int)most - own), (int)most - own);
        for (int i = 0; i < own; i++) start_only(ring, nop_op(count_call, &calls));
        paluring_op op = nop_op(count_call, &calls);
        CHECK_EQ(paluring_io_start(ring, &op, NULL), -EAGAIN);
      }
      CHECK_EQ(stats_of(ring).total_again - refused, 1);
      DO(run_until(ring, &calls, (round + 1) * ((int)most + 1)));
    }
    CHECK_EQ(stats_of(ring).high_in_flight, most);
    CHECK_EQ(room, 0);
    ring_done(ring);
    CHECK_EQ(calls, 6 * ((int)most + 1));
  }
}

static void note_room(uintptr_t user_data) {
  ++*(atomic_int *)user_data;
}

/* Handles that wait for letters hide no room from who waits for it. */
TEST(a_chain_that_was_refused_is_told_of_room_though_the_inbox_is_in_use) {
  paluring_ring *ring = open_used(8);
  atomic_int calls = 0, room = 0;
  paluring_op chain[8];
  for (int i = 0; i < 8; i++) chain[i] = nop_op(count_call, &calls);
  CHECK_EQ(paluring_ring_on_room(ring, note_room, (uintptr_t)&room), 0);
  CHECK_EQ(start_elsewhere(ring, nop_op(count_call, &calls), 1), 1);
  CHECK_EQ(paluring_io_start_chain(ring, chain, 8, 0, NULL), -EAGAIN);
  DO(run_until(ring, &calls, 1));
  for (int i = 0; i < 4 && !room; i++) CHECK(paluring_ring_run(ring, 0, 0) >= 0);
  CHECK_EQ(room, 1);
  CHECK_EQ(paluring_io_start_chain(ring, chain, 8, 0, NULL), 8);
  DO(run_until(ring, &calls, 9));
  ring_done(ring);
}

/* ---- close ---- */

static void close_in_callback(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  paluring_ring *ring = (paluring_ring *)user_data;
  EXPECT_EQ(start_elsewhere(ring, other.op, 5), 5);
  EXPECT_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  EXPECT_EQ(start_elsewhere(ring, other.op, 1), 0);
  EXPECT_EQ(other.status, PALURING_ERR_CLOSED);
}

TEST(a_close_ends_each_io_in_the_inbox_once_and_takes_no_more) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  for (int in_callback = 0; in_callback < 2; in_callback++) {
    paluring_ring *ring = open_used(64);
    struct seen seen = {0};
    paluring_op op = read_op(ends.read, buf, note_completion, &seen);
    if (in_callback) {
      other.op = op;
      start_only(ring, nop_op(close_in_callback, ring));
      CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), PALURING_ERR_CLOSED);
    } else {
      CHECK_EQ(start_elsewhere(ring, op, 5), 5);
      CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
      CHECK_EQ(start_elsewhere(ring, op, 1), 0);
      CHECK_EQ(other.status, PALURING_ERR_CLOSED);
    }
    CHECK_EQ(seen.calls, 5);
    CHECK_EQ(seen.last.result, -ECANCELED);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_ring_release(ring);
  }
  paluring_buf_release(buf);
  close_pipe(ends);
}

static atomic_int accepted, ended;
static atomic_bool closing;

static void note_end(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
  ended++;
}

static void *start_until_closed(void *argument) {
  paluring_op op = nop_op(note_end, NULL);
  int32_t status;
  while ((status = paluring_io_start(argument, &op, NULL)) != PALURING_ERR_CLOSED && !has_failed()) {
    if (status == 0) accepted++;
    else EXPECT_EQ(status, -EAGAIN);
  }
  return NULL;
}

/* The close comes at any moment of two threads' starts. */
TEST(a_close_against_starts_of_two_threads_loses_none) {
  for (size_t mode = 0; mode < COUNT_OF(OWNED); mode++) {
    ROW(OWNED_NAMES[mode]);
    for (int i = 0; i < tries(1000); i++) {
      accepted = ended = 0;
      paluring_ring *ring = ring_open(OWNED[mode], 8, 64);
      if (OWNED[mode] == PALURING_MODE_OWNER) CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
      pthread_t threads[2] = {start_thread(start_until_closed, ring), start_thread(start_until_closed, ring)};
      while (accepted < i % 50) {
        if (OWNED[mode] == PALURING_MODE_OWNER) CHECK(paluring_ring_run(ring, 0, 0) >= 0);
      }
      CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
      for (int k = 0; k < 2; k++) CHECK_EQ(pthread_join(threads[k], NULL), 0);
      CHECK_EQ(ended, accepted);
      paluring_ring_release(ring);
    }
  }
}

/* ---- the wake ---- */

static atomic_int asked, answered;

static void answer(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
  answered++;
}

static void *ask(void *argument) {
  paluring_op op = nop_op(answer, NULL);
  for (int i = 0; !closing; i++) {
    await_count(&asked, i + 1);
    if (closing) break;
    for (volatile int spin = 0; spin < i % 400 * 10; spin++) continue; /* at each moment of the owner's way to sleep */
    EXPECT_EQ(paluring_io_start(argument, &op, NULL), 0);
  }
  return NULL;
}

/* `calm` waits in vain before each question: then the owner has forgotten that letters come. */
static void check_wakes(int questions, int calm) {
  paluring_ring *ring = open_used(64);
  asked = 0;
  answered = 0;
  closing = false;
  pthread_t thread = start_thread(ask, ring);
  for (int i = 1; i <= questions && !has_failed(); i++) {
    for (int k = 0; k < calm; k++) EXPECT_EQ(paluring_ring_run(ring, 1, 1), 0);
    asked = i;
    run_until(ring, &answered, i);
  }
  closing = true;
  asked = INT32_MAX;
  EXPECT_EQ(pthread_join(thread, NULL), 0);
  ring_done(ring);
}

TEST(a_start_at_any_moment_of_the_owners_way_to_sleep_wakes_it) {
  ROW("often"), check_wakes(tries(10000), 0);
  ROW("seldom"), check_wakes(tries(100), 1100);
}

/* The library reads the clock between its last look and its sleep, under its lock; this clock_gettime stands in front of libc's. */
static struct {
  paluring_ring *ring; /* another thread starts at the count-th reading from now */
  paluring_op op;
  int count, fired;
} window;

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (window.ring && --window.count == 0) {
    paluring_ring *ring = window.ring;
    window.ring = NULL;
    window.fired++;
    EXPECT_EQ(start_elsewhere(ring, window.op, 1), 1);
  }
  return (int)syscall(SYS_clock_gettime, clock, now);
}

TEST(a_start_between_the_owners_last_look_and_its_sleep_is_seen) {
  paluring_ring *ring = open_used(64);
  struct ends ends = open_pipe();
  atomic_int calls = 0, polls = 0;
  window.op = nop_op(count_call, &calls);
  for (int round = 0; round < 8; round++) {
    if (round == 4) start_only(ring, with_timeout(poll_op(ends.read, count_call, &polls), 60 * SECOND)); /* reads it more often */
    CHECK(paluring_ring_run(ring, 0, 0) >= 0);
    int64_t began = now_ns();
    window.count = round < 4 ? 1 : 1 + round % 2;
    window.ring = ring;
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(window.fired, round + 1);
    CHECK_EQ(calls, round + 1);
    CHECK(now_ns() - began < LONG_ENOUGH / 2);
  }
  ring_done(ring);
  close_pipe(ends);
}

static int64_t cpu_ns(void) {
  struct timespec used;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return (int64_t)used.tv_sec * SECOND + used.tv_nsec;
}

/* The owner looks out for letters a moment before it sleeps, and only while that is worth it. */
TEST(an_owner_that_looked_out_for_letters_sleeps_when_none_come) {
  paluring_ring *ring = open_used(64);
  check_wakes(tries(1000), 0);
  atomic_int calls = 0;
  CHECK_EQ(start_elsewhere(ring, nop_op(count_call, &calls), 1), 1);
  DO(run_until(ring, &calls, 1));
  int64_t before = cpu_ns();
  uint64_t enters = stats_of(ring).total_enters;
  CHECK_EQ(paluring_ring_run(ring, 1, 500 * MS), 0);
  CHECK(cpu_ns() - before < 50 * MS || under_valgrind());
  CHECK(stats_of(ring).total_enters - enters < 20);
  ring_done(ring);
}

int main(void) {
  RUN(an_io_in_the_inbox_is_polled_cancelled_and_dropped_as_any_other);
  RUN(a_threads_starts_keep_their_order_whichever_way_they_take);
  RUN(both_sides_together_get_exactly_max_in_flight);
  RUN(a_chain_that_was_refused_is_told_of_room_though_the_inbox_is_in_use);
  RUN(a_close_ends_each_io_in_the_inbox_once_and_takes_no_more);
  RUN(a_close_against_starts_of_two_threads_loses_none);
  RUN(a_start_at_any_moment_of_the_owners_way_to_sleep_wakes_it);
  RUN(a_start_between_the_owners_last_look_and_its_sleep_is_seen);
  RUN(an_owner_that_looked_out_for_letters_sleeps_when_none_come);
  return harness_end();
}
