/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "soak.h"

atomic_bool soak_stop;
atomic_ullong soak_orphans;

/* xorshift */
uint64_t random_of(struct soaker *self, uint64_t below) {
  self->random ^= self->random << 13;
  self->random ^= self->random >> 7;
  self->random ^= self->random << 17;
  return self->random % below;
}

/* ---- rings ---- */

struct account account_open(uint32_t mode, uint64_t random) {
  return (struct account){.mode = mode, .ring = ring_open(mode, random & 1 ? 8 : 64, random & 2 ? 48 : 256)};
}

static void reap_some(struct account *account, uint32_t min, int64_t limit) {
  paluring_completion taken[8];
  int32_t count = paluring_ring_reap(account->ring, min, limit, taken, COUNT_OF(taken));
  EXPECT(count >= 0 || count == PALURING_ERR_CLOSED);
  for (int32_t i = 0; i < count; i++) job_done(account, &taken[i]);
}

static void take_kept(struct soaker *self, struct job *job) {
  paluring_completion completion;
  if (atomic_load(&job->state) != FLIGHT || job->taker != KEPT) return;
  int32_t status = paluring_io_poll(self->account->ring, job->io, NULL, 0, &completion);
  if (status == 1) job_done(self->account, &completion);
  else EXPECT_EQ(status, 0);
}

void account_close(struct account *account, struct soaker *soakers, int count, int64_t limit) {
  EXPECT(paluring_ring_close(account->ring, limit) >= 0);
  for (int tries = 0; tries < 64; tries++) reap_some(account, 0, 0);
  for (int i = 0; i < count * JOBS; i++) {
    struct soaker *soaker = &soakers[i / JOBS];
    struct job *job = &soaker->jobs[i % JOBS];
    if (soaker->account != account) continue;
    take_kept(soaker, job);
    EXPECT(atomic_load(&job->state) != FLIGHT);
  }
  paluring_stats stats = stats_of(account->ring);
  EXPECT_EQ(stats.total_started, account->started);
  EXPECT_EQ(stats.total_finished, account->started);
  EXPECT_EQ(stats.total_dropped, account->dropped);
  EXPECT_EQ(account->delivered + account->dropped + account->detached, account->started);
  EXPECT(stats.total_orphaned >= account->orphaned);
  atomic_fetch_add(&soak_orphans, stats.total_orphaned);
  EXPECT(stats.total_cancelled <= stats.total_started);
  EXPECT_EQ(stats.queued + stats.waiting + stats.completed + stats.dropped, 0);
  EXPECT_EQ(stats.total_foreign, 0);
  paluring_ring_release(account->ring);
}

static void reopen(struct soaker *self) {
  static const int64_t limits[] = {0, MS, SECOND};
  account_close(self->account, self, 1, limits[random_of(self, COUNT_OF(limits))]);
  self->own = account_open(PALURING_MODE_OWNER, random_of(self, 4));
}

/* ---- steps ---- */

/* On a SHARED ring another thread may be driving; a BACKGROUND ring is driven by its own. */
static void drive(struct soaker *self) {
  paluring_ring *ring = self->account->ring;
  uint32_t mode = self->account->mode, min = (uint32_t)random_of(self, 3);
  int64_t limit = (int64_t)random_of(self, MS / 4);
  int32_t status = 0;
  int fd = -1;
  switch (mode == PALURING_MODE_BACKGROUND ? 5 + random_of(self, 2) : random_of(self, 8)) {
    case 0: status = paluring_ring_submit(ring); break;
    case 1: status = paluring_ring_wait(ring, min, limit); break;
    case 2: status = paluring_ring_process(ring, min); break;
    case 3:
      status = paluring_ring_event_fd(ring, &fd);
      if (status == 0 && (status = paluring_ring_prepare(ring)) == 0) poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 1);
      break;
    case 4: status = paluring_ring_ready(ring); break;
    case 5: reap_some(self->account, min, limit); break;
    case 6: status = paluring_ring_drain(ring, limit); break;
    default: status = paluring_ring_run(ring, min, limit);
  }
  EXPECT(status >= 0 || status == -ETIME || (status == -EBUSY && mode == PALURING_MODE_SHARED));
}

static void wait_for_one(struct soaker *self, struct job *job) {
  paluring_completion completion;
  if (atomic_load(&job->state) != FLIGHT || job->taker != KEPT) return;
  int32_t status = paluring_io_wait(self->account->ring, job->io, (int64_t)random_of(self, MS / 4), &completion);
  if (status == 0) job_done(self->account, &completion);
  else EXPECT_EQ(status, -ETIME);
}

static void cancel_one(struct soaker *self, struct job *job) {
  if (atomic_load(&job->state) == FREE || !job->io) return;
  int32_t status = paluring_io_cancel(self->account->ring, job->io);
  EXPECT(status == 0 || status == PALURING_ERR_STALE);
}

static void limit_one(struct soaker *self, struct job *job) {
  if (atomic_load(&job->state) != FLIGHT || job->kind == TIMER) return;
  int32_t status = paluring_io_set_timeout(self->account->ring, job->io, (int64_t)random_of(self, MS) + 1);
  EXPECT(status == 0 || status == PALURING_ERR_STALE);
}

static void step(struct soaker *self) {
  struct job *job = &self->jobs[random_of(self, JOBS)];
  switch (random_of(self, 40)) {
    case 0: case 1: job_drop(self, job); break;
    case 2: case 3: cancel_one(self, job); break;
    case 4: limit_one(self, job); break;
    case 5: case 6: wait_for_one(self, job); break;
    case 7: case 8: case 9: for (int i = 0; i < JOBS; i++) take_kept(self, &self->jobs[i]); break;
    case 10: EXPECT_EQ(paluring_ring_wake(self->account->ring), 0); break;
    case 11: if (random_of(self, 20) == 0) EXPECT(paluring_ring_cancel_all(self->account->ring) >= 0); break;
    case 12: paluring_ring_release(paluring_ring_retain(self->account->ring)); break;
    case 13: EXPECT(stats_of(self->account->ring).total_started > 0 || self->account->started == 0); break;
    case 14: case 15: case 16: jobs_recycle(self); break;
    case 17: case 18: case 19: case 20: case 21: case 22: case 23: drive(self); break;
    default: job_start(self);
  }
}

void *soak(void *argument) {
  struct soaker *self = argument;
  bool owns = self->account == &self->own;
  if (owns) self->own = account_open(PALURING_MODE_OWNER, random_of(self, 4));
  for (int steps = 1; !atomic_load(&soak_stop) && !has_failed(); steps++) {
    step(self);
    if (owns && steps % 3000 == 0) reopen(self);
  }
  if (owns) account_close(&self->own, self, 1, LONG_ENOUGH);
  return NULL;
}
