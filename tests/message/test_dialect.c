/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neutral messages in the three dialects, held against the form of what upstream's edges sent, and
 * the patches against what a cloud makes of them.
 */
#include "support/support.h"

#include "message/captures.h"
#include "message/dialect.h"
#include "message/k8s.h"
#include "message/msg_priv.h"

#define NODE_STATUS                                                                                \
    "\"capacity\":{\"cpu\":\"2\",\"memory\":\"24684092Ki\"},\"conditions\":[{\"type\":\"Ready\","  \
    "\"status\":\"True\",\"reason\":\"EdgeReady\"}],\"addresses\":[{\"type\":\"InternalIP\","      \
    "\"address\":\"10.0.0.7\"}],\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":10350}},"       \
    "\"nodeInfo\":{\"kernelVersion\":\"6.1.0\",\"kubeletVersion\":\"?\",\"kubeProxyVersion\":\"?"  \
    "\"}"
#define NODE                                                                                       \
    "{\"metadata\":{\"name\":\"edge-1\",\"labels\":{\"a\":\"b\"}},\"spec\":{},\"status\":"         \
    "{" NODE_STATUS "}}"
#define POD_STATUS                                                                                 \
    "{\"UID\":\"u-1\",\"Name\":\"web\",\"Status\":{\"phase\":\"Running\",\"conditions\":[{"        \
    "\"type\":\"Ready\",\"status\":\"True\"}],\"hostIP\":\"10.0.0.7\",\"containerStatuses\":[]}}"

struct neutral {
    const char *group, *operation, *resource, *content;
};

static struct ke_msg *make(struct test_env *e, const struct neutral *n)
{
    struct ke_msg_config c;
    struct ke_msg *m;

    ke_msg_config_init(&c, sizeof c);
    c.id = "id";
    c.parent_id = "parent";
    c.timestamp_ms = 12345;
    c.source = "edged";
    c.group = n->group;
    c.operation = n->operation;
    c.resource = n->resource;
    c.content = n->content;
    c.content_len = strlen(n->content);
    assert_int_equal(ke_msg_new(&m, e->ctx, &c, NULL), 0);
    return m;
}

/* the JSON text inside a content that is a string; freed by the caller */
static char *unquoted(const struct ke_msg *m)
{
    struct ke_buf b = {NULL, 0, 0, NULL};
    struct ke_str content;

    content.p = ke_msg_content(m, &content.n);
    assert_int_equal(kei_json_str(content, &b, NULL), 0);
    return b.p;
}

static void words(void **state)
{
    (void)state;
    uint32_t d = 1;

    assert_true(kei_dialect_parse("1.4", &d));
    assert_int_equal(d, KE_DIALECT_1_4);
    assert_true(kei_dialect_parse("1.15", &d));
    assert_int_equal(d, KE_DIALECT_1_15);
    assert_true(kei_dialect_parse("1.23", &d));
    assert_int_equal(d, KE_DIALECT_1_23);
    assert_true(kei_dialect_parse("auto", &d));
    assert_int_equal(d, KE_DIALECT_AUTO);
    assert_false(kei_dialect_parse("1.5", &d));
    assert_false(kei_dialect_parse("", &d));
    assert_false(kei_dialect_parse(NULL, &d));
    assert_int_equal(d, KE_DIALECT_AUTO);
    assert_string_equal(kei_dialect_name(KE_DIALECT_1_23), "1.23");
    assert_string_equal(kei_dialect_name(KE_DIALECT_AUTO), "auto");
    assert_null(kei_dialect_name(7));
    assert_string_equal(kei_dialect_kubelet_version(KE_DIALECT_1_4), "v1.18.6-kubeedge-v1.4.0");
    assert_string_equal(kei_dialect_kubelet_version(KE_DIALECT_1_15), "v1.26.15-kubeedge-v1.15.4");
    assert_string_equal(kei_dialect_kubelet_version(KE_DIALECT_1_23), "v1.32.10-kubeedge-v1.23.1");
    assert_string_equal(kei_dialect_kubelet_version(KE_DIALECT_AUTO), "v1.26.15-kubeedge-v1.15.4");
}

