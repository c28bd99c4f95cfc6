/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See client.h. Packet ids of our messages are 1 to inflight, always the same few: so after a crash
 * the ids an earlier run may have left half-way at the server are known and can be released, or
 * else the server would take the next message with such an id for a copy and drop it.
 */
#include "mqtt/client.h"

#include <string.h>

#define OUT_KEEP 16384u
#define IN_MAX 65535u

enum slot_state { SLOT_NEW, SLOT_SENT, SLOT_RELEASED };

struct kei_mqttc_slot {
    struct kei_link link; /* in waiting while it has to be sent */
    void *tag;
    uint16_t pid;
    uint8_t qos, state;
    bool again; /* was sent before, over another connection */
    size_t len;
    uint8_t packet[]; /* whole PUBLISH */
};

/* A message of the server's that the user has not acknowledged, or whose release is awaited. */
struct kei_mqttc_in {
    uint16_t pid;
    uint8_t qos;
    bool received; /* QoS 2: PUBREC went out, PUBREL is awaited */
};

static uint32_t token_of(const struct kei_mqttc *m, uint16_t pid)
{
    return (m->epoch & 0xffffu) << 16 | pid;
}

int kei_mqttc_init(struct kei_mqttc *m, const struct ke_alloc *a, const struct kei_mqttc_config *c,
                   const struct kei_mqttc_ops *ops)
{
    memset(m, 0, sizeof *m);
    m->alloc = a;
    m->c = *c;
    m->ops = *ops;
    m->err = (struct ke_error)KE_ERROR_INIT;
    m->epoch = 1;
    kei_list_init(&m->waiting);
    kei_buf_init(&m->out, a);
    m->slots = kei_array_alloc(a, c->inflight, sizeof(struct kei_mqttc_slot *));
    if (!m->slots)
        return KE_ENOMEM;
    memset(m->slots, 0, c->inflight * sizeof(struct kei_mqttc_slot *));
    m->n_slots = c->inflight;
    return 0;
}

void kei_mqttc_fini(struct kei_mqttc *m)
{
    if (!m->alloc)
        return;
    for (uint16_t i = 0; m->slots && i < m->n_slots; i++)
        kei_free(m->alloc, m->slots[i]);
    kei_free(m->alloc, m->slots);
    kei_free(m->alloc, m->in);
    ke_buf_free(&m->out);
    memset(m, 0, sizeof *m);
}

bool kei_mqttc_ok(const struct kei_mqttc *m)
{
    return kei_buf_ok(&m->out);
}

/* ---- connecting ---- */

void kei_mqttc_begin(struct kei_mqttc *m, int64_t now_ms)
{
    struct ke_buf props;
    struct kei_mqtt_connect k = {
        .version = m->c.version,
        .clean = m->c.clean,
        .has_user = m->c.has_user,
        .has_password = m->c.has_password,
        .keepalive = m->c.keepalive,
        .bridge = m->c.bridge && m->c.version == KEI_MQTT_V311,
        .client_id = m->c.client_id,
        .user_name = m->c.user_name,
        .password = m->c.password,
        .has_will = m->c.will_topic.n > 0,
        .will_qos = m->c.will_qos,
        .will_retain = m->c.will_retain,
        .will_topic = m->c.will_topic,
        .will_payload = m->c.will_payload,
    };
    kei_buf_clear(&m->out);
    kei_buf_init(&props, m->alloc);
    if (m->c.version == KEI_MQTT_V5) {
        if (!m->c.clean)
            kei_mqtt_put_u32(&props, KEI_MQTT_P_SESSION_EXPIRY, UINT32_MAX);
        if (m->c.receive_max)
            kei_mqtt_put_u16(&props, KEI_MQTT_P_RECEIVE_MAX, m->c.receive_max);
        if (m->c.max_packet)
            kei_mqtt_put_u32(&props, KEI_MQTT_P_MAX_PACKET, m->c.max_packet);
        k.props.raw = kei_buf_str(&props);
    }
    kei_mqtt_encode_connect(&m->out, &k);
    if (!kei_buf_ok(&props))
        kei_buf_clear(&m->out);
    ke_buf_free(&props);
    m->state = KEI_MQTTC_CONNECTING;
    m->heard_ms = m->sent_ms = now_ms;
    m->asked_ms = 0;
    m->keepalive_ms = m->c.keepalive * 1000u;
}

