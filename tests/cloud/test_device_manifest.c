/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests of devices and models in both APIs: what is refused, with which field, what is kept. */
#include "support/support.h"

#include "base/yaml.h"
#include "cloud/cloud_priv.h"
#include "cloud/manifest.h"

static int make(struct test_env *env, const char *yaml, struct ke_buf *out, const char **type,
                struct kei_field *field, uint32_t *line, struct ke_error *err)
{
    struct kei_yaml *y = NULL;
    const struct ke_alloc *a = kei_ctx_alloc(env->ctx);
    assert_int_equal(kei_yaml_parse(&y, a, kei_str(yaml), 0, err), 0);
    kei_buf_init(out, a);
    const struct kei_yaml_doc *d = kei_yaml_get(y, 0);
    int r = kei_manifest_whole(out, type, d->json, field, err);
    *line = field->at ? kei_yaml_line(y, 0, (size_t)(field->at - d->json.p)) : 0;
    kei_yaml_free(y);
    return r;
}

#define META(kind, api)                                                                            \
    "apiVersion: devices.kubeedge.io/" api "\nkind: " kind "\nmetadata: {name: d}\n"
#define BETA META("Device", "v1beta1") "spec:\n  deviceModelRef: {name: m}\n"
#define PROP BETA "  properties:\n  - name: t\n"
#define BETA_MODEL META("DeviceModel", "v1beta1") "spec:\n  properties:\n  - name: t\n"
#define ALPHA META("Device", "v1alpha2") "spec:\n  deviceModelRef: {name: m}\n"
#define ALPHA_MODEL META("DeviceModel", "v1alpha2") "spec:\n  properties:\n  - name: t\n"
#define VISITOR ALPHA "  propertyVisitors:\n  - propertyName: t\n"
#define SELECTOR(text) ALPHA "  nodeSelector: {nodeSelectorTerms: " text "}\n"

