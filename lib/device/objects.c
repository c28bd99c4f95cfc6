/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects: devices and models from the store, from the cloud's messages, from a device profile and
 * from the host, in any order. Loop thread.
 */
#include <stdio.h>

#include "device/devices_priv.h"
#include "message/msg_priv.h"

#define ASK_TIMEOUT_MS 60000
#define ASK_ANEW_MS 600   /* more than the metamanager's pause between two questions to the cloud */
#define ASK_AGAIN_MS 1000  /* doubled with each try */
#define ADDRESS "address/" /* {PROTOCOL: its common part}, by NS/NAME */

static char *make_key(const struct ke_alloc *a, const char *ns, const char *name)
{
    size_t n = strlen(ns), m = strlen(name);
    char *key = kei_alloc(a, n + m + 2);

    if (key)
        snprintf(key, n + m + 2, "%s/%s", ns, name);
    return key;
}

struct dev *kei_dv_find(struct ke_devices *d, const char *ns, const char *name)
{
    char *key = make_key(d->alloc, ns && *ns ? ns : "default", name);
    struct dev *dev = key ? kei_map_get(&d->devs, kei_str(key)) : NULL;

    kei_free(d->alloc, key);
    return dev && !dev->removed ? dev : NULL;
}

struct driver *kei_dv_driver(struct ke_devices *d, const char *protocol)
{
    KEI_LIST_EACH(l, &d->drivers)
    {
        struct driver *v = KEI_OF(l, struct driver, link);
        if (!strcmp(v->protocol, protocol))
            return v;
    }
    return NULL;
}

static void refused(struct ke_devices *d, const char *what)
{
    d->stats.refused++;
    kei_log(d->ctx, KE_LOG_WARN, "device", "%s was refused: %s", what, ke_ctx_error(d->ctx));
}

/* ---- devices ---- */

static bool room_for(struct ke_devices *d, uint32_t n)
{
    if (n <= d->n_values)
        return true;
    uint32_t *s = kei_array_realloc(d->alloc, d->scratch, n, sizeof *s);
    if (s)
        d->scratch = s;
    struct ke_device_value *v = s ? kei_array_realloc(d->alloc, d->values, n, sizeof *v) : NULL;
    if (v)
        d->values = v;
    struct kei_val *w = v ? kei_array_realloc(d->alloc, d->vals, n, sizeof *w) : NULL;
    if (!w)
        return false;
    d->vals = w;
    d->n_values = n;
    return true;
}

static int dev_new(struct dev **ret, struct ke_devices *d, char *key, struct image *img)
{
    if (d->devs.n >= d->c.max_devices)
        return kei_fail(d->ctx, KE_ELIMIT, "device %s was one too many; max_devices is %u", key,
                        d->c.max_devices);
    struct dev *dev = kei_zalloc(d->alloc, sizeof *dev);
    if (!dev)
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for device %s", key);
    dev->d = d;
    dev->img = img;
    dev->key = key;
    kei_list_init(&dev->calls);
    kei_list_init(&dev->results);
    kei_timer_init(d->ctx, &dev->timer, kei_dv_on_timer);
    kei_backoff_init(&dev->backoff, d->c.retry_min_ms, d->c.retry_max_ms);
    int r = kei_map_put(&d->devs, kei_str(key), dev, NULL);
    if (r == 0 && (r = kei_dv_slot_take(dev)) < 0)
        kei_map_remove(&d->devs, kei_str(key));
    if (r < 0) {
        kei_free(d->alloc, dev);
        return kei_fail(d->ctx, r, "out of memory for device %s", key);
    }
    *ret = dev;
    return 0;
}

/* What must be kept of the object to read it once more when its model changes. */
static void keep_raw(struct dev *dev, struct ke_str raw, enum source source)
{
    struct ke_devices *d = dev->d;
    bool keep = raw.n && (source == SOURCE_HOST || !d->c.store);

    kei_free(d->alloc, dev->raw);
    dev->raw = keep ? kei_strndup(d->alloc, raw.p, raw.n) : NULL;
    dev->source = (uint8_t)source;
}

