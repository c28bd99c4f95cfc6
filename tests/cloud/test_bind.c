/* SPDX-License-Identifier: Apache-2.0 */
/* Which node a pod with a selector gets, and the configuration of the cloud. */
#include "cloud/cloud_rig.h"

#define SELECTS(name, selector)                                                                    \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: " name "}\nspec:\n  nodeSelector: " selector      \
    "\n  containers: [{name: c, image: i}]\n"

static const char *node_of(struct rig *r, const char *pod)
{
    const struct kei_object *o = rig_object(r, "pod", "default", pod);
    return o ? json_text(kei_buf_str(&o->json), "spec.nodeName") : "none";
}

struct want {
    struct rig *r;
    const char *pod, *node;
};

static bool is_bound(void *arg)
{
    struct want *w = arg;
    return strcmp(node_of(w->r, w->pod), w->node) == 0;
}

static void wait_bound(struct rig *r, const char *pod, const char *node)
{
    struct want w = {r, pod, node};
    if (!rig_until(r, is_bound, &w))
        fail_msg("pod %s is on \"%s\", not \"%s\"", pod, node_of(r, pod), node);
}

static void waits_for_a_node_that_matches(void **state)
{
    (void)state;
    struct rig r;
    struct edge e, f;
    rig_init(&r, NULL);
    rig_manifest(&r, "a.yaml", SELECTS("p", "{zone: a, disk: fast}"));
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    edge_init(&f, &r, "edge-2");
    assert_true(edge_connect(&e));
    edge_register(&e, "default", "{\"zone\":\"a\"}");
    assert_true(edge_connect(&f));
    edge_register(&f, "default", "{\"zone\":\"b\",\"disk\":\"fast\"}");
    rig_ms(&r, 60000);
    assert_string_equal(node_of(&r, "p"), "");
    assert_non_null(rig_line(&r, "pod default/p - Pending", 0));
    /* its labels change: now it matches */
    (void)edge_ask(&e, "update", "default/node/edge-1",
                   "{\"metadata\":{\"labels\":{\"disk\":\"fast\"}}}");
    wait_bound(&r, "p", "edge-1");
    struct ke_msg *m = edge_wait(&e, "insert", "default/pod/p");
    assert_string_equal(msg_text(m, "spec.nodeName"), "edge-1");
    /* and stays there, whatever happens to the labels, and over restarts */
    (void)edge_ask(&e, "update", "default/node/edge-1",
                   "{\"metadata\":{\"labels\":{\"disk\":\"slow\"}}}");
    (void)edge_ask(&f, "update", "default/node/edge-2",
                   "{\"metadata\":{\"labels\":{\"zone\":\"a\"}}}");
    rig_ms(&r, 5000);
    assert_string_equal(node_of(&r, "p"), "edge-1");
    edge_drop(&e);
    edge_drop(&f);
    rig_restart(&r);
    rig_ms(&r, 5000);
    assert_string_equal(node_of(&r, "p"), "edge-1");
    edge_fini(&e);
    edge_fini(&f);
    rig_fini(&r);
}

static void spreads_over_the_nodes(void **state)
{
    (void)state;
    struct rig r;
    struct edge e[3];
    char text[4000] = "", name[20];
    uint32_t n[3] = {0};
    rig_init(&r, NULL);
    for (int i = 0; i < 12; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "apiVersion: v1\nkind: Pod\nmetadata: {name: p%d}\nspec:\n  nodeSelector: {a: b}\n"
                 "  containers: [{name: c, image: i}]\n---\n",
                 i);
    rig_start(&r);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "edge-%d", i);
        edge_init(&e[i], &r, name);
        assert_true(edge_connect(&e[i]));
        edge_register(&e[i], "default", "{\"a\":\"b\"}");
    }
    rig_manifest(&r, "a.yaml", text);
    rig_wait_object(&r, "pod", "default", "p11");
    rig_ms(&r, 1000);
    for (int i = 0; i < 3; i++)
        n[i] = rig_peer(&r, e[i].name)->n_pods;
    assert_int_equal(n[0], 4);
    assert_int_equal(n[1], 4);
    assert_int_equal(n[2], 4);
    for (int i = 0; i < 3; i++)
        edge_fini(&e[i]);
    rig_fini(&r);
}

