/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's end of DMI: module `dmi` of group `device`. Mappers, programs of their own, register
 * on its unix socket by gRPC; it tells them their devices and models, and takes what they report to
 * the device twin. It owns copies of the objects, and the connections to mappers. Loop thread.
 *
 * One mapper serves a protocol, the last that registered. Registrations are durable; what a mapper
 * has been told is noted, so that after a restart of either end nothing old stays and nothing that
 * is unchanged is told as an update.
 */
#ifndef KEI_DMI_DMI_H
#define KEI_DMI_DMI_H

#include <stdbool.h>

#include <kubeedge/router.h>
#include <kubeedge/store.h>

struct kei_dmi;

/* Zero means the default. Strings are copied. */
struct kei_dmi_config {
    struct ke_router *router; /* outlives it, as does store */
    struct ke_store *store;
    const char *socket; /* default /etc/kubeedge/dmi.sock; its folder must exist */
    /* KE_DIALECT_* of the cloud: up to 1.14 desired values are not reported back; with 1.23 topics
     * of the twin have NAMESPACE/NAME. dialect_now is asked, if there is one, whenever it matters.
     */
    uint32_t dialect;
    uint32_t (*dialect_now)(void *user);
    void *user;
    bool id_with_namespace; /* also in other dialects */
    uint32_t rate, burst;   /* calls of all mappers: per second, at once; default 1000, 2000 */
    uint32_t push_ms;       /* of a call to a mapper; default 10000 */
    uint32_t twin_ms;       /* of a report to the twin; default 10000 */
    uint32_t retry_min_ms, retry_max_ms; /* to a mapper; default 500, 30000 */
    uint32_t max_mappers;                /* default 64 */
    uint32_t max_objects;                /* devices and models; default 20000 */
};

/* KE_ENOTSUP (built without DMI), KE_EINVAL, KE_EADDRINUSE, KE_EACCES, ..., KE_EEXIST (module) */
int kei_dmi_new(struct kei_dmi **ret, struct ke_ctx *ctx, const struct kei_dmi_config *c);
/* NULL is fine; legal in any callback. */
void kei_dmi_free(struct kei_dmi *d);

/* A mapper as it is now; borrowed during the call. */
struct kei_dmi_mapper_info {
    const char *name, *version, *protocol, *address;
    const char *error; /* the last one; "" if it was followed by a success */
    bool reachable;    /* the last call was answered */
    uint32_t devices;  /* that it has */
    uint32_t waiting;  /* changes it was not told yet */
};
void kei_dmi_mappers(struct kei_dmi *d, void (*fn)(void *user, const struct kei_dmi_mapper_info *m),
                     void *user);

#endif