static void use_image(struct dev *dev, struct image *img)
{
    struct image *now = dev->next ? dev->next : dev->img;

    if (!dev->removed && now->hash == img->hash) {
        if (dev->next) {
            kei_dv_image_free(dev->next);
            dev->next = img;
        } else {
            kei_dv_image_desire(dev, img);
            kei_dv_image_free(img);
        }
    } else {
        kei_dv_image_free(dev->next);
        dev->next = img;
        dev->reborn = dev->reborn || dev->removed;
        dev->removed = false;
    }
    kei_dv_kick(dev);
}

static struct model *find_model(struct ke_devices *d, const char *ns, const char *name)
{
    char *key = make_key(d->alloc, ns, name);
    struct model *m = key ? kei_map_get(&d->models, kei_str(key)) : NULL;

    kei_free(d->alloc, key);
    return m;
}

static int apply_device(struct ke_devices *d, const struct kei_device *kd, struct ke_str raw,
                        enum source source)
{
    const char *ns = kd->meta.ns[0] ? kd->meta.ns : "default";
    struct image *img;
    struct dev *dev;
    int r = kei_dv_image_new(&img, d, kd, find_model(d, ns, kd->model), kei_err(d->ctx));

    if (r < 0)
        return r;
    if (!room_for(d, img->n)) {
        kei_dv_image_free(img);
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for device %s", kd->meta.name);
    }
    char *key = make_key(d->alloc, ns, kd->meta.name);
    dev = key ? kei_map_get(&d->devs, kei_str(key)) : NULL;
    if (dev) {
        kei_free(d->alloc, key);
        keep_raw(dev, raw, source);
        dev->version = kd->meta.version;
        use_image(dev, img);
        return 0;
    }
    r = key ? dev_new(&dev, d, key, img) : kei_fail(d->ctx, KE_ENOMEM, "out of memory");
    if (r < 0) {
        kei_free(d->alloc, key);
        kei_dv_image_free(img);
        return r;
    }
    keep_raw(dev, raw, source);
    dev->version = kd->meta.version;
    kei_dv_data_configure(dev);
    kei_dv_push_configure(dev);
    kei_dv_kick(dev);
    return 0;
}

/* Whether a newer one came while this one was on its way from the store. */
static bool outdated(struct ke_devices *d, const struct kei_device *kd)
{
    struct dev *dev = kei_dv_find(d, kd->meta.ns, kd->meta.name);

    return dev && dev->version > kd->meta.version;
}

static int put_device(struct ke_devices *d, struct ke_str object, enum source source,
                      bool from_store)
{
    struct kei_arena a;
    struct kei_device kd;

    kei_arena_init(&a, d->alloc, 0);
    int r = kei_device_read(&kd, object, &a, kei_err(d->ctx));
    if (r == 0 && (!kd.meta.name[0] || !kd.spec.p))
        r = kei_fail(d->ctx, KE_EPARSE, "a device had no %s", kd.meta.name[0] ? "spec" : "name");
    if (r == 0 && !(from_store && outdated(d, &kd)))
        r = apply_device(d, &kd, object, source);
    kei_arena_free(&a);
    return r;
}

/* ---- models ---- */

/* A value of the store as JSON; false: it is none, or nobody wants it any more. */
static bool value_of(struct ke_devices *d, const struct ke_store_item *item, struct ke_str *ret)
{
    if (d->closing)
        return false;
    if (kei_json_check(kei_strn(item->value, item->len), 0, kei_err(d->ctx)) == 0 &&
        kei_json_value(kei_strn(item->value, item->len), 0, ret, NULL) == 0)
        return true;
    refused(d, item->key);
    return false;
}

static void on_again(void *user, int status, const struct ke_store_item *item)
{
    struct ke_devices *d = user;

    struct ke_str v;

    kei_dv_loaded(d);
    if (status < 0 || !item || !value_of(d, item, &v))
        return;
    if (put_device(d, v, SOURCE_STORE, true) < 0)
        refused(d, item->key);
}

