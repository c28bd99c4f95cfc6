/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cloud pushes: stored, acknowledged when that is durable, then told; by the type in the
 * resource, whatever the source says and whether the object has a kind.
 */
#include "meta_rig.h"

#include "base/json.h"
#include "sim/powercut_io.h"

#define POD(uid, rv)                                                                               \
    "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"" uid                     \
    "\",\"resourceVersion\":\"" rv "\"},\"spec\":{\"n\":12345678901234567890}}"

static void insert_update_delete(void **state)
{
    static const struct {
        const char *type;
        bool pods, devices; /* who is told */
    } cases[] = {
        {"pod", true, false},
        {"configmap", true, false},
        {"secret", true, false},
        {"service", false, false},
        {"endpoints", false, false},
        {"endpointslice", false, false},
        {"device", false, true},
        {"devicemodel", false, true},
        {"some.crd", false, false},
        {"persistentvolume", false, false},
        {"serviceaccountaccess", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static const char *const ops[] = {"insert", "update"};
        struct meta_rig r;
        char resource[128], bucket[64], id[37];

        meta_init(&r, false);
        snprintf(resource, sizeof resource, "default/%s/web", cases[i].type);
        snprintf(bucket, sizeof bucket, "o/%s", cases[i].type);
        for (int k = 0; k < 2; k++) {
            struct told t = {.operation = ops[k],
                             .resource = resource,
                             .source = k ? "synccontroller" : "devicecontroller",
                             .rv = k ? "8" : "7",
                             .content = k ? POD("u1", "8") : POD("u1", "7")};

            meta_tell(&r, &t, id);
            assert_int_equal(meta_acks(&r, id), 1);
            assert_int_equal(meta_row(&r, bucket, "default/web"), 0);
            assert_string_equal(r.row, t.content); /* byte for byte, numbers above 2^53 too */
            assert_string_equal(r.row_uid, "u1");
            assert_int_equal(r.row_version, k ? 8 : 7);
            assert_int_equal(meta_count(&r.edged, ops[k], resource), cases[i].pods ? 1 : 0);
            assert_int_equal(meta_count(&r.devices, ops[k], resource), cases[i].devices ? 1 : 0);
            assert_int_equal(meta_count(&r.dmi, ops[k], resource), cases[i].devices ? 1 : 0);
        }
        struct told gone = {
            .operation = "delete", .resource = resource, .rv = "9", .content = POD("u1", "8")};
        meta_tell(&r, &gone, id);
        assert_int_equal(meta_acks(&r, id), 1);
        assert_int_equal(meta_row(&r, bucket, "default/web"), KE_ENOTFOUND);
        assert_int_equal(meta_count(&r.edged, "delete", resource), cases[i].pods ? 1 : 0);
        assert_int_equal(meta_count(&r.devices, "delete", resource), cases[i].devices ? 1 : 0);
        assert_int_equal(meta_count(&r.dmi, "delete", resource), cases[i].devices ? 1 : 0);
        assert_int_equal(r.node.n, 0);
        meta_fini(&r);
    }
}

/* The devices of a 1.4 cloud come in a ConfigMap, which may be some pod's, too. */
static void device_profiles_are_told(void **state)
{
    struct meta_rig r;
    struct told t = {.operation = "update",
                     .resource = "default/configmap/device-profile-config-edge-1",
                     .rv = "7",
                     .content = POD("u1", "7")};

    (void)state;
    meta_init(&r, false);
    meta_tell(&r, &t, NULL);
    assert_int_equal(meta_count(&r.edged, "update", NULL), 1);
    assert_int_equal(meta_count(&r.devices, "update", NULL), 1);
    assert_int_equal(r.dmi.n, 0);
    meta_fini(&r);
}

static void acknowledged_before_told_after_stored(void **state)
{
    struct meta_rig r;
    struct told t = {
        .operation = "insert", .resource = "default/pod/web", .content = POD("u1", "7")};
    struct ke_msg *ack;
    char id[37];

    (void)state;
    meta_init(&r, false);
    meta_tell(&r, &t, id);
    ack = r.cloud.m[0];
    assert_string_equal(ke_msg_parent_id(ack), id);
    assert_string_equal(ke_msg_source(ack), "edgecontroller");
    assert_string_equal(ke_msg_group(ack), "resource");
    assert_string_equal(ke_msg_resource(ack), "default/pod/web");
    assert_string_equal(ke_msg_id(r.edged.m[0]), id); /* the message itself */
    meta_fini(&r);
}

/* ---- durable before acknowledged ---- */

static int failing_writes(void *user, const struct powercut_op *op)
{
    bool *failing = user;

    return *failing && (op->kind == POWERCUT_WRITE || op->kind == POWERCUT_SYNC) ? KE_ENOSPC : 0;
}

/* What could not be stored is neither acknowledged nor told; its next copy is. */
static void a_full_disk_acknowledges_nothing(void **state)
{
    static const char *const ops[] = {"insert", "delete"};
    struct powercut *p = powercut_new();
    struct meta_rig r;
    bool failing = false;

    (void)state;
    powercut_fault(p, failing_writes, &failing);
    meta_init_io(&r, powercut_io(p));
    for (int i = 0; i < 2; i++) {
        struct told t = {.operation = ops[i],
                         .resource = "default/pod/web",
                         .rv = "7",
                         .content = POD("u1", "7")};
        char id[37];

        failing = true;
        meta_tell(&r, &t, id);
        assert_int_equal(meta_acks(&r, id), 0);
        assert_int_equal(meta_count(&r.edged, ops[i], NULL), 0);
        assert_true(atomic_exchange(&r.env.log_errors, 0) > 0);
        failing = false;
        t.id = id;
        meta_tell(&r, &t, NULL);
        assert_int_equal(meta_acks(&r, id), 1);
        assert_int_equal(meta_count(&r.edged, ops[i], NULL), 1);
        assert_int_equal(meta_row(&r, "o/pod", "default/web"), i == 0 ? 0 : KE_ENOTFOUND);
    }
    meta_fini(&r);
    powercut_free(p);
}

/* A copy of what is still being written is acknowledged after it, or not at all. */
static void an_echo_waits_for_what_it_echoes(void **state)
{
    struct powercut *p = powercut_new();
    struct meta_rig r;
    bool failing = false;

    (void)state;
    powercut_fault(p, failing_writes, &failing);
    meta_init_io(&r, powercut_io(p));
    for (int fails = 1; fails >= 0; fails--) {
        struct ke_msg *m[2] = {NULL, NULL};
        struct ke_msg_config c;

        ke_msg_config_init(&c, sizeof c);
        c.group = "resource";
        c.operation = "insert";
        c.resource = "default/pod/web";
        c.content = POD("u1", "7");
        c.content_len = strlen(c.content);
        failing = fails;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(ke_msg_new(&m[i], r.env.ctx, &c, NULL), 0);
            assert_int_equal(ke_router_send(r.router, "metamanager", m[i], NULL), 0);
        }
        meta_settle(&r);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(meta_acks(&r, ke_msg_id(m[i])), fails ? 0 : 1);
            ke_msg_unref(m[i]);
        }
        assert_int_equal(r.edged.n, fails ? 0 : 1);
        atomic_store(&r.env.log_errors, 0);
    }
    meta_fini(&r);
    powercut_free(p);
}

