/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages on their way to one client: a queue of those that wait, and a ring of those in flight in
 * the order they were sent, in which the packet id of an entry follows from its place. Loop thread.
 */
#include "mqtt/journal.h"
#include "mqtt/server.h"

#define SPAN_MAX 16384u /* how far behind the oldest unacknowledged message sending may go on */

static uint16_t pid_at(const struct mq_session *s, uint32_t i)
{
    return (uint16_t)((s->base_pid - 1u + i) % 65535u + 1u);
}

/* ---- rings ---- */

static bool ring_room(struct mq_session *s, struct mq_ring *r)
{
    if (r->n < r->cap)
        return true;
    uint32_t cap = r->cap ? r->cap * 2 : 4;
    struct mq_delivery *e = kei_array_alloc(s->m->alloc, cap, sizeof *e);
    if (!e)
        return false;
    for (uint32_t i = 0; i < r->n; i++)
        e[i] = *mq_ring_at(r, i);
    kei_free(s->m->alloc, r->e);
    r->e = e;
    r->cap = cap;
    r->head = 0;
    return true;
}

static bool ring_push(struct mq_session *s, struct mq_ring *r, const struct mq_delivery *d)
{
    if (!ring_room(s, r))
        return false;
    r->n++;
    *mq_ring_at(r, r->n - 1) = *d;
    return true;
}

static void ring_pop(struct mq_session *s, struct mq_ring *r)
{
    r->head = (r->head + 1) & (r->cap - 1);
    if (--r->n == 0 && r->cap > 64) { /* small ones stay: the next message is near */
        kei_free(s->m->alloc, r->e);
        memset(r, 0, sizeof *r);
    }
}

const uint32_t *kei_mq_ids(const struct mq_delivery *d)
{
    return d->n_ids == 0 ? NULL : d->n_ids == 1 ? &d->ids.one : d->ids.many;
}

void kei_mq_delivery_done(struct mq_session *s, struct mq_delivery *d)
{
    mq_unref(d->msg);
    d->msg = NULL;
    if (d->n_ids > 1)
        kei_free(s->m->alloc, d->ids.many);
    d->n_ids = 0;
}

static bool set_ids(struct mq_session *s, struct mq_delivery *d, const uint32_t *ids, uint32_t n)
{
    d->n_ids = 0;
    if (n == 1)
        d->ids.one = ids[0];
    if (n > 1) {
        d->ids.many = kei_array_alloc(s->m->alloc, n, sizeof *ids);
        if (!d->ids.many)
            return false;
        memcpy(d->ids.many, ids, n * sizeof *ids);
    }
    d->n_ids = (uint16_t)n;
    return true;
}

/* ---- in flight ---- */

int kei_mq_flight_push(struct mq_session *s, const struct mq_delivery *d, uint16_t pid)
{
    static const struct mq_delivery hole = {.flags = MQ_D_DONE};

    if (s->flight.n == 0 && pid)
        s->base_pid = pid;
    while (pid && pid_at(s, s->flight.n) != pid) {
        if (s->flight.n >= SPAN_MAX)
            return KE_ECORRUPT;
        if (!ring_push(s, &s->flight, &hole))
            return KE_ENOMEM;
    }
    if (!ring_push(s, &s->flight, d))
        return KE_ENOMEM;
    s->in_flight++;
    s->flight_bytes += d->msg ? d->msg->payload_n : 0;
    s->m->st.inflight++;
    return 0;
}

static void flight_trim(struct mq_session *s)
{
    while (s->flight.n > 0 && mq_ring_at(&s->flight, 0)->flags & MQ_D_DONE) {
        s->base_pid = pid_at(s, 1);
        ring_pop(s, &s->flight);
        if (s->flight_at > 0)
            s->flight_at--;
        else if (s->resend > 0)
            s->resend--;
    }
}

