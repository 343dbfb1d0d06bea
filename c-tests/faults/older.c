/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A library to preload that makes the kernel an older one: what PALURING_WITHOUT names, with commas between, is refused as
 * by a kernel that has never heard of it. The words are in the table. A program that opens a ring for one thread and
 * is refused nothing ends with status 1: what it was run for has not been tried.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PARAMS_FLAGS = 2 };   /* the third word of struct io_uring_params */
enum { R_DISABLED = 1 << 6 }; /* rings for one thread begin with it */

static const struct feature {
  const char *word;
  long call;
  uint32_t flag;   /* of io_uring_setup */
  uint32_t opcode; /* of io_uring_register */
} features[] = {
    {"no_sqarray", SYS_io_uring_setup, 1u << 16, 0},
    {"defer_taskrun", SYS_io_uring_setup, 1u << 13, 0},
    {"single_issuer", SYS_io_uring_setup, 1u << 12, 0},
    {"taskrun_flag", SYS_io_uring_setup, 1u << 9, 0},
    {"submit_all", SYS_io_uring_setup, 1u << 7, 0},
    {"ring_fds", SYS_io_uring_register, 0, 20},
    {"alloc_range", SYS_io_uring_register, 0, 25},
    {"send_msg_ring", SYS_io_uring_register, 0, 31},
    {"membarrier", SYS_membarrier, 0, 0},
};

enum { FEATURES = sizeof features / sizeof *features };

static bool lacks[FEATURES];
static atomic_long opened, refused;
static long (*real_syscall)(long, ...);

__attribute__((constructor)) static void read_settings(void) {
  char words[512];
  const char *text = getenv("PALURING_WITHOUT");
  *(void **)&real_syscall = dlsym(RTLD_NEXT, "syscall");
  snprintf(words, sizeof words, "%s", text ? text : "");
  for (char *word = strtok(words, ","); word; word = strtok(NULL, ",")) {
    size_t i = 0;
    while (i < FEATURES && strcmp(features[i].word, word) != 0) i++;
    if (i == FEATURES) fprintf(stderr, "older: no such word: %s\n", word), _exit(2);
    lacks[i] = true;
  }
}

__attribute__((destructor)) static void check(void) {
  if (!atomic_load(&opened) || atomic_load(&refused)) return;
  fprintf(stderr, "older: nothing was refused\n");
  _exit(1);
}

static uint32_t setup_flags(const long *arguments) {
  return ((const uint32_t *)arguments[1])[PARAMS_FLAGS];
}

static int refusal(long number, const long *arguments) {
  for (size_t i = 0; i < FEATURES; i++) {
    const struct feature *feature = &features[i];
    if (!lacks[i] || feature->call != number) continue;
    if (number == SYS_membarrier) return ENOSYS;
    if (number == SYS_io_uring_setup && (setup_flags(arguments) & feature->flag)) return EINVAL;
    if (number == SYS_io_uring_register && (uint32_t)arguments[1] == feature->opcode) return EINVAL;
  }
  return 0;
}

long syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  int error = refusal(number, a);
  if (error) {
    atomic_fetch_add(&refused, 1);
    errno = error;
    return -1;
  }
  long result = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (number == SYS_io_uring_setup && result >= 0 && (setup_flags(a) & R_DISABLED)) atomic_fetch_add(&opened, 1);
  return result;
}
