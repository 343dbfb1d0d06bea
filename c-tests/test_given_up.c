/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The host has given up its buffer, and maybe the I/O too, before the kernel writes into it. The bytes must be taken from
 * the pipe and go nowhere else: memory checkers and the build that unmaps freed buffers see where they go.
 */
#include "scene.h"

enum { LEN = 3 * 1024, COUNT = 8 }; /* COUNT * LEN fits into a pipe */

static paluring_buf *plain(void) { return new_buf(LEN); }

static paluring_buf *aligned(void) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_alloc(LEN, 4096, &buf), 0);
  return buf;
}

static paluring_buf *slice(void) {
  paluring_buf *whole = new_buf(2 * LEN), *buf = NULL;
  EXPECT_EQ(paluring_buf_slice(whole, LEN / 2, LEN, &buf), 0);
  paluring_buf_release(whole);
  return buf;
}

static paluring_buf *list(void) {
  paluring_buf *members[3] = {new_buf(LEN / 3), new_buf(LEN / 3), new_buf(LEN / 3)}, *buf = NULL;
  EXPECT_EQ(paluring_buf_list(members, 3, &buf), 0);
  for (int i = 0; i < 3; i++) paluring_buf_release(members[i]);
  return buf;
}

static const struct {
  const char *name;
  paluring_buf *(*make)(void);
} kinds[] = {{"plain", plain}, {"aligned", aligned}, {"slice", slice}, {"list", list}};

enum { KEPT, DROPPED, DROPPED_MOVED, DROPPED_QUEUE, DROPPED_CALLBACK, DETACHED, TAKERS };

static atomic_int calls;

static void start_and_give_up(paluring_ring *ring, int fd, paluring_buf *buf, int taker, paluring_io *out_io) {
  static const uint32_t flags[TAKERS] = {[DROPPED_MOVED] = PALURING_OP_MOVE, [DROPPED_QUEUE] = PALURING_OP_QUEUE, [DETACHED] = PALURING_OP_DETACHED};
  paluring_op op = with_flags(read_op(fd, buf, taker == DROPPED_CALLBACK ? count_call : NULL, &calls), flags[taker]);
  *out_io = start_op(ring, op);
  if (taker != DROPPED_MOVED) paluring_buf_release(buf);
}

/* The reads are in the kernel when the host gives them up; then the bytes come. */
static void give_up(uint32_t mode, paluring_buf *(*make)(void), int taker) {
  static uint8_t bytes[LEN];
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(mode, 16, 0);
  paluring_io ios[COUNT] = {0};
  calls = 0;
  for (int i = 0; i < COUNT; i++) start_and_give_up(ring, ends.read, make(), taker, &ios[i]);
  CHECK_EQ(paluring_ring_submit(ring), COUNT);
  for (int i = 0; i < COUNT && taker >= DROPPED && taker <= DROPPED_CALLBACK; i++) CHECK_EQ(paluring_io_drop(ring, ios[i], NULL), 0);
  for (int i = 0; i < COUNT; i++) CHECK_EQ(write(ends.write, bytes, LEN), LEN);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  for (int i = 0; i < COUNT && taker == KEPT; i++) {
    paluring_completion completion = {0};
    CHECK_EQ(paluring_io_wait(ring, ios[i], LONG_ENOUGH, &completion), 0);
    CHECK_EQ(completion.result, LEN);
  }
  CHECK_EQ(calls, 0);
  CHECK_EQ(drain_pipe(ends), 0);
  ring_done(ring);
  close_pipe(ends);
}

TEST(what_the_kernel_writes_after_the_host_has_given_up_goes_into_the_buffer) {
  static const char *const names[TAKERS] = {"kept", "dropped", "dropped with MOVE", "dropped with QUEUE", "dropped with a callback", "detached"};
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
      for (int taker = 0; taker < TAKERS; taker++) {
        char row[100];
        snprintf(row, sizeof row, "%s, %s, %s", HOST_MODE_NAMES[mode], kinds[kind].name, names[taker]);
        ROW(row);
        DO(give_up(HOST_MODES[mode], kinds[kind].make, taker));
        ROW(NULL);
      }
    }
  }
}

static void lend(uintptr_t user_data, paluring_completion *completion) {
  EXPECT_EQ(completion->result, 1);
  EXPECT_EQ(paluring_buf_refs(completion->buf), 1);
  EXPECT_EQ(paluring_buf_data(completion->buf)[0], 'x');
  atomic_fetch_add((atomic_int *)user_data, 1);
}

TEST(a_callback_is_lent_a_buffer_that_nobody_else_has) {
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 16, 0);
  calls = 0;
  for (int i = 0; i < tries(1000); i++) {
    paluring_buf *buf = new_buf(1);
    start_only(ring, read_op(ends.read, buf, lend, &calls));
    paluring_buf_release(buf);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
  }
  CHECK_EQ(calls, tries(1000));
  ring_done(ring);
  close_pipe(ends);
}

int main(void) {
  RUN(what_the_kernel_writes_after_the_host_has_given_up_goes_into_the_buffer);
  RUN(a_callback_is_lent_a_buffer_that_nobody_else_has);
  return harness_end();
}
