/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket (RFC 6455): handshake (pure), frames (pure, on wslay), and a connection that joins them
 * to a stream. Messages are reassembled; control frames between fragments are fine; pings are
 * answered. A message over the cap streams past: its first bytes are kept and reported, the
 * connection stays.
 */
#ifndef KEI_NET_WS_H
#define KEI_NET_WS_H

#include "net/http1.h"
#include "net/stream.h"

/* ---- handshake ---- */
#define KEI_WS_KEY_LEN 24
/* key: base64 of 16 random bytes; accept: 28 characters */
void kei_ws_accept(const char *key, size_t key_n, char out[29]);
/* Server: checks an upgrade request, writes the 101 head. KE_EPROTO. */
int kei_ws_server_handshake(const struct kei_http_head *req, struct ke_buf *out,
                            struct ke_error *err);

/* ---- connection ---- */
struct kei_ws;

struct kei_ws_ops {
    void (*open)(void *user); /* client: after the 101 */
    /* one whole message (text or binary); borrowed */
    void (*message)(void *user, const char *p, size_t n);
    /* a message over the cap went past: its length and first bytes; optional */
    void (*skipped)(void *user, uint64_t n, const char *head, size_t head_n);
    void (*pong)(void *user);    /* optional */
    void (*drained)(void *user); /* optional: send queue empty again */
    /* once, last; http_status != 0 when the upgrade was refused with it. Free it here or later. */
    void (*closed)(void *user, int status, const char *text, uint32_t http_status);
    /* client: the 101 itself, before open; borrowed, optional. May not free the WebSocket. */
    void (*answer)(void *user, const struct kei_http_head *head);
};

struct kei_ws_config {
    size_t max_message; /* default 32 MiB */
    uint32_t ping_ms;   /* own pings; 0: none */
    uint32_t dead_ms;   /* nothing received for so long: KE_ETIMEDOUT; 0: never */
};

/* Client: target "/PID/NODE/events"; headers: further lines each ended by \r\n; a User-Agent of
 * ours is sent unless they have one. s->connect_ms covers the upgrade too. ops is copied.
 * KE_EINVAL, KE_ENOMEM, KE_ENOTSUP; failures of any other kind come by closed, in a later turn. */
int kei_ws_connect(struct kei_ws **ret, struct ke_ctx *ctx, const struct kei_stream_config *s,
                   const char *target, const char *headers, const struct kei_ws_config *c,
                   const struct kei_ws_ops *ops, void *user);
/* Server: takes over a stream after the 101 was written. When it fails the stream is still the
 * caller's. */
int kei_ws_accepted(struct kei_ws **ret, struct ke_ctx *ctx, struct kei_stream *s,
                    const struct kei_ws_config *c, const struct kei_ws_ops *ops, void *user);
/* One text message in one frame: all of it is queued, or none. KE_ELIMIT when it does not fit under
 * the stream's send cap, KE_ESTATE (not open yet), KE_ECLOSED, KE_ENOMEM. */
int kei_ws_send(struct kei_ws *w, const char *p, size_t n);
/* pong is told by ops, once per call: proves that everything before it arrived. Own pings of
 * ping_ms are not told. Errors as kei_ws_send. */
int kei_ws_ping(struct kei_ws *w);
/* Stops reading, or goes on. While it is stopped dead_ms does not count. */
void kei_ws_pause(struct kei_ws *w, bool paused);
size_t kei_ws_queued(const struct kei_ws *w);
struct kei_stream *kei_ws_stream(struct kei_ws *w); /* NULL once closed is told */
uint64_t kei_ws_bytes_in(const struct kei_ws *w);
uint64_t kei_ws_bytes_out(const struct kei_ws *w);
void kei_ws_free(struct kei_ws *w); /* closes the TCP connection without close frame, as upstream */

#endif
