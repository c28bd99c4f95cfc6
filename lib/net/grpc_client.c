/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unary gRPC client over one connection, made when it is needed. The client owns its asks, which
 * wait on its list until the connection takes them. Loop thread.
 */
#include <stdio.h>

#include "base/arena.h"
#include "net/grpc.h"
#include "net/grpc_link.h"

#define MAX_MESSAGE ((size_t)4 * 1024 * 1024)
#define MAX_CALLS 100u
#define CONNECT_MS 10000u
#define SEND_CAP ((size_t)64 * 1024 * 1024) /* never reached: the pump stops long before */

struct kei_grpc_client {
    struct ke_ctx *ctx;
    struct kei_arena arena;
    struct kei_grpc_client_config c;
    struct kei_grpc_link wire;
    struct kei_link asks;
    struct kei_timer kick; /* start what waits */
    uint32_t n_asks, depth;
    bool was_open; /* this connection stood once */
    bool freed;
};

struct kei_grpc_ask {
    struct kei_grpc_client *c;
    struct kei_link link;
    struct kei_h2_stream *stream; /* NULL: waits for a connection */
    struct kei_timer deadline;
    char *path;
    struct ke_buf body;
    uint32_t timeout_ms;
    kei_grpc_done_fn done;
    void *user;
};

/* ---- life ---- */

static void leave(struct kei_grpc_client *c)
{
    if (--c->depth > 0 || !c->freed)
        return;
    kei_arena_free(&c->arena);
    kei_free(kei_ctx_alloc(c->ctx), c);
}

static void ask_free(struct kei_grpc_ask *a)
{
    const struct ke_alloc *alloc = kei_ctx_alloc(a->c->ctx);

    kei_list_remove(&a->link);
    a->c->n_asks--;
    kei_timer_fini(&a->deadline);
    ke_buf_free(&a->body);
    kei_free(alloc, a->path);
    kei_free(alloc, a);
}

/* Tells the end; inside depth. */
static void end(struct kei_grpc_ask *a, const struct kei_grpc_answer *answer)
{
    kei_grpc_done_fn done = a->done;
    void *user = a->user;

    ask_free(a);
    done(user, answer);
}

static uint32_t code_of(int status)
{
    switch (status) {
    case KE_ETIMEDOUT:
        return KEI_GRPC_DEADLINE;
    case KE_ECANCELED:
        return KEI_GRPC_CANCELLED;
    case KE_ELIMIT:
    case KE_ENOMEM:
        return KEI_GRPC_EXHAUSTED;
    case KE_EPROTO:
        return KEI_GRPC_INTERNAL;
    default:
        return KEI_GRPC_UNAVAILABLE;
    }
}

static void end_failed(struct kei_grpc_ask *a, int status, const char *text)
{
    const struct kei_grpc_answer answer = {status, code_of(status), text, {NULL, 0}};

    end(a, &answer);
}

/* ---- answers ---- */

static void end_http(struct kei_grpc_ask *a, struct ke_str status)
{
    char text[80];

    snprintf(text, sizeof text, "gRPC server answered with HTTP status %.*s",
             (int)(status.n < 10 ? status.n : 10), status.p ? status.p : "");
    end_failed(a, KE_EHTTP, text);
}

static void read_answer(struct kei_grpc_ask *a, const struct kei_h2_message *m)
{
    struct ke_str status = kei_h2_header(m, ":status");
    struct kei_grpc_answer answer = {0, 0, "", {NULL, 0}};
    uint64_t code;
    struct ke_buf text;

    if (!kei_str_is(status, "200")) {
        end_http(a, status);
        return;
    }
    if (!kei_str_u64(kei_h2_header(m, "grpc-status"), &code)) {
        end_failed(a, KE_EPROTO, "gRPC server answered without a status");
        return;
    }
    answer.code = code > UINT32_MAX ? KEI_GRPC_UNKNOWN : (uint32_t)code;
    if (code == 0 && kei_grpc_frame_read(m->body, &answer.message) < 0) {
        end_failed(a, KE_EPROTO, "gRPC server's answer was not one uncompressed message");
        return;
    }
    kei_buf_init(&text, kei_ctx_alloc(a->c->ctx));
    kei_grpc_text_decode(&text, kei_h2_header(m, "grpc-message"));
    answer.text = kei_buf_ok(&text) && text.p ? text.p : "";
    end(a, &answer);
    ke_buf_free(&text);
}

static void on_response(void *user, struct kei_h2_stream *s, int status, const char *text,
                        const struct kei_h2_message *m)
{
    struct kei_grpc_ask *a = kei_h2_stream_get(s);

    (void)user;
    if (!a)
        return;
    if (status == 0)
        read_answer(a, m);
    else
        end_failed(a, status, text);
}

static const struct kei_h2_ops h2_ops = {.response = on_response};

/* ---- connection ---- */

static void drop_wire(struct kei_grpc_client *c)
{
    kei_grpc_link_fini(&c->wire);
}

/* The connection is gone: its asks end; those it had not taken go to the next one, unless it never
 * stood. Inside depth. */
