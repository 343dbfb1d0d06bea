/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * BACKGROUND rings: the library's thread drives, any thread waits. */
#include "scene.h"

enum { WAITERS = 16 };
#define ROUNDS tries(400)
#define TAKEN tries(20000)

static paluring_ring *ring;
static atomic_int calls, left;

static paluring_ring *open_background(uint32_t max_in_flight) {
  return ring_with_cq(PALURING_MODE_BACKGROUND, 64, 0, max_in_flight);
}

static int count_threads(void) {
  int count = -2; /* . and .. */
  DIR *dir = opendir("/proc/self/task");
  while (dir && readdir(dir)) count++;
  if (dir) closedir(dir);
  return count;
}

/* Whether there are `want` threads, or soon will be: a thread that has been joined is in the list a moment longer. */
static bool threads_are(int want) {
  for (int64_t end = now_ns() + LONG_ENOUGH; count_threads() != want && now_ns() < end;) sched_yield();
  return EXPECT_EQ(count_threads(), want);
}

static void note_thread(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  sigset_t blocked;
  char name[32] = "";
  pthread_getname_np(pthread_self(), name, sizeof name);
  pthread_sigmask(SIG_BLOCK, NULL, &blocked);
  EXPECT(strcmp(name, "paluring") == 0);
  EXPECT(!pthread_equal(pthread_self(), *(pthread_t *)user_data));
  for (int number = 1; number <= SIGRTMAX; number++) /* but for what can't be blocked, and the C library's own */
    if (number != SIGKILL && number != SIGSTOP && (number < 32 || number >= SIGRTMIN)) EXPECT(sigismember(&blocked, number));
  atomic_fetch_add(&calls, 1);
}

static void drive_here(uintptr_t user_data, paluring_completion *completion) {
  paluring_completion out;
  EXPECT_EQ(paluring_ring_submit(ring), -EBUSY);
  EXPECT_EQ(paluring_ring_wait(ring, 0, 0), -EBUSY);
  EXPECT_EQ(paluring_ring_process(ring, 0), -EBUSY);
  EXPECT_EQ(paluring_ring_run(ring, 0, 0), -EBUSY);
  EXPECT_EQ(paluring_ring_prepare(ring), -EBUSY);
  EXPECT_EQ(paluring_ring_drain(ring, 0), -EBUSY);
  EXPECT_EQ(paluring_ring_reap(ring, 0, 0, &out, 1), -EBUSY);
  EXPECT_EQ(paluring_io_wait(ring, completion->io, 0, &out), -EBUSY);
  EXPECT_EQ(paluring_ring_set_worker_limits(ring, 0, 0), 0); /* at once: it is that thread */
  count_call(user_data, completion);
}

TEST(driving_and_waiting_inside_a_callback_are_ebusy) {
  atomic_store(&calls, 0);
  ring = open_background(0);
  start_only(ring, nop_op(drive_here, &calls));
  DO(await_count(&calls, 1));
  ring_done(ring);
}

TEST(callbacks_run_on_the_librarys_thread_and_hosts_do_not_drive) {
  pthread_t me = pthread_self();
  CHECK(threads_are(1));
  atomic_store(&calls, 0);
  ring = open_background(0);
  CHECK_EQ(count_threads(), 2);
  start_only(ring, nop_op(note_thread, &me));
  DO(await_count(&calls, 1));
  CHECK_EQ(paluring_ring_submit(ring), PALURING_ERR_WRONG_THREAD);
  CHECK_EQ(paluring_ring_wait(ring, 0, 0), PALURING_ERR_WRONG_THREAD);
  CHECK_EQ(paluring_ring_process(ring, 0), PALURING_ERR_WRONG_THREAD);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), PALURING_ERR_WRONG_THREAD);
  CHECK_EQ(paluring_ring_prepare(ring), PALURING_ERR_WRONG_THREAD);
  CHECK_EQ(paluring_ring_close(ring, -1), 0);
  CHECK(threads_are(1));
  CHECK_EQ(paluring_ring_close(ring, -1), PALURING_ERR_CLOSED);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), PALURING_ERR_CLOSED);
  paluring_ring_release(ring);
}