/* All that was sent and is not done has to be sent again, in the order of the first time. */
void kei_mqttc_lost(struct kei_mqttc *m)
{
    if (m->state == KEI_MQTTC_IDLE)
        return;
    m->state = KEI_MQTTC_IDLE;
    ke_buf_free(&m->out);
    kei_buf_init(&m->out, m->alloc);
    KEI_LIST_EACH(l, &m->waiting)
    {
        struct kei_mqttc_slot *s = KEI_OF(l, struct kei_mqttc_slot, link);
        if (s->state != SLOT_NEW)
            s->again = true;
    }
    m->n_out = 0;
}

static void send_slot(struct kei_mqttc *m, struct kei_mqttc_slot *s)
{
    if (s->state == SLOT_RELEASED) {
        struct kei_mqtt_ack a = {.pid = s->pid};
        kei_mqtt_encode_ack(&m->out, m->c.version, KEI_MQTT_PUBREL, &a);
    } else {
        if (s->again)
            s->packet[0] |= 8; /* DUP */
        kei_buf_add(&m->out, s->packet, s->len);
        s->state = SLOT_SENT;
    }
    s->again = false;
    m->n_out++;
}

/*
 * Slots stay in the list until they are done, so its order is that of their first sending. Those to
 * be sent now are new, or marked again.
 */
static void pump(struct kei_mqttc *m)
{
    if (m->state != KEI_MQTTC_UP)
        return;
    KEI_LIST_EACH(l, &m->waiting)
    {
        struct kei_mqttc_slot *s = KEI_OF(l, struct kei_mqttc_slot, link);
        if (m->n_out >= m->quota)
            return;
        if (s->state == SLOT_NEW || s->again)
            send_slot(m, s);
    }
}

static void release_leftovers(struct kei_mqttc *m)
{
    for (uint16_t i = 0; i < m->n_slots; i++) {
        struct kei_mqtt_ack a = {.pid = (uint16_t)(i + 1)};
        if (!m->slots[i] || m->slots[i]->state == SLOT_NEW)
            kei_mqtt_encode_ack(&m->out, m->c.version, KEI_MQTT_PUBREL, &a);
    }
}

/* The server takes QoS 1 at most: what was meant for QoS 2 has to go with that. */
static void lower_qos(struct kei_mqttc *m)
{
    KEI_LIST_EACH(l, &m->waiting)
    {
        struct kei_mqttc_slot *s = KEI_OF(l, struct kei_mqttc_slot, link);
        if (s->qos != 2 || s->state == SLOT_RELEASED)
            continue;
        s->packet[0] = (uint8_t)((s->packet[0] & ~6u) | 2u);
        s->qos = 1;
    }
}

