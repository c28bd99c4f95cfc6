/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes ask and report: the answer to each, in all dialects. */
#include "cloud/cloud_rig.h"

#include "message/k8s.h"

struct ask {
    const char *op, *resource, *content;
    const char *path, *value; /* of the answer's content; path NULL: value is all of it */
};

static void start(struct rig *r, struct edge *e, const char *manifest)
{
    rig_init(r, NULL);
    if (manifest)
        rig_manifest(r, "a.yaml", manifest);
    rig_start(r);
    edge_init(e, r, "edge-1");
    assert_true(edge_connect(e));
}

static void finish(struct rig *r, struct edge *e)
{
    edge_fini(e);
    rig_fini(r);
}

static void run(struct edge *e, const struct ask *asks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct ke_msg *m = edge_ask(e, asks[i].op, asks[i].resource, asks[i].content);
        const char *got = asks[i].path ? msg_text(m, asks[i].path) : msg_content(m);
        if (strcmp(got, asks[i].value) != 0)
            fail_msg("case %zu, %s %s: %s is \"%s\", not \"%s\" in %s", i, asks[i].op,
                     asks[i].resource, asks[i].path ? asks[i].path : "the answer", got,
                     asks[i].value, msg_content(m));
        assert_string_equal(ke_msg_source(m), "edgecontroller");
        assert_string_equal(ke_msg_group(m), "resource");
        assert_string_equal(ke_msg_operation(m), "response");
    }
}
#define MIRROR_OF(node, more, spec)                                                                \
    "{\"metadata\":{\"name\":\"x\",\"annotations\":{\"kubernetes.io/config.mirror\":\"1\"" more    \
    "}},\"spec\":{\"nodeName\":\"" node                                                            \
    "\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]" spec "}}"
#define MIRROR(more, spec) MIRROR_OF("edge-1", more, spec)
#define RUN(e, asks) run(e, asks, sizeof(asks) / sizeof(asks)[0])

/* Nothing comes back. */
static void silent(struct edge *e, const char *op, const char *resource, const char *content)
{
    uint32_t n = e->n_messages;
    (void)edge_send(e, op, resource, content);
    rig_ms(e->rig, 2000);
    if (e->n_messages != n)
        fail_msg("%s %s was answered with %s", op, resource, msg_content(e->messages[n]));
}

#define NODE(more) "{\"metadata\":{\"name\":\"edge-1\"" more "},\"spec\":{},\"status\":{}}"
#define EMPTY_LEASE "{\"creationTimestamp\":null}"

