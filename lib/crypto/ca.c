/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud's certificate authority: what it makes and signs has the form that KubeEdge 1.15 shows
 * on the wire. Extensions are built from values, never from text. Loop thread.
 */
#include <arpa/inet.h>
#include <openssl/err.h>

#include "base/loop.h"
#include "crypto/crypto_priv.h"

#define CA_SERIAL 1024
#define CA_SECONDS (INT64_C(36500) * 86400)
#define EKU_MAX 8

/* bits of KeyUsage, numbered as in RFC 5280 */
#define USE_SIGNATURE 0
#define USE_ENCIPHER 2
#define USE_CERT_SIGN 5

/* RFC 5280 numbers as Go's x509.ExtKeyUsage counts them */
static int eku_nid(uint8_t eku)
{
    switch (eku) {
    case 1:
        return NID_server_auth;
    case 2:
        return NID_client_auth;
    case 3:
        return NID_code_sign;
    case 4:
        return NID_email_protect;
    case 8:
        return NID_time_stamp;
    case 9:
        return NID_OCSP_sign;
    default:
        return NID_undef;
    }
}

/* ---- extensions ---- */

static bool add_key_usage(X509 *x, bool ca)
{
    ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
    bool ok = bits && ASN1_BIT_STRING_set_bit(bits, USE_SIGNATURE, 1) &&
              ASN1_BIT_STRING_set_bit(bits, USE_ENCIPHER, 1) &&
              (!ca || ASN1_BIT_STRING_set_bit(bits, USE_CERT_SIGN, 1)) &&
              X509_add1_ext_i2d(x, NID_key_usage, bits, 1, X509V3_ADD_DEFAULT) == 1;
    ASN1_BIT_STRING_free(bits);
    return ok;
}

static bool add_eku(X509 *x, const uint8_t *eku, size_t n)
{
    EXTENDED_KEY_USAGE *list = sk_ASN1_OBJECT_new_null();
    bool ok = list;
    for (size_t i = 0; ok && i < n; i++) /* objects of the built-in table: static */
        ok = sk_ASN1_OBJECT_push(list, OBJ_nid2obj(eku_nid(eku[i]))) > 0;
    ok = ok && X509_add1_ext_i2d(x, NID_ext_key_usage, list, 0, X509V3_ADD_DEFAULT) == 1;
    sk_ASN1_OBJECT_free(list);
    return ok;
}

static bool add_ca_mark(X509 *x)
{
    BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
    if (bc)
        bc->ca = 0xff;
    bool ok = bc && X509_add1_ext_i2d(x, NID_basic_constraints, bc, 1, X509V3_ADD_DEFAULT) == 1;
    BASIC_CONSTRAINTS_free(bc);
    return ok;
}

/* SHA-1 of the public key's bits, as Go and RFC 5280 4.2.1.2 (1) */
static bool add_ski(X509 *x)
{
    uint8_t hash[20];
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(x);
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    bool ok = bits && id;
    if (ok) {
        kei_sha1(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits), hash);
        ok = ASN1_OCTET_STRING_set(id, hash, sizeof hash) &&
             X509_add1_ext_i2d(x, NID_subject_key_identifier, id, 0, X509V3_ADD_DEFAULT) == 1;
    }
    ASN1_OCTET_STRING_free(id);
    return ok;
}

/* Nothing is added if the CA has no identifier of its own. */
static bool add_aki(X509 *x, X509 *ca)
{
    const ASN1_OCTET_STRING *ski = X509_get0_subject_key_id(ca);
    if (!ski)
        return true;
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    bool ok = aki && (aki->keyid = ASN1_OCTET_STRING_dup(ski)) != NULL &&
              X509_add1_ext_i2d(x, NID_authority_key_identifier, aki, 0, X509V3_ADD_DEFAULT) == 1;
    AUTHORITY_KEYID_free(aki);
    return ok;
}

/* A DNS name, which may begin with "*.". */
static bool dns_name(const char *s)
{
    if (s[0] == '*' && s[1] == '.')
        s += 2;
    size_t n = strlen(s);
    if (n == 0 || n > 253)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool ok = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
                  (s[i] >= '0' && s[i] <= '9') || s[i] == '-' || s[i] == '.' || s[i] == '_';
        if (!ok || (s[i] == '.' && (i == 0 || s[i - 1] == '.')))
            return false;
    }
    return true;
}

