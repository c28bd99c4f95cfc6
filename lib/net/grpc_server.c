/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unary gRPC server. It owns its connections, a connection its calls; what is freed inside a
 * callback of its own lives as an empty shell until that returns. Loop thread.
 */
#include <stdio.h>

#include "base/log.h"
#include "net/grpc.h"
#include "net/grpc_link.h"

#define MAX_MESSAGE ((size_t)4 * 1024 * 1024)
#define MAX_CALLS 100u
#define DEADLINE_MS 60000u
#define IDLE_MS 60000u
#define SEND_CAP ((size_t)64 * 1024 * 1024) /* never reached: the pump stops long before */

struct kei_grpc_server {
    struct ke_ctx *ctx;
    struct kei_listener *listener;
    struct kei_grpc_server_ops ops;
    void *user;
    size_t max_message;
    uint32_t max_calls, deadline_ms, idle_ms;
    struct kei_link conns;
};

struct conn {
    struct kei_grpc_server *server; /* NULL when freed */
    struct ke_ctx *ctx;
    struct kei_link link, calls;
    struct kei_grpc_link wire;
    struct kei_timer idle;
    uint32_t depth;
};

struct kei_grpc_call {
    struct conn *conn;
    struct kei_link link;
    struct kei_h2_stream *stream;
    struct kei_timer deadline;
    void *user;
};

/* ---- life ---- */

static void leave(struct conn *c)
{
    if (--c->depth == 0 && !c->server)
        kei_free(kei_ctx_alloc(c->ctx), c);
}

static void call_free(struct kei_grpc_call *call)
{
    kei_list_remove(&call->link);
    kei_timer_fini(&call->deadline);
    kei_free(kei_ctx_alloc(call->conn->ctx), call);
}

static void conn_free(struct conn *c)
{
    if (!c->server)
        return;
    c->server = NULL;
    kei_list_remove(&c->link);
    KEI_LIST_EACH_SAFE(l, next, &c->calls)
    call_free(KEI_OF(l, struct kei_grpc_call, link));
    kei_timer_fini(&c->idle);
    kei_grpc_link_fini(&c->wire);
    c->depth++;
    leave(c);
}

/* ---- answers ---- */

static struct kei_h2_header header(const char *name, const char *value)
{
    return (struct kei_h2_header){kei_str(name), kei_str(value)};
}

/* A refusal is one block of headers; what does not go out is as if the peer had gone. */
static void send_refusal(struct conn *c, struct kei_h2_stream *s, uint32_t code, const char *text)
{
    char number[12];
    struct ke_buf encoded;

    kei_buf_init(&encoded, kei_ctx_alloc(c->ctx));
    snprintf(number, sizeof number, "%u", (unsigned)code);
    kei_grpc_text_encode(&encoded, text);
    if (!kei_buf_ok(&encoded))
        kei_buf_clear(&encoded);
    const struct kei_h2_header head[] = {
        header(":status", "200"),
        header("content-type", "application/grpc"),
        header("grpc-status", number),
        {KEI_STR("grpc-message"), kei_buf_str(&encoded)},
    };
    (void)kei_h2_respond(s, head, 4, kei_strn(NULL, 0), NULL, 0, NULL);
    ke_buf_free(&encoded);
    kei_grpc_link_poke(&c->wire);
}

static void send_http(struct conn *c, struct kei_h2_stream *s, const char *status)
{
    const struct kei_h2_header head[] = {header(":status", status)};

    (void)kei_h2_respond(s, head, 1, kei_strn(NULL, 0), NULL, 0, NULL);
    kei_grpc_link_poke(&c->wire);
}

void kei_grpc_reply(struct kei_grpc_call *call, struct ke_str message)
{
    struct conn *c = call->conn;
    const struct kei_h2_header head[] = {
        header(":status", "200"),
        header("content-type", "application/grpc"),
    };
    const struct kei_h2_header trailers[] = {header("grpc-status", "0")};
    struct ke_buf body;

    kei_buf_init(&body, kei_ctx_alloc(c->ctx));
    kei_grpc_frame_write(&body, message);
    if (kei_buf_ok(&body)) {
        (void)kei_h2_respond(call->stream, head, 2, kei_buf_str(&body), trailers, 1, NULL);
        kei_grpc_link_poke(&c->wire);
    } else {
        send_refusal(c, call->stream, KEI_GRPC_EXHAUSTED, "no memory for the answer");
    }
    ke_buf_free(&body);
    call_free(call);
}

void kei_grpc_refuse(struct kei_grpc_call *call, uint32_t code, const char *text)
{
    send_refusal(call->conn, call->stream, code, text);
    call_free(call);
}