static void nodes_of_1_15(void **state)
{
    static const struct ask asks[] = {
        {"query", "default/node/edge-1", NULL, "ErrStatus.reason", "NotFound"},
        {"query", "default/node/edge-1", NULL, "ErrStatus.message", "node \"edge-1\" not found"},
        {"query", "default/node/edge-1", NULL, "ErrStatus.details.kind", "node"},
        {"query", "default/node/edge-1", NULL, "ErrStatus.code", "404"},
        {"query", "default/node/other", NULL, "ErrStatus.reason", "Forbidden"},
        {"patch", "default/nodepatch/edge-1", "\"{}\"", "Err.ErrStatus.reason", "NotFound"},
        {"patch", "default/nodepatch/edge-1", "\"{}\"", "Err.ErrStatus.message",
         "nodes \"edge-1\" not found"},
        {"patch", "default/nodepatch/edge-1", "\"{}\"", "Object.metadata", EMPTY_LEASE},
        {"patch", "default/nodepatch/edge-1", "\"{}\"",
         "Object.status.daemonEndpoints.kubeletEndpoint.Port", "0"},
        {"update", "default/node/edge-1", NODE(""), "ErrStatus.reason", "NotFound"},
        {"insert", "default/node/other", NODE(""), "Err.ErrStatus.reason", "Forbidden"},
        {"insert", "default/node/edge-1", "null", "Err.ErrStatus.reason", "BadRequest"},
        {"insert", "default/node/edge-1", "[]", "Err.ErrStatus.reason", "BadRequest"},
        /* what only the server says is not taken over */
        {"insert", "default/node/edge-1",
         "{\"metadata\":{\"name\":\"liar\",\"uid\":\"me\",\"resourceVersion\":\"99\",\"labels\":{"
         "\"a\":"
         "\"b\"},\"creationTimestamp\":\"1999-01-01T00:00:00Z\",\"deletionTimestamp\":\"1999-01-"
         "01T00:00:"
         "00Z\",\"managedFields\":[1],\"namespace\":\"x\"},\"spec\":{\"podCIDR\":\"10.0.0.0/8\"}}",
         "Object.metadata.name", "edge-1"},
        {"query", "default/node/edge-1", NULL, "metadata.labels.a", "b"},
        {"query", "default/node/edge-1", NULL, "metadata.deletionTimestamp", ""},
        {"query", "default/node/edge-1", NULL, "metadata.managedFields", ""},
        {"query", "default/node/edge-1", NULL, "metadata.namespace", ""},
        {"query", "default/node/edge-1", NULL, "metadata.creationTimestamp",
         "2026-12-01T00:00:00Z"},
        {"query", "default/node/edge-1", NULL, "kind", "Node"},
        {"query", "default/node/edge-1", NULL, "apiVersion", "v1"},
        {"query", "default/node/edge-1", NULL, "spec.podCIDR", "10.0.0.0/8"},
        {"insert", "default/node/edge-1", NODE(""), "Err.ErrStatus.reason", "AlreadyExists"},
        {"insert", "default/node/edge-1", NODE(""), "Err.ErrStatus.code", "409"},
        {"insert", "default/node/edge-1", NODE(""), "Object.metadata", EMPTY_LEASE},
        {"patch", "default/nodepatch/edge-1", "\"{}\"", "Err", "null"},
        {"patch", "default/nodepatch/edge-1",
         "\"{\\\"metadata\\\":{\\\"name\\\":\\\"x\\\",\\\"labels\\\":{\\\"c\\\":\\\"d\\\"}},"
         "\\\"spec\\\":{\\\"unschedulable\\\":true},\\\"kind\\\":\\\"X\\\","
         "\\\"status\\\":{\\\"phase\\\":\\\"Running\\\"}}\"",
         "Object.status.phase", "Running"},
        {"query", "default/node/edge-1", NULL, "metadata.name", "edge-1"},
        {"query", "default/node/edge-1", NULL, "metadata.labels.c", "d"},
        {"query", "default/node/edge-1", NULL, "metadata.labels.a", "b"},
        {"query", "default/node/edge-1", NULL, "kind", "Node"},
        {"query", "default/node/edge-1", NULL, "spec.unschedulable", ""},
        {"patch", "default/nodepatch/edge-1", "\"{\\\"metadata\\\":{\\\"uid\\\":\\\"x\\\"}}\"",
         "Err.ErrStatus.reason", "Conflict"},
        {"patch", "default/nodepatch/edge-1", "{}", "Err.ErrStatus.reason", "BadRequest"},
        {"patch", "default/nodepatch/edge-1", "\"{\"", "Err.ErrStatus.reason", "BadRequest"},
        {"patch", "default/nodepatch/edge-1", "\"[]\"", "Err.ErrStatus.reason", "BadRequest"},
        {"patch", "default/nodepatch/edge-1", "\"{\\\"status\\\":3}\"", "Err.ErrStatus.reason",
         "BadRequest"},
        {"update", "default/node/edge-1",
         NODE(",\"labels\":{\"e\":\"f\"},\"annotations\":{\"g\":\"h\"}"), NULL, "\"OK\""},
        {"query", "default/node/edge-1", NULL, "metadata.labels.e", "f"},
        {"query", "default/node/edge-1", NULL, "metadata.labels.a", "b"},
        {"query", "default/node/edge-1", NULL, "metadata.annotations.g", "h"},
        {"query", "default/node/edge-1", NULL, "status.phase", "Running"},
    };
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL);
    RUN(&e, asks);
    /* versions: the header's is the object's; nothing new, no new version */
    struct ke_msg *a = edge_ask(&e, "patch", "default/nodepatch/edge-1", "\"{}\"");
    struct ke_msg *b = edge_ask(&e, "query", "default/node/edge-1", NULL);
    struct ke_msg *c = edge_ask(&e, "patch", "default/nodepatch/edge-1",
                                "\"{\\\"status\\\":{\\\"phase\\\":\\\"x\\\"}}\"");
    assert_string_equal(ke_msg_resource_version(a), msg_text(a, "Object.metadata.resourceVersion"));
    assert_string_equal(ke_msg_resource_version(a), ke_msg_resource_version(b));
    assert_true(strtoll(ke_msg_resource_version(c), NULL, 10) >
                strtoll(ke_msg_resource_version(b), NULL, 10));
    a = edge_ask(&e, "insert", "default/node/edge-1", NODE(""));
    assert_string_equal(ke_msg_resource_version(a), "");
    finish(&r, &e);
}

#define STATUS(more) "{\"UID\":\"\",\"Status\":{" more "},\"ExtendResources\":null}"

