/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the payloads of device topics. As Go's decoder does: names of members in any case, null
 * as absent, a member of another type spoils all. Views into the text; the arena for the rest.
 */
#include <stdlib.h>

#include "base/json.h"
#include "message/twin.h"

#define LIST_MAX 65536u /* devices or twins in one payload */

struct reading {
    struct kei_arena *a;
    struct ke_error *err;
};

static int wrong(struct reading *r, const char *member, const char *want)
{
    return kei_error(r->err, KE_EPARSE, "%s is no %s", member, want);
}

/* false: absent or null */
static bool member(struct ke_str obj, const char *name, struct ke_str *ret)
{
    return kei_json_iget(obj, name, ret) && kei_json_type(*ret) != 'n';
}

/* As Go reads it: bytes that are no UTF-8 become U+FFFD. */
static int mended(struct reading *r, struct ke_str *s)
{
    char *out, *p;

    if (kei_utf8_valid(*s))
        return 0;
    out = p = kei_arena_alloc(r->a, s->n * 3 + 1);
    if (!out)
        return kei_error(r->err, KE_ENOMEM, "out of memory for a text");
    for (size_t i = 0; i < s->n;) {
        size_t n = kei_utf8_next(s->p + i, s->n - i);

        if (n) {
            memcpy(p, s->p + i, n);
        } else {
            memcpy(p, "\xef\xbf\xbd", 3);
        }
        p += n ? n : 3;
        i += n ? n : 1;
    }
    *s = kei_strn(out, (size_t)(p - out));
    return 0;
}

static int text_of(struct reading *r, struct ke_str v, const char *name, struct ke_str *ret)
{
    char *s;
    int e;

    if (kei_json_type(v) != '"')
        return wrong(r, name, "string");
    *ret = kei_strn(v.p + 1, v.n - 2);
    if (ret->n && memchr(ret->p, '\\', ret->n)) {
        e = kei_json_text(&s, v, r->a, r->err);
        if (e < 0)
            return e;
        *ret = kei_str(s);
    }
    return mended(r, ret);
}

static int get_text(struct reading *r, struct ke_str obj, const char *name, struct ke_str *ret)
{
    struct ke_str v;

    *ret = kei_strn("", 0);
    return member(obj, name, &v) ? text_of(r, v, name, ret) : 0;
}

static int get_i64(struct reading *r, struct ke_str obj, const char *name, int64_t *ret, bool *has)
{
    struct ke_str v;

    *ret = 0;
    if (has)
        *has = false;
    if (!member(obj, name, &v))
        return 0;
    if (kei_json_type(v) != '0' || !kei_json_i64(v, ret))
        return wrong(r, name, "whole number");
    if (has)
        *has = true;
    return 0;
}

/* ---- twins ---- */

static int read_side(struct reading *r, struct ke_str entry, const char *name,
                     const char *version_name, struct kei_twin_side *s)
{
    struct ke_str v, value, meta;
    int e = 0;

    if (member(entry, name, &v)) {
        if (kei_json_type(v) != '{')
            return wrong(r, name, "object");
        if (member(v, "value", &value)) {
            e = text_of(r, value, "value", &s->value);
            s->has = true;
        }
        if (e == 0 && member(v, "metadata", &meta)) {
            if (kei_json_type(meta) != '{')
                return wrong(r, "metadata", "object");
            e = get_i64(r, meta, "timestamp", &s->ts, &s->has_ts);
        }
    }
    if (e == 0 && member(entry, version_name, &v)) {
        if (kei_json_type(v) != '{')
            return wrong(r, version_name, "object");
        s->has_version = true;
        e = get_i64(r, v, "cloud", &s->cloud, NULL);
        if (e == 0)
            e = get_i64(r, v, "edge", &s->edge, NULL);
    }
    return e;
}

static int read_twin(struct reading *r, struct kei_twin_view *t, struct ke_str v)
{
    struct ke_str x;
    int e;

    t->type = kei_strn("", 0);
    t->null = kei_json_type(v) == 'n';
    if (t->null)
        return 0;
    if (kei_json_type(v) != '{')
        return wrong(r, "an entry of twin", "object");
    e = read_side(r, v, "expected", "expected_version", &t->side[0]);
    if (e == 0)
        e = read_side(r, v, "actual", "actual_version", &t->side[1]);
    if (e < 0)
        return e;
    if (member(v, "optional", &x)) {
        if (kei_json_type(x) != 't' && kei_json_type(x) != 'f')
            return wrong(r, "optional", "boolean");
        t->has_optional = true;
        t->optional = kei_json_type(x) == 't';
    }
    if (member(v, "metadata", &x)) {
        if (kei_json_type(x) != '{')
            return wrong(r, "metadata", "object");
        t->has_meta = true;
        e = get_text(r, x, "type", &t->type);
    }
    return e;
}

struct named {
    struct ke_str name;
    struct ke_str value;
    uint32_t at;
};

