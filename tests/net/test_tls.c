/* SPDX-License-Identifier: Apache-2.0 */
/* TLS between two of our engines: who is accepted, what is said otherwise, and how data arrives. */
#include "net/tls_pair.h"

#include <errno.h>
#include <pthread.h>

#include "net/tls_priv.h"

#define DAY INT64_C(86400)

struct tls_fixture {
    struct fixture f;
    struct pki p, other; /* two clouds */
    int64_t now;         /* for those configs that use now_fn */
};

static int64_t now_fn(void *user)
{
    return ((struct tls_fixture *)user)->now;
}

static void begin(struct tls_fixture *x)
{
    fixture_init(&x->f);
    pki_make(&x->p, &x->f);
    pki_make(&x->other, &x->f);
    x->now = NOW;
}

static void end(struct tls_fixture *x)
{
    pki_free(&x->p);
    pki_free(&x->other);
    fixture_fini(&x->f);
}

static struct kei_tls_config *config(struct tls_fixture *x, struct kei_tls_options o)
{
    struct kei_tls_config *t = NULL;
    int r = kei_tls_config_new(&t, x->f.ctx, &o);
    if (r < 0)
        fail_msg("no settings: %s", ke_ctx_error(x->f.ctx));
    return t;
}

/* The usual ends: a node that verifies, a cloud that wants the node's certificate. */
static struct kei_tls_options node_options(struct tls_fixture *x)
{
    return (struct kei_tls_options){.verify_peer = true,
                                    .ca = x->p.ca,
                                    .cert = x->p.node,
                                    .key = x->p.node_key,
                                    .now = now_fn,
                                    .now_user = x};
}

static struct kei_tls_options cloud_options(struct tls_fixture *x)
{
    return (struct kei_tls_options){.server = true,
                                    .verify_peer = true,
                                    .ca = x->p.ca,
                                    .cert = x->p.server,
                                    .key = x->p.server_key,
                                    .now = now_fn,
                                    .now_user = x};
}

/* Opens a pair and shakes hands; the settings are given up at once: the engines hold them. */
static bool connect_pair(struct tls_pair *t, struct tls_fixture *x, struct kei_tls_options client,
                         const char *host, struct kei_tls_options server)
{
    struct kei_tls_config *c = config(x, client), *s = config(x, server);
    pair_init(t);
    pair_open(t, c, host, s);
    kei_tls_config_unref(c);
    kei_tls_config_unref(s);
    return pair_handshake(t);
}

static void end_is(const struct tls_end *e, int code, const char *part)
{
    if (e->r != code || (code < 0 && (e->err.code != code || !strstr(e->err.text, part))))
        fail_msg("%s \"%s\", expected %s \"%s\"", ke_strerror(e->r), e->err.text, ke_strerror(code),
                 part);
}

/* What a read tells; e->r is the result. */
static void read_once(struct tls_end *e)
{
    char b[64];
    size_t n = 0;
    e->r = kei_tls_read(e->tls, b, sizeof b, &n, &e->err);
}

/* ---- data ---- */

/* Sends total bytes from a to b in writes of at most chunk bytes, and compares. */
static void transfer(struct tls_end *a, struct tls_end *b, size_t total, size_t chunk)
{
    char *data = malloc(total), *got = malloc(total);
    size_t sent = 0, have = 0, n, idle = 0;
    for (size_t i = 0; i < total; i++)
        data[i] = (char)(i * 31 + i / 251);
    while (have < total) {
        bool moved = false;
        if (sent < total) {
            size_t want = total - sent < chunk ? total - sent : chunk;
            int r = kei_tls_write(a->tls, data + sent, want, &n, &a->err);
            assert_true(r == 0 || r == KEI_TLS_WANT_WRITE);
            if (r == 0) {
                assert_true(n > 0 && n <= want);
                sent += n;
                moved = true;
            }
        }
        int r = kei_tls_read(b->tls, got + have, total - have, &n, &b->err);
        if (r == 0) {
            have += n;
            moved = true;
        } else if (r != KEI_TLS_WANT_READ) {
            fail_msg("%d %s", r, b->err.text);
        }
        idle = moved ? 0 : idle + 1;
        if (idle > 10000) /* a full transport needs many rounds for a record */
            fail_msg("stuck after %zu of %zu bytes", have, total);
    }
    assert_memory_equal(data, got, total);
    free(data);
    free(got);
}

