/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is applied, what is an echo, what is stale: by uid, resource version and, where the version
 * says nothing, by content; over restarts; the index by itself.
 */
#include "meta_rig.h"

#include "meta/index.h"

#define T0 INT64_C(1795335480000)
#define MIN INT64_C(60000)

struct step {
    const char *operation, *uid, *version, *data;
    int64_t after_ms; /* header.timestamp after T0 */
    const char *told; /* operation edged is told, NULL: nothing */
    const char *row;  /* data in the row afterwards, NULL: no row */
};

/* Each is one life of default/configmap/c; every message is acknowledged, whatever becomes of it.
 */
static const struct scenario {
    const char *name;
    struct step steps[8];
} scenarios[] = {
    {"versions grow",
     {{"insert", "u", "5", "a", 0, "insert", "a"},
      {"update", "u", "6", "b", 10, "update", "b"},
      {"update", "u", "10", "c", 20, "update", "c"}, /* as numbers, not as text */
      {"update", "u", "9", "b", 30, NULL, "c"}}},
    {"echo",
     {{"insert", "u", "5", "a", 0, "insert", "a"},
      {"update", "u", "5", "a", 10, NULL, "a"},
      {"insert", "u", "5", "a", 10, NULL, "a"}}},
    {"same version, other content",
     {{"insert", "u", "5", "a", 0, "insert", "a"}, {"update", "u", "5", "b", 10, "update", "b"}}},
    {"without version",
     {{"insert", "u", "", "a", 0, "insert", "a"},
      {"update", "u", "", "a", 10, NULL, "a"},
      {"update", "u", "", "b", 20, "update", "b"}}},
    {"another uid of that name",
     {{"insert", "u", "5", "a", 0, "insert", "a"},
      {"insert", "v", "9", "b", 10, "insert", "b"},
      {"update", "u", "6", "a", 20, NULL, "b"}, /* the one before, late */
      {"delete", "u", "7", "a", 30, NULL, "b"},
      {"update", "v", "10", "c", 40, "update", "c"}}},
    {"another uid with a lower version",
     {{"insert", "u", "900", "a", 0, "insert", "a"},
      {"insert", "v", "9", "b", 10, "insert", "b"},
      {"update", "v", "10", "c", 40, "update", "c"}}},
    {"deleted and late",
     {{"insert", "u", "5", "a", 0, "insert", "a"},
      {"delete", "u", "7", "a", 10, "delete", NULL},
      {"update", "u", "6", "b", 5, NULL, NULL},
      {"update", "u", "7", "b", 5, NULL, NULL},
      {"insert", "v", "8", "c", 20, "insert", "c"}}},
    {"deleted by a stub and told again",
     {{"insert", "u", "5", "a", 0, "insert", "a"},
      {"delete", "u", "", "", 10, "delete", NULL},
      {"update", "u", "5", "a", 5, NULL, NULL},       /* sent before the stub */
      {"update", "u", "5", "a", 2000, "update", "a"}, /* the cloud has it after all */
      {"update", "u", "6", "b", 3000, "update", "b"}}},
    {"an API server put back from a backup",
     {{"insert", "u", "500", "a", 0, "insert", "a"},
      {"update", "u", "301", "b", 2 * MIN, NULL, "a"},
      {"update", "u", "301", "b", 11 * MIN, "update", "b"},
      {"update", "u", "302", "c", 11 * MIN + 5, "update", "c"},
      {"update", "u", "301", "b", 11 * MIN + 9, NULL, "c"}}},
    {"deleted and back from a backup",
     {{"insert", "u", "500", "a", 0, "insert", "a"},
      {"delete", "u", "510", "a", 10, "delete", NULL},
      {"update", "u", "400", "b", MIN, NULL, NULL},
      {"update", "u", "400", "b", 20 * MIN, "update", "b"}}},
};

static void content_of(const struct step *s, char out[512])
{
    snprintf(out, 512,
             "{\"metadata\":{\"name\":\"c\",\"namespace\":\"default\",\"uid\":\"%s\"%s%s%s},"
             "\"data\":{\"k\":\"%s\"}}",
             s->uid, *s->version ? ",\"resourceVersion\":\"" : "", s->version,
             *s->version ? "\"" : "", s->data);
}

