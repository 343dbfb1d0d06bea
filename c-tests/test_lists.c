/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Reads and writes: lists of buffers, limits of length, flags, and what may be freed once start returned. */
#include "harness.h"

#include <sys/mman.h>
#include <sys/uio.h>

#define FILE_LEN 20000

static paluring_ring *ring;

static paluring_buf *allocated(size_t len) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_alloc(len, 0, &buf), 0);
  return buf;
}

/* ---- lists ---- */

/* A list of count members of different lengths, some of none; the list alone holds them. */
static paluring_buf *list_of(size_t count, uint8_t fill) {
  paluring_buf *members[1024] = {NULL}, *list = NULL;
  for (size_t i = 0; i < count; i++) {
    members[i] = allocated(count == 1 ? 1000 : i % 5 == 1 ? 0 : 3 + i * 37 % 100);
    if (paluring_buf_len(members[i])) memset(paluring_buf_data(members[i]), fill, paluring_buf_len(members[i]));
  }
  EXPECT_EQ(paluring_buf_list(members, count, &list), 0);
  for (size_t i = 0; i < count; i++) paluring_buf_release(members[i]);
  return list;
}

/* Copies a list's bytes out of it (into == true) or into it. */
static void copy_list(paluring_buf *list, uint8_t *bytes, bool into) {
  for (size_t i = 0; i < paluring_buf_list_count(list); i++) {
    paluring_buf *member = paluring_buf_list_at(list, i);
    size_t len = paluring_buf_len(member);
    if (len) memcpy(into ? bytes : paluring_buf_data(member), into ? paluring_buf_data(member) : bytes, len);
    bytes += len;
  }
}

static bool all_are(const uint8_t *bytes, size_t len, uint8_t value) {
  for (size_t i = 0; i < len; i++)
    if (bytes[i] != value) return false;
  return true;
}

static void read_into_list(paluring_buf *list, int fd, size_t offset, size_t len) {
  static uint8_t bytes[128 * 1024];
  paluring_op op;
  size_t total = paluring_buf_len(list);
  memset(bytes, 0xee, total);
  copy_list(list, bytes, false);
  paluring_op_read(&op, fd, list, offset, len, 77);
  size_t want = len < FILE_LEN - 77 ? len : FILE_LEN - 77;
  CHECK_EQ(do_op(ring, &op, NULL), want);
  copy_list(list, bytes, true);
  CHECK(all_are(bytes, offset, 0xee));
  CHECK(has_pattern(bytes + offset, want, 77, 1));
  CHECK(all_are(bytes + offset + want, total - offset - want, 0xee));
}

static void write_from_list(paluring_buf *list, int fd, size_t offset, size_t len) {
  static uint8_t bytes[128 * 1024], file[128 * 1024];
  paluring_op op;
  struct stat s;
  fill_pattern(bytes, paluring_buf_len(list), 9);
  copy_list(list, bytes, false);
  CHECK(ftruncate(fd, 0) == 0);
  paluring_op_write(&op, fd, list, offset, len, 5);
  CHECK_EQ(do_op(ring, &op, NULL), len);
  CHECK(fstat(fd, &s) == 0);
  CHECK_EQ(s.st_size, len ? len + 5 : 0);
  CHECK(pread(fd, file, sizeof file, 0) == s.st_size);
  CHECK(has_pattern(file + (len ? 5 : 0), len, offset, 9));
}

