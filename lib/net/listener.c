/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting: TCP and unix sockets, TLS handshakes before anybody is told. The listener keeps count
 * of its streams but owns only those in their handshake. Whoever connects and does not speak keeps
 * nobody else out for long. Loop thread.
 */
#include <errno.h>
#include <linux/tcp.h> /* libc lacks the newer members of tcp_info */
#include <unistd.h>

#include "base/log.h"
#include "net/bind.h"
#include "net/stream_priv.h"

#define MAX_STREAMS 1000u
#define HANDSHAKE_MS 30000u
#define ACCEPTS_PER_EVENT 64
#define REST_MS 250      /* after accept failed for want of descriptors or memory */
#define COMPLAIN_MS 1000 /* between two log lines about failed handshakes */
#define SILENT_MS 1000   /* a peer that has TLS speaks at once */
#define SLOW_MS 5000     /* what a handshake may take when others wait */

struct kei_listener {
    struct ke_ctx *ctx;
    kei_accept_fn accept;
    void *user;
    struct kei_fd io;
    struct kei_timer rest;
    int fd;
    struct kei_addr addr; /* as bound */
    struct kei_tls_config *tls;
    struct kei_listener_config c; /* numbers only; its pointers are not ours */
    struct kei_link streams;
    struct kei_link handshakes; /* oldest first */
    uint32_t n_streams;         /* on both lists */
    uint32_t n_handshakes;
    struct kei_sock_file file;
    int64_t complained_ms;
    uint8_t depth; /* accepting */
    bool failed;   /* rests since accept failed */
    bool freed;
};

/* ---- who has to go when it is full ---- */

static int64_t age_ms(const struct kei_listener *l, const struct kei_stream *s)
{
    return ke_ctx_mono_ms(l->ctx) - (s->timer.due_ms - l->c.handshake_ms);
}

/* Nothing came from the peer since it connected. */
static bool is_silent(const struct kei_stream *s)
{
    struct tcp_info info;
    socklen_t n = sizeof info;

    memset(&info, 0, sizeof info);
    return getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_data_segs_in == 0;
}

/* The oldest handshake that has had its time; NULL: *ret_ms until one has. */
static struct kei_stream *find_overdue(const struct kei_listener *l, int64_t *ret_ms)
{
    struct kei_stream *oldest;

    KEI_LIST_EACH(link, &l->handshakes)
    {
        struct kei_stream *s = KEI_OF(link, struct kei_stream, link);
        if (age_ms(l, s) < SILENT_MS)
            break; /* and so are those behind it */
        if (age_ms(l, s) >= SLOW_MS || is_silent(s))
            return s;
    }
    oldest = KEI_OF(l->handshakes.next, struct kei_stream, link);
    *ret_ms =
        age_ms(l, oldest) < SILENT_MS ? SILENT_MS - age_ms(l, oldest) : SLOW_MS - age_ms(l, oldest);
    if (*ret_ms > REST_MS) /* one behind it may be silent and due earlier */
        *ret_ms = REST_MS;
    return NULL;
}

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    const struct in6_addr *x = &((const struct sockaddr_in6 *)a)->sin6_addr;
    const struct in6_addr *y = &((const struct sockaddr_in6 *)b)->sin6_addr;

    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    bool mapped = IN6_IS_ADDR_V4MAPPED(x) || IN6_IS_ADDR_V4MAPPED(y);
    return a->ss_family == AF_INET6 && memcmp(x, y, mapped ? 16 : 8) == 0;
}

static bool is_of_host(const struct kei_stream *s, const struct sockaddr_storage *host)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;

    return getpeername(s->fd, (struct sockaddr *)&a, &len) == 0 && same_host(&a, host);
}

static uint32_t count_host(const struct kei_link *list, const struct sockaddr_storage *host)
{
    uint32_t n = 0;

    KEI_LIST_EACH(link, list)
    {
        n += is_of_host(KEI_OF(link, struct kei_stream, link), host);
    }
    return n;
}

/* The one of this address that waits longest and said nothing, or NULL. */
static struct kei_stream *find_silent(const struct kei_listener *l,
                                      const struct sockaddr_storage *host)
{
    KEI_LIST_EACH(link, &l->handshakes)
    {
        struct kei_stream *s = KEI_OF(link, struct kei_stream, link);
        if (is_of_host(s, host) && is_silent(s))
            return s;
    }
    return NULL;
}

static bool may_complain(struct kei_listener *l)
{
    int64_t now = ke_ctx_mono_ms(l->ctx);

    if (now - l->complained_ms < COMPLAIN_MS)
        return false;
    l->complained_ms = now;
    return true;
}

static void evict(struct kei_listener *l, struct kei_stream *s)
{
    if (may_complain(l))
        kei_log(l->ctx, KE_LOG_INFO, "net",
                "connection from %s was cut: its handshake was not done and others wait",
                kei_stream_peer_name(s));
    kei_stream_free(s);
}

