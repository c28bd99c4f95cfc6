/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: one allocation each, shared by all sessions and retained entries that hold them. The
 * loop's references are plain; all of the host's together hold one, and come home through a list.
 */
#include "mqtt/server.h"

static size_t put(char *to, struct ke_str s)
{
    if (s.n)
        memcpy(to, s.p, s.n);
    return s.n;
}

struct mq_msg *kei_mq_msg_new(struct ke_mqtt *m, const struct mq_draft *d)
{
    struct ke_str props = d->props;
    struct ke_buf cut;
    struct mq_msg *g = NULL;

    kei_buf_init(&cut, m->alloc);
    if (d->skip && props.n) {
        kei_mqtt_props_copy(&cut, props, d->skip);
        if (!kei_buf_ok(&cut))
            goto out;
        props = kei_buf_str(&cut);
    }
    g = kei_alloc(m->alloc,
                  sizeof *g + d->topic.n + props.n + d->payload.n + d->client.n + d->user.n);
    if (!g)
        goto out;
    g->m = m;
    g->refs = 1;
    atomic_init(&g->ext, 0);
    g->payload_n = (uint32_t)d->payload.n;
    g->props_n = (uint32_t)props.n;
    g->topic_n = (uint16_t)d->topic.n;
    g->client_n = (uint16_t)d->client.n;
    g->user_n = (uint16_t)d->user.n;
    g->qos = d->qos;
    g->flags = d->flags;
    g->snap = 0;
    g->expires_ms = d->expires_ms;
    g->mid = 0;
    g->gone = NULL;
    char *p = g->bytes;
    p += put(p, d->topic);
    p += put(p, props);
    p += put(p, d->payload);
    p += put(p, d->client);
    put(p, d->user);
out:
    ke_buf_free(&cut);
    return g;
}

void kei_mq_msg_free(struct mq_msg *g)
{
    kei_free(g->m->alloc, g);
}

/* ---- held by the host ---- */

/* ext: how many the host has, above two bits. */
#define EXT_HELD 1u   /* one of refs is theirs */
#define EXT_LISTED 2u /* in the list of those to be looked at, or on the way there */
#define EXT_ONE 4u

struct ke_mqtt_data *ke_mqtt_data_ref(struct ke_mqtt_data *d)
{
    struct mq_msg *g = (struct mq_msg *)(void *)d;

    if (!g)
        return NULL;
    if (!(atomic_fetch_add(&g->ext, EXT_ONE) & EXT_HELD)) {
        g->refs++; /* the first comes from a callback, so the loop's thread */
        atomic_fetch_or(&g->ext, EXT_HELD);
    }
    return d;
}

/* Whoever takes the last one lists it; it may be listed since an earlier last one. */
void ke_mqtt_data_unref(struct ke_mqtt_data *d)
{
    struct mq_msg *g = (struct mq_msg *)(void *)d;
    unsigned now, next;

    if (!g)
        return;
    struct ke_mqtt *m = g->m;
    now = atomic_load(&g->ext);
    do {
        next = now - EXT_ONE;
        if (next < EXT_ONE)
            next |= EXT_LISTED;
    } while (!atomic_compare_exchange_weak(&g->ext, &now, next));
    if (next >= EXT_ONE || now & EXT_LISTED)
        return;
    struct mq_msg *head = atomic_load(&m->gone);
    do {
        g->gone = head;
    } while (!atomic_compare_exchange_weak(&m->gone, &head, g));
    kei_wake(&m->wake);
}

void kei_mq_msg_collect(struct ke_mqtt *m)
{
    struct mq_msg *g = atomic_exchange(&m->gone, NULL);

    while (g) {
        struct mq_msg *next = g->gone;
        if (atomic_fetch_and(&g->ext, ~EXT_LISTED) <
            EXT_ONE) { /* only this thread adds the first */
            atomic_fetch_and(&g->ext, ~EXT_HELD);
            mq_unref(g);
        }
        g = next;
    }
}

/* ---- as callbacks see it ---- */

void kei_mq_msg_view(struct mq_msg *g, struct ke_mqtt_message *v, unsigned qos, bool retain,
                     const uint32_t *ids, uint32_t n_ids)
{
    struct kei_mqtt_props props;
    struct ke_str raw = mq_props(g);

    memset(v, 0, sizeof *v);
    v->size = sizeof *v;
    v->data = (struct ke_mqtt_data *)(void *)g;
    v->topic = kei_mqtt_give(mq_topic(g));
    v->payload = kei_mqtt_give(mq_payload(g));
    const char *names = g->bytes + g->topic_n + g->props_n + g->payload_n;
    v->client_id = (struct ke_mqtt_str){names, g->client_n};
    v->user_name = (struct ke_mqtt_str){names + g->client_n, g->user_n};
    v->sub_ids = ids;
    v->n_sub_ids = n_ids;
    v->qos = qos;
    v->retain = retain;
    if (g->expires_ms != MQ_NEVER) {
        int64_t left = (g->expires_ms - g->m->now + 999) / 1000;
        v->has |= KE_MQTT_HAS_EXPIRY;
        v->expiry = left > 0 ? (uint32_t)left : 0;
    }
    if (raw.n == 0)
        return;
    if (kei_mqtt_props_bare(KEI_MQTT_PUBLISH, raw, &props, NULL))
        return;
    v->n_user = props.n_user;
    if (props.has & KEI_MQTT_HAS(KEI_MQTT_P_CONTENT_TYPE))
        v->content_type = kei_mqtt_give(props.content_type);
    if (props.has & KEI_MQTT_HAS(KEI_MQTT_P_RESPONSE_TOPIC))
        v->response_topic = kei_mqtt_give(props.response_topic);
    if (props.has & KEI_MQTT_HAS(KEI_MQTT_P_CORRELATION))
        v->correlation = kei_mqtt_give(props.correlation);
    if (props.has & KEI_MQTT_HAS(KEI_MQTT_P_PAYLOAD_FORMAT)) {
        v->has |= KE_MQTT_HAS_FORMAT;
        v->format = props.payload_format;
    }
}

int ke_mqtt_message_user(const struct ke_mqtt_message *msg, uint32_t i,
                         struct ke_mqtt_user_prop *ret)
{
    struct ke_str name, value;
    size_t at = 0;

    if (!msg || !msg->data || !ret)
        return KE_EINVAL;
    const struct mq_msg *g = (const struct mq_msg *)(const void *)msg->data;
    while (kei_mqtt_props_user(mq_props(g), &at, &name, &value)) {
        if (i-- > 0)
            continue;
        ret->name = kei_mqtt_give(name);
        ret->value = kei_mqtt_give(value);
        return 0;
    }
    return KE_ENOTFOUND;
}
