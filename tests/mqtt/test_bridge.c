/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bridge: between two servers of ours, and to a mosquitto that is killed and brought back.
 * Every message that was acknowledged must arrive; none may go round in circles.
 */
#include <signal.h>

#include <kubeedge/bridge.h>

#include "broker.h"
#include "mqtt/mqtt.h"
#include "support/support.h"

#define MANY 4000

struct ear {
    struct ke_mqtt_sub *sub;
    uint32_t n, next, twice, retained;
    char topic[128], payload[128];
    uint8_t seen[MANY];
};

struct rig {
    struct test_env env;
    struct ke_mqtt *a, *b; /* b: the other broker, if it is one of ours */
    struct ke_bridge *bridge;
    struct ear at_a, at_b;
    uint32_t port; /* of b, or of mosquitto */
    uint32_t n_done, n_refused;
};

static void on_heard(void *user, const struct ke_mqtt_message *m)
{
    struct ear *e = user;
    e->n++;
    snprintf(e->topic, sizeof e->topic, "%.*s", KEI_FMT(kei_mqtt_view(m->topic)));
    snprintf(e->payload, sizeof e->payload, "%.*s", KEI_FMT(kei_mqtt_view(m->payload)));
    uint64_t i;
    if (kei_str_u64(kei_mqtt_view(m->payload), &i) && i < MANY)
        e->twice += e->seen[i]++ > 0;
    e->retained += m->retain;
}

static struct ke_mqtt *make_server(struct rig *r, uint32_t *ret_port)
{
    struct ke_mqtt_config c;
    struct ke_mqtt_listener l;
    struct ke_mqtt *m = NULL;
    ke_mqtt_config_init(&c, sizeof c);
    ke_mqtt_listener_init(&l, sizeof l);
    l.port = KE_MQTT_PORT_ANY;
    c.listeners = &l;
    c.n_listeners = 1;
    c.max_queued = MANY;
    assert_int_equal(ke_mqtt_new(&m, r->env.ctx, &c, NULL, NULL), 0);
    assert_int_equal(ke_mqtt_start(m), 0);
    if (ret_port)
        assert_int_equal(ke_mqtt_port(m, 0, ret_port), 0);
    return m;
}

static void listen_at(struct ke_mqtt *m, struct ear *e, const char *filter)
{
    struct ke_mqtt_subscribe s = {.size = sizeof s,
                                  .filter = kei_mqtt_give(kei_str(filter)),
                                  .qos = 2,
                                  .flags = KE_MQTT_SUB_AS_PUBLISHED,
                                  .message = on_heard};
    assert_int_equal(ke_mqtt_subscribe(&e->sub, m, &s, e, NULL), 0);
}

/* The host has the loop: without a thread of its own the context runs when the test drives it. */
static void rig_init(struct rig *r, bool two)
{
    int fd;
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, TEST_REAL_CLOCK);
    assert_int_equal(ke_ctx_fd(r->env.ctx, &fd), 0);
    r->a = make_server(r, NULL);
    if (two)
        r->b = make_server(r, &r->port);
}

static void rig_fini(struct rig *r)
{
    ke_bridge_free(r->bridge);
    ke_mqtt_free(r->a);
    ke_mqtt_free(r->b);
    test_env_fini(&r->env);
}

