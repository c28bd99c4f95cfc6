/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power goes at any moment: everything acknowledged is there, transactions are whole, nothing
 * is there that was not written, and no salvage was needed. And: with any one sync left out, the
 * test notices.
 *
 * KE_POWERCUT_IMAGES: how many images (default 1500). KE_SEED: another sequence.
 * KE_POWERCUT_DROP=CLASS: leaves that class of syncs out in all tests, which then must fail.
 */
#include "store/powercut_model.h"

#define FOLDER "/data"
#define WAL FOLDER "/kubeedge.db-wal"
#define DB FOLDER "/kubeedge.db"
#define HOT_MAX 4096

/* ---- which sync is it ---- */

enum sync_class {
    SYNC_LOG_COMMIT,  /* the log, when a transaction is committed */
    SYNC_LOG_HEADER,  /* the log, when it begins anew */
    SYNC_LOG_NAME,    /* the folder, with the first sync of a log */
    SYNC_LOG_UNDO,    /* the log, when a failed commit was cut off */
    SYNC_LOG_OPEN,    /* the log, when a killed process left one */
    SYNC_DB,          /* the database, when the log is written back */
    SYNC_NEW_FILE,    /* a file made aside */
    SYNC_PARENT,      /* the folder that holds the store's */
    SYNC_READY_NAME,  /* the folder, when a salvaged file is ready */
    SYNC_LOG_REMOVED, /* the folder, before the salvaged file takes its place */
    SYNC_CLASSES,
};
static const char *const class_names[SYNC_CLASSES] = {
    "log-commit", "log-header", "log-name", "log-undo",   "log-open",
    "db",         "new-file",   "parent",   "ready-name", "log-removed",
};

/* Sees every operation of one disk: to know a sync by what went before it, and where cuts hurt. */
struct watch {
    int drop; /* a class, or -1 */
    unsigned dropped;
    bool log_written; /* since it was opened */
    bool log_cut;     /* its newest change is a truncate */
    bool ready;       /* a file was just renamed to be ready */
    bool log_removed;
    size_t removed_at; /* the position when it was first */
    int fail_sync;     /* the n-th sync of the log from now on fails */
    size_t hot[HOT_MAX];
    size_t n_hot;
};

static void hot(struct watch *w, size_t pos)
{
    if (w->n_hot < HOT_MAX)
        w->hot[w->n_hot++] = pos;
}

static bool is(const char *path, const char *name)
{
    return path && !strcmp(path, name);
}

static int observe(void *user, const struct powercut_op *op)
{
    struct watch *w = user;
    bool log = is(op->path, WAL);
    if (op->kind == POWERCUT_OPEN && log)
        w->log_written = w->log_cut = w->log_removed = false;
    if (op->kind == POWERCUT_WRITE && log) {
        w->log_written = true;
        w->log_cut = false;
        if (op->off == 0)
            for (size_t i = 0; i < 24; i++)
                hot(w, op->pos + i);
    }
    if (op->kind == POWERCUT_TRUNCATE && log)
        w->log_cut = true;
    if (op->kind == POWERCUT_RENAME && is(op->path2, FOLDER "/kubeedge.db.salvaged"))
        w->ready = true;
    if (op->kind == POWERCUT_UNLINK && log) {
        w->log_removed = true;
        w->removed_at = w->removed_at ? w->removed_at : op->pos;
    }
    if (op->kind == POWERCUT_SYNC || op->kind == POWERCUT_SYNC_DIR || op->kind == POWERCUT_RENAME ||
        op->kind == POWERCUT_UNLINK) {
        hot(w, op->pos);
        hot(w, op->pos + 1);
    }
    if (op->kind == POWERCUT_SYNC && log && w->fail_sync > 0 && --w->fail_sync == 0)
        return KE_EIO;
    return 0;
}

