/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Twins and devices as they are kept: one block for each twin, counted; a device with its twins by
 * name. Memory of the table given; one thread at a time.
 */
#include "message/twin_priv.h"

#include <stdlib.h>

void kei_twin_rules_default(struct kei_twin_rules *r)
{
    /* All of a device must fit the status the cloud keeps of it, 1 MiB as JSON: what it refuses it
     * would refuse for ever. */
    *r = (struct kei_twin_rules){.dialect = KE_DIALECT_AUTO,
                                 .max_twins = 1024,
                                 .max_value = 64u << 10,
                                 .max_bytes = 512u << 10};
}

bool kei_twin_long_ids(uint32_t dialect)
{
    return dialect == KE_DIALECT_1_23;
}

/* ---- a twin ---- */

static const char *text_at(const struct kei_twin *t, unsigned i)
{
    size_t at = 0;

    for (unsigned k = 0; k < i; k++)
        at += (size_t)t->n[k] + 1;
    return t->text + at;
}

const char *kei_twin_name(const struct kei_twin *t)
{
    return t->text;
}

const char *kei_twin_type(const struct kei_twin *t)
{
    return text_at(t, 1);
}

bool kei_twin_deleted(const struct kei_twin *t)
{
    return strcmp(kei_twin_type(t), "deleted") == 0;
}

uint32_t kei_twin_dirty(const struct kei_twin *t)
{
    return t->dirty;
}

uint64_t kei_twin_up(const struct kei_twin *t)
{
    return t->up;
}

void kei_twin_view(struct kei_twin_view *ret, const struct kei_twin *t)
{
    memset(ret, 0, sizeof *ret);
    ret->name = kei_strn(t->text, t->n[0]);
    ret->type = kei_strn(text_at(t, 1), t->n[1]);
    ret->has_meta = ret->has_optional = true;
    ret->optional = t->flags & KEI_TWIN_F_OPTIONAL;
    ret->dirty = t->dirty;
    ret->up = t->up;
    for (unsigned s = 0; s < 2; s++) {
        unsigned f = (unsigned)t->flags >> (KEI_TWIN_F_SHIFT * s);
        struct kei_twin_side *side = &ret->side[s];

        side->has = f & KEI_TWIN_F_HAS;
        side->has_ts = f & KEI_TWIN_F_TS;
        side->has_version = f & KEI_TWIN_F_VERSION;
        side->value = kei_strn(text_at(t, 2 + s), t->n[2 + s]);
        side->ts = t->ts[s];
        side->cloud = t->cloud[s];
        side->edge = t->edge[s];
        side->at = t->at[s];
    }
}

struct kei_twin *kei_twin_make(const struct ke_alloc *al, const struct kei_twin_view *v,
                               uint64_t up, uint32_t dirty)
{
    struct ke_str s[4] = {v->name, v->type, v->side[0].value, v->side[1].value};
    size_t n = 0;
    struct kei_twin *t;
    char *p;

    for (unsigned i = 0; i < 4; i++) {
        if (i >= 2 && !v->side[i - 2].has)
            s[i].n = 0;
        if (s[i].n >= UINT32_MAX / 8)
            return NULL;
        n += s[i].n + 1;
    }
    t = kei_zalloc(al, sizeof *t + n);
    if (!t)
        return NULL;
    t->refs = 1;
    t->up = up;
    t->dirty = (uint16_t)dirty;
    t->flags = v->optional ? KEI_TWIN_F_OPTIONAL : 0;
    p = t->text;
    for (unsigned i = 0; i < 4; i++) {
        t->n[i] = (uint32_t)s[i].n;
        if (s[i].n)
            memcpy(p, s[i].p, s[i].n);
        p += s[i].n + 1;
    }
    for (unsigned i = 0; i < 2; i++) {
        const struct kei_twin_side *side = &v->side[i];
        unsigned f = (side->has ? KEI_TWIN_F_HAS : 0u) |
                     (side->has && side->has_ts ? KEI_TWIN_F_TS : 0u) |
                     (side->has_version ? KEI_TWIN_F_VERSION : 0u);

        t->flags = (uint16_t)(t->flags | (f << (KEI_TWIN_F_SHIFT * i)));
        t->ts[i] = side->has && side->has_ts ? side->ts : 0;
        t->cloud[i] = side->has_version ? side->cloud : 0;
        t->edge[i] = side->has_version ? side->edge : 0;
        t->at[i] = side->at;
    }
    return t;
}

size_t kei_twin_bytes(const struct kei_twin *t)
{
    return (size_t)t->n[0] + t->n[1] + t->n[2] + t->n[3] + 4;
}

struct kei_twin *kei_twin_ref(const struct kei_twin *t)
{
    struct kei_twin *m = (struct kei_twin *)(uintptr_t)t; /* only the count changes */

    m->refs++;
    return m;
}

void kei_twin_unref(const struct ke_alloc *al, const struct kei_twin *t)
{
    struct kei_twin *m = (struct kei_twin *)(uintptr_t)t;

    if (m && --m->refs == 0)
        kei_free(al, m);
}

/* ---- ids ---- */