static int compare(struct ke_str a, struct ke_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static int by_name(const void *x, const void *y)
{
    const struct named *a = x, *b = y;
    int c = compare(a->name, b->name);

    return c ? c : a->at < b->at ? -1 : 1;
}

/* Members by name; of equal names the last. */
static int sorted(struct reading *r, struct ke_str obj, struct named **ret, uint32_t *ret_n)
{
    struct ke_str key, value;
    struct named *list;
    uint32_t n = 0, kept = 0;
    size_t it = 0;

    while (kei_json_next(obj, &it, NULL, NULL)) {
        if (++n > LIST_MAX)
            return kei_error(r->err, KE_ELIMIT, "more than %u members in one object", LIST_MAX);
    }
    list = kei_arena_array(r->a, n ? n : 1, sizeof *list);
    if (!list)
        return kei_error(r->err, KE_ENOMEM, "out of memory for %u twins", n);
    it = 0;
    for (uint32_t i = 0; i < n; i++) {
        int e;

        kei_json_next(obj, &it, &key, &value);
        e = text_of(r, kei_strn(key.p - 1, key.n + 2), "a name", &list[i].name);
        if (e < 0)
            return e;
        list[i].value = value;
        list[i].at = i;
    }
    qsort(list, n, sizeof *list, by_name);
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n && kei_str_eq(list[i].name, list[i + 1].name))
            continue;
        list[kept++] = list[i];
    }
    *ret = list;
    *ret_n = kept;
    return 0;
}

static int read_twins(struct reading *r, struct ke_str obj, bool *has, struct kei_twin_view **ret,
                      uint32_t *ret_n)
{
    struct ke_str v;
    struct named *list;
    uint32_t n;
    int e;

    *has = member(obj, "twin", &v);
    if (!*has)
        return 0;
    if (kei_json_type(v) != '{')
        return wrong(r, "twin", "object");
    e = sorted(r, v, &list, &n);
    if (e < 0)
        return e;
    *ret = kei_arena_array(r->a, n ? n : 1, sizeof **ret);
    if (!*ret)
        return kei_error(r->err, KE_ENOMEM, "out of memory for %u twins", n);
    for (uint32_t i = 0; i < n; i++) {
        (*ret)[i].name = list[i].name;
        e = read_twin(r, &(*ret)[i], list[i].value);
        if (e < 0)
            return e;
    }
    *ret_n = n;
    return 0;
}

/* ---- devices ---- */

static int read_attributes(struct reading *r, struct ke_str obj, struct ke_str *ret)
{
    struct ke_str v;

    *ret = kei_strn("", 0);
    if (!member(obj, "attributes", &v))
        return 0;
    if (kei_json_type(v) != '{')
        return wrong(r, "attributes", "object");
    *ret = v;
    return 0;
}

/* A member that is not what it should be is left out: the merge goes without. */
static void read_merge(struct ke_str obj, struct ke_str *ret)
{
    if (!kei_json_get(obj, "merge", ret) || kei_json_type(*ret) != '{')
        *ret = kei_strn("", 0);
}

static int read_device(struct reading *r, struct kei_twin_device_view *d, struct ke_str v)
{
    struct ke_str x;
    int e;

    if (kei_json_type(v) != '{')
        return wrong(r, "a device", "object");
    read_merge(v, &d->merge);
    d->anew = kei_json_get(v, "anew", &x) && kei_json_bool(x, false);
    e = get_text(r, v, "id", &d->id);
    if (e == 0)
        e = get_text(r, v, "name", &d->name);
    if (e == 0)
        e = get_text(r, v, "description", &d->description);
    if (e == 0)
        e = get_text(r, v, "state", &d->state);
    if (e == 0)
        e = get_text(r, v, "last_online", &d->last_online);
    if (e == 0)
        e = read_attributes(r, v, &d->attributes);
    if (e == 0)
        e = read_twins(r, v, &d->has_twins, &d->twins, &d->n_twins);
    return e;
}

static int read_devices(struct reading *r, struct ke_str obj, const char *name, bool *has,
                        struct kei_twin_device_view **ret, uint32_t *ret_n)
{
    struct ke_str list, v;
    uint32_t n = 0;
    size_t it = 0;

    if (has)
        *has = false;
    if (!member(obj, name, &list))
        return 0;
    if (kei_json_type(list) != '[')
        return wrong(r, name, "list");
    if (has)
        *has = true;
    while (kei_json_next(list, &it, NULL, NULL)) {
        if (++n > LIST_MAX)
            return kei_error(r->err, KE_ELIMIT, "more than %u devices in %s", LIST_MAX, name);
    }
    *ret = kei_arena_array(r->a, n ? n : 1, sizeof **ret);
    if (!*ret)
        return kei_error(r->err, KE_ENOMEM, "out of memory for %u devices", n);
    it = 0;
    for (uint32_t i = 0; i < n && kei_json_next(list, &it, NULL, &v); i++) {
        int e = read_device(r, &(*ret)[i], v);

        if (e < 0)
            return e;
    }
    *ret_n = n;
    return 0;
}

int kei_twin_read(struct kei_twin_payload *ret, struct ke_str text, uint32_t what,
                  struct kei_arena *a, struct ke_error *err)
{
    struct reading r = {a, err};
    int e;

