/* SPDX-License-Identifier: Apache-2.0 */
/* Values of properties in coils and registers, both ways, and visitors that cannot be. */
#include "support/support.h"

#include <math.h>

#include "device/modbus_value.h"

#define HOLDING "\"register\":\"HoldingRegister\",\"offset\":2"
#define COIL "\"register\":\"CoilRegister\",\"offset\":3"

static struct kei_modbus_format format(const char *members, uint32_t type)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_modbus_format f;
    char json[300];

    snprintf(json, sizeof json, "{%s}", members);
    int r = kei_modbus_format_read(&f, json, strlen(json), type, &err);
    if (r < 0)
        fail_msg("%s: %s", json, err.text);
    return f;
}

/* "int -5", "uint 7", "double 1.5", "bool 1", "text abc", "bytes 0102" */
static void show(char *out, size_t cap, const struct ke_device_value *v)
{
    size_t n = 0;

    switch (v->kind) {
    case KE_DEVICE_KIND_INT:
        snprintf(out, cap, "int %lld", (long long)v->i);
        break;
    case KE_DEVICE_KIND_UINT:
        snprintf(out, cap, "uint %llu", (unsigned long long)v->i);
        break;
    case KE_DEVICE_KIND_DOUBLE:
        snprintf(out, cap, "double %.9g", v->d);
        break;
    case KE_DEVICE_KIND_BOOL:
        snprintf(out, cap, "bool %lld", (long long)v->i);
        break;
    case KE_DEVICE_KIND_TEXT:
        snprintf(out, cap, "text %.*s", (int)v->n, (const char *)v->p);
        break;
    case KE_DEVICE_KIND_BYTES:
        n = (size_t)snprintf(out, cap, "bytes ");
        for (size_t i = 0; i < v->n; i++)
            n += (size_t)snprintf(out + n, cap - n, "%02x", ((const uint8_t *)v->p)[i]);
        break;
    default:
        snprintf(out, cap, "nothing");
    }
}

#define INT KE_DEVICE_INT
#define FLOAT KE_DEVICE_FLOAT
#define DOUBLE KE_DEVICE_DOUBLE
#define BOOLEAN KE_DEVICE_BOOLEAN
#define STRING KE_DEVICE_STRING

