/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the cloud's dialect: by what its certificate port answers, kept over restarts, found
 * again when the cloud is another one.
 */
#include "rig.h"

static const uint32_t dialects[] = {KE_DIALECT_1_4, KE_DIALECT_1_15, KE_DIALECT_1_23};

static void found_and_kept(void **state)
{
    (void)state;
    for (int with_store = 0; with_store < 2; with_store++) {
        for (size_t i = 0; i < 3; i++) {
            struct rig r;
            uint32_t probes;

            rig_init(&r, NULL);
            if (with_store)
                rig_store(&r);
            r.fc.dialect = dialects[i];
            rig_connect(&r);
            assert_int_equal(rig_status(&r).dialect, dialects[i]);
            rig_drive(&r, 1000);
            rig_free_tunnel(&r);
            if (with_store) {
                rig_close_store(&r);
                rig_store(&r);
            }
            /* known at once the next time: nothing is asked before the link is up */
            probes = r.fc.probes;
            rig_connect(&r);
            assert_int_equal(r.fc.probes, probes);
            assert_int_equal(rig_status(&r).dialect, dialects[i]);
            rig_fini(&r);
        }
    }
}

static bool speaks_1_23(void *rig)
{
    struct rig *r = rig;

    return r->state == KE_TUNNEL_CONNECTED && rig_status(r).dialect == KE_DIALECT_1_23;
}

/* A cloud is upgraded while the node is linked to it. */
static void found_again_after_a_change(void **state)
{
    struct rig r;
    int64_t before;

    (void)state;
    rig_init(&r, NULL);
    r.fc.dialect = KE_DIALECT_1_15;
    rig_connect(&r);
    rig_drive(&r, 600000);
    fake_cloud_down(&r.fc);
    r.fc.dialect = KE_DIALECT_1_23;
    rig_drive(&r, 30000);
    fake_cloud_up(&r.fc);
    before = ke_ctx_mono_ms(r.env.ctx);
    assert_true(rig_until(&r, speaks_1_23));
    assert_true(ke_ctx_mono_ms(r.env.ctx) - before < 130000);
    /* everybody was told by a new link */
    assert_int_equal(r.fc.upgrades, 3);
    rig_fini(&r);
}

/* A cloud whose certificate port does not answer is spoken to as 1.15 until it does. */
static void unknown_for_now(void **state)
{
    struct rig r;
    uint16_t port;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    rig_drive(&r, 1000);
    rig_free_tunnel(&r);
    port = r.fc.cert_port;
    rig_write(&r, "identity/notes", "");
    r.fc.dialect = KE_DIALECT_1_4;
    r.conf.cert_port = 1;
    rig_connect(&r);
    assert_int_equal(rig_status(&r).dialect, KE_DIALECT_AUTO);
    assert_int_equal(rig_send(&r, KE_SEND_STATE, "update", "default/podstatus/p",
                              "{\"UID\":\"u\",\"Name\":\"p\",\"Status\":{}}"),
                     0);
    assert_true(rig_until_n(&r, &r.fc.n_messages, 1));
    assert_string_equal(ke_msg_resource(r.fc.messages[0]), "default/podpatch/p");
    r.conf.cert_port = port;
    rig_fini(&r);
}

static void given_by_the_host(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct rig r;

        rig_init(&r, NULL);
        r.conf.dialect = dialects[i];
        r.fc.dialect = dialects[(i + 1) % 3];
        rig_connect(&r);
        rig_drive(&r, 300000);
        assert_int_equal(rig_status(&r).dialect, dialects[i]);
        assert_int_equal(r.fc.probes, 0);
        rig_fini(&r);
    }
}

/* What 1.4 cannot read without, goes on every message. */
static void every_key_to_1_4(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    r.fc.dialect = KE_DIALECT_1_4;
    rig_connect(&r);
    assert_true(rig_until_n(&r, &r.fc.keepalives, 1));
    assert_non_null(strstr(r.fc.last_keepalive, "\"parent_msg_id\":\"\""));
    assert_int_equal(rig_send(&r, KE_SEND_NOW, "query", "kube-node-lease/lease/edge-1", NULL),
                     KE_ENOTSUP);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "1.4"));
    rig_fini(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_and_kept),   cmocka_unit_test(found_again_after_a_change),
        cmocka_unit_test(unknown_for_now),  cmocka_unit_test(given_by_the_host),
        cmocka_unit_test(every_key_to_1_4),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
