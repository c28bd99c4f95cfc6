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
#define MIRRORS_MAX 200 /* pods of a node: what a kubelet takes at most, generously */
/* What a node may write: all nodes share the store. Real ones are of some KiB each. */
#define MIRRORS_BYTES_MAX (4u * 1024u * 1024u) /* of all mirror pods of a node */
#define STATUS_BYTES_MAX (256u * 1024u)        /* of the status of one pod */
#define LIST_MAX 1000                          /* pods in one podstatus list */

struct where {
    const char *ns, *name; /* in the arena */
    struct kei_arena arena;
};

static bool where_init(struct where *w, struct kei_peer *p, const struct kei_resource *r)
{
    kei_arena_init(&w->arena, kei_ctx_alloc(p->cloud->ctx), 0);
    w->ns = kei_arena_strdup(&w->arena, r->ns);
    w->name = kei_arena_strdup(&w->arena, r->name);
    if (w->ns && w->name)
        return true;
    kei_request_lost(p);
    return false;
}

/* The pod, if it is bound to this node. */
static struct kei_object *own_pod(struct kei_peer *p, const char *ns, const char *name)
{
    struct kei_object *o = kei_objects_get(p->cloud->objects, "pod", ns, name);
    const struct kei_pod_note *note = o ? o->note : NULL;
    return note && note->peer == p ? o : NULL;
}

static void pod_error(struct kei_peer *p, struct ke_msg *m, bool bare, const char *name,
                      const char *reason, int code, const char *what)
{
    char text[KE_ERROR_TEXT_MAX + 300];
    snprintf(text, sizeof text, "pods \"%.253s\" %s", name, what);
    kei_answer_error(p, m, bare, bare ? NULL : EMPTY_POD, reason, code, "pods", name, text);
}

static void not_stored(struct kei_peer *p, struct ke_msg *m, bool bare, const char *name,
                       int status)
{
    int code;
    const char *reason = kei_write_reason(status, &code), *text = ke_ctx_error(p->cloud->ctx);
    kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud", "pod %.253s of node %s was not stored: %s", name,
            p->name, text);
    pod_error(p, m, bare, name, reason, code, text);
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

/* o: what is there, NULL for a new one; status: of json, NULL for a new one */
static int check_budget(struct kei_peer *p, const struct kei_object *o, struct ke_str json,
                        struct ke_str status)
{
    const struct kei_pod_note *own = o ? o->note : NULL;
    size_t all = json.n;
    if (status.n > STATUS_BYTES_MAX)
        return kei_fail(p->cloud->ctx, KE_ELIMIT,
                        "the status has %zu bytes; the limit of a pod's status is %u", status.n,
                        STATUS_BYTES_MAX);
    if (o && (!own || !own->mirror || json.n <= o->json.n))
        return 0;
    KEI_LIST_EACH(l, &p->pods)
    {
        const struct kei_pod_note *note = KEI_OF(l, struct kei_pod_note, link);
        if (note->mirror && note != own)
            all += note->pod->json.n;
    }
    if (all <= MIRRORS_BYTES_MAX)
        return 0;
    return kei_fail(p->cloud->ctx, KE_ELIMIT,
                    "the static pods of node %s have %zu bytes; the limit is %u", p->name, all,
                    MIRRORS_BYTES_MAX);
}

/* silent: nothing is answered, not even failures */
static void write_pod(struct kei_peer *p, struct ke_msg *m, struct kei_object *o,
                      struct ke_str json, int form, bool version)
{
    struct ke_cloud *c = p->cloud;
    struct kei_request_ctx *q = kei_request_new(p, m, form, version);
    bool bare = form != KEI_FORM_OBJECT_RESP;
    int64_t base = o->version;
    struct ke_str status = {0};
    (void)kei_json_get(json, "status", &status);
    int r = q ? check_budget(p, o, json, status)
              : kei_fail(c->ctx, KE_ENOMEM, "out of memory for pod %s/%s", o->ns, o->name);
    if (r == 0 && kei_json_same(json, kei_buf_str(&o->json))) {
        kei_request_done(q, 0, o); /* nothing changed: no new version */
        return;
    }
    if (r == 0)
        r = kei_objects_write(c->objects, "pod", o->ns, o->name, json, NULL, kei_request_done, q);
    if (r < 0) {
        if (q)
            kei_request_free(q);
        if (form != KEI_FORM_SILENT)
            not_stored(p, m, bare, o->name, r);
        return;
    }
    if (p->ours) { /* our own node keeps the status it reported; only upstream's wants it back */
        q->base = base;
        q->written = o->version;
    }
}

