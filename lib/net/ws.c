/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket connection: joins handshake and frames to a stream, keeps the link's pulse. Owns its
 * stream; freed inside its own callback it lives as an empty shell until that returns. Loop thread.
 */
#include "net/ws.h"

#include <stdio.h>

#include "net/stream_priv.h"
#include "net/ws_priv.h"

#define MAX_MESSAGE ((size_t)32 * 1024 * 1024)
#define CONNECT_MS 30000u
#define PONGS_BLOCKED 64 /* answers queued for a peer that does not read them */
#define PING_N 6         /* payload of a ping whose pong is told: "KE", number */

enum ws_state {
    WS_CONNECTING, /* client: until the 101 */
    WS_OPEN,
    WS_CLOSING, /* the reason stands, the rest is being sent */
    WS_CLOSED,
};

struct ws_opening {
    struct ke_buf request;
    char key[KEI_WS_KEY_LEN + 1];
};

struct kei_ws {
    struct ke_ctx *ctx;
    struct kei_stream *stream;
    struct kei_ws_ops ops;
    void *user;
    enum ws_state state;
    uint32_t ping_ms, dead_ms;
    struct kei_timer timer;
    int64_t heard_ms; /* last byte from the peer */
    int64_t ping_at;
    int64_t limit_at; /* of connecting */
    uint32_t limit_ms;
    uint32_t pings, pongs; /* explicit ones sent, and confirmed */
    uint32_t pongs_queued; /* since the socket is blocked */
    uint64_t bytes_in, bytes_out;
    struct ws_opening *opening;
    int close_status; /* WS_CLOSING */
    char *close_text; /* may be NULL for want of memory */
    uint8_t depth;
    bool freed;
    bool paused; /* by the user */
    bool held;   /* by us, for pongs that nobody reads */
    struct kei_ws_codec codec;
};

static void on_timer(struct kei_timer *t);

/* ---- life ---- */

static void enter(struct kei_ws *w)
{
    w->depth++;
}

static void leave(struct kei_ws *w)
{
    if (--w->depth > 0 || !w->freed)
        return;
    kei_ws_codec_fini(&w->codec);
    kei_free(kei_ctx_alloc(w->ctx), w);
}

static void opening_free(struct kei_ws *w)
{
    if (!w->opening)
        return;
    ke_buf_free(&w->opening->request);
    kei_free(kei_ctx_alloc(w->ctx), w->opening);
    w->opening = NULL;
}

/* Ends everything but the shell. */
static void shut(struct kei_ws *w)
{
    w->state = WS_CLOSED;
    opening_free(w);
    kei_timer_stop(&w->timer);
    kei_stream_free(w->stream);
    w->stream = NULL;
}

void kei_ws_free(struct kei_ws *w)
{
    if (!w || w->freed)
        return;
    shut(w);
    kei_timer_fini(&w->timer);
    kei_free(kei_ctx_alloc(w->ctx), w->close_text);
    w->close_text = NULL;
    w->freed = true;
    w->depth++;
    leave(w);
}

/* Closes and tells. Inside enter/leave; text may be the stream's. */
static void ws_fail(struct kei_ws *w, int status, const char *text, uint32_t http_status)
{
    struct ke_error err = KE_ERROR_INIT;

    if (w->state == WS_CLOSED)
        return;
    kei_error(&err, status, "%s", text);
    shut(w);
    if (w->ops.closed)
        w->ops.closed(w->user, status, err.text, http_status);
}

/* ---- sending ---- */

static int put(void *user, const void *p, size_t n)
{
    return kei_stream_write(user, p, n);
}

static int send_frame(struct kei_ws *w, enum kei_ws_opcode op, const char *p, size_t n)
{
    size_t size = kei_ws_frame_size(&w->codec, n);
    int r = kei_stream_reserve(w->stream, size); /* so that no frame is cut in two */

    if (r < 0)
        return r;
    uint64_t random = w->codec.server ? 0 : kei_ctx_random64(w->ctx);
    uint8_t mask[4];
    memcpy(mask, &random, sizeof mask);
    r = kei_ws_encode(&w->codec, op, mask, p, n, put, w->stream, kei_err(w->ctx));
    if (r == 0)
        w->bytes_out += size;
    return r;
}

static int may_send(const struct kei_ws *w)
{
    if (w->state == WS_OPEN)
        return 0;
    if (w->state == WS_CONNECTING)
        return kei_fail(w->ctx, KE_ESTATE, "WebSocket connection is not open yet");
    return kei_fail(w->ctx, KE_ECLOSED, "WebSocket connection is closed");
}

