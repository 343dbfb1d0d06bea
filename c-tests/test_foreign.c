/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Completions that are not the ring's own: another ring's messages can carry any user_data, result and flags. One
 * acts only if its kind, its generation and the I/O's state fit.
 */
#include "raw.h"

enum { MORE = 1 << 1, SOCK_NONEMPTY = 1 << 2, NOTIF = 1 << 3, BUFFER = 1 << 0, SLOT_BITS = 20 };

static const uint32_t FLAGS[] = {0, MORE, NOTIF, MORE | NOTIF, BUFFER | 7 << 16, SOCK_NONEMPTY, UINT32_MAX};
static const int32_t RESULTS[] = {0, 1, INT32_MAX, INT32_MIN, -ECANCELED, -ETIME};

struct target {
  paluring_ring *ring;
  int fd;
};

/* A ring that is enabled, and its descriptor, which the library tells nobody. */
static struct target open_target(uint32_t mode, uint32_t max_in_flight) {
  struct target target = {.ring = ring_open(mode, 8, max_in_flight)};
  EXPECT_EQ(paluring_ring_submit(target.ring), 0);
  target.fd = newest_ring_fd();
  EXPECT(target.fd >= 0);
  return target;
}

/* One with each result and flags; how many. */
static int forge_all(struct target target, uint64_t user_data) {
  int count = 0;
  for (size_t i = 0; i < COUNT_OF(RESULTS); i++)
    for (size_t k = 0; k < COUNT_OF(FLAGS); k++, count++)
      EXPECT(forge_completion(target.fd, user_data, RESULTS[i], FLAGS[k]));
  return count;
}

#define NEEDS_MESSAGES(target) do { \
    if (!forge_completion((target).fd, 0, 0, 0)) { ring_done((target).ring); SKIP("this kernel sends no messages without a ring"); } \
  } while (0)

TEST(a_completion_with_a_wrong_generation_or_slot_hits_no_io) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    struct target target = open_target(HOST_MODES[mode], 64);
    NEEDS_MESSAGES(target);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    struct seen seen = {0};
    paluring_op nop = nop_op(NULL, NULL);
    paluring_io old = start_op(target.ring, nop);
    CHECK_EQ(paluring_io_wait(target.ring, old, LONG_ENOUGH, NULL), 0);
    paluring_io io = start_op(target.ring, read_op(ends.read, buf, note_completion, &seen));
    paluring_io kept = start_op(target.ring, with_flags(read_op(ends.read, buf, NULL, NULL), 0));
    CHECK_EQ(paluring_ring_submit(target.ring), 2);
    const uint64_t slot = io & ((1 << SLOT_BITS) - 1), one = UINT64_C(1) << SLOT_BITS;
    const uint64_t strangers[] = {
      old, io - one, io + one, io ^ (UINT64_C(1) << 63), io ^ one << 31, slot | one, slot | one << 43, slot /* generation 0 */,
      (io & ~(one - 1)) | 60 /* an empty slot */, (io & ~(one - 1)) | (one - 1) /* no slot */, UINT64_MAX, UINT64_C(0x8000000000000000),
    };
    int forged = 0;
    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
      if (strangers[i] == io || strangers[i] == kept) continue;
      forged += forge_all(target, strangers[i]);
      for (int k = 0; k < 4; k++) CHECK_EQ(paluring_ring_run(target.ring, 0, 0), 0); /* an enter brings twenty or so */
      CHECK_EQ(paluring_io_poll(target.ring, kept, NULL, 0, NULL), 0);
    }
    CHECK(stats_of(target.ring).total_foreign >= (uint64_t)forged - 42); /* they did come; those of a bare slot may pass for a wake */
    CHECK_EQ(seen.calls, 0);
    CHECK_EQ(paluring_buf_refs(buf), 3);
    CHECK_EQ(stats_of(target.ring).waiting, 2);
    put_byte(ends), put_byte(ends);
    DO(run_until(target.ring, &seen.calls, 1));
    CHECK_EQ(seen.last.result, 1);
    paluring_completion completion;
    CHECK_EQ(paluring_io_wait(target.ring, kept, LONG_ENOUGH, &completion), 0);
    CHECK_EQ(completion.result, 1);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
    ring_done(target.ring);
    CHECK_EQ(seen.calls, 1);
  }
}

