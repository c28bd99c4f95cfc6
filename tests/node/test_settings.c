/* SPDX-License-Identifier: Apache-2.0 */
/* edgecore.yaml of upstream, both versions. */
#include "support/support.h"

#include <kubeedge/eventbus.h>
#include <kubeedge/node.h>

#include "base/file.h"

static char unknown[1024];

static void on_unknown(void *user, const char *key, uint32_t line)
{
    (void)user;
    size_t n = strlen(unknown);
    snprintf(unknown + n, sizeof unknown - n, "%s:%u ", key, (unsigned)line);
}

static int read_text(struct test_env *env, const char *text, struct ke_node_settings **ret)
{
    char folder[256], path[300];
    test_tmp_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/edgecore.yaml", folder);
    assert_int_equal(kei_file_replace(kei_ctx_io(env->ctx), path, text, strlen(text), 0600, NULL), 0);
    unknown[0] = 0;
    int r = ke_node_settings_read(ret, env->ctx, path, on_unknown, NULL);
    test_tmp_remove(folder);
    return r;
}

static void reads_both_versions(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    struct ke_node_settings *s = NULL;
    assert_int_equal(
        read_text(&env,
                  "apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\n"
                  "database: {dataSource: /var/lib/kubeedge/edgecore.db}\n"
                  "modules:\n"
                  "  edgeHub:\n"
                  "    enable: true\n    heartbeat: 20\n    projectID: abc\n"
                  "    httpServer: https://cloud.example:10002\n    token: tok\n"
                  "    tlsCaFile: /nowhere/ca\n    tlsCertFile: /nowhere/crt\n"
                  "    tlsPrivateKeyFile: /nowhere/key\n"
                  "    websocket: {enable: true, server: \"10.1.2.3:10000\", readDeadline: 15}\n"
                  "    quic: {enable: false, server: x}\n"
                  "  edged:\n"
                  "    hostnameOverride: edge-9\n    nodeIP: 10.0.0.9\n    nodeLabels: {zone: a, 'a\"b': c}\n"
                  "    tailoredKubeletConfig:\n"
                  "      maxPods: 20\n      nodeStatusUpdateFrequency: 1m5s\n"
                  "      registerWithTaints: [{key: t, effect: NoSchedule}]\n      address: 127.0.0.1\n"
                  "  eventBus: {mqttMode: 2}\n"
                  "  surprise: {a: 1}\n"
                  "libkubeedge:\n  data: /d\n  runtime: process\n  processAllow: [/bin/sleep]\n"
                  "  hostPathAllow: [/srv, /dev/ttyS0]\n"
                  "  dialect: \"1.15\"\n  typo: 1\n  retryMin: 200ms\n  retryMax: 1m30s\n  strayGrace: 2m\n"
                  "  twinStrict: true\n  twinOldTopics: true\n",
                  &s),
        0);
    const struct ke_node_config *c = ke_node_settings_config(s);
    assert_string_equal(c->name, "edge-9");
    assert_string_equal(c->cloud_host, "10.1.2.3");
    assert_int_equal(c->tunnel_port, 10000);
    assert_int_equal(c->cert_port, 10002);
    assert_string_equal(c->token, "tok");
    assert_string_equal(c->project_id, "abc");
    assert_int_equal(c->heartbeat_ms, 20000);
    assert_int_equal(c->max_pods, 20);
    assert_int_equal(c->status_ms, 65000);
    assert_string_equal(c->node_ip, "10.0.0.9");
    assert_int_equal(c->n_labels, 2);
    assert_string_equal(c->labels[0].name, "zone");
    assert_string_equal(c->labels[1].name, "a\"b");
    assert_int_equal(c->n_taints, 1);
    assert_string_equal(c->taints[0].key, "t");
    assert_null(c->ca_file); /* not there yet: the node fetches its own */
    assert_int_equal(c->retry_min_ms, 200);
    assert_int_equal(c->retry_max_ms, 90000);
    assert_int_equal(c->stray_ms, 120000);
    assert_int_equal(c->flags, KE_NODE_TWIN_STRICT | KE_NODE_TWIN_OLD_TOPICS);
    assert_string_equal(c->data, "/d");
    assert_string_equal(c->runtime, "process");
    assert_string_equal(c->process_allow[0], "/bin/sleep");
    assert_int_equal(c->n_host_path_allow, 2);
    assert_string_equal(c->host_path_allow[1], "/dev/ttyS0");
    assert_int_equal(c->dialect, KE_DIALECT_1_15);
    assert_string_equal(unknown, "modules.surprise:26 libkubeedge.typo:33 ");
    ke_node_settings_free(s);

    assert_int_equal(read_text(&env,
                               "apiVersion: edgecore.config.kubeedge.io/v1alpha1\nkind: EdgeCore\n"
                               "modules:\n  edged:\n    hostnameOverride: old\n"
                               "    nodeStatusUpdateFrequency: 10\n    runtimeType: docker\n"
                               "    interfaceName: eth0\n",
                               &s),
                     0);
    assert_string_equal(ke_node_settings_config(s)->name, "old");
    assert_int_equal(ke_node_settings_config(s)->status_ms, 10000);
    assert_string_equal(unknown, "");
    ke_node_settings_free(s);
    test_env_fini(&env);
}

