/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining: what is asked, and each way it can go wrong with its code and a text that says what to
 * do; a cloud that goes at any byte; host-given files; clocks that are wrong.
 */
#include "rig.h"

#include <sys/stat.h>
#include <unistd.h>

#include "sim/cut_proxy.h"
#include "tunnel/join.h"

/* ---- each way to fail ---- */

struct failing {
    const char *name;
    void (*prepare)(struct rig *r);
    int32_t code;
    const char *text; /* part of what is said */
};

static char changed_token[1024];

static void token_of_another_cloud(struct rig *r)
{
    snprintf(changed_token, sizeof changed_token, "%s", r->fc.token.p);
    for (int i = 0; i < 64; i++)
        changed_token[i] = changed_token[i] == 'a' ? 'b' : 'a';
    r->conf.token = changed_token;
}

static void token_with_a_bad_signature(struct rig *r)
{
    size_t n = r->fc.token.n;

    snprintf(changed_token, sizeof changed_token, "%s", r->fc.token.p);
    changed_token[n - 5] = changed_token[n - 5] == 'A' ? 'B' : 'A';
    r->conf.token = changed_token;
}

static void token_in_three_parts(struct rig *r)
{
    r->conf.token = strchr(r->fc.token.p, '.') + 1;
}

static void token_that_is_a_word(struct rig *r)
{
    r->conf.token = "secret";
}

static void no_token(struct rig *r)
{
    r->conf.token = NULL;
}

static void expired_token(struct rig *r)
{
    test_clock_advance(&r->env.clock, 3 * 86400000LL);
}

static void other_ca(struct rig *r)
{
    r->fc.other_ca = true;
}

static void status_500(struct rig *r)
{
    r->fc.edge_status = 500;
    r->fc.edge_body = "failed to sign certs for edgenode edge-1";
}

static void status_400(struct rig *r)
{
    r->fc.edge_status = 400;
    r->fc.edge_body = "Invalid authorization token\n";
}

static void garbage(struct rig *r)
{
    r->fc.edge_garbage = true;
}

static void other_key(struct rig *r)
{
    r->fc.edge_other_key = true;
}

static void other_name(struct rig *r)
{
    r->fc.edge_cn = "system:node:edge-2";
}

static void nobody_there(struct rig *r)
{
    fake_cloud_down(&r->fc);
}

static void wrong_port(struct rig *r)
{
    r->conf.cert_port = 1;
}

static void server_of_another_name(struct rig *r)
{
    int64_t now = ke_ctx_real_ms(r->env.ctx) / 1000;

    fake_cloud_server_cert(&r->fc, "cloud.example", now - 10, now + 86400);
}

static void expired_server(struct rig *r)
{
    int64_t now = ke_ctx_real_ms(r->env.ctx) / 1000;

    fake_cloud_server_cert(&r->fc, "127.0.0.1", now - 200, now - 100);
}

static const struct failing failures[] = {
    {"token of another cloud", token_of_another_cloud, KE_EPIN, "the token is of another cloud"},
    {"bad signature", token_with_a_bad_signature, KE_ETOKEN, "Invalid authorization token"},
    {"three parts", token_in_three_parts, KE_ETOKEN, "token"},
    {"a word", token_that_is_a_word, KE_ETOKEN, "token"},
    {"none", no_token, KE_ETOKEN, "configure a token"},
    {"expired token", expired_token, KE_ETOKEN, "get a new one"},
    {"another CA", other_ca, KE_EPIN, "SHA-256"},
    {"500", status_500, KE_EHTTP, "failed to sign certs"},
    {"400", status_400, KE_ETOKEN, "Invalid authorization token"},
    {"200 without certificate", garbage, KE_ECERT, "no certificate"},
    {"another key", other_key, KE_EKEY, "another key"},
    {"another name", other_name, KE_ECERT, "system:node:edge-2"},
    {"nobody", nobody_there, KE_ECONN, "127.0.0.1"},
    {"closed port", wrong_port, KE_ECONN,
     "asking for the CA of the cloud: could not connect to 127.0.0.1 port 1: Connection refused"},
    {"server of another name", server_of_another_name, KE_ECERT, "cloud.example"},
    {"expired server", expired_server, KE_EEXPIRED, "expired"},
};

