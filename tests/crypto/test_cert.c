/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates: those of KubeEdge 1.4, 1.15 and 1.23 as they were on the wire, and hostile ones. */
#include "crypto/fixture.h"

#include "base/codec.h"
#include "crypto/crypto_priv.h"

#define SIGNED INT64_C(1795335479) /* 2026-11-22T08:17:59Z, when the one of 1.15 was made */
#define YEAR INT64_C(31536000)

static struct kei_cert *load(struct fixture *f, const char *name)
{
    struct kei_cert *x = NULL;
    struct ke_buf der = fixture_data(f, name);
    assert_ok(f, kei_cert_from_der(&x, f->c, kei_buf_str(&der), &f->err));
    ke_buf_free(&der);
    return x;
}

static void test_captured(void **state)
{
    (void)state;
    static const struct {
        const char *file, *cn, *org, *sha256;
        int64_t from, to;
        bool is_ca;
    } cases[] = {
        {"ke-1.15-ca.der", "KubeEdge", "",
         "a13003d2d8102f15fc7ca452a6af82567895ee92c8f1a0352d05b53dd12e236f", 1795334060, 4948934060,
         true},
        {"ke-1.15-cert.der", "kubeedge.io", "kubeEdge",
         "c13934e78a0f98686ea7c0ee511ee96046b540190fd8a6397dfaa9e6916dbcee", SIGNED, SIGNED + YEAR,
         false},
        {"ke-1.4-cert.der", "kubeedge.io", "kubeEdge",
         "a78e5fd5839d191287a84fd65a1d9d7f75a36fa132cb196918deaf760b816e88", 1795336902,
         1795336902 + YEAR, false},
        {"ke-1.23-cert.der", "system:node:edge-new1", "system:nodes",
         "6285b8da7134542acd8de39417c2fac0935a8fe1217c5ae31e73cac5c8ef747d", 1795337746,
         1795337746 + YEAR, false},
    };
    struct fixture f;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kei_cert *x = load(&f, cases[i].file);
        struct kei_cert_info info;
        char hex[65];
        assert_ok(&f, kei_cert_info(x, &info, &f.err));
        assert_string_equal(info.cn, cases[i].cn);
        assert_string_equal(info.org, cases[i].org);
        assert_string_equal(info.issuer_cn, "KubeEdge");
        assert_int_equal(info.not_before, cases[i].from);
        assert_int_equal(info.not_after, cases[i].to);
        assert_int_equal(info.is_ca, cases[i].is_ca);
        kei_hex_encode(hex, info.sha256, 32);
        assert_string_equal(hex, cases[i].sha256);
        kei_cert_free(x);
    }
    kei_cert_free(NULL);
    assert_false(kei_cert_matches(NULL, NULL));
    fixture_fini(&f);
}

static void test_round(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_cert *again;
    fixture_init(&f);
    struct kei_cert *x = load(&f, "ke-1.23-cert.der");
    struct ke_buf pem = fixture_buf(&f), der = fixture_buf(&f);
    struct ke_buf want = fixture_data(&f, "ke-1.23-cert.der");
    assert_ok(&f, kei_cert_pem(x, &pem, &f.err));
    assert_true(kei_str_starts(kei_buf_str(&pem), KEI_STR("-----BEGIN CERTIFICATE-----\nMIIBi")));
    assert_ok(&f, kei_cert_from_pem(&again, f.c, kei_buf_str(&pem), &f.err));
    assert_ok(&f, kei_cert_der(again, &der, &f.err));
    assert_true(kei_str_eq(kei_buf_str(&der), kei_buf_str(&want)));
    kei_cert_free(x);
    kei_cert_free(again);
    ke_buf_free(&pem);
    ke_buf_free(&der);
    ke_buf_free(&want);
    fixture_fini(&f);
}

