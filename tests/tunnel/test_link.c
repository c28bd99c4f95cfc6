/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link against a scripted cloud: joining and connecting, what goes over it, how it is lost and
 * comes back, what the status says meanwhile.
 */
#include "rig.h"

#include "crypto/crypto.h"

/* ---- connecting ---- */

static void joins_and_connects(void **state)
{
    static const uint32_t want[] = {KE_TUNNEL_CONNECTING, KE_TUNNEL_JOINING, KE_TUNNEL_CONNECTING,
                                    KE_TUNNEL_CONNECTED};
    struct rig r;
    struct ke_tunnel_status st;
    const char *dot;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    assert_int_equal(r.n_states, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(r.states[i], want[i]);
    assert_true(rig_until_n(&r, &r.fc.keepalives, 1));
    assert_true(r.fc.first_was_keepalive);
    assert_string_equal(r.fc.target, "/e632aba927ea4ac2b575ec1603d56f10/" NODE "/events");
    assert_string_equal(r.fc.node_id, NODE);
    assert_string_equal(r.fc.project_id, "e632aba927ea4ac2b575ec1603d56f10");
    assert_string_equal(r.fc.use, "msg");
    assert_string_equal(r.fc.origin, "");
    assert_true(r.fc.user_agent[0] != '\0');
    assert_string_equal(r.fc.edge_node, NODE);
    dot = strchr(r.fc.token.p, '.');
    assert_memory_equal(r.fc.edge_auth, "Bearer ", 7);
    assert_string_equal(r.fc.edge_auth + 7, dot + 1); /* without the digest */
    assert_string_equal(r.fc.csr_cn, "system:node:" NODE);
    assert_string_equal(r.fc.csr_org, "system:nodes");
    assert_string_equal(r.fc.client_cn, "system:node:" NODE);
    st = rig_status(&r);
    assert_int_equal(st.state, KE_TUNNEL_CONNECTED);
    assert_int_equal(st.dialect, KE_DIALECT_1_15);
    assert_int_equal(st.attempts, 0);
    assert_int_equal(st.last_error, 0);
    assert_int_equal(st.next_retry_ms, -1);
    assert_true(st.connected_ms >= 0);
    assert_true(st.cert_not_after > 0);
    assert_true(st.cert_rotate_at < st.cert_not_after);
    rig_fini(&r);
}

static void starts_again_without_joining(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    rig_free_tunnel(&r);
    r.conf.token = NULL;
    rig_connect(&r);
    assert_int_equal(r.fc.ca_requests, 1);
    assert_int_equal(r.fc.edge_requests, 1);
    assert_int_equal(r.fc.upgrades, 2);
    rig_fini(&r);
}

static void keepalives_come_by_the_heartbeat(void **state)
{
    struct rig r;
    struct ke_msg *m;
    size_t before;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    rig_drive(&r, 5000);
    assert_int_equal(r.fc.keepalives, 1);
    rig_drive(&r, 150000);
    assert_int_equal(r.fc.keepalives, 11);
    assert_int_equal(r.fc.upgrades, 1); /* pings kept the silent link alive */
    assert_int_equal(
        ke_msg_decode(&m, r.env.ctx, r.fc.last_keepalive, strlen(r.fc.last_keepalive), NULL), 0);
    ke_msg_unref(m);
    /* What the peer and the queues of sockets need is theirs; it does not grow. */
    rig_drive(&r, 60000);
    before = atomic_load(&r.env.alloc.live);
    rig_drive(&r, 3600000);
    assert_int_equal(atomic_load(&r.env.alloc.live), before);
    rig_fini(&r);
}

/* ---- losing it ---- */

static bool reconnected(void *rig)
{
    struct rig *r = rig;

    return r->fc.upgrades == 2 && r->state == KE_TUNNEL_CONNECTED;
}

static void comes_back_after_a_close(void **state)
{
    struct rig r;
    int64_t before;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    rig_drive(&r, 1000);
    before = ke_ctx_mono_ms(r.env.ctx);
    fake_cloud_drop(&r.fc);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_true(r.last_error != 0);
    assert_non_null(strstr(r.last_text, "the link was lost"));
    assert_true(rig_status(&r).next_retry_ms >= 0);
    assert_true(rig_status(&r).next_retry_ms <= 3000);
    assert_int_equal(rig_status(&r).connected_ms, -1);
    assert_true(rig_until(&r, reconnected));
    assert_true(ke_ctx_mono_ms(r.env.ctx) - before < 5000);
    assert_true(r.fc.first_was_keepalive);
    rig_fini(&r);
}

static void finds_a_dead_link(void **state)
{
    struct rig r;
    int64_t before;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    rig_drive(&r, 20000);
    fake_cloud_freeze(&r.fc);
    before = ke_ctx_mono_ms(r.env.ctx);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(r.last_error, KE_ETIMEDOUT);
    assert_true(ke_ctx_mono_ms(r.env.ctx) - before <= 30000);
    assert_true(rig_until(&r, reconnected));
    rig_fini(&r);
}

static void waits_longer_while_refused(void **state)
{
    struct rig r;
    struct ke_tunnel_status st;
    int64_t longest = 0;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    fake_cloud_down(&r.fc);
    for (int i = 0; i < 40; i++) {
        assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
        st = rig_status(&r);
        assert_true(st.next_retry_ms >= 0 && st.next_retry_ms <= 60000);
        if (st.next_retry_ms > longest)
            longest = st.next_retry_ms;
        rig_drive(&r, st.next_retry_ms + 1);
    }
    st = rig_status(&r);
    assert_true(st.attempts >= 20);
    assert_int_equal(st.last_error, KE_ECONN);
    assert_true(longest > 20000); /* of 40 draws up to 60 s, none that long: 1 in 10 million */
    fake_cloud_up(&r.fc);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    assert_int_equal(rig_status(&r).attempts, 0);
    rig_fini(&r);
}

static void reconnects_on_demand(void **state)
{
    struct rig r;
    int64_t before;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    assert_int_equal(ke_tunnel_reconnect(r.t), 0);
    assert_true(rig_until(&r, reconnected));
    fake_cloud_down(&r.fc);
    for (int i = 0; i < 10; i++) {
        assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
        rig_drive(&r, rig_status(&r).next_retry_ms + 1);
    }
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    fake_cloud_up(&r.fc);
    before = ke_ctx_mono_ms(r.env.ctx);
    assert_int_equal(ke_tunnel_reconnect(r.t), 0);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    assert_true(ke_ctx_mono_ms(r.env.ctx) - before < 1000);
    rig_fini(&r);
}

static void stops_and_starts(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_tunnel(&r);
    assert_int_equal(ke_tunnel_reconnect(r.t), KE_ESTATE);
    ke_tunnel_stop(r.t); /* of nothing */
    assert_int_equal(rig_status(&r).state, KE_TUNNEL_IDLE);
    rig_start(&r);
    assert_int_equal(ke_tunnel_start(r.t), KE_ESTATE);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    ke_tunnel_stop(r.t);
    assert_int_equal(rig_status(&r).state, KE_TUNNEL_STOPPED);
    assert_true(rig_until_state(&r, KE_TUNNEL_STOPPED));
    assert_true(rig_until_n(&r, &r.fc.sessions_closed, 1));
    rig_drive(&r, 600000);
    assert_int_equal(r.fc.upgrades, 1);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    assert_int_equal(r.fc.upgrades, 2);
    rig_fini(&r);
}

/* ---- upgrades that fail ---- */

static void a_refused_upgrade_is_told(void **state)
{
    static const struct {
        uint32_t status;
        int32_t code;
        const char *text;
    } cases[] = {
        {401, KE_EREFUSED, "certificate was refused"},
        {403, KE_EREFUSED, "certificate was refused"},
        {503, KE_EHTTP, "503"},
        {404, KE_EHTTP, "404"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;

        rig_init(&r, NULL);
        r.fc.upgrade_status = cases[i].status;
        rig_tunnel(&r);
        rig_start(&r);
        assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
        assert_int_equal(r.last_error, cases[i].code);
        assert_non_null(strstr(r.last_text, cases[i].text));
        r.fc.upgrade_status = 0;
        assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
        rig_fini(&r);
    }
}

static void a_wrong_host_name_is_told(void **state)
{
    struct rig r;
    int64_t now;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    now = ke_ctx_real_ms(r.env.ctx) / 1000;
    fake_cloud_server_cert(&r.fc, "cloud.example", now - 3600, now + 86400);
    fake_cloud_drop(&r.fc);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    rig_drive(&r, rig_status(&r).next_retry_ms + 1);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_non_null(strstr(r.last_text, "127.0.0.1"));
    assert_non_null(strstr(r.last_text, "cloud.example"));
    assert_int_equal(r.fc.upgrades, 1);
    rig_fini(&r);
}

static void another_cloud_is_refused(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    rig_free_tunnel(&r);
    fake_cloud_new_ca(&r.fc); /* same address, another authority */
    r.conf.token = NULL;
    rig_tunnel(&r);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(r.fc.upgrades, 1);
    assert_true(r.last_error == KE_ETLS || r.last_error == KE_ECERT);
    /* With a token of that cloud the node moves over. */
    rig_free_tunnel(&r);
    r.conf.token = r.fc.token.p;
    rig_connect(&r);
    assert_int_equal(r.fc.upgrades, 2);
    rig_fini(&r);
}

/* ---- messages ---- */

static void messages_both_ways(void **state)
{
    struct rig r;
    char id[37];
    const struct fake_message down = {.operation = "update",
                                      .resource = "default/configmap/a",
                                      .rv = "7",
                                      .content = "{\"metadata\":{\"name\":\"a\"}}"};
    size_t n;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    fake_cloud_send(&r.fc, &down, id);
    assert_true(rig_until_n(&r, &r.n_messages, 1));
    assert_string_equal(ke_msg_id(r.messages[0]), id);
    assert_string_equal(ke_msg_resource_version(r.messages[0]), "7");
    assert_int_equal(ke_tunnel_ack(r.t, r.messages[0]), 0);
    assert_int_equal(rig_send(&r, KE_SEND_NOW, "query", "default/configmap/b", NULL), 0);
    assert_true(rig_until_n(&r, &r.fc.n_messages, 2));
    assert_int_equal(fake_cloud_acks(&r.fc, id), 1);
    assert_string_equal(ke_msg_content(r.fc.messages[0], &n), "\"OK\"");
    assert_string_equal(ke_msg_source(r.fc.messages[0]), "edgecontroller");
    assert_non_null(fake_cloud_find(&r.fc, "query", "default/configmap/b", 0));
    assert_int_equal(rig_status(&r).received, 1);
    rig_fini(&r);
}

static void nothing_goes_without_a_link(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_tunnel(&r);
    assert_int_equal(rig_send(&r, KE_SEND_NOW, "query", "default/configmap/b", NULL), KE_ECLOSED);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "not connected"));
    rig_fini(&r);
}

