/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Each operation on the real kernel: what it does, and how it fails. */
#include "harness.h"

#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <poll.h>

/* ---- a table of failures ---- */

enum verb { READ, WRITE, FSYNC, FDATASYNC, OPENAT, CLOSE, STATX, FALLOCATE, FTRUNCATE, TIMEOUT, POLL };

enum which { CLOSED, NEGATIVE, VERY_NEGATIVE, UNREGISTERED, WHOLE, READ_ONLY, WRITE_ONLY, DIRECTORY, PIPE_IN, PIPE_DEAD, CWD, WHICH };

enum by { KERNEL, START, ANYONE }; /* who refuses: only what the library must know is START */

static const struct row {
  const char *name;
  enum verb verb;
  enum which fd;
  enum by by;
  int32_t result;
  uint64_t a, b, c; /* read, write: len, file offset; openat: flags, mode; statx: flags, mask; fallocate: mode, offset, len; ... */
  const char *path;
} rows[] = {
    {"read: closed fd", READ, CLOSED, KERNEL, -EBADF, 8, 0, 0, NULL},
    {"read: fd -1", READ, NEGATIVE, KERNEL, -EBADF, 8, 0, 0, NULL},
    {"read: fd INT_MIN", READ, VERY_NEGATIVE, KERNEL, -EBADF, 8, 0, 0, NULL},
    {"read: directory", READ, DIRECTORY, KERNEL, -EISDIR, 8, 0, 0, NULL},
    {"read: write-only file", READ, WRITE_ONLY, KERNEL, -EBADF, 8, 0, 0, NULL},
    {"read: negative file offset", READ, WHOLE, ANYONE, -EINVAL, 8, UINT64_MAX - 1, 0, NULL},
    {"read: beyond the end", READ, WHOLE, KERNEL, 0, 8, 1 << 20, 0, NULL},
    {"read: nothing", READ, WHOLE, KERNEL, 0, 0, 0, 0, NULL},
    {"read: across the end", READ, WHOLE, KERNEL, 6, 8, 94, 0, NULL},
    {"read: longer than the buffer", READ, WHOLE, START, -EINVAL, 4097, 0, 0, NULL},
    {"write: closed fd", WRITE, CLOSED, KERNEL, -EBADF, 8, 0, 0, NULL},
    {"write: fd -1", WRITE, NEGATIVE, KERNEL, -EBADF, 8, 0, 0, NULL},
    {"write: read-only file", WRITE, READ_ONLY, KERNEL, -EBADF, 8, 0, 0, NULL},
    {"write: pipe without reader", WRITE, PIPE_DEAD, KERNEL, -EPIPE, 8, 0, 0, NULL},
    {"write: negative file offset", WRITE, WHOLE, ANYONE, -EINVAL, 8, UINT64_MAX - 1, 0, NULL},
    {"write: nothing", WRITE, WHOLE, KERNEL, 0, 0, 0, 0, NULL},
    {"write: longer than the buffer", WRITE, WHOLE, START, -EINVAL, 4097, 0, 0, NULL},
    {"fsync: closed fd", FSYNC, CLOSED, KERNEL, -EBADF, 0, 0, 0, NULL},
    {"fsync: fd -1", FSYNC, NEGATIVE, KERNEL, -EBADF, 0, 0, 0, NULL},
    {"fsync: pipe", FSYNC, PIPE_IN, KERNEL, -EINVAL, 0, 0, 0, NULL},
    {"fdatasync: closed fd", FDATASYNC, CLOSED, KERNEL, -EBADF, 0, 0, 0, NULL},
    {"fdatasync: fd -1", FDATASYNC, NEGATIVE, KERNEL, -EBADF, 0, 0, 0, NULL},
    {"fdatasync: pipe", FDATASYNC, PIPE_IN, KERNEL, -EINVAL, 0, 0, 0, NULL},
    {"openat: closed directory", OPENAT, CLOSED, KERNEL, -EBADF, O_RDONLY, 0, 0, "whole"},
    {"openat: directory -1", OPENAT, NEGATIVE, KERNEL, -EBADF, O_RDONLY, 0, 0, "whole"},
    {"openat: directory is a file", OPENAT, WHOLE, KERNEL, -ENOTDIR, O_RDONLY, 0, 0, "whole"},
    {"openat: missing", OPENAT, DIRECTORY, KERNEL, -ENOENT, O_RDONLY, 0, 0, "missing"},
    {"openat: empty path", OPENAT, DIRECTORY, KERNEL, -ENOENT, O_RDONLY, 0, 0, ""},
    {"openat: through a file", OPENAT, DIRECTORY, KERNEL, -ENOTDIR, O_RDONLY, 0, 0, "whole/inside"},
    {"openat: write to a directory", OPENAT, CWD, KERNEL, -EISDIR, O_WRONLY, 0, 0, "/"},
    {"openat: exclusive and there", OPENAT, DIRECTORY, KERNEL, -EEXIST, O_RDWR | O_CREAT | O_EXCL, 0600, 0, "whole"},
    {"openat: link that may not be followed", OPENAT, DIRECTORY, KERNEL, -ELOOP, O_RDONLY | O_NOFOLLOW, 0, 0, "link"},
    {"openat: file as directory", OPENAT, DIRECTORY, KERNEL, -ENOTDIR, O_RDONLY | O_DIRECTORY, 0, 0, "whole"},
    {"close: closed fd", CLOSE, CLOSED, KERNEL, -EBADF, 0, 0, 0, NULL},
    {"close: fd -1", CLOSE, NEGATIVE, KERNEL, -EBADF, 0, 0, 0, NULL},
    {"close: no fixed fd", CLOSE, UNREGISTERED, ANYONE, -EBADF, 0, 0, 0, NULL},
    {"statx: missing", STATX, DIRECTORY, KERNEL, -ENOENT, 0, STATX_BASIC_STATS, 0, "missing"},
    {"statx: closed directory", STATX, CLOSED, KERNEL, -EBADF, 0, STATX_BASIC_STATS, 0, "whole"},
    {"statx: through a file", STATX, DIRECTORY, KERNEL, -ENOTDIR, 0, STATX_BASIC_STATS, 0, "whole/inside"},
    {"statx: reserved mask", STATX, DIRECTORY, ANYONE, -EINVAL, 0, 0x80000000, 0, "whole"},
    {"statx: unknown flags", STATX, DIRECTORY, ANYONE, -EINVAL, 0x40000000, STATX_BASIC_STATS, 0, "whole"},
    {"statx: buffer too small by one", STATX, DIRECTORY, START, -EINVAL, 0, STATX_BASIC_STATS, 4096 - 255, "whole"},
    {"statx: buffer offset of a multiple of 8, too small", STATX, DIRECTORY, START, -EINVAL, 0, STATX_BASIC_STATS, 4096 - 248, "whole"},
    {"statx: crooked buffer offset", STATX, DIRECTORY, START, -EINVAL, 0, STATX_BASIC_STATS, 4, "whole"},
    {"statx: buffer offset SIZE_MAX - 7", STATX, DIRECTORY, START, -EINVAL, 0, STATX_BASIC_STATS, SIZE_MAX - 7, "whole"},
    {"fallocate: closed fd", FALLOCATE, CLOSED, KERNEL, -EBADF, 0, 0, 10, NULL},
    {"fallocate: read-only file", FALLOCATE, READ_ONLY, KERNEL, -EBADF, 0, 0, 10, NULL},
    {"fallocate: no length", FALLOCATE, WHOLE, ANYONE, -EINVAL, 0, 0, 0, NULL},
    {"fallocate: pipe", FALLOCATE, PIPE_IN, KERNEL, -ESPIPE, 0, 0, 10, NULL},
    {"fallocate: unknown mode", FALLOCATE, WHOLE, ANYONE, -EOPNOTSUPP, 0x40000000, 0, 10, NULL},
    {"ftruncate: closed fd", FTRUNCATE, CLOSED, KERNEL, -EBADF, 10, 0, 0, NULL},
    {"ftruncate: read-only file", FTRUNCATE, READ_ONLY, KERNEL, -EINVAL, 10, 0, 0, NULL},
    {"ftruncate: pipe", FTRUNCATE, PIPE_IN, KERNEL, -EINVAL, 10, 0, 0, NULL},
    {"ftruncate: negative length", FTRUNCATE, WHOLE, ANYONE, -EINVAL, UINT64_MAX, 0, 0, NULL},
    {"timeout: runs out", TIMEOUT, NEGATIVE, KERNEL, -ETIME, 1000, 0, 0, NULL},
    {"timeout: of 0", TIMEOUT, NEGATIVE, KERNEL, -ETIME, 0, 0, 0, NULL},
    {"timeout: a point long ago", TIMEOUT, NEGATIVE, KERNEL, -ETIME, 1, IORING_TIMEOUT_ABS, 0, NULL},
    {"timeout: as success, which shows in chains only", TIMEOUT, NEGATIVE, KERNEL, -ETIME, 1000, IORING_TIMEOUT_ETIME_SUCCESS, 0, NULL},
    {"timeout: negative", TIMEOUT, NEGATIVE, START, -EINVAL, UINT64_MAX, 0, 0, NULL},
    {"timeout: unknown flag", TIMEOUT, NEGATIVE, ANYONE, -EINVAL, 1000, 0x80, 0, NULL},
    {"timeout: multishot is no one-shot", TIMEOUT, NEGATIVE, ANYONE, -EINVAL, 1000, 1 << 6, 0, NULL},
    {"timeout: no update", TIMEOUT, NEGATIVE, ANYONE, -EINVAL, 1000, IORING_TIMEOUT_UPDATE, 0, NULL},
    {"poll: closed fd", POLL, CLOSED, KERNEL, -EBADF, POLLIN, 0, 0, NULL},
    {"poll: fd -1", POLL, NEGATIVE, KERNEL, -EBADF, POLLIN, 0, 0, NULL},
    {"poll: file is readable", POLL, WHOLE, KERNEL, POLLIN, POLLIN, 0, 0, NULL},
    {"poll: pipe is writable", POLL, PIPE_IN, KERNEL, POLLOUT, POLLOUT, 0, 0, NULL},
    {"poll: pipe without reader", POLL, PIPE_DEAD, KERNEL, POLLERR, 0, 0, 0, NULL},
};

