/* SPDX-License-Identifier: Apache-2.0 */
/* pushMethod: what it says, where values go, and servers that refuse, hang or come back. */
#include "harness.h"

#include "base/json.h"
#include "device/push.h"
#include "net/http.h"

#define RW MP("t", "INT", "ReadWrite", "") "," MP("h", "INT", "ReadOnly", "")

static struct hrig rig, *r = &rig;
static struct seen seen;

/* ---- a server that values are pushed to ---- */

static struct server {
    struct kei_http_server *s;
    uint16_t port;
    int requests;
    uint32_t answer; /* 0: none, ever */
    char target[128], type[64], body[256];
} server;

static void on_request(void *user, struct kei_http_conn *c, const struct kei_http_head *head,
                       struct ke_str body)
{
    struct server *s = user;
    s->requests++;
    struct ke_str type = kei_http_header(head, "Content-Type");
    assert_true(kei_str_is(head->method, "POST"));
    snprintf(s->target, sizeof s->target, "%.*s", KEI_FMT(head->target));
    snprintf(s->type, sizeof s->type, "%.*s", KEI_FMT(type));
    snprintf(s->body, sizeof s->body, "%.*s", KEI_FMT(body));
    if (s->answer)
        assert_int_equal(kei_http_respond(c, s->answer, "text/plain", NULL, KEI_STR("ok")), 0);
}

static void server_start(uint16_t port)
{
    static const struct kei_http_server_ops ops = {.request = on_request};
    struct kei_http_server_config c = {.listener = {.host = "127.0.0.1", .port = port}};
    server.answer = 200;
    assert_int_equal(kei_http_server_new(&server.s, r->env.ctx, &c, &ops, &server), 0);
    server.port = kei_http_server_port(server.s);
}

static void server_stop(void)
{
    kei_http_server_free(server.s);
    server.s = NULL;
}