/* The model of these devices came, changed or went: they are read again. */
static void model_changed(struct ke_devices *d, const char *ns, const char *name)
{
    struct ke_str key;
    void *p;
    size_t it = 0;

    while (kei_map_next(&d->devs, &it, &key, &p)) {
        struct dev *dev = p;
        const struct image *img = dev->next ? dev->next : dev->img;
        if (dev->removed || strcmp(img->model_name, name) != 0 || strcmp(img->conf.ns, ns) != 0)
            continue;
        if (dev->raw || dev->source != SOURCE_STORE || !d->c.store) {
            dev->raw_asked = dev->raw != NULL;
        } else if (ke_store_get(d->c.store, "o/device", dev->key, on_again, d) == 0) {
            d->loading++;
        }
    }
    /* in a second walk: what is put may be a new slot of the map */
    it = 0;
    while (kei_map_next(&d->devs, &it, &key, &p)) {
        struct dev *dev = p;
        if (!dev->raw_asked)
            continue;
        dev->raw_asked = false;
        char *raw = dev->raw;
        dev->raw = NULL;
        if (put_device(d, kei_str(raw), (enum source)dev->source, false) < 0)
            refused(d, dev->key);
        if (!dev->raw)
            dev->raw = raw;
        else
            kei_free(d->alloc, raw);
    }
}

static int model_store(struct ke_devices *d, struct model *m)
{
    const char *ns = m->m.meta.ns[0] ? m->m.meta.ns : "default";
    char *key = make_key(d->alloc, ns, m->m.meta.name);
    void *old = NULL;
    int r = key ? kei_map_put(&d->models, kei_str(key), m, &old) : KE_ENOMEM;

    kei_free(d->alloc, key);
    if (r < 0)
        return kei_fail(d->ctx, r, "out of memory for device model %s", m->m.meta.name);
    kei_dv_model_unref(old);
    return 0;
}

static int model_new(struct model **ret, struct ke_devices *d)
{
    struct model *m = kei_zalloc(d->alloc, sizeof *m);

    if (!m)
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for a device model");
    m->alloc = d->alloc;
    m->refs = 1;
    kei_arena_init(&m->arena, d->alloc, 0);
    *ret = m;
    return 0;
}

static int put_model(struct ke_devices *d, struct ke_str object, bool from_store)
{
    struct model *m;
    int r = model_new(&m, d);

    if (r < 0)
        return r;
    struct ke_str text = {kei_arena_strdup(&m->arena, object), object.n};
    r = text.p ? kei_device_model_read(&m->m, text, &m->arena, kei_err(d->ctx))
               : kei_fail(d->ctx, KE_ENOMEM, "out of memory for a device model");
    if (r == 0 && !m->m.meta.name[0])
        r = kei_fail(d->ctx, KE_EPARSE, "a device model had no name");
    if (r == 0 && from_store) {
        struct model *now =
            find_model(d, m->m.meta.ns[0] ? m->m.meta.ns : "default", m->m.meta.name);
        if (now && now->m.meta.version > m->m.meta.version) {
            kei_dv_model_unref(m); /* a newer one came meanwhile */
            return 0;
        }
    }
    if (r == 0)
        r = model_store(d, m);
    if (r < 0) {
        kei_dv_model_unref(m);
        return r;
    }
    model_changed(d, m->m.meta.ns[0] ? m->m.meta.ns : "default", m->m.meta.name);
    return 0;
}

/* ---- putting and removing ---- */

int kei_dv_put(struct ke_devices *d, struct ke_str object, enum source source)
{
    struct ke_str v, kind;
    bool model = false;
    int r = kei_json_check(object, 0, kei_err(d->ctx));

    if (r == 0)
        r = kei_json_value(object, 0, &v, kei_err(d->ctx));
    if (r < 0)
        return kei_error_prefix(kei_err(d->ctx), r, "object");
    if (kei_json_type(v) != '{')
        return kei_fail(d->ctx, KE_EPARSE, "the object was no JSON object");
    if (kei_json_get(v, "kind", &kind)) {
        model = kei_json_str_is(kind, "DeviceModel");
        if (!model && !kei_json_str_is(kind, "Device"))
            return kei_fail(d->ctx, KE_EPARSE,
                            "kind of the object was neither Device nor "
                            "DeviceModel");
    }
    return model ? put_model(d, v, false) : put_device(d, v, source, false);
}

