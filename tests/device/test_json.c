/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that speak JSON on MQTT topics: over a real server, event bus and router. */
#include "driver_rig.h"

#include <kubeedge/eventbus.h>

#include "device/json.h"
#include "device/json_path.h"

struct bench {
    struct rig rig;
    struct ke_router *router;
    struct ke_mqtt *mqtt;
    struct ke_eventbus *bus;
    struct ke_eventbus_sub *sub;
    struct rig_device d;
    char heard[2000];                  /* "TOPIC PAYLOAD\n" of what the device hears */
    const char *answer_topic, *answer; /* published when cmd/ask comes */
    uint32_t to_cloud;
};

static void publish(struct bench *b, const char *topic, const char *payload, uint32_t retain)
{
    assert_int_equal(ke_eventbus_publish(b->bus, topic, payload, strlen(payload), 0, retain), 0);
    test_settle(&b->rig.env);
}

static void on_heard(void *user, const struct ke_eventbus_message *m)
{
    struct bench *b = user;
    size_t n = strlen(b->heard);

    snprintf(b->heard + n, sizeof b->heard - n, "%.*s %.*s\n", (int)m->topic.n, m->topic.p,
             (int)m->payload.n, m->payload.n ? m->payload.p : "");
    if (b->answer && m->topic.n == 7 && memcmp(m->topic.p, "cmd/ask", 7) == 0)
        assert_int_equal(
            ke_eventbus_publish(b->bus, b->answer_topic, b->answer, strlen(b->answer), 0, 0), 0);
}

static void on_cloud(void *user, struct ke_msg *m)
{
    struct bench *b = user;

    (void)m;
    b->to_cloud++;
}

static void setup(struct bench *b)
{
    static const struct ke_module_ops cloud = {.size = sizeof cloud, .message = on_cloud};
    struct ke_eventbus_config c;
    struct ke_mqtt_config mc;
    struct ke_mqtt_ops ops = {.size = sizeof ops};
    struct kei_json_driver *j = NULL;
    struct ke_module *module;
    int fd;

    memset(b, 0, sizeof *b);
    rig_init(&b->rig, 0);
    assert_int_equal(ke_ctx_fd(b->rig.env.ctx, &fd), 0); /* no thread of its own */
    assert_int_equal(ke_router_new(&b->router, b->rig.env.ctx, NULL), 0);
    assert_int_equal(ke_router_add(&module, b->router, "websocket", "hub", &cloud, b), 0);
    ke_mqtt_config_init(&mc, sizeof mc);
    mc.flags = KE_MQTT_NO_SYS;
    assert_int_equal(ke_mqtt_new(&b->mqtt, b->rig.env.ctx, &mc, &ops, NULL), 0);
    assert_int_equal(ke_mqtt_start(b->mqtt), 0);
    ke_eventbus_config_init(&c, sizeof c);
    c.server = b->mqtt;
    c.router = b->router;
    c.node_name = "edge-1";
    assert_int_equal(ke_eventbus_new(&b->bus, b->rig.env.ctx, &c), 0);
    assert_int_equal(ke_eventbus_start(b->bus), 0);
    assert_int_equal(ke_eventbus_subscribe(&b->sub, b->bus, "cmd/#", 0, on_heard, b), 0);
    assert_int_equal(kei_json_driver_new(&j, b->rig.env.ctx, b->router), 0);
    rig_driver(&b->rig, &kei_json_driver_ops, j);
}

static void teardown(struct bench *b)
{
    assert_int_equal(b->to_cloud, 0); /* nothing of devices leaves the node by itself */
    b->rig.ops->detach(b->rig.user);
    b->rig.ops = NULL;
    ke_eventbus_free(b->bus);
    ke_mqtt_free(b->mqtt);
    ke_router_free(b->router);
    rig_fini(&b->rig);
}

static void expect_text(struct bench *b, uint32_t property, const char *text)
{
    const struct rig_value *v = rig_value(&b->d, property);

    assert_int_equal(v->v.status, 0);
    assert_int_equal(v->v.kind, KE_DEVICE_KIND_TEXT);
    assert_int_equal(v->v.n, strlen(text));
    assert_memory_equal(v->bytes, text, v->v.n);
}

