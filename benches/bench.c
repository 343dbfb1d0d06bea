/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Measures this library beside its peers: ns per NOP and per 4 KiB read from the page cache.
 *
 * All contenders take turns several times in a millisecond, in random order, and a sample is the
 * median of its slices: other programs on the machine hardly show. Each round opens new rings, so
 * that no lucky memory layout stays.
 */
#include "load.h"
#include "report.h"

#include <errno.h>
#include <libgen.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const uint32_t depths[] = {1, 16, 64, 256};
enum {
    DEPTHS = sizeof depths / sizeof depths[0],
    MAX_ONLY = 16,
    MOST_SLICES = 120, /* of each sample */
};

struct options {
    uint32_t rounds;
    double seconds; /* per sample */
    const char *only[MAX_ONLY];
    uint32_t only_count;
    const char *json; /* NULL = bench.json in the folder above the program's */
    enum work work;   /* for --count */
    const char *count_variant;
    uint32_t count_depth;
    uint64_t count;
};

static const char usage[] =
    "usage: bench [--quick] [--rounds N] [--only NAME]... [--json FILE]\n"
    "       bench --count VARIANT DEPTH N [--work WORK]\n"
    "\n"
    "  --quick      3 rounds of 5 ms: a look, no measurement\n"
    "  --rounds N   1 to 101, default 9\n"
    "  --only NAME  only this work (nop, read), depth (16) or variant (callback, batch, poll,\n"
    "               reap, liburing-0, liburing-tuned); several may be named\n"
    "  --json FILE  default bench.json, in the folder above the program's\n"
    "  --count      run N I/Os once, without a clock, for callgrind (instructions.py)\n";

static _Noreturn void misused(const char *what) {
    fprintf(stderr, "bench: %s\n%s", what, usage);
    exit(2);
}

/* --- which --- */

static bool names_a_work(const char *name) {
    for (uint32_t i = 0; i < WORKS; i++) {
        if (strcmp(name, work_names[i]) == 0) {
            return true;
        }
    }
    return false;
}

enum kind { KIND_WORK, KIND_DEPTH, KIND_VARIANT };

static enum kind kind_of(const char *name) {
    if (names_a_work(name)) {
        return KIND_WORK;
    }
    return strspn(name, "0123456789") == strlen(name) ? KIND_DEPTH : KIND_VARIANT;
}

/* Whether --only lets a work, depth or variant pass: it is named, or none of its kind is. */
static bool wanted(const struct options *options, enum kind kind, const char *name) {
    bool restricted = false;
    for (uint32_t i = 0; i < options->only_count; i++) {
        if (kind_of(options->only[i]) == kind) {
            restricted = true;
            if (strcmp(options->only[i], name) == 0) {
                return true;
            }
        }
    }
    return !restricted;
}

static void add_contenders(struct report *report, const struct options *options,
                           const struct contender *list, size_t count) {
    for (size_t i = 0; i < count && report->contender_count < MAX_CONTENDERS; i++) {
        if (!wanted(options, KIND_VARIANT, list[i].name)) {
            continue;
        }
        if (strcmp(list[i].name, REFERENCE) == 0 && list[i].missing == NULL) {
            report->reference = (int)report->contender_count;
        }
        report->contenders[report->contender_count++] = &list[i];
    }
}

static void choose_contenders(struct report *report, const struct options *options) {
    report->reference = -1;
    add_contenders(report, options, liburing_contenders, liburing_contender_count);
    add_contenders(report, options, paluring_contenders, paluring_contender_count);
    if (report->contender_count == 0) {
        misused("--only names no variant");
    }
}

static void choose_cells(struct report *report, const struct options *options) {
    report->cells = must_alloc((size_t)WORKS * DEPTHS, sizeof *report->cells);
    for (uint32_t work = 0; work < WORKS; work++) {
        for (uint32_t i = 0; i < DEPTHS; i++) {
            char depth[16];
            snprintf(depth, sizeof depth, "%u", depths[i]);
            if (wanted(options, KIND_WORK, work_names[work]) &&
                wanted(options, KIND_DEPTH, depth)) {
                struct cell *cell = &report->cells[report->cell_count++];
                cell->load = (struct load){(enum work)work, depths[i], report->fd};
            }
        }
    }
    if (report->cell_count == 0) {
        misused("--only names no depth that is measured");
    }
}

/* --- measuring --- */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double timed_run(const struct contender *contender, void *state, uint64_t count) {
    double begin = now();
    contender->run(state, count);
    return now() - begin;
}

/* The median of a few short runs, in ns per I/O. */
static double estimate(const struct contender *contender, const struct load *load) {
    enum { RUNS = 9, COUNT = 1024 };
    double ns[RUNS];
    void *state = contender->open(load);
    for (uint32_t i = 0; i < RUNS; i++) {
        ns[i] = timed_run(contender, state, COUNT) / COUNT;
    }
    contender->close(state);
    return summarise(ns, RUNS).median;
}

/* How many I/Os make a slice, and how many slices a sample. A slice is well below the time that a
 * scheduler gives a busy thread at once: else the slower of two contenders would be interrupted in
 * more of its slices, and look slower than it is. */
static void calibrate(const struct report *report, struct cell *cell, double seconds) {
    uint32_t i = 0;
    while (i < report->contender_count && report->contenders[i]->missing != NULL) {
        i++;
    }
    if (i == report->contender_count) {
        die(report->contenders[0]->name, report->contenders[0]->missing);
    }
    double ios = seconds * 1e9 / estimate(report->contenders[i], &cell->load);
    uint64_t depth = cell->load.depth;
    uint64_t turns = (uint64_t)(ios / MOST_SLICES) / depth;
    cell->slice = (turns < 2 ? 2 : turns) * depth;
    double slices = ios / (double)cell->slice;
    cell->slices = slices > MOST_SLICES ? MOST_SLICES : slices < 5 ? 5 : (uint32_t)slices;
}

