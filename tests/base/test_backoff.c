/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses between attempts: bounds, growth, spread. */
#include "support/support.h"

#include "base/backoff.h"

static uint64_t next_random(uint64_t *s)
{
    *s = *s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *s ^ (*s >> 29);
}

static void test_bounds(void **state)
{
    (void)state;
    static const struct {
        int64_t min, max;
    } rows[] = {
        {1, 1}, {1000, 60000}, {500, 500}, {7, 1000003}, {1, INT64_MAX}, {INT64_MAX / 2, INT64_MAX},
    };
    uint64_t seed = 42;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kei_backoff b;
        kei_backoff_init(&b, rows[i].min, rows[i].max);
        int64_t prev = rows[i].min;
        for (int k = 0; k < 2000; k++) {
            int64_t high = prev > rows[i].max / 3 ? rows[i].max : prev * 3;
            int64_t v = kei_backoff_next(&b, next_random(&seed));
            assert_true(v >= rows[i].min);
            assert_true(v <= high);
            assert_int_equal(b.attempts, k + 1);
            prev = v;
        }
    }
}

/* With the largest draw it triples up to the cap, with the smallest it stays at the minimum. */
static void test_extremes(void **state)
{
    (void)state;
    struct kei_backoff b;
    kei_backoff_init(&b, 1000, 60000);
    static const int64_t up[] = {3000, 9000, 27000, 60000, 60000};
    for (size_t i = 0; i < sizeof up / sizeof up[0]; i++) {
        int64_t high = up[i];
        assert_int_equal(kei_backoff_next(&b, (uint64_t)(high - 1000)), high);
    }
    assert_int_equal(kei_backoff_next(&b, 0), 1000);
    kei_backoff_reset(&b);
    assert_int_equal(b.attempts, 0);
    assert_true(kei_backoff_next(&b, UINT64_MAX) <= 3000);
}

/* A fleet at its cap does not come back in step. */
static void test_spread_at_the_cap(void **state)
{
    (void)state;
    uint64_t seed = 7;
    int at_cap = 0, lower_half = 0;
    for (int i = 0; i < 1000; i++) {
        struct kei_backoff b;
        kei_backoff_init(&b, 1000, 60000);
        int64_t v = 0;
        for (int k = 0; k < 30; k++)
            v = kei_backoff_next(&b, next_random(&seed));
        at_cap += v == 60000;
        lower_half += v < 30000;
    }
    assert_true(at_cap < 50);
    assert_true(lower_half > 200 && lower_half < 800);
}

static void test_odd_configuration(void **state)
{
    (void)state;
    struct kei_backoff b;
    kei_backoff_init(&b, 0, -5);
    for (int i = 0; i < 10; i++)
        assert_int_equal(kei_backoff_next(&b, (uint64_t)i * 977), 1);
    kei_backoff_init(&b, 100, 50);
    for (int i = 0; i < 10; i++)
        assert_int_equal(kei_backoff_next(&b, (uint64_t)i * 977), 100);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_bounds),
        KE_TEST(test_extremes),
        KE_TEST(test_spread_at_the_cap),
        KE_TEST(test_odd_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
