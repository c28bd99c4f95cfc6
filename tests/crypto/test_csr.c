/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests, byte by byte against those of KubeEdge 1.4, 1.15 and 1.23 on the wire. */
#include "crypto/fixture.h"

#include <openssl/ec.h>

#include "crypto/crypto_priv.h"

/* Where things are in the request of a P-256 key whose names take n bytes. */
#define TBS 4                 /* after the outer header, which has four bytes */
#define POINT_LEN 64          /* of the public key, behind its 0x04 */
#define TAIL_LEN (2 + 12 + 3) /* empty attributes, algorithm, head of the signature (2 or 3) */

static void compare(struct fixture *f, const char *file, const char *org, const char *cn)
{
    struct ke_buf want = fixture_data(f, file), got = fixture_buf(f);
    struct kei_key *k;
    assert_ok(f, kei_key_new_p256(&k, f->c, &f->err));
    assert_ok(f, kei_csr_make(&got, k, org, cn, &f->err));
    assert_int_equal(want.p[0], 0x30);
    assert_int_equal((uint8_t)want.p[1], 0x82);
    assert_int_equal((uint8_t)got.p[1], 0x82);
    size_t tbs = (uint8_t)want.p[TBS + 2] + 3u; /* 30 81 n */
    size_t point = TBS + tbs - 2 - POINT_LEN;
    assert_memory_equal(got.p + TBS, want.p + TBS, point - TBS);
    assert_memory_equal(got.p + TBS + tbs - 2, want.p + TBS + tbs - 2, TAIL_LEN - 3);
    assert_int_equal((uint8_t)want.p[TBS + tbs - 2], 0xa0); /* the empty set is there */
    kei_key_free(k);
    ke_buf_free(&want);
    ke_buf_free(&got);
}

static void test_wire_form(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    compare(&f, "ke-1.4-csr.der", "kubeEdge", "kubeedge.io");
    compare(&f, "ke-1.15-csr.der", "kubeEdge", "kubeedge.io");
    compare(&f, "ke-1.23-csr.der", "system:nodes", "system:node:edge-new1");
    fixture_fini(&f);
}

static void test_captured_info(void **state)
{
    (void)state;
    static const struct {
        const char *file, *org, *cn;
    } cases[] = {{"ke-1.4-csr.der", "kubeEdge", "kubeedge.io"},
                 {"ke-1.15-csr.der", "kubeEdge", "kubeedge.io"},
                 {"ke-1.23-csr.der", "system:nodes", "system:node:edge-new1"}};
    struct fixture f;
    char cn[256], org[256];
    fixture_init(&f);
    for (size_t i = 0; i < 3; i++) {
        struct ke_buf der = fixture_data(&f, cases[i].file);
        assert_ok(&f, kei_csr_info(f.c, kei_buf_str(&der), cn, org, &f.err));
        assert_string_equal(cn, cases[i].cn);
        assert_string_equal(org, cases[i].org);
        ke_buf_free(&der);
    }
    fixture_fini(&f);
}

