/* SPDX-License-Identifier: Apache-2.0 */
/* The engine with a fake runtime: pods run, wait for what they need, follow changes, tell status.
 */
#include "rig.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

static void runs_a_pod_and_tells(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    assert_int_equal(r.settled, 1);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    struct fake_container *c = fake_find(&r.fake, "u-1", "main");
    assert_non_null(c);
    assert_int_equal(c->state, KE_CONTAINER_RUNNING);
    assert_string_equal(c->first_word, "/bin/x");
    char log[400];
    snprintf(log, sizeof log, "%s/logs/default_web_u-1/main/0.log", r.data);
    assert_string_equal(c->log, log);
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    assert_true(rig_has(&r, "default/web", "\"containerID\":\"fake://fake-1\""));
    assert_true(rig_has(&r, "default/web", "\"hostIP\":\"192.0.2.1\",\"podIP\":\"192.0.2.1\""));
    assert_true(rig_has(&r, "default/web", "{\"UID\":\"u-1\",\"Name\":\"web\",\"Status\":{"));
    assert_string_equal(r.last_phase, "Running");
    struct kei_runtime_state rs;
    kei_pods_runtime(r.pods, &rs);
    assert_string_equal(rs.name, "fake");
    assert_true(rs.ready);
    uint32_t pods, running;
    kei_pods_count(r.pods, &pods, &running);
    assert_int_equal(pods, 1);
    assert_int_equal(running, 1);
    rig_fini(&r);
}

/* Each status comes back from the cloud as an update of the pod; it must change nothing. */
static void an_echo_changes_nothing(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    int reports = r.n_reports, creates = r.fake.creates;
    rig_send(&r, "update", "default/pod/web",
             "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"u-1\","
             "\"resourceVersion\":\"9\"},"
             "\"spec\":{\"nodeName\":\"edge-1\"," RIG_MAIN
             "},\"status\":{\"phase\":\"Pending\",\"conditions\":"
             "[{\"type\":\"Ready\",\"status\":\"False\",\"lastTransitionTime\":\"2020-01-01T00:00:"
             "00Z\"}]}}");
    rig_send(&r, "update", "default/pod/web",
             rig_pod(pod, "web", "u-1", ",\"labels\":{\"tier\":\"x\"}", RIG_MAIN));
    assert_int_equal(r.n_reports, reports);
    assert_int_equal(r.fake.creates, creates);
    assert_int_equal(r.fake.stops, 0);
    rig_fini(&r);
}

static void another_image_restarts(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    rig_send(
        &r, "update", "default/pod/web",
        rig_pod(pod, "web", "u-1", "", "\"containers\":[{\"name\":\"main\",\"image\":\"img:2\"}]"));
    struct fake_container *c = fake_find(&r.fake, "u-1", "main");
    assert_string_equal(c->image, "img:2");
    assert_int_equal(c->attempt, 1);
    assert_int_equal(c->state, KE_CONTAINER_RUNNING);
    assert_int_equal(r.fake.most_live, 1);
    assert_true(rig_has(&r, "default/web", "\"restartCount\":1,\"image\":\"img:2\""));
    rig_fini(&r);
}

static void pods_of_other_nodes_are_ignored(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web",
             "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"u-1\"},\"spec\":{"
             "\"nodeName\":\"edge-2\"," RIG_MAIN "}}");
    assert_int_equal(r.fake.creates, 0);
    assert_int_equal(r.n_reports, 0);
    rig_fini(&r);
}

#define WITH_CONFIG                                                                                \
    "\"volumes\":[{\"name\":\"cfg\",\"configMap\":{\"name\":\"app\"}}],\"containers\":[{\"name\":" \
    "\"main\",\"image\":\"i\","                                                                    \
    "\"env\":[{\"name\":\"LEVEL\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"app\",\"key\":"   \
    "\"level\"}}},"                                                                                \
    "{\"name\":\"USER\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"sec\",\"key\":\"user\"}}},"    \
    "{\"name\":\"IP\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.podIP\"}}}],"            \
    "\"volumeMounts\":[{\"name\":\"cfg\",\"mountPath\":\"/cfg\"}]}]"

