/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints a file. */
#include <errno.h>
#include <fcntl.h>
#include <paluring.h>
#include <stdio.h>

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/dev/stdin";
    paluring_ring *ring = NULL;
    paluring_buf *buf = NULL;
    paluring_completion done;
    paluring_io io;
    paluring_op op;

    int fd = open(path, O_RDONLY);
    int32_t n = fd < 0 ? -errno : paluring_ring_open(NULL, &ring);
    if (n == 0) n = paluring_buf_alloc(65536, 0, &buf);
    paluring_op_read(&op, fd, buf, 0, 65536, UINT64_MAX); /* each from where the last one ended */
    while (n >= 0) {
        if ((n = paluring_io_start(ring, &op, &io)) < 0) break;
        while ((n = paluring_io_wait(ring, io, -1, &done)) == -EINTR) continue; /* a signal: the read goes on */
        if (n < 0 || (n = done.result) <= 0) break;
        if (fwrite(paluring_buf_data(buf), 1, (size_t)n, stdout) < (size_t)n) break;
    }
    if (n > 0 || (n == 0 && fflush(stdout) != 0)) n = -errno, path = "standard output";
    if (n < 0) fprintf(stderr, "cat: %s: %s\n", path, paluring_strerror(n));
    paluring_buf_release(buf);
    paluring_ring_release(ring); /* closes it; what the kernel still uses lives on */
    return n < 0;
}
