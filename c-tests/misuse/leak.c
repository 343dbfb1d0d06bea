/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A mistake that memory checkers must find: a buffer that nobody knows any more. */
#include "../harness.h"

static void lose_one(void) {
  paluring_buf *buf = NULL;
  paluring_buf_alloc(100, 0, &buf);
}

int main(void) {
  paluring_buf *other = NULL;
  lose_one();
  if (paluring_buf_alloc(1, 0, &other) != 0) return 77; /* over what the stack still remembers */
  paluring_buf_release(other);
  return 0;
}
