/* SPDX-License-Identifier: Apache-2.0 */
/* Modbus requests and answers without their frame. Pure, no memory of its own, any thread. */
#include "device/modbus_pdu.h"

#include <stdio.h>

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static size_t get16(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

static const struct function {
    uint8_t number;
    bool bits;
    uint16_t max;
    const char *one, *many;
} functions[] = {
    {KEI_MODBUS_READ_COILS, true, KEI_MODBUS_READ_BITS_MAX, "coil", "coils"},
    {KEI_MODBUS_READ_DISCRETE, true, KEI_MODBUS_READ_BITS_MAX, "discrete input", "discrete inputs"},
    {KEI_MODBUS_READ_HOLDING, false, KEI_MODBUS_READ_WORDS_MAX, "holding register",
     "holding registers"},
    {KEI_MODBUS_READ_INPUT, false, KEI_MODBUS_READ_WORDS_MAX, "input register", "input registers"},
    {KEI_MODBUS_WRITE_COIL, true, 1, "coil", "coils"},
    {KEI_MODBUS_WRITE_WORD, false, 1, "holding register", "holding registers"},
    {KEI_MODBUS_WRITE_COILS, true, KEI_MODBUS_WRITE_BITS_MAX, "coil", "coils"},
    {KEI_MODBUS_WRITE_WORDS, false, KEI_MODBUS_WRITE_WORDS_MAX, "holding register",
     "holding registers"},
};

static const struct function *function_of(uint8_t number)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (functions[i].number == number)
            return &functions[i];
    }
    return NULL;
}

uint8_t kei_modbus_read_function(enum kei_modbus_table t)
{
    switch (t) {
    case KEI_MODBUS_COIL:
        return KEI_MODBUS_READ_COILS;
    case KEI_MODBUS_DISCRETE:
        return KEI_MODBUS_READ_DISCRETE;
    case KEI_MODBUS_INPUT:
        return KEI_MODBUS_READ_INPUT;
    case KEI_MODBUS_HOLDING:
        break;
    }
    return KEI_MODBUS_READ_HOLDING;
}

uint8_t kei_modbus_write_function(enum kei_modbus_table t, size_t count)
{
    if (t == KEI_MODBUS_COIL)
        return count == 1 ? KEI_MODBUS_WRITE_COIL : KEI_MODBUS_WRITE_COILS;
    if (t == KEI_MODBUS_HOLDING)
        return count == 1 ? KEI_MODBUS_WRITE_WORD : KEI_MODBUS_WRITE_WORDS;
    return 0;
}

void kei_modbus_place(char *out, size_t n, const struct kei_modbus_ask *a)
{
    const struct function *f = function_of(a->function);

    if (!f)
        snprintf(out, n, "function %u", a->function);
    else if (a->count <= 1)
        snprintf(out, n, "%s %u", f->one, a->address);
    else
        snprintf(out, n, "%s %u to %u", f->many, a->address, a->address + a->count - 1u);
}

const char *kei_modbus_exception_text(uint8_t exception)
{
    static const char *const texts[] = {
        [1] = "illegal function",           [2] = "illegal data address",
        [3] = "illegal data value",         [4] = "failure of the device",
        [5] = "the device needs more time", [6] = "the device is busy",
        [7] = "the device cannot do this",  [8] = "memory of the device is damaged",
        [10] = "the gateway has no path",   [11] = "the device behind the gateway did not answer",
    };
    const char *s = exception < sizeof texts / sizeof texts[0] ? texts[exception] : NULL;
    return s ? s : "unknown exception";
}

int kei_modbus_exception_code(uint8_t exception)
{
    switch (exception) {
    case 1:
        return KE_ENOTSUP;
    case 2:
        return KE_ENOTFOUND;
    case 3:
        return KE_EINVAL;
    case 5:
    case 6:
        return KE_EBUSY;
    case 10:
        return KE_ECONN;
    case 11:
        return KE_ETIMEDOUT;
    default:
        return KE_EIO;
    }
}

