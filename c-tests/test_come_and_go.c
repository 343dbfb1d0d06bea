/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A thousand threads start one I/O each and exit: in every mode, and whether they enter the kernel with it or leave it to the
 * driver, each I/O completes once and takes one thing, no more and no less.
 */
#include "scene.h"

#include <sys/eventfd.h>

enum { MOST = 1000, AT_ONCE = 50 };
#define THREADS tries(MOST)

static struct {
  paluring_ring *ring;
  paluring_buf *buf;
  int semaphore; /* each read takes 1 */
  uint32_t flags;
  atomic_int next, all, calls[MOST];
  atomic_int wrong;
  int32_t want;
} scene;

static void note(uintptr_t user_data, paluring_completion *completion) {
  if (completion->result != scene.want) atomic_fetch_add(&scene.wrong, 1);
  atomic_fetch_add(&scene.calls[user_data], 1);
  atomic_fetch_add(&scene.all, 1);
}

static void *start_one(void *argument) {
  (void)argument;
  paluring_op op = with_flags(read_op(scene.semaphore, scene.buf, note, NULL), scene.flags);
  op.user_data = (uintptr_t)atomic_fetch_add(&scene.next, 1);
  start_only(scene.ring, op);
  return NULL;
}

static void start_all(uint32_t mode, bool driven) {
  pthread_t threads[AT_ONCE];
  if (mode == PALURING_MODE_OWNER) CHECK_EQ(paluring_ring_submit(scene.ring), 0); /* bound to this thread */
  for (int i = 0, count; i < THREADS; i += count) {
    count = THREADS - i < AT_ONCE ? THREADS - i : AT_ONCE;
    for (int k = 0; k < count; k++) threads[k] = start_thread(start_one, NULL);
    if (driven && mode != PALURING_MODE_BACKGROUND) EXPECT_EQ(paluring_ring_run(scene.ring, 1, MS), 0);
    for (int k = 0; k < count; k++) pthread_join(threads[k], NULL);
  }
}

/* What they wait for comes, or the ring is closed instead. */
static void end_all(bool closed) {
  paluring_stats stats = stats_of(scene.ring);
  uint64_t ones = (uint64_t)THREADS;
  CHECK_EQ(stats.total_started, THREADS);
  CHECK_EQ(scene.all, 0);
  if (!closed) {
    CHECK(write(scene.semaphore, &ones, sizeof ones) == sizeof ones);
    CHECK_EQ(paluring_ring_drain(scene.ring, LONG_ENOUGH), 0);
    CHECK_EQ(scene.all, THREADS);
    stats = stats_of(scene.ring);
    CHECK_EQ(stats.total_cancelled, 0);
  }
  CHECK_EQ(paluring_ring_close(scene.ring, LONG_ENOUGH), 0);
  for (int i = 0; i < THREADS; i++) CHECK_EQ(scene.calls[i], 1);
  CHECK_EQ(scene.wrong, 0);
  CHECK_EQ(paluring_buf_refs(scene.buf), 1);
  CHECK(!is_readable(scene.semaphore));
}

static void come_and_go(uint32_t mode, uint32_t flags, bool driven, bool closed) {
  memset(&scene, 0, sizeof scene);
  scene.flags = flags;
  scene.want = closed ? -ECANCELED : (int32_t)sizeof(uint64_t);
  scene.semaphore = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
  scene.buf = new_buf(sizeof(uint64_t));
  scene.ring = ring_open(mode, 64, 1024);
  CHECK(scene.ring);
  DO(start_all(mode, driven));
  DO(end_all(closed));
  uint64_t resubmits = stats_of(scene.ring).total_resubmits;
  if (mode != PALURING_MODE_SHARED) CHECK_EQ(resubmits, 0); /* there the driver has submitted them all */
  else if (flags && !closed) CHECK(resubmits > 0);
  paluring_ring_release(scene.ring);
  paluring_buf_release(scene.buf);
  close(scene.semaphore);
}

TEST(a_thousand_threads_start_one_io_each_and_exit_and_all_complete_once_in_every_mode) {
  for (unsigned i = 0; i < 8 * COUNT_OF(ALL_MODES); i++) {
    bool submit = i & 1, driven = i & 2, closed = i & 4;
    char row[80];
    snprintf(row, sizeof row, "%s%s%s%s", ALL_MODE_NAMES[i / 8], submit ? ", submitted" : "", driven ? ", driven meanwhile" : "", closed ? ", closed" : "");
    ROW(row);
    DO(come_and_go(ALL_MODES[i / 8], submit ? PALURING_OP_SUBMIT : 0, driven, closed));
  }
}

/* ---- threads that wait for theirs before they go, sixteen at a time ---- */

static void *wait_for_one(void *argument) {
  uint64_t one = 1;
  (void)argument;
  paluring_op op = with_flags(read_op(scene.semaphore, scene.buf, NULL, NULL), scene.flags);
  paluring_io io = start_op(scene.ring, op);
  paluring_completion completion = {0};
  EXPECT(write(scene.semaphore, &one, sizeof one) == sizeof one); /* for whichever reads it */
  EXPECT_EQ(paluring_io_wait(scene.ring, io, LONG_ENOUGH, &completion), 0);
  EXPECT_EQ(completion.result, sizeof one);
  atomic_fetch_add(&scene.all, 1);
  return NULL;
}

TEST(threads_that_exit_right_after_their_wait_take_nobody_elses_io_with_them) {
  static const uint32_t modes[] = {PALURING_MODE_SHARED, PALURING_MODE_BACKGROUND};
  for (size_t m = 0; m < 2 * COUNT_OF(modes); m++) {
    ROW(m / 2 ? "BACKGROUND" : "SHARED");
    memset(&scene, 0, sizeof scene);
    scene.flags = m % 2 ? PALURING_OP_SUBMIT : 0;
    scene.semaphore = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
    scene.buf = new_buf(sizeof(uint64_t));
    scene.ring = ring_open(modes[m / 2], 8, 64);
    const int rounds = tries(60);
    for (int i = 0; i < rounds && !has_failed(); i++) {
      pthread_t threads[16];
      for (size_t k = 0; k < COUNT_OF(threads); k++) threads[k] = start_thread(wait_for_one, NULL);
      for (size_t k = 0; k < COUNT_OF(threads); k++) pthread_join(threads[k], NULL);
    }
    CHECK_EQ(scene.all, 16 * rounds);
    CHECK(!is_readable(scene.semaphore));
    ring_done(scene.ring);
    CHECK_EQ(paluring_buf_refs(scene.buf), 1);
    paluring_buf_release(scene.buf);
    close(scene.semaphore);
  }
}

int main(void) {
  RUN(a_thousand_threads_start_one_io_each_and_exit_and_all_complete_once_in_every_mode);
  RUN(threads_that_exit_right_after_their_wait_take_nobody_elses_io_with_them);
  return harness_end();
}
