/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue: transactions of a turn share a sync and a fate, answers come in the order of the
 * calls, reads see what was committed before them and nothing that failed.
 */
#include <semaphore.h>

#include "sim/powercut_io.h"
#include "store/store_support.h"

#define MAX_EVENTS 4000

struct fixture {
    struct test_env env;
    struct powercut *disk;
    struct kv kv;
    atomic_int log_syncs;
    atomic_int fail_write; /* the n-th write to the log from now on: no space */
    /* what callbacks told, in order: numbers the test gave them, negative for a failure */
    int events[MAX_EVENTS];
    int n_events;
};

static int observe(void *user, const struct powercut_op *op)
{
    struct fixture *f = user;
    bool log = op->path && strstr(op->path, "-wal");
    if (log && op->kind == POWERCUT_SYNC && op->pending_hi > 32)
        atomic_fetch_add(&f->log_syncs, 1);
    if (log && op->kind == POWERCUT_WRITE && atomic_load(&f->fail_write) > 0 &&
        atomic_fetch_sub(&f->fail_write, 1) == 1)
        return KE_ENOSPC;
    return 0;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->disk = powercut_new();
    powercut_fault(f->disk, observe, f);
    test_env_init_io(&f->env, 0, powercut_io(f->disk));
    kv_init(&f->kv, f->env.ctx, "/data");
    assert_int_equal(kv_open(&f->kv), 0);
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

/* ---- calls that leave their number when they are answered ---- */

struct call {
    struct fixture *f;
    int number;
    char want[32]; /* a get: the value, "" for none */
};

static void event(struct call *c, int status)
{
    assert_true(c->f->n_events < MAX_EVENTS);
    c->f->events[c->f->n_events++] = status == 0 ? c->number : status;
}

static void on_commit(void *user, int status)
{
    struct call *c = user;
    event(c, status);
    free(c);
}

static void on_get(void *user, int status, const struct ke_store_item *item)
{
    struct call *c = user;
    if (status == KE_ENOTFOUND && !c->want[0])
        status = 0;
    else if (item && strcmp(item->value, c->want) != 0)
        fail_msg("get %d gave %s and not %s", c->number, (const char *)item->value, c->want);
    event(c, status);
    free(c);
}

static struct call *call(struct fixture *f, int number, const char *want)
{
    struct call *c = calloc(1, sizeof *c);
    c->f = f;
    c->number = number;
    (void)snprintf(c->want, sizeof c->want, "%s", want);
    return c;
}

static void put(struct fixture *f, int number, const char *key, const char *value)
{
    struct ke_store_tx *tx = NULL;
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "b", key, NULL, 0, value, strlen(value)), 0);
    assert_int_equal(ke_store_commit(tx, on_commit, call(f, number, "")), 0);
}

static void get(struct fixture *f, int number, const char *key, const char *want)
{
    assert_int_equal(ke_store_get(f->kv.s, "b", key, on_get, call(f, number, want)), 0);
}

static void wait_events(struct fixture *f, int n)
{
    while (f->n_events < n)
        kv_turn(&f->kv);
}

static void expect_events(struct fixture *f, const int *want, int n)
{
    wait_events(f, n);
    assert_int_equal(f->n_events, n);
    for (int i = 0; i < n; i++)
        if (f->events[i] != want[i])
            fail_msg("event %d is %d and not %d", i, f->events[i], want[i]);
    f->n_events = 0;
}

/* ---- the disk worker, held ---- */

struct hold {
    struct kei_work work;
    sem_t begun, go;
};

static void hold_run(struct kei_work *w)
{
    struct hold *h = KEI_OF(w, struct hold, work);
    sem_post(&h->begun);
    sem_wait(&h->go);
}

static void hold_done(struct kei_work *w)
{
    (void)w;
}

static void hold_begin(struct hold *h, struct fixture *f)
{
    sem_init(&h->begun, 0, 0);
    sem_init(&h->go, 0, 0);
    assert_int_equal(kei_work_submit(f->env.ctx, &h->work, hold_run, hold_done), 0);
    sem_wait(&h->begun);
}

static void hold_end(struct hold *h)
{
    sem_post(&h->go);
}

/* ---- tests ---- */

static void one_sync_for_a_turn(void **state)
{
    struct fixture *f = *state;
    int want[100];
    put(f, 0, "warm", "up"); /* the log begins with a sync of its header */
    wait_events(f, 1);
    f->n_events = 0;
    atomic_store(&f->log_syncs, 0);
    for (int i = 0; i < 100; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "%d", i);
        put(f, i + 1, key, "v");
        want[i] = i + 1;
    }
    expect_events(f, want, 100);
    assert_int_equal(atomic_load(&f->log_syncs), 1);
}

static void slow_disk_gathers(void **state)
{
    struct fixture *f = *state;
    struct hold hold;
    int want[50];
    put(f, 0, "warm", "up");
    wait_events(f, 1);
    f->n_events = 0;
    atomic_store(&f->log_syncs, 0);
    hold_begin(&hold, f);
    for (int i = 0; i < 50; i++) { /* each in a turn of its own */
        char key[8];
        (void)snprintf(key, sizeof key, "%d", i);
        put(f, i + 1, key, "v");
        want[i] = i + 1;
        assert_int_equal(ke_ctx_dispatch(f->env.ctx), 0);
        assert_int_equal(f->n_events, 0);
    }
    hold_end(&hold);
    expect_events(f, want, 50);
    assert_int_equal(atomic_load(&f->log_syncs), 2); /* the one under way, and all the others */
    sem_destroy(&hold.begun);
    sem_destroy(&hold.go);
}