static int fds[WHICH], pipe_reader;

static void make_fds(void) {
  char path[PATH_SIZE];
  int pipe_ends[2];
  if (fds[WHOLE]) return;
  signal(SIGPIPE, SIG_IGN);
  fds[WHOLE] = temp_file("whole", 100, 1);
  fds[READ_ONLY] = open(temp_path(path, "whole"), O_RDONLY | O_CLOEXEC);
  fds[WRITE_ONLY] = open(temp_path(path, "whole"), O_WRONLY | O_CLOEXEC);
  EXPECT(symlink("whole", temp_path(path, "link")) == 0);
  fds[DIRECTORY] = open(temp_path(path, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  EXPECT(pipe2(pipe_ends, O_CLOEXEC) == 0);
  fds[PIPE_IN] = pipe_ends[1];
  pipe_reader = pipe_ends[0];
  EXPECT(pipe2(pipe_ends, O_CLOEXEC) == 0);
  close(pipe_ends[0]);
  fds[PIPE_DEAD] = pipe_ends[1];
  fds[CLOSED] = fcntl(fds[WHOLE], F_DUPFD_CLOEXEC, 900); /* so high that nobody gets it again */
  close(fds[CLOSED]);
  fds[NEGATIVE] = -1;
  fds[VERY_NEGATIVE] = INT32_MIN;
  fds[UNREGISTERED] = (1 << 30) + 1;
  fds[CWD] = AT_FDCWD;
}

static void close_fds(void) {
  static const int opened[] = {WHOLE, READ_ONLY, WRITE_ONLY, DIRECTORY, PIPE_IN, PIPE_DEAD};
  for (size_t i = 0; i < COUNT_OF(opened); i++) close(fds[opened[i]]);
  close(pipe_reader);
}

static void describe(paluring_op *op, const struct row *row, paluring_buf *buf) {
  int fd = fds[row->fd];
  switch (row->verb) {
    case READ: paluring_op_read(op, fd, buf, 0, row->a, row->b); break;
    case WRITE: paluring_op_write(op, fd, buf, 0, row->a, row->b); break;
    case FSYNC: paluring_op_fsync(op, fd); break;
    case FDATASYNC: paluring_op_fdatasync(op, fd); break;
    case OPENAT: paluring_op_openat(op, fd, row->path, (int)row->a, (uint32_t)row->b); break;
    case CLOSE: paluring_op_close(op, fd); break;
    case STATX: paluring_op_statx(op, fd, row->path, (int)row->a, (uint32_t)row->b, buf, row->c); break;
    case FALLOCATE: paluring_op_fallocate(op, fd, (int)row->a, row->b, row->c); break;
    case FTRUNCATE: paluring_op_ftruncate(op, fd, row->a); break;
    case TIMEOUT: paluring_op_timeout(op, (int64_t)row->a, (uint32_t)row->b); break;
    case POLL: paluring_op_poll(op, fd, (uint32_t)row->a); break;
  }
}

/* Runs one row; says whether the result is right and came from where it must. */
static void run_row(paluring_ring *ring, const struct row *row, paluring_buf *buf, uint32_t flags) {
  paluring_op op;
  paluring_io io = 1;
  paluring_completion completion;
  describe(&op, row, buf);
  op.flags = flags;
  op.user_data = 77;
  int32_t status = paluring_io_start(ring, &op, &io);
  if (status == -EOPNOTSUPP && row->verb == FTRUNCATE) return; /* before Linux 6.9 */
  if (status < 0) {
    CHECK(row->by != KERNEL || status == 0);
    CHECK_EQ(io, 0);
    CHECK_EQ(status, row->fd == UNREGISTERED && status == -EINVAL ? -EINVAL : row->result);
    return;
  }
  CHECK(row->by != START);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  CHECK_EQ(completion.result, row->result);
  CHECK(completion.io == io && completion.user_data == 77 && !completion.buf && !completion.flags);
}

static void run_table(uint32_t mode, uint32_t flags) {
  paluring_buf *buf = NULL;
  DO(make_fds());
  paluring_ring *ring = ring_open(mode, 8, 0);
  CHECK(ring);
  CHECK_EQ(paluring_buf_alloc(4096, 0, &buf), 0);
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    ROW(rows[i].name);
    DO(run_row(ring, &rows[i], buf, flags));
    CHECK_EQ(paluring_buf_refs(buf), 1);
  }
  paluring_buf_release(buf);
  ring_done(ring);
}

TEST(operations_fail_as_the_system_calls_do) { run_table(PALURING_MODE_OWNER, 0); }
TEST(operations_fail_alike_when_submitted_at_once) { run_table(PALURING_MODE_SHARED, PALURING_OP_SUBMIT); }
TEST(operations_fail_alike_on_worker_threads) { run_table(PALURING_MODE_OWNER, PALURING_OP_ASYNC); }

/* ---- what they do ---- */

static paluring_ring *ring;
static paluring_buf *buf;

TEST(nop_gives_0) {
  paluring_op op;
  paluring_completion completion;
  paluring_op_nop(&op);
  op.user_data = 5;
  CHECK_EQ(do_op(ring, &op, &completion), 0);
  CHECK_EQ(completion.user_data, 5);
  CHECK_EQ(completion.opcode, IORING_OP_NOP);
  CHECK_EQ(completion.extra, 0);
}

TEST(write_and_read_move_bytes) {
  paluring_op op;
  int fd = temp_file("moved", 4096, 1);
  fill_pattern(paluring_buf_data(buf), 4096, 2);
  paluring_op_write(&op, fd, buf, 100, 1000, 50);
  CHECK_EQ(do_op(ring, &op, NULL), 1000);
  memset(paluring_buf_data(buf), 0, 4096);
  paluring_op_read(&op, fd, buf, 10, 4000, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 4000);
  const uint8_t *got = paluring_buf_data(buf);
  CHECK(has_pattern(got + 10, 50, 0, 1) && has_pattern(got + 60, 1000, 100, 2) && has_pattern(got + 1060, 2950, 1050, 1));
  CHECK(!got[9] && !got[4010]);
  close(fd);
}

TEST(file_offset_minus_one_is_the_position) {
  paluring_op op;
  int fd = temp_file("position", 300, 3);
  paluring_op_read(&op, fd, buf, 0, 100, UINT64_MAX);
  for (size_t at = 0; at < 300; at += 100) {
    CHECK_EQ(do_op(ring, &op, NULL), 100);
    CHECK(has_pattern(paluring_buf_data(buf), 100, at, 3));
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), (off_t)at + 100);
  }
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  fill_pattern(paluring_buf_data(buf), 100, 4);
  paluring_op_write(&op, fd, buf, 0, 100, UINT64_MAX);
  CHECK_EQ(do_op(ring, &op, NULL), 100);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 400);
  paluring_op_read(&op, fd, buf, 0, 100, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 100);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 400);
  close(fd);
}

