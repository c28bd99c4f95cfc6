/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to a broker outside, over the table of paho.h. Its events come on other threads
 * and are put into an inbox that wakes the loop; all else is the loop's. Owns the publications that
 * the broker has not confirmed and sends them again over the next connection.
 */
#include <pthread.h>

#include "base/backoff.h"
#include "base/error.h"
#include "base/log.h"
#include "mqtt/eventbus_priv.h"

#define WINDOW 64u /* publications handed to paho at once */

enum event_type { EV_CONNECTED, EV_FAILED, EV_LOST, EV_MESSAGE, EV_PUBLISHED, EV_REFUSED };

struct event {
    struct event *next;
    enum event_type type;
    int failed, qos, retain;
    void *tag;
    size_t topic_n, n; /* bytes: topic and payload, or a text */
    char bytes[];
};

struct publication {
    struct kei_link link;
    uintptr_t tag; /* of the present attempt; 0: not with paho */
    uint32_t qos, retain;
    size_t topic_n, n;
    char bytes[]; /* topic, NUL, payload */
};

struct kei_external {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct kei_external_config c;
    const struct kei_paho_module *module;
    struct kei_paho *paho;
    struct kei_timer retry;
    struct kei_backoff backoff;
    bool running, up, freed, delivering;
    struct kei_link waiting; /* publications, in order */
    uint32_t n_waiting, n_out;
    uint64_t bytes;
    uintptr_t next_tag;
    struct kei_wake wake;
    /* any thread, under mu */
    pthread_mutex_t mu;
    struct event *first, **last;
    uint64_t inbox_bytes;
    bool lost_event; /* no memory for one */
};

/* ---- events, from paho's threads ---- */

static int put_event(struct kei_external *x, const struct event *head, const void *a, size_t a_n,
                     const void *b, size_t b_n, bool optional)
{
    struct event *e = kei_alloc(x->alloc, sizeof *e + a_n + b_n + 1);
    int taken = 1;
    if (e) {
        *e = *head;
        e->next = NULL;
        e->topic_n = a_n;
        e->n = b_n;
        if (a_n)
            memcpy(e->bytes, a, a_n);
        if (b_n)
            memcpy(e->bytes + a_n, b, b_n);
        e->bytes[a_n + b_n] = '\0';
    }
    pthread_mutex_lock(&x->mu);
    if (!e || (optional && x->inbox_bytes > x->c.max_bytes)) {
        taken = 0;
        x->lost_event |= !optional;
    } else {
        *x->last = e;
        x->last = &e->next;
        x->inbox_bytes += sizeof *e + a_n + b_n;
    }
    pthread_mutex_unlock(&x->mu);
    if (!taken)
        kei_free(x->alloc, e);
    kei_wake(&x->wake);
    return taken;
}

static void put_text(void *user, enum event_type type, const char *text)
{
    struct event e = {.type = type};
    put_event(user, &e, NULL, 0, text, strlen(text), false);
}

static void on_connected(void *user)
{
    put_text(user, EV_CONNECTED, "");
}

static void on_failed(void *user, const char *text)
{
    put_text(user, EV_FAILED, text);
}

static void on_lost(void *user, const char *text)
{
    put_text(user, EV_LOST, text);
}

static void on_refused(void *user, const char *text)
{
    put_text(user, EV_REFUSED, text);
}

static int on_message(void *user, const char *topic, size_t topic_n, const void *payload, size_t n,
                      int qos, int retain)
{
    struct event e = {.type = EV_MESSAGE, .qos = qos, .retain = retain};
    return put_event(user, &e, topic, topic_n, payload, n, true);
}

static void on_published(void *user, void *tag, int failed)
{
    struct event e = {.type = EV_PUBLISHED, .tag = tag, .failed = failed};
    put_event(user, &e, NULL, 0, NULL, 0, false);
}

/* ---- publications ---- */

static void drop(struct kei_external *x, struct publication *p)
{
    kei_list_remove(&p->link);
    x->n_waiting--;
    x->bytes -= sizeof *p + p->topic_n + p->n;
    if (p->tag)
        x->n_out--;
    kei_free(x->alloc, p);
}

