/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that lost what they acknowledged: another store, a new join. */
#include "cloud/cloud_rig.h"

#include "base/codec.h"
#include "net/tls.h"

#define STORE(id) "libkubeedge/0.1\r\nLibkubeedge-Store: " id
#define UPSTREAM "Go-http-client/1.1"
#define MANIFEST POD("p", "edge-1", REFERS("c")) "---\n" CONFIG("c", "1")

static bool none_pending(void *arg)
{
    struct edge *e = arg;
    struct kei_peer *p = rig_peer(e->rig, e->name);
    return p && p->queued == 0 && p->n_flying == 0;
}

static void come(struct edge *e, const char *agent)
{
    edge_drop(e);
    rig_settle(e->rig);
    edge_forget(e);
    e->agent = agent;
    assert_true(edge_connect(e));
    if (!rig_until(e->rig, none_pending, e))
        fail_msg("deliveries stay open");
    rig_settle(e->rig);
}

static void start(struct rig *r, struct edge *e, const char *agent)
{
    rig_init(r, NULL);
    rig_manifest(r, "a.yaml", MANIFEST);
    rig_start(r);
    edge_init(e, r, "edge-1");
    rig_wait_object(r, "pod", "default", "p");
    come(e, agent);
    edge_wait(e, "insert", "default/pod/p");
    rig_settle(r);
}

static void finish(struct rig *r, struct edge *e)
{
    edge_fini(e);
    rig_fini(r);
}

static void another_store_gets_all_again(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, STORE("a1"));
    come(&e, STORE("a1"));
    assert_int_equal(e.n_messages, 0);
    come(&e, STORE("b2"));
    assert_int_equal(e.n_messages, 2);
    assert_non_null(edge_find(&e, "insert", "default/configmap/c", 0));
    assert_non_null(edge_find(&e, "insert", "default/pod/p", 0));
    come(&e, STORE("b2"));
    assert_int_equal(e.n_messages, 0);
    /* who says nothing, or what is no id, says nothing about its store */
    come(&e, "libkubeedge/0.1");
    come(&e, STORE("not an id"));
    come(&e, STORE("-"));
    come(&e, STORE("0123456789012345678901234567890123456789012345678901234567890123"));
    assert_int_equal(e.n_messages, 0);
    /* all of that outlives the cloud */
    edge_drop(&e);
    rig_restart(&r);
    come(&e, STORE("b2"));
    assert_int_equal(e.n_messages, 0);
    edge_drop(&e);
    rig_restart(&r);
    come(&e, STORE("c3"));
    assert_int_equal(e.n_messages, 2);
    finish(&r, &e);
}

/* A cloud that dies before the node has acknowledged the second time. */
static void forgotten_is_forgotten(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, STORE("a1"));
    edge_drop(&e);
    rig_settle(&r);
    edge_forget(&e);
    e.agent = STORE("b2");
    e.no_ack = true;
    assert_true(edge_connect(&e));
    edge_wait(&e, "insert", "default/pod/p");
    rig_settle(&r);
    edge_drop(&e);
    rig_restart(&r);
    e.no_ack = false;
    come(&e, STORE("b2"));
    assert_non_null(edge_find(&e, "insert", "default/pod/p", 0));
    finish(&r, &e);
}

#define NEWEST(n) "\r\nLibkubeedge-Newest: " n

static int64_t version_of(struct ke_msg *m)
{
    return strtoll(msg_text(m, "metadata.resourceVersion"), NULL, 10);
}

/* This cloud's folder is a copy: what the node has of later is written anew, above it. */
static void an_older_cloud(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, STORE("a1") NEWEST("3"));
    come(&e, STORE("a1") NEWEST("3"));
    assert_int_equal(e.n_messages, 0);
    come(&e, STORE("a1") NEWEST("5000"));
    struct ke_msg *m = edge_find(&e, "update", "default/pod/p", 0);
    assert_non_null(m);
    assert_true(version_of(m) > 5000);
    m = edge_find(&e, "update", "default/configmap/c", 0);
    assert_non_null(m);
    assert_true(version_of(m) > 5000);
    assert_int_equal(e.n_messages, 2);
    char newest[80];
    snprintf(newest, sizeof newest, STORE("a1") NEWEST("%lld"),
             (long long)kei_objects_version(r.c->objects));
    come(&e, newest);
    assert_int_equal(e.n_messages, 0);
    /* what is no number, or would use up the versions, says nothing */
    come(&e, STORE("a1") NEWEST("-1"));
    come(&e, STORE("a1") NEWEST("x"));
    come(&e, STORE("a1") NEWEST("9223372036854775807"));
    assert_int_equal(e.n_messages, 0);
    finish(&r, &e);
}

/* The node's store is a copy: it lacks what it acknowledged. */
static void an_older_node(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, STORE("a1"));
    come(&e, STORE("a1") NEWEST("1"));
    assert_non_null(edge_find(&e, "insert", "default/pod/p", 0));
    assert_non_null(edge_find(&e, "insert", "default/configmap/c", 0));
    char newest[80];
    snprintf(newest, sizeof newest, STORE("a1") NEWEST("%lld"),
             (long long)kei_objects_version(r.c->objects));
    come(&e, newest);
    assert_int_equal(e.n_messages, 0);
    edge_drop(&e);
    rig_restart(&r); /* it is known from the folder, too */
    come(&e, STORE("a1") NEWEST("0"));
    assert_non_null(edge_find(&e, "insert", "default/configmap/c", 0));
    finish(&r, &e);
}

