/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What kernels do wrong, each of some versions, and the library makes up for.
 */
#include "scene.h"

#include <dlfcn.h>
#include <sys/eventfd.h>

/* In front of libc's: waits of this process end early, and eventfds that are registered are never written to. */
static struct {
  atomic_bool early, deaf;
  atomic_int ended;
} quirk;

long syscall(long number, ...) {
  enum { REGISTER_EVENTFD = 4 };
  static void *next;
  long (*real)(long, ...);
  long a[6];
  va_list args;
  va_start(args, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(args, long);
  va_end(args);
  if (number == SYS_io_uring_register && (unsigned)a[1] == REGISTER_EVENTFD && atomic_load(&quirk.deaf)) return 0;
  if (number == SYS_io_uring_enter && a[2] != 0 && atomic_load(&quirk.early) && atomic_fetch_add(&quirk.ended, 1) % 4 < 2) a[2] = 0;
  if (!next) next = dlsym(RTLD_NEXT, "syscall");
  memcpy(&real, &next, sizeof real);
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void open_where_it_is_late(void *argument) {
  (void)argument;
  atomic_store(&quirk.deaf, true);
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_capabilities can = {.size = sizeof can};
  paluring_op op = nop_op(NULL, NULL);
  CHECK_EQ(paluring_ring_capabilities(ring, &can), 0);
  CHECK(!(can.setup_flags & IORING_SETUP_DEFER_TASKRUN));
  CHECK(can.fallbacks & PALURING_FALLBACK_SETUP);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  ring_done(ring);
}

/* Before any other ring of this process: it is tried once. */
TEST(where_the_event_fd_is_late_rings_do_without_deferral) {
  in_child(open_where_it_is_late, NULL);
}

/* A ring that defers task work puts off the write to its event fd where the completion comes out of another eventfd's wake,
   and then forgets each later one. */
TEST(an_event_loop_is_woken_each_time_by_an_eventfd_read_through_the_ring) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    int other = eventfd(0, EFD_CLOEXEC), fd = -1;
    paluring_buf *buf = new_buf(8);
    struct seen seen = {0};
    CHECK_EQ(paluring_ring_event_fd(ring, &fd), 0);
    for (int i = 0; i < 20; i++) {
      start_only(ring, i % 2 ? poll_op(other, note_completion, &seen) : read_op(other, buf, note_completion, &seen));
      CHECK_EQ(paluring_ring_prepare(ring), 0);
      CHECK_EQ(eventfd_write(other, 1), 0);
      struct pollfd ready = {.fd = fd, .events = POLLIN};
      while (seen.calls == i) {
        CHECK_EQ(poll(&ready, 1, 5000), 1);
        CHECK(paluring_ring_process(ring, 0) >= 0);
        if (seen.calls == i && paluring_ring_prepare(ring) < 0) FAIL("prepare fails");
      }
      CHECK(seen.last.result > 0);
      if (i % 2) CHECK_EQ(eventfd_read(other, &(eventfd_t){0}), 0);
    }
    close(other);
    paluring_buf_release(buf);
    ring_done(ring);
  }
}

/* A loop that sleeps until told has its completion at once, not when a grace period of the kernel's is over. */
TEST(an_event_loop_is_told_at_once) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  struct ends ends = open_pipe();
  int fd = -1, at_once = 0;
  CHECK_EQ(paluring_ring_event_fd(ring, &fd), 0);
  for (int i = 0; i < 50; i++) {
    struct seen seen = {0};
    start_only(ring, poll_op(ends.read, note_completion, &seen));
    CHECK_EQ(paluring_ring_prepare(ring), 0);
    CHECK(!is_readable(fd));
    put_byte(ends);
    at_once += is_readable(fd);
    DO(run_until(ring, &seen.calls, 1));
    CHECK_EQ(drain_pipe(ends), 1);
  }
  CHECK_EQ(at_once, 50);
  close_pipe(ends);
  ring_done(ring);
}

/* A cancel finds nothing while its request is between two tries, and doesn't stop one that a worker is about to begin. */
TEST(a_cancel_ends_a_read_that_a_worker_is_just_beginning) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    for (int i = 0; i < tries(3000); i++) {
      paluring_completion completion;
      paluring_io io = start_op(ring, with_flags(read_op(ends.read, buf, NULL, NULL), PALURING_OP_ASYNC));
      if (i % 2) CHECK(paluring_ring_submit(ring) >= 1);
      for (int k = 0; k < i % 200; k++) atomic_thread_fence(memory_order_seq_cst);
      CHECK_EQ(paluring_io_cancel(ring, io), 0);
      CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
      CHECK_EQ(completion.result, -ECANCELED);
    }
    ring_done(ring);
  }
  paluring_buf_release(buf);
  close_pipe(ends);
}

/* A timeout that another processor's interrupt ends is counted a moment before its completion can be seen. */
TEST(a_timeout_ends_no_wait_before_its_completion_is_there) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    for (int i = 0; i < tries(5000); i++) {
      paluring_completion completion;
      paluring_io io = start_op(ring, with_flags(timeout_op(i % 100 * 1000, NULL, NULL), i % 2 ? PALURING_OP_ASYNC : 0));
      CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0); /* -EINTR would tell of a signal */
      CHECK_EQ(completion.result, -ETIME);
    }
    ring_done(ring);
  }
}

TEST(a_wait_that_a_timeout_ends_early_tells_of_no_signal) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
    for (int i = 0; i < 20; i++) {
      paluring_completion completion;
      paluring_io io = start_op(ring, timeout_op(2 * MS, NULL, NULL));
      atomic_store(&quirk.early, true);
      int32_t status = paluring_io_wait(ring, io, LONG_ENOUGH, &completion);
      atomic_store(&quirk.early, false);
      CHECK_EQ(status, 0);
      CHECK_EQ(completion.result, -ETIME);
    }
    CHECK(quirk.ended > 0); /* else the library's calls don't come by here */
    ring_done(ring);
  }
}

int main(void) {
  RUN(where_the_event_fd_is_late_rings_do_without_deferral);
  RUN(a_wait_that_a_timeout_ends_early_tells_of_no_signal);
  RUN(an_event_loop_is_told_at_once);
  RUN(an_event_loop_is_woken_each_time_by_an_eventfd_read_through_the_ring);
  RUN(a_cancel_ends_a_read_that_a_worker_is_just_beginning);
  RUN(a_timeout_ends_no_wait_before_its_completion_is_there);
  return harness_end();
}