int kei_ws_send(struct kei_ws *w, const char *p, size_t n)
{
    int r = may_send(w);

    return r < 0 ? r : send_frame(w, KEI_WS_TEXT, p, n);
}

int kei_ws_ping(struct kei_ws *w)
{
    uint32_t k = w->pings + 1;
    char payload[PING_N] = {'K', 'E', (char)(k >> 24), (char)(k >> 16), (char)(k >> 8), (char)k};
    int r = may_send(w);

    if (r == 0)
        r = send_frame(w, KEI_WS_PING, payload, PING_N);
    if (r == 0)
        w->pings = k;
    return r;
}

/* ---- the pulse ---- */

static void arm(struct kei_ws *w)
{
    int64_t due = INT64_MAX;

    if (w->state == WS_CONNECTING) {
        due = w->limit_at;
    } else if (w->state == WS_OPEN) {
        if (w->ping_ms)
            due = w->ping_at;
        if (w->dead_ms && w->heard_ms + w->dead_ms < due)
            due = w->heard_ms + w->dead_ms;
    }
    if (due == INT64_MAX)
        kei_timer_stop(&w->timer);
    else
        kei_timer_at(&w->timer, due);
}

static void on_timer(struct kei_timer *t)
{
    struct kei_ws *w = KEI_OF(t, struct kei_ws, timer);
    int64_t now = ke_ctx_mono_ms(w->ctx);
    char text[128];

    enter(w);
    if (w->state == WS_OPEN && w->stream->paused && !w->held)
        w->heard_ms = now; /* we do not listen: nothing can be said about the peer */
    if (w->state == WS_CONNECTING) {
        snprintf(text, sizeof text, "the limit of %u ms was over before the server upgraded",
                 w->limit_ms);
        ws_fail(w, KE_ETIMEDOUT, text, 0);
    } else if (w->state == WS_OPEN && w->dead_ms && now - w->heard_ms >= w->dead_ms) {
        snprintf(text, sizeof text, "link is dead: nothing was received for %u ms", w->dead_ms);
        ws_fail(w, KE_ETIMEDOUT, text, 0);
    } else if (w->state == WS_OPEN) {
        if (w->ping_ms && now >= w->ping_at) {
            w->ping_at = now + w->ping_ms;
            /* a full queue or no memory: the next one, or the end by dead_ms */
            (void)send_frame(w, KEI_WS_PING, NULL, 0);
        }
        arm(w);
    }
    leave(w);
}

static void start_pulse(struct kei_ws *w)
{
    w->heard_ms = ke_ctx_mono_ms(w->ctx);
    w->ping_at = w->heard_ms + w->ping_ms;
    arm(w);
}

/* ---- frames ---- */

/* Ends in order: what is queued goes out, then closed is told with this reason. */
static void close_with(struct kei_ws *w, int status, const char *text)
{
    w->state = WS_CLOSING;
    w->close_status = status;
    w->close_text = kei_strdup(kei_ctx_alloc(w->ctx), text);
    arm(w);
    kei_stream_finish(w->stream);
}

static bool going_on(const struct kei_ws *w)
{
    return !w->freed && w->state == WS_OPEN;
}

static int on_message(void *user, const char *p, size_t n)
{
    struct kei_ws *w = user;

    if (w->ops.message)
        w->ops.message(w->user, p, n);
    return !going_on(w);
}

static int on_skipped(void *user, uint64_t n, const char *head, size_t head_n)
{
    struct kei_ws *w = user;

    if (w->ops.skipped)
        w->ops.skipped(w->user, n, head, head_n);
    return !going_on(w);
}

/* A peer that asks and never reads the answers is asked to wait. */
static void answer_ping(struct kei_ws *w, const char *p, size_t n)
{
    if (!w->stream->blocked) {
        w->pongs_queued = 0;
    } else if (++w->pongs_queued > PONGS_BLOCKED) {
        w->held = true;
        kei_stream_pause(w->stream, true);
    }
    (void)send_frame(w, KEI_WS_PONG, p, n);
}

static int take_pong(struct kei_ws *w, const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;

    if (n != PING_N || u[0] != 'K' || u[1] != 'E')
        return 0;
    uint32_t k = (uint32_t)u[2] << 24 | (uint32_t)u[3] << 16 | (uint32_t)u[4] << 8 | u[5];
    if (k - w->pongs > w->pings - w->pongs)
        return 0; /* not one of ours, or an old one */
    while (going_on(w) && w->pongs != k) {
        w->pongs++;
        if (w->ops.pong)
            w->ops.pong(w->user);
    }
    return !going_on(w);
}