static void nodes_of_1_4(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL);
    silent(&e, "update", "default/nodestatus/edge-1", STATUS("\"phase\":\"Running\""));
    silent(&e, "query", "default/node/edge-1", NULL);
    struct ke_msg *m = edge_ask(&e, "insert", "default/nodestatus/edge-1",
                                "{\"metadata\":{\"creationTimestamp\":null},\"status\":{}}");
    assert_string_equal(msg_content(m), "\"OK\"");
    assert_string_equal(ke_msg_resource(m), "default/node/edge-1");
    assert_string_equal(ke_msg_resource_version(m), "");
    m = edge_ask(&e, "insert", "default/nodestatus/edge-1", "{\"metadata\":{}}");
    assert_string_equal(msg_content(m), "\"OK\""); /* there already: the same */
    m = edge_ask(
        &e, "update", "default/nodestatus/edge-1",
        STATUS("\"phase\":\"Running\",\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":10350}}"));
    assert_string_equal(msg_content(m), "\"OK\"");
    assert_string_equal(ke_msg_resource(m), "default/node/edge-1");
    m = edge_ask(&e, "query", "default/node/edge-1", NULL);
    assert_string_equal(msg_text(m, "status.phase"), "Running");
    m = edge_ask(&e, "update", "default/nodestatus/edge-1",
                 STATUS("\"phase\":\"x\",\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":1}}"));
    struct ke_msg *q = edge_ask(&e, "query", "default/node/edge-1", NULL);
    assert_string_equal(ke_msg_resource_version(m), ke_msg_resource_version(q));
    assert_string_equal(msg_text(q, "status.daemonEndpoints.kubeletEndpoint.Port"), "10350");
    silent(&e, "update", "default/nodestatus/edge-1", "{\"Status\":3}");
    silent(&e, "update", "default/nodestatus/other", STATUS("\"phase\":\"x\""));
    silent(&e, "query", "default/configmap/none", NULL);
    finish(&r, &e);
}

#define LEASE(more) "{\"metadata\":{\"name\":\"edge-1\"" more "},\"spec\":{}}"
#define LEASES "kube-node-lease/lease/edge-1"

static void leases(void **state)
{
    static const struct ask asks[] = {
        {"query", LEASES, NULL, "Object", "null"},
        {"query", LEASES, NULL, "Err.ErrStatus.reason", "NotFound"},
        {"query", LEASES, NULL, "Err.ErrStatus.details.group", "coordination.k8s.io"},
        {"query", LEASES, NULL, "Err.ErrStatus.details.kind", "lease"},
        {"query", LEASES, NULL, "Err.ErrStatus.status", "Failure"},
        {"update", LEASES, LEASE(""), "Err.ErrStatus.reason", "NotFound"},
        {"update", LEASES, LEASE(""), "Object.metadata", EMPTY_LEASE},
        {"insert", LEASES, LEASE(",\"ownerReferences\":[{\"kind\":\"Node\",\"uid\":\"\"}]"),
         "Err.ErrStatus.code", "422"},
        {"insert", LEASES, LEASE(",\"ownerReferences\":[{\"kind\":\"Node\"}]"),
         "Err.ErrStatus.reason", "Invalid"},
        {"insert", LEASES, "{}", "Err.ErrStatus.reason", "BadRequest"},
        {"insert", LEASES, "3", "Err.ErrStatus.reason", "BadRequest"},
        {"insert", "kube-node-lease/lease/other", LEASE(""), "Err.ErrStatus.reason", "Forbidden"},
        {"insert", LEASES, LEASE(",\"ownerReferences\":[{\"kind\":\"Node\",\"uid\":\"u\"}]"),
         "Object.metadata.ownerReferences", "[{\"kind\":\"Node\",\"uid\":\"u\"}]"},
        {"insert", LEASES, LEASE(""), "Err.ErrStatus.reason", "AlreadyExists"},
        {"query", LEASES, NULL, "Object.kind", "Lease"},
        {"query", LEASES, NULL, "Object.apiVersion", "coordination.k8s.io/v1"},
        {"query", LEASES, NULL, "Object.metadata.namespace", "kube-node-lease"},
        {"update", LEASES, LEASE(",\"resourceVersion\":\"1\""), "Err", "null"},
        {"update", LEASES, LEASE(",\"resourceVersion\":\"1\""), "Err.ErrStatus.reason", "Conflict"},
        {"update", LEASES, LEASE(",\"resourceVersion\":\"2\""), "Object.metadata.resourceVersion",
         "3"},
        {"update", LEASES, LEASE(""), "Object.metadata.resourceVersion", "4"},
        /* an edge that lost its lease to a misread answer: it is told, not left waiting */
        {"update", "kube-node-lease/lease/", "{\"metadata\":{},\"spec\":{}}",
         "Err.ErrStatus.reason", "Forbidden"},
    };
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL);
    RUN(&e, asks);
    struct ke_msg *m = edge_ask(&e, "query", LEASES, NULL);
    assert_string_equal(ke_msg_resource_version(m), "");
    finish(&r, &e);
}

