/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Close without the time, without the driver, or with the owner's thread gone: nothing is lost, and no
 * memory is given back before the kernel is done with it.
 */
#include "scene.h"

struct results {
  atomic_int calls, cancelled, done, orphaned, other, orphans_with_buf, elsewhere;
  pthread_t thread;
};

static void note_result(uintptr_t user_data, paluring_completion *completion) {
  struct results *results = (struct results *)user_data;
  bool orphaned = completion->result == PALURING_ERR_ORPHANED;
  if (orphaned) atomic_fetch_add(&results->orphaned, 1);
  else if (completion->result == -ECANCELED) atomic_fetch_add(&results->cancelled, 1);
  else if (completion->result >= 0) atomic_fetch_add(&results->done, 1);
  else atomic_fetch_add(&results->other, 1);
  if (orphaned && completion->buf) atomic_fetch_add(&results->orphans_with_buf, 1);
  if (!pthread_equal(results->thread, pthread_self())) atomic_fetch_add(&results->elsewhere, 1);
  atomic_fetch_add(&results->calls, 1);
}

/* ---- 64 MiB of disk reads in flight ---- */

enum { BLOCKS = 64, BLOCK = 1 << 20 };

struct block {
  uint8_t *data;
  atomic_int released;
};

/* The memory is the host's again: it writes its own bytes there, and nobody else may write from now on. */
static void refill(uintptr_t user_data, void *data, size_t len) {
  struct block *block = (struct block *)user_data;
  memset(data, 0xa5, len);
  atomic_fetch_add(&block->released, 1);
}

static int count_released(struct block *blocks) {
  int count = 0;
  for (int i = 0; i < BLOCKS; i++) count += blocks[i].released;
  return count;
}

static bool untouched(struct block *blocks) {
  for (int i = 0; i < BLOCKS; i++) {
    if (!blocks[i].released) continue;
    if (blocks[i].data[0] != 0xa5 || memcmp(blocks[i].data, blocks[i].data + 1, BLOCK - 1) != 0) return false;
  }
  return true;
}

static int direct_file(void) {
  char path[PATH_SIZE];
  static int fd = -1;
  if (fd >= 0) return fd;
  int plain = temp_file("disk", (size_t)BLOCKS * BLOCK, 1);
  if (plain < 0 || fsync(plain) != 0) return -1;
  close(plain);
  return fd = open(temp_path(path, "disk"), O_RDONLY | O_DIRECT | O_CLOEXEC);
}

static void start_blocks(paluring_ring *ring, struct block *blocks, int fd, struct results *results) {
  for (size_t i = 0; i < BLOCKS; i++) {
    paluring_buf *buf = NULL;
    paluring_op op;
    memset(blocks[i].data, 0, BLOCK);
    blocks[i].released = 0;
    CHECK_EQ(paluring_buf_adopt(blocks[i].data, BLOCK, refill, (uintptr_t)&blocks[i], &buf), 0);
    paluring_op_read(&op, fd, buf, 0, BLOCK, i * BLOCK);
    op.callback = note_result;
    op.user_data = (uintptr_t)results;
    start_only(ring, op);
    paluring_buf_release(buf);
  }
}

TEST(close_without_time_orphans_disk_reads_and_gives_memory_back_only_when_the_kernel_is_done) {
  static struct block blocks[BLOCKS];
  static struct results results;
  int fd = direct_file(), orphans = 0;
  if (fd < 0) SKIP("the temporary directory has no O_DIRECT");
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  int fds = count_fds();
  for (int i = 0; i < BLOCKS; i++) CHECK(blocks[i].data || (blocks[i].data = aligned_alloc(4096, BLOCK)));
  for (int round = 0; round < 6 || (orphans == 0 && round < 20); round++) {
    ROW(HOST_MODE_NAMES[round % 2]);
    results = (struct results){.thread = pthread_self()};
    paluring_ring *ring = ring_open(HOST_MODES[round % 2], 64, 64);
    DO(start_blocks(ring, blocks, fd, &results));
    CHECK_EQ(paluring_ring_submit(ring), BLOCKS);
    int32_t orphaned = paluring_ring_close(ring, 0);
    CHECK(orphaned >= 0 && orphaned <= BLOCKS);
    CHECK_EQ(results.calls, BLOCKS);
    CHECK_EQ(results.orphaned, orphaned);
    CHECK_EQ(results.other, 0);
    CHECK_EQ(results.orphans_with_buf, 0);
    CHECK_EQ(stats_of(ring).total_orphaned, orphaned);
    CHECK_EQ(stats_of(ring).total_finished, BLOCKS);
    paluring_ring_release(ring);
    CHECK(quarantine_ends(watcher));
    CHECK_EQ(count_released(blocks), BLOCKS);
    for (int i = 0; i < BLOCKS; i++) CHECK_EQ(blocks[i].released, 1);
    CHECK(untouched(blocks));
    uint8_t *other = aligned_alloc(4096, BLOCK); /* time passes, with the disk busy */
    for (int i = 0; i < 8; i++) CHECK_EQ(pread(fd, other, BLOCK, i * (off_t)BLOCK), BLOCK);
    free(other);
    CHECK(untouched(blocks));
    CHECK_EQ(count_fds(), fds);
    orphans += orphaned;
  }
  CHECK(orphans > 0);
  ring_done(watcher);
}

