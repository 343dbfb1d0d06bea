/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * NULL for each pointer of each function: a clear status, outputs zeroed, no crash. */
#include "harness.h"

#include <dlfcn.h>

#define POISON ((uintptr_t)0xdddddddddddddddd)

static paluring_ring *ring;
static paluring_buf *buf;
static char called[16384] = " "; /* the functions that the tests below called, with spaces around */

/* Notes a call by its text, and checks what it gave. */
static void gives(int line, const char *call, long long got, long long want) {
  size_t len = strcspn(call, "("), end = strlen(called);
  snprintf(called + end, sizeof called - end, "%.*s ", (int)len, call);
  ROW(call);
  harness_equal(__FILE__, line, "the result", got, want);
  if (got != want) printf("# %s gives %lld, not %lld\n", call, got, want);
}

#define GIVES(want, call) gives(__LINE__, #call, (long long)(call), (long long)(want))
#define NULLS(call) gives(__LINE__, #call, (long long)(uintptr_t)(call), 0)
#define QUIET(call) ((call), gives(__LINE__, #call, 0, 0)) /* has no result: it must only do nothing */

static paluring_op nop(void) {
  paluring_op op;
  paluring_op_nop(&op);
  return op;
}

/* ---- rings ---- */

static void post_nothing(uintptr_t user_data) {
  (void)user_data;
}

TEST(rings_refuse_null) {
  uint8_t mask[8] = {1};
  int fd = 7;
  paluring_completion completion;
  paluring_capabilities capabilities = {.size = sizeof capabilities};
  paluring_stats stats = {.size = sizeof stats};
  GIVES(-EINVAL, paluring_ring_open(NULL, NULL));
  QUIET(paluring_ring_options_init(NULL, sizeof(paluring_ring_options)));
  NULLS(paluring_ring_retain(NULL));
  QUIET(paluring_ring_release(NULL));
  GIVES(0, paluring_ring_close(NULL, 0));
  GIVES(0, paluring_ring_close(NULL, -1));
  GIVES(-EINVAL, paluring_ring_submit(NULL));
  GIVES(-EINVAL, paluring_ring_wait(NULL, 1, -1));
  GIVES(-EINVAL, paluring_ring_process(NULL, 0));
  GIVES(-EINVAL, paluring_ring_run(NULL, 1, -1));
  GIVES(-EINVAL, paluring_ring_reap(NULL, 0, 0, &completion, 1));
  GIVES(-EINVAL, paluring_ring_reap(ring, 0, 0, NULL, 1));
  GIVES(-EINVAL, paluring_ring_reap(ring, 0, 0, &completion, 0));
  GIVES(-EINVAL, paluring_ring_reap(ring, 2, 0, &completion, 1));
  GIVES(-EINVAL, paluring_ring_drain(NULL, -1));
  GIVES(-EINVAL, paluring_ring_ready(NULL));
  GIVES(-EINVAL, paluring_ring_wake(NULL));
  GIVES(-EINVAL, paluring_ring_prepare(NULL));
  GIVES(-EINVAL, paluring_ring_event_fd(NULL, &fd));
  GIVES(-1, fd);
  GIVES(-EINVAL, paluring_ring_event_fd(ring, NULL));
  GIVES(-EINVAL, paluring_ring_set_worker_limits(NULL, 1, 1));
  GIVES(-EINVAL, paluring_ring_set_worker_affinity(NULL, mask, sizeof mask));
  GIVES(-EINVAL, paluring_ring_set_worker_affinity(ring, NULL, sizeof mask));
  GIVES(-EINVAL, paluring_ring_set_worker_affinity(ring, mask, 0));
  GIVES(-EINVAL, paluring_ring_supports(NULL, 0));
  GIVES(-EINVAL, paluring_ring_capabilities(NULL, &capabilities));
  GIVES(-EINVAL, paluring_ring_capabilities(ring, NULL));
  GIVES(-EINVAL, paluring_ring_stats(NULL, &stats));
  GIVES(-EINVAL, paluring_ring_stats(ring, NULL));
  GIVES(-EINVAL, paluring_ring_on_room(NULL, NULL, 0));
  GIVES(-EINVAL, paluring_ring_post(NULL, post_nothing, 0));
  GIVES(-EINVAL, paluring_ring_post(ring, NULL, 0));
  GIVES(0, paluring_ring_on_room(ring, NULL, 0));
  GIVES(-EINVAL, paluring_ring_cancel_fd(NULL, 0));
  GIVES(-EINVAL, paluring_ring_cancel_all(NULL));
  CHECK(paluring_ring_unavailable_reason() != NULL);
  QUIET(paluring_ring_unavailable_reason());
}

