/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Calls of other threads, at any moment, take nothing that a driver sleeps for. This program's syscall
 * stands in front of libc's and stretches the moment between a driver's last look and its sleep.
 */
#include "scene.h"

#include <dlfcn.h>

enum { READERS = 2 };

static struct scene {
  paluring_ring *_Atomic ring;
  atomic_int loops;
  atomic_bool stop, stretch, refuse;
  atomic_int stretched, refused;
} scene;

static void *next_syscall;

long syscall(long number, ...) {
  unsigned long a[6];
  va_list args;
  va_start(args, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(args, unsigned long);
  va_end(args);
  if (number == SYS_io_uring_enter && (unsigned)a[2] != 0 && atomic_load(&scene.stretch)) {
    atomic_fetch_add(&scene.stretched, 1);
    nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
  }
  if (number == SYS_io_uring_register && (unsigned)a[1] == 31 /* SEND_MSG_RING */ && atomic_exchange(&scene.refuse, false)) {
    atomic_fetch_add(&scene.refused, 1);
    errno = ENOMEM;
    return -1;
  }
  long (*real)(long, ...);
  if (!next_syscall) next_syscall = dlsym(RTLD_NEXT, "syscall");
  memcpy(&real, &next_syscall, sizeof real);
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Whether a thread of this ring goes on: not if a failure has left it behind for the next test. */
static bool goes_on(paluring_ring *ring) {
  return !atomic_load(&scene.stop) && scene.ring == ring;
}

static void *ask_again(void *argument) {
  while (goes_on(argument)) paluring_ring_ready(argument);
  return NULL;
}

static void readers_begin(pthread_t *threads) {
  for (int i = 0; i < READERS; i++) threads[i] = start_thread(ask_again, scene.ring);
}

static void readers_end(const pthread_t *threads) {
  atomic_store(&scene.stop, true);
  for (int i = 0; i < READERS; i++) pthread_join(threads[i], NULL);
}

static void *run_again(void *argument) {
  while (goes_on(argument)) {
    paluring_ring_run(argument, 1, FOREVER);
    atomic_fetch_add(&scene.loops, 1);
  }
  return NULL;
}

TEST(no_wake_is_lost_while_other_threads_ask_what_is_ready) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int stretch = 0; stretch < 2; stretch++) {
      ROW(HOST_MODE_NAMES[mode]);
      int rounds = stretch ? 3000 : 20000;
      pthread_t threads[READERS];
      scene = (struct scene){.ring = ring_open(HOST_MODES[mode], 0, 0)};
      atomic_store(&scene.stretch, stretch);
      pthread_t driver = start_thread(run_again, scene.ring);
      readers_begin(threads);
      int64_t limit = now_ns() + tries(1500) * MS;
      for (int i = 0; i < rounds && now_ns() < limit; i++) {
        int before = atomic_load(&scene.loops);
        CHECK_EQ(paluring_ring_wake(scene.ring), 0);
        if (!await_count(&scene.loops, before + 1)) FAIL("the driver slept through wake %d", i);
      }
      readers_end(threads);
      CHECK_EQ(paluring_ring_wake(scene.ring), 0);
      pthread_join(driver, NULL);
      ring_done(scene.ring);
      CHECK(!stretch || scene.stretched > 0); /* else the library's calls don't come by here */
    }
  }
}

TEST(no_drain_sleeps_past_the_last_completion_while_other_threads_ask_what_is_ready) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int stretch = 0; stretch < 2; stretch++) {
      ROW(HOST_MODE_NAMES[mode]);
      pthread_t threads[READERS];
      scene = (struct scene){.ring = ring_open(HOST_MODES[mode], 0, 0)};
      atomic_store(&scene.stretch, stretch);
      readers_begin(threads);
      int64_t limit = now_ns() + tries(1500) * MS;
      for (int i = 0; i < 2000 && now_ns() < limit; i++) {
        start_only(scene.ring, with_flags(timeout_op(i % 16 * 40000, NULL, NULL), PALURING_OP_DETACHED | PALURING_OP_SUBMIT));
        int64_t began = now_ns();
        CHECK_EQ(paluring_ring_drain(scene.ring, LONG_ENOUGH), 0);
        CHECK(now_ns() - began < 5 * SECOND);
      }
      readers_end(threads);
      ring_done(scene.ring);
    }
  }
}

TEST(no_io_wait_ends_with_eintr_without_a_signal_while_other_threads_ask_what_is_ready) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    for (int stretch = 0; stretch < 2; stretch++) {
      ROW(HOST_MODE_NAMES[mode]);
      pthread_t threads[READERS];
      scene = (struct scene){.ring = ring_open(HOST_MODES[mode], 0, 0)};
      atomic_store(&scene.stretch, stretch);
      readers_begin(threads);
      for (int i = 0; i < tries(500); i++) {
        paluring_completion completion;
        start_only(scene.ring, with_flags(nop_op(NULL, NULL), PALURING_OP_DETACHED));
        paluring_io io = start_op(scene.ring, timeout_op(MS, NULL, NULL));
        CHECK_EQ(paluring_io_wait(scene.ring, io, LONG_ENOUGH, &completion), 0);
        CHECK_EQ(completion.result, -ETIME);
      }
      readers_end(threads);
      ring_done(scene.ring);
    }
  }
}

TEST(a_start_whose_kick_the_kernel_refused_leaves_the_next_start_its_own) {
  for (size_t mode = 0; mode < COUNT_OF(HOST_MODES); mode++) {
    ROW(HOST_MODE_NAMES[mode]);
    scene = (struct scene){.ring = ring_open(HOST_MODES[mode], 0, 0)};
    paluring_capabilities capabilities = {.size = sizeof capabilities};
    CHECK_EQ(paluring_ring_capabilities(scene.ring, &capabilities), 0);
    if (capabilities.fallbacks & PALURING_FALLBACK_WAKE) {
      ring_done(scene.ring);
      SKIP("wakes go through an eventfd, which never refuses");
    }
    atomic_int calls = 0;
    pthread_t driver = start_thread(run_again, scene.ring);
    int64_t end = now_ns() + LONG_ENOUGH;
    int started = 0;
    while (!scene.refused) { /* until a start has found the driver asleep */
      atomic_store(&scene.refuse, true);
      CHECK(now_ns() < end);
      if (started < 200) start_only(scene.ring, with_flags(nop_op(count_call, &calls), PALURING_OP_SUBMIT)), started++;
      for (int64_t pause = now_ns() + MS; now_ns() < pause && !scene.refused;) sched_yield();
    }
    start_only(scene.ring, with_flags(nop_op(count_call, &calls), PALURING_OP_SUBMIT));
    CHECK(await_count(&calls, started + 1));
    atomic_store(&scene.stop, true);
    CHECK_EQ(paluring_ring_wake(scene.ring), 0);
    pthread_join(driver, NULL);
    ring_done(scene.ring);
  }
}

int main(void) {
  RUN(no_io_wait_ends_with_eintr_without_a_signal_while_other_threads_ask_what_is_ready);
  RUN(a_start_whose_kick_the_kernel_refused_leaves_the_next_start_its_own);
  RUN(no_wake_is_lost_while_other_threads_ask_what_is_ready);
  RUN(no_drain_sleeps_past_the_last_completion_while_other_threads_ask_what_is_ready);
  return harness_end();
}
