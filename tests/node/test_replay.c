/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded traffic of EdgeCore 1.4, 1.15 and 1.23 played to a whole node: what the recorded cloud
 * sent is sent again, what the machine did is done again, and each message of the node is held
 * against what the recorded one sent.
 *
 * How it is compared: requests by their content; reports of a pod and of the node by what they lead
 * to, value for value at the end of each recording and each change on the way; acknowledgements by
 * number and form. Times, ids of containers and facts of the machine are compared by their form.
 * Everything else that differs stands in replay_differences.h. KE_REPLAY_LOG=1 tells what is said.
 */
#include "node/replay_rig.h"

#define WEB "06c605dc-d6ea-404b-b595-324194bb4f46"

/* So that a test that plays nothing is noticed: what was sent to the node, and what of it had a
 * counterpart. */
static void end(struct replay *p, unsigned played, unsigned compared)
{
    print_message("%u messages played, %u compared\n", replay_played(p), replay_compared(p));
    assert_true(replay_played(p) >= played);
    assert_true(replay_compared(p) >= compared);
    replay_free(p);
}

static void edgecore_1_15(void **state)
{
    static const struct act crash[] = {{1, ACT_CRASH, WEB, "main", 137}};
    static const struct act restart[] = {{1, ACT_RESTART, NULL, NULL, 0}};
    static const struct act away[] = {{99, ACT_CLOUD_AWAY, NULL, NULL, 5}};
    static const struct act old[] = {{3, ACT_RESTART, NULL, NULL, 0}, {3, ACT_AGE, NULL, NULL, 95}};
    static const struct act gone[] = {{0, ACT_NODE_GONE, NULL, NULL, 0}};
    (void)state;
    /* 2026-11-22T08:17:59Z */
    struct replay *p = replay_new("1.15", "edge-up1", INT64_C(1795335479000));
    replay_without_probes(p);
    replay_play(p, "01-register", NULL, 0);
    replay_play(p, "02-unreferenced", NULL, 0);
    replay_play(p, "03-pod-create", NULL, 0);
    replay_play(p, "04-configmap-update", NULL, 0);
    replay_play(p, "05-secret-update", NULL, 0);
    replay_play(p, "06-pod-update", NULL, 0);
    replay_play(p, "07-pod-cni-service", NULL, 0);
    replay_play(p, "08-container-crash", crash, 1);
    replay_play(p, "09-pod-delete", NULL, 0);
    replay_play(p, "10-service-delete", NULL, 0);
    replay_runtime(p)->missing_image = "image.lab/library/none:1";
    replay_play(p, "13-pod-error", NULL, 0);
    replay_play(p, "14-pod-force-delete", NULL, 0);
    replay_runtime(p)->short_lived = "once";
    replay_play(p, "15-job-completed", NULL, 0);
    replay_play(p, "16-configmap-delete", NULL, 0);
    replay_play(p, "42-edge-restart", restart, 1);
    replay_play(p, "43-cloud-restart", away, 1);
    replay_play(p, "44-cert-rotation", old, 2);
    replay_play(p, "45-late-delete", NULL, 0);
    replay_play(p, "46-node-delete", NULL, 0);
    replay_play(p, "47-after-node-delete", gone, 1);
    end(p, 85, 55);
}

/* The recording of a second cluster: the registration before it is like the first. */
static void outage_1_15(void **state)
{
    (void)state;
    struct replay *p = replay_new("1.15", "edge-up1", INT64_C(1795335479000));
    static const struct act down[] = {{2, ACT_API_DOWN, NULL, NULL, 0}};
    replay_alias(p, "631c9217-8a83-4559-b3d4-56bfcef96d2a", "a0bdc526-6270-457a-9705-1454b9bfeee6");
    replay_alias(p, "9145d8ce-9eb3-42f2-ade7-88f0a8793403", "732b9943-c830-46a4-8857-2745765eb77b");
    replay_quiet(p, true);
    replay_play(p, "01-register", NULL, 0);
    replay_quiet(p, false);
    replay_play(p, "50-apiserver-outage", down, 1);
    end(p, 10, 12);
}

/* Registers in another order, not ready at first; its streams are left out. */
static void edgecore_1_15_again(void **state)
{
    static const struct act stop[] = {{28, ACT_RESTART, NULL, NULL, 0}};
    (void)state;
    struct replay *p = replay_new("1.15", "edge-up2", INT64_C(1795336727111));
    replay_play(p, "60-stream-connect", NULL, 0);
    replay_play(p, "68-graceful-stop", stop, 1);
    end(p, 19, 15);
}

static void edgecore_1_23(void **state)
{
    static const struct act stop[] = {{1, ACT_RESTART, NULL, NULL, 0}};
    (void)state;
    struct replay *p = replay_new("1.23", "edge-new1", INT64_C(1795337745000));
    replay_play(p, "01-register", NULL, 0);
    replay_play(p, "02-pod-create", NULL, 0);
    replay_play(p, "03-configmap-update", NULL, 0);
    replay_play(p, "06-pod-delete", NULL, 0);
    replay_play(p, "07-stop", stop, 1);
    end(p, 25, 18);
}

static void edgecore_1_4(void **state)
{
    static const struct act restart[] = {{2, ACT_RESTART, NULL, NULL, 0}};
    (void)state;
    struct replay *p = replay_new("1.4", "edge-old1", INT64_C(1795336901000));
    replay_runtime(p)->no_image = true; /* its pod never ran */
    replay_play(p, "01-register", NULL, 0);
    replay_play(p, "02-pod-create", NULL, 0);
    replay_play(p, "03-configmap-update", NULL, 0);
    replay_play(p, "04-secret-update", NULL, 0);
    replay_play(p, "05-service", NULL, 0);
    replay_play(p, "10-pod-delete", NULL, 0);
    replay_play(p, "11-restart", restart, 1);
    replay_play(p, "12-node-delete", NULL, 0);
    end(p, 27, 20);
}

static void edgecore_1_4_again(void **state)
{
    static const struct act kill[] = {{1, ACT_RESTART, NULL, NULL, 0}};
    (void)state;
    struct replay *p = replay_new("1.4", "edge-old2", INT64_C(1795337148000));
    replay_play(p, "20-register-2", NULL, 0);
    replay_play(p, "21-pod-run", NULL, 0);
    replay_play(p, "22-pod-delete", NULL, 0);
    replay_play(p, "23-kill", kill, 1);
    end(p, 19, 15);
}

static void nothing_else_differs(void **state)
{
    (void)state;
    assert_int_equal(compare_failures(), 0);
}

static void each_difference_was_met(void **state)
{
    (void)state;
    assert_int_equal(compare_unmet(), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(edgecore_1_15),        cmocka_unit_test(outage_1_15),
        cmocka_unit_test(edgecore_1_15_again),  cmocka_unit_test(edgecore_1_23),
        cmocka_unit_test(edgecore_1_4),         cmocka_unit_test(edgecore_1_4_again),
        cmocka_unit_test(nothing_else_differs), cmocka_unit_test(each_difference_was_met),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
