/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS with a peer that is not ours: plain OpenSSL in its default context, set up as old, odd or
 * hostile as needed.
 */
#include <openssl/err.h>

#include "base/file.h"
#include "crypto/crypto_priv.h"
#include "net/tls_pair.h"

struct peer_fixture {
    struct fixture f;
    struct pki p;
    struct kei_key *rsa_key; /* and a server's certificate with it */
    struct kei_cert *rsa;
    SSL_CTX *ctx; /* the peer's */
    SSL *ssl;
    struct tls_pair t;
    char sni[64];
    unsigned extensions; /* bit for each of interesting[] that the ClientHello had */
};

static void begin(struct peer_fixture *x)
{
    static const char *const names[] = {"localhost"};
    memset(x, 0, sizeof *x);
    fixture_init(&x->f);
    pki_make(&x->p, &x->f);
    struct ke_buf pem = fixture_data(&x->f, "rsa-2048.pem");
    assert_ok(&x->f, kei_key_from_pem(&x->rsa_key, x->f.c, kei_buf_str(&pem), &x->f.err));
    ke_buf_free(&pem);
    assert_ok(&x->f, kei_ca_sign_server(&x->rsa, x->p.ca, x->p.ca_key, x->rsa_key, names, 1,
                                        NOW - 1000, 100000, &x->f.err));
}

static void end(struct peer_fixture *x)
{
    kei_cert_free(x->rsa);
    kei_key_free(x->rsa_key);
    pki_free(&x->p);
    fixture_fini(&x->f);
}

/* A copy for the peer's library context, by way of its bytes. */
static void use_identity(struct peer_fixture *x, SSL_CTX *ctx, const struct kei_cert *cert,
                         const struct kei_key *key)
{
    unsigned char *der = NULL;
    int n = i2d_X509(cert->x, &der);
    assert_int_equal(SSL_CTX_use_certificate_ASN1(ctx, n, der), 1);
    OPENSSL_free(der);
    der = NULL;
    n = i2d_PrivateKey(key->p, &der);
    const unsigned char *p = der;
    EVP_PKEY *copy = d2i_AutoPrivateKey(NULL, &p, n);
    assert_non_null(copy);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, copy), 1);
    EVP_PKEY_free(copy);
    OPENSSL_free(der);
    (void)x;
}

static const unsigned interesting[] = {TLSEXT_TYPE_application_layer_protocol_negotiation,
                                       TLSEXT_TYPE_session_ticket, TLSEXT_TYPE_server_name,
                                       TLSEXT_TYPE_psk};

