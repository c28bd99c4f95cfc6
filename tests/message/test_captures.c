/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every message that upstream was recorded with is read and written again without loss: the same
 * bytes where upstream wrote in its usual order, the same JSON value in the explicit form for 1.4.
 */
#include "support/support.h"

#include "base/json.h"
#include "message/captures.h"
#include "message/k8s.h"
#include "message/msg_priv.h"

struct totals {
    struct test_env *env;
    size_t messages, with_type, fragmented;
};

/* The wire form for 1.4 has more keys, all of them empty: without those the two are the same. */
static void check_explicit(struct totals *t, const struct ke_msg *m, const struct capture *c,
                           const struct capture_record *r)
{
    static const char *const keys[] = {
        "header.msg_id", "header.parent_msg_id",   "header.timestamp",
        "header.sync",   "header.resourceversion", "route.source",
        "route.group",   "route.operation",        "route.resource",
        "content"};
    struct ke_buf out = {NULL, 0, 0, NULL};
    struct ke_msg *again;
    struct ke_str v;

    assert_int_equal(ke_msg_encode(m, t->env->ctx, KE_DIALECT_1_4, &out, NULL), 0);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!kei_json_path(kei_buf_str(&out), keys[i], &v))
            fail_msg("%s/%s line %u: 1.4 form lacks %s", c->version, c->name, r->line, keys[i]);
    }
    assert_int_equal(ke_msg_decode(&again, t->env->ctx, out.p, out.n, NULL), 0);
    out.n = 0;
    assert_int_equal(ke_msg_encode(again, t->env->ctx, KE_DIALECT_1_15, &out, NULL), 0);
    assert_string_equal(out.p, r->text.p);
    ke_msg_unref(again);
    ke_buf_free(&out);
}

static void check_message(struct totals *t, const struct capture *c, const struct capture_record *r)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf out = {NULL, 0, 0, NULL};
    struct kei_msg_view v;
    struct kei_arena arena;
    struct ke_msg *m;

    if (ke_msg_decode(&m, t->env->ctx, r->text.p, r->text.n, &err) < 0)
        fail_msg("%s/%s line %u: %s", c->version, c->name, r->line, err.text);
    assert_int_equal(ke_msg_encode(m, t->env->ctx, KE_DIALECT_1_15, &out, &err), 0);
    if (out.n != r->text.n || memcmp(out.p, r->text.p, out.n) != 0)
        fail_msg("%s/%s line %u changed:\n%s%s", c->version, c->name, r->line, r->text.p, out.p);
    check_explicit(t, m, c, r);

    kei_arena_init(&arena, &t->env->alloc.table, 0);
    kei_msg_view_head(&v, r->text, &arena);
    assert_true(kei_str_is(v.id, ke_msg_id(m)));
    assert_true(kei_str_is(v.resource, ke_msg_resource(m)));
    assert_int_equal(v.timestamp_ms, ke_msg_timestamp_ms(m));
    kei_arena_free(&arena);

    size_t frames = 0;
    for (size_t i = 0; i < r->n_frames; i++)
        frames += r->frames[i].len;
    assert_true(r->n_frames > 0 && frames > 0);
    t->fragmented += r->n_frames > 1;
    t->messages++;
    ke_msg_unref(m);
    ke_buf_free(&out);
}

static void each_file(const struct capture *c, void *user)
{
    for (size_t i = 0; i < c->n; i++) {
        if (capture_is(&c->r[i], "ws-message", NULL) && strcmp(c->r[i].listener, "ws") == 0)
            check_message(user, c, &c->r[i]);
    }
}

static void every_message_survives(void **state)
{
    (void)state;
    struct test_env env;
    struct totals t = {.env = &env};

    test_env_init(&env, 0);
    assert_int_equal(capture_each(each_file, &t), 74);
    assert_int_equal(t.messages, 1116 + 160 + 96);
    assert_true(t.fragmented > 200);
    test_env_fini(&env);
}

/* The loader itself: other tests build on these. */
static void loader_reads_all_forms(void **state)
{
    (void)state;
    struct capture c;

    capture_load(&c, "kubeedge-1.15", "01-register");
    assert_int_equal(c.n, 74);
    assert_true(capture_is(&c.r[0], "mark", NULL));
    assert_true(strlen(c.r[0].note) > 0);
    assert_true(capture_is(&c.r[2], "http-request", "e2c"));
    assert_string_equal(c.r[2].start, "GET /ca.crt HTTP/1.1");
    assert_string_equal(capture_header(&c.r[2], "user-agent"), "Go-http-client/1.1");
    assert_null(capture_header(&c.r[2], "no-such"));
    assert_true(capture_is(&c.r[3], "http-response", "c2e"));
    assert_int_equal(c.r[3].text.n, 380); /* DER from base64 */
    assert_int_equal((unsigned char)c.r[3].text.p[0], 0x30);
    capture_free(&c);

    capture_load(&c, "kubeedge-1.4", "mqtt-edge");
    assert_string_equal(c.r[0].topic, "node/connection");
    assert_true(kei_str_is(c.r[0].payload, "cloud_connected"));
    capture_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives),
        cmocka_unit_test(loader_reads_all_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
