/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A ring as a GSource of a GLib main loop: glib [COUNT [SECONDS]]. */
#include "work.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>

struct ring_source {
    GSource source;
    paluring_ring *ring;
    gpointer tag; /* of the descriptor */
};

/* Before each sleep. Of sources with the same priority those that were attached last come last; one whose prepare starts
 * I/Os must come before the ring's, which submits them. TRUE: something has come already, the loop doesn't sleep. A kernel
 * short of memory is asked again. */
static gboolean ring_prepare(GSource *source, gint *timeout) {
    int32_t status = paluring_ring_prepare(((struct ring_source *)source)->ring);
    *timeout = status == -EAGAIN || status == -ENOMEM ? 10 : -1;
    if (status < 0 && *timeout < 0) work_fail("prepare", status);
    return status > 0;
}

static gboolean ring_check(GSource *source) {
    return g_source_query_unix_fd(source, ((struct ring_source *)source)->tag) != 0;
}

/* Callbacks run here. What is beyond the budget leaves the descriptor readable. */
static gboolean ring_dispatch(GSource *source, GSourceFunc callback, gpointer user_data) {
    (void)callback, (void)user_data;
    paluring_ring_process(((struct ring_source *)source)->ring, BUDGET);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs functions = {.prepare = ring_prepare, .check = ring_check, .dispatch = ring_dispatch};

static GSource *ring_source_new(paluring_ring *ring, int ring_fd) {
    GSource *source = g_source_new(&functions, sizeof(struct ring_source));
    struct ring_source *own = (struct ring_source *)source;
    own->ring = ring;
    own->tag = g_source_add_unix_fd(source, ring_fd, G_IO_IN);
    return source;
}

static gboolean on_signal(gpointer user_data) {
    (void)user_data;
    work_stop();
    return G_SOURCE_CONTINUE;
}

static void finished(void *loop) { g_main_loop_quit(loop); }

int main(int argc, char **argv) {
    struct work work = {.host = "glib", .serve = work_serve, .finished = finished};
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    int ring_fd;

    (void)argc;
    work.arguments = argv + 1;
    work.loop = loop;
    int32_t status = paluring_ring_open(NULL, &work.ring);
    if (status == 0) status = paluring_ring_event_fd(work.ring, &ring_fd);
    if (status < 0) return fprintf(stderr, "glib: %s\n", paluring_strerror(status)), 1;
    g_unix_signal_add(SIGINT, on_signal, NULL);
    g_unix_signal_add(SIGTERM, on_signal, NULL);
    GSource *source = ring_source_new(work.ring, ring_fd);
    g_source_attach(source, NULL);

    if (!work_begin(&work)) return 1;
    g_main_loop_run(loop);
    g_source_destroy(source); /* before the ring's close, which closes the descriptor */
    g_source_unref(source);
    g_main_loop_unref(loop);
    paluring_ring_close(work.ring, -1);
    paluring_ring_release(work.ring);
    return work_end(&work);
}
