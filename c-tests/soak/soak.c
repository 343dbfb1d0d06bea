/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * soak SECONDS [SEED]: rounds of eight threads on rings of each mode.
 */
#include "soak.h"

enum { THREADS = 8, ROUND_SECONDS = 3 };

static int64_t seconds = 10;
static uint64_t seed;
static struct soaker soakers[THREADS];
static struct account shared, background;

static void log_is_a_failure(uintptr_t user_data, const char *text) {
  (void)user_data;
  harness_fail(__FILE__, __LINE__, "the library says: %s", text);
}

static struct account *account_for(int thread) {
  struct account *accounts[] = {&soakers[thread].own, &shared, &soakers[thread].own, background.ring ? &background : &shared};
  return accounts[thread % 4];
}

/* A release without BACKGROUND rings refuses to open one. */
static struct account open_background(uint64_t random) {
  paluring_ring_options options;
  struct account account = {.mode = PALURING_MODE_BACKGROUND};
  paluring_ring_options_init(&options, sizeof options);
  options.mode = PALURING_MODE_BACKGROUND;
  options.entries = random & 1 ? 8 : 64;
  int32_t status = paluring_ring_open(&options, &account.ring);
  EXPECT(status == 0 || status == -EOPNOTSUPP);
  return account;
}

static void begin(struct soaker *self, int thread, uint64_t random) {
  char name[32];
  *self = (struct soaker){.id = (unsigned)thread, .random = random | 1};
  self->account = account_for(thread);
  for (unsigned i = 0; i < CHANNELS; i++) channel_open(&self->channels[i], (unsigned)thread * CHANNELS + i, i % 2);
  snprintf(name, sizeof name, "own-%d", thread);
  self->shared_file = temp_file("shared", FILE_BYTES, SHARED_SEED);
  self->own_file = temp_file(name, (size_t)JOBS * MOST_BYTES, 0);
}

/* What is dropped, detached or orphaned lets go of its memory before long. */
static void await_zombies(struct soaker *self, paluring_ring *watcher) {
  int64_t end = now_ns() + 2 * LONG_ENOUGH;
  while (jobs_recycle(self) > 0 && now_ns() < end) {
    stats_of(watcher); /* frees what quarantine holds */
    poll(NULL, 0, 1);
  }
  EXPECT_EQ(jobs_recycle(self), 0);
}

static void finish(struct soaker *self) {
  for (int i = 0; i < CHANNELS; i++) channel_close(&self->channels[i]);
  close(self->shared_file);
  close(self->own_file);
}

static uint64_t orphans_files;

/* Descriptors that are still open. Of files opened for orphans nobody learns (docs/safety.md): they are closed, and counted. */
static void look_at_fds(bool tell) {
  for (int fd = 0; fd < 256; fd++) {
    char path[32], target[200] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof target - 1) < 0) continue;
    if (tell) printf("descriptor %d: %s\n", fd, target);
    if (strstr(target, "/status") && orphans_files < soak_orphans) close(fd), orphans_files++;
  }
}

/* Also what tells when orphans without memory are gone. */
static void check_fds(int fds, paluring_ring *watcher) {
  int64_t end = now_ns() + LONG_ENOUGH;
  while (count_fds() != fds && now_ns() < end) {
    stats_of(watcher);
    look_at_fds(false);
    poll(NULL, 0, 1);
  }
  if (!EXPECT_EQ(count_fds(), fds)) look_at_fds(true);
}

static uint64_t totals[KINDS + 3];

static void add_up(const struct soaker *self) {
  for (int kind = 0; kind < KINDS; kind++) totals[kind] += self->starts[kind];
  totals[KINDS] += self->results;
  totals[KINDS + 1] += self->failures;
  totals[KINDS + 2] += self->bytes;
}

static void one_round(uint64_t random, int64_t until) {
  paluring_ring *watcher = ring_open(PALURING_MODE_SHARED, 8, 0);
  int fds = count_fds();
  shared = account_open(PALURING_MODE_SHARED, random);
  background = open_background(random);
  atomic_store(&soak_stop, false);
  for (int i = 0; i < THREADS; i++) begin(&soakers[i], i, random * 0x9e3779b97f4a7c15 + (uint64_t)i);
  for (int i = 0; i < THREADS; i++) soakers[i].thread = start_thread(soak, &soakers[i]);
  while (now_ns() < until && !has_failed()) poll(NULL, 0, 10);
  atomic_store(&soak_stop, true);
  for (int i = 0; i < THREADS; i++) pthread_join(soakers[i].thread, NULL);
  account_close(&shared, soakers, THREADS, random % 2 ? LONG_ENOUGH : 0);
  if (background.ring) account_close(&background, soakers, THREADS, random % 3 ? LONG_ENOUGH : 0);
  for (int i = 0; i < THREADS; i++) await_zombies(&soakers[i], watcher);
  EXPECT(quarantine_ends(watcher));
  for (int i = 0; i < THREADS; i++) finish(&soakers[i]), add_up(&soakers[i]);
  check_fds(fds, watcher);
  ring_done(watcher);
}

TEST(threads_with_random_ios_on_rings_of_each_mode_leave_everything_as_it_was) {
  int64_t end = now_ns() + seconds * SECOND;
  int fds = count_fds();
  long resident = 0;
  uint64_t random = seed;
  paluring_log_set(log_is_a_failure, 0);
  for (int round = 0; now_ns() < end && !has_failed(); round++) {
    random = random * 6364136223846793005 + 1442695040888963407;
    int64_t until = now_ns() + ROUND_SECONDS * SECOND;
    one_round(random >> 16, until < end ? until : end);
    EXPECT_EQ(count_fds(), fds);
    if (round == 1) resident = resident_kib();
    if (round > 1 && !is_instrumented() && resident_kib() > resident + 4096) FAIL("%ld KiB more than at first", resident_kib() - resident);
  }
  paluring_log_set(NULL, 0);
}

int main(int argc, char **argv) {
  static const char *const names[] = {"nops", "timers", "polls", "opens", "file reads", "file writes", "channel reads", "channel writes", "results", "errors", "bytes"};
  if (argc > 1) seconds = atoi(argv[1]);
  seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)now_ns();
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("seed %llu, %lld s\n", (unsigned long long)seed, (long long)seconds);
  RUN(threads_with_random_ios_on_rings_of_each_mode_leave_everything_as_it_was);
  for (int i = 0; i < KINDS + 3; i++) printf("%s %llu%s", names[i], (unsigned long long)totals[i], i < KINDS + 2 ? ", " : "\n");
  printf("orphans %llu, descriptors of orphans %llu\n", (unsigned long long)soak_orphans, (unsigned long long)orphans_files);
  return harness_end();
}
