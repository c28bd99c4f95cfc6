/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CONNECT and CONNACK: checks, taking over a session or making one, what is announced. Who may come
 * in is asked in between (auth.c). Loop thread.
 */
#include "mqtt/journal.h"
#include "mqtt/server.h"
#include "mqtt/via.h"
#include "net/addr.h"

#include <stdio.h>

static bool v5(const struct mq_conn *c)
{
    return c->version == KEI_MQTT_V5;
}

/* ---- refusing ---- */

static void tell_refused(struct mq_conn *c, const struct kei_mqtt_connect *k, unsigned reason,
                         const char *text)
{
    struct ke_mqtt *m = c->m;
    struct ke_mqtt_client cl;
    char addr[KEI_ADDR_TEXT];

    m->st.connects_refused++;
    kei_mq_log(c, KE_LOG_WARN, "client \"%.*s\" was refused: %s (%s)", KEI_FMT(k->client_id), text,
               kei_mqtt_reason_text(reason));
    if (!m->ops.event)
        return;
    kei_mq_conn_client(c, &cl, addr, NULL);
    cl.client_id = kei_mqtt_give(k->client_id);
    cl.user_name = kei_mqtt_give(k->user_name);
    struct ke_mqtt_event e = {sizeof e, KE_MQTT_EVENT_REFUSED, reason, &cl,
                              {0},      {text, strlen(text)}};
    kei_mq_enter(m);
    m->ops.event(m->user, &e);
    kei_mq_leave(m);
}

void kei_mq_refuse(struct mq_conn *c, const struct kei_mqtt_connect *k, unsigned reason,
                   const char *text, struct ke_str server)
{
    struct kei_mqtt_connack a = {.reason = (uint8_t)reason};
    struct ke_buf props, b;

    tell_refused(c, k, reason, text);
    kei_buf_init(&props, c->m->alloc);
    kei_buf_init(&b, c->m->alloc);
    if (v5(c) && server.n)
        kei_mqtt_put_str(&props, KEI_MQTT_P_SERVER_REF, server);
    if (!v5(c))
        a.reason = kei_mqtt_connack_v3(reason);
    a.props.raw = kei_buf_str(&props);
    kei_mqtt_encode_connack(&b, c->version, &a);
    if (kei_buf_ok(&props) && kei_buf_ok(&b) && b.n <= c->max_packet &&
        kei_mq_out_add(c->m, &c->out, b.p, b.n))
        c->m->st.packets_out++;
    ke_buf_free(&props);
    ke_buf_free(&b);
    kei_mq_conn_close(c, reason, "CONNECT was refused");
}

/* ---- the session ---- */

static uint32_t expiry_of(const struct mq_conn *c, const struct kei_mqtt_connect *k)
{
    uint32_t s = k->clean ? 0 : UINT32_MAX;

    if (v5(c))
        s = k->props.has & KEI_MQTT_HAS(KEI_MQTT_P_SESSION_EXPIRY) ? k->props.session_expiry : 0;
    return s < c->m->lim.session_expiry ? s : c->m->lim.session_expiry;
}

/* A connection with the same id is still there: it goes. */
static void take_over(struct mq_session *s, bool clean)
{
    struct mq_conn *old = s->conn;

    if (!old)
        return;
    kei_mq_conn_close(old, KEI_MQTT_R_TAKEN_OVER, "another connection has the same client id");
    if (old->flags & MQ_C_CLEAN_END)
        kei_mq_will_free(s);
    else if (s->will && clean)
        kei_mq_will_publish(s);
    old->s = NULL;
    s->conn = NULL;
    s->resend = s->flight_at = 0;
    if (old->flags & MQ_C_TOLD) {
        old->flags &= (uint16_t)~MQ_C_TOLD;
        s->m->st.disconnects++;
        old->s = s;
        kei_mq_event(old, KE_MQTT_EVENT_DISCONNECTED, KEI_MQTT_R_TAKEN_OVER, kei_strn(NULL, 0),
                     kei_mqtt_reason_text(KEI_MQTT_R_TAKEN_OVER));
        old->s = NULL;
    }
}

static bool same_user(const struct mq_session *s, const struct mq_conn *c)
{
    return kei_str_eq(kei_str(s->user_name), kei_str(c->user_name));
}

