/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 server: one request at a time per connection, answered in order. A connection owns its
 * stream and what was received; freed inside a callback of its own it lives as an empty shell until
 * that returns. Between requests it holds no buffers. Loop thread.
 */
#include <stdio.h>

#include "base/codec.h"
#include "net/http.h"
#include "net/http_text.h"
#include "net/stream_priv.h"

#define HEAD_MAX ((size_t)16 * 1024)
#define BODY_MAX ((size_t)3 * 1024 * 1024)
#define IDLE_MS 60000u

struct kei_http_server {
    struct ke_ctx *ctx;
    struct kei_listener *listener;
    struct kei_http_server_ops ops;
    void *user;
    size_t max_head, max_body;
    uint32_t idle_ms;
    struct kei_link conns;
};

enum conn_state {
    CONN_HEAD,   /* waits for a head */
    CONN_BODY,   /* has the head */
    CONN_BUSY,   /* the request is told, the answer is owed */
    CONN_ENDING, /* the last answer is being sent */
};

struct kei_http_conn {
    struct kei_http_server *server;
    struct ke_ctx *ctx;
    struct kei_stream *stream;
    struct kei_link link;
    struct kei_timer idle;
    enum conn_state state;
    bool keep_alive, is_head, begun; /* begun: bytes of a head are there */
    bool freed;
    uint8_t depth;
    struct ke_buf head, body;
    struct kei_http_body framing;
};

/* ---- life of a connection ---- */

static void enter(struct kei_http_conn *c)
{
    c->depth++;
}

static void give_back(struct kei_http_conn *c)
{
    ke_buf_free(&c->head);
    ke_buf_free(&c->body);
    kei_buf_init(&c->head, kei_ctx_alloc(c->ctx));
    kei_buf_init(&c->body, kei_ctx_alloc(c->ctx));
}

static void leave(struct kei_http_conn *c)
{
    if (--c->depth > 0 || !c->freed)
        return;
    give_back(c); /* only now: request() may have been reading from them */
    kei_free(kei_ctx_alloc(c->ctx), c);
}

static void conn_free(struct kei_http_conn *c)
{
    if (c->freed)
        return;
    kei_list_remove(&c->link);
    kei_timer_fini(&c->idle);
    kei_stream_free(c->stream);
    c->stream = NULL;
    c->freed = true;
    c->depth++;
    leave(c);
}

/* ---- answers ---- */

/* The whole answer in one piece, or nothing. */
static int write_answer(struct kei_http_conn *c, uint32_t status, const char *content_type,
                        const char *headers, struct ke_str body)
{
    char date[KEI_TIME_MAX];
    struct ke_buf b;
    bool bare = status == 204 || status == 304 || status / 100 == 1;

    kei_buf_init(&b, kei_ctx_alloc(c->ctx));
    kei_time_http(date, ke_ctx_real_ms(c->ctx));
    kei_buf_addf(&b, "HTTP/1.1 %u %s\r\nDate: %s\r\n", status, kei_http_reason(status), date);
    if (content_type)
        kei_buf_addf(&b, "Content-Type: %s\r\n", content_type);
    if (!bare)
        kei_buf_addf(&b, "Content-Length: %zu\r\n", body.n);
    if (!c->keep_alive)
        kei_buf_adds(&b, "Connection: close\r\n");
    kei_buf_adds(&b, headers);
    kei_buf_adds(&b, "\r\n");
    if (!bare && !c->is_head)
        kei_buf_addv(&b, body);
    int r = kei_buf_ok(&b) ? kei_stream_write(c->stream, b.p, b.n)
                           : kei_fail(c->ctx, KE_ENOMEM, "no memory for an HTTP answer");
    ke_buf_free(&b);
    return r;
}

static void begin_end(struct kei_http_conn *c)
{
    c->state = CONN_ENDING;
    kei_timer_stop(&c->idle); /* the stream has its own limit for the rest */
    kei_stream_finish(c->stream);
}

static void next_request(struct kei_http_conn *c)
{
    c->state = CONN_HEAD;
    c->begun = false;
    kei_timer_in(&c->idle, c->server->idle_ms);
    kei_stream_again(c->stream); /* the next one may be there already */
}

static void refuse(struct kei_http_conn *c, uint32_t status, const struct ke_error *err)
{
    struct ke_buf text;

    kei_buf_init(&text, kei_ctx_alloc(c->ctx));
    kei_buf_adds(&text, err->text);
    kei_buf_addc(&text, '\n');
    c->keep_alive = false;
    /* what cannot be said is left unsaid */
    (void)write_answer(c, status, "text/plain; charset=utf-8", NULL,
                       kei_buf_ok(&text) ? kei_buf_str(&text) : kei_strn("", 0));
    ke_buf_free(&text);
    begin_end(c);
}

