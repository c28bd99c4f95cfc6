/* SPDX-License-Identifier: Apache-2.0 */
/* The store's calls as a host uses them: values, order, limits of names, restarts, two openers. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store_support.h"

struct fixture {
    struct test_env env;
    char tmp[256], folder[300];
    struct kv kv;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    test_tmp_make(f->tmp, sizeof f->tmp);
    (void)snprintf(f->folder, sizeof f->folder, "%s/store", f->tmp);
    test_env_init(&f->env, 0);
    kv_init(&f->kv, f->env.ctx, f->folder);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    kv_close(&f->kv);
    test_env_fini(&f->env);
    test_tmp_remove(f->tmp);
    free(f);
    return 0;
}

static void open_it(struct fixture *f)
{
    int r = kv_open(&f->kv);
    if (r != 0)
        print_error("%s\n", ke_ctx_error(f->env.ctx));
    assert_int_equal(r, 0);
}

static void reopen(struct fixture *f)
{
    kv_close(&f->kv);
    open_it(f);
}

static void expect(struct fixture *f, const char *bucket, const char *key, const char *value)
{
    char *got = NULL;
    assert_int_equal(kv_get(&f->kv, bucket, key, &got), 0);
    assert_string_equal(got, value);
    free(got);
}

static void survives_restart(void **state)
{
    struct fixture *f = *state;
    open_it(f);
    assert_int_equal(kv_put(&f->kv, "o/pod", "default/web", "{\"kind\":\"Pod\"}"), 0);
    assert_int_equal(kv_put(&f->kv, "o/pod", "default/web", "{\"kind\":\"Pod\",\"v\":2}"), 0);
    assert_int_equal(kv_put(&f->kv, "local", "dialect", "1.15"), 0);
    expect(f, "o/pod", "default/web", "{\"kind\":\"Pod\",\"v\":2}");
    reopen(f);
    expect(f, "o/pod", "default/web", "{\"kind\":\"Pod\",\"v\":2}");
    expect(f, "local", "dialect", "1.15");
    assert_int_equal(kv_delete(&f->kv, "local", "dialect"), 0);
    assert_int_equal(kv_delete(&f->kv, "local", "never"), 0);
    reopen(f);
    assert_int_equal(kv_get(&f->kv, "local", "dialect", NULL), KE_ENOTFOUND);
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), "local/dialect"));
    assert_int_equal(f->kv.salvaged.calls, 0);
}

static void folder_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    char path[400];
    mode_t old = umask(0);
    open_it(f);
    assert_int_equal(kv_put(&f->kv, "b", "k", "v"), 0);
    assert_int_equal(stat(f->folder, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    static const char *const files[] = {"kubeedge.db", "kubeedge.db-wal", "lock"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", f->folder, files[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    kv_close(&f->kv);
    (void)snprintf(path, sizeof path, "%s/kubeedge.db-wal", f->folder);
    assert_int_equal(stat(path, &st), -1); /* closed cleanly: one file */
    umask(old);
}

static void keeps_bytes(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, 100, 4000, 4096, 5000, 70000, 1u << 20, 3u << 20};
    open_it(f);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *p = malloc(sizes[i] + 1);
        char key[32];
        for (size_t j = 0; j < sizes[i]; j++)
            p[j] = (unsigned char)(j * 31 + i);
        (void)snprintf(key, sizeof key, "%zu", i);
        assert_int_equal(kv_put_bytes(&f->kv, "bytes", key, p, sizes[i]), 0);
        free(p);
    }
    reopen(f);
    struct rows rows;
    kv_list(&f->kv, "bytes", "", 0, &rows);
    assert_int_equal(rows.status, 0);
    assert_int_equal(rows.n, sizeof sizes / sizeof sizes[0]);
    for (size_t i = 0; i < rows.n; i++) {
        assert_int_equal(rows.row[i].len, sizes[i]);
        assert_int_equal(rows.row[i].version, 7);
        for (size_t j = 0; j < sizes[i]; j++)
            if ((unsigned char)rows.row[i].value[j] != (unsigned char)(j * 31 + i))
                fail_msg("byte %zu of value %zu", j, i);
    }
    rows_free(&rows);
}