/* The session for c; *present: it was there before. NULL: refused, *reason says why. */
static struct mq_session *get_session(struct mq_conn *c, const struct kei_mqtt_connect *k,
                                      bool *present, unsigned *reason)
{
    struct ke_mqtt *m = c->m;
    struct mq_session *s = kei_mq_session_find(m, k->client_id);

    *present = false;
    if (s) {
        bool over = !s->conn && s->expires_ms <= m->now; /* the timer comes a moment later */
        bool clean = k->clean || s->expiry_s == 0 || over || !same_user(s, c);
        if (!s->conn && !over)
            kei_mq_will_free(s); /* it came back before the delay of its will was over */
        take_over(s, clean);
        if (clean) {
            kei_mq_session_end(s, "a client began a new one");
            s = NULL;
        }
        *present = s != NULL;
    }
    if (!s && m->n_sessions >= m->lim.sessions) {
        m->st.over_sessions++;
        *reason = KEI_MQTT_R_QUOTA;
        return NULL;
    }
    if (!s)
        s = kei_mq_session_new(m, k->client_id);
    if (!s)
        *reason = KEI_MQTT_R_UNAVAILABLE;
    return s;
}

static bool set_will(struct mq_conn *c, struct mq_session *s, const struct kei_mqtt_connect *k)
{
    struct ke_mqtt *m = c->m;
    const struct kei_mqtt_props *p = &k->will_props;
    struct ke_buf full;

    kei_mq_will_free(s);
    if (!k->has_will)
        return true;
    kei_buf_init(&full, m->alloc);
    kei_buf_adds(&full, c->l->mount ? c->l->mount : "");
    kei_buf_addv(&full, k->will_topic);
    struct mq_draft d = {.topic = kei_buf_str(&full),
                         .props = p->raw,
                         .payload = k->will_payload,
                         .client = mq_id(s),
                         .user = kei_str(c->user_name),
                         .skip = p->has & (KEI_MQTT_HAS(KEI_MQTT_P_WILL_DELAY) |
                                           KEI_MQTT_HAS(KEI_MQTT_P_MESSAGE_EXPIRY)),
                         .expires_ms = MQ_NEVER,
                         .qos = k->will_qos,
                         .flags = k->will_retain ? MQ_MSG_RETAIN : 0};
    if (p->has & KEI_MQTT_HAS(KEI_MQTT_P_MESSAGE_EXPIRY))
        d.expires_ms = (int64_t)p->message_expiry * 1000; /* from its publishing on */
    struct mq_will *w = kei_buf_ok(&full) ? kei_zalloc(m->alloc, sizeof *w) : NULL;
    if (w)
        w->msg = kei_mq_msg_new(m, &d);
    ke_buf_free(&full);
    if (!w || !w->msg) {
        kei_free(m->alloc, w);
        return false;
    }
    w->delay_s = p->has & KEI_MQTT_HAS(KEI_MQTT_P_WILL_DELAY) ? p->will_delay : 0;
    /* who says 0 means that the session ends now, and the will comes now; who names a delay alone
     * means the delay, as brokers have it */
    w->outlives = w->delay_s && !(k->props.has & KEI_MQTT_HAS(KEI_MQTT_P_SESSION_EXPIRY));
    s->will = w;
    return true;
}

/* ---- CONNACK ---- */

static void add_response_info(struct mq_conn *c, struct ke_buf *b)
{
    const char *t = c->m->config.response_information;
    struct ke_buf text;

    kei_buf_init(&text, c->m->alloc);
    for (; *t; t++) {
        if (t[0] == '%' && t[1] == 'c') {
            kei_buf_addv(&text, mq_id(c->s));
            t++;
        } else {
            kei_buf_addc(&text, *t);
        }
    }
    kei_mqtt_put_str(b, KEI_MQTT_P_RESPONSE_INFO, kei_buf_str(&text));
    ke_buf_free(&text);
}