TEST(files_refuse_null) {
  int fd = 7;
  GIVES(-EINVAL, paluring_file_register(NULL, 0, &fd));
  GIVES(-1, fd);
  GIVES(-EINVAL, paluring_file_register(ring, 0, NULL));
  GIVES(-EINVAL, paluring_file_unregister(NULL, 1 << 30));
}

static void write_nothing(uintptr_t user_data, const char *text, size_t len) {
  (void)user_data, (void)text, (void)len;
}

TEST(dump_and_log_take_null) {
  GIVES(-EINVAL, paluring_ring_dump(NULL, write_nothing, 0));
  GIVES(-EINVAL, paluring_ring_dump(ring, NULL, 0));
  QUIET(paluring_log_set(NULL, 0));
  NULLS(paluring_strerror(-EINVAL) == NULL);
  NULLS(paluring_status_name(-EINVAL) == NULL);
  NULLS(paluring_version() == NULL);
  QUIET(paluring_version_number());
}

TEST(open_takes_null_for_its_options) {
  paluring_ring *other = NULL;
  GIVES(0, paluring_ring_open(NULL, &other));
  CHECK(other);
  paluring_op op = nop();
  CHECK_EQ(do_op(other, &op, NULL), 0);
  ring_done(other);
}

/* ---- buffers ---- */

TEST(buffers_refuse_null) {
  paluring_buf *out = (paluring_buf *)POISON, *const none = NULL;
  uint8_t byte = 0;
  GIVES(-EINVAL, paluring_buf_alloc(1, 0, NULL));
  GIVES(-EINVAL, paluring_buf_adopt(NULL, 1, NULL, 0, &out));
  NULLS(out);
  GIVES(-EINVAL, paluring_buf_adopt(&byte, 1, NULL, 0, NULL));
  out = (paluring_buf *)POISON;
  GIVES(-EINVAL, paluring_buf_slice(NULL, 0, 0, &out));
  NULLS(out);
  GIVES(-EINVAL, paluring_buf_slice(buf, 0, 0, NULL));
  out = (paluring_buf *)POISON;
  GIVES(-EINVAL, paluring_buf_list(NULL, 1, &out));
  NULLS(out);
  GIVES(-EINVAL, paluring_buf_list(&none, 1, &out));
  GIVES(-EINVAL, paluring_buf_list(&buf, 1, NULL));
  GIVES(0, paluring_buf_list_count(NULL));
  NULLS(paluring_buf_list_at(NULL, 0));
  NULLS(paluring_buf_retain(NULL));
  QUIET(paluring_buf_release(NULL));
  GIVES(0, paluring_buf_refs(NULL));
  NULLS(paluring_buf_data(NULL));
  GIVES(0, paluring_buf_len(NULL));
  NULLS(paluring_completion_take(NULL));
  GIVES(1, paluring_buf_refs(buf));
}

/* ---- operations ---- */

