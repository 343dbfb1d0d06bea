/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Mistakes of the host's that debug builds find: each is told to the log with the function's name, gives a status where the
 * function has one, and does no harm.
 */
#include "chain.h"
#include "logged.h"

/* ---- released buffers ---- */

static paluring_ring *ring;
static struct ends ends;

static int64_t use_data(paluring_buf *buf) { return paluring_buf_data(buf) != NULL; }
static int64_t use_len(paluring_buf *buf) { return (int64_t)paluring_buf_len(buf); }
static int64_t use_refs(paluring_buf *buf) { return paluring_buf_refs(buf); }
static int64_t use_list_count(paluring_buf *buf) { return (int64_t)paluring_buf_list_count(buf); }
static int64_t use_list_at(paluring_buf *buf) { return paluring_buf_list_at(buf, 0) != NULL; }
static int64_t use_retain(paluring_buf *buf) { return paluring_buf_retain(buf) != NULL; }
static int64_t use_release(paluring_buf *buf) { return paluring_buf_release(buf), 0; }

static int64_t use_slice(paluring_buf *buf) {
  paluring_buf *out = NULL;
  int32_t status = paluring_buf_slice(buf, 0, 1, &out);
  EXPECT(!out);
  return status;
}

static int64_t use_list(paluring_buf *buf) {
  paluring_buf *good = new_buf(1), *members[3] = {good, buf, good}, *out = NULL;
  int32_t status = paluring_buf_list(members, 3, &out);
  EXPECT(!out);
  EXPECT_EQ(paluring_buf_refs(good), 1);
  paluring_buf_release(good);
  return status;
}

static paluring_op using(paluring_buf *buf) {
  paluring_op op;
  paluring_op_read(&op, ends.read, buf, 0, 1, UINT64_MAX);
  return op;
}

static int64_t use_start(paluring_buf *buf) {
  paluring_op op = using(buf);
  paluring_io io = 1;
  int32_t status = paluring_io_start(ring, &op, &io);
  EXPECT_EQ(io, 0);
  return status;
}

static int64_t use_start_chain(paluring_buf *buf) {
  paluring_op ops[2] = {nop_op(NULL, NULL), using(buf)};
  paluring_io ios[2] = {1, 1};
  int32_t status = paluring_io_start_chain(ring, ops, 2, 0, ios);
  EXPECT(ios[0] == 0 && ios[1] == 0);
  return status;
}

static const struct {
  const char *function;
  int64_t (*use)(paluring_buf *);
  int64_t gives;
} uses[] = {
  {"paluring_buf_data:", use_data, 0}, {"paluring_buf_len:", use_len, 0}, {"paluring_buf_refs:", use_refs, 0}, {"paluring_buf_slice:", use_slice, -EINVAL},
  {"paluring_buf_list_count:", use_list_count, 0}, {"paluring_buf_list_at:", use_list_at, 0}, {"paluring_buf_list:", use_list, -EINVAL},
  {"paluring_buf_retain:", use_retain, 0}, {"paluring_buf_release:", use_release, 0}, {"paluring_io_start:", use_start, -EINVAL},
  {"paluring_io_start_chain:", use_start_chain, -EINVAL},
};

TEST(each_use_of_a_released_buffer_is_told) {
  DEBUG_ONLY();
  for (size_t i = 0; i < COUNT_OF(uses); i++) {
    paluring_buf *buf = new_buf(64);
    ROW(uses[i].function);
    paluring_buf_release(buf);
    CHECK_EQ(logged.lines, 0);
    CHECK_EQ(uses[i].use(buf), uses[i].gives);
    DO(check_logged(uses[i].function, "was released already"));
  }
  CHECK_EQ(stats_of(ring).total_started, 0);
}

TEST(a_released_buffer_is_known_after_a_thousand_others) {
  DEBUG_ONLY();
  paluring_buf *buf = new_buf(64);
  paluring_buf_release(buf);
  for (int i = 0; i < 1000; i++) paluring_buf_release(new_buf(64)); /* headers and bytes: as many graves as there are */
  CHECK_EQ(logged.lines, 0);
  paluring_buf_release(buf);
  DO(check_logged("paluring_buf_release:", "was released already"));
  paluring_log_set(NULL, 0);
  paluring_buf_release(buf); /* silent, and no crash */
}

/* ---- releases too many ---- */

static paluring_buf *make_plain(void) { return new_buf(1); }

