/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes: registration, status and heartbeat in all dialects. A node touches only what bears its own
 * name. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"
#include "message/k8s.h"

/* What a failed write carries as Object: upstream's edges expect the empty structure. */
#define EMPTY_NODE                                                                                 \
    "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{},\"status\":{\"daemonEndpoints\":{"     \
    "\"kubeletEndpoint\":{\"Port\":0}},\"nodeInfo\":{\"machineID\":\"\",\"systemUUID\":\"\","      \
    "\"bootID\":\"\",\"kernelVersion\":\"\",\"osImage\":\"\",\"containerRuntimeVersion\":\"\","    \
    "\"kubeletVersion\":\"\",\"kubeProxyVersion\":\"\",\"operatingSystem\":\"\","                  \
    "\"architecture\":\"\"}}}"

static void node_error(struct kei_peer *p, struct ke_msg *m, bool bare, const char *reason,
                       int code, const char *what)
{
    char text[KE_ERROR_TEXT_MAX + 300];
    snprintf(text, sizeof text, "nodes \"%s\" %s", p->name, what);
    kei_answer_error(p, m, bare, bare ? NULL : EMPTY_NODE, reason, code, bare ? "node" : "nodes",
                     p->name, text);
}

/* As Kubernetes' NodeRestriction: what has this in its prefix is not the node's to say. */
static bool is_reserved(struct ke_str key)
{
    static const struct ke_str domain = {"node-restriction.kubernetes.io", 30};
    const char *slash = key.n ? memchr(key.p, '/', key.n) : NULL;
    struct ke_str prefix = kei_strn(key.p, slash ? (size_t)(slash - key.p) : 0);
    return kei_str_ends(prefix, domain) &&
           (prefix.n == domain.n || prefix.p[prefix.n - domain.n - 1] == '.');
}

/* Each reserved label of one is the same in the other. */
static bool reserved_in(struct ke_str one, struct ke_str other, struct kei_arena *a)
{
    struct ke_str labels, others = {0}, key, value, same;
    (void)kei_json_path(other, "metadata.labels", &others);
    if (!kei_json_path(one, "metadata.labels", &labels) || kei_json_type(labels) != '{')
        return true;
    for (size_t it = 0; kei_json_next(labels, &it, &key, &value);) {
        const char *name = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a); /* with its quotes */
        if (!name)
            return false;
        if (is_reserved(kei_str(name)) &&
            (kei_json_type(others) != '{' || !kei_json_get(others, name, &same) ||
             !kei_json_same(value, same)))
            return false;
    }
    return true;
}

static bool reserved_kept(struct kei_peer *p, struct ke_str json)
{
    struct ke_str old = p->node ? kei_buf_str(&p->node->json) : KEI_STR("{}");
    struct kei_arena a;
    kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
    bool ok = reserved_in(json, old, &a) && reserved_in(old, json, &a);
    kei_arena_free(&a);
    return ok;
}

/* Writes the node and lets the answer follow; as_node: an answer to nodestatus is of type node. */
static void write_node(struct kei_peer *p, struct ke_msg *m, struct ke_str json, int form,
                       bool version, bool as_node)
{
    struct ke_cloud *c = p->cloud;
    struct kei_request_ctx *q = kei_request_new(p, m, form, version);
    int code, r = KE_ENOMEM;
    if (!reserved_kept(p, json)) {
        if (q)
            kei_request_free(q);
        kei_log(c->ctx, KE_LOG_WARN, "cloud",
                "node %s was refused a change of its labels node-restriction.kubernetes.io/",
                p->name);
        node_error(p, m, form != KEI_FORM_OBJECT_RESP, "Forbidden", 403,
                   "may not set or change labels of node-restriction.kubernetes.io");
        return;
    }
    if (q && p->node && kei_json_same(json, kei_buf_str(&p->node->json))) {
        q->as_node = as_node;
        kei_request_done(q, 0, p->node); /* nothing changed: no new version */
        return;
    }
    if (q) {
        q->as_node = as_node;
        r = kei_objects_write(c->objects, "node", "", p->name, json, NULL, kei_request_done, q);
    }
    if (r == 0)
        return;
    kei_log(c->ctx, KE_LOG_WARN, "cloud", "node %s was not stored: %s", p->name,
            ke_ctx_error(c->ctx));
    if (q)
        kei_request_free(q);
    const char *reason = kei_write_reason(r, &code);
    node_error(p, m, form != KEI_FORM_OBJECT_RESP, reason, code, ke_ctx_error(c->ctx));
}

