/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The race between a host's addresses. The race owns the sockets until one has won; loop thread.
 */
#include "net/connect.h"

#include <errno.h>
#include <unistd.h>

struct attempt {
    struct kei_connect *race;
    struct kei_fd io;
    bool running;
};

struct kei_connect {
    struct ke_ctx *ctx;
    kei_connect_fn fn;
    void *user;
    struct kei_timer stagger;
    struct kei_defer begin;
    uint32_t dead_ms;
    size_t n, next, running, failed;
    bool weak_error; /* what err holds is only "no route": a later reason replaces it */
    struct ke_error err;
    struct kei_addr addrs[KEI_ADDRS_MAX];
    struct attempt attempts[KEI_ADDRS_MAX];
};

static void start_next(struct kei_connect *c);

static void end_attempt(struct attempt *a, bool close_fd)
{
    int fd = a->io.fd;

    a->running = false;
    a->race->running--;
    kei_fd_remove(&a->io);
    if (close_fd)
        close(fd);
}

/* Gives everything back but the race itself. */
static void stop(struct kei_connect *c)
{
    kei_timer_fini(&c->stagger);
    kei_defer_cancel(&c->begin);
    for (size_t i = 0; i < c->next; i++)
        if (c->attempts[i].running)
            end_attempt(&c->attempts[i], true);
}

static void note_failure(struct kei_connect *c, size_t i, int errnum)
{
    char text[KEI_ADDR_TEXT];
    bool weak = errnum == ENETUNREACH || errnum == EADDRNOTAVAIL || errnum == EAFNOSUPPORT;

    if (c->failed++ > 0 && (weak || !c->weak_error))
        return;
    c->weak_error = weak;
    kei_addr_text(&c->addrs[i], text);
    kei_error_errno(&c->err, errnum, "%s", text);
}

static void all_failed(struct kei_connect *c)
{
    int status = c->err.code;

    stop(c);
    if (status != KE_EACCES && status != KE_ENOTFOUND && status != KE_ETIMEDOUT &&
        status != KE_ENOMEM)
        status = KE_ECONN;
    if (c->n > 1)
        kei_error(&c->err, status, "%s (and %zu more addresses failed)", c->err.text, c->n - 1);
    c->fn(c->user, status, c->err.text, -1, NULL);
    kei_free(kei_ctx_alloc(c->ctx), c);
}

static void won(struct kei_connect *c, struct attempt *a)
{
    size_t i = (size_t)(a - c->attempts);
    int fd = a->io.fd;

    end_attempt(a, false);
    stop(c);
    kei_sock_tune(fd, c->addrs[i].u.any.sa_family, c->dead_ms);
    c->fn(c->user, 0, "", fd, &c->addrs[i]);
    kei_free(kei_ctx_alloc(c->ctx), c);
}

/* The next one at once after a failure; nothing left to hope for: the end. */
static void after_failure(struct kei_connect *c)
{
    if (c->next < c->n)
        start_next(c);
    else if (c->running == 0)
        all_failed(c);
}

static void on_event(struct kei_fd *f, uint32_t events)
{
    struct attempt *a = KEI_OF(f, struct attempt, io);
    struct kei_connect *c = a->race;
    socklen_t n = sizeof(int);
    int errnum = 0;

    (void)events;
    if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &errnum, &n) < 0)
        errnum = errno;
    if (errnum == 0) {
        won(c, a);
        return;
    }
    end_attempt(a, true);
    note_failure(c, (size_t)(a - c->attempts), errnum);
    after_failure(c);
}

/* 0, or what went wrong at once */
static int start_one(struct kei_connect *c, size_t i)
{
    struct attempt *a = &c->attempts[i];
    int fd = kei_sock_open(c->addrs[i].u.any.sa_family);

    if (fd < 0)
        return errno;
    /* an immediate success is told by the loop like any other: the socket is writable */
    int r = connect(fd, &c->addrs[i].u.any, c->addrs[i].len);
    if (r < 0 && errno != EINPROGRESS && errno != EINTR) {
        int errnum = errno;
        close(fd);
        return errnum;
    }
    a->race = c;
    if (kei_fd_add(c->ctx, &a->io, fd, KEI_OUT, on_event) < 0) {
        close(fd);
        return ENOMEM;
    }
    a->running = true;
    c->running++;
    return 0;
}

static void on_stagger(struct kei_timer *t)
{
    start_next(KEI_OF(t, struct kei_connect, stagger));
}

static void start_next(struct kei_connect *c)
{
    while (c->next < c->n) {
        size_t i = c->next++;
        int errnum = start_one(c, i);
        if (errnum == 0)
            break;
        note_failure(c, i, errnum);
    }
    if (c->running == 0) {
        all_failed(c);
        return;
    }
    if (c->next == c->n)
        kei_timer_stop(&c->stagger);
    else if (kei_timer_in(&c->stagger, KEI_CONNECT_STAGGER_MS) < 0)
        return; /* the next one still comes when this one fails */
}

static void on_begin(struct kei_defer *d)
{
    start_next(KEI_OF(d, struct kei_connect, begin));
}

int kei_connect_start(struct kei_connect **ret, struct ke_ctx *ctx, const struct kei_addr *addrs,
                      size_t n, uint32_t dead_ms, kei_connect_fn fn, void *user)
{
    struct kei_connect *c = kei_zalloc(kei_ctx_alloc(ctx), sizeof *c);

    if (!c)
        return kei_fail(ctx, KE_ENOMEM, "no memory to connect");
    c->ctx = ctx;
    c->fn = fn;
    c->user = user;
    c->dead_ms = dead_ms;
    c->n = n < KEI_ADDRS_MAX ? n : KEI_ADDRS_MAX;
    c->err = (struct ke_error)KE_ERROR_INIT;
    memcpy(c->addrs, addrs, c->n * sizeof *addrs);
    kei_addr_interleave(c->addrs, c->n);
    kei_timer_init(ctx, &c->stagger, on_stagger);
    kei_defer(ctx, &c->begin, on_begin);
    *ret = c;
    return 0;
}

void kei_connect_cancel(struct kei_connect *c)
{
    if (!c)
        return;
    stop(c);
    kei_free(kei_ctx_alloc(c->ctx), c);
}
