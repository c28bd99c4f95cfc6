/* SPDX-License-Identifier: Apache-2.0 */
/* The harness: begin, end, drivers, and the objects of the host. Loop thread. */
#include <kubeedge/device.h>

#include "device/devices_priv.h"

void ke_devices_config_init(struct ke_devices_config *c, size_t size)
{
    (void)kei_abi_init(c, size);
}

static void set_default(uint32_t *v, uint32_t dflt)
{
    if (*v == 0)
        *v = dflt;
}

static int read_config(struct ke_devices *d, const struct ke_devices_config *c)
{
    int r = kei_abi_in(&d->c, sizeof d->c, c, KEI_SIZE_TO(struct ke_devices_config, max_rules),
                       "struct ke_devices_config", kei_err(d->ctx));

    if (r == 0 && d->c.sink)
        r = kei_abi_in(&d->sink, sizeof d->sink, d->c.sink,
                       KEI_SIZE_TO(struct ke_devices_sink, state), "struct ke_devices_sink",
                       kei_err(d->ctx));
    if (r < 0)
        return r;
    if (d->c.router && (!d->c.node_name || !*d->c.node_name))
        return kei_fail(d->ctx, KE_EINVAL, "node_name of the devices' configuration is missing");
    if (d->c.cycle_unit > KE_DEVICES_CYCLE_MS)
        return kei_fail(d->ctx, KE_EINVAL, "cycle_unit of the devices' configuration is unknown");
    set_default(&d->c.collect_ms, 1000);
    set_default(&d->c.report_ms, 1000);
    set_default(&d->c.timeout_ms, 5000);
    set_default(&d->c.retry_min_ms, 1000);
    set_default(&d->c.retry_max_ms, 60000);
    set_default(&d->c.health_ms, 30000);
    set_default(&d->c.max_devices, 10000);
    set_default(&d->c.max_properties, 1024);
    set_default(&d->c.max_rules, 64);
    d->c.sink = NULL;
    if (d->c.node_name && !(d->node_name = kei_strdup(d->alloc, d->c.node_name)))
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for the devices");
    d->c.node_name = d->node_name;
    return 0;
}

static void free_strings(struct ke_devices *d, struct kei_map *m)
{
    struct ke_str key;
    void *v;
    size_t it = 0;

    while (kei_map_next(m, &it, &key, &v))
        kei_free(d->alloc, v);
    kei_map_free(m);
}

static void destroy(struct ke_devices *d)
{
    struct ke_str key;
    void *v;
    size_t it = 0;

    while (kei_map_next(&d->models, &it, &key, &v))
        kei_dv_model_unref(v);
    kei_map_free(&d->models);
    kei_map_free(&d->devs);
    kei_map_free(&d->shapes);
    kei_map_free(&d->targets); /* its values went with the devices */
    free_strings(d, &d->saved);
    ke_buf_free(&d->buf);
    ke_buf_free(&d->buf2);
    ke_buf_free(&d->raw);
    kei_free(d->alloc, d->scratch);
    kei_free(d->alloc, d->values);
    kei_free(d->alloc, d->vals);
    kei_free(d->alloc, d->slots);
    kei_free(d->alloc, d->node_name);
    pthread_mutex_destroy(&d->mu);
    kei_free(d->alloc, d);
}

void kei_dv_loaded(struct ke_devices *d)
{
    if (--d->loading == 0 && d->closing)
        destroy(d);
}

static void on_save(struct kei_timer *t)
{
    struct ke_devices *d = KEI_OF(t, struct ke_devices, save);

    kei_dv_data_save(d, false);
}

static void init(struct ke_devices *d, struct ke_ctx *ctx)
{
    d->ctx = ctx;
    d->alloc = kei_ctx_alloc(ctx);
    kei_map_init(&d->devs, d->alloc, kei_ctx_random64(ctx));
    kei_map_init(&d->models, d->alloc, kei_ctx_random64(ctx));
    kei_map_init(&d->saved, d->alloc, kei_ctx_random64(ctx));
    kei_map_init(&d->shapes, d->alloc, kei_ctx_random64(ctx));
    kei_map_init(&d->targets, d->alloc, kei_ctx_random64(ctx));
    kei_list_init(&d->push_ready);
    kei_list_init(&d->drivers);
    kei_list_init(&d->ready);
    kei_list_init(&d->report_wait);
    kei_list_init(&d->dones);
    kei_buf_init(&d->buf, d->alloc);
    kei_buf_init(&d->buf2, d->alloc);
    kei_buf_init(&d->raw, d->alloc);
    d->queue_tail = &d->queue;
    d->stats.size = sizeof d->stats;
    pthread_mutex_init(&d->mu, NULL);
    kei_wake_init(ctx, &d->wake, kei_dv_on_wake);
    kei_timer_init(ctx, &d->save, on_save);
    kei_timer_init(ctx, &d->go_on, kei_dv_go_on);
}

int ke_devices_new(struct ke_devices **ret, struct ke_ctx *ctx, const struct ke_devices_config *c)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = kei_dv_message};
    struct ke_devices *d;

    if (!ctx)
        return KE_EINVAL;
    if (!ret || !c)
        return kei_fail(ctx, KE_EINVAL, "an argument of the devices is missing");
    d = kei_zalloc(kei_ctx_alloc(ctx), sizeof *d);
    if (!d)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the devices");
    init(d, ctx);
    int r = read_config(d, c);
    if (r == 0 && d->c.router)
        r = ke_router_add(&d->module, d->c.router, DV_MODULE, "device", &ops, d);
    if (r == 0 && d->c.store)
        r = kei_dv_load(d);
    if (r < 0) {
        ke_devices_free(d);
        return r;
    }
    kei_dv_ask_profile(d, 0);
    *ret = d;
    return 0;
}