static int on_connack(struct kei_mqttc *m, struct ke_str body)
{
    struct kei_mqtt_connack k;
    if (m->state != KEI_MQTTC_CONNECTING ||
        kei_mqtt_decode_connack(m->c.version, body, &k, &m->err) != 0)
        return kei_error(&m->err, KE_EPROTO, "the server answered CONNECT with a malformed packet");
    if (k.reason != 0)
        return kei_error(
            &m->err, KE_EREFUSED, "the server refused the connection: %s (0x%02x)%s%.*s",
            m->c.version == KEI_MQTT_V5 ? kei_mqtt_reason_text(k.reason) : "return code", k.reason,
            k.props.reason.n ? ": " : "", KEI_FMT(k.props.reason));
    const struct kei_mqtt_props *p = &k.props;
    m->state = KEI_MQTTC_UP;
    m->quota = p->has & KEI_MQTT_HAS(KEI_MQTT_P_RECEIVE_MAX) ? p->receive_max : UINT16_MAX;
    m->server_max_packet =
        p->has & KEI_MQTT_HAS(KEI_MQTT_P_MAX_PACKET) ? p->max_packet : UINT32_MAX;
    m->server_max_qos = p->has & KEI_MQTT_HAS(KEI_MQTT_P_MAX_QOS) ? p->max_qos : 2;
    m->server_retain =
        !(p->has & KEI_MQTT_HAS(KEI_MQTT_P_RETAIN_AVAILABLE)) || p->retain_available != 0;
    if (p->has & KEI_MQTT_HAS(KEI_MQTT_P_SERVER_KEEPALIVE))
        m->keepalive_ms = p->server_keepalive * 1000u;
    if (!k.session_present) {
        m->n_in = 0;
        m->epoch++;
    } else if (m->c.release) {
        release_leftovers(m);
    }
    m->c.release = false;
    if (m->server_max_qos == 1)
        lower_qos(m);
    if (m->ops.connected)
        m->ops.connected(m->ops.user, k.session_present != 0);
    pump(m);
    return 0;
}

/* ---- messages that come ---- */

static struct kei_mqttc_in *find_in(struct kei_mqttc *m, uint16_t pid)
{
    for (uint32_t i = 0; i < m->n_in; i++)
        if (m->in[i].pid == pid)
            return &m->in[i];
    return NULL;
}

static void drop_in(struct kei_mqttc *m, struct kei_mqttc_in *e)
{
    *e = m->in[--m->n_in];
}

static int add_in(struct kei_mqttc *m, uint16_t pid, uint8_t qos)
{
    if (m->n_in == m->cap_in) {
        uint32_t cap = m->cap_in ? m->cap_in * 2 : 16;
        if (cap > IN_MAX + 1)
            return kei_error(&m->err, KE_ELIMIT,
                             "the server sent more than %u messages without an "
                             "acknowledgement",
                             IN_MAX);
        struct kei_mqttc_in *in = kei_array_realloc(m->alloc, m->in, cap, sizeof *in);
        if (!in)
            return kei_error(&m->err, KE_ENOMEM, "out of memory for a message");
        m->in = in;
        m->cap_in = cap;
    }
    m->in[m->n_in++] = (struct kei_mqttc_in){.pid = pid, .qos = qos};
    return 0;
}

static void put_ack(struct kei_mqttc *m, unsigned type, uint16_t pid, uint8_t reason)
{
    struct kei_mqtt_ack a = {.pid = pid, .reason = m->c.version == KEI_MQTT_V5 ? reason : 0};
    if (m->state == KEI_MQTTC_UP)
        kei_mqtt_encode_ack(&m->out, m->c.version, type, &a);
}

static int on_publish(struct kei_mqttc *m, uint8_t first, struct ke_str body)
{
    struct kei_mqtt_publish p;
    if (kei_mqtt_decode_publish(m->c.version, first, body, &p, &m->err) != 0)
        return kei_error(&m->err, KE_EPROTO, "the server sent a malformed PUBLISH");
    if (p.topic.n == 0 || p.props.has & KEI_MQTT_HAS(KEI_MQTT_P_ALIAS))
        return kei_error(&m->err, KE_EPROTO, "the server used a topic alias, none was allowed");
    struct kei_mqttc_message msg = {.publish = &p};
    if (p.qos > 0) {
        struct kei_mqttc_in *e = find_in(m, p.pid);
        if (e && e->received) {
            put_ack(m, KEI_MQTT_PUBREC, p.pid, 0);
            return 0;
        }
        if (e)
            return 0; /* a copy of what the user has already and will acknowledge */
        int r = add_in(m, p.pid, p.qos);
        if (r < 0)
            return r;
        msg.token = token_of(m, p.pid);
    }
    m->ops.message(m->ops.user, &msg);
    return 0;
}