static void failures_are_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        const struct failing *f = &failures[i];
        struct rig r;

        rig_init(&r, NULL);
        f->prepare(&r);
        rig_tunnel(&r);
        rig_start(&r);
        assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
        if (r.last_error != f->code || !strstr(r.last_text, f->text))
            fail_msg("%s: %s, %s", f->name, ke_strerror(r.last_error), r.last_text);
        assert_true(rig_status(&r).next_retry_ms >= 0);
        assert_int_equal(r.fc.upgrades, 0);
        assert_false(rig_exists(&r, "identity/current.pem"));
        rig_fini(&r);
    }
}

/* None of them is for ever: as soon as it is put right the node joins, without a restart. */
static void it_goes_on_trying(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    r.fc.edge_status = 401;
    rig_tunnel(&r);
    rig_start(&r);
    for (int i = 0; i < 5; i++) {
        assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
        rig_drive(&r, rig_status(&r).next_retry_ms + 1);
    }
    assert_true(r.fc.edge_requests >= 3);
    r.fc.edge_status = 0;
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    rig_fini(&r);
}

/* ---- a cloud that goes at any byte ---- */

static void gone_at_any_byte(void **state)
{
    struct rig r;
    struct cut_proxy *cert, *hub;
    uint64_t down = 0;

    (void)state;
    rig_init(&r, NULL);
    cert = cut_proxy_new(r.env.ctx, r.fc.cert_port);
    hub = cut_proxy_new(r.env.ctx, r.fc.hub_port);
    r.conf.cert_port = cut_proxy_port(cert);
    r.conf.tunnel_port = cut_proxy_port(hub);
    r.env.idle_ms = 2;
    rig_tunnel(&r);
    rig_start(&r);
    for (; r.fc.upgrades == 0 && down < 100000; down += 7) {
        cut_proxy_limit(cert, down, UINT64_MAX);
        cut_proxy_limit(hub, down, UINT64_MAX);
        if (r.state == KE_TUNNEL_CONNECTED)
            break;
        assert_int_equal(ke_tunnel_reconnect(r.t), 0);
        rig_drive(&r, 1);
        assert_true(rig_until_state(&r, KE_TUNNEL_WAITING) || r.fc.upgrades > 0);
    }
    assert_true(down > 1000 && down < 100000);
    cut_proxy_limit(cert, UINT64_MAX, UINT64_MAX);
    cut_proxy_limit(hub, UINT64_MAX, UINT64_MAX);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    rig_free_tunnel(&r);
    cut_proxy_free(cert);
    cut_proxy_free(hub);
    rig_fini(&r);
}

/* ---- through a proxy ---- */

