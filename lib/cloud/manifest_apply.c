/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a look found becomes objects. Each object is claimed by one file; a second file that names
 * it is wrong. An object that no file claims any more goes, unless its file is wrong at the moment.
 * Pods change in place where Kubernetes allows it and are replaced where not. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "cloud/device.h"
#include "cloud/manifests.h"
#include "message/k8s.h"

#define OBJECTS_TURN 200
#define REMAKE_MS 10000 /* a pod that ends by itself is made anew no sooner */
#define AGAIN_MS 500

/* ---- claims ---- */

static struct kei_claim *claim_make(struct kei_manifests *m, const char *key)
{
    const struct ke_alloc *a = kei_ctx_alloc(m->cloud->ctx);
    struct kei_claim *c = kei_map_get(&m->claims, kei_str(key));
    size_t n = strlen(key) + 1;
    if (c)
        return c;
    c = kei_zalloc(a, sizeof *c + n);
    if (!c)
        return NULL;
    memcpy(c->key, key, n);
    if (kei_map_put(&m->claims, kei_str(key), c, NULL) < 0) {
        kei_free(a, c);
        return NULL;
    }
    return c;
}

static void give(struct kei_claim *c, struct kei_mfile *f)
{
    kei_list_remove(&c->link);
    c->file = f;
    kei_list_add_tail(&f->claims, &c->link);
}

static void release(struct kei_manifests *m, struct kei_claim *c)
{
    kei_list_remove(&c->link);
    c->file = NULL;
    kei_list_add_tail(&m->gone, &c->link);
}

int kei_claim(struct kei_manifests *m, struct kei_mfile *f, const struct kei_manifest_doc *d,
              struct kei_claim **ret, struct kei_claim **ret_other)
{
    char key[KEI_KEY_MAX];
    int r = kei_object_key(key, d->type, d->ns, d->name);
    struct kei_claim *c = r == 0 ? claim_make(m, key) : NULL;
    if (!c)
        return r < 0 ? r : KE_ENOMEM;
    if (c->file && (c->file != f || c->look == m->look_n)) {
        *ret_other = c;
        return KE_EEXIST;
    }
    give(c, f);
    c->look = m->look_n;
    c->line = d->line;
    *ret = c;
    return 0;
}

/* "FILE\nDIGEST": what the manifest said when it was applied last */
static struct ke_str source_file(const struct kei_object *o)
{
    struct ke_str rest;
    return kei_str_cut(kei_buf_str(&o->source), '\n', &rest);
}

int kei_apply_known(struct kei_manifests *m)
{
    struct kei_object *o;
    char key[KEI_KEY_MAX], name[300];
    for (size_t it = 0; (o = kei_objects_next(m->cloud->objects, NULL, &it));) {
        struct ke_str file = source_file(o);
        if (file.n == 0 || file.n >= sizeof name)
            continue;
        memcpy(name, file.p, file.n);
        name[file.n] = 0;
        struct kei_mfile *f = kei_mfile_get(m, name, true);
        struct kei_claim *c =
            f && kei_object_key(key, o->type, o->ns, o->name) == 0 ? claim_make(m, key) : NULL;
        if (!c)
            return kei_fail(m->cloud->ctx, KE_ENOMEM, "out of memory for the manifests");
        give(c, f);
    }
    return 0;
}

/* A file that two looks did not find has gone. */
static void miss_files(struct kei_manifests *m)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&m->files, &it, &key, &value);) {
        struct kei_mfile *f = value;
        if (f->found || ++f->missed < 2)
            continue;
        while (!kei_list_empty(&f->claims))
            release(m, KEI_OF(f->claims.next, struct kei_claim, link));
        kei_mfile_free(m, f);
    }
}

/* What the file had before: still there, or released. */
static void keep_claims(struct kei_manifests *m, struct kei_mfile *f, struct kei_look_file *lf)
{
    char key[KEI_KEY_MAX];
    for (struct kei_manifest_doc *d = lf->docs; d; d = d->next) {
        struct kei_claim *c = kei_object_key(key, d->type, d->ns, d->name) == 0
                                  ? kei_map_get(&m->claims, kei_str(key))
                                  : NULL;
        if (c && c->file == f && c->look != m->look_n) {
            c->look = m->look_n;
            c->line = d->line;
            d->claim = c;
        }
    }
    if (lf->bad)
        return;
    KEI_LIST_EACH_SAFE(l, next, &f->claims)
    {
        struct kei_claim *c = KEI_OF(l, struct kei_claim, link);
        if (c->look != m->look_n)
            release(m, c);
    }
}

