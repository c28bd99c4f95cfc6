/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of a pod, step by step on a time of its own. */
#include "support/support.h"

#include "pod/state.h"

static const struct kei_state_conf conf = {10000, 300000, 600000, 1000, 60000};

struct rig {
    struct kei_ct cts[2];
    struct kei_pod_state s;
    struct kei_step steps[2];
    int64_t mono, wake;
    bool over;
};

static void rig_init(struct rig *r, size_t n, enum kei_restart restart)
{
    memset(r, 0, sizeof *r);
    r->s.cts = r->cts;
    r->s.n = n;
    r->s.restart = restart;
    r->s.grace_ms = 30000;
    r->mono = 1000000;
}

static enum kei_do plan(struct rig *r)
{
    r->over = kei_state_plan(&r->s, r->mono, r->steps, &r->wake);
    return r->steps[0].what;
}

/* Creates and starts the next instance of container 0, as its steps say. */
static void run(struct rig *r)
{
    assert_int_equal(plan(r), KEI_DO_CREATE);
    kei_ct_created(&r->cts[0], kei_ct_next_attempt(&r->cts[0]), "id");
    assert_int_equal(plan(r), KEI_DO_START);
    kei_ct_started(&r->cts[0], r->mono, 5000);
    assert_int_equal(plan(r), KEI_DO_NOTHING);
    assert_false(r->over);
}

static void exit_with(struct rig *r, int code)
{
    struct kei_ct_end e = {.valid = true, .exit_code = code, .finished_ms = 6000};
    assert_true(kei_ct_exited(&r->cts[0], &e, r->mono, &conf));
}

static void runs_once_and_restarts(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    run(&r);
    assert_int_equal(r.cts[0].attempt, 0);
    exit_with(&r, 0);
    run(&r); /* the first restart comes at once */
    assert_int_equal(r.cts[0].attempt, 1);
    assert_true(r.cts[0].last.valid);
}

static void restart_policies(void **state)
{
    (void)state;
    static const struct {
        enum kei_restart policy;
        int code;
        bool again;
        enum kei_phase phase;
    } cases[] = {
        {KEI_RESTART_ALWAYS, 0, true, KEI_PHASE_RUNNING},
        {KEI_RESTART_ALWAYS, 1, true, KEI_PHASE_RUNNING},
        {KEI_RESTART_ON_FAILURE, 0, false, KEI_PHASE_SUCCEEDED},
        {KEI_RESTART_ON_FAILURE, 3, true, KEI_PHASE_RUNNING},
        {KEI_RESTART_NEVER, 0, false, KEI_PHASE_SUCCEEDED},
        {KEI_RESTART_NEVER, 9, false, KEI_PHASE_FAILED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        rig_init(&r, 1, cases[i].policy);
        run(&r);
        exit_with(&r, cases[i].code);
        assert_int_equal(plan(&r) == KEI_DO_CREATE, cases[i].again);
        assert_int_equal(kei_state_phase(&r.s), cases[i].phase);
        assert_int_equal(kei_state_settle(&r.s), !cases[i].again);
    }
}

static void what_is_final_stays(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_NEVER);
    run(&r);
    exit_with(&r, 0);
    assert_true(kei_state_settle(&r.s));
    r.s.restart = KEI_RESTART_ALWAYS; /* whatever comes */
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    assert_int_equal(kei_state_phase(&r.s), KEI_PHASE_SUCCEEDED);
    kei_state_fail(&r.s, "Evicted", "", 0, r.mono);
    assert_int_equal(kei_state_phase(&r.s), KEI_PHASE_SUCCEEDED);
}

