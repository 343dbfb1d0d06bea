/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Copies a file with several blocks in flight.
 *
 * Each block has a slot with a buffer, and the slots go round: a read's callback starts the write
 * of what was read, and that one's callback starts the next read. A slot that finds nothing left
 * to read rests; when all of them rest, the file is copied.
 */
#define _GNU_SOURCE 1 /* O_DIRECT, SEEK_DATA */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paluring.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ALIGN 4096u /* of addresses, offsets and lengths with O_DIRECT */
#define MAX_DEPTH 1024
#define MAX_BLOCK (1u << 30)

struct slot {
    struct copy *copy;
    paluring_buf *buf;
    uint64_t offset; /* of the block, in both files */
    size_t len;      /* of the block */
    size_t done;     /* of it, read or written */
};

struct copy {
    unsigned depth;
    size_t block;
    bool direct, flush;
    const char *source, *target;

    paluring_ring *ring;
    struct slot *slots;
    unsigned busy; /* slots that have an I/O in flight */
    int in, out;
    mode_t mode;
    uint64_t size;     /* the source's when it was opened */
    uint64_t next;     /* where the next block begins */
    uint64_t data_end; /* where the data that next is in ends, and a hole begins */
    uint64_t copied;
    bool failed;
    char path[PATH_MAX];         /* the target, if SOURCE goes into a directory */
    char half_written[PATH_MAX]; /* what to remove if the copy fails; "" = nothing */

    bool progress; /* stderr is a terminal */
    double began, shown;
};

static volatile sig_atomic_t interrupted; /* the signal */
static paluring_ring *volatile interrupted_ring;

static void interrupt(int signal_number) {
    interrupted = signal_number;
    paluring_ring_wake(interrupted_ring); /* so that a wait that is about to begin ends too */
}

/* Says why the copy fails, if nobody has yet. Status 0: the text says it all. */
__attribute__((format(printf, 3, 4)))
static bool fail(struct copy *copy, int32_t status, const char *format, ...) {
    if (!copy->failed) {
        va_list arguments;
        va_start(arguments, format);
        fputs(copy->progress ? "\r\033[Kpcp: " : "pcp: ", stderr);
        vfprintf(stderr, format, arguments);
        fprintf(stderr, "%s%s\n", status < 0 ? ": " : "", status < 0 ? paluring_strerror(status) : "");
        va_end(arguments);
    }
    copy->failed = true;
    return false;
}

static uint64_t align_up(uint64_t n) { return (n + ALIGN - 1) & ~(uint64_t)(ALIGN - 1); }
static uint64_t align_down(uint64_t n) { return n & ~(uint64_t)(ALIGN - 1); }

/* ---- progress ---- */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static const char *readable(char text[16], double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned unit = 0;
    for (; bytes >= 1000 && unit < 5; unit++) bytes /= 1024;
    snprintf(text, 16, "%.*f %s", unit > 0 && bytes < 100 ? 1 : 0, bytes, units[unit]);
    return text;
}

static void show_progress(struct copy *copy) {
    static const char full[] = "##############################";
    char done[16], rate[16];
    double time = now(), part = copy->size ? (double)copy->copied / (double)copy->size : 1;
    if (!copy->progress || time - copy->shown < 0.1) return;
    copy->shown = time;
    fprintf(stderr, "\r%3.0f%% [%-30.*s] %s, %s/s\033[K", part * 100, (int)(part * 30), full,
            readable(done, (double)copy->copied), readable(rate, (double)copy->copied / (time - copy->began)));
}

static void show_result(const struct copy *copy) {
    char done[16], rate[16];
    double time = now() - copy->began;
    if (copy->progress)
        fprintf(stderr, "\r%s in %.1f s, %s/s\033[K\n", readable(done, (double)copy->size), time,
                readable(rate, (double)copy->size / time));
}

/* ---- the blocks ---- */

/* Finds the next data, from copy->next on, and leaves out the hole before it. */
static bool next_data(struct copy *copy) {
    off_t data = lseek(copy->in, (off_t)copy->next, SEEK_DATA);
    if (data < 0) data = (off_t)(errno == ENXIO ? copy->size : copy->next); /* a hole to the end; or none are known */
    off_t hole = lseek(copy->in, data, SEEK_HOLE);
    uint64_t start = (uint64_t)data < copy->size ? align_down((uint64_t)data) : copy->size;
    uint64_t end = hole >= 0 && align_up((uint64_t)hole) < copy->size ? align_up((uint64_t)hole) : copy->size;
    copy->copied += start - copy->next;
    copy->next = start;
    copy->data_end = end;
    if (start == end) return false;
    /* Faster than to allocate at each write, and a full disk is found at once. */
    if (fallocate(copy->out, 0, (off_t)start, (off_t)(end - start)) < 0 && errno == ENOSPC)
        return fail(copy, -errno, "error writing '%s'", copy->target);
    return true;
}