static void new_claims(struct kei_manifests *m, struct kei_mfile *f, struct kei_look *l,
                       struct kei_look_file *lf)
{
    char text[900];
    for (struct kei_manifest_doc *d = lf->docs; d; d = d->next) {
        struct kei_claim *c = NULL, *other = NULL;
        if (d->claim)
            continue;
        int r = kei_claim(m, f, d, &c, &other);
        if (r == KE_EEXIST) {
            snprintf(text, sizeof text, "%s %s/%s stands in %s:%u already", d->type, d->ns, d->name,
                     other->file->name, (unsigned)other->line);
            kei_look_report(l, lf, d->line, text);
            f->stale = true; /* the other may go */
        } else if (r < 0) {
            f->stale = true;
            m->again = true;
        }
        d->claim = c;
    }
}

void kei_apply_claims(struct kei_manifests *m, struct kei_look *l)
{
    miss_files(m);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < l->n_files; i++) {
            struct kei_look_file *lf = &l->files[i];
            struct kei_mfile *f = kei_mfile_get(m, lf->name, false);
            if (lf->state != KEI_LOOK_READ)
                continue;
            if (round == 0)
                keep_claims(m, f, lf);
            else
                new_claims(m, f, l, lf);
        }
}

/* ---- what may change in place ---- */

static bool in_list(struct ke_str key, const char *const *names)
{
    for (; *names; names++)
        if (kei_json_key_is(key, *names))
            return true;
    return false;
}

static bool find_member(struct ke_str object, struct ke_str raw_key, struct ke_str *ret)
{
    struct ke_str key, value;
    bool found = false;
    for (size_t it = 0; kei_json_next(object, &it, &key, &value);)
        if (kei_json_key_eq(key, raw_key)) {
            *ret = value;
            found = true;
        }
    return found;
}

/* Every member of a, but those named, is the same in b. */
static bool covers(struct ke_str a, struct ke_str b, const char *const *but)
{
    struct ke_str key, value, other;
    for (size_t it = 0; kei_json_next(a, &it, &key, &value);)
        if (!in_list(key, but) && (!find_member(b, key, &other) || !kei_json_same(value, other)))
            return false;
    return true;
}

static bool same_but(struct ke_str a, struct ke_str b, const char *const *but)
{
    return covers(a, b, but) && covers(b, a, but);
}

/* The same containers, whatever their images. */
static bool same_containers(struct ke_str spec_a, struct ke_str spec_b, const char *key)
{
    static const char *const but[] = {"image", "imagePullPolicy", NULL};
    struct ke_str a = {0}, b = {0}, k, x, y;
    size_t i = 0, j = 0;
    (void)kei_json_get(spec_a, key, &a);
    (void)kei_json_get(spec_b, key, &b);
    for (;;) {
        bool more = kei_json_next(a, &i, &k, &x);
        if (more != kei_json_next(b, &j, &k, &y))
            return false;
        if (!more)
            return true;
        if (!same_but(x, y, but))
            return false;
    }
}

/* Pods change in place only where Kubernetes allows it: metadata and the images of containers. The
 * node that a selector found belongs to the pod as long as the selector stays. */
static bool may_stay(struct ke_str pod, struct ke_str wanted)
{
    static const char *const but[] = {"containers", "initContainers", NULL};
    static const char *const but_node[] = {"containers", "initContainers", "nodeName", NULL};
    struct ke_str a, b, v;
    if (!kei_json_get(pod, "spec", &a) || !kei_json_get(wanted, "spec", &b))
        return false;
    return same_but(a, b, kei_json_get(b, "nodeName", &v) ? but : but_node) &&
           same_containers(a, b, "containers") && same_containers(a, b, "initContainers");
}

/* Does the object say all that the manifest does already? */
static bool same_content(const struct kei_object *o, struct ke_str wanted)
{
    static const char *const server[] = {"metadata", "status", "spec", NULL};
    static const char *const owned[] = {"uid", "resourceVersion", "creationTimestamp", NULL};
    static const char *const node[] = {"nodeName", NULL};
    static const char *const none[] = {NULL};
    static const char *const device[] = {"metadata", KEI_DEVICE_OWN, NULL};
    struct ke_str have = kei_buf_str(&o->json), a = {0}, b = {0}, v;
    bool is_device = kei_is_device_type(o->type); /* their status says what is desired */
    if (!same_but(have, wanted, is_device ? device : server))
        return false;
    (void)kei_json_get(have, "metadata", &a);
    (void)kei_json_get(wanted, "metadata", &b);
    if (!same_but(a, b, owned))
        return false;
    if (is_device)
        return true;
    a = b = (struct ke_str){0};
    (void)kei_json_get(have, "spec", &a);
    (void)kei_json_get(wanted, "spec", &b);
    return same_but(a, b, kei_json_get(b, "nodeName", &v) ? none : node);
}

