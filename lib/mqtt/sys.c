/* SPDX-License-Identifier: Apache-2.0 */
/* $SYS: counters of the server as retained messages, published when they changed. Loop thread. */
#include "mqtt/server.h"

#include <stdio.h>

static const struct {
    const char *topic;
    size_t at;
} counters[] = {
#define C(topic, member)                                                                           \
    {                                                                                              \
        "$SYS/broker/" topic, offsetof(struct ke_mqtt_stats, member)                               \
    }
    C("clients/connected", connections),
    C("clients/maximum", max_connections_seen),
    C("clients/total", sessions),
    C("clients/expired", sessions_expired),
    C("subscriptions/count", subscriptions),
    C("shared_subscriptions/count", shared_subscriptions),
    C("retained messages/count", retained),
    C("messages/stored", queued),
    C("store/messages/count", queued),
    C("store/messages/bytes", queued_bytes),
    C("messages/inflight", inflight),
    C("messages/received", packets_in),
    C("messages/sent", packets_out),
    C("bytes/received", bytes_in),
    C("bytes/sent", bytes_out),
    C("publish/messages/received", publish_in),
    C("publish/messages/sent", publish_out),
    C("publish/messages/dropped", publish_dropped),
    C("publish/bytes/received", publish_bytes_in),
    C("publish/bytes/sent", publish_bytes_out),
    C("connects/refused", connects_refused),
    C("errors/protocol", protocol_errors),
#undef C
};
#define N (sizeof counters / sizeof counters[0])

struct sys {
    uint64_t told[N];
    bool begun;
};

static void tell(struct ke_mqtt *m, const char *topic, const char *text)
{
    struct mq_draft d = {.topic = kei_str(topic),
                         .payload = kei_str(text),
                         .expires_ms = MQ_NEVER,
                         .flags = MQ_MSG_RETAIN | MQ_MSG_SYS};
    struct mq_msg *g = kei_mq_msg_new(m, &d);

    if (!g)
        return;
    kei_mq_publish(m, g, NULL);
    mq_unref(g);
}

static void on_timer(struct kei_timer *t)
{
    struct ke_mqtt *m = KEI_OF(t, struct ke_mqtt, sys_timer);
    struct sys *s = m->sys;
    char text[32];

    mq_now(m);
    for (size_t i = 0; i < N; i++) {
        uint64_t v;
        memcpy(&v, (const char *)&m->st + counters[i].at, sizeof v);
        if (s->begun && v == s->told[i])
            continue;
        s->told[i] = v;
        snprintf(text, sizeof text, "%llu", (unsigned long long)v);
        tell(m, counters[i].topic, text);
    }
    snprintf(text, sizeof text, "%lld seconds", (long long)(m->now - m->started_ms) / 1000);
    tell(m, "$SYS/broker/uptime", text);
    s->begun = true;
    kei_timer_in(&m->sys_timer, (int64_t)m->lim.sys_s * 1000);
}

void kei_mq_sys_start(struct ke_mqtt *m)
{
    if (m->flags & KE_MQTT_NO_SYS)
        return;
    m->sys = kei_zalloc(m->alloc, sizeof(struct sys));
    if (!m->sys)
        return; /* the server does without */
    kei_timer_init(m->ctx, &m->sys_timer, on_timer);
    kei_timer_in(&m->sys_timer, 0);
}

void kei_mq_sys_stop(struct ke_mqtt *m)
{
    kei_timer_fini(&m->sys_timer);
    kei_free(m->alloc, m->sys);
    m->sys = NULL;
}
