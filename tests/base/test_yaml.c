/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML as Kubernetes reads it. The expectations of plain scalars were written down by hand from the
 * rules of the YAML package that kubectl uses.
 */
#include "support/support.h"

#include "kei_config.h"

#include "base/json.h"
#include "base/yaml.h"

#if KEI_HAVE_YAML

static struct kei_yaml *parse(struct test_alloc *a, const char *text)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_yaml *y;

    if (kei_yaml_parse(&y, &a->table, kei_str(text), 0, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    for (size_t i = 0; i < kei_yaml_count(y); i++) {
        if (kei_json_check(kei_yaml_get(y, i)->json, 0, &err) < 0)
            fail_msg("%s gave %.*s: %s", text, KEI_FMT(kei_yaml_get(y, i)->json), err.text);
    }
    return y;
}

static void assert_doc(struct kei_yaml *y, size_t i, const char *want)
{
    const struct kei_yaml_doc *d = kei_yaml_get(y, i);

    assert_non_null(d);
    if (!kei_str_is(d->json, want))
        fail_msg("document %zu is %.*s, not %s", i, KEI_FMT(d->json), want);
}

static void plain_scalars(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *json; /* json NULL: refused */
    } table[] = {
        /* words */
        {"yes", "true"},
        {"Yes", "true"},
        {"YES", "true"},
        {"y", "true"},
        {"Y", "true"},
        {"on", "true"},
        {"On", "true"},
        {"ON", "true"},
        {"true", "true"},
        {"True", "true"},
        {"TRUE", "true"},
        {"no", "false"},
        {"No", "false"},
        {"NO", "false"},
        {"n", "false"},
        {"N", "false"},
        {"off", "false"},
        {"Off", "false"},
        {"OFF", "false"},
        {"false", "false"},
        {"False", "false"},
        {"FALSE", "false"},
        {"tRUE", "\"tRUE\""},
        {"yEs", "\"yEs\""},
        {"nope", "\"nope\""},
        {"~", "null"},
        {"null", "null"},
        {"Null", "null"},
        {"NULL", "null"},
        {"nil", "\"nil\""},
        {"none", "\"none\""},
        {"", "null"},
        /* integers */
        {"0", "0"},
        {"-0", "0"},
        {"+5", "5"},
        {"-5", "-5"},
        {"0644", "420"},
        {"0o644", "420"},
        {"0O17", "15"},
        {"00", "0"},
        {"0x1F", "31"},
        {"0X1f", "31"},
        {"-0x10", "-16"},
        {"0b101", "5"},
        {"-0b11", "-3"},
        {"1_000", "1000"},
        {"0x_ff", "255"},
        {"1__0_", "10"},
        {"9223372036854775807", "9223372036854775807"},
        {"9223372036854775808", "9223372036854775808"},
        {"18446744073709551615", "18446744073709551615"},
        {"18446744073709551616", "18446744073709551616"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"9007199254740993", "9007199254740993"},
        {"0x", "\"0x\""},
        {"0xg", "\"0xg\""},
        {"0b2", "\"0b2\""},
        {"0o8", "\"0o8\""},
        {"08", "8"},
        {"089", "89"},
        {"+", "\"+\""},
        {"1a", "\"1a\""},
        {"_1", "\"_1\""},
        {"1 2", "\"1 2\""},
        /* other numbers */
        {"1e3", "1000"},
        {"1E3", "1000"},
        {"1e+3", "1000"},
        {"1e-3", "0.001"},
        {"12e03", "12000"},
        {"1.0", "1"},
        {"1.10", "1.1"},
        {"1.", "1"},
        {".5", "0.5"},
        {"-.5", "-0.5"},
        {"+.5", "0.5"},
        {"0.5", "0.5"},
        {"-0.0", "0"},
        {"1_0.5", "10.5"},
        {".5_5", "\".5_5\""},
        {"1e", "\"1e\""},
        {"1e+", "\"1e+\""},
        {"1.2.3", "\"1.2.3\""},
        {".", "\".\""},
        {"..", "\"..\""},
        {"1e21", "1e+21"},
        {"1e20", "100000000000000000000"},
        {"123e20", "1.23e+22"},
        {"0.000001", "0.000001"},
        {"0.0000001", "1e-7"},
        {"1.5e-10", "1.5e-10"},
        {"1e308", "1e+308"},
        {"1e309", "\"1e309\""},
        {"1e-400", "0"},
        {"0e999", "0"},
        {"120.50", "120.5"},
        {".inf", NULL},
        {"-.Inf", NULL},
        {"+.INF", NULL},
        {".nan", NULL},
        {".NaN", NULL},
        {".iNf", "\".iNf\""},
        {"inf", "\"inf\""},
        {"Infinity", "\"Infinity\""},
        {"nan", "\"nan\""},
        /* neither numbers nor dates */
        {"1:30", "\"1:30\""},
        {"190:20:30", "\"190:20:30\""},
        {"2001-12-14", "\"2001-12-14\""},
        {"2001-12-14T21:59:43.10-05:00", "\"2001-12-14T21:59:43.10-05:00\""},
        {"1.2.3.4", "\"1.2.3.4\""},
        {"100m", "\"100m\""},
        {"1Gi", "\"1Gi\""},
        {"10%", "\"10%\""},
        {"v1", "\"v1\""},
        {"a: b", NULL},
        {"nginx:1.25", "\"nginx:1.25\""},
        {"/bin/sh", "\"/bin/sh\""},
        {"=", "\"=\""},
        {"<<", "\"\\u003c\\u003c\""},
        /* quoted is text */
        {"\"yes\"", "\"yes\""},
        {"'0644'", "\"0644\""},
        {"\"\"", "\"\""},
        {"''", "\"\""},
        {"'it''s'", "\"it's\""},
        {"\"a\\tb\\u00e9\\x41\\n\"", "\"a\\tb\xc3\xa9"
                                     "A\\n\""},
        {"\"~\"", "\"~\""},
        {"\"<b>\"", "\"\\u003cb\\u003e\""},
        {"\"\\0\"", "\"\\u0000\""},
        /* tags */
        {"!!str 12", "\"12\""},
        {"!!str", "\"\""},
        {"!!int \"12\"", "12"},
        {"!!int \"0x1f\"", "31"},
        {"!!float 1", "1"},
        {"!!bool \"yes\"", "true"},
        {"!!null \"\"", "null"},
        {"!!int x", NULL},
        {"!!bool 5", NULL},
        {"! 12", "\"12\""},
        {"!own 12", "\"12\""},
        {"!!binary aGVs bG8=", "\"aGVsbG8=\""},
        {"!!timestamp 2001-12-14", "\"2001-12-14\""},
        /* flow */
        {"[1, two, [3]]", "[1,\"two\",[3]]"},
        {"{a: 1, b: [x, y]}", "{\"a\":1,\"b\":[\"x\",true]}"},
        {"{a, b: }", "{\"a\":null,\"b\":null}"},
    };
    struct test_alloc a;

    test_alloc_init(&a);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct kei_yaml *y;
        struct ke_str v;
        char text[200];
        snprintf(text, sizeof text, "v: %s\n", table[i].yaml);
        int r = kei_yaml_parse(&y, &a.table, kei_str(text), 0, &err);
        if (!table[i].json) {
            if (r != KE_EPARSE || !strstr(err.text, "line 1"))
                fail_msg("%s: %d %s", text, r, err.text);
            continue;
        }
        if (r < 0)
            fail_msg("%s: %s", text, err.text);
        assert_true(kei_json_get(kei_yaml_get(y, 0)->json, "v", &v));
        if (!kei_str_is(v, table[i].json))
            fail_msg("%s gave %.*s, not %s", table[i].yaml, KEI_FMT(v), table[i].json);
        assert_int_equal(kei_json_check(kei_yaml_get(y, 0)->json, 0, &err), 0);
        kei_yaml_free(y);
    }
    assert_int_equal(test_alloc_live(&a), 0);
}

