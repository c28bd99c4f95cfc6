/* SPDX-License-Identifier: Apache-2.0 */
/* Setting one member of a raw JSON object; comparing values. Pure, no recursion; any thread. */
#include "message/k8s.h"

#define NAME_MAX_LEN 127

/* ---- setting ---- */

/* name as a member's key with its colon */
static void add_key(struct ke_buf *out, struct ke_str name)
{
    struct kei_jw w;

    kei_jw_init(&w, out);
    kei_jw_strv(&w, name);
    kei_buf_addc(out, ':');
}

/* value wrapped in the objects that the rest of the path names */
static void add_nested(struct ke_buf *out, struct ke_str path, struct ke_str value)
{
    size_t open = 0;

    while (path.p) {
        struct ke_str rest, name = kei_str_cut(path, '.', &rest);
        kei_buf_addc(out, '{');
        add_key(out, name);
        open++;
        path = rest;
    }
    kei_buf_addv(out, value);
    while (open--)
        kei_buf_addc(out, '}');
}

static bool key_is(struct ke_str raw, struct ke_str name)
{
    char key[NAME_MAX_LEN + 1];

    memcpy(key, name.p, name.n);
    key[name.n] = '\0';
    return kei_json_key_is(raw, key);
}

/* value of the member, the last if there are several; n 0 if there is none */
static struct ke_str last_member(struct ke_str obj, struct ke_str name)
{
    struct ke_str key, v, found = {NULL, 0};
    size_t it = 0;

    while (kei_json_next(obj, &it, &key, &v)) {
        if (key_is(key, name))
            found = v;
    }
    return found;
}

/* obj without the member, however often it is there */
static void add_without(struct ke_buf *out, struct ke_str obj, struct ke_str name)
{
    struct ke_str key, v;
    size_t it = 0;
    bool first = true;

    kei_buf_addc(out, '{');
    while (kei_json_next(obj, &it, &key, &v)) {
        if (key_is(key, name))
            continue;
        if (!first)
            kei_buf_addc(out, ',');
        kei_buf_add(out, key.p - 1, (size_t)(v.p + v.n - key.p) + 1);
        first = false;
    }
    kei_buf_addc(out, '}');
}

static bool good_path(struct ke_str path)
{
    do {
        struct ke_str name = kei_str_cut(path, '.', &path);
        if (name.n == 0 || name.n > NAME_MAX_LEN)
            return false;
    } while (path.p);
    return true;
}

/* from..to of text is replaced by what follows until splice_end */
static void splice_start(struct ke_buf *out, struct ke_str text, const char *from)
{
    kei_buf_add(out, text.p, (size_t)(from - text.p));
}

static void splice_end(struct ke_buf *out, struct ke_str text, const char *to)
{
    kei_buf_add(out, to, (size_t)(text.p + text.n - to));
}

/* Checked input; val.p NULL removes. */
static void set_member(struct ke_buf *out, struct ke_str obj, struct ke_str path, struct ke_str val)
{
    struct ke_str at = obj, name, rest, v;

    /* down to the object whose member changes */
    for (;; at = v, path = rest) {
        name = kei_str_cut(path, '.', &rest);
        v = last_member(at, name);
        if (!rest.p || kei_json_type(v) != '{')
            break;
    }
    if (!val.p && (rest.p || v.n == 0)) {
        kei_buf_addv(out, obj); /* nothing there to remove */
    } else if (!val.p) {
        splice_start(out, obj, at.p);
        add_without(out, at, name);
        splice_end(out, obj, at.p + at.n);
    } else if (v.n) {
        splice_start(out, obj, v.p);
        add_nested(out, rest, val);
        splice_end(out, obj, v.p + v.n);
    } else {
        const char *close = at.p + at.n - 1;
        size_t it = 0;
        splice_start(out, obj, close);
        if (kei_json_next(at, &it, NULL, NULL))
            kei_buf_addc(out, ',');
        add_key(out, name);
        add_nested(out, rest, val);
        splice_end(out, obj, close);
    }
}

