/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event bus with a broker outside, played by a table in place of paho's module: what goes to
 * the router and what comes from it, against KubeEdge 1.15 on the wire; buffer, reconnect, restart.
 */
#include <unistd.h>

#include "base/json.h"
#include "message/captures.h"
#include "message/msg_priv.h"
#include "mqtt/eventbus_priv.h"
#include "support/support.h"

#define MANY 256

/* ---- the broker ---- */

static struct fake {
    struct kei_paho_events ev;
    void *user;
    struct kei_paho_config c;
    uint32_t connects, destroyed, n_filters, n_sent;
    char filters[MANY][64];
    bool keep_quiet; /* publishes are not confirmed */
    bool refuse;     /* connects fail at once */
    struct {
        char topic[128], payload[1200];
        int qos, retain;
        void *tag;
    } sent[MANY];
} fake;

static int fake_create(struct kei_paho **ret, const struct kei_paho_config *c,
                       const struct kei_paho_events *ev, void *user, char text[KEI_PAHO_TEXT])
{
    (void)text;
    fake.ev = *ev;
    fake.user = user;
    fake.c = *c;
    *ret = (struct kei_paho *)(void *)&fake;
    return 0;
}

static int fake_connect(struct kei_paho *p, char text[KEI_PAHO_TEXT])
{
    (void)p;
    snprintf(text, KEI_PAHO_TEXT, "refused");
    fake.connects++;
    fake.n_filters = 0;
    return fake.refuse ? -1 : 0;
}

static int fake_publish(struct kei_paho *p, const char *topic, const void *payload, size_t n,
                        int qos, int retain, void *tag, char text[KEI_PAHO_TEXT])
{
    (void)p;
    (void)text;
    assert_true(fake.n_sent < MANY && n < sizeof fake.sent[0].payload);
    snprintf(fake.sent[fake.n_sent].topic, sizeof fake.sent[0].topic, "%s", topic);
    memcpy(fake.sent[fake.n_sent].payload, payload, n);
    fake.sent[fake.n_sent].payload[n] = '\0';
    fake.sent[fake.n_sent].qos = qos;
    fake.sent[fake.n_sent].retain = retain;
    fake.sent[fake.n_sent++].tag = tag;
    if (!fake.keep_quiet)
        fake.ev.published(fake.user, tag, 0);
    return 0;
}

static bool has_filter(const char *filter)
{
    for (uint32_t i = 0; i < fake.n_filters; i++)
        if (strcmp(fake.filters[i], filter) == 0)
            return true;
    return false;
}

static int fake_subscribe(struct kei_paho *p, const char *filter, int qos, char text[KEI_PAHO_TEXT])
{
    (void)p;
    (void)text;
    assert_int_equal(qos, 1);
    assert_true(fake.n_filters < MANY);
    if (has_filter(filter))
        return 0;
    snprintf(fake.filters[fake.n_filters++], sizeof fake.filters[0], "%s", filter);
    return 0;
}

static int fake_unsubscribe(struct kei_paho *p, const char *filter, char text[KEI_PAHO_TEXT])
{
    (void)p;
    (void)text;
    for (uint32_t i = 0; i < fake.n_filters; i++)
        if (strcmp(fake.filters[i], filter) == 0)
            memmove(fake.filters[i], fake.filters[--fake.n_filters], sizeof fake.filters[0]);
    return 0;
}

static void fake_disconnect(struct kei_paho *p)
{
    (void)p;
}

static void fake_destroy(struct kei_paho *p)
{
    (void)p;
    fake.destroyed++;
}

static const struct kei_paho_module module = {.version = KEI_PAHO_VERSION,
                                              .create = fake_create,
                                              .connect = fake_connect,
                                              .publish = fake_publish,
                                              .subscribe = fake_subscribe,
                                              .unsubscribe = fake_unsubscribe,
                                              .disconnect = fake_disconnect,
                                              .destroy = fake_destroy};

/* ---- the bench ---- */

struct probe {
    struct ke_module *module;
    struct ke_msg *m[MANY];
    uint32_t n;
};

struct rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_eventbus *bus;
    struct ke_eventbus_config conf;
    struct probe cloud, twin;
    char dir[128];
};

