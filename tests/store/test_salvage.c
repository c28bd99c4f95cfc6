/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage: whatever happens to the bytes, opening and listing do not crash, what comes back is what
 * was written, and what is missing is told. KE_DAMAGES: how many random damages (default 1000).
 */
#include <semaphore.h>

#include "sim/powercut_io.h"
#include "store/powercut_model.h"

#define FOLDER "/data"
#define DB FOLDER "/kubeedge.db"
#define WAL FOLDER "/kubeedge.db-wal"

/* ---- a disk with a store on it, as it was left ---- */

struct left {
    struct powercut *disk;
    struct model model;
};

/* turns of transactions; killed: with a log that was not written back. */
static void make_left(struct left *l, uint64_t seed, int turns, bool killed)
{
    struct test_env env;
    struct kv kv;
    struct powercut *disk = powercut_new();
    size_t pos = 0;
    *l = (struct left){0};
    test_env_init_io(&env, 0, powercut_io(disk));
    kv_init(&kv, env.ctx, FOLDER);
    assert_int_equal(kv_open(&kv), 0);
    for (int i = 0; i < turns; i++) {
        struct ke_store_tx *tx = NULL;
        assert_int_equal(ke_store_begin(&tx, kv.s), 0);
        model_fill(&l->model, tx, &seed, i % 3 == 0);
        assert_int_equal(kv_commit(&kv, tx), 0);
        pos = powercut_pos(disk);
    }
    kv_close(&kv);
    test_env_fini(&env);
    l->disk = powercut_image(disk, killed ? pos : powercut_pos(disk), 1);
    powercut_free(disk);
}

static void left_free(struct left *l)
{
    powercut_free(l->disk);
}

/* ---- looking at what is left of it ---- */

struct look {
    int open;   /* what ke_store_open returned */
    int listed; /* status of the list */
    size_t rows, missing, stale;
    struct salvaged salvaged;
    char error[KE_ERROR_TEXT_MAX];
};

/* Each row must be one that was written, byte for byte. */
static void judge(const struct model *m, const struct rows *rows, struct look *k)
{
    short have[MODEL_KEYS] = {0};
    for (size_t i = 0; i < rows->n; i++) {
        const struct row *r = &rows->row[i];
        int key = atoi(r->key), t = (int)r->version;
        bool known = (!strcmp(r->bucket, "k") || !strcmp(r->bucket, "last")) && key >= 0 &&
                     key < MODEL_KEYS && t > 0 && t <= m->n;
        size_t n = 0;
        if (!known)
            fail_msg("row %s/%s of transaction %d was never written", r->bucket, r->key, t);
        unsigned char *p = model_value(t, key, &n);
        if (n != r->len || memcmp(p, r->value, n) != 0)
            fail_msg("row %s/%s of transaction %d has other bytes", r->bucket, r->key, t);
        free(p);
        if (!strcmp(r->bucket, "k")) {
            have[key] = (short)t;
            k->stale += t != m->state[m->n][key];
        } else {
            k->stale += t != m->n;
        }
    }
    for (int key = 0; key < MODEL_KEYS; key++)
        k->missing += m->state[m->n][key] != 0 && have[key] == 0;
    k->missing += !rows_find(rows, "last", "00");
    k->rows = rows->n;
}

static void look_at(struct left *l, struct powercut *disk, const char *const *first, struct look *k)
{
    struct test_env env;
    struct kv kv;
    struct rows rows = {0};
    *k = (struct look){0};
    test_env_init_io(&env, 0, powercut_io(disk));
    kv_init(&kv, env.ctx, FOLDER);
    kv.conf.first = first;
    k->open = kv_open(&kv);
    if (k->open == 0) {
        kv_list(&kv, NULL, "", 0, &rows);
        k->listed = rows.status;
        judge(&l->model, &rows, k);
        rows_free(&rows);
        /* it works again, and the check of the whole comes to its end */
        if (k->listed == 0) {
            assert_int_equal(kv_put(&kv, "last", "00", "x"), 0);
            test_settle(&env);
        }
    }
    (void)snprintf(k->error, sizeof k->error, "%s", ke_ctx_error(env.ctx));
    kv_close(&kv);
    k->salvaged = kv.salvaged;
    env.log_errors = 0;
    test_env_fini(&env);
}

