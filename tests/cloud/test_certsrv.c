/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate port: who gets a certificate for what, and what the refusals say. */
#include "cloud/cloud_rig.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/codec.h"
#include "net/tls.h"

struct answer {
    bool done;
    int status;
    uint32_t code;
    char text[2048];
    struct ke_buf body;
};

struct world {
    struct rig r;
    struct kei_crypto *crypto;
    struct kei_key *key, *other_key;
    struct kei_cert *other_ca;
    struct kei_key *other_ca_key;
    struct ke_buf token;
    struct answer a;
};

static void begin(struct world *w)
{
    struct ke_error err = KE_ERROR_INIT;
    memset(w, 0, sizeof *w);
    rig_init(&w->r, NULL);
    rig_start(&w->r);
    assert_int_equal(kei_crypto_get(w->r.edges, &w->crypto), 0);
    assert_int_equal(kei_key_new_p256(&w->key, w->crypto, &err), 0);
    assert_int_equal(kei_key_new_p256(&w->other_key, w->crypto, &err), 0);
    assert_int_equal(kei_key_new_p256(&w->other_ca_key, w->crypto, &err), 0);
    assert_int_equal(
        kei_ca_make(&w->other_ca, w->other_ca_key, ke_ctx_real_ms(w->r.edges) / 1000, &err), 0);
    assert_int_equal(ke_cloud_token(w->r.c, &w->token), 0);
}

static void end(struct world *w)
{
    kei_key_free(w->key);
    kei_key_free(w->other_key);
    kei_key_free(w->other_ca_key);
    kei_cert_free(w->other_ca);
    ke_buf_free(&w->token);
    ke_buf_free(&w->a.body);
    rig_fini(&w->r);
}

static void on_done(void *user, int status, const char *text, const struct kei_http_head *head,
                    struct ke_str body)
{
    struct answer *a = user;
    a->done = true;
    a->status = status;
    a->code = head ? head->status : 0;
    ke_buf_free(&a->body);
    memset(&a->body, 0, sizeof a->body);
    kei_buf_addv(&a->body, body);
    snprintf(a->text, sizeof a->text, "%.*s", (int)(status < 0 ? strlen(text) : body.n),
             status < 0 ? text : body.p);
}

static bool is_done(void *arg)
{
    return ((struct answer *)arg)->done;
}

static void call(struct world *w, const char *method, const char *target, const char *headers,
                 struct ke_str body, const struct kei_cert *cert, const struct kei_key *key)
{
    uint32_t tunnel, port;
    struct kei_tls_config *tls = NULL;
    struct kei_cert *ca = NULL;
    struct kei_http_call *c = NULL;
    assert_int_equal(ke_cloud_ports(w->r.c, &tunnel, &port), 0);
    assert_int_equal(kei_cert_from_der(&ca, w->crypto, kei_buf_str(&w->r.c->pki.ca_der), NULL), 0);
    const struct kei_tls_options o = {.verify_peer = true, .ca = ca, .cert = cert, .key = key};
    assert_int_equal(kei_tls_config_new(&tls, w->r.edges, &o), 0);
    const struct kei_http_call_config cc = {
        .stream = {.host = "127.0.0.1", .port = (uint16_t)port, .tls = tls, .send_cap = 8u << 20},
        .method = method,
        .target = target,
        .headers = headers,
        .body = body};
    w->a.done = false;
    assert_int_equal(kei_http_call(&c, w->r.edges, &cc, on_done, &w->a), 0);
    assert_true(rig_until(&w->r, is_done, &w->a));
    kei_http_call_free(c);
    kei_tls_config_unref(tls);
    kei_cert_free(ca);
}

static const char *jwt(const struct world *w)
{
    return strchr(w->token.p, '.') + 1;
}

/* GET /edge.crt with a request for cn and these headers */
static void ask(struct world *w, const char *node, const char *auth, const char *more,
                const char *org, const char *cn, const struct kei_cert *cert)
{
    char headers[2000];
    struct ke_buf csr = {0};
    assert_int_equal(kei_csr_make(&csr, w->key, org, cn, NULL), 0);
    snprintf(headers, sizeof headers, "%s%s%s%s%s%s%s", node ? "Nodename: " : "", node ? node : "",
             node ? "\r\n" : "", auth ? "Authorization: " : "", auth ? auth : "",
             auth ? "\r\n" : "", more);
    call(w, "GET", "/edge.crt", headers, kei_buf_str(&csr), cert, cert ? w->other_key : NULL);
    ke_buf_free(&csr);
}

