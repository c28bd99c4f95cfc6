/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event bus: a module on the router (eventbus, group user) and a client of the server inside,
 * of a broker outside, or of both. Owns its subscriptions, and the messages for the router that its
 * queues did not take yet. Loop thread.
 */
#include <stdio.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "mqtt/codec.h"
#include "mqtt/eventbus_priv.h"
#include "mqtt/mqtt.h"

#define BUCKET "sub_topics"
#define CLOUD_SUBS 1000u /* subscriptions of the cloud */
#define KEY_MAX 1024u    /* of the store */
#define PUMP_TURN 64u
#define CONFIG_MIN (offsetof(struct ke_eventbus_config, qos))

struct ke_eventbus_sub {
    struct kei_link link;
    struct ke_eventbus *b;
    char *filter;
    uint32_t qos;
    ke_eventbus_fn fn; /* NULL: the bus's own, to be routed */
    void *user;
    struct ke_mqtt_sub *inner;
    bool cloud, dead;
};

struct upload {
    struct kei_link link;
    struct ke_msg *msg;
    bool twin;
    size_t size;
};

struct ke_eventbus {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct kei_arena arena;
    struct ke_eventbus_config c;
    struct ke_module *module;
    struct kei_mqtt_local *local;
    struct kei_external *ext;
    struct kei_link subs;
    uint32_t n_cloud, depth;
    struct kei_link uploads;
    uint32_t n_uploads;
    uint64_t upload_bytes;
    struct kei_timer pump;
    struct kei_bus_modules modules;
    struct kei_bus_push *push;
    struct ke_eventbus_status st;
    bool running, ext_up, loading, freed;
    int64_t refusal_told_ms;
    bool unserved_told;
};

/* ---- subscriptions ---- */

static void sweep(struct ke_eventbus *b)
{
    if (b->depth > 0)
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &b->subs)
    {
        struct ke_eventbus_sub *s = KEI_OF(l, struct ke_eventbus_sub, link);
        if (!s->dead)
            continue;
        kei_list_remove(&s->link);
        kei_free(b->alloc, s->filter);
        kei_free(b->alloc, s);
    }
}

static struct ke_eventbus_sub *find_own(struct ke_eventbus *b, const char *filter)
{
    KEI_LIST_EACH(l, &b->subs)
    {
        struct ke_eventbus_sub *s = KEI_OF(l, struct ke_eventbus_sub, link);
        if (!s->dead && !s->fn && strcmp(s->filter, filter) == 0)
            return s;
    }
    return NULL;
}

/* Messages to be routed are routed once, however many of the bus's own filters match. */
static bool is_first(const struct ke_eventbus_sub *s, struct ke_str topic)
{
    KEI_LIST_EACH(l, &s->b->subs)
    {
        const struct ke_eventbus_sub *o = KEI_OF(l, struct ke_eventbus_sub, link);
        if (!o->dead && !o->fn && kei_mqtt_match(kei_str(o->filter), topic))
            return o == s;
    }
    return false;
}

static void route(struct ke_eventbus *b, struct ke_str topic, struct ke_str payload);

static void deliver(struct ke_eventbus_sub *s, const struct ke_eventbus_message *m)
{
    struct ke_str topic = kei_mqtt_view(m->topic);
    if (s->dead)
        return;
    if (s->fn)
        s->fn(s->user, m);
    else if (is_first(s, topic))
        route(s->b, topic, kei_mqtt_view(m->payload));
}

static void on_local(void *user, const struct ke_mqtt_message *msg)
{
    struct ke_eventbus_sub *s = user;
    struct ke_eventbus *b = s->b;
    struct ke_eventbus_message m = {.size = sizeof m,
                                    .topic = msg->topic,
                                    .payload = msg->payload,
                                    .qos = msg->qos,
                                    .retain = msg->retain};
    b->depth++;
    deliver(s, &m);
    b->depth--;
    sweep(b);
}

