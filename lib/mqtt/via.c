/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT over TLS and over WebSocket: bytes come from a stream of lib/net and go into it. WebSocket:
 * subprotocol "mqtt", binary frames, packets may span frames as they like. Loop thread.
 */
#include "mqtt/via.h"

#include "net/addr.h"
#include "net/http1.h"
#include "net/ws_priv.h"

#include <stdio.h>

#define HEAD_MAX 8192 /* of an upgrade request */
#define FRAME_OUT (16 * 1024)

struct mq_via {
    struct kei_stream *stream;
    struct kei_ws_codec *ws; /* NULL: plain MQTT, or the upgrade is not done */
    bool upgrade;            /* waits for the request */
    bool paused;
    bool gone; /* the stream told that it is closed */
};

/* ---- WebSocket ---- */

static int on_message(void *user, const char *p, size_t n)
{
    struct mq_conn *c = user;

    if (c->state == MQ_DEAD || n == 0)
        return c->state == MQ_DEAD ? KE_ECLOSED : 0;
    if (c->rx_n == 0) {
        kei_mq_take(c, (const uint8_t *)p, n);
        return c->state == MQ_DEAD ? KE_ECLOSED : 0;
    }
    if (c->rx_n + n > (size_t)c->m->lim.packet + 65536)
        return KE_ELIMIT;
    uint8_t *q = kei_realloc(c->m->alloc, c->rx, c->rx_n + n);
    if (!q)
        return KE_ENOMEM;
    memcpy(q + c->rx_n, p, n);
    c->rx = q;
    c->rx_n += (uint32_t)n;
    c->rx_cap = c->rx_n;
    kei_mq_conn_more(c);
    return c->state == MQ_DEAD ? KE_ECLOSED : 0;
}

static int on_skipped(void *user, uint64_t n, const char *head, size_t head_n)
{
    (void)user, (void)n, (void)head, (void)head_n;
    return KE_ELIMIT;
}

static int put_stream(void *user, const void *p, size_t n)
{
    struct mq_via *v = user;

    return kei_stream_write(v->stream, p, n);
}

static int on_control(void *user, enum kei_ws_opcode op, const char *p, size_t n)
{
    struct mq_conn *c = user;
    static const uint8_t none[4];

    if (op == KEI_WS_PONG)
        return 0;
    int r = kei_ws_encode(c->via->ws, op == KEI_WS_PING ? KEI_WS_PONG : KEI_WS_CLOSE, none, p, n,
                          put_stream, c->via, NULL);
    return op == KEI_WS_CLOSE ? KE_ECLOSED : r;
}

static const struct kei_ws_events ws_events = {on_message, on_skipped, on_control};

static bool token_in(struct ke_str list, const char *token)
{
    struct ke_str rest = list;

    while (rest.p) {
        struct ke_str one = kei_str_trim(kei_str_cut(rest, ',', &rest));
        if (kei_str_ieq(one, kei_str(token)))
            return true;
    }
    return false;
}

static int answer_upgrade(struct mq_conn *c, const struct kei_http_head *h, struct ke_error *err)
{
    struct ke_buf b;
    struct ke_str offered = kei_http_header(h, "Sec-WebSocket-Protocol");
    const char *chosen = token_in(offered, "mqtt")       ? "mqtt"
                         : token_in(offered, "mqttv3.1") ? "mqttv3.1"
                                                         : NULL;

    kei_buf_init(&b, c->m->alloc);
    int r = kei_ws_server_handshake(h, &b, err);
    if (r == 0 && !chosen)
        r = kei_error(err, KE_EPROTO, "the client did not offer the subprotocol mqtt");
    if (r == 0) {
        b.n -= 2; /* the empty line at the end */
        kei_buf_addf(&b, "Sec-WebSocket-Protocol: %s\r\n\r\n", chosen);
        r = kei_buf_ok(&b) ? kei_stream_write(c->via->stream, b.p, b.n) : KE_ENOMEM;
    } else {
        static const char no[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
                                 "Content-Length: 0\r\n\r\n";
        if (kei_stream_write(c->via->stream, no, sizeof no - 1) < 0)
            r = KE_ENOMEM;
    }
    ke_buf_free(&b);
    return r;
}

/* The request of an upgrade; 0 while it is not whole. */
static size_t upgrade(struct mq_conn *c, const char *p, size_t n)
{
    struct mq_via *v = c->via;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_http_head h;
    size_t used = 0;
    int r = kei_http_parse_request(&h, p, n, HEAD_MAX, &used, &err);

    if (r == 0 && used == 0)
        return 0;
    if (r == 0)
        r = answer_upgrade(c, &h, &err);
    if (r == 0) {
        v->ws = kei_zalloc(c->m->alloc, sizeof *v->ws);
        if (!v->ws)
            r = kei_error(&err, KE_ENOMEM, "no memory for a WebSocket");
    }
    if (r < 0) {
        kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "%s", err.text);
        return n;
    }
    v->upgrade = false;
    kei_ws_codec_init(v->ws, c->m->alloc, true, c->m->lim.packet, &ws_events, c);
    v->ws->binary_only = true;
    return used;
}

