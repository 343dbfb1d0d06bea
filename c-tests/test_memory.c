/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Memory runs out at each allocation that the library makes, one after the other: for that one alone, or from there on. Calls
 * then say -ENOMEM and have taken nothing, or go well; each accepted I/O still completes once, and no descriptor is left.
 * Each try is a process of its own, so that first uses are tried, too. This program's allocator stands in front of libc's.
 */
#include "scene.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

/* Shared with the process that tries. */
static struct {
  atomic_long calls, failed, at;
  bool lasting;
} *memory;

static atomic_bool watched; /* on all threads: a BACKGROUND ring has one of its own */

static bool runs_out(void) {
  if (!watched) return false;
  long call = ++memory->calls;
  bool fails = memory->lasting ? call >= memory->at : call == memory->at;
  memory->failed += fails;
  if (fails) errno = ENOMEM;
  return fails;
}

void *malloc(size_t size) { return runs_out() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return runs_out() ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return runs_out() ? NULL : __libc_realloc(old, size); }
int posix_memalign(void **out, size_t alignment, size_t size) {
  return runs_out() || !(*out = __libc_memalign(alignment, size)) ? ENOMEM : 0;
}

/* Done, or without memory. */
static bool went_well(int32_t status) {
  if (status < 0) EXPECT_EQ(status, -ENOMEM);
  return status >= 0;
}

/* ---- what is done in each try ---- */

static uint32_t mode;
static struct ends ends, other;
static uint8_t bytes[256];
static atomic_int adopted, released;

enum { CALLBACKS = 128 };
static bool accepted[CALLBACKS];
static int completed[CALLBACKS];
static int next_io, ready_due, ready_calls, room_calls;

static void note(uintptr_t io, paluring_completion *completion) {
  completed[io] += !(completion->flags & PALURING_COMPLETION_MORE);
}

static void note_ready(uintptr_t user_data, int32_t status) {
  (void)user_data, (void)status;
  ready_calls++;
}

static void note_room(uintptr_t user_data) {
  (void)user_data;
  room_calls++;
}

static void note_text(uintptr_t user_data, const char *text, size_t len) {
  (void)user_data, (void)text, (void)len;
}

static paluring_ring *open_one(uint32_t entries) {
  paluring_ring_options options;
  paluring_ring *ring = NULL;
  paluring_ring_options_init(&options, sizeof options);
  options.mode = mode;
  options.entries = entries;
  options.max_in_flight = 64;
  int32_t status = paluring_ring_open(&options, &ring);
  bool no_thread = mode == PALURING_MODE_BACKGROUND && status == -EAGAIN; /* as pthread_create says */
  EXPECT((no_thread ? false : went_well(status)) == (ring != NULL));
  return ring;
}

static void close_one(paluring_ring *ring, int64_t timeout_ns) {
  if (ring) EXPECT(paluring_ring_close(ring, timeout_ns) >= 0);
  paluring_ring_release(ring);
}

static void live(void) {
  paluring_capabilities capabilities = {.size = sizeof capabilities};
  paluring_stats stats = {.size = sizeof stats};
  unsigned long mask = 1;
  int fd = -1;
  (void)paluring_ring_unavailable_reason();
  paluring_ring *ring = open_one(0);
  if (!ring) return;
  went_well(paluring_ring_capabilities(ring, &capabilities));
  went_well(paluring_ring_supports(ring, IORING_OP_READ));
  went_well(paluring_ring_set_worker_limits(ring, 1, 1));
  went_well(paluring_ring_set_worker_affinity(ring, &mask, sizeof mask));
  went_well(paluring_ring_event_fd(ring, &fd));
  went_well(paluring_ring_wake(ring));
  went_well(paluring_ring_prepare(ring));
  went_well(paluring_ring_run(ring, 0, 0));
  went_well(paluring_ring_stats(ring, &stats));
  went_well(paluring_ring_dump(ring, note_text, 0));
  paluring_ring_release(paluring_ring_retain(ring));
  close_one(ring, FOREVER);
}

/* A list of all kinds of buffers; NULL = some could not be made. */
static paluring_buf *all_buffers(void) {
  paluring_buf *bufs[4] = {0}, *list = NULL;
  went_well(paluring_buf_alloc(64, 0, &bufs[0]));
  went_well(paluring_buf_alloc(64, 4096, &bufs[1]));
  adopted += went_well(paluring_buf_adopt(bytes, 64, count_release, (uintptr_t)&released, &bufs[2]));
  if (bufs[0]) went_well(paluring_buf_slice(bufs[0], 8, 32, &bufs[3]));
  if (bufs[0] && bufs[1] && bufs[2] && bufs[3]) EXPECT(went_well(paluring_buf_list(bufs, 4, &list)) == (list != NULL));
  for (size_t i = 0; i < COUNT_OF(bufs); i++) paluring_buf_release(bufs[i]);
  return list;
}

