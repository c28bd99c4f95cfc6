/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Password hashes in the text form of mosquitto: $7$ITERATIONS$SALT$HASH, PBKDF2 with
 * HMAC-SHA512, salt and 64 bytes of hash in base64. Pure, nothing kept; any thread.
 */
#include <openssl/crypto.h>

#include "base/codec.h"
#include "crypto/crypto_priv.h"

#define PREFIX "$7$"
#define SALT_MAX 256
#define ITERATIONS_MAX                                                                             \
    1000000u /* about a second: a line in a file may not stop the loop for long */

int kei_password_hash(struct ke_buf *out, struct ke_str password, const uint8_t *salt,
                      size_t salt_n, uint32_t iterations, struct ke_error *err)
{
    uint8_t hash[64];
    if (salt_n == 0 || salt_n > SALT_MAX || iterations == 0 || iterations > ITERATIONS_MAX)
        return kei_error(err, KE_EINVAL,
                         "a password hash takes 1 to %d bytes of salt and 1 to %u iterations",
                         SALT_MAX, ITERATIONS_MAX);
    kei_pbkdf2_sha512(password, kei_strn((const char *)salt, salt_n), iterations, hash);
    kei_buf_adds(out, PREFIX);
    kei_buf_addi(out, iterations);
    kei_buf_addc(out, '$');
    kei_b64_encode(out, salt, salt_n);
    kei_buf_addc(out, '$');
    kei_b64_encode(out, hash, sizeof hash);
    OPENSSL_cleanse(hash, sizeof hash);
    if (!kei_buf_ok(out))
        return kei_error(err, KE_ENOMEM, "out of memory for a password hash");
    return 0;
}

bool kei_password_check(struct ke_str password, struct ke_str hash)
{
    char salt_mem[SALT_MAX + 4], want_mem[72]; /* decoding needs a little more than it gives */
    struct ke_buf salt = kei_buf_fixed(salt_mem, sizeof salt_mem);
    struct ke_buf want = kei_buf_fixed(want_mem, sizeof want_mem);
    struct ke_str rest;
    uint64_t iterations;
    uint8_t got[64];

    if (!kei_str_starts(hash, KEI_STR(PREFIX)))
        return false;
    rest = kei_strn(hash.p + sizeof PREFIX - 1, hash.n - (sizeof PREFIX - 1));
    if (!kei_str_u64(kei_str_cut(rest, '$', &rest), &iterations) || iterations == 0 ||
        iterations > ITERATIONS_MAX)
        return false;
    if (!kei_b64_decode(&salt, kei_str_cut(rest, '$', &rest)) || salt.n == 0)
        return false;
    if (!kei_b64_decode(&want, rest) || want.n != sizeof got)
        return false;
    kei_pbkdf2_sha512(password, kei_buf_str(&salt), (uint32_t)iterations, got);
    bool same = kei_equal_ct(got, want.p, sizeof got);
    OPENSSL_cleanse(got, sizeof got);
    return same;
}