static void prefers_who_is_there(void **state)
{
    (void)state;
    struct rig r;
    struct edge e, f;
    rig_init(&r, NULL);
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    edge_init(&f, &r, "edge-2");
    assert_true(edge_connect(&e));
    edge_register(&e, "default", "{\"a\":\"b\"}");
    edge_drop(&e);
    rig_ms(&r, 60000); /* Unknown by now */
    assert_true(edge_connect(&f));
    edge_register(&f, "default", "{\"a\":\"b\",\"c\":\"d\"}");
    rig_manifest(&r, "a.yaml", SELECTS("p", "{a: b}") "---\n" SELECTS("q", "{a: b}"));
    wait_bound(&r, "p", "edge-2");
    wait_bound(&r, "q", "edge-2");
    /* but one that is away is better than none */
    edge_drop(&f);
    rig_ms(&r, 60000);
    rig_manifest(&r, "b.yaml", SELECTS("s", "{c: d}"));
    wait_bound(&r, "s", "edge-2");
    edge_fini(&e);
    edge_fini(&f);
    rig_fini(&r);
}

static void taints_keep_pods_away(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    rig_init(&r, NULL);
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    assert_true(edge_connect(&e));
    struct ke_msg *m =
        edge_ask(&e, "insert", "default/node/edge-1",
                 "{\"metadata\":{\"name\":\"edge-1\",\"labels\":{\"a\":\"b\"}},\"spec\":"
                 "{\"taints\":[{\"key\":\"only\",\"value\":\"lamps\",\"effect\":\"NoSchedule\"}]},"
                 "\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}");
    assert_string_equal(msg_text(m, "Err"), "null");
    rig_manifest(&r, "a.yaml",
                 SELECTS("p", "{a: b}") "---\n" SELECTS(
                     "q", "{a: b}\n  tolerations: [{key: only, operator: Exists}]"));
    wait_bound(&r, "q", "edge-1");
    rig_ms(&r, 60000);
    assert_string_equal(node_of(&r, "p"), "");
    edge_fini(&e);
    rig_fini(&r);
}

/* A pod that is taken back before it found a node; one whose selector changes. */
static void unbound_pods_change(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    rig_init(&r, NULL);
    rig_manifest(&r, "a.yaml", SELECTS("p", "{a: x}") "---\n" SELECTS("q", "{a: x}"));
    rig_start(&r);
    rig_wait_object(&r, "pod", "default", "q");
    rig_manifest(&r, "a.yaml", SELECTS("p", "{a: b}"));
    assert_true(rig_wait_gone(&r, "pod", "default", "q"));
    rig_ms(&r, 2000);
    edge_init(&e, &r, "edge-1");
    assert_true(edge_connect(&e));
    edge_register(&e, "default", "{\"a\":\"b\"}");
    wait_bound(&r, "p", "edge-1");
    assert_true(kei_list_empty(&r.c->unbound));
    edge_fini(&e);
    rig_fini(&r);
}