/* Takes value over, also when it fails. */
static bool push_name(GENERAL_NAMES *list, int type, ASN1_STRING *value)
{
    GENERAL_NAME *g = value ? GENERAL_NAME_new() : NULL;
    if (!g) {
        ASN1_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(g, type, value);
    if (sk_GENERAL_NAME_push(list, g) > 0)
        return true;
    GENERAL_NAME_free(g);
    return false;
}

static bool push_text(GENERAL_NAMES *list, const char *name)
{
    uint8_t ip[16];
    int n = inet_pton(AF_INET, name, ip) == 1 ? 4 : inet_pton(AF_INET6, name, ip) == 1 ? 16 : 0;
    ASN1_STRING *value = ASN1_STRING_type_new(n ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    if (value && !ASN1_STRING_set(value, n ? (const void *)ip : name, n ? n : -1)) {
        ASN1_STRING_free(value);
        value = NULL;
    }
    return push_name(list, n ? GEN_IPADD : GEN_DNS, value);
}

static bool add_names(X509 *x, const char *const *names, size_t n)
{
    GENERAL_NAMES *list = GENERAL_NAMES_new();
    bool ok = list;
    for (size_t i = 0; ok && i < n; i++)
        ok = push_text(list, names[i]);
    ok = ok &&
         (n == 0 || X509_add1_ext_i2d(x, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT) == 1);
    GENERAL_NAMES_free(list);
    return ok;
}

/* ---- the body ---- */

/* 63 random bits, never 0 */
static bool random_serial(X509 *x, struct kei_crypto *c)
{
    uint64_t v;
    if (kei_ctx_random(c->ctx, &v, sizeof v) < 0)
        return false;
    v &= INT64_MAX;
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), v ? v : 1) == 1;
}

static bool set_times(X509 *x, int64_t from, int64_t to)
{
    return kei_time_set(X509_getm_notBefore(x), from) && kei_time_set(X509_getm_notAfter(x), to);
}

static int check_times(int64_t now, int64_t seconds, struct ke_error *err)
{
    if (now < 0 || seconds <= 0 || now > KEI_YEAR_9999 || seconds > KEI_YEAR_9999 - now)
        return kei_error(err, KE_EINVAL,
                         "a certificate cannot be valid for %lld seconds from %lld on",
                         (long long)seconds, (long long)now);
    return 0;
}

static bool sign(X509 *x, EVP_PKEY *key)
{
    bool own_hash = EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448");
    return X509_sign(x, key, own_hash ? NULL : EVP_sha256()) > 0;
}

/*
 * Ends the making of x, which is taken over: the certificate is read back from its bytes, because x
 * may still hold a key that can sign but not verify (a handle).
 */
static int finish(struct kei_cert **ret, struct kei_crypto *c, X509 *x, bool ok, const char *what,
                  struct ke_error *err)
{
    unsigned char *der = NULL;
    int n = ok ? i2d_X509(x, &der) : 0, r;
    X509_free(x);
    if (n > 0)
        r = kei_cert_from_der(ret, c, kei_strn((const char *)der, (size_t)n), err);
    else
        r = kei_ossl_error(err, KE_ECERT, "%s could not be signed", what);
    OPENSSL_free(der);
    ERR_clear_error();
    kei_crypto_leave(c);
    return r;
}

int kei_ca_make(struct kei_cert **ret, const struct kei_key *k, int64_t now, struct ke_error *err)
{
    static const uint8_t eku[] = {1, 2};
    int r = check_times(now, CA_SECONDS, err);
    if (r < 0)
        return r;
    ERR_clear_error();
    X509 *x = X509_new_ex(k->c->lib, NULL);
    bool ok = x && X509_set_version(x, X509_VERSION_3) &&
              ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), CA_SERIAL) &&
              set_times(x, now, now + CA_SECONDS) &&
              kei_name_add(X509_get_subject_name(x), NID_commonName, "KubeEdge") &&
              X509_set_issuer_name(x, X509_get_subject_name(x)) && X509_set_pubkey(x, k->p) &&
              add_key_usage(x, true) && add_eku(x, eku, sizeof eku) && add_ca_mark(x) &&
              add_ski(x) && sign(x, k->p);
    return finish(ret, k->c, x, ok, "the CA's certificate", err);
}