static void through_a_proxy(void **state)
{
    struct rig r;
    struct cut_proxy *proxy;
    char url[128], want[64];

    (void)state;
    rig_init(&r, NULL);
    proxy = cut_proxy_new(r.env.ctx, r.fc.cert_port);
    cut_proxy_http(proxy, "dXNlcjpwYXNz"); /* user:pass */
    snprintf(url, sizeof url, "http://user:wrong@127.0.0.1:%u", cut_proxy_port(proxy));
    r.conf.proxy_url = url;
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(r.last_error, KE_EPROXY);
    assert_non_null(strstr(r.last_text, "407"));
    assert_null(strstr(r.last_text, "wrong")); /* no password in a text */
    rig_free_tunnel(&r);
    /* what goes to the certificate port */
    snprintf(url, sizeof url, "http://user:pass@127.0.0.1:%u", cut_proxy_port(proxy));
    r.fc.upgrade_status = 503;
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_n(&r, &r.fc.probes, 1));
    assert_int_equal(r.fc.edge_requests, 1);
    rig_free_tunnel(&r);
    cut_proxy_free(proxy);
    /* and to the tunnel port */
    r.fc.upgrade_status = 0;
    proxy = cut_proxy_new(r.env.ctx, r.fc.hub_port);
    cut_proxy_http(proxy, "dXNlcjpwYXNz");
    snprintf(url, sizeof url, "http://user:pass@127.0.0.1:%u", cut_proxy_port(proxy));
    r.conf.dialect = KE_DIALECT_1_15;
    rig_connect(&r);
    snprintf(want, sizeof want, "127.0.0.1:%u", r.fc.hub_port);
    assert_string_equal(cut_proxy_asked(proxy), want);
    rig_free_tunnel(&r);
    cut_proxy_free(proxy);
    rig_fini(&r);
}

/* ---- files of the host ---- */

static void write_pem(struct rig *r, const char *name, const struct kei_cert *cert,
                      const struct kei_key *key, char path[256])
{
    struct ke_buf text;
    FILE *f;

    snprintf(path, 256, "%s/%s", r->dir, name);
    kei_buf_init(&text, kei_ctx_alloc(r->env.ctx));
    if (cert)
        assert_int_equal(kei_cert_pem(cert, &text, NULL), 0);
    if (key)
        assert_int_equal(kei_key_pem(key, &text, NULL), 0);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
    fclose(f);
    kei_buf_wipe(&text);
}

static struct kei_cert *sign_for(struct rig *r, const struct kei_key *key, const char *cn)
{
    struct kei_cert *cert = NULL;
    struct ke_buf csr;
    int64_t now = ke_ctx_real_ms(r->env.ctx) / 1000;

    kei_buf_init(&csr, kei_ctx_alloc(r->env.ctx));
    assert_int_equal(kei_csr_make(&csr, key, "system:nodes", cn, NULL), 0);
    assert_int_equal(kei_ca_sign_csr(&cert, r->fc.ca, r->fc.ca_key, kei_buf_str(&csr), NULL, 0, now,
                                     86400, NULL),
                     0);
    ke_buf_free(&csr);
    return cert;
}

static void with_files_of_the_host(void **state)
{
    struct rig r;
    struct kei_key *key = NULL;
    struct kei_cert *cert;
    char ca_path[256], cert_path[256], key_path[256];

    (void)state;
    rig_init(&r, NULL);
    assert_int_equal(kei_key_new_p256(&key, r.fc.crypto, NULL), 0);
    cert = sign_for(&r, key, "system:node:from-the-host");
    write_pem(&r, "ca.pem", r.fc.ca, NULL, ca_path);
    write_pem(&r, "cert.pem", cert, NULL, cert_path);
    write_pem(&r, "key.pem", NULL, key, key_path);
    r.conf.token = NULL;
    r.conf.ca_file = ca_path;
    r.conf.cert_file = cert_path;
    r.conf.key_file = key_path;
    rig_connect(&r);
    assert_string_equal(r.fc.client_cn, "system:node:from-the-host");
    assert_int_equal(r.fc.edge_requests + r.fc.ca_requests, 0);
    assert_int_equal(rig_status(&r).cert_rotate_at, 0);
    assert_false(rig_exists(&r, "identity/current.pem"));
    /* The host replaces both: the next link uses them. */
    kei_cert_free(cert);
    kei_key_free(key);
    key = NULL;
    assert_int_equal(kei_key_new_p256(&key, r.fc.crypto, NULL), 0);
    cert = sign_for(&r, key, "system:node:renewed");
    write_pem(&r, "cert.pem", cert, NULL, cert_path);
    write_pem(&r, "key.pem", NULL, key, key_path);
    assert_int_equal(ke_tunnel_reconnect(r.t), 0);
    assert_true(rig_until_n(&r, &r.fc.upgrades, 2));
    assert_string_equal(r.fc.client_cn, "system:node:renewed");
    /* A key that does not belong to the certificate is named. */
    kei_key_free(key);
    key = NULL;
    assert_int_equal(kei_key_new_p256(&key, r.fc.crypto, NULL), 0);
    write_pem(&r, "key.pem", NULL, key, key_path);
    assert_int_equal(ke_tunnel_reconnect(r.t), 0);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(r.last_error, KE_EKEY);
    assert_non_null(strstr(r.last_text, "key.pem"));
    kei_cert_free(cert);
    kei_key_free(key);
    rig_fini(&r);
}

