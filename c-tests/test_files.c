/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Registered files: by a call, by PALURING_OP_FIXED, where they are taken, and that none is ever taken for another. */
#include "optable.h"

#define FIRST (1 << 30)

static paluring_ring *ring;
static struct stage stage;

static paluring_ring *ring_with_files(uint32_t mode, uint32_t max_files) {
  paluring_ring_options options;
  paluring_ring *opened = NULL;
  paluring_ring_options_init(&options, sizeof options);
  options.mode = mode, options.entries = 16, options.max_files = max_files;
  EXPECT_EQ(paluring_ring_open(&options, &opened), 0);
  return opened;
}

static int registered(int fd) {
  int fixed = -1;
  EXPECT_EQ(paluring_file_register(ring, fd, &fixed), 0);
  EXPECT(fixed > FIRST);
  return fixed;
}

/* Whether this kernel installs what I/Os make. */
static bool can_install(void) {
  paluring_op op;
  paluring_io io = 0;
  paluring_op_socket(&op, AF_INET, SOCK_STREAM, 0);
  op.flags = PALURING_OP_FIXED;
  int32_t status = paluring_io_start(ring, &op, &io);
  if (status == 0) paluring_io_drop(ring, io, NULL), paluring_ring_drain(ring, LONG_ENOUGH);
  return status == 0;
}

/* ---- by a call ---- */

TEST(a_file_is_registered_used_and_unregistered) {
  paluring_op op;
  paluring_buf *buf = new_buf(8);
  int fd = temp_file("one", 100, 1), fixed = registered(fd);
  close(fd); /* the registration keeps the file */
  paluring_op_read(&op, fixed, buf, 0, 8, 40);
  CHECK_EQ(do_op(ring, &op, NULL), 8);
  CHECK(has_pattern(paluring_buf_data(buf), 8, 40, 1));
  CHECK_EQ(paluring_file_unregister(ring, fixed), 0);
  CHECK_EQ(do_op(ring, &op, NULL), -EBADF);
  CHECK_EQ(paluring_file_unregister(ring, fixed), -EBADF);
  CHECK_EQ(paluring_file_unregister(ring, FIRST), -EINVAL); /* the library's */
  CHECK_EQ(paluring_file_unregister(ring, 3), -EINVAL);
  CHECK_EQ(paluring_file_unregister(ring, INT32_MAX), -EINVAL);
  CHECK_EQ(paluring_file_unregister(ring, INT32_MIN), -EINVAL);
  CHECK_EQ(paluring_file_register(ring, -1, &fixed), -EBADF);
  CHECK_EQ(fixed, -1);
  CHECK_EQ(paluring_file_register(ring, FIRST + 1, &fixed), -EBADF);
  paluring_buf_release(buf);
}

TEST(there_are_as_many_as_asked_for) {
  int fixed[5], fd = temp_file("many", 1, 1);
  paluring_op op;
  paluring_ring *outer = ring;
  ring = ring_with_files(PALURING_MODE_OWNER, 4);
  CHECK(ring);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 4; i++) fixed[i] = registered(fd);
    CHECK_EQ(paluring_file_register(ring, fd, &fixed[4]), -ENFILE);
    for (int i = 0; i < 3; i++) CHECK_EQ(paluring_file_unregister(ring, fixed[i]), 0);
    paluring_op_close(&op, fixed[3]);
    CHECK_EQ(do_op(ring, &op, NULL), 0);
  }
  ring_done(ring);
  ring = outer;
  close(fd);
}

/* ---- none is taken for another ---- */

enum { FILES = 4, SEEDS = 16 };

static struct {
  int fixed;
  unsigned seed;
} there[2 * FILES];

static int count_there, files[SEEDS];

/* Registers a file or has one installed, where a slot is free. */
static void add_one(bool installs, unsigned seed) {
  char path[PATH_SIZE], name[16];
  int fixed = -1;
  paluring_op op;
  if (installs) {
    snprintf(name, sizeof name, "file%u", seed);
    paluring_op_openat(&op, AT_FDCWD, temp_path(path, name), O_RDONLY | O_CLOEXEC, 0);
    op.flags = PALURING_OP_FIXED;
    fixed = do_op(ring, &op, NULL);
    CHECK(fixed > FIRST || fixed == -ENFILE);
  } else {
    int32_t status = paluring_file_register(ring, files[seed], &fixed);
    CHECK(status == 0 || status == -ENFILE);
  }
  if (fixed > 0) there[count_there].fixed = fixed, there[count_there++].seed = seed;
}

