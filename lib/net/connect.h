/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection out of several addresses (RFC 8305): tried in the given order, the next one after
 * 250 ms or as soon as one failed; the first to stand wins. Loop thread.
 */
#ifndef KEI_NET_CONNECT_H
#define KEI_NET_CONNECT_H

#include "base/loop.h"
#include "net/addr.h"

#define KEI_CONNECT_STAGGER_MS 250

struct kei_connect;

/* once, in a later turn: 0 with a connected fd (now the callee's), or a KE_E* and text, fd -1. The
 * race is gone when it is called. */
typedef void (*kei_connect_fn)(void *user, int status, const char *text, int fd,
                               const struct kei_addr *to);
/* n 1..KEI_ADDRS_MAX, copied. dead_ms: as kei_sock_tune. KE_ENOMEM */
int kei_connect_start(struct kei_connect **ret, struct ke_ctx *ctx, const struct kei_addr *addrs,
                      size_t n, uint32_t dead_ms, kei_connect_fn fn, void *user);
void kei_connect_cancel(struct kei_connect *c); /* closes all; no call after this. NULL is fine */

#endif
