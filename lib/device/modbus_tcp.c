/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Modbus bus over TCP: one connection, as many requests at once as configured, answers by their
 * transaction number. Loop thread.
 */
#include <stdio.h>

#include "device/modbus_bus_priv.h"

#define DEAD_MS 10000
/* Requests in a row without any answer after which the connection counts as dead. */
#define SILENT_MAX 3

static void arm(struct kei_modbus_bus *b)
{
    int64_t due = INT64_MAX;

    for (size_t i = 0; i < b->conf.pipeline; i++) {
        if (b->slots[i].used && b->slots[i].due_ms < due)
            due = b->slots[i].due_ms;
    }
    if (due == INT64_MAX)
        kei_timer_stop(&b->timer);
    else
        kei_timer_at(&b->timer, due);
}

static struct kei_bus_slot *slot_of(struct kei_modbus_bus *b, uint16_t transaction)
{
    for (size_t i = 0; i < b->conf.pipeline; i++) {
        if (b->slots[i].used && b->slots[i].transaction == transaction)
            return &b->slots[i];
    }
    return NULL;
}

static void on_frame(struct kei_modbus_bus *b, const struct kei_modbus_frame *f)
{
    struct kei_bus_slot *s = slot_of(b, f->transaction);
    struct ke_error err = KE_ERROR_INIT;
    struct kei_modbus_end e = {0, "", 0, {NULL, 0}};

    kei_bus_alive(b, s ? s->slave : -1);
    if (!s)
        return; /* too late, its request has timed out */
    struct kei_modbus_call *c = s->call;
    *s = (struct kei_bus_slot){0};
    if (!c)
        return;
    e.status = kei_modbus_parse(&c->ask, f->pdu, &e.data, &e.exception, &err);
    e.text = err.text;
    kei_bus_end(c, &e);
}

/* Ends the connection. What was under way is told so, or asked once more: a peer that closes idle
 * connections may do so just when a request is on its way. */
static void lost(struct kei_modbus_bus *b, int status, const char *text)
{
    bool opened = b->state == KEI_BUS_UP, worked = b->answered > 0;
    struct ke_error why = KE_ERROR_INIT;

    kei_error(&why, status, "%s", text);
    kei_bus_tcp_down(b);
    for (size_t i = 0; i < b->conf.pipeline; i++) {
        struct kei_bus_slot *s = &b->slots[i];
        struct kei_modbus_call *c = s->call;
        s->used = false;
        if (c && worked && !c->stale && status != KE_EPROTO &&
            kei_modbus_is_read(c->ask.function)) {
            c->stale = true;
            s->call = NULL;
            kei_bus_again(b, c);
        }
    }
    for (size_t i = 0; i < b->conf.pipeline; i++) { /* a done function may cancel another */
        struct kei_modbus_call *c = b->slots[i].call;
        b->slots[i].call = NULL;
        if (c)
            kei_bus_fail(c, why.code, why.text);
    }
    if (!opened || !worked)
        kei_bus_refuse(b, why.code, why.text);
    else
        kei_bus_kick(b);
}

static size_t on_data(void *user, const char *p, size_t n)
{
    struct kei_modbus_bus *b = user;
    struct ke_error err = KE_ERROR_INIT;
    size_t at = 0;

    for (;;) {
        struct kei_modbus_frame f;
        size_t used;
        if (kei_mbap_decode(kei_strn(p + at, n - at), &f, &used, &err) < 0) {
            lost(b, err.code, err.text);
            return n;
        }
        if (used == 0)
            break;
        on_frame(b, &f);
        at += used;
    }
    arm(b);
    if (b->queued > 0)
        kei_bus_kick(b);
    return at;
}

static void on_open(void *user)
{
    struct kei_modbus_bus *b = user;

    b->state = KEI_BUS_UP;
    kei_bus_kick(b);
}

