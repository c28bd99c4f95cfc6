/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The row of a device in the store. Not JSON: with each update of one twin all of them are written,
 * and quoting them would cost more than the disk. Little-endian whatever the machine:
 *
 *     "KTW" 1, then six texts (length, bytes): namespace, name, description, state, last_online,
 *     attributes; seq, state_up, the number of twins; of each, by name: flags, dirty, up, times and
 *     versions of both sides, four lengths, and name, type and values with a NUL behind each.
 *
 * A device that has a life (twin_merge.h) is "KTW" 2: the life before the number of twins, and of
 * each twin the two stamps behind its versions. A stamp is ms (8), n (4), node (4).
 *
 * Reading is total: whatever is there is a device or KE_EPARSE. Memory of the table given.
 */
#include "base/json.h"
#include "message/twin.h"
#include "message/twin_priv.h"

#define MAGIC "KTW\1"
#define MAGIC_LIFE "KTW\2"
#define MAGIC_LEN 4u
#define STAMP 16u
#define TWIN_FIXED (2u + 2u + 8u + 6u * 8u + 4u * 4u)

/* ---- writing ---- */

static unsigned char *put(unsigned char *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *p++ = (unsigned char)(v >> (8 * i));
    return p;
}

static void add_number(struct ke_buf *out, uint64_t v, unsigned bytes)
{
    unsigned char b[8];

    (void)put(b, v, bytes);
    kei_buf_add(out, b, bytes);
}

static void add_text(struct ke_buf *out, const char *s)
{
    size_t n = strlen(s);

    add_number(out, n, 4);
    kei_buf_add(out, s, n);
}

static unsigned char *put_stamp(unsigned char *p, const struct kei_hlc *h)
{
    p = put(p, (uint64_t)h->ms, 8);
    p = put(p, h->n, 4);
    return put(p, h->node, 4);
}

static void add_twin(struct ke_buf *out, const struct kei_twin *t, bool life)
{
    unsigned char b[TWIN_FIXED + 2 * STAMP], *p = b;

    p = put(p, t->flags, 2);
    p = put(p, t->dirty, 2);
    p = put(p, t->up, 8);
    for (unsigned s = 0; s < 2; s++) {
        p = put(p, (uint64_t)t->ts[s], 8);
        p = put(p, (uint64_t)t->cloud[s], 8);
        p = put(p, (uint64_t)t->edge[s], 8);
    }
    for (unsigned s = 0; life && s < 2; s++)
        p = put_stamp(p, &t->at[s]);
    for (unsigned i = 0; i < 4; i++)
        p = put(p, t->n[i], 4);
    kei_buf_add(out, b, (size_t)(p - b));
    kei_buf_add(out, t->text, kei_twin_bytes(t));
}

void kei_twin_row_write(struct ke_buf *out, const struct kei_twin_device *d)
{
    bool life = !kei_hlc_is_zero(&d->life);
    unsigned char stamp[STAMP];

    kei_buf_add(out, life ? MAGIC_LIFE : MAGIC, MAGIC_LEN);
    add_text(out, d->ns);
    add_text(out, d->name);
    add_text(out, d->description);
    add_text(out, d->state);
    add_text(out, d->last_online);
    add_text(out, d->attributes);
    add_number(out, d->seq, 8);
    add_number(out, d->state_up, 8);
    (void)put_stamp(stamp, &d->life);
    if (life)
        kei_buf_add(out, stamp, sizeof stamp);
    add_number(out, d->n, 4);
    for (uint32_t i = 0; i < d->n; i++)
        add_twin(out, d->twins[i], life);
}

/* ---- reading ---- */

struct reader {
    const unsigned char *p;
    size_t n;
    bool short_of; /* there was less than asked for */
    bool life;
};

static uint64_t take(struct reader *r, unsigned bytes)
{
    uint64_t v = 0;

    if (r->n < bytes) {
        r->short_of = true;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)r->p[i] << (8 * i);
    r->p += bytes;
    r->n -= bytes;
    return v;
}

static struct ke_str take_text(struct reader *r, size_t n)
{
    struct ke_str s = {"", 0};

    if (r->n < n || (n && memchr(r->p, '\0', n))) {
        r->short_of = true;
        return s;
    }
    s = kei_strn((const char *)r->p, n);
    r->p += n;
    r->n -= n;
    return s;
}

static struct ke_str take_string(struct reader *r)
{
    return take_text(r, (size_t)take(r, 4));
}

static void take_side(struct reader *r, struct kei_twin_side *s, unsigned flags)
{
    s->has = flags & KEI_TWIN_F_HAS;
    s->has_ts = flags & KEI_TWIN_F_TS;
    s->has_version = flags & KEI_TWIN_F_VERSION;
    s->ts = (int64_t)take(r, 8);
    s->cloud = (int64_t)take(r, 8);
    s->edge = (int64_t)take(r, 8);
}

