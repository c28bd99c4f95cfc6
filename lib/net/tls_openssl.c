/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS through OpenSSL: settings that many connections share, and the engine of one connection,
 * which moves its records by the caller's callbacks and never sees a socket (so nothing raises
 * SIGPIPE). Settings and engines are the caller's; both end before the context does. Loop thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>

#include "base/loop.h"
#include "crypto/crypto_priv.h"
#include "net/tls.h"
#include "net/tls_priv.h"

/*
 * TLS 1.2: forward secrecy and AEAD; the last is what clouds of KubeEdge 1.15 offer besides when
 * their certificate is an RSA one. TLS 1.3 has only good ones.
 */
#define CIPHERS                                                                                    \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"   \
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305:"         \
    "ECDHE-RSA-AES128-SHA256"
#define SUITES_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384:P-521"
#define SIGNATURES                                                                                 \
    "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:" \
    "RSA+SHA256:RSA+SHA384:RSA+SHA512"
#define SECURITY_LEVEL 2 /* 112 bits: RSA from 2048, no SHA-1 */
#define CHAIN_DEPTH 8

#define PEER_CERTS_MAX (32 * 1024) /* all that a peer may send */

struct kei_tls_config {
    uint32_t refs;
    struct ke_ctx *ctx;
    struct kei_crypto *crypto;
    SSL_CTX *ssl;
    BIO_METHOD *bio;
    bool server, verify_peer, own_cert;
    char *verify_name;
    int64_t (*now)(void *user);
    void *now_user;
};

struct kei_tls {
    struct kei_tls_config *conf;
    SSL *ssl;
    struct kei_tls_io io;
    int read_errno, write_errno; /* why the transport ended; 0: the peer ended the stream */
    bool read_gone, write_gone;
    bool open;                /* the handshake is done */
    bool failed;              /* nothing more can be done with it */
    char *want_name;          /* whose certificate is expected; NULL: anybody's */
    struct ke_error *refused; /* why we refused the peer's certificate */
};

/* ---- the transport: a BIO over the callbacks ---- */

static int bio_read(BIO *b, char *p, int n)
{
    struct kei_tls *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (s->read_gone || n <= 0)
        return s->read_gone && s->read_errno == 0 ? 0 : -1;
    errno = 0;
    long got = s->io.read(s->io.user, p, (size_t)n);
    if (got > 0)
        return (int)got;
    if (got == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    s->read_gone = true;
    s->read_errno = errno;
    return s->read_errno == 0 ? 0 : -1;
}

static int bio_write(BIO *b, const char *p, int n)
{
    struct kei_tls *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (s->write_gone || n <= 0)
        return -1;
    errno = 0;
    long put = s->io.write(s->io.user, p, (size_t)n);
    if (put > 0)
        return (int)put;
    if (put == 0) {
        BIO_set_retry_write(b);
        return -1;
    }
    s->write_gone = true;
    s->write_errno = errno;
    return -1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    struct kei_tls *s = BIO_get_data(b);
    (void)num, (void)ptr;
    switch (cmd) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return s->read_gone && s->read_errno == 0;
    default:
        return 0;
    }
}

/* One for each settings object: an index of BIO_get_new_index would be used up for ever. */
static BIO_METHOD *bio_method_new(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "kubeedge stream");
    if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
        BIO_meth_set_ctrl(m, bio_ctrl))
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* ---- settings ---- */

static int64_t now_of(const struct kei_tls_config *t)
{
    return t->now ? t->now(t->now_user) : ke_ctx_real_ms(t->ctx) / 1000;
}