static void keys_are_strings(void **state)
{
    (void)state;
    struct test_alloc a;

    test_alloc_init(&a);
    struct kei_yaml *y = parse(&a, "0644: a\nyes: b\n1.50: c\n\"no\": d\n-5: e\n1e3: f\n'': g\n"
                                   "2001-12-14: h\n? k\n: i\n");
    assert_doc(y, 0,
               "{\"420\":\"a\",\"true\":\"b\",\"1.5\":\"c\",\"no\":\"d\",\"-5\":\"e\","
               "\"1000\":\"f\",\"\":\"g\",\"2001-12-14\":\"h\",\"k\":\"i\"}");
    kei_yaml_free(y);
    assert_int_equal(test_alloc_live(&a), 0);
}

static void blocks(void **state)
{
    (void)state;
    struct test_alloc a;

    test_alloc_init(&a);
    struct kei_yaml *y = parse(
        &a,
        "lit: |\n  one\n   two\n\n  three\nfold: >-\n  a\n  b\n\n  c\nkeep: |+\n  x\n\nlist:\n- 1\n"
        "-\n- - y\n  - z\nmulti: a\n  b\n# comment\nend: 'q\n  r'\n");
    assert_doc(y, 0,
               "{\"lit\":\"one\\n two\\n\\nthree\\n\",\"fold\":\"a b\\nc\",\"keep\":\"x\\n\\n\","
               "\"list\":[1,null,[true,\"z\"]],\"multi\":\"a b\",\"end\":\"q r\"}");
    kei_yaml_free(y);
    assert_int_equal(test_alloc_live(&a), 0);
}

