/* SPDX-License-Identifier: Apache-2.0 */
/* Serial lines by termios, RS485 included. The fd is the caller's. Any thread; nothing blocks. */
#ifndef KEI_DEVICE_SERIAL_H
#define KEI_DEVICE_SERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum kei_parity {
    KEI_PARITY_NONE,
    KEI_PARITY_EVEN,
    KEI_PARITY_ODD,
};

struct kei_serial_config {
    const char *path;
    uint32_t baud;      /* 9600, ... */
    uint32_t data_bits; /* 5 to 8 */
    uint32_t stop_bits; /* 1 or 2 */
    enum kei_parity parity;
    bool rs485; /* the driver of the port switches between sending and receiving */
};

/* KE_EINVAL: a value that no line can have; the text names it. */
int kei_serial_check(const struct kei_serial_config *c, struct ke_error *err);
/*
 * Opens the line for this process alone, raw, and drops what waits in it. *ret_rs485 (may be NULL)
 * is false when RS485 was asked for and the port has no such mode: an adapter that switches by
 * itself works all the same. KE_ENOTFOUND, KE_EACCES, KE_EBUSY, KE_EINVAL, KE_ESYS.
 */
int kei_serial_open(int *ret_fd, const struct kei_serial_config *c, bool *ret_rs485,
                    struct ke_error *err);
/* Bits that one character takes on the line: start, data, parity, stop. */
uint32_t kei_serial_char_bits(const struct kei_serial_config *c);

#endif
