/* SPDX-License-Identifier: Apache-2.0 */
/* Devices and device models of both APIs, the device profile, and the objects as KubeEdge sends
 * them. */
#include "support/support.h"

#include <math.h>

#include "message/captures.h"
#include "message/devmodel.h"

static struct kei_arena arena;
static struct ke_error err;

static int setup(void **state)
{
    (void)state;
    kei_arena_init(&arena, kei_alloc_malloc(), 0);
    err = (struct ke_error)KE_ERROR_INIT;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kei_arena_free(&arena);
    return 0;
}

static void read_device(struct kei_device *d, const char *json)
{
    if (kei_device_read(d, kei_str(json), &arena, &err) < 0)
        fail_msg("%s", err.text);
}

static void read_model(struct kei_device_model *m, const char *json)
{
    if (kei_device_model_read(m, kei_str(json), &arena, &err) < 0)
        fail_msg("%s", err.text);
}

static void span_is(struct ke_str s, const char *want)
{
    if (!kei_str_is(s, want))
        fail_msg("%.*s, not %s", (int)s.n, s.p ? s.p : "", want);
}

static const char ALPHA_MODEL[] =
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"DeviceModel\","
    "\"metadata\":{\"name\":\"thermo-model\",\"namespace\":\"default\"},\"spec\":{\"properties\":["
    "{\"name\":\"temperature\",\"description\":\"room temperature\",\"type\":{\"int\":{"
    "\"accessMode\":\"ReadOnly\",\"minimum\":-40,\"maximum\":100,\"unit\":\"degree celsius\"}}},"
    "{\"name\":\"setpoint\",\"type\":{\"int\":{\"accessMode\":\"ReadWrite\",\"defaultValue\":20,"
    "\"minimum\":5,\"maximum\":30}}},"
    "{\"name\":\"ratio\",\"type\":{\"double\":{\"accessMode\":\"ReadOnly\",\"minimum\":0,"
    "\"maximum\":0}}},"
    "{\"name\":\"on\",\"type\":{\"boolean\":{\"accessMode\":\"ReadOnly\",\"defaultValue\":true}}},"
    "{\"name\":\"raw\",\"type\":{\"bytes\":{\"accessMode\":\"ReadWrite\"}}}]}}";

static void models_of_v1alpha2(void **state)
{
    (void)state;
    struct kei_device_model m;
    read_model(&m, ALPHA_MODEL);
    assert_int_equal(m.api, KEI_DEVICE_V1ALPHA2);
    assert_string_equal(m.meta.name, "thermo-model");
    assert_int_equal(m.n_props, 5);
    assert_int_equal(m.props[0].type, KEI_PROP_INT);
    assert_true(m.props[0].read_only && m.props[0].has_min && m.props[0].has_max);
    assert_true(m.props[0].min == -40 && m.props[0].max == 100);
    assert_string_equal(m.props[0].unit, "degree celsius");
    assert_string_equal(m.props[0].description, "room temperature");
    assert_false(m.props[1].read_only);
    assert_string_equal(m.props[1].dflt, "20");
    /* both zero: Go's way to say that there are none */
    assert_int_equal(m.props[2].type, KEI_PROP_DOUBLE);
    assert_false(m.props[2].has_min || m.props[2].has_max);
    /* upstream looks for these two under another type and ends */
    assert_true(m.props[3].type == KEI_PROP_BOOLEAN && m.props[3].read_only);
    assert_string_equal(m.props[3].dflt, "true");
    assert_true(m.props[4].type == KEI_PROP_BYTES && !m.props[4].read_only);
}