static void refuses(void **state)
{
    static const struct {
        const char *yaml, *words;
        int code;
    } cases[] = {
        {"modules: [\n", "edgecore.yaml", KE_EPARSE},
        {"- 1\n", "is not one YAML map", KE_EPARSE},
        {"modules:\n  edgeHub:\n    heartbeat: soon\n", ":3: modules.edgeHub.heartbeat", KE_EINVAL},
        {"modules:\n  edgeHub:\n    websocket:\n      server: nowhere\n",
         ":4: modules.edgeHub.websocket.server is not HOST:PORT", KE_EINVAL},
        {"modules:\n  edged:\n    nodeLabels: [a]\n", ":3: modules.edged.nodeLabels", KE_EINVAL},
        {"libkubeedge:\n  dialect: \"3\"\n", ":2: libkubeedge.dialect", KE_EINVAL},
        {"modules: {edged: 5}\n", "edgecore.yaml:1: modules.edged is not a map", KE_EINVAL},
        {"modules:\n  edged: [a]\n", "edgecore.yaml:2: modules.edged is not a map", KE_EINVAL},
        {"\nmodules: all\n", "edgecore.yaml:2: modules is not a map", KE_EINVAL},
        {"libkubeedge: process\n", "edgecore.yaml:1: libkubeedge is not a map", KE_EINVAL},
        {"modules:\n  edgeHub:\n    websocket: ws://x\n",
         ":3: modules.edgeHub.websocket is not a map", KE_EINVAL},
        {"modules:\n  edgeHub:\n    heartbeat: {a: 1}\n", ":3: modules.edgeHub.heartbeat",
         KE_EINVAL},
        {"libkubeedge:\n  data: {a: 1}\n", ":2: libkubeedge.data is not a string", KE_EINVAL},
    };
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_node_settings *s = NULL;
        int r = read_text(&env, cases[i].yaml, &s);
        if (r != cases[i].code || !strstr(ke_ctx_error(env.ctx), cases[i].words))
            fail_msg("case %zu: %d %s", i, r, ke_ctx_error(env.ctx));
    }
    struct ke_node_settings *s = NULL;
    /* a key without a value is as good as absent */
    assert_int_equal(read_text(&env, "modules:\n  edged:\n  edgeHub: {heartbeat: 5}\n", &s), 0);
    assert_int_equal(ke_node_settings_config(s)->heartbeat_ms, 5000);
    assert_string_equal(unknown, "");
    ke_node_settings_free(s);
    s = NULL;
    assert_int_equal(ke_node_settings_read(&s, env.ctx, "/nowhere/x.yaml", NULL, NULL), KE_ENOTFOUND);
    assert_int_equal(ke_node_settings_read(&s, env.ctx, "/tmp", NULL, NULL), KE_EINVAL);
    assert_non_null(strstr(ke_ctx_error(env.ctx), "/tmp: it is a folder, not a file"));
    test_env_fini(&env);
}