static void forget_desired(struct ke_devices *d, const char *key)
{
    struct ke_store_tx *tx;
    char name[600];

    kei_free(d->alloc, kei_map_remove(&d->saved, kei_str(key)));
    if (!d->c.store || ke_store_begin(&tx, d->c.store) < 0)
        return;
    snprintf(name, sizeof name, "desired/%s", key);
    (void)!ke_store_delete(tx, DV_BUCKET, name, NULL);
    snprintf(name, sizeof name, "process/%s", key);
    (void)!ke_store_delete(tx, DV_BUCKET, name, NULL);
    snprintf(name, sizeof name, ADDRESS "%s", key);
    kei_free(d->alloc, kei_map_remove(&d->saved, kei_str(name)));
    (void)!ke_store_delete(tx, DV_BUCKET, name, NULL);
    snprintf(name, sizeof name, "results/%s", key);
    (void)!ke_store_delete(tx, DV_BUCKET, name, NULL);
    (void)!ke_store_commit(tx, NULL, NULL);
}

int kei_dv_remove(struct ke_devices *d, bool model, const char *ns, const char *name)
{
    const char *space = ns && *ns ? ns : "default";

    if (model) {
        char *key = make_key(d->alloc, space, name);
        struct model *m = key ? kei_map_remove(&d->models, kei_str(key)) : NULL;
        kei_free(d->alloc, key);
        if (!m)
            return KE_ENOTFOUND;
        /* Devices keep what they have: the cloud removes models before their devices. */
        kei_dv_model_unref(m);
        return 0;
    }
    struct dev *dev = kei_dv_find(d, space, name);
    if (!dev)
        return KE_ENOTFOUND;
    dev->removed = true;
    kei_dv_image_free(dev->next);
    dev->next = NULL;
    forget_desired(d, dev->key);
    kei_dv_kick(dev);
    return 0;
}

/* ---- the device profile ---- */

/* A model of its own, so that it can go by itself. */
static int model_copy(struct model *m, const struct kei_device_model *from, const char *ns)
{
    struct kei_arena *a = &m->arena;
    bool ok = true;

    m->m = *from;
    m->m.meta.ns = kei_arena_strdup(a, kei_str(ns));
    m->m.meta.name = kei_arena_strdup(a, kei_str(from->meta.name));
    m->m.meta.uid = m->m.meta.resource_version = m->m.protocol = "";
    m->m.props = kei_arena_array(a, from->n_props ? from->n_props : 1, sizeof *m->m.props);
    if (!m->m.meta.ns || !m->m.meta.name || !m->m.props)
        return KE_ENOMEM;
    for (uint32_t i = 0; ok && i < from->n_props; i++) {
        struct kei_model_prop *p = &m->m.props[i];
        *p = from->props[i];
        const char **texts[] = {&p->name,    &p->description, &p->unit, &p->type_text,
                                &p->minimum, &p->maximum,     &p->dflt};
        for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
            *texts[k] = kei_arena_strdup(a, kei_str(*texts[k]));
            ok = ok && *texts[k];
        }
        p->visitor_protocol = "";
    }
    return ok ? 0 : KE_ENOMEM;
}

static int take_models(struct ke_devices *d, const struct kei_device_profile *p, const char *ns)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < p->n_models; i++) {
        struct model *m;
        r = model_new(&m, d);
        if (r < 0)
            break;
        r = model_copy(m, &p->models[i], ns);
        r = r < 0 ? kei_fail(d->ctx, r, "out of memory for a device model") : model_store(d, m);
        if (r < 0)
            kei_dv_model_unref(m);
    }
    return r;
}

static bool listed(const struct kei_device_profile *p, const char *name)
{
    for (uint32_t i = 0; i < p->n_devices; i++) {
        if (!strcmp(p->devices[i].meta.name, name))
            return true;
    }
    return false;
}

static void save_address(struct ke_devices *d, const char *name, struct ke_str text)
{
    struct ke_store_tx *tx;
    void *old = NULL;
    char *copy = kei_strndup(d->alloc, text.p, text.n);

    if (!copy || kei_map_put(&d->saved, kei_str(name), copy, &old) < 0) {
        kei_free(d->alloc, copy);
        return; /* the next profile has it again, or the store does */
    }
    kei_free(d->alloc, old);
    if (!d->c.store || ke_store_begin(&tx, d->c.store) < 0)
        return;
    (void)!ke_store_put(tx, DV_BUCKET, name, NULL, 0, text.p, text.n);
    if (ke_store_commit(tx, NULL, NULL) < 0)
        kei_log(d->ctx, KE_LOG_WARN, "device", "%s was not stored: %s", name, ke_ctx_error(d->ctx));
}

