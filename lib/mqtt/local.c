/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware's own messages: publish and subscribe without a socket, from any thread. What other
 * threads want, and what callbacks want while messages are being given out, goes through one queue
 * and is done on the loop in the order it came.
 */
#include "mqtt/calls.h"
#include "mqtt/journal.h"
#include "mqtt/server.h"

struct kei_mqtt_local {
    struct ke_mqtt *m;
    struct kei_link link; /* m->locals */
    struct kei_link subs;
    char name[];
};

struct ke_mqtt_sub {
    struct ke_mqtt *m;
    struct kei_mqtt_local *owner;
    struct kei_link link;
    struct mq_session *s; /* NULL: not in force (yet, or any more) */
    ke_mqtt_message_fn message;
    void (*gone)(void *user);
    void *user;
    uint32_t qos;
    uint8_t options;
    uint32_t id;
    bool closed;
    uint16_t filter_n;
    char filter[];
};

/* ---- calls ---- */

void kei_mq_call(struct ke_mqtt *m, struct mq_call *call)
{
    call->next = NULL;
    pthread_mutex_lock(&m->mu);
    *m->calls_tail = call;
    m->calls_tail = &call->next;
    pthread_mutex_unlock(&m->mu);
    kei_wake(&m->wake);
}

void kei_mq_calls_run(struct ke_mqtt *m)
{
    pthread_mutex_lock(&m->mu);
    struct mq_call *c = m->calls;
    m->calls = NULL;
    m->calls_tail = &m->calls;
    pthread_mutex_unlock(&m->mu);
    mq_now(m);
    while (c) {
        struct mq_call *next = c->next;
        c->fn(m, c);
        c = next;
    }
}

/* What this thread wants now would not overtake anything. */
static bool nothing_called(struct ke_mqtt *m)
{
    pthread_mutex_lock(&m->mu);
    bool nothing = !m->calls;
    pthread_mutex_unlock(&m->mu);
    return nothing;
}

/* ---- publishing ---- */

struct publish_call {
    struct mq_call call;
    struct mq_msg *g;
    const void *origin;
    ke_mqtt_done_fn done;
    void *user;
};

/* Now, on the loop. */
static int publish(struct ke_mqtt *m, struct mq_msg *g, const void *origin)
{
    if (!m->started)
        return KE_ESTATE;
    if (g->qos && m->journal && !kei_mq_journal_room(m))
        return KE_ENOSPC;
    int r = g->flags & MQ_MSG_RETAIN ? kei_mq_retain(m, g) : 0;
    kei_mq_route(m, g, origin);
    return r ? KE_ELIMIT : 0;
}

static void finish(struct ke_mqtt *m, ke_mqtt_done_fn done, void *user, int status)
{
    if (!done)
        return;
    if (status == 0 && m->journal && kei_mq_noted(m) && kei_mq_journal_tell(m, done, user) == 0)
        return; /* told when it is durable */
    kei_mq_enter(m);
    done(user, status);
    kei_mq_leave(m);
}

static void run_publish(struct ke_mqtt *m, struct mq_call *call)
{
    struct publish_call *c = KEI_OF(call, struct publish_call, call);
    int r = m->freed ? KE_ECANCELED : publish(m, c->g, c->origin);

    mq_unref(c->g);
    finish(m, c->done, c->user, r);
    kei_free(m->alloc, c);
}

static int queue_publish(struct ke_mqtt *m, struct mq_msg *g, const void *origin,
                         ke_mqtt_done_fn done, void *user)
{
    struct publish_call *c = kei_zalloc(m->alloc, sizeof *c);

    if (!c)
        return KE_ENOMEM;
    c->call.fn = run_publish;
    c->g = g;
    c->origin = origin;
    c->done = done;
    c->user = user;
    kei_mq_call(m, &c->call);
    return 0;
}

int kei_mq_publish_later(struct ke_mqtt *m, struct mq_msg *g, const void *origin)
{
    return queue_publish(m, g, origin, NULL, NULL);
}

