/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One OpenSSL library context per ke_ctx, kept in a slot of it: the host's openssl.cnf, default
 * properties and providers stay outside, and ours are gone with the context. Loop thread.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/loop.h"
#include "crypto/crypto_priv.h"

static const char slot_key; /* its address is the key */

static void crypto_free(void *p)
{
    struct kei_crypto *c = p;
    kei_modules_free(c);
    if (c->dflt)
        OSSL_PROVIDER_unload(c->dflt);
    OSSL_LIB_CTX_free(c->lib);
    kei_free(c->alloc, c);
}

static int crypto_open(struct kei_crypto *c)
{
    /*
     * Without this the exit handler of OpenSSL would free what a thread of ours may still use while
     * the process ends. No effect if the host has initialised OpenSSL before. The configuration
     * file is not mentioned here: whether it is loaded into the default context is the host's.
     */
    if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL))
        return kei_ossl_error(kei_err(c->ctx), KE_ESYS, "OpenSSL could not be initialised");
    c->lib = OSSL_LIB_CTX_new();
    if (c->lib)
        c->dflt = OSSL_PROVIDER_load(c->lib, "default");
    if (!c->dflt)
        return kei_ossl_error(kei_err(c->ctx), KE_ESYS,
                              "OpenSSL could not make a context with its default provider");
    return 0;
}

int kei_crypto_get(struct ke_ctx *ctx, struct kei_crypto **ret)
{
    struct kei_crypto *c = kei_ctx_slot_get(ctx, &slot_key);
    if (c) {
        *ret = c;
        return 0;
    }
    c = kei_zalloc(kei_ctx_alloc(ctx), sizeof *c);
    if (!c)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the crypto context");
    c->ctx = ctx;
    c->alloc = kei_ctx_alloc(ctx);
    int r = crypto_open(c);
    if (r == 0)
        r = kei_ctx_slot_set(ctx, &slot_key, c, crypto_free);
    if (r < 0) {
        crypto_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

void kei_crypto_leave(struct kei_crypto *c)
{
    OPENSSL_thread_stop_ex(c->lib);
    kei_modules_leave(c);
}

/* The reason that is worth telling: the first error of the queue, unless memory ran out. */
static int take_reason(int code, char *text, size_t n)
{
    const char *file, *func, *data;
    int line, flags;
    unsigned long e, first = 0;
    text[0] = '\0';
    while ((e = ERR_get_error_all(&file, &line, &func, &data, &flags)) != 0) {
        if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE)
            code = KE_ENOMEM;
        if (first)
            continue;
        first = e;
        const char *reason = ERR_SYSTEM_ERROR(e) ? NULL : ERR_reason_error_string(e);
        const char *more = flags & ERR_TXT_STRING ? data : "";
        if (reason)
            snprintf(text, n, ": %s%s%s", reason, more[0] ? ", " : "", more);
        else
            snprintf(text, n, ": error %08lX%s%s", e, more[0] ? ", " : "", more);
    }
    return code;
}

int kei_ossl_error(struct ke_error *err, int code, const char *fmt, ...)
{
    char what[KE_ERROR_TEXT_MAX], reason[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    code = take_reason(code, reason, sizeof reason);
    if (code == KE_ENOMEM)
        return kei_error(err, code, "%s: out of memory", what);
    return kei_error(err, code, "%s%s", what, reason);
}
