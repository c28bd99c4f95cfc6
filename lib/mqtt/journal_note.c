/* SPDX-License-Identifier: Apache-2.0 */
/* What is noted: one record per change, appended to the batch in the making. Loop thread. */
#include "mqtt/journal_priv.h"

/* Not against an attacker: against half-written and damaged records. */
uint32_t kei_mq_log_sum(const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t h = 0x9e3779b97f4a7c15ull ^ n, v;

    for (; n >= 8; n -= 8, b += 8) {
        memcpy(&v, b, 8);
        h = (h ^ v) * 0xff51afd7ed558ccdull;
        h ^= h >> 32;
    }
    for (; n > 0; n--, b++) {
        h = (h ^ *b) * 0xff51afd7ed558ccdull;
        h ^= h >> 29;
    }
    return (uint32_t)(h ^ h >> 32);
}

/* ---- records ---- */

static size_t begin(struct mq_journal *j, enum mq_record type)
{
    static const char head[MQ_LOG_HEAD - 1];
    size_t at = j->pending.n;

    kei_buf_add(&j->pending, head, sizeof head);
    kei_buf_addc(&j->pending, (char)type);
    return at;
}

static void put32(char *p, uint32_t v)
{
    p[0] = (char)(v >> 24);
    p[1] = (char)(v >> 16);
    p[2] = (char)(v >> 8);
    p[3] = (char)v;
}

static void end(struct mq_journal *j, size_t at)
{
    j->notes++;
    if (!kei_buf_ok(&j->pending))
        return;
    char *p = j->pending.p + at;
    size_t n = j->pending.n - at - 8; /* type and body */
    put32(p, (uint32_t)n);
    put32(p + 4, kei_mq_log_sum(p + 8, n));
    j->log_bytes += n + 8;
}

static void num(struct mq_journal *j, uint64_t v)
{
    char c[10];
    unsigned n = 0;

    do {
        c[n++] = (char)(v > 127 ? (v & 127) | 128 : v);
        v >>= 7;
    } while (v);
    kei_buf_add(&j->pending, c, n);
}

static void str(struct mq_journal *j, struct ke_str s)
{
    num(j, s.n);
    kei_buf_addv(&j->pending, s);
}

/* Monotonic time as real time, for it must survive a restart; 0: never. */
static uint64_t moment(struct ke_mqtt *m, int64_t mono_ms)
{
    if (mono_ms == MQ_NEVER)
        return 0;
    int64_t real = ke_ctx_real_ms(m->ctx) + (mono_ms - m->now);
    return real > 0 ? (uint64_t)real : 1;
}

static void msg_fields(struct mq_journal *j, const struct mq_msg *g, uint64_t expiry)
{
    const char *names = g->bytes + g->topic_n + g->props_n + g->payload_n;

    num(j, g->qos);
    num(j, g->flags);
    num(j, expiry);
    str(j, mq_topic(g));
    str(j, mq_props(g));
    str(j, mq_payload(g));
    str(j, kei_strn(names, g->client_n));
    str(j, kei_strn(names + g->client_n, g->user_n));
}

/* Once per snapshot; a message that is in an older file only is written again. */
static void put_msg(struct mq_journal *j, struct mq_msg *g)
{
    if (g->mid && g->snap == j->snap)
        return;
    if (!g->mid)
        g->mid = j->next_mid++;
    g->snap = j->snap;
    size_t at = begin(j, MQ_R_MSG);
    num(j, g->mid);
    msg_fields(j, g, moment(j->m, g->expires_ms));
    end(j, at);
}

void kei_mq_put_mark(struct mq_journal *j, enum mq_record type)
{
    size_t at = begin(j, type);

    end(j, at);
}

void kei_mq_put_session(struct mq_journal *j, struct mq_session *s)
{
    const struct mq_will *w = s->will;

    if (!s->sid)
        s->sid = j->next_sid++;
    size_t at = begin(j, MQ_R_SESSION);
    num(j, s->sid);
    str(j, mq_id(s));
    num(j, s->expiry_s);
    num(j, s->conn ? 0 : (uint64_t)s->away_ms);
    num(j, s->next_did);
    num(j, s->user_name != NULL);
    str(j, kei_str(s->user_name));
    num(j, w != NULL);
    if (w) {
        num(j, w->delay_s);
        msg_fields(j, w->msg, w->msg->expires_ms == MQ_NEVER ? 0 : (uint64_t)w->msg->expires_ms);
    }
    end(j, at);
}

static void put_sub(struct mq_journal *j, struct mq_sub *sub)
{
    struct ke_buf filter;

    kei_buf_init(&filter, j->m->alloc);
    kei_mq_sub_filter(sub, &filter);
    if (!kei_buf_ok(&filter)) {
        j->want_snapshot = true; /* then, perhaps, there is memory */
    } else {
        size_t at = begin(j, MQ_R_SUB);
        num(j, sub->s->sid);
        str(j, kei_buf_str(&filter));
        num(j, sub->options);
        num(j, sub->id);
        end(j, at);
    }
    ke_buf_free(&filter);
}