static void on_external(void *user, const struct ke_eventbus_message *m)
{
    struct ke_eventbus *b = user;
    b->depth++;
    KEI_LIST_EACH(l, &b->subs)
    {
        struct ke_eventbus_sub *s = KEI_OF(l, struct ke_eventbus_sub, link);
        if (!s->dead && kei_mqtt_match(kei_str(s->filter), kei_mqtt_view(m->topic)))
            deliver(s, m);
    }
    b->depth--;
    sweep(b);
}

static int subscribe_local(struct ke_eventbus_sub *s)
{
    struct ke_eventbus *b = s->b;
    struct ke_mqtt_subscribe o = {.size = sizeof o,
                                  .filter = kei_mqtt_give(kei_str(s->filter)),
                                  .qos = s->qos,
                                  .flags = KE_MQTT_SUB_NO_LOCAL,
                                  .message = on_local};
    if (s->fn) /* the firmware hears what the firmware publishes */
        o.flags = 0;
    else
        o.flags |= KE_MQTT_SUB_NO_RETAINED;
    return b->local ? kei_mqtt_local_subscribe(&s->inner, b->local, &o, s, kei_err(b->ctx)) : 0;
}

static int add_sub(struct ke_eventbus_sub **ret, struct ke_eventbus *b, const char *filter,
                   uint32_t qos, ke_eventbus_fn fn, void *user)
{
    struct ke_eventbus_sub *s = kei_zalloc(b->alloc, sizeof *s);
    char *own = kei_strdup(b->alloc, filter);
    if (!s || !own) {
        kei_free(b->alloc, s);
        kei_free(b->alloc, own);
        return kei_fail(b->ctx, KE_ENOMEM, "out of memory for subscription %s", filter);
    }
    *s = (struct ke_eventbus_sub){.b = b, .filter = own, .qos = qos, .fn = fn, .user = user};
    kei_list_add_tail(&b->subs, &s->link);
    int r = subscribe_local(s);
    if (r < 0) {
        s->dead = true;
        sweep(b);
        return r;
    }
    if (b->ext)
        kei_external_subscribe(b->ext, filter, qos);
    *ret = s;
    return 0;
}

static void remove_sub(struct ke_eventbus_sub *s)
{
    struct ke_eventbus *b = s->b;
    bool shared = false;
    s->dead = true;
    ke_mqtt_unsubscribe(s->inner);
    s->inner = NULL;
    KEI_LIST_EACH(l, &b->subs)
    {
        const struct ke_eventbus_sub *o = KEI_OF(l, struct ke_eventbus_sub, link);
        shared |= !o->dead && strcmp(o->filter, s->filter) == 0;
    }
    if (b->ext && !shared)
        kei_external_unsubscribe(b->ext, s->filter);
    sweep(b);
}

int ke_eventbus_subscribe(struct ke_eventbus_sub **ret, struct ke_eventbus *b, const char *filter,
                          uint32_t qos, ke_eventbus_fn fn, void *user)
{
    if (!b)
        return KE_EINVAL;
    if (!ret || !filter || !fn || qos > 2 || !kei_mqtt_filter_ok(kei_str(filter)))
        return kei_fail(
            b->ctx, KE_EINVAL,
            "a subscription needs a topic filter, QoS 0 to 2, a function, and a place to "
            "return it");
    return add_sub(ret, b, filter, qos, fn, user);
}

void ke_eventbus_unsubscribe(struct ke_eventbus_sub *s)
{
    if (s && !s->dead)
        remove_sub(s);
}

/* ---- from MQTT to the router ---- */

static void refused(struct ke_eventbus *b, struct ke_str topic, const char *why)
{
    int64_t now = ke_ctx_mono_ms(b->ctx);
    bool tell = b->st.refused++ == 0 || now - b->refusal_told_ms >= 10000;
    if (!tell)
        return;
    b->refusal_told_ms = now;
    kei_log(b->ctx, KE_LOG_WARN, "mqtt", "a message on %.*s was left out (%llu so far): %s",
            KEI_FMT(topic), (unsigned long long)b->st.refused, why);
}

