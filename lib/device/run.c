/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a device: opened, subscribed, read, written, closed, opened again. One state machine;
 * a device is only looked at from drain, so no call into a driver is made from within another one.
 * Loop thread.
 */
#include "device/devices_priv.h"

#include <stdarg.h>
#include <stdio.h>

#define DRAIN_STEPS 4096u
#define DRAIN_MS 20

/* ---- errors ---- */

static char *format(const struct ke_alloc *a, const char *fmt, va_list ap)
{
    char text[KE_ERROR_TEXT_MAX];

    vsnprintf(text, sizeof text, fmt, ap);
    for (char *p = text; *p; p++)
        *p = (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p;
    return kei_strdup(a, text);
}

/* Without memory the older text stays. */
void kei_dv_error(struct dev *dev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *s = format(dev->d->alloc, fmt, ap);
    va_end(ap);
    dev->error_ms = ke_ctx_real_ms(dev->d->ctx);
    if (!s)
        return;
    if (!dev->error || strcmp(s, dev->error) != 0)
        kei_log(dev->d->ctx, KE_LOG_INFO, "device", "%s: %s", dev->key, s);
    kei_free(dev->d->alloc, dev->error);
    dev->error = s;
}

void kei_dv_prop_error(struct ke_devices *d, struct prop *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *s = format(d->alloc, fmt, ap);
    va_end(ap);
    p->failures++;
    if (!s)
        return;
    kei_free(d->alloc, p->error);
    p->error = s;
}

static void prop_well(struct ke_devices *d, struct prop *p)
{
    if (!p->error || (p->flags & (PROP_WRITE_ERROR | PROP_TWIN_ERROR)))
        return;
    kei_free(d->alloc, p->error);
    p->error = NULL;
}

/* Whether what is desired can be written at all, said before anybody tries. */
void kei_dv_desired_check(struct ke_devices *d, struct prop *p)
{
    struct kei_val val = {.kind = KE_DEVICE_KIND_NONE};
    struct ke_error err = KE_ERROR_INIT;

    if (p->flags & PROP_BAD)
        return;
    if (p->flags & PROP_TWIN_ERROR)
        p->report_at = 0; /* it was the former value, perhaps */
    if (p->flags & PROP_WRITE_ERROR) { /* the same */
        p->flags &= (uint16_t)~PROP_WRITE_ERROR;
        prop_well(d, p);
    }
    if (!p->desired)
        return;
    int r = p->flags & PROP_WRITE
                ? kei_val_parse(&val, (enum kei_prop_type)p->type, kei_str(p->desired), d->alloc,
                                &err)
                : kei_error(&err, KE_EROFS, "the device model says ReadOnly");
    if (r == 0)
        r = kei_val_limits(&val, p->def, &err);
    kei_val_free(&val, d->alloc);
    if (r == 0)
        return;
    p->flags |= PROP_WRITE_ERROR;
    kei_dv_prop_error(d, p, "%.64s could not be written: %s", p->desired, err.text);
    p->failures--; /* nothing was tried */
}

/* ---- looking at devices ---- */

void kei_dv_kick(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    if (!kei_list_linked(&dev->ready))
        kei_list_add_tail(&d->ready, &dev->ready);
    if (!d->draining && !kei_timer_armed(&d->go_on))
        kei_defer(d->ctx, &d->defer, kei_dv_drain);
}

void kei_dv_go_on(struct kei_timer *t)
{
    kei_dv_drain(&KEI_OF(t, struct ke_devices, go_on)->defer);
}

void kei_dv_on_timer(struct kei_timer *t)
{
    kei_dv_kick(KEI_OF(t, struct dev, timer));
}

/* Whether this status says that the device is not there any more. */
static bool is_lost(int status)
{
    return status == KE_ECONN || status == KE_ECLOSED || status == KE_EIO || status == KE_ETIMEDOUT;
}

static void go_offline(struct dev *dev)
{
    dev->state_want = STATE_OFFLINE;
    dev->online_ms = 0;
    dev->state = KE_DEVICE_OFFLINE;
}

static void pause_before_open(struct dev *dev, int64_t now)
{
    dev->retry_at = now + kei_backoff_next(&dev->backoff, kei_ctx_random64(dev->d->ctx));
}

/* ---- values ---- */

static int64_t cycle_phase(const struct image *img, const struct prop *p, int64_t now)
{
    int64_t c = p->collect_ms, past = (now - (int64_t)(img->phase % p->collect_ms)) % c;

    return now + c - (past < 0 ? past + c : past);
}

static void take_value(struct dev *dev, uint32_t i, const struct ke_device_value *v)
{
    struct ke_devices *d = dev->d;
    struct prop *p = &dev->img->props[i];
    struct ke_error err = KE_ERROR_INIT;
    struct kei_val val = {.kind = KE_DEVICE_KIND_NONE};
    int r = v->status;

    if (r < 0)
        kei_error(&err, r, "%s", v->text ? v->text : ke_strerror(r));
    else
        r = kei_val_from_raw(&val, (enum kei_prop_type)p->type, p->tune, v, d->alloc, &err);
    if (r < 0) {
        kei_dv_prop_error(d, p, "%s", err.text);
        return;
    }
    p->reads++;
    if (kei_val_limits(&val, p->def, &err) < 0 && !(p->flags & PROP_WRITE_ERROR))
        kei_dv_prop_error(d, p, "%s", err.text); /* told all the same */
    else
        prop_well(d, p);
    bool changed = kei_val_changed(&p->sent, &val, p->tune ? p->tune->dead_band : 0);
    kei_val_free(&p->cur, d->alloc);
    p->cur = val;
    p->reported_ms = v->when_ms > 0 ? v->when_ms : ke_ctx_real_ms(d->ctx);
    if ((changed || (d->c.flags & KE_DEVICES_REPORT_ALWAYS)) && (p->flags & PROP_REPORT))
        p->flags |= PROP_DIRTY;
    kei_dv_data_value(dev, i);
}

/* The read after a write: does the device have what was desired? */
static void check_written(struct dev *dev, uint32_t i)
{
    struct ke_devices *d = dev->d;
    struct prop *p = &dev->img->props[i];
    struct kei_val want = {.kind = KE_DEVICE_KIND_NONE};
    enum kei_prop_type type = (enum kei_prop_type)p->type;
    double band = p->tune ? p->tune->dead_band : 0;

    p->flags &= (uint16_t)~PROP_WROTE;
    if (p->error && !(p->flags & PROP_TWIN_ERROR)) {
        kei_dv_sets_done(dev, i, KE_EIO, p->error);
        return;
    }
    if (p->tune && p->tune->scale != 1) /* what a register cannot hold */
        band += (p->tune->scale < 0 ? -p->tune->scale : p->tune->scale) / 2;
    if (p->desired && kei_val_parse(&want, type, kei_str(p->desired), d->alloc, NULL) == 0 &&
        kei_val_changed(&want, &p->cur, band)) {
        kei_buf_clear(&d->buf);
        kei_val_text(&d->buf, type, &p->cur);
        p->flags |= PROP_WRITE_ERROR;
        kei_dv_prop_error(d, p, "%.64s was written, %.*s was read back", p->desired,
                          d->buf.n > 64 ? 64 : (int)d->buf.n, d->buf.p ? d->buf.p : "");
        kei_dv_sets_done(dev, i, KE_ECONFLICT, p->error);
    } else {
        kei_dv_sets_done(dev, i, 0, NULL);
    }
    kei_val_free(&want, d->alloc);
}

void kei_dv_told(struct dev *dev, const struct ke_device_value *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = v[i].property;
        if (k < dev->img->n && !(dev->img->props[k].flags & PROP_BAD))
            take_value(dev, k, &v[i]);
    }
    kei_dv_data_batch(dev, ke_ctx_real_ms(dev->d->ctx));
    kei_dv_kick(dev);
}

