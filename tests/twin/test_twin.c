/* SPDX-License-Identifier: Apache-2.0 */
/* The device twin on a router: topics, the cloud, the host's calls, limits, failures. */
#include <pthread.h>
#include <stdatomic.h>

#include "twin_rig.h"

#include "base/json.h"
#include "sim/powercut_io.h"

#define TOPIC(suffix) "$hw/events/device/thermo-1" suffix
#define ADD                                                                                        \
    "{\"event_id\":\"c1\",\"timestamp\":1,\"added_devices\":[{\"id\":\"thermo-1\",\"name\":"       \
    "\"thermo-1\"}],\"removed_devices\":null}"
#define REMOVE                                                                                     \
    "{\"event_id\":\"c2\",\"timestamp\":1,\"added_devices\":null,\"removed_devices\":[{\"id\":"    \
    "\"thermo-1\",\"name\":\"thermo-1\"}]}"
#define REPORT(name, value)                                                                        \
    "{\"event_id\":\"u\",\"timestamp\":1,\"twin\":{\"" name "\":{\"actual\":{\"value\":\"" value   \
    "\"},\"metadata\":{\"type\":\"int\"}}}}"
#define EDGE_UPDATED "device/thermo-1/twin/edge_updated"

static void begin(struct twin_rig *r, uint32_t dialect)
{
    twin_init(r, dialect);
    twin_cloud(r, "update", "membership", ADD, NULL);
}

static void ms(struct twin_rig *r, int64_t n)
{
    test_drive_ms(&r->env, n);
    twin_settle(r);
}

/* ---- topics ---- */

static void membership(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    assert_int_equal(twin_count(&r.device, "device/thermo-1/membership/added"), 1);
    assert_masked(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/updated"),
                  "{\"event_id\":\"U\",\"timestamp\":T,\"added_devices\":[{\"id\":\"thermo-1\","
                  "\"name\":\"thermo-1\"}],\"removed_devices\":null}");
    twin_forget(&r);
    twin_cloud(&r, "update", "membership", ADD, NULL); /* upstream's edge complains of it */
    assert_int_equal(r.mqtt.n, 0);
    twin_mqtt(&r, "$hw/events/node/edge-1/membership/get", "{\"event_id\":\"q\"}");
    assert_masked(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/get/result"),
                  "{\"event_id\":\"q\",\"timestamp\":T,\"devices\":[{\"id\":\"thermo-1\",\"name\":"
                  "\"thermo-1\"}]}");
    twin_mqtt(&r, "$hw/events/node/edge-1/membership/get", "{");
    assert_masked(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/get/result"),
                  "{\"event_id\":\"\",\"timestamp\":T,\"code\":400,\"reason\":\"Unmarshal get "
                  "membership info failed, please check the request\"}");
    twin_forget(&r);
    twin_cloud(&r, "update", "membership", REMOVE, NULL);
    twin_cloud(&r, "update", "membership", REMOVE, NULL); /* unknown: silent */
    assert_int_equal(r.mqtt.n, 1);
    assert_int_equal(twin_count(&r.device, "device/thermo-1/membership/removed"), 1);
    twin_mqtt(&r, "$hw/events/node/edge-1/membership/get", "{}");
    assert_masked(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/get/result"),
                  "{\"event_id\":\"\",\"timestamp\":T,\"devices\":[]}");
    twin_fini(&r);
}

