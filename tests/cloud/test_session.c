/* SPDX-License-Identifier: Apache-2.0 */
/* The tunnel port: who may come in, what ends a session, what a bad peer costs. Health. */
#include "cloud/cloud_rig.h"

#include "net/tls.h"

static void start(struct rig *r, struct edge *e)
{
    rig_init(r, NULL);
    rig_start(r);
    edge_init(e, r, "edge-1");
}

static void finish(struct rig *r, struct edge *e)
{
    edge_fini(e);
    rig_fini(r);
}

static void refuses_who_is_not_it(void **state)
{
    static const struct {
        const char *name, *node_id, *use, *cn, *org;
        uint32_t status;
    } cases[] = {
        {"edge-1", "edge-1", "msg", NULL, "system:nodes", 101},
        {"edge-1", "edge-2", "msg", NULL, "system:nodes", 403},
        {"edge-1", "Edge_1", "msg", NULL, "system:nodes", 400},
        {"edge-1", "", "msg", NULL, "system:nodes", 400},
        {"edge-1", "../etc", "msg", NULL, "system:nodes", 400},
        {"edge-1", "edge-1", "str", NULL, "system:nodes", 400},
        {"edge-1", "edge-1", "", NULL, "system:nodes", 400},
        {"edge-1", "edge-1", "msg", "system:node:edge-11", "system:nodes", 403},
        {"edge-1", "edge-1", "msg", "system:node:", "system:nodes", 403},
        {"edge-1", "edge-1", "msg", "edge-1", "system:nodes", 403},
        {"edge-1", "edge-1", "msg", "kubeedge.io", "kubeEdge", 101},
        {"edge-1", "other", "msg", "kubeedge.io", "kubeEdge", 101},
    };
    (void)state;
    struct rig r;
    struct edge e;
    char long_name[300];
    start(&r, &e);
    edge_fini(&e);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        edge_init(&e, &r, cases[i].name);
        e.node_id = cases[i].node_id;
        e.use = cases[i].use;
        e.cn = cases[i].cn;
        e.org = cases[i].org;
        bool open = edge_connect(&e);
        if (open != (cases[i].status == 101) || (!open && e.http_status != cases[i].status))
            fail_msg("case %zu: %d, HTTP %u (%s)", i, open, (unsigned)e.http_status, e.close_text);
        edge_fini(&e);
    }
    memset(long_name, 'a', sizeof long_name);
    for (size_t i = 50; i < sizeof long_name; i += 50)
        long_name[i] = '.';
    long_name[254] = 0;
    edge_init(&e, &r, "edge-1");
    e.cn = "kubeedge.io";
    e.org = "kubeEdge";
    e.node_id = long_name;
    assert_false(edge_connect(&e));
    assert_int_equal(e.http_status, 400);
    long_name[253] = 0;
    assert_true(edge_connect(&e));
    edge_drop(&e);
    rig_ms(&r, 1000);
    assert_int_equal(r.c->peers.n, 0); /* nobody is remembered for having been here */
    finish(&r, &e);
}

/* A certificate up to 1.15 bears no node's name: it is the one's that it was first used for. */
static void legacy_certificate_is_of_one_node(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    e.cn = "kubeedge.io";
    e.org = "kubeEdge";
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    for (int i = 0; i < 2; i++) {
        if (e.ws)
            edge_drop(&e);
        e.node_id = "edge-2";
        assert_false(edge_connect(&e));
        assert_int_equal(e.http_status, 403);
        e.node_id = "edge-1";
        assert_true(edge_connect(&e));
        rig_restart(&r);
    }
    finish(&r, &e);
}