static void documents(void **state)
{
    (void)state;
    struct test_alloc a;

    test_alloc_init(&a);
    struct kei_yaml *y =
        parse(&a, "a: 1\n---\n---\n# nothing\n---\n- 2\n...\n%YAML 1.1\n--- |\n text\n"
                  "---\n~\n--- {b: 3}\n");
    assert_int_equal(kei_yaml_count(y), 4);
    assert_doc(y, 0, "{\"a\":1}");
    assert_doc(y, 1, "[2]");
    assert_doc(y, 2, "\"text\\n\"");
    assert_doc(y, 3, "{\"b\":3}");
    assert_int_equal(kei_yaml_get(y, 0)->line, 1);
    assert_int_equal(kei_yaml_get(y, 1)->line, 6);
    assert_int_equal(kei_yaml_get(y, 2)->line, 9);
    assert_null(kei_yaml_get(y, 4));
    kei_yaml_free(y);
    static const char *const empty[] = {"", "\n\n", "# x\n", "---\n", "---\n---\n...\n", "~\n"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        y = parse(&a, empty[i]);
        assert_int_equal(kei_yaml_count(y), 0);
        kei_yaml_free(y);
    }
    kei_yaml_free(NULL);
    assert_int_equal(test_alloc_live(&a), 0);
}

