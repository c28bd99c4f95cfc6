/* SPDX-License-Identifier: Apache-2.0 */
/* See rig.h. */
#include "rig.h"

#include <unistd.h>

#include <kubeedge/msg.h>

#include "message/msg_priv.h"

static uint32_t dialect(void *user)
{
    return ((struct rig *)user)->dialect;
}

static void on_pod(void *user, const struct ke_pod_info *p)
{
    struct rig *r = user;
    char text[sizeof r->last_told];
    snprintf(text, sizeof text, "%s %s %s %s %u %u %u %u", p->uid, p->phase, p->reason, p->message,
             p->ready, p->containers, p->restarts, p->removed);
    if (!strcmp(text, r->last_told))
        fail_msg("told twice: %s", text);
    memcpy(r->last_told, text, sizeof text);
    r->told++;
    r->removed += p->removed != 0;
    snprintf(r->last_phase, sizeof r->last_phase, "%s", p->phase);
}

static void on_settled(void *user)
{
    ((struct rig *)user)->settled++;
}

static int put_once(struct rig *r, const char *bucket, const char *key, const char *json)
{
    struct ke_store_tx *tx;
    int e = ke_store_begin(&tx, r->store);
    if (e < 0)
        return e;
    e = json ? ke_store_put(tx, bucket, key, NULL, 0, json, strlen(json))
             : ke_store_delete(tx, bucket, key, NULL);
    if (e == 0)
        return ke_store_commit(tx, NULL, NULL);
    ke_store_abort(tx);
    return e;
}

/* Twice, since a test may make one allocation fail: it is the engine's turn to cope, not this
 * one's. */
static void put(struct rig *r, const char *bucket, const char *key, const char *json)
{
    if (put_once(r, bucket, key, json) < 0)
        assert_int_equal(put_once(r, bucket, key, json), 0);
}

static void keep(struct rig *r, struct ke_msg *m)
{
    size_t n;
    const char *content = ke_msg_content(m, &n);
    assert_true(r->n_reports < RIG_REPORTS);
    struct rig_report *p = &r->reports[r->n_reports++];
    snprintf(p->operation, sizeof p->operation, "%s", ke_msg_operation(m));
    snprintf(p->resource, sizeof p->resource, "%s", ke_msg_resource(m));
    p->content = strndup(content, n);
    struct kei_resource res;
    if (kei_resource_parse(&res, kei_str(p->resource)) && kei_str_is(res.type, "podstatus")) {
        char key[128];
        snprintf(key, sizeof key, "%.*s/%.*s", KEI_FMT(res.ns), KEI_FMT(res.name));
        put(r, "o/podstatus", key, p->content);
    }
}

static void answer(struct rig *r, struct ke_msg *m)
{
    static const char missing[] = "{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"NotFound\","
                                  "\"code\":404,\"message\":\"gone\"}}";
    struct ke_msg *reply = NULL;
    const char *json = missing;
    r->queries++;
    for (int i = 0; i < r->n_objects; i++) {
        if (strcmp(r->objects[i].resource, ke_msg_resource(m)) != 0)
            continue;
        if (r->objects[i].silent)
            return;
        json = r->objects[i].json ? r->objects[i].json : missing;
    }
    if (ke_msg_new_reply(&reply, r->env.ctx, m, json, strlen(json), NULL) < 0)
        assert_int_equal(ke_msg_new_reply(&reply, r->env.ctx, m, json, strlen(json), NULL), 0);
    int e = ke_router_respond(r->router, reply, NULL);
    if (e == KE_ENOMEM)
        e = ke_router_respond(r->router, reply, NULL);
    assert_true(e == 0 || e == KE_ENOTFOUND);
    ke_msg_unref(reply);
}

static void on_meta(void *user, struct ke_msg *m)
{
    struct rig *r = user;
    if (!strcmp(ke_msg_operation(m), "query"))
        answer(r, m);
    else
        keep(r, m);
}

static const struct ke_module_ops meta_ops = {sizeof meta_ops, on_meta, NULL};

void rig_init(struct rig *r, uint32_t flags)
{
    rig_init_at(r, flags, NULL);
}

void rig_init_at(struct rig *r, uint32_t flags, const char *data)
{
    struct ke_store_config sc;
    char folder[240];
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, flags);
    ke_store_config_init(&sc, sizeof sc);
    if (data) {
        r->keep_data = true;
        snprintf(r->data, sizeof r->data, "%s", data);
        snprintf(folder, sizeof folder, "%s/store", data);
        sc.folder = folder;
    } else {
        test_tmp_make(r->data, sizeof r->data);
        sc.flags = KE_STORE_MEMORY;
    }
    assert_int_equal(ke_store_open(&r->store, r->env.ctx, &sc), 0);
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, NULL), 0);
    assert_int_equal(ke_router_add(&r->meta, r->router, "metamanager", "meta", &meta_ops, r), 0);
    fake_init(&r->fake, r->env.ctx);
    r->dialect = KE_DIALECT_1_15;
    r->conf = (struct kei_pods_config){
        .node_name = "edge-1",
        .node_ip = "192.0.2.1",
        .data = r->data,
        .router = r->router,
        .store = r->store,
        .dialect = dialect,
        .runtime = &r->fake.ops,
        .runtime_user = &r->fake,
        .ops = {.pod = on_pod, .settled = on_settled},
        .user = r,
    };
}