static enum sync_class class_of(struct watch *w, const struct powercut_op *op)
{
    enum sync_class c = SYNC_CLASSES;
    if (op->kind == POWERCUT_SYNC_DIR) {
        if (is(op->path, "/"))
            return SYNC_PARENT;
        c = w->ready ? SYNC_READY_NAME : w->log_removed ? SYNC_LOG_REMOVED : SYNC_LOG_NAME;
        w->ready = w->log_removed = false;
        return c;
    }
    if (is(op->path, DB))
        return SYNC_DB;
    if (!is(op->path, WAL))
        return SYNC_NEW_FILE;
    if (!w->log_written)
        return SYNC_LOG_OPEN;
    if (w->log_cut)
        return SYNC_LOG_UNDO;
    return op->pending_lo == 0 && op->pending_hi == 32 ? SYNC_LOG_HEADER : SYNC_LOG_COMMIT;
}

static bool leave_out(void *user, const struct powercut_op *op)
{
    struct watch *w = user;
    bool drop = (int)class_of(w, op) == w->drop;
    w->dropped += drop;
    return drop;
}

static void watch_disk(struct watch *w, struct powercut *disk, int drop)
{
    *w = (struct watch){.drop = drop};
    powercut_fault(disk, observe, w);
    powercut_drop(disk, leave_out, w);
}

/* ---- a run: a process's life on a disk ---- */

#define ACKS_MAX (MODEL_TXS * 2)

struct run {
    struct powercut *disk;
    struct watch watch;
    struct model model;
    uint64_t rng;
    /* from position pos on, transaction t is promised */
    struct {
        size_t pos;
        int t;
    } ack[ACKS_MAX];
    size_t n_acks;
    size_t first;            /* no cut before */
    size_t focus;            /* many cuts from here on, if not 0 */
    size_t bad_from, bad_to; /* between them nobody knows whether the failed ones are there */
    bool salvage_ok;         /* the disk was damaged to begin with */
};

static void promise(struct run *run, int t)
{
    assert_true(run->n_acks < ACKS_MAX);
    run->ack[run->n_acks].pos = powercut_pos(run->disk);
    run->ack[run->n_acks++].t = t;
}

static int promised(const struct run *run, size_t pos)
{
    int t = 0;
    for (size_t i = 0; i < run->n_acks && run->ack[i].pos <= pos; i++)
        t = run->ack[i].t;
    return t;
}

struct turn_result {
    int done, status;
};

static void on_done(void *user, int status)
{
    struct turn_result *t = user;
    t->done++;
    t->status = status;
}

/* One to three transactions in one turn of the loop; false when the disk failed them. */
static bool turn(struct run *run, struct kv *kv)
{
    int n = 1 + (int)powercut_below(&run->rng, 3), made = 0;
    struct turn_result result = {0, 0};
    for (; made < n && run->model.n < MODEL_TXS; made++) {
        struct ke_store_tx *tx = NULL;
        assert_int_equal(ke_store_begin(&tx, kv->s), 0);
        model_fill(&run->model, tx, &run->rng, powercut_below(&run->rng, 4) == 0);
        assert_int_equal(ke_store_commit(tx, on_done, &result), 0);
    }
    while (result.done < made)
        kv_turn(kv);
    if (result.status == 0 && made > 0)
        promise(run, run->model.n);
    for (int i = 0; result.status != 0 && i < made; i++)
        model_drop(&run->model);
    return result.status == 0;
}

/* A life of some turns; the store is closed at the end, which killed processes do not do. */
static void live(struct run *run, int turns, bool failing, bool reading)
{
    struct test_env env;
    struct kv kv;
    test_env_init_io(&env, 0, powercut_io(run->disk));
    kv_init(&kv, env.ctx, FOLDER);
    int r = kv_open(&kv);
    if (r != 0)
        fail_msg("not opened: %s", ke_ctx_error(env.ctx));
    if (reading) { /* meets all there is to meet in the file */
        struct rows rows;
        kv_list(&kv, NULL, "", 0, &rows);
        assert_int_equal(rows.status, 0);
        rows_free(&rows);
    }
    int fail_at = failing ? (int)powercut_below(&run->rng, (uint64_t)turns) : -1;
    for (int i = 0; i < turns; i++) {
        if (i == fail_at) {
            run->bad_from = powercut_pos(run->disk);
            run->watch.fail_sync = 1;
        }
        bool ok = turn(run, &kv);
        if (i == fail_at) {
            run->watch.fail_sync = 0;
            run->bad_to = powercut_pos(run->disk);
            run->focus = ok ? 0 : run->bad_to;
        }
    }
    kv_close(&kv);
    env.log_errors = 0;
    test_env_fini(&env);
}

