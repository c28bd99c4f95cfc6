/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests, HMAC and PBKDF2. They are asked for without a context and may not fail, so they use the
 * plain functions of libcrypto: EVP would go to the default library context, which is the host's,
 * and would read its configuration. Pure, nothing is allocated; any thread.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>

#include "crypto/crypto_priv.h"

#define BLOCK_MAX 128

struct kei_hash_type {
    size_t len, block;
    void (*init)(union kei_hash_state *s);
    void (*update)(union kei_hash_state *s, const void *p, size_t n);
    void (*final)(union kei_hash_state *s, uint8_t *out);
};

static void init256(union kei_hash_state *s)
{
    SHA256_Init(&s->s256);
}

static void update256(union kei_hash_state *s, const void *p, size_t n)
{
    SHA256_Update(&s->s256, p, n);
}

static void final256(union kei_hash_state *s, uint8_t *out)
{
    SHA256_Final(out, &s->s256);
}

static void init384(union kei_hash_state *s)
{
    SHA384_Init(&s->s512);
}

static void final384(union kei_hash_state *s, uint8_t *out)
{
    SHA384_Final(out, &s->s512);
}

static void init512(union kei_hash_state *s)
{
    SHA512_Init(&s->s512);
}

static void update512(union kei_hash_state *s, const void *p, size_t n)
{
    SHA512_Update(&s->s512, p, n);
}

static void final512(union kei_hash_state *s, uint8_t *out)
{
    SHA512_Final(out, &s->s512);
}

static const struct kei_hash_type hash_types[] = {
    [KEI_HASH_SHA256] = {32, 64, init256, update256, final256},
    [KEI_HASH_SHA384] = {48, 128, init384, update512, final384},
    [KEI_HASH_SHA512] = {64, 128, init512, update512, final512},
};

void kei_sha1(const void *p, size_t n, uint8_t out[20])
{
    SHA_CTX s;
    SHA1_Init(&s);
    SHA1_Update(&s, p, n);
    SHA1_Final(out, &s);
}

void kei_sha256(const void *p, size_t n, uint8_t out[32])
{
    SHA256_CTX s;
    SHA256_Init(&s);
    SHA256_Update(&s, p, n);
    SHA256_Final(out, &s);
}

bool kei_equal_ct(const void *a, const void *b, size_t n)
{
    return n == 0 || CRYPTO_memcmp(a, b, n) == 0;
}

size_t kei_hash_len(enum kei_hash h)
{
    return hash_types[h].len;
}

/* ---- HMAC (RFC 2104): the two states after the padded key, copied for each text ---- */

static void hmac_init(struct kei_hmac_state *m, enum kei_hash h, struct ke_str key)
{
    uint8_t block[BLOCK_MAX] = {0};
    m->t = &hash_types[h];
    if (key.n > m->t->block) {
        m->t->init(&m->inner);
        m->t->update(&m->inner, key.p, key.n);
        m->t->final(&m->inner, block);
    } else if (key.n > 0) {
        memcpy(block, key.p, key.n);
    }
    for (size_t i = 0; i < m->t->block; i++)
        block[i] ^= 0x36;
    m->t->init(&m->inner);
    m->t->update(&m->inner, block, m->t->block);
    for (size_t i = 0; i < m->t->block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    m->t->init(&m->outer);
    m->t->update(&m->outer, block, m->t->block);
    OPENSSL_cleanse(block, sizeof block);
}

/* text is followed by tail, which may be empty */
static void hmac_once(const struct kei_hmac_state *m, struct ke_str text, struct ke_str tail,
                      uint8_t *out)
{
    union kei_hash_state s = m->inner;
    m->t->update(&s, text.p, text.n);
    m->t->update(&s, tail.p, tail.n);
    m->t->final(&s, out);
    s = m->outer;
    m->t->update(&s, out, m->t->len);
    m->t->final(&s, out);
    OPENSSL_cleanse(&s, sizeof s);
}

void kei_hmac(enum kei_hash h, struct ke_str key, struct ke_str text, uint8_t *out)
{
    struct kei_hmac_state m;
    hmac_init(&m, h, key);
    hmac_once(&m, text, kei_strn(NULL, 0), out);
    OPENSSL_cleanse(&m, sizeof m);
}

int kei_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[32])
{
    kei_hmac(KEI_HASH_SHA256, kei_strn(key, key_n), kei_strn(p, n), out);
    return 0;
}

void kei_sha512_two(struct ke_str a, struct ke_str b, uint8_t out[64])
{
    SHA512_CTX s;
    SHA512_Init(&s);
    SHA512_Update(&s, a.p, a.n);
    SHA512_Update(&s, b.p, b.n);
    SHA512_Final(out, &s);
    OPENSSL_cleanse(&s, sizeof s);
}

/* RFC 8018, one block of output */
void kei_pbkdf2_begin(struct kei_pbkdf2 *p, struct ke_str password, struct ke_str salt,
                      uint32_t iterations)
{
    static const char first_block[4] = {0, 0, 0, 1};
    hmac_init(&p->mac, KEI_HASH_SHA512, password);
    hmac_once(&p->mac, salt, kei_strn(first_block, sizeof first_block), p->u);
    memcpy(p->out, p->u, sizeof p->u);
    p->left = iterations - 1;
}

bool kei_pbkdf2_step(struct kei_pbkdf2 *p, uint32_t n)
{
    for (; n > 0 && p->left > 0; n--, p->left--) {
        hmac_once(&p->mac, kei_strn((const char *)p->u, sizeof p->u), kei_strn(NULL, 0), p->u);
        for (size_t k = 0; k < sizeof p->u; k++)
            p->out[k] ^= p->u[k];
    }
    return p->left == 0;
}

void kei_pbkdf2_sha512(struct ke_str password, struct ke_str salt, uint32_t iterations,
                       uint8_t out[64])
{
    struct kei_pbkdf2 p;
    kei_pbkdf2_begin(&p, password, salt, iterations);
    kei_pbkdf2_step(&p, UINT32_MAX);
    memcpy(out, p.out, sizeof p.out);
    OPENSSL_cleanse(&p, sizeof p);
}