static void add_abilities(struct mq_conn *c, const struct kei_mqtt_connect *k, struct ke_buf *b)
{
    struct ke_mqtt *m = c->m;
    uint32_t asked =
        k->props.has & KEI_MQTT_HAS(KEI_MQTT_P_SESSION_EXPIRY) ? k->props.session_expiry : 0;

    if (m->flags & KE_MQTT_NO_RETAIN)
        kei_mqtt_put_u8(b, KEI_MQTT_P_RETAIN_AVAILABLE, 0);
    if (m->lim.packet_told)
        kei_mqtt_put_u32(b, KEI_MQTT_P_MAX_PACKET, m->lim.packet_told);
    if (m->lim.receive < UINT16_MAX)
        kei_mqtt_put_u16(b, KEI_MQTT_P_RECEIVE_MAX, (uint16_t)m->lim.receive);
    if (c->l->flags & (KE_MQTT_MAX_QOS_0 | KE_MQTT_MAX_QOS_1))
        kei_mqtt_put_u8(b, KEI_MQTT_P_MAX_QOS, c->l->flags & KE_MQTT_MAX_QOS_0 ? 0 : 1);
    if (c->s->expiry_s != asked)
        kei_mqtt_put_u32(b, KEI_MQTT_P_SESSION_EXPIRY, c->s->expiry_s);
    if (m->flags & KE_MQTT_NO_WILDCARD)
        kei_mqtt_put_u8(b, KEI_MQTT_P_WILDCARD_AVAILABLE, 0);
    if (m->flags & KE_MQTT_NO_SUBID)
        kei_mqtt_put_u8(b, KEI_MQTT_P_SUBID_AVAILABLE, 0);
    if (m->flags & KE_MQTT_NO_SHARED)
        kei_mqtt_put_u8(b, KEI_MQTT_P_SHARED_AVAILABLE, 0);
    if (k->props.has & KEI_MQTT_HAS(KEI_MQTT_P_REQUEST_RESPONSE) && k->props.request_response &&
        m->config.response_information)
        add_response_info(c, b);
}

static void add_props(struct mq_conn *c, const struct kei_mqtt_connect *k, struct ke_str method,
                      struct ke_str data, struct ke_buf *b)
{
    uint32_t alias = c->l->max_alias ? c->l->max_alias : c->m->lim.alias_in;

    if (c->keepalive != k->keepalive)
        kei_mqtt_put_u16(b, KEI_MQTT_P_SERVER_KEEPALIVE, c->keepalive);
    if (alias && alias != KE_MQTT_NONE)
        kei_mqtt_put_u16(b, KEI_MQTT_P_ALIAS_MAX, (uint16_t)alias);
    if (c->flags & MQ_C_ASSIGNED)
        kei_mqtt_put_str(b, KEI_MQTT_P_CLIENT_ID, mq_id(c->s));
    if (method.n)
        kei_mqtt_put_str(b, KEI_MQTT_P_AUTH_METHOD, method);
    if (method.n && data.n)
        kei_mqtt_put_str(b, KEI_MQTT_P_AUTH_DATA, data);
    add_abilities(c, k, b);
}

static void send_connack(struct mq_conn *c, const struct kei_mqtt_connect *k, bool present,
                         struct ke_str method, struct ke_str data)
{
    struct kei_mqtt_connack a = {.session_present = present && c->version > KEI_MQTT_V31};
    struct ke_buf props, b;

    kei_buf_init(&props, c->m->alloc);
    kei_buf_init(&b, c->m->alloc);
    if (v5(c))
        add_props(c, k, method, data, &props);
    a.props.raw = kei_buf_str(&props);
    if (kei_buf_ok(&props))
        kei_mqtt_encode_connack(&b, c->version, &a);
    bool fits = b.n <= c->max_packet;
    ke_buf_free(&props);
    if (!fits) {
        ke_buf_free(&b);
        kei_mq_conn_lost(c, "the client takes no packet that a CONNACK fits into");
        return;
    }
    kei_mq_send_buf(c, &b);
}

/* ---- coming in ---- */

