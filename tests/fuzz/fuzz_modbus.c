/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a Modbus peer answers. Byte 0: bit 0 RTU, the rest the function asked for; bytes 1 to 4
 * address and count; byte 5 the slave; then the answer. Frames found must lie in the input, values
 * have the size asked for, a frame of ours is found whole, and each number written reads the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "device/modbus_frame.h"
#include "device/modbus_value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void answer(const struct kei_modbus_ask *ask, struct ke_str pdu)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str values;
    uint8_t exception = 0;
    int r = kei_modbus_parse(ask, pdu, &values, &exception, &err);

    MUST(r == 0 || err.text[0]);
    MUST(exception == 0 || r < 0);
    if (r < 0)
        return;
    bool bits = ask->function <= 2 || ask->function == 5 || ask->function == 15;
    MUST(values.n == (kei_modbus_is_read(ask->function) ? kei_modbus_bytes(bits, ask->count) : 0));
    MUST(values.n == 0 || (values.p >= pdu.p && values.p + values.n <= pdu.p + pdu.n));
}

static void stream(const struct kei_modbus_ask *ask, struct ke_str in)
{
    struct kei_modbus_frame f;
    size_t used = 1;

    for (size_t at = 0; used > 0; at += used) {
        struct ke_error err = KE_ERROR_INIT;
        int r = kei_mbap_decode(kei_strn(in.p + at, in.n - at), &f, &used, &err);
        MUST(r == 0 || (r == KE_EPROTO && err.text[0]));
        if (r < 0 || used == 0)
            return;
        MUST(used <= in.n - at && f.pdu.n <= KEI_MODBUS_PDU_MAX);
        answer(ask, f.pdu);
    }
}

static void line(const struct kei_modbus_ask *ask, uint8_t slave, struct ke_str in)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_modbus_frame f;
    size_t used;
    int r = 0;

    for (size_t n = 0; n <= in.n && r == 0; n++) { /* byte by byte, as it comes */
        r = kei_rtu_decode(kei_strn(in.p, n), slave, ask->function, &f, &used, &err);
        MUST(r == 0 || (r == KE_EPROTO && err.text[0]));
        if (r == 0 && used > 0) {
            MUST(used == n && f.slave == slave);
            answer(ask, f.pdu);
            return;
        }
        MUST(n < KEI_RTU_MAX || r < 0 || used > 0); /* it ends somewhere */
    }
}

/* What the driver sends is a frame, too. */
static void ours(const struct kei_modbus_ask *ask, uint8_t slave)
{
    struct kei_modbus_pdu pdu;
    struct kei_modbus_frame f;
    uint8_t frame[KEI_MBAP_MAX];
    size_t used;

    if (kei_modbus_build(&pdu, ask, NULL) < 0)
        return;
    MUST(pdu.n <= KEI_MODBUS_PDU_MAX);
    size_t n = kei_mbap_encode(frame, 7, slave, &pdu);
    MUST(kei_mbap_decode(kei_strn((char *)frame, n), &f, &used, NULL) == 0 && used == n);
    MUST(f.slave == slave && f.pdu.n == pdu.n && memcmp(f.pdu.p, pdu.p, pdu.n) == 0);
    n = kei_rtu_encode(frame, slave, &pdu);
    MUST(n <= KEI_RTU_MAX && kei_rtu_crc(frame, n) == 0);
}

static void values(const uint8_t *data, size_t size)
{
    struct ke_device_value v = {.size = sizeof v};
    uint8_t bytes[KEI_MODBUS_VALUE_MAX], out[KEI_MODBUS_VALUE_MAX];
    struct kei_modbus_format f = {
        .count = data[0] % 8 + 1,
        .table = data[1] & 1 ? KEI_MODBUS_HOLDING : KEI_MODBUS_COIL,
        .raw = data[2] % 7,
        .bit = data[3] & 15,
        .swap_bytes = data[3] & 16,
        .swap_words = data[3] & 32,
    };
    size_t n = kei_modbus_format_bytes(&f);

    if (f.raw <= KEI_MODBUS_RAW_FLOAT && n != 1 && n != 2 && n != 4 && n != 8)
        return;
    if (f.raw == KEI_MODBUS_RAW_FLOAT && n == 1)
        return;
    if (f.raw == KEI_MODBUS_RAW_BIT && n != 2)
        return;
    if (f.table == KEI_MODBUS_COIL && f.raw != KEI_MODBUS_RAW_UINT)
        return;
    if (size < 4 + n)
        return;
    memcpy(bytes, data + 4, n);
    if (f.table == KEI_MODBUS_COIL && f.count % 8)
        bytes[n - 1] &= (uint8_t)((1u << f.count % 8) - 1);
    memcpy(out, bytes, n);
    if (kei_modbus_value_get(&f, bytes, &v, NULL) < 0)
        return;
    bool number = f.raw == KEI_MODBUS_RAW_UINT || f.raw == KEI_MODBUS_RAW_INT;
    uint8_t back[KEI_MODBUS_VALUE_MAX];
    memcpy(back, out, n); /* of a bit, the rest of its register */
    int r = kei_modbus_value_put(&f, &v, back, NULL);
    MUST(r == 0 || f.raw == KEI_MODBUS_RAW_FLOAT);
    if (number || f.raw == KEI_MODBUS_RAW_BIT || f.raw == KEI_MODBUS_RAW_BYTES)
        MUST(memcmp(back, out, n) == 0);
    if (f.raw == KEI_MODBUS_RAW_FLOAT && r == 0)
        MUST(memcmp(back, out, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t zeros[KEI_MODBUS_VALUE_MAX];
    struct kei_modbus_ask ask;

    if (size < 6)
        return 0;
    ask.function = data[0] >> 1;
    ask.address = (uint16_t)(data[1] << 8 | data[2]);
    ask.count = (uint16_t)(data[3] << 8 | data[4]);
    ask.data = zeros;
    struct ke_str rest = {(const char *)data + 6, size - 6};
    ours(&ask, data[5]);
    answer(&ask, rest);
    if (data[0] & 1)
        line(&ask, data[5], rest);
    else
        stream(&ask, rest);
    values(data, size);
    return 0;
}
