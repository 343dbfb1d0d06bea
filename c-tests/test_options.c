/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Ring options, and the structs that begin with a size set by the host. */
#include "harness.h"

#include <sys/mman.h>
#include <sys/resource.h>

#define CANARY 0xc7
#define ROOM 4096 /* bytes before the page that faults */

static uint8_t *room;

/* Memory for a struct of size bytes, as close to a page that faults as its alignment allows; filled with the canary. */
static void *edge(size_t size) {
  if (!room) {
    room = mmap(NULL, 2 * ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED || mprotect(room + ROOM, ROOM, PROT_NONE) < 0) perror("mmap"), exit(1);
  }
  memset(room, CANARY, ROOM);
  return room + ROOM - (size + 7) / 8 * 8;
}

static bool all_are(const uint8_t *bytes, size_t len, uint8_t value) {
  for (size_t i = 0; i < len; i++)
    if (bytes[i] != value) return false;
  return true;
}

/* Whether everything but the size bytes there is as edge left it. */
static bool only_wrote(const uint8_t *bytes, size_t size) {
  size_t before = (size_t)(bytes - room);
  return all_are(room, before, CANARY) && all_are(bytes + size, ROOM - before - size, CANARY);
}

static paluring_ring_options defaults(void) {
  paluring_ring_options options;
  memset(&options, 0xff, sizeof options);
  paluring_ring_options_init(&options, sizeof options);
  return options;
}

/* Opens with options that may lie at any address, lets a ring that opens do a NOP, closes it; the status of open. */
static int32_t try_open(const void *options) {
  paluring_ring *ring = (paluring_ring *)(uintptr_t)1;
  paluring_op op;
  int32_t status = paluring_ring_open(options, &ring);
  EXPECT((ring != NULL) == (status == 0));
  if (status) return status;
  paluring_op_nop(&op);
  EXPECT_EQ(do_op(ring, &op, NULL), 0);
  ring_done(ring);
  return status;
}

static void set_size(void *options, uint32_t size) {
  memcpy(options, &size, sizeof size);
}

static bool little_memory_may_be_locked(void) {
  struct rlimit limit;
  return geteuid() != 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < 16 << 20;
}

/* ---- sizes ---- */

TEST(init_sets_the_defaults) {
  paluring_ring_options options = defaults();
  CHECK_EQ(options.size, sizeof options);
  CHECK_EQ(options.mode, PALURING_MODE_OWNER);
  CHECK_EQ(options.backend, PALURING_BACKEND_AUTO);
  CHECK(!options.entries && !options.cq_entries && !options.max_in_flight && !options.max_files && !options.flags && !options.attach);
  CHECK(options.sqpoll_cpu == -1 && options.background_cpu == -1);
  CHECK_EQ(try_open(&options), 0);
}

TEST(init_writes_nothing_beyond_the_size) {
  for (size_t size = 0; size <= sizeof(paluring_ring_options) + 64; size++) {
    char row[32];
    snprintf(row, sizeof row, "size %zu", size);
    ROW(row);
    uint8_t *bytes = edge(size);
    paluring_ring_options_init((void *)bytes, size);
    CHECK(only_wrote(bytes, size));
    if (size < 8 || size % 4) continue;
    uint32_t told;
    memcpy(&told, bytes, sizeof told);
    CHECK_EQ(told, size);
    CHECK_EQ(try_open(bytes), 0);
  }
}

TEST(options_are_read_up_to_their_size) {
  for (uint32_t size = 0; size <= sizeof(paluring_ring_options); size++) {
    char row[32];
    snprintf(row, sizeof row, "size %u", size);
    ROW(row);
    paluring_ring_options options = defaults();
    uint8_t *bytes = edge(size < 4 ? 4 : size);
    memcpy(bytes, &options, size < 4 ? 4 : size);
    set_size(bytes, size);
    int32_t status = try_open(bytes);
    CHECK(status == (size < 8 ? -EINVAL : 0) || (size % 4 && status == -EINVAL)); /* a size that cuts a field may be refused */
  }
}

