/* SPDX-License-Identifier: Apache-2.0 */
/* Making, reading, writing and counting messages. */
#include "support/support.h"

#include <pthread.h>

#include "base/json.h"
#include "message/msg_priv.h"

static struct ke_msg *decode(struct test_env *e, const char *text)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_msg *m = NULL;

    if (ke_msg_decode(&m, e->ctx, text, strlen(text), &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return m;
}

static void assert_encodes(struct test_env *e, const struct ke_msg *m, uint32_t dialect,
                           const char *want)
{
    struct ke_buf out = {NULL, 0, 0, NULL};

    assert_int_equal(ke_msg_encode(m, e->ctx, dialect, &out, NULL), 0);
    assert_string_equal(out.p, want);
    ke_buf_free(&out);
}

static void made_of_a_config(void **state)
{
    (void)state;
    struct test_env env;
    struct ke_msg_config c;
    struct ke_msg *m, *other;
    size_t n;

    test_env_init(&env, 0);
    ke_msg_config_init(&c, sizeof c);
    c.source = "edged";
    c.group = "meta";
    c.operation = "query";
    c.resource = "default/configmap/c";
    assert_int_equal(ke_msg_new(&m, env.ctx, &c, NULL), 0);
    assert_int_equal(strlen(ke_msg_id(m)), 36);
    assert_int_equal(ke_msg_id(m)[14], '4');
    assert_int_equal(ke_msg_timestamp_ms(m), ke_ctx_real_ms(env.ctx));
    assert_string_equal(ke_msg_parent_id(m), "");
    assert_string_equal(ke_msg_destination(m), "");
    assert_string_equal(ke_msg_content(m, &n), "null");
    assert_int_equal(n, 4);
    assert_int_equal(ke_msg_new(&other, env.ctx, &c, NULL), 0);
    assert_string_not_equal(ke_msg_id(m), ke_msg_id(other));
    ke_msg_unref(other);
    ke_msg_unref(m);

    c.id = "i";
    c.timestamp_ms = 5;
    c.resource_version = "7";
    c.content = "  {\"a\": 1}\nx";
    c.content_len = 11; /* without the x; the white space around is no content */
    assert_int_equal(ke_msg_new(&m, env.ctx, &c, NULL), 0);
    assert_string_equal(ke_msg_content(m, &n), "{\"a\": 1}");
    assert_encodes(&env, m, KE_DIALECT_1_23,
                   "{\"header\":{\"msg_id\":\"i\",\"timestamp\":5,\"resourceversion\":\"7\"},"
                   "\"route\":{\"source\":\"edged\",\"group\":\"meta\",\"operation\":\"query\","
                   "\"resource\":\"default/configmap/c\"},\"content\":{\"a\": 1}}\n");
    ke_msg_unref(m);
    test_env_fini(&env);
}

static void refused(void **state)
{
    (void)state;
    struct test_env env;
    struct ke_msg_config c;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_msg *m = (void *)&env;

    test_env_init(&env, 0);
    ke_msg_config_init(&c, sizeof c);
    assert_int_equal(ke_msg_new(NULL, env.ctx, &c, &err), KE_EINVAL);
    assert_int_equal(ke_msg_new(&m, NULL, &c, &err), KE_EINVAL);
    assert_int_equal(ke_msg_new(&m, env.ctx, NULL, &err), KE_EINVAL);
    c.operation = "insert";
    c.resource = "default/pod/web";
    c.content = "{} {}";
    c.content_len = 5;
    assert_int_equal(ke_msg_new(&m, env.ctx, &c, &err), KE_EPARSE);
    assert_non_null(strstr(err.text, "default/pod/web"));
    c.content_len = 0;
    assert_int_equal(ke_msg_new(&m, env.ctx, &c, &err), KE_EPARSE);
    c.content = NULL;
    c.size = 8;
    assert_int_equal(ke_msg_new(&m, env.ctx, &c, &err), KE_EABI);
    assert_ptr_equal(m, &env); /* results are set on success only */
    ke_msg_unref(NULL);
    assert_null(ke_msg_ref(NULL));
    assert_string_equal(ke_msg_id(NULL), "");
    assert_string_equal(ke_msg_content(NULL, NULL), "null");
    test_env_fini(&env);
}

static void replies(void **state)
{
    (void)state;
    struct test_env env;
    struct ke_msg *r;

    test_env_init(&env, 0);
    struct ke_msg *m =
        decode(&env, "{\"header\":{\"msg_id\":\"a\",\"parent_msg_id\":\"p\","
                     "\"timestamp\":1,\"resourceversion\":\"9\",\"type\":\"t\"},"
                     "\"route\":{\"source\":\"edgecontroller\",\"group\":\"resource\","
                     "\"operation\":\"insert\",\"resource\":\"default/pod/web\"},"
                     "\"content\":{}}");
    assert_int_equal(ke_msg_new_reply(&r, env.ctx, m, "\"OK\"", 4, NULL), 0);
    assert_string_not_equal(ke_msg_id(r), "a");
    assert_string_equal(ke_msg_parent_id(r), "a");
    assert_string_equal(ke_msg_source(r), "edgecontroller");
    assert_string_equal(ke_msg_group(r), "resource");
    assert_string_equal(ke_msg_operation(r), "response");
    assert_string_equal(ke_msg_resource(r), "default/pod/web");
    assert_string_equal(ke_msg_resource_version(r), "");
    assert_string_equal(ke_msg_content(r, NULL), "\"OK\"");
    ke_msg_unref(r);
    assert_int_equal(ke_msg_new_reply(&r, env.ctx, m, "{", 1, NULL), KE_EPARSE);
    assert_int_equal(ke_msg_new_reply(&r, env.ctx, NULL, NULL, 0, NULL), KE_EINVAL);
    ke_msg_unref(m);
    test_env_fini(&env);
}

/* What upstream's decoder takes must be taken, in whatever order and case. */
static void read_as_go_does(void **state)
{
    (void)state;
    struct test_env env;
    struct ke_msg *m;

    test_env_init(&env, 0);
    m = decode(&env, "{\"content\":[1],\"ROUTE\":{\"Operation\":\"x\",\"unknown\":{\"a\":[]}},"
                     "\"Header\":{\"MSG_ID\":\"i\",\"Timestamp\":1795336902294}} trailing");
    assert_string_equal(ke_msg_id(m), "i");
    assert_string_equal(ke_msg_operation(m), "x");
    assert_string_equal(ke_msg_resource(m), "");
    assert_string_equal(ke_msg_content(m, NULL), "[1]");
    assert_int_equal(ke_msg_timestamp_ms(m), INT64_C(1795336902294));
    ke_msg_unref(m);

    m = decode(&env,
               "{\"header\":{\"msg_id\":\"\\u00e9\\ud83d\\ude00\\ud800\",\"timestamp\":0},"
               "\"route\":{\"source\":\"a\xff\",\"resource\":\"x\\/y\"},\"content\":\"\\u0000\"}");
    assert_string_equal(ke_msg_id(m), "\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd");
    assert_string_equal(ke_msg_source(m), "a\xef\xbf\xbd");
    assert_string_equal(ke_msg_resource(m), "x/y");
    assert_string_equal(ke_msg_content(m, NULL), "\"\\u0000\""); /* content is not looked into */
    ke_msg_unref(m);

    m = decode(&env, "{}");
    assert_true(kei_msg_is_empty(m));
    assert_encodes(
        &env, m, KE_DIALECT_1_15,
        "{\"header\":{\"msg_id\":\"\",\"timestamp\":0},\"route\":{},\"content\":null}\n");
    assert_encodes(&env, m, KE_DIALECT_1_4,
                   "{\"header\":{\"msg_id\":\"\",\"parent_msg_id\":\"\",\"timestamp\":0,"
                   "\"resourceversion\":\"\",\"sync\":false},\"route\":{\"source\":\"\","
                   "\"group\":\"\",\"operation\":\"\",\"resource\":\"\"},\"content\":null}\n");
    ke_msg_unref(m);

    m = decode(&env, "{\"header\":null,\"route\":null,\"content\":null}");
    assert_true(kei_msg_is_empty(m));
    ke_msg_unref(m);

    /* the last of two counts; integers beyond 2^53 stay exact */
    m = decode(&env,
               "{\"header\":{\"msg_id\":\"a\",\"msg_id\":\"b\",\"timestamp\":9007199254740993},"
               "\"content\":{\"n\":9223372036854775807}}");
    assert_string_equal(ke_msg_id(m), "b");
    assert_int_equal(ke_msg_timestamp_ms(m), INT64_C(9007199254740993));
    assert_string_equal(ke_msg_content(m, NULL), "{\"n\":9223372036854775807}");
    ke_msg_unref(m);
    test_env_fini(&env);
}

/* type, destination and sync never appeared on the wire but belong to the form. */
static void rare_members_survive(void **state)
{
    (void)state;
    static const char wire[] =
        "{\"header\":{\"msg_id\":\"a\",\"parent_msg_id\":\"p\",\"timestamp\":1,"
        "\"resourceversion\":\"2\",\"sync\":true,\"type\":\"channel\"},\"route\":{\"source\":\"s\","
        "\"destination\":\"d\",\"group\":\"g\",\"operation\":\"o\",\"resource\":\"r\"},"
        "\"content\":\"\\u003ca\\u003e \\u2028 \\ud800\"}\n";
    struct test_env env;

    test_env_init(&env, 0);
    struct ke_msg *m = decode(&env, wire);
    assert_string_equal(ke_msg_destination(m), "d");
    assert_encodes(&env, m, KE_DIALECT_1_15, wire);
    ke_msg_unref(m);
    /* strings of the route are escaped as Go does */
    m = decode(&env, "{\"route\":{\"resource\":\"<&>\\\"\\\\\\n\\u2028\\u0001\"}}");
    assert_encodes(&env, m, KE_DIALECT_1_15,
                   "{\"header\":{\"msg_id\":\"\",\"timestamp\":0},\"route\":{\"resource\":"
                   "\"\\u003c\\u0026\\u003e\\\"\\\\\\n\\u2028\\u0001\"},\"content\":null}\n");
    ke_msg_unref(m);
    test_env_fini(&env);
}

static void malformed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error; /* part of the text */
    } table[] = {
        {"", "empty"},
        {"   ", "ended too early"},
        {"[]", "no JSON object"},
        {"\"OK\"", "no JSON object"},
        {"{\"header\":{\"msg_id\":5}}", "\"msg_id\" was no string"},
        {"{\"header\":[]}", "\"header\" was no object"},
        {"{\"route\":\"x\"}", "\"route\" was no object"},
        {"{\"route\":{\"resource\":{}}}", "\"resource\" was no string"},
        {"{\"header\":{\"timestamp\":\"1\"}}", "\"timestamp\" was no whole number"},
        {"{\"header\":{\"timestamp\":1.5}}", "\"timestamp\" was no whole number"},
        {"{\"header\":{\"timestamp\":9223372036854775808}}", "\"timestamp\" was no whole number"},
        {"{\"header\":{\"msg_id\":\"a\\u0000b\"}}", "\\u0000"},
        {"{\"header\":{\"msg_id\":\"a\"},\"content\":{\"a\":}", "offset"},
        {"{\"content\":\"a\nb\"}", "control character"},
    };
    struct test_env env;

    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_msg *m;
        int r = ke_msg_decode(&m, env.ctx, table[i].text, strlen(table[i].text), &err);
        if (r != KE_EPARSE || !strstr(err.text, table[i].error))
            fail_msg("%s: %d %s", table[i].text, r, err.text);
    }
    test_env_fini(&env);
}