void kei_dv_lost(struct dev *dev, int status, const char *text)
{
    dev->failures++;
    dev->d->stats.failures++;
    kei_dv_error(dev, "%s", text && *text ? text : ke_strerror(status));
    dev->lost = true;
    kei_dv_kick(dev);
}

/* ---- ends of operations ---- */

static void end_read(struct dev *dev, int status, const struct ke_device_value *v, uint32_t n)
{
    struct image *img = dev->img;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = v[i].property;
        if (k >= img->n || !(img->props[k].flags & PROP_IN_OP))
            continue; /* nobody asked */
        img->props[k].flags &= (uint16_t)~PROP_IN_OP;
        take_value(dev, k, &v[i]);
        if (img->props[k].flags & PROP_WROTE)
            check_written(dev, k);
    }
    for (uint32_t k = 0; k < img->n; k++) {
        struct prop *p = &img->props[k];
        if (!(p->flags & PROP_IN_OP))
            continue;
        p->flags &= (uint16_t)~PROP_IN_OP;
        kei_dv_prop_error(dev->d, p, "%s",
                          status < 0 ? "the device could not be read" : "the driver gave no value");
        if (p->flags & PROP_WROTE)
            check_written(dev, k);
    }
    kei_dv_data_batch(dev, ke_ctx_real_ms(dev->d->ctx));
}