static int setup(void **state)
{
    (void)state;
    hrig_init(r);
    r->no_subscribe = true;
    r->env.idle_ms = 20;
    memset(&server, 0, sizeof server);
    server_start(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop();
    hrig_fini(r);
    return 0;
}

static void push_by(const char *name, const char *t, const char *h)
{
    char json[3000];
    snprintf(json, sizeof json,
             DEVICE("%s", "{\"name\":\"t\",\"collectCycle\":1000,\"reportCycle\":1000%s}"
                          ",{\"name\":\"h\",\"collectCycle\":1000,\"reportCycle\":2000%s}"),
             name, t, h);
    hrig_put(r, json);
}

static const char *http(uint16_t port)
{
    static char text[300];
    snprintf(text, sizeof text,
             ",\"pushMethod\":{\"http\":{\"hostName\":\"http://"
             "127.0.0.1\",\"port\":%u,\"requestPath\":\"/values\",\"timeout\":3000}}",
             port);
    return text;
}

static const struct seen *see(const char *name)
{
    hrig_see(r, name, &seen);
    assert_true(seen.found);
    return &seen;
}

static bool requests_are(void *arg)
{
    return server.requests >= *(int *)arg;
}

static void wait_requests(int n)
{
    assert_true(test_drive(&r->env, requests_are, &n));
}

static void by_http(void **state)
{
    (void)state;
    hrig_start(r);
    fake(r, "a")->regs[0] = 21;
    hrig_put(r, MODEL(RW));
    push_by("a", http(server.port), "");
    wait_requests(1);
    assert_string_equal(server.target, "/values");
    assert_string_equal(server.type, "application/x-www-form-urlencoded");
    assert_memory_equal(server.body, "t=21&time=20", 12);
    assert_int_equal(strlen(server.body), strlen("t=21&time=2026-01-02 03:04:05"));
    /* each cycle, as KubeEdge's mappers do, and the newest */
    fake(r, "a")->regs[0] = 22;
    wait_requests(4);
    assert_memory_equal(server.body, "t=22&", 5);
    assert_true(see("a")->s.pushes >= 3);
    assert_int_equal(seen.s.push_failures, 0);
    assert_string_equal(seen.s.error, "");
    /* one a second, not more */
    int before = server.requests;
    test_drive_ms(&r->env, 10000);
    assert_in_range(server.requests - before, 8, 12);
}

static void by_mqtt(void **state)
{
    (void)state;
    hrig_start(r);
    fake(r, "a")->regs[1] = 5;
    hrig_put(r, MODEL(RW));
    push_by("a", "",
            ",\"pushMethod\":{\"mqtt\":{\"address\":\"tcp://"
            "127.0.0.1:1883\",\"topic\":\"hum/a\",\"qos\":1,\"retained\":true}}");
    test_drive_ms(&r->env, 10500);
    assert_in_range(r->pushed, 4, 7); /* every 2 s */
    assert_string_equal(r->topic, "hum/a");
    assert_memory_equal(r->push,
                        "{\"address\":\"tcp://127.0.0.1:1883\",\"qos\":1,\"retain\":1,"
                        "\"payload\":\"time is 20",
                        sizeof "{\"address\":\"tcp://127.0.0.1:1883\",\"qos\":1,\"retain\":1,"
                               "\"payload\":\"time is 20" - 1);
    assert_non_null(strstr(r->push, "  hum/a: 5\"}"));
    assert_int_equal(see("a")->s.pushes, (uint64_t)r->pushed);
    /* refused: said, and the next try comes later and later */
    r->push_refuse = "\"no such server\"";
    int before = r->pushed;
    test_drive_ms(&r->env, 600000);
    assert_in_range(r->pushed - before, 5, 100); /* of 300 cycles */
    assert_string_equal(see("a")->s.error,
                        "values are not pushed to MQTT server tcp://127.0.0.1:1883: no such server");
    assert_true(seen.s.push_failures >= 3);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
    r->push_refuse = NULL;
    fake(r, "a")->regs[1] = 6;
    test_drive_ms(&r->env, 70000);
    assert_non_null(strstr(r->push, "  hum/a: 6\"}"));
    /* no answer: it ends by its time, and nothing else waits */
    r->bus_silent = true;
    uint64_t failures = see("a")->s.push_failures, reads = fake(r, "a")->reads;
    test_drive_ms(&r->env, 40000);
    assert_int_equal(see("a")->s.push_failures, failures + 1);
    assert_true((uint64_t)fake(r, "a")->reads >= reads + 39);
}

static void newest_value_after_a_failure(void **state)
{
    (void)state;
    uint16_t port = server.port;
    server_stop();
    hrig_start(r);
    hrig_put(r, MODEL(RW));
    push_by("a", http(port), "");
    for (int i = 1; i <= 20; i++) {
        fake(r, "a")->regs[0] = i;
        test_drive_ms(&r->env, 1000);
    }
    assert_non_null(strstr(see("a")->s.error, "values are not pushed to http://127.0.0.1:"));
    assert_int_equal(seen.s.pushes, 0);
    assert_in_range(seen.s.push_failures, 2, 20);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
    /* offline meanwhile: the last value still goes */
    r->read = FAKE_FAIL;
    r->open = FAKE_FAIL;
    test_drive_ms(&r->env, 5000);
    assert_int_not_equal(see("a")->s.state, KE_DEVICE_ONLINE);
    server_start(port);
    wait_requests(1);
    assert_memory_equal(server.body, "t=20&", 5);
    /* once: there is nothing newer */
    test_drive_ms(&r->env, 120000);
    assert_int_equal(server.requests, 1);
    server.answer = 503;
    r->read = r->open = FAKE_NOW;
    fake(r, "a")->regs[0] = 30;
    test_drive_ms(&r->env, 200000);
    assert_non_null(strstr(see("a")->s.error, "it answered 503 Service Unavailable"));
}

/* A server that takes connections and never answers holds up nobody else. */
static void one_that_hangs(void **state)
{
    (void)state;
    struct kei_listener *l;
    struct kei_listener_config c = {.host = "127.0.0.1"};
    assert_int_equal(kei_listen(&l, r->env.ctx, &c, NULL, NULL), 0);
    uint16_t port = kei_listener_port(l);
    kei_listener_free(l); /* nobody accepts: refused; and the one that hangs: */
    server.answer = 0;
    hrig_start(r);
    hrig_put(r, MODEL(RW));
    push_by("a", http(server.port), http(server.port));
    push_by("b", http(port), "");
    push_by("c", "", ",\"pushMethod\":{\"mqtt\":{\"topic\":\"own\"}}");
    test_drive_ms(&r->env, 20000);
    assert_in_range(r->pushed, 9, 12);
    assert_true(fake(r, "a")->reads >= 19 && fake(r, "b")->reads >= 19);
    assert_non_null(strstr(see("a")->s.error, "no whole answer came within the limit of 3000 ms"));
    assert_non_null(strstr(see("b")->s.error, "/values: "));
    assert_int_equal(see("c")->s.push_failures, 0);
    assert_int_equal(see("a")->s.pushes, 0);
    /* taken away while one is under way */
    assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
    test_drive_ms(&r->env, 1000);
    push_by("b", http(server.port), "");
    test_drive_ms(&r->env, 1500);
}

static void what_is_not_executed_is_said(void **state)
{
    (void)state;
    struct ke_devices_stats st;
    hrig_start(r);
    hrig_put(r, MODEL(RW));
    push_by("a", ",\"pushMethod\":{\"otel\":{\"endpointURL\":\"http://x\"}}",
            ",\"pushMethod\":{\"dbMethod\":{\"influxdb2\":{\"influxdb2ClientConfig\":{}}},"
            "\"mqtt\":{\"topic\":\"a\"}}");
    test_drive_ms(&r->env, 5000);
    assert_string_equal(see("a")->s.error,
                        "pushMethod is not executed: otel of t: it is not supported; "
                        "dbMethod influxdb2 of h: it is not supported");
    assert_true(r->pushed > 0); /* the rest is */
    unsigned lines = r->env.log_lines;
    test_drive_ms(&r->env, 60000);
    assert_int_equal(r->env.log_lines, lines);
    assert_int_equal(ke_devices_get_stats(r->d, &st, sizeof st), 0);
    assert_int_equal(st.pushes, (uint64_t)r->pushed);
}

static void methods_are_read(void **state)
{
    static const struct {
        const char *json, *bad, *url;
        int timeout, n;
    } t[] = {
        {"{\"http\":{\"hostName\":\"http://h\",\"port\":8080,\"requestPath\":\"p\"}}", "",
         "http://h:8080/p", 10000, 1},
        {"{\"http\":{\"hostName\":\"h/\",\"timeout\":5}}", "", "http://h:80/", 1000, 1},
        {"{\"http\":{\"hostName\":\"h\",\"timeout\":90000}}", "", "http://h:80/", 30000, 1},
        {"{\"http\":{\"hostName\":\"https://h\"}}", "only http:// is supported", NULL, 0, 1},
        {"{\"http\":{\"hostName\":\"\"}}", "its hostName is no host", NULL, 0, 1},
        {"{\"http\":{\"hostName\":\"h/x\"}}", "its hostName is no host", NULL, 0, 1},
        {"{\"http\":{\"hostName\":\"h\",\"port\":70000}}", "its port is not within 1 to 65535",
         NULL, 0, 1},
        {"{\"http\":{\"hostName\":\"h\",\"requestPath\":\"/a b\"}}",
         "its requestPath has invalid characters", NULL, 0, 1},
        {"{\"mqtt\":{\"address\":\"x:1\",\"topic\":\"t\",\"qos\":2}}", "", "MQTT server x:1", 0, 1},
        {"{\"mqtt\":{\"topic\":\"t\",\"qos\":3}}", "its qos is none of 0, 1, 2", NULL, 0, 1},
        {"{\"mqtt\":{\"topic\":\"t/#\"}}", "its topic is missing or has a wildcard", NULL, 0, 1},
        {"{\"http\":{\"hostName\":\"h\"},\"mqtt\":{\"topic\":\"t\"},\"otel\":{},"
         "\"dbMethod\":{},\"anomalyDetection\":{}}",
         "", "http://h:80/", 0, 5},
        {"{}", NULL, NULL, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char json[1000];
        struct kei_arena a;
        struct kei_device kd;
        struct kei_push_conf c[KEI_PUSH_METHODS];
        snprintf(json, sizeof json, DEVICE("a", "{\"name\":\"t\",\"pushMethod\":%s}"), t[i].json);
        kei_arena_init(&a, kei_alloc_malloc(), 0);
        assert_int_equal(kei_device_read(&kd, kei_str(json), &a, NULL), 0);
        assert_int_equal(kei_push_read(c, &kd.props[0].push, &a), t[i].n);
        if (t[i].n) {
            assert_string_equal(c[0].bad, t[i].bad);
            assert_int_equal(c[0].kind == KEI_PUSH_NONE, t[i].bad[0] != 0);
        }
        if (t[i].url)
            assert_string_equal(c[0].url, t[i].url);
        if (t[i].timeout)
            assert_int_equal(c[0].timeout_ms, t[i].timeout);
        kei_arena_free(&a);
    }
}

/* More properties than a server takes at once: all have their turn. */
static void many_at_one_server(void **state)
{
    (void)state;
    char model[4000] = "", props[6000] = "";
    hrig_start(r);
    for (int i = 0; i < 20; i++) {
        size_t m = strlen(model), p = strlen(props);
        snprintf(model + m, sizeof model - m, "%s" MP("p%d", "INT", "ReadOnly", ""), i ? "," : "",
                 i);
        snprintf(props + p, sizeof props - p,
                 "%s{\"name\":\"p%d\",\"collectCycle\":1000,\"reportCycle\":1000%s}", i ? "," : "",
                 i, http(server.port));
    }
    char *json = malloc(8000);
    snprintf(json, 8000, MODEL("%s"), model);
    hrig_put(r, json);
    snprintf(json, 8000, DEVICE("a", "%s"), props);
    hrig_put(r, json);
    free(json);
    test_drive_ms(&r->env, 10000);
    assert_in_range(server.requests, 160, 240);
    assert_int_equal(see("a")->s.push_failures, 0);
}

static void without_a_router(void **state)
{
    (void)state;
    r->c.router = NULL;
    r->c.store = NULL;
    hrig_start(r);
    hrig_put(r, MODEL(RW));
    push_by("a", http(server.port), ",\"pushMethod\":{\"mqtt\":{\"topic\":\"a\"}}");
    wait_requests(3);
    assert_string_equal(
        see("a")->s.error,
        "pushMethod is not executed: mqtt of h: there is no MQTT server in a mapper");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(by_http, setup, teardown),
        cmocka_unit_test_setup_teardown(by_mqtt, setup, teardown),
        cmocka_unit_test_setup_teardown(newest_value_after_a_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_executed_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(many_at_one_server, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_router, setup, teardown),
        cmocka_unit_test(methods_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