static uint32_t status_of(int code, bool in_head)
{
    switch (code) {
    case KE_ELIMIT:
        return in_head ? 431 : 413;
    case KE_ENOTSUP:
        return 501;
    case KE_ENOMEM:
        return 503;
    default:
        return 400;
    }
}

static bool value_ok(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

int kei_http_respond(struct kei_http_conn *c, uint32_t status, const char *content_type,
                     const char *headers, struct ke_str body)
{
    if (c->freed || c->state != CONN_BUSY)
        return kei_fail(c->ctx, KE_ESTATE, "no HTTP request waits for an answer here");
    if (status < 200 || status > 599 || !kei_http_lines_ok(headers) ||
        (content_type && !value_ok(content_type)))
        return kei_fail(c->ctx, KE_EINVAL, "HTTP answer had an invalid status or header");
    int r = write_answer(c, status, content_type, headers, body);
    if (r < 0)
        return r;
    if (c->keep_alive)
        next_request(c);
    else
        begin_end(c);
    return 0;
}

struct kei_stream *kei_http_upgrade(struct kei_http_conn *c, struct ke_str head_text)
{
    static const struct kei_stream_ops none = {0};
    struct kei_stream *s = c->stream;

    if (c->freed || c->state != CONN_BUSY) {
        kei_fail(c->ctx, KE_ESTATE, "no HTTP request waits for an upgrade here");
        return NULL;
    }
    int r = kei_stream_write(s, head_text.p, head_text.n);
    if (r == 0) {
        c->stream = NULL;
        kei_stream_set_ops(s, &none, NULL);
    }
    conn_free(c);
    return r == 0 ? s : NULL;
}

struct kei_stream *kei_http_conn_stream(struct kei_http_conn *c)
{
    return c->stream;
}

/* ---- requests ---- */

static void tell_request(struct kei_http_conn *c, const struct kei_http_head *h)
{
    kei_timer_stop(&c->idle);
    c->state = CONN_BUSY;
    c->server->ops.request(c->server->user, c, h, kei_buf_str(&c->body));
}

/* The body is whole: the head is read once more from what was kept of it. */
static void body_done(struct kei_http_conn *c)
{
    struct kei_http_head h;
    size_t used;
    int r = kei_http_parse_request(&h, c->head.p, c->head.n, c->head.n + 1, &used, NULL);

    if (r == 0 && used > 0)
        tell_request(c, &h);
    else
        conn_free(c); /* cannot be: it was read before */
}

static bool wants_continue(const struct kei_http_head *h)
{
    return h->minor > 0 && kei_http_has_token(h, "Expect", "100-continue");
}

/* What the head says about the connection. 0, or the status to refuse with. */
static uint32_t judge_head(struct kei_http_conn *c, const struct kei_http_head *h, bool body_here,
                           struct ke_error *err)
{
    c->is_head = kei_str_is(h->method, "HEAD");
    c->keep_alive = h->minor > 0 && !kei_http_has_token(h, "Connection", "close");
    int r = kei_http_body_init(&c->framing, h, false, h->method, c->server->max_body, err);
    if (r < 0)
        return status_of(r, false);
    if (kei_http_header(h, "Expect").p && !wants_continue(h)) {
        kei_error(err, KE_ENOTSUP, "HTTP expectation was not understood");
        return 417;
    }
    if (wants_continue(h) && !kei_http_body_none(&c->framing) && !body_here &&
        kei_stream_write(c->stream, "HTTP/1.1 100 Continue\r\n\r\n", 25) < 0) {
        kei_error(err, KE_ENOMEM, "no memory for an HTTP answer");
        return 503;
    }
    return 0;
}

/* Bytes taken of p. */
static size_t take_head(struct kei_http_conn *c, const char *p, size_t n)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_http_head h;
    size_t used;
    int r = kei_http_parse_request(&h, p, n, c->server->max_head, &used, &err);

    if (r < 0) {
        refuse(c, status_of(r, true), &err);
        return n;
    }
    if (used == 0) {
        if (!c->begun)
            kei_timer_in(&c->idle, c->server->idle_ms); /* for the whole head, not for each byte */
        c->begun = true;
        return 0;
    }
    uint32_t status = judge_head(c, &h, used < n, &err);
    if (status) {
        refuse(c, status, &err);
        return n;
    }
    if (kei_http_body_none(&c->framing)) {
        tell_request(c, &h);
        return used;
    }
    kei_buf_add(&c->head, p, used);
    if (!kei_buf_ok(&c->head)) {
        kei_error(&err, KE_ENOMEM, "no memory for an HTTP request");
        refuse(c, 503, &err);
        return n;
    }
    c->state = CONN_BODY;
    kei_timer_in(&c->idle, c->server->idle_ms); /* for the whole body */
    return used;
}