static void read_file(struct rig *r, const char *file, char *out, size_t n)
{
    char path[500];
    struct ke_buf b;
    kei_buf_init(&b, kei_alloc_malloc());
    snprintf(path, sizeof path, "%s/%s", r->data, file);
    out[0] = '\0';
    if (kei_file_read(ke_io_posix(), path, 1000, &b, NULL) == 0)
        snprintf(out, n, "%s", b.p ? b.p : "");
    ke_buf_free(&b);
}

static void objects_reach_the_container(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], text[100];
    rig_init(&r, 0);
    rig_object(&r, "default/configmap/app", "{\"data\":{\"level\":\"7\",\"greeting\":\"hello\"}}");
    rig_object(&r, "default/secret/sec", "{\"data\":{\"user\":\"YWxpY2U=\"}}");
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", WITH_CONFIG));
    struct fake_container *c = fake_find(&r.fake, "u-1", "main");
    assert_non_null(c);
    assert_string_equal(c->env, "LEVEL=7\nUSER=alice\nIP=192.0.2.1\n");
    char want[400];
    snprintf(want, sizeof want, "cfg:/cfg:%s/pods/u-1/volumes/kubernetes.io~configmap/cfg\n",
             r.data);
    assert_string_equal(c->mounts, want);
    read_file(&r, "pods/u-1/volumes/kubernetes.io~configmap/cfg/greeting", text, sizeof text);
    assert_string_equal(text, "hello");
    assert_int_equal(r.queries, 2); /* each object once */
    /* a change reaches the file without a restart */
    rig_object(&r, "default/configmap/app", "{\"data\":{\"level\":\"8\",\"greeting\":\"hi\"}}");
    rig_send(&r, "update", "default/configmap/app",
             "{\"data\":{\"level\":\"8\",\"greeting\":\"hi\"}}");
    read_file(&r, "pods/u-1/volumes/kubernetes.io~configmap/cfg/greeting", text, sizeof text);
    assert_string_equal(text, "hi");
    assert_int_equal(r.fake.creates, 1);
    assert_int_equal(r.queries, 2); /* from the store */
    /* a restart sees the new value, still without asking the cloud */
    fake_exit(&r.fake, c, 1);
    rig_settle(&r);
    c = fake_find(&r.fake, "u-1", "main");
    assert_int_equal(c->attempt, 1);
    assert_string_equal(c->env, "LEVEL=8\nUSER=alice\nIP=192.0.2.1\n");
    assert_int_equal(r.queries, 2);
    rig_fini(&r);
}

static void a_missing_object_delays_and_heals(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", WITH_CONFIG));
    assert_int_equal(r.fake.creates, 0);
    assert_true(rig_has(
        &r, "default/web",
        "\"waiting\":{\"reason\":\"ContainerCreating\",\"message\":\"MountVolume.SetUp failed "
        "for volume \\\"cfg\\\" : configmap \\\"app\\\" not found\"}"));
    int queries = r.queries;
    test_drive_ms(&r.env, 1500);
    assert_true(r.queries > queries); /* asked again after a pause */
    /* the volume can be made, the variable not */
    rig_send(&r, "insert", "default/configmap/app", "{\"data\":{\"level\":\"7\"}}");
    rig_object(&r, "default/configmap/app", "{\"data\":{\"level\":\"7\"}}");
    test_drive_ms(&r.env, 8000);
    assert_int_equal(r.fake.creates, 0);
    assert_true(rig_has(&r, "default/web",
                        "\"waiting\":{\"reason\":\"CreateContainerConfigError\",\"message\":"
                        "\"secret \\\"sec\\\" not found\"}"));
    rig_object(&r, "default/secret/sec", "{\"data\":{\"user\":\"eA==\"}}");
    rig_send(&r, "update", "default/secret/sec", "{\"data\":{\"user\":\"eA==\"}}"); /* at once */
    assert_int_equal(r.fake.starts, 1);
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    rig_fini(&r);
}

/* A cloud of 1.4 does not answer what it does not have. */
static void a_silent_cloud_is_told(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    r.dialect = KE_DIALECT_1_4;
    rig_object(&r, "default/configmap/app", NULL);
    r.objects[0].silent = true;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", WITH_CONFIG));
    assert_true(rig_has(&r, "default/web", "\"reason\":\"ContainerCreating\""));
    test_drive_ms(&r.env, 70000);
    assert_true(rig_has(&r, "default/web",
                        "configmap \\\"app\\\" is not known yet: no answer came in time"));
    rig_fini(&r);
}

