/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Where the process may have no descriptor more, lock no memory, or make no call of io_uring: calls say so with a status, the
 * reason why rings are unavailable names the cause, and rings that are open still end well.
 */
#include "scene.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static bool reason_names(const char *word) {
  const char *reason = paluring_ring_unavailable_reason();
  if (*word ? strstr(reason, word) != NULL : !*reason) return true;
  /* The kernel gives an earlier ring's memory back late: it may have done so since the open failed. */
  if (!*reason && strcmp(word, "RLIMIT_MEMLOCK") == 0) return true;
  harness_fail(__FILE__, __LINE__, "the reason is \"%s\", without \"%s\"", reason, word);
  return false;
}

static int32_t open_status(uint32_t mode, uint32_t entries, paluring_ring **out) {
  paluring_ring_options options;
  paluring_ring_options_init(&options, sizeof options);
  options.mode = mode;
  options.entries = entries;
  int32_t status = paluring_ring_open(&options, out);
  EXPECT((status == 0) == (*out != NULL));
  return status;
}

/* A ring that is open does what it should. */
static void use(paluring_ring *ring) {
  atomic_int calls = 0;
  for (int i = 0; i < 4; i++) start_only(ring, nop_op(count_call, &calls));
  DO(run_until(ring, &calls, 4));
  ring_done(ring);
}

/* ---- descriptors ---- */

static void limit_descriptors(int count) {
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = (rlim_t)count;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static int first_free(void) {
  int fd = dup(STDERR_FILENO);
  close(fd);
  return fd;
}

/* With few to spare a ring opens or not, and what it then can't have is -EMFILE. */
static void use_with_few_descriptors(void *argument) {
  for (int spare = 0; spare <= 12; spare++) {
    uint32_t mode = *(uint32_t *)argument;
    int before = count_fds(), base = first_free(), fd = -1;
    paluring_ring *ring = NULL;
    struct seen seen = {0};
    paluring_op op;
    DO(limit_descriptors(base + spare));
    int32_t status = open_status(mode, 0, &ring);
    if (ring) {
      CHECK(paluring_ring_submit(ring) == 0); /* bound */
      for (int limit = spare; limit >= 0; limit--) {
        DO(limit_descriptors(base + limit));
        int32_t got = paluring_ring_event_fd(ring, &fd);
        CHECK((got == 0 && fd >= 0) || (got == -EMFILE && fd == -1));
        int32_t prepared = paluring_ring_prepare(ring);
        CHECK(prepared == got || (got == 0 && prepared >= 0));
        paluring_op_openat(&op, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
        op.callback = note_completion;
        op.user_data = (uintptr_t)&seen;
        start_only(ring, op);
        DO(run_until(ring, &seen.calls, 1));
        CHECK(seen.last.result >= 0 || seen.last.result == -EMFILE);
        if (seen.last.result >= 0) close(seen.last.result);
        seen.calls = 0;
      }
      DO(use(ring));
    } else {
      CHECK_EQ(status, -EMFILE);
      if (spare == 0) CHECK(reason_names("RLIMIT_NOFILE"));
    }
    DO(limit_descriptors(1024));
    CHECK_EQ(count_fds(), before);
  }
}

TEST(without_descriptors_calls_say_emfile_and_rings_go_on) {
  for (uint32_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    DO(in_child(use_with_few_descriptors, &mode));
  }
}

/* Each number of spare descriptors from none to enough: a status, nothing left behind, and all is well when there are more. */
static void open_with_few_descriptors(void *argument) {
  uint32_t mode = *(uint32_t *)argument;
  int opened = 0, refused = 0;
  for (int spare = 0; spare <= 12; spare++) {
    int before = count_fds(), base = first_free();
    paluring_ring *ring = NULL;
    paluring_op op = nop_op(NULL, NULL);
    DO(limit_descriptors(base + spare));
    int32_t status = open_status(mode, 0, &ring);
    status == 0 ? opened++ : refused++;
    if (status != 0) CHECK_EQ(status, -EMFILE);
    if (ring) CHECK_EQ(do_op(ring, &op, NULL), 0);
    if (ring) DO(ring_done(ring));
    CHECK(first_free() == base || spare == 0); /* none leaked, under the limit */
    DO(limit_descriptors(1024));
    CHECK_EQ(count_fds(), before);
    CHECK_EQ(open_status(mode, 0, &ring), 0);
    CHECK_EQ(do_op(ring, &op, NULL), 0);
    DO(ring_done(ring));
    CHECK_EQ(count_fds(), before);
  }
  CHECK(opened > 0 && refused > 0);
}

TEST(where_descriptors_run_out_an_open_says_emfile_leaks_none_and_succeeds_when_there_are_more) {
  for (size_t mode = 0; mode < COUNT_OF(ALL_MODES); mode++) {
    ROW(ALL_MODE_NAMES[mode]);
    uint32_t chosen = ALL_MODES[mode];
    DO(in_child(open_with_few_descriptors, &chosen));
  }
}

/* ---- memory that may be locked ---- */

static void use_with_little_locked_memory(void *argument) {
  rlim_t bytes = *(rlim_t *)argument;
  CHECK(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){bytes, bytes}) == 0);
  if (getuid() == 0) CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0); /* for root there is no limit */
  for (uint32_t entries = 1; entries <= 4096; entries *= 16) {
    for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
      paluring_ring *ring = NULL;
      int32_t status = open_status(HOST_MODES[mode], entries, &ring);
      if (status != 0) CHECK_EQ(status, -ENOMEM);
      if (status == -ENOMEM && entries == 1) CHECK(reason_names("RLIMIT_MEMLOCK"));
      if (ring) DO(use(ring));
    }
  }
  const char *reason = paluring_ring_unavailable_reason();
  CHECK(!*reason || strstr(reason, "RLIMIT_MEMLOCK"));
}

