/* SPDX-License-Identifier: Apache-2.0 */
/* Delivery: what is sent when, resent, forgotten and remembered. */
#include "cloud/cloud_rig.h"
#include "sim/powercut_io.h"

#define UPSTREAM "Go-http-client/1.1"

static void start(struct rig *r, struct edge *e, const char *agent, const char *manifest)
{
    rig_init(r, NULL);
    if (manifest)
        rig_manifest(r, "a.yaml", manifest);
    rig_start(r);
    edge_init(e, r, "edge-1");
    e->agent = agent ? agent : e->agent;
}

static void finish(struct rig *r, struct edge *e)
{
    edge_fini(e);
    rig_fini(r);
}

static bool none_pending(void *arg)
{
    struct edge *e = arg;
    struct kei_peer *p = rig_peer(e->rig, e->name);
    return !p || (p->queued == 0 && p->n_flying == 0);
}

/* Until everything wanted is acknowledged. */
static void wait_delivered(struct edge *e)
{
    if (!rig_until(e->rig, none_pending, e))
        fail_msg("deliveries stay open");
}

static void pod_comes_with_what_it_needs(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL,
          POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1") "---\n" CONFIG("d", "1"));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "insert", "default/pod/p");
    assert_string_equal(ke_msg_source(m), "edgecontroller");
    assert_string_equal(ke_msg_group(m), "resource");
    assert_string_equal(ke_msg_parent_id(m), "");
    assert_string_equal(ke_msg_resource_version(m), msg_text(m, "metadata.resourceVersion"));
    assert_string_equal(msg_text(m, "kind"), "Pod");
    assert_string_equal(msg_text(m, "apiVersion"), "v1");
    assert_int_equal(strlen(msg_text(m, "metadata.uid")), 36);
    assert_string_equal(msg_text(m, "spec.nodeName"), "edge-1");
    /* the ConfigMap came before it; the one nobody refers to did not come */
    assert_ptr_equal(e.messages[0], edge_find(&e, "insert", "default/configmap/c", 0));
    wait_delivered(&e);
    rig_ms(&r, 60000);
    assert_int_equal(e.n_messages, 2);
    finish(&r, &e);
}

static void upstream_asks_for_its_configs(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, UPSTREAM, POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("d", "1"));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    edge_wait(&e, "insert", "default/pod/p");
    /* not there yet */
    struct ke_msg *m = edge_ask(&e, "query", "default/configmap/c", NULL);
    assert_string_equal(msg_text(m, "ErrStatus.reason"), "NotFound");
    rig_manifest(&r, "b.yaml", CONFIG("c", "1"));
    m = edge_wait(&e, "insert", "default/configmap/c");
    m = edge_ask(&e, "query", "default/configmap/c", NULL);
    assert_string_equal(msg_text(m, "data.k"), "1");
    assert_string_equal(ke_msg_resource_version(m), msg_text(m, "metadata.resourceVersion"));
    /* what no pod of it refers to is not its business */
    m = edge_ask(&e, "query", "default/configmap/d", NULL);
    assert_string_equal(msg_text(m, "ErrStatus.reason"), "Forbidden");
    wait_delivered(&e);
    rig_manifest(&r, "b.yaml", CONFIG("c", "2"));
    m = edge_wait(&e, "update", "default/configmap/c");
    assert_string_equal(msg_text(m, "data.k"), "2");
    finish(&r, &e);
}

static void resends_five_times_then_others_go(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, UPSTREAM, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    rig_manifest(&r, "b.yaml", POD("q", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "q");
    e.no_ack = true;
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "insert", "default/pod/p");
    rig_ms(&r, 4900);
    assert_int_equal(e.n_messages, 1); /* one in flight to upstream's, and not resent yet */
    for (uint32_t i = 1; i < 5; i++) {
        rig_ms(&r, 5000);
        assert_int_equal(e.n_messages, i + 1);
        assert_string_equal(ke_msg_id(e.messages[i]), ke_msg_id(m));
    }
    rig_ms(&r, 5000);
    assert_int_equal(e.n_messages, 6);
    struct ke_msg *q = e.messages[5];
    assert_string_equal(ke_msg_resource(q), "default/pod/q");
    /* a late acknowledgement of the first still counts */
    edge_ack(&e, m);
    edge_ack(&e, q);
    wait_delivered(&e);
    rig_ms(&r, 60000);
    assert_int_equal(e.n_messages, 6);
    finish(&r, &e);
}

