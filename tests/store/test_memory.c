/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No memory: the N-th allocation fails, for every N, through the context's table and below it in
 * SQLite's. Nothing crashes or leaks, what was acknowledged is there, what was refused is not.
 */
#include <sqlite3.h>

#include "sim/powercut_io.h"
#include "store/store_priv.h"
#include "store/store_support.h"

#define FOLDER "/data"

/* ---- SQLite's allocator, which a host may replace before its first use: here one that fails ----
 */

static sqlite3_mem_methods real;
static atomic_long countdown; /* the allocation that fails, counted down; 0: none */
static atomic_bool failed, lasting;

static bool refuse(void)
{
    long n = atomic_load(&countdown);
    if (n <= 0)
        return false;
    if (n == 1 && atomic_load(&lasting)) {
        atomic_store(&failed, true);
        return true;
    }
    if (atomic_fetch_sub(&countdown, 1) != 1)
        return false;
    atomic_store(&failed, true);
    return true;
}

static void *failing_malloc(int n)
{
    return refuse() ? NULL : real.xMalloc(n);
}

static void *failing_realloc(void *p, int n)
{
    return refuse() ? NULL : real.xRealloc(p, n);
}

static int group_setup(void **state)
{
    (void)state;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real), SQLITE_OK);
    sqlite3_mem_methods mine = real;
    mine.xMalloc = failing_malloc;
    mine.xRealloc = failing_realloc;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &mine), SQLITE_OK);
    return 0;
}

/* ---- one round: open, write, read, delete, list, close; everything may fail once ---- */

struct round {
    struct test_env env;
    struct powercut *disk;
    struct kv kv;
    /* what is known of each of three keys: the value, NULL none; unknown is not a case */
    const char *have[3];
    unsigned refused;
};

static const char *const keys[3] = {"a", "b", "c"};

static void write_one(struct round *r, int key, const char *value)
{
    int status = value ? kv_put(&r->kv, "x", keys[key], value) : kv_delete(&r->kv, "x", keys[key]);
    if (status == 0) {
        r->have[key] = value;
        return;
    }
    if (status != KE_ENOMEM)
        fail_msg("a write gave %s: %s", ke_strerror(status), ke_ctx_error(r->env.ctx));
    r->refused++;
}

static void check_all(struct round *r, bool must)
{
    for (int i = 0; i < 3; i++) {
        char *value = NULL;
        int status = kv_get(&r->kv, "x", keys[i], &value);
        if (status == KE_ENOMEM && !must) {
            r->refused++;
            continue;
        }
        if (r->have[i]) {
            if (status != 0)
                fail_msg("%s is gone: %s (%s)", keys[i], ke_strerror(status),
                         ke_ctx_error(r->env.ctx));
            assert_string_equal(value, r->have[i]);
        } else {
            assert_int_equal(status, KE_ENOTFOUND);
        }
        free(value);
    }
    struct rows rows;
    kv_list(&r->kv, NULL, "", 0, &rows);
    if (rows.status == KE_ENOMEM && !must) {
        r->refused++;
    } else {
        assert_int_equal(rows.status, 0);
        assert_int_equal(rows.n, (size_t) !!r->have[0] + !!r->have[1] + !!r->have[2]);
    }
    rows_free(&rows);
    assert_int_equal(r->kv.s->bytes, 0); /* nothing is counted that is no more */
}

static void work(struct round *r)
{
    int status = kv_open(&r->kv);
    if (status != 0) {
        if (status != KE_ENOMEM)
            fail_msg("open gave %s: %s", ke_strerror(status), ke_ctx_error(r->env.ctx));
        r->refused++;
        return;
    }
    char big[6000];
    memset(big, 'b', sizeof big - 1);
    big[sizeof big - 1] = 0;
    write_one(r, 0, "one");
    write_one(r, 1, "two");
    write_one(r, 1, "two and a half");
    write_one(r, 2, "three");
    write_one(r, 0, NULL);
    check_all(r, false);
    kv_close(&r->kv);
}

static void round_begin(struct round *r)
{
    *r = (struct round){0};
    r->disk = powercut_new();
    test_env_init_io(&r->env, 0, powercut_io(r->disk));
    kv_init(&r->kv, r->env.ctx, FOLDER);
}

