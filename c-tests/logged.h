/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What debug builds tell the log of mistakes. */
#ifndef PALURING_TEST_LOGGED_H
#define PALURING_TEST_LOGGED_H

#include "harness.h"

static struct { int lines; char text[300]; } logged;

static inline void note_log(uintptr_t user_data, const char *text) {
  (void)user_data;
  logged.lines++;
  snprintf(logged.text, sizeof logged.text, "%s", text);
}

#define DEBUG_ONLY() do { \
    const char *set = getenv("PALURING_DEBUG_BUILD"); \
    if (!set || strcmp(set, "1") != 0) SKIP("debug-only (PALURING_DEBUG_BUILD=1 says that it is one)"); \
    logged.lines = 0; \
    paluring_log_set(note_log, 0); \
  } while (0)

/* One line, which names the function and what was wrong. */
static inline void check_logged(const char *function, const char *what) {
  if (logged.lines != 1) FAIL("%s: %d lines, the last: %s", function, logged.lines, logged.text);
  if (strncmp(logged.text, function, strlen(function)) != 0) FAIL("logged \"%s\", which doesn't name %s", logged.text, function);
  if (!strstr(logged.text, what)) FAIL("logged \"%s\", not \"%s\"", logged.text, what);
  CHECK(!strchr(logged.text, '\n'));
  logged.lines = 0;
}

#endif
