/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP exchange on a connection of its own. The call owns its stream and what was received;
 * freed inside done it lives as an empty shell until that returns. Loop thread.
 */
#include <stdio.h>

#include "net/http.h"
#include "net/http_text.h"
#include "net/stream_priv.h"

#define TIMEOUT_MS 30000u
#define HEAD_MAX ((size_t)16384)
#define BODY_MAX ((size_t)3 * 1024 * 1024)
#define INTERIM_MAX 16

struct kei_http_call {
    struct ke_ctx *ctx;
    struct kei_stream *stream;
    kei_http_done_fn done;
    void *user;
    struct kei_timer timer;
    uint32_t timeout_ms;
    size_t max_body;
    struct ke_buf request;
    char method[16];
    uint32_t interim;
    bool have_head, told, freed;
    uint8_t depth;
    struct ke_buf head_text; /* head's views point into it */
    struct kei_http_head head;
    struct kei_http_body framing;
    struct ke_buf body;
};

static void enter(struct kei_http_call *c)
{
    c->depth++;
}

static void leave(struct kei_http_call *c)
{
    if (--c->depth > 0 || !c->freed)
        return;
    ke_buf_free(&c->request);
    ke_buf_free(&c->head_text);
    ke_buf_free(&c->body);
    kei_free(kei_ctx_alloc(c->ctx), c);
}

void kei_http_call_free(struct kei_http_call *c)
{
    if (!c || c->freed)
        return;
    kei_timer_fini(&c->timer);
    kei_stream_free(c->stream);
    c->stream = NULL;
    c->told = true;
    c->freed = true;
    c->depth++;
    leave(c);
}

/* Once. */
static void finish(struct kei_http_call *c, int status, const char *text)
{
    struct ke_error err = KE_ERROR_INIT;

    if (c->told)
        return;
    c->told = true;
    kei_error(&err, status, "%s", text); /* the text may be the stream's */
    kei_timer_stop(&c->timer);
    kei_stream_free(c->stream);
    c->stream = NULL;
    if (status == 0)
        c->done(c->user, 0, "", &c->head, kei_strn(c->body.n ? c->body.p : "", c->body.n));
    else
        c->done(c->user, status, err.text, NULL, kei_strn(NULL, 0));
}

/* Bytes taken of p. An interim head is passed over: have_head stays false. */
static size_t take_head(struct kei_http_call *c, const char *p, size_t n)
{
    struct ke_error err = KE_ERROR_INIT;
    size_t used;
    int r = kei_http_parse_response(&c->head, p, n, HEAD_MAX, &used, &err);

    if (r == 0 && used == 0)
        return 0;
    if (r == 0 && c->head.status == 101)
        r = kei_error(&err, KE_EPROTO, "the server switched protocols unasked");
    if (r == 0 && c->head.status / 100 == 1) {
        if (++c->interim <= INTERIM_MAX)
            return used;
        r = kei_error(&err, KE_ELIMIT, "the server sent more than the limit of %d interim answers",
                      INTERIM_MAX);
    }
    if (r == 0) {
        kei_buf_add(&c->head_text, p, used);
        if (!kei_buf_ok(&c->head_text))
            r = kei_error(&err, KE_ENOMEM, "no memory for the answer");
        else
            r = kei_http_parse_response(&c->head, c->head_text.p, used, HEAD_MAX, &used, &err);
    }
    if (r == 0)
        r = kei_http_body_init(&c->framing, &c->head, true, kei_str(c->method), c->max_body, &err);
    if (r < 0) {
        finish(c, r, err.text);
        return n;
    }
    c->have_head = true;
    if (kei_http_body_none(&c->framing))
        finish(c, 0, "");
    return used;
}

static size_t take_body(struct kei_http_call *c, const char *p, size_t n)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str data;
    size_t used = n;
    int r = kei_http_body_feed(&c->framing, p, n, &used, &data, &err);

    if (r >= 0 && data.n)
        kei_buf_addv(&c->body, data);
    if (r >= 0 && !kei_buf_ok(&c->body))
        r = kei_error(&err, KE_ENOMEM, "no memory for the answer's body");
    if (r < 0)
        finish(c, r, err.text);
    else if (r == 1)
        finish(c, 0, "");
    return used;
}

static size_t on_data(void *user, const char *p, size_t n)
{
    struct kei_http_call *c = user;
    size_t at = 0, used = 1;

    enter(c);
    while (!c->told && at < n && used > 0) {
        used = c->have_head ? take_body(c, p + at, n - at) : take_head(c, p + at, n - at);
        at += used;
    }
    leave(c);
    return at;
}

static void on_open(void *user)
{
    struct kei_http_call *c = user;

    enter(c);
    if (kei_stream_write(c->stream, c->request.p, c->request.n) < 0) {
        struct ke_error err = *kei_err(c->ctx);
        finish(c, err.code, err.text);
    } else {
        ke_buf_free(&c->request);
    }
    leave(c);
}

