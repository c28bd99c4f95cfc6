/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that is full, fails or is read-only, for a while or from the start: the right code, a text
 * that names the folder, nothing half written, and work again as soon as the disk does.
 */
#include "sim/powercut_io.h"
#include "store/powercut_model.h"

#define FOLDER "/data"

struct fault {
    uint64_t rng;
    int percent; /* of the operations below that fail */
    unsigned kinds;
    int code;
    int nth; /* if not 0: only the n-th of them, counted down */
    unsigned failed;
};

static int faulty(void *user, const struct powercut_op *op)
{
    struct fault *f = user;
    if (!(f->kinds & 1u << op->kind))
        return 0;
    if (f->nth > 0 ? --f->nth != 0 : (int)powercut_below(&f->rng, 100) >= f->percent)
        return 0;
    f->failed++;
    return f->code;
}

struct turns {
    int done, status;
};

static void on_done(void *user, int status)
{
    struct turns *t = user;
    t->done++;
    t->status = status;
}

/* One transaction; the model knows it only if it was done. */
static int turn(struct kv *kv, struct model *m, uint64_t *rng)
{
    struct ke_store_tx *tx = NULL;
    struct turns t = {0};
    assert_int_equal(ke_store_begin(&tx, kv->s), 0);
    model_fill(m, tx, rng, powercut_below(rng, 3) == 0);
    assert_int_equal(ke_store_commit(tx, on_done, &t), 0);
    while (!t.done)
        kv_turn(kv);
    if (t.status != 0)
        model_drop(m);
    return t.status;
}

static void must_match(struct kv *kv, const struct model *m, const char *when)
{
    struct rows rows;
    char why[200] = "";
    kv_list(kv, NULL, "", 0, &rows);
    if (rows.status != 0)
        fail_msg("%s: not listed: %s", when, ke_ctx_error(kv->ctx));
    if (model_match(m, &rows, why) != m->n)
        fail_msg("%s: %s", when, why);
    rows_free(&rows);
}

/* A workload on a disk that fails now and then; at the end the disk works, and all is as promised.
 */
static void storm(uint64_t seed, unsigned kinds, int code, int percent, uint64_t capacity)
{
    struct test_env env;
    struct kv kv;
    struct model *m = calloc(1, sizeof *m);
    struct powercut *disk = powercut_new();
    struct fault fault = {.rng = seed, .kinds = kinds, .code = code};
    unsigned failed = 0, worked = 0;
    test_env_init_io(&env, 0, powercut_io(disk));
    kv_init(&kv, env.ctx, FOLDER);
    assert_int_equal(kv_open(&kv), 0);
    powercut_fault(disk, faulty, &fault);
    for (int i = 0; i < 150; i++) {
        bool bad = i / 10 % 3 == 1;
        fault.percent = bad ? percent : 0; /* the worker is idle between turns */
        powercut_capacity(disk, bad ? capacity : 0);
        int r = turn(&kv, m, &seed);
        if (r != 0) {
            assert_true(bad);
            if (r != code)
                fail_msg("turn %d gave %s: %s", i, ke_strerror(r), ke_ctx_error(env.ctx));
            assert_non_null(strstr(ke_ctx_error(env.ctx), FOLDER));
            failed++;
        } else {
            worked++;
        }
        if (i % 10 == 9) {
            fault.percent = 0;
            must_match(&kv, m, "between");
        }
    }
    fault.percent = 0;
    powercut_capacity(disk, 0);
    if (failed < 5 || worked < 90)
        fail_msg("%u failed, %u worked: not the test it wants to be", failed, worked);
    assert_int_equal(turn(&kv, m, &seed), 0);
    must_match(&kv, m, "in the end");
    kv_close(&kv);
    assert_int_equal(kv_open(&kv), 0);
    must_match(&kv, m, "after a restart");
    assert_int_equal(kv.salvaged.calls, 0);
    kv_close(&kv);
    env.log_errors = 0;
    test_env_fini(&env);
    powercut_free(disk);
    free(m);
}

#define WRITES (1u << POWERCUT_WRITE | 1u << POWERCUT_TRUNCATE)
#define SYNCS (1u << POWERCUT_SYNC | 1u << POWERCUT_SYNC_DIR)

static void disk_full_for_a_while(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        storm(seed, 0, KE_ENOSPC, 0, 30000 + seed * 9000);
}

static void quota_hits_at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        storm(seed, WRITES, KE_ENOSPC, 8, 0);
}