static void back_off_doubles_to_its_end(void **state)
{
    (void)state;
    static const int64_t pauses[] = {0, 10000, 20000, 40000, 80000, 160000, 300000, 300000};
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
        run(&r);
        r.mono += 1000;
        exit_with(&r, 1);
        if (pauses[i]) {
            assert_int_equal(plan(&r), KEI_DO_NOTHING);
            assert_int_equal(r.wake, r.mono + pauses[i]);
            assert_true(kei_ct_crash_looping(&r.s, &r.cts[0], r.mono));
            r.mono += pauses[i] - 1;
            assert_int_equal(plan(&r), KEI_DO_NOTHING);
            r.mono += 1;
        }
        assert_false(kei_ct_crash_looping(&r.s, &r.cts[0], r.mono));
    }
}

static void back_off_is_forgotten_after_a_long_run(void **state)
{
    (void)state;
    static const struct {
        int64_t ran, pause;
    } cases[] = {{599999, 20000}, {600000, 0}};
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r, 1, KEI_RESTART_ALWAYS);
        run(&r);
        exit_with(&r, 1);
        run(&r);
        exit_with(&r, 1);
        r.mono += 10000;
        run(&r);
        r.mono += cases[i].ran;
        exit_with(&r, 1);
        plan(&r);
        assert_int_equal(r.cts[0].due_mono - r.mono, cases[i].pause);
    }
}

static void create_failures_pause(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    static const int64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
        assert_int_equal(plan(&r), KEI_DO_CREATE);
        kei_ct_failed(&r.cts[0], "CreateContainerError", "no", r.mono, &conf);
        assert_int_equal(plan(&r), KEI_DO_NOTHING);
        assert_int_equal(r.wake, r.mono + pauses[i]);
        assert_int_equal(kei_state_phase(&r.s), KEI_PHASE_PENDING);
        assert_int_equal(kei_ct_next_attempt(&r.cts[0]), 0);
        r.mono = r.wake;
    }
}

static void operations_are_not_doubled(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    assert_int_equal(plan(&r), KEI_DO_CREATE);
    r.cts[0].busy = true;
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    kei_state_delete(&r.s, 1000, r.mono); /* waits for the end of it */
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    assert_false(r.over);
    r.cts[0].busy = false;
    kei_ct_created(&r.cts[0], 0, "id");
    assert_int_equal(plan(&r), KEI_DO_REMOVE);
    r.cts[0].stopping = true;
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    kei_ct_discarded(&r.cts[0], r.mono, 1, &conf);
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    assert_true(r.over);
}

static void deletion_stops_with_what_is_left_of_the_grace(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    run(&r);
    kei_state_delete(&r.s, 20000, r.mono);
    r.mono += 5000;
    assert_int_equal(plan(&r), KEI_DO_STOP);
    assert_int_equal(r.steps[0].grace_ms, 15000);
    r.cts[0].stopping = true;
    r.cts[0].kill_mono = r.mono + 15000;
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    kei_state_delete(&r.s, 60000, r.mono); /* can only come nearer */
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    kei_state_delete(&r.s, 2000, r.mono);
    assert_int_equal(plan(&r), KEI_DO_STOP);
    assert_int_equal(r.steps[0].grace_ms, 2000);
    r.cts[0].kill_mono = r.mono + 2000;
    kei_state_kill(&r.s);
    assert_int_equal(plan(&r), KEI_DO_STOP);
    assert_int_equal(r.steps[0].grace_ms, 0);
    r.cts[0].kill_mono = r.mono;
    r.mono += 100;
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    assert_false(r.over);
    exit_with(&r, 137);
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    assert_true(r.over);
}

static void a_failed_stop_is_repeated(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    run(&r);
    kei_state_kill(&r.s);
    assert_int_equal(plan(&r), KEI_DO_STOP);
    r.cts[0].due_mono = r.mono + 5000; /* as the engine does when the runtime failed */
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    assert_int_equal(r.wake, r.mono + 5000);
    r.mono += 5000;
    assert_int_equal(plan(&r), KEI_DO_STOP);
}

