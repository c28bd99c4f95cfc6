/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the node's modules ask: who answers in which dialect, what is kept, what is acknowledged,
 * and that an error is never kept as an object.
 */
#include "meta_rig.h"

#include "message/msg_priv.h"

#define CM(uid, rv, v)                                                                             \
    "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"c\",\"namespace\":"    \
    "\"default\",\"uid\":\"" uid "\",\"resourceVersion\":\"" rv "\"},\"data\":{\"k\":\"" v "\"}}"
#define NOT_FOUND                                                                                  \
    "{\"ErrStatus\":{\"metadata\":{},\"status\":\"Failure\",\"message\":\"x not found\","          \
    "\"reason\":\"NotFound\",\"code\":404}}"
#define CANNOT                                                                                     \
    "{\"ErrStatus\":{\"metadata\":{},\"status\":\"Failure\",\"message\":\"etcd is "                \
    "down\",\"reason\":\"InternalError\",\"code\":500}}"

/* The last request that reached the cloud. */
static struct ke_msg *asked(struct meta_rig *r, const char *operation, const char *resource)
{
    struct ke_msg *last = NULL, *m;

    for (uint32_t i = 0; (m = meta_find(&r->cloud, operation, resource, i)) != NULL; i++)
        last = m;
    return last;
}

/* The cloud answers it; id of the answer in id. */
static void cloud_answers(struct meta_rig *r, const struct ke_msg *m, const char *content,
                          char id[37])
{
    struct told t = {.parent = ke_msg_id(m),
                     .operation = "response",
                     .resource = ke_msg_resource(m),
                     .content = content};

    meta_tell(r, &t, id);
}

static void keep_in_store(struct meta_rig *r, const char *resource, const char *content)
{
    struct told t = {.operation = "update", .resource = resource, .content = content};

    meta_tell(r, &t, NULL);
    meta_forget(r);
}

static struct kei_reply answer_of(struct meta_rig *r)
{
    struct kei_reply reply;
    struct ke_str content = kei_str(meta_answer_content(r));

    kei_reply_read(&reply, content);
    if (strcmp(ke_msg_operation(r->answer), "error") == 0)
        reply.kind = KEI_REPLY_ERROR;
    return reply;
}

/* ---- who answers ---- */

enum who { STORE, CLOUD };

static void who_answers(void **state)
{
    static const struct {
        uint32_t dialect;
        bool connected;
        const char *type;
        enum who who; /* asked first, when both have it */
    } cases[] = {
        {KE_DIALECT_1_15, true, "configmap", CLOUD},
        {KE_DIALECT_1_15, true, "secret", CLOUD},
        {KE_DIALECT_1_15, true, "node", CLOUD},
        {KE_DIALECT_1_15, true, "pod", STORE},
        {KE_DIALECT_1_15, true, "persistentvolume", CLOUD},
        {KE_DIALECT_1_15, false, "configmap", STORE},
        {KE_DIALECT_1_15, false, "node", STORE},
        {KE_DIALECT_AUTO, true, "configmap", CLOUD},
        {KE_DIALECT_1_4, true, "configmap", STORE},
        {KE_DIALECT_1_4, true, "secret", STORE},
        {KE_DIALECT_1_4, true, "node", CLOUD},
        {KE_DIALECT_1_4, false, "node", STORE},
        {KE_DIALECT_1_4, true, "endpoints", STORE},
        {KE_DIALECT_1_4, true, "pod", STORE},
        {KE_DIALECT_1_23, true, "configmap", STORE},
        {KE_DIALECT_1_23, true, "secret", STORE},
        {KE_DIALECT_1_23, true, "node", STORE},
        {KE_DIALECT_1_23, false, "secret", STORE},
        {KE_DIALECT_1_23, true, "persistentvolumeclaim", CLOUD},
        {KE_DIALECT_1_23, true, "pod", STORE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct meta_rig r;
        char resource[128];
        struct ke_msg *m;

        meta_init(&r, false);
        snprintf(resource, sizeof resource, "default/%s/c", cases[i].type);
        keep_in_store(&r, resource, CM("u", "5", "stored"));
        r.dialect = cases[i].dialect;
        r.connected = cases[i].connected;
        meta_ask(&r, "query", resource, NULL);
        m = asked(&r, "query", resource);
        if (cases[i].who == STORE) {
            assert_null(m);
            assert_true(meta_until_answer(&r, 1));
            assert_string_equal(meta_answer_content(&r), CM("u", "5", "stored"));
            assert_string_equal(ke_msg_operation(r.answer), "response");
        } else {
            if (!m)
                fail_msg("case %zu: the cloud was not asked for %s", i, resource);
            assert_int_equal(r.n_answers, 0);
            assert_string_equal(ke_msg_group(m), "meta");
            assert_string_equal(ke_msg_source(m), "edged");
            cloud_answers(&r, m, CM("u", "6", "cloud"), NULL);
            assert_true(meta_until_answer(&r, 1));
            assert_string_equal(meta_answer_content(&r), CM("u", "6", "cloud"));
        }
        meta_fini(&r);
    }
}

/* Where the store is asked first and has nothing, the cloud is; without a link nobody is. */
static void nothing_in_the_store(void **state)
{
    static const uint32_t dialects[] = {KE_DIALECT_1_4, KE_DIALECT_1_15, KE_DIALECT_1_23};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct meta_rig r;
        struct kei_reply reply;
        char id[37];

        meta_init(&r, false);
        r.dialect = dialects[i];
        meta_ask(&r, "query", "default/secret/c", NULL);
        assert_non_null(asked(&r, "query", "default/secret/c"));
        cloud_answers(&r, asked(&r, "query", "default/secret/c"), CM("u", "6", "cloud"), id);
        assert_true(meta_until_answer(&r, 1));
        assert_int_equal(meta_acks(&r, id), 1);
        assert_int_equal(meta_row(&r, "o/secret", "default/c"), 0);
        assert_string_equal(r.row, CM("u", "6", "cloud"));
        assert_int_equal(r.edged.n, 0); /* who asked knows; nobody else is told */
        r.connected = false;
        meta_ask(&r, "query", "default/secret/other", NULL);
        assert_true(meta_until_answer(&r, 2));
        reply = answer_of(&r);
        assert_int_equal(reply.kind, KEI_REPLY_ERROR);
        assert_string_equal(reply.reason, "NotFound");
        meta_fini(&r);
    }
}