static void test_malformed(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_cert *x = NULL;
    fixture_init(&f);
    struct ke_buf der = fixture_data(&f, "ke-1.15-cert.der");
    for (size_t n = 0; n < der.n; n++)
        assert_error(&f, kei_cert_from_der(&x, f.c, kei_strn(der.p, n), &f.err), KE_ECERT,
                     "certificate");
    kei_buf_addc(&der, 'x');
    assert_error(&f, kei_cert_from_der(&x, f.c, kei_buf_str(&der), &f.err), KE_ECERT,
                 "followed by 1 other");
    char *big = calloc(1, KEI_DER_MAX + 1);
    assert_error(&f, kei_cert_from_der(&x, f.c, kei_strn(big, KEI_DER_MAX + 1), &f.err), KE_ELIMIT,
                 "65536");
    free(big);
    assert_error(&f, kei_cert_from_pem(&x, f.c, KEI_STR("hello"), &f.err), KE_ECERT, "CERTIFICATE");
    assert_error(&f,
                 kei_cert_from_pem(&x, f.c,
                                   KEI_STR("-----BEGIN CERTIFICATE-----\nAAAA\n"
                                           "-----END CERTIFICATE-----\n"),
                                   &f.err),
                 KE_ECERT, "is none");
    assert_null(x);
    ke_buf_free(&der);
    fixture_fini(&f);
}

static void test_verify(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct kei_cert *ca = load(&f, "ke-1.15-ca.der"), *other = load(&f, "ke-1.4-ca.der");
    struct kei_cert *x = load(&f, "ke-1.15-cert.der");
    assert_ok(&f, kei_cert_verify(x, ca, true, SIGNED, &f.err));
    assert_ok(&f, kei_cert_verify(x, ca, true, SIGNED + YEAR, &f.err));
    assert_error(&f, kei_cert_verify(x, ca, true, SIGNED + YEAR + 1, &f.err), KE_EEXPIRED,
                 "certificate of kubeedge.io expired at 2027-11-22T08:17:59Z (it is "
                 "2027-11-22T08:18:00Z here)");
    assert_error(&f, kei_cert_verify(x, ca, true, SIGNED - 1, &f.err), KE_ECERT,
                 "kubeedge.io is not valid before 2026-11-22T08:17:59Z, but it is "
                 "2026-11-22T08:17:58Z here");
    assert_error(&f, kei_cert_verify(x, ca, true, 0, &f.err), KE_ECERT, "1970-01-01");
    assert_error(&f, kei_cert_verify(x, ca, true, INT64_MAX, &f.err), KE_EEXPIRED, "expired");
    assert_error(&f, kei_cert_verify(x, ca, true, INT64_MIN, &f.err), KE_ECERT, "not valid before");
    assert_error(&f, kei_cert_verify(x, ca, false, SIGNED, &f.err), KE_ECERT, "extended key usage");
    assert_error(&f, kei_cert_verify(x, other, true, SIGNED, &f.err), KE_ECERT,
                 "is not signed by the CA");
    assert_error(&f, kei_cert_verify(x, x, false, SIGNED, &f.err), KE_ECERT, "");
    assert_ok(&f, kei_cert_verify(ca, ca, true, SIGNED, &f.err));
    assert_error(&f, kei_cert_verify(other, ca, true, SIGNED + 9999, &f.err), KE_ECERT,
                 "is not signed by the CA");
    kei_cert_free(ca);
    kei_cert_free(other);
    kei_cert_free(x);
    fixture_fini(&f);
}

/* A CA with the same name but another key, and without key identifiers that would tell. */
static void test_verify_impostor(void **state)
{
    (void)state;
    struct fixture f;
    struct pki p, q;
    fixture_init(&f);
    pki_make(&p, &f);
    pki_make(&q, &f);
    assert_ok(&f, kei_cert_verify(p.node, p.ca, true, NOW, &f.err));
    assert_error(&f, kei_cert_verify(p.node, q.ca, true, NOW, &f.err), KE_ECERT, "not signed by");
    struct ke_buf der = fixture_buf(&f);
    struct kei_cert *x;
    assert_ok(&f, kei_cert_der(p.node, &der, &f.err));
    der.p[der.n - 1] ^= 1; /* the last bit of the signature */
    assert_ok(&f, kei_cert_from_der(&x, f.c, kei_buf_str(&der), &f.err));
    assert_error(&f, kei_cert_verify(x, p.ca, true, NOW, &f.err), KE_ECERT, "not signed by");
    kei_cert_free(x);
    ke_buf_free(&der);
    pki_free(&p);
    pki_free(&q);
    fixture_fini(&f);
}

/* ---- names as no honest tool makes them ---- */

