/* SPDX-License-Identifier: Apache-2.0 */
/* Lives and stamps at the node's twin: what a cloud that merges is told, and what it can change. */
#include "twin/twin_priv.h"
#include "twin_rig.h"

#define TOPIC(suffix) "$hw/events/device/d" suffix
#define SET(name, value)                                                                           \
    "{\"event_id\":\"u\",\"timestamp\":1,\"twin\":{\"" name "\":{\"expected\":{\"value\":\"" value \
    "\"},\"metadata\":{\"type\":\"string\"}}}}"
#define REPORT(name, value)                                                                        \
    "{\"event_id\":\"u\",\"timestamp\":1,\"twin\":{\"" name "\":{\"actual\":{\"value\":\"" value   \
    "\"},\"metadata\":{\"type\":\"string\"}}}}"
#define EDGE_UPDATED "device/default/d/twin/edge_updated"
/* what the cloud desires of a, with stamps; LIFE and AT as [ms,n,node] */
#define MERGE(life, value, at)                                                                     \
    "{\"life\":" life ",\"twin\":{\"a\":{\"expected\":{\"value\":\"" value "\",\"at\":" at "}}}}"
#define ADD(merge)                                                                                 \
    "{\"event_id\":\"c\",\"timestamp\":1,\"added_devices\":[{\"id\":\"default/d\",\"name\":\"d\"," \
    "\"merge\":" merge "}],\"removed_devices\":null}"
#define REMOVE(merge)                                                                              \
    "{\"event_id\":\"c\",\"timestamp\":1,\"added_devices\":null,\"removed_devices\":[{\"id\":"     \
    "\"default/d\",\"name\":\"d\"" merge "}]}"
#define UPDATED(merge) "{\"event_id\":\"c\",\"timestamp\":1,\"twin\":{},\"merge\":" merge "}"
#define NOW "1796083200000" /* the test's clock */
#define L1 "[1796083100000,0,0]"
#define L2 "[1796083150000,0,0]"
#define AT(ms) "[17960831" ms ",0,0]"

static void tell(struct twin_rig *r, const char *resource, const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.source = "edgehub";
    c.group = "twin";
    c.operation = "connect";
    c.resource = resource;
    c.content = content;
    c.content_len = strlen(content);
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_send_group(r->router, "twin", m, NULL), 0);
    ke_msg_unref(m);
}

/* A link to a cloud that merges, whose clock says now. */
static void merging(struct twin_rig *r, const char *now)
{
    char content[64];

    twin_link(r, false);
    snprintf(content, sizeof content, "{\"now\":%s}", now);
    tell(r, "node/merge", content);
    twin_link(r, true);
}

static void begin(struct twin_rig *r)
{
    twin_init(r, KE_DIALECT_1_23);
    r->confirm = true;
    merging(r, NOW);
    twin_cloud(r, "update", "membership", ADD(MERGE(L1, "c0", AT("10000"))), NULL);
}

static const char *desired(struct twin_rig *r, const char *name)
{
    static char out[64];
    struct ke_twin_value v;

    if (ke_twin_get(r->twin, "default/d", name, &v, sizeof v) < 0)
        return NULL;
    snprintf(out, sizeof out, "%s", v.desired ? v.desired : "-");
    return out;
}

static bool has_merge(const struct twin_recorder *rec)
{
    for (uint32_t i = 0; i < rec->n; i++) {
        if (strstr(twin_text(rec->m[i]), "merge"))
            return true;
    }
    return false;
}

