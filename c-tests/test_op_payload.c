/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What operations bring and leave behind, beside their result. */
#include "optable.h"

static paluring_ring *ring;
static struct stage stage;

#define NEEDS(opcode) do { if (!paluring_ring_supports(ring, opcode)) SKIP("this kernel lacks the operation"); } while (0)
#define STAGE() struct stage *at = &stage; paluring_op op; paluring_completion got; stage_make(at, ring); (void)got

static void *data_at(size_t offset) {
  return paluring_buf_data(stage.buf) + offset;
}

/* A list of three buffers of 4, 0 and 60 bytes. */
static paluring_buf *new_list(void) {
  paluring_buf *members[3] = {new_buf(4), new_buf(0), new_buf(60)}, *list = NULL;
  EXPECT_EQ(paluring_buf_list(members, 3, &list), 0);
  for (int i = 0; i < 3; i++) paluring_buf_release(members[i]);
  return list;
}

static uint8_t *member_data(paluring_buf *list, size_t index) {
  return paluring_buf_data(paluring_buf_list_at(list, index));
}

/* ---- files ---- */

TEST(names_are_changed) {
  char path[PATH_SIZE], target[64] = "";
  struct stat s;
  STAGE();
  do_mkdirat(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(stat(temp_path(path, at->fresh), &s) == 0 && S_ISDIR(s.st_mode) && (s.st_mode & 0777) == 0700);
  paluring_op_unlinkat(&op, at->dir, at->fresh, AT_REMOVEDIR);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(stat(path, &s) != 0);
  do_symlinkat(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(readlink(path, target, sizeof target) > 0 && strcmp(target, at->old) == 0);
  CHECK_EQ(unlink(path), 0);
  do_linkat(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(fstat(at->file, &s) == 0 && s.st_nlink == 2);
  do_unlinkat(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(fstat(at->file, &s) == 0 && s.st_nlink == 1 && stat(path, &s) == 0);
  paluring_op_renameat(&op, at->dir, at->fresh, at->dir, at->old, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(stat(path, &s) != 0 && stat(at->path, &s) == 0);
  stage_end(at);
}

TEST(attributes_come_and_go) {
  char value[16] = "";
  if (!has_xattrs()) SKIP("this file system has no attributes of users");
  STAGE();
  do_getxattr(&op, at); /* at offset 3 */
  CHECK_EQ(do_op(ring, &op, NULL), 5);
  CHECK(memcmp(data_at(0), "\0\0\0value\0", 9) == 0);
  paluring_op_fgetxattr(&op, at->file, "user.test", at->buf, 0, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 5);
  do_setxattr(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(fgetxattr(at->file, "user.more", value, sizeof value) == 3 && memcmp(value, "xyz", 3) == 0);
  paluring_op_fsetxattr(&op, at->file, "user.more", NULL, 0, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK_EQ(fgetxattr(at->file, "user.more", value, sizeof value), 0);
  stage_end(at);
}

TEST(a_page_is_dropped_and_no_other) {
  STAGE();
  fill_pattern(data_at(0), 2 * PAGE, 1);
  do_madvise(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(has_pattern(data_at(0), PAGE, 0, 1));
  for (size_t i = PAGE; i < 2 * PAGE; i++) CHECK_EQ(*(uint8_t *)data_at(i), 0);
  stage_end(at);
}

TEST(bytes_move_between_files_and_pipes) {
  char bytes[16] = "";
  STAGE();
  paluring_op_splice(&op, at->file, 100, at->empty.write, UINT64_MAX, 10, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 10);
  paluring_op_tee(&op, at->empty.read, at->full.write, 10, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 10);
  CHECK_EQ(read(at->empty.read, bytes, 16), 10);
  CHECK(has_pattern(bytes, 10, 100, 3));
  CHECK_EQ(read(at->full.read, bytes, 8), 8);
  paluring_op_splice(&op, at->full.read, UINT64_MAX, at->file, 7, 10, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 10);
  CHECK_EQ(pread(at->file, bytes, 10, 7), 10);
  CHECK(has_pattern(bytes, 10, 100, 3));
  stage_end(at);
}

/* ---- sockets ---- */

TEST(accept_tells_the_address_and_its_length) {
  struct sockaddr_in name, *seen = NULL;
  socklen_t size = sizeof name;
  STAGE();
  do_accept(&op, at);
  int fd = do_op(ring, &op, &got);
  CHECK(fd > 2);
  CHECK_EQ(got.extra, sizeof name);
  CHECK_EQ(getsockname(at->client, (struct sockaddr *)&name, &size), 0);
  seen = data_at(0);
  CHECK(seen->sin_family == AF_INET && seen->sin_port == name.sin_port && seen->sin_addr.s_addr == name.sin_addr.s_addr);
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  close(fd);
  int client = connect_to_loopback(&at->address);
  paluring_buf *little = new_buf(4);
  paluring_op_accept(&op, at->listener, little, 0);
  fd = do_op(ring, &op, &got);
  CHECK(fd > 2 && got.extra == sizeof name);
  close(fd), close(client);
  paluring_buf_release(little);
  stage_end(at);
}

TEST(lists_are_sent_and_received) {
  STAGE();
  paluring_buf *from = new_list(), *into = new_list();
  memcpy(member_data(from, 0), "abcd", 4), fill_pattern(member_data(from, 2), 60, 5);
  paluring_op_send(&op, at->pair.read, from, 1, 33, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 33);
  paluring_op_recv(&op, at->pair.write, into, 2, 62, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 33);
  CHECK(memcmp(member_data(into, 0), "\0\0bc", 4) == 0);
  CHECK(*member_data(into, 2) == 'd' && has_pattern(member_data(into, 2) + 1, 30, 0, 5));
  paluring_op_send(&op, at->pair.read, from, 60, 5, 0);
  paluring_io io;
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EINVAL);
  paluring_buf_release(from), paluring_buf_release(into);
  stage_end(at);
}

/* As struct io_uring_recvmsg_out. */
struct head {
  uint32_t name_len, control_len, data_len, flags;
};

TEST(a_datagram_comes_with_its_address) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
  socklen_t size = sizeof to;
  STAGE();
  int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK_EQ(bind(receiver, (struct sockaddr *)&to, size), 0);
  CHECK_EQ(getsockname(receiver, (struct sockaddr *)&to, &size), 0);
  memcpy(data_at(0), "datagram", 8);
  paluring_op_sendto(&op, at->udp, at->buf, 0, 8, &to, sizeof to, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 8);
  CHECK_EQ(getsockname(at->udp, (struct sockaddr *)&from, &size), 0);
  paluring_op_recvmsg(&op, receiver, at->buf, 64, 5, 32, 0, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 5);
  struct head *head = data_at(64);
  struct sockaddr_in *name = data_at(80);
  CHECK(head->name_len == sizeof from && head->control_len == 0 && head->data_len == 5 && head->flags == MSG_TRUNC);
  CHECK_EQ(name->sin_port, from.sin_port);
  CHECK(memcmp(data_at(80 + 32), "datag\0", 6) == 0);
  close(receiver);
  stage_end(at);
}

union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

TEST(a_message_carries_a_descriptor) {
  union control out = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
  struct stat a, b;
  STAGE();
  memcpy(CMSG_DATA(&out.header), &at->file, sizeof(int));
  paluring_op_sendmsg(&op, at->pair.read, at->buf, 0, 3, NULL, 0, &out, sizeof out, 0);
  CHECK_EQ(do_op(ring, &op, NULL), 3);
  paluring_buf *head_part = new_buf(8 + 16 + 64), *data_part = new_buf(5), *list = NULL;
  CHECK_EQ(paluring_buf_list((paluring_buf *[]){head_part, data_part}, 2, &list), 0);
  paluring_op_recvmsg(&op, at->pair.write, list, 8, 5, 0, 64, MSG_CMSG_CLOEXEC);
  CHECK_EQ(do_op(ring, &op, NULL), 3);
  struct head *head = (struct head *)(void *)(paluring_buf_data(head_part) + 8);
  struct cmsghdr *control = (struct cmsghdr *)(void *)(head + 1);
  CHECK(head->control_len == CMSG_SPACE(sizeof(int)) && head->data_len == 3 && (head->flags & MSG_CTRUNC) == 0);
  CHECK(control->cmsg_type == SCM_RIGHTS);
  int fd = -1;
  memcpy(&fd, CMSG_DATA(control), sizeof fd);
  CHECK(fstat(fd, &a) == 0 && fstat(at->file, &b) == 0 && a.st_ino == b.st_ino);
  close(fd);
  paluring_op_recvmsg(&op, at->pair.write, list, 16, 5, 0, 64, 0); /* the head would be in two members */
  paluring_io io;
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EINVAL);
  paluring_buf_release(head_part), paluring_buf_release(data_part), paluring_buf_release(list);
  stage_end(at);
}

TEST(options_are_set_and_read) {
  int on = 0;
  socklen_t size = sizeof on;
  NEEDS(IORING_OP_URING_CMD);
  STAGE();
  do_setsockopt(&op, at);
  int32_t status = do_op(ring, &op, NULL);
  if (status == -EOPNOTSUPP) {
    stage_end(at);
    SKIP("this kernel has no commands for sockets");
  }
  CHECK_EQ(status, 0);
  CHECK(getsockopt(at->unbound, SOL_SOCKET, SO_REUSEADDR, &on, &size) == 0 && on == 1);
  paluring_op_getsockopt(&op, at->unbound, SOL_SOCKET, SO_TYPE, at->buf, 5, 4);
  CHECK_EQ(do_op(ring, &op, NULL), 4);
  memcpy(&on, data_at(5), 4);
  CHECK_EQ(on, SOCK_STREAM);
  CHECK_EQ(send(at->client, "12345", 5, 0), 5);
  int fd = accept(at->listener, NULL, NULL);
  paluring_op_siocinq(&op, fd);
  CHECK_EQ(do_op(ring, &op, NULL), 5);
  close(fd);
  stage_end(at);
}

/* ---- waiting ---- */

TEST(epoll_events_come_whole) {
  NEEDS(OP_EPOLL_WAIT);
  STAGE();
  do_epoll_ctl(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  paluring_op_epoll_wait(&op, at->idle, at->buf, 8, 4);
  CHECK_EQ(do_op(ring, &op, NULL), 1);
  struct epoll_event event;
  memcpy(&event, data_at(8), sizeof event);
  CHECK(event.events == EPOLLIN && event.data.u64 == 5);
  stage_end(at);
}

TEST(a_child_is_waited_for) {
  NEEDS(OP_WAITID);
  STAGE();
  do_waitid(&op, at); /* at offset 8 */
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  siginfo_t *info = data_at(8);
  CHECK(info->si_pid == at->exited && info->si_status == 7 && info->si_code == CLD_EXITED && info->si_signo == SIGCHLD);
  paluring_op_waitid(&op, P_PID, (uint32_t)at->exited, NULL, 0, WEXITED);
  CHECK_EQ(do_op(ring, &op, NULL), 0);
  CHECK(waitpid(at->exited, NULL, WNOHANG) < 0 && errno == ECHILD);
  at->exited = 0;
  stage_end(at);
}

TEST(futexes_are_woken) {
  paluring_completion one, several;
  NEEDS(OP_FUTEX_WAIT);
  STAGE();
  wait_futex_wait(&op, at);
  paluring_io first = start_op(ring, op);
  at->other_word = 3, at->futexes[1].value = 3, at->futexes[0].address = (uintptr_t)&at->on, at->futexes[0].value = 1;
  wait_futex_waitv(&op, at);
  paluring_io second = start_op(ring, op);
  memset(at->futexes, 0xff, sizeof at->futexes); /* was lent until the start returned */
  CHECK_EQ(paluring_io_wait(ring, second, 2 * MS, &several), -ETIME);
  do_futex_wake(&op, at);
  CHECK_EQ(do_op(ring, &op, NULL), 1);
  CHECK_EQ(paluring_io_wait(ring, first, LONG_ENOUGH, &one), 0);
  CHECK_EQ(one.result, 0);
  paluring_op_futex_wake(&op, &at->other_word, 5, UINT32_MAX, FUTEX_U32_PRIVATE);
  CHECK_EQ(do_op(ring, &op, NULL), 1);
  CHECK_EQ(paluring_io_wait(ring, second, LONG_ENOUGH, &several), 0);
  CHECK_EQ(several.result, 1);
  stage_end(at);
}

TEST(a_timer_runs_out_as_often_as_asked) {
  struct seen seen = {0};
  STAGE();
  paluring_op_timeout_multishot(&op, MS, 3, 0);
  op.callback = note_completion, op.user_data = (uintptr_t)&seen;
  start_only(ring, op);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  stage_end(at);
  if (seen.last.result == -EINVAL) SKIP("this kernel has no such timers");
  CHECK_EQ(seen.calls, 3);
  CHECK_EQ(seen.last.result, -ETIME);
}

TEST(a_multishot_s_time_limit_is_an_idle_timer) {
  STAGE();
  wait_poll_multishot(&op, at);
  paluring_io io = start_op(ring, with_timeout(op, 10 * SECOND));
  for (int i = 0; i < 5; i++) {
    CHECK_EQ(write(at->pair.read, "x", 1), 1);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
    CHECK(got.result == POLLIN && got.flags & PALURING_COMPLETION_MORE);
    CHECK_EQ(paluring_io_set_timeout(ring, io, i < 4 ? 10 * SECOND : 2 * MS), 0);
  }
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK(got.result == -ETIME && got.flags == PALURING_COMPLETION_TIMED_OUT);
  stage_end(at);
}

TEST(what_is_lent_may_go_when_the_start_returns) {
  STAGE();
  char *oldpath = strdup(at->old), *newpath = strdup(at->fresh);
  paluring_op_renameat(&op, at->dir, oldpath, at->dir, newpath, 0);
  paluring_io io = start_op(ring, op);
  memset(oldpath, 'x', strlen(oldpath)), memset(newpath, 'x', strlen(newpath));
  free(oldpath), free(newpath);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, 0);
  struct sockaddr_in *address = malloc(sizeof *address);
  CHECK(address);
  *address = at->address;
  paluring_op_connect(&op, at->unbound, address, sizeof *address);
  io = start_op(ring, op);
  memset(address, 0xff, sizeof *address);
  free(address);
  CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &got), 0);
  CHECK_EQ(got.result, 0);
  stage_end(at);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  ring = ring_open(PALURING_MODE_OWNER, 16, 0);
  if (!ring) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(names_are_changed);
  RUN(attributes_come_and_go);
  RUN(a_page_is_dropped_and_no_other);
  RUN(bytes_move_between_files_and_pipes);
  RUN(accept_tells_the_address_and_its_length);
  RUN(lists_are_sent_and_received);
  RUN(a_datagram_comes_with_its_address);
  RUN(a_message_carries_a_descriptor);
  RUN(options_are_set_and_read);
  RUN(epoll_events_come_whole);
  RUN(a_child_is_waited_for);
  RUN(futexes_are_woken);
  RUN(a_timer_runs_out_as_often_as_asked);
  RUN(a_multishot_s_time_limit_is_an_idle_timer);
  RUN(what_is_lent_may_go_when_the_start_returns);
  ring_done(ring);
  return harness_end();
}