static void several_fly_to_our_own_node(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char text[8000] = "";
    for (int i = 0; i < 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "apiVersion: v1\nkind: Pod\nmetadata: {name: p%02d}\nspec:\n  nodeName: edge-1\n"
                 "  containers: [{name: c, image: i}]\n---\n",
                 i);
    start(&r, &e, NULL, text);
    rig_wait_object(&r, "pod", "default", "p39");
    e.no_ack = true;
    assert_true(edge_connect(&e));
    rig_ms(&r, 1000);
    assert_int_equal(e.n_messages, 32);
    edge_ack(&e, e.messages[7]);
    rig_ms(&r, 100);
    assert_int_equal(e.n_messages, 33);
    finish(&r, &e);
}

/* The edge took the first version, its ack is lost; then there is a second one. */
static void a_change_never_hides_behind_an_old_id(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL, POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1"));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    edge_forget(&e);
    e.no_ack = true;
    rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "2"));
    struct ke_msg *two = edge_wait(&e, "update", "default/configmap/c");
    rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "3"));
    struct ke_msg *three = edge_wait_nth(&e, "update", "default/configmap/c", 1);
    assert_string_equal(msg_text(two, "data.k"), "2");
    assert_string_equal(msg_text(three, "data.k"), "3");
    assert_string_not_equal(ke_msg_id(two), ke_msg_id(three));
    edge_ack(&e, two); /* now known as acknowledged: not the third version, though */
    rig_ms(&r, 5000);
    struct ke_msg *again = edge_wait_nth(&e, "update", "default/configmap/c", 2);
    assert_string_equal(ke_msg_id(again), ke_msg_id(three));
    edge_ack(&e, three);
    wait_delivered(&e);
    finish(&r, &e);
}

/* The ack of a version is not one of what changed since. */
static void an_ack_counts_for_what_was_sent(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL, POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1"));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    edge_forget(&e);
    e.no_ack = true;
    rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "2"));
    struct ke_msg *two = edge_wait(&e, "update", "default/configmap/c");
    rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "3"));
    rig_ms(&r, 1000);
    assert_int_equal(edge_count(&e, "update", NULL), 1); /* one of a name in flight */
    edge_ack(&e, two);
    struct ke_msg *three = edge_wait_nth(&e, "update", "default/configmap/c", 1);
    assert_string_equal(msg_text(three, "data.k"), "3");
    edge_drop(&e);
    edge_forget(&e);
    rig_restart(&r);
    assert_true(edge_connect(&e));
    three = edge_wait(&e, "update", "default/configmap/c");
    assert_string_equal(msg_text(three, "data.k"), "3");
    finish(&r, &e);
}

/* An upstream node keeps what it asked for once; when a later pod refers to it, it must not be old.
 */
static void what_a_node_kept_is_refreshed(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, UPSTREAM, POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1"));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "insert", "default/pod/p");
    char options[200];
    snprintf(options, sizeof options, "{\"preconditions\":{\"uid\":\"%s\"}}",
             msg_text(m, "metadata.uid"));
    edge_ask(&e, "query", "default/configmap/c", NULL);
    wait_delivered(&e);
    rig_manifest(&r, "a.yaml", CONFIG("c", "1"));
    edge_wait(&e, "update", "default/pod/p");
    edge_ask(&e, "delete", "default/pod/p", options);
    edge_wait(&e, "delete", "default/pod/p");
    rig_manifest(&r, "a.yaml", CONFIG("c", "2"));
    rig_ms(&r, 5000);
    edge_forget(&e);
    rig_manifest(&r, "b.yaml", POD("q", "edge-1", REFERS("c")));
    edge_wait(&e, "insert", "default/pod/q");
    assert_string_equal(ke_msg_resource(e.messages[0]), "default/configmap/c");
    assert_string_equal(msg_text(e.messages[0], "data.k"), "2");
    finish(&r, &e);
}

