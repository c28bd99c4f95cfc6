/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that has a life, between the merge and the twins as they are kept: what our cloud tells
 * becomes an update (MERGE), another life begins, stamps that no clock can have become others.
 * Memory of the table given; one thread at a time.
 */
#include "message/twin_priv.h"

static int compare(struct ke_str a, struct ke_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static const struct kei_twin_view *type_of(const struct kei_twin_view *types, uint32_t n,
                                           struct ke_str name)
{
    uint32_t lo = 0, hi = n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = compare(types[mid].name, name);

        if (c == 0)
            return &types[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static void told(struct kei_twin_view *v, const struct kei_merge_twin *from,
                 const struct kei_twin_view *type)
{
    if (type) {
        v->has_optional = type->has_optional;
        v->optional = type->optional;
        if (!kei_str_is(type->type, "deleted"))
            v->type = type->type;
        v->side[0].has_version = type->side[0].has_version;
        v->side[0].cloud = type->side[0].cloud;
    }
    v->dirty = 1u << KEI_TWIN_EXPECTED;
    if (!kei_hlc_is_zero(&from->v[1].at))
        v->dirty |= 1u << KEI_TWIN_ACTUAL;
    for (unsigned s = 0; s < 2; s++) {
        v->side[s].has = from->v[s].text != NULL;
        v->side[s].value = kei_str(from->v[s].text ? from->v[s].text : "");
        v->side[s].at = from->v[s].at;
    }
}

int kei_twin_told(struct kei_twin_view **ret, uint32_t *ret_n, const struct kei_twin_device *d,
                  const struct kei_merge_device *from, const struct kei_twin_view *types,
                  uint32_t n_types, struct kei_arena *a)
{
    struct kei_twin_view *list = kei_arena_array(a, (size_t)d->n + from->n + 1, sizeof *list);
    uint32_t i = 0, k = 0, n = 0;

    if (!list)
        return KE_ENOMEM;
    while (i < d->n || k < from->n) {
        struct ke_str name =
            i < d->n ? kei_strn(d->twins[i]->text, d->twins[i]->n[0]) : kei_strn("", 0);
        int c = i == d->n ? 1 : k == from->n ? -1 : compare(name, kei_str(from->twins[k].name));

        if (c < 0 && kei_hlc_is_zero(&d->twins[i]->at[KEI_TWIN_EXPECTED])) {
            i++;
            continue;
        }
        memset(&list[n], 0, sizeof list[n]);
        list[n].name = c < 0 ? name : kei_str(from->twins[k].name);
        list[n].type = kei_strn("", 0);
        if (c < 0)
            list[n].dirty = 1u << KEI_TWIN_EXPECTED; /* not there */
        else
            told(&list[n], &from->twins[k], type_of(types, n_types, list[n].name));
        n++;
        i += c <= 0;
        k += c >= 0;
    }
    *ret = list;
    *ret_n = n;
    return 0;
}

int kei_twin_reborn(struct kei_twin_device *d, const struct ke_alloc *al,
                    const struct kei_hlc *life)
{
    char **const texts[] = {&d->state, &d->last_online, &d->attributes};
    char *empty[3] = {kei_strdup(al, ""), kei_strdup(al, ""), kei_strdup(al, "")};

    if (!empty[0] || !empty[1] || !empty[2]) {
        for (unsigned i = 0; i < 3; i++)
            kei_free(al, empty[i]);
        return KE_ENOMEM;
    }
    for (unsigned i = 0; i < 3; i++) {
        kei_free(al, *texts[i]);
        *texts[i] = empty[i];
    }
    for (uint32_t i = 0; i < d->n; i++)
        kei_twin_unref(al, d->twins[i]);
    d->n = 0;
    d->state_up = 0;
    d->seq++; /* what is confirmed of the former life is nothing of this one */
    d->life = *life;
    return 0;
}

/* The sides whose stamp must become another. */
static uint32_t to_restamp(const struct kei_twin *t, const struct kei_hlc *limit)
{
    uint32_t sides = 0;

    for (unsigned s = 0; s < 2; s++) {
        bool is = limit ? kei_hlc_compare(&t->at[s], limit) > 0
                        : (t->dirty & (1u << s)) && kei_hlc_is_zero(&t->at[s]);

        sides |= is ? 1u << s : 0;
    }
    return sides;
}

int kei_twin_restamp(struct kei_twin_device *d, const struct ke_alloc *al,
                     const struct kei_hlc *limit, struct kei_hlc *clock, int64_t wall_ms,
                     uint32_t *ret_n)
{
    uint64_t seq = d->seq + 1;

    *ret_n = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        const struct kei_twin *old = d->twins[i];
        uint32_t sides = to_restamp(old, limit);
        struct kei_twin_view v;
        struct kei_twin *t;

        if (!sides)
            continue;
        kei_twin_view(&v, old);
        for (unsigned s = 0; s < 2; s++) {
            if (sides & (1u << s))
                v.side[s].at = kei_hlc_tick(clock, wall_ms);
        }
        t = kei_twin_make(al, &v, seq, v.dirty | sides);
        if (!t)
            return KE_ENOMEM;
        d->twins[i] = t;
        kei_twin_unref(al, old);
        d->seq = seq;
        ++*ret_n;
    }
    return 0;
}

int kei_twin_tell_again(struct kei_twin_device *d, const struct ke_alloc *al)
{
    uint64_t seq = d->seq + 1;

    for (uint32_t i = 0; i < d->n; i++) {
        const struct kei_twin *old = d->twins[i];
        struct kei_twin_view v;
        struct kei_twin *t;
        uint32_t sides = 0;

        for (unsigned s = 0; s < 2; s++)
            sides |= kei_hlc_is_zero(&old->at[s]) ? 0 : 1u << s;
        if (!sides)
            continue;
        kei_twin_view(&v, old);
        t = kei_twin_make(al, &v, seq, v.dirty | sides);
        if (!t)
            return KE_ENOMEM;
        d->twins[i] = t;
        kei_twin_unref(al, old);
        d->seq = seq;
    }
    return 0;
}

void kei_twin_clock_see(struct kei_hlc *clock, const struct kei_twin_device *d,
                        const struct kei_hlc *limit)
{
    kei_hlc_see(clock, &d->life);
    for (uint32_t i = 0; i < d->n; i++) {
        for (unsigned s = 0; s < 2; s++) {
            if (!limit || kei_hlc_compare(&d->twins[i]->at[s], limit) <= 0)
                kei_hlc_see(clock, &d->twins[i]->at[s]);
        }
    }
}

bool kei_twin_later(const struct kei_twin_device *d, const struct kei_hlc *limit)
{
    for (uint32_t i = 0; i < d->n; i++) {
        if (to_restamp(d->twins[i], limit))
            return true;
    }
    return false;
}
