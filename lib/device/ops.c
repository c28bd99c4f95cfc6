/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations, devices and reports as tokens (slot and generation), and their ends from any thread.
 * On the loop's thread an end is taken at once; what another thread hands in is copied into a
 * record, which are kept for reuse. mu guards slots and records and is never held during a call
 * into a driver.
 */
#include "device/devices_priv.h"
#include "device/driver_conf.h"

#define SLOTS_MAX (1u << 20)
#define SPARE_MAX 64u
#define SPARE_BYTES 4096u
#define TEXT_MAX (1u << 20)
#define TOLD_MAX 65536u

/* ---- slots ---- */

static uint64_t token_of(uint32_t slot, uint32_t generation)
{
    return ((uint64_t)generation << 32) | (slot + 1);
}

/* mu is held */
static struct slot *slot_of(struct ke_devices *d, uint64_t token)
{
    uint32_t i = (uint32_t)(token & UINT32_MAX) - 1;

    return i < d->n_slots && d->slots[i].dev ? &d->slots[i] : NULL;
}

static bool is(uint64_t token, uint32_t generation)
{
    return (uint32_t)(token >> 32) == generation;
}

static void next_generation(uint32_t *g)
{
    if (++*g == 0)
        *g = 1;
}

int kei_dv_slot_take(struct dev *dev)
{
    struct ke_devices *d = dev->d;
    uint32_t i = 0;
    int r = 0;

    pthread_mutex_lock(&d->mu);
    if (d->devs.n < d->n_slots) {
        while (i < d->n_slots && d->slots[i].dev)
            i++;
    } else {
        i = d->n_slots;
    }
    if (i == d->n_slots) {
        uint32_t n = d->n_slots ? d->n_slots + d->n_slots / 2 : 16;
        struct slot *s = n > SLOTS_MAX ? NULL : kei_array_realloc(d->alloc, d->slots, n, sizeof *s);
        if (s) {
            memset(s + d->n_slots, 0, (n - d->n_slots) * sizeof *s);
            d->slots = s;
            d->n_slots = n;
        } else {
            r = KE_ENOMEM;
        }
    }
    if (r == 0) {
        d->slots[i].dev = dev;
        dev->slot = i;
    }
    pthread_mutex_unlock(&d->mu);
    return r;
}

void kei_dv_slot_give(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    pthread_mutex_lock(&d->mu);
    struct slot *s = &d->slots[dev->slot];
    s->dev = NULL;
    s->open = s->pending = s->attached = s->report_open = false;
    s->told = NULL;
    next_generation(&s->op);
    next_generation(&s->device);
    next_generation(&s->report);
    pthread_mutex_unlock(&d->mu);
}

uint64_t kei_dv_op_begin(struct dev *dev, enum op op)
{
    struct ke_devices *d = dev->d;

    pthread_mutex_lock(&d->mu);
    struct slot *s = &d->slots[dev->slot];
    next_generation(&s->op);
    s->open = true;
    s->pending = false;
    dev->token = token_of(dev->slot, s->op);
    pthread_mutex_unlock(&d->mu);
    dev->op = (uint8_t)op;
    dev->ended = false;
    dev->deadline = ke_ctx_mono_ms(d->ctx) + d->c.timeout_ms;
    return dev->token;
}

bool kei_dv_op_end(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    pthread_mutex_lock(&d->mu);
    struct slot *s = &d->slots[dev->slot];
    bool over = !s->pending;
    if (over) {
        s->open = false;
        next_generation(&s->op);
    }
    pthread_mutex_unlock(&d->mu);
    return over;
}

uint64_t kei_dv_device_begin(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    pthread_mutex_lock(&d->mu);
    struct slot *s = &d->slots[dev->slot];
    next_generation(&s->device);
    s->attached = true;
    s->told = NULL;
    uint64_t token = token_of(dev->slot, s->device);
    pthread_mutex_unlock(&d->mu);
    return token;
}

void kei_dv_device_end(struct dev *dev)
{
    pthread_mutex_lock(&dev->d->mu);
    dev->d->slots[dev->slot].attached = false;
    pthread_mutex_unlock(&dev->d->mu);
}

uint64_t kei_dv_report_begin(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    pthread_mutex_lock(&d->mu);
    struct slot *s = &d->slots[dev->slot];
    next_generation(&s->report);
    s->report_open = true;
    uint64_t token = token_of(dev->slot, s->report);
    pthread_mutex_unlock(&d->mu);
    return token;
}