static void on_probe(void *user, struct ke_msg *m)
{
    struct probe *p = user;
    assert_true(p->n < MANY);
    p->m[p->n++] = ke_msg_ref(m);
}

static void rig_bus(struct rig *r)
{
    memset(&fake, 0, sizeof fake);
    assert_int_equal(kei_eventbus_new_with(&r->bus, r->env.ctx, &r->conf, &module), 0);
    assert_int_equal(ke_eventbus_start(r->bus), 0);
}

static void rig_init(struct rig *r, bool with_store)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_probe};
    struct ke_store_config sc;
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, NULL), 0);
    assert_int_equal(
        ke_router_add(&r->cloud.module, r->router, "websocket", "hub", &ops, &r->cloud), 0);
    assert_int_equal(ke_router_add(&r->twin.module, r->router, "twin", "twin", &ops, &r->twin), 0);
    if (with_store) {
        test_tmp_make(r->dir, sizeof r->dir);
        ke_store_config_init(&sc, sizeof sc);
        sc.folder = r->dir;
        assert_int_equal(ke_store_open(&r->store, r->env.ctx, &sc), 0);
    }
    ke_eventbus_config_init(&r->conf, sizeof r->conf);
    r->conf.mode = KE_EVENTBUS_EXTERNAL;
    r->conf.router = r->router;
    r->conf.store = r->store;
    r->conf.node_name = "edge-up1";
    r->conf.url = "tcp://127.0.0.1:1";
}

static void forget(struct probe *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        ke_msg_unref(p->m[i]);
    p->n = 0;
}

static void rig_fini(struct rig *r)
{
    ke_eventbus_free(r->bus);
    forget(&r->cloud);
    forget(&r->twin);
    ke_router_free(r->router);
    ke_store_close(r->store);
    if (r->dir[0])
        test_tmp_remove(r->dir);
    test_env_fini(&r->env);
}

static void connect_fake(struct rig *r)
{
    uint32_t before = fake.connects;
    while (fake.connects == before)
        test_drive_ms(&r->env, 1000);
    fake.ev.connected(fake.user);
    test_settle(&r->env);
}

static void from_device(struct rig *r, const char *topic, const char *payload)
{
    assert_int_equal(
        fake.ev.message(fake.user, topic, strlen(topic), payload, strlen(payload), 0, 0), 1);
    test_drive_ms(&r->env, 50);
}

static int order(struct rig *r, const char *operation, const char *resource, const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    ke_msg_config_init(&c, sizeof c);
    c.source = "router_eventbus";
    c.group = "user";
    c.operation = operation;
    c.resource = resource;
    c.content = content;
    c.content_len = content ? strlen(content) : 0;
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    int e = ke_router_send_group(r->router, "user", m, NULL);
    ke_msg_unref(m);
    test_settle(&r->env);
    return e;
}

static void same_but_ids(const struct ke_msg *m, struct ke_str text)
{
    struct kei_arena a;
    struct kei_msg_view v;
    size_t n;
    kei_arena_init(&a, kei_alloc_malloc(), 0);
    assert_int_equal(kei_msg_view(&v, text, &a, NULL), 0);
    assert_true(kei_str_is(v.source, ke_msg_source(m)));
    assert_true(kei_str_is(v.group, ke_msg_group(m)));
    assert_true(kei_str_is(v.operation, ke_msg_operation(m)));
    assert_true(kei_str_is(v.resource, ke_msg_resource(m)));
    const char *content = ke_msg_content(m, &n);
    assert_true(kei_str_eq(v.content, kei_strn(content, n)));
    kei_arena_free(&a);
}

/* ---- routes ---- */

static void routes(void **state)
{
    static const struct {
        const char *topic;
        int route;
    } cases[] = {
        {"$hw/events/device/thermo-1/twin/update", KEI_ROUTE_TWIN},
        {"$hw/events/device/default/thermo-1/state/update", KEI_ROUTE_TWIN},
        {"$hw/events/node/edge-1/membership/get", KEI_ROUTE_TWIN},
        {"$hw/events/upload/foo", KEI_ROUTE_CLOUD},
        {"SYS/dis/upload_records", KEI_ROUTE_CLOUD},
        {"default/up", KEI_ROUTE_CLOUD},
        {"a/user/b/c", KEI_ROUTE_CLOUD},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(kei_eventbus_route(kei_str(cases[i].topic)), cases[i].route);
}

/* ---- against what was recorded ---- */

static const struct capture_record *mqtt_record(const struct capture *c, const char *topic)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->r[i].topic && strcmp(c->r[i].topic, topic) == 0)
            return &c->r[i];
    fail_msg("no record on topic %s", topic);
    return NULL;
}

