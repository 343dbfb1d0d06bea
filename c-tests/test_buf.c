/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Buffers: allocated and adopted memory, slices, lists, references. */
#include "harness.h"

/* What a release function saw; its user_data points to one. */
struct freed {
  atomic_int calls;
  void *data;
  size_t len;
};

static void note_release(uintptr_t user_data, void *data, size_t len) {
  struct freed *freed = (struct freed *)user_data;
  freed->data = data;
  freed->len = len;
  atomic_fetch_add(&freed->calls, 1);
}

static paluring_buf *adopted(void *data, size_t len, struct freed *freed) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_adopt(data, len, note_release, (uintptr_t)freed, &buf), 0);
  return buf;
}

static paluring_buf *allocated(size_t len) {
  paluring_buf *buf = NULL;
  EXPECT_EQ(paluring_buf_alloc(len, 0, &buf), 0);
  return buf;
}

static bool all_zero(const uint8_t *data, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (data[i]) return false;
  return true;
}

/* ---- alloc ---- */

TEST(alloc_gives_zeroed_aligned_memory) {
  static const size_t lens[] = {0, 1, 3, 64, 4095, 4096, 4097, 2 << 20}, alignments[] = {0, 1, 2, 8, 64, 4096, 2 << 20, 16 << 20};
  for (size_t i = 0; i < COUNT_OF(lens) * COUNT_OF(alignments); i++) {
    size_t len = lens[i % COUNT_OF(lens)], alignment = alignments[i / COUNT_OF(lens)];
    char row[64];
    snprintf(row, sizeof row, "len %zu alignment %zu", len, alignment);
    ROW(row);
    for (int again = 0; again < 2; again++) { /* the second may get the first one's memory */
      paluring_buf *buf = NULL;
      CHECK_EQ(paluring_buf_alloc(len, alignment, &buf), 0);
      CHECK(buf);
      CHECK_EQ(paluring_buf_len(buf), len);
      CHECK_EQ(paluring_buf_refs(buf), 1);
      CHECK_EQ(paluring_buf_list_count(buf), 0);
      CHECK(!paluring_buf_list_at(buf, 0));
      CHECK(len == 0 || paluring_buf_data(buf));
      CHECK_EQ((uintptr_t)paluring_buf_data(buf) % (alignment ? alignment : 64), 0);
      CHECK(all_zero(paluring_buf_data(buf), len));
      if (len) memset(paluring_buf_data(buf), 0xff, len);
      paluring_buf_release(buf);
    }
  }
}

TEST(alloc_takes_alignments_up_to_2_30) {
  if (is_instrumented()) SKIP("valgrind and sanitizers refuse such alignments");
  paluring_buf *buf = NULL;
  CHECK_EQ(paluring_buf_alloc(1, 1 << 30, &buf), 0);
  CHECK_EQ((uintptr_t)paluring_buf_data(buf) % (1 << 30), 0);
  CHECK_EQ(*paluring_buf_data(buf), 0);
  paluring_buf_release(buf);
}

TEST(alloc_refuses_alignments_that_are_no_power_of_two_up_to_2_30) {
  static const size_t alignments[] = {3, 5, 6, 65, 4095, (1u << 30) + 1, (size_t)1 << 31, (size_t)1 << 63, SIZE_MAX - 1, SIZE_MAX};
  for (size_t i = 0; i < COUNT_OF(alignments); i++) {
    paluring_buf *buf = (paluring_buf *)(uintptr_t)1;
    CHECK_EQ(paluring_buf_alloc(64, alignments[i], &buf), -EINVAL);
    CHECK(!buf);
  }
}

TEST(alloc_of_too_much_is_a_status) {
  static const size_t lens[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 63, SIZE_MAX - 4096, SIZE_MAX / 2 + 2, SIZE_MAX / 2, SIZE_MAX / 4};
  static const size_t alignments[] = {0, 1, 4096, 16 << 20};
  for (size_t i = 0; i < COUNT_OF(lens) * COUNT_OF(alignments); i++) {
    paluring_buf *buf = (paluring_buf *)(uintptr_t)1;
    int32_t status = paluring_buf_alloc(lens[i % COUNT_OF(lens)], alignments[i / COUNT_OF(lens)], &buf);
    CHECK(status == -ENOMEM || status == -EINVAL);
    CHECK(!buf);
  }
}

/* ---- adopt ---- */

