/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client, against a server that is bytes in a test: what goes out in every state, over several
 * connections; and the topic rules of a bridge.
 */
#include "mqtt/bridge_priv.h"
#include "support/support.h"

struct bench {
    struct test_alloc alloc;
    struct kei_mqttc c;
    int64_t now;
    uint32_t n_messages, n_done, n_connected;
    uint32_t tokens[32];
    uint8_t qos[32];
    char payloads[512], done[512];
    unsigned last_reason;
    bool session;
};

static void on_connected(void *user, bool session_present)
{
    struct bench *b = user;
    b->n_connected++;
    b->session = session_present;
}

static void on_message(void *user, const struct kei_mqttc_message *m)
{
    struct bench *b = user;
    size_t at = strlen(b->payloads);
    assert_true(b->n_messages < 32);
    b->tokens[b->n_messages] = m->token;
    b->qos[b->n_messages++] = m->publish->qos;
    snprintf(b->payloads + at, sizeof b->payloads - at, "%.*s ", KEI_FMT(m->publish->payload));
}

static void on_done(void *user, void *tag, unsigned reason)
{
    struct bench *b = user;
    size_t at = strlen(b->done);
    snprintf(b->done + at, sizeof b->done - at, "%u ", (unsigned)(uintptr_t)tag);
    b->n_done++;
    b->last_reason = reason;
}

static void bench_init(struct bench *b, uint8_t version, uint16_t inflight)
{
    struct kei_mqttc_ops ops = {
        .connected = on_connected, .message = on_message, .done = on_done, .user = b};
    memset(b, 0, sizeof *b);
    test_alloc_init(&b->alloc);
    struct kei_mqttc_config c = {.version = version,
                                 .inflight = inflight,
                                 .keepalive = 60,
                                 .client_id = KEI_STR("c"),
                                 .max_packet = 1000,
                                 .release = true};
    b->now = 1000000;
    assert_int_equal(kei_mqttc_init(&b->c, &b->alloc.table, &c, &ops), 0);
}

static void bench_fini(struct bench *b)
{
    kei_mqttc_fini(&b->c);
    assert_int_equal(test_alloc_live(&b->alloc), 0);
}

/* What the client wrote since the last time, as a line: "PUBLISH1d#2=text PUBREL#2 " */
static const char *written(struct bench *b)
{
    static char line[1024];
    size_t at = 0;
    struct ke_buf *out = &b->c.out;
    line[0] = '\0';
    while (at < out->n) {
        struct kei_mqtt_frame f;
        struct kei_mqtt_publish p;
        struct kei_mqtt_ack a = {0};
        unsigned v = b->c.c.version;
        assert_int_equal(kei_mqtt_frame((const uint8_t *)out->p + at, out->n - at, &f), 1);
        struct ke_str body = {out->p + at + f.head, f.length};
        unsigned type = kei_mqtt_frame_type(&f);
        size_t n = strlen(line);
        if (type == KEI_MQTT_PUBLISH) {
            assert_int_equal(kei_mqtt_decode_publish(v, f.first, body, &p, NULL), 0);
            snprintf(line + n, sizeof line - n, "PUBLISH%u%s#%u=%.*s ", p.qos, p.dup ? "d" : "",
                     p.pid, KEI_FMT(p.payload));
        } else if (type >= KEI_MQTT_PUBACK && type <= KEI_MQTT_PUBCOMP) {
            assert_int_equal(kei_mqtt_decode_ack(v, type, body, &a, NULL), 0);
            snprintf(line + n, sizeof line - n, "%s#%u ", kei_mqtt_type_name(type), a.pid);
        } else {
            snprintf(line + n, sizeof line - n, "%s ", kei_mqtt_type_name(type));
        }
        at += f.head + f.length;
    }
    kei_buf_clear(out);
    return line;
}

static int feed(struct bench *b, const struct ke_buf *bytes)
{
    size_t used = 0;
    int r = 0;
    /* one byte more at a time: packets may come in any pieces */
    for (size_t from = 0, n = 1; r == 0 && from + n <= bytes->n; n++) {
        r = kei_mqttc_input(&b->c, bytes->p + from, n, b->now, &used);
        from += used;
        n -= used;
    }
    return r;
}

static int feed_connack(struct bench *b, bool session, uint8_t reason, uint16_t receive_max)
{
    struct ke_buf out, props;
    struct kei_mqtt_connack k = {.session_present = session, .reason = reason};
    kei_buf_init(&out, kei_alloc_malloc());
    kei_buf_init(&props, kei_alloc_malloc());
    if (receive_max)
        kei_mqtt_put_u16(&props, KEI_MQTT_P_RECEIVE_MAX, receive_max);
    k.props.raw = kei_buf_str(&props);
    kei_mqtt_encode_connack(&out, b->c.c.version, &k);
    int r = feed(b, &out);
    ke_buf_free(&out);
    ke_buf_free(&props);
    return r;
}

