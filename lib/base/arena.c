/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arena: blocks in a list, freed together. Owned by whoever initialised it; one thread at a time.
 * Small pieces share a block; a large one gets a block of its own behind the current one, so that
 * the room left in the current one is not lost.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "base/arena.h"

#define BLOCK_MIN 1024
#define BLOCK_MAX (64 * 1024)
#define ALIGN _Alignof(max_align_t)

struct kei_arena_block {
    struct kei_arena_block *next;
    size_t used, cap;
    max_align_t data[];
};

void kei_arena_init(struct kei_arena *a, const struct ke_alloc *alloc, size_t limit)
{
    *a = (struct kei_arena){alloc, NULL, 0, limit};
}

void kei_arena_free(struct kei_arena *a)
{
    struct kei_arena_block *b = a->head;

    while (b) {
        struct kei_arena_block *next = b->next;
        kei_free(a->alloc, b);
        b = next;
    }
    a->head = NULL;
    a->used = 0;
}

static struct kei_arena_block *block_new(struct kei_arena *a, size_t cap)
{
    if (cap > SIZE_MAX - sizeof(struct kei_arena_block))
        return NULL;
    struct kei_arena_block *b = kei_zalloc(a->alloc, sizeof *b + cap);
    if (b)
        b->cap = cap;
    return b;
}

void *kei_arena_alloc(struct kei_arena *a, size_t n)
{
    if (n > SIZE_MAX / 2)
        return NULL;
    n = (n + ALIGN - 1) & ~(ALIGN - 1);
    if (n == 0)
        n = ALIGN;
    if (a->limit && (n > a->limit || a->used > a->limit - n))
        return NULL;

    struct kei_arena_block *b = a->head;
    if (!b || b->cap - b->used < n) {
        size_t cap = b ? b->cap * 2 : BLOCK_MIN;
        if (cap > BLOCK_MAX)
            cap = BLOCK_MAX;
        bool own = n > cap / 2;
        struct kei_arena_block *made = block_new(a, own ? n : cap);
        if (!made)
            return NULL;
        if (own && b) {
            made->next = b->next;
            b->next = made;
        } else {
            made->next = b;
            a->head = made;
        }
        b = made;
    }
    void *p = (char *)b->data + b->used;
    b->used += n;
    a->used += n;
    return p;
}

void *kei_arena_array(struct kei_arena *a, size_t n, size_t size)
{
    if (size && n > SIZE_MAX / size)
        return NULL;
    return kei_arena_alloc(a, n * size);
}

char *kei_arena_strdup(struct kei_arena *a, struct ke_str s)
{
    char *p = s.n < SIZE_MAX ? kei_arena_alloc(a, s.n + 1) : NULL;

    if (p && s.n)
        memcpy(p, s.p, s.n);
    return p;
}

char *kei_arena_printf(struct kei_arena *a, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return NULL;
    char *p = kei_arena_alloc(a, (size_t)n + 1);
    if (!p)
        return NULL;
    va_start(ap, fmt);
    int again = vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return again == n ? p : NULL;
}
