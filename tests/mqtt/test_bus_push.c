/* SPDX-License-Identifier: Apache-2.0 */
/* What modules push to an MQTT server by its address: our own, others, and ones that fail. */
#include "base/json.h"
#include "mqtt/eventbus_priv.h"
#include "mqtt/mqtt.h"
#include "net/stream.h"
#include "support/support.h"

struct ear {
    struct ke_mqtt_sub *sub;
    uint32_t n, qos, retain;
    char topic[64], payload[256];
};

static struct rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_mqtt *own, *other;
    uint32_t own_port, other_port;
    struct ke_eventbus *bus;
    struct ear at_own, at_other;
} rig, *r = &rig;

static void on_heard(void *user, const struct ke_mqtt_message *m)
{
    struct ear *e = user;
    e->n++;
    e->qos = m->qos;
    e->retain = m->retain;
    snprintf(e->topic, sizeof e->topic, "%.*s", (int)m->topic.n, m->topic.p);
    snprintf(e->payload, sizeof e->payload, "%.*s", (int)m->payload.n, m->payload.p);
}

static struct ke_mqtt *serve(struct ear *e, uint32_t port, uint32_t *ret_port)
{
    struct ke_mqtt_config c;
    struct ke_mqtt_listener l;
    struct ke_mqtt *m;
    struct ke_mqtt_subscribe s = {.size = sizeof s,
                                  .filter = kei_mqtt_give(kei_str("#")),
                                  .qos = 2,
                                  .flags = KE_MQTT_SUB_AS_PUBLISHED,
                                  .message = on_heard};
    ke_mqtt_config_init(&c, sizeof c);
    ke_mqtt_listener_init(&l, sizeof l);
    l.host = "127.0.0.1";
    l.port = port;
    c.listeners = &l;
    c.n_listeners = 1;
    c.flags = KE_MQTT_NO_SYS;
    assert_int_equal(ke_mqtt_new(&m, r->env.ctx, &c, NULL, NULL), 0);
    assert_int_equal(ke_mqtt_start(m), 0);
    assert_int_equal(ke_mqtt_port(m, 0, ret_port), 0);
    assert_int_equal(ke_mqtt_subscribe(&e->sub, m, &s, e, NULL), 0);
    return m;
}

static int setup(void **state)
{
    struct ke_eventbus_config c;
    int fd;
    (void)state;
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    assert_int_equal(ke_ctx_fd(r->env.ctx, &fd), 0);
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, NULL), 0);
    r->own = serve(&r->at_own, KE_MQTT_PORT_ANY, &r->own_port);
    r->other = serve(&r->at_other, KE_MQTT_PORT_ANY, &r->other_port);
    ke_eventbus_config_init(&c, sizeof c);
    c.server = r->own;
    c.router = r->router;
    c.node_name = "edge-1";
    assert_int_equal(ke_eventbus_new(&r->bus, r->env.ctx, &c), 0);
    assert_int_equal(ke_eventbus_start(r->bus), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ke_eventbus_free(r->bus);
    ke_mqtt_free(r->own);
    ke_mqtt_free(r->other);
    ke_router_free(r->router);
    test_env_fini(&r->env);
    return 0;
}

/* ---- a push and its answer ---- */

struct asked {
    int ends, status;
    char operation[16], text[256];
};

static void on_reply(void *user, int status, struct ke_msg *reply)
{
    struct asked *a = user;
    size_t n;
    a->ends++;
    a->status = status;
    if (status < 0)
        return;
    snprintf(a->operation, sizeof a->operation, "%s", ke_msg_operation(reply));
    const char *text = ke_msg_content(reply, &n);
    kei_json_copy(a->text, sizeof a->text, kei_strn(text, n));
}

static void ask(struct asked *a, const char *group, const char *topic, const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m;
    memset(a, 0, sizeof *a);
    ke_msg_config_init(&c, sizeof c);
    c.source = "devicemanager";
    c.group = group;
    c.operation = "push";
    c.resource = topic;
    c.content = content;
    c.content_len = strlen(content);
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_request(r->router, "eventbus", m, 100000, on_reply, a, NULL), 0);
    ke_msg_unref(m);
}