TEST(an_op_is_a_template_that_starts_many_times) {
  paluring_op op;
  DO(make_fds());
  paluring_op_read(&op, fds[WHOLE], buf, 0, 100, 0);
  const paluring_op before = op;
  for (int i = 0; i < 100; i++) {
    memset(paluring_buf_data(buf), 0, 100);
    CHECK_EQ(do_op(ring, &op, NULL), 100);
    CHECK(has_pattern(paluring_buf_data(buf), 100, 0, 1));
    CHECK(memcmp(&before, &op, sizeof op) == 0);
  }
}

TEST(fsync_and_fdatasync_give_0) {
  paluring_op op;
  int fd = temp_file("synced", 10000, 1);
  paluring_op_fsync(&op, fd);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  paluring_op_fdatasync(&op, fd);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  close(fd);
}

TEST(openat_creates_with_flags_and_mode_and_close_closes) {
  paluring_op op;
  struct stat s;
  DO(make_fds());
  mode_t mask = umask(027);
  paluring_op_openat(&op, fds[DIRECTORY], "created", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0666);
  int fd = do_op(ring, &op, NULL);
  umask(mask);
  CHECK(fd >= 0);
  CHECK(fstat(fd, &s) == 0);
  CHECK_EQ(s.st_mode, S_IFREG | 0640);
  CHECK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_RDWR | O_APPEND));
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  paluring_op_close(&op, fd);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
}