static void anchors(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *json;
    } table[] = {
        {"a: &x {p: 1}\nb: *x\nc: [*x, *x]\n",
         "{\"a\":{\"p\":1},\"b\":{\"p\":1},\"c\":[{\"p\":1},{\"p\":1}]}"},
        {"a: &x yes\nb: *x\n*x : c\n", "{\"a\":true,\"b\":true,\"true\":\"c\"}"},
        {"&k a: 1\nb: *k\n", "{\"a\":1,\"b\":\"a\"}"},
        {"a: &x 1\nb: &x 2\nc: *x\n", "{\"a\":1,\"b\":2,\"c\":2}"},
        {"a: &x\n  b: &y 1\n  c: *y\nd: *x\n", "{\"a\":{\"b\":1,\"c\":1},\"d\":{\"b\":1,\"c\":1}}"},
        /* merge keys: what is there wins, then the earlier of several */
        {"a: &a {p: 1, q: 2}\nb:\n  q: 3\n  <<: *a\n  r: 4\n",
         "{\"a\":{\"p\":1,\"q\":2},\"b\":{\"q\":3,\"r\":4,\"p\":1}}"},
        {"a: &a {p: 1}\nb: &b {p: 2, q: 3}\nc:\n  <<: [*a, *b]\n",
         "{\"a\":{\"p\":1},\"b\":{\"p\":2,\"q\":3},\"c\":{\"p\":1,\"q\":3}}"},
        {"c:\n  <<: {p: 1, q: [x, {z: 1}]}\n  p: 2\n", "{\"c\":{\"p\":2,\"q\":[\"x\",{\"z\":1}]}}"},
        {"c:\n  <<:\n  - {p: 1}\n  - {p: 2, q: 2}\n", "{\"c\":{\"p\":1,\"q\":2}}"},
        {"a: &a {p: 1}\nb:\n  <<: *a\n  <<: {q: 2}\n", "{\"a\":{\"p\":1},\"b\":{\"p\":1,\"q\":2}}"},
        {"a: &a {p: 1}\nb: &b\n  <<: *a\n  q: 2\nc:\n  <<: *b\n",
         "{\"a\":{\"p\":1},\"b\":{\"q\":2,\"p\":1},\"c\":{\"q\":2,\"p\":1}}"},
        {"c:\n  <<:\n    <<: {deep: 1}\n    x: 2\n  z: 3\n",
         "{\"c\":{\"z\":3,\"x\":2,\"deep\":1}}"},
        {"a:\n  <<: {p: &in {z: 1}}\n  q: *in\n", "{\"a\":{\"q\":{\"z\":1},\"p\":{\"z\":1}}}"},
        {"a:\n  <<: {x: 1, <<: {p: &i [1], <<: &j {q: 2}}}\n  m: *i\n  o: *j\n",
         "{\"a\":{\"m\":[1],\"o\":{\"q\":2},\"x\":1,\"p\":[1],\"q\":2}}"},
        {"\"<<\": 1\n", "{\"\\u003c\\u003c\":1}"},
        {"a: &a {}\nb: {<<: *a}\n", "{\"a\":{},\"b\":{}}"},
    };
    struct test_alloc a;

    test_alloc_init(&a);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct kei_yaml *y = parse(&a, table[i].yaml);
        assert_doc(y, 0, table[i].json);
        kei_yaml_free(y);
    }
    assert_int_equal(test_alloc_live(&a), 0);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *error; /* part of the text */
    } table[] = {
        {"a: 1\nb: 2\na: 3\n", "line 3: key \"a\""},
        {"x:\n  yes: 1\n  on: 2\n", "line 3: key \"true\""},
        {"{a: 1,\n \"\\x61\": 2}", "line 2: key \"a\""},
        {"a: b: c\n", "line 1"},
        {"a: 1\n b: 2\n", "line 2"},
        {"a: [1, 2\nb: 3\n", "line 2"},
        {"a: \"x\n", "line"},
        {"\tb: 1\n", "line 1"},
        {"a: *nope\n", "line 1: alias *nope"},
        {"a: 1\n---\nb: &x 1\n---\nc: *x\n",
         "line 5: alias *x"}, /* anchors end with their document */
        {"a: &a [*a]\n", "inside its own anchor"},
        {"a: &x 1\nb: &x [*x]\n", "inside its own anchor"},
        {"? [a]\n: 1\n", "line 1: a list or a map cannot be a key"},
        {"? {a: 1}\n: 1\n", "line 1"},
        {"a: &a [1]\n*a : 2\n", "line 2"},
        {"~: 1\n", "line 1: a key was empty"},
        {": 1\n", "line 1"},
        {"a:\n  <<: 5\n", "line 2: a merge key"},
        {"a:\n  <<: [5]\n", "line 2: a merge key"},
        {"a: &a [1]\nb:\n  <<: *a\n", "line 3: a merge key"},
        {"a: &a x\nb:\n  <<: *a\n", "line 3: a merge key"},
        {"a: .inf\n", "quote it"},
        {"a: @x\n", "line 1"},
        {"a: \x01\n", "byte 3"},
        {"a: \xff\n", "byte 3"},
        {"%YAML 2.0\n--- a\n", "line 1"},
    };
    struct test_alloc a;

    test_alloc_init(&a);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct kei_yaml *y;
        int r = kei_yaml_parse(&y, &a.table, kei_str(table[i].yaml), 0, &err);
        if (r != KE_EPARSE || !strstr(err.text, table[i].error))
            fail_msg("%s: %d %s", table[i].yaml, r, err.text);
    }
    assert_int_equal(test_alloc_live(&a), 0);
}