/* Only the CA is the host's: it is what the cloud must show, also after the host replaced it. */
static void with_the_ca_of_the_host(void **state)
{
    struct rig r;
    char ca_path[256];

    (void)state;
    rig_init(&r, NULL);
    write_pem(&r, "ca.pem", r.fc.ca, NULL, ca_path);
    r.conf.ca_file = ca_path;
    rig_connect(&r);
    assert_int_equal(r.fc.ca_requests, 0);
    assert_int_equal(r.fc.edge_requests, 1);
    rig_drive(&r, 1000);
    rig_free_tunnel(&r);
    fake_cloud_new_ca(&r.fc);
    r.conf.token = r.fc.token.p;
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING)); /* not the one the host trusts */
    assert_int_equal(r.fc.edge_requests, 1);
    write_pem(&r, "ca.pem", r.fc.ca, NULL, ca_path);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED)); /* by the token, after refusals */
    assert_int_equal(r.fc.edge_requests, 2);
    rig_fini(&r);
}

/* The key stays where it is, by URI; only certificate and CA are kept by the tunnel. */
static void with_a_key_by_uri(void **state)
{
    struct rig r;
    struct kei_key *key = NULL;
    char key_path[256], uri[300];
    char *unit;

    (void)state;
    rig_init(&r, NULL);
    assert_int_equal(kei_key_new_p256(&key, r.fc.crypto, NULL), 0);
    write_pem(&r, "key.pem", NULL, key, key_path);
    kei_key_free(key);
    snprintf(uri, sizeof uri, "file:%s", key_path);
    r.conf.key_file = uri;
    rig_connect(&r);
    assert_int_equal(r.fc.edge_requests, 1);
    rig_drive(&r, 100); /* written besides */
    unit = rig_read(&r, "identity/current.pem");
    assert_non_null(unit);
    assert_null(strstr(unit, "PRIVATE KEY"));
    assert_non_null(strstr(unit, "BEGIN CERTIFICATE"));
    free(unit);
    rig_free_tunnel(&r);
    rig_connect(&r); /* and again from there */
    assert_int_equal(r.fc.edge_requests, 1);
    rig_free_tunnel(&r);
    r.conf.key_file = "pkcs11:token=none;object=none";
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_non_null(strstr(r.last_text, "pkcs11:token=none"));
    rig_fini(&r);
}

static void missing_files_are_named(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    r.conf.ca_file = "/nonexistent/ca.pem";
    r.conf.cert_file = "/nonexistent/cert.pem";
    r.conf.key_file = "/nonexistent/key.pem";
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(r.last_error, KE_ENOTFOUND);
    assert_non_null(strstr(r.last_text, "/nonexistent/ca.pem"));
    rig_fini(&r);
}

/* ---- files that are damaged, disks that refuse ---- */

static void a_damaged_identity_is_replaced(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_write(&r, "identity/current.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n");
    rig_connect(&r);
    assert_int_equal(r.fc.edge_requests, 1);
    rig_free_tunnel(&r);
    r.conf.token = NULL;
    rig_connect(&r);
    assert_int_equal(r.fc.edge_requests, 1);
    rig_fini(&r);
}

