/* SPDX-License-Identifier: Apache-2.0 */
/* Who serves a device: a driver here, or somebody else. See foreign.h. */
#include "device/foreign.h"

#include "device/devices_priv.h"

void kei_devices_foreign(struct ke_devices *d, kei_foreign_fn fn, void *user)
{
    if (!d)
        return;
    d->foreign = fn;
    d->foreign_user = user;
}

void kei_devices_foreign_changed(struct ke_devices *d)
{
    struct ke_str key;
    void *p;
    size_t it = 0;

    while (d && kei_map_next(&d->devs, &it, &key, &p))
        kei_dv_kick(p);
}

void kei_devices_yielding(struct ke_devices *d, const char *protocol)
{
    struct driver *v = d ? kei_dv_driver(d, protocol) : NULL;

    if (v)
        v->yields = true;
}

bool kei_devices_insist(struct ke_devices *d, const char *protocol)
{
    const struct driver *v = d ? kei_dv_driver(d, protocol) : NULL;

    return v && !v->yields;
}

int kei_dv_foreign(const struct dev *dev, struct kei_foreign *ret)
{
    struct ke_devices *d = dev->d;
    const struct ke_device_config *c = &dev->img->conf;

    if (!d->foreign || kei_devices_insist(d, c->protocol))
        return 0;
    return d->foreign(d->foreign_user, c->protocol, c->ns, c->name, ret);
}
