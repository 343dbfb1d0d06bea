/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Calls that a host should not make: each gives a clear status, loses nothing and crashes nothing. */
#include "harness.h"

/* A ring with a kept I/O that stays in flight: the read of a pipe that stays empty until feed. */
struct pending {
  paluring_ring *ring;
  paluring_io io;
  paluring_buf *buf;
  int ends[2];
};

static paluring_op nop(uint32_t flags) {
  paluring_op op;
  paluring_op_nop(&op);
  op.flags = flags;
  return op;
}

static struct pending set_pending(uint32_t mode, paluring_complete_fn callback, uint32_t flags) {
  struct pending s = {.ring = ring_open(mode, 8, 0), .ends = {-1, -1}};
  paluring_op op;
  EXPECT(pipe2(s.ends, O_CLOEXEC) == 0);
  EXPECT_EQ(paluring_buf_alloc(64, 0, &s.buf), 0);
  paluring_op_read(&op, s.ends[0], s.buf, 0, 64, 0);
  op.callback = callback;
  op.flags = flags;
  op.user_data = 4711;
  EXPECT_EQ(paluring_io_start(s.ring, &op, &s.io), 0);
  return s;
}

static void feed(const struct pending *s) {
  EXPECT(write(s->ends[1], "food", 4) == 4);
}

static void end_pending(struct pending *s) {
  if (s->ring) ring_done(s->ring);
  EXPECT_EQ(paluring_buf_refs(s->buf), 1);
  paluring_buf_release(s->buf);
  close(s->ends[0]);
  close(s->ends[1]);
}

/* The kept I/O is as alive as before: fed, it completes. */
static void check_alive(const struct pending *s) {
  paluring_completion completion;
  feed(s);
  CHECK_EQ(paluring_io_wait(s->ring, s->io, LONG_ENOUGH, &completion), 0);
  CHECK_EQ(completion.result, 4);
  CHECK_EQ(completion.user_data, 4711);
  CHECK(memcmp(paluring_buf_data(s->buf), "food", 4) == 0);
}

/* ---- handles ---- */

/* Tries a handle that names no I/O of the ring with every function that takes one. */
static void check_stale(paluring_ring *ring, paluring_io io) {
  static const paluring_completion zero;
  paluring_completion completion;
  uintptr_t user_data = 1;
  memset(&completion, 0xdd, sizeof completion);
  CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &completion), PALURING_ERR_STALE);
  CHECK(memcmp(&completion, &zero, sizeof zero) == 0);
  memset(&completion, 0xdd, sizeof completion);
  CHECK_EQ(paluring_io_wait(ring, io, 0, &completion), PALURING_ERR_STALE);
  CHECK(memcmp(&completion, &zero, sizeof zero) == 0);
  CHECK_EQ(paluring_io_drop(ring, io, &user_data), io ? PALURING_ERR_STALE : 0);
  CHECK_EQ(user_data, 0);
  CHECK_EQ(paluring_io_cancel(ring, io), PALURING_ERR_STALE);
  CHECK_EQ(paluring_io_set_timeout(ring, io, 1), PALURING_ERR_STALE);
}

TEST(handles_that_name_no_io_are_stale_and_hit_no_other) {
  struct pending s = set_pending(PALURING_MODE_OWNER, NULL, 0);
  uint64_t state = 88172645463325252;
  static const paluring_io fixed[] = {0, 1, 2, UINT64_MAX, UINT64_MAX - 1, UINT32_MAX, UINT64_C(1) << 63, 0xfffff, 0xfffff00000000000};
  for (size_t i = 0; i < COUNT_OF(fixed); i++) DO(check_stale(s.ring, fixed[i]));
  for (int bit = 0; bit < 64; bit++) DO(check_stale(s.ring, s.io ^ UINT64_C(1) << bit));
  for (uint64_t by = 1; by < 100; by++) {
    DO(check_stale(s.ring, s.io + by));
    DO(check_stale(s.ring, s.io - by));
  }
  for (int i = 0; i < 20000; i++) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    if (state != s.io) DO(check_stale(s.ring, state));
  }
  DO(check_alive(&s));
  DO(check_stale(s.ring, s.io));
  end_pending(&s);
}