static void pods(void **state)
{
    static const struct ask asks[] = {
        {"patch", "default/podpatch/none", "\"{}\"", "Err.ErrStatus.reason", "NotFound"},
        {"patch", "default/podpatch/none", "\"{}\"", "Object.spec", "{\"containers\":null}"},
        {"patch", "default/podpatch/p", "\"{\\\"metadata\\\":{\\\"uid\\\":\\\"x\\\"}}\"",
         "Err.ErrStatus.reason", "Conflict"},
        {"patch", "default/podpatch/p", "\"{\"", "Err.ErrStatus.reason", "BadRequest"},
        {"patch", "default/podpatch/p", "\"{\\\"status\\\":null}\"", "Err.ErrStatus.reason",
         "BadRequest"},
        {"patch", "default/podpatch/p",
         "\"{\\\"metadata\\\":{\\\"labels\\\":{\\\"x\\\":\\\"y\\\"}},\\\"spec\\\":{"
         "\\\"nodeName\\\":"
         "\\\"other\\\"},\\\"status\\\":{\\\"phase\\\":\\\"Running\\\"}}\"",
         "Object.status.phase", "Running"},
        {"patch", "default/podpatch/p", "\"{}\"", "Object.spec.nodeName", "edge-1"},
        {"patch", "default/podpatch/p", "\"{}\"", "Object.metadata.labels", ""},
        {"insert", "default/pod/p", "{\"spec\":{\"nodeName\":\"edge-1\"}}", "Err.ErrStatus.reason",
         "AlreadyExists"},
        {"insert", "default/pod/m", "{\"spec\":{\"nodeName\":\"other\"}}", "Err.ErrStatus.reason",
         "Forbidden"},
        {"insert", "default/pod/m_m", "{\"spec\":{\"nodeName\":\"edge-1\"}}",
         "Err.ErrStatus.reason", "Forbidden"},
        {"insert", "default/pod/m", "null", "Err.ErrStatus.reason", "Forbidden"},
        {"insert", "default/pod/m",
         "{\"metadata\":{\"name\":\"q\",\"namespace\":\"kube-system\",\"deletionTimestamp\":\"x\","
         "\"annotations\":{\"kubernetes.io/config.mirror\":\"1\"}},"
         "\"spec\":{\"nodeName\":\"edge-1\"}}",
         "Object.metadata.name", "m"},
        {"delete", "default/pod/none", "{}", NULL, "\"OK\""},
        {"delete", "default/pod/p", "{\"preconditions\":{\"uid\":\"other\"}}", NULL, "\"OK\""},
        {"query", "default/serviceaccounttoken/default", "{}", "ErrStatus.reason", "NotFound"},
        {"query", "null/persistentvolume/x", NULL, "ErrStatus.reason", "NotFound"},
        {"query", "default/configmap/none", NULL, "ErrStatus.reason", "NotFound"},
        {"query", "default/secret/none", NULL, "ErrStatus.details.kind", "secret"},
    };
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, POD("p", "edge-1", ""));
    edge_wait(&e, "insert", "default/pod/p");
    RUN(&e, asks);
    edge_wait(&e, "insert", "default/pod/m"); /* as an API server's watch would send it */
    const struct kei_object *m = rig_object(&r, "pod", "default", "m");
    assert_string_equal(json_text(kei_buf_str(&m->json), "metadata.namespace"), "default");
    assert_string_equal(json_text(kei_buf_str(&m->json), "metadata.deletionTimestamp"), "");
    assert_string_equal(json_text(kei_buf_str(&m->json), "kind"), "Pod");
    /* p was not deleted by the wrong uid; without a condition it is */
    assert_non_null(rig_object(&r, "pod", "default", "p"));
    silent(&e, "query", "default/podlist/x", NULL);
    silent(&e, "update", "default/configmap/x", "{}");
    silent(&e, "query", "default/gadget/x", NULL);
    (void)edge_ask(&e, "delete", "default/pod/m", "{\"gracePeriodSeconds\":0}");
    assert_true(rig_wait_gone(&r, "pod", "default", "m"));
    finish(&r, &e);
}

