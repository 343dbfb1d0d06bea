/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The layout of the public structs, as programs are compiled with it. Compiled as C11 and as C++11.
 * paluring_op and paluring_completion never change; every other struct begins with its size and
 * ends in reserved space, and its members stay where they are. */
#include <paluring.h>
#include <stddef.h>

#ifdef __cplusplus
#define ASSERT(fact) static_assert(fact, #fact)
#else
#define ASSERT(fact) _Static_assert(fact, #fact)
#endif
#define AT(type, member, offset) ASSERT(offsetof(type, member) == (offset))

/* Offsets are those of 64-bit targets; there is no other yet. */
ASSERT(sizeof(void *) == 8);

ASSERT(sizeof(paluring_op) == 128);
AT(paluring_op, callback, 0);
AT(paluring_op, user_data, 8);
AT(paluring_op, timeout_ns, 16);
AT(paluring_op, flags, 24);
AT(paluring_op, rw_flags, 28);
AT(paluring_op, ioprio, 32);
AT(paluring_op, personality, 34);
AT(paluring_op, reserved, 36);
AT(paluring_op, private_, 40);

ASSERT(sizeof(paluring_completion) == 64);
AT(paluring_completion, io, 0);
AT(paluring_completion, user_data, 8);
AT(paluring_completion, buf, 16);
AT(paluring_completion, extra, 24);
AT(paluring_completion, result, 32);
AT(paluring_completion, flags, 36);
AT(paluring_completion, opcode, 40);
AT(paluring_completion, reserved0, 44);
AT(paluring_completion, reserved, 48);

AT(paluring_ring_options, size, 0);
AT(paluring_ring_options, mode, 4);
AT(paluring_ring_options, entries, 8);
AT(paluring_ring_options, cq_entries, 12);
AT(paluring_ring_options, max_in_flight, 16);
AT(paluring_ring_options, max_files, 20);
AT(paluring_ring_options, flags, 24);
AT(paluring_ring_options, sqpoll_idle_ms, 28);
AT(paluring_ring_options, sqpoll_cpu, 32);
AT(paluring_ring_options, background_cpu, 36);
AT(paluring_ring_options, backend, 40);
AT(paluring_ring_options, attach, 48);
AT(paluring_ring_options, reserved, 56);
ASSERT(sizeof(paluring_ring_options) == 88);

AT(paluring_capabilities, size, 0);
ASSERT(sizeof(((paluring_capabilities *)0)->size) == 4);
ASSERT(sizeof(paluring_capabilities) == offsetof(paluring_capabilities, reserved) + sizeof(((paluring_capabilities *)0)->reserved));

AT(paluring_stats, size, 0);
ASSERT(sizeof(((paluring_stats *)0)->size) == 4);
ASSERT(sizeof(paluring_stats) == offsetof(paluring_stats, reserved) + sizeof(((paluring_stats *)0)->reserved));

ASSERT(sizeof(paluring_io) == 8);
ASSERT(sizeof(paluring_complete_fn) == sizeof(void *));
