/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Password hashes in the text forms of mosquitto: $7$ITERATIONS$SALT$HASH, PBKDF2 with HMAC-SHA512,
 * and the older $6$SALT$HASH, SHA-512 of password and salt; salt and 64 bytes of hash in base64.
 * Pure; a computation in steps is its caller's, any one thread at a time.
 */
#include <openssl/crypto.h>

#include "base/alloc.h"
#include "base/codec.h"
#include "crypto/crypto_priv.h"

#define PREFIX "$7$"
#define PREFIX_OLD "$6$"
#define SALT_MAX 256
#define ITERATIONS_MAX                                                                             \
    1000000u /* about a second: a line in a file may not stop the loop for long */

struct kei_password {
    const struct ke_alloc *alloc;
    uint32_t iterations; /* 0: the older form */
    size_t salt_n;
    uint8_t salt[SALT_MAX + 4], want[72]; /* decoding needs a little more than it gives */
    struct kei_pbkdf2 work;
};

/* A salt and a hash out of the text of one. */
static bool parse(struct kei_password *p, struct ke_str hash)
{
    struct ke_buf salt = kei_buf_fixed((char *)p->salt, sizeof p->salt);
    struct ke_buf want = kei_buf_fixed((char *)p->want, sizeof p->want);
    bool old = kei_str_starts(hash, KEI_STR(PREFIX_OLD));
    uint64_t iterations = 0;
    if (!old && !kei_str_starts(hash, KEI_STR(PREFIX)))
        return false;
    struct ke_str rest = kei_strn(hash.p + sizeof PREFIX - 1, hash.n - (sizeof PREFIX - 1));
    if (!old && (!kei_str_u64(kei_str_cut(rest, '$', &rest), &iterations) || iterations == 0 ||
                 iterations > ITERATIONS_MAX))
        return false;
    if (!kei_b64_decode(&salt, kei_str_cut(rest, '$', &rest)) || salt.n == 0)
        return false;
    if (!kei_b64_decode(&want, rest) || want.n != sizeof p->work.out)
        return false;
    p->iterations = (uint32_t)iterations;
    p->salt_n = salt.n;
    return true;
}

static void begin(struct kei_password *p, struct ke_str password)
{
    struct ke_str salt = kei_strn((const char *)p->salt, p->salt_n);
    if (p->iterations)
        kei_pbkdf2_begin(&p->work, password, salt, p->iterations);
    else
        kei_sha512_two(password, salt, p->work.out);
}

static int check_salt(size_t salt_n, uint32_t iterations, struct ke_error *err)
{
    if (salt_n == 0 || salt_n > SALT_MAX || iterations > ITERATIONS_MAX)
        return kei_error(err, KE_EINVAL,
                         "a password hash takes 1 to %d bytes of salt and up to %u iterations",
                         SALT_MAX, ITERATIONS_MAX);
    return 0;
}

static int write_text(const struct kei_password *p, struct ke_buf *out, struct ke_error *err)
{
    kei_buf_adds(out, p->iterations ? PREFIX : PREFIX_OLD);
    if (p->iterations) {
        kei_buf_addi(out, p->iterations);
        kei_buf_addc(out, '$');
    }
    kei_b64_encode(out, p->salt, p->salt_n);
    kei_buf_addc(out, '$');
    kei_b64_encode(out, p->work.out, sizeof p->work.out);
    if (!kei_buf_ok(out))
        return kei_error(err, KE_ENOMEM, "out of memory for a password hash");
    return 0;
}

int kei_password_hash(struct ke_buf *out, struct ke_str password, const uint8_t *salt,
                      size_t salt_n, uint32_t iterations, struct ke_error *err)
{
    struct kei_password p = {.iterations = iterations, .salt_n = salt_n};
    int r = check_salt(salt_n, iterations, err);
    if (r < 0)
        return r;
    memcpy(p.salt, salt, salt_n);
    begin(&p, password);
    kei_password_step(&p, UINT32_MAX);
    r = write_text(&p, out, err);
    OPENSSL_cleanse(&p, sizeof p);
    return r;
}

bool kei_password_check(struct ke_str password, struct ke_str hash)
{
    struct kei_password p = {0};
    if (!parse(&p, hash))
        return false;
    begin(&p, password);
    kei_password_step(&p, UINT32_MAX);
    bool same = kei_password_same(&p);
    OPENSSL_cleanse(&p, sizeof p);
    return same;
}

bool kei_password_form(struct ke_str hash, uint32_t *ret_iterations)
{
    struct kei_password p = {0};
    if (!parse(&p, hash))
        return false;
    *ret_iterations = p.iterations;
    return true;
}

/* ---- in steps ---- */

static struct kei_password *password_new(const struct ke_alloc *a, struct ke_error *err)
{
    struct kei_password *p = kei_zalloc(a, sizeof *p);
    if (p)
        p->alloc = a;
    else
        kei_error(err, KE_ENOMEM, "out of memory for a password hash");
    return p;
}

int kei_password_begin_hash(struct kei_password **ret, const struct ke_alloc *a,
                            struct ke_str password, const uint8_t *salt, size_t salt_n,
                            uint32_t iterations, struct ke_error *err)
{
    int r = check_salt(salt_n, iterations, err);
    struct kei_password *p = r == 0 ? password_new(a, err) : NULL;
    if (!p)
        return r < 0 ? r : KE_ENOMEM;
    memcpy(p->salt, salt, salt_n);
    p->salt_n = salt_n;
    p->iterations = iterations;
    begin(p, password);
    *ret = p;
    return 0;
}

int kei_password_begin_check(struct kei_password **ret, const struct ke_alloc *a,
                             struct ke_str password, struct ke_str hash, struct ke_error *err)
{
    struct kei_password *p = password_new(a, err);
    if (!p)
        return KE_ENOMEM;
    if (!parse(p, hash)) {
        kei_password_free(p);
        return kei_error(err, KE_EPARSE, "a password hash is neither $6$ nor $7$ of %u iterations",
                         ITERATIONS_MAX);
    }
    begin(p, password);
    *ret = p;
    return 0;
}

bool kei_password_step(struct kei_password *p, uint32_t n)
{
    return p->iterations == 0 || kei_pbkdf2_step(&p->work, n);
}

bool kei_password_same(const struct kei_password *p)
{
    return kei_equal_ct(p->work.out, p->want, sizeof p->work.out);
}

int kei_password_text(const struct kei_password *p, struct ke_buf *out, struct ke_error *err)
{
    return write_text(p, out, err);
}

void kei_password_free(struct kei_password *p)
{
    if (!p)
        return;
    const struct ke_alloc *a = p->alloc;
    OPENSSL_cleanse(p, sizeof *p);
    kei_free(a, p);
}
