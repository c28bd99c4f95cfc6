/* SPDX-License-Identifier: Apache-2.0 */
/* Service account tokens: kept per pod and request, renewed in time, used offline, deleted with
 * their pod. */
#include "meta_rig.h"

#include "base/codec.h"

#define SA "default/serviceaccounttoken/app"

static void request(char out[512], const char *pod_uid, const char *audiences, int seconds)
{
    snprintf(out, 512,
             "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{\"audiences\":%s,"
             "\"expirationSeconds\":%d,\"boundObjectRef\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\","
             "\"name\":\"web\",\"uid\":\"%s\"}},\"status\":{\"token\":\"\","
             "\"expirationTimestamp\":null}}",
             audiences, seconds, pod_uid);
}

/* What the cloud answers now. */
static void response(struct meta_rig *r, char out[512], const char *token, int seconds)
{
    char expires[KEI_TIME_MAX];

    kei_time_rfc3339(expires, ke_ctx_real_ms(r->env.ctx) + seconds * INT64_C(1000));
    snprintf(out, 512,
             "{\"kind\":\"TokenRequest\",\"spec\":{\"expirationSeconds\":%d},\"status\":{\"token\":"
             "\"%s\",\"expirationTimestamp\":\"%s\"}}",
             seconds, token, expires);
}

static uint32_t asked(struct meta_rig *r)
{
    return meta_count(&r->cloud, "query", SA);
}

static void ask(struct meta_rig *r, const char *pod_uid, const char *audiences, int seconds)
{
    char content[512];

    request(content, pod_uid, audiences, seconds);
    meta_ask(r, "query", SA, content);
}

static void cloud_answers(struct meta_rig *r, const char *content, char id[37])
{
    struct told t = {.parent = ke_msg_id(meta_find(&r->cloud, "query", SA, asked(r) - 1)),
                     .operation = "response",
                     .resource = SA,
                     .content = content};

    meta_tell(r, &t, id);
}

static void expect_token(struct meta_rig *r, uint32_t answers, const char *token)
{
    char want[64];

    assert_true(meta_until_answer(r, answers));
    assert_int_equal(r->n_answers, answers);
    snprintf(want, sizeof want, "\"token\":\"%s\"", token);
    if (!strstr(meta_answer_content(r), want))
        fail_msg("not %s: %s", token, meta_answer_content(r));
}

/* One that is kept, for an hour. */
static void have(struct meta_rig *r, const char *pod_uid, const char *token)
{
    char content[512], id[37];
    uint32_t n = r->n_answers;

    ask(r, pod_uid, "null", 3600);
    response(r, content, token, 3600);
    cloud_answers(r, content, id);
    expect_token(r, n + 1, token);
    assert_int_equal(meta_acks(r, id), 1);
}

static void kept_and_used_again(void **state)
{
    struct meta_rig r;

    (void)state;
    meta_init(&r, true);
    have(&r, "u1", "t1");
    assert_int_equal(asked(&r), 1);
    ask(&r, "u1", "null", 3600);
    expect_token(&r, 2, "t1");
    assert_int_equal(asked(&r), 1);
    meta_restart(&r);
    ask(&r, "u1", "null", 3600);
    expect_token(&r, 3, "t1");
    assert_int_equal(asked(&r), 1);
    r.connected = false;
    ask(&r, "u1", "null", 3600);
    expect_token(&r, 4, "t1");
    meta_fini(&r);
}

/* Another pod, other audiences, another life: another token. */
static void each_request_has_its_own(void **state)
{
    struct meta_rig r;

    (void)state;
    meta_init(&r, false);
    have(&r, "u1", "t1");
    ask(&r, "u2", "null", 3600);
    assert_int_equal(asked(&r), 2);
    ask(&r, "u1", "[\"a\"]", 3600);
    assert_int_equal(asked(&r), 3);
    ask(&r, "u1", "[\"a\",\"b\"]", 3600);
    assert_int_equal(asked(&r), 4);
    ask(&r, "u1", "null", 7200);
    assert_int_equal(asked(&r), 5);
    ask(&r, "u1", "null", 3600);
    assert_int_equal(asked(&r), 5);
    meta_fini(&r);
}