static void put_queue(struct mq_journal *j, struct mq_session *s, struct mq_delivery *d,
                      uint16_t pid)
{
    const uint32_t *ids = kei_mq_ids(d);

    if (d->msg)
        put_msg(j, d->msg);
    d->flags |= MQ_D_LOGGED;
    size_t at = begin(j, MQ_R_QUEUE);
    num(j, s->sid);
    num(j, d->did);
    num(j, d->msg ? d->msg->mid : 0);
    num(j, d->qos);
    num(j, d->flags & (MQ_D_RETAIN | MQ_D_REL | MQ_D_SHARED));
    num(j, pid);
    num(j, d->n_ids);
    for (uint32_t i = 0; i < d->n_ids; i++)
        num(j, ids[i]);
    end(j, at);
}

static void put_taken(struct mq_journal *j, struct mq_session *s, uint16_t pid, bool taken)
{
    size_t at = begin(j, MQ_R_TAKEN);

    num(j, s->sid);
    num(j, pid);
    num(j, taken);
    end(j, at);
}

void kei_mq_put_all(struct mq_journal *j, struct mq_session *s)
{
    kei_mq_put_session(j, s);
    KEI_LIST_EACH(l, &s->subs)
    {
        put_sub(j, KEI_OF(l, struct mq_sub, in_session));
    }
    for (uint32_t i = 0; i < s->flight.n; i++) {
        struct mq_delivery *d = mq_ring_at(&s->flight, i);
        if (!(d->flags & MQ_D_DONE))
            put_queue(j, s, d, (uint16_t)((s->base_pid - 1u + i) % 65535u + 1u));
    }
    for (uint32_t i = 0; i < s->queue.n; i++) {
        struct mq_delivery *d = mq_ring_at(&s->queue, i);
        if (d->qos)
            put_queue(j, s, d, 0);
    }
    for (uint32_t i = 0; i < s->rec_cap; i++)
        if (s->rec[i])
            put_taken(j, s, s->rec[i], true);
}

void kei_mq_put_retained(struct mq_journal *j, struct mq_msg *g)
{
    if (g->flags & MQ_MSG_SYS)
        return;
    put_msg(j, g);
    size_t at = begin(j, MQ_R_RETAIN);
    num(j, g->mid);
    end(j, at);
}

/* ---- for the server ---- */

void kei_mq_note_session(struct mq_session *s)
{
    kei_mq_put_session(s->m->journal, s);
}

void kei_mq_note_session_gone(struct mq_session *s)
{
    struct mq_journal *j = s->m->journal;
    size_t at = begin(j, MQ_R_GONE);

    num(j, s->sid);
    end(j, at);
}

void kei_mq_note_sub(struct mq_sub *sub)
{
    put_sub(sub->s->m->journal, sub);
}

void kei_mq_note_unsub(struct mq_session *s, struct ke_str filter)
{
    struct mq_journal *j = s->m->journal;
    size_t at = begin(j, MQ_R_UNSUB);

    num(j, s->sid);
    str(j, filter);
    end(j, at);
}

void kei_mq_note_queue(struct mq_session *s, struct mq_delivery *d, uint16_t pid)
{
    put_queue(s->m->journal, s, d, pid);
}

static void put_did(struct mq_session *s, enum mq_record type, const struct mq_delivery *d,
                    uint16_t pid)
{
    struct mq_journal *j = s->m->journal;
    size_t at = begin(j, type);

    num(j, s->sid);
    num(j, d->did);
    if (type == MQ_R_SENT)
        num(j, pid);
    end(j, at);
}

void kei_mq_note_sent(struct mq_session *s, struct mq_delivery *d, uint16_t pid)
{
    put_did(s, MQ_R_SENT, d, pid);
}

void kei_mq_note_rel(struct mq_session *s, struct mq_delivery *d)
{
    put_did(s, MQ_R_REL, d, 0);
}

void kei_mq_note_done(struct mq_session *s, struct mq_delivery *d)
{
    put_did(s, MQ_R_DONE, d, 0);
}

void kei_mq_note_taken(struct mq_session *s, uint16_t pid, bool taken)
{
    put_taken(s->m->journal, s, pid, taken);
}

void kei_mq_note_retain(struct ke_mqtt *m, struct mq_msg *g)
{
    if (m->journal)
        kei_mq_put_retained(m->journal, g);
}

void kei_mq_note_unretain(struct ke_mqtt *m, struct mq_msg *g)
{
    struct mq_journal *j = m->journal;

    if (!j || g->flags & MQ_MSG_SYS)
        return;
    size_t at = begin(j, MQ_R_UNRETAIN);
    str(j, mq_topic(g));
    end(j, at);
}
