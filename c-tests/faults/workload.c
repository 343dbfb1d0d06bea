/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A host that goes on when calls fail, for runs with faults: workload owner|shared|loop [sparse].
 *
 * It opens rings one after the other, starts I/Os of all kinds, drives (in an event loop, if told so) until all is done or
 * errors keep coming, and closes. Whatever failed, each accepted I/O has completed as often as it must once the ring is closed, and what was read is
 * what was written. Exits with 0, after a line that tells what it saw, or with 1.
 */
#include "../scene.h"

enum { ROUNDS = 6, IOS = 64, ERRORS = 20 };

/* What is done with an I/O, by its number. The pipe of those that read gets a byte, unless it says empty. */
enum kind { CALLBACK, QUEUED, KEPT, DEADLINE_EMPTY, CANCELLED_EMPTY, DROPPED, CANCELLED, LEFT_EMPTY, KINDS };

struct item {
  paluring_io io;
  paluring_buf *buf;
  struct ends pipe;
  bool accepted;
  atomic_int completions;
  int32_t result;
};

static struct item items[IOS];
static atomic_int elsewhere_accepted, elsewhere_done;
static int open_failures, call_failures, orphans, finished;

static enum kind kind_of(int i) {
  return (enum kind)(i % KINDS);
}

static bool is_empty_pipe(enum kind kind) {
  return kind == DEADLINE_EMPTY || kind == CANCELLED_EMPTY || kind == LEFT_EMPTY;
}

static void note(uintptr_t i, paluring_completion *completion) {
  CHECK(i < IOS);
  items[i].result = completion->result;
  atomic_fetch_add(&items[i].completions, 1);
}

static uint32_t mode;
static bool in_loop, sparse;

/* ---- one ring ---- */

static void start_all(paluring_ring *ring) {
  for (int i = 0; i < IOS; i++) {
    enum kind kind = kind_of(i);
    items[i] = (struct item){.buf = new_buf(8), .pipe = open_pipe()};
    paluring_op op = read_op(items[i].pipe.read, items[i].buf, kind == KEPT || kind == QUEUED ? NULL : note, NULL);
    op.user_data = (uintptr_t)i;
    if (kind == QUEUED) op.flags |= PALURING_OP_QUEUE;
    if (kind == DEADLINE_EMPTY) op.timeout_ns = MS;
    if (i % 3 == 0) op.flags |= PALURING_OP_SUBMIT;
    items[i].accepted = paluring_io_start(ring, &op, &items[i].io) >= 0;
    CHECK(items[i].accepted == (items[i].io != 0));
  }
}

static void change_all(paluring_ring *ring) {
  for (int i = 0; i < IOS; i++) {
    struct item *item = &items[i];
    uint8_t byte = pattern((size_t)i, 1);
    enum kind kind = kind_of(i);
    if (!is_empty_pipe(kind)) CHECK(write(item->pipe.write, &byte, 1) == 1);
    if (kind == CANCELLED || kind == CANCELLED_EMPTY) (void)paluring_io_cancel(ring, item->io);
    if (kind == DROPPED && item->accepted) {
      int32_t status = paluring_io_drop(ring, item->io, NULL);
      if (status != PALURING_ERR_STALE) CHECK_EQ(status, 0); /* STALE: its callback has run */
    }
  }
}

/* Takes what is kept or queued, as far as it is there. */
static void take_all(paluring_ring *ring) {
  paluring_completion taken[8];
  int32_t count;
  while ((count = paluring_ring_reap(ring, 0, 0, taken, COUNT_OF(taken))) > 0)
    for (int32_t n = 0; n < count; n++) note(taken[n].user_data, &taken[n]);
  for (int i = 0; i < IOS; i++)
    if (kind_of(i) == KEPT && items[i].accepted && items[i].completions == 0)
      if (paluring_io_poll(ring, items[i].io, NULL, 0, taken) == 1) note((uintptr_t)i, taken);
}

static bool all_done(void) {
  for (int i = 0; i < IOS; i++) {
    bool lasting = kind_of(i) == LEFT_EMPTY || kind_of(i) == DROPPED;
    if (items[i].accepted && !lasting && items[i].completions == 0) return false;
  }
  return atomic_load(&elsewhere_done) == atomic_load(&elsewhere_accepted);
}

static void drive(paluring_ring *ring) {
  int errors = 0;
  for (int turn = 0; errors < ERRORS && !all_done(); turn++) {
    int32_t status = turn % 4 == 3 ? paluring_ring_drain(ring, MS) : paluring_ring_run(ring, 1, 20 * MS);
    if (status < 0 && status != -ETIME) errors++, call_failures++;
    DO(take_all(ring));
  }
}

