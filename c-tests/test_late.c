/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Calls that come late: other threads, each with a reference, go on calling while the ring is closed and released.
 */
#include "raw.h"

enum { THREADS = 4 };
#define ROUNDS tries(40)

static struct late {
  paluring_ring *ring;
  struct ends ends;
  atomic_int callbacks, ready_calls, running;
  atomic_int accepted, dropped, polled, orphaned;
  atomic_bool closed;
} late;

static void note(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data;
  if (completion->result == PALURING_ERR_ORPHANED) atomic_fetch_add(&late.orphaned, 1);
  atomic_fetch_add(&late.callbacks, 1);
}

static void note_ready(uintptr_t user_data, int32_t status) {
  (void)user_data;
  EXPECT(status == 0 || status == PALURING_ERR_DROPPED);
  atomic_fetch_add(&late.ready_calls, 1);
}

static bool is_late(int32_t status) {
  return status == PALURING_ERR_CLOSED || status == PALURING_ERR_STALE;
}

/* One of each call that any thread may make. → Whether the ring was closed. */
static bool call_all(paluring_buf *buf, unsigned seed) {
  paluring_ring *ring = late.ring;
  paluring_capabilities can = {.size = sizeof can};
  paluring_completion completion;
  paluring_io io = 0, kept = 0;
  uintptr_t user_data = 0;
  bool was_closed = atomic_load(&late.closed);
  int32_t started = 0, status = 0;
  paluring_op op = seed % 2 ? read_op(late.ends.read, buf, note, NULL) : nop_op(note, NULL);
  if (seed % 3 == 0) op.flags = PALURING_OP_SUBMIT;
  started = paluring_io_start(ring, &op, &io);
  EXPECT(started == 0 || started == -EAGAIN || started == PALURING_ERR_CLOSED);
  EXPECT(started != 0 || !was_closed);
  if (started == 0) atomic_fetch_add(&late.accepted, 1);
  op = with_flags(seed % 5 ? timeout_op(60 * SECOND, NULL, NULL) : nop_op(NULL, NULL), 0);
  if (paluring_io_start(ring, &op, &kept) == 0) {
    status = paluring_io_poll(ring, kept, note_ready, 0, &completion);
    if (status == 0) atomic_fetch_add(&late.polled, 1);
    EXPECT(status == 0 || status == 1 || is_late(status));
    status = paluring_io_set_timeout(ring, kept, seed % 7 ? 50 * SECOND : 0);
    EXPECT(status == 0 || is_late(status));
    status = paluring_io_drop(ring, kept, NULL);
    EXPECT(status == 0 || is_late(status));
  }
  if (started == 0 && seed % 4 == 0) {
    status = paluring_io_cancel(ring, io);
    EXPECT(status == 0 || is_late(status));
  }
  if (started == 0 && seed % 8 == 1 && paluring_io_drop(ring, io, &user_data) == 0) atomic_fetch_add(&late.dropped, 1);
  status = paluring_ring_wake(ring);
  EXPECT(status == 0 || status == PALURING_ERR_CLOSED);
  status = paluring_ring_ready(ring);
  EXPECT(status >= 0 || status == PALURING_ERR_CLOSED);
  status = paluring_ring_cancel_fd(ring, 9999);
  EXPECT(status == 0 || status == PALURING_ERR_CLOSED);
  EXPECT_EQ(paluring_ring_capabilities(ring, &can), 0); /* works after close */
  paluring_ring_release(paluring_ring_retain(ring));
  return started == PALURING_ERR_CLOSED;
}

static void *call_late(void *argument) {
  paluring_buf *buf = new_buf(1);
  unsigned seed = (unsigned)(uintptr_t)argument;
  atomic_fetch_add(&late.running, 1);
  for (int after = 0; after < 3 && !has_failed(); seed += THREADS) after += call_all(buf, seed);
  paluring_ring_release(late.ring); /* the last of these is the ring's end */
  paluring_buf_release(buf);
  return NULL;
}

static void close_while_others_call(uint32_t mode, bool by_release) {
  pthread_t threads[THREADS];
  for (int i = 0; i < ROUNDS && !has_failed(); i++) {
    memset(&late, 0, sizeof late);
    late.ends = open_pipe();
    late.ring = ring_open(mode, 8, 64);
    for (uintptr_t k = 0; k < THREADS; k++) {
      paluring_ring_retain(late.ring);
      threads[k] = start_thread(call_late, (void *)(k + (uintptr_t)i));
    }
    await_count(&late.running, i % (THREADS + 1));
    for (int k = 0; k < i % 9; k++) EXPECT(paluring_ring_run(late.ring, (uint32_t)k % 2, MS) >= 0);
    int32_t closed = paluring_ring_close(late.ring, by_release ? 0 : LONG_ENOUGH);
    EXPECT(by_release ? closed >= 0 : EXPECT_EQ(closed, 0));
    atomic_store(&late.closed, true);
    int at_close = late.callbacks;
    if (by_release) paluring_ring_release(late.ring);
    for (int k = 0; k < THREADS; k++) pthread_join(threads[k], NULL);
    EXPECT_EQ(late.callbacks, at_close); /* all came before the close returned */
    EXPECT_EQ(late.callbacks, late.accepted - late.dropped); /* each accepted one, once */
    EXPECT_EQ(late.ready_calls, late.polled);
    if (!by_release) paluring_ring_release(late.ring);
    close_pipe(late.ends);
  }
}

TEST(late_calls_of_other_threads_are_refused_once_an_owner_ring_is_closed) {
  close_while_others_call(PALURING_MODE_OWNER, false);
}

TEST(late_calls_of_other_threads_are_refused_once_a_shared_ring_is_closed) {
  close_while_others_call(PALURING_MODE_SHARED, false);
}

TEST(the_last_of_the_late_callers_frees_a_closed_ring) {
  close_while_others_call(PALURING_MODE_SHARED, true);
}

int main(void) {
  RUN(late_calls_of_other_threads_are_refused_once_an_owner_ring_is_closed);
  RUN(late_calls_of_other_threads_are_refused_once_a_shared_ring_is_closed);
  RUN(the_last_of_the_late_callers_frees_a_closed_ring);
  paluring_ring *last = ring_open(PALURING_MODE_OWNER, 0, 0);
  quarantine_ends(last); /* what a close could not wait for holds a descriptor until then */
  paluring_ring_release(last);
  return harness_end();
}