#define WITH_TOKEN                                                                                 \
    "\"volumes\":[{\"name\":\"kube-api-access-x\",\"projected\":{\"defaultMode\":420,\"sources\":" \
    "["                                                                                            \
    "{\"serviceAccountToken\":{\"expirationSeconds\":3607,\"path\":\"token\"}},"                   \
    "{\"configMap\":{\"name\":\"kube-root-ca.crt\",\"items\":[{\"key\":\"ca.crt\",\"path\":\"ca."  \
    "crt\"}]}},"                                                                                   \
    "{\"downwardAPI\":{\"items\":[{\"path\":\"namespace\",\"fieldRef\":{\"apiVersion\":\"v1\","    \
    "\"fieldPath\":\"metadata.namespace\"}}]}}"                                                    \
    "]}}],\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"volumeMounts\":[{\"name\":\"kube-"  \
    "api-access-x\","                                                                              \
    "\"readOnly\":true,\"mountPath\":\"/var/run/secrets/kubernetes.io/serviceaccount\"}]}],"       \
    "\"serviceAccountName\":\"default\""
#define TOKEN_FILE "pods/u-1/volumes/kubernetes.io~projected/kube-api-access-x/token"

static void tokens_are_renewed_and_serve_offline(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], text[100];
    rig_init(&r, 0);
    rig_object(&r, "default/configmap/kube-root-ca.crt", "{\"data\":{\"ca.crt\":\"PEM\"}}");
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", WITH_TOKEN));
    assert_true(rig_has(&r, "default/web", "volume \\\"kube-api-access-x\\\" : token: "));
    assert_int_equal(r.fake.creates, 0);
    /* TEST_CLOCK_REAL_MS is 2026-12-01T00:00:00Z */
    rig_object(&r, "default/serviceaccounttoken/default",
               "{\"status\":{\"token\":\"one\",\"expirationTimestamp\":\"2026-12-01T01:00:00Z\"}}");
    test_drive_ms(&r.env, 3000);
    assert_int_equal(r.fake.starts, 1);
    read_file(&r, TOKEN_FILE, text, sizeof text);
    assert_string_equal(text, "one");
    rig_object(&r, "default/serviceaccounttoken/default",
               "{\"status\":{\"token\":\"two\",\"expirationTimestamp\":\"2026-12-01T02:00:00Z\"}}");
    test_drive_ms(&r.env, 40 * 60000);
    read_file(&r, TOKEN_FILE, text, sizeof text);
    assert_string_equal(text, "one");
    test_drive_ms(&r.env, 10 * 60000); /* four fifths of its hour are over */
    read_file(&r, TOKEN_FILE, text, sizeof text);
    assert_string_equal(text, "two");
    /* no token to be had: a restart does not wait for one */
    rig_object(&r, "default/serviceaccounttoken/default", NULL);
    fake_exit(&r.fake, fake_find(&r.fake, "u-1", "main"), 1);
    rig_settle(&r);
    assert_int_equal(r.fake.starts, 2);
    read_file(&r, TOKEN_FILE, text, sizeof text);
    assert_string_equal(text, "two");
    rig_fini(&r);
}

/* A ConfigMap that is deleted leaves the running pod alone; made anew it is found without a push.
 */
static void a_deleted_object_comes_back(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], text[100];
    static const char file[] = "pods/u-1/volumes/kubernetes.io~configmap/cfg/k";
    rig_init(&r, 0);
    rig_object(&r, "default/configmap/app", "{\"data\":{\"k\":\"1\"}}");
    rig_start(&r);
    rig_send(
        &r, "insert", "default/pod/web",
        rig_pod(pod, "web", "u-1", "",
                "\"volumes\":[{\"name\":\"cfg\",\"configMap\":{\"name\":\"app\"}}]," RIG_MAIN));
    assert_int_equal(r.fake.starts, 1);
    rig_object(&r, "default/configmap/app", NULL);
    rig_send(&r, "delete", "default/configmap/app",
             "{\"metadata\":{\"name\":\"app\",\"namespace\":\"default\"}}");
    read_file(&r, file, text, sizeof text);
    assert_string_equal(text, "1");
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    rig_object(&r, "default/configmap/app", "{\"data\":{\"k\":\"2\"}}");
    test_drive_ms(&r.env, 125000);
    read_file(&r, file, text, sizeof text);
    assert_string_equal(text, "2");
    assert_int_equal(r.fake.creates, 1);
    rig_fini(&r);
}

