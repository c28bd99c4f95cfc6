/* SPDX-License-Identifier: Apache-2.0 */
/* What clients publish: checks, acknowledgement, and off to those who subscribed. Loop thread. */
#include "mqtt/journal.h"
#include "mqtt/server.h"

bool kei_mq_may(struct mq_conn *c, uint32_t access, struct ke_str topic)
{
    struct ke_mqtt *m = c->m;

    if (c->l->inner)
        return true;
    if (m->ops.authorize) {
        struct ke_mqtt_client cl;
        kei_mq_conn_client(c, &cl, NULL, NULL);
        kei_mq_enter(m);
        int r = m->ops.authorize(m->user, &cl, access, kei_mqtt_give(topic));
        kei_mq_leave(m);
        if (r != KE_MQTT_DEFER)
            return r == KE_MQTT_ALLOW;
    }
    if (!m->access)
        return true;
    return m->access->ops->may(m->access, c->who, mq_id(c->s), kei_str(c->user_name), access,
                               topic);
}

/* Properties that end here; the others go on as they are. */
#define OURS                                                                                       \
    (KEI_MQTT_HAS(KEI_MQTT_P_ALIAS) | KEI_MQTT_HAS(KEI_MQTT_P_MESSAGE_EXPIRY) |                    \
     KEI_MQTT_HAS(KEI_MQTT_P_SUB_ID))

static void acknowledge(struct mq_conn *c, const struct kei_mqtt_publish *p, unsigned reason)
{
    if (p->qos == 0)
        return;
    if (reason == KEI_MQTT_R_QUOTA && c->version < KEI_MQTT_V5) {
        kei_mq_conn_close(c, reason, "a message could not be kept"); /* it will send it again */
        return;
    }
    if (reason >= 0x80 && c->version < KEI_MQTT_V5)
        reason = 0; /* there is no other answer: the message is dropped */
    if (reason == KEI_MQTT_R_NO_SUBSCRIBERS && p->qos == 2)
        reason = 0;
    kei_mq_send_ack(c, p->qos == 1 ? KEI_MQTT_PUBACK : KEI_MQTT_PUBREC, p->pid, reason);
}

/* A reason for which the connection ends; 0: none. */
static int check(struct mq_conn *c, struct kei_mqtt_publish *p, const char **what)
{
    struct ke_mqtt *m = c->m;
    unsigned max_qos = c->l->flags & KE_MQTT_MAX_QOS_0   ? 0
                       : c->l->flags & KE_MQTT_MAX_QOS_1 ? 1
                                                         : 2;

    if (p->props.has & KEI_MQTT_HAS(KEI_MQTT_P_SUB_ID)) {
        *what = "a client sent a subscription identifier";
        return KEI_MQTT_R_PROTOCOL;
    }
    if (p->props.has & KEI_MQTT_HAS(KEI_MQTT_P_ALIAS)) {
        *what = "topic alias";
        int why = kei_mq_alias_in(c, p->props.alias, &p->topic);
        if (why)
            return why;
    }
    if (p->qos > max_qos) {
        *what = "QoS above what this listener takes";
        return KEI_MQTT_R_NO_QOS;
    }
    if (p->retain && m->flags & KE_MQTT_NO_RETAIN) {
        *what = "retained messages are off";
        return KEI_MQTT_R_NO_RETAIN;
    }
    if (p->topic.n > m->lim.topic_bytes || kei_mqtt_levels(p->topic) > m->lim.topic_levels) {
        m->st.over_topic++;
        *what = "topic has more bytes or levels than allowed (max_topic_bytes, max_topic_levels)";
        return KEI_MQTT_R_MALFORMED;
    }
    return 0;
}

static struct mq_msg *make_msg(struct mq_conn *c, const struct kei_mqtt_publish *p)
{
    struct ke_mqtt *m = c->m;
    struct mq_draft d = {.topic = p->topic,
                         .props = p->props.raw,
                         .payload = p->payload,
                         .skip = p->props.has & OURS,
                         .expires_ms = MQ_NEVER,
                         .qos = p->qos,
                         .flags = p->retain ? MQ_MSG_RETAIN : 0};

    if (p->props.has & KEI_MQTT_HAS(KEI_MQTT_P_MESSAGE_EXPIRY))
        d.expires_ms = m->now + (int64_t)p->props.message_expiry * 1000;
    if (m->n_local_subs || m->ops.message) {
        d.client = mq_id(c->s);
        d.user = kei_str(c->user_name);
    }
    if (!c->l->mount)
        return kei_mq_msg_new(m, &d);
    struct ke_buf full;
    kei_buf_init(&full, m->alloc);
    kei_buf_adds(&full, c->l->mount);
    kei_buf_addv(&full, p->topic);
    d.topic = kei_buf_str(&full);
    struct mq_msg *g = kei_buf_ok(&full) && full.n <= UINT16_MAX ? kei_mq_msg_new(m, &d) : NULL;
    ke_buf_free(&full);
    return g;
}

static bool host_refuses(struct mq_conn *c, struct mq_msg *g)
{
    struct ke_mqtt *m = c->m;
    struct ke_mqtt_message v;
    struct ke_mqtt_client cl;

    if (!m->ops.message)
        return false;
    kei_mq_msg_view(g, &v, g->qos, (g->flags & MQ_MSG_RETAIN) != 0, NULL, 0);
    kei_mq_conn_client(c, &cl, NULL, NULL);
    kei_mq_enter(m);
    int r = m->ops.message(m->user, &cl, &v);
    kei_mq_leave(m);
    return r != 0;
}