/* A write that may succeed later is made again. */
static bool worth_retry(int status)
{
    return status != KE_EACCES && status != KE_EINVAL && status != KE_ELIMIT &&
           status != KE_EPARSE && status != KE_ENOTSUP && status != KE_EROFS;
}

static void write_failed(struct dev *dev, uint32_t k, int status, const char *text)
{
    struct prop *p = &dev->img->props[k];

    p->flags &= (uint16_t)~PROP_IN_OP;
    p->flags |= PROP_WRITE_ERROR;
    kei_dv_prop_error(dev->d, p, "%.64s could not be written: %s",
                      p->desired ? p->desired : "the desired value",
                      text ? text : ke_strerror(status));
    if (worth_retry(status)) {
        p->flags |= PROP_WRITE_DUE;
        p->write_at = ke_ctx_mono_ms(dev->d->ctx) + (p->collect_ms > 1000 ? p->collect_ms : 1000);
    }
    kei_dv_sets_done(dev, k, status, p->error);
}

static void end_write(struct dev *dev, int status, const char *text,
                      const struct ke_device_value *v, uint32_t n)
{
    struct ke_devices *d = dev->d;
    struct image *img = dev->img;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = v[i].property;
        if (v[i].status < 0 && k < img->n && (img->props[k].flags & PROP_IN_OP))
            write_failed(dev, k, v[i].status, v[i].text);
    }
    for (uint32_t k = 0; k < img->n; k++) {
        struct prop *p = &img->props[k];
        if (!(p->flags & PROP_IN_OP))
            continue;
        if (status < 0) {
            write_failed(dev, k, status, text);
            continue;
        }
        p->flags &= (uint16_t) ~(PROP_IN_OP | PROP_WRITE_ERROR);
        prop_well(d, p);
        p->desired_ms = ke_ctx_real_ms(d->ctx);
        if (p->flags & PROP_READ) {
            p->flags |= PROP_READ_DUE | PROP_WROTE;
        } else {
            kei_dv_sets_done(dev, k, 0, NULL);
        }
    }
}

static void end_call(struct dev *dev, int status, const char *text, const char *reply,
                     size_t reply_len)
{
    KEI_LIST_EACH(l, &dev->calls)
    {
        struct call *c = KEI_OF(l, struct call, link);
        if (!c->started)
            continue;
        if (reply && kei_json_check(kei_strn(reply, reply_len), 0, NULL) < 0) {
            status = KE_EPROTO;
            text = "the driver's reply is no JSON";
        } else if (reply && !(c->reply = kei_strndup(dev->d->alloc, reply, reply_len))) {
            status = KE_ENOMEM;
        }
        kei_dv_call_done(dev, c, status, text);
        return;
    }
}

