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
#include "device/foreign.h"
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

/* Those of "all" yield to mappers; one that is asked for by its name does not. */
static void register_drivers(struct kei_node_devices *d)
{
    struct ke_str list = kei_str(d->c.node->drivers ? d->c.node->drivers : "");
    bool all = kei_str_is(list, "all");

    for (size_t i = 0; i < N_DRIVERS; i++) {
        if (!names(list, drivers[i].name))
            continue;
        if (drivers[i].fn(d->devices) < 0)
            kei_log(d->ctx, KE_LOG_ERROR, "node", "driver %s is left out: %s", drivers[i].name,
                    ke_ctx_error(d->ctx));
        else if (all)
            kei_devices_yielding(d->devices, drivers[i].name);
    }
}

/* ---- mappers ---- */

static int may_serve(void *user, const char *protocol, struct ke_error *err)
{
    struct kei_node_devices *d = user;

    return kei_devices_insist(d->devices, protocol)
               ? kei_error(err, KE_EEXIST,
                           "devices of protocol %s are served by a driver of this node, which its "
                           "configuration names",
                           protocol)
               : 0;
}

static void on_mappers_changed(void *user)
{
    kei_devices_foreign_changed(((struct kei_node_devices *)user)->devices);
}

static int foreign(void *user, const char *protocol, const char *ns, const char *name,
                   struct kei_foreign *ret)
{
    struct kei_node_devices *d = user;
    struct kei_dmi_served s;
    int r = kei_dmi_serves(d->dmi, protocol, ns, name, ret ? &s : NULL);

    if (r > 0 && ret)
        *ret = (struct kei_foreign){.by = s.mapper,
                                    .state = s.state,
                                    .error = s.error,
                                    .reachable = s.reachable,
                                    .report_ms = s.report_ms,
                                    .reports = s.reports};
    return r;
}

static uint32_t dialect(void *user)
{
    const struct kei_node_devices *d = user;

    return d->c.dialect ? d->c.dialect(d->c.user) : 0;
}

/* Mappers are programs of their own: the node does not depend on them. */
static void make_dmi(struct kei_node_devices *d)
{
    struct kei_dmi_config c = {.router = d->c.router,
                               .store = d->c.store,
                               .socket = d->c.node->dmi_socket,
                               .dialect_now = dialect,
                               .may_serve = may_serve,
                               .changed = on_mappers_changed,
                               .user = d};

    if (!c.socket)
        return;
    if (kei_dmi_new(&d->dmi, d->ctx, &c) == 0)
        kei_devices_foreign(d->devices, foreign, d);
    else
        kei_log(d->ctx, KE_LOG_ERROR, "node", "mappers cannot register: %s", ke_ctx_error(d->ctx));
}

static void count_mapper(void *user, const struct kei_dmi_mapper_info *m)
{
    (void)m;
    ((struct kei_node_mappers *)user)->cap++;
}

static void collect_mapper(void *user, const struct kei_dmi_mapper_info *m)
{
    struct kei_node_mappers *c = user;
    struct ke_node_mapper_info i = {.size = sizeof i,
                                    .dmi = m->form,
                                    .reachable = m->reachable,
                                    .devices = m->devices,
                                    .waiting = m->waiting,
                                    .reports = m->reports,
                                    .registered_ms = m->registered_ms,
                                    .seen_ms = m->seen_ms};

    if (c->n == c->cap)
        return;
    i.name = kei_arena_strdup(&c->arena, kei_str(m->name));
    i.version = kei_arena_strdup(&c->arena, kei_str(m->version));
    i.protocol = kei_arena_strdup(&c->arena, kei_str(m->protocol));
    i.address = kei_arena_strdup(&c->arena, kei_str(m->address));
    i.state = kei_arena_strdup(&c->arena, kei_str(m->state));
    i.error = kei_arena_strdup(&c->arena, kei_str(m->error));
    if (i.name && i.version && i.protocol && i.address && i.state && i.error)
        c->list[c->n++] = i;
    else
        kei_error(&c->error, KE_ENOMEM, "no memory for a list of mappers");
}

void kei_node_devices_mappers(struct kei_node_devices *d, struct kei_node_mappers *ret)
{
    ret->error = (struct ke_error)KE_ERROR_INIT;
    if (!d || !d->dmi) {
        kei_error(&ret->error, KE_ESTATE,
                  "no socket for mappers is configured, or the node is "
                  "not started");
        return;
    }
    kei_dmi_mappers(d->dmi, count_mapper, ret);
    ret->list = kei_arena_array(&ret->arena, (size_t)ret->cap + 1, sizeof *ret->list);
    if (!ret->list) {
        kei_error(&ret->error, KE_ENOMEM, "no memory for a list of mappers");
        return;
    }
    int r = kei_dmi_listening(d->dmi);
    if (r < 0)
        kei_error(&ret->error, r, "%s", ke_ctx_error(d->ctx));
    kei_dmi_mappers(d->dmi, collect_mapper, ret);
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
    kei_devices_foreign(d->devices, NULL, NULL);
    kei_dmi_free(d->dmi);
    ke_devices_free(d->devices);
    ke_twin_free(d->twin);
    kei_free(kei_ctx_alloc(d->ctx), d);
}
