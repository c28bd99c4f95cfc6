/* SPDX-License-Identifier: Apache-2.0 */
/* The phase of a pod for every mix of two containers and each restart policy. */
#include "support/support.h"

#include "pod/state.h"

enum how { WAITING, AGAIN, RUNNING, DONE, FAILED, HOWS }; /* AGAIN: waits, after it has run */

static void put(struct kei_ct *c, enum how h)
{
    *c = (struct kei_ct){.state = KEI_CT_WAITING};
    if (h == RUNNING)
        c->state = KEI_CT_RUNNING;
    if (h == AGAIN)
        c->last.valid = true;
    if (h == DONE || h == FAILED) {
        c->state = KEI_CT_EXITED;
        c->end = (struct kei_ct_end){.valid = true, .exit_code = h == FAILED ? 1 : 0};
    }
}

/* The rule of Kubernetes, written down the other way round: by pairs. */
static enum kei_phase expected(enum how a, enum how b, enum kei_restart r)
{
    if (a == WAITING || b == WAITING)
        return KEI_PHASE_PENDING;
    if (a == RUNNING || b == RUNNING)
        return KEI_PHASE_RUNNING;
    if (r == KEI_RESTART_ALWAYS)
        return KEI_PHASE_RUNNING;
    if (a == DONE && b == DONE)
        return KEI_PHASE_SUCCEEDED;
    return r == KEI_RESTART_NEVER ? KEI_PHASE_FAILED : KEI_PHASE_RUNNING;
}

static void every_pair(void **state)
{
    (void)state;
    for (int a = 0; a < HOWS; a++) {
        for (int b = 0; b < HOWS; b++) {
            for (int r = KEI_RESTART_ALWAYS; r <= KEI_RESTART_NEVER; r++) {
                struct kei_ct cts[2];
                struct kei_pod_state s = {.cts = cts, .n = 2, .restart = (enum kei_restart)r};
                put(&cts[0], (enum how)a);
                put(&cts[1], (enum how)b);
                assert_int_equal(kei_state_phase(&s),
                                 expected((enum how)a, (enum how)b, (enum kei_restart)r));
            }
        }
    }
}

static void no_containers_is_pending(void **state)
{
    (void)state;
    struct kei_pod_state s = {0};
    assert_int_equal(kei_state_phase(&s), KEI_PHASE_PENDING);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(kei_phase_name(KEI_PHASE_PENDING), "Pending");
    assert_string_equal(kei_phase_name(KEI_PHASE_RUNNING), "Running");
    assert_string_equal(kei_phase_name(KEI_PHASE_SUCCEEDED), "Succeeded");
    assert_string_equal(kei_phase_name(KEI_PHASE_FAILED), "Failed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair),
        cmocka_unit_test(no_containers_is_pending),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
