/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the certificate: renewed in time with itself, taken over without losing the link for
 * long, gone back from when the cloud refuses it, renewed by token after it expired; and clocks
 * that would let an old identity in.
 */
#include "rig.h"

#define DAY INT64_C(86400000)
#define LIFE 36000 /* seconds of a certificate: ten hours */

/* Hours of virtual time with few keepalives in them. */
static void slow(struct rig *r)
{
    r->fc.cert_seconds = LIFE;
    r->conf.heartbeat_ms = 120000;
    r->conf.dead_ms = 600000;
    r->env.idle_ms = 5;
}

static bool rotated(void *rig)
{
    struct rig *r = rig;

    return r->fc.edge_requests == 2 && r->fc.upgrades == 2 && r->state == KE_TUNNEL_CONNECTED;
}

static void renewed_before_it_expires(void **state)
{
    struct rig r;
    struct ke_tunnel_status first, st;
    uint8_t sha[32];
    int64_t now, begin;

    (void)state;
    rig_init(&r, NULL);
    slow(&r);
    rig_connect(&r);
    first = rig_status(&r);
    now = ke_ctx_real_ms(r.env.ctx) / 1000;
    begin = ke_ctx_mono_ms(r.env.ctx);
    assert_true(first.cert_rotate_at >= now + LIFE * 69 / 100);
    assert_true(first.cert_rotate_at <= now + LIFE * 91 / 100);
    memcpy(sha, r.fc.client_sha, 32);
    assert_true(rig_until(&r, rotated));
    now = (ke_ctx_mono_ms(r.env.ctx) - begin) / 10 / LIFE;
    assert_true(now >= 69 && now <= 91);
    assert_true(r.fc.edge_had_cert);
    assert_string_equal(r.fc.edge_auth, "");
    assert_string_equal(r.fc.edge_node, NODE);
    assert_memory_not_equal(sha, r.fc.client_sha, 32);
    st = rig_status(&r);
    assert_true(st.cert_not_after > first.cert_not_after);
    assert_true(st.cert_rotate_at > first.cert_rotate_at);
    rig_drive(&r, 1000);
    assert_false(rig_exists(&r, "identity/previous.pem")); /* proven by the link */
    rig_free_tunnel(&r);
    r.conf.token = NULL;
    rig_connect(&r); /* and it is what the node starts with */
    assert_string_equal(r.fc.client_cn, "system:node:" NODE);
    assert_int_equal(r.fc.edge_requests, 2);
    rig_fini(&r);
}

/* A tunnel that was stopped and started again renews as well. */
static void renewed_after_stop_and_start(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    slow(&r);
    rig_connect(&r);
    ke_tunnel_stop(r.t);
    assert_true(rig_until_state(&r, KE_TUNNEL_STOPPED));
    rig_drive(&r, LIFE * INT64_C(920)); /* past the point: nothing is asked while stopped */
    assert_int_equal(r.fc.edge_requests, 1);
    rig_start(&r);
    assert_true(rig_until_n(&r, &r.fc.edge_requests, 2));
    assert_true(r.fc.edge_had_cert);
    rig_fini(&r);
}

/* The point differs from node to node: a fleet that was set up in one day does not come in one. */
static void the_point_is_drawn(void **state)
{
    int64_t first = 0;
    bool differs = false;

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct rig r;
        int64_t at;

        rig_init(&r, NULL);
        rig_connect(&r);
        at = rig_status(&r).cert_rotate_at;
        differs = differs || (i > 0 && at != first);
        first = i == 0 ? at : first;
        rig_fini(&r);
    }
    assert_true(differs);
}

static void refused_renewals_are_repeated(void **state)
{
    struct rig r;
    uint32_t asked;

    (void)state;
    rig_init(&r, NULL);
    slow(&r);
    rig_connect(&r);
    r.fc.edge_status = 500;
    r.fc.edge_body = "database is down";
    assert_true(rig_until_n(&r, &r.fc.edge_requests, 4));
    assert_int_equal(r.state, KE_TUNNEL_CONNECTED); /* the link lives on meanwhile */
    assert_int_equal(r.last_error, KE_EHTTP);
    assert_non_null(strstr(r.last_text, "renewing the certificate"));
    assert_non_null(strstr(r.last_text, "database is down"));
    asked = r.fc.edge_requests;
    rig_drive(&r, 3600000);
    /* neither given up nor hammering: every 5 minutes at most in the long run */
    assert_true(r.fc.edge_requests - asked >= 12);
    assert_true(r.fc.edge_requests - asked <= 120);
    r.fc.edge_status = 0;
    assert_true(rig_until_n(&r, &r.fc.upgrades, 2));
    rig_fini(&r);
}

