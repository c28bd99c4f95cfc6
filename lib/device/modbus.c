/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Modbus driver: devices, and the buses they share. A device has one operation and one request
 * at a time; the bus has the queue. The driver owns devices and buses. Loop thread.
 */
#include <stdio.h>

#include "base/log.h"
#include "device/modbus_priv.h"

#define TEXT_MAX 400

void ke_modbus_config_init(struct ke_modbus_config *c, size_t size)
{
    kei_abi_init(c, size);
}

/* ---- lines ---- */

static void on_reap(struct kei_timer *t)
{
    struct kei_modbus *m = KEI_OF(t, struct kei_modbus, reap);

    KEI_LIST_EACH_SAFE(l, tmp, &m->lines)
    {
        struct kei_modbus_line *line = KEI_OF(l, struct kei_modbus_line, link);
        if (line->users > 0)
            continue;
        kei_list_remove(&line->link);
        kei_modbus_bus_free(line->bus);
        kei_free(m->alloc, line);
    }
}

/* The line of that configuration, with one user more. */
static int get_line(struct kei_modbus *m, const struct kei_modbus_bus_config *c,
                    struct kei_modbus_line **ret)
{
    KEI_LIST_EACH(l, &m->lines)
    {
        struct kei_modbus_line *line = KEI_OF(l, struct kei_modbus_line, link);
        if (kei_modbus_bus_same(line->bus, c)) {
            line->users++;
            *ret = line;
            return 0;
        }
        if (c->serial.path && strcmp(kei_modbus_bus_name(line->bus), c->serial.path) == 0)
            return kei_fail(m->ctx, KE_EBUSY,
                            "serial port %s is in use by another device with other settings (baud "
                            "rate, bits, parity)",
                            c->serial.path);
    }
    struct kei_modbus_line *line = kei_zalloc(m->alloc, sizeof *line);
    if (!line)
        return kei_fail(m->ctx, KE_ENOMEM, "out of memory for a Modbus bus");
    int r = kei_modbus_bus_new(&line->bus, m->ctx, c);
    if (r < 0) {
        kei_free(m->alloc, line);
        return r;
    }
    line->users = 1;
    kei_list_add_tail(&m->lines, &line->link);
    *ret = line;
    return 0;
}

static void put_line(struct kei_modbus *m, struct kei_modbus_line *line)
{
    if (line && --line->users == 0)
        kei_timer_in(&m->reap, 0);
}

/* ---- operations ---- */

void kei_modbus_complete(struct kei_modbus_dev *dev, int status, const char *text,
                         const struct ke_device_value *v, uint32_t n)
{
    struct ke_device_result res = {.size = sizeof res, .text = text, .values = v, .n_values = n};
    uint64_t op = dev->op;

    dev->op = 0;
    int r = ke_device_complete(dev->m->d, op, status, &res);
    if (r < 0 && r != KE_ENOTFOUND) /* it will time out; nothing else can be done here */
        kei_log(dev->m->ctx, KE_LOG_WARN, "device", "the end of a Modbus request was refused: %s",
                ke_strerror(r));
}

bool kei_modbus_lost(const struct kei_modbus_end *e)
{
    if (e->status == 0)
        return false;
    return e->exception == 0 || e->exception == 10 || e->exception == 11;
}

/* The harness takes these for a loss, and others for a mistake of somebody. */
static int lost_code(int status)
{
    switch (status) {
    case KE_ECONN:
    case KE_ECLOSED:
    case KE_EIO:
    case KE_ETIMEDOUT:
    case KE_ENOMEM:
    case KE_ELIMIT:
        return status;
    case KE_EPROTO:
        return KE_EIO;
    default:
        return KE_ECONN;
    }
}

void kei_modbus_complete_lost(struct kei_modbus_dev *dev, const struct kei_modbus_end *e)
{
    const char *bus = dev->line ? kei_modbus_bus_name(dev->line->bus) : "";
    char text[TEXT_MAX], place[64];

    if (dev->call.ask.function) {
        kei_modbus_place(place, sizeof place, &dev->call.ask);
        snprintf(text, sizeof text, "slave %u at %s, %s: %s", dev->slave, bus, place, e->text);
    } else {
        snprintf(text, sizeof text, "slave %u at %s: %s", dev->slave, bus, e->text);
    }
    kei_modbus_complete(dev, lost_code(e->status), text, NULL, 0);
}

int kei_modbus_ask(struct kei_modbus_dev *dev, const struct kei_modbus_ask *ask, bool urgent,
                   kei_modbus_done_fn done)
{
    dev->call.ask = *ask;
    dev->call.done = done;
    dev->call.timeout_ms = dev->timeout_ms;
    dev->call.slave = dev->slave;
    dev->call.retries = dev->retries;
    dev->call.urgent = urgent;
    return kei_modbus_bus_call(dev->line->bus, &dev->call);
}

