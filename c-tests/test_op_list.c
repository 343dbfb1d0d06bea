/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The kernel's list of operations has none that the library neither offers nor leaves out for a reason. The reasons are in
 * docs/kernels.md, which tests/architecture.rs compares with this table and the header. */
#include "scene.h"

enum what { OFFERED, PICKED, INSIDE, LEFT_OUT };

static const struct known {
  uint32_t opcode;
  const char *name;
  enum what what;
} list[] = {
    {0, "NOP", OFFERED},
    {1, "READV", PICKED},
    {2, "WRITEV", PICKED},
    {3, "FSYNC", OFFERED},
    {4, "READ_FIXED", PICKED},
    {5, "WRITE_FIXED", PICKED},
    {6, "POLL_ADD", OFFERED},
    {7, "POLL_REMOVE", INSIDE},
    {8, "SYNC_FILE_RANGE", OFFERED},
    {9, "SENDMSG", OFFERED},
    {10, "RECVMSG", OFFERED},
    {11, "TIMEOUT", OFFERED},
    {12, "TIMEOUT_REMOVE", INSIDE},
    {13, "ACCEPT", OFFERED},
    {14, "ASYNC_CANCEL", INSIDE},
    {15, "LINK_TIMEOUT", LEFT_OUT},
    {16, "CONNECT", OFFERED},
    {17, "FALLOCATE", OFFERED},
    {18, "OPENAT", OFFERED},
    {19, "CLOSE", OFFERED},
    {20, "FILES_UPDATE", LEFT_OUT},
    {21, "STATX", OFFERED},
    {22, "READ", OFFERED},
    {23, "WRITE", OFFERED},
    {24, "FADVISE", OFFERED},
    {25, "MADVISE", OFFERED},
    {26, "SEND", OFFERED},
    {27, "RECV", OFFERED},
    {28, "OPENAT2", OFFERED},
    {29, "EPOLL_CTL", OFFERED},
    {30, "SPLICE", OFFERED},
    {31, "PROVIDE_BUFFERS", LEFT_OUT},
    {32, "REMOVE_BUFFERS", LEFT_OUT},
    {33, "TEE", OFFERED},
    {34, "SHUTDOWN", OFFERED},
    {35, "RENAMEAT", OFFERED},
    {36, "UNLINKAT", OFFERED},
    {37, "MKDIRAT", OFFERED},
    {38, "SYMLINKAT", OFFERED},
    {39, "LINKAT", OFFERED},
    {40, "MSG_RING", INSIDE},
    {41, "FSETXATTR", OFFERED},
    {42, "SETXATTR", OFFERED},
    {43, "FGETXATTR", OFFERED},
    {44, "GETXATTR", OFFERED},
    {45, "SOCKET", OFFERED},
    {46, "URING_CMD", OFFERED},
    {47, "SEND_ZC", PICKED},
    {48, "SENDMSG_ZC", PICKED},
    {49, "READ_MULTISHOT", LEFT_OUT},
    {50, "WAITID", OFFERED},
    {51, "FUTEX_WAIT", OFFERED},
    {52, "FUTEX_WAKE", OFFERED},
    {53, "FUTEX_WAITV", OFFERED},
    {54, "FIXED_FD_INSTALL", OFFERED},
    {55, "FTRUNCATE", OFFERED},
    {56, "BIND", OFFERED},
    {57, "LISTEN", OFFERED},
    {58, "RECV_ZC", LEFT_OUT},
    {59, "EPOLL_WAIT", OFFERED},
    {60, "READV_FIXED", PICKED},
    {61, "WRITEV_FIXED", PICKED},
    {62, "PIPE", OFFERED},
    {63, "NOP128", LEFT_OUT},
    {64, "URING_CMD128", LEFT_OUT},
};

/* As the kernel has them from 6.18 on; a smaller header doesn't know them. */
struct query {
  uint64_t next, data;
  uint32_t op, size;
  int32_t result;
  uint32_t reserved[3];
};

struct query_answer {
  uint32_t operations, registers;
  uint64_t features, setup_flags, enter_flags, entry_flags;
  uint32_t queries, pad;
};

enum { REGISTER_QUERY = 35 };

/* How many operations the kernel knows; 0: it can't be asked so. */
static uint32_t kernel_knows(void) {
  struct query_answer answer = {0};
  struct query query = {.data = (uintptr_t)&answer, .op = 0, .size = sizeof answer};
  if (syscall(SYS_io_uring_register, -1, REGISTER_QUERY, &query, 0) < 0 || query.result < 0) return 0;
  return answer.operations;
}

TEST(the_list_has_no_gap_and_says_what_is_done_with_each) {
  for (uint32_t i = 0; i < COUNT_OF(list); i++) {
    ROW(list[i].name);
    CHECK_EQ(list[i].opcode, i);
  }
}

TEST(the_kernel_has_no_operation_that_is_not_listed) {
  paluring_capabilities capabilities = {.size = sizeof capabilities};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  CHECK(ring);
  CHECK_EQ(paluring_ring_capabilities(ring, &capabilities), 0);
  uint32_t known = kernel_knows(), probed = 0;
  for (uint32_t i = 0; i < 256; i++)
    if (capabilities.ops[i / 64] >> (i % 64) & 1) probed = i + 1;
  CHECK(probed > IORING_OP_SOCKET);
  if (known && known < probed) FAIL("the query tells of %u operations, the probe of %u", known, probed);
  if (known < probed) known = probed;
  if (known > COUNT_OF(list)) FAIL("the kernel has %u operations, the list %zu: number %zu is new", known, COUNT_OF(list), COUNT_OF(list));
  ring_done(ring);
}

/* The constructors of what is offered say so where the kernel lacks it: test_op_table asks each. Raw entries of the rest are
   refused, or are the host's own business. */
TEST(what_is_inside_is_there) {
  static const char *const needed[] = {"ASYNC_CANCEL", "TIMEOUT_REMOVE", "CLOSE"};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  CHECK(ring);
  for (size_t i = 0; i < COUNT_OF(needed); i++) {
    size_t at = 0;
    while (strcmp(list[at].name, needed[i]) != 0) at++;
    ROW(needed[i]);
    CHECK_EQ(paluring_ring_supports(ring, list[at].opcode), 1);
  }
  ring_done(ring);
}

int main(void) {
  RUN(the_list_has_no_gap_and_says_what_is_done_with_each);
  RUN(the_kernel_has_no_operation_that_is_not_listed);
  RUN(what_is_inside_is_there);
  return harness_end();
}