static void take_properties(struct mq_conn *c, const struct kei_mqtt_connect *k)
{
    const struct kei_mqtt_props *p = &k->props;
    uint32_t window = c->m->lim.inflight;

    if (p->has & KEI_MQTT_HAS(KEI_MQTT_P_RECEIVE_MAX) && p->receive_max < window)
        window = p->receive_max;
    c->window = (uint16_t)(window < UINT16_MAX ? window : UINT16_MAX);
    if (p->has & KEI_MQTT_HAS(KEI_MQTT_P_ALIAS_MAX))
        c->alias_max =
            (uint16_t)(p->alias_max < c->m->lim.alias_out ? p->alias_max : c->m->lim.alias_out);
    if (!(p->has & KEI_MQTT_HAS(KEI_MQTT_P_REQUEST_PROBLEM)) || p->request_problem)
        c->flags |= MQ_C_PROBLEM;
    if (k->bridge)
        c->flags |= MQ_C_BRIDGE;
}

void kei_mq_let_in(struct mq_conn *c, const struct kei_mqtt_connect *k, struct ke_str method,
                   struct ke_str data)
{
    struct ke_mqtt *m = c->m;
    unsigned reason = 0;
    bool present;
    struct mq_session *s = get_session(c, k, &present, &reason);

    if (!s) {
        kei_mq_refuse(c, k, reason, "there is no room for its session", kei_strn(NULL, 0));
        return;
    }
    c->s = s;
    s->conn = c;
    s->expiry_s = expiry_of(c, k);
    s->expires_ms = MQ_NEVER;
    kei_free(m->alloc, s->user_name);
    s->user_name = c->user_name ? kei_strdup(m->alloc, c->user_name) : NULL;
    if ((c->user_name && !s->user_name) || !set_will(c, s, k)) {
        kei_mq_conn_lost(c, "no memory for its session");
        return;
    }
    kei_mq_session_arm(s);
    if (s->will && !kei_mq_may(c, KE_MQTT_WRITE, mq_topic(s->will->msg))) {
        kei_mq_will_free(s);
        m->st.denied++;
        kei_mq_refuse(c, k, KEI_MQTT_R_NOT_AUTHORIZED, "it may not publish its will",
                      kei_strn(NULL, 0));
        return;
    }
    take_properties(c, k);
    if (!m->ops.authorize &&
        (!m->access || m->access->ops->unlimited(m->access, c->who, KE_MQTT_READ)))
        c->flags |= MQ_C_FREE_READ;
    if (!m->ops.authorize &&
        (!m->access || m->access->ops->unlimited(m->access, c->who, KE_MQTT_WRITE)))
        c->flags |= MQ_C_FREE_WRITE;
    if (mq_kept(s) && s->expiry_s == 0) {
        kei_mq_note_session_gone(s); /* it ends with this connection */
        s->sid = 0;
    }
    s->flags &= (uint8_t)~MQ_S_KEPT;
    if (m->journal && s->expiry_s > 0) {
        s->flags |= MQ_S_KEPT;
        kei_mq_note_session(s);
    }
    c->state = MQ_UP;
    c->flags |= MQ_C_TOLD;
    m->st.connects++;
    send_connack(c, k, present, method, data);
    if (c->state != MQ_UP)
        return;
    kei_mq_log(c, KE_LOG_INFO, "connected, version %u, keepalive %u s%s", c->version, c->keepalive,
               present ? ", session resumed" : "");
    kei_mq_event(c, KE_MQTT_EVENT_CONNECTED, 0, kei_strn(NULL, 0), "");
    kei_mq_wheel_stop(&m->wheel, &c->timer);
    kei_mq_conn_arm(c);
    kei_mq_resume(s);
}

/* ---- checks before anybody is asked ---- */

static bool too_deep(const struct ke_mqtt *m, struct ke_str topic)
{
    return topic.n > m->lim.topic_bytes || kei_mqtt_levels(topic) > m->lim.topic_levels;
}

static unsigned check_will(struct mq_conn *c, const struct kei_mqtt_connect *k, const char **text)
{
    unsigned max = c->l->flags & KE_MQTT_MAX_QOS_0 ? 0 : c->l->flags & KE_MQTT_MAX_QOS_1 ? 1 : 2;

    if (!k->has_will)
        return 0;
    *text = "its will has a QoS that is not taken here";
    if (k->will_qos > max)
        return KEI_MQTT_R_NO_QOS;
    *text = "its will is to be retained, which is off";
    if (k->will_retain && c->m->flags & KE_MQTT_NO_RETAIN)
        return KEI_MQTT_R_NO_RETAIN;
    *text = "the topic of its will is too long or too deep";
    if (too_deep(c->m, k->will_topic))
        return KEI_MQTT_R_TOPIC;
    *text = "its will is larger than max_payload";
    if (k->will_payload.n > c->m->lim.payload) {
        c->m->st.over_packet++;
        return KEI_MQTT_R_PACKET_TOO_LARGE;
    }
    return 0;
}

