/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests, keys, certificates, tokens and password hashes. With net/tls_openssl the only user of
 * OpenSSL. One library context per ke_ctx (kei_crypto), so a host's openssl.cnf does not leak in.
 * Pure: no clock, no files (key URIs excepted); the caller passes times as Unix seconds. Loop
 * thread.
 */
#ifndef KEI_CRYPTO_H
#define KEI_CRYPTO_H

#include "base/buf.h"
#include "base/error.h"

struct kei_crypto; /* an OSSL_LIB_CTX with its default provider */
struct kei_key;    /* private key, or a handle of one in a TPM/token */
struct kei_cert;

/* Shared per context: made on first use, freed with the context. */
int kei_crypto_get(struct ke_ctx *ctx, struct kei_crypto **ret);

void kei_sha1(const void *p, size_t n, uint8_t out[20]); /* WebSocket accept only */
void kei_sha256(const void *p, size_t n, uint8_t out[32]);
int kei_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[32]);
bool kei_equal_ct(const void *a, const void *b, size_t n); /* constant time */

/* ---- keys ---- */
int kei_key_new_p256(struct kei_key **ret, struct kei_crypto *c, struct ke_error *err);
/*
 * The first key in the text, which may hold other blocks: SEC1 "EC PRIVATE KEY", PKCS#8 "PRIVATE
 * KEY", or "RSA PRIVATE KEY". KE_EKEY, KE_EPARSE, KE_ELIMIT (1 MiB); KE_ENOTSUP for encrypted ones:
 * nobody is ever asked for a pass phrase.
 */
int kei_key_from_pem(struct kei_key **ret, struct kei_crypto *c, struct ke_str pem,
                     struct ke_error *err);
/* The same forms, DER; nothing may follow. KE_EKEY, KE_ELIMIT (64 KiB) */
int kei_key_from_der(struct kei_key **ret, struct kei_crypto *c, struct ke_str der,
                     struct ke_error *err);
/*
 * A key by URI. "file:/PATH": PEM or DER, through the context's file table. Anything else is a key
 * that stays where it is, reached through an OpenSSL provider (OSSL_STORE): "handle:0x81000001"
 * with tpm2, any other scheme with the provider of that name ("pkcs11:..."). Such a key signs
 * requests, certificates and handshakes, each while the loop waits for the device; it is never
 * written out.
 */
int kei_key_from_uri(struct kei_key **ret, struct kei_crypto *c, const char *uri,
                     struct ke_error *err);
/* SEC1, with curve and public key as Go writes it; appended to out. KE_ENOTSUP if it is no EC key,
 * KE_EKEY if it stays in a TPM or token */
int kei_key_pem(const struct kei_key *k, struct ke_buf *out, struct ke_error *err);
int kei_key_der(const struct kei_key *k, struct ke_buf *out, struct ke_error *err);
void kei_key_free(struct kei_key *k);

/* ---- certificates ---- */
struct kei_cert_info {
    char cn[256], org[256]; /* of the subject, UTF-8; "" if absent */
    char issuer_cn[256];
    int64_t not_before, not_after; /* Unix seconds */
    uint8_t sha256[32];            /* of the DER */
    bool is_ca;
};
/* The first block CERTIFICATE of the text; DER with nothing behind it. KE_ECERT, KE_EPARSE,
 * KE_ELIMIT (1 MiB of text, 64 KiB of DER) */
int kei_cert_from_pem(struct kei_cert **ret, struct kei_crypto *c, struct ke_str pem,
                      struct ke_error *err);
int kei_cert_from_der(struct kei_cert **ret, struct kei_crypto *c, struct ke_str der,
                      struct ke_error *err);
int kei_cert_pem(const struct kei_cert *x, struct ke_buf *out, struct ke_error *err);
int kei_cert_der(const struct kei_cert *x, struct ke_buf *out, struct ke_error *err);
/* Of several the last CN and the first O. KE_ECERT if one has over 255 bytes, a NUL, or is no text
 */
int kei_cert_info(const struct kei_cert *x, struct kei_cert_info *ret, struct ke_error *err);
/* The whole subject as RFC 2253 writes it, "CN=a,O=b", appended to out. KE_ECERT, KE_ENOMEM */
int kei_cert_subject(const struct kei_cert *x, struct ke_buf *out, struct ke_error *err);
/* Of its public key with the algorithm (DER SubjectPublicKeyInfo): the same in each certificate of
 * the key, whatever is done to the signature. KE_ECERT */
int kei_cert_key_sha256(const struct kei_cert *x, uint8_t out[32], struct ke_error *err);
bool kei_cert_matches(const struct kei_cert *x, const struct kei_key *k);
/* chain to ca, right purpose (client: clientAuth, else serverAuth), valid at now. KE_ECERT,
 * KE_EEXPIRED */