static void put_props(struct ke_buf *b, const struct ke_mqtt_publish *p)
{
    if (p->has & KE_MQTT_HAS_FORMAT)
        kei_mqtt_put_u8(b, KEI_MQTT_P_PAYLOAD_FORMAT, p->format ? 1 : 0);
    if (p->content_type.p)
        kei_mqtt_put_str(b, KEI_MQTT_P_CONTENT_TYPE, kei_mqtt_view(p->content_type));
    if (p->response_topic.p)
        kei_mqtt_put_str(b, KEI_MQTT_P_RESPONSE_TOPIC, kei_mqtt_view(p->response_topic));
    if (p->correlation.p)
        kei_mqtt_put_str(b, KEI_MQTT_P_CORRELATION, kei_mqtt_view(p->correlation));
    for (uint32_t i = 0; i < p->n_user_props; i++)
        kei_mqtt_put_user(b, kei_mqtt_view(p->user_props[i].name),
                          kei_mqtt_view(p->user_props[i].value));
}

static int check_publish(struct ke_mqtt *m, const struct ke_mqtt_publish *p, struct ke_error *err)
{
    if (!kei_mqtt_topic_ok(kei_mqtt_view(p->topic)) ||
        kei_mqtt_levels(kei_mqtt_view(p->topic)) > MQ_LEVELS)
        return kei_error(err, KE_EINVAL, "\"%.*s\" is not a topic to publish to",
                         KEI_FMT(kei_mqtt_view(p->topic)));
    if (p->qos > 2)
        return kei_error(err, KE_EINVAL, "QoS %u does not exist", p->qos);
    if (p->payload.n > m->lim.packet)
        return kei_error(err, KE_ELIMIT, "a payload of %zu bytes, max_packet is %u", p->payload.n,
                         m->lim.packet);
    return 0;
}

static struct mq_msg *make(struct ke_mqtt *m, const struct ke_mqtt_publish *p, const char *name)
{
    struct ke_buf props;
    struct mq_msg *g = NULL;

    kei_buf_init(&props, m->alloc);
    put_props(&props, p);
    struct mq_draft d = {.topic = kei_mqtt_view(p->topic),
                         .payload = kei_mqtt_view(p->payload),
                         .props = kei_buf_str(&props),
                         .client = kei_str(name),
                         .expires_ms = MQ_NEVER,
                         .qos = (uint8_t)p->qos,
                         .flags = p->retain ? MQ_MSG_RETAIN : 0};
    if (p->has & KE_MQTT_HAS_EXPIRY)
        d.expires_ms = ke_ctx_mono_ms(m->ctx) + (int64_t)p->expiry * 1000;
    if (kei_buf_ok(&props))
        g = kei_mq_msg_new(m, &d);
    ke_buf_free(&props);
    return g;
}

int kei_mqtt_local_publish(struct kei_mqtt_local *l, const struct ke_mqtt_publish *p,
                           ke_mqtt_done_fn done, void *user, struct ke_error *err)
{
    struct ke_mqtt *m = l->m;
    struct ke_mqtt_publish in;
    int r = kei_abi_in(&in, sizeof in, p, offsetof(struct ke_mqtt_publish, content_type),
                       "struct ke_mqtt_publish", err);

    if (r == 0)
        r = check_publish(m, &in, err);
    if (r < 0)
        return r;
    if (!m->started)
        return kei_error(err, KE_ESTATE, "the MQTT server is not started");
    struct mq_msg *g = make(m, &in, l->name);
    if (g && kei_ctx_on_loop(m->ctx) && !m->routing && nothing_called(m)) {
        mq_now(m);
        r = publish(m, g, l);
        mq_unref(g);
        if (r < 0)
            return kei_error(err, r, "the message could not be kept: a limit, or the disk");
        finish(m, done, user, 0);
        return 0;
    }
    if (!g || queue_publish(m, g, l, done, user) < 0) {
        if (g)
            kei_mq_msg_free(g);
        return kei_error(err, KE_ENOMEM, "no memory for a message");
    }
    return 0;
}

int ke_mqtt_publish(struct ke_mqtt *m, const struct ke_mqtt_publish *p, ke_mqtt_done_fn done,
                    void *user, struct ke_error *reterr)
{
    if (!m || !p)
        return kei_error(reterr, KE_EINVAL, "no server or no message was given");
    return kei_mqtt_local_publish(m->self, p, done, user, reterr);
}

