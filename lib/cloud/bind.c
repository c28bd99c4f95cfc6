/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which node a pod runs on, what a change concerns, and how a pod ends. A pod with nodeName is
 * bound; one with nodeSelector gets the matching node that has the fewest pods, and stays there.
 * Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "cloud/cloud_priv.h"
#include "message/k8s.h"

static uint32_t pods_on(struct ke_cloud *c, const char *node)
{
    struct kei_arena a;
    struct kei_object *o;
    uint32_t n = 0;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    for (size_t it = 0; (o = kei_objects_next(c->objects, "pod", &it));)
        n += strcmp(kei_pod_node(o, &a), node) == 0;
    kei_arena_free(&a);
    return n;
}

static struct kei_object *choose(struct ke_cloud *c, struct ke_str selector)
{
    struct kei_object *o, *best = NULL;
    struct ke_str labels;
    uint32_t best_n = 0;
    for (size_t it = 0; (o = kei_objects_next(c->objects, "node", &it));) {
        if (!kei_json_path(kei_buf_str(&o->json), "metadata.labels", &labels) ||
            !kei_labels_match(labels, selector))
            continue;
        uint32_t n = pods_on(c, o->name);
        if (!best || n < best_n) {
            best = o;
            best_n = n;
        }
    }
    return best;
}

static void bind_pod(struct ke_cloud *c, struct kei_object *pod)
{
    struct ke_str selector;
    struct ke_buf json = {0};
    char quoted[260];
    if (!kei_json_path(kei_buf_str(&pod->json), "spec.nodeSelector", &selector))
        return;
    const struct kei_object *node = choose(c, selector);
    if (!node)
        return;
    snprintf(quoted, sizeof quoted, "\"%.253s\"", node->name);
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    if (kei_json_set(&json, kei_buf_str(&pod->json), "spec.nodeName", kei_str(quoted),
                     kei_err(c->ctx)) == 0 &&
        kei_objects_write(c->objects, "pod", pod->ns, pod->name, kei_buf_str(&json), NULL, NULL,
                          NULL) == 0)
        kei_log(c->ctx, KE_LOG_INFO, "cloud", "pod %s/%s is bound to node %s", pod->ns, pod->name,
                node->name);
    ke_buf_free(&json);
}

void kei_bind_all(struct ke_cloud *c)
{
    struct kei_arena a;
    struct kei_object *o;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    for (size_t it = 0; (o = kei_objects_next(c->objects, "pod", &it));)
        if (!kei_pod_node(o, &a)[0])
            bind_pod(c, o);
    kei_arena_free(&a);
}

/* ---- the end of a pod ---- */

static int mark_deleting(struct ke_cloud *c, const struct kei_object *o, struct ke_buf *out)
{
    struct ke_buf half = {0};
    struct ke_str grace;
    int64_t seconds = 30;
    char at[KEI_TIME_MAX], quoted[KEI_TIME_MAX + 2];
    kei_buf_init(&half, kei_ctx_alloc(c->ctx));
    if (!kei_json_path(kei_buf_str(&o->json), "spec.terminationGracePeriodSeconds", &grace) ||
        !kei_json_i64(grace, &seconds))
        grace = KEI_STR("30");
    /* as an API server: when the grace is over, not when the deletion was asked for */
    kei_time_rfc3339(at, ke_ctx_real_ms(c->ctx) + seconds * 1000);
    snprintf(quoted, sizeof quoted, "\"%s\"", at);
    int r = kei_json_set(&half, kei_buf_str(&o->json), "metadata.deletionTimestamp",
                         kei_str(quoted), kei_err(c->ctx));
    if (r == 0)
        r = kei_json_set(out, kei_buf_str(&half), "metadata.deletionGracePeriodSeconds", grace,
                         kei_err(c->ctx));
    ke_buf_free(&half);
    return r;
}

void kei_cloud_pod_delete(struct ke_cloud *c, struct kei_object *o)
{
    struct kei_arena a;
    struct ke_buf json = {0};
    struct ke_str v;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    const char *node = kei_pod_node(o, &a);
    struct kei_peer *p = node[0] ? kei_peer_get(c, node, false) : NULL;
    bool known = p && kei_map_get(&p->deliveries, kei_str(o->uid));
    bool deleting = kei_json_path(kei_buf_str(&o->json), "metadata.deletionTimestamp", &v) &&
                    kei_json_type(v) == '"';
    kei_arena_free(&a);
    if (!known) {
        (void)kei_objects_remove(c->objects, o, NULL, NULL);
        return;
    }
    if (deleting)
        return;
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    if (mark_deleting(c, o, &json) < 0 ||
        kei_objects_write(c->objects, "pod", o->ns, o->name, kei_buf_str(&json), NULL, NULL, NULL) <
            0)
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "deletion of pod %s/%s was not stored: %s", o->ns,
                o->name, ke_ctx_error(c->ctx));
    ke_buf_free(&json);
}

