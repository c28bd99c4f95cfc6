/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a joining node sends, held against recorded upstream edges of 1.4, 1.15 and 1.23: requests,
 * headers, certificate request, upgrade, first message. Where it differs on purpose it says why.
 */
#include "rig.h"

#include "message/captures.h"

static const struct version {
    const char *name, *node;
    uint32_t dialect;
} versions[] = {
    {"kubeedge-1.4", "edge-old1", KE_DIALECT_1_4},
    {"kubeedge-1.15", "edge-up1", KE_DIALECT_1_15},
    {"kubeedge-1.23", "edge-new1", KE_DIALECT_1_23},
};

static const struct capture_record *request(const struct capture *c, const char *listener,
                                            const char *start)
{
    for (size_t i = 0; i < c->n; i++) {
        if (capture_is(&c->r[i], "http-request", "e2c") &&
            strcmp(c->r[i].listener, listener) == 0 &&
            strncmp(c->r[i].start, start, strlen(start)) == 0)
            return &c->r[i];
    }
    fail_msg("%s/%s has no request %s", c->version, c->name, start);
    return NULL;
}

/* What upstream's clouds answered can be used: the forms of their certificates are understood. */
static void recorded_certificates(void **state)
{
    (void)state;
    for (size_t v = 0; v < 3; v++) {
        struct test_env env;
        struct capture c;
        struct kei_crypto *crypto;
        struct kei_cert *certs[2] = {NULL, NULL};
        struct kei_cert_info info;
        uint32_t n = 0;

        test_env_init(&env, 0);
        assert_int_equal(kei_crypto_get(env.ctx, &crypto), 0);
        capture_load(&c, versions[v].name, "01-register");
        for (size_t i = 0; i < c.n && n < 2; i++) {
            if (capture_is(&c.r[i], "http-response", "c2e"))
                assert_int_equal(
                    kei_cert_from_der(&certs[n++], crypto, c.r[i].text, kei_err(env.ctx)), 0);
            /* the upgrade has no body and comes later */
        }
        assert_int_equal(n, 2);
        assert_int_equal(kei_cert_info(certs[0], &info, NULL), 0);
        assert_true(info.is_ca);
        assert_string_equal(info.cn, "KubeEdge");
        assert_int_equal(kei_cert_info(certs[1], &info, NULL), 0);
        assert_int_equal(kei_cert_verify(certs[1], certs[0], true, info.not_before, NULL), 0);
        assert_true(info.not_after - info.not_before >= 364 * 86400);
        kei_cert_free(certs[0]);
        kei_cert_free(certs[1]);
        capture_free(&c);
        test_env_fini(&env);
    }
}

static void same_certificate_request(void **state)
{
    (void)state;
    for (size_t v = 0; v < 3; v++) {
        struct rig r;
        struct capture c;
        const struct capture_record *theirs;
        char cn[256], org[256];

        rig_init(&r, NULL);
        r.conf.node_name = versions[v].node;
        r.fc.dialect = versions[v].dialect;
        rig_connect(&r);
        capture_load(&c, versions[v].name, "01-register");
        (void)request(&c, "https", "GET /ca.crt HTTP/1.1");
        theirs = request(&c, "https", "GET /edge.crt HTTP/1.1");
        assert_string_equal(capture_header(theirs, "Nodename"), versions[v].node);
        assert_string_equal(r.fc.edge_node, versions[v].node);
        assert_int_equal(strncmp(capture_header(theirs, "Authorization"), "Bearer ", 7), 0);
        assert_int_equal(strncmp(r.fc.edge_auth, "Bearer ", 7), 0);
        assert_int_equal(kei_csr_info(r.fc.crypto, theirs->text, cn, org, NULL), 0);
        if (versions[v].dialect == KE_DIALECT_1_23) {
            assert_string_equal(r.fc.csr_cn, cn);
            assert_string_equal(r.fc.csr_org, org);
        } else {
            /* Ours is the newer subject everywhere: old clouds do not compare it, and new ones
             * would never renew the old one. */
            assert_string_equal(org, "kubeEdge");
            assert_string_equal(cn, "kubeedge.io");
            assert_string_equal(r.fc.csr_org, "system:nodes");
        }
        capture_free(&c);
        rig_fini(&r);
    }
}

static void same_upgrade(void **state)
{
    (void)state;
    for (size_t v = 0; v < 3; v++) {
        struct rig r;
        struct capture c;
        const struct capture_record *theirs;
        char start[400];

        rig_init(&r, NULL);
        r.conf.node_name = versions[v].node;
        r.fc.dialect = versions[v].dialect;
        rig_connect(&r);
        capture_load(&c, versions[v].name, "01-register");
        theirs = request(&c, "ws", "GET ");
        snprintf(start, sizeof start, "GET %s HTTP/1.1", r.fc.target);
        assert_string_equal(start, theirs->start);
        assert_string_equal(r.fc.node_id, capture_header(theirs, "Node_id"));
        assert_string_equal(r.fc.project_id, capture_header(theirs, "Project_id"));
        assert_string_equal(r.fc.use, capture_header(theirs, "Connectionuse"));
        assert_null(capture_header(theirs, "Origin"));
        assert_string_equal(r.fc.origin, "");
        capture_free(&c);
        rig_fini(&r);
    }
}

/* Blanks id and time of a message text. */
static void blank(char *text)
{
    char *id = strstr(text, "\"msg_id\":\""), *time = strstr(text, "\"timestamp\":");

    assert_non_null(id);
    assert_non_null(time);
    memset(id + 10, '-', 36);
    for (char *p = time + 12; *p >= '0' && *p <= '9'; p++)
        *p = '0';
}

static void same_first_message(void **state)
{
    (void)state;
    for (size_t v = 0; v < 3; v++) {
        struct rig r;
        struct capture c;
        char theirs[512] = "";

        rig_init(&r, NULL);
        r.conf.node_name = versions[v].node;
        r.fc.dialect = versions[v].dialect;
        rig_connect(&r);
        assert_true(rig_until_n(&r, &r.fc.keepalives, 1));
        assert_true(r.fc.first_was_keepalive);
        capture_load(&c, versions[v].name, "01-register");
        for (size_t i = 0; i < c.n && !*theirs; i++) {
            if (capture_is(&c.r[i], "ws-message", "e2c"))
                snprintf(theirs, sizeof theirs, "%.*s", (int)c.r[i].text.n, c.r[i].text.p);
        }
        blank(theirs);
        blank(r.fc.last_keepalive);
        if (versions[v].dialect == KE_DIALECT_1_4) {
            /* Every key is there: a reader of 1.4 keeps what the message before said for the ones
             * that are missing, and upstream's edge of 1.4 runs into that. */
            assert_non_null(strstr(r.fc.last_keepalive, "\"resourceversion\":\"\""));
        } else {
            assert_string_equal(r.fc.last_keepalive, theirs);
        }
        capture_free(&c);
        rig_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_certificates),
        cmocka_unit_test(same_certificate_request),
        cmocka_unit_test(same_upgrade),
        cmocka_unit_test(same_first_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
