/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One allocation of the cloud fails, any one, while it starts, takes manifests, meets nodes, serves
 * each of their requests, starts again and ends pods: it neither crashes nor leaks, and when there
 * is memory again everything gets where it should and everything is answered as it should.
 * KE_MEMORY_STEP: every how many allocations (default 23; 1 tries them all),
 * KE_MEMORY_ONLY: this one alone.
 */
#include "cloud/cloud_rig.h"

#define MANIFEST                                                                                   \
    POD("p", "edge-1", REFERS("c"))                                                                \
    "---\n" CONFIG("c", "1") "---\n" SECRET("s",                                                   \
                                            "1") "---\napiVersion: v1\nkind: Pod\n"                \
                                                 "metadata: {name: q}\nspec:\n"                    \
                                                 "  nodeSelector: {a: b}\n"                        \
                                                 "  containers: [{name: c, image: i}]\n" DEVICE
#define DEVICE                                                                                     \
    "---\napiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: d}\nspec:\n"     \
    "  deviceModelRef: {name: m}\n  nodeName: edge-1\n  protocol: {protocolName: modbus}\n"        \
    "  properties: [{name: t, desired: {value: \"1\"}}]\n"                                         \
    "---\napiVersion: devices.kubeedge.io/v1alpha2\nkind: DeviceModel\nmetadata: {name: m}\n"      \
    "spec: {properties: [{name: t, type: {int: {accessMode: ReadWrite}}}]}\n"

/* What an edge of this test has: as a good one, it goes by name and uid. */
struct thing {
    char key[200], uid[40];
    long version;
};

struct store {
    struct thing things[16];
    unsigned n;
    bool member; /* the device is one of the node's */
};

static struct thing *find(struct store *s, const char *key)
{
    for (unsigned i = 0; i < s->n; i++)
        if (strcmp(s->things[i].key, key) == 0)
            return &s->things[i];
    return NULL;
}

static void take(struct edge *e, struct ke_msg *m)
{
    struct store *s = e->user;
    const char *op = ke_msg_operation(m), *key = ke_msg_resource(m);
    struct thing *t = find(s, key);
    if (strcmp(ke_msg_group(m), "twin") == 0) {
        if (strcmp(key, "membership/detail") == 0)
            s->member = strstr(msg_text(m, "devices"), "\"name\":\"d\"") != NULL;
        else if (strcmp(key, "membership") == 0 && strstr(msg_content(m), "\"name\":\"d\""))
            s->member = strcmp(msg_text(m, "added_devices"), "null") != 0;
    } else if (strcmp(op, "delete") == 0) {
        if (t && strcmp(t->uid, msg_text(m, "metadata.uid")) == 0)
            *t = s->things[--s->n];
    } else if (strcmp(op, "insert") == 0 || strcmp(op, "update") == 0) {
        if (!t)
            t = &s->things[s->n < 15 ? s->n++ : 15]; /* it gets four */
        snprintf(t->key, sizeof t->key, "%s", key);
        snprintf(t->uid, sizeof t->uid, "%s", msg_text(m, "metadata.uid"));
        t->version = strtol(ke_msg_resource_version(m), NULL, 10);
    }
}

static void end_pod(struct edge *e, const char *resource, const char *uid)
{
    char options[200];
    snprintf(options, sizeof options, "{\"preconditions\":{\"uid\":\"%s\"}}", uid);
    (void)edge_send(e, "delete", resource, options);
}

/* Ends its pods when they are being deleted. */
static void take_and_end(struct edge *e, struct ke_msg *m)
{
    take(e, m);
    if (strcmp(ke_msg_operation(m), "update") != 0 || !strstr(ke_msg_resource(m), "/pod/") ||
        !msg_text(m, "metadata.deletionTimestamp")[0])
        return;
    end_pod(e, ke_msg_resource(m), msg_text(m, "metadata.uid"));
}

