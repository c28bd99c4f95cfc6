/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is allowed in a twin: names, values by their type, states. Pure, no memory of its own but
 * texts in the caller's arena. The reasons are upstream's word for word: clients compare them.
 */
#include <stdio.h>

#include "base/codec.h"
#include "message/twin.h"

#define KEY_TEXT                                                                                   \
    "The key of twin must only include upper or lowercase letters, number, english, and special "  \
    "letter - _ . , : / @ # and the length of key should be less than 128 bytes"
#define VALUE_TEXT                                                                                 \
    "The value of twin must only include upper or lowercase letters, number, english, and "        \
    "special letter - _ . , : / @ # and the length of value should be less than 512 bytes"
#define STRICT_VALUE 512u

static bool in_class(struct ke_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr("-_.,:/@#", c))))
            return false;
    }
    return true;
}

static bool printable(struct ke_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    }
    return true;
}

static const char *check_value(struct ke_str v, const struct kei_twin_rules *rules,
                               struct kei_arena *a)
{
    const char *text;

    if (rules->flags & KEI_TWIN_STRICT)
        return v.n <= STRICT_VALUE && in_class(v) ? NULL : VALUE_TEXT;
    if (v.n > rules->max_value) {
        text = kei_arena_printf(a, "The value of twin has %zu bytes, the limit max_value is %u",
                                v.n, rules->max_value);
        return text ? text : "The value of twin is too long";
    }
    return NULL;
}

const char *kei_twin_check(const struct kei_twin_payload *p, const struct kei_twin_rules *rules,
                           struct kei_arena *a)
{
    if (!p->has_twins)
        return "Update twin error, key:twin does not exist";
    for (uint32_t i = 0; i < p->n_twins; i++) {
        const struct kei_twin_view *t = &p->twins[i];
        const char *why = NULL;

        if (t->name.n == 0 || t->name.n > KEI_TWIN_KEY_MAX ||
            !((rules->flags & KEI_TWIN_STRICT) ? in_class(t->name) : printable(t->name)))
            return KEY_TEXT;
        for (unsigned s = 0; s < 2 && !why; s++) {
            if (t->side[s].has && t->side[s].value.n)
                why = check_value(t->side[s].value, rules, a);
        }
        if (why)
            return why;
    }
    return NULL;
}

/* ---- values ---- */

static bool is_int(struct ke_str v)
{
    int64_t n;

    if (v.n > 1 && v.p[0] == '+' && v.p[1] != '-')
        v = kei_strn(v.p + 1, v.n - 1);
    return kei_str_i64(v, &n);
}

static bool is_digit(struct ke_str v, size_t i)
{
    return i < v.n && v.p[i] >= '0' && v.p[i] <= '9';
}

/* Decimal digits with the place of the point: 0.DIGITS * 10^exp10, below the largest double? */
static bool fits(struct ke_str digits, int64_t exp10)
{
    static const char largest[] = "17976931348623158"; /* ...e308, rounded as a double is */
    size_t i = 0, k = 0;

    for (; i < digits.n && (digits.p[i] == '0' || digits.p[i] == '.'); i++)
        exp10 -= digits.p[i] == '0';
    if (i == digits.n || exp10 < 309)
        return true;
    if (exp10 > 309)
        return false;
    for (; i < digits.n && k < sizeof largest - 1; i++) {
        if (digits.p[i] == '.')
            continue;
        if (digits.p[i] != largest[k])
            return digits.p[i] < largest[k];
        k++;
    }
    return true;
}

static bool is_float(struct ke_str v)
{
    size_t i = 0, from, n_digits = 0;
    int64_t before = 0, e = 0;
    bool neg;

    if (i < v.n && (v.p[i] == '-' || v.p[i] == '+'))
        i++;
    if (kei_str_ieq(kei_strn(v.p + i, v.n - i), KEI_STR("inf")) ||
        kei_str_ieq(kei_strn(v.p + i, v.n - i), KEI_STR("infinity")) ||
        kei_str_ieq(v, KEI_STR("nan")))
        return true;
    from = i;
    for (; is_digit(v, i); i++, n_digits++)
        before++;
    if (i < v.n && v.p[i] == '.') {
        for (i++; is_digit(v, i); i++)
            n_digits++;
    }
    struct ke_str digits = kei_strn(v.p + from, i - from);
    if (n_digits == 0)
        return false;
    if (i < v.n && (v.p[i] == 'e' || v.p[i] == 'E')) {
        i++;
        neg = i < v.n && v.p[i] == '-';
        if (i < v.n && (v.p[i] == '-' || v.p[i] == '+'))
            i++;
        if (!is_digit(v, i))
            return false;
        for (; is_digit(v, i); i++)
            e = e < 1000000 ? e * 10 + (v.p[i] - '0') : e;
        e = neg ? -e : e;
    }
    return i == v.n && fits(digits, before + e);
}

/* A type as it is meant; upstream knows lower case only. */
static bool type_is(struct ke_str type, const char *name, const struct kei_twin_rules *rules)
{
    return (rules->flags & KEI_TWIN_STRICT) ? kei_str_is(type, name)
                                            : kei_str_ieq(type, kei_str(name));
}

const char *kei_twin_value_check(struct ke_str type, struct ke_str v,
                                 const struct kei_twin_rules *rules)
{
    bool old = rules->dialect == KE_DIALECT_1_4, strict = rules->flags & KEI_TWIN_STRICT;

    if (type.n == 0 || type_is(type, "string", rules) || type_is(type, "deleted", rules))
        return NULL;
    if (type_is(type, "int", rules) || ((!old || !strict) && type_is(type, "integer", rules))) {
        if (is_int(v))
            return NULL;
        return old ? "the value is not int" : "the value is not int or integer";
    }
    if (type_is(type, "float", rules) || (!strict && type_is(type, "double", rules)))
        return is_float(v) ? NULL : "the value is not float";
    if (type_is(type, "boolean", rules))
        return kei_str_is(v, "true") || kei_str_is(v, "false")
                   ? NULL
                   : "the bool value must be true or false";
    if (!strict && (type_is(type, "bytes", rules) || type_is(type, "stream", rules)))
        return NULL;
    return "the value type is not allowed";
}

/* ---- states ---- */

static bool one_of(struct ke_str s, const char *const *list, bool exact)
{
    for (; *list; list++) {
        if (exact ? kei_str_is(s, *list) : kei_str_ieq(s, kei_str(*list)))
            return true;
    }
    return false;
}

bool kei_twin_state_ok(struct ke_str s, uint32_t dialect)
{
    static const char *const oldest[] = {"online", "offline", "unknown", NULL};
    static const char *const old[] = {"online", "offline", "ok", "unknown", "disconnected", NULL};
    static const char *const now[] = {"online", "offline", "ok", "unknown", "unhealthy", NULL};

    if (dialect == KE_DIALECT_1_4)
        return one_of(s, oldest, true);
    return one_of(s, dialect == KE_DIALECT_1_23 ? now : old, false);
}

void kei_twin_last_online(char out[40], struct ke_str state, uint32_t dialect, int64_t now_ms)
{
    char t[KEI_TIME_MAX];

    kei_time_rfc3339(t, now_ms);
    if (dialect == KE_DIALECT_1_23) {
        bool on = kei_str_ieq(state, KEI_STR("online")) || kei_str_ieq(state, KEI_STR("ok"));

        snprintf(out, 40, "%s", on ? t : "");
        return;
    }
    snprintf(out, 40, "%.10s %.8s", t, t + 11);
}
