/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The threads around the loop: clients of the echo service, starters of I/Os, the conductor that
 * has them take turns, and the watchdog. What the loop's own thread does is in serve.c.
 */
#define _GNU_SOURCE 1
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 3
#define STARTERS 2
#define MESSAGE 4096
#define COPY_SIZE (8u << 20)
#define MS 1000000

static struct {
    struct work *work;
    unsigned long count;
    unsigned seconds;
    atomic_bool stopped, failed, ended;
    pthread_t conductor, watchdog;
    sem_t copied;
    struct {
        atomic_ulong completions;
        atomic_int busy; /* how many wait for it */
    } sources[SOURCES];
} all;

static const char *const names[SOURCES] = {"copy", "echo", "starts of other threads", "end and close"};

/* ---- what came, and what doesn't ---- */

void work_count(enum source source) {
    atomic_fetch_add_explicit(&all.sources[source].completions, 1, memory_order_relaxed);
}

static unsigned long total(void) {
    unsigned long sum = 0;
    for (int i = 0; i < SOURCES; i++) sum += atomic_load(&all.sources[i].completions);
    return sum;
}

static void begin(enum source source) { atomic_fetch_add(&all.sources[source].busy, 1); }
static void end(enum source source) { atomic_fetch_sub(&all.sources[source].busy, 1); }

void work_done(enum source source) {
    end(source);
    if (source == COPY) sem_post(&all.copied);
}

void work_stop(void) { atomic_store(&all.stopped, true); }
bool work_is_stopped(void) { return atomic_load(&all.stopped); }

void work_fail(const char *what, int32_t status) {
    fprintf(stderr, "%s: %s%s%s\n", all.work->host, what, status < 0 ? ": " : "", status < 0 ? paluring_strerror(status) : "");
    atomic_store(&all.failed, true);
    work_stop();
}

static void dump(uintptr_t user_data, const char *text, size_t len) {
    (void)user_data;
    if (write(STDERR_FILENO, text, len) < 0) _exit(1);
}

/* The program hangs: says where, and ends it. */
static void stand_still(const bool still[SOURCES]) {
    char line[400];
    size_t len = (size_t)snprintf(line, sizeof line, "%s: nothing comes any more after %lu completions, for %u s:", all.work->host, total(), all.seconds);
    for (int i = 0; i < SOURCES; i++)
        if (still[i]) len += (size_t)snprintf(line + len, sizeof line - len, " %s (%lu came);", names[i], atomic_load(&all.sources[i].completions));
    line[len - 1] = '\n';
    dump(0, line, len);
    paluring_ring_dump(all.work->ring, dump, 0);
    dump(0, "\n", 1);
    _exit(1);
}

static void *watch(void *unused) {
    unsigned long seen[SOURCES] = {0};
    unsigned tenths[SOURCES] = {0};
    (void)unused;
    while (!atomic_load(&all.ended)) {
        bool still[SOURCES], any = false;
        usleep(100000);
        for (int i = 0; i < SOURCES; i++) {
            unsigned long now = atomic_load(&all.sources[i].completions);
            tenths[i] = atomic_load(&all.sources[i].busy) > 0 && now == seen[i] ? tenths[i] + 1 : 0;
            seen[i] = now;
            still[i] = tenths[i] > 10 * all.seconds;
            any |= still[i];
        }
        if (any && !atomic_load(&all.ended)) stand_still(still);
    }
    return NULL;
}

/* ---- clients of the echo service, with blocking calls of their own ---- */

struct client {
    int fd;
    unsigned round;
    unsigned char sent[MESSAGE], back[MESSAGE];
};

static bool client_open(struct client *client) {
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return client->fd >= 0 && getsockname(all.work->listener, (struct sockaddr *)&address, &len) == 0 &&
           connect(client->fd, (struct sockaddr *)&address, len) == 0;
}

/* Sends some bytes and waits for them to come back. */
static void client_step(struct client *client) {
    size_t len = 1 + client->round * 977u % MESSAGE;
    memset(client->sent, (int)(client->round % 251), len);
    client->round++;
    begin(ECHO);
    if (send(client->fd, client->sent, len, MSG_NOSIGNAL) != (ssize_t)len || recv(client->fd, client->back, len, MSG_WAITALL) != (ssize_t)len)
        work_fail("echo: the connection broke", -errno);
    else if (memcmp(client->sent, client->back, len) != 0) work_fail("echo: other bytes come back", 0);
    end(ECHO);
}