static void duplicates_are_not_told(void **state)
{
    struct rig r;
    char id[37];
    struct fake_message down = {.operation = "update",
                                .resource = "default/configmap/a",
                                .rv = "7",
                                .content = "{\"metadata\":{\"name\":\"a\"}}"};

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    fake_cloud_send(&r.fc, &down, id);
    down.id = id;
    fake_cloud_send(&r.fc, &down, NULL); /* still in work */
    assert_true(rig_until_n(&r, &r.n_messages, 1));
    rig_drive(&r, 100);
    assert_int_equal(r.n_messages, 1);
    assert_int_equal(r.fc.n_messages, 0);
    assert_int_equal(ke_tunnel_ack(r.t, r.messages[0]), 0);
    fake_cloud_send(&r.fc, &down, NULL); /* acknowledged: again, not told */
    assert_true(rig_until_n(&r, &r.fc.n_messages, 2));
    assert_int_equal(fake_cloud_acks(&r.fc, id), 2);
    assert_int_equal(r.n_messages, 1);
    /* over a new link too */
    fake_cloud_drop(&r.fc);
    assert_true(rig_until(&r, reconnected));
    fake_cloud_send(&r.fc, &down, NULL);
    assert_true(rig_until_n(&r, &r.fc.n_messages, 3));
    assert_int_equal(r.n_messages, 1);
    rig_fini(&r);
}