static void reads_keep_their_place(void **state)
{
    struct fixture *f = *state;
    get(f, 1, "k", "");
    put(f, 2, "k", "one");
    get(f, 3, "k", "one");
    put(f, 4, "k", "two");
    put(f, 5, "k", "three");
    get(f, 6, "k", "three");
    get(f, 7, "none", "");
    expect_events(f, (int[]){1, 2, 3, 4, 5, 6, 7}, 7);
    get(f, 1, "k", "three");
    expect_events(f, (int[]){1}, 1);
}

static void failed_group_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    put(f, 1, "k", "before");
    wait_events(f, 1);
    f->n_events = 0;
    atomic_store(&f->fail_write, 3);
    get(f, 1, "k", "before");
    put(f, 2, "k", "lost");
    get(f, 3, "k", "before");
    put(f, 4, "other", "lost");
    get(f, 5, "other", "");
    expect_events(f, (int[]){1, KE_ENOSPC, 3, KE_ENOSPC, 5}, 5);
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), "/data"));
    put(f, 6, "k", "after");
    get(f, 7, "k", "after");
    expect_events(f, (int[]){6, 7}, 2);
}

struct listing {
    struct fixture *f;
    int rows, status;
    bool done;
    size_t bytes;
};

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct listing *l = user;
    assert_false(l->done);
    if (!item) {
        l->done = true;
        l->status = status;
        event(&(struct call){.f = l->f, .number = 1000}, status);
        return;
    }
    char key[16];
    (void)snprintf(key, sizeof key, "%04d", l->rows++);
    assert_string_equal(item->key, key);
    assert_string_equal(item->bucket, "list");
    l->bytes += item->len;
    /* nothing that was committed behind the list is seen in it, however many pieces it has */
    assert_true(item->version == 1);
}

static void list_is_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct ke_store_tx *tx;
    struct listing l = {.f = f};
    char *value = calloc(1, 9000);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    for (int i = 0; i < 300; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%04d", i);
        assert_int_equal(ke_store_put(tx, "list", key, NULL, 1, value, 9000), 0);
    }
    assert_int_equal(kv_commit(&f->kv, tx), 0);
    size_t before = atomic_load(&f->env.alloc.live_bytes);
    atomic_store(&f->env.alloc.peak_bytes, before);
    assert_int_equal(ke_store_list(f->kv.s, "list", "", 0, on_row, &l), 0);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "list", "0250", NULL, 2, "x", 1), 0);
    assert_int_equal(ke_store_put(tx, "list", "0299x", NULL, 2, "x", 1), 0);
    assert_int_equal(ke_store_delete(tx, "list", "0280", NULL), 0);
    assert_int_equal(ke_store_commit(tx, on_commit, call(f, 1001, "")), 0);
    expect_events(f, (int[]){1000, 1001}, 2);
    assert_int_equal(l.status, 0);
    assert_int_equal(l.rows, 300);
    assert_int_equal(l.bytes, 300 * 9000);
    /* 2.7 MB went through a window of a quarter of one */
    assert_true(atomic_load(&f->env.alloc.peak_bytes) - before < 400000);
    struct rows rows;
    kv_list(&f->kv, "list", "02", 0, &rows);
    assert_int_equal(rows.n, 100);
    assert_int_equal(rows_find(&rows, "list", "0250")->version, 2);
    rows_free(&rows);
    free(value);
}

/* ---- calls from callbacks ---- */

struct chain {
    struct fixture *f;
    int left;
    bool done;
};

static void on_link(void *user, int status)
{
    struct chain *c = user;
    struct ke_store_tx *tx = NULL;
    assert_int_equal(status, 0);
    if (c->left-- == 0) {
        c->done = true;
        return;
    }
    assert_int_equal(ke_store_begin(&tx, c->f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "chain", "k", NULL, c->left, "v", 1), 0);
    assert_int_equal(ke_store_commit(tx, on_link, c), 0);
}

static void callbacks_may_call(void **state)
{
    struct fixture *f = *state;
    struct chain c = {.f = f, .left = 50};
    on_link(&c, 0);
    kv_until(&f->kv, &c.done);
}

static void empty_and_aborted(void **state)
{
    struct fixture *f = *state;
    struct ke_store_tx *tx;
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(kv_commit(&f->kv, tx), 0);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "b", "k", NULL, 0, "v", 1), 0);
    ke_store_abort(tx);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "b", "k2", NULL, 0, "v", 1), 0);
    assert_int_equal(ke_store_commit(tx, NULL, NULL), 0);
    get(f, 1, "k", "");
    get(f, 2, "k2", "v");
    expect_events(f, (int[]){1, 2}, 2);
}

static void order_within_a_transaction(void **state)
{
    struct fixture *f = *state;
    struct ke_store_tx *tx;
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "b", "a", NULL, 0, "1", 1), 0);
    assert_int_equal(ke_store_delete(tx, "b", "a", NULL), 0);
    assert_int_equal(ke_store_put(tx, "b", "c", NULL, 0, "1", 1), 0);
    assert_int_equal(ke_store_delete_prefix(tx, "b", ""), 0);
    assert_int_equal(ke_store_put(tx, "b", "c", NULL, 0, "2", 1), 0);
    assert_int_equal(kv_commit(&f->kv, tx), 0);
    get(f, 1, "a", "");
    get(f, 2, "c", "2");
    expect_events(f, (int[]){1, 2}, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_sync_for_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_disk_gathers, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_keep_their_place, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_group_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(list_is_a_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(callbacks_may_call, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_and_aborted, setup, teardown),
        cmocka_unit_test_setup_teardown(order_within_a_transaction, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
