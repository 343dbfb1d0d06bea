/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Raw entries, all of them: each opcode and each flag is taken or refused as the tables here say, and what is taken
 * completes exactly once.
 */
#include "raw.h"

#include <sys/epoll.h>

enum { RAW_NOP128 = 63, RAW_URING_CMD128 = 64 };

static paluring_ring *ring;

/* Starts a raw entry; 1 if it was taken and has completed once, else the status. */
static int32_t try_entry(struct io_uring_sqe entry) {
  struct seen seen = {0};
  paluring_op op = raw_op(entry, NULL, note_completion, &seen);
  paluring_io io = 7;
  uint64_t before = stats_of(ring).total_started;
  int32_t status = paluring_io_start(ring, &op, &io);
  EXPECT(status <= 0);
  EXPECT((io != 0) == (status == 0));
  EXPECT_EQ(stats_of(ring).total_started - before, status == 0); /* a refused one has taken nothing */
  if (status < 0) return status;
  EXPECT_EQ(paluring_io_cancel(ring, io), 0); /* for one that would wait */
  EXPECT_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  EXPECT_EQ(seen.calls, 1);
  EXPECT_EQ(seen.last.opcode, entry.opcode);
  EXPECT(seen.last.io == io);
  return 1;
}

static bool is_refused_opcode(unsigned opcode) {
  static const uint8_t refused[] = {
    RAW_MSG_RING,            /* completes in another ring */
    IORING_OP_LINK_TIMEOUT,  /* is part of another I/O */
    IORING_OP_FILES_UPDATE,  /* would take the sentinel away */
    IORING_OP_URING_CMD,     /* the kernel says of each driver's commands anew what they do */
    RAW_NOP128, RAW_URING_CMD128, /* are two entries long */
  };
  for (size_t i = 0; i < COUNT_OF(refused); i++)
    if (refused[i] == opcode) return true;
  return false;
}

TEST(each_opcode_is_taken_and_completes_once_or_is_refused) {
  int taken = 0;
  for (unsigned opcode = 0; opcode < 256; opcode++) {
    char row[32];
    snprintf(row, sizeof row, "opcode %u", opcode);
    ROW(row);
    int32_t got = try_entry(raw_entry((uint8_t)opcode, -1));
    int32_t supported = paluring_ring_supports(ring, opcode);
    CHECK_EQ(got, is_refused_opcode(opcode) ? -EINVAL : supported == 1 ? 1 : -EOPNOTSUPP);
    taken += got == 1;
  }
  CHECK(taken >= 40); /* Linux 6.1 has 48 */
}

/* Taken: a registered file, a worker thread. The rest changes when, whether or how often an entry completes. */
TEST(each_combination_of_entry_flags_is_taken_or_refused) {
  for (unsigned flags = 0; flags < 256; flags++) {
    struct io_uring_sqe entry = raw_entry(IORING_OP_NOP, 5);
    char row[32];
    snprintf(row, sizeof row, "flags %#x", flags);
    ROW(row);
    entry.flags = (uint8_t)flags;
    CHECK_EQ(try_entry(entry), flags & ~(unsigned)(IOSQE_FIXED_FILE | IOSQE_ASYNC) ? -EINVAL : 1);
  }
}

TEST(no_entry_reaches_the_file_that_tells_when_memory_is_free) {
  static const uint8_t installers[] = {IORING_OP_OPENAT, IORING_OP_OPENAT2, IORING_OP_CLOSE, IORING_OP_ACCEPT, IORING_OP_SOCKET};
  for (size_t i = 0; i < COUNT_OF(installers); i++) {
    struct io_uring_sqe entry = raw_entry(installers[i], 0);
    ROW("into or at slot 0");
    entry.file_index = 1;
    CHECK_EQ(try_entry(entry), -EINVAL);
    ROW("into or at slot 1");
    entry.file_index = 2;
    CHECK_EQ(try_entry(entry), 1);
  }
  for (unsigned opcode = 0; opcode < 64; opcode++) {
    struct io_uring_sqe entry = raw_entry((uint8_t)opcode, 0);
    char row[32];
    snprintf(row, sizeof row, "opcode %u on registered file 0", opcode);
    ROW(row);
    entry.flags = IOSQE_FIXED_FILE;
    CHECK_EQ(try_entry(entry), -EINVAL);
  }
}

TEST(a_poll_update_that_would_rename_an_io_is_refused) {
  static const struct { uint32_t len; int32_t want; } rows[] = {
    {0, 1}, {IORING_POLL_UPDATE_EVENTS, 1}, {IORING_POLL_UPDATE_USER_DATA, -EINVAL}, {IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA, -EINVAL},
  };
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    struct io_uring_sqe entry = raw_entry(IORING_OP_POLL_REMOVE, -1);
    entry.len = rows[i].len;
    entry.addr = 12345;
    CHECK_EQ(try_entry(entry), rows[i].want);
  }
}

/* The kernel ignores the flag on this operation, and would act on the descriptor of the process that has the number. */
TEST(epoll_ctl_on_a_registered_file_never_acts_on_the_descriptor_with_its_number) {
  struct ends ends = open_pipe();
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  struct io_uring_sqe entry = raw_entry(IORING_OP_EPOLL_CTL, epoll);
  CHECK(epoll > 0);
  entry.addr = (uintptr_t)&event;
  entry.off = (unsigned)ends.read;
  entry.len = EPOLL_CTL_ADD;
  entry.flags = IOSQE_FIXED_FILE;
  CHECK_EQ(try_entry(entry), -EINVAL);
  put_byte(ends);
  CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  entry.flags = 0;
  event.events = EPOLLIN;
  CHECK_EQ(try_entry(entry), 1);
  CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 1);
  close(epoll);
  close_pipe(ends);
}

int main(void) {
  ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(each_opcode_is_taken_and_completes_once_or_is_refused);
  RUN(each_combination_of_entry_flags_is_taken_or_refused);
  RUN(no_entry_reaches_the_file_that_tells_when_memory_is_free);
  RUN(a_poll_update_that_would_rename_an_io_is_refused);
  RUN(epoll_ctl_on_a_registered_file_never_acts_on_the_descriptor_with_its_number);
  paluring_ring_release(ring);
  return harness_end();
}
