/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <pthread.h>

#include "base/json.h"

/* ---- the driver ---- */

struct fake_dev *fake(struct hrig *r, const char *name)
{
    for (uint32_t i = 0; i < r->n_devs; i++) {
        if (!strcmp(r->devs[i].name, name))
            return &r->devs[i];
    }
    assert_true(r->n_devs < FAKE_DEVS);
    snprintf(r->devs[r->n_devs].name, sizeof r->devs[0].name, "%s", name);
    return &r->devs[r->n_devs++];
}

struct thread_end {
    struct ke_devices *d;
    uint64_t op;
    int status;
    struct ke_device_result r;
};

static void *end_there(void *arg)
{
    struct thread_end *e = arg;
    (void)!ke_device_complete(e->d, e->op, e->status, &e->r);
    return NULL;
}

static int act(struct hrig *r, enum fake_mode mode, uint64_t op, const struct ke_device_result *res)
{
    pthread_t t;
    struct thread_end e = {.d = r->d, .op = op, .r = *res};
    switch (mode) {
    case FAKE_NOW:
        assert_int_equal(ke_device_complete(r->d, op, 0, res), 0);
        return 0;
    case FAKE_TWICE:
        assert_int_equal(ke_device_complete(r->d, op, 0, res), 0);
        assert_int_equal(ke_device_complete(r->d, op, 0, res), KE_ENOTFOUND);
        return 0;
    case FAKE_FAIL: {
        struct ke_device_result bad = {.size = sizeof bad, .text = "as the test wanted"};
        assert_int_equal(ke_device_complete(r->d, op, r->status, &bad), 0);
        return 0;
    }
    case FAKE_REFUSE:
        return KE_ENOMEM;
    case FAKE_THREAD:
        assert_int_equal(pthread_create(&t, NULL, end_there, &e), 0);
        assert_int_equal(pthread_join(t, NULL), 0);
        return 0;
    case FAKE_HANG:
        break;
    }
    return 0;
}

static const struct ke_device_result NOTHING = {.size = sizeof NOTHING};

static int fake_open(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    struct hrig *r = user;
    struct fake_dev *f = fake(r, c->name);
    assert_false(f->is_open);
    f->opens++;
    if (r->open == FAKE_REFUSE)
        return r->status;
    f->is_open = true;
    f->device = c->device;
    f->op = op;
    f->n = c->n_properties;
    snprintf(f->config, sizeof f->config, "%s", c->config);
    if (c->n_properties)
        snprintf(f->visitor0, sizeof f->visitor0, "%s", c->properties[0].visitor);
    *ret_dev = f;
    return act(r, r->open, op, &NOTHING);
}

static int fake_close(void *user, void *dev, uint64_t op)
{
    struct hrig *r = user;
    struct fake_dev *f = dev;
    assert_true(f->is_open);
    f->is_open = false;
    f->closes++;
    f->op = op;
    return act(r, r->close, op, &NOTHING);
}

static int fake_read(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct hrig *r = user;
    struct fake_dev *f = dev;
    struct ke_device_value v[FAKE_PROPS + 1];
    uint32_t k = 0;
    assert_true(f->is_open && n > 0);
    f->reads++;
    f->op = op;
    f->n_last_read = n;
    f->turn = f->reads == 1 ? kei_ctx_turn(r->env.ctx) : f->turn;
    test_clock_advance(&r->env.clock, r->read_takes_ms);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t p = properties[i];
        assert_true(p < f->n && (i == 0 || p > properties[i - 1]));
        f->last_read[i] = p;
        if (f->leave_out[p])
            continue;
        v[k] = (struct ke_device_value){.size = sizeof v[k], .property = p};
        v[k].status = f->prop_status[p];
        v[k].kind = f->text[p][0] ? KE_DEVICE_KIND_TEXT : KE_DEVICE_KIND_DOUBLE;
        v[k].d = f->regs[p];
        v[k].p = f->text[p];
        v[k].n = f->text[p][0] ? strlen(f->text[p]) : 0;
        k++;
    }
    if (f->extra && properties[n - 1] != 1)
        v[k++] = (struct ke_device_value){
            .size = sizeof v[0], .property = 1, .kind = KE_DEVICE_KIND_INT, .i = 1234};
    struct ke_device_result res = {.size = sizeof res, .values = v, .n_values = k};
    return act(r, r->read, op, &res);
}

static int fake_write(void *user, void *dev, uint64_t op, const struct ke_device_value *v,
                      uint32_t n)
{
    struct hrig *r = user;
    struct fake_dev *f = dev;
    struct ke_device_value bad[FAKE_PROPS];
    uint32_t k = 0;
    assert_true(f->is_open && n > 0 && n <= FAKE_PROPS);
    f->writes++;
    f->op = op;
    f->n_wrote = n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t p = v[i].property;
        f->wrote[i] = v[i];
        if (f->write_status[p] < 0) {
            bad[k++] = (struct ke_device_value){.size = sizeof bad[0],
                                                .property = p,
                                                .status = f->write_status[p],
                                                .text = "not this one"};
        } else if (f->stuck[p]) {
            continue;
        } else if (v[i].kind == KE_DEVICE_KIND_TEXT) {
            snprintf(f->text[p], sizeof f->text[p], "%.*s", (int)v[i].n, (const char *)v[i].p);
        } else {
            f->regs[p] = v[i].kind == KE_DEVICE_KIND_DOUBLE ? v[i].d : (double)v[i].i;
        }
    }
    struct ke_device_result res = {.size = sizeof res, .values = bad, .n_values = k};
    return act(r, r->write, op, &res);
}

