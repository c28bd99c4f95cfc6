/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mappers ask of the node: to be registered, and to take values and states. A call waits until
 * the store has the registration, or the twin the values, so that what is answered is durable. Loop
 * thread.
 */
#include <stdio.h>

#include "base/log.h"
#include "dmi/dmi_priv.h"
#include "dmi/dmi_v1alpha1.pb-c.h"
#include "dmi/dmi_v1beta1.pb-c.h"

#define MAX_MESSAGE ((size_t)1024 * 1024) /* of a mapper */
#define MEMORY ((size_t)16 * 1024 * 1024) /* that one may take when it is read */
#define DATA_MAX                                                                                   \
    ((size_t)3 * 1024 * 1024) /* in an answer: mappers take 4 MiB; the rest is pushed */
#define PATH_MAX_ 107u        /* of a unix socket */
#define TEXT_MAX_ 253u

/* A call that waits. */
struct wait {
    struct kei_dmi *d;
    struct kei_link link;
    struct kei_grpc_call *call; /* NULL: gone */
    uint64_t request;           /* of the router; 0: waits for the store */
    char *protocol;             /* of a registration */
    char *device, *state;       /* of a report: its object's key, the state it tells */
    bool with_data;
};

static struct wait *wait_new(struct kei_dmi *d, struct kei_grpc_call *call)
{
    struct wait *w = kei_zalloc(d->alloc, sizeof *w);

    if (!w) {
        kei_grpc_refuse(call, KEI_GRPC_EXHAUSTED, "no memory for the call");
        return NULL;
    }
    w->d = d;
    w->call = call;
    kei_list_add_tail(&d->calls, &w->link);
    kei_grpc_call_set(call, w);
    return w;
}

static void wait_free(struct wait *w)
{
    kei_list_remove(&w->link);
    kei_free(w->d->alloc, w->protocol);
    kei_free(w->d->alloc, w->device);
    kei_free(w->d->alloc, w->state);
    kei_free(w->d->alloc, w);
}

static void on_gone(void *user, struct kei_grpc_call *call)
{
    struct wait *w = kei_grpc_call_get(call);

    (void)user;
    if (w)
        w->call = NULL; /* what it asked for goes on */
}

void kei_dmi_calls_free(struct kei_dmi *d)
{
    KEI_LIST_EACH_SAFE(l, next, &d->calls)
    {
        struct wait *w = KEI_OF(l, struct wait, link);
        w->call = NULL;
        if (!w->request)
            continue; /* the store comes back to it */
        ke_router_cancel(d->c.router, w->request);
        wait_free(w);
    }
}

static void refuse(struct wait *w, uint32_t code, const char *text)
{
    if (w->call)
        kei_grpc_refuse(w->call, code, text);
    w->call = NULL;
}

/* All methods of all mappers together. */
static bool may_call(struct kei_dmi *d)
{
    int64_t now = ke_ctx_mono_ms(d->ctx);

    d->tokens += (double)(now - d->tokens_ms) * d->c.rate / 1000;
    if (d->tokens > d->c.burst)
        d->tokens = d->c.burst;
    d->tokens_ms = now;
    if (d->tokens < 1)
        return false;
    d->tokens -= 1;
    return true;
}

static void too_many(struct kei_grpc_call *call, const char *what, const char *name)
{
    char text[400];

    snprintf(text, sizeof text, "fail to %s because of too many request: %.253s", what, name);
    kei_grpc_refuse(call, KEI_GRPC_UNKNOWN, text);
}

/* ---- registration ---- */

/* A list of messages that grows. */
struct list {
    void **p;
    size_t n, cap;
};

static int add(struct list *l, void *m, struct kei_arena *a)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        void **p = kei_arena_array(a, cap, sizeof *p);
        if (!p)
            return KE_ENOMEM;
        if (l->n)
            memcpy(p, l->p, l->n * sizeof *p);
        l->p = p;
        l->cap = cap;
    }
    l->p[l->n++] = m;
    return 0;
}

