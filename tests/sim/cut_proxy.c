/* SPDX-License-Identifier: Apache-2.0 */
/* See cut_proxy.h. */
#include "sim/cut_proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/list.h"
#include "net/stream.h"

struct pair;

struct side {
    struct pair *pair;
    struct kei_stream *s;
    uint64_t left; /* bytes that may still go to this side */
};

struct pair {
    struct cut_proxy *p;
    struct side client, server;
    bool stalled, asking; /* asking: an HTTP proxy, before its CONNECT */
    struct kei_link link;
};

struct cut_proxy {
    struct ke_ctx *ctx;
    struct kei_listener *l;
    uint16_t to_port;
    uint64_t down, up;
    uint32_t n;
    const char *base64; /* NULL: no HTTP proxy */
    char asked[256];
    struct kei_link pairs;
};

static void pair_free(struct pair *x)
{
    kei_stream_free(x->client.s);
    kei_stream_free(x->server.s);
    kei_list_remove(&x->link);
    free(x);
}

static struct side *other(struct side *a)
{
    return a == &a->pair->client ? &a->pair->server : &a->pair->client;
}

/* The CONNECT of a client; bytes taken. */
static size_t take_connect(struct pair *x, const char *p, size_t n)
{
    static const char ok[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    static const char no[] = "HTTP/1.1 407 Proxy Authentication Required\r\n"
                             "Content-Length: 0\r\n\r\n";
    struct ke_str head = {p, n}, end = {"\r\n\r\n", 4};
    char auth[128];
    bool allowed;

    if (!kei_str_ends(head, end))
        return 0;
    snprintf(auth, sizeof auth, "Proxy-Authorization: Basic %s\r\n", x->p->base64);
    allowed = kei_str_has(head, kei_str(auth));
    if (sscanf(p, "CONNECT %255s ", x->p->asked) != 1)
        fail_msg("proxy: no CONNECT: %.*s", (int)n, p);
    x->asking = false;
    if (kei_stream_write(x->client.s, allowed ? ok : no, allowed ? sizeof ok - 1 : sizeof no - 1) <
        0)
        fail_msg("proxy: no answer");
    if (!allowed)
        kei_stream_finish(x->client.s);
    return n;
}

static size_t on_data(void *user, const char *p, size_t n)
{
    struct side *from = user, *to = other(from);
    size_t pass = n < to->left ? n : (size_t)to->left;

    if (from->pair->asking)
        return from == &from->pair->client ? take_connect(from->pair, p, n) : 0;
    if (from->pair->stalled)
        return 0;
    to->left -= pass;
    if (pass && kei_stream_write(to->s, p, pass) < 0) {
        pair_free(from->pair);
        return n;
    }
    /* What may pass goes out before the end. */
    if (to->left == 0)
        kei_stream_finish(to->s);
    return n;
}

static void on_closed(void *user, int status, const char *text)
{
    struct side *a = user;

    (void)status;
    (void)text;
    pair_free(a->pair);
}

static const struct kei_stream_ops ops = {.data = on_data, .closed = on_closed};

static void on_accept(void *user, struct kei_stream *s)
{
    struct cut_proxy *p = user;
    struct pair *x = calloc(1, sizeof *x);
    struct kei_stream_config c = {.host = "127.0.0.1", .port = p->to_port, .send_cap = 80u << 20};

    assert_non_null(x);
    p->n++;
    x->p = p;
    x->asking = p->base64 != NULL;
    x->client = (struct side){x, s, p->down};
    x->server = (struct side){x, NULL, p->up};
    kei_list_add_tail(&p->pairs, &x->link);
    if (p->down == 0) {
        pair_free(x);
        return;
    }
    if (kei_stream_connect(&x->server.s, p->ctx, &c, &ops, &x->server) < 0)
        fail_msg("proxy: %s", ke_ctx_error(p->ctx));
    kei_stream_set_ops(s, &ops, &x->client);
}

struct cut_proxy *cut_proxy_new(struct ke_ctx *ctx, uint16_t to_port)
{
    struct cut_proxy *p = calloc(1, sizeof *p);
    struct kei_listener_config c = {.host = "127.0.0.1", .send_cap = 80u << 20};

    assert_non_null(p);
    p->ctx = ctx;
    p->to_port = to_port;
    p->down = p->up = UINT64_MAX;
    kei_list_init(&p->pairs);
    if (kei_listen(&p->l, ctx, &c, on_accept, p) < 0)
        fail_msg("proxy: %s", ke_ctx_error(ctx));
    return p;
}

void cut_proxy_cut(struct cut_proxy *p)
{
    while (!kei_list_empty(&p->pairs))
        pair_free(KEI_OF(p->pairs.next, struct pair, link));
}

void cut_proxy_stall(struct cut_proxy *p, bool stalled)
{
    KEI_LIST_EACH(l, &p->pairs)
    {
        struct pair *x = KEI_OF(l, struct pair, link);

        x->stalled = stalled;
        kei_stream_pause(x->client.s, stalled);
        kei_stream_pause(x->server.s, stalled);
    }
}

void cut_proxy_free(struct cut_proxy *p)
{
    if (!p)
        return;
    cut_proxy_cut(p);
    kei_listener_free(p->l);
    free(p);
}

uint16_t cut_proxy_port(const struct cut_proxy *p)
{
    return kei_listener_port(p->l);
}

void cut_proxy_limit(struct cut_proxy *p, uint64_t down, uint64_t up)
{
    p->down = down;
    p->up = up;
}

void cut_proxy_http(struct cut_proxy *p, const char *base64)
{
    p->base64 = base64;
}

const char *cut_proxy_asked(const struct cut_proxy *p)
{
    return p->asked;
}

uint32_t cut_proxy_connections(const struct cut_proxy *p)
{
    return p->n;
}
