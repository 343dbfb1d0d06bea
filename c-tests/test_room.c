/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Backpressure: what is refused, and being told that there is room again. */
#include "scene.h"

enum { ROOM = 4 };

static atomic_int rooms, completed, released;
static paluring_ring *the_ring;
static int32_t start_in_room, drive_in_room;

static void note_room(uintptr_t user_data) {
  atomic_fetch_add((atomic_int *)user_data, 1);
}

static void note_room_and_wake(uintptr_t user_data) {
  note_room(user_data);
  paluring_ring_wake(the_ring);
}

static paluring_ring *full_ring(uint32_t mode, struct ends ends, paluring_buf *buf) {
  atomic_store(&rooms, 0), atomic_store(&completed, 0);
  paluring_ring *ring = ring_with_cq(mode, 8, 0, ROOM);
  for (int i = 0; i < ROOM; i++) start_only(ring, read_op(ends.read, buf, count_call, &completed));
  EXPECT_EQ(paluring_ring_on_room(ring, note_room, (uintptr_t)&rooms), 0);
  paluring_op op = read_op(ends.read, buf, count_call, &completed);
  EXPECT_EQ(paluring_io_start(ring, &op, NULL), -EAGAIN);
  return ring;
}

TEST(room_is_told_once_for_each_time_that_it_was_wanted) {
  for (size_t m = 0; m < COUNT_OF(HOST_MODES); m++) {
    ROW(HOST_MODE_NAMES[m]);
    struct ends ends = open_pipe();
    paluring_buf *buf = new_buf(1);
    paluring_ring *ring = full_ring(HOST_MODES[m], ends, buf);
    paluring_op op = read_op(ends.read, buf, count_call, &completed);
    for (int i = 0; i < 5; i++) CHECK_EQ(paluring_io_start(ring, &op, NULL), -EAGAIN);
    CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
    CHECK_EQ(atomic_load(&rooms), 0);
    put_byte(ends), put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 2, LONG_ENOUGH), 2);
    CHECK_EQ(atomic_load(&rooms), 1);
    put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(atomic_load(&rooms), 1);
    for (int i = 0; i < 3; i++) start_only(ring, op);
    CHECK_EQ(paluring_io_start(ring, &op, NULL), -EAGAIN);
    CHECK_EQ(paluring_ring_on_room(ring, NULL, 0), 0);
    put_byte(ends);
    CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
    CHECK_EQ(atomic_load(&rooms), 1);
    /* Room was wanted and is there: a function that comes now is told too. */
    CHECK_EQ(paluring_ring_on_room(ring, note_room, (uintptr_t)&rooms), 0);
    CHECK_EQ(atomic_load(&rooms), 1);
    CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
    CHECK_EQ(atomic_load(&rooms), 2);
    CHECK_EQ(paluring_ring_close(ring, -1), 0);
    CHECK_EQ(paluring_ring_on_room(ring, note_room, 0), PALURING_ERR_CLOSED);
    paluring_ring_release(ring);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    paluring_buf_release(buf);
    close_pipe(ends);
  }
  CHECK_EQ(paluring_ring_on_room(NULL, note_room, 0), -EINVAL);
}

TEST(a_refused_start_takes_nothing_and_max_in_flight_is_exact) {
  struct ends ends = open_pipe();
  static char byte;
  paluring_buf *buf = adopt_counted(&byte, 1, &released);
  paluring_ring *ring = full_ring(PALURING_MODE_OWNER, ends, buf);
  CHECK_EQ(paluring_buf_refs(buf), 1 + ROOM);
  static const uint32_t flags[] = {0, PALURING_OP_SUBMIT, PALURING_OP_MOVE, PALURING_OP_ASYNC};
  for (size_t i = 0; i < COUNT_OF(flags); i++) {
    paluring_op op = with_flags(read_op(ends.read, buf, count_call, &completed), flags[i]);
    paluring_io io = 1;
    CHECK_EQ(paluring_io_start(ring, &op, &io), -EAGAIN);
    CHECK_EQ(io, 0);
    CHECK_EQ(paluring_io_start_batch(ring, &op, 1, &io), -EAGAIN);
    CHECK_EQ(paluring_io_start_chain(ring, &op, 1, 0, &io), -EAGAIN);
    CHECK_EQ(paluring_buf_refs(buf), 1 + ROOM);
  }
  paluring_stats stats = stats_of(ring);
  CHECK_EQ(stats.total_started, ROOM);
  CHECK_EQ(stats.total_again, 1 + 3 * COUNT_OF(flags));
  paluring_ring_release(ring);
  CHECK_EQ(atomic_load(&released), 0);
  paluring_buf_release(buf);
  CHECK_EQ(atomic_load(&released), 1);
  close_pipe(ends);
}

