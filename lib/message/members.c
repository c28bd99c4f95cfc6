/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Index of a JSON object's members, so that merging two objects of n members costs n log n however
 * they are ordered. Memory is the caller's arena; one thread at a time.
 */
#include <stdlib.h>

#include "message/members.h"

static int compare(struct ke_str a, uint32_t akind, struct ke_str b, uint32_t bkind)
{
    if (akind != bkind)
        return akind < bkind ? -1 : 1;
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return a.n ? memcmp(a.p, b.p, a.n) : 0;
}

static int by_name(const void *x, const void *y)
{
    const struct kei_member *a = *(struct kei_member *const *)x;
    const struct kei_member *b = *(struct kei_member *const *)y;
    int c = compare(a->name, a->kind, b->name, b->kind);

    return c ? c : a->at < b->at ? -1 : 1;
}

static void split_directive(struct kei_member *m)
{
    static const struct ke_str order = {"$setElementOrder/", 17};
    static const struct ke_str drop = {"$deleteFromPrimitiveList/", 25};
    struct ke_str prefix = {NULL, 0};

    if (kei_str_starts(m->name, order)) {
        m->kind = KEI_MEMBER_ORDER;
        prefix = order;
    } else if (kei_str_starts(m->name, drop)) {
        m->kind = KEI_MEMBER_DELETE;
        prefix = drop;
    }
    m->name = kei_strn(m->name.p + prefix.n, m->name.n - prefix.n);
}

static int read_one(struct kei_member *m, bool directives, struct kei_arena *a,
                    struct ke_error *err)
{
    m->name = m->raw;
    if (m->raw.n && memchr(m->raw.p, '\\', m->raw.n)) {
        /* the quotes stand around the raw name */
        char *s;
        int r = kei_json_text(&s, kei_strn(m->raw.p - 1, m->raw.n + 2), a, err);
        if (r < 0)
            return r;
        m->name = kei_str(s);
    }
    if (directives)
        split_directive(m);
    return 0;
}

int kei_members_read(struct kei_members *ms, struct ke_str object, bool directives,
                     struct kei_arena *a, uint32_t *budget, struct ke_error *err)
{
    uint32_t n = 0;
    size_t it = 0;

    *ms = (struct kei_members){NULL, 0, NULL};
    if (kei_json_type(object) != '{')
        return 0;
    while (kei_json_next(object, &it, NULL, NULL)) {
        if (n == *budget)
            return kei_error(err, KE_ELIMIT, "JSON to be merged had too many members (over %u)",
                             *budget);
        n++;
    }
    if (n == 0)
        return 0;
    *budget -= n;
    ms->m = kei_arena_array(a, n, sizeof *ms->m);
    ms->sorted = kei_arena_array(a, n, sizeof *ms->sorted);
    if (!ms->m || !ms->sorted)
        return kei_error(err, KE_ENOMEM, "memory ran out while JSON was merged");
    it = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct kei_member *m = &ms->m[i];
        kei_json_next(object, &it, &m->raw, &m->value);
        m->at = i;
        int r = read_one(m, directives, a, err);
        if (r < 0)
            return r;
        ms->sorted[i] = m;
    }
    qsort(ms->sorted, n, sizeof *ms->sorted, by_name);
    for (uint32_t i = 0; i + 1 < n; i++) {
        struct kei_member *m = ms->sorted[i], *next = ms->sorted[i + 1];
        m->shadowed = compare(m->name, m->kind, next->name, next->kind) == 0;
    }
    ms->n = n;
    return 0;
}

const struct kei_member *kei_members_find(const struct kei_members *ms, struct ke_str name,
                                          uint32_t kind)
{
    uint32_t lo = 0, hi = ms->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct kei_member *m = ms->sorted[mid];
        int c = compare(m->name, m->kind, name, kind);
        if (c == 0 && !m->shadowed)
            return m;
        if (c <= 0) /* of equals the last one counts */
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}