/* ---- subscribing ---- */

void kei_mq_local_message(struct ke_mqtt_sub *sub, struct mq_msg *g, unsigned qos, bool retain,
                          const uint32_t *ids, uint32_t n_ids)
{
    struct ke_mqtt *m = sub->m;
    struct ke_mqtt_message v;

    if (sub->closed)
        return;
    kei_mq_msg_view(g, &v, qos, retain, ids, n_ids);
    m->st.publish_out++;
    kei_mq_enter(m);
    sub->message(sub->user, &v);
    kei_mq_leave(m);
}

static void sub_free(struct ke_mqtt_sub *sub)
{
    struct ke_mqtt *m = sub->m;

    kei_list_remove(&sub->link);
    if (sub->s)
        kei_mq_session_free(sub->s);
    if (sub->gone) {
        kei_mq_enter(m);
        sub->gone(sub->user);
        kei_mq_leave(m);
    }
    kei_free(m->alloc, sub);
}

static int sub_begin(struct ke_mqtt_sub *sub)
{
    struct ke_mqtt *m = sub->m;
    struct mq_sub *entry;
    bool is_new;

    kei_list_add_tail(&sub->owner->subs, &sub->link);
    sub->s = kei_mq_session_bare(m, kei_str(sub->owner->name));
    if (!sub->s)
        return KE_ENOMEM;
    sub->s->flags = MQ_S_LOCAL;
    sub->s->local = sub;
    sub->s->origin = sub->owner;
    int r = kei_mq_sub_set(sub->s, kei_strn(sub->filter, sub->filter_n),
                           (uint8_t)(sub->qos | sub->options), sub->id, &entry, &is_new);
    if (r < 0)
        return r;
    if (r > 0)
        return r == KEI_MQTT_R_QUOTA ? KE_ELIMIT : KE_EINVAL;
    if (KEI_MQTT_SUB_RETAIN(sub->options) == 0)
        kei_mq_retained_to(entry);
    return 0;
}

struct sub_call {
    struct mq_call call;
    struct ke_mqtt_sub *sub;
};

static void run_begin(struct ke_mqtt *m, struct mq_call *call)
{
    struct sub_call *c = KEI_OF(call, struct sub_call, call);

    if (sub_begin(c->sub) < 0)
        kei_log(m->ctx, KE_LOG_ERROR, "mqtt", "the firmware's subscription to \"%.*s\" failed",
                KEI_FMT(kei_strn(c->sub->filter, c->sub->filter_n)));
    kei_free(m->alloc, c);
}

static void run_end(struct ke_mqtt *m, struct mq_call *call)
{
    struct sub_call *c = KEI_OF(call, struct sub_call, call);

    sub_free(c->sub);
    kei_free(m->alloc, c);
}

static int sub_later(struct ke_mqtt_sub *sub, void (*fn)(struct ke_mqtt *, struct mq_call *))
{
    struct sub_call *c = kei_zalloc(sub->m->alloc, sizeof *c);

    if (!c)
        return KE_ENOMEM;
    c->call.fn = fn;
    c->sub = sub;
    kei_mq_call(sub->m, &c->call);
    return 0;
}

static int check_subscribe(struct ke_mqtt *m, const struct ke_mqtt_subscribe *s,
                           struct ke_error *err)
{
    struct ke_str f = kei_mqtt_view(s->filter), group, inner = f;
    bool ok;

    kei_mqtt_shared(f, &group, &inner, &ok);
    if (!ok || !kei_mqtt_filter_ok(inner) || kei_mqtt_levels(inner) > m->lim.topic_levels)
        return kei_error(err, KE_EINVAL, "\"%.*s\" is not a filter to subscribe to", KEI_FMT(f));
    if (!s->message || s->qos > 2)
        return kei_error(err, KE_EINVAL, "a subscription needs a callback and a QoS up to 2");
    return 0;
}

