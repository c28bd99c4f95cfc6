/* SPDX-License-Identifier: Apache-2.0 */
/* Devices between the cloud and its nodes, in the dialects of KubeEdge 1.4, 1.15 and 1.23. */
#include "cloud/cloud_rig.h"

#include "cloud/device.h"

#define MODEL                                                                                      \
    "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: m}\nspec:\n"     \
    "  protocol: modbus\n  properties:\n"                                                          \
    "  - {name: t, type: INT, accessMode: ReadWrite, maximum: \"100\"}\n"                          \
    "  - {name: sw, type: BOOLEAN, accessMode: ReadWrite}\n"
#define DEVICE_OF(name, ns, node, more)                                                            \
    "---\napiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: " name           \
    ", namespace: " ns "}\nspec:\n  deviceModelRef: {name: m}\n  nodeName: " node                  \
    "\n  protocol: {protocolName: modbus, configData: {slaveID: 1, ip: 10.0.0.9, port: 502}}\n"    \
    "  properties:\n" more
#define DEVICE(name, node, more) DEVICE_OF(name, "default", node, more)
#define T(value)                                                                                   \
    "  - {name: t, desired: {value: \"" value "\"}, reportToCloud: true, collectCycle: 1000,\n"    \
    "     visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 2}}}\n"
#define ON(value) "  - {name: sw, desired: {value: \"" value "\"}}\n"

#define ALPHA_MODEL                                                                                \
    "apiVersion: devices.kubeedge.io/v1alpha2\nkind: DeviceModel\nmetadata: {name: m}\nspec:\n"    \
    "  properties:\n"                                                                              \
    "  - {name: t, type: {int: {accessMode: ReadWrite, defaultValue: 20, maximum: 30}}}\n"         \
    "  - {name: fan, type: {string: {accessMode: ReadWrite}}}\n"
#define ALPHA(twins)                                                                               \
    "---\napiVersion: devices.kubeedge.io/v1alpha2\nkind: Device\n"                                \
    "metadata: {name: d, labels: {description: warm}}\nspec:\n  deviceModelRef: {name: m}\n"       \
    "  nodeSelector: {nodeSelectorTerms: [{matchExpressions: "                                     \
    "[{key: '', operator: In, values: [edge-1]}]}]}\n"                                             \
    "  protocol: {modbus: {slaveID: 3}, common: {tcp: {ip: 10.0.0.9, port: 502}}}\n"               \
    "  propertyVisitors:\n"                                                                        \
    "  - {propertyName: t, modbus: {register: HoldingRegister, offset: 2, limit: 1},\n"            \
    "     collectCycle: 500000000}\nstatus:\n  twins:\n" twins
#define TWIN(name, value, type)                                                                    \
    "  - {propertyName: " name ", desired: {value: \"" value "\", metadata: {type: " type "}}}\n"

#define EDGE_UPDATED(id) "device/" id "/twin/edge_updated"
#define ACTUAL(value, ts, edge)                                                                    \
    "{\"event_id\":\"e\",\"timestamp\":" ts ",\"twin\":{\"t\":{\"actual\":{\"value\":\"" value     \
    "\",\"metadata\":{\"timestamp\":" ts "}},\"optional\":true,\"metadata\":{\"type\":\"int\"},"   \
    "\"actual_version\":{\"cloud\":0,\"edge\":" edge "}}}}"

static void start(struct rig *r, struct edge *e, const char *manifest)
{
    rig_init(r, NULL);
    if (manifest)
        rig_manifest(r, "a.yaml", manifest);
    rig_start(r);
    rig_ms(r, 2000); /* the manifests are taken */
    edge_init(e, r, "edge-1");
}

static void finish(struct rig *r, struct edge *e)
{
    edge_fini(e);
    rig_fini(r);
}

static const char *twin_send(struct edge *e, const char *op, const char *resource,
                             const char *content)
{
    return edge_send_as(e, "twin", "resource", op, resource, content);
}

/* It is confirmed as KubeEdge confirms. */
static void tell(struct edge *e, const char *resource, const char *content)
{
    struct ke_msg *m = edge_reply_to(e, twin_send(e, "update", resource, content));
    assert_string_equal(ke_msg_source(m), "devicecontroller");
    assert_string_equal(ke_msg_group(m), "twin");
    assert_string_equal(ke_msg_operation(m), "response");
    assert_string_equal(ke_msg_resource(m), "twin");
    assert_string_equal(msg_content(m), "\"OK\"");
}

static void ask_detail(struct edge *e)
{
    struct ke_msg *m = edge_reply_to(
        e, twin_send(e, "get", "membership/detail",
                     "\"{\\\"event_type\\\":\\\"group_membership_event\\\",\\\"event_id\\\":"
                     "\\\"123\\\",\\\"group_id\\\":\\\"edge-1\\\",\\\"operation\\\":\\\"detail\\\","
                     "\\\"timestamp\\\":1}\""));
    assert_string_equal(msg_content(m), "\"OK\"");
}