/* The same for a patch, whose answer says it already. */
static void stray_patch(struct kei_peer *p, struct ke_msg *m, const struct where *w)
{
    struct ke_buf patch = {0};
    struct ke_str uid;
    char text[KEI_UID_MAX + 2] = "";
    const struct kei_object *going = kei_objects_any(p->cloud->objects, "pod", w->ns, w->name);
    kei_buf_init(&patch, kei_ctx_alloc(p->cloud->ctx));
    if (kei_patch_text(p->cloud, m, &patch) == 0 &&
        kei_json_path(kei_buf_str(&patch), "metadata.uid", &uid)) {
        size_t n = kei_json_copy(text, sizeof text, uid);
        bool named = n > 0 && n <= KEI_UID_MAX && kei_dns_subdomain(kei_str(text)) &&
                     kei_dns_label(kei_str(w->ns)) && kei_dns_subdomain(kei_str(w->name));
        if (named && (!going || strcmp(going->uid, text) != 0) &&
            kei_deliver_stray(p, w->ns, w->name, text) < 0)
            kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud", "%s", ke_ctx_error(p->cloud->ctx));
    }
    ke_buf_free(&patch);
}

/* A pod that the node has and should not have. */
static void stray(struct kei_peer *p, struct ke_msg *m, const char *ns, const char *name,
                  struct ke_str uid)
{
    char text[KEI_UID_MAX + 2] = "";
    size_t n = kei_json_copy(text, sizeof text, uid);
    const struct kei_object *going = kei_objects_any(p->cloud->objects, "pod", ns, name);
    bool silent = p->dialect == KE_DIALECT_1_4;
    if (n == 0 || n > KEI_UID_MAX || !kei_dns_subdomain(kei_str(text)) ||
        !kei_dns_label(kei_str(ns)) || !kei_dns_subdomain(kei_str(name))) {
        if (!silent)
            pod_error(p, m, true, name, "BadRequest", 400, "bears no valid name and uid");
        return;
    }
    /* one that is being removed here is told of when that is durable */
    if (!going || strcmp(going->uid, text) != 0) {
        int r = kei_deliver_stray(p, ns, name, text);
        if (r < 0 && !silent) {
            pod_error(p, m, true, name, "TooManyRequests", 429, ke_ctx_error(p->cloud->ctx));
            return;
        }
    }
    if (!silent)
        kei_answer_ok(p, m, NULL, 0);
}

/* One element of podstatus: {"UID","Name","Status"} */
static void pod_status(struct kei_peer *p, struct ke_msg *m, const char *ns, const char *name,
                       struct ke_str item)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_str uid, status;
    struct ke_buf json = {0};
    struct kei_object *o = own_pod(p, ns, name);
    bool silent = p->dialect == KE_DIALECT_1_4;
    if (!kei_json_get(item, "UID", &uid) || !kei_json_get(item, "Status", &status) ||
        kei_json_type(status) != '{') {
        if (!silent)
            pod_error(p, m, true, name, "BadRequest", 400, "status is not {UID, Name, Status}");
        return;
    }
    if (!o || !kei_json_str_is(uid, o->uid)) {
        stray(p, m, ns, name, uid);
        return;
    }
    kei_buf_init(&json, kei_ctx_alloc(ctx));
    int r = kei_json_set(&json, kei_buf_str(&o->json), "status", status, kei_err(ctx));
    if (r < 0 && !silent)
        not_stored(p, m, true, name, r);
    if (r == 0 && ended(kei_buf_str(&json))) {
        struct kei_request_ctx *q =
            kei_request_new(p, m, silent ? KEI_FORM_SILENT : KEI_FORM_OK, false);
        if (!q || kei_objects_remove(p->cloud->objects, o, kei_request_done, q) < 0) {
            if (q)
                kei_request_free(q);
            if (!silent)
                not_stored(p, m, true, name, KE_ENOMEM);
        }
    } else if (r == 0) {
        write_pod(p, m, o, kei_buf_str(&json), silent ? KEI_FORM_SILENT : KEI_FORM_OK, false);
    }
    ke_buf_free(&json);
}

/* One element of a podstatus list; of several for one pod the last counts. */
struct told {
    const char *name;
    struct ke_str item;
};