static void check_row(struct meta_rig *r, const struct scenario *sc, size_t k, const char *data)
{
    char want[64];

    if (!data) {
        if (meta_row(r, "o/configmap", "default/c") != KE_ENOTFOUND)
            fail_msg("%s, step %zu: there is a row: %s", sc->name, k, r->row);
        return;
    }
    snprintf(want, sizeof want, "\"data\":{\"k\":\"%s\"}", data);
    if (meta_row(r, "o/configmap", "default/c") != 0 || !strstr(r->row, want))
        fail_msg("%s, step %zu: the row is %s", sc->name, k, r->row);
}

/* restart_each: the index is read from the store before every message. */
static void play(const struct scenario *sc, bool restart_each)
{
    struct meta_rig r;

    meta_init(&r, true);
    for (size_t k = 0; sc->steps[k].operation; k++) {
        const struct step *s = &sc->steps[k];
        char content[512], id[37];
        struct told t = {.operation = s->operation,
                         .resource = "default/configmap/c",
                         .rv = s->version,
                         .content = content,
                         .timestamp_ms = T0 + s->after_ms};

        if (restart_each)
            meta_restart(&r);
        meta_forget(&r);
        content_of(s, content);
        meta_tell(&r, &t, id);
        if (meta_acks(&r, id) != 1)
            fail_msg("%s, step %zu: not acknowledged", sc->name, k);
        if (r.edged.n != (s->told ? 1u : 0u) ||
            (s->told && strcmp(ke_msg_operation(r.edged.m[0]), s->told) != 0))
            fail_msg("%s, step %zu: %s was told", sc->name, k,
                     r.edged.n ? ke_msg_operation(r.edged.m[0]) : "nothing");
        check_row(&r, sc, k, s->row);
    }
    meta_fini(&r);
}

static void judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        play(&scenarios[i], false);
}

static void judged_over_restarts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        play(&scenarios[i], true);
}

/* ---- the index by itself ---- */

static struct kei_told told(const char *name, const char *uid, int64_t version)
{
    struct kei_told o = {
        .name = kei_str(name), .uid = kei_str(uid), .version = version, .at_ms = T0};

    o.digest = kei_index_digest(kei_str(uid));
    return o;
}

static void the_deleted_are_bounded(void **state)
{
    struct test_env env;
    struct kei_index ix;
    char name[64], uid[32];
    uint32_t pruned = 0;

    (void)state;
    test_env_init(&env, 0);
    kei_index_init(&ix, kei_ctx_alloc(env.ctx), 1, 2);
    for (uint32_t i = 0; i < 3 * KEI_TOMBS_MAX; i++) {
        struct kei_applied *e = NULL;
        struct kei_told o;

        snprintf(name, sizeof name, "pod default/p%u", i);
        snprintf(uid, sizeof uid, "u%u", i);
        o = told(name, uid, i + 1);
        assert_int_equal(kei_index_judge(&ix, &o), KEI_VERDICT_NEW);
        assert_int_equal(kei_index_put(&ix, &o, &e, NULL), 0);
        assert_int_equal(kei_index_judge(&ix, &o), KEI_VERDICT_ECHO);
        kei_index_delete(&ix, e, 0, T0);
        assert_int_equal(kei_index_judge(&ix, &o), KEI_VERDICT_STALE);
        while ((e = kei_index_prune(&ix)) != NULL) {
            pruned++;
            kei_applied_free(&ix, e);
        }
    }
    assert_int_equal(ix.n_tombs, KEI_TOMBS_MAX);
    assert_int_equal(pruned, 2 * KEI_TOMBS_MAX);
    assert_int_equal(ix.uids.n, KEI_TOMBS_MAX);
    assert_int_equal(ix.names.n, 0);
    kei_index_fini(&ix);
    test_env_fini(&env);
}

