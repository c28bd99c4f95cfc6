/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tunnel endpoint: upgrade, who speaks, keepalive, newest connection wins. A session belongs to
 * a peer and dies with its connection; the peer and what it shall have stay. What a node may cost:
 * requests that wait for the store stop its reading, answers that it does not read end its session.
 * Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"
#include "crypto/crypto.h"
#include "message/dialect.h"

#define KEEPALIVE_MS 30000 /* upstream's tolerance: twice the edge's heartbeat */
#define PING_MS 10000
#define SEND_CAP (8u * 1024u * 1024u)   /* more than any message here */
#define UNREAD_MAX (4u * 1024u * 1024u) /* unsent bytes at which a node that still asks is cut */
#define REPLY_HOLD_MS 10
#define HELD_MAX 256
#define WAITING_MAX 64 /* requests of a node that wait for the store */
/* Two programs with one name take the place from each other; see duel() */
#define ALIVE_MS 20000     /* heard of within so long: the holder of a place lives */
#define DUEL_TAKES 3       /* so many living holders were replaced */
#define DUEL_HOLD_MS 10000 /* then one stays for so long, doubled each time */
#define DUEL_HOLD_MAX_MS 300000
#define DUEL_FORGET_MS 900000

static void session_free(struct kei_session *s)
{
    struct kei_peer *p = s->peer;
    struct ke_cloud *c = p->cloud;
    kei_timer_fini(&s->keepalive);
    kei_ws_free(s->ws);
    c->sessions--;
    if (p->session == s) {
        p->session = NULL;
        kei_peer_replies_drop(p);
        kei_deliver_disconnected(p);
        kei_devices_disconnected(p);
        kei_peer_check(p);
    }
    kei_free(kei_ctx_alloc(c->ctx), s);
}

void kei_session_close(struct kei_session *s, const char *why)
{
    struct kei_peer *p = s->peer;
    kei_log(p->cloud->ctx, KE_LOG_INFO, "cloud", "session of node %s ended: %s", p->name, why);
    session_free(s);
    if (p->node)
        kei_tell_node(p->cloud, p->node, false);
}

void kei_session_fail(struct kei_session *s, const char *why)
{
    if (s->failed)
        return;
    s->failed = true;
    snprintf(s->why, sizeof s->why, "%s", why);
    (void)kei_timer_in(&s->keepalive, 0);
}

static void on_keepalive_missing(struct kei_timer *t)
{
    struct kei_session *s = KEI_OF(t, struct kei_session, keepalive);
    char why[sizeof s->why] = "no keepalive within 30 s";
    if (s->paused && !s->failed) { /* it may have sent one: nobody looked */
        (void)kei_timer_in(t, KEEPALIVE_MS);
        return;
    }
    if (s->failed)
        memcpy(why, s->why, sizeof why);
    kei_session_close(s, why);
}

void kei_session_waits(struct kei_session *s, int by)
{
    s->waiting += (uint32_t)by;
    bool pause = s->waiting >= WAITING_MAX || (s->paused && s->waiting > WAITING_MAX / 2);
    if (pause == s->paused)
        return;
    s->paused = pause;
    kei_ws_pause(s->ws, pause);
    if (!pause && !s->failed)
        (void)kei_timer_in(&s->keepalive, KEEPALIVE_MS);
}

/* ---- sending ---- */

int kei_peer_send(struct kei_peer *p, const struct ke_msg *m)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf text = {0};
    if (!p->session || p->session->failed)
        return kei_fail(ctx, KE_ECLOSED, "node %s is not connected", p->name);
    kei_buf_init(&text, kei_ctx_alloc(ctx));
    /* every key explicit is what all versions read, and what 1.4 needs */
    uint32_t dialect = p->dialect == KE_DIALECT_AUTO ? KE_DIALECT_1_4 : p->dialect;
    int r = ke_msg_encode(m, ctx, dialect, &text, kei_err(ctx));
    kei_log(ctx, KE_LOG_DEBUG, "cloud", "to %s: %s %s version %s (%s, answers %s)", p->name,
            ke_msg_operation(m), ke_msg_resource(m), ke_msg_resource_version(m), ke_msg_id(m),
            ke_msg_parent_id(m));
    if (r == 0)
        r = kei_ws_send(p->session->ws, text.p, text.n);
    ke_buf_free(&text);
    return r;
}

