/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The check sums of the store: of a page of the file and of a row. Not against an attacker: against
 * flash, cables and half-written sectors. Any single damaged 8-byte word is always noticed,
 * anything else but once in 2^64. The result does not depend on the machine. No memory, any thread.
 */
#ifndef KEI_STORE_SUM_H
#define KEI_STORE_SUM_H

#include <kubeedge/store.h>

#include <stdbool.h>

#define KEI_PAGE 4096u  /* of every file of format 1 */
#define KEI_PAGE_SUM 8u /* its last bytes: the sum of those before */
#define KEI_PAGE_USED (KEI_PAGE - KEI_PAGE_SUM)

/* Feeds n bytes and their number into h; start with 0. */
uint64_t kei_sum(uint64_t h, const void *p, size_t n);
int64_t kei_sum_row(const struct ke_store_item *row);

/* pgno counts from 1, and is part of the sum: a page written in the wrong place is a damaged one.
 */
void kei_page_seal(unsigned char *page, uint32_t pgno);
bool kei_page_good(const unsigned char *page, uint32_t pgno);

#endif
