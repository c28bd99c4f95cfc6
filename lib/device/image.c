/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: what a device's object says, in one block of memory so that thousands of devices stay
 * small; what drivers see of its properties is another block, which equal devices share. Made by
 * counting first and copying then. Loop thread.
 */
#include <stdio.h>

#include "base/fnv.h"
#include "device/devices_priv.h"

/* Hands out pieces of one block; without a block it only counts. */
struct packer {
    char *base;
    size_t at;
};

static void *take(struct packer *k, size_t n, size_t align)
{
    k->at = (k->at + align - 1) / align * align;
    void *p = k->base ? k->base + k->at : NULL;
    k->at += n;
    return p;
}

static const char *put(struct packer *k, struct ke_str s)
{
    char *p = take(k, s.n + 1, 1);

    if (p) {
        if (s.n)
            memcpy(p, s.p, s.n);
        p[s.n] = '\0';
    }
    return p;
}

/* Ended by a byte that is in no text, so that two texts are not taken for another two. */
static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    return kei_fnv1a(kei_fnv1a(h, p, n), "\xff", 1);
}

static uint32_t hash32(const char *s)
{
    uint32_t h = s ? (uint32_t)mix(KEI_FNV1A, s, strlen(s)) : 0;

    return s && h == 0 ? 1 : h;
}

/* A property as it comes into the image. */
struct plan {
    const struct kei_device_prop *p;
    const struct kei_model_prop *def;
    struct ke_str visitor;
    enum kei_prop_type type;
    struct kei_tune tune;
    bool tuned;
    uint16_t flags;
    uint32_t collect_ms, report_ms;
    struct kei_push_conf push[KEI_PUSH_METHODS];
    uint32_t n_push;
};

/* base overridden by over, in the arena */
static int merge(struct ke_str *ret, struct ke_str base, struct ke_str over, struct kei_arena *a,
                 struct ke_error *err)
{
    struct ke_buf b;
    int r = 0;

    if (!base.n || !over.n) {
        *ret = over.n ? over : base.n ? base : KEI_STR("{}");
        return 0;
    }
    kei_buf_init(&b, a->alloc);
    r = kei_device_config_merge(&b, base, over, err);
    if (r == 0) {
        ret->p = kei_arena_strdup(a, kei_buf_str(&b));
        ret->n = b.n;
        r = ret->p ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a device");
    }
    ke_buf_free(&b);
    return r;
}

static int plan_prop(struct plan *pl, struct ke_devices *d, const struct kei_device *kd,
                     const struct kei_device_prop *p, const struct model *m, struct kei_arena *a,
                     struct ke_error *err)
{
    const char *type = p->desired.type[0] ? p->desired.type : p->data_type;
    enum kei_cycle_unit unit = (enum kei_cycle_unit)d->c.cycle_unit;

    pl->p = p;
    pl->def = m ? kei_model_prop_find(&m->m, p->name) : NULL;
    pl->type = pl->def ? pl->def->type : kei_prop_type_of(kei_str(type));
    if (!pl->def && (kd->api == KEI_DEVICE_V1BETA1 || pl->type == KEI_PROP_NONE))
        pl->flags = PROP_BAD;
    else
        pl->flags = PROP_READ;
    if (!(pl->flags & PROP_BAD) && !(pl->def && pl->def->read_only))
        pl->flags |= PROP_WRITE;
    if (pl->type == KEI_PROP_NONE)
        pl->type = KEI_PROP_STRING;
    if (p->report_to_cloud)
        pl->flags |= PROP_REPORT;
    if (p->is_data)
        pl->flags |= PROP_DATA;
    pl->collect_ms =
        (uint32_t)kei_device_cycle_ms(p->collect_cycle, kd->api, unit, d->c.collect_ms);
    pl->report_ms = (uint32_t)kei_device_cycle_ms(p->report_cycle, kd->api, unit, d->c.report_ms);
    int n = kei_push_read(pl->push, &p->push, a);
    if (n < 0)
        return kei_error(err, n, "out of memory for a device");
    pl->n_push = (uint32_t)n;
    struct ke_str base = pl->def ? pl->def->visitor_config : kei_strn(NULL, 0);
    int r = merge(&pl->visitor, base, p->visitor_config, a, err);
    if (r == 0)
        pl->tuned = kei_tune_read(&pl->tune, pl->visitor);
    return r;
}

/* ---- what many devices have in common ---- */