static void gives_the_authority(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    call(&w, "GET", "/ca.crt", NULL, kei_str(""), NULL, NULL);
    assert_int_equal(w.a.code, 200);
    assert_true(kei_str_eq(kei_buf_str(&w.a.body), kei_buf_str(&w.r.c->pki.ca_der)));
    uint8_t sha[32];
    char hex[65];
    kei_sha256(w.a.body.p, w.a.body.n, sha);
    kei_hex_encode(hex, sha, 32);
    assert_memory_equal(w.token.p, hex, 64); /* the token pins it */
    call(&w, "GET", "/readyz", NULL, kei_str(""), NULL, NULL);
    assert_int_equal(w.a.code, 404); /* that one is of 1.4 only */
    call(&w, "POST", "/ca.crt", NULL, kei_str("x"), NULL, NULL);
    assert_int_equal(w.a.code, 405);
    call(&w, "GET", "/node/none", NULL, kei_str(""), NULL, NULL);
    assert_int_equal(w.a.code, 404);
    call(&w, "GET", "/node/../x", NULL, kei_str(""), NULL, NULL);
    assert_int_equal(w.a.code, 404);
    struct edge e;
    edge_init(&e, &w.r, "edge-1");
    assert_true(edge_connect(&e));
    edge_register(&e, "default", NULL);
    call(&w, "GET", "/node/edge-1", NULL, kei_str(""), NULL, NULL);
    assert_int_equal(w.a.code, 200);
    assert_string_equal(w.a.text, "Node founded");
    edge_fini(&e);
    end(&w);
}

static void signs_for_the_token(void **state)
{
    (void)state;
    struct world w;
    char auth[1000];
    struct kei_cert *cert = NULL;
    struct kei_cert_info info;
    static const struct {
        const char *org, *cn, *more;
    } cases[] = {{"system:nodes", "system:node:edge-1", ""},
                 {"kubeEdge", "kubeedge.io", ""},
                 {"system:nodes", "system:node:edge-1", "ExtKeyUsages: [1,2]\r\n"}};
    begin(&w);
    snprintf(auth, sizeof auth, "Bearer %s", jwt(&w));
    for (size_t i = 0; i < 3; i++) {
        ask(&w, "edge-1", auth, cases[i].more, cases[i].org, cases[i].cn, NULL);
        if (w.a.code != 200)
            fail_msg("case %zu: %u %s", i, (unsigned)w.a.code, w.a.text);
        assert_int_equal(kei_cert_from_der(&cert, w.crypto, kei_buf_str(&w.a.body), NULL), 0);
        assert_int_equal(kei_cert_info(cert, &info, NULL), 0);
        assert_string_equal(info.cn, cases[i].cn);
        assert_string_equal(info.org, cases[i].org);
        assert_true(kei_cert_matches(cert, w.key));
        int64_t now = ke_ctx_real_ms(w.r.edges) / 1000;
        assert_in_range(info.not_after, now + 365 * 86400 - 100, now + 365 * 86400 + 100);
        assert_int_equal(kei_cert_verify(cert, w.r.c->pki.ca, true, now, NULL), 0);
        assert_int_equal(kei_cert_verify(cert, w.r.c->pki.ca, false, now, NULL) == 0, i == 2);
        kei_cert_free(cert);
    }
    end(&w);
}

