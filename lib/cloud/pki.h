/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud's identity: its certificate authority, its server certificate and its join tokens, kept
 * in DATA/pki. Each key stands in one file with its certificate, so they always match.
 */
#ifndef KEI_CLOUD_PKI_H
#define KEI_CLOUD_PKI_H

#include <kubeedge/cloud.h>

#include "crypto/crypto.h"
#include "net/tls.h"

#define KEI_NODE_CN "system:node:"  /* and the node's name */
#define KEI_LEGACY_CN "kubeedge.io" /* of all nodes up to 1.15 */

struct kei_pki {
    struct ke_ctx *ctx;
    struct kei_crypto *crypto;
    struct kei_key *ca_key, *server_key;
    struct kei_cert *ca, *server;
    struct ke_buf ca_der, ca_key_der;
    struct kei_tls_config *tunnel_tls; /* client certificate required */
    struct kei_tls_config *cert_tls;   /* client certificate asked for */
};

/* Reads, or makes what is missing; a server certificate that lacks one of the names is made anew.
 */
int kei_pki_open(struct kei_pki *p, struct ke_ctx *ctx, const struct ke_cloud_config *c);
void kei_pki_close(struct kei_pki *p); /* safe on a zeroed or half open one */
int kei_pki_token(struct kei_pki *p, uint32_t hours, struct ke_buf *out);

#endif
