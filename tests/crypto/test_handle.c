/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys by URI that stay behind their provider. The provider here is OpenSSL's default one in a
 * context of its own; test_tpm.sh does the same with a TPM.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>

#include "base/file.h"
#include "crypto/crypto_priv.h"
#include "crypto/fixture.h"

struct handles {
    struct fixture f;
    struct pki p;
    char dir[256], uri[320];
};

static void write_pem(struct handles *h, const struct kei_key *k)
{
    struct ke_buf pem = fixture_buf(&h->f);
    char path[300];
    snprintf(path, sizeof path, "%s/key.pem", h->dir);
    snprintf(h->uri, sizeof h->uri, "file:%s", path);
    assert_ok(&h->f, kei_key_pem(k, &pem, &h->f.err));
    assert_ok(&h->f, kei_file_replace(ke_io_posix(), path, pem.p, pem.n, 0600, &h->f.err));
    ke_buf_free(&pem);
}

static void begin(struct handles *h)
{
    fixture_init(&h->f);
    pki_make(&h->p, &h->f);
    test_tmp_make(h->dir, sizeof h->dir);
    write_pem(h, h->p.node_key);
}

static void end(struct handles *h)
{
    test_tmp_remove(h->dir);
    pki_free(&h->p);
    fixture_fini(&h->f);
}

static int open_handle(struct handles *h, struct kei_key *ret)
{
    ret->c = h->f.c;
    return kei_handle_open(&ret->p, h->f.c, "default", h->uri, &h->f.err);
}

static void test_signs(void **state)
{
    (void)state;
    struct handles h;
    struct kei_key k;
    struct kei_cert *x, *ca;
    char cn[256], org[256];
    begin(&h);
    assert_ok(&h.f, open_handle(&h, &k));
    struct ke_buf csr = fixture_buf(&h.f);
    assert_ok(&h.f, kei_csr_make(&csr, &k, "system:nodes", "system:node:n1", &h.f.err));
    assert_ok(&h.f, kei_csr_info(h.f.c, kei_buf_str(&csr), cn, org, &h.f.err));
    assert_string_equal(cn, "system:node:n1");
    assert_ok(&h.f, kei_ca_sign_csr(&x, h.p.ca, h.p.ca_key, kei_buf_str(&csr), NULL, 0, NOW, 1000,
                                    &h.f.err));
    assert_true(kei_cert_matches(x, &k));
    assert_true(kei_cert_matches(x, h.p.node_key)); /* it is the same key */
    assert_false(kei_cert_matches(h.p.server, &k));
    kei_cert_free(x);
    /* and as a CA */
    assert_ok(&h.f, kei_ca_make(&ca, &k, NOW, &h.f.err));
    assert_ok(&h.f, kei_ca_sign_csr(&x, ca, &k, kei_buf_str(&csr), NULL, 0, NOW, 1000, &h.f.err));
    assert_ok(&h.f, kei_cert_verify(x, ca, true, NOW, &h.f.err));
    kei_cert_free(x);
    kei_cert_free(ca);
    ke_buf_free(&csr);
    EVP_PKEY_free(k.p);
    end(&h);
}

static void test_stays(void **state)
{
    (void)state;
    struct handles h;
    struct kei_key k;
    begin(&h);
    assert_ok(&h.f, open_handle(&h, &k));
    struct ke_buf out = fixture_buf(&h.f);
    assert_error(&h.f, kei_key_der(&k, &out, &h.f.err), KE_EKEY, "cannot be taken out");
    assert_error(&h.f, kei_key_pem(&k, &out, &h.f.err), KE_EKEY, "cannot be taken out");
    assert_int_equal(out.n, 0);
    BIGNUM *n = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(k.p, OSSL_PKEY_PARAM_PRIV_KEY, &n), 0);
    ERR_clear_error();
    EVP_PKEY_free(k.p);
    end(&h);
}

/* A provider for handles in the context does not take over what the default one does. */
static void test_default_comes_first(void **state)
{
    (void)state;
    struct handles h;
    struct kei_key k, *own;
    begin(&h);
    assert_ok(&h.f, open_handle(&h, &k));
    assert_ok(&h.f, kei_key_new_p256(&own, h.f.c, &h.f.err));
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(own->p)), "default");
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(k.p)), "kubeedge");
    struct ke_buf der = fixture_buf(&h.f);
    assert_ok(&h.f, kei_key_der(own, &der, &h.f.err));
    ke_buf_free(&der);
    kei_key_free(own);
    for (int i = 0; i < 10; i++) { /* nor after it has signed, first of all in this context */
        struct ke_buf csr = fixture_buf(&h.f);
        assert_ok(&h.f, kei_csr_make(&csr, &k, "o", "cn", &h.f.err));
        assert_ok(&h.f, kei_key_new_p256(&own, h.f.c, &h.f.err));
        assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(own->p)), "default");
        kei_key_free(own);
        ke_buf_free(&csr);
    }
    EVP_PKEY_free(k.p);
    end(&h);
}

