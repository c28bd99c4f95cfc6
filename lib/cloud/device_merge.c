/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of a device: its life, and what is desired of it with stamps (message/twin_merge.h).
 * It stands in the Device's own member, so that it is durable with the Device or not at all:
 *
 *   "libkubeedge":{...,"merge":{"life":..,"twin":{NAME:{"expected":{"value","at"}}}},
 *                  "said":{NAME:VALUE or null}}
 *
 * The record decides; what stands in the Device's properties (v1beta1 spec.properties[].desired,
 * v1alpha2 status.twins[].desired) follows it, as far as the Device has such a property. "said" is
 * what the manifest says where a node said another thing later: a manifest that goes on saying the
 * same does not win again, one that says something new does.
 *
 * A device that goes leaves a grave, object "devicegrave" with its last life: at most GRAVES, then
 * those of the oldest lives go. Pure but for the end of the file. Loop thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"

#define GRAVES 4096u
#define GRAVES_SPARE 256u
#define UNSET_MS INT64_C(1577836800000) /* 2020: a clock before that was never set */

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "out of memory for the record of a device");
}

/* ---- reading ---- */

bool kei_device_record_raw(struct ke_str device, struct ke_str *ret)
{
    return kei_json_path(device, KEI_DEVICE_OWN ".merge", ret) && kei_json_type(*ret) == '{';
}

int kei_device_record(struct kei_merge_device *m, struct ke_str device, const struct ke_alloc *al,
                      struct ke_error *err)
{
    struct ke_str raw;
    int r;
    kei_merge_init(m);
    if (device.n == 0 || !kei_device_record_raw(device, &raw))
        return 0;
    r = kei_merge_read(m, al, raw, err);
    return r == KE_ENOMEM ? r : 0; /* an unreadable one is none: another life begins */
}

bool kei_device_overruled(struct ke_str device)
{
    struct ke_str map, key, v;
    size_t it = 0;
    return kei_json_path(device, KEI_DEVICE_OWN ".said", &map) && kei_json_next(map, &it, &key, &v);
}

/* What the manifest said last of name; NULL: nothing. */
struct words {
    const struct kei_device *device;
    struct ke_str said; /* goes before what the device has */
};