/* The objects that fit into an answer; these count as told. */
static void collect(struct kei_dmi_mapper *m, bool models, struct list *l, size_t *used,
                    struct ke_store_tx *tx, struct kei_arena *a)
{
    struct kei_dmi *d = m->d;
    void *value, *message;
    size_t it = 0;
    struct kei_dmi_digest digest;

    while (kei_map_next(&d->objects, &it, NULL, &value)) {
        struct kei_dmi_object *o = value;
        struct kei_dmi_view *v = kei_dmi_view_of(o, m->protocol);
        struct ke_error err = KE_ERROR_INIT;
        if (o->is_model != models || !v)
            continue;
        int r = kei_dmi_build(&message, &digest, o, m->form, a, &err);
        if (r < 0) {
            kei_log(d->ctx, KE_LOG_WARN, "dmi", "%s is not told to mapper %s: %s", o->key + 2,
                    m->name, err.text);
            continue;
        }
        size_t n = protobuf_c_message_get_packed_size(message) + 8;
        if (*used + n > DATA_MAX || add(l, message, a) < 0)
            continue; /* it stays on the list of what is pushed */
        *used += n;
        kei_list_remove(&v->todo);
        kei_dmi_told(v, tx, digest);
    }
}

static void answer_data(struct wait *w, struct kei_dmi_mapper *m)
{
    struct kei_dmi *d = w->d;
    struct ke_store_tx *tx = NULL;
    struct list models = {NULL, 0, 0}, devices = {NULL, 0, 0};
    struct kei_arena a;
    struct ke_buf body;
    size_t used = 0;

    kei_arena_init(&a, d->alloc, 4 * MEMORY);
    kei_buf_init(&body, d->alloc);
    if (ke_store_begin(&tx, d->c.store) < 0)
        tx = NULL;
    collect(m, true, &models, &used, tx, &a);
    collect(m, false, &devices, &used, tx, &a);
    if (tx && ke_store_commit(tx, NULL, NULL) < 0)
        kei_log(d->ctx, KE_LOG_DEBUG, "dmi", "what a mapper has was not noted: %s",
                ke_ctx_error(d->ctx));
    Kei__B1__MapperRegisterResponse b1;
    Kei__A1__MapperRegisterResponse a1;
    kei__b1__mapper_register_response__init(&b1);
    kei__a1__mapper_register_response__init(&a1);
    a1.n_modellist = b1.n_modellist = models.n;
    a1.n_devicelist = b1.n_devicelist = devices.n;
    b1.modellist = (Kei__B1__DeviceModel **)models.p;
    b1.devicelist = (Kei__B1__Device **)devices.p;
    a1.modellist = (Kei__A1__DeviceModel **)models.p;
    a1.devicelist = (Kei__A1__Device **)devices.p;
    kei_pb_pack(&body, m->form == KEI_DMI_A1 ? (void *)&a1 : (void *)&b1);
    if (kei_buf_ok(&body)) {
        kei_grpc_reply(w->call, kei_buf_str(&body));
        w->call = NULL;
    } else {
        kei_dmi_mapper_forget(m);
        refuse(w, KEI_GRPC_EXHAUSTED, "no memory for the answer");
    }
    ke_buf_free(&body);
    kei_arena_free(&a);
}

static void on_registered(void *user, int status)
{
    struct wait *w = user;
    struct kei_dmi *d = w->d;
    struct kei_dmi_mapper *m = d->freed ? NULL : kei_dmi_mapper_find(d, w->protocol);
    char text[400];

    if (!d->freed && status < 0) {
        snprintf(text, sizeof text, "the registration could not be stored: %.300s",
                 ke_ctx_error(d->ctx));
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "%s", text);
        refuse(w, KEI_GRPC_UNKNOWN, text);
    } else if (!d->freed && w->call) {
        if (m && w->with_data) {
            answer_data(w, m);
        } else {
            kei_grpc_reply(w->call, kei_strn("", 0));
            w->call = NULL;
        }
    }
    if (m && !kei_timer_armed(&m->timer) && !m->ask)
        kei_timer_in(&m->timer, 0); /* what was not in the answer */
    wait_free(w);
    kei_dmi_leave(d);
}