/* The form of 1.4: no answer tells it more. */
static void register_1_4(struct edge *e)
{
    char resource[300];
    snprintf(resource, sizeof resource, "default/nodestatus/%s", e->name);
    (void)edge_ask(e, "insert", resource,
                   "{\"metadata\":{\"name\":\"edge-1\"},\"status\":{\"nodeInfo\":"
                   "{\"kubeletVersion\":\"v1.18.6-kubeedge-v1.4.0\"}}}");
}

static void join(struct edge *e, const char *version)
{
    assert_true(edge_connect(e));
    const struct kei_peer *p = rig_peer(e->rig, e->name);
    if (strcmp(version, "1.4") == 0)
        register_1_4(e);
    else if (!p || !p->node)
        edge_register(e, strcmp(version, "1.23") == 0 ? "null" : "default", NULL);
    ask_detail(e);
    (void)edge_wait(e, "update", "membership/detail");
}

static struct ke_str status_of(struct rig *r, const char *name)
{
    return kei_buf_str(&rig_wait_object(r, "devicestatus", "default", name)->json);
}

static const char *status_twins(struct rig *r, const char *name)
{
    return json_text(status_of(r, name), "status.twins");
}

/* ---- 1.15 ---- */

static void a_device_comes_and_changes(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL);
    rig_wait_object(&r, "devicemodel", "default", "m");
    join(&e, "1.15");
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_string_equal(msg_text(m, "devices"), "[]");
    assert_string_equal(ke_msg_parent_id(m), "");
    rig_ms(&r, 2000);
    assert_int_equal(edge_count(&e, NULL, "default/devicemodel/m"), 0); /* nobody uses it */
    rig_manifest(&r, "b.yaml", DEVICE("d", "edge-1", T("20")));
    m = edge_wait(&e, "insert", "default/device/d");
    assert_string_equal(ke_msg_source(m), "devicecontroller");
    assert_string_equal(ke_msg_group(m), "resource");
    assert_string_equal(msg_text(m, "kind"), "Device");
    assert_string_equal(msg_text(m, "apiVersion"), "devices.kubeedge.io/v1beta1");
    assert_string_equal(msg_text(m, "spec.nodeName"), "edge-1");
    assert_string_equal(msg_text(m, "status"), "{}");
    assert_string_equal(ke_msg_resource_version(m), msg_text(m, "metadata.resourceVersion"));
    /* membership, model, device */
    m = edge_find(&e, "update", "membership", 0);
    assert_non_null(m);
    assert_string_equal(msg_text(m, "added_devices"), "[{\"id\":\"d\",\"name\":\"d\"}]");
    assert_string_equal(msg_text(m, "removed_devices"), "null");
    assert_non_null(edge_find(&e, "insert", "default/devicemodel/m", 0));
    uint32_t n = e.n_messages;
    rig_manifest(&r, "b.yaml", DEVICE("d", "edge-1", T("25")));
    m = edge_wait(&e, "update", "default/device/d");
    assert_true(strstr(msg_content(m), "\"desired\":{\"value\":\"25\"}") != NULL);
    rig_ms(&r, 5000);
    assert_int_equal(e.n_messages, n + 1); /* and nothing else */
    rig_manifest(&r, "a.yaml", MODEL "  - {name: x, type: FLOAT}\n");
    (void)edge_wait(&e, "update", "default/devicemodel/m");
    rig_ms(&r, 5000);
    assert_int_equal(e.n_messages, n + 2);
    finish(&r, &e);
}

static void what_is_reported_is_kept(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("20")));
    join(&e, "1.15");
    (void)edge_wait(&e, "insert", "default/device/d");
    uint32_t n = e.n_messages;
    /* the first report counts, and needs no list in the manifest */
    tell(&e, EDGE_UPDATED("d"), ACTUAL("26", "1795335723536", "1"));
    assert_string_equal(
        status_twins(&r, "d"),
        "[{\"propertyName\":\"t\",\"reported\":{\"value\":\"26\",\"metadata\":{\"timestamp\":"
        "\"1795335723536\",\"type\":\"int\"}}}]");
    (void)rig_wait_line(&r, "device default/d edge-1 - t=20/26/-");
    /* both sides, and a twin that the manifest does not have */
    tell(&e, EDGE_UPDATED("d"),
         "{\"event_id\":\"e\",\"timestamp\":3,\"twin\":{\"extra\":{\"actual\":{\"value\":\"a b\"}},"
         "\"t\":{\"expected\":{\"value\":\"30\",\"metadata\":{\"timestamp\":1795335904561}},"
         "\"actual\":{\"value\":\"31\",\"metadata\":{\"timestamp\":1795335904561}},\"optional\":"
         "true,\"metadata\":{\"type\":\"int\"},\"expected_version\":{\"cloud\":0,\"edge\":1},"
         "\"actual_version\":{\"cloud\":0,\"edge\":2}}}}");
    assert_string_equal(
        status_twins(&r, "d"),
        "[{\"propertyName\":\"t\",\"reported\":{\"value\":\"31\",\"metadata\":{\"timestamp\":"
        "\"1795335904561\",\"type\":\"int\"}},\"observedDesired\":{\"value\":\"30\",\"metadata\":{"
        "\"timestamp\":\"1795335904561\",\"type\":\"int\"}}},{\"propertyName\":\"extra\","
        "\"reported\":{\"value\":\"a b\"}}]");
    (void)rig_wait_line(&r, "device default/d edge-1 - extra=-/a b/- t=20/31/30");
    /* a report is no news for the node: two confirmations, nothing else */
    rig_ms(&r, 6000);
    assert_int_equal(e.n_messages, n + 2);
    /* it stays over a restart, and what comes twice changes nothing */
    rig_restart(&r);
    join(&e, "1.15");
    int64_t version = rig_wait_object(&r, "devicestatus", "default", "d")->version;
    (void)rig_object(&r, "device", "default", "d");
    tell(&e, EDGE_UPDATED("d"),
         "{\"event_id\":\"e\",\"timestamp\":3,\"twin\":{\"extra\":{\"actual\":{\"value\":\"a "
         "b\"}}}}");
    assert_int_equal(rig_object(&r, "devicestatus", "default", "d")->version, version);
    finish(&r, &e);
}

