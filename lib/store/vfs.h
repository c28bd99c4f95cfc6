/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite's files over a context's file table. One per open store, registered under a name of its
 * own, never the default. It knows the few files of one folder by name, so no path of the host is
 * ever parsed by SQLite. Memory: embedded in its user. Used by one thread at a time; the process's
 * list of such tables is SQLite's and locked by it.
 *
 * Beyond passing bytes on it does three things: every page of the database file carries a check sum
 * that is verified whenever the page is read; a sync with nothing to make sure is left out; and
 * what a failed commit left in the write-ahead log is cut off again.
 */
#ifndef KEI_STORE_VFS_H
#define KEI_STORE_VFS_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "base/loop.h"
#include "store/sum.h"

#define KEI_DB_FILE "kubeedge.db"
#define KEI_WAL_FILE "kubeedge.db-wal"
#define KEI_NEW_FILE "kubeedge.db.new" /* being built; worth nothing */
#define KEI_NEW_WAL_FILE "kubeedge.db.new-wal"
#define KEI_READY_FILE "kubeedge.db.salvaged" /* complete: takes the place of KEI_DB_FILE */

struct kei_vfs_file;

struct kei_vfs {
    sqlite3_vfs base;
    struct ke_ctx *ctx;
    const struct ke_io *io;
    const char *folder;       /* borrowed */
    struct kei_vfs_file *wal; /* of KEI_DB_FILE, while open */
    int last;                 /* KE_E* of the newest failure, 0 after kei_vfs_clear */
    uint32_t bad_page;        /* the newest one whose sum was wrong, 0 after kei_vfs_clear */
    bool read_failed;         /* the table could not read; false after kei_vfs_clear */
    atomic_uint *yield;       /* while set: reads fail as soon as it is not zero ... */
    bool yielded;             /* ... which this tells */
    bool stale;               /* kei_vfs_undo could not be done yet */
    char name[40];
    unsigned char page[KEI_PAGE];
};

int kei_vfs_init(struct kei_vfs *v, struct ke_ctx *ctx, const char *folder, struct ke_error *err);
void kei_vfs_fini(struct kei_vfs *v); /* safe if zero */
void kei_vfs_clear(struct kei_vfs *v);
/*
 * After a failed transaction was rolled back: removes what it wrote to the log, durably, so that
 * no restart finds it complete. 0, or what prevented it; then no transaction may begin before a
 * later call has done it.
 */
int kei_vfs_undo(struct kei_vfs *v);

/* FOLDER/name; out has KEI_PATH_MAX bytes. KE_ELIMIT when it does not fit. */
#define KEI_PATH_MAX 4096
int kei_store_path(char *out, const char *folder, const char *name);

#endif
