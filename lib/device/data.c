/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data processing in the harness: feeds the rules of a device with its values, brings the results
 * to a topic, to the twin or to the cloud, and keeps the state of windows in the store. Also the
 * data section of v1alpha2, whose properties are published as they are read. Loop thread.
 */
#include <stdio.h>

#include "device/devices_priv.h"

/* ---- configuration ---- */

static int32_t name_of(void *user, struct ke_str name)
{
    const struct image *img = user;

    for (uint32_t i = 0; i < img->n; i++) {
        if (kei_str_is(name, img->pub[i].name))
            return (int32_t)i;
    }
    return -1;
}

static int make(struct process **ret, struct dev *dev, const char *json, size_t n)
{
    return kei_rules_new(ret, kei_strn(json, n), dev->d->c.max_rules, name_of, dev->img,
                         dev->img->n, dev->d->alloc, kei_err(dev->d->ctx));
}

/* What was stored before this device was known. */
static void restore(struct dev *dev)
{
    struct ke_devices *d = dev->d;
    struct ke_str v;
    char name[600];

    snprintf(name, sizeof name, "process/%s", dev->key);
    char *text = kei_map_remove(&d->saved, kei_str(name));
    if (text && dev->process && kei_json_value(kei_str(text), 0, &v, NULL) == 0)
        kei_rules_restore(dev->process, ke_ctx_mono_ms(d->ctx), v);
    kei_free(d->alloc, text);
    snprintf(name, sizeof name, "results/%s", dev->key);
    text = kei_map_remove(&d->saved, kei_str(name));
    if (text && kei_json_value(kei_str(text), 0, &v, NULL) == 0)
        kei_dv_results_restore(dev, v);
    kei_free(d->alloc, text);
}

/* The host's rules, or the object's, for the image there is now. */
void kei_dv_data_configure(struct dev *dev)
{
    const char *json = dev->process_own ? dev->process_own : dev->img->process;
    struct process *old = dev->process;

    dev->process = NULL;
    if (json[0] && make(&dev->process, dev, json, strlen(json)) < 0)
        kei_dv_error(dev, "%s", ke_ctx_error(dev->d->ctx));
    if (dev->process && old)
        kei_rules_carry(dev->process, old);
    kei_rules_free(old);
    restore(dev);
}

void kei_dv_data_free(struct dev *dev)
{
    kei_rules_free(dev->process);
    dev->process = NULL;
    kei_dv_results_free(dev);
}

int ke_devices_process(struct ke_devices *d, const char *ns, const char *name, const char *json,
                       size_t n)
{
    struct process *p = NULL;
    char *own = NULL;

    if (!d || !name)
        return KE_EINVAL;
    struct dev *dev = kei_dv_find(d, ns, name);
    if (!dev)
        return kei_fail(d->ctx, KE_ENOTFOUND, "there is no device %s", name);
    int r = json ? make(&p, dev, json, n) : 0;
    kei_rules_free(p); /* it was only to see whether it is right */
    if (r < 0)
        return r;
    if (json && !(own = kei_strndup(d->alloc, json, n)))
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for data processing");
    kei_free(d->alloc, dev->process_own);
    dev->process_own = own;
    kei_dv_data_configure(dev);
    kei_dv_kick(dev);
    return 0;
}

/* ---- results ---- */

