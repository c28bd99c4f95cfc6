/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices in memory, by name; and how they come back from the store at start. A device lives
 * until it is out of the index and nobody holds it. Loop thread.
 */
#include "twin/twin_priv.h"

#define RELOAD_MS 1000
#define OBJECTS "o/device" /* the metamanager's; key NS/NAME */

static bool matches(const struct kei_tdev *dev, struct ke_str ns)
{
    return !dev->gone && kei_str_is(ns, dev->d.ns);
}

/*
 * The namespace came with 1.16: what has none, and what is asked for without, is the same as the
 * one that has that name.
 */
struct kei_tdev *kei_tdev_find(const struct ke_twin *t, struct ke_str ns, struct ke_str name)
{
    struct kei_tdev *first = kei_map_get(&t->names, name), *any = NULL;

    for (struct kei_tdev *dev = first; dev; dev = dev->next_same) {
        if (matches(dev, ns))
            return dev;
    }
    for (struct kei_tdev *dev = first; dev; dev = dev->next_same) {
        if (dev->gone)
            continue;
        if (ns.n == 0 && strcmp(dev->d.ns, "default") == 0)
            return dev;
        if (ns.n == 0 ? !any : dev->d.ns[0] == '\0')
            any = dev;
    }
    return any;
}

struct kei_tdev *kei_tdev_by_id(const struct ke_twin *t, struct ke_str id)
{
    struct ke_str ns, name;

    return kei_twin_id_parse(id, &ns, &name) ? kei_tdev_find(t, ns, name) : NULL;
}

void kei_tdev_unref(struct ke_twin *t, struct kei_tdev *dev)
{
    if (--dev->refs > 0)
        return;
    kei_twin_device_fini(&dev->d, t->alloc);
    kei_free(t->alloc, dev);
}

/* Takes *d over on success. */
int kei_tdev_add(struct kei_tdev **ret, struct ke_twin *t, const struct kei_twin_device *d)
{
    struct ke_str name = kei_str(d->name);
    struct kei_tdev *dev = kei_zalloc(t->alloc, sizeof *dev), *first;

    if (!dev)
        return kei_fail(t->ctx, KE_ENOMEM, "out of memory for device %s", d->name);
    first = kei_map_get(&t->names, name);
    if (first) { /* behind the first: nothing to allocate */
        dev->next_same = first->next_same;
        first->next_same = dev;
    } else if (kei_map_put(&t->names, name, dev, NULL) < 0) {
        kei_free(t->alloc, dev);
        return kei_fail(t->ctx, KE_ENOMEM, "out of memory for device %s", d->name);
    }
    dev->d = *d;
    dev->t = t;
    dev->refs = 1;
    dev->lane[LANE_STATE].index = LANE_STATE;
    kei_list_add_tail(&t->all, &dev->all);
    t->n++;
    *ret = dev;
    return 0;
}

void kei_tdev_drop(struct ke_twin *t, struct kei_tdev *dev)
{
    struct ke_str name = kei_str(dev->d.name);
    struct kei_tdev *first = kei_map_get(&t->names, name);

    if (first == dev) {
        if (dev->next_same)
            (void)kei_map_put(&t->names, name, dev->next_same, NULL); /* the slot is there */
        else
            (void)kei_map_remove(&t->names, name);
    } else {
        while (first && first->next_same != dev)
            first = first->next_same;
        if (first)
            first->next_same = dev->next_same;
    }
    dev->next_same = NULL;
    kei_list_remove(&dev->all);
    kei_list_remove(&dev->up);
    kei_list_remove(&dev->stale);
    t->n--;
    kei_upward_forget(t, dev);
    kei_tdev_unref(t, dev);
}

/* ---- reading the store ---- */