static void renewed_in_time(void **state)
{
    struct meta_rig r;
    char content[512];

    (void)state;
    meta_init(&r, false);
    have(&r, "u1", "t1");
    test_drive_ms(&r.env, 2870 * 1000); /* more than a fifth is left */
    ask(&r, "u1", "null", 3600);
    expect_token(&r, 2, "t1");
    test_drive_ms(&r.env, 20 * 1000); /* less than a fifth */
    ask(&r, "u1", "null", 3600);
    assert_int_equal(asked(&r), 2);
    response(&r, content, "t2", 3600);
    cloud_answers(&r, content, NULL);
    expect_token(&r, 3, "t2");
    ask(&r, "u1", "null", 3600);
    expect_token(&r, 4, "t2");
    assert_int_equal(asked(&r), 2);
    meta_fini(&r);
}

/* However long its life: after a day a new one is asked for. */
static void a_day_at_most(void **state)
{
    struct meta_rig r;
    char content[512];
    const int week = 7 * 86400;

    (void)state;
    meta_init(&r, false);
    ask(&r, "u1", "null", week);
    response(&r, content, "t1", week);
    cloud_answers(&r, content, NULL);
    expect_token(&r, 1, "t1");
    test_drive_ms(&r.env, INT64_C(86390) * 1000);
    ask(&r, "u1", "null", week);
    expect_token(&r, 2, "t1");
    test_drive_ms(&r.env, 20 * 1000);
    ask(&r, "u1", "null", week);
    assert_int_equal(asked(&r), 2);
    meta_fini(&r);
}

static void offline(void **state)
{
    static const char *const failures[] = {
        "{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"InternalError\",\"code\":500}}", "{}",
        NULL};
    struct meta_rig r;

    (void)state;
    meta_init(&r, false);
    have(&r, "u1", "t1");
    test_drive_ms(&r.env, 3000 * 1000); /* due */
    for (int i = 0; failures[i]; i++) { /* the cloud cannot: what is there still holds */
        ask(&r, "u1", "null", 3600);
        cloud_answers(&r, failures[i], NULL);
        expect_token(&r, 2 + (uint32_t)i, "t1");
    }
    r.connected = false;
    ask(&r, "u1", "null", 3600);
    expect_token(&r, 4, "t1");
    test_drive_ms(&r.env, 700 * 1000); /* expired */
    ask(&r, "u1", "null", 3600);
    assert_true(meta_until_answer(&r, 5));
    assert_string_equal(ke_msg_operation(r.answer), "error");
    ask(&r, "u9", "null", 3600); /* never had one */
    assert_true(meta_until_answer(&r, 6));
    assert_string_equal(ke_msg_operation(r.answer), "error");
    meta_fini(&r);
}

static void errors_are_not_kept(void **state)
{
    struct meta_rig r;
    char id[37];

    (void)state;
    meta_init(&r, false);
    ask(&r, "u1", "null", 3600);
    cloud_answers(
        &r, "{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"NotFound\",\"code\":404}}", id);
    assert_true(meta_until_answer(&r, 1));
    assert_non_null(strstr(meta_answer_content(&r), "NotFound"));
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(meta_rows(&r, "o/serviceaccounttoken"), 0);
    meta_fini(&r);
}

static void deleted_with_the_pod(void **state)
{
    struct meta_rig r;
    struct told pod = {.operation = "insert",
                       .resource = "default/pod/web",
                       .content = "{\"metadata\":{\"name\":\"web\",\"uid\":\"u1\"}}"};

    (void)state;
    meta_init(&r, false);
    meta_tell(&r, &pod, NULL);
    have(&r, "u1", "t1");
    have(&r, "u10", "t10"); /* the beginning of its uid is the same */
    assert_int_equal(meta_rows(&r, "o/serviceaccounttoken"), 2);
    pod.operation = "delete";
    meta_tell(&r, &pod, NULL);
    assert_int_equal(meta_rows(&r, "o/serviceaccounttoken"), 1);
    ask(&r, "u10", "null", 3600);
    expect_token(&r, 3, "t10");
    meta_fini(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_and_used_again),
        cmocka_unit_test(each_request_has_its_own),
        cmocka_unit_test(renewed_in_time),
        cmocka_unit_test(a_day_at_most),
        cmocka_unit_test(offline),
        cmocka_unit_test(errors_are_not_kept),
        cmocka_unit_test(deleted_with_the_pod),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