static void no_runtime_is_a_clear_reason(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    r.conf.runtime = NULL;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    assert_true(rig_has(&r, "default/web",
                        "\"waiting\":{\"reason\":\"RuntimeUnavailable\",\"message\":\"this node "
                        "has no container runtime\"}"));
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Pending\""));
    rig_fini(&r);
}

static void a_runtime_that_is_not_ready(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    r.fake.not_ready = true;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    assert_true(rig_has(
        &r, "default/web",
        "\"waiting\":{\"reason\":\"RuntimeNotReady\",\"message\":\"it is being repaired\"}"));
    r.fake.not_ready = false;
    test_drive_ms(&r.env, 11000);
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    rig_fini(&r);
}

/* One operation that hangs costs its own deadline and nothing else. */
static void a_hanging_vendor_costs_only_that(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    r.fake.hang_create = true;
    rig_send(&r, "insert", "default/pod/stuck", rig_pod(pod, "stuck", "u-1", "", RIG_MAIN));
    uint64_t op = r.fake.hung;
    r.fake.hang_create = false;
    rig_send(&r, "insert", "default/pod/fine", rig_pod(pod, "fine", "u-2", "", RIG_MAIN));
    assert_true(rig_has(&r, "default/fine", "\"phase\":\"Running\""));
    assert_null(fake_find(&r.fake, "u-1", "main"));
    test_drive_ms(&r.env, 60500);
    assert_true(rig_has(&r, "default/stuck",
                        "the runtime did not complete container_create within 60000 ms"));
    test_drive_ms(&r.env, 2000);
    assert_true(rig_has(&r, "default/stuck", "\"phase\":\"Running\""));
    assert_int_equal(fake_find(&r.fake, "u-1", "main")->attempt, 0); /* the same attempt again */
    assert_int_equal(ke_runtime_complete(r.fake.rt, op, 0, NULL), KE_ENOTFOUND);
    rig_fini(&r);
}

/* Nothing of an instance whose start hung may be left when the next one begins. */
static void a_hanging_start_is_ended_first(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    r.fake.hang_start = true;
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    r.fake.hang_start = false;
    test_drive_ms(&r.env, 61000);
    assert_non_null(strstr(r.fake.calls, "start u-1/main/0\nstop u-1/main/0\ncreate u-1/main/1\n"));
    assert_int_equal(r.fake.most_live, 1);
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    assert_true(rig_has(&r, "default/web", "\"exitCode\":128,\"reason\":\"StartError\""));
    rig_fini(&r);
}

static void sandboxes_and_pulls(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    fake_with_sandbox(&r.fake);
    fake_with_pull(&r.fake);
    r.fake.fail_pull = KE_ENOTFOUND;
    r.fake.fail_text = "no such image";
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web",
             rig_pod(pod, "web", "u-1", "",
                     "\"containers\":[{\"name\":\"main\",\"image\":\"img:1\",\"imagePullPolicy\":"
                     "\"Always\"}]"));
    assert_true(rig_has(&r, "default/web",
                        "\"waiting\":{\"reason\":\"ErrImagePull\",\"message\":\"no such image\"}"));
    test_drive_ms(&r.env, 1500);
    assert_true(rig_has(&r, "default/web", "\"waiting\":{\"reason\":\"ImagePullBackOff\""));
    r.fake.fail_pull = 0;
    test_drive_ms(&r.env, 5000);
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    assert_true(rig_has(&r, "default/web", "\"podIP\":\"10.1.2.3\""));
    assert_true(rig_has(&r, "default/web", "\"imageID\":\"sha256:pulled\""));
    assert_non_null(strstr(r.fake.calls, "sandbox u-1//0\npull img:1/Always/0\n"));
    assert_int_equal(r.fake.sandboxes, 1);
    rig_send(&r, "delete", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    assert_int_equal(r.fake.sandbox_stops, 1);
    rig_fini(&r);
}

static void more_pods_than_allowed(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    r.conf.max_pods = 2;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
    rig_send(&r, "insert", "default/pod/c", rig_pod(pod, "c", "u-3", "", RIG_MAIN));
    assert_int_equal(fake_live(&r.fake), 2);
    assert_true(rig_has(&r, "default/c", "\"reason\":\"OutOfpods\""));
    assert_true(rig_has(&r, "default/c", "requested: 1, used: 2, capacity: 2"));
    assert_true(rig_has(&r, "default/c", "\"phase\":\"Failed\""));
    rig_fini(&r);
}

