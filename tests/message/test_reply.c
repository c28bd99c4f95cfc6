/* SPDX-License-Identifier: Apache-2.0 */
/* The many forms in which a cloud answers. */
#include "support/support.h"

#include "base/json.h"
#include "message/captures.h"
#include "message/msg_priv.h"

static void forms(void **state)
{
    (void)state;
    static const struct {
        const char *content;
        int kind;
        const char *object, *reason;
        int64_t code;
        const char *text; /* part of it */
    } table[] = {
        {"\"OK\"", KEI_REPLY_OK, "", "", 0, ""},
        {" \"OK\"\n", KEI_REPLY_OK, "", "", 0, ""},
        {"\"ok\"", KEI_REPLY_ERROR, "", "", 0, "ok"},
        {"\"node \\\"x\\\" exists\"", KEI_REPLY_ERROR, "", "", 0, "node \"x\" exists"},
        {"\"a\\u0000b\\n\"", KEI_REPLY_ERROR, "", "", 0, "a?b?"},
        {"\"\"", KEI_REPLY_ERROR, "", "", 0, "empty"},
        {"{\"kind\":\"ConfigMap\",\"metadata\":{}}", KEI_REPLY_OBJECT,
         "{\"kind\":\"ConfigMap\",\"metadata\":{}}", "", 0, ""},
        {"null", KEI_REPLY_OBJECT, "null", "", 0, ""},
        {"", KEI_REPLY_OBJECT, "null", "", 0, ""},
        {"[]", KEI_REPLY_OBJECT, "[]", "", 0, ""},
        {"{}", KEI_REPLY_ERROR, "", "", 0, "empty error"},
        {"{ }", KEI_REPLY_ERROR, "", "", 0, "empty error"},
        {"5", KEI_REPLY_ERROR, "", "", 0, "no object"},
        {"{\"Object\":{\"a\":1},\"Err\":null}", KEI_REPLY_OBJECT, "{\"a\":1}", "", 0, ""},
        {"{\"Object\":null,\"Err\":null}", KEI_REPLY_OBJECT, "null", "", 0, ""},
        {"{\"Object\":null,\"Err\":{\"ErrStatus\":{\"metadata\":{},\"status\":\"Failure\","
         "\"message\":\"lease \\\"x\\\" not found\",\"reason\":\"NotFound\",\"code\":404}}}",
         KEI_REPLY_ERROR, "", "NotFound", 404, "lease \"x\" not found"},
        {"{\"Object\":{\"metadata\":{}},\"Err\":{\"ErrStatus\":{\"reason\":\"AlreadyExists\","
         "\"code\":409}}}",
         KEI_REPLY_ERROR, "", "AlreadyExists", 409, "without text"},
        {"{\"Object\":{\"metadata\":{}},\"Err\":{}}", KEI_REPLY_ERROR, "", "", 0, "empty error"},
        {"{\"Object\":{},\"Err\":{\"Op\":\"Put\",\"URL\":\"https://x\",\"Err\":{\"Op\":\"dial\"}}}",
         KEI_REPLY_ERROR, "", "", 0, "\"URL\":\"https://x\""},
        {"{\"Object\":{},\"Err\":\"plain\"}", KEI_REPLY_ERROR, "", "", 0, "plain"},
        {"{\"ErrStatus\":{\"status\":\"Failure\",\"message\":\"m\",\"reason\":\"NotFound\","
         "\"code\":404}}",
         KEI_REPLY_ERROR, "", "NotFound", 404, "m"},
        {"{\"ErrStatus\":{}}", KEI_REPLY_ERROR, "", "", 0, "without text"},
        {"{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"no\",\"reason\":\"Conflict\","
         "\"code\":409}",
         KEI_REPLY_ERROR, "", "Conflict", 409, "no"},
        {"{\"kind\":\"Status\",\"status\":\"Success\"}", KEI_REPLY_OBJECT,
         "{\"kind\":\"Status\",\"status\":\"Success\"}", "", 0, ""},
        /* only one of the two: an object of its own */
        {"{\"Object\":{\"a\":1}}", KEI_REPLY_OBJECT, "{\"Object\":{\"a\":1}}", "", 0, ""},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct kei_reply r;
        kei_reply_read(&r, kei_str(table[i].content));
        if (r.kind != table[i].kind || !kei_str_is(r.object, table[i].object) ||
            strcmp(r.reason, table[i].reason) != 0 || r.code != table[i].code ||
            !strstr(r.text, table[i].text))
            fail_msg("%s: kind %d object %.*s reason %s code %d text %s", table[i].content, r.kind,
                     KEI_FMT(r.object), r.reason, (int)r.code, r.text);
    }
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    struct ke_buf b = {NULL, 0, 0, NULL};
    struct kei_reply r;

    kei_buf_adds(&b, "{\"ErrStatus\":{\"reason\":\"");
    for (int i = 0; i < 100; i++)
        kei_buf_adds(&b, "R");
    kei_buf_adds(&b, "\",\"message\":\"");
    for (int i = 0; i < 300; i++)
        kei_buf_adds(&b, "\xc3\xa9"); /* two bytes each: 255 would cut one in half */
    kei_buf_adds(&b, "\"}}");
    kei_reply_read(&r, kei_buf_str(&b));
    assert_int_equal(strlen(r.reason), 63);
    assert_int_equal(strlen(r.text), 254);
    assert_true(kei_utf8_valid(kei_str(r.text)));

    kei_buf_clear(&b);
    kei_buf_adds(&b, "{\"Op\":\"");
    for (int i = 0; i < 300; i++)
        kei_buf_adds(&b, "\xe2\x82\xac");
    kei_buf_adds(&b, "\"}");
    struct ke_buf c = {NULL, 0, 0, NULL};
    kei_buf_addf(&c, "{\"Object\":null,\"Err\":%s}", b.p);
    kei_reply_read(&r, kei_buf_str(&c));
    assert_int_equal(r.kind, KEI_REPLY_ERROR);
    assert_true(kei_utf8_valid(kei_str(r.text)));
    ke_buf_free(&b);
    ke_buf_free(&c);
}

