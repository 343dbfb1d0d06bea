/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "figures.h"

#include "load.h"

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

void machine_line(FILE *out, int fd) {
    struct machine machine;
    look_at(&machine);
    fprintf(out, "%s, %ld cores, %s %s %s, %s, %s, file on %s\n", machine.cpu, machine.cores,
            machine.system.sysname, machine.system.release, machine.system.machine, machine.date,
            COMPILER, filesystem_of(fd));
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

double quantile(double *values, size_t count, double part) {
    qsort(values, count, sizeof *values, compare);
    size_t place = (size_t)(part * (double)count);
    return count == 0 ? 0 : values[place < count ? place : count - 1];
}

/* --- JSON --- */

void json_text(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
    fputc('"', out);
}

void json_field(FILE *out, const char *name, const char *text) {
    fprintf(out, "  \"%s\": ", name);
    json_text(out, text);
    fprintf(out, ",\n");
}

void machine_json(FILE *out, int fd) {
    struct machine machine;
    look_at(&machine);
    json_field(out, "cpu", machine.cpu);
    json_field(out, "kernel", machine.system.release);
    json_field(out, "arch", machine.system.machine);
    json_field(out, "date", machine.date);
    json_field(out, "compiler", COMPILER);
    json_field(out, "filesystem", filesystem_of(fd));
    fprintf(out, "  \"cores\": %ld,\n", machine.cores);
}
