/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a message to the sessions it is for: one copy per session whatever number of its
 * subscriptions match, with the highest QoS and all identifiers. Retained messages. Loop thread.
 */
#include "mqtt/journal.h"
#include "mqtt/server.h"

struct routing {
    struct ke_mqtt *m;
    const void *origin;
    struct mq_msg *g;
    bool no_memory;
};

/* Room for one more of elements of `size` bytes; the array may move. */
static bool more(struct ke_mqtt *m, void **p, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t want = *cap ? *cap * 2 : 64;
    void *q = kei_array_realloc(m->alloc, *p, want, size);
    if (!q)
        return false;
    *p = q;
    *cap = want;
    return true;
}

static struct mq_hit *add_hit(struct routing *r, struct mq_session *s)
{
    struct ke_mqtt *m = r->m;
    void *hits = m->hits;

    if (!more(m, &hits, m->n_hits, &m->cap_hits, sizeof *m->hits)) {
        r->no_memory = true;
        return NULL;
    }
    m->hits = hits;
    struct mq_hit *h = &m->hits[m->n_hits++];
    memset(h, 0, sizeof *h);
    h->s = s;
    return h;
}

static void add_id(struct routing *r, struct mq_hit *h, uint32_t id)
{
    struct ke_mqtt *m = r->m;
    void *ids = m->hit_ids;

    if (!more(m, &ids, m->n_ids, &m->cap_ids, sizeof *m->hit_ids)) {
        r->no_memory = true;
        return;
    }
    m->hit_ids = ids;
    m->hit_ids[m->n_ids] = (struct mq_hit_id){id, h->ids};
    h->ids = ++m->n_ids;
    h->n_ids++;
}

static void take(struct routing *r, struct mq_sub *sub, bool own)
{
    struct mq_session *s = sub->s;
    uint8_t qos = sub->options & KEI_MQTT_SUB_QOS;
    struct mq_hit *h;

    r->m->matched = true;
    if (sub->options & KEI_MQTT_SUB_NO_LOCAL && s->origin == r->origin)
        return;
    if (own || s->mark != r->m->mark) {
        h = add_hit(r, s);
        if (!h)
            return;
        h->flags = own ? MQ_D_SHARED : 0;
        if (!own) {
            s->mark = r->m->mark;
            s->hit = r->m->n_hits - 1;
        }
    } else {
        h = &r->m->hits[s->hit];
    }
    if (qos > h->qos)
        h->qos = qos;
    if (sub->options & KEI_MQTT_SUB_AS_PUBLISHED && r->g->flags & MQ_MSG_RETAIN)
        h->flags |= MQ_D_RETAIN;
    if (sub->id)
        add_id(r, h, sub->id);
}

/* Somebody who is there and has room, in turn; else somebody who can keep it. NULL: nobody is left.
 */
static struct mq_sub *choose(struct mq_share *g)
{
    struct mq_sub *chosen = NULL;
    bool there = false; /* the chosen one */

    KEI_LIST_EACH(l, &g->subs)
    {
        struct mq_sub *sub = KEI_OF(l, struct mq_sub, in_node);
        struct mq_session *s = sub->s;
        bool up = s->flags & MQ_S_LOCAL || (s->conn && s->conn->state == MQ_UP);
        if (s->flags & (MQ_S_ENDED | MQ_S_WILL_ONLY) || (!up && s->expiry_s == 0))
            continue; /* it would be lost there */
        if (up && s->queue.n == 0) {
            chosen = sub;
            break;
        }
        if (!chosen || (up && !there)) {
            chosen = sub;
            there = up;
        }
    }
    if (!chosen)
        return NULL;
    kei_list_remove(&chosen->in_node);
    kei_list_add_tail(&g->subs, &chosen->in_node);
    return chosen;
}

static void take_shared(struct routing *r, struct mq_share *g)
{
    struct mq_sub *chosen = choose(g);

    if (chosen)
        take(r, chosen, true);
}

static void on_match(void *user, struct mq_node *n)
{
    struct routing *r = user;
    struct mq_subs *v = n->value;

    KEI_LIST_EACH(l, &v->subs)
    {
        take(r, KEI_OF(l, struct mq_sub, in_node), false);
    }
    for (struct mq_share *g = v->shares; g; g = g->next)
        take_shared(r, g);
}