/* Upstream's nodes repeat what was not confirmed, whatever came after it. */
static void late_news_are_no_news(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("20")));
    e.agent = "Go-http-client/1.1";
    join(&e, "1.15");
    (void)edge_wait(&e, "insert", "default/device/d");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("2", "2000", "2"));
    tell(&e, EDGE_UPDATED("d"), ACTUAL("1", "1000", "1"));
    (void)rig_wait_line(&r, "device default/d edge-1 - t=20/2/-");
    assert_int_equal(rig_count(&r, "device default/d edge-1 - t=20/1"), 0);
    /* a store that began anew, a clock that went back: either alone is news */
    tell(&e, EDGE_UPDATED("d"), ACTUAL("3", "3000", "1"));
    (void)rig_wait_line(&r, "device default/d edge-1 - t=20/3/-");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("4", "10", "2"));
    (void)rig_wait_line(&r, "device default/d edge-1 - t=20/4/-");
    tell(&e, "device/d/state/update",
         "\"{\\\"event_id\\\":\\\"e\\\",\\\"timestamp\\\":5000,\\\"device\\\":{\\\"name\\\":"
         "\\\"d\\\",\\\"state\\\":\\\"offline\\\"}}\"");
    tell(&e, "device/d/state/update",
         "\"{\\\"event_id\\\":\\\"e\\\",\\\"timestamp\\\":4000,\\\"device\\\":{\\\"name\\\":"
         "\\\"d\\\",\\\"state\\\":\\\"online\\\",\\\"last_online\\\":\\\"x\\\"}}\"");
    assert_string_equal(json_text(status_of(&r, "d"), "status.state"), "offline");
    finish(&r, &e);
}

static void a_device_that_is_not_its_own(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-2", T("20")));
    join(&e, "1.15");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("26", "1", "1"));
    struct ke_msg *m = edge_wait(&e, "update", "membership");
    assert_string_equal(msg_text(m, "removed_devices"), "[{\"id\":\"d\",\"name\":\"d\"}]");
    assert_null(rig_object(&r, "devicestatus", "default", "d"));
    /* nonsense is confirmed, so that it does not come for ever, and changes nothing */
    rig_manifest(&r, "a.yaml", MODEL DEVICE("d", "edge-1", T("20")));
    (void)edge_wait(&e, "insert", "default/device/d");
    tell(&e, EDGE_UPDATED("d"), "\"no JSON\"");
    tell(&e, EDGE_UPDATED("d"), "{\"twin\":[]}");
    tell(&e, EDGE_UPDATED("d"), "{\"twin\":{\"\":{\"actual\":{\"value\":\"1\"}}}}");
    tell(&e, EDGE_UPDATED("d"), "{\"twin\":{\"t\":{\"actual\":{\"value\":\"a\\u0000b\"}}}}");
    tell(&e, "device/d/state/update", "{\"device\":{\"state\":1}}");
    assert_null(rig_object(&r, "devicestatus", "default", "d"));
    tell(&e, EDGE_UPDATED("d"), "{\"twin\":{\"t\":{\"actual\":{}},\"u\":null,\"v\":7}}");
    assert_string_equal(status_twins(&r, "d"), "[]");
    finish(&r, &e);
}

static void a_device_moves_and_goes(void **state)
{
    struct rig r;
    struct edge e, other;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("20")));
    edge_init(&other, &r, "edge-2");
    join(&e, "1.15");
    join(&other, "1.23");
    (void)edge_wait(&e, "insert", "default/device/d");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("26", "1", "1"));
    rig_manifest(&r, "a.yaml", MODEL DEVICE("d", "edge-2", T("20")));
    (void)edge_wait(&other, "insert", "default/device/d");
    struct ke_msg *m = edge_wait(&other, "update", "membership");
    assert_string_equal(msg_text(m, "added_devices"), "[{\"id\":\"default/d\",\"name\":\"d\"}]");
    m = edge_wait(&e, "update", "membership");
    assert_string_equal(msg_text(m, "removed_devices"), "[{\"id\":\"d\",\"name\":\"d\"}]");
    (void)edge_wait(&e, "delete", "default/devicemodel/m");
    m = edge_wait(&e, "delete", "default/device/d");
    /* upstream's node finds the driver by the protocol */
    assert_string_equal(msg_text(m, "spec.protocol.protocolName"), "modbus");
    assert_string_equal(msg_text(m, "spec.deviceModelRef.name"), "m");
    /* what is known of it moves along */
    (void)rig_wait_line(&r, "device default/d edge-2 - t=20/26/-");
    rig_manifest(&r, "a.yaml", MODEL);
    (void)edge_wait(&other, "delete", "default/device/d");
    (void)edge_wait(&other, "delete", "default/devicemodel/m");
    (void)rig_wait_line(&r, "removed device default/d");
    assert_true(rig_wait_gone(&r, "devicestatus", "default", "d"));
    /* another life begins with nothing */
    rig_forget(&r);
    rig_manifest(&r, "a.yaml", MODEL DEVICE("d", "edge-2", T("20")));
    (void)rig_wait_line(&r, "device default/d edge-2 - t=20/-/-");
    edge_fini(&other);
    finish(&r, &e);
}

