/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host sees of nodes and pods, read from their objects, and the health of nodes: Ready
 * turns Unknown when neither status nor lease came for 40 s. Loop thread. A function of the host
 * may stop or free the cloud: that happens when it has returned (depth).
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "cloud/cloud_priv.h"

static const char *text(const struct kei_object *o, const char *path, struct kei_arena *a)
{
    return kei_json_path_str(kei_buf_str(&o->json), path, a);
}

const char *kei_pod_node(struct ke_str pod, char out[KEI_NODE_NAME_MAX + 1])
{
    struct ke_str v;
    out[0] = 0;
    if (kei_json_path(pod, "spec.nodeName", &v))
        (void)kei_json_copy(out, KEI_NODE_NAME_MAX + 1, v);
    return out;
}

/* ---- health ---- */

static bool is_unknown(const struct kei_peer *p)
{
    const struct ke_cloud *c = p->cloud;
    int64_t now = ke_ctx_mono_ms(c->ctx);
    if (p->heard_ms > 0)
        return now - p->heard_ms > KEI_HEARTBEAT_MS;
    /* not since the start: it has some time to come back, if it was well when the cloud stopped */
    return p->was_unknown || now - c->started_ms > KEI_RETURN_MS;
}

static int64_t newest_version(const struct kei_peer *p)
{
    const struct kei_object *lease =
        kei_objects_get(p->cloud->objects, "lease", "kube-node-lease", p->name);
    int64_t node = p->node ? p->node->version : 0;
    return lease && lease->version > node ? lease->version : node;
}

/* Remembered, so that a start of the cloud does not make it look well. */
static void store_unknown(const struct kei_peer *p)
{
    struct ke_store_tx *tx = NULL;
    int r = ke_store_begin(&tx, p->cloud->store);
    if (r == 0)
        r = ke_store_put(tx, "health", p->name, NULL, newest_version(p), "", 0);
    if (r == 0)
        r = ke_store_commit(tx, NULL, NULL);
    else
        ke_store_abort(tx);
    if (r < 0)
        kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud", "that node %s is Unknown was not stored: %s",
                p->name, ke_ctx_error(p->cloud->ctx));
}

void kei_heartbeat(struct kei_peer *p)
{
    p->heard_ms = ke_ctx_mono_ms(p->cloud->ctx);
    p->heartbeat_ms = ke_ctx_real_ms(p->cloud->ctx);
    p->unknown = false;
}

void kei_health_check(struct ke_cloud *c)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);) {
        struct kei_peer *p = value;
        if (!p->node || p->unknown || !is_unknown(p))
            continue;
        p->unknown = true;
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "node %s is not heard of any more", p->name);
        store_unknown(p);
        kei_tell_node(c, p->node, false);
    }
}

static int64_t time_at(struct ke_str object, const char *path)
{
    struct ke_str v;
    int64_t ms = 0;
    if (kei_json_path(object, path, &v) && kei_json_type(v) == '"' && v.n > 2)
        (void)kei_time_parse(kei_strn(v.p + 1, v.n - 2), &ms);
    return ms;
}

static int64_t ready_time(struct ke_str node)
{
    struct ke_str list, key, item, v;
    if (kei_json_path(node, "status.conditions", &list))
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);)
            if (kei_json_get(item, "type", &v) && kei_json_str_is(v, "Ready"))
                return time_at(item, "lastHeartbeatTime");
    return 0;
}

/* "v1.26.15-kubeedge-v1.15.4": only a guess until the node speaks */
static uint32_t dialect_of(struct ke_str node)
{
    char version[128];
    struct ke_str v;
    uint64_t minor = 0;
    if (!kei_json_path(node, "status.nodeInfo.kubeletVersion", &v))
        return KE_DIALECT_AUTO;
    kei_json_copy(version, sizeof version, v);
    const char *at = strstr(version, "kubeedge-v1.");
    if (!at)
        return KE_DIALECT_AUTO;
    struct ke_str rest, digits = kei_str_cut(kei_str(at + 12), '.', &rest);
    if (!kei_str_u64(digits, &minor))
        return KE_DIALECT_AUTO;
    return minor < 12 ? KE_DIALECT_1_4 : minor < 16 ? KE_DIALECT_1_15 : KE_DIALECT_1_23;
}