static bool close_code_ok(uint32_t code)
{
    if (code >= 3000)
        return code < 5000;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

static int take_close(struct kei_ws *w, const char *p, size_t n)
{
    struct ke_error err = KE_ERROR_INIT;
    uint32_t code = n < 2 ? 0 : (uint32_t)(unsigned char)p[0] << 8 | (unsigned char)p[1];

    if (n >= 2 && !close_code_ok(code)) {
        (void)send_frame(w, KEI_WS_CLOSE, "\x03\xea", 2); /* 1002 */
        kei_error(&err, KE_EPROTO, "WebSocket peer closed with the invalid code %u", code);
        close_with(w, KE_EPROTO, err.text);
        return 1;
    }
    (void)send_frame(w, KEI_WS_CLOSE, p, n < 2 ? 0 : 2);
    if (n < 2)
        kei_error(&err, KE_ECLOSED, "WebSocket peer closed the connection");
    else
        kei_error(&err, KE_ECLOSED, "WebSocket peer closed the connection with code %u%s%.*s", code,
                  n > 2 ? ": " : "", (int)(n - 2), p + 2);
    close_with(w, KE_ECLOSED, err.text);
    return 1;
}

static int on_control(void *user, enum kei_ws_opcode op, const char *p, size_t n)
{
    struct kei_ws *w = user;

    if (op == KEI_WS_CLOSE)
        return take_close(w, p, n);
    if (op == KEI_WS_PONG)
        return take_pong(w, p, n);
    answer_ping(w, p, n);
    return 0;
}

static const struct kei_ws_events events = {on_message, on_skipped, on_control};

static void feed(struct kei_ws *w, const char *p, size_t n)
{
    struct ke_error err = KE_ERROR_INIT;
    int r = kei_ws_feed(&w->codec, p, n, &err);

    if (r >= 0)
        return;
    if (r == KE_EPROTO)
        (void)send_frame(w, KEI_WS_CLOSE, "\x03\xea", 2);
    close_with(w, r, err.text);
}

/* ---- the stream ---- */

static void on_stream_open(void *user)
{
    struct kei_ws *w = user;
    struct ke_buf *request = &w->opening->request;

    enter(w);
    int r = kei_stream_write(w->stream, request->p, request->n);
    if (r < 0)
        ws_fail(w, r, "could not send the upgrade request", 0);
    else
        w->bytes_out += request->n;
    leave(w);
}

/* The server's answer to the upgrade; bytes taken. */
static size_t take_answer(struct kei_ws *w, const char *p, size_t n)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_http_head head;
    size_t used;
    int r = kei_http_parse_response(&head, p, n, KEI_WS_HEAD_MAX, &used, &err);

    if (r < 0) {
        kei_error_prefix(&err, r, "answer to the upgrade request");
        ws_fail(w, r, err.text, 0);
        return n;
    }
    if (used == 0)
        return 0;
    r = kei_ws_client_check(&head, w->opening->key, &err);
    if (r < 0) {
        ws_fail(w, r, err.text, head.status == 101 ? 0 : head.status);
        return n;
    }
    w->bytes_in += used;
    w->state = WS_OPEN;
    opening_free(w);
    start_pulse(w);
    if (w->ops.answer)
        w->ops.answer(w->user, &head);
    if (w->ops.open)
        w->ops.open(w->user);
    return used;
}

static size_t on_stream_data(void *user, const char *p, size_t n)
{
    struct kei_ws *w = user;
    size_t used = 0;

    enter(w);
    w->heard_ms = ke_ctx_mono_ms(w->ctx);
    if (w->state == WS_CONNECTING)
        used = take_answer(w, p, n);
    if (going_on(w) && used < n) {
        w->bytes_in += n - used;
        feed(w, p + used, n - used);
        used = n;
    }
    if (w->freed || w->state > WS_OPEN)
        used = n;
    leave(w);
    return used;
}

static void on_stream_drained(void *user)
{
    struct kei_ws *w = user;

    enter(w);
    w->pongs_queued = 0;
    if (w->held) {
        w->held = false;
        kei_stream_pause(w->stream, w->paused);
    }
    if (w->state == WS_OPEN && w->ops.drained)
        w->ops.drained(w->user);
    leave(w);
}

