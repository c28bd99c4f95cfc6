/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in and out of a connection: a bare non-blocking socket, read into one buffer of the server
 * and written once per turn of the loop, or a stream of lib/net (TLS, WebSocket: via.c). Loop
 * thread.
 */
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mqtt/journal.h"
#include "mqtt/server.h"
#include "mqtt/via.h"
#include "net/addr.h"

#define PIECES 64 /* of one write */
#define LINGER_MS 2000

void kei_mq_peer_name(struct mq_conn *c, char *out)
{
    struct kei_addr a;

    out[0] = '\0';
    if (c->via) {
        kei_mq_via_peer(c, out);
        return;
    }
    a.len = sizeof a.u;
    if (c->io.fd >= 0 && getpeername(c->io.fd, &a.u.any, &a.len) == 0)
        kei_addr_text(&a, out);
    if (c->l && c->l->kind == KE_MQTT_UNIX)
        memcpy(out, "unix:", 6);
}

/* ---- writing ---- */

static ssize_t write_pieces(struct mq_conn *c)
{
    struct iovec v[PIECES];
    struct msghdr h = {.msg_iov = v};
    struct mq_chunk *k = c->out.head;

    for (; k && h.msg_iovlen < PIECES; k = k->next) {
        if (k->to == k->from)
            continue;
        v[h.msg_iovlen].iov_base = (void *)(uintptr_t)(k->p + k->from);
        v[h.msg_iovlen++].iov_len = k->to - k->from;
    }
    if (h.msg_iovlen == 1)
        return send(c->io.fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL);
    return sendmsg(c->io.fd, &h, MSG_NOSIGNAL);
}

void kei_mq_flush(struct mq_conn *c)
{
    if (c->via) {
        kei_mq_via_flush(c);
        return;
    }
    while (c->out.n > 0) {
        ssize_t n = write_pieces(c);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                kei_mq_conn_lost(c, "the connection was lost");
            return;
        }
        c->moved_ms = c->m->now;
        c->m->st.bytes_out += (uint64_t)n;
        kei_mq_out_drop(c->m, &c->out, (size_t)n);
    }
}

/* ---- reading ---- */

bool kei_mq_reads(const struct mq_conn *c)
{
    return c->state == MQ_NEW || c->state == MQ_UP || c->state == MQ_EXCHANGE;
}

static bool may_read(const struct mq_conn *c)
{
    return kei_mq_reads(c) && !(c->flags & MQ_C_PAUSED);
}

void kei_mq_watch_io(struct mq_conn *c)
{
    if (c->state == MQ_DEAD)
        return;
    if (c->out.n >= c->m->lim.output)
        c->flags |= MQ_C_PAUSED;
    else if (c->out.n < c->m->lim.output / 2)
        c->flags &= (uint16_t)~MQ_C_PAUSED;
    if (c->via) {
        kei_mq_via_pause(c, !may_read(c));
        return;
    }
    bool in = may_read(c) || c->flags & MQ_C_LINGERS;
    kei_fd_set(&c->io, (in ? KEI_IN : 0) | (c->out.n ? KEI_OUT : 0));
}

/* What of p was not used is kept for the next bytes. need: the whole packet, if known. */
static bool keep(struct mq_conn *c, const uint8_t *p, size_t n)
{
    if (n == 0) {
        kei_free(c->m->alloc, c->rx);
        c->rx = NULL;
        c->rx_n = c->rx_cap = 0;
        return true;
    }
    if (p == c->rx && n <= c->rx_cap) {
        c->rx_n = (uint32_t)n;
        return true;
    }
    uint8_t *q = kei_alloc(c->m->alloc, n);
    if (!q)
        return false;
    memcpy(q, p, n);
    kei_free(c->m->alloc, c->rx);
    c->rx = q;
    c->rx_n = c->rx_cap = (uint32_t)n;
    return true;
}

/* Hands over n bytes at p, which may be c->rx. */
void kei_mq_take(struct mq_conn *c, const uint8_t *p, size_t n)
{
    size_t used = 0;

    c->flags |= MQ_C_HELD;
    kei_mq_conn_input(c, p, n, &used);
    c->flags &= (uint16_t)~MQ_C_HELD;
    if (c->state == MQ_DEAD || c->state == MQ_CLOSING)
        used = n;
    if (!keep(c, p + used, n - used))
        kei_mq_conn_lost(c, "no memory for what it sent");
}

void kei_mq_conn_more(struct mq_conn *c)
{
    if (c->rx_n && c->state != MQ_DEAD) {
        uint8_t *p = c->rx;
        uint32_t n = c->rx_n;
        c->rx = NULL;
        c->rx_n = c->rx_cap = 0;
        kei_mq_take(c, p, n);
        kei_free(c->m->alloc, p);
    }
    if (c->state != MQ_DEAD)
        kei_mq_dirty(c); /* the end of the turn looks what to wait for */
}

static void lost(struct mq_conn *c, ssize_t n)
{
    char text[MQ_TEXT];

    if (n == 0) {
        kei_mq_conn_lost(c, "the client closed the connection");
        return;
    }
    struct ke_error err = KE_ERROR_INIT;
    kei_error_errno(&err, errno, "reading failed");
    memcpy(text, err.text, sizeof text);
    text[sizeof text - 1] = '\0';
    kei_mq_conn_lost(c, text);
}

/* A packet that is larger than the common buffer is gathered in one of its own, which grows as the
 * bytes come: what a client announces costs nothing. */
