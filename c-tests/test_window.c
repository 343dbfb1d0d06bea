/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Wakes that come at the worst moment: between a driver's last look and its sleep. The library reads the clock there, and this
 * program's clock_gettime stands in front of libc's: it wakes the ring from within, as a signal handler would.
 */
#include "scene.h"

static struct {
  paluring_ring *ring; /* to be woken at the count-th reading from now */
  int count, fired;
} window;

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (window.ring && --window.count == 0) {
    paluring_ring *ring = window.ring;
    window.ring = NULL;
    window.fired++;
    EXPECT_EQ(paluring_ring_wake(ring), 0);
  }
  return (int)syscall(SYS_clock_gettime, clock, now);
}

static int32_t call_run(paluring_ring *ring) { return paluring_ring_run(ring, 1, LONG_ENOUGH); }
static int32_t call_wait(paluring_ring *ring) { return paluring_ring_wait(ring, 1, LONG_ENOUGH); }
static int32_t call_reap(paluring_ring *ring) {
  paluring_completion completion;
  return paluring_ring_reap(ring, 1, LONG_ENOUGH, &completion, 1);
}

static const struct { const char *name; int32_t (*make)(paluring_ring *); } waits[] = {{"run", call_run}, {"wait", call_wait}, {"reap", call_reap}};

TEST(a_wake_between_the_last_look_and_the_sleep_ends_the_wait) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_pipe();
    atomic_int calls = 0;
    for (int timed = 0; timed < 2; timed++) { /* a deadline has the clock read more often */
      if (timed) start_only(ring, with_timeout(poll_op(ends.read, count_call, &calls), 60 * SECOND));
      CHECK(paluring_ring_submit(ring) >= 0);
      for (size_t i = 0; i < COUNT_OF(waits); i++) {
        for (int count = 1; count <= 1 + timed * 2; count++) {
          ROW(waits[i].name);
          int fired = window.fired;
          int64_t began = now_ns();
          window.count = count;
          window.ring = ring;
          CHECK_EQ(waits[i].make(ring), 0);
          window.ring = NULL;
          CHECK_EQ(window.fired, fired + 1); /* else there was no such moment, and the wait was over */
          CHECK(now_ns() - began < LONG_ENOUGH / 2);
        }
      }
    }
    CHECK_EQ(calls, 0);
    close_pipe(ends);
    ring_done(ring);
  }
}

int main(void) {
  RUN(a_wake_between_the_last_look_and_the_sleep_ends_the_wait);
  return harness_end();
}
