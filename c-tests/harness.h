/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What every C test includes, first of all headers.
 *
 *   TEST(a_name_that_says_what_it_proves) { ... CHECK(x); CHECK_EQ(got, want); ... }
 *   int main(void) { RUN(a_name_that_says_what_it_proves); return harness_end(); }
 *
 * CHECK* leave the function (which returns void) at the first failure; EXPECT* note it and go on, for
 * threads and for functions with a result; DO(call) leaves if the call noted a failure. In a table,
 * ROW(text) names the row in failures. A hang or a crash is a failure that names the test.
 * Prints one line per test; the program exits with 0, 1 (some failed), 77 (all skipped).
 */
#ifndef PALURING_TEST_HARNESS_H
#define PALURING_TEST_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "paluring.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define LONG_ENOUGH (10 * SECOND) /* what never takes so long, unless it hangs */
#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static struct harness {
  const char *test;
  const char *row;
  char reason[600];
  char skipped[200];
  atomic_flag noted;
  atomic_bool failed;
  int passes, failures, skips;
  int report; /* in a child: the pipe to the parent */
  int64_t began;
  char dir[256];
} harness = {.noted = ATOMIC_FLAG_INIT};

static inline int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

/* ---- failures ---- */

/* Notes a failure of the running test; the first one is kept. Any thread. */
__attribute__((format(printf, 3, 4))) static inline void harness_fail(const char *file, int line, const char *format, ...) {
  if (atomic_flag_test_and_set(&harness.noted)) return;
  char why[500];
  va_list args;
  va_start(args, format);
  vsnprintf(why, sizeof why, format, args);
  va_end(args);
  const char *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file, *row = harness.row;
  snprintf(harness.reason, sizeof harness.reason, "%s:%d: %s%s%s", name, line, row ? row : "", row ? ": " : "", why);
  atomic_store(&harness.failed, true);
}

/* "-22 (EINVAL)", "7" */
static inline const char *harness_number(char text[64], long long value) {
  const char *name = value < 0 && value >= INT32_MIN ? paluring_status_name((int32_t)value) : NULL;
  snprintf(text, 64, name ? "%lld (%s)" : "%lld", value, name);
  return text;
}

static inline bool harness_equal(const char *file, int line, const char *what, long long got, long long want) {
  char left[64], right[64];
  if (got == want) return true;
  harness_fail(file, line, "%s is %s, not %s", what, harness_number(left, got), harness_number(right, want));
  return false;
}

#define FAIL(...) do { harness_fail(__FILE__, __LINE__, __VA_ARGS__); return; } while (0)
#define CHECK(condition) do { if (!(condition)) FAIL("%s", "not true: " #condition); } while (0)
#define CHECK_EQ(got, want) do { if (!EXPECT_EQ(got, want)) return; } while (0)
#define EXPECT(condition) ((condition) ? (void)0 : harness_fail(__FILE__, __LINE__, "%s", "not true: " #condition))
#define EXPECT_EQ(got, want) harness_equal(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))
#define DO(call) do { call; if (atomic_load(&harness.failed)) return; } while (0)
#define ROW(text) (harness.row = (text))
#define SKIP(why) do { snprintf(harness.skipped, sizeof harness.skipped, "%s", why); return; } while (0)

/* ---- running ---- */

static inline void harness_say(const char *text) {
  if (write(harness.report ? harness.report : STDOUT_FILENO, text, strlen(text)) < 0) _exit(1);
}

/* A hang ends the program; a crash is told and then happens again, without this handler. */
static inline void harness_signal(int number) {
  if (!harness.report) harness_say("not ok - "), harness_say(harness.test ? harness.test : "no test"), harness_say(": ");
  if (harness.row) harness_say(harness.row), harness_say(": ");
  harness_say(number == SIGALRM ? "still running, hangs" : number == SIGABRT ? "aborted" : "crashed");
  if (!harness.report) harness_say("\n");
  if (number == SIGALRM) _exit(1);
}

/* A test may take 30 s, and the program 55 s: PALURING_TEST_SECONDS sets another limit for a test, without one for the program. */
static inline unsigned harness_limit(void) {
  const char *asked = getenv("PALURING_TEST_SECONDS");
  if (asked && atoi(asked) > 0) return (unsigned)atoi(asked);
  int64_t left = 55 - (now_ns() - harness.began) / SECOND;
  return left > 30 ? 30 : left > 1 ? (unsigned)left : 1;
}

/* How often a race is tried: `full` times, or PALURING_TEST_TRIES per cent of that where the machine is slow. */
static inline int tries(int full) {
  const char *percent = getenv("PALURING_TEST_TRIES");
  int64_t count = percent && atoi(percent) > 0 ? (int64_t)full * atoi(percent) / 100 : full;
  return count > 0 ? (int)count : 1;
}

