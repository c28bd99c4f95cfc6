/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners: plain TCP and unix sockets accepted here, TLS and WebSocket through lib/net. One lives
 * as long as its connections; closed, it only accepts no more. Loop thread.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "crypto/crypto.h"
#include "mqtt/server.h"
#include "mqtt/via.h"
#include "net/tls.h"

#define ACCEPTS 64  /* per event */
#define REST_MS 250 /* after accept failed for want of descriptors or memory */
#define MAX_PEM (1024u * 1024)

static bool is_net(uint32_t kind)
{
    return kind == KE_MQTT_TLS || kind == KE_MQTT_WS || kind == KE_MQTT_WSS;
}

static bool has_tls(uint32_t kind)
{
    return kind == KE_MQTT_TLS || kind == KE_MQTT_WSS;
}

static uint16_t default_port(uint32_t kind)
{
    static const uint16_t ports[] = {1883, 8883, 8080, 8081, 0};

    return kind < 5 ? ports[kind] : 0;
}

static uint16_t port_of(const struct ke_mqtt_listener *cfg)
{
    return cfg->port == KE_MQTT_PORT_ANY ? 0
           : cfg->port                   ? (uint16_t)cfg->port
                                         : default_port(cfg->kind);
}

const char *kei_mq_listener_name(const struct ke_mqtt_listener *cfg, char *out, size_t n)
{
    if (cfg->name)
        return cfg->name;
    if (cfg->kind == KE_MQTT_UNIX)
        snprintf(out, n, "unix:%s", cfg->path ? cfg->path : "");
    else
        snprintf(out, n, "%s:%u", cfg->host ? cfg->host : "127.0.0.1", port_of(cfg));
    return out;
}

/* Where it listens: a host, or the path of a unix socket. */
static const char *place_of(const struct ke_mqtt_listener *cfg)
{
    if (cfg->kind == KE_MQTT_UNIX)
        return cfg->path ? cfg->path : "";
    return cfg->host ? cfg->host : "127.0.0.1";
}

bool kei_mq_listener_is_at(const struct mq_listener *l, const struct ke_mqtt_listener *cfg)
{
    if (l->inner || l->kind != cfg->kind || strcmp(l->host, place_of(cfg)) != 0)
        return false;
    return cfg->kind == KE_MQTT_UNIX || l->want_port == cfg->port;
}

/* ---- accepting ---- */

static bool rate_ok(struct ke_mqtt *m)
{
    if (m->now - m->rate_ms >= 1000) {
        m->rate_ms = m->now;
        m->rate_n = 0;
    }
    return m->rate_n++ < m->lim.connect_rate;
}

/* NULL when a limit says no; counted, and told in the log once a second. */
struct mq_conn *kei_mq_admit(struct mq_listener *l)
{
    struct ke_mqtt *m = l->m;
    const char *limit = NULL;
    uint32_t value = 0;

    mq_now(m);
    if (m->st.connections >= m->lim.connections) {
        m->st.over_connections++;
        limit = "max_connections", value = m->lim.connections;
    } else if (l->max_connections && l->n_conns >= l->max_connections) {
        m->st.over_connections++;
        limit = "max_connections of the listener", value = l->max_connections;
    } else if (m->n_pending >= m->lim.pending) {
        m->st.over_pending++;
        limit = "max_pending", value = m->lim.pending;
    } else if (!rate_ok(m)) {
        m->st.over_connect_rate++;
        limit = "max_connect_rate", value = m->lim.connect_rate;
    }
    if (limit) {
        if (m->now - m->complained_ms >= 1000) {
            m->complained_ms = m->now;
            kei_log(m->ctx, KE_LOG_WARN, "mqtt", "listener %s: a connection was refused: %s is %u",
                    l->name, limit, value);
        }
        return NULL;
    }
    return kei_mq_conn_new(l);
}

static bool full(const struct mq_listener *l)
{
    return l->m->st.connections >= l->m->lim.connections ||
           (l->max_connections && l->n_conns >= l->max_connections);
}

static void update(struct mq_listener *l)
{
    bool want = !l->closed && l->fd >= 0 && !kei_timer_armed(&l->rest);
    bool have = kei_list_linked(&l->io.link);

    if (!want && have)
        kei_fd_remove(&l->io);
    else if (want && !have && kei_fd_add(l->m->ctx, &l->io, l->fd, KEI_IN, l->io.fn) < 0)
        kei_timer_in(&l->rest, REST_MS);
}

