/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the store commits, against SQLite used directly with the same tables, rows per
 * transaction, journal mode and synchronous setting; and what an open store costs in memory.
 *
 *     bench_store [FOLDER [SECONDS]]
 *
 * One at a time: each transaction waits for the one before it, so this is the cost of the way
 * through loop and worker and of the check sums. Many at a time: as they come in a busy node, where
 * the store shares a sync among those that wait and plain SQLite has one for each.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <kubeedge/store.h>

#define ROWS 2     /* per transaction: an object and its "applied" mark */
#define VALUE 2000 /* bytes of the object */
#define KEYS 200
#define IN_FLIGHT 32

static char value[VALUE];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* ---- the store ---- */

struct load {
    struct ke_ctx *ctx;
    struct ke_store *store;
    uint64_t done, sent;
};

static void on_done(void *user, int status)
{
    struct load *l = user;
    if (status < 0)
        die("commit", ke_ctx_error(l->ctx));
    l->done++;
}

static void send_one(struct load *l)
{
    struct ke_store_tx *tx = NULL;
    char key[32];
    (void)snprintf(key, sizeof key, "ns/pod-%" PRIu64, l->sent % KEYS);
    if (ke_store_begin(&tx, l->store) < 0 ||
        ke_store_put(tx, "o/pod", key, "uid", (int64_t)l->sent, value, sizeof value) < 0 ||
        ke_store_put(tx, "applied", key, NULL, (int64_t)l->sent, "1", 1) < 0 ||
        ke_store_commit(tx, on_done, l) < 0)
        die("commit", ke_ctx_error(l->ctx));
    l->sent++;
}

static double run_store(struct load *l, unsigned in_flight, double seconds)
{
    uint64_t first = l->done;
    double begin = now();
    while (now() - begin < seconds || l->done < l->sent) {
        while (l->sent - l->done < in_flight && now() - begin < seconds)
            send_one(l);
        if (l->done < l->sent && (ke_ctx_wait(l->ctx, -1) < 0 || ke_ctx_dispatch(l->ctx) < 0))
            die("loop", ke_ctx_error(l->ctx));
    }
    return (double)(l->done - first) / (now() - begin);
}

/* ---- SQLite ---- */

static void sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        die(text, sqlite3_errmsg(db));
}

static double run_sqlite(const char *folder, double seconds)
{
    char path[4096];
    sqlite3 *db = NULL;
    sqlite3_stmt *put = NULL;
    uint64_t n = 0;
    (void)snprintf(path, sizeof path, "%s/plain.db", folder);
    if (sqlite3_open(path, &db) != SQLITE_OK)
        die(path, sqlite3_errmsg(db));
    sql(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE kv (id INTEGER PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL,"
            " uid TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL);"
            "CREATE UNIQUE INDEX kv_key ON kv (bucket, key)");
    if (sqlite3_prepare_v2(
            db,
            "INSERT INTO kv (bucket, key, uid, version, value) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (bucket, key) DO UPDATE SET uid = excluded.uid,"
            " version = excluded.version, value = excluded.value",
            -1, &put, NULL) != SQLITE_OK)
        die("prepare", sqlite3_errmsg(db));
    double begin = now();
    for (; now() - begin < seconds; n++) {
        char key[32];
        (void)snprintf(key, sizeof key, "ns/pod-%" PRIu64, n % KEYS);
        sql(db, "BEGIN");
        for (int i = 0; i < ROWS; i++) {
            sqlite3_bind_text(put, 1, i ? "applied" : "o/pod", -1, SQLITE_STATIC);
            sqlite3_bind_text(put, 2, key, -1, SQLITE_STATIC);
            sqlite3_bind_text(put, 3, i ? "" : "uid", -1, SQLITE_STATIC);
            sqlite3_bind_int64(put, 4, (sqlite3_int64)n);
            sqlite3_bind_blob(put, 5, value, i ? 1 : VALUE, SQLITE_STATIC);
            if (sqlite3_step(put) != SQLITE_DONE)
                die("insert", sqlite3_errmsg(db));
            sqlite3_reset(put);
        }
        sql(db, "COMMIT");
    }
    double rate = (double)n / (now() - begin);
    sqlite3_finalize(put);
    sqlite3_close(db);
    return rate;
}

/* ---- memory ---- */

static long private_dirty_kib(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    char line[200];
    long kib = -1;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Dirty: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

int main(int argc, char **argv)
{
    char made[] = "/tmp/bench-store-XXXXXX", folder[4096];
    const char *base = argc > 1 ? argv[1] : mkdtemp(made);
    double seconds = argc > 2 ? atof(argv[2]) : 3;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_store_config c;
    struct load l = {0};
    if (!base)
        die("mkdtemp", "failed");
    memset(value, 'v', sizeof value);
    if (ke_ctx_new(&l.ctx, NULL, &err) < 0)
        die("context", err.text);
    (void)snprintf(folder, sizeof folder, "%s/store", base);
    ke_store_config_init(&c, sizeof c);
    c.folder = folder;
    long before = private_dirty_kib();
    if (ke_store_open(&l.store, l.ctx, &c) < 0)
        die("open", ke_ctx_error(l.ctx));
    long opened = private_dirty_kib();
    for (int i = 0; i < 3 * KEYS; i++) {
        send_one(&l);
        while (l.done < l.sent)
            if (ke_ctx_wait(l.ctx, -1) < 0 || ke_ctx_dispatch(l.ctx) < 0)
                die("loop", ke_ctx_error(l.ctx));
    }
    long used = private_dirty_kib();
    double one = run_store(&l, 1, seconds), many = run_store(&l, IN_FLIGHT, seconds);
    double plain = run_sqlite(base, seconds);
    printf("store, one at a time   %10.0f transactions/s of %d rows, each durable\n", one, ROWS);
    printf("store, %2d at a time    %10.0f\n", IN_FLIGHT, many);
    printf("plain SQLite           %10.0f\n", plain);
    printf("ratio to plain SQLite  %10.2f one at a time, %.2f with %d waiting\n", one / plain,
           many / plain, IN_FLIGHT);
    printf("private dirty          %10ld KiB more when open, %ld KiB more after %d transactions\n",
           opened - before, used - before, 3 * KEYS);
    ke_store_close(l.store);
    ke_ctx_free(l.ctx);
    return 0;
}