/* ---- starters: threads that start I/Os on a ring that another thread drives ---- */

struct starter {
    int ends[2];
    paluring_buf *buf;
    sem_t delivered;
    int32_t result;
    unsigned round;
};

static bool starter_open(struct starter *starter) {
    return sem_init(&starter->delivered, 0, 0) == 0 && paluring_buf_alloc(1, 0, &starter->buf) == 0 &&
           socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, starter->ends) == 0;
}

/* On the driver. */
static void starter_told(uintptr_t user_data, paluring_completion *completion) {
    struct starter *starter = (struct starter *)user_data;
    starter->result = completion->result;
    work_count(FOREIGN);
    sem_post(&starter->delivered);
}

static void starter_posted(uintptr_t user_data) {
    struct starter *starter = (struct starter *)user_data;
    starter->result = 0;
    sem_post(&starter->delivered);
}

static void put_byte(struct starter *starter) {
    if (write(starter->ends[1], "x", 1) != 1) work_fail("write", -errno);
}

/* Starts a read whose end is still to come or already there, that runs out of time, or is cancelled; or posts a function. */
static int32_t starter_start(struct starter *starter, int32_t *expected) {
    unsigned kind = starter->round++ % 50;
    paluring_op op;
    paluring_io io;
    paluring_op_read(&op, starter->ends[0], starter->buf, 0, 1, UINT64_MAX);
    op.callback = starter_told;
    op.user_data = (uintptr_t)starter;
    *expected = kind == 0 ? 0 : kind == 1 ? -ETIME : kind == 2 ? -ECANCELED : 1;
    if (kind == 0) return paluring_ring_post(all.work->ring, starter_posted, op.user_data);
    if (kind == 1) op.timeout_ns = MS;
    if (kind > 2 && kind % 2 == 0) put_byte(starter);
    int32_t status = paluring_io_start(all.work->ring, &op, &io);
    if (status < 0) return status;
    if (kind == 2) paluring_io_cancel(all.work->ring, io);
    if (kind > 2 && kind % 2 == 1) put_byte(starter);
    return 0;
}

/* Starts one thing and sleeps until the loop has delivered it. */
static void starter_step(struct starter *starter) {
    int32_t expected, status;
    begin(FOREIGN);
    if ((status = starter_start(starter, &expected)) < 0) work_fail("start", status);
    else {
        while (sem_wait(&starter->delivered) < 0) continue; /* EINTR */
        if (starter->result != expected) work_fail("another thread's I/O has a wrong result", starter->result);
    }
    end(FOREIGN);
}

/* ---- the conductor ---- */

static bool goes_on(unsigned long count) { return !work_is_stopped() && total() < count; }

static void *client_run(void *client) {
    while (goes_on(all.count / 4)) client_step(client);
    return NULL;
}

static void *starter_run(void *starter) {
    while (goes_on(all.count / 4)) starter_step(starter);
    return NULL;
}

static void finish(uintptr_t unused) {
    (void)unused;
    all.work->finished(all.work->loop);
}

static void all_at_once(struct client clients[CLIENTS], struct starter starters[STARTERS]) {
    pthread_t threads[CLIENTS + STARTERS];
    int count = 0;
    for (int i = 0; i < CLIENTS; i++) count += pthread_create(&threads[count], NULL, client_run, &clients[i]) == 0;
    for (int i = 0; i < STARTERS; i++) count += pthread_create(&threads[count], NULL, starter_run, &starters[i]) == 0;
    if (count < CLIENTS + STARTERS) work_fail("pthread_create", -EAGAIN);
    while (count > 0) pthread_join(threads[--count], NULL);
    while (sem_wait(&all.copied) < 0) continue;
}

static void one_at_a_time(struct client *client, struct starter *starter) {
    while (goes_on(all.count)) {
        client_step(client);
        starter_step(starter);
    }
}