static void on_rested(struct kei_timer *t)
{
    update(KEI_OF(t, struct mq_listener, rest));
}

static void accept_failed(struct mq_listener *l, int e)
{
    if (e == EAGAIN || e == EINTR || e == ECONNABORTED || e == EPROTO)
        return;
    struct ke_error err = KE_ERROR_INIT;
    kei_error_errno(&err, e, "listener %s could not accept, trying again in %d ms", l->name,
                    REST_MS);
    kei_log(l->m->ctx, KE_LOG_WARN, "mqtt", "%s", err.text);
    kei_timer_in(&l->rest, REST_MS);
    update(l);
}

static void on_incoming(struct kei_fd *f, uint32_t events)
{
    struct mq_listener *l = KEI_OF(f, struct mq_listener, io);

    (void)events;
    for (int i = 0; i < ACCEPTS && !l->closed; i++) {
        if (full(l) && !l->waited) { /* who has closed its connection before counts no more */
            l->waited = true;
            return;
        }
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            l->waited = false;
            accept_failed(l, errno);
            return;
        }
        struct mq_conn *c = kei_mq_admit(l);
        if (!c) {
            close(fd);
            continue;
        }
        if (l->kind != KE_MQTT_UNIX)
            kei_sock_tune(fd, AF_INET, 0);
        if (kei_fd_add(l->m->ctx, &c->io, fd, KEI_IN, kei_mq_on_io) < 0) {
            close(fd);
            kei_mq_conn_free(c);
            continue;
        }
        c->io.fd = fd;
    }
}

void kei_mq_listener_resume(struct mq_listener *l)
{
    (void)l; /* those over a limit are refused, not kept waiting */
}

/* ---- certificates ---- */

static int read_pem(struct ke_mqtt *m, const char *path, struct ke_buf *b)
{
    kei_buf_init(b, m->alloc);
    return kei_file_read(kei_ctx_io(m->ctx), path, MAX_PEM, b, kei_err(m->ctx));
}

static int read_cert(struct ke_mqtt *m, struct kei_crypto *crypto, const char *path,
                     struct kei_cert **ret)
{
    struct ke_buf b;
    int r = read_pem(m, path, &b);

    if (r == 0)
        r = kei_cert_from_pem(ret, crypto, kei_buf_str(&b), kei_err(m->ctx));
    if (r < 0)
        kei_error_prefix(kei_err(m->ctx), r, "%s", path);
    ke_buf_free(&b);
    return r;
}

/* A path, or a URI of a key that stays in a token. */
static int read_key(struct ke_mqtt *m, struct kei_crypto *crypto, const char *path,
                    struct kei_key **ret)
{
    struct ke_buf b;

    if (path[0] != '/' && strchr(path, ':'))
        return kei_key_from_uri(ret, crypto, path, kei_err(m->ctx));
    int r = read_pem(m, path, &b);
    if (r == 0)
        r = kei_key_from_pem(ret, crypto, kei_buf_str(&b), kei_err(m->ctx));
    if (r < 0)
        kei_error_prefix(kei_err(m->ctx), r, "%s", path);
    ke_buf_free(&b);
    return r;
}

static int64_t now_s(void *user)
{
    return ke_ctx_real_ms(user) / 1000;
}

/* The files of a TLS listener. */
struct pems {
    struct ke_buf cert, ca, crl;
};

static int read_pems(struct ke_mqtt *m, const struct ke_mqtt_listener *cfg, struct pems *p)
{
    int r = read_pem(m, cfg->cert_file, &p->cert);

    if (r == 0 && cfg->ca_file)
        r = read_pem(m, cfg->ca_file, &p->ca);
    if (r == 0 && cfg->crl_file)
        r = read_pem(m, cfg->crl_file, &p->crl);
    return r;
}

static int make_tls(struct ke_mqtt *m, const struct ke_mqtt_listener *cfg,
                    struct kei_tls_config **ret)
{
    struct kei_cert *cert = NULL, *ca = NULL;
    struct kei_key *key = NULL;
    struct kei_crypto *crypto;
    struct pems p = {.cert.n = 0};
    bool require = cfg->flags & KE_MQTT_CERT_REQUIRE, request = cfg->flags & KE_MQTT_CERT_REQUEST;

