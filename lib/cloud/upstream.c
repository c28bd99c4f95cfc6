/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nodes ask and report, dispatched by the type token; the forms of the answers. An answer to a
 * write leaves when the write is durable; what is not durable is not told. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"
#include "message/k8s.h"

/* ---- answers ---- */

void kei_request_lost(struct kei_peer *p)
{
    if (p->session)
        kei_session_fail(p->session, "out of memory: what it asked for last is lost");
}

/* The reply, sent; *ret_id (37 bytes, may be NULL) gets its id. */
static int answer(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                  struct ke_str content, int64_t version, char *ret_id)
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
    if (r == 0 && ret_id)
        snprintf(ret_id, 37, "%s", ke_msg_id(reply));
    ke_msg_unref(reply);
    if (r < 0)
        kei_log(ctx, KE_LOG_WARN, "cloud", "no answer to %s of node %s: %s", c.resource, p->name,
                ke_ctx_error(ctx));
    if (r == KE_ENOMEM)
        kei_request_lost(p);
    return r;
}

void kei_answer(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                struct ke_str content, int64_t version)
{
    (void)answer(p, m, resource, content, version, NULL);
}

void kei_answer_ok(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                   int64_t version)
{
    kei_answer(p, m, resource, KEI_STR("\"OK\""), version);
}

void kei_answer_confirm(struct kei_peer *p, const struct ke_msg *m)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_msg_config c;
    struct ke_msg *reply = NULL;
    ke_msg_config_init(&c, sizeof c);
    c.parent_id = ke_msg_id(m);
    c.source = "devicecontroller";
    c.group = "twin";
    c.operation = "response";
    c.resource = "twin";
    c.content = "\"OK\"";
    c.content_len = 4;
    int r = ke_msg_new(&reply, ctx, &c, kei_err(ctx));
    if (r == 0)
        r = kei_peer_reply(p, reply);
    ke_msg_unref(reply);
    if (r < 0)
        kei_log(ctx, KE_LOG_WARN, "cloud", "%s of node %s was not confirmed: %s",
                ke_msg_resource(m), p->name, ke_ctx_error(ctx));
}

void kei_answer_object(struct kei_peer *p, const struct ke_msg *m, const struct kei_object *o,
                       int64_t version)
{
    struct ke_buf out = {0};
    kei_buf_init(&out, kei_ctx_alloc(p->cloud->ctx));
    kei_buf_adds(&out, "{\"Object\":");
    kei_buf_addv(&out, kei_buf_str(&o->json));
    kei_buf_adds(&out, ",\"Err\":null}");
    if (kei_buf_ok(&out))
        kei_answer(p, m, NULL, kei_buf_str(&out), version);
    else
        kei_request_lost(p);
    ke_buf_free(&out);
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
    else
        kei_request_lost(p);
    ke_buf_free(&out);
}

const char *kei_write_reason(int status, int *ret_code)
{
    *ret_code = status == KE_ELIMIT                          ? 413
                : status == KE_EAGAIN                        ? 409
                : status == KE_EINVAL || status == KE_EPARSE ? 400
                                                             : 503;
    return status == KE_ELIMIT   ? "RequestEntityTooLarge"
           : status == KE_EAGAIN ? "Conflict"
           : *ret_code == 400    ? "BadRequest"
                                 : "ServiceUnavailable";
}

/* ---- requests whose answers wait for the store ---- */

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
    if (p->session)
        kei_session_waits(p->session, 1);
    return q;
}

/* The peer, while the session that asked is there. */
static struct kei_peer *asker(const struct kei_request_ctx *q)
{
    struct kei_peer *p = kei_peer_get(q->cloud, q->peer, false);
    return p && p->session && p->session->generation == q->generation ? p : NULL;
}

void kei_request_free(struct kei_request_ctx *q)
{
    const struct ke_alloc *a = kei_ctx_alloc(q->cloud->ctx);
    struct kei_peer *p = asker(q);
    if (p)
        kei_session_waits(p->session, -1);
    ke_msg_unref(q->request);
    kei_free(a, q->peer);
    kei_free(a, q);
}

static void answer_stored(struct kei_peer *p, struct kei_request_ctx *q, struct kei_object *o)
{
    int64_t version = q->version ? o->version : 0;
    char resource[300];
    snprintf(resource, sizeof resource, "default/node/%.253s", p->name);
    if (q->form == KEI_FORM_OK)
        kei_answer_ok(p, q->request, q->as_node ? resource : NULL, version);
    else if (q->form == KEI_FORM_OBJECT)
        kei_answer(p, q->request, NULL, kei_buf_str(&o->json), version);
    else
        kei_answer_object(p, q->request, o, version);
}