/* Each thread starts an I/O, waits for it, and makes the next. */
static void *wait_for_own(void *argument) {
  paluring_ring *shared = argument;
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  for (int i = 0; i < ROUNDS && !has_failed(); i++) {
    paluring_completion completion;
    paluring_io io = start_op(shared, i % 2 ? nop_op(NULL, NULL) : read_op(ends.read, buf, NULL, NULL));
    if (i % 4 == 0) EXPECT_EQ(paluring_io_wait(shared, io, 0, NULL), -ETIME);
    if (i % 2 == 0) put_byte(ends);
    EXPECT_EQ(paluring_io_wait(shared, io, LONG_ENOUGH, &completion), 0);
    EXPECT_EQ(completion.result, 1 - i % 2);
    EXPECT_EQ(paluring_io_wait(shared, io, 0, NULL), PALURING_ERR_STALE);
  }
  paluring_buf_release(buf);
  close_pipe(ends);
  return NULL;
}

TEST(sixteen_threads_wait_for_their_own_at_once) {
  pthread_t threads[WAITERS];
  ring = open_background(0);
  for (int i = 0; i < WAITERS; i++) threads[i] = start_thread(wait_for_own, ring);
  for (int i = 0; i < WAITERS; i++) pthread_join(threads[i], NULL);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(stats_of(ring).total_finished, WAITERS * ROUNDS);
  CHECK_EQ(paluring_ring_close(ring, -1), 0);
  paluring_ring_release(ring);
}

static void *start_one(void *argument) {
  start_only(argument, nop_op(count_call, &calls));
  return NULL;
}

TEST(a_thousand_threads_start_one_each_and_exit) {
  atomic_store(&calls, 0);
  ring = open_background(1024);
  pthread_t threads[50];
  const int rounds = tries(20);
  for (int round = 0; round < rounds; round++) {
    for (size_t i = 0; i < COUNT_OF(threads); i++) threads[i] = start_thread(start_one, ring);
    for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
  }
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(atomic_load(&calls), rounds * (int)COUNT_OF(threads));
  CHECK_EQ(stats_of(ring).total_resubmits, 0);
  paluring_ring_release(ring);
}

static void *reap_share(void *argument) {
  paluring_completion out[7];
  (void)argument;
  while (!has_failed()) {
    int32_t got = paluring_ring_reap(ring, 1, FOREVER, out, COUNT_OF(out));
    if (got == PALURING_ERR_CLOSED) break;
    EXPECT(got > 0);
    atomic_fetch_add(&calls, got);
  }
  return NULL;
}

TEST(reapers_share_what_comes_and_a_close_wakes_them) {
  pthread_t threads[4];
  atomic_store(&calls, 0);
  ring = open_background(0);
  paluring_completion none;
  CHECK_EQ(paluring_ring_reap(ring, 0, FOREVER, &none, 1), 0);
  for (size_t i = 0; i < COUNT_OF(threads); i++) threads[i] = start_thread(reap_share, NULL);
  for (int i = 0; i < TAKEN; i++) {
    paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
    int32_t status;
    while ((status = paluring_io_start(ring, &op, NULL)) == -EAGAIN) sched_yield();
    CHECK_EQ(status, 0);
  }
  DO(await_count(&calls, TAKEN));
  CHECK_EQ(paluring_ring_close(ring, -1), 0);
  for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
  CHECK_EQ(atomic_load(&calls), TAKEN);
  paluring_ring_release(ring);
}

