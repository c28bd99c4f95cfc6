/* SPDX-License-Identifier: Apache-2.0 */
/* Environment, arguments and references, as Kubernetes makes them. */
#include "support/support.h"

#include "pod/env.h"

struct rig {
    struct test_alloc alloc;
    struct kei_arena arena;
    struct kei_podspec spec;
    struct kei_objects objects;
    struct kei_env env;
    struct ke_error err;
};

static const struct kei_field_env fields = {"edge-1", "192.0.2.1", "192.0.2.9"};

static int rig_init(struct rig *r, const char *pod)
{
    memset(r, 0, sizeof *r);
    r->err = (struct ke_error)KE_ERROR_INIT;
    test_alloc_init(&r->alloc);
    kei_arena_init(&r->arena, &r->alloc.table, 0);
    r->env.a = &r->arena;
    int e = kei_podspec_read(&r->spec, kei_str(pod), &r->arena, &r->err);
    return e == 0 ? kei_objects_collect(&r->objects, &r->spec, &r->arena, &r->err) : e;
}

static void rig_fini(struct rig *r)
{
    kei_arena_free(&r->arena);
    assert_int_equal(test_alloc_live(&r->alloc), 0);
}

static void give(struct rig *r, const char *type, const char *name, const char *text)
{
    struct kei_object *o = kei_objects_find(&r->objects, type, name);
    assert_non_null(o);
    o->status = text ? 0 : KE_ENOTFOUND;
    o->text = kei_str(text);
}

static int build(struct rig *r)
{
    return kei_env_build(&r->env, &r->spec, &r->spec.containers[0], &r->objects, &fields, &r->err);
}

static const char *get(struct rig *r, const char *name)
{
    return kei_env_get(&r->env, kei_str(name));
}

#define POD(container)                                                                             \
    "{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u-1\","                      \
    "\"labels\":{\"app\":\"a\\u00e4\",\"x.y/z\":\"lz\"},\"annotations\":{\"n\":\"1\"}},"           \
    "\"spec\":{\"serviceAccountName\":\"sa\",\"containers\":[{\"name\":\"main\",\"image\":"        \
    "\"i\"," container "}]}}"

static void expansion(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"$(A)", "one"},
        {"x$(A)y$(B)z", "xoneytwoz"},
        {"$(NO)", "$(NO)"},
        {"$$(A)", "$(A)"},
        {"$$$(A)", "$one"},
        {"$$$$(A)", "$$(A)"},
        {"$", "$"},
        {"a$", "a$"},
        {"$$", "$"},
        {"$x", "$x"},
        {"$(A", "$(A"},
        {"$(A$(B)", "$(A$(B)"},
        {"$()", "$()"},
        {"$(EMPTY)|", "|"},
        {"$A$(A)", "$Aone"},
        {"$(A))", "one)"},
        {"$(NO)$(A)", "$(NO)one"},
    };
    struct rig r;
    assert_int_equal(rig_init(&r, POD("\"env\":[]")), 0);
    assert_int_equal(kei_env_set(&r.env, "A", kei_str("one"), NULL), 0);
    assert_int_equal(kei_env_set(&r.env, "B", kei_str("two"), NULL), 0);
    assert_int_equal(kei_env_set(&r.env, "EMPTY", kei_str(""), NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_buf b;
        kei_buf_init(&b, &r.alloc.table);
        kei_env_expand(&b, kei_str(cases[i].in), &r.env);
        kei_buf_addc(&b, '\0');
        assert_string_equal(b.p, cases[i].out);
        ke_buf_free(&b);
    }
    rig_fini(&r);
}