static struct ke_device_property property_of(const struct plan *pl, uint32_t i)
{
    bool number =
        pl->type == KEI_PROP_INT || pl->type == KEI_PROP_FLOAT || pl->type == KEI_PROP_DOUBLE;

    return (struct ke_device_property){
        .size = sizeof(struct ke_device_property),
        .name = pl->p->name,
        .unit = pl->def ? pl->def->unit : "",
        .visitor = pl->visitor.p,
        .visitor_len = pl->visitor.n,
        .index = i,
        .type = (uint32_t)pl->type,
        .flags = (pl->flags & PROP_READ ? KE_DEVICE_CAN_READ : 0) |
                 (pl->flags & PROP_WRITE ? KE_DEVICE_CAN_WRITE : 0) |
                 (number ? 0 : KE_DEVICE_NO_SCALE),
        .collect_ms = pl->flags & PROP_READ ? pl->collect_ms : 0,
    };
}

static uint64_t hash_plans(const struct plan *plans, uint32_t n)
{
    uint64_t h = mix(KEI_FNV1A, &n, sizeof n);

    for (uint32_t i = 0; i < n; i++) {
        struct ke_device_property p = property_of(&plans[i], i);
        uint32_t more[4] = {p.type, p.flags, p.collect_ms, plans[i].tuned};
        h = mix(h, p.name, strlen(p.name));
        h = mix(h, p.unit, strlen(p.unit));
        h = mix(h, p.visitor, p.visitor_len);
        h = mix(h, more, sizeof more);
    }
    return h;
}

static bool same_shape(const struct shape *s, const struct plan *plans, uint32_t n)
{
    if (s->n != n)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        struct ke_device_property p = property_of(&plans[i], i);
        const struct ke_device_property *q = &s->pub[i];
        const struct kei_tune *t = s->tunes[i], *u = &plans[i].tune;
        if (strcmp(p.name, q->name) != 0 || strcmp(p.unit, q->unit) != 0 ||
            !kei_str_eq(plans[i].visitor, kei_strn(q->visitor, q->visitor_len)) ||
            p.type != q->type || p.flags != q->flags || p.collect_ms != q->collect_ms ||
            plans[i].tuned != (t != NULL) ||
            (t && (t->scale != u->scale || t->offset != u->offset ||
                   t->dead_band != u->dead_band)))
            return false;
    }
    return true;
}

static void fill_shape(struct packer *k, struct shape *s, const struct plan *plans, uint32_t n)
{
    struct ke_device_property *pub = take(k, n * sizeof *pub, _Alignof(struct ke_device_property));
    const struct kei_tune **tunes = take(k, n * sizeof *tunes, _Alignof(struct kei_tune *));

    for (uint32_t i = 0; i < n; i++) {
        struct ke_device_property p = property_of(&plans[i], i);
        struct kei_tune *t =
            plans[i].tuned ? take(k, sizeof *t, _Alignof(struct kei_tune)) : NULL;
        p.name = put(k, kei_str(p.name));
        p.unit = put(k, kei_str(p.unit));
        p.visitor = put(k, plans[i].visitor);
        if (!k->base)
            continue;
        if (t)
            *t = plans[i].tune;
        pub[i] = p;
        tunes[i] = t;
    }
    if (k->base) {
        s->pub = pub;
        s->tunes = tunes;
        s->n = n;
    }
}

/* One that there is, or a new one. NULL: no memory. */
static struct shape *shape_get(struct ke_devices *d, const struct plan *plans, uint32_t n)
{
    struct packer k = {NULL, sizeof(struct shape)};
    uint64_t hash = hash_plans(plans, n);
    struct ke_str key = kei_strn((const char *)&hash, sizeof hash);
    struct shape *s = kei_map_get(&d->shapes, key);

    if (s && same_shape(s, plans, n)) {
        s->refs++;
        return s;
    }
    bool taken = s != NULL; /* by another of that hash */
    fill_shape(&k, NULL, plans, n);
    s = kei_zalloc(d->alloc, k.at);
    if (!s)
        return NULL;
    k = (struct packer){(char *)s, sizeof *s};
    fill_shape(&k, s, plans, n);
    s->d = d;
    s->hash = hash;
    s->refs = 1;
    s->known = !taken && kei_map_put(&d->shapes, key, s, NULL) == 0; /* else it is not shared */
    return s;
}

