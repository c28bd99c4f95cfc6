/* SPDX-License-Identifier: Apache-2.0 */
/* See wire.h. A failure of the program's own (memory, sockets) ends it with a text on stderr. */
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#define READ_SIZE 65536

void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint8_t *room(struct bytes *b, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = b->cap * 2 > b->n + n ? b->cap * 2 : b->n + n;
        b->p = realloc(b->p, b->cap);
        if (!b->p)
            die("out of memory");
    }
    return b->p + b->n;
}

void bytes_add(struct bytes *b, const void *p, size_t n)
{
    memcpy(room(b, n), p, n);
    b->n += n;
}

/* Nobody listens, and the kernel chose the very port that was dialled as our own: it connects. */
static bool is_itself(int fd, int family)
{
    struct sockaddr_in a, b;
    socklen_t n = sizeof a, m = sizeof b;
    return family == AF_INET && getsockname(fd, (struct sockaddr *)&a, &n) == 0 &&
           getpeername(fd, (struct sockaddr *)&b, &m) == 0 && a.sin_port == b.sin_port &&
           a.sin_addr.s_addr == b.sin_addr.s_addr;
}

static int dial(int family, const struct sockaddr *to, socklen_t len)
{
    int one = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("no socket: %s", strerror(errno));
    while (connect(fd, to, len) < 0) {
        if (errno == EINTR)
            continue;
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    if (is_itself(fd, family)) {
        close(fd);
        errno = ECONNREFUSED;
        return -1;
    }
    if (family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int wire_dial(const char *where)
{
    if (where[0] == '/') {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        if (strlen(where) >= sizeof un.sun_path)
            die("%s is too long a path", where);
        memcpy(un.sun_path, where, strlen(where));
        return dial(AF_UNIX, (const struct sockaddr *)&un, sizeof un);
    }
    struct sockaddr_in in = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(where, ':');
    if (!colon || (size_t)(colon - where) >= sizeof host)
        die("%s is not ADDRESS:PORT", where);
    memcpy(host, where, (size_t)(colon - where));
    host[colon - where] = '\0';
    in.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
        die("%s is no IPv4 address", host);
    return dial(AF_INET, (const struct sockaddr *)&in, sizeof in);
}

void wire_open(struct wire *w, int fd)
{
    w->fd = fd;
    w->blocked = false;
    w->in.n = w->out.n = 0;
}

void wire_close(struct wire *w)
{
    if (w->fd >= 0)
        close(w->fd);
    free(w->in.p);
    free(w->out.p);
    *w = (struct wire){.fd = -1};
}

bool wire_flush(struct wire *w)
{
    size_t at = 0;
    while (at < w->out.n) {
        ssize_t n = send(w->fd, w->out.p + at, w->out.n - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0)
            break;
        at += (size_t)n;
    }
    memmove(w->out.p, w->out.p + at, w->out.n - at);
    w->out.n -= at;
    w->blocked = w->out.n > 0;
    return true;
}

bool wire_fill(struct wire *w)
{
    for (;;) {
        ssize_t n = recv(w->fd, room(&w->in, READ_SIZE), READ_SIZE, 0);
        if (n > 0)
            w->in.n += (size_t)n;
        if (n == READ_SIZE || (n < 0 && errno == EINTR))
            continue;
        return n > 0 || (n < 0 && errno == EAGAIN);
    }
}

bool wire_next(const struct wire *w, size_t *at, struct packet *ret)
{
    size_t len = 0, i = *at + 1;
    for (unsigned shift = 0;; shift += 7, i++) {
        if (i >= w->in.n)
            return false;
        if (shift > 21)
            die("the server sent a malformed length");
        len |= (size_t)(w->in.p[i] & 0x7f) << shift;
        if (!(w->in.p[i] & 0x80))
            break;
    }
    i++;
    if (w->in.n - i < len)
        return false;
    ret->type = w->in.p[*at] >> 4;
    ret->flags = w->in.p[*at] & 15;
    ret->body = w->in.p + i;
    ret->len = len;
    *at = i + len;
    return true;
}

void wire_consume(struct wire *w, size_t n)
{
    if (n == 0)
        return;
    memmove(w->in.p, w->in.p + n, w->in.n - n);
    w->in.n -= n;
}

int wire_await(struct wire *w, uint8_t *ret_second)
{
    for (;;) {
        struct packet k;
        size_t at = 0;
        if (wire_next(w, &at, &k)) {
            if (ret_second)
                *ret_second = k.len > 1 ? k.body[1] : 0;
            int type = k.type;
            wire_consume(w, at);
            return type;
        }
        struct pollfd p = {.fd = w->fd, .events = POLLIN};
        if (!wire_flush(w))
            return 0;
        if (w->blocked)
            p.events |= POLLOUT;
        if (poll(&p, 1, 30000) == 0)
            die("no answer of the server within 30 s");
        if ((p.revents & (POLLIN | POLLHUP | POLLERR)) && !wire_fill(w))
            return 0;
    }
}

/* ---- packets ---- */

static void head(struct bytes *b, uint8_t first, size_t len)
{
    uint8_t h[5] = {first};
    size_t n = 1;
    do {
        h[n] = len & 0x7f;
        len >>= 7;
        h[n++] |= len ? 0x80 : 0;
    } while (len);
    bytes_add(b, h, n);
}

static void put16(struct bytes *b, uint16_t v)
{
    uint8_t p[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    bytes_add(b, p, 2);
}

static void put_text(struct bytes *b, const char *s)
{
    put16(b, (uint16_t)strlen(s));
    bytes_add(b, s, strlen(s));
}

void put_connect(struct wire *w, const char *id, bool clean, uint16_t keepalive, const char *user,
                 const char *password)
{
    size_t len =
        10 + 2 + strlen(id) + (user ? 2 + strlen(user) : 0) + (password ? 2 + strlen(password) : 0);
    uint8_t fixed[8] = {0, 4, 'M', 'Q', 'T', 'T', 4, 0};
    fixed[7] = (uint8_t)((clean ? 2 : 0) | (user ? 0x80 : 0) | (password ? 0x40 : 0));
    head(&w->out, P_CONNECT << 4, len);
    bytes_add(&w->out, fixed, sizeof fixed);
    put16(&w->out, keepalive);
    put_text(&w->out, id);
    if (user)
        put_text(&w->out, user);
    if (password)
        put_text(&w->out, password);
}

void put_publish(struct wire *w, const char *topic, const void *payload, size_t n, uint8_t qos,
                 uint16_t id, bool dup, bool retain)
{
    uint8_t first = (uint8_t)(P_PUBLISH << 4 | (dup ? 8 : 0) | qos << 1 | (retain ? 1 : 0));
    head(&w->out, first, 2 + strlen(topic) + (qos ? 2 : 0) + n);
    put_text(&w->out, topic);
    if (qos)
        put16(&w->out, id);
    bytes_add(&w->out, payload, n);
}

void put_ack(struct wire *w, uint8_t type, uint16_t id)
{
    uint8_t p[4] = {(uint8_t)(type << 4 | (type == P_PUBREL ? 2 : 0)), 2, (uint8_t)(id >> 8),
                    (uint8_t)id};
    bytes_add(&w->out, p, sizeof p);
}

void put_subscribe(struct wire *w, uint16_t id, uint32_t from, uint32_t n, uint8_t qos,
                   void (*name)(uint32_t i, char out[64]))
{
    char text[64];
    size_t len = 2;
    for (uint32_t i = 0; i < n; i++) {
        name(from + i, text);
        len += 3 + strlen(text);
    }
    head(&w->out, P_SUBSCRIBE << 4 | 2, len);
    put16(&w->out, id);
    for (uint32_t i = 0; i < n; i++) {
        name(from + i, text);
        put_text(&w->out, text);
        bytes_add(&w->out, &qos, 1);
    }
}

void put_empty(struct wire *w, uint8_t type)
{
    head(&w->out, (uint8_t)(type << 4), 0);
}

bool read_publish(const struct packet *k, struct publish *ret)
{
    *ret = (struct publish){.qos = k->flags >> 1 & 3, .dup = k->flags & 8, .retain = k->flags & 1};
    if (k->len < 2)
        return false;
    ret->topic_len = (size_t)(k->body[0] << 8 | k->body[1]);
    size_t at = 2 + ret->topic_len + (ret->qos ? 2 : 0);
    if (at > k->len)
        return false;
    ret->topic = k->body + 2;
    if (ret->qos)
        ret->id = (uint16_t)(k->body[at - 2] << 8 | k->body[at - 1]);
    ret->payload = k->body + at;
    ret->payload_len = k->len - at;
    return true;
}

uint16_t read_id(const struct packet *k)
{
    unsigned id = k->len < 2 ? 0 : (unsigned)k->body[0] << 8 | k->body[1];
    return (uint16_t)id;
}
