/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable bytes. The buffer owns its memory through the allocator in it; one owner, no locks.
 * A failed append is marked by cap == SIZE_MAX: n and p stay what they were, nothing is added any
 * more, so a half-written text is never mistaken for a whole one.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buf.h"

#define FAILED SIZE_MAX
#define FIRST_CAP 64

void kei_buf_init(struct ke_buf *b, const struct ke_alloc *a)
{
    *b = (struct ke_buf){NULL, 0, 0, a};
}

static const struct ke_alloc *owner(struct ke_buf *b)
{
    if (!b->alloc)
        b->alloc = kei_alloc_malloc();
    return b->alloc;
}

char *kei_buf_room(struct ke_buf *b, size_t n)
{
    if (b->cap == FAILED)
        return NULL;
    if (b->cap > b->n && n <= b->cap - b->n - 1)
        return b->p + b->n;
    size_t want = b->cap ? b->cap : FIRST_CAP;
    if (n >= SIZE_MAX / 2 || b->n >= SIZE_MAX / 2 - n) {
        b->cap = FAILED;
        return NULL;
    }
    while (want < b->n + n + 1)
        want += want / 2 < b->n + n + 1 - want ? b->n + n + 1 - want : want / 2;
    char *p = kei_realloc(owner(b), b->p, want);
    if (!p) {
        b->cap = FAILED;
        return NULL;
    }
    b->p = p;
    b->cap = want;
    return p + b->n;
}

void kei_buf_add(struct ke_buf *b, const void *p, size_t n)
{
    char *to = kei_buf_room(b, n);

    if (!to)
        return;
    if (n)
        memcpy(to, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void kei_buf_adds(struct ke_buf *b, const char *s)
{
    kei_buf_add(b, s, s ? strlen(s) : 0);
}

void kei_buf_addv(struct ke_buf *b, struct ke_str s)
{
    kei_buf_add(b, s.p, s.n);
}

void kei_buf_addc(struct ke_buf *b, char c)
{
    kei_buf_add(b, &c, 1);
}

void kei_buf_addf(struct ke_buf *b, const char *fmt, ...)
{
    char small[256];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->cap = FAILED;
        return;
    }
    if ((size_t)n < sizeof small) {
        kei_buf_add(b, small, (size_t)n);
        return;
    }
    char *to = kei_buf_room(b, (size_t)n);
    if (!to)
        return;
    va_start(ap, fmt);
    int again = vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    if (again != n) {
        b->p[b->n] = '\0';
        b->cap = FAILED;
        return;
    }
    b->n += (size_t)n;
}

void kei_buf_addi(struct ke_buf *b, int64_t v)
{
    char tmp[24];
    size_t at = sizeof tmp;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do {
        tmp[--at] = (char)('0' + u % 10);
        u /= 10;
    } while (u);
    if (v < 0)
        tmp[--at] = '-';
    kei_buf_add(b, tmp + at, sizeof tmp - at);
}

bool kei_buf_ok(const struct ke_buf *b)
{
    return b->cap != FAILED;
}

void kei_buf_drop(struct ke_buf *b, size_t n)
{
    if (n > b->n)
        n = b->n;
    if (n == 0)
        return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    b->p[b->n] = '\0';
}

void kei_buf_clear(struct ke_buf *b)
{
    if (b->cap == FAILED)
        b->cap = b->p ? b->n + 1 : 0; /* what is known to be there */
    b->n = 0;
    if (b->p)
        b->p[0] = '\0';
}

void ke_buf_free(struct ke_buf *b)
{
    if (!b)
        return;
    if (b->p)
        kei_free(owner(b), b->p);
    *b = (struct ke_buf){NULL, 0, 0, NULL};
}
