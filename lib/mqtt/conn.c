/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection from accept to its end: cutting packets out of what arrives, deadlines, closing. It
 * is freed at the end of a turn only, so it may be closed from anywhere. Loop thread.
 */
#include "mqtt/journal.h"
#include "mqtt/server.h"
#include "mqtt/via.h"
#include "net/addr.h"

#include <stdarg.h>
#include <stdio.h>

#define CLOSE_MS 5000 /* for the last bytes of a connection that is being closed */

void kei_mq_log(struct mq_conn *c, uint32_t level, const char *fmt, ...)
{
    char text[MQ_TEXT + 100], addr[KEI_ADDR_TEXT];
    va_list ap;

    if (!kei_log_on(c->m->ctx, level))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    kei_mq_peer_name(c, addr);
    if (c->s)
        kei_log(c->m->ctx, level, "mqtt", "client \"%.*s\" (%s): %s", KEI_FMT(mq_id(c->s)), addr,
                text);
    else
        kei_log(c->m->ctx, level, "mqtt", "connection from %s: %s",
                *addr ? addr : "a peer that has gone", text);
}

void kei_mq_dirty(struct mq_conn *c)
{
    if (c->flags & MQ_C_DIRTY)
        return;
    c->flags |= MQ_C_DIRTY;
    kei_list_add_tail(&c->m->dirty, &c->dirty);
    if (!kei_ctx_in_turn(c->m->ctx))
        kei_wake(&c->m->wake);
}

struct mq_conn *kei_mq_conn_new(struct mq_listener *l)
{
    struct ke_mqtt *m = l->m;
    struct mq_conn *c = kei_zalloc(m->alloc, sizeof *c);

    if (!c)
        return NULL;
    c->m = m;
    c->l = l;
    c->io.fd = -1;
    c->state = MQ_NEW;
    c->max_packet = KEI_MQTT_MAX_PACKET;
    c->heard_ms = c->moved_ms = m->now;
    c->flags = MQ_C_COUNTED;
    m->n_pending++;
    l->refs++;
    l->n_conns++;
    kei_list_add_tail(&m->conns, &c->link);
    m->st.connections++;
    if (m->st.connections > m->st.max_connections_seen)
        m->st.max_connections_seen = m->st.connections;
    kei_mq_wheel_set(&m->wheel, &c->timer, 0, m->now + m->lim.connect_ms);
    return c;
}

/* ---- what callbacks see ---- */

void kei_mq_conn_client(struct mq_conn *c, struct ke_mqtt_client *ret, char *address,
                        struct ke_buf *cert)
{
    memset(ret, 0, sizeof *ret);
    ret->size = sizeof *ret;
    if (c->s) {
        ret->client_id = kei_mqtt_give(mq_id(c->s));
        ret->session_expiry = c->s->expiry_s;
    }
    ret->user_name = kei_mqtt_give(kei_str(c->user_name));
    if (c->who && c->m->access)
        ret->identity = kei_mqtt_give(c->m->access->ops->identity(c->who));
    if (address) {
        kei_mq_peer_name(c, address);
        ret->address = kei_mqtt_give(kei_str(address));
    }
    if (c->l)
        ret->listener = kei_mqtt_give(kei_str(c->l->name));
    if (cert && kei_mq_via_cert(c, cert) == 0)
        ret->cert = kei_mqtt_give(kei_buf_str(cert));
    ret->version = c->version;
    ret->keepalive = c->keepalive;
}

void kei_mq_event(struct mq_conn *c, uint32_t what, unsigned reason, struct ke_str topic,
                  const char *text)
{
    struct ke_mqtt *m = c->m;
    char addr[KEI_ADDR_TEXT];
    struct ke_mqtt_client cl;

    if (!m->ops.event)
        return;
    kei_mq_conn_client(c, &cl, addr, NULL);
    struct ke_mqtt_event e = {sizeof e, what, reason, &cl, {topic.p, topic.n}, {text, 0}};
    e.text.n = text ? strlen(text) : 0;
    kei_mq_enter(m);
    m->ops.event(m->user, &e);
    kei_mq_leave(m);
}

/* ---- the end ---- */