static const char ALPHA_DEVICE[] =
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\",\"metadata\":{"
    "\"name\":\"thermo-01\",\"namespace\":\"default\",\"labels\":{"
    "\"description\":\"TISimplelinkSensorTag\",\"model\":\"thermo-model\"},\"annotations\":{"
    "\"libkubeedge.io/process\":\"[{\\\"name\\\":\\\"mean\\\"}]\"}},"
    "\"spec\":{\"deviceModelRef\":{\"name\":\"thermo-model\"},\"nodeSelector\":{"
    "\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"\",\"operator\":\"In\","
    "\"values\":[\"edge-1\",\"edge-2\"]}]}]},"
    "\"protocol\":{\"modbus\":{\"slaveID\":1},\"common\":{\"commType\":\"x\",\"slaveID\":9,"
    "\"tcp\":{\"ip\":\"10.0.0.9\",\"port\":502},\"com\":{\"serialPort\":\"/dev/ttyS0\"},"
    "\"customizedValues\":{\"a\":1}}},"
    "\"propertyVisitors\":[{\"propertyName\":\"temperature\",\"modbus\":{"
    "\"register\":\"InputRegister\",\"offset\":1,\"limit\":1,\"scale\":0.1},"
    "\"collectCycle\":1000000000,\"reportCycle\":2000000000,\"customizedValues\":{\"b\":2}},"
    "{\"propertyName\":\"setpoint\",\"modbus\":{\"register\":\"HoldingRegister\",\"offset\":2}}],"
    "\"data\":{\"dataProperties\":[{\"propertyName\":\"temperature\",\"metadata\":{"
    "\"type\":\"float\"}}],\"dataTopic\":\"t/d\"}},"
    "\"status\":{\"twins\":[{\"propertyName\":\"setpoint\",\"desired\":{\"value\":\"22\","
    "\"metadata\":{\"type\":\"int\"}},\"reported\":{\"value\":\"\"}},{\"propertyName\":\"io\"}]}}";

static void devices_of_v1alpha2(void **state)
{
    (void)state;
    struct kei_device d;
    read_device(&d, ALPHA_DEVICE);
    assert_int_equal(d.api, KEI_DEVICE_V1ALPHA2);
    assert_string_equal(d.meta.name, "thermo-01");
    assert_string_equal(d.description, "TISimplelinkSensorTag");
    assert_string_equal(d.model, "thermo-model");
    assert_string_equal(d.node, "edge-1");
    assert_string_equal(d.protocol, "modbus");
    span_is(d.protocol_own, "{\"slaveID\":1}");
    /* the protocol's own members win */
    span_is(d.protocol_config,
            "{\"commType\":\"x\",\"customizedValues\":{\"a\":1},\"ip\":\"10.0.0.9\","
            "\"port\":502,\"serialPort\":\"/dev/ttyS0\",\"slaveID\":1}");
    span_is(d.process, "[{\"name\":\"mean\"}]");
    assert_string_equal(d.data_topic, "t/d");
    assert_int_equal(d.n_props, 3);
    const struct kei_device_prop *p = kei_device_prop_find(&d, "temperature");
    assert_true(p && p->has_visitor && !p->has_twin && p->is_data && !p->report_to_cloud);
    assert_string_equal(p->data_type, "float");
    assert_int_equal(p->collect_cycle, 1000000000);
    assert_int_equal(p->report_cycle, 2000000000);
    span_is(p->visitor_config,
            "{\"register\":\"InputRegister\",\"offset\":1,\"limit\":1,\"scale\":0.1}");
    span_is(p->customized, "{\"b\":2}");
    p = kei_device_prop_find(&d, "setpoint");
    assert_true(p && p->has_visitor && p->has_twin && !p->is_data && p->report_to_cloud);
    assert_string_equal(p->desired.value, "22");
    assert_string_equal(p->desired.type, "int");
    assert_string_equal(p->reported.value, "");
    p = kei_device_prop_find(&d, "io"); /* neither desired nor reported: upstream's own sample */
    assert_true(p && !p->has_visitor && p->has_twin && !p->desired.value && !p->reported.value);
    assert_null(kei_device_prop_find(&d, "nothing"));
}

static void customized_protocols(void **state)
{
    (void)state;
    struct kei_device d;
    read_device(&d,
                "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"protocol\":{\"customizedProtocol\":{"
                "\"protocolName\":\"gpio\",\"configData\":{\"chip\":\"/dev/gpiochip0\"}}},"
                "\"propertyVisitors\":[{\"propertyName\":\"p\",\"customizedProtocol\":{"
                "\"protocolName\":\"gpio\",\"configData\":{\"line\":4}}}]}}");
    assert_int_equal(d.api, KEI_DEVICE_V1ALPHA2); /* told by its members */
    assert_string_equal(d.protocol, "gpio");
    span_is(d.protocol_config, "{\"chip\":\"/dev/gpiochip0\"}");
    assert_string_equal(d.props[0].visitor_protocol, "gpio");
    span_is(d.props[0].visitor_config, "{\"line\":4}");
}

