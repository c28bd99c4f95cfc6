/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates, requests and keys as a peer or a file may hold them. What is accepted can be
 * written and read again and then says the same. First byte: 0 certificate (DER), 1 certificate
 * (PEM), 2 request, 3 key (DER), 4 key (PEM).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <kubeedge/ctx.h>

#include "base/loop.h"
#include "crypto/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

#define NOW INT64_C(1796083200)

static struct ke_ctx *ctx;
static struct kei_crypto *crypto;
static struct kei_key *ca_key;
static struct kei_cert *ca;

static void set_up(void)
{
    struct ke_error err = KE_ERROR_INIT;
    MUST(ke_ctx_new(&ctx, NULL, &err) == 0);
    MUST(kei_crypto_get(ctx, &crypto) == 0);
    MUST(kei_key_new_p256(&ca_key, crypto, &err) == 0);
    MUST(kei_ca_make(&ca, ca_key, NOW, &err) == 0);
}

static void cert(struct ke_str in, bool pem)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_cert *x, *again;
    struct kei_cert_info a, b;
    struct ke_buf der;
    int r = pem ? kei_cert_from_pem(&x, crypto, in, &err) : kei_cert_from_der(&x, crypto, in, &err);
    if (r < 0) {
        MUST(err.code == r && err.text[0]);
        return;
    }
    MUST(kei_cert_verify(x, ca, true, NOW, &err) < 0); /* nothing here is signed by this CA */
    MUST(!kei_cert_matches(x, ca_key));
    kei_buf_init(&der, kei_ctx_alloc(ctx));
    MUST(kei_cert_der(x, &der, &err) == 0);
    MUST(kei_cert_from_der(&again, crypto, kei_buf_str(&der), &err) == 0);
    r = kei_cert_info(x, &a, &err);
    MUST(kei_cert_info(again, &b, &err) == r);
    if (r == 0) {
        MUST(strcmp(a.cn, b.cn) == 0 && strcmp(a.org, b.org) == 0);
        MUST(a.not_before == b.not_before && a.not_after == b.not_after);
        MUST(memcmp(a.sha256, b.sha256, sizeof a.sha256) == 0 && a.is_ca == b.is_ca);
    }
    ke_buf_free(&der);
    kei_cert_free(again);
    kei_cert_free(x);
}

static void request(struct ke_str in)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_cert *x = NULL;
    struct kei_cert_info info;
    char cn[256], org[256];
    int r = kei_csr_info(crypto, in, cn, org, &err);
    int signed_r = kei_ca_sign_csr(&x, ca, ca_key, in, NULL, 0, NOW, 1000, &err);
    MUST((r == 0 && cn[0]) == (signed_r == 0));
    if (signed_r < 0)
        return;
    MUST(kei_cert_info(x, &info, &err) == 0);
    MUST(strcmp(info.cn, cn) == 0 && strcmp(info.org, org) == 0 && !info.is_ca);
    MUST(kei_cert_verify(x, ca, true, NOW, &err) == 0);
    MUST(kei_cert_verify(x, ca, false, NOW, &err) < 0);
    kei_cert_free(x);
}

static void key(struct ke_str in, bool pem)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_key *k, *again;
    struct ke_buf der;
    int r = pem ? kei_key_from_pem(&k, crypto, in, &err) : kei_key_from_der(&k, crypto, in, &err);
    if (r < 0) {
        MUST(err.code == r && err.text[0]);
        return;
    }
    kei_buf_init(&der, kei_ctx_alloc(ctx));
    if (kei_key_der(k, &der, &err) == 0) {
        MUST(kei_key_from_der(&again, crypto, kei_buf_str(&der), &err) == 0);
        kei_key_free(again);
    }
    ke_buf_free(&der);
    kei_key_free(k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!ctx)
        set_up();
    if (size == 0)
        return 0;
    /* of exactly its size, so that reading past it shows */
    char *copy = malloc(size);
    MUST(copy);
    memcpy(copy, data + 1, size - 1);
    struct ke_str in = kei_strn(copy, size - 1);
    switch (data[0] % 5) {
    case 0:
        cert(in, false);
        break;
    case 1:
        cert(in, true);
        break;
    case 2:
        request(in);
        break;
    case 3:
        key(in, false);
        break;
    default:
        key(in, true);
        break;
    }
    free(copy);
    return 0;
}