TEST(close_cancels_what_waits_on_the_descriptor) {
  paluring_op op;
  paluring_io io = 0;
  paluring_completion completion;
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  paluring_op_read(&op, ends[0], buf, 0, 10, 0);
  CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
  CHECK(paluring_ring_submit(ring) >= 0);
  paluring_op_close(&op, ends[0]);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  CHECK_EQ(completion.result, -ECANCELED);
  CHECK(write(ends[1], "x", 1) < 0 && errno == EPIPE); /* nothing holds the read end */
  close(ends[1]);
}

TEST(statx_tells_what_stat_tells) {
  static const struct { const char *path; int flags; } places[] = {{"whole", 0}, {"", AT_EMPTY_PATH}, {"link", AT_SYMLINK_NOFOLLOW}, {"link", 0}};
  DO(make_fds());
  for (size_t i = 0; i < COUNT_OF(places); i++) {
    paluring_op op;
    struct stat s;
    struct statx got;
    memset(paluring_buf_data(buf), 0xee, 4096);
    paluring_op_statx(&op, fds[DIRECTORY], places[i].path, places[i].flags, STATX_BASIC_STATS, buf, 64);
    CHECK_EQ(do_op(ring, &op, NULL), 0);
    CHECK(fstatat(fds[DIRECTORY], places[i].path, &s, places[i].flags) == 0);
    memcpy(&got, paluring_buf_data(buf) + 64, sizeof got);
    CHECK_EQ(got.stx_ino, s.st_ino);
    CHECK_EQ(got.stx_size, s.st_size);
    CHECK_EQ(got.stx_mode, s.st_mode);
    CHECK_EQ(got.stx_nlink, s.st_nlink);
    CHECK_EQ(got.stx_mtime.tv_sec, s.st_mtim.tv_sec);
    CHECK_EQ(got.stx_mtime.tv_nsec, s.st_mtim.tv_nsec);
    CHECK(paluring_buf_data(buf)[63] == 0xee && paluring_buf_data(buf)[64 + 256] == 0xee);
  }
}