void kei_dv_report_over(struct dev *dev)
{
    pthread_mutex_lock(&dev->d->mu);
    dev->d->slots[dev->slot].report_open = false;
    pthread_mutex_unlock(&dev->d->mu);
}

/* ---- records ---- */

static struct rec *rec_take(struct ke_devices *d)
{
    pthread_mutex_lock(&d->mu);
    struct rec *r = d->spare;
    if (r) {
        d->spare = r->next;
        d->n_spare--;
    }
    pthread_mutex_unlock(&d->mu);
    if (!r) {
        r = kei_zalloc(d->alloc, sizeof *r);
        if (!r)
            return NULL;
        kei_buf_init(&r->buf, d->alloc);
    }
    kei_buf_clear(&r->buf);
    r->n_values = 0;
    r->text_at = r->reply_at = SIZE_MAX;
    return r;
}

static void rec_free(struct ke_devices *d, struct rec *r)
{
    ke_buf_free(&r->buf);
    kei_free(d->alloc, r);
}

static void rec_give(struct ke_devices *d, struct rec *r)
{
    if (r->buf.cap > SPARE_BYTES)
        ke_buf_free(&r->buf);
    pthread_mutex_lock(&d->mu);
    bool keep = d->n_spare < SPARE_MAX;
    if (keep) {
        r->next = d->spare;
        d->spare = r;
        d->n_spare++;
    }
    pthread_mutex_unlock(&d->mu);
    if (!keep)
        rec_free(d, r);
}

/* mu is held */
static void enqueue(struct ke_devices *d, struct rec *r)
{
    r->next = NULL;
    *d->queue_tail = r;
    d->queue_tail = &r->next;
}

void kei_dv_queue_free(struct ke_devices *d)
{
    struct rec *lists[2] = {d->queue, d->spare};

    for (size_t i = 0; i < 2; i++) {
        while (lists[i]) {
            struct rec *r = lists[i];
            lists[i] = r->next;
            rec_free(d, r);
        }
    }
    d->queue = d->spare = NULL;
    d->queue_tail = &d->queue;
}

/* ---- values of a driver ---- */

/* The i-th value, in the library's form. */
static int value_in(struct ke_device_value *ret, const struct ke_device_value *v, uint32_t i)
{
    size_t stride;

    memcpy(&stride, v, sizeof stride); /* the size the driver was compiled with */
    if (stride < KEI_SIZE_TO(struct ke_device_value, reserved))
        return KE_EABI;
    return kei_abi_in(ret, sizeof *ret, (const char *)v + i * stride,
                      KEI_SIZE_TO(struct ke_device_value, reserved), "struct ke_device_value",
                      NULL);
}

/* All of them into d->values. Loop. */
static int values_in(struct ke_devices *d, const struct ke_device_value *v, uint32_t n)
{
    if (n > d->n_values)
        return KE_ELIMIT;
    if (n && !v)
        return KE_EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        int r = value_in(&d->values[i], v, i);
        if (r < 0)
            return r;
        if (d->values[i].n > KEI_VALUE_BYTES_MAX)
            return KE_ELIMIT;
        if (d->values[i].n && !d->values[i].p)
            return KE_EINVAL;
    }
    return 0;
}

static size_t add_bytes(struct ke_buf *b, const void *p, size_t n)
{
    size_t at = b->n;

    kei_buf_add(b, p, n);
    kei_buf_addc(b, '\0');
    return at;
}

/* Copies values behind those that r has; pointers become offsets. */
static int rec_values(struct ke_devices *d, struct rec *r, const struct ke_device_value *v,
                      uint32_t n)
{
    struct ke_device_value one;
    size_t total = 0;

    if (n > d->c.max_properties)
        return KE_ELIMIT;
    if (n && !v)
        return KE_EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        int e = value_in(&one, v, i);
        if (e < 0)
            return e;
        if (one.n && !one.p)
            return KE_EINVAL;
        total += one.n > TEXT_MAX ? (size_t)TEXT_MAX + 1 : one.n;
        if (total > TEXT_MAX)
            return KE_ELIMIT;
        kei_buf_add(&r->buf, &one, sizeof one);
    }
    for (uint32_t i = 0; i < n && kei_buf_ok(&r->buf); i++) {
        size_t at = i * sizeof one;
        memcpy(&one, r->buf.p + at, sizeof one);
        const void *p = one.p;
        const char *text = one.text;
        one.p = p ? (void *)(uintptr_t)add_bytes(&r->buf, p, one.n) : NULL;
        if (text)
            one.text =
                (const char *)(uintptr_t)add_bytes(&r->buf, text, strnlen(text, KE_ERROR_TEXT_MAX));
        if (kei_buf_ok(&r->buf))
            memcpy(r->buf.p + at, &one, sizeof one);
    }
    r->n_values = n;
    return kei_buf_ok(&r->buf) ? 0 : KE_ENOMEM;
}

