/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What is measured, and who is measured with it.
 *
 * A load says what to do; a contender is one way of doing it. Each contender keeps `depth` I/Os in
 * flight until `count` are done, so that their loops differ in the library's calls only.
 * To add a load: a value of enum work, a line in works[] (load.c), and what it means in each
 * contender's start. To add a contender: a row in a list that bench.c names.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BLOCK = 4096,
    FILE_BLOCKS = 16384, /* 64 MiB; a power of two */
    MAX_DEPTH = 256,
    ENTRIES = 256,    /* the queues of every ring that is measured: */
    CQ_ENTRIES = 512, /* liburing's default, so the caches hold the same */
};

enum work { WORK_NOP, WORK_READ, WORKS };

extern const char *const work_names[WORKS];

struct load {
    enum work work;
    uint32_t depth;
    int fd; /* FILE_BLOCKS blocks in the page cache, for WORK_READ */
};

/* One way of doing it. A contender that is missing has no functions. */
struct contender {
    const char *name;
    const char *missing; /* how to get it, or NULL if it is here */
    void *(*open)(const struct load *load);
    void (*run)(void *state, uint64_t count);
    void (*close)(void *state);
};

extern const struct contender paluring_contenders[];
extern const size_t paluring_contender_count;
extern const struct contender liburing_contenders[];
extern const size_t liburing_contender_count;
extern const char *const liburing_version;

/* The contender that the ratios refer to. */
#define REFERENCE "liburing-tuned"

/* The next offset of a sequence that is the same for each contender. *random starts at SEED. */
#define SEED UINT64_C(0x9e3779b97f4a7c15)
static inline uint64_t next_offset(uint64_t *random) {
    uint64_t x = *random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *random = x;
    return (x >> 20 & (FILE_BLOCKS - 1)) * BLOCK;
}

/* What a completion of this load has to say. */
static inline int32_t expected_result(const struct load *load) {
    return load->work == WORK_READ ? BLOCK : 0;
}

/* Makes the file that is read, in the page cache and without a name; `fallback` is used unless
 * TMPDIR is set. */
int open_file(const char *fallback);

/* The name of the filesystem that fd is on, or its magic number. */
const char *filesystem_of(int fd);

void *must_alloc(size_t count, size_t size);

_Noreturn void die(const char *what, const char *why);

#endif