static int store_mapper(struct wait *w, const struct kei_dmi_registration *r)
{
    struct kei_dmi *d = w->d;
    struct ke_store_tx *tx = NULL;
    struct ke_buf json;
    struct kei_jw jw;
    char key[300];

    kei_buf_init(&json, d->alloc);
    kei_jw_init(&jw, &json);
    kei_jw_obj(&jw);
    kei_jw_kstr(&jw, "name", r->name);
    kei_jw_kstr(&jw, "version", r->version);
    kei_jw_kstr(&jw, "api_version", r->api_version);
    kei_jw_kstr(&jw, "protocol", r->protocol);
    kei_jw_kstr(&jw, "address", r->address);
    kei_jw_kstr(&jw, "state", r->state);
    kei_jw_kstr(&jw, "form", r->form == KEI_DMI_A1 ? "v1alpha1" : "v1beta1");
    kei_jw_obj_end(&jw);
    snprintf(key, sizeof key, KEI_DMI_MAPPER_KEY "%.253s", r->protocol);
    int x = kei_buf_ok(&json) ? ke_store_begin(&tx, d->c.store)
                              : kei_fail(d->ctx, KE_ENOMEM, "no memory for a mapper");
    if (x == 0) {
        /* refused changes make the commit fail */
        (void)!ke_store_put(tx, KEI_DMI_BUCKET, key, NULL, 0, json.p, json.n);
        x = ke_store_commit(tx, on_registered, w);
    }
    ke_buf_free(&json);
    if (x == 0)
        d->busy++;
    return x;
}

/* NULL, or what is wrong with it */
static const char *check_mapper(const Kei__B1__MapperInfo *i, char *text, size_t n)
{
    if (!i->protocol[0])
        snprintf(text, n, "fail to register mapper %.200s because the protocol is nil", i->name);
    else if (strlen(i->protocol) > TEXT_MAX_ || strlen(i->name) > TEXT_MAX_ ||
             strlen(i->version) > TEXT_MAX_ || strlen(i->api_version) > TEXT_MAX_ ||
             strlen(i->state) > TEXT_MAX_)
        snprintf(text, n, "fail to register mapper because a text is longer than %u bytes",
                 TEXT_MAX_);
    else if (i->address.len == 0 || i->address.len > PATH_MAX_ + 7 ||
             memchr(i->address.data, '\0', i->address.len) ||
             !kei_utf8_valid(kei_strn((const char *)i->address.data, i->address.len)))
        snprintf(text, n,
                 "fail to register mapper %.200s because its address is no path of a socket",
                 i->name);
    else
        return NULL;
    return text;
}

static void lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s - 'A' + 'a');
}

static void register_mapper(struct kei_dmi *d, struct kei_grpc_call *call, enum kei_dmi_form form,
                            const Kei__B1__MapperRegisterRequest *q)
{
    const Kei__B1__MapperInfo *i = q->mapper;
    char text[400], address[PATH_MAX_ + 8];
    struct kei_dmi_mapper *m = NULL;

    if (!i) {
        kei_grpc_refuse(call, KEI_GRPC_UNKNOWN, "MapperRegisterRequest has no mapper");
        return;
    }
    if (check_mapper(i, text, sizeof text)) {
        kei_grpc_refuse(call, KEI_GRPC_UNKNOWN, text);
        return;
    }
    snprintf(address, sizeof address, "%.*s", (int)i->address.len, (const char *)i->address.data);
    lower(i->protocol); /* protocols are names without case here */
    struct ke_error err = KE_ERROR_INIT;
    if (d->c.may_serve && d->c.may_serve(d->c.user, i->protocol, &err) < 0) {
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "mapper %s was not registered: %s", i->name, err.text);
        kei_grpc_refuse(call, KEI_GRPC_PRECONDITION, err.text);
        return;
    }
    const struct kei_dmi_registration r = {.name = i->name,
                                           .version = i->version,
                                           .api_version = i->api_version,
                                           .protocol = i->protocol,
                                           .address = address,
                                           .state = i->state,
                                           .form = form};
    struct wait *w = wait_new(d, call);
    if (!w)
        return;
    const struct kei_dmi_mapper *old = kei_dmi_mapper_find(d, r.protocol);
    bool again = old && old->reachable && old->registered_ms && strcmp(old->name, r.name) == 0 &&
                 strcmp(old->address, address) == 0;
    w->with_data = q->withdata;
    w->protocol = kei_strdup(d->alloc, r.protocol);
    int x = w->protocol ? kei_dmi_mapper_set(&m, d, &r)
                        : kei_fail(d->ctx, KE_ENOMEM, "no memory for a mapper");
    if (x == 0)
        x = store_mapper(w, &r);
    if (x < 0) {
        refuse(w, KEI_GRPC_UNKNOWN, ke_ctx_error(d->ctx));
        wait_free(w);
        return;
    }
    kei_timer_stop(&m->timer); /* what is in the answer is not pushed */
    m->registered_ms = ke_ctx_real_ms(d->ctx);
    kei_dmi_mapper_seen(m);
    kei_log(d->ctx, again ? KE_LOG_DEBUG : KE_LOG_INFO, "dmi",
            "mapper %s for protocol %s registered at %s", r.name, r.protocol, address);
}