/* Whatever fails while it is bound: it never becomes that of two. */
static void legacy_certificate_without_memory(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    size_t at = 1, refused = 0;
    bool failed = true;
    start(&r, &e);
    for (; failed; at++) {
        kei_cert_free(e.cert);
        kei_key_free(e.key);
        e.cert = NULL;
        e.key = NULL;
        e.cn = "kubeedge.io";
        e.org = "kubeEdge";
        e.node_id = "edge-1";
        edge_sign(&e, NULL, NULL);
        size_t before = atomic_load(&r.env.alloc.failed);
        test_alloc_fail_at(&r.env.alloc, at);
        refused += !edge_connect(&e);
        failed = atomic_load(&r.env.alloc.failed) > before;
        test_alloc_fail_at(&r.env.alloc, 0);
        edge_drop(&e);
        rig_settle(&r);
        assert_true(edge_connect(&e));
        edge_drop(&e);
        e.node_id = "edge-2";
        assert_false(edge_connect(&e));
        assert_int_equal(e.http_status, 403);
    }
    assert_true(at > 10 && refused > 1);
    finish(&r, &e);
}

static void refuses_certificates_of_others(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    struct kei_crypto *crypto = NULL;
    struct kei_key *key = NULL;
    struct kei_cert *ca = NULL;
    struct ke_error err = KE_ERROR_INIT;
    start(&r, &e);
    assert_int_equal(kei_crypto_get(r.edges, &crypto), 0);
    assert_int_equal(kei_key_new_p256(&key, crypto, &err), 0);
    assert_int_equal(kei_ca_make(&ca, key, ke_ctx_real_ms(r.edges) / 1000, &err), 0);
    edge_sign(&e, ca, key);
    edge_dial(&e);
    assert_true(edge_wait_closed(&e));
    assert_int_equal(e.http_status, 0);
    assert_int_equal(r.c->sessions, 0);
    kei_cert_free(ca);
    kei_key_free(key);
    finish(&r, &e);
}

static void keepalives_keep_it_alive(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    assert_true(edge_connect(&e));
    rig_ms(&r, 300000);
    assert_true(e.open);
    e.beats = false;
    /* other traffic does not count */
    for (int i = 0; i < 5 && e.open; i++) {
        (void)edge_send(&e, "query", "default/node/edge-1", NULL);
        rig_ms(&r, 5000);
    }
    rig_ms(&r, 6000);
    assert_false(e.open);
    assert_int_equal(r.c->sessions, 0);
    finish(&r, &e);
}

static void bad_messages(void **state)
{
    static const struct {
        const char *text;
        bool open; /* afterwards */
    } cases[] = {
        {"{\"header\":{\"msg_id\":\"\",\"timestamp\":0},\"route\":{},\"content\":null}\n", true},
        {"{\"header\":{\"msg_id\":\"1\",\"timestamp\":0},\"route\":{\"operation\":\"response\"},"
         "\"content\":\"OK\"}",
         true},
        {"{\"header\":{\"msg_id\":\"1\",\"timestamp\":0},\"route\":{\"source\":\"edged\","
         "\"operation\":\"update\",\"resource\":\"///\"},\"content\":{}}",
         true},
        {"{\"header\":{\"msg_id\":\"1\",\"timestamp\":0},\"route\":{\"source\":\"edged\","
         "\"operation\":\"query\",\"resource\":\"default/gadget/x\"},\"content\":null} trailing",
         true},
        {"{\"header\":{\"msg_id\":\"1\",\"timestamp\":0},\"route\":{\"source\":\"edged\","
         "\"operation\":\"error\",\"resource\":\"a/b/c\"},\"content\":\"it\\u0007 failed\"}",
         true},
        {"{\"header\":{\"msg_id\":\"1\",\"timestamp\":0},\"route\":{\"source\":\"edged\","
         "\"operation\":\"patch\",\"resource\":\"default/nodepatch/edge-1\"},\"content\":\"{\"}",
         true},
        {"{\"header\":{\"msg_id\":\"1\",\"timestamp\":0},\"route\":{\"source\":\"edged\","
         "\"operation\":\"insert\",\"resource\":\"default/node/edge-1\"},\"content\":[1,2]}",
         true},
        {"nonsense", false},
        {"{\"header\":{\"msg_id\":\"1\"", false},
        {"[]", false},
        {"", false},
        {"\xff\xfe", false},
    };
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(edge_connect(&e));
        edge_text(&e, cases[i].text, strlen(cases[i].text));
        rig_ms(&r, 100);
        if (e.open != cases[i].open)
            fail_msg("case %zu: open is %d (%s)", i, e.open, e.close_text);
        edge_drop(&e);
    }
    /* nested a million deep */
    char *deep = malloc(2000100);
    strcpy(deep, "{\"header\":{\"msg_id\":\"1\",\"timestamp\":0},\"route\":{},\"content\":");
    size_t n = strlen(deep);
    memset(deep + n, '[', 1000000);
    memset(deep + n + 1000000, ']', 1000000);
    memcpy(deep + n + 2000000, "}", 2);
    assert_true(edge_connect(&e));
    edge_text(&e, deep, strlen(deep));
    free(deep);
    assert_true(edge_wait_closed(&e));
    finish(&r, &e);
}

