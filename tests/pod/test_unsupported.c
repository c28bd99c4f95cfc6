/* SPDX-License-Identifier: Apache-2.0 */
/* What this engine does not do is refused in the pod's status, by name; what API servers add is
 * not. */
#include "rig.h"

#define MAIN(more) "\"containers\":[{\"name\":\"main\",\"image\":\"i\"" more "}]"

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *reason, *message;
    } cases[] = {
        {MAIN(",\"livenessProbe\":{\"httpGet\":{\"port\":80}}"), "UnsupportedProbe",
         "container main: livenessProbe is not supported by this node"},
        {MAIN(",\"readinessProbe\":{\"exec\":{}}"), "UnsupportedProbe", "readinessProbe"},
        {MAIN(",\"startupProbe\":{\"tcpSocket\":{}}"), "UnsupportedProbe", "startupProbe"},
        {MAIN(",\"lifecycle\":{\"preStop\":{\"exec\":{}}}"), "UnsupportedLifecycleHook", "preStop"},
        {MAIN(",\"lifecycle\":{\"postStart\":{\"exec\":{}}}"), "UnsupportedLifecycleHook",
         "postStart"},
        {MAIN("") ",\"initContainers\":[{\"name\":\"first\",\"image\":\"i\"}]",
         "UnsupportedInitContainers", "init container first: initContainers"},
        {MAIN("") ",\"volumes\":[{\"name\":\"v\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]",
         "UnsupportedVolume", "volume v: persistentVolumeClaim"},
        {MAIN("") ",\"volumes\":[{\"name\":\"v\",\"csi\":{\"driver\":\"d\"}}]", "UnsupportedVolume",
         "volume v: csi"},
        {MAIN("") ",\"volumes\":[{\"name\":\"v\",\"emptyDir\":{\"medium\":\"HugePages\"}}]",
         "UnsupportedVolume", "HugePages"},
        {MAIN(",\"volumeDevices\":[{\"name\":\"v\",\"devicePath\":\"/dev/x\"}]"),
         "UnsupportedVolume", "volumeDevices"},
        {MAIN(
             ",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/v\",\"subPath\":\"a\"}]") ",\"vol"
                                                                                            "umes\""
                                                                                            ":[{"
                                                                                            "\"name"
                                                                                            "\":"
                                                                                            "\"v\","
                                                                                            "\"empt"
                                                                                            "yDir\""
                                                                                            ":{}}]",
         "UnsupportedSubPath", "subPath of an emptyDir or hostPath volume"},
        {MAIN(",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/v\",\"subPathExpr\":\"a\"}]"),
         "UnsupportedSubPath", "subPathExpr"},
        {MAIN(",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/"
              "v\",\"mountPropagation\":\"Bidirectional\"}]"),
         "UnsupportedMountPropagation", "Bidirectional"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char pod[2048], want[100];
        rig_init(&r, 0);
        rig_start(&r);
        rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", cases[i].spec));
        snprintf(want, sizeof want, "\"reason\":\"%s\"", cases[i].reason);
        if (!rig_has(&r, "default/a", want) || !rig_has(&r, "default/a", cases[i].message) ||
            !rig_has(&r, "default/a", "\"phase\":\"Failed\""))
            fail_msg("case %zu: %s", i, rig_status(&r, "default/a"));
        assert_int_equal(r.fake.creates, 0);
        assert_string_equal(r.last_phase, "Failed");
        /* it stays so over a restart */
        rig_stop(&r);
        rig_start(&r);
        assert_int_equal(r.fake.creates, 0);
        /* and can be deleted */
        rig_send(
            &r, "update", "default/pod/a",
            rig_pod(
                pod, "a", "u-1",
                ",\"deletionTimestamp\":\"2026-12-01T00:00:30Z\",\"deletionGracePeriodSeconds\":30",
                cases[i].spec));
        assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 1);
        rig_send(&r, "delete", "default/pod/a", rig_pod(pod, "a", "u-1", "", cases[i].spec));
        assert_int_equal(r.removed, 1);
        rig_fini(&r);
    }
}

/* What a Kubernetes API server puts into every pod by itself. */
static void defaults_are_tolerated(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(
        &r, "insert", "default/pod/a",
        rig_pod(
            pod, "a", "u-1",
            ",\"creationTimestamp\":\"2026-12-01T00:00:00Z\",\"resourceVersion\":\"4\"",
            "\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"resources\":{\"limits\":{\"cpu\":"
            "\"1\","
            "\"memory\":\"64Mi\"}},\"terminationMessagePath\":\"/dev/termination-log\","
            "\"terminationMessagePolicy\":\"File\",\"imagePullPolicy\":\"Never\",\"ports\":"
            "[{\"containerPort\":8080,\"protocol\":\"TCP\"}],\"livenessProbe\":null,\"lifecycle\":{"
            "},"
            "\"securityContext\":{\"capabilities\":{\"drop\":[\"ALL\"]}}}],\"restartPolicy\":"
            "\"Always\","
            "\"terminationGracePeriodSeconds\":2,\"dnsPolicy\":\"ClusterFirst\","
            "\"serviceAccountName\":"
            "\"default\",\"serviceAccount\":\"default\",\"hostNetwork\":true,\"securityContext\":{}"
            ","
            "\"schedulerName\":\"default-scheduler\",\"tolerations\":[{\"operator\":\"Exists\"}],"
            "\"priority\":0,\"enableServiceLinks\":true,\"preemptionPolicy\":"
            "\"PreemptLowerPriority\","
            "\"initContainers\":[],\"volumes\":[]"));
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Running\""));
    rig_fini(&r);
}

/* Added to a running pod, they do not end it. */
static void ephemeral_containers(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", MAIN("")));
    rig_send(&r, "update", "default/pod/a",
             rig_pod(pod, "a", "u-1", "",
                     MAIN("") ",\"ephemeralContainers\":[{\"name\":\"dbg\",\"image\":\"sh\"}]"));
    assert_true(rig_has(&r, "default/a",
                        "\"ephemeralContainerStatuses\":[{\"name\":\"dbg\",\"state\":{\"waiting\":"
                        "{\"reason\":\"UnsupportedEphemeralContainer\""));
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Running\""));
    assert_int_equal(r.fake.stops, 0);
    rig_fini(&r);
}

static void too_many(void **state)
{
    (void)state;
    struct rig r;
    char *pod = malloc(20000);
    rig_init(&r, 0);
    rig_start(&r);
    int n = snprintf(pod, 20000,
                     "{\"metadata\":{\"name\":\"a\",\"namespace\":\"default\",\"uid\":\"u-1\"},"
                     "\"spec\":{\"containers\":[");
    for (int i = 0; i < 65; i++)
        n += snprintf(pod + n, (size_t)(20000 - n), "%s{\"name\":\"c%d\",\"image\":\"i\"}",
                      i ? "," : "", i);
    snprintf(pod + n, (size_t)(20000 - n), "]}}");
    rig_send(&r, "insert", "default/pod/a", pod);
    assert_true(rig_has(&r, "default/a", "\"reason\":\"InvalidPod\""));
    assert_true(rig_has(&r, "default/a", "has 65 containers; the limit is 64"));
    atomic_store(&r.env.log_errors, 0);
    rig_fini(&r);
    free(pod);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(defaults_are_tolerated),
        cmocka_unit_test(ephemeral_containers),
        cmocka_unit_test(too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
