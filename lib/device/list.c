/* SPDX-License-Identifier: Apache-2.0 */
/* The devices as they are now, for people. Loop thread. */
#include <stdlib.h>

#include "device/devices_priv.h"

static int by_key(const void *a, const void *b)
{
    const struct dev *const *x = a, *const *y = b;

    return strcmp((*x)->key, (*y)->key);
}

/* Texts lie in b; pointers into it are made when all are there. */
static void describe_props(const struct dev *dev, struct ke_device_property_status *v,
                           struct ke_buf *b)
{
    for (uint32_t i = 0; i < dev->img->n; i++) {
        const struct prop *p = &dev->img->props[i];
        v[i] = (struct ke_device_property_status){
            .size = sizeof v[i],
            .name = dev->img->pub[i].name,
            .type = kei_prop_type_name((enum kei_prop_type)p->type),
            .unit = dev->img->pub[i].unit,
            .desired = p->desired,
            .error = p->error ? p->error : "",
            .reported_ms = p->cur.kind ? p->reported_ms : 0,
            .desired_ms = p->desired_ms,
            .reads = p->reads,
            .failures = p->failures,
        };
        v[i].reported = (const char *)(uintptr_t)b->n;
        kei_val_text(b, (enum kei_prop_type)p->type, &p->cur);
        kei_buf_addc(b, '\0');
    }
    for (uint32_t i = 0; i < dev->img->n && kei_buf_ok(b); i++)
        v[i].reported = dev->img->props[i].cur.kind ? b->p + (uintptr_t)v[i].reported : NULL;
}

static uint32_t waiting(const struct dev *dev)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < dev->img->n; i++) {
        uint16_t f = dev->img->props[i].flags;
        n += (f & PROP_REPORT) && (f & (PROP_DIRTY | PROP_IN_REPORT));
    }
    return n;
}

/* Of a device that somebody else serves: values are in the twin. */
static void describe_mapped(const struct dev *dev, struct ke_device_status *s,
                            struct ke_device_property_status *v)
{
    struct kei_foreign f = {.by = NULL};

    if (dev->state != KE_DEVICE_MAPPED || kei_dv_foreign(dev, &f) <= 0)
        return;
    s->mapper = f.by;
    s->mapper_state = f.state;
    s->mapper_lost = !f.reachable;
    s->mapper_reports = f.reports;
    s->mapper_report_ms = f.report_ms;
    s->error = f.error;
    s->error_ms = 0;
    for (uint32_t i = 0; i < s->n_properties; i++) {
        v[i].reported = NULL;
        v[i].reported_ms = v[i].desired_ms = 0;
        v[i].error = "";
    }
}

static void describe(const struct dev *dev, struct ke_device_property_status *v, struct ke_buf *b,
                     ke_devices_list_fn fn, void *user)
{
    const struct image *img = dev->img;
    struct ke_device_status s = {
        .size = sizeof s,
        .ns = img->conf.ns,
        .name = img->conf.name,
        .model = img->model_name,
        .protocol = img->conf.protocol,
        .error = dev->error ? dev->error : "",
        .properties = v,
        .n_properties = img->n,
        .state = dev->state,
        .error_ms = dev->error ? dev->error_ms : 0,
        .online_ms = dev->online_ms,
        .reads = dev->reads,
        .writes = dev->writes,
        .failures = dev->failures,
        .reconnects = dev->reconnects,
        .cycles = dev->cycles,
        .cycles_late = dev->late,
        .cycles_missed = dev->missed,
        .late_max_ms = dev->late_max,
        .reports_waiting = waiting(dev),
        .mapper = "",
        .mapper_state = "",
        .pushes = dev->pushes,
        .push_failures = dev->push_failures,
    };

    kei_buf_clear(b);
    describe_props(dev, v, b);
    describe_mapped(dev, &s, v);
    if (kei_buf_ok(b))
        fn(user, &s);
}

int ke_devices_list(struct ke_devices *d, ke_devices_list_fn fn, void *user)
{
    struct ke_str key;
    void *p;
    size_t it = 0, n = 0;
    int r = 0;

    if (!d || !fn)
        return KE_EINVAL;
    struct dev **all = kei_array_alloc(d->alloc, d->devs.n + 1, sizeof *all);
    struct ke_device_property_status *v = kei_array_alloc(d->alloc, d->n_values + 1, sizeof *v);
    struct ke_buf b;
    kei_buf_init(&b, d->alloc);
    if (all && v) {
        while (kei_map_next(&d->devs, &it, &key, &p)) {
            struct dev *dev = p;
            if (!dev->removed)
                all[n++] = dev;
        }
        qsort(all, n, sizeof(struct dev *), by_key);
        for (size_t i = 0; i < n && r == 0; i++) {
            describe(all[i], v, &b, fn, user);
            if (!kei_buf_ok(&b))
                r = kei_fail(d->ctx, KE_ENOMEM, "out of memory for a list of devices");
        }
    } else {
        r = kei_fail(d->ctx, KE_ENOMEM, "out of memory for a list of devices");
    }
    ke_buf_free(&b);
    kei_free(d->alloc, v);
    kei_free(d->alloc, all);
    return r;
}

int ke_devices_get_stats(struct ke_devices *d, struct ke_devices_stats *ret, size_t size)
{
    struct ke_str key;
    void *p;
    size_t it = 0;

    if (!d || !ret)
        return KE_EINVAL;
    struct ke_devices_stats st = d->stats;
    while (kei_map_next(&d->devs, &it, &key, &p)) {
        struct dev *dev = p;
        st.devices += !dev->removed;
        st.online += !dev->removed && dev->state == KE_DEVICE_ONLINE;
    }
    pthread_mutex_lock(&d->mu);
    st.late_completions = d->late_completions;
    pthread_mutex_unlock(&d->mu);
    return kei_abi_out(ret, size, &st, sizeof st, KEI_SIZE_TO(struct ke_devices_stats, reserved),
                       "struct ke_devices_stats", kei_err(d->ctx));
}