static void on_stream_closed(void *user, int status, const char *text)
{
    struct kei_ws *w = user;

    enter(w);
    if (w->state == WS_CLOSING)
        ws_fail(w, w->close_status, w->close_text ? w->close_text : "connection was closed", 0);
    else if (w->state == WS_CONNECTING && status == KE_ECLOSED)
        ws_fail(w, status, "the server closed the connection without an answer to the upgrade", 0);
    else
        ws_fail(w, status, text, 0);
    leave(w);
}

static const struct kei_stream_ops stream_ops = {
    .open = on_stream_open,
    .data = on_stream_data,
    .drained = on_stream_drained,
    .closed = on_stream_closed,
};

/* ---- beginning ---- */

static struct kei_ws *ws_alloc(struct ke_ctx *ctx, const struct kei_ws_config *c,
                               const struct kei_ws_ops *ops, void *user, bool server)
{
    struct kei_ws *w = kei_zalloc(kei_ctx_alloc(ctx), sizeof *w);

    if (!w) {
        kei_fail(ctx, KE_ENOMEM, "no memory for a WebSocket connection");
        return NULL;
    }
    w->ctx = ctx;
    w->ops = *ops;
    w->user = user;
    w->ping_ms = c->ping_ms;
    w->dead_ms = c->dead_ms;
    kei_timer_init(ctx, &w->timer, on_timer);
    kei_ws_codec_init(&w->codec, kei_ctx_alloc(ctx), server,
                      c->max_message ? c->max_message : MAX_MESSAGE, &events, w);
    /* a node has one such link and sends on it for ever, a cloud has thousands that mostly rest */
    w->codec.keep = !server;
    return w;
}

static int prepare_request(struct kei_ws *w, const struct kei_stream_config *s, const char *target,
                           const char *headers)
{
    uint8_t random[16];
    struct ws_opening *o = kei_zalloc(kei_ctx_alloc(w->ctx), sizeof *o);

    if (!o)
        return kei_fail(w->ctx, KE_ENOMEM, "no memory for a WebSocket connection");
    w->opening = o;
    kei_buf_init(&o->request, kei_ctx_alloc(w->ctx));
    int r = kei_ctx_random(w->ctx, random, sizeof random);
    if (r < 0)
        return r;
    kei_ws_key(random, o->key);
    return kei_ws_client_request(&o->request, s->unix_path ? NULL : s->host, s->port,
                                 s->tls != NULL, target, headers, o->key, kei_err(w->ctx));
}

int kei_ws_connect(struct kei_ws **ret, struct ke_ctx *ctx, const struct kei_stream_config *s,
                   const char *target, const char *headers, const struct kei_ws_config *c,
                   const struct kei_ws_ops *ops, void *user)
{
    int r = kei_ws_supported(kei_err(ctx));

    if (r < 0)
        return r;
    struct kei_ws *w = ws_alloc(ctx, c, ops, user, false);
    if (!w)
        return KE_ENOMEM;
    r = prepare_request(w, s, target, headers);
    if (r == 0)
        r = kei_stream_connect(&w->stream, ctx, s, &stream_ops, w);
    if (r < 0) {
        kei_ws_free(w);
        return r;
    }
    w->limit_ms = s->connect_ms ? s->connect_ms : CONNECT_MS;
    w->limit_at = ke_ctx_mono_ms(ctx) + w->limit_ms;
    arm(w);
    *ret = w;
    return 0;
}

int kei_ws_accepted(struct kei_ws **ret, struct ke_ctx *ctx, struct kei_stream *s,
                    const struct kei_ws_config *c, const struct kei_ws_ops *ops, void *user)
{
    int r = kei_ws_supported(kei_err(ctx));

    if (r < 0)
        return r;
    struct kei_ws *w = ws_alloc(ctx, c, ops, user, true);
    if (!w)
        return KE_ENOMEM;
    w->stream = s;
    w->state = WS_OPEN;
    kei_stream_set_ops(s, &stream_ops, w);
    start_pulse(w);
    *ret = w;
    return 0;
}

void kei_ws_pause(struct kei_ws *w, bool paused)
{
    w->paused = paused;
    if (w->state != WS_OPEN)
        return;
    kei_stream_pause(w->stream, paused || w->held);
    w->heard_ms = ke_ctx_mono_ms(w->ctx);
    arm(w);
}

size_t kei_ws_queued(const struct kei_ws *w)
{
    return w->stream ? kei_stream_queued(w->stream) : 0;
}

struct kei_stream *kei_ws_stream(struct kei_ws *w)
{
    return w->stream;
}

uint64_t kei_ws_bytes_in(const struct kei_ws *w)
{
    return w->bytes_in;
}

uint64_t kei_ws_bytes_out(const struct kei_ws *w)
{
    return w->bytes_out;
}
