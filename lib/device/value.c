/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values between a device and the twin. Pure; any thread. Numbers are written and read without the
 * locale.
 */
#include "device/value.h"

#include <math.h>
#include <stdio.h>

#include "base/codec.h"

/* ---- numbers ---- */

/* "%.*e" as digits and the exponent of the first: the decimal point is the locale's, so skipped. */
static size_t digits_of(char *digits, size_t cap, double d, int precision, int *ret_exp)
{
    char text[64];
    size_t n = 0;
    int len = snprintf(text, sizeof text, "%.*e", precision - 1, d), e = 0;
    char *p = text, *end = text + len;

    for (; p < end && *p != 'e'; p++) {
        if (*p >= '0' && *p <= '9' && n < cap)
            digits[n++] = *p;
    }
    bool neg = p + 1 < end && p[1] == '-';
    for (p += 2; p < end; p++)
        e = e * 10 + (*p - '0');
    while (n > 1 && digits[n - 1] == '0')
        n--;
    *ret_exp = neg ? -e : e;
    return n;
}

static size_t place_point(char *out, bool neg, const char *digits, size_t n, int exp)
{
    size_t o = 0;

    if (neg)
        out[o++] = '-';
    if (exp < 0) {
        out[o++] = '0';
        out[o++] = '.';
        for (int i = -1; i > exp; i--)
            out[o++] = '0';
        memcpy(out + o, digits, n);
        o += n;
    } else {
        for (size_t i = 0; i < n || i <= (size_t)exp; i++) {
            if (i == (size_t)exp + 1)
                out[o++] = '.';
            out[o++] = i < n ? digits[i] : '0';
        }
    }
    out[o] = '\0';
    return o;
}

size_t kei_number_text(char out[KEI_VALUE_TEXT_MAX], double d, bool is_float)
{
    char digits[24];
    int exp = 0, last = is_float ? 9 : 17;
    double back;

    if (d == 0) {
        memcpy(out, "0", 2);
        return 1;
    }
    for (int precision = is_float ? 6 : 15;; precision++) {
        size_t n = digits_of(digits, sizeof digits, fabs(d), precision, &exp);
        size_t len = place_point(out, d < 0, digits, n, exp);
        if (precision >= last || (kei_number_parse(kei_strn(out, len), &back) &&
                                  (is_float ? (float)back == (float)d : back == d)))
            return len;
    }
}

/* ---- configuration ---- */

static void read_number(struct ke_str visitor, const char *key, double *ret, bool *any)
{
    double d;

    if (ke_device_config_f64(visitor.p, visitor.n, key, &d) == 0) {
        *ret = d;
        *any = true;
    }
}

bool kei_tune_read(struct kei_tune *t, struct ke_str visitor)
{
    bool any = false;

    *t = (struct kei_tune){1, 0, 0};
    read_number(visitor, "scale", &t->scale, &any);
    read_number(visitor, "valueOffset", &t->offset, &any);
    read_number(visitor, "deadBand", &t->dead_band, &any);
    if (t->scale == 0)
        t->scale = 1;
    return any && (t->scale != 1 || t->offset != 0 || t->dead_band != 0);
}

static bool scaled(const struct kei_tune *t)
{
    return t && (t->scale != 1 || t->offset != 0);
}

/* ---- from the device ---- */

/* The nearest whole number; beyond 2^52 every double is one. No libm. */
static double whole(double d)
{
    if (!(fabs(d) < 4503599627370496.0))
        return d;
    return (double)(int64_t)(d < 0 ? d - 0.5 : d + 0.5);
}

void kei_val_free(struct kei_val *v, const struct ke_alloc *a)
{
    if (v->kind == KE_DEVICE_KIND_TEXT)
        kei_free(a, v->s);
    v->kind = KE_DEVICE_KIND_NONE;
}

static bool raw_number(const struct ke_device_value *v, double *ret)
{
    switch (v->kind) {
    case KE_DEVICE_KIND_INT:
    case KE_DEVICE_KIND_BOOL:
        *ret = (double)v->i;
        return true;
    case KE_DEVICE_KIND_UINT:
        *ret = (double)(uint64_t)v->i;
        return true;
    case KE_DEVICE_KIND_DOUBLE:
        *ret = v->d;
        return true;
    case KE_DEVICE_KIND_TEXT:
        return kei_number_parse(kei_str_trim(kei_strn(v->p, v->n)), ret);
    default:
        return false;
    }
}

static int no_value(struct ke_error *err, enum kei_prop_type type)
{
    return kei_error(err, KE_EPARSE, "the device gave no %s", kei_prop_type_name(type));
}

static int int_from(struct kei_val *ret, const struct kei_tune *t, const struct ke_device_value *v,
                    struct ke_error *err)
{
    double d;