/* Takes what the end brought; what follows from it is done from drain. */
void kei_dv_ended(struct dev *dev, int status, const char *text, const struct ke_device_value *v,
                  uint32_t n, const char *reply, size_t reply_len)
{
    switch ((enum op)dev->op) {
    case OP_READ:
        end_read(dev, status, v, n);
        break;
    case OP_WRITE:
        end_write(dev, status, text, v, n);
        break;
    case OP_CALL:
        end_call(dev, status, text, reply, reply_len);
        break;
    default:
        break;
    }
    dev->ended = true;
    dev->end_status = status;
    kei_free(dev->d->alloc, dev->end_text);
    dev->end_text = status < 0 && text && *text ? kei_strdup(dev->d->alloc, text) : NULL;
    kei_dv_kick(dev);
}

static void ask_all(struct dev *dev)
{
    for (uint32_t i = 0; i < dev->img->n; i++) {
        struct prop *p = &dev->img->props[i];
        p->flags |= PROP_FRESH;
        p->flags &= (uint16_t) ~(PROP_WROTE | PROP_IN_OP);
        p->write_at = 0;
        if (p->desired && (p->flags & PROP_WRITE))
            p->flags |= PROP_WRITE_DUE;
    }
}

static void go_online(struct dev *dev, int64_t now)
{
    dev->state = KE_DEVICE_ONLINE;
    dev->online_ms = ke_ctx_real_ms(dev->d->ctx);
    dev->state_want = STATE_ONLINE;
    dev->was_online = true;
    dev->health_at = now + dev->d->c.health_ms;
    dev->subscribe_due = dev->driver->ops.subscribe != NULL;
    ask_all(dev);
}

static void fail_open(struct dev *dev, int status, const char *text, int64_t now)
{
    kei_dv_error(dev, "could not be opened: %s", text ? text : ke_strerror(status));
    go_offline(dev);
    dev->lost = true;
    if (status == KE_EINVAL || status == KE_EPARSE)
        dev->state = KE_DEVICE_FAILED;
    else
        pause_before_open(dev, now);
}

static void count_end(struct dev *dev, enum op op, int status)
{
    struct ke_devices *d = dev->d;

    if (status < 0 && !(op == OP_SUBSCRIBE && status == KE_ENOTSUP)) {
        dev->failures++;
        d->stats.failures++;
    } else if (op == OP_READ) {
        dev->reads++;
        d->stats.reads++;
    } else if (op == OP_WRITE) {
        dev->writes++;
        d->stats.writes++;
    }
}

static void closed(struct dev *dev)
{
    dev->opened = false;
    dev->lost = false;
    dev->subscribed = false;
    dev->handle = NULL;
    dev->driver = NULL;
}

static const char *const op_names[] = {
    "",        "opening", "closing",        "a read",
    "a write", "a call",  "a subscription", "a look at its health"};

static void end_op(struct dev *dev, int64_t now)
{
    enum op op = (enum op)dev->op;
    int status = dev->end_status;
    const char *text = dev->end_text;

    dev->op = OP_NONE;
    dev->ended = false;
    count_end(dev, op, status);
    if (op == OP_CLOSE) {
        closed(dev);
    } else if (op == OP_OPEN) {
        if (status == 0)
            go_online(dev, now);
        else
            fail_open(dev, status, text, now);
    } else if (op == OP_SUBSCRIBE) {
        dev->subscribed = status == 0;
        if (status < 0 && status != KE_ENOTSUP)
            kei_dv_error(dev, "could not be subscribed: %s", text ? text : ke_strerror(status));
        dev->lost = dev->lost || is_lost(status);
    } else if (status < 0) {
        kei_dv_error(dev, "%s failed: %s", op_names[op], text ? text : ke_strerror(status));
        dev->lost = dev->lost || is_lost(status) || op == OP_HEALTH;
    } else {
        kei_backoff_reset(&dev->backoff); /* it works, not only opens */
        dev->health_at = now + dev->d->c.health_ms;
    }
    kei_free(dev->d->alloc, dev->end_text);
    dev->end_text = NULL;
}

