/* SPDX-License-Identifier: Apache-2.0 */
/* A kept twin from the inside: for twin.c and twin_row.c. One block, immutable but for refs. */
#ifndef KEI_MESSAGE_TWIN_PRIV_H
#define KEI_MESSAGE_TWIN_PRIV_H

#include "message/twin.h"

#define KEI_TWIN_F_HAS 1u /* flags of the first side; of the second, shifted */
#define KEI_TWIN_F_TS 2u
#define KEI_TWIN_F_VERSION 4u
#define KEI_TWIN_F_SHIFT 4u
#define KEI_TWIN_F_OPTIONAL 0x100u

struct kei_twin {
    uint32_t refs;
    uint16_t flags;
    uint16_t dirty;
    uint64_t up;
    int64_t ts[2], cloud[2], edge[2];
    struct kei_hlc at[2];
    uint32_t n[4]; /* lengths of name, type and the values, each followed by a NUL in text */
    char text[];
};

#endif