/* A node without that module is no fault, and devices go on: told once, counted always. */
static void unserved(struct ke_eventbus *b, bool twin)
{
    b->st.refused++;
    if (!b->unserved_told)
        kei_log(b->ctx, KE_LOG_INFO, "mqtt",
                "messages of devices for %s are left out: it is not there",
                twin ? "the device twin" : "the cloud");
    b->unserved_told = true;
}

static void drop_upload(struct ke_eventbus *b, struct upload *u)
{
    kei_list_remove(&u->link);
    b->n_uploads--;
    b->upload_bytes -= u->size;
    ke_msg_unref(u->msg);
    kei_free(b->alloc, u);
}

static void on_pump(struct kei_timer *t)
{
    struct ke_eventbus *b = KEI_OF(t, struct ke_eventbus, pump);
    struct ke_error err = KE_ERROR_INIT;
    for (uint32_t i = 0; i < PUMP_TURN && !kei_list_empty(&b->uploads); i++) {
        struct upload *u = KEI_OF(b->uploads.next, struct upload, link);
        int r = u->twin ? ke_router_send_group(b->c.router, "twin", u->msg, &err)
                        : ke_router_send(b->c.router, "websocket", u->msg, &err);
        if (r == KE_ELIMIT || r == KE_ENOMEM) {
            kei_timer_in(&b->pump, 5); /* its queue is full: it drains with the turns */
            return;
        }
        if (r == KE_ENOTFOUND)
            unserved(b, u->twin);
        else if (r < 0)
            refused(b, kei_str(ke_msg_resource(u->msg)), err.text);
        else if (r == 0 && u->twin)
            b->st.to_twin++;
        else if (r == 0)
            b->st.to_cloud++;
        drop_upload(b, u);
    }
    if (!kei_list_empty(&b->uploads))
        kei_timer_in(&b->pump, 0);
}

static void route(struct ke_eventbus *b, struct ke_str topic, struct ke_str payload)
{
    struct ke_error err = KE_ERROR_INIT;
    bool twin = kei_eventbus_route(topic) == KEI_ROUTE_TWIN;
    size_t size = sizeof(struct upload) + topic.n + payload.n;
    struct ke_msg *m = NULL;
    if (!b->c.router)
        return;
    if (b->n_uploads >= b->c.max_messages || size > b->c.max_bytes ||
        b->upload_bytes > b->c.max_bytes - size) {
        refused(b, topic,
                "too much waits for the router: max_messages or max_bytes of the event bus");
        return;
    }
    struct upload *u = kei_zalloc(b->alloc, sizeof *u);
    if (!u || kei_bus_message(&m, b->ctx, twin ? "twin" : "user", twin ? "publish" : "upload",
                              topic, payload, &err) < 0) {
        kei_free(b->alloc, u);
        refused(b, topic, u ? err.text : "out of memory");
        return;
    }
    *u = (struct upload){.msg = m, .twin = twin, .size = size};
    kei_list_add_tail(&b->uploads, &u->link);
    b->n_uploads++;
    b->upload_bytes += size;
    if (!kei_timer_armed(&b->pump))
        kei_timer_in(&b->pump, 0);
}

/* ---- from the router, or the firmware, to MQTT ---- */

static int publish(struct ke_eventbus *b, struct ke_str topic, struct ke_str payload, uint32_t qos,
                   uint32_t retain, uint32_t ext_qos, uint32_t ext_retain)
{
    struct ke_mqtt_publish p = {.size = sizeof p,
                                .topic = kei_mqtt_give(topic),
                                .payload = kei_mqtt_give(payload),
                                .qos = qos,
                                .retain = retain};
    int r = b->local ? kei_mqtt_local_publish(b->local, &p, NULL, NULL, kei_err(b->ctx)) : 0;
    int x = b->ext ? kei_external_publish(b->ext, topic, payload, ext_qos, ext_retain) : 0;
    b->st.published += r == 0 && x == 0;
    b->st.refused += r == KE_ELIMIT || x == KE_ELIMIT;
    return r < 0 ? r : x;
}

