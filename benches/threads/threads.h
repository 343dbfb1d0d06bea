/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What is measured with several threads, and who is measured.
 *
 * The main thread drives: it owns the rings, enters the kernel and gets the completions. Producers
 * start I/Os. A scene says what they do, a peer is one way of doing it; a table is what a scene's
 * figures are shown in.
 */
#ifndef THREADS_H
#define THREADS_H

#include "../load.h"

#include <stdatomic.h>
#include <time.h>

enum { MAX_PRODUCERS = 8, MAX_PEERS = 6, QUEUE = 1024, BATCH = 8 };

enum task { TASK_NOP, TASK_WRITE, TASK_READ };

/* Where measured times go, in ns. */
struct sink {
    double *values;
    size_t count;
    size_t capacity;
};

struct scene {
    enum task task;
    uint32_t producers;
    uint32_t in_flight; /* of all producers together */
    int fd;             /* FILE_BLOCKS blocks in the page cache, for TASK_READ */
    struct sink *sink;  /* of the peer whose turn it is */
};

/* What a ring of this library has counted. */
struct counts {
    uint64_t ios, wakes, enters;
};

struct peer {
    const char *name;
    const char *missing; /* how to get it, or NULL if it is here */
    void *(*open)(const struct scene *scene);
    /* On the main thread: drive until `count` are done. NULL: nobody drives. */
    void (*drive)(void *state, uint64_t count);
    /* On producer `index`: start `count`, or make that many round trips. */
    void (*produce)(void *state, uint32_t index, uint64_t count);
    void (*close)(void *state, struct counts *counts);
};

extern const struct peer start_one, start_batches, liburing_one, liburing_batches;
extern const struct peer latency_start, latency_wake, latency_read, latency_message;
extern const struct peer wait_background, wait_owner, wait_pread;
extern const char *const liburing_version;

static inline double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

void put_sample(struct sink *sink, double ns);

void futex_wait(_Atomic uint32_t *word, uint32_t value);
void futex_wake(_Atomic uint32_t *word);

/* --- holding producers back --- */

/* A producer's I/Os in flight. It sleeps when `limit` are, until half of them are done; every peer
 * uses it, and pays the same for it. */
struct window {
    _Alignas(128) _Atomic uint32_t done; /* counted by the driver alone */
    _Alignas(128) _Atomic uint32_t asleep;
    _Atomic uint32_t until; /* the count that a sleeping producer waits for */
    uint32_t limit;
    uint32_t started;
    uint32_t seen; /* of `done` */
};

/* Sets up a window for each producer of a scene. */
void open_windows(struct window *windows, const struct scene *scene);

/* Room for 1 to `most` I/Os; they count as started. Sleeps until there is some. */
uint32_t window_take(struct window *window, uint64_t most);

/* The driver has got one of its completions. */
void window_done(struct window *window);

/* --- handing over --- */

/* A round trip's beginning, told to the thread that sees its end. */
struct trip {
    _Alignas(128) _Atomic uint64_t began; /* ns */
    _Alignas(128) _Atomic uint64_t ended; /* trips, of which the driver has told */
};

/* Before each trip of a series: until the one before has ended, and the driver surely sleeps again. */
void await_sleep(struct trip *trip, uint64_t ended_before);
void begin_trip(struct trip *trip);
/* The driver has seen the end. */
void end_trip(struct trip *trip, struct sink *sink);

#endif