/* ---- damage ---- */

static void damage(unsigned char *p, size_t *n, uint64_t *rng)
{
    switch (powercut_below(rng, 8)) {
    case 0: /* cut off */
        *n = (size_t)powercut_below(rng, *n + 1);
        break;
    case 1: { /* sectors lost */
        size_t at = (size_t)powercut_below(rng, *n / 512 + 1) * 512;
        for (size_t i = at; i < *n && i < at + 512 * (1 + powercut_below(rng, 10)); i++)
            p[i] = 0;
        break;
    }
    case 2: { /* one written over another */
        size_t to = (size_t)powercut_below(rng, *n / 512 + 1) * 512;
        size_t from = (size_t)powercut_below(rng, *n / 512 + 1) * 512;
        for (size_t i = 0; i < 512 && to + i < *n && from + i < *n; i++)
            p[to + i] = p[from + i];
        break;
    }
    case 3: { /* in a header of a page */
        size_t at = (size_t)(powercut_below(rng, *n / 4096 + 1) * 4096 + powercut_below(rng, 12));
        if (at < *n)
            p[at] ^= (unsigned char)(1 + powercut_below(rng, 255));
        break;
    }
    default: /* a few bytes anywhere */
        for (uint64_t i = powercut_below(rng, 4); *n > 0; i--) {
            p[powercut_below(rng, *n)] ^= (unsigned char)(1 + powercut_below(rng, 255));
            if (i == 0)
                break;
        }
    }
}

static struct powercut *damaged_copy(struct left *l, const char *path, uint64_t *rng)
{
    struct powercut *disk = powercut_image(l->disk, powercut_pos(l->disk), 1);
    size_t n = 0;
    unsigned char *p = powercut_get(disk, path, &n);
    assert_non_null(p);
    damage(p, &n, rng);
    powercut_put(disk, path, p, n);
    free(p);
    return disk;
}

static int damages(void)
{
    const char *env = getenv("KE_DAMAGES");
    int n = env ? atoi(env) : 1000;
    return n > 10 ? n : 10;
}