static struct kei_cert *odd(struct fixture *f, const struct pki *p, int type, const char *cn,
                            int cn_n, const char *not_after)
{
    struct kei_cert *ret = NULL;
    unsigned char *der = NULL;
    X509 *x = X509_new_ex(f->c->lib, NULL);
    assert_non_null(x);
    X509_NAME *name = X509_get_subject_name(x);
    assert_true(X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING,
                                           (const unsigned char *)"first", 5, -1, 0));
    assert_true(X509_NAME_add_entry_by_NID(name, NID_organizationName, V_ASN1_UTF8STRING,
                                           (const unsigned char *)"one", 3, -1, 0));
    assert_true(X509_NAME_add_entry_by_NID(name, NID_organizationName, V_ASN1_UTF8STRING,
                                           (const unsigned char *)"two", 3, -1, 0));
    assert_true(X509_NAME_add_entry_by_NID(name, NID_commonName, type, (const unsigned char *)cn,
                                           cn_n, -1, 0));
    assert_true(X509_set_version(x, X509_VERSION_3));
    assert_true(ASN1_INTEGER_set(X509_get_serialNumber(x), 5));
    assert_true(X509_set_issuer_name(x, X509_get_subject_name(p->ca->x)));
    assert_true(ASN1_TIME_set_string(X509_getm_notBefore(x), "261101000000Z"));
    assert_true(ASN1_TIME_set_string(X509_getm_notAfter(x), not_after));
    assert_true(X509_set_pubkey(x, p->node_key->p));
    assert_true(X509_sign(x, p->ca_key->p, EVP_sha256()));
    int n = i2d_X509(x, &der);
    assert_true(n > 0);
    assert_ok(f, kei_cert_from_der(&ret, f->c, kei_strn((char *)der, (size_t)n), &f->err));
    OPENSSL_free(der);
    X509_free(x);
    return ret;
}

static void test_odd_names(void **state)
{
    (void)state;
    static char long_cn[300];
    memset(long_cn, 'n', sizeof long_cn);
    static const struct {
        int type;
        const char *cn;
        int n;
        const char *want, *part;
    } cases[] = {
        {V_ASN1_UTF8STRING, "plain", 5, "plain", NULL},
        {V_ASN1_UTF8STRING, "M\xc3\xbcnchen", 8, "M\xc3\xbcnchen", NULL},
        {V_ASN1_T61STRING, "M\xfcnchen", 7, "M\xc3\xbcnchen", NULL},
        {V_ASN1_BMPSTRING, "\0a\0b\x20\xac", 6, "ab\xe2\x82\xac", NULL},
        {V_ASN1_PRINTABLESTRING, "", 0, "", NULL},
        {V_ASN1_UTF8STRING, long_cn, 255, long_cn, NULL},
        {V_ASN1_UTF8STRING, long_cn, 256, NULL, "limit is 255"},
        {V_ASN1_UTF8STRING, "system:node:a\0evil", 18, NULL, "NUL"},
        {V_ASN1_BMPSTRING, "\0\0\0a", 4, NULL, "NUL"},
    };
    struct fixture f;
    struct pki p;
    fixture_init(&f);
    pki_make(&p, &f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kei_cert_info info;
        struct kei_cert *x = odd(&f, &p, cases[i].type, cases[i].cn, cases[i].n, "271101000000Z");
        if (cases[i].want) {
            assert_ok(&f, kei_cert_info(x, &info, &f.err));
            assert_int_equal(strlen(info.cn), strnlen(cases[i].want, 255));
            assert_memory_equal(info.cn, cases[i].want, strlen(info.cn));
            assert_string_equal(info.org, "one");
        } else {
            assert_error(&f, kei_cert_info(x, &info, &f.err), KE_ECERT, cases[i].part);
        }
        kei_cert_free(x);
    }
    pki_free(&p);
    fixture_fini(&f);
}

