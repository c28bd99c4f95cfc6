/* SPDX-License-Identifier: Apache-2.0 */
/* Join tokens, against tokens made with Python's hashlib and hmac for a CA of KubeEdge 1.15. */
#include "crypto/fixture.h"

#define EXP 1795600000
#define HASH "a13003d2d8102f15fc7ca452a6af82567895ee92c8f1a0352d05b53dd12e236f"
#define HEAD256 "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
#define CLAIMS "eyJleHAiOjE3OTU2MDAwMDB9"
#define SIG256 "58obTwhYKKQT_b5diNflI78xILdmEZ1Hcbv41rhpwtc"
#define JWT256 HEAD256 "." CLAIMS "." SIG256
#define JWT384                                                                                     \
    "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9." CLAIMS                                                 \
    ".MsnzMZtCJ4plitVTVnvSVvsQMeqSvCZxVnIQ3KbeAn-TUha5ANgX78aamZnxHBrK"
#define JWT512                                                                                     \
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9." CLAIMS                                                 \
    ".OfnEUu-qfjZfibrfLt4QpLk3eLHP7eV8JzS_8D9oNIVBGY7RU8N4lhSDgQ2h1-qHapx8-Xz_fzYstWtu8JaIag"
/* each with a signature that holds for HS256 */
#define JWT_NONE                                                                                   \
    "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." CLAIMS ".WItgMeomd0_Yl430Py5_3OW6s62Gwupv93noa80FesY"
#define JWT_RS                                                                                     \
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9." CLAIMS ".guLXcR-4K4P6HsY4ppcUvvdmvWBe9mcWjgJc8GvauS4"
#define JWT_NOEXP                                                                                  \
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.e30.boxb1zd3jnYl1ov50RtMYIXiXas4nATHNFqFjDsCpU8"
#define JWT_BADEXP                                                                                 \
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJleHAiOiJzb29uIn0."                                    \
    "dqinBV6GGpysfnEIQoq6pLj2i2i8640M8PmggpN20bA"

static uint8_t secret_bytes[121]; /* 1, 2, ... 121, as long as a key (DER) is */

static struct ke_str secret(void)
{
    for (size_t i = 0; i < sizeof secret_bytes; i++)
        secret_bytes[i] = (uint8_t)(i + 1);
    return kei_strn((char *)secret_bytes, sizeof secret_bytes);
}

static void test_make(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct ke_buf ca = fixture_data(&f, "ke-1.15-ca.der"), out = fixture_buf(&f);
    assert_ok(&f, kei_token_make(&out, kei_buf_str(&ca), secret(), EXP, &f.err));
    assert_string_equal(out.p, HASH "." JWT256);
    ke_buf_free(&out);
    assert_error(&f, kei_token_make(&out, kei_buf_str(&ca), kei_strn(NULL, 0), EXP, &f.err),
                 KE_EINVAL, "key");
    assert_error(&f, kei_token_make(&out, kei_buf_str(&ca), secret(), 0, &f.err), KE_EINVAL,
                 "time");
    for (size_t n = 1;; n++) {
        out = fixture_buf(&f);
        test_alloc_fail_at(&f.env.alloc, n);
        int r = kei_token_make(&out, kei_buf_str(&ca), secret(), EXP, &f.err);
        ke_buf_free(&out);
        if (r == 0) {
            assert_true(n > 2);
            break;
        }
        assert_int_equal(r, KE_ENOMEM);
    }
    ke_buf_free(&ca);
    fixture_fini(&f);
}

static void test_parse(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_token t;
    struct ke_str text = KEI_STR(" " HASH "." JWT256 "\n");
    uint8_t want[32];
    fixture_init(&f);
    struct ke_buf ca = fixture_data(&f, "ke-1.15-ca.der");
    kei_sha256(ca.p, ca.n, want);
    assert_ok(&f, kei_token_parse(&t, text, &f.err));
    assert_memory_equal(t.ca_sha256, want, 32);
    assert_true(kei_str_is(t.jwt, JWT256));
    assert_int_equal(t.exp, EXP);
    assert_ok(&f, kei_token_parse(&t, KEI_STR(HASH "." JWT_NOEXP), &f.err));
    assert_int_equal(t.exp, 0);
    ke_buf_free(&ca);
    fixture_fini(&f);
}

