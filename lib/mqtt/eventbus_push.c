/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What modules push to a server named by its address: to our own server, to the broker outside, or
 * over a connection that is made for it, and ended when it is idle or lost. Each push is a request
 * of the router and answered once: taken, or why not; the requester decides whether to try again.
 * Owns the connections and a reference of each request that waits. Loop thread.
 */
#include <stdio.h>

#include "base/error.h"
#include "base/json.h"
#include "mqtt/client_link.h"
#include "mqtt/eventbus_priv.h"
#include "mqtt/mqtt.h"
#include "mqtt/server.h"

#define PEERS_MAX 64u
#define WAIT_MAX 64u /* of one peer; as many are out at once */
#define IDLE_MS 60000
#define KEEPALIVE_S 15u
#define DEFAULT_PORT 1883u

struct peer {
    struct kei_link link;
    struct kei_bus_push *g;
    struct kei_mqtt_host host;
    struct kei_mqtt_link mqtt;
    struct kei_timer end; /* idle, or lost */
    struct kei_link wait; /* struct push, in order */
    uint32_t n;
    bool lost;
    char id[32], name[];
};

struct push {
    struct kei_link link;
    struct ke_msg *request;
    struct ke_str payload;
    uint8_t qos, retain;
    bool sent;
    char bytes[];
};

struct kei_bus_push {
    struct ke_ctx *ctx;
    struct kei_bus_push_config c;
    struct kei_link peers;
    uint32_t n;
};

/* ---- answers ---- */

static void answer(struct kei_bus_push *g, struct ke_msg *m, int status, const char *text)
{
    struct ke_msg_config c;
    struct ke_msg *reply = NULL;
    struct ke_buf b;
    struct kei_jw w;

    kei_buf_init(&b, kei_ctx_alloc(g->ctx));
    kei_jw_init(&w, &b);
    kei_jw_strv(&w, status < 0 ? kei_str(text) : KEI_STR("OK"));
    ke_msg_config_init(&c, sizeof c);
    c.source = "eventbus";
    c.group = "device";
    c.parent_id = ke_msg_id(m);
    c.operation = status < 0 ? "error" : "response";
    c.resource = ke_msg_resource(m);
    c.content = b.p;
    c.content_len = b.n;
    /* without memory, and for one who does not wait any more, there is none: it times out */
    if (kei_buf_ok(&b) && ke_msg_new(&reply, g->ctx, &c, NULL) == 0)
        (void)!ke_router_respond(g->c.router, reply, NULL);
    ke_msg_unref(reply);
    ke_buf_free(&b);
}

static void push_end(struct peer *p, struct push *u, int status, const char *text)
{
    kei_list_remove(&u->link);
    p->n--;
    answer(p->g, u->request, status, text);
    ke_msg_unref(u->request);
    kei_free(kei_ctx_alloc(p->g->ctx), u);
    if (p->n == 0 && !p->lost)
        (void)kei_timer_in(&p->end, IDLE_MS);
}

/* ---- connections ---- */

static void send_waiting(struct peer *p)
{
    if (!kei_mqtt_link_up(&p->mqtt))
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &p->wait)
    {
        struct push *u = KEI_OF(l, struct push, link);
        if (u->sent)
            continue;
        struct kei_mqtt_publish m = {.qos = u->qos,
                                     .retain = u->retain,
                                     .topic = kei_str(ke_msg_resource(u->request)),
                                     .payload = u->payload};
        if (m.qos > kei_mqttc_max_qos(&p->mqtt.client))
            m.qos = kei_mqttc_max_qos(&p->mqtt.client);
        int r = kei_mqttc_publish(&p->mqtt.client, &m, u);
        if (r < 0)
            push_end(p, u, r, p->mqtt.client.err.text[0] ? p->mqtt.client.err.text : ke_strerror(r));
        else if (m.qos == 0)
            push_end(p, u, 0, "");
        else
            u->sent = true;
    }
    kei_mqtt_link_kick(&p->mqtt);
}

static void on_connected(void *user, bool session_present)
{
    (void)session_present;
    send_waiting(user);
}

static void on_message(void *user, const struct kei_mqttc_message *m)
{
    (void)user, (void)m; /* nothing is subscribed */
}

static void on_subscribed(void *user, struct ke_str codes)
{
    (void)user, (void)codes;
}

static void on_done(void *user, void *tag, unsigned reason)
{
    char text[64];

    snprintf(text, sizeof text, "the server refused it (0x%02x)", reason);
    push_end(user, tag, reason >= 0x80 ? KE_EREFUSED : 0, text);
}

/* All that waits fails now; the connection is gone in a later turn. */
static void on_lost(void *user, int status, const char *text, int64_t next_ms)
{
    struct peer *p = user;

    (void)next_ms;
    p->lost = true;
    while (!kei_list_empty(&p->wait))
        push_end(p, KEI_OF(p->wait.next, struct push, link), status, text);
    kei_mqtt_link_stop(&p->mqtt);
    (void)kei_timer_in(&p->end, 0);
}

