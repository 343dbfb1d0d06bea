/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A ring in a libevent loop: libevent [COUNT [SECONDS]]. */
#include "work.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>

/* Callbacks run here. What is beyond the budget leaves the descriptor readable. */
static void on_readable(evutil_socket_t fd, short events, void *ring) {
    (void)fd, (void)events;
    paluring_ring_process(ring, BUDGET);
}

static void on_signal(evutil_socket_t number, short events, void *unused) {
    (void)number, (void)events, (void)unused;
    work_stop();
}

static void finished(void *loop) { *(bool *)loop = false; }

/* Persistent: libevent's events are for once otherwise. EV_ET for an edge-triggered one. */
static struct event *watch(struct event_base *base, evutil_socket_t fd, short events, event_callback_fn callback, void *argument) {
    struct event *event = event_new(base, fd, (short)(events | EV_PERSIST), callback, argument);
    if (event != NULL) event_add(event, NULL);
    return event;
}

int main(int argc, char **argv) {
    bool running = true;
    struct work work = {.host = "libevent", .serve = work_serve, .finished = finished, .loop = &running};
    struct event_base *base = event_base_new();
    int ring_fd;

    (void)argc;
    work.arguments = argv + 1;
    int32_t status = paluring_ring_open(NULL, &work.ring);
    if (status == 0) status = paluring_ring_event_fd(work.ring, &ring_fd);
    if (status < 0) return fprintf(stderr, "libevent: %s\n", paluring_strerror(status)), 1;
    struct event *readable = watch(base, ring_fd, EV_READ, on_readable, work.ring);
    struct event *interrupt = watch(base, SIGINT, EV_SIGNAL, on_signal, NULL);
    struct event *terminate = watch(base, SIGTERM, EV_SIGNAL, on_signal, NULL);

    if (!work_begin(&work)) return 1;
    while (running) {
        /* Before each sleep, hence one turn of the loop at a time. Has something come already, the descriptor is
         * readable, and the loop doesn't sleep. A kernel short of memory is asked again. */
        status = paluring_ring_prepare(work.ring);
        if (status == -EAGAIN || status == -ENOMEM) event_base_loopexit(base, &(struct timeval){.tv_usec = 10000});
        else if (status < 0) return work_fail("prepare", status), 1;
        event_base_loop(base, EVLOOP_ONCE);
    }
    event_free(readable); /* before the ring's close, which closes the descriptor */
    event_free(interrupt);
    event_free(terminate);
    event_base_free(base);
    paluring_ring_close(work.ring, -1);
    paluring_ring_release(work.ring);
    return work_end(&work);
}