static void devices_of_v1beta1(void **state)
{
    (void)state;
    struct kei_device d;
    read_device(
        &d,
        "{\"metadata\":{\"name\":\"t\",\"namespace\":\"plant\",\"uid\":\"u\","
        "\"resourceVersion\":\"7\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":"
        "\"edge-1\",\"protocol\":{\"protocolName\":\"modbus\",\"configData\":{\"ip\":\"::1\"}},"
        "\"properties\":[{\"name\":\"a\",\"desired\":{\"value\":\"20\"},\"visitors\":{"
        "\"protocolName\":\"modbus\",\"configData\":{\"offset\":2}},\"collectCycle\":10000000000,"
        "\"reportToCloud\":true,\"pushMethod\":{\"http\":{\"hostName\":\"http://h\",\"port\":80,"
        "\"requestPath\":\"/x\",\"timeout\":5},\"mqtt\":{\"address\":\"tcp://h:1\",\"topic\":\"t\","
        "\"qos\":1,\"retained\":true},\"otel\":{\"endpointURL\":\"e\"},\"dbMethod\":{\"redis\":{}},"
        "\"anomalyDetection\":{\"k\":1}}},{\"name\":\"b\"}],"
        "\"methods\":[{\"name\":\"setValue\",\"description\":\"d\",\"propertyNames\":[\"a\",\"b\"]}"
        ",{\"name\":\"reset\"}],\"stateReport\":{\"reportToCloud\":true,\"reportCycle\":500}},"
        "\"status\":{\"reportCycle\":9,\"twins\":[{\"propertyName\":\"a\",\"reported\":{\"value\":"
        "\"19\"},\"observedDesired\":{\"value\":\"20\"}},{\"propertyName\":\"gone\"}]}}");
    assert_int_equal(d.api, KEI_DEVICE_V1BETA1);
    assert_int_equal(d.meta.version, 7);
    assert_string_equal(d.node, "edge-1");
    assert_int_equal(d.n_props, 2);
    const struct kei_device_prop *a = &d.props[0], *b = &d.props[1];
    assert_string_equal(a->desired.value, "20");
    assert_true(a->report_to_cloud && a->has_visitor && a->in_status);
    assert_string_equal(a->reported.value, "19");
    assert_string_equal(a->observed.value, "20");
    assert_string_equal(a->push.http_host, "http://h");
    assert_int_equal(a->push.http_port, 80);
    assert_int_equal(a->push.http_timeout, 5);
    assert_int_equal(a->push.mqtt_qos, 1);
    assert_true(a->push.mqtt_retained);
    assert_string_equal(a->push.otel_url, "e");
    span_is(a->push.db, "{\"redis\":{}}");
    span_is(a->push.anomaly, "{\"k\":1}");
    assert_true(!b->has_visitor && !b->report_to_cloud && !b->in_status && !b->desired.value);
    assert_int_equal(d.n_methods, 2);
    assert_string_equal(d.methods[0].props[1], "b");
    assert_int_equal(d.methods[1].n_props, 0);
    assert_true(d.has_state_report && d.state_to_cloud);
    assert_int_equal(d.state_cycle, 500);
    /* older objects say it in status; one that was deleted has nothing but its name */
    read_device(&d, "{\"metadata\":{\"name\":\"t\"},\"spec\":{},\"status\":{\"reportToCloud\":true,"
                    "\"reportCycle\":9}}");
    assert_true(d.has_state_report && d.state_to_cloud && d.state_cycle == 9);
    read_device(&d, "{\"metadata\":{\"name\":\"t\",\"namespace\":\"n\",\"uid\":\"u\"}}");
    assert_true(!d.spec.p && !d.has_state_report && d.n_props == 0);
}

static void models_of_v1beta1(void **state)
{
    (void)state;
    struct kei_device_model m;
    read_model(&m, "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"metadata\":{\"name\":\"m\"},"
                   "\"spec\":{\"protocol\":\"modbus\",\"protocolConfigData\":{\"ip\":\"::1\"},"
                   "\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"accessMode\":\"ReadOnly\","
                   "\"minimum\":\"-1.5\",\"maximum\":\"100\",\"unit\":\"C\",\"visitors\":{"
                   "\"protocolName\":\"modbus\",\"configData\":{\"offset\":2}}},"
                   "{\"name\":\"b\",\"type\":\"STRING\",\"minimum\":\"a\"},{\"name\":\"saveFrame\","
                   "\"type\":\"STREAM\"},{\"name\":\"c\",\"type\":\"DOUBLE\",\"minimum\":\"0\","
                   "\"maximum\":\"0\"},{\"name\":\"d\"}]}}");
    assert_string_equal(m.protocol, "modbus");
    span_is(m.protocol_config, "{\"ip\":\"::1\"}");
    assert_true(m.props[0].has_min && m.props[0].min == -1.5 && m.props[0].max == 100);
    assert_true(m.props[0].read_only && !m.props[1].read_only);
    span_is(m.props[0].visitor_config, "{\"offset\":2}");
    assert_int_equal(m.props[1].type, KEI_PROP_STRING); /* limits of a text mean nothing */
    assert_int_equal(m.props[2].type, KEI_PROP_STREAM);
    assert_true(m.props[3].has_min && m.props[3].has_max); /* given as text: 0 is 0 */
    assert_int_equal(m.props[4].type, KEI_PROP_NONE);
    assert_string_equal(kei_prop_type_name(m.props[4].type), "string");
}

