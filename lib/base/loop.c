/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of a context: one epoll fd that holds an eventfd (calls from other threads), a timerfd
 * (the first timer) and the users' fds, so that the epoll fd alone tells a host when a turn is due.
 * A turn does a bounded amount of work and never waits. Loop's thread, but for waking and stopping.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/ctx_priv.h"

#define DEFER_ROUNDS 16 /* how deep deferred calls may defer others within one turn */

static int watch_own(struct ke_ctx *ctx, int fd, void *tag, struct ke_error *err)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
    if (epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        return kei_error_errno(err, errno, "could not set up the context's loop");
    return 0;
}

/* Suspended time counts where the kernel can count it. */
static int open_timer_fd(struct ke_ctx *ctx)
{
    int fd = timerfd_create(ctx->clock_id, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0 && errno == EINVAL && ctx->clock_id != CLOCK_MONOTONIC) {
        ctx->clock_id = CLOCK_MONOTONIC;
        fd = timerfd_create(ctx->clock_id, TFD_NONBLOCK | TFD_CLOEXEC);
    }
    return fd;
}

int kei_loop_init(struct ke_ctx *ctx, struct ke_error *err)
{
    kei_list_init(&ctx->fds);
    kei_list_init(&ctx->defers);
    kei_list_init(&ctx->turns);
    ctx->timer_fd_due = INT64_MAX;
    ctx->timer_fd = -1;
    ctx->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ctx->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!ctx->host_clock)
        ctx->timer_fd = open_timer_fd(ctx);
    if (ctx->event_fd < 0 || ctx->epoll_fd < 0 || (ctx->timer_fd < 0 && !ctx->host_clock))
        return kei_error_errno(err, errno,
                               "could not open the file descriptors of the context's loop");
    int r = watch_own(ctx, ctx->event_fd, &ctx->event_fd, err);
    if (r == 0 && ctx->timer_fd >= 0)
        r = watch_own(ctx, ctx->timer_fd, &ctx->timer_fd, err);
    return r;
}

