/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What is measured, as tables: a row is a scene, a column a peer.
 */
#ifndef TABLE_H
#define TABLE_H

#include "../figures.h"
#include "threads.h"

enum { MAX_ROWS = 16, MAX_RATIOS = 4, MAX_PARTS = 2, MAX_ROUNDS = 101 };

/* A column of ratios of peers' times, the median of the rounds' ratios. */
struct ratio {
    const char *name;
    uint32_t over, under;
};

struct row {
    const char *name;
    struct scene scene;
    uint64_t slice;  /* I/Os; 0 = to be found by trying */
    uint32_t slices; /* in a round */
    double ns[MAX_PEERS][MAX_PARTS][MAX_ROUNDS];
    struct counts counts[MAX_PEERS];
};

struct table {
    const char *name;
    const char *title;
    const char *unit;
    const struct peer *peers[MAX_PEERS];
    uint32_t peer_count;
    uint32_t parts; /* 1: medians; 2: the 99th percentiles, too */
    struct ratio ratios[MAX_RATIOS];
    uint32_t ratio_count;
    int32_t counted; /* the peer whose wakes and enters are shown; below 0: none's */
    struct row rows[MAX_ROWS];
    uint32_t row_count;
};

enum { TABLES = 3 };
extern struct table tables[TABLES];
extern const double parts[MAX_PARTS];

/* One line for each peer, while it goes on. */
void show_row(FILE *out, const struct table *table, const struct row *row, uint32_t rounds);

/* As a document has it. */
void show_markdown(FILE *out, const struct table *table, uint32_t rounds);

void write_json(const char *path, uint32_t rounds, int fd);

#endif
