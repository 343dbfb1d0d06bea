/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What a ring doesn't do to its host: interrupt it, grow without bound, keep it from coming back, spin, or change what is the
 * process's.
 */
#include "raw.h"

#include <sys/resource.h>

/* ---- bounds ---- */

static void check_flat(uint32_t mode, uint32_t flags) {
  enum { STARTS = 500000 };
  const int64_t starts = is_instrumented() ? STARTS / 100 : tries(STARTS);
  paluring_ring *ring = ring_open(mode, 64, 1024);
  atomic_int calls = 0;
  int64_t started = 0, refused = 0;
  long before = 0;
  paluring_completion completions[256];
  while (started < starts) {
    paluring_op op = with_flags(nop_op(flags ? NULL : count_call, &calls), flags);
    int32_t status = paluring_io_start(ring, &op, NULL);
    if (status == 0 && ++started == starts / 10) before = resident_kib();
    if (status == 0) continue;
    CHECK_EQ(status, -EAGAIN);
    refused++;
    if (flags & PALURING_OP_QUEUE) CHECK(paluring_ring_reap(ring, 1, LONG_ENOUGH, completions, COUNT_OF(completions)) >= 1);
    else if (flags & PALURING_OP_DETACHED) CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    else CHECK(paluring_ring_run(ring, 1, LONG_ENOUGH) >= 1);
  }
  CHECK(resident_kib() - before < 512 || is_instrumented());
  CHECK_EQ(stats_of(ring).high_in_flight, 1024);
  CHECK_EQ(stats_of(ring).total_again, refused);
  CHECK_EQ(stats_of(ring).total_started, started);
  ring_done(ring);
  if (!flags) CHECK_EQ(calls, started);
}

/* A producer that never stops is told -EAGAIN at max_in_flight, and nothing grows. */
TEST(a_producer_that_never_stops_is_refused_and_memory_stays_flat) {
  ROW("callback, OWNER"), check_flat(PALURING_MODE_OWNER, 0);
  ROW("callback, SHARED"), check_flat(PALURING_MODE_SHARED, 0);
  ROW("queue"), check_flat(PALURING_MODE_OWNER, PALURING_OP_QUEUE);
  ROW("detached"), check_flat(PALURING_MODE_OWNER, PALURING_OP_DETACHED);
}

struct again {
  paluring_ring *ring;
  paluring_op op;
  int calls;
  bool stop;
};

static void start_again(uintptr_t user_data, paluring_completion *completion) {
  struct again *self = (struct again *)user_data;
  (void)completion;
  self->calls++;
  if (!self->stop) EXPECT_EQ(paluring_io_start(self->ring, &self->op, NULL), 0);
}

/* Each callback starts the next I/O, which is complete at once: there is always something more to process. */
TEST(process_and_run_come_back_though_each_callback_starts_what_completes_at_once) {
  static const uint32_t budgets[] = {0, 1, 3, 64, 1000};
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (size_t i = 0; i < COUNT_OF(budgets); i++) {
      ROW(HOST_MODE_NAMES[mode]);
      static struct again self;
      self = (struct again){.ring = ring_open(HOST_MODES[mode], 128, 100)};
      self.op = with_flags(nop_op(start_again, &self), PALURING_OP_SUBMIT);
      for (int k = 0; k < 100; k++) start_only(self.ring, self.op);
      for (int round = 0; round < tries(200); round++) {
        int before = self.calls;
        int32_t count = round % 4 == 3 ? paluring_ring_run(self.ring, 1, LONG_ENOUGH) : paluring_ring_process(self.ring, budgets[i]);
        CHECK_EQ(self.calls - before, count);
        CHECK(count >= 0 && count <= 128 * 2); /* what a completion queue holds: not for ever */
        if (budgets[i] && round % 4 != 3) CHECK(count <= (int32_t)budgets[i]);
      }
      CHECK(self.calls >= tries(200));
      self.stop = true;
      CHECK_EQ(paluring_ring_drain(self.ring, LONG_ENOUGH), 0);
      ring_done(self.ring);
    }
  }
}

static int64_t cpu_ns(void) {
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return (int64_t)used.tv_sec * SECOND + used.tv_nsec;
}

TEST(a_wait_with_nothing_to_do_burns_no_processor_time) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    atomic_int calls = 0;
    start_only(ring, read_op(ends.read, buf, count_call, &calls));
    start_only(ring, poll_multishot_op(ends.read, count_call, &calls));
    start_only(ring, with_timeout(poll_op(ends.read, count_call, &calls), 60 * SECOND));
    int64_t before = cpu_ns();
    uint64_t enters = stats_of(ring).total_enters;
    CHECK_EQ(paluring_ring_run(ring, 1, 500 * MS), 0);
    CHECK(cpu_ns() - before < 250 * MS || under_valgrind());
    CHECK(stats_of(ring).total_enters - enters < 20);
    paluring_buf_release(buf);
    ring_done(ring);
    close_pipe(ends);
  }
}

