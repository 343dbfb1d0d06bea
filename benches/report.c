/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "report.h"

#include "paluring.h"

#include <errno.h>
#include <string.h>

static const char *or_missing(const char *version) {
    return version != NULL ? version : "missing";
}

void report_machine(FILE *out, const struct report *report) {
    machine_line(out, report->fd);
    fprintf(out,
            "libpaluring %s, liburing %s; %u rounds in random order; ns per I/O; "
            "ratio = median of the rounds' ratios to %s\n\n",
            paluring_version(), or_missing(liburing_version), report->rounds, REFERENCE);
}

/* The ratios of a contender's samples to the reference's in the same round; false if there is no
 * reference. */
static bool ratio(const struct report *report, const struct cell *cell, uint32_t contender,
                  struct summary *out) {
    if (report->reference < 0) {
        return false;
    }
    double ratios[MAX_ROUNDS];
    for (uint32_t i = 0; i < report->rounds; i++) {
        ratios[i] = cell->ns[contender][i] / cell->ns[report->reference][i];
    }
    *out = summarise(ratios, report->rounds);
    return true;
}

void report_head(FILE *out) {
    fprintf(out, "%-6s %5s  %-16s %8s %8s %8s  %6s\n", "work", "depth", "variant", "min", "median",
            "max", "ratio");
}

void report_cell(FILE *out, const struct report *report, const struct cell *cell) {
    for (uint32_t i = 0; i < report->contender_count; i++) {
        const struct contender *contender = report->contenders[i];
        fprintf(out, "%-6s %5u  %-16s ", work_names[cell->load.work], cell->load.depth,
                contender->name);
        if (contender->missing != NULL) {
            fprintf(out, "%s\n", contender->missing);
            continue;
        }
        struct summary ns = summarise(cell->ns[i], report->rounds);
        fprintf(out, "%8.1f %8.1f %8.1f  ", ns.min, ns.median, ns.max);
        struct summary ratios;
        if (ratio(report, cell, i, &ratios)) {
            fprintf(out, "%6.3f\n", ratios.median);
        } else {
            fprintf(out, "%6s\n", "-");
        }
    }
    fprintf(out, "\n");
    fflush(out);
}

/* --- JSON --- */

static void json_result(FILE *out, const struct report *report, const struct cell *cell,
                        uint32_t contender) {
    struct summary ns = summarise(cell->ns[contender], report->rounds);
    fprintf(out, "    {\"work\": \"%s\", \"depth\": %u, \"variant\": \"%s\", \"count\": %llu,\n",
            work_names[cell->load.work], cell->load.depth, report->contenders[contender]->name,
            (unsigned long long)cell->slice * cell->slices);
    fprintf(out, "     \"min_ns\": %.2f, \"median_ns\": %.2f, \"max_ns\": %.2f, \"ratio\": ", ns.min,
            ns.median, ns.max);
    struct summary ratios;
    if (ratio(report, cell, contender, &ratios)) {
        fprintf(out, "%.4f", ratios.median);
    } else {
        fprintf(out, "null");
    }
    fprintf(out, ",\n     \"ns\": [");
    for (uint32_t i = 0; i < report->rounds; i++) {
        fprintf(out, "%s%.2f", i == 0 ? "" : ", ", cell->ns[contender][i]);
    }
    fprintf(out, "]}");
}

void report_json(const char *path, const struct report *report) {
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        die(path, strerror(errno));
    }
    fprintf(out, "{\n");
    machine_json(out, report->fd);
    json_field(out, "paluring", paluring_version());
    json_field(out, "liburing", or_missing(liburing_version));
    fprintf(out, "  \"rounds\": %u,\n  \"results\": [", report->rounds);
    const char *separator = "\n";
    for (size_t c = 0; c < report->cell_count; c++) {
        for (uint32_t i = 0; i < report->contender_count; i++) {
            if (report->contenders[i]->missing == NULL) {
                fprintf(out, "%s", separator);
                json_result(out, report, &report->cells[c], i);
                separator = ",\n";
            }
        }
    }
    fprintf(out, "\n  ]\n}\n");
    if (fclose(out) != 0) {
        die(path, strerror(errno));
    }
}
