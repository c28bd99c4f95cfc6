/* SPDX-License-Identifier: Apache-2.0 */
/* After a restart of the node: what runs is taken back, what is missing begun, the rest ended. */
#include "rig.h"

#include <time.h>

#include "base/file.h"

static void put_container(struct rig *r, const char *id, const char *uid, uint32_t attempt,
                          uint32_t state, int code)
{
    struct fake_container *c = &r->fake.c[r->fake.n++];
    memset(c, 0, sizeof *c);
    snprintf(c->id, sizeof c->id, "%s", id);
    snprintf(c->uid, sizeof c->uid, "%s", uid);
    snprintf(c->name, sizeof c->name, "main");
    snprintf(c->image, sizeof c->image, "img:1");
    c->attempt = attempt;
    c->state = state;
    c->exit_code = code;
    c->started_ms = TEST_CLOCK_REAL_MS - 50000;
    if (state == KE_CONTAINER_EXITED)
        c->finished_ms = TEST_CLOCK_REAL_MS - 40000;
}

static void runs_on(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    int reports = r.n_reports;
    rig_stop(&r);
    assert_int_equal(fake_live(&r.fake), 1);
    test_drive_ms(&r.env, 60000);
    rig_start(&r);
    assert_int_equal(r.fake.creates, 1);
    assert_int_equal(r.fake.stops, 0);
    assert_int_equal(r.n_reports, reports); /* nothing changed: nothing is told */
    rig_fini(&r);
}

static void ended_meanwhile(void **state)
{
    (void)state;
    static const struct {
        const char *policy;
        int code;
        bool again;
        const char *phase;
    } cases[] = {
        {"Always", 0, true, "\"phase\":\"Running\""},
        {"OnFailure", 0, false, "\"phase\":\"Succeeded\""},
        {"OnFailure", 4, true, "\"phase\":\"Running\""},
        {"Never", 0, false, "\"phase\":\"Succeeded\""},
        {"Never", 4, false, "\"phase\":\"Failed\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char pod[2048], spec[400];
        rig_init(&r, 0);
        rig_start(&r);
        snprintf(spec, sizeof spec, "\"restartPolicy\":\"%s\"," RIG_MAIN, cases[i].policy);
        rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", spec));
        rig_stop(&r);
        fake_exit(&r.fake, fake_find(&r.fake, "u-1", "main"), cases[i].code);
        rig_start(&r);
        assert_int_equal(fake_live(&r.fake), cases[i].again);
        assert_true(rig_has(&r, "default/a", cases[i].phase));
        char code[40];
        snprintf(code, sizeof code, "\"exitCode\":%d", cases[i].code);
        assert_true(rig_has(&r, "default/a", code)); /* not lost */
        if (!cases[i].again) {                       /* and never again */
            rig_stop(&r);
            rig_start(&r);
            rig_send(&r, "update", "default/pod/a", rig_pod(pod, "a", "u-1", "", spec));
            assert_int_equal(r.fake.creates, 1);
        }
        rig_fini(&r);
    }
}

/* A runtime that does not list, and forgets: what was finished is known from the store alone. */
static void without_a_list(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    r.fake.ops.container_list = NULL;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/job",
             rig_pod(pod, "job", "u-1", "", "\"restartPolicy\":\"Never\"," RIG_MAIN));
    fake_exit(&r.fake, fake_find(&r.fake, "u-1", "main"), 3);
    rig_settle(&r);
    rig_send(&r, "insert", "default/pod/srv", rig_pod(pod, "srv", "u-2", "", RIG_MAIN));
    rig_send(&r, "insert", "default/pod/run",
             rig_pod(pod, "run", "u-3", "", "\"restartPolicy\":\"Never\"," RIG_MAIN));
    rig_stop(&r);
    fake_forget(&r.fake);
    rig_start(&r);
    assert_null(fake_find(&r.fake, "u-1", "main"));
    assert_true(rig_has(&r, "default/job", "\"phase\":\"Failed\""));
    assert_true(rig_has(&r, "default/job", "\"exitCode\":3"));
    struct fake_container *c = fake_find(&r.fake, "u-2", "main");
    assert_non_null(c);
    assert_int_equal(c->attempt, 1); /* one more, not the same again */
    assert_true(rig_has(&r, "default/srv", "\"restartCount\":1"));
    assert_null(fake_find(&r.fake, "u-3", "main")); /* interrupted, and Never means never */
    assert_true(rig_has(&r, "default/run", "\"reason\":\"ContainerStatusUnknown\""));
    assert_true(rig_has(&r, "default/run", "\"phase\":\"Failed\""));
    rig_fini(&r);
}

