/* SPDX-License-Identifier: Apache-2.0 */
/* What the cloud's CA makes and signs, byte by byte against that of KubeEdge 1.4 to 1.23. */
#include "crypto/fixture.h"

#include "crypto/crypto_priv.h"

#define YEAR INT64_C(31536000)

/* Offset of the needle's n-th byte after its first occurrence. */
static size_t find(const struct ke_buf *b, const void *needle, size_t n)
{
    const char *p = memmem(b->p, b->n, needle, n);
    if (!p)
        fail_msg("not found");
    return (size_t)(p - b->p);
}

static const uint8_t ecdsa_sha256[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                       0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
static const uint8_t bit_string_point[] = {0x03, 0x42, 0x00, 0x04}; /* a P-256 key follows */
#define POINT_LEN 64
#define KEYID_LEN 20

static struct kei_cert *load(struct fixture *f, const char *name)
{
    struct kei_cert *x = NULL;
    struct ke_buf der = fixture_data(f, name);
    assert_ok(f, kei_cert_from_der(&x, f->c, kei_buf_str(&der), &f->err));
    ke_buf_free(&der);
    return x;
}

/*
 * Same bytes from the algorithm to the public key, and from behind it to the signature, but for
 * KEYID_LEN bytes behind skip. The key itself too, if same_key.
 */
static void compare(const struct ke_buf *got, const struct ke_buf *want, const void *skip,
                    size_t skip_n, bool same_key)
{
    size_t a = find(want, ecdsa_sha256, sizeof ecdsa_sha256);
    size_t b = find(got, ecdsa_sha256, sizeof ecdsa_sha256);
    size_t point = find(want, bit_string_point, sizeof bit_string_point) + sizeof bit_string_point;
    assert_memory_equal(got->p + b, want->p + a, point - a);
    if (same_key)
        assert_memory_equal(got->p + b + point - a, want->p + point, POINT_LEN);
    size_t from = point + POINT_LEN, keyid = find(want, skip, skip_n) + skip_n;
    assert_memory_equal(got->p + b + from - a, want->p + from, keyid - from);
    size_t to = keyid + KEYID_LEN;
    assert_memory_equal(got->p + b + to - a, want->p + to, sizeof ecdsa_sha256 + 1);
}

static void test_ca_form(void **state)
{
    (void)state;
    static const uint8_t ski[] = {0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04, 0x16, 0x04, 0x14};
    static const char *const files[] = {"ke-1.15-ca.der", "ke-1.4-ca.der"};
    struct fixture f;
    struct kei_key *k;
    struct kei_cert *ca;
    fixture_init(&f);
    assert_ok(&f, kei_key_new_p256(&k, f.c, &f.err));
    for (size_t i = 0; i < 2; i++) {
        struct kei_cert *theirs = load(&f, files[i]);
        struct ke_buf want = fixture_data(&f, files[i]), got = fixture_buf(&f);
        struct kei_cert_info info;
        assert_ok(&f, kei_cert_info(theirs, &info, &f.err));
        assert_ok(&f, kei_ca_make(&ca, k, info.not_before, &f.err));
        assert_ok(&f, kei_cert_der(ca, &got, &f.err));
        compare(&got, &want, ski, sizeof ski, false);
        assert_memory_equal(got.p + 4, want.p + 4, 13); /* version and serial 1024 */
        assert_ok(&f, kei_cert_info(ca, &info, &f.err));
        assert_true(info.is_ca);
        assert_true(kei_cert_matches(ca, k));
        kei_cert_free(ca);
        kei_cert_free(theirs);
        ke_buf_free(&want);
        ke_buf_free(&got);
    }
    kei_key_free(k);
    fixture_fini(&f);
}

/* The subject key identifier that Go computed for its key is the one we would compute. */
static void test_key_id(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t hash[20];
    fixture_init(&f);
    struct kei_cert *theirs = load(&f, "ke-1.15-ca.der");
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(theirs->x);
    kei_sha1(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits), hash);
    const ASN1_OCTET_STRING *ski = X509_get0_subject_key_id(theirs->x);
    assert_int_equal(ASN1_STRING_length(ski), 20);
    assert_memory_equal(ASN1_STRING_get0_data(ski), hash, 20);
    kei_cert_free(theirs);
    fixture_fini(&f);
}

