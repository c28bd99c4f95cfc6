/* SPDX-License-Identifier: Apache-2.0 */
/* Values in registers and coils. Pure, no memory of its own, any thread. */
#include "device/modbus_value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "device/driver_conf.h"

/* ---- order ---- */

static void swap(uint8_t *a, uint8_t *b)
{
    uint8_t was = *a;
    *a = *b;
    *b = was;
}

/* The last byte of an odd number stays where it is. */
static void swap_words(uint8_t *p, size_t n)
{
    size_t words = n / 2;

    for (size_t i = 0; i < words / 2; i++) {
        swap(p + 2 * i, p + 2 * (words - 1 - i));
        swap(p + 2 * i + 1, p + 2 * (words - 1 - i) + 1);
    }
}

static void swap_bytes(uint8_t *p, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        swap(p + i, p + i + 1);
}

static void put_in_order(const struct kei_modbus_format *f, uint8_t *p, size_t n)
{
    if (f->swap_words)
        swap_words(p, n);
    if (f->swap_bytes)
        swap_bytes(p, n);
}

/* Both only exchange, and do so independently of each other: the way back is the same. */
#define put_out_of_order put_in_order

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static void store(uint8_t *p, size_t n, uint64_t v)
{
    while (n > 0) {
        p[--n] = (uint8_t)v;
        v >>= 8;
    }
}

/* ---- floats ---- */

static double half_to_double(uint64_t h)
{
    int exponent = (int)(h >> 10 & 0x1f);
    double m = (double)(h & 0x3ff), v;

    if (exponent == 31)
        v = m > 0 ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        v = ldexp(m, -24);
    else
        v = ldexp(m + 1024, exponent - 25);
    return h & 0x8000 ? -v : v;
}

/* d is finite and at most 65504; to the nearest, ties to even. */
static uint64_t half_of_double(double d)
{
    uint64_t sign = signbit(d) ? 0x8000 : 0;
    double a = fabs(d);
    int exponent = 0;

    if (a == 0.0)
        return sign;
    frexp(a, &exponent); /* a = m * 2^exponent, 0.5 <= m < 1 */
    if (exponent < -13)
        exponent = -13;                     /* below: denormal */
    double exact = ldexp(a, 11 - exponent); /* 1024 to 2048, denormal: less */
    uint64_t m = (uint64_t)exact;
    double rest = exact - (double)m;
    if (rest > 0.5 || (rest == 0.5 && m & 1))
        m++; /* a carry runs into the exponent, which is right */
    if (exponent == -13 && exact < 1024)
        return sign | m;
    return sign | (((uint64_t)(exponent + 14) << 10) + m - 1024);
}