static void strangers_and_doubles_are_ended(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    put_container(&r, "stranger", "u-9", 0, KE_CONTAINER_RUNNING, 0);
    put_container(&r, "older", "u-1", 0, KE_CONTAINER_RUNNING, 0); /* must not be, but is */
    put_container(&r, "newer", "u-1", 1, KE_CONTAINER_RUNNING, 0);
    put_container(&r, "others", "", 0, KE_CONTAINER_RUNNING, 0); /* not of a pod: let be */
    rig_start(&r);
    assert_int_equal(r.fake.creates, 0);
    assert_int_equal(fake_live(&r.fake), 2);
    assert_string_equal(fake_find(&r.fake, "u-1", "main")->id, "newer");
    assert_int_equal(fake_find(&r.fake, "u-1", "main")->state, KE_CONTAINER_RUNNING);
    assert_int_equal(fake_find(&r.fake, "", "main")->state, KE_CONTAINER_RUNNING);
    assert_true(rig_has(&r, "default/a", "\"restartCount\":1"));
    rig_fini(&r);
}

static void created_only_is_started(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    put_container(&r, "made", "u-1", 0, KE_CONTAINER_CREATED, 0);
    rig_start(&r);
    assert_int_equal(r.fake.creates, 0);
    assert_int_equal(r.fake.starts, 1);
    assert_int_equal(fake_live(&r.fake), 1);
    rig_fini(&r);
}

static void ends_of_earlier_instances_are_kept(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    put_container(&r, "c0", "u-1", 0, KE_CONTAINER_EXITED, 1);
    put_container(&r, "c1", "u-1", 1, KE_CONTAINER_EXITED, 2);
    put_container(&r, "c2", "u-1", 2, KE_CONTAINER_RUNNING, 0);
    rig_start(&r);
    assert_true(rig_has(&r, "default/a", "\"restartCount\":2"));
    assert_true(rig_has(&r, "default/a", "\"lastState\":{\"terminated\":{\"exitCode\":2"));
    assert_int_equal(r.fake.removes, 1); /* c0: one ended instance is kept */
    assert_non_null(strstr(r.fake.calls, "remove u-1/main/0"));
    rig_fini(&r);
}

/* Nothing may begin before the runtime has told what runs. */
static void a_list_that_fails_starts_nothing(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    put_container(&r, "c0", "u-1", 0, KE_CONTAINER_RUNNING, 0);
    r.fake.hang_list = true;
    rig_start(&r);
    assert_int_equal(r.settled, 0);
    test_drive_ms(&r.env, 59000);
    assert_int_equal(r.fake.creates, 0);
    test_drive_ms(&r.env, 1500); /* its deadline */
    assert_true(rig_has(&r, "default/a", "\"reason\":\"RuntimeNotReady\""));
    r.fake.hang_list = false;
    r.fake.fail_list = KE_EIO;
    test_drive_ms(&r.env, 5000);
    assert_int_equal(r.fake.creates, 0);
    r.fake.fail_list = 0;
    test_drive_ms(&r.env, 30000);
    assert_int_equal(r.settled, 1);
    assert_int_equal(r.fake.creates, 0);
    assert_int_equal(fake_live(&r.fake), 1);
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Running\""));
    rig_fini(&r);
}

