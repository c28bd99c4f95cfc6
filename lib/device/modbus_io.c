/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing the properties of a Modbus device: neighbours are read in one request, and
 * one by one when the slave refuses that; writes go in order, each on its own. Loop thread.
 */
#include <stdio.h>

#include "device/modbus_priv.h"

#define TEXT_MAX 300

static struct kei_modbus_prop *prop_at(struct kei_modbus_dev *dev, uint16_t place)
{
    return &dev->props[dev->order[place]];
}

/* "slave 3 at BUS, holding register 7: why" */
static char *explain(struct kei_modbus_dev *dev, struct kei_arena *a, uint8_t function,
                     const struct kei_modbus_format *f, const char *why)
{
    struct kei_modbus_ask ask = {function, f->address, f->count, NULL};
    char place[64];

    kei_modbus_place(place, sizeof place, &ask);
    return kei_arena_printf(a, "slave %u at %s, %s: %s", dev->slave,
                            kei_modbus_bus_name(dev->line->bus), place, why);
}

/* ---- reading ---- */

/* Copies count bits from bit from on into to, packed from the lowest on. */
static void copy_bits(uint8_t *to, const uint8_t *bits, size_t from, size_t count)
{
    memset(to, 0, (count + 7) / 8);
    for (size_t i = 0; i < count; i++) {
        size_t at = from + i;
        to[i / 8] |= (uint8_t)((bits[at / 8] >> at % 8 & 1u) << i % 8);
    }
}

static void take_values(struct kei_modbus_dev *dev, struct ke_str data)
{
    for (uint16_t i = dev->first; i <= dev->last; i++) {
        struct kei_modbus_prop *p = prop_at(dev, i);
        size_t at = (size_t)p->f.address - dev->call.ask.address;
        if (!p->wanted)
            continue;
        p->status = 0;
        if (kei_modbus_is_bits((enum kei_modbus_table)p->f.table))
            copy_bits(dev->raw + p->at, (const uint8_t *)data.p, at, p->f.count);
        else
            memcpy(dev->raw + p->at, data.p + at * 2, p->f.count * 2u);
    }
}

/* Properties of the request that is under way. */
static uint32_t joined(struct kei_modbus_dev *dev)
{
    uint32_t n = 0;

    for (uint16_t i = dev->first; i <= dev->last; i++)
        n += prop_at(dev, i)->wanted;
    return n;
}

static void refused(struct kei_modbus_dev *dev, const struct kei_modbus_end *e)
{
    for (uint16_t i = dev->first; i <= dev->last; i++) {
        struct kei_modbus_prop *p = prop_at(dev, i);
        p->status = (int16_t)e->status;
        p->exception = e->exception;
    }
}

/* Makes the next request from dev->end on; false when all is read. */
static bool next_ask(struct kei_modbus_dev *dev, struct kei_modbus_ask *ask)
{
    uint16_t i = dev->end;

    while (i < dev->n && !prop_at(dev, i)->wanted)
        i++;
    if (i == dev->n)
        return false;
    struct kei_modbus_prop *p = prop_at(dev, i);
    bool bits = kei_modbus_is_bits((enum kei_modbus_table)p->f.table);
    uint32_t max = bits ? KEI_MODBUS_READ_BITS_MAX : KEI_MODBUS_READ_WORDS_MAX;
    uint32_t from = p->f.address, to = from + p->f.count;
    dev->first = dev->last = i;
    while (p->join == KEI_JOIN_FREELY && ++i < dev->n) {
        struct kei_modbus_prop *q = prop_at(dev, i);
        uint32_t end = (uint32_t)q->f.address + q->f.count;
        if (q->f.table != p->f.table || q->f.address > to + dev->gap)
            break;
        if (!q->wanted)
            continue;
        if (q->join != KEI_JOIN_FREELY || (end > to ? end : to) - from > max)
            break;
        to = end > to ? end : to;
        dev->last = i;
    }
    dev->end = (uint16_t)(dev->last + 1);
    *ask = (struct kei_modbus_ask){
        .function = kei_modbus_read_function((enum kei_modbus_table)p->f.table),
        .address = (uint16_t)from,
        .count = (uint16_t)(to - from),
    };
    return true;
}

static void on_read(struct kei_modbus_call *c, const struct kei_modbus_end *e);

/* The values of all that was wanted, in the order of their indexes. */
static void read_done(struct kei_modbus_dev *dev)
{
    struct kei_arena a;
    uint32_t n = 0;

    kei_arena_init(&a, dev->m->alloc, 0);
    for (uint32_t i = 0; i < dev->n; i++) {
        struct kei_modbus_prop *p = &dev->props[i];
        struct ke_error err = KE_ERROR_INIT;
        char why[80];
        if (p->join == KEI_JOIN_TESTING) /* refused together, not alone: tried again thrice */
            p->join = p->status == 0 && dev->splits < 3 ? KEI_JOIN_FREELY : KEI_JOIN_NEVER;
        if (!p->wanted && !p->told)
            continue;
        struct ke_device_value *v = &dev->m->values[n++];
        if (p->told) {
            *v = (struct ke_device_value){
                .size = sizeof *v, .property = i, .status = KE_EINVAL, .text = p->wrong};
            continue;
        }
        *v = (struct ke_device_value){.size = sizeof *v, .property = i, .status = p->status};
        if (p->status == 0)
            v->status = kei_modbus_value_get(&p->f, dev->raw + p->at, v, &err);
        if (v->status == 0)
            continue;
        snprintf(why, sizeof why, "%s (exception %u)", kei_modbus_exception_text(p->exception),
                 p->exception);
        v->text = explain(dev, &a, kei_modbus_read_function((enum kei_modbus_table)p->f.table),
                          &p->f, p->status < 0 ? why : err.text);
    }
    kei_modbus_complete(dev, 0, NULL, dev->m->values, n);
    kei_arena_free(&a);
}

