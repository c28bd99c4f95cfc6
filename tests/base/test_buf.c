/* SPDX-License-Identifier: Apache-2.0 */
/* Growable bytes and their sticky failure. */
#include "support/support.h"

#include "base/buf.h"

static void appending(void **state)
{
    (void)state;
    struct test_alloc a;
    struct ke_buf b;

    test_alloc_init(&a);
    kei_buf_init(&b, &a.table);
    assert_true(kei_buf_ok(&b));
    kei_buf_adds(&b, "ab");
    kei_buf_addc(&b, 'c');
    kei_buf_addv(&b, KEI_STR("de"));
    kei_buf_addi(&b, -12);
    kei_buf_addi(&b, 0);
    kei_buf_addi(&b, INT64_MIN);
    kei_buf_addi(&b, INT64_MAX);
    kei_buf_addf(&b, "[%s %d]", "x", 5);
    kei_buf_adds(&b, NULL);
    kei_buf_add(&b, NULL, 0);
    assert_string_equal(b.p, "abcde-120-92233720368547758089223372036854775807[x 5]");
    assert_int_equal(b.n, strlen(b.p));
    kei_buf_drop(&b, 5);
    assert_memory_equal(b.p, "-120", 4);
    kei_buf_drop(&b, 1000);
    assert_int_equal(b.n, 0);
    assert_string_equal(b.p, "");
    kei_buf_add(&b, "a\0b", 3);
    assert_int_equal(b.n, 3);
    assert_int_equal(b.p[3], '\0');
    kei_buf_clear(&b);
    assert_int_equal(b.n, 0);
    assert_string_equal(b.p, "");
    ke_buf_free(&b);
    assert_null(b.p);
    assert_int_equal(test_alloc_live(&a), 0);
    ke_buf_free(&b); /* twice, empty and NULL are fine */
    ke_buf_free(NULL);
}

static void growing(void **state)
{
    (void)state;
    struct test_alloc a;
    struct ke_buf b;
    char big[5000];

    test_alloc_init(&a);
    kei_buf_init(&b, &a.table);
    memset(big, 'x', sizeof big);
    for (size_t i = 0; i < 100000; i++)
        kei_buf_addc(&b, (char)('a' + i % 26));
    assert_int_equal(b.n, 100000);
    for (size_t i = 0; i < b.n; i++)
        assert_int_equal(b.p[i], 'a' + (int)(i % 26));
    assert_true(a.calls < 40); /* by half each time */
    kei_buf_clear(&b);
    kei_buf_addf(&b, "%.*s", (int)sizeof big, big); /* longer than what is tried on the stack */
    assert_int_equal(b.n, sizeof big);
    assert_memory_equal(b.p, big, sizeof big);
    ke_buf_free(&b);

    char *room = kei_buf_room(&b, 10);
    assert_non_null(room);
    memcpy(room, "0123456789", 10);
    b.n += 10;
    kei_buf_addc(&b, '!');
    assert_string_equal(b.p, "0123456789!");
    ke_buf_free(&b);
    assert_int_equal(test_alloc_live(&a), 0);
}

static void failing(void **state)
{
    (void)state;
    struct test_alloc a;
    struct ke_buf b;

    test_alloc_init(&a);
    kei_buf_init(&b, &a.table);
    kei_buf_adds(&b, "kept");
    test_alloc_fail_at(&a, 1);
    kei_buf_addf(&b, "%0200d", 5);
    assert_false(kei_buf_ok(&b));
    assert_int_equal(b.n, 4);
    kei_buf_adds(&b, "x"); /* would fit, but something before it is missing */
    assert_string_equal(b.p, "kept");
    assert_null(kei_buf_room(&b, 0));
    kei_buf_drop(&b, 1);
    assert_string_equal(b.p, "ept");
    kei_buf_clear(&b);
    assert_true(kei_buf_ok(&b));
    kei_buf_adds(&b, "again");
    assert_string_equal(b.p, "again");
    /* a length that cannot be */
    kei_buf_add(&b, "", SIZE_MAX);
    assert_false(kei_buf_ok(&b));
    kei_buf_clear(&b);
    kei_buf_add(&b, "", SIZE_MAX - 4);
    assert_false(kei_buf_ok(&b));
    ke_buf_free(&b);
    assert_int_equal(test_alloc_live(&a), 0);

    test_alloc_fail_at(&a, 1);
    kei_buf_init(&b, &a.table);
    kei_buf_addc(&b, 'x');
    assert_false(kei_buf_ok(&b));
    assert_null(b.p);
    kei_buf_clear(&b);
    assert_true(kei_buf_ok(&b));
    ke_buf_free(&b);
}

/* A zeroed one is usable: it takes the default allocator. */
static void zeroed(void **state)
{
    (void)state;
    struct ke_buf b = {NULL, 0, 0, NULL};

    kei_buf_adds(&b, "x");
    assert_string_equal(b.p, "x");
    assert_non_null(b.alloc);
    ke_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appending),
        cmocka_unit_test(growing),
        cmocka_unit_test(failing),
        cmocka_unit_test(zeroed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