static int on_hello(SSL *ssl, int *alert, void *arg)
{
    struct peer_fixture *x = arg;
    const unsigned char *p;
    size_t n;
    (void)alert;
    for (size_t i = 0; i < 4; i++) {
        if (SSL_client_hello_get0_ext(ssl, interesting[i], &p, &n))
            x->extensions |= 1u << i;
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

static int accept_any(X509_STORE_CTX *sc, void *arg)
{
    (void)sc, (void)arg;
    return 1;
}

static int on_name(SSL *ssl, int *alert, void *arg)
{
    struct peer_fixture *x = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    snprintf(x->sni, sizeof x->sni, "%s", name ? name : "");
    return SSL_TLSEXT_ERR_OK;
}

/* Makes the peer; its settings may be changed before open_peer. */
static void make_peer(struct peer_fixture *x, bool server)
{
    x->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    assert_non_null(x->ctx);
    SSL_CTX_set_security_level(x->ctx, 0);
    SSL_CTX_set_verify(x->ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_client_hello_cb(x->ctx, on_hello, x);
    SSL_CTX_set_tlsext_servername_callback(x->ctx, on_name);
    SSL_CTX_set_tlsext_servername_arg(x->ctx, x);
    if (server)
        use_identity(x, x->ctx, x->p.server, x->p.server_key);
    x->sni[0] = '\0';
    x->extensions = 0;
}

static void open_peer(struct peer_fixture *x, const char *host)
{
    bool server = SSL_CTX_get_ssl_method(x->ctx) == TLS_server_method();
    struct kei_tls_options o = {.verify_peer = true,
                                .ca = x->p.ca,
                                .server = !server,
                                .cert = server ? x->p.node : x->p.server,
                                .key = server ? x->p.node_key : x->p.server_key};
    struct kei_tls_config *c = NULL;
    if (!server) { /* as the server of certificates */
        o.verify_peer = false;
        o.request_peer = true;
    }
    if (kei_tls_config_new(&c, x->f.ctx, &o) < 0)
        fail_msg("%s", ke_ctx_error(x->f.ctx));
    pair_init(&x->t);
    pair_open(&x->t, server ? c : NULL, host, server ? NULL : c);
    kei_tls_config_unref(c);
    x->ssl = SSL_new(x->ctx);
    assert_non_null(x->ssl);
    peer_open(x->ssl);
    if (server)
        SSL_set_accept_state(x->ssl);
    else
        SSL_set_connect_state(x->ssl);
}

static void close_peer(struct peer_fixture *x)
{
    SSL_free(x->ssl);
    SSL_CTX_free(x->ctx);
    pair_fini(&x->t);
    ERR_clear_error();
}

/* Both directions work; the peer is at the other end of *e. */
static void chat(struct peer_fixture *x, struct tls_end *e)
{
    bool peer_is_server = e == &x->t.client;
    char b[16];
    size_t n;
    assert_int_equal(kei_tls_write(e->tls, "ping", 4, &n, &e->err), 0);
    peer_pump(&x->t, x->ssl, peer_is_server);
    assert_int_equal(SSL_read(x->ssl, b, sizeof b), 4);
    assert_int_equal(SSL_write(x->ssl, "pong", 4), 4);
    peer_pump(&x->t, x->ssl, peer_is_server);
    int r = kei_tls_read(e->tls, b, sizeof b, &n, &e->err);
    if (r == KEI_TLS_WANT_READ) /* something of the protocol came before */
        r = kei_tls_read(e->tls, b, sizeof b, &n, &e->err);
    if (r != 0)
        fail_msg("%d %s", r, e->err.text);
    assert_int_equal(n, 4);
    assert_memory_equal(b, "pong", 4);
}

static void end_is(const struct tls_end *e, int code, const char *part)
{
    if (e->r != code || e->err.code != code || !strstr(e->err.text, part))
        fail_msg("%s \"%s\", expected %s \"%s\"", ke_strerror(e->r), e->err.text, ke_strerror(code),
                 part);
}

/* What a cloud of another make may insist on. */
static void test_versions_and_suites(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *cipher;
        bool rsa;
        const char *error;
    } cases[] = {
        {TLS1_3_VERSION, NULL, false, NULL},
        {TLS1_3_VERSION, NULL, true, NULL},
        {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", false, NULL},
        {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", false, NULL},
        {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", false, NULL},
        {TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", true, NULL},
        {TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA256", true, NULL}, /* of KubeEdge 1.15 */
        {TLS1_2_VERSION, "AES128-GCM-SHA256", true, "alert 40, handshake failure"},
        {TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA", true, "alert 40, handshake failure"},
        {TLS1_1_VERSION, NULL, true, "alert 70, protocol version"},
    };
    struct peer_fixture x;
    begin(&x);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int peer;
        make_peer(&x, true);
        if (cases[i].rsa)
            use_identity(&x, x.ctx, x.rsa, x.rsa_key);
        assert_true(SSL_CTX_set_min_proto_version(x.ctx, TLS1_VERSION));
        assert_true(SSL_CTX_set_max_proto_version(x.ctx, cases[i].version));
        if (cases[i].cipher)
            assert_true(SSL_CTX_set_cipher_list(x.ctx, cases[i].cipher));
        open_peer(&x, "localhost");
        peer_handshake(&x.t, &x.t.client, x.ssl, &peer);
        if (cases[i].error) {
            end_is(&x.t.client, KE_ETLS, cases[i].error);
        } else {
            if (x.t.client.r != 0 || peer != 1)
                fail_msg("%s: %s", cases[i].cipher ? cases[i].cipher : "1.3", x.t.client.err.text);
            assert_int_equal(SSL_version(x.ssl), cases[i].version);
            if (cases[i].cipher)
                assert_string_equal(SSL_get_cipher_name(x.ssl), cases[i].cipher);
            chat(&x, &x.t.client);
        }
        close_peer(&x);
    }
    end(&x);
}

static void test_old_client(void **state)
{
    (void)state;
    struct peer_fixture x;
    int peer;
    begin(&x);
    make_peer(&x, false);
    assert_true(SSL_CTX_set_min_proto_version(x.ctx, TLS1_VERSION));
    assert_true(SSL_CTX_set_max_proto_version(x.ctx, TLS1_1_VERSION));
    open_peer(&x, NULL);
    peer_handshake(&x.t, &x.t.server, x.ssl, &peer);
    end_is(&x.t.server, KE_ETLS, "the peer speaks no version of TLS from 1.2 on");
    close_peer(&x);
    make_peer(&x, false);
    assert_true(SSL_CTX_set_max_proto_version(x.ctx, TLS1_2_VERSION));
    assert_true(SSL_CTX_set_cipher_list(x.ctx, "AES128-SHA"));
    open_peer(&x, NULL);
    peer_handshake(&x.t, &x.t.server, x.ssl, &peer);
    end_is(&x.t.server, KE_ETLS, "no cipher suite in common");
    close_peer(&x);
    end(&x);
}

/* As on the wire of KubeEdge: a name for names, none for addresses; no ALPN; nothing to resume. */
static void test_hello(void **state)
{
    (void)state;
    static const struct {
        const char *host, *sni;
    } cases[] = {
        {"localhost", "localhost"},
        {"cloud.example.", "cloud.example"},
        {"127.0.0.1", ""},
        {"[::1]", ""},
        {"::1", ""},
    };
    struct peer_fixture x;
    begin(&x);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int peer;
        make_peer(&x, true);
        open_peer(&x, cases[i].host);
        peer_handshake(&x.t, &x.t.client, x.ssl, &peer);
        assert_int_equal(x.t.client.r, 0);
        assert_string_equal(x.sni, cases[i].sni);
        assert_int_equal(x.extensions, cases[i].sni[0] ? 4 : 0);
        chat(&x, &x.t.client);
        close_peer(&x);
    }
    end(&x);
}

static int tickets;

static int on_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl, (void)s;
    tickets++;
    return 0;
}

/* A server of ours gives out nothing to resume with, in either version. */
static void test_no_tickets(void **state)
{
    (void)state;
    struct peer_fixture x;
    begin(&x);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        int peer;
        tickets = 0;
        make_peer(&x, false);
        SSL_CTX_set_session_cache_mode(x.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(x.ctx, on_session);
        assert_true(SSL_CTX_set_max_proto_version(x.ctx, version));
        open_peer(&x, NULL);
        peer_handshake(&x.t, &x.t.server, x.ssl, &peer);
        assert_int_equal(x.t.server.r, 0);
        chat(&x, &x.t.server);
        assert_int_equal(tickets, 0);
        assert_false(SSL_SESSION_has_ticket(SSL_get_session(x.ssl)));
        const unsigned char *id;
        unsigned n;
        id = SSL_SESSION_get_id(SSL_get_session(x.ssl), &n);
        (void)id;
        assert_true(version == TLS1_3_VERSION || n == 0);
        close_peer(&x);
    }
    end(&x);
}

/* New keys in the middle of it (1.3) are taken; a new handshake (1.2) is refused, politely. */
static void test_key_update(void **state)
{
    (void)state;
    struct peer_fixture x;
    int peer;
    begin(&x);
    make_peer(&x, true);
    open_peer(&x, "localhost");
    peer_handshake(&x.t, &x.t.client, x.ssl, &peer);
    chat(&x, &x.t.client);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(x.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(x.ssl), 1);
        peer_pump(&x.t, x.ssl, true);
        char b[8];
        size_t n;
        assert_int_equal(kei_tls_read(x.t.client.tls, b, sizeof b, &n, &x.t.client.err),
                         KEI_TLS_WANT_READ);
        chat(&x, &x.t.client);
    }
    close_peer(&x);
    end(&x);
}

static void test_renegotiation(void **state)
{
    (void)state;
    struct peer_fixture x;
    int peer;
    char b[8];
    size_t n;
    begin(&x);
    make_peer(&x, true);
    assert_true(SSL_CTX_set_max_proto_version(x.ctx, TLS1_2_VERSION));
    open_peer(&x, "localhost");
    peer_handshake(&x.t, &x.t.client, x.ssl, &peer);
    chat(&x, &x.t.client);
    assert_int_equal(SSL_renegotiate(x.ssl), 1);
    SSL_do_handshake(x.ssl); /* HelloRequest */
    peer_pump(&x.t, x.ssl, true);
    assert_int_equal(kei_tls_read(x.t.client.tls, b, sizeof b, &n, &x.t.client.err),
                     KEI_TLS_WANT_READ);
    assert_int_equal(kei_tls_write(x.t.client.tls, "x", 1, &n, &x.t.client.err), 0);
    close_peer(&x);
    end(&x);
}

/*
 * A key that only signs (a handle, as for a TPM), with a peer that wants P-256 for the exchange
 * too: neither is taken for the other, in many connections.
 */
static void test_handle_key(void **state)
{
    (void)state;
    struct peer_fixture x;
    struct kei_key k, *given;
    char dir[256], path[300], uri[320];
    begin(&x);
    test_tmp_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/key.pem", dir);
    snprintf(uri, sizeof uri, "file:%s", path);
    struct ke_buf pem = fixture_buf(&x.f);
    assert_ok(&x.f, kei_key_pem(x.p.node_key, &pem, &x.f.err));
    assert_ok(&x.f, kei_file_replace(ke_io_posix(), path, pem.p, pem.n, 0600, &x.f.err));
    ke_buf_free(&pem);
    k.c = x.f.c;
    assert_ok(&x.f, kei_handle_open(&k.p, x.f.c, "default", uri, &x.f.err));
    given = x.p.node_key;
    x.p.node_key = &k;
    char groups[] = "X25519:P-256"; /* OpenSSL's macro drops const */
    for (int i = 0; i < 12; i++) {
        int peer, version = i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION;
        make_peer(&x, true);
        assert_true(SSL_CTX_set_max_proto_version(x.ctx, version));
        assert_true(SSL_CTX_set1_groups_list(x.ctx, i % 3 ? groups + 7 : groups));
        SSL_CTX_set_verify(x.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        SSL_CTX_set_cert_verify_callback(x.ctx, accept_any, NULL);
        open_peer(&x, "localhost");
        peer_handshake(&x.t, &x.t.client, x.ssl, &peer);
        if (x.t.client.r != 0 || peer != 1)
            fail_msg("%d: %s", i, x.t.client.err.text);
        assert_non_null(SSL_get0_peer_certificate(x.ssl));
        chat(&x, &x.t.client);
        close_peer(&x);
    }
    x.p.node_key = given;
    EVP_PKEY_free(k.p);
    test_tmp_remove(dir);
    end(&x);
}

/* What is not TLS at all. */
static void test_not_tls(void **state)
{
    (void)state;
    static const struct {
        bool server;
        const char *text, *part;
    } cases[] = {
        {false, "HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS: is this the right port?"},
        {false, "SSH-2.0-OpenSSH_9.2\r\n", "does not speak TLS"},
        {true, "GET /ca.crt HTTP/1.1\r\nHost: x\r\n\r\n", "does not speak TLS"},
        {true, "CONNECT x:1 HTTP/1.1\r\n\r\n", "does not speak TLS"},
        {true, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c", "does not speak TLS"},
    };
    struct peer_fixture x;
    begin(&x);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_peer(&x, !cases[i].server);
        open_peer(&x, "localhost");
        struct tls_end *e = cases[i].server ? &x.t.server : &x.t.client;
        e->r = kei_tls_handshake(e->tls, &e->err);
        assert_int_equal(e->r, KEI_TLS_WANT_READ);
        memcpy(e->in->p, cases[i].text, strlen(cases[i].text));
        e->in->n = cases[i].server && cases[i].text[0] == 0x10 ? 14 : strlen(cases[i].text);
        e->r = kei_tls_handshake(e->tls, &e->err);
        end_is(e, KE_ETLS, cases[i].part);
        close_peer(&x);
    }
    end(&x);
}

/* A flood of certificates is cut off at a limit. */
static void test_many_certs(void **state)
{
    (void)state;
    struct peer_fixture x;
    int peer;
    begin(&x);
    make_peer(&x, true);
    unsigned char *der = NULL;
    int n = i2d_X509(x.p.ca->x, &der);
    for (int i = 0; i < 200; i++) {
        const unsigned char *p = der;
        assert_int_equal(SSL_CTX_add_extra_chain_cert(x.ctx, d2i_X509(NULL, &p, n)), 1);
    }
    OPENSSL_free(der);
    open_peer(&x, "localhost");
    peer_handshake(&x.t, &x.t.client, x.ssl, &peer);
    end_is(&x.t.client, KE_ETLS, "excessive message size");
    close_peer(&x);
    end(&x);
}

/* Every single changed bit of the server's first flight ends in an error, never in a crash. */
static void test_flipped(void **state)
{
    (void)state;
    struct peer_fixture x;
    begin(&x);
    for (size_t at = 0; at < 1200; at += 3) {
        int peer;
        make_peer(&x, true);
        assert_true(SSL_CTX_set_max_proto_version(x.ctx, at % 2 ? TLS1_2_VERSION : TLS1_3_VERSION));
        open_peer(&x, "localhost");
        struct tls_end *e = &x.t.client;
        e->r = kei_tls_handshake(e->tls, &e->err);
        peer_pump(&x.t, x.ssl, true);
        SSL_do_handshake(x.ssl);
        peer_pump(&x.t, x.ssl, true);
        if (at < x.t.to_client.n) {
            x.t.to_client.p[at] ^= (char)(1 << at % 8);
            peer_handshake(&x.t, e, x.ssl, &peer);
            if (e->r == 0)
                fail_msg("a change at %zu was not noticed", at);
        }
        close_peer(&x);
    }
    end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_and_suites),
        cmocka_unit_test(test_old_client),
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_no_tickets),
        cmocka_unit_test(test_key_update),
        cmocka_unit_test(test_renegotiation),
        cmocka_unit_test(test_handle_key),
        cmocka_unit_test(test_not_tls),
        cmocka_unit_test(test_many_certs),
        cmocka_unit_test(test_flipped),
    };
    return cmocka_run_group_tests_name("tls_peer", tests, NULL, NULL);
}
