/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Every operation, in every way to get its result: one test for each operation. */
#include "optable.h"

static const struct kind *kind;
static paluring_ring *ring;
static struct stage stage;
static bool xattrs;

/* ---- what came ---- */

/* Looks at a result, and closes what it brings. */
static void check_result(const paluring_completion *got) {
  if (kind->result == A_DESCRIPTOR) {
    CHECK(got->result > 2);
    close(got->result);
  } else {
    CHECK_EQ(got->result, kind->result);
  }
  if (kind->opcode == OP_PIPE) {
    CHECK((int)got->extra > 2 && (int)(got->extra >> 32) > 2);
    CHECK_EQ(write((int)(got->extra >> 32), "x", 1), 1);
    close((int)got->extra), close((int)(got->extra >> 32));
  }
  CHECK_EQ(got->opcode, kind->opcode);
  CHECK_EQ(got->flags & PALURING_COMPLETION_MORE, kind->flags & IS_MULTISHOT ? PALURING_COMPLETION_MORE : 0);
  CHECK(!got->buf);
}

static paluring_op described(void) {
  paluring_op op;
  stage_make(&stage, ring);
  kind->describe(&op, &stage);
  return op;
}

static paluring_op waiting(void) {
  paluring_op op;
  stage_make(&stage, ring);
  kind->wait(&op, &stage);
  return op;
}

/* The stage ends, and nothing holds its buffer any more. */
static void staged(void) {
  EXPECT_EQ(paluring_buf_refs(stage.buf), 1);
  if (kind->opcode == IORING_OP_CLOSE && fcntl(stage.spare, F_GETFD) < 0) stage.spare = -1;
  stage_end(&stage);
}

/* ---- ways to get it ---- */

static void end_multishot(paluring_io io) {
  paluring_completion last;
  if (!(kind->flags & IS_MULTISHOT)) return;
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  do {
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &last), 0);
    if (kind->result == A_DESCRIPTOR && last.result >= 0) close(last.result);
  } while (last.flags & PALURING_COMPLETION_MORE);
  CHECK_EQ(last.result, -ECANCELED);
}

static void by_wait(uint32_t flags) {
  paluring_completion got;
  paluring_io io = start_op(ring, with_flags(described(), flags));
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  DO(check_result(&got));
  DO(end_multishot(io));
  staged();
}

static void by_poll(void) {
  paluring_completion got;
  int32_t taken;
  paluring_io io = start_op(ring, described());
  int64_t end = now_ns() + LONG_ENOUGH;
  while ((taken = paluring_io_poll(ring, io, NULL, 0, &got)) == 0) {
    CHECK(now_ns() < end);
    CHECK(paluring_ring_run(ring, 1, 10 * MS) >= 0);
  }
  CHECK_EQ(taken, 1);
  DO(check_result(&got));
  DO(end_multishot(io));
  staged();
}

