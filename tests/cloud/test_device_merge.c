/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of a node that merges: lives, graves, and what is desired at both ends. */
#include "cloud/cloud_rig.h"

#include "cloud/device.h"

#define MODEL                                                                                      \
    "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: m}\nspec:\n"     \
    "  protocol: x\n  properties:\n"                                                               \
    "  - {name: t, type: STRING, accessMode: ReadWrite}\n"                                         \
    "  - {name: u, type: STRING, accessMode: ReadWrite}\n"
#define DEVICE(value)                                                                              \
    MODEL "---\napiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: d}\n"      \
          "spec:\n  deviceModelRef: {name: m}\n  nodeName: edge-1\n  properties:\n"                \
          "  - {name: t, desired: {value: \"" value "\", metadata: {k: v}}}\n  - {name: u}\n"
#define EDGE_UPDATED "device/default/d/twin/edge_updated"

static void start(struct rig *r, struct edge *e, const char *manifest, bool merges)
{
    rig_init(r, NULL);
    rig_manifest(r, "a.yaml", manifest);
    rig_start(r);
    rig_ms(r, 2000);
    edge_init(e, r, "edge-1");
    e->merges = merges;
}

static void join(struct edge *e)
{
    assert_true(edge_connect(e));
    const struct kei_peer *p = rig_peer(e->rig, e->name);
    if (!p || !p->node)
        edge_register(e, "null", NULL);
    (void)edge_send_as(e, "twin", "resource", "get", "membership/detail", "\"{}\"");
    (void)edge_wait(e, "update", "membership/detail");
}

static void finish(struct rig *r, struct edge *e)
{
    edge_fini(e);
    rig_fini(r);
}

static bool says_merge(const struct edge *e)
{
    for (uint32_t i = 0; i < e->n_messages; i++)
        if (strstr(msg_content(e->messages[i]), "\"merge\""))
            return true;
    return false;
}

static struct kei_hlc life_of(struct rig *r)
{
    struct kei_merge_device m;
    const struct ke_alloc *al = kei_ctx_alloc(r->env.ctx);
    const struct kei_object *o = rig_wait_object(r, "device", "default", "d");
    assert_int_equal(kei_device_record(&m, kei_buf_str(&o->json), al, NULL), 0);
    struct kei_hlc life = m.life;
    kei_merge_fini(&m, al);
    return life;
}

/* A node tells a value of a side, with the stamp NOW + ms of the rig's clock. */
static const char *tell(struct rig *r, struct edge *e, const struct kei_hlc *life, const char *name,
                        const char *side, const char *value, int64_t ms)
{
    char text[800];
    snprintf(text, sizeof text,
             "{\"event_id\":\"e\",\"timestamp\":1,\"twin\":{\"%s\":{\"%s\":{\"value\":\"%s\","
             "\"metadata\":{\"timestamp\":1}},\"metadata\":{\"type\":\"string\"}}},\"merge\":{"
             "\"life\":[%lld,%u,%u],\"twin\":{\"%s\":{\"%s\":{\"value\":\"%s\",\"at\":[%lld,0,7]}}}"
             "}}",
             name, side, value, (long long)life->ms, life->n, life->node, name, side, value,
             (long long)(ke_ctx_real_ms(r->env.ctx) + ms));
    return edge_send_as(e, "twin", "resource", "update", EDGE_UPDATED, text);
}

static void told(struct rig *r, struct edge *e, const struct kei_hlc *life, const char *name,
                 const char *side, const char *value, int64_t ms)
{
    const struct ke_msg *m = edge_reply_to(e, tell(r, e, life, name, side, value, ms));
    assert_non_null(m);
    assert_string_equal(msg_content(m), "\"OK\"");
}

static const char *device_text(struct rig *r, const char *path)
{
    return json_text(kei_buf_str(&rig_object(r, "device", "default", "d")->json), path);
}

/* ---- ---- */

static void not_a_byte_for_others(void **state)
{
    static const char *const agents[] = {"Go-http-client/1.1", "libkubeedge/0"};
    struct rig r;
    struct edge e;
    (void)state;
    for (int i = 0; i < 2; i++) {
        start(&r, &e, DEVICE("c0"), false);
        e.agent = agents[i];
        join(&e);
        (void)edge_wait(&e, "insert", "default/device/d");
        struct kei_hlc life = life_of(&r);
        /* what it says with stamps does not count as such */
        told(&r, &e, &life, "t", "expected", "e1", 1000);
        rig_manifest(&r, "a.yaml", DEVICE("c1"));
        (void)edge_wait(&e, "update", "default/device/d");
        rig_manifest(&r, "a.yaml", MODEL);
        (void)edge_wait(&e, "update", "membership");
        (void)edge_wait(&e, "delete", "default/device/d");
        rig_settle(&r);
        assert_string_equal(e.merge_answer, "");
        assert_false(says_merge(&e));
        finish(&r, &e);
    }
}

