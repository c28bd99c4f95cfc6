/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pod is on which node and which ConfigMaps and Secrets it refers to: kept in step with the
 * objects in memory, so that nothing here walks all pods. A pod has a note, with one use for each
 * thing it refers to; the uses of one thing hang on its ref. Owns notes and refs. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "cloud/cloud_priv.h"
#include "crypto/crypto.h"

#define USES_MAX 1000 /* of one pod */

struct kei_ref {
    struct kei_link uses;
    char key[]; /* "type/ns/name" */
};

struct kei_use {
    struct kei_ref *ref;
    struct kei_pod_note *pod;
    struct kei_link link; /* in ref->uses */
};

/* ---- refs ---- */

static struct kei_ref *ref_make(struct ke_cloud *c, const char *key)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    struct kei_ref *r = kei_map_get(&c->refs, kei_str(key));
    size_t n = strlen(key) + 1;
    if (r)
        return r;
    r = kei_zalloc(a, sizeof *r + n);
    if (!r)
        return NULL;
    kei_list_init(&r->uses);
    memcpy(r->key, key, n);
    if (kei_map_put(&c->refs, kei_str(key), r, NULL) < 0) {
        kei_free(a, r);
        return NULL;
    }
    return r;
}

static void ref_check(struct ke_cloud *c, struct kei_ref *r)
{
    if (!kei_list_empty(&r->uses))
        return;
    (void)kei_map_remove(&c->refs, kei_str(r->key));
    kei_free(kei_ctx_alloc(c->ctx), r);
}

static void uses_free(struct ke_cloud *c, struct kei_use *uses, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        kei_list_remove(&uses[i].link);
        ref_check(c, uses[i].ref);
    }
    kei_free(kei_ctx_alloc(c->ctx), uses);
}

/* What a pod refers to, each once. */
struct gather {
    struct ke_cloud *cloud;
    struct kei_pod_note *pod;
    const char *ns;
    struct kei_use *uses;
    size_t n, cap;
    int status;
};

static void gather_one(void *user, const char *type, const char *name)
{
    struct gather *g = user;
    const struct ke_alloc *a = kei_ctx_alloc(g->cloud->ctx);
    char key[KEI_KEY_MAX];
    if (g->status < 0 || kei_object_key(key, type, g->ns, name) < 0)
        return;
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->uses[i].ref->key, key) == 0)
            return;
    if (g->n == USES_MAX) {
        g->status =
            kei_fail(g->cloud->ctx, KE_ELIMIT,
                     "a pod refers to more ConfigMaps and Secrets than the limit of %d", USES_MAX);
        return;
    }
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 4;
        struct kei_use *more = kei_array_alloc(a, cap, sizeof *more);
        if (!more) {
            g->status = KE_ENOMEM;
            return;
        }
        if (g->n)
            memcpy(more, g->uses, g->n * sizeof *more);
        kei_free(a, g->uses);
        g->uses = more;
        g->cap = cap;
    }
    struct kei_ref *r = ref_make(g->cloud, key);
    if (!r)
        g->status = KE_ENOMEM;
    else
        g->uses[g->n++] = (struct kei_use){.ref = r, .pod = g->pod};
}

/* ---- pods ---- */

static void place(struct ke_cloud *c, struct kei_pod_note *note, struct kei_peer *p)
{
    struct kei_peer *old = note->peer;
    if (kei_list_linked(&note->link) && old == p)
        return;
    kei_list_remove(&note->link);
    if (old) {
        old->n_pods--;
        kei_peer_check(old);
    }
    note->peer = p;
    kei_list_add_tail(p ? &p->pods : &c->unbound, &note->link);
    if (p) {
        p->n_pods++;
    } else {
        note->fresh = true;
        kei_bind_soon(c);
    }
}

static void note_free(struct ke_cloud *c, struct kei_pod_note *note)
{
    struct kei_peer *p = note->peer;
    uses_free(c, note->uses, note->n_uses);
    kei_list_remove(&note->link);
    if (p) {
        p->n_pods--;
        kei_peer_check(p);
    }
    note->pod->note = NULL;
    kei_free(kei_ctx_alloc(c->ctx), note);
}