static void remove_one(bool by_close, int gone) {
  paluring_op op;
  if (count_there == 0) return;
  gone %= count_there;
  paluring_op_close(&op, there[gone].fixed);
  if (by_close) CHECK_EQ(do_op(ring, &op, NULL), 0);
  else CHECK_EQ(paluring_file_unregister(ring, there[gone].fixed), 0);
  there[gone] = there[--count_there];
}

static void check_all(paluring_buf *buf) {
  paluring_op op;
  for (int i = 0; i < count_there; i++) {
    paluring_op_read(&op, there[i].fixed, buf, 0, 16, 0);
    CHECK_EQ(do_op(ring, &op, NULL), 16);
    CHECK(has_pattern(paluring_buf_data(buf), 16, 0, there[i].seed));
  }
}

/* Whatever is installed and registered in whatever order, each number means its own file. */
TEST(none_is_taken_for_another) {
  unsigned random = 7;
  char name[16];
  paluring_ring *outer = ring;
  ring = ring_with_files(PALURING_MODE_OWNER, FILES);
  CHECK(ring);
  paluring_buf *buf = new_buf(16);
  for (unsigned i = 0; i < SEEDS; i++) snprintf(name, sizeof name, "file%u", i), files[i] = temp_file(name, 16, i);
  bool installs = can_install();
  count_there = 0;
  for (int round = tries(400); round > 0; round--) {
    random = random * 1103515245 + 12345;
    unsigned what = random >> 16, which = what >> 3;
    if (what & 1) DO(add_one(what & 2 && installs, which % SEEDS));
    else DO(remove_one(what & 2, (int)which));
    DO(check_all(buf));
  }
  for (int i = 0; i < SEEDS; i++) close(files[i]);
  paluring_buf_release(buf);
  ring_done(ring);
  ring = outer;
}

TEST(one_in_flight_keeps_its_file) {
  paluring_op op;
  paluring_completion got;
  struct ends ends = open_socket();
  paluring_buf *buf = new_buf(8);
  int fixed = registered(ends.read);
  paluring_op_recv(&op, fixed, buf, 0, 8, 0);
  paluring_io io = start_op(ring, op); /* not submitted yet: unregister sees to it */
  CHECK_EQ(paluring_file_unregister(ring, fixed), 0);
  int other = registered(ends.write);
  CHECK(other != fixed); /* its number is in use until the I/O is done */
  CHECK_EQ(write(ends.write, "12345678", 8), 8);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK(got.result == 8 || got.result == -EBADF); /* -EBADF: nothing had been submitted before the ring was bound */
  CHECK_EQ(paluring_file_unregister(ring, other), 0);
  close_pipe(ends);
  paluring_buf_release(buf);
}

TEST(a_close_cancels_the_others_on_it) {
  paluring_op op;
  paluring_completion got;
  char byte;
  struct ends ends = open_socket();
  paluring_buf *buf = new_buf(8);
  int fixed = registered(ends.read);
  close(ends.read);
  paluring_op_recv(&op, fixed, buf, 0, 8, 0);
  paluring_io io = start_op(ring, op);
  CHECK(paluring_ring_submit(ring) >= 1);
  paluring_op_close(&op, fixed);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, -ECANCELED);
  CHECK_EQ(read(ends.write, &byte, 1), 0); /* the peer sees the end */
  CHECK_EQ(do_op(ring, &op, NULL), -EBADF);
  close(ends.write);
  paluring_buf_release(buf);
}

/* ---- which operations take one ---- */

/* Puts a registered file in place of a descriptor of the stage. */
static void as_fixed(int *fd) {
  int fixed = registered(*fd);
  *fd = fixed;
}

