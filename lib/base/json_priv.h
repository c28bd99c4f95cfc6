/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the JSON scanner. */
#ifndef KEI_BASE_JSON_PRIV_H
#define KEI_BASE_JSON_PRIV_H

#include "base/json.h"

static inline const char *skip_ws(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

static inline bool hex4(const char *p, const char *end, uint32_t *ret)
{
    uint32_t v = 0;

    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            d = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            d = (uint32_t)(c - 'A') + 10;
        else
            return false;
        v = v << 4 | d;
    }
    *ret = v;
    return true;
}

#endif
