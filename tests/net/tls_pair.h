/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two TLS engines joined in memory, or one and a peer that is plain OpenSSL. The transport can be
 * made narrow, full, cut or broken.
 */
#ifndef TEST_NET_TLS_PAIR_H
#define TEST_NET_TLS_PAIR_H

#include <openssl/ssl.h>

#include "crypto/fixture.h"
#include "net/tls.h"

#define PIPE_MAX (256 * 1024)

/* Bytes on their way in one direction. */
struct tls_pipe {
    char *p;
    size_t n;
    size_t step;                 /* at most so many bytes are moved at once; 0: any */
    size_t room;                 /* at most so many bytes are on the way; 0: PIPE_MAX */
    bool ended;                  /* what is there can be read, then it is at its end */
    int read_errno, write_errno; /* not 0: fails so */
};

struct tls_end {
    struct kei_tls *tls;
    struct tls_pipe *in, *out;
    struct ke_error err;
    int r; /* of the last handshake step */
};

struct tls_pair {
    struct tls_pipe to_server, to_client;
    struct tls_end client, server;
};

void pair_init(struct tls_pair *t);
/* The engines; config NULL leaves that end to the test. */
void pair_open(struct tls_pair *t, struct kei_tls_config *client, const char *host,
               struct kei_tls_config *server);
int pair_try(struct tls_pair *t, struct kei_tls_config *client, const char *host,
             struct kei_tls_config *server); /* 0 or what failed */
/* Steps both until neither gets on. true if both are done. */
bool pair_handshake(struct tls_pair *t);
void pair_fini(struct tls_pair *t);

/* Moves what the peer (SSL over memory BIOs) has to say, and what we have for it. */
void peer_open(SSL *ssl);
void peer_pump(struct tls_pair *t, SSL *ssl, bool peer_is_server);
/* Handshake of one of our ends with such a peer; 0 or our error. *ret_peer: 1 if the peer is done.
 */
int peer_handshake(struct tls_pair *t, struct tls_end *our, SSL *ssl, int *ret_peer);

#endif