/* ---- reports ---- */

static uint32_t dialect_of(const struct kei_dmi *d)
{
    return d->c.dialect_now ? d->c.dialect_now(d->c.user) : d->c.dialect;
}

/* The device as the twin knows it. Mappers up to KubeEdge 1.15 know no namespaces. */
static bool topic_of(struct kei_dmi *d, char *out, size_t n, const char *ns, const char *name,
                     const char *rest)
{
    struct ke_str other, where = kei_str(ns);

    if (!kei_dns_subdomain(kei_str(name)) || (ns[0] && !kei_dns_subdomain(kei_str(ns))))
        return false;
    const struct kei_dmi_object *o = ns[0] ? NULL : kei_dmi_device_of(d, ns, name);
    if (o)
        where = kei_str_cut(kei_str(o->key + 2), '/', &other);
    if (where.n == 0)
        where = KEI_STR("default");
    if (d->c.id_with_namespace || dialect_of(d) == KE_DIALECT_1_23)
        snprintf(out, n, "$hw/events/device/%.*s/%s/%s", KEI_FMT(where), name, rest);
    else
        snprintf(out, n, "$hw/events/device/%s/%s", name, rest);
    return true;
}

static int message_of(struct ke_msg **ret, struct kei_dmi *d, const char *topic,
                      struct ke_str payload)
{
    struct ke_msg_config c;
    struct ke_buf content;
    struct kei_jw w;

    kei_buf_init(&content, d->alloc);
    kei_jw_init(&w, &content);
    kei_jw_strv(&w, payload);
    ke_msg_config_init(&c, sizeof c);
    c.source = "dmi";
    c.group = "twin";
    c.operation = "publish";
    c.resource = topic;
    c.content = content.p;
    c.content_len = content.n;
    int r = kei_buf_ok(&content) ? ke_msg_new(ret, d->ctx, &c, kei_err(d->ctx))
                                 : kei_fail(d->ctx, KE_ENOMEM, "no memory for a report");
    ke_buf_free(&content);
    return r;
}

/* What the twin says: its reason when it refused. */
static bool is_refusal(char *text, size_t n, struct ke_msg *reply)
{
    size_t len;
    const char *content = ke_msg_content(reply, &len);
    struct ke_str v = kei_strn(content, len), reason;

    text[0] = '\0';
    if (strcmp(ke_msg_operation(reply), "error") == 0) {
        kei_json_copy(text, n, v);
        return true;
    }
    if (kei_json_type(v) == '{' && kei_json_get(v, "reason", &reason)) {
        kei_json_copy(text, n, reason);
        return true;
    }
    return false;
}

static char *replace(struct kei_dmi *d, char **at, const char *text)
{
    kei_free(d->alloc, *at);
    *at = text ? kei_strdup(d->alloc, text) : NULL; /* none: it is only shown */
    return *at;
}