    ret->kind = KE_DEVICE_KIND_INT;
    if (!scaled(t)) {
        ret->i = v->i;
        if (v->kind == KE_DEVICE_KIND_INT || v->kind == KE_DEVICE_KIND_BOOL ||
            (v->kind == KE_DEVICE_KIND_UINT && v->i >= 0))
            return 0;
        if (v->kind == KE_DEVICE_KIND_TEXT &&
            kei_str_i64(kei_str_trim(kei_strn(v->p, v->n)), &ret->i))
            return 0;
    }
    if (!raw_number(v, &d))
        return no_value(err, KEI_PROP_INT);
    if (scaled(t))
        d = d * t->scale + t->offset;
    /* 3 * 0.1 / 0.1 is not quite 3: what is a whole number but for that is one */
    if (fabs(d - whole(d)) < 1e-9 * (fabs(d) > 1 ? fabs(d) : 1))
        d = whole(d);
    if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0))
        return kei_error(err, KE_ELIMIT, "the device's value does not fit 64 bits");
    ret->i = (int64_t)d;
    return 0;
}

static int double_from(struct kei_val *ret, enum kei_prop_type type, const struct kei_tune *t,
                       const struct ke_device_value *v, struct ke_error *err)
{
    double d;

    if (!raw_number(v, &d))
        return no_value(err, type);
    if (scaled(t))
        d = d * t->scale + t->offset;
    if (type == KEI_PROP_FLOAT)
        d = (double)(float)d;
    if (!isfinite(d))
        return kei_error(err, KE_ELIMIT, "the device's value is no finite number");
    ret->kind = KE_DEVICE_KIND_DOUBLE;
    ret->d = d;
    return 0;
}

static int bool_from(struct kei_val *ret, const struct ke_device_value *v, struct ke_error *err)
{
    struct ke_str s = {v->p, v->kind == KE_DEVICE_KIND_TEXT ? v->n : 0};
    double d;

    ret->kind = KE_DEVICE_KIND_BOOL;
    ret->i = kei_str_is(s, "true");
    if (ret->i || kei_str_is(s, "false"))
        return 0;
    if (!raw_number(v, &d) || (d != 0 && d != 1))
        return no_value(err, KEI_PROP_BOOLEAN);
    ret->i = d == 1;
    return 0;
}

static int text_from(struct kei_val *ret, enum kei_prop_type type, const struct ke_device_value *v,
                     const struct ke_alloc *a, struct ke_error *err)
{
    char number[KEI_VALUE_TEXT_MAX];
    struct ke_str s = {v->p, v->n};
    struct ke_buf b64;
    bool bytes = v->kind == KE_DEVICE_KIND_BYTES || type == KEI_PROP_BYTES;

    kei_buf_init(&b64, a);
    if (v->kind == KE_DEVICE_KIND_NONE || v->kind > KE_DEVICE_KIND_BYTES ||
        (v->kind == KE_DEVICE_KIND_DOUBLE && !isfinite(v->d)))
        return no_value(err, type);
    if (v->kind == KE_DEVICE_KIND_DOUBLE)
        s = kei_strn(number, kei_number_text(number, v->d, false));
    else if (v->kind == KE_DEVICE_KIND_UINT)
        s = kei_strn(number,
                     (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)v->i));
    else if (v->kind == KE_DEVICE_KIND_BOOL)
        s = kei_str(v->i ? "true" : "false");
    else if (v->kind == KE_DEVICE_KIND_INT)
        s = kei_strn(number, (size_t)snprintf(number, sizeof number, "%lld", (long long)v->i));
    else if (s.n > KEI_VALUE_BYTES_MAX)
        return kei_error(err, KE_ELIMIT, "the device's value has %zu bytes; the limit is %u", s.n,
                         KEI_VALUE_BYTES_MAX);
    else if (bytes && (type == KEI_PROP_BYTES || !kei_utf8_valid(s))) {
        kei_b64_encode(&b64, s.p, s.n);
        s = kei_buf_str(&b64);
    } else if (!kei_utf8_valid(s))
        return kei_error(err, KE_EPARSE, "the device gave a text that is not UTF-8");
    ret->s = kei_buf_ok(&b64) ? kei_strndup(a, s.p ? s.p : "", s.n) : NULL;
    ke_buf_free(&b64);
    if (!ret->s)
        return kei_error(err, KE_ENOMEM, "out of memory for a device's value");
    ret->kind = KE_DEVICE_KIND_TEXT;
    return 0;
}

int kei_val_from_raw(struct kei_val *ret, enum kei_prop_type type, const struct kei_tune *t,
                     const struct ke_device_value *v, const struct ke_alloc *a,
                     struct ke_error *err)
{
    switch (type) {
    case KEI_PROP_INT:
        return int_from(ret, t, v, err);
    case KEI_PROP_FLOAT:
    case KEI_PROP_DOUBLE:
        return double_from(ret, type, t, v, err);
    case KEI_PROP_BOOLEAN:
        return bool_from(ret, v, err);
    default:
        return text_from(ret, type, v, a, err);
    }
}

bool kei_val_number(const struct kei_val *v, double *ret)
{
    if (v->kind == KE_DEVICE_KIND_DOUBLE)
        *ret = v->d;
    else if (v->kind == KE_DEVICE_KIND_INT || v->kind == KE_DEVICE_KIND_BOOL)
        *ret = (double)v->i;
    else
        return v->kind == KE_DEVICE_KIND_TEXT && kei_number_parse(kei_str(v->s), ret);
    return true;
}