/* With memory again, everything is as it was told. */
static void round_end(struct round *r)
{
    if (!r->kv.s)
        assert_int_equal(kv_open(&r->kv), 0);
    check_all(r, true);
    assert_int_equal(kv_put(&r->kv, "x", "a", "end"), 0);
    kv_close(&r->kv);
    assert_int_equal(r->kv.salvaged.calls, 0);
    r->env.log_errors = 0;
    test_env_fini(&r->env);
    powercut_free(r->disk);
}

static void nth_of_the_table_fails(void **state)
{
    (void)state;
    size_t n = 1, refused = 0;
    for (bool hit = true; hit; n++) {
        struct round r;
        round_begin(&r);
        test_alloc_fail_at(&r.env.alloc, n);
        work(&r);
        hit = atomic_load(&r.env.alloc.failed) > 0;
        test_alloc_fail_at(&r.env.alloc, 0);
        refused += r.refused > 0;
        round_end(&r);
    }
    print_message("%zu allocations, %zu told as KE_ENOMEM\n", n - 2, refused);
    assert_true(n > 20 && refused > 15);
}

static void sqlites_fail(bool all_after, size_t stride)
{
    size_t n = 1, refused = 0, rounds = 0;
    for (bool hit = true; hit; n += 1 + n / stride, rounds++) {
        struct round r;
        round_begin(&r);
        atomic_store(&failed, false);
        atomic_store(&lasting, all_after);
        atomic_store(&countdown, (long)n);
        work(&r);
        hit = atomic_load(&failed);
        atomic_store(&countdown, 0);
        refused += r.refused > 0;
        round_end(&r);
    }
    print_message("%zu allocations tried of %zu, %zu told as KE_ENOMEM\n", rounds, n, refused);
    assert_true(rounds > 50 && refused > 50);
}

static void nth_of_sqlite_fails(void **state)
{
    (void)state;
    sqlites_fail(false, 1000000);
}

static void all_of_sqlite_fail_from_the_nth(void **state)
{
    (void)state;
    sqlites_fail(true, 60);
}

/* One opening of a damaged file, with an allocation that fails; false when there was none left. */
static bool salvage_round(bool table, size_t n)
{
    struct round r;
    size_t size = 0;
    round_begin(&r);
    assert_int_equal(kv_open(&r.kv), 0);
    write_one(&r, 0, "one");
    write_one(&r, 1, "two");
    kv_close(&r.kv);
    unsigned char *db = powercut_get(r.disk, FOLDER "/kubeedge.db", &size);
    memset(db, 'x', 100);
    powercut_put(r.disk, FOLDER "/kubeedge.db", db, size);
    free(db);
    atomic_store(&failed, false);
    atomic_store(&lasting, false);
    if (table)
        test_alloc_fail_at(&r.env.alloc, n);
    else
        atomic_store(&countdown, (long)n);
    int status = kv_open(&r.kv);
    bool hit = table ? atomic_load(&r.env.alloc.failed) > 0 : atomic_load(&failed);
    test_alloc_fail_at(&r.env.alloc, 0);
    atomic_store(&countdown, 0);
    if (status != 0 && status != KE_ENOMEM)
        fail_msg("open gave %s: %s", ke_strerror(status), ke_ctx_error(r.env.ctx));
    if (status != 0)
        assert_int_equal(kv_open(&r.kv), 0);
    check_all(&r, true);
    kv_close(&r.kv);
    assert_int_equal(r.kv.salvaged.calls, 1);
    assert_int_equal(r.kv.salvaged.saved, 2);
    assert_int_equal(r.kv.salvaged.lost, 0);
    r.env.log_errors = 0;
    test_env_fini(&r.env);
    powercut_free(r.disk);
    return hit;
}

/* Salvage without memory is not a loss: it says so, and the next opening does it. */
static void salvage_without_memory(void **state)
{
    (void)state;
    size_t table = 1, sqlite = 1;
    while (salvage_round(true, table))
        table++;
    while (salvage_round(false, sqlite))
        sqlite++;
    print_message("%zu allocations of the table, %zu of SQLite\n", table - 1, sqlite - 1);
    assert_true(table > 8 && sqlite > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nth_of_the_table_fails),
        cmocka_unit_test(nth_of_sqlite_fails),
        cmocka_unit_test(all_of_sqlite_fail_from_the_nth),
        cmocka_unit_test(salvage_without_memory),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