static void on_closed(void *user, int status, const char *text)
{
    struct kei_http_call *c = user;
    struct ke_error err = KE_ERROR_INIT;

    enter(c);
    if (status != KE_ECLOSED) {
        finish(c, status, text);
    } else if (!c->have_head) {
        finish(c, KE_ECLOSED, "the server closed the connection before it answered");
    } else {
        int r = kei_http_body_eof(&c->framing, &err);
        finish(c, r < 0 ? KE_ECLOSED : 0, err.text);
    }
    leave(c);
}

static const struct kei_stream_ops stream_ops = {
    .open = on_open,
    .data = on_data,
    .closed = on_closed,
};

static void on_timer(struct kei_timer *t)
{
    struct kei_http_call *c = KEI_OF(t, struct kei_http_call, timer);
    char text[128];

    snprintf(text, sizeof text, "no whole answer came within the limit of %u ms", c->timeout_ms);
    enter(c);
    finish(c, KE_ETIMEDOUT, text);
    leave(c);
}

static bool method_ok(const char *m)
{
    size_t n = strlen(m);

    for (size_t i = 0; i < n; i++)
        if (m[i] < 'A' || m[i] > 'Z')
            return false;
    return n > 0 && n < 16;
}

static int build_request(struct kei_http_call *c, const struct kei_http_call_config *conf)
{
    struct ke_buf *b = &c->request;

    if (!conf->method || !method_ok(conf->method))
        return kei_fail(c->ctx, KE_EINVAL, "HTTP method was not a word in capitals");
    if (!kei_http_target_ok(conf->target))
        return kei_fail(c->ctx, KE_EINVAL, "HTTP target was empty or had invalid characters");
    if (!kei_http_lines_ok(conf->headers))
        return kei_fail(c->ctx, KE_EINVAL, "HTTP headers were not \"Name: value\" lines");
    memcpy(c->method, conf->method, strlen(conf->method) + 1);
    kei_buf_adds(b, conf->method);
    kei_buf_addc(b, ' ');
    kei_buf_adds(b, conf->target);
    kei_buf_adds(b, " HTTP/1.1\r\n");
    kei_http_add_host(b, conf->stream.unix_path ? NULL : conf->stream.host, conf->stream.port,
                      conf->stream.tls ? 443 : 80);
    if (!kei_http_lines_have(conf->headers, "User-Agent"))
        kei_buf_adds(b, KEI_HTTP_USER_AGENT);
    if (conf->body.n || (strcmp(conf->method, "GET") != 0 && strcmp(conf->method, "HEAD") != 0))
        kei_buf_addf(b, "Content-Length: %zu\r\n", conf->body.n);
    kei_buf_adds(b, "Connection: close\r\n");
    kei_buf_adds(b, conf->headers);
    kei_buf_adds(b, "\r\n");
    kei_buf_addv(b, conf->body);
    if (!kei_buf_ok(b))
        return kei_fail(c->ctx, KE_ENOMEM, "no memory for an HTTP request");
    return 0;
}

int kei_http_call(struct kei_http_call **ret, struct ke_ctx *ctx,
                  const struct kei_http_call_config *conf, kei_http_done_fn done, void *user)
{
    const struct ke_alloc *a = kei_ctx_alloc(ctx);
    struct kei_stream_config sc = conf->stream;
    struct kei_http_call *c = kei_zalloc(a, sizeof *c);

    if (!c)
        return kei_fail(ctx, KE_ENOMEM, "no memory for an HTTP request");
    c->ctx = ctx;
    c->done = done;
    c->user = user;
    c->max_body = conf->max_body ? conf->max_body : BODY_MAX;
    c->timeout_ms = conf->timeout_ms ? conf->timeout_ms : TIMEOUT_MS;
    kei_buf_init(&c->request, a);
    kei_buf_init(&c->head_text, a);
    kei_buf_init(&c->body, a);
    kei_timer_init(ctx, &c->timer, on_timer);
    int r = build_request(c, conf);
    /* the stream names what it waited for, so its own limit comes first */
    if (!sc.connect_ms || sc.connect_ms > c->timeout_ms)
        sc.connect_ms = c->timeout_ms;
    if (sc.receive_cap < 2 * HEAD_MAX)
        sc.receive_cap = 2 * HEAD_MAX;
    if (sc.send_cap < c->request.n)
        sc.send_cap = c->request.n;
    if (r == 0)
        r = kei_stream_connect(&c->stream, ctx, &sc, &stream_ops, c);
    if (r < 0) {
        kei_http_call_free(c);
        return r;
    }
    kei_timer_in(&c->timer, c->timeout_ms);
    *ret = c;
    return 0;
}