static size_t choose_pos(struct run *run, uint64_t *rng)
{
    size_t end = powercut_pos(run->disk), pos = end;
    for (int i = 0; i < 100; i++) {
        uint64_t how = powercut_below(rng, run->focus ? 6 : 3);
        if (how >= 3)
            pos = run->focus + (size_t)powercut_below(rng, 4);
        else if (how == 0 && run->n_acks > 0)
            pos = run->ack[powercut_below(rng, run->n_acks)].pos + (size_t)powercut_below(rng, 2);
        else if (how == 1 && run->watch.n_hot > 0)
            pos = run->watch.hot[powercut_below(rng, run->watch.n_hot)];
        else
            pos = run->first + (size_t)powercut_below(rng, end - run->first + 1);
        if (pos >= run->first && pos <= end && !(pos > run->bad_from && pos < run->bad_to))
            return pos;
    }
    return end;
}

/*
 * Opens what is left and compares. 0, or -1 with the reason: something promised is missing, half a
 * transaction is there, or the store did not come up by itself.
 */
static int check_disk(struct run *run, struct powercut *disk, int least, int *ret_last,
                      char why[200])
{
    struct test_env env;
    struct kv kv;
    struct rows rows;
    int r = -1;
    test_env_init_io(&env, 0, powercut_io(disk));
    kv_init(&kv, env.ctx, FOLDER);
    if (kv_open(&kv) != 0) {
        (void)snprintf(why, 200, "not opened: %.150s", ke_ctx_error(env.ctx));
        goto out;
    }
    kv_list(&kv, NULL, "", 0, &rows);
    int last = rows.status == 0 ? model_match(&run->model, &rows, why) : -1;
    if (rows.status != 0)
        (void)snprintf(why, 200, "not listed: %.150s", ke_ctx_error(env.ctx));
    else if (last >= 0 && last < least)
        (void)snprintf(why, 200, "transaction %d was promised, %d is the last there", least, last);
    else if (last >= 0 && kv.salvaged.calls && !run->salvage_ok)
        (void)snprintf(why, 200, "salvage was needed: %.150s", kv.salvaged.text);
    else if (last >= 0 && kv_put(&kv, "last", "00", "x") != 0)
        (void)snprintf(why, 200, "not writable: %.150s", ke_ctx_error(env.ctx));
    else if (last >= 0)
        r = 0;
    *ret_last = last;
    rows_free(&rows);
out:
    kv_close(&kv);
    env.log_errors = 0;
    test_env_fini(&env);
    return r;
}

/* One image of the run. 0 or -1. */
static int cut(struct run *run, uint64_t seed, char why[200])
{
    uint64_t rng = seed;
    size_t pos = choose_pos(run, &rng);
    int last, least = promised(run, pos);
    struct powercut *image = powercut_image(run->disk, pos, powercut_random(&rng));
    int r = check_disk(run, image, least, &last, why);
    powercut_free(image);
    if (r < 0) {
        char at[64];
        (void)snprintf(at, sizeof at, " (cut at %zu of %zu, image %llu)", pos,
                       powercut_pos(run->disk), (unsigned long long)seed);
        (void)strncat(why, at, 199 - strlen(why));
    }
    return r;
}

static struct run *run_new(uint64_t seed, int drop)
{
    struct run *run = calloc(1, sizeof *run);
    assert_non_null(run);
    run->rng = seed;
    run->disk = powercut_new();
    watch_disk(&run->watch, run->disk, drop);
    return run;
}

