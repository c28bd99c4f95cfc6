/* SPDX-License-Identifier: Apache-2.0 */
/* Quantities of Kubernetes. */
#include "support/support.h"

#include "message/k8s.h"

static void known_values(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        int64_t milli, value;
    } table[] = {
        {"0", 0, 0},
        {"1", 1000, 1},
        {"100m", 100, 1},
        {"1500m", 1500, 2},
        {"2", 2000, 2},
        {"+3", 3000, 3},
        {"-1", -1000, -1},
        {"-1500m", -1500, -2},
        {"0.5", 500, 1},
        {".5", 500, 1},
        {"5.", 5000, 5},
        {"0.0001", 1, 1}, /* rounded up */
        {"1n", 1, 1},
        {"1000000n", 1, 1},
        {"1001000n", 2, 1},
        {"2u", 1, 1},
        {"1k", 1000000, 1000},
        {"1Ki", 1024000, 1024},
        {"1.5Gi", INT64_C(1610612736000), 1610612736},
        {"0.1Ki", 102400, 103},
        {"24684092Ki", INT64_C(25276510208000), INT64_C(25276510208)},
        {"7976Mi", INT64_C(8363442176000), INT64_C(8363442176)},
        {"2e3", 2000000, 2000},
        {"2E3", 2000000, 2000},
        {"2e-3", 2, 1},
        {"1e+2", 100000, 100},
        {"1E", INT64_MAX, INT64_C(1000000000000000000)},
        {"9E", INT64_MAX, INT64_C(9000000000000000000)},
        {"10E", INT64_MAX, INT64_MAX},
        {"7Ei", INT64_MAX, INT64_C(8070450532247928832)},
        {"295147905179352825856Ei", INT64_MAX, INT64_MAX}, /* 2^128 */
        {"8Ei", INT64_MAX, INT64_MAX},
        {"-8Ei", INT64_MIN, INT64_MIN},
        {"9223372036854775807", INT64_MAX, INT64_MAX},
        {"9223372036854775808", INT64_MAX, INT64_MAX},
        {"9223372036854775", INT64_C(9223372036854775000), INT64_C(9223372036854775)},
        {"123456789012345678901234567890", INT64_MAX, INT64_MAX},
        {"0.000000000000000000000000000001", 1, 1},
        {"0.00000000000000000000", 0, 0},
        {"1000000000000000000000000e-21", 1000000, 1000},
        {"1.00000000000000000000000", 1000, 1},
        {"1.00000000000000000000001", 1001, 2},
        {"1e99999", INT64_MAX, INT64_MAX},
        {"1e-99999", 1, 1},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int64_t milli = 77, value = 77;
        if (!kei_quantity_parse(kei_str(table[i].s), &milli) ||
            !kei_quantity_value(kei_str(table[i].s), &value))
            fail_msg("%s was refused", table[i].s);
        if (milli != table[i].milli || value != table[i].value)
            fail_msg("%s is %lld m, %lld", table[i].s, (long long)milli, (long long)value);
    }
}

static void malformed(void **state)
{
    (void)state;
    static const char *const table[] = {"",    " ",         "m",   "Ki",    "1 ",    " 1",
                                        "1kb", "1K",        "1mi", "1.2.3", ".",     "+",
                                        "-",   "1e",        "1e+", "1ee3",  "1e3Ki", "0x10",
                                        "1,5", "1e9999999", "--1", "1Ki2",  "e3",    "1E3m"};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int64_t v = 77;
        if (kei_quantity_parse(kei_str(table[i]), &v) || kei_quantity_value(kei_str(table[i]), &v))
            fail_msg("\"%s\" was taken", table[i]);
        assert_int_equal(v, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