/* A Node as sent, made whole: kind, and nothing that only the server sets. */
static int whole_node(struct kei_peer *p, struct ke_str sent, struct ke_buf *out)
{
    static const char *const gone[] = {"metadata.deletionTimestamp",
                                       "metadata.deletionGracePeriodSeconds"};
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_str none = {0};
    kei_buf_addv(out, sent);
    int r = kei_buf_ok(out) ? 0 : kei_fail(ctx, KE_ENOMEM, "out of memory for a Node");
    for (size_t i = 0; r == 0 && i < 2; i++)
        r = kei_set_raw(ctx, out, gone[i], none);
    if (r == 0)
        r = kei_set_raw(ctx, out, "apiVersion", KEI_STR("\"v1\""));
    return r < 0 ? r : kei_set_raw(ctx, out, "kind", KEI_STR("\"Node\""));
}

/* insert NS/node/NODE, and the 1.4 form NS/nodestatus/NODE */
static void insert_node(struct kei_peer *p, struct ke_msg *m, bool old_form)
{
    struct ke_cloud *c = p->cloud;
    struct ke_buf json = {0};
    char resource[300], text[100];
    if (p->node) {
        kei_heartbeat(p);
        snprintf(resource, sizeof resource, "default/node/%.253s", p->name);
        if (old_form)
            kei_answer_ok(p, m, resource, 0);
        else
            node_error(p, m, false, "AlreadyExists", 409, "already exists");
        return;
    }
    if (c->nodes >= c->config.max_nodes) {
        snprintf(text, sizeof text, "is one too many: the limit max_nodes is %u",
                 (unsigned)c->config.max_nodes);
        node_error(p, m, old_form, "Forbidden", 403, text);
        return;
    }
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    if (kei_json_type(kei_content(m)) != '{') {
        node_error(p, m, old_form, "BadRequest", 400, "is no valid Node");
    } else if (whole_node(p, kei_content(m), &json) < 0) {
        node_error(p, m, old_form, "ServiceUnavailable", 503, ke_ctx_error(c->ctx));
    } else {
        kei_heartbeat(p);
        write_node(p, m, kei_buf_str(&json), old_form ? KEI_FORM_OK : KEI_FORM_OBJECT_RESP, false,
                   old_form);
    }
    ke_buf_free(&json);
}

static void query_node(struct kei_peer *p, struct ke_msg *m)
{
    struct kei_object *o = p->node;
    char text[512];
    if (o) {
        struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT, true);
        if (q)
            kei_request_done(q, 0, o);
        else
            node_error(p, m, true, "ServiceUnavailable", 503, "was not read");
        return;
    }
    if (p->dialect == KE_DIALECT_1_4)
        return;
    snprintf(text, sizeof text, "node \"%s\" not found", p->name);
    kei_answer_error(p, m, true, NULL, "NotFound", 404, "node", p->name, text);
}

/* base with what sent says of labels and annotations */
static int merge_metadata(struct kei_peer *p, struct ke_str base, struct ke_str sent,
                          struct ke_buf *out)
{
    static const char *const parts[] = {"labels", "annotations"};
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf patch = {0};
    struct ke_str meta, part;
    struct kei_jw w;
    kei_buf_init(&patch, kei_ctx_alloc(ctx));
    kei_jw_init(&w, &patch);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    for (size_t i = 0; i < 2; i++)
        if (kei_json_get(sent, "metadata", &meta) && kei_json_get(meta, parts[i], &part) &&
            kei_json_type(part) == '{')
            kei_jw_kraw(&w, parts[i], part);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    int r = kei_buf_ok(&patch) ? kei_patch_merge(out, base, kei_buf_str(&patch), kei_err(ctx))
                               : kei_fail(ctx, KE_ENOMEM, "out of memory for a Node");
    ke_buf_free(&patch);
    return r;
}

/* Only labels and annotations are taken from the object that was sent. */
static void update_node(struct kei_peer *p, struct ke_msg *m)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf out = {0};
    if (!p->node) {
        if (p->dialect != KE_DIALECT_1_4)
            node_error(p, m, true, "NotFound", 404, "not found");
        return;
    }
    kei_buf_init(&out, kei_ctx_alloc(ctx));
    if (merge_metadata(p, kei_buf_str(&p->node->json), kei_content(m), &out) == 0)
        write_node(p, m, kei_buf_str(&out), KEI_FORM_OK, true, false);
    else
        node_error(p, m, true, "BadRequest", 400, "could not be updated");
    ke_buf_free(&out);
}

/* 1.4: the whole status replaces; a kubelet port that is set stays. Failures are not told to such a
 * node: it reads any answer as success. */