static void a_broken_start_is_ended_first(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ON_FAILURE);
    plan(&r);
    kei_ct_created(&r.cts[0], 0, "id");
    kei_ct_broken(&r.cts[0], "no such file");
    assert_int_equal(plan(&r), KEI_DO_REMOVE); /* never the next attempt before */
    kei_ct_discarded(&r.cts[0], r.mono, 7000, &conf);
    assert_int_equal(r.cts[0].state, KEI_CT_EXITED);
    assert_int_equal(r.cts[0].end.exit_code, 128);
    assert_string_equal(r.cts[0].end.reason, "StartError");
    assert_string_equal(r.cts[0].end.message, "no such file");
    assert_int_equal(plan(&r), KEI_DO_CREATE);
    assert_int_equal(kei_ct_next_attempt(&r.cts[0]), 1);
}

static void another_image_replaces_it(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    run(&r);
    r.cts[0].outdated = true;
    assert_int_equal(plan(&r), KEI_DO_STOP);
    assert_int_equal(r.steps[0].grace_ms, 30000);
    exit_with(&r, 143);
    assert_int_equal(plan(&r), KEI_DO_CREATE);
}

static void a_told_end_replaces_a_guessed_one(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_NEVER);
    run(&r);
    struct kei_ct_end guess = {.valid = true, .guessed = true, .exit_code = 137};
    struct kei_ct_end told = {.valid = true, .exit_code = 5};
    assert_true(kei_ct_exited(&r.cts[0], &guess, r.mono, &conf));
    assert_false(kei_ct_exited(&r.cts[0], &guess, r.mono, &conf));
    assert_true(kei_ct_exited(&r.cts[0], &told, r.mono, &conf));
    assert_false(kei_ct_exited(&r.cts[0], &told, r.mono, &conf)); /* repeats are harmless */
    assert_int_equal(r.cts[0].end.exit_code, 5);
}

static void a_held_pod_waits(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    r.s.held = true;
    assert_int_equal(plan(&r), KEI_DO_NOTHING);
    r.s.held = false;
    assert_int_equal(plan(&r), KEI_DO_CREATE);
}

static void a_failed_pod_ends_its_containers(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1, KEI_RESTART_ALWAYS);
    r.s.deadline_mono = r.mono + 1;
    run(&r);
    assert_int_equal(r.wake, r.mono + 1);
    kei_state_fail(&r.s, "DeadlineExceeded", "late", 4000, r.mono);
    assert_int_equal(plan(&r), KEI_DO_STOP);
    assert_int_equal(r.steps[0].grace_ms, 4000);
    assert_int_equal(kei_state_phase(&r.s), KEI_PHASE_FAILED);
}

static void texts_are_cut_at_characters(void **state)
{
    (void)state;
    char out[5];
    kei_text_copy(out, sizeof out, "ab\xc3\xa4\xc3\xb6");
    assert_string_equal(out, "ab\xc3\xa4");
    kei_text_copy(out, sizeof out, "abc\xc3\xb6");
    assert_string_equal(out, "abc");
    kei_text_copy(out, sizeof out, "abcd");
    assert_string_equal(out, "abcd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_once_and_restarts),
        cmocka_unit_test(restart_policies),
        cmocka_unit_test(what_is_final_stays),
        cmocka_unit_test(back_off_doubles_to_its_end),
        cmocka_unit_test(back_off_is_forgotten_after_a_long_run),
        cmocka_unit_test(create_failures_pause),
        cmocka_unit_test(operations_are_not_doubled),
        cmocka_unit_test(deletion_stops_with_what_is_left_of_the_grace),
        cmocka_unit_test(a_failed_stop_is_repeated),
        cmocka_unit_test(a_broken_start_is_ended_first),
        cmocka_unit_test(another_image_replaces_it),
        cmocka_unit_test(a_told_end_replaces_a_guessed_one),
        cmocka_unit_test(a_held_pod_waits),
        cmocka_unit_test(a_failed_pod_ends_its_containers),
        cmocka_unit_test(texts_are_cut_at_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