static void play_down(struct rig *r, const char *name)
{
    struct capture c;
    capture_load(&c, "kubeedge-1.15", name);
    for (size_t i = 0; i < c.n; i++) {
        struct ke_msg *m = NULL;
        if (!capture_is(&c.r[i], "ws-message", "c2e"))
            continue;
        assert_int_equal(ke_msg_decode(&m, r->env.ctx, c.r[i].text.p, c.r[i].text.n, NULL), 0);
        if (strcmp(ke_msg_group(m), "user") == 0)
            assert_int_equal(ke_router_send_group(r->router, "user", m, NULL), 0);
        ke_msg_unref(m);
    }
    test_settle(&r->env);
    capture_free(&c);
}

/* Every upload of the capture, in order, is what the bus sent. */
static void check_up(struct rig *r, const char *name)
{
    struct capture c;
    uint32_t n = 0;
    capture_load(&c, "kubeedge-1.15", name);
    for (size_t i = 0; i < c.n; i++)
        if (capture_is(&c.r[i], "ws-message", "e2c") &&
            kei_str_has(c.r[i].text, KEI_STR("\"source\":\"bus\""))) {
            assert_true(n < r->cloud.n);
            same_but_ids(r->cloud.m[n++], c.r[i].text);
        }
    assert_int_equal(n, r->cloud.n);
    assert_true(n > 0);
    forget(&r->cloud);
    capture_free(&c);
}

static void as_recorded(void **state)
{
    static const char *const uploads[] = {"SYS/dis/upload_records", "$hw/events/upload/foo"};
    struct rig r;
    struct capture mqtt;
    (void)state;
    rig_init(&r, false);
    rig_bus(&r);
    connect_fake(&r);
    capture_load(&mqtt, "kubeedge-1.15", "mqtt-edge");
    for (size_t i = 0; i < 2; i++)
        from_device(&r, uploads[i], mqtt_record(&mqtt, uploads[i])->payload.p);
    check_up(&r, "31-upload");

    assert_false(has_filter("default/up"));
    play_down(&r, "32-rules");
    assert_true(has_filter("default/up"));

    play_down(&r, "33-rule-rest-to-eventbus");
    assert_int_equal(fake.n_sent, 1);
    assert_string_equal(fake.sent[0].topic, "test");
    assert_string_equal(fake.sent[0].payload, mqtt_record(&mqtt, "test")->payload.p);
    assert_int_equal(fake.sent[0].qos, 1);
    assert_int_equal(fake.sent[0].retain, 0);

    from_device(&r, "default/up", mqtt_record(&mqtt, "default/up")->payload.p);
    check_up(&r, "34-rule-eventbus-to-rest");
    capture_free(&mqtt);
    rig_fini(&r);
}

static void devices_to_twin(void **state)
{
    struct rig r;
    size_t n;
    (void)state;
    rig_init(&r, false);
    rig_bus(&r);
    connect_fake(&r);
    assert_true(has_filter("$hw/events/device/+/twin/+"));
    assert_true(has_filter("$hw/events/device/+/+/twin/+"));
    from_device(&r, "$hw/events/device/thermo-1/twin/get", "{\"event_id\":\"g1\"}");
    assert_int_equal(r.twin.n, 1);
    assert_string_equal(ke_msg_resource(r.twin.m[0]), "$hw/events/device/thermo-1/twin/get");
    assert_string_equal(ke_msg_source(r.twin.m[0]), "bus");
    assert_string_equal(ke_msg_content(r.twin.m[0], &n), "\"{\\\"event_id\\\":\\\"g1\\\"}\"");
    assert_int_equal(r.cloud.n, 0);
    /* no filter of ours: a broker that sends it all the same is not believed */
    from_device(&r, "$hw/events/device/thermo-1/twin/update/result", "{}");
    from_device(&r, "elsewhere", "{}");
    assert_int_equal(r.twin.n, 1);
    assert_int_equal(r.cloud.n, 0);
    /* two of the bus's filters match: once */
    order(&r, "subscribe", "a/user/b", NULL);
    from_device(&r, "a/user/b", "x");
    assert_int_equal(r.cloud.n, 1);
    rig_fini(&r);
}

