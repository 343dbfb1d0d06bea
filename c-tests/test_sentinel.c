/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the quarantine of memory stands on, proven of the kernel without the library: the write end of a pipe whose only
 * copy is in a ring's registered files is let go of after the ring's last request, and so the read end hangs up when, and
 * only when, nothing can be written to memory any more. And the library with it, where a plain close is not enough.
 *
 * Measured on Linux 6.18 with a virtio disk: after close(2) of a ring with 64 reads of 1 MiB by O_DIRECT in flight, 43 to 66
 * million bytes were still written to their memory (fewer, up to 47, by workers), for 170 to 460 ms. After the hang-up: none.
 */
#include "scene.h"

#include <sys/mman.h>

enum { BLOCKS = 64, BLOCK = 1 << 20, PAGE = 4096 };

/* ---- a ring without the library ---- */

struct raw {
  int fd, read_end;
  int enter_fd; /* fd, or its registered index */
  unsigned enter_flags;
  struct io_uring_params params;
  size_t queue_len, entries_len;
  uint8_t *queue;
  struct io_uring_sqe *entries;
};

static bool raw_open(struct raw *ring, uint32_t flags) {
  int ends[2];
  *ring = (struct raw){.params = {.flags = flags, .sq_thread_idle = 1000}};
  ring->fd = ring->enter_fd = (int)syscall(SYS_io_uring_setup, 128, &ring->params);
  if (ring->fd < 0) return false;
  ring->queue_len = ring->params.cq_off.cqes + ring->params.cq_entries * sizeof(struct io_uring_cqe) + 4 * ring->params.sq_entries;
  ring->entries_len = ring->params.sq_entries * sizeof(struct io_uring_sqe);
  ring->queue = mmap(NULL, ring->queue_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
  ring->entries = mmap(NULL, ring->entries_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, (off_t)IORING_OFF_SQES);
  EXPECT(ring->queue != MAP_FAILED && (void *)ring->entries != MAP_FAILED);
  madvise(ring->queue, ring->queue_len, MADV_DONTFORK);
  madvise(ring->entries, ring->entries_len, MADV_DONTFORK);
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, &ends[1], 1), 0);
  close(ends[1]);
  ring->read_end = ends[0];
  return true;
}

static void raw_push(struct raw *ring, struct io_uring_sqe entry) {
  _Atomic uint32_t *tail = (void *)(ring->queue + ring->params.sq_off.tail);
  uint32_t at = *tail & (ring->params.sq_entries - 1);
  ring->entries[at] = entry;
  ((uint32_t *)(void *)(ring->queue + ring->params.sq_off.array))[at] = at;
  atomic_store(tail, *tail + 1);
}

static void raw_submit(struct raw *ring, unsigned count) {
  unsigned wake = ring->params.flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0;
  EXPECT_EQ(syscall(SYS_io_uring_enter, ring->enter_fd, count, 0, ring->enter_flags | wake, NULL, 0), count);
  _Atomic uint32_t *head = (void *)(ring->queue + ring->params.sq_off.head), *tail = (void *)(ring->queue + ring->params.sq_off.tail);
  for (int64_t end = now_ns() + LONG_ENOUGH; *head != *tail && now_ns() < end;) sched_yield(); /* a thread of the kernel takes them */
  EXPECT_EQ(*head, *tail);
}

static void raw_unmap(struct raw *ring) {
  EXPECT_EQ(munmap(ring->queue, ring->queue_len), 0);
  EXPECT_EQ(munmap(ring->entries, ring->entries_len), 0);
}

static void raw_close(struct raw *ring) {
  raw_unmap(ring);
  EXPECT_EQ(close(ring->fd), 0);
}

/* Calls of this thread then name the ring by an index, and the thread holds the ring. */
static void raw_register_fd(struct raw *ring) {
  struct io_uring_rsrc_update update = {.offset = UINT32_MAX, .data = (uint32_t)ring->fd};
  EXPECT_EQ(syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_RING_FDS, &update, 1), 1);
  ring->enter_fd = (int)update.offset;
  ring->enter_flags = IORING_ENTER_REGISTERED_RING;
}

