/* SPDX-License-Identifier: Apache-2.0 */
/* An index that cannot be read: nothing is acknowledged before it is, and nothing lost by it. */
#include "meta_rig.h"

#define POD(uid, rv)                                                                               \
    "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\",\"namespace\":"        \
    "\"default\","                                                                                 \
    "\"uid\":\"" uid "\",\"resourceVersion\":\"" rv "\"},\"spec\":{\"nodeName\":\"edge-1\","       \
    "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}"

/* One life whose n-th allocation at the start is refused. False: there was no such allocation. */
static bool live(size_t n, unsigned *reread)
{
    struct meta_rig r;
    char id[37];
    struct told in = {.operation = "insert",
                      .resource = "default/pod/web",
                      .content = POD("u1", "7"),
                      .source = "edgecontroller",
                      .group = "resource",
                      .rv = "7"};
    struct told del = {.operation = "delete",
                       .resource = "default/pod/web",
                       .content = POD("u1", "8"),
                       .source = "edgecontroller",
                       .group = "resource",
                       .rv = "9"};

    meta_init(&r, false);
    meta_link(&r, true);
    meta_tell(&r, &in, id);
    meta_settle(&r);
    meta_stop(&r);
    meta_forget(&r);
    test_alloc_fail_at(&r.env.alloc, n);
    int e = meta_try_start(&r);
    bool refused = atomic_load(&r.env.alloc.failed) > 0;
    test_alloc_fail_at(&r.env.alloc, 0);
    if (e < 0)
        meta_start(&r);
    meta_tell(&r, &del, id);
    meta_settle(&r);
    *reread += meta_acks(&r, id) == 0;
    test_drive_ms(&r.env, 3000); /* it is read again meanwhile */
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(meta_count(&r.edged, "delete", "default/pod/web"), 1);
    assert_int_equal(meta_row(&r, "o/pod", "default/web"), KE_ENOTFOUND);
    atomic_store(&r.env.log_errors, 0); /* of the layers below */
    meta_fini(&r);
    return refused;
}

static void a_deletion_waits_for_the_index(void **state)
{
    (void)state;
    unsigned reread = 0;
    size_t n = 1;

    while (live(n, &reread))
        n++;
    print_message("count: %zu allocations of a start refused, %u readings repeated\n", n - 1,
                  reread);
    assert_true(reread > 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(a_deletion_waits_for_the_index)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
