/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Measures starts by other threads, wakes and waits beside their peers.
 *
 * All peers of a table take turns in slices of some milliseconds, in random order; a round's figure
 * is the median of its slices, or a quantile of its round trips. Each round opens new rings.
 */
#include "pool.h"
#include "table.h"

#include "paluring.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ONLY = 8, MOST_SAMPLES = 4096 };

struct options {
    uint32_t rounds;
    uint32_t slices; /* in a round */
    bool apart;
    const char *only[MAX_ONLY];
    uint32_t only_count;
    const char *json; /* NULL = bench-threads.json in the folder above the program's */
};

static const char usage[] =
    "usage: bench-threads [--quick] [--rounds N] [--only TEXT]... [--free] [--json FILE]\n"
    "\n"
    "  --quick      3 rounds of 3 slices: a look, no measurement\n"
    "  --rounds N   1 to 101, default 9\n"
    "  --only TEXT  only tables (starts, latency, waits) or rows that contain it; of several, all\n"
    "               must be contained\n"
    "  --free       leave the threads where the scheduler puts them; else the driver has the last\n"
    "               processor for itself, and the producers share the others\n"
    "  --json FILE  default bench-threads.json, in the folder above the program's\n";

static _Noreturn void misused(const char *what) {
    fprintf(stderr, "bench-threads: %s\n%s", what, usage);
    exit(2);
}

/* --- which --- */

static bool wanted(const struct options *options, const struct table *table, const char *row) {
    for (uint32_t i = 0; i < options->only_count; i++) {
        if (strstr(row, options->only[i]) == NULL && strcmp(table->name, options->only[i]) != 0) {
            return false;
        }
    }
    return true;
}

/* Leaves only the rows that --only lets pass. */
static void choose_rows(const struct options *options) {
    uint32_t left = 0;
    for (uint32_t t = 0; t < TABLES; t++) {
        struct table *table = &tables[t];
        uint32_t kept = 0;
        for (uint32_t i = 0; i < table->row_count; i++) {
            if (wanted(options, table, table->rows[i].name)) {
                table->rows[kept++] = table->rows[i];
            }
        }
        table->row_count = kept;
        left += kept;
    }
    if (left == 0) {
        misused("--only leaves nothing");
    }
}

/* --- measuring --- */

/* As many I/Os in a slice as take `ns`: many times what is in flight, and more than it takes to wake
 * the threads. */
static void calibrate(const struct table *table, struct row *row, int fd, double ns) {
    const struct peer *peer = table->peers[table->peer_count - 1];
    struct counts unused = {0};
    static struct sink nothing;
    row->scene.fd = fd;
    row->scene.sink = &nothing;
    if (row->slice == 0) {
        uint64_t count = row->scene.in_flight * 8;
        void *state = peer->open(&row->scene);
        run_slice(peer, state, &row->scene, count);
        double took = run_slice(peer, state, &row->scene, count) / (double)count;
        peer->close(state, &unused);
        row->slice = (uint64_t)(ns / took);
        row->slice = row->slice < count ? count : row->slice;
    }
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

struct turn {
    void *state;
    struct sink sink;
    double values[MOST_SAMPLES];
};

static struct turn turns[MAX_PEERS];

static void run_turn(const struct table *table, struct row *row, uint32_t peer) {
    struct turn *turn = &turns[peer];
    row->scene.sink = &turn->sink;
    double ns = run_slice(table->peers[peer], turn->state, &row->scene, row->slice);
    if (table->parts == 1) {
        put_sample(&turn->sink, ns / (double)row->slice);
    }
}

static void measure_round(const struct table *table, struct row *row, uint32_t round,
                          uint32_t slices, uint64_t *random) {
    uint32_t order[MAX_PEERS];
    uint32_t count = 0;
    for (uint32_t peer = 0; peer < table->peer_count; peer++) {
        if (table->peers[peer]->missing == NULL) {
            order[count++] = peer;
            turns[peer].state = table->peers[peer]->open(&row->scene);
            run_turn(table, row, peer); /* warms up */
            turns[peer].sink = (struct sink){turns[peer].values, 0, MOST_SAMPLES};
        }
    }
    for (uint32_t slice = 0; slice < slices; slice++) {
        shuffle(order, count, random);
        for (uint32_t i = 0; i < count; i++) {
            run_turn(table, row, order[i]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct turn *turn = &turns[order[i]];
        table->peers[order[i]]->close(turn->state, &row->counts[order[i]]);
        for (uint32_t part = 0; part < table->parts; part++) {
            row->ns[order[i]][part][round] =
                quantile(turn->sink.values, turn->sink.count, parts[part]);
        }
        turn->sink = (struct sink){0};
    }
}

static void measure(struct table *table, const struct options *options, int fd, uint64_t *random) {
    for (uint32_t i = 0; i < table->row_count; i++) {
        calibrate(table, &table->rows[i], fd, 5e6);
        for (uint32_t round = 0; round < options->rounds; round++) {
            measure_round(table, &table->rows[i], round, options->slices, random);
        }
        show_row(stderr, table, &table->rows[i], options->rounds);
    }
}

/* --- options --- */

static void parse(struct options *options, int argc, char **argv) {
    *options = (struct options){.rounds = 9, .slices = 11, .apart = true};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        int left = argc - 1 - i;
        if (strcmp(name, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        } else if (strcmp(name, "--quick") == 0) {
            options->rounds = options->slices = 3;
        } else if (strcmp(name, "--free") == 0) {
            options->apart = false;
        } else if (strcmp(name, "--rounds") == 0 && left >= 1) {
            long rounds = strtol(argv[++i], NULL, 10);
            if (rounds < 1 || rounds > MAX_ROUNDS) {
                misused("a number is out of range");
            }
            options->rounds = (uint32_t)rounds;
        } else if (strcmp(name, "--only") == 0 && left >= 1 && options->only_count < MAX_ONLY) {
            options->only[options->only_count++] = argv[++i];
        } else if (strcmp(name, "--json") == 0 && left >= 1) {
            options->json = argv[++i];
        } else {
            misused(name);
        }
    }
}

int main(int argc, char **argv) {
    struct options options;
    parse(&options, argc, argv);
    choose_rows(&options);
    char folder[4096], json[4096 + 32];
    ssize_t len = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (len < 0) {
        die("/proc/self/exe", strerror(errno));
    }
    folder[len] = '\0';
    dirname(folder);
    snprintf(json, sizeof json, "%s/../bench-threads.json", folder);
    int fd = open_file(folder);
    open_pool(options.apart);
    uint64_t random = SEED ^ (uint64_t)time(NULL);
    for (uint32_t t = 0; t < TABLES; t++) {
        measure(&tables[t], &options, fd, &random);
    }
    machine_line(stdout, fd);
    printf("libpaluring %s, liburing %s; medians of %u rounds, ratios are medians of the rounds' "
           "ratios; %s\n", paluring_version(), liburing_version != NULL ? liburing_version : "missing",
           options.rounds, options.apart ? "the driver on a processor of its own" : "threads not pinned");
    for (uint32_t t = 0; t < TABLES; t++) {
        if (tables[t].row_count > 0) {
            show_markdown(stdout, &tables[t], options.rounds);
        }
    }
    write_json(options.json != NULL ? options.json : json, options.rounds, fd);
    return 0;
}