static void values_as_they_come(void **state)
{
    static const struct rig_property p[] = {
        {"{\"path\":\"state.temperature\"}", KE_DEVICE_DOUBLE},
        {"{\"path\":\"list[1].on\"}", KE_DEVICE_BOOLEAN},
        {"{\"path\":\"mode\"}", KE_DEVICE_STRING},
        {"{\"topic\":\"dev/${namespace}/${name}/raw\",\"path\":\"$\"}", KE_DEVICE_STRING},
        {"{\"PATH\":\"state\"}", KE_DEVICE_STRING},
        {"{\"path\":\"count\"}", KE_DEVICE_INT},
    };
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"topic\":\"dev/${name}/+\"}", p, 6), 0);
    assert_int_equal(rig_subscribe(&b.d), 0);
    test_settle(&b.rig.env);
    assert_int_equal(rig_read(&b.d, (const uint32_t[]){0}, 1), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.status, KE_EAGAIN);
    assert_string_equal(rig_value(&b.d, 0)->text,
                        "nothing with \"state.temperature\" came on topic dev/d1/+ yet");
    publish(&b, "dev/d1/a",
            "{\"state\":{\"temperature\":21.5},\"list\":[0,{\"on\":true}],\"mode\":\"\\u00e9co\","
            "\"count\":9007199254740993}",
            0);
    assert_int_equal(b.d.reports, 1);
    assert_true(b.d.reported[0].v.d == 21.5);
    assert_int_equal(b.d.reported[5].v.i, 9007199254740993);
    publish(&b, "dev/default/d1/raw", "open 7", 0);
    assert_int_equal(b.d.reports, 2);
    publish(&b, "dev/d2/a", "{\"mode\":\"other device\"}", 0);
    publish(&b, "dev/d1/a/b", "{\"mode\":\"deeper\"}", 0);
    assert_int_equal(b.d.reports, 2);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_true(rig_value(&b.d, 0)->v.d == 21.5);
    assert_int_equal(rig_value(&b.d, 1)->v.kind, KE_DEVICE_KIND_BOOL);
    assert_int_equal(rig_value(&b.d, 1)->v.i, 1);
    expect_text(&b, 2,
                "\xc3\xa9"
                "co");
    expect_text(&b, 3, "open 7");
    expect_text(&b, 4, "{\"temperature\":21.5}");
    assert_int_equal(rig_value(&b.d, 0)->v.when_ms, ke_ctx_real_ms(b.rig.env.ctx));
    /* null and absent members change nothing; other kinds do */
    publish(&b, "dev/d1/a", "{\"mode\":null,\"count\":\"12\"}", 0);
    assert_int_equal(rig_read_all(&b.d), 0);
    expect_text(&b, 2,
                "\xc3\xa9"
                "co");
    expect_text(&b, 5, "12");
    assert_int_equal(rig_close(&b.d), 0);
    publish(&b, "dev/d1/a", "{\"mode\":\"late\"}", 0);
    teardown(&b);
}

