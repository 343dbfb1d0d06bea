/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * I/Os that complete several times, by raw entries: each event comes once and in order, the last one is told as such,
 * and what the I/O holds is held until then.
 */
#include "raw.h"

struct events {
  paluring_ring *ring;
  atomic_int calls, ends; /* of them with, and without MORE */
  int32_t last;
  int seen[4096]; /* the first bytes that accepted connections sent, in the order of their completions */
  bool restart;
  int fd;
};

/* ---- memory ---- */

TEST(a_dropped_multishot_holds_its_memory_until_its_last_completion) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int detached = 0; detached < 2; detached++) {
      ROW(HOST_MODE_NAMES[mode]);
      static uint8_t memory[64];
      atomic_int released = 0;
      struct ends ends = open_pipe();
      paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0);
      paluring_buf *buf = adopt_counted(memory, sizeof memory, &released);
      struct io_uring_sqe entry = raw_entry(IORING_OP_POLL_ADD, ends.read);
      entry.poll32_events = POLLIN;
      entry.len = IORING_POLL_ADD_MULTI;
      paluring_io io = start_op(ring, with_flags(raw_op(entry, buf, NULL, NULL), detached ? PALURING_OP_DETACHED : 0));
      paluring_buf_release(buf);
      CHECK_EQ(paluring_ring_submit(ring), 1);
      for (int i = 0; i < 8; i++) { /* events that nobody takes */
        put_byte(ends);
        CHECK_EQ(drain_pipe(ends), 1);
        CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
        CHECK_EQ(paluring_ring_ready(ring), detached ? 0 : i + 1);
        CHECK_EQ(released, 0);
      }
      put_byte(ends);
      if (detached) CHECK_EQ(paluring_io_cancel(ring, io), 0);
      else CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
      CHECK_EQ(released, 0);
      CHECK_EQ(paluring_ring_ready(ring), 0); /* takes the event that came before the cancel */
      CHECK_EQ(released, 0);
      CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
      CHECK_EQ(released, 1);
      close_pipe(ends);
      ring_done(ring);
    }
  }
}

/* The kernel writes a peer's address there at each connection. */
TEST(a_multishot_accept_writes_addresses_only_while_it_holds_their_memory) {
  struct sockaddr_in address, *got;
  int listener = listen_on_loopback(&address), clients[4];
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  paluring_buf *buf = new_buf(64);
  struct io_uring_sqe entry = raw_entry(IORING_OP_ACCEPT, listener);
  socklen_t *size = (socklen_t *)(void *)(paluring_buf_data(buf) + 32);
  *size = sizeof address;
  got = (struct sockaddr_in *)(void *)paluring_buf_data(buf);
  entry.ioprio = IORING_ACCEPT_MULTISHOT;
  entry.addr = (uintptr_t)got;
  entry.addr2 = (uintptr_t)size;
  paluring_io io = start_op(ring, raw_op(entry, buf, NULL, NULL));
  CHECK_EQ(paluring_ring_submit(ring), 1);
  for (size_t i = 0; i < COUNT_OF(clients); i++) {
    struct sockaddr_in mine;
    socklen_t len = sizeof mine;
    paluring_completion completion;
    clients[i] = connect_to_loopback(&address);
    CHECK_EQ(paluring_io_wait(ring, io, LONG_ENOUGH, &completion), 0);
    CHECK(completion.result >= 0 && (completion.flags & PALURING_COMPLETION_MORE));
    CHECK_EQ(getsockname(clients[i], (struct sockaddr *)&mine, &len), 0);
    CHECK_EQ(got->sin_port, mine.sin_port);
    CHECK_EQ(paluring_buf_refs(buf), 2);
    close(completion.result);
  }
  CHECK_EQ(paluring_io_drop(ring, io, NULL), 0);
  CHECK_EQ(paluring_buf_refs(buf), 2);
  CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  for (size_t i = 0; i < COUNT_OF(clients); i++) close(clients[i]);
  paluring_buf_release(buf);
  close(listener);
  ring_done(ring);
}

/* ---- accept ---- */

/* Reads the connection's number from it, which its client has sent before. */
static void note_connection(uintptr_t user_data, paluring_completion *completion) {
  struct events *self = (struct events *)user_data;
  self->last = completion->result;
  bool more = completion->flags & PALURING_COMPLETION_MORE;
  if (completion->result >= 0) {
    uint32_t number = UINT32_MAX;
    EXPECT_EQ(recv(completion->result, &number, sizeof number, MSG_WAITALL), sizeof number);
    EXPECT(self->calls < (int)COUNT_OF(self->seen));
    if (!has_failed()) self->seen[self->calls] = (int)number;
    close(completion->result);
    atomic_fetch_add(&self->calls, 1);
  }
  if (!more) atomic_fetch_add(&self->ends, 1);
  if (!more && self->restart) start_only(self->ring, accept_multishot_op(self->fd, note_connection, self));
}

