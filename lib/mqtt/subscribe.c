/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBE and UNSUBSCRIBE of clients. Loop thread. */
#include <inttypes.h>

#include "mqtt/journal.h"
#include "mqtt/server.h"

static bool has_wildcard(struct ke_str filter)
{
    return memchr(filter.p, '+', filter.n) || memchr(filter.p, '#', filter.n);
}

/* The filter with the listener's mount point before its topics. */
static bool mounted(struct mq_conn *c, struct ke_str filter, struct ke_buf *b)
{
    struct ke_str group, inner = filter;
    bool ok;

    kei_buf_init(b, c->m->alloc);
    if (kei_mqtt_shared(filter, &group, &inner, &ok) && ok)
        kei_buf_add(b, filter.p, (size_t)(inner.p - filter.p));
    kei_buf_adds(b, c->l->mount);
    kei_buf_addv(b, inner);
    return kei_buf_ok(b) && b->n <= UINT16_MAX;
}

static unsigned check(struct mq_conn *c, struct ke_str filter, uint8_t options, bool has_id)
{
    struct ke_mqtt *m = c->m;
    struct ke_str group, inner = filter;
    bool ok, shared = kei_mqtt_shared(filter, &group, &inner, &ok);

    if (!ok || !kei_mqtt_filter_ok(inner))
        return KEI_MQTT_R_FILTER;
    if (shared && m->flags & KE_MQTT_NO_SHARED)
        return KEI_MQTT_R_NO_SHARED;
    if (shared && options & KEI_MQTT_SUB_NO_LOCAL)
        return KEI_MQTT_R_PROTOCOL;
    if (m->flags & KE_MQTT_NO_WILDCARD && has_wildcard(inner))
        return KEI_MQTT_R_NO_WILDCARD;
    if (has_id && m->flags & KE_MQTT_NO_SUBID)
        return KEI_MQTT_R_NO_SUBID;
    return 0;
}

/* One filter: the code for SUBACK; *ret_sub is set when it is to be told what is retained. */
static unsigned subscribe(struct mq_conn *c, struct ke_str filter, uint8_t options, uint32_t id,
                          struct mq_sub **ret_sub)
{
    struct ke_mqtt *m = c->m;
    unsigned max = c->l->flags & KE_MQTT_MAX_QOS_0 ? 0 : c->l->flags & KE_MQTT_MAX_QOS_1 ? 1 : 2;
    struct mq_sub *sub;
    bool is_new;

    if (!kei_mq_may(c, KE_MQTT_SUBSCRIBE, filter)) {
        m->st.denied++;
        kei_mq_log(c, KE_LOG_INFO, "may not subscribe to \"%.*s\"", KEI_FMT(filter));
        return KEI_MQTT_R_UNSPECIFIED; /* whether the topic exists is nobody's business */
    }
    if ((options & KEI_MQTT_SUB_QOS) > max)
        options = (uint8_t)((options & ~KEI_MQTT_SUB_QOS) | max);
    int r = kei_mq_sub_set(c->s, filter, options, id, &sub, &is_new);
    if (r < 0)
        return KEI_MQTT_R_UNSPECIFIED;
    if (r > 0)
        return (unsigned)r;
    if (mq_kept(c->s))
        kei_mq_note_sub(sub);
    unsigned handling = KEI_MQTT_SUB_RETAIN(options);
    if (handling == 0 || (handling == 1 && is_new))
        *ret_sub = sub;
    return options & KEI_MQTT_SUB_QOS;
}

struct answer {
    struct ke_buf codes;
    struct mq_sub **subs; /* to be told what is retained, behind the SUBACK */
    uint32_t n, cap;
};

static void one(struct mq_conn *c, struct ke_str filter, uint8_t options, uint32_t id,
                struct answer *a)
{
    struct ke_mqtt *m = c->m;
    struct mq_sub *sub = NULL;
    struct ke_buf full = {0};
    unsigned code = check(c, filter, options, id != 0);

    if (code == KEI_MQTT_R_PROTOCOL) {
        kei_mq_conn_close(c, code, "SUBSCRIBE: no local on a shared subscription");
        return;
    }
    if (code == KEI_MQTT_R_FILTER) {
        bool shared = kei_str_starts(filter, KEI_STR("$share"));
        kei_mq_conn_close(c, shared ? KEI_MQTT_R_PROTOCOL : KEI_MQTT_R_MALFORMED,
                          "SUBSCRIBE: topic filter \"%.*s\" is not valid", KEI_FMT(filter));
        return;
    }
    struct ke_str used = filter;
    if (code == 0 && c->l->mount) {
        if (!mounted(c, filter, &full))
            code = KEI_MQTT_R_UNSPECIFIED;
        used = kei_buf_str(&full);
    }
    if (code == 0)
        code = subscribe(c, used, options, id, &sub);
    if (code == KEI_MQTT_R_QUOTA && m->now - m->complained_ms >= 1000) {
        m->complained_ms = m->now;
        kei_mq_log(c, KE_LOG_WARN,
                   "subscriptions were refused: it has %u of max_client_subscriptions (%u), all "
                   "have %" PRIu64 " of max_subscriptions (%u)",
                   c->s->n_subs, m->lim.client_subs, (uint64_t)m->st.subscriptions,
                   m->lim.subscriptions);
    }
    if (code == KEI_MQTT_R_FILTER) {
        kei_mq_conn_close(c, KEI_MQTT_R_MALFORMED,
                          "SUBSCRIBE: a filter of %zu bytes and %u levels is too much", used.n,
                          kei_mqtt_levels(used));
        ke_buf_free(&full);
        return;
    }
    if (sub && a->n == a->cap) {
        uint32_t cap = a->cap ? a->cap * 2 : 16;
        void *p = kei_array_realloc(m->alloc, a->subs, cap, sizeof *a->subs);
        if (p) {
            a->subs = p;
            a->cap = cap;
        }
    }
    if (sub && a->n < a->cap)
        a->subs[a->n++] = sub;
    if (code >= 0x80 && c->version < KEI_MQTT_V5)
        code = 0x80;
    kei_buf_addc(&a->codes, (char)code);
    kei_mq_event(c, KE_MQTT_EVENT_SUBSCRIBED, code, filter, "");
    ke_buf_free(&full);
}

