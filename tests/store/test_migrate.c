/* SPDX-License-Identifier: Apache-2.0 */
/* Formats: steps in order, each whole or not at all; a newer one is refused and left alone. */
#include "sim/powercut_io.h"
#include "store/store_priv.h"
#include "store/store_support.h"

#define FOLDER "/data"
#define DB FOLDER "/kubeedge.db"

/* ---- the steps, without a store around them ---- */

struct fixture {
    struct test_env env;
    struct powercut *disk;
    struct kei_vfs vfs;
    struct kei_db_conf conf;
    struct kei_db db;
    struct ke_error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->disk = powercut_new();
    test_env_init_io(&f->env, 0, powercut_io(f->disk));
    const struct ke_io *io = powercut_io(f->disk);
    assert_int_equal(io->mkdir(io->user, FOLDER, 0700), 0);
    f->err = (struct ke_error)KE_ERROR_INIT;
    f->conf = (struct kei_db_conf){.folder = FOLDER, .cache_kib = 64, .max_bytes = 1u << 20};
    assert_int_equal(kei_vfs_init(&f->vfs, f->env.ctx, FOLDER, &f->err), 0);
    assert_int_equal(kei_db_open(&f->db, &f->vfs, &f->conf, KEI_DB_BUILD, KEI_NEW_FILE, &f->err),
                     0);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    kei_db_close(&f->db);
    kei_vfs_fini(&f->vfs);
    test_env_fini(&f->env);
    powercut_free(f->disk);
    free(f);
    return 0;
}

static int64_t ask(struct fixture *f, const char *sql)
{
    int64_t n = -1;
    if (kei_db_int(&f->db, sql, &n, &f->err) < 0)
        return -1;
    return n;
}

static const struct kei_step steps[] = {
    {1, "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)"},
    {2, "ALTER TABLE a ADD COLUMN y INTEGER DEFAULT 7"},
    {3, "INSERT INTO a VALUES (3, 3)"},
};

static void steps_in_order(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(kei_migrate(&f->db, steps, 1, &f->err), 0);
    assert_int_equal(ask(f, "PRAGMA user_version"), 1);
    assert_int_equal(kei_migrate(&f->db, steps, 3, &f->err), 0);
    assert_int_equal(ask(f, "PRAGMA user_version"), 3);
    assert_int_equal(ask(f, "PRAGMA application_id"), KEI_FORMAT_ID(3));
    assert_int_equal(ask(f, "SELECT sum(x * 10 + y) FROM a"), 10 + 7 + 30 + 3);
    assert_int_equal(kei_migrate(&f->db, steps, 3, &f->err), 0); /* nothing left to do */
    assert_int_equal(ask(f, "SELECT count(*) FROM a"), 2);
    assert_int_equal(kei_migrate(&f->db, steps, 2, &f->err), KE_ENEWER);
    assert_non_null(strstr(f->err.text, FOLDER));
    assert_int_equal(ask(f, "PRAGMA user_version"), 3);
}

static void failed_step_is_undone(void **state)
{
    struct fixture *f = *state;
    static const struct kei_step broken[] = {
        {1, "CREATE TABLE a (x INTEGER)"},
        {2, "INSERT INTO a VALUES (1); INSERT INTO nothing VALUES (2)"},
    };
    kei_db_close(&f->db); /* a rollback needs a journal: the mode of a store in use */
    f->conf.folder = "memory";
    assert_int_equal(kei_db_open(&f->db, &f->vfs, &f->conf, KEI_DB_MEMORY, NULL, &f->err), 0);
    assert_true(kei_migrate(&f->db, broken, 2, &f->err) < 0);
    assert_int_equal(ask(f, "PRAGMA user_version"), 1);
    assert_int_equal(ask(f, "SELECT count(*) FROM a"), 0);
}

/* ---- a store of another format ---- */

static struct powercut *make_store(struct test_env *env, struct kv *kv)
{
    struct powercut *disk = powercut_new();
    test_env_init_io(env, 0, powercut_io(disk));
    kv_init(kv, env->ctx, FOLDER);
    assert_int_equal(kv_open(kv), 0);
    assert_int_equal(kv_put(kv, "b", "k", "v"), 0);
    return disk;
}