static int fake_call(void *user, void *dev, uint64_t op, const char *method, const char *args,
                     size_t args_len)
{
    struct hrig *r = user;
    struct fake_dev *f = dev;
    f->calls++;
    f->op = op;
    snprintf(r->method, sizeof r->method, "%s", method);
    snprintf(r->args, sizeof r->args, "%.*s", (int)args_len, args);
    struct ke_device_result res = {.size = sizeof res, .reply = "{\"a\":1}", .reply_len = 7};
    return act(r, r->call, op, &res);
}

static int fake_subscribe(void *user, void *dev, uint64_t op, const uint32_t *properties,
                          uint32_t n)
{
    struct hrig *r = user;
    struct fake_dev *f = dev;
    (void)properties, (void)n;
    f->op = op;
    return act(r, r->subscribe, op, &NOTHING);
}

static int fake_health(void *user, void *dev, uint64_t op)
{
    struct hrig *r = user;
    struct fake_dev *f = dev;
    f->op = op;
    return act(r, r->health, op, &NOTHING);
}

int fake_end(struct hrig *r, const char *name, int status)
{
    return ke_device_complete(r->d, fake(r, name)->op, status, NULL);
}

/* ---- the other modules ---- */

static void content_text(struct ke_msg *m, char *out, size_t cap)
{
    size_t n;
    const char *p = ke_msg_content(m, &n);
    kei_json_copy(out, cap, kei_strn(p, n));
}

static void on_twin(void *user, struct ke_msg *m)
{
    struct hrig *r = user;
    struct ke_msg *reply = NULL;
    bool state = strstr(ke_msg_resource(m), "/state/update") != NULL;
    assert_string_equal(ke_msg_operation(m), "publish");
    assert_string_equal(ke_msg_source(m), "devicemanager");
    if (state) {
        r->states++;
        content_text(m, r->state, sizeof r->state);
    } else {
        r->updates++;
        content_text(m, r->update, sizeof r->update);
        snprintf(r->update_topic, sizeof r->update_topic, "%s", ke_msg_resource(m));
    }
    if (r->twin_silent)
        return;
    if (r->refuse && !state && strstr(r->update, r->refuse)) {
        struct ke_msg_config c;
        r->refusals++;
        ke_msg_config_init(&c, sizeof c);
        c.parent_id = ke_msg_id(m);
        c.operation = "error";
        c.resource = ke_msg_resource(m);
        c.content = r->refuse_text ? r->refuse_text : "\"the value is not int\"";
        c.content_len = strlen(c.content);
        assert_int_equal(ke_msg_new(&reply, r->env.ctx, &c, NULL), 0);
    } else if (ke_msg_new_reply(&reply, r->env.ctx, m, "\"{}\"", 4, NULL) < 0) {
        return; /* out of memory: a test of that */
    }
    (void)!ke_router_respond(r->router, reply, NULL);
    ke_msg_unref(reply);
}

static void on_push(struct hrig *r, struct ke_msg *m)
{
    struct ke_msg_config c;
    struct ke_msg *reply = NULL;
    size_t n;
    const char *text = ke_msg_content(m, &n);
    r->pushed++;
    snprintf(r->topic, sizeof r->topic, "%s", ke_msg_resource(m));
    snprintf(r->push, sizeof r->push, "%.*s", (int)n, text);
    if (r->bus_silent)
        return;
    ke_msg_config_init(&c, sizeof c);
    c.parent_id = ke_msg_id(m);
    c.operation = r->push_refuse ? "error" : "response";
    c.resource = ke_msg_resource(m);
    c.content = r->push_refuse ? r->push_refuse : "\"OK\"";
    c.content_len = strlen(c.content);
    assert_int_equal(ke_msg_new(&reply, r->env.ctx, &c, NULL), 0);
    (void)!ke_router_respond(r->router, reply, NULL);
    ke_msg_unref(reply);
}

static void on_bus(void *user, struct ke_msg *m)
{
    struct hrig *r = user;
    if (!strcmp(ke_msg_operation(m), "push")) {
        on_push(r, m);
        return;
    }
    r->published++;
    assert_string_equal(ke_msg_operation(m), "publish");
    snprintf(r->topic, sizeof r->topic, "%s", ke_msg_resource(m));
    content_text(m, r->payload, sizeof r->payload);
}

static void on_cloud(void *user, struct ke_msg *m)
{
    struct hrig *r = user;
    r->uploaded++;
    assert_string_equal(ke_msg_operation(m), "upload");
    assert_string_equal(ke_msg_group(m), "user");
    snprintf(r->upload_topic, sizeof r->upload_topic, "%s", ke_msg_resource(m));
    content_text(m, r->upload, sizeof r->upload);
}

