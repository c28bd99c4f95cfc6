/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrives at the engine: pods, ConfigMaps and Secrets that were stored, the state of the link.
 * A change is noted at its pod, which is looked at later in the turn. Loop thread.
 */
#include <stdio.h>

#include "pod/engine.h"

#define REREAD_MS 1000

/* What could not be taken for want of memory or room is in the store still. */
void kei_pods_reread_later(struct kei_pods *ps)
{
    if (!kei_timer_armed(&ps->reread)) {
        int r = kei_timer_in(&ps->reread, REREAD_MS);
        (void)r; /* a slot is reserved */
    }
}

void kei_pods_lost_news(struct kei_pods *ps)
{
    ps->lost_news = true;
    kei_pods_reread_later(ps);
}

static bool is_mine(const struct kei_pods *ps, const struct kei_podspec *s)
{
    return !*s->node_name || !strcmp(s->node_name, ps->node_name);
}

/* Another pod of this name must be over before the new one begins. */
static void hold_for_namesake(struct kei_pod *p)
{
    KEI_LIST_EACH(l, &p->ps->pods)
    {
        struct kei_pod *o = KEI_OF(l, struct kei_pod, link);
        if (o != p && !strcmp(o->key, p->key)) {
            kei_pod_kill(o);
            p->namesake = true;
        }
    }
}

static uint32_t count_admitted(const struct kei_pods *ps)
{
    uint32_t n = 0;
    KEI_LIST_EACH(l, &ps->pods)
    {
        const struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        n += p->admitted && !p->st.final && p->st.desire == KEI_WANT_RUN;
    }
    return n;
}

static bool may_be_here(struct kei_pod *p, int64_t mono)
{
    if (p->fit == KEI_FIT_UNCHECKED)
        kei_affinity_check(p);
    if (p->fit == KEI_FIT_NO)
        kei_state_fail(&p->st, "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed", 0,
                       mono);
    return p->fit == KEI_FIT_YES;
}

void kei_pod_admit(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    int64_t mono = ke_ctx_mono_ms(ps->ctx);
    char text[KEI_MESSAGE_MAX];
    if (p->st.final)
        return;
    if (p->spec->refused_reason) {
        kei_state_fail(&p->st, p->spec->refused_reason, p->spec->refused_message, 0, mono);
    } else if (!p->admitted && p->st.desire == KEI_WANT_RUN && may_be_here(p, mono)) {
        uint32_t n = count_admitted(ps);
        if (n >= ps->max_pods) {
            snprintf(text, sizeof text,
                     "Node didn't have enough resource: pods, requested: 1, used: %u, capacity: %u",
                     n, ps->max_pods);
            kei_state_fail(&p->st, "OutOfpods", text, 0, mono);
        } else {
            p->admitted = true;
        }
    }
    if (p->spec->active_deadline_s > 0) {
        int64_t left = p->start_ms + p->spec->active_deadline_s * 1000 - ke_ctx_real_ms(ps->ctx);
        p->st.deadline_mono = mono + (left > 0 ? left : 0);
    }
}

static void begin_deletion(struct kei_pod *p)
{
    const struct kei_meta *m = &p->spec->meta;
    if (m->deletion_ms == 0)
        return;
    kei_pod_delete(p, (m->deletion_grace_s >= 0 ? m->deletion_grace_s : p->spec->grace_s) * 1000);
}

static void add_pod(struct kei_pods *ps, struct ke_str json, const char *resource)
{
    struct kei_pod *p = kei_pod_new(ps, json);
    if (!p && kei_err(ps->ctx)->code == KE_ENOMEM) {
        kei_pods_reread_later(ps);
        return;
    }
    if (!p) {
        kei_log(ps->ctx, KE_LOG_ERROR, "pod", "%s is not run: %s", resource, ke_ctx_error(ps->ctx));
        kei_report_invalid(ps, json, ke_ctx_error(ps->ctx), false);
        return;
    }
    kei_invalid_forget(ps, p->key, p->uid); /* if it was one */
    if (!is_mine(ps, p->spec)) {
        kei_pod_drop(p);
        return;
    }
    hold_for_namesake(p);
    kei_hold_pod(p);
    begin_deletion(p);
    kei_pod_admit(p);
    kei_pod_kick(p);
}

static bool same_containers(const struct kei_podspec *a, const struct kei_podspec *b)
{
    if (a->n_containers != b->n_containers)
        return false;
    for (size_t i = 0; i < a->n_containers; i++) {
        if (strcmp(a->containers[i].name, b->containers[i].name) != 0)
            return false;
    }
    return true;
}

