/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subscriptions: entries at the nodes of the filter tree. A shared subscription sits in its group
 * at the node of its inner filter. The session and the node both list it. Loop thread.
 */
#include "mqtt/server.h"

static struct mq_subs *subs_of(struct mq_node *n)
{
    return n->value;
}

static void prune(struct ke_mqtt *m, struct mq_node *n)
{
    struct mq_subs *v = n->value;

    if (v && v->n == 0) {
        kei_free(m->alloc, v);
        n->value = NULL;
    }
    kei_mq_tree_prune(&m->filters, n);
}

static struct mq_share *share_find(const struct mq_subs *v, struct ke_str group)
{
    struct mq_share *g = v->shares;

    while (g && !kei_str_eq(kei_strn(g->name, g->name_n), group))
        g = g->next;
    return g;
}

/* Looks through the shorter of the two lists that would have it. */
struct mq_sub *kei_mq_sub_find(struct mq_session *s, struct mq_node *n, struct mq_share *share)
{
    struct mq_subs *v = subs_of(n);

    if (!v)
        return NULL;
    if (s->n_subs <= (share ? share->n : v->n)) {
        KEI_LIST_EACH(l, &s->subs)
        {
            struct mq_sub *sub = KEI_OF(l, struct mq_sub, in_session);
            if (sub->node == n && sub->share == share)
                return sub;
        }
        return NULL;
    }
    struct kei_link *head = share ? &share->subs : &v->subs;
    KEI_LIST_EACH(l, head)
    {
        struct mq_sub *sub = KEI_OF(l, struct mq_sub, in_node);
        if (sub->s == s)
            return sub;
    }
    return NULL;
}

static struct mq_subs *value_make(struct ke_mqtt *m, struct mq_node *n)
{
    if (n->value)
        return n->value;
    struct mq_subs *v = kei_zalloc(m->alloc, sizeof *v);
    if (v)
        kei_list_init(&v->subs);
    n->value = v;
    return v;
}

static struct mq_share *share_make(struct ke_mqtt *m, struct mq_subs *v, struct ke_str group)
{
    struct mq_share *g = share_find(v, group);

    if (g)
        return g;
    g = kei_zalloc(m->alloc, sizeof *g + group.n);
    if (!g)
        return NULL;
    kei_list_init(&g->subs);
    g->name_n = (uint16_t)group.n;
    memcpy(g->name, group.p, group.n);
    g->next = v->shares;
    v->shares = g;
    return g;
}

static void share_drop(struct ke_mqtt *m, struct mq_subs *v, struct mq_share *g)
{
    struct mq_share **at = &v->shares;

    if (g->n > 0)
        return;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    kei_free(m->alloc, g);
}

/* A place in the tree for it, with nothing left behind when there is no memory. */
static struct mq_sub *make(struct mq_session *s, struct mq_node *n, bool shared,
                           struct ke_str group)
{
    struct ke_mqtt *m = s->m;
    struct mq_subs *v = value_make(m, n);
    struct mq_share *g = v && shared ? share_make(m, v, group) : NULL;
    struct mq_sub *sub = v && (g || !shared) ? kei_zalloc(m->alloc, sizeof *sub) : NULL;

    if (!sub) {
        if (g)
            share_drop(m, v, g);
        prune(m, n);
        return NULL;
    }
    sub->s = s;
    sub->node = n;
    sub->share = g;
    kei_list_add_tail(g ? &g->subs : &v->subs, &sub->in_node);
    kei_list_add_tail(&s->subs, &sub->in_session);
    v->n++;
    if (g) {
        g->n++;
        m->st.shared_subscriptions++;
    }
    s->n_subs++;
    m->st.subscriptions++;
    if (s->flags & MQ_S_LOCAL)
        m->n_local_subs++;
    return sub;
}

int kei_mq_sub_set(struct mq_session *s, struct ke_str filter, uint8_t options, uint32_t id,
                   struct mq_sub **ret, bool *ret_new)
{
    struct ke_mqtt *m = s->m;
    struct ke_str group = {0}, inner = filter;
    bool ok, shared = kei_mqtt_shared(filter, &group, &inner, &ok);

    if (shared ? !ok : !kei_mqtt_filter_ok(filter))
        return KEI_MQTT_R_FILTER;
    if (filter.n > m->lim.topic_bytes || kei_mqtt_levels(inner) > m->lim.topic_levels) {
        m->st.over_topic++;
        return KEI_MQTT_R_FILTER;
    }
    struct mq_node *n = kei_mq_tree_make(&m->filters, inner);
    if (!n)
        return KE_ENOMEM;
    struct mq_share *g = shared && n->value ? share_find(n->value, group) : NULL;
    struct mq_sub *sub = shared && !g ? NULL : kei_mq_sub_find(s, n, g);
    *ret_new = !sub;
    if (!sub) {
        if (s->n_subs >= m->lim.client_subs || m->st.subscriptions >= m->lim.subscriptions) {
            m->st.over_subscriptions++;
            prune(m, n);
            return KEI_MQTT_R_QUOTA;
        }
        sub = make(s, n, shared, group);
        if (!sub)
            return KE_ENOMEM;
    }
    sub->options = options;
    sub->id = id;
    *ret = sub;
    return 0;
}

void kei_mq_sub_free(struct mq_sub *sub)
{
    struct ke_mqtt *m = sub->s->m;
    struct mq_node *n = sub->node;
    struct mq_subs *v = subs_of(n);

    kei_list_remove(&sub->in_node);
    kei_list_remove(&sub->in_session);
    v->n--;
    if (sub->share) {
        sub->share->n--;
        m->st.shared_subscriptions--;
        share_drop(m, v, sub->share);
    }
    sub->s->n_subs--;
    m->st.subscriptions--;
    if (sub->s->flags & MQ_S_LOCAL)
        m->n_local_subs--;
    kei_free(m->alloc, sub);
    prune(m, n);
}

bool kei_mq_sub_remove(struct mq_session *s, struct ke_str filter)
{
    struct ke_str group = {0}, inner = filter;
    bool ok, shared = kei_mqtt_shared(filter, &group, &inner, &ok);
    struct mq_node *n = ok ? kei_mq_tree_find(&s->m->filters, inner) : NULL;

    if (!n || !n->value)
        return false;
    struct mq_share *g = shared ? share_find(n->value, group) : NULL;
    struct mq_sub *sub = shared && !g ? NULL : kei_mq_sub_find(s, n, g);
    if (sub)
        kei_mq_sub_free(sub);
    return sub != NULL;
}

void kei_mq_subs_clear(struct mq_session *s)
{
    while (!kei_list_empty(&s->subs))
        kei_mq_sub_free(KEI_OF(s->subs.next, struct mq_sub, in_session));
}

void kei_mq_sub_filter(const struct mq_sub *sub, struct ke_buf *b)
{
    if (sub->share) {
        kei_buf_adds(b, "$share/");
        kei_buf_add(b, sub->share->name, sub->share->name_n);
        kei_buf_addc(b, '/');
    }
    kei_mq_tree_text(sub->node, b);
}