static void take_row(struct ke_twin *t, const struct ke_store_item *item)
{
    struct kei_twin_device d;
    struct kei_tdev *dev;
    int r = kei_twin_row_read(&d, t->alloc, kei_strn(item->value, item->len), kei_err(t->ctx));

    if (r == 0) {
        dev = kei_tdev_find(t, kei_str(d.ns), kei_str(d.name));
        if (dev && strcmp(dev->d.ns, d.ns) == 0) { /* read before, in a reading that failed */
            kei_twin_device_fini(&d, t->alloc);
            return;
        }
        r = kei_tdev_add(&dev, t, &d);
        if (r < 0)
            kei_twin_device_fini(&d, t->alloc);
        else
            kei_upward_note(t, dev);
    }
    if (r == KE_ENOMEM)
        t->load_status = r;
    else if (r < 0)
        kei_log(t->ctx, KE_LOG_ERROR, "twin", "device %s could not be read from the store: %s",
                item->key, ke_ctx_error(t->ctx));
}

static int list(struct ke_twin *t, const char *bucket, ke_store_list_fn fn)
{
    int r;

    atomic_fetch_add(&t->refs, 1);
    r = ke_store_list(t->c.store, bucket, "", 0, fn, t);
    if (r < 0)
        kei_twin_unref_handle(t);
    return r;
}

static void load_ended(struct ke_twin *t)
{
    if (t->load_status < 0) {
        kei_log(t->ctx, KE_LOG_WARN, "twin", "the devices could not be read, again in %d ms: %s",
                RELOAD_MS, ke_ctx_error(t->ctx));
        t->load_begun = false;
        (void)kei_timer_in(&t->again, RELOAD_MS);
        return;
    }
    t->loaded = true;
    kei_life_loaded(t);
    kei_upward_pump(t);
    kei_batch_wake(t);
}

/* A Device object that no membership told of. */
static void take_object(struct ke_twin *t, const struct ke_store_item *item)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str ns, name;
    int r;

    if (!kei_twin_id_parse(kei_str(item->key), &ns, &name) || kei_tdev_find(t, ns, name))
        return;
    r = kei_input_object(t, ACT_OBJECT, kei_str(item->key), NULL, &err);
    if (r == KE_ENOMEM)
        t->load_status = r;
    else if (r < 0)
        kei_log(t->ctx, KE_LOG_ERROR, "twin", "device %s is not served: %s", item->key, err.text);
}

static void on_object(void *user, int status, const struct ke_store_item *item)
{
    struct ke_twin *t = user;

    if (item) {
        if (!t->freed)
            take_object(t, item);
        return;
    }
    if (!t->freed) {
        if (status < 0 && status != KE_ENOTFOUND)
            t->load_status = status;
        load_ended(t);
    }
    kei_twin_unref_handle(t);
}

/* One bucket is read: the next. */
static void go_on(struct ke_twin *t, int status, const char *bucket, ke_store_list_fn fn)
{
    if (!t->freed) {
        if (status < 0 && status != KE_ENOTFOUND)
            t->load_status = status;
        if (t->load_status == 0)
            t->load_status = list(t, bucket, fn);
        if (t->load_status < 0)
            load_ended(t);
    }
    kei_twin_unref_handle(t);
}

static void on_grave(void *user, int status, const struct ke_store_item *item)
{
    struct ke_twin *t = user;

    if (!item)
        go_on(t, status, OBJECTS, on_object);
    else if (!t->freed)
        kei_life_read(t, item);
}

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct ke_twin *t = user;

    if (!item)
        go_on(t, status, KEI_LIFE_BUCKET, on_grave);
    else if (!t->freed)
        take_row(t, item);
}

int kei_tdev_load(struct ke_twin *t)
{
    int r;

    if (t->load_begun || t->loaded)
        return 0;
    if (!t->c.store) {
        t->loaded = true;
        kei_batch_wake(t);
        return 0;
    }
    t->load_status = 0;
    r = list(t, KEI_TWIN_BUCKET, on_row);
    t->load_begun = r == 0;
    return r;
}
