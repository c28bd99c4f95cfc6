/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sweep of a start: volumes and logs of pods that went while the node was down, or whose
 * folders could not be removed when they went. It begins when all pods are known. The job owns what
 * it needs and a reference to the engine. Listing and removing: disk worker; the rest: loop.
 */
#include <stdio.h>

#include "pod/engine.h"

/* A pod that has a note and nothing else. */
struct kei_lost {
    struct kei_lost *next;
    char uid[KEI_POD_UID_MAX + 1];
    char *key; /* NS/NAME; NULL if the note does not say */
    bool ended, succeeded;
};

struct sweep_entry {
    struct sweep_entry *next;
    const char *path, *uid;
};

struct sweep {
    struct kei_work work;
    struct kei_pods *ps;
    struct kei_arena arena;
    struct kei_map keep; /* uids that are known */
    struct kei_lost *lost;
    struct sweep_entry *entries;
    const char *pods, *logs; /* folders; logs is NULL where others may write too */
    const char *folder;      /* the one being listed */
    bool listed;
    struct kei_folder_removal rm; /* of the first entry */
};

/* ---- notes without a pod ---- */

void kei_lost_free(struct kei_pods *ps, struct kei_lost *lost)
{
    while (lost) {
        struct kei_lost *l = lost;
        lost = l->next;
        kei_free(ps->alloc, l->key);
        kei_free(ps->alloc, l);
    }
}

void kei_sweep_note(struct kei_pods *ps, struct ke_str uid, struct ke_str note)
{
    struct ke_str v, x;
    char key[400] = "";
    struct kei_lost *l = kei_pod_uid_valid(uid) ? kei_zalloc(ps->alloc, sizeof *l) : NULL;
    if (!l)
        return; /* found at the next start */
    memcpy(l->uid, uid.p, uid.n);
    if (kei_json_value(note, 0, &v, NULL) == 0 && kei_json_type(v) == '{') {
        if (kei_json_get(v, "pod", &x))
            kei_json_copy(key, sizeof key, x);
        l->ended = kei_json_get(v, "succeeded", &x);
        l->succeeded = l->ended && kei_json_bool(x, false);
    }
    struct ke_str name, ns = kei_str_cut(kei_str(key), '/', &name);
    if (kei_dns_label(ns) && kei_dns_subdomain(name))
        l->key = kei_strdup(ps->alloc, key);
    l->next = ps->lost;
    ps->lost = l;
}

/* ---- on the worker ---- */

static int add_entry(struct sweep *s, const char *folder, const char *name, const char *uid)
{
    struct sweep_entry *e = kei_arena_alloc(&s->arena, sizeof *e);
    if (!e)
        return KE_ENOMEM;
    e->path = kei_arena_printf(&s->arena, "%s/%s", folder, name);
    e->uid = kei_arena_strdup(&s->arena, kei_str(uid));
    if (!e->path || !e->uid)
        return KE_ENOMEM;
    e->next = s->entries;
    s->entries = e;
    return 0;
}

/* UID, or of a log folder NS_NAME_UID: no other part has a '_'. Other names are not ours. */
static int sweep_one(void *arg, const char *name)
{
    struct sweep *s = arg;
    const char *uid = name;
    if (s->folder == s->logs) {
        const char *first = strchr(name, '_'), *last = strrchr(name, '_');
        if (!first || first == last)
            return 0;
        uid = last + 1;
    }
    if (!kei_pod_uid_valid(kei_str(uid)) || kei_map_get(&s->keep, kei_str(uid)))
        return 0;
    return add_entry(s, s->folder, name, uid);
}

static void sweep_list(struct sweep *s, const struct ke_io *io)
{
    const char *folders[] = {s->pods, s->logs};
    for (size_t i = 0; i < 2; i++) {
        s->folder = folders[i];
        if (s->folder && io->list(io->user, s->folder, sweep_one, s) < 0)
            continue; /* not there, or found at the next start */
    }
    s->listed = true;
}

static void next_entry(struct sweep *s)
{
    s->entries = s->entries->next;
    s->rm = (struct kei_folder_removal){.root = 0};
}