static inline void harness_begin(void) {
  static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM};
  harness.began = now_ns();
  setvbuf(stdout, NULL, _IOLBF, 0); /* so that a forked child has nothing to print twice */
  for (size_t i = 0; i < COUNT_OF(fatal); i++) {
    struct sigaction action = {.sa_handler = harness_signal};
    action.sa_flags = (int)SA_RESETHAND;
    sigaction(fatal[i], &action, NULL);
  }
}

/* Why a test is not run here: PALURING_TEST_EXCEPT holds lines of `NAME: REASON`. NULL: it is. */
static inline const char *harness_exception(const char *name, char reason[200]) {
  size_t len = strlen(name);
  for (const char *line = getenv("PALURING_TEST_EXCEPT"); line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
    if (strncmp(line, name, len) != 0 || line[len] != ':') continue;
    snprintf(reason, 200, "%.*s", (int)strcspn(line + len + 1, "\n"), line + len + 1);
    return reason + strspn(reason, " ");
  }
  return NULL;
}

/* How often the kernel met memory that is none. Only in libraries with the feature unmap-freed. */
extern uint64_t paluring_test_efaults(void) __attribute__((weak));

static inline uint64_t harness_efaults(void) {
  return paluring_test_efaults ? paluring_test_efaults() : 0;
}

static inline void harness_run(const char *name, void (*test)(void)) {
  char reason[200];
  if (!harness.began) harness_begin();
  harness.test = name;
  harness.row = NULL;
  harness.skipped[0] = 0;
  atomic_store(&harness.failed, false);
  atomic_flag_clear(&harness.noted);
  if (harness_exception(name, reason)) {
    harness.skips++, printf("skip - %s: %s\n", name, harness_exception(name, reason));
    return;
  }
  alarm(harness_limit());
  uint64_t efaults = harness_efaults();
  test();
  if (harness_efaults() != efaults) harness_fail(__FILE__, __LINE__, "%s", "the kernel met memory that was freed: -EFAULT");
  alarm(0);
  if (atomic_load(&harness.failed)) harness.failures++, printf("not ok - %s: %s\n", name, harness.reason);
  else if (harness.skipped[0]) harness.skips++, printf("skip - %s: %s\n", name, harness.skipped);
  else harness.passes++, printf("ok - %s\n", name);
}

#define TEST(name) static void name(void)
#define RUN(name) harness_run(#name, name)

static inline int harness_remove(const char *path, const struct stat *s, int type, struct FTW *at) {
  (void)s, (void)type, (void)at;
  return remove(path);
}

/* Removes the temporary files; the exit code of the program. */
static inline int harness_end(void) {
  if (harness.dir[0]) nftw(harness.dir, harness_remove, 16, FTW_DEPTH | FTW_PHYS);
  return harness.failures ? 1 : harness.passes ? 0 : 77;
}

