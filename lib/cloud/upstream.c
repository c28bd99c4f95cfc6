/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nodes ask and report, dispatched by the type token; the forms of the answers. An answer to a
 * write leaves when the write is durable. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"

/* ---- answers ---- */

void kei_answer(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                struct ke_str content, int64_t version)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_msg_config c;
    struct ke_msg *reply = NULL;
    char text[24];
    ke_msg_config_init(&c, sizeof c);
    c.parent_id = ke_msg_id(m);
    c.source = "edgecontroller";
    c.group = "resource";
    c.operation = "response";
    c.resource = resource ? resource : ke_msg_resource(m);
    c.content = content.p;
    c.content_len = content.n;
    if (version > 0) {
        snprintf(text, sizeof text, "%lld", (long long)version);
        c.resource_version = text;
    }
    int r = ke_msg_new(&reply, ctx, &c, kei_err(ctx));
    if (r == 0)
        r = kei_peer_reply(p, reply);
    ke_msg_unref(reply);
    if (r < 0)
        kei_log(ctx, KE_LOG_WARN, "cloud", "no answer to %s of node %s: %s", c.resource, p->name,
                ke_ctx_error(ctx));
}

void kei_answer_ok(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                   int64_t version)
{
    kei_answer(p, m, resource, KEI_STR("\"OK\""), version);
}

void kei_answer_error(struct kei_peer *p, const struct ke_msg *m, bool bare, const char *empty,
                      const char *reason, int code, const char *kind, const char *name,
                      const char *text)
{
    struct ke_buf out = {0};
    kei_buf_init(&out, kei_ctx_alloc(p->cloud->ctx));
    if (!bare) {
        kei_buf_adds(&out, "{\"Object\":");
        kei_buf_adds(&out, empty ? empty : "null");
        kei_buf_adds(&out, ",\"Err\":");
    }
    kei_errstatus_write(&out, reason, code, kind, name, text);
    if (!bare)
        kei_buf_addc(&out, '}');
    if (kei_buf_ok(&out))
        kei_answer(p, m, NULL, kei_buf_str(&out), 0);
    ke_buf_free(&out);
}

/* ---- answers that wait for the store ---- */

struct kei_request_ctx *kei_request_new(struct kei_peer *p, struct ke_msg *m, int form,
                                        bool version)
{
    const struct ke_alloc *a = kei_ctx_alloc(p->cloud->ctx);
    struct kei_request_ctx *q = kei_zalloc(a, sizeof *q);
    if (!q)
        return NULL;
    q->peer = kei_strdup(a, p->name);
    if (!q->peer) {
        kei_free(a, q);
        return NULL;
    }
    q->cloud = p->cloud;
    q->generation = p->session ? p->session->generation : 0;
    q->request = ke_msg_ref(m);
    q->form = form;
    q->version = version;
    return q;
}

void kei_request_free(struct kei_request_ctx *q)
{
    const struct ke_alloc *a = kei_ctx_alloc(q->cloud->ctx);
    ke_msg_unref(q->request);
    kei_free(a, q->peer);
    kei_free(a, q);
}

static void answer_object(struct kei_peer *p, struct kei_request_ctx *q, struct kei_object *o)
{
    struct ke_buf out = {0};
    int64_t version = q->version ? o->version : 0;
    char resource[300];
    snprintf(resource, sizeof resource, "default/node/%.253s", p->name);
    if (q->form == KEI_FORM_OK) {
        kei_answer_ok(p, q->request, q->as_node ? resource : NULL, version);
        return;
    }
    if (q->form == KEI_FORM_OBJECT) {
        kei_answer(p, q->request, NULL, kei_buf_str(&o->json), version);
        return;
    }
    kei_buf_init(&out, kei_ctx_alloc(p->cloud->ctx));
    kei_buf_adds(&out, "{\"Object\":");
    kei_buf_addv(&out, kei_buf_str(&o->json));
    kei_buf_adds(&out, ",\"Err\":null}");
    if (kei_buf_ok(&out))
        kei_answer(p, q->request, NULL, kei_buf_str(&out), version);
    ke_buf_free(&out);
}

void kei_request_done(void *user, int status, struct kei_object *o)
{
    struct kei_request_ctx *q = user;
    struct kei_peer *p = kei_peer_get(q->cloud, q->peer, false);
    bool there = p && p->session && p->session->generation == q->generation;
    if (there && q->form != KEI_FORM_SILENT) {
        if (status < 0)
            kei_answer_error(p, q->request, q->form != KEI_FORM_OBJECT_RESP, NULL,
                             "ServiceUnavailable", 503, "", "", "the cloud could not store it");
        else
            answer_object(p, q, o);
    }
    kei_request_free(q);
}

int kei_patch_text(struct ke_cloud *c, const struct ke_msg *m, struct ke_buf *out)
{
    size_t n = 0;
    const char *content = ke_msg_content(m, &n);
    struct ke_str v;
    int r = kei_json_value(kei_strn(content, n), 0, &v, kei_err(c->ctx));
    if (r == 0)
        r = kei_json_str(v, out, kei_err(c->ctx));
    return r < 0 ? r : kei_json_check(kei_buf_str(out), 0, kei_err(c->ctx));
}

/* ---- ConfigMaps and Secrets ---- */

/* A node may read what one of its pods refers to, and nothing else. */
static bool may_read(struct kei_peer *p, const char *type, const char *ns, const char *name)
{
    struct kei_object *pod;
    struct kei_arena a;
    bool yes = false;
    kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
    for (size_t it = 0; !yes && (pod = kei_objects_next(p->cloud->objects, "pod", &it));)
        yes = strcmp(pod->ns, ns) == 0 && strcmp(kei_pod_node(pod, &a), p->name) == 0 &&
              kei_pod_refers(kei_buf_str(&pod->json), type, name);
    kei_arena_free(&a);
    return yes;
}

