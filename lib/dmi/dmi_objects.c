/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices and models of the node's end of DMI, and what each mapper has of them. The map owns the
 * objects, an object its views. Loop thread.
 */
#include <stdio.h>

#include "base/fnv.h"
#include "base/log.h"
#include "dmi/dmi_priv.h"
#include "dmi/dmi_v1alpha1.pb-c.h"

#define KEY_MAX 600   /* of an object */
#define TOLD_MAX 900u /* KEY@PROTOCOL */

struct kei_dmi_object *kei_dmi_find(const struct kei_dmi *d, const char *key)
{
    return kei_map_get(&d->objects, kei_str(key));
}

struct kei_dmi_object *kei_dmi_device_of(const struct kei_dmi *d, const char *ns, const char *name)
{
    char key[KEY_MAX];
    void *value;
    size_t it = 0;

    snprintf(key, sizeof key, "d/%.253s/%.253s", ns[0] ? ns : "default", name);
    struct kei_dmi_object *o = kei_dmi_find(d, key);
    while (!o && !ns[0] && kei_map_next(&d->objects, &it, NULL, &value)) {
        struct kei_dmi_object *other = value;
        struct ke_str own;
        (void)kei_str_cut(kei_str(other->key + 2), '/', &own);
        if (!other->is_model && kei_str_is(own, name))
            o = other;
    }
    return o;
}

/* ---- messages ---- */

static int digest_message(uint64_t *ret, struct kei_dmi *d, const void *m, struct ke_error *err)
{
    struct ke_buf b;

    kei_buf_init(&b, d->alloc);
    kei_pb_pack(&b, m);
    bool ok = kei_buf_ok(&b);
    uint64_t h = kei_fnv1a(KEI_FNV1A, b.p, b.n);
    ke_buf_free(&b);
    *ret = h ? h : 1;
    return ok ? 0 : kei_error(err, KE_ENOMEM, "no memory for a device's message");
}

/* In v1alpha1 what is desired is part of the status, besides what is reported. */
static uint64_t digest_desired(const Kei__A1__Device *device)
{
    uint64_t h = KEI_FNV1A;

    for (size_t i = 0; i < device->status->n_twins; i++) {
        const Kei__A1__Twin *t = device->status->twins[i];
        h = kei_fnv1a(h, t->propertyname, strlen(t->propertyname) + 1);
        h = kei_fnv1a(h, t->desired->value, strlen(t->desired->value) + 1);
    }
    return h;
}

static int build_model(void **ret, uint64_t *ret_digest, struct kei_dmi_object *o,
                       enum kei_dmi_form form, struct kei_arena *a, struct ke_error *err)
{
    struct kei_device_model model;
    struct ke_str text = kei_strn(o->json, o->n);
    int r = kei_device_model_read(&model, text, a, err);

    if (r == 0)
        r = kei_dmi_model(ret, form, &model, text, a, err);
    return r < 0 ? r : digest_message(ret_digest, o->d, *ret, err);
}

int kei_dmi_build(void **ret, struct kei_dmi_digest *ret_digest, struct kei_dmi_object *o,
                  enum kei_dmi_form form, struct kei_arena *a, struct ke_error *err)
{
    struct kei_device_model model;
    struct kei_device device;
    void *bare = NULL;

    *ret_digest = (struct kei_dmi_digest){0};
    if (o->is_model)
        return build_model(ret, &ret_digest->spec, o, form, a, err);
    const struct kei_dmi_object *m = o->model ? kei_dmi_find(o->d, o->model) : NULL;
    if (!m)
        return kei_error(err, KE_ENOTFOUND, "device %s waits for its model %s", o->key + 2,
                         o->model ? o->model + 2 : "(none)");
    int r = kei_device_read(&device, kei_strn(o->json, o->n), a, err);
    if (r == 0)
        r = kei_device_model_read(&model, kei_strn(m->json, m->n), a, err);
    if (r == 0)
        r = kei_dmi_device(&bare, form, &device, &model, false, a, err);
    if (r == 0)
        r = digest_message(&ret_digest->spec, o->d, bare, err);
    if (r == 0)
        r = kei_dmi_device(ret, form, &device, &model, true, a, err);
    if (r == 0 && form == KEI_DMI_A1)
        ret_digest->status = digest_desired(*ret);
    return r;
}

/* ---- what mappers have ---- */

/* What a mapper had before a restart. */
struct told {
    struct kei_dmi_digest digest;
    char protocol[];
};