static void payloads_that_are_none(void **state)
{
    static const struct rig_property p[] = {{"{\"path\":\"v\"}", KE_DEVICE_INT},
                                            {"{\"path\":\"t\"}", KE_DEVICE_STRING}};
    static const char *const bad[] = {"", "{", "{\"v\":1}}", "nothing", "[[[[", "{\"v\":01}"};
    struct bench b;
    char *big = malloc(1500000);

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"topic\":\"dev/#\"}", p, 2), 0);
    test_settle(&b.rig.env);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        publish(&b, "dev/x", bad[i], 0);
        assert_int_equal(rig_read_all(&b.d), 0);
        assert_int_equal(rig_value(&b.d, 0)->v.status, KE_EPARSE);
        assert_memory_equal(rig_value(&b.d, 0)->text, "what came on topic dev/x is no JSON", 35);
    }
    assert_int_equal(b.d.reports, 0);
    memset(big, ' ', 1400000); /* large, but right */
    memcpy(big + 1400000, "{\"v\":7}", 8);
    publish(&b, "dev/x", big, 0);
    memset(big, '[', 1400000); /* deep */
    big[1400000] = '\0';
    publish(&b, "dev/x", big, 0);
    publish(&b, "dev/x", "{\"t\":\"a\\u0000b\"}", 0);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.i, 7);
    assert_int_equal(rig_value(&b.d, 1)->v.status, KE_EPARSE);
    free(big);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void commands(void **state)
{
    static const struct rig_property p[] = {
        {"{\"path\":\"state.level\"}", KE_DEVICE_INT},
        {"{\"path\":\"on\",\"commandPath\":\"set.on\"}", KE_DEVICE_BOOLEAN},
        {"{\"path\":\"$\",\"commandTopic\":\"cmd/${name}/raw\"}", KE_DEVICE_STRING},
        {"{\"path\":\"list[0]\",\"commandTemplate\":\"{\\\"list\\\":[${value},${value}]}\"}",
         KE_DEVICE_DOUBLE},
    };
    const struct ke_device_value v[] = {
        {.size = sizeof v[0], .property = 0, .kind = KE_DEVICE_KIND_INT, .i = -5},
        {.size = sizeof v[0], .property = 1, .kind = KE_DEVICE_KIND_BOOL, .i = 1},
        {.size = sizeof v[0], .property = 2, .kind = KE_DEVICE_KIND_TEXT, .p = "a \"b\"", .n = 5},
        {.size = sizeof v[0], .property = 3, .kind = KE_DEVICE_KIND_DOUBLE, .d = 0.5},
        {.size = sizeof v[0], .property = 1, .kind = KE_DEVICE_KIND_TEXT, .p = "x\ny", .n = 3},
        {.size = sizeof v[0], .property = 2, .kind = KE_DEVICE_KIND_BYTES, .p = "\xff", .n = 1},
    };
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(
        rig_open(&b.rig, &b.d, "{\"topic\":\"dev/a\",\"commandTopic\":\"cmd/${namespace}\"}", p, 4),
        0);
    assert_int_equal(rig_write(&b.d, v, 6), 0);
    test_settle(&b.rig.env);
    assert_string_equal(b.heard, "cmd/default {\"state\":{\"level\":-5}}\n"
                                 "cmd/default {\"set\":{\"on\":true}}\n"
                                 "cmd/d1/raw a \"b\"\n"
                                 "cmd/default {\"list\":[0.5,0.5]}\n"
                                 "cmd/default {\"set\":{\"on\":\"x\\ny\"}}\n");
    assert_int_equal(b.d.n_values, 1);
    assert_int_equal(rig_value(&b.d, 2)->v.status, KE_EINVAL);
    assert_int_equal(rig_close(&b.d), 0);
    /* a device that takes no commands */
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"topic\":\"dev/a\"}", p, 1), 0);
    assert_int_equal(rig_write_int(&b.d, 0, 1), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.status, KE_EACCES);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void devices_that_are_asked(void **state)
{
    static const struct rig_property p[] = {{"{\"path\":\"v\"}", KE_DEVICE_INT},
                                            {"{\"path\":\"w\"}", KE_DEVICE_INT}};
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d,
                              "{\"topic\":\"dev/a\",\"requestTopic\":\"cmd/ask\","
                              "\"requestPayload\":\"{}\"}",
                              p, 2),
                     0);
    assert_int_equal(rig_subscribe(&b.d), KE_ENOTSUP);
    b.answer_topic = "dev/a";
    b.answer = "{\"v\":1,\"w\":2}";
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.heard, "cmd/ask {}\n");
    assert_int_equal(rig_value(&b.d, 1)->v.i, 2);
    b.answer = "{\"v\":3}"; /* a part of it: the rest has a reason */
    int64_t began = ke_ctx_mono_ms(b.rig.env.ctx);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(ke_ctx_mono_ms(b.rig.env.ctx) - began, 4501);
    assert_int_equal(rig_value(&b.d, 0)->v.i, 3);
    assert_int_equal(rig_value(&b.d, 1)->v.status, KE_EAGAIN);
    b.answer = NULL;
    assert_int_equal(rig_read_all(&b.d), KE_ETIMEDOUT);
    assert_string_equal(b.d.text,
                        "the device did not answer what was published on cmd/ask within 4501 ms");
    /* closed while it waits */
    assert_int_equal(rig_start_read(&b.d, (const uint32_t[]){0}, 1), 0);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void availability(void **state)
{
    static const struct rig_property p[] = {{"{\"path\":\"v\"}", KE_DEVICE_INT}};
    static const char config[] =
        "{\"topic\":\"dev/a\",\"availabilityTopic\":\"dev/a/lwt\",\"online\":\"UP\"}";
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, config, p, 1), KE_ETIMEDOUT);
    assert_string_equal(b.d.text,
                        "the device did not say \"UP\" on topic dev/a/lwt within 4501 ms");
    assert_int_equal(rig_close(&b.d), 0);
    publish(&b, "dev/a/lwt", "UP", 1); /* retained: it is known at once */
    assert_int_equal(rig_open(&b.rig, &b.d, config, p, 1), 0);
    publish(&b, "dev/a/lwt", "offline", 1);
    assert_int_equal(b.d.lost, KE_ECONN);
    assert_string_equal(b.d.lost_text, "the device says \"offline\" on topic dev/a/lwt");
    assert_int_equal(rig_close(&b.d), 0);
    assert_int_equal(rig_open(&b.rig, &b.d, config, p, 1), KE_ECONN);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void values_grow_old(void **state)
{
    static const struct rig_property p[] = {{"{\"path\":\"v\"}", KE_DEVICE_INT}};
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"topic\":\"dev/a\",\"expire\":60000}", p, 1), 0);
    test_settle(&b.rig.env);
    publish(&b, "dev/a", "{\"v\":1}", 0);
    test_drive_ms(&b.rig.env, 60000);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.status, 0);
    test_drive_ms(&b.rig.env, 1);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.status, KE_ETIMEDOUT);
    assert_string_equal(rig_value(&b.d, 0)->text,
                        "nothing with \"v\" came on topic dev/a for 60001 ms");
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void configurations_that_cannot_be(void **state)
{
    static const struct {
        const char *config, *visitor, *text;
    } t[] = {
        {"{}", "{}", "property p: \"topic\" is missing"},
        {"{\"topic\":\"a/#/b\"}", "{}", "\"topic\" is \"a/#/b\", which is no topic filter"},
        {"{\"topic\":\"a+\"}", "{}", "which is no topic filter"},
        {"{\"topic\":\"a\",\"commandTopic\":\"b/+\"}", "{}", "no topic to publish on"},
        {"{\"topic\":\"a\"}", "{\"path\":\"a..b\"}", "\"a..b\" is no path"},
        {"{\"topic\":\"a\"}", "{\"path\":\"a[x]\"}", "\"a[x]\" is no path"},
        {"{\"topic\":\"a\"}", "{\"path\":\"a[1\"}", "\"a[1\" is no path"},
        {"{\"topic\":\"a\",\"commandTopic\":\"b\"}", "{\"path\":\"a[1]\"}", "leads into a list"},
        {"{\"topic\":7}", "{\"path\":\"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q\"}", "more than 16 steps"},
        {"{\"topic\":{}}", "{}", "\"topic\" is no text"},
    };
    struct bench b;

    (void)state;
    setup(&b);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct rig_property p = {t[i].visitor, KE_DEVICE_INT};
        int r = rig_open(&b.rig, &b.d, t[i].config, &p, 1);
        if (r != KE_EINVAL || !strstr(b.d.text, t[i].text))
            fail_msg("%zu: %d %s", i, r, b.d.text);
        assert_int_equal(rig_read_all(&b.d), KE_ESTATE);
        assert_int_equal(rig_close(&b.d), 0);
    }
    teardown(&b);
}

