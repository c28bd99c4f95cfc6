/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantities of Kubernetes: a decimal number with a binary suffix (Ki..Ei), a decimal one (n, u, m,
 * k..E) or an exponent. Pure, exact integers, saturating; any thread.
 */
#include "message/k8s.h"

struct suffix {
    const char *text;
    int32_t exp10;
    uint32_t exp2;
};

static bool find_suffix(struct ke_str s, struct suffix *ret)
{
    static const struct suffix known[] = {
        {"", 0, 0},    {"n", -9, 0},  {"u", -6, 0},  {"m", -3, 0},  {"k", 3, 0},   {"M", 6, 0},
        {"G", 9, 0},   {"T", 12, 0},  {"P", 15, 0},  {"E", 18, 0},  {"Ki", 0, 10}, {"Mi", 0, 20},
        {"Gi", 0, 30}, {"Ti", 0, 40}, {"Pi", 0, 50}, {"Ei", 0, 60},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (kei_str_is(s, known[i].text)) {
            *ret = known[i];
            return true;
        }
    }
    if (s.n < 2 || (s.p[0] != 'e' && s.p[0] != 'E'))
        return false;
    bool neg = s.p[1] == '-';
    size_t from = s.p[1] == '-' || s.p[1] == '+' ? 2 : 1;
    uint64_t e;
    if (s.n - from > 6 || !kei_str_u64(kei_strn(s.p + from, s.n - from), &e))
        return false;
    *ret = (struct suffix){"", neg ? -(int32_t)e : (int32_t)e, 0};
    return true;
}

/* 128 bits, least word first: no compiler type of that width exists on 32-bit machines. */
struct wide {
    uint32_t w[4];
};

static void multiply(struct wide *v, uint32_t by, uint32_t add)
{
    uint64_t carry = add;

    for (int i = 0; i < 4; i++) {
        carry += (uint64_t)v->w[i] * by;
        v->w[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static uint32_t divide(struct wide *v, uint32_t by)
{
    uint64_t rest = 0;

    for (int i = 3; i >= 0; i--) {
        rest = rest << 32 | v->w[i];
        v->w[i] = (uint32_t)(rest / by);
        rest %= by;
    }
    return (uint32_t)rest;
}

static bool is_zero(const struct wide *v)
{
    return (v->w[0] | v->w[1] | v->w[2] | v->w[3]) == 0;
}

/* below 2^63 */
static bool fits(const struct wide *v)
{
    return (v->w[3] | v->w[2] | (v->w[1] & 0x80000000u)) == 0;
}

/*
 * Digits x 10^exp10 x 2^exp2, rounded away from zero to a whole number as Kubernetes does,
 * saturating.
 */
static int64_t scaled(const char *p, const char *end, int64_t exp10, uint32_t exp2, bool neg)
{
    struct wide v = {{0, 0, 0, 0}};
    bool point = false, rest = false;
    int used = 0;

    for (; p < end; p++) {
        if (*p == '.') {
            point = true;
        } else if (used == 19) {
            /* further digits only tell that there is more, or scale */
            rest = rest || *p != '0';
            exp10 += point ? 0 : 1;
        } else {
            multiply(&v, 10, (uint32_t)(*p - '0'));
            used += !is_zero(&v);
            exp10 -= point ? 1 : 0;
        }
    }
    if (is_zero(&v))
        return 0;
    for (; exp2; exp2--) /* 10^19 x 2^60 is below 2^124 */
        multiply(&v, 2, 0);
    for (; exp10 > 0 && fits(&v); exp10--)
        multiply(&v, 10, 0);
    for (; exp10 < 0 && !is_zero(&v); exp10++)
        rest = divide(&v, 10) != 0 || rest;
    if (rest)
        multiply(&v, 1, 1);
    if (exp10 > 0 || !fits(&v))
        return neg ? INT64_MIN : INT64_MAX;
    int64_t r = (int64_t)((uint64_t)v.w[1] << 32 | v.w[0]);
    return neg ? -r : r;
}

static bool parse(struct ke_str s, int32_t extra10, int64_t *ret)
{
    const char *p = s.p, *end = p + s.n;
    struct suffix suffix;
    size_t digits = 0, points = 0;

    if (s.n == 0)
        return false;
    bool neg = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    const char *from = p;
    for (; p < end && ((*p >= '0' && *p <= '9') || *p == '.'); p++) {
        digits += *p != '.';
        points += *p == '.';
    }
    if (digits == 0 || points > 1 || !find_suffix(kei_strn(p, (size_t)(end - p)), &suffix))
        return false;
    *ret = scaled(from, p, suffix.exp10 + extra10, suffix.exp2, neg);
    return true;
}

bool kei_quantity_parse(struct ke_str s, int64_t *ret_milli)
{
    return parse(s, 3, ret_milli);
}

bool kei_quantity_value(struct ke_str s, int64_t *ret)
{
    return parse(s, 0, ret);
}
