/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The soak: threads that do random things on rings of each mode, and know what must come of them.
 *
 *   soak.c      rounds, and what must be as before when all is over
 *   soaker.c    a thread: its ring, and random steps
 *   job.c       an I/O from its start to its end, with its data compared
 *   channel.c   pipes and socket pairs, as streams of a known pattern
 */
#ifndef PALURING_SOAK_H
#define PALURING_SOAK_H

#include "../scene.h"

#include <sys/socket.h>

enum { JOBS = 48, CHANNELS = 6, MOST_BYTES = 4096, FILE_BYTES = 1 << 20, SHARED_SEED = 1 };

/* ---- channels: one read and one write at a time, by the I/Os of one thread ---- */

struct channel {
  int read, write;
  uint64_t read_at, written_to; /* in the stream of pattern(id) */
  unsigned id;
  bool reading, writing;
  bool broken; /* nobody knows how much a dropped or orphaned I/O has moved */
};

void channel_open(struct channel *channel, unsigned id, bool socket);
void channel_close(struct channel *channel);
void channel_renew(struct channel *channel);

/* ---- jobs ---- */

enum kind { NOP, TIMER, POLL, OPEN, FILE_READ, FILE_WRITE, CHANNEL_READ, CHANNEL_WRITE, KINDS };
enum taker { CALLBACK, KEPT, QUEUED, DETACHED, TAKERS };
enum state {
  FREE,
  FLIGHT,
  DONE,   /* by whoever got the completion; the rest is the owning thread's */
  ZOMBIE, /* dropped, detached or orphaned: free when nobody else has its buffer */
};

struct job {
  _Atomic enum state state;
  atomic_int completions;
  struct account *account;
  enum kind kind;
  enum taker taker;
  paluring_io io;
  paluring_buf *buf;
  bool moved;
  struct channel *channel;
  size_t len;
  uint64_t at;
  unsigned seed;
  int fd;
  int32_t result;
};

/* What all threads have done on a ring; compared with its statistics. */
struct account {
  paluring_ring *ring;
  uint32_t mode;
  atomic_ullong started, delivered, dropped, detached, cancelled, orphaned;
};

struct soaker {
  pthread_t thread;
  unsigned id;
  uint64_t random;
  struct account *account;
  struct account own; /* of an OWNER ring */
  struct job jobs[JOBS];
  struct channel channels[CHANNELS];
  int shared_file, own_file;
  uint64_t starts[KINDS], results, failures, bytes;
};

/* Starts a random job if there is room for it. */
void job_start(struct soaker *self);
/* A completion has come, by callback, poll, wait or reap. */
void job_done(struct account *account, paluring_completion *completion);
/* Drops it, if nobody has its completion yet. */
void job_drop(struct soaker *self, struct job *job);
/* Makes finished jobs free; how many are not. */
int jobs_recycle(struct soaker *self);

/* ---- threads ---- */

uint64_t random_of(struct soaker *self, uint64_t below);
struct account account_open(uint32_t mode, uint64_t random);
/* Closes the ring, takes what is left, and compares the statistics. */
void account_close(struct account *account, struct soaker *soakers, int count, int64_t limit);
void *soak(void *soaker);

extern atomic_bool soak_stop;
extern atomic_ullong soak_orphans; /* of all rings */

#endif
