/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A bug inside the library, caught: the ring is poisoned, close and release still work, and memory that the
 * kernel may touch is kept. Needs a library with the feature fault-hooks; skipped with any other.
 */
#include "scene.h"

/* The next call on a ring panics inside. Not in the public header, and not in release builds. */
extern void paluring_test_panic_next(void) __attribute__((weak));

static char memory[64];

static int32_t call_submit(paluring_ring *ring) { return paluring_ring_submit(ring); }
static int32_t call_wait(paluring_ring *ring) { return paluring_ring_wait(ring, 1, MS); }
static int32_t call_process(paluring_ring *ring) { return paluring_ring_process(ring, 0); }
static int32_t call_run(paluring_ring *ring) { return paluring_ring_run(ring, 1, MS); }
static int32_t call_drain(paluring_ring *ring) { return paluring_ring_drain(ring, 0); }
static int32_t call_ready(paluring_ring *ring) { return paluring_ring_ready(ring); }
static int32_t call_wake(paluring_ring *ring) { return paluring_ring_wake(ring); }
static int32_t call_prepare(paluring_ring *ring) { return paluring_ring_prepare(ring); }
static int32_t call_cancel_all(paluring_ring *ring) { return paluring_ring_cancel_all(ring); }
static int32_t call_cancel_fd(paluring_ring *ring) { return paluring_ring_cancel_fd(ring, 0); }
static int32_t call_poll(paluring_ring *ring) { return paluring_io_poll(ring, 12345, NULL, 0, NULL); }
static int32_t call_io_wait(paluring_ring *ring) { return paluring_io_wait(ring, 12345, 0, NULL); }
static int32_t call_drop(paluring_ring *ring) { return paluring_io_drop(ring, 12345, NULL); }
static int32_t call_cancel(paluring_ring *ring) { return paluring_io_cancel(ring, 12345); }
static int32_t call_set_timeout(paluring_ring *ring) { return paluring_io_set_timeout(ring, 12345, 1); }
static int32_t call_limits(paluring_ring *ring) { return paluring_ring_set_worker_limits(ring, 1, 1); }

static int32_t call_start(paluring_ring *ring) {
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
  return paluring_io_start(ring, &op, NULL);
}

static int32_t call_batch(paluring_ring *ring) {
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
  return paluring_io_start_batch(ring, &op, 1, NULL);
}

static int32_t call_reap(paluring_ring *ring) {
  paluring_completion completion;
  return paluring_ring_reap(ring, 0, 0, &completion, 1);
}

static int32_t call_event_fd(paluring_ring *ring) {
  int fd;
  return paluring_ring_event_fd(ring, &fd);
}

static int32_t call_affinity(paluring_ring *ring) {
  cpu_set_t all;
  sched_getaffinity(0, sizeof all, &all);
  return paluring_ring_set_worker_affinity(ring, &all, sizeof all);
}

static int32_t call_supports(paluring_ring *ring) { return paluring_ring_supports(ring, 0); }

static const struct call {
  const char *name;
  int32_t (*make)(paluring_ring *);
} calls[] = {
  {"submit", call_submit}, {"wait", call_wait}, {"process", call_process}, {"run", call_run}, {"reap", call_reap}, {"drain", call_drain},
  {"prepare", call_prepare}, {"ready", call_ready}, {"wake", call_wake}, {"event_fd", call_event_fd}, {"start", call_start}, {"start_batch", call_batch},
  {"poll", call_poll}, {"io_wait", call_io_wait}, {"drop", call_drop}, {"cancel", call_cancel}, {"set_timeout", call_set_timeout},
  {"cancel_fd", call_cancel_fd}, {"cancel_all", call_cancel_all}, {"worker limits", call_limits}, {"worker affinity", call_affinity}, {"supports", call_supports},
};

static bool without_hook(void) {
  return paluring_test_panic_next == NULL;
}

#define NEEDS_HOOK() do { if (without_hook()) SKIP("the library is built without fault-hooks"); } while (0)

static atomic_int lines;

static void count_line(uintptr_t user_data, const char *text) {
  (void)user_data;
  if (text[0]) atomic_fetch_add(&lines, 1);
}

