/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mapper: the harness of devices between an EdgeCore's DMI and drivers. It owns the harness, its
 * server, its client, and the text of each object it was given. Loop thread.
 */
#include <stdio.h>

#include <kubeedge/version.h>

#include "base/log.h"
#include "dmi/dmi_v1beta1.pb-c.h"
#include "dmi/mapper_priv.h"

#define EDGE_SOCKET "/etc/kubeedge/dmi.sock"
#define MAX_ANSWER ((size_t)16 * 1024 * 1024) /* of a registration */
#define MEMORY ((size_t)256 * 1024 * 1024)    /* that one may take when it is read */
#define CONFIG_MIN KEI_SIZE_TO(struct ke_mapper_config, report_ms)

static void enlist(struct ke_mapper *m);

/* ---- objects ---- */

void kei_mapper_failed(struct ke_mapper *m, int status, const char *text)
{
    m->st.last_error = status;
    snprintf(m->st.error_text, sizeof m->st.error_text, "%s", text);
}

static void object_free(struct ke_mapper *m, struct kei_mapper_object *o)
{
    if (!o)
        return;
    kei_free(m->alloc, o->json);
    kei_free(m->alloc, o);
}

static int key_of(char *out, size_t n, bool is_model, const char *ns, const char *name,
                  struct ke_error *err)
{
    if (!kei_dns_subdomain(kei_str(name)) || (ns[0] && !kei_dns_subdomain(kei_str(ns))))
        return kei_error(err, KE_EINVAL, "\"%.100s/%.100s\" names no object", ns, name);
    snprintf(out, n, "%c/%s/%s", is_model ? 'm' : 'd', ns[0] ? ns : "default", name);
    return 0;
}

/* Takes json over. */
static int put(struct ke_mapper *m, const char *key, struct ke_buf *json, struct ke_error *err)
{
    struct kei_mapper_object *o = kei_map_get(&m->objects, kei_str(key));
    void *old = NULL;

    if (!kei_buf_ok(json))
        return kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
    if (o && o->n == json->n && memcmp(o->json, json->p, json->n) == 0) {
        o->mark = m->mark;
        return 0; /* it has it: a device is not opened anew for nothing */
    }
    o = kei_zalloc(m->alloc, sizeof *o);
    if (o)
        o->json = kei_strndup(m->alloc, json->p, json->n);
    if (!o || !o->json) {
        object_free(m, o);
        return kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
    }
    o->n = json->n;
    o->mark = m->mark;
    int r = ke_devices_put(m->devices, o->json, o->n);
    if (r < 0) {
        object_free(m, o);
        return kei_error(err, r, "%s", ke_ctx_error(m->ctx));
    }
    r = kei_map_put(&m->objects, kei_str(key), o, &old);
    object_free(m, r < 0 ? o : old);
    return r < 0 ? kei_error(err, r, "no memory for %s", key + 2) : 0;
}

int kei_mapper_put(struct ke_mapper *m, const void *message, struct ke_error *err)
{
    const ProtobufCMessage *base = message;
    bool is_model = base->descriptor == &kei__b1__device_model__descriptor;
    const Kei__B1__DeviceModel *model = message;
    const Kei__B1__Device *device = message;
    struct ke_buf json;
    char key[600];
    int r = key_of(key, sizeof key, is_model, is_model ? model->namespace_ : device->namespace_,
                   is_model ? model->name : device->name, err);

    if (r < 0)
        return r;
    kei_buf_init(&json, m->alloc);
    if (is_model)
        kei_dmi_model_json(&json, model, m->c.protocol);
    else
        kei_dmi_device_json(&json, device);
    r = put(m, key, &json, err);
    ke_buf_free(&json);
    return r;
}

static void forget(struct ke_mapper *m, const char *key)
{
    struct ke_str name, ns = kei_str_cut(kei_str(key + 2), '/', &name);
    char where[300];

    snprintf(where, sizeof where, "%.*s", KEI_FMT(ns));
    if (ke_devices_remove(m->devices, key[0] == 'm' ? "DeviceModel" : "Device", where, name.p) < 0)
        kei_log(m->ctx, KE_LOG_DEBUG, "mapper", "%s was not there: %s", key + 2,
                ke_ctx_error(m->ctx));
    object_free(m, kei_map_remove(&m->objects, kei_str(key)));
}