/* The handle is right, but the kernel doesn't have the I/O: it waits for room, or is done already. */
TEST(a_completion_of_an_io_that_the_kernel_does_not_have_is_ignored) {
  struct target target = open_target(PALURING_MODE_SHARED, 64);
  NEEDS_MESSAGES(target);
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  struct seen seen[16];
  memset(seen, 0, sizeof seen);
  paluring_completion completion;
  paluring_io done = start_op(target.ring, nop_op(NULL, NULL)), queue = start_op(target.ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_wait(target.ring, 2, LONG_ENOUGH), 2);
  paluring_io io = 0;
  for (int i = 0; i < 16; i++) io = start_op(target.ring, read_op(ends.read, buf, note_completion, &seen[i])); /* the last eight in the overflow queue */
  CHECK_EQ(stats_of(target.ring).queued, 8);
  forge_all(target, done);
  forge_all(target, queue);
  CHECK_EQ(paluring_ring_ready(target.ring), 2);
  forge_all(target, io);
  CHECK_EQ(paluring_ring_ready(target.ring), 2); /* looks at them before the entry goes to the kernel */
  CHECK_EQ(seen[15].calls, 0);
  CHECK_EQ(paluring_io_poll(target.ring, done, NULL, 0, &completion), 1);
  CHECK_EQ(completion.result | (int)completion.flags, 0);
  CHECK_EQ(paluring_ring_reap(target.ring, 0, 0, &completion, 1), 1);
  CHECK_EQ(completion.result | (int)completion.flags, 0);
  for (int i = 0; i < 16; i++) put_byte(ends);
  CHECK_EQ(paluring_ring_run(target.ring, 16, LONG_ENOUGH), 16);
  for (int i = 0; i < 16; i++) CHECK(seen[i].calls == 1 && seen[i].last.result == 1);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
  ring_done(target.ring);
}

struct waker {
  paluring_ring *ring;
  atomic_int go;
};

static void *wake_later(void *argument) {
  struct waker *self = argument;
  if (await_count(&self->go, 1)) EXPECT_EQ(paluring_ring_wake(self->ring), 0);
  return NULL;
}

TEST(forged_completions_of_the_librarys_own_entries_stop_no_wake_no_cancel_and_no_deadline) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    struct target target = open_target(HOST_MODES[mode], 64);
    NEEDS_MESSAGES(target);
    struct ends ends = open_pipe();
    struct seen read = {0}, timed = {0};
    paluring_buf *buf = new_buf(1);
    int event = -1;
    CHECK_EQ(paluring_ring_event_fd(target.ring, &event), 0);
    paluring_io io = start_op(target.ring, read_op(ends.read, buf, note_completion, &read));
    start_only(target.ring, with_timeout(read_op(ends.read, buf, note_completion, &timed), 300 * MS));
    CHECK_EQ(paluring_ring_prepare(target.ring), 0); /* the kernel's timer is armed */
    for (uint64_t kind = 0; kind < 16; kind++) forge_all(target, kind);
    int64_t end = now_ns() + LONG_ENOUGH;
    while (timed.calls == 0 && now_ns() < end) { /* an event loop without a limit of its own */
      struct pollfd ready = {.fd = event, .events = POLLIN};
      if (paluring_ring_prepare(target.ring) == 0) EXPECT_EQ(poll(&ready, 1, 10000), 1);
      CHECK(paluring_ring_process(target.ring, 0) >= 0);
    }
    CHECK_EQ(timed.last.result, -ETIME);
    for (uint64_t kind = 0; kind < 16; kind++) forge_all(target, kind);
    struct waker waker = {.ring = target.ring};
    pthread_t thread = start_thread(wake_later, &waker);
    CHECK_EQ(paluring_ring_run(target.ring, 0, 0), 0);
    atomic_store(&waker.go, 1);
    int64_t began = now_ns();
    CHECK_EQ(paluring_ring_run(target.ring, 1, LONG_ENOUGH), 0);
    CHECK(now_ns() - began < LONG_ENOUGH);
    pthread_join(thread, NULL);
    CHECK_EQ(read.calls, 0);
    CHECK_EQ(paluring_io_cancel(target.ring, io), 0);
    for (uint64_t kind = 0; kind < 16; kind++) forge_all(target, kind);
    DO(run_until(target.ring, &read.calls, 1));
    CHECK_EQ(read.last.result, -ECANCELED);
    paluring_buf_release(buf);
    close_pipe(ends);
    ring_done(target.ring);
    CHECK_EQ(read.calls + timed.calls, 2);
  }
}

TEST(a_flood_of_foreign_completions_loses_and_doubles_none_of_the_rings_own) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    struct target target = open_target(HOST_MODES[mode], 64);
    NEEDS_MESSAGES(target);
    atomic_int calls = 0;
    uint64_t state = 0x9e3779b97f4a7c15; /* a fixed seed */
    for (int round = 0; round < 200; round++) {
      for (int i = 0; i < 64; i++) start_only(target.ring, nop_op(count_call, &calls));
      for (int i = 0; i < 200; i++) { /* more than the completion queue holds */
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        forge_completion(target.fd, state >> 8 * (state & 7), (int32_t)(state >> 20), FLAGS[state % COUNT_OF(FLAGS)]);
      }
      CHECK_EQ(paluring_ring_drain(target.ring, LONG_ENOUGH), 0);
      CHECK_EQ(calls, (round + 1) * 64);
    }
    CHECK_EQ(stats_of(target.ring).total_finished, calls);
    ring_done(target.ring);
    CHECK_EQ(calls, 200 * 64);
  }
}

int main(void) {
  RUN(a_completion_with_a_wrong_generation_or_slot_hits_no_io);
  RUN(a_completion_of_an_io_that_the_kernel_does_not_have_is_ignored);
  RUN(forged_completions_of_the_librarys_own_entries_stop_no_wake_no_cancel_and_no_deadline);
  RUN(a_flood_of_foreign_completions_loses_and_doubles_none_of_the_rings_own);
  return harness_end();
}
