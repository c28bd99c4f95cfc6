/* SPDX-License-Identifier: Apache-2.0 */
/* Modbus requests, answers and frames: bytes as the standard prints them, and broken ones. */
#include "support/support.h"

#include "device/modbus_frame.h"

static const uint8_t words[] = {0x00, 0x0a, 0x01, 0x02};
static const uint8_t bits[] = {0xcd, 0x01};
static const uint8_t noisy_bits[] = {0xcd, 0xfd};
static const uint8_t on[] = {1}, off[] = {0};

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* The examples of the Modbus Application Protocol, section 6. */
static const struct {
    struct kei_modbus_ask ask;
    const uint8_t *request;
    size_t request_n;
    const uint8_t *answer;
    size_t answer_n;
    const uint8_t *data;
    size_t data_n;
} good[] = {
    {{1, 0x13, 19, NULL},
     BYTES(1, 0, 0x13, 0, 0x13),
     BYTES(1, 3, 0xcd, 0x6b, 0x05),
     BYTES(0xcd, 0x6b, 0x05)},
    {{2, 0xc4, 22, NULL},
     BYTES(2, 0, 0xc4, 0, 0x16),
     BYTES(2, 3, 0xac, 0xdb, 0x35),
     BYTES(0xac, 0xdb, 0x35)},
    {{3, 0x6b, 3, NULL},
     BYTES(3, 0, 0x6b, 0, 3),
     BYTES(3, 6, 2, 0x2b, 0, 0, 0, 0x64),
     BYTES(2, 0x2b, 0, 0, 0, 0x64)},
    {{4, 8, 1, NULL}, BYTES(4, 0, 8, 0, 1), BYTES(4, 2, 0, 0x0a), BYTES(0, 0x0a)},
    {{5, 0xac, 1, on}, BYTES(5, 0, 0xac, 0xff, 0), BYTES(5, 0, 0xac, 0xff, 0), NULL, 0},
    {{5, 0xac, 1, off}, BYTES(5, 0, 0xac, 0, 0), BYTES(5, 0, 0xac, 0, 0), NULL, 0},
    {{6, 1, 1, words + 2}, BYTES(6, 0, 1, 1, 2), BYTES(6, 0, 1, 1, 2), NULL, 0},
    {{15, 0x13, 10, bits},
     BYTES(15, 0, 0x13, 0, 10, 2, 0xcd, 1),
     BYTES(15, 0, 0x13, 0, 10),
     NULL,
     0},
    {{15, 0x13, 10, noisy_bits},
     BYTES(15, 0, 0x13, 0, 10, 2, 0xcd, 1),
     BYTES(15, 0, 0x13, 0, 10),
     NULL,
     0},
    {{16, 1, 2, words}, BYTES(16, 0, 1, 0, 2, 4, 0, 0x0a, 1, 2), BYTES(16, 0, 1, 0, 2), NULL, 0},
};

static void requests_and_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct kei_modbus_pdu pdu;
        struct ke_str data = {"x", 1};
        uint8_t exception = 9;
        assert_int_equal(kei_modbus_build(&pdu, &good[i].ask, NULL), 0);
        assert_int_equal(pdu.n, good[i].request_n);
        assert_memory_equal(pdu.p, good[i].request, pdu.n);
        assert_int_equal(kei_modbus_parse(&good[i].ask,
                                          kei_strn((const char *)good[i].answer, good[i].answer_n),
                                          &data, &exception, NULL),
                         0);
        assert_int_equal(exception, 0);
        assert_int_equal(data.n, good[i].data_n);
        if (data.n)
            assert_memory_equal(data.p, good[i].data, data.n);
        for (size_t n = 0; n < good[i].answer_n; n++) /* no part of it is an answer */
            assert_int_equal(kei_modbus_parse(&good[i].ask,
                                              kei_strn((const char *)good[i].answer, n), &data,
                                              &exception, NULL),
                             KE_EPROTO);
    }
}

static void wrong_answers(void **state)
{
    static const uint8_t raw[][12] = {
        {4, 6, 2, 0x2b, 0, 0, 0, 0x64},       /* other function */
        {3, 4, 2, 0x2b, 0, 0},                /* fewer registers */
        {3, 8, 2, 0x2b, 0, 0, 0, 0x64, 0, 0}, /* more */
        {0x83, 2, 0},                         /* exception with a tail */
        {0x83, 0},                            /* there is no exception 0 */
        {0x84, 2},                            /* exception of another function */
    };
    static const size_t n[] = {8, 6, 10, 3, 2, 2};
    struct kei_modbus_ask read = {3, 0x6b, 3, NULL}, write = {6, 1, 1, words + 2};
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str data;

    (void)state;
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
        assert_int_equal(
            kei_modbus_parse(&read, kei_strn((const char *)raw[i], n[i]), &data, NULL, &err),
            KE_EPROTO);
        assert_non_null(strstr(err.text, "malformed"));
    }
    /* a slave that writes something else than it was told */
    assert_int_equal(kei_modbus_parse(&write, KEI_STR("\x06\x00\x01\x01\x03"), &data, NULL, &err),
                     KE_EPROTO);
    assert_int_equal(kei_modbus_parse(&write, KEI_STR("\x06\x00\x02\x01\x02"), &data, NULL, &err),
                     KE_EPROTO);
}