TEST(fields_beyond_the_size_count_as_not_set) {
  paluring_ring_options options = defaults();
  options.mode = PALURING_MODE_SHARED;
  options.entries = 3;
  options.backend = 77;
  options.reserved[3] = 1;
  options.size = (uint32_t)offsetof(paluring_ring_options, backend);
  CHECK_EQ(try_open(&options), 0);
  options.size = sizeof options;
  CHECK_EQ(try_open(&options), -EINVAL);
}

TEST(options_of_a_newer_header_are_taken_if_nothing_unknown_is_set) {
  struct { paluring_ring_options options; uint8_t tail[256]; } newer;
  for (size_t at = 0; at <= sizeof newer.tail; at++) {
    memset(&newer, 0, sizeof newer);
    newer.options = defaults();
    newer.options.size = sizeof newer;
    if (at < sizeof newer.tail) newer.tail[at] = at % 2 ? 1 : 0x80;
    CHECK_EQ(try_open(&newer), at < sizeof newer.tail ? -E2BIG : 0);
  }
}

/* ---- values ---- */

static const struct row {
  const char *name;
  size_t offset; /* of a field of 32 bits */
  uint32_t value;
  int32_t status;
} rows[] = {
#define FIELD(field) offsetof(paluring_ring_options, field)
    {"mode OWNER", FIELD(mode), PALURING_MODE_OWNER, 0},
    {"mode SHARED", FIELD(mode), PALURING_MODE_SHARED, 0},
    {"mode BACKGROUND", FIELD(mode), PALURING_MODE_BACKGROUND, 0},
    {"mode 3", FIELD(mode), 3, -EINVAL},
    {"mode UINT32_MAX", FIELD(mode), UINT32_MAX, -EINVAL},
    {"flag IOWAIT", FIELD(flags), PALURING_RING_IOWAIT, 0},
    {"flag SQPOLL", FIELD(flags), PALURING_RING_SQPOLL, -EOPNOTSUPP},
    {"flag IOPOLL", FIELD(flags), PALURING_RING_IOPOLL, -EOPNOTSUPP},
    {"an unknown flag", FIELD(flags), 1 << 16, -EINVAL},
    {"the highest flag", FIELD(flags), 1u << 31, -EINVAL},
    {"all flags", FIELD(flags), UINT32_MAX, -EINVAL},
    {"an unknown flag and a known one", FIELD(flags), 1 << 16 | PALURING_RING_IOWAIT, -EINVAL},
    {"backend KERNEL", FIELD(backend), PALURING_BACKEND_KERNEL, 0},
    {"backend 9", FIELD(backend), 9, -EINVAL},
    {"backend UINT32_MAX", FIELD(backend), UINT32_MAX, -EINVAL},
    {"reserved0", FIELD(reserved0), 1, -EINVAL},
    {"reserved", FIELD(reserved), 1, -EINVAL},
    {"the last of reserved", FIELD(reserved) + 28, 1, -EINVAL},
    {"entries 1", FIELD(entries), 1, 0},
    {"entries 2", FIELD(entries), 2, 0},
    {"entries 3", FIELD(entries), 3, 0},
    {"entries 4095", FIELD(entries), 4095, 0},
    {"entries 4096", FIELD(entries), 4096, 0},
    {"entries 32768", FIELD(entries), 32768, 0},
    {"entries 32769", FIELD(entries), 32769, -EINVAL},
    {"entries 2^31", FIELD(entries), 1u << 31, -EINVAL},
    {"entries UINT32_MAX", FIELD(entries), UINT32_MAX, -EINVAL},
    {"1 in flight", FIELD(max_in_flight), 1, 0},
    {"3 in flight", FIELD(max_in_flight), 3, 0},
    {"2^20 in flight", FIELD(max_in_flight), 1 << 20, 0},
    {"2^20 + 1 in flight", FIELD(max_in_flight), (1 << 20) + 1, -EINVAL},
    {"2^31 in flight", FIELD(max_in_flight), 1u << 31, -EINVAL},
    {"UINT32_MAX in flight", FIELD(max_in_flight), UINT32_MAX, -EINVAL},
    {"cq_entries 256", FIELD(cq_entries), 256, 0},
    {"cq_entries 300", FIELD(cq_entries), 300, 0},
    {"cq_entries 65536", FIELD(cq_entries), 65536, 0},
    {"cq_entries 2^31", FIELD(cq_entries), 1u << 31, -EINVAL},
    {"cq_entries UINT32_MAX", FIELD(cq_entries), UINT32_MAX, -EINVAL},
    {"1 file", FIELD(max_files), 1, 0},
    {"1000 files", FIELD(max_files), 1000, 0},
#undef FIELD
};