TEST(constructors_of_a_null_op_do_nothing) {
  uint8_t sqe[64] = {0};
  QUIET(paluring_op_nop(NULL));
  QUIET(paluring_op_read(NULL, 0, buf, 0, 1, 0));
  QUIET(paluring_op_write(NULL, 0, buf, 0, 1, 0));
  QUIET(paluring_op_fsync(NULL, 0));
  QUIET(paluring_op_fdatasync(NULL, 0));
  QUIET(paluring_op_sync_file_range(NULL, 0, 0, 1, 0));
  QUIET(paluring_op_fallocate(NULL, 0, 0, 0, 1));
  QUIET(paluring_op_ftruncate(NULL, 0, 0));
  QUIET(paluring_op_fadvise(NULL, 0, 0, 1, 0));
  QUIET(paluring_op_madvise(NULL, buf, 0, 4096, 0));
  QUIET(paluring_op_openat(NULL, 0, "x", 0, 0));
  QUIET(paluring_op_openat2(NULL, 0, "x", sqe, 24));
  QUIET(paluring_op_close(NULL, 0));
  QUIET(paluring_op_statx(NULL, 0, "x", 0, 0, buf, 0));
  QUIET(paluring_op_renameat(NULL, 0, "x", 0, "y", 0));
  QUIET(paluring_op_unlinkat(NULL, 0, "x", 0));
  QUIET(paluring_op_mkdirat(NULL, 0, "x", 0));
  QUIET(paluring_op_symlinkat(NULL, "x", 0, "y"));
  QUIET(paluring_op_linkat(NULL, 0, "x", 0, "y", 0));
  QUIET(paluring_op_getxattr(NULL, "x", "user.x", buf, 0, 1));
  QUIET(paluring_op_setxattr(NULL, "x", "user.x", sqe, 1, 0));
  QUIET(paluring_op_fgetxattr(NULL, 0, "user.x", buf, 0, 1));
  QUIET(paluring_op_fsetxattr(NULL, 0, "user.x", sqe, 1, 0));
  GIVES(1, paluring_buf_refs(buf));
}

TEST(constructors_of_a_null_op_with_sockets_do_nothing) {
  uint8_t sqe[64] = {0};
  QUIET(paluring_op_splice(NULL, 0, 0, 1, 0, 1, 0));
  QUIET(paluring_op_tee(NULL, 0, 1, 1, 0));
  QUIET(paluring_op_pipe(NULL, 0));
  QUIET(paluring_op_socket(NULL, 1, 1, 0));
  QUIET(paluring_op_bind(NULL, 0, sqe, 16));
  QUIET(paluring_op_listen(NULL, 0, 1));
  QUIET(paluring_op_accept(NULL, 0, buf, 0));
  QUIET(paluring_op_accept_multishot(NULL, 0, 0));
  QUIET(paluring_op_connect(NULL, 0, sqe, 16));
  QUIET(paluring_op_shutdown(NULL, 0, 0));
  QUIET(paluring_op_send(NULL, 0, buf, 0, 1, 0));
  QUIET(paluring_op_recv(NULL, 0, buf, 0, 1, 0));
  QUIET(paluring_op_sendto(NULL, 0, buf, 0, 1, sqe, 16, 0));
  QUIET(paluring_op_sendmsg(NULL, 0, buf, 0, 1, sqe, 16, sqe, 16, 0));
  QUIET(paluring_op_recvmsg(NULL, 0, buf, 0, 1, 16, 16, 0));
  QUIET(paluring_op_setsockopt(NULL, 0, 1, 1, sqe, 4));
  QUIET(paluring_op_getsockopt(NULL, 0, 1, 1, buf, 0, 4));
  QUIET(paluring_op_siocinq(NULL, 0));
  QUIET(paluring_op_siocoutq(NULL, 0));
  GIVES(1, paluring_buf_refs(buf));
}

