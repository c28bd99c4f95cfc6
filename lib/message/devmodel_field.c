/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fields of device objects, one kind of JSON value each. Pure; what is made is the reader's
 * arena's; any thread.
 */
#include <stdarg.h>
#include <stdio.h>

#include "message/devmodel_priv.h"

#define NAMES_MAX 1024u
#define MEMBERS_MAX 1024u /* of a configuration */

void kei_dm_at(struct kei_dm_reader *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(r->at, sizeof r->at, fmt, ap);
    va_end(ap);
}

int kei_dm_wrong(struct kei_dm_reader *r, const char *key, const char *what)
{
    const char *dot = r->at[0] && key[0] ? "." : "";

    return kei_error(r->err, KE_EPARSE, "%s%s%s of %s %s was %s", r->at, dot, key, r->kind,
                     r->name[0] ? r->name : "(without name)", what);
}

int kei_dm_nomem(struct kei_dm_reader *r)
{
    return kei_error(r->err, KE_ENOMEM, "out of memory for %s %s", r->kind, r->name);
}

/* false: absent or null */
static bool member(struct ke_str object, const char *key, struct ke_str *ret)
{
    return kei_json_get(object, key, ret) && kei_json_type(*ret) != 'n';
}

static int decode(struct kei_dm_reader *r, const char *key, struct ke_str v, const char **ret)
{
    struct ke_error why = KE_ERROR_INIT;
    char *s;

    if (kei_json_type(v) != '"')
        return kei_dm_wrong(r, key, "no string");
    int e = kei_json_text(&s, v, r->a, &why);
    if (e == KE_EPARSE)
        return kei_dm_wrong(r, key, "a string with a NUL or a broken character in it");
    if (e < 0)
        return kei_dm_nomem(r);
    *ret = s;
    return 0;
}

int kei_dm_str(struct kei_dm_reader *r, struct ke_str object, const char *key, const char **ret)
{
    struct ke_str v;

    *ret = "";
    return member(object, key, &v) ? decode(r, key, v, ret) : 0;
}

int kei_dm_text(struct kei_dm_reader *r, struct ke_str object, const char *key, const char **ret)
{
    struct ke_str v;

    *ret = "";
    if (!member(object, key, &v))
        return 0;
    char t = kei_json_type(v);
    if (t == '"')
        return decode(r, key, v, ret);
    if (t == '{' || t == '[')
        return kei_dm_wrong(r, key, "no string or number");
    *ret = kei_arena_strdup(r->a, v);
    return *ret ? 0 : kei_dm_nomem(r);
}

int kei_dm_i64(struct kei_dm_reader *r, struct ke_str object, const char *key, int64_t *ret)
{
    struct ke_str v;

    *ret = 0;
    if (member(object, key, &v) && !kei_json_i64(v, ret))
        return kei_dm_wrong(r, key, "no whole number of 64 bits");
    return 0;
}

int kei_dm_bool(struct kei_dm_reader *r, struct ke_str object, const char *key, bool *ret)
{
    struct ke_str v;

    *ret = false;
    if (!member(object, key, &v))
        return 0;
    char t = kei_json_type(v);
    if (t != 't' && t != 'f')
        return kei_dm_wrong(r, key, "neither true nor false");
    *ret = t == 't';
    return 0;
}

int kei_dm_obj(struct kei_dm_reader *r, struct ke_str object, const char *key, struct ke_str *ret)
{
    struct ke_str v;

    *ret = kei_strn(NULL, 0);
    if (!member(object, key, &v))
        return 0;
    if (kei_json_type(v) != '{')
        return kei_dm_wrong(r, key, "no object");
    *ret = v;
    return 0;
}

int kei_dm_arr(struct kei_dm_reader *r, struct ke_str object, const char *key, uint32_t max,
               struct ke_str *ret, uint32_t *ret_n)
{
    struct ke_str v, item;
    size_t it = 0;
    uint32_t n = 0;

    *ret = kei_strn(NULL, 0);
    *ret_n = 0;
    if (!member(object, key, &v))
        return 0;
    if (kei_json_type(v) != '[')
        return kei_dm_wrong(r, key, "no list");
    while (kei_json_next(v, &it, NULL, &item)) {
        if (kei_json_type(item) != '{')
            return kei_dm_wrong(r, key, "a list with an item that is no object");
        if (++n > max)
            return kei_error(r->err, KE_ELIMIT, "%s of %s %s had more than %u items", key, r->kind,
                             r->name, max);
    }
    *ret = v;
    *ret_n = n;
    return 0;
}