static void flight_done(struct mq_session *s, struct mq_delivery *d)
{
    if (mq_kept(s) && d->flags & MQ_D_LOGGED)
        kei_mq_note_done(s, d);
    s->flight_bytes -= d->msg ? d->msg->payload_n : 0;
    kei_mq_delivery_done(s, d);
    d->flags = MQ_D_DONE;
    s->in_flight--;
    s->m->st.inflight--;
    if (s->conn && s->conn->out_used > 0)
        s->conn->out_used--;
}

static void take_pubrec(struct mq_session *s, struct mq_delivery *d)
{
    if (d->flags & MQ_D_REL)
        return; /* once more */
    s->flight_bytes -= d->msg->payload_n;
    mq_unref(d->msg);
    d->msg = NULL;
    d->flags |= MQ_D_REL;
    if (mq_kept(s))
        kei_mq_note_rel(s, d);
}

int kei_mq_acked(struct mq_session *s, unsigned type, uint16_t pid, unsigned reason)
{
    uint32_t at = (pid + 65535u - s->base_pid) % 65535u;
    struct mq_delivery *d = at < s->flight.n ? mq_ring_at(&s->flight, at) : NULL;

    if (!d || d->flags & MQ_D_DONE || (s->resend && at >= s->flight_at))
        return 0;
    bool rel = (d->flags & MQ_D_REL) != 0;
    if (type == KEI_MQTT_PUBACK   ? d->qos != 1
        : type == KEI_MQTT_PUBREC ? d->qos != 2 || (rel && reason >= 0x80)
                                  : !rel)
        return -1;
    if (type == KEI_MQTT_PUBREC && reason < 0x80) {
        take_pubrec(s, d);
        return 1;
    }
    flight_done(s, d);
    flight_trim(s);
    return 1;
}

/* ---- the queue ---- */

/* NULL, or the name of the limit that g goes over, and its value. */
static const char *over_queue(struct mq_session *s, const struct mq_msg *g, uint64_t *ret_limit)
{
    struct ke_mqtt *m = s->m;
    const struct mq_limits *l = &m->lim;
    uint64_t size = mq_msg_size(g);

    if (s->queue.n >= l->queued) {
        m->st.over_queued++;
        *ret_limit = l->queued;
        return "max_queued";
    }
    if (s->queued_bytes + size > l->queued_bytes) {
        m->st.over_queued_bytes++;
        *ret_limit = l->queued_bytes;
        return "max_queued_bytes";
    }
    if (m->st.queued >= l->queued_all || m->st.queued_bytes + size > l->queued_bytes_all) {
        bool count = m->st.queued >= l->queued_all;
        m->st.over_queued_all++;
        *ret_limit = count ? l->queued_all : l->queued_bytes_all;
        return count ? "max_queued_all" : "max_queued_bytes_all";
    }
    return NULL;
}

static void queued(struct mq_session *s, const struct mq_msg *g, int sign)
{
    uint64_t size = mq_msg_size(g);

    s->queued_bytes += sign > 0 ? size : -size;
    s->m->st.queued_bytes += sign > 0 ? size : -size;
    s->m->st.queued += sign > 0 ? 1 : (uint64_t)-1;
}

int kei_mq_queue_push(struct mq_session *s, const struct mq_delivery *d)
{
    if (!ring_push(s, &s->queue, d))
        return KE_ENOMEM;
    queued(s, d->msg, 1);
    return 0;
}

static void queue_pop(struct mq_session *s)
{
    queued(s, mq_ring_at(&s->queue, 0)->msg, -1);
    ring_pop(s, &s->queue);
    if (s->dropped && s->queue.n == 0) {
        kei_log(s->m->ctx, KE_LOG_INFO, "mqtt",
                "client \"%.*s\": has taken its queue; %u messages were dropped while it was full",
                KEI_FMT(mq_id(s)), (unsigned)s->dropped);
        s->dropped = 0;
    }
}

static bool expired(struct ke_mqtt *m, const struct mq_msg *g)
{
    return g->expires_ms != MQ_NEVER && g->expires_ms <= m->now;
}

/* Room in the client's window and in its output? */
static bool can_send(const struct mq_session *s)
{
    const struct mq_conn *c = s->conn;

    return c->out_used < c->window && c->out.n < s->m->lim.output && s->flight.n < SPAN_MAX;
}

