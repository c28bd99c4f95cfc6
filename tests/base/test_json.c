/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: the checker, spans, numbers, the tree and the writer. */
#include "support/support.h"

#include "base/json.h"

static void checker(void **state)
{
    (void)state;
    static const char *const good[] = {"null",
                                       "true",
                                       "false",
                                       "0",
                                       "-0",
                                       "10",
                                       "-1.5e+3",
                                       "1E5",
                                       "0.0",
                                       "1e-7",
                                       "\"\"",
                                       "[]",
                                       "{}",
                                       " [ 1 , 2 ] ",
                                       "{\"a\":1}",
                                       "{\"a\":{\"b\":[{},[],\"x\"]}}",
                                       "\t\r\n{ \"a\" : null }\n",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
                                       "\"\xff\xfe\"",
                                       "\"\\ud800\"",
                                       "\"\x7f\"",
                                       "{\"\":0}",
                                       "[[[[]]]]",
                                       "123456789012345678901234567890",
                                       "{\"a\":1,\"a\":2}"};
    static const char *const bad[] = {"",
                                      " ",
                                      "nul",
                                      "nulll",
                                      "True",
                                      "tru",
                                      "+1",
                                      "01",
                                      "-",
                                      "-a",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "1e+",
                                      "0x1",
                                      "1 2",
                                      "\"",
                                      "\"\\\"",
                                      "\"a",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\u12g4\"",
                                      "\"\n\"",
                                      "\"\x1f\"",
                                      "\"\\",
                                      "'a'",
                                      "[",
                                      "]",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "{",
                                      "}",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{\"a\" 1}",
                                      "{1:1}",
                                      "{\"a\":1 \"b\":2}",
                                      "[}",
                                      "{]",
                                      "[1}",
                                      "{\"a\":1]",
                                      "\xef\xbb\xbf{}",
                                      "NaN",
                                      "Infinity",
                                      "[1]]",
                                      "{}{}",
                                      "// x\n1",
                                      "[1]x",
                                      "\x01",
                                      "\"a\0b\"",
                                      "\v1",
                                      "\xc2\xa0 1"};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        if (kei_json_check(kei_str(good[i]), 0, &err) < 0)
            fail_msg("%s: %s", good[i], err.text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        if (kei_json_check(kei_str(bad[i]), 0, &err) != KE_EPARSE)
            fail_msg("\"%s\" was taken", bad[i]);
        if (!strstr(err.text, "offset"))
            fail_msg("\"%s\": %s", bad[i], err.text);
    }
    assert_int_equal(kei_json_check(kei_strn("\"a\0b\"", 5), 0, NULL), KE_EPARSE);
}

/* Every place where a text can end, and every byte that can be wrong: never a read behind the end.
 */
static void cut_and_damaged(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\\u00e9\":[1,-2.5e3,true,null,\"x\\n\xc3\xa9\"],\"b\":{\"c\":false}}";
    size_t n = sizeof text - 1;

    for (size_t cut = 0; cut < n; cut++) {
        char *copy = malloc(cut ? cut : 1);
        assert_non_null(copy);
        memcpy(copy, text, cut);
        assert_int_equal(kei_json_check(kei_strn(copy, cut), 0, NULL), KE_EPARSE);
        free(copy);
    }
    for (size_t at = 0; at < n; at++) {
        for (int c = 0; c < 256; c++) {
            struct ke_str v, k, val;
            size_t it = 0;
            char *copy = malloc(n);
            assert_non_null(copy);
            memcpy(copy, text, n);
            copy[at] = (char)c;
            int r = kei_json_value(kei_strn(copy, n), 0, &v, NULL);
            assert_true(r == 0 || r == KE_EPARSE);
            /* readers stay inside whatever they are given */
            v = kei_strn(copy, n);
            while (kei_json_next(v, &it, &k, &val))
                assert_true(val.p >= copy && val.p + val.n <= copy + n);
            kei_json_path(v, "b.c", &val);
            free(copy);
        }
    }
}

static void depth(void **state)
{
    (void)state;
    enum { N = 1000000 };
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str v;
    char *text = malloc(2 * N);

    assert_non_null(text);
    memset(text, '[', N);
    memset(text + N, ']', N);
    assert_int_equal(kei_json_check(kei_strn(text, 2 * N), 0, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "128"));
    assert_int_equal(kei_json_check(kei_strn(text + N - 128, 256), 0, &err), 0);
    assert_int_equal(kei_json_check(kei_strn(text + N - 129, 258), 0, &err), KE_ELIMIT);
    assert_int_equal(kei_json_check(kei_strn(text + N - 3, 6), 3, &err), 0);
    assert_int_equal(kei_json_check(kei_strn(text + N - 3, 6), 2, &err), KE_ELIMIT);
    assert_int_equal(kei_json_check(kei_strn(text + N - 1024, 2048), 5000, &err), 0);
    assert_int_equal(kei_json_check(kei_strn(text + N - 1025, 2050), 5000, &err), KE_ELIMIT);
    assert_int_equal(kei_json_value(kei_strn("[[]]", 4), 1, &v, &err), KE_ELIMIT);
    /* levels side by side do not add up, and objects do not mix with lists */
    assert_int_equal(kei_json_check(kei_str("[[],[],{\"a\":[]},[{}]]"), 3, &err), 0);
    for (size_t i = 0; i < N; i++)
        memcpy(text + 5 * (i % (2 * N / 5 - 1)), "{\"a\":", 5);
    assert_int_equal(kei_json_check(kei_strn(text, 2 * N), 0, &err), KE_ELIMIT);
    free(text);
}

static void first_value(void **state)
{
    (void)state;
    struct ke_str v;

    assert_int_equal(kei_json_value(kei_str("  {\"a\": 1}  trailing"), 0, &v, NULL), 0);
    assert_true(kei_str_is(v, "{\"a\": 1}"));
    assert_int_equal(kei_json_value(kei_str("12 13"), 0, &v, NULL), 0);
    assert_true(kei_str_is(v, "12"));
    assert_int_equal(kei_json_type(v), '0');
    assert_int_equal(kei_json_type(kei_str("-1")), '0');
    assert_int_equal(kei_json_type(kei_str("")), 0);
    assert_int_equal(kei_json_type(kei_str("null")), 'n');
}

static void members(void **state)
{
    (void)state;
    struct ke_str v, doc = kei_str(" { \"a\" : 1 , \"b\":{\"c\":[true,\"}]\\\"\"],\"\\u0064\":5},"
                                   "\"a\":2,\"Err\":null,\"err\":3 , \"e\":{}} ");

    assert_int_equal(kei_json_value(doc, 0, &doc, NULL), 0);
    assert_true(kei_json_get(doc, "a", &v));
    assert_true(kei_str_is(v, "2")); /* the last one */
    assert_true(kei_json_path(doc, "b.c", &v));
    assert_true(kei_str_is(v, "[true,\"}]\\\"\"]"));
    assert_true(kei_json_path(doc, "b.d", &v)); /* its name is escaped */
    assert_true(kei_str_is(v, "5"));
    assert_false(kei_json_path(doc, "b.x", &v));
    assert_false(kei_json_path(doc, "a.b", &v));
    assert_false(kei_json_path(doc, "", &v));
    assert_false(kei_json_get(doc, "ERR", &v));
    assert_true(kei_json_iget(doc, "ERR", &v));
    assert_true(kei_str_is(v, "3"));
    assert_false(kei_json_get(kei_str("[1]"), "a", &v));
    assert_false(kei_json_get((struct ke_str){NULL, 0}, "a", &v));
    /* names fold as in Go: the long s and the Kelvin sign too */
    assert_true(kei_json_iget(kei_str("{\"re\xc5\xbfource\":1}"), "resource", &v));
    assert_true(kei_json_iget(kei_str("{\"\xe2\x84\xaa\":1}"), "k", &v));
    assert_true(kei_json_iget(kei_str("{\"M\\u0053G\":1}"), "msg", &v));
    assert_false(kei_json_iget(kei_str("{\"ms\":1}"), "msg", &v));
    assert_false(kei_json_iget(kei_str("{\"msgs\":1}"), "msg", &v));
    assert_false(kei_json_iget(kei_str("{\"ms\xc3\xa9\":1}"), "msg", &v));

    assert_true(kei_json_key_is(kei_str("a\\u0062c"), "abc"));
    assert_true(kei_json_key_is(kei_str(""), ""));
    assert_false(kei_json_key_is(kei_str("a\\u0000"), "a"));
    assert_false(kei_json_key_is(kei_str("ab"), "a"));
    assert_false(kei_json_key_is(kei_str("a"), "ab"));
    assert_false(kei_json_key_is(kei_str("\\u0061\\u0062"), "a"));
    assert_true(kei_json_key_eq(kei_str("a\\u0062"), kei_str("\\u0061b")));
    assert_false(kei_json_key_eq(kei_str("a"), kei_str("ab")));
}

static void walking(void **state)
{
    (void)state;
    static const struct {
        const char *doc, *want;
    } table[] = {
        {"{\"a\":1,\"b\":[2,{\"x\":3}],\"c\":\"}\"}", "a=1;b=[2,{\"x\":3}];c=\"}\";"},
        {"[1, \"a,b\" ,[],{},null,-2e5]", "=1;=\"a,b\";=[];={};=null;=-2e5;"},
        {"{}", ""},
        {"[ ]", ""},
        {"{ \"\" : \"\" }", "=\"\";"},
        {"5", ""},
        {"\"[1]\"", ""},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_buf b = {NULL, 0, 0, NULL};
        struct ke_str key, v;
        size_t it = 0;
        kei_buf_adds(&b, "");
        kei_buf_add(&b, "", 0);
        while (kei_json_next(kei_str(table[i].doc), &it, &key, &v))
            kei_buf_addf(&b, "%.*s=%.*s;", KEI_FMT(key), KEI_FMT(v));
        assert_string_equal(b.p, table[i].want);
        assert_false(kei_json_next(kei_str(table[i].doc), &it, &key, &v)); /* stays at the end */
        ke_buf_free(&b);
    }
}

static void strings(void **state)
{
    (void)state;
    static const struct {
        const char *json, *want; /* NULL: refused */
    } table[] = {
        {"\"\"", ""},
        {"\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac"},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
        {"\"\\ud83d\"", "\xef\xbf\xbd"},
        {"\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\\ud83d\\u0041\"", "\xef\xbf\xbd"
                               "A"},
        {"\"\\ud83dx\"", "\xef\xbf\xbdx"},
        {"\"a\xff\xc3(\"", "a\xef\xbf\xbd\xef\xbf\xbd("},
        {"\"\xed\xa0\x80\"", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\xc3\xa9\"", "\xc3\xa9"},
        {"\"\\u0000\"", NULL},
        {"\"a\\u0000b\"", NULL},
        {"5", NULL},
        {"null", NULL},
        {"", NULL},
    };
    struct test_alloc alloc;
    struct kei_arena a;

    test_alloc_init(&alloc);
    kei_arena_init(&a, &alloc.table, 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_buf b;
        kei_buf_init(&b, &alloc.table);
        kei_buf_adds(&b, ">");
        int r = kei_json_str(kei_str(table[i].json), &b, NULL);
        char *s = kei_json_strdup(kei_str(table[i].json), &a);
        if (!table[i].want) {
            assert_int_equal(r, KE_EPARSE);
            assert_string_equal(b.p, ">");
            assert_null(s);
        } else {
            assert_int_equal(r, 0);
            assert_string_equal(b.p + 1, table[i].want);
            assert_string_equal(s, table[i].want);
            assert_true(kei_json_str_is(kei_str(table[i].json), table[i].want));
        }
        ke_buf_free(&b);
    }
    assert_string_equal(kei_json_path_str(kei_str("{\"a\":{\"b\":\"x\"}}"), "a.b", &a), "x");
    assert_string_equal(kei_json_path_str(kei_str("{\"a\":{\"b\":5}}"), "a.b", &a), "");
    assert_string_equal(kei_json_path_str(kei_str("{}"), "a.b", &a), "");
    assert_false(kei_json_str_is(kei_str("5"), "5"));
    assert_true(kei_json_str_eq(kei_str("\"\\u0061\""), kei_str("\"a\"")));
    assert_false(kei_json_str_eq(kei_str("\"a\""), kei_str("a")));

    char *out;
    struct ke_error err = KE_ERROR_INIT;
    kei_arena_free(&a);
    test_alloc_fail_at(&alloc, 1);
    assert_int_equal(kei_json_text(&out, kei_str("\"x\""), &a, &err), KE_ENOMEM);
    assert_int_equal(kei_json_text(&out, kei_str("\"\\u0000\""), &a, &err), KE_EPARSE);
    kei_arena_free(&a);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void copied_strings(void **state)
{
    (void)state;
    char out[6];

    assert_int_equal(kei_json_copy(out, sizeof out, kei_str("\"abc\"")), 3);
    assert_string_equal(out, "abc");
    assert_int_equal(kei_json_copy(out, sizeof out, kei_str("\"abcdefgh\"")), 5);
    assert_string_equal(out, "abcde");
    assert_int_equal(kei_json_copy(out, sizeof out, kei_str("\"abcd\xc3\xa9\"")), 4); /* no half */
    assert_string_equal(out, "abcd");
    assert_int_equal(kei_json_copy(out, sizeof out, kei_str("\"a\\n\\u0000\\u007f\"")), 4);
    assert_string_equal(out, "a???");
    assert_int_equal(kei_json_copy(out, sizeof out, kei_str("5")), 0);
    assert_string_equal(out, "");
    assert_int_equal(kei_json_copy(out, 0, kei_str("\"x\"")), 0);
}

static void integers(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        bool ok;
        int64_t v;
    } table[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"12", true, 12},
        {"-12", true, -12},
        {"9007199254740993", true, INT64_C(9007199254740993)},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999999", false, 0},
        {"1e3", true, 1000},
        {"1E+3", true, 1000},
        {"1.0", true, 1},
        {"1.5", false, 0},
        {"15e-1", false, 0},
        {"1.5e1", true, 15},
        {"150e-1", true, 15},
        {"100000000000000000000e-2", true, INT64_C(1000000000000000000)},
        {"1e18", true, INT64_C(1000000000000000000)},
        {"1e19", false, 0},
        {"1e999999999999", false, 0},
        {"0e999999999999", true, 0},
        {"1e-999999999999", false, 0},
        {"0.000", true, 0},
        {"9.223372036854775807e18", true, INT64_MAX},
        {"92233720368547758070e-1", true, INT64_MAX},
        {"1000.000000000000000000000000000000", true, 1000},
        {"\"1\"", false, 0},
        {"true", false, 0},
        {"", false, 0},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int64_t v = 77;
        bool ok = kei_json_i64(kei_str(table[i].s), &v);
        if (ok != table[i].ok || v != (ok ? table[i].v : 77))
            fail_msg("%s gave %d %lld", table[i].s, ok, (long long)v);
    }
    assert_true(kei_json_bool(kei_str("true"), false));
    assert_false(kei_json_bool(kei_str("false"), true));
    assert_true(kei_json_bool(kei_str("1"), true));
    assert_false(kei_json_bool(kei_str(""), false));
}