static int check_ask(const struct kei_modbus_ask *a, const struct function *f, struct ke_error *err)
{
    if (!f)
        return kei_error(err, KE_EINVAL, "Modbus function %u is not supported", a->function);
    if (a->count == 0)
        return kei_error(err, KE_EINVAL, "no %s were asked for", f->many);
    if (a->count > f->max)
        return kei_error(err, KE_ELIMIT, "%u %s in one request are over the limit of %u", a->count,
                         f->many, f->max);
    if ((size_t)a->address + a->count > 65536)
        return kei_error(err, KE_EINVAL, "%u %s from %u on go beyond address 65535", a->count,
                         f->many, a->address);
    return 0;
}

int kei_modbus_build(struct kei_modbus_pdu *ret, const struct kei_modbus_ask *a,
                     struct ke_error *err)
{
    const struct function *f = function_of(a->function);
    int r = check_ask(a, f, err);
    if (r < 0)
        return r;
    ret->p[0] = a->function;
    put16(ret->p + 1, a->address);
    ret->n = 5;
    switch (a->function) {
    case KEI_MODBUS_WRITE_COIL:
        put16(ret->p + 3, a->data[0] & 1 ? 0xff00 : 0);
        break;
    case KEI_MODBUS_WRITE_WORD:
        put16(ret->p + 3, get16(a->data));
        break;
    case KEI_MODBUS_WRITE_COILS:
    case KEI_MODBUS_WRITE_WORDS: {
        size_t bytes = kei_modbus_bytes(f->bits, a->count);
        put16(ret->p + 3, a->count);
        ret->p[5] = (uint8_t)bytes;
        memcpy(ret->p + 6, a->data, bytes);
        if (f->bits && a->count % 8) /* what follows the last bit is zero on the wire */
            ret->p[5 + bytes] &= (uint8_t)((1u << a->count % 8) - 1);
        ret->n = 6 + bytes;
        break;
    }
    default:
        put16(ret->p + 3, a->count);
    }
    return 0;
}

static int no_answer(struct ke_error *err, const char *why)
{
    return kei_error(err, KE_EPROTO, "the answer was malformed: %s", why);
}

/* The echo of a write. */
static int parse_echo(const struct kei_modbus_ask *a, struct ke_str pdu, struct ke_error *err)
{
    struct kei_modbus_pdu want;

    int r = kei_modbus_build(&want, a, err);
    if (r < 0)
        return r;
    /* functions 15 and 16 echo address and count, 5 and 6 address and value: five bytes each */
    if (pdu.n != 5 || memcmp(pdu.p, want.p, 5) != 0)
        return no_answer(err, "it does not repeat what was written");
    return 0;
}

int kei_modbus_parse(const struct kei_modbus_ask *a, struct ke_str pdu, struct ke_str *ret_data,
                     uint8_t *ret_exception, struct ke_error *err)
{
    const struct function *f = function_of(a->function);
    const uint8_t *p = (const uint8_t *)pdu.p;
    int r = check_ask(a, f, err);

    if (ret_exception)
        *ret_exception = 0;
    if (r < 0)
        return r;
    if (pdu.n < 2)
        return no_answer(err, "it is too short");
    if (p[0] == (a->function | 0x80)) {
        if (pdu.n != 2)
            return no_answer(err, "its length is wrong");
        if (p[1] == 0)
            return no_answer(err, "exception 0 does not exist");
        if (ret_exception)
            *ret_exception = p[1];
        return kei_error(err, kei_modbus_exception_code(p[1]), "%s (exception %u)",
                         kei_modbus_exception_text(p[1]), p[1]);
    }
    if (p[0] != a->function)
        return no_answer(err, "it is of another function");
    if (!kei_modbus_is_read(a->function)) {
        r = parse_echo(a, pdu, err);
        if (r == 0)
            *ret_data = kei_strn(NULL, 0);
        return r;
    }
    size_t bytes = kei_modbus_bytes(f->bits, a->count);
    if (p[1] != bytes || pdu.n != 2 + bytes)
        return no_answer(err, "its length is not that of what was asked for");
    *ret_data = kei_strn(pdu.p + 2, bytes);
    return 0;
}
