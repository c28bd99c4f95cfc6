/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a name to an open stream: resolve, connect, proxy, TLS handshake, all under one deadline.
 * What only this needs lives in struct kei_opening, which is gone when the stream is open. Loop.
 */
#include <errno.h>
#include <unistd.h>

#include "net/connect.h"
#include "net/proxy.h"
#include "net/resolve.h"
#include "net/stream_priv.h"

#define CONNECT_MS 30000u

struct kei_opening {
    char *host; /* without brackets; NULL: unix */
    char *unix_path;
    char *proxy_url; /* proxy.userinfo points into it */
    uint16_t port;
    struct kei_proxy proxy;
    struct kei_resolve *resolve;
    struct kei_connect *connect;
    struct ke_buf out; /* the rest of the request to the proxy */
};

/* ---- what is opened ---- */

static void add_target(const struct kei_opening *o, char out[320])
{
    struct ke_str host = kei_str(o->host ? o->host : o->unix_path);
    size_t n = host.n < 256 ? host.n : 256;

    memcpy(out, host.p, n);
    out[n] = '\0';
}

/* Tells why it did not open, with what it was about. */
static void open_fail(struct kei_stream *s, int status, const char *text)
{
    struct ke_error err = KE_ERROR_INIT;
    char target[320];

    if (s->opening) {
        add_target(s->opening, target);
        if (s->opening->host)
            kei_error(&err, status, KEI_STREAM_NOT_OPENED "%s port %u: %s", target, s->opening->port,
                      text);
        else
            kei_error(&err, status, KEI_STREAM_NOT_OPENED "unix:%s: %s", target, text);
    } else {
        kei_error(&err, status, "%s", text); /* accepted */
    }
    kei_stream_fail(s, status, err.text);
}

void kei_stream_open_timeout(struct kei_stream *s)
{
    static const char *const doing[] = {
        [KEI_STREAM_START] = "starting",
        [KEI_STREAM_RESOLVE] = "resolving the name",
        [KEI_STREAM_CONNECT] = "waiting for the connection",
        [KEI_STREAM_PROXY] = "waiting for the proxy",
        [KEI_STREAM_HANDSHAKE] = "in the TLS handshake",
    };
    struct ke_error err = KE_ERROR_INIT;

    kei_error(&err, KE_ETIMEDOUT, "the limit of %u ms was over while %s", s->limit_ms,
              doing[s->state]);
    open_fail(s, KE_ETIMEDOUT, err.text);
}

void kei_stream_open_free(struct kei_stream *s)
{
    const struct ke_alloc *a = kei_ctx_alloc(s->ctx);
    struct kei_opening *o = s->opening;

    if (!o)
        return;
    s->opening = NULL;
    kei_resolve_cancel(o->resolve);
    kei_connect_cancel(o->connect);
    ke_buf_free(&o->out);
    kei_free(a, o->host);
    kei_free(a, o->unix_path);
    kei_free(a, o->proxy_url);
    kei_free(a, o);
}

/* ---- TLS ---- */

static long tls_io_read(void *user, void *p, size_t n)
{
    struct kei_stream *s = user;
    ssize_t got;

    do
        got = recv(s->fd, p, n, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        return (long)got;
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got == 0)
        errno = 0; /* the end, without a word of TLS */
    return -1;
}

