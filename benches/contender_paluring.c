/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * This library: one loop for each way of getting results.
 */
#include "load.h"

#include "paluring.h"

#include <stdlib.h>

struct state;

/* One of the I/Os in flight. */
struct slot {
    struct state *state;
    paluring_buf *buf;
    paluring_io io; /* 0 = not in flight; poll alone uses it */
};

struct state {
    struct load load;
    int32_t expected;
    paluring_ring *ring;
    uint64_t to_start;
    uint64_t done;
    uint64_t random;
    uint32_t flags;
    uint32_t batched; /* of ops */
    paluring_complete_fn callback;
    paluring_op *ops; /* one, or for batches `depth` of them */
    paluring_completion *completions;
    struct slot *slots;
};

static _Noreturn void fail(const char *what, int32_t status) {
    die(what, paluring_strerror(status));
}

/* Describes the next I/O of a slot. A NOP's op is a template that stays as it is. */
static inline void describe(struct state *state, struct slot *slot, paluring_op *op) {
    if (state->load.work == WORK_READ) {
        paluring_op_read(op, state->load.fd, slot->buf, 0, BLOCK, next_offset(&state->random));
        op->callback = state->callback;
        op->flags = state->flags;
    }
    op->user_data = (uintptr_t)slot;
}

static inline void start(struct state *state, struct slot *slot, paluring_io *out_io) {
    state->to_start--;
    describe(state, slot, state->ops);
    int32_t status = paluring_io_start(state->ring, state->ops, out_io);
    if (status < 0) {
        fail("start", status);
    }
}

static inline void finish(struct state *state, const paluring_completion *completion) {
    if (completion->result != state->expected) {
        fail("completion", completion->result);
    }
    state->done++;
}

/* --- callback: each completion's callback starts the next --- */

static void restart(uintptr_t user_data, paluring_completion *completion) {
    struct slot *slot = (struct slot *)user_data;
    struct state *state = slot->state;
    finish(state, completion);
    if (state->to_start != 0) {
        start(state, slot, NULL);
    }
}

static void count(uintptr_t user_data, paluring_completion *completion) {
    finish(((struct slot *)user_data)->state, completion);
}

static inline void run_ring(struct state *state) {
    int32_t status = paluring_ring_run(state->ring, 1, -1);
    if (status < 0) {
        fail("run", status);
    }
}

static inline void prime(struct state *state) {
    for (uint32_t i = 0; i < state->load.depth && state->to_start != 0; i++) {
        start(state, &state->slots[i], NULL);
    }
}

static void run_callback(void *opaque, uint64_t total) {
    struct state *state = opaque;
    state->to_start = total;
    state->done = 0;
    if (state->load.depth == 1) { /* start, run, callback */
        while (state->to_start != 0) {
            start(state, &state->slots[0], NULL);
            run_ring(state);
        }
    }
    prime(state);
    while (state->done < total) {
        run_ring(state);
    }
}

/* --- batch: callbacks describe the next I/Os, which are started together --- */

static void collect(uintptr_t user_data, paluring_completion *completion) {
    struct slot *slot = (struct slot *)user_data;
    struct state *state = slot->state;
    finish(state, completion);
    if (state->to_start != 0) {
        state->to_start--;
        describe(state, slot, &state->ops[state->batched++]);
    }
}

static inline void start_batch(struct state *state) {
    if (state->batched == 0) {
        return;
    }
    int32_t started = paluring_io_start_batch(state->ring, state->ops, state->batched, NULL);
    if (started < 0 || (uint32_t)started != state->batched) {
        fail("start_batch", started);
    }
    state->batched = 0;
}

static void run_batch(void *opaque, uint64_t total) {
    struct state *state = opaque;
    state->to_start = total;
    state->done = 0;
    for (uint32_t i = 0; i < state->load.depth && state->to_start != 0; i++) {
        state->to_start--;
        describe(state, &state->slots[i], &state->ops[state->batched++]);
    }
    while (state->done < total) {
        start_batch(state);
        run_ring(state);
    }
}

/* --- poll: no callback; each handle is asked whether it is done --- */