/* The captured request, signed again at the same second: only serial, key id and signature differ.
 */
static void test_node_form(void **state)
{
    (void)state;
    static const uint8_t aki[] = {0x30, 0x16, 0x80, 0x14};
    static const char *const files[][2] = {{"ke-1.4-csr.der", "ke-1.4-cert.der"},
                                           {"ke-1.15-csr.der", "ke-1.15-cert.der"},
                                           {"ke-1.23-csr.der", "ke-1.23-cert.der"}};
    struct fixture f;
    struct pki p;
    fixture_init(&f);
    pki_make(&p, &f);
    for (size_t i = 0; i < 3; i++) {
        struct ke_buf csr = fixture_data(&f, files[i][0]), want = fixture_data(&f, files[i][1]);
        struct ke_buf got = fixture_buf(&f);
        struct kei_cert *theirs = load(&f, files[i][1]), *x;
        struct kei_cert_info info;
        assert_ok(&f, kei_cert_info(theirs, &info, &f.err));
        assert_ok(&f, kei_ca_sign_csr(&x, p.ca, p.ca_key, kei_buf_str(&csr), NULL, 0,
                                      info.not_before, YEAR, &f.err));
        assert_ok(&f, kei_cert_der(x, &got, &f.err));
        compare(&got, &want, aki, sizeof aki, true);
        const ASN1_OCTET_STRING *id = X509_get0_authority_key_id(x->x);
        assert_int_equal(ASN1_OCTET_STRING_cmp(id, X509_get0_subject_key_id(p.ca->x)), 0);
        assert_ok(&f, kei_cert_verify(x, p.ca, true, NOW, &f.err));
        kei_cert_free(x);
        kei_cert_free(theirs);
        ke_buf_free(&csr);
        ke_buf_free(&want);
        ke_buf_free(&got);
    }
    pki_free(&p);
    fixture_fini(&f);
}

