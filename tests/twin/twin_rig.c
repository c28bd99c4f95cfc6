/* SPDX-License-Identifier: Apache-2.0 */
/* See twin_rig.h. */
#include "twin_rig.h"

#include <ctype.h>

#include "base/json.h"

static void record(struct twin_recorder *rec, struct ke_msg *m)
{
    if (rec->quiet)
        return;
    assert_true(rec->n < RECORDED);
    rec->m[rec->n++] = ke_msg_ref(m);
}

static void on_record(void *user, struct ke_msg *m)
{
    record(user, m);
}

static void on_cloud(void *user, struct ke_msg *m)
{
    struct twin_rig *r = KEI_OF(user, struct twin_rig, cloud);
    struct ke_msg *ok = NULL;

    record(&r->cloud, m);
    if (!r->confirm)
        return;
    if (ke_msg_new_reply(&ok, r->env.ctx, m, "\"OK\"", 4, NULL) == 0)
        (void)!ke_router_respond(r->router, ok, NULL);
    ke_msg_unref(ok);
}

static void open_store(struct twin_rig *r)
{
    struct ke_store_config c;

    ke_store_config_init(&c, sizeof c);
    c.folder = r->folder;
    if (!r->folder)
        c.flags = KE_STORE_MEMORY;
    if (ke_store_open(&r->store, r->env.ctx, &c) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

int twin_try_start(struct twin_rig *r)
{
    int e;

    r->c.router = r->router;
    r->c.store = r->store;
    r->c.node_name = r->node;
    e = ke_twin_new(&r->twin, r->env.ctx, &r->c);
    if (e == 0) {
        e = ke_twin_start(r->twin);
        if (e < 0) {
            ke_twin_free(r->twin);
            r->twin = NULL;
        }
    }
    if (e == 0)
        twin_settle(r);
    return e;
}

void twin_start(struct twin_rig *r)
{
    if (twin_try_start(r) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

void twin_stop(struct twin_rig *r)
{
    ke_twin_free(r->twin);
    r->twin = NULL;
}

static void add(struct twin_rig *r, struct twin_recorder *rec, const char *name, const char *group,
                void (*fn)(void *, struct ke_msg *))
{
    struct ke_module_ops ops = {.size = sizeof ops, .message = fn};

    assert_int_equal(ke_router_add(&rec->module, r->router, name, group, &ops, rec), 0);
}

void twin_modules(struct twin_rig *r)
{
    add(r, &r->cloud, "websocket", "hub", on_cloud);
    add(r, &r->mqtt, "eventbus", "user", on_record);
    add(r, &r->device, "drivers", "device", on_record);
}

static void begin(struct twin_rig *r, uint32_t dialect)
{
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, NULL), 0);
    twin_modules(r);
    ke_twin_config_init(&r->c, sizeof r->c);
    r->c.dialect = dialect;
    r->node = NODE;
}

void twin_init(struct twin_rig *r, uint32_t dialect)
{
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    open_store(r);
    begin(r, dialect);
    twin_start(r);
}

void twin_init_io(struct twin_rig *r, uint32_t dialect, const struct ke_io *io)
{
    memset(r, 0, sizeof *r);
    test_env_init_io(&r->env, 0, io);
    r->folder = "/store";
    open_store(r);
    begin(r, dialect);
    twin_start(r);
}

void twin_restart(struct twin_rig *r)
{
    twin_stop(r);
    if (r->folder) {
        ke_store_close(r->store);
        open_store(r);
    }
    twin_start(r);
}

void twin_fini(struct twin_rig *r)
{
    twin_stop(r);
    twin_forget(r);
    ke_router_free(r->router);
    ke_msg_unref(r->answer);
    ke_store_close(r->store);
    test_env_fini(&r->env);
}

void twin_settle(struct twin_rig *r)
{
    test_settle(&r->env);
}

/* ---- sending ---- */

static int send(struct twin_rig *r, struct ke_msg_config *c, bool ask);

static void on_answer(void *user, int status, struct ke_msg *reply)
{
    struct twin_rig *r = user;

    ke_msg_unref(r->answer);
    r->answer = reply ? ke_msg_ref(reply) : NULL;
    r->answer_status = status;
    r->n_answers++;
}

static int send(struct twin_rig *r, struct ke_msg_config *c, bool ask)
{
    struct ke_msg *m = NULL;
    int e;

    c->content_len = c->content ? strlen(c->content) : 0;
    e = ke_msg_new(&m, r->env.ctx, c, kei_err(r->env.ctx));
    if (e == 0 && ask)
        e = ke_router_request(r->router, "devicetwin", m, 600000, on_answer, r, NULL);
    else if (e == 0 && (!c->parent_id || ke_router_respond(r->router, m, NULL) == KE_ENOTFOUND))
        e = ke_router_send_group(r->router, "twin", m, kei_err(r->env.ctx));
    ke_msg_unref(m);
    twin_settle(r);
    return e;
}

static void publish(struct twin_rig *r, const char *source, const char *topic, const char *payload,
                    bool ask)
{
    struct ke_msg_config c;
    struct ke_buf text = {NULL, 0, 0, NULL};
    struct kei_jw w;

    kei_jw_init(&w, &text);
    kei_jw_str(&w, payload);
    ke_msg_config_init(&c, sizeof c);
    c.source = source;
    c.group = "twin";
    c.operation = "publish";
    c.resource = topic;
    c.content = text.p;
    (void)send(r, &c, ask);
    ke_buf_free(&text);
}

void twin_mqtt(struct twin_rig *r, const char *topic, const char *payload)
{
    publish(r, "bus", topic, payload, false);
}

void twin_ask(struct twin_rig *r, const char *topic, const char *payload)
{
    publish(r, "devicemanager", topic, payload, true);
}

void twin_cloud(struct twin_rig *r, const char *operation, const char *resource,
                const char *content, const char *parent)
{
    struct ke_msg_config c;

    ke_msg_config_init(&c, sizeof c);
    c.parent_id = parent;
    c.source = "devicecontroller";
    c.group = "twin";
    c.operation = operation;
    c.resource = resource;
    c.content = content;
    (void)send(r, &c, false);
}

void twin_link(struct twin_rig *r, bool up)
{
    struct ke_msg_config c;

    ke_msg_config_init(&c, sizeof c);
    c.source = "edgehub";
    c.group = "twin";
    c.operation = "connect";
    c.resource = "node/connection";
    c.content = up ? "\"cloud_connected\"" : "\"cloud_disconnected\"";
    (void)send(r, &c, false);
}

/* ---- looking ---- */

struct ke_msg *twin_find(const struct twin_recorder *rec, const char *resource, uint32_t n)
{
    for (uint32_t i = 0; i < rec->n; i++) {
        if ((!resource || strcmp(resource, ke_msg_resource(rec->m[i])) == 0) && n-- == 0)
            return rec->m[i];
    }
    return NULL;
}

uint32_t twin_count(const struct twin_recorder *rec, const char *resource)
{
    uint32_t n = 0;

    while (twin_find(rec, resource, n))
        n++;
    return n;
}

const char *twin_text(const struct ke_msg *m)
{
    static struct ke_buf text;
    struct ke_str v;

    v.p = ke_msg_content(m, &v.n);
    if (kei_json_type(v) != '"')
        return v.p;
    ke_buf_free(&text);
    assert_int_equal(kei_json_str(v, &text, NULL), 0);
    return text.p;
}

const char *twin_last(const struct twin_recorder *rec, const char *resource)
{
    uint32_t n = twin_count(rec, resource);

    if (n == 0)
        fail_msg("nothing was said on %s", resource);
    return twin_text(twin_find(rec, resource, n - 1));
}

static void forget(struct twin_recorder *rec)
{
    for (uint32_t i = 0; i < rec->n; i++)
        ke_msg_unref(rec->m[i]);
    rec->n = 0;
}

void twin_forget(struct twin_rig *r)
{
    forget(&r->cloud);
    forget(&r->mqtt);
    forget(&r->device);
}

/* pattern: 'x' a hex digit, '9' a digit, others as they are */
static bool like(const char *s, const char *pattern)
{
    for (; *pattern; s++, pattern++) {
        if (*pattern == 'x'   ? !isxdigit((unsigned char)*s)
            : *pattern == '9' ? !isdigit((unsigned char)*s)
                              : *s != *pattern)
            return false;
    }
    return true;
}

void twin_mask(char *out, size_t n, const char *text)
{
    static const struct {
        const char *pattern, *mask;
    } masks[] = {
        {"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "U"},
        {"9999-99-99 99:99:99", "D"},
        {"9999-99-99T99:99:99Z", "D"},
        {"9999999999999", "T"},
    };
    size_t k = 0;

    while (*text && k + 2 < n) {
        size_t i = 0;

        while (i < sizeof masks / sizeof masks[0] && !like(text, masks[i].pattern))
            i++;
        if (i == sizeof masks / sizeof masks[0]) {
            out[k++] = *text++;
        } else {
            out[k++] = masks[i].mask[0];
            text += strlen(masks[i].pattern);
        }
    }
    out[k] = '\0';
}
