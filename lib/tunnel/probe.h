/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to the certificate port that need no certificate: which dialect the cloud speaks, and,
 * for a node whose clock is known to be wrong, what time it is. Loop thread; callbacks may free it.
 *
 * The dialect: GET /node/NAME is answered "Node founded" or "Node not found" by clouds from 1.20 on
 * only, GET /readyz by 1.4 only; whoever answers neither is in between (1.15).
 */
#ifndef KEI_TUNNEL_PROBE_H
#define KEI_TUNNEL_PROBE_H

#include <kubeedge/msg.h>

struct kei_probe;
struct kei_tls_config;

struct kei_probe_config {
    const char *host; /* strings and tls are borrowed until the probe ends */
    uint16_t port;
    const char *proxy_url;
    const char *node_name;
    struct kei_tls_config *tls;
};

/* Once, in a later turn. 0 with the answer (KE_DIALECT_*, or Unix ms), or KE_E* and text. */
typedef void (*kei_probe_fn)(void *user, int status, const char *text, int64_t answer);

int kei_probe_dialect(struct kei_probe **ret, struct ke_ctx *ctx, const struct kei_probe_config *c,
                      kei_probe_fn done, void *user);
/* The Date header of GET /ca.crt: only as good as tls verifies. KE_EPROTO without one. */
int kei_probe_time(struct kei_probe **ret, struct ke_ctx *ctx, const struct kei_probe_config *c,
                   kei_probe_fn done, void *user);
void kei_probe_free(struct kei_probe *p); /* cancels; NULL is fine */

#endif