static void refuses_with_field_and_line(void **state)
{
    static const struct {
        const char *yaml, *field;
        uint32_t line;
    } cases[] = {
        {"apiVersion: v1\nkind: Device\nmetadata: {name: d}\n", "apiVersion", 1},
        {META("Device", "v1alpha1"), "apiVersion", 1},
        {META("Device", "v1beta1"), "spec", 1},
        {META("DeviceModel", "v1beta1"), "spec", 1},
        {META("DeviceModel", "v1alpha2"), "spec", 1},
        {META("Device", "v1beta1") "spec: []\n", "spec", 4},
        {META("Device", "v1beta1") "spec: {}\n", "spec.deviceModelRef", 4},
        {META("Device", "v1beta1") "spec:\n  deviceModelRef: {nam: m}\n", "spec.deviceModelRef.nam",
         5},
        {META("Device", "v1beta1") "spec:\n  deviceModelRef: {name: 1}\n",
         "spec.deviceModelRef.name", 5},
        {META("Device", "v1beta1") "spec:\n  deviceModelRef: {name: M_M}\n",
         "spec.deviceModelRef.name", 5},
        {META("Device", "v1beta1") "status: {}\nstatu: {}\n", "statu", 5},
        {META("DeviceModel", "v1beta1") "spec: {}\nstatus: {}\n", "status", 5},
        {BETA "  nodeName: Edge\n", "spec.nodeName", 6},
        {BETA "  nodeSelector: {}\n", "spec.nodeSelector", 6}, /* of the other API */
        {BETA "  protocol: modbus\n", "spec.protocol", 6},
        {BETA "  protocol: {protocolname: modbus}\n", "spec.protocol.protocolname", 6},
        {BETA "  protocol: {protocolName: modbus, configData: 5}\n", "spec.protocol.configData", 6},
        {BETA "  properties: {t: 1}\n", "spec.properties", 6},
        {BETA "  properties:\n  - desired: {value: a}\n", "spec.properties[0].name", 7},
        {BETA "  properties:\n  - name: on\n", "spec.properties[0].name", 7}, /* true in YAML */
        {PROP "  - name: t\n", "spec.properties[1].name", 8},
        {PROP "  - name: \"a\\tb\"\n", "spec.properties[1].name", 8},
        {PROP "  - name: \"a\\u001bb\"\n", "spec.properties[1].name", 8},
        {PROP "  - name: \"a\\x7fb\"\n", "spec.properties[1].name", 8},
        {PROP "  - name: 'a\\tb'\n    desired: 5\n", "spec.properties[1].desired", 9},
        {PROP "  - name: \"\\u00e9\"\n    desired: 5\n", "spec.properties[1].desired", 9},
        {PROP "    desired: 20\n", "spec.properties[0].desired", 8},
        {PROP "    desired: {value: 20}\n", "spec.properties[0].desired.value", 8},
        {PROP "    desired: {}\n", "spec.properties[0].desired.value", 8},
        {PROP "    desired: {value: a, metadata: {type: 1}}\n",
         "spec.properties[0].desired.metadata.type", 8},
        {PROP "    visitors: {register: a}\n", "spec.properties[0].visitors.register", 8},
        {PROP "    collectCycle: 10s\n", "spec.properties[0].collectCycle", 8},
        {PROP "    reportCycle: -1\n", "spec.properties[0].reportCycle", 8},
        {PROP "    reportToCloud: \"yes\"\n", "spec.properties[0].reportToCloud", 8},
        {PROP "    pushMethod: {mqtt: {qos: 3}}\n", "spec.properties[0].pushMethod.mqtt.qos", 8},
        {PROP "    pushMethod: {http: {port: 65536}}\n", "spec.properties[0].pushMethod.http.port",
         8},
        {PROP "    pushMethod: {mqttt: {}}\n", "spec.properties[0].pushMethod.mqttt", 8},
        {BETA "  methods: [{name: x, propertyNames: [1]}]\n", "spec.methods[0].propertyNames", 6},
        {BETA "  stateReport: {reportCycle: x}\n", "spec.stateReport.reportCycle", 6},
        {BETA "status: {twins: [{desired: {value: a}}]}\n", "status.twins[0].propertyName", 6},
        {BETA "status: {twins: [{propertyName: t, reported: {}}]}\n",
         "status.twins[0].reported.value", 6},
        {BETA_MODEL "    type: int\n", "spec.properties[0].type", 7},
        {BETA_MODEL "    accessMode: RW\n", "spec.properties[0].accessMode", 7},
        {BETA_MODEL "    maximum: 100\n", "spec.properties[0].maximum", 7},
        {BETA_MODEL "  - name: t\n", "spec.properties[1].name", 7},
        {BETA_MODEL "    type: INT\n    minimum: \"5\"\n    maximum: \"4\"\n", "spec", 5},
        {BETA_MODEL "    type: INT\n    maximum: much\n", "spec", 5},
        {ALPHA "  nodeName: n\n", "spec.nodeName", 6},
        {SELECTOR("[]"), "spec.nodeSelector", 6},
        {SELECTOR("[{matchExpressions: [{values: []}]}]"), "spec.nodeSelector", 6},
        {SELECTOR("[{matchExpressions: [{values: [5]}]}]"), "spec.nodeSelector", 6},
        {ALPHA "  protocol: {modbus: {slaveID: 256}}\n", "spec.protocol.modbus.slaveID", 6},
        {ALPHA "  protocol: {modbus: {slave: 1}}\n", "spec.protocol.modbus.slave", 6},
        {ALPHA "  protocol: {common: {com: {parity: odds}}}\n", "spec.protocol.common.com.parity",
         6},
        {ALPHA "  protocol: {common: {com: {stopBits: 3}}}\n", "spec.protocol.common.com.stopBits",
         6},
        {ALPHA "  protocol: {common: {tcp: {port: 0}}}\n", "spec.protocol.common.tcp.port", 6},
        {ALPHA "  protocol: {customizedProtocol: {}}\n",
         "spec.protocol.customizedProtocol.protocolName", 6},
        {VISITOR "    modbus: {offset: 1}\n", "spec.propertyVisitors[0].modbus.register", 8},
        {VISITOR "    modbus: {register: Coil}\n", "spec.propertyVisitors[0].modbus.register", 8},
        {VISITOR "    modbus: {register: CoilRegister, offset: 65536}\n",
         "spec.propertyVisitors[0].modbus.offset", 8},
        {VISITOR "  - propertyName: t\n", "spec.propertyVisitors[1].propertyName", 8},
        {ALPHA "  data: {dataProperties: [{metadata: {}}]}\n",
         "spec.data.dataProperties[0].propertyName", 6},
        {ALPHA "status: {twins: [{propertyName: t, desired: {value: 5}}]}\n",
         "status.twins[0].desired.value", 6},
        {ALPHA_MODEL "    description: x\n", "spec.properties[0].type", 6},
        {ALPHA_MODEL "    type: {}\n", "spec.properties[0].type", 7},
        {ALPHA_MODEL "    type: {int: {}, string: {}}\n", "spec.properties[0].type", 7},
        {ALPHA_MODEL "    type: {integer: {}}\n", "spec.properties[0].type.integer", 7},
        {ALPHA_MODEL "    type: {int: {accessMode: Read}}\n",
         "spec.properties[0].type.int.accessMode", 7},
        {ALPHA_MODEL "    type: {double: {minimum: \"1\"}}\n",
         "spec.properties[0].type.double.minimum", 7},
    };
    struct test_env env;
    (void)state;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf out;
        struct kei_field field;
        const char *type = NULL;
        uint32_t line;
        int r = make(&env, cases[i].yaml, &out, &type, &field, &line, &err);
        if (r != KE_EINVAL || strcmp(field.path, cases[i].field) != 0 || line != cases[i].line ||
            strncmp(err.text, field.path, strlen(field.path)) != 0)
            fail_msg("case %zu: %d %s line %u, not %s line %u (%s)", i, r, field.path,
                     (unsigned)line, cases[i].field, (unsigned)cases[i].line, err.text);
        ke_buf_free(&out);
    }
    test_env_fini(&env);
}