static int index_pod(struct ke_cloud *c, struct kei_object *o, struct ke_str next)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    struct kei_pod_note *note = o->note;
    struct kei_peer *p = NULL;
    char node[KEI_NODE_NAME_MAX + 1];
    struct gather g = {.cloud = c, .ns = o->ns};
    if (!next.p) {
        if (note)
            note_free(c, note);
        return 0;
    }
    if (!note && !(note = kei_zalloc(a, sizeof *note)))
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for pod %s/%s", o->ns, o->name);
    note->pod = o;
    g.pod = note;
    bool mirror = kei_pod_is_mirror(next);
    if (!mirror) /* else a node could name what it wants to read */
        kei_pod_references(next, gather_one, &g);
    if (g.status == 0 && kei_pod_node(next, node)[0] && !(p = kei_peer_get(c, node, true)))
        g.status = KE_ENOMEM;
    if (g.status < 0) {
        uses_free(c, g.uses, g.n);
        if (!o->note)
            kei_free(a, note);
        return g.status == KE_ENOMEM
                   ? kei_fail(c->ctx, KE_ENOMEM, "out of memory for pod %s/%s", o->ns, o->name)
                   : g.status;
    }
    for (size_t i = 0; i < g.n; i++)
        kei_list_add_tail(&g.uses[i].ref->uses, &g.uses[i].link);
    uses_free(c, note->uses, note->n_uses);
    note->uses = g.uses;
    note->n_uses = g.n;
    note->mirror = mirror;
    o->note = note;
    place(c, note, p);
    return 0;
}

/* ---- nodes ---- */

/* Of all that decides which pods a node may get. */
static void digest_placing(struct ke_str node, uint8_t digest[32])
{
    static const char *const paths[] = {"metadata.labels", "spec.taints", "spec.unschedulable"};
    uint8_t parts[3][32];
    for (size_t i = 0; i < 3; i++) {
        struct ke_str v = {NULL, 0};
        (void)kei_json_path(node, paths[i], &v);
        kei_sha256(v.p, v.n, parts[i]);
    }
    kei_sha256(parts, sizeof parts, digest);
}

static int index_node(struct ke_cloud *c, struct kei_object *o, struct ke_str next)
{
    struct kei_peer *p = kei_peer_get(c, o->name, next.p != NULL);
    uint8_t digest[32];
    if (!p)
        return next.p ? kei_fail(c->ctx, KE_ENOMEM, "out of memory for node %s", o->name) : 0;
    if (!next.p) {
        if (p->node)
            c->nodes--;
        p->node = NULL;
        kei_list_remove(&p->labelled);
        kei_peer_check(p);
        return 0;
    }
    if (!p->node)
        c->nodes++;
    digest_placing(next, digest);
    if (!p->node || memcmp(digest, p->placing, sizeof digest) != 0) {
        memcpy(p->placing, digest, sizeof digest);
        if (!kei_list_linked(&p->labelled))
            kei_list_add_tail(&c->labelled, &p->labelled);
        kei_bind_soon(c);
    }
    p->node = o;
    return 0;
}

int kei_index(void *cloud, struct kei_object *o, struct ke_str next)
{
    if (strcmp(o->type, "pod") == 0)
        return index_pod(cloud, o, next);
    return strcmp(o->type, "node") == 0 ? index_node(cloud, o, next) : 0;
}

bool kei_pod_entitles(const struct kei_pod_note *note)
{
    return !note->mirror && note->pod->source.n > 0;
}

bool kei_index_refers(struct kei_peer *p, const char *type, const char *ns, const char *name)
{
    char key[KEI_KEY_MAX];
    struct kei_ref *r;
    if (kei_object_key(key, type, ns, name) < 0 ||
        !(r = kei_map_get(&p->cloud->refs, kei_str(key))))
        return false;
    KEI_LIST_EACH(l, &r->uses)
    {
        const struct kei_pod_note *pod = KEI_OF(l, struct kei_use, link)->pod;
        if (pod->peer == p && kei_pod_entitles(pod))
            return true;
    }
    return false;
}

void kei_index_users(struct ke_cloud *c, const char *type, const char *ns, const char *name,
                     void (*each)(void *user, struct kei_pod_note *pod), void *user)
{
    char key[KEI_KEY_MAX];
    struct kei_ref *r;
    if (kei_object_key(key, type, ns, name) < 0 || !(r = kei_map_get(&c->refs, kei_str(key))))
        return;
    KEI_LIST_EACH(l, &r->uses)
    {
        struct kei_pod_note *pod = KEI_OF(l, struct kei_use, link)->pod;
        if (kei_pod_entitles(pod))
            each(user, pod);
    }
}

/* Before peers and objects: the notes point to both. */
void kei_index_free(struct ke_cloud *c)
{
    struct kei_object *o;
    struct ke_str key;
    void *value;
    if (c->objects)
        for (size_t it = 0; (o = kei_objects_next(c->objects, "pod", &it));)
            if (o->note)
                note_free(c, o->note);
    for (size_t it = 0; kei_map_next(&c->refs, &it, &key, &value);)
        kei_free(kei_ctx_alloc(c->ctx), value);
    kei_map_free(&c->refs);
}