static void shape_unref(struct shape *s)
{
    if (!s || --s->refs)
        return;
    if (s->known)
        kei_map_remove(&s->d->shapes, kei_strn((const char *)&s->hash, sizeof s->hash));
    kei_free(s->d->alloc, s);
}

/* ---- images ---- */

static void fill_prop(struct image *img, uint32_t i, const struct plan *pl)
{
    img->props[i] = (struct prop){
        .def = pl->def,
        .tune = img->shape->tunes[i],
        .collect_ms = pl->flags & PROP_READ ? pl->collect_ms : 0,
        .report_ms = pl->report_ms,
        .flags = pl->flags,
        .type = (uint8_t)pl->type,
    };
}

static void fill_methods(struct packer *k, struct image *img, const struct kei_device *kd)
{
    struct method *m = take(k, kd->n_methods * sizeof *m, _Alignof(struct method));

    for (uint32_t i = 0; i < kd->n_methods; i++) {
        const struct kei_device_method *from = &kd->methods[i];
        const char *name = put(k, kei_str(from->name));
        const char **props = take(k, from->n_props * sizeof *props, _Alignof(char *));
        for (uint32_t j = 0; j < from->n_props; j++) {
            const char *p = put(k, kei_str(from->props[j]));
            if (k->base)
                props[j] = p;
        }
        if (k->base)
            m[i] = (struct method){name, props, from->n_props};
    }
    if (k->base) {
        img->methods = m;
        img->n_methods = kd->n_methods;
    }
}

static void fill_pushes(struct packer *k, struct image *img, const struct plan *plans, uint32_t n,
                        const struct ke_devices *d)
{
    uint32_t total = 0;

    for (uint32_t i = 0; i < n; i++)
        total += plans[i].n_push;
    struct push *to = take(k, total * sizeof *to, _Alignof(struct push));
    total = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < plans[i].n_push; j++) {
            struct kei_push_conf c = plans[i].push[j];
            if (c.kind == KEI_PUSH_MQTT && !d->c.router) {
                c.kind = KEI_PUSH_NONE;
                c.bad = "there is no MQTT server in a mapper";
            }
            const char **texts[] = {&c.method, &c.host, &c.target, &c.url, &c.bad};
            for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++)
                *texts[t] = put(k, kei_str(*texts[t]));
            if (k->base)
                to[total] = (struct push){.c = c, .prop = i};
            total++;
        }
    }
    if (k->base) {
        img->pushes = to;
        img->n_pushes = total;
    }
}

