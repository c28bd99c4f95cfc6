/* SPDX-License-Identifier: Apache-2.0 */
/* Memory through tables: overflow, zero sizes, failure; and the counting table of the tests itself.
 */
#include "support/support.h"

#include "base/alloc.h"

static void test_malloc_table(void **state)
{
    (void)state;
    const struct ke_alloc *a = kei_alloc_malloc();
    assert_int_equal(a->size, sizeof *a);
    char *p = kei_alloc(a, 10);
    assert_non_null(p);
    memset(p, 1, 10);
    p = kei_realloc(a, p, 1000);
    assert_non_null(p);
    for (int i = 0; i < 10; i++)
        assert_int_equal(p[i], 1);
    kei_free(a, p);
    kei_free(a, NULL);
    p = kei_realloc(a, NULL, 5);
    assert_non_null(p);
    kei_free(a, p);
}

static void test_zero_size_is_not_failure(void **state)
{
    (void)state;
    struct test_alloc t;
    test_alloc_init(&t);
    void *p = kei_alloc(&t.table, 0), *q = kei_zalloc(&t.table, 0);
    assert_non_null(p);
    assert_non_null(q);
    p = kei_realloc(&t.table, p, 0); /* does not free */
    assert_non_null(p);
    assert_int_equal(test_alloc_live(&t), 2);
    kei_free(&t.table, p);
    kei_free(&t.table, q);
    assert_int_equal(test_alloc_live(&t), 0);
}

static void test_arrays(void **state)
{
    (void)state;
    const struct ke_alloc *a = kei_alloc_malloc();
    assert_null(kei_array_alloc(a, SIZE_MAX / 2, 3));
    assert_null(kei_array_alloc(a, SIZE_MAX, SIZE_MAX));
    assert_null(kei_strndup(a, "x", SIZE_MAX));
    int *p = kei_array_alloc(a, 4, sizeof *p);
    assert_non_null(p);
    p[3] = 7;
    assert_null(kei_array_realloc(a, p, SIZE_MAX / 2, sizeof *p)); /* p is still there */
    assert_int_equal(p[3], 7);
    p = kei_array_realloc(a, p, 8, sizeof *p);
    assert_non_null(p);
    assert_int_equal(p[3], 7);
    kei_free(a, p);
}

static void test_zalloc_and_strings(void **state)
{
    (void)state;
    struct test_alloc t; /* fills new memory with rubbish */
    test_alloc_init(&t);
    unsigned char *z = kei_zalloc(&t.table, 64);
    for (int i = 0; i < 64; i++)
        assert_int_equal(z[i], 0);
    kei_free(&t.table, z);
    char *s = kei_strdup(&t.table, "text");
    assert_string_equal(s, "text");
    kei_free(&t.table, s);
    s = kei_strndup(&t.table, "text", 2);
    assert_string_equal(s, "te");
    kei_free(&t.table, s);
    s = kei_strndup(&t.table, NULL, 0);
    assert_string_equal(s, "");
    kei_free(&t.table, s);
    assert_null(kei_strdup(&t.table, NULL));
    assert_int_equal(test_alloc_live(&t), 0);
    assert_int_equal(t.live_bytes, 0);
    assert_true(t.peak_bytes >= 64);
}

static void test_failing(void **state)
{
    (void)state;
    struct test_alloc t;
    test_alloc_init(&t);
    test_alloc_fail_at(&t, 2);
    void *p = kei_alloc(&t.table, 1);
    assert_non_null(p);
    assert_null(kei_strdup(&t.table, "x"));
    assert_null(kei_alloc(&t.table, SIZE_MAX));
    void *q = kei_zalloc(&t.table, 1);
    assert_non_null(q);
    test_alloc_fail_from(&t, 1);
    assert_null(kei_zalloc(&t.table, 1));
    assert_null(kei_realloc(&t.table, p, 100)); /* p stays */
    assert_null(kei_strndup(&t.table, "x", 1));
    test_alloc_fail_from(&t, 0);
    p = kei_realloc(&t.table, p, 100);
    assert_non_null(p);
    assert_int_equal(t.failed, 4);
    kei_free(&t.table, p);
    kei_free(&t.table, q);
    assert_int_equal(test_alloc_live(&t), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_malloc_table), KE_TEST(test_zero_size_is_not_failure),
        KE_TEST(test_arrays),       KE_TEST(test_zalloc_and_strings),
        KE_TEST(test_failing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