static void time_out(struct dev *dev, int64_t now)
{
    char text[96];

    if (!kei_dv_op_end(dev))
        return; /* its completion waits */
    dev->d->stats.timeouts++;
    snprintf(text, sizeof text, "the driver did not complete it within %u ms",
             dev->d->c.timeout_ms);
    kei_dv_ended(dev, KE_ETIMEDOUT, text, NULL, 0, NULL, 0);
    end_op(dev, now);
}

/* ---- begins of operations ---- */

/* What a driver's call returned; an end within the call counts more. */
static void begun(struct dev *dev, int r)
{
    if (r >= 0 || dev->ended)
        return;
    if (kei_dv_op_end(dev))
        kei_dv_ended(dev, r, ke_strerror(r), NULL, 0, NULL, 0);
}

static void begin_close(struct dev *dev)
{
    kei_dv_device_end(dev);
    if (dev->state != KE_DEVICE_FAILED && dev->state != KE_DEVICE_OFFLINE) {
        if (!dev->removed && !dev->next && !kei_dv_foreign(dev, NULL)) {
            go_offline(dev);
            pause_before_open(dev, ke_ctx_mono_ms(dev->d->ctx));
        }
        dev->state = KE_DEVICE_CLOSING;
    }
    if (dev->d->closing || !dev->driver) {
        closed(dev);
        return;
    }
    uint64_t op = kei_dv_op_begin(dev, OP_CLOSE);
    begun(dev, dev->driver->ops.close(dev->driver->user, dev->handle, op));
}

static void begin_open(struct dev *dev, struct driver *driver, int64_t now)
{
    dev->driver = driver;
    dev->opened = true;
    dev->handle = NULL;
    if (dev->state != KE_DEVICE_OFFLINE)
        dev->state = KE_DEVICE_OPENING;
    if (dev->was_online)
        dev->reconnects++;
    dev->img->conf.device = kei_dv_device_begin(dev);
    uint64_t op = kei_dv_op_begin(dev, OP_OPEN);
    int r = driver->ops.open(driver->user, &dev->img->conf, op, &dev->handle);
    if (r < 0 && !dev->ended) {
        /* it never began: there is nothing to close */
        kei_dv_device_end(dev);
        kei_dv_op_end(dev);
        dev->op = OP_NONE;
        dev->failures++;
        dev->d->stats.failures++;
        fail_open(dev, r, ke_strerror(r), now);
        closed(dev);
    }
}

static void begin_subscribe(struct dev *dev)
{
    uint32_t n = 0;

    dev->subscribe_due = false;
    for (uint32_t i = 0; i < dev->img->n; i++) {
        if (dev->img->props[i].flags & PROP_READ)
            dev->d->scratch[n++] = i;
    }
    if (n == 0)
        return;
    uint64_t op = kei_dv_op_begin(dev, OP_SUBSCRIBE);
    begun(dev, dev->driver->ops.subscribe(dev->driver->user, dev->handle, op, dev->d->scratch, n));
}

/* One desired value into d->values[at]. */
static bool plan_write(struct dev *dev, uint32_t i, uint32_t at, struct ke_buf *bytes)
{
    struct ke_devices *d = dev->d;
    struct prop *p = &dev->img->props[i];
    struct ke_error err = KE_ERROR_INIT;
    enum kei_prop_type type = (enum kei_prop_type)p->type;

    p->flags &= (uint16_t)~PROP_WRITE_DUE;
    d->vals[at].kind = KE_DEVICE_KIND_NONE;
    d->values[at] = (struct ke_device_value){.size = sizeof d->values[at], .property = i};
    int r = kei_val_parse(&d->vals[at], type, kei_str(p->desired), d->alloc, &err);
    if (r == 0)
        r = kei_val_limits(&d->vals[at], p->def, &err);
    if (r == 0)
        r = kei_val_to_raw(&d->values[at], type, p->tune, &d->vals[at], bytes, &err);
    if (r == 0)
        return true;
    kei_val_free(&d->vals[at], d->alloc);
    write_failed(dev, i, r, err.text);
    return false;
}