    memset(ret, 0, sizeof *ret);
    ret->event_id = ret->state = ret->attributes = ret->merge = kei_strn("", 0);
    e = kei_json_check(text, 0, err);
    if (e < 0)
        return e;
    e = kei_json_value(text, 0, &text, err); /* without the white space around it */
    if (e < 0)
        return e;
    if (kei_json_type(text) == 'n')
        return 0;
    if (kei_json_type(text) != '{')
        return wrong(&r, "the message", "object");
    read_merge(text, &ret->merge);
    e = get_text(&r, text, "event_id", &ret->event_id);
    if (e == 0)
        e = get_i64(&r, text, "timestamp", &ret->timestamp, NULL);
    if (e == 0 && (what & KEI_TWIN_READ_TWINS))
        e = read_twins(&r, text, &ret->has_twins, &ret->twins, &ret->n_twins);
    if (e == 0 && (what & KEI_TWIN_READ_MEMBERSHIP))
        e = read_devices(&r, text, "added_devices", NULL, &ret->added, &ret->n_added);
    if (e == 0 && (what & KEI_TWIN_READ_MEMBERSHIP))
        e = read_devices(&r, text, "removed_devices", NULL, &ret->removed, &ret->n_removed);
    if (e == 0 && (what & KEI_TWIN_READ_MEMBERSHIP))
        e = read_devices(&r, text, "devices", &ret->has_devices, &ret->devices, &ret->n_devices);
    if (e == 0 && (what & KEI_TWIN_READ_STATE))
        e = get_text(&r, text, "state", &ret->state);
    if (e == 0 && (what & KEI_TWIN_READ_ATTRIBUTES))
        e = read_attributes(&r, text, &ret->attributes);
    return e;
}

/* ---- attributes ---- */

static void put(struct kei_jw *w, const struct named *x, bool null)
{
    kei_jw_strv(w, x->name);
    kei_buf_addc(w->out, ':');
    w->comma = false;
    if (null)
        kei_jw_null(w);
    else
        kei_jw_raw(w, x->value);
}

static bool is_null(const struct named *x)
{
    return kei_json_type(x->value) == 'n';
}

struct attributes {
    struct ke_buf text, diff;
    struct kei_jw wt, wd;
    uint32_t kept, diffs;
};

static void keep(struct attributes *x, const struct named *v)
{
    put(&x->wt, v, false);
    x->kept++;
}

static void differ(struct attributes *x, const struct named *v, bool null)
{
    put(&x->wd, v, null);
    x->diffs++;
}

static void merge(struct attributes *x, const struct named *was, uint32_t n_was,
                  const struct named *now, uint32_t n_now, bool all)
{
    uint32_t i = 0, k = 0;

    while (i < n_was || k < n_now) {
        int c = i == n_was ? 1 : k == n_now ? -1 : compare(was[i].name, now[k].name);

        if (c < 0) { /* not named in the change */
            if (all)
                differ(x, &was[i++], true);
            else
                keep(x, &was[i++]);
            continue;
        }
        if (c > 0 ? !is_null(&now[k]) : !kei_str_eq(was[i].value, now[k].value))
            differ(x, &now[k], is_null(&now[k]));
        if (!is_null(&now[k]))
            keep(x, &now[k]);
        k++;
        i += c == 0;
    }
}

int kei_twin_attributes(struct ke_str old, struct ke_str change, bool all, struct ke_str *ret_text,
                        struct ke_str *ret_diff, struct kei_arena *a, struct ke_error *err)
{
    struct reading r = {a, err};
    struct named *was = NULL, *now = NULL;
    uint32_t n_was = 0, n_now = 0;
    struct attributes x = {.kept = 0};
    char *text = NULL, *diff = NULL;
    int e = 0;

    *ret_text = *ret_diff = kei_strn("", 0);
    if (old.n)
        e = sorted(&r, old, &was, &n_was);
    if (e == 0 && change.n)
        e = sorted(&r, change, &now, &n_now);
    if (e < 0)
        return e;
    kei_buf_init(&x.text, a->alloc);
    kei_buf_init(&x.diff, a->alloc);
    kei_jw_init(&x.wt, &x.text);
    kei_jw_init(&x.wd, &x.diff);
    kei_jw_obj(&x.wt);
    kei_jw_obj(&x.wd);
    merge(&x, was, n_was, now, n_now, all);
    kei_jw_obj_end(&x.wt);
    kei_jw_obj_end(&x.wd);
    if (kei_buf_ok(&x.text) && kei_buf_ok(&x.diff)) {
        text = kei_arena_strdup(a, x.kept ? kei_buf_str(&x.text) : kei_strn("", 0));
        diff = kei_arena_strdup(a, x.diffs ? kei_buf_str(&x.diff) : kei_strn("", 0));
    }
    ke_buf_free(&x.text);
    ke_buf_free(&x.diff);
    if (!text || !diff)
        return kei_error(err, KE_ENOMEM, "out of memory for attributes");
    *ret_text = kei_str(text);
    *ret_diff = kei_str(diff);
    return 0;
}
