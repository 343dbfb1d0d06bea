/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Memory of I/Os that a close could not wait for: held until the kernel is done, whoever closed and whatever became of
 * the owner's thread. A second descriptor of the ring stands for a kernel that takes its time: it keeps the ring's files,
 * and with them the sentinel.
 */
#include "raw.h"

enum { READS = 8, LEN = 4096 };

static struct scene {
  paluring_ring *ring, *watcher;
  struct ends ends;
  uint8_t memory[READS][LEN];
  atomic_int released, calls, orphaned;
  atomic_int bound, go;
  int ring_fd;
} scene;

static void note(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data;
  atomic_fetch_add(&scene.calls, 1);
  if (completion->result != PALURING_ERR_ORPHANED) return;
  atomic_fetch_add(&scene.orphaned, 1);
  EXPECT(completion->buf == NULL);
}

/* The host uses its memory again: what the kernel writes from now on is an error. */
static void use_again(uintptr_t user_data, void *data, size_t len) {
  (void)user_data;
  memset(data, 0xa5, len);
  atomic_fetch_add(&scene.released, 1);
}

static bool untouched(void) {
  for (int i = 0; i < READS; i++)
    if (scene.memory[i][0] != 0xa5 || memcmp(scene.memory[i], scene.memory[i] + 1, LEN - 1) != 0) return false;
  return true;
}

/* Reads of an empty pipe, each with memory of its own that only the I/O holds. */
static void start_reads(void) {
  for (int i = 0; i < READS; i++) {
    paluring_buf *buf = NULL;
    EXPECT_EQ(paluring_buf_adopt(scene.memory[i], LEN, use_again, 0, &buf), 0);
    start_only(scene.ring, with_flags(read_op(scene.ends.read, buf, note, NULL), PALURING_OP_MOVE));
  }
  EXPECT_EQ(paluring_ring_submit(scene.ring), READS);
}

static void *own_and_start(void *argument) {
  start_reads();
  atomic_store(&scene.bound, 1);
  if (argument) await_count(&scene.go, 1);
  return NULL;
}

/* A ring owned by another thread, which lives on until told to go (stays) or is gone. */
static pthread_t scene_begin(uint32_t mode, bool stays) {
  memset(&scene, 0, sizeof scene);
  scene.watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  scene.ends = open_pipe();
  scene.ring = ring_open(mode, 16, 0);
  scene.ring_fd = second_ring_fd();
  pthread_t thread = start_thread(own_and_start, stays ? "stays" : NULL);
  await_count(&scene.bound, 1);
  if (!stays) pthread_join(thread, NULL);
  return thread;
}

/* All is held, and told, as long as the kernel is not done; then freed once, and nobody writes there. */
static void check_held_then_freed(void) {
  for (int i = 0; i < 20; i++) {
    paluring_ring *other = ring_open(PALURING_MODE_OWNER, 8, 0); /* open, alloc, close and stats look */
    paluring_buf_release(new_buf(1));
    ring_done(other);
    CHECK_EQ(stats_of(scene.watcher).quarantined_bytes, READS * LEN);
    CHECK_EQ(scene.released, 0);
    if (i > 10) poll(NULL, 0, 2);
  }
  close(scene.ring_fd);
  CHECK(quarantine_ends(scene.watcher));
  CHECK_EQ(scene.released, READS);
  CHECK_EQ(scene.calls, READS);
  for (int i = 0; i < READS; i++) put_byte(scene.ends);
  CHECK_EQ(drain_pipe(scene.ends), READS);
  CHECK(untouched());
}

static void scene_end(void) {
  close_pipe(scene.ends);
  ring_done(scene.watcher);
}

TEST(memory_is_held_and_told_until_the_kernel_is_done_though_the_owners_thread_has_exited) {
  for (int by_close = 0; by_close < 2; by_close++) {
    ROW(by_close ? "close" : "last release");
    scene_begin(PALURING_MODE_OWNER, false);
    CHECK_EQ(scene.released, 0); /* the exit of the thread is no barrier */
    if (by_close) CHECK_EQ(paluring_ring_close(scene.ring, LONG_ENOUGH), READS);
    if (by_close) CHECK_EQ(stats_of(scene.ring).total_orphaned, READS);
    paluring_ring_release(scene.ring);
    CHECK_EQ(scene.orphaned, READS);
    DO(check_held_then_freed());
    scene_end();
  }
}

TEST(memory_is_held_and_told_until_the_kernel_is_done_after_the_last_release_on_another_thread) {
  pthread_t thread = scene_begin(PALURING_MODE_OWNER, true);
  paluring_ring_release(scene.ring);
  CHECK_EQ(scene.orphaned, READS);
  atomic_store(&scene.go, 1);
  pthread_join(thread, NULL);
  DO(check_held_then_freed());
  scene_end();
}

