/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a stream: shared by stream, stream_open, listener and ws. Loop thread. */
#ifndef KEI_NET_STREAM_PRIV_H
#define KEI_NET_STREAM_PRIV_H

#include "base/buf.h"
#include "net/addr.h"
#include "net/stream.h"
#include "net/tls.h"

#define KEI_STREAM_SMALL 512 /* queued bytes that need no allocation, unless said otherwise */

enum kei_stream_state {
    KEI_STREAM_START, /* nothing happened yet */
    KEI_STREAM_RESOLVE,
    KEI_STREAM_CONNECT,
    KEI_STREAM_PROXY,
    KEI_STREAM_HANDSHAKE,
    KEI_STREAM_OPEN,
    KEI_STREAM_LINGER, /* all sent; waits for the peer's end */
    KEI_STREAM_CLOSED,
};

struct kei_opening; /* what connecting needs, gone when the stream is open */

struct kei_stream {
    struct ke_ctx *ctx;
    struct kei_stream_ops ops;
    void *user;
    enum kei_stream_state state;
    int fd;
    struct kei_fd io;
    struct kei_timer timer; /* the deadline of opening, of finishing */
    struct kei_defer kick;  /* on_kick, later in this turn */
    struct kei_turn flush;  /* linked while something is to be sent at the end of the turn */
    struct kei_tls_config *tls_config;
    struct kei_tls *tls;
    struct kei_opening *opening;
    struct kei_listener *listener; /* accepted by; NULL when that is gone */
    struct kei_link link;          /* the listener's */
    char *peer_name, *local_ip;    /* made when asked for */
    uint32_t dead_ms;
    uint32_t limit_ms; /* of opening */
    size_t receive_cap, send_cap;
    struct ke_buf rx; /* unconsumed */
    struct {
        char *p; /* NULL: small is used */
        size_t off, n, cap;
    } tx;
    uint8_t depth;       /* callbacks in progress */
    bool freed;          /* by a callback in progress */
    bool handshaking;    /* on the listener's list of these */
    bool paused, parked; /* parked: not watched, since the fd reports an error while paused */
    bool finishing;
    bool blocked;        /* the socket took no more */
    bool told_blocked;   /* drained is owed */
    bool read_wants_out; /* TLS cannot go on reading before the socket is writable */
    bool write_wants_in; /* and the other way round */
    bool ops_fresh;      /* set_ops was called inside of a callback */
    bool again;          /* what is unconsumed is to be presented by the kick */
    uint16_t small_cap;
    char small[];
};

/* stream.c */
struct kei_stream *kei_stream_alloc(struct ke_ctx *ctx, const struct kei_stream_ops *ops,
                                    void *user, uint16_t small_cap);
void kei_stream_enter(struct kei_stream *s);
void kei_stream_leave(struct kei_stream *s); /* s may be gone after it */
/* Closes and tells; err has the reason. Inside enter/leave. */
void kei_stream_fail(struct kei_stream *s, int status, const char *text);
void kei_stream_kick(struct kei_stream *s);
/* Presents unconsumed bytes once more, later in this turn. */
void kei_stream_again(struct kei_stream *s);
/* What to watch for in the state it is in; false: failed and told. */
bool kei_stream_watch(struct kei_stream *s, uint32_t events);
/* Makes room for n more bytes, so that writes of up to n in all cannot fail. As kei_stream_write.
 */
int kei_stream_reserve(struct kei_stream *s, size_t n);
/* The stream is open: sends, reads, tells open. Inside enter/leave. */
void kei_stream_opened(struct kei_stream *s);

/* stream_open.c */
void kei_stream_open_step(struct kei_stream *s); /* START, PROXY, HANDSHAKE; inside enter/leave */
void kei_stream_open_free(struct kei_stream *s);
/* Begins TLS on the connected fd. host NULL: server. */
int kei_stream_tls_begin(struct kei_stream *s, const char *host, struct ke_error *err);
void kei_stream_open_timeout(struct kei_stream *s);

/* listener.c */
void kei_listener_stream_gone(struct kei_stream *s);

/* Its peer, known from the accept: the socket does not tell once the peer has gone. */
void kei_stream_set_peer(struct kei_stream *s, const struct kei_addr *a);
/* An accepted connection; fd is the stream's from here on, also when this fails (then closed).
 * With tls the handshake begins, ops.open tells its end; without, the stream is open. */
int kei_stream_accepted(struct kei_stream **ret, struct ke_ctx *ctx, int fd, int family,
                        struct kei_tls_config *tls, const struct kei_listener_config *c,
                        const struct kei_stream_ops *ops);

#endif