static void values_of_all_kinds(void **state)
{
    (void)state;
    struct rig r;
    assert_int_equal(
        rig_init(
            &r,
            POD("\"envFrom\":[{\"configMapRef\":{\"name\":\"all\"},\"prefix\":\"P_\"},"
                "{\"secretRef\":{\"name\":\"sec\"}},"
                "{\"configMapRef\":{\"name\":\"none\",\"optional\":true}}],"
                "\"env\":["
                "{\"name\":\"PLAIN\",\"value\":\"v\"},"
                "{\"name\":\"REF\",\"value\":\"$(PLAIN)-$(P_k)\"},"
                "{\"name\":\"CM\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"all\",\"key\":"
                "\"k\"}}},"
                "{\"name\":\"SEC\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"sec\",\"key\":"
                "\"user\"}}},"
                "{\"name\":\"OPT\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"all\",\"key\":"
                "\"no\",\"optional\":true}}},"
                "{\"name\":\"NAME\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.name\"}}}"
                ","
                "{\"name\":\"NS\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata."
                "namespace\"}}},"
                "{\"name\":\"UID\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.uid\"}}},"
                "{\"name\":\"LABEL\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['"
                "x.y/z']\"}}},"
                "{\"name\":\"NOLABEL\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata."
                "labels['q']\"}}},"
                "{\"name\":\"ANNO\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata."
                "annotations['n']\"}}},"
                "{\"name\":\"NODE\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"spec.nodeName\"}}}"
                ","
                "{\"name\":\"SA\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"spec."
                "serviceAccountName\"}}},"
                "{\"name\":\"HIP\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.hostIP\"}}},"
                "{\"name\":\"PIP\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.podIP\"}}},"
                "{\"name\":\"CPU\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits."
                "cpu\"}}},"
                "{\"name\":\"MILLI\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits."
                "cpu\",\"divisor\":\"1m\"}}},"
                "{\"name\":\"MEM\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits."
                "memory\",\"divisor\":\"1Mi\"}}},"
                "{\"name\":\"REQ\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"requests."
                "memory\",\"divisor\":\"0\"}}},"
                "{\"name\":\"P_over\",\"value\":\"own\"}"
                "],\"resources\":{\"limits\":{\"cpu\":\"1500m\",\"memory\":\"64Mi\"}}")),
        0);
    give(&r, "configmap", "all",
         "{\"data\":{\"k\":\"kv\",\"over\":\"map\",\"1bad name\":\"x\",\"uni\":\"\\u00fc\"}}");
    give(&r, "secret", "sec", "{\"data\":{\"user\":\"YWxpY2U=\"}}");
    give(&r, "configmap", "none", NULL);
    assert_int_equal(build(&r), 0);
    static const struct {
        const char *name, *value;
    } want[] = {
        {"PLAIN", "v"},       {"REF", "v-kv"},      {"CM", "kv"},       {"SEC", "alice"},
        {"P_k", "kv"},        {"user", "alice"},    {"P_over", "own"},  {"P_uni", "\xc3\xbc"},
        {"NAME", "web"},      {"NS", "shop"},       {"UID", "u-1"},     {"LABEL", "lz"},
        {"NOLABEL", ""},      {"ANNO", "1"},        {"NODE", "edge-1"}, {"SA", "sa"},
        {"HIP", "192.0.2.1"}, {"PIP", "192.0.2.9"}, {"CPU", "2"},       {"MILLI", "1500"},
        {"MEM", "64"},        {"REQ", "0"},
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_non_null(get(&r, want[i].name));
        assert_string_equal(get(&r, want[i].name), want[i].value);
    }
    assert_null(get(&r, "OPT"));
    assert_null(get(&r, "P_1bad name"));
    assert_int_equal(r.env.n, sizeof want / sizeof want[0]);
    rig_fini(&r);
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *env;
        int code;
        const char *text;
    } cases[] = {
        {"\"env\":[{\"name\":\"A\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"c\",\"key\":"
         "\"k\"}}}]",
         KE_ENOTFOUND, "configmap \"c\" not found"},
        {"\"env\":[{\"name\":\"A\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"s\",\"key\":\"k\"}}}"
         "]",
         KE_ENOTFOUND, "secret \"s\" not found"},
        {"\"env\":[{\"name\":\"A\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"have\",\"key\":"
         "\"k\"}}}]",
         KE_ENOTFOUND, "couldn't find key k in ConfigMap shop/have"},
        {"\"envFrom\":[{\"secretRef\":{\"name\":\"s\"}}]", KE_ENOTFOUND, "secret \"s\" not found"},
        {"\"env\":[{\"name\":\"1A\",\"value\":\"x\"}]", KE_EINVAL,
         "\"1A\" is no name of an environment variable"},
        {"\"env\":[{\"name\":\"A=B\",\"value\":\"x\"}]", KE_EINVAL,
         "\"A=B\" is no name of an environment variable"},
        {"\"env\":[{\"name\":\"A\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"spec.x\"}}}]",
         KE_EINVAL, "unsupported fieldPath: spec.x"},
        {"\"env\":[{\"name\":\"A\",\"value\":\"a\\u0000b\"}]", KE_EPARSE, NULL},
        {"\"env\":[{\"name\":\"A\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"bad\",\"key\":\"k\"}"
         "}}]",
         KE_EPARSE, "key k of secret bad is no base64"},
        {"\"env\":[{\"name\":\"A\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"later\",\"key\":"
         "\"k\"}}}]",
         KE_EAGAIN, "configmap \"later\" is not known yet: no link"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char pod[2000];
        struct rig r;
        snprintf(pod, sizeof pod,
                 "{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u-1\"},\"spec\":"
                 "{\"containers\":[{\"name\":\"main\",\"image\":\"i\",%s}]}}",
                 cases[i].env);
        assert_int_equal(rig_init(&r, pod), 0);
        for (size_t k = 0; k < r.objects.n; k++) {
            struct kei_object *o = &r.objects.v[k];
            o->status = KE_ENOTFOUND;
            if (!strcmp(o->name, "have")) {
                o->status = 0;
                o->text = kei_str("{\"data\":{}}");
            } else if (!strcmp(o->name, "bad")) {
                o->status = 0;
                o->text = kei_str("{\"data\":{\"k\":\"%%%\"}}");
            } else if (!strcmp(o->name, "later")) {
                o->status = KE_EAGAIN;
                o->why = "no link";
            }
        }
        assert_int_equal(build(&r), cases[i].code);
        if (cases[i].text)
            assert_string_equal(r.err.text, cases[i].text);
        rig_fini(&r);
    }
}

