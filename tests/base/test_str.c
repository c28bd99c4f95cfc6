/* SPDX-License-Identifier: Apache-2.0 */
/* String views. */
#include "support/support.h"

#include "base/str.h"

static void comparing(void **state)
{
    (void)state;
    struct ke_str none = {NULL, 0};

    assert_true(kei_str_eq(none, kei_str("")));
    assert_true(kei_str_eq(none, kei_str(NULL)));
    assert_false(kei_str_eq(kei_str("a"), kei_str("b")));
    assert_true(kei_str_ieq(kei_str("Content-Length"), kei_str("cONTENT-lENGTH")));
    assert_false(kei_str_ieq(kei_str("a"), kei_str("ab")));
    assert_false(kei_str_ieq(kei_str("["), kei_str("{"))); /* 0x20 apart, no letters */
    assert_false(kei_str_ieq(kei_str("\xc3\x89"), kei_str("\xc3\xa9")));
    assert_true(kei_str_starts(kei_str("abc"), kei_str("ab")));
    assert_true(kei_str_starts(kei_str("abc"), none));
    assert_false(kei_str_starts(kei_str("a"), kei_str("ab")));
    assert_true(kei_str_ends(kei_str("abc"), kei_str("bc")));
    assert_true(kei_str_ends(none, none));
    assert_false(kei_str_ends(kei_str("c"), kei_str("bc")));
    assert_true(kei_str_has(kei_str("abc"), kei_str("b")));
    assert_true(kei_str_has(none, none));
    assert_false(kei_str_has(kei_str("abc"), kei_str("d")));
    assert_false(kei_str_has(none, kei_str("d")));
}

static void cutting(void **state)
{
    (void)state;
    struct ke_str rest, part;

    part = kei_str_cut(kei_str("a/b/c"), '/', &rest);
    assert_true(kei_str_is(part, "a"));
    assert_true(kei_str_is(rest, "b/c"));
    part = kei_str_cut(kei_str("a/"), '/', &rest);
    assert_true(kei_str_is(part, "a"));
    assert_non_null(rest.p); /* there was a separator: an empty rest, not none */
    assert_int_equal(rest.n, 0);
    part = kei_str_cut(kei_str("a"), '/', &rest);
    assert_true(kei_str_is(part, "a"));
    assert_null(rest.p);
    part = kei_str_cut(kei_str("/a"), '/', &rest);
    assert_int_equal(part.n, 0);
    part = kei_str_cut((struct ke_str){NULL, 0}, '/', &rest);
    assert_int_equal(part.n, 0);
    assert_null(rest.p);
    part = kei_str_cut(kei_str("a/b"), '/', &part); /* the result may replace what is cut */
    assert_true(kei_str_is(part, "a"));

    assert_true(kei_str_is(kei_str_trim(kei_str(" \t\r\n a b \n")), "a b"));
    assert_int_equal(kei_str_trim(kei_str(" \n ")).n, 0);
    assert_int_equal(kei_str_trim((struct ke_str){NULL, 0}).n, 0);
    assert_true(kei_str_is(kei_str_trim(kei_str("\va")), "\va"));
}

static void numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"",  " ",   "+1", "1 ",  " 1", "0x1", "1.0",
                                      "-", "--1", "1-", "1e3", "a",  "1a",  "\xd9\xa1"};
    uint64_t u = 7;
    int64_t i = 7;

    assert_true(kei_str_u64(kei_str("18446744073709551615"), &u));
    assert_true(u == UINT64_MAX);
    assert_false(kei_str_u64(kei_str("18446744073709551616"), &u));
    assert_false(kei_str_u64(kei_str("99999999999999999999"), &u));
    assert_false(kei_str_u64(kei_str("-1"), &u));
    assert_true(u == UINT64_MAX); /* left alone */
    assert_true(kei_str_u64(kei_str("000"), &u));
    assert_true(u == 0);
    assert_true(kei_str_i64(kei_str("-9223372036854775808"), &i));
    assert_true(i == INT64_MIN);
    assert_true(kei_str_i64(kei_str("9223372036854775807"), &i));
    assert_true(i == INT64_MAX);
    assert_false(kei_str_i64(kei_str("9223372036854775808"), &i));
    assert_false(kei_str_i64(kei_str("-9223372036854775809"), &i));
    assert_true(i == INT64_MAX);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        assert_false(kei_str_u64(kei_str(bad[k]), &u));
        assert_false(kei_str_i64(kei_str(bad[k]), &i));
    }
}

static void utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80"};
    static const char *const bad[] = {"\x80",
                                      "\xff",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "\xe2\x28\xa1",
                                      "a\xf0\x9f\x98",
                                      "\xf8\x88\x80\x80\x80"};
    char out[4];

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(kei_utf8_valid(kei_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(kei_utf8_valid(kei_str(bad[i])));
    assert_false(kei_utf8_valid(kei_strn("a\0b", 3)));
    /* every character there is, encoded and recognised */
    for (uint32_t u = 1; u <= 0x10ffff; u++) {
        if (u >= 0xd800 && u <= 0xdfff)
            continue;
        size_t n = kei_utf8_encode(u, out);
        if (kei_utf8_next(out, n) != n || (n > 1 && kei_utf8_next(out, n - 1) != 0))
            fail_msg("U+%x", u);
    }
}

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        bool label, subdomain;
    } table[] = {
        {"a", true, true},          {"edge-1", true, true}, {"0", true, true},
        {"a.b", false, true},       {"a--b", true, true},   {"", false, false},
        {"-a", false, false},       {"a-", false, false},   {"A", false, false},
        {"a_b", false, false},      {".a", false, false},   {"a.", false, false},
        {"a..b", false, false},     {"a.-b", false, false}, {"a-.b", false, false},
        {"a/b", false, false},      {"..", false, false},   {"a b", false, false},
        {"\xc3\xa9", false, false},
    };
    char long_name[300];

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (kei_dns_label(kei_str(table[i].s)) != table[i].label ||
            kei_dns_subdomain(kei_str(table[i].s)) != table[i].subdomain)
            fail_msg("\"%s\"", table[i].s);
    }
    memset(long_name, 'a', sizeof long_name);
    assert_true(kei_dns_label(kei_strn(long_name, 63)));
    assert_false(kei_dns_label(kei_strn(long_name, 64)));
    assert_true(kei_dns_subdomain(kei_strn(long_name, 253)));
    assert_false(kei_dns_subdomain(kei_strn(long_name, 254)));
    assert_false(kei_dns_subdomain(kei_strn("a\0b", 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparing), cmocka_unit_test(cutting), cmocka_unit_test(numbers),
        cmocka_unit_test(utf8),      cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