static void read_done(uintptr_t user_data, paluring_completion *completion);
static void write_done(uintptr_t user_data, paluring_completion *completion);

/* Starts an operation on a slot. Its buffer is the library's, too, until the callback returns. */
static void start(struct slot *slot, paluring_op *op, paluring_complete_fn callback) {
    op->callback = callback;
    op->user_data = (uintptr_t)slot;
    int32_t status = paluring_io_start(slot->copy->ring, op, NULL);
    if (status < 0) fail(slot->copy, status, "cannot copy '%s'", slot->copy->source);
    else slot->copy->busy++;
}

/* What is left of the block. With O_DIRECT the last block's read ends early, at the end of the
 * file, and its write goes beyond it, which finish() cuts off. */
static size_t left(const struct slot *slot) {
    size_t len = slot->len - slot->done;
    return slot->copy->direct ? align_up(len) : len;
}

static void start_read(struct slot *slot) {
    paluring_op op;
    paluring_op_read(&op, slot->copy->in, slot->buf, slot->done, left(slot), slot->offset + slot->done);
    start(slot, &op, read_done);
}

static void start_write(struct slot *slot) {
    paluring_op op;
    paluring_op_write(&op, slot->copy->out, slot->buf, slot->done, left(slot), slot->offset + slot->done);
    start(slot, &op, write_done);
}

static void start_next_block(struct slot *slot) {
    struct copy *copy = slot->copy;
    if (copy->next == copy->data_end && !next_data(copy)) return;
    uint64_t rest = copy->data_end - copy->next;
    slot->offset = copy->next;
    slot->len = rest < copy->block ? (size_t)rest : copy->block;
    slot->done = 0;
    copy->next += slot->len;
    start_read(slot);
}

/* Counts what an I/O has done, which may be less than it was asked to. False if it has failed. */
static bool count_done(struct slot *slot, int32_t result, bool reading) {
    struct copy *copy = slot->copy;
    copy->busy--;
    if (copy->failed) return false;
    if (result < 0 && reading) return fail(copy, result, "error reading '%s'", copy->source);
    if (result < 0) return fail(copy, result, "error writing '%s'", copy->target);
    size_t done = slot->done + (size_t)result;
    if (done >= slot->len) done = slot->len;
    else if (copy->direct) done = align_down(done);
    if (done == slot->done && reading) return fail(copy, 0, "'%s' has shrunk while it was copied", copy->source);
    if (done == slot->done) return fail(copy, -EIO, "error writing '%s'", copy->target);
    slot->done = done;
    return true;
}

static void read_done(uintptr_t user_data, paluring_completion *completion) {
    struct slot *slot = (struct slot *)user_data;
    if (!count_done(slot, completion->result, true)) return;
    if (slot->done == slot->len) {
        slot->done = 0;
        memset(paluring_buf_data(slot->buf) + slot->len, 0, left(slot) - slot->len);
        start_write(slot);
    } else start_read(slot);
}

static void write_done(uintptr_t user_data, paluring_completion *completion) {
    struct slot *slot = (struct slot *)user_data;
    if (!count_done(slot, completion->result, false)) return;
    if (slot->done == slot->len) {
        slot->copy->copied += slot->len;
        start_next_block(slot);
    } else start_write(slot);
}

/* ---- the copy, step by step ---- */

