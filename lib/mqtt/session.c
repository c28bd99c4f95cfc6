/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: the table by client id, how long each lives, its will, and the packet ids of QoS 2 it
 * has sent. Deliveries are in delivery.c. Owner: the server. Loop thread.
 */
#include "mqtt/journal.h"
#include "mqtt/server.h"

static uint32_t hash_id(const struct ke_mqtt *m, struct ke_str id)
{
    uint64_t h = m->seed ^ id.n;

    for (size_t i = 0; i < id.n; i++)
        h = (h ^ (uint8_t)id.p[i]) * 0x9e3779b97f4a7c15ull, h ^= h >> 29;
    return (uint32_t)(h ^ h >> 32);
}

struct mq_session *kei_mq_session_find(struct ke_mqtt *m, struct ke_str id)
{
    uint32_t hash = hash_id(m, id);
    struct mq_session *s = m->table_cap ? m->table[hash & (m->table_cap - 1)] : NULL;

    while (s && !(s->hash == hash && kei_str_eq(mq_id(s), id)))
        s = s->hnext;
    return s;
}

static bool grow(struct ke_mqtt *m)
{
    uint32_t cap = m->table_cap ? m->table_cap * 2 : 64;
    struct mq_session **t = kei_zalloc(m->alloc, cap * sizeof(struct mq_session *));

    if (!t)
        return m->table_cap > 0; /* longer chains, then */
    for (uint32_t i = 0; i < m->table_cap; i++)
        for (struct mq_session *s = m->table[i], *next; s; s = next) {
            next = s->hnext;
            s->hnext = t[s->hash & (cap - 1)];
            t[s->hash & (cap - 1)] = s;
        }
    kei_free(m->alloc, m->table);
    m->table = t;
    m->table_cap = cap;
    return true;
}

struct mq_session *kei_mq_session_bare(struct ke_mqtt *m, struct ke_str id)
{
    struct mq_session *s = kei_zalloc(m->alloc, sizeof *s + id.n);

    if (!s)
        return NULL;
    s->m = m;
    s->origin = s;
    s->id_n = (uint16_t)id.n;
    if (id.n)
        memcpy(s->id, id.p, id.n);
    s->expires_ms = s->will_ms = MQ_NEVER;
    s->base_pid = 1;
    kei_list_init(&s->subs);
    return s;
}

struct mq_session *kei_mq_session_new(struct ke_mqtt *m, struct ke_str id)
{
    if (m->n_sessions >= m->table_cap && !grow(m))
        return NULL;
    struct mq_session *s = kei_mq_session_bare(m, id);
    if (!s)
        return NULL;
    s->hash = hash_id(m, id);
    struct mq_session **slot = &m->table[s->hash & (m->table_cap - 1)];
    s->hnext = *slot;
    *slot = s;
    kei_list_add_tail(&m->sessions, &s->link);
    m->n_sessions++;
    m->st.sessions++;
    return s;
}

static void unlink_session(struct mq_session *s)
{
    struct ke_mqtt *m = s->m;

    if (!kei_list_linked(&s->link))
        return;
    struct mq_session **at = &m->table[s->hash & (m->table_cap - 1)];
    while (*at != s)
        at = &(*at)->hnext;
    *at = s->hnext;
    kei_list_remove(&s->link);
    m->n_sessions--;
    m->st.sessions--;
}

static void ring_free(struct mq_session *s, struct mq_ring *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        kei_mq_delivery_done(s, mq_ring_at(r, i));
    kei_free(s->m->alloc, r->e);
    memset(r, 0, sizeof *r);
}

static void rings_clear(struct mq_session *s)
{
    struct ke_mqtt *m = s->m;

    m->st.queued -= s->queue.n;
    m->st.queued_bytes -= s->queued_bytes;
    m->st.inflight -= s->in_flight;
    s->queued_bytes = s->flight_bytes = 0;
    s->in_flight = 0;
    ring_free(s, &s->queue);
    ring_free(s, &s->flight);
}

void kei_mq_session_free(struct mq_session *s)
{
    struct ke_mqtt *m = s->m;

    unlink_session(s);
    kei_mq_wheel_stop(&m->wheel, &s->timer);
    kei_mq_subs_clear(s);
    rings_clear(s);
    kei_mq_will_free(s);
    kei_free(m->alloc, s->rec);
    kei_free(m->alloc, s->user_name);
    kei_free(m->alloc, s);
}

/* ---- will ---- */

void kei_mq_will_free(struct mq_session *s)
{
    if (!s->will)
        return;
    mq_unref(s->will->msg);
    kei_free(s->m->alloc, s->will);
    s->will = NULL;
    s->will_ms = MQ_NEVER;
}

void kei_mq_will_publish(struct mq_session *s)
{
    struct mq_will *w = s->will;

    if (!w)
        return;
    struct ke_mqtt *m = s->m;
    s->will = NULL;
    s->will_ms = MQ_NEVER;
    m->st.wills++;
    if (w->msg->expires_ms != MQ_NEVER)
        w->msg->expires_ms += m->now; /* its life begins now */
    kei_mq_publish(m, w->msg, s->origin);
    mq_unref(w->msg);
    kei_free(m->alloc, w);
}