static int feed_ack(struct bench *b, unsigned type, uint16_t pid, uint8_t reason)
{
    struct ke_buf out;
    struct kei_mqtt_ack a = {.pid = pid, .reason = reason};
    kei_buf_init(&out, kei_alloc_malloc());
    kei_mqtt_encode_ack(&out, b->c.c.version, type, &a);
    int r = feed(b, &out);
    ke_buf_free(&out);
    return r;
}

static int feed_publish(struct bench *b, uint8_t qos, uint16_t pid, bool dup, const char *payload)
{
    struct ke_buf out;
    struct kei_mqtt_publish p = {
        .qos = qos, .pid = pid, .dup = dup, .topic = KEI_STR("t"), .payload = kei_str(payload)};
    kei_buf_init(&out, kei_alloc_malloc());
    kei_mqtt_encode_publish(&out, b->c.c.version, &p);
    int r = feed(b, &out);
    ke_buf_free(&out);
    return r;
}

static int say(struct bench *b, uint8_t qos, const char *payload, uintptr_t tag)
{
    struct kei_mqtt_publish p = {.qos = qos, .topic = KEI_STR("t"), .payload = kei_str(payload)};
    return kei_mqttc_publish(&b->c, &p, (void *)tag);
}

static void connect_up(struct bench *b, bool session, uint16_t receive_max)
{
    kei_mqttc_begin(&b->c, b->now);
    assert_string_equal(written(b), "CONNECT ");
    assert_int_equal(feed_connack(b, session, 0, receive_max), 0);
}

static void sends_again(void **state)
{
    struct bench b;
    (void)state;
    bench_init(&b, KEI_MQTT_V311, 4);
    assert_int_equal(say(&b, 0, "lost", 0), KE_ECLOSED);
    assert_int_equal(say(&b, 1, "a", 1), 0);
    assert_int_equal(say(&b, 2, "b", 2), 0);
    connect_up(&b, false, 0);
    assert_string_equal(written(&b), "PUBLISH1#1=a PUBLISH2#2=b ");
    assert_int_equal(say(&b, 2, "c", 3), 0);
    assert_int_equal(say(&b, 1, "d", 4), 0);
    assert_int_equal(say(&b, 1, "e", 5), KE_ELIMIT);
    assert_int_equal(say(&b, 0, "zero", 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBREC, 2, 0), 0);
    assert_string_equal(written(&b), "PUBLISH2#3=c PUBLISH1#4=d PUBLISH0#0=zero PUBREL#2 ");
    kei_mqttc_lost(&b.c);
    connect_up(&b, true, 0);
    /* in order; what was received is not sent again, only its release */
    assert_string_equal(written(&b), "PUBLISH1d#1=a PUBREL#2 PUBLISH2d#3=c PUBLISH1d#4=d ");
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBACK, 1, 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBCOMP, 2, 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBACK, 4, 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBACK, 4, 0), 0); /* twice: nothing */
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBREC, 3, 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBCOMP, 3, 0), 0);
    assert_string_equal(b.done, "1 2 4 3 ");
    assert_string_equal(written(&b), "PUBREL#3 ");
    bench_fini(&b);
}

/* Packet ids that an earlier run left half-way would make the server drop new messages. */
static void releases_leftovers(void **state)
{
    struct bench b;
    (void)state;
    bench_init(&b, KEI_MQTT_V5, 3);
    assert_int_equal(say(&b, 2, "a", 1), 0);
    connect_up(&b, true, 0);
    assert_string_equal(written(&b), "PUBREL#1 PUBREL#2 PUBREL#3 PUBLISH2#1=a ");
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBCOMP, 1, 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBCOMP, 2, KEI_MQTT_R_PID_NOT_FOUND), 0);
    assert_int_equal(b.n_done, 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBREC, 1, 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBCOMP, 1, 0), 0);
    assert_int_equal(b.n_done, 1);
    (void)written(&b);
    kei_mqttc_lost(&b.c);
    connect_up(&b, true, 0);
    assert_string_equal(written(&b), ""); /* once a run */
    bench_fini(&b);
}

static void keeps_to_the_servers_limits(void **state)
{
    struct bench b;
    (void)state;
    bench_init(&b, KEI_MQTT_V5, 10);
    connect_up(&b, false, 2);
    for (uintptr_t i = 1; i <= 4; i++)
        assert_int_equal(say(&b, 1, "x", i), 0);
    assert_string_equal(written(&b), "PUBLISH1#1=x PUBLISH1#2=x ");
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBACK, 2, KEI_MQTT_R_NO_SUBSCRIBERS), 0);
    assert_string_equal(written(&b), "PUBLISH1#3=x ");
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBACK, 1, KEI_MQTT_R_NOT_AUTHORIZED), 0);
    assert_int_equal(b.last_reason, KEI_MQTT_R_NOT_AUTHORIZED);
    assert_string_equal(b.done, "2 1 ");
    bench_fini(&b);
}

