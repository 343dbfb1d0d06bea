/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A ring in a libuv loop: libuv [COUNT [SECONDS]]. */
#include "work.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <uv.h>

struct host {
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_poll_t poll;
    uv_timer_t retry;
    uv_signal_t interrupt, terminate;
    struct work work;
};

static void on_retry(uv_timer_t *unused) { (void)unused; /* the loop comes round */ }

/* Before each sleep. libuv calls the prepare handle that was started first last: start the ring's before all others,
 * whose I/Os it then submits. Has something come already, the descriptor is readable, and the loop doesn't sleep. A kernel
 * short of memory is asked again. */
static void before_sleep(uv_prepare_t *prepare) {
    struct host *host = prepare->data;
    int32_t status = paluring_ring_prepare(host->work.ring);
    if (status == -EAGAIN || status == -ENOMEM) uv_timer_start(&host->retry, on_retry, 10, 0);
    else if (status < 0) work_fail("prepare", status);
}

/* Callbacks run here. What is beyond the budget leaves the descriptor readable. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    struct host *host = poll->data;
    (void)events;
    if (status == 0) paluring_ring_process(host->work.ring, BUDGET);
}

static void on_signal(uv_signal_t *handle, int number) {
    (void)handle, (void)number;
    work_stop();
}

/* The loop ends once all handles are closed. */
static void finished(void *loop) {
    struct host *host = loop;
    uv_close((uv_handle_t *)&host->prepare, NULL);
    uv_close((uv_handle_t *)&host->poll, NULL);
    uv_close((uv_handle_t *)&host->retry, NULL);
    uv_close((uv_handle_t *)&host->interrupt, NULL);
    uv_close((uv_handle_t *)&host->terminate, NULL);
}

static void watch(struct host *host, int ring_fd) {
    host->prepare.data = host->poll.data = host;
    uv_prepare_init(&host->loop, &host->prepare);
    uv_prepare_start(&host->prepare, before_sleep);
    uv_timer_init(&host->loop, &host->retry);
    uv_poll_init(&host->loop, &host->poll, ring_fd);
    uv_poll_start(&host->poll, UV_READABLE, on_readable);
    uv_signal_init(&host->loop, &host->interrupt);
    uv_signal_start(&host->interrupt, on_signal, SIGINT);
    uv_signal_init(&host->loop, &host->terminate);
    uv_signal_start(&host->terminate, on_signal, SIGTERM);
}

int main(int argc, char **argv) {
    static struct host host = {.work = {.host = "libuv", .serve = work_serve, .finished = finished, .loop = &host}};
    struct work *work = &host.work;
    int ring_fd;

    (void)argc;
    work->arguments = argv + 1;
    int32_t status = paluring_ring_open(NULL, &work->ring);
    if (status == 0) status = paluring_ring_event_fd(work->ring, &ring_fd);
    if (status < 0) return fprintf(stderr, "libuv: %s\n", paluring_strerror(status)), 1;
    uv_loop_init(&host.loop);
    watch(&host, ring_fd);
    if (!work_begin(work)) return 1;
    uv_run(&host.loop, UV_RUN_DEFAULT);
    uv_loop_close(&host.loop);
    paluring_ring_close(work->ring, -1); /* after the poll handle's: it closes the descriptor */
    paluring_ring_release(work->ring);
    return work_end(work);
}