/* After a power cut at any write, all that was acknowledged is there. */
static void power_cuts(void **state)
{
    enum { N = 30 };
    const char *wanted = getenv("KE_POWERCUT_IMAGES");
    uint64_t n = wanted ? strtoull(wanted, NULL, 10) : 200, seed = 1;
    struct powercut *p = powercut_new();
    struct meta_rig r;
    size_t acked_at[N], told_at[N], end;

    (void)state;
    meta_init_io(&r, powercut_io(p));
    for (int i = 0; i < N; i++) {
        char resource[64], content[256], rv[16], id[37];
        struct told t = {.operation = i % 3 == 2 ? "delete" : "update",
                         .resource = resource,
                         .content = content,
                         .rv = rv};

        snprintf(resource, sizeof resource, "default/configmap/c%d", i / 3);
        snprintf(rv, sizeof rv, "%d", 100 + i);
        snprintf(content, sizeof content,
                 "{\"metadata\":{\"name\":\"c%d\",\"uid\":\"u%d\",\"resourceVersion\":\"%d\"}}",
                 i / 3, i / 3, 100 + i);
        told_at[i] = powercut_pos(p);
        meta_tell(&r, &t, id);
        assert_int_equal(meta_acks(&r, id), 1);
        acked_at[i] = powercut_pos(p);
    }
    meta_fini(&r);
    end = powercut_pos(p);
    for (uint64_t k = 0; k < n; k++) {
        size_t pos = (size_t)powercut_below(&seed, end + 1);
        struct powercut *image = powercut_image(p, pos, k);

        meta_init_io(&r, powercut_io(image));
        for (int i = 0; i < N; i += 3) {
            int last = -1, latest = -1;
            char key[32];

            for (int j = i; j < i + 3; j++) {
                last = acked_at[j] <= pos ? j : last;
                latest = told_at[j] <= pos ? j : latest;
            }
            snprintf(key, sizeof key, "default/c%d", i / 3);
            meta_row(&r, "o/configmap", key);
            if (r.row_status == KE_ENOTFOUND) {
                /* nothing was acknowledged, or the deletion was at least told */
                assert_true(last == -1 || latest == i + 2);
            } else {
                assert_int_equal(r.row_status, 0);
                assert_true(r.row_version >= 100 + last && r.row_version <= 100 + latest);
                assert_true(last != i + 2);
            }
        }
        meta_fini(&r);
        powercut_free(image);
    }
    print_message("count: %llu power cuts of the object flow\n", (unsigned long long)n);
    powercut_free(p);
}

