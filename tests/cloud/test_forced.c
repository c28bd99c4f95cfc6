/* SPDX-License-Identifier: Apache-2.0 */
/* Pods without grace: deleted at once, and nobody is asked whether they ended. */
#include "cloud/cloud_rig.h"

#include "message/k8s.h"

#define HASTY(image)                                                                               \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n"                  \
    "  terminationGracePeriodSeconds: 0\n  restartPolicy: " image                                  \
    "\n  containers: [{name: c, image: \"i:1\"}]\n"
#define UPSTREAM "Go-http-client/1.1"

static const char *const agents[] = {"libkubeedge/0.1", UPSTREAM};

static void start(struct rig *r, struct edge *e, const char *agent)
{
    rig_init(r, NULL);
    rig_manifest(r, "a.yaml", HASTY("Always"));
    rig_start(r);
    edge_init(e, r, "edge-1");
    e->agent = agent;
    rig_wait_object(r, "pod", "default", "p");
    assert_true(edge_connect(e));
    edge_wait(e, "insert", "default/pod/p");
    rig_settle(r);
}

static void finish(struct rig *r, struct edge *e)
{
    edge_fini(e);
    rig_fini(r);
}

static bool idle(void *arg)
{
    struct edge *e = arg;
    struct kei_peer *p = rig_peer(e->rig, e->name);
    return !p || (p->queued == 0 && p->n_flying == 0);
}

/* As API server and CloudCore: the update, at once the deletion, and no word from the node. */
static void goes_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        struct edge e;
        start(&r, &e, agents[i]);
        char uid[64];
        snprintf(uid, sizeof uid, "%s", rig_object(&r, "pod", "default", "p")->uid);
        edge_forget(&e);
        rig_manifest(&r, "a.yaml", NULL);
        assert_true(rig_wait_gone(&r, "pod", "default", "p"));
        struct ke_msg *m = edge_wait(&e, "delete", "default/pod/p");
        assert_string_equal(msg_text(m, "metadata.uid"), uid);
        assert_int_equal(e.n_messages, 2);
        m = edge_find(&e, "update", "default/pod/p", 0);
        assert_ptr_equal(m, e.messages[0]);
        assert_true(msg_text(m, "metadata.deletionTimestamp")[0]);
        struct ke_str grace;
        assert_true(
            kei_json_path(kei_str(msg_content(m)), "metadata.deletionGracePeriodSeconds", &grace));
        assert_true(kei_str_is(grace, "0"));
        assert_true(rig_until(&r, idle, &e));
        rig_ms(&r, 60000);
        assert_int_equal(e.n_messages, 2);
        finish(&r, &e);
    }
}

static void is_replaced(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        struct edge e;
        start(&r, &e, agents[i]);
        char uid[64];
        snprintf(uid, sizeof uid, "%s", rig_object(&r, "pod", "default", "p")->uid);
        edge_forget(&e);
        rig_manifest(&r, "a.yaml", HASTY("Never"));
        struct ke_msg *m = edge_wait(&e, "insert", "default/pod/p");
        assert_string_not_equal(msg_text(m, "metadata.uid"), uid);
        assert_string_equal(msg_text(m, "spec.restartPolicy"), "Never");
        assert_string_equal(msg_text(edge_wait(&e, "delete", "default/pod/p"), "metadata.uid"),
                            uid);
        assert_true(rig_until(&r, idle, &e));
        finish(&r, &e);
    }
}

/* The node hears of it when it is back, also from a cloud that was started anew meanwhile. */
static void goes_while_its_node_is_away(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct rig r;
        struct edge e;
        start(&r, &e, agents[0]);
        edge_drop(&e);
        rig_settle(&r);
        edge_forget(&e);
        rig_manifest(&r, "a.yaml", NULL);
        assert_true(rig_wait_gone(&r, "pod", "default", "p"));
        if (restart)
            rig_restart(&r);
        assert_true(edge_connect(&e));
        edge_wait(&e, "delete", "default/pod/p");
        assert_true(rig_until(&r, idle, &e));
        assert_int_equal(e.n_messages, 1);
        finish(&r, &e);
    }
}

/* A cloud that ended between the two steps, or one of an earlier release that waited. */
static void goes_after_a_restart(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    struct ke_buf json = {0}, half = {0};
    start(&r, &e, agents[0]);
    edge_drop(&e);
    rig_settle(&r);
    struct kei_object *o = rig_object(&r, "pod", "default", "p");
    assert_int_equal(kei_json_set(&half, kei_buf_str(&o->json), "metadata.deletionTimestamp",
                                  kei_str("\"2026-01-01T00:00:00Z\""), NULL),
                     0);
    assert_int_equal(kei_json_set(&json, kei_buf_str(&half), "metadata.deletionGracePeriodSeconds",
                                  kei_str("0"), NULL),
                     0);
    assert_int_equal(kei_objects_write(r.c->objects, "pod", "default", "p", kei_buf_str(&json),
                                       NULL, NULL, NULL),
                     0);
    r.conf.manifests = NULL;
    rig_restart(&r); /* what is on its way to the disk comes there, and nobody looks at it */
    assert_true(rig_wait_gone(&r, "pod", "default", "p"));
    ke_buf_free(&json);
    ke_buf_free(&half);
    finish(&r, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_at_once),
        cmocka_unit_test(is_replaced),
        cmocka_unit_test(goes_while_its_node_is_away),
        cmocka_unit_test(goes_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
