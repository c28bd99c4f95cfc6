/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable bytes (struct ke_buf, public). Appending is sticky on failure: after one failed append
 * the buffer is marked and later appends do nothing, so a chain needs one check at its end.
 */
#ifndef KEI_BASE_BUF_H
#define KEI_BASE_BUF_H

#include <kubeedge/ctx.h>

#include "base/str.h"

void kei_buf_init(struct ke_buf *b, const struct ke_alloc *a);
void kei_buf_add(struct ke_buf *b, const void *p, size_t n);
void kei_buf_adds(struct ke_buf *b, const char *s);
void kei_buf_addv(struct ke_buf *b, struct ke_str s);
void kei_buf_addc(struct ke_buf *b, char c);
void kei_buf_addf(struct ke_buf *b, const char *fmt, ...) KE_PRINTF(2, 3);
void kei_buf_addi(struct ke_buf *b, int64_t v);
bool kei_buf_ok(const struct ke_buf *b); /* false: an append failed (KE_ENOMEM) */
/* room for n more bytes after b->n; NULL on failure. Then raise b->n by what was written. */
char *kei_buf_room(struct ke_buf *b, size_t n);
void kei_buf_drop(struct ke_buf *b, size_t n); /* removes n bytes at the front */
void kei_buf_clear(struct ke_buf *b);          /* n = 0, memory kept, failure mark cleared */
/* ke_buf_free (public) gives the memory back */
static inline struct ke_str kei_buf_str(const struct ke_buf *b)
{
    return (struct ke_str){b->p, b->n};
}

#endif