static void the_whole_list(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_23);
    twin_forget(&r);
    twin_cloud(&r, "update", "membership/detail",
               "{\"event_id\":\"\",\"timestamp\":1,\"devices\":[{\"id\":\"ns/lamp\",\"name\":"
               "\"lamp\",\"description\":\"on the wall\",\"attributes\":{\"fw\":{\"value\":\"1\"}}"
               "}]}",
               NULL);
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/node/edge-1/membership/updated"), 2);
    assert_masked(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/updated"),
                  "{\"event_id\":\"U\",\"timestamp\":T,\"added_devices\":null,\"removed_devices\":"
                  "[{\"id\":\"default/thermo-1\"}]}");
    assert_masked(twin_last(&r.mqtt, "$hw/events/device/ns/lamp/updated"),
                  "{\"event_id\":\"\",\"timestamp\":T,\"attributes\":{\"fw\":{\"value\":\"1\"}}}");
    twin_mqtt(&r, "$hw/events/node/edge-1/membership/get", "{}");
    assert_masked(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/get/result"),
                  "{\"event_id\":\"\",\"timestamp\":T,\"devices\":[{\"id\":\"ns/lamp\",\"name\":"
                  "\"lamp\",\"description\":\"on the wall\",\"attributes\":{\"fw\":{\"value\":\"1\""
                  "}}}]}");
    twin_cloud(&r, "update", "membership/detail", "{}", NULL); /* no list is not an empty list */
    assert_non_null(
        strstr(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/get/result"), "ns/lamp"));
    twin_cloud(&r, "update", "membership/detail", "{\"devices\":[]}", NULL);
    twin_mqtt(&r, "$hw/events/node/edge-1/membership/get", "{}");
    assert_null(strstr(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/get/result"), "lamp"));
    twin_fini(&r);
}

static void errors_on_their_topics(void **state)
{
    struct twin_rig r;
    char *big = malloc(1000001);

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    twin_mqtt(&r, "$hw/events/device/thermo-9/twin/get", "{\"event_id\":\"q2\"}");
    assert_masked(twin_last(&r.mqtt, "$hw/events/device/thermo-9/twin/get/result"),
                  "{\"event_id\":\"q2\",\"timestamp\":T,\"code\":404,\"reason\":\"Device thermo-9 "
                  "not found while getting twin\"}");
    twin_mqtt(&r, "$hw/events/device/thermo-9/twin/update", REPORT("a", "1"));
    assert_masked(twin_last(&r.mqtt, "$hw/events/device/thermo-9/twin/update/result"),
                  "{\"event_id\":\"u\",\"timestamp\":T,\"code\":404,\"reason\":\"update rejected "
                  "due to the device is not existed\"}");
    twin_mqtt(&r, TOPIC("/twin/update"), "{\"event_id\":\"x\",\"twin\":null}");
    assert_masked(twin_last(&r.mqtt, "$hw/events/device//twin/update/result"),
                  "{\"event_id\":\"\",\"timestamp\":T,\"code\":400,\"reason\":\"Update twin error, "
                  "key:twin does not exist\"}");
    assert_masked(
        twin_last(&r.mqtt, TOPIC("/twin/update/result")),
        "{\"event_id\":\"x\",\"timestamp\":T,\"code\":400,\"reason\":\"Update twin error, "
        "key:twin does not exist\"}");
    twin_mqtt(&r, TOPIC("/twin/cloud_updated"), "{");
    assert_masked(twin_last(&r.mqtt, TOPIC("/twin/update/result")),
                  "{\"event_id\":\"\",\"timestamp\":T,\"code\":400,\"reason\":\"unmarshal update "
                  "request body failed, Please check the request\"}");
    memset(big, ' ', 1000000);
    big[1000000] = '\0';
    big[0] = '{';
    big[999999] = '}';
    twin_mqtt(&r, TOPIC("/twin/update"), big);
    assert_masked(twin_last(&r.mqtt, TOPIC("/twin/update/result")),
                  "{\"event_id\":\"\",\"timestamp\":T,\"code\":400,\"reason\":\"the message has "
                  "1000000 bytes, the limit max_message is 262144\"}");
    twin_forget(&r);
    twin_mqtt(&r, TOPIC("/state/update"), "{\"state\":\"on fire\"}"); /* silent */
    twin_mqtt(&r, "$hw/events/device/a/b/c/twin/update", "{}");
    twin_mqtt(&r, "$hw/events/device//twin/update", "{}");
    twin_mqtt(&r, TOPIC("/state/get"), "{}");
    twin_mqtt(&r, "$hw/events/device", "{}");
    assert_int_equal(r.mqtt.n, 0);
    free(big);
    twin_fini(&r);
}

static void drivers_are_answered(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    twin_ask(&r, TOPIC("/twin/update"),
             "{\"event_id\":\"d\",\"twin\":{\"t\":{\"expected\":{\"value\":\"20\"},\"actual\":{"
             "\"value\":\"19\"},\"metadata\":{\"type\":\"int\"}}}}");
    assert_int_equal(r.n_answers, 1);
    assert_string_equal(ke_msg_operation(r.answer), "response");
    assert_masked(
        twin_text(r.answer),
        "{\"event_id\":\"d\",\"timestamp\":T,\"twin\":{\"t\":{\"expected\":{\"value\":"
        "\"20\",\"metadata\":{\"timestamp\":T}},\"actual\":{\"value\":\"19\",\"metadata\":"
        "{\"timestamp\":T}},\"optional\":true,\"metadata\":{\"type\":\"int\"}}}}");
    assert_non_null(
        strstr(twin_last(&r.device, "device/thermo-1/twin/delta"), "\"delta\":{\"t\":\"20\"}"));
    twin_ask(&r, TOPIC("/twin/update"), REPORT("t", "hot"));
    assert_int_equal(r.n_answers, 2);
    assert_string_equal(ke_msg_operation(r.answer), "error");
    assert_string_equal(twin_text(r.answer), "the value is not int or integer");
    /* its model changed; an application may not do that */
    twin_ask(&r, TOPIC("/twin/update"),
             "{\"twin\":{\"t\":{\"actual\":{\"value\":\"1.5\"},\"metadata\":{\"type\":\"float\"}}}}");
    assert_string_equal(ke_msg_operation(r.answer), "response");
    twin_mqtt(&r, TOPIC("/twin/update"),
              "{\"twin\":{\"t\":{\"actual\":{\"value\":\"hot\"},\"metadata\":{\"type\":\"string\"}}}}");
    assert_non_null(
        strstr(twin_last(&r.mqtt, TOPIC("/twin/update/result")), "the value is not float"));
    twin_ask(&r, TOPIC("/state/update"), "{\"state\":\"on fire\"}");
    assert_string_equal(ke_msg_operation(r.answer), "error");
    twin_ask(&r, TOPIC("/state/update"), "{\"state\":\"OK\"}");
    assert_string_equal(ke_msg_operation(r.answer), "response");
    assert_masked(twin_text(r.answer), "{\"event_id\":\"U\",\"timestamp\":T,\"device\":{\"name\":"
                                       "\"thermo-1\",\"state\":\"OK\",\"last_online\":\"D\"}}");
    twin_fini(&r);
}

static void both_forms_of_ids(void **state)
{
    struct twin_rig r;

    (void)state;
    twin_init(&r, KE_DIALECT_1_23);
    twin_stop(&r);
    r.c.flags = KE_TWIN_OLD_TOPICS;
    twin_start(&r);
    twin_cloud(&r, "update", "membership", ADD, NULL);
    twin_cloud(&r, "update", "membership",
               "{\"added_devices\":[{\"id\":\"plant/thermo-1\",\"name\":\"thermo-1\"}]}", NULL);
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/node/edge-1/membership/updated"), 1);
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    twin_mqtt(&r, "$hw/events/device/plant/thermo-1/twin/update", REPORT("a", "2"));
    assert_int_equal(twin_count(&r.mqtt, TOPIC("/twin/update/result")), 1);
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/device/plant/thermo-1/twin/update/result"), 1);
    assert_int_equal(twin_count(&r.mqtt, TOPIC("/twin/update/document")), 2);
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/device/plant/thermo-1/twin/update/document"),
                     2);
    twin_link(&r, true);
    assert_non_null(
        strstr(twin_last(&r.cloud, "device/plant/thermo-1/twin/edge_updated"), "\"value\":\"2\""));
    twin_fini(&r);
}

/* ---- the cloud ---- */

static void nothing_is_lost_while_the_link_is_down(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("b", "2"));
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "3"));
    assert_int_equal(r.cloud.n, 0);
    twin_link(&r, true);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 1);
    assert_masked(
        twin_last(&r.cloud, EDGE_UPDATED),
        "{\"event_id\":\"U\",\"timestamp\":T,\"twin\":{\"a\":{\"actual\":{\"value\":\"3\","
        "\"metadata\":{\"timestamp\":T}},\"optional\":true,\"metadata\":{\"type\":\"int\""
        "},\"actual_version\":{\"cloud\":0,\"edge\":2}},\"b\":{\"actual\":{\"value\":\"2\""
        ",\"metadata\":{\"timestamp\":T}},\"optional\":true,\"metadata\":{\"type\":\"int\""
        "},\"actual_version\":{\"cloud\":0,\"edge\":1}}}}");
    assert_string_equal(ke_msg_source(r.cloud.m[r.cloud.n - 1]), "twin");
    assert_string_equal(ke_msg_group(r.cloud.m[r.cloud.n - 1]), "resource");
    /* no confirmation: again after a while, after a reconnect, and after a restart */
    ms(&r, 15000);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 2);
    twin_link(&r, false);
    twin_link(&r, true);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 3);
    twin_restart(&r);
    twin_forget(&r);
    twin_link(&r, true);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 1);
    /* what changes while it is on its way goes after it */
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "4"));
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 1);
    twin_cloud(&r, "response", "twin", "\"OK\"", ke_msg_id(twin_find(&r.cloud, EDGE_UPDATED, 0)));
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 2);
    assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"value\":\"4\""));
    assert_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"b\":"));
    twin_cloud(&r, "response", "twin", "\"OK\"", ke_msg_id(twin_find(&r.cloud, EDGE_UPDATED, 1)));
    ms(&r, 10000);
    twin_link(&r, false);
    twin_restart(&r);
    twin_forget(&r);
    twin_link(&r, true);
    ms(&r, 200000);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 0);
    twin_fini(&r);
}

