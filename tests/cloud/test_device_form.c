/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts of devices at the cloud: forms for nodes of each version, and what nodes tell. */
#include "support/support.h"

#include "base/alloc.h"
#include "cloud/device.h"

static struct ke_str text_of(const struct ke_buf *b)
{
    return kei_buf_str(b);
}

static void is_text(struct ke_buf *b, const char *want)
{
    if (!kei_str_is(text_of(b), want))
        fail_msg("got %.*s\nnot %s", KEI_FMT(text_of(b)), want);
    ke_buf_free(b);
    kei_buf_init(b, kei_alloc_malloc());
}

#define CUSTOM                                                                                     \
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\",\"metadata\":{"          \
    "\"name\":\"d\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"nodeSelector\":{"             \
    "\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"values\":[\"n\",\"other\"]}]}]},"            \
    "\"protocol\":{\"customizedProtocol\":{\"protocolName\":\"onvif\",\"configData\":{\"url\":"    \
    "\"u\"}}},\"propertyVisitors\":[{\"propertyName\":\"t\",\"collectCycle\":1500001,"             \
    "\"reportCycle\":2000000000,\"customizedProtocol\":{\"protocolName\":\"onvif\","               \
    "\"configData\":{\"method\":\"x\"}}}],\"data\":{\"dataTopic\":\"a/b\"}}}"

static void v1beta1_of_a_custom_protocol(void **state)
{
    struct ke_buf out;
    char node[KEI_NODE_NAME_MAX + 1];
    (void)state;
    kei_buf_init(&out, kei_alloc_malloc());
    assert_string_equal(kei_device_node(kei_str(CUSTOM), node), "n");
    assert_string_equal(kei_device_model_name(kei_str(CUSTOM), node), "m");
    /* cycles are nanoseconds up to 1.16, milliseconds from then on */
    static const struct {
        uint32_t dialect;
        const char *cycles;
    } cases[] = {{KE_DIALECT_1_15, "\"reportCycle\":2000000000,\"collectCycle\":1500001"},
                 {KE_DIALECT_1_23, "\"reportCycle\":2000,\"collectCycle\":2"}};
    for (size_t i = 0; i < 2; i++) {
        char want[900];
        snprintf(want, sizeof want,
                 "{\"kind\":\"Device\",\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"metadata\":"
                 "{\"name\":\"d\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":"
                 "\"n\",\"properties\":[{\"name\":\"t\",\"visitors\":{\"protocolName\":\"onvif\","
                 "\"configData\":{\"method\":\"x\"}},%s}],\"protocol\":{\"protocolName\":\"onvif\","
                 "\"configData\":{\"url\":\"u\"}},\"data\":{\"dataTopic\":\"a/b\"}},\"status\":{}}",
                 cases[i].cycles);
        assert_int_equal(
            kei_device_beta(&out, kei_str(CUSTOM), cases[i].dialect, kei_alloc_malloc(), NULL), 0);
        is_text(&out, want);
    }
    ke_buf_free(&out);
}

static void v1beta1_goes_as_it_is(void **state)
{
    struct ke_buf out;
    (void)state;
    kei_buf_init(&out, kei_alloc_malloc());
    assert_int_equal(
        kei_device_beta(&out,
                        kei_str("{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"spec\":{\"x\":  "
                                "1},\"libkubeedge\":{\"edge\":{}}}"),
                        KE_DIALECT_1_23, kei_alloc_malloc(), NULL),
        0);
    assert_null(strstr(out.p, "libkubeedge"));
    assert_non_null(strstr(out.p, "\"spec\":{\"x\":  1}"));
    ke_buf_free(&out);
}

#define BETA(props, own)                                                                           \
    "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\",\"metadata\":{"           \
    "\"name\":\"d\",\"uid\":\"u\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},"                 \
    "\"properties\":[" props "]}" own "}"
#define P(name, value) "{\"name\":\"" name "\",\"desired\":{\"value\":\"" value "\"}}"