static void buffers(void) {
  paluring_buf_release(all_buffers());
  EXPECT_EQ(released, adopted);
}

/* Starts for a callback, which then comes once if this says so. */
static bool start(paluring_ring *ring, paluring_op op) {
  op.callback = note;
  op.user_data = (uintptr_t)next_io;
  int32_t status = paluring_io_start(ring, &op, NULL);
  if (status == -EAGAIN) return false;
  return accepted[next_io++] = went_well(status);
}

static void start_each_kind(paluring_ring *ring, paluring_buf *list) {
  static uint8_t result[256];
  paluring_op op;
  paluring_buf *buf = NULL;
  (void)start(ring, nop_op(NULL, NULL));
  (void)start(ring, timeout_op(MS, NULL, NULL));
  (void)start(ring, poll_op(ends.read, NULL, NULL));
  if (went_well(paluring_buf_adopt(result, sizeof result, NULL, 0, &buf))) {
    (void)start(ring, with_timeout(read_op(ends.read, buf, NULL, NULL), MS));
    (void)start(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_SUBMIT));
    paluring_op_statx(&op, AT_FDCWD, "/", 0, 0xfff, buf, 0);
    (void)start(ring, op);
  }
  if (list) (void)start(ring, read_op(ends.read, list, NULL, NULL));
  paluring_op_openat(&op, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
  op.flags = PALURING_OP_DETACHED; /* its descriptor is closed inside */
  (void)went_well(paluring_io_start(ring, &op, NULL));
  int copy = dup(ends.read);
  if (buf) (void)start(ring, read_op(copy, buf, NULL, NULL));
  paluring_op_close(&op, copy); /* cancels the read before it */
  if (!start(ring, op)) close(copy);
  paluring_buf_release(buf);
}

/* Those that take copies, or enter the kernel several times; what they make is closed inside. */
static void start_more_kinds(paluring_ring *ring, paluring_buf *list) {
  static const char zeros[64];
  paluring_op op;
  int fixed = -1;
  struct ends pair = open_socket();
  paluring_op_renameat(&op, AT_FDCWD, "/missing/a", AT_FDCWD, "/missing/b", 0);
  (void)start(ring, op);
  paluring_op_setxattr(&op, "/missing", "user.x", "value", 5, 0);
  (void)start(ring, op);
  paluring_op_socket(&op, AF_UNIX, SOCK_STREAM, 0);
  op.flags = PALURING_OP_FIXED | PALURING_OP_DETACHED;
  (void)paluring_io_start(ring, &op, NULL);
  paluring_op_pipe(&op, O_CLOEXEC);
  op.flags = PALURING_OP_DETACHED;
  if (paluring_ring_supports(ring, 62) > 0) (void)went_well(paluring_io_start(ring, &op, NULL));
  if (list) {
    paluring_op_send(&op, pair.write, list, 0, 64, 0);
    op.flags = PALURING_OP_FULL | PALURING_OP_ZEROCOPY;
    (void)start(ring, op);
    paluring_op_sendmsg(&op, pair.write, list, 0, 64, NULL, 0, zeros, 0, 0);
    (void)start(ring, op);
    paluring_op_recvmsg(&op, pair.read, list, 0, 32, 0, 16, 0);
    (void)start(ring, op);
  }
  if (went_well(paluring_file_register(ring, pair.read, &fixed))) EXPECT_EQ(paluring_file_unregister(ring, fixed), 0);
  (void)paluring_ring_drain(ring, 0);
  close_pipe(pair);
}

static void start_several(paluring_ring *ring) {
  paluring_op ops[3];
  for (int i = 0; i < 3; i++) ops[i] = nop_op(note, NULL), ops[i].user_data = (uintptr_t)(next_io + i);
  int32_t count = paluring_io_start_batch(ring, ops, 3, NULL);
  for (int i = 0; went_well(count) && i < count; i++) accepted[next_io + i] = true;
  next_io += 3;
  for (int i = 0; i < 3; i++) ops[i].user_data = (uintptr_t)(next_io + i), ops[i].timeout_ns = SECOND;
  count = paluring_io_start_chain(ring, ops, 3, 0, NULL);
  for (int i = 0; went_well(count) && i < 3; i++) accepted[next_io + i] = true;
  next_io += 3;
}

