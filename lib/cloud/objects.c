/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects in memory over the store. A write changes memory at once, so that the next one builds on
 * it; changed() and the writer's callback come when it is on disk. A write that failed stays dirty
 * and is written again every few seconds; until then nobody was told, so nothing is lost by a
 * crash.
 */
#include "cloud/objects.h"

#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/loop.h"
#include "message/k8s.h"

#define RETRY_MS 2000
#define KEY_MAX 640

struct kei_objects {
    struct ke_ctx *ctx;
    struct ke_store *store;
    struct kei_objects_ops ops;
    void *user;
    struct kei_map map; /* "type/ns/name" */
    int64_t version;
    struct kei_timer retry;
    void (*loaded)(void *user, int status);
    void *loaded_user;
    int load_status;
};

struct pending {
    struct kei_objects *set;
    struct kei_object *object;
    int64_t version;
    bool remove;
    kei_object_fn fn;
    void *user;
};

static int make_key(char *out, const char *type, const char *ns, const char *name)
{
    int n = snprintf(out, KEY_MAX, "%s/%s/%s", type, ns, name);
    return n > 0 && n < KEY_MAX ? 0 : KE_ELIMIT;
}

static void object_free(struct kei_objects *s, struct kei_object *o)
{
    ke_buf_free(&o->json);
    ke_buf_free(&o->source);
    kei_free(kei_ctx_alloc(s->ctx), o);
}

/* One block: the struct and its four strings. */
static struct kei_object *object_new(struct kei_objects *s, const char *type, const char *ns,
                                     const char *name, const char *uid)
{
    const struct ke_alloc *a = kei_ctx_alloc(s->ctx);
    const char *in[4] = {type, ns, name, uid};
    size_t len[4], total = sizeof(struct kei_object);
    for (int i = 0; i < 4; i++) {
        len[i] = strlen(in[i]) + 1;
        total += len[i];
    }
    struct kei_object *o = kei_zalloc(a, total);
    if (!o)
        return NULL;
    char *p = (char *)(o + 1);
    const char **out[4] = {&o->type, &o->ns, &o->name, &o->uid};
    for (int i = 0; i < 4; i++) {
        memcpy(p, in[i], len[i]);
        *out[i] = p;
        p += len[i];
    }
    kei_buf_init(&o->json, a);
    kei_buf_init(&o->source, a);
    return o;
}

struct kei_object *kei_objects_get(const struct kei_objects *s, const char *type, const char *ns,
                                   const char *name)
{
    char key[KEY_MAX];
    if (make_key(key, type, ns, name) < 0)
        return NULL;
    struct kei_object *o = kei_map_get(&s->map, kei_str(key));
    return o && !o->removed ? o : NULL;
}

struct kei_object *kei_objects_next(const struct kei_objects *s, const char *type, size_t *it)
{
    struct ke_str key;
    void *value;
    while (kei_map_next(&s->map, it, &key, &value)) {
        struct kei_object *o = value;
        if (!o->removed && (!type || strcmp(o->type, type) == 0))
            return o;
    }
    return NULL;
}

/* ---- writing ---- */

static void forget(struct kei_objects *s, struct kei_object *o)
{
    char key[KEY_MAX];
    if (make_key(key, o->type, o->ns, o->name) == 0 && kei_map_get(&s->map, kei_str(key)) == o)
        (void)kei_map_remove(&s->map, kei_str(key));
    object_free(s, o);
}

static void on_committed(void *user, int status)
{
    struct pending *p = user;
    struct kei_objects *s = p->set;
    struct kei_object *o = p->object;
    kei_object_fn fn = p->fn;
    void *fn_user = p->user;
    bool remove = p->remove;
    int64_t version = p->version;
    kei_free(kei_ctx_alloc(s->ctx), p);
    o->inflight--;
    if (status < 0) {
        kei_log(s->ctx, KE_LOG_ERROR, "cloud", "%s %s/%s was not stored: %s; trying again", o->type,
                o->ns, o->name, ke_ctx_error(s->ctx));
        if (!kei_timer_armed(&s->retry))
            (void)kei_timer_in(&s->retry, RETRY_MS);
        if (fn)
            fn(fn_user, status, NULL);
        return;
    }
    if (o->durable < version)
        o->durable = version;
    if (s->ops.changed)
        s->ops.changed(s->user, o, remove);
    if (fn)
        fn(fn_user, 0, o);
    if (remove && o->inflight == 0)
        forget(s, o);
}