TEST(constructors_of_a_null_op_that_waits_do_nothing) {
  uint8_t sqe[64] = {0};
  uint32_t word = 0;
  QUIET(paluring_op_poll(NULL, 0, 0));
  QUIET(paluring_op_poll_multishot(NULL, 0, 0));
  QUIET(paluring_op_timeout(NULL, 1, 0));
  QUIET(paluring_op_timeout_multishot(NULL, 1, 0, 0));
  QUIET(paluring_op_epoll_ctl(NULL, 0, 1, 1, 1, 1));
  QUIET(paluring_op_epoll_wait(NULL, 0, buf, 0, 1));
  QUIET(paluring_op_futex_wait(NULL, &word, 0, 1, 2));
  QUIET(paluring_op_futex_wake(NULL, &word, 0, 1, 2));
  QUIET(paluring_op_futex_waitv(NULL, sqe, 1));
  QUIET(paluring_op_waitid(NULL, 0, 0, buf, 0, 4));
  QUIET(paluring_op_fixed_fd_install(NULL, 1 << 30, 0));
  QUIET(paluring_op_raw(NULL, sqe, buf));
  QUIET(paluring_op_raw(NULL, NULL, NULL));
  GIVES(1, paluring_buf_refs(buf));
}

/* The description, or that this kernel lacks the operation. */
static void is_refused(const char *call, const paluring_op *op) {
  paluring_io io = POISON;
  int32_t status = paluring_io_start(ring, op, &io);
  ROW(call);
  EXPECT(status == -EINVAL && io == 0);
}

#define REFUSED(call) ((call), is_refused(#call, &op))

TEST(ops_described_with_null_are_refused_at_start) {
  paluring_op op;
  uint8_t sqe[64] = {0};
  REFUSED(paluring_op_read(&op, 0, NULL, 0, 1, 0));
  REFUSED(paluring_op_read(&op, 0, NULL, 0, 0, 0));
  REFUSED(paluring_op_write(&op, 0, NULL, 0, 1, 0));
  REFUSED(paluring_op_madvise(&op, NULL, 0, 4096, 0));
  REFUSED(paluring_op_openat(&op, 0, NULL, 0, 0));
  REFUSED(paluring_op_openat2(&op, 0, NULL, sqe, 24));
  REFUSED(paluring_op_openat2(&op, 0, "x", NULL, 24));
  REFUSED(paluring_op_statx(&op, 0, NULL, 0, 0, buf, 0));
  REFUSED(paluring_op_statx(&op, 0, "x", 0, 0, NULL, 0));
  REFUSED(paluring_op_renameat(&op, 0, NULL, 0, "y", 0));
  REFUSED(paluring_op_renameat(&op, 0, "x", 0, NULL, 0));
  REFUSED(paluring_op_unlinkat(&op, 0, NULL, 0));
  REFUSED(paluring_op_mkdirat(&op, 0, NULL, 0));
  REFUSED(paluring_op_symlinkat(&op, NULL, 0, "y"));
  REFUSED(paluring_op_symlinkat(&op, "x", 0, NULL));
  REFUSED(paluring_op_linkat(&op, 0, NULL, 0, "y", 0));
  REFUSED(paluring_op_linkat(&op, 0, "x", 0, NULL, 0));
  REFUSED(paluring_op_getxattr(&op, NULL, "user.x", buf, 0, 1));
  REFUSED(paluring_op_getxattr(&op, "x", NULL, buf, 0, 1));
  REFUSED(paluring_op_getxattr(&op, "x", "user.x", NULL, 0, 1));
  REFUSED(paluring_op_setxattr(&op, NULL, "user.x", sqe, 1, 0));
  REFUSED(paluring_op_setxattr(&op, "x", NULL, sqe, 1, 0));
  REFUSED(paluring_op_setxattr(&op, "x", "user.x", NULL, 1, 0));
  REFUSED(paluring_op_fgetxattr(&op, 0, NULL, buf, 0, 1));
  REFUSED(paluring_op_fsetxattr(&op, 0, NULL, sqe, 1, 0));
  GIVES(1, paluring_buf_refs(buf));
}