TEST(operations_on_files_and_sockets_take_one) {
  static const char *const taking[] = {"read", "write", "fsync", "fdatasync", "sync_file_range", "fallocate", "ftruncate", "fadvise", "fgetxattr", "fsetxattr", "splice", "tee", "bind", "listen", "accept", "connect", "shutdown", "send", "recv", "sendto", "sendmsg", "recvmsg", "setsockopt", "getsockopt", "siocinq", "siocoutq", "poll", "epoll_wait"};
  paluring_op op;
  paluring_completion got;
  bool xattrs = has_xattrs();
  for (size_t i = 0; i < COUNT_OF(taking); i++) {
    const struct kind *kind = kinds;
    while (strcmp(kind->name, taking[i]) != 0) kind++;
    ROW(taking[i]);
    if (!paluring_ring_supports(ring, kind->opcode) || (kind->flags & NEEDS_XATTR && !xattrs)) continue; /* test_op_table skips it by name */
    stage_make(&stage, ring);
    int *fds[] = {&stage.file, &stage.listener, &stage.unbound, &stage.udp, &stage.epoll, &stage.full.read, &stage.empty.write, &stage.pair.read, &stage.pair.write};
    int plain[COUNT_OF(fds)];
    for (size_t k = 0; k < COUNT_OF(fds); k++) plain[k] = *fds[k], as_fixed(fds[k]);
    kind->describe(&op, &stage);
    int32_t result = do_op(ring, &op, &got);
    for (size_t k = 0; k < COUNT_OF(fds); k++) {
      CHECK_EQ(paluring_file_unregister(ring, *fds[k]), 0);
      *fds[k] = plain[k];
    }
    stage_end(&stage);
    if (kind->flags & AT_RUN_TIME && result == -EOPNOTSUPP) continue;
    if (kind->flags & NEEDS_XATTR && result == -EBADF) continue; /* as older kernels answer (6.12): docs/kernels.md */
    if (kind->result == A_DESCRIPTOR) close(result);
    else CHECK_EQ(result, kind->result);
  }
}

/* ---- installed by I/Os ---- */

#define NEEDS_INSTALLS() do { if (!can_install()) SKIP("this kernel has no range for installs: -EOPNOTSUPP"); } while (0)

TEST(what_is_made_is_installed) {
  paluring_op op;
  paluring_completion got;
  NEEDS_INSTALLS();
  int fds = count_fds();
  static const char *const making[] = {"openat", "socket", "accept", "pipe"};
  for (size_t i = 0; i < COUNT_OF(making); i++) {
    const struct kind *kind = kinds;
    while (strcmp(kind->name, making[i]) != 0) kind++;
    ROW(making[i]);
    if (!paluring_ring_supports(ring, kind->opcode)) continue; /* test_op_table skips it by name */
    stage_make(&stage, ring);
    int before = count_fds();
    kind->describe(&op, &stage);
    op.flags = PALURING_OP_FIXED;
    int32_t result = do_op(ring, &op, &got);
    CHECK_EQ(count_fds(), before);
    int ends[2] = {(int)got.extra, (int)(got.extra >> 32)};
    if (kind->opcode != OP_PIPE) ends[0] = result, ends[1] = result + 1;
    CHECK(ends[0] > FIRST && ends[1] > FIRST && ends[0] != ends[1]);
    for (int end = 0; end < (kind->opcode == OP_PIPE ? 2 : 1); end++) {
      paluring_op_close(&op, ends[end]);
      CHECK_EQ(do_op(ring, &op, NULL), 0);
    }
    stage_end(&stage);
  }
  CHECK_EQ(count_fds(), fds);
}