static paluring_buf *make_slice(void) {
  paluring_buf *whole = new_buf(9), *buf = NULL;
  EXPECT_EQ(paluring_buf_slice(whole, 1, 1, &buf), 0);
  paluring_buf_release(whole);
  return buf;
}

static paluring_buf *make_list(void) {
  paluring_buf *one = new_buf(1), *buf = NULL;
  EXPECT_EQ(paluring_buf_list(&one, 1, &buf), 0);
  paluring_buf_release(one);
  return buf;
}

static paluring_buf *(*const makes[])(void) = {make_plain, make_slice, make_list};

TEST(a_release_too_many_with_an_io_in_flight_is_told_and_the_memory_stays) {
  DEBUG_ONLY();
  for (size_t i = 0; i < COUNT_OF(makes); i++) {
    struct seen seen = {0};
    paluring_buf *buf = makes[i]();
    paluring_op op = read_op(ends.read, buf, note_completion, &seen);
    start_only(ring, op);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    paluring_buf_release(buf);
    CHECK_EQ(logged.lines, 0);
    for (int again = 0; again < 3; again++) {
      paluring_buf_release(buf);
      DO(check_logged("paluring_buf_release:", "none of the buffer's references is yours"));
    }
    CHECK_EQ(paluring_buf_refs(buf), 1);
    put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(seen.last.result, 1);
    paluring_buf_release(buf);
    DO(check_logged("paluring_buf_release:", "was released already"));
  }
}

TEST(a_release_too_many_of_a_slices_whole_or_a_lists_member_is_told) {
  DEBUG_ONLY();
  paluring_buf *whole = new_buf(8), *slice = NULL, *list = NULL;
  CHECK_EQ(paluring_buf_slice(whole, 2, 2, &slice), 0);
  CHECK_EQ(paluring_buf_list(&slice, 1, &list), 0);
  paluring_buf_release(whole);
  paluring_buf_release(whole);
  DO(check_logged("paluring_buf_release:", "none of the buffer's references is yours"));
  paluring_buf_release(slice);
  paluring_buf_release(slice);
  DO(check_logged("paluring_buf_release:", "none of the buffer's references is yours"));
  CHECK(paluring_buf_list_at(list, 0) == slice); /* borrowed from the list: to be retained before it may be released */
  paluring_buf_release(paluring_buf_retain(slice));
  paluring_buf_release(slice);
  DO(check_logged("paluring_buf_release:", "none of the buffer's references is yours"));
  CHECK_EQ(paluring_buf_refs(slice), 1);
  paluring_buf_release(list);
  CHECK_EQ(logged.lines, 0);
}

static void release_what_is_lent(uintptr_t user_data, paluring_completion *completion) {
  paluring_buf_release(completion->buf); /* without a take it is not ours */
  atomic_fetch_add((atomic_int *)user_data, 1);
}

static void release_what_was_taken(uintptr_t user_data, paluring_completion *completion) {
  paluring_buf *buf = paluring_completion_take(completion);
  paluring_buf_release(buf);
  atomic_fetch_add((atomic_int *)user_data, buf ? 1 : 0);
}

TEST(a_release_of_a_lent_buffer_that_was_not_taken_is_told) {
  DEBUG_ONLY();
  atomic_int calls = 0;
  for (int take = 0; take < 2; take++) {
    paluring_buf *buf = new_buf(1);
    start_only(ring, with_flags(read_op(ends.read, buf, take ? release_what_was_taken : release_what_is_lent, &calls), PALURING_OP_MOVE));
    put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    if (take) CHECK_EQ(logged.lines, 0);
    else DO(check_logged("paluring_buf_release:", "none of the buffer's references is yours"));
  }
  CHECK_EQ(calls, 2);
}

TEST(a_move_of_what_is_not_the_hosts_is_refused) {
  DEBUG_ONLY();
  paluring_buf *buf = new_buf(1);
  paluring_op op = with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_MOVE);
  paluring_completion completion;
  paluring_io io = 0, other = 1;
  CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
  CHECK_EQ(paluring_io_start(ring, &op, &other), -EINVAL);
  CHECK_EQ(other, 0);
  DO(check_logged("paluring_io_start:", "none of the buffer's references is yours"));
  put_byte(ends);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  CHECK(completion.buf == buf);
  CHECK_EQ(paluring_io_start(ring, &op, &io), 0); /* it is the host's again */
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(logged.lines, 0);
}

/* ---- bytes ---- */

