/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over the link: the upgrade, keepalives and pings, messages both ways. Owns the
 * WebSocket. A keepalive allocates nothing here: its text is prebuilt.
 */
#include <stdio.h>

#include "base/log.h"
#include "message/dialect.h"
#include "message/msg_priv.h"
#include "net/tls.h"
#include "tunnel/hub.h"
#include "tunnel/tunnel_priv.h"

#define OUT_KEEP 8192u          /* encoding memory kept between messages */
#define SEND_EXTRA (1u << 20)   /* queued besides one message of the largest size */
#define OUTBOX_QUEUE (1u << 18) /* bytes queued: the outbox waits */
#define HEADERS_MAX 1024

/* ---- sending ---- */

/* Replies that upstream gives to what the outbox sends: from 1.15 on, and to these only. */
static bool is_answered(const struct ke_msg *m, uint32_t dialect)
{
    const char *op = ke_msg_operation(m);
    struct ke_str resource = kei_str(ke_msg_resource(m));
    struct kei_resource res;

    if (dialect == KE_DIALECT_1_4 || !kei_resource_parse(&res, resource))
        return false;
    if (strcmp(op, "patch") == 0)
        return kei_str_is(res.type, "podpatch") || kei_str_is(res.type, "nodepatch");
    if (strcmp(op, "delete") == 0)
        return kei_str_is(res.type, "pod");
    return strcmp(op, "update") == 0 && (kei_str_is(res.type, "podstatus") ||
                                         kei_str_ends(resource, KEI_STR("/twin/edge_updated")));
}

static int put(struct ke_tunnel *t, struct ke_msg *m, uint32_t dialect)
{
    int r = ke_msg_encode(m, t->ctx, dialect, &t->out, kei_err(t->ctx));

    if (r == 0)
        r = kei_ws_send(t->ws, t->out.p, t->out.n);
    kei_buf_clear(&t->out);
    if (t->out.cap > OUT_KEEP) {
        ke_buf_free(&t->out);
        kei_buf_init(&t->out, t->alloc);
    }
    return r;
}

int kei_wire_send(struct ke_tunnel *t, struct ke_msg *m, bool *ret_answered)
{
    uint32_t dialect = kei_tunnel_dialect(t);
    struct ke_msg *out = NULL;
    int r;

    if (t->step != KEI_STEP_UP || !t->ws)
        return kei_fail(t->ctx, KE_ECLOSED, "node %s is not connected to %s", t->conf.node_name,
                        t->conf.host);
    r = kei_dialect_translate(&out, t->ctx, m, dialect, kei_err(t->ctx));
    if (r < 0)
        return r;
    if (!out)
        return kei_fail(t->ctx, KE_ENOTSUP, "dialect %s has no message %s %s",
                        kei_dialect_name(dialect), ke_msg_operation(m), ke_msg_resource(m));
    r = put(t, out, dialect);
    if (r == KE_ELIMIT)
        r = KE_EAGAIN;
    if (r == 0) {
        t->sent++;
        if (ret_answered)
            *ret_answered = is_answered(out, dialect);
    }
    ke_msg_unref(out);
    return r;
}

static int send_ping(struct ke_tunnel *t)
{
    int r = kei_ws_ping(t->ws);

    if (r == 0)
        t->pings++;
    return r;
}

static void beat(struct ke_tunnel *t)
{
    char uuid[37];
    struct ke_str text;

    (void)kei_timer_in(&t->beat, t->conf.heartbeat_ms);
    if (kei_ctx_uuid(t->ctx, uuid) < 0)
        return;
    text = kei_keepalive_make(&t->keepalive, uuid, ke_ctx_real_ms(t->ctx));
    if (kei_ws_send(t->ws, text.p, text.n) == 0)
        t->sent++;
}

static void on_beat(struct kei_timer *timer)
{
    struct ke_tunnel *t = KEI_OF(timer, struct ke_tunnel, beat);

    kei_tunnel_enter(t);
    beat(t);
    kei_tunnel_leave(t);
}

