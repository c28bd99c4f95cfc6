/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Join tokens, JWTs and password hashes as a person or a peer may write them. First byte: 0 token,
 * 1 JWT, 2 password hash.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void token(struct ke_str text)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_token t;
    int r = kei_token_parse(&t, text, &err);
    MUST(r == 0 || (r == KE_ETOKEN && err.text[0]));
    if (r == 0) {
        MUST(t.jwt.p > text.p && t.jwt.p + t.jwt.n <= text.p + text.n);
        MUST(t.exp >= 0);
    }
}

static void jwt(struct ke_str text)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str secret = KEI_STR("a secret of thirty-two bytes ...");
    int r = kei_jwt_verify(text, secret, 1795600000, &err);
    /* The seeds hold no token of this secret that is still good: one that is accepted is forged. */
    MUST(r == KE_ETOKEN || r == KE_EEXPIRED);
}

static void password(struct ke_str text)
{
    /* a million iterations are allowed, and not what is looked for here */
    struct ke_str rest, number = text.n > 3 ? kei_strn(text.p + 3, text.n - 3) : text;
    if (kei_str_cut(number, '$', &rest).n <= 3)
        MUST(!kei_password_check(KEI_STR("not the password"), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* of exactly its size, so that reading past it shows */
    char *copy = malloc(size);
    MUST(copy);
    memcpy(copy, data + 1, size - 1);
    struct ke_str text = kei_strn(copy, size - 1);
    if (data[0] % 3 == 0)
        token(text);
    else if (data[0] % 3 == 1)
        jwt(text);
    else
        password(text);
    free(copy);
    return 0;
}