    if (!cfg->cert_file || !cfg->key_file)
        return kei_fail(m->ctx, KE_EINVAL, "a TLS listener needs cert_file and key_file");
    if ((require || request) && !cfg->ca_file)
        return kei_fail(m->ctx, KE_EINVAL, "client certificates need a ca_file to be checked with");
    int r = kei_crypto_get(m->ctx, &crypto);
    if (r == 0)
        r = read_pems(m, cfg, &p);
    if (r == 0)
        r = read_cert(m, crypto, cfg->cert_file, &cert);
    if (r == 0)
        r = read_key(m, crypto, cfg->key_file, &key);
    if (r == 0 && cfg->ca_file)
        r = read_cert(m, crypto, cfg->ca_file, &ca);
    if (r == 0) {
        struct kei_tls_options o = {.server = true,
                                    .verify_peer = require,
                                    .verify_given = request && !require,
                                    .ca = ca,
                                    .cert = cert,
                                    .key = key,
                                    .cert_chain = kei_buf_str(&p.cert),
                                    .ca_list = kei_buf_str(&p.ca),
                                    .crl_list = kei_buf_str(&p.crl),
                                    .now = now_s,
                                    .now_user = m->ctx};
        r = kei_tls_config_new(ret, m->ctx, &o);
    }
    kei_cert_free(cert);
    kei_cert_free(ca);
    kei_key_free(key);
    ke_buf_free(&p.cert);
    ke_buf_free(&p.ca);
    ke_buf_free(&p.crl);
    return r;
}

/* ---- opening ---- */

static int open_plain(struct mq_listener *l, const struct ke_mqtt_listener *cfg)
{
    struct kei_addr *a = &l->addr;
    int r = kei_sock_listen(a, cfg->socket_mode, &l->file, kei_err(l->m->ctx));

    if (r < 0)
        return r;
    l->fd = r;
    l->port = cfg->kind == KE_MQTT_UNIX ? 0 : kei_addr_port(a);
    return kei_fd_add(l->m->ctx, &l->io, l->fd, KEI_IN, on_incoming);
}

static int open_net(struct mq_listener *l, const struct ke_mqtt_listener *cfg)
{
    struct ke_mqtt *m = l->m;
    struct kei_listener_config c = {.host = l->host,
                                    .port = port_of(cfg),
                                    .handshake_ms = m->lim.connect_ms,
                                    .max_streams = m->lim.connections,
                                    .receive_cap = 64 * 1024,
                                    .send_cap = SIZE_MAX / 2};
    int r = has_tls(cfg->kind) ? make_tls(m, cfg, &l->tls) : 0;

    if (r < 0)
        return kei_error_prefix(kei_err(m->ctx), r, "listener %s", l->name);
    c.tls = l->tls;
    r = kei_listen(&l->net, m->ctx, &c, kei_mq_via_accept, l);
    if (r == 0)
        l->port = kei_listener_port(l->net);
    return r;
}

static bool loopback(const struct kei_addr *a)
{
    if (a->u.any.sa_family == AF_INET)
        return (ntohl(a->u.v4.sin_addr.s_addr) >> 24) == 127;
    return a->u.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->u.v6.sin6_addr);
}

static int parse(struct mq_listener *l, const struct ke_mqtt_listener *cfg)
{
    struct ke_ctx *ctx = l->m->ctx;
    struct kei_addr *a = &l->addr;

    if (cfg->kind == KE_MQTT_UNIX)
        return cfg->path
                   ? kei_addr_unix(a, cfg->path, kei_err(ctx))
                   : kei_fail(ctx, KE_EINVAL, "listener %s: a unix socket needs a path", l->name);
    if (!kei_addr_literal(a, l->host, port_of(cfg)))
        return kei_fail(ctx, KE_EINVAL, "listener %s: \"%.100s\" is not an address to listen on",
                        l->name, l->host);
    l->loopback = loopback(a);
    return 0;
}

static void settings(struct mq_listener *l, const struct ke_mqtt_listener *cfg)
{
    l->kind = cfg->kind;
    l->flags = cfg->flags;
    l->max_connections = cfg->max_connections;
    l->max_alias = cfg->max_topic_alias;
    l->want_port = cfg->port;
}

static int copy_texts(struct mq_listener *l, const struct ke_mqtt_listener *cfg)
{
    const struct ke_alloc *al = l->m->alloc;
    char name[200];

    l->name = kei_strdup(al, kei_mq_listener_name(cfg, name, sizeof name));
    l->host = kei_strdup(al, place_of(cfg));
    l->mount = kei_strdup(al, cfg->mount_point && cfg->mount_point[0] ? cfg->mount_point : NULL);
    if (!l->name || !l->host || (cfg->mount_point && cfg->mount_point[0] && !l->mount))
        return kei_fail(l->m->ctx, KE_ENOMEM, "no memory for a listener");
    return 0;
}

