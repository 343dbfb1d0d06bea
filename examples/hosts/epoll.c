/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A ring in an epoll loop: epoll [level|edge] [COUNT [SECONDS]]. */
#include "work.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void finished(void *loop) { *(bool *)loop = false; }

/* SIGINT and SIGTERM come through a descriptor; blocked before there is any other thread. */
static int open_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int watch(int epoll, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv) {
    bool edge = argc > 1 && strcmp(argv[1], "edge") == 0, running = true;
    struct work work = {.host = edge ? "epoll edge" : "epoll level", .arguments = argv + (argc > 1 ? 2 : 1), .serve = work_serve};
    int ring_fd, signals = open_signals(), epoll = epoll_create1(EPOLL_CLOEXEC);

    int32_t status = paluring_ring_open(NULL, &work.ring);
    if (status == 0) status = paluring_ring_event_fd(work.ring, &ring_fd);
    if (status < 0) return fprintf(stderr, "epoll: %s\n", paluring_strerror(status)), 1;
    watch(epoll, signals, EPOLLIN | EPOLLET);
    watch(epoll, ring_fd, EPOLLIN | (edge ? EPOLLET : 0u)); /* either will do */

    work.finished = finished;
    work.loop = &running;
    if (!work_begin(&work)) return 1;
    while (running) {
        /* Last before each sleep: what was started enters the kernel, and from here on whatever comes makes ring_fd
         * readable. 1: something has come already, and it is readable. A kernel short of memory is asked again. */
        int32_t ready = paluring_ring_prepare(work.ring);
        if (ready < 0 && ready != -EAGAIN && ready != -ENOMEM) return work_fail("prepare", ready), 1;

        struct epoll_event events[8];
        int count = epoll_wait(epoll, events, 8, ready < 0 ? 10 : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == signals) work_stop();
            /* Callbacks run here. What is beyond the budget leaves ring_fd readable, with a new edge. */
            if (events[i].data.fd == ring_fd) paluring_ring_process(work.ring, BUDGET);
        }
    }
    close(epoll);
    close(signals);
    paluring_ring_close(work.ring, -1); /* cancels what is left, and delivers every completion; closes ring_fd */
    paluring_ring_release(work.ring);
    return work_end(&work);
}
