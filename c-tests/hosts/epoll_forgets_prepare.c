/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * examples/hosts/epoll.c with a mistake: it goes to sleep without paluring_ring_prepare once in a hundred times. Its watchdog
 * must tell.
 */
#include <paluring.h>

static inline int32_t prepare_mostly(paluring_ring *ring) {
  static int calls;
  return ++calls % 100 == 0 ? 0 : paluring_ring_prepare(ring);
}
#define paluring_ring_prepare(ring) prepare_mostly(ring)

#include "epoll.c"
