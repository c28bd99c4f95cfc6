/* SPDX-License-Identifier: Apache-2.0 */
/* Resource names, metadata, labels and setting members of raw objects. */
#include "support/support.h"

#include "message/k8s.h"
#include "message/msg_priv.h"

static void names_are_split(void **state)
{
    (void)state;
    static const struct {
        const char *s, *ns, *type, *name; /* ns NULL: refused */
    } table[] = {
        {"default/pod/web", "default", "pod", "web"},
        {"default/pod", "default", "pod", ""},
        {"null/node/edge-1", "null", "node", "edge-1"},
        {"k8s/ca.crt", "k8s", "ca.crt", ""},
        {"default/device/ns/name", "default", "device", "ns/name"},
        {"a/b/c/d/e", "a", "b", "c/d/e"},
        {"", NULL, NULL, NULL},
        {"node", NULL, NULL, NULL},
        {"/pod/x", NULL, NULL, NULL},
        {"default//x", NULL, NULL, NULL},
        {"default/", NULL, NULL, NULL},
        {"kube-node-lease/lease/", NULL, NULL, NULL},
        {"a/b/c//d", NULL, NULL, NULL},
        {"a/b/c/", NULL, NULL, NULL},
        {"/", NULL, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct kei_resource r;
        bool ok = kei_resource_parse(&r, kei_str(table[i].s));
        if (ok != (table[i].ns != NULL))
            fail_msg("\"%s\" was %s", table[i].s, ok ? "taken" : "refused");
        if (!ok)
            continue;
        assert_true(kei_str_is(r.ns, table[i].ns));
        assert_true(kei_str_is(r.type, table[i].type));
        assert_true(kei_str_is(r.name, table[i].name));
    }
}

static void node_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *s, *node, *rest; /* node NULL: no prefix */
    } table[] = {
        {"node/edge-1/default/pod/web", "edge-1", "default/pod/web"},
        {"node/edge-1/membership", "edge-1", "membership"},
        {"node/edge-1", NULL, NULL},
        {"node/edge-1/", NULL, NULL},
        {"node//default/pod", NULL, NULL},
        {"nodes/edge-1/default/pod", NULL, NULL},
        {"default/node/edge-1", NULL, NULL},
        {"", NULL, NULL},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_str node, rest;
        bool ok = kei_resource_strip_node(kei_str(table[i].s), &node, &rest);
        assert_int_equal(ok, table[i].node != NULL);
        if (ok) {
            assert_true(kei_str_is(node, table[i].node));
            assert_true(kei_str_is(rest, table[i].rest));
        }
    }
}

static int read_meta(struct kei_meta *m, const char *json, struct kei_arena *a)
{
    return kei_meta_read(m, kei_str(json), a, NULL);
}