static bool is_answered(void *arg)
{
    return ((struct asked *)arg)->ends > 0;
}

static void begin(struct asked *a, const char *address, const char *topic, int qos, int retain,
                  const char *payload)
{
    char content[600];
    snprintf(content, sizeof content,
             "{\"address\":\"%s\",\"qos\":%d,\"retain\":%d,\"payload\":\"%s\"}", address, qos,
             retain, payload);
    ask(a, "device", topic, content);
}

static void push(struct asked *a, const char *address, const char *topic, int qos, int retain,
                 const char *payload)
{
    begin(a, address, topic, qos, retain, payload);
    assert_true(test_drive(&r->env, is_answered, a));
    assert_int_equal(a->ends, 1);
    assert_int_equal(a->status, 0);
}

static const char *at(const char *form, uint32_t port)
{
    static char text[64];
    snprintf(text, sizeof text, form, port);
    return text;
}

static bool heard(void *arg)
{
    return ((struct ear *)arg)->n > 0;
}

static void expect(struct ear *e, const char *topic, uint32_t qos, uint32_t retain,
                   const char *payload)
{
    assert_true(test_drive(&r->env, heard, e));
    assert_string_equal(e->topic, topic);
    assert_string_equal(e->payload, payload);
    assert_int_equal(e->qos, qos);
    assert_int_equal(e->retain, retain);
    e->n = 0;
}

/* ---- tests ---- */

static void our_own(void **state)
{
    static const char *const forms[] = {"tcp://127.0.0.1:%u", "127.0.0.1:%u", "mqtt://localhost:%u",
                                        "tcp://127.0.0.9:%u"};
    struct asked a;
    (void)state;
    push(&a, "", "t/1", 1, 1, "by itself");
    assert_string_equal(a.operation, "response");
    expect(&r->at_own, "t/1", 1, 1, "by itself");
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        push(&a, at(forms[i], r->own_port), "t/2", 0, 0, "by address");
        assert_string_equal(a.operation, "response");
        expect(&r->at_own, "t/2", 0, 0, "by address");
    }
    assert_int_equal(r->at_other.n, 0);
    struct ke_mqtt_stats st;
    assert_int_equal(ke_mqtt_stats(r->own, &st, sizeof st), 0);
    assert_int_equal(st.connections, 0); /* none was made for it */
}

static void another(void **state)
{
    struct asked a, many[20];
    (void)state;
    for (int qos = 0; qos <= 2; qos++) {
        push(&a, at("tcp://127.0.0.1:%u", r->other_port), "t/3", qos, qos == 1, "x");
        assert_string_equal(a.operation, "response");
        expect(&r->at_other, "t/3", (uint32_t)qos, qos == 1, "x");
    }
    /* one connection for all, and it ends when nobody uses it */
    for (int i = 0; i < 20; i++)
        begin(&many[i], at("127.0.0.1:%u", r->other_port), "t/4", 1, 0, "y");
    for (int i = 0; i < 20; i++) {
        assert_true(test_drive(&r->env, is_answered, &many[i]));
        assert_string_equal(many[i].operation, "response");
    }
    struct ke_mqtt_stats st;
    assert_int_equal(ke_mqtt_stats(r->other, &st, sizeof st), 0);
    assert_int_equal(st.connections, 1);
    test_drive_ms(&r->env, 61000);
    test_settle(&r->env);
    assert_int_equal(ke_mqtt_stats(r->other, &st, sizeof st), 0);
    assert_int_equal(st.connections, 0);
    assert_int_equal(r->at_own.n, 0);
}