static void a_cloud_that_never_confirms(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_4);
    twin_link(&r, true);
    assert_masked(twin_last(&r.cloud, "membership/detail"),
                  "{\"event_type\":\"group_membership_event\",\"event_id\":\"123\",\"group_id\":"
                  "\"edge-1\",\"operation\":\"detail\",\"timestamp\":T}");
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    twin_mqtt(&r, TOPIC("/state/update"), "{\"state\":\"online\"}");
    ms(&r, 300000);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 1);
    assert_int_equal(twin_count(&r.cloud, "device/thermo-1/state"), 1);
    assert_masked(twin_last(&r.cloud, "device/thermo-1/state"),
                  "{\"event_id\":\"U\",\"timestamp\":T,\"device\":{\"name\":\"thermo-1\",\"state\":"
                  "\"online\",\"last_online\":\"D\"}}");
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "2"));
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 2);
    twin_link(&r, false);
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "3"));
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 2);
    twin_link(&r, true);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 3);
    assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"value\":\"3\""));
    assert_int_equal(twin_count(&r.cloud, "membership/detail"), 2);
    twin_fini(&r);
}

static void states_by_cloud(void **state)
{
    static const struct {
        uint32_t dialect;
        const char *resource;
        bool again;
    } t[] = {
        {KE_DIALECT_1_15, "device/thermo-1/state/update", false}, /* it has no answer for it */
        {KE_DIALECT_1_23, "device/default/thermo-1/state/update", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct twin_rig r;

        begin(&r, t[i].dialect);
        twin_link(&r, true);
        twin_mqtt(&r, TOPIC("/state/update"), "{\"state\":\"online\"}");
        assert_int_equal(twin_count(&r.cloud, t[i].resource), 1);
        assert_int_equal(strstr(twin_last(&r.cloud, t[i].resource), "lastOnlineTime") != NULL,
                         t[i].again);
        ms(&r, 15000);
        assert_int_equal(twin_count(&r.cloud, t[i].resource), t[i].again ? 2 : 1);
        twin_link(&r, false);
        twin_link(&r, true);
        assert_int_equal(twin_count(&r.cloud, t[i].resource), t[i].again ? 3 : 2);
        twin_cloud(&r, "response", "twin", "\"OK\"",
                   ke_msg_id(twin_find(&r.cloud, t[i].resource, t[i].again ? 2 : 1)));
        twin_link(&r, false);
        twin_link(&r, true);
        assert_int_equal(twin_count(&r.cloud, t[i].resource), t[i].again ? 3 : 2);
        twin_fini(&r);
    }
}

static void a_removed_device_says_no_more(void **state)
{
    struct twin_rig r;
    char id[37];

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    twin_link(&r, true);
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    snprintf(id, sizeof id, "%s", ke_msg_id(twin_find(&r.cloud, EDGE_UPDATED, 0)));
    twin_cloud(&r, "update", "membership", REMOVE, NULL);
    twin_cloud(&r, "update", "membership", ADD, NULL);
    twin_mqtt(&r, TOPIC("/twin/get"), "{}"); /* the new one knows nothing of the old */
    assert_masked(twin_last(&r.mqtt, TOPIC("/twin/get/result")),
                  "{\"event_id\":\"\",\"timestamp\":T,\"twin\":{}}");
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "2"));
    twin_forget(&r);
    twin_cloud(&r, "response", "twin", "\"OK\"", id); /* of the former life: confirms nothing */
    twin_link(&r, false);
    twin_link(&r, true);
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 1);
    twin_fini(&r);
}

