/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PEM blocks. Reading goes through OpenSSL's reader by label, so that a file may hold a key and its
 * certificate in any order; nothing here asks for a pass phrase. Loop thread.
 */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/codec.h"
#include "crypto/crypto_priv.h"

#define LINE_BYTES 48 /* 64 characters */

static const char *label_in(const char *name, const char *const *labels)
{
    for (; *labels; labels++) {
        if (strcmp(name, *labels) == 0)
            return *labels;
    }
    return NULL;
}

/* 1: *ret filled; 0: a block of another kind; negative: no further block or a malformed one */
static int next_block(BIO *in, struct kei_pem *ret, const char *const *labels, struct ke_error *err)
{
    char *name = NULL, *header = NULL;
    struct kei_pem got = {NULL, 0, NULL};
    int r = 0;
    if (!PEM_read_bio(in, &name, &header, &got.der, &got.n)) {
        if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
            ERR_clear_error();
            return kei_error(err, KE_ENOTFOUND, "there is no PEM block of the kind %s", labels[0]);
        }
        return kei_ossl_error(err, KE_EPARSE, "a PEM block is malformed");
    }
    got.label = label_in(name, labels);
    if (got.label && header[0] != '\0')
        r = kei_error(err, KE_ENOTSUP, "the PEM block %s is encrypted: store it decrypted", name);
    else if (got.label)
        r = 1;
    OPENSSL_free(name);
    OPENSSL_free(header);
    if (r == 1)
        *ret = got;
    else
        kei_pem_free(&got);
    return r;
}

int kei_pem_find(struct kei_pem *ret, struct ke_str text, const char *const *labels,
                 struct ke_error *err)
{
    if (text.n > KEI_PEM_MAX)
        return kei_error(err, KE_ELIMIT, "the PEM text has %zu bytes, the limit is %u", text.n,
                         KEI_PEM_MAX);
    ERR_clear_error();
    BIO *in = BIO_new_mem_buf(text.n ? text.p : "", (int)text.n);
    if (!in)
        return kei_ossl_error(err, KE_ENOMEM, "the PEM text could not be read");
    int r;
    do {
        r = next_block(in, ret, labels, err);
    } while (r == 0);
    BIO_free(in);
    return r < 0 ? r : 0;
}

void kei_pem_free(struct kei_pem *p)
{
    if (p->der)
        OPENSSL_clear_free(p->der, (size_t)p->n);
    p->der = NULL;
    p->n = 0;
}

int kei_pem_write(struct ke_buf *out, const char *label, const void *der, size_t n,
                  struct ke_error *err)
{
    const char *p = der;
    /* All room at once: growing step by step would leave copies of a key behind. */
    kei_buf_room(out, n / LINE_BYTES * 65 + 2 * strlen(label) + 128);
    kei_buf_addf(out, "-----BEGIN %s-----\n", label);
    for (size_t at = 0; at < n; at += LINE_BYTES) {
        kei_b64_encode(out, p + at, n - at < LINE_BYTES ? n - at : LINE_BYTES);
        kei_buf_addc(out, '\n');
    }
    kei_buf_addf(out, "-----END %s-----\n", label);
    if (!kei_buf_ok(out))
        return kei_error(err, KE_ENOMEM, "out of memory for a PEM text");
    return 0;
}