int ke_eventbus_publish(struct ke_eventbus *b, const char *topic, const void *payload, size_t n,
                        uint32_t qos, uint32_t retain)
{
    if (!b)
        return KE_EINVAL;
    if (!topic || !kei_mqtt_topic_ok(kei_str(topic)) || (!payload && n) || qos > 2)
        return kei_fail(b->ctx, KE_EINVAL,
                        "\"%s\" is no topic, or the QoS is above 2, or the payload is "
                        "missing",
                        topic ? topic : "");
    return publish(b, kei_str(topic), kei_strn(payload, n), qos, retain, qos, retain);
}

static void remember(struct ke_eventbus *b, const char *topic, bool add)
{
    struct ke_store_tx *tx = NULL;
    if (!b->c.store)
        return;
    int r = ke_store_begin(&tx, b->c.store);
    if (r == 0)
        r = add ? ke_store_put(tx, BUCKET, topic, NULL, 0, "1", 1)
                : ke_store_delete(tx, BUCKET, topic, NULL);
    if (r < 0)
        ke_store_abort(tx);
    else
        r = ke_store_commit(tx, NULL, NULL);
    if (r < 0)
        kei_log(b->ctx, KE_LOG_WARN, "mqtt", "subscription %s was not kept: %s", topic,
                ke_ctx_error(b->ctx));
}

static void cloud_subscribe(struct ke_eventbus *b, const char *topic, bool keep)
{
    struct ke_eventbus_sub *s = NULL;
    if (find_own(b, topic))
        return;
    if (b->n_cloud >= CLOUD_SUBS || strlen(topic) > KEY_MAX) {
        kei_log(
            b->ctx, KE_LOG_WARN, "mqtt",
            "subscription %.100s of the cloud was refused: %u of them, and %u bytes, are the limit",
            topic, CLOUD_SUBS, KEY_MAX);
        return;
    }
    if (add_sub(&s, b, topic, 1, NULL, NULL) < 0) {
        kei_log(b->ctx, KE_LOG_WARN, "mqtt", "subscription %s of the cloud failed: %s", topic,
                ke_ctx_error(b->ctx));
        return;
    }
    s->cloud = true;
    b->n_cloud++;
    if (keep)
        remember(b, topic, true);
}

static void cloud_unsubscribe(struct ke_eventbus *b, const char *topic)
{
    struct ke_eventbus_sub *s = find_own(b, topic);
    if (!s || !s->cloud)
        return;
    b->n_cloud--;
    remember(b, topic, false);
    remove_sub(s);
}

/* A push to an address that is ours; without a server inside the broker outside is the node's. */
static int push_own(void *user, const struct kei_push_order *o)
{
    struct ke_eventbus *b = user;
    struct ke_mqtt_publish p = {.size = sizeof p,
                                .topic = kei_mqtt_give(o->topic),
                                .payload = kei_mqtt_give(o->payload),
                                .qos = o->qos,
                                .retain = o->retain};
    int r = b->local ? kei_mqtt_local_publish(b->local, &p, NULL, NULL, kei_err(b->ctx))
                     : kei_external_publish(b->ext, o->topic, o->payload, o->qos, o->retain);
    b->st.published += r == 0;
    b->st.refused += r == KE_ELIMIT;
    return r;
}