static void the_list_as_an_answer(void **state)
{
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    twin_link(&r, true);
    twin_cloud(&r, "response", "membership/detail",
               "{\"devices\":[{\"id\":\"lamp\",\"name\":\"lamp\"}]}",
               ke_msg_id(twin_find(&r.cloud, "membership/detail", 0)));
    twin_mqtt(&r, "$hw/events/node/edge-1/membership/get", "{}");
    assert_masked(twin_last(&r.mqtt, "$hw/events/node/edge-1/membership/get/result"),
                  "{\"event_id\":\"\",\"timestamp\":T,\"devices\":[{\"id\":\"lamp\",\"name\":\"lamp"
                  "\"}]}");
    twin_fini(&r);
}

/* What the metamanager tells of objects; membership comes before, after or never. */
static void object(struct twin_rig *r, const char *operation, const char *resource)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.source = "edgecontroller";
    c.group = "resource";
    c.operation = operation;
    c.resource = resource;
    c.content = "{\"metadata\":{\"name\":\"x\",\"labels\":{\"description\":\"hot\"}}}";
    c.content_len = strlen(c.content);
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_send(r->router, "devicetwin", m, NULL), 0);
    ke_msg_unref(m);
    twin_settle(r);
}

static void objects_without_membership(void **state)
{
    static const char updated[] = "$hw/events/node/edge-1/membership/updated";
    struct ke_store_tx *tx = NULL;
    struct ke_twin_value v;
    struct twin_rig r;

    (void)state;
    twin_init(&r, KE_DIALECT_1_15);
    object(&r, "update", "default/device/thermo-1");
    assert_masked(twin_last(&r.mqtt, updated),
                  "{\"event_id\":\"U\",\"timestamp\":T,\"added_devices\":[{\"id\":\"thermo-1\","
                  "\"name\":\"thermo-1\",\"description\":\"hot\"}],\"removed_devices\":null}");
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    twin_cloud(&r, "update", "membership", ADD, NULL);
    object(&r, "update", "default/device/thermo-1"); /* again: nothing is forgotten */
    object(&r, "update", "default/devicemodel/thermo-1");
    object(&r, "update", "default/pod/x");
    assert_int_equal(twin_count(&r.mqtt, updated), 1);
    assert_int_equal(ke_twin_get(r.twin, "default/thermo-1", "a", &v, sizeof v), 0);
    object(&r, "delete", "default/device/thermo-1");
    twin_cloud(&r, "update", "membership", REMOVE, NULL);
    assert_int_equal(twin_count(&r.mqtt, updated), 2);
    assert_int_equal(ke_twin_get(r.twin, "thermo-1", "a", &v, sizeof v), KE_ENOTFOUND);
    /* stored while this module was not there */
    twin_stop(&r);
    assert_int_equal(ke_store_begin(&tx, r.store), 0);
    assert_int_equal(ke_store_put(tx, "o/device", "plant/pump", NULL, 1, "{}", 2), 0);
    assert_int_equal(ke_store_commit(tx, NULL, NULL), 0);
    twin_start(&r);
    assert_masked(
        twin_last(&r.mqtt, updated),
        "{\"event_id\":\"U\",\"timestamp\":T,\"added_devices\":[{\"id\":\"pump\",\"name\":"
        "\"pump\"}],\"removed_devices\":null}");
    twin_restart(&r);
    assert_int_equal(twin_count(&r.mqtt, updated), 3);
    twin_fini(&r);
}

/* ---- the host's calls ---- */

struct heard {
    uint32_t n;
    int status;
    char text[256];
    uint32_t events, changed, added, removed, deleted, states;
    char value[64];
};

static void on_done(void *user, int status, const char *text)
{
    struct heard *h = user;

    h->n++;
    h->status = status;
    snprintf(h->text, sizeof h->text, "%s", text);
}

static void on_event(void *user, const struct ke_twin_event *e)
{
    struct heard *h = user;

    h->events++;
    h->changed += e->what == KE_TWIN_CHANGED;
    h->added += e->what == KE_TWIN_ADDED;
    h->removed += e->what == KE_TWIN_REMOVED;
    h->deleted += e->what == KE_TWIN_DELETED;
    h->states += e->what == KE_TWIN_STATE;
    if (e->value)
        snprintf(h->value, sizeof h->value, "%s/%s", e->value->desired ? e->value->desired : "-",
                 e->value->reported ? e->value->reported : "-");
}

static void count_value(void *user, const struct ke_twin_value *v)
{
    assert_non_null(v->name);
    ++*(uint32_t *)user;
}

static void count_device(void *user, const struct ke_twin_device *d)
{
    assert_non_null(d->name);
    ++*(uint32_t *)user;
}