static int word(const struct words *w, const char *name, const char **ret, struct kei_arena *a)
{
    struct ke_str v;
    *ret = NULL;
    if (w->said.n > 0 && kei_json_get(w->said, name, &v)) {
        if (kei_json_type(v) == 'n')
            return 0;
        *ret = kei_json_strdup(v, a);
        return *ret ? 0 : KE_ENOMEM;
    }
    if (w->device)
        *ret = kei_device_desired_by_name(w->device, name);
    return 0;
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* ---- writing ---- */

static void write_desired(struct kei_jw *w, const char *value)
{
    kei_jw_key(w, "desired");
    kei_jw_obj(w);
    kei_jw_kstr(w, "value", value);
    kei_jw_obj_end(w);
}

/* An item of the list whose desired value is another one; NULL: none. */
static int write_item(struct kei_jw *w, struct ke_str item, const char *value, struct ke_error *err)
{
    struct ke_buf next = {0}, text = {0};
    struct ke_str desired;
    struct kei_jw v;
    int r;
    kei_buf_init(&next, w->out->alloc);
    kei_buf_init(&text, w->out->alloc);
    kei_jw_init(&v, &text);
    if (value)
        kei_jw_str(&v, value);
    bool has = kei_json_get(item, "desired", &desired) && kei_json_type(desired) == '{';
    if (!value)
        r = kei_json_set(&next, item, "desired", (struct ke_str){0}, err);
    else if (has)
        r = kei_json_set(&next, item, "desired.value", kei_buf_str(&text), err);
    else {
        struct ke_buf whole = {0};
        kei_buf_init(&whole, w->out->alloc);
        kei_buf_adds(&whole, "{\"value\":");
        kei_buf_addv(&whole, kei_buf_str(&text));
        kei_buf_addc(&whole, '}');
        r = kei_buf_ok(&whole) ? kei_json_set(&next, item, "desired", kei_buf_str(&whole), err)
                               : no_memory(err);
        ke_buf_free(&whole);
    }
    if (r == 0 && !kei_buf_ok(&next))
        r = no_memory(err);
    if (r == 0)
        kei_jw_raw(w, kei_buf_str(&next));
    ke_buf_free(&text);
    ke_buf_free(&next);
    return r;
}

static const struct kei_merge_twin *of_item(const struct kei_merge_device *m, struct ke_str item,
                                            const char *key, struct kei_arena *a)
{
    struct ke_str v;
    const char *name = kei_json_get(item, key, &v) ? kei_json_strdup(v, a) : NULL;
    return name ? kei_merge_find(m, kei_str(name)) : NULL;
}

/* Properties of v1alpha2 that the record has and status.twins has not. */
static void write_missing(struct kei_jw *w, const struct kei_device *d,
                          const struct kei_merge_device *m)
{
    for (uint32_t i = 0; i < d->n_props; i++) {
        const struct kei_merge_twin *t = kei_merge_find(m, kei_str(d->props[i].name));
        if (d->props[i].in_status || !t || !t->v[0].text)
            continue;
        kei_jw_obj(w);
        kei_jw_kstr(w, "propertyName", t->name);
        write_desired(w, t->v[0].text);
        kei_jw_obj_end(w);
    }
}

/* The list of desired values, as the record has them. */
static int write_list(struct ke_buf *out, struct ke_str list, const struct kei_device *d,
                      const struct kei_merge_device *m, struct kei_arena *a, struct ke_error *err)
{
    bool alpha = d->api == KEI_DEVICE_V1ALPHA2;
    struct ke_str k, item;
    struct kei_jw w;
    int r = 0;
    kei_jw_init(&w, out);
    kei_jw_arr(&w);
    for (size_t it = 0; r == 0 && list.n > 0 && kei_json_next(list, &it, &k, &item);) {
        const struct kei_merge_twin *t = of_item(m, item, alpha ? "propertyName" : "name", a);
        const char *have = t ? kei_device_desired_by_name(d, t->name) : NULL;
        if (!t || same(have, t->v[0].text))
            kei_jw_raw(&w, item);
        else if (!alpha || t->v[0].text) /* without a desired value v1alpha2 has no item */
            r = write_item(&w, item, t->v[0].text, err);
    }
    if (alpha)
        write_missing(&w, d, m);
    kei_jw_arr_end(&w);
    return r < 0 ? r : kei_buf_ok(out) ? 0 : no_memory(err);
}

/* device with the desired values of the record */
static int project(struct ke_buf *out, struct ke_str device, const struct kei_device *d,
                   const struct kei_merge_device *m, struct kei_arena *a, struct ke_error *err)
{
    const char *path = d->api == KEI_DEVICE_V1ALPHA2 ? "status.twins" : "spec.properties";
    struct ke_str list = {0};
    struct ke_buf next = {0};
    bool other = false;
    int r;
    for (uint32_t i = 0; i < d->n_props && !other; i++) {
        const struct kei_merge_twin *t = kei_merge_find(m, kei_str(d->props[i].name));
        other = t && !same(kei_device_desired(d, &d->props[i]), t->v[0].text);
    }
    if (!other) {
        kei_buf_addv(out, device);
        return 0;
    }
    kei_buf_init(&next, out->alloc);
    if (!kei_json_path(device, path, &list) || kei_json_type(list) != '[')
        list = (struct ke_str){0};
    r = write_list(&next, list, d, m, a, err);
    if (r == 0)
        r = kei_json_set(out, device, path, kei_buf_str(&next), err);
    ke_buf_free(&next);
    return r;
}

static int write_own(struct ke_buf *out, struct ke_str device, const struct kei_merge_device *m,
                     const struct words *w, struct kei_arena *a, struct ke_error *err)
{
    struct ke_buf record = {0}, said = {0}, half = {0};
    struct kei_jw j;
    int r = 0;
    kei_buf_init(&record, out->alloc);
    kei_buf_init(&said, out->alloc);
    kei_buf_init(&half, out->alloc);
    kei_merge_write(&record, m, NULL);
    kei_jw_init(&j, &said);
    kei_jw_obj(&j);
    for (uint32_t i = 0; r == 0 && i < m->n; i++) {
        const char *says;
        r = word(w, m->twins[i].name, &says, a);
        if (r == 0 && !same(says, m->twins[i].v[0].text)) {
            kei_jw_key(&j, m->twins[i].name);
            kei_jw_str(&j, says);
        }
    }
    kei_jw_obj_end(&j);
    if (r < 0 || !kei_buf_ok(&record) || !kei_buf_ok(&said))
        r = no_memory(err);
    if (r == 0)
        r = kei_json_set(&half, device, KEI_DEVICE_OWN ".merge", kei_buf_str(&record), err);
    if (r == 0)
        r = kei_json_set(out, kei_buf_str(&half), KEI_DEVICE_OWN ".said", kei_buf_str(&said), err);
    ke_buf_free(&half);
    ke_buf_free(&said);
    ke_buf_free(&record);
    return r < 0 ? r : kei_buf_ok(out) ? 0 : no_memory(err);
}

static int write_device(struct ke_buf *out, struct ke_str device, const struct kei_device *d,
                        const struct kei_merge_device *m, const struct words *w,
                        struct kei_arena *a, struct ke_error *err)
{
    struct ke_buf next = {0};
    int r;
    kei_buf_init(&next, out->alloc);
    r = project(&next, device, d, m, a, err);
    if (r == 0 && !kei_buf_ok(&next))
        r = no_memory(err);
    if (r == 0)
        r = write_own(out, kei_buf_str(&next), m, w, a, err);
    ke_buf_free(&next);
    return r;
}

/* ---- what a manifest changes ---- */

/* name is wanted so; was: what the manifest said before. */
static int want(struct kei_merge_device *m, const char *name, const char *value, const char *was,
                struct kei_merge_clock *c, const struct ke_alloc *al)
{
    const struct kei_merge_twin *t = kei_merge_find(m, kei_str(name));
    if (t ? same(value, was) : !value)
        return 0;
    if (!t && m->n >= KEI_DEVICE_TWINS_MAX)
        return 0; /* the Device has it nevertheless */
    return kei_merge_set(m, al, kei_str(name), KEI_MERGE_DESIRED, value, c->clock, c->wall_ms);
}

static int want_all(struct kei_merge_device *m, const struct kei_device *now,
                    const struct words *before, struct kei_merge_clock *c,
                    const struct ke_alloc *al, struct kei_arena *a)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < now->n_props; i++) {
        const char *name = now->props[i].name, *was;
        r = word(before, name, &was, a);
        if (r == 0)
            r = want(m, name, kei_device_desired(now, &now->props[i]), was, c, al);
    }
    for (uint32_t i = 0; r == 0 && i < m->n; i++) { /* and what the manifest has no more */
        const char *name = m->twins[i].name, *was;
        if (kei_device_prop_find(now, name))
            continue;
        r = word(before, name, &was, a);
        if (r == 0 && was)
            r = want(m, name, NULL, was, c, al);
    }
    return r;
}

