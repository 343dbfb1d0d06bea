/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A mistake that memory checkers must find: the reference of a read in flight is released, and the kernel writes. */
#include "../scene.h"

int main(void) {
  struct ends ends = open_pipe();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_buf *buf = new_buf(100);
  paluring_completion completion;
  paluring_io io = start_op(ring, read_op(ends.read, buf, NULL, NULL));
  paluring_ring_submit(ring);
  paluring_buf_release(buf);
  paluring_buf_release(buf); /* not ours: the read's */
  put_byte(ends);
  for (int tries = 0; tries < 1000 && paluring_io_poll(ring, io, NULL, 0, &completion) == 0; tries++) paluring_ring_wait(ring, 1, MS);
  printf("the read gave %s\n", paluring_status_name(completion.result));
  fflush(stdout);
  _exit(0); /* the ring would release it once more */
}
