/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * PALURING_RING_IOWAIT: threads that wait in a ring count as waiting for I/O only if that was asked for, where the kernel
 * can do otherwise. The kernel tells their number as procs_blocked in /proc/stat, with those of all other processes.
 */
#include "scene.h"

enum { RINGS = 12, NO_IOWAIT = 1 << 17 /* IORING_FEAT_NO_IOWAIT */ };

static struct {
  paluring_ring *ring;
  paluring_io io;
} waits[RINGS];

static int procs_blocked(void) {
  char line[4096];
  int count = -1;
  FILE *file = fopen("/proc/stat", "re");
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "procs_blocked %d", &count) == 1) break;
  if (file) fclose(file);
  return count;
}

static void *wait_for_own(void *argument) {
  size_t i = (size_t)argument;
  paluring_completion completion;
  EXPECT_EQ(paluring_io_wait(waits[i].ring, waits[i].io, 3 * LONG_ENOUGH, &completion), 0);
  EXPECT_EQ(completion.result, 1);
  return NULL;
}

static paluring_ring *open_with(uint32_t mode, uint32_t flags) {
  paluring_ring_options options;
  paluring_ring *ring = NULL;
  paluring_ring_options_init(&options, sizeof options);
  options.mode = mode;
  options.flags = flags;
  EXPECT_EQ(paluring_ring_open(&options, &ring), 0);
  return ring;
}

/* Whether for ten seconds there comes a moment at which RINGS threads, these or others, wait for I/O, or fewer do. */
static bool comes_to(bool counted) {
  for (int64_t end = now_ns() + LONG_ENOUGH; now_ns() < end; poll(NULL, 0, 1))
    if ((procs_blocked() >= RINGS) == counted) return true;
  return false;
}

/* A wake is sent to a driver that sleeps, and to no other; io_wait goes back to sleep. */
static void await_sleep(paluring_ring *ring) {
  int64_t end = now_ns() + LONG_ENOUGH;
  while (stats_of(ring).total_wakes == 0 && now_ns() < end) EXPECT_EQ(paluring_ring_wake(ring), 0), poll(NULL, 0, 1);
  EXPECT(stats_of(ring).total_wakes > 0);
  poll(NULL, 0, 2);
}

static void look_at_sleepers(uint32_t mode, uint32_t flags) {
  pthread_t threads[RINGS];
  struct ends ends = open_socket();
  paluring_buf *buf = new_buf(1);
  for (size_t i = 0; i < RINGS; i++) {
    waits[i].ring = open_with(mode, flags);
    waits[i].io = start_op(waits[i].ring, read_op(ends.read, buf, NULL, NULL));
    threads[i] = start_thread(wait_for_own, (void *)i);
  }
  for (size_t i = 0; i < RINGS; i++) await_sleep(waits[i].ring);
  EXPECT(comes_to(flags != 0));
  for (size_t i = 0; i < RINGS; i++) put_byte(ends);
  for (size_t i = 0; i < RINGS; i++) pthread_join(threads[i], NULL), ring_done(waits[i].ring);
  paluring_buf_release(buf);
  close_pipe(ends);
}

TEST(a_thread_that_waits_counts_as_waiting_for_io_only_if_asked_for) {
  paluring_ring *ring = open_with(PALURING_MODE_OWNER, 0);
  paluring_capabilities capabilities = {.size = sizeof capabilities};
  CHECK_EQ(paluring_ring_capabilities(ring, &capabilities), 0);
  ring_done(ring);
  if (!(capabilities.features & NO_IOWAIT)) SKIP("this kernel lacks IORING_ENTER_NO_IOWAIT");
  if (procs_blocked() < 0) SKIP("/proc/stat has no procs_blocked");
  for (size_t m = 0; m < COUNT_OF(ALL_MODES); m++) {
    ROW(ALL_MODE_NAMES[m]);
    DO(look_at_sleepers(ALL_MODES[m], 0));
    DO(look_at_sleepers(ALL_MODES[m], PALURING_RING_IOWAIT));
  }
}

int main(void) {
  RUN(a_thread_that_waits_counts_as_waiting_for_io_only_if_asked_for);
  return harness_end();
}
