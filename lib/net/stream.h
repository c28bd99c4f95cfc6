/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream: TCP, unix socket, or TLS over either. One interface for protocols above. All calls
 * loop thread; callbacks may free the stream.
 */
#ifndef KEI_NET_STREAM_H
#define KEI_NET_STREAM_H

#include "base/error.h"
#include "base/loop.h"
#include "base/str.h"

struct kei_stream;
struct kei_tls_config; /* net/tls.h */

struct kei_stream_ops {
    /* connected, after the TLS handshake if any; not told of accepted streams: they are open */
    void (*open)(void *user);
    /* bytes arrived; returns how many were consumed: the rest is presented again with more behind
     * it. Unconsumed bytes over the receive cap end the stream with KE_ELIMIT. */
    size_t (*data)(void *user, const char *p, size_t n);
    /* the write queue went empty after some of it could not be sent at once; optional */
    void (*drained)(void *user);
    /* once, last: status KE_ECLOSED (peer closed in order), KE_ECONN, KE_ETLS, KE_ETIMEDOUT...;
     * text says more. The stream is closed; the user frees it (may do so here). */
    void (*closed)(void *user, int status, const char *text);
};

/* How the text of a stream that never opened begins; what it was to be opened to follows. */
#define KEI_STREAM_NOT_OPENED "could not connect to "

struct kei_stream_config {
    const char *host; /* name, IPv4, IPv6 (with or without brackets); NULL with unix_path */
    uint16_t port;
    const char *unix_path;
    struct kei_tls_config *tls; /* NULL: plain; must outlive the stream's start (ref taken) */
    const char *proxy_url;      /* http://[user:pass@]host:port: HTTP CONNECT first; NULL: none */
    uint32_t connect_ms;        /* whole: resolve, connect, proxy, handshake; default 30000 */
    uint32_t dead_ms;   /* TCP_USER_TIMEOUT and keepalive probes: unacked data, silent peer */
    size_t receive_cap; /* unconsumed bytes; default 64 KiB */
    size_t send_cap;    /* queued bytes; default 1 MiB, over it write fails with KE_ELIMIT */
    uint16_t small_cap; /* of those, without an allocation; default 512. For who has thousands */
};

/*
 * Begins to connect. KE_EINVAL (host, path or proxy URL malformed), KE_ENOTSUP (proxy scheme),
 * KE_ENOMEM; failures of any other kind come by closed, in a later turn. ops is copied.
 */
int kei_stream_connect(struct kei_stream **ret, struct ke_ctx *ctx,
                       const struct kei_stream_config *c, const struct kei_stream_ops *ops,
                       void *user);
/* Takes all bytes or none: queued, and sent in one write at the end of the loop's turn. Before the
 * stream is open they wait. KE_ELIMIT, KE_ENOMEM, KE_ESTATE (finishing), KE_ECLOSED */
int kei_stream_write(struct kei_stream *s, const void *p, size_t n);
size_t kei_stream_queued(const struct kei_stream *s);
/* Stops reading (back-pressure), or goes on. */
void kei_stream_pause(struct kei_stream *s, bool paused);
/* Sends what is queued, tells the peer that no more comes, waits shortly for its end, then closes;
 * closed is told with KE_ECLOSED. Nothing is read any more. */
void kei_stream_finish(struct kei_stream *s);
/* Closes at once, without callback, and frees; what is queued is lost. NULL is fine; legal in any
 * callback. */
void kei_stream_free(struct kei_stream *s);
/* Replaces the callbacks (protocol upgrade). Unconsumed bytes go to the new ones, later. */
void kei_stream_set_ops(struct kei_stream *s, const struct kei_stream_ops *ops, void *user);
/* DER of the peer's certificate appended to out; KE_ENOTFOUND if it gave none */
int kei_stream_peer_cert(struct kei_stream *s, struct ke_buf *out);
/* "127.0.0.1:4711", "unix:/path" (at both ends, of the listener); "" before there is a connection
 */
const char *kei_stream_peer_name(struct kei_stream *s);
/* own address of the connection, without port; "" if unknown */
const char *kei_stream_local_ip(struct kei_stream *s);

/* ---- listening ---- */
struct kei_listener;
struct kei_listener_config {
    const char *host;      /* address to bind; "0.0.0.0", "::", ...; NULL with unix_path */
    uint16_t port;         /* 0: any free one */
    const char *unix_path; /* replaced if stale; mode 0600 */
    struct kei_tls_config *tls;
    uint32_t handshake_ms; /* default 30000 */
    uint32_t max_streams;  /* default 1000; over it new ones wait in the kernel's queue */
    uint32_t dead_ms;
    size_t receive_cap, send_cap;
    /*
     * For ports that anybody can reach. Handshakes under way are counted apart, up to this number;
     * at it the oldest gives its place when the peer said nothing within 1 s, or is not done within
     * 5 s. 0: they count as streams, and nobody is cut before handshake_ms.
     */
    uint32_t max_handshakes;
    /* Connections of one address (IPv6: of its /64), handshakes included; a further one takes the
     * place of a handshake of the same that said nothing yet, or is closed. 0: no limit */
    uint32_t max_per_address;
};
/* accept is called for each stream whose handshake is done; it sets ops with kei_stream_set_ops or
 * frees it. */
typedef void (*kei_accept_fn)(void *user, struct kei_stream *s);
/* host must be an address. KE_EINVAL, KE_EADDRINUSE, KE_EACCES name the address */
int kei_listen(struct kei_listener **ret, struct ke_ctx *ctx, const struct kei_listener_config *c,
               kei_accept_fn accept, void *user);
uint16_t kei_listener_port(const struct kei_listener *l);
/* New TLS settings for the connections to come. */
void kei_listener_set_tls(struct kei_listener *l, struct kei_tls_config *tls);
/* Accepted streams live on, those in their handshake do not. NULL is fine; legal in accept. */
void kei_listener_free(struct kei_listener *l);

#endif