static double load_float(const uint8_t *p, size_t n)
{
    uint64_t u = load(p, n);

    if (n == 2)
        return half_to_double(u);
    if (n == 4) {
        uint32_t u32 = (uint32_t)u;
        float f;
        memcpy(&f, &u32, sizeof f);
        return (double)f;
    }
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

static int store_float(uint8_t *p, size_t n, double d, struct ke_error *err)
{
    double max = n == 2 ? 65504.0 : 3.4028234663852886e38;

    if (!isfinite(d))
        return kei_error(err, KE_EINVAL, "the value is not a finite number");
    if (n < 8 && fabs(d) > max)
        return kei_error(err, KE_ELIMIT, "%g does not fit into a float of %zu bits", d, n * 8);
    if (n == 2) {
        store(p, n, half_of_double(d));
    } else if (n == 4) {
        float f = (float)d;
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        store(p, n, u);
    } else {
        uint64_t u;
        memcpy(&u, &d, sizeof u);
        store(p, n, u);
    }
    return 0;
}

/* ---- reading ---- */

static bool is_bits(const struct kei_modbus_format *f)
{
    return kei_modbus_is_bits((enum kei_modbus_table)f->table);
}

size_t kei_modbus_format_bytes(const struct kei_modbus_format *f)
{
    return kei_modbus_bytes(is_bits(f), f->count);
}

static int64_t sign_extend(uint64_t u, size_t n)
{
    if (n < 8 && u >> (8 * n - 1) & 1)
        u |= UINT64_MAX << 8 * n;
    return (int64_t)u;
}

static int get_text(const struct kei_modbus_format *f, const uint8_t *p, size_t n,
                    struct ke_device_value *v, struct ke_error *err)
{
    v->kind = KE_DEVICE_KIND_TEXT;
    if (is_bits(f)) {
        v->p = p[0] & 1 ? "on" : "off";
        v->n = strlen(v->p);
        return 0;
    }
    while (n > 0 && p[n - 1] == 0)
        n--; /* what a shorter text leaves of its registers */
    if (!kei_utf8_valid(kei_strn((const char *)p, n)))
        return kei_error(err, KE_EPARSE, "the registers hold no text");
    v->p = p;
    v->n = n;
    return 0;
}

int kei_modbus_value_get(const struct kei_modbus_format *f, uint8_t *bytes,
                         struct ke_device_value *v, struct ke_error *err)
{
    size_t n = kei_modbus_format_bytes(f);

    put_in_order(f, bytes, n);
    switch ((enum kei_modbus_raw)f->raw) {
    case KEI_MODBUS_RAW_UINT:
        v->kind = KE_DEVICE_KIND_UINT;
        v->i = (int64_t)load(bytes, n);
        return 0;
    case KEI_MODBUS_RAW_INT:
        v->kind = KE_DEVICE_KIND_INT;
        v->i = sign_extend(load(bytes, n), n);
        return 0;
    case KEI_MODBUS_RAW_FLOAT:
        v->kind = KE_DEVICE_KIND_DOUBLE;
        v->d = load_float(bytes, n);
        return 0;
    case KEI_MODBUS_RAW_BOOL:
        /* upstream looks at the first byte; with words of 16 bit a plain 1 is the last one */
        v->kind = KE_DEVICE_KIND_BOOL;
        v->i = bytes[0] == 1 || (!is_bits(f) && n <= 8 && load(bytes, n) == 1);
        return 0;
    case KEI_MODBUS_RAW_BIT:
        v->kind = KE_DEVICE_KIND_BOOL;
        v->i = (int64_t)(load(bytes, n) >> f->bit & 1);
        return 0;
    case KEI_MODBUS_RAW_TEXT:
        return get_text(f, bytes, n, v, err);
    case KEI_MODBUS_RAW_BYTES:
        break;
    }
    v->kind = KE_DEVICE_KIND_BYTES;
    v->p = bytes;
    v->n = n;
    return 0;
}

/* ---- writing ---- */

static int too_large(const struct ke_device_value *v, size_t bits, bool is_signed,
                     struct ke_error *err)
{
    int64_t min = is_signed ? INT64_MIN >> (64 - bits) : 0;
    uint64_t max = UINT64_MAX >> (64 - bits + (is_signed ? 1 : 0));
    char is[40];

    if (v->kind == KE_DEVICE_KIND_DOUBLE)
        snprintf(is, sizeof is, "%.17g", v->d);
    else if (v->kind == KE_DEVICE_KIND_UINT)
        snprintf(is, sizeof is, "%" PRIu64, (uint64_t)v->i);
    else
        snprintf(is, sizeof is, "%" PRId64, v->i);
    return kei_error(err, KE_ELIMIT, "%s does not fit into %zu bits (%" PRId64 " to %" PRIu64 ")%s",
                     is, bits, min, max,
                     is_signed ? "" : "; for values below 0 set \"signed\" in the visitor");
}

/* An integer of n bytes; sign says how they are read again. */
static int put_int(uint8_t *p, size_t n, size_t bits, bool is_signed,
                   const struct ke_device_value *v, struct ke_error *err)
{
    uint64_t u = (uint64_t)v->i, max = UINT64_MAX >> (64 - bits + (is_signed ? 1 : 0));
    bool negative = v->kind == KE_DEVICE_KIND_INT && v->i < 0;

    if (v->kind == KE_DEVICE_KIND_DOUBLE) {
        double d = v->d < 0 ? v->d - 0.5 : v->d + 0.5; /* scaling back leaves a fraction */
        if (!(d >= -0x1p63 && d < 0x1p64))
            return too_large(v, bits, is_signed, err);
        negative = d <= -1.0;
        u = negative ? (uint64_t)(int64_t)d : (uint64_t)d;
    }
    if (negative ? !is_signed || (int64_t)u < (INT64_MIN >> (64 - bits)) : u > max)
        return too_large(v, bits, is_signed, err);
    store(p, n, u);
    return 0;
}

static bool is_number(const struct ke_device_value *v)
{
    return v->kind == KE_DEVICE_KIND_INT || v->kind == KE_DEVICE_KIND_UINT ||
           v->kind == KE_DEVICE_KIND_DOUBLE || v->kind == KE_DEVICE_KIND_BOOL;
}

static int put_number(const struct kei_modbus_format *f, const struct ke_device_value *v,
                      uint8_t *out, size_t n, struct ke_error *err)
{
    size_t bits = is_bits(f) && f->count < 8 ? f->count : n * 8;

    if (!is_number(v))
        return kei_error(err, KE_EINVAL, "the value is no number");
    if (f->raw != KEI_MODBUS_RAW_FLOAT)
        return put_int(out, n, bits, f->raw == KEI_MODBUS_RAW_INT, v, err);
    double d = v->kind == KE_DEVICE_KIND_DOUBLE ? v->d
               : v->kind == KE_DEVICE_KIND_UINT ? (double)(uint64_t)v->i
                                                : (double)v->i;
    return store_float(out, n, d, err);
}

static int put_bytes(const struct kei_modbus_format *f, const struct ke_device_value *v,
                     uint8_t *out, size_t n, struct ke_error *err)
{
    bool text = f->raw == KEI_MODBUS_RAW_TEXT;

    if (v->kind != KE_DEVICE_KIND_TEXT && v->kind != KE_DEVICE_KIND_BYTES)
        return kei_error(err, KE_EINVAL, "the value is no %s", text ? "text" : "bytes");
    if (v->n > n)
        return kei_error(err, KE_ELIMIT, "%zu bytes do not fit into %u registers", v->n, f->count);
    if (!text && v->n != n)
        return kei_error(err, KE_EINVAL, "%zu bytes do not fill %zu", v->n, n);
    memset(out, 0, n);
    if (v->n)
        memcpy(out, v->p, v->n);
    return 0;
}

int kei_modbus_value_put(const struct kei_modbus_format *f, const struct ke_device_value *v,
                         uint8_t out[KEI_MODBUS_VALUE_MAX], struct ke_error *err)
{
    bool on = false;
    size_t n = kei_modbus_format_bytes(f);
    int r;

    switch ((enum kei_modbus_raw)f->raw) {
    case KEI_MODBUS_RAW_UINT:
    case KEI_MODBUS_RAW_INT:
    case KEI_MODBUS_RAW_FLOAT:
        r = put_number(f, v, out, n, err);
        break;
    case KEI_MODBUS_RAW_BOOL:
        r = kei_value_truth(v, &on, err);
        memset(out, 0, n);
        out[is_bits(f) ? 0 : n - 1] = on;
        break;
    case KEI_MODBUS_RAW_BIT:
        r = kei_value_truth(v, &on, err);
        if (r < 0)
            return r;
        put_in_order(f, out, n);
        store(out, n, (load(out, n) & ~(UINT64_C(1) << f->bit)) | (uint64_t)on << f->bit);
        break;
    case KEI_MODBUS_RAW_TEXT:
    case KEI_MODBUS_RAW_BYTES:
    default:
        if (f->raw != KEI_MODBUS_RAW_TEXT || !is_bits(f)) {
            r = put_bytes(f, v, out, n, err);
            break;
        }
        r = kei_value_truth(v, &on, err);
        out[0] = on;
    }
    if (r < 0)
        return r;
    put_out_of_order(f, out, n);
    if (is_bits(f) && f->count % 8 && out[n - 1] >> f->count % 8)
        return kei_error(err, KE_ELIMIT, "the value does not fit into %u coils", f->count);
    return 0;
}

/* ---- the visitor ---- */

struct visitor {
    int64_t offset, limit, bit;
    bool is_signed, swap_bytes, swap_words;
    unsigned table, raw;
};

/* In the order of enum kei_modbus_table. */
static const char *const tables[] = {"CoilRegister", "DiscreteInputRegister", "InputRegister",
                                     "HoldingRegister", NULL};

static const struct raw_type {
    uint8_t raw, words; /* words 0: any */
} raw_types[] = {
    {KEI_MODBUS_RAW_UINT, 0},  {KEI_MODBUS_RAW_INT, 0},   {KEI_MODBUS_RAW_UINT, 1},
    {KEI_MODBUS_RAW_INT, 1},   {KEI_MODBUS_RAW_UINT, 2},  {KEI_MODBUS_RAW_INT, 2},
    {KEI_MODBUS_RAW_UINT, 4},  {KEI_MODBUS_RAW_INT, 4},   {KEI_MODBUS_RAW_FLOAT, 0},
    {KEI_MODBUS_RAW_FLOAT, 1}, {KEI_MODBUS_RAW_FLOAT, 2}, {KEI_MODBUS_RAW_FLOAT, 4},
};
static const char *const raw_names[] = {"uint",    "int",     "uint16", "int16", "uint32",
                                        "int32",   "uint64",  "int64",  "float", "float16",
                                        "float32", "float64", NULL};
#define NO_RAW (sizeof raw_types / sizeof raw_types[0])

static int read_members(struct visitor *v, const struct kei_conf *c)
{
    int r;

    *v = (struct visitor){.limit = -1, .bit = -1, .raw = NO_RAW, .table = 4};
    if ((r = kei_conf_enum(c, "register", tables, &v->table)) < 0 ||
        (r = kei_conf_int(c, "offset", 0, 65535, &v->offset)) < 0 ||
        (r = kei_conf_int(c, "limit", 1, KEI_MODBUS_READ_BITS_MAX, &v->limit)) < 0 ||
        (r = kei_conf_bool(c, "isSwap", &v->swap_bytes)) < 0 ||
        (r = kei_conf_bool(c, "isRegisterSwap", &v->swap_words)) < 0 ||
        (r = kei_conf_bool(c, "signed", &v->is_signed)) < 0 ||
        (r = kei_conf_enum(c, "rawType", raw_names, &v->raw)) < 0 ||
        (r = kei_conf_int(c, "bit", 0, 15, &v->bit)) < 0)
        return r;
    if (v->table == 4)
        return kei_error(c->err, KE_EINVAL, "\"register\" is missing");
    return 0;
}

/* What the registers hold when only the type of the property says so. */
static int raw_of_type(struct kei_modbus_format *f, const struct visitor *v, uint32_t type,
                       struct ke_error *err)
{
    switch (type) {
    case KE_DEVICE_INT:
        f->raw = v->is_signed ? KEI_MODBUS_RAW_INT : KEI_MODBUS_RAW_UINT;
        return 0;
    case KE_DEVICE_FLOAT:
    case KE_DEVICE_DOUBLE:
        f->raw = is_bits(f) || f->count == 1
                     ? (v->is_signed ? KEI_MODBUS_RAW_INT : KEI_MODBUS_RAW_UINT)
                     : KEI_MODBUS_RAW_FLOAT;
        return 0;
    case KE_DEVICE_BOOLEAN:
        f->raw = KEI_MODBUS_RAW_BOOL;
        return 0;
    case KE_DEVICE_STRING:
        f->raw = KEI_MODBUS_RAW_TEXT;
        return 0;
    case KE_DEVICE_BYTES:
        f->raw = KEI_MODBUS_RAW_BYTES;
        return 0;
    default:
        return kei_error(err, KE_EINVAL, "Modbus has no values of the property's type");
    }
}

static int check_size(const struct kei_modbus_format *f, struct ke_error *err)
{
    size_t n = kei_modbus_format_bytes(f);
    size_t max = is_bits(f) ? KEI_MODBUS_READ_BITS_MAX : KEI_MODBUS_READ_WORDS_MAX;
    bool number = f->raw == KEI_MODBUS_RAW_UINT || f->raw == KEI_MODBUS_RAW_INT;

    if (f->count > max)
        return kei_error(err, KE_EINVAL, "\"limit\" is %u, one request reads up to %zu", f->count,
                         max);
    if ((size_t)f->address + f->count > 65536)
        return kei_error(err, KE_EINVAL, "\"offset\" %u with \"limit\" %u goes beyond 65535",
                         f->address, f->count);
    if (number && n != 1 && n != 2 && n != 4 && n != 8)
        return kei_error(err, KE_EINVAL, "\"limit\" %u makes %zu bytes, a number has 1, 2, 4 or 8",
                         f->count, n);
    if (f->raw == KEI_MODBUS_RAW_FLOAT && n != 2 && n != 4 && n != 8)
        return kei_error(err, KE_EINVAL, "\"limit\" is %u, a float has 1, 2 or 4 registers",
                         f->count);
    if (f->raw == KEI_MODBUS_RAW_BIT && n != 2)
        return kei_error(err, KE_EINVAL, "\"bit\" is of one register, \"limit\" is %u", f->count);
    return 0;
}

int kei_modbus_format_read(struct kei_modbus_format *ret, const char *visitor, size_t n,
                           uint32_t type, struct ke_error *err)
{
    struct kei_conf c = {visitor, n, NULL, err};
    struct visitor v;

    int r = read_members(&v, &c);
    if (r < 0)
        return r;
    const struct raw_type *raw = v.raw < NO_RAW ? &raw_types[v.raw] : NULL;
    struct kei_modbus_format f = {
        .address = (uint16_t)v.offset,
        .table = (uint8_t)v.table,
        .bit = (uint8_t)(v.bit < 0 ? 0 : v.bit),
        .swap_bytes = v.swap_bytes,
        .swap_words = v.swap_words,
        .count = (uint16_t)(v.limit > 0         ? v.limit
                            : raw && raw->words ? raw->words
                                                : 1),
    };
    if (is_bits(&f) && (raw || v.bit >= 0 || v.is_signed))
        return kei_error(err, KE_EINVAL, "\"%s\" is for registers, not for coils and inputs",
                         raw          ? "rawType"
                         : v.bit >= 0 ? "bit"
                                      : "signed");
    r = raw_of_type(&f, &v, type, err);
    if (r < 0)
        return r;
    if (raw)
        f.raw = raw->raw;
    else if (v.bit >= 0)
        f.raw = KEI_MODBUS_RAW_BIT;
    if (raw && raw->words && raw->words != f.count)
        return kei_error(err, KE_EINVAL, "\"rawType\" %s has %u registers, \"limit\" is %u",
                         raw_names[v.raw], raw->words, f.count);
    r = check_size(&f, err);
    if (r < 0)
        return r;
    *ret = f;
    return 0;
}
