/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registration, status and lease against a scripted metamanager on the router: what is asked in which
 * order, and what each kind of answer leads to.
 */
#include "support/support.h"

#include "message/msg_priv.h"
#include "node/duty.h"

#define LOG_MAX 64

struct rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_module *meta;
    struct kei_duty *duty;
    struct ke_node_config config;
    uint32_t dialect;
    bool runtime_ready;
    int ready, answered;
    /* what was asked: "operation resource" */
    char log[LOG_MAX][160];
    char last_content[8192];
    int n;
    bool node_exists, lease_exists, silent, broken;
};

static const char *answer_to(struct rig *r, const struct ke_msg *m)
{
    const char *op = ke_msg_operation(m), *res = ke_msg_resource(m);
    static const char not_found[] =
        "{\"Object\":null,\"Err\":{\"ErrStatus\":{\"metadata\":{},\"status\":\"Failure\",\"message\":\"not "
        "found\",\"reason\":\"NotFound\",\"code\":404}}}";
    static const char exists[] =
        "{\"Object\":null,\"Err\":{\"ErrStatus\":{\"metadata\":{},\"status\":\"Failure\",\"message\":\"already "
        "exists\",\"reason\":\"AlreadyExists\",\"code\":409}}}";
    static const char go_error[] = "{\"Object\":{\"metadata\":{}},\"Err\":{\"Op\":\"Put\",\"URL\":\"x\"}}";
    if (r->broken)
        return go_error;
    if (strstr(res, "/lease/")) {
        if (strcmp(op, "query") == 0 && !r->lease_exists)
            return not_found;
        r->lease_exists = true;
        return "{\"metadata\":{\"name\":\"edge-1\",\"uid\":\"L\",\"resourceVersion\":\"7\"},\"spec\":{"
               "\"renewTime\":\"2026-11-22T08:18:00.000000Z\",\"x\":9007199254740993}}";
    }
    if (strcmp(op, "insert") == 0) {
        if (r->node_exists)
            return r->dialect == KE_DIALECT_1_4 ? "\"OK\"" : exists;
        r->node_exists = true;
        return r->dialect == KE_DIALECT_1_4
                   ? "\"OK\""
                   : "{\"metadata\":{\"name\":\"edge-1\",\"uid\":\"node-uid\"},\"spec\":{},\"status\":{}}";
    }
    if (strstr(res, "/nodestatus/") && !r->node_exists)
        return r->dialect == KE_DIALECT_1_4 ? NULL : not_found;
    return strstr(res, "/nodestatus/") && r->dialect != KE_DIALECT_1_4
               ? "{\"metadata\":{\"name\":\"edge-1\",\"uid\":\"node-uid\"},\"spec\":{},\"status\":{}}"
               : "\"OK\"";
}

static void on_request(void *user, struct ke_msg *m)
{
    struct rig *r = user;
    struct ke_msg *reply = NULL;
    size_t n = 0;
    const char *content = ke_msg_content(m, &n);
    snprintf(r->last_content, sizeof r->last_content, "%.*s", (int)n, content);
    if (r->n < LOG_MAX)
        snprintf(r->log[r->n++], sizeof r->log[0], "%s %s", ke_msg_operation(m), ke_msg_resource(m));
    const char *text = r->silent ? NULL : answer_to(r, m);
    if (!text)
        return;
    /* the asker may have given up meanwhile, then nobody takes it */
    if (ke_msg_new_reply(&reply, r->env.ctx, m, text, strlen(text), NULL) == 0)
        r->answered += ke_router_respond(r->router, reply, NULL) == 0;
    ke_msg_unref(reply);
}

static uint32_t dialect_of(void *user)
{
    return ((struct rig *)user)->dialect;
}

static void runtime_of(void *user, struct kei_node_facts *f)
{
    struct rig *r = user;
    f->runtime_name = "process";
    f->runtime_version = "1";
    f->runtime_ready = r->runtime_ready;
    f->runtime_text = "";
}

static void on_ready(void *user)
{
    ((struct rig *)user)->ready++;
}

static void rig_init(struct rig *r, uint32_t dialect)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_request};
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    r->env.idle_ms = 1; /* nothing comes from outside */
    r->dialect = dialect;
    r->runtime_ready = true;
    r->config = (struct ke_node_config){.size = sizeof r->config, .name = "edge-1", .data = "/tmp",
                                        .max_pods = 110, .status_ms = 10000};
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, NULL), 0);
    assert_int_equal(ke_router_add(&r->meta, r->router, "metamanager", "meta", &ops, r), 0);
    struct kei_duty_config c = {.node = &r->config, .address = "127.0.0.1", .dialect = dialect_of,
                                .runtime = runtime_of, .ready = on_ready, .user = r};
    assert_int_equal(kei_duty_new(&r->duty, r->env.ctx, r->router, &c), 0);
}

static void rig_fini(struct rig *r)
{
    kei_duty_free(r->duty);
    ke_module_remove(r->meta);
    ke_router_free(r->router);
    test_env_fini(&r->env);
}

static int count(const struct rig *r, const char *what)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        n += strcmp(r->log[i], what) == 0;
    return n;
}

static void expect_order(const struct rig *r, const char *const *want, int n)
{
    for (int i = 0; i < n; i++)
        if (i >= r->n || strcmp(r->log[i], want[i]) != 0)
            fail_msg("step %d is \"%s\", not \"%s\"", i, i < r->n ? r->log[i] : "", want[i]);
}