static void tree(void **state)
{
    (void)state;
    struct kei_jtree *t;
    struct ke_error err = KE_ERROR_INIT;
    static const char doc[] =
        "{\"a\":{\"b\":[1,\"x\",null,true,{\"c\":-2.5}]},\"n\":9007199254740993,"
        "\"d\":1,\"d\":2,\"e\":[],\"s\":\"\\u00e9\\ud83d\\ude00\\ud800\"}";

    assert_int_equal(kei_jtree_parse(&t, kei_str(doc), 0, &err), 0);
    const struct kei_jv *r = kei_jtree_root(t), *b = kei_jv_path(r, "a.b");
    assert_int_equal(kei_jv_type(r), '{');
    assert_int_equal(kei_jv_count(r), 6);
    assert_int_equal(kei_jv_type(b), '[');
    assert_int_equal(kei_jv_count(b), 5);
    static const char types[] = "0\"nt{";
    size_t i = 0;
    for (const struct kei_jv *v = kei_jv_first(b); v; v = kei_jv_sibling(v), i++) {
        assert_int_equal(kei_jv_type(v), types[i]);
        assert_string_equal(kei_jv_key(v), "");
    }
    assert_int_equal(i, 5);
    assert_string_equal(kei_jv_key(kei_jv_first(r)), "a");
    assert_int_equal(kei_jv_i64(kei_jv_first(b), 7), 1);
    assert_string_equal(kei_jv_str(kei_jv_sibling(kei_jv_first(b)), ""), "x");
    assert_int_equal(kei_jv_i64(kei_jv_get(r, "n"), 7), 7); /* a double lost it: not a value */
    assert_int_equal(kei_jv_i64(kei_jv_get(r, "d"), 7), 2); /* the last one */
    assert_string_equal(kei_jv_str(kei_jv_get(r, "s"), ""), "\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd");
    /* absent reads as absent all the way down */
    assert_null(kei_jv_path(r, "a.x.y"));
    assert_null(kei_jv_get(NULL, "a"));
    assert_null(kei_jv_first(kei_jv_get(r, "e")));
    assert_null(kei_jv_first(kei_jv_get(r, "s")));
    assert_null(kei_jv_sibling(NULL));
    assert_string_equal(kei_jv_str(NULL, "dflt"), "dflt");
    assert_int_equal(kei_jv_i64(kei_jv_get(r, "s"), 5), 5);
    assert_true(kei_jv_bool(NULL, true));
    assert_int_equal(kei_jv_type(NULL), 0);
    assert_int_equal(kei_jv_count(NULL), 0);
    kei_jtree_free(t);
    kei_jtree_free(NULL);

    assert_int_equal(kei_jtree_parse(&t, kei_str("{\"a\":\"x\\u0000y\"}"), 0, &err), KE_EPARSE);
    assert_int_equal(kei_jtree_parse(&t, kei_str("{\"a\\u0000\":1}"), 0, &err), KE_EPARSE);
    assert_int_equal(kei_jtree_parse(&t, kei_str("{} x"), 0, &err), KE_EPARSE);
    assert_int_equal(kei_jtree_parse(&t, kei_str("[1,2]"), 4, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "4"));
    /* an escaped backslash before u0000 is text */
    assert_int_equal(kei_jtree_parse(&t, kei_str("\"\\\\u0000\""), 0, &err), 0);
    assert_string_equal(kei_jv_str(kei_jtree_root(t), ""), "\\u0000");
    kei_jtree_free(t);
    assert_int_equal(kei_jtree_parse(&t, kei_strn("truex", 4), 0, &err), 0); /* no NUL needed */
    kei_jtree_free(t);
}