/* It says which file that is, what it lacks and what can be done. */
static void a_truncated_identity_is_told(void **state)
{
    static const char *const lacks[] = {"the file is empty", "the certificate was missing",
                                        "the CA was missing"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct rig r;
        char want[400], *unit;

        rig_init(&r, NULL);
        rig_connect(&r);
        rig_drive(&r, 100); /* written besides */
        rig_free_tunnel(&r);
        unit = rig_read(&r, "identity/current.pem");
        assert_non_null(unit);
        char *cut = unit;
        for (size_t n = 0; n < i; n++)
            cut = strstr(cut + 1, "-----END ") + 30;
        *cut = '\0';
        rig_write(&r, "identity/current.pem", unit);
        free(unit);
        r.conf.token = NULL;
        rig_tunnel(&r);
        assert_int_equal(ke_tunnel_start(r.t), 0);
        rig_drive(&r, 2000);
        snprintf(want, sizeof want, "%s/identity/current.pem of node %s is damaged (", r.dir, NODE);
        if (!strstr(r.last_text, want) || !strstr(r.last_text, lacks[i]) ||
            !strstr(r.last_text, "put back a whole copy of it, or configure a token of the cloud"))
            fail_msg("%zu: %s", i, r.last_text);
        rig_fini(&r);
    }
}

static void a_folder_that_cannot_be_written(void **state)
{
    struct rig r;
    char path[256];

    (void)state;
    rig_init(&r, NULL);
    snprintf(path, sizeof path, "%s/identity", r.dir);
    /* a file where the folder should be: fails for every user, root included */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fclose(f);
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED)); /* in memory for now */
    assert_true(rig_until_n(&r, &r.fc.keepalives, 1));
    rig_drive(&r, 10);
    assert_non_null(strstr(r.last_text, "could not be written"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ke_tunnel_reconnect(r.t), 0);
    assert_true(rig_until_n(&r, &r.fc.upgrades, 2));
    rig_drive(&r, 10);
    assert_true(rig_exists(&r, "identity/current.pem"));
    rig_fini(&r);
}

/* ---- clocks ---- */

/* A clock at 1970 or in 2106 must not keep the node out, and what it asks must verify. */
static void wrong_clocks_do_not_strand(void **state)
{
    static const int64_t clocks[] = {0, INT64_C(86400000), INT64_C(4291747200000),
                                     INT64_C(253402300799000)};

    (void)state;
    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        struct rig r;

        rig_init(&r, NULL);
        /* the cloud lives 400 days after the release, and has not lived before */
        r.fc.clock_offset_s = 400 * 86400;
        fake_cloud_new_ca(&r.fc);
        r.conf.token = r.fc.token.p;
        test_clock_set_real(&r.env.clock, clocks[i]);
        rig_tunnel(&r);
        rig_start(&r);
        if (!rig_until_state(&r, KE_TUNNEL_CONNECTED))
            fail_msg("clock %lld: %s", (long long)clocks[i], r.last_text);
        /* signed just now: it is not earlier than that */
        assert_true(ke_ctx_real_ms(r.env.ctx) / 1000 >= 1796083200 + 365 * 86400);
        /* and after a restart */
        rig_free_tunnel(&r);
        r.conf.token = NULL;
        rig_connect(&r);
        rig_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_are_told),
        cmocka_unit_test(it_goes_on_trying),
        cmocka_unit_test(gone_at_any_byte),
        cmocka_unit_test(through_a_proxy),
        cmocka_unit_test(with_files_of_the_host),
        cmocka_unit_test(with_the_ca_of_the_host),
        cmocka_unit_test(with_a_key_by_uri),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(a_damaged_identity_is_replaced),
        cmocka_unit_test(a_truncated_identity_is_told),
        cmocka_unit_test(a_folder_that_cannot_be_written),
        cmocka_unit_test(wrong_clocks_do_not_strand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
