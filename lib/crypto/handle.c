/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private keys that stay where they are (TPM, token). The module that reaches them is an OpenSSL
 * provider and gets a library context of its own, so that its digests, ciphers and random numbers
 * are never taken for ours, and its key for a public one. In our context stands a small provider
 * whose keys are handles: the public half is kept here, signing is passed on. EC keys. Loop thread.
 */
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <stdio.h>

#include "crypto/crypto_priv.h"

#define PROVIDER "kubeedge"
#define DEFAULT_ONLY "provider=default"
#define DEFAULT_FIRST "?provider=default"
#define PARAM_REMOTE "kubeedge-remote"   /* a struct remote *, inside of this file only */
#define SIG_NAME "KUBEEDGE-HANDLE-ECDSA" /* of nobody else, so never found by chance */

struct kei_module {
    char name[32];
    char propq[48]; /* prefers the module to the default provider, which is there for the rest */
    OSSL_LIB_CTX *lib;
    OSSL_PROVIDER *dflt, *p;
};

struct remote {
    EVP_PKEY *key; /* in the module's context */
    const struct kei_module *m;
};

struct handle {
    OSSL_LIB_CTX *lib; /* ours */
    EVP_PKEY *pub;     /* in it; NULL until imported */
    struct remote r;   /* key NULL: a public key only, made for a comparison */
};

/* ---- keys ---- */

static void *key_new(void *provctx)
{
    struct handle *h = OPENSSL_zalloc(sizeof *h);
    if (h)
        h->lib = provctx;
    return h;
}

static void key_free(void *keydata)
{
    struct handle *h = keydata;
    if (!h)
        return;
    EVP_PKEY_free(h->pub);
    EVP_PKEY_free(h->r.key);
    OPENSSL_free(h);
}

static int key_has(const void *keydata, int selection)
{
    const struct handle *h = keydata;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && !h->r.key)
        return 0;
    return h->pub != NULL;
}

static int key_match(const void *a, const void *b, int selection)
{
    const struct handle *x = a, *y = b;
    (void)selection;
    return x->pub && y->pub && EVP_PKEY_eq(x->pub, y->pub) == 1;
}

static int key_get_params(void *keydata, OSSL_PARAM params[])
{
    const struct handle *h = keydata;
    return h->pub && EVP_PKEY_get_params(h->pub, params);
}

static const OSSL_PARAM *key_gettable(void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return list;
}

/* The public half. Whoever wants the private one too gets nothing, and so has to come to us. */
static int key_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *arg)
{
    const struct handle *h = keydata;
    if (!h->pub || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY))
        return 0;
    return EVP_PKEY_export(h->pub, EVP_PKEY_PUBLIC_KEY, cb, arg);
}

static const OSSL_PARAM *key_export_types(int selection)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END,
    };
    return selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY ? NULL : list;
}

/* Takes the public half out of the module, by way of its encoding: modules differ in all else. */
static EVP_PKEY *public_of(EVP_PKEY *key, OSSL_LIB_CTX *lib)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);
    const unsigned char *p = der;
    EVP_PKEY *pub = n > 0 ? d2i_PUBKEY_ex(NULL, &p, n, lib, DEFAULT_ONLY) : NULL;
    OPENSSL_free(der);
    return pub;
}

static EVP_PKEY *public_from(OSSL_LIB_CTX *lib, const OSSL_PARAM params[])
{
    EVP_PKEY *pub = NULL;
    EVP_PKEY_CTX *pc = EVP_PKEY_CTX_new_from_name(lib, "EC", DEFAULT_ONLY);
    if (!pc || EVP_PKEY_fromdata_init(pc) != 1 ||
        EVP_PKEY_fromdata(pc, &pub, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)(uintptr_t)params) != 1)
        pub = NULL;
    EVP_PKEY_CTX_free(pc);
    return pub;
}