static bool same_meta(const struct kei_podspec *a, const struct kei_podspec *b, const char *path)
{
    struct ke_str x = {NULL, 0}, y = {NULL, 0};
    bool has_x = kei_json_path(a->json, path, &x), has_y = kei_json_path(b->json, path, &y);
    return has_x == has_y && (!has_x || kei_json_same(x, y));
}

/* Only the image can change in a pod that exists; its container is replaced then. */
static void note_images(struct kei_pod *p, const struct kei_podspec *fresh)
{
    for (size_t i = 0; i < fresh->n_containers; i++) {
        struct kei_ct *c = &p->st.cts[i];
        if (!strcmp(p->spec->containers[i].image, fresh->containers[i].image))
            continue;
        p->pulled[i] = false;
        c->due_mono = c->backoff_ms = c->retry_ms = 0;
        if (c->busy || c->state == KEI_CT_CREATED || c->state == KEI_CT_RUNNING)
            c->outdated = true;
    }
}

static void update_pod(struct kei_pod *p, struct ke_str json)
{
    struct kei_pods *ps = p->ps;
    struct kei_pod_object *object = NULL;
    int r = kei_pod_object_read(ps, json, &object);
    if (r == 0 && (!object->spec.has_spec || !same_containers(p->spec, &object->spec)))
        r = kei_fail(ps->ctx, KE_EINVAL, "the containers of a pod cannot change");
    if (r < 0) {
        kei_pod_object_unref(ps, object);
        kei_log(ps->ctx, KE_LOG_WARN, "pod", "an update of pod %s was not taken: %s", p->key,
                ke_ctx_error(ps->ctx));
        if (r == KE_ENOMEM)
            kei_pods_reread_later(ps);
        return;
    }
    bool meta = same_meta(p->spec, &object->spec, "metadata.labels") &&
                same_meta(p->spec, &object->spec, "metadata.annotations");
    if (!kei_json_same(p->spec->spec, object->spec.spec)) {
        note_images(p, &object->spec);
        kei_prep_drop(p);
    }
    kei_pod_object_set(p, object);
    p->refresh = p->refresh || (!meta && p->prepared);
    begin_deletion(p);
    kei_pod_kick(p);
}

/* "" if it has none. Without memory of its own: a uid must not be taken for absent. */
static void uid_of(struct ke_str object, char out[KEI_POD_UID_MAX + 2])
{
    struct ke_str v;
    out[0] = '\0';
    if (kei_json_path(object, "metadata.uid", &v))
        kei_json_copy(out, KEI_POD_UID_MAX + 2, v);
}

/* A pod that is deleted: by its uid, or by its name if the message does not tell one. */
static void delete_pod(struct kei_pods *ps, struct ke_str object, const char *key)
{
    char uid[KEI_POD_UID_MAX + 2];
    uid_of(object, uid);
    kei_invalid_forget(ps, key, uid);
    KEI_LIST_EACH_SAFE(l, next, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        if (!strcmp(p->key, key) && (!*uid || !strcmp(p->uid, uid)))
            kei_pod_kill(p);
    }
    if (*uid)
        kei_hold_end(ps, uid);
}

static void on_pod(struct kei_pods *ps, const char *operation, struct ke_str object,
                   const char *key, const char *resource)
{
    char uid[KEI_POD_UID_MAX + 2];
    if (!strcmp(operation, "delete")) {
        delete_pod(ps, object, key);
        return;
    }
    uid_of(object, uid);
    struct kei_pod *p = *uid ? kei_pods_by_uid(ps, kei_str(uid)) : NULL;
    if (p)
        update_pod(p, object);
    else
        add_pod(ps, object, resource);
}

/* A ConfigMap or Secret changed or went: files follow, and who waited for it tries at once. */
static void on_object(struct kei_pods *ps, const char *type, const struct kei_resource *r)
{
    char ns[64], name[254];
    struct kei_arena arena;
    if (r->ns.n >= sizeof ns || r->name.n >= sizeof name)
        return;
    snprintf(ns, sizeof ns, "%.*s", KEI_FMT(r->ns));
    snprintf(name, sizeof name, "%.*s", KEI_FMT(r->name));
    KEI_LIST_EACH(l, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        kei_arena_init(&arena, ps->alloc, 0);
        if (!strcmp(p->spec->meta.ns, ns) && kei_objects_refers(p->spec, type, name, &arena)) {
            p->refresh = p->refresh || p->prepared;
            kei_pod_retry(p);
        }
        kei_arena_free(&arena);
    }
}