static void without_an_event_bus(void **state)
{
    static const struct rig_property p[] = {{"{\"path\":\"v\"}", KE_DEVICE_INT}};
    struct bench b;

    (void)state;
    setup(&b);
    ke_eventbus_free(b.bus);
    b.bus = NULL;
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"topic\":\"dev/a\"}", p, 1), KE_ECONN);
    assert_non_null(strstr(b.d.text, "the event bus does not run"));
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void two_devices_on_one_topic(void **state)
{
    static const struct rig_property p[] = {{"{\"path\":\"v\"}", KE_DEVICE_INT}};
    static struct rig_device other;
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"topic\":\"dev/+\"}", p, 1), 0);
    assert_int_equal(rig_open(&b.rig, &other, "{\"topic\":\"dev/+\"}", p, 1), 0);
    test_settle(&b.rig.env);
    publish(&b, "dev/a", "{\"v\":1}", 0);
    assert_int_equal(b.d.reports, 1);
    assert_int_equal(other.reports, 1);
    assert_int_equal(rig_close(&b.d), 0);
    test_settle(&b.rig.env);
    publish(&b, "dev/a", "{\"v\":2}", 0); /* the other still hears */
    assert_int_equal(other.reports, 2);
    assert_int_equal(rig_close(&other), 0);
    teardown(&b);
}