/* The same choice of string types as Go's encoding/asn1. */
static void test_string_types(void **state)
{
    (void)state;
    static const struct {
        const char *cn;
        int type;
    } cases[] = {
        {"abcXYZ019 '()+,-./:=?", V_ASN1_PRINTABLESTRING},
        {"node_1", V_ASN1_UTF8STRING},
        {"a*b", V_ASN1_UTF8STRING},
        {"a&b", V_ASN1_UTF8STRING},
        {"a@b", V_ASN1_UTF8STRING},
        {"kn\xc3\xb6", V_ASN1_UTF8STRING},
        {"system:node:a-name-that-is-longer-than-the-sixty-four-characters-which-x520-allows",
         V_ASN1_PRINTABLESTRING},
    };
    struct fixture f;
    struct kei_key *k;
    char cn[256], org[256];
    fixture_init(&f);
    assert_ok(&f, kei_key_new_p256(&k, f.c, &f.err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_buf der = fixture_buf(&f);
        X509_REQ *req;
        assert_ok(&f, kei_csr_make(&der, k, "system:nodes", cases[i].cn, &f.err));
        assert_ok(&f, kei_csr_info(f.c, kei_buf_str(&der), cn, org, &f.err));
        assert_string_equal(cn, cases[i].cn);
        assert_ok(&f, kei_csr_read(&req, f.c, kei_buf_str(&der), &f.err));
        X509_NAME *name = X509_REQ_get_subject_name(req);
        X509_NAME_ENTRY *e =
            X509_NAME_get_entry(name, X509_NAME_get_index_by_NID(name, NID_commonName, -1));
        assert_int_equal(ASN1_STRING_type(X509_NAME_ENTRY_get_data(e)), cases[i].type);
        X509_REQ_free(req);
        ke_buf_free(&der);
    }
    struct ke_buf der = fixture_buf(&f);
    assert_error(&f, kei_csr_make(&der, k, "o", "\xff", &f.err), KE_EINVAL, "UTF-8");
    kei_key_free(k);
    fixture_fini(&f);
}

static void test_malformed(void **state)
{
    (void)state;
    struct fixture f;
    char cn[256], org[256];
    fixture_init(&f);
    struct ke_buf der = fixture_data(&f, "ke-1.15-csr.der");
    for (size_t n = 0; n < der.n; n++)
        assert_error(&f, kei_csr_info(f.c, kei_strn(der.p, n), cn, org, &f.err), KE_ECERT,
                     "request");
    for (size_t i = 0; i < der.n; i++) { /* no bit may change */
        der.p[i] ^= 1;
        if (kei_csr_info(f.c, kei_buf_str(&der), cn, org, &f.err) != KE_ECERT)
            fail_msg("a change at %zu was not noticed", i);
        der.p[i] ^= 1;
    }
    assert_ok(&f, kei_csr_info(f.c, kei_buf_str(&der), cn, org, &f.err));
    kei_buf_addc(&der, 'x');
    assert_error(&f, kei_csr_info(f.c, kei_buf_str(&der), cn, org, &f.err), KE_ECERT,
                 "followed by 1 other");
    char *big = calloc(1, KEI_DER_MAX + 1);
    assert_error(&f, kei_csr_info(f.c, kei_strn(big, KEI_DER_MAX + 1), cn, org, &f.err), KE_ELIMIT,
                 "65536");
    free(big);
    ke_buf_free(&der);
    fixture_fini(&f);
}

static struct ke_buf request_of(struct fixture *f, EVP_PKEY *key)
{
    struct kei_key k = {f->c, key};
    struct ke_buf der = fixture_buf(f);
    unsigned char *p = NULL;
    bool own_hash = EVP_PKEY_is_a(key, "ED25519");
    X509_REQ *req = X509_REQ_new_ex(f->c->lib, NULL);
    assert_true(kei_name_add(X509_REQ_get_subject_name(req), NID_commonName, "x"));
    assert_true(X509_REQ_set_pubkey(req, k.p));
    assert_true(X509_REQ_sign(req, k.p, own_hash ? NULL : EVP_sha256()) > 0);
    int n = i2d_X509_REQ(req, &p);
    assert_true(n > 0);
    kei_buf_add(&der, p, (size_t)n);
    OPENSSL_free(p);
    X509_REQ_free(req);
    return der;
}

static void test_kinds_of_keys(void **state)
{
    (void)state;
    static const struct {
        const char *type, *curve;
        size_t bits;
        bool ok, explicit_curve;
    } cases[] = {
        {"EC", "P-256", 0, true, false},  {"EC", "P-384", 0, true, false},
        {"EC", "P-521", 0, true, false},  {"EC", "secp256k1", 0, false, false},
        {"EC", "P-224", 0, false, false}, {"ED25519", NULL, 0, true, false},
        {"RSA", NULL, 2048, true, false}, {"RSA", NULL, 1024, false, false},
        {"EC", "P-256", 0, false, true},
    };
    struct fixture f;
    char cn[256], org[256];
    fixture_init(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        EVP_PKEY *key = cases[i].curve  ? EVP_PKEY_Q_keygen(f.c->lib, NULL, "EC", cases[i].curve)
                        : cases[i].bits ? EVP_PKEY_Q_keygen(f.c->lib, NULL, "RSA", cases[i].bits)
                                        : EVP_PKEY_Q_keygen(f.c->lib, NULL, cases[i].type);
        assert_non_null(key);
        if (cases[i].explicit_curve)
            assert_true(EVP_PKEY_set_utf8_string_param(key, "encoding", "explicit"));
        struct ke_buf der = request_of(&f, key);
        if (cases[i].ok)
            assert_ok(&f, kei_csr_info(f.c, kei_buf_str(&der), cn, org, &f.err));
        else
            assert_error(&f, kei_csr_info(f.c, kei_buf_str(&der), cn, org, &f.err), KE_ECERT,
                         "key");
        ke_buf_free(&der);
        EVP_PKEY_free(key);
    }
    fixture_fini(&f);
}

static int each_csr(void *arg)
{
    struct fixture *f = arg;
    struct kei_key *k = NULL;
    struct ke_buf der = fixture_buf(f);
    char cn[256], org[256];
    int r = kei_key_new_p256(&k, f->c, &f->err);
    if (r == 0)
        r = kei_csr_make(&der, k, "system:nodes", "system:node:n1", &f->err);
    if (r == 0)
        r = kei_csr_info(f->c, kei_buf_str(&der), cn, org, &f->err);
    kei_key_free(k);
    ke_buf_free(&der);
    return r;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (size_t n = 1;; n++) {
        test_alloc_fail_at(&f.env.alloc, n);
        int r = each_csr(&f);
        test_alloc_fail_at(&f.env.alloc, 0);
        if (r == 0) {
            assert_true(n > 2);
            break;
        }
        assert_int_equal(r, KE_ENOMEM);
    }
    ossl_fail_each(each_csr, &f, false, 1);
    ossl_fail_each(each_csr, &f, true, 3);
    fixture_fini(&f);
}

int main(void)
{
    ossl_hook();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_form),     cmocka_unit_test(test_captured_info),
        cmocka_unit_test(test_string_types),  cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_kinds_of_keys), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("csr", tests, NULL, NULL);
}