static void by_reap(void) {
  paluring_completion got;
  paluring_io io = start_op(ring, with_flags(described(), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_reap(ring, 1, LONG_ENOUGH, &got, 1), 1);
  CHECK(got.io == io);
  DO(check_result(&got));
  if (kind->flags & IS_MULTISHOT) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  staged();
}

static void see_result(uintptr_t user_data, paluring_completion *got) {
  atomic_int *calls = (atomic_int *)user_data;
  paluring_completion copy = *got;
  copy.buf = NULL;
  if (atomic_fetch_add(calls, 1) == 0) check_result(&copy);
  else if (kind->result == A_DESCRIPTOR && got->result >= 0) close(got->result);
  if (got->flags & PALURING_COMPLETION_MORE) EXPECT_EQ(paluring_io_cancel(ring, got->io), 0);
}

static void by_callback(void) {
  atomic_int calls = 0;
  paluring_op op = described();
  op.callback = see_result, op.user_data = (uintptr_t)&calls;
  start_only(ring, op);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK(calls == 1 || (kind->flags & IS_MULTISHOT && calls > 1));
  staged();
}

static void by_nobody(void) {
  start_only(ring, with_flags(described(), PALURING_OP_DETACHED));
  if (kind->flags & IS_MULTISHOT) {
    CHECK_EQ(paluring_ring_run(ring, 1, 5 * MS), 0);
    CHECK(paluring_ring_cancel_all(ring) > 0);
  }
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  staged();
}

static void by_drop(void) {
  paluring_io io = start_op(ring, described());
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  CHECK_EQ(paluring_io_drop(ring, io, NULL), PALURING_ERR_STALE);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  staged();
}

static void by_late_drop(void) {
  paluring_io io = start_op(ring, described());
  CHECK(paluring_ring_wait(ring, 1, LONG_ENOUGH) >= 1);
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  staged();
}

/* ---- chains and time limits ---- */

static void in_chain(void) {
  paluring_io ios[3];
  paluring_completion got[3];
  paluring_op ops[3];
  bool succeeds = kind->result >= 0 || kind->opcode == IORING_OP_TIMEOUT;
  ops[1] = described();
  paluring_op_nop(&ops[0]), paluring_op_nop(&ops[2]);
  if (kind->flags & IS_MULTISHOT) {
    CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, ios), -EINVAL);
    staged();
    return;
  }
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, ios), 3);
  for (int i = 0; i < 3; i++) CHECK_EQ(paluring_io_wait(ring, ios[i], LONG_ENOUGH, &got[i]), 0);
  DO(check_result(&got[1]));
  CHECK_EQ(got[2].result, succeeds ? 0 : -ECANCELED);
  staged();
}

static void in_broken_chain(void) {
  paluring_io ios[2];
  paluring_completion got[2];
  paluring_op ops[2];
  if (kind->flags & IS_MULTISHOT) return;
  ops[1] = described();
  paluring_op_fsync(&ops[0], -1);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 2, 0, ios), 2);
  for (int i = 0; i < 2; i++) CHECK_EQ(paluring_io_wait(ring, ios[i], LONG_ENOUGH, &got[i]), 0);
  CHECK_EQ(got[1].result, -ECANCELED);
  CHECK_EQ((int64_t)got[1].extra, -EBADF);
  staged();
}

static void with_far_deadline(void) {
  paluring_completion got;
  paluring_io io = start_op(ring, with_timeout(described(), 100 * SECOND));
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  DO(check_result(&got));
  DO(end_multishot(io));
  staged();
}

/* ---- of those that wait ---- */

static void ends_at_deadline(paluring_io io) {
  paluring_completion got;
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, -ETIME);
  CHECK_EQ(got.flags, PALURING_COMPLETION_TIMED_OUT);
  staged();
}

static void waits_until_deadline(void) {
  ends_at_deadline(start_op(ring, with_timeout(waiting(), 2 * MS)));
}

static void waits_until_set_deadline(void) {
  paluring_io io = start_op(ring, with_timeout(waiting(), 100 * SECOND));
  CHECK(paluring_ring_submit(ring) >= 1);
  CHECK_EQ(paluring_io_set_timeout(ring, io, 2 * MS), 0);
  ends_at_deadline(io);
}

static void waits_until_deadline_in_chain(void) {
  paluring_io ios[2];
  paluring_completion got;
  paluring_op ops[2];
  if (kind->flags & IS_MULTISHOT) return;
  ops[0] = with_timeout(waiting(), 2 * MS);
  paluring_op_nop(&ops[1]);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 2, 0, ios), 2);
  CHECK_EQ(paluring_io_wait(ring, ios[1], LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, kind->flags & CHAIN_GOES_ON ? 0 : -ECANCELED);
  ends_at_deadline(ios[0]);
}