static int fail_writes(void *user, const struct powercut_op *op)
{
    const bool *full = user;
    return *full && (op->kind == POWERCUT_WRITE || op->kind == POWERCUT_SYNC) ? KE_ENOSPC : 0;
}

static void rig_manifest_in(struct powercut *disk, const char *text)
{
    powercut_put(disk, "/m/a.yaml", text, strlen(text));
}

static void nothing_is_told_that_is_not_on_disk(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    bool full = false;
    struct powercut *disk = powercut_new();
    const struct ke_io *io = powercut_io(disk);
    assert_int_equal(io->mkdir(io->user, "/m", 0700), 0);
    const char *text = POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1");
    powercut_put(disk, "/m/a.yaml", text, strlen(text));
    rig_init(&r, io);
    r.conf.manifests = "/m";
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    edge_drop(&e);
    edge_forget(&e);
    rig_manifest_in(disk, POD("p", "edge-1",
                              REFERS("c")) "---\n" CONFIG("c", "1") "---\n" POD("q", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "q");
    powercut_fault(disk, fail_writes, &full);
    full = true;
    e.no_ack = true;
    assert_true(edge_connect(&e));
    (void)edge_send(&e, "patch", "default/nodepatch/edge-1", "\"{\\\"status\\\":{\\\"n\\\":1}}\"");
    (void)edge_send(&e, "query", "default/node/edge-1", NULL);
    (void)edge_send(&e, "insert", "kube-node-lease/lease/edge-1",
                    "{\"metadata\":{\"name\":\"edge-1\"}}");
    (void)edge_send(&e, "query", "kube-node-lease/lease/edge-1", NULL);
    (void)edge_send(&e, "query", "default/configmap/c", NULL);
    rig_ms(&r, 20000);
    for (uint32_t i = 0; i < e.n_messages; i++)
        if (!strstr(msg_content(e.messages[i]), "ErrStatus") && /* p and c were there before */
            !strstr(ke_msg_resource(e.messages[i]), "/configmap/c"))
            fail_msg("%s %s was told", ke_msg_operation(e.messages[i]),
                     ke_msg_resource(e.messages[i]));
    full = false;
    edge_wait(&e, "insert", "default/pod/q");
    struct ke_msg *m = edge_ask(&e, "query", "default/node/edge-1", NULL);
    assert_string_equal(msg_text(m, "status.n"), "1");
    atomic_store(&r.env.log_errors, 0);
    finish(&r, &e);
    powercut_free(disk);
}

/* The store was salvaged and lost its newest objects: versions that nodes saw are not given again.
 */
static void versions_never_go_back(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    struct ke_store *store = NULL;
    struct ke_store_tx *tx = NULL;
    struct ke_store_config c;
    char folder[300];
    start(&r, &e, NULL, CONFIG("c", "1"));
    rig_wait_object(&r, "configmap", "default", "c");
    rig_stop(&r);
    snprintf(folder, sizeof folder, "%s/store", r.data);
    ke_store_config_init(&c, sizeof c);
    c.folder = folder;
    assert_int_equal(ke_store_open(&store, r.env.ctx, &c), 0);
    assert_int_equal(ke_store_begin(&tx, store), 0);
    static const char *const rows[] = {"edge-1/configmap/default/x", "edge-1/odd", "", "a/b/c/d/e"};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(ke_store_put(tx, "ack", rows[i][0] ? rows[i] : "/",
                                      i == 3 ? NULL : "some-uid", 1000, "", 0),
                         0);
    assert_int_equal(ke_store_commit(tx, NULL, NULL), 0);
    ke_store_close(store);
    rig_start(&r);
    rig_manifest(&r, "a.yaml", CONFIG("c", "2"));
    rig_ms(&r, 2000);
    assert_int_equal(rig_object(&r, "configmap", "default", "c")->version, 1001);
    /* and what nobody knows any more is taken from the node */
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "delete", "default/configmap/x");
    assert_string_equal(msg_text(m, "metadata.uid"), "some-uid");
    finish(&r, &e);
}