static void too_many_mirror_pods(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char resource[60];
    start(&r, &e, NULL);
    for (int i = 0; i <= 200; i++) {
        snprintf(resource, sizeof resource, "default/pod/m%d", i);
        struct ke_msg *m = edge_ask(&e, "insert", resource, MIRROR("", ""));
        assert_string_equal(msg_text(m, "Err.ErrStatus.reason"), i < 200 ? "" : "Forbidden");
    }
    finish(&r, &e);
}

/* What a node says of its own static pods opens nothing that is not its own. */
static void mirror_pods_open_nothing(void **state)
{
    static const char *const refused[] = {
        "{\"spec\":{\"nodeName\":\"edge-1\",\"containers\":[]}}", /* no mirror */
        "{\"metadata\":{\"annotations\":{\"kubernetes.io/config.mirror\":null}},\"spec\":{"
        "\"nodeName\":\"edge-1\"}}",
        MIRROR_OF("edge-2", "", ""),
        MIRROR("", ",\"volumes\":[{\"name\":\"v\",\"secret\":{\"secretName\":\"s\"}}]"),
        MIRROR("", ",\"volumes\":[{\"name\":\"v\",\"configMap\":{\"name\":\"c\"}}]"),
        MIRROR("", ",\"volumes\":[{\"name\":\"v\",\"projected\":{\"sources\":[]}}]"),
        MIRROR("", ",\"volumes\":[{\"name\":\"v\",\"\\u0073ecret\":{\"secretName\":\"s\"}}]"),
        MIRROR("",
               ",\"volumes\":[{\"name\":\"v\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]"),
        MIRROR("", ",\"volumes\":[{\"name\":\"v\",\"csi\":{\"driver\":\"d\"}}]"),
        MIRROR("", ",\"imagePullSecrets\":[{\"name\":\"s\"}]"),
        MIRROR("", ",\"initContainers\":[{\"env\":[{\"valueFrom\":{\"secretKeyRef\":{\"name\":"
                   "\"s\"}}}]}]"),
        MIRROR("", ",\"initContainers\":[{\"envFrom\":[{\"configMapRef\":{\"name\":\"s\"}}]}]"),
        MIRROR("", ",\"ephemeralContainers\":[{\"envFrom\":[{\"secretRef\":{\"name\":\"s\"}}]}]"),
        MIRROR("", ",\"serviceAccountName\":\"default\""),
        MIRROR("", ",\"serviceAccount\":\"default\""),
    };
    static const char *const taken[] = {
        MIRROR("", ""),
        MIRROR(",\"kubernetes.io/config.source\":\"file\"",
               ",\"serviceAccountName\":\"\",\"volumes\":[{\"name\":\"v\",\"hostPath\":{\"path\":"
               "\"/\"}},"
               "{\"name\":\"w\",\"emptyDir\":{},\"secret\":null}]"),
    };
    (void)state;
    struct rig r;
    struct edge e;
    char resource[60];
    start(&r, &e, SECRET("s", "hidden"));
    rig_wait_object(&r, "secret", "default", "s");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct ke_msg *m = edge_ask(&e, "insert", "default/pod/x", refused[i]);
        if (strcmp(msg_text(m, "Err.ErrStatus.reason"), "Forbidden") != 0)
            fail_msg("case %zu: %s", i, msg_content(m));
        assert_null(rig_object(&r, "pod", "default", "x"));
        m = edge_ask(&e, "query", "default/secret/s", NULL);
        assert_string_equal(msg_text(m, "ErrStatus.reason"), "Forbidden");
    }
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        snprintf(resource, sizeof resource, "default/pod/x%zu", i);
        struct ke_msg *m = edge_ask(&e, "insert", resource, taken[i]);
        if (strcmp(msg_text(m, "Err"), "null") != 0)
            fail_msg("case %zu: %s", i, msg_content(m));
    }
    finish(&r, &e);
}

/* One that is in the store all the same, from before this was looked at or by a manifest. */
static void mirror_pods_in_the_store(void **state)
{
    static const char *const pods[] = {
        MIRROR("", ",\"volumes\":[{\"name\":\"v\",\"secret\":{\"secretName\":\"s\"}}]"),
        "{\"spec\":{\"nodeName\":\"edge-1\",\"volumes\":[{\"name\":\"v\",\"secret\":{"
        "\"secretName\":"
        "\"s\"}}]}}",
    };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        struct edge e;
        struct ke_str file = KEI_STR("a.yaml\n1");
        start(&r, &e, SECRET("s", "hidden"));
        rig_wait_object(&r, "secret", "default", "s");
        assert_int_equal(kei_objects_write(r.c->objects, "pod", "default", "x", kei_str(pods[i]),
                                           i == 0 ? &file : NULL, NULL, NULL),
                         0);
        rig_wait_object(&r, "pod", "default", "x");
        edge_wait(&e, "insert", "default/pod/x");
        struct ke_msg *m = edge_ask(&e, "query", "default/secret/s", NULL);
        assert_string_equal(msg_text(m, "ErrStatus.reason"), "Forbidden");
        rig_manifest(&r, "m.yaml", SECRET("s", "changed"));
        rig_ms(&r, 5000);
        assert_null(edge_find(&e, "insert", "default/secret/s", 0));
        assert_null(edge_find(&e, "update", "default/secret/s", 0));
        finish(&r, &e);
    }
}

