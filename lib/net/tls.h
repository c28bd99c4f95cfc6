/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS settings and the engine below net/stream. Settings are immutable and reference-counted: a new
 * certificate is taken over by making new settings and using them for the next connection.
 * TLS 1.2 with ECDHE-GCM at least; 1.3 preferred; no ALPN; no SNI for addresses; host name or
 * address verified; release buffers on; no tickets, no session cache.
 */
#ifndef KEI_NET_TLS_H
#define KEI_NET_TLS_H

#include "crypto/crypto.h"

struct ke_ctx;
struct kei_tls_config;

struct kei_tls_options {
    bool server;
    bool verify_peer;            /* client: chain and name; server: client certificate required */
    bool request_peer;           /* server: ask for a client certificate, accept any or none; the
                                    application verifies it (kei_cert_verify) */
    const struct kei_cert *ca;   /* needed with verify_peer */
    const struct kei_cert *cert; /* own; with key */
    const struct kei_key *key;
    const char *verify_name;    /* client: instead of the host dialled; NULL: the host */
    int64_t (*now)(void *user); /* Unix seconds for validity checks (time floor); NULL: system */
    void *now_user;
    bool verify_given;        /* server: no certificate is fine, but one that comes must be good */
    struct ke_str cert_chain; /* PEM: own certificate, then those between it and the root; sent */
    struct ke_str ca_list;    /* PEM: CAs besides ca; a server also builds its own chain of them */
    struct ke_str crl_list;   /* PEM: with it a peer's certificate must not be in its CA's list */
};

int kei_tls_config_new(struct kei_tls_config **ret, struct ke_ctx *ctx,
                       const struct kei_tls_options *o);
struct kei_tls_config *kei_tls_config_ref(struct kei_tls_config *t);
void kei_tls_config_unref(struct kei_tls_config *t);

/* ---- the engine, used by net/stream only: bytes in, bytes out, no socket ---- */
struct kei_tls;
/* io callbacks move ciphertext; return bytes moved, 0: would block, -1: gone, errno says why
 * (errno 0 from read: the peer ended the stream) */
struct kei_tls_io {
    long (*read)(void *user, void *p, size_t n);
    long (*write)(void *user, const void *p, size_t n);
    void *user;
};
int kei_tls_new(struct kei_tls **ret, struct kei_tls_config *t, const char *host,
                const struct kei_tls_io *io, struct ke_error *err);
void kei_tls_free(struct kei_tls *s);
#define KEI_TLS_WANT_READ 1
#define KEI_TLS_WANT_WRITE 2
/*
 * 0 done; KEI_TLS_WANT_*; negative: failed for good, the text names the peer's or our reason:
 * KE_ECERT (unknown CA, wrong name with the names there are, wrong use, not valid yet),
 * KE_EEXPIRED, KE_EREFUSED (the peer does not accept our certificate), KE_ECONN and others for the
 * transport, KE_ETLS. With TLS 1.3 a client learns that it is refused from its first read or write.
 */
int kei_tls_handshake(struct kei_tls *s, struct ke_error *err);
/*
 * 0 with *ret_n bytes moved (maybe fewer than n); KEI_TLS_WANT_*; KE_ECLOSED at the peer's
 * close_notify; KE_ETLS when the stream ended without it; or as the handshake; KE_ESTATE after
 * that. A write that wanted something is repeated with the same bytes first; they may have moved.
 */
int kei_tls_read(struct kei_tls *s, void *p, size_t n, size_t *ret_n, struct ke_error *err);
int kei_tls_write(struct kei_tls *s, const void *p, size_t n, size_t *ret_n, struct ke_error *err);
void kei_tls_shutdown(struct kei_tls *s);                     /* sends close_notify if it can */
int kei_tls_peer_cert(struct kei_tls *s, struct ke_buf *out); /* DER; KE_ENOTFOUND */

#endif
