/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the device API to messages, and back. The bytes are those of KubeEdge 1.15. */
#include "rig.h"

#include "base/codec.h"
#include "dmi/convert.h"
#include "dmi/dmi_v1alpha1.pb-c.h"
#include "dmi/dmi_v1beta1.pb-c.h"

struct work {
    struct kei_arena a;
    struct kei_device device;
    struct kei_device_model model;
    struct ke_error err;
};

static void work_init(struct work *w, const char *device, const char *model)
{
    memset(w, 0, sizeof *w);
    w->err.size = sizeof w->err;
    kei_arena_init(&w->a, kei_alloc_malloc(), 0);
    if (device && kei_device_read(&w->device, kei_str(device), &w->a, &w->err) < 0)
        fail_msg("%s", w->err.text);
    if (model && kei_device_model_read(&w->model, kei_str(model), &w->a, &w->err) < 0)
        fail_msg("%s", w->err.text);
}

static void work_fini(struct work *w)
{
    kei_arena_free(&w->a);
}

static void values_on_the_wire(void **state)
{
    static const struct {
        const char *json;
        const char *hex; /* of the whole CustomizedValue */
    } t[] = {
        {"{\"slaveID\":1}", "0a420a07736c6176654944"
                            "12370a2e747970652e676f6f676c65617069732e636f6d2f676f6f676c652e70726f74"
                            "6f6275662e466c6f6174"
                            "56616c7565"
                            "12050d0000803f"},
        {"{\"z\":0}", "0a350a017a12300a2e747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7072"
                      "6f746f6275662e"
                      "466c6f617456616c7565"},
        {"{\"a\":true}", "0a380a016112330a2d747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7"
                         "0726f746f6275662e"
                         "426f6f6c56616c756512020801"},
        {"{\"p\":\"even\"}", "0a3e0a017012390a2f747970652e676f6f676c65617069732e636f6d2f676f6f676c6"
                             "52e70726f746f6275662e"
                             "537472696e6756616c756512060a046576656e"},
        {"{}", ""},
        {"{\"n\":null}", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct work w;
        struct ke_buf b;
        char hex[1000];
        work_init(&w, NULL, NULL);
        kei_buf_init(&b, kei_alloc_malloc());
        Kei__B1__CustomizedValue *v = kei_pb_new(&w.a, &kei__b1__customized_value__descriptor);
        assert_int_equal(kei_pb_values(v, kei_str(t[i].json), &w.a, &w.err), 0);
        kei_pb_pack(&b, v);
        kei_hex_encode(hex, b.p, b.n);
        assert_string_equal(hex, t[i].hex);
        ke_buf_free(&b);
        work_fini(&w);
    }
}

/* What goes out as values comes back as the same numbers. */
static void values_there_and_back(void **state)
{
    static const char *const t[][2] = {
        {"{\"a\":1,\"b\":-5,\"c\":16777216}", NULL},
        {"{\"a\":16777217,\"b\":9007199254740993,\"c\":-2147483649}", NULL},
        {"{\"a\":0.1,\"b\":-2.5,\"c\":1e-9}", "{\"a\":0.1,\"b\":-2.5,\"c\":1e-9}"},
        {"{\"a\":1e30}", "{\"a\":1e30}"},
        {"{\"a\":true,\"b\":false,\"c\":\"\",\"d\":\"x\\ny\"}", NULL},
        {"{\"a\":{\"b\":1},\"c\":[1]}", "{\"a\":\"{\\\"b\\\":1}\",\"c\":\"[1]\"}"},
        {"{\"a\":502.0}", "{\"a\":502}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct work w;
        struct ke_buf b;
        struct kei_jw jw;
        work_init(&w, NULL, NULL);
        kei_buf_init(&b, kei_alloc_malloc());
        Kei__B1__CustomizedValue *v = kei_pb_new(&w.a, &kei__b1__customized_value__descriptor);
        assert_int_equal(kei_pb_values(v, kei_str(t[i][0]), &w.a, &w.err), 0);
        kei_jw_init(&jw, &b);
        kei_jw_obj(&jw);
        kei_pb_to_json(&jw, v);
        kei_jw_obj_end(&jw);
        assert_true(kei_buf_ok(&b));
        assert_string_equal(b.p, t[i][1] ? t[i][1] : t[i][0]);
        ke_buf_free(&b);
        work_fini(&w);
    }
}

static void numbers(void **state)
{
    static const struct {
        double v;
        bool is_float;
        const char *text;
    } t[] = {
        {0, false, "0"},
        {1, false, "1"},
        {-1.5, false, "-1.5"},
        {0.1, false, "0.1"},
        {0.1f, true, "0.1"},
        {100, false, "100"},
        {123456789, false, "123456789"},
        {1e21, false, "1e21"},
        {1e20, false, "100000000000000000000"},
        {0.001, false, "0.001"},
        {1.0 / 3, false, "0.3333333333333333"},
        {3.4e38f, true, "3.4e38"},
        {5e-324, false, "5e-324"},
        {16777216, true, "16777216"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_buf b;
        kei_buf_init(&b, kei_alloc_malloc());
        kei_pb_number(&b, t[i].v, t[i].is_float);
        assert_string_equal(b.p, t[i].text);
        ke_buf_free(&b);
    }
}

static void device_of_v1beta1(void **state)
{
    struct work w;
    char text[4000];
    void *m = NULL;

    (void)state;
    dmi_device(text, sizeof text, "thermo-2", "modbus", "20");
    work_init(&w, text, MODEL_OBJECT);
    assert_int_equal(kei_dmi_device(&m, KEI_DMI_B1, &w.device, &w.model, true, &w.a, &w.err), 0);
    const Kei__B1__Device *d = m;
    assert_string_equal(d->name, "thermo-2");
    assert_string_equal(d->namespace_, "default");
    assert_string_equal(d->spec->devicemodelreference, "thermo-model");
    assert_string_equal(d->spec->protocol->protocolname, "modbus");
    assert_int_equal(d->spec->protocol->configdata->n_data, 4);
    assert_string_equal(d->spec->protocol->configdata->data[2]->key, "big");
    assert_string_equal(d->spec->protocol->configdata->data[2]->value->type_url,
                        "type.googleapis.com/google.protobuf.Int64Value");
    /* the property that the model does not have is left out: Go mappers end on it */
    assert_int_equal(d->spec->n_properties, 1);
    const Kei__B1__DeviceProperty *p = d->spec->properties[0];
    assert_string_equal(p->name, "temperature");
    assert_string_equal(p->desired->value, "20");
    assert_string_equal(p->visitors->protocolname, "modbus");
    assert_int_equal(p->visitors->configdata->n_data, 4);
    assert_int_equal(p->collectcycle, 10000);
    assert_int_equal(p->reportcycle, 20000);
    assert_true(p->reporttocloud);
    assert_string_equal(p->pushmethod->http->hostname, "http://127.0.0.1");
    assert_int_equal(p->pushmethod->http->port, 80);
    assert_string_equal(p->pushmethod->http->requestpath, "/x");
    assert_string_equal(p->pushmethod->dbmethod->influxdb2->influxdb2dataconfig->tag[0]->value,
                        "b");
    assert_int_equal(d->status->n_twins, 1);
    assert_string_equal(d->status->twins[0]->reported->value, "19");
    assert_string_equal(d->status->twins[0]->reported->metadata[1]->value, "int");
    assert_string_equal(d->status->twins[0]->observeddesired->value, "20");
    /* and the model */
    assert_int_equal(kei_dmi_model(&m, KEI_DMI_B1, &w.model, kei_str(MODEL_OBJECT), &w.a, &w.err),
                     0);
    const Kei__B1__DeviceModel *o = m;
    assert_int_equal(o->spec->n_properties, 2);
    assert_string_equal(o->spec->properties[0]->type, "INT");
    assert_string_equal(o->spec->properties[0]->maximum, "100");
    assert_string_equal(o->spec->properties[0]->accessmode, "ReadWrite");
    assert_string_equal(o->spec->properties[1]->accessmode, "ReadOnly");
    work_fini(&w);
}

/* What a mapper makes of it is the object again, as far as it concerns the mapper. */
static void there_and_back(void **state)
{
    struct work w, back;
    char text[4000];
    struct ke_buf b, json;
    void *m = NULL, *read = NULL;

    (void)state;
    dmi_device(text, sizeof text, "thermo-2", "modbus", "20");
    work_init(&w, text, MODEL_OBJECT);
    kei_buf_init(&b, kei_alloc_malloc());
    kei_buf_init(&json, kei_alloc_malloc());
    assert_int_equal(kei_dmi_device(&m, KEI_DMI_B1, &w.device, &w.model, true, &w.a, &w.err), 0);
    kei_pb_pack(&b, m);
    assert_int_equal(
        kei_pb_unpack(&read, &kei__b1__device__descriptor, kei_buf_str(&b), &w.a, &w.err), 0);
    kei_dmi_device_json(&json, read);
    assert_true(kei_buf_ok(&json));
    work_init(&back, json.p, NULL);
    assert_string_equal(back.device.meta.name, "thermo-2");
    assert_string_equal(back.device.meta.ns, "default");
    assert_string_equal(back.device.model, "thermo-model");
    assert_string_equal(back.device.protocol, "modbus");
    assert_true(kei_json_same(
        back.device.protocol_config,
        KEI_STR("{\"slaveID\":1,\"parity\":\"even\",\"big\":123456789,\"on\":true}")));
    assert_int_equal(back.device.n_props, 1);
    assert_string_equal(back.device.props[0].desired.value, "20");
    assert_true(kei_json_same(
        back.device.props[0].visitor_config,
        KEI_STR("{\"register\":\"HoldingRegister\",\"offset\":2,\"scale\":0.1,\"isSwap\":false}")));
    assert_int_equal(back.device.props[0].collect_cycle, 10000);
    assert_true(back.device.props[0].report_to_cloud);
    work_fini(&back);
    /* the model */
    kei_buf_clear(&json);
    assert_int_equal(kei_dmi_model(&m, KEI_DMI_B1, &w.model, kei_str(MODEL_OBJECT), &w.a, &w.err),
                     0);
    kei_dmi_model_json(&json, m, "modbus");
    work_init(&back, NULL, json.p);
    assert_int_equal(back.model.n_props, 2);
    assert_int_equal(back.model.props[0].type, KEI_PROP_INT);
    assert_string_equal(back.model.props[0].maximum, "100");
    assert_true(back.model.props[1].read_only);
    work_fini(&back);
    ke_buf_free(&b);
    ke_buf_free(&json);
    work_fini(&w);
}

#define OLD_MODEL                                                                                  \
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"DeviceModel\",\"metadata\":{"     \
    "\"name\":\"thermo-model\",\"namespace\":\"default\"},\"spec\":{\"properties\":[{\"name\":"    \
    "\"temperature\",\"type\":{\"int\":{\"accessMode\":\"ReadOnly\",\"minimum\":-40,\"maximum\":"  \
    "100,\"unit\":\"C\"}}},{\"name\":\"gain\",\"type\":{\"double\":{\"accessMode\":\"ReadWrite\"," \
    "\"maximum\":1.5}}}]}}"
#define OLD_DEVICE                                                                                 \
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\",\"metadata\":{\"name\":" \
    "\"thermo-01\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":"             \
    "\"thermo-model\"},\"nodeSelector\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":"  \
    "\"\",\"operator\":\"In\",\"values\":[\"edge-1\"]}]}]},\"protocol\":{\"modbus\":{\"slaveID\":" \
    "3},\"common\":{\"tcp\":{\"ip\":\"10.0.0.9\",\"port\":502},\"customizedValues\":{\"x\":1}}},"  \
    "\"propertyVisitors\":[{\"propertyName\":\"temperature\",\"modbus\":{\"register\":"            \
    "\"InputRegister\",\"offset\":1,\"limit\":1,\"scale\":0.1,\"isSwap\":true},\"collectCycle\":"  \
    "1000000000}]},\"status\":{\"twins\":[{\"propertyName\":\"temperature\",\"desired\":{"         \
    "\"value\":\"22\",\"metadata\":{\"type\":\"int\"}},\"reported\":{\"value\":\"21\"}}]}}"

static void device_of_v1alpha2(void **state)
{
    struct work w;
    void *m = NULL;

    (void)state;
    work_init(&w, OLD_DEVICE, OLD_MODEL);
    assert_int_equal(kei_dmi_device(&m, KEI_DMI_A1, &w.device, &w.model, true, &w.a, &w.err), 0);
    const Kei__A1__Device *d = m;
    assert_string_equal(d->name, "thermo-01");
    assert_string_equal(d->spec->devicemodelreference, "thermo-model");
    assert_int_equal(d->spec->protocol->modbus->slaveid, 3);
    assert_string_equal(d->spec->protocol->common->tcp->ip, "10.0.0.9");
    assert_int_equal(d->spec->protocol->common->tcp->port, 502);
    assert_int_equal(d->spec->protocol->common->customizedvalues->n_data, 1);
    assert_int_equal(d->spec->n_propertyvisitors, 1);
    const Kei__A1__DevicePropertyVisitor *v = d->spec->propertyvisitors[0];
    assert_string_equal(v->propertyname, "temperature");
    assert_int_equal(v->collectcycle, 1000000000);
    assert_string_equal(v->modbus->register_, "InputRegister");
    assert_true(v->modbus->scale == 0.1);
    assert_true(v->modbus->isswap);
    assert_int_equal(d->status->n_twins, 1);
    assert_string_equal(d->status->twins[0]->desired->value, "22");
    assert_string_equal(d->status->twins[0]->desired->metadata[0]->value, "int");
    assert_int_equal(kei_dmi_model(&m, KEI_DMI_A1, &w.model, kei_str(OLD_MODEL), &w.a, &w.err), 0);
    const Kei__A1__DeviceModel *o = m;
    assert_int_equal(o->spec->n_properties, 2);
    assert_int_equal(o->spec->properties[0]->type->int_->minimum, -40);
    assert_true(o->spec->properties[1]->type->double_->maximum == 1.5);
    /* the same device for a mapper of 1.15 */
    assert_int_equal(kei_dmi_device(&m, KEI_DMI_B1, &w.device, &w.model, true, &w.a, &w.err), 0);
    const Kei__B1__Device *b = m;
    assert_string_equal(b->spec->protocol->protocolname, "modbus");
    assert_int_equal(b->spec->n_properties, 1);
    assert_string_equal(b->spec->properties[0]->desired->value, "22");
    work_fini(&w);
}

/* A mapper of 1.14 with objects of a newer cloud. */
static void newer_for_older(void **state)
{
    struct work w;
    char text[4000];
    void *m = NULL;

    (void)state;
    dmi_device(text, sizeof text, "thermo-2", "modbus", "20");
    work_init(&w, text, MODEL_OBJECT);
    assert_int_equal(kei_dmi_device(&m, KEI_DMI_A1, &w.device, &w.model, true, &w.a, &w.err), 0);
    const Kei__A1__Device *d = m;
    assert_int_equal(d->spec->protocol->modbus->slaveid, 1);
    assert_int_equal(d->spec->n_propertyvisitors, 1);
    assert_string_equal(d->spec->propertyvisitors[0]->modbus->register_, "HoldingRegister");
    assert_int_equal(d->spec->propertyvisitors[0]->modbus->offset, 2);
    assert_string_equal(d->status->twins[0]->desired->value, "20");
    assert_int_equal(kei_dmi_model(&m, KEI_DMI_A1, &w.model, kei_str(MODEL_OBJECT), &w.a, &w.err),
                     0);
    const Kei__A1__DeviceModel *o = m;
    assert_string_equal(o->spec->protocol, "modbus");
    assert_int_equal(o->spec->properties[0]->type->int_->maximum, 100);
    assert_non_null(o->spec->properties[1]->type->string);
    work_fini(&w);
    dmi_device(text, sizeof text, "thermo-3", "mine", "20");
    work_init(&w, text, MODEL_OBJECT);
    assert_int_equal(kei_dmi_device(&m, KEI_DMI_A1, &w.device, NULL, true, &w.a, &w.err), 0);
    d = m;
    assert_string_equal(d->spec->protocol->customizedprotocol->protocolname, "mine");
    assert_int_equal(d->spec->protocol->customizedprotocol->configdata->n_data, 4);
    assert_int_equal(d->spec->n_propertyvisitors, 2);
    work_fini(&w);
}

static void bad_messages(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } t[] = {{"\x0a", 1},
             {"\x0a\x05"
              "ab",
              4},
             {"\x0a\x02\xff\xfe", 4},
             {"\xff\xff\xff", 3},
             {"\x12\x02\x0a\x05", 4}};

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct work w;
        void *m = NULL;
        work_init(&w, NULL, NULL);
        assert_int_equal(
            kei_pb_unpack(&m, &kei__b1__device__descriptor, kei_strn(t[i].p, t[i].n), &w.a, &w.err),
            KE_EPARSE);
        assert_null(m);
        work_fini(&w);
    }
    /* many small ones: memory is the arena's */
    struct kei_arena a;
    struct ke_error err = KE_ERROR_INIT;
    char *many = calloc(1, 200000);
    void *m = NULL;
    for (size_t i = 0; i < 200000; i += 2)
        many[i] = 0x0a; /* an empty model of a list */
    kei_arena_init(&a, kei_alloc_malloc(), 1000000);
    assert_int_equal(kei_pb_unpack(&m, &kei__b1__mapper_register_response__descriptor,
                                   kei_strn(many, 200000), &a, &err),
                     KE_ENOMEM);
    kei_arena_free(&a);
    free(many);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(values_on_the_wire), KE_TEST(values_there_and_back), KE_TEST(numbers),
        KE_TEST(device_of_v1beta1),  KE_TEST(there_and_back),        KE_TEST(device_of_v1alpha2),
        KE_TEST(newer_for_older),    KE_TEST(bad_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
