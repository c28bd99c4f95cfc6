/* SPDX-License-Identifier: Apache-2.0 */
/* Memory given back all at once. */
#include "support/support.h"

#include "base/arena.h"

static void pieces(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_arena a;
    char *p[2000];

    test_alloc_init(&alloc);
    kei_arena_init(&a, &alloc.table, 0);
    kei_arena_free(&a); /* nothing yet */
    for (size_t i = 0; i < 2000; i++) {
        size_t n = i % 7 == 0 ? 3000 : i % 50;
        p[i] = kei_arena_alloc(&a, n);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(p[i][k], 0);
        memset(p[i], (int)(i % 100) + 1, n);
    }
    for (size_t i = 0; i < 2000; i++) { /* none lies over another */
        size_t n = i % 7 == 0 ? 3000 : i % 50;
        for (size_t k = 0; k < n; k++)
            assert_int_equal(p[i][k], (int)(i % 100) + 1);
    }
    assert_true(alloc.calls < 500);
    kei_arena_free(&a);
    assert_int_equal(test_alloc_live(&alloc), 0);
    assert_int_equal(a.used, 0);
}

static void texts(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_arena a;

    test_alloc_init(&alloc);
    kei_arena_init(&a, &alloc.table, 0);
    assert_string_equal(kei_arena_strdup(&a, kei_strn("abcdef", 3)), "abc");
    assert_string_equal(kei_arena_strdup(&a, (struct ke_str){NULL, 0}), "");
    assert_string_equal(kei_arena_printf(&a, "%s-%d", "x", 5), "x-5");
    assert_int_equal(strlen(kei_arena_printf(&a, "%0900d", 1)), 900);
    uint64_t *n = kei_arena_array(&a, 10, sizeof *n);
    assert_non_null(n);
    assert_null(kei_arena_array(&a, SIZE_MAX / 4, 8));
    assert_null(kei_arena_alloc(&a, SIZE_MAX));
    assert_null(kei_arena_alloc(&a, SIZE_MAX / 2 + 2));
    kei_arena_free(&a);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void limits(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_arena a;

    test_alloc_init(&alloc);
    kei_arena_init(&a, &alloc.table, 256);
    assert_non_null(kei_arena_alloc(&a, 128));
    assert_non_null(kei_arena_alloc(&a, 112));
    assert_null(kei_arena_alloc(&a, 17));
    assert_non_null(kei_arena_alloc(&a, 16));
    assert_null(kei_arena_alloc(&a, 0));
    assert_null(kei_arena_alloc(&a, SIZE_MAX));
    assert_int_equal(a.used, 256);
    kei_arena_free(&a);
    assert_null(kei_arena_alloc(&a, 257));
    assert_int_equal(test_alloc_live(&alloc), 0);
    test_alloc_fail_at(&alloc, 1);
    assert_null(kei_arena_alloc(&a, 1));
    assert_null(kei_arena_strdup(&a, (struct ke_str){NULL, SIZE_MAX}));
    assert_non_null(kei_arena_alloc(&a, 1)); /* one failure is not for ever */
    kei_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces),
        cmocka_unit_test(texts),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
