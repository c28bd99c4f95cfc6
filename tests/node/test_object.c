/* SPDX-License-Identifier: Apache-2.0 */
/* The Node object and its conditions; the configuration's rules. */
#include "support/support.h"

#include "base/json.h"
#include "node/config.h"
#include "node/object.h"

static struct ke_env labels[] = {{"place", "hall"}, {"kubernetes.io/arch", "wasm"}};
static struct ke_taint taints[] = {{"only", "gpu", "NoSchedule"}};
static struct ke_env resources[] = {{"vendor.example/gpu", "2"}};

static struct ke_node_config config = {
    .size = sizeof config, .name = "edge-1", .data = "/tmp", .labels = labels, .n_labels = 2,
    .taints = taints, .n_taints = 1, .resources = resources, .n_resources = 1, .max_pods = 110};

static struct kei_sysinfo sys = {.cpus = 4, .memory_kib = 1024000, .memory_available_kib = 500000,
                                 .disk_bytes = 10240000, .disk_available_bytes = 9000000,
                                 .arch = "arm64", .kernel = "6.1", .os_image = "Test OS"};

static struct kei_node_facts facts(void)
{
    return (struct kei_node_facts){.config = &config, .sys = &sys, .address = "10.0.0.7",
                                   .runtime_name = "process", .runtime_version = "1",
                                   .kubelet_version = "v1.26.15-kubeedge-v1.15.4",
                                   .kube_proxy_version = "v1.26.15", .runtime_ready = true};
}

static void expect(struct ke_str json, const char *path, const char *value)
{
    struct ke_str v = {0};
    if (!kei_json_path(json, path, &v) || !kei_str_is(v, value))
        fail_msg("%s is %.*s, not %s", path, (int)v.n, v.p ? v.p : "", value);
}

static void node_object(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    struct ke_buf out = {0};
    struct kei_node_facts f = facts();
    struct ke_str v, list, key, item;
    kei_buf_init(&out, kei_ctx_alloc(env.ctx));
    kei_node_conditions(&f, 1700000000000);
    kei_node_object_write(&out, &f, 1700000010000);
    struct ke_str json = kei_buf_str(&out);
    assert_int_equal(kei_json_check(json, 0, NULL), 0);
    expect(json, "metadata.name", "\"edge-1\"");
    assert_true(kei_json_path(json, "metadata.labels", &list));
    assert_true(kei_json_get(list, "node-role.kubernetes.io/edge", &v) && kei_str_is(v, "\"\""));
    assert_true(kei_json_get(list, "kubernetes.io/arch", &v) && kei_str_is(v, "\"wasm\""));
    assert_true(kei_json_get(list, "place", &v) && kei_str_is(v, "\"hall\""));
    expect(json, "status.capacity.cpu", "\"4\"");
    expect(json, "status.capacity.memory", "\"1024000Ki\"");
    expect(json, "status.allocatable.memory", "\"921600Ki\"");
    expect(json, "status.capacity.pods", "\"110\"");
    expect(json, "status.nodeInfo.architecture", "\"arm64\"");
    expect(json, "status.nodeInfo.containerRuntimeVersion", "\"process://1\"");
    assert_true(kei_json_path(json, "status.capacity", &list));
    assert_true(kei_json_get(list, "vendor.example/gpu", &v) && kei_str_is(v, "\"2\""));
    assert_true(kei_json_path(json, "spec.taints", &list));
    size_t it = 0;
    assert_true(kei_json_next(list, &it, &key, &item));
    expect(item, "effect", "\"NoSchedule\"");
    /* Ready is last, as dashboards expect */
    assert_true(kei_json_path(json, "status.conditions", &list));
    int n = 0;
    for (it = 0; kei_json_next(list, &it, &key, &item); n++)
        v = item;
    assert_int_equal(n, 4);
    expect(v, "type", "\"Ready\"");
    expect(v, "status", "\"True\"");
    expect(v, "reason", "\"EdgeReady\"");
    expect(v, "lastHeartbeatTime", "\"2023-11-14T22:13:30Z\"");
    expect(v, "lastTransitionTime", "\"2023-11-14T22:13:20Z\"");
    ke_buf_free(&out);
    test_env_fini(&env);
}