int kei_dm_names(struct kei_dm_reader *r, struct ke_str object, const char *key, const char ***ret,
                 uint32_t *ret_n)
{
    struct ke_str v, item;
    size_t it = 0;
    uint32_t n = 0;

    *ret = NULL;
    *ret_n = 0;
    if (!member(object, key, &v))
        return 0;
    if (kei_json_type(v) != '[')
        return kei_dm_wrong(r, key, "no list");
    while (kei_json_next(v, &it, NULL, &item)) {
        if (++n > NAMES_MAX)
            return kei_error(r->err, KE_ELIMIT, "%s of %s %s had more than %u items", key, r->kind,
                             r->name, NAMES_MAX);
    }
    if (n == 0)
        return 0;
    const char **names = kei_arena_array(r->a, n, sizeof *names);
    if (!names)
        return kei_dm_nomem(r);
    it = 0;
    for (uint32_t i = 0; i < n && kei_json_next(v, &it, NULL, &item); i++) {
        int e = decode(r, key, item, &names[i]);
        if (e < 0)
            return e;
    }
    *ret = names;
    *ret_n = n;
    return 0;
}

int kei_dm_twin_value(struct kei_dm_reader *r, struct ke_str object, const char *key,
                      struct kei_twin_value *ret)
{
    struct ke_str v, t;
    char *type = NULL;

    ret->value = NULL;
    ret->type = "";
    int e = kei_dm_obj(r, object, key, &v);
    if (e < 0 || !v.p)
        return e;
    e = kei_dm_text(r, v, "value", &ret->value);
    if (e == 0)
        e = kei_dm_obj(r, v, "metadata", &ret->metadata);
    if (e == 0 && kei_json_get(ret->metadata, "type", &t) && kei_json_type(t) == '"') {
        if ((type = kei_json_strdup(t, r->a)))
            ret->type = type;
    }
    return e;
}

static int read_limit(struct kei_dm_reader *r, const char *key, const char *text, bool *has,
                      double *ret)
{
    *has = kei_number_parse(kei_str(text), ret);
    return *has || !text[0] ? 0 : kei_dm_wrong(r, key, "no number");
}

int kei_dm_limits(struct kei_dm_reader *r, struct kei_model_prop *p, enum kei_device_api api)
{
    if (p->type != KEI_PROP_INT && p->type != KEI_PROP_FLOAT && p->type != KEI_PROP_DOUBLE)
        return 0;
    int e = read_limit(r, "minimum", p->minimum, &p->has_min, &p->min);
    if (e == 0)
        e = read_limit(r, "maximum", p->maximum, &p->has_max, &p->max);
    if (e < 0)
        return e;
    /* Go's zero values stand for "not given" in the older API */
    if (api == KEI_DEVICE_V1ALPHA2 && (!p->has_min || p->min == 0) && (!p->has_max || p->max == 0))
        p->has_min = p->has_max = false;
    if (p->has_min && p->has_max && p->min > p->max)
        return kei_dm_wrong(r, "minimum", "greater than maximum");
    return 0;
}

/* Whether object has a member of that name (raw). */
static bool has_key(struct ke_str object, struct ke_str key)
{
    struct ke_str k;
    size_t it = 0;

    while (kei_json_type(object) == '{' && kei_json_next(object, &it, &k, NULL)) {
        if (kei_json_key_eq(k, key))
            return true;
    }
    return false;
}

static int check_members(struct ke_str object, struct ke_error *err)
{
    size_t it = 0;
    uint32_t n = 0;

    while (kei_json_type(object) == '{' && kei_json_next(object, &it, NULL, NULL)) {
        if (++n > MEMBERS_MAX)
            return kei_error(err, KE_ELIMIT, "a configuration had more than %u members",
                             MEMBERS_MAX);
    }
    return 0;
}

/* The members of object that over does not have. */
static void add_members(struct ke_buf *out, struct ke_str object, struct ke_str over, bool *comma)
{
    struct ke_str key, v;
    size_t it = 0;

    while (kei_json_type(object) == '{' && kei_json_next(object, &it, &key, &v)) {
        if (has_key(over, key))
            continue;
        kei_buf_adds(out, *comma ? ",\"" : "\"");
        kei_buf_addv(out, key);
        kei_buf_adds(out, "\":");
        kei_buf_addv(out, v);
        *comma = true;
    }
}

int kei_device_config_merge(struct ke_buf *out, struct ke_str base, struct ke_str over,
                            struct ke_error *err)
{
    bool comma = false;
    int e = check_members(base, err);

    if (e == 0)
        e = check_members(over, err);
    if (e < 0)
        return e;
    kei_buf_addc(out, '{');
    add_members(out, base, over, &comma);
    add_members(out, over, kei_strn(NULL, 0), &comma);
    kei_buf_addc(out, '}');
    return kei_buf_ok(out) ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a configuration");
}