/* Objects without uid are known by their name; what replaces them frees them. */
static void without_uid(void **state)
{
    struct test_env env;
    struct kei_index ix;
    struct kei_applied *e = NULL, *replaced = NULL;
    struct kei_told a, b;

    (void)state;
    test_env_init(&env, 0);
    kei_index_init(&ix, kei_ctx_alloc(env.ctx), 1, 2);
    a = told("configmap default/c", "", 5);
    assert_int_equal(kei_index_put(&ix, &a, &e, NULL), 0);
    assert_int_equal(kei_index_judge(&ix, &a), KEI_VERDICT_ECHO);
    a.version = 4;
    assert_int_equal(kei_index_judge(&ix, &a), KEI_VERDICT_STALE);
    b = told("configmap default/c", "u", 1);
    assert_int_equal(kei_index_judge(&ix, &b), KEI_VERDICT_NEW);
    assert_int_equal(kei_index_put(&ix, &b, &e, &replaced), 0);
    assert_null(replaced);
    assert_string_equal(e->uid, "u");
    a = told("configmap default/d", "", 5);
    assert_int_equal(kei_index_put(&ix, &a, &e, NULL), 0);
    kei_index_delete(&ix, e, 0, T0);
    assert_null(kei_index_name(&ix, a.name));
    kei_index_fini(&ix);
    test_env_fini(&env);
}

/* Live objects whose row was lost (a salvaged store) are new when the cloud tells them again. */
static void lost_rows_are_forgotten(void **state)
{
    struct test_env env;
    struct kei_index ix;
    struct kei_told a = told("pod default/a", "ua", 5), b = told("pod default/b", "ub", 5);

    (void)state;
    test_env_init(&env, 0);
    kei_index_init(&ix, kei_ctx_alloc(env.ctx), 1, 2);
    assert_int_equal(
        kei_index_load_applied(&ix, kei_str("ua"), 9, kei_str("+1795335480000 pod default/a")), 0);
    assert_int_equal(
        kei_index_load_applied(&ix, kei_str("ub"), 9, kei_str("+1795335480000 pod default/b")), 0);
    assert_int_equal(kei_index_load_applied(&ix, kei_str("uc"), 9, kei_str("-1795335480000")), 0);
    assert_int_equal(kei_index_load_applied(&ix, kei_str("ud"), 9, kei_str("")), 0);
    assert_int_equal(kei_index_load_object(&ix, b.name, b.uid, 9, kei_str("ub")), 0);
    kei_index_loaded(&ix);
    assert_int_equal(kei_index_judge(&ix, &a), KEI_VERDICT_NEW);
    assert_int_equal(kei_index_judge(&ix, &b), KEI_VERDICT_STALE);
    b.version = 9;
    assert_int_equal(kei_index_judge(&ix, &b), KEI_VERDICT_ECHO);
    a = told("pod default/c", "uc", 9);
    assert_int_equal(kei_index_judge(&ix, &a), KEI_VERDICT_STALE);
    kei_index_fini(&ix);
    test_env_fini(&env);
}

static void memory_that_is_refused(void **state)
{
    (void)state;
    for (size_t n = 1; n < 60; n++) {
        struct test_env env;
        struct kei_index ix;
        struct kei_told a = told("pod default/a", "ua", 5), b = told("pod default/a", "ub", 6);
        struct kei_applied *e = NULL;

        test_env_init(&env, 0);
        kei_index_init(&ix, kei_ctx_alloc(env.ctx), 1, 2);
        test_alloc_fail_at(&env.alloc, n);
        if (kei_index_put(&ix, &a, &e, NULL) == 0)
            assert_ptr_equal(kei_index_name(&ix, a.name), e);
        else
            assert_null(kei_index_name(&ix, a.name));
        if (kei_index_put(&ix, &b, &e, NULL) == 0)
            assert_ptr_equal(kei_index_name(&ix, b.name), e);
        else
            assert_null(kei_index_uid(&ix, b.uid));
        test_alloc_fail_at(&env.alloc, 0);
        kei_index_fini(&ix);
        test_env_fini(&env);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(judged),
        cmocka_unit_test(judged_over_restarts),
        cmocka_unit_test(the_deleted_are_bounded),
        cmocka_unit_test(without_uid),
        cmocka_unit_test(lost_rows_are_forgotten),
        cmocka_unit_test(memory_that_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