static void writer(void **state)
{
    (void)state;
    struct ke_buf b = {NULL, 0, 0, NULL};
    struct kei_jw w;

    kei_jw_init(&w, &b);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "s", "x");
    kei_jw_kstr(&w, "none", NULL);
    kei_jw_ki64(&w, "i", INT64_MIN);
    kei_jw_kbool(&w, "t", true);
    kei_jw_kraw(&w, "raw", KEI_STR("[ 1 ]"));
    kei_jw_key(&w, "a\"b");
    kei_jw_arr(&w);
    kei_jw_bool(&w, false);
    kei_jw_null(&w);
    kei_jw_obj(&w);
    kei_jw_obj_end(&w);
    kei_jw_arr(&w);
    kei_jw_arr_end(&w);
    kei_jw_i64(&w, 5);
    kei_jw_arr_end(&w);
    kei_jw_obj_end(&w);
    assert_string_equal(b.p, "{\"s\":\"x\",\"none\":null,\"i\":-9223372036854775808,\"t\":true,"
                             "\"raw\":[ 1 ],\"a\\\"b\":[false,null,{},[],5]}");
    assert_int_equal(w.depth, 0);
    assert_int_equal(kei_json_check(kei_buf_str(&b), 0, NULL), 0);
    kei_buf_clear(&b);
    kei_jw_init(&w, &b);
    static const char odd[] =
        "\x01\x1f\"\\\n\r\t<>&/\x7f\xc3\xa9\xe2\x80\xa8\xe2\x80\xa9\xff\xe2\x82\0z";
    kei_jw_strv(&w, kei_strn(odd, sizeof odd - 1));
    assert_string_equal(b.p, "\"\\u0001\\u001f\\\"\\\\\\n\\r\\t\\u003c\\u003e\\u0026/\x7f\xc3\xa9"
                             "\\u2028\\u2029\\ufffd\\ufffd\\ufffd\\u0000z\"");
    ke_buf_free(&b);
}