void kei_grpc_refuse_path(struct kei_grpc_call *call, struct ke_str path, const char *services)
{
    struct ke_str list = kei_str(services), method, service;
    bool known = false;
    char text[400];

    service = path.n && path.p[0] == '/'
                  ? kei_str_cut(kei_strn(path.p + 1, path.n - 1), '/', &method)
                  : kei_strn(NULL, 0);
    while (list.n > 0 && !known) {
        struct ke_str one = kei_str_cut(list, ' ', &list);
        known = one.n == service.n + 2 && service.n && memcmp(one.p + 1, service.p, service.n) == 0;
    }
    int n = (int)(service.n < 150 ? service.n : 150);
    if (service.n == 0 || method.n == 0)
        snprintf(text, sizeof text, "malformed method name: \"%.*s\"",
                 (int)(path.n < 150 ? path.n : 150), path.p);
    else if (known)
        snprintf(text, sizeof text, "unknown method %.*s for service %.*s",
                 (int)(method.n < 150 ? method.n : 150), method.p, n, service.p);
    else
        snprintf(text, sizeof text, "unknown service %.*s", n, service.p);
    kei_grpc_refuse(call, KEI_GRPC_UNIMPLEMENTED, text);
}

void kei_grpc_call_set(struct kei_grpc_call *c, void *p)
{
    c->user = p;
}

void *kei_grpc_call_get(const struct kei_grpc_call *c)
{
    return c->user;
}

/* ---- requests ---- */

static void on_deadline(struct kei_timer *t)
{
    struct kei_grpc_call *call = KEI_OF(t, struct kei_grpc_call, deadline);
    struct conn *c = call->conn;

    c->depth++;
    if (c->server->ops.gone)
        c->server->ops.gone(c->server->user, call);
    if (c->server)
        kei_grpc_refuse(call, KEI_GRPC_DEADLINE, "deadline exceeded");
    leave(c);
}

/* Its time, or a refusal that was sent. false: refused */
static bool judge(struct conn *c, struct kei_h2_stream *s, const struct kei_h2_message *m,
                  struct ke_str *message, int64_t *ret_ms)
{
    struct ke_str timeout = kei_h2_header(m, "grpc-timeout");
    char text[100];

    *ret_ms = c->server->deadline_ms;
    if (!kei_str_is(kei_h2_header(m, ":method"), "POST")) {
        send_http(c, s, "405");
        return false;
    }
    if (!kei_str_starts(kei_h2_header(m, "content-type"), KEI_STR("application/grpc"))) {
        send_http(c, s, "415");
        return false;
    }
    if (m->over) {
        snprintf(text, sizeof text, "message is larger than the limit of %zu bytes",
                 c->server->max_message);
        send_refusal(c, s, KEI_GRPC_EXHAUSTED, text);
        return false;
    }
    if (timeout.p) {
        int64_t ms = kei_grpc_timeout_read(timeout);
        if (ms < 0) {
            send_refusal(c, s, KEI_GRPC_INTERNAL, "malformed grpc-timeout");
            return false;
        }
        *ret_ms = ms < *ret_ms ? ms : *ret_ms;
    }
    int r = kei_grpc_frame_read(m->body, message);
    if (r == KE_ENOTSUP)
        send_refusal(c, s, KEI_GRPC_UNIMPLEMENTED, "compressed messages are not supported");
    else if (r < 0)
        send_refusal(c, s, KEI_GRPC_INTERNAL, "request is not one message");
    return r == 0;
}

static void on_request(void *user, struct kei_h2_stream *s, const struct kei_h2_message *m)
{
    struct conn *c = user;
    struct ke_str message;
    int64_t ms;

    if (!judge(c, s, m, &message, &ms))
        return;
    struct kei_grpc_call *call = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *call);
    if (!call) {
        send_refusal(c, s, KEI_GRPC_EXHAUSTED, "no memory for the call");
        return;
    }
    call->conn = c;
    call->stream = s;
    kei_h2_stream_set(s, call);
    kei_list_add_tail(&c->calls, &call->link);
    kei_timer_init(c->ctx, &call->deadline, on_deadline);
    kei_timer_in(&call->deadline, ms);
    c->server->ops.call(c->server->user, call, kei_h2_header(m, ":path"), message);
}

static void on_gone(void *user, struct kei_h2_stream *s)
{
    struct conn *c = user;
    struct kei_grpc_call *call = kei_h2_stream_get(s);

    if (!call)
        return;
    if (c->server->ops.gone)
        c->server->ops.gone(c->server->user, call);
    if (c->server) /* else it went with the connection */
        call_free(call);
}

static const struct kei_h2_ops h2_ops = {.request = on_request, .gone = on_gone};

/* ---- connections ---- */

/* Ends the connection; err has the reason. Inside depth. */
static void cut(struct conn *c, int r, const struct ke_error *err)
{
    if (r != KE_ECLOSED)
        kei_log(c->ctx, KE_LOG_DEBUG, "net", "gRPC connection from %s was ended: %s",
                kei_stream_peer_name(c->wire.stream), err->text);
    c->wire.open = false;
    kei_h2_abort(c->wire.h2, r, err->text);
    if (c->server)
        kei_stream_finish(c->wire.stream);
}