/* Upstream's cloud: not one byte in any message, and nothing in what it says counts. */
static void nobody_told(void **state)
{
    struct twin_rig r;

    (void)state;
    twin_init(&r, KE_DIALECT_1_23);
    twin_link(&r, true);
    twin_cloud(&r, "update", "membership", ADD(MERGE(L1, "c0", AT("10000"))), NULL);
    assert_null(desired(&r, "a"));
    twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e1"));
    twin_mqtt(&r, TOPIC("/state/update"), "{\"state\":\"online\"}");
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 1);
    assert_false(has_merge(&r.cloud));
    /* and not after a link to one that merged */
    merging(&r, NOW);
    twin_cloud(&r, "update", "membership", ADD(MERGE(L1, "c0", AT("10000"))), NULL);
    twin_link(&r, false);
    twin_forget(&r);
    twin_link(&r, true);
    twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e2"));
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c9", "[1796089999999,0,0]")), NULL);
    assert_true(twin_count(&r.cloud, EDGE_UPDATED) >= 1);
    assert_false(has_merge(&r.cloud));
    assert_string_equal(desired(&r, "a"), "e2");
    twin_fini(&r);
}

static void the_later_stands(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r);
    assert_string_equal(desired(&r, "a"), "c0");
    /* told twice, and an older one: nothing */
    twin_forget(&r);
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c0", AT("10000"))), NULL);
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "x", AT("09999"))), NULL);
    assert_string_equal(desired(&r, "a"), "c0");
    assert_int_equal(twin_count(&r.mqtt, TOPIC("/twin/update/document")), 0);
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c1", AT("20000"))), NULL);
    assert_string_equal(desired(&r, "a"), "c1");
    assert_string_equal(strstr(twin_last(&r.device, "device/default/d/twin/delta"), "\"delta\""),
                        "\"delta\":{\"a\":\"c1\"}}");
    /* an application: later than all that */
    twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e1"));
    const char *said = twin_last(&r.cloud, EDGE_UPDATED);
    assert_non_null(strstr(said, "\"merge\":{\"life\":" L1 ",\"twin\":{\"a\":{\"expected\":{"
                                 "\"value\":\"e1\",\"at\":[1796083200"));
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c2", AT("90000"))), NULL);
    assert_string_equal(desired(&r, "a"), "e1");
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c3", "[1796083300000,0,0]")), NULL);
    assert_string_equal(desired(&r, "a"), "c3");
    /* what is set now is later, though this clock is behind */
    twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e2"));
    assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED) ? desired(&r, "a") : "", "e2"));
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c3", "[1796083300000,0,0]")), NULL);
    assert_string_equal(desired(&r, "a"), "e2");
    /* the application's topic is no way in */
    twin_mqtt(&r, TOPIC("/twin/cloud_updated"), UPDATED(MERGE(L1, "y", "[1796089900000,0,0]")));
    assert_string_equal(desired(&r, "a"), "e2");
    twin_fini(&r);
}

static void another_life(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r);
    r.confirm = false;
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "old1"));
    twin_mqtt(&r, TOPIC("/twin/update"), SET("b", "old2"));
    twin_mqtt(&r, TOPIC("/state/update"), "{\"state\":\"online\"}");
    twin_restart(&r);
    twin_forget(&r);
    merging(&r, NOW);
    assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "old1")); /* of L1, as it says */
    assert_non_null(strstr(twin_last(&r.cloud, "device/default/d/state/update"),
                           "\"merge\":{\"life\":" L1 ",\"twin\":{}}"));
    twin_forget(&r);
    twin_cloud(&r, "update", "membership/detail",
               "{\"event_id\":\"c\",\"timestamp\":1,\"devices\":[{\"id\":\"default/d\",\"name\":"
               "\"d\",\"twin\":{},\"merge\":" MERGE(L2, "c1", AT("60000")) "}]}",
               NULL);
    assert_string_equal(desired(&r, "a"), "c1");
    assert_null(desired(&r, "b"));
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/node/edge-1/membership/updated"), 2);
    twin_mqtt(&r, TOPIC("/twin/get"), "{}");
    assert_null(strstr(twin_last(&r.mqtt, TOPIC("/twin/get/result")), "old"));
    /* what was on its way of the former one: nothing */
    twin_cloud(&r, "update", "membership", ADD(MERGE(L1, "old3", AT("99999"))), NULL);
    twin_cloud(&r, "update", "membership",
               REMOVE(",\"merge\":{\"life\":" L1 ",\"dead\":true,\"twin\":{}}"), NULL);
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "old4", AT("99999"))), NULL);
    assert_string_equal(desired(&r, "a"), "c1");
    twin_restart(&r);
    merging(&r, NOW);
    assert_string_equal(desired(&r, "a"), "c1");
    assert_null(desired(&r, "b"));
    twin_fini(&r);
}

