/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Each function that takes a ring, on one that was released: debug builds tell it, by the function's name, and refuse.
 */
#include "scene.h"
#include "logged.h"

static void no_post(uintptr_t user_data) { (void)user_data; }
static void no_text(uintptr_t user_data, const char *text, size_t len) { (void)user_data, (void)text, (void)len; }

static int32_t use_close(paluring_ring *ring) { return paluring_ring_close(ring, 0); }
static int32_t use_retain(paluring_ring *ring) { return paluring_ring_retain(ring) ? 0 : -EINVAL; }
static int32_t use_release(paluring_ring *ring) { return paluring_ring_release(ring), -EINVAL; }
static int32_t use_submit(paluring_ring *ring) { return paluring_ring_submit(ring); }
static int32_t use_wait(paluring_ring *ring) { return paluring_ring_wait(ring, 1, 0); }
static int32_t use_process(paluring_ring *ring) { return paluring_ring_process(ring, 0); }
static int32_t use_run(paluring_ring *ring) { return paluring_ring_run(ring, 1, 0); }
static int32_t use_drain(paluring_ring *ring) { return paluring_ring_drain(ring, 0); }
static int32_t use_ready(paluring_ring *ring) { return paluring_ring_ready(ring); }
static int32_t use_on_room(paluring_ring *ring) { return paluring_ring_on_room(ring, no_post, 0); }
static int32_t use_prepare(paluring_ring *ring) { return paluring_ring_prepare(ring); }
static int32_t use_cancel_all(paluring_ring *ring) { return paluring_ring_cancel_all(ring); }
static int32_t use_cancel_fd(paluring_ring *ring) { return paluring_ring_cancel_fd(ring, 0); }
static int32_t use_limits(paluring_ring *ring) { return paluring_ring_set_worker_limits(ring, 1, 1); }
static int32_t use_supports(paluring_ring *ring) { return paluring_ring_supports(ring, 0); }
static int32_t use_dump(paluring_ring *ring) { return paluring_ring_dump(ring, no_text, 0); }
static int32_t use_poll(paluring_ring *ring) { return paluring_io_poll(ring, 12345, NULL, 0, NULL); }
static int32_t use_io_wait(paluring_ring *ring) { return paluring_io_wait(ring, 12345, 0, NULL); }
static int32_t use_drop(paluring_ring *ring) { return paluring_io_drop(ring, 12345, NULL); }
static int32_t use_cancel(paluring_ring *ring) { return paluring_io_cancel(ring, 12345); }
static int32_t use_set_timeout(paluring_ring *ring) { return paluring_io_set_timeout(ring, 12345, 1); }

static int32_t use_reap(paluring_ring *ring) {
  paluring_completion completion;
  return paluring_ring_reap(ring, 1, 0, &completion, 1);
}

static int32_t use_event_fd(paluring_ring *ring) {
  int fd = 7;
  int32_t status = paluring_ring_event_fd(ring, &fd);
  return status;
}

static int32_t use_affinity(paluring_ring *ring) {
  cpu_set_t all;
  sched_getaffinity(0, sizeof all, &all);
  return paluring_ring_set_worker_affinity(ring, &all, sizeof all);
}

static int32_t use_capabilities(paluring_ring *ring) {
  paluring_capabilities out = {.size = sizeof out};
  return paluring_ring_capabilities(ring, &out);
}

static int32_t use_stats(paluring_ring *ring) {
  paluring_stats out = {.size = sizeof out};
  return paluring_ring_stats(ring, &out);
}

static int32_t use_start(paluring_ring *ring) {
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
  return paluring_io_start(ring, &op, NULL);
}

static int32_t use_batch(paluring_ring *ring) {
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
  return paluring_io_start_batch(ring, &op, 1, NULL);
}

static int32_t use_chain(paluring_ring *ring) {
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
  return paluring_io_start_chain(ring, &op, 1, 0, NULL);
}

static const struct {
  const char *function;
  int32_t (*use)(paluring_ring *);
} uses[] = {
  {"paluring_ring_close:", use_close}, {"paluring_ring_retain:", use_retain}, {"paluring_ring_release:", use_release},
  {"paluring_ring_submit:", use_submit}, {"paluring_ring_wait:", use_wait}, {"paluring_ring_process:", use_process},
  {"paluring_ring_run:", use_run}, {"paluring_ring_reap:", use_reap}, {"paluring_ring_drain:", use_drain},
  {"paluring_ring_ready:", use_ready}, {"paluring_ring_on_room:", use_on_room}, {"paluring_ring_event_fd:", use_event_fd},
  {"paluring_ring_prepare:", use_prepare}, {"paluring_ring_cancel_all:", use_cancel_all}, {"paluring_ring_cancel_fd:", use_cancel_fd},
  {"paluring_ring_set_worker_limits:", use_limits}, {"paluring_ring_set_worker_affinity:", use_affinity},
  {"paluring_ring_supports:", use_supports}, {"paluring_ring_capabilities:", use_capabilities}, {"paluring_ring_stats:", use_stats},
  {"paluring_ring_dump:", use_dump}, {"paluring_io_start:", use_start}, {"paluring_io_start_batch:", use_batch},
  {"paluring_io_start_chain:", use_chain}, {"paluring_io_poll:", use_poll}, {"paluring_io_wait:", use_io_wait}, {"paluring_io_drop:", use_drop},
  {"paluring_io_cancel:", use_cancel}, {"paluring_io_set_timeout:", use_set_timeout},
};

static void check_uses(paluring_ring *released) {
  for (size_t i = 0; i < COUNT_OF(uses); i++) {
    ROW(uses[i].function);
    CHECK_EQ(uses[i].use(released), -EINVAL);
    DO(check_logged(uses[i].function, "the ring was released already"));
  }
  ROW("wake: signal handlers call it, so it tells by its status alone");
  CHECK_EQ(paluring_ring_wake(released), -EINVAL);
  CHECK_EQ(logged.lines, 0);
}

TEST(each_use_of_a_released_ring_is_told) {
  DEBUG_ONLY();
  for (int closed = 0; closed < 2; closed++) {
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
    if (closed) CHECK_EQ(paluring_ring_close(ring, 0), 0);
    CHECK(paluring_ring_retain(ring) == ring);
    paluring_ring_release(ring);
    paluring_ring_release(ring);
    CHECK_EQ(logged.lines, 0);
    DO(check_uses(ring));
  }
}

TEST(a_released_ring_is_known_after_a_hundred_others) {
  DEBUG_ONLY();
  paluring_ring *ring = ring_open(PALURING_MODE_SHARED, 8, 0), *alive = ring_open(PALURING_MODE_SHARED, 8, 0);
  ring_done(ring);
  for (int i = 0; i < 100; i++) {
    paluring_ring *other = ring_open(PALURING_MODE_OWNER, 8, 0);
    CHECK(other != ring);
    ring_done(other);
  }
  DO(check_uses(ring));
  paluring_op op = nop_op(NULL, NULL);
  CHECK_EQ(do_op(alive, &op, NULL), 0);
  ring_done(alive);
  CHECK_EQ(logged.lines, 0);
}

int main(void) {
  RUN(each_use_of_a_released_ring_is_told);
  RUN(a_released_ring_is_known_after_a_hundred_others);
  paluring_log_set(NULL, 0);
  return harness_end();
}