static bool flight_fits(const struct mq_session *s, const struct mq_msg *g)
{
    return s->flight_bytes == 0 || s->flight_bytes + g->payload_n <= s->m->lim.flight_bytes;
}

/* Rights may have changed while it waited. Nothing else happens to sessions while the host is
 * asked. */
static bool may_have(const struct mq_session *s, const struct mq_msg *g)
{
    struct ke_mqtt *m = s->m;
    bool nested = m->routing;

    if (s->conn->flags & MQ_C_FREE_READ)
        return true;
    m->routing = true;
    bool may = kei_mq_may(s->conn, KE_MQTT_READ, mq_topic(g));
    m->routing = nested;
    m->st.denied += !may;
    return may;
}

/* Sends d (QoS 1 or 2), which is not in flight yet; its reference is taken over. */
static void send_new(struct mq_session *s, struct mq_delivery *d)
{
    struct mq_conn *c = s->conn;
    uint16_t pid = pid_at(s, s->flight.n);

    if (kei_mq_flight_push(s, d, 0) < 0) {
        kei_mq_delivery_done(s, d);
        kei_mq_conn_close(c, KEI_MQTT_R_QUOTA, "no memory for messages in flight");
        return;
    }
    d = mq_ring_at(&s->flight, s->flight.n - 1);
    if (mq_kept(s)) {
        if (d->flags & MQ_D_LOGGED)
            kei_mq_note_sent(s, d, pid);
        else
            kei_mq_note_queue(s, d, pid);
    }
    c->out_used++;
    if (!kei_mq_send_publish(c, d, pid)) { /* too large for it: as if it had been delivered */
        flight_done(s, d);
        flight_trim(s);
    }
}

/* One of those in flight once more, after a reconnect. */
static void send_again(struct mq_session *s)
{
    struct mq_conn *c = s->conn;
    uint32_t at = s->flight_at++;
    struct mq_delivery *d = mq_ring_at(&s->flight, at);

    s->resend--;
    if (d->flags & MQ_D_DONE)
        return;
    c->out_used++;
    if (d->flags & MQ_D_REL) {
        kei_mq_send_ack(c, KEI_MQTT_PUBREL, pid_at(s, at), 0);
        return;
    }
    d->flags |= MQ_D_DUP;
    if (!may_have(s, d->msg) || !kei_mq_send_publish(c, d, pid_at(s, at))) {
        flight_done(s, d);
        flight_trim(s);
    }
}

void kei_mq_pump(struct mq_session *s)
{
    while (s->conn && s->conn->state == MQ_UP && s->resend > 0 && can_send(s))
        send_again(s);
    while (s->conn && s->conn->state == MQ_UP && s->resend == 0 && s->queue.n > 0) {
        struct mq_delivery d = *mq_ring_at(&s->queue, 0);
        if (expired(s->m, d.msg)) {
            s->m->st.publish_expired++;
        } else if (d.qos == 0) {
            if (s->conn->out.n >= s->m->lim.output)
                return;
            queue_pop(s);
            if (may_have(s, d.msg))
                kei_mq_send_publish(s->conn, &d, 0);
            kei_mq_delivery_done(s, &d);
            continue;
        } else if (!can_send(s) || !flight_fits(s, d.msg)) {
            return;
        }
        queue_pop(s);
        if (!expired(s->m, d.msg) && may_have(s, d.msg)) {
            send_new(s, &d);
            continue;
        }
        if (mq_kept(s) && d.flags & MQ_D_LOGGED)
            kei_mq_note_done(s, &d);
        kei_mq_delivery_done(s, &d);
        if (d.qos && s->flight.n == 0)
            s->base_pid = pid_at(s, 1); /* its number is not used again */
    }
}

void kei_mq_resume(struct mq_session *s)
{
    s->flight_at = 0;
    s->resend = s->flight.n;
    kei_mq_pump(s);
}

