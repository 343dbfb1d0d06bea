/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * No function of the host runs under a lock: while one runs, another thread makes every call that any thread may make, on
 * this ring and on others, and the function returns only when that is done.
 */
#include "raw.h"

static struct scene {
  paluring_ring *ring;
  paluring_io parked;
  atomic_int asked, answered, told;
  atomic_bool stop;
} scene;

static void call_everything(void) {
  paluring_op op = with_flags(nop_op(NULL, NULL), PALURING_OP_DETACHED);
  paluring_ring *other = ring_open(PALURING_MODE_OWNER, 8, 0); /* what the process's rings share */
  int32_t status = paluring_io_start(scene.ring, &op, NULL);
  EXPECT(status == 0 || status == -EAGAIN || status == PALURING_ERR_CLOSED);
  paluring_ring_ready(scene.ring);
  paluring_ring_cancel_fd(scene.ring, 9999);
  paluring_io_poll(scene.ring, scene.parked, NULL, 0, NULL);
  paluring_io_set_timeout(scene.ring, scene.parked, 50 * SECOND);
  paluring_ring_wake(scene.ring);
  EXPECT(stats_of(scene.ring).total_started > 0);
  paluring_ring_release(paluring_ring_retain(scene.ring));
  paluring_buf_release(new_buf(1));
  ring_done(other);
}

static void *answer(void *argument) {
  (void)argument;
  for (int i = 1;; i++) {
    while (atomic_load(&scene.asked) < i && !atomic_load(&scene.stop)) sched_yield();
    if (atomic_load(&scene.asked) < i) return NULL;
    call_everything();
    atomic_store(&scene.answered, i);
  }
}

/* In each function of the host's. */
static void have_another_thread_call(void) {
  int number = atomic_fetch_add(&scene.asked, 1) + 1;
  atomic_fetch_add(&scene.told, 1);
  await_count(&scene.answered, number);
}

static void callback(uintptr_t user_data, paluring_completion *completion) {
  (void)user_data, (void)completion;
  have_another_thread_call();
}

static void ready(uintptr_t user_data, int32_t status) {
  (void)user_data, (void)status;
  have_another_thread_call();
}

static void room(uintptr_t user_data) {
  (void)user_data;
  have_another_thread_call();
}

static void posted(uintptr_t user_data) {
  (void)user_data;
  have_another_thread_call();
}

static void release(uintptr_t user_data, void *data, size_t len) {
  (void)user_data, (void)data, (void)len;
  have_another_thread_call();
}

static void write_text(uintptr_t user_data, const char *text, size_t len) {
  (void)user_data, (void)text, (void)len;
  have_another_thread_call();
}

static uint8_t memory[64];
static int zero;

static paluring_op read_released(paluring_complete_fn function, uint32_t flags) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_adopt(memory, sizeof memory, release, 0, &buf), 0);
  return with_flags(read_op(zero, buf, function, NULL), flags | PALURING_OP_MOVE);
}

/* ---- ways to a function of the host's; each says how many calls it makes ---- */

static int callback_in_run(void) {
  start_only(scene.ring, nop_op(callback, NULL));
  EXPECT_EQ(paluring_ring_run(scene.ring, 1, LONG_ENOUGH), 1);
  return 1;
}

static int callback_in_a_run_without_a_limit(void) {
  start_only(scene.ring, nop_op(callback, NULL));
  EXPECT_EQ(paluring_ring_submit(scene.ring), 1); /* it is complete now */
  EXPECT_EQ(paluring_ring_run(scene.ring, 1, -1), 1);
  return 1;
}

static int callback_in_process_of_what_a_wait_found(void) {
  start_only(scene.ring, nop_op(callback, NULL));
  EXPECT_EQ(paluring_ring_wait(scene.ring, 1, LONG_ENOUGH), 1);
  EXPECT_EQ(paluring_ring_process(scene.ring, 0), 1);
  return 1;
}

