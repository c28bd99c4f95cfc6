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
        {POD CONTAINERS "    env: [{name: A, value: 1}]\n", "spec.containers[0].env[0].value", 10},
        {POD CONTAINERS "    env:\n    - name: A\n    - value: x\n",
         "spec.containers[0].env[1].name", 12},
        {POD CONTAINERS "    env: [{name: A=B}]\n", "spec.containers[0].env[0].name", 10},
        {POD CONTAINERS "    env: [{name: A, valu: B}]\n", "spec.containers[0].env[0].valu", 10},
        {POD CONTAINERS "    env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: a}}}]\n",
         "spec.containers[0].env[0].valueFrom", 10},
        {POD CONTAINERS "    env: [{name: A, valueFrom: {}}]\n",
         "spec.containers[0].env[0].valueFrom", 10},
        {POD CONTAINERS "    env: [{name: A, valueFrom: {configMapKeyRef: {nam: a, key: b}}}]\n",
         "spec.containers[0].env[0].valueFrom.configMapKeyRef.nam", 10},
        {POD CONTAINERS "    env: [{name: A, valueFrom: {secretKeyRef: {name: a}}}]\n",
         "spec.containers[0].env[0].valueFrom.secretKeyRef.key", 10},
        {POD CONTAINERS "    env: [{name: A, valueFrom: {fieldRef: {fieldPath: 1}}}]\n",
         "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath", 10},
        {POD CONTAINERS "    envFrom: [{configMapRef: {name: a}, secretRef: {name: b}}]\n",
         "spec.containers[0].envFrom[0]", 10},
        {POD CONTAINERS "    envFrom: [{configMapRef: {}}]\n",
         "spec.containers[0].envFrom[0].configMapRef.name", 10},
        {POD CONTAINERS "    ports: [{containerPort: 80}, {containerPort: 65536}]\n",
         "spec.containers[0].ports[1].containerPort", 10},
        {POD CONTAINERS "    ports: [{containerPort: 0}]\n",
         "spec.containers[0].ports[0].containerPort", 10},
        {POD CONTAINERS "    ports: [{hostPort: 80}]\n",
         "spec.containers[0].ports[0].containerPort", 10},
        {POD CONTAINERS "    ports: [{containerPort: 80, hostPort: -1}]\n",
         "spec.containers[0].ports[0].hostPort", 10},
        {POD CONTAINERS "    ports: [{containerPort: 80, protocol: tcp}]\n",
         "spec.containers[0].ports[0].protocol", 10},
        {POD CONTAINERS "    resources: {limits: {memory: 12 Gigs}}\n",
         "spec.containers[0].resources.limits.memory", 10},
        {POD CONTAINERS "    resources: {limit: {memory: 1Gi}}\n",
         "spec.containers[0].resources.limit", 10},
        {POD CONTAINERS "    imagePullPolicy: Sometimes\n", "spec.containers[0].imagePullPolicy",
         10},
        {POD "  volumes: [{name: v, configmap: {name: a}}]\n" CONTAINERS,
         "spec.volumes[0].configmap", 7},
        {POD "  volumes: [{name: v, secret: {name: a}}]\n" CONTAINERS,
         "spec.volumes[0].secret.secretName", 7},
        {POD "  volumes: [{name: v, secret: {secretName: a}, emptyDir: {}}]\n" CONTAINERS,
         "spec.volumes[0]", 7},
        {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", "kind", 2},
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

/* What is right in those places is taken. */
static void takes_what_kubernetes_takes(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf out;
    struct kei_field field;
    const char *type = NULL;
    uint32_t line = 0;
    int r = make(
        &env,
        POD "  volumes:\n"
            "  - {name: a}\n"
            "  - {name: b, projected: {sources: [{serviceAccountToken: {path: t}}]}}\n"
            "  - {name: c, hostPath: {path: /x}}\n"
            "  - {name: d, emptyDir: {}, secret: null}\n" CONTAINERS "    imagePullPolicy: Never\n"
            "    env:\n"
            "    - {name: A}\n"
            "    - {name: B, value: \"\", valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n"
            "    - {name: C, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}\n"
            "    - {name: D, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n"
            "    envFrom: [{prefix: X_, secretRef: {name: s, optional: false}}]\n"
            "    ports: [{containerPort: 65535, hostPort: 0, protocol: UDP, name: d}]\n"
            "    resources: {limits: {cpu: 0.5, memory: 64Mi}, requests: {cpu: 100m}}\n",
        &out, &type, &field, &line, &err);
    if (r != 0)
        fail_msg("refused: %s", err.text);
    ke_buf_free(&out);
    test_env_fini(&env);
}

/* The values of a ConfigMap or Secret, decoded, make a MiB at most. */
static void data_has_the_limit_of_kubernetes(void **state)
{
    static const struct {
        const char *kind, *field, *more;
        size_t bytes; /* of one value in field */
        bool b64, fits;
    } cases[] = {
        {"ConfigMap", "data", "", 1048576, false, true},
        {"ConfigMap", "data", "", 1048577, false, false},
        {"ConfigMap", "data", "binaryData: {b: eA==}\n", 1048575, false, true},
        {"ConfigMap", "data", "binaryData: {b: eA==}\n", 1048576, false, false},
        {"ConfigMap", "binaryData", "", 1048575, true, true},
        {"ConfigMap", "binaryData", "", 1048578, true, false},
        {"Secret", "stringData", "", 1048576, false, true},
        {"Secret", "stringData", "", 1048577, false, false},
        {"Secret", "data", "", 1048578, true, false},
        {"Secret", "data", "stringData: {a: x}\n", 1048578, true, true}, /* replaces it */
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
        size_t n = cases[i].b64 ? cases[i].bytes / 3 * 4 : cases[i].bytes;
        char *yaml = malloc(n + 200);
        assert_non_null(yaml);
        int at = sprintf(yaml, "apiVersion: v1\nkind: %s\nmetadata: {name: x}\n%s%s:\n  a: \"",
                         cases[i].kind, cases[i].more, cases[i].field);
        memset(yaml + at, 'a', n);
        memcpy(yaml + at + n, "\"\n", 3);
        int r = make(&env, yaml, &out, &type, &field, &line, &err);
        if ((r == 0) != cases[i].fits || (r != 0 && (strcmp(field.path, "data") != 0 || line == 0)))
            fail_msg("case %zu: %d, field \"%s\" line %u (%s)", i, r, field.path, (unsigned)line,
                     err.text);
        if (r != 0 && !strstr(err.text, "the limit of Kubernetes is 1048576"))
            fail_msg("case %zu: %s", i, err.text);
        ke_buf_free(&out);
        free(yaml);
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
        cmocka_unit_test(takes_what_kubernetes_takes),
        cmocka_unit_test(data_has_the_limit_of_kubernetes),
        cmocka_unit_test(fills_defaults),
        cmocka_unit_test(pull_policy_by_tag),
        cmocka_unit_test(finds_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
