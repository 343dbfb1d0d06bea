/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A buffer's references on its way through an I/O: held, lent, taken, moved, passed on.
 */
#include "scene.h"

static char memory[4096];

struct lent {
  paluring_ring *ring;
  paluring_op op;
  atomic_int calls;
  paluring_buf *taken, *taken_twice, *seen;
  uint32_t refs;
  int left, failed, fd;
};

static void just_look(uintptr_t user_data, paluring_completion *completion) {
  struct lent *self = (struct lent *)user_data;
  self->seen = completion->buf;
  self->refs = paluring_buf_refs(completion->buf);
  atomic_fetch_add(&self->calls, 1);
}

static void take(uintptr_t user_data, paluring_completion *completion) {
  struct lent *self = (struct lent *)user_data;
  self->seen = completion->buf;
  self->taken = paluring_completion_take(completion);
  if (completion->buf != NULL) self->failed++;
  self->taken_twice = paluring_completion_take(completion);
  atomic_fetch_add(&self->calls, 1);
}

TEST(start_holds_a_reference_until_the_kernel_is_done) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_pipe();
  atomic_int released = 0;
  struct lent lent = {0};
  paluring_buf *buf = adopt_counted(memory, 1, &released);
  for (int i = 0; i < 3; i++) start_op(ring, read_op(ends.read, buf, just_look, &lent));
  CHECK_EQ(paluring_buf_refs(buf), 4);
  paluring_buf_release(buf);
  CHECK_EQ(paluring_ring_submit(ring), 3);
  CHECK_EQ(released, 0);
  for (int i = 0; i < 3; i++) {
    put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 1);
    CHECK(lent.seen == buf);
    CHECK_EQ(lent.refs, 3 - i);
    CHECK_EQ(released, i == 2);
  }
  close_pipe(ends);
  ring_done(ring);
}

TEST(a_callback_takes_the_lent_buffer_once) {
  for (int moved = 0; moved < 2; moved++) {
    ROW(moved ? "with MOVE" : "without MOVE");
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
    int fd = temp_file("data", 100, 1);
    atomic_int released = 0;
    struct lent lent = {0};
    paluring_buf *buf = adopt_counted(memory, 100, &released);
    paluring_op op = read_op(fd, buf, take, &lent);
    op.flags = moved ? PALURING_OP_MOVE : 0;
    start_only(ring, op);
    CHECK_EQ(paluring_buf_refs(buf), moved ? 1 : 2);
    if (!moved) paluring_buf_release(buf);
    CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 1);
    CHECK(lent.seen == buf && lent.taken == buf && lent.taken_twice == NULL);
    CHECK_EQ(lent.failed, 0);
    CHECK_EQ(released, 0);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    CHECK(has_pattern(memory, 100, 0, 1));
    paluring_buf_release(lent.taken);
    CHECK_EQ(released, 1);
    close(fd);
    ring_done(ring);
  }
}

TEST(take_gives_nothing_where_nothing_is_lent) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct lent lent = {.taken = (paluring_buf *)memory};
  start_only(ring, nop_op(take, &lent));
  CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 1);
  CHECK(lent.seen == NULL && lent.taken == NULL);
  int fd = temp_file("data", 1, 1);
  paluring_buf *buf = new_buf(1);
  paluring_completion completion = {0};
  CHECK(paluring_completion_take(&completion) == NULL);
  paluring_io io = start_op(ring, with_flags(read_op(fd, buf, NULL, NULL), PALURING_OP_MOVE));
  CHECK_EQ(paluring_io_wait(ring, io, FOREVER, &completion), 0);
  CHECK(completion.buf == buf);
  CHECK(paluring_completion_take(&completion) == NULL); /* it is no callback's: yours already */
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close(fd);
  ring_done(ring);
}

TEST(a_moved_buffer_comes_back_by_poll_wait_and_reap) {
  static const char *const ways[] = {"poll", "wait", "reap"};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = temp_file("data", 300, 1);
  atomic_int released = 0;
  paluring_buf *buf = adopt_counted(memory, 100, &released);
  for (int way = 0; way < 3; way++) {
    ROW(ways[way]);
    paluring_completion completion = {0};
    paluring_io io = start_op(ring, with_flags(read_op(fd, buf, NULL, NULL), PALURING_OP_MOVE | (way == 2 ? PALURING_OP_QUEUE : 0)));
    CHECK_EQ(paluring_buf_refs(buf), 1);
    CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    if (way == 0) CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), 1);
    if (way == 1) CHECK_EQ(paluring_io_wait(ring, io, 0, &completion), 0);
    if (way == 2) CHECK_EQ(paluring_ring_reap(ring, 1, 0, &completion, 1), 1);
    CHECK_EQ(completion.result, 100);
    CHECK(completion.buf == buf);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    CHECK_EQ(released, 0);
  }
  paluring_buf_release(buf);
  CHECK_EQ(released, 1);
  close(fd);
  ring_done(ring);
}