/* In place of OpenSSL's: times are checked with our clock, and the reason is kept in words. */
static int verify_peer(X509_STORE_CTX *sc, void *arg)
{
    struct kei_tls_config *t = arg;
    if (!t->verify_peer)
        return 1;
    SSL *ssl = X509_STORE_CTX_get_ex_data(sc, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct kei_tls *s = SSL_get_app_data(ssl);
    X509 *bad = NULL;
    int64_t now = now_of(t);
    int v;
    if (X509_verify_cert(sc) == 1) {
        v = kei_verify_times(X509_STORE_CTX_get0_chain(sc), now, &bad);
    } else {
        v = X509_STORE_CTX_get_error(sc);
        bad = X509_STORE_CTX_get_current_cert(sc);
        if (v == X509_V_OK)
            v = X509_V_ERR_UNSPECIFIED;
    }
    if (v == X509_V_OK)
        return 1;
    if (!s->refused)
        s->refused = kei_zalloc(kei_ctx_alloc(t->ctx), sizeof *s->refused);
    if (s->refused) {
        s->refused->size = sizeof *s->refused;
        kei_verify_error(s->refused, v, bad, now, s->want_name);
    }
    X509_STORE_CTX_set_error(sc, v); /* decides the alert that the peer gets */
    return 0;
}

static int check_options(struct ke_ctx *ctx, const struct kei_tls_options *o)
{
    if ((o->verify_peer || o->verify_given) && !o->ca)
        return kei_fail(ctx, KE_EINVAL, "TLS cannot verify the peer without a CA");
    if (!o->cert != !o->key)
        return kei_fail(ctx, KE_EINVAL, "TLS needs certificate and key together");
    if (o->server && !o->cert)
        return kei_fail(ctx, KE_EINVAL, "a TLS server needs a certificate and its key");
    return 0;
}

/*
 * Everything is said here, and nothing left as it came: OpenSSL gives each SSL_CTX what the section
 * system_default of the host's openssl.cnf says.
 */
static bool set_common(SSL_CTX *x)
{
    char groups[] = GROUPS, signatures[] = SIGNATURES; /* the macros below cast const away */
    SSL_CTX_set_security_level(x, SECURITY_LEVEL);
    SSL_CTX_clear_options(x, SSL_CTX_get_options(x));
    SSL_CTX_set_options(x, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
    SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(x, PEER_CERTS_MAX);
    SSL_CTX_set_verify_depth(x, CHAIN_DEPTH);
    kei_verify_param(SSL_CTX_get0_param(x));
    return SSL_CTX_set_min_proto_version(x, TLS1_2_VERSION) &&
           SSL_CTX_set_max_proto_version(x, 0) && SSL_CTX_set_cipher_list(x, CIPHERS) &&
           SSL_CTX_set_ciphersuites(x, SUITES_1_3) && SSL_CTX_set1_groups_list(x, groups) &&
           SSL_CTX_set1_sigalgs_list(x, signatures) &&
           SSL_CTX_set1_client_sigalgs_list(x, signatures) && SSL_CTX_set_num_tickets(x, 0);
}

static bool set_identities(SSL_CTX *x, const struct kei_tls_options *o)
{
    if (o->cert && (SSL_CTX_use_certificate(x, o->cert->x) != 1 ||
                    SSL_CTX_use_PrivateKey(x, o->key->p) != 1 || !SSL_CTX_check_private_key(x)))
        return false;
    if (!o->ca)
        return true;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(x), o->ca->x) == 1 &&
           (!o->server || SSL_CTX_add_client_CA(x, o->ca->x) == 1);
}

typedef bool (*each_cert_fn)(SSL_CTX *x, X509 *cert, size_t i, const struct kei_tls_options *o);

static bool add_to_chain(SSL_CTX *x, X509 *cert, size_t i, const struct kei_tls_options *o)
{
    (void)o;
    return i == 0 ||
           SSL_CTX_add1_chain_cert(x, cert) == 1; /* the first is the certificate itself */
}

static bool add_to_store(SSL_CTX *x, X509 *cert, size_t i, const struct kei_tls_options *o)
{
    (void)i;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(x), cert) == 1 &&
           (!o->server || SSL_CTX_add_client_CA(x, cert) == 1);
}

/* At the end of a PEM text is an error of its own kind, which is none. */
static bool pem_ended(void)
{
    unsigned long e = ERR_peek_last_error();
    bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
    if (end)
        ERR_clear_error();
    return end;
}

static bool each_cert(SSL_CTX *x, struct ke_str pem, const struct kei_tls_options *o,
                      OSSL_LIB_CTX *lib, each_cert_fn fn)
{
    if (pem.n == 0)
        return true;
    if (pem.n > INT_MAX)
        return false;
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    bool ok = b != NULL;
    for (size_t i = 0; ok; i++) {
        X509 *cert = X509_new_ex(lib, NULL);
        ok = cert != NULL;
        if (ok && !PEM_read_bio_X509(b, &cert, NULL, NULL)) {
            X509_free(cert);
            ok = pem_ended();
            break;
        }
        ok = ok && fn(x, cert, i, o);
        X509_free(cert);
    }
    BIO_free(b);
    return ok;
}

