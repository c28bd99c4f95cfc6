/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Twin updates per second, each durable before it is said to be, against SQLite used directly with
 * rows of the same size, as many of them per transaction, the same journal mode and synchronous
 * setting, turn about in one run; and what a device with ten twins costs in memory.
 *
 *     bench_twin [FOLDER [SECONDS]]
 */
#include <inttypes.h>
#include <malloc.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <kubeedge/twin.h>

#define DEVICES 1000
#define TWINS 10
#define IN_FLIGHT 256
#define SLICES 4

static void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct load {
    struct ke_ctx *ctx;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_twin *t;
    uint64_t done, sent;
};

static void on_done(void *user, int status, const char *text)
{
    struct load *l = user;

    if (status < 0)
        die("update", text);
    l->done++;
}

static void report(struct load *l, uint64_t i)
{
    char device[24], name[24], value[24];
    struct ke_error err = KE_ERROR_INIT;

    snprintf(device, sizeof device, "device-%04u", (unsigned)(i % DEVICES));
    snprintf(name, sizeof name, "property-%u", (unsigned)(i / DEVICES % TWINS));
    snprintf(value, sizeof value, "%" PRIu64 ".%u", i, (unsigned)(i % 10));
    if (ke_twin_report(l->t, device, name, value, "float", on_done, l, &err) < 0)
        die("report", err.text);
    l->sent++;
}

static void turn(struct load *l)
{
    if (ke_ctx_wait(l->ctx, 100) < 0 || ke_ctx_dispatch(l->ctx) < 0)
        die("loop", ke_ctx_error(l->ctx));
}

static void until_done(struct load *l)
{
    while (l->done < l->sent)
        turn(l);
}

static void set_up(struct load *l, const char *folder)
{
    struct ke_store_config sc;
    struct ke_twin_config tc;

    ke_store_config_init(&sc, sizeof sc);
    sc.folder = folder;
    ke_twin_config_init(&tc, sizeof tc);
    if (ke_ctx_new(&l->ctx, NULL, NULL) < 0 || ke_store_open(&l->store, l->ctx, &sc) < 0 ||
        ke_router_new(&l->router, l->ctx, NULL) < 0)
        die("set-up", l->ctx ? ke_ctx_error(l->ctx) : "no context");
    tc.router = l->router;
    tc.store = l->store;
    tc.node_name = "bench";
    if (ke_twin_new(&l->t, l->ctx, &tc) < 0 || ke_twin_start(l->t) < 0)
        die("twin", ke_ctx_error(l->ctx));
}

static void fill(struct load *l)
{
    struct ke_error err = KE_ERROR_INIT;
    size_t before = mallinfo2().uordblks;

    for (unsigned i = 0; i < DEVICES; i++) {
        char device[24];

        snprintf(device, sizeof device, "device-%04u", i);
        if (ke_twin_add(l->t, device, NULL, on_done, l, &err) < 0)
            die("add", err.text);
        l->sent++;
    }
    until_done(l);
    for (uint64_t i = 0; i < DEVICES * TWINS; i++) {
        report(l, i);
        while (l->sent - l->done >= IN_FLIGHT)
            turn(l);
    }
    until_done(l);
    printf("memory: %.2f KiB per device with %d twins (%d devices, store included)\n",
           (double)(mallinfo2().uordblks - before) / 1024 / DEVICES, TWINS, DEVICES);
}

/* One slice of updates; *ret_rows: rows per transaction, *ret_bytes of one. */
static double updates(struct load *l, double seconds, double *ret_rows, double *ret_cpu)
{
    struct ke_twin_status a = {.size = sizeof a}, b = {.size = sizeof b};
    uint64_t from = l->done;
    double begun = now(), took;
    clock_t cpu = clock();

    (void)!ke_twin_status(l->t, &a, sizeof a);
    while (now() - begun < seconds) {
        while (l->sent - l->done < IN_FLIGHT)
            report(l, l->sent);
        turn(l);
    }
    until_done(l);
    took = now() - begun;
    (void)!ke_twin_status(l->t, &b, sizeof b);
    *ret_cpu = (double)(clock() - cpu) / CLOCKS_PER_SEC * 1e6 / (double)(l->done - from);
    *ret_rows = (double)(l->done - from) / (double)(b.commits - a.commits);
    return (double)(l->done - from) / took;
}

