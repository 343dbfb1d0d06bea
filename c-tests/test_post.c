/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Functions posted to a ring's driver: once, in order, from any thread. */
#include "scene.h"

enum { POSTERS = 8 };
#define POSTS tries(5000)

static paluring_ring *ring;
static pthread_t driver;
static atomic_int ran;
static atomic_bool stop;

static void count_post(uintptr_t user_data) {
  atomic_fetch_add((atomic_int *)user_data, 1);
}

/* Drives until as many posts have run; a BACKGROUND ring's thread does by itself. */
static void await_posts(uint32_t mode, int want) {
  int64_t end = now_ns() + LONG_ENOUGH;
  while (atomic_load(&ran) < want && now_ns() < end && !has_failed()) {
    if (mode == PALURING_MODE_BACKGROUND) sched_yield();
    else EXPECT(paluring_ring_run(ring, 1, SECOND) >= 0);
  }
  EXPECT_EQ(atomic_load(&ran), want);
}

struct poster {
  paluring_ring *ring;
  int next; /* that the driver expects */
};

struct posted {
  struct poster *poster;
  int number;
};

static void run_in_order(uintptr_t user_data) {
  struct posted *posted = (struct posted *)user_data;
  EXPECT_EQ(posted->number, posted->poster->next);
  posted->poster->next++;
  free(posted);
  atomic_fetch_add(&ran, 1);
}

static void *post_many(void *argument) {
  struct poster *self = argument;
  for (int i = 0; i < POSTS; i++) {
    struct posted *posted = malloc(sizeof *posted);
    *posted = (struct posted){self, i};
    EXPECT_EQ(paluring_ring_post(self->ring, run_in_order, (uintptr_t)posted), 0);
  }
  return NULL;
}