static void the_dead_stay_dead(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r);
    twin_cloud(&r, "update", "membership",
               REMOVE(",\"merge\":{\"life\":" L1 ",\"dead\":true,\"twin\":{}}"), NULL);
    assert_null(desired(&r, "a"));
    twin_cloud(&r, "update", "membership", ADD(MERGE(L1, "c0", AT("10000"))), NULL);
    assert_null(desired(&r, "a"));
    twin_restart(&r); /* the grave is on disk */
    merging(&r, NOW);
    twin_cloud(&r, "update", "membership", ADD(MERGE(L1, "c0", AT("10000"))), NULL);
    assert_null(desired(&r, "a"));
    twin_cloud(&r, "update", "membership", ADD(MERGE(L2, "c1", AT("60000"))), NULL);
    assert_string_equal(desired(&r, "a"), "c1");
    /* gone to another node: it may come back as it was */
    twin_cloud(&r, "update", "membership", REMOVE(",\"merge\":" MERGE(L2, "c1", AT("60000"))),
               NULL);
    assert_null(desired(&r, "a"));
    twin_cloud(&r, "update", "membership", ADD(MERGE(L2, "c1", AT("60000"))), NULL);
    assert_string_equal(desired(&r, "a"), "c1");
    twin_fini(&r);
}

/* The cloud came back with a store of an older day. */
static void a_cloud_that_knows_less(void **state)
{
    struct twin_rig r;

    (void)state;
    for (int empty = 0; empty < 2; empty++) {
        begin(&r);
        twin_cloud(&r, "update", "membership", ADD("{\"life\":[1796083200000,5,0],\"twin\":{}}"),
                   NULL);
        if (!empty)
            twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e1"));
        twin_forget(&r);
        twin_cloud(&r, "update", "membership/detail",
                   "{\"devices\":[{\"id\":\"default/d\",\"name\":\"d\",\"merge\":" MERGE(
                       L1, "c0", AT("10000")) "}]}",
                   NULL);
        if (empty) {
            assert_string_equal(desired(&r, "a"), "c0");
        } else {
            assert_string_equal(desired(&r, "a"), "e1");
            assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"e1\",\"at\":["));
        }
        twin_fini(&r);
    }
}

static void graves_are_few(void **state)
{
    struct twin_rig r;
    char text[400];

    (void)state;
    begin(&r);
    for (unsigned i = 0; i < KEI_TWIN_GRAVES + 20; i++) {
        for (int removed = 0; removed < 2; removed++) {
            snprintf(
                text, sizeof text,
                "{\"%s_devices\":[{\"id\":\"default/x%u\",\"name\":\"x%u\",\"merge\":{\"life\":"
                "[%u,0,0],%s\"twin\":{}}}]}",
                removed ? "removed" : "added", i, i, i + 1, removed ? "\"dead\":true," : "");
            twin_cloud(&r, "update", "membership", text, NULL);
        }
        twin_forget(&r);
    }
    assert_int_equal(r.twin->n_graves, KEI_TWIN_GRAVES);
    twin_restart(&r);
    assert_int_equal(r.twin->n_graves, KEI_TWIN_GRAVES);
    for (unsigned i = 0; i < r.twin->n_graves; i++)
        assert_true(r.twin->graves[i].life.ms > 20); /* the oldest lives went */
    twin_fini(&r);
}

