/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pod status and the end of pods: podstatus (1.4), podpatch, pod delete and the pods a node makes
 * for its static ones. A node touches only pods bound to it. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"
#include "message/k8s.h"

#define EMPTY_POD                                                                                  \
    "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{\"containers\":null},\"status\":{}}"

struct where {
    const char *ns, *name; /* in the arena */
    struct kei_arena arena;
};

static bool where_init(struct where *w, struct kei_peer *p, const struct kei_resource *r)
{
    kei_arena_init(&w->arena, kei_ctx_alloc(p->cloud->ctx), 0);
    w->ns = kei_arena_strdup(&w->arena, r->ns);
    w->name = kei_arena_strdup(&w->arena, r->name);
    return w->ns && w->name;
}

static struct ke_str content_of(const struct ke_msg *m)
{
    size_t n = 0;
    const char *p = ke_msg_content(m, &n);
    return kei_strn(p, n);
}

/* The pod, if it is bound to this node. */
static struct kei_object *own_pod(struct kei_peer *p, const char *ns, const char *name)
{
    struct kei_arena a;
    struct kei_object *o = kei_objects_get(p->cloud->objects, "pod", ns, name);
    if (!o)
        return NULL;
    kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
    if (strcmp(kei_pod_node(o, &a), p->name) != 0)
        o = NULL;
    kei_arena_free(&a);
    return o;
}

static void pod_error(struct kei_peer *p, struct ke_msg *m, bool bare, const char *name,
                      const char *reason, int code, const char *what)
{
    char text[512];
    snprintf(text, sizeof text, "pods \"%.253s\" %s", name, what);
    kei_answer_error(p, m, bare, bare ? NULL : EMPTY_POD, reason, code, "pods", name, text);
}

/* Deleting, finished, and nothing runs any more: then a 1.4 node has said all it will say. */
static bool ended(struct ke_str pod)
{
    struct ke_str v, key, item, state;
    if (!kei_json_path(pod, "metadata.deletionTimestamp", &v) || kei_json_type(v) != '"')
        return false;
    if (!kei_json_path(pod, "status.phase", &v) ||
        (!kei_json_str_is(v, "Succeeded") && !kei_json_str_is(v, "Failed")))
        return false;
    if (!kei_json_path(pod, "status.containerStatuses", &v))
        return true;
    for (size_t it = 0; kei_json_next(v, &it, &key, &item);)
        if (kei_json_path(item, "state.running", &state) && kei_json_type(state) == '{')
            return false;
    return true;
}

static void write_pod(struct kei_peer *p, struct ke_msg *m, struct kei_object *o,
                      struct ke_str json, int form, bool version)
{
    struct ke_cloud *c = p->cloud;
    struct kei_request_ctx *q = kei_request_new(p, m, form, version);
    if (!q) {
        pod_error(p, m, form != KEI_FORM_OBJECT_RESP, o->name, "ServiceUnavailable", 503,
                  "was not stored");
        return;
    }
    if (kei_objects_write(c->objects, "pod", o->ns, o->name, json, NULL, kei_request_done, q) < 0) {
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "pod %s/%s was not stored: %s", o->ns, o->name,
                ke_ctx_error(c->ctx));
        kei_request_done(q, KE_EIO, NULL);
        return;
    }
    /* our own node keeps the status it reported; only upstream's wants it back */
    if (p->ours && p->dialect != KE_DIALECT_1_4)
        kei_deliver_known(p, o);
}

/* One element of podstatus: {"UID","Name","Status"} */
static void pod_status(struct kei_peer *p, struct ke_msg *m, const char *ns, const char *name,
                       struct ke_str item)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_str uid, status;
    struct ke_buf json = {0};
    struct kei_arena a;
    struct kei_object *o = own_pod(p, ns, name);
    bool silent = p->dialect == KE_DIALECT_1_4;
    if (!kei_json_get(item, "UID", &uid) || !kei_json_get(item, "Status", &status) ||
        kei_json_type(status) != '{') {
        pod_error(p, m, true, name, "BadRequest", 400, "status is not {UID, Name, Status}");
        return;
    }
    if (!o || !kei_json_str_is(uid, o->uid)) {
        kei_arena_init(&a, kei_ctx_alloc(ctx), 0);
        const char *text = kei_json_strdup(uid, &a);
        kei_deliver_gone(p, "pod", ns, name, text ? text : "");
        kei_arena_free(&a);
        if (!silent)
            kei_answer_ok(p, m, NULL, 0);
        return;
    }
    kei_buf_init(&json, kei_ctx_alloc(ctx));
    int r = kei_json_set(&json, kei_buf_str(&o->json), "status", status, kei_err(ctx));
    if (r < 0)
        pod_error(p, m, true, name, "InternalError", 500, "was not stored");
    else
        write_pod(p, m, o, kei_buf_str(&json), silent ? KEI_FORM_SILENT : KEI_FORM_OK, false);
    if (r == 0 && ended(kei_buf_str(&json)))
        (void)kei_objects_remove(p->cloud->objects, o, NULL, NULL);
    ke_buf_free(&json);
}