/* The cloud queues its replies by object: of two that wait there, the later replaces the earlier.
 */
static void who_asks_for_the_same_waits_together(void **state)
{
    struct meta_rig r;
    char id[37];

    (void)state;
    meta_init(&r, false);
    meta_ask(&r, "query", "default/configmap/c", NULL);
    meta_ask(&r, "query", "default/configmap/c", NULL);
    meta_ask(&r, "query", "default/configmap/other", NULL);
    assert_int_equal(meta_count(&r.cloud, "query", "default/configmap/c"), 1);
    assert_int_equal(meta_count(&r.cloud, "query", "default/configmap/other"), 1);
    cloud_answers(&r, meta_find(&r.cloud, "query", "default/configmap/c", 0), CM("u", "6", "v"),
                  id);
    assert_true(meta_until_answer(&r, 2));
    assert_string_equal(meta_answer_content(&r), CM("u", "6", "v"));
    assert_int_equal(r.n_answers, 2);
    assert_int_equal(meta_acks(&r, id), 1);
    /* later it is asked again: the object may be another by then */
    meta_ask(&r, "query", "default/configmap/c", NULL);
    assert_int_equal(meta_count(&r.cloud, "query", "default/configmap/c"), 2);
    /* the link dies: all who wait are answered from the store */
    meta_ask(&r, "query", "default/configmap/c", NULL);
    r.connected = false;
    meta_link(&r, false);
    assert_true(meta_until_answer(&r, 5));
    meta_fini(&r);
}

/* A cloud of 1.4 says nothing of what is not there; whoever asks a little later has it asked anew. */
static void what_1_4_did_not_answer_is_asked_anew(void **state)
{
    static const uint32_t dialects[] = {KE_DIALECT_1_4, KE_DIALECT_1_15};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct meta_rig r;
        uint32_t again = dialects[i] == KE_DIALECT_1_4;

        meta_init(&r, false);
        r.dialect = dialects[i];
        meta_ask(&r, "query", "default/configmap/c", NULL);
        test_drive_ms(&r.env, 400);
        meta_ask(&r, "query", "default/configmap/c", NULL);
        assert_int_equal(meta_count(&r.cloud, "query", "default/configmap/c"), 1);
        test_drive_ms(&r.env, 200);
        meta_ask(&r, "query", "default/configmap/c", NULL);
        assert_int_equal(meta_count(&r.cloud, "query", "default/configmap/c"), 1 + again);
        cloud_answers(&r, meta_find(&r.cloud, "query", "default/configmap/c", again),
                      CM("u", "6", "v"), NULL);
        assert_true(meta_until_answer(&r, 3));
        assert_string_equal(meta_answer_content(&r), CM("u", "6", "v"));
        assert_int_equal(r.n_answers, 3);
        meta_fini(&r);
    }
}