/* A driver says which desired value it saw. That is no wish of anybody. */
static void what_a_driver_saw(void **state)
{
    struct twin_rig r;
    struct kei_tdev *dev;
    struct kei_twin_view before, after;

    (void)state;
    begin(&r);
    dev = kei_tdev_by_id(r.twin, KEI_STR("default/d"));
    kei_twin_view(&before, kei_twin_find(&dev->d, KEI_STR("a")));
    twin_forget(&r);
    twin_ask(&r, TOPIC("/twin/update"), SET("a", "c0"));
    kei_twin_view(&after, kei_twin_find(&dev->d, KEI_STR("a")));
    assert_int_equal(kei_hlc_compare(&before.side[0].at, &after.side[0].at), 0);
    assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"expected\":{\"value\":\"c0\""));
    twin_ask(&r, TOPIC("/twin/update"), SET("a", "of-yesterday"));
    assert_string_equal(desired(&r, "a"), "c0");
    twin_ask(&r, TOPIC("/twin/update"), SET("new", "of-yesterday"));
    assert_null(desired(&r, "new"));
    /* a cloud that does not merge gets what it always got */
    twin_link(&r, false);
    twin_link(&r, true);
    twin_ask(&r, TOPIC("/twin/update"), SET("a", "seen"));
    assert_string_equal(desired(&r, "a"), "seen");
    twin_fini(&r);
}

/* The device was here before anybody had stamps: what waits is not lost, unless it was made anew.
 */
static void before_there_were_stamps(void **state)
{
    struct twin_rig r;

    (void)state;
    for (int anew = 0; anew < 2; anew++) {
        twin_init(&r, KE_DIALECT_1_23);
        twin_cloud(&r, "update", "membership",
                   "{\"added_devices\":[{\"id\":\"default/d\",\"name\":\"d\"}]}", NULL);
        twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e1"));
        twin_mqtt(&r, TOPIC("/twin/update"), REPORT("b", "r1"));
        twin_restart(&r);
        merging(&r, NOW);
        twin_forget(&r);
        twin_cloud(&r, "update", "membership",
                   anew ? "{\"added_devices\":[{\"id\":\"default/d\",\"name\":\"d\",\"anew\":true,"
                          "\"merge\":" MERGE(L1, "c0", AT("10000")) "}]}"
                        : ADD(MERGE(L1, "c0", AT("10000"))),
                   NULL);
        assert_string_equal(desired(&r, "a"), anew ? "c0" : "e1");
        twin_restart(&r);
        twin_forget(&r);
        merging(&r, NOW);
        if (anew) {
            assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 0);
        } else {
            assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"merge\":{\"life\":" L1));
            assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"r1\",\"at\":["));
        }
        twin_fini(&r);
    }
}

/* In 2106 until somebody could be asked; then nothing is later than ten minutes from now. */
static void a_clock_far_ahead(void **state)
{
    struct twin_rig r;
    struct kei_twin_view v;
    struct kei_tdev *dev;

    (void)state;
    begin(&r);
    twin_restart(&r);
    test_clock_set_real(&r.env.clock, INT64_C(4294967295000));
    twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e1"));
    dev = kei_tdev_by_id(r.twin, KEI_STR("default/d"));
    kei_twin_view(&v, kei_twin_find(&dev->d, KEI_STR("a")));
    assert_true(v.side[0].at.ms >= INT64_C(4294967295000));
    twin_forget(&r);
    merging(&r, NOW);
    kei_twin_view(&v, kei_twin_find(&dev->d, KEI_STR("a")));
    assert_true(v.side[0].at.ms <= TEST_CLOCK_REAL_MS + KEI_MERGE_AHEAD_MS);
    assert_non_null(strstr(r.env.last_log, "ahead of the cloud's"));
    for (uint32_t i = 0; i < r.cloud.n; i++)
        assert_null(strstr(twin_text(r.cloud.m[i]), "\"at\":[42949"));
    assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"e1\",\"at\":[17960832"));
    /* it still thinks it is 2106, and stamps no such thing */
    twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e2"));
    kei_twin_view(&v, kei_twin_find(&dev->d, KEI_STR("a")));
    assert_true(v.side[0].at.ms <= TEST_CLOCK_REAL_MS + KEI_MERGE_AHEAD_MS);
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c1", "[1796083800001,0,0]")), NULL);
    assert_string_equal(desired(&r, "a"), "c1");
    /* years behind, it sets later things than it heard of */
    test_clock_set_real(&r.env.clock, 0);
    twin_mqtt(&r, TOPIC("/twin/update"), SET("a", "e3"));
    twin_cloud(&r, "update", "device/default/d/twin/cloud_updated",
               UPDATED(MERGE(L1, "c1", "[1796083800001,0,0]")), NULL);
    assert_string_equal(desired(&r, "a"), "e3");
    twin_fini(&r);
}