/* What a peer writes into a certificate does not break lines of a log. */
static void test_odd_texts(void **state)
{
    (void)state;
    struct fixture f;
    struct pki p;
    fixture_init(&f);
    pki_make(&p, &f);
    struct kei_cert *x = odd(&f, &p, V_ASN1_UTF8STRING, "a\n\x1b[2Jb", 7, "261102000000Z");
    assert_error(&f, kei_cert_verify(x, p.ca, true, NOW, &f.err), KE_EEXPIRED,
                 "the certificate of a??[2Jb expired at 2026-11-02");
    kei_cert_free(x);
    pki_free(&p);
    fixture_fini(&f);
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        int64_t t;
        const char *text;
        int type;
    } cases[] = {
        {0, "700101000000Z", V_ASN1_UTCTIME},
        {INT64_C(2524607999), "491231235959Z", V_ASN1_UTCTIME},
        {INT64_C(2524608000), "20500101000000Z", V_ASN1_GENERALIZEDTIME},
        {INT64_C(2147483648), "380119031408Z", V_ASN1_UTCTIME}, /* over 31 bits */
        {KEI_YEAR_9999, "99991231235959Z", V_ASN1_GENERALIZEDTIME},
        {INT64_C(1709164800), "240229000000Z", V_ASN1_UTCTIME},
    };
    ASN1_TIME *t = ASN1_TIME_new();
    int64_t back;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(kei_time_set(t, cases[i].t));
        assert_int_equal(ASN1_STRING_type(t), cases[i].type);
        assert_string_equal((const char *)ASN1_STRING_get0_data(t), cases[i].text);
        assert_true(kei_time_get(t, &back));
        assert_int_equal(back, cases[i].t);
    }
    assert_false(kei_time_set(t, -1));
    assert_false(kei_time_set(t, KEI_YEAR_9999 + 1));
    ASN1_TIME_free(t);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_cert *x = NULL;
    fixture_init(&f);
    struct ke_buf der = fixture_data(&f, "ke-1.15-cert.der");
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_cert_from_der(&x, f.c, kei_buf_str(&der), &f.err), KE_ENOMEM, "memory");
    assert_ok(&f, kei_cert_from_der(&x, f.c, kei_buf_str(&der), &f.err));
    struct ke_buf out = fixture_buf(&f);
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_cert_der(x, &out, &f.err), KE_ENOMEM, "memory");
    ke_buf_free(&out);
    out = fixture_buf(&f);
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_cert_pem(x, &out, &f.err), KE_ENOMEM, "memory");
    ke_buf_free(&out);
    kei_cert_free(x);
    ke_buf_free(&der);
    fixture_fini(&f);
}

struct each {
    struct fixture *f;
    struct ke_buf der, ca_der, other_der;
};

static int each_verify(void *arg)
{
    struct each *e = arg;
    struct kei_cert *x = NULL, *ca = NULL;
    struct kei_cert_info info;
    int r = kei_cert_from_der(&x, e->f->c, kei_buf_str(&e->der), &e->f->err);
    if (r == 0)
        r = kei_cert_from_der(&ca, e->f->c, kei_buf_str(&e->ca_der), &e->f->err);
    if (r == 0)
        r = kei_cert_info(x, &info, &e->f->err);
    if (r == 0)
        r = kei_cert_verify(x, ca, true, SIGNED, &e->f->err);
    kei_cert_free(x);
    kei_cert_free(ca);
    return r;
}

/* Lack of memory never makes a certificate good: wrong CA, wrong purpose, wrong time. */
static int each_refusal(void *arg)
{
    struct each *e = arg;
    struct kei_cert *x = NULL, *ca = NULL, *other = NULL;
    int r = kei_cert_from_der(&x, e->f->c, kei_buf_str(&e->der), &e->f->err);
    if (r == 0)
        r = kei_cert_from_der(&ca, e->f->c, kei_buf_str(&e->ca_der), &e->f->err);
    if (r == 0)
        r = kei_cert_from_der(&other, e->f->c, kei_buf_str(&e->other_der), &e->f->err);
    if (r == 0 && (kei_cert_verify(x, other, true, SIGNED, NULL) == 0 ||
                   kei_cert_verify(x, ca, false, SIGNED, NULL) == 0 ||
                   kei_cert_verify(x, ca, true, 0, NULL) == 0))
        fail_msg("accepted");
    kei_cert_free(x);
    kei_cert_free(ca);
    kei_cert_free(other);
    return r;
}

static void test_ossl_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct each e = {&f, fixture_data(&f, "ke-1.15-cert.der"), fixture_data(&f, "ke-1.15-ca.der"),
                     fixture_data(&f, "ke-1.4-ca.der")};
    ossl_fail_each(each_verify, &e, false, 1);
    ossl_fail_each(each_verify, &e, true, 3);
    ossl_fail_each(each_refusal, &e, false, 1);
    ossl_fail_each(each_refusal, &e, true, 3);
    ke_buf_free(&e.other_der);
    ke_buf_free(&e.der);
    ke_buf_free(&e.ca_der);
    fixture_fini(&f);
}

int main(void)
{
    ossl_hook();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_captured),        cmocka_unit_test(test_round),
        cmocka_unit_test(test_malformed),       cmocka_unit_test(test_verify),
        cmocka_unit_test(test_verify_impostor), cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_odd_texts),       cmocka_unit_test(test_times),
        cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_ossl_no_memory),
    };
    return cmocka_run_group_tests_name("cert", tests, NULL, NULL);
}