static void lost(struct kei_grpc_client *c, int status, const char *text)
{
    bool retry = c->was_open;
    struct kei_h2 *h2 = c->wire.h2;

    c->wire.open = false;
    if (h2)
        kei_h2_abort(h2, status, text);
    if (c->freed)
        return;
    drop_wire(c);
    while (!retry && !c->freed && !kei_list_empty(&c->asks))
        end_failed(KEI_OF(c->asks.next, struct kei_grpc_ask, link), status, text);
    if (!c->freed && retry && c->c.lost)
        c->c.lost(c->c.user, text);
    if (!c->freed && !kei_list_empty(&c->asks))
        kei_timer_in(&c->kick, 0);
}

static void pump(struct kei_grpc_client *c)
{
    struct ke_error err = KE_ERROR_INIT;
    int r = c->freed ? 0 : kei_grpc_link_pump(&c->wire, &err);

    if (r < 0 && !c->freed)
        lost(c, r, err.text);
}

static void on_open(void *user)
{
    ((struct kei_grpc_client *)user)->was_open = true;
}

static size_t on_data(void *user, const char *p, size_t n)
{
    struct kei_grpc_client *c = user;
    struct ke_error err = KE_ERROR_INIT;

    c->depth++;
    int r = kei_h2_feed(c->wire.h2, p, n, &err);
    if (!c->freed && r < 0)
        lost(c, r, err.text);
    else
        pump(c);
    leave(c);
    return n;
}

static void on_drained(void *user)
{
    struct kei_grpc_client *c = user;

    c->depth++;
    pump(c);
    leave(c);
}

static void on_pump(struct kei_timer *t)
{
    on_drained(KEI_OF(KEI_OF(t, struct kei_grpc_link, pump), struct kei_grpc_client, wire));
}

static void on_closed(void *user, int status, const char *text)
{
    struct kei_grpc_client *c = user;

    c->depth++;
    lost(c, status, text);
    leave(c);
}

static const struct kei_stream_ops stream_ops = {
    .open = on_open, .data = on_data, .drained = on_drained, .closed = on_closed};

static int connect_wire(struct kei_grpc_client *c, struct ke_error *err)
{
    const struct kei_h2_config hc = {.max_streams = c->c.max_calls,
                                     .max_body = c->c.max_message + 5,
                                     .max_bodies = 4 * (c->c.max_message + 5)};
    int r = kei_h2_new(&c->wire.h2, kei_ctx_alloc(c->ctx), &hc, &h2_ops, c, err);

    if (r < 0)
        return r;
    r = kei_stream_connect(&c->wire.stream, c->ctx, &c->c.stream, &stream_ops, c);
    if (r < 0) {
        *err = *kei_err(c->ctx);
        drop_wire(c);
        return r;
    }
    c->wire.open = true; /* the stream keeps what is written until it stands */
    c->was_open = false;
    return 0;
}

/* ---- asking ---- */

static int send_ask(struct kei_grpc_ask *a, struct ke_error *err)
{
    struct kei_grpc_client *c = a->c;
    char timeout[16];

    if (a->timeout_ms <= 99999999)
        snprintf(timeout, sizeof timeout, "%um", (unsigned)a->timeout_ms);
    else
        snprintf(timeout, sizeof timeout, "%uS", (unsigned)(a->timeout_ms / 1000));
    const struct kei_h2_header head[] = {
        {KEI_STR(":method"), KEI_STR("POST")},
        {KEI_STR(":scheme"), KEI_STR("http")},
        {KEI_STR(":path"), kei_str(a->path)},
        {KEI_STR(":authority"), kei_str(c->c.authority)},
        {KEI_STR("te"), KEI_STR("trailers")},
        {KEI_STR("content-type"), KEI_STR("application/grpc")},
        {KEI_STR("grpc-timeout"), kei_str(timeout)},
    };
    return kei_h2_request(&a->stream, c->wire.h2, head, sizeof head / sizeof head[0],
                          kei_buf_str(&a->body), a, err);
}

static bool is_busy(const struct kei_grpc_client *c)
{
    KEI_LIST_EACH(l, &c->asks)
    {
        if (KEI_OF(l, struct kei_grpc_ask, link)->stream)
            return true;
    }
    return false;
}

/* One that waits; false: it, and all behind it, have to wait on. */
static bool start_one(struct kei_grpc_ask *a)
{
    struct kei_grpc_client *c = a->c;
    struct ke_error err = KE_ERROR_INIT;
    int r = c->wire.h2 ? send_ask(a, &err) : KE_ECLOSED;

    if (r == KE_ECLOSED) {
        if (is_busy(c))
            return false; /* the end of the connection comes back here */
        drop_wire(c);
        r = connect_wire(c, &err);
        if (r == 0)
            r = send_ask(a, &err);
    }
    if (r < 0)
        end_failed(a, r, err.text);
    return true;
}