static void on_order(void *user, struct ke_msg *m)
{
    struct ke_eventbus *b = user;
    if (!strcmp(ke_msg_operation(m), "push") && !strcmp(ke_msg_group(m), "device")) {
        kei_bus_push(b->push, m);
        return;
    }
    struct kei_eventbus_order o;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_arena a;
    kei_arena_init(&a, b->alloc, 0);
    int r = kei_eventbus_order_read(&o, m, b->c.node_name, &a, &err);
    bool device = strcmp(ke_msg_group(m), "device") == 0; /* a module of ours, not the cloud */
    if (r == 0 && device && o.what == KEI_ORDER_SUBSCRIBE) {
        r = kei_bus_modules_subscribe(&b->modules, ke_msg_source(m), o.topic, &err);
    } else if (r == 0 && device && o.what == KEI_ORDER_UNSUBSCRIBE) {
        kei_bus_modules_unsubscribe(&b->modules, ke_msg_source(m), o.topic);
    } else if (r == 0 && o.what == KEI_ORDER_PUBLISH) {
        r = publish(b, kei_str(o.topic), o.payload, b->c.qos, b->c.retain, 1, 0);
        if (r < 0)
            kei_error(&err, r, "%s", ke_ctx_error(b->ctx));
    } else if (r == 0 && o.what == KEI_ORDER_SUBSCRIBE) {
        cloud_subscribe(b, o.topic, true);
    } else if (r == 0 && o.what == KEI_ORDER_UNSUBSCRIBE) {
        cloud_unsubscribe(b, o.topic);
    }
    if (r < 0)
        kei_log(b->ctx, KE_LOG_WARN, "mqtt", "message %s (%s %s) was not published: %s",
                ke_msg_id(m), ke_msg_operation(m), ke_msg_resource(m), err.text);
    kei_arena_free(&a);
}

void kei_eventbus_connection(struct ke_eventbus *b, bool up, bool tell)
{
    struct ke_str text = up ? KEI_STR("cloud_connected") : KEI_STR("cloud_disconnected");
    if (!b || !(tell || (b->c.flags & KE_EVENTBUS_CONNECTION)))
        return;
    if (publish(b, KEI_STR("node/connection"), text, b->c.qos, 0, 1, 0) < 0)
        kei_log(b->ctx, KE_LOG_DEBUG, "mqtt", "node/connection was not published: %s",
                ke_ctx_error(b->ctx));
}

/* ---- life ---- */

static void free_now(struct ke_eventbus *b)
{
    kei_arena_free(&b->arena);
    kei_free(b->alloc, b);
}

static void on_kept(void *user, int status, const struct ke_store_item *item)
{
    struct ke_eventbus *b = user;
    if (item) {
        if (!b->freed)
            cloud_subscribe(b, item->key, false);
        return;
    }
    b->loading = false;
    if (b->freed)
        free_now(b);
    else if (status < 0)
        kei_log(b->ctx, KE_LOG_WARN, "mqtt", "subscriptions of the cloud were not read: %s",
                ke_ctx_error(b->ctx));
}

static void on_state(void *user, bool up, const char *text)
{
    struct ke_eventbus *b = user;
    b->ext_up = up;
    b->st.state = up ? KE_EVENTBUS_CONNECTED : KE_EVENTBUS_WAITING;
    if (!up) {
        b->st.last_error = KE_ECONN;
        snprintf(b->st.error_text, sizeof b->st.error_text, "%s", text);
        return;
    }
    b->st.connects++;
    KEI_LIST_EACH(l, &b->subs)
    {
        struct ke_eventbus_sub *s = KEI_OF(l, struct ke_eventbus_sub, link);
        if (!s->dead)
            kei_external_subscribe(b->ext, s->filter, s->qos);
    }
}

static int make_external(struct ke_eventbus *b, const struct kei_paho_module *module)
{
    const struct ke_eventbus_config *c = &b->c;
    bool secure = strncmp(c->url, "ssl:", 4) == 0 || strncmp(c->url, "wss:", 4) == 0 ||
                  strncmp(c->url, "mqtts:", 6) == 0;
    struct kei_external_config x = {.paho = {.url = c->url,
                                             .client_id = c->client_id,
                                             .user_name = c->user_name,
                                             .password = c->user_name ? c->password : NULL,
                                             .ca_file = c->ca_file,
                                             .cert_file = c->cert_file,
                                             .key_file = c->key_file,
                                             .will_topic = c->will_topic,
                                             .will_payload = c->will_payload,
                                             .will_qos = (int)c->will_qos,
                                             .will_retain = c->will_retain != 0,
                                             .keepalive_s = (int)c->keepalive,
                                             .connect_s = 30,
                                             .clean = !(c->flags & KE_EVENTBUS_KEEP_SESSION),
                                             .tls = secure,
                                             .verify = !(c->flags & KE_EVENTBUS_TLS_NO_VERIFY)},
                                    .retry_min_ms = c->retry_min_ms,
                                    .retry_max_ms = c->retry_max_ms,
                                    .max_messages = c->max_messages,
                                    .max_bytes = c->max_bytes,
                                    .state = on_state,
                                    .message = on_external,
                                    .user = b};
    int r = 0;
    if ((c->flags & KE_EVENTBUS_TLS) && !secure)
        return kei_fail(b->ctx, KE_EINVAL,
                        "broker %s: TLS is asked for, but the URL is not ssl:// or "
                        "wss://",
                        c->url);
    if (!module)
        r = kei_paho_load(&module, b->ctx, c->module);
    return r < 0 ? r : kei_external_new(&b->ext, b->ctx, module, &x);
}