static int callback_in_drain(void) {
  start_only(scene.ring, nop_op(callback, NULL));
  EXPECT_EQ(paluring_io_cancel(scene.ring, scene.parked), 0);
  EXPECT_EQ(paluring_ring_drain(scene.ring, LONG_ENOUGH), 0);
  return 1;
}

static int callback_with_a_deadline(void) {
  start_only(scene.ring, with_timeout(timeout_op(60 * SECOND, callback, NULL), MS));
  EXPECT_EQ(paluring_ring_run(scene.ring, 1, LONG_ENOUGH), 1);
  return 1;
}

static int event_of_a_multishot(void) {
  struct ends ends = open_pipe();
  paluring_io io = start_op(scene.ring, poll_multishot_op(ends.read, callback, NULL));
  EXPECT(paluring_ring_submit(scene.ring) >= 1);
  put_byte(ends);
  EXPECT_EQ(paluring_ring_run(scene.ring, 1, LONG_ENOUGH), 1);
  EXPECT_EQ(paluring_io_drop(scene.ring, io, NULL), 0);
  EXPECT(paluring_ring_run(scene.ring, 0, 0) >= 0);
  close_pipe(ends);
  return 1;
}

static int ready_function(void) {
  paluring_io io = start_op(scene.ring, nop_op(NULL, NULL));
  EXPECT_EQ(paluring_io_poll(scene.ring, io, ready, 0, NULL), 0);
  EXPECT_EQ(paluring_ring_wait(scene.ring, 1, LONG_ENOUGH), 1);
  EXPECT_EQ(paluring_ring_process(scene.ring, 0), 0);
  return 1;
}

static int room_function(void) {
  paluring_op op = with_flags(timeout_op(60 * SECOND, NULL, NULL), PALURING_OP_QUEUE);
  EXPECT_EQ(paluring_ring_on_room(scene.ring, room, 0), 0);
  while (paluring_io_start(scene.ring, &op, NULL) == 0) continue;
  EXPECT_EQ(paluring_io_cancel(scene.ring, scene.parked), 0);
  while (scene.told == 0 && !has_failed()) {
    EXPECT(paluring_ring_run(scene.ring, 1, 10 * MS) >= 0);
    paluring_io_poll(scene.ring, scene.parked, NULL, 0, NULL);
  }
  EXPECT_EQ(paluring_ring_on_room(scene.ring, NULL, 0), 0);
  return 1;
}

static int posted_function(void) {
  EXPECT_EQ(paluring_ring_post(scene.ring, posted, 0), 0);
  EXPECT(paluring_ring_process(scene.ring, 0) >= 0);
  return 1;
}

static int release_after_a_callback(void) {
  paluring_op op = read_released(callback, 0);
  start_only(scene.ring, op);
  EXPECT_EQ(paluring_ring_run(scene.ring, 1, LONG_ENOUGH), 1);
  return 2;
}

static int release_of_a_detached_io(void) {
  start_only(scene.ring, read_released(NULL, PALURING_OP_DETACHED));
  EXPECT_EQ(paluring_io_cancel(scene.ring, scene.parked), 0);
  EXPECT_EQ(paluring_ring_drain(scene.ring, LONG_ENOUGH), 0);
  return 1;
}

static int release_in_drop(void) {
  paluring_io io = start_op(scene.ring, read_released(NULL, 0));
  EXPECT_EQ(paluring_ring_wait(scene.ring, 1, LONG_ENOUGH), 1);
  EXPECT_EQ(paluring_io_drop(scene.ring, io, NULL), 0);
  return 1;
}

static int release_in_poll_that_discards(void) {
  paluring_io io = start_op(scene.ring, read_released(NULL, 0));
  EXPECT_EQ(paluring_ring_wait(scene.ring, 1, LONG_ENOUGH), 1);
  EXPECT_EQ(paluring_io_poll(scene.ring, io, NULL, 0, NULL), 1);
  return 1;
}