static void read_more(struct kei_modbus_dev *dev)
{
    struct kei_modbus_ask ask;

    if (!next_ask(dev, &ask)) {
        read_done(dev);
        return;
    }
    int r = kei_modbus_ask(dev, &ask, false, on_read);
    if (r < 0)
        kei_modbus_complete(dev, r, ke_ctx_error(dev->m->ctx), NULL, 0);
}

static void on_read(struct kei_modbus_call *c, const struct kei_modbus_end *e)
{
    struct kei_modbus_dev *dev = KEI_OF(c, struct kei_modbus_dev, call);

    if (e->status == 0) {
        take_values(dev, e->data);
    } else if (kei_modbus_lost(e)) {
        kei_modbus_complete_lost(dev, e);
        return;
    } else if (joined(dev) == 1) {
        refused(dev, e);
    } else {
        /* A hole between them, one that the slave does not have, too many for it: each alone
         * shows which. */
        if (dev->splits < 255)
            dev->splits++;
        for (uint16_t i = dev->first; i <= dev->last; i++)
            prop_at(dev, i)->join = KEI_JOIN_TESTING;
        dev->gap = 0;
        dev->end = dev->first;
    }
    read_more(dev);
}

int kei_modbus_read(void *user, void *p, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct kei_modbus *m = user;
    struct kei_modbus_dev *dev = p;

    if (!dev->line)
        return kei_fail(m->ctx, KE_ESTATE, "the device is not open");
    for (uint32_t i = 0; i < dev->n; i++)
        dev->props[i].wanted = dev->props[i].told = false;
    for (uint32_t i = 0; i < n; i++) {
        if (properties[i] >= dev->n)
            return kei_fail(m->ctx, KE_EINVAL, "the device has no property %u", properties[i]);
        struct kei_modbus_prop *prop = &dev->props[properties[i]];
        prop->told = prop->wrong != NULL;
        prop->wanted = !prop->told;
    }
    dev->op = op;
    dev->end = 0;
    read_more(dev);
    return 0;
}

/* ---- writing ---- */

struct one_write {
    uint32_t property;
    int32_t status;
    const char *text; /* of the arena */
    bool on;          /* of a bit in a register */
    uint8_t *bytes;
};

struct kei_modbus_write {
    struct kei_arena arena; /* holds this, too */
    struct one_write *one;
    uint32_t n, at;
    bool looked; /* the register of a bit has been read */
};

void kei_modbus_write_free(struct kei_modbus_dev *dev)
{
    if (!dev->write)
        return;
    struct kei_arena a = dev->write->arena;
    dev->write = NULL;
    kei_arena_free(&a);
}

static void on_write(struct kei_modbus_call *c, const struct kei_modbus_end *e);

/* Tells those that were refused. */
static void write_done(struct kei_modbus_dev *dev)
{
    struct kei_modbus_write *w = dev->write;
    struct ke_device_value *v = kei_arena_array(&w->arena, w->n, sizeof *v);
    uint32_t n = 0;

    for (uint32_t i = 0; v && i < w->n; i++) {
        if (w->one[i].status == 0)
            continue;
        v[n++] = (struct ke_device_value){
            .size = sizeof *v,
            .property = w->one[i].property,
            .status = w->one[i].status,
            .text = w->one[i].text,
        };
    }
    struct kei_arena a = w->arena; /* the completion may lead to the next write */
    dev->write = NULL;
    kei_modbus_complete(dev, v ? 0 : KE_ENOMEM, v ? NULL : "out of memory for a write", v, n);
    kei_arena_free(&a);
}

static void write_failed(struct kei_modbus_dev *dev, struct one_write *one, int status,
                         uint8_t function, const char *why)
{
    one->status = status;
    one->text = explain(dev, &dev->write->arena, function, &dev->props[one->property].f, why);
}

static int write_ask(struct kei_modbus_dev *dev, const struct one_write *one,
                     struct kei_modbus_ask *ask)
{
    const struct kei_modbus_format *f = &dev->props[one->property].f;
    enum kei_modbus_table t = (enum kei_modbus_table)f->table;

    *ask = (struct kei_modbus_ask){
        .function = kei_modbus_write_function(t, dev->many_only ? 0 : f->count),
        .address = f->address,
        .count = f->count,
        .data = one->bytes,
    };
    if (f->raw == KEI_MODBUS_RAW_BIT && !dev->write->looked)
        ask->function = kei_modbus_read_function(t);
    return ask->function;
}