static void what_happened_while_it_was_away(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL DEVICE("a", "edge-1", T("20")) DEVICE("b", "edge-1", T("20")));
    join(&e, "1.15");
    (void)edge_wait(&e, "insert", "default/device/a");
    (void)edge_wait(&e, "insert", "default/device/b");
    edge_drop(&e);
    rig_ms(&r, 1000);
    rig_manifest(&r, "a.yaml", MODEL DEVICE("b", "edge-1", T("21")) DEVICE("c", "edge-1", T("1")));
    rig_wait_object(&r, "device", "default", "c");
    rig_ms(&r, 3000);
    rig_restart(&r);
    edge_forget(&e);
    join(&e, "1.15");
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    /* with a map of twins: without one upstream's node takes a device it knows for an error */
    assert_true(strstr(msg_content(m), "{\"id\":\"b\",\"name\":\"b\",\"twin\":{}}") != NULL);
    assert_true(strstr(msg_content(m), "{\"id\":\"c\",\"name\":\"c\",\"twin\":{}}") != NULL);
    assert_true(strstr(msg_content(m), "\"a\"") == NULL);
    (void)edge_wait(&e, "update", "default/device/b");
    (void)edge_wait(&e, "insert", "default/device/c");
    m = edge_wait(&e, "delete", "default/device/a");
    assert_string_equal(msg_text(m, "spec.protocol.protocolName"), "modbus"); /* also after that */
    assert_int_equal(edge_count(&e, NULL, "default/devicemodel/m"), 0);       /* it has it */
    /* it asks again: told is told */
    ask_detail(&e);
    rig_ms(&r, 5000);
    assert_int_equal(edge_count(&e, "update", "membership/detail"), 1);
    finish(&r, &e);
}

/* Deleted and made again under the same name: no value of the one is one of the other. */
static void a_former_life(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("20")));
    join(&e, "1.15");
    (void)edge_wait(&e, "insert", "default/device/d");
    rig_settle(&r);
    edge_drop(&e);
    rig_ms(&r, 1000);
    rig_manifest(&r, "a.yaml", MODEL);
    assert_true(rig_wait_gone(&r, "device", "default", "d"));
    rig_manifest(&r, "a.yaml", MODEL DEVICE("d", "edge-1", T("20")));
    rig_wait_object(&r, "device", "default", "d");
    rig_restart(&r);
    edge_forget(&e);
    e.no_ack = true;
    join(&e, "1.15");
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_string_equal(msg_text(m, "devices"), "[]"); /* so it forgets it */
    /* what the node had not told yet is of the former one */
    struct ke_msg *gone = edge_wait(&e, "delete", "default/device/d");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("26", "1", "1"));
    assert_null(rig_object(&r, "devicestatus", "default", "d"));
    m = edge_wait(&e, "update", "membership");
    assert_string_equal(msg_text(m, "added_devices"), "[{\"id\":\"d\",\"name\":\"d\"}]");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("26", "1", "1"));
    assert_null(rig_object(&r, "devicestatus", "default", "d"));
    edge_ack(&e, gone);
    (void)edge_wait(&e, "insert", "default/device/d");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("27", "2", "1"));
    (void)rig_wait_line(&r, "device default/d edge-1 - t=20/27/-");
    finish(&r, &e);
}

/* Upstream's nodes do what comes at one time in any order: a list of all, and one that is new. */
static void not_at_one_time(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL);
    e.agent = "Go-http-client/1.1";
    join(&e, "1.15");
    int64_t told = ke_ctx_mono_ms(r.edges);
    rig_manifest(&r, "b.yaml", DEVICE("d", "edge-1", T("20")));
    (void)edge_wait(&e, "insert", "default/device/d");
    assert_int_equal(edge_count(&e, "update", "membership"), 0);
    (void)edge_wait(&e, "update", "membership");
    assert_true(ke_ctx_mono_ms(r.edges) - told >= 1000);
    rig_manifest(&r, "b.yaml", NULL);
    (void)edge_wait(&e, "delete", "default/device/d");
    int64_t gone = ke_ctx_mono_ms(r.edges);
    rig_manifest(&r, "b.yaml", DEVICE("d", "edge-1", T("20")));
    struct ke_msg *m = edge_wait_nth(&e, "update", "membership", 2);
    assert_string_equal(msg_text(m, "removed_devices"), "null");
    assert_true(ke_ctx_mono_ms(r.edges) - gone >= 900);
    finish(&r, &e);
}