void kei_health_load(struct kei_peer *p, int64_t unknown_at)
{
    const struct kei_object *lease =
        kei_objects_get(p->cloud->objects, "lease", "kube-node-lease", p->name);
    int64_t now = ke_ctx_real_ms(p->cloud->ctx);
    if (!p->node)
        return;
    struct ke_str node = kei_buf_str(&p->node->json);
    p->dialect = dialect_of(node);
    p->heartbeat_ms = ready_time(node);
    if (lease) {
        int64_t renewed = time_at(kei_buf_str(&lease->json), "spec.renewTime");
        p->heartbeat_ms = renewed > p->heartbeat_ms ? renewed : p->heartbeat_ms;
    }
    if (p->heartbeat_ms > now)
        p->heartbeat_ms = now; /* the node's clock is ahead */
    p->was_unknown = p->unknown = unknown_at > 0 && newest_version(p) <= unknown_at;
}

/* ---- nodes ---- */

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

void kei_info_node(struct ke_cloud *c, const struct kei_object *o, struct kei_arena *a,
                   struct ke_cloud_node_info *ret)
{
    struct ke_str status = {0};
    const struct kei_peer *p = kei_peer_get(c, o->name, false);
    *ret = (struct ke_cloud_node_info){.size = sizeof *ret, .name = o->name};
    (void)kei_json_get(kei_buf_str(&o->json), "status", &status);
    ret->status = !p || is_unknown(p) ? "Unknown" : ready_word(status);
    ret->address = internal_ip(status, a);
    ret->version = text(o, "status.nodeInfo.kubeletVersion", a);
    if (!p)
        return;
    ret->connected = p->session != NULL;
    ret->dialect = p->dialect;
    ret->pending = p->queued + p->n_flying;
    ret->heartbeat_ms = p->heartbeat_ms;
}

/* ---- pods ---- */

static void read_containers(struct ke_str pod, struct kei_arena *a, struct ke_cloud_pod_info *ret)
{
    struct ke_str list, key, item, v;
    int64_t n = 0;
    if (kei_json_path(pod, "spec.containers", &list))
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);)
            ret->containers++;
    if (!kei_json_path(pod, "status.containerStatuses", &list))
        return;
    for (size_t it = 0; kei_json_next(list, &it, &key, &item);) {
        ret->ready += kei_json_get(item, "ready", &v) && kei_json_bool(v, false);
        if (kei_json_get(item, "restartCount", &v) && kei_json_i64(v, &n) && n > 0)
            ret->restarts += n > UINT16_MAX ? UINT16_MAX : (uint32_t)n;
        const char *reason = kei_json_path_str(item, "state.waiting.reason", a);
        if (reason[0] && !ret->reason[0])
            ret->reason = reason;
    }
}

void kei_info_pod(const struct kei_object *o, struct kei_arena *a, struct ke_cloud_pod_info *ret)
{
    *ret = (struct ke_cloud_pod_info){
        .size = sizeof *ret, .pod_namespace = o->ns, .name = o->name, .uid = o->uid};
    ret->node = text(o, "spec.nodeName", a);
    ret->phase = text(o, "status.phase", a);
    ret->reason = text(o, "status.reason", a);
    read_containers(kei_buf_str(&o->json), a, ret);
    ret->deleting = kei_pod_deleting(o);
}

/* ---- the host's functions ---- */

bool kei_host_listens(const struct ke_cloud *c)
{
    return !c->ending && (c->state == KEI_CLOUD_LOADING || c->state == KEI_CLOUD_LOADED);
}

void kei_tell_node(struct ke_cloud *c, const struct kei_object *o, bool removed)
{
    struct ke_cloud_node_info n;
    struct kei_arena a;
    if (!c->ops.node || !kei_host_listens(c))
        return;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    kei_info_node(c, o, &a, &n);
    kei_host_enter(c);
    c->ops.node(c->user, &n, removed);
    kei_host_leave(c);
    kei_arena_free(&a);
}

void kei_tell_pod(struct ke_cloud *c, const struct kei_object *o, bool removed)
{
    struct ke_cloud_pod_info info;
    struct kei_arena a;
    if (!c->ops.pod || !kei_host_listens(c))
        return;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    kei_info_pod(o, &a, &info);
    kei_host_enter(c);
    c->ops.pod(c->user, &info, removed);
    kei_host_leave(c);
    kei_arena_free(&a);
}

void kei_tell_manifest_error(struct ke_cloud *c, const char *line)
{
    kei_log(c->ctx, KE_LOG_ERROR, "cloud", "manifest %s", line);
    if (!c->ops.manifest_error || !kei_host_listens(c))
        return;
    kei_host_enter(c);
    c->ops.manifest_error(c->user, line);
    kei_host_leave(c);
}
