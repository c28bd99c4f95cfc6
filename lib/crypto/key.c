/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private keys: made here, read from PEM or DER, or handles of keys that never leave a TPM or
 * token. Owned by the caller; to be freed before the context. Loop thread.
 */
#include <openssl/ec.h>
#include <openssl/err.h>

#include "base/file.h"
#include "base/loop.h"
#include "crypto/crypto_priv.h"

static const char *const key_labels[] = {"EC PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY",
                                         "ENCRYPTED PRIVATE KEY", NULL};

/* Takes p over, also when it fails. */
static int wrap(struct kei_key **ret, struct kei_crypto *c, EVP_PKEY *p, struct ke_error *err)
{
    struct kei_key *k = kei_zalloc(c->alloc, sizeof *k);
    if (!k) {
        EVP_PKEY_free(p);
        return kei_error(err, KE_ENOMEM, "out of memory for a key");
    }
    k->c = c;
    k->p = p;
    *ret = k;
    return 0;
}

int kei_key_new_p256(struct kei_key **ret, struct kei_crypto *c, struct ke_error *err)
{
    ERR_clear_error();
    EVP_PKEY *p = EVP_PKEY_Q_keygen(c->lib, NULL, "EC", "P-256");
    kei_crypto_leave(c);
    if (!p)
        return kei_ossl_error(err, KE_EKEY, "a P-256 key could not be made");
    return wrap(ret, c, p, err);
}

int kei_key_from_der(struct kei_key **ret, struct kei_crypto *c, struct ke_str der,
                     struct ke_error *err)
{
    const unsigned char *p = (const unsigned char *)der.p;
    if (der.n == 0)
        return kei_error(err, KE_EKEY, "the private key is empty");
    if (der.n > KEI_DER_MAX)
        return kei_error(err, KE_ELIMIT, "the private key has %zu bytes, the limit is %u", der.n,
                         KEI_DER_MAX);
    ERR_clear_error();
    EVP_PKEY *key = d2i_AutoPrivateKey_ex(NULL, &p, (long)der.n, c->lib, NULL);
    if (!key)
        return kei_ossl_error(err, KE_EKEY,
                              "the private key is neither SEC1, PKCS#1 nor PKCS#8 (DER)");
    size_t used = (size_t)(p - (const unsigned char *)der.p);
    ERR_clear_error(); /* of the forms that were tried before the right one */
    kei_crypto_leave(c);
    if (used != der.n) {
        EVP_PKEY_free(key);
        return kei_error(err, KE_EKEY, "the private key is followed by %zu other bytes",
                         der.n - used);
    }
    return wrap(ret, c, key, err);
}

int kei_key_from_pem(struct kei_key **ret, struct kei_crypto *c, struct ke_str pem,
                     struct ke_error *err)
{
    struct kei_pem block;
    int r = kei_pem_find(&block, pem, key_labels, err);
    if (r == KE_ENOTFOUND)
        return kei_error(err, KE_EKEY,
                         "there is no PEM block EC PRIVATE KEY, PRIVATE KEY or RSA PRIVATE KEY");
    if (r < 0)
        return r;
    if (strcmp(block.label, "ENCRYPTED PRIVATE KEY") == 0)
        r = kei_error(err, KE_ENOTSUP,
                      "the private key is encrypted: store it decrypted, or keep "
                      "it in a TPM or token and name its URI");
    else
        r = kei_key_from_der(ret, c, kei_strn((const char *)block.der, (size_t)block.n), err);
    kei_pem_free(&block);
    return r;
}

/* ---- keys behind a URI ---- */

