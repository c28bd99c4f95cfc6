/* SPDX-License-Identifier: Apache-2.0 */
/* See fixture.h. */
#include "crypto/fixture.h"

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/file.h"

void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->err = (struct ke_error)KE_ERROR_INIT;
    test_env_init(&f->env, 0);
    f->ctx = f->env.ctx;
    if (kei_crypto_get(f->ctx, &f->c) < 0)
        fail_msg("no crypto: %s", ke_ctx_error(f->ctx));
}

void fixture_fini(struct fixture *f)
{
    assert_int_equal(ERR_peek_error(), 0); /* nothing is left in the host's queue */
    test_env_fini(&f->env);
}

struct ke_buf fixture_buf(struct fixture *f)
{
    struct ke_buf b;
    kei_buf_init(&b, kei_ctx_alloc(f->ctx));
    return b;
}

struct ke_buf fixture_data(struct fixture *f, const char *name)
{
    struct ke_buf b = fixture_buf(f);
    char path[512];
    const char *tests = getenv("KE_TESTS");
    snprintf(path, sizeof path, "%s/crypto/data/%s", tests ? tests : "tests", name);
    assert_ok(f, kei_file_read(ke_io_posix(), path, 1 << 20, &b, &f->err));
    return b;
}

void pki_make(struct pki *p, struct fixture *f)
{
    static const char *const names[] = {"localhost", "cloud.example", "127.0.0.1", "::1"};
    struct ke_buf csr = fixture_buf(f);
    memset(p, 0, sizeof *p);
    assert_ok(f, kei_key_new_p256(&p->ca_key, f->c, &f->err));
    assert_ok(f, kei_key_new_p256(&p->server_key, f->c, &f->err));
    assert_ok(f, kei_key_new_p256(&p->node_key, f->c, &f->err));
    assert_ok(f, kei_ca_make(&p->ca, p->ca_key, NOW - 1000, &f->err));
    assert_ok(f, kei_ca_sign_server(&p->server, p->ca, p->ca_key, p->server_key, names, 4,
                                    NOW - 1000, 100000, &f->err));
    assert_ok(f, kei_csr_make(&csr, p->node_key, "system:nodes", "system:node:n1", &f->err));
    assert_ok(f, kei_ca_sign_csr(&p->node, p->ca, p->ca_key, kei_buf_str(&csr), NULL, 0, NOW - 1000,
                                 100000, &f->err));
    ke_buf_free(&csr);
}

void pki_free(struct pki *p)
{
    kei_cert_free(p->node);
    kei_cert_free(p->server);
    kei_cert_free(p->ca);
    kei_key_free(p->node_key);
    kei_key_free(p->server_key);
    kei_key_free(p->ca_key);
    memset(p, 0, sizeof *p);
}

/* ---- OpenSSL's memory ---- */

static atomic_size_t live, calls, fail_at, failed;
static atomic_bool fail_rest;

static bool refuse(void)
{
    size_t call = atomic_fetch_add(&calls, 1) + 1, at = atomic_load(&fail_at);
    if (at == 0 || (call != at && !(call > at && atomic_load(&fail_rest))))
        return false;
    atomic_fetch_add(&failed, 1);
    return true;
}

static void *ossl_malloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    void *p = refuse() ? NULL : malloc(n);
    if (p)
        atomic_fetch_add(&live, 1);
    return p;
}

static void ossl_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    if (p)
        atomic_fetch_sub(&live, 1);
    free(p);
}

static void *ossl_realloc(void *p, size_t n, const char *file, int line)
{
    if (!p)
        return ossl_malloc(n, file, line);
    if (n == 0) {
        ossl_free(p, file, line);
        return NULL;
    }
    return refuse() ? NULL : realloc(p, n);
}

void ossl_hook(void)
{
    if (!CRYPTO_set_mem_functions(ossl_malloc, ossl_realloc, ossl_free)) {
        fprintf(stderr, "OpenSSL has allocated before main\n");
        exit(1);
    }
}

size_t ossl_live(void)
{
    return atomic_load(&live);
}

void ossl_fail_at(size_t n, bool rest)
{
    atomic_store(&failed, 0);
    atomic_store(&fail_rest, rest);
    atomic_store(&fail_at, n ? atomic_load(&calls) + n : 0);
}

size_t ossl_failed(void)
{
    return atomic_load(&failed);
}

/* true when something was refused; *ret_grown: blocks that are there and were not before */
static bool fail_one(int (*fn)(void *arg), void *arg, size_t n, bool rest, size_t *ret_grown)
{
    size_t before = ossl_live();
    ossl_fail_at(n, rest);
    int r = fn(arg);
    bool met = ossl_failed() > 0;
    ossl_fail_at(0, false);
    ERR_clear_error();
    if (!met && r != 0)
        fail_msg("failed with %s although nothing was refused", ke_strerror(r));
    *ret_grown = ossl_live() > before ? ossl_live() - before : 0;
    return met;
}

void ossl_fail_each(int (*fn)(void *arg), void *arg, bool rest, size_t stride)
{
    const char *step = getenv("KE_ALLOC_STEP");
    if (step)
        stride *= strtoul(step, NULL, 10);
    for (int i = 0; i < 3; i++) /* OpenSSL fills its caches */
        assert_int_equal(fn(arg), 0);
    size_t n = 1, grown;
    while (fail_one(fn, arg, n, rest, &grown)) {
        /* Caches fill, as does the thread's ring of errors. A leak never ends. */
        for (int i = 0; grown > 0 && i < 40; i++)
            fail_one(fn, arg, n, rest, &grown);
        if (grown > 0)
            fail_msg("%zu blocks leaked when allocation %zu failed", grown, n);
        if (n / stride % 50 == 0)
            assert_int_equal(fn(arg), 0); /* and all is well again */
        n += stride;
    }
    assert_int_equal(fn(arg), 0);
    assert_true(n > stride);
}