int kei_cert_verify(const struct kei_cert *x, const struct kei_cert *ca, bool client, int64_t now,
                    struct ke_error *err);
void kei_cert_free(struct kei_cert *x);

/* ---- requests ---- */
/* PKCS#10 DER: C=CN, ST=Zhejiang, L=Hangzhou, O=org, CN=cn; no extensions (upstream's form) */
int kei_csr_make(struct ke_buf *out, const struct kei_key *k, const char *org, const char *cn,
                 struct ke_error *err);
/* Subject CN and O of a request whose signature holds; KE_ECERT */
int kei_csr_info(struct kei_crypto *c, struct ke_str der, char cn[256], char org[256],
                 struct ke_error *err);

/* ---- the cloud's certificate authority ---- */
/* CN=KubeEdge, serial 1024, CA:TRUE, 100 years, serverAuth+clientAuth, SKI */
int kei_ca_make(struct kei_cert **ret, const struct kei_key *k, int64_t now, struct ke_error *err);
/* CN=O=KubeEdge, serverAuth, SANs: each name is an address or a DNS name; random serial */
int kei_ca_sign_server(struct kei_cert **ret, const struct kei_cert *ca,
                       const struct kei_key *ca_key, const struct kei_key *k,
                       const char *const *names, size_t n, int64_t now, int64_t seconds,
                       struct ke_error *err);
/* From a CSR: only CN and O copied; keyEncipherment|digitalSignature critical, EKU list (1
 * serverAuth, 2 clientAuth; none: clientAuth), AKI, random serial */
int kei_ca_sign_csr(struct kei_cert **ret, const struct kei_cert *ca, const struct kei_key *ca_key,
                    struct ke_str csr_der, const uint8_t *eku, size_t n_eku, int64_t now,
                    int64_t seconds, struct ke_error *err);

/* ---- join token: HEX(sha256 of the CA's DER) "." JWT(HS256, claim exp) ---- */
struct kei_token {
    uint8_t ca_sha256[32];
    struct ke_str jwt; /* view into the text that was parsed */
    int64_t exp;       /* Unix seconds, 0 if the claim is missing */
};
/* Form only: four parts, hex hash, base64url, JSON with exp. KE_ETOKEN says which part is wrong. */
int kei_token_parse(struct kei_token *ret, struct ke_str text, struct ke_error *err);
/* secret: DER of the CA's private key, as upstream */
int kei_token_make(struct ke_buf *out, struct ke_str ca_der, struct ke_str secret, int64_t exp,
                   struct ke_error *err);
/* HS256/384/512 signature and exp > now; KE_ETOKEN, KE_EEXPIRED */
int kei_jwt_verify(struct ke_str jwt, struct ke_str secret, int64_t now, struct ke_error *err);

/*
 * ---- password hashes: the text forms of mosquitto_passwd ----
 * "$7$iterations$salt$hash": PBKDF2-HMAC-SHA512; "$6$salt$hash": SHA-512 of password and salt (the
 * older form, which iterations of 0 stand for).
 */
int kei_password_hash(struct ke_buf *out, struct ke_str password, const uint8_t *salt,
                      size_t salt_n, uint32_t iterations, struct ke_error *err);
/* False also for another form, over 256 bytes of salt or over 1,000,000 iterations (KE_EINVAL
 * above) */
bool kei_password_check(struct ke_str password, struct ke_str hash);
/* Has one of the forms; *ret_iterations is its cost, 0 for the older one. */
bool kei_password_form(struct ke_str hash, uint32_t *ret_iterations);

/*
 * The same in steps, for whoever may not compute for long. begin copies what it needs: with salt it
 * makes a hash (KE_EINVAL as above), with the text of one it checks against it (KE_EPARSE). A step
 * does n iterations, on any one thread at a time; true: it is over, and same or text may be asked.
 */
struct kei_password;
int kei_password_begin_hash(struct kei_password **ret, const struct ke_alloc *a,
                            struct ke_str password, const uint8_t *salt, size_t salt_n,
                            uint32_t iterations, struct ke_error *err);
int kei_password_begin_check(struct kei_password **ret, const struct ke_alloc *a,
                             struct ke_str password, struct ke_str hash, struct ke_error *err);
bool kei_password_step(struct kei_password *p, uint32_t n);
bool kei_password_same(const struct kei_password *p);
int kei_password_text(const struct kei_password *p, struct ke_buf *out, struct ke_error *err);
void kei_password_free(struct kei_password *p); /* cleanses it; NULL is fine */

#endif