static void half_a_message_then_gone(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    assert_true(edge_connect(&e));
    /* a frame that says 1,000 bytes and brings 3 */
    unsigned char half[] = {0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0, 'a', 'b', 'c'};
    assert_int_equal(kei_stream_write(kei_ws_stream(e.ws), half, sizeof half), 0);
    rig_ms(&r, 1000);
    edge_drop(&e);
    rig_ms(&r, 1000);
    assert_int_equal(r.c->sessions, 0);
    finish(&r, &e);
}

static void over_the_cap_is_skipped(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    rig_init(&r, NULL);
    r.conf.max_message = 65536;
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    assert_true(edge_connect(&e));
    char *big = malloc(100100);
    strcpy(big,
           "{\"header\":{\"msg_id\":\"big-1\",\"timestamp\":0},\"route\":{\"source\":\"edged\","
           "\"operation\":\"insert\",\"resource\":\"default/node/edge-1\"},\"content\":\"");
    size_t n = strlen(big);
    memset(big + n, 'x', 100000 - n);
    memcpy(big + 100000, "\"}", 3);
    edge_text(&e, big, strlen(big));
    free(big);
    struct ke_msg *m = edge_ask(&e, "query", "default/node/edge-1", NULL);
    assert_string_equal(msg_text(m, "ErrStatus.reason"), "NotFound");
    assert_int_equal(atomic_load(&r.env.log_errors), 1);
    atomic_store(&r.env.log_errors, 0);
    finish(&r, &e);
}

static void objects_have_a_limit(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    assert_true(edge_connect(&e));
    char *big = malloc(2000100);
    strcpy(big, "{\"metadata\":{\"annotations\":{\"a\":\"");
    size_t n = strlen(big);
    memset(big + n, 'x', 1600000 - n);
    memcpy(big + 1600000, "\"}}}", 5);
    struct ke_msg *m = edge_ask(&e, "insert", "default/node/edge-1", big);
    assert_string_equal(msg_text(m, "Err.ErrStatus.reason"), "RequestEntityTooLarge");
    assert_non_null(
        strstr(msg_text(m, "Err.ErrStatus.message"), "the limit of an object is 1572864"));
    free(big);
    assert_null(rig_object(&r, "node", "", "edge-1"));
    finish(&r, &e);
}

static void as_many_nodes_as_allowed(void **state)
{
    (void)state;
    struct rig r;
    struct edge e, f, g;
    rig_init(&r, NULL);
    r.conf.max_nodes = 2;
    rig_start(&r);
    edge_init(&e, &r, "edge-1");
    edge_init(&f, &r, "edge-2");
    edge_init(&g, &r, "edge-3");
    assert_true(edge_connect(&e));
    assert_true(edge_connect(&f));
    edge_register(&e, "default", NULL);
    edge_register(&f, "default", NULL);
    assert_false(edge_connect(&g));
    assert_int_equal(g.http_status, 503);
    assert_int_equal(atomic_load(&r.env.log_errors), 1);
    atomic_store(&r.env.log_errors, 0);
    /* who is in may come again, although all places are taken */
    edge_drop(&e);
    edge_dial(&e);
    rig_ms(&r, 100);
    assert_true(e.open);
    /* a place that is free again is no place for one more Node */
    edge_drop(&f);
    rig_ms(&r, 100);
    assert_true(edge_connect(&g));
    struct ke_msg *m = edge_ask(&g, "insert", "default/node/edge-3", "{\"metadata\":{}}");
    assert_string_equal(msg_text(m, "Err.ErrStatus.reason"), "Forbidden");
    edge_fini(&g);
    edge_fini(&f);
    finish(&r, &e);
}