/* Notes how a report of a device ended, for people. */
static void note_report(struct wait *w, const char *error)
{
    struct kei_dmi *d = w->d;
    struct kei_dmi_object *o = w->device ? kei_dmi_find(d, w->device) : NULL;

    if (!o)
        return;
    (void)replace(d, &o->error, error);
    struct kei_dmi_mapper *m = kei_dmi_mapper_find(d, o->protocol);
    if (m)
        kei_dmi_mapper_seen(m);
    if (error)
        return;
    o->report_ms = ke_ctx_real_ms(d->ctx);
    o->reports++;
    if (m)
        m->reports++;
    if (w->state)
        (void)replace(d, &o->state, w->state);
}

static void on_twin(void *user, int status, struct ke_msg *reply)
{
    struct wait *w = user;
    char text[400] = "";
    uint32_t code = KEI_GRPC_UNAVAILABLE;

    if (status == KE_ETIMEDOUT) {
        snprintf(text, sizeof text, "the device twin did not answer in time");
    } else if (status < 0) {
        snprintf(text, sizeof text, "the node is being stopped");
    } else if (is_refusal(text, sizeof text, reply)) {
        code = KEI_GRPC_UNKNOWN;
        if (!text[0])
            snprintf(text, sizeof text, "the device twin refused it");
    } else {
        code = KEI_GRPC_OK;
    }
    note_report(w, code == KEI_GRPC_OK ? NULL : text);
    if (w->call && code == KEI_GRPC_OK)
        kei_grpc_reply(w->call, kei_strn("", 0));
    else
        refuse(w, code, text);
    w->call = NULL;
    wait_free(w);
}

/* A report as it came. state NULL: of values. */
struct report {
    const char *ns, *name, *state;
};

/* Hands a payload to the twin; the call is answered when it is durable. */
static void to_twin(struct kei_dmi *d, struct kei_grpc_call *call, const struct report *report,
                    const char *topic, struct ke_buf *payload)
{
    struct wait *w = wait_new(d, call);
    struct ke_msg *m = NULL;

    if (!w)
        return;
    const struct kei_dmi_object *o = kei_dmi_device_of(d, report->ns, report->name);
    if (o)
        (void)replace(d, &w->device, o->key);
    if (report->state)
        (void)replace(d, &w->state, report->state);
    int r = kei_buf_ok(payload) ? message_of(&m, d, topic, kei_buf_str(payload))
                                : kei_fail(d->ctx, KE_ENOMEM, "no memory for a report");
    if (r == 0)
        r = ke_router_request(d->c.router, "devicetwin", m, d->c.twin_ms, on_twin, w, &w->request);
    ke_msg_unref(m);
    if (r == 0)
        return;
    if (r == KE_ENOTFOUND)
        refuse(w, KEI_GRPC_UNAVAILABLE, "this node has no device twin");
    else
        refuse(w, KEI_GRPC_EXHAUSTED, ke_ctx_error(d->ctx));
    wait_free(w);
}

static void begin_payload(struct kei_dmi *d, struct kei_jw *w, struct ke_buf *out)
{
    kei_buf_init(out, d->alloc);
    kei_jw_init(w, out);
    kei_jw_obj(w);
    kei_jw_kstr(w, "event_id", "");
    kei_jw_ki64(w, "timestamp", ke_ctx_real_ms(d->ctx));
}

static void put_side(struct kei_jw *w, const char *side, const char *value)
{
    kei_jw_key(w, side);
    kei_jw_obj(w);
    kei_jw_kstr(w, "value", value);
    kei_jw_obj_end(w);
}

/* One twin of a report; NULL: not said. False: it says nothing. */
static bool put_twin(struct kei_dmi *d, struct kei_jw *w, const char *name, const char *desired,
                     const char *reported)
{
    uint32_t dialect = dialect_of(d);
    bool expected = desired && desired[0] && (dialect == 0 || dialect >= KE_DIALECT_1_15);

    if (!name[0] || (!expected && !reported))
        return false;
    kei_jw_key(w, name);
    kei_jw_obj(w);
    if (expected)
        put_side(w, "expected", desired);
    if (reported)
        put_side(w, "actual", reported);
    kei_jw_obj_end(w);
    return true;
}

static void begin_twins(struct kei_dmi *d, struct kei_jw *w, struct ke_buf *out)
{
    begin_payload(d, w, out);
    kei_jw_key(w, "twin");
    kei_jw_obj(w);
}