/* Read, and written back unless once is set: then the same bytes come out. */
static const struct {
    const char *visitor;
    uint32_t type;
    const char *bytes; /* as on the wire */
    const char *value;
    bool once;
} values[] = {
    /* as upstream reads */
    {HOLDING ",\"limit\":1", INT, "\x00\x16", "uint 22", false},
    {HOLDING ",\"limit\":1", INT, "\xff\xfe", "uint 65534", false},
    {HOLDING ",\"limit\":2", INT, "\x00\x01\x00\x02", "uint 65538", false},
    {HOLDING ",\"limit\":4", INT, "\xff\xff\xff\xff\xff\xff\xff\xfe", "uint 18446744073709551614",
     false},
    {HOLDING ",\"limit\":2,\"isSwap\":true", INT, "\x01\x02\x03\x04", "uint 33620995", false},
    {HOLDING ",\"limit\":2,\"isRegisterSwap\":true", INT, "\x01\x02\x03\x04", "uint 50594050",
     false},
    {HOLDING ",\"limit\":2,\"isSwap\":true,\"isRegisterSwap\":true", INT, "\x01\x02\x03\x04",
     "uint 67305985", false},
    {HOLDING ",\"limit\":4,\"isRegisterSwap\":true", INT, "\x01\x02\x03\x04\x05\x06\x07\x08",
     "uint 506660481457717506", false},
    {HOLDING ",\"limit\":2", FLOAT, "\x41\x48\x00\x00", "double 12.5", false},
    {HOLDING ",\"limit\":2,\"isRegisterSwap\":true", FLOAT, "\x00\x00\x41\x48", "double 12.5",
     false},
    {HOLDING ",\"limit\":4", DOUBLE, "\xc0\x29\x00\x00\x00\x00\x00\x00", "double -12.5", false},
    {HOLDING ",\"limit\":3", STRING, "ab\xc3\xa9xy", "text ab\xc3\xa9xy", false},
    {HOLDING ",\"limit\":3,\"isSwap\":true", STRING, "bacd\0e", "text abdce", false},
    {HOLDING ",\"limit\":3", STRING, "ab\0\0\0\0", "text ab", false},
    {COIL ",\"limit\":1", INT, "\x01", "uint 1", false},
    {COIL ",\"limit\":5", INT, "\x15", "uint 21", false},
    {COIL ",\"limit\":16", INT, "\x15\x01", "uint 5377", false},
    {COIL ",\"limit\":1", BOOLEAN, "\x01", "bool 1", false},
    {COIL ",\"limit\":1", BOOLEAN, "\x00", "bool 0", false},
    {COIL ",\"limit\":2", BOOLEAN, "\x03", "bool 0", true},
    {HOLDING ",\"limit\":1", BOOLEAN, "\x01\x00", "bool 1", true},
    {HOLDING ",\"limit\":1,\"isSwap\":true", BOOLEAN, "\x01\x00", "bool 1", false},
    /* beyond it */
    {HOLDING ",\"limit\":1", BOOLEAN, "\x00\x01", "bool 1", false},
    {HOLDING ",\"limit\":1", BOOLEAN, "\x00\x02", "bool 0", true},
    {HOLDING ",\"limit\":1,\"signed\":true", INT, "\xff\xfe", "int -2", false},
    {HOLDING ",\"limit\":2,\"signed\":true", INT, "\x80\x00\x00\x00", "int -2147483648", false},
    {HOLDING ",\"limit\":4,\"signed\":true", INT, "\x80\x00\x00\x00\x00\x00\x00\x00",
     "int -9223372036854775808", false},
    {HOLDING ",\"limit\":1", FLOAT, "\x00\xd7", "uint 215", false},
    {HOLDING ",\"limit\":1,\"signed\":\"true\"", DOUBLE, "\xff\xff", "int -1", false},
    {HOLDING ",\"limit\":2", DOUBLE, "\x41\x48\x00\x00", "double 12.5", false},
    {HOLDING ",\"rawType\":\"INT32\"", FLOAT, "\xff\xff\xff\xfb", "int -5", false},
    {HOLDING ",\"rawType\":\"float32\"", INT, "\x41\x48\x00\x00", "double 12.5", false},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, "\x3c\x00", "double 1", false},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, "\xfb\xff", "double -65504", false},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, "\x00\x01", "double 5.96046448e-08", false},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, "\x03\xff", "double 6.09755516e-05", false},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, "\x35\x55", "double 0.333251953", false},
    {HOLDING ",\"limit\":4,\"rawType\":\"float\"", INT, "\x40\x29\0\0\0\0\0\0", "double 12.5",
     false},
    {HOLDING ",\"limit\":2", KE_DEVICE_BYTES, "\x01\x02\x03\xff", "bytes 010203ff", false},
    {COIL ",\"limit\":1", STRING, "\x01", "text on", false},
    {COIL ",\"limit\":1", STRING, "\x00", "text off", false},
    {"\"Register\":\"inputregister\",\"OFFSET\":\"7\"", INT, "\x00\x05", "uint 5", false},
};

static void both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct kei_modbus_format f = format(values[i].visitor, values[i].type);
        struct ke_device_value v = {.size = sizeof v};
        uint8_t bytes[KEI_MODBUS_VALUE_MAX], back[KEI_MODBUS_VALUE_MAX];
        char text[600];
        size_t n = kei_modbus_format_bytes(&f);
        memcpy(bytes, values[i].bytes, n);
        assert_int_equal(kei_modbus_value_get(&f, bytes, &v, NULL), 0);
        show(text, sizeof text, &v);
        assert_string_equal(text, values[i].value);
        if (values[i].once)
            continue;
        memset(back, 0x5a, sizeof back);
        assert_int_equal(kei_modbus_value_put(&f, &v, back, NULL), 0);
        assert_memory_equal(back, values[i].bytes, n);
        assert_int_equal(back[n], 0x5a);
    }
}