static void configuration_is_checked(void **state)
{
    (void)state;
    static const char *const names[] = {"a", NULL};
    struct test_env env;
    test_env_init(&env, 0);
    struct ke_cloud_config good, c;
    struct ke_cloud *cloud = NULL;
    ke_cloud_config_init(&good, sizeof good);
    good.data = "/tmp";
    assert_int_equal(ke_cloud_new(NULL, env.ctx, &good, NULL, NULL), KE_EINVAL);
    assert_int_equal(ke_cloud_new(&cloud, env.ctx, NULL, NULL, NULL), KE_EINVAL);
    const struct {
        size_t at;
        uint32_t value;
        const char *name;
    } cases[] = {{offsetof(struct ke_cloud_config, tunnel_port), 65536, "tunnel_port"},
                 {offsetof(struct ke_cloud_config, cert_port), 70000, "cert_port"},
                 {offsetof(struct ke_cloud_config, max_nodes), 2000000, "max_nodes"},
                 {offsetof(struct ke_cloud_config, max_message), 1, "max_message"},
                 {offsetof(struct ke_cloud_config, cert_days), 40000, "cert_days"},
                 {offsetof(struct ke_cloud_config, token_hours), 900000, "token_hours"},
                 {offsetof(struct ke_cloud_config, flags), 1, "flags"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        c = good;
        memcpy((char *)&c + cases[i].at, &cases[i].value, sizeof cases[i].value);
        assert_int_equal(ke_cloud_new(&cloud, env.ctx, &c, NULL, NULL), KE_EINVAL);
        assert_non_null(strstr(ke_ctx_error(env.ctx), cases[i].name));
    }
    c = good;
    c.data = NULL;
    assert_int_equal(ke_cloud_new(&cloud, env.ctx, &c, NULL, NULL), KE_EINVAL);
    c = good;
    c.n_advertise = 1;
    assert_int_equal(ke_cloud_new(&cloud, env.ctx, &c, NULL, NULL), KE_EINVAL);
    c.advertise = names;
    c.n_advertise = 2;
    assert_int_equal(ke_cloud_new(&cloud, env.ctx, &c, NULL, NULL), KE_EINVAL);
    c.n_advertise = 1;
    assert_int_equal(ke_cloud_new(&cloud, env.ctx, &c, NULL, NULL), 0);
    assert_int_equal(ke_cloud_nodes(cloud, NULL, NULL), KE_EINVAL);
    uint32_t a, b;
    assert_int_equal(ke_cloud_ports(cloud, &a, &b), KE_ESTATE);
    ke_cloud_stop(cloud);
    ke_cloud_stop(NULL);
    ke_cloud_free(NULL);
    ke_cloud_free(cloud);
    test_env_fini(&env);
}

static void start_says_what_is_wrong(void **state)
{
    (void)state;
    struct rig r, s;
    uint32_t tunnel, cert;
    rig_init(&r, NULL);
    rig_init(&s, NULL);
    rig_start(&r);
    assert_int_equal(ke_cloud_start(r.c), KE_ESTATE);
    assert_int_equal(ke_cloud_ports(r.c, &tunnel, &cert), 0);
    /* the same folder, the same port */
    s.conf.data = r.data;
    assert_int_equal(rig_try_start(&s), KE_EBUSY);
    assert_non_null(strstr(ke_ctx_error(s.env.ctx), r.data));
    rig_stop(&s);
    s.conf.data = s.data;
    s.conf.tunnel_port = tunnel;
    assert_int_equal(rig_try_start(&s), KE_EADDRINUSE);
    rig_stop(&s);
    s.conf.tunnel_port = KE_PORT_ANY;
    s.conf.cert_port = cert;
    assert_int_equal(rig_try_start(&s), KE_EADDRINUSE);
    /* the same cloud can be started when it is free */
    rig_stop(&r);
    assert_int_equal(ke_cloud_start(s.c), 0);
    assert_true(rig_loaded(&s));
    rig_stop(&s);
    s.conf.data = "/nonexistent/folder";
    assert_int_equal(rig_try_start(&s), KE_ENOTFOUND);
    rig_stop(&s);
    s.conf.data = s.data;
    s.conf.listen = "no address";
    assert_int_equal(rig_try_start(&s), KE_EINVAL);
    rig_fini(&s);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_for_a_node_that_matches), cmocka_unit_test(spreads_over_the_nodes),
        cmocka_unit_test(prefers_who_is_there),          cmocka_unit_test(taints_keep_pods_away),
        cmocka_unit_test(unbound_pods_change),           cmocka_unit_test(configuration_is_checked),
        cmocka_unit_test(start_says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