static void lost_ack_is_resent_after_reconnect(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    e.no_ack = true;
    assert_true(edge_connect(&e));
    char id[37];
    snprintf(id, sizeof id, "%s", ke_msg_id(edge_wait(&e, "insert", "default/pod/p")));
    edge_drop(&e);
    edge_forget(&e);
    rig_ms(&r, 1000);
    int64_t before = ke_ctx_mono_ms(r.env.ctx);
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "insert", "default/pod/p");
    assert_in_range(ke_ctx_mono_ms(r.env.ctx) - before, 0, 1000); /* at once */
    assert_string_equal(ke_msg_id(m), id); /* a node that did it recognises it */
    edge_ack(&e, m);
    wait_delivered(&e);
    edge_drop(&e);
    edge_forget(&e);
    assert_true(edge_connect(&e));
    rig_ms(&r, 30000);
    assert_int_equal(e.n_messages, 0);
    finish(&r, &e);
}

static void remembers_over_restarts(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL, POD("p", "edge-1", "") "---\n" POD("q", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "q");
    e.no_ack = true;
    assert_true(edge_connect(&e));
    edge_ack(&e, edge_wait(&e, "insert", "default/pod/p"));
    struct ke_msg *q = edge_wait(&e, "insert", "default/pod/q");
    int64_t version = strtoll(ke_msg_resource_version(q), NULL, 10);
    rig_ms(&r, 100);
    edge_drop(&e);
    edge_forget(&e);
    rig_restart(&r);
    assert_true(edge_connect(&e));
    q = edge_wait(&e, "insert", "default/pod/q");
    assert_int_equal(strtoll(ke_msg_resource_version(q), NULL, 10), version);
    edge_ack(&e, q);
    rig_ms(&r, 20000);
    assert_int_equal(e.n_messages, 1); /* p was acknowledged in the life before */
    /* what changed while the node was away, and what went */
    edge_drop(&e);
    edge_forget(&e);
    rig_stop(&r);
    rig_manifest(&r, "a.yaml", POD("q", "edge-1", ", env: []"));
    rig_start(&r);
    rig_ms(&r, 1000);
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "update", "default/pod/p");
    assert_string_not_equal(msg_text(m, "metadata.deletionTimestamp"), "");
    finish(&r, &e);
}

/* The cloud was down while the object was removed from its store: the row tells. */
static void stub_for_what_is_gone(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL, POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1"));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    char uid[40];
    snprintf(uid, sizeof uid, "%s", rig_object(&r, "configmap", "default", "c")->uid);
    edge_drop(&e);
    edge_forget(&e);
    rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")));
    assert_true(rig_wait_gone(&r, "configmap", "default", "c"));
    rig_restart(&r);
    e.no_ack = true;
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "delete", "default/configmap/c");
    assert_string_equal(msg_text(m, "metadata.uid"), uid);
    assert_string_equal(msg_text(m, "metadata.name"), "c");
    assert_string_equal(msg_text(m, "metadata.namespace"), "default");
    assert_string_equal(ke_msg_resource_version(m), "");
    edge_ack(&e, m);
    rig_ms(&r, 10000);
    edge_drop(&e);
    edge_forget(&e);
    rig_restart(&r);
    assert_true(edge_connect(&e));
    rig_ms(&r, 30000);
    assert_int_equal(e.n_messages, 0);
    finish(&r, &e);
}

static void successor_waits_for_the_end_of_its_predecessor(void **state)
{
    static const char *const agents[] = {NULL, UPSTREAM};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct edge e;
        start(&r, &e, agents[i], POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1"));
        rig_wait_object(&r, "pod", "default", "p");
        assert_true(edge_connect(&e));
        edge_wait(&e, "insert", "default/pod/p");
        edge_ask(&e, "query", "default/configmap/c", NULL);
        rig_ms(&r, 100);
        wait_delivered(&e);
        char uid[40];
        snprintf(uid, sizeof uid, "%s", rig_object(&r, "configmap", "default", "c")->uid);
        edge_forget(&e);
        e.no_ack = true;
        rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")));
        struct ke_msg *m = edge_wait(&e, "delete", "default/configmap/c");
        assert_string_equal(msg_text(m, "metadata.uid"), uid);
        rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "2"));
        const struct kei_object *o = rig_wait_object(&r, "configmap", "default", "c");
        assert_string_not_equal(o->uid, uid);
        rig_ms(&r, 40000); /* resent, given up, resent: it never overtakes */
        assert_int_equal(edge_count(&e, "insert", "default/configmap/c"), 0);
        e.no_ack = false;
        edge_ack(&e, m);
        m = edge_wait(&e, "insert", "default/configmap/c");
        assert_string_equal(msg_text(m, "data.k"), "2");
        wait_delivered(&e);
        finish(&r, &e);
    }
}

