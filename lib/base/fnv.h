/* SPDX-License-Identifier: Apache-2.0 */
/* FNV-1a, 64 bits: tells that something changed, where nobody chooses the input against us. Pure. */
#ifndef KEI_BASE_FNV_H
#define KEI_BASE_FNV_H

#include <stddef.h>
#include <stdint.h>

#define KEI_FNV1A UINT64_C(0xcbf29ce484222325) /* of nothing */

/* h: KEI_FNV1A, or of what stands before. */
static inline uint64_t kei_fnv1a(uint64_t h, const void *p, size_t n)
{
    const unsigned char *s = p;

    for (size_t i = 0; i < n; i++)
        h = (h ^ s[i]) * UINT64_C(0x100000001b3);
    return h;
}

#endif
