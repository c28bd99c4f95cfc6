/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which node a pod runs on. One with nodeName is bound, whatever the node's taints; one with
 * nodeSelector gets the matching node whose taints it tolerates, that is heard of and has the
 * fewest pods, and stays there. One that no node matches waits, and is tried again when a node
 * comes or changes its labels or taints. Work is cut into turns. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"
#include "message/k8s.h"

#define TRIES_TURN 20000 /* labels compared per turn */
#define RETRY_MS 2000

static bool away(const struct kei_peer *p)
{
    return p->unknown || (!p->session && p->heard_ms == 0);
}

static bool better(const struct kei_peer *p, const struct kei_peer *than)
{
    if (!than || away(p) != away(than))
        return !than || away(than);
    return p->n_pods < than->n_pods;
}

/* What a pod asks of its node. */
struct wish {
    struct ke_str selector, tolerations;
};

static bool matches(const struct kei_peer *p, const struct wish *w)
{
    struct ke_str labels = KEI_STR("{}"), taints = {0}, unschedulable = {0}, node;
    if (!p->node)
        return false;
    node = kei_buf_str(&p->node->json);
    (void)kei_json_path(node, "metadata.labels", &labels);
    (void)kei_json_path(node, "spec.taints", &taints);
    (void)kei_json_path(node, "spec.unschedulable", &unschedulable);
    return kei_labels_match(labels, w->selector) && !kei_json_bool(unschedulable, false) &&
           kei_taints_tolerated(taints, w->tolerations);
}

static int bind(struct ke_cloud *c, struct kei_object *pod, const struct kei_peer *p)
{
    char quoted[KEI_NODE_NAME_MAX + 3];
    struct ke_buf json = {0};
    snprintf(quoted, sizeof quoted, "\"%.253s\"", p->name);
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    int r = kei_json_set(&json, kei_buf_str(&pod->json), "spec.nodeName", kei_str(quoted),
                         kei_err(c->ctx));
    if (r == 0)
        r = kei_objects_write(c->objects, "pod", pod->ns, pod->name, kei_buf_str(&json), NULL, NULL,
                              NULL);
    ke_buf_free(&json);
    if (r == 0)
        kei_log(c->ctx, KE_LOG_INFO, "cloud", "pod %s/%s is bound to node %s", pod->ns, pod->name,
                p->name);
    return r;
}

static bool wish_of(const struct kei_pod_note *note, struct wish *ret)
{
    struct ke_str pod = kei_buf_str(&note->pod->json);
    memset(ret, 0, sizeof *ret);
    (void)kei_json_path(pod, "spec.tolerations", &ret->tolerations);
    return !kei_pod_deleting(note->pod) &&
           kei_json_path(pod, "spec.nodeSelector", &ret->selector) &&
           kei_json_type(ret->selector) == '{';
}

/* A pod that was not tried yet: all nodes. */
static int try_all(struct ke_cloud *c, struct kei_pod_note *note, uint32_t *tries)
{
    struct ke_str key;
    struct wish wish;
    struct kei_peer *best = NULL;
    void *value;
    note->fresh = false;
    if (!wish_of(note, &wish))
        return 0;
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);) {
        struct kei_peer *p = value;
        (*tries)++;
        if (matches(p, &wish) && better(p, best))
            best = p;
    }
    return best ? bind(c, note->pod, best) : 0;
}

/* One that matched none: only the nodes whose labels or taints are new since. */
static int try_new(struct ke_cloud *c, struct kei_pod_note *note)
{
    struct wish wish;
    struct kei_peer *best = NULL;
    if (!wish_of(note, &wish))
        return 0;
    KEI_LIST_EACH(l, &c->labelled)
    {
        struct kei_peer *p = KEI_OF(l, struct kei_peer, labelled);
        if (matches(p, &wish) && better(p, best))
            best = p;
    }
    return best ? bind(c, note->pod, best) : 0;
}

/* Memory comes back some time; what else is wrong stays so until the pod or a node changes. */
static void failed(struct ke_cloud *c, struct kei_pod_note *note, int r)
{
    kei_log(c->ctx, KE_LOG_ERROR, "cloud", "pod %s/%s could not be bound: %s", note->pod->ns,
            note->pod->name, ke_ctx_error(c->ctx));
    if (r == KE_ENOMEM) {
        note->fresh = true;
        (void)kei_timer_in(&c->bind, RETRY_MS);
    }
}

static void on_bind(struct kei_timer *t)
{
    struct ke_cloud *c = KEI_OF(t, struct ke_cloud, bind);
    uint32_t tries = 0;
    if (c->state != KEI_CLOUD_LOADED)
        return;
    KEI_LIST_EACH_SAFE(l, next, &c->unbound)
    {
        struct kei_pod_note *note = KEI_OF(l, struct kei_pod_note, link);
        int r = 0;
        if (!note->fresh) {
            r = try_new(c, note);
        } else if (tries > TRIES_TURN) {
            (void)kei_timer_in(&c->bind, 0);
        } else {
            r = try_all(c, note, &tries);
        }
        if (r < 0)
            failed(c, note, r);
    }
    while (!kei_list_empty(&c->labelled))
        kei_list_remove(c->labelled.next);
}

void kei_bind_soon(struct ke_cloud *c)
{
    if (c->state == KEI_CLOUD_LOADED)
        (void)kei_timer_in(&c->bind, 0);
}

void kei_bind_init(struct ke_cloud *c)
{
    kei_list_init(&c->unbound);
    kei_list_init(&c->labelled);
    kei_timer_init(c->ctx, &c->bind, on_bind);
}
