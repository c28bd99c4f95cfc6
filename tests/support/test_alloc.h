/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory table that counts what is live, checks each block when it comes back (wrong table, twice
 * freed: the test ends) and fails on demand. Thread-safe.
 *
 *     struct test_alloc a;
 *     test_alloc_init(&a);
 *     conf.alloc = &a.table;
 *     test_alloc_fail_at(&a, 3);        the third allocation from here on is refused, once
 *     ...
 *     assert_int_equal(test_alloc_live(&a), 0);
 */
#ifndef TEST_SUPPORT_ALLOC_H
#define TEST_SUPPORT_ALLOC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <kubeedge/sys/alloc.h>

struct test_alloc {
    struct ke_alloc table;
    atomic_size_t live;       /* blocks */
    atomic_size_t live_bytes; /* in them */
    atomic_size_t peak_bytes;
    atomic_size_t calls;   /* allocations and growing reallocations asked for */
    atomic_size_t fail_at; /* value of calls that is refused; 0: none */
    atomic_bool fail_rest; /* refuse that one and all after it */
    atomic_size_t failed;  /* refused so far */
};

void test_alloc_init(struct test_alloc *a);
/* n >= 1 counts from now; 0 stops failing. */
void test_alloc_fail_at(struct test_alloc *a, size_t n);
/* The same, and every later one is refused too. */
void test_alloc_fail_from(struct test_alloc *a, size_t n);
size_t test_alloc_live(const struct test_alloc *a);

#endif