static void refuses_bad_tokens(void **state)
{
    (void)state;
    struct world w;
    char auth[1400];
    begin(&w);
    static const char *const forms[] = {"",
                                        "Bearer",
                                        "Bearer ",
                                        "Bearer x",
                                        "Bearer a.b",
                                        "Bearer a.b.c",
                                        "Bearer a.b.c.d",
                                        "Bearer a b",
                                        "Basic dXNlcjpwdw=="};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        ask(&w, "edge-1", forms[i], "", "system:nodes", "system:node:edge-1", NULL);
        if (w.a.code != 401 || !strstr(w.a.text, "token validation failure"))
            fail_msg("case %zu: %u %s", i, (unsigned)w.a.code, w.a.text);
    }
    ask(&w, "edge-1", NULL, "", "system:nodes", "system:node:edge-1", NULL);
    assert_int_equal(w.a.code, 401);
    /* the whole token, with the hash in front: only the rest of it is sent */
    snprintf(auth, sizeof auth, "Bearer %s", w.token.p);
    ask(&w, "edge-1", auth, "", "system:nodes", "system:node:edge-1", NULL);
    assert_int_equal(w.a.code, 401);
    /* one letter of the signature */
    snprintf(auth, sizeof auth, "Bearer %s", jwt(&w));
    char *last = auth + strlen(auth) - 5;
    *last = *last == 'A' ? 'B' : 'A';
    ask(&w, "edge-1", auth, "", "system:nodes", "system:node:edge-1", NULL);
    assert_int_equal(w.a.code, 401);
    /* without a signature, and one of another cloud */
    ask(&w, "edge-1", "Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJleHAiOjk5OTk5OTk5OTl9.", "",
        "system:nodes", "system:node:edge-1", NULL);
    assert_int_equal(w.a.code, 401);
    struct ke_buf der = {0}, secret = {0}, token = {0};
    assert_int_equal(kei_cert_der(w.other_ca, &der, NULL), 0);
    assert_int_equal(kei_key_der(w.other_ca_key, &secret, NULL), 0);
    assert_int_equal(
        kei_token_make(&token, kei_buf_str(&der), kei_buf_str(&secret), INT64_C(9999999999), NULL),
        0);
    snprintf(auth, sizeof auth, "Bearer %s", strchr(token.p, '.') + 1);
    ask(&w, "edge-1", auth, "", "system:nodes", "system:node:edge-1", NULL);
    assert_int_equal(w.a.code, 401);
    ke_buf_free(&der);
    ke_buf_free(&secret);
    ke_buf_free(&token);
    /* and when its time is over */
    snprintf(auth, sizeof auth, "Bearer %s", jwt(&w));
    ask(&w, "edge-1", auth, "", "system:nodes", "system:node:edge-1", NULL);
    assert_int_equal(w.a.code, 200);
    test_clock_advance(&w.r.env.clock, 24 * 3600 * 1000 + 1000);
    ask(&w, "edge-1", auth, "", "system:nodes", "system:node:edge-1", NULL);
    assert_int_equal(w.a.code, 401);
    if (!strstr(w.a.text, "the token ended at 2026-12-02"))
        fail_msg("it says: %s", w.a.text);
    end(&w);
}

static void refuses_bad_requests(void **state)
{
    static const struct {
        const char *node, *more, *org, *cn;
        uint32_t code;
    } cases[] = {
        {"edge-1", "", "system:nodes", "system:node:edge-2", 500},
        {"edge-1", "", "system:nodes", "system:node:edge-11", 500},
        {"edge-1", "", "system:nodes", "edge-1", 500},
        {"edge-1", "", "system:masters", "admin", 500},
        {"edge-1", "", "system:masters", "system:node:edge-1", 500},
        {"edge-1", "", "system:masters", "kubeedge.io", 500},
        {"edge-1", "", "system:nodes", "kubeedge.io", 500},
        {NULL, "", "system:nodes", "system:node:edge-1", 400},
        {"Edge_1", "", "system:nodes", "system:node:Edge_1", 400},
        {"edge-1", "ExtKeyUsages: [5]\r\n", "system:nodes", "system:node:edge-1", 400},
        {"edge-1", "ExtKeyUsages: 1\r\n", "system:nodes", "system:node:edge-1", 400},
        {"edge-1", "ExtKeyUsages: [1,2,1,2,1,2,1,2,1]\r\n", "system:nodes", "system:node:edge-1",
         400},
    };
    (void)state;
    struct world w;
    char auth[1000], headers[1200];
    begin(&w);
    snprintf(auth, sizeof auth, "Bearer %s", jwt(&w));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(&w, cases[i].node, auth, cases[i].more, cases[i].org, cases[i].cn, NULL);
        if (w.a.code != cases[i].code)
            fail_msg("case %zu: %u %s", i, (unsigned)w.a.code, w.a.text);
    }
    snprintf(headers, sizeof headers, "Nodename: edge-1\r\nAuthorization: %s\r\n", auth);
    static const char *const bodies[] = {"", "rubbish", "\x30\x82\x01\x1a", "\x30\x80"};
    for (size_t i = 0; i < 4; i++) {
        call(&w, "GET", "/edge.crt", headers, kei_str(bodies[i]), NULL, NULL);
        assert_int_equal(w.a.code, 500);
    }
    char *big = calloc(1, 1100001);
    memset(big, 'x', 1100000);
    call(&w, "GET", "/edge.crt", headers, kei_str(big), NULL, NULL);
    assert_true(w.a.code == 413 || w.a.status < 0);
    free(big);
    end(&w);
}