static int key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    struct handle *h = keydata;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, PARAM_REMOTE);
    const void *given;
    size_t n;
    if (h->pub)
        return 0;
    if (!p) { /* somebody's public key, to be compared with a handle's */
        if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY &&
            OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PRIV_KEY))
            return 0;
        h->pub = public_from(h->lib, params);
        return h->pub != NULL;
    }
    if (!OSSL_PARAM_get_octet_ptr(p, &given, &n) || n != sizeof(struct remote))
        return 0;
    const struct remote *r = given;
    h->pub = public_of(r->key, h->lib);
    if (!h->pub || !EVP_PKEY_up_ref(r->key))
        return 0;
    h->r = *r;
    return 1;
}

static const OSSL_PARAM *key_import_types(int selection)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_octet_ptr(PARAM_REMOTE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)selection;
    return list;
}

static const char *key_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? SIG_NAME : NULL;
}

/* ---- signing ---- */

struct signing {
    const struct handle *h; /* held by who signs */
    EVP_MD_CTX *md;         /* in the module's context */
    char hash[32];
};

static void *sig_new(void *provctx, const char *propq)
{
    (void)provctx, (void)propq;
    return OPENSSL_zalloc(sizeof(struct signing));
}

static void sig_free(void *ctx)
{
    struct signing *s = ctx;
    if (s)
        EVP_MD_CTX_free(s->md);
    OPENSSL_free(s);
}

/*
 * On its way to us OpenSSL 3 looked up "EC" in our provider and remembers that; the next one who
 * asks for "EC" of any provider may then be given ours, which cannot make keys. Setting the
 * properties they have already makes it forget.
 */
static int forget_lookups(const struct handle *h)
{
    return EVP_set_default_properties(h->lib, DEFAULT_FIRST);
}

static int sig_init(void *ctx, const char *hash, void *keydata, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    (void)params;
    if (keydata)
        s->h = keydata;
    if (!s->h || !s->h->r.key || !hash ||
        snprintf(s->hash, sizeof s->hash, "%s", hash) >= (int)sizeof s->hash)
        return 0;
    EVP_MD_CTX_free(s->md);
    s->md = EVP_MD_CTX_new();
    return s->md && forget_lookups(s->h) &&
           EVP_DigestSignInit_ex(s->md, NULL, s->hash, s->h->r.m->lib, s->h->r.m->propq,
                                 s->h->r.key, NULL) == 1;
}

/* DER of two numbers as large as the field: what any signature fits in */
static size_t sig_room(const struct handle *h)
{
    size_t field = ((size_t)EVP_PKEY_get_bits(h->pub) + 7) / 8, two = 2 * (field + 3);
    return two + (two < 128 ? 2 : 3);
}

static int sig_sign(void *ctx, unsigned char *sig, size_t *n, size_t room,
                    const unsigned char *text, size_t text_n)
{
    struct signing *s = ctx;
    if (!s->md)
        return 0;
    *n = sig ? room : sig_room(s->h);
    return !sig || EVP_DigestSign(s->md, sig, n, text, text_n) == 1;
}

/* AlgorithmIdentifier for each hash: ecdsa-with-SHA256, -384, -512 */
static int sig_get_params(void *ctx, OSSL_PARAM params[])
{
    static const unsigned char head[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                         0x48, 0xce, 0x3d, 0x04, 0x03};
    const struct signing *s = ctx;
    unsigned char id[sizeof head + 1];
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);
    if (!p)
        return 1;
    memcpy(id, head, sizeof head);
    if (strstr(s->hash, "256"))
        id[sizeof head] = 2;
    else if (strstr(s->hash, "384"))
        id[sizeof head] = 3;
    else if (strstr(s->hash, "512"))
        id[sizeof head] = 4;
    else
        return 0;
    return OSSL_PARAM_set_octet_string(p, id, sizeof id);
}

static const OSSL_PARAM *sig_gettable(void *ctx, void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)ctx, (void)provctx;
    return list;
}

