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
    uint32_t probe_ms;      /* how often an idle mapper is looked at; default 10000 */
    uint32_t twin_ms;       /* of a report to the twin; default 10000 */
    uint32_t retry_min_ms, retry_max_ms; /* to a mapper; default 500, 30000 */
    uint32_t max_mappers;                /* default 64 */
    uint32_t max_objects;                /* devices and models; default 20000 */
    /* Optional. Whether a mapper may serve a protocol; negative with err: its registration is
     * refused, and one from before a restart is forgotten. */
    int (*may_serve)(void *user, const char *protocol, struct ke_error *err);
    /* Optional. Which protocols have a mapper is known, or has changed. */
    void (*changed)(void *user);
};

/* KE_ENOTSUP (built without DMI), KE_EINVAL, KE_EADDRINUSE, KE_EACCES, ..., KE_EEXIST (module) */
int kei_dmi_new(struct kei_dmi **ret, struct ke_ctx *ctx, const struct kei_dmi_config *c);
/* NULL is fine; legal in any callback. */
void kei_dmi_free(struct kei_dmi *d);

/* A mapper as it is now; borrowed during the call. */
struct kei_dmi_mapper_info {
    const char *name, *version, *api_version, *protocol, *address;
    const char *form;               /* "v1beta1", "v1alpha1" */
    const char *state;              /* as it said when it registered */
    const char *error;              /* the last one; "" if it was followed by a success */
    bool reachable;                 /* the last call was answered */
    uint32_t devices;               /* that it has */
    uint32_t waiting;               /* changes it was not told yet */
    uint64_t reports;               /* that were taken, of its devices */
    int64_t registered_ms, seen_ms; /* Unix time; 0: not since the start */
};
void kei_dmi_mappers(struct kei_dmi *d, void (*fn)(void *user, const struct kei_dmi_mapper_info *m),
                     void *user);
/* 0: mappers can register; else why not, with the text in the context. KE_EAGAIN: soon. */
int kei_dmi_listening(const struct kei_dmi *d);

/* What is known of a device that a mapper serves; borrowed until the next turn. */
struct kei_dmi_served {
    const char *mapper;
    const char *state; /* as reported, "" if never */
    const char *error; /* of the mapper, or of the device's last report; "" if none */
    bool reachable;
    int64_t report_ms; /* Unix time; 0: none since the start */
    uint64_t reports;
};
/* 1: a mapper serves this protocol; 0: none; KE_EAGAIN: the store is still being read. ret may be
 * NULL. */
int kei_dmi_serves(struct kei_dmi *d, const char *protocol, const char *ns, const char *name,
                   struct kei_dmi_served *ret);

#endif