static void a_node_that_does_not_ask(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("20")));
    assert_true(edge_connect(&e));
    rig_ms(&r, 5000);
    assert_int_equal(edge_count(&e, NULL, NULL), 0); /* its version is not known */
    edge_register(&e, "null", NULL);
    struct ke_msg *m = edge_wait(&e, "update", "membership/detail");
    assert_true(strstr(msg_content(m), "\"default/d\"") != NULL);
    (void)edge_wait(&e, "insert", "default/device/d");
    finish(&r, &e);
}

static void a_model_is_missing(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, DEVICE("d", "edge-1", T("20")));
    join(&e, "1.15");
    (void)rig_wait_line(&r, "device default/d edge-1 - t=20/-/- !its model m is missing");
    rig_ms(&r, 5000);
    assert_int_equal(edge_count(&e, NULL, "default/device/d"), 0);
    rig_manifest(&r, "m.yaml", MODEL);
    (void)edge_wait(&e, "insert", "default/device/d");
    struct ke_msg *model = edge_find(&e, "insert", "default/devicemodel/m", 0);
    assert_non_null(model);
    rig_manifest(&r, "m.yaml", NULL);
    (void)edge_wait(&e, "delete", "default/devicemodel/m");
    finish(&r, &e);
}

static void two_of_one_name(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, NULL);
    join(&e, "1.15");
    rig_manifest(&r, "a.yaml", MODEL DEVICE("d", "edge-1", T("20")));
    (void)edge_wait(&e, "insert", "default/device/d");
    rig_manifest(&r, "b.yaml",
                 "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\n"
                 "metadata: {name: m, namespace: zoo}\nspec: {properties: []}\n" DEVICE_OF(
                     "d", "zoo", "edge-1", T("9")));
    rig_wait_object(&r, "device", "zoo", "d");
    rig_ms(&r, 3000);
    assert_int_equal(edge_count(&e, NULL, "zoo/device/d"), 0);
    assert_int_equal(edge_count(&e, "update", "membership"), 1);
    assert_true(atomic_exchange(&r.env.log_errors, 0) > 0);
    /* the name is free again */
    rig_manifest(&r, "a.yaml", MODEL);
    (void)edge_wait(&e, "insert", "zoo/device/d");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("26", "1", "1"));
    (void)rig_wait_line(&r, "device zoo/d edge-1 - t=9/26/-");
    finish(&r, &e);
}

/* ---- 1.23 ---- */

static void states_and_long_ids(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("20")));
    join(&e, "1.23");
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_true(strstr(msg_content(m), "\"id\":\"default/d\",\"name\":\"d\"") != NULL);
    (void)edge_wait(&e, "insert", "default/device/d");
    tell(&e, EDGE_UPDATED("default/d"), ACTUAL("26", "1", "1"));
    tell(&e, "device/default/d/state/update",
         "\"{\\\"event_id\\\":\\\"e\\\",\\\"timestamp\\\":1,\\\"device\\\":{\\\"name\\\":\\\"d\\\","
         "\\\"state\\\":\\\"online\\\",\\\"lastOnlineTime\\\":\\\"2026-01-02T03:04:05Z\\\"}}\"");
    tell(&e, "device/default/d/state/update",
         "\"{\\\"event_id\\\":\\\"e\\\",\\\"timestamp\\\":2,\\\"device\\\":{\\\"name\\\":\\\"d\\\","
         "\\\"state\\\":\\\"unhealthy\\\",\\\"lastOnlineTime\\\":\\\"\\\"}}\"");
    assert_string_equal(json_text(status_of(&r, "d"), "status.state"), "unhealthy");
    assert_string_equal(json_text(status_of(&r, "d"), "status.lastOnlineTime"),
                        "2026-01-02T03:04:05Z");
    assert_string_equal(json_text(status_of(&r, "d"), "kind"), "DeviceStatus");
    (void)rig_wait_line(&r, "device default/d edge-1 unhealthy t=20/26/-");
    finish(&r, &e);
}

/* ---- 1.4 ---- */

