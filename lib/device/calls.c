/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and sets that somebody waits for; their ends are told from the end of drain. Loop thread.
 */
#include "device/devices_priv.h"

static void call_free(struct ke_devices *d, struct call *c)
{
    kei_free(d->alloc, c->method);
    kei_free(d->alloc, c->args);
    kei_free(d->alloc, c->reply);
    kei_free(d->alloc, c->text);
    kei_free(d->alloc, c);
}

void kei_dv_call_done(struct dev *dev, struct call *c, int status, const char *text)
{
    struct ke_devices *d = dev->d;

    kei_list_remove(&c->link);
    if (!c->fn) {
        call_free(d, c);
        return;
    }
    c->status = status;
    if (status < 0)
        c->text = kei_strdup(d->alloc, text && *text ? text : ke_strerror(status));
    kei_list_add_tail(&d->dones, &c->link);
    if (!d->draining)
        kei_defer(d->ctx, &d->defer, kei_dv_drain);
}

void kei_dv_calls_cancel(struct dev *dev)
{
    KEI_LIST_EACH_SAFE(l, tmp, &dev->calls)
    {
        kei_dv_call_done(dev, KEI_OF(l, struct call, link), KE_ECANCELED,
                         "the device was closed or changed");
    }
}

void kei_dv_sets_done(struct dev *dev, uint32_t prop, int status, const char *text)
{
    KEI_LIST_EACH_SAFE(l, tmp, &dev->calls)
    {
        struct call *c = KEI_OF(l, struct call, link);
        if (!c->method && c->prop == prop)
            kei_dv_call_done(dev, c, status, text);
    }
}

void kei_dv_dones_run(struct ke_devices *d)
{
    while (!kei_list_empty(&d->dones)) {
        struct call *c = KEI_OF(d->dones.next, struct call, link);
        kei_list_remove(&c->link);
        ke_device_done_fn fn = c->fn;
        fn(c->user, c->status, c->reply, c->text);
        call_free(d, c);
    }
}

/* A new one at the end of the device's. */
static int call_new(struct call **ret, struct dev *dev, ke_device_done_fn fn, void *user)
{
    struct ke_devices *d = dev->d;
    uint32_t n = 0;

    KEI_LIST_EACH(l, &dev->calls)
    n++;
    if (n >= DV_CALLS_MAX)
        return kei_fail(d->ctx, KE_EBUSY, "%u calls of device %s wait already", n, dev->key);
    struct call *c = kei_zalloc(d->alloc, sizeof *c);
    if (!c)
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for a call of device %s", dev->key);
    c->fn = fn;
    c->user = user;
    kei_list_add_tail(&dev->calls, &c->link);
    *ret = c;
    return 0;
}

static int set(struct dev *dev, const char *property, struct ke_str value, ke_device_done_fn fn,
               void *user)
{
    struct ke_devices *d = dev->d;
    struct kei_val val = {.kind = KE_DEVICE_KIND_NONE};
    struct call *c;
    uint32_t i = 0;
    struct prop *p = kei_dv_prop(dev->img, property, &i);

    if (dev->state == KE_DEVICE_MAPPED)
        return kei_fail(d->ctx, KE_ESTATE, "device %s is served by a mapper", dev->key);
    if (!p)
        return kei_fail(d->ctx, KE_ENOTFOUND, "device %s has no property %s", dev->key, property);
    if (!(p->flags & PROP_WRITE))
        return kei_fail(d->ctx, KE_EACCES, "property %s of device %s may not be written", property,
                        dev->key);
    int r = kei_val_parse(&val, (enum kei_prop_type)p->type, value, d->alloc, kei_err(d->ctx));
    if (r == 0)
        r = kei_val_limits(&val, p->def, kei_err(d->ctx));
    kei_val_free(&val, d->alloc);
    if (r < 0)
        return kei_error_prefix(kei_err(d->ctx), r, "property %s of device %s", property, dev->key);
    char *desired = kei_strndup(d->alloc, value.p ? value.p : "", value.n);
    if (!desired)
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for a desired value");
    r = fn ? call_new(&c, dev, fn, user) : 0;
    if (r < 0) {
        kei_free(d->alloc, desired);
        return r;
    }
    if (fn)
        c->prop = i;
    kei_free(d->alloc, p->desired);
    p->desired = desired;
    p->desired_ms = 0;
    p->write_at = 0;
    if (p->flags & PROP_TWIN_ERROR)
        p->report_at = 0;
    p->flags |= PROP_LOCAL | PROP_WRITE_DUE | (p->flags & PROP_REPORT ? PROP_DIRTY : 0);
    kei_dv_kick(dev);
    return 0;
}