static bool open_ring(struct copy *copy) {
    int32_t status = paluring_ring_open(NULL, &copy->ring);
    if (status < 0) return fail(copy, status, "cannot use io_uring (%s)", paluring_ring_unavailable_reason());
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = interrupt}, before;
    interrupted_ring = copy->ring;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (sigaction(ends[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(ends[i], &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* so that a write beyond ulimit -f is an error like others */
    return true;
}

/* After the open, which with O_DIRECT would leave an empty file where the file system can't. */
static bool set_direct(struct copy *copy, int fd, const char *path) {
    if (!copy->direct || fcntl(fd, F_SETFL, O_DIRECT) == 0) return true;
    return fail(copy, -errno, "cannot use O_DIRECT on '%s'", path);
}

static bool open_source(struct copy *copy) {
    struct stat st;
    char byte;
    if (stat(copy->source, &st) == 0 && !S_ISREG(st.st_mode)) /* the open of a FIFO would wait */
        return fail(copy, 0, "'%s' is not a regular file", copy->source);
    copy->in = open(copy->source, O_RDONLY | O_CLOEXEC);
    if (copy->in < 0 || fstat(copy->in, &st) < 0) return fail(copy, -errno, "cannot open '%s'", copy->source);
    copy->size = (uint64_t)st.st_size;
    copy->mode = st.st_mode & 0777;
    if (copy->size == 0 && pread(copy->in, &byte, 1, 0) > 0) /* as in /proc */
        return fail(copy, 0, "'%s' has content but no size", copy->source);
    return set_direct(copy, copy->in, copy->source);
}

/* If the target is a directory, the file goes into it. */
static bool name_target(struct copy *copy) {
    struct stat st;
    if (stat(copy->target, &st) < 0 || !S_ISDIR(st.st_mode)) return true;
    const char *slash = strrchr(copy->source, '/'), *name = slash ? slash + 1 : copy->source;
    int len = snprintf(copy->path, sizeof copy->path, "%s/%s", copy->target, name);
    if (len >= PATH_MAX) return fail(copy, -ENAMETOOLONG, "cannot create '%s/%s'", copy->target, name);
    copy->target = copy->path;
    return true;
}

static bool open_target(struct copy *copy) {
    struct stat from, to;
    if (!name_target(copy)) return false;
    bool exists = stat(copy->target, &to) == 0;
    if (exists && !S_ISREG(to.st_mode)) return fail(copy, 0, "'%s' is not a regular file", copy->target);
    copy->out = open(copy->target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (copy->out < 0 || fstat(copy->out, &to) < 0 || fstat(copy->in, &from) < 0)
        return fail(copy, -errno, "cannot create '%s'", copy->target);
    if (from.st_dev == to.st_dev && from.st_ino == to.st_ino)
        return fail(copy, 0, "'%s' and '%s' are the same file", copy->source, copy->target);
    bool direct = set_direct(copy, copy->out, copy->target);
    if ((direct || !exists) && realpath(copy->target, copy->half_written) == NULL) /* the file, not a link to it */
        snprintf(copy->half_written, PATH_MAX, "%s", copy->target);
    if (!direct) return false;
    if (to.st_size > 0 && ftruncate(copy->out, 0) < 0) return fail(copy, -errno, "error writing '%s'", copy->target);
    return true;
}

static bool copy_blocks(struct copy *copy) {
    if (copy->block > align_up(copy->size)) copy->block = align_up(copy->size);
    copy->slots = calloc(copy->depth, sizeof *copy->slots);
    if (copy->slots == NULL) return fail(copy, -errno, "cannot copy '%s'", copy->source);
    for (unsigned i = 0; i < copy->depth && copy->next < copy->size && !copy->failed; i++) {
        struct slot *slot = &copy->slots[i];
        slot->copy = copy;
        int32_t status = paluring_buf_alloc(copy->block, ALIGN, &slot->buf);
        if (status < 0) return fail(copy, status, "cannot copy '%s'", copy->source);
        start_next_block(slot);
    }
    while (copy->busy > 0 && !copy->failed && !interrupted) {
        /* Through the page cache half of them at a time: fewer wake-ups, and the kernel goes on with the rest. */
        uint32_t min = copy->direct ? 1 : (copy->busy + 1) / 2;
        int32_t status = paluring_ring_run(copy->ring, min, copy->progress ? 100000000 : -1);
        if (status < 0) return fail(copy, status, "cannot copy '%s'", copy->source);
        show_progress(copy);
    }
    return !copy->failed && !interrupted;
}

/* Has the file written back. Here a result is waited for, without a callback. */
static bool flush(struct copy *copy) {
    paluring_op op;
    paluring_io io;
    paluring_completion completion;
    copy->shown = 0;
    show_progress(copy);
    if (copy->progress) fputs(", writing back", stderr);
    paluring_op_fsync(&op, copy->out);
    int32_t status = paluring_io_start(copy->ring, &op, &io);
    if (status < 0) return fail(copy, status, "error writing '%s'", copy->target);
    do status = paluring_io_wait(copy->ring, io, -1, &completion);
    while (status == -EINTR && !interrupted);
    if (interrupted) return false;
    if (status >= 0) status = completion.result;
    return status >= 0 || fail(copy, status, "error writing '%s'", copy->target);
}

static bool finish(struct copy *copy) {
    struct stat st;
    if (fstat(copy->in, &st) < 0) return fail(copy, -errno, "error reading '%s'", copy->source);
    if ((uint64_t)st.st_size < copy->size) return fail(copy, 0, "'%s' has shrunk while it was copied", copy->source);
    if (ftruncate(copy->out, (off_t)copy->size) < 0) return fail(copy, -errno, "error writing '%s'", copy->target);
    if (fchmod(copy->out, copy->mode) < 0) return fail(copy, -errno, "cannot set the mode of '%s'", copy->target);
    if (copy->flush && !flush(copy)) return false;
    int out = copy->out;
    copy->out = -1;
    if (close(out) < 0) return fail(copy, -errno, "error writing '%s'", copy->target);
    show_result(copy);
    return true;
}

/* Ends the copy, done or not. The close cancels what is in flight and runs the callbacks, so that
 * nothing uses the slots after it. */
static void clean_up(struct copy *copy, bool done) {
    copy->failed = !done;
    paluring_ring_close(copy->ring, -1);
    if (!done && copy->half_written[0] != '\0') unlink(copy->half_written);
    for (unsigned i = 0; copy->slots != NULL && i < copy->depth; i++) paluring_buf_release(copy->slots[i].buf);
    free(copy->slots);
    interrupted_ring = NULL;
    paluring_ring_release(copy->ring);
    if (copy->in >= 0) close(copy->in);
    if (copy->out >= 0) close(copy->out);
}

/* ---- the command line ---- */

static const char usage[] =
    "Usage: pcp [-q DEPTH] [-b BLOCK] [-d] [-n] SOURCE TARGET\n"
    "Copies a file, with its permissions, to a file or into a directory.\n"
    "  -q DEPTH  blocks in flight, 1 to 1024 (8)\n"
    "  -b BLOCK  bytes of a block, up to 1G; K, M and G are understood (256K)\n"
    "  -d        pass by the page cache (O_DIRECT); BLOCK must be a multiple of 4K\n"
    "  -n        don't wait until the copy is on the disk (no fsync), as cp doesn't\n";

/* A number from 1 to max, perhaps with a suffix; 0 if it is none. */
static uint32_t number(const char *text, uint64_t max) {
    static const char suffixes[] = "KMG";
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    const char *suffix = *end ? strchr(suffixes, *end) : NULL;
    if (text[0] < '0' || text[0] > '9' || n > max || (*end && (suffix == NULL || end[1] != '\0'))) return 0;
    if (suffix != NULL) n <<= 10 * (suffix - suffixes + 1);
    return n <= max ? (uint32_t)n : 0;
}

static bool read_options(struct copy *copy, int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "q:b:dnh")) != -1) {
        switch (option) {
        case 'q': copy->depth = number(optarg, MAX_DEPTH); break;
        case 'b': copy->block = number(optarg, MAX_BLOCK); break;
        case 'd': copy->direct = true; break;
        case 'n': copy->flush = false; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: return false; /* getopt has said why */
        }
    }
    if (copy->depth == 0) return fail(copy, 0, "DEPTH must be a number from 1 to %d", MAX_DEPTH);
    if (copy->block == 0) return fail(copy, 0, "BLOCK must be a number of bytes from 1 to 1G");
    if (copy->direct && copy->block % ALIGN != 0) return fail(copy, 0, "with -d BLOCK must be a multiple of 4K");
    if (argc - optind != 2) return fail(copy, 0, "SOURCE and TARGET are needed; -h shows all");
    copy->source = argv[optind];
    copy->target = argv[optind + 1];
    return true;
}

int main(int argc, char **argv) {
    static struct copy copy = {.depth = 8, .block = 256 * 1024, .flush = true, .in = -1, .out = -1};
    if (!read_options(&copy, argc, argv)) return 1;
    copy.progress = isatty(STDERR_FILENO);
    copy.began = now();
    bool done = open_ring(&copy) && open_source(&copy) && open_target(&copy) && copy_blocks(&copy) && finish(&copy);
    clean_up(&copy, done);
    if (done) return 0;
    if (!interrupted) return 1;
    if (copy.progress) fputs("\r\033[K", stderr);
    return 128 + interrupted;
}