#define PROFILE(data)                                                                              \
    "{\"deviceInstances\":[{\"id\":\"thermo-01\",\"name\":\"thermo-01\",\"protocol\":"             \
    "\"modbus-thermo-01\",\"model\":\"thermo-model\",\"twins\":[{\"propertyName\":\"setpoint\","   \
    "\"desired\":{\"value\":\"22\",\"metadata\":{\"type\":\"int\"}},\"reported\":{\"value\":"      \
    "\"\"}}]," data                                                                                \
    ",\"propertyVisitors\":[{\"name\":\"setpoint\",\"propertyName\":\"setpoint\",\"modelName\":"   \
    "\"thermo-model\",\"protocol\":\"modbus\",\"reportCycle\":1000000000,\"collectCycle\":"        \
    "500000000,\"visitorConfig\":{\"register\":\"HoldingRegister\",\"offset\":2,\"limit\":1,"      \
    "\"scale\":1}}]}],\"deviceModels\":[{\"name\":\"thermo-model\",\"properties\":[{\"name\":"     \
    "\"setpoint\",\"dataType\":\"int\",\"description\":\"d\",\"accessMode\":\"ReadWrite\","        \
    "\"defaultValue\":0,\"minimum\":0,\"maximum\":100,\"unit\":\"degree celsius\"}]}],"            \
    "\"protocols\":[{\"name\":\"modbus-thermo-01\",\"protocol\":\"modbus\",\"protocolConfig\":{"   \
    "\"slaveID\":1},\"protocolCommonConfig\":{\"tcp\":{\"ip\":\"10.0.0.9\",\"port\":502}}}]}"
#define DATA                                                                                       \
    "\"dataProperties\":[{\"propertyName\":\"temperature\",\"metadata\":{\"type\":\"float\"}}],"   \
    "\"dataTopic\":\"$ke/events/device/thermo-01/data/update\""

static void profiles(void **state)
{
    (void)state;
    static const char *const texts[] = {PROFILE(DATA), PROFILE("\"data\":{" DATA "}")};
    for (size_t i = 0; i < 2; i++) { /* flat up to 1.8, nested from 1.9 on */
        struct kei_device_profile p;
        if (kei_device_profile_read(&p, kei_str(texts[i]), "default", &arena, &err) < 0)
            fail_msg("%s", err.text);
        assert_int_equal(p.n_devices, 1);
        assert_int_equal(p.n_models, 1);
        const struct kei_device *d = &p.devices[0];
        assert_string_equal(d->meta.name, "thermo-01");
        assert_string_equal(d->meta.ns, "default");
        assert_string_equal(d->protocol, "modbus");
        span_is(d->protocol_config, "{\"ip\":\"10.0.0.9\",\"port\":502,\"slaveID\":1}");
        assert_int_equal(d->n_props, 2);
        assert_string_equal(d->props[0].desired.value, "22");
        assert_int_equal(d->props[0].collect_cycle, 500000000);
        assert_true(d->props[0].has_visitor && d->props[0].has_twin);
        assert_true(d->props[1].is_data && !d->props[1].has_twin);
        assert_string_equal(d->props[1].data_type, "float");
        assert_string_equal(d->data_topic, "$ke/events/device/thermo-01/data/update");
        assert_true(p.models[0].props[0].has_max && p.models[0].props[0].max == 100);
        assert_string_equal(p.models[0].props[0].dflt, "0");
    }
    struct kei_device_profile p;
    static const char custom[] =
        "{\"deviceInstances\":[{\"id\":\"d\",\"protocol\":\"c-d\",\"propertyVisitors\":[{"
        "\"propertyName\":\"p\",\"protocol\":\"customized-protocol\",\"visitorConfig\":{"
        "\"protocolName\":\"gpio\",\"configData\":{\"line\":1}}}]}],\"protocols\":[{\"name\":"
        "\"c-d\",\"protocol\":\"customized-protocol\",\"protocolConfig\":{\"protocolName\":"
        "\"gpio\",\"configData\":{\"chip\":\"c\"}},\"protocolCommonConfig\":null}]}";
    assert_int_equal(kei_device_profile_read(&p, kei_str(custom), "x", &arena, &err), 0);
    assert_string_equal(p.devices[0].protocol, "gpio");
    span_is(p.devices[0].protocol_config, "{\"chip\":\"c\"}");
    span_is(p.devices[0].props[0].visitor_config, "{\"line\":1}");
    assert_int_equal(kei_device_profile_read(&p, kei_str("{}"), "x", &arena, &err), 0);
    assert_int_equal(p.n_devices, 0);
}

