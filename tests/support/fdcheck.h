/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The number of open file descriptors before and after each test:
 *
 *     static const struct CMUnitTest tests[] = {KE_TEST(my_test), ...};
 *
 * A fixture of one's own calls fdcheck_count() at its begin and fdcheck_same() at its end; a
 * test_env (support.h) does so already.
 */
#ifndef TEST_SUPPORT_FDCHECK_H
#define TEST_SUPPORT_FDCHECK_H

int fdcheck_count(void);
/* 0; or -1, listing on stderr what is open, when the count is not before. */
int fdcheck_same(int before);

/* cmocka fixture; uses *state */
int fdcheck_setup(void **state);
int fdcheck_teardown(void **state);

#define KE_TEST(fn)                                                                                \
    {                                                                                              \
#fn, fn, fdcheck_setup, fdcheck_teardown, NULL                                             \
    }

#endif
