/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tunnel as module `websocket` (group `hub`) on the router. Takes the messages and the state of
 * a tunnel that its owner made (which may pass NULL as message callback), gives what comes to
 * whoever it is for, and sends what the modules hand it (lib/README.md, "Modules on the router").
 * Loop thread.
 */
#ifndef KEI_TUNNEL_HUB_H
#define KEI_TUNNEL_HUB_H

#include <stdbool.h>

#include <kubeedge/router.h>
#include <kubeedge/tunnel.h>

struct kei_hub;

/* Both must outlive the hub. KE_EEXIST: the router has a module of that name. */
int kei_hub_new(struct kei_hub **ret, struct ke_ctx *ctx, struct ke_router *router,
                struct ke_tunnel *tunnel);
/* Before the tunnel and the router are freed; NULL is fine. Not from within a delivery of it. */
void kei_hub_free(struct kei_hub *h);

/* ---- what the other modules ask of a tunnel; tunnel may be NULL (offline node) ---- */
bool kei_tunnel_connected(const struct ke_tunnel *t);
/* found or configured; KE_DIALECT_AUTO while unknown */
uint32_t kei_tunnel_dialect(const struct ke_tunnel *t);
/* own address on the present link, or the last one; "" if there was none. Borrowed. */
const char *kei_tunnel_local_ip(const struct ke_tunnel *t);

/* What fn says is told at each connect (header Libkubeedge-Newest), unless it is -1. */
void kei_tunnel_tell_newest(struct ke_tunnel *t, int64_t (*fn)(void *user), void *user);
/* At each connect the cloud is told that twins are merged here (KEI_MERGE_HEADER). */
void kei_tunnel_offer_merge(struct ke_tunnel *t);
/* The cloud of the present link does it, too; *ret_now_ms: its clock when the link began, 0 when it
 * has none. */
bool kei_tunnel_merges(const struct ke_tunnel *t, int64_t *ret_now_ms);
/* Rows of the tunnel's store were lost: the cloud is told at the next connect, which is begun, and
 * delivers everything again. Loop. */
void kei_tunnel_store_lost(struct ke_tunnel *t);

#endif