static bool add_crls(SSL_CTX *x, struct ke_str pem, OSSL_LIB_CTX *lib)
{
    if (pem.n == 0)
        return true;
    BIO *b = pem.n <= INT_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    bool ok = b != NULL;
    while (ok) {
        X509_CRL *crl = X509_CRL_new_ex(lib, NULL);
        ok = crl != NULL;
        if (ok && !PEM_read_bio_X509_CRL(b, &crl, NULL, NULL)) {
            X509_CRL_free(crl);
            ok = pem_ended();
            break;
        }
        ok = ok && X509_STORE_add_crl(SSL_CTX_get_cert_store(x), crl) == 1;
        X509_CRL_free(crl);
    }
    BIO_free(b);
    return ok && X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(x), X509_V_FLAG_CRL_CHECK) == 1;
}

static bool set_lists(SSL_CTX *x, const struct kei_tls_options *o, OSSL_LIB_CTX *lib)
{
    if (o->server && o->ca_list.n)
        SSL_CTX_clear_mode(x, SSL_MODE_NO_AUTO_CHAIN);
    return each_cert(x, o->cert_chain, o, lib, add_to_chain) &&
           each_cert(x, o->ca_list, o, lib, add_to_store) && add_crls(x, o->crl_list, lib);
}

static void set_verify(struct kei_tls_config *t, const struct kei_tls_options *o)
{
    int mode = SSL_VERIFY_NONE;
    if (o->verify_peer)
        mode = SSL_VERIFY_PEER | (o->server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    else if (o->server && (o->request_peer || o->verify_given))
        mode = SSL_VERIFY_PEER;
    SSL_CTX_set_verify(t->ssl, mode, NULL);
    SSL_CTX_set_cert_verify_callback(t->ssl, verify_peer, t);
}

static int config_open(struct kei_tls_config *t, const struct kei_tls_options *o)
{
    struct ke_error *err = kei_err(t->ctx);
    int r = kei_crypto_get(t->ctx, &t->crypto);
    if (r < 0)
        return r;
    if (o->verify_name) {
        t->verify_name = kei_strdup(kei_ctx_alloc(t->ctx), o->verify_name);
        if (!t->verify_name)
            return kei_fail(t->ctx, KE_ENOMEM, "out of memory for the TLS settings");
    }
    ERR_clear_error();
    t->bio = bio_method_new();
    t->ssl =
        SSL_CTX_new_ex(t->crypto->lib, NULL, o->server ? TLS_server_method() : TLS_client_method());
    if (!t->bio || !t->ssl || !set_common(t->ssl))
        return kei_ossl_error(err, KE_ETLS, "the TLS settings could not be made");
    if (!set_identities(t->ssl, o))
        return kei_ossl_error(err, KE_ECERT, "the certificate or its key is not usable for TLS");
    if (!set_lists(t->ssl, o, t->crypto->lib))
        return kei_ossl_error(err, KE_ECERT, "a list of certificates or revocations is not usable");
    set_verify(t, o);
    ERR_clear_error();
    return 0;
}

int kei_tls_config_new(struct kei_tls_config **ret, struct ke_ctx *ctx,
                       const struct kei_tls_options *o)
{
    int r = check_options(ctx, o);
    if (r < 0)
        return r;
    struct kei_tls_config *t = kei_zalloc(kei_ctx_alloc(ctx), sizeof *t);
    if (!t)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the TLS settings");
    t->refs = 1;
    t->ctx = ctx;
    t->server = o->server;
    t->verify_peer = o->verify_peer || o->verify_given;
    t->own_cert = o->cert != NULL;
    t->now = o->now;
    t->now_user = o->now_user;
    r = config_open(t, o);
    if (t->crypto)
        kei_crypto_leave(t->crypto);
    if (r < 0) {
        kei_tls_config_unref(t);
        return r;
    }
    *ret = t;
    return 0;
}

struct kei_tls_config *kei_tls_config_ref(struct kei_tls_config *t)
{
    if (t)
        t->refs++;
    return t;
}

void kei_tls_config_unref(struct kei_tls_config *t)
{
    if (!t || --t->refs > 0)
        return;
    SSL_CTX_free(t->ssl);
    BIO_meth_free(t->bio);
    kei_free(kei_ctx_alloc(t->ctx), t->verify_name);
    kei_free(kei_ctx_alloc(t->ctx), t);
}

/* ---- errors ---- */

static int transport_error(const struct kei_tls *s, struct ke_error *err)
{
    int number = s->write_gone ? s->write_errno : s->read_errno;
    if (number != 0)
        return kei_error_errno(err, number, "the connection below TLS broke");
    if (!s->open)
        return kei_error(err, KE_ECONN, "the peer closed the connection during the TLS handshake");
    return kei_error(err, KE_ETLS,
                     "the connection ended without TLS being closed: data may be missing");
}

/* Why an operation failed for good, from what OpenSSL left in its queue. */
static int explain(struct kei_tls *s, struct ke_error *err)
{
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;
    if (s->refused)
        return kei_error(err, s->refused->code, "%s", s->refused->text);
    if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
        return kei_tls_alert_error(err, reason - SSL_AD_REASON_OFFSET, s->conf->own_cert);
    if (s->read_gone || s->write_gone)
        return transport_error(s, err);
    switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
        if (s->open)
            break;
        return kei_error(err, KE_ETLS, "the peer does not speak TLS: is this the right port?");
    case SSL_R_UNSUPPORTED_PROTOCOL:
        return kei_error(err, KE_ETLS, "the peer speaks no version of TLS from 1.2 on");
    case SSL_R_NO_SHARED_CIPHER:
        return kei_error(err, KE_ETLS, "the peer has no cipher suite in common with us");
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return kei_error(err, KE_ECERT, "the peer gave no client certificate");
    default:
        break;
    }
    return kei_ossl_error(err, KE_ETLS, s->open ? "TLS failed" : "the TLS handshake failed");
}