static void lower(const char *s)
{
    char *p = (char *)(uintptr_t)s; /* our own copy */

    for (; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
}

/* Once to count (k->base NULL, img a dummy) and once to copy. */
static void fill(struct packer *k, struct image *img, const struct kei_device *kd,
                 const struct plan *plans, struct ke_str config, bool has_data,
                 const struct ke_devices *d)
{
    const char *ns = kd->meta.ns[0] ? kd->meta.ns : "default";

    img->props = take(k, kd->n_props * sizeof *img->props, _Alignof(struct prop));
    for (uint32_t i = 0; k->base && i < kd->n_props; i++)
        fill_prop(img, i, &plans[i]);
    fill_methods(k, img, kd);
    fill_pushes(k, img, plans, kd->n_props, d);
    img->conf = (struct ke_device_config){
        .size = sizeof img->conf,
        .ns = put(k, kei_str(ns)),
        .name = put(k, kei_str(kd->meta.name)),
        .model = put(k, kei_str(kd->model)),
        .protocol = put(k, kei_str(kd->protocol)),
        .config = put(k, config),
        .config_len = config.n,
        .properties = img->pub,
        .n_properties = kd->n_props,
    };
    img->data_topic = has_data ? put(k, kei_str(kd->data_topic)) : NULL;
    img->process = put(k, kd->process);
    if (k->base)
        lower(img->conf.protocol);
}

static uint64_t hash_image(const struct image *img)
{
    uint64_t h =
        mix(KEI_FNV1A, img->conf.protocol, strlen(img->conf.protocol));

    h = mix(h, img->conf.config, img->conf.config_len);
    h = mix(h, img->conf.model, strlen(img->conf.model));
    h = mix(h, img->process, strlen(img->process));
    if (img->data_topic)
        h = mix(h, img->data_topic, strlen(img->data_topic));
    h = mix(h, &img->state_ms, sizeof img->state_ms);
    for (uint32_t i = 0; i < img->n; i++) {
        const struct ke_device_property *p = &img->pub[i];
        const struct prop *q = &img->props[i];
        uint32_t n[4] = {p->type, q->flags & 31u, p->collect_ms, q->report_ms};
        h = mix(h, p->name, strlen(p->name));
        h = mix(h, p->unit, strlen(p->unit));
        h = mix(h, p->visitor, p->visitor_len);
        h = mix(h, n, sizeof n);
        if (q->def) {
            h = mix(h, q->def->minimum, strlen(q->def->minimum));
            h = mix(h, q->def->maximum, strlen(q->def->maximum));
        }
    }
    for (uint32_t i = 0; i < img->n_methods; i++)
        h = mix(h, img->methods[i].name, strlen(img->methods[i].name));
    for (uint32_t i = 0; i < img->n_pushes; i++) {
        const struct kei_push_conf *c = &img->pushes[i].c;
        uint32_t n[4] = {img->pushes[i].prop, c->timeout_ms, c->qos, c->retained};
        h = mix(h, c->url, strlen(c->url));
        h = mix(h, c->target, strlen(c->target));
        h = mix(h, c->bad, strlen(c->bad));
        h = mix(h, n, sizeof n);
    }
    return mix(h, img->model ? "1" : "0", 1); /* which one does not matter, what it says does */
}

/* The desired values that are not the object's but were told by the twin. */
static const char *saved_desired(struct ke_devices *d, const struct kei_device *kd, const char *key,
                                 const char *prop, struct kei_arena *a)
{
    struct ke_str text, v;
    const char *json = kd->api == KEI_DEVICE_V1ALPHA2 ? kei_map_get(&d->saved, kei_str(key)) : NULL;

    if (!json || kei_json_value(kei_str(json), 0, &text, NULL) < 0 || !kei_json_get(text, prop, &v))
        return NULL;
    return kei_json_strdup(v, a);
}

static int fill_desired(struct image *img, struct ke_devices *d, const struct kei_device *kd,
                        struct kei_arena *a, struct ke_error *err)
{
    const char *key = kei_arena_printf(a, "%s/%s", img->conf.ns, img->conf.name);

    if (!key)
        return kei_error(err, KE_ENOMEM, "out of memory for a device");
    for (uint32_t i = 0; i < img->n; i++) {
        struct prop *p = &img->props[i];
        const char *own = kd->props[i].desired.value,
                   *s = saved_desired(d, kd, key, img->pub[i].name, a);
        p->cloud = own && own[0] ? hash32(own) : 0;
        if (!s)
            s = own;
        if (s && s[0] && !(p->desired = kei_strdup(img->alloc, s)))
            return kei_error(err, KE_ENOMEM, "out of memory for a device");
        if ((p->flags & PROP_BAD) &&
            !(p->error = kei_strdup(img->alloc, "the device model has no such property")))
            return kei_error(err, KE_ENOMEM, "out of memory for a device");
        kei_dv_desired_check(d, p);
    }
    return 0;
}

static int build(struct image **ret, struct ke_devices *d, const struct kei_device *kd,
                 struct model *model, struct kei_arena *a, struct ke_error *err)
{
    struct plan *plans = kei_arena_array(a, kd->n_props ? kd->n_props : 1, sizeof *plans);
    struct ke_str config;
    struct image dummy = {0};
    struct packer k = {NULL, sizeof(struct image)};
    bool has_data = false;
    int r = plans ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a device");

    for (uint32_t i = 0; r == 0 && i < kd->n_props; i++) {
        r = plan_prop(&plans[i], d, kd, &kd->props[i], model, a, err);
        has_data = has_data || (plans[i].flags & PROP_DATA);
    }
    if (r == 0)
        r = merge(&config, model ? model->m.protocol_config : kei_strn(NULL, 0),
                  kd->protocol_config, a, err);
    if (r < 0)
        return r;
    fill(&k, &dummy, kd, plans, config, has_data, d);
    struct image *img = kei_zalloc(d->alloc, k.at);
    if (!img)
        return kei_error(err, KE_ENOMEM, "out of memory for a device");
    img->alloc = d->alloc;
    img->shape = shape_get(d, plans, kd->n_props);
    if (!img->shape) {
        kei_free(d->alloc, img);
        return kei_error(err, KE_ENOMEM, "out of memory for a device");
    }
    img->pub = img->shape->pub;
    k = (struct packer){(char *)img, sizeof *img};
    fill(&k, img, kd, plans, config, has_data, d);
    img->n = kd->n_props;
    img->model = model;
    img->model_name = img->conf.model;
    img->alpha = kd->api == KEI_DEVICE_V1ALPHA2;
    img->conf.timeout_ms = d->c.timeout_ms;
    if (kd->has_state_report && kd->state_to_cloud)
        img->state_ms = (uint32_t)kei_device_cycle_ms(kd->state_cycle, kd->api,
                                                      (enum kei_cycle_unit)d->c.cycle_unit, 60000);
    img->hash = hash_image(img);
    img->phase = (uint32_t)mix(hash32(img->conf.name), img->conf.ns, strlen(img->conf.ns)) >> 1;
    if (model)
        model->refs++;
    r = fill_desired(img, d, kd, a, err);
    if (r < 0) {
        kei_dv_image_free(img);
        return r;
    }
    *ret = img;
    return 0;
}

int kei_dv_image_new(struct image **ret, struct ke_devices *d, const struct kei_device *kd,
                     struct model *model, struct ke_error *err)
{
    struct kei_arena a;

    if (kd->n_props > d->c.max_properties)
        return kei_error(err, KE_ELIMIT, "device %s/%s has %u properties; max_properties is %u",
                         kd->meta.ns, kd->meta.name, kd->n_props, d->c.max_properties);
    kei_arena_init(&a, d->alloc, 0);
    int r = build(ret, d, kd, model, &a, err);
    kei_arena_free(&a);
    return r;
}

void kei_dv_model_unref(struct model *m)
{
    if (!m || --m->refs)
        return;
    const struct ke_alloc *a = m->alloc;
    kei_arena_free(&m->arena);
    kei_free(a, m);
}

void kei_dv_image_free(struct image *img)
{
    if (!img)
        return;
    kei_dv_push_free(img);
    for (uint32_t i = 0; i < img->n; i++) {
        struct prop *p = &img->props[i];
        kei_free(img->alloc, p->desired);
        kei_free(img->alloc, p->error);
        kei_val_free(&p->cur, img->alloc);
        kei_val_free(&p->sent, img->alloc);
    }
    kei_dv_model_unref(img->model);
    shape_unref(img->shape);
    kei_free(img->alloc, img);
}

struct prop *kei_dv_prop(struct image *img, const char *name, uint32_t *ret_index)
{
    for (uint32_t i = 0; i < img->n; i++) {
        if (!strcmp(img->pub[i].name, name)) {
            if (ret_index)
                *ret_index = i;
            return &img->props[i];
        }
    }
    return NULL;
}

void kei_dv_image_carry(struct image *to, struct image *from)
{
    for (uint32_t i = 0; i < to->n; i++) {
        struct prop *p = &to->props[i], *q = kei_dv_prop(from, to->pub[i].name, NULL);
        if (!q || (q->flags & PROP_BAD) || (p->flags & PROP_BAD))
            continue;
        p->reads = q->reads;
        p->failures = q->failures;
        if ((q->flags & PROP_LOCAL) && q->cloud == p->cloud && q->desired) {
            kei_free(to->alloc, p->desired);
            p->desired = q->desired;
            p->flags |= PROP_LOCAL;
            q->desired = NULL;
        }
        if (p->type != q->type)
            continue;
        p->cur = q->cur;
        p->sent = q->sent;
        p->reported_ms = q->reported_ms;
        q->cur.kind = q->sent.kind = KE_DEVICE_KIND_NONE;
        if (q->flags & (PROP_DIRTY | PROP_IN_REPORT))
            p->flags |= PROP_DIRTY;
    }
}

void kei_dv_image_desire(struct dev *dev, struct image *from)
{
    for (uint32_t i = 0; i < dev->img->n && i < from->n; i++) {
        struct prop *p = &dev->img->props[i], *q = &from->props[i];
        if (p->cloud == q->cloud)
            continue;
        p->cloud = q->cloud;
        kei_free(dev->d->alloc, p->desired);
        p->desired = q->desired;
        q->desired = NULL;
        p->desired_ms = 0;
        p->write_at = 0;
        p->flags &= (uint16_t)~PROP_LOCAL;
        p->flags |= PROP_DIRTY;
        kei_dv_desired_check(dev->d, p);
        if (p->desired && (p->flags & PROP_WRITE))
            p->flags |= PROP_WRITE_DUE;
    }
}