/* What went is remembered until it comes back; versions of the node as long as they matter. */
static void what_a_new_manifest_remembers(void **state)
{
    static const struct {
        const char *old, *wanted, *own;
    } cases[] = {
        {BETA(P("a", "1") "," P("b", "2"), ""), BETA(P("a", "1"), ""),
         "{\"removed\":{\"b\":\"2\"},\"edge\":{\"b\":8}}"},
        {BETA(P("a", "1"), ",\"libkubeedge\":{\"removed\":{\"b\":\"2\"},\"edge\":{\"b\":8}}"),
         BETA(P("a", "1"), ""), "{\"removed\":{\"b\":\"2\"},\"edge\":{\"b\":8}}"},
        {BETA(P("a", "1"), ",\"libkubeedge\":{\"removed\":{\"b\":\"2\"},\"edge\":{\"b\":8}}"),
         BETA(P("a", "1") "," P("b", "3"), ""), "{\"removed\":{},\"edge\":{\"b\":8}}"},
        {BETA(P("a", "1"), ""), BETA(P("a", "2"), ""), "{\"removed\":{},\"edge\":{\"a\":7}}"},
        {BETA(P("a", "2"), ",\"libkubeedge\":{\"edge\":{\"a\":5}}"), BETA(P("a", "2"), ""),
         "{\"removed\":{},\"edge\":{\"a\":5}}"},
        {BETA(P("a", "2"), ""), BETA(P("a", "2"), ""), "{\"removed\":{},\"edge\":{}}"},
    };
    static const char status[] =
        "{\"status\":{\"twins\":[]},\"libkubeedge\":{\"device\":\"u\",\"versions\":{\"a\":[1,7,0],"
        "\"b\":[2,8,0]}}}";
    struct ke_buf out;
    struct ke_str own;
    (void)state;
    kei_buf_init(&out, kei_alloc_malloc());
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(kei_device_next(&out, kei_str(cases[i].wanted), kei_str(cases[i].old),
                                         kei_str(status), kei_alloc_malloc(), NULL),
                         0);
        assert_true(kei_json_get(text_of(&out), KEI_DEVICE_OWN, &own));
        if (!kei_str_is(own, cases[i].own))
            fail_msg("case %zu: %.*s", i, KEI_FMT(own));
        kei_buf_clear(&out);
    }
    ke_buf_free(&out);
}

#define TOLD(side, value, ts, version, edge)                                                       \
    "{\"twin\":{\"t\":{\"" side "\":{\"value\":\"" value "\",\"metadata\":{\"timestamp\":" ts      \
    "}},\"" version "\":{\"cloud\":0,\"edge\":" edge "}}}}"

static char *many_twins(unsigned n)
{
    char *text = malloc(40 + (size_t)n * 40), *at = text;
    assert_non_null(text);
    at += sprintf(at, "{\"twin\":{");
    for (unsigned i = 0; i < n; i++)
        at += sprintf(at, "%s\"x%u\":{\"actual\":{\"value\":\"\"}}", i ? "," : "", i);
    sprintf(at, "}}");
    return text;
}

static void what_nodes_tell(void **state)
{
    struct kei_device_state s;
    struct kei_arena a;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str none = {0};
    const struct kei_twin_state *t;
    (void)state;
    kei_arena_init(&a, kei_alloc_malloc(), 0);
    assert_int_equal(kei_device_state_read(&s, none, "u", &a, &err), 0);
#define TELL(text, late)                                                                           \
    assert_int_equal(kei_device_state_merge(&s, kei_str(text), late, NULL, &a, &err), 0);          \
    t = kei_device_state_twin(&s, KEI_STR("t"))
    /* of one that is not there nothing can go */
    TELL("{\"twin\":{\"t\":null,\"u\":{\"metadata\":{\"type\":\"deleted\"}},\"v\":{}}}", false);
    assert_int_equal(s.n, 0);
    TELL(TOLD("actual", "1", "100", "actual_version", "3"), true);
    assert_string_equal(t->reported, "1");
    assert_null(t->observed);
    TELL(TOLD("actual", "0", "99", "actual_version", "2"), true); /* late */
    assert_string_equal(t->reported, "1");
    TELL(TOLD("actual", "0", "99", "actual_version", "2"), false); /* of one that is never late */
    assert_string_equal(t->reported, "0");
    TELL(TOLD("expected", "9", "5", "expected_version", "1"), true);
    assert_string_equal(t->observed, "9");
    assert_string_equal(t->reported, "0");
    /* gone on the node: what it said before that does not bring it back */
    TELL("{\"twin\":{\"t\":{\"metadata\":{\"type\":\"deleted\"},\"actual_version\":{\"cloud\":0,"
         "\"edge\":4},\"expected_version\":{\"cloud\":0,\"edge\":2}}}}",
         true);
    assert_true(t->deleted && !t->reported && !t->observed);
    TELL(TOLD("actual", "5", "300", "actual_version", "5"), true);
    assert_true(!t->deleted && strcmp(t->reported, "5") == 0);
    /* bounds */
    assert_int_equal(kei_device_state_merge(&s, kei_str("{\"twin\":7}"), false, NULL, &a, &err),
                     KE_EPARSE);
    char *many = many_twins(KEI_DEVICE_TWINS_MAX + 1);
    assert_int_equal(kei_device_state_merge(&s, kei_str(many), false, NULL, &a, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "4096"));
    free(many);
    kei_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v1beta1_of_a_custom_protocol),
        cmocka_unit_test(v1beta1_goes_as_it_is),
        cmocka_unit_test(what_a_new_manifest_remembers),
        cmocka_unit_test(what_nodes_tell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