static void start_from_room(uintptr_t user_data) {
  paluring_op op = nop_op(count_call, &completed);
  atomic_fetch_add((atomic_int *)user_data, 1);
  drive_in_room = paluring_ring_run(the_ring, 0, 0);
  start_in_room = 0;
  while ((start_in_room = paluring_io_start(the_ring, &op, NULL)) == 0) {}
}

TEST(room_may_start_until_it_is_full_again) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  the_ring = full_ring(PALURING_MODE_OWNER, ends, buf);
  CHECK_EQ(paluring_ring_on_room(the_ring, start_from_room, (uintptr_t)&rooms), 0);
  put_byte(ends);
  /* Each round's NOPs make room, and room starts as many: it goes on by itself. */
  while (atomic_load(&rooms) < 1000) CHECK(paluring_ring_run(the_ring, 1, LONG_ENOUGH) >= 1);
  CHECK_EQ(start_in_room, -EAGAIN);
  CHECK_EQ(drive_in_room, -EBUSY);
  CHECK_EQ(stats_of(the_ring).high_in_flight, ROOM);
  CHECK_EQ(paluring_ring_on_room(the_ring, NULL, 0), 0);
  CHECK_EQ(paluring_ring_close(the_ring, -1), 0);
  paluring_ring_release(the_ring);
  paluring_buf_release(buf);
  close_pipe(ends);
}

TEST(a_chain_waits_for_room_for_all_of_it) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  paluring_ring *ring = full_ring(PALURING_MODE_OWNER, ends, buf);
  put_byte(ends);
  CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
  CHECK_EQ(atomic_load(&rooms), 1);
  paluring_op ops[3] = {nop_op(count_call, &completed), nop_op(count_call, &completed), nop_op(count_call, &completed)};
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, NULL), -EAGAIN);
  CHECK_EQ(paluring_ring_run(ring, 0, 0), 0);
  put_byte(ends);
  CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
  CHECK_EQ(atomic_load(&rooms), 1);
  put_byte(ends);
  CHECK_EQ(paluring_ring_run(ring, 1, LONG_ENOUGH), 1);
  CHECK_EQ(atomic_load(&rooms), 2);
  CHECK_EQ(paluring_io_start_chain(ring, ops, 3, 0, NULL), 3);
  paluring_ring_release(ring);
  paluring_buf_release(buf);
  close_pipe(ends);
}

/* ---- kept completions: room comes when somebody takes them ---- */

struct taker {
  paluring_ring *ring;
  paluring_io ios[ROOM];
  atomic_int may_take;
};

static void *take_one(void *argument) {
  struct taker *self = argument;
  paluring_completion completion;
  await_count(&self->may_take, 1);
  EXPECT_EQ(paluring_io_poll(self->ring, self->ios[0], NULL, 0, &completion), 1);
  return NULL;
}

TEST(a_poll_on_another_thread_that_makes_room_wakes_the_driver) {
  for (int try = 0; try < 200; try++) {
    atomic_store(&rooms, 0);
    paluring_ring *ring = the_ring = ring_with_cq(PALURING_MODE_OWNER, 8, 0, ROOM);
    struct taker taker = {.ring = ring};
    CHECK_EQ(paluring_ring_on_room(ring, note_room_and_wake, (uintptr_t)&rooms), 0);
    for (int i = 0; i < ROOM; i++) taker.ios[i] = start_op(ring, nop_op(NULL, NULL));
    CHECK_EQ(paluring_ring_wait(ring, ROOM, LONG_ENOUGH), ROOM);
    paluring_op op = nop_op(NULL, NULL);
    paluring_io io;
    CHECK_EQ(paluring_io_start(ring, &op, &io), -EAGAIN);
    pthread_t thread = start_thread(take_one, &taker);
    atomic_store(&taker.may_take, 1);
    CHECK_EQ(paluring_ring_run(ring, ROOM + 1, LONG_ENOUGH), 0);
    CHECK_EQ(atomic_load(&rooms), 1);
    pthread_join(thread, NULL);
    paluring_ring_release(ring);
  }
}