static long tls_io_write(void *user, const void *p, size_t n)
{
    struct kei_stream *s = user;
    ssize_t sent;

    do
        sent = send(s->fd, p, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return (long)sent;
    return errno == EAGAIN ? 0 : -1;
}

int kei_stream_tls_begin(struct kei_stream *s, const char *host, struct ke_error *err)
{
    struct kei_tls_io io = {tls_io_read, tls_io_write, s};

    return kei_tls_new(&s->tls, s->tls_config, host, &io, err);
}

static void step_handshake(struct kei_stream *s)
{
    struct ke_error err = KE_ERROR_INIT;
    int r = kei_tls_handshake(s->tls, &err);

    if (r < 0)
        open_fail(s, r, err.text);
    else if (r == 0)
        kei_stream_opened(s);
    else
        kei_stream_watch(s, r == KEI_TLS_WANT_WRITE ? KEI_OUT : KEI_IN);
}

/* The transport stands: TLS over it, or done. */
static void transport_ready(struct kei_stream *s)
{
    struct ke_error err = KE_ERROR_INIT;

    if (!s->tls_config) {
        kei_stream_opened(s);
        return;
    }
    s->state = KEI_STREAM_HANDSHAKE;
    int r = kei_stream_tls_begin(s, s->opening->host ? s->opening->host : "localhost", &err);
    if (r < 0)
        open_fail(s, r, err.text);
    else
        step_handshake(s);
}

/* ---- proxy ---- */

static bool proxy_gone(struct kei_stream *s, ssize_t r)
{
    struct ke_error err = KE_ERROR_INIT;

    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    const struct kei_proxy *x = &s->opening->proxy;
    if (r == 0)
        kei_error(&err, KE_EPROXY, "proxy %s:%u closed the connection instead of an answer",
                  x->host, x->port);
    else
        kei_error_errno(&err, errno, "proxy %s:%u", x->host, x->port);
    open_fail(s, KE_EPROXY, err.text);
    return true;
}

static bool proxy_send(struct kei_stream *s)
{
    struct ke_buf *out = &s->opening->out;

    if (out->n == 0)
        return true;
    ssize_t sent = send(s->fd, out->p, out->n, MSG_NOSIGNAL);
    if (sent < 0 && proxy_gone(s, sent))
        return false;
    kei_buf_drop(out, sent > 0 ? (size_t)sent : 0);
    return kei_stream_watch(s, out->n ? KEI_OUT : KEI_IN);
}

/* The answer's head, one byte more never taken than there is: what is behind it is the tunnel's. */
static void proxy_receive(struct kei_stream *s)
{
    struct ke_error err = KE_ERROR_INIT;
    size_t used, room = KEI_PROXY_HEAD_MAX - s->rx.n;
    char *to = kei_buf_room(&s->rx, room);

    if (!to) {
        open_fail(s, KE_ENOMEM, "no memory for the answer of the proxy");
        return;
    }
    ssize_t got = recv(s->fd, to, room, 0);
    if (got <= 0) {
        proxy_gone(s, got);
        return;
    }
    s->rx.n += (size_t)got;
    int r = kei_proxy_answer(&s->opening->proxy, s->rx.p, s->rx.n, &used, &err);
    if (r < 0) {
        open_fail(s, r, err.text);
    } else if (used > 0) {
        kei_buf_drop(&s->rx, used);
        if (s->rx.n && s->tls_config) {
            open_fail(s, KE_EPROXY, "the proxy sent bytes before the TLS handshake");
            return;
        }
        if (s->rx.n == 0) {
            ke_buf_free(&s->rx);
            kei_buf_init(&s->rx, kei_ctx_alloc(s->ctx));
        }
        transport_ready(s);
    }
}

static void step_proxy(struct kei_stream *s)
{
    if (s->opening->out.n) {
        proxy_send(s);
        return;
    }
    proxy_receive(s);
}

/* ---- resolve and connect ---- */

/* What failed, without the address if that is what the stream was opened to: open_fail names it. */
static void connect_fail(struct kei_stream *s, int status, const char *text)
{
    struct kei_opening *o = s->opening;
    struct ke_error err = KE_ERROR_INIT;
    char own[KEI_ADDR_TEXT] = "";
    struct kei_addr a;

    if (o->proxy_url) {
        kei_error(&err, status, "the proxy %s", text);
        open_fail(s, status, err.text);
        return;
    }
    if (o->host ? kei_addr_literal(&a, o->host, o->port) : kei_addr_unix(&a, o->unix_path, NULL) == 0)
        kei_addr_text(&a, own);
    size_t n = strlen(own);
    bool same = n > 0 && !strncmp(text, own, n) && !strncmp(text + n, ": ", 2);
    open_fail(s, status, same ? text + n + 2 : text);
}

static void on_connected(void *user, int status, const char *text, int fd,
                         const struct kei_addr *to)
{
    struct kei_stream *s = user;
    struct kei_opening *o = s->opening;

    (void)to;
    o->connect = NULL;
    kei_stream_enter(s);
    if (status < 0) {
        connect_fail(s, status, text);
    } else {
        s->fd = fd;
        if (!o->proxy_url) {
            transport_ready(s);
        } else {
            s->state = KEI_STREAM_PROXY;
            proxy_send(s);
        }
    }
    kei_stream_leave(s);
}

static void connect_to(struct kei_stream *s, const struct kei_addr *addrs, size_t n)
{
    s->state = KEI_STREAM_CONNECT;
    int r = kei_connect_start(&s->opening->connect, s->ctx, addrs, n, s->dead_ms, on_connected, s);
    if (r < 0)
        open_fail(s, r, "no memory to connect");
}

static void on_resolved(void *user, int status, const char *text, const struct kei_addr *addrs,
                        size_t n)
{
    struct kei_stream *s = user;
    const char *why = s->opening->proxy_url ? NULL : strstr(text, KEI_RESOLVE_FAILED);
    struct ke_error err = KE_ERROR_INIT;

    s->opening->resolve = NULL;
    kei_stream_enter(s);
    if (why) /* which name is known */
        kei_error(&err, status, "the name%s", why);
    if (status < 0)
        open_fail(s, status, why ? err.text : text);
    else
        connect_to(s, addrs, n);
    kei_stream_leave(s);
}

static void step_start(struct kei_stream *s)
{
    struct kei_opening *o = s->opening;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_addr a;
    int r;

    if (!o->host) {
        r = kei_addr_unix(&a, o->unix_path, &err);
        if (r < 0)
            open_fail(s, r, err.text);
        else
            connect_to(s, &a, 1);
        return;
    }
    s->state = KEI_STREAM_RESOLVE;
    r = kei_resolve_start(&o->resolve, s->ctx, o->proxy_url ? o->proxy.host : o->host,
                          o->proxy_url ? o->proxy.port : o->port, on_resolved, s);
    if (r < 0) {
        err = *kei_err(s->ctx);
        open_fail(s, r, err.text);
    }
}

void kei_stream_open_step(struct kei_stream *s)
{
    switch (s->state) {
    case KEI_STREAM_START:
        step_start(s);
        break;
    case KEI_STREAM_PROXY:
        step_proxy(s);
        break;
    case KEI_STREAM_HANDSHAKE:
        step_handshake(s);
        break;
    default: /* resolver and race have their own events */
        break;
    }
}

/* ---- beginning ---- */

/* A copy without the brackets of an IPv6 literal. */
static char *copy_host(const struct ke_alloc *a, const char *host)
{
    size_t n = strlen(host);

    if (n >= 2 && host[0] == '[' && host[n - 1] == ']')
        return kei_strndup(a, host + 1, n - 2);
    return kei_strndup(a, host, n);
}

static int check_config(struct ke_ctx *ctx, const struct kei_stream_config *c)
{
    struct kei_addr a;

    if (c->unix_path)
        return kei_addr_unix(&a, c->unix_path, kei_err(ctx));
    if (!c->host || !*c->host)
        return kei_fail(ctx, KE_EINVAL, "no host was given to connect to");
    if (!kei_addr_literal(&a, c->host, c->port) && !kei_addr_name_ok(c->host))
        return kei_fail(ctx, KE_EINVAL, "\"%.100s\" is neither a host name nor an address",
                        c->host);
    if (c->port == 0)
        return kei_fail(ctx, KE_EINVAL, "no port was given to connect to on %.100s", c->host);
    return 0;
}

static int prepare(struct kei_stream *s, const struct kei_stream_config *c)
{
    const struct ke_alloc *a = kei_ctx_alloc(s->ctx);
    struct kei_opening *o = kei_zalloc(a, sizeof *o);

    if (!o)
        return KE_ENOMEM;
    s->opening = o;
    kei_buf_init(&o->out, a);
    o->port = c->port;
    if (c->unix_path) {
        o->unix_path = kei_strdup(a, c->unix_path);
        return o->unix_path ? 0 : KE_ENOMEM;
    }
    o->host = copy_host(a, c->host);
    if (!o->host)
        return KE_ENOMEM;
    if (!c->proxy_url || !*c->proxy_url)
        return 0;
    o->proxy_url = kei_strdup(a, c->proxy_url);
    if (!o->proxy_url)
        return KE_ENOMEM;
    int r = kei_proxy_parse(&o->proxy, o->proxy_url, kei_err(s->ctx));
    if (r == 0)
        r = kei_proxy_request(&o->proxy, o->host, o->port, &o->out, kei_err(s->ctx));
    return r;
}

int kei_stream_connect(struct kei_stream **ret, struct ke_ctx *ctx,
                       const struct kei_stream_config *c, const struct kei_stream_ops *ops,
                       void *user)
{
    int r = check_config(ctx, c);

    if (r < 0)
        return r;
    struct kei_stream *s =
        kei_stream_alloc(ctx, ops, user, c->small_cap ? c->small_cap : KEI_STREAM_SMALL);
    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "no memory for a connection");
    r = prepare(s, c);
    if (r < 0) {
        kei_stream_free(s);
        return r == KE_ENOMEM ? kei_fail(ctx, r, "no memory for a connection") : r;
    }
    if (c->tls)
        s->tls_config = kei_tls_config_ref(c->tls);
    s->dead_ms = c->dead_ms;
    s->limit_ms = c->connect_ms ? c->connect_ms : CONNECT_MS;
    if (c->receive_cap)
        s->receive_cap = c->receive_cap;
    if (c->send_cap)
        s->send_cap = c->send_cap;
    kei_timer_in(&s->timer, s->limit_ms);
    kei_stream_kick(s);
    *ret = s;
    return 0;
}
