/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What every program here reports with: the machine, medians, JSON.
 */
#ifndef FIGURES_H
#define FIGURES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { MAX_VALUES = 128 };

struct summary {
    double min, median, max;
};
struct summary summarise(const double *values, uint32_t count); /* at most MAX_VALUES */

/* Sorts. Of 0.5 the median. */
double quantile(double *values, size_t count, double part);

/* The machine, the date, and the filesystem that fd is on. */
void machine_line(FILE *out, int fd);
void machine_json(FILE *out, int fd);

void json_text(FILE *out, const char *text);
void json_field(FILE *out, const char *name, const char *text); /* in an object, and a comma */

#endif
