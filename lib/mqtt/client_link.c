/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See client_link.h. Owns the stream. A failure inside the client's callbacks is told after they
 * returned, so the user may not free the link from them.
 */
#include "mqtt/client_link.h"

#include <stdio.h>

#include "base/log.h"
#include "net/stream_priv.h"

#define CONNECT_MS 30000u
#define SEND_CAP ((size_t)256 << 20) /* the user bounds what he writes: inflight, QoS 0 */
#define TIMER_NONE (-1)

static void on_timer(struct kei_timer *t);

static size_t receive_cap(const struct kei_mqtt_link *l)
{
    uint32_t max = l->client.c.max_packet;
    return (max ? max : KEI_MQTT_MAX_PACKET) + (size_t)65536;
}

int kei_mqtt_link_init(struct kei_mqtt_link *l, struct ke_ctx *ctx,
                       const struct kei_mqtt_link_config *c, const struct kei_mqttc_config *client,
                       const struct kei_mqttc_ops *ops)
{
    memset(l, 0, sizeof *l);
    int r = kei_mqttc_init(&l->client, kei_ctx_alloc(ctx), client, ops);
    if (r < 0)
        return kei_fail(ctx, r, "out of memory for an MQTT client");
    l->ctx = ctx;
    l->c = *c;
    kei_backoff_init(&l->backoff, c->retry_min_ms, c->retry_max_ms);
    kei_timer_init(ctx, &l->timer, on_timer);
    return 0;
}

static void drop_stream(struct kei_mqtt_link *l)
{
    kei_stream_free(l->stream);
    l->stream = NULL;
    kei_defer_cancel(&l->flush);
    kei_mqttc_lost(&l->client);
}

static void fail(struct kei_mqtt_link *l, int status, const char *text)
{
    char copy[KE_ERROR_TEXT_MAX];
    bool was_up = kei_mqtt_link_up(l);
    snprintf(copy, sizeof copy, "%s", text);
    drop_stream(l);
    if (was_up)
        kei_backoff_reset(&l->backoff);
    int64_t pause = kei_backoff_next(&l->backoff, kei_ctx_random64(l->ctx));
    kei_timer_in(&l->timer, pause);
    l->c.lost(l->c.user, status, copy, pause);
}

static void schedule(struct kei_mqtt_link *l)
{
    int64_t next = TIMER_NONE;
    int r = kei_mqttc_tick(&l->client, ke_ctx_mono_ms(l->ctx), &next);
    if (r < 0) {
        fail(l, r, l->client.err.text);
        return;
    }
    if (next >= 0)
        kei_timer_at(&l->timer, next);
    if (l->client.out.n > 0)
        kei_mqtt_link_kick(l);
}

static void on_flush(struct kei_defer *d)
{
    struct kei_mqtt_link *l = KEI_OF(d, struct kei_mqtt_link, flush);
    struct ke_buf *out = &l->client.out;
    if (!l->stream)
        return;
    int r = kei_buf_ok(out) ? kei_stream_write(l->stream, out->p, out->n) : KE_ENOMEM;
    if (r < 0) {
        fail(l, r,
             r == KE_ENOMEM ? "out of memory for what goes to the server" : ke_ctx_error(l->ctx));
        return;
    }
    kei_buf_clear(out);
    if (out->cap > 65536) {
        ke_buf_free(out);
        kei_buf_init(out, kei_ctx_alloc(l->ctx));
    }
}

void kei_mqtt_link_kick(struct kei_mqtt_link *l)
{
    if (l->stream)
        kei_defer(l->ctx, &l->flush, on_flush);
}

/* ---- the stream ---- */

static void on_open(void *user)
{
    struct kei_mqtt_link *l = user;
    kei_mqttc_begin(&l->client, ke_ctx_mono_ms(l->ctx));
    kei_timer_in(&l->timer, CONNECT_MS);
    kei_mqtt_link_kick(l);
}