static void metadata(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct kei_arena a;
    struct kei_meta m;

    test_alloc_init(&alloc);
    kei_arena_init(&a, &alloc.table, 0);
    assert_int_equal(read_meta(&m,
                               "{\"metadata\":{\"name\":\"w\\u0065b\",\"namespace\":\"default\","
                               "\"uid\":\"u1\",\"resourceVersion\":\"9007199254740993\","
                               "\"deletionTimestamp\":\"2026-11-22T08:18:48Z\","
                               "\"deletionGracePeriodSeconds\":2}}",
                               &a),
                     0);
    assert_string_equal(m.name, "web");
    assert_string_equal(m.ns, "default");
    assert_string_equal(m.uid, "u1");
    assert_int_equal(m.version, INT64_C(9007199254740993)); /* a double would lose the 3 */
    assert_int_equal(m.deletion_ms, INT64_C(1795335528000));
    assert_int_equal(m.deletion_grace_s, 2);

    assert_int_equal(read_meta(&m, "{\"metadata\":{\"deletionTimestamp\":null}}", &a), 0);
    assert_string_equal(m.name, "");
    assert_string_equal(m.resource_version, "");
    assert_int_equal(m.version, 0);
    assert_int_equal(m.deletion_ms, 0);
    assert_int_equal(m.deletion_grace_s, -1);

    assert_int_equal(read_meta(&m, "{\"metadata\":{\"resourceVersion\":\"-5\"}}", &a), 0);
    assert_int_equal(m.version, 0);

    assert_int_equal(read_meta(&m, "{}", &a), KE_EPARSE);
    assert_int_equal(read_meta(&m, "{\"metadata\":[]}", &a), KE_EPARSE);
    assert_int_equal(read_meta(&m, "null", &a), KE_EPARSE);
    assert_int_equal(read_meta(&m, "{\"metadata\":{\"name\":5}}", &a), KE_EPARSE);
    assert_int_equal(read_meta(&m, "{\"metadata\":{\"name\":\"a\\u0000b\"}}", &a), KE_EPARSE);
    assert_int_equal(read_meta(&m, "{\"metadata\":{\"deletionTimestamp\":\"soon\"}}", &a),
                     KE_EPARSE);
    assert_int_equal(read_meta(&m, "{\"metadata\":{\"deletionGracePeriodSeconds\":-1}}", &a),
                     KE_EPARSE);
    test_alloc_fail_at(&alloc, 1);
    kei_arena_free(&a);
    assert_int_equal(read_meta(&m, "{\"metadata\":{\"name\":\"x\"}}", &a), KE_ENOMEM);
    kei_arena_free(&a);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void labels(void **state)
{
    (void)state;
    static const struct {
        const char *labels, *selector;
        bool match;
    } table[] = {
        {"{\"a\":\"1\",\"b\":\"2\"}", "{\"a\":\"1\"}", true},
        {"{\"a\":\"1\",\"b\":\"2\"}", "{\"b\":\"2\",\"a\":\"1\"}", true},
        {"{\"a\":\"1\"}", "{\"a\":\"2\"}", false},
        {"{\"a\":\"1\"}", "{\"b\":\"1\"}", false},
        {"{\"a\":\"1\",\"a\":\"2\"}", "{\"a\":\"2\"}", true},
        {"{\"\\u0061\":\"1\"}", "{\"a\":\"\\u0031\"}", true},
        {"{}", "{}", true},
        {"null", "{}", true},
        {"null", "{\"a\":\"\"}", false},
        {"", "{\"a\":\"1\"}", false},
        {"{\"a\":1}", "{\"a\":\"1\"}", false},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_int_equal(kei_labels_match(kei_str(table[i].labels), kei_str(table[i].selector)),
                         table[i].match);
}

static void setting_members(void **state)
{
    (void)state;
    static const struct {
        const char *object, *path, *value, *want; /* value NULL removes, want NULL: error */
    } table[] = {
        {"{\"a\": 1, \"b\":2}", "a", "5", "{\"a\": 5, \"b\":2}"},
        {"{\"a\":1}", "b", "5", "{\"a\":1,\"b\":5}"},
        {"{}", "b", "5", "{\"b\":5}"},
        {"{ }", "b.c.d", "[ ]", "{ \"b\":{\"c\":{\"d\":[ ]}}}"},
        {"{\"a\":{\"x\":1}}", "a.y", "2", "{\"a\":{\"x\":1,\"y\":2}}"},
        {"{\"a\":{\"x\": 1 }}", "a.x", "2", "{\"a\":{\"x\": 2 }}"},
        {"{\"a\":null}", "a.b", "2", "{\"a\":{\"b\":2}}"},
        {"{\"a\":[1]}", "a.b", "2", "{\"a\":{\"b\":2}}"},
        {"{\"a\":1,\"a\":2}", "a", "3", "{\"a\":1,\"a\":3}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "b", NULL, "{\"a\":1,\"c\":3}"},
        {"{\"a\":1}", "a", NULL, "{}"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "a", NULL, "{\"b\":2}"},
        {"{\"a\":{\"b\":1},\"c\":2}", "a.b", NULL, "{\"a\":{},\"c\":2}"},
        {"{\"a\":1}", "b", NULL, "{\"a\":1}"},
        {"{\"a\":1}", "a.b", NULL, "{\"a\":1}"},
        {"  {\"a\":1}  ", "a", " 7 ", "{\"a\":7}"},
        {"{\"\\u0061\":1}", "a", "2", "{\"\\u0061\":2}"},
        {"{}", "q\"", "1", "{\"q\\\"\":1}"},
        {"[]", "a", "1", NULL},
        {"{", "a", "1", NULL},
        {"{}", "", "1", NULL},
        {"{}", "a..b", "1", NULL},
        {"{}", "a", "x", NULL},
    };
    struct test_alloc alloc;

    test_alloc_init(&alloc);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_buf out;
        struct ke_str none = {NULL, 0};
        kei_buf_init(&out, &alloc.table);
        kei_buf_adds(&out, ">");
        int r = kei_json_set(&out, kei_str(table[i].object), table[i].path,
                             table[i].value ? kei_str(table[i].value) : none, NULL);
        assert_int_equal(r == 0, table[i].want != NULL);
        assert_string_equal(out.p + 1, table[i].want ? table[i].want : "");
        ke_buf_free(&out);
    }
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void comparing(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } table[] = {
        {"{\"a\":1,\"b\":[1,2]}", " { \"b\" : [ 1 , 2 ] , \"a\" : 1.0 } ", true},
        {"[1,2]", "[2,1]", false},
        {"[1,2]", "[1,2,3]", false},
        {"[[],[]]", "[[],{}]", false},
        {"{\"a\":1}", "{\"a\":1,\"b\":1}", false},
        {"{\"a\":1,\"b\":1}", "{\"a\":1,\"c\":1}", false},
        {"{\"a\":{\"b\":{\"c\":[]}}}", "{\"a\":{\"b\":{\"c\":[]}}}", true},
        {"{\"a\":{\"b\":{\"c\":[]}}}", "{\"a\":{\"b\":{\"c\":[null]}}}", false},
        {"\"a\\u0041\"", "\"aA\"", true},
        {"\"a\"", "\"b\"", false},
        {"9007199254740993", "9007199254740992", false},
        {"100", "1e2", true},
        {"1.50", "15e-1", true},
        {"-0", "0", true},
        {"-1", "1", false},
        {"0.001", "1e-3", true},
        {"12", "120e-1", true},
        {"1e400", "10e399", true},
        {"1", "\"1\"", false},
        {"true", "false", false},
        {"null", "null", true},
        {"null", "{}", false},
        {"{\"x\":1,\"y\":5,\"y\":5}", "{\"x\":1,\"y\":5,\"x\":9}", false},
        {"{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}", true},
        {"{", "{", false},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (kei_json_same(kei_str(table[i].a), kei_str(table[i].b)) != table[i].same)
            fail_msg("%s and %s", table[i].a, table[i].b);
        if (kei_json_same(kei_str(table[i].b), kei_str(table[i].a)) != table[i].same)
            fail_msg("%s and %s", table[i].b, table[i].a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_split), cmocka_unit_test(node_prefix),
        cmocka_unit_test(metadata),        cmocka_unit_test(labels),
        cmocka_unit_test(setting_members), cmocka_unit_test(comparing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