static void places(void **state)
{
    (void)state;
    struct kei_modbus_format f = format("\"register\":\"DISCRETEINPUTREGISTER\"", BOOLEAN);
    assert_int_equal(f.table, KEI_MODBUS_DISCRETE);
    assert_int_equal(f.address, 0); /* what is zero is left out by some clouds */
    assert_int_equal(f.count, 1);
    f = format("\"register\":\"InputRegister\",\"offset\":65534,\"limit\":2.0", INT);
    assert_int_equal(f.table, KEI_MODBUS_INPUT);
    assert_int_equal(f.address, 65534);
    assert_int_equal(f.count, 2);
}

static void single_bits(void **state)
{
    struct ke_device_value v = {.size = sizeof v, .kind = KE_DEVICE_KIND_BOOL, .i = 1};
    uint8_t p[KEI_MODBUS_VALUE_MAX] = {0x80, 0x01}, q[2] = {0x80, 0x01};

    (void)state;
    struct kei_modbus_format f = format(HOLDING ",\"bit\":15", BOOLEAN);
    struct ke_device_value got = {.size = sizeof got};
    assert_int_equal(kei_modbus_value_get(&f, q, &got, NULL), 0);
    assert_int_equal(got.kind, KE_DEVICE_KIND_BOOL);
    assert_int_equal(got.i, 1);
    f = format(HOLDING ",\"bit\":3", INT);
    assert_int_equal(kei_modbus_value_get(&f, q, &got, NULL), 0);
    assert_int_equal(got.i, 0);
    assert_int_equal(kei_modbus_value_put(&f, &v, p, NULL), 0); /* the others stay */
    assert_memory_equal(p, "\x80\x09", 2);
    f = format(HOLDING ",\"bit\":0,\"isSwap\":true", BOOLEAN);
    v.i = 0;
    assert_int_equal(kei_modbus_value_put(&f, &v, p, NULL), 0);
    assert_memory_equal(p, "\x80\x09", 2);
    v.i = 1;
    assert_int_equal(kei_modbus_value_put(&f, &v, p, NULL), 0);
    assert_memory_equal(p, "\x81\x09", 2);
}

#define NUM(k, x)                                                                                  \
    {                                                                                              \
        .size = sizeof(struct ke_device_value), .kind = KE_DEVICE_KIND_##k, .i = (x)               \
    }
#define DBL(x)                                                                                     \
    {                                                                                              \
        .size = sizeof(struct ke_device_value), .kind = KE_DEVICE_KIND_DOUBLE, .d = (x)            \
    }
#define TXT(s)                                                                                     \
    {                                                                                              \
        .size = sizeof(struct ke_device_value), .kind = KE_DEVICE_KIND_TEXT, .p = (s),             \
        .n = sizeof(s) - 1                                                                         \
    }

