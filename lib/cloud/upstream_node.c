/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes and leases: registration, status and heartbeat in all dialects. A node touches only what
 * bears its own name. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"
#include "message/k8s.h"

#define LEASE_NS "kube-node-lease"
/* What a failed write carries as Object: upstream's edges expect the empty structure. */
#define EMPTY_NODE                                                                                 \
    "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{},\"status\":{\"daemonEndpoints\":{"     \
    "\"kubeletEndpoint\":{\"Port\":0}},\"nodeInfo\":{\"machineID\":\"\",\"systemUUID\":\"\","      \
    "\"bootID\":\"\",\"kernelVersion\":\"\",\"osImage\":\"\",\"containerRuntimeVersion\":\"\","    \
    "\"kubeletVersion\":\"\",\"kubeProxyVersion\":\"\",\"operatingSystem\":\"\","                  \
    "\"architecture\":\"\"}}}"
#define EMPTY_LEASE "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{}}"

static struct ke_str content_of(const struct ke_msg *m)
{
    size_t n = 0;
    const char *p = ke_msg_content(m, &n);
    return kei_strn(p, n);
}

static struct kei_object *own_node(struct kei_peer *p)
{
    return kei_objects_get(p->cloud->objects, "node", "", p->name);
}

static void heartbeat(struct kei_peer *p)
{
    p->heartbeat_ms = ke_ctx_real_ms(p->cloud->ctx);
}

static void node_error(struct kei_peer *p, struct ke_msg *m, bool bare, const char *reason,
                       int code, const char *what)
{
    char text[512];
    snprintf(text, sizeof text, "nodes \"%s\" %s", p->name, what);
    kei_answer_error(p, m, bare, bare ? NULL : EMPTY_NODE, reason, code, bare ? "node" : "nodes",
                     p->name, text);
}

/* Writes the node and lets the answer follow; as_node: an answer to nodestatus is of type node. */
static void write_node(struct kei_peer *p, struct ke_msg *m, struct ke_str json, int form,
                       bool version, bool as_node)
{
    struct ke_cloud *c = p->cloud;
    struct kei_request_ctx *q = kei_request_new(p, m, form, version);
    if (!q) {
        node_error(p, m, form != KEI_FORM_OBJECT_RESP, "ServiceUnavailable", 503,
                   "were not stored");
        return;
    }
    q->as_node = as_node;
    if (kei_objects_write(c->objects, "node", "", p->name, json, NULL, kei_request_done, q) < 0) {
        kei_request_done(q, KE_EIO, NULL);
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "node %s was not stored: %s", p->name,
                ke_ctx_error(c->ctx));
    }
}

static int set_raw(struct ke_buf *b, const char *path, struct ke_str value, struct ke_ctx *ctx)
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

/* A Node as sent, made whole: kind, name, no owner-set version. */
static int whole_node(struct kei_peer *p, struct ke_str sent, struct ke_buf *out)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf name = {0};
    struct kei_jw w;
    kei_buf_init(&name, kei_ctx_alloc(ctx));
    kei_jw_init(&w, &name);
    kei_jw_str(&w, p->name);
    kei_buf_addv(out, sent);
    int r = kei_buf_ok(out) && kei_buf_ok(&name) ? 0 : KE_ENOMEM;
    if (r == 0)
        r = set_raw(out, "metadata.name", kei_buf_str(&name), ctx);
    if (r == 0)
        r = set_raw(out, "apiVersion", KEI_STR("\"v1\""), ctx);
    if (r == 0)
        r = set_raw(out, "kind", KEI_STR("\"Node\""), ctx);
    ke_buf_free(&name);
    return r;
}

/* insert NS/node/NODE, and the 1.4 form NS/nodestatus/NODE */
static void insert_node(struct kei_peer *p, struct ke_msg *m, bool old_form)
{
    struct ke_buf json = {0};
    char resource[300];
    heartbeat(p);
    if (own_node(p)) {
        snprintf(resource, sizeof resource, "default/node/%.253s", p->name);
        if (old_form)
            kei_answer_ok(p, m, resource, 0);
        else
            node_error(p, m, false, "AlreadyExists", 409, "already exists");
        return;
    }
    kei_buf_init(&json, kei_ctx_alloc(p->cloud->ctx));
    if (kei_json_type(content_of(m)) != '{' || whole_node(p, content_of(m), &json) < 0) {
        node_error(p, m, old_form, "BadRequest", 400, "is no valid Node");
    } else if (old_form) {
        write_node(p, m, kei_buf_str(&json), KEI_FORM_OK, false, true);
    } else {
        write_node(p, m, kei_buf_str(&json), KEI_FORM_OBJECT_RESP, false, false);
    }
    ke_buf_free(&json);
}

