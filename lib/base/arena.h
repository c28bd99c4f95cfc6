/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is given back all at once: one per message or per parse. */
#ifndef KEI_BASE_ARENA_H
#define KEI_BASE_ARENA_H

#include "base/alloc.h"
#include "base/str.h"

struct kei_arena_block;
struct kei_arena {
    const struct ke_alloc *alloc;
    struct kei_arena_block *head;
    size_t used;  /* bytes handed out */
    size_t limit; /* 0: none; over it an allocation fails */
};

void kei_arena_init(struct kei_arena *a, const struct ke_alloc *alloc, size_t limit);
void kei_arena_free(struct kei_arena *a);
void *kei_arena_alloc(struct kei_arena *a, size_t n); /* zeroed, aligned as malloc; NULL: full */
void *kei_arena_array(struct kei_arena *a, size_t n, size_t size);
char *kei_arena_strdup(struct kei_arena *a, struct ke_str s); /* NUL-terminated copy */
char *kei_arena_printf(struct kei_arena *a, const char *fmt, ...) KE_PRINTF(2, 3);

#endif