/* operation, resource and plain content of every neutral message; "" for content: as it was */
static void every_message(void **state)
{
    (void)state;
    static const uint32_t dialects[3] = {KE_DIALECT_1_4, KE_DIALECT_1_15, KE_DIALECT_1_23};
    static const struct {
        struct neutral in;
        const char *out[3]; /* "operation resource content"; NULL: dropped; "=": unchanged */
    } table[] = {
        {{"meta", "query", "default/node/edge-1", "null"},
         {"=", "=", "query null/node/edge-1 null"}},
        {{"meta", "query", "null/node/edge-1", "null"},
         {"query default/node/edge-1 null", "query default/node/edge-1 null", "="}},
        {{"meta", "query", "ns/configmap/c", "null"}, {"=", "=", "="}},
        {{"meta", "query", "ns/secret/s", "null"}, {"=", "=", "="}},
        {{"meta", "query", "ns/serviceaccounttoken/sa", "{\"spec\":{}}"}, {NULL, "=", "="}},
        {{"meta", "query", "null/persistentvolume/pv", "null"},
         {"query default/persistentvolume/pv null", "=", "="}},
        {{"meta", "query", "kube-node-lease/lease/edge-1", "null"}, {NULL, "=", "="}},
        {{"meta", "insert", "kube-node-lease/lease/edge-1", "{}"}, {NULL, "=", "="}},
        {{"meta", "update", "kube-node-lease/lease/edge-1", "{}"}, {NULL, "=", "="}},
        {{"meta", "delete", "ns/pod/web",
          "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":"
          "\"u-1\"}}"},
         {"delete ns/pod/web \"u-1\"", "=", "="}},
        {{"user", "upload", "default/up", "\"payload\""},
         {"response ZGVmYXVsdC91cA== \"payload\"", "upload default/up \"payload\"",
          "upload default/up \"payload\""}},
        {{"user", "upload", "SYS/dis/upload_records", "\"p\""},
         {"response SYS/dis/upload_records \"p\"", "upload SYS/dis/upload_records \"p\"",
          "upload SYS/dis/upload_records \"p\""}},
        {{"meta", "update", "ns/podstatus/web", POD_STATUS}, {"=", "", ""}},
        /* answers and what is not ours to translate */
        {{"resource", "response", "default/node/edge-1", "\"OK\""}, {"=", "=", "="}},
        {{"resource", "keepalive", "node", "\"ping\""}, {"=", "=", "="}},
        {{"meta", "insert", "ns/pod/web", "{}"}, {"=", "=", "="}},
        {{"meta", "update", "ns/podstatus", "[]"}, {"=", "=", "="}},
        {{"meta", "", "", "null"}, {"=", "=", "="}},
    };
    struct test_env env;

    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        for (size_t d = 0; d < 3; d++) {
            struct ke_error err = KE_ERROR_INIT;
            struct ke_msg *m = make(&env, &table[i].in), *out = m;
            const char *want = table[i].out[d];
            char got[512];
            if (kei_dialect_translate(&out, env.ctx, m, dialects[d], &err) < 0)
                fail_msg("%s: %s", table[i].in.resource, err.text);
            if (!want) {
                assert_null(out);
            } else if (strcmp(want, "=") == 0) {
                assert_ptr_equal(out, m);
            } else {
                assert_ptr_not_equal(out, m);
                assert_string_equal(ke_msg_id(out), "id");
                assert_string_equal(ke_msg_parent_id(out), "parent");
                assert_int_equal(ke_msg_timestamp_ms(out), 12345);
                /* rules of a cloud know MQTT messages by this source */
                assert_string_equal(ke_msg_source(out),
                                    strcmp(table[i].in.group, "user") == 0 ? "bus" : "edged");
                snprintf(got, sizeof got, "%s %s %s", ke_msg_operation(out), ke_msg_resource(out),
                         ke_msg_content(out, NULL));
                if (*want)
                    assert_string_equal(got, want);
            }
            ke_msg_unref(out);
            ke_msg_unref(m);
        }
    }
    test_env_fini(&env);
}

static struct ke_msg *translated(struct test_env *e, uint32_t dialect, const struct neutral *n)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_msg *m = make(e, n), *out;

    if (kei_dialect_translate(&out, e->ctx, m, dialect, &err) < 0)
        fail_msg("%s", err.text);
    assert_non_null(out);
    ke_msg_unref(m);
    return out;
}