static struct kei_hlc take_stamp(struct reader *r)
{
    struct kei_hlc h = {.ms = (int64_t)take(r, 8)};

    h.n = (uint32_t)take(r, 4);
    h.node = (uint32_t)take(r, 4);
    if (h.ms < 0 || h.ms > KEI_HLC_MS_MAX)
        r->short_of = true;
    return h;
}

static bool take_twin(struct reader *r, struct kei_twin_view *v)
{
    struct ke_str text[4];
    size_t n[4];
    unsigned flags = (unsigned)take(r, 2);

    memset(v, 0, sizeof *v);
    v->has_meta = v->has_optional = true;
    v->optional = flags & KEI_TWIN_F_OPTIONAL;
    v->dirty = (uint32_t)take(r, 2) & (KEI_TWIN_BOTH | KEI_TWIN_OTHER);
    v->up = take(r, 8);
    take_side(r, &v->side[0], flags);
    take_side(r, &v->side[1], flags >> KEI_TWIN_F_SHIFT);
    for (unsigned s = 0; r->life && s < 2; s++)
        v->side[s].at = take_stamp(r);
    for (unsigned i = 0; i < 4; i++)
        n[i] = (size_t)take(r, 4);
    for (unsigned i = 0; i < 4; i++) {
        text[i] = take_text(r, n[i]);
        if (take(r, 1) != 0)
            r->short_of = true;
    }
    v->name = text[0];
    v->type = text[1];
    v->side[0].value = text[2];
    v->side[1].value = text[3];
    return !r->short_of;
}

/* The n twins that follow, by name. */
static int take_twins(struct reader *r, struct kei_twin_device *d, uint64_t n,
                      const struct ke_alloc *al)
{
    struct kei_twin_view v;

    if (n > r->n / TWIN_FIXED)
        return KE_EPARSE;
    if (n == 0)
        return 0;
    d->twins = kei_array_alloc(al, (size_t)n, sizeof *d->twins);
    if (!d->twins)
        return KE_ENOMEM;
    d->cap = (uint32_t)n;
    for (; d->n < n; d->n++) {
        if (!take_twin(r, &v))
            return KE_EPARSE;
        d->twins[d->n] = kei_twin_make(al, &v, v.up, v.dirty);
        if (!d->twins[d->n])
            return KE_ENOMEM;
        if (d->n && strcmp(d->twins[d->n - 1]->text, d->twins[d->n]->text) >= 0) {
            kei_twin_unref(al, d->twins[d->n]);
            return KE_EPARSE;
        }
    }
    return 0;
}

static int take_device(struct reader *r, struct kei_twin_device *d, const struct ke_alloc *al)
{
    char **const texts[] = {&d->description, &d->state, &d->last_online, &d->attributes};
    int e = 0;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && e == 0; i++) {
        struct ke_str s = take_string(r);

        if (texts[i] == &d->attributes &&
            (kei_json_check(s, 0, NULL) < 0 || kei_json_type(s) != '{'))
            s.n = 0;
        e = kei_twin_device_text(texts[i], al, s);
    }
    d->seq = take(r, 8);
    d->state_up = take(r, 8);
    if (r->life)
        d->life = take_stamp(r);
    if (e == 0)
        e = take_twins(r, d, take(r, 4), al);
    return e == 0 && (r->short_of || r->n) ? KE_EPARSE : e;
}

int kei_twin_row_read(struct kei_twin_device *d, const struct ke_alloc *al, struct ke_str row,
                      struct ke_error *err)
{
    struct reader r = {(const unsigned char *)row.p, row.n, false, false};
    struct ke_str ns, name;
    int e;

    memset(d, 0, sizeof *d);
    r.life = row.n >= MAGIC_LEN && memcmp(row.p, MAGIC_LIFE, MAGIC_LEN) == 0;
    if (row.n < MAGIC_LEN || (!r.life && memcmp(row.p, MAGIC, MAGIC_LEN) != 0))
        return kei_error(err, KE_EPARSE, "a row of %zu bytes is no device of this release", row.n);
    r.p += MAGIC_LEN;
    r.n -= MAGIC_LEN;
    ns = take_string(&r);
    name = take_string(&r);
    if (r.short_of)
        return kei_error(err, KE_EPARSE, "the row of a device ends early");
    e = kei_twin_device_init(d, al, ns, name, err);
    if (e < 0)
        return e;
    e = take_device(&r, d, al);
    if (e < 0) {
        (void)kei_error(err, e,
                        e == KE_ENOMEM ? "out of memory for device %s"
                                       : "the row of device %s is not whole",
                        d->name);
        kei_twin_device_fini(d, al);
    }
    return e;
}