static void acknowledges_when_told(void **state)
{
    struct bench b;
    (void)state;
    bench_init(&b, KEI_MQTT_V311, 4);
    connect_up(&b, false, 0);
    (void)written(&b);
    assert_int_equal(feed_publish(&b, 0, 0, false, "zero"), 0);
    assert_int_equal(feed_publish(&b, 1, 7, false, "one"), 0);
    assert_int_equal(feed_publish(&b, 2, 8, false, "two"), 0);
    assert_string_equal(b.payloads, "zero one two ");
    assert_string_equal(written(&b), "");
    kei_mqttc_ack(&b.c, b.tokens[2], 0);
    kei_mqttc_ack(&b.c, b.tokens[2], 0);
    assert_string_equal(written(&b), "PUBREC#8 ");
    kei_mqttc_lost(&b.c);
    kei_mqttc_ack(&b.c, 0, 0);
    connect_up(&b, true, 0);
    (void)written(&b);
    /* copies of what is not done yet are not passed on; one whose PUBREC was lost is answered */
    assert_int_equal(feed_publish(&b, 1, 7, true, "one"), 0);
    assert_int_equal(feed_publish(&b, 2, 8, true, "two"), 0);
    assert_string_equal(b.payloads, "zero one two ");
    assert_string_equal(written(&b), "PUBREC#8 ");
    kei_mqttc_ack(&b.c, b.tokens[1], 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBREL, 8, 0), 0);
    assert_int_equal(feed_ack(&b, KEI_MQTT_PUBREL, 8, 0), 0);
    assert_string_equal(written(&b), "PUBACK#7 PUBCOMP#8 PUBCOMP#8 ");
    /* another session: tokens of the old one are void, its ids are free */
    assert_int_equal(feed_publish(&b, 1, 9, false, "old"), 0);
    kei_mqttc_lost(&b.c);
    connect_up(&b, false, 0);
    (void)written(&b);
    assert_int_equal(feed_publish(&b, 1, 9, false, "new"), 0);
    kei_mqttc_ack(&b.c, b.tokens[3], 0);
    assert_string_equal(written(&b), "");
    kei_mqttc_ack(&b.c, b.tokens[4], 0);
    assert_string_equal(written(&b), "PUBACK#9 ");
    bench_fini(&b);
}

static void pings(void **state)
{
    struct bench b;
    int64_t next;
    (void)state;
    bench_init(&b, KEI_MQTT_V311, 4);
    connect_up(&b, false, 0);
    assert_int_equal(kei_mqttc_tick(&b.c, b.now, &next), 0);
    assert_int_equal(next, b.now + 30000);
    b.now = next;
    assert_int_equal(kei_mqttc_tick(&b.c, b.now, &next), 0);
    assert_string_equal(written(&b), "PINGREQ ");
    assert_int_equal(kei_mqttc_tick(&b.c, b.now + 59999, &next), 0);
    struct ke_buf out;
    kei_buf_init(&out, kei_alloc_malloc());
    kei_mqtt_encode_ping(&out, KEI_MQTT_PINGRESP);
    assert_int_equal(feed(&b, &out), 0);
    ke_buf_free(&out);
    assert_int_equal(kei_mqttc_tick(&b.c, b.now + 60000, &next), 0);
    assert_string_equal(written(&b), "PINGREQ ");
    b.now += 120000;
    assert_int_equal(kei_mqttc_tick(&b.c, b.now, &next), KE_ETIMEDOUT);
    bench_fini(&b);
}

static void ends_for_bad_input(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        bool up;
        int want;
    } cases[] = {
        {"\x20\x02\x00\x05", 4, false, KE_EREFUSED},       /* CONNACK: not authorized */
        {"\x40\x02\x00\x01", 4, false, KE_EPROTO},         /* PUBACK before CONNACK */
        {"\x20\x02\x00\x00", 4, true, KE_EPROTO},          /* CONNACK twice */
        {"\x10\x00", 2, true, KE_EPROTO},                  /* CONNECT */
        {"\xff\xff\xff\xff\xff", 5, true, KE_EPROTO},      /* length */
        {"\x30\x03\x00\x01+", 5, true, KE_EPROTO},         /* wildcard in a topic */
        {"\x36\x05\x00\x01t\x00\x01", 7, true, KE_EPROTO}, /* QoS 3 */
        {"\x30\xe9\x07", 3, true, KE_ELIMIT},              /* over max_packet */
        {"\xe0\x00", 2, true, KE_EPROTO},                  /* DISCONNECT to a client, 3.1.1 */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        struct ke_buf bytes = {(char *)(uintptr_t)cases[i].bytes, cases[i].n, 0, NULL};
        bench_init(&b, KEI_MQTT_V311, 4);
        kei_mqttc_begin(&b.c, b.now);
        if (cases[i].up)
            assert_int_equal(feed_connack(&b, false, 0, 0), 0);
        int r = feed(&b, &bytes);
        if (r != cases[i].want)
            fail_msg("case %zu: %d, %d expected: %s", i, r, cases[i].want, b.c.err.text);
        assert_true(b.c.err.text[0] != '\0');
        bench_fini(&b);
    }
}

