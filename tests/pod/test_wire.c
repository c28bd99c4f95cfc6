/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the clouds of KubeEdge 1.15 and 1.4 sent to their own edges, in that order, with the echoes
 * of statuses that were not ours; and what must come of it here. data/NAME.jsonl: one message per
 * line,
 * {"capture","operation","resource","content"}; "response" is an answer to a query.
 */
#include "rig.h"

#include "base/file.h"
#include "base/json.h"

struct script {
    struct rig r;
    char *text;
    size_t n;
    int played;
};

static void open_script(struct script *s, const char *file, uint32_t dialect)
{
    char path[400];
    struct ke_buf b;
    const char *tests = getenv("KE_TESTS");
    memset(s, 0, sizeof *s);
    rig_init(&s->r, 0);
    s->r.dialect = dialect;
    kei_buf_init(&b, kei_alloc_malloc());
    snprintf(path, sizeof path, "%s/pod/data/%s", tests ? tests : "tests", file);
    assert_int_equal(kei_file_read(ke_io_posix(), path, 1u << 20, &b, NULL), 0);
    s->text = b.p;
    s->n = b.n;
    rig_start(&s->r);
}

static void close_script(struct script *s)
{
    rig_fini(&s->r);
    free(s->text);
}

/* Plays the messages of one capture; only those of operation and resource, if given. */
static int play(struct script *s, const char *capture, const char *operation, const char *resource)
{
    struct ke_str rest = {s->text, s->n};
    int played = 0;
    while (rest.p && rest.n) {
        struct ke_str line = kei_str_cut(rest, '\n', &rest), v, content;
        char op[20], res[128];
        if (!line.n || !kei_json_get(line, "capture", &v) || !kei_json_str_is(v, capture))
            continue;
        assert_true(kei_json_get(line, "operation", &v));
        kei_json_copy(op, sizeof op, v);
        assert_true(kei_json_get(line, "resource", &v));
        kei_json_copy(res, sizeof res, v);
        assert_true(kei_json_get(line, "content", &content));
        if ((operation && strcmp(op, operation)) || (resource && strcmp(res, resource)))
            continue;
        char *json = strndup(content.p, content.n);
        if (!strcmp(op, "response")) {
            rig_object(&s->r, res, json);
        } else {
            if (!strstr(res, "/pod/"))
                rig_object(&s->r, res, strcmp(op, "delete") ? json : NULL);
            rig_send(&s->r, op, res, json);
        }
        free(json);
        played++;
    }
    assert_true(played > 0);
    return played;
}

static void expect_file(struct script *s, const char *file, const char *want)
{
    char path[500];
    struct ke_buf b;
    kei_buf_init(&b, kei_alloc_malloc());
    snprintf(path, sizeof path, "%s/pods/%s", s->r.data, file);
    assert_int_equal(kei_file_read(ke_io_posix(), path, 4096, &b, NULL), 0);
    assert_string_equal(b.p ? b.p : "", want);
    ke_buf_free(&b);
}

#define DEMO "987274ba-a877-4a6c-b21c-2a2680b1ec24"
#define WEB "06c605dc-d6ea-404b-b595-324194bb4f46"