static int put_rows(struct kei_objects *s, struct ke_store_tx *tx, const struct kei_object *o)
{
    char bucket[32], key[KEY_MAX];
    snprintf(bucket, sizeof bucket, "o/%.20s", o->type);
    int n = snprintf(key, sizeof key, "%s/%s", o->ns, o->name);
    if (n < 0 || (size_t)n >= sizeof key)
        return kei_fail(s->ctx, KE_ELIMIT, "name of %s %s is too long", o->type, o->name);
    int r = ke_store_put(tx, "local", "version", NULL, s->version, "", 0);
    if (r < 0)
        return r;
    char source[KEY_MAX];
    (void)make_key(source, o->type, o->ns, o->name);
    if (o->removed) {
        r = ke_store_delete(tx, bucket, key, NULL);
        return r < 0 ? r : ke_store_delete(tx, "source", source, NULL);
    }
    r = ke_store_put(tx, bucket, key, o->uid, o->version, o->json.p, o->json.n);
    if (r == 0 && o->source.n > 0)
        r = ke_store_put(tx, "source", source, NULL, o->version, o->source.p, o->source.n);
    return r;
}

static int commit(struct kei_objects *s, struct kei_object *o, kei_object_fn fn, void *user)
{
    struct ke_store_tx *tx = NULL;
    struct pending *p = kei_zalloc(kei_ctx_alloc(s->ctx), sizeof *p);
    if (!p)
        return kei_fail(s->ctx, KE_ENOMEM, "out of memory to store %s %s/%s", o->type, o->ns,
                        o->name);
    *p = (struct pending){s, o, o->version, o->removed, fn, user};
    int r = ke_store_begin(&tx, s->store);
    if (r == 0) {
        r = put_rows(s, tx, o);
        if (r == 0)
            r = ke_store_commit(tx, on_committed, p);
        else
            ke_store_abort(tx);
    }
    if (r < 0) {
        kei_free(kei_ctx_alloc(s->ctx), p);
        if (!kei_timer_armed(&s->retry))
            (void)kei_timer_in(&s->retry, RETRY_MS);
        return r;
    }
    o->inflight++;
    return 0;
}

/* Whatever is newer in memory than on disk goes again. */
static void on_retry(struct kei_timer *t)
{
    struct kei_objects *s = KEI_OF(t, struct kei_objects, retry);
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&s->map, &it, &key, &value);) {
        struct kei_object *o = value;
        if (o->inflight == 0 && o->durable < o->version && commit(s, o, NULL, NULL) < 0)
            return; /* the timer is armed again */
    }
}

static int set_text(struct ke_buf *json, const char *path, const char *text, struct ke_ctx *ctx)
{
    struct ke_buf quoted = {0}, out = {0};
    struct kei_jw w;
    kei_buf_init(&quoted, kei_ctx_alloc(ctx));
    kei_buf_init(&out, kei_ctx_alloc(ctx));
    kei_jw_init(&w, &quoted);
    kei_jw_str(&w, text);
    int r = kei_buf_ok(&quoted)
                ? kei_json_set(&out, kei_buf_str(json), path, kei_buf_str(&quoted), kei_err(ctx))
                : KE_ENOMEM;
    ke_buf_free(&quoted);
    if (r < 0) {
        ke_buf_free(&out);
        return r;
    }
    ke_buf_free(json);
    *json = out;
    return 0;
}

/* metadata that the server owns */
static int stamp(struct kei_objects *s, const struct kei_object *o, int64_t version,
                 const struct kei_object *old, struct ke_buf *json)
{
    char text[KEI_TIME_MAX];
    struct kei_arena a;
    kei_arena_init(&a, kei_ctx_alloc(s->ctx), 0);
    const char *created =
        old ? kei_json_path_str(kei_buf_str(&old->json), "metadata.creationTimestamp", &a) : "";
    kei_time_rfc3339(text, ke_ctx_real_ms(s->ctx));
    int r = set_text(json, "metadata.uid", o->uid, s->ctx);
    if (r == 0)
        r = set_text(json, "metadata.creationTimestamp", created[0] ? created : text, s->ctx);
    snprintf(text, sizeof text, "%lld", (long long)version);
    if (r == 0)
        r = set_text(json, "metadata.resourceVersion", text, s->ctx);
    kei_arena_free(&a);
    return r;
}