/* ---- topic rules ---- */

static void maps_topics(void **state)
{
    static const struct {
        const char *pattern, *local, *remote;
        uint32_t direction, way;
        const char *topic, *want; /* NULL: not passed on */
    } cases[] = {
        {"#", "", "", KE_BRIDGE_OUT, KE_BRIDGE_OUT, "a/b", "a/b"},
        {"#", "", "", KE_BRIDGE_OUT, KE_BRIDGE_IN, "a/b", NULL},
        {"#", "site/", "plant/7/", KE_BRIDGE_OUT, KE_BRIDGE_OUT, "site/a/b", "plant/7/a/b"},
        {"#", "site/", "plant/7/", KE_BRIDGE_BOTH, KE_BRIDGE_IN, "plant/7/a/b", "site/a/b"},
        {"#", "site/", "plant/7/", KE_BRIDGE_BOTH, KE_BRIDGE_IN, "site/a/b", NULL},
        {"+/temp", "", "up/", KE_BRIDGE_OUT, KE_BRIDGE_OUT, "x/temp", "up/x/temp"},
        {"+/temp", "", "up/", KE_BRIDGE_OUT, KE_BRIDGE_OUT, "x/y/temp", NULL},
        {"", "one/topic", "other/topic", KE_BRIDGE_OUT, KE_BRIDGE_OUT, "one/topic", "other/topic"},
        {"", "one/topic", "other/topic", KE_BRIDGE_OUT, KE_BRIDGE_OUT, "one/topic/x", NULL},
        {"#", "", "", KE_BRIDGE_OUT, KE_BRIDGE_OUT, "$SYS/x", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_bridge_topic t = {.size = sizeof t,
                                    .pattern = cases[i].pattern,
                                    .local_prefix = cases[i].local,
                                    .remote_prefix = cases[i].remote,
                                    .direction = cases[i].direction,
                                    .qos = 1};
        struct kei_bridge_rule rule;
        struct kei_arena a;
        struct ke_buf out;
        uint32_t qos = 9;
        kei_arena_init(&a, kei_alloc_malloc(), 0);
        kei_buf_init(&out, kei_alloc_malloc());
        assert_int_equal(kei_bridge_rule_make(&rule, &a, &t, NULL), 0);
        bool ok = kei_bridge_map(&rule, 1, cases[i].way, kei_str(cases[i].topic), &out, &qos);
        if (ok != (cases[i].want != NULL) ||
            (ok && !kei_str_eq(kei_buf_str(&out), kei_str(cases[i].want))))
            fail_msg("case %zu: %.*s", i, KEI_FMT(kei_buf_str(&out)));
        assert_int_equal(qos, ok ? 1 : 9);
        ke_buf_free(&out);
        kei_arena_free(&a);
    }
}

static void refuses_bad_rules(void **state)
{
    static const struct ke_bridge_topic bad[] = {
        {sizeof bad[0], "a/#/b", "", "", KE_BRIDGE_OUT, 0},
        {sizeof bad[0], "", "", "", KE_BRIDGE_OUT, 0},
        {sizeof bad[0], "#", "a+/", "", KE_BRIDGE_OUT, 0},
        {sizeof bad[0], "#", "a", "", KE_BRIDGE_OUT, 0},
        {sizeof bad[0], "#", "", "", 0, 0},
        {sizeof bad[0], "#", "", "", KE_BRIDGE_OUT, 3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct kei_bridge_rule rule;
        struct kei_arena a;
        kei_arena_init(&a, kei_alloc_malloc(), 0);
        if (kei_bridge_rule_make(&rule, &a, &bad[i], NULL) != KE_EINVAL)
            fail_msg("rule %zu was taken", i);
        kei_arena_free(&a);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_again),
        cmocka_unit_test(releases_leftovers),
        cmocka_unit_test(keeps_to_the_servers_limits),
        cmocka_unit_test(acknowledges_when_told),
        cmocka_unit_test(pings),
        cmocka_unit_test(ends_for_bad_input),
        cmocka_unit_test(maps_topics),
        cmocka_unit_test(refuses_bad_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