/* Kept and queued ones, polled for; a multishot whose events are kept. */
static void start_kept(paluring_ring *ring) {
  paluring_completion completion;
  paluring_op op = poll_op(ends.read, NULL, NULL);
  paluring_io io = 0, multishot = 0;
  if (went_well(paluring_io_start(ring, &op, &io))) {
    for (int i = 0; i < 2; i++) ready_due += went_well(paluring_io_poll(ring, io, note_ready, 0, &completion));
    went_well(paluring_io_set_timeout(ring, io, SECOND));
    went_well(paluring_io_cancel(ring, io));
    (void)paluring_io_wait(ring, io, MS, &completion);
    (void)paluring_io_drop(ring, io, NULL);
  }
  op = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
  went_well(paluring_io_start(ring, &op, NULL));
  paluring_op_poll_multishot(&op, other.read, POLLIN);
  if (!went_well(paluring_io_start(ring, &op, &multishot))) return;
  (void)paluring_ring_submit(ring);
  for (int i = 0; i < 6; i++) put_byte(other), (void)paluring_ring_wait(ring, 1, 0);
  while (paluring_io_poll(ring, multishot, NULL, 0, &completion) > 0 && (completion.flags & PALURING_COMPLETION_MORE)) continue;
  (void)paluring_io_drop(ring, multishot, NULL);
}

/* Connections of a multishot accept that nobody takes: memory may be short for each. */
static void accept_some(paluring_ring *ring, int *clients, size_t count) {
  struct sockaddr_un address = {.sun_family = AF_UNIX}; /* without a name: the kernel gives one */
  socklen_t size = sizeof address.sun_family;
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  paluring_op op;
  paluring_io io;
  EXPECT(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 8) == 0);
  size = sizeof address;
  getsockname(listener, (struct sockaddr *)&address, &size);
  paluring_op_accept_multishot(&op, listener, 0);
  if (went_well(paluring_io_start(ring, &op, &io))) (void)paluring_ring_submit(ring);
  for (size_t i = 0; i < count; i++) {
    clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(clients[i], (struct sockaddr *)&address, size), 0);
    (void)paluring_ring_wait(ring, 1, 0);
  }
  close(listener);
}

static void starts(void) {
  paluring_op nop = nop_op(note, NULL);
  paluring_buf *list = all_buffers();
  paluring_ring *ring = open_one(4);
  if (!ring) {
    paluring_buf_release(list);
    return;
  }
  went_well(paluring_ring_on_room(ring, note_room, 0));
  int clients[6];
  accept_some(ring, clients, COUNT_OF(clients));
  start_kept(ring);
  start_each_kind(ring, list);
  start_more_kinds(ring, list);
  start_several(ring);
  while (next_io < CALLBACKS - 20 && start(ring, nop)) continue; /* beyond max_in_flight */
  went_well(paluring_ring_cancel_fd(ring, ends.read));
  (void)paluring_ring_prepare(ring);
  for (int i = 0; i < 20; i++) {
    int32_t status = i % 2 ? paluring_ring_drain(ring, MS) : paluring_ring_run(ring, 1, MS);
    EXPECT(status >= 0 || status == -ENOMEM || status == -ETIME);
    (void)start(ring, nop);
  }
  went_well(paluring_ring_cancel_all(ring));
  close_one(ring, FOREVER);
  for (size_t i = 0; i < COUNT_OF(clients); i++) close(clients[i]);
  paluring_buf_release(list);
  for (int i = 0; i < CALLBACKS; i++) {
    if (completed[i] != accepted[i]) harness_fail(__FILE__, __LINE__, "I/O %d, accepted %d, completed %d times", i, accepted[i], completed[i]);
  }
  EXPECT_EQ(ready_calls, ready_due);
  EXPECT_EQ(released, adopted);
}

/* ---- a thread that leaves I/Os behind ---- */

static void *begin_and_exit(void *ring) {
  watched = true;
  for (int i = 0; i < 4; i++) {
    paluring_buf *buf = NULL;
    if (!went_well(paluring_buf_adopt(bytes, 8, count_release, (uintptr_t)&released, &buf))) continue;
    adopted++;
    (void)start(ring, read_op(ends.read, buf, NULL, NULL));
    paluring_buf_release(buf);
  }
  went_well(paluring_ring_submit(ring));
  watched = false;
  return NULL;
}