/* ---- objects ---- */

static int write_source(struct ke_buf *out, const struct ke_alloc *a, const struct kei_claim *c,
                        const struct kei_manifest_doc *d)
{
    char hex[KEI_DIGEST * 2 + 1];
    kei_buf_init(out, a);
    kei_hex_encode(hex, d->digest, KEI_DIGEST);
    kei_buf_adds(out, c->file->name);
    kei_buf_addc(out, '\n');
    kei_buf_adds(out, hex);
    return kei_buf_ok(out) ? 0 : KE_ENOMEM;
}

/* New metadata and spec; node, status and what the server owns stay. */
static int update_pod(struct ke_cloud *c, const struct kei_object *o, struct ke_str wanted,
                      struct ke_buf *out)
{
    struct ke_buf half = {0};
    struct ke_str status = {0}, node = {0};
    kei_buf_init(&half, kei_ctx_alloc(c->ctx));
    (void)kei_json_get(kei_buf_str(&o->json), "status", &status);
    (void)kei_json_path(kei_buf_str(&o->json), "spec.nodeName", &node);
    int r = kei_json_set(&half, wanted, "status", status, kei_err(c->ctx));
    if (r == 0)
        r = kei_json_set(out, kei_buf_str(&half), "spec.nodeName", node, kei_err(c->ctx));
    ke_buf_free(&half);
    return r;
}

/* What goes along with a new version of a device; o NULL: it is new. */
static int update_device(struct ke_cloud *c, const struct kei_object *o, struct ke_str wanted,
                         struct ke_buf *out)
{
    const struct kei_object *s =
        o ? kei_objects_get(c->objects, "devicestatus", o->ns, o->name) : NULL;
    struct kei_merge_clock clock = kei_cloud_merge_clock(c);
    struct ke_str status = {0}, old = {0};
    struct ke_buf next = {0};
    int r = 0;
    kei_buf_init(&next, kei_ctx_alloc(c->ctx));
    if (s)
        status = kei_buf_str(&s->json);
    if (o)
        old = kei_buf_str(&o->json);
    if (o)
        r = kei_device_next(&next, wanted, old, status, kei_ctx_alloc(c->ctx), kei_err(c->ctx));
    if (r == 0)
        r = kei_device_decide(out, o ? kei_buf_str(&next) : wanted, old, &clock,
                              kei_ctx_alloc(c->ctx), kei_err(c->ctx));
    ke_buf_free(&next);
    return r;
}

static int write_doc(struct kei_manifests *m, const struct kei_manifest_doc *d,
                     struct kei_object *o, const struct ke_buf *source)
{
    struct ke_cloud *c = m->cloud;
    struct ke_buf json = {0};
    struct ke_str whole = kei_buf_str(&d->json), origin = kei_buf_str(source);
    int r = 0;
    if (o && same_content(o, whole) &&
        !(strcmp(d->type, "device") == 0 && kei_device_overruled(kei_buf_str(&o->json))))
        return kei_objects_set_source(c->objects, o, origin);
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    if (o && strcmp(d->type, "pod") == 0) {
        r = update_pod(c, o, whole, &json);
        whole = kei_buf_str(&json);
    } else if (strcmp(d->type, "device") == 0) {
        r = update_device(c, o, whole, &json);
        whole = kei_buf_str(&json);
    }
    if (r == 0)
        r = kei_objects_write(c->objects, d->type, d->ns, d->name, whole, &origin, NULL, NULL);
    ke_buf_free(&json);
    return r;
}

/* A pod that stands where the manifest wants another one. True: it goes first. */
static bool make_room(struct kei_manifests *m, struct kei_claim *claim,
                      const struct kei_manifest_doc *d, struct kei_object *o)
{
    if (kei_pod_deleting(o)) {
        claim->asked = true; /* its end looks here again */
        return true;
    }
    if (o->source.n > 0 && may_stay(kei_buf_str(&o->json), kei_buf_str(&d->json)))
        return false;
    kei_log(m->cloud->ctx, KE_LOG_INFO, "cloud", "pod %s/%s is replaced: its manifest changed",
            d->ns, d->name);
    claim->asked = true;
    if (kei_cloud_pod_delete(m->cloud, o) < 0)
        claim->file->stale = m->again = true;
    return true;
}

