/* SPDX-License-Identifier: Apache-2.0 */
/* Modbus devices from their objects, of both APIs, through the harness and the driver to a slave.
 */
#include "modbus_slave.h"

#include <kubeedge/drivers.h>

struct bench {
    struct test_env env;
    struct modbus_slave slave;
    struct ke_devices *d;
    uint16_t port;
    char reported[4][2][64]; /* of p0 to p3: reported, desired */
    char state[32];
    char error[600]; /* of the device, and of p1 */
    char property_error[600];
    uint32_t device_state;
    const char *want_p, *want_value;
};

static int on_report(void *user, uint64_t report, const char *ns, const char *name,
                     const struct ke_device_reported *v, uint32_t n)
{
    struct bench *b = user;

    assert_string_equal(ns, "default");
    assert_string_equal(name, "d1");
    for (uint32_t i = 0; i < n; i++) {
        int p = v[i].property[1] - '0';
        assert_true(v[i].property[0] == 'p' && p >= 0 && p < 4);
        snprintf(b->reported[p][0], sizeof b->reported[p][0], "%s",
                 v[i].reported ? v[i].reported : "-");
        if (v[i].desired)
            snprintf(b->reported[p][1], sizeof b->reported[p][1], "%s", v[i].desired);
    }
    return ke_devices_reported(b->d, report, 0);
}

static int on_state(void *user, uint64_t report, const char *ns, const char *name,
                    const char *state)
{
    struct bench *b = user;

    (void)ns, (void)name;
    snprintf(b->state, sizeof b->state, "%s", state);
    return ke_devices_reported(b->d, report, 0);
}

static void setup(struct bench *b)
{
    static const struct ke_devices_sink sink = {sizeof sink, on_report, on_state};
    struct ke_devices_config c;
    int fd;

    memset(b, 0, sizeof *b);
    test_env_init(&b->env, 0);
    assert_int_equal(ke_ctx_fd(b->env.ctx, &fd), 0);
    slave_init(&b->slave, b->env.ctx);
    b->port = slave_listen(&b->slave);
    ke_devices_config_init(&c, sizeof c);
    c.sink = &sink;
    c.sink_user = b;
    assert_int_equal(ke_devices_new(&b->d, b->env.ctx, &c), 0);
    assert_int_equal(ke_device_modbus_register(b->d, NULL), 0);
    assert_int_equal(ke_device_modbus_register(b->d, NULL), KE_EEXIST);
}

static void teardown(struct bench *b)
{
    ke_devices_free(b->d);
    slave_close(&b->slave);
    b->env.log_errors = 0;
    test_env_fini(&b->env);
}

static void put(struct bench *b, const char *format)
{
    char json[4000];

    snprintf(json, sizeof json, format, b->port);
    if (ke_devices_put(b->d, json, strlen(json)) < 0)
        fail_msg("%s", ke_ctx_error(b->env.ctx));
}

static bool is_reported(void *user)
{
    struct bench *b = user;

    return strcmp(b->reported[b->want_p[1] - '0'][0], b->want_value) == 0;
}

static void expect(struct bench *b, const char *property, const char *value)
{
    b->want_p = property;
    b->want_value = value;
    if (!test_drive(&b->env, is_reported, b))
        fail_msg("%s is %s, not %s", property, b->reported[property[1] - '0'][0], value);
}

static void on_status(void *user, const struct ke_device_status *s)
{
    struct bench *b = user;

    b->device_state = s->state;
    snprintf(b->error, sizeof b->error, "%s", s->error);
    for (uint32_t i = 0; i < s->n_properties; i++) {
        const struct ke_device_property_status *p =
            (const struct ke_device_property_status *)((const char *)s->properties +
                                                       i * s->properties->size);
        if (strcmp(p->name, "p1") == 0)
            snprintf(b->property_error, sizeof b->property_error, "%s", p->error);
    }
}

static void look(struct bench *b)
{
    assert_int_equal(ke_devices_list(b->d, on_status, b), 0);
}

static bool is_online(void *user)
{
    struct bench *b = user;

    look(b);
    return b->device_state == KE_DEVICE_ONLINE;
}

static bool is_offline(void *user)
{
    struct bench *b = user;

    look(b);
    return b->device_state == KE_DEVICE_OFFLINE;
}

static const char model_beta[] =
    "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"DeviceModel\",\"metadata\":{"
    "\"name\":\"m1\",\"namespace\":\"default\"},\"spec\":{\"protocol\":\"modbus\",\"properties\":["
    "{\"name\":\"p0\",\"type\":\"FLOAT\",\"accessMode\":\"ReadOnly\"},"
    "{\"name\":\"p1\",\"type\":\"INT\",\"accessMode\":\"ReadWrite\",\"maximum\":\"1000\"},"
    "{\"name\":\"p2\",\"type\":\"STRING\",\"accessMode\":\"ReadWrite\"}]}}";

