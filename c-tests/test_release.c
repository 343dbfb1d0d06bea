/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Release functions that call back into the ring whose call runs them: they use it, close it, and
 * give up the last reference to it.
 */
#include "scene.h"

static uint8_t memory[64];

/* What a release function acts on. */
static struct scene {
  paluring_ring *ring;
  atomic_int released;
  int32_t closed;
} scene;

static int open_zero(void) {
  int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  EXPECT(fd >= 0);
  return fd;
}

static paluring_buf *adopt_with(paluring_release_fn release) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_adopt(memory, sizeof memory, release, 0, &buf), 0);
  return buf;
}

/* ---- use ---- */

static void use_the_ring(uintptr_t user_data, void *data, size_t len) {
  (void)user_data, (void)data, (void)len;
  EXPECT(paluring_ring_ready(scene.ring) >= 0);
  EXPECT_EQ(paluring_ring_wake(scene.ring), 0);
  paluring_io io = start_op(scene.ring, nop_op(NULL, NULL));
  EXPECT_EQ(paluring_io_cancel(scene.ring, io), 0);
  EXPECT_EQ(paluring_io_drop(scene.ring, io, NULL), 0);
  EXPECT(paluring_ring_cancel_all(scene.ring) >= 0);
  EXPECT(stats_of(scene.ring).total_started > 0);
  atomic_fetch_add(&scene.released, 1);
}

enum { REAP, POLL, IO_WAIT, DROP, DROP_EARLY, TAKES };

TEST(a_release_function_may_use_the_ring_whichever_call_runs_it) {
  static const char *const names[] = {"reap", "poll", "io_wait", "drop", "drop before the end"};
  int zero = open_zero();
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int take = REAP; take < TAKES; take++) {
      ROW(names[take]);
      scene = (struct scene){.ring = ring_open(HOST_MODES[mode], 0, 0)};
      paluring_completion completion;
      paluring_buf *buf = adopt_with(use_the_ring);
      paluring_io io = start_op(scene.ring, with_flags(read_op(zero, buf, NULL, NULL), take == REAP ? PALURING_OP_QUEUE : 0));
      paluring_buf_release(buf);
      if (take < DROP_EARLY) CHECK_EQ(paluring_ring_wait(scene.ring, 1, LONG_ENOUGH), 1);
      if (take == REAP) CHECK_EQ(paluring_ring_reap(scene.ring, 1, LONG_ENOUGH, &completion, 1), 1);
      if (take == POLL) CHECK_EQ(paluring_io_poll(scene.ring, io, NULL, 0, &completion), 1);
      if (take == IO_WAIT) CHECK_EQ(paluring_io_wait(scene.ring, io, LONG_ENOUGH, &completion), 0);
      if (take >= DROP) CHECK_EQ(paluring_io_drop(scene.ring, io, NULL), 0);
      CHECK_EQ(paluring_ring_drain(scene.ring, LONG_ENOUGH), 0);
      CHECK_EQ(scene.released, 1);
      ring_done(scene.ring);
    }
  }
  close(zero);
}

/* ---- end ---- */

enum { BY_WAIT, BY_REAP, BY_IO_WAIT, BY_RUN, BY_DRAIN, CALLS };
static const char *const CALL_NAMES[] = {"wait", "reap", "io_wait", "run", "drain"};

/* A driver's call that collects completions and has nothing else to wait for than a read of an empty pipe. */
static void drive_by(int call, paluring_ring *ring, paluring_io kept) {
  paluring_completion completion;
  if (call == BY_WAIT) paluring_ring_wait(ring, 1, 100 * MS);
  if (call == BY_REAP) paluring_ring_reap(ring, 1, 100 * MS, &completion, 1);
  if (call == BY_IO_WAIT) paluring_io_wait(ring, kept, 100 * MS, &completion);
  if (call == BY_RUN) paluring_ring_run(ring, 1, 100 * MS);
  if (call == BY_DRAIN) paluring_ring_drain(ring, 100 * MS);
}

