/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the host is told when the kernel refuses an enter, and that nothing is lost by it. This program's syscall stands in
 * front of libc's. (c-tests/faults has whole programs run under more of them.)
 */
#include "scene.h"

#include <dlfcn.h>

/* The next enters that fail; after: once the kernel has acted. */
static struct {
  atomic_int count, error, calls;
  bool after;
} fault;

static void *next_syscall;

long syscall(long number, ...) {
  unsigned long a[6];
  va_list args;
  va_start(args, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(args, unsigned long);
  va_end(args);
  long (*real)(long, ...);
  if (!next_syscall) next_syscall = dlsym(RTLD_NEXT, "syscall");
  memcpy(&real, &next_syscall, sizeof real);
  bool enters = number == SYS_io_uring_enter;
  if (enters) fault.calls++;
  if (!enters || fault.count == 0) return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  fault.count--;
  if (fault.after) (void)real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  errno = fault.error;
  return -1;
}

static void refuse(int count, int error, bool after) {
  fault.after = after;
  fault.error = error;
  fault.calls = 0;
  fault.count = count;
}

enum { FOR_EVER = INT32_MAX, NOPS = 8 };

static paluring_ring *ring;
static struct ends ends;
static paluring_buf *buf;
static atomic_int calls;

static void begin(size_t mode) {
  ROW(HOST_MODE_NAMES[mode]);
  refuse(0, 0, false);
  ring = ring_open(HOST_MODES[mode], 0, 0);
  ends = open_pipe();
  buf = new_buf(1);
  calls = 0;
  CHECK_EQ(paluring_ring_submit(ring), 0); /* bound */
}

static void end(void) {
  refuse(0, 0, false);
  ring_done(ring);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
}

#define IN_EACH_MODE(...) \
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) { \
    DO(begin(mode)); \
    __VA_ARGS__ \
    end(); \
  }

static void start_nops(void) {
  for (int i = 0; i < NOPS; i++) start_only(ring, nop_op(count_call, &calls));
}

static int32_t call_submit(void) { return paluring_ring_submit(ring); }
static int32_t call_wait(void) { return paluring_ring_wait(ring, 1, FOREVER); }
static int32_t call_process(void) { return paluring_ring_process(ring, 0); }
static int32_t call_run(void) { return paluring_ring_run(ring, 1, FOREVER); }
static int32_t call_run_for_more(void) { return paluring_ring_run(ring, 2, SECOND); }
static int32_t call_drain(void) { return paluring_ring_drain(ring, FOREVER); }
static int32_t call_prepare(void) { return paluring_ring_prepare(ring); }
static int32_t call_reap(void) {
  paluring_completion out;
  return paluring_ring_reap(ring, 1, FOREVER, &out, 1);
}

static const struct { const char *name; int32_t (*make)(void); } driving[] = {
    {"submit", call_submit}, {"wait", call_wait}, {"process", call_process}, {"run", call_run},
    {"run with min", call_run_for_more}, {"reap", call_reap}, {"drain", call_drain}, {"prepare", call_prepare}};

/* Errno, how often in a row, and the status. */
static const struct { int error, count; int32_t status; } refusals[] = {
    {EAGAIN, 1, -EAGAIN}, {ENOMEM, 1, -ENOMEM}, {ENXIO, 1, -ENXIO}, {EBADFD, 1, -EBADFD}, {EOPNOTSUPP, 1, -EOPNOTSUPP},
    {EEXIST, 1, PALURING_ERR_WRONG_THREAD}, {EINTR, FOR_EVER, -EAGAIN}, {EBUSY, FOR_EVER, -EAGAIN}};

TEST(a_drivers_call_with_nothing_else_to_return_gives_the_refusal_and_keeps_every_entry) {
  IN_EACH_MODE({
    for (size_t i = 0; i < COUNT_OF(refusals) * COUNT_OF(driving); i++) {
      size_t call = i % COUNT_OF(driving), refusal = i / COUNT_OF(driving);
      char row[64];
      snprintf(row, sizeof row, "%s, %s after %s", HOST_MODE_NAMES[mode], driving[call].name, strerror(refusals[refusal].error));
      ROW(row);
      calls = 0;
      start_nops();
      refuse(refusals[refusal].count, refusals[refusal].error, false);
      CHECK_EQ(driving[call].make(), refusals[refusal].status);
      CHECK(fault.calls < 100);
      refuse(0, 0, false);
      CHECK_EQ(calls, 0);
      CHECK_EQ(paluring_ring_submit(ring), NOPS);
      DO(run_until(ring, &calls, NOPS));
      CHECK_EQ(stats_of(ring).waiting, 0);
    }
  })
}

/* Most of them wait for room in the submission queue, outside of it. */
TEST(a_refused_submit_drops_no_entry_in_or_behind_the_submission_queue) {
  enum { MANY = 600 };
  IN_EACH_MODE({
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
      calls = 0;
      for (int k = 0; k < MANY; k++) start_only(ring, nop_op(count_call, &calls));
      CHECK(stats_of(ring).queued > 0);
      refuse(refusals[i].count, refusals[i].error, false);
      CHECK_EQ(paluring_ring_submit(ring), refusals[i].status);
      refuse(0, 0, false);
      CHECK_EQ(calls, 0);
      CHECK_EQ(stats_of(ring).queued + stats_of(ring).waiting, MANY);
      CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
      CHECK_EQ(calls, MANY);
    }
  })
}

