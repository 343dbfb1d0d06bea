/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * examples/hosts/epoll.c with a budget of one callback for each turn of the loop: there is nearly always something left.
 */
#include <paluring.h>

static inline int32_t process_one(paluring_ring *ring) { return paluring_ring_process(ring, 1); }
#define paluring_ring_process(ring, budget) process_one(ring)

#include "epoll.c"