int kei_mqtt_local_subscribe(struct ke_mqtt_sub **ret, struct kei_mqtt_local *l,
                             const struct ke_mqtt_subscribe *s, void *user, struct ke_error *err)
{
    struct ke_mqtt *m = l->m;
    struct ke_mqtt_subscribe in;
    int r = kei_abi_in(&in, sizeof in, s, sizeof in, "struct ke_mqtt_subscribe", err);

    if (r == 0)
        r = check_subscribe(m, &in, err);
    if (r < 0)
        return r;
    struct ke_mqtt_sub *sub = kei_zalloc(m->alloc, sizeof *sub + in.filter.n);
    if (!sub)
        return kei_error(err, KE_ENOMEM, "no memory for a subscription");
    sub->m = m;
    sub->owner = l;
    sub->message = in.message;
    sub->gone = in.gone;
    sub->user = user;
    sub->qos = in.qos;
    sub->id = in.id;
    sub->options = (uint8_t)((in.flags & KE_MQTT_SUB_NO_LOCAL ? KEI_MQTT_SUB_NO_LOCAL : 0) |
                             (in.flags & KE_MQTT_SUB_AS_PUBLISHED ? KEI_MQTT_SUB_AS_PUBLISHED : 0) |
                             (in.flags & KE_MQTT_SUB_NO_RETAINED ? 2u << 4 : 0));
    sub->filter_n = (uint16_t)in.filter.n;
    memcpy(sub->filter, in.filter.p, in.filter.n);
    *ret = sub;
    if (kei_ctx_on_loop(m->ctx) && !m->routing && nothing_called(m)) {
        mq_now(m);
        r = sub_begin(sub);
    } else {
        r = sub_later(sub, run_begin);
    }
    if (r == 0)
        return 0;
    sub->gone = NULL;
    sub_free(sub);
    return kei_error(err, r,
                     r == KE_ELIMIT ? "there are max_subscriptions already"
                                    : "no memory for a subscription");
}

int ke_mqtt_subscribe(struct ke_mqtt_sub **ret, struct ke_mqtt *m,
                      const struct ke_mqtt_subscribe *s, void *user, struct ke_error *reterr)
{
    if (!ret || !m || !s)
        return kei_error(reterr, KE_EINVAL, "no server or no subscription was given");
    return kei_mqtt_local_subscribe(ret, m->self, s, user, reterr);
}

void ke_mqtt_unsubscribe(struct ke_mqtt_sub *sub)
{
    if (!sub)
        return;
    struct ke_mqtt *m = sub->m;
    bool here = kei_ctx_on_loop(m->ctx);
    if (here)
        sub->closed = true;
    if (here && !m->routing && m->depth == 0 && nothing_called(m))
        sub_free(sub);
    else
        sub_later(sub, run_end); /* without memory it is freed with the server */
}

/* ---- in-process clients ---- */

int kei_mqtt_local_new(struct kei_mqtt_local **ret, struct ke_mqtt *m, const char *name)
{
    size_t n = strlen(name);
    struct kei_mqtt_local *l = kei_zalloc(m->alloc, sizeof *l + n + 1);

    if (!l)
        return kei_fail(m->ctx, KE_ENOMEM, "no memory for an in-process client");
    l->m = m;
    memcpy(l->name, name, n + 1);
    kei_list_init(&l->subs);
    kei_list_add_tail(&m->locals, &l->link);
    *ret = l;
    return 0;
}

void kei_mqtt_local_free(struct kei_mqtt_local *l)
{
    if (!l)
        return;
    while (!kei_list_empty(&l->subs))
        sub_free(KEI_OF(l->subs.next, struct ke_mqtt_sub, link));
    kei_list_remove(&l->link);
    kei_free(l->m->alloc, l);
}

int kei_mq_local_init(struct ke_mqtt *m)
{
    kei_list_init(&m->locals);
    m->calls_tail = &m->calls;
    return kei_mqtt_local_new(&m->self, m, "");
}

void kei_mq_local_fini(struct ke_mqtt *m)
{
    while (m->calls)
        kei_mq_calls_run(m);
    while (!kei_list_empty(&m->locals))
        kei_mqtt_local_free(KEI_OF(m->locals.next, struct kei_mqtt_local, link));
    while (m->calls) /* what callbacks of those left */
        kei_mq_calls_run(m);
    m->self = NULL;
}
