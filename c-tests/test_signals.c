/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A signal each millisecond during every call that blocks, in every mode, whether the calling thread drives or sleeps until
 * another one's driver brings something: nothing is lost, nothing comes twice, and the call says what it may say of a signal.
 */
#include "scene.h"

#include <time.h>

enum { READS = 40, BATCH = 4 };

static atomic_int signals;

static void count_signal(int number) {
  (void)number;
  atomic_fetch_add(&signals, 1);
}

/* To the whole process, of whose threads only the calling one takes it. */
static timer_t signals_on(int flags) {
  timer_t timer = 0;
  struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
  struct itimerspec each_ms = {.it_interval.tv_nsec = MS, .it_value.tv_nsec = MS};
  atomic_store(&signals, 0);
  sigaction(SIGUSR2, &action, NULL);
  EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  EXPECT_EQ(timer_settime(timer, 0, &each_ms, NULL), 0);
  return timer;
}

/* ---- reads that a second thread feeds, a few at a time ---- */

static struct {
  paluring_ring *ring;
  struct ends pipes[READS];
  paluring_buf *bufs[READS];
  paluring_io ios[READS];
  atomic_int done[READS], all, interrupted;
  atomic_bool over;
} scene;

static void note(uintptr_t user_data, paluring_completion *completion) {
  if (completion->result != 1) harness_fail(__FILE__, __LINE__, "a read gave %d", completion->result);
  atomic_fetch_add(&scene.done[user_data], 1);
  atomic_fetch_add(&scene.all, 1);
}

static void *feed(void *argument) {
  (void)argument;
  for (int i = 0; i < READS; i++) {
    if (i % BATCH == 0) poll(NULL, 0, 5);
    for (int64_t end = now_ns() + LONG_ENOUGH; i == READS - 1 && scene.interrupted == 0 && now_ns() < end;) poll(NULL, 0, 1);
    put_byte(scene.pipes[i]);
  }
  return NULL;
}

/* Drives a SHARED ring for the thread that waits. */
static void *drive(void *argument) {
  (void)argument;
  while (!scene.over) {
    int32_t status = paluring_ring_run(scene.ring, 1, FOREVER);
    EXPECT(status >= 0 || status == -EBUSY);
  }
  return NULL;
}

/* A thread that has signals blocked: they come to the one that waits. */
static pthread_t start_quietly(void *(*body)(void *)) {
  sigset_t mask, before;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &mask, &before);
  pthread_t thread = start_thread(body, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return thread;
}

static void returned(int32_t count) {
  EXPECT(count >= 0);
  scene.interrupted += count == 0;
}

/* It doesn't wait, and tells of no signal. */
static void call_submit(void) {
  EXPECT(paluring_ring_submit(scene.ring) >= 0);
  EXPECT(paluring_ring_process(scene.ring, 0) >= 0);
  scene.interrupted = atomic_load(&signals);
}
static void call_run(void) { returned(paluring_ring_run(scene.ring, BATCH, FOREVER)); }
static void call_wait(void) {
  int32_t there = paluring_ring_wait(scene.ring, BATCH, FOREVER);
  returned(there);
  EXPECT(paluring_ring_process(scene.ring, 0) >= there);
}
static void call_reap(void) {
  paluring_completion out[BATCH];
  int32_t count = paluring_ring_reap(scene.ring, BATCH, FOREVER, out, BATCH);
  returned(count);
  for (int32_t i = 0; i < count; i++) note(out[i].user_data, &out[i]);
}
static void call_drain(void) {
  int32_t status = paluring_ring_drain(scene.ring, FOREVER);
  EXPECT(status == 0 || status == -EINTR);
  EXPECT(status != 0 || scene.all == READS);
  scene.interrupted += status == -EINTR;
}
static void call_io_wait(void) {
  paluring_completion out;
  int next = scene.all;
  int32_t status = paluring_io_wait(scene.ring, scene.ios[next], FOREVER, &out);
  EXPECT(status == 0 || status == -EINTR);
  scene.interrupted += status == -EINTR;
  if (status == 0) note(out.user_data, &out);
}
/* As an event loop does. */
static void call_prepare(void) {
  int fd;
  EXPECT_EQ(paluring_ring_event_fd(scene.ring, &fd), 0);
  int32_t status = paluring_ring_prepare(scene.ring);
  EXPECT(status >= 0);
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  if (status == 0 && poll(&ready, 1, -1) < 0) scene.interrupted += errno == EINTR;
  EXPECT(paluring_ring_process(scene.ring, 0) >= 0);
}