TEST(adopted_memory_is_used_in_place_and_given_back_once_by_the_last_release) {
  uint8_t memory[100];
  static const size_t lens[] = {100, 1, 0};
  for (size_t i = 0; i < COUNT_OF(lens); i++) {
    struct freed freed = {0};
    paluring_buf *buf = adopted(memory, lens[i], &freed);
    CHECK(buf && paluring_buf_data(buf) == memory);
    CHECK_EQ(paluring_buf_len(buf), lens[i]);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    for (int n = 0; n < 3; n++) CHECK(paluring_buf_retain(buf) == buf);
    CHECK_EQ(paluring_buf_refs(buf), 4);
    for (int n = 0; n < 3; n++) paluring_buf_release(buf);
    CHECK_EQ(paluring_buf_refs(buf), 1);
    CHECK_EQ(freed.calls, 0);
    paluring_buf_release(buf);
    CHECK_EQ(freed.calls, 1);
    CHECK(freed.data == memory);
    CHECK_EQ(freed.len, lens[i]);
  }
}

TEST(adopting_nothing_is_allowed_and_released_like_the_rest) {
  struct freed freed = {0};
  paluring_buf *buf = adopted(NULL, 0, &freed);
  CHECK(buf);
  CHECK_EQ(paluring_buf_len(buf), 0);
  paluring_buf_release(buf);
  CHECK_EQ(freed.calls, 1);
}

TEST(a_failed_adopt_never_calls_release) {
  struct freed freed = {0};
  uint8_t byte = 0;
  paluring_buf *buf = (paluring_buf *)(uintptr_t)1;
  CHECK_EQ(paluring_buf_adopt(NULL, 1, note_release, (uintptr_t)&freed, &buf), -EINVAL);
  CHECK(!buf);
  CHECK_EQ(paluring_buf_adopt(&byte, 1, note_release, (uintptr_t)&freed, NULL), -EINVAL);
  CHECK_EQ(freed.calls, 0);
}

TEST(adopted_memory_needs_no_release_function) {
  static uint8_t memory[64];
  paluring_buf *buf = NULL;
  CHECK_EQ(paluring_buf_adopt(memory, sizeof memory, NULL, 7, &buf), 0);
  CHECK(paluring_buf_data(buf) == memory);
  paluring_buf_release(buf);
}

/* A release function that uses buffers and lets go of the next one: it would deadlock under a lock. */
static void release_next(uintptr_t user_data, void *data, size_t len) {
  paluring_buf *next = (paluring_buf *)user_data, *other = allocated(len);
  (void)data;
  paluring_buf_release(paluring_buf_retain(other));
  paluring_buf_release(other);
  paluring_buf_release(next);
}

TEST(release_functions_may_use_buffers) {
  uint8_t byte = 1;
  struct freed freed = {0};
  paluring_buf *buf = adopted(&byte, 1, &freed);
  for (int i = 0; i < 100; i++) {
    paluring_buf *before = NULL;
    CHECK_EQ(paluring_buf_adopt(&byte, 1, release_next, (uintptr_t)buf, &before), 0);
    buf = before;
  }
  paluring_buf_release(buf);
  CHECK_EQ(freed.calls, 1);
}

/* ---- slices ---- */

TEST(slices_share_memory_and_keep_it) {
  uint8_t memory[100];
  struct freed freed = {0};
  paluring_buf *buf = adopted(memory, 100, &freed), *slice = NULL, *inner = NULL;
  CHECK_EQ(paluring_buf_slice(buf, 10, 50, &slice), 0);
  CHECK_EQ(paluring_buf_slice(slice, 5, 20, &inner), 0);
  CHECK(paluring_buf_data(slice) == memory + 10 && paluring_buf_data(inner) == memory + 15);
  CHECK_EQ(paluring_buf_len(slice), 50);
  CHECK_EQ(paluring_buf_len(inner), 20);
  CHECK(paluring_buf_refs(buf) > 1 && paluring_buf_refs(slice) > 1); /* 1 would mean that no slice uses it */
  CHECK_EQ(paluring_buf_refs(inner), 1);
  paluring_buf_release(slice);
  paluring_buf_release(buf);
  CHECK_EQ(freed.calls, 0);
  paluring_buf_release(inner);
  CHECK_EQ(freed.calls, 1);
  CHECK(freed.data == memory && freed.len == 100);
}