/* false: this address has all it may have */
static bool host_has_room(struct kei_listener *l, const struct sockaddr_storage *host)
{
    struct kei_stream *silent;

    if (l->c.max_per_address == 0 || host->ss_family == AF_UNIX ||
        l->n_streams < l->c.max_per_address ||
        count_host(&l->handshakes, host) + count_host(&l->streams, host) < l->c.max_per_address)
        return true;
    silent = find_silent(l, host);
    if (silent) {
        evict(l, silent);
        return true;
    }
    if (may_complain(l))
        kei_log(l->ctx, KE_LOG_WARN, "net",
                "a connection was refused: its address has %u already, which is the limit",
                (unsigned)l->c.max_per_address);
    return false;
}

static bool is_full(const struct kei_listener *l)
{
    return l->n_streams - (l->c.max_handshakes ? l->n_handshakes : 0) >= l->c.max_streams;
}

/* Full, or resting: not watched, so the kernel's queue keeps who comes. */
static void update(struct kei_listener *l)
{
    bool want = !is_full(l) && !kei_timer_armed(&l->rest);
    bool have = kei_list_linked(&l->io.link);
    struct kei_fd *f = &l->io;
    int64_t wait_ms;

    if (want && l->c.max_handshakes && l->n_handshakes >= l->c.max_handshakes &&
        !find_overdue(l, &wait_ms)) {
        kei_timer_in(&l->rest, wait_ms > 0 ? wait_ms : 1);
        want = false;
    }
    if (!want && have)
        kei_fd_remove(f);
    else if (want && !have && kei_fd_add(l->ctx, f, l->fd, KEI_IN, f->fn) < 0)
        kei_timer_in(&l->rest, REST_MS);
}

static void on_rested(struct kei_timer *t)
{
    struct kei_listener *l = KEI_OF(t, struct kei_listener, rest);

    l->failed = false;
    update(l);
}

void kei_listener_stream_gone(struct kei_stream *s)
{
    struct kei_listener *l = s->listener;

    if (!l)
        return;
    s->listener = NULL;
    kei_list_remove(&s->link);
    l->n_streams--;
    if (s->handshaking)
        l->n_handshakes--;
    if (l->c.max_handshakes && l->n_handshakes < l->c.max_handshakes && !l->failed)
        kei_timer_stop(&l->rest); /* it waited for a place */
    if (l->depth == 0)
        update(l);
}

static void leave(struct kei_listener *l)
{
    if (--l->depth > 0)
        return;
    if (l->freed)
        kei_free(kei_ctx_alloc(l->ctx), l);
    else
        update(l);
}

/* ---- a stream before its accept ---- */

static void hand_over(struct kei_stream *s)
{
    struct kei_listener *l = s->listener;

    l->depth++;
    l->accept(l->user, s);
    leave(l);
}

static void on_handshaken(void *user)
{
    struct kei_stream *s = user;
    struct kei_listener *l = s->listener;

    if (l->c.max_handshakes && is_full(l)) { /* became so meanwhile */
        kei_stream_free(s);
        return;
    }
    kei_list_remove(&s->link);
    kei_list_add_tail(&l->streams, &s->link);
    s->handshaking = false;
    l->n_handshakes--;
    s->ops = (struct kei_stream_ops){0}; /* if accept does not set any */
    hand_over(s);
}

/* Peers choose how often this happens: one line per second is enough. */
static void on_handshake_failed(void *user, int status, const char *text)
{
    struct kei_stream *s = user;

    (void)status;
    if (may_complain(s->listener))
        kei_log(s->ctx, KE_LOG_INFO, "net", "connection from %s did not open: %s",
                kei_stream_peer_name(s), text);
    kei_stream_free(s);
}

static const struct kei_stream_ops handshake_ops = {
    .open = on_handshaken,
    .closed = on_handshake_failed,
};

/* ---- accepting ---- */

/* false: enough for now */
static bool accept_failed(struct kei_listener *l, int errnum)
{
    switch (errnum) {
    case EINTR:
    case ECONNABORTED: /* gone before it was its turn, and what Linux passes up of a bad network */
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM:
    case ETIMEDOUT:
        return true;
    case EAGAIN:
        return false;
    default:
        break;
    }
    struct ke_error err = KE_ERROR_INIT;
    kei_error_errno(&err, errnum, "could not accept a connection, trying again in %d ms", REST_MS);
    kei_log(l->ctx, KE_LOG_WARN, "net", "%s", err.text);
    kei_timer_in(&l->rest, REST_MS);
    l->failed = true;
    return false;
}