static void query_config(struct kei_peer *p, struct ke_msg *m, const char *type, const char *ns,
                         const char *name)
{
    struct ke_cloud *c = p->cloud;
    char text[700];
    struct kei_object *o = kei_objects_get(c->objects, type, ns, name);
    if (o && !may_read(p, type, ns, name)) {
        snprintf(text, sizeof text, "%ss \"%s\" is forbidden: no pod of node \"%s\" refers to it",
                 type, name, p->name);
        kei_answer_error(p, m, true, NULL, "Forbidden", 403, type, name, text);
        return;
    }
    if (!o || o->durable == 0) {
        if (p->dialect == KE_DIALECT_1_4)
            return; /* such a node takes any answer for the object */
        snprintf(text, sizeof text, "%s \"%s\" not found", type, name);
        kei_answer_error(p, m, true, NULL, "NotFound", 404, type, name, text);
        return;
    }
    struct ke_ctx *ctx = c->ctx;
    struct ke_msg_config mc;
    struct ke_msg *reply = NULL;
    char version[24];
    snprintf(version, sizeof version, "%lld", (long long)o->version);
    ke_msg_config_init(&mc, sizeof mc);
    mc.parent_id = ke_msg_id(m);
    mc.source = "edgecontroller";
    mc.group = "resource";
    mc.operation = "response";
    mc.resource = ke_msg_resource(m);
    mc.resource_version = version;
    mc.content = o->json.p;
    mc.content_len = o->json.n;
    if (ke_msg_new(&reply, ctx, &mc, kei_err(ctx)) == 0 && kei_peer_reply(p, reply) == 0)
        kei_deliver_reply_sent(p, ke_msg_id(reply), o);
    ke_msg_unref(reply);
}

/* Kinds this cloud does not have: an error at once is better than the node's time-out. */
static void not_served(struct kei_peer *p, struct ke_msg *m, const char *type, const char *name)
{
    char text[700];
    snprintf(text, sizeof text, "%s \"%s\" not found", type, name);
    kei_answer_error(p, m, true, NULL, "NotFound", 404, type, name, text);
}

static void ca_query(struct kei_peer *p, struct ke_msg *m)
{
    struct ke_buf pem = {0}, out = {0};
    struct kei_jw w;
    kei_buf_init(&pem, kei_ctx_alloc(p->cloud->ctx));
    kei_buf_init(&out, kei_ctx_alloc(p->cloud->ctx));
    kei_jw_init(&w, &out);
    if (kei_cert_pem(p->cloud->pki.ca, &pem, kei_err(p->cloud->ctx)) == 0) {
        kei_jw_strv(&w, kei_buf_str(&pem));
        if (kei_buf_ok(&out))
            kei_answer(p, m, NULL, kei_buf_str(&out), 0);
    }
    ke_buf_free(&pem);
    ke_buf_free(&out);
}

static void dispatch(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r)
{
    static const char *const unserved[] = {
        "serviceaccounttoken", "persistentvolume", "persistentvolumeclaim",
        "volumeattachment",    "service",          "endpoints"};
    struct kei_arena a;
    const char *op = ke_msg_operation(m);
    if (kei_str_is(r->type, "node") || kei_str_is(r->type, "nodestatus") ||
        kei_str_is(r->type, "nodepatch") || kei_str_is(r->type, "lease")) {
        kei_upstream_node(p, m, r);
        return;
    }
    if (kei_str_is(r->type, "pod") || kei_str_is(r->type, "podstatus") ||
        kei_str_is(r->type, "podpatch")) {
        kei_upstream_pod(p, m, r);
        return;
    }
    if (strcmp(op, "query") != 0) {
        kei_log(p->cloud->ctx, KE_LOG_DEBUG, "cloud", "node %s: %s %s is not served", p->name, op,
                ke_msg_resource(m));
        return;
    }
    kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
    const char *type = kei_arena_strdup(&a, r->type), *ns = kei_arena_strdup(&a, r->ns);
    const char *name = kei_arena_strdup(&a, r->name);
    if (type && ns && name) {
        if (strcmp(type, "configmap") == 0 || strcmp(type, "secret") == 0)
            query_config(p, m, type, ns, name);
        for (size_t i = 0; i < sizeof unserved / sizeof unserved[0]; i++)
            if (strcmp(type, unserved[i]) == 0 && p->dialect != KE_DIALECT_1_4)
                not_served(p, m, type, name);
    }
    kei_arena_free(&a);
}

void kei_upstream(struct kei_peer *p, struct ke_msg *m)
{
    struct kei_resource r;
    const char *op = ke_msg_operation(m), *source = ke_msg_source(m);
    if (strcmp(op, "response") == 0) {
        kei_deliver_acked(p, ke_msg_parent_id(m));
        return;
    }
    if (strcmp(op, "error") == 0) {
        size_t n = 0;
        const char *text = ke_msg_content(m, &n);
        kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud", "node %s could not process a message: %.*s",
                p->name, (int)(n < 300 ? n : 300), text);
        return;
    }
    if (strcmp(ke_msg_resource(m), "k8s/ca.crt") == 0) {
        ca_query(p, m);
        return;
    }
    /* devices, rules and the local API of nodes are not served here */
    if (strcmp(source, "twin") == 0 || strcmp(source, "metaserver") == 0 ||
        strcmp(ke_msg_group(m), "user") == 0)
        return;
    if (kei_resource_parse(&r, kei_str(ke_msg_resource(m))))
        dispatch(p, m, &r);
}
