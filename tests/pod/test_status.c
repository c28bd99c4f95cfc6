/* SPDX-License-Identifier: Apache-2.0 */
/* PodStatus against what kubelets of KubeEdge 1.15, 1.23 and 1.4 put on the wire. */
#include "support/support.h"

#include <kubeedge/msg.h>

#include "pod/status.h"

#define T0 INT64_C(1795335528000) /* 2026-11-22T08:18:48Z */

static const struct kei_state_conf conf = {10000, 300000, 600000, 1000, 60000};

struct rig {
    struct test_alloc alloc;
    struct kei_arena arena;
    struct kei_podspec spec;
    struct kei_ct cts[3];
    struct kei_pod_state st;
    struct kei_conds conds;
    struct kei_status_env env;
    struct ke_buf out;
};

static void rig_init(struct rig *r, const char *pod)
{
    memset(r, 0, sizeof *r);
    test_alloc_init(&r->alloc);
    kei_arena_init(&r->arena, &r->alloc.table, 0);
    kei_buf_init(&r->out, &r->alloc.table);
    assert_int_equal(kei_podspec_read(&r->spec, kei_str(pod), &r->arena, NULL), 0);
    r->st.cts = r->cts;
    r->st.n = r->spec.n_containers;
    r->st.restart = r->spec.restart;
    r->env = (struct kei_status_env){.dialect = KE_DIALECT_1_15,
                                     .runtime = "process",
                                     .host_ip = "127.0.0.1",
                                     .pod_ip = "127.0.0.1",
                                     .start_ms = T0,
                                     .mono = 1000,
                                     .real = T0,
                                     .sandbox_ready = true};
}

static void rig_fini(struct rig *r)
{
    ke_buf_free(&r->out);
    kei_arena_free(&r->arena);
    assert_int_equal(test_alloc_live(&r->alloc), 0);
}

static const char *status(struct rig *r)
{
    kei_buf_clear(&r->out);
    kei_status_write(&r->out, &r->spec, &r->st, &r->conds, &r->env);
    assert_true(kei_buf_ok(&r->out));
    return r->out.p;
}

static void expect(struct rig *r, const char *want)
{
    const char *have = status(r);
    if (!kei_json_same(kei_str(have), kei_str(want)))
        fail_msg("\nhave %s\nwant %s", have, want);
}

static void later(struct rig *r, int64_t ms)
{
    r->env.mono += ms;
    r->env.real += ms;
}

static void start(struct rig *r, size_t i, const char *id)
{
    kei_ct_created(&r->cts[i], kei_ct_next_attempt(&r->cts[i]), id);
    snprintf(r->cts[i].image_id, KEI_ID_MAX, "sha256:e9");
    kei_ct_started(&r->cts[i], r->env.mono, r->env.real);
}

static void end(struct rig *r, size_t i, int code, const char *reason)
{
    struct kei_ct_end e = {.valid = true, .exit_code = code, .finished_ms = r->env.real};
    snprintf(e.reason, sizeof e.reason, "%s", reason);
    kei_ct_exited(&r->cts[i], &e, r->env.mono, &conf);
}

#define POD(more, policy)                                                                          \
    "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"u-1\"},\"spec\":{"        \
    "\"restartPolicy\":\"" policy                                                                  \
    "\",\"containers\":[{\"name\":\"main\",\"image\":\"img:1\"}" more                              \
    "]},\"status\":{\"phase\":\"Pending\",\"qosClass\":\"BestEffort\"}}"

#define COND(type, value, time, more)                                                              \
    "{\"type\":\"" type "\",\"status\":\"" value                                                   \
    "\",\"lastProbeTime\":null,\"lastTransitionTime\":\"" time "\"" more "}"
#define UNREADY                                                                                    \
    ",\"reason\":\"ContainersNotReady\",\"message\":\"containers with unready status: [main]\""