/* An update of the object replaces the reply in the cloud's queue, too. */
static void a_push_is_an_answer(void **state)
{
    struct meta_rig r;
    struct told t = {.operation = "update",
                     .resource = "default/configmap/c",
                     .content = CM("u", "7", "pushed")};
    struct ke_msg *m;
    char id[37];

    (void)state;
    meta_init(&r, false);
    meta_ask(&r, "query", "default/configmap/c", NULL);
    meta_ask(&r, "query", "default/configmap/c", NULL);
    meta_ask(&r, "query", "default/configmap/other", NULL);
    m = meta_find(&r.cloud, "query", "default/configmap/c", 0);
    meta_tell(&r, &t, NULL);
    assert_true(meta_until_answer(&r, 2));
    assert_string_equal(meta_answer_content(&r), CM("u", "7", "pushed"));
    assert_int_equal(r.n_answers, 2); /* the other one still waits */
    /* the reply comes all the same: it is acknowledged, and is stale */
    cloud_answers(&r, m, CM("u", "6", "reply"), id);
    meta_settle(&r);
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(meta_row(&r, "o/configmap", "default/c"), 0);
    assert_string_equal(r.row, CM("u", "7", "pushed"));
    assert_int_equal(r.n_answers, 2);
    meta_fini(&r);
}

/* ---- errors of the cloud ---- */

static void errors_are_not_kept(void **state)
{
    static const struct {
        const char *content;
        bool ack;
        bool falls_back; /* to the store, when it has the object */
    } cases[] = {
        {NOT_FOUND, true, false},
        {CANNOT, true, true},
        {"{}", true, true},
        {"\"some text\"", true, true},
        {"{\"Object\":null,\"Err\":" NOT_FOUND "}", true, false},
        {"{\"Object\":{\"metadata\":{}},\"Err\":{\"Op\":\"Get\",\"URL\":\"https://x\"}}", true,
         true},
        {"{\"Object\":{\"metadata\":{}},\"Err\":{}}", true, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int stored = 0; stored < 2; stored++) {
            struct meta_rig r;
            struct kei_reply reply;
            char id[37];

            meta_init(&r, false);
            if (stored)
                keep_in_store(&r, "default/configmap/c", CM("u", "5", "stored"));
            meta_ask(&r, "query", "default/configmap/c", NULL);
            cloud_answers(&r, asked(&r, "query", NULL), cases[i].content, id);
            assert_true(meta_until_answer(&r, 1));
            assert_int_equal(meta_acks(&r, id), cases[i].ack);
            reply = answer_of(&r);
            if (stored && cases[i].falls_back)
                assert_string_equal(meta_answer_content(&r), CM("u", "5", "stored"));
            else
                assert_int_equal(reply.kind, KEI_REPLY_ERROR);
            /* the row is what it was */
            assert_int_equal(meta_row(&r, "o/configmap", "default/c"), stored ? 0 : KE_ENOTFOUND);
            if (stored)
                assert_string_equal(r.row, CM("u", "5", "stored"));
            meta_fini(&r);
        }
    }
}

static void no_answer_in_time(void **state)
{
    static const struct {
        uint32_t dialect;
        int64_t ms;
    } cases[] = {{KE_DIALECT_1_15, 60000}, {KE_DIALECT_1_23, 60000}, {KE_DIALECT_1_4, 15000}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct meta_rig r;
        struct kei_reply reply;
        char id[37];
        struct ke_msg *m;

        meta_init(&r, false);
        r.dialect = cases[i].dialect;
        meta_ask(&r, "query", "default/configmap/c", NULL);
        m = ke_msg_ref(asked(&r, "query", NULL));
        test_drive_ms(&r.env, cases[i].ms - 100);
        assert_int_equal(r.n_answers, 0);
        test_drive_ms(&r.env, 200);
        assert_int_equal(r.n_answers, 1);
        reply = answer_of(&r);
        assert_int_equal(reply.kind, KEI_REPLY_ERROR);
        /* It comes after all: kept, acknowledged, and told as a change. */
        cloud_answers(&r, m, CM("u", "6", "late"), id);
        assert_int_equal(meta_acks(&r, id), 1);
        assert_int_equal(meta_row(&r, "o/configmap", "default/c"), 0);
        assert_int_equal(meta_count(&r.edged, "update", "default/configmap/c"), 1);
        ke_msg_unref(m);
        meta_fini(&r);
    }
}