static void driver_free(struct driver *v)
{
    struct ke_devices *d = v->d;

    kei_list_remove(&v->link);
    if (v->ops.detach)
        v->ops.detach(v->user);
    kei_free(d->alloc, v->protocol);
    kei_free(d->alloc, v);
}

void ke_devices_free(struct ke_devices *d)
{
    struct ke_str key;
    void *v;
    size_t it = 0;

    if (!d)
        return;
    if (d->c.store)
        kei_dv_data_save(d, true);
    d->closing = true;
    if (d->profile_request)
        ke_router_cancel(d->c.router, d->profile_request);
    kei_timer_fini(&d->profile);
    kei_timer_fini(&d->save);
    ke_module_remove(d->module);
    while (kei_map_next(&d->devs, &it, &key, &v))
        kei_dv_drop(v);
    while (!kei_list_empty(&d->drivers))
        driver_free(KEI_OF(d->drivers.next, struct driver, link));
    kei_timer_fini(&d->go_on);
    kei_defer_cancel(&d->defer);
    kei_wake_fini(&d->wake);
    kei_dv_dones_run(d);
    kei_dv_queue_free(d);
    if (d->loading == 0)
        destroy(d);
}

/* ---- drivers ---- */

static char *lower(const struct ke_alloc *a, const char *s)
{
    char *p = kei_strdup(a, s);

    for (char *q = p; q && *q; q++)
        *q = (char)(*q >= 'A' && *q <= 'Z' ? *q + 32 : *q);
    return p;
}

static int driver_new(struct driver **ret, struct ke_devices *d, const char *protocol,
                      const struct ke_device_ops *ops, void *user)
{
    struct driver *v = kei_zalloc(d->alloc, sizeof *v);

    if (!v)
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for the driver of %s", protocol);
    v->d = d;
    v->user = user;
    int r = kei_abi_in(&v->ops, sizeof v->ops, ops, KEI_SIZE_TO(struct ke_device_ops, health),
                       "struct ke_device_ops", kei_err(d->ctx));
    if (r == 0 && (!v->ops.open || !v->ops.close || !v->ops.read))
        r = kei_fail(d->ctx, KE_EINVAL, "the driver of %s lacks open, close or read", protocol);
    if (r == 0 && !(v->protocol = lower(d->alloc, protocol)))
        r = kei_fail(d->ctx, KE_ENOMEM, "out of memory for the driver of %s", protocol);
    if (r == 0 && kei_dv_driver(d, v->protocol))
        r = kei_fail(d->ctx, KE_EEXIST, "protocol %s has a driver already", protocol);
    if (r < 0) {
        kei_free(d->alloc, v->protocol);
        kei_free(d->alloc, v);
        return r;
    }
    *ret = v;
    return 0;
}

static void kick_all(struct ke_devices *d)
{
    struct ke_str key;
    void *p;
    size_t it = 0;

    while (kei_map_next(&d->devs, &it, &key, &p))
        kei_dv_kick(p);
}

int ke_device_driver_register(struct ke_devices *d, const char *protocol,
                              const struct ke_device_ops *ops, void *user)
{
    struct driver *v = NULL;

    if (!d)
        return KE_EINVAL;
    if (!protocol || !*protocol || !ops)
        return kei_fail(d->ctx, KE_EINVAL, "a driver without protocol or table");
    int r = driver_new(&v, d, protocol, ops, user);
    if (r < 0)
        return r;
    kei_list_add_tail(&d->drivers, &v->link);
    if (v->ops.attach)
        v->ops.attach(user, d);
    kick_all(d);
    return 0;
}

int ke_device_driver_unregister(struct ke_devices *d, const char *protocol)
{
    struct ke_str key;
    void *p;
    size_t it = 0;

    if (!d || !protocol)
        return KE_EINVAL;
    char *name = lower(d->alloc, protocol);
    struct driver *v = name ? kei_dv_driver(d, name) : NULL;
    kei_free(d->alloc, name);
    if (!v)
        return kei_fail(d->ctx, KE_ENOTFOUND, "protocol %s has no driver", protocol);
    while (kei_map_next(&d->devs, &it, &key, &p)) {
        struct dev *dev = p;
        if (dev->driver == v)
            kei_dv_drop(dev);
    }
    driver_free(v);
    return 0;
}

/* ---- the host's objects ---- */

int ke_devices_put(struct ke_devices *d, const char *json, size_t n)
{
    if (!d)
        return KE_EINVAL;
    if (!json)
        return kei_fail(d->ctx, KE_EINVAL, "an object was missing");
    return kei_dv_put(d, kei_strn(json, n), SOURCE_HOST);
}

int ke_devices_remove(struct ke_devices *d, const char *kind, const char *ns, const char *name)
{
    if (!d)
        return KE_EINVAL;
    bool model = kind && !strcmp(kind, "DeviceModel");
    if (!name || !kind || (!model && strcmp(kind, "Device") != 0))
        return kei_fail(d->ctx, KE_EINVAL, "kind is Device or DeviceModel, and name is needed");
    if (kei_dv_remove(d, model, ns, name) < 0)
        return kei_fail(d->ctx, KE_ENOTFOUND, "there is no %s %s", kind, name);
    return 0;
}