#define M "\"metadata\":{\"name\":\"x\"}"
static const struct {
    char kind; /* Device, Model or Profile */
    const char *json, *text;
} BAD[] = {
    {'D', "{}", "metadata"},
    {'D', "{" M ",\"apiVersion\":\"devices.kubeedge.io/v9\"}", "apiVersion of device x"},
    {'D', "{" M ",\"spec\":[]}", "spec of device x was no object"},
    {'D', "{" M ",\"spec\":{\"nodeName\":5}}", "spec.nodeName of device x was no string"},
    {'D', "{" M ",\"spec\":{\"deviceModelRef\":{\"name\":{}}}}", "spec.deviceModelRef.name"},
    {'D', "{" M ",\"spec\":{\"properties\":{}}}", "spec.properties of device x was no list"},
    {'D', "{" M ",\"spec\":{\"properties\":[1]}}", "an item that is no object"},
    {'D', "{" M ",\"spec\":{\"properties\":[{}]}}", "spec.properties[0].name"},
    {'D', "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\"},{\"name\":\"a\"}]}}",
     "spec.properties[1].name of device x was the same"},
    {'D', "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"collectCycle\":1.5}]}}",
     "spec.properties[0].collectCycle of device x was no whole number"},
    {'D', "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"visitors\":{\"configData\":1}}]}}",
     "spec.properties[0].configData"},
    {'D', "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"desired\":{\"value\":{}}}]}}",
     "value of device x was no string or number"},
    {'D', "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"reportToCloud\":\"yes\"}]}}",
     "reportToCloud of device x was neither true nor false"},
    {'D', "{" M ",\"spec\":{\"methods\":[{\"name\":\"a\",\"propertyNames\":[1]}]}}",
     "spec.methods[0].propertyNames"},
    {'D', "{" M ",\"spec\":{\"propertyVisitors\":[{}]}}", "spec.propertyVisitors[0].propertyName"},
    {'D', "{" M ",\"spec\":{\"nodeName\":\"\\u0000\"}}", "a NUL"},
    {'M', "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"minimum\":\"x\"}]}}",
     "spec.properties[0].minimum of device model x was no number"},
    {'M',
     "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"minimum\":\"2\","
     "\"maximum\":\"1\"}]}}",
     "greater than maximum"},
    {'M',
     "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"type\":{\"int\":{},\"string\":{}}}]}}",
     "more than one type"},
    {'M', "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\",\"type\":{\"complex\":{}}}]}}",
     "of none of the types"},
    {'P', "{\"deviceInstances\":[{\"name\":\"a\",\"protocol\":\"nope\"}]}",
     "protocol nope of device a"},
    {'P', "{\"deviceInstances\":[{}]}", "deviceInstances[0].name"},
    {'P', "{\"deviceModels\":[{\"name\":\"a\",\"properties\":[{}]}]}", "properties[0].name"},
    {'P', "{\"deviceModels\":", "malformed"},
};

static void errors_name_the_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct kei_device d;
        struct kei_device_model m;
        struct kei_device_profile p;
        struct ke_str s = kei_str(BAD[i].json);
        err = (struct ke_error)KE_ERROR_INIT;
        int r = BAD[i].kind == 'D'   ? kei_device_read(&d, s, &arena, &err)
                : BAD[i].kind == 'M' ? kei_device_model_read(&m, s, &arena, &err)
                                     : kei_device_profile_read(&p, s, "ns", &arena, &err);
        if (r != KE_EPARSE || !strstr(err.text, BAD[i].text))
            fail_msg("%s: %d, \"%s\" without \"%s\"", BAD[i].json, r, err.text, BAD[i].text);
    }
}