void rig_stop(struct rig *r)
{
    kei_pods_free(r->pods);
    r->pods = NULL;
    kei_work_drain(r->env.ctx);
    test_settle(&r->env);
}

void rig_fini(struct rig *r)
{
    rig_stop(r);
    ke_router_free(r->router);
    ke_store_close(r->store);
    kei_work_drain(r->env.ctx);
    for (int i = 0; i < r->n_objects; i++)
        free(r->objects[i].json);
    for (int i = 0; i < r->n_reports; i++)
        free(r->reports[i].content);
    if (!r->keep_data)
        test_tmp_remove(r->data);
    test_env_fini(&r->env);
}

void rig_settle(struct rig *r)
{
    test_settle(&r->env);
}

void rig_start(struct rig *r)
{
    r->last_told[0] = '\0';
    int e = kei_pods_new(&r->pods, r->env.ctx, &r->conf);
    if (e < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
    e = kei_pods_start(r->pods);
    if (e < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
    rig_settle(r);
}

void rig_object(struct rig *r, const char *resource, const char *json)
{
    struct rig_object *o = NULL;
    for (int i = 0; i < r->n_objects; i++) {
        if (!strcmp(r->objects[i].resource, resource))
            o = &r->objects[i];
    }
    if (!o) {
        assert_true(r->n_objects < RIG_OBJECTS);
        o = &r->objects[r->n_objects++];
        snprintf(o->resource, sizeof o->resource, "%s", resource);
    }
    free(o->json);
    o->json = json ? strdup(json) : NULL;
    struct kei_resource res;
    char bucket[64], key[128];
    assert_true(kei_resource_parse(&res, kei_str(resource)));
    snprintf(bucket, sizeof bucket, "o/%.*s", KEI_FMT(res.type));
    snprintf(key, sizeof key, "%.*s/%.*s", KEI_FMT(res.ns), KEI_FMT(res.name));
    if (!kei_str_is(res.type, "serviceaccounttoken"))
        put(r, bucket, key, json);
}

void rig_send(struct rig *r, const char *operation, const char *resource, const char *json)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct kei_resource res;
    char bucket[64], key[128];
    ke_msg_config_init(&c, sizeof c);
    c.source = "edgecontroller";
    c.group = "resource";
    c.operation = operation;
    c.resource = resource;
    c.content = json;
    c.content_len = json ? strlen(json) : 0;
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    if (kei_resource_parse(&res, kei_str(resource))) {
        snprintf(bucket, sizeof bucket, "o/%.*s", KEI_FMT(res.type));
        snprintf(key, sizeof key, "%.*s/%.*s", KEI_FMT(res.ns), KEI_FMT(res.name));
        put(r, bucket, key, !strcmp(operation, "delete") ? NULL : json);
    }
    assert_int_equal(ke_router_send(r->router, "edged", m, NULL), 0);
    ke_msg_unref(m);
    rig_settle(r);
}

void rig_link(struct rig *r, bool up)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    ke_msg_config_init(&c, sizeof c);
    c.source = "edgehub";
    c.group = "edged";
    c.operation = "connect";
    c.resource = "node/connection";
    c.content = up ? "\"cloud_connected\"" : "\"cloud_disconnected\"";
    c.content_len = strlen(c.content);
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_send(r->router, "edged", m, NULL), 0);
    ke_msg_unref(m);
    rig_settle(r);
}

void rig_store_pod(struct rig *r, const char *key, const char *json)
{
    put(r, "o/pod", key, json);
}

const char *rig_status(struct rig *r, const char *key)
{
    char want[128];
    const char *slash = strchr(key, '/');
    snprintf(want, sizeof want, "%.*s/podstatus%s", (int)(slash - key), key, slash);
    for (int i = r->n_reports - 1; i >= 0; i--) {
        if (!strcmp(r->reports[i].resource, want))
            return r->reports[i].content;
    }
    return NULL;
}

int rig_count(struct rig *r, const char *operation, const char *resource)
{
    int n = 0;
    for (int i = 0; i < r->n_reports; i++)
        n += !strcmp(r->reports[i].operation, operation) &&
             !strcmp(r->reports[i].resource, resource);
    return n;
}

bool rig_has(struct rig *r, const char *key, const char *text)
{
    const char *s = rig_status(r, key);
    return s && strstr(s, text);
}

const char *rig_pod(char out[2048], const char *name, const char *uid, const char *more,
                    const char *spec)
{
    int n = snprintf(
        out, 2048,
        "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\",\"uid\":"
        "\"%s\"%s},\"spec\":{\"nodeName\":\"edge-1\",%s},\"status\":{\"phase\":\"Pending\"}}",
        name, uid, more, spec);
    assert_true(n > 0 && n < 2048);
    return out;
}
