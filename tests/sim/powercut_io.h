/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system in memory behind struct ke_io that records every change and can say what a disk
 * may hold after the power went at any moment. Owner: the test; images are objects of their own.
 * Threads: all calls are serialised inside, so the disk worker may use the table meanwhile.
 *
 *     struct powercut *p = powercut_new();
 *     config.io = powercut_io(p);                  run the code under test, note powercut_pos()
 *     ...                                          whenever it acknowledges something
 *     struct powercut *d = powercut_image(p, pos, seed);
 *     config.io = powercut_io(d);                  start again on the image, check, powercut_free
 *
 * The model, stricter than most file systems:
 *  - a file's bytes are sure up to its last sync. Of each later write any subset of its 512-byte
 *    sectors may be there, in any order; later truncates may or may not have happened; the length
 *    may have grown without the data, and what lies between is zeros or junk;
 *  - a name (create, rename, unlink, mkdir, rmdir, symlink) is sure after sync_dir of its folder.
 *    Later ones may or may not be there, each by itself; a rename inside one folder is atomic. A
 *    synced file whose name is not sure may be gone;
 *  - a sector holds its old or its new bytes, never a mixture.
 * Build: add powercut_io.c and powercut_tree.c of this folder to the test's sources.
 * The root "/" exists. Paths are absolute or relative to it; symbolic links are followed.
 */
#ifndef TESTS_SIM_POWERCUT_IO_H
#define TESTS_SIM_POWERCUT_IO_H

#include <stdbool.h>

#include <kubeedge/err.h>
#include <kubeedge/sys/io.h>

struct powercut;

struct powercut *powercut_new(void);
void powercut_free(struct powercut *p); /* NULL is fine; all its files must be closed */
const struct ke_io *powercut_io(struct powercut *p);

/* How many changes were recorded: the moment now. 0 is the empty (or given) disk. */
size_t powercut_pos(struct powercut *p);
/*
 * What the disk may hold when the power went after the first pos changes. The same seed gives the
 * same image. Seeds 0 and 1 (mod 16) are the two ends: nothing unsynced is there, everything is.
 */
struct powercut *powercut_image(struct powercut *p, size_t pos, uint64_t seed);
/*
 * The machine stays up but the process ends after the first pos changes: everything is there to be
 * read, and what was not synced still is not, so an image of the result may lose it.
 */
struct powercut *powercut_killed(struct powercut *p, size_t pos);

enum powercut_kind {
    POWERCUT_OPEN,
    POWERCUT_READ,
    POWERCUT_WRITE,
    POWERCUT_TRUNCATE,
    POWERCUT_SYNC,
    POWERCUT_LOCK,
    POWERCUT_RENAME,
    POWERCUT_UNLINK,
    POWERCUT_MKDIR,
    POWERCUT_RMDIR,
    POWERCUT_SYNC_DIR,
    POWERCUT_SYMLINK,
    POWERCUT_STAT,
    POWERCUT_LIST,
};

struct powercut_op {
    enum powercut_kind kind;
    size_t pos;        /* powercut_pos() before it */
    const char *path;  /* as given to open, rename (from), ... */
    const char *path2; /* rename: to */
    uint32_t flags;    /* open */
    int64_t off;       /* read, write; truncate: the new length */
    size_t len;
    /* sync: what it would make sure. sync_dir: pending counts names. */
    size_t pending;
    int64_t pending_lo, pending_hi; /* range of the unsynced writes */
};

/*
 * Called before each operation, with the lock held: must not call back. 0 lets it happen, a KE_E*
 * code is what the caller gets instead.
 */
typedef int (*powercut_fault_fn)(void *user, const struct powercut_op *op);
void powercut_fault(struct powercut *p, powercut_fault_fn fn, void *user);
/*
 * Called for each sync and sync_dir. true: it claims to have worked and makes nothing sure, as if
 * the line that calls it were missing. To show that a test would notice.
 */
typedef bool (*powercut_drop_fn)(void *user, const struct powercut_op *op);
void powercut_drop(struct powercut *p, powercut_drop_fn fn, void *user);
/* Each sync takes two milliseconds of real time, so that what does not wait for it gets ahead. */
void powercut_slow(struct powercut *p);
/* Bytes of all files together; more is KE_ENOSPC, after a part was written. 0: no limit. */
void powercut_capacity(struct powercut *p, uint64_t bytes);
/* Without locks or faults, for checks: a copy of the bytes (free it), NULL if there is no such. */
unsigned char *powercut_get(struct powercut *p, const char *path, size_t *ret_n);
/* Puts the file there, durable at once: an old format, a damaged file. */
void powercut_put(struct powercut *p, const char *path, const void *bytes, size_t n);
/* Names below folder, one per line with their lengths: for messages. Free it. */
char *powercut_tree(struct powercut *p);

/* A small generator for tests: advances *state, any start value is good. */
uint64_t powercut_random(uint64_t *state);
/* 0 <= result < n */
uint64_t powercut_below(uint64_t *state, uint64_t n);

#endif
