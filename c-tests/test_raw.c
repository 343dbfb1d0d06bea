/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Operations that must not start: those that no constructor made, and raw entries that the library can't track. */
#include "harness.h"

#include <linux/io_uring.h>
#include <poll.h>

static paluring_ring *ring;

/* ---- no constructor ---- */

static void check_refused(const paluring_op *op) {
  paluring_io io = 1, ios[2] = {1, 1};
  CHECK_EQ(paluring_io_start(ring, op, &io), -EINVAL);
  CHECK_EQ(io, 0);
  paluring_op two[2] = {*op, *op};
  CHECK_EQ(paluring_io_start_batch(ring, two, 2, ios), -EINVAL);
  CHECK(ios[0] == 0 && ios[1] == 0);
}

TEST(ops_that_no_constructor_set_are_refused) {
  paluring_op op;
  static const int fills[] = {0x00, 0xff, 0x01, 0x7f, 0x80, 0xaa};
  for (size_t i = 0; i < COUNT_OF(fills); i++) {
    memset(&op, fills[i], sizeof op);
    DO(check_refused(&op));
  }
  memset(&op, 0, sizeof op);
  op.callback = note_completion;
  DO(check_refused(&op));
  op.flags = PALURING_OP_SUBMIT;
  DO(check_refused(&op));
}

TEST(random_bytes_are_no_op) {
  uint64_t state = 0x9e3779b97f4a7c15; /* a fixed seed: the same bytes in each run */
  for (int round = 0; round < 20000; round++) {
    union { uint64_t words[16]; paluring_op op; } random;
    for (size_t i = 0; i < 16; i++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      random.words[i] = state;
    }
    if (round % 2) random.op.callback = NULL, random.op.flags = 0, random.op.rw_flags = 0, random.op.reserved = 0, random.op.personality = 0;
    DO(check_refused(&random.op));
  }
  paluring_stats stats = {.size = sizeof stats};
  CHECK_EQ(paluring_ring_stats(ring, &stats), 0);
  CHECK_EQ(stats.queued + stats.waiting + stats.completed + stats.dropped, 0);
}

TEST(a_set_reserved_field_is_refused) {
  paluring_op op;
  paluring_op_nop(&op);
  op.reserved = 1;
  DO(check_refused(&op));
}

TEST(a_personality_that_nobody_registered_is_refused) {
  paluring_op op;
  paluring_io io = 0;
  paluring_completion completion;
  paluring_op_nop(&op);
  op.personality = 4321;
  int32_t status = paluring_io_start(ring, &op, &io);
  if (status == 0) {
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
    status = completion.result;
  }
  CHECK_EQ(status, -EINVAL);
}

/* ---- raw ---- */

static struct io_uring_sqe entry(uint8_t opcode, int fd) {
  struct io_uring_sqe sqe;
  memset(&sqe, 0, sizeof sqe);
  sqe.opcode = opcode;
  sqe.fd = fd;
  sqe.user_data = UINT64_MAX; /* the library sets its own */
  return sqe;
}

TEST(raw_runs_any_operation) {
  paluring_op op;
  paluring_buf *buf = NULL;
  paluring_completion completion;
  int fd = temp_file("raw", 100, 1);
  CHECK_EQ(paluring_buf_alloc(100, 0, &buf), 0);
  struct io_uring_sqe sqe = entry(IORING_OP_READ, fd);
  sqe.addr = (uintptr_t)paluring_buf_data(buf) + 10;
  sqe.len = 80;
  sqe.off = 5;
  paluring_op_raw(&op, &sqe, buf);
  memset(&sqe, 0xff, sizeof sqe); /* it was copied */
  op.user_data = 9;
  CHECK_EQ(do_op(ring, &op, &completion), 80);
  CHECK(has_pattern(paluring_buf_data(buf) + 10, 80, 5, 1));
  CHECK(completion.user_data == 9 && completion.opcode == IORING_OP_READ);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  sqe = entry(IORING_OP_NOP, -1);
  sqe.flags = IOSQE_ASYNC;
  paluring_op_raw(&op, &sqe, NULL);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  paluring_buf_release(buf);
  close(fd);
}

TEST(raw_accepts_an_entry_at_any_address) {
  paluring_op op;
  uint8_t bytes[128];
  struct io_uring_sqe sqe = entry(IORING_OP_NOP, -1);
  for (size_t at = 0; at < 64; at++) {
    memcpy(bytes + at, &sqe, sizeof sqe);
    paluring_op_raw(&op, bytes + at, NULL);
    CHECK_EQ(do_op(ring, &op, NULL), 0);
  }
}