static const uint32_t *ids_of(struct ke_mqtt *m, const struct mq_hit *h)
{
    void *list = m->id_list;

    if (h->n_ids == 0)
        return NULL;
    while (m->cap_list < h->n_ids)
        if (!more(m, &list, m->cap_list, &m->cap_list, sizeof *m->id_list))
            return NULL;
    m->id_list = list;
    uint32_t at = h->ids;
    for (uint32_t i = h->n_ids; i-- > 0; at = m->hit_ids[at - 1].next)
        m->id_list[i] = m->hit_ids[at - 1].id;
    return m->id_list;
}

uint32_t kei_mq_route(struct ke_mqtt *m, struct mq_msg *g, const void *origin)
{
    struct routing r = {m, origin, g, false};
    uint32_t n;

    m->routing = true;
    m->mark++;
    m->n_hits = m->n_ids = 0;
    m->matched = false;
    kei_mq_tree_match(&m->filters, mq_topic(g), on_match, &r);
    n = m->n_hits;
    for (uint32_t i = 0; i < n; i++) {
        struct mq_hit *h = &m->hits[i];
        unsigned qos = g->qos < h->qos && !(m->flags & KE_MQTT_UPGRADE_QOS) ? g->qos : h->qos;
        const uint32_t *ids = ids_of(m, h);
        kei_mq_deliver(h->s, g, qos, h->flags, ids, ids ? h->n_ids : 0);
    }
    m->routing = false;
    if (r.no_memory)
        kei_log(m->ctx, KE_LOG_ERROR, "mqtt", "no memory to find all who subscribed to \"%.*s\"",
                KEI_FMT(mq_topic(g)));
    return n;
}

/* ---- shared subscriptions of a session that is over ---- */

struct passing {
    struct mq_session *s;
    uint32_t skip; /* groups whose copy another delivery stands for */
    struct mq_share *group;
};

static void on_passing(void *user, struct mq_node *n)
{
    struct passing *p = user;
    struct mq_subs *v = n->value;

    for (struct mq_share *g = v->shares; g && !p->group; g = g->next)
        if (kei_mq_sub_find(p->s, n, g) && p->skip-- == 0)
            p->group = g;
}

static void pass_one(struct mq_session *s, const struct mq_delivery *d, uint32_t before)
{
    struct ke_mqtt *m = s->m;
    struct mq_msg *g = d->msg;
    struct passing p = {s, before, NULL};

    kei_mq_tree_match(&m->filters, mq_topic(g), on_passing, &p);
    struct mq_sub *sub = p.group ? choose(p.group) : NULL;
    if (!sub)
        return;
    unsigned qos = sub->options & KEI_MQTT_SUB_QOS, flags = MQ_D_SHARED;
    if (g->qos < qos && !(m->flags & KE_MQTT_UPGRADE_QOS))
        qos = g->qos;
    if (sub->options & KEI_MQTT_SUB_AS_PUBLISHED && g->flags & MQ_MSG_RETAIN)
        flags |= MQ_D_RETAIN;
    kei_mq_deliver(sub->s, g, qos, flags, sub->id ? &sub->id : NULL, sub->id ? 1 : 0);
}

/* In order. sent: QoS 2 that was begun belongs to nobody else (4.8.2). */
static void pass_ring(struct mq_session *s, const struct mq_ring *r, bool sent)
{
    const struct mq_msg *last = NULL;
    uint32_t before = 0;

    for (uint32_t i = 0; i < r->n; i++) {
        const struct mq_delivery *d = mq_ring_at(r, i);
        if (!(d->flags & MQ_D_SHARED) || !d->msg || d->flags & (MQ_D_DONE | MQ_D_REL) ||
            (sent && d->qos == 2) || d->msg->expires_ms <= s->m->now)
            continue;
        before = d->msg == last ? before + 1 : 0; /* several groups: their copies are neighbours */
        last = d->msg;
        pass_one(s, d, before);
    }
}