/* An id of our own, for a client without one. */
static bool assign_id(struct mq_conn *c, char *out, size_t n)
{
    const char *prefix = c->m->config.auto_id_prefix ? c->m->config.auto_id_prefix : "auto-";
    char uuid[37];

    if (kei_ctx_uuid(c->m->ctx, uuid) < 0)
        return false;
    c->flags |= MQ_C_ASSIGNED;
    return snprintf(out, n, "%s%s", prefix, uuid) < (int)n;
}

static unsigned check_id(struct mq_conn *c, const struct kei_mqtt_connect *k, const char **text)
{
    *text = "its client id is longer than max_client_id";
    if (k->client_id.n > c->m->lim.client_id)
        return KEI_MQTT_R_CLIENT_ID;
    *text = "it gave no client id";
    if (k->client_id.n)
        return 0;
    if (c->version == KEI_MQTT_V31 || c->m->flags & KE_MQTT_NO_EMPTY_ID ||
        (c->version == KEI_MQTT_V311 && !k->clean))
        return KEI_MQTT_R_CLIENT_ID;
    return 0;
}

static unsigned set_keepalive(struct mq_conn *c, const struct kei_mqtt_connect *k,
                              const char **text)
{
    uint32_t max = c->m->lim.keepalive;

    c->keepalive = k->keepalive;
    if (max == 0 || (k->keepalive && k->keepalive <= max))
        return 0;
    if (v5(c)) {
        c->keepalive = (uint16_t)max;
        return 0;
    }
    *text = "its keepalive is above max_keepalive, or none";
    return c->m->flags & KE_MQTT_REFUSE_KEEPALIVE ? KEI_MQTT_R_CLIENT_ID : 0;
}

void kei_mq_connect(struct mq_conn *c, uint8_t first, struct ke_str body)
{
    struct ke_mqtt *m = c->m;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_connect k;
    char id[128];
    const char *text = err.text;
    int why = kei_mqtt_decode_connect(body, &k, &err);

    if (!why && first & 15 && k.version > KEI_MQTT_V31) {
        why = KEI_MQTT_R_MALFORMED;
        kei_error(&err, KE_EPARSE, "flags of the packet were set");
    }
    c->version = k.version ? k.version : KEI_MQTT_V311;
    if (!why && k.has_will && kei_mq_reserved(k.will_topic)) {
        why = KEI_MQTT_R_TOPIC;
        kei_error(&err, KE_EACCES, "its will is for a topic of the server's own");
    }
    if (why && !k.answer) {
        m->st.connects_refused++;
        kei_mq_conn_close(c, (unsigned)why, "CONNECT: %s", err.text);
        return;
    }
    if (!why && k.props.has & KEI_MQTT_HAS(KEI_MQTT_P_MAX_PACKET))
        c->max_packet = k.props.max_packet;
    unsigned reason = (unsigned)why;
    if (reason == 0 && m->flags & KE_MQTT_ONLY_V5 && !v5(c)) {
        reason = KEI_MQTT_R_VERSION;
        text = "only MQTT 5 is taken here";
    }
    if (reason == 0)
        reason = check_id(c, &k, &text);
    if (reason == 0)
        reason = check_will(c, &k, &text);
    if (reason == 0)
        reason = set_keepalive(c, &k, &text);
    if (reason) {
        kei_mq_refuse(c, &k, reason, text, kei_strn(NULL, 0));
        return;
    }
    if (k.client_id.n == 0) {
        if (!assign_id(c, id, sizeof id)) {
            kei_mq_conn_lost(c, "no client id could be made for it");
            return;
        }
        k.client_id = kei_str(id);
    }
    kei_mq_auth_begin(c, &k, body);
}
