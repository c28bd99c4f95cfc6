/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, hex, UUID and dates; the dates against the C library's calendar. */
#include "support/support.h"

#include <time.h>

#include "base/codec.h"

static void base64(void **state)
{
    (void)state;
    /* RFC 4648, section 10 */
    static const struct {
        const char *plain, *std, *url;
    } table[] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"},
        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+", "-__-"},
    };
    struct ke_buf b = {NULL, 0, 0, NULL};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        kei_buf_clear(&b);
        kei_b64_encode(&b, table[i].plain, strlen(table[i].plain));
        assert_string_equal(b.p, table[i].std);
        kei_buf_clear(&b);
        kei_b64url_encode(&b, table[i].plain, strlen(table[i].plain));
        assert_string_equal(b.p, table[i].url);
        kei_buf_clear(&b);
        assert_true(kei_b64_decode(&b, kei_str(table[i].std)));
        assert_string_equal(b.p, table[i].plain);
        assert_true(kei_b64url_decode(&b, kei_str(table[i].url))); /* appended */
        assert_int_equal(b.n, 2 * strlen(table[i].plain));
    }
    ke_buf_free(&b);
}

static void base64_round_trip(void **state)
{
    (void)state;
    struct ke_buf b = {NULL, 0, 0, NULL}, c = {NULL, 0, 0, NULL};
    uint8_t bytes[300];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 131 + 7);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        for (int url = 0; url < 2; url++) {
            kei_buf_clear(&b);
            kei_buf_clear(&c);
            (url ? kei_b64url_encode : kei_b64_encode)(&b, bytes, n);
            assert_true((url ? kei_b64url_decode : kei_b64_decode)(&c, kei_buf_str(&b)));
            assert_int_equal(c.n, n);
            assert_memory_equal(c.p, bytes, n);
        }
    }
    ke_buf_free(&b);
    ke_buf_free(&c);
}

static void base64_malformed(void **state)
{
    (void)state;
    static const char *const std[] = {
        "Z",    "Zg",    "Zg=",        "Zm8",  "Zg===",  "====",  "=",
        "Z===", "Zh==",  "Zm9=",       "Zm 9", "Zm9v\n", "Zm9v ", "Zg==Zg==",
        "-__-", "Zm9v=", "\xc3\xa9==", "Zm=v", "Z=9v"};
    static const char *const url[] = {"Z", "Zg==", "Zh", "Zm9", "+//+", "Zm9v\n", "Zm9vY", " Zg"};
    struct ke_buf b = {NULL, 0, 0, NULL};

    kei_buf_adds(&b, "kept");
    for (size_t i = 0; i < sizeof std / sizeof std[0]; i++) {
        if (kei_b64_decode(&b, kei_str(std[i])))
            fail_msg("\"%s\" was taken", std[i]);
        assert_string_equal(b.p, "kept");
    }
    for (size_t i = 0; i < sizeof url / sizeof url[0]; i++) {
        if (kei_b64url_decode(&b, kei_str(url[i])))
            fail_msg("\"%s\" was taken", url[i]);
        assert_string_equal(b.p, "kept");
    }
    ke_buf_free(&b);

    struct test_alloc a;
    test_alloc_init(&a);
    kei_buf_init(&b, &a.table);
    test_alloc_fail_at(&a, 1);
    kei_b64_encode(&b, "x", 1);
    assert_false(kei_buf_ok(&b));
    ke_buf_free(&b);
}