/* ---- whom a change concerns ---- */

struct push {
    struct kei_peer *peer;
    const char *ns;
};

static void push_reference(void *user, const char *type, const char *name)
{
    const struct push *p = user;
    const struct kei_object *o = kei_objects_get(p->peer->cloud->objects, type, p->ns, name);
    if (o && o->durable > 0)
        kei_deliver(p->peer, o, true);
}

/* Our own node gets what a pod refers to before the pod: so it can start it whatever the link does.
 * Upstream's edges ask for it by themselves. */
static void deliver_pod(struct kei_peer *p, const struct kei_object *o)
{
    struct push push = {p, o->ns};
    if (p->ours)
        kei_pod_references(kei_buf_str(&o->json), push_reference, &push);
    kei_deliver(p, o, true);
}

void kei_cloud_push_references(struct kei_peer *p)
{
    struct kei_arena a;
    struct kei_object *o;
    if (!p->ours)
        return;
    kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
    for (size_t it = 0; (o = kei_objects_next(p->cloud->objects, "pod", &it));)
        if (strcmp(kei_pod_node(o, &a), p->name) == 0) {
            struct push push = {p, o->ns};
            kei_pod_references(kei_buf_str(&o->json), push_reference, &push);
        }
    kei_arena_free(&a);
}

static void pod_changed(struct ke_cloud *c, struct kei_object *o, bool removed)
{
    struct ke_cloud_pod_info info;
    struct kei_arena a;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    const char *node = kei_pod_node(o, &a);
    struct kei_peer *p = node[0] ? kei_peer_get(c, node, true) : NULL;
    if (p && removed)
        kei_deliver_gone(p, o->type, o->ns, o->name, o->uid);
    else if (p)
        deliver_pod(p, o);
    else if (!removed)
        bind_pod(c, o);
    if (c->ops.pod) {
        kei_info_pod(o, &a, &info);
        c->ops.pod(c->user, &info, removed);
    }
    kei_arena_free(&a);
    if (removed)
        kei_manifests_rescan(c->manifests); /* a changed manifest may wait for its old pod to go */
}

static void config_changed(struct ke_cloud *c, const struct kei_object *o, bool removed)
{
    struct ke_str key;
    struct kei_object *pod;
    struct kei_arena a;
    void *value;
    if (removed) {
        for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);) {
            struct kei_peer *p = value;
            if (kei_map_get(&p->deliveries, kei_str(o->uid)))
                kei_deliver_gone(p, o->type, o->ns, o->name, o->uid);
        }
        return;
    }
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    for (size_t it = 0; (pod = kei_objects_next(c->objects, "pod", &it));) {
        if (strcmp(pod->ns, o->ns) != 0 ||
            !kei_pod_refers(kei_buf_str(&pod->json), o->type, o->name))
            continue;
        const char *node = kei_pod_node(pod, &a);
        struct kei_peer *p = node[0] ? kei_peer_get(c, node, true) : NULL;
        if (p)
            kei_deliver(p, o, true);
    }
    kei_arena_free(&a);
}

static void node_changed(struct ke_cloud *c, struct kei_object *o, bool removed)
{
    struct kei_peer *p = kei_peer_get(c, o->name, true);
    if (p && removed && p->session)
        kei_session_close(p->session, "its Node was deleted");
    else if (p && !removed && p->dialect == KE_DIALECT_1_23 && !p->ours)
        kei_deliver(p, o, true); /* these edges know their Node from the cloud alone */
    kei_info_node(c, o, removed, NULL, NULL);
    if (!removed)
        kei_bind_all(c);
}

void kei_cloud_changed(void *user, struct kei_object *o, bool removed)
{
    struct ke_cloud *c = user;
    if (strcmp(o->type, "pod") == 0)
        pod_changed(c, o, removed);
    else if (strcmp(o->type, "node") == 0)
        node_changed(c, o, removed);
    else if (strcmp(o->type, "configmap") == 0 || strcmp(o->type, "secret") == 0)
        config_changed(c, o, removed);
}