/* Nor may anything be taken down: what runs is not known. */
static void a_deletion_waits_for_the_list(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_store_pod(
        &r, "default/a",
        rig_pod(pod, "a", "u-1",
                ",\"deletionTimestamp\":\"2026-12-01T00:00:30Z\",\"deletionGracePeriodSeconds\":5",
                RIG_MAIN));
    put_container(&r, "c0", "u-1", 0, KE_CONTAINER_RUNNING, 0);
    r.fake.fail_list = KE_EIO;
    rig_start(&r);
    test_drive_ms(&r.env, 5000);
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 0);
    assert_int_equal(fake_live(&r.fake), 1);
    r.fake.fail_list = 0;
    test_drive_ms(&r.env, 10000);
    assert_int_equal(fake_live(&r.fake), 0);
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 1);
    assert_true(rig_has(&r, "default/a", "\"exitCode\":143"));
    rig_fini(&r);
}

/* An end that is told while the list is on its way counts, whatever the list says. */
static void an_end_beside_the_list(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_store_pod(&r, "default/a",
                  rig_pod(pod, "a", "u-1", "", "\"restartPolicy\":\"Never\"," RIG_MAIN));
    put_container(&r, "c0", "u-1", 0, KE_CONTAINER_RUNNING, 0);
    r.fake.hang_list = true;
    rig_start(&r);
    uint64_t op = r.fake.hung;
    r.fake.hang_list = false;
    struct ke_container_info old = {.size = sizeof old,
                                    .id = "c0",
                                    .pod_uid = "u-1",
                                    .name = "main",
                                    .state = KE_CONTAINER_RUNNING};
    struct ke_runtime_result res = {.size = sizeof res, .containers = &old, .n_containers = 1};
    fake_exit(&r.fake, &r.fake.c[0], 6);
    rig_settle(&r);
    assert_int_equal(ke_runtime_complete(r.fake.rt, op, 0, &res), 0);
    rig_settle(&r);
    assert_true(rig_has(&r, "default/a", "\"exitCode\":6"));
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Failed\""));
    rig_fini(&r);
}

/* Messages that come before the store is read are not lost, and win over it. */
static void messages_during_the_start(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    rig_init(&r, 0);
    rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    rig_store_pod(&r, "default/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
    assert_int_equal(kei_pods_new(&r.pods, r.env.ctx, &r.conf), 0);
    assert_int_equal(kei_pods_start(r.pods), 0);
    ke_msg_config_init(&c, sizeof c);
    c.operation = "delete";
    c.resource = "default/pod/a";
    c.content = rig_pod(pod, "a", "u-1", "", RIG_MAIN);
    c.content_len = strlen(c.content);
    assert_int_equal(ke_msg_new(&m, r.env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_send(r.router, "edged", m, NULL), 0);
    ke_msg_unref(m);
    rig_settle(&r);
    assert_null(fake_find(&r.fake, "u-1", "main"));
    assert_int_equal(fake_live(&r.fake), 1);
    rig_fini(&r);
}

static void the_image_changed_meanwhile(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    snprintf(r.fake.c[0].image, sizeof r.fake.c[0].image,
             "docker.io/library/img:1"); /* its own words */
    rig_stop(&r);
    rig_start(&r);
    assert_int_equal(r.fake.creates, 1);
    rig_stop(&r);
    rig_store_pod(
        &r, "default/a",
        rig_pod(pod, "a", "u-1", "", "\"containers\":[{\"name\":\"main\",\"image\":\"img:2\"}]"));
    rig_start(&r);
    assert_string_equal(fake_find(&r.fake, "u-1", "main")->image, "img:2");
    assert_int_equal(fake_live(&r.fake), 1);
    assert_int_equal(r.fake.most_live, 1);
    rig_fini(&r);
}

/* An object changed just before the node went: its file is made new at the start, without a
 * restart. */
static void files_are_brought_up_to_date(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], path[500];
    struct ke_buf b;
    rig_init(&r, 0);
    rig_object(&r, "default/configmap/app", "{\"data\":{\"k\":\"old\"}}");
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a",
             rig_pod(pod, "a", "u-1", "",
                     "\"volumes\":[{\"name\":\"c\",\"configMap\":{\"name\":\"app\"}}]," RIG_MAIN));
    rig_stop(&r);
    rig_object(&r, "default/configmap/app", "{\"data\":{\"k\":\"new\"}}");
    rig_start(&r);
    kei_buf_init(&b, kei_alloc_malloc());
    snprintf(path, sizeof path, "%s/pods/u-1/volumes/kubernetes.io~configmap/c/k", r.data);
    assert_int_equal(kei_file_read(ke_io_posix(), path, 100, &b, NULL), 0);
    assert_string_equal(b.p, "new");
    ke_buf_free(&b);
    assert_int_equal(r.fake.creates, 1);
    rig_fini(&r);
}