/* Is it taken? *ret is the message then; else the reason for the acknowledgement. */
static unsigned admit(struct mq_conn *c, const struct kei_mqtt_publish *p, struct mq_msg **ret)
{
    struct ke_mqtt *m = c->m;

    if (p->payload.n > m->lim.payload) {
        m->st.over_packet++;
        kei_mq_log(c, KE_LOG_INFO, "a payload of %zu bytes was refused, max_payload is %u",
                   p->payload.n, m->lim.payload);
        return KEI_MQTT_R_PACKET_TOO_LARGE;
    }
    if (p->qos && m->journal && !kei_mq_journal_room(m))
        return KEI_MQTT_R_QUOTA;
    struct mq_msg *g = make_msg(c, p);
    if (!g)
        return KEI_MQTT_R_QUOTA;
    bool may = c->flags & MQ_C_FREE_WRITE || kei_mq_may(c, KE_MQTT_WRITE, mq_topic(g));
    if (!may || host_refuses(c, g)) {
        m->st.denied++;
        kei_mq_log(c, KE_LOG_INFO, "may not publish to \"%.*s\"", KEI_FMT(p->topic));
        mq_unref(g);
        return KEI_MQTT_R_NOT_AUTHORIZED;
    }
    *ret = g;
    return p->retain ? (unsigned)kei_mq_retain(m, g) : 0;
}

/* Gives it to everybody; the reason for the acknowledgement. */
static unsigned hand_on(struct mq_conn *c, const struct kei_mqtt_publish *p)
{
    struct mq_msg *g = NULL;
    unsigned reason = admit(c, p, &g);

    if (reason == 0 && kei_mq_route(c->m, g, c->s->origin) == 0 && !c->m->matched)
        reason = KEI_MQTT_R_NO_SUBSCRIBERS;
    mq_unref(g);
    return reason;
}

static bool new_qos2(struct mq_conn *c, const struct kei_mqtt_publish *p)
{
    struct mq_session *s = c->s;

    if (c->version == KEI_MQTT_V5 && s->rec_n >= c->m->lim.receive) {
        c->m->st.over_inflight++;
        kei_mq_conn_close(c, KEI_MQTT_R_RECEIVE_MAX,
                          "more than receive_max (%u) messages of QoS 2 in flight",
                          c->m->lim.receive);
        return false;
    }
    if (kei_mq_rec_add(s, p->pid) < 0) {
        kei_mq_conn_close(c, KEI_MQTT_R_QUOTA, "no memory for QoS 2");
        return false;
    }
    return true;
}

/*
 * The acknowledgement goes before what the client may get of its own message; with a journal it
 * waits for what is noted, and so comes behind.
 */
static void on_qos2(struct mq_conn *c, const struct kei_mqtt_publish *p)
{
    struct mq_session *s = c->s;
    struct mq_msg *g = NULL;

    if (kei_mq_rec_has(s, p->pid)) { /* it was taken before */
        if (++c->repeats > 1)
            kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL,
                              "message %u was sent again and again on one connection", p->pid);
        else
            acknowledge(c, p, 0);
        return;
    }
    if (!new_qos2(c, p))
        return;
    unsigned reason = admit(c, p, &g);
    if (reason >= 0x80)
        kei_mq_rec_remove(s, p->pid);
    else if (mq_kept(s))
        kei_mq_note_taken(s, p->pid, true);
    if (!c->m->journal || reason)
        acknowledge(c, p, reason);
    if (g && reason == 0)
        kei_mq_route(c->m, g, s->origin);
    if (c->m->journal && reason == 0 && c->state == MQ_UP)
        acknowledge(c, p, 0);
    mq_unref(g);
}

/* The server's own topics: nobody else writes there, but bridges their state. */
bool kei_mq_reserved(struct ke_str topic)
{
    if (kei_str_starts(topic, KEI_STR("$SYS/")))
        return !kei_mqtt_match(KEI_STR("$SYS/broker/connection/+/state"), topic);
    return kei_str_starts(topic, KEI_STR("$share/")) || kei_str_starts(topic, KEI_STR("$CONTROL/"));
}

void kei_mq_on_publish(struct mq_conn *c, uint8_t first, struct ke_str body)
{
    struct ke_mqtt *m = c->m;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_publish p;
    const char *what = "";
    int why = kei_mqtt_decode_publish(c->version, first, body, &p, &err);

    if (why) {
        kei_mq_conn_close(c, (unsigned)why, "PUBLISH: %s", err.text);
        return;
    }
    why = check(c, &p, &what);
    if (why) {
        kei_mq_conn_close(c, (unsigned)why, "PUBLISH: %s", what);
        return;
    }
    m->st.publish_in++;
    m->st.publish_bytes_in += p.payload.n;
    if (p.topic.p[0] == '$' && kei_mq_reserved(p.topic)) {
        m->st.denied++;
        acknowledge(c, &p, KEI_MQTT_R_NOT_AUTHORIZED);
        return;
    }
    if (p.qos == 2) {
        on_qos2(c, &p);
        return;
    }
    unsigned reason = hand_on(c, &p);
    if (c->state == MQ_UP)
        acknowledge(c, &p, reason);
}

void kei_mq_on_pubrel(struct mq_conn *c, uint16_t pid)
{
    bool known = kei_mq_rec_remove(c->s, pid);

    c->repeats = 0;

    if (known && mq_kept(c->s))
        kei_mq_note_taken(c->s, pid, false);
    kei_mq_send_ack(c, KEI_MQTT_PUBCOMP, pid, 0); /* unknown: released before, it asks again */
}
