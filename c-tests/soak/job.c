/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "soak.h"

/* ---- start ---- */

static void got_callback(uintptr_t user_data, paluring_completion *completion);

static struct channel *free_channel(struct soaker *self, bool write) {
  for (int tries = 0; tries < CHANNELS; tries++) {
    struct channel *channel = &self->channels[random_of(self, CHANNELS)];
    if (!channel->broken && !(write ? channel->writing : channel->reading)) return channel;
  }
  return NULL;
}

static bool describe_transfer(struct soaker *self, struct job *job, paluring_op *op) {
  bool write = job->kind == FILE_WRITE || job->kind == CHANNEL_WRITE;
  job->len = 1 + random_of(self, MOST_BYTES);
  job->buf = new_buf(job->len);
  if (!job->buf) return false;
  if (job->kind == FILE_READ) {
    job->at = random_of(self, FILE_BYTES - MOST_BYTES);
    job->fd = self->shared_file;
  } else if (job->kind == FILE_WRITE) {
    job->at = (uint64_t)(job - self->jobs) * MOST_BYTES;
    job->fd = self->own_file;
    job->seed = (unsigned)random_of(self, 1000);
    fill_pattern(paluring_buf_data(job->buf), job->len, job->seed);
  } else {
    job->channel = free_channel(self, write);
    if (!job->channel) return false;
    job->fd = write ? job->channel->write : job->channel->read;
    for (size_t i = 0; write && i < job->len; i++) paluring_buf_data(job->buf)[i] = pattern(job->channel->written_to + i, job->channel->id);
  }
  uint64_t at = job->channel ? UINT64_MAX : job->at;
  (write ? paluring_op_write : paluring_op_read)(op, job->fd, job->buf, 0, job->len, at);
  return true;
}

static bool describe(struct soaker *self, struct job *job, paluring_op *op) {
  switch (job->kind) {
    case NOP: paluring_op_nop(op); return true;
    case TIMER: paluring_op_timeout(op, (int64_t)random_of(self, 3 * MS), 0); return true;
    case POLL: paluring_op_poll(op, self->channels[random_of(self, CHANNELS)].read, POLLIN); return true;
    case OPEN: paluring_op_openat(op, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0); return true;
    default: return describe_transfer(self, job, op);
  }
}

static void forget(struct job *job) {
  if (job->buf) paluring_buf_release(job->buf);
  job->buf = NULL;
  atomic_store(&job->state, FREE);
}

static void mark_channel(struct job *job, bool busy, bool broken) {
  if (!job->channel) return;
  if (job->kind == CHANNEL_READ) job->channel->reading = busy;
  else job->channel->writing = busy;
  if (broken) job->channel->broken = true;
}

/* Flags, taker and limit at random; what must be known to compare data is left out. */
static void decorate(struct soaker *self, struct job *job, paluring_op *op) {
  static const uint32_t flags[TAKERS] = {[QUEUED] = PALURING_OP_QUEUE, [DETACHED] = PALURING_OP_DETACHED};
  op->user_data = (uintptr_t)job;
  op->flags = flags[job->taker] | (random_of(self, 3) ? 0 : PALURING_OP_SUBMIT) | (random_of(self, 8) ? 0 : PALURING_OP_ASYNC);
  op->callback = job->taker == CALLBACK ? got_callback : NULL;
  bool blocks = job->kind == POLL || job->channel; /* it ends though nobody else does anything for it */
  if (random_of(self, 4) == 0) op->timeout_ns = (int64_t)(1 + random_of(self, 2 * MS));
  else if (blocks) op->timeout_ns = (int64_t)(1 + random_of(self, 100 * MS));
  job->moved = job->kind == FILE_READ && job->taker != DETACHED && random_of(self, 3) == 0;
  if (job->moved) op->flags |= PALURING_OP_MOVE;
}

void job_start(struct soaker *self) {
  struct job *job = &self->jobs[random_of(self, JOBS)];
  paluring_op op;
  if (atomic_load(&job->state) != FREE) return;
  *job = (struct job){.account = self->account, .kind = (enum kind)random_of(self, KINDS), .taker = (enum taker)random_of(self, TAKERS)};
  if (!describe(self, job, &op)) {
    forget(job);
    return;
  }
  decorate(self, job, &op);
  mark_channel(job, true, false);
  atomic_store(&job->state, job->taker == DETACHED ? ZOMBIE : FLIGHT);
  struct account *account = self->account;
  int32_t status = paluring_io_start(account->ring, &op, &job->io);
  if (status < 0) {
    EXPECT(status == -EAGAIN);
    mark_channel(job, false, false);
    forget(job);
    return;
  }
  self->starts[job->kind]++;
  atomic_fetch_add(&account->started, 1);
  if (job->taker == DETACHED) {
    atomic_fetch_add(&account->detached, 1);
    mark_channel(job, true, true);
  }
}