static int send_reply(struct kei_peer *p, const struct ke_msg *m)
{
    if (p->session && !p->session->failed && kei_ws_queued(p->session->ws) > UNREAD_MAX)
        kei_session_fail(p->session, "it asks and does not read: the limit of unread answers is 4 "
                                     "MiB");
    return kei_peer_send(p, m);
}

struct held {
    struct kei_link link;
    struct ke_msg *msg;
    int64_t due_ms;
};

static void held_free(struct kei_peer *p, struct held *h)
{
    kei_list_remove(&h->link);
    p->n_held--;
    ke_msg_unref(h->msg);
    kei_free(kei_ctx_alloc(p->cloud->ctx), h);
}

static void held_send(struct kei_peer *p, struct held *h)
{
    int r = send_reply(p, h->msg);
    if (r < 0)
        kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud", "a reply to node %s was not sent: %s", p->name,
                ke_ctx_error(p->cloud->ctx));
    if (r == KE_ENOMEM)
        kei_request_lost(p);
    held_free(p, h);
}

int kei_peer_reply(struct kei_peer *p, struct ke_msg *m)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    if (p->ours || !p->session)
        return send_reply(p, m);
    struct held *h = kei_zalloc(kei_ctx_alloc(ctx), sizeof *h);
    if (!h)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a reply to node %s", p->name);
    if (p->n_held == HELD_MAX)
        held_send(p, KEI_OF(p->held.next, struct held, link));
    h->msg = ke_msg_ref(m);
    h->due_ms = ke_ctx_mono_ms(ctx) + REPLY_HOLD_MS;
    kei_list_add_tail(&p->held, &h->link);
    p->n_held++;
    return kei_timer_armed(&p->held_due) ? 0 : kei_timer_at(&p->held_due, h->due_ms);
}

void kei_peer_on_held(struct kei_timer *t)
{
    struct kei_peer *p = KEI_OF(t, struct kei_peer, held_due);
    int64_t now = ke_ctx_mono_ms(p->cloud->ctx);
    while (!kei_list_empty(&p->held)) {
        struct held *h = KEI_OF(p->held.next, struct held, link);
        if (h->due_ms > now) {
            (void)kei_timer_at(t, h->due_ms);
            return;
        }
        held_send(p, h);
    }
}

void kei_peer_replies_drop(struct kei_peer *p)
{
    while (!kei_list_empty(&p->held))
        held_free(p, KEI_OF(p->held.next, struct held, link));
    kei_timer_stop(&p->held_due);
}

/* ---- receiving ---- */

/*
 * The dialect shows in a registration or status message, and is kept with the node. Queries and
 * updates of the Node are no sign: newer nodes send them in the old form too.
 */
static void learn_dialect(struct kei_peer *p, const struct ke_msg *m)
{
    struct kei_resource r;
    const char *op = ke_msg_operation(m);
    uint32_t found = KE_DIALECT_AUTO;
    if (strcmp(ke_msg_source(m), "edged") != 0 ||
        !kei_resource_parse(&r, kei_str(ke_msg_resource(m))))
        return;
    if (kei_str_is(r.type, "nodestatus") || kei_str_is(r.type, "podstatus"))
        found = KE_DIALECT_1_4;
    else if ((kei_str_is(r.type, "node") && strcmp(op, "insert") == 0) ||
             kei_str_is(r.type, "nodepatch"))
        found = kei_str_is(r.ns, "null") ? KE_DIALECT_1_23 : KE_DIALECT_1_15;
    if (found == KE_DIALECT_AUTO || found == p->dialect)
        return;
    p->dialect = found;
    kei_log(p->cloud->ctx, KE_LOG_INFO, "cloud", "node %s speaks dialect %s", p->name,
            kei_dialect_name(found));
    kei_devices_dialect(p);
}

static void on_message(void *user, const char *bytes, size_t n)
{
    struct kei_session *s = user;
    struct kei_peer *p = s->peer;
    struct ke_cloud *c = p->cloud;
    struct ke_msg *m = NULL;
    if (s->failed)
        return;
    s->heard_ms = ke_ctx_mono_ms(c->ctx);
    if (ke_msg_decode(&m, c->ctx, bytes, n, kei_err(c->ctx)) < 0) {
        /* as upstream: a peer that cannot form a message is not worth a connection */
        kei_session_close(s, ke_ctx_error(c->ctx));
        return;
    }
    if (strcmp(ke_msg_operation(m), "keepalive") == 0) {
        (void)kei_timer_in(&s->keepalive, KEEPALIVE_MS);
    } else if (!kei_msg_is_empty(m)) {
        kei_log(c->ctx, KE_LOG_DEBUG, "cloud", "from %s: %s %s (%s, answers %s)", p->name,
                ke_msg_operation(m), ke_msg_resource(m), ke_msg_id(m), ke_msg_parent_id(m));
        learn_dialect(p, m);
        kei_upstream(p, m);
    }
    ke_msg_unref(m);
}