TEST(lists_are_filled_and_drained_in_order_from_any_offset) {
  static const size_t counts[] = {1, 3, 16, 1024};
  int in = temp_file("in", FILE_LEN, 1), out = temp_file("out", 0, 1);
  for (size_t n = 0; n < COUNT_OF(counts); n++) {
    paluring_buf *list = list_of(counts[n], 0);
    size_t total = paluring_buf_len(list), first = paluring_buf_len(paluring_buf_list_at(list, 0));
    size_t last = paluring_buf_len(paluring_buf_list_at(list, counts[n] - 1));
    const size_t offsets[] = {0, 1, first - 1, first, total / 2, total - last, total - 1, total};
    for (size_t i = 0; i < COUNT_OF(offsets); i++) {
      size_t offset = offsets[i] < total ? offsets[i] : total;
      const size_t lens[] = {total - offset, (total - offset) / 2, total - offset > 0, 0};
      for (size_t j = 0; j < COUNT_OF(lens); j++) {
        char row[80];
        snprintf(row, sizeof row, "%zu members, offset %zu of %zu, len %zu", counts[n], offset, total, lens[j]);
        ROW(row);
        DO(read_into_list(list, in, offset, lens[j]));
        DO(write_from_list(list, out, offset, lens[j]));
      }
    }
    CHECK_EQ(paluring_buf_refs(list), 1);
    paluring_buf_release(list);
  }
  close(in);
  close(out);
}

TEST(an_io_keeps_its_list_when_the_host_lets_go) {
  int ends[2];
  uint8_t bytes[1000];
  for (int round = 0; round < 100; round++) {
    paluring_op op;
    paluring_io io = 0;
    paluring_completion completion;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    paluring_buf *list = list_of(16, 0), *last = paluring_buf_list_at(list, 15);
    size_t total = paluring_buf_len(list), at = total - paluring_buf_len(last);
    paluring_buf_retain(last); /* the one that is looked at */
    paluring_op_read(&op, ends[0], list, 0, total, 0);
    CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
    paluring_buf_release(list);
    memset(&op, 0xff, sizeof op);
    CHECK(paluring_ring_submit(ring) >= 0);
    fill_pattern(bytes, total, 2);
    CHECK(write(ends[1], bytes, total) == (ssize_t)total);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
    CHECK_EQ(completion.result, total);
    CHECK(has_pattern(paluring_buf_data(last), paluring_buf_len(last), at, 2));
    CHECK_EQ(paluring_buf_refs(last), 1);
    paluring_buf_release(last);
    close(ends[0]);
    close(ends[1]);
  }
}

TEST(slices_limit_what_an_io_touches) {
  paluring_op op;
  paluring_buf *whole = allocated(300), *slice = NULL;
  int fd = temp_file("sliced", 300, 1);
  CHECK_EQ(paluring_buf_slice(whole, 100, 100, &slice), 0);
  paluring_op_read(&op, fd, slice, 10, 90, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 90);
  const uint8_t *bytes = paluring_buf_data(whole);
  CHECK(all_are(bytes, 110, 0) && has_pattern(bytes + 110, 90, 0, 1) && all_are(bytes + 200, 100, 0));
  paluring_buf_release(slice);
  paluring_buf_release(whole);
  close(fd);
}

/* ---- limits ---- */

#define LIMIT (((size_t)1 << 31) - 4096) /* bytes in one operation */