static void write_result(struct dev *dev, const struct process_result *r, int64_t now)
{
    struct ke_devices *d = dev->d;
    char number[KEI_VALUE_TEXT_MAX];
    struct kei_jw w;

    kei_number_text(number, r->value, false);
    kei_buf_clear(&d->buf);
    kei_jw_init(&w, &d->buf);
    kei_jw_obj(&w);
    if (r->to == PROCESS_TWIN) {
        kei_jw_kstr(&w, "event_id", "");
        kei_jw_ki64(&w, "timestamp", now);
        kei_jw_key(&w, "twin");
        kei_jw_obj(&w);
        kei_jw_key(&w, r->name);
        kei_jw_obj(&w);
        kei_jw_key(&w, "actual");
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "value", number);
        kei_jw_obj_end(&w);
        kei_jw_key(&w, "metadata");
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "type", "float");
        kei_jw_obj_end(&w);
        kei_jw_obj_end(&w);
        kei_jw_obj_end(&w);
    } else {
        kei_jw_kstr(&w, "device", dev->key);
        kei_jw_kstr(&w, "name", r->name);
        kei_jw_ki64(&w, "timestamp", now);
        kei_jw_kstr(&w, "value", number);
        if (r->aggregate) {
            kei_jw_kstr(&w, "aggregate", r->aggregate);
            kei_jw_ki64(&w, "count", (int64_t)r->count);
        }
        if (r->window_ms)
            kei_jw_ki64(&w, "window_ms", r->window_ms);
        if (r->level)
            kei_jw_kstr(&w, "state", r->level);
        if (r->incomplete)
            kei_jw_kbool(&w, "incomplete", true);
    }
    kei_jw_obj_end(&w);
}

static void twin_topic(struct dev *dev, const char *head, const char *tail, char *out, size_t cap)
{
    struct ke_buf id;

    kei_buf_init(&id, dev->d->alloc);
    snprintf(out, cap, "%s%s%s", head, kei_dv_id(dev, &id), tail);
    ke_buf_free(&id);
}

static void on_result(void *user, const struct process_result *r)
{
    struct dev *dev = user;
    struct ke_devices *d = dev->d;
    char topic[600];

    write_result(dev, r, ke_ctx_real_ms(d->ctx));
    if (!kei_buf_ok(&d->buf)) {
        kei_dv_error(dev, "result %s was lost: out of memory", r->name);
        return;
    }
    if (r->to == PROCESS_TWIN)
        twin_topic(dev, "$hw/events/device/", "/twin/update", topic, sizeof topic);
    kei_dv_result_add(dev, r->to, r->name, r->to == PROCESS_TWIN ? topic : r->topic,
                      kei_buf_str(&d->buf));
}

/* ---- values ---- */

void kei_dv_data_value(struct dev *dev, uint32_t prop)
{
    struct prop *p = &dev->img->props[prop];

    if (p->flags & PROP_DATA)
        p->flags |= PROP_TOUCHED;
    if (dev->process)
        kei_rules_touch(dev->process, prop);
}

static bool value_at(void *user, uint32_t index, double *ret)
{
    const struct image *img = user;

    return kei_val_number(&img->props[index].cur, ret);
}

/* The properties of the data section that were just read. */
static void publish_data(struct dev *dev, int64_t now)
{
    struct ke_devices *d = dev->d;
    struct image *img = dev->img;
    const char *topic = img->data_topic;
    char own[600];
    struct kei_jw w;
    bool any = false;

    for (uint32_t i = 0; i < img->n && !any; i++)
        any = img->props[i].flags & PROP_TOUCHED;
    if (!any)
        return;
    kei_buf_clear(&d->buf);
    kei_jw_init(&w, &d->buf);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "event_id", "");
    kei_jw_ki64(&w, "timestamp", now);
    kei_jw_key(&w, "data");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < img->n; i++) {
        struct prop *p = &img->props[i];
        if (!(p->flags & PROP_TOUCHED))
            continue;
        p->flags &= (uint16_t)~PROP_TOUCHED;
        kei_buf_clear(&d->raw);
        kei_val_text(&d->raw, (enum kei_prop_type)p->type, &p->cur);
        kei_jw_key(&w, img->pub[i].name);
        kei_jw_obj(&w);
        kei_jw_key(&w, "value");
        kei_jw_strv(&w, kei_buf_str(&d->raw));
        kei_jw_key(&w, "metadata");
        kei_jw_obj(&w);
        kei_jw_ki64(&w, "timestamp", p->reported_ms);
        kei_jw_kstr(&w, "type", kei_prop_type_name((enum kei_prop_type)p->type));
        kei_jw_obj_end(&w);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    if (!topic[0] || strpbrk(topic, "+#")) {
        twin_topic(dev, "$ke/events/device/", "/data/update", own, sizeof own);
        topic = own;
    }
    int e = kei_buf_ok(&d->buf)
                ? kei_dv_send(d, "eventbus", "user", "publish", topic, kei_buf_str(&d->buf))
                : KE_ENOMEM;
    if (e < 0)
        kei_dv_error(dev, "data was not published: %s", ke_strerror(e));
}