static int release_in_wait_after_a_drop(void) {
  paluring_io io = start_op(scene.ring, read_released(NULL, 0));
  EXPECT_EQ(paluring_io_drop(scene.ring, io, NULL), 0);
  for (int i = 0; i < 1000 && scene.told == 0; i++) EXPECT(paluring_ring_wait(scene.ring, 1, MS) >= 0);
  return 1;
}

/* Its owner is gone, so a close can but orphan the read. */
static void *own_and_read(void *argument) {
  struct ends *ends = argument;
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_adopt(memory, sizeof memory, release, 0, &buf), 0);
  start_only(ring, with_flags(read_op(ends->read, buf, callback, NULL), PALURING_OP_MOVE));
  EXPECT_EQ(paluring_ring_submit(ring), 1);
  return ring;
}

static int release_of_quarantined_memory(void) {
  struct ends ends = open_pipe();
  void *other = NULL;
  pthread_join(start_thread(own_and_read, &ends), &other);
  int second = second_ring_fd();
  paluring_ring *watcher = ring_open(PALURING_MODE_OWNER, 8, 0);
  paluring_ring_release(other);
  EXPECT_EQ(scene.told, 1);
  close(second);
  EXPECT(quarantine_ends(watcher));
  ring_done(watcher);
  close_pipe(ends);
  return 2;
}

static int write_function_of_dump(void) {
  EXPECT(paluring_ring_dump(scene.ring, write_text, 0) >= 0);
  return scene.told > 0 ? scene.told : 1; /* in as many pieces as it likes */
}

static int callbacks_in_close(void) {
  for (int i = 0; i < 3; i++) start_only(scene.ring, timeout_op(60 * SECOND, callback, NULL));
  EXPECT_EQ(paluring_ring_close(scene.ring, LONG_ENOUGH), 0);
  return 3;
}

static int callbacks_in_the_last_release(void) {
  paluring_ring *other = scene.ring;
  for (int i = 0; i < 3; i++) start_only(other, timeout_op(60 * SECOND, callback, NULL));
  scene.ring = ring_open(PALURING_MODE_SHARED, 8, 16); /* what the other thread calls on */
  start_only(scene.ring, with_flags(nop_op(NULL, NULL), PALURING_OP_DETACHED));
  paluring_ring_release(other);
  return 3;
}

#define WAY(name) {#name, name}
static const struct { const char *name; int (*go)(void); } ways[] = {
  WAY(callback_in_a_run_without_a_limit), WAY(callback_in_run), WAY(callback_in_process_of_what_a_wait_found),
  WAY(callback_in_drain), WAY(callback_with_a_deadline),
  WAY(event_of_a_multishot), WAY(ready_function), WAY(room_function), WAY(posted_function), WAY(release_after_a_callback), WAY(release_of_a_detached_io),
  WAY(release_in_drop), WAY(release_in_poll_that_discards), WAY(release_in_wait_after_a_drop), WAY(release_of_quarantined_memory),
  WAY(write_function_of_dump), WAY(callbacks_in_close), WAY(callbacks_in_the_last_release),
};

TEST(while_any_function_of_the_host_runs_another_thread_can_make_every_call) {
  zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (size_t way = 0; way < COUNT_OF(ways); way++) {
      char row[100];
      snprintf(row, sizeof row, "%s, %s", HOST_MODE_NAMES[mode], ways[way].name);
      ROW(row);
      memset(&scene, 0, sizeof scene);
      scene.ring = ring_open(HOST_MODES[mode], 8, 16);
      scene.parked = start_op(scene.ring, timeout_op(60 * SECOND, NULL, NULL));
      CHECK_EQ(paluring_ring_submit(scene.ring), 1);
      pthread_t thread = start_thread(answer, NULL);
      int want = ways[way].go();
      if (!has_failed()) atomic_store(&scene.stop, true), pthread_join(thread, NULL);
      CHECK_EQ(scene.told, want);
      paluring_ring_release(scene.ring);
    }
  }
  close(zero);
}

int main(void) {
  RUN(while_any_function_of_the_host_runs_another_thread_can_make_every_call);
  return harness_end();
}