/* Upstream's modes and defaults; TLS files count only with TLS. */
static void event_bus(void **state)
{
    static const struct {
        const char *yaml;
        uint32_t mqtt;
        const char *listen, *url, *client, *ca;
        uint32_t flags, qos, queue;
    } cases[] = {
        {"modules: {edged: {}}", KE_NODE_MQTT_NONE, NULL, NULL, NULL, NULL, 0, 0, 0},
        {"modules: {eventBus: {mqttMode: 0, mqttServerInternal: \"tcp://127.0.0.1:1884\", "
         "mqttQOS: 1, mqttSessionQueueSize: 100}}",
         KE_NODE_MQTT_INTERNAL, "127.0.0.1:1884", NULL, NULL, NULL, 0, 1, 100},
        {"modules: {eventBus: {mqttMode: 1, mqttServerExternal: \"tcp://10.0.0.1:1883\", "
         "mqttSubClientID: s, mqttPubClientID: p}}",
         KE_NODE_MQTT_BOTH, NULL, "tcp://10.0.0.1:1883", "s", NULL, 0, 0, 0},
        {"modules: {eventBus: {enable: true, eventBusTLS: {enable: false, tlsMqttCAFile: /ca}, "
         "mqttUsername: \"\", mqttServerInternal: \"tcp://localhost:1884\"}}",
         KE_NODE_MQTT_EXTERNAL, "127.0.0.1:1884", NULL, NULL, NULL, 0, 0, 0},
        {"modules: {eventBus: {eventBusTLS: {enable: true, tlsMqttCAFile: /ca}, mqttPubClientID: p, "
         "mqttMode: 2}}\nlibkubeedge: {mqttKeepSession: true, mqttQueue: 7}",
         KE_NODE_MQTT_EXTERNAL, NULL, NULL, "p", "/ca",
         KE_EVENTBUS_TLS | KE_EVENTBUS_KEEP_SESSION, 0, 7},
        {"kind: EdgeCore\nmodules: {edged: {}}", KE_NODE_MQTT_EXTERNAL, NULL, NULL, NULL, NULL, 0, 0, 0},
        {"kind: EdgeCore", KE_NODE_MQTT_EXTERNAL, NULL, NULL, NULL, NULL, 0, 0, 0},
        {"kind: EdgeCore\nmodules: {eventBus: {enable: false}}", KE_NODE_MQTT_NONE, NULL, NULL, NULL,
         NULL, 0, 0, 0},
        {"kind: EdgeCore\nmodules: {eventBus: {mqttMode: 0}}", KE_NODE_MQTT_INTERNAL, NULL, NULL, NULL,
         NULL, 0, 0, 0},
        {"kind: Other", KE_NODE_MQTT_NONE, NULL, NULL, NULL, NULL, 0, 0, 0},
        {"modules: {eventBus: {enable: false, mqttMode: 1}}", KE_NODE_MQTT_NONE, NULL, NULL, NULL, NULL,
         0, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct test_env env;
        struct ke_node_settings *s = NULL;
        test_env_init(&env, 0);
        assert_int_equal(read_text(&env, cases[i].yaml, &s), 0);
        const struct ke_node_config *c = ke_node_settings_config(s);
        print_message("case %zu\n", i);
        assert_string_equal(unknown, "");
        assert_int_equal(c->mqtt, cases[i].mqtt);
        assert_string_equal(c->mqtt_listen ? c->mqtt_listen : "", cases[i].listen ? cases[i].listen : "");
        assert_string_equal(c->mqtt_url ? c->mqtt_url : "", cases[i].url ? cases[i].url : "");
        assert_string_equal(c->mqtt_client_id ? c->mqtt_client_id : "",
                            cases[i].client ? cases[i].client : "");
        assert_string_equal(c->mqtt_ca_file ? c->mqtt_ca_file : "", cases[i].ca ? cases[i].ca : "");
        assert_int_equal(c->mqtt_flags, cases[i].flags);
        assert_int_equal(c->mqtt_qos, cases[i].qos);
        assert_int_equal(c->mqtt_queue, cases[i].queue);
        ke_node_settings_free(s);
        test_env_fini(&env);
    }
}

static void refuses_a_bad_event_bus(void **state)
{
    static const char *const bad[] = {
        "modules: {eventBus: {mqttMode: 3}}",
        "modules: {eventBus: {enable: 1}}",
        "modules: {eventBus: {mqttQOS: 3}}",
        "modules: {eventBus: {mqttServerInternal: nowhere}}",
        "modules: {eventBus: {eventBusTLS: {enable: \"yes\"}}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct test_env env;
        struct ke_node_settings *s = NULL;
        test_env_init(&env, 0);
        assert_int_equal(read_text(&env, bad[i], &s), KE_EINVAL);
        assert_non_null(strstr(ke_ctx_error(env.ctx), "modules.eventBus."));
        test_env_fini(&env);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_both_versions),
        cmocka_unit_test(refuses),
        cmocka_unit_test(event_bus),
        cmocka_unit_test(refuses_a_bad_event_bus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
