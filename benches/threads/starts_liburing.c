/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What programs with liburing do: a ring with flags 0 behind a mutex, in which each producer submits
 * its own, and one thread, the main one here, that waits for completions.
 */
#include "threads.h"

#ifndef HAVE_LIBURING

#define INSTALL "needs liburing at build time: apt-get install liburing-dev"
const struct peer liburing_one = {"mutex, one by one", INSTALL, NULL, NULL, NULL, NULL};
const struct peer liburing_batches = {"mutex, batches of 8", INSTALL, NULL, NULL, NULL, NULL};
const char *const liburing_version = NULL;

#else

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#ifdef IO_URING_VERSION_MAJOR
const char *const liburing_version = TEXT(IO_URING_VERSION_MAJOR) "." TEXT(IO_URING_VERSION_MINOR);
#else
const char *const liburing_version = "2.3 or older";
#endif

static const uint64_t one = 1;

struct state {
    struct scene scene;
    int32_t expected;
    struct io_uring ring;
    pthread_mutex_t mutex;
    int fds[MAX_PRODUCERS];
    struct window windows[MAX_PRODUCERS];
};

static void drive(void *opaque, uint64_t count) {
    struct state *state = opaque;
    for (uint64_t done = 0; done < count; done++) {
        struct io_uring_cqe *cqe;
        int status;
        while ((status = io_uring_wait_cqe(&state->ring, &cqe)) == -EINTR) {
        }
        if (status < 0) {
            die("io_uring_wait_cqe", strerror(-status));
        }
        if (cqe->res != state->expected) {
            die("liburing completion", strerror(-cqe->res));
        }
        struct window *window = io_uring_cqe_get_data(cqe);
        io_uring_cqe_seen(&state->ring, cqe);
        window_done(window);
    }
}

static void submit(struct state *state, uint32_t index, uint32_t count) {
    pthread_mutex_lock(&state->mutex);
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&state->ring);
        if (sqe == NULL) {
            die("liburing", "submission queue full");
        }
        if (state->scene.task == TASK_WRITE) {
            io_uring_prep_write(sqe, state->fds[index], &one, sizeof one, 0);
        } else {
            io_uring_prep_nop(sqe);
        }
        io_uring_sqe_set_data(sqe, &state->windows[index]);
    }
    int status = io_uring_submit(&state->ring);
    pthread_mutex_unlock(&state->mutex);
    if (status != (int)count) {
        die("io_uring_submit", strerror(-status));
    }
}

static void produce(struct state *state, uint32_t index, uint64_t count, uint32_t batch) {
    while (count > 0) {
        uint32_t taken = window_take(&state->windows[index], count < batch ? count : batch);
        submit(state, index, taken);
        count -= taken;
    }
}

static void produce_one(void *opaque, uint32_t index, uint64_t count) {
    produce(opaque, index, count, 1);
}

static void produce_batches(void *opaque, uint32_t index, uint64_t count) {
    produce(opaque, index, count, BATCH);
}

static void *open_state(const struct scene *scene) {
    struct state *state = aligned_alloc(128, (sizeof *state + 127) / 128 * 128);
    if (state == NULL) {
        die("memory", strerror(ENOMEM));
    }
    memset(state, 0, sizeof *state);
    state->scene = *scene;
    state->expected = scene->task == TASK_WRITE ? 8 : 0;
    int status = io_uring_queue_init(QUEUE, &state->ring, 0);
    if (status < 0) {
        die("io_uring_queue_init", strerror(-status));
    }
    pthread_mutex_init(&state->mutex, NULL);
    open_windows(state->windows, scene);
    for (uint32_t i = 0; i < scene->producers; i++) {
        state->fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    return state;
}

static void close_state(void *opaque, struct counts *counts) {
    struct state *state = opaque;
    (void)counts;
    io_uring_queue_exit(&state->ring);
    pthread_mutex_destroy(&state->mutex);
    for (uint32_t i = 0; i < state->scene.producers; i++) {
        close(state->fds[i]);
    }
    free(state);
}

const struct peer liburing_one = {"mutex, one by one", NULL,        open_state,
                                  drive,               produce_one, close_state};
const struct peer liburing_batches = {"mutex, batches of 8", NULL,            open_state,
                                      drive,                 produce_batches, close_state};

#endif