static void active_deadline(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/job",
             rig_pod(pod, "job", "u-1", "",
                     "\"restartPolicy\":\"Never\",\"activeDeadlineSeconds\":30," RIG_MAIN));
    test_drive_ms(&r.env, 29000);
    assert_int_equal(fake_live(&r.fake), 1);
    test_drive_ms(&r.env, 2000);
    assert_int_equal(fake_live(&r.fake), 0);
    assert_true(rig_has(&r, "default/job", "\"reason\":\"DeadlineExceeded\""));
    assert_true(rig_has(&r, "default/job", "\"phase\":\"Failed\""));
    rig_fini(&r);
}

/* The same name, another uid: the old one ends before the new one begins. */
static void a_namesake_waits(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    r.fake.hang_stop = true;
    rig_send(&r, "update", "default/pod/web", rig_pod(pod, "web", "u-2", "", RIG_MAIN));
    assert_null(fake_find(&r.fake, "u-2", "main"));
    r.fake.hang_stop = false;
    test_drive_ms(&r.env, 70000); /* the stop is given up and repeated */
    assert_int_equal(fake_find(&r.fake, "u-2", "main")->state, KE_CONTAINER_RUNNING);
    assert_int_equal(fake_live(&r.fake), 1);
    assert_true(rig_has(&r, "default/web", "\"UID\":\"u-2\""));
    rig_fini(&r);
}

static void a_stray_is_ended(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 0);
    rig_start(&r);
    struct fake_container *c = &r.fake.c[r.fake.n++];
    *c = (struct fake_container){
        .id = "odd", .uid = "u-9", .name = "main", .state = KE_CONTAINER_RUNNING};
    struct ke_container_info i = {.size = sizeof i,
                                  .id = "odd",
                                  .pod_uid = "u-9",
                                  .name = "main",
                                  .state = KE_CONTAINER_RUNNING};
    assert_int_equal(ke_runtime_event(r.fake.rt, &i), 0);
    rig_settle(&r);
    assert_int_equal(fake_live(&r.fake), 0);
    rig_fini(&r);
}

/* A vendor's event may name the container by its id alone. */
static void an_event_with_an_id_only(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a",
             rig_pod(pod, "a", "u-1", "", "\"restartPolicy\":\"Never\"," RIG_MAIN));
    struct ke_container_info i = {
        .size = sizeof i, .id = "fake-1", .state = KE_CONTAINER_EXITED, .exit_code = 11};
    struct ke_container_info other = {
        .size = sizeof i, .id = "not-ours", .state = KE_CONTAINER_RUNNING};
    assert_int_equal(ke_runtime_event(r.fake.rt, &i), 0);
    assert_int_equal(ke_runtime_event(r.fake.rt, &i), 0); /* repeats are harmless */
    assert_int_equal(ke_runtime_event(r.fake.rt, &other), 0);
    rig_settle(&r);
    assert_true(rig_has(&r, "default/a", "\"exitCode\":11"));
    assert_int_equal(r.fake.stops, 0);
    rig_fini(&r);
}

/* The node lost its store: what the cloud says has ended is not begun again. */
static void finished_in_the_cloud(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a",
             "{\"metadata\":{\"name\":\"a\",\"namespace\":\"default\",\"uid\":\"u-1\"},\"spec\":{"
             "\"nodeName\":\"edge-1\"," RIG_MAIN "},\"status\":{\"phase\":\"Succeeded\","
             "\"startTime\":\"2026-11-22T08:20:17Z\"}}");
    assert_int_equal(r.fake.creates, 0);
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Succeeded\""));
    assert_true(rig_has(&r, "default/a", "\"startTime\":\"2026-11-22T08:20:17Z\""));
    rig_fini(&r);
}