/* A node without device twins: counted, told once however much comes. */
static void twin_messages_nobody_takes(void **state)
{
    struct rig r;
    struct ke_eventbus_status st;
    (void)state;
    rig_init(&r, false);
    ke_module_remove(r.twin.module);
    r.twin.module = NULL;
    rig_bus(&r);
    connect_fake(&r);
    unsigned before = atomic_load(&r.env.log_lines);
    for (int i = 0; i < 100; i++) {
        from_device(&r, "$hw/events/device/d/twin/get", "{}");
        test_drive_ms(&r.env, 11000); /* also over time */
    }
    assert_int_equal(ke_eventbus_status(r.bus, &st, sizeof st), 0);
    assert_int_equal(st.refused, 100);
    assert_int_equal(st.to_twin, 0);
    assert_int_equal(atomic_load(&r.env.log_lines) - before, 1);
    rig_fini(&r);
}

/* ---- orders ---- */

static void orders(void **state)
{
    struct rig r;
    (void)state;
    rig_init(&r, false);
    rig_bus(&r);
    connect_fake(&r);
    order(&r, "message", "x", "{\"message\":{\"topic\":\"a/b\",\"v\":[1, 2]}}");
    assert_string_equal(fake.sent[0].topic, "a/b");
    assert_string_equal(fake.sent[0].payload, "{\"topic\":\"a/b\",\"v\":[1, 2]}");
    order(&r, "get_result", "auth_info", "{\"k\":1}");
    assert_string_equal(fake.sent[1].topic, "$hw/events/node/edge-up1/authInfo/get/result");
    assert_string_equal(fake.sent[1].payload, "{\"k\":1}");
    assert_int_equal(fake.n_sent, 2);
    /* malformed, or not for MQTT: nothing happens, and the bus lives on */
    order(&r, "message", "x", "{\"message\":{}}");
    order(&r, "message", "x", "null");
    order(&r, "publish", "a/b", "{\"an\":\"object\"}");
    order(&r, "publish", "a/+", "\"x\"");
    order(&r, "subscribe", "a/#/b", NULL);
    order(&r, "get_result", "other", "{}");
    order(&r, "POST", "6660:/svc", "{}");
    assert_int_equal(fake.n_sent, 2);
    order(&r, "unsubscribe", "never/there", NULL);
    order(&r, "unsubscribe", "+/user/#", NULL); /* the bus's own stays */
    assert_true(has_filter("+/user/#"));
    order(&r, "publish", "a/b", "\"y\"");
    assert_int_equal(fake.n_sent, 3);
    rig_fini(&r);
}

static void connection_of_1_4(void **state)
{
    struct rig r;
    (void)state;
    rig_init(&r, false);
    rig_bus(&r);
    connect_fake(&r);
    kei_eventbus_connection(r.bus, true, false);
    assert_int_equal(fake.n_sent, 0);
    kei_eventbus_connection(r.bus, true, true);
    kei_eventbus_connection(r.bus, false, true);
    assert_int_equal(fake.n_sent, 2);
    assert_string_equal(fake.sent[0].topic, "node/connection");
    assert_string_equal(fake.sent[0].payload, "cloud_connected");
    assert_string_equal(fake.sent[1].payload, "cloud_disconnected");
    rig_fini(&r);
}

/* ---- the connection ---- */