void kei_loop_fini(struct ke_ctx *ctx)
{
    int fds[] = {ctx->timer_fd, ctx->epoll_fd, ctx->event_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

/* ---- waking and stopping ---- */

/*
 * Whoever sets woken writes. A turn reads the eventfd, then clears woken, then takes the queues: a
 * caller that found woken set has put its work where that turn takes it.
 */
void kei_loop_wake(struct ke_ctx *ctx)
{
    if (atomic_exchange(&ctx->woken, true))
        return;
    int e = errno; /* a signal handler may be our caller */
    uint64_t one = 1;
    ssize_t n;
    do {
        n = write(ctx->event_fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR); /* EAGAIN: full, so readable */
    errno = e;
}

void ke_ctx_stop(struct ke_ctx *ctx)
{
    if (!ctx)
        return;
    atomic_store(&ctx->stop, true);
    kei_loop_wake(ctx);
}

/* ---- fds ---- */

static uint32_t to_epoll(uint32_t events)
{
    return (events & KEI_IN ? (uint32_t)EPOLLIN : 0) | (events & KEI_OUT ? (uint32_t)EPOLLOUT : 0);
}

int kei_fd_add(struct ke_ctx *ctx, struct kei_fd *f, int fd, uint32_t events, kei_fd_fn fn)
{
    assert(ctx->mode == KEI_MODE_NONE || kei_ctx_on_loop(ctx));
    struct epoll_event ev = {.events = to_epoll(events), .data.ptr = f};
    if (epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        return kei_error_errno(kei_err(ctx), errno, "could not watch file descriptor %d", fd);
    f->ctx = ctx;
    f->fn = fn;
    f->fd = fd;
    f->events = events;
    kei_list_add_tail(&ctx->fds, &f->link);
    return 0;
}

int kei_fd_set(struct kei_fd *f, uint32_t events)
{
    if (f->events == events)
        return 0;
    struct epoll_event ev = {.events = to_epoll(events), .data.ptr = f};
    if (epoll_ctl(f->ctx->epoll_fd, EPOLL_CTL_MOD, f->fd, &ev) < 0)
        return kei_error_errno(kei_err(f->ctx), errno, "could not watch file descriptor %d", f->fd);
    f->events = events;
    return 0;
}

void kei_fd_remove(struct kei_fd *f)
{
    if (!kei_list_linked(&f->link))
        return;
    struct ke_ctx *ctx = f->ctx;
    kei_list_remove(&f->link);
    epoll_ctl(ctx->epoll_fd, EPOLL_CTL_DEL, f->fd, NULL);
    /* Events already fetched must not reach it; its memory may be gone when they would. */
    for (int i = ctx->batch_pos; i < ctx->batch_n; i++) {
        if (ctx->batch[i].data.ptr == f)
            ctx->batch[i].data.ptr = NULL;
    }
}

/* Own fds are handled at once: they say nothing but that the queues and timers are worth a look. */
static void fetch(struct ke_ctx *ctx, int timeout)
{
    if (ctx->batch_pos < ctx->batch_n)
        return; /* ke_ctx_wait fetched them */
    int n = epoll_wait(ctx->epoll_fd, ctx->batch, KEI_BATCH, timeout);
    ctx->batch_pos = 0;
    ctx->batch_n = n > 0 ? n : 0;
}

static void take_own_events(struct ke_ctx *ctx)
{
    uint64_t count;
    for (int i = ctx->batch_pos; i < ctx->batch_n; i++) {
        int *own = ctx->batch[i].data.ptr;
        if (own != &ctx->event_fd && own != &ctx->timer_fd)
            continue;
        ctx->batch[i].data.ptr = NULL;
        if (read(*own, &count, sizeof count) > 0 && own == &ctx->timer_fd)
            ctx->timer_fd_due = INT64_MAX;
    }
}

static void run_fds(struct ke_ctx *ctx)
{
    while (ctx->batch_pos < ctx->batch_n) {
        struct epoll_event *ev = &ctx->batch[ctx->batch_pos++];
        struct kei_fd *f = ev->data.ptr;
        if (!f)
            continue;
        uint32_t got = (ev->events & EPOLLIN ? KEI_IN : 0) | (ev->events & EPOLLOUT ? KEI_OUT : 0);
        got &= f->events; /* an earlier callback may have lost interest */
        if (ev->events & (EPOLLERR | EPOLLHUP))
            got |= KEI_ERR;
        if (got)
            f->fn(f, got);
    }
}

/* ---- deferred calls and turn hooks ---- */

void kei_defer(struct ke_ctx *ctx, struct kei_defer *d, kei_defer_fn fn)
{
    assert(ctx->mode == KEI_MODE_NONE || kei_ctx_on_loop(ctx));
    if (kei_list_linked(&d->link))
        return;
    d->fn = fn;
    kei_list_add_tail(&ctx->defers, &d->link);
    if (!ctx->in_turn)
        kei_loop_wake(ctx);
}

void kei_defer_cancel(struct kei_defer *d)
{
    kei_list_remove(&d->link);
}

/* Detaches all of list; the links stay removable. */
static void list_take(struct kei_link *to, struct kei_link *list)
{
    kei_list_init(to);
    if (kei_list_empty(list))
        return;
    *to = *list;
    to->next->prev = to;
    to->prev->next = to;
    kei_list_init(list);
}

static void run_defers(struct ke_ctx *ctx)
{
    for (int round = 0; round < DEFER_ROUNDS && !kei_list_empty(&ctx->defers); round++) {
        struct kei_link now;
        list_take(&now, &ctx->defers);
        while (!kei_list_empty(&now)) {
            struct kei_defer *d = KEI_OF(now.next, struct kei_defer, link);
            kei_list_remove(&d->link);
            d->fn(d);
        }
    }
}

void kei_turn_add(struct ke_ctx *ctx, struct kei_turn *t, kei_turn_fn fn)
{
    if (kei_list_linked(&t->link))
        return;
    t->fn = fn;
    kei_list_add_tail(&ctx->turns, &t->link);
}

void kei_turn_remove(struct kei_turn *t)
{
    kei_list_remove(&t->link);
}

static void run_turn_hooks(struct ke_ctx *ctx)
{
    struct kei_link now;
    list_take(&now, &ctx->turns);
    while (!kei_list_empty(&now)) {
        struct kei_turn *t = KEI_OF(now.next, struct kei_turn, link);
        kei_list_remove(&t->link);
        kei_list_add_tail(&ctx->turns, &t->link);
        t->fn(t);
    }
}

/* ---- timers meet the kernel ---- */

/*
 * Set only when the first timer is earlier than what the timerfd waits for. When it moved to later,
 * the old time costs one idle turn, which is cheaper than a system call for each timer pushed back.
 */
static void set_timer_fd(struct ke_ctx *ctx)
{
    int64_t due;
    if (ctx->timer_fd < 0 || !kei_timer_next(ctx, &due) || due >= ctx->timer_fd_due)
        return;
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(due / 1000), .tv_nsec = (long)(due % 1000) * 1000000}};
    if (timerfd_settime(ctx->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        ctx->timer_fd_due = due;
}

void kei_loop_signal_timers(struct ke_ctx *ctx)
{
    if (!ctx->in_turn)
        set_timer_fd(ctx);
}

/* ---- turns ---- */

bool kei_loop_turn(struct ke_ctx *ctx)
{
    ctx->in_turn = true;
    atomic_fetch_add(&ctx->turn_seq, 1);
    ctx->turn_timer_end = ctx->timer_seq;
    fetch(ctx, 0);
    take_own_events(ctx);
    atomic_store(&ctx->woken, false);
    kei_post_take(ctx);
    kei_worker_take(&ctx->disk);
    kei_worker_take(&ctx->resolver);

    run_fds(ctx);
    kei_timer_run(ctx);
    kei_post_run(ctx);
    kei_worker_tell(&ctx->disk);
    kei_worker_tell(&ctx->resolver);
    run_defers(ctx);
    run_turn_hooks(ctx);

    set_timer_fd(ctx);
    ctx->in_turn = false;
    bool more = kei_post_due(ctx) || !kei_list_empty(&ctx->defers);
    if (more)
        kei_loop_wake(ctx);
    return more;
}

uint64_t kei_ctx_turn(const struct ke_ctx *ctx)
{
    return atomic_load(&ctx->turn_seq);
}

/* The caller drives the loop from now on, if it may. */
static int take_loop(struct ke_ctx *ctx)
{
    if (!ctx)
        return KE_EINVAL;
    if (ctx->mode == KEI_MODE_NONE) {
        ctx->owner = kei_thread_self();
        ctx->mode = KEI_MODE_HOST;
    }
    if (!kei_ctx_on_loop(ctx))
        return ctx->mode == KEI_MODE_OWN ? KE_ESTATE : KE_ETHREAD;
    if (ctx->in_turn)
        return kei_fail(ctx, KE_ESTATE, "the loop was driven from inside one of its callbacks");
    return 0;
}

int ke_ctx_fd(struct ke_ctx *ctx, int *ret_fd)
{
    if (!ctx || !ret_fd)
        return KE_EINVAL;
    if (ctx->mode == KEI_MODE_OWN)
        return KE_ESTATE;           /* no text: that thread may be writing one */
    ctx->owner = kei_thread_self(); /* another thread may take over between turns */
    ctx->mode = KEI_MODE_HOST;
    *ret_fd = ctx->epoll_fd;
    return 0;
}

/* Milliseconds to the first timer, no more than limit (-1: none). */
static int64_t until_timer(struct ke_ctx *ctx, int64_t limit)
{
    int64_t due;
    if (!kei_timer_next(ctx, &due))
        return limit;
    int64_t left = due - ke_ctx_mono_ms(ctx);
    if (left < 0)
        left = 0;
    return limit < 0 || left < limit ? left : limit;
}

static bool work_left(struct ke_ctx *ctx)
{
    return atomic_load(&ctx->woken) || ctx->batch_pos < ctx->batch_n || kei_post_due(ctx) ||
           !kei_list_empty(&ctx->defers);
}

int ke_ctx_prepare(struct ke_ctx *ctx, int64_t *ret_timeout_ms)
{
    int r = take_loop(ctx);
    if (r < 0)
        return r;
    if (!ret_timeout_ms)
        return kei_fail(ctx, KE_EINVAL, "no place was given for the timeout");
    *ret_timeout_ms = work_left(ctx) ? 0 : until_timer(ctx, -1);
    return 0;
}

static void wait_some(struct ke_ctx *ctx, int64_t timeout_ms)
{
    /* The timerfd knows the timers, and counts suspended time as epoll_wait does not. */
    int64_t t = work_left(ctx) ? 0 : timeout_ms;
    if (ctx->timer_fd < 0)
        t = until_timer(ctx, t);
    fetch(ctx, t < 0 ? -1 : t > INT32_MAX ? INT32_MAX : (int)t);
}

int ke_ctx_wait(struct ke_ctx *ctx, int64_t timeout_ms)
{
    int r = take_loop(ctx);
    if (r == 0)
        wait_some(ctx, timeout_ms);
    return r;
}

int ke_ctx_dispatch(struct ke_ctx *ctx)
{
    int r = take_loop(ctx);
    if (r == 0)
        kei_loop_turn(ctx);
    return r;
}

int ke_ctx_run(struct ke_ctx *ctx)
{
    bool was_none = ctx && ctx->mode == KEI_MODE_NONE;
    int r = take_loop(ctx);
    if (r < 0)
        return r;
    while (!atomic_exchange(&ctx->stop, false)) {
        wait_some(ctx, -1);
        kei_loop_turn(ctx);
    }
    if (was_none)
        ctx->mode = KEI_MODE_NONE; /* nothing runs now: others may free what is left */
    return 0;
}

/* ---- a thread of the context's own ---- */

static void *own_main(void *arg)
{
    struct ke_ctx *ctx = arg;
    pthread_mutex_lock(&ctx->mu); /* until the starter has noted who we are */
    pthread_mutex_unlock(&ctx->mu);
    while (!atomic_load(&ctx->quit)) {
        wait_some(ctx, -1);
        kei_loop_turn(ctx);
    }
    return NULL;
}

int kei_ctx_thread_start(struct ke_ctx *ctx)
{
    if (ctx->mode != KEI_MODE_NONE)
        return 0;
    pthread_mutex_lock(&ctx->mu);
    int e = kei_thread_start(&ctx->thread, ctx->thread_name, 0, own_main, ctx);
    if (!e) {
        ctx->owner = (uintptr_t)ctx->thread;
        ctx->mode = KEI_MODE_OWN;
    }
    pthread_mutex_unlock(&ctx->mu);
    if (e)
        return kei_error_errno(kei_err(ctx), e, "could not start the thread %s", ctx->thread_name);
    return 0;
}

int kei_ctx_in_turn(const struct ke_ctx *ctx)
{
    return ctx->in_turn;
}

int kei_ctx_on_loop(const struct ke_ctx *ctx)
{
    return ctx->owner == kei_thread_self();
}
