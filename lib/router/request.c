/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests with replies. A request is open until its reply, its time or its cancellation comes,
 * whichever is first; the mutex decides. Owned by the router. Responding: any thread; the rest and
 * all ends: the loop's thread.
 */
#include "base/error.h"
#include "router/router_priv.h"

struct request {
    struct ke_router *router;
    struct kei_link link; /* in open or answered; mu */
    struct kei_timer timer;
    uint64_t id;
    struct ke_msg *asked;
    struct ke_msg *reply; /* NULL while open; mu */
    ke_reply_fn fn;
    void *user;
};

static struct ke_str key_of(const struct request *q)
{
    return kei_str(ke_msg_id(q->asked));
}

/* Out of all lists, so that nobody finds it any more. mu is held. */
static void detach(struct request *q)
{
    if (!q->reply)
        kei_map_remove(&q->router->requests, key_of(q));
    kei_list_remove(&q->link);
    q->router->requests_n--;
}

static void request_free(struct request *q)
{
    kei_timer_fini(&q->timer);
    ke_msg_unref(q->asked);
    ke_msg_unref(q->reply);
    kei_free(kei_ctx_alloc(q->router->ctx), q);
}

/* Tells the end of a detached request. */
static void end(struct request *q, int status)
{
    struct ke_router *r = q->router;
    kei_router_enter(r);
    q->fn(q->user, status, q->reply);
    request_free(q);
    kei_router_leave(r);
}

static void on_timeout(struct kei_timer *t)
{
    struct request *q = KEI_OF(t, struct request, timer);
    struct ke_router *r = q->router;
    pthread_mutex_lock(&r->mu);
    bool late = q->reply != NULL; /* a reply came first and is about to be told */
    if (!late)
        detach(q);
    pthread_mutex_unlock(&r->mu);
    if (!late)
        end(q, KE_ETIMEDOUT);
}

static struct request *request_make(struct ke_router *r, struct ke_msg *m, ke_reply_fn fn,
                                    void *user)
{
    struct request *q = kei_zalloc(kei_ctx_alloc(r->ctx), sizeof *q);
    if (!q)
        return NULL;
    q->router = r;
    q->asked = ke_msg_ref(m);
    q->fn = fn;
    q->user = user;
    kei_timer_init(r->ctx, &q->timer, on_timeout);
    return q;
}

/* Makes it findable; mu is held. */
static int attach(struct ke_router *r, struct request *q, struct ke_error *err)
{
    if (r->requests_n >= r->conf.requests)
        return kei_error(err, KE_ELIMIT, "too many requests are open: requests is %u",
                         (unsigned)r->conf.requests);
    if (kei_map_get(&r->requests, key_of(q)))
        return kei_error(err, KE_EEXIST, "a request with message id %s is open already",
                         ke_msg_id(q->asked));
    if (kei_map_put(&r->requests, key_of(q), q, NULL) < 0)
        return kei_error(err, KE_ENOMEM, "out of memory for a request");
    q->id = ++r->last_request;
    kei_list_add_tail(&r->open, &q->link);
    r->requests_n++;
    return 0;
}

int ke_router_request(struct ke_router *r, const char *module, struct ke_msg *m, int64_t timeout_ms,
                      ke_reply_fn fn, void *user, uint64_t *ret_request)
{
    if (!r)
        return KE_EINVAL;
    if (!module || !m || !fn || timeout_ms <= 0)
        return kei_fail(r->ctx, KE_EINVAL,
                        "a request needs a module, a message, a function and a time above 0 ms");
    if (r->dying)
        return kei_fail(r->ctx, KE_ESTATE, "the router is being freed and takes no more requests");
    struct request *q = request_make(r, m, fn, user);
    if (!q)
        return kei_fail(r->ctx, KE_ENOMEM, "out of memory for a request to module %s", module);
    pthread_mutex_lock(&r->mu);
    int e = attach(r, q, kei_err(r->ctx));
    uint64_t id = q->id;
    pthread_mutex_unlock(&r->mu);
    if (e == 0) {
        /* Attached first: another thread may answer as soon as the message is in the queue. */
        kei_timer_in(&q->timer, timeout_ms);
        e = kei_router_enqueue(r, module, m, kei_err(r->ctx));
        if (e < 0) {
            pthread_mutex_lock(&r->mu);
            detach(q);
            pthread_mutex_unlock(&r->mu);
        }
    }
    if (e < 0) {
        request_free(q);
        return e;
    }
    if (ret_request)
        *ret_request = id;
    return 0;
}

static struct request *find_id(struct kei_link *list, uint64_t id)
{
    KEI_LIST_EACH(l, list)
    {
        struct request *q = KEI_OF(l, struct request, link);
        if (q->id == id)
            return q;
    }
    return NULL;
}

void ke_router_cancel(struct ke_router *r, uint64_t request)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mu);
    struct request *q = find_id(&r->open, request);
    if (!q)
        q = find_id(&r->answered, request);
    if (q)
        detach(q);
    pthread_mutex_unlock(&r->mu);
    if (q)
        request_free(q);
}

int ke_router_respond(struct ke_router *r, struct ke_msg *reply, struct ke_error *reterr)
{
    if (!r || !reply)
        return kei_error(reterr, KE_EINVAL, "responding needs a router and a message");
    const char *parent = ke_msg_parent_id(reply);
    struct request *q = NULL;
    pthread_mutex_lock(&r->mu);
    if (parent[0] && !r->dying)
        q = kei_map_remove(&r->requests, kei_str(parent));
    if (q) {
        q->reply = ke_msg_ref(reply);
        kei_list_remove(&q->link);
        kei_list_add_tail(&r->answered, &q->link);
    }
    pthread_mutex_unlock(&r->mu);
    if (!q)
        return kei_error(reterr, KE_ENOTFOUND, "nobody waits for a reply to message \"%s\"",
                         parent);
    kei_wake(&r->wake);
    return 0;
}

static struct request *take_first(struct ke_router *r, struct kei_link *list)
{
    struct request *q = NULL;
    pthread_mutex_lock(&r->mu);
    if (!kei_list_empty(list)) {
        q = KEI_OF(list->next, struct request, link);
        detach(q);
    }
    pthread_mutex_unlock(&r->mu);
    return q;
}

/* The replies that are there now; those that come meanwhile wake the router again. */
void kei_requests_deliver(struct ke_router *r)
{
    pthread_mutex_lock(&r->mu);
    uint32_t n = 0;
    KEI_LIST_EACH(l, &r->answered) n++;
    pthread_mutex_unlock(&r->mu);
    for (struct request *q; n > 0 && (q = take_first(r, &r->answered)) != NULL; n--)
        end(q, 0);
}

void kei_requests_end(struct ke_router *r)
{
    r->depth++; /* the caller frees the router, not the last of these */
    for (struct request *q; (q = take_first(r, &r->answered)) != NULL;)
        end(q, 0);
    for (struct request *q; (q = take_first(r, &r->open)) != NULL;)
        end(q, KE_ECANCELED);
    r->depth--;
}
