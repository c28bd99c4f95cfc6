/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cloud for tests of the tunnel: both ports on loopback, its own CA, on the loop of the test's
 * context. It answers like a good cloud of `dialect` unless told to misbehave, and records what
 * reaches it. Owner: the test. Loop thread.
 *
 *     struct fake_cloud fc;
 *     fake_cloud_start(&fc, env.ctx);
 *     ... config.host = "127.0.0.1", .tunnel_port = fc.hub_port, .token = fc.token.p ...
 *     fake_cloud_stop(&fc);
 */
#ifndef TESTS_SIM_FAKE_CLOUD_H
#define TESTS_SIM_FAKE_CLOUD_H

#include <stdbool.h>

#include <kubeedge/msg.h>

#include "base/buf.h"
#include "crypto/crypto.h"
#include "net/http.h"
#include "net/tls.h"
#include "net/ws.h"

#define FAKE_MESSAGES 4096

struct fake_cloud {
    struct ke_ctx *ctx;
    struct kei_crypto *crypto;
    struct kei_key *ca_key, *server_key;
    struct kei_cert *ca, *server_cert;
    struct ke_buf token;
    struct kei_http_server *cert_server, *hub_server;
    uint16_t cert_port, hub_port;
    struct kei_ws *ws; /* the newest session, NULL: none */
    int64_t epoch_s;   /* its clock goes with the monotonic one, from the real time at start */

    /* how it behaves; to be changed at any time */
    uint32_t dialect;        /* what the certificate port shows; default 1.15 */
    int64_t clock_offset_s;  /* of the cloud's clock, for what it signs and accepts */
    int64_t cert_seconds;    /* life of what it signs; default a year */
    uint32_t edge_status;    /* answer of /edge.crt; 0: 200 */
    const char *edge_body;   /* with it */
    bool edge_garbage;       /* 200 and no certificate */
    bool edge_other_key;     /* certifies another key */
    const char *edge_cn;     /* certifies another name */
    bool other_ca;           /* /ca.crt answers with another CA */
    uint32_t upgrade_status; /* refuses the upgrade with it; 0: upgrades */
    const char *only_serial; /* NULL; "new": only the certificate signed last may connect,
                                "old": all but that one */
    bool reply_ok;           /* answers every request with "OK" */
    void (*on_message)(struct fake_cloud *fc, struct ke_msg *m); /* after it was recorded */
    void *user;

    /* what was seen */
    struct ke_msg *messages[FAKE_MESSAGES]; /* keepalives left out */
    uint32_t n_messages;
    uint32_t keepalives, upgrades, sessions_closed, ca_requests, edge_requests, probes;
    uint32_t tls_ok;          /* connections to the hub whose handshake was done */
    bool first_was_keepalive; /* of the newest session */
    bool any_in_session;
    char last_keepalive[512];
    char target[256], node_id[256], project_id[256], use[32], origin[64], user_agent[64], newest[32];
    char edge_auth[2048], edge_node[256];
    bool edge_had_cert; /* the last /edge.crt came with a client certificate */
    char csr_cn[256], csr_org[256];
    char client_cn[256]; /* of the newest session */
    uint8_t client_sha[32], last_signed_sha[32];
};

void fake_cloud_start(struct fake_cloud *fc, struct ke_ctx *ctx);
void fake_cloud_stop(struct fake_cloud *fc);
/* Closes the ports and the session, as if it ended; and comes back on the same ports. */
void fake_cloud_down(struct fake_cloud *fc);
void fake_cloud_up(struct fake_cloud *fc);
/* A server certificate of the same CA, valid from-to (Unix seconds), for name. */
void fake_cloud_server_cert(struct fake_cloud *fc, const char *name, int64_t from, int64_t to);
/* A new CA and token, as if it was set up anew. */
void fake_cloud_new_ca(struct fake_cloud *fc);

/* Closes the session's connection. */
void fake_cloud_drop(struct fake_cloud *fc);
/* Neither reads nor writes on the session any more, but keeps it. */
void fake_cloud_freeze(struct fake_cloud *fc);
/* Sends raw text, or a message whose id is put into id (37 bytes, may be NULL). */
void fake_cloud_send_text(struct fake_cloud *fc, const char *text, size_t n);
struct fake_message {
    const char *id, *parent, *rv, *source, *group, *operation, *resource, *content;
    int64_t timestamp_ms;
};
void fake_cloud_send(struct fake_cloud *fc, const struct fake_message *m, char id[37]);

/* How many recorded messages have this operation and resource (NULL: any). */
uint32_t fake_cloud_count(const struct fake_cloud *fc, const char *operation, const char *resource);
/* The n-th of them (0 first), or NULL */
struct ke_msg *fake_cloud_find(const struct fake_cloud *fc, const char *operation,
                               const char *resource, uint32_t n);
/* Recorded acknowledgements of this id. */
uint32_t fake_cloud_acks(const struct fake_cloud *fc, const char *id);
void fake_cloud_forget(struct fake_cloud *fc); /* what was recorded */

#endif
