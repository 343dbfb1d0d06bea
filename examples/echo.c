/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A TCP echo server on the loopback address: echo [PORT], where 0 is any free port.
 *
 * One thread and no blocking calls: each callback starts what comes next. The listener goes from
 * poll to accept and back, a connection from receive to send and back.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <netinet/in.h>
#include <paluring.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUF_LEN 65536

struct connection {
    int fd;
    paluring_buf *buf;
    int32_t len; /* bytes received */
};

static paluring_ring *volatile ring;
static volatile sig_atomic_t stopped;
static int listener;

static void stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
    paluring_ring_wake(ring); /* so that a wait that is about to begin ends too */
}

static void complain(const char *what, int32_t status) {
    if (status != PALURING_ERR_CLOSED) fprintf(stderr, "echo: %s: %s\n", what, paluring_strerror(status));
}

static int32_t start(paluring_op *op, paluring_complete_fn callback, void *user_data) {
    op->callback = callback;
    op->user_data = (uintptr_t)user_data;
    return paluring_io_start(ring, op, NULL);
}

/* ---- connections ---- */

/* Only when none of the connection's I/Os is in flight: at the end of one, or if none could start. */
static void close_connection(struct connection *connection) {
    close(connection->fd);
    paluring_buf_release(connection->buf);
    free(connection);
}

static void transfer(struct connection *connection, paluring_op *op, paluring_complete_fn callback) {
    int32_t status = start(op, callback, connection);
    if (status >= 0) return;
    complain("connection", status);
    close_connection(connection);
}

static void sent(uintptr_t user_data, paluring_completion *completion);

static void received(uintptr_t user_data, paluring_completion *completion) {
    struct connection *connection = (struct connection *)user_data;
    if (completion->result > 0) {
        paluring_op op;
        connection->len = completion->result;
        paluring_op_send(&op, connection->fd, connection->buf, 0, (size_t)connection->len, 0);
        op.flags = PALURING_OP_FULL; /* all of it, or an error */
        transfer(connection, &op, sent);
    } else close_connection(connection); /* the peer is done, or something failed, or the ring closes */
}

static void receive(struct connection *connection) {
    paluring_op op;
    paluring_op_recv(&op, connection->fd, connection->buf, 0, BUF_LEN, 0);
    transfer(connection, &op, received);
}

static void sent(uintptr_t user_data, paluring_completion *completion) {
    struct connection *connection = (struct connection *)user_data;
    if (completion->result < connection->len) close_connection(connection);
    else receive(connection);
}

static void open_connection(int fd) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection != NULL && paluring_buf_alloc(BUF_LEN, 0, &connection->buf) >= 0) {
        connection->fd = fd;
        receive(connection);
    } else {
        complain("connection", -ENOMEM);
        free(connection);
        close(fd);
    }
}

/* ---- the listener ---- */

static void start_listener(paluring_op *op, paluring_complete_fn callback) {
    int32_t status = start(op, callback, NULL);
    if (status >= 0) return;
    complain("listener", status);
    stopped = 1;
}

static void called(uintptr_t user_data, paluring_completion *completion);

static void await_call(void) {
    paluring_op op;
    paluring_op_poll(&op, listener, POLLIN);
    start_listener(&op, called);
}

static void paused(uintptr_t user_data, paluring_completion *completion) {
    (void)user_data;
    if (completion->result != -ECANCELED) await_call();
}

static void accepted(uintptr_t user_data, paluring_completion *completion) {
    (void)user_data;
    if (completion->result >= 0) {
        await_call(); /* before the other start: one from a callback always finds room */
        open_connection(completion->result);
    } else if (completion->result != -ECANCELED) { /* out of descriptors, say: until others are done */
        complain("accept", completion->result);
        paluring_op op;
        paluring_op_timeout(&op, 100000000, 0); /* 0.1 s */
        start_listener(&op, paused);
    }
}

static void called(uintptr_t user_data, paluring_completion *completion) {
    (void)user_data;
    if (completion->result < 0) return; /* the ring closes */
    paluring_op op;
    paluring_op_accept(&op, listener, NULL, SOCK_CLOEXEC);
    start_listener(&op, accepted);
}

/* Prints the port, which the kernel may have chosen. */
static bool open_listener(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int yes = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 128) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) < 0) {
        complain("listener", -errno);
        return false;
    }
    printf("listening on port %d\n", ntohs(address.sin_port));
    return fflush(stdout) == 0;
}

int main(int argc, char **argv) {
    char *end = "";
    unsigned long port = argc > 1 ? strtoul(argv[1], &end, 10) : 0;
    if (argc > 2 || *end != '\0' || port > 65535) {
        fputs("Usage: echo [PORT]\n", stderr);
        return 1;
    }
    paluring_ring *opened;
    int32_t status = paluring_ring_open(NULL, &opened);
    if (status < 0) complain("ring", status);
    if (status < 0) return 1;
    ring = opened;
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    if (!open_listener((uint16_t)port)) return 1;
    await_call();
    while (!stopped && status >= 0) status = paluring_ring_run(ring, 1, -1);
    if (status < 0) complain("run", status);

    paluring_ring_close(ring, -1); /* cancels everything; the callbacks close their connections */
    close(listener);
    ring = NULL; /* for stop, which may still be called */
    paluring_ring_release(opened);
    return status < 0;
}