static void what_nobody_acknowledged_is_told_again(void **state)
{
    struct rig r;
    char id[37];
    struct fake_message down = {.operation = "insert",
                                .resource = "default/pod/p",
                                .rv = "9",
                                .content = "{\"metadata\":{\"name\":\"p\"}}"};

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    fake_cloud_send(&r.fc, &down, id);
    down.id = id;
    assert_true(rig_until_n(&r, &r.n_messages, 1));
    rig_drive(&r, 20000);
    fake_cloud_send(&r.fc, &down, NULL);
    assert_true(rig_until_n(&r, &r.n_messages, 2));
    rig_fini(&r);
}

static void an_acknowledgement_lost_with_the_link_is_given_again(void **state)
{
    struct rig r;
    char id[37];
    struct fake_message down = {.operation = "insert",
                                .resource = "default/pod/p",
                                .rv = "9",
                                .content = "{\"metadata\":{\"name\":\"p\"}}"};

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    fake_cloud_send(&r.fc, &down, id);
    down.id = id;
    assert_true(rig_until_n(&r, &r.n_messages, 1));
    fake_cloud_drop(&r.fc);
    assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
    assert_int_equal(ke_tunnel_ack(r.t, r.messages[0]), 0); /* without a link */
    assert_true(rig_until(&r, reconnected));
    fake_cloud_send(&r.fc, &down, NULL);
    assert_true(rig_until_n(&r, &r.fc.n_messages, 1));
    assert_int_equal(fake_cloud_acks(&r.fc, id), 1);
    assert_int_equal(r.n_messages, 1);
    rig_fini(&r);
}