static void *conduct(void *unused) {
    static struct client clients[CLIENTS];
    static struct starter starters[STARTERS];
    (void)unused;
    for (int i = 0; i < CLIENTS; i++)
        if (!client_open(&clients[i])) work_fail("connect", -errno);
    for (int i = 0; i < STARTERS; i++)
        if (!starter_open(&starters[i])) work_fail("socketpair", -errno);
    all_at_once(clients, starters);
    one_at_a_time(&clients[0], &starters[0]);
    for (int i = 0; i < CLIENTS; i++) close(clients[i].fd);
    for (int i = 0; i < STARTERS; i++) {
        paluring_buf_release(starters[i].buf);
        close(starters[i].ends[0]);
        close(starters[i].ends[1]);
    }
    begin(CLOSE);
    int32_t status = paluring_ring_post(all.work->ring, finish, 0);
    if (status < 0) work_fail("post", status);
    return NULL;
}

/* ---- begin and end ---- */

static int open_temporary(void) {
    const char *folder = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/paluring-host-XXXXXX", folder != NULL ? folder : "/tmp");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path); /* it goes with the program, however that ends */
    return fd;
}

static bool open_files(struct work *work) {
    work->size = COPY_SIZE + 12345;
    work->in = open_temporary();
    work->out = open_temporary();
    if (work->in < 0 || work->out < 0 || ftruncate(work->in, (off_t)work->size) < 0) return false;
    uint32_t *words = mmap(NULL, work->size, PROT_READ | PROT_WRITE, MAP_SHARED, work->in, 0);
    if (words == MAP_FAILED) return false;
    for (uint32_t i = 0; i < work->size / 4; i++) words[i] = i * 2654435761u;
    return munmap(words, work->size) == 0;
}

static bool same_files(const struct work *work) {
    if (lseek(work->out, 0, SEEK_END) != (off_t)work->size) return false;
    void *in = mmap(NULL, work->size, PROT_READ, MAP_SHARED, work->in, 0);
    void *out = mmap(NULL, work->size, PROT_READ, MAP_SHARED, work->out, 0);
    return in != MAP_FAILED && out != MAP_FAILED && memcmp(in, out, work->size) == 0;
}

static bool open_listener(struct work *work) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    work->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (work->listener < 0 || bind(work->listener, (struct sockaddr *)&address, len) < 0 || listen(work->listener, 128) < 0 ||
        getsockname(work->listener, (struct sockaddr *)&address, &len) < 0)
        return false;
    printf("%s: echo service on port %d\n", work->host, ntohs(address.sin_port));
    return fflush(stdout) == 0;
}

bool work_begin(struct work *work) {
    char *const *arguments = work->arguments;
    all.work = work;
    all.count = arguments[0] != NULL ? strtoul(arguments[0], NULL, 10) : 100000;
    all.seconds = arguments[0] != NULL && arguments[1] != NULL ? (unsigned)strtoul(arguments[1], NULL, 10) : 10;
    sem_init(&all.copied, 0, 0);
    if (!open_files(work) || !open_listener(work)) return work_fail("cannot begin", -errno), false;
    begin(COPY);
    work->serve(work);
    int error = pthread_create(&all.watchdog, NULL, watch, NULL);
    if (error == 0) error = pthread_create(&all.conductor, NULL, conduct, NULL);
    if (error != 0) work_fail("pthread_create", -error);
    return error == 0;
}

int work_end(struct work *work) {
    pthread_join(all.conductor, NULL);
    end(CLOSE);
    atomic_store(&all.ended, true);
    pthread_join(all.watchdog, NULL);
    bool whole = !work_is_stopped();
    if (whole && !same_files(work)) work_fail("the copy differs", 0);
    if (work->running != 0) work_fail("connections are still open after the close", 0);
    close(work->listener);
    close(work->in);
    close(work->out);
    if (whole || atomic_load(&all.failed)) {
        unsigned long came[SOURCES];
        for (int i = 0; i < SOURCES; i++) came[i] = atomic_load(&all.sources[i].completions);
        printf("%s: %lu completions (%s %lu, %s %lu, %s %lu)%s\n", work->host, total(), names[COPY], came[COPY], names[ECHO], came[ECHO], names[FOREIGN],
               came[FOREIGN], whole ? ", nothing lost" : "");
    } else printf("%s: stopped after %lu completions\n", work->host, total());
    return whole && !atomic_load(&all.failed) ? 0 : 1;
}
