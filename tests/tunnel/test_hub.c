/* SPDX-License-Identifier: Apache-2.0 */
/* Module `websocket`: which message goes where, both ways, with and without a link. */
#include "rig.h"

#include <kubeedge/router.h>

#include "base/json.h"
#include "tunnel/hub.h"

/* A module that records. */
struct probe_module {
    struct ke_module *module;
    struct ke_msg *m[64];
    uint32_t n;
};

struct hub_rig {
    struct rig r;
    struct ke_router *router;
    struct kei_hub *hub;
    struct probe_module meta, edged, twin;
    int reply_status;
    struct ke_msg *reply;
    uint32_t n_replies;
};

static void on_message(void *user, struct ke_msg *m)
{
    struct probe_module *p = user;

    assert_true(p->n < 64);
    p->m[p->n++] = ke_msg_ref(m);
}

static void add_module(struct hub_rig *h, struct probe_module *p, const char *name,
                       const char *group)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_message};

    assert_int_equal(ke_router_add(&p->module, h->router, name, group, &ops, p), 0);
}

static void forget(struct probe_module *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        ke_msg_unref(p->m[i]);
    p->n = 0;
}

static void hub_init(struct hub_rig *h, bool with_store)
{
    memset(h, 0, sizeof *h);
    rig_init(&h->r, NULL);
    if (with_store)
        rig_store(&h->r);
    h->r.conf.dialect = KE_DIALECT_1_15;
    h->r.ops.message = NULL; /* the hub takes them */
    rig_tunnel(&h->r);
    assert_int_equal(ke_router_new(&h->router, h->r.env.ctx, NULL), 0);
    add_module(h, &h->meta, "metamanager", "meta");
    add_module(h, &h->edged, "edged", "edged");
    add_module(h, &h->twin, "twin", "twin");
    assert_int_equal(kei_hub_new(&h->hub, h->r.env.ctx, h->router, h->r.t), 0);
}

static void hub_fini(struct hub_rig *h)
{
    kei_hub_free(h->hub);
    forget(&h->meta);
    forget(&h->edged);
    forget(&h->twin);
    ke_msg_unref(h->reply);
    ke_router_free(h->router);
    rig_fini(&h->r);
}

static void hub_connect(struct hub_rig *h)
{
    rig_start(&h->r);
    assert_true(rig_until_state(&h->r, KE_TUNNEL_CONNECTED));
    assert_true(rig_until_n(&h->r, &h->meta.n, 1));
    assert_true(rig_until_n(&h->r, &h->edged.n, 1));
    forget(&h->meta);
    forget(&h->edged);
}

static void on_reply(void *user, int status, struct ke_msg *reply)
{
    struct hub_rig *h = user;

    h->reply_status = status;
    ke_msg_unref(h->reply);
    h->reply = reply ? ke_msg_ref(reply) : NULL;
    h->n_replies++;
}

static void ask(struct hub_rig *h, const char *operation, const char *resource, const char *content,
                char id[37])
{
    struct ke_msg *m = rig_msg(&h->r, operation, resource, content);

    snprintf(id, 37, "%s", ke_msg_id(m));
    assert_int_equal(ke_router_request(h->router, "websocket", m, 60000, on_reply, h, NULL), 0);
    ke_msg_unref(m);
}

static void tell(struct hub_rig *h, struct ke_msg *m)
{
    assert_int_equal(ke_router_send(h->router, "websocket", m, NULL), 0);
    ke_msg_unref(m);
}

/* ---- down ---- */