static void pump(struct kei_external *x)
{
    char text[KEI_PAHO_TEXT] = "";
    if (!x->up)
        return;
    KEI_LIST_EACH(l, &x->waiting)
    {
        struct publication *p = KEI_OF(l, struct publication, link);
        if (x->n_out >= WINDOW)
            return;
        if (p->tag)
            continue;
        p->tag = ++x->next_tag;
        if (x->module->publish(x->paho, p->bytes, p->bytes + p->topic_n + 1, p->n, (int)p->qos,
                               (int)p->retain, (void *)p->tag, text) < 0) {
            p->tag = 0; /* goes with the next confirmation or connection */
            kei_log(x->ctx, KE_LOG_DEBUG, "mqtt", "%s", text);
            return;
        }
        x->n_out++;
    }
}

static void published(struct kei_external *x, void *tag, int failed)
{
    KEI_LIST_EACH(l, &x->waiting)
    {
        struct publication *p = KEI_OF(l, struct publication, link);
        if (p->tag != (uintptr_t)tag)
            continue;
        if (!failed) {
            drop(x, p);
        } else {
            p->tag = 0;
            x->n_out--;
        }
        break;
    }
    if (!failed)
        pump(x);
}

/* What paho had and did not confirm is to be sent again. */
static void take_back(struct kei_external *x)
{
    KEI_LIST_EACH(l, &x->waiting)
    KEI_OF(l, struct publication, link)->tag = 0;
    x->n_out = 0;
}

int kei_external_publish(struct kei_external *x, struct ke_str topic, struct ke_str payload,
                         uint32_t qos, uint32_t retain)
{
    size_t size = sizeof(struct publication) + topic.n + payload.n;
    if (x->n_waiting >= x->c.max_messages)
        return kei_fail(x->ctx, KE_ELIMIT, "the buffer for broker %s is full: max_messages is %u",
                        x->c.paho.url, x->c.max_messages);
    if (size > x->c.max_bytes || x->bytes > x->c.max_bytes - size)
        return kei_fail(x->ctx, KE_ELIMIT, "the buffer for broker %s is full: max_bytes is %llu",
                        x->c.paho.url, (unsigned long long)x->c.max_bytes);
    struct publication *p = kei_alloc(x->alloc, size + 1);
    if (!p)
        return kei_fail(x->ctx, KE_ENOMEM, "out of memory for a message on topic %.*s",
                        KEI_FMT(topic));
    *p = (struct publication){.qos = qos, .retain = retain, .topic_n = topic.n, .n = payload.n};
    memcpy(p->bytes, topic.p, topic.n);
    p->bytes[topic.n] = '\0';
    if (payload.n)
        memcpy(p->bytes + topic.n + 1, payload.p, payload.n);
    kei_list_add_tail(&x->waiting, &p->link);
    x->n_waiting++;
    x->bytes += size;
    pump(x);
    return 0;
}

uint64_t kei_external_waiting(const struct kei_external *x)
{
    return x->n_waiting;
}

/* ---- the connection ---- */

static void try_later(struct kei_external *x, const char *text)
{
    int64_t pause = kei_backoff_next(&x->backoff, kei_ctx_random64(x->ctx));
    bool told = x->up || x->backoff.attempts == 1;
    x->up = false;
    kei_timer_in(&x->retry, pause);
    kei_log(x->ctx, told ? KE_LOG_WARN : KE_LOG_DEBUG, "mqtt", "broker %s: %s; next try in %lld ms",
            x->c.paho.url, text, (long long)pause);
    x->c.state(x->c.user, false, text);
}

static void on_retry(struct kei_timer *t)
{
    struct kei_external *x = KEI_OF(t, struct kei_external, retry);
    char text[KEI_PAHO_TEXT] = "";
    if (x->module->connect(x->paho, text) < 0)
        try_later(x, text);
}

static void connected(struct kei_external *x)
{
    if (x->up)
        return;
    x->up = true;
    kei_backoff_reset(&x->backoff);
    take_back(x);
    kei_log(x->ctx, KE_LOG_INFO, "mqtt", "connected to broker %s", x->c.paho.url);
    x->c.state(x->c.user, true, "");
    pump(x);
}

static void handle(struct kei_external *x, const struct event *e)
{
    struct ke_eventbus_message m = {.size = sizeof m,
                                    .topic = {e->bytes, e->topic_n},
                                    .payload = {e->bytes + e->topic_n, e->n},
                                    .qos = (uint32_t)e->qos,
                                    .retain = e->retain != 0,
                                    .external = 1};
    switch (e->type) {
    case EV_CONNECTED:
        connected(x);
        break;
    case EV_FAILED:
        try_later(x, e->bytes);
        break;
    case EV_LOST:
        if (x->up)
            try_later(x, e->bytes);
        break;
    case EV_MESSAGE:
        x->c.message(x->c.user, &m);
        break;
    case EV_PUBLISHED:
        published(x, e->tag, e->failed);
        break;
    case EV_REFUSED:
        kei_log(x->ctx, KE_LOG_WARN, "mqtt", "broker %s: %s", x->c.paho.url, e->bytes);
        break;
    }
}