static void calls_of_the_host(void **state)
{
    struct heard h = {0}, one = {0};
    struct ke_twin_sub *s = NULL, *only = NULL;
    struct ke_twin_value v;
    struct ke_twin_status st;
    struct ke_buf json = {NULL, 0, 0, NULL};
    struct twin_rig r;
    uint32_t n = 0;

    (void)state;
    twin_init(&r, KE_DIALECT_1_15);
    assert_int_equal(ke_twin_observe(&s, r.twin, NULL, on_event, &h), 0);
    assert_int_equal(ke_twin_observe(&only, r.twin, "other", on_event, &one), 0);
    assert_int_equal(ke_twin_add(r.twin, "lamp", "a lamp", on_done, &h, NULL), 0);
    assert_int_equal(h.n, 0); /* never from within */
    twin_settle(&r);
    assert_int_equal(h.status, 0);
    assert_int_equal(ke_twin_set(r.twin, "lamp", "power", "100", "int", on_done, &h, NULL), 0);
    assert_int_equal(ke_twin_report(r.twin, "lamp", "power", "90", NULL, on_done, &h, NULL), 0);
    assert_int_equal(ke_twin_report(r.twin, "lamp", "power", "much", NULL, on_done, &h, NULL), 0);
    twin_settle(&r);
    assert_int_equal(h.n, 4);
    assert_int_equal(h.status, KE_EINVAL);
    assert_string_equal(h.text, "the value is not int or integer");
    assert_string_equal(h.value, "100/90");
    assert_int_equal(ke_twin_set_state(r.twin, "default/lamp", "online", on_done, &h, NULL), 0);
    assert_int_equal(ke_twin_set(r.twin, "none", "power", "1", NULL, on_done, &h, NULL), 0);
    twin_settle(&r);
    assert_int_equal(h.status, KE_ENOTFOUND);
    assert_int_equal(ke_twin_get(r.twin, "lamp", "power", &v, sizeof v), 0);
    assert_string_equal(v.desired, "100");
    assert_string_equal(v.reported, "90");
    assert_string_equal(v.type, "int");
    assert_true(v.unconfirmed == 1 && v.optional == 1 && v.desired_ms > 0);
    assert_int_equal(ke_twin_get(r.twin, "lamp", "none", &v, sizeof v), KE_ENOTFOUND);
    assert_int_equal(ke_twin_each(r.twin, "lamp", count_value, &n), 0);
    assert_int_equal(ke_twin_devices(r.twin, count_device, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(ke_twin_json(r.twin, "lamp", &json, NULL), 0);
    assert_non_null(strstr(json.p, "\"twin\":{\"power\":{\"expected\":{\"value\":\"100\""));
    ke_buf_free(&json);
    assert_int_equal(ke_twin_json(r.twin, NULL, &json, NULL), 0);
    assert_int_equal(kei_json_check(kei_buf_str(&json), 0, NULL), 0);
    ke_buf_free(&json);
    assert_int_equal(ke_twin_status(r.twin, &st, sizeof st), 0);
    assert_true(st.devices == 1 && st.unconfirmed == 1 && st.refused == 2);
    assert_int_equal(ke_twin_remove(r.twin, "lamp", on_done, &h, NULL), 0);
    assert_int_equal(ke_twin_remove(r.twin, "lamp", on_done, &h, NULL), 0);
    twin_settle(&r);
    assert_int_equal(h.status, KE_ENOTFOUND);
    assert_true(h.added == 1 && h.changed == 2 && h.states == 1 && h.removed == 1);
    assert_int_equal(one.events, 0);
    ke_twin_unobserve(only);
    assert_int_equal(ke_twin_add(r.twin, "a/b/c", NULL, NULL, NULL, NULL), KE_EINVAL);
    assert_int_equal(ke_twin_set(r.twin, "lamp", NULL, "1", NULL, NULL, NULL, NULL), KE_EINVAL);
    assert_int_equal(ke_twin_start(r.twin), KE_ESTATE);
    twin_fini(&r); /* takes the other observer with it */
}

static void freed_with_calls_under_way(void **state)
{
    struct heard h = {0};
    struct twin_rig r;

    (void)state;
    twin_init(&r, KE_DIALECT_1_15);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ke_twin_add(r.twin, "lamp", NULL, on_done, &h, NULL), 0);
    twin_stop(&r);
    twin_settle(&r);
    assert_int_equal(h.n, 3);
    assert_int_equal(h.status, KE_ECANCELED);
    twin_fini(&r);
}

static void free_from_done(void *user, int status, const char *text)
{
    struct twin_rig *r = user;

    (void)status;
    (void)text;
    twin_stop(r);
}

static void free_from_event(void *user, const struct ke_twin_event *e)
{
    (void)e;
    twin_stop(user);
}

static void freed_from_a_callback(void **state)
{
    struct ke_twin_sub *s;
    struct heard h = {0};
    struct twin_rig r;

    (void)state;
    for (int way = 0; way < 2; way++) {
        twin_init(&r, KE_DIALECT_1_15);
        h.n = 0;
        if (way)
            assert_int_equal(ke_twin_observe(&s, r.twin, NULL, free_from_event, &r), 0);
        assert_int_equal(ke_twin_add(r.twin, "lamp", NULL, way ? NULL : free_from_done, &r, NULL),
                         0);
        assert_int_equal(ke_twin_add(r.twin, "lamp", NULL, on_done, &h, NULL), 0);
        twin_settle(&r);
        assert_null(r.twin);
        assert_int_equal(h.n, 1);
        twin_fini(&r);
    }
}

static void stopped_and_started(void **state)
{
    struct heard h = {0};
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    twin_link(&r, true);
    ke_twin_stop(r.twin);
    twin_ask(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    assert_string_equal(ke_msg_operation(r.answer), "error");
    assert_int_equal(ke_twin_add(r.twin, "x", NULL, on_done, &h, NULL), 0);
    twin_settle(&r);
    assert_int_equal(h.status, KE_ESTATE);
    assert_int_equal(ke_twin_start(r.twin), 0);
    twin_ask(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    assert_string_equal(ke_msg_operation(r.answer), "response");
    assert_int_equal(twin_count(&r.cloud, EDGE_UPDATED), 1);
    twin_fini(&r);
}

static void bad_configurations(void **state)
{
    struct ke_twin_config c;
    struct ke_twin *t = NULL;
    struct twin_rig r;

    (void)state;
    twin_init(&r, KE_DIALECT_1_15);
    ke_twin_config_init(&c, sizeof c);
    assert_int_equal(ke_twin_new(&t, r.env.ctx, &c), KE_EINVAL);
    c.router = r.router;
    assert_int_equal(ke_twin_new(&t, r.env.ctx, &c), KE_EINVAL);
    c.node_name = NODE;
    assert_int_equal(ke_twin_new(&t, r.env.ctx, &c), KE_EEXIST);
    c.flags = 128;
    assert_int_equal(ke_twin_new(&t, r.env.ctx, &c), KE_EINVAL);
    c.size = 8;
    assert_int_equal(ke_twin_new(&t, r.env.ctx, &c), KE_EABI);
    assert_null(t);
    ke_twin_free(NULL);
    ke_twin_stop(NULL);
    ke_twin_unobserve(NULL);
    twin_fini(&r);
}

#define THREADS 4
#define REPORTS 50

struct caller {
    struct ke_twin *t;
    int no;
    atomic_uint *done;
};

static void on_counted(void *user, int status, const char *text)
{
    (void)text;
    if (status == 0)
        atomic_fetch_add((atomic_uint *)user, 1);
}

static void *call(void *user)
{
    struct caller *c = user;
    struct ke_error err = KE_ERROR_INIT;
    char name[16], value[16];

    snprintf(name, sizeof name, "n%d", c->no);
    for (int i = 1; i <= REPORTS; i++) {
        snprintf(value, sizeof value, "%d", i);
        if (ke_twin_report(c->t, "lamp", name, value, "int", on_counted, c->done, &err) < 0)
            break;
    }
    return NULL;
}

static bool all_done(void *user)
{
    return atomic_load((atomic_uint *)user) == THREADS * REPORTS;
}

static void calls_from_threads(void **state)
{
    pthread_t threads[THREADS];
    struct caller c[THREADS];
    struct ke_twin_value v;
    struct twin_rig r;
    atomic_uint done = 0;

    (void)state;
    twin_init(&r, KE_DIALECT_1_15);
    assert_int_equal(ke_twin_add(r.twin, "lamp", NULL, NULL, NULL, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        c[i] = (struct caller){r.twin, i, &done};
        assert_int_equal(pthread_create(&threads[i], NULL, call, &c[i]), 0);
    }
    assert_true(test_drive(&r.env, all_done, &done));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        char name[16];

        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(ke_twin_get(r.twin, "lamp", name, &v, sizeof v), 0);
        assert_string_equal(v.reported, "50"); /* in the order of the calls */
    }
    twin_fini(&r);
}

/* ---- limits and failures ---- */

static void limits(void **state)
{
    struct heard h = {0};
    struct twin_rig r;

    (void)state;
    twin_init(&r, KE_DIALECT_1_15);
    twin_stop(&r);
    r.c.max_devices = 1;
    r.c.queue_messages = 3;
    twin_start(&r);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ke_twin_add(r.twin, "lamp", NULL, on_done, &h, NULL), 0);
    twin_settle(&r);
    assert_int_equal(h.n, 5);
    assert_int_equal(ke_twin_add(r.twin, "more", NULL, on_done, &h, NULL), 0);
    twin_settle(&r);
    assert_int_equal(h.status, KE_ELIMIT);
    assert_string_equal(h.text, "there are 1 devices, the limit max_devices is 1");
    twin_cloud(&r, "update", "membership", ADD, NULL);
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/node/edge-1/membership/updated"), 1);
    atomic_store(&r.env.log_errors, 0);
    twin_fini(&r);
}

/* What is said waits for room, in its order. */
static void a_module_without_room(void **state)
{
    struct ke_router_config rc;
    struct twin_rig r;
    char want[32];

    (void)state;
    twin_init(&r, KE_DIALECT_1_15);
    twin_stop(&r);
    ke_router_free(r.router);
    ke_router_config_init(&rc, sizeof rc);
    rc.queue_messages = 3;
    assert_int_equal(ke_router_new(&r.router, r.env.ctx, &rc), 0);
    twin_modules(&r);
    twin_start(&r);
    assert_int_equal(ke_twin_add(r.twin, "lamp", NULL, NULL, NULL, NULL), 0);
    for (int i = 1; i <= 40; i++) {
        char value[16];

        snprintf(value, sizeof value, "%d", i);
        assert_int_equal(ke_twin_set(r.twin, "lamp", "a", value, "int", NULL, NULL, NULL), 0);
    }
    ms(&r, 1000);
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/device/lamp/twin/update/document"), 40);
    assert_int_equal(twin_count(&r.device, "device/lamp/twin/delta"), 40);
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(want, sizeof want, "\"delta\":{\"a\":\"%u\"}", i + 1);
        assert_non_null(strstr(
            twin_text(twin_find(&r.mqtt, "$hw/events/device/lamp/twin/update/delta", i)), want));
        assert_non_null(strstr(twin_text(twin_find(&r.device, "device/lamp/twin/delta", i)), want));
    }
    twin_fini(&r);
}

/* A start whose n-th allocation is refused: what comes at once still finds what was kept. */
static bool start_again(size_t n)
{
    struct ke_twin_value v;
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct twin_rig r;
    bool failed;
    int e;

    begin(&r, KE_DIALECT_1_15);
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    twin_stop(&r);
    twin_forget(&r);
    ke_msg_config_init(&c, sizeof c);
    c.source = "bus";
    c.group = "twin";
    c.operation = "publish";
    c.resource = TOPIC("/twin/get");
    c.content = "\"{}\"";
    c.content_len = 4;
    assert_int_equal(ke_msg_new(&m, r.env.ctx, &c, NULL), 0);
    test_alloc_fail_at(&r.env.alloc, n);
    e = ke_twin_new(&r.twin, r.env.ctx, &r.c);
    if (e == 0) {
        e = ke_twin_start(r.twin);
        if (e == 0) {
            assert_int_equal(ke_twin_get(r.twin, "thermo-1", "a", &v, sizeof v), KE_ESTATE);
            (void)!ke_router_send_group(r.router, "twin", m, NULL);
        }
        ms(&r, 5000);
    }
    failed = atomic_load(&r.env.alloc.failed) > 0;
    test_alloc_fail_at(&r.env.alloc, 0);
    if (e < 0) {
        ke_twin_free(r.twin);
        r.twin = NULL;
        twin_start(&r);
    }
    ms(&r, 5000);
    if (!failed)
        assert_non_null(strstr(twin_last(&r.mqtt, TOPIC("/twin/get/result")), "\"value\":\"1\""));
    else if (twin_count(&r.mqtt, TOPIC("/twin/get/result")))
        assert_null(strstr(twin_last(&r.mqtt, TOPIC("/twin/get/result")), "404"));
    assert_int_equal(ke_twin_get(r.twin, "thermo-1", "a", &v, sizeof v), 0);
    assert_string_equal(v.reported, "1");
    ke_msg_unref(m);
    atomic_store(&r.env.log_errors, 0);
    twin_fini(&r);
    return failed;
}

static void restored_before_anything(void **state)
{
    size_t n = 1;

    (void)state;
    while (start_again(n))
        n++;
    print_message("count: %zu allocations of a start refused\n", n - 1);
    assert_true(n > 10);
}

/* Anything on any topic, from applications and from the cloud: it goes on. */
static void any_input(void **state)
{
    static const char *const topics[] = {
        TOPIC("/twin/update"),
        TOPIC("/twin/cloud_updated"),
        TOPIC("/twin/get"),
        TOPIC("/state/update"),
        "$hw/events/device/plant/pump/twin/update",
        "$hw/events/node/edge-1/membership/get",
        "membership",
        "membership/detail",
        "device/thermo-1/twin/cloud_updated",
        "device/thermo-1",
        "default/device/pump",
    };
    static const char *const texts[] = {
        ADD,
        REMOVE,
        REPORT("a", "1"),
        "{\"devices\":[{\"id\":\"plant/"
        "pump\",\"attributes\":{\"x\":{\"value\":\"1\"}},\"twin\":{\"a\":"
        "{\"expected\":{\"value\":\"5\"},\"metadata\":{\"type\":\"int\"},\"expected_version\":{"
        "\"cloud\":7,\"edge\":0}},\"b\":null}}]}",
        "{\"event_id\":\"e\",\"timestamp\":1,\"twin\":{\"a\":null,\"b\":{\"expected\":{\"value\":"
        "\"\"}},"
        "\"c\":{\"metadata\":{\"type\":\"deleted\"}}}}",
        "{\"state\":\"online\",\"attributes\":{\"a\":null,\"b\":{\"value\":\"x\"}}}",
    };
    static const char odd[] = "{}[]\":,01ax\\ \xff\t-";
    uint64_t rng = 7, kept = 0;
    struct ke_twin_status st;
    struct twin_rig r;

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    twin_link(&r, true);
    r.confirm = true;
    for (int i = 0; i < 4000; i++) {
        const char *topic = topics[powercut_below(&rng, sizeof topics / sizeof topics[0])];
        char text[600];
        size_t n;

        snprintf(text, sizeof text, "%s",
                 texts[powercut_below(&rng, sizeof texts / sizeof texts[0])]);
        n = strlen(text);
        for (uint64_t k = powercut_below(&rng, 4); k > 0; k--)
            text[powercut_below(&rng, n)] = odd[powercut_below(&rng, sizeof odd - 1)];
        if (powercut_below(&rng, 8) == 0)
            text[powercut_below(&rng, n)] = '\0';
        if (topic[0] == '$')
            twin_mqtt(&r, topic, text);
        else if (kei_json_check(kei_str(text), 0, NULL) == 0)
            twin_cloud(&r, strchr(topic, '-') && !strstr(topic, "twin") ? "updated" : "update",
                       topic, text, NULL);
        kept += r.mqtt.n;
        twin_forget(&r);
    }
    assert_int_equal(ke_twin_status(r.twin, &st, sizeof st), 0);
    print_message("count: %llu taken, %llu refused, %llu said\n", (unsigned long long)st.taken,
                  (unsigned long long)st.refused, (unsigned long long)kept);
    assert_true(st.waiting == 0 && st.taken > 2000 && st.refused > 500 && kept > 2000);
    twin_cloud(&r, "update", "membership", ADD, NULL);
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("z", "1"));
    assert_non_null(strstr(twin_last(&r.mqtt, TOPIC("/twin/update/result")), "\"z\""));
    twin_fini(&r);
}

