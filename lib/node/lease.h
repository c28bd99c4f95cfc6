/* SPDX-License-Identifier: Apache-2.0 */
/* The node's Lease in kube-node-lease, renewed every quarter of its duration. Loop thread. */
#ifndef KEI_NODE_LEASE_H
#define KEI_NODE_LEASE_H

#include <stdbool.h>

#include <kubeedge/router.h>

struct kei_lease;

int kei_lease_new(struct kei_lease **ret, struct ke_ctx *ctx, struct ke_router *router,
                  const char *node);
void kei_lease_free(struct kei_lease *l); /* NULL is fine */
/* The link is there and the node registered; wanted false: this cloud knows no leases. */
void kei_lease_start(struct kei_lease *l, bool wanted, const char *owner_uid);
void kei_lease_stop(struct kei_lease *l);
/* uid of the Node, for the owner reference of a new Lease; "" unknown */
void kei_lease_owner(struct kei_lease *l, const char *uid);

#endif