TEST(fallocate_and_ftruncate_change_the_size) {
  paluring_op op;
  struct stat s;
  int fd = temp_file("sized", 100, 1);
  const struct { int mode; uint64_t offset, len; off_t size; } steps[] = {
      {0, 0, 5000, 5000}, {FALLOC_FL_KEEP_SIZE, 5000, 100, 5000}, {0, 5000, 1, 5001}};
  for (size_t i = 0; i < COUNT_OF(steps); i++) {
    paluring_op_fallocate(&op, fd, steps[i].mode, steps[i].offset, steps[i].len);
    int32_t result = do_op(ring, &op, NULL);
    if (result == -EOPNOTSUPP) SKIP("this file system can't allocate");
    CHECK_EQ(result, 0);
    CHECK(fstat(fd, &s) == 0 && s.st_size == steps[i].size);
  }
  if (paluring_ring_supports(ring, 55) == 1) { /* IORING_OP_FTRUNCATE, newer than some systems' headers */
    static const uint64_t lengths[] = {50, INT64_C(5) << 32, 0};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
      paluring_op_ftruncate(&op, fd, lengths[i]);
      CHECK_EQ(do_op(ring, &op, NULL), 0);
      CHECK(fstat(fd, &s) == 0 && (uint64_t)s.st_size == lengths[i]);
    }
  }
  close(fd);
}