int kei_objects_write(struct kei_objects *s, const char *type, const char *ns, const char *name,
                      struct ke_str json, const struct ke_str *source, kei_object_fn fn, void *user)
{
    char key[KEY_MAX], uid[40];
    struct kei_object *o = kei_objects_get(s, type, ns, name);
    bool fresh = !o;
    int r = make_key(key, type, ns, name);
    if (r < 0)
        return kei_fail(s->ctx, r, "name of %s %s is too long", type, name);
    if (fresh && kei_map_get(&s->map, kei_str(key)))
        return kei_fail(s->ctx, KE_EAGAIN, "%s %s/%s is being removed", type, ns, name);
    if (fresh) {
        r = kei_ctx_uuid(s->ctx, uid);
        if (r < 0)
            return r;
        o = object_new(s, type, ns, name, uid);
        if (!o)
            return kei_fail(s->ctx, KE_ENOMEM, "out of memory for %s %s/%s", type, ns, name);
    }
    struct ke_buf next = {0};
    kei_buf_init(&next, kei_ctx_alloc(s->ctx));
    kei_buf_addv(&next, json);
    r = kei_buf_ok(&next)
            ? stamp(s, o, s->version + 1, fresh ? NULL : o, &next)
            : kei_fail(s->ctx, KE_ENOMEM, "out of memory for %s %s/%s", type, ns, name);
    if (r == 0 && fresh)
        r = kei_map_put(&s->map, kei_str(key), o, NULL);
    if (r < 0) {
        ke_buf_free(&next);
        if (fresh)
            object_free(s, o);
        return r;
    }
    ke_buf_free(&o->json);
    o->json = next;
    o->version = ++s->version;
    if (source) {
        kei_buf_clear(&o->source);
        kei_buf_addv(&o->source, *source);
    }
    return commit(s, o, fn, user);
}

int kei_objects_remove(struct kei_objects *s, struct kei_object *o, kei_object_fn fn, void *user)
{
    o->removed = true;
    o->version = ++s->version;
    return commit(s, o, fn, user);
}

int64_t kei_objects_version(const struct kei_objects *s)
{
    return s->version;
}

/* ---- reading at start ---- */

static const char *const types[] = {"node", "lease", "configmap", "secret", "pod"};

static void load_object(struct kei_objects *s, const struct ke_store_item *item)
{
    char key[KEY_MAX], ns[KEY_MAX];
    const char *slash = strchr(item->key, '/');
    if (!slash || (size_t)(slash - item->key) >= sizeof ns)
        return;
    memcpy(ns, item->key, (size_t)(slash - item->key));
    ns[slash - item->key] = 0;
    const char *type = item->bucket + 2; /* after "o/" */
    struct kei_object *o = object_new(s, type, ns, slash + 1, item->uid);
    if (o) {
        kei_buf_add(&o->json, item->value, item->len);
        o->version = o->durable = item->version;
    }
    if (!o || !kei_buf_ok(&o->json) || make_key(key, type, ns, slash + 1) < 0 ||
        kei_map_put(&s->map, kei_str(key), o, NULL) < 0) {
        if (o)
            object_free(s, o);
        s->load_status = KE_ENOMEM;
        return;
    }
    if (item->version > s->version)
        s->version = item->version;
}

static void on_object(void *user, int status, const struct ke_store_item *item)
{
    struct kei_objects *s = user;
    if (item)
        load_object(s, item);
    else if (status < 0)
        s->load_status = status;
}

static void on_source(void *user, int status, const struct ke_store_item *item)
{
    struct kei_objects *s = user;
    if (item) {
        struct kei_object *o = kei_map_get(&s->map, kei_str(item->key));
        if (o)
            kei_buf_add(&o->source, item->value, item->len);
        return;
    }
    if (status < 0)
        s->load_status = status;
    s->loaded(s->loaded_user, s->load_status);
}

static void on_version(void *user, int status, const struct ke_store_item *item)
{
    struct kei_objects *s = user;
    if (status == 0 && item->version > s->version)
        s->version = item->version;
}

int kei_objects_load(struct kei_objects *s, void (*done)(void *user, int status), void *user)
{
    s->loaded = done;
    s->loaded_user = user;
    int r = ke_store_get(s->store, "local", "version", on_version, s);
    for (size_t i = 0; r == 0 && i < sizeof types / sizeof types[0]; i++) {
        char bucket[32];
        snprintf(bucket, sizeof bucket, "o/%s", types[i]);
        r = ke_store_list(s->store, bucket, "", 0, on_object, s);
    }
    return r < 0 ? r : ke_store_list(s->store, "source", "", 0, on_source, s);
}

int kei_objects_new(struct kei_objects **ret, struct ke_ctx *ctx, struct ke_store *store,
                    const struct kei_objects_ops *ops, void *user)
{
    struct kei_objects *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s);
    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the objects");
    s->ctx = ctx;
    s->store = store;
    s->ops = *ops;
    s->user = user;
    kei_map_init(&s->map, kei_ctx_alloc(ctx), kei_ctx_random64(ctx));
    kei_timer_init(ctx, &s->retry, on_retry);
    *ret = s;
    return 0;
}

void kei_objects_free(struct kei_objects *s)
{
    struct ke_str key;
    void *value;
    if (!s)
        return;
    for (size_t it = 0; kei_map_next(&s->map, &it, &key, &value);)
        object_free(s, value);
    kei_map_free(&s->map);
    kei_timer_fini(&s->retry);
    kei_free(kei_ctx_alloc(s->ctx), s);
}