int kei_mapper_remove(struct ke_mapper *m, bool is_model, const char *ns, const char *name,
                      struct ke_error *err)
{
    char key[600];
    int r = key_of(key, sizeof key, is_model, ns, name, err);

    if (r < 0)
        return r;
    if (kei_map_get(&m->objects, kei_str(key)))
        forget(m, key);
    return 0; /* one that is not there is gone */
}

/* What a registration did not name is gone: devices first. */
static void sweep(struct ke_mapper *m)
{
    for (int models = 0; models < 2; models++) {
        struct ke_str key;
        void *value;
        size_t it = 0;
        while (kei_map_next(&m->objects, &it, &key, &value)) {
            const struct kei_mapper_object *o = value;
            char text[600];
            if (o->mark == m->mark || (key.p[0] == 'm') != models)
                continue;
            snprintf(text, sizeof text, "%.*s", KEI_FMT(key));
            forget(m, text); /* the current entry may go */
        }
    }
}

/* ---- registration ---- */

static void wait_and_enlist(struct ke_mapper *m, int status, const char *text)
{
    if (m->st.state != KE_MAPPER_WAITING || strcmp(m->st.error_text, text) != 0)
        kei_log(m->ctx, KE_LOG_WARN, "mapper", "not registered at %s: %s", m->c.edge_socket, text);
    if (m->st.state == KE_MAPPER_REGISTERED)
        kei_timer_stop(&m->timer); /* it was for later */
    m->st.state = KE_MAPPER_WAITING;
    kei_mapper_failed(m, status, text);
    if (!kei_timer_armed(&m->timer))
        kei_timer_in(&m->timer, kei_backoff_next(&m->backoff, kei_ctx_random64(m->ctx)));
}

static void take_all(struct ke_mapper *m, const Kei__B1__MapperRegisterResponse *r)
{
    m->mark++;
    for (size_t i = 0; i < r->n_modellist + r->n_devicelist; i++) {
        struct ke_error err = KE_ERROR_INIT;
        const void *message =
            i < r->n_modellist ? (const void *)r->modellist[i] : r->devicelist[i - r->n_modellist];
        if (kei_mapper_put(m, message, &err) < 0) {
            kei_mapper_failed(m, err.code, err.text);
            kei_log(m->ctx, KE_LOG_WARN, "mapper", "an object was not taken: %s", err.text);
        }
    }
    sweep(m);
}

static void on_registered(void *user, const struct kei_grpc_answer *a)
{
    struct ke_mapper *m = user;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_arena arena;
    void *q = NULL;

    m->ask = NULL;
    if (m->c.refresh_ms) /* unless it is to be sooner */
        kei_timer_in(&m->timer, m->c.refresh_ms);
    if (a->status == 0 && a->code != KEI_GRPC_OK && m->st.state == KE_MAPPER_REGISTERED) {
        kei_mapper_failed(m, KE_EREFUSED, a->text); /* it was too much for now */
        return;
    }
    if (a->status < 0 || a->code != KEI_GRPC_OK) {
        kei_timer_stop(&m->timer);
        wait_and_enlist(m, a->status < 0 ? a->status : KE_EREFUSED, a->text);
        return;
    }
    kei_arena_init(&arena, m->alloc, MEMORY);
    int r =
        kei_pb_unpack(&q, &kei__b1__mapper_register_response__descriptor, a->message, &arena, &err);
    if (r < 0) {
        kei_timer_stop(&m->timer);
        wait_and_enlist(m, r, err.text);
    } else {
        bool again = m->st.state == KE_MAPPER_REGISTERED;
        m->st.last_error = 0;
        m->st.error_text[0] = '\0';
        take_all(m, q);
        m->st.state = KE_MAPPER_REGISTERED;
        m->st.registrations++;
        m->no_states = false;
        kei_backoff_reset(&m->backoff);
        kei_log(m->ctx, again ? KE_LOG_DEBUG : KE_LOG_INFO, "mapper",
                "registered at %s: %zu objects", m->c.edge_socket, m->objects.n);
    }
    kei_arena_free(&arena);
}

