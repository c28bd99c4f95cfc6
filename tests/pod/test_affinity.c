/* SPDX-License-Identifier: Apache-2.0 */
/* Pods that name this node, and ask for a node that this one is not. */
#include "rig.h"

#include "pod/engine.h"

#define REQUIRED(terms)                                                                            \
    "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{"        \
    "\"nodeSelectorTerms\":[" terms "]}}}}"
#define EXPR(key, op, values)                                                                      \
    "{\"matchExpressions\":[{\"key\":\"" key "\",\"operator\":\"" op "\",\"values\":[" values "]}" \
    "]}"
#define FIELD(op, name)                                                                            \
    "{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"" op "\",\"values\":[\"" name     \
    "\"]}]}"

static void cases(void **state)
{
    (void)state;
    static const char labels[] = "{\"zone\":\"a\",\"cores\":\"8\",\"e\":\"\",\"w/x\":\"\\u0061\"}";
    static const struct {
        const char *spec;
        enum kei_fit unknown, fit; /* without labels, with them */
    } t[] = {
        {"{}", KEI_FIT_YES, KEI_FIT_YES},
        {"{\"nodeSelector\":{}}", KEI_FIT_YES, KEI_FIT_YES},
        {"{\"nodeSelector\":null,\"affinity\":null}", KEI_FIT_YES, KEI_FIT_YES},
        {"{\"nodeSelector\":{\"zone\":\"a\",\"e\":\"\"}}", KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {"{\"nodeSelector\":{\"w/x\":\"a\"}}", KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {"{\"nodeSelector\":{\"zone\":\"b\"}}", KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {"{\"nodeSelector\":{\"none\":\"\"}}", KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(""), KEI_FIT_NO, KEI_FIT_NO},
        {REQUIRED("{}"), KEI_FIT_NO, KEI_FIT_NO},
        {REQUIRED("{\"matchExpressions\":[]}"), KEI_FIT_NO, KEI_FIT_NO},
        {REQUIRED(EXPR("zone", "In", "\"b\",\"a\"")), KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {REQUIRED(EXPR("zone", "In", "\"b\"")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(EXPR("zone", "NotIn", "\"b\"")), KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {REQUIRED(EXPR("zone", "NotIn", "\"a\"")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(EXPR("none", "NotIn", "\"a\"")), KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {REQUIRED(EXPR("e", "Exists", "")), KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {REQUIRED(EXPR("none", "Exists", "")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(EXPR("none", "DoesNotExist", "")), KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {REQUIRED(EXPR("e", "DoesNotExist", "")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(EXPR("cores", "Gt", "\"7\"")), KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {REQUIRED(EXPR("cores", "Gt", "\"8\"")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(EXPR("cores", "Lt", "\"9\"")), KEI_FIT_UNKNOWN, KEI_FIT_YES},
        {REQUIRED(EXPR("zone", "Lt", "\"9\"")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(EXPR("cores", "Lt", "\"9\",\"10\"")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {REQUIRED(EXPR("zone", "Like", "\"a\"")), KEI_FIT_UNKNOWN, KEI_FIT_NO},
        /* terms: one of them */
        {REQUIRED(EXPR("zone", "In", "\"b\"") "," EXPR("e", "Exists", "")), KEI_FIT_UNKNOWN,
         KEI_FIT_YES},
        /* of a DaemonSet: the node's name, without labels */
        {REQUIRED(FIELD("In", "edge-1")), KEI_FIT_YES, KEI_FIT_YES},
        {REQUIRED(FIELD("In", "edge-2")), KEI_FIT_NO, KEI_FIT_NO},
        {REQUIRED(FIELD("NotIn", "edge-1") "," EXPR("zone", "In", "\"a\"")), KEI_FIT_UNKNOWN,
         KEI_FIT_YES},
        /* both */
        {"{\"nodeSelector\":{\"zone\":\"a\"},\"affinity\":{\"nodeAffinity\":{"
         "\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[" EXPR(
             "cores", "In", "\"4\"") "]}}}}",
         KEI_FIT_UNKNOWN, KEI_FIT_NO},
        {"{\"affinity\":{\"nodeAffinity\":{\"preferredDuringSchedulingIgnoredDuringExecution\":[{"
         "\"weight\":1,\"preference\":" EXPR("zone", "In", "\"b\"") "}]}}}",
         KEI_FIT_YES, KEI_FIT_YES},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        enum kei_fit unknown = kei_affinity_fit(kei_str(t[i].spec), kei_strn(NULL, 0), "edge-1");
        enum kei_fit fit = kei_affinity_fit(kei_str(t[i].spec), kei_str(labels), "edge-1");
        if (unknown != t[i].unknown || fit != t[i].fit)
            fail_msg("%s: %d %d", t[i].spec, (int)unknown, (int)fit);
    }
}

#define SELECTS(zone) "\"nodeSelector\":{\"zone\":\"" zone "\"}," RIG_MAIN
#define NODE "{\"kind\":\"Node\",\"metadata\":{\"name\":\"edge-1\",\"labels\":{\"zone\":\"a\"}}}"

/* As kubelet: refused for good, with its reason and words. */
static void refused(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_object(&r, "default/node/edge-1", NODE);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", SELECTS("b")));
    rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-2", "", SELECTS("a")));
    test_drive_ms(&r.env, 100);
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Failed\""));
    assert_true(rig_has(&r, "default/a", "\"reason\":\"NodeAffinity\""));
    assert_true(rig_has(&r, "default/a",
                        "\"message\":\"Pod was rejected: Predicate NodeAffinity failed\""));
    assert_true(rig_has(&r, "default/b", "\"phase\":\"Running\""));
    assert_int_equal(r.fake.creates, 1);
    /* let in once: not asked again, whatever the node is called now */
    rig_object(&r, "default/node/edge-1", "{\"metadata\":{\"name\":\"edge-1\"}}");
    rig_stop(&r);
    rig_start(&r);
    test_drive_ms(&r.env, 30000);
    assert_true(rig_has(&r, "default/b", "\"phase\":\"Running\""));
    assert_int_equal(fake_live(&r.fake), 1);
    rig_fini(&r);
}

/* Until the labels are known nothing is begun and nothing refused. */
static void waits_for_the_labels(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-2", "", SELECTS("a")));
    test_drive_ms(&r.env, 60000);
    assert_int_equal(r.fake.creates, 0);
    assert_true(rig_has(&r, "default/b", "\"phase\":\"Pending\""));
    rig_object(&r, "default/node/edge-1", NODE);
    rig_link(&r, true);
    test_drive_ms(&r.env, 100);
    assert_true(rig_has(&r, "default/b", "\"phase\":\"Running\""));
    /* one that is deleted meanwhile goes */
    rig_object(&r, "default/node/edge-1", NULL);
    rig_send(&r, "insert", "default/pod/c", rig_pod(pod, "c", "u-3", "", SELECTS("a")));
    rig_send(&r, "delete", "default/pod/c", pod);
    test_drive_ms(&r.env, 60000);
    assert_int_equal(fake_live(&r.fake), 1);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases),
        cmocka_unit_test(refused),
        cmocka_unit_test(waits_for_the_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