static void transition_only_on_flips(void **state)
{
    (void)state;
    struct kei_node_facts f = facts();
    kei_node_conditions(&f, 1000);
    kei_node_conditions(&f, 2000);
    assert_int_equal(f.conditions[KEI_COND_READY].changed_ms, 1000);
    f.runtime_ready = false;
    f.runtime_text = "no socket";
    kei_node_conditions(&f, 3000);
    assert_false(f.conditions[KEI_COND_READY].status);
    assert_string_equal(f.conditions[KEI_COND_READY].reason, "KubeletNotReady");
    assert_string_equal(f.conditions[KEI_COND_READY].message, "no socket");
    assert_int_equal(f.conditions[KEI_COND_READY].changed_ms, 3000);
    assert_int_equal(f.conditions[KEI_COND_MEMORY].changed_ms, 1000);
}

static void pressure(void **state)
{
    (void)state;
    struct kei_node_facts f = facts();
    struct kei_sysinfo low = sys;
    low.memory_available_kib = 1000;
    low.disk_available_bytes = 1000;
    low.pids_max = 100;
    low.pids_used = 99;
    f.sys = &low;
    kei_node_conditions(&f, 1000);
    assert_true(f.conditions[KEI_COND_MEMORY].status);
    assert_true(f.conditions[KEI_COND_DISK].status);
    assert_true(f.conditions[KEI_COND_PID].status);
    assert_true(f.conditions[KEI_COND_READY].status);
    assert_string_equal(f.conditions[KEI_COND_DISK].reason, "KubeletHasDiskPressure");
}

static void real_machine(void **state)
{
    (void)state;
    struct kei_sysinfo s;
    char address[64];
    kei_sysinfo_read(&s, "/tmp");
    assert_true(s.cpus > 0);
    assert_true(s.memory_kib > 1024);
    assert_true(s.memory_available_kib > 0 && s.memory_available_kib <= s.memory_kib);
    assert_true(s.disk_bytes > 0);
    assert_true(s.arch[0] && s.kernel[0]);
    assert_true(kei_sysinfo_address(address, sizeof address, "127.0.0.1"));
    assert_string_equal(address, "127.0.0.1");
}

static void config_rules(void **state)
{
    const struct {
        struct ke_node_config c;
        const char *words;
    } cases[] = {
        {{.name = NULL, .data = "/d"}, "name is missing"},
        {{.name = "Upper", .data = "/d"}, "no node name"},
        {{.name = "n", .data = NULL}, "data is missing"},
        {{.name = "n", .data = "/d", .runtime = "x"}, "not known"},
        {{.name = "n", .data = "/d", .tunnel_port = 70000}, "port"},
        {{.name = "n", .data = "/d", .labels = (struct ke_env[]){{"a b", "c"}}, .n_labels = 1}, "label"},
        {{.name = "n", .data = "/d", .labels = (struct ke_env[]){{"a", "c/d"}}, .n_labels = 1}, "label"},
        {{.name = "n", .data = "/d", .taints = (struct ke_taint[]){{"a", "", "Never"}}, .n_taints = 1},
         "taint"},
        {{.name = "n", .data = "/d", .resources = (struct ke_env[]){{"gpu", "1"}}, .n_resources = 1},
         "domain/name"},
        {{.name = "n", .data = "/d", .host_path_allow = (const char *[]){"srv"}, .n_host_path_allow = 1},
         "\"srv\" is not an absolute path"},
        {{.name = "n", .data = "/d", .process_allow = (const char *[]){"sleep"}, .n_process_allow = 1},
         "absolute"},
    };
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_node_config c = cases[i].c, to;
        struct kei_arena a;
        c.size = sizeof c;
        kei_arena_init(&a, kei_ctx_alloc(env.ctx), 0);
        int r = kei_node_config_copy(&to, &a, &c, &err);
        kei_arena_free(&a);
        if (r != KE_EINVAL || !strstr(err.text, cases[i].words))
            fail_msg("case %zu: %d %s", i, r, err.text);
    }
    test_env_fini(&env);
}

static void config_copy_survives_allocation_failures(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct test_env env;
        struct ke_error err = KE_ERROR_INIT;
        struct ke_node_config to;
        struct kei_arena a;
        test_env_init(&env, 0);
        kei_arena_init(&a, kei_ctx_alloc(env.ctx), 0);
        test_alloc_fail_at(&env.alloc, n);
        int r = kei_node_config_copy(&to, &a, &config, &err);
        test_alloc_fail_at(&env.alloc, 0);
        kei_arena_free(&a);
        test_env_fini(&env);
        assert_true(r == 0 || r == KE_ENOMEM);
        if (r == 0)
            break;
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_object),  cmocka_unit_test(transition_only_on_flips),
        cmocka_unit_test(pressure),     cmocka_unit_test(real_machine),
        cmocka_unit_test(config_rules), cmocka_unit_test(config_copy_survives_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
