/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two helper threads of a context, made on first use: one for the disk, one for names. Each takes
 * work first in, first out. A work item belongs to its submitter again when done is called on the
 * loop. The thread touches nothing of the context but its allocator, its log and its own queue.
 */
#include <string.h>

#include "base/ctx_priv.h"

/* Enough for SQLite, getaddrinfo and a host's file table; a locked process pays for all of it. */
#define WORKER_STACK ((size_t)512 * 1024)

static void queue_init(struct kei_work_queue *q)
{
    q->head = NULL;
    q->tail = &q->head;
    q->n = 0;
}

static void queue_add(struct kei_work_queue *q, struct kei_work *w)
{
    w->next = NULL;
    *q->tail = w;
    q->tail = &w->next;
    q->n++;
}

static struct kei_work *queue_pop(struct kei_work_queue *q)
{
    struct kei_work *w = q->head;
    if (!w)
        return NULL;
    q->head = w->next;
    if (!q->head)
        q->tail = &q->head;
    q->n--;
    w->next = NULL;
    return w;
}

static void queue_move(struct kei_work_queue *to, struct kei_work_queue *from)
{
    if (!from->head)
        return;
    *to->tail = from->head;
    to->tail = from->tail;
    to->n += from->n;
    queue_init(from);
}

void kei_worker_init(struct kei_worker *w, struct ke_ctx *ctx, const char *suffix)
{
    w->ctx = ctx;
    w->suffix = suffix;
    queue_init(&w->in);
    queue_init(&w->out);
    queue_init(&w->ready);
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->wake, NULL);
    pthread_cond_init(&w->idle, NULL);
}

static void *worker_main(void *arg)
{
    struct kei_worker *w = arg;
    pthread_mutex_lock(&w->mu);
    for (;;) {
        struct kei_work *work = w->quit && w->skip_on_quit ? NULL : queue_pop(&w->in);
        if (!work) {
            if (w->quit)
                break;
            pthread_cond_wait(&w->wake, &w->mu);
            continue;
        }
        w->busy = true;
        pthread_mutex_unlock(&w->mu);
        work->run(work);
        pthread_mutex_lock(&w->mu);
        w->busy = false;
        queue_add(&w->out, work);
        if (!w->in.head)
            pthread_cond_broadcast(&w->idle);
        kei_loop_wake(w->ctx);
    }
    pthread_mutex_unlock(&w->mu);
    return NULL;
}

/* mu is held. */
static int worker_start(struct kei_worker *w)
{
    char name[KEI_THREAD_NAME];
    size_t n = strnlen(w->ctx->thread_name, sizeof name - 1 - strlen(w->suffix));
    memcpy(name, w->ctx->thread_name, n);
    memcpy(name + n, w->suffix, strlen(w->suffix) + 1);
    int e = kei_thread_start(&w->thread, name, WORKER_STACK, worker_main, w);
    if (!e)
        w->started = true;
    return e;
}

static int worker_submit(struct kei_worker *w, struct kei_work *work, kei_work_fn run,
                         kei_work_fn done)
{
    int e = 0;
    work->run = run;
    work->done = done;
    pthread_mutex_lock(&w->mu);
    bool closed = w->closed;
    if (!closed && !w->started)
        e = worker_start(w);
    if (!closed && !e) {
        atomic_fetch_add(&w->pending, 1);
        queue_add(&w->in, work);
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->mu);
    if (closed)
        return kei_fail(w->ctx, KE_ESTATE, "the context is being freed and takes no more work");
    if (e)
        return kei_error_errno(kei_err(w->ctx), e, "could not start the thread %s%s",
                               w->ctx->thread_name, w->suffix);
    return 0;
}

void kei_worker_take(struct kei_worker *w)
{
    pthread_mutex_lock(&w->mu);
    queue_move(&w->ready, &w->out);
    pthread_mutex_unlock(&w->mu);
}

static bool tell_one(struct kei_worker *w)
{
    struct kei_work *work = queue_pop(&w->ready);
    if (!work)
        return false;
    atomic_fetch_sub(&w->pending, 1);
    work->done(work); /* may free it */
    return true;
}

/* What a done function submits and what gets ready meanwhile waits for the next turn. */
void kei_worker_tell(struct kei_worker *w)
{
    for (size_t n = w->ready.n; n > 0 && tell_one(w); n--)
        ;
}

static void worker_drain(struct kei_worker *w)
{
    pthread_mutex_lock(&w->mu);
    while (w->started && (w->in.head || w->busy))
        pthread_cond_wait(&w->idle, &w->mu);
    queue_move(&w->ready, &w->out);
    pthread_mutex_unlock(&w->mu);
    kei_worker_tell(w);
}

/* The host's side must have let go of everything but the memory that done functions give back. */
void kei_worker_stop(struct kei_worker *w)
{
    pthread_mutex_lock(&w->mu);
    w->quit = w->closed = true;
    bool started = w->started;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mu);
    if (started)
        pthread_join(w->thread, NULL);
    queue_move(&w->ready, &w->out);
    queue_move(&w->ready, &w->in); /* only where skip_on_quit left some */
    while (tell_one(w))
        ;
}

void kei_worker_fini(struct kei_worker *w)
{
    pthread_cond_destroy(&w->idle);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mu);
}

int kei_work_submit(struct ke_ctx *ctx, struct kei_work *w, kei_work_fn run, kei_work_fn done)
{
    return worker_submit(&ctx->disk, w, run, done);
}

int kei_resolver_submit(struct ke_ctx *ctx, struct kei_work *w, kei_work_fn run, kei_work_fn done)
{
    return worker_submit(&ctx->resolver, w, run, done);
}

void kei_work_drain(struct ke_ctx *ctx)
{
    worker_drain(&ctx->disk);
}

size_t kei_work_pending(const struct ke_ctx *ctx)
{
    return atomic_load(&ctx->disk.pending) + atomic_load(&ctx->resolver.pending);
}