static void pods_that_are_no_pods(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", "{}");
    rig_send(&r, "insert", "default/pod/a", "[]");
    rig_send(&r, "insert", "default/pod/a", "\"text\"");
    rig_send(&r, "insert", "default/pod/a",
             "{\"metadata\":{\"name\":\"a\",\"namespace\":\"default\",\"uid\":\"../../"
             "x\"},\"spec\":{" RIG_MAIN "}}");
    rig_send(&r, "insert", "default/pod/a",
             "{\"metadata\":{\"name\":\"../"
             "a\",\"namespace\":\"default\",\"uid\":\"u\"},\"spec\":{" RIG_MAIN "}}");
    rig_send(&r, "insert", "default/pod/a",
             "{\"metadata\":{\"name\":\"a\",\"namespace\":\"de/"
             "fault\",\"uid\":\"u\"},\"spec\":{" RIG_MAIN "}}");
    assert_int_equal(r.n_reports, 0);
    rig_send(&r, "insert", "default/pod/b",
             rig_pod(pod, "b", "u-1", "", "\"containers\":[{\"name\":\"../m\",\"image\":\"i\"}]"));
    assert_true(rig_has(&r, "default/b", "\"reason\":\"InvalidPod\""));
    assert_true(rig_has(&r, "default/b", "is no container name"));
    rig_send(&r, "insert", "default/pod/c", rig_pod(pod, "c", "u-2", "", "\"containers\":[]"));
    assert_int_equal(r.fake.creates, 0);
    atomic_store(&r.env.log_errors, 0); /* each was logged */
    rig_fini(&r);
}

static void see_pod(void *user, const struct ke_pod_info *p)
{
    char *out = user;
    size_t n = strlen(out);
    snprintf(out + n, 600 - n, "%s/%s %s %s %s: %s;", p->pod_namespace, p->name, p->uid, p->phase,
             p->reason, p->message);
}

static const char *all_pods(struct rig *r)
{
    static char out[600];
    out[0] = '\0';
    kei_pods_each(r->pods, see_pod, out);
    return out;
}

/* Who asks for the pods sees those that cannot be run, too, until they are gone or whole. */
static void invalid_pods_are_listed(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    uint32_t n, running;
    static const char bad[] = "\"containers\":[{\"name\":\"../m\",\"image\":\"i\"}]";
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-1", "", bad));
    assert_non_null(strstr(all_pods(&r), "default/b u-1 Failed InvalidPod: "));
    assert_non_null(strstr(all_pods(&r), "is no container name;"));
    kei_pods_count(r.pods, &n, &running);
    assert_int_equal(n, 1);
    assert_int_equal(r.told, 1);
    rig_send(&r, "update", "default/pod/b", rig_pod(pod, "b", "u-1", "", bad));
    kei_pods_count(r.pods, &n, &running);
    assert_int_equal(n, 1);
    assert_int_equal(r.told, 1);
    /* known to the next life, which does not tell the cloud again */
    int reports = r.n_reports;
    rig_stop(&r);
    rig_start(&r);
    assert_non_null(strstr(all_pods(&r), "default/b u-1 Failed InvalidPod: "));
    assert_int_equal(r.n_reports, reports);
    rig_send(&r, "update", "default/pod/b", rig_pod(pod, "b", "u-1", "", RIG_MAIN));
    assert_string_equal(all_pods(&r), "default/b u-1 Running : ;");
    rig_send(&r, "insert", "default/pod/c", rig_pod(pod, "c", "u-2", "", bad));
    kei_pods_count(r.pods, &n, &running);
    assert_int_equal(n, 2);
    int removed = r.removed;
    rig_send(&r, "delete", "default/pod/c", pod);
    assert_string_equal(all_pods(&r), "default/b u-1 Running : ;");
    assert_int_equal(r.removed, removed + 1);
    atomic_store(&r.env.log_errors, 0); /* each was logged */
    rig_fini(&r);
}

/* The queue of the object flow is full: the status is told later. */
static void a_full_queue_delays_the_status(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    ke_module_remove(r.meta); /* nobody takes it */
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    assert_int_equal(fake_live(&r.fake), 1);
    assert_null(rig_status(&r, "default/web"));
    assert_int_equal(r.n_reports, 0);
    rig_fini(&r);
}

static void free_at_any_moment(void **state)
{
    (void)state;
    for (int turns = 0; turns < 25; turns++) {
        struct rig r;
        char pod[2048];
        rig_init(&r, 0);
        rig_object(&r, "default/configmap/app", "{\"data\":{\"level\":\"7\"}}");
        rig_object(&r, "default/secret/sec", "{\"data\":{\"user\":\"eA==\"}}");
        rig_store_pod(&r, "default/web", rig_pod(pod, "web", "u-1", "", WITH_CONFIG));
        assert_int_equal(kei_pods_new(&r.pods, r.env.ctx, &r.conf), 0);
        assert_int_equal(kei_pods_start(r.pods), 0);
        for (int i = 0; i < turns; i++)
            assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0);
        rig_fini(&r);
    }
}