static int failing_writes(void *user, const struct powercut_op *op)
{
    return *(bool *)user && op->kind == POWERCUT_WRITE ? KE_ENOSPC : 0;
}

static void a_full_disk(void **state)
{
    struct powercut *disk = powercut_new();
    bool failing = false;
    struct twin_rig r;
    char before[4096];

    (void)state;
    powercut_fault(disk, failing_writes, &failing);
    twin_init_io(&r, KE_DIALECT_1_15, powercut_io(disk));
    twin_cloud(&r, "update", "membership", ADD, NULL);
    twin_ask(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    twin_ask(&r, TOPIC("/twin/get"), "{}");
    twin_mask(before, sizeof before, twin_text(r.answer));
    twin_forget(&r);
    failing = true;
    twin_ask(&r, TOPIC("/twin/update"), REPORT("a", "2"));
    assert_string_equal(ke_msg_operation(r.answer), "error");
    assert_non_null(strstr(twin_last(&r.mqtt, TOPIC("/twin/update/result")), "\"code\":500"));
    assert_int_equal(twin_count(&r.mqtt, TOPIC("/twin/update/document")), 0);
    twin_cloud(&r, "update", "membership", REMOVE, NULL);
    assert_int_equal(twin_count(&r.mqtt, "$hw/events/node/edge-1/membership/updated"), 0);
    twin_ask(&r, TOPIC("/twin/get"), "{}");
    assert_masked(twin_text(r.answer), before); /* as if it had not been asked */
    failing = false;
    twin_ask(&r, TOPIC("/twin/update"), REPORT("a", "3"));
    assert_string_equal(ke_msg_operation(r.answer), "response");
    twin_restart(&r);
    twin_ask(&r, TOPIC("/twin/get"), "{}");
    assert_non_null(strstr(twin_text(r.answer), "\"value\":\"3\""));
    atomic_store(&r.env.log_errors, 0);
    twin_fini(&r);
    powercut_free(disk);
}

/* A whole life with the n-th allocation refused: it ends as without. */
static bool live(size_t n, size_t *refused)
{
    struct twin_rig r;
    struct heard h = {0};
    bool failed;

    begin(&r, KE_DIALECT_1_15);
    twin_link(&r, true);
    test_alloc_fail_at(&r.env.alloc, n);
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "1"));
    (void)!ke_twin_report(r.twin, "thermo-1", "b", "2", NULL, on_done, &h, NULL);
    twin_settle(&r);
    twin_mqtt(&r, TOPIC("/state/update"), "{\"state\":\"online\"}");
    ms(&r, 1000);
    failed = atomic_load(&r.env.alloc.failed) > 0;
    test_alloc_fail_at(&r.env.alloc, 0);
    *refused += failed;
    twin_mqtt(&r, TOPIC("/twin/update"), REPORT("a", "3"));
    ms(&r, 30000);
    twin_link(&r, false);
    twin_link(&r, true);
    assert_non_null(strstr(twin_last(&r.cloud, EDGE_UPDATED), "\"value\":\"3\""));
    twin_mqtt(&r, TOPIC("/twin/get"), "{}");
    assert_non_null(strstr(twin_last(&r.mqtt, TOPIC("/twin/get/result")), "\"value\":\"3\""));
    atomic_store(&r.env.log_errors, 0); /* of layers below */
    twin_fini(&r);
    return failed;
}