/* ---- the provider ---- */

#define FN(f) (void (*)(void))(f)

static const OSSL_DISPATCH key_functions[] = {
    {OSSL_FUNC_KEYMGMT_NEW, FN(key_new)},
    {OSSL_FUNC_KEYMGMT_FREE, FN(key_free)},
    {OSSL_FUNC_KEYMGMT_HAS, FN(key_has)},
    {OSSL_FUNC_KEYMGMT_MATCH, FN(key_match)},
    {OSSL_FUNC_KEYMGMT_GET_PARAMS, FN(key_get_params)},
    {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, FN(key_gettable)},
    {OSSL_FUNC_KEYMGMT_EXPORT, FN(key_export)},
    {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, FN(key_export_types)},
    {OSSL_FUNC_KEYMGMT_IMPORT, FN(key_import)},
    {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, FN(key_import_types)},
    {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, FN(key_operation)},
    {0, NULL},
};

static const OSSL_DISPATCH sig_functions[] = {
    {OSSL_FUNC_SIGNATURE_NEWCTX, FN(sig_new)},
    {OSSL_FUNC_SIGNATURE_FREECTX, FN(sig_free)},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, FN(sig_init)},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, FN(sig_sign)},
    {OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, FN(sig_get_params)},
    {OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, FN(sig_gettable)},
    {0, NULL},
};

static const OSSL_ALGORITHM key_types[] = {
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=" PROVIDER, key_functions, "handles"},
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM sig_types[] = {
    {SIG_NAME, "provider=" PROVIDER, sig_functions, "signing through handles"},
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM *query(void *provctx, int operation, int *no_cache)
{
    (void)provctx;
    *no_cache = 0;
    return operation == OSSL_OP_KEYMGMT     ? key_types
           : operation == OSSL_OP_SIGNATURE ? sig_types
                                            : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, FN(query)},
        {0, NULL},
    };
    OSSL_FUNC_core_get_libctx_fn *get_libctx = NULL;
    for (; in->function_id != 0; in++) {
        if (in->function_id == OSSL_FUNC_CORE_GET_LIBCTX)
            get_libctx = OSSL_FUNC_core_get_libctx(in);
    }
    if (!get_libctx)
        return 0;
    *provctx = get_libctx(core); /* the context itself, for providers that are built in */
    *out = functions;
    return *provctx != NULL;
}

/* ---- modules and keys in them ---- */

static void module_free(const struct ke_alloc *a, struct kei_module *m)
{
    if (!m)
        return;
    if (m->p)
        OSSL_PROVIDER_unload(m->p);
    if (m->dflt)
        OSSL_PROVIDER_unload(m->dflt);
    OSSL_LIB_CTX_free(m->lib);
    kei_free(a, m);
}

void kei_modules_leave(struct kei_crypto *c)
{
    for (uint32_t i = 0; i < c->n_modules; i++)
        OPENSSL_thread_stop_ex(c->modules[i]->lib);
}

void kei_modules_free(struct kei_crypto *c)
{
    while (c->n_modules > 0)
        module_free(c->alloc, c->modules[--c->n_modules]);
    if (c->handles)
        OSSL_PROVIDER_unload(c->handles);
}

/* Our own provider, once; the default one stays first choice for all that both can do. */
static int load_handles(struct kei_crypto *c, struct ke_error *err)
{
    if (c->handles)
        return 0;
    if (!c->handles_known) /* it can be made known only once, also if loading fails then */
        c->handles_known = OSSL_PROVIDER_add_builtin(c->lib, PROVIDER, provider_init) == 1;
    if (c->handles_known && EVP_set_default_properties(c->lib, DEFAULT_FIRST) == 1)
        c->handles = OSSL_PROVIDER_load(c->lib, PROVIDER);
    if (!c->handles)
        return kei_ossl_error(err, KE_ESYS, "keys by URI could not be set up");
    return 0;
}