/* What was not answered is said again, as nodes do. */
static void end_again(struct edge *e)
{
    struct store *s = e->user;
    for (unsigned i = 0; i < s->n; i++)
        if (strstr(s->things[i].key, "/pod/"))
            end_pod(e, s->things[i].key, s->things[i].uid);
}

static bool settled_down(void *arg)
{
    struct edge *e = arg;
    return (e->open && kei_ws_queued(e->ws) == 0) || e->closed;
}

/* Reconnects as nodes do, until it is in. */
static void be_connected(struct edge *e)
{
    for (int i = 0; i < 10 && !e->open; i++) {
        if (!e->ws)
            edge_dial(e);
        (void)rig_until(e->rig, settled_down, e);
        if (!e->open)
            rig_ms(e->rig, 6000);
        else
            (void)edge_send_as(e, "twin", "resource", "get", "membership/detail", "\"{}\"");
    }
    assert_true(e->open);
}

/* An answer that memory ate is asked for again. */
static void be_registered(struct edge *e)
{
    for (int i = 0; i < 10; i++) {
        be_connected(e);
        (void)edge_send(e, "insert", "default/node/edge-1",
                        "{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"status\":{}}");
        rig_ms(e->rig, 1000);
        if (rig_object(e->rig, "node", "", "edge-1"))
            return;
    }
    fail_msg("the node could not register");
}

static size_t at; /* the allocation that fails, for messages */

struct goal {
    struct rig *r;
    struct store *s;
    bool empty;
};

static bool holds(struct goal *g, const char *type, const char *name)
{
    char key[200];
    const struct kei_object *o = kei_objects_get(g->r->c->objects, type, "default", name);
    snprintf(key, sizeof key, "default/%s/%s", type, name);
    const struct thing *t = find(g->s, key);
    return o && t && strcmp(t->uid, o->uid) == 0 && o->durable == o->version;
}

static bool is_reached(void *arg)
{
    struct goal *g = arg;
    struct kei_peer *p = rig_peer(g->r, "edge-1");
    if (!p || p->queued || p->n_flying || g->s->member == g->empty)
        return false;
    if (!g->empty && p->dialect != KE_DIALECT_1_4 &&
        (!holds(g, "device", "d") || !holds(g, "devicemodel", "m")))
        return false;
    return g->empty ? g->s->n == 0 && !rig_object(g->r, "pod", "default", "p")
                    : holds(g, "pod", "p") && holds(g, "pod", "q") && holds(g, "configmap", "c");
}

static void reach(struct rig *r, struct edge *e, struct store *s, bool empty)
{
    struct goal g = {r, s, empty};
    for (int i = 0; i < 20; i++) {
        be_connected(e);
        if (is_reached(&g))
            return;
        if (empty && i > 0)
            end_again(e);
        rig_ms(r, 6000);
    }
    for (unsigned i = 0; i < s->n; i++)
        fprintf(stderr, "the node has %s %s\n", s->things[i].key, s->things[i].uid);
    fail_msg("allocation %zu failed: it did not get there, %s", at, empty ? "away" : "up");
}

#define TWIN "{\"event_id\":\"e\",\"timestamp\":1,\"twin\":{\"t\":{\"actual\":{\"value\":\"5\"}}}}"

static void tell_twin(struct edge *e)
{
    if (e->open)
        (void)edge_send_as(e, "twin", "resource", "update", "device/d/twin/edge_updated", TWIN);
}