TEST(handles_of_finished_ios_stay_stale_when_their_slot_is_used_again) {
  struct pending s = set_pending(PALURING_MODE_OWNER, NULL, 0);
  enum { OLD = 500 };
  paluring_io old[OLD];
  paluring_op op = nop(0);
  for (int i = 0; i < OLD; i++) {
    CHECK_EQ(paluring_io_start(s.ring, &op, &old[i]), 0);
    CHECK_EQ(paluring_io_wait(s.ring, old[i], LONG_ENOUGH, NULL), 0);
    for (int j = 0; j < i; j++) CHECK(old[j] != old[i]);
  }
  paluring_io now = 0;
  CHECK_EQ(paluring_io_start(s.ring, &op, &now), 0);
  for (int i = 0; i < OLD; i++) DO(check_stale(s.ring, old[i]));
  CHECK_EQ(paluring_io_wait(s.ring, now, LONG_ENOUGH, NULL), 0);
  DO(check_alive(&s));
  end_pending(&s);
}

TEST(handles_of_other_rings_are_stale) {
  for (int i = 0; i < 50; i++) {
    struct pending one = set_pending(PALURING_MODE_OWNER, NULL, 0), two = set_pending(PALURING_MODE_SHARED, NULL, 0);
    CHECK(one.io != two.io);
    DO(check_stale(one.ring, two.io));
    DO(check_stale(two.ring, one.io));
    DO(check_alive(&one));
    DO(check_alive(&two));
    DO(end_pending(&one));
    DO(end_pending(&two));
  }
}

/* ---- who takes the result ---- */

TEST(a_start_whose_result_nobody_could_take_is_refused) {
  struct pending s = set_pending(PALURING_MODE_OWNER, NULL, 0);
  static const uint32_t flags[] = {0, PALURING_OP_SUBMIT, PALURING_OP_ASYNC, PALURING_OP_MOVE, PALURING_OP_SUBMIT | PALURING_OP_ASYNC};
  for (size_t i = 0; i < COUNT_OF(flags); i++) {
    paluring_op op = nop(flags[i]);
    CHECK_EQ(paluring_io_start(s.ring, &op, NULL), -EINVAL);
    CHECK_EQ(paluring_io_start_batch(s.ring, &op, 1, NULL), -EINVAL);
  }
  DO(check_alive(&s));
  end_pending(&s);
}

static void ignore_completion(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
}

TEST(poll_and_wait_refuse_ios_that_are_not_kept) {
  static const struct { paluring_complete_fn callback; uint32_t flags; } takers[] = {
      {ignore_completion, 0}, {NULL, PALURING_OP_QUEUE}, {NULL, PALURING_OP_DETACHED}};
  for (size_t i = 0; i < COUNT_OF(takers); i++) {
    struct pending s = set_pending(PALURING_MODE_OWNER, takers[i].callback, takers[i].flags);
    paluring_completion completion;
    CHECK(s.io != 0);
    CHECK_EQ(paluring_io_poll(s.ring, s.io, NULL, 0, &completion), -EINVAL);
    CHECK_EQ(paluring_io_poll(s.ring, s.io, NULL, 0, NULL), -EINVAL);
    CHECK_EQ(paluring_io_wait(s.ring, s.io, 0, &completion), -EINVAL);
    if (takers[i].flags == PALURING_OP_DETACHED) CHECK(paluring_io_drop(s.ring, s.io, NULL) < 0);
    CHECK_EQ(paluring_io_cancel(s.ring, s.io), 0);
    if (takers[i].flags == PALURING_OP_QUEUE) {
      CHECK_EQ(paluring_ring_reap(s.ring, 1, LONG_ENOUGH, &completion, 1), 1);
      CHECK_EQ(completion.result, -ECANCELED);
    }
    DO(end_pending(&s));
  }
}