static void drop(struct mq_session *s, struct mq_msg *g, const char *why)
{
    struct ke_mqtt *m = s->m;

    m->st.publish_dropped++;
    if (kei_log_on(m->ctx, KE_LOG_DEBUG))
        kei_log(m->ctx, KE_LOG_DEBUG, "mqtt", "client \"%.*s\": dropped a message on \"%.*s\": %s",
                KEI_FMT(mq_id(s)), KEI_FMT(mq_topic(g)), why);
}

static void enqueue(struct mq_session *s, struct mq_msg *g, struct mq_delivery *d,
                    const uint32_t *ids, uint32_t n_ids)
{
    uint64_t limit;
    const char *over = over_queue(s, g, &limit);

    if (over) {
        /* once for each time it fills, not for each message: they come at any rate */
        if (s->dropped == 0)
            kei_log(s->m->ctx, KE_LOG_WARN, "mqtt",
                    "client \"%.*s\": messages for it are dropped: what waits for it reached %s, "
                    "which is %llu",
                    KEI_FMT(mq_id(s)), over, (unsigned long long)limit);
        if (s->dropped < UINT32_MAX)
            s->dropped++;
        s->m->st.publish_dropped++;
        return;
    }
    if (!set_ids(s, d, ids, n_ids) || !ring_room(s, &s->queue)) {
        kei_mq_delivery_done(s, d);
        drop(s, g, "no memory");
        return;
    }
    d->msg = mq_ref(g);
    if (mq_kept(s) && d->qos > 0)
        kei_mq_note_queue(s, d, 0);
    kei_mq_queue_push(s, d);
}

/* QoS 0 to a client that is there. */
static void send_0(struct mq_session *s, struct mq_msg *g, struct mq_delivery *d,
                   const uint32_t *ids, uint32_t n_ids)
{
    struct mq_conn *c = s->conn;

    if (c->out.n >= s->m->lim.output) {
        s->m->st.over_output++;
        drop(s, g, "it takes too little");
        return;
    }
    d->msg = g; /* borrowed: no reference for the moment it takes */
    d->n_ids = (uint16_t)n_ids;
    if (n_ids == 1)
        d->ids.one = ids[0];
    else
        d->ids.many = (uint32_t *)(uintptr_t)ids;
    kei_mq_send_publish(c, d, 0);
}

void kei_mq_deliver(struct mq_session *s, struct mq_msg *g, unsigned qos, unsigned flags,
                    const uint32_t *ids, uint32_t n_ids)
{
    struct mq_delivery d = {.qos = (uint8_t)qos, .flags = (uint8_t)flags};
    bool retain = flags & MQ_D_RETAIN;
    struct mq_conn *c = s->conn;

    if (s->flags & MQ_S_LOCAL) {
        kei_mq_local_message(s->local, g, qos, retain, ids, n_ids);
        return;
    }
    if (n_ids > UINT16_MAX)
        n_ids = UINT16_MAX;
    if (c && c->state != MQ_UP)
        c = NULL;
    if (c && !(c->flags & MQ_C_FREE_READ) && !kei_mq_may(c, KE_MQTT_READ, mq_topic(g)))
        return;
    if (qos == 0) {
        if (c && retain && (s->queue.n > 0 || c->out.n >= s->m->lim.output))
            enqueue(s, g, &d, ids, n_ids); /* what is retained comes whole, however slowly */
        else if (c)
            send_0(s, g, &d, ids, n_ids);
        else if (s->m->flags & KE_MQTT_QUEUE_QOS0 && s->expiry_s && !s->conn)
            enqueue(s, g, &d, ids, n_ids);
        return;
    }
    if (!c && (s->expiry_s == 0 || s->flags & MQ_S_ENDED))
        return; /* nobody will come back for it */
    d.did = ++s->next_did;
    if (!c || s->queue.n > 0 || s->resend > 0 || !can_send(s) || !flight_fits(s, g)) {
        enqueue(s, g, &d, ids, n_ids);
        return;
    }
    if (!set_ids(s, &d, ids, n_ids)) {
        drop(s, g, "no memory");
        return;
    }
    d.msg = mq_ref(g);
    send_new(s, &d);
}