static void live(size_t fail_at, bool *ret_failed)
{
    struct rig r;
    struct edge e;
    struct store s = {.n = 0};
    rig_init(&r, NULL);
    r.quiet = true;
    rig_manifest(&r, "a.yaml", MANIFEST);
    test_alloc_fail_at(&r.env.alloc, fail_at);
    for (int i = 0; rig_try_start(&r) != 0; i++) {
        assert_int_equal(i, 0); /* refused in order, and the next start works */
        rig_stop(&r);
    }
    assert_true(rig_loaded(&r));
    edge_init(&e, &r, "edge-1");
    e.on_message = take_and_end;
    e.user = &s;
    be_registered(&e);
    rig_ms(&r, 2000);
    edge_drop(&e);
    rig_ms(&r, 100);
    reach(&r, &e, &s, false);
    (void)edge_send(&e, "query", "default/configmap/c", NULL);
    (void)edge_send(&e, "query", "kube-node-lease/lease/edge-1", NULL);
    (void)edge_send(&e, "patch", "default/podpatch/p",
                    "\"{\\\"status\\\":{\\\"phase\\\":\\\"Running\\\"}}\"");
    tell_twin(&e);
    rig_ms(&r, 1000);
    rig_manifest(&r, "a.yaml", "# none\n");
    rig_ms(&r, 1000);
    reach(&r, &e, &s, true);
    *ret_failed = atomic_load(&r.env.alloc.failed) > 0;
    atomic_store(&r.env.log_errors, 0);
    edge_fini(&e);
    rig_fini(&r);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    const char *text = getenv("KE_MEMORY_STEP"), *only = getenv("KE_MEMORY_ONLY");
    size_t step = text ? (size_t)strtoul(text, NULL, 10) : 23, n = 1, tried = 0;
    bool failed = true;
    if (only) {
        live((size_t)strtoul(only, NULL, 10), &failed);
        return;
    }
    for (; failed; n += step, tried++) {
        at = n;
        live(n, &failed);
    }
    print_message("count: %zu failing allocations of the cloud, the last is number %zu\n",
                  tried - 1, n - step);
    assert_true(tried > 10);
}

/* ---- each request of a node, and the questions of the host ---- */

#define MIRROR                                                                                     \
    "{\"metadata\":{\"name\":\"m\",\"namespace\":\"default\",\"annotations\":{"                    \
    "\"kubernetes.io/config.mirror\":\"1\"}},\"spec\":{\"nodeName\":\"edge-1\",\"containers\":[{"  \
    "\"name\":\"c\",\"image\":\"i\"}]},\"status\":{}}"
#define OWN_LEASE "{\"metadata\":{\"name\":\"edge-1\"},\"spec\":{\"holderIdentity\":\"edge-1\"}}"

struct request {
    const char *op, *resource, *content;
    const char *path; /* in the answer when there is memory again; NULL: 1.4, no answer is due */
    const char *value;
};

static const struct request requests_new[] = {
    {"insert", "default/node/edge-1", "{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"status\":{}}",
     "Err.ErrStatus.reason", "AlreadyExists"},
    {"query", "default/node/edge-1", NULL, "metadata.name", "edge-1"},
    {"update", "default/node/edge-1", "{\"metadata\":{\"annotations\":{\"x\":\"1\"}}}", "", "OK"},
    {"patch", "default/nodepatch/edge-1", "\"{\\\"status\\\":{\\\"n\\\":1}}\"", "Object.status.n",
     "1"},
    {"query", "kube-node-lease/lease/edge-1", NULL, "Object.metadata.name", "edge-1"},
    {"update", "kube-node-lease/lease/edge-1", OWN_LEASE, "Object.metadata.name", "edge-1"},
    {"query", "default/configmap/c", NULL, "data.k", "1"},
    {"query", "default/configmap/none", NULL, "ErrStatus.reason", "NotFound"},
    {"query", "default/secret/s", NULL, "ErrStatus.reason", "Forbidden"},
    {"query", "default/serviceaccounttoken/default", "{}", "ErrStatus.reason", "NotFound"},
    {"patch", "default/podpatch/p", "\"{\\\"status\\\":{\\\"phase\\\":\\\"Running\\\"}}\"",
     "Object.status.phase", "Running"},
    {"patch", "default/podpatch/none", "\"{\\\"metadata\\\":{\\\"uid\\\":\\\"u-1\\\"}}\"",
     "Err.ErrStatus.reason", "NotFound"},
    {"insert", "default/pod/m", MIRROR, "Err.ErrStatus.reason", "AlreadyExists"},
    {"query", "k8s/ca.crt", NULL, "", "-----BEGIN"},
    {"delete", "default/pod/none", "{}", "", "OK"},
    {"update", "device/d/twin/edge_updated", TWIN, "", "OK"},
    {"update", "device/d/state/update", "\"{\\\"device\\\":{\\\"state\\\":\\\"ok\\\"}}\"", "",
     "OK"},
    {"update", "device/other/twin/edge_updated", TWIN, "", "OK"},
};