static void syncs_fail_at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        storm(seed, SYNCS, KE_EIO, 40, 0);
        storm(seed, SYNCS, KE_ENOSPC, 40, 0);
    }
}

static void all_fails_at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        storm(seed, WRITES | SYNCS, KE_EIO, 10, 0);
}

/* Every operation of an opening, of a file that is there or not, fails once. */
static void opening_fails_at_every_step(void **state)
{
    (void)state;
    unsigned all = WRITES | SYNCS | 1u << POWERCUT_OPEN | 1u << POWERCUT_LOCK |
                   1u << POWERCUT_RENAME | 1u << POWERCUT_MKDIR | 1u << POWERCUT_READ |
                   1u << POWERCUT_UNLINK;
    static const int codes[] = {KE_ENOSPC, KE_EIO, KE_EROFS};
    for (int existing = 0; existing < 2; existing++) {
        for (size_t c = 0; c < 3; c++) {
            int nth = 1, opened = 0, refused = 0;
            for (bool hit = true; hit; nth++) {
                struct test_env env;
                struct kv kv;
                struct powercut *disk = powercut_new();
                struct fault fault = {.kinds = all, .code = codes[c], .nth = 0};
                test_env_init_io(&env, 0, powercut_io(disk));
                kv_init(&kv, env.ctx, FOLDER);
                if (existing) {
                    assert_int_equal(kv_open(&kv), 0);
                    assert_int_equal(kv_put(&kv, "b", "k", "v"), 0);
                    kv_close(&kv);
                }
                fault.nth = nth;
                powercut_fault(disk, faulty, &fault);
                int r = kv_open(&kv);
                hit = fault.failed > 0;
                powercut_fault(disk, NULL, NULL);
                if (r != 0) {
                    refused++;
                    assert_true(strlen(ke_ctx_error(env.ctx)) > 10);
                    /* (a failed read may be told as damage that could not be salvaged) */
                    if (r != codes[c] && r != KE_EIO && r != KE_ENOTFOUND)
                        fail_msg("step %d: %s for %s: %s", nth, ke_strerror(r),
                                 ke_strerror(codes[c]), ke_ctx_error(env.ctx));
                    assert_int_equal(kv_open(&kv), 0);
                } else {
                    opened++;
                }
                char *value = NULL;
                if (existing) {
                    assert_int_equal(kv_get(&kv, "b", "k", &value), 0);
                    assert_string_equal(value, "v");
                    free(value);
                }
                assert_int_equal(kv_put(&kv, "b", "k", "w"), 0);
                kv_close(&kv);
                env.log_errors = 0;
                test_env_fini(&env);
                powercut_free(disk);
            }
            print_message("%s, %s: %d steps, %d refused, %d opened all the same\n",
                          existing ? "existing" : "new", ke_strerror(codes[c]), nth - 1, refused,
                          opened);
            assert_true(refused >= 8);
        }
    }
}

/* A read-only file system: said so, at once. */
static void read_only_folder(void **state)
{
    (void)state;
    struct test_env env;
    struct kv kv;
    struct powercut *disk = powercut_new();
    struct fault fault = {.kinds = WRITES | SYNCS | 1u << POWERCUT_MKDIR | 1u << POWERCUT_RENAME |
                                   1u << POWERCUT_UNLINK,
                          .code = KE_EROFS,
                          .percent = 100};
    test_env_init_io(&env, 0, powercut_io(disk));
    kv_init(&kv, env.ctx, FOLDER);
    powercut_fault(disk, faulty, &fault);
    assert_int_equal(kv_open(&kv), KE_EROFS);
    assert_non_null(strstr(ke_ctx_error(env.ctx), FOLDER));
    powercut_fault(disk, NULL, NULL);
    assert_int_equal(kv_open(&kv), 0);
    assert_int_equal(kv_put(&kv, "b", "k", "v"), 0);
    /* and one that becomes so while it is open */
    powercut_fault(disk, faulty, &fault);
    assert_int_equal(kv_put(&kv, "b", "k", "w"), KE_EROFS);
    char *value = NULL;
    assert_int_equal(kv_get(&kv, "b", "k", &value), 0);
    assert_string_equal(value, "v");
    free(value);
    kv_close(&kv);
    powercut_fault(disk, NULL, NULL);
    test_env_fini(&env);
    powercut_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_full_for_a_while),       cmocka_unit_test(quota_hits_at_random),
        cmocka_unit_test(syncs_fail_at_random),        cmocka_unit_test(all_fails_at_random),
        cmocka_unit_test(opening_fails_at_every_step), cmocka_unit_test(read_only_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