/*
 * What a result of OpenSSL means. With TLS 1.3 a server that refuses our certificate tells so after
 * our handshake is done, and may be gone when we write: its alert then waits to be read.
 */
static int outcome(struct kei_tls *s, int r, struct ke_error *err)
{
    char byte;
    size_t n;
    switch (SSL_get_error(s->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        r = KEI_TLS_WANT_READ;
        break;
    case SSL_ERROR_WANT_WRITE:
        r = KEI_TLS_WANT_WRITE;
        break;
    case SSL_ERROR_ZERO_RETURN:
        r = kei_error(err, KE_ECLOSED, "the peer closed the TLS connection");
        break;
    default:
        s->failed = true;
        if (s->open && s->write_gone && !s->read_gone) {
            ERR_clear_error();
            SSL_peek_ex(s->ssl, &byte, 1, &n);
        }
        r = explain(s, err);
        break;
    }
    ERR_clear_error();
    return r;
}

/* ---- the engine ---- */

/* The name as certificates and SNI have it: no brackets, zone or final dot. */
static char *clean_name(const struct ke_alloc *a, const char *host)
{
    size_t n = strlen(host);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }
    const char *zone = memchr(host, '%', n);
    if (zone)
        n = (size_t)(zone - host);
    if (n > 1 && host[n - 1] == '.')
        n--;
    return kei_strndup(a, host, n);
}

static int expect_name(struct kei_tls *s, const char *host, struct ke_error *err)
{
    struct kei_tls_config *t = s->conf;
    uint8_t ip[16];
    if (t->verify_name)
        host = t->verify_name;
    if (!host || host[0] == '\0') {
        if (t->verify_peer)
            return kei_error(err, KE_EINVAL,
                             "TLS cannot verify the peer without a host name to expect");
        return 0;
    }
    s->want_name = clean_name(kei_ctx_alloc(t->ctx), host);
    if (!s->want_name)
        return kei_error(err, KE_ENOMEM, "out of memory for a TLS connection");
    X509_VERIFY_PARAM *p = SSL_get0_param(s->ssl);
    size_t n = inet_pton(AF_INET, s->want_name, ip) == 1    ? 4
               : inet_pton(AF_INET6, s->want_name, ip) == 1 ? 16
                                                            : 0;
    bool ok = n ? X509_VERIFY_PARAM_set1_ip(p, ip, n) == 1
                : X509_VERIFY_PARAM_set1_host(p, s->want_name, 0) == 1 &&
                      SSL_set_tlsext_host_name(s->ssl, s->want_name) == 1;
    if (!ok)
        return kei_ossl_error(err, KE_EINVAL, "%s is no name of a TLS server", s->want_name);
    return 0;
}

