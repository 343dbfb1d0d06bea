/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A process that ends with I/O in flight, in whatever way, is gone soon: nothing in the kernel holds it.
 */
#include "raw.h"

#include <sys/resource.h>

enum end { SEGV, KILLED, ABORTED, EXITED, EXITED_AT_ONCE, EXECUTED, THREAD_EXITED, ENDS };

static const struct { const char *name; int signal; } KINDS[ENDS] = {
  {"crashes", SIGSEGV}, {"is killed", SIGKILL}, {"aborts", SIGABRT}, {"exits", 0}, {"exits right after the submit", 0}, {"executes another program", 0}, {"exits while another thread drives", 0},
};

static paluring_ring *ring;
static atomic_int calls, driving;

static void *drive(void *argument) {
  (void)argument;
  atomic_store(&driving, 1);
  paluring_ring_run(ring, UINT32_MAX, FOREVER);
  return NULL;
}

/* Reads that wait in the kernel, reads that a worker waits in, disk reads, timers, and a queue of what has no room. */
static void start_everything(int disk) {
  struct ends ends = open_pipe();
  struct peers peers = tcp_peers();
  enum { BLOCK = 1 << 20, BLOCKS = 16 };
  paluring_buf *buf = NULL;
  CHECK_EQ(paluring_buf_alloc((size_t)BLOCK * BLOCKS, 4096, &buf), 0);
  for (uint32_t i = 0; i < BLOCKS && disk >= 0; i++) {
    paluring_op op;
    paluring_op_read(&op, disk, buf, i * (size_t)BLOCK, BLOCK, i * (uint64_t)BLOCK);
    op.callback = count_call;
    op.user_data = (uintptr_t)&calls;
    start_only(ring, op);
  }
  for (int i = 0; i < 16; i++) {
    start_only(ring, read_op(ends.read, buf, count_call, &calls));
    start_only(ring, with_flags(read_op(ends.read, buf, count_call, &calls), PALURING_OP_ASYNC));
    start_only(ring, recv_op(peers.here, buf, count_call, &calls));
    start_only(ring, poll_multishot_op(ends.read, count_call, &calls));
    start_only(ring, with_timeout(timeout_op(60 * SECOND, count_call, &calls), 50 * SECOND));
  }
}

static void end_process(enum end kind, int disk) {
  ring = ring_open(kind == THREAD_EXITED ? PALURING_MODE_SHARED : HOST_MODES[disk & 1], 8, 256);
  start_everything(disk);
  if (has_failed()) _exit(1);
  if (kind == EXITED_AT_ONCE) {
    paluring_ring_submit(ring);
    _exit(0);
  }
  if (kind == THREAD_EXITED) start_thread(drive, NULL), await_count(&driving, 1);
  else paluring_ring_run(ring, 0, 0);
  for (int i = 0; i < 8; i++) start_only(ring, with_flags(timeout_op(60 * SECOND, NULL, NULL), PALURING_OP_QUEUE));
  if (KINDS[kind].signal) {
    signal(KINDS[kind].signal, SIG_DFL); /* the parent tells of it */
    raise(KINDS[kind].signal);
  }
  if (kind == EXECUTED) execl("/bin/true", "true", (char *)NULL);
  exit(has_failed());
}

TEST(a_process_that_ends_in_any_way_with_ios_in_flight_is_gone_soon) {
  char path[PATH_SIZE];
  int plain = temp_file("disk", 16 << 20, 1);
  CHECK_EQ(fsync(plain), 0);
  close(plain);
  int disk = open(temp_path(path, "disk"), O_RDONLY | O_DIRECT | O_CLOEXEC); /* or -1 */
  for (int round = 0; round < tries(4); round++) {
    for (int kind = 0; kind < ENDS; kind++) {
      ROW(KINDS[kind].name);
      int64_t began = now_ns();
      pid_t child = fork();
      CHECK(child >= 0);
      if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(25);
        end_process((enum end)kind, disk);
      }
      int status = -1;
      CHECK_EQ(waitpid(child, &status, 0), child);
      CHECK(now_ns() - began < LONG_ENOUGH);
      if (KINDS[kind].signal) CHECK(WIFSIGNALED(status) && WTERMSIG(status) == KINDS[kind].signal);
      else CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
  }
  close(disk);
}

/* What a ring leaves of a program that is executed: nothing. */
TEST(a_program_that_is_executed_inherits_no_descriptor) {
  int fds[2];
  char found[8192] = "";
  CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
  paluring_ring *own = ring_open(PALURING_MODE_OWNER, 8, 0);
  int event = -1;
  CHECK_EQ(paluring_ring_event_fd(own, &event), 0);
  CHECK_EQ(paluring_ring_prepare(own), 0);
  pid_t child = raw_fork(); /* whose handlers would close them */
  CHECK(child >= 0);
  if (child == 0) {
    dup2(fds[1], STDOUT_FILENO);
    execl("/bin/ls", "ls", "-l", "/proc/self/fd", (char *)NULL);
    _exit(1);
  }
  close(fds[1]);
  size_t at = 0;
  for (ssize_t got; (got = read(fds[0], found + at, sizeof found - 1 - at)) > 0;) at += (size_t)got;
  close(fds[0]);
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(strstr(found, "pipe:") != NULL); /* its standard output */
  CHECK(strstr(found, "io_uring") == NULL && strstr(found, "eventfd") == NULL);
  ring_done(own);
}

int main(void) {
  RUN(a_process_that_ends_in_any_way_with_ios_in_flight_is_gone_soon);
  RUN(a_program_that_is_executed_inherits_no_descriptor);
  return harness_end();
}