static void waits_until_cancel(void) {
  paluring_completion got;
  paluring_io io = start_op(ring, waiting());
  CHECK(paluring_ring_submit(ring) >= 1);
  CHECK_EQ(paluring_io_wait(ring, io, 2 * MS, &got), -ETIME);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, -ECANCELED);
  CHECK_EQ(got.flags, PALURING_COMPLETION_CANCELLED);
  staged();
}

static void waits_dropped(void) {
  paluring_io io = start_op(ring, waiting());
  CHECK(paluring_ring_submit(ring) >= 1);
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  int32_t asked = paluring_io_cancel(ring, io);
  CHECK(asked == 0 || (kind->flags & IS_MULTISHOT && asked == PALURING_ERR_STALE));
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  staged();
}

static void waits_until_close(void) {
  struct seen seen = {0};
  paluring_ring *own = ring_open(PALURING_MODE_OWNER, 8, 0), *shared = ring;
  CHECK(own);
  ring = own;
  paluring_op op = waiting();
  ring = shared;
  op.callback = note_completion, op.user_data = (uintptr_t)&seen;
  start_only(own, op);
  CHECK_EQ(paluring_ring_submit(own), 1);
  CHECK_EQ(paluring_ring_close(own, LONG_ENOUGH), 0);
  CHECK_EQ(seen.calls, 1);
  CHECK_EQ(seen.last.result, -ECANCELED);
  paluring_ring_release(own);
  staged();
}

/* ---- all of it ---- */

/* What a kernel lacks without saying so before. */
static bool is_lacking(void) {
  paluring_completion got = {0};
  paluring_io io = 0;
  paluring_op op = described();
  if (paluring_io_start(ring, &op, &io) == 0) {
    paluring_io_wait(ring, io, LONG_ENOUGH, &got);
    if (got.flags & PALURING_COMPLETION_MORE) paluring_io_drop(ring, io, NULL), paluring_ring_drain(ring, LONG_ENOUGH);
  }
  stage_end(&stage);
  return got.result == -EOPNOTSUPP || (got.result == -EINVAL && kind->opcode == IORING_OP_TIMEOUT);
}

#define PART(call) do { ROW(#call); DO(call); EXPECT_EQ(count_fds(), fds); } while (0)

static void run_kind(void) {
  if (kind->flags & NEEDS_XATTR && !xattrs) SKIP("this file system has no attributes of users");
  int fds = count_fds();
  if (!paluring_ring_supports(ring, kind->opcode)) {
    paluring_io io = 1;
    paluring_op op = described();
    CHECK_EQ(paluring_io_start(ring, &op, &io), -EOPNOTSUPP);
    CHECK_EQ(io, 0);
    stage_end(&stage);
    SKIP("this kernel lacks it: the start says -EOPNOTSUPP");
  }
  if (kind->flags & AT_RUN_TIME && is_lacking()) SKIP("this kernel lacks it: the result says so");
  PART(by_wait(0));
  PART(by_wait(PALURING_OP_SUBMIT));
  if (!(kind->flags & IS_MULTISHOT)) PART(by_wait(PALURING_OP_ASYNC));
  PART(by_poll());
  PART(by_reap());
  PART(by_callback());
  PART(by_nobody());
  PART(by_drop());
  PART(by_late_drop());
  PART(in_chain());
  PART(in_broken_chain());
  PART(with_far_deadline());
  if (!kind->wait) return;
  PART(waits_until_deadline());
  PART(waits_until_set_deadline());
  PART(waits_until_deadline_in_chain());
  PART(waits_until_cancel());
  PART(waits_dropped());
  PART(waits_until_close());
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  xattrs = has_xattrs();
  for (int mode = 0; mode < 2; mode++) {
    ring = ring_open(HOST_MODES[mode], 16, 0);
    if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
      char name[64];
      kind = &kinds[i];
      snprintf(name, sizeof name, "%s_on_%s", kind->name, HOST_MODE_NAMES[mode]);
      harness_run(name, run_kind);
    }
    ring_done(ring);
  }
  return harness_end();
}