static void raw_unregister_fd(struct raw *ring) {
  struct io_uring_rsrc_update update = {.offset = (uint32_t)ring->enter_fd};
  EXPECT_EQ(syscall(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_RING_FDS, &update, 1), 1);
}

static bool hangs_up(int read_end, int64_t limit_ns) {
  struct pollfd end = {.fd = read_end};
  return poll(&end, 1, (int)(limit_ns / MS)) == 1 && (end.revents & POLLHUP);
}

/* ---- requests ---- */

static uint8_t *blocks, *copy;
static struct ends pipe_ends;

static int direct_file(void) {
  char path[PATH_SIZE];
  static int fd = -1;
  if (fd >= 0) return fd;
  int plain = temp_file("disk", (size_t)BLOCKS * BLOCK, 1);
  if (plain < 0 || fsync(plain) != 0) return -1;
  close(plain);
  fd = open(temp_path(path, "disk"), O_RDONLY | O_DIRECT | O_CLOEXEC);
  blocks = aligned_alloc(PAGE, (size_t)BLOCKS * BLOCK);
  copy = malloc((size_t)BLOCKS * BLOCK);
  return blocks && copy ? fd : -1;
}

static struct io_uring_sqe read_entry(int fd, void *data, uint32_t len, uint64_t offset, uint8_t flags) {
  return (struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = fd, .addr = (uintptr_t)data, .len = len, .off = offset, .flags = flags};
}

static void submit_disk_reads(struct raw *ring, uint8_t flags) {
  for (uint64_t i = 0; i < BLOCKS; i++) raw_push(ring, read_entry(direct_file(), blocks + i * BLOCK, BLOCK, i * BLOCK, flags));
  raw_submit(ring, BLOCKS);
}

static void submit_pipe_reads(struct raw *ring, uint8_t flags) {
  for (uint64_t i = 0; i < BLOCKS; i++) raw_push(ring, read_entry(pipe_ends.read, blocks + i * PAGE, PAGE, UINT64_MAX, flags));
  raw_submit(ring, BLOCKS);
}

/* ---- every mode, every kind of work ---- */

