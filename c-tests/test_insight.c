/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Worker limits and affinity, probe, capabilities, statistics, dump.
 */
#include "scene.h"

static paluring_ring *ring;

/* ---- worker threads ---- */

/* The worker threads of io_uring in this process; how many of them may run elsewhere than on these processors. */
static int count_workers(const cpu_set_t *placed, int *out_elsewhere) {
  char path[300], name[32] = "";
  int count = 0;
  DIR *dir = opendir("/proc/self/task");
  *out_elsewhere = 0;
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    cpu_set_t got;
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
    FILE *file = fopen(path, "re");
    bool is_worker = file && fgets(name, sizeof name, file) && strncmp(name, "iou-wrk", 7) == 0;
    if (file) fclose(file);
    if (!is_worker) continue;
    count++;
    if (sched_getaffinity((pid_t)atoi(entry->d_name), sizeof got, &got) == 0 && !CPU_EQUAL(&got, placed)) ++*out_elsewhere;
  }
  if (dir) closedir(dir);
  return count;
}

static cpu_set_t one_processor;

static void set_limits_and_affinity(void) {
  cpu_set_t all;
  size_t cpu = CPU_SETSIZE - 1;
  sched_getaffinity(0, sizeof all, &all);
  while (cpu > 0 && !CPU_ISSET(cpu, &all)) cpu--; /* the last one of those that we have */
  CPU_ZERO(&one_processor);
  CPU_SET(cpu, &one_processor);
  EXPECT_EQ(paluring_ring_set_worker_affinity(ring, &one_processor, sizeof one_processor), 0);
  EXPECT_EQ(paluring_ring_set_worker_limits(ring, 2, 2), 0);
}

static uint32_t workers_mode = PALURING_MODE_OWNER;

/* Blocks workers, on a thread of its own: limits and affinity belong to the thread that drives, which may be the library's. */
static void *block_workers(void *argument) {
  char path[PATH_SIZE];
  paluring_op op;
  paluring_io ios[8];
  int elsewhere, count;
  if (argument) ring = ring_open(workers_mode, 0, 0), set_limits_and_affinity();
  unlink(temp_path(path, "fifo"));
  EXPECT_EQ(mkfifo(path, 0600), 0);
  paluring_op_openat(&op, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0); /* blocks a worker until a writer comes */
  op.flags = PALURING_OP_ASYNC;
  for (int i = 0; i < 8; i++) ios[i] = start_op(ring, op);
  if (workers_mode != PALURING_MODE_BACKGROUND) EXPECT(paluring_ring_submit(ring) >= 0);
  int64_t end = now_ns() + LONG_ENOUGH;
  while (count_workers(&one_processor, &elsewhere) < 2 && now_ns() < end) sched_yield();
  for (int i = 0; i < 200 && !has_failed(); i++) {
    if (workers_mode != PALURING_MODE_BACKGROUND) EXPECT_EQ(paluring_ring_run(ring, 0, 0), 0);
    count = count_workers(&one_processor, &elsewhere);
    EXPECT_EQ(count, 2); /* of 8 that could run */
    EXPECT_EQ(elsewhere, 0);
  }
  int writer = open(path, O_RDWR | O_CLOEXEC);
  for (int i = 0; i < 8; i++) {
    paluring_completion completion = {0};
    EXPECT_EQ(paluring_io_wait(ring, ios[i], LONG_ENOUGH, &completion), 0);
    if (EXPECT(completion.result >= 0), completion.result >= 0) close(completion.result);
  }
  close(writer);
  ring_done(ring);
  return NULL;
}

/* An exited thread's workers are seen for a little while. */
static void await_no_workers(void) {
  int elsewhere;
  int64_t end = now_ns() + LONG_ENOUGH;
  while (count_workers(&one_processor, &elsewhere) > 0 && now_ns() < end) sched_yield();
}

TEST(set_iowq_max_workers_and_affinity_hold_for_the_workers_of_the_driver) {
  await_no_workers();
  pthread_join(start_thread(block_workers, &ring), NULL);
}

TEST(worker_limits_and_affinity_set_by_the_opener_hold_for_the_thread_that_binds_the_ring) {
  await_no_workers();
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  set_limits_and_affinity();
  pthread_join(start_thread(block_workers, NULL), NULL);
}