int ke_devices_set(struct ke_devices *d, const char *ns, const char *name, const char *property,
                   const char *value, ke_device_done_fn fn, void *user)
{
    struct dev *dev;

    if (!d || !name || !property || !value)
        return KE_EINVAL;
    dev = kei_dv_find(d, ns, name);
    if (!dev)
        return kei_fail(d->ctx, KE_ENOTFOUND, "there is no device %s", name);
    return set(dev, property, kei_str(value), fn, user);
}

static const struct method *find_method(const struct image *img, const char *name)
{
    for (uint32_t i = 0; i < img->n_methods; i++) {
        if (!strcmp(img->methods[i].name, name))
            return &img->methods[i];
    }
    return NULL;
}

/* A method that names properties is a write of one of them. */
static int call_as_set(struct dev *dev, const struct method *m, struct ke_str args,
                       ke_device_done_fn fn, void *user)
{
    struct ke_devices *d = dev->d;
    struct ke_str key, v, more;
    size_t it = 0;
    int r = KE_ENOTSUP;

    if (!m->n_props)
        return kei_fail(d->ctx, r, "the driver of device %s has no methods", dev->key);
    if (kei_json_type(args) != '{' || !kei_json_next(args, &it, &key, &v) ||
        kei_json_next(args, &it, NULL, &more))
        return kei_fail(d->ctx, KE_EPARSE, "method %s of device %s wants {\"PROPERTY\": VALUE}",
                        m->name, dev->key);
    for (uint32_t i = 0; i < m->n_props; i++) {
        if (!kei_json_key_is(key, m->props[i]))
            continue;
        struct ke_buf b;
        kei_buf_init(&b, d->alloc);
        r = 0;
        if (kei_json_type(v) == '"')
            r = kei_json_str(v, &b, kei_err(d->ctx));
        else
            kei_buf_addv(&b, v);
        if (r == 0)
            r = kei_buf_ok(&b) ? set(dev, m->props[i], kei_buf_str(&b), fn, user)
                               : kei_fail(d->ctx, KE_ENOMEM, "out of memory for a call");
        ke_buf_free(&b);
        return r;
    }
    return kei_fail(d->ctx, KE_EPARSE, "method %s of device %s has no property %.*s", m->name,
                    dev->key, KEI_FMT(key));
}

int ke_devices_call(struct ke_devices *d, const char *ns, const char *name, const char *method,
                    const char *args, size_t args_len, ke_device_done_fn fn, void *user)
{
    struct dev *dev;
    struct call *c;
    struct ke_str value;

    if (!d || !name || !method || (args_len && !args))
        return KE_EINVAL;
    dev = kei_dv_find(d, ns, name);
    if (!dev)
        return kei_fail(d->ctx, KE_ENOTFOUND, "there is no device %s", name);
    const struct method *m = find_method(dev->img, method);
    if (!m)
        return kei_fail(d->ctx, KE_ENOTFOUND, "device %s has no method %s", dev->key, method);
    if (dev->state != KE_DEVICE_ONLINE || !dev->driver)
        return kei_fail(d->ctx, KE_ESTATE, "device %s is not online", dev->key);
    if (!args_len) {
        args = "null";
        args_len = 4;
    }
    int r = kei_json_check(kei_strn(args, args_len), 0, kei_err(d->ctx));
    if (r == 0)
        r = kei_json_value(kei_strn(args, args_len), 0, &value, kei_err(d->ctx));
    if (r < 0)
        return r;
    if (!dev->driver->ops.call)
        return call_as_set(dev, m, value, fn, user);
    r = call_new(&c, dev, fn, user);
    if (r < 0)
        return r;
    c->method = kei_strdup(d->alloc, method);
    c->args = kei_strndup(d->alloc, value.p, value.n);
    c->args_len = value.n;
    if (!c->method || !c->args) {
        kei_list_remove(&c->link);
        call_free(d, c);
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for a call of device %s", dev->key);
    }
    kei_dv_kick(dev);
    return 0;
}
