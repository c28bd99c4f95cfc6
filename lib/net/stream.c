/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream that is open: reading, the write queue, closing. The stream owns its socket and TLS
 * engine; a stream freed inside its own callback lives as an empty shell until that returns. Loop.
 */
#include "net/stream_priv.h"

#include <errno.h>
#include <unistd.h>

#define CHUNK ((size_t)16384) /* read at once: a whole TLS record, so none stays in the engine */
#define ROUNDS 4              /* chunks per event; others get their turn then */
#define LAST_ROUNDS 8         /* chunks read from a connection that cannot be written any more */
#define WRITE_ROUNDS 64       /* TLS records per turn */
#define RECEIVE_CAP ((size_t)64 * 1024)
#define SEND_CAP ((size_t)1024 * 1024)
#define FINISH_MS 30000 /* to get the rest of the queue out */
#define LINGER_MS 2000  /* to hear the peer's end */

/* what a raw read or write may also return */
enum { AGAIN_IN = 1, AGAIN_OUT = 2 };

static void on_io(struct kei_fd *f, uint32_t events);
static void on_kick(struct kei_defer *d);
static void on_timer(struct kei_timer *t);
static void flush(struct kei_stream *s);

/* ---- life ---- */

struct kei_stream *kei_stream_alloc(struct ke_ctx *ctx, const struct kei_stream_ops *ops,
                                    void *user, uint16_t small_cap)
{
    struct kei_stream *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s + small_cap);

    if (!s)
        return NULL;
    s->ctx = ctx;
    s->ops = *ops;
    s->user = user;
    s->fd = -1;
    s->small_cap = small_cap;
    s->receive_cap = RECEIVE_CAP;
    s->send_cap = SEND_CAP;
    kei_buf_init(&s->rx, kei_ctx_alloc(ctx));
    kei_timer_init(ctx, &s->timer, on_timer);
    return s;
}

void kei_stream_enter(struct kei_stream *s)
{
    s->depth++;
}

void kei_stream_leave(struct kei_stream *s)
{
    if (--s->depth > 0 || !s->freed)
        return;
    ke_buf_free(&s->rx); /* only now: a callback may have been reading from it */
    kei_free(kei_ctx_alloc(s->ctx), s);
}

static void tx_free(struct kei_stream *s)
{
    kei_free(kei_ctx_alloc(s->ctx), s->tx.p);
    memset(&s->tx, 0, sizeof s->tx);
}

/* No event reaches the stream any more. */
static void unhook(struct kei_stream *s)
{
    kei_stream_open_free(s);
    kei_fd_remove(&s->io);
    kei_timer_stop(&s->timer);
    kei_defer_cancel(&s->kick);
    kei_turn_remove(&s->flush);
    tx_free(s);
}