TEST(connections_are_accepted_one_after_the_other_and_served) {
  paluring_op op;
  paluring_completion got;
  NEEDS_INSTALLS();
  struct sockaddr_in address;
  int listener = listen_on_loopback(&address); /* registered, it would keep each closed file before Linux 6.13 */
  paluring_buf *buf = new_buf(8);
  paluring_op_accept_multishot(&op, listener, SOCK_CLOEXEC);
  op.flags = PALURING_OP_FIXED;
  paluring_io io = start_op(ring, op);
  for (int i = tries(100); i > 0; i--) {
    int client = connect_to_loopback(&address);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
    CHECK(got.result > FIRST && got.flags == PALURING_COMPLETION_MORE);
    CHECK_EQ(write(client, "12345678", 8), 8);
    paluring_op_recv(&op, got.result, buf, 0, 8, 0);
    CHECK_EQ(do_op(ring, &op, NULL), 8);
    paluring_op_close(&op, got.result);
    CHECK_EQ(do_op(ring, &op, NULL), 0);
    CHECK_EQ(read(client, &(char){0}, 1), 0);
    close(client);
  }
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, -ECANCELED);
  close(listener);
  paluring_buf_release(buf);
}

/* Were they kept, the next would find no slot. */
TEST(unwanted_ones_are_closed) {
  paluring_op op;
  paluring_io io;
  NEEDS_INSTALLS();
  for (int i = 0; i < 300; i++) {
    paluring_op_socket(&op, AF_INET, SOCK_STREAM, 0);
    op.flags = PALURING_OP_FIXED | (i % 3 == 0 ? PALURING_OP_DETACHED : 0);
    CHECK_EQ(paluring_io_start(ring, &op, i % 3 == 0 ? NULL : &io), 0);
    if (i % 3 == 1) CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
    if (i % 3 == 2) CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, NULL), 0);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  }
  paluring_op_socket(&op, AF_INET, SOCK_STREAM, 0);
  op.flags = PALURING_OP_FIXED;
  int fixed = do_op(ring, &op, NULL);
  CHECK(fixed > FIRST);
  CHECK_EQ(paluring_file_unregister(ring, fixed), 0);
}

TEST(installs_are_for_what_makes_files) {
  paluring_op op;
  paluring_io io;
  paluring_op_nop(&op);
  op.flags = PALURING_OP_FIXED;
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EINVAL);
}

/* ---- threads ---- */

static void *register_here(void *argument) {
  int fixed = -1, fd = *(int *)argument;
  int32_t status = paluring_file_register(ring, fd, &fixed);
  if (status == 0) status = paluring_file_unregister(ring, fixed);
  *(int *)argument = status;
  return NULL;
}

TEST(who_may_register) {
  paluring_ring *outer = ring;
  for (uint32_t mode = PALURING_MODE_OWNER; mode <= PALURING_MODE_BACKGROUND; mode++)
    for (int bound = 0; bound < 2; bound++) {
      int argument = open("/dev/null", O_RDONLY | O_CLOEXEC), fd = argument;
      ring = ring_with_files(mode, 8);
      CHECK(ring);
      if (bound && mode != PALURING_MODE_BACKGROUND) CHECK_EQ(paluring_ring_submit(ring), 0);
      pthread_join(start_thread(register_here, &argument), NULL);
      CHECK_EQ(argument, bound && mode == PALURING_MODE_OWNER ? PALURING_ERR_WRONG_THREAD : 0);
      close(fd);
      ring_done(ring);
      int fixed = -1;
      CHECK_EQ(paluring_file_register(NULL, 0, &fixed), -EINVAL);
    }
  ring = outer;
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  for (int mode = 0; mode < 2; mode++) {
    ring = ring_open(HOST_MODES[mode], 16, 0);
    if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
    RUN(a_file_is_registered_used_and_unregistered);
    RUN(there_are_as_many_as_asked_for);
    RUN(none_is_taken_for_another);
    RUN(one_in_flight_keeps_its_file);
    RUN(a_close_cancels_the_others_on_it);
    RUN(operations_on_files_and_sockets_take_one);
    RUN(what_is_made_is_installed);
    RUN(connections_are_accepted_one_after_the_other_and_served);
    RUN(unwanted_ones_are_closed);
    RUN(installs_are_for_what_makes_files);
    RUN(who_may_register);
    ring_done(ring);
  }
  ring = ring_open(PALURING_MODE_BACKGROUND, 16, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(a_file_is_registered_used_and_unregistered);
  RUN(what_is_made_is_installed);
  RUN(connections_are_accepted_one_after_the_other_and_served);
  RUN(unwanted_ones_are_closed);
  ring_done(ring);
  return harness_end();
}
