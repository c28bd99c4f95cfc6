/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of a Modbus bus: writes go before reads, one after the other or as many at once as the
 * line may have. Owns its strings and the line; calls are their user's. Loop thread.
 */
#include "device/modbus_bus_priv.h"

#include <stdio.h>

#define RETRY_MIN_MS 250
#define RETRY_MAX_MS 5000
/* A slave that does not answer costs the others its timeout, each time. Those that answer go first,
 * and the others together have the line for one part in so many. */
#define SHARE 4

static bool is_serial(const struct kei_modbus_bus *b)
{
    return b->conf.serial.path != NULL;
}

static struct kei_modbus_bus *of_timer(struct kei_timer *t)
{
    return KEI_OF(t, struct kei_modbus_bus, timer);
}

static void on_timer(struct kei_timer *t)
{
    struct kei_modbus_bus *b = of_timer(t);

    if (is_serial(b))
        kei_bus_serial_timer(b);
    else
        kei_bus_tcp_timer(b);
}

/* Ends all that waits; what a done function asks anew is not part of this round. */
static void fail_queued(struct kei_modbus_bus *b)
{
    struct kei_modbus_call *c;

    for (uint32_t n = b->queued; n > 0 && (c = kei_bus_next(b)); n--)
        kei_bus_fail(c, b->why_status, b->why ? b->why : ke_strerror(b->why_status));
}

/* ---- slaves that do not answer ---- */

static bool has(const uint8_t *set, uint8_t slave)
{
    return set[slave / 8] >> slave % 8 & 1;
}

static void put(uint8_t *set, uint32_t *n, uint8_t slave, bool in)
{
    if (has(set, slave) == in)
        return;
    set[slave / 8] ^= (uint8_t)(1u << slave % 8);
    *n += in ? 1u : (uint32_t)-1;
}

void kei_bus_missed(struct kei_modbus_bus *b, uint8_t slave, uint32_t timeout_ms)
{
    put(b->good, &b->n_good, slave, false);
    put(b->bad, &b->n_bad, slave, true);
    b->probe_ms = ke_ctx_mono_ms(b->ctx) + (int64_t)timeout_ms * (SHARE - 1);
}

static bool is_bad(const struct kei_modbus_bus *b, const struct kei_modbus_call *c)
{
    return c->ask.function && has(b->bad, c->slave);
}

/* 0: of a slave that answers; 1: of one that was not asked yet; 2: any */
static struct kei_modbus_call *find(const struct kei_modbus_bus *b, int grade)
{
    const struct kei_link *lists[] = {&b->urgent, &b->queue};

    for (size_t i = 0; i < 2; i++) {
        KEI_LIST_EACH(l, lists[i])
        {
            struct kei_modbus_call *c = KEI_OF(l, struct kei_modbus_call, link);
            if (grade == 2 || !c->ask.function || has(b->good, c->slave) ||
                (grade == 1 && !has(b->bad, c->slave)))
                return c;
        }
    }
    return NULL;
}

static struct kei_modbus_call *find_bad(const struct kei_modbus_bus *b)
{
    const struct kei_link *lists[] = {&b->urgent, &b->queue};

    for (size_t i = 0; i < 2; i++) {
        KEI_LIST_EACH(l, lists[i])
        {
            if (is_bad(b, KEI_OF(l, struct kei_modbus_call, link)))
                return KEI_OF(l, struct kei_modbus_call, link);
        }
    }
    return NULL;
}

static void put_off(struct kei_modbus_bus *b)
{
    int64_t wait = b->probe_ms - ke_ctx_mono_ms(b->ctx);
    struct kei_modbus_call *c;
    char text[160];

    if (!b->n_bad || !b->n_good || wait <= 0)
        return;
    snprintf(text, sizeof text,
             "it did not answer, and the others on the bus go first; it may be asked in %lld ms",
             (long long)wait);
    for (uint32_t n = b->queued; n > 0 && (c = find_bad(b)); n--) {
        kei_list_remove(&c->link);
        b->queued--;
        kei_bus_fail(c, KE_ETIMEDOUT, text);
    }
}

