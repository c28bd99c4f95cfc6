/* SPDX-License-Identifier: Apache-2.0 */
/* The two frames of Modbus. Pure, no memory of its own, any thread. */
#include "device/modbus_frame.h"

size_t kei_mbap_encode(uint8_t out[KEI_MBAP_MAX], uint16_t transaction, uint8_t slave,
                       const struct kei_modbus_pdu *pdu)
{
    out[0] = (uint8_t)(transaction >> 8);
    out[1] = (uint8_t)transaction;
    out[2] = out[3] = 0; /* protocol */
    out[4] = (uint8_t)((pdu->n + 1) >> 8);
    out[5] = (uint8_t)(pdu->n + 1);
    out[6] = slave;
    memcpy(out + KEI_MBAP_HEAD, pdu->p, pdu->n);
    return KEI_MBAP_HEAD + pdu->n;
}

int kei_mbap_decode(struct ke_str in, struct kei_modbus_frame *ret, size_t *ret_used,
                    struct ke_error *err)
{
    const uint8_t *p = (const uint8_t *)in.p;

    *ret_used = 0;
    if (in.n >= 4 && (p[2] != 0 || p[3] != 0))
        return kei_error(err, KE_EPROTO,
                         "the peer does not speak Modbus TCP: protocol %u in its header",
                         (unsigned)p[2] << 8 | p[3]);
    if (in.n < 6)
        return 0;
    size_t length = (size_t)p[4] << 8 | p[5]; /* of slave and PDU */
    if (length < 3 || length > 1 + KEI_MODBUS_PDU_MAX)
        return kei_error(err, KE_EPROTO,
                         "the peer does not speak Modbus TCP: length %zu in its header", length);
    if (in.n < 6 + length)
        return 0;
    ret->transaction = (uint16_t)(p[0] << 8 | p[1]);
    ret->slave = p[6];
    ret->pdu = kei_strn(in.p + KEI_MBAP_HEAD, length - 1);
    *ret_used = 6 + length;
    return 0;
}

uint16_t kei_rtu_crc(const uint8_t *p, size_t n)
{
    unsigned crc = 0xffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1;
    }
    return (uint16_t)crc;
}

size_t kei_rtu_encode(uint8_t out[KEI_RTU_MAX], uint8_t slave, const struct kei_modbus_pdu *pdu)
{
    out[0] = slave;
    memcpy(out + 1, pdu->p, pdu->n);
    uint16_t crc = kei_rtu_crc(out, pdu->n + 1);
    out[pdu->n + 1] = (uint8_t)crc; /* low byte first, unlike everything else */
    out[pdu->n + 2] = (uint8_t)(crc >> 8);
    return pdu->n + 3;
}

/* Bytes of the whole frame that starts with p, 0 when that cannot be told yet. */
static size_t rtu_size(const uint8_t *p, size_t n, uint8_t function)
{
    if (n < 2)
        return 0;
    if (p[1] & 0x80)
        return 5;
    if (!kei_modbus_is_read(function))
        return 8;
    return n < 3 ? 0 : 5u + p[2];
}

int kei_rtu_decode(struct ke_str in, uint8_t slave, uint8_t function, struct kei_modbus_frame *ret,
                   size_t *ret_used, struct ke_error *err)
{
    const uint8_t *p = (const uint8_t *)in.p;

    *ret_used = 0;
    if (in.n >= 1 && p[0] != slave)
        return kei_error(err, KE_EPROTO, "slave %u answered instead of slave %u", p[0], slave);
    if (in.n >= 2 && (p[1] & 0x7f) != function)
        return kei_error(err, KE_EPROTO, "the answer was malformed: it is of another function");
    size_t size = rtu_size(p, in.n, function);
    if (size > KEI_RTU_MAX)
        return kei_error(err, KE_EPROTO, "the answer was malformed: %zu bytes", size);
    if (size == 0 || in.n < size)
        return 0;
    uint16_t crc = kei_rtu_crc(p, size - 2);
    if (p[size - 2] != (crc & 0xff) || p[size - 1] != crc >> 8)
        return kei_error(err, KE_EPROTO,
                         "the checksum of the answer was wrong: noise on the line, wrong baud rate "
                         "or parity, or two slaves with the same number");
    ret->transaction = 0;
    ret->slave = p[0];
    ret->pdu = kei_strn(in.p + 1, size - 3);
    *ret_used = size;
    return 0;
}

uint32_t kei_rtu_silence_us(uint32_t baud, uint32_t bits_per_char)
{
    if (baud > 19200 || baud == 0)
        return 1750;
    return (3500000u / baud + 1) * bits_per_char;
}
