/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints a file. */
#include <errno.h>
#include <fcntl.h>
#include <paluring.h>
#include <stdio.h>
#include <unistd.h>

static int failed(const char *what, int32_t status) {
    fprintf(stderr, "cat: %s: %s\n", what, paluring_strerror(status));
    return 1;
}

/* Starts an operation and waits for its result: what the system call would return, or -errno. */
static int32_t result_of(paluring_ring *ring, const paluring_op *op) {
    paluring_io io;
    paluring_completion completion;
    int32_t status = paluring_io_start(ring, op, &io);
    if (status < 0) return status;
    do status = paluring_io_wait(ring, io, -1, &completion);
    while (status == -EINTR); /* a signal: the I/O goes on */
    return status < 0 ? status : completion.result;
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/dev/stdin";
    paluring_ring *ring;
    paluring_buf *buf;
    paluring_op op;
    int32_t n;

    int fd = open(path, O_RDONLY);
    if (fd < 0) return failed(path, -errno);
    if ((n = paluring_ring_open(NULL, &ring)) < 0) return failed("io_uring", n);
    if ((n = paluring_buf_alloc(65536, 0, &buf)) < 0) return failed("buffer", n);
    paluring_op_read(&op, fd, buf, 0, 65536, UINT64_MAX); /* from where the last one ended */
    while ((n = result_of(ring, &op)) > 0)
        if (fwrite(paluring_buf_data(buf), 1, (size_t)n, stdout) < (size_t)n) break;
    if (n < 0) return failed(path, n);
    if (n > 0 || fflush(stdout) != 0) return failed("standard output", -errno);
    paluring_buf_release(buf);
    paluring_ring_release(ring);
    return close(fd);
}
