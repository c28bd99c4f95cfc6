/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets to one connection, written straight into its output. Small payloads are copied, large
 * ones shared with all others they go to. Topic aliases both ways. Loop thread.
 */
#include "mqtt/journal.h"
#include "mqtt/server.h"

struct mq_alias {
    char *topic; /* NULL: not set */
    uint32_t hash;
    uint16_t n;
};
struct mq_aliases {
    struct mq_alias *in, *out;
    uint16_t in_n, out_n, out_used;
};

/* ---- aliases ---- */

static void free_table(struct ke_mqtt *m, struct mq_alias *t, uint32_t n)
{
    for (uint32_t i = 0; t && i < n; i++)
        kei_free(m->alloc, t[i].topic);
    kei_free(m->alloc, t);
}

void kei_mq_aliases_free(struct mq_conn *c)
{
    if (!c->aliases)
        return;
    free_table(c->m, c->aliases->in, c->aliases->in_n);
    free_table(c->m, c->aliases->out, c->aliases->out_n);
    kei_free(c->m->alloc, c->aliases);
    c->aliases = NULL;
}

struct mq_aliases *kei_mq_aliases(struct mq_conn *c)
{
    if (!c->aliases)
        c->aliases = kei_zalloc(c->m->alloc, sizeof *c->aliases);
    return c->aliases;
}

static bool set_topic(struct ke_mqtt *m, struct mq_alias *a, struct ke_str topic)
{
    char *copy = kei_alloc(m->alloc, topic.n);

    if (!copy)
        return false;
    memcpy(copy, topic.p, topic.n);
    kei_free(m->alloc, a->topic);
    a->topic = copy;
    a->n = (uint16_t)topic.n;
    return true;
}

int kei_mq_alias_in(struct mq_conn *c, uint16_t alias, struct ke_str *topic)
{
    struct ke_mqtt *m = c->m;
    uint32_t max = c->l->max_alias ? c->l->max_alias : m->lim.alias_in;

    if (max == KE_MQTT_NONE)
        max = 0;
    if (alias == 0 || alias > max)
        return KEI_MQTT_R_ALIAS;
    struct mq_aliases *t = kei_mq_aliases(c);
    if (!t)
        return KEI_MQTT_R_QUOTA;
    if (!t->in) {
        t->in = kei_zalloc(m->alloc, max * sizeof *t->in);
        if (!t->in)
            return KEI_MQTT_R_QUOTA;
        t->in_n = (uint16_t)max;
    }
    if (alias > t->in_n)
        return KEI_MQTT_R_ALIAS;
    struct mq_alias *a = &t->in[alias - 1];
    if (topic->n)
        return set_topic(m, a, *topic) ? 0 : KEI_MQTT_R_QUOTA;
    if (!a->topic)
        return KEI_MQTT_R_PROTOCOL;
    *topic = kei_strn(a->topic, a->n);
    return 0;
}

static uint32_t topic_hash(struct ke_str s)
{
    uint32_t h = (uint32_t)s.n * 0x9e3779b1u;

    for (size_t i = s.n > 24 ? s.n - 24 : 0; i < s.n; i++)
        h = (h ^ (uint8_t)s.p[i]) * 0x01000193u;
    return h;
}

/* The alias towards the client for topic; 0: none. *known: it need not be sent any more. */
static uint16_t alias_out(struct mq_conn *c, struct ke_str topic, bool may_set, bool *known)
{
    struct mq_aliases *t = kei_mq_aliases(c);
    uint32_t hash = topic_hash(topic);

    *known = false;
    if (!t)
        return 0;
    for (uint16_t i = 0; i < t->out_used; i++) {
        struct mq_alias *a = &t->out[i];
        if (a->hash == hash && kei_str_eq(kei_strn(a->topic, a->n), topic)) {
            *known = true;
            return (uint16_t)(i + 1);
        }
    }
    if (!may_set || (t->out && t->out_used == t->out_n))
        return 0;
    if (!t->out) {
        t->out = kei_zalloc(c->m->alloc, c->alias_max * sizeof *t->out);
        if (!t->out)
            return 0;
        t->out_n = c->alias_max;
    }
    struct mq_alias *a = &t->out[t->out_used];
    if (!set_topic(c->m, a, topic))
        return 0;
    a->hash = hash;
    return ++t->out_used;
}

/* ---- PUBLISH ---- */

struct form { /* of one PUBLISH to one client */
    struct ke_str topic, props, payload;
    uint32_t props_n; /* all properties, without their length */
    uint32_t expiry;
    uint16_t alias;
    bool has_expiry;
};

static uint8_t *put_u16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

static uint8_t *put_bytes(uint8_t *p, struct ke_str s)
{
    if (s.n)
        memcpy(p, s.p, s.n);
    return p + s.n;
}

static uint8_t *put_props(uint8_t *p, const struct form *f, const struct mq_delivery *d)
{
    const uint32_t *ids = kei_mq_ids(d);

    p += kei_mqtt_varint(p, f->props_n);
    if (f->has_expiry) {
        *p++ = KEI_MQTT_P_MESSAGE_EXPIRY;
        p = put_u16(p, f->expiry >> 16);
        p = put_u16(p, f->expiry & 0xffff);
    }
    if (f->alias) {
        *p++ = KEI_MQTT_P_ALIAS;
        p = put_u16(p, f->alias);
    }
    p = put_bytes(p, f->props);
    for (uint32_t i = 0; i < d->n_ids; i++) {
        *p++ = KEI_MQTT_P_SUB_ID;
        p += kei_mqtt_varint(p, ids[i]);
    }
    return p;
}

