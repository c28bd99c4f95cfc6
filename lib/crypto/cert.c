/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates: reading, writing, what is in them, and whether a CA stands behind them. Owned by
 * the caller; to be freed before the context. Loop thread.
 */
#include <openssl/err.h>

#include "crypto/crypto_priv.h"

static const char *const cert_labels[] = {"CERTIFICATE", "X509 CERTIFICATE", NULL};

int kei_cert_from_der(struct kei_cert **ret, struct kei_crypto *c, struct ke_str der,
                      struct ke_error *err)
{
    const unsigned char *p = (const unsigned char *)der.p;
    if (der.n > KEI_DER_MAX)
        return kei_error(err, KE_ELIMIT, "the certificate has %zu bytes, the limit is %u", der.n,
                         KEI_DER_MAX);
    if (der.n == 0)
        return kei_error(err, KE_ECERT, "the certificate is empty");
    ERR_clear_error();
    struct kei_cert *x = kei_zalloc(c->alloc, sizeof *x);
    if (!x)
        return kei_error(err, KE_ENOMEM, "out of memory for a certificate");
    x->c = c;
    x->x = X509_new_ex(c->lib, NULL); /* so that it keeps to our library context */
    int r = 0;
    if (!x->x || !d2i_X509(&x->x, &p, (long)der.n))
        r = kei_ossl_error(err, KE_ECERT, "what should be a certificate (DER) is none");
    else if (p != (const unsigned char *)der.p + der.n)
        r = kei_error(err, KE_ECERT, "the certificate is followed by %zu other bytes",
                      der.n - (size_t)(p - (const unsigned char *)der.p));
    ERR_clear_error();
    if (r < 0) {
        kei_cert_free(x);
        return r;
    }
    *ret = x;
    return 0;
}

int kei_cert_from_pem(struct kei_cert **ret, struct kei_crypto *c, struct ke_str pem,
                      struct ke_error *err)
{
    struct kei_pem block;
    int r = kei_pem_find(&block, pem, cert_labels, err);
    if (r == KE_ENOTFOUND)
        return kei_error(err, KE_ECERT, "there is no PEM block CERTIFICATE");
    if (r < 0)
        return r;
    r = kei_cert_from_der(ret, c, kei_strn((const char *)block.der, (size_t)block.n), err);
    kei_pem_free(&block);
    return r;
}

static int encode(const struct kei_cert *x, unsigned char **ret, size_t *ret_n,
                  struct ke_error *err)
{
    unsigned char *der = NULL;
    ERR_clear_error();
    int n = i2d_X509(x->x, &der);
    if (n <= 0)
        return kei_ossl_error(err, KE_ECERT, "a certificate could not be written");
    *ret = der;
    *ret_n = (size_t)n;
    return 0;
}

int kei_cert_pem(const struct kei_cert *x, struct ke_buf *out, struct ke_error *err)
{
    unsigned char *der;
    size_t n = 0;
    int r = encode(x, &der, &n, err);
    if (r < 0)
        return r;
    r = kei_pem_write(out, cert_labels[0], der, n, err);
    OPENSSL_free(der);
    return r;
}

int kei_cert_der(const struct kei_cert *x, struct ke_buf *out, struct ke_error *err)
{
    unsigned char *der;
    size_t n = 0;
    int r = encode(x, &der, &n, err);
    if (r < 0)
        return r;
    kei_buf_add(out, der, n);
    OPENSSL_free(der);
    return kei_buf_ok(out) ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a certificate");
}

