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

/* ---- a buffer and a descriptor go to another ring ---- */

struct parcel {
  paluring_ring *to;
  paluring_buf *buf;
  int fd; /* the write end of a pipe */
};

static void written(uintptr_t user_data, paluring_completion *completion) {
  struct parcel *parcel = (struct parcel *)user_data;
  EXPECT_EQ(completion->result, 4096);
  close(parcel->fd);
  free(parcel);
  atomic_fetch_add(&ran, 1);
}

/* On the other ring's driver: writes what was read on the first one. */
static void unpack(uintptr_t user_data) {
  struct parcel *parcel = (struct parcel *)user_data;
  paluring_op op;
  paluring_op_write(&op, parcel->fd, parcel->buf, 0, 4096, UINT64_MAX);
  op.callback = written;
  op.user_data = user_data;
  start_only(parcel->to, op);
  paluring_buf_release(parcel->buf);
}

static void send_on(uintptr_t user_data, paluring_completion *completion) {
  struct parcel *parcel = (struct parcel *)user_data;
  EXPECT_EQ(completion->result, 4096);
  parcel->buf = paluring_completion_take(completion);
  EXPECT_EQ(paluring_ring_post(parcel->to, unpack, user_data), 0);
}

static void drive_once(uint32_t mode, paluring_ring *driven) {
  if (mode != PALURING_MODE_BACKGROUND) EXPECT(paluring_ring_run(driven, 1, MS) >= 0);
}

static void hand_parcels(uint32_t from_mode, uint32_t to_mode, int file) {
  enum { PARCELS = 40 };
  struct ends pipes[PARCELS];
  int before = count_fds();
  paluring_ring *from = ring_open(from_mode, 8, 64), *to = ring_open(to_mode, 8, 64);
  atomic_store(&ran, 0);
  for (int i = 0; i < PARCELS; i++) {
    struct parcel *parcel = malloc(sizeof *parcel);
    pipes[i] = open_pipe();
    *parcel = (struct parcel){to, NULL, pipes[i].write};
    paluring_buf *buf = new_buf(4096);
    paluring_op op;
    paluring_op_read(&op, file, buf, 0, 4096, (uint64_t)i);
    op.callback = send_on;
    op.user_data = (uintptr_t)parcel;
    start_only(from, op);
    paluring_buf_release(buf); /* the I/O has it, then the parcel, then the other ring's I/O */
  }
  for (int64_t end = now_ns() + LONG_ENOUGH; ran < PARCELS && now_ns() < end && !has_failed();) drive_once(from_mode, from), drive_once(to_mode, to);
  CHECK_EQ(ran, PARCELS);
  for (int i = 0; i < PARCELS; i++) {
    char bytes[5000];
    CHECK_EQ(read(pipes[i].read, bytes, sizeof bytes), 4096);
    CHECK(has_pattern(bytes, 4096, (size_t)i, 5));
    CHECK_EQ(read(pipes[i].read, bytes, 1), 0); /* the only write end was closed on the other side */
    close(pipes[i].read);
  }
  ring_done(from);
  ring_done(to);
  CHECK_EQ(count_fds(), before);
}

TEST(a_post_hands_a_buffer_and_a_descriptor_from_a_ring_of_each_mode_to_one_of_each) {
  int file = temp_file("parcels", 8192, 5);
  for (size_t i = 0; i < COUNT_OF(ALL_MODES) * COUNT_OF(ALL_MODES); i++) {
    char row[40];
    snprintf(row, sizeof row, "%s to %s", ALL_MODE_NAMES[i / 3], ALL_MODE_NAMES[i % 3]);
    ROW(row);
    DO(hand_parcels(ALL_MODES[i / 3], ALL_MODES[i % 3], file));
  }
  close(file);
}

/* ---- posts that race with a close ---- */

static atomic_int accepted;

static void *post_until_closed(void *argument) {
  int32_t status = 0;
  atomic_fetch_add((atomic_int *)argument, 1);
  while (status == 0) {
    status = paluring_ring_post(ring, count_post, (uintptr_t)&ran);
    if (status == 0 && atomic_fetch_add(&accepted, 1) % 64 == 63) sched_yield();
  }
  EXPECT_EQ(status, PALURING_ERR_CLOSED);
  return NULL;
}

TEST(of_posts_that_race_with_a_close_those_accepted_run_once_before_it_ends_and_those_refused_never) {
  for (size_t m = 0; m < COUNT_OF(ALL_MODES); m++) {
    ROW(ALL_MODE_NAMES[m]);
    for (int try = 0; try < tries(300); try++) {
      pthread_t threads[4];
      atomic_int begun = 0;
      atomic_store(&ran, 0);
      atomic_store(&accepted, 0);
      ring = ring_with_cq(ALL_MODES[m], 8, 0, 0);
      for (size_t i = 0; i < COUNT_OF(threads); i++) threads[i] = start_thread(post_until_closed, &begun);
      DO(await_count(&begun, try % 5));
      for (int k = 0; k < try % 7; k++) sched_yield();
      CHECK_EQ(paluring_ring_close(ring, try % 2 ? FOREVER : 0), 0);
      int when_closed = atomic_load(&ran);
      for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
      CHECK_EQ(atomic_load(&ran), atomic_load(&accepted));
      CHECK_EQ(when_closed, atomic_load(&accepted));
      paluring_ring_release(ring);
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
  RUN(a_post_hands_a_buffer_and_a_descriptor_from_a_ring_of_each_mode_to_one_of_each);
  RUN(of_posts_that_race_with_a_close_those_accepted_run_once_before_it_ends_and_those_refused_never);
  RUN(a_post_may_close_and_release_the_ring);
  return harness_end();
}