TEST(each_call_that_frees_quarantined_memory_frees_it) {
  static const char *const calls[] = {"open", "close", "alloc", "stats"};
  static struct block blocks[BLOCKS];
  static struct results results;
  int fd = direct_file();
  if (fd < 0) SKIP("the temporary directory has no O_DIRECT");
  for (int i = 0; i < BLOCKS; i++) CHECK(blocks[i].data || (blocks[i].data = aligned_alloc(4096, BLOCK)));
  for (int call = 0; call < 4; call++) {
    enum { TRIES = 100 };
    ROW(calls[call]);
    results = (struct results){.thread = pthread_self()};
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 64, 64), *rings[TRIES];
    for (int i = 0; i < TRIES; i++) rings[i] = call == 0 ? NULL : ring_open(PALURING_MODE_OWNER, 8, 0);
    DO(start_blocks(ring, blocks, fd, &results));
    CHECK_EQ(paluring_ring_submit(ring), BLOCKS);
    CHECK(paluring_ring_close(ring, 0) >= 0);
    paluring_ring_release(ring);
    for (int i = 0; i < TRIES && count_released(blocks) < BLOCKS; i++) {
      paluring_buf *buf = NULL;
      poll(NULL, 0, 20); /* the disk goes on */
      if (call == 0) rings[i] = ring_open(PALURING_MODE_OWNER, 8, 0);
      if (call == 1) CHECK_EQ(paluring_ring_close(rings[i], 0), 0);
      if (call == 2) CHECK_EQ(paluring_buf_alloc(1, 0, &buf), 0);
      if (call == 3) stats_of(rings[0]);
      paluring_buf_release(buf);
    }
    CHECK_EQ(count_released(blocks), BLOCKS);
    CHECK(untouched(blocks));
    for (int i = 0; i < TRIES; i++) paluring_ring_release(rings[i]);
  }
}

TEST(a_dropped_ios_memory_is_quarantined_too) {
  static char memory[16];
  atomic_int released = 0;
  struct ends ends = open_pipe();
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (int i = 0; i < tries(50); i++) {
    released = 0;
    paluring_ring *ring = ring_open(HOST_MODES[i % 2], 8, 0);
    for (int k = 0; k < 8; k++) {
      paluring_buf *buf = adopt_counted(memory, 1, &released);
      paluring_io io = start_op(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_MOVE | (k % 2 ? PALURING_OP_DETACHED : 0)));
      if (k % 2 == 0) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    }
    CHECK(paluring_ring_submit(ring) >= 0);
    CHECK(paluring_ring_close(ring, 0) >= 0);
    paluring_ring_release(ring);
    CHECK(quarantine_ends(watcher));
    CHECK_EQ(released, 8);
  }
  put_byte(ends);
  CHECK_EQ(drain_pipe(ends), 1);
  close_pipe(ends);
  ring_done(watcher);
}

/* ---- the last release elsewhere, and the owner's thread gone ---- */

static struct owned {
  paluring_ring *ring;
  struct ends ends;
  paluring_buf *buf;
  struct results results;
  paluring_io kept;
  atomic_int bound, go, taken;
  bool stay;
} owned;

static void *own_and_start(void *argument) {
  (void)argument;
  for (int i = 0; i < 8; i++) start_only(owned.ring, read_op(owned.ends.read, owned.buf, note_result, &owned.results));
  owned.kept = start_op(owned.ring, read_op(owned.ends.read, owned.buf, NULL, NULL));
  EXPECT_EQ(paluring_ring_submit(owned.ring), 9);
  for (int i = 0; i < 4; i++) start_only(owned.ring, read_op(owned.ends.read, owned.buf, note_result, &owned.results)); /* queued */
  start_only(owned.ring, nop_op(note_result, &owned.results));
  atomic_store(&owned.bound, 1);
  if (owned.stay) await_count(&owned.go, 1);
  return NULL;
}