static void cloud_1_15(void **state)
{
    (void)state;
    struct script s;
    open_script(&s, "kubeedge-1.15.jsonl", KE_DIALECT_1_15);
    struct rig *r = &s.r;

    play(&s, "03-pod-create", "response", NULL);
    play(&s, "03-pod-create", "insert", NULL);
    struct fake_container *c = fake_find(&r->fake, DEMO, "main");
    assert_non_null(c);
    assert_int_equal(c->state, KE_CONTAINER_RUNNING);
    assert_string_equal(c->env, "LEVEL=1\nUSERNAME=demo\n");
    assert_non_null(
        strstr(c->mounts, "kube-api-access-smxcm:/var/run/secrets/kubernetes.io/serviceaccount:"));
    expect_file(&s, DEMO "/volumes/kubernetes.io~configmap/cfg/greeting", "hello");
    expect_file(&s, DEMO "/volumes/kubernetes.io~projected/kube-api-access-smxcm/namespace",
                "default");
    expect_file(&s, DEMO "/volumes/kubernetes.io~projected/kube-api-access-smxcm/token",
                "<JWT-REMOVED>");
    assert_true(rig_has(r, "default/demo", "\"phase\":\"Running\""));
    assert_true(rig_has(r, "default/demo", "\"qosClass\":\"BestEffort\""));
    int reports = r->n_reports;
    play(&s, "03-pod-create", "update", NULL); /* echoes */
    assert_int_equal(r->n_reports, reports);

    play(&s, "04-configmap-update", NULL, NULL);
    expect_file(&s, DEMO "/volumes/kubernetes.io~configmap/cfg/greeting", "hi");
    play(&s, "05-secret-update", NULL, NULL);
    play(&s, "06-pod-update", NULL, NULL);
    assert_int_equal(r->fake.creates, 1); /* no restart */
    assert_int_equal(r->fake.stops, 0);
    assert_int_equal(r->n_reports, reports);

    play(&s, "07-pod-cni-service", NULL, NULL); /* has a probe */
    assert_true(rig_has(r, "default/web", "\"reason\":\"UnsupportedProbe\""));
    play(&s, "08-container-crash", NULL, NULL); /* without kind and apiVersion */
    assert_true(rig_has(r, "default/web", "\"phase\":\"Failed\""));
    play(&s, "09-pod-delete", NULL, NULL);
    assert_int_equal(rig_count(r, "delete", "default/pod/web"), 1);
    assert_null(fake_find(&r->fake, WEB, "main"));
    assert_int_equal(r->removed, 1);

    play(&s, "13-pod-error", NULL, NULL);
    assert_true(rig_has(r, "default/bad", "\"phase\":\"Running\"")); /* the fake has every image */
    play(&s, "14-pod-force-delete", NULL, NULL);
    assert_int_equal(rig_count(r, "delete", "default/pod/bad"), 0);
    assert_int_equal(r->removed, 2);
    assert_int_equal(fake_live(&r->fake), 1);

    play(&s, "15-job-completed", "insert", NULL);
    c = fake_find(&r->fake, "7eafbae6-3e24-475d-82e2-5fe1f9ab25ff", "c");
    assert_non_null(c);
    fake_exit(&r->fake, c, 0);
    rig_settle(r);
    assert_true(rig_has(r, "default/once", "\"phase\":\"Succeeded\""));
    play(&s, "15-job-completed", "update", NULL);
    play(&s, "15-job-completed", "delete", NULL);
    assert_int_equal(rig_count(r, "delete", "default/pod/once"), 0);
    assert_int_equal(r->removed, 3);

    play(&s, "16-configmap-delete", NULL, NULL); /* the running pod is left alone */
    assert_int_equal(fake_live(&r->fake), 1);
    expect_file(&s, DEMO "/volumes/kubernetes.io~configmap/cfg/greeting", "hi");

    play(&s, "42-edge-restart", NULL, NULL); /* a new pod that comes as an update */
    assert_int_equal(fake_live(&r->fake), 2);
    assert_true(rig_has(r, "default/late", "\"phase\":\"Running\""));
    play(&s, "45-late-delete", "update", NULL);
    assert_int_equal(rig_count(r, "delete", "default/pod/late"), 1);
    play(&s, "45-late-delete", "delete", NULL);
    assert_int_equal(r->removed, 4);
    assert_int_equal(fake_live(&r->fake), 1);
    assert_int_equal(r->fake.most_live, 1);
    close_script(&s);
}

static void cloud_1_4(void **state)
{
    (void)state;
    struct script s;
    open_script(&s, "kubeedge-1.4.jsonl", KE_DIALECT_1_4);
    struct rig *r = &s.r;
    play(&s, "02-pod-create", "response", NULL);
    play(&s, "02-pod-create", "insert", NULL);
    play(&s, "02-pod-create", "update", NULL);
    assert_true(rig_has(r, "default/demo", "\"phase\":\"Running\""));
    assert_int_equal(fake_live(&r->fake), 1);
    play(&s, "03-configmap-update", NULL, NULL);
    play(&s, "04-secret-update", NULL, NULL);
    assert_int_equal(r->fake.creates, 1);
    /* the first update asks for the end, the second is the echo of what made the cloud delete it */
    play(&s, "10-pod-delete", "update", NULL);
    assert_int_equal(fake_live(&r->fake), 0);
    assert_true(rig_has(r, "default/demo", "\"phase\":\"Succeeded\""));
    play(&s, "10-pod-delete", "delete", NULL);
    assert_int_equal(r->removed, 1);
    /* the same name again, another uid */
    play(&s, "21-pod-run", "response", NULL);
    play(&s, "21-pod-run", "insert", NULL);
    play(&s, "21-pod-run", "update", NULL);
    assert_int_equal(fake_live(&r->fake), 1);
    expect_file(&s,
                "5272a67a-9afe-41c6-ad0e-b8cef48a8de0/volumes/kubernetes.io~configmap/cfg/greeting",
                "hello");
    play(&s, "22-pod-delete", NULL, NULL);
    assert_int_equal(r->removed, 2);
    play(&s, "23-kill", NULL, NULL);
    close_script(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cloud_1_15),
        cmocka_unit_test(cloud_1_4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