/* ---- the stream ---- */

static size_t on_data(void *user, const char *p, size_t n)
{
    struct mq_conn *c = user;
    struct mq_via *v = c->via;
    struct ke_error err = KE_ERROR_INIT;
    size_t used = 0;

    mq_now(c->m);
    if (c->state == MQ_DEAD || c->state == MQ_CLOSING)
        return n;
    c->m->st.bytes_in += n;
    c->heard_ms = c->m->now;
    if (v->upgrade) {
        used = upgrade(c, p, n);
        c->m->st.bytes_in -= n - used;
        if (v->upgrade || c->state != MQ_NEW || used == n)
            return used;
        p += used;
        n -= used;
    }
    if (v->ws) {
        int r = kei_ws_feed(v->ws, p, n, &err);
        if (r < 0 && c->state != MQ_DEAD)
            kei_mq_conn_lost(c, err.text[0] ? err.text : "the client closed the WebSocket");
        return used + n;
    }
    if (c->rx_n) {
        if (on_message(c, p, n) < 0 && c->state != MQ_DEAD)
            kei_mq_conn_lost(c, "no memory for what it sent");
    } else {
        kei_mq_take(c, (const uint8_t *)p, n);
    }
    kei_mq_dirty(c);
    return used + n;
}

static void on_drained(void *user)
{
    struct mq_conn *c = user;

    mq_now(c->m);
    c->moved_ms = c->m->now;
    kei_mq_dirty(c);
}

static void on_closed(void *user, int status, const char *text)
{
    struct mq_conn *c = user;

    mq_now(c->m);
    c->via->gone = true;
    kei_mq_conn_lost(c, status == KE_ECLOSED ? "the client closed the connection" : text);
}

static const struct kei_stream_ops ops = {
    .data = on_data, .drained = on_drained, .closed = on_closed};

void kei_mq_via_accept(void *user, struct kei_stream *s)
{
    struct mq_listener *l = user;
    struct mq_conn *c = kei_mq_admit(l);
    struct mq_via *v = c ? kei_zalloc(l->m->alloc, sizeof *v) : NULL;

    if (!v) {
        if (c)
            kei_mq_conn_free(c);
        kei_stream_free(s);
        return;
    }
    v->stream = s;
    v->upgrade = l->kind == KE_MQTT_WS || l->kind == KE_MQTT_WSS;
    c->via = v;
    kei_stream_set_ops(s, &ops, c);
}

/* As much as the stream takes at once, so that its queue stays small. */
static int send_frame(struct mq_via *v, const uint8_t *p, size_t n)
{
    static const uint8_t none[4];

    return kei_ws_encode(v->ws, KEI_WS_BINARY, none, (const char *)p, n, put_stream, v, NULL);
}

/*
 * The first packet, in a WebSocket frame of its own: paho-mqtt-c takes one packet per frame only.
 * Its head is in one chunk; the payload may be in the next.
 */