static int gather_status(struct kei_peer *p, struct ke_msg *m, struct kei_map *last,
                         struct kei_arena *a)
{
    struct ke_str key, item, name, uid;
    char pod[KEI_NODE_NAME_MAX + KEI_UID_MAX + 4];
    bool over = false;
    for (size_t it = 0; kei_json_next(kei_content(m), &it, &key, &item);) {
        struct told *t;
        if (!kei_json_get(item, "Name", &name) || !kei_json_get(item, "UID", &uid))
            continue;
        /* by both: the end of an earlier pod of the name counts, too */
        size_t n = kei_json_copy(pod, KEI_NODE_NAME_MAX + 2, name);
        pod[n++] = '/';
        n += kei_json_copy(pod + n, KEI_UID_MAX + 2, uid);
        if ((t = kei_map_get(last, kei_strn(pod, n)))) {
            t->item = item;
            continue;
        }
        if (last->n >= LIST_MAX) {
            over = true;
            continue;
        }
        t = kei_arena_alloc(a, sizeof *t);
        if (!t || !(t->name = kei_json_strdup(name, a)) ||
            kei_map_put(last, kei_strn(pod, n), t, NULL) < 0)
            return KE_ENOMEM;
        t->item = item;
    }
    if (over)
        kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud",
                "node %s told the status of more than %d pods at a time: the rest was ignored",
                p->name, LIST_MAX);
    return 0;
}

/* update NS/podstatus: all at once, from edges of 1.4 */
static void pod_status_list(struct kei_peer *p, struct ke_msg *m, const char *ns)
{
    struct ke_str key;
    void *value;
    struct kei_map last;
    struct kei_arena a;
    kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
    kei_map_init(&last, kei_ctx_alloc(p->cloud->ctx), kei_ctx_random64(p->cloud->ctx));
    if (gather_status(p, m, &last, &a) < 0) {
        kei_request_lost(p);
    } else {
        for (size_t it = 0; kei_map_next(&last, &it, &key, &value);) {
            const struct told *t = value;
            pod_status(p, m, ns, t->name, t->item);
        }
    }
    kei_map_free(&last);
    kei_arena_free(&a);
}

/* The status subresource by strategic merge patch; metadata.uid is a precondition. */
static void pod_patch(struct kei_peer *p, struct ke_msg *m, const struct where *w)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct kei_object *o = own_pod(p, w->ns, w->name);
    struct ke_buf patch = {0}, whole = {0}, json = {0};
    struct ke_str uid, status = {0};
    if (!o) {
        pod_error(p, m, false, w->name, "NotFound", 404, "not found");
        stray_patch(p, m, w);
        return;
    }
    kei_buf_init(&patch, kei_ctx_alloc(ctx));
    kei_buf_init(&whole, kei_ctx_alloc(ctx));
    kei_buf_init(&json, kei_ctx_alloc(ctx));
    int r = kei_patch_text(p->cloud, m, &patch);
    bool other = r == 0 && kei_json_path(kei_buf_str(&patch), "metadata.uid", &uid) &&
                 !kei_json_str_is(uid, o->uid);
    if (r == 0 && !other)
        r = kei_patch_strategic(&whole, kei_buf_str(&o->json), kei_buf_str(&patch), kei_err(ctx));
    if (r == 0 && !other &&
        (!kei_json_get(kei_buf_str(&whole), "status", &status) || kei_json_type(status) != '{'))
        r = kei_fail(ctx, KE_EINVAL, "patch of pod %s/%s leaves no status", w->ns, w->name);
    if (r == 0 && !other)
        r = kei_json_set(&json, kei_buf_str(&o->json), "status", status, kei_err(ctx));
    if (other)
        pod_error(p, m, false, w->name, "Conflict", 409, "has another uid");
    else if (r < 0)
        not_stored(p, m, false, w->name, r);
    else
        write_pod(p, m, o, kei_buf_str(&json), KEI_FORM_OBJECT_RESP, true);
    ke_buf_free(&patch);
    ke_buf_free(&whole);
    ke_buf_free(&json);
}

/* DeleteOptions with a uid precondition, or the uid as a string; what is gone already is success.
 */
