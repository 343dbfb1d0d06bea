/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A mistake that memory checkers must find: bytes are written after the buffer's last release. */
#include "../harness.h"

int main(void) {
  paluring_buf *buf = NULL;
  if (paluring_buf_alloc(100, 4096, &buf) != 0) return 77;
  volatile uint8_t *data = paluring_buf_data(buf);
  paluring_buf_release(buf);
  data[50] = 1;
  return 0;
}