static void down_by_parent_and_group(void **state)
{
    struct hub_rig h;
    char id[37];
    struct fake_message m = {.operation = "update",
                             .resource = "default/secret/s",
                             .rv = "3",
                             .content = "{\"metadata\":{}}"};

    (void)state;
    hub_init(&h, false);
    hub_connect(&h);
    /* an object: metamanager */
    fake_cloud_send(&h.r.fc, &m, NULL);
    assert_true(rig_until_n(&h.r, &h.meta.n, 1));
    assert_string_equal(ke_msg_resource(h.meta.m[0]), "default/secret/s");
    /* another group: the module of that group */
    m = (struct fake_message){.source = "devicecontroller",
                              .group = "twin",
                              .operation = "update",
                              .resource = "membership",
                              .content = "{}"};
    fake_cloud_send(&h.r.fc, &m, NULL);
    assert_true(rig_until_n(&h.r, &h.twin.n, 1));
    /* a group that nobody is in: dropped */
    m.group = "taskmanager";
    m.resource = "upgrade/x/node/y";
    fake_cloud_send(&h.r.fc, &m, NULL);
    /* a reply: whoever asked */
    ask(&h, "query", "default/configmap/c", NULL, id);
    assert_true(rig_until_n(&h.r, &h.r.fc.n_messages, 1));
    assert_string_equal(ke_msg_id(h.r.fc.messages[0]), id);
    m = (struct fake_message){.parent = id,
                              .operation = "response",
                              .resource = "default/configmap/c",
                              .content = "{\"metadata\":{\"name\":\"c\"}}"};
    fake_cloud_send(&h.r.fc, &m, NULL);
    assert_true(rig_until_n(&h.r, &h.n_replies, 1));
    assert_int_equal(h.reply_status, 0);
    assert_string_equal(ke_msg_parent_id(h.reply), id);
    assert_int_equal(h.meta.n, 1);
    /* a second one, or a late one: metamanager */
    fake_cloud_send(&h.r.fc, &m, NULL);
    assert_true(rig_until_n(&h.r, &h.meta.n, 2));
    assert_int_equal(h.n_replies, 1);
    hub_fini(&h);
}

/* A full queue is no end: what it refused is taken when the cloud sends it again. */
static void refused_is_taken_later(void **state)
{
    struct hub_rig h;
    struct fake_message m = {.id = "00000000-0000-4000-8000-000000000001",
                             .operation = "update",
                             .resource = "default/secret/s",
                             .rv = "3",
                             .content = "{\"metadata\":{}}"};

    (void)state;
    hub_init(&h, false);
    hub_connect(&h);
    ke_module_remove(h.meta.module);
    fake_cloud_send(&h.r.fc, &m, NULL);
    rig_drive(&h.r, 100);
    add_module(&h, &h.meta, "metamanager", "meta");
    fake_cloud_send(&h.r.fc, &m, NULL);
    assert_true(rig_until_n(&h.r, &h.meta.n, 1));
    hub_fini(&h);
}

/* ---- up ---- */

static void acknowledgements_of_modules(void **state)
{
    struct hub_rig h;
    struct ke_msg *ok = NULL;
    char id[37];
    struct fake_message m = {.operation = "insert",
                             .resource = "default/pod/p",
                             .rv = "3",
                             .content = "{\"metadata\":{}}"};

    (void)state;
    hub_init(&h, false);
    hub_connect(&h);
    fake_cloud_send(&h.r.fc, &m, id);
    assert_true(rig_until_n(&h.r, &h.meta.n, 1));
    assert_int_equal(ke_msg_new_reply(&ok, h.r.env.ctx, h.meta.m[0], "\"OK\"", 4, NULL), 0);
    tell(&h, ok);
    assert_true(rig_until_n(&h.r, &h.r.fc.n_messages, 1));
    assert_int_equal(fake_cloud_acks(&h.r.fc, id), 1);
    m.id = id; /* the cloud did not see it and sends again: acknowledged here, not told */
    fake_cloud_send(&h.r.fc, &m, NULL);
    assert_true(rig_until_n(&h.r, &h.r.fc.n_messages, 2));
    assert_int_equal(fake_cloud_acks(&h.r.fc, id), 2);
    assert_int_equal(h.meta.n, 1);
    hub_fini(&h);
}

static void without_a_link(void **state)
{
    struct hub_rig h;
    struct ke_str content;
    char id[37];

    (void)state;
    hub_init(&h, true);
    ask(&h, "insert", "default/node/" NODE, "{}", id);
    assert_true(rig_until_n(&h.r, &h.n_replies, 1));
    assert_int_equal(h.reply_status, 0);
    assert_string_equal(ke_msg_operation(h.reply), "error");
    content.p = ke_msg_content(h.reply, &content.n);
    assert_int_equal(kei_json_type(content), '"');
    assert_true(kei_str_has(content, KEI_STR("not connected")));
    /* reports wait, requests do not */
    tell(&h, rig_msg(&h.r, "update", "default/podstatus/p",
                     "{\"UID\":\"u\",\"Name\":\"p\",\"Status\":{}}"));
    tell(&h, rig_msg(&h.r, "update", "default/podstatus/p",
                     "{\"UID\":\"u\",\"Name\":\"p\",\"Status\":{\"phase\":\"Running\"}}"));
    tell(&h, rig_msg(&h.r, "delete", "default/pod/q",
                     "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"v\"}}"));
    tell(&h, rig_msg(&h.r, "upload", "default/up", "\"1\""));
    tell(&h, rig_msg(&h.r, "upload", "default/up", "\"2\""));
    tell(&h, rig_msg(&h.r, "update", "default/nodestatus/" NODE, "{\"Status\":{}}"));
    tell(&h, rig_msg(&h.r, "update", "default/podstatus", "[]")); /* all of them: not kept */
    rig_drive(&h.r, 1000);
    assert_int_equal(rig_status(&h.r).outbox, 4);
    rig_start(&h.r);
    assert_true(rig_until_n(&h.r, &h.r.fc.n_messages, 4));
    rig_drive(&h.r, 1000);
    assert_int_equal(h.r.fc.n_messages, 4);
    assert_non_null(fake_cloud_find(&h.r.fc, "patch", "default/podpatch/p", 0));
    assert_non_null(fake_cloud_find(&h.r.fc, "delete", "default/pod/q", 0));
    assert_int_equal(fake_cloud_count(&h.r.fc, "upload", "default/up"), 2);
    hub_fini(&h);
}

