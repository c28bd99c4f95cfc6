/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls into the loop from any thread. The queues are guarded by the context's mutex; a turn takes
 * over what is there when it begins and runs it without the mutex.
 */
#include <assert.h>

#include "base/ctx_priv.h"

static void queue_init(struct kei_post_queue *q)
{
    q->head = NULL;
    q->tail = &q->head;
}

static void queue_add(struct kei_post_queue *q, struct kei_post *p)
{
    p->next = NULL;
    *q->tail = p;
    q->tail = &p->next;
}

static struct kei_post *queue_pop(struct kei_post_queue *q)
{
    struct kei_post *p = q->head;
    q->head = p->next;
    if (!q->head)
        q->tail = &q->head;
    return p;
}

/* Moves all links of from to the end of to. */
static void links_move(struct kei_link *to, struct kei_link *from)
{
    if (kei_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    kei_list_init(from);
}

void kei_post_init(struct ke_ctx *ctx)
{
    pthread_mutex_init(&ctx->mu, NULL);
    queue_init(&ctx->posts);
    queue_init(&ctx->posts_ready);
    kei_list_init(&ctx->wakes);
    kei_list_init(&ctx->wakes_ready);
}

/* Only one that posts itself without end is still there: it is not run any more. */
static void drop_posts(struct ke_ctx *ctx, struct kei_post_queue *q)
{
    while (q->head) {
        struct kei_post *p = queue_pop(q);
        if (p->spare)
            kei_free(&ctx->alloc, p);
    }
}

void kei_post_fini(struct ke_ctx *ctx)
{
    drop_posts(ctx, &ctx->posts_ready);
    drop_posts(ctx, &ctx->posts);
    while (ctx->spare_posts) {
        struct kei_post *p = ctx->spare_posts;
        ctx->spare_posts = p->next;
        kei_free(&ctx->alloc, p);
    }
    pthread_mutex_destroy(&ctx->mu);
}

static struct kei_post *post_get(struct ke_ctx *ctx)
{
    pthread_mutex_lock(&ctx->mu);
    struct kei_post *p = ctx->spare_posts;
    if (p) {
        ctx->spare_posts = p->next;
        ctx->spare_posts_n--;
    }
    pthread_mutex_unlock(&ctx->mu);
    return p ? p : kei_alloc(&ctx->alloc, sizeof *p);
}

static void post_put(struct ke_ctx *ctx, struct kei_post *p)
{
    pthread_mutex_lock(&ctx->mu);
    bool keep = ctx->spare_posts_n < KEI_POSTS_SPARE;
    if (keep) {
        p->next = ctx->spare_posts;
        ctx->spare_posts = p;
        ctx->spare_posts_n++;
    }
    pthread_mutex_unlock(&ctx->mu);
    if (!keep)
        kei_free(&ctx->alloc, p);
}

static void post_add(struct ke_ctx *ctx, struct kei_post *p)
{
    pthread_mutex_lock(&ctx->mu);
    queue_add(&ctx->posts, p);
    pthread_mutex_unlock(&ctx->mu);
    kei_loop_wake(ctx);
}

int ke_ctx_post(struct ke_ctx *ctx, void (*fn)(void *user), void *user, struct ke_error *reterr)
{
    if (!ctx || !fn)
        return kei_error(reterr, KE_EINVAL, "a function to post needs a context and a function");
    struct kei_post *p = post_get(ctx);
    if (!p)
        return kei_error(reterr, KE_ENOMEM, "out of memory for a posted function");
    *p = (struct kei_post){.fn = fn, .user = user, .spare = true};
    post_add(ctx, p);
    return 0;
}

struct call {
    struct kei_post post;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    void (*fn)(void *user);
    void *user;
    bool done;
};

static void call_run(void *user)
{
    struct call *c = user;
    c->fn(c->user);
    /* Signalled with the mutex held: c is on the waiter's stack and gone once it can run. */
    pthread_mutex_lock(&c->mu);
    c->done = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mu);
}

int kei_ctx_call(struct ke_ctx *ctx, void (*fn)(void *user), void *user)
{
    if (ctx->mode == KEI_MODE_NONE || kei_ctx_on_loop(ctx)) {
        fn(user);
        return 0;
    }
    struct call c = {.fn = fn, .user = user};
    c.post = (struct kei_post){.fn = call_run, .user = &c};
    pthread_mutex_init(&c.mu, NULL);
    pthread_cond_init(&c.cond, NULL);
    post_add(ctx, &c.post);
    pthread_mutex_lock(&c.mu);
    while (!c.done)
        pthread_cond_wait(&c.cond, &c.mu);
    pthread_mutex_unlock(&c.mu);
    pthread_cond_destroy(&c.cond);
    pthread_mutex_destroy(&c.mu);
    return 0;
}

void kei_wake_init(struct ke_ctx *ctx, struct kei_wake *w, kei_wake_fn fn)
{
    *w = (struct kei_wake){.ctx = ctx, .fn = fn};
}

void kei_wake(struct kei_wake *w)
{
    struct ke_ctx *ctx = w->ctx;
    pthread_mutex_lock(&ctx->mu);
    bool fresh = !kei_list_linked(&w->link);
    if (fresh)
        kei_list_add_tail(&ctx->wakes, &w->link);
    pthread_mutex_unlock(&ctx->mu);
    if (fresh)
        kei_loop_wake(ctx);
}

void kei_wake_fini(struct kei_wake *w)
{
    if (!w->ctx)
        return;
    pthread_mutex_lock(&w->ctx->mu);
    kei_list_remove(&w->link);
    pthread_mutex_unlock(&w->ctx->mu);
    w->ctx = NULL;
}

void kei_post_take(struct ke_ctx *ctx)
{
    pthread_mutex_lock(&ctx->mu);
    if (ctx->posts.head) {
        *ctx->posts_ready.tail = ctx->posts.head;
        ctx->posts_ready.tail = ctx->posts.tail;
        queue_init(&ctx->posts);
    }
    links_move(&ctx->wakes_ready, &ctx->wakes);
    pthread_mutex_unlock(&ctx->mu);
}

static void run_posts(struct ke_ctx *ctx)
{
    for (int i = 0; i < KEI_POSTS_TURN && ctx->posts_ready.head; i++) {
        struct kei_post *p = queue_pop(&ctx->posts_ready);
        void (*fn)(void *user) = p->fn;
        void *user = p->user;
        if (p->spare)
            post_put(ctx, p); /* first, so that what fn posts can reuse it */
        fn(user);
    }
}

static void run_wakes(struct ke_ctx *ctx)
{
    for (;;) {
        struct kei_wake *w = NULL;
        pthread_mutex_lock(&ctx->mu);
        if (!kei_list_empty(&ctx->wakes_ready)) {
            w = KEI_OF(ctx->wakes_ready.next, struct kei_wake, link);
            kei_list_remove(&w->link);
        }
        pthread_mutex_unlock(&ctx->mu);
        if (!w)
            return;
        w->fn(w);
    }
}

void kei_post_run(struct ke_ctx *ctx)
{
    run_posts(ctx);
    run_wakes(ctx);
}

bool kei_post_due(struct ke_ctx *ctx)
{
    return ctx->posts_ready.head != NULL;
}
