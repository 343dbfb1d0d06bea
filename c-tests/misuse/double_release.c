/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A mistake that memory checkers must find: one reference is released twice. */
#include "../harness.h"

int main(void) {
  paluring_buf *buf = NULL;
  if (paluring_buf_alloc(100, 0, &buf) != 0) return 77;
  paluring_buf_release(buf);
  paluring_buf_release(buf);
  return 0;
}
