/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modbus requests and answers without their frame: functions 1 to 6, 15 and 16. Pure, no memory of
 * its own, any thread.
 */
#ifndef KEI_DEVICE_MODBUS_PDU_H
#define KEI_DEVICE_MODBUS_PDU_H

#include "base/error.h"
#include "base/str.h"

#define KEI_MODBUS_PDU_MAX 253
#define KEI_MODBUS_READ_BITS_MAX 2000
#define KEI_MODBUS_READ_WORDS_MAX 125
#define KEI_MODBUS_WRITE_BITS_MAX 1968
#define KEI_MODBUS_WRITE_WORDS_MAX 123

enum kei_modbus_table {
    KEI_MODBUS_COIL,
    KEI_MODBUS_DISCRETE,
    KEI_MODBUS_INPUT,
    KEI_MODBUS_HOLDING,
};

#define KEI_MODBUS_READ_COILS 1
#define KEI_MODBUS_READ_DISCRETE 2
#define KEI_MODBUS_READ_HOLDING 3
#define KEI_MODBUS_READ_INPUT 4
#define KEI_MODBUS_WRITE_COIL 5
#define KEI_MODBUS_WRITE_WORD 6
#define KEI_MODBUS_WRITE_COILS 15
#define KEI_MODBUS_WRITE_WORDS 16

/* What is asked of one slave. */
struct kei_modbus_ask {
    uint8_t function;
    uint16_t address;    /* zero-based, as on the wire */
    uint16_t count;      /* bits or words; 1 for functions 5 and 6 */
    const uint8_t *data; /* of writes: bits packed lowest first, words high byte first */
};

struct kei_modbus_pdu {
    size_t n;
    uint8_t p[KEI_MODBUS_PDU_MAX];
};

static inline bool kei_modbus_is_bits(enum kei_modbus_table t)
{
    return t == KEI_MODBUS_COIL || t == KEI_MODBUS_DISCRETE;
}
static inline bool kei_modbus_is_read(uint8_t function)
{
    return function >= KEI_MODBUS_READ_COILS && function <= KEI_MODBUS_READ_INPUT;
}
/* bytes that count bits or words take */
static inline size_t kei_modbus_bytes(bool bits, size_t count)
{
    return bits ? (count + 7) / 8 : count * 2;
}
uint8_t kei_modbus_read_function(enum kei_modbus_table t);
/* 0 for tables that cannot be written */
uint8_t kei_modbus_write_function(enum kei_modbus_table t, size_t count);
/* "holding register 7", "coils 3 to 9": for people; cut when it does not fit */
void kei_modbus_place(char *out, size_t n, const struct kei_modbus_ask *a);
/* "illegal data address" */
const char *kei_modbus_exception_text(uint8_t exception);
/* The class of an exception: KE_ENOTSUP, KE_ENOTFOUND, KE_EINVAL, KE_EBUSY, ... */
int kei_modbus_exception_code(uint8_t exception);

/* KE_EINVAL, KE_ELIMIT: count of 0, over the function's maximum, or beyond address 65535. */
int kei_modbus_build(struct kei_modbus_pdu *ret, const struct kei_modbus_ask *a,
                     struct ke_error *err);
/*
 * Checks that pdu answers a. *ret_data is the values read (part of pdu), empty for writes. An
 * exception gives its class and *ret_exception (may be NULL; 0 otherwise); KE_EPROTO for anything
 * that is no answer to a.
 */
int kei_modbus_parse(const struct kei_modbus_ask *a, struct ke_str pdu, struct ke_str *ret_data,
                     uint8_t *ret_exception, struct ke_error *err);

#endif