static bool begin_write(struct dev *dev, int64_t now)
{
    struct ke_devices *d = dev->d;
    struct ke_buf bytes;
    uint32_t n = 0;

    kei_buf_init(&bytes, d->alloc);
    for (uint32_t i = 0; i < dev->img->n; i++) {
        struct prop *p = &dev->img->props[i];
        if (!(p->flags & PROP_WRITE_DUE) || p->write_at > now)
            continue;
        if (p->type == KEI_PROP_BYTES && n)
            break; /* its bytes are decoded one at a time */
        if (!dev->driver->ops.write) {
            p->flags &= (uint16_t)~PROP_WRITE_DUE;
            write_failed(dev, i, KE_ENOTSUP, "the driver cannot write");
            continue;
        }
        if (!plan_write(dev, i, n, &bytes))
            continue;
        p->flags |= PROP_IN_OP;
        n++;
        if (p->type == KEI_PROP_BYTES)
            break;
    }
    if (n) {
        uint64_t op = kei_dv_op_begin(dev, OP_WRITE);
        begun(dev, dev->driver->ops.write(dev->driver->user, dev->handle, op, d->values, n));
    }
    for (uint32_t i = 0; i < n; i++)
        kei_val_free(&d->vals[i], d->alloc);
    ke_buf_free(&bytes);
    return n != 0;
}

static bool begin_call(struct dev *dev)
{
    KEI_LIST_EACH(l, &dev->calls)
    {
        struct call *c = KEI_OF(l, struct call, link);
        if (!c->method)
            continue;
        c->started = true;
        uint64_t op = kei_dv_op_begin(dev, OP_CALL);
        begun(dev, dev->driver->ops.call(dev->driver->user, dev->handle, op, c->method, c->args,
                                         c->args_len));
        return true;
    }
    return false;
}

/* The cycle of p is due: counts it, and sets when it is due next. */
static void count_cycle(struct dev *dev, struct prop *p, int64_t now)
{
    struct ke_devices_stats *st = &dev->d->stats;
    int64_t late = now - p->due, missed = p->due ? late / p->collect_ms : 0;

    dev->cycles += (uint64_t)missed + 1;
    st->cycles += (uint64_t)missed + 1;
    dev->missed += (uint64_t)missed;
    st->cycles_missed += (uint64_t)missed;
    if (!(p->flags & PROP_FRESH)) {
        int64_t bound = p->collect_ms / 10 > 10 ? p->collect_ms / 10 : 10;
        dev->late += late > bound;
        st->cycles_late += late > bound;
        uint32_t max = late > UINT32_MAX ? UINT32_MAX : (uint32_t)late;
        dev->late_max = max > dev->late_max ? max : dev->late_max;
        st->late_max_ms = max > st->late_max_ms ? max : st->late_max_ms;
        p->due += (missed + 1) * p->collect_ms;
    } else {
        p->flags &= (uint16_t)~PROP_FRESH;
        p->due = cycle_phase(dev->img, p, now);
    }
}

static bool polled(const struct dev *dev, const struct prop *p)
{
    return p->collect_ms && (p->flags & PROP_READ) && (!dev->subscribed || (p->flags & PROP_FRESH));
}