static void measure_props(struct form *f, const struct mq_delivery *d)
{
    const uint32_t *ids = kei_mq_ids(d);
    uint32_t n = (uint32_t)f->props.n + (f->has_expiry ? 5 : 0) + (f->alias ? 3 : 0);

    for (uint32_t i = 0; i < d->n_ids; i++)
        n += 1 + kei_mqtt_varint_size(ids[i]);
    f->props_n = n;
}

static struct ke_str without_mount(const struct mq_conn *c, struct ke_str topic)
{
    size_t n = c->l->mount ? strlen(c->l->mount) : 0;

    if (n && topic.n > n && memcmp(topic.p, c->l->mount, n) == 0)
        return kei_strn(topic.p + n, topic.n - n);
    return topic;
}

bool kei_mq_send_publish(struct mq_conn *c, const struct mq_delivery *d, uint16_t pid)
{
    struct ke_mqtt *m = c->m;
    struct mq_msg *g = d->msg;
    struct form f = {without_mount(c, mq_topic(g)), mq_props(g), mq_payload(g), 0, 0, 0, false};
    struct mq_out *o = &c->out, *gate = pid && m->journal ? kei_mq_gate(c) : NULL;
    bool v5 = c->version == KEI_MQTT_V5, known = false;

    if (gate)
        o = gate;
    if (v5) {
        if (g->expires_ms != MQ_NEVER) {
            int64_t left = (g->expires_ms - m->now + 999) / 1000;
            f.has_expiry = true;
            f.expiry = left > 0 ? (uint32_t)left : 1;
        }
        if (c->alias_max) {
            f.alias = alias_out(c, f.topic, !gate, &known);
            if (known)
                f.topic.n = 0;
        }
        measure_props(&f, d);
    }
    uint32_t length = 2 + (uint32_t)f.topic.n + (pid ? 2 : 0) + (uint32_t)f.payload.n;
    if (v5)
        length += kei_mqtt_varint_size(f.props_n) + f.props_n;
    uint32_t head = 1 + kei_mqtt_varint_size(length);
    if (head + length > c->max_packet) {
        m->st.publish_dropped++;
        m->st.over_packet++;
        return false;
    }
    bool copy = f.payload.n <= MQ_COPY;
    size_t n = head + length - (copy ? 0 : f.payload.n);
    uint8_t *p = kei_mq_out_room(m, o, n);
    if (!p) {
        kei_mq_conn_close(c, KEI_MQTT_R_QUOTA, "no memory for its messages");
        return false;
    }
    unsigned retain = d->flags & MQ_D_RETAIN ? 1 : 0;
    *p++ = (uint8_t)(KEI_MQTT_PUBLISH << 4 | (d->flags & MQ_D_DUP ? 8u : 0) |
                     (pid ? d->qos : 0u) << 1 | retain);
    p += kei_mqtt_varint(p, length);
    p = put_u16(p, (unsigned)f.topic.n);
    p = put_bytes(p, f.topic);
    if (pid)
        p = put_u16(p, pid);
    if (v5)
        p = put_props(p, &f, d);
    if (copy) {
        put_bytes(p, f.payload);
    } else if (!kei_mq_out_share(m, o, g, (const uint8_t *)f.payload.p, f.payload.n)) {
        kei_mq_conn_lost(c, "no memory for its messages"); /* half a packet is in the output */
        return false;
    }
    m->st.packets_out++;
    m->st.publish_out++;
    m->st.publish_bytes_out += f.payload.n;
    kei_mq_dirty(c);
    return true;
}

/* ---- the others ---- */

void kei_mq_send_ack(struct mq_conn *c, unsigned type, uint16_t pid, unsigned reason)
{
    struct ke_mqtt *m = c->m;
    bool with_reason = reason && c->version == KEI_MQTT_V5;
    struct mq_out *gate = m->journal ? kei_mq_gate(c) : NULL;
    uint8_t *p = kei_mq_out_room(m, gate ? gate : &c->out, with_reason ? 5 : 4);

    if (!p) {
        kei_mq_conn_close(c, KEI_MQTT_R_QUOTA, "no memory for an acknowledgement");
        return;
    }
    p[0] = (uint8_t)(type << 4 | (type == KEI_MQTT_PUBREL ? 2u : 0));
    p[1] = with_reason ? 3 : 2;
    put_u16(p + 2, pid);
    if (with_reason)
        p[4] = (uint8_t)reason;
    m->st.packets_out++;
    kei_mq_dirty(c);
}

void kei_mq_send_buf(struct mq_conn *c, struct ke_buf *b)
{
    struct mq_out *gate = c->m->journal ? kei_mq_gate(c) : NULL;

    if (!kei_buf_ok(b) || b->n == 0 || !kei_mq_out_add(c->m, gate ? gate : &c->out, b->p, b->n))
        kei_mq_conn_lost(c, "no memory for a packet");
    else
        c->m->st.packets_out++;
    ke_buf_free(b);
    kei_mq_dirty(c);
}