static void lists_in_order(void **state)
{
    struct fixture *f = *state;
    /* by bytes: '/' comes before '0', capitals before small letters, UTF-8 after ASCII */
    static const char *const keys[] = {"Z",  "a", "a/1",      "a/2",
                                       "a0", "b", "\xc3\xa4", "\xf0\x9f\x98\x80"};
    struct rows rows;
    open_it(f);
    for (size_t i = 8; i-- > 0;) {
        assert_int_equal(kv_put(&f->kv, "one", keys[i], "x"), 0);
        assert_int_equal(kv_put(&f->kv, "two", keys[i], "x"), 0);
    }
    kv_list(&f->kv, "one", NULL, 0, &rows);
    assert_int_equal(rows.n, 8);
    for (size_t i = 0; i < 8; i++)
        assert_string_equal(rows.row[i].key, keys[i]);
    rows_free(&rows);
    kv_list(&f->kv, "one", "a/", 0, &rows);
    assert_int_equal(rows.n, 2);
    assert_string_equal(rows.row[0].key, "a/1");
    rows_free(&rows);
    kv_list(&f->kv, "one", "\xf0\x9f\x98", 0, &rows); /* the end of the range is cut in a letter */
    assert_int_equal(rows.n, 1);
    rows_free(&rows);
    kv_list(&f->kv, NULL, "a", 0, &rows);
    assert_int_equal(rows.n, 8);
    assert_string_equal(rows.row[4].bucket, "two");
    rows_free(&rows);
    kv_list(&f->kv, NULL, "", 11, &rows);
    assert_int_equal(rows.n, 11);
    assert_string_equal(rows.row[10].bucket, "two");
    assert_string_equal(rows.row[10].key, "a/1");
    rows_free(&rows);
    kv_list(&f->kv, "three", "", 0, &rows);
    assert_int_equal(rows.n, 0);
    assert_int_equal(rows.status, 0);
    rows_free(&rows);
}

static void deletes_by_prefix_and_uid(void **state)
{
    struct fixture *f = *state;
    struct ke_store_tx *tx;
    struct rows rows;
    open_it(f);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    for (int i = 0; i < 10; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "u%d/x", i);
        assert_int_equal(ke_store_put(tx, "pod", key, "uid-1", i, "v", 1), 0);
    }
    assert_int_equal(ke_store_put(tx, "other", "u1/x", NULL, 0, "v", 1), 0);
    assert_int_equal(kv_commit(&f->kv, tx), 0);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_delete(tx, "pod", "u0/x", "uid-2"), 0); /* another object's */
    assert_int_equal(ke_store_delete(tx, "pod", "u1/x", "uid-1"), 0);
    assert_int_equal(ke_store_delete(tx, "pod", "u2/x", ""), 0);
    assert_int_equal(ke_store_delete_prefix(tx, "pod", "u3/"), 0);
    assert_int_equal(kv_commit(&f->kv, tx), 0);
    kv_list(&f->kv, "pod", "", 0, &rows);
    assert_int_equal(rows.n, 7);
    assert_string_equal(rows.row[0].key, "u0/x");
    assert_string_equal(rows.row[0].uid, "uid-1");
    assert_string_equal(rows.row[1].key, "u4/x");
    rows_free(&rows);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_delete_prefix(tx, "pod", ""), 0);
    assert_int_equal(kv_commit(&f->kv, tx), 0);
    kv_list(&f->kv, NULL, "", 0, &rows);
    assert_int_equal(rows.n, 1);
    rows_free(&rows);
}

static void refuses_bad_arguments(void **state)
{
    struct fixture *f = *state;
    struct ke_store_tx *tx;
    char long_key[2000];
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = 0;
    open_it(f);
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "", "k", NULL, 0, "v", 1), KE_EINVAL);
    assert_int_equal(ke_store_put(tx, "b", NULL, NULL, 0, "v", 1), KE_EINVAL);
    assert_int_equal(ke_store_put(tx, "b", "k", NULL, 0, NULL, 1), KE_EINVAL);
    assert_int_equal(ke_store_put(tx, "b", "\xff", NULL, 0, "v", 1), KE_EINVAL);
    assert_int_equal(ke_store_put(tx, "b", long_key, NULL, 0, "v", 1), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), "1024"));
    /* what was refused was part of it */
    assert_int_equal(kv_commit(&f->kv, tx), KE_EINVAL);
    assert_int_equal(ke_store_get(f->kv.s, "b", "k", NULL, NULL), KE_EINVAL);
    assert_int_equal(ke_store_list(f->kv.s, "", "", 0, NULL, NULL), KE_EINVAL);
    assert_int_equal(ke_store_begin(NULL, f->kv.s), KE_EINVAL);
    assert_int_equal(ke_store_begin(&tx, NULL), KE_EINVAL);
    ke_store_abort(NULL);
    ke_store_close(NULL);

    struct ke_store *s = NULL;
    struct ke_store_config c = f->kv.conf;
    c.folder = NULL;
    assert_int_equal(ke_store_open(&s, f->env.ctx, &c), KE_EINVAL);
    c.folder = f->folder;
    c.flags = 2;
    assert_int_equal(ke_store_open(&s, f->env.ctx, &c), KE_EABI);
    c.flags = 0;
    c.max_bytes = 100;
    assert_int_equal(ke_store_open(&s, f->env.ctx, &c), KE_EINVAL);
    c.size = 4;
    assert_int_equal(ke_store_open(&s, f->env.ctx, &c), KE_EABI);
    assert_null(s);
}

