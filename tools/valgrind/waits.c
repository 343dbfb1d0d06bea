/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Preloaded under valgrind. Valgrind runs one thread at a time and doesn't know that io_uring_enter(2) may
 * sleep, so nobody else runs while a thread waits there, and what is to end the wait never happens. Here each wait
 * is made of looks, between which the others run. To the caller it is the same wait.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef long call_fn(long number, ...);

static call_fn *real_syscall(void) {
  static call_fn *found;
  if (!found) *(void **)&found = dlsym(RTLD_NEXT, "syscall");
  return found;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Lets the others run: at once, later for longer. False if a signal came. */
static int give_way(unsigned round) {
  struct timespec pause = {0, round < 100 ? 50000 : 1000000};
  return round < 20 ? sched_yield() == 0 : nanosleep(&pause, NULL) == 0;
}

static long wait_by_looking(const long enter[6]) {
  struct io_uring_getevents_arg asked = {0};
  int64_t end = -1;
  if (enter[3] & IORING_ENTER_EXT_ARG && enter[4]) asked = *(struct io_uring_getevents_arg *)enter[4];
  if (asked.ts) {
    struct __kernel_timespec *limit = (struct __kernel_timespec *)(uintptr_t)asked.ts;
    end = now_ns() + limit->tv_sec * 1000000000 + limit->tv_nsec;
  }
  long taken = 0;
  if (enter[1]) {
    taken = real_syscall()(SYS_io_uring_enter, enter[0], enter[1], 0L, enter[3] & ~(long)IORING_ENTER_GETEVENTS, enter[4], enter[5]);
    if (taken != enter[1]) return taken;
  }
  struct __kernel_timespec none = {0};
  struct io_uring_getevents_arg look = asked;
  look.ts = (uintptr_t)&none;
  for (unsigned round = 0;; round++) {
    long found = real_syscall()(SYS_io_uring_enter, enter[0], 0L, enter[2], enter[3] | IORING_ENTER_EXT_ARG, &look, sizeof look);
    if (found >= 0 || errno != ETIME || (end >= 0 && now_ns() >= end)) return taken ? taken : found;
    if (!give_way(round)) return taken ? taken : -1;
  }
}

long syscall(long number, ...) {
  long args[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) args[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_io_uring_enter && args[2] > 0 && args[3] & IORING_ENTER_GETEVENTS) return wait_by_looking(args);
  return real_syscall()(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