/* ---- open and close ---- */

static int by_place(const struct kei_modbus_format *a, const struct kei_modbus_format *b)
{
    if (a->table != b->table)
        return a->table < b->table ? -1 : 1;
    if (a->address != b->address)
        return a->address < b->address ? -1 : 1;
    return 0;
}

/* Insertion: devices have few properties, and mostly in order. */
static void sort_properties(struct kei_modbus_dev *dev)
{
    for (uint16_t i = 0; i < dev->n; i++) {
        uint16_t at = i;
        while (at > 0 && by_place(&dev->props[dev->order[at - 1]].f, &dev->props[i].f) > 0) {
            dev->order[at] = dev->order[at - 1];
            at--;
        }
        dev->order[at] = i;
    }
}

/* A property that cannot be is told so; the device is refused when it has no other. */
static int read_properties(struct kei_modbus_dev *dev, struct ke_error *err)
{
    size_t bytes = 0;
    uint32_t wrong = 0;
    int first = 0;

    for (uint32_t i = 0; i < dev->n; i++) {
        const struct ke_device_property *p = kei_modbus_property(dev->c, i);
        struct kei_modbus_prop *prop = &dev->props[i];
        struct ke_error why = KE_ERROR_INIT;
        int r = kei_modbus_format_read(&prop->f, p->visitor, p->visitor_len, p->type, &why);
        if (r < 0) {
            if (wrong++ == 0)
                first = kei_error(err, r, "property %s: %s", p->name, why.text);
            prop->f = (struct kei_modbus_format){0};
            prop->wrong = kei_strdup(dev->m->alloc, why.text);
            if (r == KE_ENOMEM || !prop->wrong)
                return kei_error(err, KE_ENOMEM, "out of memory for %u properties", dev->n);
            continue;
        }
        bool input = prop->f.table == KEI_MODBUS_DISCRETE || prop->f.table == KEI_MODBUS_INPUT;
        prop->writable = !input;
        prop->at = (uint32_t)bytes;
        bytes += kei_modbus_format_bytes(&prop->f);
    }
    if (wrong && wrong == dev->n)
        return first;
    dev->raw = kei_zalloc(dev->m->alloc, bytes ? bytes : 1);
    if (!dev->raw)
        return kei_error(err, KE_ENOMEM, "out of memory for %u properties", dev->n);
    sort_properties(dev);
    return 0;
}

/* Room for the values of the largest device, as reads must not fail for lack of it. */
static int reserve_values(struct kei_modbus *m, uint32_t n)
{
    if (n <= m->n_values)
        return 0;
    struct ke_device_value *v = kei_array_realloc(m->alloc, m->values, n, sizeof *v);
    if (!v)
        return KE_ENOMEM;
    m->values = v;
    m->n_values = n;
    return 0;
}

/* An answer of any kind, also an exception, shows that the slave is there. */
static void on_probe(struct kei_modbus_call *c, const struct kei_modbus_end *e)
{
    struct kei_modbus_dev *dev = KEI_OF(c, struct kei_modbus_dev, call);

    if (kei_modbus_lost(e))
        kei_modbus_complete_lost(dev, e);
    else
        kei_modbus_complete(dev, 0, NULL, NULL, 0);
}

static int probe(struct kei_modbus_dev *dev)
{
    struct kei_modbus_ask ask = {0};

    uint32_t i = 0;

    while (i < dev->n && dev->props[dev->order[i]].wrong)
        i++;
    if (i < dev->n) {
        const struct kei_modbus_format *f = &dev->props[dev->order[i]].f;
        ask.function = kei_modbus_read_function((enum kei_modbus_table)f->table);
        ask.address = f->address;
        ask.count = f->count;
    }
    return kei_modbus_ask(dev, &ask, false, on_probe);
}

static int begin(struct kei_modbus_dev *dev, struct ke_error *err)
{
    struct kei_modbus *m = dev->m;
    struct kei_modbus_conf conf;

    int r = kei_modbus_conf_read(&conf, dev->c->config, dev->c->config_len, &m->conf, err);
    if (r < 0)
        return r;
    dev->slave = conf.slave;
    dev->retries = conf.retries;
    dev->gap = conf.gap;
    dev->timeout_ms = conf.timeout_ms;
    /* what ends at a request says more than the operation's deadline would */
    if (dev->c->timeout_ms > 0 && dev->timeout_ms > dev->c->timeout_ms / 10 * 9)
        dev->timeout_ms = dev->c->timeout_ms / 10 * 9 + 1;
    if (dev->c->timeout_ms > 0 && conf.bus.connect_ms > dev->timeout_ms)
        conf.bus.connect_ms = dev->timeout_ms;
    r = read_properties(dev, err);
    if (r < 0)
        return r;
    if (reserve_values(m, dev->n) < 0)
        return kei_error(err, KE_ENOMEM, "out of memory for %u properties", dev->n);
    r = get_line(m, &conf.bus, &dev->line);
    if (r == 0)
        r = probe(dev);
    return r < 0 ? kei_error(err, r, "%s", ke_ctx_error(m->ctx)) : 0;
}