static void buffer_and_reconnect(void **state)
{
    struct rig r;
    struct ke_eventbus_status st;
    char payload[16];
    (void)state;
    rig_init(&r, false);
    r.conf.max_messages = 10;
    rig_bus(&r);
    for (int i = 0; i < 10; i++) {
        int n = snprintf(payload, sizeof payload, "%d", i);
        assert_int_equal(ke_eventbus_publish(r.bus, "t", payload, (size_t)n, 1, 0), 0);
    }
    assert_int_equal(ke_eventbus_publish(r.bus, "t", "10", 2, 1, 0), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "max_messages is 10"));
    assert_int_equal(fake.n_sent, 0);
    fake.keep_quiet = true;
    connect_fake(&r);
    assert_int_equal(fake.n_sent, 10);
    for (int i = 0; i < 4; i++) /* the broker has four of them */
        fake.ev.published(fake.user, fake.sent[i].tag, 0);
    test_settle(&r.env);
    assert_int_equal(ke_eventbus_status(r.bus, &st, sizeof st), 0);
    assert_int_equal(st.waiting, 6);
    assert_int_equal(st.state, KE_EVENTBUS_CONNECTED);
    fake.ev.lost(fake.user, "cable");
    test_settle(&r.env);
    assert_int_equal(ke_eventbus_status(r.bus, &st, sizeof st), 0);
    assert_int_equal(st.state, KE_EVENTBUS_WAITING);
    assert_string_equal(st.error_text, "cable");
    assert_int_equal(fake.connects, 1);
    fake.keep_quiet = false;
    connect_fake(&r);
    test_settle(&r.env);
    assert_int_equal(fake.connects, 2);
    assert_int_equal(fake.n_sent, 16);
    for (int i = 0; i < 6; i++)
        assert_int_equal(strtol(fake.sent[10 + i].payload, NULL, 10), 4 + i);
    /* a late word on an attempt of before the break means nothing */
    fake.ev.published(fake.user, fake.sent[5].tag, 1);
    test_settle(&r.env);
    assert_true(has_filter("$hw/events/upload/#"));
    assert_int_equal(ke_eventbus_status(r.bus, &st, sizeof st), 0);
    assert_int_equal(st.waiting, 0);
    assert_int_equal(st.connects, 2);
    rig_fini(&r);
}

static void tries_for_ever(void **state)
{
    struct rig r;
    (void)state;
    rig_init(&r, false);
    rig_bus(&r);
    fake.refuse = true;
    test_drive_ms(&r.env, 600000);
    assert_in_range(fake.connects, 10, 200); /* at most every second, at least every minute */
    fake.refuse = false;
    connect_fake(&r);
    assert_true(has_filter("SYS/dis/upload_records"));
    rig_fini(&r);
}

static void cloud_subscriptions_are_kept(void **state)
{
    struct rig r;
    (void)state;
    rig_init(&r, true);
    rig_bus(&r);
    connect_fake(&r);
    order(&r, "subscribe", "default/up", NULL);
    order(&r, "subscribe", "default/other", NULL);
    order(&r, "subscribe", "default/up", NULL);
    order(&r, "unsubscribe", "default/other", NULL);
    assert_false(has_filter("default/other"));
    test_settle(&r.env);
    ke_eventbus_free(r.bus);
    assert_int_equal(fake.destroyed, 1);
    rig_bus(&r);
    connect_fake(&r);
    test_settle(&r.env);
    assert_true(has_filter("default/up"));
    assert_false(has_filter("default/other"));
    /* freed while it reads what was kept */
    ke_eventbus_free(r.bus);
    rig_bus(&r);
    rig_fini(&r);
}

static void uploads_are_bounded(void **state)
{
    struct rig r;
    struct ke_eventbus_status st;
    (void)state;
    rig_init(&r, false);
    r.conf.max_messages = 20;
    rig_bus(&r);
    connect_fake(&r);
    for (int i = 0; i < 50; i++)
        assert_int_equal(fake.ev.message(fake.user, "a/user/b", 8, "x", 1, 1, 0), 1);
    test_drive_ms(&r.env, 1000);
    assert_int_equal(r.cloud.n, 20);
    assert_int_equal(ke_eventbus_status(r.bus, &st, sizeof st), 0);
    assert_int_equal(st.refused, 30);
    assert_int_equal(st.to_cloud, 20);
    assert_non_null(strstr(r.env.last_log, "max_messages"));
    /* paho keeps what the inbox has no place for */
    static char large[1 << 20];
    int taken = 0;
    for (int i = 0; i < 64; i++)
        taken += fake.ev.message(fake.user, "elsewhere", 9, large, sizeof large, 1, 0);
    assert_in_range(taken, 16, 17);
    test_drive_ms(&r.env, 10);
    assert_int_equal(fake.ev.message(fake.user, "elsewhere", 9, large, sizeof large, 1, 0), 1);
    rig_fini(&r);
}

