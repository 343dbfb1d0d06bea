/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Wakes and completions that come at the worst moment: between a driver's last look and its sleep. The library reads the clock
 * there, or clears its event fd, and this program's clock_gettime and read stand in front of libc's: they wake the ring, or
 * complete an I/O, from within.
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

static struct {
  struct ends ends; /* gets a byte before or after the count-th reading of the event fd */
  int event_fd, count, fired;
  bool after;
} clearing = {.event_fd = -1};

ssize_t read(int fd, void *data, size_t len) {
  bool now = fd == clearing.event_fd && --clearing.count == 0;
  if (now && !clearing.after) put_byte(clearing.ends);
  ssize_t got = syscall(SYS_read, fd, data, len);
  if (now && clearing.after) put_byte(clearing.ends);
  clearing.fired += now;
  return got;
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

TEST(a_completion_right_before_or_after_the_event_fd_is_cleared_is_seen_or_shows) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    int event = -1, count = 1;
    atomic_int calls = 0;
    clearing.ends = open_pipe();
    CHECK_EQ(paluring_ring_event_fd(ring, &event), 0);
    for (int i = 0; i < 16; i++) { /* the first, the second, ... reading, before it and after it */
      count = 1 + i / 2;
      clearing.after = i % 2;
      clearing.fired = 0;
      start_only(ring, poll_op(clearing.ends.read, count_call, &calls));
      CHECK(paluring_ring_submit(ring) >= 0);
      clearing.event_fd = event;
      clearing.count = count;
      int32_t prepared = paluring_ring_prepare(ring);
      clearing.event_fd = -1;
      CHECK(i > 1 || clearing.fired); /* it is cleared once at least */
      if (clearing.fired) CHECK(prepared == 1 || is_readable(event));
      else put_byte(clearing.ends);
      DO(run_until(ring, &calls, i + 1));
      CHECK_EQ(drain_pipe(clearing.ends), 1);
    }
    close_pipe(clearing.ends);
    ring_done(ring);
  }
}

int main(void) {
  RUN(a_completion_right_before_or_after_the_event_fd_is_cleared_is_seen_or_shows);
  RUN(a_wake_between_the_last_look_and_the_sleep_ends_the_wait);
  return harness_end();
}