static void sweep_run(struct kei_work *w)
{
    struct sweep *s = KEI_OF(w, struct sweep, work);
    const struct ke_io *io = kei_ctx_io(s->ps->ctx);
    if (!s->listed)
        sweep_list(s, io);
    if (s->entries &&
        kei_folder_remove_some(io, &s->rm, s->entries->path, KEI_REMOVE_SLICE, NULL) <= 0)
        next_entry(s); /* what could not be removed: tried at the next start */
}

/* ---- on the loop ---- */

static void tell_removed(struct kei_pods *ps, const struct kei_lost *l)
{
    char ns[64];
    const char *name = strchr(l->key, '/');
    struct ke_pod_info info = {
        .size = sizeof info,
        .pod_namespace = ns,
        .name = name + 1,
        .uid = l->uid,
        .phase = !l->ended      ? "Unknown"
                 : l->succeeded ? "Succeeded"
                                : "Failed",
        .reason = "",
        .message = "",
        .removed = 1,
    };
    snprintf(ns, sizeof ns, "%.*s", (int)(name - l->key), l->key);
    if (ps->ops.pod)
        ps->ops.pod(ps->user, &info);
}

static void sweep_done(struct kei_work *w)
{
    struct sweep *s = KEI_OF(w, struct sweep, work);
    struct kei_pods *ps = s->ps;
    while (s->entries && kei_pods_by_uid(ps, kei_str(s->entries->uid)))
        next_entry(s); /* it came again, and its volumes are made after the slice that ran */
    if (s->entries && !ps->stopped &&
        kei_work_submit(ps->ctx, &s->work, sweep_run, sweep_done) == 0)
        return;
    for (struct kei_lost *l = s->lost; l && !ps->stopped; l = l->next) {
        if (kei_pods_by_uid(ps, kei_str(l->uid)))
            continue; /* it came again meanwhile */
        kei_note_remove(ps, l->uid);
        if (l->key)
            tell_removed(ps, l);
    }
    kei_lost_free(ps, s->lost);
    kei_map_free(&s->keep);
    kei_arena_free(&s->arena);
    kei_free(ps->alloc, s);
    kei_pods_unref(ps);
}

/* The log folders of the lost, where not all that is there is ours. */
static bool add_lost(struct sweep *s)
{
    for (struct kei_lost *l = s->lost; l && !s->logs; l = l->next) {
        char name[512];
        if (!l->key || kei_map_get(&s->keep, kei_str(l->uid)))
            continue;
        int n = snprintf(name, sizeof name, "%s_%s", l->key, l->uid);
        char *slash = strchr(name, '/');
        if (n >= (int)sizeof name || !slash)
            continue;
        *slash = '_';
        if (add_entry(s, s->ps->log_folder, name, l->uid) < 0)
            return false;
    }
    return true;
}

static bool fill(struct sweep *s)
{
    struct kei_pods *ps = s->ps;
    s->pods = kei_arena_printf(&s->arena, "%s/pods", ps->data);
    const char *logs = kei_arena_printf(&s->arena, "%s/logs", ps->data);
    if (!s->pods || !logs)
        return false;
    s->logs = !strcmp(logs, ps->log_folder) ? logs : NULL;
    KEI_LIST_EACH(l, &ps->pods)
    if (kei_map_put(&s->keep, kei_str(KEI_OF(l, struct kei_pod, link)->uid), s, NULL) < 0)
        return false;
    return add_lost(s);
}

void kei_sweep(struct kei_pods *ps)
{
    struct sweep *s = kei_zalloc(ps->alloc, sizeof *s);
    if (!s)
        return; /* at the next start */
    s->ps = ps;
    ps->refs++;
    s->lost = ps->lost;
    ps->lost = NULL;
    kei_arena_init(&s->arena, ps->alloc, 0);
    kei_map_init(&s->keep, ps->alloc, kei_ctx_random64(ps->ctx));
    if (fill(s) && kei_work_submit(ps->ctx, &s->work, sweep_run, sweep_done) == 0)
        return;
    kei_lost_free(ps, s->lost); /* the notes stay for the next start */
    s->lost = NULL;
    sweep_done(&s->work);
}
