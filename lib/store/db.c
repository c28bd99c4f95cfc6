/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SQLite connection, see db.h. SQLite's process-wide settings belong to the host and are left
 * alone; what a connection can set for itself is set here. Runs on the disk worker, or on the
 * thread that opens the store.
 */
#include "store/db.h"

#include <stdio.h>
#include <string.h>

#include "store/store_sql.h"

#define OLDEST_SQLITE 3035000
#define LENGTH_MAX (KEI_VALUE_MAX + 16384) /* of a row; a smaller max_value binds new ones only */

static const char *const statements[KEI_STMT_N] = {
    [KEI_STMT_BEGIN] = "BEGIN IMMEDIATE",
    [KEI_STMT_COMMIT] = "COMMIT",
    [KEI_STMT_ROLLBACK] = "ROLLBACK",
    [KEI_STMT_PUT] = KEI_SQL_PUT,
    [KEI_STMT_GET] = KEI_SQL_GET,
    [KEI_STMT_HAS] = KEI_SQL_HAS,
    [KEI_STMT_LIST] = KEI_SQL_LIST,
    [KEI_STMT_LIST_ALL] = KEI_SQL_LIST_ALL,
    [KEI_STMT_DELETE] = KEI_SQL_DELETE,
    [KEI_STMT_DELETE_PREFIX] = KEI_SQL_DELETE_PREFIX,
    [KEI_STMT_SALVAGE_NOTE] = KEI_SQL_SALVAGE_NOTE,
    [KEI_STMT_SALVAGE_READ] = KEI_SQL_SALVAGE_READ,
    [KEI_STMT_SALVAGE_TOLD] = KEI_SQL_SALVAGE_TOLD,
};

/* ---- errors ---- */

static int io_code(const struct kei_db *db)
{
    return db->vfs->last ? db->vfs->last : KE_EIO;
}

static int code_of(const struct kei_db *db, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return KE_ENOMEM;
    case SQLITE_FULL:
        return db->vfs->last == KE_ENOSPC ? KE_ENOSPC : KE_ELIMIT;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        return KE_ECORRUPT;
    case SQLITE_IOERR:
        if (rc == SQLITE_IOERR_NOMEM)
            return KE_ENOMEM;
        if (rc == SQLITE_IOERR_DATA || rc == SQLITE_IOERR_CORRUPTFS ||
            rc == SQLITE_IOERR_SHORT_READ)
            return KE_ECORRUPT;
        return io_code(db);
    case SQLITE_CANTOPEN:
        return io_code(db);
    case SQLITE_READONLY:
        return KE_EROFS;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return KE_EACCES;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return KE_EBUSY;
    case SQLITE_TOOBIG:
        return KE_ELIMIT;
    default:
        return KE_ESYS;
    }
}

int kei_db_fail(struct kei_db *db, int rc, struct ke_error *err, const char *what)
{
    const char *folder = db->conf->folder;
    int code = code_of(db, rc);
    if (code == KE_ECORRUPT && db->vfs->bad_page)
        return kei_error(err, code, "%s the store in %s: page %u of %s is damaged", what, folder,
                         db->vfs->bad_page, KEI_DB_FILE);
    if (code == KE_ENOSPC)
        return kei_error(err, code,
                         "%s the store in %s: the disk or the quota is full; free some "
                         "space and try again",
                         what, folder);
    if (code == KE_ELIMIT && (rc & 0xff) == SQLITE_FULL)
        return kei_error(err, code,
                         "%s the store in %s: it would grow over max_bytes (%llu); delete "
                         "something or raise the limit",
                         what, folder, (unsigned long long)db->conf->max_bytes);
    if (code == KE_ENOMEM)
        return kei_error(err, code, "%s the store in %s: memory ran out", what, folder);
    const char *why = db->h ? sqlite3_errmsg(db->h) : sqlite3_errstr(rc);
    if (db->vfs->last)
        return kei_error(err, code, "%s the store in %s: %s (%s, SQLite %d)", what, folder, why,
                         ke_strerror(db->vfs->last), rc);
    return kei_error(err, code, "%s the store in %s: %s (SQLite %d)", what, folder, why, rc);
}

/* ---- statements ---- */

