/* SPDX-License-Identifier: Apache-2.0 */
/* See devices.h. Owns the twin and the harness; the harness goes first, since it reports to the
 * twin. */
#include "node/devices.h"

#include <kubeedge/drivers.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/str.h"
#include "dmi/dmi.h"

struct kei_node_devices {
    struct ke_ctx *ctx;
    struct kei_node_devices_config c;
    struct ke_twin *twin;
    struct ke_devices *devices;
    struct kei_dmi *dmi; /* NULL: no socket configured, or it could not be opened */
};

static int register_modbus(struct ke_devices *d)
{
    return ke_device_modbus_register(d, NULL);
}

static int register_gpio(struct ke_devices *d)
{
    return ke_device_gpio_register(d, NULL);
}

static const struct {
    const char *name;
    int (*fn)(struct ke_devices *d);
} drivers[] = {
    {"modbus", register_modbus},
    {"gpio", register_gpio},
    {"mqtt-json", ke_device_json_register},
    {"simulated", ke_device_sim_register},
};
#define N_DRIVERS (sizeof drivers / sizeof drivers[0])

static bool names(struct ke_str list, const char *name)
{
    struct ke_str item;

    if (kei_str_is(list, "all"))
        return true;
    while (list.n > 0) {
        item = kei_str_cut(list, ',', &list);
        if (kei_str_is(item, name))
            return true;
    }
    return false;
}

int kei_node_drivers_check(const char *text, struct ke_error *err)
{
    struct ke_str list = kei_str(text ? text : "");

    while (list.n > 0) {
        struct ke_str item = kei_str_cut(list, ',', &list);
        bool known = kei_str_is(item, "all");
        for (size_t i = 0; i < N_DRIVERS && !known; i++)
            known = kei_str_is(item, drivers[i].name);
        if (!known)
            return kei_error(err, KE_EINVAL,
                             "ke_node_config.drivers: \"%.*s\" does not exist: modbus, gpio, "
                             "mqtt-json, simulated, or all",
                             KEI_FMT(item));
    }
    return 0;
}

static void register_drivers(struct kei_node_devices *d)
{
    struct ke_str list = kei_str(d->c.node->drivers ? d->c.node->drivers : "");

    for (size_t i = 0; i < N_DRIVERS; i++) {
        if (names(list, drivers[i].name) && drivers[i].fn(d->devices) < 0)
            kei_log(d->ctx, KE_LOG_ERROR, "node", "driver %s is left out: %s", drivers[i].name,
                    ke_ctx_error(d->ctx));
    }
}

/* Mappers are programs of their own: the node does not depend on them. */
static void make_dmi(struct kei_node_devices *d)
{
    struct kei_dmi_config c = {.router = d->c.router,
                               .store = d->c.store,
                               .socket = d->c.node->dmi_socket,
                               .dialect_now = d->c.dialect,
                               .user = d->c.user};

    if (c.socket && kei_dmi_new(&d->dmi, d->ctx, &c) < 0)
        kei_log(d->ctx, KE_LOG_ERROR, "node", "mappers cannot register: %s", ke_ctx_error(d->ctx));
}

static int make(struct kei_node_devices *d)
{
    struct ke_twin_config tc;
    struct ke_devices_config dc;

    ke_twin_config_init(&tc, sizeof tc);
    tc.router = d->c.router;
    tc.store = d->c.store;
    tc.node_name = d->c.node->name;
    tc.dialect_now = d->c.dialect;
    tc.user = d->c.user;
    tc.flags = (d->c.node->flags & KE_NODE_TWIN_STRICT ? KE_TWIN_STRICT : 0) |
               (d->c.node->flags & KE_NODE_TWIN_OLD_TOPICS ? KE_TWIN_OLD_TOPICS : 0);
    int r = ke_twin_new(&d->twin, d->ctx, &tc);
    if (r < 0)
        return r;
    ke_devices_config_init(&dc, sizeof dc);
    dc.router = d->c.router;
    dc.store = d->c.store;
    dc.node_name = d->c.node->name;
    dc.dialect_now = d->c.dialect;
    dc.user = d->c.user;
    return ke_devices_new(&d->devices, d->ctx, &dc);
}

int kei_node_devices_new(struct kei_node_devices **ret, struct ke_ctx *ctx,
                         const struct kei_node_devices_config *c)
{
    *ret = NULL;
    if (c->node->flags & KE_NODE_NO_DEVICES)
        return 0;
    struct kei_node_devices *d = kei_zalloc(kei_ctx_alloc(ctx), sizeof *d);
    if (!d)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the devices of the node");
    d->ctx = ctx;
    d->c = *c;
    int r = make(d);
    if (r < 0) {
        kei_node_devices_free(d);
        return r == KE_ENOTSUP ? 0 : r; /* built without */
    }
    register_drivers(d);
    make_dmi(d);
    if (c->ops->devices)
        c->ops->devices(c->ops_user, d->twin, d->devices);
    *ret = d;
    return 0;
}

int kei_node_devices_start(struct kei_node_devices *d)
{
    return d ? ke_twin_start(d->twin) : 0;
}

void kei_node_devices_free(struct kei_node_devices *d)
{
    if (!d)
        return;
    if (d->devices && d->c.ops->devices)
        d->c.ops->devices(d->c.ops_user, NULL, NULL);
    kei_dmi_free(d->dmi);
    ke_devices_free(d->devices);
    ke_twin_free(d->twin);
    kei_free(kei_ctx_alloc(d->ctx), d);
}