void kei_mqttc_ack(struct kei_mqttc *m, uint32_t token, uint8_t reason)
{
    uint16_t pid = (uint16_t)(token & 0xffff);
    struct kei_mqttc_in *e = token >> 16 == (m->epoch & 0xffffu) ? find_in(m, pid) : NULL;
    if (!e || e->received)
        return;
    if (m->state != KEI_MQTTC_UP) {
        /* The server sends it again over the next connection: a QoS 1 copy is then passed on, a
         * QoS 2 one is known by its id. */
        if (e->qos == 1)
            drop_in(m, e);
        else
            e->received = true;
        return;
    }
    put_ack(m, e->qos == 1 ? KEI_MQTT_PUBACK : KEI_MQTT_PUBREC, pid, reason);
    if (e->qos == 1 || reason >= 0x80)
        drop_in(m, e);
    else
        e->received = true;
}

static int on_pubrel(struct kei_mqttc *m, const struct kei_mqtt_ack *a)
{
    struct kei_mqttc_in *e = find_in(m, a->pid);
    if (e)
        drop_in(m, e);
    put_ack(m, KEI_MQTT_PUBCOMP, a->pid, e ? 0 : KEI_MQTT_R_PID_NOT_FOUND);
    return 0;
}

/* ---- messages that go ---- */

static struct kei_mqttc_slot *slot_of(struct kei_mqttc *m, uint16_t pid)
{
    return pid > 0 && pid <= m->n_slots ? m->slots[pid - 1] : NULL;
}

static void finish(struct kei_mqttc *m, struct kei_mqttc_slot *s, unsigned reason)
{
    void *tag = s->tag;
    m->slots[s->pid - 1] = NULL;
    kei_list_remove(&s->link);
    kei_free(m->alloc, s);
    m->n_used--;
    m->n_out--;
    m->ops.done(m->ops.user, tag, reason);
    pump(m);
}

static int on_ack(struct kei_mqttc *m, unsigned type, const struct kei_mqtt_ack *a)
{
    struct kei_mqttc_slot *s = slot_of(m, a->pid);
    unsigned qos = type == KEI_MQTT_PUBACK ? 1 : 2;
    if (!s || s->qos != qos || s->state == SLOT_NEW || s->again) {
        if (type == KEI_MQTT_PUBREC) /* left over: the server must not keep the id */
            put_ack(m, KEI_MQTT_PUBREL, a->pid, KEI_MQTT_R_PID_NOT_FOUND);
        return 0;
    }
    if (type == KEI_MQTT_PUBREC && a->reason < 0x80) {
        s->state = SLOT_RELEASED;
        put_ack(m, KEI_MQTT_PUBREL, a->pid, 0);
        return 0;
    }
    if (type == KEI_MQTT_PUBCOMP && s->state != SLOT_RELEASED)
        return 0; /* of a release of leftovers */
    finish(m, s, type == KEI_MQTT_PUBCOMP ? 0 : a->reason);
    return 0;
}

static uint16_t free_pid(const struct kei_mqttc *m)
{
    for (uint16_t i = 0; i < m->n_slots; i++)
        if (!m->slots[i])
            return (uint16_t)(i + 1);
    return 0;
}

static int too_large(struct kei_mqttc *m, size_t n)
{
    return kei_error(&m->err, KE_ELIMIT,
                     "a message of %zu bytes is larger than the server takes: %u", n,
                     m->server_max_packet);
}

static int publish_now(struct kei_mqttc *m, const struct kei_mqtt_publish *p)
{
    if (m->state != KEI_MQTTC_UP)
        return KE_ECLOSED;
    size_t before = m->out.n;
    kei_mqtt_encode_publish(&m->out, m->c.version, p);
    if (!kei_buf_ok(&m->out))
        return KE_ENOMEM;
    size_t n = m->out.n - before;
    if (n <= m->server_max_packet)
        return 0;
    m->out.n = before;
    return too_large(m, n);
}