TEST(lengths_beyond_the_buffer_or_the_limit_are_refused_at_start) {
  static const struct { const char *name; size_t offset, len; int32_t of_small, of_huge; } rows[] = {
      {"the limit", 0, LIMIT, -EINVAL, (int32_t)LIMIT},
      {"beyond the limit by 1", 0, LIMIT + 1, -EINVAL, -EINVAL},
      {"2 GiB", 0, LIMIT + 4096, -EINVAL, -EINVAL},
      {"4 GiB", 0, (size_t)1 << 32, -EINVAL, -EINVAL},
      {"4 GiB + 1", 0, ((size_t)1 << 32) + 1, -EINVAL, -EINVAL},
      {"SIZE_MAX", 0, SIZE_MAX, -EINVAL, -EINVAL},
      {"1 beyond the end", 0, 101, -EINVAL, 101},
      {"across the end", 60, 41, -EINVAL, 41},
      {"to the end", 60, 40, 40, 40},
      {"nothing at the end", 100, 0, 0, 0},
      {"nothing beyond the end", 101, 0, -EINVAL, 0},
      {"offset + len wraps", SIZE_MAX, 2, -EINVAL, -EINVAL},
      {"offset SIZE_MAX", SIZE_MAX, 0, -EINVAL, -EINVAL},
      {"offset 4 GiB", (size_t)1 << 32, 1, -EINVAL, 1},
      {"at the end of 5 GiB", ((size_t)5 << 30) - 1, 2, -EINVAL, -EINVAL},
  };
  size_t huge_len = (size_t)5 << 30;
  void *memory = mmap(NULL, huge_len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED);
  int sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
  paluring_buf *bufs[4] = {allocated(100)};
  CHECK_EQ(paluring_buf_adopt(memory, huge_len, NULL, 0, &bufs[1]), 0);
  for (int i = 0; i < 2; i++) CHECK_EQ(paluring_buf_list(&bufs[i], 1, &bufs[i + 2]), 0);
  for (size_t i = 0; i < COUNT_OF(rows) * COUNT_OF(bufs); i++) {
    paluring_op op;
    paluring_io io = 1;
    size_t at = i % COUNT_OF(rows), kind = i / COUNT_OF(rows);
    int32_t want = kind % 2 ? rows[at].of_huge : rows[at].of_small;
    char row[80];
    snprintf(row, sizeof row, "%s of %s%s", rows[at].name, kind % 2 ? "5 GiB" : "100 bytes", kind / 2 ? " in a list" : "");
    ROW(row);
    paluring_op_write(&op, sink, bufs[kind], rows[at].offset, rows[at].len, 0);
    if (want >= 0) {
      CHECK_EQ(do_op(ring, &op, NULL), want);
    } else {
      CHECK_EQ(paluring_io_start(ring, &op, &io), want);
      CHECK_EQ(io, 0);
      paluring_op_read(&op, sink, bufs[kind], rows[at].offset, rows[at].len, 0);
      CHECK_EQ(paluring_io_start(ring, &op, &io), want);
    }
    CHECK_EQ(paluring_buf_refs(bufs[kind]), kind < 2 ? 2 : 1);
  }
  for (int i = 3; i >= 0; i--) paluring_buf_release(bufs[i]);
  munmap(memory, huge_len);
  close(sink);
}

/* ---- flags ---- */

TEST(rw_flags_are_those_of_preadv2) {
  paluring_op op;
  paluring_buf *buf = allocated(100);
  int fd = temp_file("flagged", 100, 1);
  paluring_op_read(&op, fd, buf, 0, 100, 0);
  op.rw_flags = RWF_NOWAIT; /* just written: in the page cache, where the file system knows the flag */
  int32_t result = do_op(ring, &op, NULL);
  CHECK(result == 100 || result == -EAGAIN || result == -EOPNOTSUPP);
  op.rw_flags = RWF_HIPRI << 20; /* no flag */
  paluring_io io = 0;
  int32_t status = paluring_io_start(ring, &op, &io);
  if (status >= 0) {
    paluring_completion completion;
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
    status = completion.result;
  }
  CHECK(status == -EINVAL || status == -EOPNOTSUPP);
  paluring_op_write(&op, fd, buf, 0, 100, 0);
  op.rw_flags = RWF_APPEND | RWF_DSYNC;
  CHECK_EQ(do_op(ring, &op, NULL), 100);
  struct stat s;
  CHECK(fstat(fd, &s) == 0 && s.st_size == 200);
  paluring_buf_release(buf);
  close(fd);
}

TEST(rw_flags_and_ioprio_are_refused_where_they_would_mean_something_else) {
  paluring_op ops[6];
  paluring_io io = 1;
  int fd = temp_file("unflagged", 10, 1);
  paluring_op_nop(&ops[0]);
  paluring_op_fsync(&ops[1], fd);
  paluring_op_openat(&ops[2], AT_FDCWD, "/dev/null", O_RDONLY, 0);
  paluring_op_timeout(&ops[3], 0, 0);
  paluring_op_poll(&ops[4], fd, 1);
  paluring_op_fallocate(&ops[5], fd, 0, 0, 1);
  for (size_t i = 0; i < 2 * COUNT_OF(ops); i++) {
    paluring_op op = ops[i / 2];
    if (i % 2) op.rw_flags = 1;
    else op.ioprio = 1;
    CHECK_EQ(paluring_io_start(ring, &op, &io), -EINVAL);
    CHECK_EQ(io, 0);
  }
  close(fd);
}

