/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bridge: two clients, one of our own server and one of the other broker, and what comes at the
 * one goes out at the other. A message with QoS 1 or 2 is acknowledged where it came from when it
 * is done where it went, so it waits in the sender's session and nowhere else. Loop thread.
 *
 * Our own side asks for No Local and so never sees what it published; the other broker is asked the
 * same way (5.0) or told that we are a bridge (3.1.1, understood by mosquitto and others).
 */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "mqtt/bridge_priv.h"
#include "mqtt/server.h"

#define HOLD_MESSAGES 1000u
#define HOLD_BYTES ((size_t)16 << 20)
#define QOS0_QUEUED ((size_t)1 << 20) /* bytes waiting for the socket: QoS 0 is dropped */
#define NOTE_TAG 0u                   /* a message of our own: no token has this value */

/* A message that found no place on the other side; copied. */
struct held {
    struct kei_link link;
    uint32_t token, qos;
    uint8_t retain;
    size_t size;
    struct ke_str topic, payload, props;
    char bytes[];
};

struct side {
    struct ke_bridge *b;
    struct side *to; /* where its messages go */
    struct kei_mqtt_link link;
    uint32_t direction; /* of messages that come at it */
    bool local, subscribed;
    struct kei_link held;
    uint32_t n_held;
    size_t held_bytes;
    bool paused;
};

struct ke_bridge {
    struct ke_ctx *ctx;
    struct ke_mqtt *m;
    struct kei_arena arena;
    struct kei_bridge_conf conf;
    struct kei_mqtt_watch watch;
    struct side local, remote;
    struct ke_buf topic; /* of the message at hand */
    struct ke_bridge_status st;
    bool running;
};

/* ---- passing on ---- */

static void drop_held(struct side *s, struct held *h)
{
    kei_list_remove(&h->link);
    s->n_held--;
    s->held_bytes -= h->size;
    kei_free(kei_ctx_alloc(s->b->ctx), h);
}

static void back_pressure(struct side *s)
{
    bool full = s->n_held >= HOLD_MESSAGES || s->held_bytes >= HOLD_BYTES;
    if (full == s->paused)
        return;
    s->paused = full;
    kei_mqtt_link_pause(&s->link, full);
}

static int hold(struct side *s, const struct kei_mqtt_publish *p, uint32_t token)
{
    size_t n = p->topic.n + p->payload.n + p->props.raw.n;
    struct held *h = kei_alloc(kei_ctx_alloc(s->b->ctx), sizeof *h + n);
    if (!h)
        return KE_ENOMEM;
    *h = (struct held){.token = token, .qos = p->qos, .retain = p->retain, .size = sizeof *h + n};
    char *at = h->bytes;
    const struct ke_str *from[] = {&p->topic, &p->payload, &p->props.raw};
    struct ke_str *to[] = {&h->topic, &h->payload, &h->props};
    for (size_t i = 0; i < 3; i++) {
        if (from[i]->n)
            memcpy(at, from[i]->p, from[i]->n);
        *to[i] = kei_strn(at, from[i]->n);
        at += from[i]->n;
    }
    kei_list_add_tail(&s->held, &h->link);
    s->n_held++;
    s->held_bytes += h->size;
    back_pressure(s);
    return 0;
}

static void acknowledge(struct side *s, uint32_t token)
{
    kei_mqttc_ack(&s->link.client, token, 0);
    kei_mqtt_link_kick(&s->link);
}

static void count_passed(struct side *from)
{
    if (from->local)
        from->b->st.sent++;
    else
        from->b->st.received++;
}

static void pass_qos0(struct side *s, const struct kei_mqtt_publish *p)
{
    struct kei_mqtt_link *to = &s->to->link;
    if (!kei_mqtt_link_up(to) || kei_mqtt_link_queued(to) > QOS0_QUEUED ||
        kei_mqttc_publish(&to->client, p, NULL) < 0)
        s->b->st.dropped++;
    else
        count_passed(s);
    kei_mqtt_link_kick(to);
}

/* false: no place now */
static bool pass(struct side *s, const struct kei_mqtt_publish *p, uint32_t token)
{
    struct ke_bridge *b = s->b;
    struct kei_mqtt_link *to = &s->to->link;
    if (!kei_mqttc_room(&to->client))
        return false;
    int r = kei_mqttc_publish(&to->client, p, (void *)(uintptr_t)token);
    if (r == KE_ENOMEM)
        return false;
    if (r < 0) { /* too large for the other side, today and tomorrow */
        b->st.dropped++;
        kei_log(b->ctx, KE_LOG_WARN, "mqtt", "bridge %s left out a message on %.*s: %s",
                b->conf.c.name, KEI_FMT(p->topic), to->client.err.text);
        acknowledge(s, token);
    }
    kei_mqtt_link_kick(to);
    return true;
}

