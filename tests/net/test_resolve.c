/* SPDX-License-Identifier: Apache-2.0 */
/* Names to addresses. Runs in a network of its own, so that no question leaves the machine. */
#include "util.h"

#include "net/resolve.h"
#include "netns.h"

static bool own_network;

struct answer {
    struct kei_resolve *r;
    int calls, status;
    char text[600];
    size_t n;
    struct kei_addr first;
};

static void on_answer(void *user, int status, const char *text, const struct kei_addr *addrs,
                      size_t n)
{
    struct answer *a = user;
    a->calls++;
    a->status = status;
    a->n = n;
    if (n)
        a->first = addrs[0];
    snprintf(a->text, sizeof a->text, "%s", text);
}

static bool is_answered(void *arg)
{
    return ((struct answer *)arg)->calls > 0;
}

static void ask(struct test_env *env, const char *host, struct answer *a)
{
    memset(a, 0, sizeof *a);
    assert_int_equal(kei_resolve_start(&a->r, env->ctx, host, 81, on_answer, a), 0);
    assert_int_equal(a->calls, 0);
    assert_true(test_drive(env, is_answered, a));
}

static void literals(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "[::1]", "::1"};
    struct test_env env;
    struct answer a;

    (void)state;
    test_env_init(&env, 0);
    for (size_t i = 0; i < 3; i++) {
        ask(&env, hosts[i], &a);
        assert_int_equal(a.status, 0);
        assert_int_equal(a.n, 1);
        assert_int_equal(kei_addr_port(&a.first), 81);
    }
    test_env_fini(&env);
}

static void local_name(void **state)
{
    struct test_env env;
    struct answer a;
    char ip[KEI_ADDR_TEXT];

    (void)state;
    need_localhost();
    test_env_init(&env, 0);
    ask(&env, "localhost", &a);
    assert_int_equal(a.status, 0);
    assert_true(a.n >= 1);
    assert_int_equal(kei_addr_port(&a.first), 81);
    kei_addr_ip(&a.first, ip);
    assert_true(strcmp(ip, "127.0.0.1") == 0 || strcmp(ip, "::1") == 0);
    test_env_fini(&env);
}

static void unknown_name(void **state)
{
    struct test_env env;
    struct answer a;

    (void)state;
    if (!own_network)
        skip();
    test_env_init(&env, 0);
    ask(&env, "no-such-cloud.invalid", &a);
    assert_int_equal(a.status, KE_ERESOLVE);
    assert_non_null(strstr(a.text, "no-such-cloud.invalid"));
    /* the same through a stream: the text says what was being done */
    struct probe p;
    struct kei_stream_config c = {.host = "no-such-cloud.invalid", .port = 10000};
    probe_init(&p);
    assert_int_equal(kei_stream_connect(&p.s, env.ctx, &c, &probe_ops, &p), 0);
    assert_true(test_drive(&env, probe_is_closed, &p));
    assert_int_equal(p.status, KE_ERESOLVE);
    assert_non_null(strstr(p.text,
                           "could not connect to no-such-cloud.invalid port 10000: the name did "
                           "not resolve: "));
    probe_fini(&p);
    test_env_fini(&env);
}

static void bad_names(void **state)
{
    static const char *const hosts[] = {"", "a b", "a..b", "[::1", "x\n"};
    struct test_env env;
    struct answer a = {0};

    (void)state;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        assert_int_equal(kei_resolve_start(&a.r, env.ctx, hosts[i], 1, on_answer, &a), KE_EINVAL);
    test_settle(&env);
    assert_int_equal(a.calls, 0);
    test_env_fini(&env);
}

static void cancelled(void **state)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct test_env env;
        struct answer a = {0};
        test_env_init(&env, 0);
        assert_int_equal(kei_resolve_start(&a.r, env.ctx, hosts[i / 2], 1, on_answer, &a), 0);
        kei_resolve_cancel(a.r);
        if (i % 2)
            test_settle(&env); /* else the context is freed with the lookup under way */
        assert_int_equal(a.calls, 0);
        test_env_fini(&env);
    }
    kei_resolve_cancel(NULL);
}

static void without_memory(void **state)
{
    struct test_env env;
    struct answer a = {0};

    (void)state;
    test_env_init(&env, 0);
    test_alloc_fail_at(&env.alloc, 1);
    assert_int_equal(kei_resolve_start(&a.r, env.ctx, "localhost", 1, on_answer, &a), KE_ENOMEM);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(literals),  KE_TEST(local_name), KE_TEST(unknown_name),
        KE_TEST(bad_names), KE_TEST(cancelled),  KE_TEST(without_memory),
    };
    own_network = netns_enter();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