TEST(unknown_flags_of_an_op_are_refused) {
  struct pending s = set_pending(PALURING_MODE_OWNER, NULL, 0);
  const uint32_t known = PALURING_OP_SUBMIT | PALURING_OP_ASYNC | PALURING_OP_QUEUE | PALURING_OP_DETACHED | PALURING_OP_MOVE;
  for (int bit = 0; bit < 32; bit++) {
    paluring_op op = nop(UINT32_C(1) << bit);
    paluring_io io = 1;
    if (op.flags & known) continue;
    CHECK_EQ(paluring_io_start(s.ring, &op, &io), -EINVAL);
    CHECK_EQ(io, 0);
    op.flags |= PALURING_OP_QUEUE | PALURING_OP_SUBMIT;
    CHECK_EQ(paluring_io_start(s.ring, &op, &io), -EINVAL);
  }
  DO(check_alive(&s));
  end_pending(&s);
}

TEST(a_batch_stops_at_the_first_bad_op) {
  struct pending s = set_pending(PALURING_MODE_OWNER, NULL, 0);
  for (size_t bad = 0; bad < 5; bad++) {
    paluring_op ops[5];
    paluring_io ios[5];
    paluring_completion completion;
    for (size_t i = 0; i < 5; i++) ops[i] = nop(0), ios[i] = 1;
    memset(&ops[bad], 0, sizeof *ops);
    CHECK_EQ(paluring_io_start_batch(s.ring, ops, 5, ios), bad ? (int32_t)bad : -EINVAL);
    for (size_t i = 0; i < 5; i++) CHECK((ios[i] != 0) == (i < bad));
    for (size_t i = 0; i < bad; i++) CHECK_EQ(paluring_io_wait(s.ring, ios[i], LONG_ENOUGH, &completion), 0);
  }
  DO(check_alive(&s));
  end_pending(&s);
}

/* ---- open and close in a loop ---- */

static void one_ring(uint32_t mode) {
  struct pending s = set_pending(mode, NULL, 0);
  paluring_op op = nop(0);
  paluring_completion completion;
  int fd = -1;
  CHECK_EQ(do_op(s.ring, &op, NULL), 0);
  CHECK_EQ(paluring_ring_event_fd(s.ring, &fd), 0);
  CHECK_EQ(paluring_ring_close(s.ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_io_wait(s.ring, s.io, 0, &completion), 0); /* kept ones are served after close */
  CHECK_EQ(completion.result, -ECANCELED);
  paluring_ring_release(s.ring);
  s.ring = NULL;
  end_pending(&s);
}

TEST(rings_leave_no_descriptor_and_no_memory_behind) {
  int before = count_fds();
  long resident = 0;
  for (int i = 0; i < 300; i++) {
    if (i == 100) resident = resident_kib();
    DO(one_ring(i % 2 ? PALURING_MODE_OWNER : PALURING_MODE_SHARED));
  }
  CHECK_EQ(count_fds(), before);
  if (!is_instrumented() && resident_kib() > resident + 1024) FAIL("200 rings left %ld KiB", resident_kib() - resident);
}

TEST(rings_released_without_close_leave_nothing_behind) {
  int before = count_fds();
  for (int i = 0; i < 100; i++) {
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
    paluring_op op = nop(0);
    CHECK(ring);
    if (i % 2) CHECK_EQ(do_op(ring, &op, NULL), 0);
    CHECK(paluring_ring_retain(ring) == ring);
    paluring_ring_release(ring);
    CHECK_EQ(paluring_ring_ready(ring), 0); /* open: a reference is left */
    paluring_ring_release(ring);
  }
  CHECK_EQ(count_fds(), before);
}

int main(void) {
  RUN(handles_that_name_no_io_are_stale_and_hit_no_other);
  RUN(handles_of_finished_ios_stay_stale_when_their_slot_is_used_again);
  RUN(handles_of_other_rings_are_stale);
  RUN(a_start_whose_result_nobody_could_take_is_refused);
  RUN(poll_and_wait_refuse_ios_that_are_not_kept);
  RUN(unknown_flags_of_an_op_are_refused);
  RUN(a_batch_stops_at_the_first_bad_op);
  RUN(rings_leave_no_descriptor_and_no_memory_behind);
  RUN(rings_released_without_close_leave_nothing_behind);
  return harness_end();
}