static void query_node(struct kei_peer *p, struct ke_msg *m)
{
    const struct kei_object *o = own_node(p);
    char text[512];
    if (o && o->durable > 0) {
        kei_answer(p, m, NULL, kei_buf_str(&o->json), o->version);
        return;
    }
    if (p->dialect == KE_DIALECT_1_4)
        return;
    snprintf(text, sizeof text, "node \"%s\" not found", p->name);
    kei_answer_error(p, m, true, NULL, "NotFound", 404, "node", p->name, text);
}

/* Only labels and annotations are taken from the object that was sent. */
static void update_node(struct kei_peer *p, struct ke_msg *m)
{
    static const char *const parts[] = {"labels", "annotations"};
    struct kei_object *o = own_node(p);
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf patch = {0}, out = {0};
    struct ke_str meta, part;
    struct kei_jw w;
    if (!o) {
        if (p->dialect != KE_DIALECT_1_4)
            node_error(p, m, true, "NotFound", 404, "not found");
        return;
    }
    kei_buf_init(&patch, kei_ctx_alloc(ctx));
    kei_buf_init(&out, kei_ctx_alloc(ctx));
    kei_jw_init(&w, &patch);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    for (size_t i = 0; i < 2; i++)
        if (kei_json_get(content_of(m), "metadata", &meta) && kei_json_get(meta, parts[i], &part) &&
            kei_json_type(part) == '{')
            kei_jw_kraw(&w, parts[i], part);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    if (kei_buf_ok(&patch) &&
        kei_patch_merge(&out, kei_buf_str(&o->json), kei_buf_str(&patch), kei_err(ctx)) == 0)
        write_node(p, m, kei_buf_str(&out), KEI_FORM_OK, true, false);
    else
        node_error(p, m, true, "BadRequest", 400, "could not be updated");
    ke_buf_free(&patch);
    ke_buf_free(&out);
}

/* 1.4: the whole status replaces; a kubelet port that is set stays. */
static void update_status(struct kei_peer *p, struct ke_msg *m)
{
    struct kei_object *o = own_node(p);
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf json = {0};
    struct ke_str status, port;
    int64_t number = 0;
    if (!o || !kei_json_get(content_of(m), "Status", &status) || kei_json_type(status) != '{')
        return; /* such a node reads any answer as success: silence, as upstream */
    heartbeat(p);
    kei_buf_init(&json, kei_ctx_alloc(ctx));
    kei_buf_addv(&json, kei_buf_str(&o->json));
    bool keep_port = kei_json_path(kei_buf_str(&o->json),
                                   "status.daemonEndpoints.kubeletEndpoint.Port", &port) &&
                     kei_json_i64(port, &number) && number != 0;
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    int r = kei_buf_ok(&json) ? set_raw(&json, "status", status, ctx) : KE_ENOMEM;
    if (r == 0 && keep_port)
        r = set_raw(&json, "status.daemonEndpoints.kubeletEndpoint.Port", kei_str(text), ctx);
    if (r == 0)
        write_node(p, m, kei_buf_str(&json), KEI_FORM_OK, true, true);
    ke_buf_free(&json);
}

/* The status subresource: whatever the patch says of spec does not count. */
static void patch_node(struct kei_peer *p, struct ke_msg *m)
{
    struct kei_object *o = own_node(p);
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf patch = {0}, out = {0};
    struct ke_str spec, uid;
    heartbeat(p);
    if (!o) {
        node_error(p, m, false, "NotFound", 404, "not found");
        return;
    }
    kei_buf_init(&patch, kei_ctx_alloc(ctx));
    kei_buf_init(&out, kei_ctx_alloc(ctx));
    int r = kei_patch_text(p->cloud, m, &patch);
    if (r == 0 && kei_json_path(kei_buf_str(&patch), "metadata.uid", &uid) &&
        !kei_json_str_is(uid, o->uid)) {
        node_error(p, m, false, "Conflict", 409, "has another uid");
        goto out;
    }
    if (r == 0)
        r = kei_patch_strategic(&out, kei_buf_str(&o->json), kei_buf_str(&patch), kei_err(ctx));
    if (r == 0 && kei_json_get(kei_buf_str(&o->json), "spec", &spec))
        r = set_raw(&out, "spec", spec, ctx);
    if (r < 0)
        node_error(p, m, false, "BadRequest", 400, "could not be patched");
    else
        write_node(p, m, kei_buf_str(&out), KEI_FORM_OBJECT_RESP, true, false);
out:
    ke_buf_free(&patch);
    ke_buf_free(&out);
}

/* ---- leases ---- */

static void lease_error(struct kei_peer *p, struct ke_msg *m, const char *empty, const char *reason,
                        int code, const char *what)
{
    char text[512];
    snprintf(text, sizeof text, "lease.coordination.k8s.io \"%s\" %s", p->name, what);
    kei_answer_error(p, m, false, empty, reason, code, "lease", p->name, text);
}

