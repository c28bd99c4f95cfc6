/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects in memory over the store. A write changes memory at once, so that the next one builds on
 * it; changed() and the writer's callback come when it is on disk. A write that failed stays dirty
 * and is written again every few seconds; until then nobody was told, so nothing is lost by a
 * crash. Loop thread.
 */
#include "cloud/objects.h"

#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/loop.h"
#include "message/k8s.h"

#define RETRY_MS 2000

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
    size_t load_step;
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

int kei_object_key(char out[KEI_KEY_MAX], const char *type, const char *ns, const char *name)
{
    int n = snprintf(out, KEI_KEY_MAX, "%s/%s/%s", type, ns, name);
    return n > 0 && n < KEI_KEY_MAX ? 0 : KE_ELIMIT;
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

struct kei_object *kei_objects_any(const struct kei_objects *s, const char *type, const char *ns,
                                   const char *name)
{
    char key[KEI_KEY_MAX];
    return kei_object_key(key, type, ns, name) < 0 ? NULL : kei_map_get(&s->map, kei_str(key));
}

struct kei_object *kei_objects_get(const struct kei_objects *s, const char *type, const char *ns,
                                   const char *name)
{
    struct kei_object *o = kei_objects_any(s, type, ns, name);
    return o && !o->removed ? o : NULL;
}

struct kei_object *kei_objects_next_any(const struct kei_objects *s, const char *type, size_t *it)
{
    struct ke_str key;
    void *value;
    while (kei_map_next(&s->map, it, &key, &value)) {
        struct kei_object *o = value;
        if (!type || strcmp(o->type, type) == 0)
            return o;
    }
    return NULL;
}

struct kei_object *kei_objects_next(const struct kei_objects *s, const char *type, size_t *it)
{
    struct kei_object *o;
    while ((o = kei_objects_next_any(s, type, it)) && o->removed)
        ;
    return o;
}

int64_t kei_objects_version(const struct kei_objects *s)
{
    return s->version;
}

void kei_objects_version_seen(struct kei_objects *s, int64_t version)
{
    if (version > s->version)
        s->version = version;
}

/* ---- to the disk ---- */

static void retry_later(struct kei_objects *s)
{
    if (!kei_timer_armed(&s->retry))
        (void)kei_timer_in(&s->retry, RETRY_MS);
}

static void forget(struct kei_objects *s, struct kei_object *o)
{
    char key[KEI_KEY_MAX];
    if (kei_object_key(key, o->type, o->ns, o->name) == 0)
        (void)kei_map_remove(&s->map, kei_str(key));
    object_free(s, o);
}

static void on_committed(void *user, int status)
{
    struct pending *at = user;
    struct pending p = *at;
    struct kei_objects *s = p.set;
    struct kei_object *o = p.object;
    kei_free(kei_ctx_alloc(s->ctx), at);
    if (status < 0) {
        o->inflight--;
        if (status != KE_ECANCELED)
            kei_log(s->ctx, KE_LOG_ERROR, "cloud", "%s %s/%s was not stored: %s; trying again",
                    o->type, o->ns, o->name, ke_ctx_error(s->ctx));
        retry_later(s);
        if (p.fn)
            p.fn(p.user, status, NULL);
        return;
    }
    bool news = p.remove || o->durable < p.version;
    if (o->durable < p.version)
        o->durable = p.version;
    if (p.fn)
        p.fn(p.user, 0, o);
    if (news && s->ops.changed)
        s->ops.changed(s->user, o, p.remove);
    o->inflight--; /* only now: the callbacks may write o again, but must not lose it */
    if (p.remove && o->inflight == 0)
        forget(s, o);
}

static int put_rows(struct kei_objects *s, struct ke_store_tx *tx, const struct kei_object *o)
{
    char bucket[32], key[KEI_KEY_MAX], source[KEI_KEY_MAX];
    snprintf(bucket, sizeof bucket, "o/%.20s", o->type);
    snprintf(key, sizeof key, "%s/%s", o->ns, o->name);
    (void)kei_object_key(source, o->type, o->ns, o->name); /* its length was checked at the write */
    int r = ke_store_put(tx, "local", "version", NULL, s->version, "", 0);
    if (r < 0)
        return r;
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
    if (!p) {
        retry_later(s);
        return kei_fail(s->ctx, KE_ENOMEM, "out of memory to store %s %s/%s", o->type, o->ns,
                        o->name);
    }
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
        retry_later(s);
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

/* ---- writing ---- */

/* What the server owns of an object's metadata; never taken from a writer. */
static bool is_owned(struct ke_str key)
{
    static const char *const owned[] = {
        "name",     "namespace",    "uid", "resourceVersion", "creationTimestamp",
        "selfLink", "managedFields"};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        if (kei_json_key_is(key, owned[i]))
            return true;
    return false;
}

/* Metadata as the server writes it: its own members first, then the rest of sent as it is. */
static void write_metadata(struct ke_buf *out, const struct kei_object *o, struct ke_str sent,
                           const char *created, int64_t version)
{
    struct kei_jw w;
    struct ke_str key, value;
    char text[24];
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", o->name);
    if (o->ns[0])
        kei_jw_kstr(&w, "namespace", o->ns);
    kei_jw_kstr(&w, "uid", o->uid);
    snprintf(text, sizeof text, "%lld", (long long)version);
    kei_jw_kstr(&w, "resourceVersion", text);
    kei_jw_kstr(&w, "creationTimestamp", created);
    for (size_t it = 0; kei_json_type(sent) == '{' && kei_json_next(sent, &it, &key, &value);)
        if (!is_owned(key)) {
            kei_buf_addc(out, ',');
            kei_buf_add(out, key.p - 1, (size_t)(value.p + value.n - key.p) + 1);
        }
    kei_jw_obj_end(&w);
}

/* json with the server's metadata, appended to out */
static int stamp(struct kei_objects *s, const struct kei_object *o, bool fresh, struct ke_str json,
                 struct ke_buf *out)
{
    char now[KEI_TIME_MAX];
    struct ke_str sent = {0};
    struct kei_arena a;
    struct ke_buf meta = {0};
    const char *created = "";
    if (kei_json_type(json) != '{')
        return kei_fail(s->ctx, KE_EINVAL, "%s %s is not a JSON object", o->type, o->name);
    kei_arena_init(&a, kei_ctx_alloc(s->ctx), 0);
    kei_buf_init(&meta, kei_ctx_alloc(s->ctx));
    if (!fresh)
        created = kei_json_path_str(kei_buf_str(&o->json), "metadata.creationTimestamp", &a);
    kei_time_rfc3339(now, ke_ctx_real_ms(s->ctx));
    (void)kei_json_get(json, "metadata", &sent);
    write_metadata(&meta, o, sent, created[0] ? created : now, s->version + 1);
    int r =
        kei_buf_ok(&meta)
            ? kei_json_set(out, json, "metadata", kei_buf_str(&meta), kei_err(s->ctx))
            : kei_fail(s->ctx, KE_ENOMEM, "out of memory for %s %s/%s", o->type, o->ns, o->name);
    if (r == 0 && out->n > KEI_OBJECT_MAX)
        r = kei_fail(s->ctx, KE_ELIMIT, "%s %s/%s has %zu bytes; the limit of an object is %d",
                     o->type, o->ns, o->name, out->n, KEI_OBJECT_MAX);
    ke_buf_free(&meta);
    kei_arena_free(&a);
    return r;
}

static int copy_source(struct kei_objects *s, struct ke_buf *out, struct ke_str source)
{
    kei_buf_init(out, kei_ctx_alloc(s->ctx));
    kei_buf_addv(out, source);
    if (kei_buf_ok(out))
        return 0;
    ke_buf_free(out);
    return kei_fail(s->ctx, KE_ENOMEM, "out of memory for the source of an object");
}

/* Everything that can fail, then memory changes. o is in the map already. */
static int replace(struct kei_objects *s, struct kei_object *o, bool fresh, struct ke_str json,
                   const struct ke_str *source)
{
    struct ke_buf next = {0}, origin = {0};
    kei_buf_init(&next, kei_ctx_alloc(s->ctx));
    int r = stamp(s, o, fresh, json, &next);
    if (r == 0 && source)
        r = copy_source(s, &origin, *source);
    if (r == 0 && s->ops.index)
        r = s->ops.index(s->user, o, kei_buf_str(&next));
    if (r < 0) {
        ke_buf_free(&next);
        ke_buf_free(&origin);
        return r;
    }
    ke_buf_free(&o->json);
    o->json = next;
    o->version = ++s->version;
    if (source) {
        ke_buf_free(&o->source);
        o->source = origin;
    }
    return 0;
}

static int make_object(struct kei_objects *s, const char *type, const char *ns, const char *name,
                       struct kei_object **ret)
{
    char key[KEI_KEY_MAX], uid[40];
    if (kei_object_key(key, type, ns, name) < 0)
        return kei_fail(s->ctx, KE_ELIMIT, "name of %s %.80s... is too long", type, name);
    int r = kei_ctx_uuid(s->ctx, uid);
    if (r < 0)
        return r;
    struct kei_object *o = object_new(s, type, ns, name, uid);
    if (!o || kei_map_put(&s->map, kei_str(key), o, NULL) < 0) {
        if (o)
            object_free(s, o);
        return kei_fail(s->ctx, KE_ENOMEM, "out of memory for %s %s/%s", type, ns, name);
    }
    *ret = o;
    return 0;
}

int kei_objects_write(struct kei_objects *s, const char *type, const char *ns, const char *name,
                      struct ke_str json, const struct ke_str *source, kei_object_fn fn, void *user)
{
    struct kei_object *o = kei_objects_any(s, type, ns, name);
    bool fresh = !o;
    if (o && o->removed)
        return kei_fail(s->ctx, KE_EAGAIN, "%s %s/%s is being removed", type, ns, name);
    int r = fresh ? make_object(s, type, ns, name, &o) : 0;
    if (r < 0)
        return r;
    r = replace(s, o, fresh, json, source);
    if (r < 0) {
        if (fresh)
            forget(s, o);
        return r;
    }
    return commit(s, o, fn, user);
}

int kei_objects_remove(struct kei_objects *s, struct kei_object *o, kei_object_fn fn, void *user)
{
    struct ke_str none = {0};
    if (!o->removed && s->ops.index)
        (void)s->ops.index(s->user, o, none);
    o->removed = true;
    o->version = ++s->version;
    return commit(s, o, fn, user);
}

int kei_objects_sync(struct kei_objects *s, struct kei_object *o, kei_object_fn fn, void *user)
{
    return commit(s, o, fn, user);
}

int kei_objects_set_source(struct kei_objects *s, struct kei_object *o, struct ke_str source)
{
    char key[KEI_KEY_MAX];
    struct ke_store_tx *tx = NULL;
    struct ke_buf copy = {0};
    int r = copy_source(s, &copy, source);
    if (r < 0)
        return r;
    ke_buf_free(&o->source);
    o->source = copy;
    (void)kei_object_key(key, o->type, o->ns, o->name);
    r = ke_store_begin(&tx, s->store);
    if (r < 0)
        return r;
    r = ke_store_put(tx, "source", key, NULL, o->version, source.p, source.n);
    if (r == 0)
        return ke_store_commit(tx, NULL, NULL);
    ke_store_abort(tx);
    return r;
}

/* ---- reading at start ---- */

static const char *const types[] = {"node",        "lease",  "configmap",    "secret",     "pod",
                                    "devicemodel", "device", "devicestatus", "devicegrave"};
#define TYPES (sizeof types / sizeof types[0])

static void load_next(struct kei_objects *s);

static void load_object(struct kei_objects *s, const struct ke_store_item *item)
{
    char key[KEI_KEY_MAX], ns[KEI_KEY_MAX];
    const char *slash = strchr(item->key, '/'), *type = item->bucket + 2; /* after "o/" */
    struct ke_str json = {item->value, item->len};
    if (!slash || (size_t)(slash - item->key) >= sizeof ns || kei_json_check(json, 0, NULL) < 0 ||
        kei_json_type(json) != '{') {
        kei_log(s->ctx, KE_LOG_WARN, "cloud", "row %s/%s of the store is no object: left alone",
                item->bucket, item->key);
        return;
    }
    memcpy(ns, item->key, (size_t)(slash - item->key));
    ns[slash - item->key] = 0;
    if (kei_object_key(key, type, ns, slash + 1) < 0)
        return;
    struct kei_object *o = object_new(s, type, ns, slash + 1, item->uid);
    if (o) {
        kei_buf_addv(&o->json, json);
        o->version = o->durable = item->version;
    }
    if (!o || !kei_buf_ok(&o->json) || kei_map_put(&s->map, kei_str(key), o, NULL) < 0) {
        if (o)
            object_free(s, o);
        s->load_status = KE_ENOMEM;
        return;
    }
    if (s->ops.index && s->ops.index(s->user, o, json) < 0)
        s->load_status = KE_ENOMEM;
    kei_objects_version_seen(s, item->version);
}

static void load_source(struct kei_objects *s, const struct ke_store_item *item)
{
    struct kei_object *o = kei_map_get(&s->map, kei_str(item->key));
    if (!o)
        return;
    kei_buf_clear(&o->source);
    kei_buf_add(&o->source, item->value, item->len);
    if (!kei_buf_ok(&o->source))
        s->load_status = KE_ENOMEM;
}

static void on_item(void *user, int status, const struct ke_store_item *item)
{
    struct kei_objects *s = user;
    if (item && s->load_step < TYPES)
        load_object(s, item);
    else if (item)
        load_source(s, item);
    if (item)
        return;
    if (status < 0)
        s->load_status = status;
    s->load_step++;
    load_next(s);
}

static void on_version(void *user, int status, const struct ke_store_item *item)
{
    struct kei_objects *s = user;
    if (item)
        kei_objects_version_seen(s, item->version);
    else if (status != KE_ENOTFOUND)
        s->load_status = status;
    load_next(s);
}

/* One list after the other, so that nothing is under way any more when the end is told. */
static void load_next(struct kei_objects *s)
{
    char bucket[32];
    if (s->load_status == 0 && s->load_step <= TYPES) {
        if (s->load_step < TYPES)
            snprintf(bucket, sizeof bucket, "o/%s", types[s->load_step]);
        s->load_status =
            ke_store_list(s->store, s->load_step < TYPES ? bucket : "source", "", 0, on_item, s);
        if (s->load_status == 0)
            return;
    }
    s->loaded(s->loaded_user, s->load_status);
}

int kei_objects_load(struct kei_objects *s, void (*done)(void *user, int status), void *user)
{
    s->loaded = done;
    s->loaded_user = user;
    return ke_store_get(s->store, "local", "version", on_version, s);
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