static void on_lost(void *user, const char *text)
{
    struct ke_mapper *m = user;

    if (!m->ask)
        wait_and_enlist(m, KE_ECLOSED, text);
}

static void enlist(struct ke_mapper *m)
{
    Kei__B1__MapperRegisterRequest q;
    Kei__B1__MapperInfo i;
    struct ke_buf body;

    kei__b1__mapper_register_request__init(&q);
    kei__b1__mapper_info__init(&i);
    i.name = kei_pb_str(m->c.name);
    i.version = kei_pb_str(m->c.version);
    i.api_version = kei_pb_str(m->c.api_version);
    i.protocol = kei_pb_str(m->c.protocol);
    i.state = kei_pb_str("ok");
    i.address.data = (uint8_t *)kei_pb_str(m->c.socket);
    i.address.len = strlen(m->c.socket);
    q.withdata = 1;
    q.mapper = &i;
    kei_buf_init(&body, m->alloc);
    kei_pb_pack(&body, &q);
    if (m->st.state == KE_MAPPER_STOPPED)
        m->st.state = KE_MAPPER_REGISTERING;
    int r = kei_buf_ok(&body)
                ? kei_grpc_ask(&m->ask, m->client, "/v1beta1.DeviceManagerService/MapperRegister",
                               kei_buf_str(&body), m->c.call_ms, on_registered, m)
                : kei_fail(m->ctx, KE_ENOMEM, "no memory to register");
    ke_buf_free(&body);
    if (r < 0)
        wait_and_enlist(m, r, ke_ctx_error(m->ctx));
}

static void on_timer(struct kei_timer *t)
{
    struct ke_mapper *m = KEI_OF(t, struct ke_mapper, timer);

    if (!m->ask)
        enlist(m);
}

/* ---- life ---- */

void ke_mapper_config_init(struct ke_mapper_config *c, size_t size)
{
    kei_abi_init(c, size);
}

static int copy_config(struct ke_mapper *m, const struct ke_mapper_config *from)
{
    struct ke_mapper_config *c = &m->c;
    struct ke_error *err = kei_err(m->ctx);
    const char **strings[] = {&c->protocol,    &c->socket,      &c->name,       &c->version,
                              &c->edge_socket, &c->api_version, &c->http_listen};
    int r = kei_abi_in(c, sizeof *c, from, CONFIG_MIN, "struct ke_mapper_config", err);

    if (r < 0)
        return r;
    if (!c->protocol || !c->protocol[0] || !c->socket || !c->socket[0])
        return kei_error(err, KE_EINVAL, "ke_mapper_config needs protocol and socket");
    if (c->cycle_unit > KE_DEVICES_CYCLE_MS || (c->flags & ~KE_DEVICES_REPORT_ALWAYS))
        return kei_error(err, KE_EINVAL, "ke_mapper_config: flags or cycle_unit is out of range");
    if (!c->name || !c->name[0])
        c->name = kei_arena_printf(&m->arena, "%s-mapper", c->protocol);
    if (!c->version || !c->version[0])
        c->version = "v" KE_VERSION;
    if (!c->edge_socket || !c->edge_socket[0])
        c->edge_socket = EDGE_SOCKET;
    if (!c->api_version || !c->api_version[0])
        c->api_version = "v1.0.0";
    if (!c->http_listen)
        c->http_listen = "";
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        *strings[i] = *strings[i] ? kei_arena_strdup(&m->arena, kei_str(*strings[i])) : NULL;
        if (!*strings[i])
            return kei_error(err, KE_ENOMEM, "no memory for a mapper");
    }
    c->call_ms = c->call_ms ? c->call_ms : 10000;
    c->retry_min_ms = c->retry_min_ms ? c->retry_min_ms : 500;
    if (c->retry_max_ms < c->retry_min_ms)
        c->retry_max_ms = c->retry_min_ms > 30000 ? c->retry_min_ms : 30000;
    return 0;
}

