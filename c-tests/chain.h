/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Chains whose members note what became of them. */
#ifndef PALURING_TEST_CHAIN_H
#define PALURING_TEST_CHAIN_H

#include "scene.h"

#define MOST 16

/* What became of the members, in the order of their completions. */
static struct told {
  int count;
  struct { uintptr_t member; int32_t result; int64_t extra; uint32_t flags; } at[MOST];
} told;

static inline void see(uintptr_t user_data, paluring_completion *completion) {
  int at = told.count++;
  if (at >= MOST) return;
  told.at[at].member = user_data;
  told.at[at].result = completion->result;
  told.at[at].extra = (int64_t)completion->extra;
  told.at[at].flags = completion->flags;
}

/* A raw entry that the kernel refuses when it takes it. */
static inline paluring_op bad_op(uintptr_t user_data) {
  struct io_uring_sqe sqe = {.opcode = IORING_OP_FSYNC, .fd = 0, .addr = 1};
  paluring_op op;
  paluring_op_raw(&op, &sqe, NULL);
  op.callback = see;
  op.user_data = user_data;
  return op;
}

static inline paluring_op member(paluring_op op, uintptr_t user_data) {
  op.callback = see;
  op.user_data = user_data;
  return op;
}

static inline paluring_op write_op(int fd, paluring_buf *buf) {
  paluring_op op;
  paluring_op_write(&op, fd, buf, 0, paluring_buf_len(buf), UINT64_MAX);
  return op;
}

static inline paluring_op failing_op(void) {
  paluring_op op;
  paluring_op_fsync(&op, -1);
  return op;
}

static inline void run_all(paluring_ring *ring) {
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
}

static inline void check_in_order(int count) {
  CHECK_EQ(told.count, count);
  for (int i = 0; i < count; i++) CHECK_EQ(told.at[i].member, i);
}

static inline paluring_ring *open_ring(uint32_t mode, uint32_t entries) {
  memset(&told, 0, sizeof told);
  return ring_with_cq(mode, entries, 0, 0);
}

#endif