static void on_link(struct kei_pods *ps, bool up)
{
    ps->connected = up;
    kei_hold_link(ps, up);
    if (!up)
        return;
    if (!ps->fit_asking)
        (void)kei_timer_in(&ps->fit_timer, 0); /* always 0 */
    KEI_LIST_EACH(l, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        if (p->end == KEI_END_TOLD && p->tells_delete && p->st.desire == KEI_WANT_STOP)
            kei_pod_tell_delete(p);
        kei_pod_retry(p);
        kei_pod_dirty(p); /* the dialect may be known only now */
    }
}

void kei_pods_message(struct kei_pods *ps, struct ke_msg *m)
{
    struct kei_resource r;
    struct ke_str content;
    const char *operation = ke_msg_operation(m), *resource = ke_msg_resource(m);
    char key[320];
    content.p = ke_msg_content(m, &content.n);
    if (!strcmp(operation, "connect")) {
        on_link(ps, kei_json_str_is(content, "cloud_connected"));
        return;
    }
    if (!kei_resource_parse(&r, kei_str(resource)) || r.name.n == 0)
        return;
    if (strcmp(operation, "insert") && strcmp(operation, "update") && strcmp(operation, "delete"))
        return;
    if (kei_str_is(r.type, "pod") && r.ns.n + r.name.n + 2 <= sizeof key) {
        snprintf(key, sizeof key, "%.*s/%.*s", KEI_FMT(r.ns), KEI_FMT(r.name));
        on_pod(ps, operation, content, key, resource);
    } else if (kei_str_is(r.type, "configmap")) {
        on_object(ps, "configmap", &r);
    } else if (kei_str_is(r.type, "secret")) {
        on_object(ps, "secret", &r);
    }
}

/* Deletions may have been lost, and objects that pods refer to may have changed. */
static void catch_up(struct kei_pods *ps)
{
    KEI_LIST_EACH_SAFE(l, next, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        if (p->unread && !ps->lost_rows) {
            kei_pod_kill(p);
        } else {
            p->refresh = p->refresh || p->prepared;
            kei_pod_retry(p);
        }
    }
}

static void reread_over(struct kei_pods *ps, int status)
{
    ps->rereading = false;
    if (status < 0 && status != KE_ENOTFOUND) {
        kei_pods_reread_later(ps);
    } else if (ps->lost_news) {
        ps->lost_news = false;
        catch_up(ps);
    }
}

static void on_stored_pod(void *user, int status, const struct ke_store_item *item)
{
    struct kei_pods *ps = user;
    if (item) {
        struct ke_str json = kei_strn(item->value, item->len);
        char uid[KEI_POD_UID_MAX + 2];
        if (ps->stopped || ps->load)
            return;
        on_pod(ps, "update", json, item->key, item->key);
        uid_of(json, uid);
        struct kei_pod *p = kei_pods_by_uid(ps, kei_str(uid));
        if (p)
            p->unread = false;
        return;
    }
    if (!ps->stopped)
        reread_over(ps, status);
    kei_pods_unref(ps);
}

void kei_pods_reread(struct kei_timer *t)
{
    struct kei_pods *ps = KEI_OF(t, struct kei_pods, reread);
    if (ps->rereading || ps->load) {
        kei_pods_reread_later(ps);
        return;
    }
    KEI_LIST_EACH(l, &ps->pods)
    KEI_OF(l, struct kei_pod, link)->unread = true;
    ps->refs++;
    ps->rereading = true;
    if (ke_store_list(ps->store, "o/pod", NULL, 0, on_stored_pod, ps) < 0) {
        ps->rereading = false;
        kei_pods_reread_later(ps);
        kei_pods_unref(ps);
    }
}

void kei_pod_settle_name(struct kei_pod *gone)
{
    struct kei_pods *ps = gone->ps;
    KEI_LIST_EACH(l, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        if (p == gone || strcmp(p->key, gone->key) != 0 || p->st.desire == KEI_WANT_KILL)
            continue;
        p->namesake = false;
        KEI_LIST_EACH(k, &ps->pods)
        { /* or yet another one of that name ends */
            const struct kei_pod *o = KEI_OF(k, struct kei_pod, link);
            if (o != p && o != gone && !strcmp(o->key, p->key))
                p->namesake = true;
        }
        kei_pod_kick(p);
    }
}

void kei_pod_begin(struct kei_pod *p)
{
    if (!is_mine(p->ps, p->spec)) {
        kei_pod_drop(p);
        return;
    }
    begin_deletion(p);
    kei_pod_admit(p);
    kei_pod_kick(p);
}
