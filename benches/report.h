/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Results: samples of cells, and how they are shown.
 */
#ifndef REPORT_H
#define REPORT_H

#include "figures.h"
#include "load.h"

enum { MAX_CONTENDERS = 16, MAX_ROUNDS = 101 };

/* One load, measured with each contender in each round. */
struct cell {
    struct load load;
    uint64_t slice;                        /* I/Os in a slice of a sample */
    uint32_t slices;                       /* in a sample */
    double ns[MAX_CONTENDERS][MAX_ROUNDS]; /* per I/O */
};

struct report {
    const struct contender *contenders[MAX_CONTENDERS];
    uint32_t contender_count;
    int reference; /* index among the contenders; below 0 if it isn't measured */
    uint32_t rounds;
    int fd; /* the file that is read */
    struct cell *cells;
    size_t cell_count;
};

void report_machine(FILE *out, const struct report *report);
void report_head(FILE *out);
void report_cell(FILE *out, const struct report *report, const struct cell *cell);

/* Writes everything, single samples included, as JSON. */
void report_json(const char *path, const struct report *report);

#endif