static void run_free(struct run *run)
{
    powercut_free(run->disk);
    free(run);
}

/* ---- the scenarios: each gives the number of violations in n images ---- */

typedef int (*scenario_fn)(uint64_t seed, int drop, int n, char why[200]);

/* Lives one after the other, ended properly. */
static int scenario_lives(uint64_t seed, int drop, int n, char why[200])
{
    int bad = 0;
    for (int i = 0; i < n && bad == 0; i += 100) {
        struct run *run = run_new(seed + (uint64_t)i, drop);
        live(run, 60, false, false);
        live(run, 20, false, false);
        for (int j = 0; j < 100 && i + j < n && bad == 0; j++)
            bad += cut(run, seed * 1000 + (uint64_t)(i + j), why) < 0;
        run_free(run);
    }
    return bad;
}

/* A short life in which the disk fails one sync of the log, and works again. */
static int scenario_failing(uint64_t seed, int drop, int n, char why[200])
{
    int bad = 0;
    for (int i = 0; i < n && bad == 0; i += 20) {
        struct run *run = run_new(seed + (uint64_t)i, drop);
        live(run, i / 20 % 8 == 0 ? 60 : 6, true, false);
        for (int j = 0; j < 20 && i + j < n && bad == 0; j++)
            bad += cut(run, seed * 1000 + (uint64_t)(i + j), why) < 0;
        run_free(run);
    }
    return bad;
}

/* A life that ends by a kill, a second one that reads and goes on, and then the cut. */
static int scenario_killed(uint64_t seed, int drop, int n, char why[200])
{
    int bad = 0;
    for (int i = 0; i < n && bad == 0; i += 10) {
        struct run *run = run_new(seed + (uint64_t)i, drop);
        live(run, i / 10 % 2 ? 2 : 30, false, false);
        size_t pos = choose_pos(run, &run->rng);
        int least = promised(run, pos), last = 0;
        struct powercut *disk = powercut_killed(run->disk, pos);
        powercut_free(run->disk);
        run->disk = disk;
        watch_disk(&run->watch, disk, drop);
        run->n_acks = 0;
        run->first = pos;
        promise(run, least);
        /* what the second life has seen it may have told others: it is promised from there on */
        struct test_env env;
        struct kv kv;
        struct rows rows;
        test_env_init_io(&env, 0, powercut_io(disk));
        kv_init(&kv, env.ctx, FOLDER);
        if (kv_open(&kv) != 0) {
            (void)snprintf(why, 200, "not opened after a kill: %.150s", ke_ctx_error(env.ctx));
            bad++;
        } else {
            kv_list(&kv, NULL, "", 0, &rows);
            last = model_match(&run->model, &rows, why);
            rows_free(&rows);
            bad += last < least || kv.salvaged.calls > 0;
            if (last >= 0) {
                run->model.n = last;
                promise(run, last);
                hot(&run->watch, powercut_pos(disk));
            }
            for (int j = 0; j < 5 && bad == 0; j++)
                (void)turn(run, &kv);
        }
        kv_close(&kv);
        env.log_errors = 0;
        test_env_fini(&env);
        for (int j = 0; j < 10 && i + j < n && bad == 0; j++)
            bad += cut(run, seed * 1000 + (uint64_t)(i + j), why) < 0;
        run_free(run);
    }
    return bad;
}

/*
 * A damaged file with a log that was not written back; the cut comes while it is salvaged, or soon
 * after. Nothing that one undisturbed salvage saves may be missing.
 */