static int send_packet(struct mq_conn *c, size_t *ret_n)
{
    struct mq_chunk *k = c->out.head;
    struct kei_mqtt_frame f;
    size_t here = k->to - k->from;

    if (kei_mqtt_frame(k->p + k->from, here, &f) != 1)
        return KE_EPROTO;
    *ret_n = f.head + f.length;
    if (*ret_n <= here)
        return send_frame(c->via, k->p + k->from, *ret_n);
    uint8_t *whole = kei_alloc(c->m->alloc, *ret_n);
    size_t at = 0;
    if (!whole)
        return KE_ENOMEM;
    for (; k && at < *ret_n; k = k->next) {
        size_t n = k->to - k->from;
        n = n < *ret_n - at ? n : *ret_n - at;
        memcpy(whole + at, k->p + k->from, n);
        at += n;
    }
    int r = at == *ret_n ? send_frame(c->via, whole, at) : KE_EPROTO;
    kei_free(c->m->alloc, whole);
    return r;
}

void kei_mq_via_flush(struct mq_conn *c)
{
    struct mq_via *v = c->via;

    while (c->out.n && kei_stream_queued(v->stream) < FRAME_OUT * 4) {
        struct mq_chunk *k = c->out.head;
        size_t n = k->to - k->from;
        int r = 0;
        if (n && v->ws)
            r = send_packet(c, &n);
        else if (n)
            r = kei_stream_write(v->stream, k->p + k->from, n);
        if (r < 0) {
            kei_mq_conn_lost(c, "the connection was lost");
            return;
        }
        c->m->st.bytes_out += n;
        c->moved_ms = c->m->now;
        kei_mq_out_drop(c->m, &c->out, n);
        c->m->wake_again = true;
    }
}

void kei_mq_via_pause(struct mq_conn *c, bool paused)
{
    struct mq_via *v = c->via;

    if (v->paused == paused)
        return;
    v->paused = paused;
    kei_stream_pause(v->stream, paused);
}

/* ---- the last bytes: they still leave, if the other end takes them ---- */

struct mq_linger {
    struct ke_mqtt *m;
    struct kei_stream *stream;
    struct kei_link link;
};

static void linger_free(struct mq_linger *g)
{
    kei_list_remove(&g->link);
    kei_stream_free(g->stream);
    kei_free(g->m->alloc, g);
}

static void last_closed(void *user, int status, const char *text)
{
    (void)status, (void)text;
    linger_free(user);
}

static size_t last_data(void *user, const char *p, size_t n)
{
    (void)user, (void)p;
    return n;
}

static const struct kei_stream_ops last_ops = {.data = last_data, .closed = last_closed};

static bool linger(struct ke_mqtt *m, struct kei_stream *s)
{
    struct mq_linger *g = kei_zalloc(m->alloc, sizeof *g);

    if (!g)
        return false;
    g->m = m;
    g->stream = s;
    kei_list_add_tail(&m->lingers, &g->link);
    kei_stream_set_ops(s, &last_ops, g);
    kei_stream_finish(s);
    m->wake_again = true;
    return true;
}

void kei_mq_via_fini(struct ke_mqtt *m)
{
    while (!kei_list_empty(&m->lingers))
        linger_free(KEI_OF(m->lingers.next, struct mq_linger, link));
}

void kei_mq_via_end(struct mq_conn *c)
{
    struct mq_via *v = c->via;

    if (!v)
        return;
    c->via = NULL;
    if (v->gone || !linger(c->m, v->stream))
        kei_stream_free(v->stream);
    if (v->ws)
        kei_ws_codec_fini(v->ws);
    kei_free(c->m->alloc, v->ws);
    kei_free(c->m->alloc, v);
}

void kei_mq_via_peer(struct mq_conn *c, char *out)
{
    snprintf(out, KEI_ADDR_TEXT, "%s", kei_stream_peer_name(c->via->stream));
}

int kei_mq_via_cert(struct mq_conn *c, struct ke_buf *der)
{
    if (!c->via || !c->l || (c->l->kind != KE_MQTT_TLS && c->l->kind != KE_MQTT_WSS))
        return KE_ENOTFOUND;
    return kei_stream_peer_cert(c->via->stream, der);
}