static const struct request requests_old[] = {
    {"insert", "default/nodestatus/edge-1", "{\"metadata\":{},\"status\":{}}", "", "OK"},
    {"update", "default/nodestatus/edge-1", "{\"UID\":\"x\",\"Status\":{\"n\":2}}", "", "OK"},
    {"query", "default/node/edge-1", NULL, "metadata.name", "edge-1"},
    {"query", "default/configmap/c", NULL, "data.k", "1"},
    {"update", "default/podstatus/p", "{\"UID\":\"u-3\",\"Name\":\"p\",\"Status\":{}}", NULL, NULL},
    {"update", "default/podstatus", "[{\"UID\":\"u-4\",\"Name\":\"x\",\"Status\":{}}]", NULL, NULL},
    {"delete", "default/pod/none", "\"u-5\"", NULL, NULL},
    {"update", "device/d/twin/edge_updated", TWIN, "", "OK"},
};

static const char *send_request(struct edge *e, const struct request *q)
{
    bool twin = strncmp(q->resource, "device/", 7) == 0;
    return edge_send_as(e, twin ? "twin" : "edged", twin ? "resource" : "meta", q->op, q->resource,
                        q->content);
}

static void on_info(void *user, const struct ke_cloud_node_info *n)
{
    (void)n;
    ++*(unsigned *)user;
}

static void on_pod_info(void *user, const struct ke_cloud_pod_info *n)
{
    (void)n;
    ++*(unsigned *)user;
}

static void on_device_info(void *user, const struct ke_cloud_device_info *n)
{
    (void)n;
    ++*(unsigned *)user;
}

static void ask_host_questions(struct rig *r)
{
    struct ke_buf token = {0};
    unsigned n = 0;
    if (ke_cloud_token(r->c, &token) < 0)
        assert_int_equal(token.n, 0);
    ke_buf_free(&token);
    assert_int_equal(ke_cloud_nodes(r->c, on_info, &n), 0);
    assert_int_equal(ke_cloud_pods(r->c, on_pod_info, &n), 0);
    int e = ke_cloud_devices(r->c, on_device_info, &n);
    assert_true(e == 0 || e == KE_ENOMEM);
}

/* The answer, asked for again when the session was lost meanwhile. */
static void must_be_answered(struct rig *r, struct edge *e, const struct request *q)
{
    be_connected(e);
    struct ke_msg *m = edge_reply_to(e, send_request(e, q));
    const char *have = q->path[0] ? msg_text(m, q->path) : msg_content(m);
    if (q->path[0] ? strcmp(have, q->value) != 0 : !strstr(have, q->value))
        fail_msg("allocation %zu failed: %s %s is answered with %s", at, q->op, q->resource,
                 msg_content(m));
    (void)r;
}