/* Sends; ends the connection when there is nothing more to say. Inside depth. */
static void pump(struct conn *c)
{
    struct ke_error err = KE_ERROR_INIT;

    if (!c->server)
        return;
    int r = kei_grpc_link_pump(&c->wire, &err);
    if (r != 0 && c->server)
        cut(c, r, &err);
}

static size_t on_data(void *user, const char *p, size_t n)
{
    struct conn *c = user;
    struct ke_error err = KE_ERROR_INIT;

    if (!c->wire.open)
        return n;
    c->depth++;
    int r = kei_h2_feed(c->wire.h2, p, n, &err);
    pump(c);
    if (r < 0 && c->server && c->wire.open)
        cut(c, r, &err);
    if (c->server && c->wire.open && kei_h2_incomplete(c->wire.h2) == 0)
        kei_timer_stop(&c->idle);
    else if (c->server && !kei_timer_armed(&c->idle))
        kei_timer_in(&c->idle, c->server->idle_ms);
    leave(c);
    return n;
}

static void on_drained(void *user)
{
    struct conn *c = user;

    c->depth++;
    pump(c);
    leave(c);
}

static void on_pump(struct kei_timer *t)
{
    on_drained(KEI_OF(KEI_OF(t, struct kei_grpc_link, pump), struct conn, wire));
}

static void on_closed(void *user, int status, const char *text)
{
    struct conn *c = user;

    c->depth++;
    c->wire.open = false;
    kei_h2_abort(c->wire.h2, status, text);
    conn_free(c);
    leave(c);
}

static void on_idle(struct kei_timer *t)
{
    struct conn *c = KEI_OF(t, struct conn, idle);

    on_closed(c, KE_ETIMEDOUT, "a request did not get whole in time");
}

static const struct kei_stream_ops stream_ops = {
    .data = on_data, .drained = on_drained, .closed = on_closed};

static void on_accept(void *user, struct kei_stream *stream)
{
    struct kei_grpc_server *s = user;
    struct conn *c = kei_zalloc(kei_ctx_alloc(s->ctx), sizeof *c);
    const struct kei_h2_config hc = {.server = true,
                                     .max_streams = s->max_calls,
                                     .max_body = s->max_message + 5,
                                     .max_bodies = 4 * (s->max_message + 5)};

    if (!c) {
        kei_stream_free(stream);
        return;
    }
    c->ctx = s->ctx;
    c->wire = (struct kei_grpc_link){.ctx = s->ctx, .stream = stream, .open = true};
    kei_list_init(&c->calls);
    if (kei_h2_new(&c->wire.h2, kei_ctx_alloc(s->ctx), &hc, &h2_ops, c, NULL) < 0) {
        kei_stream_free(stream);
        kei_free(kei_ctx_alloc(s->ctx), c);
        return;
    }
    c->server = s;
    kei_list_add_tail(&s->conns, &c->link);
    kei_timer_init(s->ctx, &c->wire.pump, on_pump);
    kei_timer_init(s->ctx, &c->idle, on_idle);
    kei_timer_in(&c->idle, s->idle_ms);
    kei_stream_set_ops(stream, &stream_ops, c);
    kei_grpc_link_poke(&c->wire); /* our settings */
}

int kei_grpc_server_new(struct kei_grpc_server **ret, struct ke_ctx *ctx,
                        const struct kei_grpc_server_config *c,
                        const struct kei_grpc_server_ops *ops, void *user)
{
    struct kei_listener_config lc = c->listener;
    struct kei_grpc_server *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s);

    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "no memory for a gRPC server");
    s->ctx = ctx;
    s->ops = *ops;
    s->user = user;
    s->max_message = c->max_message ? c->max_message : MAX_MESSAGE;
    s->max_calls = c->max_calls ? c->max_calls : MAX_CALLS;
    s->deadline_ms = c->deadline_ms ? c->deadline_ms : DEADLINE_MS;
    s->idle_ms = c->idle_ms ? c->idle_ms : IDLE_MS;
    kei_list_init(&s->conns);
    lc.send_cap = SEND_CAP;
    int r = kei_listen(&s->listener, ctx, &lc, on_accept, s);
    if (r < 0) {
        kei_free(kei_ctx_alloc(ctx), s);
        return r;
    }
    *ret = s;
    return 0;
}

void kei_grpc_server_free(struct kei_grpc_server *s)
{
    if (!s)
        return;
    kei_listener_free(s->listener);
    KEI_LIST_EACH_SAFE(l, next, &s->conns)
    conn_free(KEI_OF(l, struct conn, link));
    kei_free(kei_ctx_alloc(s->ctx), s);
}