TEST(what_the_kernel_took_is_told_and_not_submitted_again_though_an_error_is_reported) {
  static const int errors[] = {EINTR, EAGAIN, EBUSY, ENOMEM, EBADFD};
  IN_EACH_MODE({
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
      calls = 0;
      start_nops();
      refuse(1, errors[i], true);
      CHECK_EQ(paluring_ring_submit(ring), NOPS);
      CHECK_EQ(fault.count, 0);
      DO(run_until(ring, &calls, NOPS));
      CHECK_EQ(paluring_ring_wait(ring, 1, 0), 0);
      CHECK_EQ(calls, NOPS);
    }
  })
}

TEST(a_run_delivers_what_is_there_before_it_tells_of_a_refusal) {
  IN_EACH_MODE({
    for (uint32_t min = 1; min <= 2 * NOPS; min *= 4) {
      calls = 0;
      start_nops();
      CHECK_EQ(paluring_ring_submit(ring), NOPS);
      start_only(ring, read_op(ends.read, buf, count_call, &calls));
      refuse(FOR_EVER, EBADFD, true);
      CHECK_EQ(paluring_ring_run(ring, min, 50 * MS), NOPS);
      CHECK_EQ(calls, NOPS);
      CHECK_EQ(paluring_ring_run(ring, 1, 50 * MS), -EBADFD);
      refuse(0, 0, false);
      put_byte(ends);
      DO(run_until(ring, &calls, NOPS + 1));
    }
  })
}

TEST(a_signal_ends_a_wait_without_an_error_whatever_was_to_be_submitted) {
  IN_EACH_MODE({
    for (int untaken = 0; untaken < 2; untaken++) {
      calls = 0;
      start_only(ring, timeout_op(20 * MS, count_call, &calls));
      if (!untaken) CHECK_EQ(paluring_ring_submit(ring), 1);
      refuse(1, EINTR, false);
      CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), 0);
      CHECK_EQ(stats_of(ring).waiting, 1);
      DO(run_until(ring, &calls, 1));
    }
  })
}

TEST(a_ring_that_lost_completions_lets_no_call_sleep_and_delivers_what_comes) {
  IN_EACH_MODE({
    start_only(ring, read_op(ends.read, buf, count_call, &calls));
    CHECK_EQ(paluring_ring_submit(ring), 1);
    refuse(1, EBADR, false);
    CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), PALURING_ERR_LOST);
    for (size_t i = 1; i < COUNT_OF(driving); i++) {
      ROW(driving[i].name);
      if (driving[i].make != call_process) CHECK_EQ(driving[i].make(), PALURING_ERR_LOST);
    }
    start_nops();
    CHECK_EQ(paluring_ring_submit(ring), NOPS);
    CHECK_EQ(paluring_ring_run(ring, 1, FOREVER), NOPS);
  })
  CHECK_EQ(calls, NOPS + 1); /* the read was cancelled by the close */
}

struct told {
  atomic_int calls;
  int32_t result;
};

static void note_result(uintptr_t user_data, paluring_completion *completion) {
  struct told *told = (struct told *)user_data;
  told->result = completion->result;
  atomic_fetch_add(&told->calls, 1);
}

TEST(a_close_without_limit_ends_though_the_kernel_refuses_for_ever) {
  static const struct { int error; int32_t result; } rows[] = {
      {ENOMEM, PALURING_ERR_ORPHANED}, {EINTR, PALURING_ERR_ORPHANED}, {EBADR, PALURING_ERR_LOST}, {ENXIO, PALURING_ERR_ORPHANED}};
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    struct told told = {0};
    atomic_int released = 0;
    uint8_t byte[1];
    int64_t began = now_ns();
    DO(begin(i % 2));
    ROW(strerror(rows[i].error));
    paluring_buf *counted = adopt_counted(byte, sizeof byte, &released);
    start_only(ring, read_op(ends.read, counted, note_result, &told));
    paluring_buf_release(counted);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    refuse(FOR_EVER, rows[i].error, false);
    CHECK_EQ(paluring_ring_close(ring, FOREVER), 1);
    CHECK(now_ns() - began < 5 * SECOND);
    refuse(0, 0, false);
    CHECK_EQ(told.calls, 1);
    CHECK_EQ(told.result, rows[i].result);
    CHECK(quarantine_ends(ring));
    CHECK_EQ(released, 1);
    paluring_buf_release(buf);
    paluring_ring_release(ring);
    close_pipe(ends);
  }
}

int main(void) {
  RUN(a_drivers_call_with_nothing_else_to_return_gives_the_refusal_and_keeps_every_entry);
  RUN(a_refused_submit_drops_no_entry_in_or_behind_the_submission_queue);
  RUN(what_the_kernel_took_is_told_and_not_submitted_again_though_an_error_is_reported);
  RUN(a_run_delivers_what_is_there_before_it_tells_of_a_refusal);
  RUN(a_signal_ends_a_wait_without_an_error_whatever_was_to_be_submitted);
  RUN(a_ring_that_lost_completions_lets_no_call_sleep_and_delivers_what_comes);
  RUN(a_close_without_limit_ends_though_the_kernel_refuses_for_ever);
  return harness_end();
}