static void on_skipped(void *user, uint64_t n, const char *head, size_t head_n)
{
    struct kei_session *s = user;
    struct ke_cloud *c = s->peer->cloud;
    struct kei_msg_view v;
    struct kei_arena a;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 64u * 1024u);
    kei_msg_view_head(&v, kei_strn(head, head_n), &a);
    kei_log(c->ctx, KE_LOG_ERROR, "cloud",
            "a message of node %s was skipped: %llu bytes, limit max_message %u (id %.*s, %.*s "
            "%.*s)",
            s->peer->name, (unsigned long long)n, (unsigned)c->config.max_message, KEI_FMT(v.id),
            KEI_FMT(v.operation), KEI_FMT(v.resource));
    kei_arena_free(&a);
}

static void on_drained(void *user)
{
    struct kei_session *s = user;
    kei_deliver_kick(s->peer);
}

static void on_closed(void *user, int status, const char *text, uint32_t http_status)
{
    (void)status;
    (void)http_status;
    kei_session_close(user, text);
}

static const struct kei_ws_ops session_ops = {
    .message = on_message, .skipped = on_skipped, .drained = on_drained, .closed = on_closed};

/* ---- connections ---- */

/* Whose certificate it is; its chain was checked by the handshake. */
static int check_identity(struct ke_cloud *c, struct kei_http_conn *conn, const char *node,
                          struct kei_identity *ret)
{
    struct ke_error *err = kei_err(c->ctx);
    struct ke_buf der = {0};
    struct kei_cert *cert = NULL;
    kei_buf_init(&der, kei_ctx_alloc(c->ctx));
    int r = kei_stream_peer_cert(kei_http_conn_stream(conn), &der);
    if (r == 0)
        r = kei_cert_from_der(&cert, c->pki.crypto, kei_buf_str(&der), err);
    if (r == 0)
        r = kei_identity_check(c, cert, node, ret, err);
    kei_cert_free(cert);
    ke_buf_free(&der);
    return r;
}

/*
 * The newest connection wins: a node that comes back must not wait until its old one is seen to be
 * dead. But two programs that live and bear one name would throw each other out for ever. When that
 * was seen a few times, who is in stays for a while, longer each time; the other is refused and
 * backs off.
 */
static bool duel(struct kei_peer *p, struct kei_http_conn *conn, const uint8_t cert[32])
{
    struct ke_cloud *c = p->cloud;
    struct kei_session *s = p->session;
    int64_t now = ke_ctx_mono_ms(c->ctx), left;
    if (now - p->taken_ms > DUEL_FORGET_MS)
        p->takes = 0;
    if (!s || s->failed || now - s->heard_ms > ALIVE_MS || p->takes < DUEL_TAKES)
        return false;
    left = p->taken_ms + p->hold_ms - now;
    if (left <= 0)
        return false;
    if (!s->refused)
        kei_log(c->ctx, KE_LOG_ERROR, "cloud",
                "two programs connect as node %s, with %s: the one at %s stays for %lld s, the one "
                "at %s is refused; give one of them another name",
                p->name,
                memcmp(cert, s->cert, 32) == 0 ? "the same certificate (a copied data folder?)"
                                               : "different certificates",
                kei_stream_peer_name(kei_ws_stream(s->ws)), (long long)(left + 999) / 1000,
                kei_stream_peer_name(kei_http_conn_stream(conn)));
    s->refused = true;
    return true;
}

/* fresh replaces the session of p. */
static void take_over(struct kei_peer *p, const struct kei_session *fresh)
{
    struct ke_cloud *c = p->cloud;
    int64_t now = ke_ctx_mono_ms(c->ctx);
    char old[80];
    snprintf(old, sizeof old, "%s", kei_stream_peer_name(kei_ws_stream(p->session->ws)));
    kei_log(c->ctx, KE_LOG_WARN, "cloud",
            "node %s connected again, from %s: this newer connection stays, the one from %s ends",
            p->name, kei_stream_peer_name(kei_ws_stream(fresh->ws)), old);
    if (now - p->session->heard_ms > ALIVE_MS)
        return; /* it was dead: no sign of a second program */
    p->takes++;
    p->taken_ms = now;
    p->hold_ms = p->takes <= DUEL_TAKES ? DUEL_HOLD_MS : p->hold_ms * 2;
    if (p->hold_ms > DUEL_HOLD_MAX_MS)
        p->hold_ms = DUEL_HOLD_MAX_MS;
}

