/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory through a table. What is handed out belongs to the caller, who gives it back through the
 * same table. Any thread, as far as the table allows it (the default does).
 */
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void *sys_alloc(void *user, size_t n)
{
    (void)user;
    return malloc(n);
}

static void *sys_realloc(void *user, void *p, size_t n)
{
    (void)user;
    return realloc(p, n);
}

static void sys_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static const struct ke_alloc sys_table = {
    .size = sizeof(struct ke_alloc),
    .alloc = sys_alloc,
    .realloc = sys_realloc,
    .free = sys_free,
};

const struct ke_alloc *kei_alloc_malloc(void)
{
    return &sys_table;
}

/* Zero bytes are asked for as one, so that NULL always means failure. */
static size_t at_least_one(size_t n)
{
    return n > 0 ? n : 1;
}

void *kei_alloc(const struct ke_alloc *a, size_t n)
{
    return a->alloc(a->user, at_least_one(n));
}

void *kei_zalloc(const struct ke_alloc *a, size_t n)
{
    void *p = kei_alloc(a, n);
    if (p)
        memset(p, 0, at_least_one(n));
    return p;
}

void *kei_realloc(const struct ke_alloc *a, void *p, size_t n)
{
    return a->realloc(a->user, p, at_least_one(n));
}

void *kei_array_alloc(const struct ke_alloc *a, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    return kei_alloc(a, bytes);
}

void *kei_array_realloc(const struct ke_alloc *a, void *p, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    return kei_realloc(a, p, bytes);
}

void kei_free(const struct ke_alloc *a, void *p)
{
    if (p)
        a->free(a->user, p);
}

char *kei_strdup(const struct ke_alloc *a, const char *s)
{
    return s ? kei_strndup(a, s, strlen(s)) : NULL;
}

char *kei_strndup(const struct ke_alloc *a, const char *s, size_t n)
{
    if (n == SIZE_MAX)
        return NULL;
    char *p = kei_alloc(a, n + 1);
    if (!p)
        return NULL;
    if (n > 0)
        memcpy(p, s, n);
    p[n] = '\0';
    return p;
}
