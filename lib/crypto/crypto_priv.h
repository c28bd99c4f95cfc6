/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of crypto, for crypto/ and net/tls_openssl only: the OpenSSL objects behind the handles,
 * and how their errors become ours. Loop thread.
 */
#ifndef KEI_CRYPTO_PRIV_H
#define KEI_CRYPTO_PRIV_H

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "crypto/crypto.h"

#define KEI_DER_MAX (64u * 1024)            /* one certificate, key or request */
#define KEI_PEM_MAX (1024u * 1024)          /* text that holds one */
#define KEI_MODULES 4u                      /* providers for keys by URI */
#define KEI_YEAR_9999 INT64_C(253402300799) /* last second that a certificate can tell */

struct kei_module; /* an OpenSSL provider in a library context of its own */

struct kei_crypto {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    OSSL_LIB_CTX *lib;
    OSSL_PROVIDER *dflt;
    OSSL_PROVIDER *handles; /* ours, for keys by URI */
    bool handles_known;
    struct kei_module *modules[KEI_MODULES];
    uint32_t n_modules;
};

struct kei_key {
    struct kei_crypto *c;
    EVP_PKEY *p;
};

struct kei_cert {
    struct kei_crypto *c;
    X509 *x;
};

/* ---- provider.c ---- */
/*
 * Sets code and "text: OpenSSL's reason", KE_ENOMEM if memory ran out, and empties the thread's
 * queue of OpenSSL errors. Returns the code.
 */
int kei_ossl_error(struct ke_error *err, int code, const char *fmt, ...) KE_PRINTF(3, 4);
/*
 * To be called at the end of whatever may have used randomness. OpenSSL keeps generators per thread
 * and context; one that outlived the context would crash its thread when that ends, and the
 * context may be freed by another thread than the one that ran it. Making one anew takes
 * microseconds.
 */
void kei_crypto_leave(struct kei_crypto *c);

/* ---- handle.c ---- */
/* A key that stays where the provider keeps it. KE_ENOTSUP, KE_EKEY, KE_ELIMIT, KE_ENOMEM */
int kei_handle_open(EVP_PKEY **ret, struct kei_crypto *c, const char *provider, const char *uri,
                    struct ke_error *err);
void kei_modules_leave(struct kei_crypto *c);
void kei_modules_free(struct kei_crypto *c);

/* ---- fixed.c ---- */
/* A buffer over the caller's memory: never grows (fails instead), never to be freed. */
struct ke_buf kei_buf_fixed(char *p, size_t n);

/* ---- digest.c ---- */
enum kei_hash { KEI_HASH_SHA256, KEI_HASH_SHA384, KEI_HASH_SHA512 };
#define KEI_HASH_MAX 64
size_t kei_hash_len(enum kei_hash h);
/* out has kei_hash_len(h) bytes */
void kei_hmac(enum kei_hash h, struct ke_str key, struct ke_str text, uint8_t *out);
void kei_sha512_two(struct ke_str a, struct ke_str b, uint8_t out[64]); /* of both in a row */
void kei_pbkdf2_sha512(struct ke_str password, struct ke_str salt, uint32_t iterations,
                       uint8_t out[64]);

union kei_hash_state {
    SHA256_CTX s256;
    SHA512_CTX s512; /* and SHA-384 */
};
struct kei_hash_type;
struct kei_hmac_state {
    const struct kei_hash_type *t;
    union kei_hash_state inner, outer;
};
/* The same in steps. iterations: at least 1. To be cleansed by its owner. */
struct kei_pbkdf2 {
    struct kei_hmac_state mac;
    uint32_t left;
    uint8_t u[64], out[64];
};
void kei_pbkdf2_begin(struct kei_pbkdf2 *p, struct ke_str password, struct ke_str salt,
                      uint32_t iterations);
bool kei_pbkdf2_step(struct kei_pbkdf2 *p, uint32_t n); /* n iterations; true: out is complete */

/* ---- pem.c ---- */
/*
 * Finds the first PEM block with one of the labels (a NULL ends the list); *ret_der is its content,
 * to be given back with kei_pem_free. KE_ENOTFOUND if there is none.
 */
struct kei_pem {
    unsigned char *der;
    long n;
    const char *label; /* the one of the list that was found */
};
int kei_pem_find(struct kei_pem *ret, struct ke_str text, const char *const *labels,
                 struct ke_error *err);
void kei_pem_free(struct kei_pem *p);
/* Appends a block; the bytes are kept nowhere else. KE_ENOMEM */
int kei_pem_write(struct ke_buf *out, const char *label, const void *der, size_t n,
                  struct ke_error *err);

/* ---- name.c ---- */
/* Appends an entry, a PrintableString if the value can be one, else UTF8String, as Go does. */
bool kei_name_add(X509_NAME *name, int nid, const char *value);
/*
 * Text of an entry, the first or the last of its kind; "" if absent. KE_ECERT when it does not fit
 * or is no text without NUL; what names the object in the error.
 */
int kei_name_get(const X509_NAME *name, int nid, bool last, char out[256], const char *what,
                 struct ke_error *err);

/* ---- verify.c ---- */
bool kei_time_set(ASN1_TIME *t, int64_t unix_s);
bool kei_time_get(const ASN1_TIME *t, int64_t *ret_unix_s);
/* Flags that each verification uses; times are checked by kei_verify_times. */
void kei_verify_param(X509_VERIFY_PARAM *p);
/* X509_V_OK, or what is wrong with the first certificate that is not valid at now: *ret_bad. */
int kei_verify_times(STACK_OF(X509) * chain, int64_t now, X509 **ret_bad);
/*
 * The error for an X509_V_ERR_* that was met on bad (may be NULL). name: whom the certificate had
 * to be for, or NULL. Returns KE_EEXPIRED or KE_ECERT.
 */
int kei_verify_error(struct ke_error *err, int v, const X509 *bad, int64_t now, const char *name);

/* ---- ca.c, csr.c ---- */
/* The request, if its own signature holds and its key is of a kind we sign. */
int kei_csr_read(X509_REQ **ret, struct kei_crypto *c, struct ke_str der, struct ke_error *err);

#endif