/* The record's values with pointers again, in d->values. Loop. */
static void rec_out(struct ke_devices *d, const struct rec *r)
{
    for (uint32_t i = 0; i < r->n_values; i++) {
        struct ke_device_value *v = &d->values[i];
        memcpy(v, r->buf.p + i * sizeof *v, sizeof *v);
        if (v->p)
            v->p = r->buf.p + (uintptr_t)v->p;
        if (v->text)
            v->text = r->buf.p + (uintptr_t)v->text;
    }
}

/* ---- ends of operations ---- */

static int complete_here(struct ke_devices *d, struct dev *dev, int status,
                         const struct ke_device_result *res)
{
    int r = values_in(d, res->values, res->n_values);

    if (r == 0 && res->reply_len > TEXT_MAX)
        r = KE_ELIMIT;
    kei_dv_ended(dev, r < 0 ? r : status, r < 0 ? "the driver's result was refused" : res->text,
                 d->values, r < 0 ? 0 : res->n_values, r < 0 ? NULL : res->reply, res->reply_len);
    return r;
}

static int rec_result(struct ke_devices *d, struct rec *rec, const struct ke_device_result *res)
{
    int r = rec_values(d, rec, res->values, res->n_values);

    if (r == 0 && res->reply_len > TEXT_MAX)
        r = KE_ELIMIT;
    if (r < 0)
        return r;
    if (res->text)
        rec->text_at = add_bytes(&rec->buf, res->text, strnlen(res->text, KE_ERROR_TEXT_MAX));
    if (res->reply) {
        rec->reply_at = add_bytes(&rec->buf, res->reply, res->reply_len);
        rec->reply_len = res->reply_len;
    }
    return kei_buf_ok(&rec->buf) ? 0 : KE_ENOMEM;
}

/* On another thread: by a record. */
static int complete_there(struct ke_devices *d, uint64_t op, int status,
                          const struct ke_device_result *res)
{
    struct rec *rec = rec_take(d);
    int r = rec ? rec_result(d, rec, res) : KE_ENOMEM;

    if (r == KE_ENOMEM) {
        if (rec)
            rec_give(d, rec);
        return r;
    }
    if (r < 0) {
        status = r;
        kei_buf_clear(&rec->buf);
        rec->n_values = 0;
        rec->text_at = rec->reply_at = SIZE_MAX;
    }
    rec->kind = REC_COMPLETE;
    rec->token = op;
    rec->status = status;
    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, op);
    bool open = s && s->open && is(op, s->op);
    if (open) {
        s->open = false;
        s->pending = true;
        enqueue(d, rec);
    } else {
        d->late_completions++;
    }
    pthread_mutex_unlock(&d->mu);
    if (!open) {
        rec_give(d, rec);
        return KE_ENOTFOUND;
    }
    kei_wake(&d->wake);
    return r;
}

int ke_device_complete(struct ke_devices *d, uint64_t op, int status,
                       const struct ke_device_result *r)
{
    struct ke_device_result res = {.size = sizeof res};

    if (!d || status > 0)
        return KE_EINVAL;
    if (r && kei_abi_in(&res, sizeof res, r, KEI_SIZE_TO(struct ke_device_result, reserved),
                        "struct ke_device_result", NULL) < 0)
        return KE_EABI;
    if (!kei_ctx_on_loop(d->ctx))
        return complete_there(d, op, status, &res);
    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, op);
    bool open = s && s->open && is(op, s->op);
    if (open)
        s->open = false;
    else
        d->late_completions++;
    struct dev *dev = open ? s->dev : NULL;
    pthread_mutex_unlock(&d->mu);
    return dev ? complete_here(d, dev, status, &res) : KE_ENOTFOUND;
}

/* ---- what devices tell ---- */