static void free_now(struct kei_external *x)
{
    while (x->first) {
        struct event *e = x->first;
        x->first = e->next;
        kei_free(x->alloc, e);
    }
    KEI_LIST_EACH_SAFE(l, tmp, &x->waiting)
    drop(x, KEI_OF(l, struct publication, link));
    pthread_mutex_destroy(&x->mu);
    kei_free(x->alloc, x);
}

static void on_wake(struct kei_wake *w)
{
    struct kei_external *x = KEI_OF(w, struct kei_external, wake);
    pthread_mutex_lock(&x->mu);
    struct event *e = x->first;
    bool lost = x->lost_event;
    x->first = NULL;
    x->last = &x->first;
    x->inbox_bytes = 0;
    x->lost_event = false;
    pthread_mutex_unlock(&x->mu);
    x->delivering = true;
    while (e) {
        struct event *next = e->next;
        if (!x->freed)
            handle(x, e);
        kei_free(x->alloc, e);
        e = next;
    }
    x->delivering = false;
    if (x->freed) {
        free_now(x);
    } else if (lost) { /* whatever it was: begin anew */
        x->module->disconnect(x->paho);
        try_later(x, "out of memory for an event of the connection");
    }
}

/* ---- life ---- */

int kei_external_new(struct kei_external **ret, struct ke_ctx *ctx,
                     const struct kei_paho_module *module, const struct kei_external_config *c)
{
    static const struct kei_paho_events events = {.connected = on_connected,
                                                  .failed = on_failed,
                                                  .lost = on_lost,
                                                  .message = on_message,
                                                  .published = on_published,
                                                  .refused = on_refused};
    char text[KEI_PAHO_TEXT] = "";
    struct kei_external *x = kei_zalloc(kei_ctx_alloc(ctx), sizeof *x);
    if (!x)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the connection to %s", c->paho.url);
    x->ctx = ctx;
    x->alloc = kei_ctx_alloc(ctx);
    x->c = *c;
    x->module = module;
    x->last = &x->first;
    kei_list_init(&x->waiting);
    kei_backoff_init(&x->backoff, c->retry_min_ms, c->retry_max_ms);
    kei_timer_init(ctx, &x->retry, on_retry);
    if (pthread_mutex_init(&x->mu, NULL) != 0) {
        kei_free(x->alloc, x);
        return kei_fail(ctx, KE_ENOMEM, "no mutex for the connection to %s", c->paho.url);
    }
    kei_wake_init(ctx, &x->wake, on_wake);
    if (module->create(&x->paho, &c->paho, &events, x, text) < 0) {
        kei_wake_fini(&x->wake);
        free_now(x);
        return kei_fail(ctx, KE_EINVAL, "broker %s: %s", c->paho.url, text);
    }
    *ret = x;
    return 0;
}

void kei_external_start(struct kei_external *x)
{
    if (x->running)
        return;
    x->running = true;
    kei_timer_in(&x->retry, 0);
}

void kei_external_free(struct kei_external *x)
{
    if (!x)
        return;
    kei_timer_fini(&x->retry);
    if (x->up)
        x->module->disconnect(x->paho);
    x->module->destroy(x->paho); /* no event after it */
    kei_wake_fini(&x->wake);
    x->freed = true;
    if (!x->delivering)
        free_now(x);
}

void kei_external_subscribe(struct kei_external *x, const char *filter, uint32_t qos)
{
    char text[KEI_PAHO_TEXT] = "";
    if (x->up && x->module->subscribe(x->paho, filter, (int)qos, text) < 0)
        kei_log(x->ctx, KE_LOG_WARN, "mqtt", "broker %s: %s: %s", x->c.paho.url, filter, text);
}

void kei_external_unsubscribe(struct kei_external *x, const char *filter)
{
    char text[KEI_PAHO_TEXT] = "";
    if (x->up && x->module->unsubscribe(x->paho, filter, text) < 0)
        kei_log(x->ctx, KE_LOG_WARN, "mqtt", "broker %s: %s: %s", x->c.paho.url, filter, text);
}