static int engine_open(struct kei_tls *s, const char *host, struct ke_error *err)
{
    ERR_clear_error();
    s->ssl = SSL_new(s->conf->ssl);
    BIO *b = s->ssl ? BIO_new(s->conf->bio) : NULL;
    if (!b || !SSL_set_app_data(s->ssl, s)) {
        BIO_free(b);
        return kei_ossl_error(err, KE_ENOMEM, "a TLS connection could not be made");
    }
    BIO_set_data(b, s);
    BIO_set_init(b, 1);
    SSL_set_bio(s->ssl, b, b);
    if (s->conf->server) {
        SSL_set_accept_state(s->ssl);
        return 0;
    }
    SSL_set_connect_state(s->ssl);
    return expect_name(s, host, err);
}

int kei_tls_new(struct kei_tls **ret, struct kei_tls_config *t, const char *host,
                const struct kei_tls_io *io, struct ke_error *err)
{
    struct kei_tls *s = kei_zalloc(kei_ctx_alloc(t->ctx), sizeof *s);
    if (!s)
        return kei_error(err, KE_ENOMEM, "out of memory for a TLS connection");
    s->conf = kei_tls_config_ref(t);
    s->io = *io;
    int r = engine_open(s, host, err);
    ERR_clear_error();
    kei_crypto_leave(t->crypto);
    if (r < 0) {
        kei_tls_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void kei_tls_free(struct kei_tls *s)
{
    if (!s)
        return;
    struct kei_tls_config *t = s->conf;
    const struct ke_alloc *a = kei_ctx_alloc(t->ctx);
    SSL_free(s->ssl); /* with its BIO */
    kei_free(a, s->want_name);
    kei_free(a, s->refused);
    kei_free(a, s);
    kei_tls_config_unref(t);
}

static int failed_before(struct ke_error *err)
{
    return kei_error(err, KE_ESTATE, "the TLS connection has failed before");
}

int kei_tls_handshake(struct kei_tls *s, struct ke_error *err)
{
    if (s->failed)
        return failed_before(err);
    ERR_clear_error();
    int r = SSL_do_handshake(s->ssl);
    s->open = r == 1;
    r = s->open ? 0 : outcome(s, r, err);
    ERR_clear_error();
    kei_crypto_leave(s->conf->crypto);
    return r;
}

int kei_tls_read(struct kei_tls *s, void *p, size_t n, size_t *ret_n, struct ke_error *err)
{
    if (s->failed || !s->open)
        return failed_before(err);
    ERR_clear_error();
    if (n == 0) {
        *ret_n = 0;
        return 0;
    }
    int r = SSL_read_ex(s->ssl, p, n, ret_n) == 1 ? 0 : outcome(s, 0, err);
    kei_crypto_leave(s->conf->crypto);
    return r;
}

int kei_tls_write(struct kei_tls *s, const void *p, size_t n, size_t *ret_n, struct ke_error *err)
{
    if (s->failed || !s->open)
        return failed_before(err);
    ERR_clear_error();
    if (n == 0) {
        *ret_n = 0;
        return 0;
    }
    int r = SSL_write_ex(s->ssl, p, n, ret_n) == 1 ? 0 : outcome(s, 0, err);
    kei_crypto_leave(s->conf->crypto);
    return r;
}

void kei_tls_shutdown(struct kei_tls *s)
{
    if (s->failed || !s->open || s->write_gone)
        return;
    ERR_clear_error();
    SSL_shutdown(s->ssl);
    ERR_clear_error();
    kei_crypto_leave(s->conf->crypto);
}

int kei_tls_peer_cert(struct kei_tls *s, struct ke_buf *out)
{
    unsigned char *der = NULL;
    X509 *x = SSL_get0_peer_certificate(s->ssl);
    if (!x)
        return KE_ENOTFOUND;
    int n = i2d_X509(x, &der);
    ERR_clear_error();
    if (n <= 0)
        return KE_ENOMEM;
    kei_buf_add(out, der, (size_t)n);
    OPENSSL_free(der);
    return kei_buf_ok(out) ? 0 : KE_ENOMEM;
}
