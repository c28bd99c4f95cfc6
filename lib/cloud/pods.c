/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom the change of an object concerns, and how pods and nodes end. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "cloud/device.h"
#include "message/k8s.h"

/* ---- the end of a pod ---- */

static int mark_deleting(struct ke_cloud *c, const struct kei_object *o, struct ke_buf *out)
{
    struct ke_buf half = {0};
    struct ke_str grace;
    int64_t seconds = 30;
    char at[KEI_TIME_MAX], quoted[KEI_TIME_MAX + 2];
    kei_buf_init(&half, kei_ctx_alloc(c->ctx));
    if (!kei_json_path(kei_buf_str(&o->json), "spec.terminationGracePeriodSeconds", &grace) ||
        !kei_json_i64(grace, &seconds) || seconds < 0 || seconds > INT32_MAX) {
        grace = KEI_STR("30");
        seconds = 30;
    }
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

bool kei_pod_deleting(const struct kei_object *o)
{
    struct ke_str v;
    return kei_json_path(kei_buf_str(&o->json), "metadata.deletionTimestamp", &v) &&
           kei_json_type(v) == '"';
}

/* Deleted without grace: gone at once, whatever its node says. */
static bool is_forced(const struct kei_object *o)
{
    struct ke_str v;
    int64_t grace;
    return kei_pod_deleting(o) &&
           kei_json_path(kei_buf_str(&o->json), "metadata.deletionGracePeriodSeconds", &v) &&
           kei_json_i64(v, &grace) && grace == 0;
}

static void on_forced(struct kei_defer *d)
{
    struct ke_cloud *c = KEI_OF(d, struct ke_cloud, forced);
    struct kei_object *o;
    if (c->state != KEI_CLOUD_LOADED)
        return;
    for (size_t it = 0; (o = kei_objects_next(c->objects, "pod", &it));)
        if (is_forced(o) && o->durable == o->version)
            (void)kei_objects_remove(c->objects, o, NULL, NULL); /* it tries again by itself */
}

void kei_cloud_end_forced(struct ke_cloud *c)
{
    kei_defer(c->ctx, &c->forced, on_forced);
}

int kei_cloud_pod_delete(struct ke_cloud *c, struct kei_object *o)
{
    const struct kei_pod_note *note = o->note;
    struct ke_buf json = {0};
    if (!note || !note->peer || !kei_deliver_holds(note->peer, o))
        return kei_objects_remove(c->objects, o, NULL, NULL);
    if (kei_pod_deleting(o))
        return 0;
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    int r = mark_deleting(c, o, &json);
    if (r == 0)
        r = kei_objects_write(c->objects, "pod", o->ns, o->name, kei_buf_str(&json), NULL, NULL,
                              NULL);
    ke_buf_free(&json);
    if (r < 0)
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "deletion of pod %s/%s was not stored: %s", o->ns,
                o->name, ke_ctx_error(c->ctx));
    return r;
}

/* ---- the end of a node ---- */

int kei_cloud_node_delete(struct ke_cloud *c, const char *name)
{
    struct kei_object *o = kei_objects_get(c->objects, "node", "", name);
    struct kei_object *lease = kei_objects_get(c->objects, "lease", "kube-node-lease", name);
    struct kei_peer *p = kei_peer_get(c, name, false);
    if (!o)
        return kei_fail(c->ctx, KE_ENOTFOUND, "node %s is not known", name);
    /* Nobody is left to end them in order. Those of manifests are made anew. */
    if (p)
        KEI_LIST_EACH_SAFE(l, next, &p->pods)
        {
            (void)kei_objects_remove(c->objects, KEI_OF(l, struct kei_pod_note, link)->pod, NULL,
                                     NULL);
        }
    if (lease)
        (void)kei_objects_remove(c->objects, lease, NULL, NULL);
    return kei_objects_remove(c->objects, o, NULL, NULL);
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
    if (o && (p->peer->ours || kei_deliver_holds(p->peer, o)))
        (void)kei_deliver(p->peer, o);
}