static void pod_delete(struct kei_peer *p, struct ke_msg *m, const struct where *w)
{
    struct kei_object *o = own_pod(p, w->ns, w->name);
    struct ke_str content = kei_content(m), uid = {0};
    bool silent = p->dialect == KE_DIALECT_1_4;
    if (kei_json_type(content) == '"')
        uid = content;
    else if (!kei_json_path(content, "preconditions.uid", &uid))
        uid = (struct ke_str){0};
    if (!o || (uid.p && !kei_json_str_is(uid, o->uid))) {
        if (!silent)
            kei_answer_ok(p, m, NULL, 0);
        return;
    }
    struct kei_request_ctx *q =
        kei_request_new(p, m, silent ? KEI_FORM_SILENT : KEI_FORM_OK, false);
    int r = q ? kei_objects_remove(p->cloud->objects, o, kei_request_done, q)
              : kei_fail(p->cloud->ctx, KE_ENOMEM, "out of memory for pod %s", w->name);
    if (r < 0) {
        if (q)
            kei_request_free(q);
        if (!silent)
            not_stored(p, m, true, w->name, r);
    }
}

/* What a node sends as a pod of its own, made whole. */
static int whole_pod(struct kei_peer *p, struct ke_str sent, struct ke_buf *out)
{
    static const char *const gone[] = {"metadata.deletionTimestamp",
                                       "metadata.deletionGracePeriodSeconds"};
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_str none = {0};
    kei_buf_addv(out, sent);
    int r = kei_buf_ok(out) ? 0 : kei_fail(ctx, KE_ENOMEM, "out of memory for a pod");
    for (size_t i = 0; r == 0 && i < 2; i++)
        r = kei_set_raw(ctx, out, gone[i], none);
    if (r == 0)
        r = kei_set_raw(ctx, out, "apiVersion", KEI_STR("\"v1\""));
    return r < 0 ? r : kei_set_raw(ctx, out, "kind", KEI_STR("\"Pod\""));
}

/* A mirror pod; it must be this node's. */
static void pod_insert(struct kei_peer *p, struct ke_msg *m, const struct where *w)
{
    struct ke_cloud *c = p->cloud;
    struct ke_str node;
    struct ke_buf json = {0};
    if (kei_objects_get(c->objects, "pod", w->ns, w->name)) {
        pod_error(p, m, false, w->name, "AlreadyExists", 409, "already exists");
        return;
    }
    if (!kei_dns_label(kei_str(w->ns)) || !kei_dns_subdomain(kei_str(w->name)) ||
        !kei_json_path(kei_content(m), "spec.nodeName", &node) || !kei_json_str_is(node, p->name)) {
        pod_error(p, m, false, w->name, "Forbidden", 403, "is not for this node");
        return;
    }
    const char *fault = kei_mirror_fault(kei_content(m));
    if (fault) {
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "pod %s/%s of node %s was refused: it %s", w->ns,
                w->name, p->name, fault);
        pod_error(p, m, false, w->name, "Forbidden", 403, fault);
        return;
    }
    if (p->n_pods >= MIRRORS_MAX) {
        pod_error(p, m, false, w->name, "Forbidden", 403,
                  "is one too many: the limit is 200 pods of a node");
        return;
    }
    struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT_RESP, false);
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    int r = q ? whole_pod(p, kei_content(m), &json)
              : kei_fail(c->ctx, KE_ENOMEM, "out of memory for a pod");
    struct ke_str status = {0};
    if (r == 0)
        (void)kei_json_get(kei_buf_str(&json), "status", &status);
    if (r == 0)
        r = check_budget(p, NULL, kei_buf_str(&json), status);
    if (r == 0)
        r = kei_objects_write(c->objects, "pod", w->ns, w->name, kei_buf_str(&json), NULL,
                              kei_request_done, q);
    if (r < 0) {
        if (q)
            kei_request_free(q);
        not_stored(p, m, false, w->name, r);
    }
    ke_buf_free(&json);
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
        if (kei_json_type(kei_content(m)) == '[')
            pod_status_list(p, m, w.ns);
        else
            pod_status(p, m, w.ns, w.name, kei_content(m));
    } else if (kei_str_is(r->type, "podpatch") && strcmp(op, "patch") == 0) {
        pod_patch(p, m, &w);
    } else if (kei_str_is(r->type, "pod") && strcmp(op, "delete") == 0) {
        pod_delete(p, m, &w);
    } else if (kei_str_is(r->type, "pod") && strcmp(op, "insert") == 0) {
        pod_insert(p, m, &w);
    }
    kei_arena_free(&w.arena);
}
