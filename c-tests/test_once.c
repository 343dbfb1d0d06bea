/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Every accepted I/O has one completion with its own result: among bad ones, when cancelled in any way and waited for, and
 * when what its entry points to was long made before the entry is read.
 */
#include "raw.h"

enum { COUNT = 1000 };

/* ---- bad ones among good ones ---- */

/* Entry i of a batch: a third of them the kernel refuses before it starts them. */
static paluring_op good_or_bad(int i, int fd, paluring_buf *buf, struct seen *seen) {
  struct io_uring_sqe entry = transfer_entry(IORING_OP_READ, fd, buf);
  if (i % 3 == 1) entry.buf_index = 77, entry.ioprio = 0xffff;     /* -EINVAL as it is read */
  if (i % 9 == 2) return nop_op(note_completion, seen);
  return raw_op(entry, buf, note_completion, seen);
}

TEST(of_bad_entries_among_good_ones_each_has_its_one_completion_and_stops_no_other) {
  static struct seen seen[COUNT];
  static paluring_op ops[COUNT];
  int fd = temp_file("good", 64, 1);
  paluring_buf *buf = new_buf(64);
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 64, COUNT);
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < COUNT; i++) ops[i] = good_or_bad(i, fd, buf, &seen[i]);
    CHECK_EQ(paluring_io_start_batch(ring, ops, COUNT, NULL), COUNT);
    CHECK_EQ(paluring_ring_submit(ring), COUNT); /* bad ones are taken, too */
    CHECK_EQ(paluring_ring_run(ring, COUNT, LONG_ENOUGH), COUNT);
    for (int i = 0; i < COUNT; i++) {
      CHECK_EQ(seen[i].calls, 1);
      CHECK_EQ(seen[i].last.result, i % 3 == 1 ? -EINVAL : i % 9 == 2 ? 0 : 64);
    }
    CHECK_EQ(paluring_buf_refs(buf), 1);
    ring_done(ring);
  }
  paluring_buf_release(buf);
  close(fd);
}

/* ---- cancelled, and waited for ---- */

TEST(cancel_then_wait_with_and_without_a_limit_gives_the_one_completion) {
  static const int64_t limits[] = {FOREVER, LONG_ENOUGH, 0};
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
      ROW(HOST_MODE_NAMES[mode]);
      paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
      struct ends ends = open_pipe();
      paluring_buf *buf = new_buf(1);
      for (int how = 0; how < 8; how++) {
        paluring_completion completion;
        paluring_io io = start_op(ring, with_flags(read_op(ends.read, buf, NULL, NULL), how & 1 ? PALURING_OP_ASYNC : 0));
        if (how & 2) CHECK(paluring_ring_submit(ring) >= 1); /* a cancel that was asked again may be among them */
        if (how & 4) CHECK_EQ(paluring_io_wait(ring, io, MS, &completion), -ETIME);
        CHECK_EQ(paluring_io_cancel(ring, io), 0);
        int64_t end = now_ns() + LONG_ENOUGH;
        int32_t status;
        do status = paluring_io_wait(ring, io, limits[i], &completion);
        while (status == -ETIME && now_ns() < end);
        CHECK_EQ(status, 0);
        CHECK_EQ(completion.result, -ECANCELED);
        CHECK_EQ(paluring_io_wait(ring, io, limits[i], &completion), PALURING_ERR_STALE);
        CHECK_EQ(paluring_buf_refs(buf), 1);
      }
      paluring_buf_release(buf);
      close_pipe(ends);
      ring_done(ring);
    }
  }
}

/* The kernel doesn't stop reads of a disk: they end in their own time, with what they read. */
TEST(cancelled_disk_reads_give_their_true_results) {
  enum { BLOCKS = 32, BLOCK = 256 * 1024 };
  char path[PATH_SIZE];
  int plain = temp_file("disk", (size_t)BLOCKS * BLOCK, 1);
  CHECK_EQ(fsync(plain), 0);
  close(plain);
  int disk = open(temp_path(path, "disk"), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (disk < 0) SKIP("the temporary directory has no O_DIRECT");
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 64, 64);
    struct seen seen[BLOCKS];
    paluring_buf *buf = NULL;
    memset(seen, 0, sizeof seen);
    CHECK_EQ(paluring_buf_alloc((size_t)BLOCKS * BLOCK, 4096, &buf), 0);
    for (size_t i = 0; i < BLOCKS; i++) {
      paluring_op op;
      paluring_op_read(&op, disk, buf, i * BLOCK, BLOCK, i * BLOCK);
      op.callback = note_completion;
      op.user_data = (uintptr_t)&seen[i];
      start_only(ring, op);
    }
    CHECK_EQ(paluring_ring_submit(ring), BLOCKS);
    CHECK(paluring_ring_cancel_all(ring) >= 0);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    for (size_t i = 0; i < BLOCKS; i++) {
      CHECK_EQ(seen[i].calls, 1);
      CHECK(seen[i].last.result == BLOCK || seen[i].last.result == -ECANCELED);
      if (seen[i].last.result == BLOCK) CHECK(has_pattern(paluring_buf_data(buf) + i * BLOCK, BLOCK, i * BLOCK, 1));
    }
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    ring_done(ring);
  }
  close(disk);
}