static void desired_values_of_1_4(void **state)
{
    struct rig r;
    struct edge e;
    char version[32], want[600];
    (void)state;
    start(&r, &e, NULL);
    join(&e, "1.4");
    rig_manifest(&r, "a.yaml",
                 ALPHA_MODEL ALPHA(TWIN("t", "22", "int") TWIN("fan", "ON", "string")));
    struct ke_msg *m = edge_wait(&e, "update", "membership");
    snprintf(version, sizeof version, "%lld",
             (long long)rig_object(&r, "device", "default", "d")->version);
    assert_string_equal(msg_text(m, "removed_devices"), "null");
    const char *added = msg_text(m, "added_devices");
    char now[32];
    snprintf(now, sizeof now, "%s", msg_text(m, "timestamp"));
    snprintf(
        want, sizeof want,
        "[{\"id\":\"d\",\"name\":\"d\",\"description\":\"warm\",\"twin\":{\"fan\":{\"expected\":{"
        "\"value\":\"ON\",\"metadata\":{\"timestamp\":%s}},\"optional\":false,\"metadata\":{"
        "\"type\":\"string\"},\"expected_version\":{\"cloud\":%s,\"edge\":0}},\"t\":{"
        "\"expected\":{\"value\":\"22\",\"metadata\":{\"timestamp\":%s}},\"optional\":false,"
        "\"metadata\":{\"type\":\"int\"},\"expected_version\":{\"cloud\":%s,\"edge\":0}}}}]",
        now, version, now, version);
    assert_string_equal(added, want);
    /* no objects */
    rig_ms(&r, 5000);
    assert_int_equal(edge_count(&e, "insert", NULL), 0);
    rig_manifest(&r, "a.yaml", ALPHA_MODEL ALPHA(TWIN("t", "25", "int")));
    m = edge_wait(&e, "update", "device/d/twin/cloud_updated");
    assert_string_equal(msg_text(m, "twin.t.expected.value"), "25");
    assert_string_equal(msg_text(m, "twin.fan.metadata.type"), "deleted");
    assert_string_equal(msg_text(m, "twin.fan.expected.value"), "ON");
    /* what a manifest changes beside the desired values is nothing for the node */
    rig_manifest(&r, "a.yaml",
                 ALPHA_MODEL "  - {name: x, type: {bytes: {accessMode: ReadOnly}}}\n" ALPHA(
                     TWIN("t", "25", "int")));
    rig_ms(&r, 5000);
    assert_int_equal(edge_count(&e, "update", "device/d/twin/cloud_updated"), 1);
    tell(&e, EDGE_UPDATED("d"), ACTUAL("25", "1", "1"));
    rig_ms(&r, 5000);
    assert_int_equal(edge_count(&e, "update", "device/d/twin/cloud_updated"), 1);
    finish(&r, &e);
}

/* Deleted and made again while the node was away, which has no objects that would tell. */
static void a_former_life_of_1_4(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, ALPHA_MODEL ALPHA(TWIN("t", "22", "int")));
    join(&e, "1.4");
    edge_drop(&e);
    rig_ms(&r, 1000);
    rig_manifest(&r, "a.yaml", ALPHA_MODEL);
    assert_true(rig_wait_gone(&r, "device", "default", "d"));
    rig_manifest(&r, "a.yaml", ALPHA_MODEL ALPHA(TWIN("t", "23", "int")));
    rig_wait_object(&r, "device", "default", "d");
    edge_forget(&e);
    join(&e, "1.4");
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_string_equal(msg_text(m, "devices"), "[]");
    tell(&e, EDGE_UPDATED("d"), ACTUAL("26", "1", "1"));
    assert_null(rig_object(&r, "devicestatus", "default", "d"));
    m = edge_wait(&e, "update", "membership");
    assert_true(strstr(msg_text(m, "added_devices"), "\"value\":\"23\"") != NULL);
    tell(&e, EDGE_UPDATED("d"), ACTUAL("27", "2", "1"));
    (void)rig_wait_line(&r, "device default/d edge-1 - t=23/27/-");
    /* the next time it is one as any other; a restart of the cloud changes no desired value */
    rig_restart(&r);
    edge_forget(&e);
    join(&e, "1.4");
    m = edge_find(&e, "update", "membership/detail", 0);
    assert_true(strstr(msg_content(m), "\"value\":\"23\"") != NULL);
    rig_manifest(&r, "b.yaml", CONFIG("c", "1"));
    rig_manifest(&r, "a.yaml", "# the same\n" ALPHA_MODEL ALPHA(TWIN("t", "23", "int")));
    rig_ms(&r, 5000);
    assert_int_equal(edge_count(&e, "update", "device/d/twin/cloud_updated"), 0);
    finish(&r, &e);
}

/*
 * An application on the node set expected itself: from then on the node refuses what does not name
 * its version. The next change of the manifest names it; what was desired before does not.
 */
static void a_local_wish_and_a_newer_one(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, ALPHA_MODEL ALPHA(TWIN("t", "22", "int") TWIN("fan", "ON", "string")));
    join(&e, "1.4");
    tell(&e, EDGE_UPDATED("d"),
         "{\"event_id\":\"e\",\"timestamp\":1,\"twin\":{\"t\":{\"expected\":{\"value\":\"24\"},"
         "\"metadata\":{\"type\":\"int\"},\"expected_version\":{\"cloud\":1,\"edge\":3}},"
         "\"fan\":{\"expected\":{\"value\":\"OFF\"},\"expected_version\":{\"cloud\":1,\"edge\":5}"
         "}}}");
    (void)rig_wait_line(&r, "device default/d edge-1 - fan=ON/-/OFF t=22/-/24");
    edge_drop(&e);
    edge_forget(&e);
    join(&e, "1.4");
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_true(strstr(msg_content(m), "\"edge\":0}") && !strstr(msg_content(m), "\"edge\":3}"));
    rig_manifest(&r, "a.yaml",
                 ALPHA_MODEL ALPHA(TWIN("t", "26", "int") TWIN("fan", "ON", "string")));
    m = edge_wait(&e, "update", "device/d/twin/cloud_updated");
    assert_string_equal(msg_text(m, "twin.t.expected_version.edge"), "3");
    assert_string_equal(msg_text(m, "twin.fan.expected_version.edge"), "0");
    rig_restart(&r);
    edge_forget(&e);
    join(&e, "1.4");
    m = edge_find(&e, "update", "membership/detail", 0);
    assert_true(strstr(msg_content(m), "\"edge\":3}") != NULL);
    assert_true(strstr(msg_content(m), "\"edge\":5}") == NULL);
    finish(&r, &e);
}