static pthread_t owned_begin(uint32_t mode, bool stay) {
  owned = (struct owned){.ring = ring_open(mode, 16, 64), .ends = open_pipe(), .buf = new_buf(1), .stay = stay};
  owned.results.thread = pthread_self();
  pthread_t thread = start_thread(own_and_start, NULL);
  await_count(&owned.bound, 1);
  return thread;
}

static void owned_end(paluring_ring *watcher) {
  CHECK(quarantine_ends(watcher));
  CHECK_EQ(paluring_buf_refs(owned.buf), 1);
  CHECK_EQ(owned.results.calls, 13);
  paluring_buf_release(owned.buf);
  close_pipe(owned.ends);
}

TEST(the_last_release_on_another_thread_orphans_all_while_the_owner_lives) {
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (int i = 0; i < 20; i++) {
    pthread_t thread = owned_begin(PALURING_MODE_OWNER, true);
    CHECK_EQ(paluring_ring_close(owned.ring, 0), PALURING_ERR_WRONG_THREAD);
    CHECK_EQ(owned.results.calls, 0); /* nothing happened */
    CHECK_EQ(paluring_ring_ready(owned.ring), 0);
    paluring_ring_release(owned.ring);
    CHECK_EQ(owned.results.calls, 13);
    CHECK_EQ(owned.results.elsewhere, 0); /* on this thread */
    CHECK(owned.results.orphaned >= 8); /* what the kernel has; the queued ones may be cancelled */
    CHECK_EQ(owned.results.orphaned + owned.results.cancelled, 13);
    CHECK_EQ(owned.results.orphans_with_buf, 0);
    atomic_store(&owned.go, 1);
    pthread_join(thread, NULL);
    DO(owned_end(watcher));
  }
  ring_done(watcher);
}

TEST(close_by_another_thread_once_the_owner_has_exited_loses_nothing) {
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (int i = 0; i < 20; i++) {
    ROW(i % 2 ? "last release" : "close");
    pthread_join(owned_begin(PALURING_MODE_OWNER, false), NULL);
    int32_t orphaned = 0;
    if (i % 2 == 0) {
      paluring_completion completion;
      orphaned = paluring_ring_close(owned.ring, LONG_ENOUGH);
      CHECK(orphaned >= 0);
      CHECK_EQ(paluring_io_poll(owned.ring, owned.kept, NULL, 0, &completion), 1);
      CHECK(completion.result == PALURING_ERR_ORPHANED || completion.result == -ECANCELED);
      CHECK_EQ(owned.results.orphaned + (completion.result == PALURING_ERR_ORPHANED), orphaned);
    }
    paluring_ring_release(owned.ring);
    CHECK_EQ(owned.results.calls, 13);
    CHECK_EQ(owned.results.elsewhere, 0);
    CHECK_EQ(owned.results.other, 0);
    CHECK(owned.results.done <= 1);
    CHECK_EQ(owned.results.orphans_with_buf, 0);
    DO(owned_end(watcher));
  }
  ring_done(watcher);
}

TEST(a_shared_ring_is_closed_by_any_thread_though_its_submitter_has_exited) {
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (int i = 0; i < 20; i++) {
    paluring_completion completion;
    pthread_join(owned_begin(PALURING_MODE_SHARED, false), NULL);
    CHECK_EQ(paluring_ring_close(owned.ring, LONG_ENOUGH), 0);
    CHECK_EQ(paluring_io_poll(owned.ring, owned.kept, NULL, 0, &completion), 1);
    CHECK_EQ(completion.result, -ECANCELED);
    CHECK_EQ(owned.results.cancelled + owned.results.done, 13);
    paluring_ring_release(owned.ring);
    DO(owned_end(watcher));
  }
  ring_done(watcher);
}

/* ---- waiters in other threads ---- */

static void *wait_for_kept(void *argument) {
  paluring_completion completion = {0};
  (void)argument;
  atomic_fetch_add(&owned.bound, 1);
  int32_t status = paluring_io_wait(owned.ring, owned.kept, FOREVER, &completion);
  if (status == PALURING_ERR_CLOSED) return NULL; /* it is kept all the same */
  EXPECT_EQ(status, 0);
  EXPECT_EQ(completion.result, -ECANCELED);
  atomic_fetch_add(&owned.taken, 1);
  return NULL;
}

