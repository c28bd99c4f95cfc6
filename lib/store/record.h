/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows out of raw pages, for salvage. Everything is checked against the page and the file; a row
 * counts only if its own sum is right, so damage can hide rows but never make one up. Memory: one
 * growing buffer per reader. Runs where the store's file work runs.
 */
#ifndef KEI_STORE_RECORD_H
#define KEI_STORE_RECORD_H

#include "base/buf.h"
#include "store/pages.h"

struct kei_reader {
    struct kei_pages *pages;
    uint32_t refused;           /* cells that looked like cells and could not be read */
    unsigned char *page, *more; /* the page in hand, a page of an overflow chain */
    struct ke_buf payload;
    struct ke_buf text; /* bucket, key and uid of the row in hand */
};

int kei_reader_init(struct kei_reader *r, struct kei_pages *pages);
void kei_reader_fini(struct kei_reader *r); /* safe if zero */

/* The item and what it points to are valid during the call. A non-zero return ends the reading. */
typedef int (*kei_row_fn)(void *user, const struct ke_store_item *row);
/* Calls fn for every good row of page pgno, if it is a leaf of the table. 0, KE_ENOMEM, or fn's. */
int kei_reader_rows(struct kei_reader *r, uint32_t pgno, kei_row_fn fn, void *user);

typedef int (*kei_key_fn)(void *user, const char *bucket, const char *key);
/*
 * Calls fn for every key the index holds. *ret_all is false when a part of the index could not be
 * read. 0, KE_ENOMEM, or fn's.
 */
int kei_reader_keys(struct kei_reader *r, kei_key_fn fn, void *user, bool *ret_all);

#endif
