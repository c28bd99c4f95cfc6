/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keepalive message, prebuilt: only its id and time change, so sending one allocates nothing.
 * Pure.
 */
#ifndef KEI_TUNNEL_KEEPALIVE_H
#define KEI_TUNNEL_KEEPALIVE_H

#include <stdint.h>

#include "base/str.h"

struct kei_keepalive {
    char text[320];
    uint32_t n;
    uint32_t id_at, time_at;
};

void kei_keepalive_init(struct kei_keepalive *k, uint32_t dialect);
/* The message with this id (36 characters) and time; borrowed until the next call. */
struct ke_str kei_keepalive_make(struct kei_keepalive *k, const char *uuid, int64_t unix_ms);

#endif
