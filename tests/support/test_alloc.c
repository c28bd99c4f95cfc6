/* SPDX-License-Identifier: Apache-2.0 */
/* See test_alloc.h. Each block carries a header with its owner and size. */
#include "support/test_alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIVE UINT64_C(0x6b656c6976653031)
#define DEAD UINT64_C(0x6b65646561643031)

struct head {
    uint64_t magic;
    struct test_alloc *owner;
    size_t n;
    size_t pad; /* keeps what follows aligned as malloc does */
};

static struct head *head_of(struct test_alloc *a, void *p)
{
    struct head *h = (struct head *)p - 1;
    if (h->magic != LIVE || h->owner != a) {
        fprintf(stderr, "test_alloc: block %p %s\n", p,
                h->magic == DEAD ? "was freed twice" : "came back to a table that did not give it");
        abort();
    }
    return h;
}

static bool refuse(struct test_alloc *a)
{
    size_t call = atomic_fetch_add(&a->calls, 1) + 1, at = atomic_load(&a->fail_at);
    if (at == 0 || (call != at && !(call > at && atomic_load(&a->fail_rest))))
        return false;
    atomic_fetch_add(&a->failed, 1);
    return true;
}

static void count_in(struct test_alloc *a, size_t n)
{
    size_t now = atomic_fetch_add(&a->live_bytes, n) + n, peak = atomic_load(&a->peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&a->peak_bytes, &peak, now))
        ;
}

static void *do_alloc(void *user, size_t n)
{
    struct test_alloc *a = user;
    if (n > SIZE_MAX - sizeof(struct head) || refuse(a))
        return NULL;
    struct head *h = malloc(sizeof *h + n);
    if (!h)
        return NULL;
    *h = (struct head){LIVE, a, n, 0};
    memset(h + 1, 0xa5, n); /* nobody may count on zeros */
    atomic_fetch_add(&a->live, 1);
    count_in(a, n);
    return h + 1;
}

static void do_free(void *user, void *p)
{
    struct test_alloc *a = user;
    if (!p)
        return;
    struct head *h = head_of(a, p);
    atomic_fetch_sub(&a->live, 1);
    atomic_fetch_sub(&a->live_bytes, h->n);
    h->magic = DEAD;
    free(h);
}

static void *do_realloc(void *user, void *p, size_t n)
{
    struct test_alloc *a = user;
    if (!p)
        return do_alloc(user, n);
    struct head *h = head_of(a, p);
    void *fresh = do_alloc(user, n); /* always moves: stale pointers show */
    if (!fresh)
        return NULL;
    memcpy(fresh, p, h->n < n ? h->n : n);
    do_free(user, p);
    return fresh;
}

void test_alloc_init(struct test_alloc *a)
{
    memset(a, 0, sizeof *a);
    a->table = (struct ke_alloc){sizeof a->table, a, do_alloc, do_realloc, do_free};
}

void test_alloc_fail_at(struct test_alloc *a, size_t n)
{
    atomic_store(&a->fail_rest, false);
    atomic_store(&a->fail_at, n ? atomic_load(&a->calls) + n : 0);
}

void test_alloc_fail_from(struct test_alloc *a, size_t n)
{
    test_alloc_fail_at(a, n);
    atomic_store(&a->fail_rest, n > 0);
}

size_t test_alloc_live(const struct test_alloc *a)
{
    return atomic_load(&a->live);
}