/* The session goes on without it. */
void kei_mq_detach(struct mq_conn *c)
{
    struct mq_session *s = c->s;

    if (c->flags & MQ_C_TOLD) {
        c->flags &= (uint16_t)~MQ_C_TOLD;
        c->m->st.disconnects++;
        kei_mq_event(c, KE_MQTT_EVENT_DISCONNECTED, c->close_reason, kei_strn(NULL, 0),
                     kei_mqtt_reason_text(c->close_reason));
    }
    if (!s)
        return;
    c->s = NULL;
    if (s->conn != c)
        return;
    s->conn = NULL;
    if (c->flags & MQ_C_CLEAN_END)
        kei_mq_will_free(s);
    kei_mq_session_away(s);
}

static void uncount(struct mq_conn *c)
{
    if (c->flags & MQ_C_COUNTED)
        c->m->n_pending--;
    c->flags &= (uint16_t)~MQ_C_COUNTED;
}

void kei_mq_conn_free(struct mq_conn *c)
{
    struct ke_mqtt *m = c->m;

    c->state = MQ_DEAD;
    uncount(c);
    kei_mq_wheel_stop(&m->wheel, &c->timer);
    kei_mq_transport_end(c);
    kei_mq_auth_gone(c);
    kei_mq_gate_free(c);
    kei_mq_detach(c);
    if (c->who && m->access)
        m->access->ops->forget(m->access, c->who);
    kei_mq_out_clear(m, &c->out);
    kei_mq_aliases_free(c);
    kei_list_remove(&c->link);
    kei_list_remove(&c->dirty);
    m->st.connections--;
    c->l->n_conns--;
    kei_mq_listener_resume(c->l);
    kei_mq_listener_unref(c->l);
    kei_free(m->alloc, c->user_name);
    kei_free(m->alloc, c->rx);
    kei_free(m->alloc, c);
}

void kei_mq_conn_lost(struct mq_conn *c, const char *why)
{
    if (c->state == MQ_DEAD)
        return;
    if (c->state != MQ_CLOSING) {
        kei_mq_log(c, KE_LOG_INFO, "%s", why);
        if (!(c->flags & MQ_C_CLEAN_END))
            c->close_reason = KEI_MQTT_R_UNSPECIFIED;
    }
    c->state = MQ_DEAD;
    kei_mq_transport_end(c);
    kei_mq_out_clear(c->m, &c->out);
    kei_mq_dirty(c);
}

static void send_disconnect(struct mq_conn *c, unsigned reason)
{
    uint8_t p[3] = {KEI_MQTT_DISCONNECT << 4, reason ? 1 : 0, (uint8_t)reason};

    if (kei_mq_out_add(c->m, &c->out, p, reason ? 3 : 2))
        c->m->st.packets_out++;
}

void kei_mq_conn_close(struct mq_conn *c, unsigned reason, const char *fmt, ...)
{
    char text[MQ_TEXT];
    va_list ap;

    if (c->state == MQ_DEAD || c->state == MQ_CLOSING)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bool fault = reason >= 0x80 && reason != KEI_MQTT_R_SHUTTING_DOWN &&
                 reason != KEI_MQTT_R_TAKEN_OVER && reason != KEI_MQTT_R_KEEPALIVE;
    if (fault)
        c->m->st.protocol_errors++;
    kei_mq_log(c, fault ? KE_LOG_WARN : KE_LOG_INFO, "closed: %s%s%s (0x%02x)", text,
               text[0] ? ": " : "", kei_mqtt_reason_text(reason), reason);
    if (c->state == MQ_UP && c->version == KEI_MQTT_V5 && !(c->flags & MQ_C_CLEAN_END))
        send_disconnect(c, reason);
    c->close_reason = (uint8_t)reason;
    c->state = MQ_CLOSING;
    kei_mq_wheel_set(&c->m->wheel, &c->timer, 0, c->m->now + CLOSE_MS);
    kei_mq_dirty(c);
}

/* ---- deadlines ---- */

/* The next moment anything about c can be due. */
void kei_mq_conn_arm(struct mq_conn *c)
{
    struct ke_mqtt *m = c->m;
    int64_t due = MQ_NEVER;

    if (c->state == MQ_UP && c->keepalive)
        due = c->heard_ms + (int64_t)c->keepalive * 1500;
    if (c->state == MQ_UP && c->out.n && c->moved_ms + m->lim.stall_ms < due)
        due = c->moved_ms + m->lim.stall_ms;
    if (due != MQ_NEVER)
        kei_mq_wheel_set(&m->wheel, &c->timer, 0, due);
}