static void bounds(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf b = {NULL, 0, 0, NULL};
    struct test_alloc a;
    struct kei_yaml *y;

    test_alloc_init(&a);
    /* a thousand million laughs */
    kei_buf_adds(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 10; i++) {
        kei_buf_addf(&b, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            kei_buf_addf(&b, "%s*a%d", k ? "," : "", i - 1);
        kei_buf_adds(&b, "]\n");
    }
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_buf_str(&b), 0, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "8388608"));
    assert_true(a.peak_bytes < 40u << 20);

    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_str("a: 12345\n"), 8, &err), KE_ELIMIT);
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_str("a: 12\n"), 8, &err), 0);
    kei_yaml_free(y);

    /* nesting, both ways of writing it */
    kei_buf_clear(&b);
    for (int i = 0; i < 100000; i++)
        kei_buf_adds(&b, "[");
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_buf_str(&b), 0, &err), KE_ELIMIT);
    kei_buf_clear(&b);
    for (int i = 0; i < 100000; i++)
        kei_buf_adds(&b, "- ");
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_buf_str(&b), 0, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "128"));

    /* merge keys that bring nothing but cost */
    kei_buf_clear(&b);
    kei_buf_adds(&b, "a: &a {k: \"");
    for (int i = 0; i < 100000; i++)
        kei_buf_addc(&b, 'x');
    kei_buf_adds(&b, "\"}\nl:\n");
    for (int i = 0; i < 20000; i++)
        kei_buf_adds(&b, "- {<<: *a, k: 1}\n");
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_buf_str(&b), 0, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "merge keys"));
    kei_buf_clear(&b);
    kei_buf_adds(&b, "a: &a {k: 1}\nb:\n  <<: [");
    for (int i = 0; i < 65; i++)
        kei_buf_adds(&b, "*a,");
    kei_buf_adds(&b, "]\n");
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_buf_str(&b), 0, &err), KE_ELIMIT);
    ke_buf_free(&b);
    assert_int_equal(test_alloc_live(&a), 0);
}

static size_t offset_of(const struct kei_yaml *y, size_t doc, const char *path)
{
    struct ke_str v;

    assert_true(kei_json_path(kei_yaml_get(y, doc)->json, path, &v));
    return (size_t)(v.p - kei_yaml_get(y, doc)->json.p);
}

static void lines(void **state)
{
    (void)state;
    struct test_alloc a;

    test_alloc_init(&a);
    struct kei_yaml *y =
        parse(&a, "# head\nkind: Pod\nmetadata:\n  name: web\n  labels: &l\n    a: b\n"
                  "spec:\n  other: *l\n  merged:\n    <<: *l\n    own: 1\n---\nx:\n\n  z: 2\n");
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "kind")), 2);
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "metadata.name")), 4);
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "metadata.labels.a")), 6);
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "spec.other")), 8);
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "spec.other.a")), 8);
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "spec.merged.own")), 11);
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "spec.merged.a")), 10);
    assert_int_equal(kei_yaml_line(y, 1, offset_of(y, 1, "x.z")), 15);
    assert_int_equal(kei_yaml_line(y, 0, 0), 2);
    assert_int_equal(kei_yaml_line(y, 2, 0), 0);
    kei_yaml_free(y);
    y = parse(&a, "a: 1\n? b\n\n\n? c\n\n");
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "b")), 2);
    assert_int_equal(kei_yaml_line(y, 0, offset_of(y, 0, "c")), 5);
    assert_int_equal(kei_yaml_line(y, 0, 100000), 0);
    kei_yaml_free(y);
    assert_int_equal(test_alloc_live(&a), 0);
}

static void memory_runs_out(void **state)
{
    (void)state;
    static const char text[] =
        "a: &x {p: 1, q: [a, b]}\nb:\n  <<: *x\n  p: 2\nc: {<<: {r: 1}}\n---\nd: 1\n";
    struct test_alloc a;
    struct kei_yaml *y;
    size_t n;

    test_alloc_init(&a);
    for (n = 1;; n++) {
        a.failed = 0;
        test_alloc_fail_at(&a, n);
        int r = kei_yaml_parse(&y, &a.table, kei_str(text), 0, NULL);
        if (r == 0)
            break;
        assert_int_equal(r, KE_ENOMEM);
        assert_int_equal(test_alloc_live(&a), 0);
    }
    assert_int_equal(a.failed, 0);
    assert_true(n > 8);
    kei_yaml_free(y);
    assert_int_equal(test_alloc_live(&a), 0);
}