bool kei_twin_name_ok(struct ke_str s)
{
    if (s.n == 0 || s.n > KEI_TWIN_NAME_MAX || !kei_utf8_valid(s))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (strchr("/+#", s.p[i]) || (unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    }
    return true;
}

bool kei_twin_id_parse(struct ke_str id, struct ke_str *ret_ns, struct ke_str *ret_name)
{
    struct ke_str rest, first = kei_str_cut(id, '/', &rest);

    if (!rest.p) {
        *ret_ns = kei_strn("", 0);
        *ret_name = first;
        return kei_twin_name_ok(first);
    }
    *ret_ns = first;
    *ret_name = rest;
    return kei_twin_name_ok(first) && kei_twin_name_ok(rest);
}

void kei_twin_id_write(struct ke_buf *out, const struct kei_twin_device *d, uint32_t dialect)
{
    if (kei_twin_long_ids(dialect)) {
        kei_buf_adds(out, *d->ns ? d->ns : "default");
        kei_buf_addc(out, '/');
    }
    kei_buf_adds(out, d->name);
}

/* ---- a device ---- */

int kei_twin_device_init(struct kei_twin_device *d, const struct ke_alloc *al, struct ke_str ns,
                         struct ke_str name, struct ke_error *err)
{
    memset(d, 0, sizeof *d);
    if (!kei_twin_name_ok(name) || (ns.n && !kei_twin_name_ok(ns)))
        return kei_error(err, KE_EINVAL, "\"%.*s\" in namespace \"%.*s\" is no name of a device",
                         KEI_FMT(name), KEI_FMT(ns));
    d->ns = kei_strndup(al, ns.p ? ns.p : "", ns.n);
    d->name = kei_strndup(al, name.p, name.n);
    d->description = kei_strdup(al, "");
    d->state = kei_strdup(al, "");
    d->last_online = kei_strdup(al, "");
    d->attributes = kei_strdup(al, "");
    if (d->ns && d->name && d->description && d->state && d->last_online && d->attributes)
        return 0;
    kei_twin_device_fini(d, al);
    return kei_error(err, KE_ENOMEM, "out of memory for device %.*s", KEI_FMT(name));
}

void kei_twin_device_fini(struct kei_twin_device *d, const struct ke_alloc *al)
{
    for (uint32_t i = 0; i < d->n; i++)
        kei_twin_unref(al, d->twins[i]);
    kei_free(al, d->twins);
    kei_free(al, d->ns);
    kei_free(al, d->name);
    kei_free(al, d->description);
    kei_free(al, d->state);
    kei_free(al, d->last_online);
    kei_free(al, d->attributes);
    memset(d, 0, sizeof *d);
}

int kei_twin_device_copy(struct kei_twin_device *to, const struct kei_twin_device *from,
                         const struct ke_alloc *al)
{
    *to = (struct kei_twin_device){.ns = kei_strdup(al, from->ns),
                                   .name = kei_strdup(al, from->name),
                                   .description = kei_strdup(al, from->description),
                                   .state = kei_strdup(al, from->state),
                                   .last_online = kei_strdup(al, from->last_online),
                                   .attributes = kei_strdup(al, from->attributes),
                                   .seq = from->seq,
                                   .state_up = from->state_up,
                                   .life = from->life};
    if (from->n)
        to->twins = kei_array_alloc(al, from->n, sizeof *to->twins);
    if (!to->ns || !to->name || !to->description || !to->state || !to->last_online ||
        !to->attributes || (from->n && !to->twins)) {
        kei_twin_device_fini(to, al);
        return KE_ENOMEM;
    }
    to->cap = from->n;
    for (; to->n < from->n; to->n++)
        to->twins[to->n] = kei_twin_ref(from->twins[to->n]);
    return 0;
}

int kei_twin_device_text(char **member, const struct ke_alloc *al, struct ke_str text)
{
    char *copy;

    if (kei_str_is(text, *member))
        return 0;
    copy = kei_strndup(al, text.p ? text.p : "", text.n);
    if (!copy)
        return KE_ENOMEM;
    kei_free(al, *member);
    *member = copy;
    return 0;
}

const struct kei_twin *kei_twin_find(const struct kei_twin_device *d, struct ke_str name)
{
    uint32_t lo = 0, hi = d->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct kei_twin *t = d->twins[mid];
        size_t k = t->n[0] < name.n ? t->n[0] : name.n;
        int c = k ? memcmp(t->text, name.p, k) : 0;

        if (c == 0)
            c = t->n[0] < name.n ? -1 : t->n[0] > name.n;
        if (c == 0)
            return t;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

bool kei_twin_unconfirmed(const struct kei_twin_device *d)
{
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->twins[i]->dirty)
            return true;
    }
    return false;
}

bool kei_twin_confirm(struct kei_twin_device *d, const struct ke_alloc *al, uint64_t seq)
{
    bool any = false;

    for (uint32_t i = 0; i < d->n; i++) {
        const struct kei_twin *t = d->twins[i];
        struct kei_twin_view v;
        struct kei_twin *clean;

        if (!t->dirty || t->up > seq)
            continue;
        kei_twin_view(&v, t);
        clean = kei_twin_make(al, &v, 0, 0);
        if (!clean)
            continue; /* it is told once more */
        d->twins[i] = clean;
        kei_twin_unref(al, t);
        any = true;
    }
    return any;
}