static bool peer_closed(void *arg)
{
    return rig_peer(arg, "edge-1")->session == NULL;
}

/* It asks for ever and reads nothing: that costs itself. */
static void who_does_not_read_is_cut(void **state)
{
    (void)state;
    struct rig r;
    struct edge e, f;
    start(&r, &e);
    edge_init(&f, &r, "edge-2");
    assert_true(edge_connect(&e));
    assert_true(edge_connect(&f));
    char *node = malloc(200100);
    strcpy(node, "{\"metadata\":{\"annotations\":{\"a\":\"");
    size_t n = strlen(node);
    memset(node + n, 'x', 200000 - n);
    memcpy(node + 200000, "\"}}}", 5);
    (void)edge_ask(&e, "insert", "default/node/edge-1", node);
    free(node);
    edge_register(&f, "default", NULL);
    kei_stream_pause(kei_ws_stream(e.ws), true);
    e.beats = false;
    for (int i = 0; i < 200 && rig_peer(&r, "edge-1")->session; i++) {
        (void)edge_send(&e, "query", "default/node/edge-1", NULL);
        rig_settle(&r);
        assert_in_range(atomic_load(&r.env.alloc.live_bytes), 0, 16u << 20);
    }
    assert_true(rig_until(&r, peer_closed, &r));
    /* the other did not notice */
    assert_true(f.open);
    struct ke_msg *m = edge_ask(&f, "query", "default/node/edge-2", NULL);
    assert_string_equal(msg_text(m, "metadata.name"), "edge-2");
    edge_fini(&f);
    finish(&r, &e);
}

/* Writes faster than the disk takes them: reading stops, nothing piles up, all are answered. */
static void a_flood_of_writes_waits(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char patch[200], last[37] = "";
    uint32_t most = 0;
    start(&r, &e);
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    for (int i = 0; i < 2000; i++) {
        snprintf(patch, sizeof patch, "\"{\\\"status\\\":{\\\"n\\\":%d}}\"", i);
        snprintf(last, sizeof last, "%s",
                 edge_send(&e, "patch", "default/nodepatch/edge-1", patch));
        if (i % 50 == 0)
            rig_turn(&r);
        uint32_t waiting = rig_peer(&r, "edge-1")->session->waiting;
        most = waiting > most ? waiting : most;
    }
    (void)edge_reply_to(&e, last);
    rig_ms(&r, 1000);
    assert_true(e.open);
    assert_int_equal(edge_count(&e, "response", "default/nodepatch/edge-1"), 2000);
    assert_string_equal(
        json_text(kei_buf_str(&rig_object(&r, "node", "", "edge-1")->json), "status.n"), "1999");
    assert_in_range(most, 1, 64 + 400); /* the chunk that was read already is worked off */
    assert_int_equal(rig_peer(&r, "edge-1")->session->waiting, 0);
    finish(&r, &e);
}

static bool drained(void *arg)
{
    struct rig *r = arg;
    return kei_ws_queued(rig_peer(r, "edge-1")->session->ws) == 0;
}

/*
 * A node whose requests wait for the store is not read for a while: not even after a write that was
 * blocked, and that is not held against it.
 */
