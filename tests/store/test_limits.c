/* SPDX-License-Identifier: Apache-2.0 */
/* The limits: what goes over them is refused by name and value, loses nothing, and ends by itself.
 */
#include "sim/powercut_io.h"
#include "store/store_support.h"

struct fixture {
    struct test_env env;
    struct powercut *disk;
    struct kv kv;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->disk = powercut_new();
    test_env_init_io(&f->env, 0, powercut_io(f->disk));
    kv_init(&f->kv, f->env.ctx, "/data");
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    kv_close(&f->kv);
    test_env_fini(&f->env);
    powercut_free(f->disk);
    free(f);
    return 0;
}

static void value_over_its_limit(void **state)
{
    struct fixture *f = *state;
    char *big = calloc(1, 500001);
    f->kv.conf.max_value = 500000;
    assert_int_equal(kv_open(&f->kv), 0);
    assert_int_equal(kv_put_bytes(&f->kv, "b", "k", big, 500000), 0);
    assert_int_equal(kv_put_bytes(&f->kv, "b", "k", big, 500001), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), "max_value (500000)"));
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), "b/k"));
    free(big);
    /* a smaller limit later on does not take away what is there */
    kv_close(&f->kv);
    f->kv.conf.max_value = 100;
    assert_int_equal(kv_open(&f->kv), 0);
    struct rows rows;
    kv_list(&f->kv, NULL, "", 0, &rows);
    assert_int_equal(rows.status, 0);
    assert_int_equal(rows.n, 1);
    assert_int_equal(rows.row[0].len, 500000);
    rows_free(&rows);
}

/* Grown to its limit: refused with the limit's name; deleting makes room again. */
static void database_at_its_limit(void **state)
{
    struct fixture *f = *state;
    char key[16], *value = NULL, big[20000];
    int n = 0, r = 0;
    memset(big, 'x', sizeof big);
    f->kv.conf.max_bytes = 1u << 20;
    assert_int_equal(kv_open(&f->kv), 0);
    for (; r == 0; n++) {
        (void)snprintf(key, sizeof key, "%04d", n);
        r = kv_put_bytes(&f->kv, "b", key, big, sizeof big);
    }
    assert_int_equal(r, KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), "max_bytes (1048576)"));
    assert_true(n > 40 && n < 55);
    struct rows rows;
    kv_list(&f->kv, "b", "", 0, &rows);
    assert_int_equal(rows.n, n - 1);
    rows_free(&rows);
    assert_int_equal(kv_put_bytes(&f->kv, "b", "0000", "small", 5), 0);
    assert_int_equal(kv_delete(&f->kv, "b", "0001"), 0);
    assert_int_equal(kv_put_bytes(&f->kv, "b", "again", big, sizeof big), 0);
    assert_int_equal(kv_get(&f->kv, "b", "0000", &value), 0);
    assert_string_equal(value, "small");
    free(value);
    size_t size = 0;
    kv_close(&f->kv);
    free(powercut_get(f->disk, "/data/kubeedge.db", &size));
    assert_true(size <= 1u << 20);
}

static void count_done(void *user, int status)
{
    assert_int_equal(status, 0);
    ++*(int *)user;
}

static void keep_status(void *user, int status)
{
    *(int *)user = status;
}

static void commit_row(struct fixture *f, const char *key, size_t len, int *status)
{
    struct ke_store_tx *tx = NULL;
    char *value = malloc(len);
    assert_non_null(value);
    memset(value, 'x', len);
    *status = 1;
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "b", key, NULL, 0, value, len), 0);
    assert_int_equal(ke_store_commit(tx, keep_status, status), 0);
    free(value);
}