static void make_bridge(struct rig *r, uint32_t version, uint32_t flags,
                        const struct ke_bridge_topic *topics, uint32_t n)
{
    struct ke_bridge_config c;
    ke_bridge_config_init(&c, sizeof c);
    c.name = "up";
    c.host = "127.0.0.1";
    c.port = r->port;
    c.version = version;
    c.flags = flags;
    c.topics = topics;
    c.n_topics = n;
    c.retry_min_ms = 20;
    c.retry_max_ms = 200;
    if (ke_bridge_new(&r->bridge, r->a, &c) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

static struct ke_bridge_status status(struct rig *r)
{
    struct ke_bridge_status st;
    assert_int_equal(ke_bridge_status(r->bridge, &st, sizeof st), 0);
    return st;
}

static bool is_connected(void *user)
{
    return status(user).state == KE_BRIDGE_CONNECTED;
}

static bool is_waiting(void *user)
{
    return status(user).state == KE_BRIDGE_WAITING;
}

static void up(struct rig *r)
{
    assert_true(test_drive(&r->env, is_connected, r));
    test_drive_ms(&r->env, 50); /* subscriptions */
}

struct want {
    const uint32_t *n;
    uint32_t least;
};

static bool enough(void *user)
{
    const struct want *w = user;
    return *w->n >= w->least;
}

static void until(struct rig *r, const uint32_t *n, uint32_t least)
{
    struct want w = {n, least};
    if (!test_drive(&r->env, enough, &w))
        fail_msg("%u of %u came; bridge: %s", *n, least, status(r).error_text);
}

static void on_done(void *user, int status)
{
    struct rig *r = user;
    if (status == 0)
        r->n_done++;
    else
        r->n_refused++;
}

static void say(struct rig *r, struct ke_mqtt *m, const char *topic, const char *payload,
                uint32_t qos, uint32_t retain)
{
    struct ke_mqtt_publish p = {.size = sizeof p,
                                .topic = kei_mqtt_give(kei_str(topic)),
                                .payload = kei_mqtt_give(kei_str(payload)),
                                .qos = qos,
                                .retain = retain};
    assert_int_equal(ke_mqtt_publish(m, &p, on_done, r, NULL), 0);
}

static void say_numbers(struct rig *r, struct ke_mqtt *m, const char *topic, uint32_t from,
                        uint32_t to, uint32_t qos)
{
    char text[16];
    for (uint32_t i = from; i < to; i++) {
        snprintf(text, sizeof text, "%u", i);
        say(r, m, topic, text, qos, 0);
    }
}

#define TOPIC(pattern, local, remote, direction, qos)                                              \
    {                                                                                              \
        sizeof(struct ke_bridge_topic), pattern, local, remote, direction, qos                     \
    }

static void both_ways(uint32_t version, uint32_t flags)
{
    static const struct ke_bridge_topic topics[] = {
        TOPIC("#", "out/", "plant/7/", KE_BRIDGE_OUT, 2),
        TOPIC("#", "in/", "cmd/7/", KE_BRIDGE_IN, 2),
        TOPIC("shared/#", "", "", KE_BRIDGE_BOTH, 1),
    };
    struct rig r;
    rig_init(&r, true);
    listen_at(r.a, &r.at_a, "#");
    listen_at(r.b, &r.at_b, "#");
    make_bridge(&r, version, flags | KE_BRIDGE_NO_NOTIFY, topics, 3);
    up(&r);
    for (uint32_t qos = 0; qos <= 2; qos++) {
        say(&r, r.a, "out/x/y", "up", qos, 0);
        until(&r, &r.at_b.n, qos + 1);
        assert_string_equal(r.at_b.topic, "plant/7/x/y");
        assert_string_equal(r.at_b.payload, "up");
    }
    assert_int_equal(r.at_a.n, 3); /* the local ones only */
    say(&r, r.b, "cmd/7/go", "down", 2, 0);
    until(&r, &r.at_a.n, 4);
    assert_string_equal(r.at_a.topic, "in/go");
    say(&r, r.a, "elsewhere", "no", 1, 0);
    say(&r, r.a, "shared/1", "from a", 1, 0);
    say(&r, r.b, "shared/2", "from b", 1, 0);
    until(&r, &r.at_a.n, 7);
    until(&r, &r.at_b.n, 6);
    test_drive_ms(&r.env, 200); /* what would go round comes now */
    assert_int_equal(r.at_a.n, 7);
    assert_int_equal(r.at_b.n, 6);
    assert_int_equal(status(&r).sent, 4);
    assert_int_equal(status(&r).received, 2);
    rig_fini(&r);
}

static void both_ways_311(void **state)
{
    (void)state;
    both_ways(4, 0);
}

static void both_ways_5(void **state)
{
    (void)state;
    both_ways(5, 0);
}

static void retained_and_state(void **state)
{
    static const struct ke_bridge_topic topics[] = {TOPIC("#", "", "", KE_BRIDGE_OUT, 1)};
    struct rig r;
    (void)state;
    rig_init(&r, true);
    say(&r, r.a, "kept", "1", 1, 1);
    listen_at(r.b, &r.at_b, "kept");
    make_bridge(&r, 5, KE_BRIDGE_NOTIFY_LOCAL, topics, 1);
    up(&r);
    until(&r, &r.at_b.n, 1);
    assert_int_equal(r.at_b.retained, 1);
    listen_at(r.a, &r.at_a, "$SYS/broker/connection/up/state");
    until(&r, &r.at_a.n, 1);
    assert_string_equal(r.at_a.payload, "1");
    ke_mqtt_stop(r.b);
    assert_true(test_drive(&r.env, is_waiting, &r));
    until(&r, &r.at_a.n, 2);
    assert_string_equal(r.at_a.payload, "0");
    rig_fini(&r);
}

/* The other side is away: QoS 1 waits, more than fits into the window; then all of it, in order. */
static void waits_for_the_other(void **state)
{
    static const struct ke_bridge_topic topics[] = {TOPIC("t/#", "", "", KE_BRIDGE_OUT, 2)};
    struct rig r;
    (void)state;
    rig_init(&r, true);
    listen_at(r.b, &r.at_b, "t/#");
    make_bridge(&r, 5, KE_BRIDGE_NO_NOTIFY, topics, 1);
    up(&r);
    say_numbers(&r, r.a, "t/x", 0, 100, 1);
    until(&r, &r.at_b.n, 100);
    ke_mqtt_stop(r.b);
    assert_true(test_drive(&r.env, is_waiting, &r));
    say_numbers(&r, r.a, "t/x", 100, 1500, 1);
    say(&r, r.a, "t/x", "zero", 0, 0);
    test_drive_ms(&r.env, 100);
    assert_int_equal(r.n_done, 1501);
    ke_bridge_free(r.bridge); /* a new one finds what waits in the session */
    assert_int_equal(ke_mqtt_start(r.b), 0);
    assert_int_equal(ke_mqtt_port(r.b, 0, &r.port), 0);
    make_bridge(&r, 5, KE_BRIDGE_NO_NOTIFY, topics, 1);
    until(&r, &r.at_b.n, 1500);
    test_drive_ms(&r.env, 100);
    for (uint32_t i = 0; i < 1500; i++)
        assert_int_equal(r.at_b.seen[i], 1);
    rig_fini(&r);
}

/* ---- mosquitto ---- */

static void with_mosquitto(uint32_t version, uint32_t qos)
{
    static const char *const keep =
        "persistence true\nautosave_interval 1\nautosave_on_changes true\n"
        "max_queued_messages 0\n";
    const struct ke_bridge_topic topics[] = {TOPIC("#", "up/", "gw/", KE_BRIDGE_OUT, qos),
                                             TOPIC("#", "down/", "gw/", KE_BRIDGE_IN, qos)};
    struct rig r;
    struct broker br;
    if (!broker_installed())
        skip();
    broker_start(&br, keep);
    rig_init(&r, false);
    r.port = br.port;
    listen_at(r.a, &r.at_a, "down/#");
    make_bridge(&r, version, KE_BRIDGE_NOTIFY_LOCAL, topics, 2);
    up(&r);
    /* what we send to gw/ is not sent back to us: the only echo is of the second bridge below */
    say(&r, r.a, "up/x", "echo?", 1, 0);
    test_drive_ms(&r.env, 300);
    assert_int_equal(r.at_a.n, 0);

    struct ke_bridge *first = r.bridge;
    const struct ke_bridge_topic back[] = {TOPIC("#", "back/", "gw/", KE_BRIDGE_IN, qos)};
    struct ke_bridge_config c;
    ke_bridge_config_init(&c, sizeof c);
    c.name = "reader";
    c.host = "127.0.0.1";
    c.port = r.port;
    c.version = version;
    c.topics = back;
    c.n_topics = 1;
    c.retry_min_ms = 20;
    c.retry_max_ms = 200;
    c.flags = KE_BRIDGE_NOTIFY_LOCAL;
    assert_int_equal(ke_bridge_new(&r.bridge, r.a, &c), 0);
    struct ke_bridge *second = r.bridge;
    listen_at(r.a, &r.at_b, "back/#");
    up(&r);
    say_numbers(&r, r.a, "up/x", 0, 500, qos);
    until(&r, &r.at_b.n, 500);
    /* it stops in order (so that it has saved what it acknowledged), comes back, twice */
    for (uint32_t round = 1; round <= 2; round++) {
        say_numbers(&r, r.a, "up/x", round * 1000, round * 1000 + 300, qos);
        broker_kill(&br, SIGTERM);
        assert_true(test_drive(&r.env, is_waiting, &r));
        say_numbers(&r, r.a, "up/x", round * 1000 + 300, round * 1000 + 600, qos);
        test_drive_ms(&r.env, 50);
        broker_restart(&br, keep);
        until(&r, &r.at_b.n, 500 + round * 600 + r.at_b.twice);
        up(&r);
    }
    test_drive_ms(&r.env, 300);
    for (uint32_t i = 0; i < 2600; i++)
        if ((i < 500 || i % 1000 < 600) && i != 0 && (i < 500 || i >= 1000) && r.at_b.seen[i] == 0)
            fail_msg("message %u was lost", i);
    ke_bridge_free(second);
    r.bridge = first;
    rig_fini(&r);
    broker_fini(&br);
}

static void mosquitto_qos1(void **state)
{
    (void)state;
    with_mosquitto(4, 1);
}

static void mosquitto_qos2_v5(void **state)
{
    (void)state;
    with_mosquitto(5, 2);
}

static void refuses(void **state)
{
    static const struct ke_bridge_topic topics[] = {TOPIC("#", "", "", KE_BRIDGE_OUT, 1)};
    struct rig r;
    struct ke_bridge_config ok, c;
    (void)state;
    rig_init(&r, false);
    ke_bridge_config_init(&ok, sizeof ok);
    ok.name = "n";
    ok.host = "127.0.0.1";
    ok.topics = topics;
    ok.n_topics = 1;
    const struct ke_bridge_topic bad_topic[] = {TOPIC("a/#/b", "", "", KE_BRIDGE_OUT, 1)};
    for (int i = 0; i < 8; i++) {
        struct ke_bridge *b = NULL;
        c = ok;
        if (i == 0)
            c.name = NULL;
        else if (i == 1)
            c.host = "";
        else if (i == 2)
            c.n_topics = 0;
        else if (i == 3)
            c.version = 3;
        else if (i == 4)
            c.flags = KE_BRIDGE_TLS;
        else if (i == 5)
            c.password = "without a user";
        else if (i == 6)
            c.topics = bad_topic;
        else
            c.cert_file = "/c";
        assert_int_equal(ke_bridge_new(&b, r.a, &c), KE_EINVAL);
        assert_null(b);
    }
    c = ok;
    c.flags = KE_BRIDGE_TLS;
    c.ca_file = "/nowhere/ca.crt";
    struct ke_bridge *b = NULL;
    assert_int_equal(ke_bridge_new(&b, r.a, &c), KE_ENOTFOUND);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "/nowhere/ca.crt"));
    rig_fini(&r);
}

static void out_of_memory(void **state)
{
    static const struct ke_bridge_topic topics[] = {TOPIC("#", "", "", KE_BRIDGE_OUT, 1)};
    (void)state;
    for (size_t i = 1; i < 60; i++) {
        struct rig r;
        struct ke_bridge_config c;
        rig_init(&r, false);
        ke_bridge_config_init(&c, sizeof c);
        c.name = "n";
        c.host = "127.0.0.1";
        c.port = 1;
        c.topics = topics;
        c.n_topics = 1;
        test_alloc_fail_at(&r.env.alloc, i);
        if (ke_bridge_new(&r.bridge, r.a, &c) < 0)
            r.bridge = NULL;
        else
            test_drive_ms(&r.env, 20);
        test_alloc_fail_at(&r.env.alloc, 0);
        r.env.log_errors = 0;
        rig_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_311),
        cmocka_unit_test(both_ways_5),
        cmocka_unit_test(retained_and_state),
        cmocka_unit_test(waits_for_the_other),
        cmocka_unit_test(mosquitto_qos1),
        cmocka_unit_test(mosquitto_qos2_v5),
        cmocka_unit_test(refuses),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