static void a_report_does_not_come_back_nor_hide_a_change(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    edge_forget(&e);
    edge_pod_status(&e, "default", "p", "{\\\"phase\\\":\\\"Running\\\"}");
    rig_ms(&r, 20000);
    assert_int_equal(edge_count(&e, "update", "default/pod/p"), 0);
    /* a change is on its way, unacknowledged, when the next report comes */
    e.no_ack = true;
    rig_manifest(&r, "a.yaml",
                 "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nspec:\n"
                 "  nodeName: edge-1\n  containers: [{name: c, image: \"i:1\"}]\n");
    struct ke_msg *m = edge_wait(&e, "update", "default/pod/p");
    assert_string_equal(msg_text(m, "metadata.labels.a"), "b");
    edge_pod_status(&e, "default", "p",
                    "{\\\"phase\\\":\\\"Running\\\",\\\"podIP\\\":\\\"1.2.3.4\\\"}");
    edge_drop(&e);
    edge_forget(&e);
    assert_true(edge_connect(&e));
    m = edge_wait(&e, "update", "default/pod/p");
    assert_string_equal(msg_text(m, "metadata.labels.a"), "b");
    assert_string_equal(msg_text(m, "status.podIP"), "1.2.3.4");
    edge_ack(&e, m);
    wait_delivered(&e);
    /* and while the node is away */
    edge_drop(&e);
    rig_manifest(&r, "a.yaml", POD("p", "edge-1", ""));
    rig_ms(&r, 2000);
    rig_restart(&r);
    edge_forget(&e);
    assert_true(edge_connect(&e));
    edge_pod_status(&e, "default", "p", "{\\\"phase\\\":\\\"Running\\\"}");
    m = edge_wait(&e, "update", "default/pod/p");
    assert_string_equal(msg_text(m, "metadata.labels"), "");
    finish(&r, &e);
}

static void upstream_gets_its_report_back(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, UPSTREAM, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    edge_pod_status(&e, "default", "p", "{\\\"phase\\\":\\\"Running\\\"}");
    struct ke_msg *m = edge_wait(&e, "update", "default/pod/p");
    assert_string_equal(msg_text(m, "status.phase"), "Running");
    /* the same again changes nothing */
    edge_forget(&e);
    edge_pod_status(&e, "default", "p", "{\\\"phase\\\":\\\"Running\\\"}");
    rig_ms(&r, 10000);
    assert_int_equal(edge_count(&e, "update", NULL), 0);
    finish(&r, &e);
}

static struct ke_msg *report(struct edge *e, const char *resource, const char *content)
{
    /* source edged would say that this node speaks 1.4, which is not answered */
    return edge_reply_to(e,
                         edge_send_as(e, "metaManager", "resource", "update", resource, content));
}