static void on_closed(void *user, int status, const char *text)
{
    struct kei_modbus_bus *b = user;
    char said[KE_ERROR_TEXT_MAX];

    if (b->state == KEI_BUS_UP)
        snprintf(said, sizeof said, "the connection was lost: %s", text);
    else
        snprintf(said, sizeof said, "%s", text);
    lost(b, status == KE_ECLOSED ? KE_ECONN : status, said);
}

static void connect_bus(struct kei_modbus_bus *b)
{
    static const struct kei_stream_ops ops = {
        .open = on_open,
        .data = on_data,
        .closed = on_closed,
    };
    struct kei_stream_config c = {
        .host = b->conf.host,
        .port = b->conf.port,
        .connect_ms = b->conf.connect_ms,
        .dead_ms = DEAD_MS,
        .receive_cap = 4096,
        .small_cap = 64, /* some requests to read */
        .send_cap = KEI_MODBUS_PIPELINE_MAX * KEI_MBAP_MAX * 2,
    };
    int r = kei_stream_connect(&b->stream, b->ctx, &c, &ops, b);

    if (r < 0) {
        kei_bus_refuse(b, r, ke_ctx_error(b->ctx));
        return;
    }
    b->state = KEI_BUS_CONNECTING;
    b->answered = b->silent = 0;
}

static int send_call(struct kei_modbus_bus *b, struct kei_bus_slot *s, struct kei_modbus_call *c)
{
    struct kei_modbus_pdu pdu;
    uint8_t frame[KEI_MBAP_MAX];

    int r = kei_modbus_build(&pdu, &c->ask, kei_err(b->ctx));
    if (r < 0)
        return r;
    uint16_t transaction = ++b->transaction;
    r = kei_stream_write(b->stream, frame, kei_mbap_encode(frame, transaction, c->slave, &pdu));
    if (r < 0)
        return r;
    *s = (struct kei_bus_slot){
        .call = c,
        .due_ms = ke_ctx_mono_ms(b->ctx) + c->timeout_ms,
        .transaction = transaction,
        .slave = c->slave,
        .function = c->ask.function,
        .used = true,
    };
    return 0;
}

void kei_bus_tcp_pump(struct kei_modbus_bus *b)
{
    if (b->state == KEI_BUS_DOWN)
        connect_bus(b);
    if (b->state != KEI_BUS_UP)
        return;
    size_t i = 0;
    while (i < b->conf.pipeline && b->queued > 0) {
        if (b->slots[i].used) {
            i++;
            continue;
        }
        struct kei_modbus_call *c = kei_bus_next(b);
        int r = c->ask.function ? send_call(b, &b->slots[i], c) : 0;
        if (r < 0 || c->ask.function == 0)
            kei_bus_fail(c, r, r < 0 ? ke_ctx_error(b->ctx) : "");
    }
    arm(b);
}

void kei_bus_tcp_timer(struct kei_modbus_bus *b)
{
    int64_t now = ke_ctx_mono_ms(b->ctx);
    char text[80];

    for (size_t i = 0; i < b->conf.pipeline; i++) {
        struct kei_bus_slot *s = &b->slots[i];
        if (!s->used || s->due_ms > now)
            continue;
        struct kei_modbus_call *c = s->call;
        if (c)
            kei_bus_missed(b, s->slave, c->timeout_ms);
        *s = (struct kei_bus_slot){0};
        b->silent++;
        if (!c)
            continue;
        snprintf(text, sizeof text, "there was no answer within %u ms", c->timeout_ms);
        kei_bus_fail(c, KE_ETIMEDOUT, text);
    }
    if (b->state == KEI_BUS_UP && b->silent >= SILENT_MAX) {
        snprintf(text, sizeof text, "the last %u requests had no answer", b->silent);
        lost(b, KE_ETIMEDOUT, text);
        return;
    }
    arm(b);
    if (b->queued > 0)
        kei_bus_kick(b);
}

void kei_bus_tcp_down(struct kei_modbus_bus *b)
{
    kei_stream_free(b->stream);
    b->stream = NULL;
    if (!b->conf.serial.path) {
        b->state = KEI_BUS_DOWN;
        kei_timer_stop(&b->timer);
    }
}