int kei_device_decide(struct ke_buf *out, struct ke_str wanted, struct ke_str old,
                      struct kei_merge_clock *c, const struct ke_alloc *al, struct ke_error *err)
{
    struct kei_device now, was;
    struct kei_merge_device m;
    struct words before = {0}, after = {.device = &now};
    struct kei_arena a;
    kei_arena_init(&a, al, 0);
    int r = kei_device_record(&m, old, al, err);
    if (r == 0)
        r = kei_device_read(&now, wanted, &a, err);
    if (r == 0 && old.n > 0)
        r = kei_device_read(&was, old, &a, err);
    if (r == 0) {
        if (kei_hlc_is_zero(&m.life))
            kei_merge_begin(&m, al, c->clock, c->wall_ms);
        before.device = old.n > 0 ? &was : NULL;
        (void)(old.n > 0 && kei_json_path(old, KEI_DEVICE_OWN ".said", &before.said));
        r = want_all(&m, &now, &before, c, al, &a);
        if (r < 0)
            (void)no_memory(err);
    }
    if (r == 0)
        r = write_device(out, wanted, &now, &m, &after, &a, err);
    kei_merge_fini(&m, al);
    kei_arena_free(&a);
    return r;
}

/* ---- what a node changes ---- */

/* *changed: the record is another one now. */
static int take_desired(struct kei_merge_device *m, const struct kei_merge_device *from,
                        struct kei_hlc *clock, const struct ke_alloc *al, bool *changed)
{
    struct kei_merge_device only = *from; /* the desired values alone */
    uint32_t n = 0;
    int r;
    only.twins = kei_array_alloc(al, from->n ? from->n : 1, sizeof *only.twins);
    if (!only.twins)
        return KE_ENOMEM;
    for (uint32_t i = 0; i < from->n; i++) {
        if (kei_hlc_is_zero(&from->twins[i].v[0].at) ||
            (m->n + n >= KEI_DEVICE_TWINS_MAX && !kei_merge_find(m, kei_str(from->twins[i].name))))
            continue;
        only.twins[n] = from->twins[i];
        only.twins[n++].v[1] = (struct kei_merge_value){0};
    }
    only.n = n;
    r = kei_merge_take(m, al, &only, clock, changed);
    kei_free(al, only.twins);
    return r;
}