/* A cloud that hands out certificates it does not take: the one before is still good. */
static void goes_back_to_the_one_before(void **state)
{
    struct rig r;
    uint8_t old[32];
    char *unit_before, *unit_after;

    (void)state;
    rig_init(&r, NULL);
    slow(&r);
    rig_connect(&r);
    rig_drive(&r, 1000);
    memcpy(old, r.fc.client_sha, 32);
    unit_before = rig_read(&r, "identity/current.pem");
    assert_non_null(unit_before);
    r.fc.only_serial = "old";
    memset(r.fc.last_signed_sha, 0, 32);
    assert_true(rig_until(&r, rotated));
    assert_memory_equal(r.fc.client_sha, old, 32);
    rig_drive(&r, 1000);
    unit_after = rig_read(&r, "identity/current.pem");
    assert_non_null(unit_after);
    assert_string_equal(unit_before, unit_after);
    assert_false(rig_exists(&r, "identity/previous.pem"));
    free(unit_before);
    free(unit_after);
    /* tried again, but not at once */
    assert_int_equal(r.fc.edge_requests, 2);
    r.fc.only_serial = NULL;
    assert_true(rig_until_n(&r, &r.fc.upgrades, 3));
    assert_int_equal(r.fc.edge_requests, 3);
    assert_memory_not_equal(r.fc.client_sha, old, 32);
    rig_fini(&r);
}

/* The same over a restart: nothing but the files says that the new one has not proven itself. */
static void goes_back_after_a_restart(void **state)
{
    struct rig r;
    uint8_t old[32];

    (void)state;
    rig_init(&r, NULL);
    slow(&r);
    rig_connect(&r);
    rig_drive(&r, 1000);
    memcpy(old, r.fc.client_sha, 32);
    r.fc.upgrade_status = 503; /* renewed, and nobody can say whether it is good */
    assert_true(rig_until_n(&r, &r.fc.edge_requests, 2));
    rig_drive(&r, 5000);
    assert_true(rig_exists(&r, "identity/previous.pem"));
    rig_free_tunnel(&r);
    r.fc.upgrade_status = 0;
    r.fc.only_serial = "old";
    r.conf.token = NULL;
    rig_connect(&r);
    assert_memory_equal(r.fc.client_sha, old, 32);
    assert_int_equal(r.fc.edge_requests, 2);
    rig_drive(&r, 1000);
    assert_false(rig_exists(&r, "identity/previous.pem"));
    rig_fini(&r);
}

static void long_offline_with_a_token(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    r.fc.cert_seconds = 10 * 86400;
    rig_connect(&r);
    rig_free_tunnel(&r);
    test_clock_advance(&r.env.clock, 30 * DAY);
    fake_cloud_server_cert(&r.fc, "127.0.0.1", ke_ctx_real_ms(r.env.ctx) / 1000 - 3600,
                           ke_ctx_real_ms(r.env.ctx) / 1000 + 365 * 86400);
    /* the token of then has expired as well */
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(r.fc.upgrades, 1);
    assert_non_null(strstr(r.last_text, "expired"));
    assert_non_null(strstr(r.last_text, "join token"));
    rig_free_tunnel(&r);
    /* a new one of the same cloud */
    struct ke_buf der, secret, token;
    kei_buf_init(&der, kei_ctx_alloc(r.env.ctx));
    kei_buf_init(&secret, kei_ctx_alloc(r.env.ctx));
    kei_buf_init(&token, kei_ctx_alloc(r.env.ctx));
    assert_int_equal(kei_cert_der(r.fc.ca, &der, NULL), 0);
    assert_int_equal(kei_key_der(r.fc.ca_key, &secret, NULL), 0);
    assert_int_equal(kei_token_make(&token, kei_buf_str(&der), kei_buf_str(&secret),
                                    ke_ctx_real_ms(r.env.ctx) / 1000 + 3600, NULL),
                     0);
    r.conf.token = token.p;
    rig_connect(&r);
    assert_int_equal(r.fc.upgrades, 2);
    rig_free_tunnel(&r);
    ke_buf_free(&der);
    ke_buf_free(&secret);
    ke_buf_free(&token);
    rig_fini(&r);
}

static void long_offline_without_a_token(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    r.fc.cert_seconds = 10 * 86400;
    rig_connect(&r);
    rig_free_tunnel(&r);
    test_clock_advance(&r.env.clock, 30 * DAY);
    r.conf.token = NULL;
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(r.last_error, KE_EREFUSED);
    assert_non_null(strstr(r.last_text, "certificate has expired: configure a new join token"));
    assert_true(rig_status(&r).next_retry_ms >= 0); /* the cloud decides, not our clock */
    rig_drive(&r, 500); /* the loop rests until the next attempt: there is nothing to be renewed */
    rig_fini(&r);
}

