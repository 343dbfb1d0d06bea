/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Hosts that do what few do: memory and descriptors hold when functions of theirs call back into the
 * library, and when results are taken by nobody, by the wrong thread or in the wrong place.
 */
#include "scene.h"

#include <sys/socket.h>

static uint8_t memory[64];

static int open_zero(void) {
  int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  EXPECT(fd >= 0);
  return fd;
}

/* ---- buffers ---- */

struct lent {
  paluring_ring *ring;
  int zero;
  atomic_int calls, released;
  bool take;
  paluring_buf *taken;
};

/* Uses the lent buffer for a second I/O, which ends, and is taken, before this callback returns. */
static void end_another_io_on_it(uintptr_t user_data, paluring_completion *completion) {
  struct lent *self = (struct lent *)user_data;
  paluring_completion other = {0};
  atomic_fetch_add(&self->calls, 1);
  paluring_io io = start_op(self->ring, with_flags(read_op(self->zero, completion->buf, NULL, NULL), PALURING_OP_SUBMIT));
  EXPECT_EQ(paluring_ring_ready(self->ring), 1);
  EXPECT_EQ(paluring_io_poll(self->ring, io, NULL, 0, &other), 1);
  EXPECT_EQ(other.result, sizeof memory);
  EXPECT_EQ(self->released, 0); /* else the callback holds a buffer that is gone */
  if (has_failed()) return;
  EXPECT_EQ(paluring_buf_refs(completion->buf), 1);
  if (self->take) self->taken = paluring_completion_take(completion);
}

TEST(a_lent_buffer_lives_until_its_callback_returns_though_another_io_on_it_ends_inside) {
  for (int take = 0; take < 2; take++) {
    ROW(take ? "taken" : "not taken");
    struct lent self = {.ring = ring_open(PALURING_MODE_OWNER, 0, 0), .zero = open_zero(), .take = take};
    paluring_buf *buf = adopt_counted(memory, sizeof memory, &self.released);
    start_only(self.ring, read_op(self.zero, buf, end_another_io_on_it, &self));
    paluring_buf_release(buf);
    CHECK_EQ(paluring_ring_run(self.ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(self.calls, 1);
    CHECK_EQ(self.released, !take);
    CHECK((self.taken != NULL) == take);
    CHECK_EQ(paluring_buf_refs(self.taken), take);
    paluring_buf_release(self.taken);
    CHECK_EQ(self.released, 1);
    close(self.zero);
    ring_done(self.ring);
  }
}

static void slice_300000_times(void *argument) {
  atomic_int released = 0;
  static uint8_t bytes[300001];
  paluring_buf *buf = adopt_counted(bytes, sizeof bytes, &released);
  (void)argument;
  for (int i = 0; i < 300000; i++) {
    paluring_buf *slice = NULL;
    CHECK_EQ(paluring_buf_slice(buf, 1, paluring_buf_len(buf) - 1, &slice), 0);
    paluring_buf_release(buf);
    buf = slice;
  }
  CHECK_EQ(paluring_buf_len(buf), 1);
  CHECK(paluring_buf_data(buf) == &bytes[300000]);
  CHECK_EQ(released, 0);
  paluring_buf_release(buf);
  CHECK_EQ(released, 1);
}

TEST(a_chain_of_300000_slices_is_released_without_a_stack_of_that_depth) {
  in_child(slice_300000_times, NULL); /* a stack that overflows can't tell of it */
}

/* ---- completions ---- */

static void *reap_elsewhere(void *argument) {
  paluring_completion completions[4];
  memset(completions, 0, sizeof completions);
  EXPECT_EQ(paluring_ring_reap((paluring_ring *)argument, 0, 0, completions, 4), PALURING_ERR_WRONG_THREAD);
  EXPECT_EQ(paluring_ring_reap((paluring_ring *)argument, 1, MS, completions, 4), PALURING_ERR_WRONG_THREAD);
  EXPECT(completions[0].io == 0);
  return NULL;
}

TEST(a_reap_by_a_thread_that_is_not_the_owner_takes_nothing) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_completion completions[4];
  paluring_io io = start_op(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
  CHECK_EQ(paluring_ring_wait(ring, 1, LONG_ENOUGH), 1);
  pthread_join(start_thread(reap_elsewhere, ring), NULL);
  CHECK_EQ(paluring_ring_ready(ring), 1);
  CHECK_EQ(paluring_ring_reap(ring, 1, 0, completions, 4), 1);
  CHECK(completions[0].io == io);
  ring_done(ring);
}

static void reap_inside(uintptr_t user_data, paluring_completion *completion) {
  paluring_completion completions[4];
  (void)completion;
  EXPECT_EQ(paluring_ring_reap((paluring_ring *)user_data, 0, 0, completions, 4), -EBUSY);
  EXPECT_EQ(paluring_ring_reap((paluring_ring *)user_data, 1, MS, completions, 4), -EBUSY);
}

TEST(a_reap_inside_a_callback_is_busy_and_takes_nothing) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    paluring_completion completions[4];
    paluring_io io = start_op(ring, with_flags(nop_op(NULL, NULL), PALURING_OP_QUEUE));
    start_only(ring, nop_op(reap_inside, ring));
    CHECK_EQ(paluring_ring_wait(ring, 2, LONG_ENOUGH), 2);
    CHECK_EQ(paluring_ring_process(ring, 0), 1);
    CHECK_EQ(paluring_ring_reap(ring, 1, 0, completions, 4), 1);
    CHECK(completions[0].io == io);
    ring_done(ring);
  }
}

