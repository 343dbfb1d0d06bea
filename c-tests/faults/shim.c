/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A library to preload that has calls of io_uring fail: all of them go through the C library's syscall().
 *
 *   PALURING_FAULT=CALL/WHEN/ERRNO/EVERY[/SKIP]   CALL enter, register, setup   WHEN before, after
 *   PALURING_FAULT_REPORT=FILE                    gets "calls failed" at exit
 *
 * Of the calls that follow the first SKIP, each EVERYth reports ERRNO. `before`: the kernel is not asked. `after`: it is, so
 * that it has done what was wanted, and the caller is told that it has not. (A ring set up so is closed again: nobody knows it.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
  long number; /* of the system call; -1: none fails */
  int error;
  long every, skip;
  bool after;
} fault = {.number = -1};

static atomic_long calls, failed;
static long (*real_syscall)(long, ...);

__attribute__((noreturn)) static void refuse(const char *text) {
  fprintf(stderr, "shim: PALURING_FAULT=%s is not CALL/WHEN/ERRNO/EVERY[/SKIP]\n", text);
  _exit(2);
}

__attribute__((constructor)) static void read_settings(void) {
  static const struct { const char *name; long number; } names[] = {
      {"enter", SYS_io_uring_enter}, {"register", SYS_io_uring_register}, {"setup", SYS_io_uring_setup}};
  char call[16], when[16];
  const char *text = getenv("PALURING_FAULT");
  *(void **)&real_syscall = dlsym(RTLD_NEXT, "syscall");
  if (!text) return;
  int got = sscanf(text, "%15[a-z]/%15[a-z]/%d/%ld/%ld", call, when, &fault.error, &fault.every, &fault.skip);
  for (size_t i = 0; got >= 4 && i < sizeof names / sizeof *names; i++)
    if (!strcmp(call, names[i].name)) fault.number = names[i].number;
  fault.after = got >= 4 && !strcmp(when, "after");
  if (fault.number < 0 || fault.every < 1 || !(fault.after || !strcmp(when, "before"))) refuse(text);
}

__attribute__((destructor)) static void report(void) {
  const char *path = getenv("PALURING_FAULT_REPORT");
  FILE *file = path ? fopen(path, "we") : NULL;
  if (file) fprintf(file, "%ld %ld\n", atomic_load(&calls), atomic_load(&failed)), fclose(file);
}

long syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  long place = number == fault.number ? atomic_fetch_add(&calls, 1) + 1 - fault.skip : 0;
  bool fails = place > 0 && place % fault.every == 0;
  if (fails && !fault.after) return atomic_fetch_add(&failed, 1), errno = fault.error, -1;
  long result = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (!fails || result < 0) return result; /* a call that fails by itself is told as it is */
  if (number == SYS_io_uring_setup) close((int)result);
  return atomic_fetch_add(&failed, 1), errno = fault.error, -1;
}