static void a_pause_is_a_pause(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    e.beats = true;
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    struct kei_session *s = rig_peer(&r, "edge-1")->session;
    /* the cloud's side blocks and drains */
    kei_stream_pause(kei_ws_stream(e.ws), true);
    char *text = calloc(1, 4u << 20);
    assert_non_null(text);
    int head = sprintf(text, "{\"header\":{\"msg_id\":\"m\",\"timestamp\":1},\"route\":{\"source\":"
                             "\"edgecontroller\",\"operation\":\"publish\",\"resource\":\"x\"},"
                             "\"content\":\"");
    memset(text + head, 'x', (4u << 20) - 100 - (size_t)head);
    memcpy(text + (4u << 20) - 100, "\"}", 3);
    assert_int_equal(kei_ws_send(s->ws, text, strlen(text)), 0);
    free(text);
    rig_settle(&r);
    assert_false(drained(&r));
    /* who asks for answers that it does not read is not read either: another kind of pause */
    for (int i = 0; i < 200; i++)
        assert_int_equal(kei_ws_ping(e.ws), 0);
    rig_settle(&r);
    kei_session_waits(s, 64);
    char id[37];
    snprintf(id, sizeof id, "%s", edge_send(&e, "query", "default/node/edge-1", NULL));
    kei_stream_pause(kei_ws_stream(e.ws), false);
    assert_true(rig_until(&r, drained, &r));
    rig_ms(&r, 100000); /* its keepalives are not read either */
    assert_ptr_equal(rig_peer(&r, "edge-1")->session, s);
    assert_true(e.open);
    for (uint32_t i = 0; i < e.n_messages; i++)
        assert_string_not_equal(ke_msg_parent_id(e.messages[i]), id);
    kei_session_waits(s, -31);
    rig_ms(&r, 1000);
    assert_true(s->paused); /* not at each one */
    kei_session_waits(s, -33);
    (void)edge_reply_to(&e, id);
    assert_true(e.open);
    rig_ms(&r, 60000);
    assert_true(e.open);
    e.beats = false; /* and it counts again */
    assert_true(edge_wait_closed(&e));
    finish(&r, &e);
}

static void the_dialect_does_not_waver(void **state)
{
    static const struct {
        const char *op, *resource, *content;
        uint32_t dialect; /* afterwards */
    } steps[] = {
        {"query", "default/node/edge-1", NULL, KE_DIALECT_AUTO},
        {"insert", "null/node/edge-1", "{\"metadata\":{},\"status\":{}}", KE_DIALECT_1_23},
        {"query", "default/node/edge-1", NULL, KE_DIALECT_1_23},
        {"update", "default/node/edge-1", "{\"metadata\":{}}", KE_DIALECT_1_23},
        {"patch", "null/nodepatch/edge-1", "\"{}\"", KE_DIALECT_1_23},
        {"insert", "default/node/edge-1", "{\"metadata\":{}}",
         KE_DIALECT_1_15}, /* another program */
        {"patch", "default/nodepatch/edge-1", "\"{}\"", KE_DIALECT_1_15},
        {"insert", "default/nodestatus/edge-1", "{\"metadata\":{}}", KE_DIALECT_1_4},
    };
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    assert_true(edge_connect(&e));
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        (void)edge_ask(&e, steps[i].op, steps[i].resource, steps[i].content);
        if (rig_peer(&r, "edge-1")->dialect != steps[i].dialect)
            fail_msg("after %s %s it is %u", steps[i].op, steps[i].resource,
                     (unsigned)rig_peer(&r, "edge-1")->dialect);
    }
    finish(&r, &e);
}

/* ---- health ---- */

#define LEASE                                                                                      \
    "{\"metadata\":{\"name\":\"edge-1\",\"namespace\":\"kube-node-lease\"},\"spec\":{"             \
    "\"renewTime\":\"2026-12-01T00:00:00.000000Z\"}}"

struct seen {
    char status[20];
    uint32_t connected, pending, dialect;
    int64_t heartbeat_ms;
};

static void see(void *user, const struct ke_cloud_node_info *n)
{
    struct seen *s = user;
    snprintf(s->status, sizeof s->status, "%s", n->status);
    s->connected = n->connected;
    s->pending = n->pending;
    s->dialect = n->dialect;
    s->heartbeat_ms = n->heartbeat_ms;
}

static struct seen look(struct rig *r)
{
    struct seen s = {""};
    assert_int_equal(ke_cloud_nodes(r->c, see, &s), 0);
    return s;
}