static void peer_free(struct peer *p)
{
    struct kei_bus_push *g = p->g;

    p->lost = true;
    while (!kei_list_empty(&p->wait))
        push_end(p, KEI_OF(p->wait.next, struct push, link), KE_ECANCELED,
                 ke_strerror(KE_ECANCELED));
    kei_list_remove(&p->link);
    g->n--;
    kei_timer_fini(&p->end);
    kei_mqtt_link_fini(&p->mqtt);
    kei_free(kei_ctx_alloc(g->ctx), p);
}

static void on_end(struct kei_timer *t)
{
    struct peer *p = KEI_OF(t, struct peer, end);

    if (p->lost || p->n == 0)
        peer_free(p);
}

static int peer_new(struct peer **ret, struct kei_bus_push *g, const char *host, uint16_t port)
{
    static const struct kei_mqttc_ops ops = {.connected = on_connected,
                                             .message = on_message,
                                             .done = on_done,
                                             .subscribed = on_subscribed};
    size_t n = strlen(host) + 1;

    if (g->n >= PEERS_MAX)
        return kei_fail(g->ctx, KE_ELIMIT, "%u MQTT servers that are pushed to are the limit",
                        PEERS_MAX);
    struct peer *p = kei_zalloc(kei_ctx_alloc(g->ctx), sizeof *p + n);
    if (!p)
        return kei_fail(g->ctx, KE_ENOMEM, "out of memory for an MQTT connection");
    memcpy(p->name, host, n);
    snprintf(p->id, sizeof p->id, "push-%016llx",
             (unsigned long long)kei_ctx_random64(g->ctx)); /* 3.1.1: up to 23 characters */
    p->g = g;
    p->host = (struct kei_mqtt_host){p->name, port};
    kei_list_init(&p->wait);
    kei_timer_init(g->ctx, &p->end, on_end);
    struct kei_mqtt_link_config lc = {.hosts = &p->host,
                                      .n_hosts = 1,
                                      .retry_min_ms = 1000,
                                      .retry_max_ms = 1000,
                                      .lost = on_lost,
                                      .user = p};
    struct kei_mqttc_config cc = {.version = KEI_MQTT_V311,
                                  .clean = true,
                                  .keepalive = KEEPALIVE_S,
                                  .inflight = WAIT_MAX,
                                  .client_id = kei_str(p->id)};
    struct kei_mqttc_ops own = ops;
    own.user = p;
    int r = kei_mqtt_link_init(&p->mqtt, g->ctx, &lc, &cc, &own);
    if (r < 0) {
        kei_timer_fini(&p->end);
        kei_free(kei_ctx_alloc(g->ctx), p);
        return r;
    }
    kei_list_add_tail(&g->peers, &p->link);
    g->n++;
    kei_mqtt_link_start(&p->mqtt);
    *ret = p;
    return 0;
}

static struct peer *find(struct kei_bus_push *g, const char *host, uint16_t port)
{
    KEI_LIST_EACH(l, &g->peers)
    {
        struct peer *p = KEI_OF(l, struct peer, link);
        if (!p->lost && p->host.port == port && !strcmp(p->name, host))
            return p;
    }
    return NULL;
}

static int by_peer(struct kei_bus_push *g, struct ke_msg *m, const struct kei_push_order *o)
{
    struct peer *p = find(g, o->host, o->port);
    int r = p ? 0 : peer_new(&p, g, o->host, o->port);

    if (r < 0)
        return r;
    if (p->n >= WAIT_MAX)
        return kei_fail(g->ctx, KE_ELIMIT, "%u messages for it wait already", WAIT_MAX);
    struct push *u = kei_alloc(kei_ctx_alloc(g->ctx), sizeof *u + o->payload.n + 1);
    if (!u)
        return kei_fail(g->ctx, KE_ENOMEM, "out of memory for a message on %s", ke_msg_resource(m));
    *u = (struct push){.request = ke_msg_ref(m), .qos = o->qos, .retain = o->retain};
    if (o->payload.n)
        memcpy(u->bytes, o->payload.p, o->payload.n);
    u->payload = kei_strn(u->bytes, o->payload.n);
    kei_list_add_tail(&p->wait, &u->link);
    p->n++;
    kei_timer_stop(&p->end);
    send_waiting(p);
    return 0;
}

/* ---- whose address it is ---- */

static bool is_loopback(const char *host)
{
    return !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1");
}