static void test_data(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    assert_true(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    read_once(&t.client); /* nothing is sent after the handshake: no tickets */
    assert_int_equal(t.client.r, KEI_TLS_WANT_READ);
    transfer(&t.client, &t.server, 1, 1);
    transfer(&t.server, &t.client, 100, 7);
    transfer(&t.client, &t.server, 1 << 20, 1 << 20);
    transfer(&t.server, &t.client, 1 << 20, 100000);
    size_t n = 99;
    assert_int_equal(kei_tls_write(t.client.tls, "", 0, &n, &t.client.err), 0);
    assert_int_equal(n, 0);
    assert_int_equal(t.to_server.n, 0);
    pair_fini(&t);
    end(&x);
}

/* A transport that moves a byte at a time, and one that is nearly always full. */
static void test_narrow(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    for (int kind = 0; kind < 2; kind++) {
        struct kei_tls_config *c = config(&x, node_options(&x)), *s = config(&x, cloud_options(&x));
        pair_init(&t);
        pair_open(&t, c, "localhost", s);
        if (kind == 0)
            t.to_client.step = t.to_server.step = 1;
        else
            t.to_client.room = t.to_server.room = 100;
        assert_true(pair_handshake(&t));
        transfer(&t.client, &t.server, 40000, 20000);
        transfer(&t.server, &t.client, 40000, 40000);
        pair_fini(&t);
        kei_tls_config_unref(c);
        kei_tls_config_unref(s);
    }
    end(&x);
}

/* A write that did not fit may be repeated from another place. */
static void test_moved_buffer(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    size_t n;
    char got[6000];
    begin(&x);
    assert_true(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    char *a = malloc(5000), *b = malloc(6000);
    memset(a, 'a', 5000);
    t.to_server.room = 100;
    assert_int_equal(kei_tls_write(t.client.tls, a, 5000, &n, &t.client.err), KEI_TLS_WANT_WRITE);
    memcpy(b, a, 5000);
    memset(b + 5000, 'b', 1000); /* and there may be more behind it by now */
    memset(a, 0, 5000);
    free(a);
    t.to_server.room = 0;
    assert_int_equal(kei_tls_write(t.client.tls, b, 6000, &n, &t.client.err), 0);
    assert_true(n >= 5000);
    if (n < 6000)
        assert_int_equal(kei_tls_write(t.client.tls, b + n, 6000 - n, &n, &t.client.err), 0);
    for (size_t have = 0; have < 6000; have += n)
        assert_int_equal(
            kei_tls_read(t.server.tls, got + have, sizeof got - have, &n, &t.server.err), 0);
    assert_memory_equal(got, b, 6000);
    free(b);
    pair_fini(&t);
    end(&x);
}

static void test_close(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    char b[16];
    size_t n;
    begin(&x);
    assert_true(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    assert_int_equal(kei_tls_write(t.client.tls, "bye", 3, &n, &t.client.err), 0);
    kei_tls_shutdown(t.client.tls);
    t.to_server.ended = true;
    assert_int_equal(kei_tls_read(t.server.tls, b, sizeof b, &n, &t.server.err), 0);
    assert_int_equal(n, 3);
    for (int i = 0; i < 2; i++) { /* and again */
        read_once(&t.server);
        end_is(&t.server, KE_ECLOSED, "closed");
    }
    /* The other direction is still there. */
    assert_int_equal(kei_tls_write(t.server.tls, "ok", 2, &n, &t.server.err), 0);
    assert_int_equal(kei_tls_read(t.client.tls, b, sizeof b, &n, &t.client.err), 0);
    kei_tls_shutdown(t.server.tls);
    read_once(&t.client);
    end_is(&t.client, KE_ECLOSED, "closed");
    pair_fini(&t);
    end(&x);
}

/* The end of the stream without the peer's word is not its end. */
static void test_truncated(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    size_t n;
    begin(&x);
    for (size_t cut = 0; cut < 30; cut += 5) { /* at a record's border, and inside one */
        assert_true(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
        assert_int_equal(kei_tls_write(t.client.tls, "hello", 5, &n, &t.client.err), 0);
        assert_true(t.to_server.n < 30);
        t.to_server.n = cut < t.to_server.n ? cut : 0;
        t.to_server.ended = true;
        read_once(&t.server);
        end_is(&t.server, KE_ETLS, "data may be missing");
        read_once(&t.server);
        end_is(&t.server, KE_ESTATE, "failed before");
        assert_int_equal(kei_tls_write(t.server.tls, "x", 1, &n, &t.server.err), KE_ESTATE);
        kei_tls_shutdown(t.server.tls); /* harmless */
        pair_fini(&t);
    }
    end(&x);
}

static void test_broken(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    size_t n;
    begin(&x);
    assert_true(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    t.to_client.read_errno = ECONNRESET;
    read_once(&t.client);
    end_is(&t.client, KE_ECONN, "Connection reset by peer");
    t.to_client.write_errno = EPIPE;
    t.server.r = kei_tls_write(t.server.tls, "x", 1, &n, &t.server.err);
    end_is(&t.server, KE_ECLOSED, "Broken pipe");
    pair_fini(&t);
    end(&x);
}

/* Ends and breaks at every step of the handshake. */
static void test_handshake_cut(void **state)
{
    (void)state;
    struct tls_fixture x;
    begin(&x);
    struct kei_tls_config *c = config(&x, node_options(&x)), *s = config(&x, cloud_options(&x));
    for (int who = 0; who < 4; who++) {
        struct tls_pair t;
        pair_init(&t);
        pair_open(&t, c, "localhost", s);
        if (who == 0)
            t.to_client.ended = true;
        else if (who == 1)
            t.to_server.ended = true;
        else if (who == 2)
            t.to_client.read_errno = ETIMEDOUT;
        else
            t.to_server.write_errno = ECONNRESET;
        t.client.r = kei_tls_handshake(t.client.tls, &t.client.err);
        if (who == 1)
            t.to_server.n /= 2;
        t.server.r = kei_tls_handshake(t.server.tls, &t.server.err);
        if (who == 0)
            end_is(&t.client, KE_ECONN, "closed the connection during the TLS handshake");
        if (who == 2)
            end_is(&t.client, KE_ETIMEDOUT, "timed out");
        if (who == 3)
            end_is(&t.client, KE_ECONN, "reset");
        if (who == 1)
            end_is(&t.server, KE_ECONN, "closed the connection during the TLS handshake");
        assert_int_equal(kei_tls_handshake(t.client.tls, &t.client.err),
                         who == 1 ? KE_ETLS : KE_ESTATE);
        pair_fini(&t);
    }
    kei_tls_config_unref(c);
    kei_tls_config_unref(s);
    end(&x);
}

/* ---- who is who ---- */

static void test_peer_cert(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    assert_true(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    struct ke_buf got = fixture_buf(&x.f), want = fixture_buf(&x.f);
    assert_int_equal(kei_tls_peer_cert(t.server.tls, &got), 0);
    assert_ok(&x.f, kei_cert_der(x.p.node, &want, &x.f.err));
    assert_true(kei_str_eq(kei_buf_str(&got), kei_buf_str(&want)));
    kei_buf_clear(&got);
    kei_buf_clear(&want);
    assert_int_equal(kei_tls_peer_cert(t.client.tls, &got), 0);
    assert_ok(&x.f, kei_cert_der(x.p.server, &want, &x.f.err));
    assert_true(kei_str_eq(kei_buf_str(&got), kei_buf_str(&want)));
    ke_buf_free(&want);
    ke_buf_free(&got);
    got = fixture_buf(&x.f);
    test_alloc_fail_at(&x.f.env.alloc, 1);
    assert_int_equal(kei_tls_peer_cert(t.client.tls, &got), KE_ENOMEM);
    ke_buf_free(&got);
    pair_fini(&t);
    end(&x);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *host, *verify_name, *error;
    } cases[] = {
        {"localhost", NULL, NULL},
        {"LocalHost", NULL, NULL},
        {"cloud.example.", NULL, NULL},
        {"127.0.0.1", NULL, NULL},
        {"::1", NULL, NULL},
        {"[::1]", NULL, NULL},
        {"0:0:0:0:0:0:0:1%lo", NULL, NULL},
        {"10.9.8.7", "cloud.example", NULL},
        {NULL, "127.0.0.1", NULL},
        {"other.example", NULL,
         "is for localhost, cloud.example, 127.0.0.1, ::1, not for other.example"},
        {"127.0.0.2", NULL, "not for 127.0.0.2"},
        {"[::2]", NULL, "not for ::2"},
        {"localhost", "10.9.8.7", "not for 10.9.8.7"},
        {"sub.cloud.example", NULL, "not for sub.cloud.example"},
        {"KubeEdge", NULL, "not for KubeEdge"}, /* a CN is no host */
    };
    struct tls_fixture x;
    begin(&x);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_pair t;
        struct kei_tls_options o = node_options(&x);
        o.verify_name = cases[i].verify_name;
        bool ok = connect_pair(&t, &x, o, cases[i].host, cloud_options(&x));
        if (ok != !cases[i].error)
            fail_msg("%s: %s", cases[i].host ? cases[i].host : "-", t.client.err.text);
        if (cases[i].error) {
            end_is(&t.client, KE_ECERT, cases[i].error);
            end_is(&t.server, KE_EREFUSED, "alert 42");
        }
        pair_fini(&t);
    }
    struct kei_tls_options o = node_options(&x);
    struct kei_tls_config *c = config(&x, o);
    struct kei_tls_io io = {0};
    struct kei_tls *tls = NULL;
    assert_error(&x.f, kei_tls_new(&tls, c, NULL, &io, &x.f.err), KE_EINVAL, "host name");
    assert_error(&x.f, kei_tls_new(&tls, c, "", &io, &x.f.err), KE_EINVAL, "host name");
    assert_null(tls);
    kei_tls_config_unref(c);
    end(&x);
}

/* A certificate without alternative names is nobody's, also if a CN would fit. */
static void test_no_names(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    struct kei_cert *nameless;
    begin(&x);
    assert_ok(&x.f, kei_ca_sign_server(&nameless, x.p.ca, x.p.ca_key, x.p.server_key, NULL, 0,
                                       NOW - 1000, 100000, &x.f.err));
    struct kei_tls_options s = cloud_options(&x);
    s.cert = nameless;
    assert_false(connect_pair(&t, &x, node_options(&x), "KubeEdge", s));
    end_is(&t.client, KE_ECERT, "is for no host name or address, not for KubeEdge");
    pair_fini(&t);
    kei_cert_free(nameless);
    end(&x);
}

static void test_server_times(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    x.now = NOW + 3 * DAY; /* the certificates live for less than two */
    assert_false(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    end_is(&t.client, KE_EEXPIRED, "KubeEdge expired at 2026-12-02T03:30:00Z (it is 2026-12-04");
    end_is(&t.server, KE_EREFUSED, "certificate expired");
    pair_fini(&t);
    x.now = NOW - DAY;
    assert_false(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    end_is(&t.client, KE_ECERT,
           "not valid before 2026-11-30T23:43:20Z, but it is 2026-11-30T00:00");
    pair_fini(&t);
    x.now = INT64_C(4294967296) * 2; /* beyond 32 bits */
    assert_false(connect_pair(&t, &x, node_options(&x), "localhost", cloud_options(&x)));
    end_is(&t.client, KE_EEXPIRED, "2242-");
    pair_fini(&t);
    /* Without a function of its own it is the context's time. */
    struct kei_tls_options o = node_options(&x);
    o.now = NULL;
    struct kei_tls_options s = cloud_options(&x);
    s.now = NULL;
    assert_true(connect_pair(&t, &x, o, "localhost", s));
    pair_fini(&t);
    test_clock_advance(&x.f.env.clock, 3 * DAY * 1000);
    assert_false(connect_pair(&t, &x, o, "localhost", s));
    end_is(&t.client, KE_EEXPIRED, "expired");
    pair_fini(&t);
    end(&x);
}

/* With TLS 1.3 the node learns it when it reads. */
static void test_node_times(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    struct kei_tls_options node = node_options(&x);
    node.now = NULL;
    x.now = NOW + 3 * DAY;
    connect_pair(&t, &x, node, "localhost", cloud_options(&x));
    end_is(&t.server, KE_EEXPIRED, "system:node:n1 expired");
    read_once(&t.client);
    end_is(&t.client, KE_EREFUSED, "alert 45, certificate expired");
    pair_fini(&t);
    end(&x);
}

static void test_unknown_ca(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    struct kei_tls_options o = node_options(&x);
    o.ca = x.other.ca; /* same name, other key */
    assert_false(connect_pair(&t, &x, o, "localhost", cloud_options(&x)));
    end_is(&t.client, KE_ECERT, "KubeEdge is not signed by the CA that is trusted here");
    end_is(&t.server, KE_EREFUSED, "alert 48, unknown CA");
    pair_fini(&t);
    o = node_options(&x);
    o.cert = x.other.node;
    o.key = x.other.node_key;
    connect_pair(&t, &x, o, "localhost", cloud_options(&x));
    end_is(&t.server, KE_ECERT, "system:node:n1 is not signed by the CA");
    read_once(&t.client);
    end_is(&t.client, KE_EREFUSED, "alert 48, unknown CA: it does not trust who signed");
    pair_fini(&t);
    end(&x);
}

/* Each end's certificate is for its own use only. */
static void test_purposes(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    struct kei_tls_options o = node_options(&x);
    o.cert = x.p.server;
    o.key = x.p.server_key;
    connect_pair(&t, &x, o, "localhost", cloud_options(&x));
    end_is(&t.server, KE_ECERT, "extended key usage");
    read_once(&t.client);
    end_is(&t.client, KE_EREFUSED, "alert 43");
    pair_fini(&t);
    struct kei_tls_options s = cloud_options(&x);
    s.cert = x.p.node;
    s.key = x.p.node_key;
    assert_false(connect_pair(&t, &x, node_options(&x), "localhost", s));
    end_is(&t.client, KE_ECERT, "");
    pair_fini(&t);
    end(&x);
}

static void test_no_client_cert(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    struct kei_tls_options o = node_options(&x);
    o.cert = NULL;
    o.key = NULL;
    connect_pair(&t, &x, o, "localhost", cloud_options(&x));
    end_is(&t.server, KE_ECERT, "gave no client certificate");
    read_once(&t.client);
    end_is(&t.client, KE_EREFUSED,
           "alert 116, certificate required: it wants a client certificate (none was given)");
    pair_fini(&t);
    end(&x);
}

/* The peer said why and was gone before we wrote: its word counts, not the broken pipe. */
static void test_alert_behind_write_error(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    size_t n;
    begin(&x);
    struct kei_tls_options o = node_options(&x);
    o.cert = NULL;
    o.key = NULL;
    connect_pair(&t, &x, o, "localhost", cloud_options(&x));
    t.to_server.write_errno = EPIPE;
    t.client.r = kei_tls_write(t.client.tls, "hello", 5, &n, &t.client.err);
    end_is(&t.client, KE_EREFUSED, "certificate required");
    pair_fini(&t);
    end(&x);
}

/* The server of certificates takes anybody and decides later. */
static void test_request_peer(void **state)
{
    (void)state;
    struct tls_fixture x;
    begin(&x);
    struct kei_tls_options s = cloud_options(&x);
    s.verify_peer = false;
    s.request_peer = true;
    for (int who = 0; who < 4; who++) {
        struct tls_pair t;
        struct kei_tls_options o = node_options(&x);
        const struct kei_cert *given = who == 0 ? NULL : who == 1 ? x.p.node : x.other.node;
        o.cert = given;
        o.key = who == 0 ? NULL : who == 1 ? x.p.node_key : x.other.node_key;
        x.now = who == 3 ? NOW + 9 * DAY : NOW; /* and an expired one */
        o.now = NULL;
        s.ca = who == 2 ? NULL : x.p.ca;
        assert_true(connect_pair(&t, &x, o, "localhost", s));
        transfer(&t.client, &t.server, 100, 100);
        struct ke_buf der = fixture_buf(&x.f);
        assert_int_equal(kei_tls_peer_cert(t.server.tls, &der), given ? 0 : KE_ENOTFOUND);
        if (given) {
            struct kei_cert *got;
            assert_ok(&x.f, kei_cert_from_der(&got, x.f.c, kei_buf_str(&der), &x.f.err));
            assert_int_equal(kei_cert_verify(got, x.p.ca, true, NOW, NULL),
                             who == 1 ? 0 : KE_ECERT);
            kei_cert_free(got);
        }
        ke_buf_free(&der);
        pair_fini(&t);
    }
    end(&x);
}

/* How /ca.crt is fetched: nobody is verified, the hash in the token decides. */
static void test_no_verify(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    x.now = NOW + 3 * DAY;
    struct kei_tls_options s = cloud_options(&x), o = {.verify_peer = false};
    s.verify_peer = false;
    assert_true(connect_pair(&t, &x, o, "other.example", s));
    transfer(&t.client, &t.server, 100, 100);
    struct ke_buf der = fixture_buf(&x.f);
    assert_int_equal(kei_tls_peer_cert(t.server.tls, &der), KE_ENOTFOUND);
    assert_int_equal(kei_tls_peer_cert(t.client.tls, &der), 0);
    ke_buf_free(&der);
    pair_fini(&t);
    assert_true(connect_pair(&t, &x, o, NULL, s));
    pair_fini(&t);
    end(&x);
}

/* ---- settings ---- */

static void test_options(void **state)
{
    (void)state;
    struct tls_fixture x;
    begin(&x);
    const struct {
        struct kei_tls_options o;
        const char *part;
        int code;
    } cases[] = {
        {{.verify_peer = true}, "without a CA", KE_EINVAL},
        {{.cert = x.p.node}, "together", KE_EINVAL},
        {{.key = x.p.node_key}, "together", KE_EINVAL},
        {{.server = true}, "needs a certificate", KE_EINVAL},
        {{.cert = x.p.node, .key = x.p.server_key}, "not usable for TLS", KE_ECERT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kei_tls_config *t = NULL;
        assert_int_equal(kei_tls_config_new(&t, x.f.ctx, &cases[i].o), cases[i].code);
        if (!strstr(ke_ctx_error(x.f.ctx), cases[i].part))
            fail_msg("%s", ke_ctx_error(x.f.ctx));
        assert_null(t);
    }
    struct kei_tls_config *t = config(&x, node_options(&x));
    assert_ptr_equal(kei_tls_config_ref(t), t);
    kei_tls_config_unref(t);
    kei_tls_config_unref(t);
    kei_tls_config_unref(NULL);
    assert_null(kei_tls_config_ref(NULL));
    kei_tls_free(NULL);
    end(&x);
}

static void test_alerts(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    for (int i = 0; i < 256; i++) {
        int r = kei_tls_alert_error(&err, i, true);
        assert_true(r == KE_ETLS || r == KE_EREFUSED);
        assert_true(strstr(err.text, "alert"));
        assert_null(strstr(err.text, "none was given"));
    }
    assert_int_equal(kei_tls_alert_error(&err, 116, false), KE_EREFUSED);
    assert_non_null(strstr(err.text, "(none was given)"));
    assert_int_equal(kei_tls_alert_error(&err, 70, false), KE_ETLS);
    assert_string_equal(err.text,
                        "the peer ended TLS with alert 70, protocol version: it speaks no "
                        "version of TLS from 1.2 on");
    assert_int_equal(kei_tls_alert_error(&err, 200, false), KE_ETLS);
    assert_string_equal(err.text, "the peer ended TLS with alert 200");
}

/* ---- memory ---- */

static int each_tls(void *arg)
{
    struct tls_fixture *x = arg;
    struct kei_tls_options co = node_options(x), so = cloud_options(x);
    struct kei_tls_config *c = NULL, *s = NULL;
    struct tls_pair t;
    size_t n;
    char b[8];
    pair_init(&t);
    int r = kei_tls_config_new(&c, x->f.ctx, &co);
    if (r == 0)
        r = kei_tls_config_new(&s, x->f.ctx, &so);
    if (r == 0)
        r = pair_try(&t, c, "localhost", s);
    if (r == 0 && !pair_handshake(&t))
        r = t.client.r < 0 ? t.client.r : t.server.r < 0 ? t.server.r : KE_ETLS;
    if (r == 0)
        r = kei_tls_write(t.client.tls, "x", 1, &n, &t.client.err);
    if (r == 0)
        r = kei_tls_read(t.server.tls, b, sizeof b, &n, &t.server.err);
    if (r == 0)
        kei_tls_shutdown(t.server.tls);
    pair_fini(&t);
    kei_tls_config_unref(c);
    kei_tls_config_unref(s);
    return r;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct tls_fixture x;
    begin(&x);
    for (size_t n = 1;; n++) {
        test_alloc_fail_at(&x.f.env.alloc, n);
        int r = each_tls(&x);
        test_alloc_fail_at(&x.f.env.alloc, 0);
        if (r == 0) {
            assert_true(n > 4);
            break;
        }
        assert_int_equal(r, KE_ENOMEM);
    }
    end(&x);
}

static void test_ossl_no_memory(void **state)
{
    (void)state;
    struct tls_fixture x;
    begin(&x);
    ossl_fail_each(each_tls, &x, false, 1);
    ossl_fail_each(each_tls, &x, true, 3);
    end(&x);
}

/* Lack of memory never lets a stranger in, on either side. */
static int each_stranger(void *arg)
{
    struct tls_fixture *x = arg;
    struct kei_tls_options co = node_options(x), so = cloud_options(x);
    struct kei_tls_config *c = NULL, *s = NULL;
    for (int side = 0; side < 2; side++) {
        struct tls_pair t;
        if (side == 0)
            co.ca = x->other.ca;
        else
            co.ca = x->p.ca, so.ca = x->other.ca;
        pair_init(&t);
        int r = kei_tls_config_new(&c, x->f.ctx, &co);
        if (r == 0)
            r = kei_tls_config_new(&s, x->f.ctx, &so);
        if (r == 0)
            r = pair_try(&t, c, "localhost", s);
        if (r == 0)
            pair_handshake(&t);
        if (r == 0 && (side == 0 ? t.client.r : t.server.r) == 0)
            fail_msg("accepted");
        pair_fini(&t);
        kei_tls_config_unref(c);
        kei_tls_config_unref(s);
        c = s = NULL;
    }
    return 0;
}

static void test_stranger_no_memory(void **state)
{
    (void)state;
    struct tls_fixture x;
    begin(&x);
    ossl_fail_each(each_stranger, &x, false, 5);
    end(&x);
}

/* The context may be freed while a thread that shook hands in it lives on. */
struct talker {
    struct tls_fixture *x;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool done, may_end;
};

static void *talk(void *arg)
{
    struct talker *k = arg;
    assert_int_equal(each_tls(k->x), 0);
    pthread_mutex_lock(&k->mu);
    k->done = true;
    pthread_cond_broadcast(&k->cond);
    while (!k->may_end)
        pthread_cond_wait(&k->cond, &k->mu);
    pthread_mutex_unlock(&k->mu);
    return NULL;
}

static void test_thread_outlives(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct talker k = {.x = &x, .mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    pthread_t t;
    begin(&x);
    assert_int_equal(pthread_create(&t, NULL, talk, &k), 0);
    pthread_mutex_lock(&k.mu);
    while (!k.done)
        pthread_cond_wait(&k.cond, &k.mu);
    pthread_mutex_unlock(&k.mu);
    end(&x);
    pthread_mutex_lock(&k.mu);
    k.may_end = true;
    pthread_cond_broadcast(&k.cond);
    pthread_mutex_unlock(&k.mu);
    assert_int_equal(pthread_join(t, NULL), 0);
}

/* A refusal whose text finds no memory is still a refusal. */
static void test_refusal_no_memory(void **state)
{
    (void)state;
    struct tls_fixture x;
    struct tls_pair t;
    begin(&x);
    struct kei_tls_options o = node_options(&x);
    o.ca = x.other.ca;
    struct kei_tls_config *c = config(&x, o), *s = config(&x, cloud_options(&x));
    pair_init(&t);
    pair_open(&t, c, "localhost", s);
    test_alloc_fail_from(&x.f.env.alloc, 1);
    assert_false(pair_handshake(&t));
    test_alloc_fail_at(&x.f.env.alloc, 0);
    assert_true(t.client.r < 0);
    pair_fini(&t);
    kei_tls_config_unref(c);
    kei_tls_config_unref(s);
    end(&x);
}

int main(void)
{
    ossl_hook();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_moved_buffer),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_handshake_cut),
        cmocka_unit_test(test_peer_cert),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_no_names),
        cmocka_unit_test(test_server_times),
        cmocka_unit_test(test_node_times),
        cmocka_unit_test(test_unknown_ca),
        cmocka_unit_test(test_purposes),
        cmocka_unit_test(test_no_client_cert),
        cmocka_unit_test(test_alert_behind_write_error),
        cmocka_unit_test(test_request_peer),
        cmocka_unit_test(test_no_verify),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_alerts),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_ossl_no_memory),
        cmocka_unit_test(test_stranger_no_memory),
        cmocka_unit_test(test_refusal_no_memory),
        cmocka_unit_test(test_thread_outlives),
    };
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