TEST(values_are_taken_or_refused) {
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    paluring_ring_options options = defaults();
    ROW(rows[i].name);
    memcpy((uint8_t *)&options + rows[i].offset, &rows[i].value, sizeof rows[i].value);
    int32_t status = try_open(&options);
    if (status == -ENOMEM && rows[i].value >= 4095 && little_memory_may_be_locked()) continue;
    CHECK_EQ(status, rows[i].status);
  }
}

/* Odd ones, for which any status is clear, but no crash and no half-open ring. */
TEST(odd_values_never_crash) {
  static const uint32_t odd[] = {0, 1, 2, 3, 5, 255, 257, 65537, 1 << 20, 1 << 24, 1u << 31, UINT32_MAX - 1, UINT32_MAX};
  for (size_t i = 0; i < COUNT_OF(odd) * COUNT_OF(odd); i++) {
    paluring_ring_options options = defaults();
    options.cq_entries = odd[i % COUNT_OF(odd)];
    options.max_files = odd[i / COUNT_OF(odd)];
    options.entries = 4;
    DO((void)try_open(&options));
  }
}

TEST(attach_is_not_in_this_release) {
  paluring_ring_options options = defaults();
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  CHECK(ring);
  options.attach = ring;
  CHECK_EQ(try_open(&options), -EOPNOTSUPP);
  ring_done(ring);
}

TEST(a_ring_has_what_was_asked_for) {
  static const struct { uint32_t entries, in_flight, files, want_entries, want_in_flight, want_files; } sizes[] = {
      {0, 0, 0, 256, 1024, 256}, {1, 0, 1, 1, 4, 1}, {3, 0, 0, 4, 0, 256}, {16, 7, 9, 16, 7, 9}, {4096, 1 << 20, 0, 4096, 1 << 20, 256},
  };
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    paluring_ring_options options = defaults();
    paluring_capabilities got = {.size = sizeof got};
    paluring_ring *ring = NULL;
    options.entries = sizes[i].entries;
    options.max_in_flight = sizes[i].in_flight;
    options.max_files = sizes[i].files;
    int32_t status = paluring_ring_open(&options, &ring);
    if (status == -ENOMEM && options.entries >= 4096 && little_memory_may_be_locked()) continue;
    CHECK_EQ(status, 0);
    CHECK_EQ(paluring_ring_capabilities(ring, &got), 0);
    CHECK_EQ(got.entries, sizes[i].want_entries);
    if (sizes[i].want_in_flight) CHECK_EQ(got.max_in_flight, sizes[i].want_in_flight);
    else CHECK(got.max_in_flight == 12 || got.max_in_flight == 16); /* 4 × what was asked for, or what was given */
    CHECK_EQ(got.max_files, sizes[i].want_files);
    CHECK(got.cq_entries >= got.entries);
    CHECK_EQ(got.backend, PALURING_BACKEND_KERNEL);
    CHECK(got.ops[0] & 1); /* NOP */
    ring_done(ring);
  }
}