static bool accept_one(struct kei_listener *l)
{
    struct kei_stream *s;
    struct sockaddr_storage host = {0};
    socklen_t len = sizeof host;
    struct kei_addr peer = {.len = 0};
    int64_t wait_ms;

    if (l->c.max_handshakes && l->n_handshakes >= l->c.max_handshakes) {
        s = find_overdue(l, &wait_ms);
        if (!s)
            return false; /* update() sees to the rest */
        evict(l, s);
    }
    int fd = accept4(l->fd, (struct sockaddr *)&host, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return accept_failed(l, errno);
    if (!host_has_room(l, &host)) {
        close(fd);
        return true;
    }
    int r =
        kei_stream_accepted(&s, l->ctx, fd, l->addr.u.any.sa_family, l->tls, &l->c, &handshake_ops);
    if (r < 0)
        return accept_failed(l, r == KE_ENOMEM ? ENOMEM : EIO);
    peer.len = len < sizeof peer.u ? len : (socklen_t)sizeof peer.u;
    memcpy(&peer.u, &host, peer.len);
    kei_stream_set_peer(s, &peer);
    s->listener = l;
    kei_list_add_tail(&l->handshakes, &s->link);
    s->handshaking = true;
    l->n_streams++;
    l->n_handshakes++;
    if (s->state == KEI_STREAM_OPEN) {
        kei_stream_enter(s);
        on_handshaken(s);
        kei_stream_leave(s);
    }
    return true;
}

static void on_incoming(struct kei_fd *f, uint32_t events)
{
    struct kei_listener *l = KEI_OF(f, struct kei_listener, io);

    (void)events;
    l->depth++;
    for (int i = 0; i < ACCEPTS_PER_EVENT && !l->freed && !is_full(l); i++)
        if (!accept_one(l))
            break;
    leave(l);
}

/* ---- opening ---- */

static int parse_address(struct ke_ctx *ctx, const struct kei_listener_config *c,
                         struct kei_addr *ret)
{
    if (c->unix_path)
        return kei_addr_unix(ret, c->unix_path, kei_err(ctx));
    if (!c->host || !kei_addr_literal(ret, c->host, c->port))
        return kei_fail(ctx, KE_EINVAL,
                        "\"%.100s\" is not an address to listen on; give an IPv4 or IPv6 address",
                        c->host ? c->host : "");
    return 0;
}

int kei_listen(struct kei_listener **ret, struct ke_ctx *ctx, const struct kei_listener_config *c,
               kei_accept_fn accept, void *user)
{
    struct kei_addr addr;
    int r = parse_address(ctx, c, &addr);

    if (r < 0)
        return r;
    struct kei_listener *l = kei_zalloc(kei_ctx_alloc(ctx), sizeof *l);
    if (!l)
        return kei_fail(ctx, KE_ENOMEM, "no memory for a listener");
    l->ctx = ctx;
    l->accept = accept;
    l->user = user;
    l->fd = -1;
    l->addr = addr;
    l->c = *c;
    l->c.host = l->c.unix_path = NULL;
    l->c.tls = NULL;
    if (!l->c.max_streams)
        l->c.max_streams = MAX_STREAMS;
    if (!l->c.handshake_ms)
        l->c.handshake_ms = HANDSHAKE_MS;
    l->complained_ms = INT64_MIN / 2;
    kei_list_init(&l->streams);
    kei_list_init(&l->handshakes);
    kei_timer_init(ctx, &l->rest, on_rested);
    r = kei_sock_listen(&l->addr, 0, &l->file, kei_err(ctx));
    if (r >= 0) {
        l->fd = r;
        r = kei_fd_add(ctx, &l->io, l->fd, KEI_IN, on_incoming);
    }
    if (r < 0) {
        kei_listener_free(l);
        return r;
    }
    if (c->tls)
        l->tls = kei_tls_config_ref(c->tls);
    *ret = l;
    return 0;
}

uint16_t kei_listener_port(const struct kei_listener *l)
{
    return kei_addr_port(&l->addr);
}

void kei_listener_set_tls(struct kei_listener *l, struct kei_tls_config *tls)
{
    struct kei_tls_config *old = l->tls;

    l->tls = tls ? kei_tls_config_ref(tls) : NULL;
    kei_tls_config_unref(old);
}

void kei_listener_free(struct kei_listener *l)
{
    if (!l || l->freed)
        return;
    l->freed = true;
    l->depth++;
    while (!kei_list_empty(&l->handshakes)) {
        struct kei_stream *s = KEI_OF(l->handshakes.next, struct kei_stream, link);
        kei_list_remove(&s->link);
        if (s->state == KEI_STREAM_HANDSHAKE)
            kei_stream_free(s);
        else
            s->listener = NULL;
    }
    while (!kei_list_empty(&l->streams)) {
        struct kei_stream *s = KEI_OF(l->streams.next, struct kei_stream, link);
        kei_list_remove(&s->link);
        s->listener = NULL;
    }
    kei_fd_remove(&l->io);
    kei_timer_fini(&l->rest);
    kei_sock_unlink(&l->addr, &l->file);
    if (l->fd >= 0)
        close(l->fd);
    kei_tls_config_unref(l->tls);
    l->tls = NULL;
    leave(l);
}