static void update_status(struct kei_peer *p, struct ke_msg *m)
{
    struct kei_object *o = p->node;
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf json = {0};
    struct ke_str status, port;
    int64_t number = 0;
    char text[24];
    if (!o || !kei_json_get(kei_content(m), "Status", &status) || kei_json_type(status) != '{')
        return;
    kei_heartbeat(p);
    kei_buf_init(&json, kei_ctx_alloc(ctx));
    kei_buf_addv(&json, kei_buf_str(&o->json));
    bool keep_port = kei_json_path(kei_buf_str(&o->json),
                                   "status.daemonEndpoints.kubeletEndpoint.Port", &port) &&
                     kei_json_i64(port, &number) && number != 0;
    snprintf(text, sizeof text, "%lld", (long long)number);
    int r = kei_buf_ok(&json) ? kei_set_raw(ctx, &json, "status", status) : KE_ENOMEM;
    if (r == 0 && keep_port)
        r = kei_set_raw(ctx, &json, "status.daemonEndpoints.kubeletEndpoint.Port", kei_str(text));
    if (r == 0)
        write_node(p, m, kei_buf_str(&json), KEI_FORM_OK, true, true);
    ke_buf_free(&json);
}

/* What the status subresource takes of a patched Node: status, labels and annotations. */
static int take_patched(struct kei_peer *p, struct ke_str patched, struct ke_buf *out)
{
    static const char *const parts[] = {"status", "metadata.labels", "metadata.annotations"};
    struct ke_ctx *ctx = p->cloud->ctx;
    int r = 0;
    kei_buf_addv(out, kei_buf_str(&p->node->json));
    if (!kei_buf_ok(out))
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a Node");
    for (size_t i = 0; r == 0 && i < sizeof parts / sizeof parts[0]; i++) {
        struct ke_str part = {0};
        if (kei_json_path(patched, parts[i], &part) && kei_json_type(part) != '{')
            return kei_fail(ctx, KE_EINVAL, "%s of the patched Node is no map", parts[i]);
        r = kei_set_raw(ctx, out, parts[i], part);
    }
    return r;
}

static void patch_node(struct kei_peer *p, struct ke_msg *m)
{
    struct kei_object *o = p->node;
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf patch = {0}, patched = {0}, out = {0};
    struct ke_str uid;
    if (!o) {
        node_error(p, m, false, "NotFound", 404, "not found");
        return;
    }
    kei_heartbeat(p);
    kei_buf_init(&patch, kei_ctx_alloc(ctx));
    kei_buf_init(&patched, kei_ctx_alloc(ctx));
    kei_buf_init(&out, kei_ctx_alloc(ctx));
    int r = kei_patch_text(p->cloud, m, &patch);
    bool other = r == 0 && kei_json_path(kei_buf_str(&patch), "metadata.uid", &uid) &&
                 !kei_json_str_is(uid, o->uid);
    if (r == 0 && !other)
        r = kei_patch_strategic(&patched, kei_buf_str(&o->json), kei_buf_str(&patch), kei_err(ctx));
    if (r == 0 && !other)
        r = take_patched(p, kei_buf_str(&patched), &out);
    if (other)
        node_error(p, m, false, "Conflict", 409, "has another uid");
    else if (r == KE_ENOMEM)
        node_error(p, m, false, "ServiceUnavailable", 503, ke_ctx_error(ctx));
    else if (r < 0)
        node_error(p, m, false, "BadRequest", 400, "could not be patched");
    else
        write_node(p, m, kei_buf_str(&out), KEI_FORM_OBJECT_RESP, true, false);
    ke_buf_free(&patch);
    ke_buf_free(&patched);
    ke_buf_free(&out);
}

void kei_upstream_node(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r)
{
    const char *op = ke_msg_operation(m);
    bool status = kei_str_is(r->type, "nodestatus"), patch = kei_str_is(r->type, "nodepatch");
    if (!kei_str_is(r->name, p->name)) {
        if (p->dialect != KE_DIALECT_1_4)
            node_error(p, m, !patch && strcmp(op, "insert") != 0, "Forbidden", 403,
                       "is the only one this node may touch");
        return;
    }
    if (strcmp(op, "insert") == 0 && !patch)
        insert_node(p, m, status);
    else if (strcmp(op, "query") == 0 && !patch)
        query_node(p, m);
    else if (strcmp(op, "patch") == 0 && patch)
        patch_node(p, m);
    else if (strcmp(op, "update") == 0 && status)
        update_status(p, m);
    else if (strcmp(op, "update") == 0 && !patch)
        update_node(p, m);
}
