/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The work that each host here has its ring do, and the proof that it was all done: nothing in it
 * knows which loop the ring lives in.
 *
 * A file is copied and an echo service is served, both by I/Os that the loop's own thread starts,
 * while other threads start I/Os of theirs: reads, timeouts, cancels, posted functions. First all of
 * that goes on at once, then for most of the completions one thing at a time: whoever waits for it
 * is the only one who could stir the loop, so a wake-up that is lost stays lost. A watchdog then says
 * what stood still, and the program fails.
 */
#ifndef WORK_H
#define WORK_H

#include <paluring.h>
#include <stdbool.h>

/* Callbacks in one turn of the loop: so that its other sources get theirs, too. */
#define BUDGET 32

enum source { COPY, ECHO, FOREIGN, CLOSE, SOURCES };

struct work {
    const char *host;       /* for messages */
    char *const *arguments; /* [COUNT [SECONDS]] NULL: completions, and how long nothing may happen */
    paluring_ring *ring;
    void (*serve)(struct work *work); /* begins copy and echo: work_serve, or the host's own */
    void (*finished)(void *loop);     /* called once, on the ring's driver: the loop shall end */
    void *loop;

    /* Set by work_begin. */
    int listener;
    int in, out; /* the copy's files */
    uint64_t size;
    int running; /* connections that the service has open */
};

/* Begins it all: on the loop's thread, before the loop runs. */
bool work_begin(struct work *work);

/* Ends it before its time, well. Signal handlers may call it. */
void work_stop(void);
bool work_is_stopped(void);

/* After the ring's close: compares, says how it went, and gives the program's exit status. */
int work_end(struct work *work);

/* For those who do a part of it: a completion has come; a part is done; something is wrong (status 0: the text says it). */
void work_count(enum source source);
void work_done(enum source source);
void work_fail(const char *what, int32_t status);

void work_serve(struct work *work);

#endif