static bool begin_read(struct dev *dev, int64_t now)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < dev->img->n; i++) {
        struct prop *p = &dev->img->props[i];
        bool due = polled(dev, p) && (p->due <= now || (p->flags & PROP_FRESH));
        if (due)
            count_cycle(dev, p, now);
        if (!due && !(p->flags & PROP_READ_DUE))
            continue;
        p->flags &= (uint16_t)~PROP_READ_DUE;
        p->flags |= PROP_IN_OP;
        dev->d->scratch[n++] = i;
    }
    if (n == 0)
        return false;
    uint64_t op = kei_dv_op_begin(dev, OP_READ);
    begun(dev, dev->driver->ops.read(dev->driver->user, dev->handle, op, dev->d->scratch, n));
    return true;
}

static bool begin_health(struct dev *dev, int64_t now)
{
    if (now < dev->health_at || !dev->driver->ops.health)
        return false;
    dev->health_at = now + dev->d->c.health_ms;
    uint64_t op = kei_dv_op_begin(dev, OP_HEALTH);
    begun(dev, dev->driver->ops.health(dev->driver->user, dev->handle, op));
    return true;
}

/* ---- what is next ---- */

static void destroy(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    kei_dv_calls_cancel(dev);
    kei_dv_report_cancel(dev);
    kei_dv_data_free(dev);
    kei_timer_fini(&dev->timer);
    kei_list_remove(&dev->ready);
    kei_list_remove(&dev->reporting);
    kei_map_remove(&d->devs, kei_str(dev->key));
    kei_dv_slot_give(dev);
    kei_dv_image_free(dev->img);
    kei_dv_image_free(dev->next);
    kei_free(d->alloc, dev->key);
    kei_free(d->alloc, dev->raw);
    kei_free(d->alloc, dev->error);
    kei_free(d->alloc, dev->end_text);
    kei_free(d->alloc, dev->process_own);
    kei_free(d->alloc, dev);
}

static void swap_image(struct dev *dev)
{
    kei_dv_report_cancel(dev);
    kei_dv_calls_cancel(dev);
    if (dev->reborn) {
        kei_dv_data_free(dev);
        kei_free(dev->d->alloc, dev->process_own);
        dev->process_own = NULL;
        dev->state_sent = STATE_NONE;
    } else {
        kei_dv_image_carry(dev->next, dev->img);
    }
    dev->reborn = false;
    kei_dv_image_free(dev->img);
    dev->img = dev->next;
    dev->next = NULL;
    dev->state = KE_DEVICE_WAITING;
    dev->retry_at = 0;
    kei_backoff_reset(&dev->backoff);
    kei_dv_data_configure(dev);
    kei_dv_push_configure(dev);
}

static void wait_for(struct dev *dev, const char *what, const char *name)
{
    if (dev->state_want == STATE_ONLINE)
        go_offline(dev);
    dev->state = KE_DEVICE_WAITING;
    kei_dv_error(dev, "waits for %s %s", what, name);
}

/* Somebody else serves it, who reports values and state; nothing of here gets in between. */
static void be_mapped(struct dev *dev)
{
    if (dev->state == KE_DEVICE_MAPPED)
        return;
    kei_dv_report_cancel(dev);
    kei_dv_calls_cancel(dev);
    kei_free(dev->d->alloc, dev->error);
    dev->error = NULL;
    dev->state = KE_DEVICE_MAPPED;
    dev->state_want = dev->state_sent = STATE_NONE;
    dev->online_ms = 0;
    dev->was_online = false;
}

/* Nothing is open. False: the device is gone. */
static bool step_closed(struct dev *dev, int64_t now)
{
    struct driver *driver;

    if (dev->removed) {
        destroy(dev);
        return false;
    }
    if (dev->next)
        swap_image(dev);
    int foreign = kei_dv_foreign(dev, NULL);
    if (dev->state == KE_DEVICE_MAPPED && !foreign) {
        dev->state = KE_DEVICE_WAITING;
        dev->retry_at = 0;
    }
    if (foreign > 0 && dev->img->model) {
        be_mapped(dev);
        return true;
    }
    if (foreign == KE_EAGAIN || dev->state == KE_DEVICE_FAILED)
        return true; /* what is not known yet comes by a kick */
    if (!dev->img->model) {
        wait_for(dev, "device model", dev->img->model_name);
    } else if (!(driver = kei_dv_driver(dev->d, dev->img->conf.protocol))) {
        wait_for(dev, "a driver of protocol", dev->img->conf.protocol);
    } else if (now < dev->retry_at) {
        dev->state = KE_DEVICE_OFFLINE;
    } else {
        begin_open(dev, driver, now);
    }
    return true;
}

