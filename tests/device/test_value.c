/* SPDX-License-Identifier: Apache-2.0 */
/* Values between devices and the twin: kinds, types, scale, texts. */
#include "support/support.h"

#include "device/value.h"

#define A kei_alloc_malloc()

static void texts_of_numbers(void **state)
{
    (void)state;
    static const struct {
        double d;
        bool is_float;
        const char *want;
    } t[] = {{0, false, "0"},
             {-0.0, false, "0"},
             {1, false, "1"},
             {-21.5, false, "-21.5"},
             {0.1, false, "0.1"},
             {0.1f, true, "0.1"},
             {1e21, false, "1000000000000000000000"},
             {1.5e-7, false, "0.00000015"},
             {100, false, "100"},
             {123456.789, false, "123456.789"},
             {1.0 / 3, false, "0.3333333333333333"},
             {16777216, true, "16777216"},
             {0.1 + 0.2, false, "0.30000000000000004"}};
    char text[KEI_VALUE_TEXT_MAX];
    double back;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        size_t n = kei_number_text(text, t[i].d, t[i].is_float);
        assert_string_equal(text, t[i].want);
        assert_int_equal(n, strlen(text));
    }
    static const double ends[] = {1.7976931348623157e308, 2.2250738585072014e-308, 5e-324};
    for (size_t i = 0; i < 3; i++) {
        assert_true(kei_number_text(text, -ends[i], false) < sizeof text);
        assert_true(kei_number_parse(kei_str(text), &back) && back == -ends[i]);
    }
}

static void from_devices(void **state)
{
    (void)state;
    static const struct kei_tune tenth = {0.1, 0, 0}, shifted = {2, -40, 0};
    static const struct {
        enum kei_prop_type type;
        const struct kei_tune *tune;
        uint32_t kind;
        int64_t i;
        double d;
        const char *p;
        const char *want; /* NULL: refused */
    } t[] = {
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_INT, -5, 0, NULL, "-5"},
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_INT, INT64_MAX, 0, NULL, "9223372036854775807"},
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_UINT, -1, 0, NULL, NULL},
        {KEI_PROP_DOUBLE, NULL, KE_DEVICE_KIND_UINT, -1, 0, NULL, "18446744073709552000"},
        {KEI_PROP_INT, &tenth, KE_DEVICE_KIND_INT, 219, 0, NULL, "21"}, /* cut, as upstream does */
        {KEI_PROP_INT, &tenth, KE_DEVICE_KIND_INT, 30, 0, NULL, "3"},
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_DOUBLE, 0, 2.9, NULL, "2"},
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_DOUBLE, 0, 1e30, NULL, NULL},
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_TEXT, 0, 0, " 42 ", "42"},
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_TEXT, 0, 0, "x", NULL},
        {KEI_PROP_INT, NULL, KE_DEVICE_KIND_NONE, 0, 0, NULL, NULL},
        {KEI_PROP_DOUBLE, &tenth, KE_DEVICE_KIND_INT, 215, 0, NULL, "21.5"},
        {KEI_PROP_DOUBLE, &shifted, KE_DEVICE_KIND_UINT, 65, 0, NULL, "90"},
        {KEI_PROP_FLOAT, NULL, KE_DEVICE_KIND_DOUBLE, 0, 0.1, NULL, "0.1"},
        {KEI_PROP_FLOAT, NULL, KE_DEVICE_KIND_DOUBLE, 0, 1e39, NULL, NULL},
        {KEI_PROP_BOOLEAN, &tenth, KE_DEVICE_KIND_INT, 1, 0, NULL, "true"},
        {KEI_PROP_BOOLEAN, NULL, KE_DEVICE_KIND_TEXT, 0, 0, "false", "false"},
        {KEI_PROP_BOOLEAN, NULL, KE_DEVICE_KIND_INT, 2, 0, NULL, NULL},
        {KEI_PROP_STRING, NULL, KE_DEVICE_KIND_TEXT, 0, 0, "two words", "two words"},
        {KEI_PROP_STRING, NULL, KE_DEVICE_KIND_TEXT, 0, 0, "\xff", NULL},
        {KEI_PROP_STRING, NULL, KE_DEVICE_KIND_BYTES, 0, 0, "\xff", "/w=="},
        {KEI_PROP_STRING, NULL, KE_DEVICE_KIND_INT, 7, 0, NULL, "7"},
        {KEI_PROP_BYTES, NULL, KE_DEVICE_KIND_BYTES, 0, 0, "abc", "YWJj"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_device_value v = {.size = sizeof v,
                                    .kind = t[i].kind,
                                    .i = t[i].i,
                                    .d = t[i].d,
                                    .p = t[i].p,
                                    .n = t[i].p ? strlen(t[i].p) : 0};
        struct kei_val got = {.kind = KE_DEVICE_KIND_NONE};
        struct ke_buf b;
        struct ke_error err = KE_ERROR_INIT;
        kei_buf_init(&b, A);
        int r = kei_val_from_raw(&got, t[i].type, t[i].tune, &v, A, &err);
        if ((r == 0) != (t[i].want != NULL) || (r < 0 && !err.text[0]))
            fail_msg("%zu: %d %s", i, r, err.text);
        if (r == 0) {
            kei_val_text(&b, t[i].type, &got);
            kei_buf_addc(&b, '\0');
            assert_string_equal(b.p, t[i].want);
            kei_val_free(&got, A);
        }
        ke_buf_free(&b);
    }
}

