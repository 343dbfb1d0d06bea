/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "table.h"

#include "paluring.h"

#include <errno.h>
#include <string.h>

static const char *const part_names[MAX_PARTS] = {"median", "99 %"};

static bool is_here(const struct table *table, uint32_t peer) {
    return table->peers[peer]->missing == NULL;
}

static double ratio_of(const struct row *row, const struct ratio *ratio, uint32_t part,
                       uint32_t rounds) {
    double ratios[MAX_ROUNDS];
    for (uint32_t i = 0; i < rounds; i++) {
        ratios[i] = row->ns[ratio->over][part][i] / row->ns[ratio->under][part][i];
    }
    return summarise(ratios, rounds).median;
}

static double per_io(uint64_t count, const struct counts *counts) {
    return counts->ios == 0 ? 0 : (double)count / (double)counts->ios;
}

void show_row(FILE *out, const struct table *table, const struct row *row, uint32_t rounds) {
    fprintf(out, "%s\n", row->name);
    for (uint32_t peer = 0; peer < table->peer_count; peer++) {
        if (!is_here(table, peer)) {
            fprintf(out, "  %-22s %s\n", table->peers[peer]->name, table->peers[peer]->missing);
            continue;
        }
        for (uint32_t part = 0; part < table->parts; part++) {
            struct summary ns = summarise(row->ns[peer][part], rounds);
            fprintf(out, "  %-22s %-6s %9.0f %9.0f %9.0f", table->peers[peer]->name,
                    part_names[part], ns.min, ns.median, ns.max);
            const struct counts *counts = &row->counts[peer];
            if (part == 0 && counts->ios > 0) {
                fprintf(out, "   %.4f wakes, %.4f enters per I/O", per_io(counts->wakes, counts),
                        per_io(counts->enters, counts));
            }
            fputc('\n', out);
        }
    }
    fflush(out);
}

/* --- markdown --- */

static void show_head(FILE *out, const struct table *table) {
    fprintf(out, "\n**%s**, %s:\n\n|", table->title, table->unit);
    uint32_t columns = table->peer_count + table->ratio_count + 1;
    fprintf(out, " |");
    for (uint32_t peer = 0; peer < table->peer_count; peer++) {
        fprintf(out, " %s |", table->peers[peer]->name);
    }
    for (uint32_t i = 0; i < table->ratio_count; i++) {
        fprintf(out, " %s |", table->ratios[i].name);
    }
    if (table->counted >= 0) {
        fprintf(out, " wakes per I/O | enters per I/O |");
        columns += 2;
    }
    fprintf(out, "\n|");
    for (uint32_t i = 0; i < columns; i++) {
        fprintf(out, "---|");
    }
    fputc('\n', out);
}

static void show_line(FILE *out, const struct table *table, const struct row *row, uint32_t part,
                      uint32_t rounds) {
    fprintf(out, "| %s%s%s |", row->name, table->parts > 1 ? ", " : "",
            table->parts > 1 ? part_names[part] : "");
    for (uint32_t peer = 0; peer < table->peer_count; peer++) {
        if (is_here(table, peer)) {
            fprintf(out, " %.0f |", summarise(row->ns[peer][part], rounds).median);
        } else {
            fprintf(out, " - |");
        }
    }
    for (uint32_t i = 0; i < table->ratio_count; i++) {
        const struct ratio *ratio = &table->ratios[i];
        if (is_here(table, ratio->over) && is_here(table, ratio->under)) {
            fprintf(out, " %.2f |", ratio_of(row, ratio, part, rounds));
        } else {
            fprintf(out, " - |");
        }
    }
    if (table->counted >= 0) {
        const struct counts *counts = &row->counts[table->counted];
        fprintf(out, " %.4f | %.4f |", per_io(counts->wakes, counts),
                per_io(counts->enters, counts));
    }
    fputc('\n', out);
}

void show_markdown(FILE *out, const struct table *table, uint32_t rounds) {
    show_head(out, table);
    for (uint32_t i = 0; i < table->row_count; i++) {
        for (uint32_t part = 0; part < table->parts; part++) {
            show_line(out, table, &table->rows[i], part, rounds);
        }
    }
    fflush(out);
}

/* --- JSON --- */

static void write_result(FILE *out, const struct table *table, const struct row *row, uint32_t peer,
                         uint32_t rounds) {
    const struct counts *counts = &row->counts[peer];
    fprintf(out, "    {\"table\": \"%s\", \"row\": \"%s\", \"peer\": ", table->name, row->name);
    json_text(out, table->peers[peer]->name);
    fprintf(out, ",\n     \"ios\": %llu, \"wakes\": %llu, \"enters\": %llu",
            (unsigned long long)counts->ios, (unsigned long long)counts->wakes,
            (unsigned long long)counts->enters);
    for (uint32_t part = 0; part < table->parts; part++) {
        fprintf(out, ",\n     \"%s\": [", part_names[part]);
        for (uint32_t i = 0; i < rounds; i++) {
            fprintf(out, "%s%.1f", i == 0 ? "" : ", ", row->ns[peer][part][i]);
        }
        fputc(']', out);
    }
    fputc('}', out);
}

void write_json(const char *path, uint32_t rounds, int fd) {
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        die(path, strerror(errno));
    }
    fprintf(out, "{\n");
    machine_json(out, fd);
    json_field(out, "paluring", paluring_version());
    json_field(out, "liburing", liburing_version != NULL ? liburing_version : "missing");
    fprintf(out, "  \"rounds\": %u,\n  \"results\": [", rounds);
    const char *separator = "\n";
    for (uint32_t t = 0; t < TABLES; t++) {
        const struct table *table = &tables[t];
        for (uint32_t i = 0; i < table->row_count; i++) {
            for (uint32_t peer = 0; peer < table->peer_count; peer++) {
                if (is_here(table, peer)) {
                    fprintf(out, "%s", separator);
                    write_result(out, table, &table->rows[i], peer, rounds);
                    separator = ",\n";
                }
            }
        }
    }
    fprintf(out, "\n  ]\n}\n");
    if (fclose(out) != 0) {
        die(path, strerror(errno));
    }
}