static void pass_held(struct side *s)
{
    while (!kei_list_empty(&s->held)) {
        struct held *h = KEI_OF(s->held.next, struct held, link);
        struct kei_mqtt_publish p = {.qos = (uint8_t)h->qos,
                                     .retain = h->retain,
                                     .topic = h->topic,
                                     .payload = h->payload,
                                     .props = {.raw = h->props}};
        if (!pass(s, &p, h->token))
            break;
        drop_held(s, h);
    }
    back_pressure(s);
}

static void on_message(void *user, const struct kei_mqttc_message *m)
{
    struct side *s = user;
    struct ke_bridge *b = s->b;
    struct kei_mqtt_publish p = *m->publish;
    uint32_t qos = 0;
    kei_buf_clear(&b->topic);
    if (!kei_bridge_map(b->conf.rules, b->conf.c.n_topics, s->direction, p.topic, &b->topic,
                        &qos)) {
        if (m->token) /* of a rule that was taken away */
            acknowledge(s, m->token);
        return;
    }
    if (!kei_buf_ok(&b->topic)) {
        kei_log(b->ctx, KE_LOG_ERROR, "mqtt", "out of memory: bridge %s left out a message on %.*s",
                b->conf.c.name, KEI_FMT(p.topic));
        return; /* not acknowledged: it comes again */
    }
    p.topic = kei_buf_str(&b->topic);
    if (p.qos > qos)
        p.qos = (uint8_t)qos;
    if (p.qos > kei_mqttc_max_qos(&s->to->link.client))
        p.qos = kei_mqttc_max_qos(&s->to->link.client);
    p.dup = 0;
    if (p.qos == 0) {
        pass_qos0(s, &p);
        if (m->token)
            acknowledge(s, m->token);
        return;
    }
    if (kei_list_empty(&s->held) && pass(s, &p, m->token))
        return;
    if (hold(s, &p, m->token) < 0)
        kei_log(b->ctx, KE_LOG_ERROR, "mqtt",
                "out of memory: a message of bridge %s waits for the "
                "next connection",
                b->conf.c.name);
}

/* s: where the message went to */
static void on_done(void *user, void *tag, unsigned reason)
{
    struct side *s = user;
    struct side *from = s->to;
    struct ke_bridge *b = s->b;
    uint32_t token = (uint32_t)(uintptr_t)tag;
    if (token == NOTE_TAG)
        return;
    if (reason >= 0x80) {
        b->st.refused++;
        kei_log(b->ctx, KE_LOG_WARN, "mqtt", "bridge %s: the %s refused a message: %s (0x%02x)",
                b->conf.c.name, s->local ? "server" : "other broker", kei_mqtt_reason_text(reason),
                reason);
    } else {
        count_passed(from);
    }
    acknowledge(from, token);
    pass_held(from);
}

/* ---- connections ---- */

static void note(struct ke_bridge *b, bool up)
{
    struct ke_str topic = kei_str(b->conf.notify_topic);
    struct ke_str payload = up ? KEI_STR("1") : KEI_STR("0");
    struct ke_error err = KE_ERROR_INIT;
    uint32_t flags = b->conf.c.flags;
    struct ke_mqtt_publish own = {.size = sizeof own,
                                  .topic = kei_mqtt_give(topic),
                                  .payload = kei_mqtt_give(payload),
                                  .qos = 1,
                                  .retain = 1};
    struct kei_mqtt_publish p = {.qos = 1, .retain = 1, .topic = topic, .payload = payload};
    if (flags & KE_BRIDGE_NO_NOTIFY)
        return;
    if (ke_mqtt_publish(b->m, &own, NULL, NULL, &err) < 0)
        kei_log(b->ctx, KE_LOG_DEBUG, "mqtt", "state of bridge %s was not published: %s",
                b->conf.c.name, err.text);
    if (up && !(flags & KE_BRIDGE_NOTIFY_LOCAL) &&
        kei_mqttc_publish(&b->remote.link.client, &p, (void *)(uintptr_t)NOTE_TAG) < 0)
        kei_log(b->ctx, KE_LOG_DEBUG, "mqtt",
                "bridge %s: its state was not told to the other broker", b->conf.c.name);
}