static void assert_wire(const struct ke_msg *m, const char *operation, const char *resource,
                        const char *content)
{
    assert_string_equal(ke_msg_operation(m), operation);
    assert_string_equal(ke_msg_resource(m), resource);
    assert_string_equal(ke_msg_content(m, NULL), content);
}

static void node_registration(void **state)
{
    (void)state;
    static const struct neutral n = {"meta", "insert", "default/node/edge-1", NODE};
    struct test_env env;

    test_env_init(&env, 0);
    struct ke_msg *m = translated(&env, KE_DIALECT_1_4, &n);
    assert_wire(m, "insert", "default/nodestatus/edge-1",
                "{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{},\"status\":{\"capacity\":{"
                "\"cpu\":\"2\",\"memory\":\"24684092Ki\"},\"addresses\":[{\"type\":\"InternalIP\","
                "\"address\":\"10.0.0.7\"}],\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":0}},"
                "\"nodeInfo\":{\"kernelVersion\":\"6.1.0\",\"kubeletVersion\":"
                "\"v1.18.6-kubeedge-v1.4.0\",\"kubeProxyVersion\":\"\"}}}");
    ke_msg_unref(m);
    m = translated(&env, KE_DIALECT_1_15, &n);
    assert_string_equal(ke_msg_resource(m), "default/node/edge-1");
    assert_non_null(strstr(ke_msg_content(m, NULL), "\"name\":\"edge-1\""));
    assert_non_null(strstr(ke_msg_content(m, NULL),
                           "\"kubeletVersion\":\"v1.26.15-kubeedge-v1.15.4\","
                           "\"kubeProxyVersion\":\"v1.26.15\""));
    assert_non_null(strstr(ke_msg_content(m, NULL), "\"Port\":10350"));
    ke_msg_unref(m);
    m = translated(&env, KE_DIALECT_1_23, &n);
    assert_string_equal(ke_msg_resource(m), "null/node/edge-1");
    assert_non_null(strstr(ke_msg_content(m, NULL), "v1.32.10-kubeedge-v1.23.1"));
    ke_msg_unref(m);
    /* an unknown dialect is 1.15's */
    m = translated(&env, KE_DIALECT_AUTO, &n);
    assert_string_equal(ke_msg_resource(m), "default/node/edge-1");
    ke_msg_unref(m);
    test_env_fini(&env);
}

static void node_status(void **state)
{
    (void)state;
    static const struct neutral n = {"meta", "update", "default/nodestatus/edge-1",
                                     "{\"UID\":\"real\",\"Status\":{" NODE_STATUS
                                     "},\"ExtendResources\":null}"};
    struct test_env env;

    test_env_init(&env, 0);
    struct ke_msg *m = translated(&env, KE_DIALECT_1_4, &n);
    assert_wire(
        m, "update", "default/nodestatus/edge-1",
        "{\"UID\":\"38796d14-1df3-11e8-8e5a-286ed488f209\",\"Status\":{\"capacity\":{\"cpu\":"
        "\"2\",\"memory\":\"24684092Ki\"},\"conditions\":[{\"type\":\"Ready\",\"status\":"
        "\"True\",\"reason\":\"EdgeReady\"}],\"addresses\":[{\"type\":\"InternalIP\","
        "\"address\":\"10.0.0.7\"}],\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":"
        "10350}},\"nodeInfo\":{\"kernelVersion\":\"6.1.0\",\"kubeletVersion\":"
        "\"v1.18.6-kubeedge-v1.4.0\",\"kubeProxyVersion\":\"\"},\"phase\":\"Running\"},"
        "\"ExtendResources\":null}");
    ke_msg_unref(m);

    static const char patch[] =
        "{\"status\":{\"capacity\":{\"cpu\":\"2\",\"memory\":\"24684092Ki\"},\"conditions\":[{"
        "\"message\":null,\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"EdgeReady\"}],"
        "\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"10.0.0.7\"},{\"$patch\":"
        "\"replace\"}],\"nodeInfo\":{\"kernelVersion\":\"6.1.0\",\"kubeletVersion\":"
        "\"%s\",\"kubeProxyVersion\":\"v1.26.15\"}}}";
    for (int i = 0; i < 2; i++) {
        uint32_t dialect = i ? KE_DIALECT_1_23 : KE_DIALECT_1_15;
        char want[600];
        m = translated(&env, dialect, &n);
        assert_string_equal(ke_msg_operation(m), "patch");
        assert_string_equal(ke_msg_resource(m),
                            i ? "null/nodepatch/edge-1" : "default/nodepatch/edge-1");
        char *text = unquoted(m);
        snprintf(want, sizeof want, patch, kei_dialect_kubelet_version(dialect));
        assert_string_equal(text, want);
        ke_buf_free(&(struct ke_buf){text, 0, 0, NULL});
        ke_msg_unref(m);
    }
    test_env_fini(&env);
}