static void words_are_expanded(void **state)
{
    (void)state;
    struct rig r;
    const char *const *words = NULL;
    uint32_t n = 0;
    assert_int_equal(rig_init(&r, POD("\"command\":[\"/bin/x\",\"$(A)\",\"$$(A)\",\"$(NO)\",\"\"],"
                                      "\"env\":[{\"name\":\"A\",\"value\":\"a b\"}]")),
                     0);
    assert_int_equal(build(&r), 0);
    assert_int_equal(
        kei_env_words(&words, &n, r.spec.containers[0].json, "command", &r.env, &r.err), 0);
    assert_int_equal(n, 5);
    assert_string_equal(words[0], "/bin/x");
    assert_string_equal(words[1], "a b"); /* one word: no shell */
    assert_string_equal(words[2], "$(A)");
    assert_string_equal(words[3], "$(NO)");
    assert_string_equal(words[4], "");
    assert_int_equal(kei_env_words(&words, &n, r.spec.containers[0].json, "args", &r.env, &r.err),
                     0);
    assert_int_equal(n, 0);
    rig_fini(&r);
}

static void limits_are_named(void **state)
{
    (void)state;
    struct rig r;
    char name[16];
    int e = 0;
    assert_int_equal(rig_init(&r, POD("\"env\":[]")), 0);
    for (int i = 0; i <= KEI_ENV_MAX && e == 0; i++) {
        snprintf(name, sizeof name, "V%d", i);
        e = kei_env_set(&r.env, name, kei_str("x"), &r.err);
    }
    assert_int_equal(e, KE_ELIMIT);
    assert_non_null(strstr(r.err.text, "4096"));
    assert_int_equal(r.env.n, KEI_ENV_MAX);
    rig_fini(&r);
}

static void token_request_is_kubelets(void **state)
{
    (void)state;
    struct rig r;
    struct ke_buf b;
    /* as KubeEdge 1.15 writes it */
    static const char want[] = "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{\"audiences\":"
                               "null,\"expirationSeconds\":3607,"
                               "\"boundObjectRef\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\","
                               "\"name\":\"web\",\"uid\":\"u-1\"}},"
                               "\"status\":{\"token\":\"\",\"expirationTimestamp\":null}}";
    assert_int_equal(rig_init(&r, POD("\"env\":[]")), 0);
    kei_buf_init(&b, &r.alloc.table);
    kei_token_request(&b, &r.spec, kei_str("{\"expirationSeconds\":3607,\"path\":\"token\"}"));
    assert_string_equal(b.p, want);
    kei_buf_clear(&b);
    kei_token_request(&b, &r.spec, kei_str("{\"audience\":\"v\",\"path\":\"t\"}"));
    assert_non_null(strstr(b.p, "\"audiences\":[\"v\"],\"expirationSeconds\":3600"));
    ke_buf_free(&b);
    struct ke_str token;
    int64_t expires = 0;
    assert_true(kei_token_read(
        kei_str("{\"status\":{\"token\":\"ab\",\"expirationTimestamp\":\"1970-01-01T00:01:00Z\"}}"),
        &token, &expires));
    assert_int_equal(expires, 60000);
    assert_false(kei_token_read(kei_str("{\"status\":{\"token\":\"\"}}"), &token, &expires));
    rig_fini(&r);
}

static void memory_can_run_out_anywhere(void **state)
{
    (void)state;
    static const char pod[] = POD("\"envFrom\":[{\"configMapRef\":{\"name\":\"c\"}}],\"env\":[{"
                                  "\"name\":\"A\",\"value\":\"x\"},"
                                  "{\"name\":\"B\",\"value\":\"$(A)\"}],\"command\":[\"$(B)\"]");
    int r = KE_ENOMEM;
    for (size_t n = 1; r != 0; n++) {
        struct test_alloc alloc;
        struct kei_arena arena;
        struct kei_podspec spec;
        struct kei_objects objects;
        struct kei_env env = {.a = &arena};
        const char *const *words;
        uint32_t count;
        test_alloc_init(&alloc);
        kei_arena_init(&arena, &alloc.table, 0);
        test_alloc_fail_at(&alloc, n);
        r = kei_podspec_read(&spec, kei_str(pod), &arena, NULL);
        if (r == 0)
            r = kei_objects_collect(&objects, &spec, &arena, NULL);
        if (r == 0) {
            objects.v[0].status = 0;
            objects.v[0].text = kei_str("{\"data\":{\"k\":\"v\"}}");
            r = kei_env_build(&env, &spec, &spec.containers[0], &objects, &fields, NULL);
        }
        if (r == 0)
            r = kei_env_words(&words, &count, spec.containers[0].json, "command", &env, NULL);
        if (r == 0) {
            assert_string_equal(words[0], "x");
            assert_string_equal(kei_env_get(&env, kei_str("k")), "v");
        }
        kei_arena_free(&arena);
        assert_int_equal(test_alloc_live(&alloc), 0);
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expansion),
        cmocka_unit_test(values_of_all_kinds),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(words_are_expanded),
        cmocka_unit_test(limits_are_named),
        cmocka_unit_test(token_request_is_kubelets),
        cmocka_unit_test(memory_can_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
