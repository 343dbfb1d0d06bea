/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "report.h"

#include "paluring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#if defined __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

struct machine {
    char cpu[128];
    long cores;
    struct utsname system;
    char date[32];
};

static void look_at(struct machine *machine) {
    memset(machine, 0, sizeof *machine);
    snprintf(machine->cpu, sizeof machine->cpu, "unknown CPU");
    FILE *info = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (info != NULL && fgets(line, sizeof line, info) != NULL) {
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(machine->cpu, sizeof machine->cpu, "%.120s", strchr(line, ':') + 2);
            break;
        }
    }
    if (info != NULL) {
        fclose(info);
    }
    machine->cores = sysconf(_SC_NPROCESSORS_ONLN);
    uname(&machine->system);
    time_t now = time(NULL);
    struct tm tm;
    strftime(machine->date, sizeof machine->date, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &tm));
}

static const char *or_missing(const char *version) {
    return version != NULL ? version : "missing";
}

void report_machine(FILE *out, const struct report *report) {
    struct machine machine;
    look_at(&machine);
    fprintf(out, "%s, %ld cores, %s %s %s, %s, %s, file on %s\n", machine.cpu, machine.cores,
            machine.system.sysname, machine.system.release, machine.system.machine, machine.date,
            COMPILER, filesystem_of(report->fd));
    fprintf(out,
            "libpaluring %s, liburing %s; %u rounds in random order; ns per I/O; "
            "ratio = median of the rounds' ratios to %s\n\n",
            paluring_version(), or_missing(liburing_version), report->rounds, REFERENCE);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct summary summarise(const double *values, uint32_t count) {
    double sorted[MAX_VALUES];
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    double median = sorted[count / 2];
    if (count % 2 == 0) {
        median = (median + sorted[count / 2 - 1]) / 2;
    }
    return (struct summary){sorted[0], median, sorted[count - 1]};
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

static void json_text(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
    fputc('"', out);
}

static void json_field(FILE *out, const char *name, const char *text) {
    fprintf(out, "  \"%s\": ", name);
    json_text(out, text);
    fprintf(out, ",\n");
}

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
    struct machine machine;
    look_at(&machine);
    fprintf(out, "{\n");
    json_field(out, "cpu", machine.cpu);
    json_field(out, "kernel", machine.system.release);
    json_field(out, "arch", machine.system.machine);
    json_field(out, "date", machine.date);
    json_field(out, "compiler", COMPILER);
    json_field(out, "filesystem", filesystem_of(report->fd));
    json_field(out, "paluring", paluring_version());
    json_field(out, "liburing", or_missing(liburing_version));
    fprintf(out, "  \"cores\": %ld,\n  \"rounds\": %u,\n  \"results\": [", machine.cores,
            report->rounds);
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