static void deep_nesting(void **state)
{
    (void)state;
    enum { N = 1000000 };
    static const char head[] = "{\"header\":{\"msg_id\":\"m\"},\"content\":";
    struct ke_error err = KE_ERROR_INIT;
    struct test_env env;
    struct ke_msg *m;

    test_env_init(&env, 0);
    char *text = malloc(sizeof head + 2 * N);
    assert_non_null(text);
    memcpy(text, head, sizeof head);
    memset(text + sizeof head - 1, '[', N);
    memset(text + sizeof head - 1 + N, ']', N);
    text[sizeof head - 1 + 2 * N] = '}';
    assert_int_equal(ke_msg_decode(&m, env.ctx, text, sizeof head + 2 * N, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "128"));
    free(text);
    test_env_fini(&env);
}

/* A message that ends anywhere is an error or, cut after its value, the message; never a crash. */
static void cut_at_every_byte(void **state)
{
    (void)state;
    static const char wire[] =
        "{\"header\":{\"msg_id\":\"\\u0061\",\"timestamp\":12},\"route\":"
        "{\"source\":\"s\",\"resource\":\"r/\xc3\xa9\"},\"content\":[1.5e3,true]}\n";
    struct test_env env;
    struct kei_arena arena;
    struct kei_msg_view v;
    struct ke_msg *m;
    size_t id_seen = 0, route_seen = 0;

    test_env_init(&env, 0);
    for (size_t n = 0; n < sizeof wire; n++) {
        char *copy = malloc(n ? n : 1); /* so that a read behind the end is found */
        assert_non_null(copy);
        memcpy(copy, wire, n);
        int r = ke_msg_decode(&m, env.ctx, copy, n, NULL);
        assert_int_equal(r, n >= sizeof wire - 2 ? 0 : KE_EPARSE);
        if (r == 0)
            ke_msg_unref(m);
        kei_arena_init(&arena, &env.alloc.table, 0);
        kei_msg_view_head(&v, kei_strn(copy, n), &arena);
        id_seen += kei_str_is(v.id, "a");
        route_seen += kei_str_is(v.resource, "r/\xc3\xa9");
        kei_arena_free(&arena);
        free(copy);
    }
    /* header and route are known from their ends on */
    const char *header_end = strstr(wire, ",\"route\""), *route_end = strstr(wire, ",\"content\"");
    assert_int_equal(id_seen, sizeof wire - (size_t)(header_end - wire));
    assert_int_equal(route_seen, sizeof wire - (size_t)(route_end - wire));
    test_env_fini(&env);
}