static const struct mode {
  const char *name;
  uint32_t flags;
  bool registers, exits; /* the thread that submitted is gone before the close */
} modes[] = {
    {"no flags", 0, false, false},
    {"SINGLE_ISSUER and DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, false, false},
    {"SQPOLL", IORING_SETUP_SQPOLL, false, false},
    {"a registered ring descriptor", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, true, false},
    {"no flags, the thread exits", 0, false, true},
    {"DEFER_TASKRUN, the thread exits", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, true, true},
};

struct work {
  const struct mode *mode;
  size_t len; /* of the memory that is read into */
  void (*submit)(struct raw *, uint8_t);
  uint8_t flags;
  struct raw ring;
};

static void *do_work(void *argument) {
  struct work *work = argument;
  EXPECT(raw_open(&work->ring, work->mode->flags));
  if (has_failed()) return NULL;
  if (work->mode->registers) raw_register_fd(&work->ring);
  work->submit(&work->ring, work->flags);
  EXPECT(!hangs_up(work->ring.read_end, 0));
  if (work->mode->registers && !work->mode->exits) raw_unregister_fd(&work->ring);
  return NULL;
}

/* Bytes that are not as they were when they were copied. */
static size_t count_changed(size_t len) {
  size_t changed = 0;
  for (size_t page = 0; page < len; page += PAGE)
    if (memcmp(blocks + page, copy + page, PAGE) != 0)
      for (size_t i = page; i < page + PAGE; i++) changed += blocks[i] != copy[i];
  return changed;
}

static void start_work(struct work *work) {
  memset(blocks, 0, work->len);
  if (work->mode->exits) pthread_join(start_thread(do_work, work), NULL);
  else do_work(work);
}

/* → how many bytes came after the close. */
static size_t late_bytes(struct work *work) {
  start_work(work);
  raw_close(&work->ring);
  memcpy(copy, blocks, work->len);
  EXPECT(hangs_up(work->ring.read_end, LONG_ENOUGH));
  size_t late = count_changed(work->len);
  memcpy(copy, blocks, work->len);
  uint8_t *other = aligned_alloc(PAGE, BLOCK); /* time passes, with the disk busy */
  for (int i = 0; i < 8; i++) EXPECT_EQ(pread(direct_file(), other, BLOCK, i * (off_t)BLOCK), BLOCK);
  free(other);
  EXPECT_EQ(count_changed(work->len), 0);
  close(work->ring.read_end);
  return late;
}

TEST(disk_reads_land_after_close_and_none_after_the_hang_up) {
  size_t late = 0;
  if (direct_file() < 0) SKIP("the temporary directory has no O_DIRECT");
  for (size_t i = 0; i < COUNT_OF(modes); i++) {
    for (int async = 0; async < 2; async++) {
      ROW(modes[i].name);
      struct work work = {.mode = &modes[i], .submit = submit_disk_reads, .len = (size_t)BLOCKS * BLOCK, .flags = async ? IOSQE_ASYNC : 0};
      DO(late += late_bytes(&work));
    }
  }
  CHECK(late > 0); /* else the disk was too fast to prove anything */
}

TEST(reads_that_wait_are_cancelled_by_the_close_and_the_hang_up_comes) {
  if (direct_file() < 0) SKIP("no memory");
  pipe_ends = open_pipe();
  for (size_t i = 0; i < COUNT_OF(modes); i++) {
    for (int async = 0; async < 2; async++) {
      ROW(modes[i].name);
      struct work work = {.mode = &modes[i], .submit = submit_pipe_reads, .len = (size_t)BLOCKS * PAGE, .flags = async ? IOSQE_ASYNC : 0};
      CHECK_EQ(late_bytes(&work), 0);
      put_byte(pipe_ends);
      CHECK_EQ(drain_pipe(pipe_ends), 1);
    }
  }
  close_pipe(pipe_ends);
}

/* ---- what holds it back ---- */

enum { NOT_YET = 100 }; /* milliseconds */

TEST(a_mapping_that_is_left_holds_it_back) {
  struct raw ring;
  CHECK(raw_open(&ring, 0));
  CHECK_EQ(close(ring.fd), 0);
  CHECK(!hangs_up(ring.read_end, NOT_YET * MS));
  raw_unmap(&ring);
  CHECK(hangs_up(ring.read_end, LONG_ENOUGH));
  close(ring.read_end);
}

static struct holder {
  struct raw ring;
  atomic_int registered, go;
} holder;

static void *register_and_stay(void *argument) {
  (void)argument;
  raw_register_fd(&holder.ring);
  atomic_store(&holder.registered, 1);
  await_count(&holder.go, 1);
  return NULL;
}

TEST(a_registered_descriptor_of_a_thread_that_lives_holds_it_back) {
  holder = (struct holder){.registered = 0};
  CHECK(raw_open(&holder.ring, 0));
  pthread_t thread = start_thread(register_and_stay, NULL);
  CHECK(await_count(&holder.registered, 1));
  raw_close(&holder.ring);
  CHECK(!hangs_up(holder.ring.read_end, NOT_YET * MS));
  atomic_store(&holder.go, 1);
  pthread_join(thread, NULL);
  CHECK(hangs_up(holder.ring.read_end, LONG_ENOUGH));
  close(holder.ring.read_end);
}

/* A child that lives until the other end of a pipe is closed. */
static pid_t living_child(pid_t (*make)(void), struct ends *ends) {
  *ends = open_pipe();
  pid_t child = make();
  if (child == 0) {
    char byte;
    close(ends->write);
    _exit(read(ends->read, &byte, 1) == 0 ? 0 : 1);
  }
  close(ends->read);
  return child;
}

static void end_child(pid_t child, struct ends *ends) {
  int status = -1;
  close(ends->write);
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(a_forked_child_that_lives_holds_it_back) {
  struct raw ring;
  struct ends ends;
  CHECK(raw_open(&ring, 0));
  pid_t child = living_child(raw_fork, &ends);
  raw_close(&ring);
  CHECK(!hangs_up(ring.read_end, NOT_YET * MS));
  end_child(child, &ends);
  CHECK(hangs_up(ring.read_end, LONG_ENOUGH));
  close(ring.read_end);
}

/* ---- the library ---- */

static atomic_int released;

/* The memory is the host's again: it writes its own bytes there, and nobody else may write from now on. */
static void refill(uintptr_t user_data, void *data, size_t len) {
  (void)user_data;
  memset(data, 0xa5, len);
  atomic_fetch_add(&released, 1);
}

static void start_blocks(paluring_ring *ring, int fd) {
  memset(blocks, 0, (size_t)BLOCKS * BLOCK);
  atomic_store(&released, 0);
  for (size_t i = 0; i < BLOCKS; i++) {
    paluring_buf *buf = NULL;
    paluring_op op;
    CHECK_EQ(paluring_buf_adopt(blocks + i * BLOCK, BLOCK, refill, 0, &buf), 0);
    paluring_op_read(&op, fd, buf, 0, BLOCK, i * BLOCK);
    start_only(ring, with_flags(op, PALURING_OP_MOVE | PALURING_OP_DETACHED));
  }
  CHECK_EQ(paluring_ring_submit(ring), BLOCKS);
}

/* What has been given back holds the host's bytes, and nothing else. */
static bool untouched(void) {
  return atomic_load(&released) == BLOCKS && blocks[0] == 0xa5 && memcmp(blocks, blocks + 1, (size_t)BLOCKS * BLOCK - 1) == 0;
}

TEST(after_the_release_of_an_open_ring_no_read_lands_in_memory_that_was_given_back) {
  int fd = direct_file();
  if (fd < 0) SKIP("the temporary directory has no O_DIRECT");
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  uint64_t held = 0;
  for (int round = 0; round < 6 || (held == 0 && round < 20); round++) { /* a slow machine may find all done */
    ROW(HOST_MODE_NAMES[round % 2]);
    paluring_ring *ring = ring_open(HOST_MODES[round % 2], BLOCKS, BLOCKS);
    DO(start_blocks(ring, fd));
    paluring_ring_release(ring);
    uint64_t now = stats_of(watcher).quarantined_bytes;
    CHECK(now <= (uint64_t)BLOCKS * BLOCK);
    held += now;
    CHECK(quarantine_ends(watcher));
    CHECK(untouched());
    poll(NULL, 0, 50);
    CHECK(untouched());
  }
  CHECK(held > 0);
  ring_done(watcher);
}

static void *start_read(void *argument) {
  paluring_ring *ring = argument;
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_adopt(blocks, 1, refill, 0, &buf), 0);
  start_only(ring, with_flags(read_op(pipe_ends.read, buf, NULL, NULL), PALURING_OP_MOVE | PALURING_OP_DETACHED));
  EXPECT_EQ(paluring_ring_submit(ring), 1);
  return NULL;
}

/* fork(3) runs the library's handler, which closes the child's copy; a raw clone runs none. */
TEST(a_forked_child_that_lives_holds_back_only_what_a_raw_clone_copied) {
  pipe_ends = open_pipe();
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  for (int raw = 0; raw < 2; raw++) {
    ROW(raw ? "raw clone" : "fork");
    struct ends ends;
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
    atomic_store(&released, 0);
    pthread_join(start_thread(start_read, ring), NULL); /* so that a close can but orphan */
    pid_t child = living_child(raw ? raw_fork : fork, &ends);
    paluring_ring_release(ring);
    for (int i = 0; raw && i < NOT_YET / 10; i++) {
      poll(NULL, 0, 10);
      CHECK_EQ(stats_of(watcher).quarantined_bytes, 1);
      CHECK_EQ(released, 0);
    }
    if (raw) end_child(child, &ends);
    CHECK(quarantine_ends(watcher));
    CHECK_EQ(released, 1);
    if (!raw) end_child(child, &ends);
  }
  close_pipe(pipe_ends);
  ring_done(watcher);
}

int main(void) {
  RUN(disk_reads_land_after_close_and_none_after_the_hang_up);
  RUN(reads_that_wait_are_cancelled_by_the_close_and_the_hang_up_comes);
  RUN(a_mapping_that_is_left_holds_it_back);
  RUN(a_registered_descriptor_of_a_thread_that_lives_holds_it_back);
  RUN(a_forked_child_that_lives_holds_it_back);
  RUN(after_the_release_of_an_open_ring_no_read_lands_in_memory_that_was_given_back);
  RUN(a_forked_child_that_lives_holds_back_only_what_a_raw_clone_copied);
  if (blocks) close(direct_file());
  free(blocks);
  free(copy);
  return harness_end();
}