int kei_val_limits(const struct kei_val *v, const struct kei_model_prop *p, struct ke_error *err)
{
    double d;

    if (!p || (!p->has_min && !p->has_max) || !kei_val_number(v, &d))
        return 0;
    if (p->has_min && d < p->min)
        return kei_error(err, KE_ELIMIT, "the value is below the minimum %s", p->minimum);
    if (p->has_max && d > p->max)
        return kei_error(err, KE_ELIMIT, "the value is above the maximum %s", p->maximum);
    return 0;
}

/* ---- to the device ---- */

int kei_val_parse(struct kei_val *ret, enum kei_prop_type type, struct ke_str text,
                  const struct ke_alloc *a, struct ke_error *err)
{
    struct ke_str s = kei_str_trim(text);

    if (!kei_prop_value_ok(type, s))
        return kei_error(err, KE_EPARSE, "\"%.*s\" is no %s", s.n > 64 ? 64 : (int)s.n, s.p,
                         kei_prop_type_name(type));
    switch (type) {
    case KEI_PROP_INT:
        ret->kind = KE_DEVICE_KIND_INT;
        return kei_str_i64(s, &ret->i) ? 0 : KE_EPARSE;
    case KEI_PROP_FLOAT:
    case KEI_PROP_DOUBLE:
        ret->kind = KE_DEVICE_KIND_DOUBLE;
        if (!kei_number_parse(s, &ret->d))
            return KE_EPARSE;
        if (type == KEI_PROP_FLOAT)
            ret->d = (double)(float)ret->d;
        return 0;
    case KEI_PROP_BOOLEAN:
        ret->kind = KE_DEVICE_KIND_BOOL;
        ret->i = kei_str_is(s, "true");
        return 0;
    default:
        ret->s = kei_strndup(a, text.p ? text.p : "", text.n);
        if (!ret->s)
            return kei_error(err, KE_ENOMEM, "out of memory for a desired value");
        ret->kind = KE_DEVICE_KIND_TEXT;
        return 0;
    }
}

int kei_val_to_raw(struct ke_device_value *ret, enum kei_prop_type type, const struct kei_tune *t,
                   const struct kei_val *v, struct ke_buf *bytes, struct ke_error *err)
{
    ret->kind = v->kind;
    if (v->kind == KE_DEVICE_KIND_TEXT) {
        ret->p = v->s;
        ret->n = strlen(v->s);
        if (type != KEI_PROP_BYTES)
            return 0;
        kei_buf_clear(bytes);
        if (!kei_b64_decode(bytes, kei_str(v->s)))
            return kei_error(err, KE_EPARSE, "the desired bytes are not base64");
        ret->kind = KE_DEVICE_KIND_BYTES;
        ret->p = bytes->p;
        ret->n = bytes->n;
        return kei_buf_ok(bytes) ? 0 : kei_error(err, KE_ENOMEM, "out of memory for bytes");
    }
    if (v->kind == KE_DEVICE_KIND_DOUBLE) {
        ret->d = scaled(t) ? (v->d - t->offset) / t->scale : v->d;
        return isfinite(ret->d) ? 0 : kei_error(err, KE_ELIMIT, "the unscaled value overflows");
    }
    ret->i = v->i;
    if (v->kind == KE_DEVICE_KIND_INT && scaled(t)) {
        double d = whole(((double)v->i - t->offset) / t->scale);
        if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0))
            return kei_error(err, KE_ELIMIT, "the unscaled value does not fit 64 bits");
        ret->i = (int64_t)d;
    }
    return 0;
}

void kei_val_text(struct ke_buf *out, enum kei_prop_type type, const struct kei_val *v)
{
    char number[KEI_VALUE_TEXT_MAX];

    switch (v->kind) {
    case KE_DEVICE_KIND_INT:
        kei_buf_addi(out, v->i);
        break;
    case KE_DEVICE_KIND_DOUBLE:
        kei_buf_add(out, number, kei_number_text(number, v->d, type == KEI_PROP_FLOAT));
        break;
    case KE_DEVICE_KIND_BOOL:
        kei_buf_adds(out, v->i ? "true" : "false");
        break;
    case KE_DEVICE_KIND_TEXT:
        kei_buf_adds(out, v->s);
        break;
    default:
        break;
    }
}

bool kei_val_changed(const struct kei_val *a, const struct kei_val *b, double dead_band)
{
    if (a->kind != b->kind)
        return true;
    switch (a->kind) {
    case KE_DEVICE_KIND_INT:
        if (dead_band > 0)
            return fabs((double)a->i - (double)b->i) > dead_band;
        return a->i != b->i;
    case KE_DEVICE_KIND_BOOL:
        return a->i != b->i;
    case KE_DEVICE_KIND_DOUBLE:
        return fabs(a->d - b->d) > dead_band;
    case KE_DEVICE_KIND_TEXT:
        return strcmp(a->s, b->s) != 0;
    default:
        return false;
    }
}
