/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Round trips of one I/O, waited for: on a BACKGROUND ring, whose thread drives; on an OWNER ring,
 * in the calling thread; and pread(2) there, without a ring.
 */
#include "threads.h"

#include "paluring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct state {
    const struct scene *scene;
    paluring_ring *ring;
    paluring_buf *buf;
    uint64_t random;
    uint32_t mode;
};

static _Noreturn void fail(const char *what, int32_t status) {
    die(what, paluring_strerror(status));
}

static void trip(struct state *state) {
    paluring_op op;
    paluring_io io;
    paluring_completion done;
    if (state->scene->task == TASK_READ) {
        paluring_op_read(&op, state->scene->fd, state->buf, 0, BLOCK, next_offset(&state->random));
    } else {
        paluring_op_nop(&op);
    }
    int32_t status = paluring_io_start(state->ring, &op, &io);
    while (status == 0 && (status = paluring_io_wait(state->ring, io, -1, &done)) == -EINTR) {
        status = 0;
    }
    if (status < 0) {
        fail("round trip", status);
    }
    paluring_buf_release(done.buf);
}

static void trip_of_pread(struct state *state) {
    void *into = paluring_buf_data(state->buf);
    if (state->scene->task == TASK_READ &&
        pread(state->scene->fd, into, BLOCK, (off_t)next_offset(&state->random)) != BLOCK) {
        die("pread", strerror(errno));
    }
}

static void open_ring(struct state *state) {
    paluring_ring_options options;
    paluring_ring_options_init(&options, sizeof options);
    options.mode = state->mode;
    int32_t status = paluring_ring_open(&options, &state->ring);
    if (status < 0) {
        fail("open", status);
    }
}

static void produce(void *opaque, uint32_t index, uint64_t count) {
    struct state *state = opaque;
    (void)index;
    if (state->ring == NULL && state->mode == PALURING_MODE_OWNER) {
        open_ring(state); /* it is bound to this thread */
    }
    for (uint64_t i = 0; i < count; i++) {
        double began = now_ns();
        if (state->ring != NULL) {
            trip(state);
        } else {
            trip_of_pread(state);
        }
        put_sample(state->scene->sink, now_ns() - began);
    }
}

static struct state *open_with(const struct scene *scene, uint32_t mode) {
    struct state *state = must_alloc(1, sizeof *state);
    *state = (struct state){.scene = scene, .random = SEED, .mode = mode};
    int32_t status = paluring_buf_alloc(BLOCK, BLOCK, &state->buf);
    if (status < 0) {
        fail("buffer", status);
    }
    return state;
}

static void *open_background(const struct scene *scene) {
    struct state *state = open_with(scene, PALURING_MODE_BACKGROUND);
    open_ring(state);
    return state;
}

static void *open_owner(const struct scene *scene) {
    return open_with(scene, PALURING_MODE_OWNER);
}

static void *open_pread(const struct scene *scene) {
    return open_with(scene, PALURING_MODE_BACKGROUND);
}

static void close_state(void *opaque, struct counts *counts) {
    struct state *state = opaque;
    (void)counts;
    /* A release closes: from the main thread an OWNER ring's close would be refused. */
    paluring_ring_release(state->ring);
    paluring_buf_release(state->buf);
    free(state);
}

const struct peer wait_background = {"BACKGROUND", NULL, open_background, NULL, produce, close_state};
const struct peer wait_owner = {"OWNER, same thread", NULL, open_owner, NULL, produce, close_state};
const struct peer wait_pread = {"pread", NULL, open_pread, NULL, produce, close_state};