static void waiting_then_running(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, POD("", "Always"));
    expect(
        &r,
        "{\"phase\":\"Pending\",\"conditions\":[" COND(
            "Initialized", "True", "2026-11-22T08:18:48Z",
            "") "," COND("Ready", "False", "2026-11-22T08:18:48Z",
                         UNREADY) "," COND("ContainersReady", "False", "2026-11-22T08:18:48Z",
                                           UNREADY) "," COND("PodScheduled", "True",
                                                             "2026-11-22T08:18:48Z",
                                                             "") "],"
                                                                 "\"hostIP\":\"127.0.0.1\","
                                                                 "\"podIP\":\"127.0.0.1\","
                                                                 "\"podIPs\":[{\"ip\":\"127.0.0."
                                                                 "1\"}],"
                                                                 "\"startTime\":\"2026-11-22T08:18:"
                                                                 "48Z\","
                                                                 "\"containerStatuses\":[{\"name\":"
                                                                 "\"main\",\"state\":{\"waiting\":{"
                                                                 "\"reason\":\"ContainerCreating\"}"
                                                                 "},"
                                                                 "\"lastState\":{},\"ready\":false,"
                                                                 "\"restartCount\":0,\"image\":"
                                                                 "\"img:1\",\"imageID\":\"\","
                                                                 "\"started\":false}],"
                                                                 "\"qosClass\":\"BestEffort\"}");
    later(&r, 2000);
    start(&r, 0, "c1");
    expect(
        &r,
        "{\"phase\":\"Running\",\"conditions\":[" COND(
            "Initialized", "True", "2026-11-22T08:18:48Z",
            "") "," COND("Ready", "True", "2026-11-22T08:18:50Z",
                         "") "," COND("ContainersReady", "True", "2026-11-22T08:18:50Z",
                                      "") "," COND("PodScheduled", "True", "2026-11-22T08:18:48Z",
                                                   "") "],"
                                                       "\"hostIP\":\"127.0.0.1\",\"podIP\":\"127.0."
                                                       "0.1\",\"podIPs\":[{\"ip\":\"127.0.0.1\"}],"
                                                       "\"startTime\":\"2026-11-22T08:18:48Z\","
                                                       "\"containerStatuses\":[{\"name\":\"main\","
                                                       "\"state\":{\"running\":{\"startedAt\":"
                                                       "\"2026-11-22T08:18:50Z\"}},\"lastState\":{}"
                                                       ","
                                                       "\"ready\":true,\"restartCount\":0,"
                                                       "\"image\":\"img:1\",\"imageID\":\"sha256:"
                                                       "e9\","
                                                       "\"containerID\":\"process://"
                                                       "c1\",\"started\":true}],\"qosClass\":"
                                                       "\"BestEffort\"}");
    rig_fini(&r);
}

/* KubeEdge 1.15, 08-container-crash */
static void crash_and_restart(void **state)
{
    (void)state;
    struct rig r;
    struct ke_str v;
    rig_init(&r, POD("", "Always"));
    start(&r, 0, "c1");
    later(&r, 12000);
    end(&r, 0, 137, "Error");
    assert_true(kei_json_get(kei_str(status(&r)), "containerStatuses", &v));
    assert_true(kei_json_same(
        v,
        kei_str("[{\"containerID\":\"process://c1\",\"image\":\"img:1\",\"imageID\":\"sha256:e9\","
                "\"lastState\":{},\"name\":\"main\",\"ready\":false,\"restartCount\":0,\"started\":"
                "false,"
                "\"state\":{\"terminated\":{\"containerID\":\"process://c1\",\"exitCode\":137,"
                "\"finishedAt\":\"2026-11-22T08:19:00Z\",\"reason\":\"Error\",\"startedAt\":\"2026-"
                "11-22T08:18:48Z\"}}}]")));
    later(&r, 1000);
    start(&r, 0, "c2");
    assert_true(kei_json_get(kei_str(status(&r)), "containerStatuses", &v));
    assert_true(kei_json_same(
        v, kei_str("[{\"containerID\":\"process://"
                   "c2\",\"image\":\"img:1\",\"imageID\":\"sha256:e9\",\"lastState\":"
                   "{\"terminated\":{\"containerID\":\"process://c1\",\"exitCode\":137,"
                   "\"finishedAt\":\"2026-11-22T08:19:00Z\",\"reason\":\"Error\",\"startedAt\":"
                   "\"2026-11-22T08:18:48Z\"}},"
                   "\"name\":\"main\",\"ready\":true,\"restartCount\":1,\"started\":true,"
                   "\"state\":{\"running\":{\"startedAt\":\"2026-11-22T08:19:01Z\"}}}]")));
    later(&r, 1000);
    end(&r, 0, 1, "Error"); /* again: now there is a pause */
    assert_true(kei_json_get(kei_str(status(&r)), "containerStatuses", &v));
    assert_non_null(strstr(
        status(&r), "\"waiting\":{\"reason\":\"CrashLoopBackOff\",\"message\":\"back-off 10s "
                    "restarting failed container=main pod=web_default(u-1)\"}"));
    assert_non_null(strstr(status(&r), "\"lastState\":{\"terminated\":{\"exitCode\":1,"));
    assert_non_null(strstr(status(&r), "\"phase\":\"Running\""));
    rig_fini(&r);
}

