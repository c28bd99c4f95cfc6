/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node owes the cloud: registration, status, lease. A module on the router (edgednode) whose
 * requests go to metamanager. Loop thread.
 */
#ifndef KEI_NODE_DUTY_H
#define KEI_NODE_DUTY_H

#include <kubeedge/router.h>

#include "base/loop.h"
#include "node/object.h"

struct kei_duty;

struct kei_duty_config {
    const struct ke_node_config *node; /* outlives the duty */
    const char *address;               /* InternalIP, borrowed as long */
    uint32_t (*dialect)(void *user);
    /* name, version, readiness of the runtime into f */
    void (*runtime)(void *user, struct kei_node_facts *f);
    /* the cloud confirmed a status whose condition Ready is True; repeats */
    void (*ready)(void *user);
    /* the cloud made the Node anew: it may know nothing of this node's pods */
    void (*created)(void *user);
    void *user;
};

int kei_duty_new(struct kei_duty **ret, struct ke_ctx *ctx, struct ke_router *router,
                 const struct kei_duty_config *c);
void kei_duty_free(struct kei_duty *d); /* NULL is fine */
/* The link came or went. */
void kei_duty_connected(struct kei_duty *d, bool connected);
/* Something a status tells has changed (the runtime): report soon. */
void kei_duty_changed(struct kei_duty *d);

#endif
