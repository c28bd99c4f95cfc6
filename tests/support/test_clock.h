/* SPDX-License-Identifier: Apache-2.0 */
/* A clock that stands still until the test moves it. Thread-safe. */
#ifndef TEST_SUPPORT_CLOCK_H
#define TEST_SUPPORT_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>

#include <kubeedge/ctx.h>

/* 2026-12-01T00:00:00Z, above the library's floor; the monotonic clock starts at 1,000,000. */
#define TEST_CLOCK_REAL_MS INT64_C(1796083200000)
#define TEST_CLOCK_MONO_MS INT64_C(1000000)

struct test_clock {
    struct ke_clock table;
    atomic_int_least64_t mono_ms;
    atomic_int_least64_t real_ms;
};

void test_clock_init(struct test_clock *c);
void test_clock_advance(struct test_clock *c, int64_t ms); /* both */
void test_clock_set_real(struct test_clock *c, int64_t unix_ms);

#endif
