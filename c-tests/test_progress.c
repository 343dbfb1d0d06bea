/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Calls end when they should: limits hold though completions keep coming, wakes are kept for the next
 * wait, kept completions are told once, and a close or release takes no longer than its work.
 */
#include "scene.h"

/* A thread that drives, and what it drives. */
static struct driver {
  paluring_ring *_Atomic ring;
  pthread_t thread;
  atomic_int tid;
  atomic_bool stop;
} driver;

static bool is_asleep(int tid) {
  char path[64], text[256] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  FILE *file = fopen(path, "re");
  size_t got = file ? fread(text, 1, sizeof text - 1, file) : 0;
  if (file) fclose(file);
  char *state = got ? strrchr(text, ')') : NULL;
  return state && state[2] == 'S';
}

/* Waits until the driver has published itself and sleeps in the call that follows. */
static bool await_sleep(void) {
  int64_t end = now_ns() + LONG_ENOUGH;
  while (now_ns() < end) {
    int tid = atomic_load(&driver.tid);
    if (tid && is_asleep(tid)) return true;
    sched_yield();
  }
  EXPECT(!"the driver sleeps");
  return false;
}

/* Also ends once the scene is another test's: then a failure has left it behind. */
static void *run_until_stopped(void *argument) {
  paluring_ring *ring = argument;
  atomic_store(&driver.tid, (int)syscall(SYS_gettid));
  while (!atomic_load(&driver.stop) && driver.ring == ring) paluring_ring_run(ring, 1, FOREVER);
  return NULL;
}

static void driver_begin(paluring_ring *ring) {
  driver = (struct driver){.ring = ring};
  driver.thread = start_thread(run_until_stopped, ring);
  await_sleep();
}

static void driver_end(void) {
  atomic_store(&driver.stop, true);
  EXPECT_EQ(paluring_ring_wake(driver.ring), 0);
  pthread_join(driver.thread, NULL);
}

/* ---- limits ---- */

struct restarted {
  paluring_ring *ring;
  atomic_bool stop;
  long count;
};

static void start_again(uintptr_t user_data, paluring_completion *completion) {
  struct restarted *self = (struct restarted *)user_data;
  (void)completion;
  self->count++;
  if (!atomic_load(&self->stop)) start_only(self->ring, with_flags(nop_op(start_again, self), PALURING_OP_SUBMIT));
}

TEST(drain_keeps_its_limit_though_callbacks_start_again_and_submit) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    struct restarted self = {.ring = ring_open(HOST_MODES[mode], 0, 0)};
    start_only(self.ring, nop_op(start_again, &self));
    int64_t began = now_ns();
    CHECK_EQ(paluring_ring_drain(self.ring, 50 * MS), -ETIME);
    CHECK(now_ns() - began >= 50 * MS && now_ns() - began < 5 * SECOND);
    CHECK(self.count > 1);
    atomic_store(&self.stop, true);
    CHECK_EQ(paluring_ring_drain(self.ring, LONG_ENOUGH), 0);
    ring_done(self.ring);
  }
}

static uint8_t memory[64];
static int zero;

/* Adopts the memory again and starts a read into it, whose end runs this again. */
static void read_again(uintptr_t user_data, void *data, size_t len) {
  struct restarted *self = (struct restarted *)user_data;
  paluring_buf *buf = NULL;
  if (self->count++ && atomic_load(&self->stop)) return;
  EXPECT_EQ(paluring_buf_adopt(data, len, read_again, user_data, &buf), 0);
  start_only(self->ring, with_flags(read_op(zero, buf, NULL, NULL), PALURING_OP_DETACHED | PALURING_OP_SUBMIT));
  paluring_buf_release(buf);
}

TEST(waits_keep_their_limit_though_release_functions_start_again_and_submit) {
  static const char *const names[] = {"run", "wait", "drain", "reap", "process"};
  zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
      ROW(names[i]);
      struct restarted self = {.ring = ring_open(HOST_MODES[mode], 0, 0)};
      paluring_completion completion;
      read_again((uintptr_t)&self, memory, sizeof memory);
      int64_t began = now_ns();
      if (i == 0) CHECK_EQ(paluring_ring_run(self.ring, 1, 20 * MS), 0);
      if (i == 1) CHECK_EQ(paluring_ring_wait(self.ring, 1, 20 * MS), 0);
      if (i == 2) CHECK_EQ(paluring_ring_drain(self.ring, 20 * MS), -ETIME);
      if (i == 3) CHECK_EQ(paluring_ring_reap(self.ring, 1, 20 * MS, &completion, 1), 0);
      if (i == 4) CHECK_EQ(paluring_ring_process(self.ring, 0), 0);
      else CHECK(now_ns() - began >= 20 * MS && self.count > 1);
      CHECK(now_ns() - began < 5 * SECOND);
      atomic_store(&self.stop, true);
      ring_done(self.ring);
    }
  }
  close(zero);
}