static void write_more(struct kei_modbus_dev *dev)
{
    struct kei_modbus_write *w = dev->write;
    struct kei_modbus_ask ask;

    for (; w->at < w->n; w->at++) {
        struct one_write *one = &w->one[w->at];
        if (one->status < 0)
            continue;
        write_ask(dev, one, &ask);
        int r = kei_modbus_ask(dev, &ask, true, on_write);
        if (r == 0)
            return;
        write_failed(dev, one, r, ask.function, ke_ctx_error(dev->m->ctx));
    }
    write_done(dev);
}

static void on_write(struct kei_modbus_call *c, const struct kei_modbus_end *e)
{
    struct kei_modbus_dev *dev = KEI_OF(c, struct kei_modbus_dev, call);
    struct kei_modbus_write *w = dev->write;
    struct one_write *one = &w->one[w->at];
    const struct kei_modbus_format *f = &dev->props[one->property].f;
    bool looked = f->raw == KEI_MODBUS_RAW_BIT && !w->looked;

    if (kei_modbus_lost(e)) {
        kei_modbus_write_free(dev);
        kei_modbus_complete_lost(dev, e);
        return;
    }
    if (e->exception == 1 && !looked && f->count == 1 && !dev->many_only) {
        dev->many_only = true; /* the functions for many do for one, too */
        write_more(dev);
        return;
    }
    if (e->status < 0) {
        write_failed(dev, one, e->status, c->ask.function, e->text);
    } else if (looked) {
        struct ke_device_value v = {.size = sizeof v, .kind = KE_DEVICE_KIND_BOOL, .i = one->on};
        memcpy(one->bytes, e->data.p, e->data.n);
        if (kei_modbus_value_put(f, &v, one->bytes, NULL) == 0) {
            w->looked = true;
            write_more(dev);
            return;
        }
    }
    w->looked = false;
    w->at++;
    write_more(dev);
}

/* Turns the value into what is sent, or says why that cannot be. */
static void prepare(struct kei_modbus_dev *dev, struct one_write *one,
                    const struct ke_device_value *v)
{
    const struct kei_modbus_prop *p = &dev->props[v->property];
    struct ke_error err = KE_ERROR_INIT;
    uint8_t bytes[KEI_MODBUS_VALUE_MAX] = {0};
    uint32_t max = kei_modbus_is_bits((enum kei_modbus_table)p->f.table)
                       ? KEI_MODBUS_WRITE_BITS_MAX
                       : KEI_MODBUS_WRITE_WORDS_MAX;
    uint8_t function = kei_modbus_write_function((enum kei_modbus_table)p->f.table, p->f.count);
    int r;

    one->property = v->property;
    if (p->wrong) {
        one->status = KE_EINVAL;
        one->text = p->wrong;
        return;
    }
    if (!p->writable) {
        r = kei_error(&err, KE_EACCES, "it cannot be written");
        function = kei_modbus_read_function((enum kei_modbus_table)p->f.table);
    } else if (p->f.count > max) {
        r = kei_error(&err, KE_ELIMIT, "one request writes up to %u", max);
    } else {
        r = kei_modbus_value_put(&p->f, v, bytes, &err);
    }
    if (r < 0) {
        write_failed(dev, one, r, function, err.text);
        return;
    }
    size_t n = kei_modbus_format_bytes(&p->f);
    one->bytes = kei_arena_alloc(&dev->write->arena, n);
    if (!one->bytes) {
        write_failed(dev, one, KE_ENOMEM, function, "out of memory");
        return;
    }
    memcpy(one->bytes, bytes, n);
    one->on = p->f.raw == KEI_MODBUS_RAW_BIT && (bytes[0] || bytes[1]);
}

int kei_modbus_write(void *user, void *p, uint64_t op, const struct ke_device_value *v, uint32_t n)
{
    struct kei_modbus *m = user;
    struct kei_modbus_dev *dev = p;
    struct kei_arena a;

    if (!dev->line)
        return kei_fail(m->ctx, KE_ESTATE, "the device is not open");
    kei_arena_init(&a, m->alloc, 0);
    struct kei_modbus_write *w = kei_arena_alloc(&a, sizeof *w);
    struct one_write *one = kei_arena_array(&a, n, sizeof *one);
    if (!w || !one) {
        kei_arena_free(&a);
        return kei_fail(m->ctx, KE_ENOMEM, "out of memory for a write of %u properties", n);
    }
    w->arena = a;
    w->one = one;
    w->n = n;
    dev->write = w;
    dev->op = op;
    for (uint32_t i = 0; i < n; i++) {
        const struct ke_device_value *value =
            (const struct ke_device_value *)((const char *)v + (size_t)i * v->size);
        if (value->property >= dev->n) {
            kei_modbus_write_free(dev);
            dev->op = 0;
            return kei_fail(m->ctx, KE_EINVAL, "the device has no property %u", value->property);
        }
        prepare(dev, &one[i], value);
    }
    write_more(dev);
    return 0;
}
