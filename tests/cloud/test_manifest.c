/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests: what is refused, with which field, and the defaults of an API server. */
#include "support/support.h"

#include "base/yaml.h"
#include "cloud/cloud_priv.h"
#include "cloud/manifest.h"

/* Runs one YAML document through; out is JSON, field and line on failure. */
static int make(struct test_env *env, const char *yaml, struct ke_buf *out, const char **type,
                struct kei_field *field, uint32_t *line, struct ke_error *err)
{
    struct kei_yaml *y = NULL;
    const struct ke_alloc *a = kei_ctx_alloc(env->ctx);
    assert_int_equal(kei_yaml_parse(&y, a, kei_str(yaml), 0, err), 0);
    assert_int_equal(kei_yaml_count(y), 1);
    kei_buf_init(out, a);
    const struct kei_yaml_doc *d = kei_yaml_get(y, 0);
    int r = kei_manifest_whole(out, type, d->json, field, err);
    *line = field->at ? kei_yaml_line(y, 0, (size_t)(field->at - d->json.p)) : 0;
    kei_yaml_free(y);
    return r;
}

#define POD "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  nodeName: node\n"
#define CONTAINERS "  containers:\n  - name: c\n    image: i\n"

static void refuses_with_field_and_line(void **state)
{
    static const struct {
        const char *yaml, *field;
        uint32_t line;
    } cases[] = {
        {"apiVersion: v1\nmetadata: {name: x}\n", "kind", 1},
        {"apiVersion: v2\nkind: Pod\n", "apiVersion", 1},
        {"apiVersion: v1\nkind: Gadget\n", "kind", 2},
        {"apiVersion: v1\nkind: Pod\nspec: {}\n", "metadata", 1},
        {"apiVersion: v1\nkind: Pod\nmetadata:\n  name: Bad_Name\n", "metadata.name", 4},
        {"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels:\n    a: 1\n",
         "metadata.labels.a", 6},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: []\n",
         "spec.nodeName", 5},
        {POD "  containers: []\n", "spec.containers", 7},
        {POD "  conteiners: []\n", "spec.conteiners", 7},
        {POD "  restartPolicy: Sometimes\n" CONTAINERS, "spec.restartPolicy", 7},
        {POD "  hostNetwork: 'yes'\n" CONTAINERS, "spec.hostNetwork", 7},
        {POD CONTAINERS "    imgae: x\n", "spec.containers[0].imgae", 10},
        {POD CONTAINERS "    command: /bin/x\n", "spec.containers[0].command", 10},
        {POD CONTAINERS "    args: [1]\n", "spec.containers[0].args", 10},
        {POD CONTAINERS "    env: [{name: A, value: 1}]\n", "spec.containers[0].env", 10},
        {POD CONTAINERS "  - name: d\n", "spec.containers[1].image", 10},
        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  on: yes\n", "data.true",
         5},
        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: 1\n", "data.a", 5},
        {"apiVersion: v1\nkind: Secret\nmetadata: {name: c}\ndata:\n  a: '%%'\n", "data.a", 5},
        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: a.b}\n",
         "metadata.namespace", 3},
    };
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf out;
        struct kei_field field;
        const char *type = NULL;
        uint32_t line = 0;
        int r = make(&env, cases[i].yaml, &out, &type, &field, &line, &err);
        ke_buf_free(&out);
        if (r != KE_EINVAL || strcmp(field.path, cases[i].field) != 0 || line != cases[i].line)
            fail_msg("case %zu: %d, field \"%s\" line %u (%s)", i, r, field.path, (unsigned)line,
                     err.text);
    }
    test_env_fini(&env);
}

