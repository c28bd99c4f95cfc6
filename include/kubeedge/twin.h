/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device twin: what the cloud wants of each device (desired), what the device says it is
 * (reported), its state; kept in the store, told to applications and to the cloud. Module
 * `devicetwin` (group `twin`) of a router. Usable alone: needs a context, a router and, to outlive
 * the process, a store.
 *
 *   ke_twin_config_init(&c, sizeof c);
 *   c.router = router; c.store = store; c.node_name = "edge-1";
 *   ke_twin_new(&t, ctx, &c);  ke_twin_start(t);
 *   ke_twin_add(t, "lamp", NULL, NULL, NULL, NULL);
 *   ke_twin_set(t, "lamp", "power", "on", "string", NULL, NULL, NULL);
 *
 * Together with an event bus (eventbus.h) it serves KubeEdge's topics $hw/events/device/... and
 * $hw/events/node/...; together with a tunnel it follows a KubeEdge cloud. What is told, to
 * whoever, is durable before. What the cloud has not confirmed is kept, merged per device, and sent
 * again after a reconnect or a restart.
 *
 * A device is "NAME" or "NAMESPACE/NAME"; both find it while the name is unique. Values are text;
 * the type of a twin is given once and says what text is a value: "string", "int", "float",
 * "boolean", ("double", "bytes").
 *
 * Caveat: with a cloud of KubeEdge 1.4 to 1.14 a desired value that was set here (ke_twin_set) wins
 * for good: their clouds do not count versions of the edge. Set desired values in the cloud then.
 *
 * With a cloud of this library (both say so when they connect) desired values may be set at both
 * ends, also while there is no link: of each value the one that was set last stands at both, and
 * nothing of a device that was deleted and made again comes back. "Last" is by clocks that never go
 * back and that know of each other; one that is more than ten minutes ahead of the cloud's is not
 * believed. What a driver reports as the desired value that it saw (devices of v1beta1) sets none.
 * A twin that the cloud made has type "" until somebody here names it.
 *
 * Calls are "loop" unless marked "any thread"; those take their error text through reterr (may be
 * NULL). Callbacks run on the loop's thread and may call anything here, also ke_twin_free.
 */
#ifndef KUBEEDGE_TWIN_H
#define KUBEEDGE_TWIN_H

#include <kubeedge/router.h>
#include <kubeedge/store.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_twin;
struct ke_twin_sub; /* an observer */

/* Upstream's limits for values: characters A-Z a-z 0-9 - _ . , : / @ #, 512 bytes, and no types
 * "double" and "bytes". */
#define KE_TWIN_STRICT 1u
/* With a cloud since 1.16, whose device ids are NAMESPACE/NAME: publish on topics with NAME, too.
 */
#define KE_TWIN_OLD_TOPICS 2u

/* Zero or NULL in a member means the default. */
struct ke_twin_config {
    size_t size;
    struct ke_router *router; /* required; outlives the handle */
    struct ke_store *store;   /* outlives the handle; NULL: nothing is kept over a restart */
    const char *node_name;    /* required */
    uint32_t dialect;         /* of the cloud, KE_DIALECT_*; default 1.15 */
    uint32_t flags;           /* KE_TWIN_* */
    /* Optional: asked for the dialect whenever it matters, instead of the member above. */
    uint32_t (*dialect_now)(void *user);
    void *user;
    uint32_t max_devices;    /* default 16384 */
    uint32_t max_twins;      /* of one device; default 1024 */
    uint32_t max_value;      /* bytes of one value; default 64 KiB */
    uint32_t max_message;    /* bytes of one message of an application; default 256 KiB */
    uint32_t queue_messages; /* that wait for the disk; default 16384 */
    uint32_t reserved;
    uint64_t queue_bytes; /* of those; default 32 MiB */
};

struct ke_twin_status {
    size_t size;
    uint32_t devices;
    uint32_t unconfirmed; /* devices with something the cloud has not confirmed */
    uint32_t waiting;     /* messages that wait for the disk, now */
    uint32_t connected;   /* 1: the cloud can be reached */
    uint64_t taken;       /* messages and calls that were worked on */
    uint64_t refused;     /* over a limit, or not readable */
    uint64_t commits;     /* transactions */
    uint64_t sent;        /* messages to the cloud */
    uint64_t confirmed;   /* by it */
};

/* One twin. Borrowed; strings are NUL-terminated. */
struct ke_twin_value {
    size_t size;
    const char *ns; /* of the device, "" if it has none */
    const char *device;
    const char *name;
    const char *type;
    const char *desired;  /* NULL: there is none */
    const char *reported; /* NULL: there is none */
    int64_t desired_ms;   /* Unix time when it was set here, 0 if never */
    int64_t reported_ms;
    uint32_t optional;    /* 1: a device may delete it */
    uint32_t unconfirmed; /* 1: the cloud has not confirmed the newest */
};

/* One device. Borrowed. */
struct ke_twin_device {
    size_t size;
    const char *ns;
    const char *name;
    const char *description;
    const char *state;       /* "online", ...; "" if never told */
    const char *last_online; /* as KubeEdge writes it in the dialect; "" if never */
    uint32_t twins;
    uint32_t unconfirmed;
};