/* A certificate of another name (an image that was copied) is issued anew. */
static void an_identity_of_another_node(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    rig_free_tunnel(&r);
    r.conf.node_name = "edge-2";
    r.conf.token = NULL; /* with the certificate it has */
    rig_connect(&r);
    assert_string_equal(r.fc.client_cn, "system:node:edge-2");
    assert_int_equal(r.fc.edge_requests, 2);
    assert_true(r.fc.edge_had_cert);
    rig_free_tunnel(&r);
    r.conf.node_name = "edge-3";
    r.conf.token = r.fc.token.p;
    rig_connect(&r);
    assert_string_equal(r.fc.client_cn, "system:node:edge-3");
    assert_false(r.fc.edge_had_cert);
    /* where that is not possible the link is tried with what there is */
    rig_free_tunnel(&r);
    r.conf.node_name = "edge-4";
    r.conf.token = NULL;
    r.fc.edge_status = 401;
    rig_connect(&r);
    assert_string_equal(r.fc.client_cn, "system:node:edge-3");
    rig_fini(&r);
}

/* ---- clocks ---- */

/* In a context of its own: what this process learnt is forgotten, as after a power cycle. */
static void expect_refused_at_1970(struct rig *r, bool with_store)
{
    struct test_clock clock;
    struct ke_ctx_config cc;
    struct ke_store_config sc;
    struct ke_ctx *ctx = NULL;
    struct ke_tunnel *t = NULL;
    struct ke_tunnel_status st = {0};
    char folder[200];

    test_clock_init(&clock);
    test_clock_set_real(&clock, 0);
    ke_ctx_config_init(&cc, sizeof cc);
    cc.clock = &clock.table;
    assert_int_equal(ke_ctx_new(&ctx, &cc, NULL), 0);
    if (with_store) {
        snprintf(folder, sizeof folder, "%s/store", r->dir);
        ke_store_config_init(&sc, sizeof sc);
        sc.folder = folder;
        assert_int_equal(ke_store_open(&r->conf.store, ctx, &sc), 0);
    }
    assert_int_equal(ke_tunnel_new(&t, ctx, &r->conf, NULL, NULL), 0);
    assert_int_equal(ke_tunnel_start(t), 0);
    for (int i = 0; i < 100000 && st.state != KE_TUNNEL_WAITING; i++) {
        assert_int_equal(ke_ctx_wait(ctx, 1), 0);
        assert_int_equal(ke_ctx_dispatch(ctx), 0);
        test_settle(&r->env);
        assert_int_equal(ke_tunnel_status(t, &st, sizeof st), 0);
    }
    assert_int_equal(st.state, KE_TUNNEL_WAITING);
    if (st.last_error != KE_EEXPIRED)
        fail_msg("%s: %s", ke_strerror(st.last_error), st.last_error_text);
    ke_tunnel_free(t);
    ke_store_close(r->conf.store);
    r->conf.store = NULL;
    ke_ctx_free(ctx);
}

/* The last time that was known is kept: a server whose certificate had expired by then is refused
 * although the clock is back at 1970 and the server says it is earlier. */
static void an_expired_server_is_refused_at_1970(void **state)
{
    struct rig r;
    int64_t now;

    (void)state;
    for (int with_store = 0; with_store < 2; with_store++) {
        rig_init(&r, NULL);
        if (with_store)
            rig_store(&r);
        r.fc.cert_seconds = 400 * 86400;
        rig_connect(&r);
        now = ke_ctx_real_ms(r.env.ctx) / 1000;
        /* 200 days later it is still there, and knows it */
        rig_free_tunnel(&r);
        test_clock_advance(&r.env.clock, 200 * DAY);
        rig_connect(&r);
        rig_drive(&r, 1000);
        rig_free_tunnel(&r);
        if (with_store)
            rig_close_store(&r);
        fake_cloud_server_cert(&r.fc, "127.0.0.1", now - 86400, now + 100 * 86400);
        r.fc.clock_offset_s = -150 * 86400; /* "it is 50 days after" */
        expect_refused_at_1970(&r, with_store);
        assert_int_equal(r.fc.upgrades, 2);
        rig_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(renewed_before_it_expires),
        cmocka_unit_test(renewed_after_stop_and_start),
        cmocka_unit_test(the_point_is_drawn),
        cmocka_unit_test(refused_renewals_are_repeated),
        cmocka_unit_test(goes_back_to_the_one_before),
        cmocka_unit_test(goes_back_after_a_restart),
        cmocka_unit_test(long_offline_with_a_token),
        cmocka_unit_test(long_offline_without_a_token),
        cmocka_unit_test(an_identity_of_another_node),
        cmocka_unit_test(an_expired_server_is_refused_at_1970),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