static void fills_defaults(void **state)
{
    static const struct {
        const char *yaml, *path, *value;
    } cases[] = {
        {POD CONTAINERS, "metadata.namespace", "\"default\""},
        {POD CONTAINERS, "spec.restartPolicy", "\"Always\""},
        {POD CONTAINERS, "spec.terminationGracePeriodSeconds", "30"},
        {POD "  terminationGracePeriodSeconds: 5\n" CONTAINERS,
         "spec.terminationGracePeriodSeconds", "5"},
        {POD CONTAINERS, "spec.enableServiceLinks", "true"},
        {POD CONTAINERS, "status.phase", "\"Pending\""},
        {POD CONTAINERS, "status.qosClass", "\"BestEffort\""},
        {POD CONTAINERS "    resources: {requests: {cpu: 1}}\n", "status.qosClass",
         "\"Burstable\""},
        {POD CONTAINERS "    resources: {limits: {cpu: 1, memory: 1Gi}}\n", "status.qosClass",
         "\"Guaranteed\""},
        {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: x}\n", "data.a",
         "\"eA==\""},
        {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: eQ==}\nstringData: {a: x}\n",
         "data.a", "\"eA==\""},
        {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {b: eQ==}\n", "data.b",
         "\"eQ==\""},
        {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n", "type", "\"Opaque\""},
        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: \"yes\"}\n", "data.a",
         "\"yes\""},
    };
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf out;
        struct kei_field field;
        struct ke_str v = {0};
        const char *type = NULL;
        uint32_t line = 0;
        int r = make(&env, cases[i].yaml, &out, &type, &field, &line, &err);
        if (r != 0)
            fail_msg("case %zu: %s", i, err.text);
        assert_int_equal(kei_json_check(kei_buf_str(&out), 0, NULL), 0);
        if (!kei_json_path(kei_buf_str(&out), cases[i].path, &v) || !kei_str_is(v, cases[i].value))
            fail_msg("case %zu: %s is %.*s", i, cases[i].path, (int)v.n, v.p ? v.p : "");
        ke_buf_free(&out);
    }
    test_env_fini(&env);
}

static void pull_policy_by_tag(void **state)
{
    static const struct {
        const char *image, *policy;
    } cases[] = {{"a", "Always"},
                 {"a:latest", "Always"},
                 {"a:1", "IfNotPresent"},
                 {"r.example:5000/a", "Always"},
                 {"r.example:5000/a:2", "IfNotPresent"},
                 {"a@sha256:00", "IfNotPresent"}};
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf out;
        struct kei_field field;
        struct ke_str list, key, c, v;
        const char *type = NULL;
        char yaml[512];
        uint32_t line = 0;
        size_t it = 0;
        snprintf(yaml, sizeof yaml, POD "  containers: [{name: c, image: \"%s\"}]\n",
                 cases[i].image);
        assert_int_equal(make(&env, yaml, &out, &type, &field, &line, &err), 0);
        assert_true(kei_json_path(kei_buf_str(&out), "spec.containers", &list));
        assert_true(kei_json_next(list, &it, &key, &c));
        assert_true(kei_json_get(c, "imagePullPolicy", &v));
        if (!kei_json_str_is(v, cases[i].policy))
            fail_msg("%s gives %.*s", cases[i].image, (int)v.n, v.p);
        ke_buf_free(&out);
    }
    test_env_fini(&env);
}

static void collect(void *user, const char *type, const char *name)
{
    struct ke_buf *out = user;
    kei_buf_addf(out, "%s/%s ", type, name);
}

static void finds_references(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    struct ke_buf out = {0};
    kei_buf_init(&out, kei_ctx_alloc(env.ctx));
    const char *pod =
        "{\"spec\":{\"containers\":[{\"env\":[{\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"a\"}}"
        "},"
        "{\"valueFrom\":{\"secretKeyRef\":{\"name\":\"b\"}}}],\"envFrom\":[{\"configMapRef\":{"
        "\"name\":"
        "\"c\"}},{\"secretRef\":{\"name\":\"d\"}}]}],\"initContainers\":[{\"envFrom\":[{"
        "\"secretRef\":{"
        "\"name\":\"e\"}}]}],\"imagePullSecrets\":[{\"name\":\"f\"}],\"volumes\":[{\"configMap\":{"
        "\"name\":"
        "\"g\"}},{\"secret\":{\"secretName\":\"h\"}},{\"projected\":{\"sources\":[{\"configMap\":{"
        "\"name\":"
        "\"i\"}},{\"secret\":{\"name\":\"j\"}},{\"configMap\":{\"name\":\"../k\"}}]}}]}}";
    kei_pod_references(kei_str(pod), collect, &out);
    assert_string_equal(out.p,
                        "configmap/a secret/b configmap/c secret/d secret/e secret/f configmap/g "
                        "secret/h configmap/i secret/j ");
    ke_buf_free(&out);
    test_env_fini(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_with_field_and_line),
        cmocka_unit_test(fills_defaults),
        cmocka_unit_test(pull_policy_by_tag),
        cmocka_unit_test(finds_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