/* The store answers when the cloud does not, as long as it can. */
static void no_answer_but_a_row(void **state)
{
    struct meta_rig r;

    (void)state;
    meta_init(&r, false);
    keep_in_store(&r, "default/configmap/c", CM("u", "5", "stored"));
    meta_ask(&r, "query", "default/configmap/c", NULL);
    test_drive_ms(&r.env, 61000);
    assert_int_equal(r.n_answers, 1);
    assert_string_equal(meta_answer_content(&r), CM("u", "5", "stored"));
    meta_fini(&r);
}

/* What is under way when the link dies does not wait for its time-out. */
static void the_link_dies_meanwhile(void **state)
{
    struct meta_rig r;
    struct kei_reply reply;

    (void)state;
    meta_init(&r, false);
    keep_in_store(&r, "default/configmap/c", CM("u", "5", "stored"));
    meta_ask(&r, "query", "default/configmap/c", NULL);
    assert_int_equal(r.n_answers, 0);
    meta_link(&r, false);
    assert_true(meta_until_answer(&r, 1));
    assert_string_equal(meta_answer_content(&r), CM("u", "5", "stored"));
    meta_link(&r, true);
    meta_ask(&r, "insert", "default/node/" NODE, "{\"metadata\":{}}");
    meta_link(&r, false);
    assert_true(meta_until_answer(&r, 2));
    reply = answer_of(&r);
    assert_int_equal(reply.kind, KEI_REPLY_ERROR);
    assert_int_equal(ke_ctx_mono_ms(r.env.ctx) - TEST_CLOCK_MONO_MS, 0); /* no time passed */
    meta_fini(&r);
}

/* The hub says at once that it cannot. */
static void the_hub_refuses(void **state)
{
    struct meta_rig r;
    struct ke_msg *m;
    struct told t = {.source = "websocket",
                     .group = "meta",
                     .operation = "error",
                     .resource = "default/configmap/c",
                     .content = "\"not connected\""};

    (void)state;
    meta_init(&r, false);
    meta_ask(&r, "query", "default/configmap/c", NULL);
    m = asked(&r, "query", NULL);
    t.parent = ke_msg_id(m);
    meta_tell(&r, &t, NULL);
    assert_true(meta_until_answer(&r, 1));
    assert_string_equal(ke_msg_operation(r.answer), "error");
    assert_string_equal(meta_answer_content(&r), "\"not connected\"");
    meta_fini(&r);
}

/* An answer that was overtaken by a change does not undo it. */
static void an_answer_that_was_overtaken(void **state)
{
    struct meta_rig r;
    char id[37];
    struct told push = {
        .operation = "update", .resource = "default/configmap/c", .content = CM("u", "9", "new")};

    (void)state;
    meta_init(&r, false);
    meta_ask(&r, "query", "default/configmap/c", NULL);
    meta_tell(&r, &push, NULL);
    cloud_answers(&r, asked(&r, "query", NULL), CM("u", "8", "old"), id);
    assert_true(meta_until_answer(&r, 1));
    assert_string_equal(meta_answer_content(&r), CM("u", "9", "new"));
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(meta_row(&r, "o/configmap", "default/c"), 0);
    assert_string_equal(r.row, CM("u", "9", "new"));
    meta_fini(&r);
}

/* ---- inserts, updates, leases ---- */

#define NODE_OBJECT                                                                                \
    "{\"metadata\":{\"name\":\"" NODE "\",\"uid\":\"n\",\"resourceVersion\":\"5\"},\"spec\":{}}"