/* A text cut anywhere, or with a byte changed, is read or refused; nothing else happens. */
static void damaged(void **state)
{
    (void)state;
    static const char text[] =
        "a: &x {p: 1, \"q\": [a, 'b']}\nb:\n  <<: *x\n  l: |\n   t\n--- !!str x\n";
    struct test_alloc a;
    struct kei_yaml *y;

    test_alloc_init(&a);
    for (size_t n = 0; n < sizeof text; n++) {
        char *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, text, n);
        if (kei_yaml_parse(&y, &a.table, kei_strn(copy, n), 0, NULL) == 0)
            kei_yaml_free(y);
        for (size_t at = 0; at < n; at++) {
            char was = copy[at];
            copy[at] = "\n :-{[*&!\"\\x"[(at + n) % 13];
            if (kei_yaml_parse(&y, &a.table, kei_strn(copy, n), 0, NULL) == 0) {
                for (size_t i = 0; i < kei_yaml_count(y); i++)
                    assert_int_equal(kei_json_check(kei_yaml_get(y, i)->json, 0, NULL), 0);
                kei_yaml_free(y);
            }
            copy[at] = was;
        }
        free(copy);
    }
    assert_int_equal(test_alloc_live(&a), 0);
}

#endif

/* JSON is taken as it is, byte for byte, whether or not YAML was built in. */
static void json_text(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    struct test_alloc a;
    struct kei_yaml *y;

    test_alloc_init(&a);
    static const char text[] =
        "\n\t{\"a\": 1.50,\n\t\"b\": \"yes\",\n \"n\": 9007199254740993}\n\n{\"c\":\n2}\n";
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_str(text), 0, &err), 0);
    assert_int_equal(kei_yaml_count(y), 2);
    assert_true(kei_str_is(kei_yaml_get(y, 0)->json,
                           "{\"a\": 1.50,\n\t\"b\": \"yes\",\n \"n\": 9007199254740993}"));
    assert_int_equal(kei_yaml_get(y, 0)->line, 2);
    assert_int_equal(kei_yaml_get(y, 1)->line, 6);
    struct ke_str v;
    assert_true(kei_json_get(kei_yaml_get(y, 0)->json, "n", &v));
    assert_int_equal(kei_yaml_line(y, 0, (size_t)(v.p - kei_yaml_get(y, 0)->json.p)), 4);
    assert_int_equal(kei_yaml_line(y, 1, 5), 6); /* the line break itself */
    assert_int_equal(kei_yaml_line(y, 1, 6), 7);
    kei_yaml_free(y);

    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_str("[1,2]"), 0, &err), 0);
    kei_yaml_free(y);
    struct ke_buf b = {NULL, 0, 0, NULL};
    for (int i = 0; i < 1000000; i++)
        kei_buf_addc(&b, '[');
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_buf_str(&b), 0, &err), KE_ELIMIT);
    ke_buf_free(&b);
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_str("{\"a\":1"), 0, &err), KE_EPARSE);
#if !KEI_HAVE_YAML
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_str("a: 1\n"), 0, &err), KE_ENOTSUP);
#endif
    test_alloc_fail_at(&a, 2);
    assert_int_equal(kei_yaml_parse(&y, &a.table, kei_str("{}"), 0, &err), KE_ENOMEM);
    assert_int_equal(test_alloc_live(&a), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_text),
#if KEI_HAVE_YAML
        cmocka_unit_test(plain_scalars),
        cmocka_unit_test(keys_are_strings),
        cmocka_unit_test(blocks),
        cmocka_unit_test(documents),
        cmocka_unit_test(anchors),
        cmocka_unit_test(refused),
        cmocka_unit_test(bounds),
        cmocka_unit_test(lines),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(damaged),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