TEST(worker_limits_and_affinity_are_forwarded_to_a_background_rings_thread_and_hold_there) {
  await_no_workers();
  workers_mode = PALURING_MODE_BACKGROUND;
  ring = ring_open(workers_mode, 0, 0);
  set_limits_and_affinity();
  pthread_join(start_thread(block_workers, NULL), NULL);
  workers_mode = PALURING_MODE_OWNER;
}

TEST(worker_limits_and_affinity_of_a_shared_ring_are_those_of_the_thread_that_sets_and_submits) {
  await_no_workers();
  workers_mode = PALURING_MODE_SHARED;
  pthread_join(start_thread(block_workers, &ring), NULL);
  workers_mode = PALURING_MODE_OWNER;
}

/* ---- what the kernel gave ---- */

TEST(probe) {
  ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_capabilities got = {.size = sizeof got};
  CHECK_EQ(paluring_ring_capabilities(ring, &got), 0);
  for (uint32_t opcode = 0; opcode < 256; opcode++) CHECK_EQ(paluring_ring_supports(ring, opcode), (got.ops[opcode / 64] >> opcode % 64) & 1);
  static const uint32_t old[] = {IORING_OP_NOP, IORING_OP_READ, IORING_OP_WRITE, IORING_OP_OPENAT, IORING_OP_TIMEOUT, IORING_OP_ASYNC_CANCEL};
  for (size_t i = 0; i < COUNT_OF(old); i++) CHECK_EQ(paluring_ring_supports(ring, old[i]), 1);
  CHECK_EQ(paluring_ring_supports(ring, 250), 0);
  CHECK_EQ(paluring_ring_supports(ring, 1000), 0);
  CHECK_EQ(paluring_ring_supports(ring, UINT32_MAX), 0);
  ring_done(ring);
}

TEST(capabilities_tell_what_was_asked_for_and_what_was_got) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_capabilities got = {.size = sizeof got};
    ring = ring_with_cq(HOST_MODES[mode], 16, 64, 100);
    CHECK_EQ(paluring_ring_capabilities(ring, &got), 0);
    CHECK_EQ(got.size, sizeof got);
    CHECK_EQ(got.backend, PALURING_BACKEND_KERNEL);
    CHECK_EQ(got.entries, 16);
    CHECK_EQ(got.cq_entries, 64);
    CHECK_EQ(got.max_in_flight, 100);
    CHECK(got.features & IORING_FEAT_NODROP);
    CHECK(!(got.setup_flags & (IORING_SETUP_SQPOLL | IORING_SETUP_IOPOLL)));
    CHECK(HOST_MODES[mode] == PALURING_MODE_OWNER || !(got.setup_flags & (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN)));
    CHECK_EQ(paluring_ring_close(ring, FOREVER), 0);
    paluring_capabilities after = {.size = sizeof after};
    CHECK_EQ(paluring_ring_capabilities(ring, &after), 0); /* of a closed ring too */
    CHECK(memcmp(&got, &after, sizeof got) == 0);
    paluring_ring_release(ring);
  }
}

/* ---- statistics ---- */

