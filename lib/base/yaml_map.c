/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps of YAML: keys that come twice are refused, merge keys bring in what is not there. Works on
 * spans of the texts of a parse; one thread at a time.
 */
#include "kei_config.h"

#include "base/yaml_priv.h"

#if KEI_HAVE_YAML

#include "base/yaml_build.h"

#define MERGES_MAX 64

static struct ke_str key_text(struct kei_yb *b, const struct kei_yb_key *k)
{
    return kei_yb_view(b, k->at);
}

static int compare(struct ke_str a, struct ke_str b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return memcmp(a.p, b.p, a.n); /* a key has its quotes: never empty */
}

/* Heapsort: no memory, no recursion, no bad case. */
static void sift(struct kei_yb *b, struct kei_yb_key *k, size_t root, size_t n)
{
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n)
            return;
        if (child + 1 < n && compare(key_text(b, &k[child]), key_text(b, &k[child + 1])) < 0)
            child++;
        if (compare(key_text(b, &k[root]), key_text(b, &k[child])) >= 0)
            return;
        struct kei_yb_key tmp = k[root];
        k[root] = k[child];
        k[child] = tmp;
        root = child;
    }
}

static void sort_keys(struct kei_yb *b, struct kei_yb_key *k, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(b, k, i, n);
    for (size_t i = n; i-- > 1;) {
        struct kei_yb_key tmp = k[0];
        k[0] = k[i];
        k[i] = tmp;
        sift(b, k, 0, i);
    }
}

static bool has_key(struct kei_yb *b, const struct kei_yb_key *k, size_t n, struct ke_str key)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare(key_text(b, &k[mid]), key);
        if (c == 0)
            return true;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

int kei_yb_add_key(struct kei_yb *b, struct kei_yb_span at, uint32_t line)
{
    void *array = b->keys;

    bool ok = kei_yaml_grow(b->y->alloc, &array, &b->cap_keys, b->n_keys, sizeof *b->keys);
    b->keys = array;
    if (!ok)
        return kei_yb_no_memory(b);
    b->keys[b->n_keys++] = (struct kei_yb_key){at, line};
    return 0;
}

/* the keys of the map on top; n 0: none, then NULL */
static struct kei_yb_key *own_keys(struct kei_yb *b, const struct kei_yb_frame *f, size_t *ret_n)
{
    *ret_n = b->n_keys - f->keys;
    return *ret_n ? b->keys + f->keys : NULL;
}

static int check_duplicates(struct kei_yb *b, struct kei_yb_frame *f)
{
    size_t n;
    struct kei_yb_key *k = own_keys(b, f, &n);

    sort_keys(b, k, n);
    for (size_t i = 1; i < n; i++) {
        struct ke_str text = key_text(b, &k[i]);
        if (compare(key_text(b, &k[i - 1]), text) == 0)
            return kei_error(b->err, KE_EPARSE, "YAML line %u: key %.*s is in its map already",
                             k[i].line > k[i - 1].line ? k[i].line : k[i - 1].line, KEI_FMT(text));
    }
    return 0;
}

/* ---- merge keys ---- */

int kei_yb_add_merge(struct kei_yb *b, struct kei_yb_span at)
{
    void *array = b->merges;

    if (b->n_merges - kei_yb_top(b)->merges == MERGES_MAX)
        return kei_error(b->err, KE_ELIMIT, "YAML map had more than %d merge keys", MERGES_MAX);
    bool ok = kei_yaml_grow(b->y->alloc, &array, &b->cap_merges, b->n_merges, sizeof *b->merges);
    b->merges = array;
    if (!ok)
        return kei_yb_no_memory(b);
    b->merges[b->n_merges++] = at;
    return 0;
}

/* One map of a merge key into the map on top: what is there already stays. */
static int merge_map(struct kei_yb *b, struct kei_yb_frame *f, struct kei_yb_span from)
{
    size_t known = b->n_keys - f->keys, it = 0, n;
    struct kei_yb_key *keys;
    struct ke_str key, value;
    int r = 0;

    if (b->work < from.n)
        return kei_error(b->err, KE_ELIMIT, "YAML line %u: merge keys brought in too much",
                         f->line);
    b->work -= from.n;
    while (r == 0 && kei_json_next(kei_yb_view(b, from), &it, &key, &value)) {
        const char *base = kei_yb_view(b, from).p;
        struct kei_yb_span k = {from.where, from.off + (size_t)(key.p - 1 - base), key.n + 2};
        struct kei_yb_span v = {from.where, from.off + (size_t)(value.p - base), value.n};
        keys = own_keys(b, f, &n);
        if (known && has_key(b, keys, known, kei_yb_view(b, k)))
            continue;
        struct ke_buf *out = kei_yb_text(b, f->where);
        if (f->comma)
            kei_buf_addc(out, ',');
        f->comma = true;
        struct kei_yb_span at = {f->where, out->n, k.n};
        r = kei_yb_copy(b, f->where, k);
        if (r == 0)
            r = kei_yb_add_key(b, at, f->line);
        kei_buf_addc(out, ':');
        if (r == 0)
            r = kei_yb_mark(b, f->line);
        if (r == 0)
            r = kei_yb_copy(b, f->where, v);
    }
    keys = own_keys(b, f, &n);
    sort_keys(b, keys, n);
    return r;
}

int kei_yb_bad_merge(struct kei_yb *b, uint32_t line)
{
    return kei_error(b->err, KE_EPARSE, "YAML line %u: a merge key takes a map or a list of maps",
                     line);
}

static int merge_one(struct kei_yb *b, struct kei_yb_frame *f, struct kei_yb_span m)
{
    struct ke_str v;
    size_t it = 0, n = 0;
    int r = 0;

    if (kei_json_type(kei_yb_view(b, m)) == '{')
        return merge_map(b, f, m);
    if (kei_json_type(kei_yb_view(b, m)) != '[')
        return kei_yb_bad_merge(b, f->line);
    if (b->work < m.n)
        return kei_error(b->err, KE_ELIMIT, "YAML line %u: merge keys brought in too much",
                         f->line);
    b->work -= m.n;
    while (r == 0 && kei_json_next(kei_yb_view(b, m), &it, NULL, &v)) {
        struct kei_yb_span s = {m.where, m.off + (size_t)(v.p - kei_yb_view(b, m).p), v.n};
        if (kei_json_type(v) != '{')
            return kei_yb_bad_merge(b, f->line);
        if (++n > MERGES_MAX)
            return kei_error(b->err, KE_ELIMIT, "YAML line %u: more than %d maps were to be merged",
                             f->line, MERGES_MAX);
        r = merge_map(b, f, s);
    }
    return r;
}

int kei_yb_end_map(struct kei_yb *b)
{
    struct kei_yb_frame *f = kei_yb_top(b);

    int r = check_duplicates(b, f);
    for (size_t i = f->merges; i < b->n_merges && r == 0; i++)
        r = merge_one(b, f, b->merges[i]);
    return r;
}

#endif
