/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: a node's own, with the refusals of an API server that edges count on. Loop thread. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"
#include "message/k8s.h"

#define LEASE_NS "kube-node-lease"
#define EMPTY_LEASE "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{}}"

static void lease_error(struct kei_peer *p, struct ke_msg *m, const char *empty, const char *reason,
                        int code, const char *what)
{
    char text[KE_ERROR_TEXT_MAX + 300];
    snprintf(text, sizeof text, "lease.coordination.k8s.io \"%s\" %s", p->name, what);
    kei_answer_error(p, m, false, empty, reason, code, "lease.coordination.k8s.io", p->name, text);
}

static void not_stored(struct kei_peer *p, struct ke_msg *m, int status)
{
    int code;
    const char *reason = kei_write_reason(status, &code);
    lease_error(p, m, EMPTY_LEASE, reason, code, ke_ctx_error(p->cloud->ctx));
}

static void write_lease(struct kei_peer *p, struct ke_msg *m)
{
    struct ke_cloud *c = p->cloud;
    struct ke_buf json = {0};
    struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT_RESP, false);
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    kei_buf_addv(&json, kei_content(m));
    int r = q && kei_buf_ok(&json) ? 0 : kei_fail(c->ctx, KE_ENOMEM, "out of memory for a lease");
    if (r == 0)
        r = kei_set_raw(c->ctx, &json, "apiVersion", KEI_STR("\"coordination.k8s.io/v1\""));
    if (r == 0)
        r = kei_set_raw(c->ctx, &json, "kind", KEI_STR("\"Lease\""));
    if (r == 0) {
        r = kei_objects_write(c->objects, "lease", LEASE_NS, p->name, kei_buf_str(&json), NULL,
                              kei_request_done, q);
        if (r == 0)
            q = NULL;
    }
    if (q)
        kei_request_free(q);
    if (r < 0)
        not_stored(p, m, r);
    ke_buf_free(&json);
}

static void query_lease(struct kei_peer *p, struct ke_msg *m, struct kei_object *o)
{
    struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_OBJECT_RESP, false);
    if (q)
        kei_request_done(q, 0, o);
    else
        lease_error(p, m, NULL, "ServiceUnavailable", 503, "was not read");
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

void kei_upstream_lease(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r)
{
    const char *op = ke_msg_operation(m);
    bool query = strcmp(op, "query") == 0, insert = strcmp(op, "insert") == 0;
    struct kei_object *o = kei_objects_get(p->cloud->objects, "lease", LEASE_NS, p->name);
    struct ke_str name, sent = kei_content(m);
    if (!query && !insert && strcmp(op, "update") != 0)
        return;
    if (!kei_str_is(r->name, p->name)) { /* also the empty name of an upstream edge gone astray */
        lease_error(p, m, EMPTY_LEASE, "Forbidden", 403, "is the only one this node may touch");
    } else if (query && o) {
        query_lease(p, m, o);
    } else if (query) {
        lease_error(p, m, NULL, "NotFound", 404, "not found");
    } else if (kei_json_type(sent) != '{' || !kei_json_path(sent, "metadata.name", &name) ||
               !kei_json_str_is(name, p->name)) {
        lease_error(p, m, EMPTY_LEASE, "BadRequest", 400, "is not what was sent");
    } else if (insert && o) {
        lease_error(p, m, EMPTY_LEASE, "AlreadyExists", 409, "already exists");
    } else if (insert && owner_without_uid(sent)) {
        lease_error(p, m, EMPTY_LEASE, "Invalid", 422,
                    "is invalid: metadata.ownerReferences.uid: Invalid value: \"\": uid must not "
                    "be empty");
    } else if (!insert && !o) {
        lease_error(p, m, EMPTY_LEASE, "NotFound", 404, "not found");
    } else if (!insert && !version_is(sent, o->version)) {
        lease_error(p, m, EMPTY_LEASE, "Conflict", 409, "has been modified; read it again");
    } else {
        kei_heartbeat(p);
        write_lease(p, m);
    }
}
