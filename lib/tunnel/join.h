/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting a certificate from the cloud's certificate port: with a join token (first time, or after
 * the certificate expired), or with the certificate that is held (rotation). One exchange after the
 * other, each on a connection of its own. Loop thread; callbacks may free it.
 */
#ifndef KEI_TUNNEL_JOIN_H
#define KEI_TUNNEL_JOIN_H

#include <kubeedge/ctx.h>

#include "tunnel/identity.h"

struct kei_join;

struct kei_join_config {
    const char *host;
    uint16_t port;
    const char *proxy_url; /* NULL: none */
    const char *node_name;
    const char *token;               /* NULL: with `held` as client certificate */
    const struct kei_identity *held; /* rotation; borrowed during kei_join_start only */
    const struct kei_cert *ca;       /* given by the host: /ca.crt is not asked; may be NULL */
    const struct kei_key *host_key;  /* to be certified instead of a new one; outlives the join */
    int64_t (*now)(void *user);      /* Unix seconds, for certificate checks */
    void *now_user;
};

/*
 * Once, in a later turn. status 0: got is the new unit, which the callee empties or leaves. Else
 * KE_ETOKEN (malformed, or refused by the cloud: its text), KE_EPIN, KE_EREFUSED (the certificate
 * held is refused), KE_ECERT, KE_EKEY, KE_EHTTP, or what the connection failed with. server_ms: the
 * cloud's clock as of its Date header over a verified connection, 0 unknown.
 */
typedef void (*kei_join_fn)(void *user, int status, const char *text, struct kei_identity *got,
                            int64_t server_ms);

int kei_join_start(struct kei_join **ret, struct ke_ctx *ctx, const struct kei_join_config *c,
                   kei_join_fn done, void *user);
void kei_join_free(struct kei_join *j); /* cancels; NULL is fine */

struct kei_http_head;
/* "Sun, 22 Nov 2026 08:17:59 GMT" of a Date header as Unix ms; 0 if absent or malformed */
int64_t kei_http_date_ms(const struct kei_http_head *head);

#endif