static const struct {
    const char *visitor;
    uint32_t type;
    struct ke_device_value v;
    int code;
    const char *want; /* bytes, or part of the text */
} writes[] = {
    {HOLDING, INT, NUM(INT, 65535), 0, "\xff\xff"},
    {HOLDING, INT, NUM(INT, 65536), KE_ELIMIT, "65536 does not fit into 16 bits (0 to 65535)"},
    {HOLDING, INT, NUM(INT, -1), KE_ELIMIT, "set \"signed\" in the visitor"},
    {HOLDING, INT, NUM(UINT, -1), KE_ELIMIT, "18446744073709551615 does not fit"},
    {HOLDING ",\"signed\":true", INT, NUM(INT, -32768), 0, "\x80\x00"},
    {HOLDING ",\"signed\":true", INT, NUM(INT, -32769), KE_ELIMIT, "(-32768 to 32767)"},
    {HOLDING ",\"signed\":true", INT, NUM(INT, 32768), KE_ELIMIT, "(-32768 to 32767)"},
    {HOLDING ",\"signed\":true", INT, NUM(UINT, 32767), 0, "\x7f\xff"},
    {HOLDING, INT, DBL(214.99999999), 0, "\x00\xd7"},
    {HOLDING, INT, DBL(214.5), 0, "\x00\xd7"},
    {HOLDING, INT, DBL(-0.4), 0, "\x00\x00"},
    {HOLDING, INT, DBL(-0.6), KE_ELIMIT, "does not fit"},
    {HOLDING ",\"signed\":true", INT, DBL(-2.5), 0, "\xff\xfd"},
    {HOLDING ",\"limit\":4", INT, DBL(1e30), KE_ELIMIT, "does not fit"},
    {HOLDING ",\"limit\":4", INT, DBL(NAN), KE_ELIMIT, "does not fit"},
    {HOLDING, INT, NUM(BOOL, 1), 0, "\x00\x01"},
    {HOLDING, INT, TXT("12"), KE_EINVAL, "no number"},
    {HOLDING ",\"limit\":2", FLOAT, DBL(1e39), KE_ELIMIT, "does not fit into a float of 32"},
    {HOLDING ",\"limit\":2", FLOAT, DBL(INFINITY), KE_EINVAL, "not a finite number"},
    {HOLDING ",\"limit\":2", FLOAT, NUM(INT, -2), 0, "\xc0\x00\x00\x00"},
    {HOLDING ",\"limit\":2", FLOAT, NUM(UINT, 3), 0, "\x40\x40\x00\x00"},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, DBL(70000.0), KE_ELIMIT, "float of 16"},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, DBL(2049.0), 0, "\x68\x00"}, /* tie to even */
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, DBL(2051.0), 0, "\x68\x02"},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, DBL(0.0), 0, "\x00\x00"},
    {HOLDING ",\"rawType\":\"float16\"", FLOAT, DBL(1.999999), 0, "\x40\x00"},
    {HOLDING ",\"limit\":2", STRING, TXT("abcde"), KE_ELIMIT, "5 bytes do not fit into 2"},
    {HOLDING ",\"limit\":2", STRING, NUM(INT, 1), KE_EINVAL, "no text"},
    {HOLDING ",\"limit\":2", KE_DEVICE_BYTES, TXT("abc"), KE_EINVAL, "do not fill 4"},
    {COIL, INT, NUM(INT, 1), 0, "\x01"},
    {COIL, INT, NUM(INT, 2), KE_ELIMIT, "does not fit into 1 bits"},
    {COIL ",\"limit\":5", INT, NUM(INT, 31), 0, "\x1f"},
    {COIL ",\"limit\":5", INT, NUM(INT, 32), KE_ELIMIT, "5 bits"},
    {COIL ",\"limit\":10", INT, NUM(INT, 0x0203), 0, "\x02\x03"},
    {COIL ",\"limit\":10", INT, NUM(INT, 0x0204), KE_ELIMIT, "10 coils"},
    {COIL, BOOLEAN, TXT("ON"), 0, "\x01"},
    {COIL, STRING, TXT("off"), 0, "\x00"},
    {COIL, STRING, TXT("True"), 0, "\x01"},
    {COIL, STRING, TXT("maybe"), KE_EPARSE, "\"maybe\" is neither"},
    {COIL, BOOLEAN, NUM(INT, 2), KE_EINVAL, "neither 0 nor 1"},
    {COIL, BOOLEAN, DBL(1.0), 0, "\x01"},
    {COIL ",\"limit\":9", BOOLEAN, NUM(BOOL, 1), 0, "\x01\x00"},
};

static void written(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        struct kei_modbus_format f = format(writes[i].visitor, writes[i].type);
        struct ke_error err = KE_ERROR_INIT;
        uint8_t out[KEI_MODBUS_VALUE_MAX];
        int r = kei_modbus_value_put(&f, &writes[i].v, out, &err);
        if (r != writes[i].code)
            fail_msg("%zu: %d (%s)", i, r, err.text);
        if (r == 0)
            assert_memory_equal(out, writes[i].want, kei_modbus_format_bytes(&f));
        else if (!strstr(err.text, writes[i].want))
            fail_msg("%zu: %s", i, err.text);
    }
}