/* What a node may write of its own accord. */
static void budget_of_a_node(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char resource[60], *big = malloc(2000000), *pad = malloc(1000001);
    struct ke_msg *m;
    start(&r, &e, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    memset(pad, 'x', 1000000);
    pad[1000000] = 0;
    sprintf(big, MIRROR(",\"pad\":\"%s\"", ""), pad);
    for (int i = 0; i < 6; i++) {
        snprintf(resource, sizeof resource, "default/pod/m%d", i);
        m = edge_ask(&e, "insert", resource, big);
        assert_string_equal(msg_text(m, "Err.ErrStatus.reason"),
                            i < 4 ? "" : "RequestEntityTooLarge");
    }
    /* what was given back may be used again */
    m = edge_ask(&e, "delete", "default/pod/m0", "{}");
    assert_string_equal(msg_content(m), "\"OK\"");
    assert_true(rig_wait_gone(&r, "pod", "default", "m0"));
    m = edge_ask(&e, "insert", "default/pod/m7", big);
    assert_string_equal(msg_text(m, "Err"), "null");
    /* and a status */
    for (int i = 0; i < 2; i++) {
        pad[i == 0 ? 300000 : 200000] = 0;
        sprintf(big, "\"{\\\"status\\\":{\\\"message\\\":\\\"%s\\\"}}\"", pad);
        m = edge_ask(&e, "patch", "default/podpatch/p", big);
        assert_string_equal(msg_text(m, "Err.ErrStatus.reason"),
                            i == 0 ? "RequestEntityTooLarge" : "");
    }
    free(big);
    free(pad);
    finish(&r, &e);
}

/* As Kubernetes' NodeRestriction: these are not the node's to say. */
static void reserved_labels(void **state)
{
#define RESERVED "node-restriction.kubernetes.io/"
    static const struct ask asks[] = {
        {"insert", "default/node/edge-1", NODE(",\"labels\":{\"" RESERVED "x\":\"1\"}"),
         "Err.ErrStatus.reason", "Forbidden"},
        {"insert", "default/node/edge-1",
         NODE(",\"labels\":{\"node\\u002drestriction.kubernetes.io/x\":\"1\"}"),
         "Err.ErrStatus.reason", "Forbidden"},
        {"insert", "default/node/edge-1", NODE(",\"labels\":{\"a.b\":\"1\"}"), "Err", "null"},
        {"update", "default/node/edge-1", NODE(",\"labels\":{\"" RESERVED "x\":\"1\"}"),
         "ErrStatus.reason", "Forbidden"},
        {"update", "default/node/edge-1", NODE(",\"labels\":{\"team." RESERVED "x\":\"1\"}"),
         "ErrStatus.reason", "Forbidden"},
        {"patch", "default/nodepatch/edge-1",
         "\"{\\\"metadata\\\":{\\\"labels\\\":{\\\"" RESERVED "x\\\":\\\"1\\\"}}}\"",
         "Err.ErrStatus.reason", "Forbidden"},
        {"update", "default/node/edge-1",
         NODE(",\"labels\":{\"xnode-restriction.kubernetes.io/x\":\"1\",\"c\":\"2\"}"), NULL,
         "\"OK\""},
    };
    (void)state;
    struct rig r;
    struct edge e;
    rig_init(&r, NULL);
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    assert_true(edge_connect(&e));
    RUN(&e, asks);
    /* one that is there stays, whatever the node says */
    struct kei_object *o = rig_object(&r, "node", "", "edge-1");
    struct ke_buf json = {0};
    kei_buf_init(&json, kei_ctx_alloc(r.env.ctx));
    assert_int_equal(kei_json_set(&json, kei_buf_str(&o->json), "metadata.labels",
                                  KEI_STR("{\"" RESERVED "x\":\"1\"}"), NULL),
                     0);
    assert_int_equal(
        kei_objects_write(r.c->objects, "node", "", "edge-1", kei_buf_str(&json), NULL, NULL, NULL),
        0);
    ke_buf_free(&json);
    static const struct ask then[] = {
        {"update", "default/node/edge-1", NODE(",\"labels\":{\"" RESERVED "x\":null}"),
         "ErrStatus.reason", "Forbidden"},
        {"update", "default/node/edge-1", NODE(",\"labels\":{\"d\":\"2\"}"), NULL, "\"OK\""},
    };
    RUN(&e, then);
    finish(&r, &e);
}

static bool is_durable(void *arg)
{
    const struct kei_object *o = arg;
    return o->durable == o->version && o->inflight == 0;
}

/* Many words on one pod in one message are one write. */
static void podstatus_list_of_one_pod(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char uid[64], *list = malloc(4000000), *at = list;
    start(&r, &e, POD("p", "edge-1", "") "---\n" POD("q", "edge-1", ""));
    struct kei_object *o = rig_wait_object(&r, "pod", "default", "p");
    snprintf(uid, sizeof uid, "%s", rig_wait_object(&r, "pod", "default", "q")->uid);
    rig_settle(&r);
    const struct kei_object *last = rig_object(&r, "pod", "default", "q");
    int64_t before = o->version > last->version ? o->version : last->version;
    at += sprintf(at, "[");
    for (int i = 0; i < 20000; i++)
        at += sprintf(at, "{\"UID\":\"%s\",\"Name\":\"p\",\"Status\":{\"n\":%d}},", o->uid, i);
    at += sprintf(at, "{\"UID\":\"%s\",\"Name\":\"q\",\"Status\":{\"n\":7}}", uid);
    for (int i = 0; i < 3000; i++)
        at += sprintf(at, ",{\"UID\":\"u-%d\",\"Name\":\"none\",\"Status\":{\"n\":1}}", i);
    sprintf(at, "]");
    (void)edge_send(&e, "update", "default/podstatus", list);
    free(list);
    struct kei_object *q = rig_object(&r, "pod", "default", "q");
    rig_settle(&r);
    assert_true(rig_until(&r, is_durable, o) && rig_until(&r, is_durable, q));
    assert_string_equal(json_text(kei_buf_str(&o->json), "status.n"), "19999");
    assert_string_equal(json_text(kei_buf_str(&q->json), "status.n"), "7");
    assert_true(o->version <= before + 2 && q->version <= before + 2);
    finish(&r, &e);
#undef RESERVED
}

static void pods_of_1_4(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char content[600];
    start(&r, &e, POD("p", "edge-1", "") "---\n" POD("q", "edge-1", ""));
    e.agent = "Go-http-client/1.1";
    edge_drop(&e);
    assert_true(edge_connect(&e));
    edge_wait(&e, "insert", "default/pod/q");
    edge_wait(&e, "insert", "default/pod/p");
    rig_ms(&r, 1000);
    const struct kei_object *p = rig_object(&r, "pod", "default", "p");
    const struct kei_object *q = rig_object(&r, "pod", "default", "q");
    (void)edge_ask(&e, "insert", "default/nodestatus/edge-1", "{\"metadata\":{}}");
    edge_forget(&e);
    snprintf(content, sizeof content,
             "{\"UID\":\"%s\",\"Name\":\"p\",\"Status\":{\"phase\":\"Running\"}}", p->uid);
    (void)edge_send(&e, "update", "default/podstatus/p", content);
    struct ke_msg *m = edge_wait(&e, "update", "default/pod/p"); /* upstream wants it back */
    assert_string_equal(msg_text(m, "status.phase"), "Running");
    rig_ms(&r, 1000);
    assert_int_equal(e.n_messages, 1); /* and no reply */
    /* all at once, as the store of such a node has them */
    snprintf(content, sizeof content,
             "[{\"Name\":\"p\",\"Status\":{\"phase\":\"Failed\"},\"UID\":\"%s\"},{\"Name\":\"q\","
             "\"Status\":{\"phase\":\"Failed\"},\"UID\":\"%s\"},{\"Status\":{}},3]",
             p->uid, q->uid);
    (void)edge_send_as(&e, "metaManager", "resource", "update", "default/podstatus", content);
    edge_wait(&e, "update", "default/pod/q");
    assert_string_equal(json_text(kei_buf_str(&p->json), "status.phase"), "Failed");
    /* the end: the node says that it is over, the cloud deletes */
    rig_manifest(&r, "a.yaml", POD("q", "edge-1", ""));
    rig_wait_line(&r, "pod default/p edge-1 Failed deleting");
    snprintf(content, sizeof content,
             "{\"UID\":\"%s\",\"Name\":\"p\",\"Status\":{\"phase\":\"Succeeded\","
             "\"containerStatuses\":[{"
             "\"state\":{\"running\":{}}}]}}",
             p->uid);
    (void)edge_send(&e, "update", "default/podstatus/p", content);
    rig_ms(&r, 1000);
    assert_non_null(rig_object(&r, "pod", "default", "p")); /* something runs still */
    snprintf(content, sizeof content,
             "{\"UID\":\"%s\",\"Name\":\"p\",\"Status\":{\"phase\":\"Succeeded\","
             "\"containerStatuses\":[{"
             "\"name\":\"\",\"state\":{\"terminated\":{\"reason\":\"Completed\"}}}]}}",
             p->uid);
    (void)edge_send(&e, "update", "default/podstatus/p", content);
    edge_wait(&e, "delete", "default/pod/p");
    rig_wait_line(&r, "removed pod default/p");
    /* its uid as a string is what such a node could send as well */
    snprintf(content, sizeof content, "\"%s\"", q->uid);
    (void)edge_send(&e, "delete", "default/pod/q", content);
    edge_wait(&e, "delete", "default/pod/q");
    assert_int_equal(edge_count(&e, "response", NULL), 0);
    finish(&r, &e);
}

static void nodes_of_1_23_get_their_node(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL);
    edge_drop(&e);
    e.agent = "Go-http-client/1.1";
    assert_true(edge_connect(&e));
    edge_register(&e, "null", NULL);
    struct ke_msg *m = edge_wait(&e, "update", "null/node/edge-1");
    assert_string_equal(msg_text(m, "kind"), "Node");
    assert_string_equal(ke_msg_resource_version(m), msg_text(m, "metadata.resourceVersion"));
    (void)edge_ask(&e, "patch", "null/nodepatch/edge-1", "\"{\\\"status\\\":{\\\"n\\\":1}}\"");
    m = edge_wait_nth(&e, "update", "null/node/edge-1", 1);
    assert_string_equal(msg_text(m, "status.n"), "1");
    /* the authority's certificate, for who asks in the new way */
    const char *id = edge_send_as(&e, "metamanager", "meta", "query", "k8s/ca.crt", NULL);
    m = edge_reply_to(&e, id);
    assert_memory_equal(msg_content(m), "\"-----BEGIN CERTIFICATE-----\\n", 30);
    finish(&r, &e);
}

