/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS in a process whose openssl.cnf says otherwise: other versions, suites and curves. Ours stays
 * as it is, the host's too.
 */
#include <openssl/err.h>
#include <unistd.h>

#include "net/tls_pair.h"

static char dir[256], conf[300];

static struct kei_tls_config *config(struct fixture *f, struct kei_tls_options o)
{
    struct kei_tls_config *t = NULL;
    if (kei_tls_config_new(&t, f->ctx, &o) < 0)
        fail_msg("%s", ke_ctx_error(f->ctx));
    return t;
}

static void test_ours_is_ours(void **state)
{
    (void)state;
    struct fixture f;
    struct pki p;
    struct tls_pair t;
    fixture_init(&f);
    pki_make(&p, &f);

    SSL_CTX *host = SSL_CTX_new(TLS_client_method()); /* the file is in force */
    assert_non_null(host);
    assert_int_equal(SSL_CTX_get_max_proto_version(host), TLS1_2_VERSION);

    struct kei_tls_options co = {
        .verify_peer = true, .ca = p.ca, .cert = p.node, .key = p.node_key};
    struct kei_tls_options so = {
        .server = true, .verify_peer = true, .ca = p.ca, .cert = p.server, .key = p.server_key};
    struct kei_tls_config *c = config(&f, co), *s = config(&f, so);
    pair_init(&t);
    pair_open(&t, c, "localhost", s);
    /* supported_versions: 1.3, 1.2; and the three suites of 1.3 in our order */
    static const char versions[] = "\x00\x2b\x00\x05\x04\x03\x04\x03\x03";
    static const char suites[] = "\x13\x01\x13\x02\x13\x03";
    assert_int_equal(kei_tls_handshake(t.client.tls, &t.client.err), KEI_TLS_WANT_READ);
    assert_non_null(memmem(t.to_server.p, t.to_server.n, versions, sizeof versions - 1));
    assert_non_null(memmem(t.to_server.p, t.to_server.n, suites, sizeof suites - 1));
    if (!pair_handshake(&t))
        fail_msg("%s / %s", t.client.err.text, t.server.err.text);
    pair_fini(&t);
    kei_tls_config_unref(s);
    kei_tls_config_unref(c);

    SSL_CTX *again = SSL_CTX_new(TLS_client_method()); /* and still is */
    assert_int_equal(SSL_CTX_get_max_proto_version(again), TLS1_2_VERSION);
    SSL_CTX_free(again);
    SSL_CTX_free(host);
    ERR_clear_error();
    pki_free(&p);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ours_is_ours)};
    test_tmp_make(dir, sizeof dir);
    snprintf(conf, sizeof conf, "%s/openssl.cnf", dir);
    FILE *out = fopen(conf, "w");
    if (!out)
        return 1;
    fprintf(out, "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n[all]\n"
                 "MaxProtocol = TLSv1.2\nCipherString = ECDHE-ECDSA-AES256-SHA384\n"
                 "Ciphersuites = TLS_AES_128_CCM_SHA256\nGroups = P-224\n"
                 "SignatureAlgorithms = RSA+SHA224\nClientSignatureAlgorithms = RSA+SHA224\n"
                 "VerifyMode = Peer\n");
    fclose(out);
    setenv("OPENSSL_CONF", conf, 1);
    int r = cmocka_run_group_tests_name("tls_host", tests, NULL, NULL);
    test_tmp_remove(dir);
    return r;
}