static void the_back_off_survives(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    for (int i = 0; i < 4; i++) { /* pauses 0, 10, 20, 40 */
        fake_exit(&r.fake, fake_find(&r.fake, "u-1", "main"), 1);
        test_drive_ms(&r.env, i == 3 ? 1000 : 41000);
    }
    assert_int_equal(fake_live(&r.fake), 0);
    rig_stop(&r);
    rig_start(&r);
    assert_int_equal(fake_live(&r.fake), 0);
    assert_true(rig_has(&r, "default/a", "CrashLoopBackOff"));
    test_drive_ms(&r.env, 35000);
    assert_int_equal(fake_live(&r.fake), 0);
    test_drive_ms(&r.env, 6000);
    assert_int_equal(fake_live(&r.fake), 1);
    assert_int_equal(fake_find(&r.fake, "u-1", "main")->attempt, 4);
    rig_fini(&r);
}

static void the_start_time_and_conditions_survive(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    test_drive_ms(&r.env, 3600000);
    rig_stop(&r);
    rig_start(&r);
    fake_exit(&r.fake, fake_find(&r.fake, "u-1", "main"), 1);
    rig_settle(&r);
    assert_true(rig_has(&r, "default/a", "\"startTime\":\"2026-12-01T00:00:00Z\""));
    assert_true(rig_has(&r, "default/a",
                        "{\"type\":\"Initialized\",\"status\":\"True\",\"lastProbeTime\":null,"
                        "\"lastTransitionTime\":\"2026-12-01T00:00:00Z\"}"));
    rig_fini(&r);
}

/* All of them are begun in the turns of the start: nothing waits for a timer or the network. */
static void a_hundred_pods_start_without_waiting(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], name[16], uid[16], key[32];
    rig_init(&r, 0);
    r.conf.max_pods = 200;
    rig_object(&r, "default/configmap/app", "{\"data\":{\"k\":\"v\"}}");
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "p%d", i);
        snprintf(uid, sizeof uid, "u-%d", i);
        snprintf(key, sizeof key, "default/p%d", i);
        rig_store_pod(
            &r, key,
            rig_pod(pod, name, uid, "",
                    i % 2 ? RIG_MAIN
                          : "\"volumes\":[{\"name\":\"c\",\"configMap\":{\"name\":\"app\"}}],"
                            "\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"volumeMounts\":"
                            "[{\"name\":\"c\",\"mountPath\":\"/c\"}]}]"));
    }
    struct timespec a, b;
    int64_t before = atomic_load(&r.env.clock.mono_ms);
    clock_gettime(CLOCK_MONOTONIC, &a);
    rig_start(&r);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_int_equal(fake_live(&r.fake), 100);
    assert_int_equal(atomic_load(&r.env.clock.mono_ms), before); /* no time passed */
    print_message("100 pods, 50 with a volume: %lld ms\n",
                  (long long)((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000));
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_on),
        cmocka_unit_test(ended_meanwhile),
        cmocka_unit_test(without_a_list),
        cmocka_unit_test(strangers_and_doubles_are_ended),
        cmocka_unit_test(created_only_is_started),
        cmocka_unit_test(ends_of_earlier_instances_are_kept),
        cmocka_unit_test(a_list_that_fails_starts_nothing),
        cmocka_unit_test(a_deletion_waits_for_the_list),
        cmocka_unit_test(an_end_beside_the_list),
        cmocka_unit_test(messages_during_the_start),
        cmocka_unit_test(the_image_changed_meanwhile),
        cmocka_unit_test(files_are_brought_up_to_date),
        cmocka_unit_test(the_back_off_survives),
        cmocka_unit_test(the_start_time_and_conditions_survive),
        cmocka_unit_test(a_hundred_pods_start_without_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