/* ---- freed right after start ---- */

/* A path in memory that is overwritten and freed at once, to be found by the guard of a debugging allocator too. */
static char *short_lived(const char *text) {
  char *copy = malloc(strlen(text) + 1);
  return copy ? strcpy(copy, text) : NULL;
}

static void destroy(char *path) {
  memset(path, '#', strlen(path));
  free(path);
}

TEST(paths_and_ops_may_be_freed_once_start_returned) {
  enum { FILES = 50, ROUNDS = 40 };
  char path[PATH_SIZE];
  struct stat stats[FILES], s;
  for (int i = 0; i < FILES; i++) {
    char name[200];
    snprintf(name, sizeof name, "%0*d", i % 2 ? 4 : 180, i); /* short ones and ones that need memory of their own */
    int fd = open(temp_path(path, name), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && fstat(fd, &stats[i]) == 0);
    close(fd);
  }
  for (int round = 0; round < ROUNDS; round++) {
    paluring_io opens[FILES], asks[FILES];
    paluring_buf *bufs[FILES];
    for (int i = 0; i < FILES; i++) {
      char name[200];
      snprintf(name, sizeof name, "%0*d", i % 2 ? 4 : 180, i);
      paluring_op *op = malloc(sizeof *op);
      char *first = short_lived(temp_path(path, name)), *second = short_lived(path);
      CHECK(op && first && second);
      paluring_op_openat(op, AT_FDCWD, first, O_RDONLY | O_CLOEXEC, 0);
      if (round % 4 == 1) op->flags = PALURING_OP_ASYNC;
      CHECK_EQ(paluring_io_start(ring, op, &opens[i]), 0);
      destroy(first);
      bufs[i] = allocated(256);
      paluring_op_statx(op, AT_FDCWD, second, 0, STATX_INO, bufs[i], 0);
      CHECK_EQ(paluring_io_start(ring, op, &asks[i]), 0);
      destroy(second);
      memset(op, 0xff, sizeof *op);
      free(op);
    }
    for (int i = 0; i < FILES; i++) {
      paluring_completion completion;
      struct statx got;
      CHECK_EQ(paluring_io_wait(ring, opens[i], LONG_ENOUGH, &completion), 0);
      CHECK(completion.result >= 0);
      CHECK(fstat(completion.result, &s) == 0 && s.st_ino == stats[i].st_ino);
      close(completion.result);
      CHECK_EQ(paluring_io_wait(ring, asks[i], LONG_ENOUGH, &completion), 0);
      CHECK_EQ(completion.result, 0);
      memcpy(&got, paluring_buf_data(bufs[i]), sizeof got);
      CHECK_EQ(got.stx_ino, stats[i].st_ino);
      paluring_buf_release(bufs[i]);
    }
  }
}

TEST(long_paths_are_opened_or_refused_as_the_kernel_does) {
  paluring_op op;
  char path[5000];
  for (size_t len = 4000; len < sizeof path; len += 95) {
    memset(path, '/', len);
    path[len] = 0;
    paluring_op_openat(&op, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    int32_t result = do_op(ring, &op, NULL);
    if (len < 4096) CHECK(result >= 0 && close(result) == 0);
    else CHECK_EQ(result, -ENAMETOOLONG);
  }
}

int main(void) {
  ring = ring_open(PALURING_MODE_OWNER, 64, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(lists_are_filled_and_drained_in_order_from_any_offset);
  RUN(an_io_keeps_its_list_when_the_host_lets_go);
  RUN(slices_limit_what_an_io_touches);
  RUN(lengths_beyond_the_buffer_or_the_limit_are_refused_at_start);
  RUN(rw_flags_are_those_of_preadv2);
  RUN(rw_flags_and_ioprio_are_refused_where_they_would_mean_something_else);
  RUN(paths_and_ops_may_be_freed_once_start_returned);
  RUN(long_paths_are_opened_or_refused_as_the_kernel_does);
  paluring_ring_release(ring);
  return harness_end();
}