static void to_devices(void **state)
{
    (void)state;
    static const struct kei_tune tenth = {0.1, 0, 0}, shifted = {2, -40, 0};
    static const struct {
        enum kei_prop_type type;
        const struct kei_tune *tune;
        const char *text;
        uint32_t kind;
        int64_t i;
        double d;
    } t[] = {{KEI_PROP_INT, NULL, "22", KE_DEVICE_KIND_INT, 22, 0},
             {KEI_PROP_INT, &tenth, "22", KE_DEVICE_KIND_INT, 220, 0},
             {KEI_PROP_INT, &shifted, "-40", KE_DEVICE_KIND_INT, 0, 0},
             {KEI_PROP_DOUBLE, &shifted, "21", KE_DEVICE_KIND_DOUBLE, 0, 30.5},
             {KEI_PROP_DOUBLE, NULL, "1e3", KE_DEVICE_KIND_DOUBLE, 0, 1000},
             {KEI_PROP_BOOLEAN, NULL, "true", KE_DEVICE_KIND_BOOL, 1, 0}};
    struct ke_buf bytes;
    struct kei_val v;
    struct ke_device_value raw = {.size = sizeof raw};
    kei_buf_init(&bytes, A);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        raw = (struct ke_device_value){.size = sizeof raw};
        assert_int_equal(kei_val_parse(&v, t[i].type, kei_str(t[i].text), A, NULL), 0);
        assert_int_equal(kei_val_to_raw(&raw, t[i].type, t[i].tune, &v, &bytes, NULL), 0);
        assert_int_equal(raw.kind, t[i].kind);
        assert_true(raw.i == t[i].i && raw.d == t[i].d);
    }
    assert_int_equal(kei_val_parse(&v, KEI_PROP_BYTES, KEI_STR("YWJj"), A, NULL), 0);
    assert_int_equal(kei_val_to_raw(&raw, KEI_PROP_BYTES, NULL, &v, &bytes, NULL), 0);
    assert_true(raw.kind == KE_DEVICE_KIND_BYTES && raw.n == 3 && !memcmp(raw.p, "abc", 3));
    kei_val_free(&v, A);
    assert_int_equal(kei_val_parse(&v, KEI_PROP_BYTES, KEI_STR("no base64!"), A, NULL), 0);
    assert_int_equal(kei_val_to_raw(&raw, KEI_PROP_BYTES, NULL, &v, &bytes, NULL), KE_EPARSE);
    kei_val_free(&v, A);
    ke_buf_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_of_numbers),
                                       cmocka_unit_test(from_devices),
                                       cmocka_unit_test(to_devices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
