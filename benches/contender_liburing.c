/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * liburing, as most programs use it (flags 0) and as well as it can be used.
 */
#include "load.h"

#ifndef HAVE_LIBURING

#define INSTALL "needs liburing at build time: apt-get install liburing-dev"
const struct contender liburing_contenders[] = {
    {"liburing-0", INSTALL, NULL, NULL, NULL},
    {"liburing-tuned", INSTALL, NULL, NULL, NULL},
};
const char *const liburing_version = NULL;

#else

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

/* An older liburing can't run a ring without the index array, and its header lacks the flag. */
#ifdef IORING_SETUP_NO_SQARRAY
#define NO_SQARRAY IORING_SETUP_NO_SQARRAY
#else
#define NO_SQARRAY 0u
#endif

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#ifdef IO_URING_VERSION_MAJOR
const char *const liburing_version = TEXT(IO_URING_VERSION_MAJOR) "." TEXT(IO_URING_VERSION_MINOR);
#else
const char *const liburing_version = "2.3 or older";
#endif

struct state;

struct slot {
    struct state *state;
    unsigned char *memory;
};

struct state {
    struct load load;
    int32_t expected;
    uint64_t to_start;
    uint64_t done;
    uint64_t random;
    struct io_uring ring;
    unsigned char *memory;
    struct slot *slots;
};

static inline void prepare(struct state *state, struct slot *slot) {
    state->to_start--;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&state->ring);
    if (sqe == NULL) {
        die("liburing", "submission queue full");
    }
    if (state->load.work == WORK_READ) {
        io_uring_prep_read(sqe, state->load.fd, slot->memory, BLOCK, next_offset(&state->random));
    } else {
        io_uring_prep_nop(sqe);
    }
    io_uring_sqe_set_data(sqe, slot);
}

static void run(void *opaque, uint64_t total) {
    struct state *state = opaque;
    state->to_start = total;
    state->done = 0;
    for (uint32_t i = 0; i < state->load.depth && state->to_start != 0; i++) {
        prepare(state, &state->slots[i]);
    }
    while (state->done < total) {
        int status = io_uring_submit_and_wait(&state->ring, 1);
        if (status < 0 && status != -EINTR) {
            die("io_uring_submit_and_wait", strerror(-status));
        }
        unsigned head;
        unsigned seen = 0;
        struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(&state->ring, head, cqe) {
            struct slot *slot = io_uring_cqe_get_data(cqe);
            if (cqe->res != state->expected) {
                die("liburing completion", strerror(-cqe->res));
            }
            seen++;
            if (state->to_start != 0) {
                prepare(slot->state, slot);
            }
        }
        io_uring_cq_advance(&state->ring, seen);
        state->done += seen;
    }
}

static struct state *open_with(const struct load *load, unsigned flags) {
    struct state *state = must_alloc(1, sizeof *state);
    state->load = *load;
    state->expected = expected_result(load);
    state->random = SEED;
    int status = io_uring_queue_init(ENTRIES, &state->ring, flags);
    if (status == -EINVAL && (flags & NO_SQARRAY) != 0) {
        status = io_uring_queue_init(ENTRIES, &state->ring, flags & ~NO_SQARRAY);
    }
    if (status < 0) {
        die("io_uring_queue_init", strerror(-status));
    }
    state->slots = must_alloc(load->depth, sizeof *state->slots);
    state->memory = aligned_alloc(BLOCK, (size_t)load->depth * BLOCK);
    if (state->memory == NULL) {
        die("memory", strerror(ENOMEM));
    }
    memset(state->memory, 0, (size_t)load->depth * BLOCK);
    for (uint32_t i = 0; i < load->depth; i++) {
        state->slots[i].state = state;
        state->slots[i].memory = state->memory + (size_t)i * BLOCK;
    }
    return state;
}

static void *open_plain(const struct load *load) {
    return open_with(load, 0);
}

static void *open_tuned(const struct load *load) {
    struct state *state = open_with(load, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_SUBMIT_ALL | NO_SQARRAY);
    int status = io_uring_register_ring_fd(&state->ring);
    if (status < 0) {
        die("io_uring_register_ring_fd", strerror(-status));
    }
    return state;
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    io_uring_queue_exit(&state->ring);
    free(state->slots);
    free(state->memory);
    free(state);
}

const struct contender liburing_contenders[] = {
    {"liburing-0", NULL, open_plain, run, close_state},
    {"liburing-tuned", NULL, open_tuned, run, close_state},
};

#endif

const size_t liburing_contender_count = sizeof liburing_contenders / sizeof liburing_contenders[0];