static void told_with_stamps(void **state)
{
    struct rig r;
    struct edge e;
    char want[200];
    (void)state;
    start(&r, &e, DEVICE("c0"), true);
    join(&e);
    snprintf(want, sizeof want, "1 %lld", (long long)ke_ctx_real_ms(r.env.ctx));
    assert_int_equal(strlen(e.merge_answer), strlen(want));
    struct kei_hlc life = life_of(&r);
    snprintf(want, sizeof want,
             "\"merge\":{\"life\":[%lld,%u,%u],\"twin\":{\"t\":{\"expected\":{"
             "\"value\":\"c0\",\"at\":[",
             (long long)life.ms, life.n, life.node);
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_non_null(strstr(msg_content(m), want));
    m = edge_wait(&e, "insert", "default/device/d");
    assert_non_null(strstr(msg_content(m), want));
    rig_manifest(&r, "a.yaml", DEVICE("c1"));
    m = edge_wait(&e, "update", "device/default/d/twin/cloud_updated");
    assert_non_null(strstr(msg_content(m), "\"value\":\"c1\",\"at\":["));
    m = edge_wait(&e, "update", "default/device/d");
    assert_non_null(strstr(msg_content(m), "\"value\":\"c1\",\"at\":["));
    rig_manifest(&r, "a.yaml", MODEL);
    m = edge_wait(&e, "update", "membership");
    assert_non_null(strstr(msg_content(m), ",\"dead\":true,\"twin\":{}}"));
    /* who asks about it again learns the same */
    edge_forget(&e);
    told(&r, &e, &life, "t", "expected", "e", 0);
    m = edge_wait(&e, "update", "membership");
    assert_non_null(strstr(msg_content(m), ",\"dead\":true,\"twin\":{}}"));
    /* made again it is another, later one; also behind a restart */
    rig_restart(&r);
    rig_manifest(&r, "a.yaml", DEVICE("c2"));
    struct kei_hlc next = life_of(&r);
    assert_true(kei_hlc_compare(&next, &life) > 0);
    finish(&r, &e);
}

static void the_later_stands(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, DEVICE("c0"), true);
    join(&e);
    (void)edge_wait(&e, "insert", "default/device/d");
    struct kei_hlc life = life_of(&r);
    told(&r, &e, &life, "t", "expected", "early", -600000);
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"c0\""));
    told(&r, &e, &life, "t", "expected", "e1", 1000);
    assert_non_null(strstr(device_text(&r, "spec.properties"),
                           "{\"value\":\"e1\",\"metadata\":{\"k\":\"v\"}}"));
    struct ke_msg *m = edge_wait(&e, "update", "default/device/d"); /* its driver acts on that */
    assert_non_null(strstr(msg_content(m), "e1"));
    (void)rig_wait_line(&r, "device default/d edge-1 - t=e1/");
    told(&r, &e, &life, "t", "expected", "e1", 1000); /* twice: nothing */
    /* it comes to say the same as the node, and then another thing again */
    rig_manifest(&r, "a.yaml", DEVICE("e1"));
    rig_ms(&r, 3000);
    rig_manifest(&r, "a.yaml", DEVICE("c0"));
    rig_ms(&r, 3000);
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"c0\""));
    told(&r, &e, &life, "t", "expected", "e1", 60000);
    told(&r, &e, &life, "u", "expected", "e2", 60000); /* the manifest desires nothing of u */
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"e2\""));
    told(&r, &e, &life, "other", "expected", "e3", 60000); /* no property of the Device */
    assert_null(strstr(device_text(&r, "spec.properties"), "other"));
    assert_non_null(strstr(device_text(&r, "libkubeedge.merge"), "\"other\""));
    /* the manifest goes on saying what it said */
    rig_manifest(&r, "a.yaml", DEVICE("c0") "# again\n");
    rig_ms(&r, 3000);
    rig_restart(&r);
    rig_ms(&r, 3000);
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"e1\""));
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"e2\""));
    /* it says another thing, though its clock is behind what the node said */
    rig_manifest(&r, "a.yaml", DEVICE("e1"));
    rig_ms(&r, 3000);
    rig_manifest(&r, "a.yaml", DEVICE("c0"));
    rig_ms(&r, 3000);
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"c0\""));
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"e2\""));
    assert_null(strstr(device_text(&r, "libkubeedge.said"), "\"t\""));
    finish(&r, &e);
}

static void a_former_life(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, DEVICE("c0"), true);
    join(&e);
    struct kei_hlc life = life_of(&r);
    told(&r, &e, &life, "t", "actual", "old1", 0);
    (void)edge_wait(&e, "insert", "default/device/d");
    rig_settle(&r);
    edge_drop(&e);
    rig_manifest(&r, "a.yaml", MODEL);
    assert_true(rig_wait_gone(&r, "device", "default", "d"));
    rig_manifest(&r, "a.yaml", DEVICE("c1"));
    struct kei_hlc next = life_of(&r);
    edge_forget(&e);
    e.no_ack = true; /* the former object is still there, as far as this cloud knows */
    join(&e);
    struct ke_msg *m = edge_find(&e, "update", "membership/detail", 0);
    assert_non_null(strstr(msg_content(m), "\"anew\":true"));
    told(&r, &e, &life, "t", "actual", "old2", 5000);
    told(&r, &e, &life, "t", "expected", "old3", 5000);
    assert_null(rig_object(&r, "devicestatus", "default", "d"));
    told(&r, &e, &next, "t", "actual", "new1", 0); /* that one counts, before all is acknowledged */
    (void)rig_wait_line(&r, "device default/d edge-1 - t=c1/new1/-");
    told(&r, &e, &next, "t", "actual", "late", -1000);
    assert_non_null(
        strstr(json_text(kei_buf_str(&rig_object(&r, "devicestatus", "default", "d")->json),
                         "status.twins"),
               "new1"));
    finish(&r, &e);
}