int kei_mqttc_publish(struct kei_mqttc *m, const struct kei_mqtt_publish *publish, void *tag)
{
    struct kei_mqtt_publish p = *publish;
    struct ke_buf b;
    bool up = m->state == KEI_MQTTC_UP;
    if (p.qos > kei_mqttc_max_qos(m))
        p.qos = kei_mqttc_max_qos(m);
    if (up && !m->server_retain)
        p.retain = 0;
    p.dup = 0;
    if (p.qos == 0)
        return publish_now(m, &p);
    p.pid = kei_mqttc_room(m) ? free_pid(m) : 0;
    if (p.pid == 0)
        return kei_error(&m->err, KE_ELIMIT, "%u messages are not acknowledged yet", m->c.inflight);
    kei_buf_init(&b, m->alloc);
    kei_mqtt_encode_publish(&b, m->c.version, &p);
    struct kei_mqttc_slot *s = kei_buf_ok(&b) ? kei_alloc(m->alloc, sizeof *s + b.n) : NULL;
    int r = s ? 0 : KE_ENOMEM;
    if (up && s && b.n > m->server_max_packet)
        r = too_large(m, b.n);
    if (r == 0) {
        *s = (struct kei_mqttc_slot){.tag = tag, .pid = p.pid, .qos = p.qos, .len = b.n};
        memcpy(s->packet, b.p, b.n);
        m->slots[p.pid - 1] = s;
        m->n_used++;
        kei_list_add_tail(&m->waiting, &s->link);
        pump(m);
    } else {
        kei_free(m->alloc, s);
    }
    ke_buf_free(&b);
    return r;
}

/* ---- the rest ---- */

void kei_mqttc_subscribe(struct kei_mqttc *m, struct ke_str list, uint32_t sub_id)
{
    struct ke_buf props;
    /* ids above those of messages */
    m->sub_pid = (uint16_t)(m->sub_pid < m->n_slots || m->sub_pid == UINT16_MAX ? m->n_slots + 1
                                                                                : m->sub_pid + 1);
    struct kei_mqtt_subscribe s = {.pid = m->sub_pid, .list = list};
    kei_buf_init(&props, m->alloc);
    if (sub_id && m->c.version == KEI_MQTT_V5) {
        kei_mqtt_put_varint(&props, KEI_MQTT_P_SUB_ID, sub_id);
        s.props.raw = kei_buf_str(&props);
    }
    if (kei_buf_ok(&props))
        kei_mqtt_encode_subscribe(&m->out, m->c.version, KEI_MQTT_SUBSCRIBE, &s);
    ke_buf_free(&props);
}

void kei_mqttc_disconnect(struct kei_mqttc *m)
{
    struct kei_mqtt_ack a = {0};
    if (m->state == KEI_MQTTC_UP)
        kei_mqtt_encode_ack(&m->out, m->c.version, KEI_MQTT_DISCONNECT, &a);
}

static int on_simple(struct kei_mqttc *m, unsigned type, struct ke_str body)
{
    struct kei_mqtt_ack a = {0};
    struct kei_mqtt_subscribe s;
    if (type == KEI_MQTT_SUBACK) {
        if (kei_mqtt_decode_subscribe(m->c.version, type, body, &s, &m->err) != 0)
            return kei_error(&m->err, KE_EPROTO, "the server sent a malformed SUBACK");
        if (m->ops.subscribed)
            m->ops.subscribed(m->ops.user, s.list);
        return 0;
    }
    if (kei_mqtt_decode_ack(m->c.version, type, body, &a, &m->err) != 0)
        return kei_error(&m->err, KE_EPROTO, "the server sent a malformed %s",
                         kei_mqtt_type_name(type));
    if (type == KEI_MQTT_DISCONNECT)
        return kei_error(&m->err, KE_EREFUSED, "the server ended the connection: %s (0x%02x)%s%.*s",
                         kei_mqtt_reason_text(a.reason), a.reason, a.props.reason.n ? ": " : "",
                         KEI_FMT(a.props.reason));
    return type == KEI_MQTT_PUBREL ? on_pubrel(m, &a) : on_ack(m, type, &a);
}

