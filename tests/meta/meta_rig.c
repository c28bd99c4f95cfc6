/* SPDX-License-Identifier: Apache-2.0 */
/* See meta_rig.h. */
#include "meta_rig.h"

static uint32_t dialect(void *user)
{
    return ((struct meta_rig *)user)->dialect;
}

static bool connected(void *user)
{
    return ((struct meta_rig *)user)->connected;
}

static void on_message(void *user, struct ke_msg *m)
{
    struct recorder *rec = user;

    assert_true(rec->n < RECORDED);
    rec->m[rec->n++] = ke_msg_ref(m);
}

static void add(struct meta_rig *r, struct recorder *rec, const char *name, const char *group)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_message};

    assert_int_equal(ke_router_add(&rec->module, r->router, name, group, &ops, rec), 0);
}

static void open_store(struct meta_rig *r, bool io)
{
    struct ke_store_config c;
    char folder[200];

    snprintf(folder, sizeof folder, "%s/store", r->dir);
    ke_store_config_init(&c, sizeof c);
    c.folder = folder;
    if (!io && !r->dir[0])
        c.flags = KE_STORE_MEMORY;
    if (ke_store_open(&r->store, r->env.ctx, &c) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

int meta_try_start(struct meta_rig *r)
{
    struct kei_meta_config c = {
        .node_name = NODE, .dialect = dialect, .connected = connected, .user = r};
    int e = kei_meta_new(&r->mm, r->env.ctx, r->router, r->store, &c);

    if (e == 0)
        meta_settle(r);
    return e;
}

void meta_start(struct meta_rig *r)
{
    if (meta_try_start(r) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

void meta_stop(struct meta_rig *r)
{
    kei_meta_free(r->mm);
    r->mm = NULL;
}

static void begin(struct meta_rig *r)
{
    struct ke_router_config rc;

    ke_router_config_init(&rc, sizeof rc);
    rc.queue_messages = r->queue;
    r->dialect = KE_DIALECT_1_15;
    r->connected = true;
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, &rc), 0);
    add(r, &r->cloud, "websocket", "hub");
    add(r, &r->edged, "edged", "edged");
    add(r, &r->node, "edgednode", "edged");
    add(r, &r->devices, "devicemanager", "device");
    add(r, &r->dmi, "dmi", "device");
    meta_start(r);
}

void meta_init(struct meta_rig *r, bool on_disk)
{
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    if (on_disk)
        test_tmp_make(r->dir, sizeof r->dir);
    open_store(r, false);
    begin(r);
}

void meta_init_queue(struct meta_rig *r, uint32_t messages)
{
    memset(r, 0, sizeof *r);
    r->queue = messages;
    test_env_init(&r->env, 0);
    open_store(r, false);
    begin(r);
}

void meta_init_io(struct meta_rig *r, const struct ke_io *io)
{
    memset(r, 0, sizeof *r);
    test_env_init_io(&r->env, 0, io);
    open_store(r, true);
    begin(r);
}

void meta_restart(struct meta_rig *r)
{
    meta_stop(r);
    ke_store_close(r->store);
    open_store(r, false);
    meta_start(r);
}

void meta_fini(struct meta_rig *r)
{
    meta_stop(r);
    meta_forget(r);
    ke_router_free(r->router);
    ke_msg_unref(r->answer);
    ke_store_close(r->store);
    test_env_fini(&r->env);
    if (r->dir[0])
        test_tmp_remove(r->dir);
}

void meta_settle(struct meta_rig *r)
{
    test_settle(&r->env);
}

/* ---- sending ---- */

static struct ke_msg *make(struct meta_rig *r, const struct told *t)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.id = t->id;
    c.parent_id = t->parent;
    c.timestamp_ms = t->timestamp_ms;
    c.resource_version = t->rv;
    c.source = t->source ? t->source : "edgecontroller";
    c.group = t->group ? t->group : "resource";
    c.operation = t->operation;
    c.resource = t->resource;
    c.content = t->content;
    c.content_len = t->content ? strlen(t->content) : 0;
    if (ke_msg_new(&m, r->env.ctx, &c, kei_err(r->env.ctx)) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
    return m;
}

void meta_tell(struct meta_rig *r, const struct told *t, char id[37])
{
    struct ke_msg *m = make(r, t);
    struct ke_error err = KE_ERROR_INIT;

    if (id)
        snprintf(id, 37, "%s", ke_msg_id(m));
    if (!t->parent || ke_router_respond(r->router, m, &err) == KE_ENOTFOUND)
        assert_int_equal(ke_router_send(r->router, "metamanager", m, NULL), 0);
    ke_msg_unref(m);
    meta_settle(r);
}

static void on_answer(void *user, int status, struct ke_msg *reply)
{
    struct meta_rig *r = user;

    ke_msg_unref(r->answer);
    r->answer = reply ? ke_msg_ref(reply) : NULL;
    r->answer_status = status;
    r->n_answers++;
}

void meta_ask(struct meta_rig *r, const char *operation, const char *resource, const char *content)
{
    struct told t = {.source = "edged",
                     .group = "meta",
                     .operation = operation,
                     .resource = resource,
                     .content = content};
    struct ke_msg *m = make(r, &t);

    assert_int_equal(ke_router_request(r->router, "metamanager", m, 600000, on_answer, r, NULL), 0);
    r->n_asked++;
    ke_msg_unref(m);
    meta_settle(r);
}

static int make_or_not(struct meta_rig *r, const struct told *t, struct ke_msg **ret)
{
    struct ke_msg_config c;

    ke_msg_config_init(&c, sizeof c);
    c.parent_id = t->parent;
    c.source = t->source ? t->source : "edgecontroller";
    c.group = t->group ? t->group : "resource";
    c.operation = t->operation;
    c.resource = t->resource;
    c.content = t->content;
    c.content_len = t->content ? strlen(t->content) : 0;
    return ke_msg_new(ret, r->env.ctx, &c, NULL);
}

void meta_try(struct meta_rig *r, const struct told *t)
{
    struct ke_msg *m = NULL;
    struct ke_error err = KE_ERROR_INIT;

    if (make_or_not(r, t, &m) < 0)
        return;
    if ((!t->parent || ke_router_respond(r->router, m, &err) < 0) &&
        ke_router_send(r->router, "metamanager", m, &err) < 0)
        assert_int_equal(err.code, KE_ENOMEM);
    ke_msg_unref(m);
    meta_settle(r);
}

void meta_try_ask(struct meta_rig *r, const char *operation, const char *resource)
{
    struct told t = {
        .source = "edged", .group = "meta", .operation = operation, .resource = resource};
    struct ke_msg *m = NULL;

    if (make_or_not(r, &t, &m) < 0)
        return;
    if (ke_router_request(r->router, "metamanager", m, 100000, on_answer, r, NULL) == 0)
        r->n_asked++;
    ke_msg_unref(m);
    meta_settle(r);
}

void meta_send(struct meta_rig *r, const char *operation, const char *resource, const char *content)
{
    struct told t = {.source = "edged",
                     .group = "meta",
                     .operation = operation,
                     .resource = resource,
                     .content = content};
    struct ke_msg *m = make(r, &t);

    assert_int_equal(ke_router_send(r->router, "metamanager", m, NULL), 0);
    ke_msg_unref(m);
    meta_settle(r);
}

void meta_link(struct meta_rig *r, bool up)
{
    struct told t = {.source = "edgehub",
                     .group = "meta",
                     .operation = "connect",
                     .resource = "node/connection",
                     .content = up ? "\"cloud_connected\"" : "\"cloud_disconnected\""};

    r->connected = up;
    meta_tell(r, &t, NULL);
}

struct wanted {
    struct meta_rig *r;
    uint32_t n;
};

static bool answered(void *arg)
{
    struct wanted *w = arg;

    return w->r->n_answers >= w->n;
}

bool meta_until_answer(struct meta_rig *r, uint32_t n)
{
    struct wanted w = {r, n};

    return test_drive(&r->env, answered, &w);
}

const char *meta_answer_content(struct meta_rig *r)
{
    size_t n;

    assert_non_null(r->answer);
    return ke_msg_content(r->answer, &n);
}

/* ---- looking ---- */

static bool is(const char *want, const char *got)
{
    return !want || strcmp(want, got) == 0;
}

struct ke_msg *meta_find(const struct recorder *rec, const char *operation, const char *resource,
                         uint32_t n)
{
    for (uint32_t i = 0; i < rec->n; i++) {
        if (is(operation, ke_msg_operation(rec->m[i])) &&
            is(resource, ke_msg_resource(rec->m[i])) && n-- == 0)
            return rec->m[i];
    }
    return NULL;
}

uint32_t meta_count(const struct recorder *rec, const char *operation, const char *resource)
{
    uint32_t n = 0;

    while (meta_find(rec, operation, resource, n))
        n++;
    return n;
}

uint32_t meta_acks(const struct meta_rig *r, const char *id)
{
    uint32_t n = 0;
    size_t len;

    for (uint32_t i = 0; i < r->cloud.n; i++) {
        const struct ke_msg *m = r->cloud.m[i];

        if (strcmp(ke_msg_operation(m), "response") == 0 && strcmp(ke_msg_parent_id(m), id) == 0) {
            assert_string_equal(ke_msg_content(m, &len), "\"OK\"");
            n++;
        }
    }
    return n;
}

static void forget(struct recorder *rec)
{
    for (uint32_t i = 0; i < rec->n; i++)
        ke_msg_unref(rec->m[i]);
    rec->n = 0;
}

void meta_forget(struct meta_rig *r)
{
    forget(&r->cloud);
    forget(&r->edged);
    forget(&r->node);
    forget(&r->devices);
    forget(&r->dmi);
}

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct meta_rig *r = user;

    r->row_done = true;
    r->row_status = status;
    r->row[0] = '\0';
    r->row_uid[0] = '\0';
    r->row_n = 0;
    r->row_version = 0;
    if (!item)
        return;
    assert_true(item->len < sizeof r->row);
    memcpy(r->row, item->value, item->len);
    r->row[item->len] = '\0';
    r->row_n = item->len;
    snprintf(r->row_uid, sizeof r->row_uid, "%s", item->uid);
    r->row_version = item->version;
}

int meta_row(struct meta_rig *r, const char *bucket, const char *key)
{
    r->row_done = false;
    assert_int_equal(ke_store_get(r->store, bucket, key, on_row, r), 0);
    assert_true(test_drive(&r->env, test_true, &r->row_done));
    return r->row_status;
}

struct counting {
    uint32_t n;
    bool done;
};

static void on_count(void *user, int status, const struct ke_store_item *item)
{
    struct counting *c = user;

    (void)status;
    if (item)
        c->n++;
    else
        c->done = true;
}

uint32_t meta_rows(struct meta_rig *r, const char *bucket)
{
    struct counting c = {0, false};

    assert_int_equal(ke_store_list(r->store, bucket, NULL, 0, on_count, &c), 0);
    assert_true(test_drive(&r->env, test_true, &c.done));
    return c.n;
}