/* Models may be at several mappers. */
static void told_key(char *out, size_t n, const char *key, const char *protocol)
{
    bool model = key[0] == 'm';

    snprintf(out, n, KEI_DMI_TOLD_KEY "%.598s%s%.253s", key, model ? "@" : "",
             model ? protocol : "");
}

static void put_told(struct ke_store_tx *tx, const char *key, const char *protocol,
                     const struct kei_dmi_digest *digest)
{
    char name[TOLD_MAX], value[320];

    told_key(name, sizeof name, key, protocol);
    if (!digest) {
        (void)!ke_store_delete(tx, KEI_DMI_BUCKET, name, NULL); /* the commit tells */
        return;
    }
    snprintf(value, sizeof value, "%llu/%llu %.253s", (unsigned long long)digest->spec,
             (unsigned long long)digest->status, protocol);
    (void)!ke_store_put(tx, KEI_DMI_BUCKET, name, NULL, 0, value, strlen(value));
}

void kei_dmi_note_told(struct kei_dmi *d, struct ke_store_tx *tx, const char *key,
                       const char *protocol, const struct kei_dmi_digest *digest)
{
    struct ke_store_tx *own = NULL;

    if (tx) {
        put_told(tx, key, protocol, digest);
        return;
    }
    int r = ke_store_begin(&own, d->c.store);
    if (r == 0) {
        put_told(own, key, protocol, digest);
        r = ke_store_commit(own, NULL, NULL);
    }
    if (r < 0) /* then it is told once more after a restart */
        kei_log(d->ctx, KE_LOG_DEBUG, "dmi", "what a mapper has was not noted: %s",
                ke_ctx_error(d->ctx));
}

void kei_dmi_told_load(struct kei_dmi *d, const struct ke_store_item *item)
{
    struct ke_str protocol, status, number, rest;
    struct ke_str key = kei_str(item->key + strlen(KEI_DMI_TOLD_KEY));
    char name[TOLD_MAX];
    void *old = NULL;

    number = kei_str_cut(kei_strn(item->value, item->len), ' ', &protocol);
    number = kei_str_cut(number, '/', &status);
    key = kei_str_cut(key, '@', &rest);
    struct told *t = kei_zalloc(d->alloc, sizeof *t + protocol.n + 1);
    if (t && protocol.n)
        memcpy(t->protocol, protocol.p, protocol.n);
    if (t && status.n && !kei_str_u64(status, &t->digest.status))
        t->digest.status = 0;
    snprintf(name, sizeof name, "%.*s@%.*s", KEI_FMT(key), KEI_FMT(protocol));
    if (!t || !kei_str_u64(number, &t->digest.spec) ||
        kei_map_put(&d->told, kei_str(name), t, &old) < 0)
        kei_free(d->alloc, t);
    kei_free(d->alloc, old);
}

/* Objects that went while nobody looked: their mappers are told. */
void kei_dmi_told_lost(struct kei_dmi *d)
{
    struct ke_str key;
    void *value;
    size_t it = 0;

    while (kei_map_next(&d->told, &it, &key, &value)) {
        const struct told *t = value;
        struct ke_str rest, name = kei_str_cut(key, '@', &rest);
        char text[KEY_MAX];
        snprintf(text, sizeof text, "%.*s", KEI_FMT(name));
        kei_dmi_removed(d, t->protocol, text);
        kei_dmi_note_told(d, NULL, text, t->protocol, NULL);
    }
    kei_dmi_told_free(d);
}

void kei_dmi_told_free(struct kei_dmi *d)
{
    void *value;
    size_t it = 0;

    while (kei_map_next(&d->told, &it, NULL, &value))
        kei_free(d->alloc, value);
    kei_map_free(&d->told);
    kei_map_init(&d->told, d->alloc, 0);
}

/* ---- views ---- */

struct kei_dmi_view *kei_dmi_view_of(const struct kei_dmi_object *o, const char *protocol)
{
    KEI_LIST_EACH(l, &o->views)
    {
        struct kei_dmi_view *v = KEI_OF(l, struct kei_dmi_view, link);
        if (strcmp(v->protocol, protocol) == 0)
            return v;
    }
    return NULL;
}

static void view_free(struct kei_dmi_view *v)
{
    kei_list_remove(&v->link);
    kei_list_remove(&v->todo);
    kei_free(v->o->d->alloc, v);
}

/* The one there is, or a new one; NULL: no memory. */
static struct kei_dmi_view *view_need(struct kei_dmi_object *o, const char *protocol)
{
    struct kei_dmi_view *v = kei_dmi_view_of(o, protocol);
    size_t n = strlen(protocol) + 1;
    char name[TOLD_MAX];