static void all_halves(void **state)
{
    struct kei_modbus_format f = format(HOLDING ",\"rawType\":\"float16\"", FLOAT);

    (void)state;
    for (unsigned u = 0; u < 65536; u++) {
        struct ke_device_value v = {.size = sizeof v};
        uint8_t p[2] = {(uint8_t)(u >> 8), (uint8_t)u}, out[KEI_MODBUS_VALUE_MAX];
        assert_int_equal(kei_modbus_value_get(&f, p, &v, NULL), 0);
        int r = kei_modbus_value_put(&f, &v, out, NULL);
        if ((u >> 10 & 31) == 31)
            assert_int_equal(r, KE_EINVAL); /* infinite or no number */
        else
            assert_true(r == 0 && out[0] == u >> 8 && out[1] == (uint8_t)u);
    }
}

static void no_text(void **state)
{
    struct kei_modbus_format f = format(HOLDING ",\"limit\":2", STRING);
    struct ke_device_value v = {.size = sizeof v};
    uint8_t p[4] = {'a', 0xff, 'b', 0}, q[4] = {'a', 0, 'b', 0};

    (void)state;
    assert_int_equal(kei_modbus_value_get(&f, p, &v, NULL), KE_EPARSE);
    assert_int_equal(kei_modbus_value_get(&f, q, &v, NULL), KE_EPARSE); /* NUL inside */
}

static void visitors_that_cannot_be(void **state)
{
    static const struct {
        const char *visitor;
        uint32_t type;
        const char *text;
    } t[] = {
        {"{}", INT, "\"register\" is missing"},
        {"{\"register\":\"Register\"}", INT, "\"register\" is \"Register\", possible is Coil"},
        {"{\"register\":7}", INT, "\"register\" is \"7\""},
        {"{" HOLDING ",\"limit\":0}", INT, "\"limit\" is 0, possible is 1 to 2000"},
        {"{" HOLDING ",\"limit\":126}", KE_DEVICE_BYTES, "\"limit\" is 126"},
        {"{" HOLDING ",\"limit\":3}", INT, "makes 6 bytes, a number has 1, 2, 4 or 8"},
        {"{" COIL ",\"limit\":17}", INT, "makes 3 bytes"},
        {"{" HOLDING ",\"limit\":3}", FLOAT, "a float has 1, 2 or 4"},
        {"{" HOLDING ",\"limit\":\"x\"}", INT, "\"limit\" is no whole number"},
        {"{" HOLDING ",\"isSwap\":7}", INT, "\"isSwap\" is neither"},
        {"{" HOLDING ",\"rawType\":\"int24\"}", INT, "\"rawType\" is \"int24\""},
        {"{" HOLDING ",\"rawType\":\"int32\",\"limit\":1}", INT, "int32 has 2 registers"},
        {"{" HOLDING ",\"bit\":16}", BOOLEAN, "\"bit\" is 16"},
        {"{" HOLDING ",\"bit\":1,\"limit\":2}", BOOLEAN, "\"bit\" is of one register"},
        {"{" COIL ",\"bit\":1}", BOOLEAN, "\"bit\" is for registers"},
        {"{" COIL ",\"signed\":true}", INT, "\"signed\" is for registers"},
        {"{\"register\":\"HoldingRegister\",\"offset\":-1}", INT, "\"offset\" is -1"},
        {"{\"register\":\"HoldingRegister\",\"offset\":65536}", INT, "\"offset\" is 65536"},
        {"{\"register\":\"HoldingRegister\",\"offset\":65535,\"limit\":2}", INT, "beyond 65535"},
        {"{" HOLDING "}", KE_DEVICE_STREAM, "no values of the property's type"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct kei_modbus_format f;
        assert_int_equal(
            kei_modbus_format_read(&f, t[i].visitor, strlen(t[i].visitor), t[i].type, &err),
            KE_EINVAL);
        if (!strstr(err.text, t[i].text))
            fail_msg("%s: %s", t[i].visitor, err.text);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(both_ways),
        KE_TEST(places),
        KE_TEST(single_bits),
        KE_TEST(written),
        KE_TEST(all_halves),
        KE_TEST(no_text),
        KE_TEST(visitors_that_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
