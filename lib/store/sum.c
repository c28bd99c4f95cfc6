/* SPDX-License-Identifier: Apache-2.0 */
/* Check sums, see sum.h: eight bytes at a time, each step a bijection of both state and input. */
#include "store/sum.h"

#include <string.h>

#define MIX UINT64_C(0x9fb21c651e98df25) /* odd, bits evenly spread */

static uint64_t word(const unsigned char *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

static uint64_t step(uint64_t h, uint64_t w)
{
    h = (h ^ w) * MIX;
    return h ^ h >> 32;
}

uint64_t kei_sum(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    size_t left = n;
    h = step(h + 1, n);
    for (; left >= 8; left -= 8, p += 8)
        h = step(h, word(p));
    if (left > 0) {
        unsigned char last[8] = {0};
        memcpy(last, p, left);
        h = step(h, word(last));
    }
    return h;
}

int64_t kei_sum_row(const struct ke_store_item *row)
{
    uint64_t h = kei_sum(0, row->bucket, strlen(row->bucket));
    h = kei_sum(h, row->key, strlen(row->key));
    h = kei_sum(h, row->uid, strlen(row->uid));
    h = step(h, (uint64_t)row->version);
    h = kei_sum(h, row->value, row->len);
    int64_t out;
    memcpy(&out, &h, sizeof out);
    return out;
}

static uint64_t page_sum(const unsigned char *page, uint32_t pgno)
{
    return kei_sum(pgno, page, KEI_PAGE_USED);
}

void kei_page_seal(unsigned char *page, uint32_t pgno)
{
    uint64_t h = page_sum(page, pgno);
    for (unsigned i = 0; i < KEI_PAGE_SUM; i++)
        page[KEI_PAGE_USED + i] = (unsigned char)(h >> (8 * i));
}

bool kei_page_good(const unsigned char *page, uint32_t pgno)
{
    return word(page + KEI_PAGE_USED) == page_sum(page, pgno);
}
