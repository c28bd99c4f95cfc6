/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types, numbers and cycles of the device model. Pure; any thread. Numbers are read without the
 * locale: strtod gets digits and an exponent only, never a decimal point.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "message/devmodel.h"

#define DIGITS_MAX 800 /* more than a double can tell apart (767) */
#define EXPONENT_MAX 100000

static const char *const type_names[] = {"string",  "int",    "float", "double",
                                         "boolean", "string", "bytes", "stream"};

const char *kei_prop_type_name(enum kei_prop_type t)
{
    return type_names[t];
}

enum kei_prop_type kei_prop_type_of(struct ke_str s)
{
    for (size_t i = 1; i < sizeof type_names / sizeof type_names[0]; i++) {
        if (kei_str_ieq(s, kei_str(type_names[i])))
            return (enum kei_prop_type)i;
    }
    return kei_str_ieq(s, KEI_STR("integer")) ? KEI_PROP_INT : KEI_PROP_NONE;
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The exponent behind "e"; false if there is anything else. */
static bool read_exponent(const char *p, const char *end, int64_t *ret)
{
    if (p == end) {
        *ret = 0;
        return true;
    }
    if (*p != 'e' && *p != 'E')
        return false;
    p++;
    bool neg = p < end && *p == '-';
    p += p < end && (*p == '-' || *p == '+');
    int64_t e = 0;
    if (p == end)
        return false;
    for (; p < end && digit(*p); p++)
        e = e < EXPONENT_MAX ? e * 10 + (*p - '0') : e;
    *ret = neg ? -e : e;
    return p == end;
}

bool kei_number_parse(struct ke_str s, double *ret)
{
    char text[DIGITS_MAX + 32];
    size_t n = 0;
    int64_t shift = 0, exp;
    bool any = false, point = false;
    const char *p = s.p, *end = p + s.n;

    if (s.n == 0)
        return false;
    if (*p == '-')
        text[n++] = '-';
    p += *p == '-' || *p == '+';
    for (; p < end && (digit(*p) || (*p == '.' && !point)); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        any = true;
        if (n < DIGITS_MAX) {
            text[n++] = *p;
            shift -= point;
        } else {
            shift += !point; /* a digit that no longer counts */
        }
    }
    if (!any || !read_exponent(p, end, &exp))
        return false;
    exp += shift;
    exp = exp > EXPONENT_MAX ? EXPONENT_MAX : exp < -EXPONENT_MAX ? -EXPONENT_MAX : exp;
    snprintf(text + n, sizeof text - n, "e%lld", (long long)exp);
    double v = strtod(text, NULL);
    if (!isfinite(v))
        return false;
    *ret = v;
    return true;
}

bool kei_prop_value_ok(enum kei_prop_type t, struct ke_str value)
{
    int64_t i;
    double d;

    switch (t) {
    case KEI_PROP_INT:
        return kei_str_i64(value, &i);
    case KEI_PROP_FLOAT:
        return kei_number_parse(value, &d) && fabs(d) <= 3.4028234663852886e38;
    case KEI_PROP_DOUBLE:
        return kei_number_parse(value, &d);
    case KEI_PROP_BOOLEAN:
        return kei_str_is(value, "true") || kei_str_is(value, "false");
    default:
        return true;
    }
}

int64_t kei_device_cycle_ms(int64_t cycle, enum kei_device_api api, enum kei_cycle_unit unit,
                            int64_t dflt)
{
    if (cycle <= 0)
        return dflt;
    bool ns = unit == KEI_CYCLE_NS;
    if (unit == KEI_CYCLE_AUTO)
        ns = api == KEI_DEVICE_V1ALPHA2 || cycle >= 1000000;
    int64_t ms = ns ? cycle / 1000000 : cycle;
    return ms < 1 ? 1 : ms > INT32_MAX ? INT32_MAX : ms;
}