/* ---- away and back ---- */

void kei_mq_session_arm(struct mq_session *s)
{
    int64_t due = s->expires_ms < s->will_ms ? s->expires_ms : s->will_ms;

    if (due == MQ_NEVER)
        kei_mq_wheel_stop(&s->m->wheel, &s->timer);
    else
        kei_mq_wheel_set(&s->m->wheel, &s->timer, 1, due);
}

void kei_mq_session_end(struct mq_session *s, const char *why)
{
    struct ke_mqtt *m = s->m;

    if (s->flags & MQ_S_ENDED)
        return;
    s->flags |= MQ_S_ENDED;
    kei_mq_will_publish(s);
    if (m->ops.event) {
        struct ke_mqtt_client c = {sizeof c, kei_mqtt_give(mq_id(s))};
        struct ke_mqtt_event e = {sizeof e, KE_MQTT_EVENT_SESSION_END, 0, &c,
                                  {0},      {why, strlen(why)}};
        kei_mq_enter(m);
        m->ops.event(m->user, &e);
        kei_mq_leave(m);
    }
    kei_mq_pass_on(s);
    if (mq_kept(s))
        kei_mq_note_session_gone(s);
    kei_mq_session_free(s);
}

void kei_mq_session_away(struct mq_session *s)
{
    struct ke_mqtt *m = s->m;

    s->away_ms = ke_ctx_real_ms(m->ctx);
    s->resend = s->flight_at = 0;
    if (s->expiry_s == 0 && s->will && s->will->outlives) { /* only the will is left of it */
        s->flags |= MQ_S_WILL_ONLY;
        kei_mq_pass_on(s);
        kei_mq_subs_clear(s);
        rings_clear(s);
        s->will_ms = s->expires_ms = m->now + (int64_t)s->will->delay_s * 1000;
        kei_mq_session_arm(s);
        return;
    }
    if (s->expiry_s == 0) {
        kei_mq_session_end(s, "its connection ended");
        return;
    }
    s->expires_ms = s->expiry_s == UINT32_MAX ? MQ_NEVER : m->now + (int64_t)s->expiry_s * 1000;
    if (s->will)
        s->will_ms = m->now + (int64_t)s->will->delay_s * 1000;
    if (s->will && s->will->delay_s == 0)
        kei_mq_will_publish(s);
    if (mq_kept(s))
        kei_mq_note_session(s);
    kei_mq_session_arm(s);
}

void kei_mq_session_timer(struct mq_wheel_item *w)
{
    struct mq_session *s = KEI_OF(w, struct mq_session, timer);
    struct ke_mqtt *m = s->m;

    mq_now(m);
    if (s->conn)
        return;
    if (s->expires_ms <= m->now) {
        m->st.sessions_expired++;
        kei_mq_session_end(s, "it expired");
        return;
    }
    if (s->will_ms <= m->now) {
        kei_mq_will_publish(s);
        if (mq_kept(s))
            kei_mq_note_session(s);
    }
    kei_mq_session_arm(s);
}

/* ---- QoS 2 from the client: packet ids taken and not released; open addressing ---- */

static uint32_t rec_slot(const struct mq_session *s, uint16_t pid)
{
    uint32_t i = (uint32_t)pid * 40503u >> 3 & (s->rec_cap - 1u);

    while (s->rec[i] && s->rec[i] != pid)
        i = (i + 1) & (s->rec_cap - 1u);
    return i;
}

bool kei_mq_rec_has(const struct mq_session *s, uint16_t pid)
{
    return s->rec_n && s->rec[rec_slot(s, pid)] == pid;
}

static int rec_grow(struct mq_session *s)
{
    uint32_t cap = s->rec_cap ? s->rec_cap * 2u : 8, old_cap = s->rec_cap;
    uint16_t *old = s->rec, *t;

    if (cap > 32768)
        return s->rec_n + 1u < s->rec_cap ? 0 : KE_ELIMIT;
    t = kei_zalloc(s->m->alloc, cap * sizeof *t);
    if (!t)
        return KE_ENOMEM;
    s->rec = t;
    s->rec_cap = (uint16_t)cap;
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i])
            s->rec[rec_slot(s, old[i])] = old[i];
    kei_free(s->m->alloc, old);
    return 0;
}

int kei_mq_rec_add(struct mq_session *s, uint16_t pid)
{
    if (s->rec_n * 2u >= s->rec_cap) {
        int r = rec_grow(s);
        if (r < 0)
            return r;
    }
    uint32_t i = rec_slot(s, pid);
    if (s->rec[i] != pid)
        s->rec_n++;
    s->rec[i] = pid;
    return 0;
}

bool kei_mq_rec_remove(struct mq_session *s, uint16_t pid)
{
    uint32_t mask = s->rec_cap - 1u, i, j;

    if (!kei_mq_rec_has(s, pid))
        return false;
    i = rec_slot(s, pid);
    for (j = (i + 1) & mask; s->rec[j]; j = (j + 1) & mask) { /* close the gap */
        uint32_t home = (uint32_t)s->rec[j] * 40503u >> 3 & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            s->rec[i] = s->rec[j];
            i = j;
        }
    }
    s->rec[i] = 0;
    s->rec_n--;
    return true;
}
