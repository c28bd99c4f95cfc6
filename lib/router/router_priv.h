/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the router; for router/ only. mu guards what other threads touch, as marked. */
#ifndef KEI_ROUTER_ROUTER_PRIV_H
#define KEI_ROUTER_ROUTER_PRIV_H

#include <pthread.h>
#include <stdbool.h>

#include <kubeedge/router.h>

#include "base/loop.h"
#include "base/map.h"

struct kei_queued {
    struct ke_msg *msg;
    uint64_t turn; /* of the loop when it was sent: delivered in a later one */
};

struct ke_module {
    struct ke_router *router;
    char *name, *group;
    struct ke_module_ops ops;
    void *user;
    struct kei_link link;  /* in modules, later in removed */
    struct kei_link ready; /* in the list of what has something to deliver; mu */
    bool removed;          /* mu to set */
    /* all below: mu */
    struct kei_queued *ring;
    uint32_t ring_cap, head, queued, queued_peak;
    uint64_t bytes;
    uint64_t delivered, refused;
    uint64_t untold, untold_turn; /* refusals the module has not heard of, the turn of the first */
};

struct ke_router {
    struct ke_ctx *ctx;
    struct ke_router_config conf;
    struct kei_wake wake;
    int depth;               /* callbacks of ours on the stack, or free at work */
    struct kei_link removed; /* modules to free at depth 0 */
    pthread_mutex_t mu;
    bool dying; /* mu to set */
    /* all below: mu */
    struct kei_map names;    /* name: module */
    struct kei_link modules; /* in the order they were added */
    struct kei_link ready;
    struct kei_map requests;  /* id of the message asked: request */
    struct kei_link open;     /* requests that wait */
    struct kei_link answered; /* requests whose reply was not told yet */
    uint64_t last_request;
    uint32_t requests_n; /* open and answered */
};

/* router.c */
int kei_router_enqueue(struct ke_router *r, const char *module, struct ke_msg *m,
                       struct ke_error *err);
/* Around every call of a host's function. leave may free the router. */
void kei_router_enter(struct ke_router *r);
void kei_router_leave(struct ke_router *r);

/* request.c */
void kei_requests_deliver(struct ke_router *r);
void kei_requests_end(struct ke_router *r); /* all with KE_ECANCELED */

#endif