static void topics(void **state)
{
    static const struct {
        const char *filter, *topic;
        bool match;
    } t[] = {
        {"a/b", "a/b", true},   {"a/b", "a/b/c", false},  {"a/b/c", "a/b", false},
        {"a/+", "a/b", true},   {"a/+", "a", false},      {"a/+", "a/", true},
        {"a/#", "a", true},     {"a/#", "a/b/c", true},   {"#", "a/b", true},
        {"#", "$SYS/a", false}, {"+/a", "$SYS/a", false}, {"$SYS/#", "$SYS/a", true},
        {"+/+", "/b", true},    {"+", "/b", false},       {"a/+/c", "a/b/c", true},
        {"a/+/#", "a/b", true}, {"a/+/#", "a", false},    {"a//b", "a//b", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        if (kei_json_topic_match(t[i].filter, kei_str(t[i].topic)) != t[i].match)
            fail_msg("%s %s", t[i].filter, t[i].topic);
    }
}

static void out_of_memory(void **state)
{
    static const struct rig_property p[] = {
        {"{\"path\":\"v\"}", KE_DEVICE_INT},
        {"{\"path\":\"$\",\"topic\":\"dev/b\",\"commandTopic\":\"cmd/b\"}", KE_DEVICE_STRING}};
    bool whole = false;

    (void)state;
    for (size_t n = 1; !whole; n++) {
        struct bench b;
        setup(&b);
        test_alloc_fail_at(&b.rig.env.alloc, n);
        whole = rig_open(&b.rig, &b.d, "{\"topic\":\"dev/a\"}", p, 2) == 0;
        test_settle(&b.rig.env);
        (void)!ke_eventbus_publish(b.bus, "dev/b", "text", 4, 0, 0);
        (void)!ke_eventbus_publish(b.bus, "dev/a", "{\"v\":1}", 7, 0, 0);
        test_settle(&b.rig.env);
        whole = whole && rig_read_all(&b.d) == 0 && rig_write_text(&b.d, 1, "x") == 0;
        test_settle(&b.rig.env);
        whole = whole && b.rig.env.alloc.failed == 0;
        test_alloc_fail_at(&b.rig.env.alloc, 0);
        if (b.d.is_open)
            assert_int_equal(rig_close(&b.d), 0);
        b.rig.env.log_errors = 0;
        teardown(&b);
        assert_true(n < 1000);
    }
}

/* More messages in one turn than the driver's queue has place for: counted and told. */
static void too_many_at_once(void **state)
{
    static const struct rig_property p[] = {{"{\"path\":\"n\"}", KE_DEVICE_INT}};
    struct ke_eventbus_status st;
    char payload[32];
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"topic\":\"dev/d1\"}", p, 1), 0);
    test_settle(&b.rig.env);
    for (int i = 0; i < 3000; i++) {
        int n = snprintf(payload, sizeof payload, "{\"n\":%d}", i);
        assert_int_equal(ke_eventbus_publish(b.bus, "dev/d1", payload, (size_t)n, 0, 0), 0);
    }
    test_drive_ms(&b.rig.env, 2000);
    assert_int_equal(ke_eventbus_status(b.bus, &st, sizeof st), 0);
    assert_true(st.refused > 0);
    assert_int_equal(b.d.reports + st.refused, 3000);
    assert_int_equal(b.d.notes, 1);
    snprintf(payload, sizeof payload, "%llu messages of", (unsigned long long)st.refused);
    assert_memory_equal(b.d.note, payload, strlen(payload));
    /* and it goes on */
    publish(&b, "dev/d1", "{\"n\":5000}", 0);
    assert_int_equal(b.d.reported[0].v.i, 5000);
    test_drive_ms(&b.rig.env, 5000);
    assert_int_equal(b.d.notes, 1);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(values_as_they_come),
        KE_TEST(payloads_that_are_none),
        KE_TEST(commands),
        KE_TEST(devices_that_are_asked),
        KE_TEST(availability),
        KE_TEST(values_grow_old),
        KE_TEST(configurations_that_cannot_be),
        KE_TEST(without_an_event_bus),
        KE_TEST(two_devices_on_one_topic),
        KE_TEST(topics),
        KE_TEST(too_many_at_once),
        KE_TEST(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