/*
 * Our own node gets what a pod refers to before the pod: so it can start it whatever the link does.
 * Upstream's edges ask for it by themselves, but not for what they have from an earlier pod: that
 * may be old by now.
 */
static void push_references(struct kei_peer *p, const struct kei_object *pod)
{
    struct push push = {p, pod->ns};
    const struct kei_pod_note *note = pod->note;
    if (!note || !kei_pod_entitles(note))
        return;
    kei_pod_references(kei_buf_str(&pod->json), push_reference, &push);
}

void kei_push_references(struct kei_peer *p)
{
    KEI_LIST_EACH(l, &p->pods)
    {
        push_references(p, KEI_OF(l, struct kei_pod_note, link)->pod);
    }
}

static void push_node(struct kei_peer *p)
{
    if (p->node && p->dialect == KE_DIALECT_1_23 && !p->ours)
        (void)kei_deliver(p, p->node); /* these edges know their Node from the cloud alone */
}

void kei_push_all(struct ke_cloud *c)
{
    struct kei_object *o;
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);) {
        struct kei_peer *p = value;
        kei_push_references(p);
        KEI_LIST_EACH(l, &p->pods)
        {
            (void)kei_deliver(p, KEI_OF(l, struct kei_pod_note, link)->pod);
        }
        push_node(p);
        kei_devices_push(p);
    }
    for (size_t it = 0; (o = kei_objects_next(c->objects, "device", &it));)
        kei_devices_changed(c, o, false);
}

static void pod_changed(struct ke_cloud *c, struct kei_object *o, bool removed)
{
    const struct kei_pod_note *note = o->note;
    char node[KEI_NODE_NAME_MAX + 1];
    if (removed) {
        struct kei_peer *p = kei_peer_get(c, kei_pod_node(kei_buf_str(&o->json), node), false);
        if (p)
            kei_deliver_gone(p, o->type, o->ns, o->name, o->uid);
    } else if (note && note->peer) {
        push_references(note->peer, o);
        (void)kei_deliver(note->peer, o);
    }
    if (!removed && is_forced(o))
        kei_cloud_end_forced(c); /* its update goes out before */
    kei_tell_pod(c, o, removed);
    if (removed)
        kei_manifests_pod_gone(c->manifests, o);
}

struct to_users {
    const struct kei_object *o;
};

static void deliver_to_user(void *user, struct kei_pod_note *pod)
{
    if (pod->peer)
        (void)kei_deliver(pod->peer, ((struct to_users *)user)->o);
}

static void config_changed(struct ke_cloud *c, const struct kei_object *o, bool removed)
{
    struct to_users to = {o};
    struct ke_str key;
    void *value;
    if (!removed) {
        kei_index_users(c, o->type, o->ns, o->name, deliver_to_user, &to);
        kei_device_profile_changed(c, o);
        return;
    }
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);)
        kei_deliver_gone(value, o->type, o->ns, o->name, o->uid);
}

static void node_changed(struct ke_cloud *c, struct kei_object *o, bool removed)
{
    struct kei_peer *p = kei_peer_get(c, o->name, false);
    if (p && removed) {
        kei_deliver_forget(p, "node", "", o->name);
        if (p->session) /* all that upstream's cloud does, and no message of it */
            kei_session_fail(p->session, "its Node was deleted");
    } else if (p) {
        push_node(p);
    }
    kei_tell_node(c, o, removed);
}

void kei_cloud_changed(void *user, struct kei_object *o, bool removed)
{
    struct ke_cloud *c = user;
    if (c->state == KEI_CLOUD_CLOSING) {
        if (removed && o->note && kei_is_device_type(o->type))
            kei_devices_forget(c, o);
        return;
    }
    if (strcmp(o->type, "pod") == 0)
        pod_changed(c, o, removed);
    else if (strcmp(o->type, "node") == 0)
        node_changed(c, o, removed);
    else if (strcmp(o->type, "configmap") == 0 || strcmp(o->type, "secret") == 0)
        config_changed(c, o, removed);
    else if (kei_is_device_type(o->type))
        kei_devices_changed(c, o, removed);
    else if (strcmp(o->type, "devicestatus") == 0)
        kei_device_reported(c, o, removed);
}