int kei_cert_info(const struct kei_cert *x, struct kei_cert_info *ret, struct ke_error *err)
{
    struct kei_cert_info i = {.is_ca = false};
    const X509_NAME *subject = X509_get_subject_name(x->x);
    unsigned char *der;
    size_t n = 0;
    /* of several, the last CN and the first O, as Go's crypto/x509/pkix and its users read them */
    int r = kei_name_get(subject, NID_commonName, true, i.cn, "the certificate's subject", err);
    if (r == 0)
        r = kei_name_get(subject, NID_organizationName, false, i.org, "the certificate's subject",
                         err);
    if (r == 0)
        r = kei_name_get(X509_get_issuer_name(x->x), NID_commonName, true, i.issuer_cn,
                         "the certificate's issuer", err);
    if (r == 0 && (!kei_time_get(X509_get0_notBefore(x->x), &i.not_before) ||
                   !kei_time_get(X509_get0_notAfter(x->x), &i.not_after)))
        r = kei_ossl_error(err, KE_ECERT, "the certificate of %s has a malformed time", i.cn);
    if (r == 0)
        r = encode(x, &der, &n, err);
    if (r < 0)
        return r;
    kei_sha256(der, n, i.sha256);
    OPENSSL_free(der);
    i.is_ca = X509_check_ca(x->x) == 1; /* by basicConstraints, not by the looser old signs */
    ERR_clear_error();
    *ret = i;
    return 0;
}

int kei_cert_subject(const struct kei_cert *x, struct ke_buf *out, struct ke_error *err)
{
    char *text;
    BIO *mem = BIO_new(BIO_s_mem());
    int r = 0;
    /* UTF-8 as it is, control characters and separators escaped */
    if (!mem || X509_NAME_print_ex(mem, X509_get_subject_name(x->x), 0,
                                   XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0) {
        r = kei_ossl_error(err, KE_ECERT, "the certificate's subject could not be written");
    } else {
        long n = BIO_get_mem_data(mem, &text);
        kei_buf_add(out, text, n > 0 ? (size_t)n : 0);
        if (!kei_buf_ok(out))
            r = kei_error(err, KE_ENOMEM, "out of memory for a certificate's subject");
    }
    BIO_free(mem);
    return r;
}

int kei_cert_key_sha256(const struct kei_cert *x, uint8_t out[32], struct ke_error *err)
{
    unsigned char *der = NULL;
    ERR_clear_error();
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x->x), &der);
    if (n <= 0)
        return kei_ossl_error(err, KE_ECERT, "the public key of a certificate could not be read");
    kei_sha256(der, (size_t)n, out);
    OPENSSL_free(der);
    return 0;
}

bool kei_cert_matches(const struct kei_cert *x, const struct kei_key *k)
{
    if (!x || !k)
        return false;
    ERR_clear_error();
    bool same = X509_check_private_key(x->x, k->p) == 1;
    ERR_clear_error();
    return same;
}

static int verify_in(X509_STORE_CTX *sc, X509_STORE *store, const struct kei_cert *x, bool client,
                     int64_t now, struct ke_error *err)
{
    X509 *bad = x->x;
    if (!X509_STORE_CTX_init(sc, store, x->x, NULL) ||
        !X509_STORE_CTX_set_purpose(sc, client ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER))
        return kei_ossl_error(err, KE_ECERT, "the verification of a certificate could not begin");
    kei_verify_param(X509_STORE_CTX_get0_param(sc));
    if (X509_verify_cert(sc) != 1) {
        int v = X509_STORE_CTX_get_error(sc);
        X509 *at = X509_STORE_CTX_get_current_cert(sc);
        return kei_verify_error(err, v != X509_V_OK ? v : X509_V_ERR_UNSPECIFIED, at ? at : bad,
                                now, NULL);
    }
    int v = kei_verify_times(X509_STORE_CTX_get0_chain(sc), now, &bad);
    return v == X509_V_OK ? 0 : kei_verify_error(err, v, bad, now, NULL);
}

int kei_cert_verify(const struct kei_cert *x, const struct kei_cert *ca, bool client, int64_t now,
                    struct ke_error *err)
{
    int r;
    ERR_clear_error();
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *sc = X509_STORE_CTX_new_ex(x->c->lib, NULL);
    if (!store || !sc || !X509_STORE_add_cert(store, ca->x))
        r = kei_ossl_error(err, KE_ENOMEM, "the verification of a certificate could not begin");
    else
        r = verify_in(sc, store, x, client, now, err);
    X509_STORE_CTX_free(sc);
    X509_STORE_free(store);
    ERR_clear_error();
    kei_crypto_leave(x->c);
    return r;
}

void kei_cert_free(struct kei_cert *x)
{
    if (!x)
        return;
    X509_free(x->x);
    kei_free(x->c->alloc, x);
}