#define DEVICE_BETA(desired)                                                                       \
    "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\",\"metadata\":{\"name\":"  \
    "\"d1\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m1\"},"            \
    "\"nodeName\":\"edge-1\",\"protocol\":{\"protocolName\":\"Modbus\",\"configData\":{"           \
    "\"slaveID\":3,\"ip\":\"127.0.0.1\",\"port\":%u}},\"properties\":[{\"name\":\"p0\","           \
    "\"visitors\":{\"protocolName\":\"modbus\",\"configData\":{\"register\":\"InputRegister\","    \
    "\"offset\":15,\"limit\":1,\"scale\":0.1}},\"collectCycle\":1000,\"reportToCloud\":true},"     \
    "{\"name\":\"p1\",\"desired\":{\"value\":\"" desired "\"},\"visitors\":{\"protocolName\":"     \
    "\"modbus\",\"configData\":{\"register\":\"HoldingRegister\",\"offset\":20,\"limit\":1,"       \
    "\"scale\":2}},\"collectCycle\":1000,\"reportToCloud\":true},{\"name\":\"p2\",\"desired\":{"   \
    "\"value\":\"off\"},\"visitors\":{\"protocolName\":\"modbus\",\"configData\":{\"register\":"   \
    "\"CoilRegister\",\"offset\":3,\"limit\":1}},\"reportToCloud\":true}]}}"

static void a_device_of_v1beta1(void **state)
{
    struct bench b;

    (void)state;
    setup(&b);
    put(&b, model_beta);
    put(&b, DEVICE_BETA("500"));
    expect(&b, "p0", "31.5");
    expect(&b, "p1", "500");
    expect(&b, "p2", "off");
    assert_int_equal(b.slave.words[3][20], 250); /* the way back through the scale */
    assert_int_equal(b.slave.bits[3][3], 0);
    assert_string_equal(b.reported[1][1], "500");
    /* the device changes by itself, the cloud changes its mind */
    b.slave.words[3][15] = 402;
    expect(&b, "p0", "40.2");
    put(&b, DEVICE_BETA("600"));
    expect(&b, "p1", "600");
    assert_int_equal(b.slave.words[3][20], 300);
    /* over the model's limit: refused, nothing is written */
    put(&b, DEVICE_BETA("4000"));
    test_drive_ms(&b.env, 3000);
    assert_int_equal(b.slave.words[3][20], 300);
    look(&b);
    assert_non_null(strstr(b.property_error, "4000"));
    teardown(&b);
}

static void a_device_of_v1alpha2(void **state)
{
    struct bench b;

    (void)state;
    setup(&b);
    put(&b, "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"DeviceModel\","
            "\"metadata\":{\"name\":\"m1\",\"namespace\":\"default\"},\"spec\":{\"properties\":["
            "{\"name\":\"p0\",\"type\":{\"int\":{\"accessMode\":\"ReadOnly\"}}},"
            "{\"name\":\"p1\",\"type\":{\"int\":{\"accessMode\":\"ReadWrite\",\"maximum\":1000}}}"
            "]}}");
    put(&b, "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\",\"metadata\":{"
            "\"name\":\"d1\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":"
            "\"m1\"},\"nodeSelector\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":"
            "\"\",\"operator\":\"In\",\"values\":[\"edge-1\"]}]}]},\"protocol\":{\"modbus\":{"
            "\"slaveID\":2},\"common\":{\"tcp\":{\"ip\":\"127.0.0.1\",\"port\":%u},"
            "\"collectTimeout\":2000}},\"propertyVisitors\":[{\"propertyName\":\"p0\","
            "\"collectCycle\":1000000000,\"modbus\":{\"register\":\"InputRegister\",\"offset\":4,"
            "\"limit\":2,\"isRegisterSwap\":true}},{\"propertyName\":\"p1\",\"modbus\":{"
            "\"register\":\"HoldingRegister\",\"offset\":2,\"limit\":1,\"scale\":1}}]},\"status\":{"
            "\"twins\":[{\"propertyName\":\"p0\",\"desired\":{\"value\":\"\"}},{\"propertyName\":"
            "\"p1\",\"desired\":{\"value\":\"22\",\"metadata\":{\"type\":\"int\"}}}]}}");
    expect(&b, "p0", "13435084"); /* 205 * 65536 + 204 */
    expect(&b, "p1", "22");
    assert_int_equal(b.slave.words[2][2], 22);
    if (!test_drive(&b.env, is_online, &b))
        fail_msg("%s", b.error);
    teardown(&b);
}

static void a_device_that_goes_away(void **state)
{
    struct bench b;
    char text[200];

    (void)state;
    setup(&b);
    put(&b, model_beta);
    put(&b, DEVICE_BETA("500"));
    expect(&b, "p1", "500");
    uint16_t port = b.port;
    slave_close(&b.slave);
    assert_true(test_drive(&b.env, is_offline, &b));
    snprintf(text, sizeof text, "slave 3 at 127.0.0.1:%u", port);
    if (!strstr(b.error, text))
        fail_msg("%s", b.error);
    /* it comes back at the same place, with another value */
    b.slave.words[3][15] = 500;
    slave_listen_at(&b.slave, port);
    expect(&b, "p0", "50");
    assert_true(is_online(&b));
    teardown(&b);
}

static void a_register_that_does_not_exist(void **state)
{
    struct bench b;

    (void)state;
    setup(&b);
    b.slave.bad_from = b.slave.bad_to = 20;
    put(&b, model_beta);
    put(&b, DEVICE_BETA("500"));
    expect(&b, "p0", "31.5"); /* the others are well */
    expect(&b, "p2", "off");
    look(&b);
    assert_int_equal(b.device_state, KE_DEVICE_ONLINE);
    assert_non_null(strstr(b.property_error, "holding register 20: illegal data address"));
    teardown(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(a_device_of_v1beta1),
        KE_TEST(a_device_of_v1alpha2),
        KE_TEST(a_device_that_goes_away),
        KE_TEST(a_register_that_does_not_exist),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