TEST(a_wait_ends_with_the_time_and_takes_no_processor) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  struct timespec before, after;
  paluring_completion out;
  ring = open_background(0);
  paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  int64_t began = now_ns();
  CHECK_EQ(paluring_io_wait(ring, io, 100 * MS, NULL), -ETIME);
  CHECK_EQ(paluring_ring_reap(ring, 1, 100 * MS, &out, 1), 0);
  CHECK_EQ(paluring_ring_drain(ring, 100 * MS), -ETIME);
  CHECK(now_ns() - began >= 300 * MS);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  int64_t spent = (after.tv_sec - before.tv_sec) * SECOND + after.tv_nsec - before.tv_nsec;
  CHECK(spent < 100 * MS);
  start_op(ring, nop_op(NULL, NULL)); /* kept and queued ones that nobody takes */
  start_only(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
  struct timespec rest = {.tv_nsec = 200 * MS};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  nanosleep(&rest, NULL);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  CHECK((after.tv_sec - before.tv_sec) * SECOND + after.tv_nsec - before.tv_nsec < 100 * MS);
  CHECK_EQ(paluring_io_set_timeout(ring, io, 1 * MS), 0);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &out), 0);
  CHECK_EQ(out.result, -ETIME);
  paluring_ring_release(ring);
  paluring_buf_release(buf);
  close_pipe(ends);
}