/*
 * KubeEdge 1.4 loses protocolCommonConfig, where the address is, when it writes the profile again
 * after a change of the device: what it said before goes on, over a restart too. Of another
 * protocol it does not.
 */
static int keep_address(struct ke_devices *d, struct kei_device *kd, struct kei_arena *a)
{
    char name[600];
    const char *saved;
    struct ke_str common;
    int r = 0, n = snprintf(name, sizeof name, ADDRESS "%s/%s", kd->meta.ns, kd->meta.name);

    if (n < 0 || n >= (int)sizeof name)
        return 0;
    saved = kei_map_get(&d->saved, kei_str(name));
    if (kd->protocol_common.p) {
        struct kei_jw w;

        kei_buf_clear(&d->buf);
        kei_jw_init(&w, &d->buf);
        kei_jw_obj(&w);
        kei_jw_key(&w, kd->protocol);
        kei_jw_raw(&w, kd->protocol_common);
        kei_jw_obj_end(&w);
        if (kei_buf_ok(&d->buf) && (!saved || !kei_str_is(kei_buf_str(&d->buf), saved)))
            save_address(d, name, kei_buf_str(&d->buf));
    } else if (saved && kei_json_get(kei_str(saved), kd->protocol, &common)) {
        const char *text = kei_arena_strdup(a, common); /* what is saved may go */

        r = text ? kei_device_set_common(kd, kei_str(text), a, kei_err(d->ctx))
                 : kei_fail(d->ctx, KE_ENOMEM, "out of memory for a device profile");
    }
    return r;
}

static int put_profile(struct ke_devices *d, struct ke_str json, const char *ns)
{
    struct kei_arena a;
    struct kei_device_profile p;
    struct ke_str key;
    void *v;
    size_t it = 0;

    kei_arena_init(&a, d->alloc, 0);
    int r = kei_device_profile_read(&p, json, ns, &a, kei_err(d->ctx));
    if (r == 0)
        r = take_models(d, &p, ns);
    for (uint32_t i = 0; r == 0 && i < p.n_devices; i++) {
        r = keep_address(d, &p.devices[i], &a);
        if (r == 0)
            r = apply_device(d, &p.devices[i], kei_strn(NULL, 0), SOURCE_PROFILE);
    }
    while (r == 0 && kei_map_next(&d->devs, &it, &key, &v)) {
        struct dev *dev = v;
        if (dev->source == SOURCE_PROFILE && !strcmp(dev->img->conf.ns, ns) &&
            !listed(&p, dev->img->conf.name))
            (void)kei_dv_remove(d, false, ns, dev->img->conf.name);
    }
    kei_arena_free(&a);
    return r;
}

/* A ConfigMap; deleted: object is empty */
static int put_configmap(struct ke_devices *d, struct ke_str object, const char *ns)
{
    struct ke_str data, text;
    struct ke_buf b;
    int r = 0;

    kei_buf_init(&b, d->alloc);
    if (kei_json_get(object, "data", &data) && kei_json_get(data, "deviceProfile.json", &text) &&
        kei_json_type(text) == '"')
        r = kei_json_str(text, &b, kei_err(d->ctx));
    if (r == 0 && b.n == 0)
        kei_buf_adds(&b, "{}");
    if (r == 0)
        r = kei_buf_ok(&b) ? put_profile(d, kei_buf_str(&b), ns)
                           : kei_fail(d->ctx, KE_ENOMEM, "out of memory for a device profile");
    ke_buf_free(&b);
    return r;
}

static void on_profile(void *user, int status, struct ke_msg *reply)
{
    struct ke_devices *d = user;
    struct ke_str v;
    size_t n;

    d->profile_request = 0;
    d->profile_asked_ms = 0;
    const char *text = status == 0 ? ke_msg_content(reply, &n) : NULL;
    if (!text || strcmp(ke_msg_operation(reply), "response") != 0 ||
        kei_json_value(kei_strn(text, n), 0, &v, NULL) < 0 || kei_json_type(v) != '{') {
        /* perhaps the cloud has not made it yet; most nodes have no devices */
        kei_dv_ask_profile(d, (int64_t)ASK_AGAIN_MS
                                  << (d->profile_tries < 7 ? d->profile_tries++ : 7));
        return;
    }
    if (put_configmap(d, v, "default") < 0)
        refused(d, "the device profile");
}

