/* SPDX-License-Identifier: Apache-2.0 */
/* The log file of a container in CRI format: "TIME stdout F LINE". Part of ke-shim. */
#ifndef KE_SHIM_LOG_H
#define KE_SHIM_LOG_H

#include <stddef.h>
#include <stdint.h>

#define SHIM_LOG_LINE 16384 /* longer lines are cut into parts, tagged P, the last F */
#define SHIM_LOG_KEEP 4     /* older files kept: PATH.1 is the newest of them */

struct shim_stream {
    int fd; /* -1: ended */
    const char *name;
    size_t n;
    char buf[SHIM_LOG_LINE];
};

struct shim_log {
    const char *path;
    int64_t max; /* bytes before a new file is begun; 0: never */
    int fd;      /* -1: not open, perhaps because the disk is full */
    int64_t size;
    int64_t retry_at; /* monotonic ms of the next attempt to open it */
    uint64_t lost;    /* lines dropped since it last worked */
    struct shim_stream out, err;
};

void shim_log_init(struct shim_log *l, int out, int err);
/* Takes what the command has written. A log that cannot be written drops lines, never blocks. */
void shim_log_read(struct shim_log *l, struct shim_stream *s);
void shim_log_end(struct shim_log *l); /* writes what has no newline yet */

#endif