static void answer(struct mq_conn *c, unsigned type, uint16_t pid, struct ke_buf *codes)
{
    struct kei_mqtt_subscribe s = {.pid = pid, .list = kei_buf_str(codes)};
    struct ke_buf b;

    kei_buf_init(&b, c->m->alloc);
    if (kei_buf_ok(codes))
        kei_mqtt_encode_subscribe(&b, c->version, type, &s);
    else
        kei_buf_room(&b, SIZE_MAX);
    kei_mq_send_buf(c, &b);
}

void kei_mq_on_subscribe(struct mq_conn *c, struct ke_str body)
{
    struct ke_mqtt *m = c->m;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_subscribe s;
    struct answer a = {.subs = NULL};
    struct ke_str filter;
    uint8_t options;
    size_t at = 0;
    int why = kei_mqtt_decode_subscribe(c->version, KEI_MQTT_SUBSCRIBE, body, &s, &err);

    if (why) {
        kei_mq_conn_close(c, (unsigned)why, "SUBSCRIBE: %s", err.text);
        return;
    }
    if (m->journal && !kei_mq_journal_room(m)) {
        kei_mq_conn_close(c, KEI_MQTT_R_QUOTA, "SUBSCRIBE: what is to be stored cannot be");
        return;
    }
    kei_buf_init(&a.codes, m->alloc);
    uint32_t id = s.props.n_sub_ids ? s.props.sub_ids[0] : 0;
    while (c->state == MQ_UP &&
           kei_mqtt_next_filter(&s, KEI_MQTT_SUBSCRIBE, &at, &filter, &options)) {
        /* 3.1.1 has no such options: a bridge says in CONNECT that it is one and wants them */
        if (c->flags & MQ_C_BRIDGE && !kei_str_starts(filter, KEI_STR("$share/")))
            options |= KEI_MQTT_SUB_NO_LOCAL | KEI_MQTT_SUB_AS_PUBLISHED;
        one(c, filter, options, id, &a);
    }
    if (c->state == MQ_UP) {
        answer(c, KEI_MQTT_SUBACK, s.pid, &a.codes);
        for (uint32_t i = 0; i < a.n && c->state == MQ_UP; i++)
            kei_mq_retained_to(a.subs[i]);
    }
    ke_buf_free(&a.codes);
    kei_free(m->alloc, a.subs);
}

static unsigned unsubscribe(struct mq_conn *c, struct ke_str filter)
{
    struct ke_buf full = {0};
    struct ke_str used = filter;
    unsigned code;

    if (c->l->mount) {
        if (!mounted(c, filter, &full)) {
            ke_buf_free(&full);
            return KEI_MQTT_R_UNSPECIFIED;
        }
        used = kei_buf_str(&full);
    }
    code = kei_mq_sub_remove(c->s, used) ? 0 : KEI_MQTT_R_NO_SUBSCRIPTION;
    if (code == 0 && mq_kept(c->s))
        kei_mq_note_unsub(c->s, used);
    ke_buf_free(&full);
    return code;
}

void kei_mq_on_unsubscribe(struct mq_conn *c, struct ke_str body)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_subscribe s;
    struct ke_buf codes;
    struct ke_str filter, group, inner;
    uint8_t options;
    size_t at = 0;
    bool ok;
    int why = kei_mqtt_decode_subscribe(c->version, KEI_MQTT_UNSUBSCRIBE, body, &s, &err);

    if (why) {
        kei_mq_conn_close(c, (unsigned)why, "UNSUBSCRIBE: %s", err.text);
        return;
    }
    kei_buf_init(&codes, c->m->alloc);
    while (c->state == MQ_UP &&
           kei_mqtt_next_filter(&s, KEI_MQTT_UNSUBSCRIBE, &at, &filter, &options)) {
        inner = filter;
        kei_mqtt_shared(filter, &group, &inner, &ok);
        if (!ok || !kei_mqtt_filter_ok(inner)) {
            kei_mq_conn_close(c, KEI_MQTT_R_MALFORMED,
                              "UNSUBSCRIBE: topic filter \"%.*s\" is not valid", KEI_FMT(filter));
            break;
        }
        unsigned code = unsubscribe(c, filter);
        kei_buf_addc(&codes, (char)code);
        kei_mq_event(c, KE_MQTT_EVENT_UNSUBSCRIBED, code, filter, "");
    }
    if (c->state == MQ_UP)
        answer(c, KEI_MQTT_UNSUBACK, s.pid, &codes);
    ke_buf_free(&codes);
}