/* ---- interruptions ---- */

struct writer {
  struct ends ends;
  atomic_int asleep, done;
  bool stop;
};

static void *write_later(void *argument) {
  struct writer *self = argument;
  for (int i = 1; i <= tries(300) && await_count(&self->asleep, i); i++) {
    poll(NULL, 0, i % 3); /* the owner is in its system call, or about to be */
    put_byte(self->ends);
    atomic_store(&self->done, i);
  }
  return NULL;
}

/* The kernel must not signal an owner that computes or sleeps elsewhere: its sleeps would end early with EINTR. */
TEST(completions_of_an_owner_ring_end_no_system_call_of_its_owner) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_capabilities can = {.size = sizeof can};
  CHECK_EQ(paluring_ring_capabilities(ring, &can), 0);
  if (!(can.setup_flags & IORING_SETUP_DEFER_TASKRUN)) {
    ring_done(ring);
    SKIP("this kernel does not defer task work");
  }
  static struct writer writer;
  writer = (struct writer){.ends = open_pipe()};
  atomic_int calls = 0;
  paluring_buf *buf = new_buf(1);
  pthread_t thread = start_thread(write_later, &writer);
  for (int i = 1; i <= tries(300) && !has_failed(); i++) {
    start_only(ring, read_op(writer.ends.read, buf, count_call, &calls));
    EXPECT_EQ(paluring_ring_submit(ring), 1);
    atomic_store(&writer.asleep, i);
    const struct timespec nap = {.tv_nsec = 4 * MS};
    EXPECT_EQ(i % 2 ? nanosleep(&nap, NULL) : poll(NULL, 0, 4), 0);
    await_count(&writer.done, i);
    run_until(ring, &calls, i);
  }
  DO(pthread_join(thread, NULL));
  paluring_buf_release(buf);
  close_pipe(writer.ends);
  ring_done(ring);
  for (int i = 0; i < 20; i++) CHECK_EQ(poll(NULL, 0, 3), 0); /* nor after a close */
}

/* ---- what is the process's ---- */

static int count_tasks(void) {
  int count = 0;
  DIR *dir = opendir("/proc/self/task");
  while (dir && readdir(dir)) count++;
  if (dir) closedir(dir);
  return count - 2;
}

static void read_handlers(struct sigaction actions[64]) {
  memset(actions, 0, 64 * sizeof *actions);
  for (int i = 1; i < 64; i++) sigaction(i, NULL, &actions[i]);
}

TEST(a_ring_starts_no_thread_and_leaves_signals_and_limits_as_they_are) {
  static struct sigaction before[64], after[64];
  struct rlimit files, memory, now;
  sigset_t blocked, still;
  getrlimit(RLIMIT_NOFILE, &files), getrlimit(RLIMIT_MEMLOCK, &memory);
  sigprocmask(SIG_SETMASK, NULL, &blocked);
  read_handlers(before);
  int tasks = count_tasks();
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_pipe();
    int event = -1;
    CHECK_EQ(paluring_ring_event_fd(ring, &event), 0);
    start_only(ring, with_timeout(with_flags(poll_op(ends.read, NULL, NULL), PALURING_OP_QUEUE), 60 * SECOND));
    CHECK_EQ(paluring_ring_prepare(ring), 0);
    CHECK_EQ(paluring_ring_wake(ring), 0);
    CHECK_EQ(paluring_ring_run(ring, 1, 10 * MS), 0);
    CHECK_EQ(count_tasks(), tasks);
    ring_done(ring);
    close_pipe(ends);
  }
  read_handlers(after);
  sigprocmask(SIG_SETMASK, NULL, &still);
  for (int i = 1; i < 64; i++) CHECK_EQ(sigismember(&blocked, i), sigismember(&still, i));
  for (int i = 1; i < 64; i++) CHECK(before[i].sa_handler == after[i].sa_handler && before[i].sa_flags == after[i].sa_flags);
  CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && memcmp(&now, &files, sizeof now) == 0);
  CHECK(getrlimit(RLIMIT_MEMLOCK, &now) == 0 && memcmp(&now, &memory, sizeof now) == 0);
}

int main(void) {
  RUN(a_ring_starts_no_thread_and_leaves_signals_and_limits_as_they_are);
  RUN(a_producer_that_never_stops_is_refused_and_memory_stays_flat);
  RUN(process_and_run_come_back_though_each_callback_starts_what_completes_at_once);
  RUN(a_wait_with_nothing_to_do_burns_no_processor_time);
  RUN(completions_of_an_owner_ring_end_no_system_call_of_its_owner);
  return harness_end();
}