static void keeps_what_is_right(void **state)
{
    static const struct {
        const char *yaml, *type, *json;
    } cases[] = {
        {META("DeviceModel", "v1beta1") "spec: {protocol: p, protocolConfigData: {a: 1}}\n",
         "devicemodel",
         "{\"kind\":\"DeviceModel\",\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"metadata\":{"
         "\"name\":\"d\",\"namespace\":\"default\"},\"spec\":{\"protocol\":\"p\","
         "\"protocolConfigData\":{\"a\":1}}}"},
        {PROP "    desired: {value: \"\", metadata: {type: x}}\n    pushMethod: {mqtt: {qos: 0}}\n",
         "device",
         "{\"kind\":\"Device\",\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"metadata\":{"
         "\"name\":\"d\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},"
         "\"properties\":[{\"name\":\"t\",\"desired\":{\"value\":\"\",\"metadata\":{\"type\":\"x\"}"
         "},\"pushMethod\":{\"mqtt\":{\"qos\":0}}}]},\"status\":{}}"},
        {ALPHA "status: {twins: [{propertyName: io-data}]}\n", "device",
         "{\"kind\":\"Device\",\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"metadata\":{"
         "\"name\":\"d\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"}}"
         ",\"status\":{\"twins\":[{\"propertyName\":\"io-data\"}]}}"},
    };
    struct test_env env;
    (void)state;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf out;
        struct kei_field field;
        const char *type = NULL;
        uint32_t line;
        if (make(&env, cases[i].yaml, &out, &type, &field, &line, &err) != 0)
            fail_msg("case %zu: %s", i, err.text);
        assert_string_equal(type, cases[i].type);
        if (!kei_str_is(kei_buf_str(&out), cases[i].json))
            fail_msg("case %zu: %.*s", i, KEI_FMT(kei_buf_str(&out)));
        ke_buf_free(&out);
    }
    test_env_fini(&env);
}

/* Every allocation may fail; then that is said, and nothing leaks. */
static void without_memory(void **state)
{
    struct test_env env;
    struct kei_yaml *y = NULL;
    struct ke_error err = KE_ERROR_INIT;
    (void)state;
    test_env_init(&env, 0);
    const struct ke_alloc *a = kei_ctx_alloc(env.ctx);
    assert_int_equal(kei_yaml_parse(&y, a, kei_str(PROP "    desired: {value: a}\n"), 0, &err), 0);
    for (size_t i = 1;; i++) {
        struct ke_buf out;
        struct kei_field field;
        const char *type = NULL;
        kei_buf_init(&out, a);
        size_t before = atomic_load(&env.alloc.failed);
        test_alloc_fail_at(&env.alloc, i);
        int r = kei_manifest_whole(&out, &type, kei_yaml_get(y, 0)->json, &field, &err);
        test_alloc_fail_at(&env.alloc, 0);
        ke_buf_free(&out);
        if (atomic_load(&env.alloc.failed) == before) {
            assert_int_equal(r, 0);
            break;
        }
        assert_int_equal(r, KE_ENOMEM);
    }
    kei_yaml_free(y);
    test_env_fini(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_with_field_and_line),
        cmocka_unit_test(keeps_what_is_right),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