static void pod_status(void **state)
{
    (void)state;
    static const struct neutral n = {"meta", "update", "ns/podstatus/web", POD_STATUS};
    struct test_env env;

    test_env_init(&env, 0);
    for (int i = 0; i < 2; i++) {
        struct ke_msg *m = translated(&env, i ? KE_DIALECT_1_23 : KE_DIALECT_1_15, &n);
        assert_string_equal(ke_msg_operation(m), "patch");
        assert_string_equal(ke_msg_resource(m), "ns/podpatch/web");
        char *text = unquoted(m);
        assert_string_equal(
            text, "{\"metadata\":{\"uid\":\"u-1\"},\"status\":{"
                  "\"initContainerStatuses\":null,\"message\":null,\"podIP\":null,"
                  "\"podIPs\":null,\"reason\":null,\"phase\":\"Running\",\"conditions\":[{"
                  "\"message\":null,\"reason\":null,\"type\":\"Ready\",\"status\":\"True\""
                  "}],\"hostIP\":\"10.0.0.7\",\"containerStatuses\":[]}}");
        ke_buf_free(&(struct ke_buf){text, 0, 0, NULL});
        ke_msg_unref(m);
    }
    test_env_fini(&env);
}

/*
 * A whole status sent as our patch makes of any older status exactly the new one: nothing stale
 * stays behind.
 */
static void status_patch_replaces(void **state)
{
    (void)state;
    static const char before[] =
        "{\"metadata\":{\"uid\":\"u-1\",\"name\":\"web\"},\"spec\":{},\"status\":{\"phase\":"
        "\"Pending\","
        "\"reason\":\"Old\",\"message\":\"old\",\"podIP\":\"1.1.1.1\",\"podIPs\":[{\"ip\":\"1.1.1."
        "1\"}],"
        "\"qosClass\":\"BestEffort\",\"conditions\":[{\"type\":\"PodScheduled\",\"status\":"
        "\"True\"},{"
        "\"type\":\"Ready\",\"status\":\"False\",\"reason\":\"ContainersNotReady\",\"message\":"
        "\"m\"}],"
        "\"initContainerStatuses\":[{\"name\":\"i\"}],\"containerStatuses\":[{\"name\":\"c\"}]}}";
    static const struct neutral n = {"meta", "update", "ns/podstatus/web", POD_STATUS};
    struct ke_buf out = {NULL, 0, 0, NULL};
    struct ke_str status;
    struct test_env env;

    test_env_init(&env, 0);
    struct ke_msg *m = translated(&env, KE_DIALECT_1_15, &n);
    char *text = unquoted(m);
    assert_int_equal(kei_patch_strategic(&out, kei_str(before), kei_str(text), NULL), 0);
    assert_true(kei_json_get(kei_buf_str(&out), "status", &status));
    if (!kei_json_same(
            status, kei_str("{\"phase\":\"Running\",\"hostIP\":\"10.0.0.7\",\"qosClass\":"
                            "\"BestEffort\",\"conditions\":[{\"type\":\"PodScheduled\",\"status\":"
                            "\"True\"},{\"type\":\"Ready\",\"status\":\"True\"}],"
                            "\"containerStatuses\":[]}")))
        fail_msg("%.*s", KEI_FMT(status));
    ke_buf_free(&(struct ke_buf){text, 0, 0, NULL});
    ke_buf_free(&out);
    ke_msg_unref(m);
    test_env_fini(&env);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        struct neutral in;
        uint32_t dialect;
    } table[] = {
        {{"meta", "update", "default/nodestatus/n", "{}"}, KE_DIALECT_1_15},
        {{"meta", "update", "default/nodestatus/n", "{\"Status\":null}"}, KE_DIALECT_1_4},
        {{"meta", "update", "default/nodestatus/n", "\"x\""}, KE_DIALECT_1_15},
        {{"meta", "update", "ns/podstatus/p", "{\"Status\":{}}"}, KE_DIALECT_1_15},
        {{"meta", "update", "ns/podstatus/p", "{\"UID\":5,\"Status\":{}}"}, KE_DIALECT_1_15},
        {{"meta", "delete", "ns/pod/p", "{}"}, KE_DIALECT_1_4},
        {{"meta", "insert", "default/node/n", "null"}, KE_DIALECT_1_4},
    };
    struct test_env env;

    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_msg *m = make(&env, &table[i].in), *out = m;
        assert_int_equal(kei_dialect_translate(&out, env.ctx, m, table[i].dialect, &err),
                         KE_EPARSE);
        assert_ptr_equal(out, m);
        assert_true(err.text[0] != '\0');
        ke_msg_unref(m);
    }
    test_env_fini(&env);
}