static void on_pump(struct kei_defer *d)
{
    struct kei_modbus_bus *b = KEI_OF(d, struct kei_modbus_bus, pump);

    put_off(b);
    if (b->queued == 0)
        return;
    if (b->state == KEI_BUS_DOWN && ke_ctx_mono_ms(b->ctx) < b->hold_until_ms) {
        fail_queued(b);
        return;
    }
    if (is_serial(b))
        kei_bus_serial_pump(b);
    else
        kei_bus_tcp_pump(b);
}

void kei_bus_kick(struct kei_modbus_bus *b)
{
    kei_defer(b->ctx, &b->pump, on_pump);
}

static char *make_name(struct kei_modbus_bus *b, const struct kei_modbus_bus_config *c)
{
    char name[300];

    if (c->serial.path)
        return kei_strdup(b->alloc, c->serial.path);
    snprintf(name, sizeof name, strchr(c->host, ':') ? "[%s]:%u" : "%s:%u", c->host, c->port);
    return kei_strdup(b->alloc, name);
}

int kei_modbus_bus_new(struct kei_modbus_bus **ret, struct ke_ctx *ctx,
                       const struct kei_modbus_bus_config *c)
{
    const struct ke_alloc *a = kei_ctx_alloc(ctx);

    if (!c->serial.path && (!c->host || !c->host[0]))
        return kei_fail(ctx, KE_EINVAL, "the Modbus bus has neither an address nor a serial port");
    if (c->serial.path && kei_serial_check(&c->serial, kei_err(ctx)) < 0)
        return KE_EINVAL;
    struct kei_modbus_bus *b = kei_zalloc(a, sizeof *b);
    if (!b)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a Modbus bus");
    b->ctx = ctx;
    b->alloc = a;
    b->conf = *c;
    b->conf.host = NULL;
    b->conf.serial.path = NULL;
    kei_list_init(&b->urgent);
    kei_list_init(&b->queue);
    kei_backoff_init(&b->backoff, RETRY_MIN_MS, RETRY_MAX_MS);
    kei_timer_init(ctx, &b->timer, on_timer);
    b->name = make_name(b, c);
    char *path = kei_strdup(a, c->serial.path ? c->serial.path : c->host);
    if (c->serial.path)
        b->conf.serial.path = path;
    else
        b->conf.host = path;
    if (b->conf.pipeline < 1 || c->serial.path)
        b->conf.pipeline = 1;
    if (b->conf.pipeline > KEI_MODBUS_PIPELINE_MAX)
        b->conf.pipeline = KEI_MODBUS_PIPELINE_MAX;
    b->slots = kei_zalloc(a, b->conf.pipeline * sizeof *b->slots);
    if (!b->name || !path || !b->slots || (c->serial.path && kei_bus_serial_init(b) < 0)) {
        kei_modbus_bus_free(b);
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a Modbus bus");
    }
    *ret = b;
    return 0;
}

static void forget(struct kei_modbus_call *c)
{
    kei_list_remove(&c->link);
    c->bus = NULL;
}

void kei_modbus_bus_free(struct kei_modbus_bus *b)
{
    struct kei_modbus_call *c;

    if (!b)
        return;
    kei_defer_cancel(&b->pump);
    kei_timer_fini(&b->timer);
    kei_bus_tcp_down(b);
    kei_bus_serial_down(b);
    for (size_t i = 0; b->slots && i < b->conf.pipeline; i++) {
        if (b->slots[i].call)
            forget(b->slots[i].call);
    }
    while ((c = kei_bus_next(b)))
        forget(c);
    kei_free(b->alloc, (void *)(uintptr_t)b->conf.host);
    kei_free(b->alloc, (void *)(uintptr_t)b->conf.serial.path);
    kei_free(b->alloc, (void *)(uintptr_t)b->name);
    kei_free(b->alloc, b->slots);
    kei_free(b->alloc, b->rtu);
    kei_free(b->alloc, b->why);
    kei_free(b->alloc, b);
}