static void on_meta(void *user, struct ke_msg *m)
{
    struct hrig *r = user;
    struct ke_msg *reply = NULL;
    const char *text = r->profile ? r->profile : "null";
    r->asked++;
    assert_int_equal(ke_msg_new_reply(&reply, r->env.ctx, m, text, strlen(text), NULL), 0);
    (void)!ke_router_respond(r->router, reply, NULL);
    ke_msg_unref(reply);
}

/* ---- begin and end ---- */

static struct ke_module *module(struct hrig *r, const char *name,
                                void (*fn)(void *user, struct ke_msg *m))
{
    struct ke_module *m;
    struct ke_module_ops ops = {.size = sizeof ops, .message = fn};
    assert_int_equal(ke_router_add(&m, r->router, name, NULL, &ops, r), 0);
    return m;
}

void hrig_cloud(struct hrig *r)
{
    r->cloud = module(r, "websocket", on_cloud);
}

void hrig_init(struct hrig *r)
{
    struct ke_store_config sc;
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    r->env.idle_ms = 0; /* no peers: threads are joined, the disk worker is waited for */
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, NULL), 0);
    r->twin = module(r, "devicetwin", on_twin);
    r->bus = module(r, "eventbus", on_bus);
    hrig_cloud(r);
    r->meta = module(r, "metamanager", on_meta);
    ke_store_config_init(&sc, sizeof sc);
    sc.flags = KE_STORE_MEMORY;
    assert_int_equal(ke_store_open(&r->store, r->env.ctx, &sc), 0);
    ke_devices_config_init(&r->c, sizeof r->c);
    r->c.router = r->router;
    r->c.store = r->store;
    r->c.node_name = "edge-1";
    r->status = KE_ECONN;
}

void hrig_start(struct hrig *r)
{
    struct ke_device_ops ops = {.size = sizeof ops,
                                .open = fake_open,
                                .close = fake_close,
                                .read = fake_read,
                                .write = fake_write,
                                .call = r->no_call ? NULL : fake_call,
                                .subscribe = r->no_subscribe ? NULL : fake_subscribe,
                                .health = fake_health};
    r->n_devs = 0;
    memset(r->devs, 0, sizeof r->devs);
    assert_int_equal(ke_devices_new(&r->d, r->env.ctx, &r->c), 0);
    assert_int_equal(ke_device_driver_register(r->d, "FAKE", &ops, r), 0);
}

void hrig_stop(struct hrig *r)
{
    ke_devices_free(r->d);
    r->d = NULL;
    for (uint32_t i = 0; i < r->n_devs; i++)
        assert_false(r->devs[i].is_open);
}

void hrig_fini(struct hrig *r)
{
    hrig_stop(r);
    ke_store_close(r->store);
    ke_router_free(r->router);
    test_env_fini(&r->env);
}

void hrig_put(struct hrig *r, const char *json)
{
    if (ke_devices_put(r->d, json, strlen(json)) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

void hrig_tell(struct hrig *r, const char *operation, const char *resource, const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m;
    ke_msg_config_init(&c, sizeof c);
    c.source = "devicecontroller";
    c.group = "device";
    c.operation = operation;
    c.resource = resource;
    c.content = content;
    c.content_len = content ? strlen(content) : 0;
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_send_group(r->router, "device", m, NULL), 0);
    ke_msg_unref(m);
}

void hrig_keep(struct hrig *r, const char *bucket, const char *key, const char *json)
{
    struct ke_store_tx *tx;
    assert_int_equal(ke_store_begin(&tx, r->store), 0);
    assert_int_equal(ke_store_put(tx, bucket, key, "u", 1, json, strlen(json)), 0);
    assert_int_equal(ke_store_commit(tx, NULL, NULL), 0);
}

/* ---- looking ---- */

struct look {
    const char *name;
    struct seen *seen;
};

static void on_status(void *user, const struct ke_device_status *s)
{
    struct look *l = user;
    if (strcmp(s->name, l->name) != 0)
        return;
    struct seen *o = l->seen;
    o->found = true;
    o->s = *s;
    snprintf(o->error, sizeof o->error, "%s", s->error);
    o->s.error = o->error;
    assert_true(s->n_properties <= FAKE_PROPS);
    for (uint32_t i = 0; i < s->n_properties; i++) {
        const char *t[4] = {s->properties[i].name, s->properties[i].desired,
                            s->properties[i].reported, s->properties[i].error};
        o->p[i] = s->properties[i];
        for (int k = 0; k < 4; k++)
            snprintf(o->texts[i][k], sizeof o->texts[i][k], "%s", t[k] ? t[k] : "-");
        o->p[i].name = o->texts[i][0];
        o->p[i].desired = o->texts[i][1];
        o->p[i].reported = o->texts[i][2];
        o->p[i].error = o->texts[i][3];
    }
}

void hrig_see(struct hrig *r, const char *name, struct seen *ret)
{
    struct look l = {name, ret};
    memset(ret, 0, sizeof *ret);
    assert_int_equal(ke_devices_list(r->d, on_status, &l), 0);
}
