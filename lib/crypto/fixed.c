/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers over memory of the caller's stack, for code that has no allocator: growing fails like
 * any other lack of memory. Any thread.
 */
#include "crypto/crypto_priv.h"

static void *no_alloc(void *user, size_t n)
{
    (void)user, (void)n;
    return NULL;
}

static void *no_realloc(void *user, void *p, size_t n)
{
    (void)user, (void)p, (void)n;
    return NULL;
}

static void no_free(void *user, void *p)
{
    (void)user, (void)p;
}

static const struct ke_alloc no_memory = {sizeof no_memory, NULL, no_alloc, no_realloc, no_free};

struct ke_buf kei_buf_fixed(char *p, size_t n)
{
    p[0] = '\0';
    return (struct ke_buf){.p = p, .n = 0, .cap = n, .alloc = &no_memory};
}