/* What was deleted meanwhile is not taken for gone: some of a store may be left. */
static void the_end_is_told_again(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    start(&r, &e, STORE("a1"));
    edge_drop(&e);
    rig_manifest(&r, "a.yaml", CONFIG("c", "1"));
    assert_non_null(rig_wait_line(&r, "pod default/p edge-1 Pending deleting"));
    rig_settle(&r);
    come(&e, STORE("b2"));
    struct ke_msg *m = edge_find(&e, "insert", "default/pod/p", 0);
    assert_non_null(m);
    assert_true(msg_text(m, "metadata.deletionTimestamp")[0]);
    finish(&r, &e);
}

/* ---- joining ---- */

struct answer {
    bool done;
    uint32_t code;
};

static void on_done(void *user, int status, const char *text, const struct kei_http_head *head,
                    struct ke_str body)
{
    struct answer *a = user;
    (void)status;
    (void)text;
    (void)body;
    a->done = true;
    a->code = head ? head->status : 0;
}

static bool is_done(void *arg)
{
    return ((struct answer *)arg)->done;
}

/* Asks for a certificate: by token, or with the one that the edge has. */
static uint32_t ask_cert(struct rig *r, struct edge *e, bool token)
{
    uint32_t tunnel, port;
    char headers[2000];
    struct ke_buf jwt = {0}, csr = {0};
    struct kei_crypto *crypto;
    struct kei_key *key = NULL;
    struct kei_tls_config *tls = NULL;
    struct kei_cert *ca = NULL;
    struct kei_http_call *c = NULL;
    struct answer a = {0};
    assert_int_equal(ke_cloud_token(r->c, &jwt), 0);
    assert_int_equal(ke_cloud_ports(r->c, &tunnel, &port), 0);
    assert_int_equal(kei_crypto_get(r->edges, &crypto), 0);
    assert_int_equal(kei_key_new_p256(&key, crypto, NULL), 0);
    assert_int_equal(kei_csr_make(&csr, key, "system:nodes", "system:node:edge-1", NULL), 0);
    assert_int_equal(kei_cert_from_der(&ca, crypto, kei_buf_str(&r->c->pki.ca_der), NULL), 0);
    const struct kei_tls_options o = {.verify_peer = true,
                                      .ca = ca,
                                      .cert = token ? NULL : e->cert,
                                      .key = token ? NULL : e->key};
    assert_int_equal(kei_tls_config_new(&tls, r->edges, &o), 0);
    snprintf(headers, sizeof headers, "Nodename: edge-1\r\nAuthorization: Bearer %s\r\n",
             strchr(jwt.p, '.') + 1);
    const struct kei_http_call_config cc = {
        .stream = {.host = "127.0.0.1", .port = (uint16_t)port, .tls = tls, .send_cap = 8u << 20},
        .method = "GET",
        .target = "/edge.crt",
        .headers = headers,
        .body = kei_buf_str(&csr)};
    assert_int_equal(kei_http_call(&c, r->edges, &cc, on_done, &a), 0);
    assert_true(rig_until(r, is_done, &a));
    kei_http_call_free(c);
    kei_tls_config_unref(tls);
    kei_cert_free(ca);
    kei_key_free(key);
    ke_buf_free(&csr);
    ke_buf_free(&jwt);
    return a.code;
}

static void who_joins_by_token_gets_all_again(void **state)
{
    (void)state;
    static const char *const agents[] = {UPSTREAM, STORE("a1")};
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        struct edge e;
        start(&r, &e, agents[i]);
        assert_int_equal(ask_cert(&r, &e, false), 200); /* renewed: it is as it was */
        come(&e, agents[i]);
        assert_int_equal(e.n_messages, 0);
        assert_int_equal(ask_cert(&r, &e, true), 200);
        come(&e, agents[i]);
        assert_int_equal(e.n_messages, 2);
        assert_non_null(edge_find(&e, "insert", "default/pod/p", 0));
        come(&e, agents[i]);
        assert_int_equal(e.n_messages, 0);
        /* it was on disk before the certificate went out */
        assert_int_equal(ask_cert(&r, &e, true), 200);
        edge_drop(&e);
        rig_restart(&r);
        come(&e, agents[i]);
        assert_int_equal(e.n_messages, 2);
        edge_drop(&e);
        rig_restart(&r);
        come(&e, agents[i]);
        assert_int_equal(e.n_messages, 0);
        finish(&r, &e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_store_gets_all_again),
        cmocka_unit_test(forgotten_is_forgotten),
        cmocka_unit_test(the_end_is_told_again),
        cmocka_unit_test(an_older_cloud),
        cmocka_unit_test(an_older_node),
        cmocka_unit_test(who_joins_by_token_gets_all_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