static void ask(size_t fail_at, const struct request *q, size_t n, bool old, bool *ret_failed)
{
    struct rig r;
    struct edge e, copy;
    struct store s = {.n = 0};
    rig_init(&r, NULL);
    r.quiet = true;
    rig_manifest(&r, "a.yaml", MANIFEST);
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    edge_init(&copy, &r, "edge-1");
    e.on_message = take;
    e.user = &s;
    if (old)
        e.agent = "Go-http-client/1.1";
    be_registered(&e);
    if (!old) {
        (void)edge_ask(&e, "insert", "kube-node-lease/lease/edge-1", OWN_LEASE);
        (void)edge_ask(&e, "insert", "default/pod/m", MIRROR);
    } else {
        (void)edge_ask(&e, q[0].op, q[0].resource, q[0].content);
    }
    reach(&r, &e, &s, false);
    test_alloc_fail_at(&r.env.alloc, fail_at);
    for (size_t i = 0; i < n; i++) {
        if (!e.ws)
            edge_dial(&e);
        rig_ms(&r, 50);
        if (e.open)
            (void)send_request(&e, &q[i]);
        rig_ms(&r, 50);
    }
    ask_host_questions(&r);
    /* another connection of the same node */
    edge_dial(&copy);
    rig_ms(&r, 100);
    edge_drop(&copy);
    /* and a new life of the cloud, with all this in its store */
    if (rig_stop(&r), rig_try_start(&r) != 0) {
        rig_stop(&r);
        assert_int_equal(rig_try_start(&r), 0);
    }
    assert_true(rig_loaded(&r));
    *ret_failed = atomic_load(&r.env.alloc.failed) > 0;
    test_alloc_fail_at(&r.env.alloc, 0);
    rig_ms(&r, 7000);
    for (size_t i = 0; i < n; i++)
        if (q[i].path)
            must_be_answered(&r, &e, &q[i]);
    reach(&r, &e, &s, false);
    atomic_store(&r.env.log_errors, 0);
    edge_fini(&copy);
    edge_fini(&e);
    rig_fini(&r);
}

static void ask_all(const struct request *q, size_t n, bool old)
{
    const char *text = getenv("KE_MEMORY_STEP"), *only = getenv("KE_MEMORY_ONLY");
    size_t step = text ? (size_t)strtoul(text, NULL, 10) : 23, tried = 0;
    bool failed = true;
    if (only) {
        at = (size_t)strtoul(only, NULL, 10);
        ask(at, q, n, old, &failed);
        return;
    }
    for (at = 1; failed; at += step, tried++)
        ask(at, q, n, old, &failed);
    print_message("count: %zu failing allocations of requests, the last is number %zu\n", tried - 1,
                  at - step);
    assert_true(tried > 10);
}

static void any_allocation_of_a_request_may_fail(void **state)
{
    (void)state;
    ask_all(requests_new, sizeof requests_new / sizeof requests_new[0], false);
}

static void any_allocation_of_a_request_of_1_4_may_fail(void **state)
{
    (void)state;
    ask_all(requests_old, sizeof requests_old / sizeof requests_old[0], true);
}

/* All of them fail for some seconds, from the nth on: while things are on their way. */
static void memory_may_run_out_for_some_time(void **state)
{
    (void)state;
    for (at = 1; at < 400; at += 9) {
        struct rig r;
        struct edge e;
        struct store s = {.n = 0};
        rig_init(&r, NULL);
        r.quiet = true;
        rig_start(&r);
        edge_init(&e, &r, "edge-1");
        e.on_message = take_and_end;
        e.user = &s;
        be_registered(&e);
        rig_manifest(&r, "a.yaml", MANIFEST);
        test_alloc_fail_from(&r.env.alloc, at);
        rig_ms(&r, 3000);
        if (e.open)
            (void)edge_send(&e, "query", "default/configmap/c", NULL);
        rig_ms(&r, 3000);
        test_alloc_fail_at(&r.env.alloc, 0);
        reach(&r, &e, &s, false);
        test_alloc_fail_from(&r.env.alloc, at);
        rig_manifest(&r, "a.yaml", "# none\n");
        rig_ms(&r, 3000);
        test_alloc_fail_at(&r.env.alloc, 0);
        reach(&r, &e, &s, true);
        atomic_store(&r.env.log_errors, 0);
        edge_fini(&e);
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(any_allocation_of_a_request_may_fail),
        cmocka_unit_test(any_allocation_of_a_request_of_1_4_may_fail),
        cmocka_unit_test(memory_may_run_out_for_some_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
