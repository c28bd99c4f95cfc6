/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types of plain YAML scalars, as Kubernetes reads them: YAML 1.1 words for booleans (y and n
 * too), octal with a leading 0, underscores in numbers, no base 60, dates stay strings. Numbers
 * come out as JSON with all their digits. Pure; any thread.
 */
#include "base/codec.h"
#include "base/yaml_priv.h"

/* exponents a double has; beyond them Kubernetes reads a string */
#define EXP_MAX 308
#define EXP_MIN (-323)

static bool word_in(struct ke_str s, const char *const *words)
{
    for (; *words; words++) {
        if (kei_str_is(s, *words))
            return true;
    }
    return false;
}

static char resolve_word(struct ke_buf *out, struct ke_str s)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const infinite[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",
                                           ".INF",  "+.inf", "+.Inf", "+.INF", "-.inf",
                                           "-.Inf", "-.INF", NULL};

    if (word_in(s, nulls)) {
        kei_buf_adds(out, "null");
        return KEI_YAML_NULL;
    }
    bool is_yes = word_in(s, yes);
    if (is_yes || word_in(s, no)) {
        kei_buf_adds(out, is_yes ? "true" : "false");
        return KEI_YAML_BOOL;
    }
    return word_in(s, infinite) ? KEI_YAML_INFINITE : KEI_YAML_STRING;
}

/* 0x1f, 0o17, 017, 0b11, decimal; fits int64, or uint64 without a sign */
static bool resolve_int(struct ke_buf *out, struct ke_str s)
{
    bool sign = s.n && (s.p[0] == '-' || s.p[0] == '+');
    bool neg = sign && s.p[0] == '-';
    size_t i = sign;
    uint64_t base = 10, v = 0;

    if (s.n - i > 1 && s.p[i] == '0') {
        char c = (char)(s.p[i + 1] | 0x20);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        i += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    if (i >= s.n)
        return false;
    for (; i < s.n; i++) {
        uint64_t d = (uint64_t)kei_hex_digit(s.p[i]); /* none: more than any base */
        if (d >= base || v > (UINT64_MAX - d) / base)
            return false;
        v = v * base + d;
    }
    if ((neg && v > (uint64_t)INT64_MAX + 1) || (sign && !neg && v > INT64_MAX))
        return false;
    if (neg && v)
        kei_buf_addc(out, '-');
    char tmp[24];
    size_t at = sizeof tmp;
    do {
        tmp[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    kei_buf_add(out, tmp + at, sizeof tmp - at);
    return true;
}

struct decimal {
    const char *p, *end; /* mantissa; may hold a point */
    int64_t exp;         /* of ten, of the first significant digit: 1.5e3 has 3 */
    bool neg, zero;
    size_t digits; /* significant ones, zeros at the end not counted */
};

/* [-+]?(.5|5|5.|5.5)([eE][-+]?5)? */
static bool read_decimal(struct decimal *d, struct ke_str s)
{
    const char *p = s.p, *end = p + s.n;
    size_t before = 0, after = 0, seen = 0;
    int64_t exp = 0, point_at = 0;
    bool significant = false;

    *d = (struct decimal){.neg = *p == '-', .zero = true};
    p += *p == '-' || *p == '+';
    d->p = p;
    for (bool point = false; p < end && ((*p >= '0' && *p <= '9') || (*p == '.' && !point)); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        before += !point;
        after += point;
        significant = significant || *p != '0';
        seen += significant;
        if (*p != '0') {
            d->digits = seen;
            d->zero = false;
        }
        if (!point && significant)
            point_at++;
        if (point && !significant)
            point_at--;
    }
    d->end = p;
    if (before + after == 0)
        return false;
    if (p < end) {
        if (*p != 'e' && *p != 'E')
            return false;
        bool neg = ++p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        if (p == end)
            return false;
        for (; p < end; p++) {
            if (*p < '0' || *p > '9')
                return false;
            exp = exp < INT32_MAX ? exp * 10 + (*p - '0') : exp;
        }
        exp = neg ? -exp : exp;
    }
    d->exp = point_at - 1 + exp;
    return d->zero || d->exp <= EXP_MAX;
}

/* significant digits from the i-th to before the end-th, zeros where there are none */
static void add_digits(struct ke_buf *out, const struct decimal *d, int64_t from, int64_t to)
{
    int64_t i = 0;
    const char *p = d->p;

    while (p < d->end && (*p == '0' || *p == '.'))
        p++;
    for (; i < to; i++) {
        if (p < d->end && *p == '.')
            p++;
        char c = p < d->end ? *p++ : '0';
        if (i >= from)
            kei_buf_addc(out, c);
    }
}

/* As JSON is written for a number: plain, or with an exponent when very large or small. */
static void add_decimal(struct ke_buf *out, const struct decimal *d)
{
    int64_t n = (int64_t)d->digits;

    if (d->neg && !d->zero)
        kei_buf_addc(out, '-');
    if (d->zero || d->exp < EXP_MIN) {
        kei_buf_addc(out, '0');
    } else if (d->exp >= 21 || d->exp < -6) {
        add_digits(out, d, 0, 1);
        if (n > 1)
            kei_buf_addc(out, '.');
        add_digits(out, d, 1, n);
        kei_buf_adds(out, d->exp < 0 ? "e-" : "e+");
        kei_buf_addi(out, d->exp < 0 ? -d->exp : d->exp);
    } else if (d->exp < 0) {
        kei_buf_adds(out, "0.");
        for (int64_t i = d->exp; i < -1; i++)
            kei_buf_addc(out, '0');
        add_digits(out, d, 0, n);
    } else {
        add_digits(out, d, 0, d->exp + 1);
        if (n > d->exp + 1) {
            kei_buf_addc(out, '.');
            add_digits(out, d, d->exp + 1, n);
        }
    }
}

#define NUMBER_MAX 400

char kei_yaml_resolve(struct ke_buf *out, struct ke_str s)
{
    char plain[NUMBER_MAX];
    struct decimal d;
    size_t n = 0;
    char type = resolve_word(out, s);

    if (type != KEI_YAML_STRING)
        return type;
    char c = s.p[0];
    if (!((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.') || s.n > NUMBER_MAX)
        return KEI_YAML_STRING;
    plain[n++] = c;
    for (size_t i = 1; i < s.n; i++) {
        if (s.p[i] == '_' && c == '.')
            return KEI_YAML_STRING;
        if (s.p[i] != '_')
            plain[n++] = s.p[i];
    }
    struct ke_str num = {plain, n};
    if (c != '.' && resolve_int(out, num))
        return KEI_YAML_NUMBER;
    if (read_decimal(&d, num)) {
        add_decimal(out, &d);
        return KEI_YAML_NUMBER;
    }
    return KEI_YAML_STRING;
}
