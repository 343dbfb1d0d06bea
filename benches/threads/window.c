/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * How threads of these programs wait for each other, the same for all that are measured.
 */
#include "threads.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void futex_wake(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void put_sample(struct sink *sink, double ns) {
    if (sink->count < sink->capacity) {
        sink->values[sink->count++] = ns;
    }
}

/* --- windows --- */

void open_windows(struct window *windows, const struct scene *scene) {
    for (uint32_t i = 0; i < scene->producers; i++) {
        windows[i].limit = scene->in_flight / scene->producers;
    }
}

static bool is_full(struct window *window) {
    window->seen = atomic_load_explicit(&window->done, memory_order_acquire);
    return window->started - window->seen >= window->limit;
}

static void await_room(struct window *window) {
    uint32_t free = window->limit > 1 ? window->limit / 2 : 1;
    while (is_full(window)) {
        atomic_store(&window->until, window->started - window->limit + free);
        atomic_store(&window->asleep, 1);
        if (is_full(window)) {
            futex_wait(&window->asleep, 1);
        }
        atomic_store(&window->asleep, 0);
    }
}

uint32_t window_take(struct window *window, uint64_t most) {
    if (window->started - window->seen >= window->limit) {
        await_room(window);
    }
    uint32_t room = window->limit - (window->started - window->seen);
    uint32_t taken = room < most ? room : (uint32_t)most;
    window->started += taken;
    return taken;
}

void window_done(struct window *window) {
    uint32_t done = atomic_fetch_add(&window->done, 1) + 1;
    if (atomic_load(&window->asleep) != 0 && (int32_t)(done - atomic_load(&window->until)) >= 0 &&
        atomic_exchange(&window->asleep, 0) != 0) {
        futex_wake(&window->asleep);
    }
}

/* --- trips --- */

enum { REST_NS = 100000 };

void await_sleep(struct trip *trip, uint64_t ended_before) {
    while (atomic_load(&trip->ended) < ended_before) {
        struct timespec nap = {.tv_nsec = 20000};
        nanosleep(&nap, NULL);
    }
    double until = now_ns() + REST_NS;
    while (now_ns() < until) {
    }
}

void begin_trip(struct trip *trip) {
    atomic_store(&trip->began, (uint64_t)now_ns());
}

void end_trip(struct trip *trip, struct sink *sink) {
    put_sample(sink, now_ns() - (double)atomic_load(&trip->began));
    atomic_fetch_add(&trip->ended, 1);
}