static void ask_profile(struct kei_timer *t)
{
    struct ke_devices *d = KEI_OF(t, struct ke_devices, profile);
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    char resource[400];

    snprintf(resource, sizeof resource, "default/configmap/device-profile-config-%s", d->node_name);
    ke_msg_config_init(&c, sizeof c);
    c.source = "edged";
    c.group = "meta";
    c.operation = "query";
    c.resource = resource;
    int r = ke_msg_new(&m, d->ctx, &c, kei_err(d->ctx));
    if (r == 0)
        r = ke_router_request(d->c.router, "metamanager", m, ASK_TIMEOUT_MS, on_profile, d,
                              &d->profile_request);
    ke_msg_unref(m);
    if (r == 0)
        d->profile_asked_ms = ke_ctx_mono_ms(d->ctx);
    else
        kei_dv_ask_profile(d, ASK_AGAIN_MS);
}

static bool has_profile(const struct ke_devices *d)
{
    return d->c.dialect_now ? d->c.dialect_now(d->c.user) == KE_DIALECT_1_4
                            : (d->c.flags & KE_DEVICES_PROFILE) != 0;
}

void kei_dv_ask_profile(struct ke_devices *d, int64_t in_ms)
{
    if (!has_profile(d) || !d->c.router || d->profile_request || kei_timer_armed(&d->profile))
        return;
    if (!d->profile.fn)
        kei_timer_init(d->ctx, &d->profile, ask_profile);
    (void)kei_timer_in(&d->profile, in_ms);
}

void kei_dv_profile_due(struct ke_devices *d)
{
    int64_t wait = 0;

    d->profile_tries = 0;
    if (d->profile_request) { /* its answer may be older than this; a cloud of 1.4 has none at all for
                                 what was not there when it was asked */
        ke_router_cancel(d->c.router, d->profile_request);
        d->profile_request = 0;
    }
    if (d->profile_asked_ms)
        wait = d->profile_asked_ms + ASK_ANEW_MS - ke_ctx_mono_ms(d->ctx);
    if (d->profile.fn)
        kei_timer_stop(&d->profile);
    kei_dv_ask_profile(d, wait > 0 ? wait : 0);
}

/* ---- messages ---- */

void kei_dv_save_desired(struct dev *dev)
{
    struct ke_devices *d = dev->d;
    struct ke_store_tx *tx;
    struct kei_jw w;
    char name[600];
    void *old = NULL;

    kei_buf_clear(&d->buf);
    kei_jw_init(&w, &d->buf);
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < dev->img->n; i++) {
        if (dev->img->props[i].desired)
            kei_jw_kstr(&w, dev->img->pub[i].name, dev->img->props[i].desired);
    }
    kei_jw_obj_end(&w);
    char *text = kei_buf_ok(&d->buf) ? kei_strndup(d->alloc, d->buf.p, d->buf.n) : NULL;
    if (text && kei_map_put(&d->saved, kei_str(dev->key), text, &old) < 0)
        kei_free(d->alloc, text);
    kei_free(d->alloc, old);
    if (!text || !d->c.store || ke_store_begin(&tx, d->c.store) < 0)
        return;
    snprintf(name, sizeof name, "desired/%s", dev->key);
    (void)!ke_store_put(tx, DV_BUCKET, name, NULL, 0, d->buf.p, d->buf.n);
    if (ke_store_commit(tx, NULL, NULL) < 0)
        kei_log(d->ctx, KE_LOG_WARN, "device", "desired values of %s were not stored: %s", dev->key,
                ke_ctx_error(d->ctx));
}

/* id is NAME or NS/NAME */
static struct dev *find_id(struct ke_devices *d, struct ke_str id)
{
    char key[600];
    struct ke_str rest, first = kei_str_cut(id, '/', &rest);

    if (!rest.p) {
        rest = first;
        first = KEI_STR("default");
    }
    int n = snprintf(key, sizeof key, "%.*s/%.*s", KEI_FMT(first), KEI_FMT(rest));
    struct dev *dev = n > 0 && n < (int)sizeof key ? kei_map_get(&d->devs, kei_str(key)) : NULL;
    return dev && !dev->removed ? dev : NULL;
}