static size_t take_body(struct kei_http_conn *c, const char *p, size_t n)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str data;
    size_t used = n;
    int r = kei_http_body_feed(&c->framing, p, n, &used, &data, &err);

    if (r >= 0 && data.n)
        kei_buf_addv(&c->body, data);
    if (r >= 0 && !kei_buf_ok(&c->body))
        r = kei_error(&err, KE_ENOMEM, "no memory for an HTTP request");
    if (r < 0) {
        refuse(c, status_of(r, false), &err);
        return n;
    }
    if (r == 1)
        body_done(c);
    return used;
}

static size_t on_data(void *user, const char *p, size_t n)
{
    struct kei_http_conn *c = user;
    size_t at = 0, used = 1;

    enter(c);
    while (!c->freed && at < n && used > 0) {
        if (c->state == CONN_HEAD) {
            give_back(c); /* of the request before */
            used = take_head(c, p + at, n - at);
        } else if (c->state == CONN_BODY) {
            used = take_body(c, p + at, n - at);
        } else {
            break; /* what comes behind a request waits for its answer */
        }
        at += used;
    }
    if (!c->freed && c->state != CONN_BODY)
        give_back(c);
    leave(c);
    return at;
}

static void on_closed(void *user, int status, const char *text)
{
    struct kei_http_conn *c = user;

    (void)status;
    (void)text;
    enter(c);
    if (c->state == CONN_BUSY && c->server->ops.closed)
        c->server->ops.closed(c->server->user, c);
    conn_free(c);
    leave(c);
}

static const struct kei_stream_ops stream_ops = {.data = on_data, .closed = on_closed};

/* A request that does not come, or comes too slowly. */
static void on_idle(struct kei_timer *t)
{
    conn_free(KEI_OF(t, struct kei_http_conn, idle));
}

/* ---- the server ---- */

static void on_accept(void *user, struct kei_stream *stream)
{
    struct kei_http_server *s = user;
    struct kei_http_conn *c = kei_zalloc(kei_ctx_alloc(s->ctx), sizeof *c);

    if (!c) {
        kei_stream_free(stream);
        return;
    }
    c->server = s;
    c->ctx = s->ctx;
    c->stream = stream;
    kei_buf_init(&c->head, kei_ctx_alloc(s->ctx));
    kei_buf_init(&c->body, kei_ctx_alloc(s->ctx));
    kei_list_add_tail(&s->conns, &c->link);
    kei_timer_init(s->ctx, &c->idle, on_idle);
    kei_timer_in(&c->idle, s->idle_ms);
    kei_stream_set_ops(stream, &stream_ops, c);
}

int kei_http_server_new(struct kei_http_server **ret, struct ke_ctx *ctx,
                        const struct kei_http_server_config *c,
                        const struct kei_http_server_ops *ops, void *user)
{
    struct kei_listener_config lc = c->listener;
    struct kei_http_server *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s);

    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "no memory for an HTTP server");
    s->ctx = ctx;
    s->ops = *ops;
    s->user = user;
    s->max_head = c->max_head ? c->max_head : HEAD_MAX;
    s->max_body = c->max_body ? c->max_body : BODY_MAX;
    s->idle_ms = c->idle_ms ? c->idle_ms : IDLE_MS;
    kei_list_init(&s->conns);
    /* a head of the full length is refused by its own limit, not by the stream's */
    if (lc.receive_cap < 2 * s->max_head + 32 * 1024)
        lc.receive_cap = 2 * s->max_head + 32 * 1024;
    int r = kei_listen(&s->listener, ctx, &lc, on_accept, s);
    if (r < 0) {
        kei_free(kei_ctx_alloc(ctx), s);
        return r;
    }
    *ret = s;
    return 0;
}

uint16_t kei_http_server_port(const struct kei_http_server *s)
{
    return kei_listener_port(s->listener);
}

void kei_http_server_set_tls(struct kei_http_server *s, struct kei_tls_config *tls)
{
    kei_listener_set_tls(s->listener, tls);
}

void kei_http_server_free(struct kei_http_server *s)
{
    if (!s)
        return;
    kei_listener_free(s->listener);
    KEI_LIST_EACH_SAFE(link, next, &s->conns)
    {
        conn_free(KEI_OF(link, struct kei_http_conn, link));
    }
    kei_free(kei_ctx_alloc(s->ctx), s);
}