/* n: how many of them say something. Frees the payload. */
static void end_twins(struct kei_dmi *d, struct kei_grpc_call *call, const struct report *report,
                      const char *topic, struct kei_jw *w, struct ke_buf *payload, size_t n)
{
    kei_jw_obj_end(w);
    kei_jw_obj_end(w);
    if (n)
        to_twin(d, call, report, topic, payload);
    else
        kei_grpc_refuse(call, KEI_GRPC_UNKNOWN,
                        "ReportDeviceStatusRequest does not have twin data");
    ke_buf_free(payload);
}

static void report_b1(struct kei_dmi *d, struct kei_grpc_call *call,
                      const Kei__B1__ReportDeviceStatusRequest *q)
{
    const struct report report = {q->devicenamespace, q->devicename, NULL};
    const Kei__B1__DeviceStatus *s = q->reporteddevice;
    char topic[700];
    struct ke_buf payload;
    struct kei_jw w;
    size_t n = 0;

    if (!topic_of(d, topic, sizeof topic, q->devicenamespace, q->devicename, "twin/update")) {
        kei_grpc_refuse(call, KEI_GRPC_UNKNOWN, "ReportDeviceStatusRequest names no device");
        return;
    }
    const struct kei_dmi_object *o = kei_dmi_device_of(d, q->devicenamespace, q->devicename);
    begin_twins(d, &w, &payload);
    for (size_t i = 0; s && i < s->n_twins; i++) {
        const Kei__B1__Twin *t = s->twins[i];
        /* mappers have to say something, also where nothing is desired */
        bool observed = t->observeddesired && kei_dmi_desires(o, t->propertyname);
        n += put_twin(d, &w, t->propertyname, observed ? t->observeddesired->value : NULL,
                      t->reported ? t->reported->value : NULL);
    }
    end_twins(d, call, &report, topic, &w, &payload, n);
}

static void state_payload(struct kei_dmi *d, struct ke_buf *out, const char *state)
{
    struct kei_jw w;

    begin_payload(d, &w, out);
    kei_jw_kstr(&w, "state", state);
    kei_jw_obj_end(&w);
}

/* v1alpha1 tells the state besides; nobody waits for it. */
static void report_a1(struct kei_dmi *d, struct kei_grpc_call *call,
                      const Kei__A1__ReportDeviceStatusRequest *q)
{
    const Kei__A1__DeviceStatus *s = q->reporteddevice;
    bool state = s && s->state[0];
    const struct report report = {"", q->devicename, state ? s->state : NULL};
    char topic[700];
    struct ke_buf payload;
    struct ke_msg *m = NULL;
    struct kei_jw w;
    size_t n = 0;

    if (!topic_of(d, topic, sizeof topic, "", q->devicename, "state/update")) {
        kei_grpc_refuse(call, KEI_GRPC_UNKNOWN, "ReportDeviceStatusRequest names no device");
        return;
    }
    if (state && s->n_twins) {
        state_payload(d, &payload, s->state);
        if (kei_buf_ok(&payload) && message_of(&m, d, topic, kei_buf_str(&payload)) == 0 &&
            ke_router_send_group(d->c.router, "twin", m, NULL) < 0)
            kei_log(d->ctx, KE_LOG_DEBUG, "dmi", "state of %s was not taken", q->devicename);
        ke_msg_unref(m);
        ke_buf_free(&payload);
    } else if (state) {
        state_payload(d, &payload, s->state);
        to_twin(d, call, &report, topic, &payload);
        ke_buf_free(&payload);
        return;
    }
    (void)topic_of(d, topic, sizeof topic, "", q->devicename, "twin/update");
    begin_twins(d, &w, &payload);
    for (size_t i = 0; s && i < s->n_twins; i++) {
        const Kei__A1__Twin *t = s->twins[i];
        n += put_twin(d, &w, t->propertyname, t->desired ? t->desired->value : NULL,
                      t->reported ? t->reported->value : NULL);
    }
    end_twins(d, call, &report, topic, &w, &payload, n);
}