    if (v)
        return v;
    v = kei_zalloc(o->d->alloc, sizeof *v + n);
    if (!v)
        return NULL;
    v->o = o;
    memcpy(v->protocol, protocol, n);
    snprintf(name, sizeof name, "%.598s@%.253s", o->key, protocol);
    struct told *told = kei_map_remove(&o->d->told, kei_str(name));
    if (told)
        v->told = told->digest;
    kei_free(o->d->alloc, told);
    kei_list_add_tail(&o->views, &v->link);
    return v;
}

/* The mapper of that protocol has no use for it any more. */
static void view_drop(struct kei_dmi_view *v)
{
    kei_dmi_removed(v->o->d, v->protocol, v->o->key);
    if (v->told.spec)
        kei_dmi_note_told(v->o->d, NULL, v->o->key, v->protocol, NULL);
    view_free(v);
}

/* A device has its model no longer. */
static void unuse(struct kei_dmi *d, const char *model, const char *protocol)
{
    struct kei_dmi_object *m = kei_dmi_find(d, model);
    struct kei_dmi_view *v = m ? kei_dmi_view_of(m, protocol) : NULL;

    if (v && v->users && --v->users == 0 && strcmp(m->protocol, protocol) != 0)
        view_drop(v);
}

/* All views that o is to have; KE_ENOMEM. */
static int make_views(struct kei_dmi_object *o, struct ke_error *err)
{
    struct kei_dmi *d = o->d;
    void *value;
    size_t it = 0;
    bool ok = o->is_model && !o->protocol[0] ? true : view_need(o, o->protocol) != NULL;

    while (ok && o->is_model && kei_map_next(&d->objects, &it, NULL, &value)) {
        const struct kei_dmi_object *device = value;
        if (device->is_model || strcmp(device->model, o->key) != 0)
            continue;
        struct kei_dmi_view *v = view_need(o, device->protocol);
        if (v)
            v->users++;
        else
            ok = false;
    }
    struct kei_dmi_object *model = ok && !o->is_model ? kei_dmi_find(d, o->model) : NULL;
    if (model) {
        struct kei_dmi_view *v = view_need(model, o->protocol);
        if (v)
            v->users++;
        else
            ok = false;
    }
    return ok ? 0 : kei_error(err, KE_ENOMEM, "no memory for %s", o->key + 2);
}

/* ---- objects ---- */

static void object_free(struct kei_dmi_object *o)
{
    const struct ke_alloc *a = o->d->alloc;

    KEI_LIST_EACH_SAFE(l, next, &o->views)
    view_free(KEI_OF(l, struct kei_dmi_view, link));
    kei_free(a, o->key);
    kei_free(a, o->json);
    kei_free(a, o->protocol);
    kei_free(a, o->model);
    kei_free(a, o->desired);
    kei_free(a, o->state);
    kei_free(a, o->error);
    kei_free(a, o);
}

void kei_dmi_objects_free(struct kei_dmi *d)
{
    void *value;
    size_t it = 0;

    while (kei_map_next(&d->objects, &it, NULL, &value))
        object_free(value);
    kei_map_free(&d->objects);
}

bool kei_dmi_desires(const struct kei_dmi_object *o, const char *property)
{
    size_t n = strlen(property);

    if (!o || !o->desired || n == 0)
        return true;
    for (const char *p = o->desired; (p = strstr(p, property)) != NULL; p++)
        if (p > o->desired && p[-1] == '\n' && p[n] == '\n')
            return true;
    return false;
}

static char *desired_names(const struct kei_dmi *d, const struct kei_device *device)
{
    struct ke_buf names;

    kei_buf_init(&names, d->alloc);
    kei_buf_addc(&names, '\n');
    for (uint32_t i = 0; i < device->n_props; i++)
        if (device->props[i].desired.value && device->props[i].desired.value[0])
            kei_buf_addf(&names, "%s\n", device->props[i].name);
    char *ret = kei_buf_ok(&names) ? kei_strndup(d->alloc, names.p, names.n) : NULL;
    ke_buf_free(&names);
    return ret;
}