static void memory_runs_out(void **state)
{
    (void)state;
    static const char wire[] = "{\"header\":{\"msg_id\":\"\\u0061\",\"timestamp\":12},\"route\":"
                               "{\"resource\":\"\\u0062\"},\"content\":{}}";
    struct ke_error err = KE_ERROR_INIT;
    struct test_env env;
    struct ke_msg *m;
    size_t n;

    test_env_init(&env, 0);
    for (n = 1;; n++) {
        test_alloc_fail_at(&env.alloc, n);
        int r = ke_msg_decode(&m, env.ctx, wire, sizeof wire - 1, &err);
        if (r == 0)
            break;
        assert_int_equal(r, KE_ENOMEM);
    }
    assert_int_equal(n, 3); /* the arena of the escaped strings and the message: no more */
    test_alloc_fail_at(&env.alloc, 0);

    struct ke_buf out = {NULL, 0, 0, NULL};
    for (n = 1;; n++) {
        test_alloc_fail_at(&env.alloc, n);
        int r = ke_msg_encode(m, env.ctx, KE_DIALECT_1_4, &out, &err);
        if (r == 0)
            break;
        assert_int_equal(r, KE_ENOMEM);
        assert_int_equal(out.n, 0);
        kei_buf_clear(&out);
        ke_buf_free(&out);
    }
    test_alloc_fail_at(&env.alloc, 0);
    assert_true(n > 1);
    ke_buf_free(&out);
    ke_msg_unref(m);
    test_env_fini(&env);
}

static void *refs(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        struct ke_msg *m = ke_msg_ref(arg);
        if (strcmp(ke_msg_id(m), "a") != 0)
            return arg;
        ke_msg_unref(m);
    }
    ke_msg_unref(arg);
    return NULL;
}

/* The last reference frees, on whatever thread that is; run under a thread checker too. */
static void many_owners(void **state)
{
    (void)state;
    struct test_env env;
    pthread_t t[4];

    test_env_init(&env, 0);
    struct ke_msg *m = decode(&env, "{\"header\":{\"msg_id\":\"a\"}}");
    size_t live = test_alloc_live(&env.alloc);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, refs, ke_msg_ref(m)), 0);
    ke_msg_unref(m);
    for (size_t i = 0; i < 4; i++) {
        void *bad;
        assert_int_equal(pthread_join(t[i], &bad), 0);
        assert_null(bad);
    }
    assert_int_equal(test_alloc_live(&env.alloc), live - 1);
    test_env_fini(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_of_a_config),
        cmocka_unit_test(refused),
        cmocka_unit_test(replies),
        cmocka_unit_test(read_as_go_does),
        cmocka_unit_test(rare_members_survive),
        cmocka_unit_test(malformed),
        cmocka_unit_test(deep_nesting),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(many_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