/* Clouds never answer keepalives: pings of our own keep a silent but living link apart from a dead
 * one, which dead_ms then finds. */
static uint32_t ping_period(const struct ke_tunnel *t)
{
    uint32_t half = t->conf.dead_ms / 2 ? t->conf.dead_ms / 2 : 1;

    return t->conf.heartbeat_ms < half ? t->conf.heartbeat_ms : half;
}

static void on_ping_due(struct kei_timer *timer)
{
    struct ke_tunnel *t = KEI_OF(timer, struct ke_tunnel, ping);

    kei_tunnel_enter(t);
    (void)kei_timer_in(&t->ping, ping_period(t));
    (void)send_ping(t); /* a full queue: the next one, or the end by dead_ms */
    kei_tunnel_leave(t);
}

/* ---- receiving ---- */

static void deliver(struct ke_tunnel *t, struct ke_msg *m)
{
    if (t->hub_ops.message)
        t->hub_ops.message(t->hub_user, m);
    else if (t->ops.message)
        t->ops.message(t->user, m);
}

static void take(struct ke_tunnel *t, struct ke_msg *m)
{
    struct ke_str id = kei_str(ke_msg_id(m));

    if (kei_msg_is_empty(m))
        return;
    if (*ke_msg_parent_id(m))
        (void)kei_outbox_reply(t->outbox, m);
    if (kei_msg_needs_ack(m, kei_tunnel_dialect(t))) {
        switch (kei_seen_check(&t->seen, id, ke_ctx_mono_ms(t->ctx))) {
        case KEI_SEEN_WORKING:
            return;
        case KEI_SEEN_ACKED:
            if (ke_tunnel_ack(t, m) < 0)
                kei_log(t->ctx, KE_LOG_WARN, "tunnel", "message %s was not acknowledged again: %s",
                        id.p, ke_ctx_error(t->ctx));
            return;
        default:
            break;
        }
    }
    deliver(t, m);
}

static void on_message(void *user, const char *p, size_t n)
{
    struct ke_tunnel *t = user;
    struct ke_msg *m = NULL;
    struct ke_error err = KE_ERROR_INIT;
    int r;

    kei_tunnel_enter(t);
    t->received++;
    r = ke_msg_decode(&m, t->ctx, p, n, &err);
    if (r < 0)
        kei_tunnel_error(t, r, "a message of the cloud (%zu bytes) was left unread: %s", n,
                         err.text);
    else
        take(t, m);
    ke_msg_unref(m);
    kei_tunnel_leave(t);
}

static void on_skipped(void *user, uint64_t n, const char *head, size_t head_n)
{
    struct ke_tunnel *t = user;
    struct kei_arena arena;
    struct kei_msg_view v;

    kei_tunnel_enter(t);
    t->skipped++;
    kei_arena_init(&arena, t->alloc, 64u * 1024);
    kei_msg_view_head(&v, kei_strn(head, head_n), &arena);
    kei_tunnel_error(t, KE_ELIMIT,
                     "a message of the cloud was skipped: %llu bytes, limit max_message %u "
                     "(id %.*s, %.*s %.*s)",
                     (unsigned long long)n, t->conf.max_message, KEI_FMT(v.id),
                     KEI_FMT(v.operation), KEI_FMT(v.resource));
    kei_arena_free(&arena);
    kei_tunnel_leave(t);
}

static void on_pong(void *user)
{
    struct ke_tunnel *t = user;

    kei_tunnel_enter(t);
    t->pongs++;
    if (t->outbox_ping && t->pongs >= t->outbox_ping) {
        t->outbox_ping = 0;
        kei_outbox_pong(t->outbox);
    }
    kei_tunnel_leave(t);
}

static void on_drained(void *user)
{
    struct ke_tunnel *t = user;

    kei_tunnel_enter(t);
    if (t->outbox)
        kei_outbox_pump(t->outbox);
    kei_tunnel_leave(t);
}