static void memory_runs_out(void **state)
{
    (void)state;
    static const struct neutral n[] = {
        {"meta", "insert", "default/node/edge-1", NODE},
        {"meta", "update", "default/nodestatus/edge-1",
         "{\"UID\":\"u\",\"Status\":{" NODE_STATUS "}}"},
        {"meta", "update", "ns/podstatus/web", POD_STATUS},
        {"user", "upload", "a/b", "\"x\""},
    };
    static const uint32_t dialects[2] = {KE_DIALECT_1_4, KE_DIALECT_1_15};
    struct test_env env;

    test_env_init(&env, 0);
    for (size_t i = 0; i < 8; i++) {
        struct ke_msg *m = make(&env, &n[i / 2]);
        for (size_t k = 1;; k++) {
            struct ke_msg *out = NULL;
            env.alloc.failed = 0;
            test_alloc_fail_at(&env.alloc, k);
            int r = kei_dialect_translate(&out, env.ctx, m, dialects[i % 2], NULL);
            bool hit = env.alloc.failed > 0;
            test_alloc_fail_at(&env.alloc, 0);
            assert_int_equal(r, hit ? KE_ENOMEM : 0);
            ke_msg_unref(out);
            if (!hit)
                break;
        }
        ke_msg_unref(m);
    }
    test_env_fini(&env);
}

/* ---- against the recordings ---- */

struct found {
    struct test_env *env;
    size_t checked;
};

/* Same members at the top and in each named part, whatever the values. */
static void assert_same_keys(struct ke_str a, struct ke_str b, const char *what)
{
    struct ke_str key, v;
    size_t it = 0, na = 0, nb = 0;
    char name[128];

    while (kei_json_next(a, &it, &key, NULL)) {
        snprintf(name, sizeof name, "%.*s", KEI_FMT(key));
        if (!kei_json_get(b, name, &v))
            fail_msg("%s: member %s is in one only", what, name);
        na++;
    }
    for (it = 0; kei_json_next(b, &it, NULL, NULL);)
        nb++;
    assert_int_equal(na, nb);
}

/*
 * The registration and the first status of a recorded 1.4 edge, given to us in neutral form (the
 * name put in, conditions and the real port), must come out as that edge sent them.
 */