void kei_request_done(void *user, int status, struct kei_object *o)
{
    struct kei_request_ctx *q = user;
    struct kei_peer *p = kei_peer_get(q->cloud, q->peer, false);
    if (q->cloud->state == KEI_CLOUD_CLOSING) {
        kei_request_free(q);
        return;
    }
    if (status == 0 && p && q->base > 0)
        kei_deliver_reported(p, o, q->base, q->written);
    p = asker(q);
    if (p && q->form == KEI_FORM_CONFIRM) {
        if (status == 0)
            kei_answer_confirm(p, q->request);
    } else if (p && q->form != KEI_FORM_SILENT) {
        if (status < 0)
            kei_answer_error(p, q->request, q->form != KEI_FORM_OBJECT_RESP, NULL,
                             "ServiceUnavailable", 503, "", "", "the cloud could not store it");
        else if (o->durable == o->version || o->removed)
            answer_stored(p, q, o);
        else if (kei_objects_sync(q->cloud->objects, o, kei_request_done, q) == 0)
            return; /* it was written again meanwhile: the newest is told when it is durable */
        else
            kei_answer_error(p, q->request, q->form != KEI_FORM_OBJECT_RESP, NULL,
                             "ServiceUnavailable", 503, "", "", ke_ctx_error(q->cloud->ctx));
    }
    kei_request_free(q);
}

struct ke_str kei_content(const struct ke_msg *m)
{
    size_t n = 0;
    const char *p = ke_msg_content(m, &n);
    return kei_strn(p, n);
}

int kei_patch_text(struct ke_cloud *c, const struct ke_msg *m, struct ke_buf *out)
{
    struct ke_str v;
    int r = kei_json_value(kei_content(m), 0, &v, kei_err(c->ctx));
    if (r == 0)
        r = kei_json_str(v, out, kei_err(c->ctx));
    return r < 0 ? r : kei_json_check(kei_buf_str(out), 0, kei_err(c->ctx));
}

int kei_set_raw(struct ke_ctx *ctx, struct ke_buf *b, const char *path, struct ke_str value)
{
    struct ke_buf out = {0};
    kei_buf_init(&out, kei_ctx_alloc(ctx));
    int r = kei_json_set(&out, kei_buf_str(b), path, value, kei_err(ctx));
    if (r < 0) {
        ke_buf_free(&out);
        return r;
    }
    ke_buf_free(b);
    *b = out;
    return 0;
}

/* ---- ConfigMaps and Secrets ---- */

struct query {
    struct kei_arena arena;
    const char *type, *ns, *name;
};

static bool query_init(struct query *q, struct kei_peer *p, const struct ke_msg *m)
{
    struct kei_resource r;
    kei_arena_init(&q->arena, kei_ctx_alloc(p->cloud->ctx), 0);
    if (!kei_resource_parse(&r, kei_str(ke_msg_resource(m))))
        return false;
    q->type = kei_arena_strdup(&q->arena, r.type);
    q->ns = kei_arena_strdup(&q->arena, r.ns);
    q->name = kei_arena_strdup(&q->arena, r.name);
    if (q->type && q->ns && q->name)
        return true;
    kei_request_lost(p);
    return false;
}

/* An error at once is better than the node's time-out; but a 1.4 edge takes any answer for the
 * object. */
static void not_found(struct kei_peer *p, struct ke_msg *m, const char *type, const char *name)
{
    char text[700];
    if (p->dialect == KE_DIALECT_1_4)
        return;
    snprintf(text, sizeof text, "%s \"%.253s\" not found", type, name);
    kei_answer_error(p, m, true, NULL, "NotFound", 404, type, name, text);
}

static void unavailable(struct kei_peer *p, struct ke_msg *m, const char *type, const char *name)
{
    if (p->dialect != KE_DIALECT_1_4)
        kei_answer_error(p, m, true, NULL, "ServiceUnavailable", 503, type, name,
                         "the cloud could not store that the node has it");
}

/* It is on disk that the node may have it. */
static void config_ready(struct kei_peer *p, struct ke_msg *m)
{
    struct query q;
    char id[37];
    if (query_init(&q, p, m)) {
        struct kei_object *o = kei_objects_get(p->cloud->objects, q.type, q.ns, q.name);
        if (!o)
            not_found(p, m, q.type, q.name);
        else if (o->durable != o->version)
            unavailable(p, m, q.type, q.name);
        else if (answer(p, m, NULL, kei_buf_str(&o->json), o->version, id) == 0)
            kei_deliver_lent(p, o, id);
    }
    kei_arena_free(&q.arena);
}