/* ---- SQLite alone ---- */

static void run_sql(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        die(sql, sqlite3_errmsg(db));
}

static sqlite3 *open_plain(const char *path)
{
    sqlite3 *db = NULL;

    if (sqlite3_open(path, &db) != SQLITE_OK)
        die(path, "cannot be opened");
    run_sql(db, "PRAGMA journal_mode=WAL");
    run_sql(db, "PRAGMA synchronous=FULL");
    run_sql(db, "CREATE TABLE kv(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID");
    return db;
}

static double plain(sqlite3 *db, double seconds, double rows, size_t bytes, double *ret_cpu)
{
    static char value[65536];
    sqlite3_stmt *put = NULL;
    double begun = now(), took;
    clock_t cpu = clock();
    uint64_t n = 0;
    unsigned per = rows < 1 ? 1 : (unsigned)(rows + 0.5);

    memset(value, 'x', sizeof value);
    if (sqlite3_prepare_v2(db, "INSERT OR REPLACE INTO kv VALUES(?,?)", -1, &put, NULL))
        die("prepare", sqlite3_errmsg(db));
    while (now() - begun < seconds) {
        run_sql(db, "BEGIN IMMEDIATE");
        for (unsigned i = 0; i < per; i++, n++) {
            char key[32];

            snprintf(key, sizeof key, "/device-%04u", (unsigned)(n % DEVICES));
            sqlite3_bind_text(put, 1, key, -1, SQLITE_TRANSIENT);
            sqlite3_bind_blob(put, 2, value, (int)bytes, SQLITE_STATIC);
            if (sqlite3_step(put) != SQLITE_DONE)
                die("step", sqlite3_errmsg(db));
            sqlite3_reset(put);
        }
        run_sql(db, "COMMIT");
    }
    took = now() - begun;
    *ret_cpu = (double)(clock() - cpu) / CLOCKS_PER_SEC * 1e6 / (double)n;
    sqlite3_finalize(put);
    return (double)n / took;
}

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    if (status < 0)
        die("row", "it is not there");
    *(size_t *)user = item->len;
}

int main(int argc, char **argv)
{
    const char *at = argc > 1 ? argv[1] : "/tmp";
    double seconds = argc > 2 ? atof(argv[2]) : 3, ours = 0, theirs = 0, rows = 0;
    char folder[256], path[300];
    size_t bytes = 0;
    struct load l = {NULL, NULL, NULL, NULL, 0, 0};
    sqlite3 *db;

    snprintf(folder, sizeof folder, "%s/bench_twin.%d", at, (int)getpid());
    snprintf(path, sizeof path, "%s.plain", folder);
    set_up(&l, folder);
    fill(&l);
    if (ke_store_get(l.store, "twin", "/device-0001", on_row, &bytes) < 0)
        die("row", ke_ctx_error(l.ctx));
    while (!bytes)
        turn(&l);
    db = open_plain(path);
    for (int i = 0; i < SLICES; i++) {
        double r, cu, cp, u = updates(&l, seconds, &r, &cu);
        double p = plain(db, seconds, r, bytes, &cp);

        printf("updates: %8.0f/s, %5.1f us of CPU each, in transactions of %.1f rows of %zu bytes; "
               "SQLite alone %8.0f/s, %5.1f us\n",
               u, cu, r, bytes, p, cp);
        ours += u / SLICES;
        theirs += p / SLICES;
        rows += r / SLICES;
    }
    printf("mean: %.0f/s, SQLite alone %.0f/s with %.1f rows each: SQLite is %.2f times as fast\n",
           ours, theirs, rows, theirs / ours);
    sqlite3_close(db);
    ke_twin_free(l.t);
    ke_router_free(l.router);
    ke_store_close(l.store);
    ke_ctx_free(l.ctx);
    return 0;
}
