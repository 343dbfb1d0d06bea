/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "table.h"

const double parts[MAX_PARTS] = {0.5, 0.99};

#define START(text, what, threads, most) \
    {.name = text, .scene = {.task = what, .producers = threads, .in_flight = most}}
#define TRIPS(text, what, trips) \
    {.name = text, .scene = {.task = what, .producers = 1, .in_flight = 1}, .slice = trips}

struct table tables[TABLES] = {
    {
        .name = "starts",
        .title = "Starts by other threads than the driver's",
        .unit = "ns per I/O",
        .peers = {&liburing_one, &liburing_batches, &start_one, &start_batches},
        .peer_count = 4,
        .parts = 1,
        .ratios = {{"start, × one by one", 0, 2},
                   {"start, × batches", 1, 2},
                   {"start_batch, × batches", 1, 3}},
        .ratio_count = 3,
        .counted = 2,
        .rows = {START("NOP, 1 producer, 1024 in flight", TASK_NOP, 1, 1024),
                 START("NOP, 2 producers, 1024 in flight", TASK_NOP, 2, 1024),
                 START("NOP, 4 producers, 1024 in flight", TASK_NOP, 4, 1024),
                 START("NOP, 8 producers, 1024 in flight", TASK_NOP, 8, 1024),
                 START("NOP, 4 producers, 16 in flight", TASK_NOP, 4, 16),
                 START("eventfd write, 1 producer, 1024 in flight", TASK_WRITE, 1, 1024),
                 START("eventfd write, 2 producers, 1024 in flight", TASK_WRITE, 2, 1024),
                 START("eventfd write, 4 producers, 1024 in flight", TASK_WRITE, 4, 1024),
                 START("eventfd write, 8 producers, 1024 in flight", TASK_WRITE, 8, 1024),
                 START("eventfd write, 4 producers, 16 in flight", TASK_WRITE, 4, 16)},
        .row_count = 10,
    },
    {
        .name = "latency",
        .title = "From a start to its completion on a driver that sleeps",
        .unit = "ns",
        .peers = {&latency_read, &latency_message, &latency_start, &latency_wake},
        .peer_count = 4,
        .parts = 2,
        .ratios = {{"start ÷ eventfd read", 2, 0}, {"start ÷ raw message", 2, 1}},
        .ratio_count = 2,
        .counted = -1,
        .rows = {TRIPS("NOP", TASK_NOP, 25)},
        .row_count = 1,
    },
    {
        .name = "waits",
        .title = "Round trips: start, then paluring_io_wait",
        .unit = "ns",
        .peers = {&wait_pread, &wait_owner, &wait_background},
        .peer_count = 3,
        .parts = 2,
        .ratios = {{"BACKGROUND ÷ pread", 2, 0}, {"OWNER ÷ pread", 1, 0}},
        .ratio_count = 2,
        .counted = -1,
        .rows = {TRIPS("4 KiB read, cached", TASK_READ, 100), TRIPS("NOP", TASK_NOP, 100)},
        .row_count = 2,
    },
};