TEST(stats_add_up) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    paluring_completion taken[100];
    paluring_io ios[100] = {0};
    atomic_int calls = 0;
    ring = ring_open(HOST_MODES[mode], 8, 100);
    srand(7);
    for (int i = 0; i < 20000; i++) {
      size_t k = (size_t)rand() % 100;
      switch (rand() % 12) {
        case 0: case 1: case 2: case 3: case 4: {
          paluring_op op = rand() % 2 ? nop_op(NULL, NULL) : rand() % 2 ? read_op(ends.read, buf, NULL, NULL) : timeout_op(60 * SECOND, NULL, NULL);
          if (rand() % 3 == 0) op.callback = count_call, op.user_data = (uintptr_t)&calls;
          else op.flags = (uint32_t)(rand() % 3 ? 0 : rand() % 2 ? PALURING_OP_QUEUE : PALURING_OP_DETACHED);
          if (rand() % 8 == 0) op.timeout_ns = rand() % 1000000;
          paluring_io io = 0;
          int32_t status = paluring_io_start(ring, &op, &io);
          CHECK(status == 0 || status == -EAGAIN);
          if (io) ios[k] = io;
          break;
        }
        case 5: paluring_io_drop(ring, ios[k], NULL); break;
        case 6: paluring_io_cancel(ring, ios[k]); break;
        case 7: paluring_io_poll(ring, ios[k], NULL, 0, NULL); break;
        case 8: CHECK(paluring_ring_run(ring, 0, 0) >= 0); break;
        case 9: CHECK(paluring_ring_reap(ring, 0, 0, taken, 100) >= 0); break;
        case 10: put_byte(ends); break;
        default: CHECK(paluring_ring_process(ring, 3) >= 0);
      }
      if (i % 1000 == 0) drain_pipe(ends);
      paluring_stats stats = stats_of(ring);
      CHECK_EQ(stats.queued + stats.waiting + stats.completed + stats.dropped, stats.total_started - stats.total_finished);
      CHECK(stats.total_cancelled + stats.total_orphaned <= stats.total_finished + stats.completed + stats.dropped);
      CHECK(stats.high_in_flight <= 100 && stats.high_queued <= 100);
    }
    CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
    paluring_stats stats = stats_of(ring);
    CHECK_EQ(stats.total_started - stats.total_finished, stats.completed); /* kept and queued ones, still served */
    CHECK(stats.total_dropped > 0 && stats.total_cancelled > 0 && stats.total_again > 0 && stats.total_enters > 0);
    CHECK_EQ(stats.total_orphaned, 0);
    paluring_ring_release(ring);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
}

/* ---- dump ---- */

struct text {
  char bytes[200000];
  size_t len;
};

static void append(uintptr_t user_data, const char *text, size_t len) {
  struct text *all = (struct text *)user_data;
  if (all->len + len < sizeof all->bytes) memcpy(all->bytes + all->len, text, len);
  all->len += len;
}

/* Whether braces and brackets outside of strings are closed in order, with one value at the top. */
static bool is_balanced(const char *text) {
  char open[64];
  int depth = 0;
  bool string = false;
  if (*text != '{') return false;
  for (; *text; text++) {
    if (string && *text == '\\') text++;
    else if (*text == '"') string = !string;
    else if (!string && (*text == '{' || *text == '[') && depth < 64) open[depth++] = *text;
    else if (!string && (*text == '}' || *text == ']') && (depth == 0 || open[--depth] != *text - 2)) return false;
  }
  return depth == 0 && !string;
}

TEST(dump_names_what_is_stuck_as_json) {
  static struct text text;
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  char fd[32], opcode[32];
  ring = ring_open(PALURING_MODE_OWNER, 8, 100);
  for (int i = 0; i < 20; i++) start_op(ring, read_op(ends.read, buf, NULL, NULL));
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  for (int closed = 0; closed < 2; closed++) {
    memset(&text, 0, sizeof text);
    CHECK_EQ(paluring_ring_dump(ring, append, (uintptr_t)&text), 0);
    CHECK(text.len > 0 && text.len < sizeof text.bytes);
    CHECK(is_balanced(text.bytes));
    if (closed) break;
    CHECK(strstr(text.bytes, "fd") && strstr(text.bytes, "age") && strstr(text.bytes, "opcode"));
    snprintf(fd, sizeof fd, "%d", ends.read);
    snprintf(opcode, sizeof opcode, "%d", IORING_OP_READ);
    CHECK(strstr(text.bytes, fd) && (strstr(text.bytes, opcode) || strcasestr(text.bytes, "read")));
    CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  }
  paluring_ring_release(ring);
  paluring_buf_release(buf);
  close_pipe(ends);
}

int main(void) {
  RUN(set_iowq_max_workers_and_affinity_hold_for_the_workers_of_the_driver);
  RUN(worker_limits_and_affinity_set_by_the_opener_hold_for_the_thread_that_binds_the_ring);
  RUN(worker_limits_and_affinity_are_forwarded_to_a_background_rings_thread_and_hold_there);
  RUN(worker_limits_and_affinity_of_a_shared_ring_are_those_of_the_thread_that_sets_and_submits);
  RUN(probe);
  RUN(capabilities_tell_what_was_asked_for_and_what_was_got);
  RUN(stats_add_up);
  RUN(dump_names_what_is_stuck_as_json);
  return harness_end();
}