/* KubeEdge 1.15, 15-job-completed: the two patches in one */
static void job_completed(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, POD("", "Never"));
    status(&r);
    start(&r, 0, "c1");
    end(&r, 0, 0, "Completed");
    kei_state_settle(&r.st);
    struct ke_str v;
    assert_true(kei_json_get(kei_str(status(&r)), "conditions", &v));
    assert_true(kei_json_same(
        v,
        kei_str("[" COND("Initialized", "True", "2026-11-22T08:18:48Z", ",\"reason\":\"PodCompleted\"") "," COND(
            "Ready", "False", "2026-11-22T08:18:48Z",
            ",\"reason\":\"PodCompleted\"") "," COND("ContainersReady", "False",
                                                     "2026-11-22T08:18:48Z",
                                                     ",\"reason\":\"PodCompleted\"") "," COND("PodS"
                                                                                              "ched"
                                                                                              "ule"
                                                                                              "d",
                                                                                              "Tru"
                                                                                              "e",
                                                                                              "2026"
                                                                                              "-11-"
                                                                                              "22T0"
                                                                                              "8:"
                                                                                              "18:"
                                                                                              "48Z",
                                                                                              "") "]")));
    assert_non_null(strstr(status(&r), "{\"phase\":\"Succeeded\""));
    rig_fini(&r);
}

/* What a killed pod says depends on the cloud that has to delete it. */
static void deleted_in_each_dialect(void **state)
{
    (void)state;
    static const struct {
        uint32_t dialect;
        const char *phase;
    } cases[] = {{KE_DIALECT_1_15, "\"phase\":\"Running\""},
                 {KE_DIALECT_AUTO, "\"phase\":\"Running\""},
                 {KE_DIALECT_1_4, "\"phase\":\"Succeeded\""},
                 {KE_DIALECT_1_23, "\"phase\":\"Failed\""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        rig_init(&r, POD("", "Always"));
        r.env.dialect = cases[i].dialect;
        start(&r, 0, "c1");
        kei_state_delete(&r.st, 2000, r.env.mono);
        assert_non_null(strstr(status(&r), "\"phase\":\"Running\"")); /* still runs */
        end(&r, 0, 137, "Error");
        assert_non_null(strstr(status(&r), cases[i].phase));
        assert_non_null(strstr(r.out.p, "\"exitCode\":137"));
        bool newest = cases[i].dialect == KE_DIALECT_1_23;
        assert_int_equal(strstr(r.out.p, "PodReadyToStartContainers") != NULL, newest);
        assert_int_equal(strstr(r.out.p, "\"hostIPs\":[{\"ip\":\"127.0.0.1\"}]") != NULL, newest);
        assert_int_equal(strstr(r.out.p, "PodFailed") != NULL, newest);
        rig_fini(&r);
    }
}

static void several_containers_by_name(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, POD(",{\"name\":\"zeta\",\"image\":\"z\"},{\"name\":\"alpha\",\"image\":\"a\"}",
                     "Always"));
    start(&r, 1, "z1");
    const char *s = status(&r);
    assert_true(strstr(s, "\"name\":\"alpha\"") < strstr(s, "\"name\":\"main\""));
    assert_true(strstr(s, "\"name\":\"main\"") < strstr(s, "\"name\":\"zeta\""));
    assert_non_null(strstr(s, "containers with unready status: [main alpha]"));
    assert_non_null(strstr(s, "\"phase\":\"Pending\""));
    rig_fini(&r);
}

