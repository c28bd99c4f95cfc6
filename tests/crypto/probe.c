/* SPDX-License-Identifier: Apache-2.0 */
/* A module that uses crypto and TLS and keeps nothing; test_dlopen loads and unloads it. */
#include <kubeedge/ctx.h>

#include "net/tls.h"

__attribute__((visibility("default"))) int probe(struct ke_error *err);

int probe(struct ke_error *err)
{
    struct ke_ctx *ctx;
    struct kei_crypto *c;
    struct kei_key *k = NULL;
    struct kei_cert *ca = NULL;
    struct kei_tls_config *t = NULL;
    int r = ke_ctx_new(&ctx, NULL, err);
    if (r < 0)
        return r;
    r = kei_crypto_get(ctx, &c);
    if (r == 0)
        r = kei_key_new_p256(&k, c, err);
    if (r == 0)
        r = kei_ca_make(&ca, k, 1796083200, err);
    struct kei_tls_options o = {
        .server = true, .verify_peer = true, .ca = ca, .cert = ca, .key = k};
    if (r == 0)
        r = kei_tls_config_new(&t, ctx, &o);
    kei_tls_config_unref(t);
    kei_cert_free(ca);
    kei_key_free(k);
    ke_ctx_free(ctx);
    return r;
}