static void what_the_dialect_lacks_is_answered(void **state)
{
    struct hub_rig h;
    char id[37];

    (void)state;
    hub_init(&h, false);
    kei_hub_free(h.hub);
    rig_free_tunnel(&h.r);
    h.r.conf.dialect = h.r.fc.dialect = KE_DIALECT_1_4;
    rig_tunnel(&h.r);
    assert_int_equal(kei_hub_new(&h.hub, h.r.env.ctx, h.router, h.r.t), 0);
    hub_connect(&h);
    ask(&h, "query", "kube-node-lease/lease/" NODE, NULL, id);
    assert_true(rig_until_n(&h.r, &h.n_replies, 1));
    assert_string_equal(ke_msg_operation(h.reply), "error");
    hub_fini(&h);
}

/* ---- the link ---- */

static void assert_notice(const struct ke_msg *m, const char *group, const char *content)
{
    size_t n;

    assert_string_equal(ke_msg_source(m), "edgehub");
    assert_string_equal(ke_msg_group(m), group);
    assert_string_equal(ke_msg_operation(m), "connect");
    assert_string_equal(ke_msg_resource(m), "node/connection");
    assert_string_equal(ke_msg_content(m, &n), content);
}

static void the_groups_are_told_of_the_link(void **state)
{
    struct hub_rig h;

    (void)state;
    hub_init(&h, false);
    rig_start(&h.r);
    assert_true(rig_until_n(&h.r, &h.meta.n, 1));
    assert_true(rig_until_n(&h.r, &h.edged.n, 1));
    assert_notice(h.meta.m[0], "meta", "\"cloud_connected\"");
    assert_notice(h.edged.m[0], "edged", "\"cloud_connected\"");
    assert_true(kei_tunnel_connected(h.r.t));
    assert_string_equal(kei_tunnel_local_ip(h.r.t), "127.0.0.1");
    fake_cloud_drop(&h.r.fc);
    assert_true(rig_until_n(&h.r, &h.meta.n, 3));
    assert_true(rig_until_n(&h.r, &h.edged.n, 3));
    assert_notice(h.meta.m[1], "meta", "\"cloud_disconnected\"");
    assert_notice(h.edged.m[1], "edged", "\"cloud_disconnected\"");
    assert_notice(h.meta.m[2], "meta", "\"cloud_connected\"");
    /* a link that is dropped to be made anew counts as lost too */
    assert_int_equal(ke_tunnel_reconnect(h.r.t), 0);
    assert_true(rig_until_n(&h.r, &h.meta.n, 5));
    assert_notice(h.meta.m[3], "meta", "\"cloud_disconnected\"");
    assert_notice(h.meta.m[4], "meta", "\"cloud_connected\"");
    ke_tunnel_stop(h.r.t);
    assert_true(rig_until_n(&h.r, &h.meta.n, 6));
    assert_notice(h.meta.m[5], "meta", "\"cloud_disconnected\"");
    assert_false(kei_tunnel_connected(h.r.t));
    assert_false(kei_tunnel_connected(NULL));
    assert_int_equal(kei_tunnel_dialect(NULL), KE_DIALECT_AUTO);
    hub_fini(&h);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(down_by_parent_and_group),
        cmocka_unit_test(refused_is_taken_later),
        cmocka_unit_test(acknowledgements_of_modules),
        cmocka_unit_test(without_a_link),
        cmocka_unit_test(what_the_dialect_lacks_is_answered),
        cmocka_unit_test(the_groups_are_told_of_the_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