TEST(a_dropped_multishot_ends_and_is_not_submitted_again) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_pipe();
    struct io_uring_sqe entry = {.opcode = IORING_OP_POLL_ADD, .fd = ends.read, .len = IORING_POLL_ADD_MULTI, .poll32_events = POLLIN};
    paluring_op op;
    paluring_op_raw(&op, &entry, NULL);
    paluring_io io = start_op(ring, op);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(stats_of(ring).total_resubmits, 0);
    CHECK_EQ(stats_of(ring).dropped, 0);
    close_pipe(ends);
    ring_done(ring);
  }
}

/* ---- descriptors ---- */

enum { DETACHED, DROPPED, LEFT, ENDS };

/* Whether the process's first descriptors are open, a bit each. */
static unsigned open_descriptors(void) {
  unsigned open = 0;
  for (int fd = 0; fd < 16; fd++) open |= (unsigned)(fcntl(fd, F_GETFD) >= 0) << fd;
  return open;
}

static void open_direct(void *argument) {
  int end = *(int *)argument;
  static const uint32_t slots[] = {1 + 1, 1 + 2, 1 + 5, IORING_FILE_INDEX_ALLOC};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  while (dup(harness.report) < 15) continue; /* so that there is one to be closed by mistake */
  unsigned before = open_descriptors();
  for (size_t i = 0; i < COUNT_OF(slots); i++) {
    struct io_uring_sqe entry = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)"/dev/null", .file_index = slots[i]};
    paluring_op op;
    paluring_io io = 0;
    paluring_op_raw(&op, &entry, NULL);
    if (end == DETACHED) op.flags = PALURING_OP_DETACHED;
    CHECK_EQ(paluring_io_start(ring, &op, end == DETACHED ? NULL : &io), 0);
    if (end == DROPPED) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(stats_of(ring).total_detached_failed, 0); /* it did open */
  }
  unsigned own = before; /* the ring's may go now */
  paluring_ring *other = paluring_ring_retain(ring);
  CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  paluring_ring_release(ring);
  paluring_ring_release(other);
  CHECK_EQ(open_descriptors() & 7, own & 7);
  CHECK_EQ(open_descriptors() >> harness.report & 1, 1);
}

TEST(a_result_that_is_a_registered_file_closes_no_descriptor_of_the_process) {
  static const char *const names[] = {"detached", "dropped", "left untaken"};
  for (int end = DETACHED; end < ENDS; end++) {
    ROW(names[end]);
    DO(in_child(open_direct, &end)); /* which may lose its standard output */
  }
}

static int connect_to(int listener) {
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(getsockname(listener, (struct sockaddr *)&address, &size), 0);
  EXPECT_EQ(connect(fd, (struct sockaddr *)&address, size), 0);
  return fd;
}

TEST(sockets_of_a_multishot_accept_that_nobody_took_are_closed) {
  static const char *const ways[] = {"drop", "close", "release"};
  struct sockaddr address = {.sa_family = AF_UNIX}; /* without a name: the kernel gives one */
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK_EQ(bind(listener, &address, sizeof address.sa_family), 0);
  CHECK_EQ(listen(listener, 8), 0);
  for (size_t way = 0; way < COUNT_OF(ways); way++) {
    ROW(ways[way]);
    int fds = count_fds(), clients[4];
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
    struct io_uring_sqe entry = {.opcode = IORING_OP_ACCEPT, .fd = listener, .ioprio = IORING_ACCEPT_MULTISHOT};
    paluring_op op;
    paluring_completion taken;
    paluring_op_raw(&op, &entry, NULL);
    paluring_io io = start_op(ring, op);
    CHECK_EQ(paluring_ring_submit(ring), 1);
    int with_ring = count_fds();
    for (size_t i = 0; i < COUNT_OF(clients); i++) clients[i] = connect_to(listener);
    CHECK_EQ(paluring_ring_wait(ring, 4, LONG_ENOUGH), 4);
    CHECK_EQ(paluring_io_poll(ring, io, NULL, 0, &taken), 1);
    CHECK(taken.flags & PALURING_COMPLETION_MORE);
    CHECK_EQ(count_fds(), with_ring + 8);
    if (way == 0) {
      CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
      CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
      CHECK_EQ(count_fds(), with_ring + 5);
    }
    if (way < 2) CHECK_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
    paluring_ring_release(ring);
    CHECK_EQ(count_fds(), fds + 5);
    CHECK(fcntl(taken.result, F_GETFD) >= 0); /* the host's */
    close(taken.result);
    for (size_t i = 0; i < COUNT_OF(clients); i++) close(clients[i]);
  }
  close(listener);
}