int kei_device_take(struct ke_buf *out, struct ke_str device, const struct kei_merge_device *from,
                    struct kei_hlc *clock, bool *ret_changed, const struct ke_alloc *al,
                    struct ke_error *err)
{
    struct kei_device d;
    struct kei_merge_device m;
    struct words w = {.device = &d};
    struct kei_arena a;
    *ret_changed = false;
    kei_arena_init(&a, al, 0);
    int r = kei_device_record(&m, device, al, err);
    bool newer = r == 0 && kei_hlc_compare(&from->life, &m.life) > 0;
    if (newer)
        m.life = from->life; /* this store is of an older day: the values stay */
    if (r == 0 && take_desired(&m, from, clock, al, ret_changed) < 0)
        r = no_memory(err);
    *ret_changed = r == 0 && (*ret_changed || newer);
    if (r == 0 && *ret_changed)
        r = kei_device_read(&d, device, &a, err);
    if (r == 0 && *ret_changed) {
        (void)kei_json_path(device, KEI_DEVICE_OWN ".said", &w.said);
        r = write_device(out, device, &d, &m, &w, &a, err);
    }
    kei_merge_fini(&m, al);
    kei_arena_free(&a);
    return r;
}

/* ---- the clock ---- */

struct kei_merge_clock kei_cloud_merge_clock(struct ke_cloud *c)
{
    int64_t now = ke_ctx_real_ms(c->ctx);
    return (struct kei_merge_clock){&c->merge_clock, now < KEI_HLC_MS_MAX ? now : KEI_HLC_MS_MAX};
}

int64_t kei_cloud_merge_now(const struct ke_cloud *c)
{
    int64_t now = ke_ctx_real_ms(c->ctx);
    now = now > c->merge_clock.ms ? now : c->merge_clock.ms;
    return now < UNSET_MS ? 0 : now;
}

/* The latest stamp of what a node told, if this cloud cannot believe it; else 0. */
int64_t kei_cloud_merge_ahead(const struct ke_cloud *c, const struct kei_merge_device *m)
{
    int64_t now = kei_cloud_merge_now(c), last = m->life.ms;
    for (uint32_t i = 0; i < m->n; i++)
        for (unsigned s = 0; s < 2; s++)
            last = m->twins[i].v[s].at.ms > last ? m->twins[i].v[s].at.ms : last;
    return now > 0 && last - now > 2 * (int64_t)KEI_MERGE_AHEAD_MS ? last : 0;
}

static void see_stamps(struct kei_hlc *clock, struct ke_str map)
{
    struct ke_str key, pair, k, v;
    struct kei_hlc h;
    for (size_t it = 0; kei_json_next(map, &it, &key, &pair);)
        for (size_t at = 0; kei_json_type(pair) == '[' && kei_json_next(pair, &at, &k, &v);)
            if (kei_hlc_read(&h, v))
                kei_hlc_see(clock, &h);
}