/* A write that waits for room in a pipe, so that its bytes can be changed while it is in flight. */
static void write_changed(paluring_buf *buf, uint8_t *change, bool told) {
  struct ends full = open_pipe();
  static uint8_t block[65536];
  struct seen seen = {0};
  while (fcntl(full.write, F_SETFL, O_NONBLOCK) == 0 && write(full.write, block, sizeof block) > 0) continue;
  CHECK(fcntl(full.write, F_SETFL, 0) == 0);
  paluring_op op = write_op(full.write, buf);
  op.callback = note_completion;
  op.user_data = (uintptr_t)&seen;
  start_only(ring, op);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  if (change) *change ^= 1;
  while (seen.calls == 0) {
    drain_pipe(full);
    CHECK(paluring_ring_run(ring, 1, MS) >= 0);
  }
  CHECK(seen.last.result > 0);
  if (told) DO(check_logged("paluring_io_start:", "bytes that a write in flight reads were changed"));
  CHECK_EQ(logged.lines, 0);
  close_pipe(full);
}

TEST(bytes_that_are_changed_while_a_write_is_in_flight_are_told) {
  DEBUG_ONLY();
  paluring_buf *buf = new_buf(10000), *part = NULL, *list = NULL;
  CHECK_EQ(paluring_buf_slice(buf, 5000, 100, &part), 0);
  CHECK_EQ(paluring_buf_list((paluring_buf *const[]){part, buf}, 2, &list), 0);
  uint8_t *data = paluring_buf_data(buf);
  const struct { const char *row; paluring_buf *buf; uint8_t *change; bool told; } cases[] = {
    {"nothing", buf, NULL, false}, {"the first", buf, data, true}, {"the last", buf, data + 9999, true},
    {"in a slice", part, data + 5000, true}, {"beside a slice", part, data + 4999, false},
    {"in a list", list, data + 9999, true}, {"nothing of a list", list, NULL, false},
  };
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    ROW(cases[i].row);
    DO(write_changed(cases[i].buf, cases[i].change, cases[i].told));
  }
  paluring_buf_release(list);
  paluring_buf_release(part);
  paluring_buf_release(buf);
}

TEST(a_chain_that_fills_the_buffer_that_it_writes_is_no_mistake) {
  DEBUG_ONLY();
  struct ends out = open_pipe();
  paluring_buf *buf = new_buf(1);
  paluring_op ops[2] = {member(read_op(ends.read, buf, NULL, NULL), 0), member(write_op(out.write, buf), 1)};
  told.count = 0;
  put_byte(ends);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 2, 0, NULL), 2);
  DO(run_all(ring));
  DO(check_in_order(2));
  CHECK_EQ(drain_pipe(out), 1);
  CHECK_EQ(logged.lines, 0);
  paluring_buf_release(buf);
  close_pipe(out);
}

TEST(bytes_that_are_written_after_the_release_are_told) {
  DEBUG_ONLY();
  for (int wrong = 0; wrong < 2; wrong++) {
    paluring_buf *buf = new_buf(100);
    volatile uint8_t *data = paluring_buf_data(buf);
    paluring_buf_release(buf);
    EXPECT(data[0] == 0xdb && data[99] == 0xdb); /* what is freed has a pattern */
    if (wrong) data[50] = 1;
    for (int i = 0; i < 20; i++) paluring_buf_release(new_buf(100000)); /* the quarantine gives it up */
    if (wrong) DO(check_logged("paluring_buf_release:", "the memory of a released buffer or ring was written to"));
    CHECK_EQ(logged.lines, 0);
  }
}

int main(void) {
  ring = ring_open(PALURING_MODE_OWNER, 16, 0);
  ends = open_pipe();
  RUN(each_use_of_a_released_buffer_is_told);
  RUN(a_released_buffer_is_known_after_a_thousand_others);
  RUN(a_release_too_many_with_an_io_in_flight_is_told_and_the_memory_stays);
  RUN(a_release_too_many_of_a_slices_whole_or_a_lists_member_is_told);
  RUN(a_release_of_a_lent_buffer_that_was_not_taken_is_told);
  RUN(a_move_of_what_is_not_the_hosts_is_refused);
  RUN(bytes_that_are_changed_while_a_write_is_in_flight_are_told);
  RUN(a_chain_that_fills_the_buffer_that_it_writes_is_no_mistake);
  RUN(bytes_that_are_written_after_the_release_are_told);
  paluring_log_set(NULL, 0);
  ring_done(ring);
  close_pipe(ends);
  return harness_end();
}
