/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a user's first program does: reads the start of a file through a ring. Built with what
 * pkg-config says, nothing else. */
#include <fcntl.h>
#include <paluring.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *what, int32_t status)
{
	printf("not ok - %s: %s\n", what, paluring_strerror(status));
	return 1;
}

int main(void)
{
	paluring_ring *ring;
	paluring_buf *buf;
	paluring_op op;
	paluring_io io;
	paluring_completion done;
	int32_t status;
	int fd;

	if (strcmp(paluring_version(), PALURING_VERSION) || paluring_version_number() != PALURING_VERSION_NUMBER)
		return failed("header and library are of one version", 0);
	fd = open("/proc/self/exe", O_RDONLY);
	if ((status = paluring_ring_open(NULL, &ring)) < 0)
		return failed("paluring_ring_open", status);
	if ((status = paluring_buf_alloc(4, 0, &buf)) < 0)
		return failed("paluring_buf_alloc", status);
	paluring_op_read(&op, fd, buf, 0, 4, 0);
	if ((status = paluring_io_start(ring, &op, &io)) < 0)
		return failed("paluring_io_start", status);
	if ((status = paluring_io_wait(ring, io, -1, &done)) < 0)
		return failed("paluring_io_wait", status);
	if (done.result != 4 || memcmp(paluring_buf_data(buf), "\177ELF", 4))
		return failed("the first bytes of a program are read", done.result);
	paluring_buf_release(buf);
	if ((status = paluring_ring_close(ring, -1)) != 0)
		return failed("paluring_ring_close", status);
	paluring_ring_release(ring);
	close(fd);
	return 0;
}