static void set_header(struct powercut *disk, uint32_t user_version, uint32_t application_id)
{
    size_t n = 0;
    unsigned char *p = powercut_get(disk, DB, &n);
    for (int i = 0; i < 4; i++) {
        p[60 + i] = (unsigned char)(user_version >> (24 - 8 * i));
        p[68 + i] = (unsigned char)(application_id >> (24 - 8 * i));
    }
    kei_page_seal(p, 1);
    powercut_put(disk, DB, p, n);
    free(p);
}

static int no_changes(void *user, const struct powercut_op *op)
{
    (void)user;
    static const unsigned changes = 1u << POWERCUT_WRITE | 1u << POWERCUT_TRUNCATE |
                                    1u << POWERCUT_RENAME | 1u << POWERCUT_UNLINK;
    if (changes & 1u << op->kind)
        fail_msg("%s was changed", op->path);
    return 0;
}

static void newer_is_refused_and_left_alone(void **state)
{
    (void)state;
    for (int with_log = 0; with_log < 2; with_log++) {
        struct test_env env;
        struct kv kv;
        struct powercut *disk = make_store(&env, &kv);
        if (with_log) { /* as the newer release was killed */
            struct powercut *left = powercut_killed(disk, powercut_pos(disk));
            kv_close(&kv);
            test_env_fini(&env);
            powercut_free(disk);
            disk = left;
            test_env_init_io(&env, 0, powercut_io(disk));
            kv_init(&kv, env.ctx, FOLDER);
        } else {
            kv_close(&kv);
        }
        set_header(disk, 2, KEI_FORMAT_ID(2));
        char *before = powercut_tree(disk);
        powercut_fault(disk, no_changes, NULL);
        assert_int_equal(kv_open(&kv), KE_ENEWER);
        assert_non_null(strstr(ke_ctx_error(env.ctx), "format 2"));
        assert_non_null(strstr(ke_ctx_error(env.ctx), FOLDER));
        powercut_fault(disk, NULL, NULL);
        char *after = powercut_tree(disk);
        assert_string_equal(before, after);
        free(before);
        free(after);
        set_header(disk, 1, KEI_FORMAT_ID(1)); /* the release that knows it would open it */
        assert_int_equal(kv_open(&kv), 0);
        char *value = NULL;
        assert_int_equal(kv_get(&kv, "b", "k", &value), 0);
        free(value);
        assert_int_equal(kv.salvaged.calls, 0);
        kv_close(&kv);
        test_env_fini(&env);
        powercut_free(disk);
    }
}

/* Also when it was interrupted while it put a salvaged file in place: the rest is its own to do. */
static void newer_that_was_interrupted(void **state)
{
    (void)state;
    struct test_env env;
    struct kv kv;
    size_t n = 0;
    struct powercut *disk = make_store(&env, &kv);
    kv_close(&kv);
    unsigned char *p = powercut_get(disk, DB, &n);
    set_header(disk, 2, KEI_FORMAT_ID(2));
    unsigned char *newer = powercut_get(disk, DB, &n);
    powercut_put(disk, DB ".salvaged", newer, n);
    powercut_put(disk, DB, p, n);
    powercut_fault(disk, no_changes, NULL);
    assert_int_equal(kv_open(&kv), KE_ENEWER);
    powercut_fault(disk, NULL, NULL);
    free(p);
    free(newer);
    test_env_fini(&env);
    powercut_free(disk);
}

/* One damaged byte in the number is damage and not a newer release: the node must come up. */
static void damaged_number_is_not_newer(void **state)
{
    (void)state;
    struct test_env env;
    struct kv kv;
    struct powercut *disk = make_store(&env, &kv);
    kv_close(&kv);
    set_header(disk, 3, KEI_FORMAT_ID(1));
    assert_int_equal(kv_open(&kv), 0);
    char *value = NULL;
    assert_int_equal(kv_get(&kv, "b", "k", &value), 0);
    free(value);
    assert_int_equal(kv.salvaged.calls, 1);
    assert_int_equal(kv.salvaged.lost, 0);
    kv_close(&kv);
    test_env_fini(&env);
    powercut_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(steps_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_step_is_undone, setup, teardown),
        cmocka_unit_test(newer_is_refused_and_left_alone),
        cmocka_unit_test(newer_that_was_interrupted),
        cmocka_unit_test(damaged_number_is_not_newer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