TEST(refs_are_one_again_when_slices_and_lists_are_gone) {
  paluring_buf *buf = allocated(100), *slice = NULL, *list = NULL;
  CHECK_EQ(paluring_buf_slice(buf, 0, 100, &slice), 0);
  CHECK_EQ(paluring_buf_list((paluring_buf *[]){buf, slice, buf}, 3, &list), 0);
  CHECK(paluring_buf_refs(buf) > 2);
  paluring_buf_release(list);
  paluring_buf_release(slice);
  CHECK_EQ(paluring_buf_refs(buf), 1);
  paluring_buf_release(buf);
}

TEST(slices_stay_within_their_buffer) {
  static const struct { size_t offset, len; int32_t status; } rows[] = {
      {0, 0, 0}, {0, 50, 0}, {50, 0, 0}, {49, 1, 0}, {25, 25, 0},
      {0, 51, -EINVAL}, {1, 50, -EINVAL}, {50, 1, -EINVAL}, {51, 0, -EINVAL}, {SIZE_MAX, 0, -EINVAL},
      {SIZE_MAX, 1, -EINVAL}, {1, SIZE_MAX, -EINVAL}, {SIZE_MAX, SIZE_MAX, -EINVAL}, {SIZE_MAX - 9, 20, -EINVAL},
  };
  paluring_buf *buf = allocated(100), *half = NULL;
  CHECK_EQ(paluring_buf_slice(buf, 50, 50, &half), 0); /* its end must count, and not buf's */
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    char row[64];
    snprintf(row, sizeof row, "offset %zu len %zu", rows[i].offset, rows[i].len);
    ROW(row);
    paluring_buf *slice = (paluring_buf *)(uintptr_t)1;
    CHECK_EQ(paluring_buf_slice(half, rows[i].offset, rows[i].len, &slice), rows[i].status);
    CHECK((slice != NULL) == (rows[i].status == 0));
    CHECK(!slice || paluring_buf_len(slice) == rows[i].len);
    paluring_buf_release(slice);
  }
  CHECK_EQ(paluring_buf_refs(half), 1);
  paluring_buf_release(half);
  paluring_buf_release(buf);
}

/* ---- lists ---- */

TEST(lists_hold_their_members_in_order) {
  static const size_t counts[] = {1, 3, 16, 1024};
  static uint8_t memory[1024];
  for (size_t n = 0; n < COUNT_OF(counts); n++) {
    size_t count = counts[n], sum = 0;
    struct freed freed = {0};
    paluring_buf *members[1024], *list = NULL;
    for (size_t i = 0; i < count; sum += i, i++) members[i] = adopted(memory, i, &freed);
    CHECK_EQ(paluring_buf_list(members, count, &list), 0);
    CHECK_EQ(paluring_buf_list_count(list), count);
    CHECK_EQ(paluring_buf_len(list), sum);
    CHECK(!paluring_buf_data(list));
    CHECK_EQ(paluring_buf_refs(list), 1);
    for (size_t i = 0; i < count; i++) {
      CHECK(paluring_buf_list_at(list, i) == members[i]);
      CHECK_EQ(paluring_buf_refs(members[i]), 2);
      paluring_buf_release(members[i]);
    }
    CHECK(!paluring_buf_list_at(list, count) && !paluring_buf_list_at(list, SIZE_MAX));
    CHECK_EQ(freed.calls, 0);
    paluring_buf_release(list);
    CHECK_EQ(freed.calls, (int)count);
  }
}

TEST(lists_refuse_bad_members_and_counts_and_take_nothing) {
  static paluring_buf *many[1025];
  paluring_buf *buf = allocated(10), *list = NULL, *slice = NULL;
  CHECK_EQ(paluring_buf_list(&buf, 1, &list), 0);
  for (size_t i = 0; i < COUNT_OF(many); i++) many[i] = buf;
  const struct { const char *name; paluring_buf *last; size_t count; } rows[] = {
      {"no members", buf, 0}, {"1025 members", buf, 1025}, {"a NULL", NULL, 3}, {"a list", list, 3}, {"SIZE_MAX members", buf, SIZE_MAX},
  };
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    ROW(rows[i].name);
    paluring_buf *out = (paluring_buf *)(uintptr_t)1;
    many[2] = rows[i].last;
    CHECK_EQ(paluring_buf_list(many, rows[i].count, &out), -EINVAL);
    CHECK(!out);
    CHECK_EQ(paluring_buf_refs(buf), 2);
  }
  ROW("a slice of a list");
  CHECK_EQ(paluring_buf_slice(list, 0, 1, &slice), -EINVAL);
  CHECK(!slice);
  paluring_buf_release(list);
  paluring_buf_release(buf);
}