static bool all_in_order(const struct events *events, int count) {
  for (int i = 0; i < count; i++)
    if (events->seen[i] != i) return EXPECT_EQ(events->seen[i], i);
  return EXPECT_EQ(events->calls, count);
}

static void connect_and_send(const struct sockaddr_in *address, uint32_t number) {
  int client = connect_to_loopback(address);
  EXPECT_EQ(send(client, &number, sizeof number, MSG_NOSIGNAL), sizeof number);
  close(client);
}

/* 64 connections at once for 16 places: the kernel ends a multishot that finds the queue full, and says so. */
TEST(a_multishot_ended_by_a_full_completion_queue_is_told_so_and_no_event_is_lost_or_out_of_order) {
  enum { BURST = 64 };
  const int bursts = tries(20);
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    static struct events events;
    struct sockaddr_in address;
    events = (struct events){.ring = ring_with_cq(HOST_MODES[mode], 8, 16, 64), .restart = true, .fd = listen_on_loopback(&address)};
    start_only(events.ring, accept_multishot_op(events.fd, note_connection, &events));
    for (int burst = 0; burst < bursts; burst++) {
      CHECK(paluring_ring_submit(events.ring) >= 0);
      for (int i = 0; i < BURST; i++) connect_and_send(&address, (uint32_t)(burst * BURST + i));
      DO(run_until(events.ring, &events.calls, (burst + 1) * BURST));
    }
    CHECK(all_in_order(&events, BURST * bursts));
    CHECK(events.ends > 0); /* else the queue was never full, and this shows nothing */
    events.restart = false;
    CHECK_EQ(paluring_ring_cancel_all(events.ring), 1);
    CHECK_EQ(paluring_ring_drain(events.ring, LONG_ENOUGH), 0);
    CHECK_EQ(events.last, -ECANCELED);
    close(events.fd);
    ring_done(events.ring);
  }
}

struct churn {
  struct sockaddr_in address;
  atomic_bool stop;
  atomic_int connected;
};

static void *connect_again(void *argument) {
  struct churn *self = argument;
  const struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT is left behind */
  while (!atomic_load(&self->stop) && !has_failed()) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&self->address, sizeof self->address) == 0) atomic_fetch_add(&self->connected, 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
  }
  return NULL;
}

static void close_connection(uintptr_t user_data, paluring_completion *completion) {
  if (completion->result >= 0) close(completion->result);
  atomic_fetch_add((atomic_int *)user_data, 1);
}

/* Accepts are dropped, cancelled, detached and orphaned while connections come: each accepted socket is the host's or closed. */
TEST(multishot_accepts_that_come_and_go_under_connection_churn_leak_no_descriptor) {
  static struct churn churn;
  churn = (struct churn){.stop = false};
  int listener = listen_on_loopback(&churn.address);
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  pthread_t thread = start_thread(connect_again, &churn);
  int fds = count_fds(); /* the client's socket may be among them, or not */
  for (int i = 0; i < tries(200) && !has_failed(); i++) {
    atomic_int calls = 0;
    paluring_ring *ring = ring_open(HOST_MODES[i % 2], 8, 0);
    paluring_op op = accept_multishot_op(listener, close_connection, &calls);
    if (i % 5 == 0) op = with_flags(accept_multishot_op(listener, NULL, NULL), PALURING_OP_DETACHED);
    if (i % 5 == 1) op = with_flags(accept_multishot_op(listener, NULL, NULL), PALURING_OP_QUEUE);
    if (i % 5 == 2) op = accept_multishot_op(listener, NULL, NULL); /* kept */
    paluring_io io = start_op(ring, op);
    for (int k = 0; k < i % 7; k++) KEEP(paluring_ring_run(ring, (uint32_t)k % 2, 2 * MS) >= 0);
    if (i % 3 == 0 && i % 5) paluring_io_drop(ring, io, NULL);
    if (i % 3 == 1) paluring_io_cancel(ring, io);
    if (i % 4 < 2) KEEP(paluring_ring_close(ring, i % 4 ? LONG_ENOUGH : 0) >= 0);
    paluring_ring_release(ring);
  }
  atomic_store(&churn.stop, true);
  DO(pthread_join(thread, NULL));
  CHECK(churn.connected > 20);
  CHECK(quarantine_ends(watcher));
  shutdown(listener, SHUT_RDWR); /* connections that nobody accepted go */
  CHECK(count_fds() <= fds);
  close(listener);
  ring_done(watcher);
}