/* ---- bad input ---- */

static void garbage_is_reported_and_survived(void **state)
{
    static const char *const bad[] = {
        "{\"header\":{\"msg_id\":\"x\",\"timest",
        "not json at all",
        "[]",
        "{\"header\":7}",
        "{\"header\":{\"msg_id\":\"\",\"timestamp\":0},\"route\":{},\"content\":null}",
        "\xff\xfe"};
    const struct fake_message good = {
        .operation = "update", .resource = "default/secret/s", .rv = "1", .content = "{}"};
    struct rig r;
    char *deep;

    (void)state;
    rig_init(&r, NULL);
    rig_connect(&r);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fake_cloud_send_text(&r.fc, bad[i], strlen(bad[i]));
    deep = malloc(1000001);
    memset(deep, '[', 1000000);
    deep[1000000] = '\0';
    fake_cloud_send_text(&r.fc, deep, 1000000);
    free(deep);
    fake_cloud_send(&r.fc, &good, NULL);
    assert_true(rig_until_n(&r, &r.n_messages, 1));
    assert_string_equal(ke_msg_resource(r.messages[0]), "default/secret/s");
    assert_int_equal(r.state, KE_TUNNEL_CONNECTED);
    assert_int_equal(r.fc.upgrades, 1);
    assert_true(r.last_error == KE_EPARSE || r.last_error == KE_ELIMIT);
    rig_fini(&r);
}