/* What shares a turn with a transaction that is too large does not share its fate. */
static void too_large_is_its_own_affair(void **state)
{
    struct fixture *f = *state;
    char *value = NULL;
    int before, large, after;
    f->kv.conf.max_bytes = 1u << 20;
    assert_int_equal(kv_open(&f->kv), 0);
    commit_row(f, "before", 10, &before);
    commit_row(f, "large", 2u << 20, &large);
    commit_row(f, "after", 10, &after);
    while (before == 1 || large == 1 || after == 1)
        kv_turn(&f->kv);
    assert_int_equal(before, 0);
    assert_int_equal(large, KE_ELIMIT);
    assert_int_equal(after, 0);
    assert_int_equal(kv_get(&f->kv, "b", "large", &value), KE_ENOTFOUND);
    assert_int_equal(kv_get(&f->kv, "b", "before", &value), 0);
    free(value);
    assert_int_equal(kv_get(&f->kv, "b", "after", &value), 0);
    free(value);
    kv_close(&f->kv);
}

/* A host that writes faster than the disk takes it is stopped, not its memory. */
static void queue_over_its_limit(void **state)
{
    struct fixture *f = *state;
    int done = 0, sent = 0, r = 0;
    char *big = calloc(1, 1u << 20);
    f->kv.conf.max_value = 1u << 20; /* so the bound is its least: 64 MiB */
    assert_int_equal(kv_open(&f->kv), 0);
    size_t before = atomic_load(&f->env.alloc.live_bytes);
    while (r == 0) {
        struct ke_store_tx *tx = NULL;
        r = ke_store_begin(&tx, f->kv.s);
        if (r == 0 && (r = ke_store_put(tx, "b", "k", NULL, 0, big, 1u << 20)) < 0)
            ke_store_abort(tx);
        if (r == 0 && (r = ke_store_commit(tx, count_done, &done)) == 0)
            sent++;
    }
    assert_int_equal(r, KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), "67108864"));
    assert_int_equal(sent, 63);
    assert_true(atomic_load(&f->env.alloc.live_bytes) - before < 66u << 20);
    while (done < sent)
        kv_turn(&f->kv);
    assert_int_equal(kv_put_bytes(&f->kv, "b", "k", big, 1u << 20), 0);
    free(big);
}

/* A transaction that is never committed counts, too, until it is aborted. */
static void open_transactions_count(void **state)
{
    struct fixture *f = *state;
    struct ke_store_tx *tx = NULL, *other = NULL;
    char *big = calloc(1, 1u << 20);
    int r = 0;
    f->kv.conf.max_value = 1u << 20;
    assert_int_equal(kv_open(&f->kv), 0);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    while (r == 0)
        r = ke_store_put(tx, "b", "k", NULL, 0, big, 1u << 20);
    assert_int_equal(r, KE_ELIMIT);
    assert_int_equal(ke_store_begin(&other, f->kv.s), 0);
    assert_int_equal(ke_store_put(other, "b", "k", NULL, 0, big, 1u << 20), KE_ELIMIT);
    ke_store_abort(tx);
    ke_store_abort(other);
    assert_int_equal(kv_put_bytes(&f->kv, "b", "k", big, 1u << 20), 0);
    free(big);
}

/* The log does not grow with the number of commits. */
static void log_is_written_back(void **state)
{
    struct fixture *f = *state;
    char big[3000] = {0};
    size_t most = 0, n = 0;
    assert_int_equal(kv_open(&f->kv), 0);
    for (int i = 0; i < 2000; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%d", i % 50);
        assert_int_equal(kv_put_bytes(&f->kv, "b", key, big, sizeof big), 0);
        if (i % 10 == 0) {
            free(powercut_get(f->disk, "/data/kubeedge.db-wal", &n));
            most = n > most ? n : most;
        }
    }
    assert_true(most < 256u * 4120u + 65536u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(value_over_its_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(database_at_its_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(too_large_is_its_own_affair, setup, teardown),
        cmocka_unit_test_setup_teardown(queue_over_its_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(open_transactions_count, setup, teardown),
        cmocka_unit_test_setup_teardown(log_is_written_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
