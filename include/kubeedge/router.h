/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message router: modules with names and groups, bounded queues, requests with replies.
 * Usable alone. Messages to a module are delivered in order, in a later turn of the loop, never
 * from within the sending call. A full queue refuses with KE_ELIMIT and is counted.
 */
#ifndef KUBEEDGE_ROUTER_H
#define KUBEEDGE_ROUTER_H

#include <kubeedge/msg.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_router;
struct ke_module;

struct ke_router_config {
    size_t size;
    uint32_t queue_messages; /* per module; default 1024 */
    uint32_t requests;       /* open at once; default 1024 */
    uint64_t queue_bytes;    /* per module, of content; default 64 MiB */
};

/* What a module does. */
struct ke_module_ops {
    size_t size;
    /* Required. A message for this module; borrowed, ref it to keep it. */
    void (*message)(void *user, struct ke_msg *m);
    /* Optional. Messages were refused since the last call; in a later turn. */
    void (*overflow)(void *user, uint64_t refused);
};

struct ke_module_stats {
    size_t size;
    uint64_t delivered;
    uint64_t refused;     /* queue full */
    uint32_t queued;      /* now */
    uint32_t queued_peak;
};

KE_API void ke_router_config_init(struct ke_router_config *c, size_t size);

/* c may be NULL. KE_ENOMEM, KE_EABI. Loop. */
KE_API KE_NODISCARD int ke_router_new(struct ke_router **ret, struct ke_ctx *ctx,
                                      const struct ke_router_config *c);
/* Removes the modules, ends open requests with KE_ECANCELED, then frees. From a callback: deferred. */
KE_API void ke_router_free(struct ke_router *r);

/*
 * Adds a module. name is unique (KE_EEXIST); group may be NULL. Strings and ops are copied. Loop.
 */
KE_API KE_NODISCARD int ke_router_add(struct ke_module **ret, struct ke_router *r, const char *name,
                                      const char *group, const struct ke_module_ops *ops,
                                      void *user);
/* Drops what is queued for it. NULL is fine. No call of its ops after this returns. Loop. */
KE_API void ke_module_remove(struct ke_module *m);
KE_API KE_NODISCARD int ke_module_stats(struct ke_module *m, struct ke_module_stats *ret, size_t size);

/* To one module by name. KE_ENOTFOUND, KE_ELIMIT. Takes its own reference. Any thread. */
KE_API KE_NODISCARD int ke_router_send(struct ke_router *r, const char *module, struct ke_msg *m,
                                       struct ke_error *reterr);
/*
 * To each module of a group. KE_ENOTFOUND when it has none. When some queues are full the others
 * still get it and KE_ELIMIT is returned. Any thread.
 */
KE_API KE_NODISCARD int ke_router_send_group(struct ke_router *r, const char *group,
                                             struct ke_msg *m, struct ke_error *reterr);

/*
 * The end of a request: status 0 with the reply (borrowed), KE_ETIMEDOUT, KE_ECANCELED. Exactly
 * once, never from within ke_router_request.
 */
typedef void (*ke_reply_fn)(void *user, int status, struct ke_msg *reply);

/*
 * Sends m to a module and waits (asynchronously) for a message whose parent id is m's id.
 * timeout_ms > 0. ret_request (may be NULL) is for ke_router_cancel. Loop.
 */
KE_API KE_NODISCARD int ke_router_request(struct ke_router *r, const char *module, struct ke_msg *m,
                                          int64_t timeout_ms, ke_reply_fn fn, void *user,
                                          uint64_t *ret_request);
/* Forgets a request; its fn is not called. Unknown ids are ignored. Loop. */
KE_API void ke_router_cancel(struct ke_router *r, uint64_t request);
/*
 * Gives a reply to whoever waits for its parent id. KE_ENOTFOUND when nobody does (late, or not a
 * reply): the caller then decides. Any thread.
 */
KE_API KE_NODISCARD int ke_router_respond(struct ke_router *r, struct ke_msg *reply,
                                          struct ke_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