TEST(a_panic_in_any_call_gives_poisoned_and_every_later_call_too) {
  NEEDS_HOOK();
  for (size_t i = 0; i < COUNT_OF(calls); i++) {
    if (calls[i].make == call_wake) continue; /* signal-safe: nothing in it can panic */
    ROW(calls[i].name);
    int fds = count_fds();
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
    CHECK_EQ(paluring_ring_submit(ring), 0);
    atomic_store(&lines, 0);
    paluring_log_set(count_line, 0);
    paluring_test_panic_next();
    CHECK_EQ(calls[i].make(ring), PALURING_ERR_POISONED);
    paluring_log_set(NULL, 0);
    CHECK(lines > 0); /* a caught bug is told, in release builds too */
    for (size_t k = 0; k < COUNT_OF(calls); k++) {
      if (calls[k].make(ring) != PALURING_ERR_POISONED) FAIL("then %s gives %d", calls[k].name, calls[k].make(ring));
    }
    CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
    paluring_ring_release(ring);
    CHECK_EQ(count_fds(), fds);
  }
}

TEST(a_poisoned_ring_leaves_other_rings_alone) {
  NEEDS_HOOK();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0), *other = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_op op = nop_op(NULL, NULL);
  paluring_test_panic_next();
  CHECK_EQ(call_run(ring), PALURING_ERR_POISONED);
  CHECK_EQ(do_op(other, &op, NULL), 0);
  CHECK(paluring_ring_retain(ring) == ring);
  paluring_ring_release(ring);
  CHECK(paluring_ring_close(ring, LONG_ENOUGH) >= 0);
  paluring_ring_release(ring);
  ring_done(other);
}

static atomic_int called;

static void panic_inside(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  atomic_fetch_add(&called, 1);
  paluring_test_panic_next();
  EXPECT_EQ(paluring_ring_ready((paluring_ring *)user_data), PALURING_ERR_POISONED);
}

TEST(a_panic_in_a_call_inside_a_callback_poisons_the_run_above_it) {
  NEEDS_HOOK();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  called = 0;
  start_only(ring, nop_op(panic_inside, ring));
  CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
  int32_t status = paluring_ring_run(ring, 1, FOREVER);
  CHECK(status == PALURING_ERR_POISONED || status == 1); /* the callback did run */
  CHECK_EQ(called, 1);
  CHECK_EQ(call_run(ring), PALURING_ERR_POISONED);
  CHECK(paluring_ring_close(ring, LONG_ENOUGH) >= 0);
  paluring_ring_release(ring);
}

/* Reads in flight, then the bug, then the end of the ring. */
static void memory_in_flight(uint32_t mode, bool by_close) {
  atomic_int released = 0, completed = 0;
  struct ends ends = open_pipe();
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  int fds = count_fds();
  paluring_ring *ring = ring_open(mode, 16, 0);
  memset(memory, 0, sizeof memory);
  for (int i = 0; i < 8; i++) {
    paluring_buf *buf = adopt_counted(memory + i, 1, &released);
    start_only(ring, with_flags(read_op(ends.read, buf, count_call, &completed), PALURING_OP_MOVE));
  }
  CHECK_EQ(paluring_ring_submit(ring), 8);
  paluring_test_panic_next();
  CHECK_EQ(call_run(ring), PALURING_ERR_POISONED);
  CHECK_EQ(released, 0);
  CHECK_EQ(completed, 0);
  put_byte(ends); /* one may still land: in memory that is still held */
  CHECK_EQ(paluring_ring_run(ring, 0, 0), PALURING_ERR_POISONED);
  CHECK_EQ(released, 0);
  if (by_close) {
    int32_t orphaned = paluring_ring_close(ring, LONG_ENOUGH);
    CHECK(orphaned >= 0 && orphaned <= 8);
  }
  paluring_ring_release(ring);
  CHECK(quarantine_ends(watcher));
  CHECK_EQ(released, 8);
  CHECK_EQ(completed, 8); /* exactly one completion for each accepted I/O, whatever happens */
  char before[sizeof memory];
  memcpy(before, memory, sizeof memory);
  for (int i = 0; i < 8; i++) put_byte(ends);
  CHECK(memcmp(memory, before, sizeof memory) == 0); /* nobody reads there any more */
  CHECK_EQ(count_fds(), fds); /* the ring left none */
  close_pipe(ends);
  ring_done(watcher);
}

TEST(buffers_in_flight_are_released_only_when_the_kernel_is_done) {
  NEEDS_HOOK();
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int by_close = 0; by_close < 2; by_close++) {
      ROW(by_close ? "close" : "last release");
      DO(memory_in_flight(HOST_MODES[mode], by_close));
    }
  }
}

int main(void) {
  RUN(a_panic_in_any_call_gives_poisoned_and_every_later_call_too);
  RUN(a_poisoned_ring_leaves_other_rings_alone);
  RUN(a_panic_in_a_call_inside_a_callback_poisons_the_run_above_it);
  RUN(buffers_in_flight_are_released_only_when_the_kernel_is_done);
  return harness_end();
}