static struct ke_str profile(struct rig *r, struct ke_buf *text)
{
    struct ke_str data, v = {0};
    const struct kei_object *o =
        rig_wait_object(r, "configmap", "default", "device-profile-config-edge-1");
    kei_buf_init(text, kei_ctx_alloc(r->env.ctx));
    assert_true(kei_json_get(kei_buf_str(&o->json), "data", &data));
    assert_true(kei_json_get(data, "deviceProfile.json", &v));
    assert_int_equal(kei_json_str(v, text, NULL), 0);
    return kei_buf_str(text);
}

static void profiles_for_mappers(void **state)
{
    struct rig r;
    struct edge e;
    struct ke_buf text;
    (void)state;
    start(&r, &e, ALPHA_MODEL ALPHA(TWIN("t", "22", "int")));
    join(&e, "1.4");
    assert_string_equal(
        profile(&r, &text).p,
        "{\"deviceInstances\":[{\"id\":\"d\",\"name\":\"d\",\"protocol\":\"modbus-d\",\"model\":"
        "\"m\",\"twins\":[{\"propertyName\":\"t\",\"desired\":{\"value\":\"22\",\"metadata\":{"
        "\"type\":\"int\"}},\"reported\":{\"value\":\"\"}}],\"propertyVisitors\":[{\"name\":\"t\","
        "\"propertyName\":\"t\",\"modelName\":\"m\",\"protocol\":\"modbus\",\"collectCycle\":"
        "500000000,\"visitorConfig\":{\"register\":\"HoldingRegister\",\"offset\":2,\"limit\":1}}]"
        "}],\"deviceModels\":[{\"name\":\"m\",\"properties\":[{\"name\":\"t\",\"dataType\":\"int\","
        "\"accessMode\":\"ReadWrite\",\"defaultValue\":20,\"maximum\":30},{\"name\":\"fan\","
        "\"dataType\":\"string\",\"accessMode\":\"ReadWrite\"}]}],\"protocols\":[{\"name\":"
        "\"modbus-d\",\"protocol\":\"modbus\",\"protocolConfig\":{\"slaveID\":3},"
        "\"protocolCommonConfig\":{\"tcp\":{\"ip\":\"10.0.0.9\",\"port\":502}}}]}");
    ke_buf_free(&text);
    /* a report does not touch it */
    int64_t version =
        rig_object(&r, "configmap", "default", "device-profile-config-edge-1")->version;
    tell(&e, EDGE_UPDATED("d"), ACTUAL("25", "1", "1"));
    rig_ms(&r, 5000);
    assert_int_equal(
        rig_object(&r, "configmap", "default", "device-profile-config-edge-1")->version, version);
    /* its node may read it without a pod, and gets it again when it changes; others may not */
    struct ke_msg *m =
        edge_ask(&e, "query", "default/configmap/device-profile-config-edge-1", NULL);
    assert_true(strstr(msg_content(m), "deviceProfile.json") != NULL);
    rig_settle(&r);
    rig_manifest(&r, "a.yaml", ALPHA_MODEL ALPHA(TWIN("t", "24", "int")));
    m = edge_wait(&e, "update", "default/configmap/device-profile-config-edge-1");
    assert_true(strstr(msg_content(m), "24") != NULL);
    struct edge other;
    edge_init(&other, &r, "edge-2");
    join(&other, "1.15");
    m = edge_ask(&other, "query", "default/configmap/device-profile-config-edge-1", NULL);
    assert_string_equal(msg_text(m, "ErrStatus.reason"), "Forbidden");
    edge_fini(&other);
    rig_manifest(&r, "a.yaml", NULL);
    assert_true(rig_wait_gone(&r, "configmap", "default", "device-profile-config-edge-1"));
    finish(&r, &e);
}

/* ---- one API, a node of the other ---- */

