/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A pool of threads with blocking calls on a BACKGROUND ring, which the library drives: pthreads [COUNT [SECONDS]]. */
#include "work.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS 64 /* a connection takes one */
#define DEPTH 4
#define BLOCK 65536

static struct work work;

/* Starts an I/O and sleeps until it is done, as a system call would; any thread. */
static int32_t await(const paluring_op *op, enum source source) {
    paluring_completion done;
    paluring_io io;
    int32_t status = paluring_io_start(work.ring, op, &io);
    if (status < 0) return status;
    while ((status = paluring_io_wait(work.ring, io, -1, &done)) == -EINTR) continue;
    if (status < 0) return status; /* PALURING_ERR_CLOSED */
    work_count(source);
    return done.result;
}

static int32_t await_raw(struct io_uring_sqe *sqe, int fd, paluring_buf *buf) {
    paluring_op op;
    sqe->fd = fd;
    paluring_op_raw(&op, sqe, buf);
    return await(&op, ECHO);
}

/* ---- the pool: jobs for threads that have nothing to do ---- */

struct job {
    void (*run)(int fd);
    int fd;
    struct job *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *first, **end;
    bool closed;
    pthread_t threads[THREADS];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .end = &pool.first};

static void pool_add(void (*run)(int fd), int fd) {
    struct job *job = malloc(sizeof *job);
    if (job == NULL) {
        work_fail("job", -ENOMEM);
        return;
    }
    *job = (struct job){.run = run, .fd = fd};
    pthread_mutex_lock(&pool.lock);
    *pool.end = job;
    pool.end = &job->next;
    pthread_cond_signal(&pool.changed);
    pthread_mutex_unlock(&pool.lock);
}

static void *pool_thread(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    while (pool.first != NULL || !pool.closed) {
        struct job *job = pool.first;
        if (job == NULL) {
            pthread_cond_wait(&pool.changed, &pool.lock);
            continue;
        }
        pool.first = job->next;
        if (pool.first == NULL) pool.end = &pool.first;
        pthread_mutex_unlock(&pool.lock);
        job->run(job->fd);
        free(job);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static void pool_open(void) {
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&pool.threads[i], NULL, pool_thread, NULL) != 0) exit((perror("pthread_create"), 1));
}

static void pool_close(void) {
    pthread_mutex_lock(&pool.lock);
    pool.closed = true;
    pthread_cond_broadcast(&pool.changed);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < THREADS; i++) pthread_join(pool.threads[i], NULL);
}

/* ---- jobs ---- */

static void count_connections(int change) {
    pthread_mutex_lock(&pool.lock);
    work.running += change;
    pthread_mutex_unlock(&pool.lock);
}

/* One connection, until the client is done or the ring closes. */
static void serve_connection(int fd) {
    paluring_buf *buf = NULL;
    int32_t len = paluring_buf_alloc(BLOCK, 0, &buf);
    while (len >= 0) {
        struct io_uring_sqe receive = {.opcode = IORING_OP_RECV, .addr = (uintptr_t)paluring_buf_data(buf), .len = BLOCK};
        if ((len = await_raw(&receive, fd, buf)) <= 0) break;
        struct io_uring_sqe send = receive;
        send.opcode = IORING_OP_SEND;
        send.len = (uint32_t)len;
        send.msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        len = await_raw(&send, fd, buf);
    }
    paluring_buf_release(buf);
    close(fd);
    count_connections(-1);
}

static void accept_connections(int listener) {
    int32_t fd;
    for (;;) {
        struct io_uring_sqe sqe = {.opcode = IORING_OP_ACCEPT, .accept_flags = SOCK_CLOEXEC};
        if ((fd = await_raw(&sqe, listener, NULL)) < 0) break;
        count_connections(1);
        pool_add(serve_connection, fd);
    }
    if (fd != -ECANCELED && fd != PALURING_ERR_CLOSED) work_fail("accept", fd);
}

/* Several reads in flight, whose completions are reaped in any order; user_data is the offset. */
static bool start_read(paluring_buf *buf, uint64_t offset) {
    paluring_op op;
    paluring_op_read(&op, work.in, buf, 0, BLOCK, offset);
    op.flags = PALURING_OP_QUEUE | PALURING_OP_MOVE; /* the buffer goes with the I/O, and comes with its completion */
    op.user_data = offset;
    if (offset < work.size && !work_is_stopped() && paluring_io_start(work.ring, &op, NULL) == 0) return true;
    paluring_buf_release(buf);
    return false;
}

static void write_block(const paluring_completion *read) {
    paluring_op op;
    work_count(COPY);
    paluring_op_write(&op, work.out, read->buf, 0, read->result > 0 ? (size_t)read->result : 0, read->user_data);
    int32_t written = read->result > 0 ? await(&op, COPY) : read->result;
    if (written != read->result || written <= 0) work_fail("copy", written);
}

static void copy(int unused) {
    uint64_t next = 0;
    int busy = 0;
    (void)unused;
    for (int i = 0; i < DEPTH; i++, next += BLOCK) {
        paluring_buf *buf;
        if (paluring_buf_alloc(BLOCK, 0, &buf) == 0) busy += start_read(buf, next);
    }
    while (busy > 0) {
        paluring_completion reads[DEPTH];
        int32_t count = paluring_ring_reap(work.ring, 1, -1, reads, DEPTH);
        if (count < 0) {
            work_fail("reap", count);
            break;
        }
        for (int i = 0; i < count; i++, next += BLOCK) {
            write_block(&reads[i]);
            busy -= !start_read(reads[i].buf, next);
        }
    }
    work_done(COPY);
}

static void serve(struct work *unused) {
    (void)unused;
    pool_add(accept_connections, work.listener);
    pool_add(copy, -1);
}

/* ---- beginning and end ---- */

static sem_t over;

static void finished(void *unused) {
    (void)unused;
    sem_post(&over); /* on the library's thread, which must not wait for others */
}

static void on_signal(int number) {
    (void)number;
    work_stop();
}

int main(int argc, char **argv) {
    paluring_ring_options options;

    (void)argc;
    paluring_ring_options_init(&options, sizeof options);
    options.mode = PALURING_MODE_BACKGROUND;
    work = (struct work){.host = "pthreads", .arguments = argv + 1, .serve = serve, .finished = finished};
    int32_t status = paluring_ring_open(&options, &work.ring);
    if (status < 0) return fprintf(stderr, "pthreads: %s\n", paluring_strerror(status)), 1;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    sem_init(&over, 0, 0);
    pool_open();
    if (!work_begin(&work)) return 1;
    while (sem_wait(&over) < 0) continue; /* a signal */
    paluring_ring_close(work.ring, -1); /* ends the waits of the pool's threads */
    pool_close();
    paluring_ring_release(work.ring); /* after the last call */
    return work_end(&work);
}
