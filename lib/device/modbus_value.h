/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of a device in the registers and coils of a slave, and back. Scale and limits are not
 * applied here. Pure, no memory of its own, any thread.
 *
 * As upstream's mapper reads: words in reverse order with isRegisterSwap, then bytes of each word
 * exchanged with isSwap, then by type. INT is unsigned unless "signed" says otherwise, of 1, 2, 4
 * or 8 bytes; FLOAT of 4, DOUBLE of 8 bytes.
 * Beyond it (upstream refuses these, or gives something of no use): "rawType" names what is in the
 * registers when it is not what the property's type says; FLOAT and DOUBLE over one register are
 * integers to be scaled; FLOAT over 4 and DOUBLE over 2 registers are floats of that size; BOOLEAN
 * is also true when the registers hold 1; "bit" picks one bit of one register; STRING of bits is
 * "on" or "off"; BYTES are the bytes.
 */
#ifndef KEI_DEVICE_MODBUS_VALUE_H
#define KEI_DEVICE_MODBUS_VALUE_H

#include <kubeedge/device.h>

#include "device/modbus_pdu.h"

#define KEI_MODBUS_VALUE_MAX 250 /* bytes; of coils and of registers */

enum kei_modbus_raw {
    KEI_MODBUS_RAW_UINT,
    KEI_MODBUS_RAW_INT,
    KEI_MODBUS_RAW_FLOAT, /* IEEE 754 of 2, 4 or 8 bytes */
    KEI_MODBUS_RAW_BOOL,
    KEI_MODBUS_RAW_BIT, /* of one register */
    KEI_MODBUS_RAW_TEXT,
    KEI_MODBUS_RAW_BYTES,
};

/* Where and how a property lies in a slave: its visitor. */
struct kei_modbus_format {
    uint16_t address;
    uint16_t count;  /* coils or registers */
    uint8_t table;   /* enum kei_modbus_table */
    uint8_t raw;     /* enum kei_modbus_raw */
    uint8_t bit;     /* KEI_MODBUS_RAW_BIT: 0 (lowest) to 15 */
    bool swap_bytes; /* isSwap */
    bool swap_words; /* isRegisterSwap */
};

/*
 * Reads a visitor: register, offset, limit, isSwap, isRegisterSwap, signed, rawType, bit. type is
 * KE_DEVICE_*. KE_EINVAL; the text names the member but not the property.
 */
int kei_modbus_format_read(struct kei_modbus_format *ret, const char *visitor, size_t n,
                           uint32_t type, struct ke_error *err);
size_t kei_modbus_format_bytes(const struct kei_modbus_format *f);

/*
 * The value in bytes, as they came: coils packed lowest first, registers high byte first. bytes are
 * put into order in place; text and bytes of v point into them. KE_EPARSE: no text.
 */
int kei_modbus_value_get(const struct kei_modbus_format *f, uint8_t *bytes,
                         struct ke_device_value *v, struct ke_error *err);
/*
 * The other way, of any kind that can be it. KE_EINVAL, KE_ELIMIT (does not fit; the text names the
 * range), KE_EPARSE. KEI_MODBUS_RAW_BIT: out holds the register as it is now, and is changed.
 */
int kei_modbus_value_put(const struct kei_modbus_format *f, const struct ke_device_value *v,
                         uint8_t out[KEI_MODBUS_VALUE_MAX], struct ke_error *err);

#endif