/* ---- odd messages ---- */

static void lists_are_acknowledged_only(void **state)
{
    static const char *const cases[][2] = {
        {"default/podlist/web", "null"},
        {"default/podlist/web", "[{\"metadata\":{\"name\":\"x\"}}]"},
        {"namespace/servicelist/service", "[]"},
        {"namespace/servicelist/service", "null"},
        {"namespace/endpointslist/endpoints", "[]"},
    };
    struct meta_rig r;
    char id[37];

    (void)state;
    meta_init(&r, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct told t = {.operation = "update", .resource = cases[i][0], .content = cases[i][1]};

        meta_tell(&r, &t, id);
        assert_int_equal(meta_acks(&r, id), 1);
    }
    assert_int_equal(r.edged.n, 0);
    assert_int_equal(meta_rows(&r, "o/podlist") + meta_rows(&r, "o/servicelist"), 0);
    meta_fini(&r);
}

/* What can never be used is acknowledged, so that it does not hold up what comes after it. */
static void useless_ones_are_acknowledged(void **state)
{
    static const char *const cases[][2] = {
        {"default/pod/web", "null"},
        {"default/pod/web", "[]"},
        {"default/pod/web", "\"text\""},
        {"default/pod/web", "{}"},
        {"default/pod/web", "{\"metadata\":7}"},
        {"default/pod/web", "{\"metadata\":{\"uid\":7}}"},
        {"default/pod", "{\"metadata\":{\"uid\":\"u\"}}"},
    };
    struct meta_rig r;
    char id[37], resource[2200];
    struct told t = {.operation = "insert"};

    (void)state;
    meta_init(&r, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        t.resource = cases[i][0];
        t.content = cases[i][1];
        meta_tell(&r, &t, id);
        assert_int_equal(meta_acks(&r, id), 1);
    }
    /* a name that is too long for a key */
    memset(resource, 'x', sizeof resource);
    memcpy(resource, "default/pod/", 12);
    resource[sizeof resource - 1] = '\0';
    t.resource = resource;
    t.content = POD("u1", "1");
    meta_tell(&r, &t, id);
    assert_int_equal(meta_acks(&r, id), 1);
    /* no resource at all: nothing to say */
    t.resource = "x";
    meta_tell(&r, &t, id);
    assert_int_equal(r.edged.n, 0);
    assert_int_equal(meta_rows(&r, "o/pod"), 0);
    meta_fini(&r);
}

