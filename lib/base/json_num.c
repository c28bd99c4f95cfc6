/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of JSON, read from the source text so that no digit is lost. Pure; any thread.
 */
#include "base/json.h"

/* Feeds one digit; zeros wait in *zeros until a digit after them shows that they count. */
static bool add_digit(uint64_t *v, uint64_t *zeros, char c)
{
    if (c == '0') {
        if (*v)
            ++*zeros;
        return true;
    }
    for (; *zeros; --*zeros) {
        if (*v > UINT64_MAX / 10)
            return false;
        *v *= 10;
    }
    uint64_t d = (uint64_t)(c - '0');
    if (*v > (UINT64_MAX - d) / 10)
        return false;
    *v = *v * 10 + d;
    return true;
}

bool kei_json_i64(struct ke_str v, int64_t *ret)
{
    uint64_t m = 0, zeros = 0;
    int64_t exp = 0, shift = 0;

    if (kei_json_type(v) != '0')
        return false;
    const char *p = v.p, *end = p + v.n;
    bool neg = *p == '-';
    for (p += neg; p < end && *p >= '0' && *p <= '9'; p++) {
        if (!add_digit(&m, &zeros, *p))
            return false;
    }
    if (p < end && *p == '.') {
        for (p++; p < end && *p >= '0' && *p <= '9'; p++, shift++) {
            if (!add_digit(&m, &zeros, *p))
                return false;
        }
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        bool eneg = ++p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            exp = exp < INT32_MAX ? exp * 10 + (*p - '0') : exp;
        exp = eneg ? -exp : exp;
    }
    /* the value is m x 10^scale */
    int64_t scale = exp - shift + (int64_t)zeros;
    if (m && scale < 0)
        return false;
    for (; m && scale > 0; scale--) {
        if (m > UINT64_MAX / 10)
            return false;
        m *= 10;
    }
    if (m > (uint64_t)INT64_MAX + (neg ? 1 : 0))
        return false;
    *ret = neg && m == (uint64_t)INT64_MAX + 1 ? INT64_MIN : neg ? -(int64_t)m : (int64_t)m;
    return true;
}

/* A number as its significant digits and the power of ten of the first of them. */
struct decimal {
    const char *p, *end; /* from the first digit that is not zero to the end of the mantissa */
    int64_t exp;
    bool neg, zero;
};

static void read_decimal(struct decimal *d, struct ke_str v)
{
    const char *p = v.p, *end = p + v.n, *first = NULL;
    int64_t before = 0, zeros = 0, exp = 0;
    bool point = false;

    d->neg = p < end && *p == '-';
    for (p += d->neg; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        if (!first && *p != '0')
            first = p;
        if (first && !point)
            before++;
        if (!first && point)
            zeros++;
    }
    d->p = first;
    d->end = p;
    d->zero = !first;
    if (p < end) {
        bool neg = ++p < end && *p == '-';
        for (p += p < end && (*p == '-' || *p == '+'); p < end && *p >= '0' && *p <= '9'; p++)
            exp = exp < INT32_MAX ? exp * 10 + (*p - '0') : exp;
        exp = neg ? -exp : exp;
    }
    d->exp = exp + (before ? before : -zeros);
}

/* the next significant digit; 0 for ever after the last */
static char next_digit(struct decimal *d)
{
    if (d->p < d->end && *d->p == '.')
        d->p++;
    return d->p < d->end ? *d->p++ : '0';
}

bool kei_json_num_eq(struct ke_str a, struct ke_str b)
{
    struct decimal x, y;

    if (kei_json_type(a) != '0' || kei_json_type(b) != '0')
        return false;
    read_decimal(&x, a);
    read_decimal(&y, b);
    if (x.zero || y.zero)
        return x.zero && y.zero; /* -0 is 0 */
    if (x.neg != y.neg || x.exp != y.exp)
        return false;
    while (x.p < x.end || y.p < y.end) {
        if (next_digit(&x) != next_digit(&y))
            return false;
    }
    return true;
}