/* ---- end ---- */

/* The bytes that have come are those that were asked for. */
static void compare(struct job *job) {
  if (job->result <= 0) return;
  size_t count = (size_t)job->result;
  const uint8_t *data = job->buf ? paluring_buf_data(job->buf) : NULL;
  EXPECT(job->kind < FILE_READ || count <= job->len);
  switch (job->kind) {
    case FILE_READ: EXPECT(has_pattern(data, count, job->at, SHARED_SEED)); break;
    case FILE_WRITE: {
      uint8_t back[MOST_BYTES];
      EXPECT_EQ(pread(job->fd, back, count, (off_t)job->at), count);
      EXPECT(has_pattern(back, count, 0, job->seed));
      break;
    }
    case CHANNEL_READ:
      EXPECT(has_pattern(data, count, job->channel->read_at, job->channel->id));
      job->channel->read_at += count;
      break;
    case CHANNEL_WRITE: job->channel->written_to += count; break;
    default: break;
  }
}

static bool is_possible(const struct job *job, int32_t result) {
  if (result == -ECANCELED || result == PALURING_ERR_ORPHANED) return true;
  if (job->kind == TIMER) return result == -ETIME;
  if (result == -ETIME) return true;
  if (job->kind == FILE_READ) return result == (int32_t)job->len;
  return result >= 0;
}

void job_done(struct account *account, paluring_completion *completion) {
  struct job *job = (struct job *)completion->user_data;
  EXPECT_EQ(atomic_fetch_add(&job->completions, 1), 0);
  EXPECT_EQ(atomic_load(&job->state), FLIGHT);
  EXPECT(!(completion->flags & PALURING_COMPLETION_MORE));
  if (!is_possible(job, completion->result)) EXPECT_EQ(completion->result, -ECANCELED);
  job->result = completion->result;
  bool orphaned = job->result == PALURING_ERR_ORPHANED;
  if (job->moved && orphaned) job->buf = NULL;
  EXPECT(!job->moved || orphaned || completion->buf == job->buf);
  if (job->kind == OPEN && job->result >= 0) close(job->result);
  compare(job);
  atomic_fetch_add(&account->delivered, 1);
  if (completion->flags & PALURING_COMPLETION_CANCELLED) atomic_fetch_add(&account->cancelled, 1);
  if (orphaned) atomic_fetch_add(&account->orphaned, 1);
  atomic_store(&job->state, DONE);
}

static void got_callback(uintptr_t user_data, paluring_completion *completion) {
  struct job *job = (struct job *)user_data;
  EXPECT(!completion->buf || completion->buf == job->buf);
  if (job->moved && completion->buf) EXPECT((completion->buf = paluring_completion_take(completion)) == job->buf);
  job_done(job->account, completion);
}

void job_drop(struct soaker *self, struct job *job) {
  uintptr_t user_data = 0;
  if (atomic_load(&job->state) != FLIGHT) return;
  int32_t status = paluring_io_drop(self->account->ring, job->io, &user_data);
  if (status == PALURING_ERR_STALE) return; /* its completion is on its way to job_done, or has been there */
  EXPECT_EQ(status, 0);
  EXPECT(user_data == (uintptr_t)job);
  EXPECT_EQ(atomic_load(&job->completions), 0);
  atomic_fetch_add(&self->account->dropped, 1);
  if (job->moved) job->buf = NULL; /* it was given */
  mark_channel(job, true, true);
  atomic_store(&job->state, ZOMBIE);
}

int jobs_recycle(struct soaker *self) {
  int left = 0;
  for (int i = 0; i < JOBS; i++) {
    struct job *job = &self->jobs[i];
    enum state state = atomic_load(&job->state);
    bool unused = !job->buf || paluring_buf_refs(job->buf) == 1;
    if (state == FREE) continue;
    if (state == FLIGHT || !unused) {
      left++;
      continue;
    }
    if (state == DONE) {
      self->results++;
      if (job->result > 0 && job->kind >= FILE_READ) self->bytes += (uint64_t)job->result;
      if (job->result < 0) self->failures++;
    }
    mark_channel(job, false, state == DONE && job->result == PALURING_ERR_ORPHANED);
    forget(job);
  }
  for (int i = 0; i < CHANNELS; i++) channel_renew(&self->channels[i]);
  return left;
}