static void hex_and_uuid(void **state)
{
    (void)state;
    static const uint8_t bytes[16] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xab, 0xcd, 0xef,
                                      0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
    char text[40];
    uint8_t back[16];

    kei_hex_encode(text, bytes, 16);
    assert_string_equal(text, "00017f80ffabcdef1122334455667788");
    assert_true(kei_hex_decode(back, 16, kei_str("00017F80FFABCDEF1122334455667788")));
    assert_memory_equal(back, bytes, 16);
    assert_false(kei_hex_decode(back, 16, kei_str("00")));
    assert_false(kei_hex_decode(back, 1, kei_str("0")));
    assert_false(kei_hex_decode(back, 1, kei_str("0g")));
    assert_false(kei_hex_decode(back, 1, kei_str("000")));
    assert_true(kei_hex_decode(back, 0, kei_str("")));
    kei_uuid_format(text, bytes);
    assert_string_equal(text, "00017f80-ffab-4def-9122-334455667788"); /* version 4, variant 10 */
    memset(back, 0xff, sizeof back);
    kei_uuid_format(text, back);
    assert_string_equal(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

static void dates_written(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *rfc3339, *micro, *http;
    } table[] = {
        {0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z", "Thu, 01 Jan 1970 00:00:00 GMT"},
        {-1, "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999000Z",
         "Wed, 31 Dec 1969 23:59:59 GMT"},
        {INT64_C(1795335528123), "2026-11-22T08:18:48Z", "2026-11-22T08:18:48.123000Z",
         "Sun, 22 Nov 2026 08:18:48 GMT"},
        {INT64_C(951782400000), "2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000Z",
         "Tue, 29 Feb 2000 00:00:00 GMT"},
        {INT64_C(4107542399000), "2100-02-28T23:59:59Z", "2100-02-28T23:59:59.000000Z",
         "Sun, 28 Feb 2100 23:59:59 GMT"},
        {INT64_C(4107542400000), "2100-03-01T00:00:00Z", "2100-03-01T00:00:00.000000Z",
         "Mon, 01 Mar 2100 00:00:00 GMT"},
        {INT64_C(253402300799999), "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999000Z",
         "Fri, 31 Dec 9999 23:59:59 GMT"},
        {INT64_C(-62135596800000), "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z",
         "Mon, 01 Jan 0001 00:00:00 GMT"},
        /* beyond what four digits hold: the nearest that they do */
        {INT64_MAX, "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999000Z",
         "Fri, 31 Dec 9999 23:59:59 GMT"},
        {INT64_MIN, "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z",
         "Mon, 01 Jan 0001 00:00:00 GMT"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char out[KEI_TIME_MAX];
        kei_time_rfc3339(out, table[i].ms);
        assert_string_equal(out, table[i].rfc3339);
        kei_time_rfc3339_micro(out, table[i].ms);
        assert_string_equal(out, table[i].micro);
        kei_time_http(out, table[i].ms);
        assert_string_equal(out, table[i].http);
    }
}

/* Every day of 800 years and some beyond, against gmtime_r. */
static void every_day(void **state)
{
    (void)state;
    int64_t from = kei_days_from_civil(1600, 1, 1), to = kei_days_from_civil(2400, 12, 31);

    assert_int_equal(kei_days_from_civil(1970, 1, 1), 0);
    assert_int_equal(kei_days_from_civil(-1, 3, 1), -719834);
    for (int64_t d = from; d <= to; d++) {
        char mine[KEI_TIME_MAX], theirs[KEI_TIME_MAX];
        int64_t back;
        time_t t = (time_t)(d * 86400 + 86399);
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        kei_time_http(mine, (int64_t)t * 1000);
        strftime(theirs, sizeof theirs, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        assert_string_equal(mine, theirs);
        kei_time_rfc3339(mine, (int64_t)t * 1000);
        assert_true(kei_time_parse(kei_str(mine), &back));
        assert_int_equal(back, (int64_t)t * 1000);
        assert_int_equal(
            kei_days_from_civil(tm.tm_year + 1900, (uint32_t)tm.tm_mon + 1, (uint32_t)tm.tm_mday),
            d);
    }
}

static void dates_read(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-22T08:18:48Z", INT64_C(1795335528000)},
        {"2026-11-22t08:18:48z", INT64_C(1795335528000)},
        {"2026-11-22T08:18:48.1Z", INT64_C(1795335528100)},
        {"2026-11-22T08:18:48.123456789Z", INT64_C(1795335528123)},
        {"2026-11-22T09:18:48+01:00", INT64_C(1795335528000)},
        {"2026-11-22T00:48:48-07:30", INT64_C(1795335528000)},
        {"2026-11-22T08:18:48-00:00", INT64_C(1795335528000)},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800000)}, /* leap second */
        {"2000-02-29T00:00:00Z", INT64_C(951782400000)},
        {"0001-01-01T00:00:00Z", INT64_C(-62135596800000)},
        {"9999-12-31T23:59:59.999Z", INT64_C(253402300799999)},
    };
    static const char *const bad[] = {
        "",
        "2026-11-22",
        "2026-11-22T08:18:48",
        "2026-11-22 08:18:48Z",
        "2026-11-22T08:18Z",
        "2026-13-22T08:18:48Z",
        "2026-00-22T08:18:48Z",
        "2026-11-31T08:18:48Z",
        "2026-11-00T08:18:48Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T08:60:00Z",
        "2026-11-22T08:18:61Z",
        "2026-11-22T08:18:48.Z",
        "2026-11-22T08:18:48,5Z",
        "2026-11-22T08:18:48+1:00",
        "2026-11-22T08:18:48+01",
        "2026-11-22T08:18:48+24:00",
        "2026-11-22T08:18:48Z ",
        " 2026-11-22T08:18:48Z",
        "0000-01-01T00:00:00Z",
        "+2026-11-22T08:18:48Z",
        "20261122T081848Z",
        "2026-1-22T08:18:48Z",
        "\xef\xbc\x92-026-11-22T08:18:48Z",
    };

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t ms = 7;
        if (!kei_time_parse(kei_str(good[i].s), &ms) || ms != good[i].ms)
            fail_msg("%s gave %lld", good[i].s, (long long)ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t ms = 7;
        if (kei_time_parse(kei_str(bad[i]), &ms))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(ms, 7);
    }
    /* cut anywhere */
    for (size_t n = 0; n < strlen("2026-11-22T08:18:48.5+01:00"); n++) {
        int64_t ms;
        assert_false(kei_time_parse(kei_strn("2026-11-22T08:18:48.5+01:00", n), &ms));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64),           cmocka_unit_test(base64_round_trip),
        cmocka_unit_test(base64_malformed), cmocka_unit_test(hex_and_uuid),
        cmocka_unit_test(dates_written),    cmocka_unit_test(every_day),
        cmocka_unit_test(dates_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
