/* SPDX-License-Identifier: Apache-2.0 */
/* Host names to addresses, on the context's resolver thread. Loop thread. */
#ifndef KEI_NET_RESOLVE_H
#define KEI_NET_RESOLVE_H

#include "base/loop.h"
#include "net/addr.h"

struct kei_resolve;

/* What a text of a name that did not resolve has after 'host name "NAME"'. */
#define KEI_RESOLVE_FAILED " did not resolve"

/* once, in a later turn: 0 and the addresses in the order the system gave them (borrowed), or
 * KE_ERESOLVE and text. The request is gone when it is called. */
typedef void (*kei_resolve_fn)(void *user, int status, const char *text,
                               const struct kei_addr *addrs, size_t n);
/* A literal address is told without the resolver. KE_EINVAL (not a host name), KE_ENOMEM */
int kei_resolve_start(struct kei_resolve **ret, struct ke_ctx *ctx, const char *host, uint16_t port,
                      kei_resolve_fn fn, void *user);
/* No call after this. The lookup itself runs on and is forgotten. NULL is fine. */
void kei_resolve_cancel(struct kei_resolve *r);

#endif