TEST(without_move_poll_wait_and_reap_give_no_buffer_and_the_reference_is_gone) {
  static const char *const ways[] = {"poll", "wait", "reap"};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = temp_file("data", 300, 1);
  paluring_buf *buf = new_buf(100);
  for (int way = 0; way < 3; way++) {
    ROW(ways[way]);
    paluring_completion completion = {0};
    paluring_io io = start_op(ring, with_flags(read_op(fd, buf, NULL, NULL), way == 2 ? PALURING_OP_QUEUE : 0));
    CHECK_EQ(paluring_ring_wait(ring, 1, FOREVER), 1);
    if (way == 0) CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), 1);
    if (way == 1) CHECK_EQ(paluring_io_wait(ring, io, 0, &completion), 0);
    if (way == 2) CHECK_EQ(paluring_ring_reap(ring, 1, 0, &completion, 1), 1);
    CHECK_EQ(completion.result, 100);
    CHECK(completion.buf == NULL);
    CHECK_EQ(paluring_buf_refs(buf), 1);
  }
  paluring_buf_release(buf);
  close(fd);
  ring_done(ring);
}

TEST(a_failed_move_start_takes_nothing) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  int fd = temp_file("data", 1, 1);
  paluring_buf *buf = new_buf(100);
  paluring_op op;
  paluring_io io = 3;
  paluring_op_read(&op, fd, buf, 50, 51, 0);
  op.flags = PALURING_OP_MOVE;
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EINVAL);
  CHECK_EQ(io, 0);
  op = with_flags(read_op(fd, buf, NULL, NULL), PALURING_OP_MOVE);
  CHECK_EQ(paluring_io_start(ring, &op, NULL), -EINVAL); /* nobody could take the result */
  CHECK_EQ(paluring_buf_refs(buf), 1);
  CHECK_EQ(paluring_ring_close(ring, 0), 0);
  CHECK_EQ(paluring_io_start(ring, &op, &io), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_ring_release(ring);
  paluring_buf_release(buf);
  close(fd);
}

TEST(a_moved_buffer_that_nobody_gets_is_released) {
  static const char *const ways[] = {"callback that doesn't take it", "detached", "dropped", "poll that discards", "error"};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_pipe();
  for (int way = 0; way < 5; way++) {
    ROW(ways[way]);
    atomic_int released = 0;
    struct lent lent = {0};
    paluring_buf *buf = adopt_counted(memory, 1, &released);
    paluring_op op = read_op(way == 4 ? -1 : ends.read, buf, way == 0 || way == 4 ? just_look : NULL, &lent);
    paluring_io io = start_op(ring, with_flags(op, PALURING_OP_MOVE | (way == 1 ? PALURING_OP_DETACHED : 0)));
    CHECK_EQ(paluring_ring_submit(ring), 1);
    if (way == 2) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    if (way != 4) CHECK_EQ(released, 0);
    if (way != 4) put_byte(ends);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    if (way == 3) CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, NULL), 1);
    CHECK_EQ(lent.calls, way == 0 || way == 4);
    CHECK_EQ(released, 1);
  }
  close_pipe(ends);
  ring_done(ring);
}

static void read_on(uintptr_t user_data, paluring_completion *completion) {
  struct lent *self = (struct lent *)user_data;
  uint8_t *data = paluring_buf_data(completion->buf);
  if (completion->result != 64 || !has_pattern(data, 64, (size_t)(self->calls % 100) * 64, 5)) self->failed++;
  atomic_fetch_add(&self->calls, 1);
  if (--self->left <= 0) return;
  paluring_op op;
  paluring_op_read(&op, self->fd, completion->buf, 0, 64, (uint64_t)(self->calls % 100) * 64);
  op.callback = read_on;
  op.user_data = user_data;
  if (self->left % 3 == 0) { /* take it, and move it on */
    if (paluring_completion_take(completion) == NULL) self->failed++;
    op.flags = PALURING_OP_MOVE;
  }
  if (paluring_io_start(self->ring, &op, NULL) != 0) self->failed++;
  if (self->left % 5 == 0 && paluring_completion_take(completion) != NULL) { /* a lent one may be kept all the same */
    if (paluring_buf_refs(self->seen) != 2) self->failed++;
    paluring_buf_release(self->seen);
  }
}

TEST(a_callback_starts_its_lent_buffer_again) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    atomic_int released = 0;
    struct lent lent = {.ring = ring_open(HOST_MODES[mode], 8, 0), .left = 10000, .fd = temp_file("data", 6400, 5)};
    lent.seen = adopt_counted(memory, 64, &released);
    paluring_op op;
    paluring_op_read(&op, lent.fd, lent.seen, 0, 64, 0);
    op.callback = read_on;
    op.user_data = (uintptr_t)&lent;
    op.flags = PALURING_OP_MOVE;
    start_only(lent.ring, op);
    CHECK_EQ(paluring_ring_drain(lent.ring, LONG_ENOUGH), 0);
    CHECK_EQ(lent.calls, 10000);
    CHECK_EQ(lent.failed, 0);
    CHECK_EQ(released, 1);
    close(lent.fd);
    ring_done(lent.ring);
  }
}