TEST(posts_of_eight_threads_run_once_and_in_order) {
  for (size_t m = 0; m < COUNT_OF(ALL_MODES); m++) {
    ROW(ALL_MODE_NAMES[m]);
    atomic_store(&ran, 0);
    ring = ring_with_cq(ALL_MODES[m], 8, 0, 0);
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    for (int i = 0; i < POSTERS; i++) {
      posters[i] = (struct poster){ring, 0};
      threads[i] = start_thread(post_many, &posters[i]);
    }
    DO(await_posts(ALL_MODES[m], POSTERS * POSTS));
    for (int i = 0; i < POSTERS; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(paluring_ring_close(ring, -1), 0);
    CHECK_EQ(paluring_ring_post(ring, count_post, (uintptr_t)&ran), PALURING_ERR_CLOSED);
    paluring_ring_release(ring);
  }
  CHECK_EQ(paluring_ring_post(NULL, count_post, 0), -EINVAL);
}

static void post_again(uintptr_t user_data) {
  if (atomic_fetch_add(&ran, 1) < tries(1000) - 1) EXPECT_EQ(paluring_ring_post(ring, post_again, user_data), 0);
  else atomic_store(&stop, true);
}

TEST(a_post_that_posts_again_leaves_each_process_bounded) {
  for (size_t m = 0; m < COUNT_OF(HOST_MODES); m++) {
    ROW(HOST_MODE_NAMES[m]);
    atomic_store(&ran, 0);
    ring = ring_with_cq(HOST_MODES[m], 8, 0, 0);
    CHECK_EQ(paluring_ring_post(ring, post_again, 0), 0);
    for (int i = 1; i <= tries(1000); i++) {
      CHECK_EQ(paluring_ring_process(ring, 0), 0);
      CHECK_EQ(atomic_load(&ran), i);
    }
    paluring_ring_release(ring);
  }
}

static void stop_loop(uintptr_t user_data) {
  *(bool *)user_data = true;
}

static void *post_stop(void *argument) {
  EXPECT_EQ(paluring_ring_post(ring, stop_loop, (uintptr_t)argument), 0);
  return NULL;
}

TEST(a_post_ends_every_wait_of_a_loop_with_nothing_else_to_do) {
  for (size_t m = 0; m < COUNT_OF(HOST_MODES); m++) {
    ROW(HOST_MODE_NAMES[m]);
    for (int try = 0; try < tries(500); try++) {
      bool stopped = false;
      ring = ring_with_cq(HOST_MODES[m], 8, 0, 0);
      pthread_t thread = start_thread(post_stop, &stopped);
      while (!stopped && !has_failed()) {
        if (try % 2) EXPECT_EQ(paluring_ring_run(ring, 1, FOREVER), 0);
        else EXPECT_EQ(paluring_ring_wait(ring, 1, FOREVER), 0), EXPECT_EQ(paluring_ring_process(ring, 0), 0);
      }
      pthread_join(thread, NULL);
      paluring_ring_release(ring);
    }
  }
}

static void post_in_callback(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  EXPECT_EQ(paluring_ring_post(ring, count_post, user_data), 0);
  EXPECT_EQ(atomic_load((atomic_int *)user_data), 0);
}

TEST(what_was_accepted_runs_before_a_close_ends_even_what_its_callbacks_post) {
  for (size_t m = 0; m < COUNT_OF(ALL_MODES); m++) {
    ROW(ALL_MODE_NAMES[m]);
    for (int bound = 0; bound < 2; bound++) {
      atomic_store(&ran, 0);
      ring = ring_with_cq(ALL_MODES[m], 8, 0, 0);
      if (bound && ALL_MODES[m] != PALURING_MODE_BACKGROUND) CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
      for (int i = 0; i < 10; i++) CHECK_EQ(paluring_ring_post(ring, count_post, (uintptr_t)&ran), 0);
      CHECK_EQ(paluring_ring_close(ring, -1), 0);
      CHECK_EQ(atomic_load(&ran), 10);
      paluring_ring_release(ring);
      atomic_store(&ran, 0);
      ring = ring_with_cq(ALL_MODES[m], 8, 0, 0);
      CHECK_EQ(paluring_ring_post(ring, count_post, (uintptr_t)&ran), 0);
      paluring_ring_release(ring);
      CHECK_EQ(atomic_load(&ran), 1);
    }
  }
}

TEST(a_post_of_a_callback_runs_after_it_and_makes_the_event_fd_readable) {
  atomic_store(&ran, 0);
  int fd = -1;
  ring = ring_with_cq(PALURING_MODE_OWNER, 8, 0, 0);
  CHECK_EQ(paluring_ring_event_fd(ring, &fd), 0);
  CHECK_EQ(paluring_ring_prepare(ring), 0);
  start_only(ring, nop_op(post_in_callback, &ran));
  CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
  CHECK(is_readable(fd));
  CHECK_EQ(paluring_ring_prepare(ring), 1);
  CHECK_EQ(paluring_ring_process(ring, 0), 0);
  CHECK_EQ(atomic_load(&ran), 1);
  CHECK_EQ(paluring_ring_prepare(ring), 0);
  CHECK(!is_readable(fd));
  bool stopped = false;
  pthread_join(start_thread(post_stop, &stopped), NULL);
  CHECK(is_readable(fd));
  CHECK_EQ(paluring_ring_drain(ring, 0), 0);
  CHECK(stopped);
  paluring_ring_release(ring);
}

static void note_driver(uintptr_t user_data) {
  EXPECT(pthread_equal(pthread_self(), driver));
  EXPECT_EQ(paluring_ring_run((paluring_ring *)user_data, 0, 0), -EBUSY);
  EXPECT_EQ(paluring_ring_drain((paluring_ring *)user_data, 0), -EBUSY);
  atomic_fetch_add(&ran, 1);
}

/* The posts cross: each ring's driver posts to the other. */
static void hand_over(uintptr_t user_data) {
  paluring_ring *other = (paluring_ring *)user_data;
  EXPECT_EQ(paluring_ring_post(other, note_driver, user_data), 0);
}

TEST(a_post_hands_work_to_another_ring) {
  atomic_store(&ran, 0);
  driver = pthread_self();
  ring = ring_with_cq(PALURING_MODE_OWNER, 8, 0, 0);
  paluring_ring *other = ring_with_cq(PALURING_MODE_BACKGROUND, 8, 0, 0);
  for (int i = 0; i < 100; i++) CHECK_EQ(paluring_ring_post(other, hand_over, (uintptr_t)ring), 0);
  DO(await_posts(PALURING_MODE_OWNER, 100));
  CHECK_EQ(paluring_ring_close(other, -1), 0);
  paluring_ring_release(other);
  paluring_ring_release(ring);
}

static void close_in_post(uintptr_t user_data) {
  EXPECT_EQ(paluring_ring_close((paluring_ring *)user_data, -1), 0);
  atomic_fetch_add(&ran, 1);
}

static void release_in_post(uintptr_t user_data) {
  paluring_ring_release((paluring_ring *)user_data);
  atomic_fetch_add(&ran, 1);
}

TEST(a_post_may_close_and_release_the_ring) {
  for (size_t m = 0; m < COUNT_OF(ALL_MODES); m++) {
    ROW(ALL_MODE_NAMES[m]);
    for (int try = 0; try < tries(100); try++) {
      atomic_store(&ran, 0);
      ring = ring_with_cq(ALL_MODES[m], 8, 0, 0);
      CHECK_EQ(paluring_ring_post(ring, close_in_post, (uintptr_t)ring), 0);
      if (ALL_MODES[m] != PALURING_MODE_BACKGROUND) CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), PALURING_ERR_CLOSED);
      else DO(await_count(&ran, 1));
      paluring_ring_release(ring);
      ring = ring_with_cq(ALL_MODES[m], 8, 0, 0);
      CHECK_EQ(paluring_ring_post(ring, release_in_post, (uintptr_t)ring), 0);
      if (ALL_MODES[m] != PALURING_MODE_BACKGROUND) CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), PALURING_ERR_CLOSED);
      DO(await_count(&ran, 2));
    }
  }
}

int main(void) {
  RUN(posts_of_eight_threads_run_once_and_in_order);
  RUN(a_post_that_posts_again_leaves_each_process_bounded);
  RUN(a_post_ends_every_wait_of_a_loop_with_nothing_else_to_do);
  RUN(what_was_accepted_runs_before_a_close_ends_even_what_its_callbacks_post);
  RUN(a_post_of_a_callback_runs_after_it_and_makes_the_event_fd_readable);
  RUN(a_post_hands_work_to_another_ring);
  RUN(a_post_may_close_and_release_the_ring);
  return harness_end();
}