static void close_transport(struct kei_stream *s)
{
    kei_tls_free(s->tls);
    s->tls = NULL;
    kei_tls_config_unref(s->tls_config);
    s->tls_config = NULL;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

void kei_stream_free(struct kei_stream *s)
{
    if (!s || s->freed)
        return;
    /* the peer may know that nothing is missing, unless something is */
    if (s->state == KEI_STREAM_OPEN && s->tls && kei_stream_queued(s) == 0)
        kei_tls_shutdown(s->tls);
    unhook(s);
    kei_timer_fini(&s->timer);
    close_transport(s);
    kei_listener_stream_gone(s);
    kei_free(kei_ctx_alloc(s->ctx), s->peer_name);
    kei_free(kei_ctx_alloc(s->ctx), s->local_ip);
    s->peer_name = s->local_ip = NULL;
    s->state = KEI_STREAM_CLOSED;
    s->freed = true;
    s->depth++;
    kei_stream_leave(s);
}

void kei_stream_fail(struct kei_stream *s, int status, const char *text)
{
    if (s->state == KEI_STREAM_CLOSED)
        return;
    unhook(s);
    s->state = KEI_STREAM_CLOSED;
    /* the socket stays until the call is over: it may ask for names and the certificate */
    if (s->ops.closed)
        s->ops.closed(s->user, status, text);
    if (!s->freed)
        close_transport(s);
}

static void fail_err(struct kei_stream *s, const struct ke_error *err)
{
    kei_stream_fail(s, err->code, err->text);
}

bool kei_stream_watch(struct kei_stream *s, uint32_t events)
{
    int r;

    if (!kei_list_linked(&s->io.link))
        r = kei_fd_add(s->ctx, &s->io, s->fd, events, on_io);
    else
        r = kei_fd_set(&s->io, events);
    if (r == 0)
        return true;
    struct ke_error err = *kei_err(s->ctx);
    kei_stream_fail(s, r, err.text);
    return false;
}

/* What an open stream waits for. */
static bool watch_open(struct kei_stream *s)
{
    uint32_t events = 0;

    if (s->parked)
        return true;
    if ((!s->paused && !s->finishing) || s->write_wants_in)
        events |= KEI_IN;
    if (s->blocked || s->read_wants_out)
        events |= KEI_OUT;
    return kei_stream_watch(s, events);
}

void kei_stream_kick(struct kei_stream *s)
{
    kei_defer(s->ctx, &s->kick, on_kick);
}

void kei_stream_again(struct kei_stream *s)
{
    s->again = true;
    if (s->state == KEI_STREAM_OPEN)
        kei_stream_kick(s);
}

void kei_stream_set_ops(struct kei_stream *s, const struct kei_stream_ops *ops, void *user)
{
    s->ops = *ops;
    s->user = user;
    s->ops_fresh = true;
    kei_stream_again(s);
}

/* ---- bytes from and to the socket ---- */

static int socket_gone(struct kei_stream *s, int errnum, struct ke_error *err)
{
    switch (errnum) {
    case ECONNRESET:
        return kei_error(err, KE_ECONN, "connection was reset by the peer");
    case EPIPE:
        return kei_error(err, KE_ECLOSED, "connection was closed by the peer");
    case ETIMEDOUT:
        return kei_error(err, KE_ETIMEDOUT, "connection is dead: the peer acknowledged nothing%s",
                         s->dead_ms ? " within the time allowed" : "");
    default:
        return kei_error_errno(err, errnum, "connection failed");
    }
}

static int tls_wants(int r)
{
    return r == KEI_TLS_WANT_READ ? AGAIN_IN : r == KEI_TLS_WANT_WRITE ? AGAIN_OUT : r;
}

static int raw_read(struct kei_stream *s, char *p, size_t n, size_t *ret_n, struct ke_error *err)
{
    ssize_t got;

    if (s->tls)
        return tls_wants(kei_tls_read(s->tls, p, n, ret_n, err));
    do
        got = recv(s->fd, p, n, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        *ret_n = (size_t)got;
        return 0;
    }
    if (got == 0)
        return kei_error(err, KE_ECLOSED, "connection was closed by the peer");
    return errno == EAGAIN ? AGAIN_IN : socket_gone(s, errno, err);
}

static int raw_write(struct kei_stream *s, const char *p, size_t n, size_t *ret_n,
                     struct ke_error *err)
{
    ssize_t sent;

    if (s->tls)
        return tls_wants(kei_tls_write(s->tls, p, n < CHUNK ? n : CHUNK, ret_n, err));
    do
        sent = send(s->fd, p, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        *ret_n = (size_t)sent;
        return 0;
    }
    return errno == EAGAIN ? AGAIN_OUT : socket_gone(s, errno, err);
}

/* ---- reading ---- */

static bool may_read(const struct kei_stream *s)
{
    return !s->freed && s->state == KEI_STREAM_OPEN && !s->paused && !s->finishing;
}

/* What the consumer left of n bytes at p is kept; p is rx's own memory, or a chunk on the stack. */
static void keep_rest(struct kei_stream *s, const char *p, size_t n, size_t consumed)
{
    struct ke_error err = KE_ERROR_INIT;

    consumed = consumed < n ? consumed : n;
    if (s->rx.n)
        kei_buf_drop(&s->rx, consumed);
    else if (consumed < n)
        kei_buf_add(&s->rx, p + consumed, n - consumed);
    if (!kei_buf_ok(&s->rx)) {
        kei_error(&err, KE_ENOMEM, "no memory for what the peer sent");
        fail_err(s, &err);
    } else if (s->rx.n > s->receive_cap) {
        kei_error(&err, KE_ELIMIT, "peer sent more than the limit of %zu unread bytes",
                  s->receive_cap);
        fail_err(s, &err);
    } else if (s->rx.n == 0) {
        ke_buf_free(&s->rx); /* idle streams hold no buffers */
        s->rx.alloc = kei_ctx_alloc(s->ctx);
    }
}

/* Hands bytes to the consumer. */
static void present(struct kei_stream *s, const char *p, size_t n)
{
    s->ops_fresh = false;
    size_t consumed = s->ops.data ? s->ops.data(s->user, p, n) : 0;

    if (!s->freed && s->state != KEI_STREAM_CLOSED)
        keep_rest(s, p, n, consumed);
}

/* One chunk. false: no more for now. */
static bool read_chunk(struct kei_stream *s)
{
    char stack[CHUNK];
    struct ke_error err = KE_ERROR_INIT;
    size_t n = 0;
    bool behind = s->rx.n > 0; /* goes behind what is left */
    char *to = behind ? kei_buf_room(&s->rx, CHUNK) : stack;

    if (!to) {
        kei_stream_fail(s, KE_ENOMEM, "no memory for what the peer sent");
        return false;
    }
    s->read_wants_out = false;
    int r = raw_read(s, to, CHUNK, &n, &err);
    if (r == AGAIN_IN)
        return false;
    if (r == AGAIN_OUT) {
        s->read_wants_out = true;
        return false;
    }
    if (r < 0) {
        fail_err(s, &err);
        return false;
    }
    if (behind) {
        s->rx.n += n;
        s->rx.p[s->rx.n] = '\0';
        present(s, s->rx.p, s->rx.n);
    } else {
        present(s, stack, n);
    }
    if (s->ops_fresh && s->rx.n)
        return false; /* the new consumer gets the rest before anything else, also an end */
    return s->tls || n == CHUNK;
}

static void read_some(struct kei_stream *s)
{
    int round = 0;

    while (may_read(s) && round < ROUNDS && read_chunk(s))
        round++;
    if (round == ROUNDS && may_read(s))
        kei_stream_again(s); /* TLS may hold bytes that the socket will not report */
}

void kei_stream_pause(struct kei_stream *s, bool paused)
{
    if (s->paused == paused)
        return;
    s->paused = paused;
    if (!paused)
        s->parked = false;
    kei_stream_again(s);
}

/* ---- writing ---- */

size_t kei_stream_queued(const struct kei_stream *s)
{
    return s->tx.n - s->tx.off;
}

static int tx_grow(struct kei_stream *s, size_t n)
{
    size_t queued = kei_stream_queued(s);

    if (!s->tx.p && s->tx.n + n <= s->small_cap)
        return 0;
    if (s->tx.p && s->tx.off) {
        memmove(s->tx.p, s->tx.p + s->tx.off, queued);
        s->tx.off = 0;
        s->tx.n = queued;
    }
    if (s->tx.p && s->tx.cap - s->tx.n >= n)
        return 0;
    size_t cap = s->tx.p ? s->tx.cap + s->tx.cap / 2 : KEI_STREAM_SMALL;
    if (cap < queued + n)
        cap = queued + n;
    char *p = kei_realloc(kei_ctx_alloc(s->ctx), s->tx.p, cap);
    if (!p)
        return kei_fail(s->ctx, KE_ENOMEM, "no memory to queue %zu bytes", n);
    if (!s->tx.p) {
        memcpy(p, s->small + s->tx.off, queued);
        s->tx.off = 0;
        s->tx.n = queued;
    }
    s->tx.p = p;
    s->tx.cap = cap;
    return 0;
}

int kei_stream_reserve(struct kei_stream *s, size_t n)
{
    if (s->state == KEI_STREAM_CLOSED)
        return kei_fail(s->ctx, KE_ECLOSED, "connection is closed");
    if (s->finishing || s->state == KEI_STREAM_LINGER)
        return kei_fail(s->ctx, KE_ESTATE, "connection is being closed");
    if (n > s->send_cap || kei_stream_queued(s) > s->send_cap - n)
        return kei_fail(s->ctx, KE_ELIMIT,
                        "send queue of %zu bytes had no room for %zu more under its limit of %zu",
                        kei_stream_queued(s), n, s->send_cap);
    return tx_grow(s, n);
}

static void on_flush(struct kei_turn *t)
{
    struct kei_stream *s = KEI_OF(t, struct kei_stream, flush);

    kei_turn_remove(t);
    kei_stream_enter(s);
    if (s->state == KEI_STREAM_OPEN && !s->blocked)
        flush(s);
    kei_stream_leave(s);
}

static void schedule_flush(struct kei_stream *s)
{
    if (s->state != KEI_STREAM_OPEN || s->blocked || kei_list_linked(&s->flush.link))
        return;
    kei_turn_add(s->ctx, &s->flush, on_flush);
    kei_stream_kick(s); /* outside of a turn: so that there will be one */
}

int kei_stream_write(struct kei_stream *s, const void *p, size_t n)
{
    int r = kei_stream_reserve(s, n);

    if (r < 0 || n == 0)
        return r;
    memcpy((s->tx.p ? s->tx.p : s->small) + s->tx.n, p, n);
    s->tx.n += n;
    schedule_flush(s);
    return 0;
}

/* All is sent and nothing may follow: half-close, then hear the peer out, so that what it still
 * sends does not reset the connection under our last bytes. */
static void begin_linger(struct kei_stream *s)
{
    if (s->tls)
        kei_tls_shutdown(s->tls);
    shutdown(s->fd, SHUT_WR);
    s->state = KEI_STREAM_LINGER;
    ke_buf_free(&s->rx);
    kei_timer_in(&s->timer, LINGER_MS);
    kei_stream_watch(s, KEI_IN);
}

static void linger(struct kei_stream *s)
{
    char waste[CHUNK];

    for (int i = 0; i < ROUNDS; i++) {
        ssize_t got = recv(s->fd, waste, sizeof waste, 0);
        if (got > 0 || (got < 0 && errno == EINTR))
            continue;
        if (got == 0 || errno != EAGAIN)
            kei_stream_fail(s, KE_ECLOSED, "connection was closed");
        return;
    }
}

static void sent_all(struct kei_stream *s)
{
    tx_free(s);
    if (s->finishing) {
        begin_linger(s);
        return;
    }
    if (s->told_blocked) {
        s->told_blocked = false;
        if (s->ops.drained)
            s->ops.drained(s->user);
    }
}

static void flush(struct kei_stream *s)
{
    struct ke_error err = KE_ERROR_INIT;
    int r = 0;

    s->blocked = s->write_wants_in = false;
    for (int i = 0; i < WRITE_ROUNDS && r == 0 && kei_stream_queued(s) > 0; i++) {
        size_t n = 0;
        const char *from = s->tx.p ? s->tx.p : s->small;
        r = raw_write(s, from + s->tx.off, kei_stream_queued(s), &n, &err);
        s->tx.off += n;
    }
    if (r < 0) {
        /* what the peer said before it went is still worth hearing: often it is why */
        for (int i = 0; i < LAST_ROUNDS && may_read(s); i++)
            read_chunk(s);
        if (!s->freed)
            fail_err(s, &err);
        return;
    }
    if (kei_stream_queued(s) == 0) {
        sent_all(s);
    } else {
        s->blocked = r != AGAIN_IN;
        s->write_wants_in = r == AGAIN_IN;
        s->told_blocked = true;
    }
    if (!s->freed && s->state == KEI_STREAM_OPEN)
        watch_open(s);
}

void kei_stream_finish(struct kei_stream *s)
{
    if (s->finishing || s->state >= KEI_STREAM_LINGER)
        return;
    s->finishing = true;
    if (s->state == KEI_STREAM_OPEN) {
        kei_timer_in(&s->timer, FINISH_MS);
        kei_stream_kick(s);
    }
}

/* ---- events ---- */

static void on_io(struct kei_fd *f, uint32_t events)
{
    struct kei_stream *s = KEI_OF(f, struct kei_stream, io);

    kei_stream_enter(s);
    if (s->state < KEI_STREAM_OPEN) {
        kei_stream_open_step(s);
    } else if (s->state == KEI_STREAM_LINGER) {
        linger(s);
    } else if (s->state == KEI_STREAM_OPEN) {
        if (events & KEI_OUT || s->write_wants_in)
            flush(s);
        if (events & (KEI_IN | KEI_ERR) || s->read_wants_out)
            read_some(s);
        if (!s->freed && s->state == KEI_STREAM_OPEN && !may_read(s) && events & KEI_ERR) {
            /* reported until it is read, which must wait */
            s->parked = true;
            kei_fd_remove(&s->io);
        }
        if (!s->freed && s->state == KEI_STREAM_OPEN)
            watch_open(s);
    }
    kei_stream_leave(s);
}

/* What had to wait for the end of the call that caused it. */
static void on_kick(struct kei_defer *d)
{
    struct kei_stream *s = KEI_OF(d, struct kei_stream, kick);

    kei_stream_enter(s);
    if (s->state == KEI_STREAM_START) {
        kei_stream_open_step(s);
    } else if (s->state == KEI_STREAM_OPEN) {
        if (s->finishing && kei_stream_queued(s) == 0) {
            begin_linger(s);
        } else if (s->again && may_read(s)) {
            s->again = false;
            if (s->rx.n)
                present(s, s->rx.p, s->rx.n);
            if (s->tls)
                read_some(s);
        }
        if (!s->freed && s->state == KEI_STREAM_OPEN)
            watch_open(s);
    }
    kei_stream_leave(s);
}

static void on_timer(struct kei_timer *t)
{
    struct kei_stream *s = KEI_OF(t, struct kei_stream, timer);

    kei_stream_enter(s);
    if (s->state < KEI_STREAM_OPEN)
        kei_stream_open_timeout(s);
    else if (s->state == KEI_STREAM_LINGER)
        kei_stream_fail(s, KE_ECLOSED, "connection was closed");
    else if (s->finishing)
        kei_stream_fail(s, KE_ETIMEDOUT, "connection was cut: the peer did not take the rest");
    kei_stream_leave(s);
}

void kei_stream_opened(struct kei_stream *s)
{
    s->state = KEI_STREAM_OPEN;
    kei_timer_stop(&s->timer);
    kei_stream_open_free(s);
    if (!watch_open(s))
        return;
    if (s->ops.open)
        s->ops.open(s->user);
    if (s->freed || s->state != KEI_STREAM_OPEN)
        return;
    if (s->finishing)
        kei_timer_in(&s->timer, FINISH_MS);
    if (kei_stream_queued(s))
        schedule_flush(s);
    kei_stream_again(s); /* bytes may have come with the end of the handshake */
}

int kei_stream_accepted(struct kei_stream **ret, struct ke_ctx *ctx, int fd, int family,
                        struct kei_tls_config *tls, const struct kei_listener_config *c,
                        const struct kei_stream_ops *ops)
{
    struct kei_stream *s = kei_stream_alloc(ctx, ops, NULL, KEI_STREAM_SMALL);
    int r;

    if (!s) {
        close(fd);
        return kei_fail(ctx, KE_ENOMEM, "no memory for a connection");
    }
    s->fd = fd;
    s->user = s;
    s->dead_ms = c->dead_ms;
    s->limit_ms = c->handshake_ms;
    if (c->receive_cap)
        s->receive_cap = c->receive_cap;
    if (c->send_cap)
        s->send_cap = c->send_cap;
    kei_sock_tune(fd, family, c->dead_ms);
    r = kei_fd_add(ctx, &s->io, fd, KEI_IN, on_io);
    if (r == 0 && tls) {
        s->tls_config = kei_tls_config_ref(tls);
        s->state = KEI_STREAM_HANDSHAKE;
        r = kei_stream_tls_begin(s, NULL, kei_err(ctx));
        kei_timer_in(&s->timer, c->handshake_ms);
    } else {
        s->state = KEI_STREAM_OPEN;
    }
    if (r < 0) {
        kei_stream_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

/* ---- what is known of the peer ---- */

int kei_stream_peer_cert(struct kei_stream *s, struct ke_buf *out)
{
    if (!s->tls)
        return kei_fail(s->ctx, KE_ENOTFOUND, "connection has no TLS, so no certificate");
    int r = kei_tls_peer_cert(s->tls, out);
    return r < 0 ? kei_fail(s->ctx, r, "peer gave no certificate") : 0;
}

typedef int (*name_fn)(int fd, struct sockaddr *a, socklen_t *n);

static bool socket_name(const struct kei_stream *s, name_fn get, struct kei_addr *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->len = sizeof ret->u;
    return s->fd >= 0 && get(s->fd, &ret->u.any, &ret->len) == 0;
}

void kei_stream_set_peer(struct kei_stream *s, const struct kei_addr *a)
{
    char text[KEI_ADDR_TEXT];
    struct kei_addr own;

    /* who dials a unix socket has no name: the socket's is told */
    if (a->u.any.sa_family == AF_UNIX && socket_name(s, getsockname, &own))
        kei_addr_text(&own, text);
    else
        kei_addr_text(a, text);
    kei_free(kei_ctx_alloc(s->ctx), s->peer_name);
    s->peer_name = kei_strdup(kei_ctx_alloc(s->ctx), text); /* NULL: asked for again */
}

const char *kei_stream_peer_name(struct kei_stream *s)
{
    struct kei_addr a;
    char text[KEI_ADDR_TEXT];

    if (!s->peer_name && socket_name(s, getpeername, &a)) {
        kei_addr_text(&a, text);
        s->peer_name = kei_strdup(kei_ctx_alloc(s->ctx), text);
    }
    return s->peer_name ? s->peer_name : "";
}

const char *kei_stream_local_ip(struct kei_stream *s)
{
    struct kei_addr a;
    char text[KEI_ADDR_TEXT];

    if (!s->local_ip && socket_name(s, getsockname, &a)) {
        kei_addr_ip(&a, text);
        s->local_ip = kei_strdup(kei_ctx_alloc(s->ctx), text);
    }
    return s->local_ip ? s->local_ip : "";
}