static void start_two_of_it(uintptr_t user_data, paluring_completion *completion) {
  struct lent *self = (struct lent *)user_data;
  if (atomic_fetch_add(&self->calls, 1) > 0) return;
  for (int i = 0; i < 2; i++) {
    paluring_op op = read_op(self->fd, completion->buf, start_two_of_it, self);
    if (paluring_io_start(self->ring, &op, NULL) != 0) self->failed++;
  }
  self->refs = paluring_buf_refs(completion->buf);
}

TEST(a_callback_may_start_its_lent_buffer_twice) {
  atomic_int released = 0;
  struct lent lent = {.ring = ring_open(PALURING_MODE_OWNER, 8, 0), .fd = temp_file("data", 6400, 5)};
  paluring_op op = read_op(lent.fd, adopt_counted(memory, 64, &released), start_two_of_it, &lent);
  start_only(lent.ring, with_flags(op, PALURING_OP_MOVE));
  CHECK_EQ(paluring_ring_drain(lent.ring, LONG_ENOUGH), 0);
  CHECK_EQ(lent.calls, 3);
  CHECK_EQ(lent.failed, 0);
  CHECK(lent.refs >= 2);
  CHECK_EQ(released, 1);
  close(lent.fd);
  ring_done(lent.ring);
}

static void start_and_drop(uintptr_t user_data, paluring_completion *completion) {
  struct lent *self = (struct lent *)user_data;
  paluring_io io = 0;
  atomic_fetch_add(&self->calls, 1);
  paluring_op op = read_op(self->fd, completion->buf, start_and_drop, self);
  if (paluring_io_start(self->ring, &op, &io) != 0 || paluring_io_drop(self->ring, io, NULL) != 0) self->failed++;
}

TEST(a_lent_buffer_started_and_dropped_at_once_is_released_when_done) {
  atomic_int released = 0;
  struct ends ends = open_pipe();
  struct lent lent = {.ring = ring_open(PALURING_MODE_OWNER, 8, 0), .fd = ends.read};
  put_byte(ends);
  paluring_op op = read_op(lent.fd, adopt_counted(memory, 1, &released), start_and_drop, &lent);
  start_only(lent.ring, with_flags(op, PALURING_OP_MOVE));
  CHECK_EQ(paluring_ring_run(lent.ring, 1, FOREVER), 1);
  CHECK_EQ(lent.failed, 0);
  CHECK_EQ(released, 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_drain(lent.ring, LONG_ENOUGH), 0);
  CHECK_EQ(lent.calls, 1);
  CHECK_EQ(released, 1);
  close_pipe(ends);
  ring_done(lent.ring);
}

static void release_again(uintptr_t user_data, void *data, size_t len) {
  struct lent *self = (struct lent *)user_data;
  (void)data, (void)len;
  paluring_op op = nop_op(count_call, &self->calls);
  if (paluring_io_start(self->ring, &op, NULL) != 0 || paluring_ring_ready(self->ring) < 0) self->failed++;
  self->left--;
}

TEST(a_release_function_may_call_the_ring) {
  struct lent lent = {.ring = ring_open(PALURING_MODE_OWNER, 8, 0), .left = 1};
  struct ends ends = open_pipe();
  paluring_buf *buf = NULL;
  put_byte(ends);
  CHECK_EQ(paluring_buf_adopt(memory, 1, release_again, (uintptr_t)&lent, &buf), 0);
  start_only(lent.ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_MOVE | PALURING_OP_DETACHED));
  CHECK_EQ(paluring_ring_drain(lent.ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_ring_drain(lent.ring, LONG_ENOUGH), 0);
  CHECK_EQ(lent.left, 0);
  CHECK_EQ(lent.failed, 0);
  CHECK_EQ(lent.calls, 1);
  close_pipe(ends);
  ring_done(lent.ring);
}

int main(void) {
  RUN(start_holds_a_reference_until_the_kernel_is_done);
  RUN(a_callback_takes_the_lent_buffer_once);
  RUN(take_gives_nothing_where_nothing_is_lent);
  RUN(a_moved_buffer_comes_back_by_poll_wait_and_reap);
  RUN(without_move_poll_wait_and_reap_give_no_buffer_and_the_reference_is_gone);
  RUN(a_failed_move_start_takes_nothing);
  RUN(a_moved_buffer_that_nobody_gets_is_released);
  RUN(a_callback_starts_its_lent_buffer_again);
  RUN(a_callback_may_start_its_lent_buffer_twice);
  RUN(a_lent_buffer_started_and_dropped_at_once_is_released_when_done);
  RUN(a_release_function_may_call_the_ring);
  return harness_end();
}