/* Memory does not come back: every call ends all the same. */
static void memory_out_for_good(void **state)
{
    struct heard h = {0};
    struct twin_rig r;
    int calls = 0;

    (void)state;
    begin(&r, KE_DIALECT_1_15);
    for (int i = 0; i < 3; i++)
        calls += ke_twin_report(r.twin, "thermo-1", "b", "2", NULL, on_done, &h, NULL) == 0;
    test_alloc_fail_from(&r.env.alloc, 1);
    ms(&r, 60000);
    test_alloc_fail_at(&r.env.alloc, 0);
    assert_int_equal(calls, 3);
    assert_int_equal(h.n, 3);
    assert_int_equal(h.status, KE_ENOMEM);
    atomic_store(&r.env.log_errors, 0);
    twin_fini(&r);
}

static void memory_out_anywhere(void **state)
{
    size_t n = 1, refused = 0;

    (void)state;
    while (live(n, &refused))
        n++;
    print_message("count: %zu allocations refused\n", refused);
    assert_true(refused > 100);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(membership),
        cmocka_unit_test(the_whole_list),
        cmocka_unit_test(errors_on_their_topics),
        cmocka_unit_test(drivers_are_answered),
        cmocka_unit_test(both_forms_of_ids),
        cmocka_unit_test(nothing_is_lost_while_the_link_is_down),
        cmocka_unit_test(a_cloud_that_never_confirms),
        cmocka_unit_test(states_by_cloud),
        cmocka_unit_test(a_removed_device_says_no_more),
        cmocka_unit_test(the_list_as_an_answer),
        cmocka_unit_test(objects_without_membership),
        cmocka_unit_test(calls_of_the_host),
        cmocka_unit_test(freed_with_calls_under_way),
        cmocka_unit_test(freed_from_a_callback),
        cmocka_unit_test(stopped_and_started),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(calls_from_threads),
        cmocka_unit_test(limits),
        cmocka_unit_test(a_module_without_room),
        cmocka_unit_test(restored_before_anything),
        cmocka_unit_test(any_input),
        cmocka_unit_test(a_full_disk),
        cmocka_unit_test(memory_out_for_good),
        cmocka_unit_test(memory_out_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