static struct kei_cert *certify(struct world *w, const char *org, const char *cn, bool other,
                                int64_t seconds)
{
    struct ke_buf csr = {0}, der = {0};
    struct kei_cert *mine = NULL, *cert = NULL;
    uint8_t eku[1] = {2};
    assert_int_equal(kei_csr_make(&csr, w->other_key, org, cn, NULL), 0);
    assert_int_equal(kei_ca_sign_csr(&mine, other ? w->other_ca : w->r.c->pki.ca,
                                     other ? w->other_ca_key : w->r.c->pki.ca_key,
                                     kei_buf_str(&csr), eku, 1,
                                     ke_ctx_real_ms(w->r.edges) / 1000 - 100, seconds, NULL),
                     0);
    assert_int_equal(kei_cert_der(mine, &der, NULL), 0);
    assert_int_equal(kei_cert_from_der(&cert, w->crypto, kei_buf_str(&der), NULL), 0);
    kei_cert_free(mine);
    ke_buf_free(&csr);
    ke_buf_free(&der);
    return cert;
}

static void renews_by_certificate(void **state)
{
    static const struct {
        const char *org, *cn; /* of the old certificate */
        bool other;
        int64_t seconds;
        const char *node, *wanted; /* the latter with the O that belongs to it */
        uint32_t code;
    } cases[] = {
        {"system:nodes", "system:node:edge-1", false, 1000, "edge-1", "system:node:edge-1", 200},
        {"system:nodes", "system:node:edge-1", false, 1000, "edge-1", "kubeedge.io", 500},
        {"system:nodes", "system:node:edge-1", false, 1000, "edge-2", "system:node:edge-2", 401},
        {"system:nodes", "system:node:edge-1", false, 1000, "edge-1", "system:node:edge-2", 500},
        {"other", "system:node:edge-1", false, 1000, "edge-1", "system:node:edge-1", 401},
        {"system:nodes", "system:node:edge-1", true, 1000, "edge-1", "system:node:edge-1", 401},
        {"system:nodes", "system:node:edge-1", false, 50, "edge-1", "system:node:edge-1",
         401}, /* expired */
        {"kubeEdge", "kubeedge.io", false, 1000, "edge-1", "kubeedge.io", 200},
        {"KubeEdge", "kubeedge.io", false, 1000, "edge-1", "system:node:edge-1", 200},
        {"x", "kubeedge.io", false, 1000, "edge-1", "kubeedge.io", 401},
    };
    (void)state;
    struct world w;
    char auth[1000];
    begin(&w);
    snprintf(auth, sizeof auth, "Bearer %s", jwt(&w));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kei_cert *cert =
            certify(&w, cases[i].org, cases[i].cn, cases[i].other, cases[i].seconds);
        const char *org = strcmp(cases[i].wanted, "kubeedge.io") ? "system:nodes" : "kubeEdge";
        ask(&w, cases[i].node, NULL, "", org, cases[i].wanted, cert);
        if (w.a.code != cases[i].code)
            fail_msg("case %zu: %u %s", i, (unsigned)w.a.code, w.a.text);
        /* a token makes no bad certificate good */
        if (w.a.code == 401) {
            ask(&w, cases[i].node, auth, "", org, cases[i].wanted, cert);
            assert_int_equal(w.a.code, 401);
        }
        kei_cert_free(cert);
    }
    end(&w);
}

/* Asks by cert (of other_key) for org/cn as node; the answer's code. */
static uint32_t renew(struct world *w, const struct kei_cert *cert, const char *node,
                      const char *org, const char *cn)
{
    ask(w, node, NULL, "", org, cn, cert);
    return w->a.code;
}

/* What came belongs to other_key from now on. */
static struct kei_cert *take(struct world *w)
{
    struct kei_cert *cert = NULL;
    struct kei_key *key = w->key;
    assert_int_equal(w->a.code, 200);
    assert_int_equal(kei_cert_from_der(&cert, w->crypto, kei_buf_str(&w->a.body), NULL), 0);
    w->key = w->other_key;
    w->other_key = key;
    return cert;
}