/* ---- the firmware ---- */

static uint32_t n_heard;

static void on_heard(void *user, const struct ke_eventbus_message *m)
{
    struct ke_eventbus_sub **s = user;
    assert_int_equal(m->external, 1);
    n_heard++;
    if (m->payload.n == 3) { /* "bye" */
        ke_eventbus_unsubscribe(*s);
        *s = NULL;
    }
}

static void firmware(void **state)
{
    struct rig r;
    struct ke_eventbus_sub *s = NULL, *other = NULL;
    (void)state;
    n_heard = 0;
    rig_init(&r, false);
    rig_bus(&r);
    connect_fake(&r);
    assert_int_equal(ke_eventbus_subscribe(&s, r.bus, "shop/#", 1, on_heard, &s), 0);
    assert_int_equal(ke_eventbus_subscribe(&other, r.bus, "shop/#", 1, on_heard, &other), 0);
    assert_int_equal(ke_eventbus_subscribe(&s, r.bus, "a/#/b", 1, on_heard, NULL), KE_EINVAL);
    assert_true(has_filter("shop/#"));
    from_device(&r, "shop/1", "hi");
    assert_int_equal(n_heard, 2);
    assert_int_equal(r.cloud.n, 0);
    ke_eventbus_unsubscribe(other);
    assert_true(has_filter("shop/#"));
    from_device(&r, "shop/1", "bye");
    assert_int_equal(n_heard, 3);
    assert_false(has_filter("shop/#"));
    from_device(&r, "shop/1", "hi");
    assert_int_equal(n_heard, 3);
    rig_fini(&r);
}

/* ---- with a server inside ---- */

static char said[512];

static void on_said(void *user, const struct ke_mqtt_message *m)
{
    (void)user;
    size_t at = strlen(said);
    snprintf(said + at, sizeof said - at, "%.*s=%.*s/%u%u ", (int)m->topic.n, m->topic.p,
             (int)m->payload.n, m->payload.p, m->qos, m->retain);
}

static void publish_inside(struct rig *r, struct ke_mqtt *m, const char *topic, const char *payload)
{
    struct ke_mqtt_publish p = {.size = sizeof p,
                                .topic = {topic, strlen(topic)},
                                .payload = {payload, strlen(payload)},
                                .qos = 1};
    assert_int_equal(ke_mqtt_publish(m, &p, NULL, NULL, NULL), 0);
    test_drive_ms(&r->env, 50);
}

static void both_at_once(void **state)
{
    struct rig r;
    struct ke_mqtt *m = NULL;
    struct ke_mqtt_sub *ear = NULL;
    struct ke_mqtt_subscribe s = {.size = sizeof s,
                                  .filter = {"#", 1},
                                  .qos = 2,
                                  .flags = KE_MQTT_SUB_AS_PUBLISHED,
                                  .message = on_said};
    int fd;
    (void)state;
    said[0] = '\0';
    rig_init(&r, false);
    assert_int_equal(ke_ctx_fd(r.env.ctx, &fd), 0);
    assert_int_equal(ke_mqtt_new(&m, r.env.ctx, NULL, NULL, NULL), 0);
    assert_int_equal(ke_mqtt_start(m), 0);
    assert_int_equal(ke_mqtt_subscribe(&ear, m, &s, NULL, NULL), 0);
    r.conf.mode = KE_EVENTBUS_BOTH;
    r.conf.server = m;
    r.conf.qos = 1;
    r.conf.retain = 1;
    rig_bus(&r);
    connect_fake(&r);
    /* out: to both, with the settings of each */
    order(&r, "publish", "test", "\"x\"");
    assert_string_equal(said, "test=x/11 ");
    assert_string_equal(fake.sent[0].topic, "test");
    assert_int_equal(fake.sent[0].qos, 1);
    assert_int_equal(fake.sent[0].retain, 0);
    /* in: from either */
    publish_inside(&r, m, "a/user/1", "inside");
    from_device(&r, "a/user/2", "outside");
    assert_int_equal(r.cloud.n, 2);
    assert_string_equal(ke_msg_resource(r.cloud.m[0]), "a/user/1");
    assert_string_equal(ke_msg_resource(r.cloud.m[1]), "a/user/2");
    publish_inside(&r, m, "$hw/events/device/d/twin/get", "{}");
    assert_int_equal(r.twin.n, 1);
    /* what the bus publishes at the server inside is not taken for a device's */
    order(&r, "publish", "a/user/3", "\"x\"");
    assert_int_equal(r.cloud.n, 2);
    order(&r, "subscribe", "default/up", NULL);
    publish_inside(&r, m, "default/up", "y");
    order(&r, "unsubscribe", "default/up", NULL);
    publish_inside(&r, m, "default/up", "z");
    assert_int_equal(r.cloud.n, 3);
    ke_eventbus_free(r.bus);
    r.bus = NULL;
    publish_inside(&r, m, "a/user/1", "nobody");
    assert_int_equal(r.cloud.n, 3);
    ke_mqtt_unsubscribe(ear);
    ke_mqtt_free(m);
    rig_fini(&r);
}