static void subscribe(struct side *s)
{
    struct ke_bridge *b = s->b;
    struct ke_buf list;
    uint8_t more = KEI_MQTT_SUB_NO_LOCAL | KEI_MQTT_SUB_AS_PUBLISHED | 1u << 4;
    bool v5 = s->link.client.c.version == KEI_MQTT_V5;
    kei_buf_init(&list, kei_ctx_alloc(b->ctx));
    for (uint32_t i = 0; i < b->conf.c.n_topics; i++) {
        const struct kei_bridge_rule *r = &b->conf.rules[i];
        uint8_t options = (uint8_t)(r->qos | (v5 ? more : 0));
        if (r->direction & s->direction)
            kei_mqtt_put_filter(&list, s->local ? r->local : r->remote, &options);
    }
    if (list.n > 0 && kei_buf_ok(&list))
        kei_mqttc_subscribe(&s->link.client, kei_buf_str(&list), 0);
    if (!kei_buf_ok(&list))
        kei_log(b->ctx, KE_LOG_ERROR, "mqtt", "out of memory: bridge %s did not subscribe",
                b->conf.c.name);
    ke_buf_free(&list);
}

static void on_connected(void *user, bool session_present)
{
    struct side *s = user;
    struct ke_bridge *b = s->b;
    /* The configuration may have changed since the session was made, so once anyway. */
    if (!session_present || !s->subscribed)
        subscribe(s);
    s->subscribed = true;
    s->paused = false;
    back_pressure(s);
    pass_held(s->to);
    if (s->local)
        return;
    b->st.state = KE_BRIDGE_CONNECTED;
    b->st.connects++;
    kei_log(b->ctx, KE_LOG_INFO, "mqtt", "bridge %s is connected", b->conf.c.name);
    note(b, true);
}

static void on_subscribed(void *user, struct ke_str codes)
{
    struct side *s = user;
    for (size_t i = 0; i < codes.n; i++)
        if ((uint8_t)codes.p[i] >= 0x80)
            kei_log(s->b->ctx, KE_LOG_WARN, "mqtt",
                    "bridge %s: the %s refused subscription %zu of its topics (0x%02x)",
                    s->b->conf.c.name, s->local ? "server" : "other broker", i + 1,
                    (unsigned)(uint8_t)codes.p[i]);
}

static void on_lost(void *user, int status, const char *text, int64_t next_ms)
{
    struct side *s = user;
    struct ke_bridge *b = s->b;
    bool was_up = !s->local && b->st.state == KE_BRIDGE_CONNECTED;
    kei_log(b->ctx, KE_LOG_WARN, "mqtt", "bridge %s: connection to %s: %s; next try in %lld ms",
            b->conf.c.name, s->local ? "our own server" : b->conf.c.host, text, (long long)next_ms);
    b->st.last_error = status;
    snprintf(b->st.error_text, sizeof b->st.error_text, "%s", text);
    if (!s->local)
        b->st.state = KE_BRIDGE_WAITING;
    if (was_up)
        note(b, false);
}

static int own_socket(void *user, int *ret_fd)
{
    struct side *s = user;
    struct ke_bridge *b = s->b;
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0)
        return kei_fail(b->ctx, KE_ESYS, "no socket pair for bridge %s", b->conf.c.name);
    int r = kei_mqtt_serve_fd(b->m, fd[1], b->conf.c.name, kei_err(b->ctx));
    if (r < 0) {
        close(fd[0]);
        return r;
    }
    *ret_fd = fd[0];
    return 0;
}

/* ---- life ---- */

