/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The same by hand: the driver sleeps in a ring of its own, tuned as well as it goes, is woken by a
 * read of an eventfd or by a message, then submits the NOP, and gets it.
 */
#include "threads.h"

#ifndef HAVE_LIBURING

#define INSTALL "needs liburing at build time: apt-get install liburing-dev"
const struct peer latency_read = {"raw: eventfd read", INSTALL, NULL, NULL, NULL, NULL};
const struct peer latency_message = {"raw: message", INSTALL, NULL, NULL, NULL, NULL};

#else

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WOKEN = 1, NOP = 2 };
enum { REGISTER_SEND_MSG_RING = 31 }; /* which liburing may not know yet */

struct state {
    struct trip trip;
    const struct scene *scene;
    struct io_uring ring;
    bool by_message;
    int fd;
    uint64_t memory; /* that the eventfd is read into */
    uint64_t begun;
};

static void wait_for(struct state *state) {
    int status = io_uring_submit_and_wait(&state->ring, 1);
    if (status < 0 && status != -EINTR) {
        die("io_uring_submit_and_wait", strerror(-status));
    }
}

static void arm(struct state *state) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&state->ring);
    io_uring_prep_read(sqe, state->fd, &state->memory, sizeof state->memory, 0);
    io_uring_sqe_set_data64(sqe, WOKEN);
}

static void woken(struct state *state) {
    if (!state->by_message) {
        arm(state);
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(&state->ring);
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data64(sqe, NOP);
}

static void drive(void *opaque, uint64_t count) {
    struct state *state = opaque;
    uint64_t end = atomic_load(&state->trip.ended) + count;
    while (atomic_load(&state->trip.ended) < end) {
        wait_for(state);
        struct io_uring_cqe *cqe;
        while (io_uring_peek_cqe(&state->ring, &cqe) == 0) {
            uint64_t what = io_uring_cqe_get_data64(cqe);
            if (cqe->res < 0) {
                die("liburing completion", strerror(-cqe->res));
            }
            io_uring_cqe_seen(&state->ring, cqe);
            if (what == WOKEN) {
                woken(state);
            } else {
                end_trip(&state->trip, state->scene->sink);
            }
        }
    }
}

static void send_message(struct state *state) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_MSG_RING, .fd = state->ring.ring_fd, .off = WOKEN};
    if (syscall(SYS_io_uring_register, -1, REGISTER_SEND_MSG_RING, &sqe, 1) < 0) {
        die("IORING_REGISTER_SEND_MSG_RING", strerror(errno));
    }
}

static void produce(void *opaque, uint32_t index, uint64_t count) {
    struct state *state = opaque;
    (void)index;
    for (uint64_t i = 0; i < count; i++) {
        await_sleep(&state->trip, state->begun++);
        begin_trip(&state->trip);
        if (state->by_message) {
            send_message(state);
        } else {
            eventfd_write(state->fd, 1);
        }
    }
}

static struct state *open_with(const struct scene *scene, bool by_message) {
    struct state *state = aligned_alloc(128, (sizeof *state + 127) / 128 * 128);
    if (state == NULL) {
        die("memory", strerror(ENOMEM));
    }
    memset(state, 0, sizeof *state);
    state->scene = scene;
    state->by_message = by_message;
    int status = io_uring_queue_init(
        ENTRIES, &state->ring,
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL);
    if (status == 0) {
        status = io_uring_register_ring_fd(&state->ring);
    }
    if (status < 0) {
        die("io_uring_queue_init", strerror(-status));
    }
    state->fd = eventfd(0, EFD_CLOEXEC);
    return state;
}

static void *open_read(const struct scene *scene) {
    struct state *state = open_with(scene, false);
    arm(state);
    return state;
}

static void *open_message(const struct scene *scene) {
    return open_with(scene, true);
}

static void close_state(void *opaque, struct counts *counts) {
    struct state *state = opaque;
    (void)counts;
    eventfd_write(state->fd, 1); /* ends the read, whose memory is about to go */
    if (!state->by_message) {
        struct io_uring_cqe *cqe;
        io_uring_submit_and_wait(&state->ring, 1);
        if (io_uring_wait_cqe(&state->ring, &cqe) == 0) {
            io_uring_cqe_seen(&state->ring, cqe);
        }
    }
    io_uring_queue_exit(&state->ring);
    close(state->fd);
    free(state);
}

const struct peer latency_read = {"raw: eventfd read", NULL, open_read, drive, produce, close_state};
const struct peer latency_message = {"raw: message", NULL, open_message, drive, produce, close_state};

#endif