static void write_lease(struct kei_peer *p, struct ke_msg *m)
{
    struct ke_cloud *c = p->cloud;
    struct ke_buf json = {0};
    struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT_RESP, false);
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    kei_buf_addv(&json, content_of(m));
    int r = q && kei_buf_ok(&json) ? 0 : KE_ENOMEM;
    if (r == 0)
        r = set_raw(&json, "apiVersion", KEI_STR("\"coordination.k8s.io/v1\""), c->ctx);
    if (r == 0)
        r = set_raw(&json, "kind", KEI_STR("\"Lease\""), c->ctx);
    if (r == 0) {
        r = kei_objects_write(c->objects, "lease", LEASE_NS, p->name, kei_buf_str(&json), NULL,
                              kei_request_done, q);
        if (r == 0)
            q = NULL;
    }
    if (q)
        kei_request_free(q);
    if (r < 0)
        lease_error(p, m, EMPTY_LEASE, "ServiceUnavailable", 503, "was not stored");
    ke_buf_free(&json);
}

/* An API server refuses it; edges that lost their Node send it and count on the refusal. */
static bool owner_without_uid(struct ke_str lease)
{
    struct ke_str owners, key, owner, uid;
    if (!kei_json_path(lease, "metadata.ownerReferences", &owners))
        return false;
    for (size_t it = 0; kei_json_next(owners, &it, &key, &owner);)
        if (!kei_json_get(owner, "uid", &uid) || kei_json_str_is(uid, ""))
            return true;
    return false;
}

static bool version_is(struct ke_str lease, int64_t version)
{
    struct ke_str text;
    int64_t v = 0;
    if (!kei_json_path(lease, "metadata.resourceVersion", &text) || text.n < 3)
        return true; /* none given: no condition */
    return kei_str_i64(kei_strn(text.p + 1, text.n - 2), &v) && v == version;
}

static void lease(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r)
{
    const char *op = ke_msg_operation(m);
    struct kei_object *o = kei_objects_get(p->cloud->objects, "lease", LEASE_NS, p->name);
    struct ke_str name;
    if (!kei_str_is(r->name, p->name)) { /* also the empty name of an upstream edge gone astray */
        lease_error(p, m, EMPTY_LEASE, "Forbidden", 403, "is the only one this node may touch");
        return;
    }
    if (strcmp(op, "query") == 0) {
        if (o && o->durable > 0) {
            struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT_RESP, false);
            if (q)
                kei_request_done(q, 0, o);
        } else {
            lease_error(p, m, NULL, "NotFound", 404, "not found");
        }
    } else if (kei_json_type(content_of(m)) != '{' ||
               !kei_json_path(content_of(m), "metadata.name", &name) ||
               !kei_json_str_is(name, p->name)) {
        lease_error(p, m, EMPTY_LEASE, "BadRequest", 400, "is not what was sent");
    } else if (strcmp(op, "insert") == 0 && o) {
        lease_error(p, m, EMPTY_LEASE, "AlreadyExists", 409, "already exists");
    } else if (strcmp(op, "insert") == 0 && owner_without_uid(content_of(m))) {
        lease_error(
            p, m, EMPTY_LEASE, "Invalid", 422,
            "is invalid: metadata.ownerReferences.uid: Invalid value: \"\": uid must not be "
            "empty");
    } else if (strcmp(op, "update") == 0 && !o) {
        lease_error(p, m, EMPTY_LEASE, "NotFound", 404, "not found");
    } else if (strcmp(op, "update") == 0 && !version_is(content_of(m), o->version)) {
        lease_error(p, m, EMPTY_LEASE, "Conflict", 409, "has been modified; read it again");
    } else {
        heartbeat(p);
        write_lease(p, m);
    }
}

void kei_upstream_node(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r)
{
    const char *op = ke_msg_operation(m);
    if (kei_str_is(r->type, "lease")) {
        lease(p, m, r);
        return;
    }
    if (!kei_str_is(r->name, p->name)) {
        node_error(p, m, strcmp(op, "insert") != 0 && strcmp(op, "patch") != 0, "Forbidden", 403,
                   "is the only one this node may touch");
        return;
    }
    bool status = kei_str_is(r->type, "nodestatus");
    if (strcmp(op, "insert") == 0)
        insert_node(p, m, status);
    else if (strcmp(op, "query") == 0)
        query_node(p, m);
    else if (strcmp(op, "patch") == 0 && kei_str_is(r->type, "nodepatch"))
        patch_node(p, m);
    else if (strcmp(op, "update") == 0 && status)
        update_status(p, m);
    else if (strcmp(op, "update") == 0)
        update_node(p, m);
}