static void what_is_not_served_is_not_answered(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL);
    uint32_t n = e.n_messages;
    (void)edge_send_as(&e, "metaserver", "dynamiccontroller", "null", "null", "{}");
    (void)edge_send_as(&e, "bus", "user", "upload", "default/up", "\"x\"");
    (void)edge_send_as(&e, "twin", "twin", "query", "default/node/edge-1", NULL);
    rig_ms(&r, 5000);
    assert_int_equal(e.n_messages, n);
    assert_true(e.open);
    finish(&r, &e);
}

/* A status is answered when it is on disk, not before; after a restart it is still there. */
static void answers_mean_durable(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL);
    edge_register(&e, "default", NULL);
    struct ke_msg *m =
        edge_ask(&e, "patch", "default/nodepatch/edge-1", "\"{\\\"status\\\":{\\\"n\\\":7}}\"");
    int64_t version = strtoll(ke_msg_resource_version(m), NULL, 10);
    edge_drop(&e);
    rig_restart(&r);
    const struct kei_object *o = rig_object(&r, "node", "", "edge-1");
    assert_int_equal(o->version, version);
    assert_string_equal(json_text(kei_buf_str(&o->json), "status.n"), "7");
    /* versions go on from there, also after what was removed */
    assert_true(edge_connect(&e));
    assert_int_equal(kei_cloud_node_delete(r.c, "edge-1"), 0);
    rig_ms(&r, 1000);
    rig_restart(&r);
    assert_true(edge_connect(&e));
    m = edge_ask(&e, "insert", "default/node/edge-1", NODE(""));
    assert_true(strtoll(msg_text(m, "Object.metadata.resourceVersion"), NULL, 10) > version + 1);
    finish(&r, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_of_1_15),
        cmocka_unit_test(nodes_of_1_4),
        cmocka_unit_test(leases),
        cmocka_unit_test(pods),
        cmocka_unit_test(too_many_mirror_pods),
        cmocka_unit_test(mirror_pods_open_nothing),
        cmocka_unit_test(mirror_pods_in_the_store),
        cmocka_unit_test(budget_of_a_node),
        cmocka_unit_test(reserved_labels),
        cmocka_unit_test(podstatus_list_of_one_pod),
        cmocka_unit_test(pods_of_1_4),
        cmocka_unit_test(nodes_of_1_23_get_their_node),
        cmocka_unit_test(what_is_not_served_is_not_answered),
        cmocka_unit_test(answers_mean_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