static void test_curves(void **state)
{
    (void)state;
    static const char *const curves[] = {"P-384", "P-521"};
    struct handles h;
    begin(&h);
    for (size_t i = 0; i < 2; i++) {
        struct kei_key k, made = {h.f.c, EVP_PKEY_Q_keygen(h.f.c->lib, NULL, "EC", curves[i])};
        char cn[256], org[256];
        assert_non_null(made.p);
        write_pem(&h, &made);
        assert_ok(&h.f, open_handle(&h, &k));
        for (int round = 0; round < 20; round++) { /* signatures differ in length */
            struct ke_buf csr = fixture_buf(&h.f);
            assert_ok(&h.f, kei_csr_make(&csr, &k, "o", "cn", &h.f.err));
            assert_ok(&h.f, kei_csr_info(h.f.c, kei_buf_str(&csr), cn, org, &h.f.err));
            ke_buf_free(&csr);
        }
        EVP_PKEY_free(k.p);
        EVP_PKEY_free(made.p);
    }
    end(&h);
}

static void test_refused(void **state)
{
    (void)state;
    struct handles h;
    struct kei_key k = {0};
    begin(&h);
    char path[300];
    struct ke_buf rsa = fixture_data(&h.f, "rsa-2048.pem");
    snprintf(path, sizeof path, "%s/key.pem", h.dir);
    assert_ok(&h.f, kei_file_replace(ke_io_posix(), path, rsa.p, rsa.n, 0600, &h.f.err));
    assert_error(&h.f, open_handle(&h, &k), KE_ENOTSUP, "RSA: only EC keys");
    ke_buf_free(&rsa);
    assert_error(&h.f, kei_handle_open(&k.p, h.f.c, "nowhere", h.uri, &h.f.err), KE_ENOTSUP,
                 "provider nowhere");
    assert_error(&h.f, kei_handle_open(&k.p, h.f.c, "default", "file:/nonexistent", &h.f.err),
                 KE_EKEY, "file:/nonexistent");
    assert_null(k.p);
    end(&h);
}

/*
 * With the handle open: opening goes through OSSL_STORE, which in OpenSSL 3.0 crashes by itself
 * when memory ends.
 */
struct each {
    struct handles *h;
    struct kei_key k;
};

static int each_use(void *arg)
{
    struct each *e = arg;
    struct ke_buf csr = fixture_buf(&e->h->f);
    struct kei_cert *ca = NULL;
    int r = kei_csr_make(&csr, &e->k, "o", "cn", &e->h->f.err);
    if (r == 0 && !kei_cert_matches(e->h->p.node, &e->k))
        r = KE_EKEY;
    if (r == 0)
        r = kei_ca_make(&ca, &e->k, NOW, &e->h->f.err);
    kei_cert_free(ca);
    ke_buf_free(&csr);
    return r;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct handles h;
    begin(&h);
    struct each e = {.h = &h};
    assert_ok(&h.f, open_handle(&h, &e.k));
    ossl_fail_each(each_use, &e, false, 1);
    ossl_fail_each(each_use, &e, true, 3);
    EVP_PKEY_free(e.k.p);
    struct kei_key k = {0};
    for (size_t n = 1;; n++) {
        test_alloc_fail_at(&h.f.env.alloc, n);
        int r = open_handle(&h, &k);
        test_alloc_fail_at(&h.f.env.alloc, 0);
        if (r == 0)
            break;
        assert_int_equal(r, KE_ENOMEM);
    }
    EVP_PKEY_free(k.p);
    end(&h);
}

/* OpenSSL 3.0 leaks by itself when memory ends while it makes a context or loads a provider. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

/*
 * The contexts themselves: an error is told, nothing crashes. A context that met it may lack
 * algorithms for good (OpenSSL 3.0 marks them as loaded before they are), a new one is whole.
 */
static void test_contexts_no_memory(void **state)
{
    (void)state;
    struct handles h;
    size_t n = 1;
    begin(&h);
    if (__lsan_disable)
        __lsan_disable();
    for (bool more = true; more; n++) {
        struct ke_ctx *ctx;
        struct kei_crypto *c;
        EVP_PKEY *key = NULL;
        struct ke_error err = KE_ERROR_INIT;
        assert_int_equal(ke_ctx_new(&ctx, NULL, &err), 0);
        ossl_fail_at(n, false);
        int r = kei_crypto_get(ctx, &c);
        if (r == 0) /* the scheme is nobody's: all but the opening itself */
            r = kei_handle_open(&key, c, "default", "nobody:x", &err);
        more = ossl_failed() > 0;
        ossl_fail_at(0, false);
        assert_true(r != 0);
        EVP_PKEY_free(key);
        ERR_clear_error();
        ke_ctx_free(ctx);
    }
    if (__lsan_enable)
        __lsan_enable();
    assert_true(n > 100);
    end(&h);
}

int main(void)
{
    ossl_hook();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs),
        cmocka_unit_test(test_stays),
        cmocka_unit_test(test_default_comes_first),
        cmocka_unit_test(test_curves),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_contexts_no_memory),
    };
    return cmocka_run_group_tests_name("handle", tests, NULL, NULL);
}