void kei_mq_conn_timer(struct mq_wheel_item *w)
{
    struct mq_conn *c = KEI_OF(w, struct mq_conn, timer);
    struct ke_mqtt *m = c->m;

    mq_now(m);
    switch (c->state) {
    case MQ_NEW:
        m->st.over_connect_time++;
        kei_mq_conn_lost(c, "no CONNECT came within the time for it");
        return;
    case MQ_AUTH:
    case MQ_EXCHANGE:
        m->st.over_auth_time++;
        kei_mq_auth_timeout(c);
        return;
    case MQ_UP:
        break;
    default:
        kei_mq_conn_lost(c, "it did not take the last bytes");
        return;
    }
    if (c->keepalive && c->heard_ms + (int64_t)c->keepalive * 1500 <= m->now) {
        kei_mq_conn_close(c, KEI_MQTT_R_KEEPALIVE, "silent for more than 1.5 times %u s",
                          c->keepalive);
        return;
    }
    if (c->out.n && c->moved_ms + m->lim.stall_ms <= m->now) {
        m->st.over_stall++;
        kei_mq_conn_lost(c, "it took nothing of its output for the time allowed (stall_ms)");
        return;
    }
    kei_mq_conn_arm(c);
}

/* ---- packets out of bytes ---- */

static void first_packet(struct mq_conn *c, const struct kei_mqtt_frame *f, struct ke_str body)
{
    if (kei_mqtt_frame_type(f) == KEI_MQTT_CONNECT) {
        uncount(c);
        kei_mq_connect(c, f->first, body);
        return;
    }
    kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "first packet was %s, not CONNECT",
                      kei_mqtt_type_name(kei_mqtt_frame_type(f)));
}

static void bad_header(struct mq_conn *c, uint8_t first)
{
    static const unsigned ours =
        1u << KEI_MQTT_CONNACK | 1u << KEI_MQTT_AUTH | 1u; /* no client's */

    if (ours >> (first >> 4) & 1)
        kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "%s (0x%02x) was not expected",
                          kei_mqtt_type_name(first >> 4), first);
    else
        kei_mq_conn_close(c, KEI_MQTT_R_MALFORMED,
                          "flags or length of a packet that began with 0x%02x", first);
}

void kei_mq_conn_input(struct mq_conn *c, const uint8_t *p, size_t n, size_t *ret_used)
{
    struct ke_mqtt *m = c->m;
    struct kei_mqtt_frame f;
    size_t at = 0;

    while (at < n && kei_mq_reads(c)) {
        if (c->state == MQ_NEW && p[at] >> 4 != KEI_MQTT_CONNECT) {
            kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "what it sent first was not a CONNECT");
            break;
        }
        int r = kei_mqtt_frame(p + at, n - at, &f);
        if (r < 0 || (p[at] == 0x6a && c->version > KEI_MQTT_V31)) {
            bad_header(c, p[at]);
            break;
        }
        if (r == 0)
            break;
        if (f.length > m->lim.packet || f.head + f.length > m->lim.packet) {
            m->st.over_packet++;
            kei_mq_conn_close(c, KEI_MQTT_R_PACKET_TOO_LARGE,
                              "a packet of %u bytes, max_packet is %u", f.head + f.length,
                              m->lim.packet);
            break;
        }
        if (n - at < f.head + (size_t)f.length)
            break;
        m->st.packets_in++;
        struct ke_str body = kei_strn((const char *)p + at + f.head, f.length);
        at += f.head + f.length;
        if (m->journal)
            kei_mq_journal_mark(m);
        if (c->state == MQ_NEW)
            first_packet(c, &f, body);
        else if (c->state == MQ_EXCHANGE && kei_mqtt_frame_type(&f) != KEI_MQTT_AUTH)
            kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "%s came instead of AUTH",
                              kei_mqtt_type_name(kei_mqtt_frame_type(&f)));
        else
            kei_mq_packet(c, &f, body);
        if (c->out.n >= m->lim.output && c->state == MQ_UP) {
            kei_mq_flush(c); /* it does not read: then it is not read either */
            if (c->out.n >= m->lim.output)
                break;
        }
    }
    *ret_used = at;
}