static uint64_t seed_of(const char *name)
{
    const char *env = getenv("KE_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 10) : 1;
    print_message("%s: seed %llu (KE_SEED)\n", name, (unsigned long long)seed);
    return seed * 7368787;
}

/* The file was closed: nothing may be missing or old without a word. */
static void random_damage_to_the_file(void **state)
{
    (void)state;
    uint64_t rng = seed_of("damage to the file");
    struct left l = {0};
    size_t lost = 0, told = 0, whole = 0;
    int n = damages() * 7 / 10;
    for (int i = 0; i < n; i++) {
        struct look k;
        if (i % 50 == 0) {
            left_free(&l);
            make_left(&l, powercut_random(&rng), 20 + i % 40, false);
        }
        struct powercut *disk = damaged_copy(&l, DB, &rng);
        look_at(&l, disk, NULL, &k);
        if (k.open != 0 || k.listed != 0)
            fail_msg("%d: open %d list %d: %s", i, k.open, k.listed, k.error);
        if (k.missing + k.stale > 0 && (k.salvaged.calls == 0 || k.salvaged.lost == 0))
            fail_msg("%d: %zu rows missing, %zu old, and nothing said (%s)", i, k.missing, k.stale,
                     k.salvaged.text);
        if (k.stale > 0)
            fail_msg("%d: %zu rows came back from the past", i, k.stale);
        lost += k.missing;
        told += k.salvaged.calls > 0;
        whole += k.missing == 0;
        powercut_free(disk);
    }
    left_free(&l);
    print_message("count: %d damages: %zu salvaged, %zu without loss, %zu rows lost in all\n", n,
                  told, whole, lost);
    assert_true(told > 0 && whole > 0);
}

/* With a log: a row may also be as it was at an earlier time, when the log's newer part is lost. */
static void random_damage_with_a_log(void **state)
{
    (void)state;
    uint64_t rng = seed_of("damage with a log");
    static const char *const first[] = {"last", "k", NULL};
    struct left l = {0};
    int n = damages() * 3 / 10;
    size_t told = 0, lost = 0, stale = 0, quiet = 0;
    for (int i = 0; i < n; i++) {
        struct look k;
        if (i % 50 == 0) {
            left_free(&l);
            make_left(&l, powercut_random(&rng), 20 + i % 40, true);
        }
        struct powercut *disk = damaged_copy(&l, i % 2 ? WAL : DB, &rng);
        look_at(&l, disk, first, &k);
        if (k.open != 0 || k.listed != 0)
            fail_msg("%d: open %d list %d: %s", i, k.open, k.listed, k.error);
        told += k.salvaged.calls > 0;
        lost += k.missing;
        stale += k.stale;
        /* the end of a log that is damaged looks like a transaction that was cut */
        quiet += k.salvaged.calls == 0 && k.missing + k.stale > 0;
        if (i % 2 == 0 && k.salvaged.calls == 0 && k.missing + k.stale > 0)
            fail_msg("%d: %zu rows missing, %zu old, and nothing said", i, k.missing, k.stale);
        powercut_free(disk);
    }
    left_free(&l);
    print_message("count: %d damages: %zu salvaged, %zu rows lost, %zu old, %zu times unnoticed\n",
                  n, told, lost, stale, quiet);
    assert_true(told > 0);
}

/* ---- particular damage ---- */

static void put_bytes(struct powercut *disk, size_t at, const void *bytes, size_t len)
{
    size_t n = 0;
    unsigned char *p = powercut_get(disk, DB, &n);
    assert_non_null(p);
    assert_true(at + len <= n);
    memcpy(p + at, bytes, len);
    powercut_put(disk, DB, p, n);
    free(p);
}

static void header_garbage_loses_nothing(void **state)
{
    (void)state;
    struct left l;
    struct look k;
    make_left(&l, 3, 30, false);
    put_bytes(l.disk, 0, "this is no database, it says so at its very beginning, and on it goes so",
              72);
    look_at(&l, l.disk, NULL, &k);
    assert_int_equal(k.open, 0);
    assert_int_equal(k.salvaged.calls, 1);
    assert_int_equal(k.salvaged.lost, 0);
    assert_int_equal(k.missing, 0);
    assert_int_equal(k.stale, 0);
    assert_non_null(strstr(k.salvaged.text, FOLDER));
    left_free(&l);
}

/* A page of values: what it holds is lost, what it does not hold is not, and the number is right.
 */
static void one_page_lost(void **state)
{
    (void)state;
    struct left l;
    unsigned char zeros[4096] = {0};
    size_t n = 0, tried = 0;
    make_left(&l, 4, 40, false);
    free(powercut_get(l.disk, DB, &n));
    for (size_t at = 4096; at + 4096 <= n; at += 4096) {
        struct look k;
        struct powercut *disk = powercut_image(l.disk, powercut_pos(l.disk), 1);
        put_bytes(disk, at, zeros, sizeof zeros);
        look_at(&l, disk, NULL, &k);
        assert_int_equal(k.open, 0);
        assert_int_equal(k.listed, 0);
        assert_int_equal(k.stale, 0);
        if (k.salvaged.calls && k.salvaged.lost != UINT64_MAX) {
            assert_int_equal(k.salvaged.lost, k.missing);
            tried++;
        }
        if (k.missing)
            assert_int_equal(k.salvaged.calls, 1);
        powercut_free(disk);
    }
    assert_true(tried > 5);
    left_free(&l);
}

/*
 * A page of the index that has lost its last entry is a good page to SQLite, and a row that nobody
 * finds any more. The sums of the pages find it.
 */
static void index_damage_is_not_silent(void **state)
{
    (void)state;
    struct left l;
    struct look k;
    size_t n = 0;
    make_left(&l, 13, 30, false);
    unsigned char *db = powercut_get(l.disk, DB, &n), *page = db + 2 * 4096;
    assert_int_equal(page[0], 0x0a); /* the leaf of the index: its root, there are few rows */
    assert_true(page[4] > 5);
    page[4]--;
    powercut_put(l.disk, DB, db, n);
    free(db);
    look_at(&l, l.disk, NULL, &k);
    assert_int_equal(k.open, 0);
    assert_int_equal(k.listed, 0);
    assert_int_equal(k.missing, 0);
    assert_int_equal(k.salvaged.calls, 1);
    left_free(&l);
}

/* The host is told, also when the process that salvaged is gone before it could; and told once. */
static void told_until_heard(void **state)
{
    (void)state;
    struct left l;
    struct test_env env;
    struct kv kv;
    make_left(&l, 12, 20, false);
    put_bytes(l.disk, 0, "garbage", 7);
    for (int i = 0; i < 3; i++) {
        test_env_init_io(&env, 0, powercut_io(l.disk));
        kv_init(&kv, env.ctx, FOLDER);
        assert_int_equal(kv_open(&kv), 0);
        size_t pos = powercut_pos(l.disk);
        if (i > 0)
            test_settle(&env);
        assert_int_equal(kv.salvaged.calls, i == 1);
        kv_close(&kv);
        assert_true(i != 1 || kv.salvaged.saved > 3);
        test_env_fini(&env);
        if (i == 0) { /* killed as soon as it was open */
            struct powercut *disk = powercut_killed(l.disk, pos);
            powercut_free(l.disk);
            l.disk = disk;
        }
    }
    left_free(&l);
}

static size_t count_names(struct powercut *disk, const char *part)
{
    char *tree = powercut_tree(disk);
    size_t n = 0;
    for (const char *p = tree; (p = strstr(p, part)) != NULL; p++)
        n++;
    free(tree);
    return n;
}

/* Nothing can be read: the old file is kept, the store starts empty, the host is told. */
static void nothing_left(void **state)
{
    (void)state;
    struct left l;
    struct look k;
    unsigned char junk[20000];
    uint64_t rng = 9;
    make_left(&l, 5, 5, false);
    for (int i = 1; i <= 5; i++) {
        for (size_t j = 0; j < sizeof junk; j++)
            junk[j] = (unsigned char)powercut_random(&rng);
        junk[100] = (unsigned char)i;
        powercut_put(l.disk, DB, junk, sizeof junk);
        look_at(&l, l.disk, NULL, &k);
        assert_int_equal(k.open, 0);
        assert_int_equal(k.rows, 0);
        assert_int_equal(k.salvaged.calls, 1);
        assert_int_equal(k.salvaged.saved, 0);
        assert_true(k.salvaged.lost == UINT64_MAX);
        assert_int_equal(count_names(l.disk, "damaged-"), i < 3 ? i : 3);
    }
    /* the newest ones are those that were kept */
    for (int i = 1; i <= 3; i++) {
        char path[64];
        size_t n = 0;
        (void)snprintf(path, sizeof path, DB ".damaged-%d", i);
        unsigned char *p = powercut_get(l.disk, path, &n);
        assert_non_null(p);
        assert_int_equal(p[100], i + 2);
        free(p);
    }
    left_free(&l);
}

static void empty_file(void **state)
{
    (void)state;
    struct left l;
    struct look k;
    make_left(&l, 6, 20, true); /* its log is whole */
    powercut_put(l.disk, DB, "", 0);
    look_at(&l, l.disk, NULL, &k);
    assert_int_equal(k.open, 0);
    assert_int_equal(k.salvaged.calls, 1);
    assert_true(k.rows > 0);
    left_free(&l);
}

/* A store of 400 rows of 3000 bytes, most of which were written back; it stays open. */
static void big_begin(struct test_env *env, struct kv *kv, struct powercut *disk)
{
    char big[3000];
    memset(big, 'v', sizeof big);
    test_env_init_io(env, 0, powercut_io(disk));
    kv_init(kv, env->ctx, FOLDER);
    kv->conf.cache_kib = 1; /* SQLite keeps ten pages or so */
    assert_int_equal(kv_open(kv), 0);
    for (int i = 0; i < 400; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%03d", i);
        assert_int_equal(kv_put_bytes(kv, "b", key, big, sizeof big), 0);
    }
}

static void big_end(struct test_env *env, struct kv *kv)
{
    kv_close(kv);
    env->log_errors = 0;
    test_env_fini(env);
}

/* As it was left when the process was killed (or not). */
static struct powercut *make_big(bool killed)
{
    struct test_env env;
    struct kv kv;
    struct powercut *disk = powercut_new(), *left;
    big_begin(&env, &kv, disk);
    size_t pos = powercut_pos(disk);
    big_end(&env, &kv);
    left = powercut_image(disk, killed ? pos : powercut_pos(disk), 1);
    powercut_free(disk);
    return left;
}

static void zero_pages(struct powercut *disk, size_t from, size_t to)
{
    size_t n = 0;
    unsigned char *db = powercut_get(disk, DB, &n);
    assert_true(n > 200 * 4096);
    memset(db + from * 4096, 0, (to - from) * 4096);
    powercut_put(disk, DB, db, n);
    free(db);
}

/* Damage met while the store is open and in use. */
static void damage_while_open(void **state)
{
    (void)state;
    struct test_env env;
    struct kv kv;
    struct rows rows;
    struct powercut *disk = powercut_new();
    char *value = NULL;
    big_begin(&env, &kv, disk);
    zero_pages(disk, 20, 24);
    kv_list(&kv, "b", "", 0, &rows);
    assert_int_equal(rows.status, 0);
    assert_int_equal(kv.salvaged.calls, 1);
    assert_true(kv.salvaged.lost > 0 && kv.salvaged.lost < 8);
    assert_int_equal(rows.n + kv.salvaged.lost, 400);
    rows_free(&rows);
    assert_int_equal(kv_put(&kv, "b", "399", "new"), 0);
    assert_int_equal(kv_get(&kv, "b", "399", &value), 0);
    assert_string_equal(value, "new");
    free(value);
    kv_close(&kv);
    assert_int_equal(kv_open(&kv), 0);
    assert_int_equal(kv.salvaged.calls, 1);
    big_end(&env, &kv);
    powercut_free(disk);
}

/* ---- sectors that cannot be read ---- */

struct bad_sectors {
    int64_t from, to;
};

static int unreadable(void *user, const struct powercut_op *op)
{
    struct bad_sectors *b = user;
    if (op->kind == POWERCUT_RENAME && !strcmp(op->path2, DB))
        b->from = b->to = 0; /* the file of that name lies elsewhere from here on */
    bool hit = op->kind == POWERCUT_READ && !strcmp(op->path, DB) && op->off < b->to &&
               op->off + (int64_t)op->len > b->from;
    return hit ? KE_EIO : 0;
}

static void bad_sector_is_survived(void **state)
{
    (void)state;
    struct left l;
    struct look k;
    make_left(&l, 7, 40, false);
    size_t told = 0;
    for (int64_t page = 3; page < 12; page++) {
        struct bad_sectors bad = {page * 4096, page * 4096 + 512};
        struct powercut *disk = powercut_image(l.disk, powercut_pos(l.disk), 1);
        powercut_fault(disk, unreadable, &bad);
        look_at(&l, disk, NULL, &k);
        if (k.open != 0 || k.listed != 0)
            fail_msg("page %d: open %d list %d: %s", (int)page, k.open, k.listed, k.error);
        assert_int_equal(k.stale, 0);
        assert_true(k.missing == 0 || k.salvaged.lost > 0);
        told += k.salvaged.calls > 0;
        powercut_free(disk);
    }
    assert_true(told > 0);
    left_free(&l);
}

/* A disk that gives nothing at all is no reason to throw the file away. */
static void dead_disk_changes_nothing(void **state)
{
    (void)state;
    struct left l;
    struct look k;
    struct bad_sectors bad = {0, INT64_MAX};
    make_left(&l, 8, 30, false);
    powercut_fault(l.disk, unreadable, &bad);
    look_at(&l, l.disk, NULL, &k);
    assert_int_equal(k.open, KE_EIO);
    assert_non_null(strstr(k.error, FOLDER));
    powercut_fault(l.disk, NULL, NULL);
    look_at(&l, l.disk, NULL, &k);
    assert_int_equal(k.open, 0);
    assert_int_equal(k.salvaged.calls, 0);
    assert_int_equal(k.missing, 0);
    left_free(&l);
}

/* ---- the check after an unclean stop ---- */

/* Nobody reads the damaged rows, yet after an unclean stop they are found. */
static void check_finds_what_nobody_reads(void **state)
{
    (void)state;
    for (int killed = 0; killed < 2; killed++) {
        struct test_env env;
        struct kv kv;
        struct powercut *disk = make_big(killed);
        zero_pages(disk, 20, 24);
        test_env_init_io(&env, 0, powercut_io(disk));
        kv_init(&kv, env.ctx, FOLDER);
        assert_int_equal(kv_open(&kv), 0);
        test_settle(&env);
        assert_int_equal(kv.salvaged.calls, killed);
        assert_true(!killed || (kv.salvaged.lost > 0 && kv.salvaged.lost < 8));
        big_end(&env, &kv);
        powercut_free(disk);
    }
}

/*
 * What a cut left of a transaction is taken off the log at once: if it stayed, the remains of
 * several would one day look like damage to what is committed.
 */
static void torn_end_is_cut_off(void **state)
{
    (void)state;
    struct left l;
    struct test_env env;
    struct kv kv;
    size_t n = 0, whole = 0;
    make_left(&l, 14, 12, true);
    unsigned char *log = powercut_get(l.disk, WAL, &n);
    assert_true(n > 32 + 20 * 4120);
    for (size_t at = 32; at + 4120 <= n; at += 4120) /* the commit before the last one */
        if (at + 4120 < n - 4120 && (log[at + 4] | log[at + 5] | log[at + 6] | log[at + 7]))
            whole = at + 4120;
    assert_true(whole + 4120 < n);
    log[whole + 2000] ^= 1; /* the first page of the last one did not reach the disk */
    powercut_put(l.disk, WAL, log, n);
    free(log);
    test_env_init_io(&env, 0, powercut_io(l.disk));
    kv_init(&kv, env.ctx, FOLDER);
    assert_int_equal(kv_open(&kv), 0);
    assert_int_equal(kv.salvaged.calls, 0);
    free(powercut_get(l.disk, WAL, &n));
    assert_int_equal(n, whole);
    kv_close(&kv);
    assert_int_equal(kv.salvaged.calls, 0);
    test_env_fini(&env);
    left_free(&l);
}

struct watch {
    atomic_int pages; /* read of the database so far */
    int pages_then;   /* when the get was answered */
    bool done;
};

static int see(void *user, const struct powercut_op *op)
{
    struct watch *w = user;
    if (op->kind == POWERCUT_READ && !strcmp(op->path, DB))
        atomic_fetch_add(&w->pages, 1);
    return 0;
}

static void on_get(void *user, int status, const struct ke_store_item *item)
{
    struct watch *w = user;
    (void)item;
    assert_int_equal(status, 0);
    w->pages_then = atomic_load(&w->pages);
    w->done = true;
}

/* Reads of the host's first turns are answered before the check has looked at anything else. */
static void first_reads_come_first(void **state)
{
    (void)state;
    static const char *const first[] = {"b", NULL};
    struct test_env env;
    struct kv kv;
    struct watch w = {0};
    struct powercut *disk = make_big(true);
    test_env_init_io(&env, 0, powercut_io(disk));
    kv_init(&kv, env.ctx, FOLDER);
    kv.conf.first = first;
    assert_int_equal(kv_open(&kv), 0);
    powercut_fault(disk, see, &w);
    assert_int_equal(ke_store_get(kv.s, "b", "100", on_get, &w), 0);
    kv_until(&kv, &w.done);
    assert_true(w.pages_then < 10);
    test_settle(&env);
    assert_true(atomic_load(&w.pages) > 200);
    assert_int_equal(kv.salvaged.calls, 0);
    big_end(&env, &kv);
    powercut_free(disk);
}

struct gate {
    sem_t met, go;
    atomic_int left;  /* reads of the database until the gate */
    atomic_int after; /* reads behind it */
};

static int stop_at_gate(void *user, const struct powercut_op *op)
{
    struct gate *g = user;
    if (op->kind != POWERCUT_READ || strcmp(op->path, DB) != 0)
        return 0;
    int left = atomic_fetch_sub(&g->left, 1);
    if (left == 1) {
        sem_post(&g->met);
        sem_wait(&g->go);
    }
    if (left < 1)
        atomic_fetch_add(&g->after, 1);
    return 0;
}

struct gated {
    struct gate *gate;
    int after; /* reads between the question and its answer */
    bool done;
};

static void on_gated(void *user, int status, const struct ke_store_item *item)
{
    struct gated *g = user;
    (void)item;
    assert_int_equal(status, 0);
    g->after = atomic_load(&g->gate->after);
    g->done = true;
}

/* In the middle of the check of a large file a read is asked for: it does not wait for the end. */
static void check_gives_way(void **state)
{
    (void)state;
    struct test_env env;
    struct kv kv;
    struct gate gate = {.left = 60};
    struct gated gated = {.gate = &gate};
    struct powercut *disk = make_big(true);
    sem_init(&gate.met, 0, 0);
    sem_init(&gate.go, 0, 0);
    test_env_init_io(&env, 0, powercut_io(disk));
    kv_init(&kv, env.ctx, FOLDER);
    assert_int_equal(kv_open(&kv), 0);
    powercut_fault(disk, stop_at_gate, &gate);
    while (sem_trywait(&gate.met) != 0) /* turns, until the check is under way */
        assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
    assert_int_equal(ke_store_get(kv.s, "b", "399", on_gated, &gated), 0);
    sem_post(&gate.go);
    kv_until(&kv, &gated.done);
    assert_true(gated.after < 30);
    test_settle(&env);
    assert_true(atomic_load(&gate.after) > 200); /* it began again and came to its end */
    assert_int_equal(kv.salvaged.calls, 0);
    big_end(&env, &kv);
    powercut_free(disk);
    sem_destroy(&gate.met);
    sem_destroy(&gate.go);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_damage_to_the_file),
        cmocka_unit_test(random_damage_with_a_log),
        cmocka_unit_test(header_garbage_loses_nothing),
        cmocka_unit_test(one_page_lost),
        cmocka_unit_test(index_damage_is_not_silent),
        cmocka_unit_test(told_until_heard),
        cmocka_unit_test(nothing_left),
        cmocka_unit_test(empty_file),
        cmocka_unit_test(damage_while_open),
        cmocka_unit_test(bad_sector_is_survived),
        cmocka_unit_test(dead_disk_changes_nothing),
        cmocka_unit_test(check_finds_what_nobody_reads),
        cmocka_unit_test(torn_end_is_cut_off),
        cmocka_unit_test(first_reads_come_first),
        cmocka_unit_test(check_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