/* The provider for a scheme: handles are tpm2's, "" means the default one; else it has its name. */
static int provider_of(char out[32], const char *uri, struct ke_error *err)
{
    struct ke_str rest, scheme = kei_str_cut(kei_str(uri), ':', &rest);
    bool ok = rest.p && scheme.n > 0 && scheme.n < 32;
    for (size_t i = 0; ok && i < scheme.n; i++) { /* it becomes the name of a module */
        char ch = scheme.p[i];
        ok = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
    }
    if (!ok)
        return kei_error(err, KE_EINVAL, "%s is not a URI of a key (handle:, pkcs11:, file:)", uri);
    if (kei_str_is(scheme, "handle"))
        scheme = KEI_STR("tpm2");
    else if (kei_str_is(scheme, "file"))
        scheme.n = 0;
    memcpy(out, scheme.p, scheme.n);
    out[scheme.n] = '\0';
    return 0;
}

/* file:/a/b and file:///a/b; PEM or DER, through the host's file table */
static int from_file(struct kei_key **ret, struct kei_crypto *c, const char *uri,
                     struct ke_error *err)
{
    const char *path = uri + sizeof "file:" - 1;
    struct ke_buf b;
    if (path[0] == '/' && path[1] == '/')
        path += 2;
    if (path[0] != '/')
        return kei_error(err, KE_EINVAL, "%s is not a URI of a file with an absolute path", uri);
    kei_buf_init(&b, c->alloc);
    int r = kei_file_read(kei_ctx_io(c->ctx), path, KEI_PEM_MAX, &b, err);
    if (r == 0 && b.n > 0 && b.p[0] == 0x30) /* a SEQUENCE */
        r = kei_key_from_der(ret, c, kei_buf_str(&b), err);
    else if (r == 0)
        r = kei_key_from_pem(ret, c, kei_buf_str(&b), err);
    if (b.p)
        OPENSSL_cleanse(b.p, b.n);
    ke_buf_free(&b);
    return r == 0 ? 0 : kei_error_prefix(err, r, "private key %s", uri);
}

int kei_key_from_uri(struct kei_key **ret, struct kei_crypto *c, const char *uri,
                     struct ke_error *err)
{
    char provider[32];
    EVP_PKEY *key = NULL;
    int r = provider_of(provider, uri, err);
    if (r < 0)
        return r;
    if (provider[0] == '\0')
        return from_file(ret, c, uri, err);
    ERR_clear_error();
    r = kei_handle_open(&key, c, provider, uri, err);
    return r < 0 ? r : wrap(ret, c, key, err);
}

/* ---- writing ---- */

static int encode(const struct kei_key *k, unsigned char **ret, size_t *ret_n, struct ke_error *err)
{
    unsigned char *der = NULL;
    ERR_clear_error();
    if (!EVP_PKEY_is_a(k->p, "EC"))
        return kei_error(err, KE_ENOTSUP, "only EC keys are written, this one is %s",
                         EVP_PKEY_get0_type_name(k->p));
    int n = i2d_PrivateKey(k->p, &der);
    if (n <= 0)
        return kei_ossl_error(err, KE_EKEY,
                              "the private key cannot be taken out of where it is kept");
    *ret = der;
    *ret_n = (size_t)n;
    return 0;
}

int kei_key_pem(const struct kei_key *k, struct ke_buf *out, struct ke_error *err)
{
    unsigned char *der = NULL;
    size_t n = 0;
    int r = encode(k, &der, &n, err);
    if (r < 0)
        return r;
    r = kei_pem_write(out, key_labels[0], der, n, err);
    OPENSSL_clear_free(der, n);
    return r;
}

int kei_key_der(const struct kei_key *k, struct ke_buf *out, struct ke_error *err)
{
    unsigned char *der;
    size_t n = 0;
    int r = encode(k, &der, &n, err);
    if (r < 0)
        return r;
    kei_buf_add(out, der, n);
    OPENSSL_clear_free(der, n);
    return kei_buf_ok(out) ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a key");
}

void kei_key_free(struct kei_key *k)
{
    if (!k)
        return;
    EVP_PKEY_free(k->p);
    kei_free(k->c->alloc, k);
}