/* A node may end its pods as fast as they are made. */
static bool too_soon(struct kei_manifests *m, const struct kei_claim *claim)
{
    int64_t now = ke_ctx_mono_ms(m->cloud->ctx);
    if (claim->asked || claim->made_ms == 0 || now - claim->made_ms >= REMAKE_MS)
        return false;
    claim->file->stale = true;
    if (m->soon_ms == 0 || m->soon_ms > claim->made_ms + REMAKE_MS)
        m->soon_ms = claim->made_ms + REMAKE_MS;
    return true;
}

static void apply_doc(struct kei_manifests *m, const struct kei_manifest_doc *d)
{
    struct ke_cloud *c = m->cloud;
    struct kei_claim *claim = d->claim;
    struct kei_object *o = kei_objects_get(c->objects, d->type, d->ns, d->name);
    bool pod = strcmp(d->type, "pod") == 0;
    struct ke_buf source = {0};
    int r = write_source(&source, kei_ctx_alloc(c->ctx), claim, d);
    bool same = r == 0 && o && kei_str_eq(kei_buf_str(&source), kei_buf_str(&o->source));
    bool wait = pod && (o ? !(same && !kei_pod_deleting(o)) && make_room(m, claim, d, o)
                          : too_soon(m, claim));
    if (!wait && !same && r == 0) {
        r = write_doc(m, d, o, &source);
        if (r == 0 && pod && !o) {
            claim->made_ms = ke_ctx_mono_ms(c->ctx);
            claim->asked = false;
        }
    }
    if (r < 0) {
        if (r != KE_EAGAIN)
            kei_log(c->ctx, KE_LOG_ERROR, "cloud", "%s %s/%s was not taken: %s", d->type, d->ns,
                    d->name, r == KE_ENOMEM ? "out of memory" : ke_ctx_error(c->ctx));
        claim->file->stale = true;
        m->soon_ms = ke_ctx_mono_ms(c->ctx) + AGAIN_MS;
    }
    ke_buf_free(&source);
}

/* What others refer to comes first, and goes last. */
static int rank(const char *type)
{
    return strcmp(type, "pod") == 0 ? 2 : strcmp(type, "device") == 0 ? 1 : 0;
}

/* A walk over all documents for each rank. */
bool kei_apply_objects(struct kei_manifests *m, struct kei_look *l, size_t *it)
{
    size_t at = 0, applied = 0;
    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < l->n_files; i++)
            for (struct kei_manifest_doc *d = l->files[i].docs; d; d = d->next) {
                if (at++ < *it || !d->claim || rank(d->type) != turn)
                    continue;
                if (applied++ == OBJECTS_TURN) {
                    *it = at - 1;
                    return false;
                }
                apply_doc(m, d);
            }
    return true;
}

/* The object that nobody claims any more. */
static int remove_unclaimed(struct ke_cloud *c, const struct kei_claim *claim, int turn)
{
    struct ke_str rest;
    char type[16], ns[64];
    struct ke_str t = kei_str_cut(kei_str(claim->key), '/', &rest);
    struct ke_str n = kei_str_cut(rest, '/', &rest);
    snprintf(type, sizeof type, "%.*s", (int)t.n, t.p);
    snprintf(ns, sizeof ns, "%.*s", (int)n.n, n.p);
    if (rank(type) != turn)
        return KE_EAGAIN;
    struct kei_object *o = kei_objects_get(c->objects, type, ns, rest.p);
    if (!o || o->source.n == 0)
        return 0;
    kei_log(c->ctx, KE_LOG_INFO, "cloud", "%s %s/%s goes: its manifest is gone", o->type, o->ns,
            o->name);
    if (strcmp(o->type, "device") == 0)
        kei_device_bury(c, o);
    return turn == 2 ? kei_cloud_pod_delete(c, o) : kei_objects_remove(c->objects, o, NULL, NULL);
}

/* Pods first, then devices, then what they refer to. */
void kei_apply_gone(struct kei_manifests *m)
{
    for (int turn = 2; turn >= 0; turn--)
        KEI_LIST_EACH_SAFE(l, next, &m->gone)
        {
            struct kei_claim *claim = KEI_OF(l, struct kei_claim, link);
            if (remove_unclaimed(m->cloud, claim, turn) == 0)
                kei_claim_free(m, claim);
        }
}