/* ---- wakes ---- */

static void *wake_while_it_sleeps(void *argument) {
  (void)argument;
  if (await_sleep()) EXPECT_EQ(paluring_ring_wake(driver.ring), 0);
  return NULL;
}

TEST(a_wake_before_or_during_io_wait_or_drain_ends_the_next_wait) {
  static const char *const names[] = {"before io_wait", "during io_wait", "before drain", "during drain"};
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
      ROW(names[i]);
      bool during = i % 2, drain = i >= 2;
      paluring_completion completion;
      pthread_t thread = 0;
      driver = (struct driver){.ring = ring_open(HOST_MODES[mode], 0, 0)};
      CHECK_EQ(paluring_ring_run(driver.ring, 0, 0), 0);
      atomic_int calls = 0;
      paluring_io io = start_op(driver.ring, timeout_op(100 * MS, drain ? count_call : NULL, &calls));
      if (during) thread = start_thread(wake_while_it_sleeps, NULL);
      else CHECK_EQ(paluring_ring_wake(driver.ring), 0);
      atomic_store(&driver.tid, (int)syscall(SYS_gettid));
      if (drain) CHECK_EQ(paluring_ring_drain(driver.ring, LONG_ENOUGH), 0);
      else CHECK_EQ(paluring_io_wait(driver.ring, io, LONG_ENOUGH, &completion), 0);
      if (during) pthread_join(thread, NULL);
      int64_t began = now_ns();
      CHECK_EQ(paluring_ring_run(driver.ring, 1, LONG_ENOUGH), 0);
      CHECK(now_ns() - began < 5 * SECOND);
      ring_done(driver.ring);
    }
  }
}

static void *submit_once(void *argument) {
  EXPECT_EQ(paluring_ring_submit(driver.ring), 0);
  (void)argument;
  return NULL;
}

static void *start_and_submit(void *argument) {
  start_only(driver.ring, with_flags(nop_op(count_call, argument), PALURING_OP_SUBMIT));
  return NULL;
}

TEST(a_sleeping_loop_is_told_though_another_thread_has_driven_since_its_prepare) {
  for (int start = 0; start < 2; start++) {
    ROW(start ? "start" : "wake");
    atomic_int calls = 0;
    driver = (struct driver){.ring = ring_open(PALURING_MODE_SHARED, 0, 0)};
    struct pollfd loop = {.events = POLLIN};
    CHECK_EQ(paluring_ring_event_fd(driver.ring, &loop.fd), 0);
    CHECK_EQ(paluring_ring_prepare(driver.ring), 0);
    CHECK(!is_readable(loop.fd));
    pthread_join(start_thread(submit_once, NULL), NULL);
    if (start) pthread_join(start_thread(start_and_submit, &calls), NULL);
    else CHECK_EQ(paluring_ring_wake(driver.ring), 0);
    CHECK_EQ(poll(&loop, 1, 5000), 1);
    if (start) DO(run_until(driver.ring, &calls, 1));
    ring_done(driver.ring);
  }
}

static void note_status(uintptr_t user_data, int32_t status) {
  atomic_store((atomic_int *)user_data, status);
}

TEST(a_ready_function_that_is_replaced_is_told_at_once_by_a_driver_that_sleeps) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    paluring_io io = start_op(ring, timeout_op(60 * SECOND, NULL, NULL));
    paluring_completion completion;
    atomic_int told[2] = {1, 1};
    DO(driver_begin(ring));
    for (int i = 0; i < 2; i++) CHECK_EQ(paluring_io_poll(ring, io, note_status, (uintptr_t)&told[i], &completion), 0);
    int64_t end = now_ns() + LONG_ENOUGH;
    while (told[0] == 1 && now_ns() < end) sched_yield();
    CHECK_EQ(told[0], PALURING_ERR_DROPPED);
    CHECK_EQ(told[1], 1);
    CHECK_EQ(paluring_io_cancel(ring, io), 0);
    while (told[1] == 1 && now_ns() < end) sched_yield();
    CHECK_EQ(told[1], 0);
    driver_end();
    ring_done(ring); /* its owner has exited */
  }
}

/* ---- nothing to do ---- */