static int scenario_salvage(uint64_t seed, int drop, int n, char why[200])
{
    int bad = 0;
    for (int i = 0; i < n && bad == 0; i += 50) {
        struct run *run = run_new(seed + (uint64_t)i, -1);
        live(run, 15 + (int)powercut_below(&run->rng, 25), false, false);
        /* the log is there as long as the store is open: kill it at its last promise */
        size_t pos = run->ack[run->n_acks - 1].pos, size = 0;
        struct powercut *left = powercut_killed(run->disk, pos);
        struct powercut *disk = powercut_image(left, pos, 1);
        powercut_free(left);
        powercut_free(run->disk);
        unsigned char *db = powercut_get(disk, DB, &size);
        assert_non_null(db);
        for (size_t at = 4095; at < size; at += 4096)
            db[at] ^= 0x55; /* the sums of the pages; all rows can be saved */
        powercut_put(disk, DB, db, size);
        free(db);
        run->disk = disk;
        watch_disk(&run->watch, disk, drop);
        run->first = powercut_pos(disk);
        run->salvage_ok = true;
        int all = run->n_acks ? run->ack[run->n_acks - 1].t : 0;
        run->n_acks = 0;
        promise(run, all);
        live(run, 3, false, true);
        run->focus = run->watch.removed_at;
        for (int j = 0; j < 50 && i + j < n && bad == 0; j++)
            bad += cut(run, seed * 1000 + (uint64_t)(i + j), why) < 0;
        run_free(run);
    }
    return bad;
}

/* Somebody took the database away and left its log, which is of another file then. */
static int scenario_stray_log(uint64_t seed, int drop, int n, char why[200])
{
    int bad = 0;
    for (int i = 0; i < n && bad == 0; i += 50) {
        struct run *run = run_new(seed + (uint64_t)i, -1);
        live(run, 15, false, false);
        size_t pos = run->ack[run->n_acks - 1].pos;
        struct powercut *left = powercut_killed(run->disk, pos);
        const struct ke_io *io = powercut_io(left);
        assert_int_equal(io->unlink(io->user, DB), 0);
        struct powercut *disk = powercut_image(left, powercut_pos(left), 1);
        powercut_free(left);
        powercut_free(run->disk);
        run->disk = disk;
        watch_disk(&run->watch, disk, drop);
        run->model = (struct model){0};
        run->n_acks = 0;
        live(run, 3, false, false);
        run->focus = run->watch.removed_at;
        for (int j = 0; j < 50 && i + j < n && bad == 0; j++)
            bad += cut(run, seed * 1000 + (uint64_t)(i + j), why) < 0;
        run_free(run);
    }
    return bad;
}

/*
 * One cut after the other, with a few turns between them: what a cut leaves behind the last whole
 * transaction must not be taken for anything later on.
 */
static int scenario_chain(uint64_t seed, int drop, int n, char why[200])
{
    int bad = 0;
    for (int i = 0; i < n && bad == 0;) {
        struct run *run = run_new(seed + (uint64_t)i, drop);
        live(run, 4, false, false);
        for (int j = 0; j < 8 && i < n && bad == 0; j++, i++) {
            struct test_env env;
            struct kv kv;
            struct rows rows;
            size_t pos = choose_pos(run, &run->rng);
            int least = promised(run, pos), last = -1;
            struct powercut *disk = powercut_image(run->disk, pos, powercut_random(&run->rng));
            powercut_free(run->disk);
            run->disk = disk;
            watch_disk(&run->watch, disk, drop);
            run->n_acks = 0;
            promise(run, least);
            test_env_init_io(&env, 0, powercut_io(disk));
            kv_init(&kv, env.ctx, FOLDER);
            if (kv_open(&kv) == 0) {
                kv_list(&kv, NULL, "", 0, &rows);
                last = model_match(&run->model, &rows, why);
                rows_free(&rows);
            }
            bad += last < least || kv.salvaged.calls > 0;
            if (bad)
                (void)snprintf(why, 200, "cut %d: %d was promised, %d is there (%.100s)", j, least,
                               last, kv.salvaged.text);
            run->model.n = last > 0 ? last : 0;
            run->watch.n_hot = 0;
            for (int k = 0; k < 2 && bad == 0; k++)
                (void)turn(run, &kv);
            run->first = 0;
            kv_close(&kv);
            env.log_errors = 0;
            test_env_fini(&env);
        }
        run_free(run);
    }
    return bad;
}