static void v1alpha2_on_a_new_node(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, ALPHA_MODEL ALPHA(TWIN("t", "22", "int")));
    join(&e, "1.15");
    struct ke_msg *m = edge_wait(&e, "insert", "default/device/d");
    assert_string_equal(
        msg_text(m, "spec"),
        "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"edge-1\",\"properties\":[{\"name\":"
        "\"t\",\"desired\":{\"value\":\"22\",\"metadata\":{\"type\":\"int\"}},\"visitors\":{"
        "\"protocolName\":\"modbus\",\"configData\":{\"register\":\"HoldingRegister\",\"offset\":2,"
        "\"limit\":1}},\"collectCycle\":500000000,\"reportToCloud\":true}],\"protocol\":{"
        "\"protocolName\":\"modbus\",\"configData\":{\"ip\":\"10.0.0.9\",\"port\":502,\"slaveID\":"
        "3}"
        "}}");
    m = edge_find(&e, "insert", "default/devicemodel/m", 0);
    assert_string_equal(
        msg_text(m, "spec"),
        "{\"properties\":[{\"name\":\"t\",\"type\":\"INT\",\"accessMode\":\"ReadWrite\","
        "\"maximum\":"
        "\"30\"},{\"name\":\"fan\",\"type\":\"STRING\",\"accessMode\":\"ReadWrite\"}],\"protocol\":"
        "\"modbus\"}");
    assert_string_equal(msg_text(m, "apiVersion"), "devices.kubeedge.io/v1beta1");
    /* desired values change in the status there */
    rig_manifest(&r, "a.yaml", ALPHA_MODEL ALPHA(TWIN("t", "23", "int")));
    m = edge_wait(&e, "update", "default/device/d");
    assert_true(strstr(msg_content(m), "\"value\":\"23\"") != NULL);
    assert_true(strstr(msg_content(m), "libkubeedge") == NULL);
    finish(&r, &e);
}

static void v1beta1_on_an_old_node(void **state)
{
    struct rig r;
    struct edge e;
    struct ke_buf text;
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("20") ON("true")));
    join(&e, "1.4");
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_true(strstr(msg_content(m), "\"t\":{\"expected\":{\"value\":\"20\"") != NULL);
    assert_true(strstr(msg_content(m), "\"metadata\":{\"type\":\"int\"}") != NULL);
    assert_true(strstr(msg_content(m), "\"metadata\":{\"type\":\"boolean\"}") != NULL);
    struct ke_str p = profile(&r, &text);
    assert_string_equal(json_text(p, "protocols"),
                        "[{\"name\":\"modbus-d\",\"protocol\":\"modbus\",\"protocolConfig\":{"
                        "\"slaveID\":1},\"protocolCommonConfig\":{\"tcp\":{\"ip\":\"10.0.0.9\","
                        "\"port\":502}}}]");
    ke_buf_free(&text);
    rig_manifest(&r, "a.yaml", MODEL DEVICE("d", "edge-1", T("21")));
    m = edge_wait(&e, "update", "device/d/twin/cloud_updated");
    assert_string_equal(msg_text(m, "twin.t.expected.value"), "21");
    assert_string_equal(msg_text(m, "twin.sw.metadata.type"), "deleted");
    finish(&r, &e);
}

/* ---- the host ---- */

struct seen {
    uint32_t n;
    char text[1000];
};

static void see(void *user, const struct ke_cloud_device_info *d)
{
    struct seen *s = user;
    s->n++;
    snprintf(s->text, sizeof s->text, "%s %s %s %s %s %s %s %u %u %s %lld", d->device_namespace,
             d->name, d->node, d->model, d->protocol, d->api, d->state, d->n_twins, d->pending,
             d->n_twins ? d->twins[0]->type : "",
             (long long)(d->n_twins ? d->twins[0]->reported_ms : 0));
}

static void the_list(void **state)
{
    struct rig r;
    struct edge e;
    struct seen s = {0};
    (void)state;
    start(&r, &e, MODEL DEVICE("d", "edge-1", T("hot")));
    rig_wait_object(&r, "device", "default", "d");
    assert_int_equal(ke_cloud_devices(r.c, see, &s), 0);
    assert_string_equal(s.text, "default d edge-1 m modbus v1beta1  1 1 int 0");
    (void)rig_wait_line(
        &r, "device default/d edge-1 - t=hot/-/- !t: the desired value \"hot\" is no int");
    join(&e, "1.15");
    (void)edge_wait(&e, "insert", "default/device/d");
    rig_settle(&r);
    tell(&e, EDGE_UPDATED("d"), ACTUAL("25", "77", "1"));
    assert_int_equal(ke_cloud_devices(r.c, see, &s), 0);
    assert_string_equal(s.text, "default d edge-1 m modbus v1beta1  1 0 int 77");
    assert_int_equal(s.n, 2);
    assert_int_equal(ke_cloud_devices(NULL, see, &s), KE_EINVAL);
    assert_int_equal(ke_cloud_devices(r.c, NULL, &s), KE_EINVAL);
    finish(&r, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_comes_and_changes),
        cmocka_unit_test(what_is_reported_is_kept),
        cmocka_unit_test(late_news_are_no_news),
        cmocka_unit_test(a_device_that_is_not_its_own),
        cmocka_unit_test(a_device_moves_and_goes),
        cmocka_unit_test(what_happened_while_it_was_away),
        cmocka_unit_test(a_former_life),
        cmocka_unit_test(not_at_one_time),
        cmocka_unit_test(a_node_that_does_not_ask),
        cmocka_unit_test(a_model_is_missing),
        cmocka_unit_test(two_of_one_name),
        cmocka_unit_test(states_and_long_ids),
        cmocka_unit_test(desired_values_of_1_4),
        cmocka_unit_test(a_former_life_of_1_4),
        cmocka_unit_test(a_local_wish_and_a_newer_one),
        cmocka_unit_test(profiles_for_mappers),
        cmocka_unit_test(v1alpha2_on_a_new_node),
        cmocka_unit_test(v1beta1_on_an_old_node),
        cmocka_unit_test(the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