static void pods_unknown_here_are_ended(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char resource[100], content[200];
    start(&r, &e, NULL, NULL);
    e.no_ack = true;
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    const char *one =
        "{\"UID\":\"11111111-1111-4111-8111-111111111111\",\"Name\":\"x\",\"Status\":{}}";
    struct ke_msg *m = report(&e, "default/podstatus/x", one);
    assert_string_equal(msg_content(m), "\"OK\"");
    m = edge_wait(&e, "delete", "default/pod/x");
    assert_string_equal(msg_text(m, "metadata.uid"), "11111111-1111-4111-8111-111111111111");
    edge_ack(&e, m);
    wait_delivered(&e);
    /* no name, no uid, or ones that are none */
    static const char *const bad[][2] = {
        {"default/podstatus/x", "{\"UID\":\"\",\"Name\":\"x\",\"Status\":{}}"},
        {"default/podstatus/x", "{\"UID\":\"../x\",\"Name\":\"x\",\"Status\":{}}"},
        {"default/podstatus/X_", "{\"UID\":\"1\",\"Name\":\"X_\",\"Status\":{}}"},
        {"default/podstatus/x",
         "{\"UID\":\"0123456789012345678901234567890123456789012345678901234567890123\","
         "\"Name\":\"x\",\"Status\":{}}"},
        {"default/podstatus/x", "{\"UID\":\"1\",\"Name\":\"x\"}"},
        {"default/podstatus/x", "null"},
        {"default/podstatus/x", "\"x\""}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        m = report(&e, bad[i][0], bad[i][1]);
        assert_string_equal(msg_text(m, "ErrStatus.reason"), "BadRequest");
    }
    /* it cannot make the cloud remember without end */
    for (int i = 0; i < 70; i++) {
        snprintf(resource, sizeof resource, "default/podstatus/x%d", i);
        snprintf(content, sizeof content, "{\"UID\":\"u%d\",\"Name\":\"x%d\",\"Status\":{}}", i, i);
        m = report(&e, resource, content);
        assert_string_equal(msg_content(m)[0] == '"' ? "OK" : msg_text(m, "ErrStatus.reason"),
                            i < 64 ? "OK" : "TooManyRequests");
    }
    edge_drop(&e);
    rig_ms(&r, 1000);
    assert_int_equal(rig_peer(&r, "edge-1")->deliveries.n, 0);
    finish(&r, &e);
}