static int copy_config(struct ke_eventbus *b, const struct ke_eventbus_config *from)
{
    struct ke_eventbus_config *c = &b->c;
    struct ke_error *err = kei_err(b->ctx);
    const char **strings[] = {&c->node_name,  &c->url,          &c->client_id, &c->user_name,
                              &c->password,   &c->ca_file,      &c->cert_file, &c->key_file,
                              &c->will_topic, &c->will_payload, &c->module};
    int r = kei_abi_in(c, sizeof *c, from, CONFIG_MIN, "struct ke_eventbus_config", err);
    if (r < 0)
        return r;
    if (!c->node_name || !c->node_name[0])
        return kei_error(err, KE_EINVAL, "ke_eventbus_config.node_name is missing");
    if (c->mode > KE_EVENTBUS_EXTERNAL || c->qos > 2 || c->will_qos > 2 || c->keepalive > 65535)
        return kei_error(err, KE_EINVAL,
                         "ke_eventbus_config: mode, qos, will_qos or keepalive is out of range");
    if (!c->server && c->mode != KE_EVENTBUS_EXTERNAL)
        return kei_error(err, KE_EINVAL, "ke_eventbus_config.server is missing: mode %u needs it",
                         c->mode);
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        if (!*strings[i])
            continue;
        *strings[i] = (*strings[i])[0] ? kei_arena_strdup(&b->arena, kei_str(*strings[i])) : "";
        if (!*strings[i])
            return kei_error(err, KE_ENOMEM, "out of memory for the event bus");
        if (!(*strings[i])[0])
            *strings[i] = NULL;
    }
    c->url = c->url ? c->url : "tcp://127.0.0.1:1883";
    if (!c->client_id)
        c->client_id = kei_arena_printf(&b->arena, "hub-client-%s", c->node_name);
    c->keepalive = c->keepalive ? c->keepalive : 60;
    c->retry_min_ms = c->retry_min_ms ? c->retry_min_ms : 1000;
    c->retry_max_ms = c->retry_max_ms > c->retry_min_ms ? c->retry_max_ms
                      : c->retry_min_ms > 60000         ? c->retry_min_ms
                                                        : 60000;
    c->max_messages = c->max_messages ? c->max_messages : 1000;
    c->max_bytes = c->max_bytes ? c->max_bytes : (uint64_t)16 << 20;
    return c->client_id ? 0 : kei_error(err, KE_ENOMEM, "out of memory for the event bus");
}

void ke_eventbus_config_init(struct ke_eventbus_config *c, size_t size)
{
    kei_abi_init(c, size);
}

static int set_up(struct ke_eventbus *b, const struct ke_eventbus_config *c,
                  const struct kei_paho_module *module)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_order};
    int r = copy_config(b, c);
    if (r == 0 && b->c.mode != KE_EVENTBUS_EXTERNAL)
        r = kei_mqtt_local_new(&b->local, b->c.server, "eventbus");
    if (r == 0 && b->c.mode != KE_EVENTBUS_INTERNAL)
        r = make_external(b, module);
    struct kei_bus_push_config pc = {
        .router = b->c.router, .server = b->c.server, .own = push_own, .user = b};
    if (r == 0 && b->c.router)
        r = kei_bus_push_new(&b->push, b->ctx, &pc);
    if (r == 0 && b->c.router)
        r = ke_router_add(&b->module, b->c.router, "eventbus", "user", &ops, b);
    return r;
}