void kei_dv_data_batch(struct dev *dev, int64_t now_real)
{
    if (dev->img->data_topic)
        publish_data(dev, now_real);
    if (dev->process)
        kei_rules_run(dev->process, ke_ctx_mono_ms(dev->d->ctx), value_at, dev->img, on_result,
                      dev);
    if (dev->process && kei_rules_dirty(dev->process))
        kei_dv_results_dirty(dev);
}

int64_t kei_dv_data_due(const struct dev *dev)
{
    int64_t due = dev->process ? kei_rules_due(dev->process) : INT64_MAX;
    int64_t results = kei_dv_results_due(dev);

    return due < results ? due : results;
}

void kei_dv_data_tick(struct dev *dev, int64_t now)
{
    if (dev->process && kei_rules_due(dev->process) <= now) {
        kei_rules_tick(dev->process, now, on_result, dev);
        kei_rules_run(dev->process, now, value_at, dev->img, on_result, dev);
        kei_dv_results_dirty(dev);
    }
    kei_dv_results_run(dev, now);
}

/* ---- state ---- */

static int save_one(struct dev *dev, struct ke_store_tx *tx, bool last)
{
    struct ke_devices *d = dev->d;
    char name[600];
    int r = 0;

    if (dev->process) {
        kei_buf_clear(&d->buf);
        kei_rules_save(dev->process, ke_ctx_mono_ms(d->ctx), last, &d->buf);
        snprintf(name, sizeof name, "process/%s", dev->key);
        r = kei_buf_ok(&d->buf) ? ke_store_put(tx, DV_BUCKET, name, NULL, 0, d->buf.p, d->buf.n)
                                : KE_ENOMEM;
    }
    if (r < 0 || (!dev->n_results && !dev->results_stored))
        return r;
    kei_buf_clear(&d->buf);
    kei_dv_results_save(dev, &d->buf);
    snprintf(name, sizeof name, "results/%s", dev->key);
    dev->results_stored = d->buf.n > 2; /* more than an empty list */
    if (!kei_buf_ok(&d->buf))
        return KE_ENOMEM;
    return dev->results_stored ? ke_store_put(tx, DV_BUCKET, name, NULL, 0, d->buf.p, d->buf.n)
                               : ke_store_delete(tx, DV_BUCKET, name, NULL);
}

/* One transaction for all devices: windows and results of one moment. last: nothing is processed
 * after it. */
void kei_dv_data_save(struct ke_devices *d, bool last)
{
    struct ke_store_tx *tx = NULL;
    struct ke_str key;
    void *v;
    size_t it = 0;
    int r = 0;

    while (r == 0 && kei_map_next(&d->devs, &it, &key, &v)) {
        struct dev *dev = v;
        if (dev->removed || !(dev->results_dirty || (last && dev->process)))
            continue;
        if (!tx && (r = ke_store_begin(&tx, d->c.store)) < 0)
            break;
        dev->results_dirty = false;
        r = save_one(dev, tx, last);
    }
    if (r < 0 && tx)
        ke_store_abort(tx);
    else if (tx)
        r = ke_store_commit(tx, NULL, NULL);
    if (r == 0)
        return;
    kei_log(d->ctx, KE_LOG_WARN, "device", "state of data processing was not stored: %s",
            ke_ctx_error(d->ctx));
    it = 0;
    while (kei_map_next(&d->devs, &it, &key, &v)) {
        struct dev *dev = v;
        if (dev->process || dev->n_results)
            kei_dv_results_dirty(dev);
    }
}

/* key as in the store, with its prefix: no device's own has that form */
void kei_dv_data_saved(struct ke_devices *d, const char *key, struct ke_str json)
{
    void *old = NULL;
    char *text = kei_strndup(d->alloc, json.p, json.n);

    if (text && kei_map_put(&d->saved, kei_str(key), text, &old) < 0)
        kei_free(d->alloc, text);
    kei_free(d->alloc, old);
}