/* ---- the outbox's side ---- */

static int outbox_transmit(void *user, struct ke_msg *m, bool *ret_answered)
{
    struct ke_tunnel *t = user;

    if (t->ws && kei_ws_queued(t->ws) > OUTBOX_QUEUE)
        return KE_EAGAIN;
    return kei_wire_send(t, m, ret_answered);
}

static int outbox_ping(void *user)
{
    struct ke_tunnel *t = user;
    int r = t->ws && t->step == KEI_STEP_UP ? send_ping(t) : KE_ECLOSED;

    if (r == 0)
        t->outbox_ping = t->pings;
    return r;
}

static void outbox_gone(void *user, struct ke_msg *m, int status)
{
    struct ke_tunnel *t = user;

    kei_tunnel_enter(t);
    if (t->hub_ops.sent)
        t->hub_ops.sent(t->hub_user, m, status);
    if (!t->freed && t->ops.sent)
        t->ops.sent(t->user, m, status);
    kei_tunnel_leave(t);
}

void kei_wire_acked(struct ke_tunnel *t, const char *id)
{
    kei_seen_ack(&t->seen, kei_str(id));
}

void kei_wire_refused(struct ke_tunnel *t, const struct ke_msg *m)
{
    kei_seen_forget(&t->seen, kei_str(ke_msg_id(m)));
}

/* ---- the link ---- */

static void drop(struct ke_tunnel *t)
{
    if (!t->ws)
        return;
    t->bytes_in += kei_ws_bytes_in(t->ws);
    t->bytes_out += kei_ws_bytes_out(t->ws);
    kei_ws_free(t->ws);
    t->ws = NULL;
    kei_timer_stop(&t->beat);
    kei_timer_stop(&t->ping);
    t->pings = t->pongs = t->outbox_ping = 0;
    ke_buf_free(&t->out);
    kei_buf_init(&t->out, t->alloc);
    kei_outbox_link(t->outbox, false);
}

/* "1 NOW", of a cloud of ours. */
static void on_answer(void *user, const struct kei_http_head *head)
{
    struct ke_tunnel *t = user;
    struct ke_str now, version = kei_str_cut(kei_http_header(head, KEI_MERGE_HEADER), ' ', &now);

    t->merge_now_ms = 0;
    t->merges = t->offer_merge && kei_str_is(version, "1") && now.p &&
                kei_str_i64(now, &t->merge_now_ms) && t->merge_now_ms >= 0;
}

static void on_open(void *user)
{
    struct ke_tunnel *t = user;

    kei_tunnel_enter(t);
    snprintf(t->local_ip, sizeof t->local_ip, "%s", kei_stream_local_ip(kei_ws_stream(t->ws)));
    kei_link_event(t, KEI_EV_OPEN, 0);
    kei_tunnel_leave(t);
}

static void note_failure(struct ke_tunnel *t, int status, const char *text, uint32_t http_status)
{
    bool expired = kei_identity_whole(&t->id) && kei_tunnel_now(t) >= t->id.info.not_after;
    const char *hint = "";

    if (http_status == 401 || http_status == 403)
        status = KE_EREFUSED;
    if (status == KE_EREFUSED && t->step == KEI_STEP_DIAL) {
        hint = expired ? " (this node's certificate has expired: configure a new join token)"
                       : " (this node's certificate was refused)";
        kei_identity_rejected(t);
    }
    if (kei_str_starts(kei_str(text), KEI_STR(KEI_STREAM_NOT_OPENED))) /* says all of it */
        kei_tunnel_error(t, status, "%s%s", text, hint);
    else
        kei_tunnel_error(t, status, "%s %s:%u: %s%s",
                         t->step == KEI_STEP_UP ? "the link was lost to" : "could not connect to",
                         t->conf.host, t->conf.tunnel_port, text, hint);
}