/* This store is of an older day: the node knows a later life. */
static void a_later_life(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, DEVICE("c0"), true);
    join(&e);
    struct kei_hlc life = life_of(&r), later = life;
    told(&r, &e, &life, "u", "actual", "old", 0);
    later.n++;
    told(&r, &e, &later, "t", "actual", "new", -5);
    struct kei_hlc now = life_of(&r);
    assert_int_equal(kei_hlc_compare(&now, &later), 0);
    const struct kei_object *o = rig_object(&r, "devicestatus", "default", "d");
    assert_null(strstr(json_text(kei_buf_str(&o->json), "status.twins"), "old"));
    assert_non_null(strstr(json_text(kei_buf_str(&o->json), "status.twins"), "new"));
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"c0\""));
    finish(&r, &e);
}

/* A clock of 2106 decides nothing. */
static void a_clock_far_ahead(void **state)
{
    struct rig r;
    struct edge e;
    (void)state;
    start(&r, &e, DEVICE("c0"), true);
    join(&e);
    struct kei_hlc life = life_of(&r);
    (void)tell(&r, &e, &life, "t", "expected", "e1", 2 * KEI_MERGE_AHEAD_MS + 60000);
    assert_true(edge_wait_closed(&e));
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"c0\""));
    join(&e);
    told(&r, &e, &life, "t", "expected", "e2", 2 * KEI_MERGE_AHEAD_MS - 60000);
    assert_non_null(strstr(device_text(&r, "spec.properties"), "\"value\":\"e2\""));
    finish(&r, &e);
}

/* A node moves from our cloud's older release, or another cloud's: devices without a record. */
static void a_device_without_a_record(void **state)
{
    struct rig r;
    struct edge e;
    struct ke_buf json = {0};
    (void)state;
    start(&r, &e, DEVICE("c0"), true);
    struct kei_object *o = rig_wait_object(&r, "device", "default", "d");
    kei_buf_init(&json, kei_ctx_alloc(r.env.ctx));
    assert_int_equal(
        kei_json_set(&json, kei_buf_str(&o->json), "libkubeedge", (struct ke_str){0}, NULL), 0);
    assert_int_equal(kei_objects_write(r.c->objects, "device", "default", "d", kei_buf_str(&json),
                                       NULL, NULL, NULL),
                     0);
    ke_buf_free(&json);
    rig_settle(&r);
    assert_string_equal(device_text(&r, "libkubeedge"), "");
    join(&e);
    struct ke_msg *m = edge_wait(&e, "insert", "default/device/d");
    assert_non_null(strstr(msg_content(m), "\"value\":\"c0\",\"at\":["));
    struct kei_hlc life = life_of(&r);
    assert_false(kei_hlc_is_zero(&life));
    finish(&r, &e);
}

static void graves_are_few(void **state)
{
    struct rig r;
    struct edge e;
    char name[20], json[120];
    uint32_t n = 0;
    (void)state;
    start(&r, &e, MODEL, true);
    for (unsigned i = 1; i <= 4096 + 400; i++) {
        struct kei_object o = {.ns = "default", .name = name};
        snprintf(name, sizeof name, "d%u", i);
        snprintf(json, sizeof json, "{\"libkubeedge\":{\"merge\":{\"life\":[%u,0,0],\"twin\":{}}}}",
                 i);
        kei_buf_init(&o.json, kei_ctx_alloc(r.env.ctx));
        kei_buf_adds(&o.json, json);
        kei_device_bury(r.c, &o);
        ke_buf_free(&o.json);
        if (i % 200 == 0)
            rig_settle(&r);
    }
    rig_settle(&r);
    for (size_t it = 0; kei_objects_next(r.c->objects, "devicegrave", &it);)
        n++;
    assert_in_range(n, 4096, 4096 + 256);
    assert_int_equal(n, r.c->graves);
    assert_null(rig_object(&r, "devicegrave", "default", "d1"));
    assert_non_null(rig_object(&r, "devicegrave", "default", "d4496"));
    finish(&r, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_a_byte_for_others),
        cmocka_unit_test(told_with_stamps),
        cmocka_unit_test(the_later_stands),
        cmocka_unit_test(a_former_life),
        cmocka_unit_test(a_later_life),
        cmocka_unit_test(a_clock_far_ahead),
        cmocka_unit_test(a_device_without_a_record),
        cmocka_unit_test(graves_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