static void report_states(struct kei_dmi *d, struct kei_grpc_call *call,
                          const Kei__B1__ReportDeviceStatesRequest *q)
{
    const struct report report = {q->devicenamespace, q->devicename, q->state};
    char topic[700];
    struct ke_buf payload;

    if (!q->state[0] || strlen(q->state) > TEXT_MAX_ ||
        !topic_of(d, topic, sizeof topic, q->devicenamespace, q->devicename, "state/update")) {
        kei_grpc_refuse(call, KEI_GRPC_UNKNOWN, "ReportDeviceStatesRequest is invalid data");
        return;
    }
    state_payload(d, &payload, q->state);
    to_twin(d, call, &report, topic, &payload);
    ke_buf_free(&payload);
}

/* ---- calls ---- */

enum method { REGISTER, REPORT_B1, REPORT_A1, STATES };

static void dispatch(struct kei_dmi *d, struct kei_grpc_call *call, enum method what,
                     enum kei_dmi_form form, void *q)
{
    Kei__B1__MapperRegisterRequest *reg = q;
    Kei__B1__ReportDeviceStatusRequest *b1 = q;
    Kei__A1__ReportDeviceStatusRequest *a1 = q;
    Kei__B1__ReportDeviceStatesRequest *states = q;
    bool may = may_call(d);

    switch (what) {
    case REGISTER:
        if (may)
            register_mapper(d, call, form, reg);
        else
            too_many(call, "register mapper", reg->mapper ? reg->mapper->name : "");
        break;
    case REPORT_B1:
        if (may)
            report_b1(d, call, b1);
        else
            too_many(call, "report device status", b1->devicename);
        break;
    case REPORT_A1:
        if (may)
            report_a1(d, call, a1);
        else
            too_many(call, "report device status", a1->devicename);
        break;
    case STATES:
        if (may)
            report_states(d, call, states);
        else
            too_many(call, "report device states", states->devicename);
        break;
    }
}

static void on_call(void *user, struct kei_grpc_call *call, struct ke_str path,
                    struct ke_str message)
{
    static const struct {
        const char *path;
        const ProtobufCMessageDescriptor *d;
        enum kei_dmi_form form;
        enum method what;
    } methods[] = {
        {"/v1beta1.DeviceManagerService/MapperRegister",
         &kei__b1__mapper_register_request__descriptor, KEI_DMI_B1, REGISTER},
        {"/v1beta1.DeviceManagerService/ReportDeviceStatus",
         &kei__b1__report_device_status_request__descriptor, KEI_DMI_B1, REPORT_B1},
        {"/v1beta1.DeviceManagerService/ReportDeviceStates",
         &kei__b1__report_device_states_request__descriptor, KEI_DMI_B1, STATES},
        {"/v1alpha1.DeviceManagerService/MapperRegister",
         &kei__b1__mapper_register_request__descriptor, KEI_DMI_A1, REGISTER}, /* the same */
        {"/v1alpha1.DeviceManagerService/ReportDeviceStatus",
         &kei__a1__report_device_status_request__descriptor, KEI_DMI_A1, REPORT_A1},
    };
    struct kei_dmi *d = user;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_arena a;
    void *q = NULL;

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (!kei_str_is(path, methods[i].path))
            continue;
        kei_arena_init(&a, d->alloc, MEMORY);
        if (kei_pb_unpack(&q, methods[i].d, message, &a, &err) == 0)
            dispatch(d, call, methods[i].what, methods[i].form, q);
        else
            kei_grpc_refuse(call, err.code == KE_ENOMEM ? KEI_GRPC_EXHAUSTED : KEI_GRPC_INTERNAL,
                            err.text);
        kei_arena_free(&a);
        return;
    }
    kei_grpc_refuse_path(call, path,
                         "/v1beta1.DeviceManagerService/ /v1alpha1.DeviceManagerService/");
}

int kei_dmi_serve(struct kei_dmi *d)
{
    static const struct kei_grpc_server_ops ops = {on_call, on_gone};
    const struct kei_grpc_server_config c = {
        .listener = {.unix_path = d->c.socket, .max_streams = 4 * d->c.max_mappers},
        .max_message = MAX_MESSAGE};

    return kei_grpc_server_new(&d->server, d->ctx, &c, &ops, d);
}
