/* SPDX-License-Identifier: Apache-2.0 */
/* See test_clock.h. */
#include "support/test_clock.h"

static int64_t mono_ms(void *user)
{
    struct test_clock *c = user;
    return atomic_load(&c->mono_ms);
}

static int64_t real_ms(void *user)
{
    struct test_clock *c = user;
    return atomic_load(&c->real_ms);
}

void test_clock_init(struct test_clock *c)
{
    c->table = (struct ke_clock){sizeof c->table, c, mono_ms, real_ms};
    atomic_init(&c->mono_ms, TEST_CLOCK_MONO_MS);
    atomic_init(&c->real_ms, TEST_CLOCK_REAL_MS);
}

void test_clock_advance(struct test_clock *c, int64_t ms)
{
    atomic_fetch_add(&c->mono_ms, ms);
    atomic_fetch_add(&c->real_ms, ms);
}

void test_clock_set_real(struct test_clock *c, int64_t unix_ms)
{
    atomic_store(&c->real_ms, unix_ms);
}