static int make_parts(struct ke_mapper *m)
{
    struct ke_devices_config dc;
    const struct kei_grpc_client_config gc = {.stream = {.unix_path = m->c.edge_socket},
                                              .max_message = MAX_ANSWER,
                                              .lost = on_lost,
                                              .user = m};

    ke_devices_config_init(&dc, sizeof dc);
    dc.sink = &kei_mapper_sink;
    dc.sink_user = m;
    dc.flags = m->c.flags;
    dc.cycle_unit = m->c.cycle_unit;
    dc.max_devices = m->c.max_devices;
    dc.collect_ms = m->c.collect_ms;
    dc.report_ms = m->c.report_ms;
    int r = ke_devices_new(&m->devices, m->ctx, &dc);
    return r < 0 ? r : kei_grpc_client_new(&m->client, m->ctx, &gc);
}

int ke_mapper_new(struct ke_mapper **ret, struct ke_ctx *ctx, const struct ke_mapper_config *c)
{
    if (!ctx)
        return KE_EINVAL;
    if (!ret || !c)
        return kei_fail(ctx, KE_EINVAL, "a mapper needs a configuration and a place to return it");
    struct ke_mapper *m = kei_zalloc(kei_ctx_alloc(ctx), sizeof *m);
    if (!m)
        return kei_fail(ctx, KE_ENOMEM, "no memory for a mapper");
    m->ctx = ctx;
    m->alloc = kei_ctx_alloc(ctx);
    m->st.size = sizeof m->st;
    kei_arena_init(&m->arena, m->alloc, 0);
    kei_map_init(&m->objects, m->alloc, kei_ctx_random64(ctx));
    kei_list_init(&m->reports);
    kei_timer_init(ctx, &m->timer, on_timer);
    int r = copy_config(m, c);
    if (r == 0)
        r = make_parts(m);
    if (r < 0) {
        ke_mapper_free(m);
        return r;
    }
    kei_backoff_init(&m->backoff, m->c.retry_min_ms, m->c.retry_max_ms);
    *ret = m;
    return 0;
}

struct ke_devices *ke_mapper_devices(struct ke_mapper *m)
{
    return m ? m->devices : NULL;
}

int ke_mapper_start(struct ke_mapper *m)
{
    if (!m)
        return KE_EINVAL;
    if (m->server)
        return kei_fail(m->ctx, KE_ESTATE, "the mapper was started already");
    int r = kei_mapper_serve(m);
    if (r < 0)
        return r;
    if (m->c.http_listen[0] && kei_mapper_http_new(m) < 0) /* devices do not depend on it */
        kei_log(m->ctx, KE_LOG_ERROR, "mapper", "there is no HTTP API: %s", ke_ctx_error(m->ctx));
    enlist(m);
    return 0;
}

void ke_mapper_free(struct ke_mapper *m)
{
    void *value;
    size_t it = 0;

    if (!m)
        return;
    kei_timer_fini(&m->timer);
    kei_grpc_server_free(m->server);
    kei_mapper_http_free(m);
    ke_devices_free(m->devices);
    kei_grpc_client_free(m->client); /* its calls end without a word */
    kei_mapper_reports_free(m);
    while (kei_map_next(&m->objects, &it, NULL, &value))
        object_free(m, value);
    kei_map_free(&m->objects);
    kei_arena_free(&m->arena);
    kei_free(m->alloc, m);
}

int ke_mapper_status(struct ke_mapper *m, struct ke_mapper_status *ret, size_t size)
{
    struct ke_str key;
    size_t it = 0;

    if (!m || !ret)
        return KE_EINVAL;
    m->st.devices = m->st.models = 0;
    while (kei_map_next(&m->objects, &it, &key, NULL)) {
        m->st.devices += key.p[0] == 'd';
        m->st.models += key.p[0] == 'm';
    }
    return kei_abi_out(ret, size, &m->st, sizeof m->st,
                       KEI_SIZE_TO(struct ke_mapper_status, error_text), "struct ke_mapper_status",
                       kei_err(m->ctx));
}
