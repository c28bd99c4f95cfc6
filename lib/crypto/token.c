/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Join tokens: the hash of the cloud's CA, a dot, and a JWT whose HMAC key is the CA's private key
 * (DER). Pure; a token is decoded on the stack, so its parts are capped. Any thread.
 */
#include <openssl/crypto.h>

#include "base/codec.h"
#include "base/json.h"
#include "crypto/crypto_priv.h"

#define PART_MAX 2048 /* decoded header or claims; a KubeEdge token has 27 and 18 bytes */
#define PART_DEPTH 8
#define HEX_LEN 64

struct jwt {
    struct ke_str header, claims, signature; /* base64url */
    struct ke_str text;                      /* what is signed: header.claims */
};

static int split(struct jwt *ret, struct ke_str text, struct ke_error *err)
{
    struct ke_str rest;
    ret->header = kei_str_cut(text, '.', &rest);
    ret->claims = kei_str_cut(rest, '.', &rest);
    ret->signature = rest;
    if (!rest.p || ret->header.n == 0 || ret->claims.n == 0 || rest.n == 0 ||
        kei_str_has(rest, KEI_STR(".")))
        return kei_error(err, KE_ETOKEN,
                         "the token's JWT does not have its three parts (header.claims.signature)");
    ret->text = kei_strn(text.p, ret->header.n + 1 + ret->claims.n);
    return 0;
}

/* Decodes a part into out and checks that it is a JSON object. */
static int decode_json(struct ke_buf *out, struct ke_str part, const char *what,
                       struct ke_error *err)
{
    if (part.n > PART_MAX)
        return kei_error(err, KE_ETOKEN, "the token's %s has %zu characters, the limit is %d", what,
                         part.n, PART_MAX);
    if (!kei_b64url_decode(out, part))
        return kei_error(err, KE_ETOKEN, "the token's %s is not base64url", what);
    if (kei_json_check(kei_buf_str(out), PART_DEPTH, NULL) < 0 ||
        kei_json_type(kei_str_trim(kei_buf_str(out))) != '{')
        return kei_error(err, KE_ETOKEN, "the token's %s is not a JSON object", what);
    return 0;
}

/* *ret_exp is 0 if the claim is missing */
static int read_claims(struct ke_str part, int64_t *ret_exp, struct ke_error *err)
{
    char mem[PART_MAX + 4];
    struct ke_buf json = kei_buf_fixed(mem, sizeof mem);
    struct ke_str v;
    int64_t exp = 0;
    int r = decode_json(&json, part, "claims", err);
    if (r < 0)
        return r;
    if (kei_json_get(kei_str_trim(kei_buf_str(&json)), "exp", &v) &&
        (!kei_json_i64(v, &exp) || exp <= 0))
        return kei_error(err, KE_ETOKEN,
                         "the token's claim exp is not a time in seconds since 1970");
    *ret_exp = exp;
    return 0;
}

static int read_header(struct ke_str part, enum kei_hash *ret, struct ke_error *err)
{
    char mem[PART_MAX + 4];
    struct ke_buf json = kei_buf_fixed(mem, sizeof mem);
    struct ke_str alg = {NULL, 0};
    int r = decode_json(&json, part, "header", err);
    if (r < 0)
        return r;
    kei_json_get(kei_str_trim(kei_buf_str(&json)), "alg", &alg);
    if (kei_json_str_is(alg, "HS256"))
        *ret = KEI_HASH_SHA256;
    else if (kei_json_str_is(alg, "HS384"))
        *ret = KEI_HASH_SHA384;
    else if (kei_json_str_is(alg, "HS512"))
        *ret = KEI_HASH_SHA512;
    else
        return kei_error(err, KE_ETOKEN,
                         "the token is signed with %.*s, only HS256, HS384 and HS512 are accepted",
                         alg.p ? (int)(alg.n > 32 ? 32 : alg.n) : 7, alg.p ? alg.p : "nothing");
    return 0;
}