static void fresh_key(struct world *w)
{
    kei_key_free(w->key);
    w->key = NULL;
    assert_int_equal(kei_key_new_p256(&w->key, w->crypto, NULL), 0);
}

/* The form up to 1.15 does not name the node: the cloud remembers whose a certificate is. */
static void binds_what_bears_no_name(void **state)
{
    (void)state;
    struct world w;
    char auth[1000];
    begin(&w);
    snprintf(auth, sizeof auth, "Bearer %s", jwt(&w));
    ask(&w, "edge-1", auth, "", "kubeEdge", "kubeedge.io", NULL);
    struct kei_cert *first = take(&w), *second;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(renew(&w, first, "edge-2", "kubeEdge", "kubeedge.io"), 401);
        assert_non_null(strstr(w.a.text, "edge-1"));
        assert_int_equal(renew(&w, first, "edge-2", "system:nodes", "system:node:edge-2"), 401);
        assert_int_equal(renew(&w, first, "edge-1", "system:nodes", "system:node:edge-2"), 500);
        rig_restart(&w.r);
    }
    /* handed on to the next one, also over a restart; the first stays what it is */
    assert_int_equal(renew(&w, first, "edge-1", "kubeEdge", "kubeedge.io"), 200);
    second = take(&w);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(renew(&w, second, "edge-2", "kubeEdge", "kubeedge.io"), 401);
        rig_restart(&w.r);
    }
    /* its key is no other node's, whoever has a token */
    struct kei_key *key = w.key;
    w.key = w.other_key;
    w.other_key = key;
    snprintf(auth, sizeof auth, "Bearer %s", jwt(&w));
    ask(&w, "edge-2", auth, "", "kubeEdge", "kubeedge.io", NULL);
    assert_int_equal(w.a.code, 500);
    kei_cert_free(first);
    kei_cert_free(second);
    end(&w);
}

/* One from before the cloud remembered this is the node's that uses it first. */
static void binds_at_first_use(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    struct kei_cert *cert = certify(&w, "kubeEdge", "kubeedge.io", false, 400 * 86400), *next;
    assert_int_equal(renew(&w, cert, "edge-1", "kubeEdge", "kubeedge.io"), 200);
    fresh_key(&w);
    rig_restart(&w.r);
    assert_int_equal(renew(&w, cert, "edge-2", "kubeEdge", "kubeedge.io"), 401);
    assert_int_equal(renew(&w, cert, "edge-1", "kubeEdge", "kubeedge.io"), 200);
    next = take(&w);
    kei_cert_free(cert);
    /* what has ended is forgotten, at a start */
    assert_int_equal(w.r.c->bindings.n, 3);
    test_clock_advance(&w.r.env.clock, INT64_C(366) * 86400 * 1000);
    rig_restart(&w.r);
    assert_int_equal(w.r.c->bindings.n, 1); /* the oldest has a longer life here */
    kei_cert_free(next);
    end(&w);
}

#define IDLERS 1200

/* Who connects and says nothing keeps nobody from either port. */
static void idle_connections(void **state)
{
    (void)state;
    for (int port = 0; port < 2; port++) {
        struct world w;
        struct edge e;
        uint32_t ports[2];
        int fd[IDLERS];
        struct rlimit l;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
        if (l.rlim_cur < 3 * IDLERS)
            skip();
        begin(&w);
        assert_int_equal(ke_cloud_ports(w.r.c, &ports[0], &ports[1]), 0);
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)ports[port]),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        for (int i = 0; i < IDLERS; i++) {
            fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            assert_true(fd[i] >= 0);
            assert_true(connect(fd[i], (struct sockaddr *)&to, sizeof to) == 0 ||
                        errno == EINPROGRESS);
        }
        call(&w, "GET", "/ca.crt", NULL, kei_str(""), NULL, NULL);
        assert_int_equal(w.a.code, 200);
        edge_init(&e, &w.r, "edge-1");
        assert_true(edge_connect(&e));
        for (int i = 0; i < IDLERS; i++)
            close(fd[i]);
        edge_fini(&e);
        end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_authority),   cmocka_unit_test(signs_for_the_token),
        cmocka_unit_test(refuses_bad_tokens),    cmocka_unit_test(refuses_bad_requests),
        cmocka_unit_test(renews_by_certificate), cmocka_unit_test(binds_what_bears_no_name),
        cmocka_unit_test(binds_at_first_use),    cmocka_unit_test(idle_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
