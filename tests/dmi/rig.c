/* SPDX-License-Identifier: Apache-2.0 */
/* See rig.h. */
#include "rig.h"

#include <unistd.h>

#include "base/json.h"

static void on_twin(void *user, struct ke_msg *m)
{
    struct dmi_rig *r = user;
    struct ke_msg_config c;
    struct ke_msg *reply = NULL;
    char text[600];
    size_t n;

    assert_string_equal(ke_msg_operation(m), "publish");
    assert_string_equal(ke_msg_source(m), "dmi");
    const char *p = ke_msg_content(m, &n);
    r->reports++;
    snprintf(r->topic, sizeof r->topic, "%s", ke_msg_resource(m));
    kei_json_copy(r->payload, sizeof r->payload, kei_strn(p, n));
    if (r->mute)
        return;
    ke_msg_config_init(&c, sizeof c);
    c.parent_id = ke_msg_id(m);
    c.source = "twin";
    c.resource = ke_msg_resource(m);
    c.operation = r->refuse ? "error" : "response";
    snprintf(text, sizeof text, "\"%s\"", r->refuse ? r->refuse : "");
    c.content = r->refuse ? text : "{}";
    c.content_len = strlen(c.content);
    assert_int_equal(ke_msg_new(&reply, r->env.ctx, &c, NULL), 0);
    (void)!ke_router_respond(r->router, reply, NULL); /* nobody may wait for it */
    ke_msg_unref(reply);
}

void dmi_start(struct dmi_rig *r)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_twin};
    struct ke_store_config sc;

    ke_store_config_init(&sc, sizeof sc);
    char folder[120];
    snprintf(folder, sizeof folder, "%s/store", r->dir);
    sc.folder = folder;
    assert_int_equal(ke_store_open(&r->store, r->env.ctx, &sc), 0);
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, NULL), 0);
    if (r->real_twin) {
        struct ke_twin_config tc;
        ke_twin_config_init(&tc, sizeof tc);
        tc.router = r->router;
        tc.store = r->store;
        tc.node_name = "edge-1";
        assert_int_equal(ke_twin_new(&r->t, r->env.ctx, &tc), 0);
        assert_int_equal(ke_twin_start(r->t), 0);
    } else {
        assert_int_equal(ke_router_add(&r->twin, r->router, "devicetwin", "twin", &ops, r), 0);
    }
    r->c.router = r->router;
    r->c.store = r->store;
    r->c.socket = r->socket;
    if (kei_dmi_new(&r->dmi, r->env.ctx, &r->c) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
    test_settle(&r->env);
    assert_int_equal(access(r->socket, F_OK), 0);
}

void dmi_init(struct dmi_rig *r, uint32_t flags)
{
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, flags);
    test_tmp_make(r->dir, sizeof r->dir);
    snprintf(r->socket, sizeof r->socket, "%s/dmi.sock", r->dir);
    snprintf(r->mapper_socket, sizeof r->mapper_socket, "%s/m.sock", r->dir);
}

void dmi_stop(struct dmi_rig *r)
{
    kei_dmi_free(r->dmi);
    ke_twin_free(r->t);
    r->t = NULL;
    ke_router_free(r->router);
    ke_store_close(r->store);
    r->dmi = NULL;
    r->router = NULL;
    r->store = NULL;
}

void dmi_restart(struct dmi_rig *r)
{
    dmi_stop(r);
    dmi_start(r);
}

void dmi_fini(struct dmi_rig *r)
{
    dmi_stop(r);
    test_tmp_remove(r->dir);
    test_env_fini(&r->env);
}

void dmi_device(char *out, size_t n, const char *name, const char *protocol, const char *desired)
{
    snprintf(out, n,
             "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\",\"metadata\":{"
             "\"name\":\"%s\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":"
             "\"thermo-model\"},\"nodeName\":\"edge-1\",\"protocol\":{\"protocolName\":\"%s\","
             "\"configData\":{\"slaveID\":1,\"parity\":\"even\",\"big\":123456789,\"on\":true}},"
             "\"properties\":[{\"name\":\"temperature\",\"desired\":{\"value\":\"%s\"},"
             "\"visitors\":{\"protocolName\":\"modbus\",\"configData\":{\"register\":"
             "\"HoldingRegister\",\"offset\":2,\"scale\":0.1,\"isSwap\":false}},\"collectCycle\":"
             "10000,\"reportCycle\":20000,\"reportToCloud\":true,\"pushMethod\":{\"http\":{"
             "\"hostName\":\"http://127.0.0.1\",\"port\":80,\"requestPath\":\"/x\",\"timeout\":"
             "5},\"dbMethod\":{\"influxdb2\":{\"influxdb2DataConfig\":{\"measurement\":\"m\","
             "\"tag\":{\"a\":\"b\"}}}}}},{\"name\":\"unknown\",\"desired\":{\"value\":\"1\"}}]},"
             "\"status\":{\"twins\":[{\"propertyName\":\"temperature\",\"reported\":{\"value\":"
             "\"19\",\"metadata\":{\"timestamp\":\"5\",\"type\":\"int\"}},\"observedDesired\":{"
             "\"value\":\"20\"}}]}}",
             name, protocol, desired);
}

void dmi_object(struct dmi_rig *r, const char *resource, const char *operation, const char *json)
{
    struct ke_store_tx *tx;
    struct ke_msg_config c;
    struct ke_msg *m;
    struct ke_str name, rest, ns = kei_str_cut(kei_str(resource), '/', &rest);
    struct ke_str type = kei_str_cut(rest, '/', &name);
    char bucket[40], key[300];

    snprintf(bucket, sizeof bucket, "o/%.*s", KEI_FMT(type));
    snprintf(key, sizeof key, "%.*s/%.*s", KEI_FMT(ns), KEI_FMT(name));
    assert_int_equal(ke_store_begin(&tx, r->store), 0);
    if (json)
        assert_int_equal(ke_store_put(tx, bucket, key, NULL, 1, json, strlen(json)), 0);
    else
        assert_int_equal(ke_store_delete(tx, bucket, key, NULL), 0);
    assert_int_equal(ke_store_commit(tx, NULL, NULL), 0);
    ke_msg_config_init(&c, sizeof c);
    c.source = "devicecontroller";
    c.group = "device";
    c.operation = operation;
    c.resource = resource;
    c.content = json;
    c.content_len = json ? strlen(json) : 0;
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    if (r->dmi)
        assert_int_equal(ke_router_send_group(r->router, "device", m, NULL), 0);
    ke_msg_unref(m);
    test_settle(&r->env);
}

static void on_mapper(void *user, const struct kei_dmi_mapper_info *m)
{
    struct dmi_seen *s = user;

    s->n++;
    s->last = *m;
    snprintf(s->name, sizeof s->name, "%s", m->name);
    snprintf(s->protocol, sizeof s->protocol, "%s", m->protocol);
    snprintf(s->address, sizeof s->address, "%s", m->address);
    snprintf(s->error, sizeof s->error, "%s", m->error);
}

void dmi_look(struct dmi_rig *r, struct dmi_seen *s)
{
    memset(s, 0, sizeof *s);
    kei_dmi_mappers(r->dmi, on_mapper, s);
}