/* Of a pod that the store lost: its containers may be there. */
static void delete_of_an_unknown_pod(void **state)
{
    struct meta_rig r;
    char id[37];
    struct told t = {.operation = "delete",
                     .resource = "default/pod/web",
                     .content = "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\","
                                "\"uid\":\"u1\"}}"};

    (void)state;
    meta_init(&r, false);
    meta_tell(&r, &t, id);
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(meta_count(&r.edged, "delete", "default/pod/web"), 1);
    t.resource = "default/configmap/web";
    meta_tell(&r, &t, id);
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(meta_count(&r.edged, "delete", "default/configmap/web"), 0);
    meta_fini(&r);
}

static void deletes_of_every_form(void **state)
{
    static const struct {
        const char *content;
        bool deletes;
    } cases[] = {
        {"{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"u1\"}}", true},
        {"{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\"}}", true},
        {"{\"metadata\":{\"name\":\"web\",\"uid\":\"\"}}", true},
        {"null", true},
        {"{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"other\"}}", false},
        {POD("u1", "3"), true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct meta_rig r;
        char id[37];
        struct told t = {
            .operation = "insert", .resource = "default/pod/web", .content = POD("u1", "7")};

        meta_init(&r, false);
        meta_tell(&r, &t, id);
        meta_send(&r, "update", "default/podstatus/web",
                  "{\"UID\":\"u1\",\"Name\":\"web\",\"Status\":{}}");
        assert_int_equal(meta_row(&r, "o/podstatus", "default/web"), 0);
        t.operation = "delete";
        t.content = cases[i].content;
        meta_tell(&r, &t, id);
        assert_int_equal(meta_acks(&r, id), 1);
        assert_int_equal(meta_row(&r, "o/pod", "default/web"), cases[i].deletes ? KE_ENOTFOUND : 0);
        assert_int_equal(meta_row(&r, "o/podstatus", "default/web"),
                         cases[i].deletes ? KE_ENOTFOUND : 0);
        assert_int_equal(meta_count(&r.edged, "delete", NULL), cases[i].deletes ? 1 : 0);
        /* again: known to be gone, or still another one */
        meta_tell(&r, &t, id);
        assert_int_equal(meta_acks(&r, id), 1);
        assert_int_equal(meta_count(&r.edged, "delete", NULL), cases[i].deletes ? 1 : 0);
        meta_fini(&r);
    }
}

/* Our own Node comes under two namespaces; it is one object, and the node's own module is told. */
static void the_node_is_one(void **state)
{
    struct meta_rig r;
    struct told t = {.operation = "update",
                     .resource = "null/node/" NODE,
                     .content = "{\"metadata\":{\"name\":\"" NODE
                                "\",\"uid\":\"n\",\"resourceVersion\":\"5\"}}"};
    char id[37];

    (void)state;
    meta_init(&r, false);
    meta_tell(&r, &t, id);
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(r.node.n, 1);
    assert_int_equal(r.edged.n, 0);
    r.connected = false;
    meta_ask(&r, "query", "default/node/" NODE, NULL);
    assert_true(meta_until_answer(&r, 1));
    assert_string_equal(meta_answer_content(&r), t.content);
    meta_ask(&r, "query", "null/node/" NODE, NULL);
    assert_true(meta_until_answer(&r, 2));
    assert_string_equal(meta_answer_content(&r), t.content);
    t.resource = "null/node/other";
    meta_tell(&r, &t, id);
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(r.node.n, 1);
    meta_fini(&r);
}

/* A module that has no room now is told later, in order, and nothing is lost. */
static void told_when_there_is_room(void **state)
{
    enum { N = 40 };
    struct meta_rig r;
    char content[256], rv[16];

    (void)state;
    meta_init_queue(&r, 8);
    for (int i = 0; i < N; i++) {
        struct ke_msg *m = NULL;
        struct ke_msg_config c;

        snprintf(rv, sizeof rv, "%d", i + 1);
        snprintf(content, sizeof content,
                 "{\"metadata\":{\"name\":\"c\",\"uid\":\"u\",\"resourceVersion\":\"%d\"}}", i + 1);
        ke_msg_config_init(&c, sizeof c);
        c.group = "resource";
        c.operation = "update";
        c.resource = "default/configmap/c";
        c.resource_version = rv;
        c.content = content;
        c.content_len = strlen(content);
        assert_int_equal(ke_msg_new(&m, r.env.ctx, &c, NULL), 0);
        /* all of them are stored in few turns, more than the queue of edged takes */
        while (ke_router_send(r.router, "metamanager", m, NULL) == KE_ELIMIT)
            assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0);
        ke_msg_unref(m);
    }
    test_drive_ms(&r.env, 5000);
    assert_int_equal(r.edged.n, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(atoi(ke_msg_resource_version(r.edged.m[i])), i + 1);
    /* An acknowledgement that found no room is given when the cloud sends again. */
    struct told again = {
        .operation = "update", .resource = "default/configmap/c", .rv = rv, .content = content};
    char id[37];

    meta_tell(&r, &again, id);
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(r.edged.n, N);
    meta_fini(&r);
}

/* ---- life ---- */

static void survives_a_restart(void **state)
{
    struct meta_rig r;
    struct told t = {
        .operation = "insert", .resource = "default/pod/web", .rv = "7", .content = POD("u1", "7")};
    char id[37];

    (void)state;
    meta_init(&r, true);
    meta_tell(&r, &t, id);
    meta_restart(&r);
    meta_forget(&r);
    /* sent again, because the acknowledgement was lost: known */
    t.id = id;
    meta_tell(&r, &t, NULL);
    assert_int_equal(meta_acks(&r, id), 1);
    assert_int_equal(r.edged.n, 0);
    /* changed meanwhile */
    t.id = NULL;
    t.operation = "update";
    t.rv = "9";
    t.content = POD("u1", "9");
    meta_tell(&r, &t, id);
    assert_int_equal(r.edged.n, 1);
    meta_fini(&r);
}

/* Freed with stores and requests under way; what it began ends by itself. */
static void freed_at_any_turn(void **state)
{
    (void)state;
    for (int turns = 0; turns < 25; turns++) {
        struct meta_rig r;
        struct told t = {.operation = "insert",
                         .resource = "default/pod/web",
                         .rv = "7",
                         .content = POD("u1", "7")};
        struct ke_msg_config c;
        struct ke_msg *m = NULL;

        meta_init(&r, turns % 2);
        ke_msg_config_init(&c, sizeof c);
        c.group = "resource";
        c.operation = t.operation;
        c.resource = t.resource;
        c.content = t.content;
        c.content_len = strlen(t.content);
        assert_int_equal(ke_msg_new(&m, r.env.ctx, &c, NULL), 0);
        assert_int_equal(ke_router_send(r.router, "metamanager", m, NULL), 0);
        ke_msg_unref(m);
        ke_msg_config_init(&c, sizeof c);
        c.group = "meta";
        c.operation = "query";
        c.resource = turns % 3 ? "default/configmap/c" : "default/serviceaccounttoken/sa";
        assert_int_equal(ke_msg_new(&m, r.env.ctx, &c, NULL), 0);
        assert_int_equal(ke_router_send(r.router, "metamanager", m, NULL), 0);
        ke_msg_unref(m);
        for (int i = 0; i < turns; i++) {
            assert_int_equal(ke_ctx_wait(r.env.ctx, 1), 0);
            assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0);
        }
        meta_stop(&r);
        meta_settle(&r);
        meta_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(insert_update_delete),
        cmocka_unit_test(device_profiles_are_told),
        cmocka_unit_test(acknowledged_before_told_after_stored),
        cmocka_unit_test(a_full_disk_acknowledges_nothing),
        cmocka_unit_test(an_echo_waits_for_what_it_echoes),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(lists_are_acknowledged_only),
        cmocka_unit_test(useless_ones_are_acknowledged),
        cmocka_unit_test(delete_of_an_unknown_pod),
        cmocka_unit_test(deletes_of_every_form),
        cmocka_unit_test(the_node_is_one),
        cmocka_unit_test(told_when_there_is_room),
        cmocka_unit_test(survives_a_restart),
        cmocka_unit_test(freed_at_any_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