static int module_load(struct kei_module **ret, struct kei_crypto *c, const char *name,
                       struct ke_error *err)
{
    for (uint32_t i = 0; i < c->n_modules; i++) {
        if (strcmp(c->modules[i]->name, name) == 0) {
            *ret = c->modules[i];
            return 0;
        }
    }
    if (c->n_modules == KEI_MODULES)
        return kei_error(err, KE_ELIMIT, "OpenSSL provider %s was not loaded: the limit is %u",
                         name, KEI_MODULES);
    struct kei_module *m = kei_zalloc(c->alloc, sizeof *m);
    if (!m)
        return kei_error(err, KE_ENOMEM, "out of memory for OpenSSL provider %s", name);
    snprintf(m->name, sizeof m->name, "%s", name);
    snprintf(m->propq, sizeof m->propq, "?provider=%s", name);
    m->lib = OSSL_LIB_CTX_new();
    m->dflt = m->lib ? OSSL_PROVIDER_load(m->lib, "default") : NULL;
    if (m->dflt && EVP_set_default_properties(m->lib, m->propq) == 1)
        m->p = OSSL_PROVIDER_load(m->lib, name);
    if (!m->p) {
        module_free(c->alloc, m);
        return kei_ossl_error(err, KE_ENOTSUP,
                              "OpenSSL provider %s could not be loaded: is it installed?", name);
    }
    c->modules[c->n_modules++] = m;
    *ret = m;
    return 0;
}

static EVP_PKEY *store_load(const struct kei_module *m, const char *uri)
{
    EVP_PKEY *key = NULL;
    /*
     * UI_null: a pass phrase is never asked for on the terminal. No properties: they are the
     * module's defaults, and OpenSSL 3.0 crashes when setting them here runs out of memory.
     */
    OSSL_STORE_CTX *store =
        OSSL_STORE_open_ex(uri, m->lib, NULL, UI_null(), NULL, NULL, NULL, NULL);
    if (!store)
        return NULL;
    for (bool go_on = true; go_on && !key && !OSSL_STORE_eof(store);) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (info && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
            key = OSSL_STORE_INFO_get1_PKEY(info);
        go_on = info || !OSSL_STORE_error(store);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return key;
}

/* The handle in our context for a key in the module's. */
static EVP_PKEY *handle_of(struct kei_crypto *c, struct remote *r)
{
    EVP_PKEY *key = NULL;
    void *given = r;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_ptr(PARAM_REMOTE, &given, sizeof *r),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *pc = EVP_PKEY_CTX_new_from_name(c->lib, "EC", "provider=" PROVIDER);
    if (!pc || EVP_PKEY_fromdata_init(pc) != 1 ||
        EVP_PKEY_fromdata(pc, &key, EVP_PKEY_KEYPAIR, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(pc);
    return key;
}

int kei_handle_open(EVP_PKEY **ret, struct kei_crypto *c, const char *provider, const char *uri,
                    struct ke_error *err)
{
    struct kei_module *m = NULL;
    int r = load_handles(c, err);
    if (r == 0)
        r = module_load(&m, c, provider, err);
    if (r < 0)
        return r;
    struct remote remote = {store_load(m, uri), m};
    EVP_PKEY *key = NULL;
    if (!remote.key)
        r = kei_ossl_error(err, KE_EKEY, "there is no private key at %s", uri);
    else if (!EVP_PKEY_is_a(remote.key, "EC"))
        r = kei_error(err, KE_ENOTSUP, "the key at %s is %s: only EC keys can be used by URI", uri,
                      EVP_PKEY_get0_type_name(remote.key));
    else if (!(key = handle_of(c, &remote)))
        r = kei_ossl_error(err, KE_EKEY, "the key at %s does not tell its public half", uri);
    EVP_PKEY_free(remote.key); /* the handle has its own reference */
    ERR_clear_error();
    kei_crypto_leave(c);
    *ret = key;
    return r;
}