static void lend_config(struct kei_peer *p, struct ke_msg *m, struct kei_object *o)
{
    if (kei_deliver_lend(p, o, m, config_ready) < 0)
        unavailable(p, m, o->type, o->name);
}

/* The newest version of the object is on disk now, or it failed. */
static void on_config_durable(void *user, int status, struct kei_object *o)
{
    struct kei_request_ctx *q = user;
    struct kei_peer *p = q->cloud->state == KEI_CLOUD_CLOSING ? NULL : asker(q);
    struct query at;
    if (p && status == 0 && !o->removed) {
        lend_config(p, q->request, o);
    } else if (p && query_init(&at, p, q->request)) {
        unavailable(p, q->request, at.type, at.name);
        kei_arena_free(&at.arena);
    }
    kei_request_free(q);
}

/* A node may read what one of its pods refers to, and nothing else. */
static void query_config(struct kei_peer *p, struct ke_msg *m, const struct query *at)
{
    struct ke_cloud *c = p->cloud;
    char text[700];
    struct kei_object *o = kei_objects_get(c->objects, at->type, at->ns, at->name);
    if (!o) {
        not_found(p, m, at->type, at->name);
    } else if (!kei_index_refers(p, at->type, at->ns, at->name) &&
               !kei_device_profile_is_of(p, o)) {
        if (p->dialect == KE_DIALECT_1_4)
            return;
        snprintf(text, sizeof text,
                 "%ss \"%.253s\" is forbidden: no pod of node \"%s\" refers to it", at->type,
                 at->name, p->name);
        kei_answer_error(p, m, true, NULL, "Forbidden", 403, at->type, at->name, text);
    } else if (o->durable == o->version) {
        lend_config(p, m, o);
    } else {
        struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_SILENT, false);
        if (!q || kei_objects_sync(c->objects, o, on_config_durable, q) < 0) {
            if (q)
                kei_request_free(q);
            unavailable(p, m, at->type, at->name);
        }
    }
}

/* ---- dispatch ---- */

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

static void other_query(struct kei_peer *p, struct ke_msg *m)
{
    /* kinds this cloud does not have */
    static const char *const unserved[] = {
        "serviceaccounttoken", "persistentvolume", "persistentvolumeclaim",
        "volumeattachment",    "service",          "endpoints"};
    struct query q;
    if (query_init(&q, p, m)) {
        if (strcmp(q.type, "configmap") == 0 || strcmp(q.type, "secret") == 0)
            query_config(p, m, &q);
        for (size_t i = 0; i < sizeof unserved / sizeof unserved[0]; i++)
            if (strcmp(q.type, unserved[i]) == 0) {
                kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud",
                        "node %s asks for %s %s/%s: this cloud serves none, a pod that needs it "
                        "does not start",
                        p->name, q.type, q.ns, q.name);
                not_found(p, m, q.type, q.name);
            }
    }
    kei_arena_free(&q.arena);
}

static void dispatch(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r)
{
    const char *op = ke_msg_operation(m);
    if (kei_str_is(r->type, "lease"))
        kei_upstream_lease(p, m, r);
    else if (kei_str_is(r->type, "node") || kei_str_is(r->type, "nodestatus") ||
             kei_str_is(r->type, "nodepatch"))
        kei_upstream_node(p, m, r);
    else if (kei_str_is(r->type, "pod") || kei_str_is(r->type, "podstatus") ||
             kei_str_is(r->type, "podpatch"))
        kei_upstream_pod(p, m, r);
    else if (strcmp(op, "query") == 0)
        other_query(p, m);
    else
        kei_log(p->cloud->ctx, KE_LOG_DEBUG, "cloud", "node %s: %s %s is not served", p->name, op,
                ke_msg_resource(m));
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
        struct ke_str text = kei_content(m);
        kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud", "node %s could not process a message: %.*s",
                p->name, (int)(text.n < 300 ? text.n : 300), text.p);
        return;
    }
    if (strcmp(ke_msg_resource(m), "k8s/ca.crt") == 0) {
        ca_query(p, m);
        return;
    }
    if (strcmp(source, "twin") == 0) {
        kei_upstream_device(p, m);
        return;
    }
    /* rules and the local API of nodes are not served here */
    if (strcmp(source, "metaserver") == 0 || strcmp(ke_msg_group(m), "user") == 0)
        return;
    struct ke_str resource = kei_str(ke_msg_resource(m));
    /* "kube-node-lease/lease/", of an edge that mistook an error for its lease: it gets an answer
     */
    if (kei_str_ends(resource, KEI_STR("/")))
        resource.n--;
    if (kei_resource_parse(&r, resource))
        dispatch(p, m, &r);
}