static void foreign_conditions_and_gates(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r,
             "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"u-1\"},\"spec\":{"
             "\"readinessGates\":[{\"conditionType\":\"x/gate\"}],"
             "\"containers\":[{\"name\":\"main\",\"image\":\"i\"}]},\"status\":{\"conditions\":["
             "{\"type\":\"Ready\",\"status\":\"True\"},{\"type\":\"x/"
             "gate\",\"status\":\"False\",\"n\":12345678901234567890}]}}");
    start(&r, 0, "c1");
    const char *s = status(&r);
    assert_non_null(
        strstr(s, "{\"type\":\"x/gate\",\"status\":\"False\",\"n\":12345678901234567890}"));
    assert_non_null(strstr(s, "\"reason\":\"ReadinessGatesNotReady\""));
    assert_non_null(strstr(s, "\"type\":\"ContainersReady\",\"status\":\"True\""));
    rig_fini(&r);
}

static void refused_pod(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, POD("", "Always"));
    kei_state_fail(&r.st, "UnsupportedProbe", "no probes", 0, 0);
    const char *s = status(&r);
    assert_non_null(strstr(s, "\"message\":\"no probes\",\"reason\":\"UnsupportedProbe\""));
    assert_non_null(strstr(s, "\"phase\":\"Failed\""));
    assert_null(strstr(s, "containerStatuses"));
    rig_fini(&r);
}

/* What is read back is what was written: times, attempts and ends survive a restart. */
static void read_back(void **state)
{
    (void)state;
    struct rig r;
    struct kei_conds conds = {{0}, {0}};
    struct kei_ct ct = {0};
    int64_t start_ms = 0;
    bool running = false;
    rig_init(&r, POD("", "Always"));
    start(&r, 0, "a_main_0");
    later(&r, 5000);
    end(&r, 0, 3, "Error");
    start(&r, 0, "a_main_1");
    status(&r);
    struct ke_str s = kei_buf_str(&r.out);
    kei_status_read(s, &conds, &start_ms);
    assert_int_equal(start_ms, T0);
    for (int i = KEI_COND_INITIALIZED; i < KEI_CONDS; i++) {
        assert_int_equal(conds.value[i], r.conds.value[i]);
        assert_int_equal(conds.since_ms[i], r.conds.since_ms[i]);
    }
    assert_int_equal(kei_status_phase(s), KEI_PHASE_RUNNING);
    assert_true(kei_status_container(s, "main", &ct, &running));
    assert_true(running);
    assert_int_equal(ct.attempt, 1);
    assert_string_equal(ct.id, "a_main_1");
    assert_int_equal(ct.last.exit_code, 3);
    assert_int_equal(ct.last.finished_ms, T0 + 5000);
    assert_string_equal(ct.last.id, "a_main_0");
    assert_false(kei_status_container(s, "other", &ct, &running));
    rig_fini(&r);
}

static void report_form(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, POD("", "Always"));
    kei_status_report(&r.out, &r.spec, kei_str("{\"phase\":\"Running\"}"));
    assert_string_equal(r.out.p,
                        "{\"UID\":\"u-1\",\"Name\":\"web\",\"Status\":{\"phase\":\"Running\"}}");
    rig_fini(&r);
}

static void memory_can_run_out(void **state)
{
    (void)state;
    for (size_t n = 1; n < 40; n++) {
        struct rig r;
        rig_init(&r, POD("", "Always"));
        start(&r, 0, "c1");
        test_alloc_fail_at(&r.alloc, n);
        kei_status_write(&r.out, &r.spec, &r.st, &r.conds, &r.env);
        test_alloc_fail_at(&r.alloc, 0);
        if (kei_buf_ok(&r.out)) /* whole, or marked */
            assert_int_equal(kei_json_check(kei_buf_str(&r.out), 0, NULL), 0);
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_then_running),
        cmocka_unit_test(crash_and_restart),
        cmocka_unit_test(job_completed),
        cmocka_unit_test(deleted_in_each_dialect),
        cmocka_unit_test(several_containers_by_name),
        cmocka_unit_test(foreign_conditions_and_gates),
        cmocka_unit_test(refused_pod),
        cmocka_unit_test(read_back),
        cmocka_unit_test(report_form),
        cmocka_unit_test(memory_can_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