/* ---- what entries point to ---- */

/* Paths, times and vectors of a thousand I/Os are made while only eight entries fit: none of them may move or be lost. */
TEST(what_a_thousand_waiting_entries_point_to_stays_as_it_was_at_their_start) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 8, 3 * COUNT);
    static struct seen opened[COUNT], timed[COUNT], vectored[COUNT];
    static int64_t began[COUNT];
    memset(opened, 0, sizeof opened), memset(timed, 0, sizeof timed), memset(vectored, 0, sizeof vectored);
    int fd = temp_file("bytes", COUNT, 2);
    paluring_buf *bytes = new_buf(COUNT);
    for (int i = 0; i < COUNT; i++) {
      char path[PATH_SIZE], name[200];
      snprintf(name, sizeof name, "%.*s-%d", i % 150, "a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name", i);
      if (i % 2) close(open(temp_path(path, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
      paluring_op op;
      paluring_op_openat(&op, AT_FDCWD, temp_path(path, name), O_RDONLY | O_CLOEXEC, 0);
      op.callback = note_completion;
      op.user_data = (uintptr_t)&opened[i];
      start_only(ring, op);
      memset(path, 'x', sizeof path);
      began[i] = now_ns();
      start_only(ring, timeout_op(i % 4 ? MS : 30 * MS, note_completion, &timed[i]));
      paluring_buf *parts[2], *list = NULL;
      for (size_t k = 0; k < 2; k++) CHECK_EQ(paluring_buf_slice(bytes, (size_t)i, i < COUNT - 1 && !k ? 1 : 0, &parts[k]), 0);
      CHECK_EQ(paluring_buf_list(parts, 2, &list), 0);
      paluring_op_read(&op, fd, list, 0, paluring_buf_len(list), (uint64_t)i);
      op.callback = note_completion;
      op.user_data = (uintptr_t)&vectored[i];
      start_only(ring, op);
      for (int k = 0; k < 2; k++) paluring_buf_release(parts[k]);
      paluring_buf_release(list);
    }
    CHECK(stats_of(ring).queued >= 3 * COUNT - 8);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    for (int i = 0; i < COUNT; i++) {
      CHECK_EQ(opened[i].calls + timed[i].calls + vectored[i].calls, 3);
      CHECK(i % 2 ? opened[i].last.result >= 0 : opened[i].last.result == -ENOENT);
      if (i % 2) close(opened[i].last.result);
      CHECK_EQ(timed[i].last.result, -ETIME);
      CHECK(now_ns() - began[i] >= (i % 4 ? MS : 30 * MS));
      CHECK_EQ(vectored[i].last.result, i < COUNT - 1);
    }
    CHECK(has_pattern(paluring_buf_data(bytes), COUNT - 1, 0, 2));
    CHECK_EQ(paluring_buf_refs(bytes), 1);
    paluring_buf_release(bytes);
    close(fd);
    ring_done(ring);
    char path[PATH_SIZE];
    temp_path(path, "");
    nftw(path, harness_remove, 16, FTW_DEPTH | FTW_PHYS); /* so that the next round finds none of its names */
    harness.dir[0] = 0;
  }
}

/* ---- the slot of a running callback ---- */

static struct {
  paluring_ring *ring;
  atomic_int asked, answered, calls;
  int32_t elsewhere, here, then;
} held;

static void *start_elsewhere(void *argument) {
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_DETACHED);
  if (!await_count((atomic_int *)argument, 1)) return NULL;
  held.elsewhere = paluring_io_start(held.ring, &op, NULL);
  atomic_store(&held.answered, 1);
  return NULL;
}

static void start_here(uintptr_t user_data, paluring_completion *completion) {
  paluring_op op = nop_op(count_call, (void *)user_data);
  (void)completion;
  atomic_store(&held.asked, 1);
  if (!await_count(&held.answered, 1)) return;
  held.here = paluring_io_start(held.ring, &op, NULL);
  held.then = paluring_io_start(held.ring, &op, NULL);
}

TEST(the_slot_of_a_running_callback_is_its_own_and_no_other_threads) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    memset(&held, 0, sizeof held);
    held.ring = ring_open(HOST_MODES[mode], 8, 1);
    pthread_t thread = start_thread(start_elsewhere, &held.asked);
    start_only(held.ring, nop_op(start_here, &held.calls));
    CHECK_EQ(paluring_ring_drain(held.ring, LONG_ENOUGH), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(held.elsewhere, -EAGAIN);
    CHECK_EQ(held.here, 0);
    CHECK_EQ(held.then, -EAGAIN);
    CHECK_EQ(held.calls, 1);
    ring_done(held.ring);
  }
}

int main(void) {
  RUN(of_bad_entries_among_good_ones_each_has_its_one_completion_and_stops_no_other);
  RUN(cancel_then_wait_with_and_without_a_limit_gives_the_one_completion);
  RUN(cancelled_disk_reads_give_their_true_results);
  RUN(what_a_thousand_waiting_entries_point_to_stays_as_it_was_at_their_start);
  RUN(the_slot_of_a_running_callback_is_its_own_and_no_other_threads);
  return harness_end();
}
