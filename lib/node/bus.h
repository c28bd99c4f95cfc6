/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT in the node: the server inside and the event bus, as its configuration says. Loop thread. */
#ifndef KEI_NODE_BUS_H
#define KEI_NODE_BUS_H

#include <stdbool.h>

#include <kubeedge/eventbus.h>
#include <kubeedge/node.h>

struct kei_node_bus;

/*
 * Makes and, in the next turn, starts what c (which must outlive it) asks for; *ret is NULL when it
 * asks for nothing. A server that cannot listen
 * or a module that cannot be loaded is logged and left out: workloads do not wait for it.
 * KE_ENOMEM.
 */
int kei_node_bus_new(struct kei_node_bus **ret, struct ke_ctx *ctx, const struct ke_node_config *c,
                     struct ke_router *router, struct ke_store *store);
void kei_node_bus_free(struct kei_node_bus *b); /* NULL is fine */
/* The link to the cloud came or went. NULL is fine. */
void kei_node_bus_connection(struct kei_node_bus *b, bool up, uint32_t dialect);

#endif