TEST(lengths_that_add_up_to_more_than_size_max_do_not_wrap) {
  static uint8_t memory[1];
  paluring_buf *huge = NULL, *list = NULL;
  int32_t status = paluring_buf_adopt(memory, SIZE_MAX / 2, NULL, 0, &huge);
  if (status == 0) status = paluring_buf_list((paluring_buf *[]){huge, huge, huge}, 3, &list);
  CHECK(status == -EINVAL || status == -ENOMEM || paluring_buf_len(list) >= SIZE_MAX / 2);
  paluring_buf_release(list);
  paluring_buf_release(huge);
}

/* ---- threads ---- */

#define THREADS 4

/* Buffers that all threads use, and a line at which they wait for each other. */
static struct race {
  paluring_buf *buf;
  pthread_barrier_t line;
  int rounds;
} race;

static void run_race(void *(*body)(void *)) {
  pthread_t threads[THREADS];
  pthread_barrier_init(&race.line, NULL, THREADS + 1);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, body, NULL) == 0);
  if (!race.rounds) pthread_barrier_wait(&race.line);
  struct freed freed[2] = {0};
  for (int round = 0; round < race.rounds; round++) {
    uint8_t byte = 0;
    struct freed *now = &freed[round % 2];
    atomic_store(&now->calls, 0);
    race.buf = adopted(&byte, 1, now);
    for (int i = 1; i < THREADS; i++) paluring_buf_retain(race.buf);
    pthread_barrier_wait(&race.line);
    pthread_barrier_wait(&race.line);
    EXPECT_EQ(now->calls, 1);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&race.line);
}

static void *use_buffer(void *argument) {
  (void)argument;
  pthread_barrier_wait(&race.line);
  for (int i = 0; i < tries(50000); i++) {
    paluring_buf *mine = paluring_buf_retain(race.buf), *slice = NULL, *list = NULL;
    if (i % 16 == 0) {
      EXPECT_EQ(paluring_buf_slice(mine, 1, 8, &slice), 0);
      EXPECT_EQ(paluring_buf_list((paluring_buf *[]){mine, slice}, 2, &list), 0);
    }
    paluring_buf_release(mine);
    paluring_buf_release(list);
    paluring_buf_release(slice);
  }
  return NULL;
}

TEST(many_threads_retain_and_release) {
  uint8_t memory[16];
  struct freed freed = {0};
  race.buf = adopted(memory, sizeof memory, &freed);
  race.rounds = 0;
  DO(run_race(use_buffer));
  CHECK_EQ(paluring_buf_refs(race.buf), 1);
  CHECK_EQ(freed.calls, 0);
  paluring_buf_release(race.buf);
  CHECK_EQ(freed.calls, 1);
}

static void *let_go(void *argument) {
  (void)argument;
  for (int round = 0; round < race.rounds; round++) {
    pthread_barrier_wait(&race.line);
    paluring_buf_release(race.buf);
    pthread_barrier_wait(&race.line);
  }
  return NULL;
}

TEST(of_threads_that_release_together_one_is_last) {
  race.rounds = tries(5000);
  run_race(let_go);
}

int main(void) {
  RUN(alloc_gives_zeroed_aligned_memory);
  RUN(alloc_takes_alignments_up_to_2_30);
  RUN(alloc_refuses_alignments_that_are_no_power_of_two_up_to_2_30);
  RUN(alloc_of_too_much_is_a_status);
  RUN(adopted_memory_is_used_in_place_and_given_back_once_by_the_last_release);
  RUN(adopting_nothing_is_allowed_and_released_like_the_rest);
  RUN(a_failed_adopt_never_calls_release);
  RUN(adopted_memory_needs_no_release_function);
  RUN(release_functions_may_use_buffers);
  RUN(slices_share_memory_and_keep_it);
  RUN(refs_are_one_again_when_slices_and_lists_are_gone);
  RUN(slices_stay_within_their_buffer);
  RUN(lists_hold_their_members_in_order);
  RUN(lists_refuse_bad_members_and_counts_and_take_nothing);
  RUN(lengths_that_add_up_to_more_than_size_max_do_not_wrap);
  RUN(many_threads_retain_and_release);
  RUN(of_threads_that_release_together_one_is_last);
  return harness_end();
}