/* ---- the tests ---- */

static uint64_t seed_of(const char *name)
{
    const char *env = getenv("KE_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 10) : 1;
    print_message("%s: seed %llu (KE_SEED)\n", name, (unsigned long long)seed);
    return seed * 1000003;
}

static int images(void)
{
    const char *env = getenv("KE_POWERCUT_IMAGES");
    int n = env ? atoi(env) : 1500;
    return n > 30 ? n : 30;
}

static int dropped_class(void)
{
    const char *env = getenv("KE_POWERCUT_DROP");
    if (!env)
        return -1;
    for (int i = 0; i < SYNC_CLASSES; i++)
        if (!strcmp(env, class_names[i]))
            return i;
    fail_msg("KE_POWERCUT_DROP=%s is no class of syncs", env);
    return -1;
}

static void must_hold(scenario_fn scenario, const char *name, int n)
{
    char why[200] = "";
    int bad = scenario(seed_of(name), dropped_class(), n, why);
    print_message("count: %d power cuts of the store, %s\n", n, name);
    if (bad)
        fail_msg("%s: %s", name, why);
}

static void keeps_what_it_acknowledged(void **state)
{
    (void)state;
    must_hold(scenario_lives, "lives", images() * 3 / 10);
}

static void forgets_what_it_reported_failed(void **state)
{
    (void)state;
    must_hold(scenario_failing, "failing", images() * 2 / 10);
}

static void killed_and_cut(void **state)
{
    (void)state;
    must_hold(scenario_killed, "killed", images() * 15 / 100);
}

static void cut_while_salvaging(void **state)
{
    (void)state;
    must_hold(scenario_salvage, "salvage", images() * 15 / 100);
}

static void one_cut_after_the_other(void **state)
{
    (void)state;
    must_hold(scenario_chain, "chain", images() * 2 / 10);
}

static void cut_after_a_stray_log(void **state)
{
    (void)state;
    must_hold(scenario_stray_log, "stray log", images() / 30);
}

/* With any one sync left out, one of the scenarios above finds what is lost by it. */
static void notices_a_missing_sync(void **state)
{
    (void)state;
    static const struct {
        enum sync_class class;
        scenario_fn scenario;
    } table[] = {
        {SYNC_LOG_COMMIT, scenario_lives},    {SYNC_LOG_HEADER, scenario_lives},
        {SYNC_LOG_NAME, scenario_lives},      {SYNC_LOG_UNDO, scenario_failing},
        {SYNC_LOG_OPEN, scenario_killed},     {SYNC_DB, scenario_lives},
        {SYNC_NEW_FILE, scenario_lives},      {SYNC_PARENT, scenario_lives},
        {SYNC_NEW_FILE, scenario_salvage},    {SYNC_READY_NAME, scenario_salvage},
        {SYNC_LOG_REMOVED, scenario_salvage}, {SYNC_LOG_REMOVED, scenario_stray_log},
    };
    uint64_t seed = seed_of("missing sync");
    if (getenv("KE_POWERCUT_DROP"))
        skip();
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char why[200] = "";
        int bad = 0, rounds = 0;
        for (; rounds < 40 && bad == 0; rounds++)
            bad = table[i].scenario(seed + (uint64_t)rounds * 7919, (int)table[i].class, 300, why);
        print_message("without %-11s: %s [%d]\n", class_names[table[i].class],
                      bad ? why : "NOT NOTICED", rounds);
        assert_int_not_equal(bad, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_it_acknowledged),
        cmocka_unit_test(forgets_what_it_reported_failed),
        cmocka_unit_test(killed_and_cut),
        cmocka_unit_test(cut_while_salvaging),
        cmocka_unit_test(one_cut_after_the_other),
        cmocka_unit_test(cut_after_a_stray_log),
        cmocka_unit_test(notices_a_missing_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
