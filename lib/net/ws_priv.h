/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pure halves of WebSocket: client handshake, frame decoder, frame encoder. Bytes in, events
 * and bytes out; no stream, no clock. One thread at a time per object.
 */
#ifndef KEI_NET_WS_PRIV_H
#define KEI_NET_WS_PRIV_H

#include "base/alloc.h"
#include "net/ws.h"

#define KEI_WS_HEAD_MAX 16384 /* of a handshake */
#define KEI_WS_SKIP_HEAD 4096 /* bytes kept of a message over the cap */
#define KEI_WS_FRAME_HEAD 14  /* the longest frame header */
#define KEI_WS_CONTROL_MAX 125

enum kei_ws_opcode {
    KEI_WS_CONT = 0,
    KEI_WS_TEXT = 1,
    KEI_WS_BINARY = 2,
    KEI_WS_CLOSE = 8,
    KEI_WS_PING = 9,
    KEI_WS_PONG = 10,
};

/* key from 16 random bytes */
void kei_ws_key(const uint8_t random[16], char out[KEI_WS_KEY_LEN + 1]);
/* Appends the upgrade request; a User-Agent of ours unless headers have one. host NULL: unix
 * socket. KE_EINVAL (target or headers malformed), KE_ENOMEM */
int kei_ws_client_request(struct ke_buf *out, const char *host, uint16_t port, bool tls,
                          const char *target, const char *headers, const char *key,
                          struct ke_error *err);
/* Judges the answer: KE_EHTTP (another status than 101), KE_EPROTO */
int kei_ws_client_check(const struct kei_http_head *h, const char *key, struct ke_error *err);

/* ---- frames ---- */
/*
 * Events in the order of the wire. A non-zero return ends kei_ws_feed at once with that value,
 * without a further look at the codec, so a handler may end it.
 */
struct kei_ws_events {
    int (*message)(void *user, const char *p, size_t n);
    int (*skipped)(void *user, uint64_t n, const char *head, size_t head_n);
    int (*control)(void *user, enum kei_ws_opcode op, const char *p, size_t n);
};

/* Reads and writes the frames of one connection. */
struct kei_ws_codec {
    const struct ke_alloc *alloc;
    const struct kei_ws_events *events; /* all members needed */
    void *user;
    size_t max_message;
    bool server; /* their frames must be masked and ours are not; a client the other way round */
    bool keep;   /* keep the frame context between frames: saves an allocation, costs 4 KiB */
    bool binary_only; /* a text message is an error; set it after init */
    bool feeding, in_message, skipping, broken;
    uint8_t control_n;
    uint64_t skipped;     /* payload bytes of the message that streams past */
    uint64_t taken, done; /* bytes given to wslay, bytes of whole frames: equal between frames */
    uint64_t frame_got;   /* payload of the current frame so far */
    struct ke_buf message;
    void *frames; /* wslay's context; NULL between frames unless keep */
    const char *in;
    size_t in_n;
    char control[KEI_WS_CONTROL_MAX];
};

/* 0, or KE_ENOTSUP when built without WebSocket */
int kei_ws_supported(struct ke_error *err);
void kei_ws_codec_init(struct kei_ws_codec *c, const struct ke_alloc *alloc, bool server,
                       size_t max_message, const struct kei_ws_events *events, void *user);
void kei_ws_codec_fini(struct kei_ws_codec *c);
/* Takes all n bytes. 0; KE_EPROTO, KE_ENOMEM, KE_ENOTSUP (built without WebSocket): the connection
 * cannot go on; or what a handler returned. */
int kei_ws_feed(struct kei_ws_codec *c, const char *p, size_t n, struct ke_error *err);
/* Bytes of a frame with n bytes of payload. */
size_t kei_ws_frame_size(const struct kei_ws_codec *c, size_t n);
/*
 * One whole final frame through put, in pieces; put takes all it is given, or returns a negative
 * value that ends it. mask: four random bytes, used by a client only. Legal inside events.
 */
typedef int (*kei_ws_put_fn)(void *user, const void *p, size_t n);
int kei_ws_encode(struct kei_ws_codec *c, enum kei_ws_opcode op, const uint8_t mask[4],
                  const char *p, size_t n, kei_ws_put_fn put, void *user, struct ke_error *err);

#endif