/* update NS/podstatus: all at once, from edges of 1.4 */
static void pod_status_list(struct kei_peer *p, struct ke_msg *m, const char *ns)
{
    struct ke_str key, item, name;
    struct kei_arena a;
    kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
    for (size_t it = 0; kei_json_next(content_of(m), &it, &key, &item);) {
        if (!kei_json_get(item, "Name", &name))
            continue;
        const char *text = kei_json_strdup(name, &a);
        if (text)
            pod_status(p, m, ns, text, item);
    }
    kei_arena_free(&a);
}

/* The status subresource by strategic merge patch; metadata.uid is a precondition. */
static void pod_patch(struct kei_peer *p, struct ke_msg *m, const struct where *w)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct kei_object *o = own_pod(p, w->ns, w->name);
    struct ke_buf patch = {0}, whole = {0}, json = {0};
    struct ke_str uid, status;
    if (!o) {
        pod_error(p, m, false, w->name, "NotFound", 404, "not found");
        return;
    }
    kei_buf_init(&patch, kei_ctx_alloc(ctx));
    kei_buf_init(&whole, kei_ctx_alloc(ctx));
    kei_buf_init(&json, kei_ctx_alloc(ctx));
    int r = kei_patch_text(p->cloud, m, &patch);
    if (r == 0)
        r = kei_patch_strategic(&whole, kei_buf_str(&o->json), kei_buf_str(&patch), kei_err(ctx));
    if (r == 0 && kei_json_path(kei_buf_str(&patch), "metadata.uid", &uid) &&
        !kei_json_str_is(uid, o->uid)) {
        pod_error(p, m, false, w->name, "Conflict", 409, "has another uid");
    } else if (r < 0 || !kei_json_get(kei_buf_str(&whole), "status", &status) ||
               kei_json_set(&json, kei_buf_str(&o->json), "status", status, kei_err(ctx)) < 0) {
        pod_error(p, m, false, w->name, "BadRequest", 400, "could not be patched");
    } else if (kei_json_same(kei_buf_str(&json), kei_buf_str(&o->json))) {
        struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT_RESP, true);
        if (q)
            kei_request_done(q, 0, o); /* nothing changed: no new version */
    } else {
        write_pod(p, m, o, kei_buf_str(&json), KEI_FORM_OBJECT_RESP, true);
    }
    ke_buf_free(&patch);
    ke_buf_free(&whole);
    ke_buf_free(&json);
}

/* DeleteOptions with a uid precondition, or the uid as a string; what is gone already is success.
 */
static void pod_delete(struct kei_peer *p, struct ke_msg *m, const struct where *w)
{
    struct kei_object *o = own_pod(p, w->ns, w->name);
    struct ke_str content = content_of(m), uid = {0};
    if (kei_json_type(content) == '"')
        uid = content;
    else if (!kei_json_path(content, "preconditions.uid", &uid))
        uid = (struct ke_str){0};
    if (!o || (uid.p && !kei_json_str_is(uid, o->uid))) {
        kei_answer_ok(p, m, NULL, 0);
        return;
    }
    struct kei_request_ctx *q =
        kei_request_new(p, m, p->dialect == KE_DIALECT_1_4 ? KEI_FORM_SILENT : KEI_FORM_OK, false);
    if (!q || kei_objects_remove(p->cloud->objects, o, kei_request_done, q) < 0) {
        if (q)
            kei_request_free(q);
        pod_error(p, m, true, w->name, "ServiceUnavailable", 503, "was not removed");
    }
}

/* A mirror pod; it must be this node's. */
static void pod_insert(struct kei_peer *p, struct ke_msg *m, const struct where *w)
{
    struct ke_cloud *c = p->cloud;
    struct ke_str node;
    if (kei_objects_get(c->objects, "pod", w->ns, w->name)) {
        pod_error(p, m, false, w->name, "AlreadyExists", 409, "already exists");
        return;
    }
    if (!kei_json_path(content_of(m), "spec.nodeName", &node) || !kei_json_str_is(node, p->name)) {
        pod_error(p, m, false, w->name, "Forbidden", 403, "is not for this node");
        return;
    }
    struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT_RESP, false);
    if (!q || kei_objects_write(c->objects, "pod", w->ns, w->name, content_of(m), NULL,
                                kei_request_done, q) < 0) {
        if (q)
            kei_request_free(q);
        pod_error(p, m, false, w->name, "ServiceUnavailable", 503, "was not stored");
    }
}

void kei_upstream_pod(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r)
{
    struct where w;
    const char *op = ke_msg_operation(m);
    if (!where_init(&w, p, r)) {
        kei_arena_free(&w.arena);
        return;
    }
    if (kei_str_is(r->type, "podstatus") && strcmp(op, "update") == 0) {
        if (kei_json_type(content_of(m)) == '[')
            pod_status_list(p, m, w.ns);
        else
            pod_status(p, m, w.ns, w.name, content_of(m));
    } else if (kei_str_is(r->type, "podpatch") && strcmp(op, "patch") == 0) {
        pod_patch(p, m, &w);
    } else if (kei_str_is(r->type, "pod") && strcmp(op, "delete") == 0) {
        pod_delete(p, m, &w);
    } else if (kei_str_is(r->type, "pod") && strcmp(op, "insert") == 0) {
        pod_insert(p, m, &w);
    }
    kei_arena_free(&w.arena);
}