static void exceptions(void **state)
{
    static const struct {
        char pdu[2];
        int code;
        const char *text;
    } t[] = {
        {{'\x83', 1}, KE_ENOTSUP, "illegal function (exception 1)"},
        {{'\x83', 2}, KE_ENOTFOUND, "illegal data address (exception 2)"},
        {{'\x83', 3}, KE_EINVAL, "illegal data value (exception 3)"},
        {{'\x83', 4}, KE_EIO, "failure of the device (exception 4)"},
        {{'\x83', 6}, KE_EBUSY, "the device is busy (exception 6)"},
        {{'\x83', 11}, KE_ETIMEDOUT, "the device behind the gateway did not answer (exception 11)"},
        {{'\x83', '\xee'}, KE_EIO, "unknown exception (exception 238)"},
    };
    struct kei_modbus_ask ask = {3, 0, 1, NULL};

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_str data;
        uint8_t exception = 0;
        assert_int_equal(kei_modbus_parse(&ask, kei_strn(t[i].pdu, 2), &data, &exception, &err),
                         t[i].code);
        assert_int_equal(exception, (uint8_t)t[i].pdu[1]);
        assert_string_equal(err.text, t[i].text);
    }
}

static void requests_beyond_the_limits(void **state)
{
    static const struct {
        struct kei_modbus_ask ask;
        int code;
        const char *text;
    } t[] = {
        {{3, 0, 126, NULL}, KE_ELIMIT, "limit of 125"},
        {{4, 0, 126, NULL}, KE_ELIMIT, "limit of 125"},
        {{1, 0, 2001, NULL}, KE_ELIMIT, "limit of 2000"},
        {{16, 0, 124, words}, KE_ELIMIT, "limit of 123"},
        {{15, 0, 1969, bits}, KE_ELIMIT, "limit of 1968"},
        {{6, 0, 2, words}, KE_ELIMIT, "limit of 1"},
        {{3, 0, 0, NULL}, KE_EINVAL, "no holding registers"},
        {{3, 65535, 2, NULL}, KE_EINVAL, "beyond address 65535"},
        {{7, 0, 1, NULL}, KE_EINVAL, "function 7"},
    };
    struct kei_modbus_pdu pdu;

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        assert_int_equal(kei_modbus_build(&pdu, &t[i].ask, &err), t[i].code);
        assert_non_null(strstr(err.text, t[i].text));
    }
    /* the largest ones */
    static uint8_t all[250];
    const struct kei_modbus_ask max[] = {
        {3, 65411, 125, NULL}, {1, 0, 2000, NULL}, {16, 0, 123, all}, {15, 0, 1968, all}};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(kei_modbus_build(&pdu, &max[i], NULL), 0);
    assert_int_equal(pdu.n, 252);
}

static void places(void **state)
{
    char s[64];

    (void)state;
    kei_modbus_place(s, sizeof s, &(struct kei_modbus_ask){3, 7, 1, NULL});
    assert_string_equal(s, "holding register 7");
    kei_modbus_place(s, sizeof s, &(struct kei_modbus_ask){2, 65530, 6, NULL});
    assert_string_equal(s, "discrete inputs 65530 to 65535");
}

static void mbap(void **state)
{
    struct kei_modbus_pdu pdu = {5, {3, 0, 0x6b, 0, 3}};
    static const uint8_t want[] = {0x12, 0x34, 0, 0, 0, 6, 0x11, 3, 0, 0x6b, 0, 3};
    uint8_t out[KEI_MBAP_MAX * 2];
    struct kei_modbus_frame f;
    size_t used;

    (void)state;
    assert_int_equal(kei_mbap_encode(out, 0x1234, 0x11, &pdu), sizeof want);
    assert_memory_equal(out, want, sizeof want);
    size_t n = sizeof want + kei_mbap_encode(out + sizeof want, 2, 0xff, &pdu);
    for (size_t i = 0; i < sizeof want; i++) {
        assert_int_equal(kei_mbap_decode(kei_strn((char *)out, i), &f, &used, NULL), 0);
        assert_int_equal(used, 0);
    }
    assert_int_equal(kei_mbap_decode(kei_strn((char *)out, n), &f, &used, NULL), 0);
    assert_int_equal(used, sizeof want);
    assert_int_equal(f.transaction, 0x1234);
    assert_int_equal(f.slave, 0x11);
    assert_int_equal(f.pdu.n, 5);
    assert_memory_equal(f.pdu.p, pdu.p, 5);
    assert_int_equal(kei_mbap_decode(kei_strn((char *)out + used, n - used), &f, &used, NULL), 0);
    assert_int_equal(f.slave, 0xff);
}