static int side_init(struct ke_bridge *b, struct side *s, bool local)
{
    const struct ke_bridge_config *c = &b->conf.c;
    struct kei_mqttc_ops ops = {.connected = on_connected,
                                .message = on_message,
                                .done = on_done,
                                .subscribed = on_subscribed,
                                .user = s};
    struct kei_mqtt_link_config lc = {.retry_min_ms = local ? 100 : c->retry_min_ms,
                                      .retry_max_ms = local ? 5000 : c->retry_max_ms,
                                      .lost = on_lost,
                                      .user = s};
    struct kei_mqttc_config cc = {
        .version = local ? KEI_MQTT_V5 : (uint8_t)c->version,
        .receive_max = (uint16_t)c->max_inflight,
        .inflight = (uint16_t)c->max_inflight,
        .max_packet = c->max_packet,
        .client_id = kei_str(local ? b->conf.local_client_id : b->conf.client_id),
        .release = true,
    };
    *s = (struct side){.b = b, .local = local, .to = local ? &b->remote : &b->local};
    s->direction = local ? KE_BRIDGE_OUT : KE_BRIDGE_IN;
    kei_list_init(&s->held);
    if (local) {
        lc.socket = own_socket;
    } else {
        lc.hosts = b->conf.hosts;
        lc.n_hosts = b->conf.n_hosts;
        lc.tls = b->conf.tls;
        cc.keepalive = (uint16_t)c->keepalive;
        cc.bridge = !(c->flags & KE_BRIDGE_NO_PRIVATE);
        cc.clean = (c->flags & KE_BRIDGE_CLEAN) != 0;
        cc.has_user = c->user_name != NULL;
        cc.has_password = c->password != NULL;
        cc.user_name = kei_str(c->user_name);
        cc.password = kei_str(c->password);
        if (!(c->flags & (KE_BRIDGE_NO_NOTIFY | KE_BRIDGE_NOTIFY_LOCAL))) {
            cc.will_topic = kei_str(b->conf.notify_topic);
            cc.will_payload = KEI_STR("0");
            cc.will_qos = 1;
            cc.will_retain = 1;
        }
    }
    return kei_mqtt_link_init(&s->link, b->ctx, &lc, &cc, &ops);
}

static void start(struct ke_bridge *b)
{
    if (b->running)
        return;
    b->running = true;
    b->st.state = KE_BRIDGE_CONNECTING;
    kei_mqtt_link_start(&b->local.link);
    kei_mqtt_link_start(&b->remote.link);
}

static void stop(struct ke_bridge *b)
{
    if (!b->running)
        return;
    b->running = false;
    b->st.state = KE_BRIDGE_STOPPED;
    kei_mqtt_link_stop(&b->remote.link);
    kei_mqtt_link_stop(&b->local.link);
}

static void on_watch(struct kei_mqtt_watch *w, int what)
{
    struct ke_bridge *b = KEI_OF(w, struct ke_bridge, watch);
    if (what == KEI_MQTT_STARTED)
        start(b);
    else
        stop(b);
    if (what == KEI_MQTT_FREED)
        b->m = NULL;
}

int ke_bridge_new(struct ke_bridge **ret, struct ke_mqtt *m, const struct ke_bridge_config *c)
{
    if (!m)
        return KE_EINVAL;
    struct ke_ctx *ctx = kei_mqtt_ctx(m);
    if (!ret || !c)
        return kei_fail(ctx, KE_EINVAL, "a bridge needs a configuration and a place to return it");
    struct ke_bridge *b = kei_zalloc(kei_ctx_alloc(ctx), sizeof *b);
    if (!b)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a bridge");
    b->ctx = ctx;
    b->m = m;
    b->st.size = sizeof b->st;
    kei_arena_init(&b->arena, kei_ctx_alloc(ctx), 0);
    kei_buf_init(&b->topic, kei_ctx_alloc(ctx));
    kei_list_init(&b->local.held);
    kei_list_init(&b->remote.held);
    int r = kei_bridge_conf_read(&b->conf, ctx, &b->arena, c);
    if (r == 0)
        r = side_init(b, &b->local, true);
    if (r == 0)
        r = side_init(b, &b->remote, false);
    if (r < 0) {
        ke_bridge_free(b);
        return r;
    }
    b->watch.fn = on_watch;
    kei_mqtt_watch(m, &b->watch);
    if (m->started)
        start(b);
    *ret = b;
    return 0;
}

static void side_fini(struct side *s)
{
    kei_mqtt_link_fini(&s->link);
    KEI_LIST_EACH_SAFE(l, tmp, &s->held)
    drop_held(s, KEI_OF(l, struct held, link));
}

void ke_bridge_free(struct ke_bridge *b)
{
    if (!b)
        return;
    kei_mqtt_unwatch(&b->watch);
    stop(b);
    side_fini(&b->local);
    side_fini(&b->remote);
    kei_bridge_conf_fini(&b->conf);
    ke_buf_free(&b->topic);
    kei_arena_free(&b->arena);
    kei_free(kei_ctx_alloc(b->ctx), b);
}

int ke_bridge_status(struct ke_bridge *b, struct ke_bridge_status *ret, size_t size)
{
    if (!b || !ret)
        return KE_EINVAL;
    return kei_abi_out(ret, size, &b->st, sizeof b->st, offsetof(struct ke_bridge_status, sent),
                       "struct ke_bridge_status", kei_err(b->ctx));
}
