/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two frames of Modbus: the header of TCP, and address and checksum of serial lines. Pure, no
 * memory of its own, any thread.
 */
#ifndef KEI_DEVICE_MODBUS_FRAME_H
#define KEI_DEVICE_MODBUS_FRAME_H

#include "device/modbus_pdu.h"

#define KEI_MBAP_HEAD 7
#define KEI_MBAP_MAX (KEI_MBAP_HEAD + KEI_MODBUS_PDU_MAX)
#define KEI_RTU_MAX 256

/* A frame of either kind. */
struct kei_modbus_frame {
    uint16_t transaction; /* TCP only */
    uint8_t slave;
    struct ke_str pdu; /* borrowed */
};

/* Writes the frame of pdu; returns its bytes. */
size_t kei_mbap_encode(uint8_t out[KEI_MBAP_MAX], uint16_t transaction, uint8_t slave,
                       const struct kei_modbus_pdu *pdu);
/*
 * The first frame of in; *ret_used is its bytes, 0 when more is needed. KE_EPROTO when in cannot be
 * the begin of one: such a stream has no next frame.
 */
int kei_mbap_decode(struct ke_str in, struct kei_modbus_frame *ret, size_t *ret_used,
                    struct ke_error *err);

uint16_t kei_rtu_crc(const uint8_t *p, size_t n);
size_t kei_rtu_encode(uint8_t out[KEI_RTU_MAX], uint8_t slave, const struct kei_modbus_pdu *pdu);
/*
 * The answer to function for slave in what came since the request was sent. *ret_used is 0 when
 * more is needed. KE_EPROTO: checksum wrong, other slave, other function; the line has to be silent
 * before anything new is sent.
 */
int kei_rtu_decode(struct ke_str in, uint8_t slave, uint8_t function, struct kei_modbus_frame *ret,
                   size_t *ret_used, struct ke_error *err);
/* Microseconds of silence that end a frame: 3.5 characters, 1750 above 19200 baud. */
uint32_t kei_rtu_silence_us(uint32_t baud, uint32_t bits_per_char);

#endif