static void leave(void) {
  paluring_ring *ring = open_one(0);
  if (!ring) return;
  watched = false;
  pthread_t thread = start_thread(begin_and_exit, ring);
  pthread_join(thread, NULL);
  watched = true;
  EXPECT(paluring_ring_close(ring, 0) >= 0); /* the owner's exit, or that it was never bound, is noticed */
  paluring_ring_release(ring);
  for (int i = 0; i < next_io; i++) EXPECT_EQ(completed[i], accepted[i]);
}

/* ---- a ring with a thread of its own ---- */

static atomic_int told;

static void tell(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
  told++;
}

static void tell_post(uintptr_t user_data) {
  (void)user_data;
  told++;
}

static void rest(void) {
  paluring_completion out[2];
  paluring_io io = 0;
  int due = 0;
  unsigned long mask = 1;
  paluring_ring *ring = open_one(4);
  if (!ring) return;
  paluring_op op = nop_op(tell, NULL), kept = timeout_op(MS, NULL, NULL), queued = with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE);
  for (int i = 0; i < 20; i++) due += went_well(paluring_io_start(ring, &op, NULL));
  due += went_well(paluring_ring_post(ring, tell_post, 0));
  went_well(paluring_ring_set_worker_limits(ring, 1, 1));
  went_well(paluring_ring_set_worker_affinity(ring, &mask, sizeof mask));
  if (went_well(paluring_io_start(ring, &kept, &io))) went_well(paluring_io_wait(ring, io, LONG_ENOUGH, out));
  if (went_well(paluring_io_start(ring, &queued, NULL))) went_well(paluring_ring_reap(ring, 1, LONG_ENOUGH, out, 2));
  went_well(paluring_ring_drain(ring, LONG_ENOUGH));
  close_one(ring, FOREVER);
  EXPECT_EQ(told, due);
}

/* ---- the tries ---- */

static void try_it(void *body) {
  int fds = count_fds();
  paluring_buf *buf = NULL;
  ends = open_pipe();
  other = open_pipe();
  watched = true;
  (*(void (**)(void))body)();
  watched = false;
  close_pipe(ends);
  close_pipe(other);
  for (int64_t end = now_ns() + LONG_ENOUGH; count_fds() > fds && now_ns() < end;) /* quarantined */
    if (paluring_buf_alloc(1, 0, &buf) == 0) paluring_buf_release(buf);
  EXPECT_EQ(count_fds(), fds);
}

static void without_each_allocation(void (*body)(void), const uint32_t *modes, size_t count) {
  char row[64];
  if (is_instrumented()) SKIP("it has an allocator of its own");
  memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  for (size_t i = 0; i < 2 * count; i++) {
    mode = modes[i / 2];
    memory->lasting = i % 2;
    long at = 1, step = 100 / tries(100); /* each of them, where the machine is not slow */
    for (memory->failed = 1; memory->failed > 0; at += step) {
      snprintf(row, sizeof row, "mode %u, %s allocation %ld", mode, i % 2 ? "from" : "at", at);
      ROW(row);
      memory->calls = memory->failed = 0;
      memory->at = at;
      DO(in_child(try_it, &body));
    }
    CHECK(at > 1 + step); /* something was allocated */
  }
  munmap(memory, sizeof *memory);
}

TEST(rings_open_live_and_close_without_any_of_their_allocations) { without_each_allocation(live, HOST_MODES, 2); }
TEST(buffers_are_made_or_not_without_any_of_their_allocations) { without_each_allocation(buffers, HOST_MODES, 1); }
TEST(ios_of_all_kinds_complete_once_without_any_of_their_allocations) { without_each_allocation(starts, HOST_MODES, 2); }
TEST(an_exited_owners_ios_are_orphaned_without_any_of_their_allocations) { without_each_allocation(leave, HOST_MODES, 2); }
TEST(a_background_ring_tells_of_each_io_and_post_without_any_of_its_allocations) {
  static const uint32_t background = PALURING_MODE_BACKGROUND;
  without_each_allocation(rest, &background, 1);
}

int main(void) {
  RUN(rings_open_live_and_close_without_any_of_their_allocations);
  RUN(buffers_are_made_or_not_without_any_of_their_allocations);
  RUN(ios_of_all_kinds_complete_once_without_any_of_their_allocations);
  RUN(an_exited_owners_ios_are_orphaned_without_any_of_their_allocations);
  RUN(a_background_ring_tells_of_each_io_and_post_without_any_of_its_allocations);
  return harness_end();
}