static void shuffle(uint32_t *order, uint32_t count, uint64_t *random) {
    for (uint32_t i = count; i > 1; i--) {
        next_offset(random);
        uint32_t j = (uint32_t)(*random >> 33) % i;
        uint32_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}

/* One sample of each contender, on a new ring: the median of its slices, which come in turn. */
static void measure_round(const struct report *report, struct cell *cell, uint32_t round,
                          uint64_t *random) {
    uint32_t order[MAX_CONTENDERS];
    void *states[MAX_CONTENDERS];
    double ns[MAX_CONTENDERS][MOST_SLICES];
    uint32_t count = 0;
    for (uint32_t i = 0; i < report->contender_count; i++) {
        if (report->contenders[i]->missing == NULL) {
            order[count++] = i;
            states[i] = report->contenders[i]->open(&cell->load);
            report->contenders[i]->run(states[i], cell->slice * 4);
        }
    }
    for (uint32_t s = 0; s < cell->slices; s++) {
        shuffle(order, count, random);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t c = order[i];
            ns[c][s] = timed_run(report->contenders[c], states[c], cell->slice) /
                       (double)cell->slice;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t c = order[i];
        report->contenders[c]->close(states[c]);
        cell->ns[c][round] = summarise(ns[c], cell->slices).median;
    }
}

static void measure(const struct report *report, struct cell *cell, double seconds,
                    uint64_t *random) {
    calibrate(report, cell, seconds);
    for (uint32_t round = 0; round < report->rounds; round++) {
        measure_round(report, cell, round, random);
    }
}

/* Moving between processors would be noise. The last one allowed gets fewer interrupts than the
 * first. */
static void stay_on_one_cpu(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return;
    }
    for (size_t cpu = CPU_SETSIZE; cpu-- > 0;) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_ZERO(&allowed);
            CPU_SET(cpu, &allowed);
            sched_setaffinity(0, sizeof allowed, &allowed);
            return;
        }
    }
}

/* --- counting instructions --- */

/* What callgrind counts: nothing outside of it. */
__attribute__((noinline)) static void counted(const struct contender *contender, void *state,
                                              uint64_t count) {
    contender->run(state, count);
    __asm__ volatile("" ::: "memory"); /* no tail call, or the function would have ended */
}

static void count_instructions(const struct options *options, int fd) {
    struct report report = {0};
    struct options only = {.only = {options->count_variant}, .only_count = 1};
    choose_contenders(&report, &only);
    const struct contender *contender = report.contenders[0];
    if (contender->missing != NULL) {
        die(contender->name, contender->missing);
    }
    struct load load = {options->work, options->count_depth, fd};
    void *state = contender->open(&load);
    contender->run(state, options->count_depth); /* binds symbols and the ring */
    counted(contender, state, options->count);
    contender->close(state);
}

/* --- options --- */

static uint64_t number(const char *text, uint64_t min, uint64_t max) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max) {
        misused("a number is out of range");
    }
    return value;
}

static enum work work_named(const char *name) {
    for (uint32_t i = 0; i < WORKS; i++) {
        if (strcmp(name, work_names[i]) == 0) {
            return (enum work)i;
        }
    }
    misused("no such work");
}

static void parse(struct options *options, int argc, char **argv) {
    *options = (struct options){.rounds = 9, .seconds = 0.03};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        int left = argc - 1 - i;
        if (strcmp(name, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        } else if (strcmp(name, "--quick") == 0) {
            options->rounds = 3;
            options->seconds = 0.005;
        } else if (strcmp(name, "--rounds") == 0 && left >= 1) {
            options->rounds = (uint32_t)number(argv[++i], 1, MAX_ROUNDS);
        } else if (strcmp(name, "--only") == 0 && left >= 1 && options->only_count < MAX_ONLY) {
            options->only[options->only_count++] = argv[++i];
        } else if (strcmp(name, "--json") == 0 && left >= 1) {
            options->json = argv[++i];
        } else if (strcmp(name, "--work") == 0 && left >= 1) {
            options->work = work_named(argv[++i]);
        } else if (strcmp(name, "--count") == 0 && left >= 3) {
            options->count_variant = argv[++i];
            options->count_depth = (uint32_t)number(argv[++i], 1, MAX_DEPTH);
            options->count = number(argv[++i], 1, UINT32_MAX);
        } else {
            misused(name);
        }
    }
}

/* The folder that the program is in. */
static void own_folder(char *path, size_t size) {
    ssize_t len = readlink("/proc/self/exe", path, size - 1);
    if (len < 0) {
        die("/proc/self/exe", strerror(errno));
    }
    path[len] = '\0';
    dirname(path);
}

int main(int argc, char **argv) {
    struct options options;
    parse(&options, argc, argv);
    char folder[4096];
    own_folder(folder, sizeof folder);
    if (options.count_variant != NULL) {
        count_instructions(&options, options.work == WORK_READ ? open_file(folder) : -1);
        return 0;
    }
    struct report report = {.rounds = options.rounds, .fd = open_file(folder)};
    choose_contenders(&report, &options);
    choose_cells(&report, &options);
    stay_on_one_cpu();
    report_machine(stdout, &report);
    report_head(stdout);
    uint64_t random = SEED ^ (uint64_t)time(NULL);
    for (size_t i = 0; i < report.cell_count; i++) {
        measure(&report, &report.cells[i], options.seconds, &random);
        report_cell(stdout, &report, &report.cells[i]);
    }
    char json[4096 + 16];
    snprintf(json, sizeof json, "%s/../bench.json", folder);
    report_json(options.json != NULL ? options.json : json, &report);
    return 0;
}