/* By its object, before or after the membership; the end of an object of a former life is none. */
static void by_its_object(void **state)
{
    struct ke_msg_config c;
    struct twin_rig r;
    static const struct {
        const char *operation, *content, *desired;
    } cases[] = {
        {"insert", "{\"merge\":" MERGE(L1, "c0", AT("10000")) "}", "c0"},
        {"update", "{\"merge\":" MERGE(L1, "c1", AT("20000")) "}", "c1"},
        {"update", "{\"merge\":" MERGE(L1, "c1", AT("20000")) "}", "c1"},
        {"update", "{\"merge\":7}", "c1"},
        {"update", "{\"merge\":{\"life\":\"x\"}}", "c1"},
        {"update", "{\"merge\":" MERGE(L2, "c2", AT("15000")) "}", "c2"},
        {"delete", "{}", "c2"},
    };

    (void)state;
    twin_init(&r, KE_DIALECT_1_23);
    merging(&r, NOW);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_msg *m = NULL;

        ke_msg_config_init(&c, sizeof c);
        c.source = "edgecontroller";
        c.group = "resource";
        c.operation = cases[i].operation;
        c.resource = "default/device/d";
        c.content = cases[i].content;
        c.content_len = strlen(c.content);
        assert_int_equal(ke_msg_new(&m, r.env.ctx, &c, NULL), 0);
        assert_int_equal(ke_router_send_group(r.router, "twin", m, NULL), 0);
        ke_msg_unref(m);
        twin_settle(&r);
        assert_string_equal(desired(&r, "a"), cases[i].desired);
    }
    twin_fini(&r);
}

/* A new life, a merge and a restamping with the n-th allocation refused: it ends as without. */
static bool live(size_t n)
{
    struct twin_rig r;
    bool failed;

    begin(&r);
    twin_mqtt(&r, TOPIC("/twin/update"), SET("b", "old"));
    test_alloc_fail_at(&r.env.alloc, n);
    twin_cloud(&r, "update", "membership", ADD(MERGE(L2, "c1", AT("60000"))), NULL);
    twin_mqtt(&r, TOPIC("/twin/update"), SET("b", "new"));
    test_drive_ms(&r.env, 5000);
    failed = atomic_load(&r.env.alloc.failed) > 0;
    test_alloc_fail_at(&r.env.alloc, 0);
    /* what could not even wait is told again, as on the next link */
    twin_cloud(&r, "update", "membership", ADD(MERGE(L2, "c1", AT("60000"))), NULL);
    twin_mqtt(&r, TOPIC("/twin/update"), SET("b", "new"));
    test_drive_ms(&r.env, 5000);
    assert_string_equal(desired(&r, "a"), "c1");
    assert_string_equal(desired(&r, "b"), "new");
    twin_restart(&r);
    assert_string_equal(desired(&r, "a"), "c1");
    assert_string_equal(desired(&r, "b"), "new");
    atomic_store(&r.env.log_errors, 0);
    twin_fini(&r);
    return failed;
}

static void memory_out_anywhere(void **state)
{
    size_t n = 1;

    (void)state;
    while (live(n))
        n++;
    assert_true(n > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_told),
        cmocka_unit_test(the_later_stands),
        cmocka_unit_test(another_life),
        cmocka_unit_test(the_dead_stay_dead),
        cmocka_unit_test(a_cloud_that_knows_less),
        cmocka_unit_test(graves_are_few),
        cmocka_unit_test(what_a_driver_saw),
        cmocka_unit_test(before_there_were_stamps),
        cmocka_unit_test(a_clock_far_ahead),
        cmocka_unit_test(by_its_object),
        cmocka_unit_test(memory_out_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
