/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the loop's own thread starts: the copy of a file, and an echo service. Each callback starts
 * what comes next; examples/pcp.c and examples/echo.c do the same with all the care of a program
 * that people use.
 */
#include "work.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS 4
#define BLOCK 65536
#define MESSAGES 65536

static struct work *work;

/* Says whether it was started; then the callback comes, once. Without room the connection is closed: others go on. */
static bool start(paluring_op *op, paluring_complete_fn callback, void *user_data) {
    op->callback = callback;
    op->user_data = (uintptr_t)user_data;
    int32_t status = paluring_io_start(work->ring, op, NULL);
    if (status < 0 && status != PALURING_ERR_CLOSED && status != -EAGAIN) work_fail("start", status);
    return status >= 0;
}

/* ---- the copy ---- */

struct slot {
    paluring_buf *buf;
    uint64_t offset;
    uint32_t len; /* read */
};

static struct slot slots[SLOTS];
static uint64_t next_offset;
static unsigned busy;

static void rest(struct slot *slot) {
    paluring_buf_release(slot->buf);
    if (--busy == 0) work_done(COPY);
}

static void read_done(uintptr_t user_data, paluring_completion *completion);

static void read_next(struct slot *slot) {
    paluring_op op;
    slot->offset = next_offset;
    next_offset += BLOCK;
    paluring_op_read(&op, work->in, slot->buf, 0, BLOCK, slot->offset);
    if (slot->offset >= work->size || work_is_stopped() || !start(&op, read_done, slot)) rest(slot);
}

static void write_done(uintptr_t user_data, paluring_completion *completion) {
    struct slot *slot = (struct slot *)user_data;
    work_count(COPY);
    if (completion->result != (int32_t)slot->len) work_fail("write of the copy", completion->result);
    read_next(slot);
}

static void read_done(uintptr_t user_data, paluring_completion *completion) {
    struct slot *slot = (struct slot *)user_data;
    paluring_op op;
    work_count(COPY);
    if (completion->result <= 0) work_fail("read of the copy", completion->result);
    slot->len = completion->result > 0 ? (uint32_t)completion->result : 0;
    paluring_op_write(&op, work->out, slot->buf, 0, slot->len, slot->offset);
    if (!start(&op, write_done, slot)) rest(slot);
}

static void begin_copy(void) {
    busy = SLOTS;
    for (int i = 0; i < SLOTS; i++) {
        int32_t status = paluring_buf_alloc(BLOCK, 0, &slots[i].buf);
        if (status < 0) work_fail("paluring_buf_alloc", status);
        read_next(&slots[i]);
    }
}

/* ---- the echo service ---- */

struct connection {
    int fd;
    paluring_buf *buf;
    uint32_t len, sent;
};

static void close_connection(struct connection *connection) {
    close(connection->fd);
    paluring_buf_release(connection->buf);
    free(connection);
    work->running--;
}

static void transfer(struct connection *connection, struct io_uring_sqe *sqe, paluring_complete_fn callback) {
    paluring_op op;
    sqe->fd = connection->fd;
    sqe->msg_flags = MSG_NOSIGNAL;
    paluring_op_raw(&op, sqe, connection->buf);
    if (!start(&op, callback, connection)) close_connection(connection);
}

static void sent(uintptr_t user_data, paluring_completion *completion);

static void send_rest(struct connection *connection) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_SEND, .len = connection->len - connection->sent};
    sqe.addr = (uintptr_t)(paluring_buf_data(connection->buf) + connection->sent);
    transfer(connection, &sqe, sent);
}

static void received(uintptr_t user_data, paluring_completion *completion) {
    struct connection *connection = (struct connection *)user_data;
    work_count(ECHO);
    if (completion->result <= 0) close_connection(connection); /* the client is done, or the ring closes */
    else {
        connection->len = (uint32_t)completion->result;
        connection->sent = 0;
        send_rest(connection);
    }
}

static void receive(struct connection *connection) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_RECV, .len = MESSAGES};
    sqe.addr = (uintptr_t)paluring_buf_data(connection->buf);
    transfer(connection, &sqe, received);
}

static void sent(uintptr_t user_data, paluring_completion *completion) {
    struct connection *connection = (struct connection *)user_data;
    work_count(ECHO);
    if (completion->result > 0) connection->sent += (uint32_t)completion->result;
    if (completion->result < 0) close_connection(connection);
    else if (connection->sent < connection->len) send_rest(connection);
    else receive(connection);
}

static void open_connection(int fd) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || paluring_buf_alloc(MESSAGES, 0, &connection->buf) < 0) {
        work_fail("connection", -ENOMEM);
        free(connection);
        close(fd);
        return;
    }
    connection->fd = fd;
    work->running++;
    receive(connection);
}

static void called(uintptr_t user_data, paluring_completion *completion);

static void await_call(void) {
    paluring_op op;
    paluring_op_poll(&op, work->listener, POLLIN);
    start(&op, called, NULL);
}

static void accepted(uintptr_t user_data, paluring_completion *completion) {
    (void)user_data;
    work_count(ECHO);
    if (completion->result == -ECANCELED) return;
    if (completion->result < 0) work_fail("accept", completion->result);
    await_call(); /* before the other start: one from a callback always finds room */
    if (completion->result >= 0) open_connection(completion->result);
}

static void called(uintptr_t user_data, paluring_completion *completion) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_ACCEPT, .fd = work->listener, .accept_flags = SOCK_CLOEXEC};
    paluring_op op;
    (void)user_data;
    work_count(ECHO);
    if (completion->result < 0) return; /* the ring closes */
    paluring_op_raw(&op, &sqe, NULL);
    start(&op, accepted, NULL);
}

void work_serve(struct work *of_host) {
    work = of_host;
    await_call();
    begin_copy();
}