/* mu is held. Values of old that fresh does not have go behind fresh's. */
static bool join(struct ke_devices *d, struct rec *old, struct rec *fresh)
{
    struct ke_device_value v;
    uint32_t n = fresh->n_values;
    struct ke_buf out;

    kei_buf_init(&out, d->alloc);
    /* the structs first, as rec_out wants them */
    struct rec *from[2] = {fresh, old};
    uint32_t total = 0;
    for (int k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < from[k]->n_values; i++) {
            memcpy(&v, from[k]->buf.p + i * sizeof v, sizeof v);
            bool newer = false;
            for (uint32_t j = 0; k == 1 && j < n && !newer; j++) {
                struct ke_device_value w;
                memcpy(&w, fresh->buf.p + j * sizeof w, sizeof w);
                newer = w.property == v.property;
            }
            if (newer)
                continue;
            if (v.p)
                v.p = from[k]->buf.p + (uintptr_t)v.p;
            if (v.text)
                v.text = from[k]->buf.p + (uintptr_t)v.text;
            kei_buf_add(&out, &v, sizeof v);
            total++;
        }
    }
    for (uint32_t i = 0; i < total && kei_buf_ok(&out); i++) {
        memcpy(&v, out.p + i * sizeof v, sizeof v);
        const void *p = v.p;
        const char *text = v.text;
        v.p = p ? (void *)(uintptr_t)add_bytes(&out, p, v.n) : NULL;
        v.text = text ? (const char *)(uintptr_t)add_bytes(&out, text, strlen(text)) : NULL;
        if (kei_buf_ok(&out))
            memcpy(out.p + i * sizeof v, &v, sizeof v);
    }
    if (!kei_buf_ok(&out) || total > d->c.max_properties) {
        ke_buf_free(&out);
        return false;
    }
    ke_buf_free(&old->buf);
    old->buf = out;
    old->n_values = total;
    return true;
}

static int told_there(struct ke_devices *d, uint64_t device, const struct ke_device_value *v,
                      uint32_t n)
{
    struct rec *rec = rec_take(d);
    int r = rec ? rec_values(d, rec, v, n) : KE_ENOMEM;

    if (r == 0) {
        rec->kind = REC_TOLD;
        rec->token = device;
        pthread_mutex_lock(&d->mu);
        struct slot *s = slot_of(d, device);
        if (!s || !s->attached || !is(device, s->device)) {
            r = KE_ENOTFOUND;
        } else if (s->told) {
            if (!join(d, s->told, rec))
                r = KE_ENOMEM;
        } else if (d->n_told >= TOLD_MAX) {
            r = KE_ELIMIT;
        } else {
            s->told = rec;
            d->n_told++;
            enqueue(d, rec);
            rec = NULL;
        }
        pthread_mutex_unlock(&d->mu);
    }
    if (rec)
        rec_give(d, rec);
    if (r == 0)
        kei_wake(&d->wake);
    return r;
}

int ke_device_report(struct ke_devices *d, uint64_t device, const struct ke_device_value *v,
                     uint32_t n)
{
    if (!d || (n && !v))
        return KE_EINVAL;
    if (!kei_ctx_on_loop(d->ctx))
        return told_there(d, device, v, n);
    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, device);
    struct dev *dev = s && s->attached && is(device, s->device) ? s->dev : NULL;
    pthread_mutex_unlock(&d->mu);
    if (!dev)
        return KE_ENOTFOUND;
    int r = values_in(d, v, n);
    if (r == 0)
        kei_dv_told(dev, d->values, n);
    return r;
}

/* LOST and REPORTED from other threads */
static int hand_in(struct ke_devices *d, enum rec_kind kind, uint64_t token, int status,
                   const char *text)
{
    struct rec *rec = rec_take(d);

    if (!rec)
        return KE_ENOMEM;
    rec->kind = kind;
    rec->token = token;
    rec->status = status;
    if (text)
        rec->text_at = add_bytes(&rec->buf, text, strnlen(text, KE_ERROR_TEXT_MAX));
    if (!kei_buf_ok(&rec->buf)) {
        kei_buf_clear(&rec->buf);
        rec->text_at = SIZE_MAX;
    }
    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, token);
    bool known = false;
    if (s && kind == REC_LOST && s->attached && is(token, s->device)) {
        s->attached = false;
        known = true;
    } else if (s && kind == REC_REPORTED && s->report_open && is(token, s->report)) {
        s->report_open = false;
        known = true;
    }
    if (known)
        enqueue(d, rec);
    pthread_mutex_unlock(&d->mu);
    if (!known) {
        rec_give(d, rec);
        return KE_ENOTFOUND;
    }
    kei_wake(&d->wake);
    return 0;
}