static void on_closed(void *user, int status, const char *text, uint32_t http_status)
{
    struct ke_tunnel *t = user;

    kei_tunnel_enter(t);
    note_failure(t, status, text, http_status);
    drop(t);
    kei_link_event(t, KEI_EV_CLOSED, status);
    kei_tunnel_leave(t);
}

static const struct kei_ws_ops ws_ops = {
    .open = on_open,
    .answer = on_answer,
    .message = on_message,
    .skipped = on_skipped,
    .pong = on_pong,
    .drained = on_drained,
    .closed = on_closed,
};

int kei_wire_dial(struct ke_tunnel *t)
{
    struct kei_tls_options o = {.verify_peer = true,
                                .ca = kei_tunnel_ca(t),
                                .cert = t->id.cert,
                                .key = t->id.key ? t->id.key : t->host_key,
                                .now = kei_tunnel_now,
                                .now_user = t};
    struct kei_tls_config *tls = NULL;
    struct kei_ws_config c = {.max_message = t->conf.max_message, .dead_ms = t->conf.dead_ms};
    struct kei_stream_config s = {.host = t->conf.host,
                                  .port = (uint16_t)t->conf.tunnel_port,
                                  .proxy_url = t->conf.proxy_url,
                                  .dead_ms = t->conf.dead_ms,
                                  .send_cap = (size_t)t->conf.max_message + SEND_EXTRA};
    char target[600], headers[HEADERS_MAX];
    int r = kei_tls_config_new(&tls, t->ctx, &o);

    if (r < 0)
        return r;
    s.tls = tls;
    snprintf(target, sizeof target, "/%s/%s/events", t->conf.project_id, t->conf.node_name);
    snprintf(headers, sizeof headers, "Connectionuse: msg\r\nNode_id: %s\r\nProject_id: %s\r\n",
             t->conf.node_name, t->conf.project_id);
    if (t->store_id[0]) {
        size_t n = strlen(headers);
        snprintf(headers + n, sizeof headers - n, KEI_STORE_HEADER ": %s\r\n", t->store_id);
    }
    int64_t newest = t->newest ? t->newest(t->newest_user) : -1;
    if (newest >= 0) {
        size_t n = strlen(headers);
        snprintf(headers + n, sizeof headers - n, KEI_NEWEST_HEADER ": %lld\r\n",
                 (long long)newest);
    }
    if (t->offer_merge) {
        size_t n = strlen(headers);
        snprintf(headers + n, sizeof headers - n, KEI_MERGE_HEADER ": 1\r\n");
    }
    t->merges = false;
    r = kei_ws_connect(&t->ws, t->ctx, &s, target, headers, &c, &ws_ops, t);
    kei_tls_config_unref(tls);
    return r;
}

void kei_wire_up(struct ke_tunnel *t)
{
    kei_keepalive_init(&t->keepalive, kei_tunnel_dialect(t));
    beat(t);
    (void)kei_timer_in(&t->ping, ping_period(t));
    kei_outbox_link(t->outbox, true);
}

void kei_wire_down(struct ke_tunnel *t)
{
    drop(t);
}

int kei_wire_init(struct ke_tunnel *t)
{
    static const struct kei_outbox_ops ops = {
        .transmit = outbox_transmit,
        .ping = outbox_ping,
        .gone = outbox_gone,
    };
    struct kei_outbox_limits limits = {t->conf.outbox_messages, t->conf.outbox_bytes};

    kei_buf_init(&t->out, t->alloc);
    kei_timer_init(t->ctx, &t->beat, on_beat);
    kei_timer_init(t->ctx, &t->ping, on_ping_due);
    return kei_outbox_new(&t->outbox, t->ctx, t->conf.store, &limits, &ops, t);
}

void kei_wire_fini(struct ke_tunnel *t)
{
    kei_ws_free(t->ws);
    t->ws = NULL;
    kei_timer_fini(&t->beat);
    kei_timer_fini(&t->ping);
    ke_buf_free(&t->out);
    kei_outbox_free(t->outbox);
    t->outbox = NULL;
}