int kei_token_parse(struct kei_token *ret, struct ke_str text, struct ke_error *err)
{
    struct kei_token t = {.exp = 0};
    struct ke_str rest;
    struct jwt jwt;
    enum kei_hash alg;
    text = kei_str_trim(text);
    struct ke_str hex = kei_str_cut(text, '.', &rest);
    if (!rest.p)
        return kei_error(err, KE_ETOKEN,
                         "the token has no dots, it must have four parts "
                         "(hash.header.claims.signature): was it copied whole?");
    if (hex.n != HEX_LEN || !kei_hex_decode(t.ca_sha256, sizeof t.ca_sha256, hex))
        return kei_error(err, KE_ETOKEN,
                         "the token's first part is not the CA's SHA-256 (%d hex digits, found %zu "
                         "characters)",
                         HEX_LEN, hex.n);
    int r = split(&jwt, rest, err);
    if (r == 0)
        r = read_header(jwt.header, &alg, err);
    if (r == 0)
        r = read_claims(jwt.claims, &t.exp, err);
    if (r < 0)
        return r;
    t.jwt = rest;
    *ret = t;
    return 0;
}

int kei_token_make(struct ke_buf *out, struct ke_str ca_der, struct ke_str secret, int64_t exp,
                   struct ke_error *err)
{
    const struct ke_str header = KEI_STR("{\"alg\":\"HS256\",\"typ\":\"JWT\"}");
    uint8_t hash[32];
    char hex[HEX_LEN + 1], claims_mem[64];
    struct ke_buf claims = kei_buf_fixed(claims_mem, sizeof claims_mem);
    if (ca_der.n == 0 || secret.n == 0 || exp <= 0)
        return kei_error(err, KE_EINVAL,
                         "a token needs the CA's certificate, its key and a time in the future");
    kei_sha256(ca_der.p, ca_der.n, hash);
    kei_hex_encode(hex, hash, sizeof hash);
    kei_buf_adds(out, hex);
    kei_buf_addc(out, '.');
    size_t start = out->n;
    kei_b64url_encode(out, header.p, header.n);
    kei_buf_addf(&claims, "{\"exp\":%lld}", (long long)exp);
    kei_buf_addc(out, '.');
    kei_b64url_encode(out, claims.p, claims.n);
    if (kei_buf_ok(out)) {
        kei_hmac_sha256(secret.p, secret.n, out->p + start, out->n - start, hash);
        kei_buf_addc(out, '.');
        kei_b64url_encode(out, hash, sizeof hash);
    }
    if (!kei_buf_ok(out))
        return kei_error(err, KE_ENOMEM, "out of memory for a token");
    return 0;
}

int kei_jwt_verify(struct ke_str jwt_text, struct ke_str secret, int64_t now, struct ke_error *err)
{
    char sig_mem[KEI_HASH_MAX + 8], when[KEI_TIME_MAX];
    struct ke_buf sig = kei_buf_fixed(sig_mem, sizeof sig_mem);
    uint8_t want[KEI_HASH_MAX];
    struct jwt jwt;
    enum kei_hash alg;
    int64_t exp;
    if (secret.n == 0) /* anybody can sign with an empty key */
        return kei_error(err, KE_EINVAL, "there is no key to verify the token with");
    int r = split(&jwt, jwt_text, err);
    if (r == 0)
        r = read_header(jwt.header, &alg, err);
    if (r < 0)
        return r;
    if (!kei_b64url_decode(&sig, jwt.signature))
        return kei_error(err, KE_ETOKEN, "the token's signature is not base64url or too long");
    kei_hmac(alg, secret, jwt.text, want);
    bool same = sig.n == kei_hash_len(alg) && kei_equal_ct(sig.p, want, sig.n);
    OPENSSL_cleanse(want, sizeof want);
    if (!same)
        return kei_error(err, KE_ETOKEN,
                         "the token's signature does not hold: it was made by another cloud");
    r = read_claims(jwt.claims, &exp, err);
    if (r < 0)
        return r;
    if (exp == 0)
        return kei_error(err, KE_ETOKEN, "the token says no time at which it ends (claim exp)");
    if (exp <= now) {
        kei_time_rfc3339(when, exp < KEI_YEAR_9999 ? exp * 1000 : KEI_YEAR_9999 * 1000);
        return kei_error(err, KE_EEXPIRED, "the token ended at %s: get a new one", when);
    }
    return 0;
}