static void refused_and_back(void **state)
{
    struct asked a;
    char address[64];
    (void)state;
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u", r->other_port);
    push(&a, address, "t", 1, 0, "x");
    ke_mqtt_free(r->other);
    r->other = NULL;
    test_settle(&r->env);
    for (int i = 0; i < 3; i++) {
        push(&a, address, "t", 1, 0, "x");
        assert_string_equal(a.operation, "error");
        assert_non_null(strstr(a.text, "127.0.0.1"));
    }
    uint32_t port;
    r->at_other.n = 0;
    r->other = serve(&r->at_other, r->other_port, &port);
    push(&a, address, "t", 1, 0, "again");
    assert_string_equal(a.operation, "response");
    expect(&r->at_other, "t", 1, 0, "again");
}

static void on_accept(void *user, struct kei_stream *s)
{
    struct kei_stream **streams = user;
    int i = 0;
    static const struct kei_stream_ops none = {0};
    kei_stream_set_ops(s, &none, NULL);
    while (streams[i])
        i++;
    streams[i] = s;
}

static void one_that_hangs(void **state)
{
    struct kei_stream *streams[8] = {0};
    struct kei_listener *l;
    struct kei_listener_config c = {.host = "127.0.0.1"};
    struct asked a, hung[70];
    uint32_t full = 0;
    (void)state;
    assert_int_equal(kei_listen(&l, r->env.ctx, &c, on_accept, streams), 0);
    for (int i = 0; i < 70; i++)
        begin(&hung[i], at("127.0.0.1:%u", kei_listener_port(l)), "t", 1, 0, "x");
    push(&a, at("127.0.0.1:%u", r->other_port), "t", 1, 0, "x");
    assert_string_equal(a.operation, "response");
    for (int i = 0; i < 70; i++) {
        assert_true(test_drive(&r->env, is_answered, &hung[i]));
        assert_string_equal(hung[i].operation, "error");
        full += strstr(hung[i].text, "wait already") != NULL;
        if (i == 0)
            assert_string_equal(hung[i].text, "the server did not answer CONNECT within 30 s");
    }
    assert_int_equal(full, 6); /* 64 wait */
    /* and the bus goes while some wait */
    begin(&hung[0], at("127.0.0.1:%u", kei_listener_port(l)), "t", 1, 0, "x");
    test_drive_ms(&r->env, 1000);
    ke_eventbus_free(r->bus);
    r->bus = NULL;
    test_settle(&r->env);
    for (int i = 0; i < 8; i++)
        kei_stream_free(streams[i]);
    kei_listener_free(l);
}

static void what_is_no_push(void **state)
{
    static const struct {
        const char *topic, *content, *text;
    } t[] = {
        {"t", "{\"address\":\"ssl://h:1\",\"payload\":\"\"}",
         "only tcp:// and mqtt:// are supported"},
        {"t", "{\"address\":\"h:0\",\"payload\":\"\"}", "its port is not within 1 to 65535"},
        {"t", "{\"address\":\"h:x\",\"payload\":\"\"}", "its port is not within 1 to 65535"},
        {"t", "{\"address\":\"tcp://\",\"payload\":\"\"}", "its address is none of a server"},
        {"t", "{\"address\":\"h\"}", "the payload is no string"},
        {"t", "{\"payload\":\"\",\"qos\":3}", "its topic or its qos is none"},
        {"t/#", "{\"payload\":\"\"}", "its topic or its qos is none"},
        {"t", "7", "the payload is no string"},
    };
    struct asked a;
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        ask(&a, "device", t[i].topic, t[i].content);
        assert_true(test_drive(&r->env, is_answered, &a));
        assert_string_equal(a.operation, "error");
        assert_string_equal(a.text, t[i].text);
    }
    /* what comes from the cloud is none of a module: nothing is sent, nobody is answered */
    ask(&a, "user", "t", "{\"address\":\"\",\"payload\":\"x\"}");
    test_drive_ms(&r->env, 5000);
    assert_int_equal(a.ends, 0);
    assert_int_equal(r->at_own.n, 0);
    assert_true(test_drive(&r->env, is_answered, &a));
    assert_int_equal(a.status, KE_ETIMEDOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(our_own, setup, teardown),
        cmocka_unit_test_setup_teardown(another, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_push, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