int kei_eventbus_new_with(struct ke_eventbus **ret, struct ke_ctx *ctx,
                          const struct ke_eventbus_config *c, const struct kei_paho_module *module)
{
    if (!ctx)
        return KE_EINVAL;
    if (!ret || !c)
        return kei_fail(ctx, KE_EINVAL,
                        "an event bus needs a configuration and a place to return it");
    struct ke_eventbus *b = kei_zalloc(kei_ctx_alloc(ctx), sizeof *b);
    if (!b)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the event bus");
    b->ctx = ctx;
    b->alloc = kei_ctx_alloc(ctx);
    b->st.size = sizeof b->st;
    kei_list_init(&b->subs);
    kei_list_init(&b->uploads);
    kei_arena_init(&b->arena, b->alloc, 0);
    kei_timer_init(ctx, &b->pump, on_pump);
    int r = set_up(b, c, module);
    if (r < 0) {
        ke_eventbus_free(b);
        return r;
    }
    kei_bus_modules_init(&b->modules, ctx, b, b->c.router);
    *ret = b;
    return 0;
}

int ke_eventbus_new(struct ke_eventbus **ret, struct ke_ctx *ctx,
                    const struct ke_eventbus_config *c)
{
    return kei_eventbus_new_with(ret, ctx, c, NULL);
}

int ke_eventbus_start(struct ke_eventbus *b)
{
    struct ke_eventbus_sub *s;
    if (!b)
        return KE_EINVAL;
    if (b->running)
        return kei_fail(b->ctx, KE_ESTATE, "the event bus was started already");
    for (uint32_t i = 0; b->c.router && kei_eventbus_filter(i); i++) {
        int r = add_sub(&s, b, kei_eventbus_filter(i), 1, NULL, NULL);
        if (r < 0)
            return r;
    }
    b->running = true;
    b->st.state = b->ext ? KE_EVENTBUS_WAITING : KE_EVENTBUS_CONNECTED;
    if (b->ext)
        kei_external_start(b->ext);
    if (b->c.store && b->c.router) {
        int r = ke_store_list(b->c.store, BUCKET, NULL, CLOUD_SUBS, on_kept, b);
        if (r < 0)
            return r;
        b->loading = true;
    }
    return 0;
}

void ke_eventbus_free(struct ke_eventbus *b)
{
    if (!b)
        return;
    b->freed = true;
    ke_module_remove(b->module);
    kei_bus_push_free(b->push);
    b->push = NULL;
    kei_bus_modules_fini(&b->modules);
    kei_external_free(b->ext);
    b->ext = NULL;
    KEI_LIST_EACH_SAFE(l, tmp, &b->subs)
    {
        struct ke_eventbus_sub *s = KEI_OF(l, struct ke_eventbus_sub, link);
        ke_mqtt_unsubscribe(s->inner);
        kei_list_remove(&s->link);
        kei_free(b->alloc, s->filter);
        kei_free(b->alloc, s);
    }
    kei_mqtt_local_free(b->local);
    kei_timer_fini(&b->pump);
    KEI_LIST_EACH_SAFE(l, tmp, &b->uploads)
    drop_upload(b, KEI_OF(l, struct upload, link));
    if (!b->loading) /* else with the end of the list */
        free_now(b);
}

int ke_eventbus_status(struct ke_eventbus *b, struct ke_eventbus_status *ret, size_t size)
{
    if (!b || !ret)
        return KE_EINVAL;
    struct ke_eventbus_status st = b->st;
    st.waiting = b->ext ? kei_external_waiting(b->ext) : 0;
    st.refused += b->modules.dropped;
    return kei_abi_out(ret, size, &st, sizeof st,
                       offsetof(struct ke_eventbus_status, to_cloud), "struct ke_eventbus_status",
                       kei_err(b->ctx));
}