static void *wait_to_reap(void *argument) {
  paluring_completion completion;
  (void)argument;
  atomic_fetch_add(&owned.bound, 1);
  EXPECT_EQ(paluring_ring_reap(owned.ring, 1, FOREVER, &completion, 1), PALURING_ERR_CLOSED);
  return NULL;
}

static void *wait_to_drain(void *argument) {
  (void)argument;
  atomic_fetch_add(&owned.bound, 1);
  int32_t status = paluring_ring_drain(owned.ring, FOREVER);
  EXPECT(status == PALURING_ERR_CLOSED || status == 0);
  return NULL;
}

static void *wait_to_run(void *argument) {
  (void)argument;
  atomic_fetch_add(&owned.bound, 1);
  int32_t status = paluring_ring_run(owned.ring, 1, FOREVER);
  EXPECT(status == PALURING_ERR_CLOSED || status == -EBUSY);
  return NULL;
}

TEST(close_wakes_those_who_wait_in_other_threads) {
  static void *(*const bodies[])(void *) = {wait_for_kept, wait_to_reap, wait_to_drain, wait_to_run};
  for (int i = 0; i < tries(200); i++) {
    pthread_t threads[4];
    owned = (struct owned){.ring = ring_open(PALURING_MODE_SHARED, 16, 64), .ends = open_pipe(), .buf = new_buf(1)};
    owned.kept = start_op(owned.ring, read_op(owned.ends.read, owned.buf, NULL, NULL));
    for (int k = 0; k < 4; k++) threads[k] = start_thread(bodies[(k + i) % 4], NULL);
    await_count(&owned.bound, 4);
    for (int k = 0; k < i % 20; k++) sched_yield();
    CHECK_EQ(paluring_ring_close(owned.ring, LONG_ENOUGH), 0);
    for (int k = 0; k < 4; k++) pthread_join(threads[k], NULL);
    paluring_completion completion;
    if (!owned.taken) CHECK_EQ(paluring_io_poll(owned.ring, owned.kept, NULL, 0, &completion), 1);
    if (!owned.taken) CHECK_EQ(completion.result, -ECANCELED);
    paluring_ring_release(owned.ring);
    CHECK_EQ(paluring_buf_refs(owned.buf), 1);
    paluring_buf_release(owned.buf);
    close_pipe(owned.ends);
  }
}

/* ---- the process ends ---- */

static void exit_with_ios_in_flight(void *argument) {
  struct results results = {0};
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(*(uint32_t *)argument, 8, 256);
  paluring_buf *buf = new_buf(1);
  for (int i = 0; i < 32; i++) start_only(ring, read_op(ends.read, buf, note_result, &results));
  for (int i = 0; i < 32; i++) start_only(ring, with_flags(read_op(ends.read, buf, note_result, &results), PALURING_OP_ASYNC));
  for (int i = 0; i < 32; i++) start_only(ring, timeout_op(60 * SECOND, note_result, &results));
  EXPECT(paluring_ring_run(ring, 0, 0) == 0);
  if (!atomic_load(&harness.failed)) exit(0); /* with what is registered at exit, and no close */
}

TEST(a_process_that_exits_without_close_ends_cleanly) {
  for (int i = 0; i < 10; i++) {
    uint32_t mode = HOST_MODES[i % 2];
    ROW(HOST_MODE_NAMES[i % 2]);
    int64_t began = now_ns();
    DO(in_child(exit_with_ios_in_flight, &mode));
    CHECK(now_ns() - began < LONG_ENOUGH);
  }
}

int main(void) {
  RUN(a_process_that_exits_without_close_ends_cleanly);
  RUN(close_without_time_orphans_disk_reads_and_gives_memory_back_only_when_the_kernel_is_done);
  RUN(each_call_that_frees_quarantined_memory_frees_it);
  RUN(a_dropped_ios_memory_is_quarantined_too);
  RUN(the_last_release_on_another_thread_orphans_all_while_the_owner_lives);
  RUN(close_by_another_thread_once_the_owner_has_exited_loses_nothing);
  RUN(a_shared_ring_is_closed_by_any_thread_though_its_submitter_has_exited);
  RUN(close_wakes_those_who_wait_in_other_threads);
  close(direct_file());
  return harness_end();
}