/* A fork that the C library doesn't see: no handlers of pthread_atfork run. */
static inline pid_t raw_fork(void) {
  return (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
}

/* Runs a function in a child made by fork or raw_fork; a failure there, or a crash, is one of the running test. */
static inline void in_child_of(pid_t (*make)(void), void (*body)(void *), void *argument) {
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  pid_t child = make();
  CHECK(child >= 0);
  if (child == 0) {
    harness.report = ends[1];
    alarm(20);
    body(argument);
    if (atomic_load(&harness.failed)) harness_say(harness.reason);
    _exit(atomic_load(&harness.failed) ? 1 : 0);
  }
  close(ends[1]);
  char reason[sizeof harness.reason] = "";
  for (ssize_t got = 1, at = 0; got > 0 && at < (ssize_t)sizeof reason - 1; at += got)
    got = read(ends[0], reason + at, sizeof reason - 1 - (size_t)at);
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (*reason) FAIL("in the child: %s", reason);
  if (!WIFEXITED(status) || WEXITSTATUS(status)) FAIL("the child ended with wait status %#x", (unsigned)status);
}

static inline void in_child(void (*body)(void *), void *argument) {
  in_child_of(fork, body, argument);
}

/* ---- files and the process ---- */

#define PATH_SIZE 512

/* Writes the path of a name in this program's temporary directory, on a disk where there is one. */
static inline const char *temp_path(char path[PATH_SIZE], const char *name) {
  if (!harness.dir[0]) {
    const char *parent = getenv("TMPDIR");
    snprintf(harness.dir, sizeof harness.dir, "%s/paluring-test-XXXXXX", parent ? parent : "/var/tmp");
    if (!mkdtemp(harness.dir)) perror(harness.dir), exit(1);
  }
  snprintf(path, PATH_SIZE, "%s/%s", harness.dir, name);
  return path;
}

/* Byte i of the test pattern of a seed: differs between seeds and between neighbours. */
static inline uint8_t pattern(size_t i, unsigned seed) {
  return (uint8_t)((i * 31 + (i >> 8) * 17 + seed * 101 + 7) & 0xff);
}

static inline void fill_pattern(void *data, size_t len, unsigned seed) {
  for (size_t i = 0; i < len; i++) ((uint8_t *)data)[i] = pattern(i, seed);
}

/* Whether data holds bytes from..from + len of the pattern. */
static inline bool has_pattern(const void *data, size_t len, size_t from, unsigned seed) {
  for (size_t i = 0; i < len; i++)
    if (((const uint8_t *)data)[i] != pattern(from + i, seed)) return false;
  return true;
}

/* Opens a new temporary file for reading and writing with len bytes of pattern(seed), position 0; -1 on failure. */
static inline int temp_file(const char *name, size_t len, unsigned seed) {
  char path[PATH_SIZE];
  int fd = open(temp_path(path, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  uint8_t *data = malloc(len + 1);
  bool whole = false;
  if (data) fill_pattern(data, len, seed), whole = fd >= 0 && pwrite(fd, data, len, 0) == (ssize_t)len;
  free(data);
  if (!whole) harness_fail(__FILE__, __LINE__, "temporary file %s: %s", path, strerror(errno));
  return fd;
}

static inline int count_fds(void) {
  int count = 0;
  DIR *dir = opendir("/proc/self/fd");
  while (dir && readdir(dir)) count++;
  if (dir) closedir(dir);
  return count - 3; /* ".", ".." and the directory's own */
}

static inline bool under_valgrind(void) {
  const char *preload = getenv("LD_PRELOAD");
  return preload && strstr(preload, "vgpreload");
}

/* Under valgrind or a sanitizer, which have a memory of their own. */
static inline bool is_instrumented(void) {
#ifdef __SANITIZE_ADDRESS__
  return true;
#else
  return under_valgrind();
#endif
}

static inline long resident_kib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "re");
  if (!file || fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
  if (file) fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* ---- rings ---- */

/* Opens a ring; 0 = the default of each. A failure is noted, with the reason why rings can't be opened, and gives NULL. */
static inline paluring_ring *ring_open(uint32_t mode, uint32_t entries, uint32_t max_in_flight) {
  paluring_ring_options options;
  paluring_ring *ring = NULL;
  paluring_ring_options_init(&options, sizeof options);
  options.mode = mode;
  options.entries = entries;
  options.max_in_flight = max_in_flight;
  int32_t status = paluring_ring_open(&options, &ring);
  if (status < 0)
    harness_fail(__FILE__, __LINE__, "ring_open: %s: %s", paluring_status_name(status), paluring_ring_unavailable_reason());
  return ring;
}

/* Closes a ring whose I/Os all end in time, and releases it. */
static inline void ring_done(paluring_ring *ring) {
  EXPECT_EQ(paluring_ring_close(ring, LONG_ENOUGH), 0);
  paluring_ring_release(ring);
}

/* Starts an operation (without callback, QUEUE and DETACHED), waits for it and gives its result; out may be NULL.
   A start or wait that fails is noted and gives its status. */
static inline int32_t do_op(paluring_ring *ring, const paluring_op *op, paluring_completion *out) {
  paluring_completion completion = {0};
  paluring_io io = 0;
  if (out) *out = completion;
  int32_t status = paluring_io_start(ring, op, &io);
  if (!EXPECT_EQ(status, 0)) return status;
  status = paluring_io_wait(ring, io, LONG_ENOUGH, &completion);
  if (!EXPECT_EQ(status, 0)) return status;
  EXPECT(completion.io == io);
  if (out) *out = completion;
  return completion.result;
}

/* What a callback saw; note_completion's user_data points to one. */
struct seen {
  atomic_int calls;
  paluring_completion last;
};

static inline void note_completion(uintptr_t user_data, paluring_completion *completion) {
  struct seen *seen = (struct seen *)user_data;
  seen->last = *completion;
  atomic_fetch_add(&seen->calls, 1);
}

/* Runs the ring until calls counts want callbacks; a failure is noted if that takes too long. */
static inline void run_until(paluring_ring *ring, atomic_int *calls, int want) {
  int64_t end = now_ns() + LONG_ENOUGH;
  while (atomic_load(calls) < want) {
    int32_t status = paluring_ring_run(ring, 1, 100 * MS);
    if (status < 0) FAIL("run: %s", paluring_status_name(status));
    if (now_ns() > end) FAIL("%d of %d callbacks after 10 s", atomic_load(calls), want);
  }
}

#endif