static void step_open(struct dev *dev, int64_t now)
{
    if (dev->lost || dev->removed || dev->next || kei_dv_foreign(dev, NULL) > 0) {
        begin_close(dev);
        return;
    }
    if (dev->subscribe_due) {
        begin_subscribe(dev);
        if (dev->op)
            return;
    }
    if (begin_write(dev, now) || begin_call(dev) || begin_read(dev, now))
        return;
    (void)begin_health(dev, now);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void arm(struct dev *dev)
{
    int64_t due = least(kei_dv_report_due(dev), kei_dv_data_due(dev));

    due = least(due, kei_dv_push_due(dev));
    if (dev->op) {
        due = least(due, dev->deadline);
    } else if (!dev->opened) {
        if (dev->state == KE_DEVICE_OFFLINE)
            due = least(due, dev->retry_at);
    } else {
        if (dev->driver->ops.health)
            due = least(due, dev->health_at);
        for (uint32_t i = 0; i < dev->img->n; i++) {
            const struct prop *p = &dev->img->props[i];
            if (polled(dev, p))
                due = least(due, p->due);
            if (p->flags & PROP_WRITE_DUE)
                due = least(due, p->write_at);
        }
    }
    if (due == INT64_MAX)
        kei_timer_stop(&dev->timer);
    else
        (void)kei_timer_at(&dev->timer, due);
}

static void step(struct dev *dev)
{
    int64_t now = ke_ctx_mono_ms(dev->d->ctx);

    if (dev->ended)
        end_op(dev, now);
    if (dev->op && now >= dev->deadline)
        time_out(dev, now);
    if (!dev->op) {
        if (dev->opened)
            step_open(dev, now);
        else if (!step_closed(dev, now))
            return;
    }
    kei_dv_data_tick(dev, now);
    kei_dv_report(dev, now);
    kei_dv_push(dev, now);
    arm(dev);
}

void kei_dv_drain(struct kei_defer *f)
{
    struct ke_devices *d = KEI_OF(f, struct ke_devices, defer);
    int64_t until = ke_ctx_mono_ms(d->ctx) + DRAIN_MS;
    uint32_t budget = DRAIN_STEPS; /* the loop's other users wait */

    d->draining = true;
    while (!kei_list_empty(&d->ready) && budget-- && ke_ctx_mono_ms(d->ctx) < until) {
        struct dev *dev = KEI_OF(d->ready.next, struct dev, ready);
        kei_list_remove(&dev->ready);
        step(dev);
    }
    d->draining = false;
    if (!kei_list_empty(&d->ready))
        (void)kei_timer_in(&d->go_on, 0); /* in the next turn: a defer may run in this one */
    kei_dv_push_pump(d);
    kei_dv_dones_run(d);
}

void kei_dv_drop(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    if (dev->opened && dev->driver) {
        if (dev->op == OP_CLOSE) {
            kei_dv_op_end(dev);
        } else {
            uint64_t op;
            kei_dv_device_end(dev);
            op = kei_dv_op_begin(dev, OP_CLOSE);
            (void)dev->driver->ops.close(dev->driver->user, dev->handle, op);
            kei_dv_op_end(dev);
        }
    }
    dev->op = OP_NONE;
    dev->ended = false;
    kei_dv_calls_cancel(dev);
    if (d->closing) {
        closed(dev);
        destroy(dev);
        return;
    }
    go_offline(dev);
    closed(dev);
    kei_dv_kick(dev);
}
