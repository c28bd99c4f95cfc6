/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of crypto and TLS: a context with its crypto context, data files, a small PKI, and
 * OpenSSL's own memory under the test's control.
 */
#ifndef TEST_CRYPTO_FIXTURE_H
#define TEST_CRYPTO_FIXTURE_H

#include "support/support.h"

#include "crypto/crypto.h"

#define NOW (TEST_CLOCK_REAL_MS / 1000)

struct fixture {
    struct test_env env;
    struct ke_ctx *ctx;
    struct kei_crypto *c;
    struct ke_error err;
};
void fixture_init(struct fixture *f);
void fixture_fini(struct fixture *f);

/* An empty buffer of the context's memory. */
struct ke_buf fixture_buf(struct fixture *f);
/* The file tests/crypto/data/NAME; free with ke_buf_free. */
struct ke_buf fixture_data(struct fixture *f, const char *name);

#define assert_ok(f, expr)                                                                         \
    do {                                                                                           \
        int ok_r = (expr);                                                                         \
        if (ok_r != 0)                                                                             \
            fail_msg("%s: %s %s", #expr, ke_strerror(ok_r), (f)->err.text);                        \
    } while (0)
/* The call fails with code, and the text holds part. */
#define assert_error(f, expr, want, part)                                                          \
    do {                                                                                           \
        (f)->err = (struct ke_error)KE_ERROR_INIT;                                                 \
        int err_r = (expr);                                                                        \
        if (err_r != (want) || (f)->err.code != (want) || !strstr((f)->err.text, (part)))          \
            fail_msg("%s: %s \"%s\"", #expr, ke_strerror(err_r), (f)->err.text);                   \
    } while (0)

/* A CA, a server's certificate for localhost, cloud.example, 127.0.0.1 and ::1, a node's one. */
struct pki {
    struct kei_key *ca_key, *server_key, *node_key;
    struct kei_cert *ca, *server, *node;
};
void pki_make(struct pki *p, struct fixture *f);
void pki_free(struct pki *p);

/* ---- OpenSSL's memory ---- */

/* First thing in main: before OpenSSL has allocated anything. */
void ossl_hook(void);
size_t ossl_live(void);
/* The n-th allocation from here on fails, and if rest is true all after it; n = 0: none. */
void ossl_fail_at(size_t n, bool rest);
size_t ossl_failed(void); /* how many were refused since then */

/*
 * Runs fn(arg) with the 1st, 1+stride-th, ... allocation of OpenSSL failing (rest: and all after
 * it), until none is left to fail; KE_ALLOC_STEP multiplies the stride. fn returns 0 or a KE_E*.
 * Fails the test on a leak, or when fn does not work any more afterwards.
 */
void ossl_fail_each(int (*fn)(void *arg), void *arg, bool rest, size_t stride);

#endif