TEST(ops_with_sockets_described_with_null_are_refused_at_start) {
  paluring_op op;
  uint8_t sqe[64] = {0};
  REFUSED(paluring_op_bind(&op, 0, NULL, 16));
  REFUSED(paluring_op_connect(&op, 0, NULL, 16));
  REFUSED(paluring_op_send(&op, 0, NULL, 0, 1, 0));
  REFUSED(paluring_op_recv(&op, 0, NULL, 0, 1, 0));
  REFUSED(paluring_op_sendto(&op, 0, NULL, 0, 1, sqe, 16, 0));
  REFUSED(paluring_op_sendto(&op, 0, buf, 0, 1, NULL, 16, 0));
  REFUSED(paluring_op_sendmsg(&op, 0, buf, 0, 1, NULL, 0, NULL, 16, 0));
  REFUSED(paluring_op_recvmsg(&op, 0, NULL, 0, 1, 16, 16, 0));
  REFUSED(paluring_op_setsockopt(&op, 0, 1, 1, NULL, 4));
  REFUSED(paluring_op_getsockopt(&op, 0, 1, 1, NULL, 0, 4));
  REFUSED(paluring_op_epoll_wait(&op, 0, NULL, 0, 1));
  REFUSED(paluring_op_futex_wait(&op, NULL, 0, 1, 2));
  REFUSED(paluring_op_futex_wake(&op, NULL, 0, 1, 2));
  REFUSED(paluring_op_futex_waitv(&op, NULL, 1));
  REFUSED(paluring_op_raw(&op, NULL, buf));
  REFUSED(paluring_op_raw(&op, NULL, NULL));
  GIVES(1, paluring_buf_refs(buf));
}

/* ---- I/Os ---- */

TEST(starts_refuse_null) {
  paluring_op op = nop(), ops[3] = {nop(), nop(), nop()};
  paluring_io io = POISON, ios[3] = {POISON, POISON, POISON};
  GIVES(-EINVAL, paluring_io_start(NULL, &op, &io));
  GIVES(0, io);
  io = POISON;
  GIVES(-EINVAL, paluring_io_start(ring, NULL, &io));
  GIVES(0, io);
  GIVES(-EINVAL, paluring_io_start(ring, &op, NULL)); /* nobody could ever take it */
  GIVES(-EINVAL, paluring_io_start(NULL, NULL, NULL));
  GIVES(-EINVAL, paluring_io_start_batch(NULL, ops, 3, ios));
  for (int i = 0; i < 3; i++) ios[i] = POISON;
  GIVES(-EINVAL, paluring_io_start_batch(ring, NULL, 3, ios));
  GIVES(-EINVAL, paluring_io_start_batch(ring, ops, 3, NULL));
  GIVES(0, paluring_io_start_batch(ring, ops, 0, ios));
  GIVES(-EINVAL, paluring_io_start_chain(NULL, ops, 3, 0, ios));
  GIVES(-EINVAL, paluring_io_start_chain(ring, NULL, 3, 0, ios));
  GIVES(-EINVAL, paluring_io_start_chain(ring, ops, 3, 0, NULL));
  GIVES(0, paluring_io_start_chain(ring, ops, 0, 0, ios));
  GIVES(0, paluring_ring_ready(ring));
}

static void note_ready(uintptr_t user_data, int32_t status) {
  (void)user_data, (void)status;
}

TEST(calls_on_an_io_refuse_a_null_ring_and_zero_their_outputs) {
  static const paluring_completion zero;
  paluring_completion completion;
  uintptr_t user_data = POISON;
  memset(&completion, 0xdd, sizeof completion);
  GIVES(-EINVAL, paluring_io_poll(NULL, 1, note_ready, 0, &completion));
  GIVES(0, memcmp(&completion, &zero, sizeof zero));
  memset(&completion, 0xdd, sizeof completion);
  GIVES(-EINVAL, paluring_io_wait(NULL, 1, -1, &completion));
  GIVES(0, memcmp(&completion, &zero, sizeof zero));
  GIVES(-EINVAL, paluring_io_drop(NULL, 1, &user_data));
  GIVES(0, user_data);
  GIVES(-EINVAL, paluring_io_drop(NULL, 1, NULL));
  GIVES(-EINVAL, paluring_io_cancel(NULL, 1));
  GIVES(-EINVAL, paluring_io_set_timeout(NULL, 1, 1));
}