static void test_node_usages(void **state)
{
    (void)state;
    static const struct {
        uint8_t eku[2];
        size_t n;
        bool client, server;
    } cases[] = {{{0}, 0, true, false},
                 {{2}, 1, true, false},
                 {{1}, 1, false, true},
                 {{1, 2}, 2, true, true},
                 {{8}, 1, false, false}};
    struct fixture f;
    struct pki p;
    struct kei_cert *x = NULL;
    fixture_init(&f);
    pki_make(&p, &f);
    struct ke_buf csr = fixture_buf(&f);
    assert_ok(&f, kei_csr_make(&csr, p.node_key, "", "n1", &f.err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ok(&f, kei_ca_sign_csr(&x, p.ca, p.ca_key, kei_buf_str(&csr), cases[i].eku,
                                      cases[i].n, NOW, YEAR, &f.err));
        assert_int_equal(kei_cert_verify(x, p.ca, true, NOW, NULL), cases[i].client ? 0 : KE_ECERT);
        assert_int_equal(kei_cert_verify(x, p.ca, false, NOW, NULL),
                         cases[i].server ? 0 : KE_ECERT);
        assert_int_equal(X509_check_ca(x->x), 0);
        kei_cert_free(x);
    }
    x = NULL;
    uint8_t many[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    assert_error(&f,
                 kei_ca_sign_csr(&x, p.ca, p.ca_key, kei_buf_str(&csr), many, 9, NOW, YEAR, &f.err),
                 KE_ELIMIT, "the limit is 8");
    many[0] = 0; /* "any" would let a node be everything */
    assert_error(&f,
                 kei_ca_sign_csr(&x, p.ca, p.ca_key, kei_buf_str(&csr), many, 1, NOW, YEAR, &f.err),
                 KE_EINVAL, "usage 0");
    assert_null(x);
    ke_buf_free(&csr);
    pki_free(&p);
    fixture_fini(&f);
}

static void test_node_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct pki p, q;
    struct kei_cert *x = NULL;
    fixture_init(&f);
    pki_make(&p, &f);
    pki_make(&q, &f);
    struct ke_buf csr = fixture_data(&f, "ke-1.15-csr.der"), nobody = fixture_buf(&f);
    struct ke_str der = kei_buf_str(&csr);
    static const int64_t bad_times[][2] = {{NOW, 0},         {NOW, -1},      {-1, 100},
                                           {NOW, INT64_MAX}, {INT64_MAX, 1}, {253402300799, 1}};
    for (size_t i = 0; i < sizeof bad_times / sizeof bad_times[0]; i++)
        assert_error(&f,
                     kei_ca_sign_csr(&x, p.ca, p.ca_key, der, NULL, 0, bad_times[i][0],
                                     bad_times[i][1], &f.err),
                     KE_EINVAL, "cannot be valid");
    assert_error(&f, kei_ca_sign_csr(&x, p.ca, q.ca_key, der, NULL, 0, NOW, YEAR, &f.err), KE_EKEY,
                 "does not belong");
    assert_ok(&f, kei_csr_make(&nobody, p.node_key, "system:masters", "", &f.err));
    assert_error(
        &f, kei_ca_sign_csr(&x, p.ca, p.ca_key, kei_buf_str(&nobody), NULL, 0, NOW, YEAR, &f.err),
        KE_ECERT, "names nobody");
    csr.p[csr.n - 1] ^= 1; /* whoever asks must have the key */
    assert_error(&f, kei_ca_sign_csr(&x, p.ca, p.ca_key, der, NULL, 0, NOW, YEAR, &f.err), KE_ECERT,
                 "not signed with its own key");
    assert_null(x);
    ke_buf_free(&csr);
    ke_buf_free(&nobody);
    pki_free(&p);
    pki_free(&q);
    fixture_fini(&f);
}

static void test_server(void **state)
{
    (void)state;
    static const char *const names[] = {"10.1.2.3",       "fd00::1",   "cloud.example",
                                        "*.edge.example", "localhost", "under_score"};
    struct fixture f;
    struct pki p;
    struct kei_cert *x;
    struct kei_cert_info info;
    fixture_init(&f);
    pki_make(&p, &f);
    assert_ok(&f, kei_ca_sign_server(&x, p.ca, p.ca_key, p.server_key, names, 6, NOW, 100 * YEAR,
                                     &f.err));
    assert_ok(&f, kei_cert_verify(x, p.ca, false, NOW + 99 * YEAR, &f.err));
    assert_error(&f, kei_cert_verify(x, p.ca, true, NOW, &f.err), KE_ECERT, "usage");
    assert_ok(&f, kei_cert_info(x, &info, &f.err));
    assert_string_equal(info.cn, "KubeEdge");
    assert_string_equal(info.org, "KubeEdge");
    assert_true(kei_cert_matches(x, p.server_key));
    assert_int_equal(X509_check_ip_asc(x->x, "10.1.2.3", 0), 1);
    assert_int_equal(X509_check_ip_asc(x->x, "10.1.2.4", 0), 0);
    assert_int_equal(X509_check_ip_asc(x->x, "fd00:0::1", 0), 1);
    assert_int_equal(X509_check_host(x->x, "cloud.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(x->x, "x.edge.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(x->x, "x.y.edge.example", 0, 0, NULL), 0);
    assert_int_equal(X509_check_host(x->x, "KubeEdge", 0, 0, NULL), 0);
    kei_cert_free(x);
    static const char *const bad[] = {"",      "a b",     "a..b",       ".a",    "a/b",      "*",
                                      "*.*.a", "a,DNS:b", "10.1.2.3/8", "[::1]", "b\xc3\xbc"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_error(
            &f, kei_ca_sign_server(&x, p.ca, p.ca_key, p.server_key, &bad[i], 1, NOW, YEAR, &f.err),
            KE_EINVAL, "neither an address nor a DNS name");
    assert_ok(&f, kei_ca_sign_server(&x, p.ca, p.ca_key, p.server_key, NULL, 0, NOW, YEAR, &f.err));
    kei_cert_free(x);
    pki_free(&p);
    fixture_fini(&f);
}

static void test_serials(void **state)
{
    (void)state;
    struct fixture f;
    struct pki p;
    uint64_t seen[8];
    fixture_init(&f);
    pki_make(&p, &f);
    for (size_t i = 0; i < 8; i++) {
        struct kei_cert *x;
        assert_ok(&f,
                  kei_ca_sign_server(&x, p.ca, p.ca_key, p.server_key, NULL, 0, NOW, YEAR, &f.err));
        assert_true(ASN1_INTEGER_get_uint64(&seen[i], X509_get0_serialNumber(x->x)));
        assert_true(seen[i] > 0 && seen[i] <= INT64_MAX);
        for (size_t k = 0; k < i; k++)
            assert_true(seen[k] != seen[i]);
        kei_cert_free(x);
    }
    pki_free(&p);
    fixture_fini(&f);
}

/* A CA of the host's own, with an RSA key and made by another tool. */
static void test_rsa_ca(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_key *k;
    struct kei_cert *ca, *x;
    fixture_init(&f);
    struct ke_buf pem = fixture_data(&f, "rsa-2048.pem"), csr = fixture_data(&f, "ke-1.15-csr.der");
    assert_ok(&f, kei_key_from_pem(&k, f.c, kei_buf_str(&pem), &f.err));
    assert_ok(&f, kei_ca_make(&ca, k, NOW, &f.err));
    assert_ok(&f, kei_ca_sign_csr(&x, ca, k, kei_buf_str(&csr), NULL, 0, NOW, YEAR, &f.err));
    assert_ok(&f, kei_cert_verify(x, ca, true, NOW, &f.err));
    kei_cert_free(x);
    kei_cert_free(ca);
    kei_key_free(k);
    ke_buf_free(&pem);
    ke_buf_free(&csr);
    fixture_fini(&f);
}

static int each_sign(void *arg)
{
    static const char *const names[] = {"10.1.2.3", "cloud.example"};
    struct fixture *f = arg;
    struct kei_key *k = NULL;
    struct kei_cert *ca = NULL, *server = NULL, *node = NULL;
    struct ke_buf csr = fixture_buf(f);
    int r = kei_key_new_p256(&k, f->c, &f->err);
    if (r == 0)
        r = kei_ca_make(&ca, k, NOW, &f->err);
    if (r == 0)
        r = kei_ca_sign_server(&server, ca, k, k, names, 2, NOW, YEAR, &f->err);
    if (r == 0)
        r = kei_csr_make(&csr, k, "system:nodes", "system:node:n1", &f->err);
    if (r == 0)
        r = kei_ca_sign_csr(&node, ca, k, kei_buf_str(&csr), NULL, 0, NOW, YEAR, &f->err);
    kei_cert_free(node);
    kei_cert_free(server);
    kei_cert_free(ca);
    kei_key_free(k);
    ke_buf_free(&csr);
    return r;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (size_t n = 1;; n++) {
        test_alloc_fail_at(&f.env.alloc, n);
        int r = each_sign(&f);
        test_alloc_fail_at(&f.env.alloc, 0);
        if (r == 0) {
            assert_true(n > 5);
            break;
        }
        assert_int_equal(r, KE_ENOMEM);
    }
    ossl_fail_each(each_sign, &f, false, 1);
    ossl_fail_each(each_sign, &f, true, 3);
    fixture_fini(&f);
}

int main(void)
{
    ossl_hook();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ca_form),      cmocka_unit_test(test_key_id),
        cmocka_unit_test(test_node_form),    cmocka_unit_test(test_node_usages),
        cmocka_unit_test(test_node_refused), cmocka_unit_test(test_server),
        cmocka_unit_test(test_serials),      cmocka_unit_test(test_rsa_ca),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("ca", tests, NULL, NULL);
}