/* Each value of delta becomes the desired one. */
static void take_delta(struct dev *dev, struct ke_str delta)
{
    struct ke_devices *d = dev->d;
    struct ke_str key, v;
    size_t it = 0;
    bool any = false;

    while (kei_json_type(delta) == '{' && kei_json_next(delta, &it, &key, &v)) {
        for (uint32_t i = 0; i < dev->img->n; i++) {
            struct prop *p = &dev->img->props[i];
            if (!kei_json_key_is(key, dev->img->pub[i].name) || !(p->flags & PROP_WRITE) ||
                kei_json_type(v) != '"')
                continue;
            kei_buf_clear(&d->buf);
            if (kei_json_str(v, &d->buf, NULL) < 0 || !kei_buf_ok(&d->buf) || d->buf.n == 0)
                continue;
            kei_buf_addc(&d->buf, '\0');
            if (!kei_buf_ok(&d->buf) || (p->desired && !strcmp(p->desired, d->buf.p)))
                continue; /* the twin says it again until the device tells it has it */
            char *s = kei_strdup(d->alloc, d->buf.p);
            if (!s)
                continue;
            kei_free(d->alloc, p->desired);
            p->desired = s;
            p->desired_ms = 0;
            p->write_at = 0;
            p->flags &= (uint16_t)~PROP_LOCAL;
            p->flags |= PROP_WRITE_DUE;
            kei_dv_desired_check(d, p);
            any = true;
        }
    }
    if (!any)
        return;
    kei_dv_save_desired(dev);
    kei_dv_kick(dev);
}

static void on_delta(struct ke_devices *d, struct ke_str id, struct ke_str content)
{
    struct ke_str delta;
    struct dev *dev = find_id(d, id);

    if (!dev) {
        kei_dv_profile_due(d);
        return;
    }
    /* v1beta1 says in the object what is desired: an older delta must not undo a newer object */
    if (dev->img->alpha && kei_json_get(content, "delta", &delta))
        take_delta(dev, delta);
}

/* The device of an id between two texts; false: resource has not that form. */
static bool id_between(struct ke_str resource, const char *tail, struct ke_str *ret)
{
    const struct ke_str front = KEI_STR("device/"), end = kei_str(tail);

    if (!kei_str_starts(resource, front) || !kei_str_ends(resource, end) ||
        resource.n <= front.n + end.n)
        return false;
    *ret = kei_strn(resource.p + front.n, resource.n - front.n - end.n);
    return true;
}

/*
 * The twin tells of the cloud's membership. It is all that a cloud of 1.4 says at once of a device
 * that is removed: the profile in the store still has it then, and is not read again.
 */
static void on_member(struct ke_devices *d, struct ke_str id, bool removed)
{
    struct dev *dev = find_id(d, id);

    if (removed && dev && dev->source == SOURCE_PROFILE)
        (void)kei_dv_remove(d, false, dev->img->conf.ns, dev->img->conf.name);
    else if (!removed && !dev)
        kei_dv_profile_due(d);
}

/* NS/TYPE/NAME with its object */
static int on_object(struct ke_devices *d, const struct kei_resource *res, const char *operation,
                     struct ke_str content)
{
    char ns[300], name[300];
    bool gone = !strcmp(operation, "delete");

    snprintf(ns, sizeof ns, "%.*s", KEI_FMT(res->ns));
    snprintf(name, sizeof name, "%.*s", KEI_FMT(res->name));
    if (kei_str_is(res->type, "configmap"))
        return put_configmap(d, gone ? kei_strn(NULL, 0) : content, ns);
    bool model = kei_str_is(res->type, "devicemodel");
    if (gone) {
        (void)kei_dv_remove(d, model, ns, name);
        return 0;
    }
    return model ? put_model(d, content, false) : put_device(d, content, SOURCE_STORE, false);
}