static void mbap_of_something_else(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } t[] = {
        {"HTTP/1.1", 8},
        {"\0\1\0\0\0\2\1\3", 8},   /* no PDU of one byte */
        {"\0\1\0\0\0\377\1\3", 8}, /* one byte too long */
        {"\0\1\0\0\2\0\1\3", 8},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct kei_modbus_frame f;
        size_t used;
        assert_int_equal(kei_mbap_decode(kei_strn(t[i].p, t[i].n), &f, &used, &err), KE_EPROTO);
        assert_non_null(strstr(err.text, "does not speak Modbus TCP"));
    }
}

static void rtu(void **state)
{
    struct kei_modbus_pdu pdu = {5, {3, 0, 0x6b, 0, 3}};
    static const uint8_t want[] = {0x11, 3, 0, 0x6b, 0, 3, 0x76, 0x87};
    static const uint8_t answer[] = {0x11, 3, 6, 0xae, 0x41, 0x56, 0x52, 0x43, 0x40, 0x49, 0xad};
    static const uint8_t exception[] = {0x0a, 0x81, 2, 0xb0, 0x53};
    uint8_t out[KEI_RTU_MAX];
    struct kei_modbus_frame f;
    size_t used;

    (void)state;
    assert_int_equal(kei_rtu_encode(out, 0x11, &pdu), sizeof want);
    assert_memory_equal(out, want, sizeof want);
    for (size_t i = 0; i < sizeof answer; i++) {
        assert_int_equal(
            kei_rtu_decode(kei_strn((const char *)answer, i), 0x11, 3, &f, &used, NULL), 0);
        assert_int_equal(used, 0);
    }
    assert_int_equal(
        kei_rtu_decode(kei_strn((const char *)answer, sizeof answer), 0x11, 3, &f, &used, NULL), 0);
    assert_int_equal(used, sizeof answer);
    assert_int_equal(f.slave, 0x11);
    assert_int_equal(f.pdu.n, 8);
    assert_int_equal(kei_rtu_decode(kei_strn((const char *)exception, 5), 0x0a, 1, &f, &used, NULL),
                     0);
    assert_int_equal(used, 5);
    assert_int_equal(f.pdu.n, 2);
}

static void rtu_damaged(void **state)
{
    static const uint8_t answer[] = {0x11, 3, 6, 0xae, 0x41, 0x56, 0x52, 0x43, 0x40, 0x49, 0xad};
    struct ke_error err = KE_ERROR_INIT;
    struct kei_modbus_frame f;
    size_t used;

    (void)state;
    for (size_t bit = 0; bit < sizeof answer * 8; bit++) { /* each single bit is seen */
        uint8_t p[sizeof answer];
        memcpy(p, answer, sizeof p);
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int r = kei_rtu_decode(kei_strn((char *)p, sizeof p), 0x11, 3, &f, &used, NULL);
        assert_true(r == KE_EPROTO || used == 0); /* 0: a longer frame is waited for */
    }
    assert_int_equal(kei_rtu_decode(kei_strn((const char *)answer, 1), 0x12, 3, &f, &used, &err),
                     KE_EPROTO);
    assert_string_equal(err.text, "slave 17 answered instead of slave 18");
}

static void silence(void **state)
{
    (void)state;
    assert_int_equal(kei_rtu_silence_us(115200, 11), 1750);
    assert_int_equal(kei_rtu_silence_us(38400, 11), 1750);
    assert_true(kei_rtu_silence_us(9600, 11) >= 4010 && kei_rtu_silence_us(9600, 11) < 4030);
    assert_true(kei_rtu_silence_us(50, 11) >= 770000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(requests_and_answers),
        KE_TEST(wrong_answers),
        KE_TEST(exceptions),
        KE_TEST(requests_beyond_the_limits),
        KE_TEST(places),
        KE_TEST(mbap),
        KE_TEST(mbap_of_something_else),
        KE_TEST(rtu),
        KE_TEST(rtu_damaged),
        KE_TEST(silence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