static void ready_turns_unknown(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    rig_wait_line(&r, "node edge-1 Ready connected");
    rig_ms(&r, 39000);
    assert_string_equal(look(&r).status, "Ready"); /* keepalives are no heartbeat */
    rig_ms(&r, 7000);
    assert_string_equal(look(&r).status, "Unknown");
    assert_int_equal(rig_count(&r, "node edge-1 Unknown"), 1);
    (void)edge_ask(&e, "insert", "kube-node-lease/lease/edge-1", LEASE);
    assert_string_equal(look(&r).status, "Ready");
    edge_drop(&e);
    rig_ms(&r, 100);
    assert_string_equal(look(&r).status, "Ready");
    assert_int_equal(look(&r).connected, 0);
    rig_ms(&r, 46000);
    assert_int_equal(rig_count(&r, "node edge-1 Unknown"), 2); /* told once each time */
    finish(&r, &e);
}

static void a_restart_of_the_cloud_is_no_end_of_nodes(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    (void)edge_ask(&e, "insert", "kube-node-lease/lease/edge-1", LEASE);
    edge_drop(&e);
    rig_stop(&r);
    rig_ms(&r, 600000); /* the cloud is away for ten minutes */
    rig_start(&r);
    assert_string_equal(look(&r).status, "Ready");
    assert_int_equal(look(&r).dialect, KE_DIALECT_1_15);
    assert_int_equal(look(&r).heartbeat_ms, TEST_CLOCK_REAL_MS);
    rig_ms(&r, 55000);
    assert_string_equal(look(&r).status, "Ready"); /* upstream's take up to 50 s to come back */
    rig_ms(&r, 11000);
    assert_string_equal(look(&r).status, "Unknown");
    /* who was Unknown before stays so */
    rig_restart(&r);
    assert_string_equal(look(&r).status, "Unknown");
    assert_true(edge_connect(&e));
    rig_ms(&r, 1000);
    assert_string_equal(look(&r).status, "Unknown"); /* a connection is no status */
    (void)edge_ask(&e, "patch", "default/nodepatch/edge-1", "\"{\\\"status\\\":{\\\"n\\\":1}}\"");
    assert_string_equal(look(&r).status, "Ready");
    edge_drop(&e);
    rig_restart(&r);
    assert_string_equal(look(&r).status, "Ready");
    finish(&r, &e);
}

/* The wall clock jumps: nobody is lost by that. */
static void clock_jumps(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    test_clock_set_real(&r.env.clock, TEST_CLOCK_REAL_MS + INT64_C(86400000));
    rig_ms(&r, 6000);
    assert_string_equal(look(&r).status, "Ready");
    finish(&r, &e);
}

static void node_that_is_deleted_loses_its_session(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e);
    rig_manifest(&r, "a.yaml", POD("p", "edge-1", ""));
    assert_true(edge_connect(&e));
    edge_register(&e, "null", NULL);
    (void)edge_ask(&e, "insert", "kube-node-lease/lease/edge-1", LEASE);
    edge_wait(&e, "insert", "default/pod/p");
    rig_ms(&r, 1000);
    char uid[40];
    snprintf(uid, sizeof uid, "%s", rig_object(&r, "pod", "default", "p")->uid);
    rig_manifest(&r, "a.yaml", NULL);
    edge_forget(&e);
    assert_int_equal(kei_cloud_node_delete(r.c, "edge-1"), 0);
    assert_int_equal(kei_cloud_node_delete(r.c, "edge-1"), KE_ENOTFOUND);
    assert_true(edge_wait_closed(&e));
    rig_wait_line(&r, "removed node edge-1");
    assert_true(rig_wait_gone(&r, "lease", "kube-node-lease", "edge-1"));
    assert_int_equal(edge_count(&e, "delete", "null/node/edge-1"), 0);
    /* it may come back, and is told that its pod is gone */
    assert_true(edge_connect(&e));
    struct ke_msg *m = edge_wait(&e, "delete", "default/pod/p");
    assert_string_equal(msg_text(m, "metadata.uid"), uid);
    m = edge_ask(&e, "query", "null/node/edge-1", NULL);
    assert_string_equal(msg_text(m, "ErrStatus.reason"), "NotFound");
    m = edge_ask(&e, "patch", "null/nodepatch/edge-1", "\"{}\"");
    assert_string_equal(msg_text(m, "Err.ErrStatus.reason"), "NotFound");
    assert_string_not_equal(msg_text(m, "Object.status.nodeInfo"), "");
    edge_register(&e, "null", NULL);
    rig_ms(&r, 10000);
    assert_int_equal(edge_count(&e, "delete", NULL), 1);
    finish(&r, &e);
}

