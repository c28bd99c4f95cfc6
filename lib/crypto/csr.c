/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificate requests (PKCS#10): ours in the form of KubeEdge's edge nodes, and those a cloud is
 * asked to sign. Loop thread.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>

#include "crypto/crypto_priv.h"

static int fill(X509_REQ *req, const struct kei_key *k, const char *org, const char *cn)
{
    X509_NAME *name = X509_REQ_get_subject_name(req);
    return X509_REQ_set_version(req, X509_REQ_VERSION_1) &&
           kei_name_add(name, NID_countryName, "CN") &&
           kei_name_add(name, NID_stateOrProvinceName, "Zhejiang") &&
           kei_name_add(name, NID_localityName, "Hangzhou") &&
           kei_name_add(name, NID_organizationName, org) &&
           kei_name_add(name, NID_commonName, cn) && X509_REQ_set_pubkey(req, k->p) &&
           X509_REQ_sign(req, k->p, EVP_sha256()) > 0;
}

int kei_csr_make(struct ke_buf *out, const struct kei_key *k, const char *org, const char *cn,
                 struct ke_error *err)
{
    unsigned char *der = NULL;
    int r = 0, n = 0;
    if (!kei_utf8_valid(kei_str(org)) || !kei_utf8_valid(kei_str(cn)))
        return kei_error(err, KE_EINVAL, "the names for a certificate request are not UTF-8");
    ERR_clear_error();
    X509_REQ *req = X509_REQ_new_ex(k->c->lib, NULL);
    if (req && fill(req, k, org, cn))
        n = i2d_X509_REQ(req, &der);
    if (n <= 0) {
        r = kei_ossl_error(err, KE_EKEY, "the certificate request for %s could not be signed", cn);
    } else {
        kei_buf_add(out, der, (size_t)n);
        if (!kei_buf_ok(out))
            r = kei_error(err, KE_ENOMEM, "out of memory for a certificate request");
    }
    OPENSSL_free(der);
    X509_REQ_free(req);
    ERR_clear_error();
    kei_crypto_leave(k->c);
    return r;
}

/* Kinds that Go's crypto/tls can use, and no more work for us than they need. */
static bool key_allowed(EVP_PKEY *k)
{
    static const char *const curves[] = {"prime256v1", "secp384r1", "secp521r1",
                                         "P-256",      "P-384",     "P-521"};
    char curve[32];
    size_t n;
    int written_out = 0; /* the curve, instead of its name: no TLS peer accepts that */
    if (EVP_PKEY_is_a(k, "RSA"))
        return EVP_PKEY_get_bits(k) >= 2048 && EVP_PKEY_get_bits(k) <= 8192;
    if (EVP_PKEY_is_a(k, "ED25519"))
        return true;
    if (!EVP_PKEY_is_a(k, "EC") || !EVP_PKEY_get_group_name(k, curve, sizeof curve, &n) ||
        !EVP_PKEY_get_int_param(k, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &written_out) ||
        written_out)
        return false;
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++) {
        if (strcmp(curve, curves[i]) == 0)
            return true;
    }
    return false;
}

static int check(X509_REQ *req, struct kei_crypto *c, struct ke_error *err)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(req);
    if (!key)
        return kei_ossl_error(err, KE_ECERT, "the certificate request has no usable public key");
    if (!key_allowed(key))
        return kei_error(err, KE_ECERT,
                         "the certificate request has a key of a kind that is not signed here: use "
                         "P-256, P-384, P-521, Ed25519 or RSA with 2048 to 8192 bits");
    if (X509_REQ_verify_ex(req, key, c->lib, NULL) != 1)
        return kei_ossl_error(err, KE_ECERT,
                              "the certificate request is not signed with its own key");
    return 0;
}

int kei_csr_read(X509_REQ **ret, struct kei_crypto *c, struct ke_str der, struct ke_error *err)
{
    const unsigned char *p = (const unsigned char *)der.p;
    int r;
    if (der.n > KEI_DER_MAX)
        return kei_error(err, KE_ELIMIT, "the certificate request has %zu bytes, the limit is %u",
                         der.n, KEI_DER_MAX);
    if (der.n == 0)
        return kei_error(err, KE_ECERT, "the certificate request is empty");
    ERR_clear_error();
    X509_REQ *req = X509_REQ_new_ex(c->lib, NULL);
    if (!req || !d2i_X509_REQ(&req, &p, (long)der.n))
        r = kei_ossl_error(err, KE_ECERT, "what should be a certificate request (DER) is none");
    else if (p != (const unsigned char *)der.p + der.n)
        r = kei_error(err, KE_ECERT, "the certificate request is followed by %zu other bytes",
                      der.n - (size_t)(p - (const unsigned char *)der.p));
    else
        r = check(req, c, err);
    ERR_clear_error();
    kei_crypto_leave(c);
    if (r < 0) {
        X509_REQ_free(req);
        return r;
    }
    *ret = req;
    return 0;
}

int kei_csr_info(struct kei_crypto *c, struct ke_str der, char cn[256], char org[256],
                 struct ke_error *err)
{
    X509_REQ *req = NULL;
    int r = kei_csr_read(&req, c, der, err);
    if (r < 0)
        return r;
    const X509_NAME *name = X509_REQ_get_subject_name(req);
    r = kei_name_get(name, NID_commonName, true, cn, "the certificate request", err);
    if (r == 0)
        r = kei_name_get(name, NID_organizationName, false, org, "the certificate request", err);
    X509_REQ_free(req);
    return r;
}
