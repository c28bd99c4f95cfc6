/* SPDX-License-Identifier: Apache-2.0 */
/* The hash map: against a plain array doing the same, and its bounds. */
#include "support/support.h"

#include "base/map.h"

static struct ke_str key_of(char *buf, size_t n, unsigned i)
{
    int len = snprintf(buf, n, "key-%u", i);
    return kei_strn(buf, (size_t)len);
}

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void as_an_array(void **state)
{
    (void)state;
    enum { KEYS = 300, STEPS = 60000 };
    static int values[KEYS];
    void *model[KEYS] = {NULL};
    struct test_alloc alloc;
    struct kei_map m;
    uint64_t x = 88172645463325252u;
    size_t n = 0;
    char buf[32];

    test_alloc_init(&alloc);
    kei_map_init(&m, &alloc.table, 42);
    for (int i = 0; i < STEPS; i++) {
        unsigned k = (unsigned)(next_random(&x) % KEYS);
        struct ke_str key = key_of(buf, sizeof buf, k);
        if (next_random(&x) % 3) {
            void *old = &m;
            assert_int_equal(kei_map_put(&m, key, &values[k], &old), 0);
            assert_ptr_equal(old, model[k]);
            n += model[k] == NULL;
            model[k] = &values[k];
        } else {
            assert_ptr_equal(kei_map_remove(&m, key), model[k]);
            n -= model[k] != NULL;
            model[k] = NULL;
        }
        k = (unsigned)(next_random(&x) % KEYS);
        assert_ptr_equal(kei_map_get(&m, key_of(buf, sizeof buf, k)), model[k]);
        assert_int_equal(m.n, n);
        assert_true(m.n + m.dead <= m.cap / 4 * 3); /* an empty slot always ends a search */
    }
    size_t seen = 0;
    struct ke_str key;
    void *v;
    for (size_t it = 0; kei_map_next(&m, &it, &key, &v); seen++) {
        unsigned k = (unsigned)((int *)v - values);
        assert_true(kei_str_eq(key, key_of(buf, sizeof buf, k)));
        assert_ptr_equal(model[k], v);
    }
    assert_int_equal(seen, n);
    kei_map_free(&m);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

/* The same few keys put and removed for ever do not make it grow. */
static void removed_slots_come_back(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_map m;
    char buf[32];

    test_alloc_init(&alloc);
    kei_map_init(&m, &alloc.table, 1);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(kei_map_put(&m, key_of(buf, sizeof buf, i), buf, NULL), 0);
        if (i >= 4)
            assert_non_null(kei_map_remove(&m, key_of(buf, sizeof buf, i - 4)));
    }
    assert_int_equal(m.n, 4);
    assert_true(m.cap <= 16);
    kei_map_free(&m);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void removing_while_walking(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_map m;
    struct ke_str key;
    char buf[32], copy[32];
    unsigned seen = 0;
    void *v;

    test_alloc_init(&alloc);
    kei_map_init(&m, &alloc.table, 3);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(kei_map_put(&m, key_of(buf, sizeof buf, i), buf, NULL), 0);
    for (size_t it = 0; kei_map_next(&m, &it, &key, &v); seen++) {
        assert_true(key.n < sizeof copy);
        memcpy(copy, key.p, key.n); /* the map's own copy goes with the entry */
        assert_non_null(kei_map_remove(&m, kei_strn(copy, key.n)));
    }
    assert_int_equal(seen, 1000);
    assert_int_equal(m.n, 0);
    kei_map_free(&m);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void odd_keys(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_map m;
    int a, b, c;

    test_alloc_init(&alloc);
    kei_map_init(&m, &alloc.table, 0);
    assert_null(kei_map_get(&m, kei_str("x"))); /* nothing in it yet */
    assert_null(kei_map_remove(&m, kei_str("x")));
    assert_int_equal(kei_map_put(&m, kei_strn(NULL, 0), &a, NULL), 0);
    assert_int_equal(kei_map_put(&m, kei_strn("\0", 1), &b, NULL), 0);
    assert_int_equal(kei_map_put(&m, kei_strn("\0\0", 2), &c, NULL), 0);
    assert_ptr_equal(kei_map_get(&m, kei_str("")), &a);
    assert_ptr_equal(kei_map_get(&m, kei_strn("\0", 1)), &b);
    assert_ptr_equal(kei_map_get(&m, kei_strn("\0\0", 2)), &c);
    assert_ptr_equal(kei_map_remove(&m, kei_strn(NULL, 0)), &a);
    assert_null(kei_map_get(&m, kei_str("")));
    kei_map_free(&m);
    kei_map_free(&m);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

/* Another seed gives another order: what a peer learns of one map does not help with the next. */
static void seeds_differ(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_map m[2];
    char buf[32], order[2][64][16];

    test_alloc_init(&alloc);
    for (int k = 0; k < 2; k++) {
        struct ke_str key;
        size_t i = 0;
        kei_map_init(&m[k], &alloc.table, (uint64_t)k);
        for (unsigned j = 0; j < 64; j++)
            assert_int_equal(kei_map_put(&m[k], key_of(buf, sizeof buf, j), buf, NULL), 0);
        for (size_t it = 0; kei_map_next(&m[k], &it, &key, NULL); i++)
            snprintf(order[k][i], sizeof order[k][i], "%.*s", KEI_FMT(key));
        kei_map_free(&m[k]);
    }
    int same = 0;
    for (int i = 0; i < 64; i++)
        same += strcmp(order[0][i], order[1][i]) == 0;
    assert_true(same < 16);
}

static void memory_runs_out(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_map m;
    char buf[32];

    test_alloc_init(&alloc);
    kei_map_init(&m, &alloc.table, 9);
    for (unsigned i = 0; i < 200; i++) {
        struct ke_str key = key_of(buf, sizeof buf, i);
        for (size_t k = 1;; k++) {
            alloc.failed = 0;
            test_alloc_fail_at(&alloc, k);
            int r = kei_map_put(&m, key, &m, NULL);
            if (r == 0)
                break;
            assert_int_equal(r, KE_ENOMEM);
            assert_int_equal(m.n, i); /* as it was */
            assert_null(kei_map_get(&m, key));
        }
    }
    test_alloc_fail_at(&alloc, 0);
    for (unsigned i = 0; i < 200; i++)
        assert_ptr_equal(kei_map_get(&m, key_of(buf, sizeof buf, i)), &m);
    kei_map_free(&m);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_an_array),
        cmocka_unit_test(removed_slots_come_back),
        cmocka_unit_test(removing_while_walking),
        cmocka_unit_test(odd_keys),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
