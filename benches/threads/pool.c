/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

static struct {
    const struct peer *peer;
    void *state;
    uint32_t producers;
    uint64_t count;
    _Atomic uint32_t generation;
    _Atomic uint32_t finished;
    double began[MAX_PRODUCERS];
} job;

/* A producer's share of the I/Os: the first ones take what is left over. */
static uint64_t share_of(uint32_t index) {
    return job.count / job.producers + (index < job.count % job.producers);
}

static void *work(void *argument) {
    uint32_t index = (uint32_t)(uintptr_t)argument;
    for (uint32_t seen = 0;; seen++) {
        while (atomic_load(&job.generation) == seen) {
            futex_wait(&job.generation, seen);
        }
        if (index < job.producers) {
            job.began[index] = now_ns();
            job.peer->produce(job.state, index, share_of(index));
        }
        atomic_fetch_add(&job.finished, 1);
        futex_wake(&job.finished);
    }
    return NULL;
}

static void await_producers(void) {
    uint32_t finished;
    while ((finished = atomic_load(&job.finished)) < MAX_PRODUCERS) {
        futex_wait(&job.finished, finished);
    }
}

double run_slice(const struct peer *peer, void *state, const struct scene *scene, uint64_t count) {
    job.peer = peer;
    job.state = state;
    job.producers = scene->producers;
    job.count = count;
    atomic_store(&job.finished, 0);
    atomic_fetch_add(&job.generation, 1);
    futex_wake(&job.generation);
    if (peer->drive != NULL) {
        peer->drive(state, count);
    } else {
        await_producers();
    }
    double end = now_ns();
    await_producers();
    double begin = job.began[0];
    for (uint32_t i = 1; i < scene->producers; i++) {
        begin = job.began[i] < begin ? job.began[i] : begin;
    }
    return end - begin;
}

/* Splits the processors in the main thread's one and the producers'; false if there is only one. */
static bool split(cpu_set_t *own, cpu_set_t *others) {
    if (sched_getaffinity(0, sizeof *others, others) != 0 || CPU_COUNT(others) < 2) {
        return false;
    }
    size_t cpu = CPU_SETSIZE;
    while (cpu-- > 0 && !CPU_ISSET(cpu, others)) {
    }
    CPU_CLR(cpu, others);
    CPU_ZERO(own);
    CPU_SET(cpu, own);
    return true;
}

void open_pool(bool apart) {
    cpu_set_t own, others;
    bool pinned = apart && split(&own, &others);
    if (pinned) {
        sched_setaffinity(0, sizeof own, &own);
    }
    for (uintptr_t i = 0; i < MAX_PRODUCERS; i++) {
        pthread_t thread;
        int error = pthread_create(&thread, NULL, work, (void *)i);
        if (error == 0 && pinned) {
            error = pthread_setaffinity_np(thread, sizeof others, &others);
        }
        if (error != 0) {
            die("thread", strerror(error));
        }
        pthread_detach(thread);
    }
}