TEST(raw_holds_its_buffer_until_the_completion) {
  paluring_op op;
  paluring_io io = 0;
  paluring_completion completion;
  int ends[2];
  paluring_buf *buf = NULL;
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  CHECK_EQ(paluring_buf_alloc(100, 0, &buf), 0);
  struct io_uring_sqe sqe = entry(IORING_OP_READ, ends[0]);
  sqe.addr = (uintptr_t)paluring_buf_data(buf);
  sqe.len = 100;
  paluring_op_raw(&op, &sqe, buf);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
  CHECK(paluring_ring_submit(ring) >= 0);
  CHECK_EQ(paluring_buf_refs(buf), 2);
  CHECK(write(ends[1], "hello", 5) == 5);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  CHECK_EQ(completion.result, 5);
  CHECK(memcmp(paluring_buf_data(buf), "hello", 5) == 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close(ends[0]);
  close(ends[1]);
}

enum { MSG_RING = 40, URING_CMD = 46, NOP128 = 63, URING_CMD128 = 64 }; /* newer than some systems' headers */

TEST(raw_refuses_what_it_can_not_track) {
  static const struct { const char *name; uint8_t opcode, flags; } rows[] = {
      {"CQE_SKIP_SUCCESS", IORING_OP_NOP, IOSQE_CQE_SKIP_SUCCESS},
      {"IO_DRAIN", IORING_OP_NOP, IOSQE_IO_DRAIN},
      {"IO_LINK", IORING_OP_NOP, IOSQE_IO_LINK},
      {"IO_HARDLINK", IORING_OP_NOP, IOSQE_IO_HARDLINK},
      {"CQE_SKIP_SUCCESS among others", IORING_OP_NOP, IOSQE_CQE_SKIP_SUCCESS | IOSQE_ASYNC},
      {"an unknown flag", IORING_OP_NOP, 0x80},
      {"all flags", IORING_OP_NOP, 0xff},
      {"MSG_RING", MSG_RING, 0},
      {"LINK_TIMEOUT", IORING_OP_LINK_TIMEOUT, 0},
      {"URING_CMD", URING_CMD, 0},
      {"NOP128", NOP128, 0},
      {"URING_CMD128", URING_CMD128, 0},
  };
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    paluring_op op;
    struct io_uring_sqe sqe = entry(rows[i].opcode, -1);
    sqe.flags = rows[i].flags;
    ROW(rows[i].name);
    paluring_op_raw(&op, &sqe, NULL);
    DO(check_refused(&op));
  }
  ROW("no entry");
  paluring_op op;
  paluring_op_raw(&op, NULL, NULL);
  DO(check_refused(&op));
}

TEST(opcodes_that_the_kernel_lacks_are_a_status) {
  for (unsigned opcode = 65; opcode < 256; opcode++) {
    paluring_op op;
    paluring_io io = 0;
    paluring_completion completion;
    struct io_uring_sqe sqe = entry((uint8_t)opcode, -1);
    if (paluring_ring_supports(ring, opcode) != 0) continue;
    paluring_op_raw(&op, &sqe, NULL);
    int32_t status = paluring_io_start(ring, &op, &io);
    if (status == 0) {
      CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
      status = completion.result;
    }
    CHECK(status == -EINVAL || status == -EOPNOTSUPP);
  }
  CHECK_EQ(paluring_ring_supports(ring, 256), 0);
  CHECK_EQ(paluring_ring_supports(ring, UINT32_MAX), 0);
  CHECK_EQ(paluring_ring_supports(ring, IORING_OP_NOP), 1);
}

/* The first registered file is the library's own: memory is safe after a close only as long as it stays. */
TEST(raw_can_not_touch_the_files_of_the_library) {
  int32_t replacement[] = {-1};
  struct io_uring_sqe sqes[3] = {entry(IORING_OP_CLOSE, 0), entry(IORING_OP_FILES_UPDATE, -1), entry(IORING_OP_READ, 0)};
  sqes[0].file_index = 1;
  sqes[1].addr = (uintptr_t)replacement;
  sqes[1].len = 1;
  sqes[2].flags = IOSQE_FIXED_FILE;
  for (size_t i = 0; i < COUNT_OF(sqes); i++) {
    paluring_op op;
    paluring_io io = 0;
    paluring_completion completion;
    paluring_op_raw(&op, &sqes[i], NULL);
    int32_t status = paluring_io_start(ring, &op, &io);
    if (status == 0) {
      CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
      status = completion.result;
    }
    char row[32];
    snprintf(row, sizeof row, "opcode %u", sqes[i].opcode);
    ROW(row);
    CHECK(status < 0);
  }
}

/* A multishot poll by a raw entry: one I/O, many completions, one of them the last. */
TEST(raw_multishot_completes_many_times_and_ends_once) {
  enum { ROUNDS = 50 };
  int ends[2], more = 0;
  paluring_io io = 0;
  paluring_op op;
  paluring_completion completion;
  char byte;
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  struct io_uring_sqe sqe = entry(IORING_OP_POLL_ADD, ends[0]);
  sqe.poll32_events = POLLIN;
  sqe.len = IORING_POLL_ADD_MULTI;
  paluring_op_raw(&op, &sqe, NULL);
  CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
  CHECK(paluring_ring_submit(ring) >= 0);
  for (int i = 0; i < ROUNDS; i++) {
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
    CHECK(completion.io == io && (completion.result & POLLIN));
    if (completion.flags & PALURING_COMPLETION_MORE) more++;
    CHECK(read(ends[0], &byte, 1) == 1);
  }
  CHECK_EQ(more, ROUNDS);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  do CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  while (completion.flags & PALURING_COMPLETION_MORE);
  CHECK_EQ(completion.result, -ECANCELED);
  CHECK_EQ(paluring_io_wait(ring, io, 0, &completion), PALURING_ERR_STALE);
  close(ends[0]);
  close(ends[1]);
}

int main(void) {
  ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(ops_that_no_constructor_set_are_refused);
  RUN(random_bytes_are_no_op);
  RUN(a_set_reserved_field_is_refused);
  RUN(a_personality_that_nobody_registered_is_refused);
  RUN(raw_runs_any_operation);
  RUN(raw_accepts_an_entry_at_any_address);
  RUN(raw_holds_its_buffer_until_the_completion);
  RUN(raw_refuses_what_it_can_not_track);
  RUN(opcodes_that_the_kernel_lacks_are_a_status);
  RUN(raw_can_not_touch_the_files_of_the_library);
  RUN(raw_multishot_completes_many_times_and_ends_once);
  paluring_ring_release(ring);
  return harness_end();
}