int kei_db_exec(struct kei_db *db, const char *sql, struct ke_error *err, const char *what)
{
    int rc = sqlite3_exec(db->h, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : kei_db_fail(db, rc, err, what);
}

int kei_db_int(struct kei_db *db, const char *sql, int64_t *ret, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db->h, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    int r = rc == SQLITE_ROW ? 0 : kei_db_fail(db, rc, err, "could not ask");
    (void)sqlite3_finalize(st);
    return r;
}

int kei_db_stmt(struct kei_db *db, enum kei_stmt which, sqlite3_stmt **ret, struct ke_error *err)
{
    sqlite3_stmt **st = &db->stmts[which];
    if (!*st) {
        int rc =
            sqlite3_prepare_v3(db->h, statements[which], -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
        /* Our statements are right; if one does not fit, it is the schema that is not ours. */
        if (rc == SQLITE_ERROR) {
            return kei_error(err, KE_ECORRUPT, "the store in %s has lost its tables: %s",
                             db->conf->folder, sqlite3_errmsg(db->h));
        }
        if (rc != SQLITE_OK)
            return kei_db_fail(db, rc, err, "could not use");
    }
    *ret = *st;
    return 0;
}

static int step(struct kei_db *db, enum kei_stmt which, struct ke_error *err, const char *what)
{
    sqlite3_stmt *st = NULL;
    int r = kei_db_stmt(db, which, &st, err);
    if (r < 0)
        return r;
    int rc = sqlite3_step(st);
    r = rc == SQLITE_DONE ? 0 : kei_db_fail(db, rc, err, what);
    (void)sqlite3_reset(st);
    return r;
}

/* ---- transactions ---- */

/* Ends a transaction that an earlier failure, out of memory in the rollback itself, left open. */
static int settle(struct kei_db *db, struct ke_error *err)
{
    int r =
        sqlite3_get_autocommit(db->h) ? 0 : step(db, KEI_STMT_ROLLBACK, err, "could not roll back");
    if (r == 0 && db->vfs->stale && (r = kei_vfs_undo(db->vfs)) < 0)
        return kei_error(err, r, "the log of the store in %s cannot be written (%s)",
                         db->conf->folder, ke_strerror(r));
    return r;
}

int kei_db_begin(struct kei_db *db, struct ke_error *err)
{
    kei_vfs_clear(db->vfs);
    int r = settle(db, err);
    return r < 0 ? r : step(db, KEI_STMT_BEGIN, err, "could not write to");
}

int kei_db_commit(struct kei_db *db, struct ke_error *err)
{
    int r = step(db, KEI_STMT_COMMIT, err, "could not write to");
    if (r < 0)
        kei_db_rollback(db);
    return r;
}

void kei_db_rollback(struct kei_db *db)
{
    /* SQLite has rolled back by itself after some failures. What cannot be done is tried again
     * before the next transaction. */
    if (!sqlite3_get_autocommit(db->h))
        (void)step(db, KEI_STMT_ROLLBACK, NULL, "could not roll back");
    (void)kei_vfs_undo(db->vfs);
}

/* ---- opening ---- */

static void set_limits(struct kei_db *db)
{
    sqlite3 *h = db->h;
    (void)sqlite3_extended_result_codes(h, 1);
    /* Each of these may be unknown to the host's SQLite; none decides about correctness. */
    (void)sqlite3_db_config(h, SQLITE_DBCONFIG_LOOKASIDE, NULL, 0, 0);
    (void)sqlite3_db_config(h, SQLITE_DBCONFIG_DEFENSIVE, db->mode != KEI_DB_BUILD, NULL);
    (void)sqlite3_db_config(h, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(h, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(h, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    (void)sqlite3_db_config(h, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(h, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    (void)sqlite3_limit(h, SQLITE_LIMIT_LENGTH, (int)LENGTH_MAX);
    (void)sqlite3_limit(h, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_limit(h, SQLITE_LIMIT_TRIGGER_DEPTH, 0);
}

/* A setting that did not take is a host's SQLite we cannot promise anything on. */
static int must_be(struct kei_db *db, const char *pragma, const char *want, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    char sql[64], got[24] = "";
    (void)snprintf(sql, sizeof sql, "PRAGMA %s", pragma);
    int rc = sqlite3_prepare_v2(db->h, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
    if (rc == SQLITE_ROW && !text)
        rc = SQLITE_NOMEM;
    if (text)
        (void)snprintf(got, sizeof got, "%s", text);
    int r = rc == SQLITE_ROW ? 0 : kei_db_fail(db, rc, err, "could not open");
    (void)sqlite3_finalize(st);
    if (r == 0 && strcmp(got, want) != 0)
        r = kei_error(err, KE_ENOTSUP,
                      "this SQLite (%s) gives %s = %s for the store in %s where %s is needed",
                      sqlite3_libversion(), pragma, got, db->conf->folder, want);
    return r;
}

static int read_back(struct kei_db *db, struct ke_error *err)
{
    static const struct {
        const char *pragma, *want;
        unsigned modes;
    } table[] = {
        {"journal_mode", "wal", 1u << KEI_DB_LOG},
        {"synchronous", "2", 1u << KEI_DB_LOG},
        {"wal_autocheckpoint", "256", 1u << KEI_DB_LOG},
        {"locking_mode", "exclusive", 1u << KEI_DB_LOG | 1u << KEI_DB_BUILD},
        {"page_size", "4096", 1u << KEI_DB_LOG | 1u << KEI_DB_BUILD},
        {"secure_delete", "1", 1u << KEI_DB_LOG},
        {"temp_store", "2", ~0u},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof table / sizeof table[0]; i++)
        if (table[i].modes & 1u << db->mode)
            r = must_be(db, table[i].pragma, table[i].want, err);
    int reserved = -1;
    if (r == 0 && db->mode != KEI_DB_MEMORY &&
        (sqlite3_file_control(db->h, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved) != SQLITE_OK ||
         reserved != (int)KEI_PAGE_SUM))
        r = kei_error(err, KE_ENOTSUP, "this SQLite (%s) gives no room for page sums in %s",
                      sqlite3_libversion(), db->conf->folder);
    return r;
}

static int apply_settings(struct kei_db *db, struct ke_error *err)
{
    static const char *const by_mode[] = {
        [KEI_DB_LOG] = KEI_SQL_LOG,
        [KEI_DB_BUILD] = KEI_SQL_BUILD,
        [KEI_DB_MEMORY] = KEI_SQL_MEMORY,
    };
    char sizes[128];
    int reserve = (int)KEI_PAGE_SUM;
    uint64_t pages = db->mode == KEI_DB_BUILD ? UINT32_MAX / 4 : db->conf->max_bytes / KEI_PAGE;
    (void)snprintf(sizes, sizeof sizes, "PRAGMA cache_size = -%u; PRAGMA max_page_count = %llu",
                   db->conf->cache_kib, (unsigned long long)pages);
    int r = kei_db_exec(db, KEI_SQL_OPEN, err, "could not open");
    if (r == 0 && db->mode == KEI_DB_BUILD)
        (void)sqlite3_file_control(db->h, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
    if (r == 0)
        r = kei_db_exec(db, by_mode[db->mode], err, "could not open");
    if (r == 0)
        r = kei_db_exec(db, sizes, err, "could not open");
    return r;
}

int kei_db_open(struct kei_db *db, struct kei_vfs *v, const struct kei_db_conf *conf,
                enum kei_db_mode mode, const char *name, struct ke_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    if (mode != KEI_DB_LOG) /* the store's file is there, or something is wrong */
        flags |= SQLITE_OPEN_CREATE;
    *db = (struct kei_db){.vfs = v, .conf = conf, .mode = mode};
    if (sqlite3_libversion_number() < OLDEST_SQLITE || !sqlite3_threadsafe())
        return kei_error(err, KE_ENOTSUP,
                         "SQLite %s%s cannot carry the store: 3.35 with threads "
                         "is needed",
                         sqlite3_libversion(), sqlite3_threadsafe() ? "" : " without threads");
    kei_vfs_clear(v);
    int rc = sqlite3_open_v2(mode == KEI_DB_MEMORY ? ":memory:" : name, &db->h, flags, v->name);
    int r = rc == SQLITE_OK ? 0 : kei_db_fail(db, rc, err, "could not open");
    if (r == 0) {
        set_limits(db);
        r = apply_settings(db, err);
    }
    if (r == 0)
        r = read_back(db, err);
    sqlite3_stmt *st; /* made now: a rollback is needed most when memory is short */
    if (r == 0)
        r = kei_db_stmt(db, KEI_STMT_ROLLBACK, &st, err);
    if (r < 0)
        kei_db_drop(db);
    return r;
}

void kei_db_close(struct kei_db *db)
{
    for (int i = 0; i < KEI_STMT_N; i++)
        (void)sqlite3_finalize(db->stmts[i]);
    (void)sqlite3_close_v2(db->h);
    *db = (struct kei_db){0};
}

void kei_db_drop(struct kei_db *db)
{
    if (db->h)
        (void)sqlite3_db_config(db->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    kei_db_close(db);
}