TEST(max_in_flight_is_held_exactly) {
  static const uint32_t limits[] = {1, 3, 64, 1000};
  for (size_t i = 0; i < COUNT_OF(limits); i++) {
    struct seen seen = {0};
    paluring_op op;
    paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 16, limits[i]);
    CHECK(ring);
    paluring_op_nop(&op);
    op.callback = note_completion;
    op.user_data = (uintptr_t)&seen;
    for (int round = 1; round <= 3; round++) {
      for (uint32_t n = 0; n < limits[i]; n++) CHECK_EQ(paluring_io_start(ring, &op, NULL), 0);
      CHECK_EQ(paluring_io_start(ring, &op, NULL), -EAGAIN);
      DO(run_until(ring, &seen.calls, round * (int)limits[i]));
    }
    ring_done(ring);
  }
}

TEST(few_file_descriptors_are_a_status) {
  struct rlimit saved, low;
  CHECK(getrlimit(RLIMIT_NOFILE, &saved) == 0);
  for (int spare = 0; spare < 8; spare++) {
    int before = count_fds(), probe = open("/dev/null", O_RDONLY);
    paluring_ring *ring = NULL;
    close(probe);
    low = (struct rlimit){.rlim_cur = (rlim_t)(probe + spare), .rlim_max = saved.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    int32_t status = paluring_ring_open(NULL, &ring);
    setrlimit(RLIMIT_NOFILE, &saved);
    if (ring) ring_done(ring);
    CHECK(status == 0 || status == -EMFILE);
    CHECK((ring != NULL) == (status == 0));
    CHECK_EQ(count_fds(), before);
  }
}

/* ---- structs that the library fills ---- */

static int32_t ask(paluring_ring *ring, bool stats, void *out) {
  return stats ? paluring_ring_stats(ring, out) : paluring_ring_capabilities(ring, out);
}

TEST(stats_and_capabilities_write_nothing_beyond_the_size) {
  paluring_ring *ring = ring_open(PALURING_MODE_OWNER, 0, 0);
  CHECK(ring);
  for (int stats = 0; stats < 2; stats++) {
    size_t known = stats ? sizeof(paluring_stats) : sizeof(paluring_capabilities);
    static _Alignas(8) uint8_t whole[1024];
    set_size(whole, (uint32_t)known);
    CHECK_EQ(ask(ring, stats, whole), 0);
    for (size_t size = 0; size <= known + 64; size += 4) {
      char row[48];
      snprintf(row, sizeof row, "%s, size %zu", stats ? "stats" : "capabilities", size);
      ROW(row);
      uint8_t *bytes = edge(size < 4 ? 4 : size);
      if (size > known) memset(bytes + known, 0, size - known);
      set_size(bytes, (uint32_t)size);
      CHECK_EQ(ask(ring, stats, bytes), size < 8 ? -EINVAL : 0); /* no version has a struct so small */
      CHECK(only_wrote(bytes, size < 4 ? 4 : size));
      if (size < 8) continue;
      size_t filled = size < known ? size : known;
      CHECK(memcmp(bytes + 4, whole + 4, filled - 4) == 0);
      CHECK(size <= known || all_are(bytes + known, size - known, 0));
      set_size(whole, (uint32_t)size);
      CHECK(memcmp(bytes, whole, 4) == 0); /* the size stays the host's */
    }
  }
  ring_done(ring);
}

int main(void) {
  RUN(init_sets_the_defaults);
  RUN(init_writes_nothing_beyond_the_size);
  RUN(options_are_read_up_to_their_size);
  RUN(fields_beyond_the_size_count_as_not_set);
  RUN(options_of_a_newer_header_are_taken_if_nothing_unknown_is_set);
  RUN(values_are_taken_or_refused);
  RUN(odd_values_never_crash);
  RUN(attach_is_not_in_this_release);
  RUN(a_ring_has_what_was_asked_for);
  RUN(max_in_flight_is_held_exactly);
  RUN(few_file_descriptors_are_a_status);
  RUN(stats_and_capabilities_write_nothing_beyond_the_size);
  return harness_end();
}