static void free_now(void *user, const struct ke_pod_info *p)
{
    struct rig *r = user;
    (void)p;
    kei_pods_free(r->pods);
    r->pods = NULL;
}

static void free_settled(void *user)
{
    free_now(user, NULL);
}

/* The host lets go of the engine inside what it is told. */
static void free_in_a_callback(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct rig r;
        char pod[2048];
        rig_init(&r, 0);
        rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
        rig_store_pod(&r, "default/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
        if (i == 0)
            r.conf.ops.pod = free_now;
        if (i == 1)
            r.conf.ops.settled = free_settled;
        if (i == 2)
            r.conf.ops.runtime = free_settled;
        rig_start(&r);
        if (i == 3) {
            r.conf.ops.pod = NULL;
            rig_stop(&r);
            rig_start(&r);
            rig_send(&r, "delete", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
            rig_stop(&r);
        }
        assert_null(r.pods);
        rig_fini(&r);
    }
}

static void memory_can_run_out(void **state)
{
    (void)state;
    bool ran = false;
    for (size_t n = 1; n < 1500 && !ran; n++) {
        struct rig r;
        char pod[2048];
        rig_init(&r, 0);
        rig_object(&r, "default/configmap/app", "{\"data\":{\"level\":\"7\"}}");
        rig_object(&r, "default/secret/sec", "{\"data\":{\"user\":\"eA==\"}}");
        rig_store_pod(&r, "default/web", rig_pod(pod, "web", "u-1", "", WITH_CONFIG));
        test_alloc_fail_at(&r.env.alloc, n);
        int e = kei_pods_new(&r.pods, r.env.ctx, &r.conf);
        if (e == 0)
            e = kei_pods_start(r.pods);
        if (e == 0) {
            /* whatever failed is tried again: in the end it runs, once, and is told */
            test_drive_ms(&r.env, 400000);
            ran = atomic_load(&r.env.alloc.failed) == 0;
            test_alloc_fail_at(&r.env.alloc, 0);
            assert_true(fake_live(&r.fake) <= 1);
            if (fake_live(&r.fake) != 1 || !rig_has(&r, "default/web", "\"phase\":\"Running\""))
                fail_msg("allocation %zu: %d live, status %s\n%s", n, fake_live(&r.fake),
                         rig_status(&r, "default/web"), r.fake.calls);
        }
        test_alloc_fail_at(&r.env.alloc, 0);
        assert_true(r.fake.most_live <= 1);
        atomic_store(&r.env.log_errors, 0);
        rig_fini(&r);
    }
    assert_true(ran);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_a_pod_and_tells),
        cmocka_unit_test(an_echo_changes_nothing),
        cmocka_unit_test(another_image_restarts),
        cmocka_unit_test(pods_of_other_nodes_are_ignored),
        cmocka_unit_test(objects_reach_the_container),
        cmocka_unit_test(a_missing_object_delays_and_heals),
        cmocka_unit_test(a_silent_cloud_is_told),
        cmocka_unit_test(tokens_are_renewed_and_serve_offline),
        cmocka_unit_test(a_deleted_object_comes_back),
        cmocka_unit_test(no_runtime_is_a_clear_reason),
        cmocka_unit_test(a_runtime_that_is_not_ready),
        cmocka_unit_test(a_hanging_vendor_costs_only_that),
        cmocka_unit_test(a_hanging_start_is_ended_first),
        cmocka_unit_test(sandboxes_and_pulls),
        cmocka_unit_test(more_pods_than_allowed),
        cmocka_unit_test(active_deadline),
        cmocka_unit_test(a_namesake_waits),
        cmocka_unit_test(a_stray_is_ended),
        cmocka_unit_test(an_event_with_an_id_only),
        cmocka_unit_test(finished_in_the_cloud),
        cmocka_unit_test(pods_that_are_no_pods),
        cmocka_unit_test(invalid_pods_are_listed),
        cmocka_unit_test(a_full_queue_delays_the_status),
        cmocka_unit_test(free_at_any_moment),
        cmocka_unit_test(free_in_a_callback),
        cmocka_unit_test(memory_can_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