/* What both kinds of leaf share; names and extensions but AKI come from the caller. */
static X509 *leaf_new(const struct kei_cert *ca, EVP_PKEY *key, int64_t now, int64_t seconds)
{
    X509 *x = X509_new_ex(ca->c->lib, NULL);
    if (x && X509_set_version(x, X509_VERSION_3) && random_serial(x, ca->c) &&
        set_times(x, now, now + seconds) && X509_set_issuer_name(x, X509_get_subject_name(ca->x)) &&
        X509_set_pubkey(x, key))
        return x;
    X509_free(x);
    return NULL;
}

static int check_ca(const struct kei_cert *ca, const struct kei_key *ca_key, struct ke_error *err)
{
    if (!kei_cert_matches(ca, ca_key))
        return kei_error(err, KE_EKEY, "the CA's key does not belong to the CA's certificate");
    return 0;
}

int kei_ca_sign_server(struct kei_cert **ret, const struct kei_cert *ca,
                       const struct kei_key *ca_key, const struct kei_key *k,
                       const char *const *names, size_t n, int64_t now, int64_t seconds,
                       struct ke_error *err)
{
    static const uint8_t eku[] = {1};
    struct in6_addr ip;
    int r = check_times(now, seconds, err);
    if (r == 0)
        r = check_ca(ca, ca_key, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (inet_pton(AF_INET, names[i], &ip) != 1 && inet_pton(AF_INET6, names[i], &ip) != 1 &&
            !dns_name(names[i]))
            r = kei_error(err, KE_EINVAL,
                          "%s is neither an address nor a DNS name for the server's certificate",
                          names[i]);
    }
    if (r < 0)
        return r;
    ERR_clear_error();
    X509 *x = leaf_new(ca, k->p, now, seconds);
    X509_NAME *subject = x ? X509_get_subject_name(x) : NULL;
    bool ok = x && kei_name_add(subject, NID_organizationName, "KubeEdge") &&
              kei_name_add(subject, NID_commonName, "KubeEdge") && add_key_usage(x, false) &&
              add_eku(x, eku, sizeof eku) && add_aki(x, ca->x) && add_names(x, names, n) &&
              sign(x, ca_key->p);
    return finish(ret, ca->c, x, ok, "the server's certificate", err);
}

static int check_eku(const uint8_t *eku, size_t n, struct ke_error *err)
{
    if (n > EKU_MAX)
        return kei_error(err, KE_ELIMIT, "%zu extended key usages were asked for, the limit is %d",
                         n, EKU_MAX);
    for (size_t i = 0; i < n; i++) {
        if (eku_nid(eku[i]) == NID_undef)
            return kei_error(err, KE_EINVAL, "extended key usage %u is not known", eku[i]);
    }
    return 0;
}

int kei_ca_sign_csr(struct kei_cert **ret, const struct kei_cert *ca, const struct kei_key *ca_key,
                    struct ke_str csr_der, const uint8_t *eku, size_t n_eku, int64_t now,
                    int64_t seconds, struct ke_error *err)
{
    static const uint8_t client[] = {2};
    char cn[256], org[256];
    X509_REQ *req = NULL;
    int r = check_times(now, seconds, err);
    if (r == 0)
        r = check_eku(eku, n_eku, err);
    if (r == 0)
        r = check_ca(ca, ca_key, err);
    if (r == 0)
        r = kei_csr_read(&req, ca->c, csr_der, err);
    if (r < 0)
        return r;
    const X509_NAME *from = X509_REQ_get_subject_name(req);
    r = kei_name_get(from, NID_commonName, true, cn, "the certificate request", err);
    if (r == 0)
        r = kei_name_get(from, NID_organizationName, false, org, "the certificate request", err);
    if (r == 0 && cn[0] == '\0')
        r = kei_error(err, KE_ECERT, "the certificate request names nobody (CN)");
    if (r < 0) {
        X509_REQ_free(req);
        return r;
    }
    ERR_clear_error();
    X509 *x = leaf_new(ca, X509_REQ_get0_pubkey(req), now, seconds);
    X509_NAME *subject = x ? X509_get_subject_name(x) : NULL;
    bool ok = x && (org[0] == '\0' || kei_name_add(subject, NID_organizationName, org)) &&
              kei_name_add(subject, NID_commonName, cn) && add_key_usage(x, false) &&
              add_eku(x, n_eku ? eku : client, n_eku ? n_eku : sizeof client) &&
              add_aki(x, ca->x) && sign(x, ca_key->p);
    X509_REQ_free(req);
    return finish(ret, ca->c, x, ok, "the node's certificate", err);
}