static void refuse(struct kei_http_conn *conn, uint32_t status, const char *text)
{
    (void)kei_http_respond(conn, status, "text/plain", NULL, kei_str(text));
}

static void open_session(struct ke_cloud *c, struct kei_peer *p, struct kei_http_conn *conn,
                         struct ke_str answer, const uint8_t cert[32], bool ours, bool merges,
                         struct ke_str store, struct ke_str newest)
{
    struct kei_session *s = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *s);
    struct kei_ws_config wc = {.max_message = c->config.max_message,
                               .ping_ms = PING_MS,
                               .dead_ms = KEEPALIVE_MS + PING_MS};
    if (!s) {
        refuse(conn, 503, "out of memory");
        return;
    }
    s->peer = p;
    s->heard_ms = ke_ctx_mono_ms(c->ctx);
    memcpy(s->cert, cert, sizeof s->cert);
    struct kei_stream *stream = kei_http_upgrade(conn, answer);
    if (!stream || kei_ws_accepted(&s->ws, c->ctx, stream, &wc, &session_ops, s) < 0) {
        kei_stream_free(stream);
        kei_free(kei_ctx_alloc(c->ctx), s);
        return;
    }
    if (p->session) {
        take_over(p, s);
        session_free(p->session);
    }
    s->generation = ++c->generation;
    c->sessions++;
    p->session = s;
    p->ours = ours;
    p->merges = merges;
    kei_timer_init(c->ctx, &s->keepalive, on_keepalive_missing);
    (void)kei_timer_in(&s->keepalive, KEEPALIVE_MS);
    kei_log(c->ctx, KE_LOG_INFO, "cloud", "node %s connected from %s", p->name,
            kei_stream_peer_name(kei_ws_stream(s->ws)));
    kei_lost_check(p, store);
    kei_lost_compare(p, newest);
    kei_push_references(p);
    kei_devices_connected(p);
    kei_deliver_kick(p);
    if (p->node)
        kei_tell_node(c, p->node, false);
}

/* A connection that may be served when it is on disk whose its certificate is. */
struct joining {
    struct kei_link link; /* in cloud->joining */
    struct ke_cloud *cloud;
    struct kei_http_conn *conn; /* NULL: it went */
    struct ke_buf answer;
    uint8_t cert[32];
    bool ours, merges;
    char node[KEI_NODE_NAME_MAX + 1];
    char store[KEI_STORE_ID_MAX + 2]; /* one more: too long is seen */
    char newest[24];
};

static void joining_free(struct joining *j)
{
    kei_list_remove(&j->link);
    ke_buf_free(&j->answer);
    kei_free(kei_ctx_alloc(j->cloud->ctx), j);
}

static void admit(struct joining *j)
{
    struct ke_cloud *c = j->cloud;
    struct kei_peer *p = kei_peer_get(c, j->node, false);
    if (c->sessions >= c->config.max_nodes && !(p && p->session)) {
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "node %s refused: the limit max_nodes is %u",
                j->node, (unsigned)c->config.max_nodes);
        refuse(j->conn, 503, "too many nodes");
    } else if (p && duel(p, j->conn, j->cert)) {
        refuse(j->conn, 503, "another program is connected with this node name");
    } else if ((p = kei_peer_get(c, j->node, true))) {
        open_session(c, p, j->conn, kei_buf_str(&j->answer), j->cert, j->ours, j->merges,
                     kei_str(j->store), kei_str(j->newest));
        kei_peer_check(p);
    } else {
        refuse(j->conn, 503, "out of memory");
    }
}

static void on_bound(void *user, int status)
{
    struct joining *j = user;
    if (j->conn && j->cloud->state == KEI_CLOUD_LOADED) {
        if (status < 0)
            refuse(j->conn, 503, "the cloud could not store whose the certificate is");
        else
            admit(j);
    }
    joining_free(j);
}

