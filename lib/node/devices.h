/* SPDX-License-Identifier: Apache-2.0 */
/* Devices in the node: the twin, the harness and the drivers its configuration names. Loop thread. */
#ifndef KEI_NODE_DEVICES_H
#define KEI_NODE_DEVICES_H

#include <kubeedge/device.h>
#include <kubeedge/node.h>
#include <kubeedge/twin.h>

#include "base/arena.h"

struct kei_node_devices;

/* What they need of the node; all of it outlives them. */
struct kei_node_devices_config {
    const struct ke_node_config *node;
    const struct ke_node_ops *ops;
    void *ops_user;
    struct ke_router *router;
    struct ke_store *store;
    uint32_t (*dialect)(void *user); /* KE_DIALECT_* of the cloud */
    void *user;
};

/*
 * Makes them and tells the host (ke_node_ops.devices); *ret is NULL when the configuration or the
 * build has none. A driver that cannot be registered is logged and left out. KE_ENOMEM, KE_EINVAL
 * names the driver that does not exist.
 */
int kei_node_devices_new(struct kei_node_devices **ret, struct ke_ctx *ctx,
                         const struct kei_node_devices_config *c);
/* Begins to read the store. NULL is fine. */
int kei_node_devices_start(struct kei_node_devices *d);
void kei_node_devices_free(struct kei_node_devices *d); /* NULL is fine */
/* A snapshot of the mappers; d may be NULL. */
struct kei_node_mappers {
    struct kei_arena arena; /* of list and its texts; the caller's */
    struct ke_node_mapper_info *list;
    uint32_t n, cap;
    struct ke_error error; /* why there are none, or not all */
};
void kei_node_devices_mappers(struct kei_node_devices *d, struct kei_node_mappers *ret);
/* Whether text names drivers that exist: a list of names with commas, or "all". */
int kei_node_drivers_check(const char *text, struct ke_error *err);

#endif
