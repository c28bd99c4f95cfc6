/* SPDX-License-Identifier: Apache-2.0 */
/* The prebuilt keepalive reads as the message it stands for, in each dialect, at any time. */
#include "message/msg_priv.h"
#include "support/support.h"
#include "tunnel/keepalive.h"

static const char id1[] = "6bb656fe-8d61-486c-a7bd-e76c08cf53af";
static const char id2[] = "1047c8a1-98c4-4a2a-8b3f-94c8f6a7d3b2";

static void check(struct test_env *env, struct kei_keepalive *k, const char *id, int64_t ms)
{
    struct ke_str text = kei_keepalive_make(k, id, ms);
    struct ke_msg *m = NULL;
    size_t n;

    assert_int_equal(text.p[text.n - 1], '\n');
    assert_int_equal(ke_msg_decode(&m, env->ctx, text.p, text.n, NULL), 0);
    assert_string_equal(ke_msg_id(m), id);
    assert_int_equal(ke_msg_timestamp_ms(m), ms < 0                        ? 0
                                             : ms > INT64_C(9999999999999) ? INT64_C(9999999999999)
                                                                           : ms);
    assert_string_equal(ke_msg_source(m), "websocket");
    assert_string_equal(ke_msg_group(m), "resource");
    assert_string_equal(ke_msg_operation(m), "keepalive");
    assert_string_equal(ke_msg_resource(m), "node");
    assert_string_equal(ke_msg_content(m, &n), "\"ping\"");
    ke_msg_unref(m);
}

static void any_time_any_dialect(void **state)
{
    static const uint32_t dialects[] = {KE_DIALECT_AUTO, KE_DIALECT_1_4, KE_DIALECT_1_15,
                                        KE_DIALECT_1_23};
    static const int64_t times[] = {INT64_C(1795335480044), 0, 9, INT64_MAX, -5, 1};
    struct test_env env;
    struct kei_keepalive k;

    (void)state;
    test_env_init(&env, 0);
    for (size_t d = 0; d < 4; d++) {
        kei_keepalive_init(&k, dialects[d]);
        for (size_t i = 0; i < 6; i++)
            check(&env, &k, i % 2 ? id2 : id1, times[i]);
    }
    test_env_fini(&env);
}

/* Byte for byte as KubeEdge 1.15 writes it. */
static void same_as_upstream(void **state)
{
    static const char want[] =
        "{\"header\":{\"msg_id\":\"6bb656fe-8d61-486c-a7bd-e76c08cf53af\",\"timestamp\":"
        "1795335480044},\"route\":{\"source\":\"websocket\",\"group\":\"resource\",\"operation\":"
        "\"keepalive\",\"resource\":\"node\"},\"content\":\"ping\"}\n";
    struct kei_keepalive k;
    struct ke_str got;

    (void)state;
    kei_keepalive_init(&k, KE_DIALECT_1_15);
    got = kei_keepalive_make(&k, id1, INT64_C(1795335480044));
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.p, want, got.n);
}

/* A reader of 1.4 keeps what a message before said for every key that is missing. */
static void every_key_in_1_4(void **state)
{
    static const char *const keys[] = {"\"msg_id\":",
                                       "\"parent_msg_id\":\"\"",
                                       "\"timestamp\":",
                                       "\"resourceversion\":\"\"",
                                       "\"sync\":false",
                                       "\"source\":",
                                       "\"group\":",
                                       "\"operation\":",
                                       "\"resource\":\"node\"",
                                       "\"content\":"};
    struct kei_keepalive k;
    struct ke_str got;

    (void)state;
    kei_keepalive_init(&k, KE_DIALECT_1_4);
    got = kei_keepalive_make(&k, id1, 1);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_true(kei_str_has(got, kei_str(keys[i])));
}

static void allocates_nothing(void **state)
{
    struct test_env env;
    struct kei_keepalive k;
    size_t before;

    (void)state;
    test_env_init(&env, 0);
    kei_keepalive_init(&k, KE_DIALECT_1_15);
    before = atomic_load(&env.alloc.calls);
    for (int i = 0; i < 1000; i++) {
        char uuid[37];

        assert_int_equal(kei_ctx_uuid(env.ctx, uuid), 0);
        assert_true(kei_keepalive_make(&k, uuid, ke_ctx_real_ms(env.ctx)).n > 100);
    }
    assert_int_equal(atomic_load(&env.alloc.calls), before);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(any_time_any_dialect),
        KE_TEST(same_as_upstream),
        KE_TEST(every_key_in_1_4),
        KE_TEST(allocates_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