static void a_message_over_the_cap_is_skipped(void **state)
{
    const struct fake_message good = {
        .operation = "update", .resource = "default/secret/s", .rv = "1", .content = "{}"};
    struct rig r;
    char *big, *content;

    (void)state;
    rig_init(&r, NULL);
    r.conf.max_message = 100000;
    rig_connect(&r);
    big = malloc(300001);
    content = malloc(300001);
    memset(content, 'x', 300000);
    content[300000] = '\0';
    snprintf(big, 300001,
             "{\"header\":{\"msg_id\":\"big-1\",\"timestamp\":1},\"route\":{\"group\":\"resource\","
             "\"operation\":\"insert\",\"resource\":\"default/configmap/huge\"},\"content\":\"%s",
             content);
    memcpy(big + 299998, "\"}", 2);
    fake_cloud_send_text(&r.fc, big, 300000);
    free(big);
    free(content);
    fake_cloud_send(&r.fc, &good, NULL);
    assert_true(rig_until_n(&r, &r.n_messages, 1));
    assert_string_equal(ke_msg_resource(r.messages[0]), "default/secret/s");
    assert_int_equal(rig_status(&r).skipped, 1);
    assert_int_equal(r.last_error, KE_ELIMIT);
    assert_non_null(strstr(r.last_text, "max_message 100000"));
    assert_non_null(strstr(r.last_text, "300000 bytes"));
    assert_non_null(strstr(r.last_text, "default/configmap/huge"));
    assert_non_null(strstr(r.last_text, "big-1"));
    assert_int_equal(r.fc.n_messages, 0); /* no acknowledgement */
    assert_int_equal(r.fc.upgrades, 1);
    rig_fini(&r);
}

static void the_configuration_is_checked(void **state)
{
    struct rig r;
    struct ke_tunnel *t = NULL;
    struct ke_tunnel_config good;

    (void)state;
    rig_init(&r, NULL);
    good = r.conf;
#define REFUSED(member, value, text)                                                               \
    do {                                                                                           \
        r.conf = good;                                                                             \
        r.conf.member = value;                                                                     \
        assert_int_equal(ke_tunnel_new(&t, r.env.ctx, &r.conf, &r.ops, &r), KE_EINVAL);            \
        assert_non_null(strstr(ke_ctx_error(r.env.ctx), text));                                    \
        assert_null(t);                                                                            \
    } while (0)
    REFUSED(node_name, NULL, "node_name");
    REFUSED(node_name, "Edge_1", "node_name");
    REFUSED(node_name, "a\r\nX-Evil: 1", "node_name");
    REFUSED(host, NULL, "host");
    REFUSED(host, "", "host");
    REFUSED(host, "a b", "host");
    REFUSED(folder, NULL, "folder");
    REFUSED(project_id, "a/b", "project_id");
    REFUSED(tunnel_port, 70000, "tunnel_port");
    REFUSED(cert_port, 70000, "cert_port");
    REFUSED(dialect, 7, "dialect");
    REFUSED(retry_min_ms, 100000, "retry_min_ms");
    REFUSED(cert_file, "/x", "cert_file");
    REFUSED(flags, 1, "flags");
#undef REFUSED
    r.conf = good;
    rig_fini(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_and_connects),
        cmocka_unit_test(starts_again_without_joining),
        cmocka_unit_test(keepalives_come_by_the_heartbeat),
        cmocka_unit_test(comes_back_after_a_close),
        cmocka_unit_test(finds_a_dead_link),
        cmocka_unit_test(waits_longer_while_refused),
        cmocka_unit_test(reconnects_on_demand),
        cmocka_unit_test(stops_and_starts),
        cmocka_unit_test(a_refused_upgrade_is_told),
        cmocka_unit_test(a_wrong_host_name_is_told),
        cmocka_unit_test(another_cloud_is_refused),
        cmocka_unit_test(messages_both_ways),
        cmocka_unit_test(nothing_goes_without_a_link),
        cmocka_unit_test(duplicates_are_not_told),
        cmocka_unit_test(what_nobody_acknowledged_is_told_again),
        cmocka_unit_test(an_acknowledgement_lost_with_the_link_is_given_again),
        cmocka_unit_test(garbage_is_reported_and_survived),
        cmocka_unit_test(a_message_over_the_cap_is_skipped),
        cmocka_unit_test(the_configuration_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