/* The owner's registration of the ring's descriptor holds the ring as well. */
TEST(memory_is_held_until_an_owner_that_lives_on_has_exited) {
  pthread_t thread = scene_begin(PALURING_MODE_OWNER, true);
  close(scene.ring_fd);
  paluring_capabilities can = {.size = sizeof can};
  CHECK_EQ(paluring_ring_capabilities(scene.ring, &can), 0);
  bool registered = !(can.fallbacks & PALURING_FALLBACK_RING_FD);
  paluring_ring_release(scene.ring);
  if (registered) CHECK_EQ(stats_of(scene.watcher).quarantined_bytes, READS * LEN);
  if (registered) CHECK_EQ(scene.released, 0);
  atomic_store(&scene.go, 1);
  pthread_join(thread, NULL);
  CHECK(quarantine_ends(scene.watcher));
  CHECK_EQ(scene.released, READS);
  CHECK(untouched());
  scene_end();
}

TEST(several_rings_quarantines_end_each_by_itself) {
  enum { RINGS = 5 };
  static atomic_int released[RINGS];
  static uint8_t memory[RINGS][64];
  int fds[RINGS];
  struct ends ends = open_pipe();
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (int i = 0; i < RINGS; i++) {
    scene = (struct scene){.ends = ends, .ring = ring_open(PALURING_MODE_OWNER, 16, 0)};
    fds[i] = second_ring_fd();
    released[i] = 0;
    pthread_join(start_thread(own_and_start, NULL), NULL); /* so that a close can but orphan */
    paluring_buf *buf = adopt_counted(memory[i], 64, &released[i]);
    start_only(scene.ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_MOVE | PALURING_OP_DETACHED));
    paluring_ring_release(scene.ring);
  }
  const uint64_t each = READS * LEN + 64;
  for (int i = 0; i < RINGS; i++) {
    static const int order[RINGS] = {3, 0, 4, 1, 2};
    CHECK_EQ(stats_of(watcher).quarantined_bytes, (uint64_t)(RINGS - i) * each);
    close(fds[order[i]]);
    int64_t end = now_ns() + LONG_ENOUGH;
    while (stats_of(watcher).quarantined_bytes == (uint64_t)(RINGS - i) * each && now_ns() < end) poll(NULL, 0, 1);
    for (int k = 0; k < RINGS; k++) {
      bool ended = false;
      for (int past = 0; past <= i; past++) ended |= order[past] == k;
      CHECK_EQ(released[k], ended);
    }
  }
  CHECK_EQ(stats_of(watcher).quarantined_bytes, 0);
  close_pipe(ends);
  ring_done(watcher);
}

/* ---- a close with a limit ---- */

static int disk = -1;

/* O_DIRECT reads, which no cancel stops; → how many the close orphaned. */
static int32_t close_with_disk_reads(int64_t timeout_ns) {
  enum { BLOCKS = 64, BLOCK = 1 << 20 };
  char path[PATH_SIZE];
  if (disk < 0) {
    int plain = temp_file("disk", (size_t)BLOCKS * BLOCK, 1);
    EXPECT_EQ(fsync(plain), 0);
    close(plain);
    disk = open(temp_path(path, "disk"), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (disk < 0) return -1;
  }
  scene.calls = scene.orphaned = 0;
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 64, 64);
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_alloc(BLOCKS * (size_t)BLOCK, 4096, &buf), 0);
  for (size_t i = 0; i < BLOCKS && !has_failed(); i++) {
    paluring_op op;
    paluring_op_read(&op, disk, buf, i * BLOCK, BLOCK, i * BLOCK);
    op.callback = note;
    start_only(ring, op);
  }
  EXPECT_EQ(paluring_ring_submit(ring), BLOCKS);
  int32_t orphaned = paluring_ring_close(ring, timeout_ns);
  EXPECT_EQ(scene.calls, BLOCKS);
  EXPECT_EQ(scene.orphaned, orphaned);
  if (orphaned == 0) EXPECT_EQ(paluring_buf_refs(buf), 1);
  paluring_ring_release(ring);
  paluring_buf_release(buf);
  return orphaned;
}

TEST(a_close_waits_for_disk_reads_within_its_limit_and_orphans_the_rest) {
  static const int64_t limits[] = {FOREVER, LONG_ENOUGH, 0, 1, MS, 5 * MS, 20 * MS};
  scene.watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (size_t i = 0; i < COUNT_OF(limits); i++) {
    int32_t orphaned = close_with_disk_reads(limits[i]);
    if (orphaned < 0) SKIP("the temporary directory has no O_DIRECT");
    if (i < 2) CHECK_EQ(orphaned, 0);
    if (has_failed()) return;
    CHECK(quarantine_ends(scene.watcher));
  }
  close(disk);
  ring_done(scene.watcher);
}

int main(void) {
  RUN(memory_is_held_and_told_until_the_kernel_is_done_though_the_owners_thread_has_exited);
  RUN(memory_is_held_and_told_until_the_kernel_is_done_after_the_last_release_on_another_thread);
  RUN(memory_is_held_until_an_owner_that_lives_on_has_exited);
  RUN(several_rings_quarantines_end_each_by_itself);
  RUN(a_close_waits_for_disk_reads_within_its_limit_and_orphans_the_rest);
  return harness_end();
}