int kei_cloud_merge_load(struct ke_cloud *c)
{
    struct kei_merge_device m;
    struct kei_object *o;
    struct ke_str v;
    struct kei_hlc h;
    int r = 0;
    for (size_t it = 0; r == 0 && (o = kei_objects_next(c->objects, "device", &it));) {
        r = kei_device_record(&m, kei_buf_str(&o->json), kei_ctx_alloc(c->ctx), kei_err(c->ctx));
        kei_hlc_see(&c->merge_clock, &m.life);
        for (uint32_t i = 0; i < m.n; i++)
            kei_hlc_see(&c->merge_clock, &m.twins[i].v[0].at);
        kei_merge_fini(&m, kei_ctx_alloc(c->ctx));
    }
    for (size_t it = 0; (o = kei_objects_next(c->objects, "devicestatus", &it));)
        if (kei_json_path(kei_buf_str(&o->json), KEI_DEVICE_OWN ".stamps", &v))
            see_stamps(&c->merge_clock, v);
    c->graves = 0;
    for (size_t it = 0; (o = kei_objects_next(c->objects, "devicegrave", &it)); c->graves++)
        if (kei_json_get(kei_buf_str(&o->json), "life", &v) && kei_hlc_read(&h, v))
            kei_hlc_see(&c->merge_clock, &h);
    return r;
}

/* ---- graves ---- */

static struct kei_hlc life_of(struct ke_str grave)
{
    struct kei_hlc h = {0, 0, 0};
    struct ke_str v;
    if (kei_json_get(grave, "life", &v))
        (void)kei_hlc_read(&h, v);
    return h;
}

static int older_first(const void *x, const void *y)
{
    const struct kei_object *const *a = x, *const *b = y;
    struct kei_hlc s = life_of(kei_buf_str(&(*a)->json)), t = life_of(kei_buf_str(&(*b)->json));
    return kei_hlc_compare(&s, &t);
}

/* Best effort: what stays is dropped with the next. */
static void drop_old_graves(struct ke_cloud *c)
{
    const struct ke_alloc *al = kei_ctx_alloc(c->ctx);
    struct kei_object *o, **all = kei_array_alloc(al, c->graves, sizeof *all);
    uint32_t n = 0;
    if (!all)
        return;
    for (size_t it = 0; n < c->graves && (o = kei_objects_next(c->objects, "devicegrave", &it));)
        all[n++] = o;
    qsort(all, n, sizeof *all, older_first);
    c->graves = n;
    for (uint32_t i = 0; i + GRAVES < n; i++, c->graves--)
        (void)kei_objects_remove(c->objects, all[i], NULL, NULL);
    kei_free(al, all);
}

void kei_device_bury(struct ke_cloud *c, const struct kei_object *device)
{
    struct kei_object *grave = kei_objects_get(c->objects, "devicegrave", device->ns, device->name);
    struct kei_merge_device m;
    struct ke_buf json = {0};
    struct kei_jw w;
    int r =
        kei_device_record(&m, kei_buf_str(&device->json), kei_ctx_alloc(c->ctx), kei_err(c->ctx));
    struct kei_hlc life = m.life;
    kei_merge_fini(&m, kei_ctx_alloc(c->ctx));
    if (kei_hlc_is_zero(&life))
        return;
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    kei_jw_init(&w, &json);
    kei_jw_obj(&w);
    kei_jw_key(&w, "life");
    kei_hlc_write(&w, &life);
    kei_jw_kbool(&w, "dead", true);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    if (r == 0 && kei_buf_ok(&json))
        r = kei_objects_write(c->objects, "devicegrave", device->ns, device->name,
                              kei_buf_str(&json), NULL, NULL, NULL);
    if (r < 0)
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "no grave for device %s/%s: %s", device->ns,
                device->name, ke_ctx_error(c->ctx));
    else if (!grave && ++c->graves > GRAVES + GRAVES_SPARE)
        drop_old_graves(c);
    ke_buf_free(&json);
}

bool kei_device_grave(const struct ke_cloud *c, const char *ns, const char *name,
                      struct kei_hlc *ret)
{
    const struct kei_object *o = kei_objects_get(c->objects, "devicegrave", ns, name);
    *ret = o ? life_of(kei_buf_str(&o->json)) : (struct kei_hlc){0, 0, 0};
    return !kei_hlc_is_zero(ret);
}