TEST(the_event_fd_shows_what_is_to_reap) {
  int fd = -1;
  paluring_completion out[8];
  ring = open_background(0);
  CHECK_EQ(paluring_ring_event_fd(ring, &fd), 0);
  for (int round = 0; round < tries(200); round++) {
    atomic_store(&calls, 0);
    start_only(ring, nop_op(count_call, &calls));
    DO(await_count(&calls, 1));
    CHECK(!is_readable(fd));
    for (int i = 0; i < 5; i++) start_only(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
    for (int reaped = 0; reaped < 5;) {
      struct pollfd ready = {.fd = fd, .events = POLLIN};
      CHECK_EQ(poll(&ready, 1, 10000), 1);
      int32_t got = paluring_ring_reap(ring, 0, 0, out, 2);
      CHECK(got >= 0);
      reaped += got;
    }
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(paluring_ring_reap(ring, 0, 0, out, 8), 0);
    CHECK(!is_readable(fd));
  }
  paluring_ring_release(ring);
}

/* ---- ends ---- */

static void close_here(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  EXPECT_EQ(paluring_ring_close((paluring_ring *)user_data, -1), 0);
  atomic_fetch_add(&calls, 1);
}

static void release_here(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  paluring_ring_release((paluring_ring *)user_data);
  atomic_fetch_add(&calls, 1);
}

TEST(a_callback_may_close_the_ring_or_give_up_the_last_reference) {
  CHECK(threads_are(1));
  for (int try = 0; try < tries(100); try++) {
    atomic_store(&calls, 0);
    ring = open_background(0);
    start_only(ring, nop_op(close_here, ring));
    DO(await_count(&calls, 1));
    paluring_ring_release(ring);
    CHECK(threads_are(1));
    ring = open_background(0);
    start_only(ring, nop_op(release_here, ring));
    DO(await_count(&calls, 2));
    CHECK(threads_are(1));
  }
}

TEST(a_close_by_any_thread_delivers_all_with_and_without_time) {
  for (int patient = 0; patient < 2; patient++) {
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    atomic_store(&calls, 0);
    ring = open_background(0);
    for (int i = 0; i < 40; i++) start_only(ring, read_op(ends.read, buf, count_call, &calls));
    CHECK_EQ(paluring_ring_close(ring, patient ? FOREVER : 0), 0);
    CHECK_EQ(atomic_load(&calls), 40);
    paluring_ring_release(ring);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

static void *wait_until_closed(void *argument) {
  paluring_io io = (paluring_io)(uintptr_t)argument;
  atomic_fetch_add(&left, 1);
  int32_t status = io ? paluring_io_wait(ring, io, FOREVER, NULL) : paluring_ring_drain(ring, FOREVER);
  /* The completion that the close brings may be there first. */
  EXPECT(status == 0 || status == PALURING_ERR_CLOSED);
  atomic_fetch_add(&left, -1);
  return NULL;
}

TEST(a_close_wakes_every_waiter) {
  for (int try = 0; try < tries(50); try++) {
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    pthread_t threads[6];
    atomic_store(&left, 0);
    ring = open_background(0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
      paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
      threads[i] = start_thread(wait_until_closed, (void *)(uintptr_t)(i % 2 ? io : 0));
    }
    if (try % 2) DO(await_count(&left, 6));
    CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&left), 0);
    paluring_ring_release(ring);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

TEST(worker_settings_are_forwarded_to_the_thread) {
  ring = open_background(0);
  uint64_t mask[16] = {1};
  CHECK_EQ(paluring_ring_set_worker_limits(ring, 2, 2), 0);
  CHECK_EQ(paluring_ring_set_worker_affinity(ring, mask, sizeof mask), 0);
  CHECK_EQ(paluring_ring_close(ring, -1), 0);
  CHECK_EQ(paluring_ring_set_worker_limits(ring, 2, 2), PALURING_ERR_CLOSED);
  paluring_ring_release(ring);
}

static void note_processors(uintptr_t user_data, paluring_completion *completion) {
  (void)completion;
  EXPECT(sched_getaffinity(0, sizeof(cpu_set_t), (cpu_set_t *)user_data) == 0);
  atomic_fetch_add(&calls, 1);
}

TEST(the_thread_stays_on_the_processor_that_was_asked_for) {
  paluring_ring_options options;
  cpu_set_t all, got;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  paluring_ring_options_init(&options, sizeof options);
  options.mode = PALURING_MODE_BACKGROUND;
  for (int cpu = -1; cpu < CPU_SETSIZE; cpu++) { /* -1: any */
    if (cpu >= 0 && !CPU_ISSET((size_t)cpu, &all)) continue;
    options.background_cpu = cpu;
    atomic_store(&calls, 0);
    CHECK_EQ(paluring_ring_open(&options, &ring), 0);
    start_only(ring, nop_op(note_processors, &got));
    DO(await_count(&calls, 1));
    if (cpu < 0) CHECK(CPU_EQUAL(&got, &all));
    else CHECK(CPU_COUNT(&got) == 1 && CPU_ISSET((size_t)cpu, &got));
    paluring_ring_release(ring);
  }
  CHECK(threads_are(1));
  options.background_cpu = 4000;
  CHECK_EQ(paluring_ring_open(&options, &ring), -EINVAL);
  CHECK(ring == NULL);
  CHECK(threads_are(1));
}

TEST(a_forked_child_may_release_and_exit) {
  ring = open_background(0);
  pid_t child = fork();
  if (child == 0) {
    int bad = paluring_ring_drain(ring, 0) != PALURING_ERR_FORKED;
    paluring_ring_release(ring);
    _exit(bad);
  }
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  paluring_ring_release(ring);
}

int main(void) {
  RUN(callbacks_run_on_the_librarys_thread_and_hosts_do_not_drive);
  RUN(driving_and_waiting_inside_a_callback_are_ebusy);
  RUN(sixteen_threads_wait_for_their_own_at_once);
  RUN(a_thousand_threads_start_one_each_and_exit);
  RUN(reapers_share_what_comes_and_a_close_wakes_them);
  RUN(a_wait_ends_with_the_time_and_takes_no_processor);
  RUN(the_event_fd_shows_what_is_to_reap);
  RUN(a_callback_may_close_the_ring_or_give_up_the_last_reference);
  RUN(a_close_by_any_thread_delivers_all_with_and_without_time);
  RUN(a_close_wakes_every_waiter);
  RUN(worker_settings_are_forwarded_to_the_thread);
  RUN(the_thread_stays_on_the_processor_that_was_asked_for);
  RUN(a_forked_child_may_release_and_exit);
  return harness_end();
}