TEST(a_dropped_completion_makes_room_too) {
  atomic_store(&rooms, 0);
  paluring_ring *ring = ring_with_cq(PALURING_MODE_OWNER, 8, 0, ROOM);
  CHECK_EQ(paluring_ring_on_room(ring, note_room, (uintptr_t)&rooms), 0);
  paluring_io ios[ROOM], io;
  for (int i = 0; i < ROOM; i++) ios[i] = start_op(ring, nop_op(NULL, NULL));
  CHECK_EQ(paluring_ring_wait(ring, ROOM, LONG_ENOUGH), ROOM);
  paluring_op op = nop_op(NULL, NULL);
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EAGAIN);
  CHECK_EQ(paluring_io_drop(ring, ios[1], NULL), 0);
  CHECK_EQ(paluring_ring_process(ring, 0), 0);
  CHECK_EQ(atomic_load(&rooms), 1);
  paluring_ring_release(ring);
}

TEST(room_makes_the_event_fd_readable) {
  atomic_store(&rooms, 0);
  int fd = -1;
  paluring_ring *ring = ring_with_cq(PALURING_MODE_OWNER, 8, 0, ROOM);
  CHECK_EQ(paluring_ring_on_room(ring, note_room, (uintptr_t)&rooms), 0);
  CHECK_EQ(paluring_ring_event_fd(ring, &fd), 0);
  struct taker taker = {.ring = ring, .may_take = 1};
  for (int i = 0; i < ROOM; i++) taker.ios[i] = start_op(ring, nop_op(NULL, NULL));
  CHECK_EQ(paluring_ring_wait(ring, ROOM, LONG_ENOUGH), ROOM);
  paluring_op op = nop_op(NULL, NULL);
  paluring_io io;
  CHECK_EQ(paluring_io_start(ring, &op, &io), -EAGAIN);
  while (paluring_ring_prepare(ring) == 1) CHECK_EQ(paluring_ring_process(ring, 0), 0);
  CHECK(!is_readable(fd));
  pthread_join(start_thread(take_one, &taker), NULL);
  CHECK(is_readable(fd));
  CHECK_EQ(paluring_ring_process(ring, 0), 0);
  CHECK_EQ(atomic_load(&rooms), 1);
  CHECK_EQ(paluring_ring_prepare(ring), 0);
  paluring_ring_release(ring);
}

TEST(a_closing_ring_still_tells_of_room_so_that_a_waiting_producer_learns_of_the_close) {
  struct ends ends = open_pipe();
  paluring_buf *buf = new_buf(1);
  the_ring = full_ring(PALURING_MODE_OWNER, ends, buf);
  CHECK_EQ(paluring_ring_on_room(the_ring, start_from_room, (uintptr_t)&rooms), 0);
  CHECK_EQ(paluring_ring_close(the_ring, -1), 0);
  CHECK_EQ(atomic_load(&rooms), 1);
  CHECK_EQ(start_in_room, PALURING_ERR_CLOSED);
  paluring_ring_release(the_ring);
  paluring_buf_release(buf);
  close_pipe(ends);
}

int main(void) {
  RUN(room_is_told_once_for_each_time_that_it_was_wanted);
  RUN(a_refused_start_takes_nothing_and_max_in_flight_is_exact);
  RUN(room_may_start_until_it_is_full_again);
  RUN(a_chain_waits_for_room_for_all_of_it);
  RUN(a_poll_on_another_thread_that_makes_room_wakes_the_driver);
  RUN(a_dropped_completion_makes_room_too);
  RUN(room_makes_the_event_fd_readable);
  RUN(a_closing_ring_still_tells_of_room_so_that_a_waiting_producer_learns_of_the_close);
  return harness_end();
}