/* ---- polls ---- */

static void count_event(uintptr_t user_data, paluring_completion *completion) {
  struct events *self = (struct events *)user_data;
  self->last = completion->result;
  atomic_fetch_add(completion->flags & PALURING_COMPLETION_MORE ? &self->calls : &self->ends, 1);
}

TEST(several_polls_on_one_descriptor_are_each_told) {
  enum { POLLS = 8 };
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    paluring_ring *ring = ring_open(HOST_MODES[mode], 0, 0), *other = ring_open(HOST_MODES[mode], 0, 0);
    struct ends ends = open_pipe();
    struct seen once[POLLS], others = {0};
    static struct events many[POLLS];
    memset(once, 0, sizeof once);
    memset(many, 0, sizeof many);
    paluring_io ios[POLLS];
    for (int i = 0; i < POLLS; i++) {
      start_only(ring, poll_op(ends.read, note_completion, &once[i]));
      ios[i] = start_op(ring, poll_multishot_op(ends.read, count_event, &many[i]));
    }
    start_only(other, poll_op(ends.read, note_completion, &others));
    CHECK(paluring_ring_submit(ring) > 0 && paluring_ring_submit(other) > 0);
    put_byte(ends);
    for (int i = 0; i < POLLS; i++) {
      DO(run_until(ring, &once[i].calls, 1));
      DO(run_until(ring, &many[i].calls, 1));
      CHECK_EQ(once[i].last.result & POLLIN, POLLIN);
      CHECK_EQ(many[i].last & POLLIN, POLLIN);
    }
    DO(run_until(other, &others.calls, 1));
    CHECK_EQ(paluring_io_cancel(ring, ios[0]), 0); /* one of them, and no other */
    DO(run_until(ring, &many[0].ends, 1));
    int before = many[1].calls;
    CHECK_EQ(drain_pipe(ends), 1);
    put_byte(ends);
    for (int i = 1; i < POLLS; i++) DO(run_until(ring, &many[i].calls, before + 1));
    CHECK_EQ(many[0].calls + many[0].ends, 2);
    CHECK_EQ(paluring_ring_cancel_fd(ring, ends.read), POLLS - 1);
    CHECK_EQ(paluring_ring_drain(ring, LONG_ENOUGH), 0);
    for (int i = 0; i < POLLS; i++) CHECK(once[i].calls == 1 && many[i].ends == 1 && many[i].last == -ECANCELED);
    close_pipe(ends);
    ring_done(other);
    ring_done(ring);
  }
}

TEST(a_multishot_timeout_ticks_in_order_and_a_cancel_midway_ends_it_once) {
  struct { int64_t seconds, nanoseconds; } spec = {0, MS / 10};
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  static struct events events;
  events = (struct events){.last = 0};
  struct io_uring_sqe entry = raw_entry(IORING_OP_TIMEOUT, -1);
  entry.addr = (uintptr_t)&spec;
  entry.len = 1;
  entry.timeout_flags = RAW_TIMEOUT_MULTISHOT;
  paluring_io io = start_op(ring, raw_op(entry, NULL, count_event, &events));
  CHECK_EQ(paluring_ring_submit(ring), 1);
  spec.seconds = 1000; /* the kernel has read it */
  CHECK(paluring_ring_run(ring, 1, LONG_ENOUGH) >= 1);
  if (events.last == -EINVAL && events.ends == 1) {
    ring_done(ring);
    SKIP("this kernel has no multishot timeouts");
  }
  DO(run_until(ring, &events.calls, 100));
  CHECK_EQ(events.last, -ETIME);
  CHECK_EQ(events.ends, 0);
  CHECK_EQ(paluring_io_cancel(ring, io), 0);
  DO(run_until(ring, &events.ends, 1));
  CHECK_EQ(events.last, -ECANCELED);
  CHECK_EQ(paluring_io_cancel(ring, io), PALURING_ERR_STALE);
  ring_done(ring);
  CHECK_EQ(events.ends, 1);
}

int main(void) {
  RUN(a_dropped_multishot_holds_its_memory_until_its_last_completion);
  RUN(a_multishot_accept_writes_addresses_only_while_it_holds_their_memory);
  RUN(a_multishot_ended_by_a_full_completion_queue_is_told_so_and_no_event_is_lost_or_out_of_order);
  RUN(multishot_accepts_that_come_and_go_under_connection_churn_leak_no_descriptor);
  RUN(several_polls_on_one_descriptor_are_each_told);
  RUN(a_multishot_timeout_ticks_in_order_and_a_cancel_midway_ends_it_once);
  return harness_end();
}