/* ---- a host that ends the cloud inside of a call ---- */

static void stop_it(struct rig *r, const char *line)
{
    if (strncmp(line, "node edge-1 Ready", 17) == 0)
        ke_cloud_stop(r->c);
}

static void free_it(struct rig *r, const char *line)
{
    if (strncmp(line, "node edge-1 Ready", 17) != 0 || !r->c)
        return;
    ke_cloud_free(r->c);
    r->c = NULL;
}

static void host_stops_and_frees_in_a_call(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct edge e;
        start(&r, &e);
        r.on_line = i ? free_it : stop_it;
        assert_true(edge_connect(&e));
        (void)edge_send(&e, "insert", "default/node/edge-1",
                        "{\"metadata\":{},\"status\":{\"conditions\":[{\"type\":\"Ready\","
                        "\"status\":\"True\"}]}}");
        assert_true(edge_wait_closed(&e));
        rig_settle(&r);
        r.on_line = NULL;
        if (!i) {
            assert_int_equal(r.c->state, KEI_CLOUD_STOPPED);
            struct ke_buf out = {0};
            assert_int_equal(ke_cloud_token(r.c, &out), KE_ESTATE);
            assert_int_equal(ke_cloud_start(r.c), 0); /* and again */
            assert_true(rig_loaded(&r));
            assert_non_null(rig_object(&r, "node", "", "edge-1"));
        }
        finish(&r, &e);
    }
}

static void stop_while_things_are_under_way(void **state)
{
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct rig r;
        struct edge e;
        start(&r, &e);
        rig_manifest(&r, "a.yaml", POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1"));
        assert_true(edge_connect(&e));
        edge_register(&e, "default", NULL);
        for (int i = 0; i < 20; i++)
            (void)edge_send(&e, "patch", "default/nodepatch/edge-1",
                            i % 2 ? "\"{\\\"status\\\":{\\\"n\\\":1}}\""
                                  : "\"{\\\"status\\\":{\\\"n\\\":2}}\"");
        (void)edge_send(&e, "query", "default/node/edge-1", NULL);
        for (int i = 0; i < turns; i++)
            rig_turn(&r);
        if (turns % 3 == 0)
            edge_drop(&e);
        rig_stop(&r);
        finish(&r, &e);
    }
    /* and before it has read its store */
    for (int turns = 0; turns < 8; turns++) {
        struct rig r;
        struct edge e;
        start(&r, &e);
        rig_manifest(&r, "a.yaml", POD("p", "edge-1", ""));
        rig_wait_object(&r, "pod", "default", "p");
        rig_stop(&r);
        assert_int_equal(rig_try_start(&r), 0);
        for (int i = 0; i < turns; i++)
            rig_turn(&r);
        finish(&r, &e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_who_is_not_it),
        cmocka_unit_test(refuses_certificates_of_others),
        cmocka_unit_test(legacy_certificate_is_of_one_node),
        cmocka_unit_test(legacy_certificate_without_memory),
        cmocka_unit_test(keepalives_keep_it_alive),
        cmocka_unit_test(bad_messages),
        cmocka_unit_test(half_a_message_then_gone),
        cmocka_unit_test(over_the_cap_is_skipped),
        cmocka_unit_test(objects_have_a_limit),
        cmocka_unit_test(as_many_nodes_as_allowed),
        cmocka_unit_test(who_does_not_read_is_cut),
        cmocka_unit_test(a_flood_of_writes_waits),
        cmocka_unit_test(a_pause_is_a_pause),
        cmocka_unit_test(the_dialect_does_not_waver),
        cmocka_unit_test(ready_turns_unknown),
        cmocka_unit_test(a_restart_of_the_cloud_is_no_end_of_nodes),
        cmocka_unit_test(clock_jumps),
        cmocka_unit_test(node_that_is_deleted_loses_its_session),
        cmocka_unit_test(host_stops_and_frees_in_a_call),
        cmocka_unit_test(stop_while_things_are_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