static void on_kick(struct kei_timer *t)
{
    struct kei_grpc_client *c = KEI_OF(t, struct kei_grpc_client, kick);
    struct kei_grpc_ask *next;

    c->depth++;
    do {
        next = NULL; /* done may have changed the list: look again from the front */
        KEI_LIST_EACH(l, &c->asks)
        {
            if (KEI_OF(l, struct kei_grpc_ask, link)->stream)
                continue;
            next = KEI_OF(l, struct kei_grpc_ask, link);
            break;
        }
    } while (next && start_one(next) && !c->freed);
    pump(c);
    leave(c);
}

static void on_deadline(struct kei_timer *t)
{
    struct kei_grpc_ask *a = KEI_OF(t, struct kei_grpc_ask, deadline);
    struct kei_grpc_client *c = a->c;

    c->depth++;
    if (a->stream)
        kei_h2_cancel(a->stream);
    end_failed(a, KE_ETIMEDOUT, "no answer within the time allowed");
    pump(c);
    leave(c);
}

int kei_grpc_ask(struct kei_grpc_ask **ret, struct kei_grpc_client *c, const char *path,
                 struct ke_str message, uint32_t timeout_ms, kei_grpc_done_fn done, void *user)
{
    const struct ke_alloc *alloc = kei_ctx_alloc(c->ctx);

    if (c->n_asks >= c->c.max_calls)
        return kei_fail(c->ctx, KE_ELIMIT, "%u gRPC calls are open, which is the limit",
                        (unsigned)c->n_asks);
    struct kei_grpc_ask *a = kei_zalloc(alloc, sizeof *a);
    if (!a)
        return kei_fail(c->ctx, KE_ENOMEM, "no memory for a gRPC call");
    a->c = c;
    a->path = kei_strdup(alloc, path);
    a->timeout_ms = timeout_ms ? timeout_ms : 1;
    a->done = done;
    a->user = user;
    kei_buf_init(&a->body, alloc);
    kei_grpc_frame_write(&a->body, message);
    kei_timer_init(c->ctx, &a->deadline, on_deadline);
    kei_list_add_tail(&c->asks, &a->link);
    c->n_asks++;
    if (!a->path || !kei_buf_ok(&a->body)) {
        ask_free(a);
        return kei_fail(c->ctx, KE_ENOMEM, "no memory for a gRPC call");
    }
    kei_timer_in(&a->deadline, a->timeout_ms);
    if (!kei_timer_armed(&c->kick))
        kei_timer_in(&c->kick, 0);
    if (ret)
        *ret = a;
    return 0;
}

void kei_grpc_ask_cancel(struct kei_grpc_ask *a)
{
    if (!a)
        return;
    struct kei_grpc_client *c = a->c;
    if (a->stream)
        kei_h2_cancel(a->stream);
    ask_free(a);
    kei_grpc_link_poke(&c->wire);
}

int kei_grpc_client_new(struct kei_grpc_client **ret, struct ke_ctx *ctx,
                        const struct kei_grpc_client_config *conf)
{
    struct kei_grpc_client *c = kei_zalloc(kei_ctx_alloc(ctx), sizeof *c);
    bool ok = c != NULL;

    if (!ok)
        return kei_fail(ctx, KE_ENOMEM, "no memory for a gRPC client");
    c->ctx = ctx;
    c->c = *conf;
    kei_arena_init(&c->arena, kei_ctx_alloc(ctx), 0);
    kei_list_init(&c->asks);
    kei_timer_init(ctx, &c->kick, on_kick);
    kei_timer_init(ctx, &c->wire.pump, on_pump);
    c->wire.ctx = ctx;
    c->c.authority = kei_arena_strdup(&c->arena, conf->authority ? kei_str(conf->authority)
                                                                 : KEI_STR("localhost"));
    ok = c->c.authority != NULL;
    const char **strings[] = {&c->c.stream.host, &c->c.stream.unix_path, &c->c.stream.proxy_url};
    for (size_t i = 0; i < 3; i++) {
        if (*strings[i])
            *strings[i] = kei_arena_strdup(&c->arena, kei_str(*strings[i]));
    }
    ok = ok && !c->c.stream.host == !conf->stream.host &&
         !c->c.stream.unix_path == !conf->stream.unix_path &&
         !c->c.stream.proxy_url == !conf->stream.proxy_url;
    c->c.max_message = conf->max_message ? conf->max_message : MAX_MESSAGE;
    c->c.max_calls = conf->max_calls ? conf->max_calls : MAX_CALLS;
    if (!c->c.stream.connect_ms)
        c->c.stream.connect_ms = CONNECT_MS;
    c->c.stream.send_cap = SEND_CAP;
    if (!ok) {
        kei_grpc_client_free(c);
        return kei_fail(ctx, KE_ENOMEM, "no memory for a gRPC client");
    }
    *ret = c;
    return 0;
}

void kei_grpc_client_free(struct kei_grpc_client *c)
{
    if (!c || c->freed)
        return;
    c->freed = true;
    KEI_LIST_EACH_SAFE(l, next, &c->asks)
    ask_free(KEI_OF(l, struct kei_grpc_ask, link));
    kei_timer_fini(&c->kick);
    drop_wire(c);
    c->depth++;
    leave(c);
}
