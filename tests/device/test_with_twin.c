/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The harness and the device twin on one router: values of devices become the twin's, a desired
 * value of a cloud of KubeEdge 1.4 reaches the device as a delta, refused ones are told.
 */
#include "support/support.h"

#include <kubeedge/device.h>
#include <kubeedge/twin.h>

static struct {
    struct test_env env;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_twin *twin;
    struct ke_devices *d;
} rig;

static void start(void)
{
    struct ke_store_config sc;
    struct ke_twin_config tc;
    struct ke_devices_config dc;
    test_env_init(&rig.env, 0);
    rig.env.idle_ms = 0;
    assert_int_equal(ke_router_new(&rig.router, rig.env.ctx, NULL), 0);
    ke_store_config_init(&sc, sizeof sc);
    sc.flags = KE_STORE_MEMORY;
    assert_int_equal(ke_store_open(&rig.store, rig.env.ctx, &sc), 0);
    ke_twin_config_init(&tc, sizeof tc);
    tc.router = rig.router;
    tc.store = rig.store;
    tc.node_name = "edge-1";
    assert_int_equal(ke_twin_new(&rig.twin, rig.env.ctx, &tc), 0);
    assert_int_equal(ke_twin_start(rig.twin), 0);
    ke_devices_config_init(&dc, sizeof dc);
    dc.router = rig.router;
    dc.store = rig.store;
    dc.node_name = "edge-1";
    assert_int_equal(ke_devices_new(&rig.d, rig.env.ctx, &dc), 0);
    assert_int_equal(ke_device_sim_register(rig.d), 0);
}

static void stop(void)
{
    ke_devices_free(rig.d);
    ke_twin_free(rig.twin);
    ke_store_close(rig.store);
    ke_router_free(rig.router);
    test_env_fini(&rig.env);
}

static void put(const char *json)
{
    assert_int_equal(ke_devices_put(rig.d, json, strlen(json)), 0);
}

static void cloud(const char *resource, const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m;
    ke_msg_config_init(&c, sizeof c);
    c.source = "devicecontroller";
    c.group = "twin";
    c.operation = "update";
    c.resource = resource;
    c.content = content;
    c.content_len = strlen(content);
    assert_int_equal(ke_msg_new(&m, rig.env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_send_group(rig.router, "twin", m, NULL), 0);
    ke_msg_unref(m);
}

static struct ke_twin_value twin(const char *device, const char *name)
{
    struct ke_twin_value v;
    memset(&v, 0, sizeof v);
    assert_int_equal(ke_twin_get(rig.twin, device, name, &v, sizeof v), 0);
    return v;
}

static uint32_t waiting;
static char error[256], state[32];

static void on_status(void *user, const struct ke_device_status *s)
{
    (void)user;
    waiting = s->reports_waiting;
    snprintf(error, sizeof error, "%s", s->error);
}

static void look(void)
{
    assert_int_equal(ke_devices_list(rig.d, on_status, NULL), 0);
}

static void on_twin_device(void *user, const struct ke_twin_device *d)
{
    (void)user;
    snprintf(state, sizeof state, "%s", d->state);
}

static void values_become_the_twins(void **unused)
{
    (void)unused;
    start();
    put("{\"kind\":\"DeviceModel\",\"metadata\":{\"name\":\"m\"},\"spec\":{\"properties\":["
        "{\"name\":\"t\",\"type\":\"INT\",\"accessMode\":\"ReadWrite\"},"
        "{\"name\":\"h\",\"type\":\"DOUBLE\",\"accessMode\":\"ReadOnly\"},"
        "{\"name\":\"on\",\"type\":\"BOOLEAN\",\"accessMode\":\"ReadWrite\"},"
        "{\"name\":\"s\",\"type\":\"STRING\",\"accessMode\":\"ReadWrite\"}]}}");
    put("{\"kind\":\"Device\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"deviceModelRef\":{\"name\":"
        "\"m\"},\"protocol\":{\"protocolName\":\"simulated\"},\"properties\":["
        "{\"name\":\"t\",\"reportToCloud\":true,\"desired\":{\"value\":\"42\"}},"
        "{\"name\":\"h\",\"reportToCloud\":true,\"visitors\":{\"configData\":{\"value\":-0.25}}},"
        "{\"name\":\"on\",\"reportToCloud\":true,\"desired\":{\"value\":\"true\"}},"
        "{\"name\":\"s\",\"reportToCloud\":true,\"desired\":{\"value\":\"two words\"}}]}}");
    /* the twin does not know it yet: nothing is lost meanwhile */
    test_drive_ms(&rig.env, 3000);
    look();
    assert_int_equal(waiting, 4);
    assert_non_null(strstr(error, "the twin was not updated"));
    cloud("membership", "{\"event_id\":\"\",\"timestamp\":0,\"added_devices\":[{\"id\":\"a\","
                        "\"name\":\"a\"}],\"removed_devices\":null}");
    test_drive_ms(&rig.env, 120000);
    look();
    assert_int_equal(waiting, 0);
    assert_string_equal(twin("a", "t").reported, "42");
    assert_string_equal(twin("a", "t").desired, "42");
    assert_string_equal(twin("a", "t").type, "int");
    assert_string_equal(twin("a", "h").reported, "-0.25");
    assert_string_equal(twin("a", "on").reported, "true");
    assert_string_equal(twin("a", "s").reported, "two words");
    assert_int_equal(ke_twin_devices(rig.twin, on_twin_device, NULL), 0);
    assert_string_equal(state, "online");
    stop();
}

static void desired_comes_as_a_delta(void **unused)
{
    (void)unused;
    start();
    put("{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"DeviceModel\",\"metadata\":{"
        "\"name\":\"m\"},\"spec\":{\"properties\":[{\"name\":\"sp\",\"type\":{\"int\":{"
        "\"accessMode\":\"ReadWrite\"}}}]}}");
    put("{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\",\"metadata\":{"
        "\"name\":\"old\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{"
        "\"customizedProtocol\":{\"protocolName\":\"simulated\"}},\"propertyVisitors\":[{"
        "\"propertyName\":\"sp\"}]},\"status\":{\"twins\":[{\"propertyName\":\"sp\"}]}}");
    cloud("membership",
          "{\"event_id\":\"\",\"timestamp\":1,\"added_devices\":[{\"id\":\"old\",\"name\":\"old\","
          "\"twin\":{\"sp\":{\"expected\":{\"value\":\"22\",\"metadata\":{\"timestamp\":1}},"
          "\"optional\":false,\"metadata\":{\"type\":\"int\"},\"expected_version\":{\"cloud\":10,"
          "\"edge\":0}}}}],\"removed_devices\":null}");
    test_drive_ms(&rig.env, 10000);
    assert_string_equal(twin("old", "sp").reported, "22");
    cloud("device/old/twin/cloud_updated",
          "{\"event_id\":\"\",\"timestamp\":2,\"twin\":{\"sp\":{\"expected\":{\"value\":\"25\","
          "\"metadata\":{\"timestamp\":2}},\"optional\":false,\"metadata\":{\"type\":\"int\"},"
          "\"expected_version\":{\"cloud\":11,\"edge\":0}}}}");
    test_drive_ms(&rig.env, 10000);
    assert_string_equal(twin("old", "sp").desired, "25");
    assert_string_equal(twin("old", "sp").reported, "25");
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_become_the_twins),
                                       cmocka_unit_test(desired_comes_as_a_delta)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