static void acks_of_nothing_cost_nothing(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char text[300];
    start(&r, &e, NULL, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    size_t before = test_alloc_live(&r.env.alloc);
    for (int i = 0; i < 10000; i++) {
        int n = snprintf(
            text, sizeof text,
            "{\"header\":{\"msg_id\":\"%d\",\"parent_msg_id\":\"unknown-%d\",\"timestamp\":1},"
            "\"route\":{\"operation\":\"response\",\"resource\":\"a/b\"},\"content\":\"OK\"}",
            i, i % 3 ? i : 0);
        edge_text(&e, text, (size_t)n);
        if (i % 100 == 0)
            rig_settle(&r);
    }
    rig_ms(&r, 1000);
    assert_true(e.open);
    assert_in_range(test_alloc_live(&r.env.alloc), 0, before + 4);
    finish(&r, &e);
}

static void pod_that_was_never_sent_goes_at_once(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, NULL, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    rig_manifest(&r, "a.yaml", NULL);
    assert_true(rig_wait_gone(&r, "pod", "default", "p"));
    assert_null(rig_line(&r, "pod default/p edge-1 Pending deleting", 0));
    assert_true(edge_connect(&e));
    rig_ms(&r, 1000);
    assert_int_equal(e.n_messages, 0);
    finish(&r, &e);
}

static void pod_ends_in_order(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char options[200];
    start(&r, &e, NULL, POD("p", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    edge_forget(&e);
    rig_manifest(&r, "a.yaml", NULL);
    struct ke_msg *m = edge_wait(&e, "update", "default/pod/p");
    assert_string_equal(msg_text(m, "metadata.deletionGracePeriodSeconds"), "30");
    assert_string_not_equal(msg_text(m, "metadata.deletionTimestamp"), "");
    rig_wait_line(&r, "pod default/p edge-1 Pending deleting");
    rig_ms(&r, 120000); /* however long it takes */
    snprintf(options, sizeof options,
             "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"%s\"}}",
             rig_object(&r, "pod", "default", "p")->uid);
    const char *id = edge_send(&e, "delete", "default/pod/p", options);
    assert_string_equal(msg_content(edge_reply_to(&e, id)), "\"OK\"");
    m = edge_wait(&e, "delete", "default/pod/p");
    rig_wait_line(&r, "removed pod default/p");
    wait_delivered(&e);
    /* again: gone already is success */
    m = edge_ask(&e, "delete", "default/pod/p", options);
    assert_string_equal(msg_content(m), "\"OK\"");
    rig_ms(&r, 20000);
    assert_int_equal(edge_count(&e, "delete", NULL), 1);
    assert_int_equal(rig_peer(&r, "edge-1")->deliveries.n, 0);
    finish(&r, &e);
}

static void pod_of_a_node_deletes_only_its_own(void **state)
{
    (void)state;
    struct rig r;
    struct edge e, f;
    char options[200];
    start(&r, &e, NULL, POD("p", "edge-2", REFERS("c")) "---\n" CONFIG("c", "1"));
    const struct kei_object *o = rig_wait_object(&r, "pod", "default", "p");
    edge_init(&f, &r, "edge-2");
    assert_true(edge_connect(&e));
    assert_true(edge_connect(&f));
    edge_wait(&f, "insert", "default/pod/p");
    snprintf(options, sizeof options, "{\"preconditions\":{\"uid\":\"%s\"}}", o->uid);
    struct ke_msg *m = edge_ask(&e, "delete", "default/pod/p", options);
    assert_string_equal(msg_content(m), "\"OK\"");
    m = edge_ask(&e, "patch", "default/podpatch/p",
                 "\"{\\\"status\\\":{\\\"phase\\\":\\\"Failed\\\"}}\"");
    assert_string_equal(msg_text(m, "Err.ErrStatus.reason"), "NotFound");
    m = edge_ask(&e, "query", "default/configmap/c", NULL);
    assert_string_equal(msg_text(m, "ErrStatus.reason"), "Forbidden");
    rig_ms(&r, 1000);
    assert_non_null(rig_object(&r, "pod", "default", "p"));
    edge_fini(&f);
    finish(&r, &e);
}

/* The reply to a query carries the object: it leaves when it is on disk that the node has it. */
static void an_object_in_a_reply_is_delivered(void **state)
{
    (void)state;
    for (int acks = 0; acks < 2; acks++) {
        struct rig r;
        struct edge e;
        start(&r, &e, UPSTREAM, CONFIG("c", "1"));
        rig_wait_object(&r, "configmap", "default", "c");
        assert_true(edge_connect(&e));
        rig_manifest(&r, "b.yaml", POD("p", "edge-1", REFERS("c")));
        edge_wait(&e, "insert", "default/pod/p");
        wait_delivered(&e);
        e.no_ack = true;
        struct ke_msg *m = edge_ask(&e, "query", "default/configmap/c", NULL);
        if (acks)
            edge_ack(&e, m);
        rig_ms(&r, 20000);
        assert_int_equal(edge_count(&e, "insert", "default/configmap/c"), 0);
        edge_drop(&e);
        edge_forget(&e);
        rig_restart(&r);
        assert_true(edge_connect(&e));
        rig_ms(&r, 1000);
        assert_int_equal(edge_count(&e, NULL, "default/configmap/c"), acks ? 0 : 1);
        /* either way the cloud knows that the node may have it */
        edge_drop(&e);
        edge_forget(&e);
        rig_manifest(&r, "a.yaml", NULL);
        assert_true(rig_wait_gone(&r, "configmap", "default", "c"));
        assert_true(edge_connect(&e));
        edge_wait(&e, "delete", "default/configmap/c");
        finish(&r, &e);
    }
}

static void many_queries_at_once_are_all_answered(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    const char *ids[6];
    char copy[300][37];
    start(&r, &e, UPSTREAM, POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1"));
    rig_wait_object(&r, "pod", "default", "p");
    assert_true(edge_connect(&e));
    for (int i = 0; i < 300; i++) {
        ids[0] = edge_send(&e, "query", "default/configmap/c", NULL);
        memcpy(copy[i], ids[0], 37);
    }
    for (int i = 0; i < 300; i++)
        assert_string_equal(msg_text(edge_reply_to(&e, copy[i]), "data.k"), "1");
    assert_true(e.open);
    finish(&r, &e);
}

/* Takes the place from other; false: it was refused. */
static bool takes_place(struct edge *e, struct edge *other)
{
    if (!edge_connect(e)) {
        assert_int_equal(e->http_status, 503);
        assert_true(other->open);
        return false;
    }
    assert_true(edge_wait_closed(other));
    return true;
}

/*
 * Who is refused and who wins, between a program and a copy of it. The newest wins; when that went
 * on for some times who is in stays, longer and longer.
 */
static void two_programs_with_one_name(void **state)
{
    (void)state;
    struct rig r;
    struct edge e, f;
    int64_t hold = 10000;
    start(&r, &e, NULL, POD("p", "edge-1", "") "---\n" POD("q", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "q");
    edge_init(&f, &r, "edge-1");
    e.beats = f.beats = true;
    assert_true(edge_connect(&e));
    wait_delivered(&e);
    assert_true(takes_place(&f, &e));
    assert_true(takes_place(&e, &f));
    assert_true(takes_place(&f, &e));
    for (int i = 0; i < 8; i++) {
        struct edge *in = i % 2 ? &e : &f, *out = i % 2 ? &f : &e;
        atomic_store(&r.env.log_errors, 0);
        assert_false(takes_place(out, in));
        rig_ms(&r, hold - 1000);
        assert_false(takes_place(out, in));
        assert_int_equal(atomic_load(&r.env.log_errors), 1); /* told once */
        rig_ms(&r, 1100);
        assert_true(takes_place(out, in));
        hold = hold * 2 < 300000 ? hold * 2 : 300000;
    }
    atomic_store(&r.env.log_errors, 0);
    assert_int_equal(r.c->sessions, 1);
    /* one alone comes and goes as it likes */
    edge_drop(&f);
    rig_ms(&r, 100);
    for (int i = 0; i < 10; i++) {
        assert_true(edge_connect(&f));
        edge_drop(&f);
        rig_ms(&r, 100);
    }
    /* a holder that is not heard of any more does not keep its place: the link died */
    assert_true(edge_connect(&f));
    f.beats = false;
    rig_ms(&r, 21000);
    assert_true(takes_place(&e, &f));
    /* all is forgotten after a while */
    rig_ms(&r, 901000);
    f.beats = true;
    assert_true(takes_place(&f, &e));
    assert_true(takes_place(&e, &f));
    assert_true(takes_place(&f, &e));
    edge_fini(&f);
    finish(&r, &e);
}

/* Both dial as fast as they can. */
static void a_storm_of_two_is_calm(void **state)
{
    (void)state;
    struct rig r;
    struct edge e, f;
    start(&r, &e, NULL, POD("p", "edge-1", "") "---\n" POD("q", "edge-1", ""));
    rig_wait_object(&r, "pod", "default", "q");
    edge_init(&f, &r, "edge-1");
    e.beats = f.beats = true;
    size_t before = 0;
    for (int i = 0; i < 200; i++) {
        struct edge *out = e.open ? &f : &e;
        (void)edge_connect(out);
        rig_ms(&r, 100);
        if (i == 10)
            before = test_alloc_live(&r.env.alloc);
    }
    assert_in_range(test_alloc_live(&r.env.alloc), 0, before + 20);
    assert_int_equal(r.c->sessions, 1);
    assert_in_range(e.connects + f.connects, 5, 7); /* within 20 s, of 200 tries */
    atomic_store(&r.env.log_errors, 0);
    edge_fini(&f);
    finish(&r, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pod_comes_with_what_it_needs),
        cmocka_unit_test(upstream_asks_for_its_configs),
        cmocka_unit_test(resends_five_times_then_others_go),
        cmocka_unit_test(several_fly_to_our_own_node),
        cmocka_unit_test(a_change_never_hides_behind_an_old_id),
        cmocka_unit_test(an_ack_counts_for_what_was_sent),
        cmocka_unit_test(what_a_node_kept_is_refreshed),
        cmocka_unit_test(nothing_is_told_that_is_not_on_disk),
        cmocka_unit_test(versions_never_go_back),
        cmocka_unit_test(lost_ack_is_resent_after_reconnect),
        cmocka_unit_test(remembers_over_restarts),
        cmocka_unit_test(stub_for_what_is_gone),
        cmocka_unit_test(successor_waits_for_the_end_of_its_predecessor),
        cmocka_unit_test(a_report_does_not_come_back_nor_hide_a_change),
        cmocka_unit_test(upstream_gets_its_report_back),
        cmocka_unit_test(pods_unknown_here_are_ended),
        cmocka_unit_test(acks_of_nothing_cost_nothing),
        cmocka_unit_test(pod_that_was_never_sent_goes_at_once),
        cmocka_unit_test(pod_ends_in_order),
        cmocka_unit_test(pod_of_a_node_deletes_only_its_own),
        cmocka_unit_test(an_object_in_a_reply_is_delivered),
        cmocka_unit_test(many_queries_at_once_are_all_answered),
        cmocka_unit_test(two_programs_with_one_name),
        cmocka_unit_test(a_storm_of_two_is_calm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