/* As CloudCore forms them; the second is captured. */
static void written_as_upstream(void **state)
{
    (void)state;
    struct ke_buf b = {NULL, 0, 0, NULL};
    struct kei_reply r;

    kei_errstatus_write(&b, "NotFound", 404, "node", "edge-1", NULL);
    assert_string_equal(b.p,
                        "{\"ErrStatus\":{\"metadata\":{},\"status\":\"Failure\",\"message\":"
                        "\"node \\\"edge-1\\\" not found\",\"reason\":\"NotFound\",\"details\":"
                        "{\"name\":\"edge-1\",\"kind\":\"node\"},\"code\":404}}");
    kei_reply_read(&r, kei_buf_str(&b));
    assert_string_equal(r.reason, "NotFound");
    assert_string_equal(r.text, "node \"edge-1\" not found");
    kei_buf_clear(&b);
    kei_errstatus_write(&b, "NotFound", 404, "lease.coordination.k8s.io", "edge-1", NULL);
    assert_string_equal(b.p, "{\"ErrStatus\":{\"metadata\":{},\"status\":\"Failure\",\"message\":"
                             "\"lease.coordination.k8s.io \\\"edge-1\\\" not found\",\"reason\":"
                             "\"NotFound\",\"details\":{\"name\":\"edge-1\",\"group\":"
                             "\"coordination.k8s.io\",\"kind\":\"lease\"},\"code\":404}}");
    kei_buf_clear(&b);
    kei_errstatus_write(&b, "AlreadyExists", 409, "nodes", "x", NULL);
    assert_non_null(strstr(b.p, "nodes \\\"x\\\" already exists"));
    kei_buf_clear(&b);
    kei_errstatus_write(&b, "Invalid", 422, "lease", "x", "bad \"uid\"");
    assert_non_null(strstr(b.p, "\"message\":\"bad \\\"uid\\\"\""));
    ke_buf_free(&b);
}

struct counts {
    struct test_env *env;
    size_t kinds[3];
    size_t with_reason, without_reason;
};

static void count_replies(const struct capture *c, void *user)
{
    struct counts *n = user;

    for (size_t i = 0; i < c->n; i++) {
        struct ke_msg *m;
        struct kei_reply r;
        struct ke_str content;
        if (!capture_is(&c->r[i], "ws-message", "c2e") || strcmp(c->r[i].listener, "ws") != 0)
            continue;
        assert_int_equal(ke_msg_decode(&m, n->env->ctx, c->r[i].text.p, c->r[i].text.n, NULL), 0);
        if (strcmp(ke_msg_operation(m), "response") == 0) {
            content.p = ke_msg_content(m, &content.n);
            kei_reply_read(&r, content);
            n->kinds[r.kind]++;
            if (r.kind == KEI_REPLY_ERROR) {
                assert_true(r.text[0] != '\0');
                n->with_reason += r.reason[0] != '\0';
                n->without_reason += r.reason[0] == '\0';
            }
            if (r.kind == KEI_REPLY_OBJECT)
                assert_true(kei_json_type(r.object) == '{');
        }
        ke_msg_unref(m);
    }
}

static void recorded_replies(void **state)
{
    (void)state;
    struct test_env env;
    struct counts n = {.env = &env};

    test_env_init(&env, 0);
    capture_each(count_replies, &n);
    print_message("%zu objects, %zu OK, %zu errors, %zu without reason\n", n.kinds[0], n.kinds[1],
                  n.kinds[2], n.without_reason);
    assert_true(n.kinds[KEI_REPLY_OBJECT] > 200);
    assert_true(n.kinds[KEI_REPLY_OK] > 20);
    assert_true(n.with_reason > 10);
    assert_int_equal(n.without_reason, 1); /* the API server was away */
    test_env_fini(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(written_as_upstream),
        cmocka_unit_test(recorded_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