TEST(outputs_that_may_be_null_may_be_null) {
  paluring_op op = nop();
  struct seen seen = {0};
  paluring_io io = 0;
  for (int i = 0; i < 2; i++) { /* taken and discarded: the handle is used up */
    CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
    CHECK_EQ(paluring_ring_wait(ring, 1, LONG_ENOUGH), 1);
    if (i) GIVES(1, paluring_io_poll(ring, io, NULL, 0, NULL));
    else GIVES(0, paluring_io_wait(ring, io, -1, NULL));
    GIVES(PALURING_ERR_STALE, paluring_io_poll(ring, io, NULL, 0, NULL));
  }
  CHECK_EQ(paluring_io_start(ring, &op, &io), 0);
  GIVES(0, paluring_io_poll(ring, io, NULL, 0, NULL)); /* pending, nobody is told */
  GIVES(0, paluring_io_drop(ring, io, NULL));
  GIVES(0, paluring_io_drop(ring, 0, NULL));
  op.callback = note_completion;
  op.user_data = (uintptr_t)&seen;
  GIVES(0, paluring_io_start(ring, &op, NULL));
  GIVES(2, paluring_io_start_batch(ring, (paluring_op[]){op, op}, 2, NULL));
  DO(run_until(ring, &seen.calls, 3));
}

/* ---- all of them ---- */

TEST(each_exported_function_is_called_above) {
  Dl_info info;
  char command[PATH_SIZE + 64], line[300], missing[4000] = "";
  const char *(*function)(void) = paluring_version;
  void *address = NULL;
  int exported = 0;
  memcpy(&address, &function, sizeof address);
  if (!dladdr(address, &info) || !info.dli_fname) SKIP("the library's file is not known");
  snprintf(command, sizeof command, "nm -D --defined-only '%.300s' 2>/dev/null", info.dli_fname);
  FILE *symbols = popen(command, "r");
  CHECK(symbols);
  while (fgets(line, sizeof line, symbols)) {
    char name[200] = "", word[210];
    if (sscanf(line, "%*s %*s %190[a-z0-9_]", name) != 1 || strncmp(name, "paluring_", 9) != 0) continue;
    exported++;
    snprintf(word, sizeof word, " %s ", name);
    if (!strstr(called, word)) strncat(missing, word, sizeof missing - strlen(missing) - 1);
  }
  pclose(symbols);
  if (!exported) SKIP("nm shows no exported functions");
  if (*missing) FAIL("not called with NULL:%s", missing);
}

int main(void) {
  ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_buf_alloc(4096, 0, &buf);
  if (!ring || !buf) return printf("not ok - open: %s\n", harness.reason), 1;
  RUN(rings_refuse_null);
  RUN(files_refuse_null);
  RUN(dump_and_log_take_null);
  RUN(open_takes_null_for_its_options);
  RUN(buffers_refuse_null);
  RUN(constructors_of_a_null_op_do_nothing);
  RUN(constructors_of_a_null_op_with_sockets_do_nothing);
  RUN(constructors_of_a_null_op_that_waits_do_nothing);
  RUN(ops_described_with_null_are_refused_at_start);
  RUN(ops_with_sockets_described_with_null_are_refused_at_start);
  RUN(starts_refuse_null);
  RUN(calls_on_an_io_refuse_a_null_ring_and_zero_their_outputs);
  RUN(outputs_that_may_be_null_may_be_null);
  RUN(each_exported_function_is_called_above);
  paluring_buf_release(buf);
  ring_done(ring);
  return harness_end();
}
