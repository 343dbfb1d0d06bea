/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

const char *const work_names[WORKS] = {"nop", "read"};

_Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

void *must_alloc(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) {
        die("memory", strerror(ENOMEM));
    }
    return memory;
}

int open_file(const char *fallback) {
    const char *dir = getenv("TMPDIR");
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/paluring-bench-XXXXXX",
                       dir != NULL && dir[0] != '\0' ? dir : fallback);
    if (len < 0 || (size_t)len >= sizeof path) {
        die("TMPDIR", strerror(ENAMETOOLONG));
    }
    int fd = mkstemp(path);
    if (fd < 0) {
        die(path, strerror(errno));
    }
    unlink(path);
    unsigned char block[BLOCK];
    for (uint32_t i = 0; i < FILE_BLOCKS; i++) {
        memset(block, (int)(i & 0xff), sizeof block);
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block) {
            die(path, strerror(errno));
        }
    }
    fsync(fd); /* now, so that no writeback disturbs later */
    return fd;
}

const char *filesystem_of(int fd) {
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {
        {0xef53, "ext4"},       {0x58465342, "xfs"},      {0x9123683e, "btrfs"},
        {0x01021994, "tmpfs"},  {0x794c7630, "overlayfs"}, {0xf2f52010, "f2fs"},
        {0x2fc12fc1, "zfs"},
    };
    static char number[32];
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0) {
        return strerror(errno);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if ((unsigned long)fs.f_type == known[i].magic) {
            return known[i].name;
        }
    }
    snprintf(number, sizeof number, "filesystem %#lx", (unsigned long)fs.f_type);
    return number;
}