static void read_large(struct mq_conn *c)
{
    struct ke_mqtt *m = c->m;

    if (c->rx_n == c->rx_cap) {
        uint32_t cap = c->rx_cap + c->rx_cap / 2 + MQ_RX;
        uint8_t *q = kei_realloc(m->alloc, c->rx, cap);
        if (!q) {
            kei_mq_conn_lost(c, "no memory for what it sent");
            return;
        }
        c->rx = q;
        c->rx_cap = cap;
    }
    ssize_t n = recv(c->io.fd, c->rx + c->rx_n, c->rx_cap - c->rx_n, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            lost(c, n);
        return;
    }
    m->st.bytes_in += (uint64_t)n;
    c->rx_n += (uint32_t)n;
    c->heard_ms = m->now;
    struct kei_mqtt_frame f;
    if (kei_mqtt_frame(c->rx, c->rx_n, &f) == 1 && f.head + (size_t)f.length > c->rx_n)
        return;
    kei_mq_conn_more(c);
}

static void read_some(struct mq_conn *c)
{
    struct ke_mqtt *m = c->m;
    uint8_t *buf = m->rx;
    size_t had = c->rx_n;

    if (had >= MQ_RX) {
        read_large(c);
        return;
    }
    ssize_t n = recv(c->io.fd, buf + MQ_RX, MQ_RX, 0);
    if (n > 0 && c->flags & MQ_C_LINGERS)
        return;
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            lost(c, n);
        return;
    }
    m->st.bytes_in += (uint64_t)n;
    c->heard_ms = m->now;
    if (had) /* the room before what came is for the packet's beginning */
        memcpy(buf + MQ_RX - had, c->rx, had);
    kei_mq_take(c, buf + MQ_RX - had, had + (size_t)n);
    if ((size_t)n < MQ_RX && c->state != MQ_DEAD)
        kei_mq_dirty(c);
}

void kei_mq_on_io(struct kei_fd *f, uint32_t events)
{
    struct mq_conn *c = KEI_OF(f, struct mq_conn, io);

    mq_now(c->m);
    if (c->state == MQ_DEAD)
        return;
    if (events & KEI_OUT)
        kei_mq_dirty(c); /* written at the end of the turn */
    if (events & KEI_IN)
        read_some(c);
    else if (events & KEI_ERR)
        kei_mq_conn_lost(c, "the connection was lost");
}

void kei_mq_transport_end(struct mq_conn *c)
{
    if (c->via) {
        kei_mq_via_end(c);
        return;
    }
    if (c->io.fd < 0)
        return;
    kei_fd_remove(&c->io);
    close(c->io.fd);
    c->io.fd = -1;
}

/* ---- the end of the turn ---- */

/*
 * Closing a socket with unread bytes resets it, and the reset may overtake our last packet. So what
 * the client still sends is read and thrown away, shortly, until it closes. false: not needed.
 */
static bool linger(struct mq_conn *c)
{
    if (c->via || c->io.fd < 0 || c->close_reason < 0x80 || c->m->stopping)
        return false;
    shutdown(c->io.fd, SHUT_WR);
    c->flags |= MQ_C_LINGERS;
    kei_mq_detach(c);
    kei_mq_wheel_set(&c->m->wheel, &c->timer, 0, c->m->now + LINGER_MS);
    return true;
}

static void finish_turn(struct mq_conn *c)
{
    if (c->state != MQ_DEAD) {
        kei_mq_flush(c);
        if (c->state == MQ_UP && c->s && c->out.n < c->m->lim.output &&
            (c->s->queue.n > 0 || c->s->resend > 0)) {
            kei_mq_pump(c->s);
            if (c->state != MQ_DEAD)
                kei_mq_flush(c);
        }
    }
    if (c->out.n && !(c->flags & MQ_C_BLOCKED)) {
        c->flags |= MQ_C_BLOCKED;
        c->moved_ms = c->m->now;
        kei_mq_conn_arm(c);
    } else if (c->out.n == 0) {
        c->flags &= (uint16_t)~MQ_C_BLOCKED;
    }
    if (c->state == MQ_CLOSING && c->out.n == 0 && !(c->flags & MQ_C_LINGERS) && !linger(c))
        c->state = MQ_DEAD;
    if (c->state == MQ_DEAD)
        kei_mq_conn_free(c);
    else
        kei_mq_watch_io(c);
}

void kei_mq_turn(struct kei_turn *t)
{
    struct ke_mqtt *m = KEI_OF(t, struct ke_mqtt, turn);

    if (kei_list_empty(&m->dirty) && !m->journal)
        return;
    mq_now(m);
    if (m->journal) /* the disk works while sockets are written */
        kei_mq_journal_turn(m);
    for (unsigned round = 0; round < 4 && !kei_list_empty(&m->dirty); round++) {
        struct kei_link now;
        kei_list_init(&now);
        while (!kei_list_empty(&m->dirty)) {
            struct kei_link *l = m->dirty.next;
            kei_list_remove(l);
            kei_list_add_tail(&now, l);
        }
        while (!kei_list_empty(&now)) {
            struct mq_conn *c = KEI_OF(now.next, struct mq_conn, dirty);
            kei_list_remove(&c->dirty);
            c->flags &= (uint16_t)~MQ_C_DIRTY;
            finish_turn(c);
        }
    }
    if (m->journal)
        kei_mq_journal_turn(m);
    if (m->wake_again ||
        !kei_list_empty(&m->dirty)) /* e.g. wills of those that were lost just now: next turn */
        kei_wake(&m->wake);
    m->wake_again = false;
}