const char *kei_modbus_bus_name(const struct kei_modbus_bus *b)
{
    return b->name;
}

bool kei_modbus_bus_same(const struct kei_modbus_bus *b, const struct kei_modbus_bus_config *c)
{
    const struct kei_serial_config *x = &b->conf.serial, *y = &c->serial;

    if (!x->path != !y->path)
        return false;
    if (!x->path)
        return strcmp(b->conf.host, c->host) == 0 && b->conf.port == c->port;
    return strcmp(x->path, y->path) == 0 && x->baud == y->baud && x->data_bits == y->data_bits &&
           x->stop_bits == y->stop_bits && x->parity == y->parity && x->rs485 == y->rs485;
}

int kei_modbus_bus_call(struct kei_modbus_bus *b, struct kei_modbus_call *c)
{
    struct kei_modbus_pdu pdu;

    int r = c->ask.function ? kei_modbus_build(&pdu, &c->ask, kei_err(b->ctx)) : 0;
    if (r < 0)
        return r;
    if (is_serial(b) && c->slave == 0)
        return kei_fail(b->ctx, KE_EINVAL,
                        "slave 0 of a serial line is all slaves at once: none of them answers");
    if (b->queued >= KEI_MODBUS_QUEUE_MAX)
        return kei_fail(b->ctx, KE_ELIMIT, "%u requests wait for Modbus bus %s already, the limit",
                        b->queued, b->name);
    c->bus = b;
    c->stale = false;
    kei_list_add_tail(c->urgent ? &b->urgent : &b->queue, &c->link);
    b->queued++;
    kei_bus_kick(b);
    return 0;
}

void kei_modbus_call_cancel(struct kei_modbus_call *c)
{
    struct kei_modbus_bus *b = c->bus;

    if (!b)
        return;
    if (kei_list_linked(&c->link))
        b->queued--;
    for (size_t i = 0; i < b->conf.pipeline; i++) {
        if (b->slots[i].call == c)
            b->slots[i].call = NULL; /* the answer is still to come, and must not be another's */
    }
    forget(c);
}

struct kei_modbus_call *kei_bus_next(struct kei_modbus_bus *b)
{
    struct kei_modbus_call *c = NULL;

    for (int grade = b->n_bad && b->n_good ? 0 : 2; !c && grade <= 2; grade++)
        c = find(b, grade);
    if (!c)
        return NULL;
    kei_list_remove(&c->link);
    b->queued--;
    return c;
}

void kei_bus_again(struct kei_modbus_bus *b, struct kei_modbus_call *c)
{
    struct kei_link *head = c->urgent ? &b->urgent : &b->queue;

    kei_list_add_tail(head->next, &c->link); /* before the first */
    b->queued++;
    kei_bus_kick(b);
}

void kei_bus_end(struct kei_modbus_call *c, const struct kei_modbus_end *e)
{
    c->bus = NULL;
    c->done(c, e);
}

void kei_bus_fail(struct kei_modbus_call *c, int status, const char *text)
{
    struct kei_modbus_end e = {status, text, 0, {NULL, 0}};

    kei_bus_end(c, &e);
}

void kei_bus_refuse(struct kei_modbus_bus *b, int status, const char *text)
{
    char *why = kei_strdup(b->alloc, text); /* text may be the one that is kept */
    kei_free(b->alloc, b->why);
    b->why = why;
    b->why_status = status;
    b->hold_until_ms =
        ke_ctx_mono_ms(b->ctx) + kei_backoff_next(&b->backoff, kei_ctx_random64(b->ctx));
    fail_queued(b);
}

void kei_bus_alive(struct kei_modbus_bus *b, int slave)
{
    if (slave >= 0) {
        if (!b->n_good) /* the line was dead: the others may be well, too */
            b->probe_ms = 0;
        put(b->good, &b->n_good, (uint8_t)slave, true);
        put(b->bad, &b->n_bad, (uint8_t)slave, false);
    }
    b->answered++;
    b->silent = 0;
    kei_backoff_reset(&b->backoff);
}