/* Any bytes, written as a string and read again: the same, with replacements where invalid. */
static void written_and_read(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252u;

    for (int round = 0; round < 3000; round++) {
        struct ke_buf json = {NULL, 0, 0, NULL}, back = {NULL, 0, 0, NULL},
                      again = {NULL, 0, 0, NULL};
        struct kei_jw w;
        char bytes[24];
        size_t n = (size_t)round % sizeof bytes;
        for (size_t i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            bytes[i] = (char)(1 + x % 255);
        }
        kei_jw_init(&w, &json);
        kei_jw_strv(&w, kei_strn(bytes, n));
        assert_int_equal(kei_json_check(kei_buf_str(&json), 0, NULL), 0);
        assert_int_equal(kei_json_str(kei_buf_str(&json), &back, NULL), 0);
        assert_true(kei_utf8_valid(kei_buf_str(&back)));
        if (kei_utf8_valid(kei_strn(bytes, n)))
            assert_true(kei_str_eq(kei_buf_str(&back), kei_strn(bytes, n)));
        kei_jw_init(&w, &again);
        kei_jw_strv(&w, kei_buf_str(&back));
        assert_true(kei_json_str_eq(kei_buf_str(&again), kei_buf_str(&json)));
        ke_buf_free(&json);
        ke_buf_free(&back);
        ke_buf_free(&again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checker),  cmocka_unit_test(cut_and_damaged),
        cmocka_unit_test(depth),    cmocka_unit_test(first_value),
        cmocka_unit_test(members),  cmocka_unit_test(walking),
        cmocka_unit_test(strings),  cmocka_unit_test(copied_strings),
        cmocka_unit_test(integers), cmocka_unit_test(tree),
        cmocka_unit_test(writer),   cmocka_unit_test(written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