TEST(with_little_memory_that_may_be_locked_rings_open_smaller_or_say_enomem) {
  static rlim_t limits[] = {0, 4096, 16384, 65536};
  for (size_t i = 0; i < COUNT_OF(limits); i++) {
    char row[32];
    snprintf(row, sizeof row, "%lu bytes", (unsigned long)limits[i]);
    ROW(row);
    DO(in_child(use_with_little_locked_memory, &limits[i]));
  }
}

/* ---- calls that a filter forbids ---- */

static const struct { const char *name; unsigned number; } denied_calls[] = {
    {"setup", SYS_io_uring_setup}, {"enter", SYS_io_uring_enter}, {"register", SYS_io_uring_register}};

static void deny(unsigned number) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {COUNT_OF(filter), filter};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void open_where_denied(void *argument) {
  int before = count_fds();
  DO(deny(*(unsigned *)argument));
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    paluring_ring *ring = NULL;
    CHECK_EQ(open_status(HOST_MODES[mode], 0, &ring), -EPERM);
  }
  CHECK(reason_names("seccomp"));
  CHECK_EQ(count_fds(), before);
}

TEST(where_a_filter_forbids_any_of_its_calls_open_says_eperm_and_the_reason_names_it) {
  for (size_t i = 0; i < COUNT_OF(denied_calls); i++) {
    ROW(denied_calls[i].name);
    unsigned number = denied_calls[i].number;
    DO(in_child(open_where_denied, &number));
  }
}

struct later {
  uint32_t mode;
  unsigned number;
  bool bound;
};

/* A program that shuts itself in when its rings are open. */
static void deny_later(void *argument) {
  const struct later *later = argument;
  struct seen seen = {0};
  struct ends ends = open_pipe();
  int before = count_fds();
  paluring_ring *ring = ring_open(later->mode, 0, 0);
  CHECK(ring);
  start_only(ring, read_op(ends.read, new_buf(8), note_completion, &seen));
  if (later->bound) CHECK_EQ(paluring_ring_submit(ring), 1);
  DO(deny(later->number));
  int32_t status = paluring_ring_run(ring, 1, 10 * MS);
  bool works = later->number == SYS_io_uring_register && (later->bound || later->mode == PALURING_MODE_SHARED);
  works |= later->number == SYS_io_uring_setup;
  CHECK_EQ(status, works ? 0 : -EPERM);
  status = paluring_ring_close(ring, FOREVER);
  CHECK(status == 0 || (status == 1 && !works));
  CHECK_EQ(seen.calls, 1);
  CHECK_EQ(seen.last.result, status ? PALURING_ERR_ORPHANED : -ECANCELED);
  if (status) CHECK(quarantine_ends(ring));
  paluring_ring_release(ring);
  CHECK_EQ(count_fds(), before);
}

TEST(rings_whose_calls_are_forbidden_later_say_eperm_and_close) {
  for (size_t i = 0; i < 4 * COUNT_OF(denied_calls); i++) {
    struct later later = {.mode = HOST_MODES[i & 1], .number = denied_calls[i / 4].number, .bound = i & 2};
    char row[64];
    snprintf(row, sizeof row, "%s, %s, %s", denied_calls[i / 4].name, HOST_MODE_NAMES[i & 1], later.bound ? "driven" : "not driven yet");
    ROW(row);
    DO(in_child(deny_later, &later));
  }
}

int main(void) {
  RUN(without_descriptors_calls_say_emfile_and_rings_go_on);
  RUN(where_descriptors_run_out_an_open_says_emfile_leaks_none_and_succeeds_when_there_are_more);
  RUN(with_little_memory_that_may_be_locked_rings_open_smaller_or_say_enomem);
  RUN(where_a_filter_forbids_any_of_its_calls_open_says_eperm_and_the_reason_names_it);
  RUN(rings_whose_calls_are_forbidden_later_say_eperm_and_close);
  return harness_end();
}