/* One more line in the answer to the upgrade. */
static int say_merge(struct ke_cloud *c, struct ke_buf *answer)
{
    answer->n -= strlen("\r\n");
    kei_buf_addf(answer, KEI_MERGE_HEADER ": 1 %lld\r\n\r\n", (long long)kei_cloud_merge_now(c));
    return kei_buf_ok(answer) ? 0 : kei_fail(c->ctx, KE_ENOMEM, "out of memory for an answer");
}

static void join(struct ke_cloud *c, struct kei_http_conn *conn, const struct kei_http_head *head,
                 const char *node, const struct kei_identity *id)
{
    struct joining *j = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *j);
    if (!j) {
        refuse(conn, 503, "out of memory");
        return;
    }
    j->cloud = c;
    j->conn = conn;
    j->ours = kei_str_starts(kei_http_header(head, "User-Agent"), KEI_STR("libkubeedge/"));
    memcpy(j->cert, id->digest, sizeof j->cert);
    snprintf(j->node, sizeof j->node, "%.*s", KEI_NODE_NAME_MAX, node);
    struct ke_str store = kei_http_header(head, KEI_STORE_HEADER);
    snprintf(j->store, sizeof j->store, "%.*s", KEI_FMT(store));
    struct ke_str newest = kei_http_header(head, KEI_NEWEST_HEADER);
    snprintf(j->newest, sizeof j->newest, "%.*s", KEI_FMT(newest));
    kei_buf_init(&j->answer, kei_ctx_alloc(c->ctx));
    kei_list_add_tail(&c->joining, &j->link);
    j->merges = kei_str_is(kei_http_header(head, KEI_MERGE_HEADER), "1");
    if (kei_ws_server_handshake(head, &j->answer, kei_err(c->ctx)) < 0 ||
        (j->merges && say_merge(c, &j->answer) < 0)) {
        refuse(conn, 400, ke_ctx_error(c->ctx));
    } else {
        int r = kei_identity_bind(c, &id, 1, node, on_bound, j, kei_err(c->ctx));
        if (r == 0)
            return;
        if (r > 0)
            admit(j);
        else
            refuse(conn, r == KE_EREFUSED ? 403 : 503, ke_ctx_error(c->ctx));
    }
    joining_free(j);
}

static void on_request(void *user, struct kei_http_conn *conn, const struct kei_http_head *head,
                       struct ke_str body)
{
    struct ke_cloud *c = user;
    struct kei_identity id;
    char node[256];
    (void)body;
    struct ke_str name = kei_http_header(head, "Node_id");
    snprintf(node, sizeof node, "%.*s", (int)(name.n < 255 ? name.n : 255), name.p ? name.p : "");
    if (c->state != KEI_CLOUD_LOADED) {
        refuse(conn, 503, "the cloud is starting");
    } else if (name.n > KEI_NODE_NAME_MAX || !kei_dns_subdomain(kei_str(node))) {
        refuse(conn, 400, "header Node_id is missing or no node name");
    } else if (!kei_str_is(kei_http_header(head, "ConnectionUse"), "msg")) {
        refuse(conn, 400, "header ConnectionUse is not msg");
    } else if (check_identity(c, conn, node, &id) < 0) {
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "refused: %s", ke_ctx_error(c->ctx));
        refuse(conn, 403, ke_ctx_error(c->ctx));
    } else {
        join(c, conn, head, node, &id);
    }
}

static void on_request_closed(void *user, struct kei_http_conn *conn)
{
    struct ke_cloud *c = user;
    KEI_LIST_EACH(l, &c->joining)
    {
        struct joining *j = KEI_OF(l, struct joining, link);
        if (j->conn == conn)
            j->conn = NULL;
    }
}

int kei_sessions_start(struct ke_cloud *c)
{
    struct kei_http_server_config hc = {
        .listener = {.host = c->config.listen,
                     .port =
                         c->config.tunnel_port == KE_PORT_ANY ? 0 : (uint16_t)c->config.tunnel_port,
                     .tls = c->pki.tunnel_tls,
                     .max_streams = c->tunnel_streams,
                     .max_handshakes = c->handshakes,
                     .dead_ms = KEEPALIVE_MS,
                     .send_cap = SEND_CAP},
        .max_body = 1024,
    };
    static const struct kei_http_server_ops ops = {.request = on_request,
                                                   .closed = on_request_closed};
    return kei_http_server_new(&c->tunnel, c->ctx, &hc, &ops, c);
}