#define KE_TWIN_ADDED 1u   /* a device; value is NULL */
#define KE_TWIN_REMOVED 2u /* a device; value is NULL */
#define KE_TWIN_CHANGED 3u /* a twin: value */
#define KE_TWIN_DELETED 4u /* a twin: value as it was */
#define KE_TWIN_STATE 5u   /* a device; value is NULL */

struct ke_twin_event {
    size_t size;
    uint32_t what;
    uint32_t reserved;
    const struct ke_twin_device *device;
    const struct ke_twin_value *value;
};

/*
 * The end of a call: 0, the change is durable; KE_EINVAL (a value that is none of its type, ...),
 * KE_ENOTFOUND, KE_ELIMIT, KE_ECANCELED (freed), KE_EIO and others of the store. text says why, ""
 * with 0. Exactly once, never from within the call.
 */
typedef void (*ke_twin_done_fn)(void *user, int status, const char *text);
/* After it is durable. Borrowed. */
typedef void (*ke_twin_fn)(void *user, const struct ke_twin_event *e);

KE_API void ke_twin_config_init(struct ke_twin_config *c, size_t size);
/* Copies what it keeps. KE_EINVAL names the member, KE_EABI, KE_ENOMEM, KE_EEXIST (the router has a
 * device twin). */
KE_API KE_NODISCARD int ke_twin_new(struct ke_twin **ret, struct ke_ctx *ctx,
                                    const struct ke_twin_config *c);
/*
 * Begins to read the store; what comes meanwhile waits until all is restored. KE_ESTATE when it
 * runs. Errors of the store; one that comes later is logged and reading begins again.
 */
KE_API KE_NODISCARD int ke_twin_start(struct ke_twin *t);
/* Takes no messages and sends none any more, until ke_twin_start. What was taken is finished. */
KE_API void ke_twin_stop(struct ke_twin *t);
/* Calls under way end with KE_ECANCELED, in this call. NULL is fine. */
KE_API void ke_twin_free(struct ke_twin *t);
KE_API KE_NODISCARD int ke_twin_status(struct ke_twin *t, struct ke_twin_status *ret, size_t size);

/*
 * Devices of the firmware's own; with a KubeEdge cloud it is the cloud that adds and removes them.
 * Adding one that is there changes its description. done may be NULL, also below. KE_EINVAL (no
 * name of a device), KE_ENOMEM, KE_ESTATE. Any thread.
 */
KE_API KE_NODISCARD int ke_twin_add(struct ke_twin *t, const char *device, const char *description,
                                    ke_twin_done_fn done, void *user, struct ke_error *reterr);
KE_API KE_NODISCARD int ke_twin_remove(struct ke_twin *t, const char *device, ke_twin_done_fn done,
                                       void *user, struct ke_error *reterr);
/*
 * The desired value of a twin; makes the twin if there is none. type NULL: the one it has, or
 * "string". Any thread.
 */
KE_API KE_NODISCARD int ke_twin_set(struct ke_twin *t, const char *device, const char *name,
                                    const char *value, const char *type, ke_twin_done_fn done,
                                    void *user, struct ke_error *reterr);
/* The reported value: what the device says it is. Any thread. */
KE_API KE_NODISCARD int ke_twin_report(struct ke_twin *t, const char *device, const char *name,
                                       const char *value, const char *type, ke_twin_done_fn done,
                                       void *user, struct ke_error *reterr);
/* "online", "offline", "unknown", and by dialect "ok", "disconnected", "unhealthy". Any thread. */
KE_API KE_NODISCARD int ke_twin_set_state(struct ke_twin *t, const char *device, const char *state,
                                          ke_twin_done_fn done, void *user,
                                          struct ke_error *reterr);

/* One twin as it is now; its strings until the next turn of the loop. KE_ENOTFOUND, KE_ESTATE (the
 * store is still being read). */
KE_API KE_NODISCARD int ke_twin_get(struct ke_twin *t, const char *device, const char *name,
                                    struct ke_twin_value *ret, size_t size);
/* Calls fn for each device, or each twin of one, before it returns; fn may not call here. */
KE_API KE_NODISCARD int ke_twin_devices(struct ke_twin *t,
                                        void (*fn)(void *user, const struct ke_twin_device *d),
                                        void *user);
KE_API KE_NODISCARD int ke_twin_each(struct ke_twin *t, const char *device,
                                     void (*fn)(void *user, const struct ke_twin_value *v),
                                     void *user);
/*
 * A device as JSON: {"ns","name","description","state","last_online","twin":{NAME:{"expected",
 * "actual","optional","metadata",...}}}, empty members left out; device NULL: {"devices":[...]}.
 * Appended to out. Any thread; waits for the loop's thread, which must be running.
 */
KE_API KE_NODISCARD int ke_twin_json(struct ke_twin *t, const char *device, struct ke_buf *out,
                                     struct ke_error *reterr);
/* Tells of every change that is durable from now on; device NULL: of all. */
KE_API KE_NODISCARD int ke_twin_observe(struct ke_twin_sub **ret, struct ke_twin *t,
                                        const char *device, ke_twin_fn fn, void *user);
/* NULL is fine; also in its fn. Before ke_twin_free, which ends the others. */
KE_API void ke_twin_unobserve(struct ke_twin_sub *s);

#ifdef __cplusplus
}
#endif
#endif