/* In an event loop: once prepared it is woken, whatever failed before; and few faults (`sparse`) don't make all calls fail. */
static void drive_in_loop(paluring_ring *ring) {
  struct pollfd watched = {.fd = -1, .events = POLLIN};
  if (paluring_ring_event_fd(ring, &watched.fd) < 0) call_failures++;
  int errors = 0;
  while (errors < ERRORS && !all_done()) {
    int32_t prepared = paluring_ring_prepare(ring);
    errors = prepared < 0 ? errors + 1 : sparse ? 0 : errors;
    call_failures += prepared < 0;
    CHECK(poll(&watched, 1, prepared < 0 ? 1 : 5000) > 0 || prepared < 0);
    if (paluring_ring_process(ring, 3) < 0) errors++, call_failures++;
    DO(take_all(ring));
  }
  CHECK(errors < ERRORS || !sparse);
}

/* A clean exit from each state: all that was accepted has told of it, once. */
static void settle(paluring_ring *ring) {
  DO(take_all(ring));
  CHECK_EQ(paluring_ring_ready(ring), PALURING_ERR_CLOSED); /* nothing is left */
  CHECK_EQ(elsewhere_done, elsewhere_accepted);
  for (int i = 0; i < IOS; i++) {
    struct item *item = &items[i];
    char row[64];
    snprintf(row, sizeof row, "I/O %d with result %d", i, item->result);
    ROW(row);
    int least = item->accepted && kind_of(i) != DROPPED, most = item->accepted;
    CHECK(item->completions >= least && item->completions <= most);
    if (item->result == 1) {
      CHECK(*paluring_buf_data(item->buf) == pattern((size_t)i, 1));
      finished++;
    }
    if (item->completions && item->result != PALURING_ERR_ORPHANED && item->result != PALURING_ERR_LOST) {
      CHECK(item->result == 1 || item->result == -ECANCELED || item->result == -ETIME);
      CHECK_EQ(drain_pipe(item->pipe), item->result != 1 && !is_empty_pipe(kind_of(i)));
    }
    paluring_buf_release(item->buf);
    close_pipe(item->pipe);
  }
  ROW(NULL);
}

/* ---- another thread, which only starts ---- */

static void note_elsewhere(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
  atomic_fetch_add(&elsewhere_done, 1);
}

static void *start_elsewhere(void *ring) {
  paluring_op op = with_flags(nop_op(note_elsewhere, NULL), PALURING_OP_SUBMIT);
  for (int i = 0; i < 16; i++) {
    atomic_fetch_add(&elsewhere_accepted, 1);
    if (paluring_io_start(ring, &op, NULL) < 0) atomic_fetch_sub(&elsewhere_accepted, 1);
  }
  return NULL;
}

static void one_ring(bool patient) {
  paluring_ring_options options;
  paluring_ring *ring = NULL;
  paluring_ring_options_init(&options, sizeof options);
  options.mode = mode;
  options.entries = 16; /* so that some wait for room */
  int32_t status = paluring_ring_open(&options, &ring);
  if (status < 0) {
    CHECK(!ring);
    open_failures++;
    return;
  }
  atomic_store(&elsewhere_accepted, 0);
  atomic_store(&elsewhere_done, 0);
  DO(start_all(ring));
  pthread_t thread = start_thread(start_elsewhere, ring);
  change_all(ring);
  if (in_loop) drive_in_loop(ring);
  else drive(ring);
  pthread_join(thread, NULL);
  status = paluring_ring_close(ring, patient ? FOREVER : 5 * MS);
  CHECK(status >= 0);
  orphans += status;
  DO(settle(ring));
  paluring_ring_release(ring);
}

TEST(each_accepted_io_completes_once_and_with_its_true_result) {
  int fds = count_fds();
  for (int round = 0; round < ROUNDS; round++) DO(one_ring(round == 1));
  paluring_buf_release(new_buf(1)); /* looks after quarantined memory */
  int64_t end = now_ns() + LONG_ENOUGH;
  while (count_fds() != fds && now_ns() < end) poll(NULL, 0, 1), paluring_buf_release(new_buf(1));
  CHECK_EQ(count_fds(), fds);
}

int main(int argc, char **argv) {
  mode = argc > 1 && !strcmp(argv[1], "shared") ? PALURING_MODE_SHARED : PALURING_MODE_OWNER;
  in_loop = argc > 1 && !strcmp(argv[1], "loop");
  sparse = argc > 2 && !strcmp(argv[2], "sparse");
  RUN(each_accepted_io_completes_once_and_with_its_true_result);
  printf("%d reads done, %d opens failed, %d calls failed, %d orphans\n", finished, open_failures, call_failures, orphans);
  return harness_end();
}
