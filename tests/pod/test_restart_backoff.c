/* SPDX-License-Identifier: Apache-2.0 */
/* Restarts through the engine, on a virtual clock: pauses, what is told meanwhile, what ends them.
 */
#include "rig.h"

static struct fake_container *main_of(struct rig *r)
{
    return fake_find(&r->fake, "u-1", "main");
}

static void crash_loop(void **state)
{
    (void)state;
    static const int64_t pauses[] = {0, 10, 20, 40, 80, 160, 300, 300};
    struct rig r;
    char pod[2048], text[80];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
        assert_int_equal(main_of(&r)->attempt, i);
        test_drive_ms(&r.env, 100);
        fake_exit(&r.fake, main_of(&r), 1);
        rig_settle(&r);
        if (pauses[i] == 0)
            continue;
        assert_int_equal(fake_live(&r.fake), 0);
        snprintf(text, sizeof text,
                 "\"reason\":\"CrashLoopBackOff\",\"message\":\"back-off %s restarting",
                 pauses[i] == 300   ? "5m0s"
                 : pauses[i] == 160 ? "2m40s"
                 : pauses[i] == 80  ? "1m20s"
                 : pauses[i] == 40  ? "40s"
                 : pauses[i] == 20  ? "20s"
                                    : "10s");
        assert_true(rig_has(&r, "default/web", text));
        assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
        test_drive_ms(&r.env, pauses[i] * 1000 - 1);
        assert_int_equal(fake_live(&r.fake), 0);
        test_drive_ms(&r.env, 1);
        rig_settle(&r);
        assert_int_equal(fake_live(&r.fake), 1);
        assert_false(rig_has(&r, "default/web", "CrashLoopBackOff"));
    }
    assert_int_equal(r.fake.most_live, 1);
    rig_fini(&r);
}

static void a_long_run_is_forgiven(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    for (int i = 0; i < 3; i++) {
        fake_exit(&r.fake, main_of(&r), 1);
        test_drive_ms(&r.env, 25000);
    }
    assert_int_equal(fake_live(&r.fake), 1);
    test_drive_ms(&r.env, 600000);
    fake_exit(&r.fake, main_of(&r), 1);
    rig_settle(&r);
    assert_int_equal(fake_live(&r.fake), 1); /* at once */
    rig_fini(&r);
}

static void deletion_ends_the_pause(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    for (int i = 0; i < 2; i++) {
        fake_exit(&r.fake, main_of(&r), 1);
        rig_settle(&r);
    }
    assert_true(rig_has(&r, "default/web", "CrashLoopBackOff"));
    rig_send(
        &r, "update", "default/pod/web",
        rig_pod(pod, "web", "u-1",
                ",\"deletionTimestamp\":\"2026-12-01T00:00:30Z\",\"deletionGracePeriodSeconds\":30",
                RIG_MAIN));
    assert_int_equal(rig_count(&r, "delete", "default/pod/web"), 1);
    assert_false(rig_has(&r, "default/web", "CrashLoopBackOff"));
    test_drive_ms(&r.env, 400000);
    assert_int_equal(r.fake.creates, 2);
    rig_fini(&r);
}

static void another_image_ends_the_pause(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    for (int i = 0; i < 2; i++) {
        fake_exit(&r.fake, main_of(&r), 1);
        rig_settle(&r);
    }
    assert_int_equal(fake_live(&r.fake), 0);
    rig_send(
        &r, "update", "default/pod/web",
        rig_pod(pod, "web", "u-1", "", "\"containers\":[{\"name\":\"main\",\"image\":\"img:2\"}]"));
    assert_int_equal(fake_live(&r.fake), 1);
    rig_fini(&r);
}

static void one_ended_instance_is_kept(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    for (int i = 0; i < 5; i++) {
        fake_exit(&r.fake, main_of(&r), 1);
        test_drive_ms(&r.env, 100000);
    }
    int left = 0;
    for (int i = 0; i < r.fake.n; i++)
        left += r.fake.c[i].state != 0;
    assert_int_equal(left, 2); /* the one that runs and the one before it */
    rig_fini(&r);
}

/* A container of a pod crashes, the others run on. */
static void containers_are_independent(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web",
             rig_pod(pod, "web", "u-1", "",
                     "\"containers\":[{\"name\":\"main\",\"image\":\"i\"},{\"name\":\"side\","
                     "\"image\":\"i\"}]"));
    assert_int_equal(fake_live(&r.fake), 2);
    for (int i = 0; i < 2; i++) {
        fake_exit(&r.fake, main_of(&r), 1);
        rig_settle(&r);
    }
    assert_int_equal(fake_find(&r.fake, "u-1", "side")->attempt, 0);
    assert_int_equal(fake_live(&r.fake), 1);
    assert_true(rig_has(&r, "default/web", "containers with unready status: [main]"));
    rig_fini(&r);
}

static void failed_starts_are_runs_that_failed(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    r.fake.fail_start = KE_EACCES;
    r.fake.fail_text = "may not be executed";
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    assert_true(rig_has(&r, "default/web", "CrashLoopBackOff"));
    assert_true(rig_has(&r, "default/web",
                        "\"terminated\":{\"exitCode\":128,\"reason\":\"StartError\",\"message\":"
                        "\"may not be executed\""));
    int starts = r.fake.starts;
    test_drive_ms(&r.env, 9000);
    assert_int_equal(r.fake.starts, starts);
    r.fake.fail_start = 0;
    test_drive_ms(&r.env, 300000);
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    rig_fini(&r);
}

static void failed_creates_are_retried(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    r.fake.fail_create = KE_EACCES;
    r.fake.fail_reason = "CommandNotAllowed";
    r.fake.fail_text = "command /bin/evil is not among what this node allows to run";
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", RIG_MAIN));
    assert_true(rig_has(&r, "default/web",
                        "\"waiting\":{\"reason\":\"CommandNotAllowed\",\"message\":\"command "
                        "/bin/evil is not among"));
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Pending\""));
    assert_true(rig_has(&r, "default/web", "\"restartCount\":0"));
    r.fake.fail_create = 0;
    test_drive_ms(&r.env, 61000);
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_loop),
        cmocka_unit_test(a_long_run_is_forgiven),
        cmocka_unit_test(deletion_ends_the_pause),
        cmocka_unit_test(another_image_ends_the_pause),
        cmocka_unit_test(one_ended_instance_is_kept),
        cmocka_unit_test(containers_are_independent),
        cmocka_unit_test(failed_starts_are_runs_that_failed),
        cmocka_unit_test(failed_creates_are_retried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