static void as_recorded_1_4(const struct capture *c, void *user)
{
    struct found *f = user;

    if (strcmp(c->version, "kubeedge-1.4") != 0)
        return;
    for (size_t i = 0; i < c->n; i++) {
        struct ke_buf neutral = {NULL, 0, 0, NULL};
        struct ke_msg *m, *out;
        struct ke_str content;
        if (!capture_is(&c->r[i], "ws-message", "e2c") || strcmp(c->r[i].listener, "ws") != 0)
            continue;
        assert_int_equal(ke_msg_decode(&m, f->env->ctx, c->r[i].text.p, c->r[i].text.n, NULL), 0);
        content.p = ke_msg_content(m, &content.n);
        if (strncmp(ke_msg_resource(m), "default/nodestatus/", 19) == 0) {
            bool insert = strcmp(ke_msg_operation(m), "insert") == 0;
            char resource[128];
            if (insert) {
                struct ke_buf tmp = {NULL, 0, 0, NULL};
                assert_int_equal(
                    kei_json_set(&tmp, content, "metadata.name", kei_str("\"n\""), NULL), 0);
                assert_int_equal(kei_json_set(&neutral, kei_buf_str(&tmp), "status.conditions",
                                              kei_str("[{\"type\":\"Ready\"}]"), NULL),
                                 0);
                ke_buf_free(&tmp);
                snprintf(resource, sizeof resource, "default/node/%s", ke_msg_resource(m) + 19);
            } else {
                assert_int_equal(kei_json_set(&neutral, content, "UID", kei_str("\"real\""), NULL),
                                 0);
                snprintf(resource, sizeof resource, "%s", ke_msg_resource(m));
            }
            struct neutral n = {"meta", ke_msg_operation(m), resource, neutral.p};
            out = translated(f->env, KE_DIALECT_1_4, &n);
            assert_string_equal(ke_msg_resource(out), ke_msg_resource(m));
            assert_string_equal(ke_msg_operation(out), ke_msg_operation(m));
            if (!kei_json_same(kei_str(ke_msg_content(out, NULL)), content))
                fail_msg("%s:\n%s\n%s", c->name, ke_msg_content(out, NULL), content.p);
            f->checked++;
            ke_msg_unref(out);
            ke_buf_free(&neutral);
        }
        ke_msg_unref(m);
    }
}

/* Our nodepatch has the members of the one that a recorded edge sent against an empty Node. */
static void as_recorded_1_15(struct found *f)
{
    struct ke_buf neutral = {NULL, 0, 0, NULL}, theirs = {NULL, 0, 0, NULL};
    struct ke_str content, status, ours;
    struct capture c;

    capture_load(&c, "kubeedge-1.15", "47-after-node-delete");
    for (size_t i = 0; i < c.n && !theirs.n; i++) {
        struct ke_msg *m;
        if (!capture_is(&c.r[i], "ws-message", "e2c"))
            continue;
        assert_int_equal(ke_msg_decode(&m, f->env->ctx, c.r[i].text.p, c.r[i].text.n, NULL), 0);
        content.p = ke_msg_content(m, &content.n);
        if (strcmp(ke_msg_resource(m), "default/nodepatch/edge-up1") == 0)
            assert_int_equal(kei_json_str(content, &theirs, NULL), 0);
        ke_msg_unref(m);
    }
    assert_true(kei_json_get(kei_buf_str(&theirs), "status", &status));
    kei_buf_addf(&neutral, "{\"UID\":\"u\",\"Status\":%.*s,\"ExtendResources\":null}",
                 (int)status.n, status.p);
    struct neutral n = {"meta", "update", "default/nodestatus/edge-up1", neutral.p};
    struct ke_msg *m = translated(f->env, KE_DIALECT_1_15, &n);
    char *text = unquoted(m);
    assert_string_equal(ke_msg_resource(m), "default/nodepatch/edge-up1");
    assert_true(kei_json_get(kei_str(text), "status", &ours));
    assert_same_keys(status, ours, "nodepatch");
    struct ke_str a, b;
    assert_true(kei_json_get(status, "nodeInfo", &a));
    assert_true(kei_json_get(ours, "nodeInfo", &b));
    assert_true(kei_json_same(a, b));
    assert_true(kei_json_get(status, "conditions", &a));
    assert_true(kei_json_get(ours, "conditions", &b));
    assert_true(kei_json_same(a, b));
    ke_buf_free(&(struct ke_buf){text, 0, 0, NULL});
    ke_msg_unref(m);
    ke_buf_free(&neutral);
    ke_buf_free(&theirs);
    capture_free(&c);
}

static void as_recorded(void **state)
{
    (void)state;
    struct test_env env;
    struct found f = {.env = &env};

    test_env_init(&env, 0);
    capture_each(as_recorded_1_4, &f);
    assert_true(f.checked > 20);
    as_recorded_1_15(&f);
    test_env_fini(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(every_message),
        cmocka_unit_test(node_registration),
        cmocka_unit_test(node_status),
        cmocka_unit_test(pod_status),
        cmocka_unit_test(status_patch_replaces),
        cmocka_unit_test(refused),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
