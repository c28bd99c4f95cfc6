/* SPDX-License-Identifier: Apache-2.0 */
/* What the host sees of nodes and pods, read from their objects. Loop thread. */
#include <string.h>

#include "cloud/cloud_priv.h"

/* Without a heartbeat for so long a node is Unknown; Kubernetes' grace period. */
#define GRACE_MS 40000

static const char *text(const struct kei_object *o, const char *path, struct kei_arena *a)
{
    return kei_json_path_str(kei_buf_str(&o->json), path, a);
}

const char *kei_pod_node(const struct kei_object *o, struct kei_arena *a)
{
    return text(o, "spec.nodeName", a);
}

static const char *ready_word(struct ke_str status)
{
    struct ke_str conditions, key, item, v;
    if (kei_json_get(status, "conditions", &conditions))
        for (size_t it = 0; kei_json_next(conditions, &it, &key, &item);)
            if (kei_json_get(item, "type", &v) && kei_json_str_is(v, "Ready") &&
                kei_json_get(item, "status", &v))
                return kei_json_str_is(v, "True") ? "Ready" : "NotReady";
    return "NotReady";
}

static const char *internal_ip(struct ke_str status, struct kei_arena *a)
{
    struct ke_str list, key, item, v;
    if (kei_json_get(status, "addresses", &list))
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);)
            if (kei_json_get(item, "type", &v) && kei_json_str_is(v, "InternalIP"))
                return kei_json_path_str(item, "address", a);
    return "";
}

void kei_info_node(struct ke_cloud *c, const struct kei_object *o, bool removed,
                   void (*fn)(void *user, const struct ke_cloud_node_info *n), void *user)
{
    struct ke_cloud_node_info n = {.size = sizeof n, .name = o->name};
    struct ke_str status = {0};
    struct kei_arena a;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    const struct kei_peer *p = kei_peer_get(c, o->name, false);
    (void)kei_json_get(kei_buf_str(&o->json), "status", &status);
    n.status = ready_word(status);
    n.address = internal_ip(status, &a);
    n.version = text(o, "status.nodeInfo.kubeletVersion", &a);
    if (p) {
        n.connected = p->session != NULL;
        n.dialect = p->dialect;
        n.pending = p->pending + p->in_flight;
        n.heartbeat_ms = p->heartbeat_ms;
    }
    if (!p || ke_ctx_real_ms(c->ctx) - p->heartbeat_ms > GRACE_MS)
        n.status = "Unknown";
    if (fn)
        fn(user, &n);
    else if (c->ops.node)
        c->ops.node(c->user, &n, removed);
    kei_arena_free(&a);
}

void kei_info_pod(const struct kei_object *o, struct kei_arena *a, struct ke_cloud_pod_info *ret)
{
    struct ke_str list, key, item, v;
    int64_t n = 0;
    *ret = (struct ke_cloud_pod_info){
        .size = sizeof *ret, .pod_namespace = o->ns, .name = o->name, .uid = o->uid};
    ret->node = kei_pod_node(o, a);
    ret->phase = text(o, "status.phase", a);
    ret->reason = text(o, "status.reason", a);
    if (kei_json_path(kei_buf_str(&o->json), "spec.containers", &list))
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);)
            ret->containers++;
    if (kei_json_path(kei_buf_str(&o->json), "status.containerStatuses", &list))
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);) {
            ret->ready += kei_json_get(item, "ready", &v) && kei_json_bool(v, false);
            if (kei_json_get(item, "restartCount", &v) && kei_json_i64(v, &n))
                ret->restarts += (uint32_t)n;
            const char *reason = kei_json_path_str(item, "state.waiting.reason", a);
            if (reason[0] && !ret->reason[0])
                ret->reason = reason;
        }
    ret->deleting = kei_json_path(kei_buf_str(&o->json), "metadata.deletionTimestamp", &v) &&
                    kei_json_type(v) == '"';
}
