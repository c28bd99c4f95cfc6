/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting: TCP and unix sockets, TLS handshakes before anybody is told. The listener keeps count
 * of its streams but owns only those in their handshake. Loop thread.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "net/stream_priv.h"

#define MAX_STREAMS 1000u
#define HANDSHAKE_MS 30000u
#define ACCEPTS_PER_EVENT 64
#define REST_MS 250      /* after accept failed for want of descriptors or memory */
#define COMPLAIN_MS 1000 /* between two log lines about failed handshakes */

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
    uint32_t n_streams;
    dev_t dev; /* of the unix socket we made */
    ino_t ino;
    int64_t complained_ms;
    uint8_t depth; /* accepting */
    bool freed;
};

/* Full, or resting: not watched, so the kernel's queue keeps who comes. */
static void update(struct kei_listener *l)
{
    bool want = l->n_streams < l->c.max_streams && !kei_timer_armed(&l->rest);
    bool have = kei_list_linked(&l->io.link);
    struct kei_fd *f = &l->io;

    if (!want && have)
        kei_fd_remove(f);
    else if (want && !have && kei_fd_add(l->ctx, f, l->fd, KEI_IN, f->fn) < 0)
        kei_timer_in(&l->rest, REST_MS);
}

static void on_rested(struct kei_timer *t)
{
    update(KEI_OF(t, struct kei_listener, rest));
}

void kei_listener_stream_gone(struct kei_stream *s)
{
    struct kei_listener *l = s->listener;

    if (!l)
        return;
    s->listener = NULL;
    kei_list_remove(&s->link);
    l->n_streams--;
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

    s->ops = (struct kei_stream_ops){0}; /* if accept does not set any */
    hand_over(s);
}

/* Peers choose how often this happens: one line per second is enough. */
static void on_handshake_failed(void *user, int status, const char *text)
{
    struct kei_stream *s = user;
    struct kei_listener *l = s->listener;
    int64_t now = ke_ctx_mono_ms(s->ctx);

    (void)status;
    if (now - l->complained_ms >= COMPLAIN_MS) {
        l->complained_ms = now;
        kei_log(s->ctx, KE_LOG_INFO, "net", "connection from %s did not open: %s",
                kei_stream_peer_name(s), text);
    }
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
    return false;
}

static bool accept_one(struct kei_listener *l)
{
    struct kei_stream *s;
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return accept_failed(l, errno);
    int r =
        kei_stream_accepted(&s, l->ctx, fd, l->addr.u.any.sa_family, l->tls, &l->c, &handshake_ops);
    if (r < 0)
        return accept_failed(l, r == KE_ENOMEM ? ENOMEM : EIO);
    s->listener = l;
    kei_list_add_tail(&l->streams, &s->link);
    l->n_streams++;
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
    for (int i = 0; i < ACCEPTS_PER_EVENT && !l->freed && l->n_streams < l->c.max_streams; i++)
        if (!accept_one(l))
            break;
    leave(l);
}

/* ---- binding ---- */

static int set_flag(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* A socket file nobody listens on is left from a process that died. */
static int remove_stale(const struct kei_addr *a)
{
    struct stat st;
    const char *path = a->u.un.sun_path;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(st.st_mode))
        return EEXIST;
    int fd = kei_sock_open(AF_UNIX);
    if (fd < 0)
        return errno;
    int r = connect(fd, &a->u.any, a->len);
    int errnum = r == 0 || errno == EAGAIN ? EADDRINUSE : errno;
    close(fd);
    if (errnum != ECONNREFUSED)
        return errnum;
    return unlink(path) < 0 && errno != ENOENT ? errno : 0;
}

static int bind_unix(struct kei_listener *l)
{
    struct stat st;
    int errnum = remove_stale(&l->addr);

    if (errnum)
        return errnum;
    /* the mode of the socket itself is what bind gives the file: never open to others, not even
     * for a moment */
    if (fchmod(l->fd, 0600) < 0 || bind(l->fd, &l->addr.u.any, l->addr.len) < 0 ||
        lstat(l->addr.u.un.sun_path, &st) < 0)
        return errno;
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    return 0;
}

static int bind_inet(struct kei_listener *l)
{
    set_flag(l->fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (l->addr.u.any.sa_family == AF_INET6) {
        /* "::" takes IPv4 as well, whatever the system's default is */
        bool any = IN6_IS_ADDR_UNSPECIFIED(&l->addr.u.v6.sin6_addr);
        set_flag(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, !any);
    }
    if (bind(l->fd, &l->addr.u.any, l->addr.len) < 0)
        return errno;
    l->addr.len = sizeof l->addr.u;
    return getsockname(l->fd, &l->addr.u.any, &l->addr.len) < 0 ? errno : 0;
}

static int open_socket(struct kei_listener *l)
{
    struct ke_error *err = kei_err(l->ctx);
    char text[KEI_ADDR_TEXT];
    bool un = l->addr.u.any.sa_family == AF_UNIX;

    kei_addr_text(&l->addr, text);
    l->fd = kei_sock_open(l->addr.u.any.sa_family);
    if (l->fd < 0)
        return kei_error_errno(err, errno, "could not open a socket for %s", text);
    int errnum = un ? bind_unix(l) : bind_inet(l);
    if (errnum == 0 && listen(l->fd, SOMAXCONN) < 0)
        errnum = errno;
    if (errnum == EADDRINUSE)
        return kei_error(err, KE_EADDRINUSE,
                         "could not listen on %s: another program does; choose another %s", text,
                         un ? "path" : "port");
    if (errnum)
        return kei_error_errno(err, errnum, "could not listen on %s", text);
    return 0;
}

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
    kei_timer_init(ctx, &l->rest, on_rested);
    r = open_socket(l);
    if (r == 0)
        r = kei_fd_add(ctx, &l->io, l->fd, KEI_IN, on_incoming);
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

/* The socket file goes, unless somebody put another in its place. */
static void remove_socket_file(struct kei_listener *l)
{
    struct stat st;

    if (l->ino == 0 || lstat(l->addr.u.un.sun_path, &st) < 0)
        return;
    if (st.st_dev == l->dev && st.st_ino == l->ino)
        unlink(l->addr.u.un.sun_path);
}

void kei_listener_free(struct kei_listener *l)
{
    if (!l || l->freed)
        return;
    l->freed = true;
    l->depth++;
    KEI_LIST_EACH_SAFE(link, next, &l->streams)
    {
        struct kei_stream *s = KEI_OF(link, struct kei_stream, link);
        if (s->state == KEI_STREAM_HANDSHAKE) {
            kei_stream_free(s);
        } else {
            kei_list_remove(&s->link);
            s->listener = NULL;
        }
    }
    kei_fd_remove(&l->io);
    kei_timer_fini(&l->rest);
    remove_socket_file(l);
    if (l->fd >= 0)
        close(l->fd);
    kei_tls_config_unref(l->tls);
    l->tls = NULL;
    leave(l);
}