static void first_registration(void **state)
{
    static const char *const want[] = {"insert default/node/edge-1", "query kube-node-lease/lease/edge-1",
                                       "update default/nodestatus/edge-1",
                                       "insert kube-node-lease/lease/edge-1"};
    (void)state;
    struct rig r;
    rig_init(&r, KE_DIALECT_1_15);
    kei_duty_connected(r.duty, true);
    test_settle(&r.env);
    expect_order(&r, want, 4);
    assert_int_equal(r.ready, 1);
    /* the owner reference carries the uid that the registration brought */
    assert_non_null(strstr(r.last_content, "\"uid\":\"node-uid\""));
    r.n = 0;
    test_drive_ms(&r.env, 35000);
    /* idle: the lease every 10 s, the status only when it changes */
    assert_int_equal(count(&r, "update kube-node-lease/lease/edge-1"), 3);
    assert_int_equal(count(&r, "insert default/node/edge-1"), 0);
    /* a member the cloud put into the lease survives, with all its digits */
    assert_non_null(strstr(r.last_content, "9007199254740993"));
    rig_fini(&r);
}

static void existing_node_gets_its_labels(void **state)
{
    static const char *const want[] = {"insert default/node/edge-1", "update default/node/edge-1",
                                       "query kube-node-lease/lease/edge-1",
                                       "update default/nodestatus/edge-1",
                                       "update kube-node-lease/lease/edge-1"};
    (void)state;
    struct rig r;
    rig_init(&r, KE_DIALECT_1_15);
    r.node_exists = r.lease_exists = true;
    kei_duty_connected(r.duty, true);
    test_settle(&r.env);
    expect_order(&r, want, 5);
    assert_int_equal(r.ready, 1);
    rig_fini(&r);
}

static void gone_node_is_registered_again(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, KE_DIALECT_1_15);
    kei_duty_connected(r.duty, true);
    test_settle(&r.env);
    r.node_exists = false;
    r.n = 0;
    kei_duty_connected(r.duty, false);
    kei_duty_connected(r.duty, true);
    test_settle(&r.env);
    assert_int_equal(count(&r, "insert default/node/edge-1"), 1);
    assert_true(r.node_exists);
    assert_true(r.ready >= 2);
    rig_fini(&r);
}

static void old_cloud_without_lease(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, KE_DIALECT_1_4);
    kei_duty_connected(r.duty, true);
    test_settle(&r.env);
    assert_string_equal(r.log[0], "insert default/node/edge-1");
    assert_string_equal(r.log[1], "update default/nodestatus/edge-1");
    assert_int_equal(r.n, 2);
    test_drive_ms(&r.env, 30000);
    assert_int_equal(count(&r, "update default/nodestatus/edge-1"), 4);
    assert_null(strstr(r.log[r.n - 1], "lease"));
    /* it tells no error: the node inserts again after each connect */
    kei_duty_connected(r.duty, false);
    kei_duty_connected(r.duty, true);
    test_settle(&r.env);
    assert_int_equal(count(&r, "insert default/node/edge-1"), 2);
    rig_fini(&r);
}

static void failures_are_retried(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, KE_DIALECT_1_15);
    r.broken = true; /* an error that is no Kubernetes status must not pass for success */
    kei_duty_connected(r.duty, true);
    test_drive_ms(&r.env, 60000);
    assert_int_equal(r.ready, 0);
    int tries = count(&r, "insert default/node/edge-1");
    assert_true(tries >= 8 && tries < 200);
    r.broken = false;
    test_drive_ms(&r.env, 10000);
    assert_int_equal(r.ready, 1);
    rig_fini(&r);
}

static void silence_times_out(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, KE_DIALECT_1_15);
    r.silent = true;
    kei_duty_connected(r.duty, true);
    test_drive_ms(&r.env, 59000);
    assert_int_equal(r.n, 1);
    r.silent = false;
    test_drive_ms(&r.env, 10000);
    assert_int_equal(r.ready, 1);
    /* the link going ends what is open */
    r.silent = true;
    kei_duty_connected(r.duty, false);
    r.n = 0;
    test_drive_ms(&r.env, 100000);
    assert_int_equal(r.n, 0);
    rig_fini(&r);
}

static void change_is_reported_soon(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, KE_DIALECT_1_15);
    kei_duty_connected(r.duty, true);
    test_settle(&r.env);
    r.n = 0;
    r.runtime_ready = false;
    kei_duty_changed(r.duty);
    test_drive_ms(&r.env, 1);
    assert_int_equal(count(&r, "update default/nodestatus/edge-1"), 1);
    assert_non_null(strstr(r.last_content, "KubeletNotReady"));
    rig_fini(&r);
}

static void allocation_failures(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 400; n++) {
        struct rig r;
        rig_init(&r, KE_DIALECT_1_15);
        test_alloc_fail_at(&r.env.alloc, n);
        kei_duty_connected(r.duty, true);
        test_drive_ms(&r.env, 5000);
        test_alloc_fail_at(&r.env.alloc, 0);
        test_drive_ms(&r.env, 70000);
        if (r.ready < 1)
            fail_msg("allocation %u stopped the node for good", n);
        atomic_store(&r.env.log_errors, 0);
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_registration),     cmocka_unit_test(existing_node_gets_its_labels),
        cmocka_unit_test(gone_node_is_registered_again), cmocka_unit_test(old_cloud_without_lease),
        cmocka_unit_test(failures_are_retried),   cmocka_unit_test(silence_times_out),
        cmocka_unit_test(change_is_reported_soon), cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
