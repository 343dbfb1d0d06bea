/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The threads: producers that do what they are told, slice by slice.
 */
#ifndef POOL_H
#define POOL_H

#include "threads.h"

/* Makes the producers, once. With `apart` the main thread gets the last processor for itself, and
 * the producers share the others. */
void open_pool(bool apart);

/* One slice: `count` I/Os of the scene. → ns from the first producer's begin to the end of all. */
double run_slice(const struct peer *peer, void *state, const struct scene *scene, uint64_t count);

#endif