static void too_many_properties(void **state)
{
    (void)state;
    struct ke_buf b;
    struct kei_device d;
    kei_buf_init(&b, kei_alloc_malloc());
    kei_buf_adds(&b, "{" M ",\"spec\":{\"properties\":[{\"name\":\"a\"}");
    for (uint32_t i = 0; i < KEI_DEVICE_PROPERTIES_MAX; i++)
        kei_buf_adds(&b, ",{}");
    kei_buf_adds(&b, "]}}");
    assert_int_equal(kei_device_read(&d, kei_buf_str(&b), &arena, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "4096"));
    ke_buf_free(&b);
}

static void cycles(void **state)
{
    (void)state;
    enum kei_device_api a2 = KEI_DEVICE_V1ALPHA2, b1 = KEI_DEVICE_V1BETA1;
    assert_int_equal(kei_device_cycle_ms(0, b1, KEI_CYCLE_AUTO, 77), 77);
    assert_int_equal(kei_device_cycle_ms(-5, b1, KEI_CYCLE_MS, 77), 77);
    assert_int_equal(kei_device_cycle_ms(10000000000, b1, KEI_CYCLE_AUTO, 1), 10000);
    assert_int_equal(kei_device_cycle_ms(10000, b1, KEI_CYCLE_AUTO, 1), 10000);
    assert_int_equal(kei_device_cycle_ms(500000, a2, KEI_CYCLE_AUTO, 1), 1);
    assert_int_equal(kei_device_cycle_ms(10000, b1, KEI_CYCLE_NS, 1), 1);
    assert_int_equal(kei_device_cycle_ms(2000000, b1, KEI_CYCLE_MS, 1), 2000000);
    assert_int_equal(kei_device_cycle_ms(INT64_MAX, b1, KEI_CYCLE_MS, 1), INT32_MAX);
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        bool ok;
        double want;
    } t[] = {
        {"0", true, 0},
        {"-0.5", true, -0.5},
        {"12.34", true, 12.34},
        {"1e3", true, 1000},
        {"1E-3", true, 0.001},
        {"+7", true, 7},
        {".5", true, 0.5},
        {"5.", true, 5},
        {"0.1", true, 0.1},
        {"1.7976931348623157e308", true, 1.7976931348623157e308},
        {"9007199254740993", true, 9007199254740992.0},
        {"1e999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"1,5", false, 0},
        {"0x10", false, 0},
        {"nan", false, 0},
        {"inf", false, 0},
        {"1e", false, 0},
        {"1 ", false, 0},
        {"1.2.3", false, 0},
        {"e5", false, 0},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        double v = -99;
        bool ok = kei_number_parse(kei_str(t[i].s), &v);
        if (ok != t[i].ok || (ok && v != t[i].want))
            fail_msg("%s: %d %.17g", t[i].s, ok, v);
    }
    char big[3000];
    double v;
    memset(big, '1', sizeof big);
    big[1] = '.';
    assert_true(kei_number_parse(kei_strn(big, sizeof big), &v));
    assert_true(fabs(v - 1.1111111111111112) < 1e-15);
    memset(big, '0', sizeof big);
    assert_true(kei_number_parse(kei_strn(big, sizeof big), &v) && v == 0);
}