/* Starts a read of the empty pipe, and a detached one that ends: then the release function runs. */
static void drive_to_release(int call, paluring_release_fn release, int zero, struct ends ends, paluring_buf *pending, struct seen *seen) {
  paluring_buf *buf = adopt_with(release);
  start_only(scene.ring, read_op(ends.read, pending, note_completion, seen));
  paluring_io kept = call == BY_IO_WAIT ? start_op(scene.ring, poll_op(ends.read, NULL, NULL)) : 0;
  start_only(scene.ring, with_flags(read_op(zero, buf, NULL, NULL), PALURING_OP_DETACHED));
  paluring_buf_release(buf);
  EXPECT_EQ(scene.released, 0);
  drive_by(call, scene.ring, kept);
  EXPECT_EQ(scene.released, 1);
}

static void close_the_ring(uintptr_t user_data, void *data, size_t len) {
  (void)user_data, (void)data, (void)len;
  scene.closed = paluring_ring_close(scene.ring, FOREVER);
  atomic_fetch_add(&scene.released, 1);
}

TEST(a_close_inside_a_release_function_is_done_when_the_call_that_ran_it_returns) {
  struct ends ends = open_pipe();
  int zero = open_zero();
  paluring_buf *pending = new_buf(1);
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int call = BY_WAIT; call < CALLS; call++) {
      ROW(CALL_NAMES[call]);
      struct seen seen = {0};
      int fds = count_fds();
      scene = (struct scene){.ring = ring_open(HOST_MODES[mode], 0, 0), .closed = 1};
      DO(drive_to_release(call, close_the_ring, zero, ends, pending, &seen));
      CHECK_EQ(scene.closed, 0);
      CHECK_EQ(seen.calls, 1);
      CHECK_EQ(seen.last.result, -ECANCELED);
      CHECK_EQ(paluring_buf_refs(pending), 1);
      CHECK_EQ(paluring_ring_run(scene.ring, 0, 0), PALURING_ERR_CLOSED);
      CHECK_EQ(paluring_ring_close(scene.ring, FOREVER), PALURING_ERR_CLOSED);
      CHECK_EQ(seen.calls, 1);
      paluring_ring_release(scene.ring);
      CHECK_EQ(count_fds(), fds);
    }
  }
  paluring_buf_release(pending);
  close_pipe(ends);
  close(zero);
}

static void release_the_ring(uintptr_t user_data, void *data, size_t len) {
  (void)user_data, (void)data, (void)len;
  paluring_ring_release(scene.ring);
  atomic_fetch_add(&scene.released, 1);
}

TEST(the_last_release_inside_a_release_function_completes_all_and_leaks_no_descriptor) {
  struct ends ends = open_pipe();
  int zero = open_zero();
  paluring_buf *pending = new_buf(1);
  paluring_ring *other = ring_open(PALURING_MODE_OWNER, 0, 0); /* to ask for the quarantine's end with */
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int call = BY_WAIT; call < CALLS; call++) {
      ROW(CALL_NAMES[call]);
      struct seen seen = {0};
      int fds = count_fds();
      scene = (struct scene){.ring = ring_open(HOST_MODES[mode], 0, 0)};
      DO(drive_to_release(call, release_the_ring, zero, ends, pending, &seen));
      CHECK_EQ(seen.calls, 1);
      CHECK(seen.last.result == -ECANCELED || seen.last.result == PALURING_ERR_ORPHANED);
      CHECK(quarantine_ends(other));
      CHECK_EQ(paluring_buf_refs(pending), 1);
      CHECK_EQ(count_fds(), fds);
    }
  }
  paluring_buf_release(pending);
  close_pipe(ends);
  close(zero);
  ring_done(other);
}

int main(void) {
  RUN(a_release_function_may_use_the_ring_whichever_call_runs_it);
  RUN(a_close_inside_a_release_function_is_done_when_the_call_that_ran_it_returns);
  RUN(the_last_release_inside_a_release_function_completes_all_and_leaks_no_descriptor);
  return harness_end();
}