TEST(drain_with_nothing_in_flight_returns_0_while_another_thread_drives_idly) {
  paluring_ring *ring = ring_open(PALURING_MODE_SHARED, 0, 0);
  DO(driver_begin(ring));
  for (int i = 0; i < 100; i++) {
    CHECK_EQ(paluring_ring_drain(ring, i % 2 ? FOREVER : LONG_ENOUGH), 0);
    DO(await_sleep());
  }
  driver_end();
  ring_done(ring);
}

TEST(a_kept_completion_left_untaken_ends_one_run_and_lets_the_loop_sleep) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    paluring_completion completion;
    paluring_io first = start_op(ring, nop_op(NULL, NULL));
    CHECK_EQ(paluring_ring_wait(ring, 1, LONG_ENOUGH), 1);
    int fd = -1, prepared = 1;
    int64_t before = now_ns();
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 0); /* no run has told of it yet */
    CHECK(now_ns() - before < 5 * SECOND);
    before = now_ns();
    for (int i = 0; i < 12; i++) CHECK_EQ(paluring_ring_run(ring, 1, 10 * MS), 0);
    CHECK(now_ns() - before >= 120 * MS); /* told: no busy loop */
    CHECK_EQ(paluring_ring_wait(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(paluring_ring_event_fd(ring, &fd), 0);
    for (int i = 0; i < 3 && prepared != 0; i++) prepared = paluring_ring_prepare(ring);
    CHECK_EQ(prepared, 0);
    CHECK_EQ(paluring_ring_prepare(ring), 0);
    CHECK(!is_readable(fd));
    paluring_io second = start_op(ring, nop_op(NULL, NULL));
    int64_t began = now_ns();
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 0); /* a new one does */
    CHECK(now_ns() - began < 5 * SECOND);
    CHECK_EQ(paluring_io_poll(ring, first, NULL, 0, &completion), 1);
    CHECK_EQ(paluring_io_poll(ring, second, NULL, 0, &completion), 1);
    ring_done(ring);
  }
}

/* ---- ends ---- */

TEST(a_close_with_no_time_by_the_owner_delivers_what_a_cancel_ends_and_orphans_nothing) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  for (int release = 0; release < 2; release++) {
    ROW(release ? "release" : "close");
    struct seen seen = {0};
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
    start_only(ring, read_op(ends.read, buf, note_completion, &seen));
    CHECK_EQ(paluring_ring_submit(ring), 1);
    if (!release) CHECK_EQ(paluring_ring_close(ring, 0), 0);
    else paluring_ring_release(ring);
    CHECK_EQ(seen.calls, 1);
    CHECK_EQ(seen.last.result, -ECANCELED);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    if (!release) paluring_ring_release(ring);
  }
  put_byte(ends);
  CHECK_EQ(drain_pipe(ends), 1);
  paluring_buf_release(buf);
  close_pipe(ends);
}

TEST(the_release_of_a_ring_with_131072_untaken_completions_takes_seconds_at_most) {
  enum { COUNT = 1 << 17 };
  if (is_instrumented()) SKIP("measures time");
  for (int order = 0; order < 2; order++) {
    ROW(order ? "dropped one by one" : "released");
    paluring_io *ios = calloc(COUNT, sizeof *ios);
    paluring_ring *ring = ring_open(PALURING_MODE_SHARED, 1024, COUNT);
    CHECK(ring && ios);
    for (int i = 0; i < COUNT; i++) ios[i] = start_op(ring, nop_op(NULL, NULL));
    CHECK_EQ(paluring_ring_wait(ring, COUNT, LONG_ENOUGH), COUNT);
    int64_t began = now_ns();
    if (order) for (int i = 0; i < COUNT; i++) CHECK_EQ(paluring_io_drop(ring, ios[i], NULL), 0);
    CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
    paluring_ring_release(ring);
    CHECK(now_ns() - began < 5 * SECOND);
    free(ios);
  }
}

int main(void) {
  RUN(a_wake_before_or_during_io_wait_or_drain_ends_the_next_wait);
  RUN(a_sleeping_loop_is_told_though_another_thread_has_driven_since_its_prepare);
  RUN(a_ready_function_that_is_replaced_is_told_at_once_by_a_driver_that_sleeps);
  RUN(drain_with_nothing_in_flight_returns_0_while_another_thread_drives_idly);
  RUN(a_kept_completion_left_untaken_ends_one_run_and_lets_the_loop_sleep);
  RUN(a_close_with_no_time_by_the_owner_delivers_what_a_cancel_ends_and_orphans_nothing);
  RUN(drain_keeps_its_limit_though_callbacks_start_again_and_submit);
  RUN(waits_keep_their_limit_though_release_functions_start_again_and_submit);
  RUN(the_release_of_a_ring_with_131072_untaken_completions_takes_seconds_at_most);
  return harness_end();
}