static void one_opener(void **state)
{
    struct fixture *f = *state;
    struct ke_store *s = NULL;
    open_it(f);
    assert_int_equal(ke_store_open(&s, f->env.ctx, &f->kv.conf), KE_EBUSY);
    assert_non_null(strstr(ke_ctx_error(f->env.ctx), f->folder));
    pid_t pid = fork();
    if (pid == 0) {
        struct ke_ctx *ctx = NULL;
        int r = ke_ctx_new(&ctx, NULL, NULL);
        if (r == 0)
            r = ke_store_open(&s, ctx, &f->kv.conf);
        _exit(r == KE_EBUSY ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(kv_put(&f->kv, "b", "k", "v"), 0);
    kv_close(&f->kv);
    open_it(f);
    expect(f, "b", "k", "v");
}

static void foreign_reader_is_refused(void **state)
{
    struct fixture *f = *state;
    char cmd[800];
    if (access("/usr/bin/sqlite3", X_OK) != 0)
        skip();
    open_it(f);
    assert_int_equal(kv_put(&f->kv, "b", "k", "v"), 0);
    (void)snprintf(cmd, sizeof cmd,
                   "/usr/bin/sqlite3 %s/kubeedge.db 'select count(*) from kv' 2>&1 | "
                   "grep -q 'database is locked'",
                   f->folder);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(kv_put(&f->kv, "b", "k", "v2"), 0);
    kv_close(&f->kv);
    /* and it is an ordinary file for it when nobody has it open */
    (void)snprintf(cmd, sizeof cmd,
                   "test \"$(/usr/bin/sqlite3 %s/kubeedge.db 'select value from kv')\" = v2",
                   f->folder);
    assert_int_equal(system(cmd), 0);
    open_it(f);
    expect(f, "b", "k", "v2");
    assert_int_equal(f->kv.salvaged.calls, 0);
}

static void memory_store(void **state)
{
    struct fixture *f = *state;
    f->kv.conf.flags = KE_STORE_MEMORY;
    f->kv.conf.folder = NULL;
    f->kv.conf.max_bytes = 1u << 20;
    open_it(f);
    assert_int_equal(kv_put(&f->kv, "b", "k", "v"), 0);
    expect(f, "b", "k", "v");
    char *big = calloc(1, 2u << 20);
    assert_int_equal(kv_put_bytes(&f->kv, "b", "big", big, 2u << 20), KE_ELIMIT);
    free(big);
    expect(f, "b", "k", "v");
    struct rows rows;
    kv_list(&f->kv, NULL, "", 0, &rows);
    assert_int_equal(rows.n, 1);
    rows_free(&rows);
    reopen(f);
    assert_int_equal(kv_get(&f->kv, "b", "k", NULL), KE_ENOTFOUND);
    assert_int_equal(access(f->folder, F_OK), -1);
}

static void count_done(void *user, int status)
{
    assert_int_equal(status, 0);
    ++*(int *)user;
}

static void close_finishes(void **state)
{
    struct fixture *f = *state;
    struct ke_store_tx *tx;
    int done = 0;
    open_it(f);
    for (int i = 0; i < 50; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%02d", i);
        assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
        assert_int_equal(ke_store_put(tx, "b", key, NULL, 0, "v", 1), 0);
        assert_int_equal(ke_store_commit(tx, count_done, &done), 0);
    }
    assert_int_equal(ke_store_begin(&tx, f->kv.s), 0);
    assert_int_equal(ke_store_put(tx, "b", "open", NULL, 0, "v", 1), 0);
    kv_close(&f->kv);
    assert_int_equal(done, 50);
    open_it(f);
    struct rows rows;
    kv_list(&f->kv, "b", "", 0, &rows);
    assert_int_equal(rows.n, 50);
    rows_free(&rows);
}

static void two_stores(void **state)
{
    struct fixture *f = *state;
    char folder[320];
    struct kv other;
    (void)snprintf(folder, sizeof folder, "%s/other", f->tmp);
    kv_init(&other, f->env.ctx, folder);
    open_it(f);
    assert_int_equal(kv_open(&other), 0);
    assert_int_equal(kv_put(&f->kv, "b", "k", "one"), 0);
    assert_int_equal(kv_put(&other, "b", "k", "two"), 0);
    expect(f, "b", "k", "one");
    kv_close(&other);
    expect(f, "b", "k", "one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(survives_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(folder_is_private, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(deletes_by_prefix_and_uid, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(one_opener, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_reader_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_store, setup, teardown),
        cmocka_unit_test_setup_teardown(close_finishes, setup, teardown),
        cmocka_unit_test_setup_teardown(two_stores, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