int kei_json_set(struct ke_buf *out, struct ke_str object, const char *path, struct ke_str value,
                 struct ke_error *err)
{
    struct ke_str obj, val = {NULL, 0};
    size_t before = out->n;

    if (!path || !good_path(kei_str(path)))
        return kei_error(err, KE_EINVAL, "path %s was not one of member names of 1 to %d bytes",
                         path ? path : "(none)", NAME_MAX_LEN);
    int r = kei_json_value(object, 0, &obj, err);
    if (r < 0)
        return kei_error_prefix(err, r, "object in which %s was to be set", path);
    if (kei_json_type(obj) != '{')
        return kei_error(err, KE_EPARSE, "%s could not be set: there was no JSON object", path);
    if (value.p)
        r = kei_json_value(value, 0, &val, err);
    if (r < 0)
        return kei_error_prefix(err, r, "new value of %s", path);
    set_member(out, obj, kei_str(path), val);
    if (kei_buf_ok(out))
        return 0;
    out->n = before;
    if (out->p)
        out->p[before] = '\0';
    return kei_error(err, KE_ENOMEM, "memory ran out while %s was set", path);
}

/* ---- comparing ---- */

struct frame {
    struct ke_str a, b;
    size_t ia, ib;
};

/* text that may be searched for members that stand elsewhere */
#define SEARCH_MAX (UINT64_C(256) << 20)

static uint64_t count(struct ke_str v)
{
    uint64_t n = 0;
    size_t it = 0;

    while (kei_json_next(v, &it, NULL, NULL))
        n++;
    return n;
}

static bool same_scalar(struct ke_str a, struct ke_str b)
{
    switch (kei_json_type(a)) {
    case '"':
        return kei_json_str_eq(a, b);
    case '0':
        return kei_json_num_eq(a, b);
    default:
        return kei_str_eq(a, b);
    }
}

/* true if the member is there exactly once */
static bool find_once(struct ke_str obj, struct ke_str raw_key, struct ke_str *ret)
{
    struct ke_str k, v;
    size_t it = 0;
    int found = 0;

    while (kei_json_next(obj, &it, &k, &v)) {
        if (kei_json_key_eq(k, raw_key)) {
            *ret = v;
            found++;
        }
    }
    return found == 1;
}

/* The next pair of values of the two, matched by name; 0 end, 1 pair, -1 they differ. */
static int next_pair(struct frame *f, uint64_t *search, struct ke_str *a, struct ke_str *b)
{
    struct ke_str ka, kb;
    bool more_a = kei_json_next(f->a, &f->ia, &ka, a);
    bool more_b = kei_json_next(f->b, &f->ib, &kb, b);
    uint64_t cost = (uint64_t)f->a.n + f->b.n;

    if (!more_a || !more_b)
        return more_a == more_b ? 0 : -1;
    if (kei_json_type(f->a) == '[' || kei_json_key_eq(ka, kb))
        return 1;
    if (*search < cost)
        return -1;
    *search -= cost;
    /* a name that stands at different places must be unique on both sides: as the numbers of
     * members are equal, then the other names there are the same too */
    return find_once(f->a, ka, a) && find_once(f->b, ka, b) ? 1 : -1;
}

bool kei_json_same(struct ke_str a, struct ke_str b)
{
    struct frame stack[KEI_JSON_DEPTH];
    size_t depth = 0;
    uint64_t search = SEARCH_MAX;

    if (kei_json_value(a, 0, &a, NULL) < 0 || kei_json_value(b, 0, &b, NULL) < 0)
        return false;
    for (;;) {
        char type = kei_json_type(a);
        if (type != kei_json_type(b))
            return false;
        if (type == '{' || type == '[') {
            if (depth == KEI_JSON_DEPTH || (type == '{' && count(a) != count(b)))
                return false;
            stack[depth++] = (struct frame){a, b, 0, 0};
        } else if (!same_scalar(a, b)) {
            return false;
        }
        int r = 0;
        while (depth && (r = next_pair(&stack[depth - 1], &search, &a, &b)) == 0)
            depth--;
        if (r <= 0)
            return r == 0;
    }
}