void kei_mq_pass_on(struct mq_session *s)
{
    struct ke_mqtt *m = s->m;
    bool nested = m->routing;

    if (s->flight.n == 0 && s->queue.n == 0)
        return;
    m->routing = true; /* callbacks must not change the tree, or end other sessions, meanwhile */
    pass_ring(s, &s->flight, true);
    pass_ring(s, &s->queue, false);
    m->routing = nested;
}

void kei_mq_publish(struct ke_mqtt *m, struct mq_msg *g, const void *origin)
{
    if (m->routing) { /* called from a callback of a routing */
        if (kei_mq_publish_later(m, mq_ref(g), origin) < 0)
            mq_unref(g);
        return;
    }
    if (g->flags & MQ_MSG_RETAIN)
        kei_mq_retain(m, g);
    kei_mq_route(m, g, origin);
}

/* ---- retained ---- */

/* The server's own do not take the place of others'. */
static uint64_t is_counted(const struct mq_msg *g)
{
    return g && !(g->flags & MQ_MSG_SYS);
}

static uint64_t retained_size(const struct mq_msg *g)
{
    return is_counted(g) ? mq_msg_size(g) : 0;
}

void kei_mq_retain_set(struct ke_mqtt *m, struct mq_node *n, struct mq_msg *g)
{
    struct mq_msg *old = n->value;

    m->st.retained += is_counted(g) - is_counted(old);
    m->st.retained_bytes += retained_size(g) - retained_size(old);
    n->value = g ? mq_ref(g) : NULL;
    mq_unref(old);
    if (!g)
        kei_mq_tree_prune(&m->retained, n);
}

static bool expired(const struct mq_msg *g)
{
    return g->expires_ms <= g->m->now;
}

int kei_mq_retain(struct ke_mqtt *m, struct mq_msg *g)
{
    struct mq_node *n = kei_mq_tree_find(&m->retained, mq_topic(g));
    struct mq_msg *old = n ? n->value : NULL;

    if (g->payload_n == 0) {
        if (old) {
            kei_mq_note_unretain(m, old);
            kei_mq_retain_set(m, n, NULL);
        }
        return 0;
    }
    if (is_counted(g) &&
        (m->st.retained - is_counted(old) >= m->lim.retained ||
         m->st.retained_bytes - retained_size(old) + retained_size(g) > m->lim.retained_bytes)) {
        m->st.over_retained++;
        return KEI_MQTT_R_QUOTA;
    }
    if (!n)
        n = kei_mq_tree_make(&m->retained, mq_topic(g));
    if (!n)
        return KEI_MQTT_R_QUOTA;
    kei_mq_note_retain(m, g);
    kei_mq_retain_set(m, n, g);
    return 0;
}

static bool give_retained(void *user, struct mq_node *n)
{
    struct mq_sub *sub = user;
    struct mq_msg *g = n->value;
    unsigned qos = sub->options & KEI_MQTT_SUB_QOS;

    if (expired(g))
        return true;
    if (!(g->m->flags & KE_MQTT_UPGRADE_QOS) && g->qos < qos)
        qos = g->qos;
    kei_mq_deliver(sub->s, g, qos, MQ_D_RETAIN, sub->id ? &sub->id : NULL, sub->id ? 1 : 0);
    return true;
}

void kei_mq_retained_to(struct mq_sub *sub)
{
    struct ke_mqtt *m = sub->s->m;
    struct ke_buf filter;
    bool nested = m->routing;

    if (sub->share || !m->retained.root.child)
        return;
    kei_buf_init(&filter, m->alloc);
    kei_mq_tree_text(sub->node, &filter);
    m->routing = true; /* callbacks must not change the tree meanwhile */
    if (kei_buf_ok(&filter))
        kei_mq_tree_select(&m->retained, kei_buf_str(&filter), give_retained, sub);
    m->routing = nested;
    ke_buf_free(&filter);
}

void kei_mq_retain_clear(struct ke_mqtt *m)
{
    struct mq_node *n;

    while ((n = m->retained.root.child)) {
        while (n->child)
            n = n->child;
        if (n->value)
            kei_mq_retain_set(m, n, NULL);
        else
            kei_mq_tree_prune(&m->retained, n);
    }
}