/* What the object says of itself: protocol and model. */
static int read_object(struct kei_dmi_object *o, struct ke_error *err)
{
    struct kei_dmi *d = o->d;
    struct ke_str text = kei_strn(o->json, o->n);
    struct kei_device_model model = {0};
    struct kei_device device = {0};
    struct kei_arena a;
    char key[KEY_MAX];

    kei_arena_init(&a, d->alloc, 0);
    int r = o->is_model ? kei_device_model_read(&model, text, &a, err)
                        : kei_device_read(&device, text, &a, err);
    if (r == 0) {
        o->protocol = kei_strdup(d->alloc, o->is_model ? model.protocol : device.protocol);
        if (!o->is_model) {
            struct ke_str rest, ns = kei_str_cut(kei_str(o->key + 2), '/', &rest);
            snprintf(key, sizeof key, "m/%.*s/%.253s", KEI_FMT(ns), device.model);
            o->model = kei_strdup(d->alloc, key);
            o->desired = desired_names(d, &device);
        }
        if (!o->protocol || (!o->is_model && (!o->model || !o->desired)))
            r = kei_error(err, KE_ENOMEM, "no memory for a device");
    }
    for (char *p = o->protocol; r == 0 && *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    kei_arena_free(&a);
    return r;
}

static struct kei_dmi_object *object_new(struct kei_dmi *d, const char *key, struct ke_str json,
                                         struct ke_error *err)
{
    struct kei_dmi_object *o = kei_zalloc(d->alloc, sizeof *o);

    if (!o) {
        kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
        return NULL;
    }
    o->d = d;
    kei_list_init(&o->views);
    o->is_model = key[0] == 'm';
    o->key = kei_strdup(d->alloc, key);
    o->json = kei_strndup(d->alloc, json.p, json.n);
    o->n = json.n;
    if (!o->key || !o->json)
        kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
    else if (read_object(o, err) == 0)
        return o;
    object_free(o);
    return NULL;
}

/* o is in old's place: what mappers had of old they have of o, unless they have no use for it. */
static void take_over(struct kei_dmi_object *o, struct kei_dmi_object *old)
{
    KEI_LIST_EACH_SAFE(l, next, &old->views)
    {
        struct kei_dmi_view *from = KEI_OF(l, struct kei_dmi_view, link);
        struct kei_dmi_view *to = kei_dmi_view_of(o, from->protocol);
        if (to) {
            to->known = from->known;
            to->told = from->told;
        } else {
            view_drop(from);
        }
    }
    if (!o->is_model)
        unuse(o->d, old->model, old->protocol);
    if (strcmp(o->protocol, old->protocol) == 0) {
        o->state = old->state;
        o->error = old->error;
        o->report_ms = old->report_ms;
        o->reports = old->reports;
        old->state = old->error = NULL;
    }
    object_free(old);
}

static void views_changed(struct kei_dmi_object *o)
{
    KEI_LIST_EACH(l, &o->views)
    kei_dmi_changed(KEI_OF(l, struct kei_dmi_view, link));
}

/* Devices of that model are told anew. */
static void model_changed(struct kei_dmi *d, const char *key)
{
    void *value;
    size_t it = 0;

    while (kei_map_next(&d->objects, &it, NULL, &value)) {
        struct kei_dmi_object *o = value;
        if (!o->is_model && strcmp(o->model, key) == 0)
            views_changed(o);
    }
}

void kei_dmi_put(struct kei_dmi *d, const char *key, struct ke_str json, struct ke_error *err)
{
    void *old = NULL;

    if (!kei_map_get(&d->objects, kei_str(key)) && d->objects.n >= d->c.max_objects) {
        kei_error(err, KE_ELIMIT, "%zu devices and models are the limit (max_objects)",
                  d->objects.n);
        return;
    }
    struct kei_dmi_object *o = object_new(d, key, json, err);
    if (!o)
        return;
    if (make_views(o, err) < 0) {
        object_free(o);
        return;
    }
    if (kei_map_put(&d->objects, kei_str(key), o, &old) < 0) {
        kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
        if (!o->is_model)
            unuse(d, o->model, o->protocol);
        object_free(o);
        return;
    }
    if (old)
        take_over(o, old);
    struct kei_dmi_object *model = o->is_model ? NULL : kei_dmi_find(d, o->model);
    struct kei_dmi_view *needed = model ? kei_dmi_view_of(model, o->protocol) : NULL;
    if (needed && !needed->known) /* this mapper needs it from now on */
        kei_dmi_changed(needed);
    views_changed(o);
    if (o->is_model)
        model_changed(d, key);
}

void kei_dmi_drop(struct kei_dmi *d, const char *key)
{
    struct kei_dmi_object *o = kei_map_remove(&d->objects, kei_str(key));

    if (!o)
        return;
    while (!kei_list_empty(&o->views))
        view_drop(KEI_OF(o->views.next, struct kei_dmi_view, link));
    if (!o->is_model)
        unuse(d, o->model, o->protocol);
    object_free(o);
}