static void free_dev(struct kei_modbus_dev *dev)
{
    if (!dev)
        return;
    const struct ke_alloc *a = dev->m->alloc;

    kei_modbus_call_cancel(&dev->call);
    kei_modbus_write_free(dev);
    put_line(dev->m, dev->line);
    for (uint32_t i = 0; dev->props && i < dev->n; i++)
        kei_free(a, dev->props[i].wrong);
    kei_free(a, dev->props);
    kei_free(a, dev->order);
    kei_free(a, dev->raw);
    kei_free(a, dev);
}

static int modbus_open(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    struct kei_modbus *m = user;
    struct ke_error err = KE_ERROR_INIT;

    if (c->n_properties > UINT16_MAX)
        return kei_fail(m->ctx, KE_EINVAL, "%u properties are more than a Modbus device can have",
                        c->n_properties);
    struct kei_modbus_dev *dev = kei_zalloc(m->alloc, sizeof *dev);
    if (!dev)
        return kei_fail(m->ctx, KE_ENOMEM, "out of memory for Modbus device %s", c->name);
    dev->m = m;
    dev->c = c;
    dev->op = op;
    dev->n = (uint16_t)c->n_properties;
    dev->props = kei_zalloc(m->alloc, (dev->n + 1u) * sizeof *dev->props);
    dev->order = kei_zalloc(m->alloc, (dev->n + 1u) * sizeof *dev->order);
    if (!dev->props || !dev->order) {
        free_dev(dev);
        return kei_fail(m->ctx, KE_ENOMEM, "out of memory for Modbus device %s", c->name);
    }
    *ret_dev = dev;
    int r = begin(dev, &err);
    if (r < 0)
        kei_modbus_complete(dev, r, err.text, NULL, 0);
    return 0;
}

static int modbus_close(void *user, void *p, uint64_t op)
{
    struct kei_modbus *m = user;

    free_dev(p);
    int r = ke_device_complete(m->d, op, 0, NULL);
    return r == KE_ENOTFOUND ? 0 : r;
}

static int modbus_health(void *user, void *p, uint64_t op)
{
    struct kei_modbus *m = user;
    struct kei_modbus_dev *dev = p;

    if (!dev->line)
        return kei_fail(m->ctx, KE_ESTATE, "the device is not open");
    dev->op = op;
    return probe(dev);
}

/* ---- the driver ---- */

int kei_modbus_new(struct kei_modbus **ret, struct ke_ctx *ctx, const struct ke_modbus_config *c)
{
    struct ke_modbus_config conf = {.size = sizeof conf};
    const struct ke_alloc *a = kei_ctx_alloc(ctx);

    int r = c ? kei_abi_in(&conf, sizeof conf, c, KEI_SIZE_TO(struct ke_modbus_config, reserved),
                           "ke_modbus_config", kei_err(ctx))
              : 0;
    if (r < 0)
        return r;
    struct kei_modbus *m = kei_zalloc(a, sizeof *m);
    if (!m)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the Modbus driver");
    m->ctx = ctx;
    m->alloc = a;
    m->conf = conf;
    kei_list_init(&m->lines);
    kei_timer_init(ctx, &m->reap, on_reap);
    *ret = m;
    return 0;
}

void kei_modbus_free(struct kei_modbus *m)
{
    if (!m)
        return;
    on_reap(&m->reap);
    kei_timer_fini(&m->reap);
    kei_free(m->alloc, m->values);
    kei_free(m->alloc, m);
}

static void modbus_attach(void *user, struct ke_devices *d)
{
    struct kei_modbus *m = user;

    m->d = d;
}

static void modbus_detach(void *user)
{
    kei_modbus_free(user);
}

const struct ke_device_ops kei_modbus_ops = {
    .size = sizeof(struct ke_device_ops),
    .attach = modbus_attach,
    .detach = modbus_detach,
    .open = modbus_open,
    .close = modbus_close,
    .read = kei_modbus_read,
    .write = kei_modbus_write,
    .health = modbus_health,
};