TEST(a_timeout_takes_its_time) {
  paluring_op op;
  int64_t before = now_ns();
  paluring_op_timeout(&op, 20 * MS, 0);
  CHECK_EQ(do_op(ring, &op, NULL), -ETIME);
  CHECK(now_ns() - before >= 20 * MS);
  before = now_ns();
  paluring_op_timeout(&op, before + 20 * MS, IORING_TIMEOUT_ABS);
  CHECK_EQ(do_op(ring, &op, NULL), -ETIME);
  CHECK(now_ns() - before >= 20 * MS && now_ns() - before < LONG_ENOUGH / 2);
}

TEST(poll_waits_for_the_event_it_names) {
  paluring_op op;
  paluring_io io = 0;
  paluring_completion completion = {0};
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  paluring_op_poll(&op, ends[0], POLLIN);
  CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
  CHECK_EQ(paluring_io_wait(ring, io, MS, &completion), -ETIME);
  CHECK(completion.io == 0); /* zeroed: nothing yet */
  CHECK(write(ends[1], "x", 1) == 1);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
  CHECK_EQ(completion.result, POLLIN);
  close(ends[1]);
  CHECK_EQ(do_op(ring, &op, NULL), POLLIN | POLLHUP);
  close(ends[0]);
}

int main(void) {
  RUN(operations_fail_as_the_system_calls_do);
  RUN(operations_fail_alike_when_submitted_at_once);
  RUN(operations_fail_alike_on_worker_threads);
  ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_buf_alloc(4096, 4096, &buf);
  if (!ring || !buf) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(nop_gives_0);
  RUN(write_and_read_move_bytes);
  RUN(file_offset_minus_one_is_the_position);
  RUN(an_op_is_a_template_that_starts_many_times);
  RUN(fsync_and_fdatasync_give_0);
  RUN(openat_creates_with_flags_and_mode_and_close_closes);
  RUN(close_cancels_what_waits_on_the_descriptor);
  RUN(statx_tells_what_stat_tells);
  RUN(fallocate_and_ftruncate_change_the_size);
  RUN(a_timeout_takes_its_time);
  RUN(poll_waits_for_the_event_it_names);
  paluring_buf_release(buf);
  paluring_ring_release(ring);
  close_fds();
  return harness_end();
}