static void values_by_type(void **state)
{
    (void)state;
    static const struct {
        enum kei_prop_type t;
        const char *v;
        bool ok;
    } c[] = {
        {KEI_PROP_INT, "-5", true},           {KEI_PROP_INT, "5.0", false},
        {KEI_PROP_INT, "hot", false},         {KEI_PROP_INT, "9223372036854775808", false},
        {KEI_PROP_FLOAT, "1e39", false},      {KEI_PROP_DOUBLE, "1e39", true},
        {KEI_PROP_BOOLEAN, "TRUE", false},    {KEI_PROP_BOOLEAN, "true", true},
        {KEI_PROP_STRING, "any thing", true},
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        assert_int_equal(kei_prop_value_ok(c[i].t, kei_str(c[i].v)), c[i].ok);
    assert_int_equal(kei_prop_type_of(KEI_STR("Double")), KEI_PROP_DOUBLE);
    assert_int_equal(kei_prop_type_of(KEI_STR("integer")), KEI_PROP_INT);
    assert_int_equal(kei_prop_type_of(KEI_STR("")), KEI_PROP_NONE);
}

static void configurations_merge(void **state)
{
    (void)state;
    static const struct {
        const char *base, *over, *want;
    } t[] = {
        {"", "", "{}"},
        {"{\"a\":1,\"b\":{\"x\":1}}", "{\"b\":{\"y\":2},\"c\":3}",
         "{\"a\":1,\"b\":{\"y\":2},\"c\":3}"},
        {"", "{\"a\":1}", "{\"a\":1}"},
        {"{\"\\u0061\":1}", "{\"a\":2}", "{\"a\":2}"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_buf b;
        kei_buf_init(&b, kei_alloc_malloc());
        assert_int_equal(kei_device_config_merge(&b, kei_str(t[i].base), kei_str(t[i].over), &err),
                         0);
        span_is(kei_buf_str(&b), t[i].want);
        ke_buf_free(&b);
    }
}

static uint32_t seen_devices, seen_models;

static void read_captured(const struct capture *c, void *user)
{
    (void)user;
    for (size_t i = 0; i < c->n; i++) {
        struct ke_str v, res, o;
        struct kei_device d;
        struct kei_device_model m;
        if (!capture_is(&c->r[i], "ws-message", "c2e") ||
            kei_json_value(c->r[i].text, 0, &v, NULL) < 0 ||
            !kei_json_path(v, "route.resource", &res) || !kei_json_get(v, "content", &o) ||
            kei_json_type(o) != '{')
            continue;
        if (kei_str_has(res, KEI_STR("/device/")) && !kei_str_has(res, KEI_STR("twin"))) {
            if (kei_device_read(&d, o, &arena, &err) < 0)
                fail_msg("%s/%s: %s", c->version, c->name, err.text);
            assert_int_equal(d.api, KEI_DEVICE_V1BETA1);
            assert_string_equal(d.model, "thermo-model");
            assert_string_equal(d.protocol, "modbus");
            const struct kei_device_prop *p = kei_device_prop_find(&d, "temperature");
            assert_non_null(p);
            assert_non_null(p->desired.value);
            assert_int_equal(kei_device_cycle_ms(p->collect_cycle, d.api, KEI_CYCLE_AUTO, 1),
                             10000);
            seen_devices++;
        } else if (kei_str_has(res, KEI_STR("/devicemodel/"))) {
            if (kei_device_model_read(&m, o, &arena, &err) < 0)
                fail_msg("%s/%s: %s", c->version, c->name, err.text);
            const struct kei_model_prop *p = kei_model_prop_find(&m, "temperature");
            assert_true(p && p->type == KEI_PROP_INT && p->has_max && !p->has_min);
            assert_string_equal(m.protocol, "modbus");
            seen_models++;
        }
    }
}

static void objects_on_the_wire(void **state)
{
    (void)state;
    seen_devices = seen_models = 0;
    capture_each(read_captured, NULL);
    assert_int_equal(seen_devices, 9);
    assert_int_equal(seen_models, 6);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct test_alloc t;
    for (size_t n = 1;; n++) {
        struct kei_arena a;
        struct kei_device d;
        struct kei_device_profile p;
        test_alloc_init(&t);
        kei_arena_init(&a, &t.table, 0);
        test_alloc_fail_at(&t, n);
        int r = kei_device_read(&d, kei_str(ALPHA_DEVICE), &a, &err);
        int r2 = kei_device_profile_read(&p, kei_str(PROFILE(DATA)), "ns", &a, &err);
        bool failed = t.failed != 0;
        kei_arena_free(&a);
        assert_int_equal(test_alloc_live(&t), 0);
        if (!failed) {
            assert_int_equal(r, 0);
            assert_int_equal(r2, 0);
            assert_true(n > 3);
            return;
        }
        assert_true(r == KE_ENOMEM || r2 == KE_ENOMEM);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(models_of_v1alpha2),
        T(devices_of_v1alpha2),
        T(customized_protocols),
        T(devices_of_v1beta1),
        T(models_of_v1beta1),
        T(profiles),
        T(errors_name_the_field),
        T(too_many_properties),
        T(cycles),
        T(numbers),
        T(values_by_type),
        T(configurations_merge),
        T(objects_on_the_wire),
        T(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