static size_t on_data(void *user, const char *p, size_t n)
{
    struct kei_mqtt_link *l = user;
    size_t used = 0;
    bool was_up = kei_mqtt_link_up(l);
    int r = kei_mqttc_input(&l->client, p, n, ke_ctx_mono_ms(l->ctx), &used);
    if (r < 0) {
        fail(l, r, l->client.err.text);
        return 0;
    }
    if (!was_up && kei_mqtt_link_up(l)) {
        kei_timer_stop(&l->timer);
        schedule(l);
    }
    if (l->client.out.n > 0)
        kei_mqtt_link_kick(l);
    return used;
}

static void on_closed(void *user, int status, const char *text)
{
    struct kei_mqtt_link *l = user;
    fail(l, status, text);
}

static const struct kei_stream_ops stream_ops = {
    .open = on_open, .data = on_data, .closed = on_closed};

static int dial_socket(struct kei_mqtt_link *l)
{
    struct kei_listener_config lc = {.receive_cap = receive_cap(l), .send_cap = SEND_CAP};
    int fd = -1;
    int r = l->c.socket(l->c.user, &fd);
    if (r == 0)
        r = kei_stream_accepted(&l->stream, l->ctx, fd, AF_UNIX, NULL, &lc, &stream_ops);
    if (r < 0)
        return r;
    kei_stream_set_ops(l->stream, &stream_ops, l);
    on_open(l);
    return 0;
}

static int dial_host(struct kei_mqtt_link *l)
{
    const struct kei_mqtt_host *h = &l->c.hosts[l->next_host++ % l->c.n_hosts];
    struct kei_stream_config sc = {
        .host = h->host,
        .port = h->port,
        .tls = l->c.tls,
        .connect_ms = CONNECT_MS,
        .dead_ms = l->client.c.keepalive ? l->client.c.keepalive * 1000u : 0,
        .receive_cap = receive_cap(l),
        .send_cap = SEND_CAP,
    };
    return kei_stream_connect(&l->stream, l->ctx, &sc, &stream_ops, l);
}

static void on_timer(struct kei_timer *t)
{
    struct kei_mqtt_link *l = KEI_OF(t, struct kei_mqtt_link, timer);
    if (!l->running)
        return;
    if (kei_mqtt_link_up(l)) {
        schedule(l);
    } else if (l->client.state == KEI_MQTTC_CONNECTING) {
        fail(l, KE_ETIMEDOUT, "the server did not answer CONNECT within 30 s");
    } else {
        int r = l->c.socket ? dial_socket(l) : dial_host(l);
        if (r < 0)
            fail(l, r, ke_ctx_error(l->ctx));
    }
}

/* ---- life ---- */

void kei_mqtt_link_start(struct kei_mqtt_link *l)
{
    if (l->running)
        return;
    l->running = true;
    kei_backoff_reset(&l->backoff);
    kei_timer_in(&l->timer, 0);
}

void kei_mqtt_link_stop(struct kei_mqtt_link *l)
{
    l->running = false;
    kei_timer_stop(&l->timer);
    if (l->stream && kei_mqtt_link_up(l)) {
        kei_mqttc_disconnect(&l->client);
        on_flush(&l->flush);
    }
    drop_stream(l);
}

void kei_mqtt_link_fini(struct kei_mqtt_link *l)
{
    if (!l->ctx)
        return;
    kei_mqtt_link_stop(l);
    kei_timer_fini(&l->timer);
    kei_mqttc_fini(&l->client);
    memset(l, 0, sizeof *l);
}

size_t kei_mqtt_link_queued(const struct kei_mqtt_link *l)
{
    return (l->stream ? kei_stream_queued(l->stream) : 0) + l->client.out.n;
}

void kei_mqtt_link_pause(struct kei_mqtt_link *l, bool paused)
{
    if (l->stream)
        kei_stream_pause(l->stream, paused);
}