static void round_trips(void **state)
{
    static const struct {
        const char *operation, *resource, *content, *reply;
        bool ack;
        int kind;
        const char *answer; /* NULL: as the reply */
        const char *bucket; /* kept there; NULL: nowhere */
    } cases[] = {
        {"insert", "default/node/" NODE, "{}", "{\"Object\":" NODE_OBJECT ",\"Err\":null}", true,
         KEI_REPLY_OBJECT, NODE_OBJECT, "o/node"},
        {"insert", "null/node/" NODE, "{}", "{\"Object\":" NODE_OBJECT ",\"Err\":null}", true,
         KEI_REPLY_OBJECT, NODE_OBJECT, "o/node"},
        {"insert", "default/node/" NODE, "{}",
         "{\"Object\":{\"metadata\":{}},\"Err\":{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":"
         "\"AlreadyExists\",\"code\":409}}}",
         true, KEI_REPLY_ERROR, NULL, NULL},
        {"insert", "default/node/" NODE, "{}", "\"OK\"", false, KEI_REPLY_OK, NULL, NULL},
        {"query", "kube-node-lease/lease/" NODE, NULL, "{\"Object\":null,\"Err\":" NOT_FOUND "}",
         true, KEI_REPLY_ERROR, NULL, NULL},
        {"update", "kube-node-lease/lease/" NODE, "{}",
         "{\"Object\":{\"metadata\":{\"name\":\"" NODE "\",\"uid\":\"l\"}},\"Err\":null}", true,
         KEI_REPLY_OBJECT, "{\"metadata\":{\"name\":\"" NODE "\",\"uid\":\"l\"}}", NULL},
        {"update", "kube-node-lease/lease/" NODE, "{}",
         "{\"Object\":{\"metadata\":{}},\"Err\":{\"Op\":\"Put\",\"URL\":\"https://x\"}}", true,
         KEI_REPLY_ERROR, NULL, NULL},
        {"update", "default/nodestatus/" NODE, "{}", "\"OK\"", false, KEI_REPLY_OK, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct meta_rig r;
        struct kei_reply reply;
        struct ke_msg *m;
        char id[37];

        meta_init(&r, false);
        meta_ask(&r, cases[i].operation, cases[i].resource, cases[i].content);
        m = asked(&r, cases[i].operation, cases[i].resource);
        assert_non_null(m);
        cloud_answers(&r, m, cases[i].reply, id);
        assert_true(meta_until_answer(&r, 1));
        if (meta_acks(&r, id) != (cases[i].ack ? 1u : 0u))
            fail_msg("case %zu: %u acknowledgements", i, meta_acks(&r, id));
        reply = answer_of(&r);
        assert_int_equal(reply.kind, cases[i].kind);
        assert_string_equal(meta_answer_content(&r),
                            cases[i].answer ? cases[i].answer : cases[i].reply);
        assert_int_equal(meta_row(&r, "o/node", "default/" NODE),
                         cases[i].bucket ? 0 : KE_ENOTFOUND);
        assert_int_equal(meta_rows(&r, "o/lease"), 0); /* renewed every ten seconds: not kept */
        /* without a link it is answered at once */
        r.connected = false;
        meta_ask(&r, cases[i].operation, cases[i].resource, cases[i].content);
        assert_true(meta_until_answer(&r, 2));
        reply = answer_of(&r);
        assert_int_equal(reply.kind, KEI_REPLY_ERROR);
        meta_fini(&r);
    }
}

/* ---- reports ---- */

static void pod_status_is_kept_and_sent(void **state)
{
    static const char status[] =
        "{\"UID\":\"u\",\"Name\":\"c\",\"Status\":{\"phase\":\"Running\"}}";
    struct meta_rig r;
    struct ke_msg *m;
    size_t n;

    (void)state;
    meta_init(&r, true);
    keep_in_store(&r, "default/pod/c", CM("u", "5", "pod"));
    r.connected = false; /* whether or not there is a link */
    meta_ask(&r, "update", "default/podstatus/c", status);
    assert_true(meta_until_answer(&r, 1));
    assert_string_equal(meta_answer_content(&r), "\"OK\"");
    m = meta_find(&r.cloud, "update", "default/podstatus/c", 0);
    assert_non_null(m);
    assert_string_equal(ke_msg_content(m, &n), status);
    meta_restart(&r);
    assert_int_equal(meta_row(&r, "o/podstatus", "default/c"), 0);
    assert_string_equal(r.row, status);
    assert_string_equal(r.row_uid, "u");
    meta_ask(&r, "query", "default/podstatus/c", NULL);
    assert_true(meta_until_answer(&r, 2));
    assert_string_equal(meta_answer_content(&r), status);
    /* of a pod that is gone: sent, but no row is left behind */
    meta_ask(&r, "update", "default/podstatus/gone", status);
    assert_true(meta_until_answer(&r, 3));
    assert_non_null(meta_find(&r.cloud, "update", "default/podstatus/gone", 0));
    assert_int_equal(meta_row(&r, "o/podstatus", "default/gone"), KE_ENOTFOUND);
    /* a deletion goes up; the row stays until the cloud's own */
    meta_ask(&r, "delete", "default/pod/c",
             "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"u\"}}");
    assert_true(meta_until_answer(&r, 4));
    assert_non_null(meta_find(&r.cloud, "delete", "default/pod/c", 0));
    assert_int_equal(meta_row(&r, "o/pod", "default/c"), 0);
    meta_fini(&r);
}

/* Answers to what the outbox sent: nobody waits for them. */
static void answers_to_reports(void **state)
{
    static const struct {
        const char *resource, *content;
        const char *pod; /* the row afterwards */
    } cases[] = {
        {"default/podpatch/c", "{\"Object\":" CM("u", "6", "patched") ",\"Err\":null}",
         CM("u", "6", "patched")},
        {"default/podpatch/c", "{\"Object\":" CM("u", "4", "older") ",\"Err\":null}",
         CM("u", "5", "pod")},
        {"default/podpatch/c", "{\"Object\":" CM("other", "9", "x") ",\"Err\":null}",
         CM("u", "5", "pod")},
        {"default/podpatch/gone", "{\"Object\":" CM("u2", "6", "x") ",\"Err\":null}",
         CM("u", "5", "pod")},
        /* a cloud put back from a backup does not know the pod: its workload lives on */
        {"default/podpatch/c", "{\"Object\":{\"metadata\":{}},\"Err\":" NOT_FOUND "}",
         CM("u", "5", "pod")},
        {"default/pod/c", "\"OK\"", CM("u", "5", "pod")},
        {"default/podstatus/c", "\"OK\"", CM("u", "5", "pod")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct meta_rig r;
        struct told t = {.parent = "00000000-0000-4000-8000-000000000000",
                         .operation = "response",
                         .resource = cases[i].resource,
                         .content = cases[i].content};
        char id[37];

        meta_init(&r, false);
        keep_in_store(&r, "default/pod/c", CM("u", "5", "pod"));
        meta_tell(&r, &t, id);
        assert_int_equal(meta_acks(&r, id), 0);
        assert_int_equal(r.edged.n, 0);
        assert_int_equal(meta_row(&r, "o/pod", "default/c"), 0);
        assert_string_equal(r.row, cases[i].pod);
        assert_int_equal(meta_row(&r, "o/pod", "default/gone"), KE_ENOTFOUND);
        meta_fini(&r);
    }
}

static void all_pods(void **state)
{
    struct meta_rig r;

    (void)state;
    meta_init(&r, false);
    meta_ask(&r, "query", "default/pod", NULL);
    assert_true(meta_until_answer(&r, 1));
    assert_string_equal(meta_answer_content(&r), "[]");
    keep_in_store(&r, "default/pod/a", "{\"metadata\":{\"name\":\"a\",\"uid\":\"ua\"}}");
    keep_in_store(&r, "kube-system/pod/b", "{\"metadata\":{\"name\":\"b\",\"uid\":\"ub\"}}");
    keep_in_store(&r, "default/configmap/c", "{\"metadata\":{\"name\":\"c\",\"uid\":\"uc\"}}");
    meta_ask(&r, "query", "default/pod", NULL);
    assert_true(meta_until_answer(&r, 2));
    assert_string_equal(meta_answer_content(&r), "[{\"metadata\":{\"name\":\"a\",\"uid\":\"ua\"}},"
                                                 "{\"metadata\":{\"name\":\"b\",\"uid\":\"ub\"}}]");
    meta_fini(&r);
}

/* A cloud of 1.4 says nothing to a status: all of them are told again each minute. */
static void statuses_again_to_1_4(void **state)
{
    static const char *const keys[] = {"default/a", "default/b", "kube-system/c"};
    struct meta_rig r;
    struct ke_msg *m;
    size_t n;

    (void)state;
    meta_init(&r, false);
    r.dialect = KE_DIALECT_1_4;
    for (int i = 0; i < 3; i++) {
        char resource[64], content[128];
        struct ke_str name, ns = kei_str_cut(kei_str(keys[i]), '/', &name);

        snprintf(resource, sizeof resource, "%.*s/pod/%s", (int)ns.n, ns.p, name.p);
        snprintf(content, sizeof content, "{\"metadata\":{\"name\":\"%s\",\"uid\":\"u%s\"}}",
                 name.p, name.p);
        keep_in_store(&r, resource, content);
        snprintf(resource, sizeof resource, "%.*s/podstatus/%s", (int)ns.n, ns.p, name.p);
        snprintf(content, sizeof content, "{\"UID\":\"u%s\",\"Name\":\"%s\",\"Status\":{}}", name.p,
                 name.p);
        meta_send(&r, "update", resource, content);
    }
    meta_forget(&r);
    meta_link(&r, true);
    test_drive_ms(&r.env, 1000);
    assert_int_equal(r.cloud.n, 2);
    m = meta_find(&r.cloud, "update", "default/podstatus", 0);
    assert_non_null(m);
    assert_string_equal(ke_msg_source(m), "metaManager");
    assert_string_equal(ke_msg_content(m, &n), "[{\"UID\":\"ua\",\"Name\":\"a\",\"Status\":{}},"
                                               "{\"UID\":\"ub\",\"Name\":\"b\",\"Status\":{}}]");
    assert_non_null(meta_find(&r.cloud, "update", "kube-system/podstatus", 0));
    test_drive_ms(&r.env, 60000);
    assert_int_equal(r.cloud.n, 4);
    meta_link(&r, false);
    test_drive_ms(&r.env, 300000);
    assert_int_equal(r.cloud.n, 4);
    /* the others answer: nothing is repeated */
    r.dialect = KE_DIALECT_1_15;
    meta_link(&r, true);
    test_drive_ms(&r.env, 300000);
    assert_int_equal(r.cloud.n, 4);
    meta_fini(&r);
}

/* ---- memory that is refused ---- */

/* Each allocation fails once in a query, a change and a report: every question is answered, nothing
 * leaks, and no error becomes a row. */
static void every_allocation_fails_once(void **state)
{
    bool failed = true;
    size_t n = 1;

    (void)state;
    for (; failed && n < 2000; n++) {
        struct meta_rig r;
        struct ke_msg *m;
        size_t before;

        meta_init(&r, false);
        keep_in_store(&r, "default/pod/c", CM("u", "5", "pod"));
        before = atomic_load(&r.env.alloc.failed);
        /* messages are made first: the test's own allocations do not count */
        struct told push = {.operation = "update",
                            .resource = "default/configmap/d",
                            .content = CM("ud", "9", "new")};
        meta_ask(&r, "query", "default/configmap/c", NULL);
        m = asked(&r, "query", NULL);
        struct told t = {.parent = ke_msg_id(m),
                         .operation = "response",
                         .resource = "default/configmap/c",
                         .content = CM("uc", "8", "x")};
        test_alloc_fail_at(&r.env.alloc, n);
        meta_try(&r, &t);
        meta_try(&r, &push);
        meta_try_ask(&r, "query", "default/secret/none");
        meta_try_ask(&r, "query", "default/secret/none");
        meta_try_ask(&r, "update", "default/podstatus/c");
        test_drive_ms(&r.env, 100);
        test_alloc_fail_at(&r.env.alloc, 0);
        failed = atomic_load(&r.env.alloc.failed) > before;
        r.connected = false;
        meta_link(&r, false);
        test_drive_ms(&r.env, 700000); /* an answer that had no memory is a time-out */
        assert_int_equal(r.n_answers, r.n_asked);
        atomic_store(&r.env.log_errors, 0);
        meta_fini(&r);
    }
    assert_false(failed);
    assert_true(n > 30);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_answers),
        cmocka_unit_test(nothing_in_the_store),
        cmocka_unit_test(who_asks_for_the_same_waits_together),
        cmocka_unit_test(what_1_4_did_not_answer_is_asked_anew),
        cmocka_unit_test(a_push_is_an_answer),
        cmocka_unit_test(errors_are_not_kept),
        cmocka_unit_test(no_answer_in_time),
        cmocka_unit_test(no_answer_but_a_row),
        cmocka_unit_test(the_link_dies_meanwhile),
        cmocka_unit_test(the_hub_refuses),
        cmocka_unit_test(an_answer_that_was_overtaken),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(pod_status_is_kept_and_sent),
        cmocka_unit_test(answers_to_reports),
        cmocka_unit_test(all_pods),
        cmocka_unit_test(statuses_again_to_1_4),
        cmocka_unit_test(every_allocation_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