static void run_poll(void *opaque, uint64_t total) {
    struct state *state = opaque;
    state->to_start = total;
    state->done = 0;
    for (uint32_t i = 0; i < state->load.depth && state->to_start != 0; i++) {
        start(state, &state->slots[i], &state->slots[i].io);
    }
    uint32_t next = 0;
    while (state->done < total) {
        int32_t ready = paluring_ring_wait(state->ring, 1, -1);
        if (ready < 0) {
            fail("wait", ready);
        }
        for (uint32_t asked = 0; ready > 0 && asked < state->load.depth; asked++) {
            struct slot *slot = &state->slots[next];
            next = next + 1 == state->load.depth ? 0 : next + 1;
            if (slot->io == 0) {
                continue;
            }
            paluring_completion completion;
            int32_t status = paluring_io_poll(state->ring, slot->io, NULL, 0, &completion);
            if (status < 0) {
                fail("poll", status);
            }
            if (status == 1) {
                ready--;
                slot->io = 0;
                finish(state, &completion);
                if (state->to_start != 0) {
                    start(state, slot, &slot->io);
                }
            }
        }
    }
}

/* --- reap: completions are queued, and taken by the array --- */

static void run_reap(void *opaque, uint64_t total) {
    struct state *state = opaque;
    state->to_start = total;
    state->done = 0;
    prime(state);
    while (state->done < total) {
        int32_t taken =
            paluring_ring_reap(state->ring, 1, -1, state->completions, state->load.depth);
        if (taken < 0) {
            fail("reap", taken);
        }
        for (int32_t i = 0; i < taken; i++) {
            finish(state, &state->completions[i]);
            if (state->to_start != 0) {
                start(state, (struct slot *)state->completions[i].user_data, NULL);
            }
        }
    }
}

/* --- open and close --- */

static paluring_ring *open_ring(void) {
    paluring_ring_options options;
    paluring_ring_options_init(&options, sizeof options);
    options.entries = ENTRIES;
    options.cq_entries = CQ_ENTRIES;
    options.max_in_flight = MAX_DEPTH;
    paluring_ring *ring;
    int32_t status = paluring_ring_open(&options, &ring);
    if (status < 0) {
        const char *reason = paluring_ring_unavailable_reason();
        die("open", reason[0] != '\0' ? reason : paluring_strerror(status));
    }
    return ring;
}

/* A buffer for each slot, side by side in one piece of memory, as liburing's are. */
static void alloc_buffers(struct state *state) {
    paluring_buf *all;
    int32_t status = paluring_buf_alloc((size_t)state->load.depth * BLOCK, BLOCK, &all);
    for (uint32_t i = 0; i < state->load.depth && status == 0; i++) {
        status = paluring_buf_slice(all, (size_t)i * BLOCK, BLOCK, &state->slots[i].buf);
    }
    if (status < 0) {
        fail("buffers", status);
    }
    paluring_buf_release(all);
}

static struct state *open_with(const struct load *load, paluring_complete_fn callback,
                               uint32_t flags) {
    struct state *state = must_alloc(1, sizeof *state);
    state->load = *load;
    state->expected = expected_result(load);
    state->random = SEED;
    state->callback = callback;
    state->flags = flags;
    state->ring = open_ring();
    state->ops = must_alloc(load->depth, sizeof *state->ops);
    state->completions = must_alloc(load->depth, sizeof *state->completions);
    state->slots = must_alloc(load->depth, sizeof *state->slots);
    for (uint32_t i = 0; i < load->depth; i++) {
        paluring_op_nop(&state->ops[i]);
        state->ops[i].callback = callback;
        state->ops[i].flags = flags;
        state->slots[i].state = state;
    }
    if (load->work == WORK_READ) {
        alloc_buffers(state);
    }
    return state;
}

static void *open_callback(const struct load *load) {
    return open_with(load, load->depth == 1 ? count : restart, 0);
}

static void *open_batch(const struct load *load) {
    return open_with(load, collect, 0);
}

static void *open_poll(const struct load *load) {
    return open_with(load, NULL, 0);
}

static void *open_reap(const struct load *load) {
    return open_with(load, NULL, PALURING_OP_QUEUE);
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    int32_t status = paluring_ring_close(state->ring, -1);
    if (status != 0) {
        fail("close", status);
    }
    paluring_ring_release(state->ring);
    for (uint32_t i = 0; i < state->load.depth; i++) {
        paluring_buf_release(state->slots[i].buf);
    }
    free(state->slots);
    free(state->completions);
    free(state->ops);
    free(state);
}

const struct contender paluring_contenders[] = {
    {"callback", NULL, open_callback, run_callback, close_state},
    {"batch", NULL, open_batch, run_batch, close_state},
    {"poll", NULL, open_poll, run_poll, close_state},
    {"reap", NULL, open_reap, run_reap, close_state},
};
const size_t paluring_contender_count = sizeof paluring_contenders / sizeof paluring_contenders[0];
