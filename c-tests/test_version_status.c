/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Version and status codes: numbers, names and texts. */
#include "harness.h"

static const struct own {
  int32_t status;
  const char *name;
} own_statuses[] = {
    {PALURING_ERR_STALE, "PALURING_ERR_STALE"},
    {PALURING_ERR_WRONG_THREAD, "PALURING_ERR_WRONG_THREAD"},
    {PALURING_ERR_POISONED, "PALURING_ERR_POISONED"},
    {PALURING_ERR_CLOSED, "PALURING_ERR_CLOSED"},
    {PALURING_ERR_FORKED, "PALURING_ERR_FORKED"},
    {PALURING_ERR_LOST, "PALURING_ERR_LOST"},
    {PALURING_ERR_ORPHANED, "PALURING_ERR_ORPHANED"},
    {PALURING_ERR_DROPPED, "PALURING_ERR_DROPPED"},
};

TEST(header_and_library_tell_the_same_version) {
  char text[64];
  uint32_t number = paluring_version_number();
  CHECK_EQ(number, PALURING_VERSION_NUMBER);
  CHECK(strcmp(paluring_version(), PALURING_VERSION) == 0);
  snprintf(text, sizeof text, "%u.%u.%u", number / 1000000, number / 1000 % 1000, number % 1000);
  CHECK(strncmp(paluring_version(), text, strlen(text)) == 0);
}

TEST(own_codes_have_their_numbers_names_and_a_text) {
  for (size_t i = 0; i < COUNT_OF(own_statuses); i++) {
    const struct own *own = &own_statuses[i];
    ROW(own->name);
    CHECK_EQ(own->status, -5001 - (int)i);
    CHECK(strcmp(paluring_status_name(own->status), own->name) == 0);
    CHECK(strlen(paluring_strerror(own->status)) > 10);
    for (size_t j = 0; j < i; j++) CHECK(strcmp(paluring_strerror(own->status), paluring_strerror(own_statuses[j].status)) != 0);
  }
}

static bool is_hole(int number) {
  return number == 41 || number == 58; /* Linux has no such errno */
}

TEST(each_errno_has_the_name_and_text_of_the_system) {
  for (int number = 1; number <= 133; number++) {
    char row[32];
    snprintf(row, sizeof row, "errno %d", number);
    ROW(row);
    const char *name = paluring_status_name(-number), *text = paluring_strerror(-number);
    CHECK(name && *name && text && *text);
    if (is_hole(number)) continue;
    CHECK(name[0] == 'E');
#ifdef __GLIBC__
    CHECK(strcmp(name, strerrorname_np(number)) == 0);
    CHECK(strcmp(text, strerrordesc_np(number)) == 0);
#endif
  }
  ROW(NULL);
  CHECK(strcmp(paluring_status_name(-EAGAIN), "EAGAIN") == 0);
}

TEST(success_and_counts_are_no_errors) {
  static const int32_t counts[] = {0, 1, 2, 9, 11, 133, 4096, 5001, INT32_MAX};
  for (size_t i = 0; i < COUNT_OF(counts); i++) {
    CHECK(strcmp(paluring_status_name(counts[i]), paluring_status_name(0)) == 0);
    CHECK(strcmp(paluring_strerror(counts[i]), paluring_strerror(0)) == 0);
    CHECK(paluring_status_name(counts[i])[0] != 'E');
  }
}

TEST(unknown_codes_give_a_text_and_no_known_name) {
  static const int32_t unknown[] = {-41, -58, -134, -200, -511, -4095, -4096, -5000, -5009, -5100, -65536, INT32_MIN + 1, INT32_MIN};
  for (size_t i = 0; i < COUNT_OF(unknown); i++) {
    char row[32];
    snprintf(row, sizeof row, "status %d", unknown[i]);
    ROW(row);
    const char *name = paluring_status_name(unknown[i]), *text = paluring_strerror(unknown[i]);
    CHECK(name && *name && text && *text);
    CHECK(strncmp(name, "PALURING_ERR_", 13) != 0);
    CHECK(strcmp(name, paluring_status_name(0)) != 0);
    CHECK(strcmp(text, paluring_strerror(0)) != 0);
  }
}

TEST(texts_are_static) {
  for (int32_t status = -6000; status <= 1; status++) {
    CHECK(paluring_strerror(status) == paluring_strerror(status));
    CHECK(paluring_status_name(status) == paluring_status_name(status));
  }
  CHECK(paluring_version() == paluring_version());
}

static void *ask_for_texts(void *argument) {
  (void)argument;
  for (int round = 0; round < 20; round++)
    for (int32_t status = -5010; status <= 0; status += round % 7 + 1)
      EXPECT(*paluring_strerror(status) && *paluring_status_name(status));
  return NULL;
}

TEST(texts_serve_many_threads) {
  pthread_t threads[4];
  for (size_t i = 0; i < COUNT_OF(threads); i++) CHECK(pthread_create(&threads[i], NULL, ask_for_texts, NULL) == 0);
  for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
}

TEST(errno_is_left_alone) {
  errno = 77;
  for (int32_t status = -140; status <= 1; status++) (void)paluring_strerror(status), (void)paluring_status_name(status);
  (void)paluring_version(), (void)paluring_version_number();
  CHECK_EQ(errno, 77);
}

TEST(rings_are_available_here) {
  const char *reason = paluring_ring_unavailable_reason();
  CHECK(reason);
  if (*reason) FAIL("%s", reason);
  CHECK(reason == paluring_ring_unavailable_reason());
}

TEST(asking_why_rings_are_unavailable_leaves_nothing_behind) {
  int before = count_fds();
  long resident = 0;
  for (int i = 0; i < 300; i++) {
    if (i == 100) resident = resident_kib();
    (void)paluring_ring_unavailable_reason();
  }
  CHECK_EQ(count_fds(), before);
  if (!is_instrumented() && resident_kib() > resident + 512) FAIL("200 calls left %ld KiB", resident_kib() - resident);
}

TEST(frozen_structs_have_their_sizes) {
  CHECK_EQ(sizeof(paluring_op), 128);
  CHECK_EQ(sizeof(paluring_completion), 64);
  CHECK_EQ(sizeof(paluring_io), 8);
  CHECK_EQ(offsetof(paluring_ring_options, size), 0);
  CHECK_EQ(offsetof(paluring_capabilities, size), 0);
  CHECK_EQ(offsetof(paluring_stats, size), 0);
}

int main(void) {
  RUN(header_and_library_tell_the_same_version);
  RUN(own_codes_have_their_numbers_names_and_a_text);
  RUN(each_errno_has_the_name_and_text_of_the_system);
  RUN(success_and_counts_are_no_errors);
  RUN(unknown_codes_give_a_text_and_no_known_name);
  RUN(texts_are_static);
  RUN(texts_serve_many_threads);
  RUN(errno_is_left_alone);
  RUN(rings_are_available_here);
  RUN(asking_why_rings_are_unavailable_leaves_nothing_behind);
  RUN(frozen_structs_have_their_sizes);
  return harness_end();
}