int ke_device_lost(struct ke_devices *d, uint64_t device, int status, const char *text)
{
    if (!d || status >= 0)
        return KE_EINVAL;
    if (!kei_ctx_on_loop(d->ctx))
        return hand_in(d, REC_LOST, device, status, text);
    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, device);
    struct dev *dev = s && s->attached && is(device, s->device) ? s->dev : NULL;
    if (dev)
        s->attached = false;
    pthread_mutex_unlock(&d->mu);
    if (!dev)
        return KE_ENOTFOUND;
    kei_dv_lost(dev, status, text);
    return 0;
}

void kei_device_note(struct ke_devices *d, uint64_t device, const char *text)
{
    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, device);
    struct dev *dev = s && s->attached && is(device, s->device) ? s->dev : NULL;
    pthread_mutex_unlock(&d->mu);
    if (dev)
        kei_dv_error(dev, "%s", text);
}

int ke_devices_reported(struct ke_devices *d, uint64_t report, int status)
{
    if (!d || status > 0)
        return KE_EINVAL;
    if (!kei_ctx_on_loop(d->ctx))
        return hand_in(d, REC_REPORTED, report, status, NULL);
    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, report);
    struct dev *dev = s && s->report_open && is(report, s->report) ? s->dev : NULL;
    if (dev)
        s->report_open = false;
    pthread_mutex_unlock(&d->mu);
    if (!dev)
        return KE_ENOTFOUND;
    kei_dv_reported(dev, status, status < 0 ? ke_strerror(status) : NULL);
    return 0;
}

/* ---- the loop takes it ---- */

/* The device a record is for, if that still counts. */
static struct dev *rec_dev(struct ke_devices *d, const struct rec *r)
{
    struct dev *dev = NULL;

    pthread_mutex_lock(&d->mu);
    struct slot *s = slot_of(d, r->token);
    if (s && r->kind == REC_COMPLETE && s->pending && is(r->token, s->op)) {
        s->pending = false;
        dev = s->dev;
    } else if (s && r->kind == REC_TOLD && is(r->token, s->device)) {
        dev = s->attached ? s->dev : NULL;
    } else if (s && r->kind == REC_LOST && is(r->token, s->device)) {
        dev = s->dev;
    } else if (s && r->kind == REC_REPORTED && is(r->token, s->report)) {
        dev = s->dev;
    }
    pthread_mutex_unlock(&d->mu);
    return dev;
}

static void take(struct ke_devices *d, struct rec *r)
{
    struct dev *dev = rec_dev(d, r);
    const char *text = r->text_at == SIZE_MAX ? NULL : r->buf.p + r->text_at;

    if (!dev)
        return;
    if (r->n_values > d->n_values) { /* more than any device has properties */
        r->n_values = 0;
        r->status = KE_ELIMIT;
    }
    rec_out(d, r);
    switch (r->kind) {
    case REC_COMPLETE:
        kei_dv_ended(dev, r->status, text, d->values, r->n_values,
                     r->reply_at == SIZE_MAX ? NULL : r->buf.p + r->reply_at, r->reply_len);
        break;
    case REC_TOLD:
        kei_dv_told(dev, d->values, r->n_values);
        break;
    case REC_LOST:
        kei_dv_lost(dev, r->status, text);
        break;
    case REC_REPORTED:
        kei_dv_reported(dev, r->status, r->status < 0 ? ke_strerror(r->status) : NULL);
        break;
    }
}

void kei_dv_on_wake(struct kei_wake *w)
{
    struct ke_devices *d = KEI_OF(w, struct ke_devices, wake);

    for (;;) {
        pthread_mutex_lock(&d->mu);
        struct rec *r = d->queue;
        if (r) {
            d->queue = r->next;
            if (!d->queue)
                d->queue_tail = &d->queue;
            if (r->kind == REC_TOLD) {
                struct slot *s = slot_of(d, r->token);
                d->n_told--;
                if (s && s->told == r)
                    s->told = NULL;
            }
        }
        pthread_mutex_unlock(&d->mu);
        if (!r)
            return;
        take(d, r);
        rec_give(d, r);
    }
}
