/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Producers that start I/Os on an OWNER ring, which the main thread runs.
 */
#include "threads.h"

#include "paluring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct state;

struct producer {
    struct window *window;
    struct state *state;
    int fd;
    paluring_op ops[BATCH];
};

struct state {
    struct scene scene;
    int32_t expected;
    uint64_t done;
    paluring_ring *ring;
    paluring_buf *buf; /* a 1, as eventfds take it */
    struct window windows[MAX_PRODUCERS];
    struct producer producers[MAX_PRODUCERS];
};

static _Noreturn void fail(const char *what, int32_t status) {
    die(what, paluring_strerror(status));
}

static void complete(uintptr_t user_data, paluring_completion *completion) {
    struct producer *producer = (struct producer *)user_data;
    if (completion->result != producer->state->expected) {
        fail("completion", completion->result);
    }
    producer->state->done++;
    window_done(producer->window);
}

static void drive(void *opaque, uint64_t count) {
    struct state *state = opaque;
    for (state->done = 0; state->done < count;) {
        int32_t status = paluring_ring_run(state->ring, 1, -1);
        if (status < 0) {
            fail("run", status);
        }
    }
}

static void produce_one(void *opaque, uint32_t index, uint64_t count) {
    struct state *state = opaque;
    struct producer *producer = &state->producers[index];
    for (uint64_t i = 0; i < count; i++) {
        window_take(producer->window, 1);
        int32_t status = paluring_io_start(state->ring, producer->ops, NULL);
        if (status < 0) {
            fail("start", status);
        }
    }
}

static void produce_batches(void *opaque, uint32_t index, uint64_t count) {
    struct state *state = opaque;
    struct producer *producer = &state->producers[index];
    while (count > 0) {
        uint32_t taken = window_take(producer->window, count < BATCH ? count : BATCH);
        int32_t status = paluring_io_start_batch(state->ring, producer->ops, taken, NULL);
        if (status != (int32_t)taken) {
            fail("start_batch", status);
        }
        count -= taken;
    }
}

static void open_producer(struct state *state, uint32_t index) {
    struct producer *producer = &state->producers[index];
    producer->window = &state->windows[index];
    producer->state = state;
    producer->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (uint32_t i = 0; i < BATCH; i++) {
        paluring_op *op = &producer->ops[i];
        paluring_op_nop(op);
        if (state->scene.task == TASK_WRITE) {
            paluring_op_write(op, producer->fd, state->buf, 0, 8, 0);
        }
        op->callback = complete;
        op->user_data = (uintptr_t)producer;
    }
}

static void *open_state(const struct scene *scene) {
    struct state *state = aligned_alloc(128, (sizeof *state + 127) / 128 * 128);
    if (state == NULL) {
        die("memory", "none");
    }
    memset(state, 0, sizeof *state);
    state->scene = *scene;
    state->expected = scene->task == TASK_WRITE ? 8 : 0;
    paluring_ring_options options;
    paluring_ring_options_init(&options, sizeof options);
    options.entries = QUEUE;
    options.cq_entries = QUEUE * 2;
    options.max_in_flight = QUEUE * 2;
    int32_t status = paluring_ring_open(&options, &state->ring);
    if (status == 0) {
        status = paluring_buf_alloc(8, 8, &state->buf);
    }
    if (status < 0) {
        fail("open", status);
    }
    const uint64_t one = 1;
    memcpy(paluring_buf_data(state->buf), &one, sizeof one);
    open_windows(state->windows, scene);
    for (uint32_t i = 0; i < scene->producers; i++) {
        open_producer(state, i);
    }
    return state;
}

static void close_state(void *opaque, struct counts *counts) {
    struct state *state = opaque;
    paluring_stats stats = {.size = sizeof stats};
    paluring_ring_stats(state->ring, &stats);
    counts->ios += stats.total_started;
    counts->wakes += stats.total_wakes;
    counts->enters += stats.total_enters;
    int32_t status = paluring_ring_close(state->ring, -1);
    if (status != 0) {
        fail("close", status);
    }
    paluring_ring_release(state->ring);
    paluring_buf_release(state->buf);
    for (uint32_t i = 0; i < state->scene.producers; i++) {
        close(state->producers[i].fd);
    }
    free(state);
}

const struct peer start_one = {"start", NULL, open_state, drive, produce_one, close_state};
const struct peer start_batches = {"start_batch of 8", NULL,  open_state,
                                   drive,              produce_batches, close_state};
