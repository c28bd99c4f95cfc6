/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SQLite connection: opening with settings read back, transactions, statements, error texts.
 * 'database is locked' cannot come from it: it is the only connection of the only process in the
 * folder (the file is locked as a whole for as long as it is open), it is used by one thread at a
 * time, and no statement is left running when another begins. Memory: SQLite's own.
 */
#ifndef KEI_STORE_DB_H
#define KEI_STORE_DB_H

#include "base/error.h"
#include "store/vfs.h"

enum kei_db_mode {
    KEI_DB_LOG,    /* the store's file: write-ahead log, every commit synced */
    KEI_DB_BUILD,  /* a new file, synced by its maker when it is complete */
    KEI_DB_MEMORY, /* KE_STORE_MEMORY */
};

enum kei_stmt {
    KEI_STMT_BEGIN,
    KEI_STMT_COMMIT,
    KEI_STMT_ROLLBACK,
    KEI_STMT_PUT,
    KEI_STMT_GET,
    KEI_STMT_HAS,
    KEI_STMT_LIST,
    KEI_STMT_LIST_ALL,
    KEI_STMT_DELETE,
    KEI_STMT_DELETE_PREFIX,
    KEI_STMT_SALVAGE_NOTE,
    KEI_STMT_SALVAGE_READ,
    KEI_STMT_SALVAGE_TOLD,
    KEI_STMT_N,
};

#define KEI_VALUE_MAX (UINT32_C(512) << 20) /* what max_value may be */

struct kei_db_conf {
    const char *folder; /* "memory" for texts when there is none */
    uint32_t cache_kib;
    uint64_t max_bytes;
};

struct kei_db {
    sqlite3 *h;
    struct kei_vfs *vfs;
    const struct kei_db_conf *conf;
    enum kei_db_mode mode;
    sqlite3_stmt *stmts[KEI_STMT_N]; /* made on first use */
};

/* name is one of the folder's files, and is ignored for KEI_DB_MEMORY. The format is not checked.
 */
int kei_db_open(struct kei_db *db, struct kei_vfs *v, const struct kei_db_conf *conf,
                enum kei_db_mode mode, const char *name, struct ke_error *err);
/* Writes the log back and removes it, if it can. Safe if zero or closed. */
void kei_db_close(struct kei_db *db);
/* Closes without touching the file or the log. */
void kei_db_drop(struct kei_db *db);

/* The KE_E* of an SQLite result, with the text "WHAT the store in FOLDER: why". */
int kei_db_fail(struct kei_db *db, int rc, struct ke_error *err, const char *what);
int kei_db_exec(struct kei_db *db, const char *sql, struct ke_error *err, const char *what);
/* First column of the first row of sql. */
int kei_db_int(struct kei_db *db, const char *sql, int64_t *ret, struct ke_error *err);
/* A reset statement without bindings. */
int kei_db_stmt(struct kei_db *db, enum kei_stmt which, sqlite3_stmt **ret, struct ke_error *err);

int kei_db_begin(struct kei_db *db, struct ke_error *err);
/* On failure nothing of the transaction is left, in the file or for a later start to find. */
int kei_db_commit(struct kei_db *db, struct ke_error *err);
void kei_db_rollback(struct kei_db *db);

/* ---- format (migrate.c) ---- */
#define KEI_FORMAT 1
/* The header says the format twice, so that damage is told from a newer release. */
#define KEI_FORMAT_ID(version) (0x4b450000 | (version))

struct kei_step {
    int version; /* the format it makes of the one before */
    const char *sql;
};
extern const struct kei_step kei_steps[];
extern const size_t kei_n_steps;
/* Brings the file to the last step's format, each step a transaction. KE_ENEWER. */
int kei_migrate(struct kei_db *db, const struct kei_step *steps, size_t n, struct ke_error *err);

#endif