int kei_mq_listen(struct ke_mqtt *m, const struct ke_mqtt_listener *cfg, struct mq_listener **ret)
{
    struct mq_listener *l = kei_zalloc(m->alloc, sizeof *l);

    if (!l)
        return kei_fail(m->ctx, KE_ENOMEM, "no memory for a listener");
    l->m = m;
    l->fd = -1;
    l->refs = 1;
    kei_timer_init(m->ctx, &l->rest, on_rested);
    settings(l, cfg);
    int r = copy_texts(l, cfg);
    if (r == 0 && cfg->kind > KE_MQTT_UNIX)
        r = kei_fail(m->ctx, KE_EINVAL, "listener %s: kind %u does not exist", l->name, cfg->kind);
    if (r == 0)
        r = parse(l, cfg);
    if (r == 0)
        r = is_net(cfg->kind) ? open_net(l, cfg) : open_plain(l, cfg);
    if (r < 0) {
        kei_mq_listener_close(l);
        return r;
    }
    kei_list_add_tail(&m->listeners, &l->link);
    *ret = l;
    return 0;
}

int kei_mq_listener_prepare(struct mq_listener *l, const struct ke_mqtt_listener *cfg,
                            struct kei_tls_config **ret_tls)
{
    int r = has_tls(l->kind) ? make_tls(l->m, cfg, ret_tls) : 0;

    return r < 0 ? kei_error_prefix(kei_err(l->m->ctx), r, "listener %s", l->name) : 0;
}

void kei_mq_listener_update(struct mq_listener *l, const struct ke_mqtt_listener *cfg,
                            struct kei_tls_config *tls)
{
    if (tls) {
        kei_listener_set_tls(l->net, tls);
        kei_tls_config_unref(l->tls);
        l->tls = tls;
    }
    uint32_t kind = l->kind;
    settings(l, cfg);
    l->kind = kind;
}

/* ---- sockets of our own modules ---- */

static struct mq_listener *inner(struct ke_mqtt *m)
{
    struct mq_listener *l = m->inner;

    if (l)
        return l;
    l = kei_zalloc(m->alloc, sizeof *l);
    if (!l)
        return NULL;
    l->m = m;
    l->fd = -1;
    l->refs = 1;
    l->inner = true;
    l->kind = KE_MQTT_UNIX;
    l->flags = KE_MQTT_ANONYMOUS;
    kei_timer_init(m->ctx, &l->rest, on_rested);
    l->name = kei_strdup(m->alloc, "(inner)");
    if (!l->name) {
        kei_free(m->alloc, l);
        return NULL;
    }
    kei_list_add_tail(&m->listeners, &l->link);
    m->inner = l;
    return l;
}

int kei_mqtt_serve_fd(struct ke_mqtt *m, int fd, const char *name, struct ke_error *err)
{
    struct mq_listener *l = m->started ? inner(m) : NULL;
    struct mq_conn *c = l ? kei_mq_conn_new(l) : NULL;

    (void)name;
    mq_now(m);
    if (!c) {
        close(fd);
        return m->started ? kei_error(err, KE_ENOMEM, "no memory for a connection")
                          : kei_error(err, KE_ESTATE, "the MQTT server is not started");
    }
    if (kei_fd_add(m->ctx, &c->io, fd, KEI_IN, kei_mq_on_io) < 0) {
        close(fd);
        kei_mq_conn_free(c);
        return kei_error(err, KE_ESYS, "no place to watch a socket");
    }
    c->io.fd = fd;
    return 0;
}

void kei_mq_listener_close(struct mq_listener *l)
{
    if (l->closed)
        return;
    if (l->m->inner == l)
        l->m->inner = NULL;
    l->closed = true;
    kei_list_remove(&l->link);
    kei_timer_fini(&l->rest);
    kei_fd_remove(&l->io);
    kei_sock_unlink(&l->addr, &l->file);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    kei_listener_free(l->net);
    l->net = NULL;
    kei_tls_config_unref(l->tls);
    l->tls = NULL;
    kei_mq_listener_unref(l);
}

void kei_mq_listener_unref(struct mq_listener *l)
{
    const struct ke_alloc *al = l->m->alloc;

    if (--l->refs > 0)
        return;
    kei_free(al, l->name);
    kei_free(al, l->host);
    kei_free(al, l->mount);
    kei_free(al, l);
}