/* The calls that any thread may make, which then sleeps while another drives, come last. */
static const struct blocking {
  const char *name;
  void (*make)(void);
  bool calls_back;
  uint32_t flags;
} blocking[] = {
    {"submit", call_submit, true, 0}, {"run", call_run, true, 0}, {"wait", call_wait, true, 0}, {"prepare", call_prepare, true, 0},
    {"reap", call_reap, false, PALURING_OP_QUEUE}, {"drain", call_drain, true, 0}, {"io_wait", call_io_wait, false, 0},
};
enum { DRIVERS_CALLS = 4 };

static const struct place {
  const char *name;
  uint32_t mode;
  bool sleeps;
} places[] = {{"OWNER", PALURING_MODE_OWNER, false}, {"SHARED", PALURING_MODE_SHARED, false},
    {"SHARED, driven by another", PALURING_MODE_SHARED, true}, {"BACKGROUND", PALURING_MODE_BACKGROUND, true}};

static void start_reads(const struct blocking *call) {
  for (int i = 0; i < READS; i++) {
    scene.pipes[i] = open_socket();
    scene.bufs[i] = new_buf(8);
    paluring_op op = with_flags(read_op(scene.pipes[i].read, scene.bufs[i], call->calls_back ? note : NULL, NULL), call->flags);
    op.user_data = (uintptr_t)i;
    scene.ios[i] = start_op(scene.ring, op);
  }
}

static void wait_under_signals(const struct blocking *call, const struct place *place, int flags) {
  bool driven = place->sleeps && place->mode == PALURING_MODE_SHARED;
  memset(&scene, 0, sizeof scene);
  scene.ring = ring_open(place->mode, 0, 0);
  CHECK(scene.ring);
  start_reads(call);
  timer_t timer = signals_on(flags);
  pthread_t feeder = start_quietly(feed), driver = driven ? start_quietly(drive) : feeder;
  while (scene.all < READS && !has_failed()) call->make();
  atomic_store(&scene.over, true);
  if (driven) EXPECT_EQ(paluring_ring_wake(scene.ring), 0), pthread_join(driver, NULL);
  pthread_join(feeder, NULL);
  timer_delete(timer);
  for (int i = 0; i < READS; i++) {
    CHECK_EQ(scene.done[i], 1);
    CHECK_EQ(drain_pipe(scene.pipes[i]), 0);
    paluring_buf_release(scene.bufs[i]);
    close_pipe(scene.pipes[i]);
  }
  CHECK(signals > 0 && scene.interrupted > 0);
  ring_done(scene.ring);
}

TEST(waits_under_signals_lose_nothing_and_return_early_without_error) {
  for (size_t p = 0; p < COUNT_OF(places); p++) {
    for (size_t i = places[p].sleeps ? DRIVERS_CALLS : 0; i < COUNT_OF(blocking); i++) {
      for (int restart = 0; restart < 2; restart++) { /* SA_RESTART makes no difference */
        char row[80];
        snprintf(row, sizeof row, "%s, %s%s", blocking[i].name, places[p].name, restart ? ", restarting" : "");
        ROW(row);
        DO(wait_under_signals(&blocking[i], &places[p], restart ? (int)SA_RESTART : 0));
      }
    }
  }
}

/* ---- close ---- */

/* The read is cancelled, by a worker's side or the ring's; a file's fsync that has begun is waited for. */
static void close_under_signals(uint32_t mode, int round) {
  struct seen read = {0}, sync = {0};
  struct ends ends = open_pipe();
  int file = temp_file("synced", 1 << 20, (unsigned)round);
  paluring_buf *buf = new_buf(8);
  paluring_op op;
  paluring_ring *ring = ring_open(mode, 0, 0);
  CHECK(ring);
  paluring_op_fsync(&op, file);
  op.callback = note_completion;
  op.user_data = (uintptr_t)&sync;
  start_only(ring, op);
  start_only(ring, with_flags(read_op(ends.read, buf, note_completion, &read), round % 2 ? PALURING_OP_ASYNC : 0));
  if (mode != PALURING_MODE_BACKGROUND) CHECK(paluring_ring_submit(ring) >= 0);
  CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
  paluring_ring_release(ring);
  CHECK_EQ(read.calls, 1);
  CHECK_EQ(read.last.result, -ECANCELED);
  CHECK_EQ(sync.calls, 1);
  CHECK(sync.last.result == 0 || sync.last.result == -ECANCELED);
  paluring_buf_release(buf);
  close_pipe(ends);
  close(file);
}

TEST(a_close_under_signals_waits_for_all_and_orphans_nothing) {
  timer_t timer = signals_on(0);
  for (int round = 0; (round < 60 || atomic_load(&signals) < 50) && !has_failed(); round++) close_under_signals(ALL_MODES[round / 2 % 3], round);
  timer_delete(timer);
}

int main(void) {
  RUN(waits_under_signals_lose_nothing_and_return_early_without_error);
  RUN(a_close_under_signals_waits_for_all_and_orphans_nothing);
  return harness_end();
}