static int on_packet(struct kei_mqttc *m, const struct kei_mqtt_frame *f, struct ke_str body)
{
    unsigned type = kei_mqtt_frame_type(f);
    if (type == KEI_MQTT_CONNACK)
        return on_connack(m, body);
    if (m->state != KEI_MQTTC_UP)
        return kei_error(&m->err, KE_EPROTO, "the server sent %s before CONNACK",
                         kei_mqtt_type_name(type));
    switch (type) {
    case KEI_MQTT_PUBLISH:
        return on_publish(m, f->first, body);
    case KEI_MQTT_PUBACK:
    case KEI_MQTT_PUBREC:
    case KEI_MQTT_PUBREL:
    case KEI_MQTT_PUBCOMP:
    case KEI_MQTT_SUBACK:
        return on_simple(m, type, body);
    case KEI_MQTT_DISCONNECT:
        if (m->c.version == KEI_MQTT_V5)
            return on_simple(m, type, body);
        break;
    case KEI_MQTT_PINGRESP:
        m->asked_ms = 0;
        return 0;
    case KEI_MQTT_UNSUBACK:
        return 0;
    default:
        break;
    }
    return kei_error(&m->err, KE_EPROTO, "the server sent %s, which is not for clients",
                     kei_mqtt_type_name(type));
}

int kei_mqttc_input(struct kei_mqttc *m, const char *p, size_t n, int64_t now_ms, size_t *ret_used)
{
    size_t at = 0;
    int r = 0;
    m->heard_ms = now_ms;
    while (r == 0 && at < n) {
        struct kei_mqtt_frame f;
        int k = kei_mqtt_frame((const uint8_t *)p + at, n - at, &f);
        if (k < 0)
            r = kei_error(&m->err, KE_EPROTO, "the server sent a malformed packet");
        else if (k > 0 && m->c.max_packet && f.length > m->c.max_packet)
            r = kei_error(&m->err, KE_ELIMIT,
                          "the server sent a packet of %u bytes, max_packet is %u", f.length,
                          m->c.max_packet);
        if (r < 0 || k == 0 || n - at - f.head < f.length)
            break;
        r = on_packet(m, &f, kei_strn(p + at + f.head, f.length));
        at += f.head + f.length;
    }
    if (r == 0 && !kei_buf_ok(&m->out))
        r = kei_error(&m->err, KE_ENOMEM, "out of memory for what goes to the server");
    *ret_used = at;
    return r;
}

int kei_mqttc_tick(struct kei_mqttc *m, int64_t now_ms, int64_t *ret_next_ms)
{
    *ret_next_ms = -1;
    if (m->state != KEI_MQTTC_UP || m->keepalive_ms == 0)
        return 0;
    if (m->asked_ms && now_ms - m->asked_ms >= (int64_t)m->keepalive_ms)
        return kei_error(&m->err, KE_ETIMEDOUT,
                         "the server did not answer within its keepalive, %u s",
                         m->keepalive_ms / 1000);
    /* Half the time, so that neither a slow turn nor a slow network makes the server give up. */
    if (!m->asked_ms && now_ms - m->sent_ms >= (int64_t)m->keepalive_ms / 2) {
        kei_mqtt_encode_ping(&m->out, KEI_MQTT_PINGREQ);
        m->asked_ms = m->sent_ms = now_ms;
    }
    *ret_next_ms = m->asked_ms ? m->asked_ms + (int64_t)m->keepalive_ms
                               : m->sent_ms + (int64_t)m->keepalive_ms / 2;
    return 0;
}