TEST(ios_on_a_registered_file_are_not_those_of_the_descriptor_with_its_number) {
  char path[PATH_SIZE];
  struct ends ends = open_pipe(); /* the registered file gets the number of ends.read */
  CHECK_EQ(mkfifo(temp_path(path, "fifo"), 0600), 0);
  int fifo = open(path, O_RDWR | O_CLOEXEC);
  CHECK(fifo >= 0 && ends.read > 0 && ends.read < 200);
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct io_uring_sqe open_it = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)path};
  open_it.open_flags = O_RDONLY | O_NONBLOCK;
  open_it.file_index = (uint32_t)ends.read + 1;
  struct io_uring_sqe poll_it = {.opcode = IORING_OP_POLL_ADD, .fd = ends.read, .flags = IOSQE_FIXED_FILE, .poll32_events = POLLIN};
  struct seen registered = {0}, ordinary = {0};
  paluring_op op;
  paluring_op_raw(&op, &open_it, NULL);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  paluring_op_raw(&op, &poll_it, NULL);
  op.callback = note_completion;
  op.user_data = (uintptr_t)&registered;
  start_only(ring, op);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(paluring_ring_cancel_fd(ring, ends.read), 0);
  start_only(ring, poll_op(ends.read, note_completion, &ordinary));
  CHECK_EQ(paluring_ring_cancel_fd(ring, ends.read), 1);
  DO(run_until(ring, &ordinary.calls, 1));
  CHECK_EQ(ordinary.last.result, -ECANCELED);
  paluring_op_close(&op, ends.read);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  CHECK_EQ(registered.calls, 0);
  CHECK_EQ(write(fifo, "x", 1), 1);
  DO(run_until(ring, &registered.calls, 1));
  CHECK_EQ(registered.last.result, POLLIN);
  close(ends.write);
  close(fifo);
  ring_done(ring);
}

/* ---- a fork in the middle ---- */

struct forker {
  pid_t (*make)(void);
  pid_t child;
};

static void fork_inside(uintptr_t user_data, paluring_completion *completion) {
  struct forker *self = (struct forker *)user_data;
  (void)completion;
  self->child = self->make();
  if (self->child != 0) return;
  signal(SIGSEGV, SIG_DFL); /* the parent tells of it */
  signal(SIGALRM, SIG_DFL);
  alarm(20);
}

TEST(a_child_forked_inside_a_callback_returns_from_run_and_finds_the_ring_forked) {
  static pid_t (*const makes[])(void) = {fork, raw_fork};
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (size_t i = 0; i < COUNT_OF(makes); i++) {
      ROW(i ? "raw fork" : "fork");
      struct forker self = {.make = makes[i]};
      paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
      atomic_int calls = 0;
      start_only(ring, nop_op(fork_inside, &self));
      start_only(ring, nop_op(count_call, &calls));
      int32_t ran = paluring_ring_run(ring, 2, LONG_ENOUGH);
      if (self.child == 0) {
        int32_t again = paluring_ring_run(ring, 0, 0);
        paluring_ring_release(ring);
        _exit(ran != PALURING_ERR_FORKED && ran != 1 ? 2 : again != PALURING_ERR_FORKED ? 3 : calls ? 4 : 0);
      }
      int status = -1;
      CHECK(waitpid(self.child, &status, 0) == self.child);
      if (!WIFEXITED(status) || WEXITSTATUS(status)) FAIL("the child ended with wait status %#x", (unsigned)status);
      CHECK_EQ(ran, 2);
      CHECK_EQ(calls, 1);
      ring_done(ring);
    }
  }
}

int main(void) {
  RUN(a_lent_buffer_lives_until_its_callback_returns_though_another_io_on_it_ends_inside);
  RUN(a_chain_of_300000_slices_is_released_without_a_stack_of_that_depth);
  RUN(a_reap_by_a_thread_that_is_not_the_owner_takes_nothing);
  RUN(a_reap_inside_a_callback_is_busy_and_takes_nothing);
  RUN(a_dropped_multishot_ends_and_is_not_submitted_again);
  RUN(a_result_that_is_a_registered_file_closes_no_descriptor_of_the_process);
  RUN(sockets_of_a_multishot_accept_that_nobody_took_are_closed);
  RUN(ios_on_a_registered_file_are_not_those_of_the_descriptor_with_its_number);
  RUN(a_child_forked_inside_a_callback_returns_from_run_and_finds_the_ring_forked);
  return harness_end();
}