static bool is_own(const struct kei_bus_push *g, const struct kei_push_order *o)
{
    if (!o->host[0])
        return true;
    if (!g->c.server)
        return false;
    KEI_LIST_EACH(l, &g->c.server->listeners)
    {
        const struct mq_listener *m = KEI_OF(l, struct mq_listener, link);
        const char *at = m->host ? m->host : "";
        bool all = !at[0] || !strcmp(at, "0.0.0.0") || !strcmp(at, "::");
        if (m->kind != KE_MQTT_UNIX && !m->inner && m->port == o->port &&
            (!strcmp(at, o->host) || (is_loopback(o->host) && (all || is_loopback(at)))))
            return true;
    }
    return false;
}

/* "tcp://HOST:PORT", "mqtt://HOST", "HOST", "[::1]:1883" */
static int read_address(struct kei_push_order *o, struct ke_str text, struct ke_error *err)
{
    static const char *const schemes[] = {"tcp://", "mqtt://"};
    struct ke_str s = text;
    uint64_t port = DEFAULT_PORT;

    for (size_t i = 0; i < 2; i++) {
        if (kei_str_starts(s, kei_str(schemes[i])))
            s = kei_strn(s.p + strlen(schemes[i]), s.n - strlen(schemes[i]));
    }
    if (kei_str_has(s, KEI_STR("://")))
        return kei_error(err, KE_ENOTSUP, "only tcp:// and mqtt:// are supported");
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
    bool bracket = s.n && s.p[0] == '[';
    if (colon && (!bracket || (colon > s.p && colon[-1] == ']'))) {
        if (!kei_str_u64(kei_strn(colon + 1, (size_t)(s.p + s.n - colon - 1)), &port) ||
            port == 0 || port > 65535)
            return kei_error(err, KE_EINVAL, "its port is not within 1 to 65535");
        s.n = (size_t)(colon - s.p);
    }
    if (bracket && s.n >= 2 && s.p[s.n - 1] == ']')
        s = kei_strn(s.p + 1, s.n - 2);
    if (s.n >= sizeof o->host || (text.n && !s.n))
        return kei_error(err, KE_EINVAL, "its address is none of a server");
    if (s.n)
        memcpy(o->host, s.p, s.n);
    o->host[s.n] = '\0';
    o->port = (uint16_t)port;
    return 0;
}

static int read_order(struct kei_push_order *o, const struct ke_msg *m, struct ke_buf *payload,
                      struct ke_error *err)
{
    struct ke_str content, v;
    char address[300] = "";
    int64_t qos = 0, retain = 0;
    size_t n;
    const char *text = ke_msg_content(m, &n);

    memset(o, 0, sizeof *o);
    if (kei_json_value(kei_strn(text, n), 0, &content, err) < 0)
        return KE_EPARSE;
    if (!kei_json_get(content, "payload", &v) || kei_json_type(v) != '"' ||
        kei_json_str(v, payload, err) < 0)
        return kei_error(err, KE_EINVAL, "the payload is no string");
    if (!kei_buf_ok(payload))
        return kei_error(err, KE_ENOMEM, "out of memory");
    if (kei_json_get(content, "address", &v))
        kei_json_copy(address, sizeof address, v);
    if (kei_json_get(content, "qos", &v))
        (void)!kei_json_i64(v, &qos);
    if (kei_json_get(content, "retain", &v))
        (void)!kei_json_i64(v, &retain);
    if (qos < 0 || qos > 2 || !kei_mqtt_topic_ok(kei_str(ke_msg_resource(m))))
        return kei_error(err, KE_EINVAL, "its topic or its qos is none");
    o->qos = (uint8_t)qos;
    o->retain = retain != 0;
    o->payload = kei_buf_str(payload);
    return read_address(o, kei_str(address), err);
}

/* ---- for the bus ---- */

void kei_bus_push(struct kei_bus_push *g, struct ke_msg *m)
{
    struct kei_push_order o;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf payload;
    bool waits = false;

    kei_buf_init(&payload, kei_ctx_alloc(g->ctx));
    int r = read_order(&o, m, &payload, &err);
    if (r == 0) {
        o.topic = kei_str(ke_msg_resource(m));
        waits = !is_own(g, &o);
        r = waits ? by_peer(g, m, &o) : g->c.own(g->c.user, &o);
        if (r < 0)
            kei_error(&err, r, "%s", ke_ctx_error(g->ctx));
    }
    if (r < 0 || !waits)
        answer(g, m, r, err.text);
    ke_buf_free(&payload);
}

int kei_bus_push_new(struct kei_bus_push **ret, struct ke_ctx *ctx,
                     const struct kei_bus_push_config *c)
{
    struct kei_bus_push *g = kei_zalloc(kei_ctx_alloc(ctx), sizeof *g);

    if (!g)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the event bus");
    g->ctx = ctx;
    g->c = *c;
    kei_list_init(&g->peers);
    *ret = g;
    return 0;
}

void kei_bus_push_free(struct kei_bus_push *g)
{
    if (!g)
        return;
    while (!kei_list_empty(&g->peers))
        peer_free(KEI_OF(g->peers.next, struct peer, link));
    kei_free(kei_ctx_alloc(g->ctx), g);
}
