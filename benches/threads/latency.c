/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * From a start on one thread to its completion on another, which sleeps in the kernel: this
 * library's ways. The driver rests between the trips.
 */
#include "threads.h"

#include "paluring.h"

#include <stdlib.h>

struct state {
    struct trip trip;
    const struct scene *scene;
    paluring_ring *ring;
    paluring_op op;
    uint64_t begun;
};

static _Noreturn void fail(const char *what, int32_t status) {
    die(what, paluring_strerror(status));
}

static void complete(uintptr_t user_data, paluring_completion *completion) {
    struct state *state = (struct state *)user_data;
    (void)completion;
    end_trip(&state->trip, state->scene->sink);
}

static void run_until(struct state *state, uint64_t count, bool counts_returns) {
    uint64_t end = atomic_load(&state->trip.ended) + count;
    while (atomic_load(&state->trip.ended) < end) {
        int32_t status = paluring_ring_run(state->ring, 1, -1);
        if (status < 0) {
            fail("run", status);
        }
        if (counts_returns) {
            end_trip(&state->trip, state->scene->sink);
        }
    }
}

static void drive_starts(void *opaque, uint64_t count) {
    run_until(opaque, count, false);
}

static void drive_wakes(void *opaque, uint64_t count) {
    run_until(opaque, count, true);
}

static void produce_starts(void *opaque, uint32_t index, uint64_t count) {
    struct state *state = opaque;
    (void)index;
    for (uint64_t i = 0; i < count; i++) {
        await_sleep(&state->trip, state->begun++);
        begin_trip(&state->trip);
        int32_t status = paluring_io_start(state->ring, &state->op, NULL);
        if (status < 0) {
            fail("start", status);
        }
    }
}

static void produce_wakes(void *opaque, uint32_t index, uint64_t count) {
    struct state *state = opaque;
    (void)index;
    for (uint64_t i = 0; i < count; i++) {
        await_sleep(&state->trip, state->begun++);
        begin_trip(&state->trip);
        int32_t status = paluring_ring_wake(state->ring);
        if (status < 0) {
            fail("wake", status);
        }
    }
}

static void *open_state(const struct scene *scene) {
    struct state *state = aligned_alloc(128, (sizeof *state + 127) / 128 * 128);
    if (state == NULL) {
        die("memory", "none");
    }
    *state = (struct state){.scene = scene};
    int32_t status = paluring_ring_open(NULL, &state->ring);
    if (status < 0) {
        fail("open", status);
    }
    paluring_op_nop(&state->op);
    state->op.callback = complete;
    state->op.user_data = (uintptr_t)state;
    return state;
}

static void close_state(void *opaque, struct counts *counts) {
    struct state *state = opaque;
    paluring_stats stats = {.size = sizeof stats};
    paluring_ring_stats(state->ring, &stats);
    counts->ios += state->begun;
    counts->wakes += stats.total_wakes;
    counts->enters += stats.total_enters;
    int32_t status = paluring_ring_close(state->ring, -1);
    if (status != 0) {
        fail("close", status);
    }
    paluring_ring_release(state->ring);
    free(state);
}

const struct peer latency_start = {"start",       NULL,           open_state,
                                   drive_starts, produce_starts, close_state};
const struct peer latency_wake = {"ring_wake, no I/O", NULL,          open_state,
                                  drive_wakes,         produce_wakes, close_state};
