/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud tunnel: joins with a token, keeps the certificate fresh, holds one WebSocket to the
 * cloud, reconnects, and carries messages both ways. Usable alone, with or without a store.
 * All calls: loop, unless marked.
 */
#ifndef KUBEEDGE_TUNNEL_H
#define KUBEEDGE_TUNNEL_H

#include <kubeedge/msg.h>
#include <kubeedge/store.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_tunnel;

#define KE_TUNNEL_IDLE 0u       /* made, not started */
#define KE_TUNNEL_JOINING 1u    /* fetching CA or certificate */
#define KE_TUNNEL_CONNECTING 2u /* resolving, TCP, TLS, upgrade */
#define KE_TUNNEL_CONNECTED 3u
#define KE_TUNNEL_WAITING 4u /* pause before the next attempt */
#define KE_TUNNEL_STOPPED 5u

struct ke_tunnel_config {
    size_t size;
    const char *node_name;  /* required */
    const char *host;       /* required: name or address of the cloud */
    const char *project_id; /* default e632aba927ea4ac2b575ec1603d56f10 */
    const char *token;      /* HEX.H.P.S, needed until a certificate is held */
    const char *folder;     /* required: identity is kept in FOLDER/identity (0700) */
    const char *ca_file; /* optional PEM given by the host instead of the folder's; also for the */
    const char *cert_file; /* two below. key_file may be a URI for OSSL_STORE (TPM, PKCS#11). */
    const char *key_file;
    const char *proxy_url;    /* http://[user:password@]host:port for HTTP CONNECT; default none */
    uint32_t tunnel_port;     /* default 10000 */
    uint32_t cert_port;       /* default 10002 */
    uint32_t dialect;         /* KE_DIALECT_*; default auto: asked of the certificate port before
                                 the first link, kept, asked again on each link (at most once a
                                 minute); a change makes a new link */
    uint32_t heartbeat_ms;    /* keepalive; default 15000 */
    uint32_t dead_ms;         /* a link silent for so long is dead; default 30000 */
    uint32_t retry_min_ms;    /* first pause after a failure; default 1000 */
    uint32_t retry_max_ms;    /* default 60000 */
    uint32_t max_message;     /* bytes; larger ones are skipped and reported; default 32 MiB */
    uint32_t outbox_messages; /* default 10000 */
    uint64_t outbox_bytes;    /* default 64 MiB */
    uint32_t flags;           /* 0 */
    uint32_t reserved;
    struct ke_store *store; /* optional: makes the outbox durable; must outlive the tunnel */
};

/* Strings borrowed until the next turn of the loop. */
struct ke_tunnel_status {
    size_t size;
    uint32_t state;                      /* KE_TUNNEL_* */
    uint32_t dialect;                    /* found or configured; KE_DIALECT_AUTO while unknown */
    int32_t last_error;                  /* KE_E* of the last failure, 0 if none yet */
    uint32_t attempts;                   /* since the last connect */
    int64_t next_retry_ms;               /* until the next attempt; -1 if none is planned */
    int64_t connected_ms;                /* since the connect; -1 if not connected */
    int64_t cert_not_after;              /* Unix seconds, 0 without certificate */
    int64_t cert_rotate_at;              /* Unix seconds of the planned rotation */
    uint64_t sent, received;             /* messages */
    uint64_t sent_bytes, received_bytes; /* on the WebSocket */
    uint64_t outbox;                     /* messages waiting */
    uint64_t outbox_refused;             /* since start */
    uint64_t skipped;                    /* messages over max_message */
    const char *last_error_text;         /* "" if none */
};

struct ke_tunnel_ops {
    size_t size;
    /*
     * Optional. A message from the cloud that was not seen before; borrowed. When its effect is
     * durable call ke_tunnel_ack; one that is not acknowledged within 15 s is told again when the
     * cloud sends it again. Replies to own requests come here too (parent id set).
     */
    void (*message)(void *user, struct ke_msg *m);
    /* Optional. State, error or retry time changed. */
    void (*state)(void *user, const struct ke_tunnel_status *st);
    /*
     * Optional. A durable message left the outbox: 0 confirmed; KE_ECANCELED replaced by a newer
     * state; KE_EREFUSED the cloud answered that it never will take it (object gone, invalid,
     * another uid); another code: it can never be sent.
     */
    void (*sent)(void *user, struct ke_msg *m, int status);
};

KE_API void ke_tunnel_config_init(struct ke_tunnel_config *c, size_t size);
/*
 * Copies config and ops (ops may be NULL). Does no IO. KE_EINVAL names the member; KE_EABI,
 * KE_ENOMEM; KE_ENOTSUP when built without the tunnel. A malformed token is no error here: it does
 * not matter while a certificate is held.
 */
KE_API KE_NODISCARD int ke_tunnel_new(struct ke_tunnel **ret, struct ke_ctx *ctx,
                                      const struct ke_tunnel_config *c,
                                      const struct ke_tunnel_ops *ops, void *user);
KE_API void ke_tunnel_free(struct ke_tunnel *t); /* NULL is fine; from a callback: deferred */

/*
 * Begins, in a later turn: joins if needed, connects, stays connected, renews the certificate.
 * Failures come by state, and it goes on trying. KE_ESTATE: started already.
 */
KE_API KE_NODISCARD int ke_tunnel_start(struct ke_tunnel *t);
/* Closes; what is in the outbox stays. May be started again. NULL is fine. */
KE_API void ke_tunnel_stop(struct ke_tunnel *t);
/* Drops the link and the current pause, if any, and connects anew at once. KE_ESTATE: not started.
 */
KE_API KE_NODISCARD int ke_tunnel_reconnect(struct ke_tunnel *t);
/* A snapshot; size is that of *ret. KE_EABI. */
KE_API KE_NODISCARD int ke_tunnel_status(struct ke_tunnel *t, struct ke_tunnel_status *ret,
                                         size_t size);

#define KE_SEND_NOW 0u   /* only over the present link; not resent */
#define KE_SEND_STATE 1u /* kept until confirmed; a newer one with the same key replaces it */
#define KE_SEND_EVENT 2u /* kept until confirmed, in order */

/*
 * Sends m. NOW: KE_ECLOSED without a link, KE_ELIMIT when its queue is full, KE_ENOTSUP when the
 * cloud's dialect has no such message. STATE and EVENT: done (may be NULL) runs when it is durable
 * in the outbox (in a later turn without a store), or with the failure of the store, and then it is
 * kept in memory only. Confirmed means: the cloud replied to it, or, for what clouds never answer,
 * answered a ping that was sent after it. key NULL: the resource. KE_ELIMIT: the outbox is full;
 * nothing accepted is dropped for it, and events are refused first: the last eighth of
 * outbox_messages and outbox_bytes is for states. Any thread is NOT allowed: post it.
 */
KE_API KE_NODISCARD int ke_tunnel_send(struct ke_tunnel *t, struct ke_msg *m, uint32_t how,
                                       const char *key, ke_store_done_fn done, void *user);

/*
 * Acknowledges a message of the cloud: sends "OK" and remembers its id against duplicates. Without
 * a link it is remembered (and 0 returned): the cloud sends it again, and that copy is acknowledged
 * without being told. KE_ENOMEM.
 */
KE_API KE_NODISCARD int ke_tunnel_ack(struct ke_tunnel *t, struct ke_msg *m);

#ifdef __cplusplus
}
#endif
#endif