static void refuses_bad_configuration(void **state)
{
    struct rig r;
    struct ke_eventbus *b = NULL;
    (void)state;
    rig_init(&r, false);
    r.conf.node_name = NULL;
    assert_int_equal(kei_eventbus_new_with(&b, r.env.ctx, &r.conf, &module), KE_EINVAL);
    r.conf.node_name = "n";
    r.conf.mode = KE_EVENTBUS_BOTH;
    assert_int_equal(kei_eventbus_new_with(&b, r.env.ctx, &r.conf, &module), KE_EINVAL);
    r.conf.mode = KE_EVENTBUS_EXTERNAL;
    r.conf.flags = KE_EVENTBUS_TLS;
    assert_int_equal(kei_eventbus_new_with(&b, r.env.ctx, &r.conf, &module), KE_EINVAL);
    r.conf.flags = 0;
    r.conf.module = "/nowhere/libkubeedge-paho.so";
    assert_int_equal(ke_eventbus_new(&b, r.env.ctx, &r.conf), KE_ENOTSUP);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "/nowhere/libkubeedge-paho.so"));
    rig_fini(&r);
}

/* Any allocation may fail: no crash, no leak; what the bus says it has, it has. */
static void out_of_memory(void **state)
{
    (void)state;
    for (size_t i = 1; i < 120; i++) {
        struct rig r;
        rig_init(&r, false);
        memset(&fake, 0, sizeof fake);
        test_alloc_fail_at(&r.env.alloc, i);
        if (kei_eventbus_new_with(&r.bus, r.env.ctx, &r.conf, &module) < 0) {
            r.bus = NULL;
        } else if (ke_eventbus_start(r.bus) == 0) {
            connect_fake(&r);
            (void)fake.ev.message(fake.user, "a/user/b", 8, "x", 1, 1, 0);
            test_drive_ms(&r.env, 50);
            if (ke_eventbus_publish(r.bus, "t", "x", 1, 1, 0) == 0) {
                test_drive_ms(&r.env, 3000);
                if (fake.connects > 1)
                    fake.ev.connected(fake.user);
                test_settle(&r.env);
                assert_int_not_equal(fake.n_sent, 0);
            }
        }
        test_alloc_fail_at(&r.env.alloc, 0);
        r.env.log_errors = 0;
        rig_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes),
        cmocka_unit_test(as_recorded),
        cmocka_unit_test(devices_to_twin),
        cmocka_unit_test(twin_messages_nobody_takes),
        cmocka_unit_test(orders),
        cmocka_unit_test(connection_of_1_4),
        cmocka_unit_test(buffer_and_reconnect),
        cmocka_unit_test(tries_for_ever),
        cmocka_unit_test(cloud_subscriptions_are_kept),
        cmocka_unit_test(uploads_are_bounded),
        cmocka_unit_test(firmware),
        cmocka_unit_test(both_at_once),
        cmocka_unit_test(refuses_bad_configuration),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