void kei_dv_message(void *user, struct ke_msg *m)
{
    struct ke_devices *d = user;
    struct ke_str v, resource = kei_str(ke_msg_resource(m)), content, id;
    struct kei_resource res;
    size_t n;
    int r = 0;

    if (d->closing)
        return;
    const char *text = ke_msg_content(m, &n);
    if (kei_json_value(kei_strn(text, n), 0, &v, NULL) < 0)
        return;
    content = v;
    struct ke_buf b;
    kei_buf_init(&b, d->alloc);
    /* a payload may come as a text */
    if (kei_json_type(v) == '"' && kei_json_str(v, &b, NULL) == 0 && kei_buf_ok(&b) &&
        kei_json_value(kei_buf_str(&b), 0, &content, NULL) < 0)
        content = v;
    if (id_between(resource, "/twin/delta", &id))
        on_delta(d, id, content);
    else if (id_between(resource, "/membership/added", &id))
        on_member(d, id, false);
    else if (id_between(resource, "/membership/removed", &id))
        on_member(d, id, true);
    else if (kei_str_is(resource, "node/connection") && kei_json_str_is(v, "cloud_connected"))
        kei_dv_profile_due(d); /* it may have changed meanwhile, and nobody would tell */
    else if (kei_resource_parse(&res, resource) &&
             (kei_str_is(res.type, "device") || kei_str_is(res.type, "devicemodel") ||
              kei_str_is(res.type, "configmap")))
        r = on_object(d, &res, ke_msg_operation(m), content);
    ke_buf_free(&b);
    if (r < 0)
        refused(d, ke_msg_resource(m));
}

/* ---- the store ---- */

/* false: the end of the list */
static bool listing(struct ke_devices *d, int status, const struct ke_store_item *item,
                    struct ke_str *ret)
{
    if (item)
        return value_of(d, item, ret);
    if (status < 0 && status != KE_ENOTFOUND && !d->closing)
        kei_log(d->ctx, KE_LOG_ERROR, "device", "the devices could not be read from the store: %s",
                ke_ctx_error(d->ctx));
    kei_dv_loaded(d);
    return false;
}

static void on_model_item(void *user, int status, const struct ke_store_item *item)
{
    struct ke_devices *d = user;
    struct ke_str v;

    if (listing(d, status, item, &v) && put_model(d, v, true) < 0)
        refused(d, item->key);
}

static void on_device_item(void *user, int status, const struct ke_store_item *item)
{
    struct ke_devices *d = user;
    struct ke_str v;

    if (listing(d, status, item, &v) && put_device(d, v, SOURCE_STORE, true) < 0)
        refused(d, item->key);
}

static void on_map_item(void *user, int status, const struct ke_store_item *item)
{
    struct ke_devices *d = user;
    struct ke_str rest, ns, v;
    char name[300], space[300];

    if (!listing(d, status, item, &v))
        return;
    ns = kei_str_cut(kei_str(item->key), '/', &rest);
    snprintf(name, sizeof name, "device-profile-config-%s", d->node_name ? d->node_name : "");
    if (!rest.p || !kei_str_is(rest, name))
        return;
    snprintf(space, sizeof space, "%.*s", KEI_FMT(ns));
    if (put_configmap(d, v, space) < 0)
        refused(d, item->key);
}

static void on_own_item(void *user, int status, const struct ke_store_item *item)
{
    static const char desired[] = "desired/";
    struct ke_devices *d = user;
    struct ke_str v;
    void *old = NULL;

    if (!listing(d, status, item, &v))
        return;
    struct ke_str key = kei_str(item->key);
    if (kei_str_starts(key, KEI_STR("process/")) || kei_str_starts(key, KEI_STR("results/"))) {
        kei_dv_data_saved(d, item->key, v);
        return;
    }
    bool address = kei_str_starts(key, KEI_STR(ADDRESS));
    if (!address && !kei_str_starts(key, kei_str(desired)))
        return;
    char *text = kei_strndup(d->alloc, v.p, v.n);
    if (!address)
        key = kei_str(item->key + sizeof desired - 1);
    if (text && kei_map_put(&d->saved, key, text, &old) < 0)
        kei_free(d->alloc, text);
    kei_free(d->alloc, old);
}

/* Desired values first, then models, then devices: answers come in the order of the calls. */
int kei_dv_load(struct ke_devices *d)
{
    static const struct {
        const char *bucket;
        ke_store_list_fn fn;
    } lists[] = {{DV_BUCKET, on_own_item},
                 {"o/devicemodel", on_model_item},
                 {"o/device", on_device_item},
                 {"o/configmap", on_map_item}};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        int r = ke_store_list(d->c.store, lists[i].bucket, NULL, 0, lists[i].fn, d);
        if (r < 0)
            return r;
        d->loading++;
    }
    return 0;
}