static void test_parse_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "no dots"},
        {"token", "no dots"},
        {"a.b.c.d", "first part"},
        {HASH, "no dots"},
        {HASH ".", "three parts"},
        {HASH "." HEAD256, "three parts"},
        {HASH "." HEAD256 "." CLAIMS, "three parts"},
        {HASH "." HEAD256 "." CLAIMS ".", "three parts"},
        {HASH "." JWT256 ".x", "three parts"},
        {HASH ".." CLAIMS "." SIG256, "three parts"},
        {"a13003d2d8102f15fc7ca452a6af82567895ee92c8f1a0352d05b53dd12e236." JWT256, "first part"},
        {HASH "0." JWT256, "first part"},
        {"g13003d2d8102f15fc7ca452a6af82567895ee92c8f1a0352d05b53dd12e236f." JWT256, "first part"},
        {HASH ".*." CLAIMS "." SIG256, "header is not base64url"},
        {HASH "." HEAD256 ".e3=." SIG256, "claims is not base64url"},
        {HASH ".W10." CLAIMS "." SIG256, "header is not a JSON object"},  /* [] */
        {HASH "." HEAD256 ".W10." SIG256, "claims is not a JSON object"}, /* [] */
        {HASH "." HEAD256 ".e30x." SIG256, "claims is not"},
        {HASH "." JWT_NONE, "signed with \"none\""},
        {HASH "." JWT_RS, "signed with \"RS256\""},
        {HASH ".e30." CLAIMS "." SIG256, "signed with nothing"}, /* {} */
        {HASH "." JWT_BADEXP, "exp is not a time"},
        {HASH "." HEAD256 ".eyJleHAiOi0xfQ." SIG256, "exp is not a time"}, /* {"exp":-1} */
    };
    struct fixture f;
    struct kei_token t;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_error(&f, kei_token_parse(&t, kei_str(cases[i].text), &f.err), KE_ETOKEN,
                     cases[i].part);
    struct ke_buf b = fixture_buf(&f);
    kei_buf_adds(&b, HASH ".");
    for (int i = 0; i < 3000; i++)
        kei_buf_addc(&b, 'A');
    kei_buf_adds(&b, "." CLAIMS "." SIG256);
    assert_error(&f, kei_token_parse(&t, kei_buf_str(&b), &f.err), KE_ETOKEN, "the limit is 2048");
    ke_buf_free(&b);
    fixture_fini(&f);
}

static void test_verify(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct ke_str s = secret();
    assert_ok(&f, kei_jwt_verify(KEI_STR(JWT256), s, EXP - 1, &f.err));
    assert_ok(&f, kei_jwt_verify(KEI_STR(JWT384), s, EXP - 1, &f.err));
    assert_ok(&f, kei_jwt_verify(KEI_STR(JWT512), s, EXP - 1, &f.err));
    assert_error(&f, kei_jwt_verify(KEI_STR(JWT256), s, EXP, &f.err), KE_EEXPIRED,
                 "2026-11-25T09:46:40Z");
    assert_error(&f, kei_jwt_verify(KEI_STR(JWT_NONE), s, 0, &f.err), KE_ETOKEN, "none");
    assert_error(&f, kei_jwt_verify(KEI_STR(JWT_RS), s, 0, &f.err), KE_ETOKEN, "RS256");
    assert_error(&f, kei_jwt_verify(KEI_STR(JWT_NOEXP), s, 0, &f.err), KE_ETOKEN, "exp");
    assert_error(&f, kei_jwt_verify(KEI_STR(JWT_BADEXP), s, 0, &f.err), KE_ETOKEN, "exp");
    assert_error(&f, kei_jwt_verify(KEI_STR(JWT256), kei_strn(s.p, s.n - 1), 0, &f.err), KE_ETOKEN,
                 "another cloud");
    assert_error(&f, kei_jwt_verify(KEI_STR(JWT256), kei_strn(s.p, 0), 0, &f.err), KE_EINVAL,
                 "no key");
    /* the beginning of a good signature is none */
    static const size_t cuts[] = {2, 4, 22, 40, 42};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        size_t n = sizeof HEAD256 "." CLAIMS "." - 1 + cuts[i];
        if (kei_jwt_verify(kei_strn(JWT256, n), s, EXP - 1, &f.err) != KE_ETOKEN)
            fail_msg("accepted with %zu characters of its signature", cuts[i]);
    }
    /* an expired token with a wrong signature is a forgery, not an old one */
    assert_error(&f, kei_jwt_verify(KEI_STR(HEAD256 "." CLAIMS ".AAAA"), s, EXP + 1, &f.err),
                 KE_ETOKEN, "another cloud");
    fixture_fini(&f);
}

/* Every single changed character is noticed. */
static void test_verify_changed(void **state)
{
    (void)state;
    struct fixture f;
    char text[] = JWT256;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        char was = text[i];
        text[i] = was == 'A' ? 'B' : 'A';
        if (kei_jwt_verify(kei_str(text), secret(), EXP - 1, &f.err) == 0)
            fail_msg("a change at %zu was not noticed", i);
        text[i] = was;
    }
    assert_ok(&f, kei_jwt_verify(kei_str(text), secret(), EXP - 1, &f.err));
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),           cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_bad),      cmocka_unit_test(test_verify),
        cmocka_unit_test(test_verify_changed),
    };
    return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
